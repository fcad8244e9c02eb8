"""Networks trained here, before and after: what the report takes for the network, and torch's own numbers."""

import argparse
from functools import cache

import pytest
import safetensors.torch
import torch
from builders import FIXTURES, all_names, by_name

import weightstats
from weightstats.report import Report

TRAINED = FIXTURES / "trained"

LAYERS = {
    "mlp-16": {f"{index}.weight": "linear" for index in (1, 3, 5, 7, 9)},
    "mlp-64": {f"{index}.weight": "linear" for index in (1, 3, 5, 7, 9)},
    "mlp-128": {f"{index}.weight": "linear" for index in (1, 3, 5, 7, 9)},
    "cnn": {
        "0.weight": "conv2d",
        "3.weight": "depthwise_conv2d",
        "6.weight": "conv2d",
        "9.weight": "conv2d",
        "14.weight": "linear",
    },
    "lstm": {
        "lstm.weight_ih_l0": "lstm",
        "lstm.weight_hh_l0": "lstm",
        "lstm.weight_ih_l1": "lstm",
        "lstm.weight_hh_l1": "lstm",
        "head.weight": "linear",
    },
}
"""Each network's layers with their kinds, in its order."""

SUFFIXES = {"mlp-16": "safetensors"}

every_network = pytest.mark.parametrize("network", LAYERS)
every_file = pytest.mark.parametrize(
    "stem", [f"{network}-{state}" for network in LAYERS for state in ("step0", "final")]
)


def file_name(stem: str) -> str:
    return f"{stem}.{SUFFIXES.get(stem.rpartition('-')[0], 'pt')}"


@cache
def report(stem: str) -> Report:
    return weightstats.inspect(str(TRAINED / file_name(stem)), as_stored=True)


@cache
def network_of(stem: str) -> dict[str, torch.Tensor]:
    """The network's state dict as torch loads it, by the names that the network itself gives."""
    path = TRAINED / file_name(stem)
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    with torch.serialization.safe_globals([argparse.Namespace]):
        loaded = torch.load(path, weights_only=True)
    return {name.removeprefix("module."): tensor for name, tensor in loaded.get("model_state_dict", loaded).items()}


@every_file
def test_the_layers_are_the_networks_in_its_order(stem: str) -> None:
    kinds = LAYERS[stem.rpartition("-")[0]]
    assert [(row.name, row.kind) for row in report(stem).layers] == list(kinds.items())
    assert all(row.fitted for row in report(stem).layers)


@every_file
def test_every_tensor_of_the_network_is_named_once(stem: str) -> None:
    inside = [name for name in all_names(report(stem)) if not name.startswith("optimizer_state_dict.")]
    assert inside == sorted(network_of(stem))


@every_file
def test_the_numbers_of_layers_are_torchs(stem: str) -> None:
    for row in report(stem).layers:
        weight = network_of(stem)[row.name]
        assert row.shape == tuple(weight.shape)
        assert row.elements == weight.numel()
        assert row.mean_square == pytest.approx(float(weight.double().square().mean()), rel=1e-7)
        assert row.sum_of_squares == pytest.approx(float(weight.double().square().sum()), rel=1e-7)
        assert row.mean == pytest.approx(float(weight.double().mean()), abs=1e-7 * row.max_abs)
        assert row.max_abs == pytest.approx(float(weight.abs().max()), rel=1e-7)


@every_file
def test_fans_are_torchs_but_for_the_depthwise_convolution(stem: str) -> None:
    for row in report(stem).layers:
        fans = torch.nn.init._calculate_fan_in_and_fan_out(network_of(stem)[row.name])
        assert (row.n_in, row.n_out) == ((9, 9) if row.kind == "depthwise_conv2d" else fans)


@every_network
def test_training_changes_the_weights_and_nothing_else(network: str) -> None:
    before, after = report(f"{network}-step0"), report(f"{network}-final")
    shapes = [(row.name, row.kind, row.shape, row.n_in, row.n_out) for row in before.layers]
    assert [(row.name, row.kind, row.shape, row.n_in, row.n_out) for row in after.layers] == shapes
    assert all(a.mean_square != b.mean_square for a, b in zip(before.layers, after.layers, strict=True))


@every_network
def test_an_untrained_layer_has_the_mean_square_of_its_initialiser(network: str) -> None:
    for row in report(f"{network}-step0").layers:  # torch's default: uniform within ±1/sqrt(width)
        width = 32 if row.kind == "lstm" else row.n_in
        # A mean of N squares of that uniform variable has the relative deviation sqrt(0.8 / N).
        assert row.mean_square == pytest.approx(1 / (3 * width), rel=4 * (0.8 / row.elements) ** 0.5)


def test_the_optimizers_tensors_are_no_layers() -> None:
    rows = [row for row in report("cnn-final").others if row.name.startswith("optimizer_state_dict.")]
    assert len(rows) == 14 * 3  # AdamW keeps a step and two moments of each parameter
    assert {row.kind for row in rows} == {"optimizer"}
    assert {row.reason for row in rows} == {"state of the optimizer, under 'optimizer_state_dict'"}
    assert not any("exp_avg" in row.name for row in report("cnn-final").layers)


def test_an_optimizer_without_state_leaves_no_tensor() -> None:
    assert not any(row.kind == "optimizer" for row in report("cnn-step0").others)


@pytest.mark.parametrize("stem", ["cnn-step0", "cnn-final"])
def test_the_root_of_a_training_state_is_chosen_and_said_why(stem: str) -> None:
    part = report(stem).checkpoint
    assert part.root == "model_state_dict"
    assert part.root_because == "the key 'model_state_dict' is where training code keeps the network"
    assert part.dropped_from_names == ("model_state_dict.",)


@pytest.mark.parametrize("stem", ["cnn-step0", "cnn-final"])
def test_an_object_in_the_pickle_is_listed_as_not_loaded(stem: str) -> None:
    part = report(stem).checkpoint
    assert part.objects_not_loaded == ("argparse.Namespace",)
    assert part.warnings == ("objects in the file were not loaded: argparse.Namespace",)


@pytest.mark.parametrize("stem", ["lstm-step0", "lstm-final"])
def test_the_wrappers_prefix_is_dropped_and_said_so(stem: str) -> None:
    part = report(stem).checkpoint
    assert part.dropped_from_names == ("module.",)
    assert (part.root, part.root_because) == ("", "every tensor of the file")
    assert not any(name.startswith("module.") for name in all_names(report(stem)))


@pytest.mark.parametrize("stem", ["mlp-16-step0", "mlp-64-final", "mlp-128-final"])
def test_a_flat_state_dict_keeps_its_names(stem: str) -> None:
    part = report(stem).checkpoint
    assert (part.root, part.dropped_from_names, part.objects_not_loaded) == ("", (), ())


def test_batch_normalisation_is_no_layer() -> None:
    rows = by_name(report("cnn-final").others)
    kinds = {name: rows[f"1.{name}"].kind for name in ("weight", "bias", "running_mean", "num_batches_tracked")}
    assert kinds == {"weight": "norm", "bias": "bias", "running_mean": "buffer", "num_batches_tracked": "buffer"}


def test_the_parameters_are_those_that_were_trained() -> None:
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    for stem in ("cnn-final", "lstm-final", "mlp-16-final"):
        expected = sum(t.numel() for name, t in network_of(stem).items() if not name.endswith(buffers))
        assert report(stem).checkpoint.parameters == expected
