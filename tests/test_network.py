"""What is the network in a checkpoint that holds more, and what the rest is called."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import all_names, described_tensor, report_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from weightstats.checkpoint import Checkpoint
from weightstats.errors import UsageError
from weightstats.network import ROOT_KEYS, Network, find_network
from weightstats.report import Report


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict of one layer, with storages of its own."""
    torch.manual_seed(seed)
    return dict(nn.Sequential(OrderedDict(fc=nn.Linear(4, 3))).state_dict())


def layer_names(report: Report) -> list[str]:
    return [row.name for row in report.layers]


def reasons(report: Report) -> dict[str, str]:
    return {row.name: row.reason for row in report.others}


def found(*paths: str, root: str | None = None) -> Network:
    """The network among tensors at these paths, whose keys are parted by slashes."""
    tensors = tuple(described_tensor(tuple(path.split("/")), (4, 3)) for path in paths)
    return find_network(Checkpoint("x", "x", 0, tensors), root)


def network_names(network: Network) -> list[str]:
    return [item.name for item in network.tensors]


def beside_names(network: Network) -> list[str]:
    return [item.name for item in network.beside]


class Wrapper(nn.Module):
    """A network whose only submodule is called as training code calls a network."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(4, 3)
        self.optimizer = nn.Linear(3, 2)


# Checkpoints as training code saves them.


def test_a_flat_state_dict_is_the_network(tmp_path: Path) -> None:
    report = report_of(tmp_path, weights())
    assert layer_names(report) == ["fc.weight"]
    assert (report.checkpoint.root, report.checkpoint.root_because) == ("", "every tensor of the file")
    assert report.checkpoint.dropped_from_names == ()


def test_of_a_training_state_the_model_is_the_network(tmp_path: Path) -> None:
    network = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    saved = {"epoch": 3, "model": network.state_dict(), "optimizer": optimizer.state_dict()}
    report = report_of(tmp_path, saved | {"scheduler": scheduler.state_dict(), "rng": torch.get_rng_state()})
    assert all_names(report)[-2:] == ["rng", "weight"]
    assert layer_names(report) == ["weight"]
    assert report.checkpoint.root == "model"
    assert report.checkpoint.root_because == "the key 'model' is where training code keeps the network"
    assert report.checkpoint.dropped_from_names == ("model.",)
    assert reasons(report)["optimizer.state.0.exp_avg"] == "state of the optimizer, under 'optimizer'"
    assert reasons(report)["rng"] == "training state, under 'rng'"


def test_of_a_lightning_checkpoint_the_state_dict_is_the_network(tmp_path: Path) -> None:
    states = [{"state": {0: {"exp_avg": torch.zeros(3, 4), "step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]}]
    saved = {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "2.0",
        "state_dict": {f"net.{name}": tensor for name, tensor in weights().items()},
        "loops": {"fit_loop": {"state_dict": {"seen": torch.tensor(7)}}},
        "callbacks": {"EarlyStopping": {"best_score": torch.tensor(0.1)}},
        "optimizer_states": states,
        "lr_schedulers": [],
        "hyper_parameters": {"width": 4, "class_weights": torch.ones(3)},
    }
    report = report_of(tmp_path, saved)
    assert layer_names(report) == ["net.fc.weight"]
    assert (report.checkpoint.root, report.checkpoint.dropped_from_names) == ("state_dict", ("state_dict.",))
    assert reasons(report) == {
        "net.fc.bias": "added to a layer's output",
        "loops.fit_loop.state_dict.seen": "training state, under 'loops'",
        "callbacks.EarlyStopping.best_score": "training state, under 'callbacks'",
        "optimizer_states.0.state.0.exp_avg": "state of the optimizer, under 'optimizer_states'",
        "optimizer_states.0.state.0.step": "state of the optimizer, under 'optimizer_states'",
        "hyper_parameters.class_weights": "training state, under 'hyper_parameters'",
    }


@pytest.mark.parametrize(
    ("prefix", "dropped"),
    [
        ("module.", ("module.",)),
        ("_orig_mod.", ("_orig_mod.",)),
        ("module._orig_mod.", ("module.", "_orig_mod.")),
        ("_orig_mod.module.", ("_orig_mod.", "module.")),
        ("module.module.", ("module.", "module.")),
    ],
)
def test_what_a_wrapper_puts_into_every_name_is_dropped(tmp_path: Path, prefix: str, dropped: tuple[str, ...]) -> None:
    report = report_of(tmp_path, {f"{prefix}{name}": tensor for name, tensor in weights().items()})
    assert layer_names(report) == ["fc.weight"]
    assert report.checkpoint.dropped_from_names == dropped


def test_real_wrappers_leave_the_names_of_the_network(tmp_path: Path) -> None:
    network = nn.Sequential(OrderedDict(fc=nn.Linear(4, 3)))
    wrapped = nn.DataParallel(torch.compile(network, backend="eager"))
    report = report_of(tmp_path, {"model": wrapped.state_dict()})
    assert all_names(report) == ["fc.bias", "fc.weight"]
    assert report.checkpoint.dropped_from_names == ("model.", "module.", "_orig_mod.")


def test_parts_compiled_on_their_own_have_their_names_restored(tmp_path: Path) -> None:
    network = nn.Sequential(OrderedDict(a=nn.Linear(4, 3), b=nn.Linear(3, 2)))
    network.b = torch.compile(network.b, backend="eager")
    report = report_of(tmp_path, network.state_dict())
    assert layer_names(report) == ["a.weight", "b.weight"]
    assert report.checkpoint.dropped_from_names == ("_orig_mod.",)


def test_a_prefix_that_only_some_names_have_is_part_of_them(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"module.a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2)})
    assert layer_names(report) == ["module.a.weight", "b.weight"]
    assert report.checkpoint.dropped_from_names == ()


@pytest.mark.parametrize(
    ("kept", "copy"),
    [("model", "model_ema"), ("model", "ema"), ("state_dict", "state_dict_ema"), ("params", "params_ema")],
)
def test_a_second_copy_lies_beside_the_network(tmp_path: Path, kept: str, copy: str) -> None:
    report = report_of(tmp_path, {copy: weights(1), kept: weights(2), "epoch": 1})
    assert report.checkpoint.root == kept
    assert layer_names(report) == ["fc.weight"]
    assert reasons(report)[f"{copy}.fc.weight"] == f"outside the part taken for the network, under '{copy}'"


def test_two_networks_under_keys_that_say_nothing_are_both_the_network(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"netG": weights(1), "netD": weights(2), "optG": {"state": {0: torch.ones(3)}}})
    assert layer_names(report) == ["netG.fc.weight", "netD.fc.weight"]
    assert (report.checkpoint.root, report.checkpoint.dropped_from_names) == ("", ())


def test_of_a_generator_and_a_discriminator_the_generator_is_the_network(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"discriminator": weights(1), "generator": weights(2)})
    assert report.checkpoint.root == "generator"
    assert layer_names(report) == ["fc.weight"]
    assert reasons(report)["discriminator.fc.weight"].startswith("outside the part taken for the network")


def test_an_encoder_and_a_decoder_are_both_the_network(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"encoder_state_dict": weights(1), "decoder_state_dict": weights(2)})
    assert len(report.layers) == 2


def test_the_only_part_with_tensors_is_the_network_whatever_its_key(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"epoch": 3, "resnet": weights(), "optimizer": {"state": {0: torch.ones(3)}}})
    assert report.checkpoint.root == "resnet"
    assert report.checkpoint.root_because == "'resnet' is the only part that holds tensors of a network"
    assert layer_names(report) == ["fc.weight"]


def test_keys_are_gone_down_as_far_as_they_lead(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"state": {"model": {"state_dict": weights()}}, "epoch": 1})
    assert report.checkpoint.root == "state.model.state_dict"
    assert layer_names(report) == ["fc.weight"]
    assert report.checkpoint.dropped_from_names == ("state.", "model.", "state_dict.")


def test_a_module_pickled_whole_has_the_names_of_its_state_dict(tmp_path: Path) -> None:
    report = report_of(tmp_path, Wrapper())
    assert all_names(report) == sorted(Wrapper().state_dict())
    assert layer_names(report) == ["model.weight", "optimizer.weight"]
    assert (report.checkpoint.root, report.checkpoint.dropped_from_names) == ("", ())


def test_a_module_in_a_training_state_has_the_names_of_its_state_dict(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"epoch": 1, "model": Wrapper(), "optimizer": None})
    assert all_names(report) == sorted(Wrapper().state_dict())
    assert report.checkpoint.root == "model"


@pytest.mark.parametrize("name", ["step", "optimizer", "loss", "model", "config", "scaler", "state_dict"])
def test_a_module_of_a_flat_state_dict_may_be_called_anything(tmp_path: Path, name: str) -> None:
    report = report_of(tmp_path, {f"{name}.weight": torch.ones(4, 3), "fc.weight": torch.ones(2, 4)})
    assert layer_names(report) == [f"{name}.weight", "fc.weight"]
    assert report.checkpoint.root == ""


def test_the_place_of_a_key_among_the_known_ones_decides() -> None:
    network = found("ema/w", "net/w", "model/w", "params/w")
    assert (network.root, network_names(network)) == ("model", ["w"])
    assert beside_names(network) == ["ema.w", "net.w", "params.w"]


@pytest.mark.parametrize("key", ROOT_KEYS)
def test_every_known_key_is_taken_before_an_unknown_one(key: str) -> None:
    network = found("another/w", f"{key}/w")
    assert (network.root, network_names(network)) == (key, ["w"])


# root=...


def test_another_root_can_be_asked_for(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"model": weights(1), "model_ema": weights(2)}, root="model_ema")
    assert (report.checkpoint.root, report.checkpoint.root_because) == ("model_ema", "as asked for")
    assert layer_names(report) == ["fc.weight"]
    assert "model.fc.weight" in reasons(report)


def test_a_nested_root_can_be_asked_for(tmp_path: Path) -> None:
    saved = {"callbacks": {"ema": {"shadow": weights(1)}}, "state_dict": weights(2)}
    report = report_of(tmp_path, saved, root="callbacks.ema.shadow")
    assert layer_names(report) == ["fc.weight"]
    assert report.checkpoint.dropped_from_names == ("callbacks.", "ema.", "shadow.")


def test_under_a_root_that_was_asked_for_nothing_is_training_state() -> None:
    network = found("optimizer/state/0", "optimizer/step/0", "model/w", root="optimizer")
    assert network_names(network) == ["state.0", "step.0"]
    assert beside_names(network) == ["model.w"]


@pytest.mark.parametrize("root", ["modell", "model.fc.weight", "model.", "Model"])
def test_an_unknown_root_is_refused_with_the_known_ones(tmp_path: Path, root: str) -> None:
    saved = {"model": weights(), "ema": {"inner": weights(1)}}
    known = "it has model, ema, ema.inner"
    with pytest.raises(UsageError, match=f"no part of the checkpoint is called '{root}'.*{known}"):
        report_of(tmp_path, saved, root=root)


def test_a_flat_checkpoint_has_no_root_to_ask_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no part of the checkpoint is called 'model'"):
        report_of(tmp_path, weights(), root="model")


# Properties, and names at the edges.

keys = st.sampled_from([*ROOT_KEYS, "optimizer", "step", "epoch", "module", "_orig_mod", "a", "b", "0", "a.b", ""])
paths = st.lists(keys, min_size=1, max_size=5).map(tuple)


@settings(deadline=None, max_examples=200)
@given(found_paths=st.lists(paths, max_size=10))
def test_every_tensor_is_in_the_network_or_beside_it(found_paths: list[tuple[str, ...]]) -> None:
    tensors = tuple(described_tensor(path, (2, 3)) for path in found_paths)
    network = find_network(Checkpoint("x", "x", 0, tensors))
    placed = [item.tensor for item in network.tensors] + [item.tensor for item in network.beside]
    assert sorted(map(id, placed)) == sorted(map(id, tensors))
    assert all(item.reason for item in network.beside)


def test_two_tensors_of_one_name_are_told_apart() -> None:
    assert network_names(found("a/b", "a.b", "a/b")) == ["a.b", "a.b#2", "a.b#3"]


def test_a_name_that_is_made_is_not_one_that_is_there() -> None:
    names = network_names(found("a/b", "a.b", "a.b#2"))
    assert len(set(names)) == 3


def test_an_upscaler_is_a_network(tmp_path: Path) -> None:
    assert layer_names(report_of(tmp_path, {"upscaler": weights(), "epoch": 3})) == ["fc.weight"]


def test_below_the_root_a_module_may_be_called_anything() -> None:
    network = found("params/encoder/kernel", "params/net/kernel", "params/head/kernel")
    assert network_names(network) == ["encoder.kernel", "net.kernel", "head.kernel"]


def test_a_part_compiled_twice_has_its_name_restored() -> None:
    assert network_names(found("a._orig_mod._orig_mod.weight", "b.weight")) == ["a.weight", "b.weight"]


def test_what_is_stored_once_is_counted_once_beside_the_network_too(tmp_path: Path) -> None:
    shared: Any = weights()
    report = report_of(tmp_path, {"model": dict(shared), "ema": dict(shared)})
    assert report.accounting.stored.bytes == 4 * (4 * 3 + 3)
