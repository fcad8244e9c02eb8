"""Which layers of two networks belong together, by names, shapes and what their dimensions count."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from builders import described_tensor

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.layers import classify
from weightstats.matching import Candidate, Matching, match_layers
from weightstats.network import find_network
from weightstats.tensors import Use


def candidate(
    shapes: dict[str, tuple[int, ...]],
    axes: str = "",
    format_: str = "torch zip",
    unread: Sequence[Unread] = (),
) -> Candidate:
    """A network of these layers, whose file says what their dimensions count."""
    use = Use("linear", axes, "as the test says") if axes else None
    tensors = [replace(described_tensor((name,), shape), use=use) for name, shape in shapes.items()]
    network = find_network(Checkpoint("here", format_, 1 << 30, tuple(tensors), tuple(unread)))
    return Candidate(network, classify(network), unread, format_)


def orders(matching: Matching) -> list[tuple[int, ...]]:
    return [matched.pair.order for matched in matching.matched]


@pytest.mark.parametrize(
    ("before", "after", "shapes", "formats", "order"),
    [
        ("OI", "OI", ((4, 6), (4, 6)), ("a", "b"), (0, 1)),
        ("OI", "IO", ((4, 6), (6, 4)), ("a", "a"), (1, 0)),
        ("OI", "IO", ((4, 4), (4, 4)), ("a", "b"), (1, 0)),
        ("OI", "IO", ((4, 4), (4, 4)), ("a", "a"), (0, 1)),  # one writer has one order
        ("OIKK", "KKIO", ((4, 6, 3, 5), (3, 5, 6, 4)), ("a", "b"), (3, 2, 0, 1)),
        ("OIK", "OI", ((4, 6, 1), (4, 6)), ("a", "b"), (0, 1)),
        ("IO", "OIK", ((6, 4), (4, 6, 1)), ("a", "b"), (1, 0, 2)),
    ],
)
def test_dimensions_are_matched_by_what_they_count(
    before: str, after: str, shapes: tuple[tuple[int, ...], ...], formats: tuple[str, str], order: tuple[int, ...]
) -> None:
    matching = match_layers(
        candidate({"fc.weight": shapes[0]}, before, formats[0]), candidate({"fc.weight": shapes[1]}, after, formats[1])
    )
    assert orders(matching) == [order]


@pytest.mark.parametrize(
    ("before", "after"), [((4, 6), (6, 4)), ((4, 6), (4, 7)), ((4, 6), (24, 1)), ((4, 6), (2, 2, 6))]
)
def test_other_sizes_are_no_match(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    matching = match_layers(candidate({"fc.weight": before}), candidate({"fc.weight": after}))
    assert matching.matched == ()
    shapes = ["×".join(map(str, shape)) for shape in (before, after)]
    assert [one.reason for one in matching.unmatched] == [f"its shape is {shapes[0]} before and {shapes[1]} after"]


def test_layers_are_in_the_order_of_the_first_network() -> None:
    before = candidate({"b.weight": (3, 4), "a.weight": (5, 6), "c.weight": (7, 8)})
    after = candidate({"a.weight": (5, 6), "c.weight": (7, 8), "b.weight": (3, 4)})
    assert [matched.before.name for matched in match_layers(before, after).matched] == [
        *("b.weight", "a.weight", "c.weight")
    ]


def test_two_prefixes_are_exchanged_for_three_layers_and_not_for_two() -> None:
    sizes = {"1.weight": (3, 4), "2.weight": (5, 6), "3.weight": (7, 8)}
    for count in (2, 3):
        names = list(sizes)[:count]
        before = candidate({f"left.{name}": sizes[name] for name in names})
        after = candidate({f"right.{name}": sizes[name] for name in names})
        matching = match_layers(before, after)
        assert len(matching.matched) == (count if count == 3 else 0)


def test_prefixes_are_exchanged_for_layers_of_one_size_alone() -> None:
    before = candidate({f"left.{index}.weight": (3 + index, 4) for index in range(5)})
    after = candidate({f"right.{index}.weight": (3, 9 + index) for index in range(5)})
    assert match_layers(before, after).prefixes == ("", "")


def test_a_prefix_is_quoted_so_that_no_terminal_acts_on_it() -> None:
    before = candidate({f"\x1b[31m.{index}.weight": (3 + index, 4) for index in range(3)})
    after = candidate({f"{index}.weight": (3 + index, 4) for index in range(3)})
    assert match_layers(before, after).because == r"by their names, less '\x1b[31m.' at the start of those before"


def test_many_layers_that_have_no_partner_take_no_time_for_each_other() -> None:
    before = candidate({f"left.{index}.a.weight": (2, 3) for index in range(4000)})
    after = candidate({f"right.{index}.b.weight": (2, 3) for index in range(4000)})
    matching = match_layers(before, after)
    assert len(matching.unmatched) == 8000
