"""The user's rules: what a file of them may say, and that they have the last word."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import by_name, described_tensor, random_tensors, report_of
from test_cli import run

from weightstats.checkpoint import Checkpoint
from weightstats.errors import UsageError
from weightstats.layers import Layer, Other, classify
from weightstats.network import find_network
from weightstats.report import LayerRow, Report
from weightstats.rules import Rules, make_rules, matches, parse_rules, rules_from

THIRDS = ["q", "k", "v"]


def written(folder: Path, text: str) -> Path:
    path = folder / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return path


def rules_of(*tables: dict[str, Any]) -> Rules:
    return make_rules(tables, "the rules given")


def ruled(folder: Path, shapes: dict[str, tuple[int, ...]], *tables: dict[str, Any], **options: Any) -> Report:
    """The report on random tensors with these rules."""
    return report_of(folder, random_tensors(shapes), rules=tables, **options)


def layer(folder: Path, shape: tuple[int, ...], name: str = "w.weight", **said: Any) -> LayerRow:
    """The one layer that a rule makes of a tensor."""
    (row,) = ruled(folder, {name: shape}, {"match": name, **said}).layers
    return row


def fans(report: Report) -> dict[str, tuple[int, int]]:
    return {row.name: (row.n_in, row.n_out) for row in report.layers}


def refusal(folder: Path, shapes: dict[str, tuple[int, ...]], **said: Any) -> str:
    with pytest.raises(UsageError) as caught:
        ruled(folder, shapes, {"match": "w*", **said})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_of_rules_is_read(tmp_path: Path) -> None:
    text = (
        '[[rule]]\nmatch = "a.*"\nkind = "linear"\n\n# more\n[[rule]]\nmatch = "b"\nsplit = {q = 4, kv = 2}\naxis = 1\n'
    )
    first, second = parse_rules(written(tmp_path, text)).rules
    assert (first.label, first.match, first.kind) == ("rule 1 of rules.toml (line 1)", "a.*", "linear")
    assert (second.label, second.split, second.axis) == ("rule 2 of rules.toml (line 6)", (("q", 4), ("kv", 2)), 1)


def test_no_line_is_named_where_it_is_not_certain(tmp_path: Path) -> None:
    (rule,) = parse_rules(written(tmp_path, 'rule = [{match = "a", fit = false}]')).rules
    assert rule.label == "rule 1 of rules.toml"


def test_a_line_in_a_text_is_not_taken_for_a_rule(tmp_path: Path) -> None:
    (rule,) = parse_rules(written(tmp_path, "[[rule]]\nfit = true\nmatch = '''\n[[rule]]'''")).rules
    assert rule.label == "rule 1 of rules.toml"


def test_thirds_of_the_outputs(tmp_path: Path) -> None:
    report = ruled(tmp_path, {"w.weight": (12, 5)}, {"match": "w.weight", "split": THIRDS})
    assert fans(report) == {f"w.weight[{part}]": (5, 4) for part in THIRDS}
    assert [row.shape for row in report.layers] == [(4, 5)] * 3
    assert {row.part_of for row in report.layers} == {"w.weight"}
    assert {row.fans_from for row in report.layers} == {"rule"}
    assert report.layers[0].kind_because.startswith("rule 1 of the rules given: match 'w.weight'")


def test_parts_are_measured_where_they_lie(tmp_path: Path) -> None:
    tensor = torch.arange(1.0, 61.0).reshape(5, 12)
    said = [{"match": "w", "kind": "linear", "split": {"q": 6, "k": 2, "v": 4}, "axis": 1}]
    rows = by_name(report_of(tmp_path, {"w": tensor}, rules=said).layers)
    assert {name: (row.n_in, row.n_out) for name, row in rows.items()} == {
        "w[q]": (5, 6),
        "w[k]": (5, 2),
        "w[v]": (5, 4),
    }
    for part, columns in {"q": slice(0, 6), "k": slice(6, 8), "v": slice(8, 12)}.items():
        assert rows[f"w[{part}]"].mean_square == pytest.approx(tensor[:, columns].square().mean().item(), rel=1e-6)


def test_fans_that_a_rule_gives_are_those_of_each_part(tmp_path: Path) -> None:
    report = ruled(tmp_path, {"w": (12, 5)}, {"match": "w", "split": THIRDS, "n_in": 7, "n_out": 11})
    assert set(fans(report).values()) == {(7, 11)}


def test_a_number_of_parts_is_a_stack(tmp_path: Path) -> None:
    report = ruled(tmp_path, {"experts": (3, 4, 5)}, {"match": "experts", "kind": "linear", "split": 3, "axis": 0})
    assert fans(report) == {f"experts[{index}]": (5, 4) for index in range(3)}


def test_an_empty_split_keeps_a_fused_weight_whole(tmp_path: Path) -> None:
    shapes = {"lstm.weight_ih_l0": (12, 5), "lstm.weight_hh_l0": (12, 3)}
    assert len(ruled(tmp_path, shapes).layers) == 8
    report = ruled(tmp_path, shapes, {"match": "*_ih_l0", "split": []})
    assert fans(report)["lstm.weight_ih_l0"] == (5, 12)
    assert len(report.layers) == 5


def test_another_kind_is_one_map_unless_the_rule_splits_it(tmp_path: Path) -> None:
    shapes = {"lstm.weight_ih_l0": (12, 5), "lstm.weight_hh_l0": (12, 3), "conv.weight": (6, 5, 3)}
    report = ruled(tmp_path, shapes, {"match": "*_ih_l0", "kind": "linear"}, {"match": "conv.*", "kind": "linear"})
    assert fans(report)["lstm.weight_ih_l0"] == (5, 12)
    assert fans(report)["conv.weight"] == (3, 5)


def test_a_rule_splits_into_parts_of_a_few_elements(tmp_path: Path) -> None:
    assert len(ruled(tmp_path, {"w": (100, 2)}, {"match": "w", "split": 100}).layers) == 100


def test_a_rule_splits_although_all_is_taken_as_stored(tmp_path: Path) -> None:
    shapes = {"a.weight": (12, 5), "lstm.weight_ih_l0": (12, 5), "lstm.weight_hh_l0": (12, 3)}
    report = ruled(tmp_path, shapes, {"match": "a.weight", "split": THIRDS}, as_stored=True)
    assert len(report.layers) == 5


def test_what_a_rule_does_not_say_is_kept_as_it_was_found(tmp_path: Path) -> None:
    (found,) = ruled(tmp_path, {"w.weight": (6, 5, 3, 3)}).layers
    row = layer(tmp_path, (6, 5, 3, 3), n_in=9)
    assert (row.kind, row.n_in, row.n_out) == (found.kind, 9, found.n_out)


def test_parts_that_were_found_are_kept_and_have_the_fans_of_the_rule(tmp_path: Path) -> None:
    shapes = {"lstm.weight_ih_l0": (12, 5), "lstm.weight_hh_l0": (12, 3)}
    report = ruled(tmp_path, shapes, {"match": "*_ih_l0", "n_in": 9})
    assert [found for name, found in fans(report).items() if "_ih_" in name] == [(9, 3)] * 4


@pytest.mark.parametrize(
    ("shape", "said", "expected"),
    [
        ((8, 6), {"kind": "linear", "transposed": True}, ("linear", 8, 6)),
        ((8, 6), {"kind": "embedding"}, ("embedding", 8, 6)),
        ((8, 6), {"kind": "gating"}, ("gating", 6, 8)),
        ((4, 8, 6), {"kind": "bilinear"}, ("bilinear", 48, 4)),
        ((8, 2, 3, 3), {"groups": 2}, ("conv2d", 18, 36)),
        ((8, 1, 3, 3), {"kind": "depthwise_conv2d"}, ("depthwise_conv2d", 9, 9)),
        ((8, 1, 3, 3), {"kind": "depthwise_conv2d", "groups": 4}, ("depthwise_conv2d", 9, 18)),
        ((8, 6, 5), {"kind": "conv_transpose1d"}, ("conv_transpose1d", 40, 30)),
        ((8, 6, 5), {"kind": "conv_transpose1d", "groups": 2}, ("conv_transpose1d", 20, 30)),
        ((8, 6, 5), {"kind": "conv_transpose1d", "transposed": False}, ("conv_transpose1d", 30, 40)),
        ((8, 6, 5), {"kind": "conv1d", "transposed": True}, ("conv1d", 40, 30)),
        ((2, 3, 4, 5), {"kind": "linear", "n_in": 6, "n_out": 20}, ("linear", 6, 20)),
    ],
)
def test_fans_follow_from_the_kind_and_the_shape(
    shape: tuple[int, ...], said: dict[str, Any], expected: tuple[str, int, int], tmp_path: Path
) -> None:
    row = layer(tmp_path, shape, **said)
    assert (row.kind, row.n_in, row.n_out) == expected


def test_groups_agree_with_torch(tmp_path: Path) -> None:
    module = torch.nn.Conv2d(8, 12, 3, groups=4)
    report = report_of(tmp_path, {"c.weight": module.weight.detach()}, rules=[{"match": "c.weight", "groups": 4}])
    assert fans(report) == {"c.weight": (8 // 4 * 9, 12 // 4 * 9)}


def test_groups_that_were_found_are_kept(tmp_path: Path) -> None:
    row = layer(tmp_path, (8, 1, 3, 3), "conv_dw.weight", transposed=False)
    assert (row.kind, row.n_in, row.n_out) == ("depthwise_conv2d", 9, 9)


def test_a_kernel_keeps_its_channels_last(tmp_path: Path) -> None:
    row = layer(tmp_path, (3, 3, 5, 6), "c.kernel", kind="conv2d")
    assert (row.n_in, row.n_out) == (45, 54)
    row = layer(tmp_path, (3, 3, 5, 6), "c.kernel", kind="conv_transpose2d")
    assert (row.n_in, row.n_out) == (54, 45)


def test_what_was_no_layer_becomes_one_by_its_kind(tmp_path: Path) -> None:
    shapes = {"a.stft.weight": (8, 6), "a.bias": (8,)}
    assert not ruled(tmp_path, shapes).layers
    report = ruled(tmp_path, shapes, {"match": "*.stft.weight", "kind": "linear"})
    assert fans(report) == {"a.stft.weight": (6, 8)}
    assert report.fit.layers == 1


def test_fans_alone_make_no_layer_of_a_bias(tmp_path: Path) -> None:
    report = ruled(tmp_path, {"a.weight": (8, 6), "a.bias": (8,)}, {"match": "a.*", "n_in": 3})
    assert fans(report) == {"a.weight": (3, 8)}
    assert [row.name for row in report.others] == ["a.bias"]


def test_an_embedding_that_a_rule_calls_linear_is_fitted(tmp_path: Path) -> None:
    row = layer(tmp_path, (9, 4), "embed.weight", kind="linear")
    assert (row.n_in, row.n_out, row.fitted) == (4, 9, True)


def test_a_layer_that_a_rule_leaves_out_of_the_fit(tmp_path: Path) -> None:
    (found,) = ruled(tmp_path, {"w.weight": (6, 5)}).layers
    row = layer(tmp_path, (6, 5), fit=False)
    assert not row.fitted
    assert row.left_out_because == "left out by rule 1 of the rules given: match 'w.weight'"
    assert row.fans_from == found.fans_from
    assert row.kind_because == found.kind_because


def test_a_rule_has_an_embedding_fitted(tmp_path: Path) -> None:
    assert layer(tmp_path, (9, 4), "embed.weight", fit=True).fitted


def test_a_tensor_that_is_ignored_is_listed_with_the_rule(tmp_path: Path) -> None:
    report = ruled(tmp_path, {"a.masks": (6, 5), "w.weight": (6, 5)}, {"match": "*.masks", "ignore": True})
    (other,) = report.others
    assert (other.name, other.kind) == ("a.masks", "ignored")
    assert other.reason == "ignored by rule 1 of the rules given: match '*.masks'"


def test_scale_free_by_a_rule(tmp_path: Path) -> None:
    shapes = {"a.weight": (6, 5), "b.weight": (7, 5), "c.weight": (9, 5)}
    report = ruled(tmp_path, shapes, {"match": "a.*", "scale_free": True})
    assert [row.scale_free for row in report.layers] == [True, False, False]
    assert report.layers[0].scale_free_because == "rule 1 of the rules given: match 'a.*'"
    assert report.fit_without_scale_free is not None
    assert report.fit_without_scale_free.layers == 2


def test_the_first_rule_that_matches_decides_alone(tmp_path: Path) -> None:
    said = [{"match": "a.*", "n_in": 3}, {"match": "*", "n_in": 4, "n_out": 4}]
    assert fans(ruled(tmp_path, {"a.weight": (6, 5), "b.weight": (6, 5)}, *said)) == {
        "a.weight": (3, 6),
        "b.weight": (4, 4),
    }


@pytest.mark.parametrize("first", ["a.weight", "a.*"])
def test_of_a_name_and_a_glob_the_first_decides(first: str) -> None:
    second = {"a.weight": "a.*", "a.*": "a.weight"}[first]
    rule = rules_of({"match": first, "fit": False}, {"match": second, "fit": True}).rule_for("a.weight")
    assert rule is not None
    assert rule.fit is False


def test_of_two_rules_for_one_name_the_first_decides() -> None:
    rule = rules_of({"match": "a", "fit": False}, {"match": "a", "fit": True}).rule_for("a")
    assert rule is not None
    assert rule.fit is False


def test_globs_match_whole_names_and_their_case() -> None:
    rules = rules_of({"match": "a?.*.weight", "fit": False})
    assert rules.rule_for("a1.b.c.weight") is not None
    assert [rules.rule_for(name) for name in ("xa1.b.weight", "a1.b.weight.x", "A1.b.weight", "a.weight\n")] == [
        None
    ] * 4


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*.in_proj_weight[q]", "attn.in_proj_weight[q]", True),
        ("*.in_proj_weight[q]", "attn.in_proj_weight[k]", False),
        ("layers.[01].*", "layers.1.weight", True),
        ("*[3,up]", "experts[3,up]", True),
    ],
)
def test_brackets_are_a_class_or_themselves(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


def test_parts_are_selected_by_their_own_name_or_by_that_of_the_whole(tmp_path: Path) -> None:
    shapes = {"w": (12, 5), "u": (3, 5)}
    said = {"match": "w", "split": THIRDS}
    assert list(fans(ruled(tmp_path, shapes, said, include=["w[k]"]))) == ["w[k]"]
    assert list(fans(ruled(tmp_path, shapes, said, include=["w"]))) == ["w[q]", "w[k]", "w[v]"]
    assert list(fans(ruled(tmp_path, shapes, said, exclude=["w"]))) == ["u"]
    report = ruled(tmp_path, shapes, said, exclude=["*[q]"])
    assert list(fans(report)) == ["w[k]", "w[v]", "u"]
    assert [row.name for row in report.others] == ["w[q]"]


@pytest.mark.parametrize("exclude", [[], ["w[q]"], ["w"], ["u"]])
def test_stored_tensors_are_counted_once_whatever_is_left_out(exclude: list[str], tmp_path: Path) -> None:
    report = ruled(tmp_path, {"w": (12, 5), "u": (3, 5)}, {"match": "w", "split": THIRDS}, exclude=exclude)
    tally = report.accounting
    assert tally.stored.tensors == tally.layers.tensors + tally.others.tensors == 2
    assert tally.stored.elements == tally.layers.elements + tally.others.elements == 75
    assert report.checkpoint.parameters == 75


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"split": ["a", "b"]}, "has 9 in dimension 0, which are not 2 equal parts"),
        ({"split": {"a": 4, "b": 4}}, "has 9 in dimension 0, and the sizes in split add up to 8"),
        ({"split": THIRDS, "axis": 2}, "has the shape 9×5, and no dimension 2"),
        ({"split": THIRDS, "axis": 0, "transposed": True}, "has its inputs in dimension 0, and split cuts the outputs"),
        ({"groups": 2}, "has 9 outputs, which are not 2 groups"),
        ({"kind": "conv2d"}, "has the shape 9×5, from which the fans of 'conv2d' do not follow: the rule must give"),
    ],
)
def test_a_rule_that_does_not_fit_names_the_tensor(said: dict[str, Any], why: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, {"w.weight": (9, 5)}, **said)
    assert message.startswith("rule 1 of the rules given: match 'w*': the tensor w.weight ")
    assert why in message


def test_integers_cannot_become_a_layer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the tensor codes is stored as I8, and only floating-point numbers can be"):
        report_of(tmp_path, {"codes": torch.ones(4, 4, dtype=torch.int8)}, rules=[{"match": "codes", "kind": "linear"}])


def test_a_tensor_without_elements_stays_one(tmp_path: Path) -> None:
    report = ruled(tmp_path, {"w": (0, 5), "u": (3, 5)}, {"match": "w", "kind": "linear"})
    assert [(row.name, row.kind) for row in report.others] == [("w", "empty")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[rule]\n", "not valid TOML: "),
        ("\x00", "not valid TOML: "),
        ("", "holds [[rule]] tables, and there is none"),
        ("rule = 3", "holds [[rule]] tables, and there is none"),
        ("rules = []", "unknown key 'rules'"),
        ("[rule]\nmatch = 'a'", "holds [[rule]] tables, and there is none"),
        ("[[rule]]\nfit = true", "rule 1 of rules.toml (line 1): it has no match"),
        ("[[rule]]\nmatch = ''\nfit = true", "rule 1 of rules.toml (line 1): match must be text, not ''"),
        ("[[rule]]\nmatch = 'a'", "(line 1): it says nothing of the tensors"),
        ("[[rule]]\nmatch = 'a'\nkinds = 'x'", "(line 1): unknown key 'kinds'; there are match, kind, "),
        ("[[rule]]\nmatch = 'a'\nkind = 3", "(line 1): kind must be text, not 3"),
        ("[[rule]]\nmatch = 'a'\nn_in = 0", "n_in must be a whole number from 1 on, not 0"),
        ("[[rule]]\nmatch = 'a'\nn_in = true", "n_in must be a whole number from 1 on, not True"),
        ("[[rule]]\nmatch = 'a'\nn_in = 1.5", "n_in must be a whole number from 1 on, not 1.5"),
        ("[[rule]]\nmatch = 'a'\nfit = 1", "fit must be true or false, not 1"),
        ("[[rule]]\nmatch = 'a'\naxis = 1", "axis says what split cuts, and there is no split"),
        ("[[rule]]\nmatch = 'a'\naxis = -1\nsplit = 2", "axis must be a whole number from 0 on, not -1"),
        ("[[rule]]\nmatch = 'a'\nignore = true\nkind = 'x'", "ignore stands alone beside match"),
        ("[[rule]]\nmatch = 'a'\nsplit = 'qkv'", "split must be a list of names, a table of sizes, or a number"),
        ("[[rule]]\nmatch = 'a'\nsplit = ['q', 'q']", "the names in split must be different texts"),
        ("[[rule]]\nmatch = 'a'\nsplit = ['q', 3]", "the names in split must be different texts"),
        ("[[rule]]\nmatch = 'a'\nsplit = {q = 0}", "the size of 'q' in split must be a whole number from 1 on, not 0"),
        ("[[rule]]\nmatch = 'a'\nsplit = 0", "split makes 0 parts"),
        ("[[rule]]\nmatch = 'a'\nsplit = 99999999", "split makes 99,999,999 parts"),
        ("[[rule]]\nmatch = 'a'\nfit = true\n[[rule]]\nmatch = 'b'", "rule 2 of rules.toml (line 4): it says nothing"),
    ],
)
def test_what_is_wrong_with_a_file_of_rules(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        parse_rules(written(tmp_path, text))
    assert problem in str(caught.value)
    assert "rules.toml" in str(caught.value)
    assert str(caught.value).isprintable()


def test_bytes_that_are_no_text_are_no_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"rules\.toml: not valid TOML"):
        parse_rules(tmp_path / "rules.toml")


def test_a_nesting_that_is_too_deep_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not valid TOML"):
        parse_rules(written(tmp_path, "rule = " + "[" * 100_000))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: the rules cannot be read: No such file"):
        rules_from(str(tmp_path / "none.toml"))


def test_rules_without_effect_are_warned_of(tmp_path: Path) -> None:
    said = [{"match": "w*", "fit": False}, {"match": "w.weight", "fit": True}, {"match": "none", "fit": True}]
    report = ruled(tmp_path, {"w.weight": (6, 5)}, *said)
    assert [warning for warning in report.checkpoint.warnings if "rule" in warning] == [
        "rule 2 of the rules given: match 'w.weight' decides nothing: earlier rules match all its tensors",
        "rule 3 of the rules given: match 'none' decides nothing: no tensor of the network has such a name",
    ]


def test_a_rule_for_the_second_name_of_a_tensor_is_told_the_first(tmp_path: Path) -> None:
    shared = torch.randn(6, 5)
    report = report_of(tmp_path, {"a.weight": shared, "b.weight": shared}, rules=[{"match": "b.weight", "fit": False}])
    assert report.checkpoint.warnings == (
        "rule 1 of the rules given: match 'b.weight' decides nothing: the tensor is stored once, as a.weight",
    )


def test_names_beyond_the_tables_are_matched_whole() -> None:
    name = f"start.{'x' * 5_000}.weight"
    tensors = (described_tensor((name,), (4, 3)), described_tensor(("b.weight",), (4, 3)))
    network = find_network(Checkpoint("model", "made", 0, tensors))
    first, second = classify(network, rules=rules_of({"match": "start.*", "ignore": True}))
    assert isinstance(first, Other)
    assert isinstance(second, Layer)


def test_a_hundred_thousand_tensors_are_matched_with_one_pattern() -> None:
    rules = rules_of(*({"match": f"layers.{index}.*.weight", "n_in": index + 1} for index in range(100)))
    assert rules.wild is not None
    assert rules.wild.groups == 100
    found = [rules.rule_for(f"layers.{index % 200}.attn.weight") for index in range(100_000)]
    assert sum(rule is not None for rule in found) == 50_000
    assert all(rule is None or rule.n_in == index % 200 + 1 for index, rule in enumerate(found))


def test_the_command_takes_a_file_of_rules(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones((4, 3), np.float32))
    path = written(tmp_path, '[[rule]]\nmatch = "*"\nfit = false\n[[rule]]\nmatch = "none"\nfit = false\n')
    done = run("inspect", tmp_path / "w.npy", "--rules", path)
    assert done.returncode == 0
    assert "left out by rule 1 of rules.toml (line 1): match '*'" in " ".join(done.stdout.split())
    assert done.stderr.startswith("warning: rule 2 of rules.toml (line 4): match 'none' decides nothing")


def test_a_mistake_in_the_rules_is_a_usage_error_in_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones((4, 3), np.float32))
    path = written(tmp_path, '[[rule]]\nmatch = "*"\nfits = false\n')
    for command in ("inspect", "layers"):
        done = run(command, tmp_path / "w.npy", "--rules", path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("Error: rule 1 of rules.toml (line 1): unknown key 'fits'; ")
        assert done.stderr.count("\n") == 1
