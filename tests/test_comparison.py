"""Two checkpoints of one network: what moved, by how much, and what could not be compared."""

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from builders import FIXTURES
from quantised import reference
from samples import samples
from test_cli import run
from test_low_rank import PEFT_SHAPES, waves
from test_trained import LAYERS, TRAINED, file_name, network_of
from torch import nn

import weightstats
from weightstats import workers as threads
from weightstats.changes import LayerChange
from weightstats.comparison import Comparison
from weightstats.comparison_findings import law_between, two_networks
from weightstats.penalties import PENALTIES
from weightstats.report import Report
from weightstats.verdicts import Verdict

every_network = pytest.mark.parametrize("network", LAYERS)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def mlp(seed: int = 0, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """Five layers of different fan sums, with biases."""
    sizes = (64, 32, 96, 48, 16, 10)
    state = {}
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        state[f"{index}.weight"] = normal(outputs, inputs, seed=100 * seed + index, scale=scale / inputs**0.5)
        state[f"{index}.bias"] = torch.zeros(outputs)
    return state


def saved(folder: Path, name: str, state: Any) -> Path:
    path = folder / name
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def compared(folder: Path, before: Any, after: Any, suffix: str = ".pt", **options: Any) -> Comparison:
    first, second = saved(folder, f"before{suffix}", before), saved(folder, f"after{suffix}", after)
    return weightstats.compare(first, second, **options)


def by_name(comparison: Comparison) -> dict[str, LayerChange]:
    return {layer.name: layer for layer in comparison.layers}


def reasons(comparison: Comparison) -> dict[tuple[str, str], str]:
    return {(one.name, one.where): one.reason for one in comparison.unmatched}


def scaled(state: Mapping[str, torch.Tensor], factor: float) -> dict[str, torch.Tensor]:
    return {name: tensor * factor for name, tensor in state.items()}


# Known answers.


def test_twice_the_weights_move_every_layer_by_its_norm_and_no_layer_from_the_law(tmp_path: Path) -> None:
    comparison = compared(tmp_path, mlp(), scaled(mlp(), 2.0))
    for layer in comparison.layers:
        assert (layer.relative_change, layer.cosine, layer.norm_ratio) == (1.0, 1.0, 2.0)
        assert layer.mean_square.after == pytest.approx(4 * layer.mean_square.before, rel=1e-12)
        assert layer.ratio.after == pytest.approx(layer.ratio.before, rel=1e-9)
        assert layer.moved is None
        assert all(change.after == pytest.approx(change.before, rel=1e-9) for change in layer.shares.values())
    total = comparison.total
    assert (total.layers, total.paired, total.unchanged, total.towards, total.away) == (5, 5, 0, 0, 0)
    assert (total.relative_change, total.cosine, total.median_relative_change) == (1.0, 1.0, 1.0)
    assert total.norm.after == pytest.approx(2 * total.norm.before, rel=1e-12)
    assert comparison.after.fit.constant == pytest.approx(4 * comparison.before.fit.constant, rel=1e-9)
    assert "neither moved towards the law" in comparison.findings[1]


def test_the_same_bytes_have_not_moved(tmp_path: Path) -> None:
    comparison = compared(tmp_path, mlp(), mlp())
    assert {(layer.relative_change, layer.cosine, layer.is_unchanged) for layer in comparison.layers} == {
        (0.0, 1.0, True)
    }
    assert (comparison.total.unchanged, comparison.total.relative_change, comparison.total.cosine) == (5, 0.0, 1.0)
    assert comparison.findings == (
        "Nothing moved: the weights of all 5 layers are what they were, element for element.",
    )
    assert math.isnan(comparison.total.median_relative_change)


def test_a_file_may_be_compared_with_itself() -> None:
    path = TRAINED / file_name("mlp-64-final")
    assert weightstats.compare(path, path).total.unchanged == 5


@pytest.mark.parametrize(("turned", "moved", "word"), [(False, "towards", "towards"), (True, "away", "away from")])
def test_layers_that_come_to_lie_on_the_law_moved_towards_it(
    tmp_path: Path, turned: bool, moved: str, word: str
) -> None:
    on_law = {
        name: torch.ones_like(weight) * (2 / sum(weight.shape)) ** 0.5 * torch.sign(normal(*weight.shape, seed=7))
        for name, weight in mlp().items()
        if name.endswith("weight")
    }
    off_law = {name: weight * 3.0 ** (-1) ** int(name[0]) for name, weight in on_law.items()}
    both = (on_law, off_law) if turned else (off_law, on_law)
    comparison = compared(tmp_path, *both)
    assert {layer.moved for layer in comparison.layers} == {moved}
    at_law = "before" if turned else "after"
    assert all(getattr(layer.distance, at_law) == pytest.approx(0.0, abs=1e-6) for layer in comparison.layers)
    assert comparison.findings[1].startswith(f"The layers moved {word} the law c/(n_in+n_out) by their scatter: ")


def test_layers_that_did_not_change_are_counted_and_named(tmp_path: Path) -> None:
    after = mlp() | {"4.weight": mlp(1)["4.weight"]}
    comparison = compared(tmp_path, mlp(), after)
    assert [layer.is_unchanged for layer in comparison.layers] == [True, True, True, True, False]
    assert [layer.moved for layer in comparison.layers][:4] == [None] * 4
    assert comparison.total.unchanged == 4
    movement, _, frozen = comparison.findings
    assert movement.startswith("Of 5 layers, 1 moved: its relative change")
    assert frozen == "4 layers did not change at all: 0.weight, 1.weight, 2.weight, … 1 more."
    assert comparison.total.median_relative_change == comparison.layers[4].relative_change


def test_the_median_and_the_range_are_those_of_the_layers(tmp_path: Path) -> None:
    after = {name: tensor * (1 + int(name[0]) / 10) for name, tensor in mlp().items()}
    total = compared(tmp_path, mlp(), after).total
    assert total.median_relative_change == pytest.approx(0.25, rel=1e-5)  # of 0.1, 0.2, 0.3 and 0.4
    assert total.least is not None
    assert total.most is not None
    assert (total.least.name, total.most.name) == ("1.weight", "4.weight")
    assert total.most.relative_change == pytest.approx(0.4, rel=1e-6)


# Words.


@pytest.mark.parametrize(
    ("spreads", "exponents", "start", "end"),
    [
        ((2.0, 1.5), (-0.5, -0.9), "moved towards the law", "nearer to the law's -1."),
        ((1.5, 2.0), (-0.9, -0.5), "moved away from the law", "further from the law's -1."),
        ((1.5, 2.0), (-0.5, -0.9), "by their exponent and away from it by their scatter", "nearer to the law's -1."),
        ((2.0, 1.5), (-1.1, -1.6), "by their scatter and away from it by their exponent", "further from the law's -1."),
        ((2.0, 1.5), (-0.9, -0.85), "towards the law c/(n_in+n_out) by their scatter:", "do not tell apart."),
        ((2.0, 2.01), (-0.9, -0.85), "neither moved towards the law", "which the intervals do not tell apart."),
        ((2.0, 2.0), (-0.5, -0.9), "towards the law c/(n_in+n_out) by their exponent:", "nearer to the law's -1."),
        ((1.0, 1.0), (-1.0, -1.0), "neither moved towards the law", "which the intervals do not tell apart."),
        ((2.0, 1.5), (math.nan, -0.9), "moved towards the law", "(one standard deviation)."),
        ((math.nan, 1.5), (-0.5, -0.9), "cannot be told", "two that are fitted in both."),
        ((2.0, math.inf), (-0.9, -0.9), "moved away from the law", "which the intervals do not tell apart."),
    ],
)
def test_the_law_is_spoken_of_with_care(
    spreads: tuple[float, float], exponents: tuple[float, float], start: str, end: str
) -> None:
    fit = reported("mlp-64-final").fit
    fits = [
        replace(fit, spread=spread, exponent=exponent, exponent_interval=(exponent - 0.1, exponent + 0.1))
        for spread, exponent in zip(spreads, exponents, strict=True)
    ]
    sentence = law_between(*fits)
    assert start in sentence
    assert sentence.endswith(end if "cannot be told" in start else f"{end} The verdict is contradicted for both.")


def test_a_law_that_is_a_constant_expects_the_exponent_0() -> None:
    fit = weightstats.inspect(TRAINED / file_name("mlp-64-final"), law="constant").fit
    fits = [replace(fit, exponent=one, exponent_interval=(one - 0.1, one + 0.1)) for one in (-1.0, -0.2)]
    assert "nearer to the law's 0." in law_between(*fits)


@pytest.mark.parametrize(
    ("spreads", "verdicts", "said"),
    [
        ((1.5, 2.0), ("contradicted", "undetermined"), "from contradicted to undetermined all the same: it rests on."),
        ((1.5, 2.0), ("undetermined", "contradicted"), "from undetermined to contradicted: it rests on."),
        ((2.0, 1.5), ("undetermined", "supported"), "from undetermined to supported: it rests on."),
        ((2.0, 1.5), ("supported", "undetermined"), "from supported to undetermined all the same: it rests on."),
        ((2.0, 2.0), ("supported", "undetermined"), "from supported to undetermined: it rests on."),
    ],
)
def test_a_verdict_that_changes_is_told_with_what_it_rests_on(
    spreads: tuple[float, float], verdicts: tuple[Verdict, Verdict], said: str
) -> None:
    fit = replace(reported("mlp-64-final").fit, because="it rests on")
    fits = [replace(fit, spread=spread, verdict=one) for spread, one in zip(spreads, verdicts, strict=True)]
    assert law_between(*fits).endswith(f" The verdict goes {said}")


@pytest.mark.parametrize(
    ("in_both", "counts", "said"),
    [
        (1, (5, 54), "Only 1 of the 5 layers before is among the 54 after: these may well be two networks"),
        (2, (54, 5), "Only 2 of the 54 layers before are among the 5 after: these may well be two networks"),
        (5, (54, 10), ""),
        (5, (5, 54), ""),
        (0, (5, 54), ""),
    ],
)
def test_two_networks_are_told_by_how_little_they_have_in_common(
    in_both: int, counts: tuple[int, int], said: str
) -> None:
    assert two_networks(in_both, counts).startswith(said)
    assert bool(two_networks(in_both, counts)) == bool(said)


def test_that_these_may_be_two_networks_is_said_first(tmp_path: Path) -> None:
    other = {name.replace("0.", "x."): tensor for name, tensor in mlp(1).items() if name[0] in "03"}
    comparison = compared(tmp_path, mlp(), other | {"y.weight": normal(7, 9), "z.weight": normal(7, 8)})
    assert comparison.counts == (5, 4)
    assert comparison.findings[0] == (
        "Only 1 of the 5 layers before is among the 4 after: these may well be two networks, and no more than that one "
        "is compared."
    )
    assert comparison.findings[1].startswith("The one layer moved")


# Networks trained here: torch as the oracle.


@cache
def trained(network: str) -> Comparison:
    return weightstats.compare(
        TRAINED / file_name(f"{network}-step0"), TRAINED / file_name(f"{network}-final"), as_stored=True
    )


@cache
def reported(stem: str) -> Report:
    return weightstats.inspect(str(TRAINED / file_name(stem)), as_stored=True)


@every_network
def test_changes_are_torchs(network: str) -> None:
    before, after = network_of(f"{network}-step0"), network_of(f"{network}-final")
    assert [layer.name for layer in trained(network).layers] == list(LAYERS[network])
    for layer in trained(network).layers:
        a, b = before[layer.name].double(), after[layer.name].double()
        assert layer.relative_change == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-6)
        cosine = torch.nn.functional.cosine_similarity(a.reshape(-1), b.reshape(-1), dim=0)
        assert layer.cosine == pytest.approx(float(cosine), rel=1e-6)
    a, b = (torch.cat([state[name].double().reshape(-1) for name in LAYERS[network]]) for state in (before, after))
    assert trained(network).total.relative_change == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-6)


@every_network
def test_both_sides_are_those_of_their_reports(network: str) -> None:
    comparison = trained(network)
    for side in ("before", "after"):
        report = reported(f"{network}-{'step0' if side == 'before' else 'final'}")
        assert getattr(comparison, side).to_dict() == report.to_dict()
        for row, layer in zip(report.layers, comparison.layers, strict=True):
            assert getattr(layer.mean_square, side) == row.mean_square
            assert getattr(layer.ratio, side) == row.ratio
            assert getattr(layer.distance, side) == abs(math.log(row.ratio))
            assert [getattr(layer.shares[one], side) for one in PENALTIES] == [
                row.penalties[one].share for one in PENALTIES
            ]


def test_any_number_of_workers_gives_the_same_comparison() -> None:
    paths = [TRAINED / file_name(f"lstm-{state}") for state in ("step0", "final")]
    assert weightstats.compare(*paths, workers=1).to_dict() == weightstats.compare(*paths, workers=2).to_dict()


# What has no number.


def test_zero_layers_have_null_and_no_error(tmp_path: Path) -> None:
    before, after = mlp() | {"1.weight": torch.zeros(96, 32)}, mlp(1) | {"2.weight": torch.zeros(48, 96)}
    comparison = compared(tmp_path, before, after)
    layers = {layer["name"]: layer for layer in json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["layers"]}
    assert (layers["1.weight"]["relative_change"], layers["1.weight"]["cosine"]) == (None, None)
    assert layers["1.weight"]["left_out_because"] == "all its weights are zero"
    assert layers["2.weight"]["relative_change"] == pytest.approx(1.0)
    assert (layers["2.weight"]["cosine"], layers["2.weight"]["moved"]) == (None, None)


def test_layers_without_a_common_finite_element_have_null_with_the_reason(tmp_path: Path) -> None:
    before = mlp() | {"1.weight": torch.full((96, 32), math.nan)}
    comparison = compared(tmp_path, before, mlp(1))
    layer = by_name(comparison)["1.weight"]
    assert layer.not_paired_because == "no element is finite in both"
    assert math.isnan(layer.relative_change)
    assert (comparison.total.layers, comparison.total.paired) == (5, 4)


def test_elements_that_are_not_finite_are_left_out_of_the_change(tmp_path: Path) -> None:
    before, after = mlp(), mlp(1)
    before["1.weight"][0, 0], after["1.weight"][3, 3] = math.inf, math.nan
    layer = by_name(compared(tmp_path, before, after))["1.weight"]
    both = torch.isfinite(before["1.weight"]) & torch.isfinite(after["1.weight"])
    a, b = before["1.weight"][both].double(), after["1.weight"][both].double()
    assert (layer.elements, layer.paired) == (96 * 32, 96 * 32 - 2)
    assert layer.relative_change == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-6)


def test_nothing_but_zeros_is_said_so(tmp_path: Path) -> None:
    comparison = compared(tmp_path, {"fc.weight": torch.zeros(8, 9)}, {"fc.weight": torch.ones(8, 9)})
    assert comparison.findings[0] == (
        "The one layer moved away from nothing but zeros, so that there is no relative change."
    )
    assert "cannot be told" in comparison.findings[1]


def test_two_networks_without_a_common_layer_are_no_error(tmp_path: Path) -> None:
    comparison = compared(tmp_path, {"a.weight": normal(8, 9)}, {"b.weight": normal(8, 9)})
    assert comparison.findings == ("No layer of the one is a layer of the other: there is nothing to compare.",)
    assert reasons(comparison) == {("a.weight", "before"): "not there after", ("b.weight", "after"): "not there before"}


# What does not match.


def test_a_layer_that_is_on_one_side_alone_is_listed(tmp_path: Path) -> None:
    comparison = compared(tmp_path, mlp(), mlp(1) | {"new.weight": normal(7, 9)})
    assert reasons(comparison) == {("new.weight", "after"): "not there before"}
    assert len(comparison.layers) == 5


def test_a_layer_of_another_shape_is_listed_with_both(tmp_path: Path) -> None:
    comparison = compared(tmp_path, mlp(), mlp(1) | {"4.weight": normal(11, 16)})
    assert reasons(comparison) == {("4.weight", "before"): "its shape is 10×16 before and 11×16 after"}


def test_a_tensor_that_is_no_layer_on_one_side_is_listed_with_what_it_is(tmp_path: Path) -> None:
    comparison = compared(tmp_path, mlp(), mlp(1) | {"4.weight": torch.ones(160)})
    ((key, reason),) = reasons(comparison).items()
    assert key == ("4.weight", "before")
    assert reason == "no layer after (parameter): a vector: no fan-in and fan-out"


def test_a_tensor_that_is_unread_on_one_side_is_listed_with_the_reason(tmp_path: Path) -> None:
    first = saved(tmp_path, "a.safetensors", {"fc.weight": normal(4, 8), "head.weight": normal(3, 4)})
    header = json.loads(first.read_bytes()[8 : 8 + int.from_bytes(first.read_bytes()[:8], "little")])
    header["head.weight"] |= {"dtype": "F6_E2M3", "shape": [4, 16]}
    data = first.read_bytes()[8 + int.from_bytes(first.read_bytes()[:8], "little") :]
    text = json.dumps(header).encode()
    (tmp_path / "b.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    comparison = weightstats.compare(first, tmp_path / "b.safetensors")
    ((key, reason),) = reasons(comparison).items()
    assert key == ("head.weight", "before")
    assert reason.startswith("could not be read after: its dtype F6_E2M3")


def test_an_unread_tensor_is_found_below_its_root(tmp_path: Path) -> None:
    broken = torch.sparse_coo_tensor(torch.tensor([[9], [9]]), torch.ones(1), (4, 4), check_invariants=False)
    first = saved(tmp_path, "a.pt", {"state_dict": {"fc.weight": normal(4, 4), "b.weight": normal(5, 4)}})
    second = saved(tmp_path, "b.pt", {"state_dict": {"fc.weight": broken, "b.weight": normal(5, 4)}})
    ((key, reason),) = reasons(weightstats.compare(first, second)).items()
    assert key == ("fc.weight", "before")
    assert reason.startswith("could not be read after: it is sparse")


def test_a_tensor_whose_bytes_cannot_be_read_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = saved(tmp_path, "a.safetensors", mlp()), saved(tmp_path, "b.safetensors", mlp(1))
    from weightstats import comparing

    real = comparing._How.report

    def cut(self: Any, side: Any, progress: Any) -> Any:
        if side.checkpoint.location.endswith("b.safetensors"):
            with open(second, "r+b") as file:
                file.truncate(second.stat().st_size - 100)
        return real(self, side, progress)

    monkeypatch.setattr(comparing._How, "report", cut)
    comparison = weightstats.compare(first, second)
    assert len(comparison.layers) == 4
    ((_, reason),) = reasons(comparison).items()
    assert reason.startswith("could not be read after: the file ends")


def test_what_is_not_selected_is_not_listed(tmp_path: Path) -> None:
    comparison = compared(tmp_path, mlp(), mlp(1), include=["[012].*"], exclude=["1.*"])
    assert [layer.name for layer in comparison.layers] == ["0.weight", "2.weight"]
    assert comparison.unmatched == ()


def test_what_is_not_selected_on_one_side_alone_is_not_listed(tmp_path: Path) -> None:
    prefixed = {f"model.{name}": tensor for name, tensor in mlp().items()}
    comparison = compared(tmp_path, prefixed, mlp(1), ".safetensors", exclude=["model.1.*"])
    assert [layer.name_after for layer in comparison.layers] == ["0.weight", "2.weight", "3.weight", "4.weight"]
    assert comparison.unmatched == ()


# Names.


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("model.", "", "by their names, less 'model.' at the start of those before"),
        ("", "backbone.body.", "by their names, less 'backbone.body.' at the start of those after"),
        ("encoder.", "model.net.", "by their names, 'encoder.' at the start of those before taken for 'model.net.'"),
    ],
)
def test_a_prefix_of_every_name_is_seen_through_and_said(tmp_path: Path, before: str, after: str, said: str) -> None:
    first = {f"{before}{name}": tensor for name, tensor in mlp().items()}
    second = {f"{after}{name}": tensor for name, tensor in mlp(1).items()}
    comparison = compared(tmp_path, first, second, ".safetensors", root="")
    assert comparison.matched == said
    assert comparison.prefixes == (before, after)
    assert [(layer.name, layer.name_after) for layer in comparison.layers] == [
        (f"{before}{index}.weight", f"{after}{index}.weight") for index in range(5)
    ]
    assert {layer.notes for layer in comparison.layers} == {()}
    assert comparison.unmatched == ()


def test_a_head_outside_of_the_prefix_is_matched_by_its_own_name(tmp_path: Path) -> None:
    first = {f"model.{name}": tensor for name, tensor in mlp().items()} | {"head.weight": normal(7, 10)}
    second = mlp(1) | {"head.weight": normal(7, 10, seed=1)}
    comparison = compared(tmp_path, first, second, ".safetensors")
    assert comparison.prefixes == ("model.", "")
    assert len(comparison.layers) == 6
    assert comparison.unmatched == ()


def test_names_that_are_the_same_are_not_exchanged_for_a_prefix(tmp_path: Path) -> None:
    state = {
        f"{side}.{index}.weight": normal(6, 6, seed=index) for side in ("encoder", "decoder") for index in range(3)
    }
    comparison = compared(tmp_path, state, {name: one for name, one in state.items() if name.startswith("decoder")})
    assert comparison.prefixes == ("", "")
    assert {layer.name for layer in comparison.layers} == {f"decoder.{index}.weight" for index in range(3)}
    assert set(reasons(comparison).values()) == {"not there after"}


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_wrappers_and_roots_are_dropped_on_either_side(tmp_path: Path, wrapper: str) -> None:
    wrapped = {"epoch": 3, "model_state_dict": {f"{wrapper}{name}": tensor for name, tensor in mlp(1).items()}}
    comparison = compared(tmp_path, mlp(), wrapped)
    assert [layer.name_after for layer in comparison.layers] == [f"{index}.weight" for index in range(5)]
    assert comparison.matched == "by their names"


def test_tied_weights_are_compared_once_under_whichever_name(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self, seed: int, first: str, second: str) -> None:
            super().__init__()
            self.add_module(first, nn.Linear(8, 20, bias=False))
            self.add_module(second, nn.Linear(8, 20, bias=False))
            self.get_submodule(first).weight = nn.Parameter(normal(20, 8, seed=seed))
            self.get_submodule(second).weight = self.get_submodule(first).weight

    first = saved(tmp_path, "a.pt", Tied(0, "one", "two").state_dict())
    second = saved(tmp_path, "b.pt", Tied(1, "two", "one").state_dict())
    comparison = weightstats.compare(first, second)
    (layer,) = comparison.layers
    assert (layer.name, layer.name_after, comparison.unmatched) == ("one.weight", "two.weight", ())
    assert layer.notes == ("called 'two.weight' after",)
    alone = saved(tmp_path, "d.pt", {"two.weight": normal(20, 8, seed=4)})
    for pair in ((first, alone), (alone, first)):
        assert [layer.cosine != 1.0 for layer in weightstats.compare(*pair).layers] == [True]
    apart = saved(tmp_path, "c.pt", {"one.weight": normal(20, 8, seed=2), "two.weight": normal(20, 8, seed=3)})
    assert reasons(weightstats.compare(first, apart)) == {
        ("two.weight", "after"): "no layer before (tied): the same stored tensor as one.weight"
    }


# Parts, encodings, adapters, formats.


def test_parts_are_compared_as_parts(tmp_path: Path) -> None:
    before, after = nn.MultiheadAttention(16, 4).state_dict(), nn.MultiheadAttention(16, 4).state_dict()
    layers = by_name(compared(tmp_path, before, after))
    assert set(layers) == {"in_proj_weight[q]", "in_proj_weight[k]", "in_proj_weight[v]", "out_proj.weight"}
    for part, name in enumerate("qkv"):
        a, b = (state["in_proj_weight"][16 * part : 16 * part + 16].double() for state in (before, after))
        found = layers[f"in_proj_weight[{name}]"]
        assert found.relative_change == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-6)
        assert found.cosine == pytest.approx(float((a * b).sum() / a.norm() / b.norm()), abs=1e-6)


def test_a_weight_that_is_divided_on_one_side_alone_is_listed(tmp_path: Path) -> None:
    first = saved(tmp_path, "a.pt", nn.MultiheadAttention(16, 4).state_dict())
    rules = [{"match": "in_proj_weight", "split": ["a", "b"]}]
    whole = weightstats.compare(first, first, as_stored=True)
    assert "in_proj_weight" in by_name(whole)
    divided = weightstats.compare(first, first, rules=rules)
    assert {"in_proj_weight[a]", "in_proj_weight[b]"} < set(by_name(divided))
    other = saved(tmp_path, "b.pt", {"in_proj_weight[q]": normal(16, 16), **nn.MultiheadAttention(16, 4).state_dict()})
    assert any("divided in another way" in reason for reason in reasons(weightstats.compare(first, other)).values())


@pytest.mark.parametrize("case", ["gptq4", "gptq4_act", "gptq3", "awq"])
@pytest.mark.parametrize("is_base_first", [True, False])
def test_a_base_is_compared_with_its_quantised_weights_as_they_are_used(
    tmp_path: Path, case: str, is_base_first: bool
) -> None:
    codes, expected = reference(case)  # (inputs, outputs), as these libraries store them
    noise = np.random.default_rng(0).standard_normal(expected.shape) * 0.01
    base = saved(tmp_path, "base.safetensors", {"fc.weight": torch.from_numpy((expected + noise).T).float()})
    quantised = saved(tmp_path, "quantised.safetensors", {f"fc.{name}": tensor for name, tensor in codes.items()})
    comparison = weightstats.compare(*((base, quantised) if is_base_first else (quantised, base)))
    (layer,) = comparison.layers
    assert comparison.unmatched == ()
    start = expected + noise if is_base_first else expected
    assert layer.relative_change == pytest.approx(np.linalg.norm(noise) / np.linalg.norm(start), rel=1e-3)
    assert layer.notes[-1] == "its dimensions are stored in another order"
    assert {layer.name, layer.name_after} == {"fc.weight", "fc.qweight"}


@pytest.mark.parametrize("case", ["nf4", "bnb_int8", "fp8_block", "pack4", "nvfp4", "int8_asymmetric"])
def test_a_base_is_compared_with_quantised_weights_of_its_own_shape(tmp_path: Path, case: str) -> None:
    codes, expected = reference(case)
    noise = np.random.default_rng(0).standard_normal(expected.shape) * 0.01
    base = saved(tmp_path, "base.safetensors", {"fc.weight": torch.from_numpy(expected + noise).float()})
    quantised = saved(tmp_path, "quantised.safetensors", {f"fc.{name}": tensor for name, tensor in codes.items()})
    (layer,) = weightstats.compare(base, quantised).layers
    assert layer.relative_change == pytest.approx(np.linalg.norm(noise) / np.linalg.norm(expected + noise), rel=1e-3)


def test_an_adapter_is_added_to_its_base(tmp_path: Path) -> None:
    base = {"fc.weight": normal(12, 10), "out.weight": normal(3, 12)}
    down, up = normal(2, 10, seed=1), normal(12, 2, seed=2)
    tuned = {
        "base_model.model.fc.base_layer.weight": base["fc.weight"],
        "base_model.model.fc.lora_A.default.weight": down,
        "base_model.model.fc.lora_B.default.weight": up,
        "base_model.model.out.weight": base["out.weight"],
    }
    (tmp_path / "tuned").mkdir()
    saved(tmp_path / "tuned", "model.safetensors", tuned)
    (tmp_path / "tuned/adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 8, "peft_type": "LORA"}))
    first = saved(tmp_path, "base.safetensors", base)
    comparison = weightstats.compare(first, tmp_path / "tuned")
    layers = by_name(comparison)
    assert comparison.prefixes == ("", "base_model.model.")
    moved = (4 * up.double() @ down.double()).norm() / base["fc.weight"].double().norm()
    assert layers["fc.weight"].relative_change == pytest.approx(float(moved), rel=1e-6)
    merged = base["fc.weight"].double() + 4 * up.double() @ down.double()
    assert layers["fc.weight"].mean_square.after == pytest.approx(float(merged.square().mean()), rel=1e-6)
    assert any("after, with its adapter: " in note for note in layers["fc.weight"].notes)
    assert layers["out.weight"].is_unchanged
    assert {reason for (_, where), reason in reasons(comparison).items() if where == "after"} == {
        "a factor of an adapter, not there before"
    }


def test_an_adapter_before_and_after_is_compared_with_itself(tmp_path: Path) -> None:
    state = waves(PEFT_SHAPES)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 6}))
    comparison = compared(tmp_path, state, state, ".safetensors")
    assert comparison.total.unchanged == comparison.total.paired == comparison.total.layers > 8


def test_files_of_different_formats_are_compared(tmp_path: Path) -> None:
    kernel, dense = normal(3, 3, 4, 16), normal(16, 10)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["conv/kernel"], file["fc/kernel"] = kernel.numpy(), dense.numpy()
    torchs = saved(tmp_path, "a.safetensors", {"conv.kernel": kernel, "fc.kernel": 2 * dense})
    layers = by_name(weightstats.compare(tmp_path / "a.h5", torchs))
    assert layers["conv.kernel"].is_unchanged
    assert (layers["fc.kernel"].relative_change, layers["fc.kernel"].cosine) == (1.0, 1.0)


@pytest.mark.parametrize(
    "format_",
    [
        *("torch zip", "torch legacy", "torch tar", "pickle", "GGUF", "ONNX", "HDF5", "TFLite", "NumPy archive"),
        "Flax msgpack",
    ],
)
def test_one_network_in_two_formats_has_not_moved(tmp_path: Path, format_: str) -> None:
    paths = []
    for name in ("safetensors", format_):
        paths.append(tmp_path / name.replace(" ", "_"))
        paths[-1].write_bytes(samples()[name].content)
    comparison = weightstats.compare(*paths)
    assert {layer.name for layer in comparison.layers} == {"first.weight", "second.weight", "third.weight"}
    assert all(layer.is_unchanged for layer in comparison.layers)
    assert {one.where for one in comparison.unmatched} <= {"after"}  # GGUF's and HDF5's samples hold a weight more


def test_live_modules_are_compared() -> None:
    before = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 7))
    after = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 7))
    comparison = weightstats.compare(before, after)
    for name in ("0.weight", "2.weight"):
        a, b = before.get_parameter(name).detach().double(), after.get_parameter(name).detach().double()
        assert by_name(comparison)[name].relative_change == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-6)
    assert weightstats.compare(before, before).total.unchanged == 2


def test_no_process_is_forked_where_a_module_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    def pool(*arguments: object) -> None:
        raise AssertionError("a process that runs torch must not be forked")

    sides = (nn.Linear(20, 30), nn.Linear(20, 30))
    monkeypatch.setattr(threads, "WORTH_SHARING", 0)
    monkeypatch.setattr(threads, "pool", pool)
    assert weightstats.compare(*sides, workers=4).layers


def test_a_live_module_is_compared_with_a_file(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 7))
    path = saved(tmp_path, "a.safetensors", model.state_dict())
    with torch.no_grad():
        model[1].weight.mul_(2.0)
    layers = by_name(weightstats.compare(path, model))
    assert layers["0.weight"].is_unchanged
    assert (layers["1.weight"].relative_change, layers["1.weight"].cosine) == (1.0, 1.0)


def test_two_parametrized_modules_are_compared_by_their_effective_weights() -> None:
    before, after = (nn.utils.parametrizations.weight_norm(nn.Linear(12, 9)) for _ in range(2))
    (layer,) = weightstats.compare(before, after).layers
    a, b = before.weight.detach().double(), after.weight.detach().double()
    assert layer.relative_change == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-6)


# Options and errors.


def test_a_law_is_that_of_both_fits() -> None:
    paths = [TRAINED / file_name(f"mlp-64-{state}") for state in ("step0", "final")]
    comparison = weightstats.compare(*paths, law="fan-in")
    assert (comparison.before.fit.law_key, comparison.after.fit.law_key) == ("fan-in", "fan-in")
    assert "the law c/n_in" in comparison.findings[1]


def test_the_progress_ends_at_the_total(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    compared(tmp_path, mlp(), mlp(1), progress=lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1] > 0
    assert steps == sorted(steps)


def test_what_is_shown_again_and_again_is_counted_so(tmp_path: Path) -> None:
    state = {f"{index}.weight": torch.ones(1, 1).expand(1 << 14, 1 << 14) for index in range(3)}
    comparison = compared(tmp_path, state, state)
    assert comparison.total.unchanged == 3
    assert {layer.paired for layer in comparison.layers} == {1 << 28}


@pytest.mark.parametrize("is_first", [True, False])
def test_what_a_file_may_make_it_read_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    from weightstats import comparing

    plain = saved(tmp_path, "plain.pt", {"a.weight": normal(300, 200), "b.weight": normal(200, 300)})
    real = comparing.beyond_budget
    refused = real([], 1) | {1: "too much"}
    sides: list[int] = []

    def budget(tensors: Any, stored_bytes: int) -> dict[int, str]:
        sides.append(stored_bytes)
        assert [tensor.elements for tensor in tensors] == [60_000, 60_000]
        return refused if len(sides) == (1 if is_first else 2) else {}

    monkeypatch.setattr(comparing, "beyond_budget", budget)
    comparison = weightstats.compare(plain, plain)
    assert sides == [plain.stat().st_size] * 2
    assert [layer.not_paired_because for layer in comparison.layers] == [None, "too much"]
    assert comparison.total.paired == 1


@pytest.mark.parametrize("side", [0, 1])
def test_a_location_that_cannot_be_read_is_named(tmp_path: Path, side: int) -> None:
    good = saved(tmp_path, "good.pt", mlp())
    pair = [good, good]
    pair[side] = tmp_path / "absent.pt"
    with pytest.raises(weightstats.CheckpointError, match=r"absent\.pt: there is no such file"):
        weightstats.compare(*pair)


@pytest.mark.parametrize("options", [{"root": "nowhere"}, {"limits": {"none": 1}}, {"law": "none"}, {"include": ["x"]}])
def test_what_does_not_fit_is_a_usage_error(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(weightstats.UsageError):
        compared(tmp_path, mlp(), mlp(), **options)


# The command line.


def step0_and_final(network: str = "mlp-64") -> tuple[Path, Path]:
    return TRAINED / file_name(f"{network}-step0"), TRAINED / file_name(f"{network}-final")


def test_the_command_reports_and_exits_with_0() -> None:
    done = run("compare", *step0_and_final())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("before: ")
    assert "All 5 layers moved" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_json_is_strict_and_has_the_schema() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    nonfinite = FIXTURES / "made/nonfinite.pt"
    done = run("compare", nonfinite, nonfinite, "--format", "json")
    told = json.loads(done.stdout, parse_constant=refuse)
    assert told["schema"] == "weightstats/comparison/1"
    assert list(told) == [
        *("schema", "version", "before", "after", "matched", "prefixes", "total", "layers", "unmatched", "findings")
    ]
    assert list(told["before"]) == ["checkpoint", "fit", "fit_without_scale_free", "penalties"]
    assert "warning: before: " in done.stderr
    assert "warning: after: " in done.stderr


def test_the_report_may_go_to_a_file(tmp_path: Path) -> None:
    done = run("compare", *step0_and_final(), "--format", "csv", "--output", tmp_path / "c.csv")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "c.csv").read_text().startswith("list,name,name_after,")


def test_an_unreadable_side_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    for pair in ((tmp_path / "bad.pt", step0_and_final()[0]), (step0_and_final()[0], tmp_path / "bad.pt")):
        done = run("compare", *pair)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
        assert "bad.pt: " in done.stderr


def test_a_truncated_side_is_reported_with_exit_code_3(tmp_path: Path) -> None:
    whole = TRAINED / file_name("lstm-final")
    (tmp_path / "cut.pt").write_bytes(whole.read_bytes()[:-3000])
    done = run("compare", whole, tmp_path / "cut.pt")
    assert done.returncode == 3
    assert "layers in both" in done.stdout
    assert "truncated" in done.stderr


def test_usage_errors_exit_with_2() -> None:
    for arguments in ([], [step0_and_final()[0]], [*step0_and_final(), "--limit", "x=1"], [TRAINED]):
        assert run("compare", *arguments).returncode == 2


def test_options_reach_the_comparison(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text('[[rule]]\nmatch = "1.weight"\nignore = true\n')
    arguments = ("--rules", tmp_path / "rules.toml", "--exclude", "3.*", "--law", "fan-in", "--format", "json")
    told = json.loads(run("compare", *step0_and_final(), *arguments).stdout)
    assert [layer["name"] for layer in told["layers"]] == ["5.weight", "7.weight", "9.weight"]
    assert told["after"]["fit"]["law_key"] == "fan-in"
    stored = json.loads(run("compare", *step0_and_final("lstm"), "--as-stored", "--format", "json").stdout)
    assert [layer["name"] for layer in stored["layers"]] == list(LAYERS["lstm"])
