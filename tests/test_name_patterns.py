"""Names that differ in their numbers become patterns, where these match nothing else."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weightstats import name_patterns
from weightstats.name_patterns import folded


def globs(group: list[str], *others: str) -> list[str]:
    return [pattern.glob for pattern in folded([group], {*group, *others})[0]]


UP = [f"layers.{index}.mlp.up.weight" for index in range(12)]


def test_numbered_blocks_are_one_pattern() -> None:
    (pattern,) = folded([UP], set(UP))[0]
    assert (pattern.glob, pattern.names) == ("layers.*.mlp.up.weight", tuple(UP))


def test_several_numbers_are_several_wildcards() -> None:
    names = [f"{block}.experts.{expert}.w1" for block in range(2) for expert in range(3)]
    assert globs(names, "0.experts.gate", "2.attention.w1") == ["*.experts.*.w1"]


@pytest.mark.parametrize(
    "other",
    [
        "layers.12.mlp.up.weight",  # of another decay, or no layer
        "layers.0.adapter.mlp.up.weight",
        "layers.final.mlp.up.weight",
        "layers.*.mlp.up.weight",
        "layers.0123456789.mlp.up.weight",
        f"layers.{'x' * 1000}.mlp.up.weight",
        "layers.\n.mlp.up.weight",
    ],
)
def test_a_pattern_that_would_match_another_tensor_is_none(other: str) -> None:
    assert globs(UP, other) == []


@pytest.mark.parametrize(
    "other", ["layers.0.mlp.up.bias", "layers.mlp.up.weight", "xlayers.0.mlp.up.weight", "layers.0.mlp.up.weight.0"]
)
def test_tensors_that_it_does_not_match_do_not_matter(other: str) -> None:
    assert globs(UP, other) == ["layers.*.mlp.up.weight"]


def test_one_name_is_no_pattern() -> None:
    assert globs(["layers.0.weight", "head.weight"]) == []


def test_numbers_within_a_word_are_part_of_it() -> None:
    assert globs(["fc1.weight", "fc2.weight", "l.w_0", "l.w_1"]) == []


@pytest.mark.parametrize("special", ["*", "?", "[0]", "]"])
def test_names_with_wildcards_are_left_as_they_are(special: str) -> None:
    assert globs([f"a{special}.0.w", f"a{special}.1.w"]) == []


def test_each_group_has_its_own_patterns() -> None:
    down = [name.replace("up", "down") for name in UP]
    found = folded([UP, down, ["head"]], {*UP, *down, "head"})
    assert [[pattern.glob for pattern in patterns] for patterns in found] == [
        ["layers.*.mlp.up.weight"],
        ["layers.*.mlp.down.weight"],
        [],
    ]


def test_what_takes_too_long_to_check_is_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    long = [f"blocks.{index}.weight" for index in range(100)]
    monkeypatch.setattr(name_patterns, "MOST_STEPS", 2000)
    assert globs([*UP, *long]) == ["blocks.*.weight"]  # the one that saves most is tried first
    monkeypatch.setattr(name_patterns, "MOST_STEPS", 100)
    assert globs([*UP, *long]) == []


words = st.lists(st.sampled_from(["a", "b", "0", "1", "02", "x3", "*", "[1]", "?"]), min_size=1, max_size=4)


@settings(deadline=None, max_examples=300)
@given(names=st.lists(words.map(".".join), unique=True, max_size=25), choice=st.randoms(use_true_random=False))
def test_every_pattern_matches_its_own_names_and_no_others(names: list[str], choice: object) -> None:
    groups: list[list[str]] = [[], [], []]
    for name in names:
        groups[choice.randrange(3)].append(name)  # type: ignore[attr-defined]
    for group, patterns in zip(groups, folded(groups[:2], set(names)), strict=False):
        for pattern in patterns:
            assert set(pattern.names) <= set(group)
            assert {name for name in names if fnmatchcase(name, pattern.glob)} == set(pattern.names)
            assert len(pattern.names) > 1
