"""`weightstats groups`: the decay of each parameter of a file, as a function for training scripts and as JSON."""

import ast
import json
import math
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import FIXTURES, report_of
from networks import NETWORKS, network
from test_cli import run
from torch import nn
from torch.nn.utils import parametrizations

import weightstats
from weightstats.decay_groups import DecayGroups, make_groups, penalty_named
from weightstats.decayed_parameters import NOT_SELECTED
from weightstats.errors import UsageError
from weightstats.penalties import PENALTIES, PenaltyName
from weightstats.readers import formats
from weightstats.renderers import groups_text

DECAY = 0.03

Groups = list[dict[str, Any]]
Snippet = Callable[..., Groups]

every_penalty = pytest.mark.parametrize("penalty", PENALTIES)


def groups_of(folder: Path, saved: Any, penalty: PenaltyName = "fan_scaled", **options: Any) -> DecayGroups:
    """The groups of what torch.save writes."""
    how = {"equal_total": options.pop("equal_total", True)}
    return make_groups(report_of(folder, saved, **options), penalty, DECAY, **how)


def snippet_of(groups: DecayGroups, folder: Path) -> Snippet:
    """The function that the text defines, which is run from a file, as a user would."""
    path = folder / "snippet.py"
    path.write_text(groups_text.as_torch(groups), encoding="utf-8", newline="")
    made: Snippet = runpy.run_path(str(path))["parameter_groups"]
    return made


def decays(model: nn.Module, groups: Groups) -> dict[str, float]:
    """The weight decay of each parameter, none of which may be in two groups or in none."""
    pairs = [(id(parameter), group["weight_decay"]) for group in groups for parameter in group["params"]]
    found = dict(pairs)
    assert len(pairs) == len(found) == len(list(model.parameters()))
    return {name: found[id(parameter)] for name, parameter in model.named_parameters()}


def decays_in(groups: DecayGroups) -> dict[str, float]:
    return {name: group.weight_decay for group in groups.groups for name in group.parameters}


def left_out(groups: DecayGroups) -> dict[str, str]:
    return {entry.name: entry.because for entry in groups.left_out}


# what each layer gets


@every_penalty
@pytest.mark.parametrize(
    "name", ["published/silero-vad/silero_vad_16k.safetensors", "trained/cnn-final.pt", "trained/lstm-final.pt"]
)
def test_a_layers_decay_is_the_plain_one_times_its_multiplier_in_the_report(name: str, penalty: PenaltyName) -> None:
    report = weightstats.inspect(str(FIXTURES / name))
    groups = make_groups(report, penalty, DECAY)
    expected = {(row.part_of or row.name): DECAY * row.penalties[penalty].decay_multiplier for row in report.layers}
    assert decays_in(groups) == pytest.approx(expected, rel=1e-12)
    assert len({group.weight_decay for group in groups.groups}) == len(groups.groups)


@every_penalty
def test_the_lambdas_give_all_penalties_one_total(penalty: PenaltyName) -> None:
    path = str(FIXTURES / "trained/mlp-64-final.pt")
    groups = make_groups(weightstats.inspect(path), "fan_scaled", DECAY)
    plain = weightstats.inspect(path, weight_decay=DECAY / 2).penalties["plain"].total
    same = weightstats.inspect(path, weight_decay=groups.equal_total_lambda[penalty])
    assert same.penalties[penalty].total == pytest.approx(plain, rel=1e-12)
    assert groups.equal_total_lambda["plain"] == pytest.approx(DECAY / 2)
    assert groups.penalty_lambda == groups.equal_total_lambda["fan_scaled"]


def test_the_report_has_the_lambda_of_equal_total() -> None:
    report = weightstats.inspect(str(FIXTURES / "trained/mlp-64-final.pt"), weight_decay=0.5)
    squares, values = (
        math.fsum(row.sum_of_squares * factor for row, factor in zip(report.layers, factors, strict=True))
        for factors in ([1.0] * 5, [(row.n_in + row.n_out) / row.elements for row in report.layers])
    )
    assert report.penalties["fan_scaled"].equal_total_weight_decay == pytest.approx(0.5 * squares / values, rel=1e-12)
    assert report.penalties["plain"].equal_total_weight_decay == 0.5
    assert report.to_dict()["penalties"]["per_element"]["equal_total_weight_decay"] > 0.5


@every_penalty
def test_unscaled_it_is_the_plain_decay_times_the_factor(penalty: PenaltyName, tmp_path: Path) -> None:
    saved = {"a.weight": torch.randn(3, 4), "b.weight": torch.randn(2, 3), "a.bias": torch.randn(3)}
    groups = groups_of(tmp_path, saved, penalty, equal_total=False)
    factors = {"plain": (1, 1), "per_element": (1 / 12, 1 / 6), "fan_scaled": (7 / 12, 5 / 6)}[penalty]
    assert decays_in(groups) == pytest.approx({"a.weight": DECAY * factors[0], "b.weight": DECAY * factors[1]})
    assert groups.penalty_lambda == DECAY / 2


def test_weights_that_are_not_finite_are_not_counted(tmp_path: Path) -> None:
    weight = torch.ones(4, 4)
    weight[0] = math.nan
    saved = {"a.weight": weight, "b.weight": torch.full((2, 2), math.inf), "c.weight": torch.ones(2, 4)}
    groups = groups_of(tmp_path, saved, equal_total=False)
    assert decays_in(groups) == pytest.approx({"a.weight": DECAY * 8 / 12, "c.weight": DECAY * 6 / 8})
    assert left_out(groups) == {"b.weight": "none of its weights is finite"}


@pytest.mark.parametrize("saved", [torch.zeros(3, 4), torch.full((3, 4), 1e200, dtype=torch.float64)])
def test_layers_without_a_total_have_no_decay(saved: torch.Tensor, tmp_path: Path) -> None:
    groups = groups_of(tmp_path, {"a.weight": saved})
    assert groups.groups == ()
    assert left_out(groups)["a.weight"].startswith("it has no decay multiplier")
    assert json.loads(groups_text.as_json(groups))["penalty_lambda"] is None
    assert "There is nothing to decay." in groups_text.as_torch(groups)
    assert [group.weight_decay for group in groups_of(tmp_path, {"a.weight": saved}, equal_total=False).groups] == [
        pytest.approx(DECAY * 7 / 12)
    ]


def test_maps_of_unequal_size_have_the_mean_of_their_factors(tmp_path: Path) -> None:
    rules = [{"match": "qkv", "kind": "linear", "split": {"q": 8, "k": 2, "v": 2}}]
    groups = groups_of(tmp_path, {"qkv": torch.randn(12, 8)}, rules=rules, equal_total=False)
    assert decays_in(groups) == {"qkv": pytest.approx(DECAY * (16 + 10 + 10) / 96)}


@every_penalty
def test_the_live_network_and_its_file_have_the_same_groups(penalty: PenaltyName, tmp_path: Path) -> None:
    for name in NETWORKS:
        model = network(name)
        snippet = snippet_of(groups_of(tmp_path, model.state_dict(), penalty), tmp_path)
        made = snippet(model.named_parameters())
        expected = weightstats.parameter_groups(model, penalty, weight_decay=DECAY)
        assert [[id(one) for one in group["params"]] for group in made] == [
            [id(one) for one in group["params"]] for group in expected
        ]
        assert [group["weight_decay"] for group in made] == pytest.approx([group["weight_decay"] for group in expected])
        torch.optim.AdamW(made)


# what is left out


def test_what_is_not_selected_is_left_out(tmp_path: Path) -> None:
    saved = {"a.weight": torch.ones(3, 4), "b.weight": torch.ones(2, 3)}
    groups = groups_of(tmp_path, saved, exclude=["a.*"])
    assert decays_in(groups) == {"b.weight": pytest.approx(DECAY)}
    assert left_out(groups) == {"a.weight": "left out by --include or --exclude"}
    assert "#   a.weight: left out by --include or --exclude\n" in groups_text.as_torch(groups)


def test_some_maps_of_a_parameter_cannot_be_left_out() -> None:
    report = weightstats.inspect(str(FIXTURES / "trained/lstm-final.pt"), exclude=["*weight_hh_l1[[]forget]"])
    assert [other.name for other in report.others if other.kind == NOT_SELECTED] == ["lstm.weight_hh_l1[forget]"]
    with pytest.raises(
        UsageError, match=r"lstm.weight_hh_l1 has one decay for all its maps, and only some are selected"
    ):
        make_groups(report, "plain", DECAY)


@pytest.mark.parametrize(
    ("make", "decayed", "reason"),
    [
        (parametrizations.weight_norm, "0.parametrizations.weight.original0", ""),
        (
            parametrizations.spectral_norm,
            "",
            "0.parametrizations.weight.original: decaying it does not decay the weight",
        ),
        (parametrizations.orthogonal, "", "0.parametrizations.weight.original: decaying it does not decay the weight"),
    ],
)
def test_of_a_normalised_weight_the_magnitudes_are_decayed_and_of_others_nothing(
    make: Callable[[nn.Module], nn.Module], decayed: str, reason: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(make(nn.Linear(4, 6)), nn.Linear(6, 3)).double()
    groups = groups_of(tmp_path, model.state_dict())
    assert set(decays_in(groups)) == {decayed, "1.weight"} - {""}
    assert any(f"{name}: {because}".startswith(reason) for name, because in left_out(groups).items()) == bool(reason)
    found = decays(model, snippet_of(groups, tmp_path)(model.named_parameters()))
    with warnings.catch_warnings(action="ignore"):
        expected = decays(model, weightstats.parameter_groups(model, "fan-scaled", weight_decay=DECAY))
    assert found == pytest.approx(expected)


def test_a_direction_without_its_magnitudes_is_left_out(tmp_path: Path) -> None:
    groups = groups_of(tmp_path, {"a.weight_v": torch.randn(3, 4), "a.weight_g": torch.randn(7, 1)})
    assert list(left_out(groups)) == ["a.weight_v"]
    assert groups.groups == ()


def test_quantised_weights_are_left_out() -> None:
    report = weightstats.inspect(str(FIXTURES / "quantised/reference.safetensors"))
    groups = make_groups(report, "fan_scaled", DECAY)
    assert len(report.layers) > 5
    decoded = {(row.part_of or row.name) for row in report.layers if row.worked_out_because is not None}
    assert decoded
    assert decoded <= set(left_out(groups))
    assert decoded.isdisjoint(decays_in(groups))


@pytest.mark.parametrize("adapters", [["default"], ["one", "other"]])
def test_a_weight_with_adapters_is_an_ordinary_one(adapters: list[str], tmp_path: Path) -> None:
    saved = {"model.fc.base_layer.weight": torch.randn(6, 4)}
    for name in adapters:
        saved[f"model.fc.lora_A.{name}.weight"] = torch.randn(2, 4)
        saved[f"model.fc.lora_B.{name}.weight"] = torch.randn(6, 2)
    report = report_of(tmp_path, saved)
    assert {row.worked_out_because for row in report.layers} == {None}
    assert set(decays_in(make_groups(report, "fan_scaled", DECAY))) == set(saved)


def test_a_parameter_of_which_a_part_could_not_be_read_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from weightstats import inspection

    def measured(*arguments: Any) -> Any:
        results, merged = genuine(*arguments)
        return results | {"lstm.weight_ih_l0[cell]": "a disk that fails"}, merged

    genuine = inspection._measured
    monkeypatch.setattr(inspection, "_measured", measured)
    report = weightstats.inspect(str(FIXTURES / "trained/lstm-final.pt"))
    groups = make_groups(report, "fan_scaled", DECAY)
    assert "lstm.weight_ih_l0" not in decays_in(groups)
    assert left_out(groups) == {
        "lstm.weight_ih_l0": "its part lstm.weight_ih_l0[cell] could not be read",
        "lstm.weight_ih_l0[cell]": "could not be read: a disk that fails",
    }


# the function for a training script


def blocks(count: int) -> nn.Module:
    """Equal blocks between an embedding and a head that is tied to it."""
    torch.manual_seed(0)
    model = nn.Module()
    model.embedding = nn.Embedding(20, 6)
    model.layers = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(6, 9), "down": nn.Linear(9, 6)}) for _ in range(count))
    model.norm = nn.LayerNorm(6)
    model.head = nn.Linear(6, 20, bias=False)
    model.head.weight = model.embedding.weight
    return model.double()


def test_alike_blocks_are_one_line(tmp_path: Path) -> None:
    groups = groups_of(tmp_path, blocks(12).state_dict())
    text = groups_text.as_torch(groups)
    assert "'layers.*.up.weight': (" in text
    assert text.count("weight':") == 3 + 1  # three layers, and the second name of one
    model = blocks(12)
    found = decays(model, snippet_of(groups, tmp_path)(model.named_parameters()))
    expected = decays(model, weightstats.parameter_groups(model, "fan-scaled", weight_decay=DECAY))
    assert found == pytest.approx(expected)
    assert len(set(found.values())) == 3  # up and down have one factor, the embedding another, the rest none


@pytest.mark.parametrize("duplicates", [True, False])
def test_tied_parameters_are_decayed_once_under_whatever_name(duplicates: bool, tmp_path: Path) -> None:
    model = blocks(2)
    snippet = snippet_of(groups_of(tmp_path, model.state_dict()), tmp_path)
    named = list(model.named_parameters(remove_duplicate=duplicates))
    for order in (named, named[::-1]):
        assert decays(model, snippet(order))["embedding.weight"] > 0.0


TWICE: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: nn.LSTM(4, 3),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(4, 3)),
    "linear": lambda: nn.Linear(4, 3),
}


@pytest.mark.parametrize("case", TWICE)
def test_a_module_that_is_there_twice_fits_by_either_name(case: str, tmp_path: Path) -> None:
    layer = TWICE[case]()
    model = nn.ModuleDict({f"{index}": nn.ModuleDict({"a": layer}) for index in range(2)})
    snippet = snippet_of(groups_of(tmp_path, model.state_dict()), tmp_path)
    named = list(model.named_parameters(remove_duplicate=False))
    expected = weightstats.parameter_groups(model, "fan-scaled", weight_decay=DECAY)
    for order in (named[: len(named) // 2], named[len(named) // 2 :], named):
        assert decays(model, snippet(order)) == pytest.approx(decays(model, expected))


def test_tied_blocks_are_named_one_by_one(tmp_path: Path) -> None:
    first = [nn.Linear(4, 4, bias=False) for _ in range(3)]
    second = [nn.Linear(4, 4, bias=False) for _ in range(3)]
    for one, other in zip(first, second, strict=True):
        other.weight = one.weight
    model = nn.ModuleDict({"encoder": nn.ModuleList(first), "decoder": nn.ModuleList(second)})
    groups = groups_of(tmp_path, model.state_dict())
    assert [len(group.names) for group in groups.groups] == [3]
    named = [(name, each) for name, each in model.named_parameters(remove_duplicate=False) if "decoder" in name]
    assert list(decays(model, snippet_of(groups, tmp_path)(named)).values()) == pytest.approx([DECAY] * 3)


def test_a_file_that_names_the_second_of_two_tied_tensors_first_fits(tmp_path: Path) -> None:
    model = blocks(2)
    state = model.state_dict()
    groups = groups_of(tmp_path, {"head.weight": state.pop("head.weight"), **state})
    assert [each.name for group in groups.groups for each in group.names if each.tied_to] == ["embedding.weight"]
    assert decays(model, snippet_of(groups, tmp_path)(model.named_parameters()))["embedding.weight"] > 0.0


def test_parameters_that_share_memory_are_decayed_once(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = nn.Parameter(model[0].weight.detach())
    snippet = snippet_of(groups_of(tmp_path, model.state_dict()), tmp_path)
    assert decays(model, snippet(model.named_parameters())) == {"0.weight": pytest.approx(DECAY), "1.weight": 0.0}


def checkpointed(model: nn.Module) -> nn.Module:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model.layers[1] = checkpoint_wrapper(model.layers[1])  # type: ignore[index, operator, union-attr]
    return model


def partly_compiled(model: nn.Module) -> nn.Module:
    model.layers[0] = torch.compile(model.layers[0], backend="eager")  # type: ignore[index, operator, union-attr]
    return model


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DataParallel": nn.DataParallel,
    "compile": lambda model: torch.compile(model, backend="eager"),  # type: ignore[return-value]
    "compiled DataParallel": lambda model: torch.compile(nn.DataParallel(model), backend="eager"),  # type: ignore[return-value]
    "DataParallel of what is compiled": lambda model: nn.DataParallel(torch.compile(model, backend="eager")),  # type: ignore[arg-type]
    "checkpoint_wrapper": checkpointed,
    "compiled in part": partly_compiled,
    "none": lambda model: model,
}


@pytest.mark.parametrize("live", WRAPPERS)
@pytest.mark.parametrize("stored", WRAPPERS)
def test_names_fit_with_and_without_wrappers(live: str, stored: str, tmp_path: Path) -> None:
    groups = groups_of(tmp_path, WRAPPERS[stored](blocks(3)).state_dict())
    model = WRAPPERS[live](blocks(3))
    found = decays(model, snippet_of(groups, tmp_path)(model.named_parameters()))
    expected = decays(model, weightstats.parameter_groups(model, "fan-scaled", weight_decay=DECAY))
    assert found == pytest.approx(expected)


def test_a_part_of_the_network_that_is_called_module_is_no_wrapper(tmp_path: Path) -> None:
    model = nn.ModuleDict({"module": nn.Linear(3, 4), "weight": nn.Linear(4, 2)})
    groups = groups_of(tmp_path, model.state_dict())
    assert groups.dropped_from_names == ()
    for live in (model, nn.DataParallel(model)):
        found = decays(live, snippet_of(groups, tmp_path)(live.named_parameters()))
        assert sum(decay > 0.0 for decay in found.values()) == 2


@pytest.mark.parametrize(
    "other",
    [
        lambda: blocks(4),
        lambda: blocks(2),
        lambda: nn.Linear(3, 2),
        lambda: nn.DataParallel(nn.Linear(3, 2)),
        lambda: nn.ModuleDict({"model": blocks(3)}),
        nn.Module,
    ],
)
def test_another_network_is_refused(other: Callable[[], nn.Module], tmp_path: Path) -> None:
    snippet = snippet_of(groups_of(tmp_path, blocks(3).state_dict()), tmp_path)
    with pytest.raises(ValueError, match="not the network of the checkpoint: its parameters do not fit"):
        snippet(other().named_parameters())


def test_the_plain_decay_can_be_changed_where_the_function_is_called(tmp_path: Path) -> None:
    model = network("mlp")
    snippet = snippet_of(groups_of(tmp_path, model.state_dict()), tmp_path)
    found = decays(model, snippet(model.named_parameters(), weight_decay=0.5))
    expected = decays(model, weightstats.parameter_groups(model, "fan-scaled", weight_decay=0.5))
    assert found == pytest.approx(expected)
    assert set(decays(model, snippet(model.named_parameters(), weight_decay=0.0)).values()) == {0.0}


def test_a_file_of_another_framework_is_said_to_have_names_of_its_own() -> None:
    groups = make_groups(weightstats.inspect(str(FIXTURES / "trained/mlp-64-final.pt")), "plain", DECAY)
    assert "a torch module may have others" not in groups_text.as_torch(groups)
    assert "a torch module may have others" in groups_text.as_torch(replace(groups, format="GGUF"))
    assert set(groups_text.TORCH_FORMATS) - {"torch module"} <= {reader.FORMAT for reader in formats()}


def test_many_weights_without_decay_are_counted(tmp_path: Path) -> None:
    saved = {f"layer{index}.weight": torch.zeros(3, 4) for index in range(50)}
    text = groups_text.as_torch(groups_of(tmp_path, saved))
    assert "#   layer19.weight: it has no decay multiplier" in text
    assert "layer20" not in text
    assert "#   and 30 more, which --as json lists\n" in text


# names are data

MARK = "weightstats_was_injected"

EVIL = (
    f"'] = 0; import sys; sys.{MARK} = 1  #",
    f'"] = 0; import sys; sys.{MARK} = 1  #',
    f"'''\nimport sys; sys.{MARK} = 1\n'''.weight",
    f'"""\nimport sys; sys.{MARK} = 1\n""".weight',
    f"a.weight\rimport sys; sys.{MARK} = 1",
    f"\x0c\x0bimport sys; sys.{MARK} = 1\x85\u2028\u2029",
    f"a\\\nimport sys; sys.{MARK} = 1",
    "ends with a backslash\\",
    "\\'",
    '\\"',
    "{NAMES} {DECAY} {WRAPPERS}",
    "%s {0} {missing[:3]} \\1 \\g<0>",
    "null\x00byte",
    "\u202eright-to-left",
    "lone \udc80 surrogate",
    "漢字" * 50,
    "+AAo-import sys+AAo-",
    "coding: utf-7",
    "# -*- coding: utf-7 -*-",
    "x" * 10_000,
)


def shape_of(text: str) -> str:
    """The code without its tables, which must be literals."""
    tree = ast.parse(text)
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    for node in function.body[1:4]:
        assert isinstance(node, ast.Assign)
        ast.literal_eval(node.value)
        node.value = ast.Constant(None)
    return ast.dump(tree)


@pytest.mark.parametrize("where", ["layers", "tied", "left out", "pattern"])
def test_a_hostile_name_is_a_name_and_no_code(where: str, tmp_path: Path) -> None:
    benign = groups_text.as_torch(groups_of(tmp_path, {"a": torch.randn(3, 4)}))
    shared = torch.randn(3, 4)
    saved: dict[str, torch.Tensor] = {"first.weight": shared}
    for name in EVIL:
        names = [f"{name}.0.weight", f"{name}.1.weight"] if where == "pattern" else [name]
        saved |= {each: shared if where == "tied" else torch.randn(3, 4) for each in names}
    excluded = {"include": ["first.weight"]} if where == "left out" else {}
    groups = groups_of(tmp_path, saved, **excluded)
    text = groups_text.as_torch(groups)
    assert text.isascii()
    assert set(text) <= set(map(chr, range(32, 127))) | {"\n"}
    assert shape_of(text) == shape_of(benign)
    parameters = [(name, nn.Parameter(tensor)) for name, tensor in saved.items()]
    made = snippet_of(groups, tmp_path)(parameters)
    assert not hasattr(sys, MARK)
    decayed = {id(one) for group in made if group["weight_decay"] for one in group["params"]}
    expected = parameters[:1] if where in ("tied", "left out") else parameters
    assert decayed == {id(parameter) for _, parameter in expected}
    assert sum(len(group["params"]) for group in made) == len(saved)


@pytest.mark.parametrize(
    "name",
    [f"\nimport sys; sys.{MARK} = 1\n#.pt", "# coding: utf-7 +AAo-import sys.pt", "\r\x0c\x85\u2028x.pt", "a\\\n.pt"],
)
def test_a_hostile_path_is_a_comment(name: str, tmp_path: Path) -> None:
    groups = make_groups(report_of(tmp_path, {"a": torch.randn(3, 4)}, name=name), "plain", DECAY)
    text = groups_text.as_torch(groups)
    assert text.isascii()
    assert shape_of(text) == shape_of(groups_text.as_torch(groups_of(tmp_path, {"a": torch.randn(3, 4)}, "plain")))
    snippet_of(groups, tmp_path)([("a", nn.Parameter(torch.zeros(3, 4)))])
    assert not hasattr(sys, MARK)
    assert all("coding" not in line for line in text.splitlines()[:2])  # where Python looks for it


# the command


def test_json_has_the_schema_and_is_strict(tmp_path: Path) -> None:
    torch.save(blocks(12).state_dict(), tmp_path / "model.pt")
    done = run("groups", tmp_path / "model.pt", "--as", "json", "--weight-decay", "0.03", "--penalty", "per-element")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout, parse_constant=pytest.fail)
    assert found["schema"] == "weightstats/groups/1"
    assert (found["penalty"], found["weight_decay"], found["equal_total"]) == ("per_element", 0.03, True)
    assert found["equal_total_lambda"]["plain"] == 0.015
    assert found["penalty_lambda"] == found["equal_total_lambda"]["per_element"]
    embedding, layers = found["groups"]
    assert embedding["names"] == [{"name": "embedding.weight", "tied_to": ["head.weight"]}]
    assert layers["patterns"] == [
        {"pattern": "layers.*.up.weight", "parameters": 12},
        {"pattern": "layers.*.down.weight", "parameters": 12},
    ]
    assert layers["weight_decay"] == 0.03 * layers["decay_multiplier"]
    assert (found["left_out"], found["dropped_from_names"]) == ([], [])


def test_what_the_command_prints_is_the_function(tmp_path: Path) -> None:
    path = FIXTURES / "trained/mlp-64-final.pt"
    done = run("groups", path, "--penalty", "fan-scaled", "--weight-decay", str(DECAY))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == groups_text.as_torch(make_groups(weightstats.inspect(str(path)), "fan_scaled", DECAY))
    run("groups", path, "--weight-decay", str(DECAY), "--output", tmp_path / "groups.py")
    assert (tmp_path / "groups.py").read_text(encoding="utf-8") == done.stdout


def test_raw_is_the_factor_itself() -> None:
    path = FIXTURES / "trained/mlp-64-final.pt"
    found = json.loads(run("groups", path, "--raw", "--as", "json", "--weight-decay", "1").stdout)
    multipliers = [group["decay_multiplier"] for group in found["groups"]]
    sizes = [(64, 64), (64, 128), (128, 32), (32, 32), (32, 10)]
    assert multipliers == pytest.approx([(n_in + n_out) / (n_in * n_out) for n_in, n_out in sizes])
    assert found["penalty_lambda"] == 0.5


def test_layers_are_chosen_as_in_a_report() -> None:
    path = FIXTURES / "trained/lstm-final.pt"
    found = json.loads(run("groups", path, "--as", "json", "--include", "head.*").stdout)
    assert [name["name"] for group in found["groups"] for name in group["names"]] == ["head.weight"]
    assert len(found["left_out"]) == 16
    done = run("groups", path, "--exclude", "*[cell]")
    assert (done.returncode, done.stdout) == (2, "")
    assert "has one decay for all its maps" in done.stderr
    stored = json.loads(run("groups", path, "--as", "json", "--as-stored", "--raw").stdout)
    assert stored["groups"][0]["decay_multiplier"] == pytest.approx((8 + 128) / (8 * 128))


def test_a_damaged_file_is_reported_with_what_can_be_read(tmp_path: Path) -> None:
    content = (FIXTURES / "trained/lstm-final.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(content[:-100])
    done = run("groups", tmp_path / "model.pt", "--as", "json")
    assert done.returncode == 3
    assert [entry["name"] for entry in json.loads(done.stdout)["left_out"]]
    assert run("groups", tmp_path / "nothing.pt").returncode == 3


def test_neither_torch_nor_scipy_stats_is_imported() -> None:
    code = (
        "import sys\nfrom weightstats.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.exit(str(sorted({'torch', 'scipy.stats', 'pandas'} & set(sys.modules))))"
    )
    arguments = ["groups", str(FIXTURES / "made/law.safetensors")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def test_the_penalties_of_the_command_are_those_there_are() -> None:
    from weightstats.commands.groups import PENALTY_NAMES

    assert tuple(map(penalty_named, PENALTY_NAMES)) == PENALTIES
