"""Which layers of two networks are the same one, and what speaks against it where they are not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from weightstats.checkpoint import Unread
from weightstats.errors import quoted
from weightstats.layers import Layer, Other, layers_of
from weightstats.network import Network
from weightstats.pairs import Pair
from weightstats.tensors import Tensor

Side: TypeAlias = Literal["before", "after"]

MOST_PREFIX_PARTS = 8
"""Parts of a name, from its start, that may be a prefix which one of two networks has."""

FEWEST_WITH_PREFIX = 0.5
"""Share of the layers whose names start with such a prefix; some may lie outside of what it stands for."""

FEWEST_EXCHANGED = 3

BY_NAME = "by their names"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of two networks, as it was found before its weights are read."""

    network: Network
    items: Sequence[Layer | Other]
    unread: Sequence[Unread]
    format: str


@dataclass(frozen=True, slots=True)
class Matched:
    """A layer that is in both."""

    before: Layer
    after: Layer
    pair: Pair
    notes: tuple[str, ...]
    """What is not as plain as names and shapes: other names, dimensions in another order, adapters."""


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A layer that could not be compared."""

    name: str
    where: Side
    """In which of the two it is a layer under this name."""

    reason: str


@dataclass(frozen=True, slots=True)
class Matching:
    """The layers of two networks."""

    matched: tuple[Matched, ...]
    unmatched: tuple[Unmatched, ...]
    prefixes: tuple[str, str]
    """What the names before have at their start where those after have the other; both '' where names are the same."""

    @property
    def because(self) -> str:
        """How names were told to be the same."""
        before, after = self.prefixes
        if not before and not after:
            return BY_NAME
        if before and after:
            return f"{BY_NAME}, {quoted(before)} at the start of those before taken for {quoted(after)}"
        side, prefix = ("before", before) if before else ("after", after)
        return f"{BY_NAME}, less {quoted(prefix)} at the start of those {side}"


def match_layers(before: Candidate, after: Candidate) -> Matching:
    """The layers that are in both, in the order of the first network, and all others with a reason.

    Layers are matched by the name that tells what they are: that of the weight for what is kept in several tensors.
    Where more layers have one name if a common prefix is dropped or exchanged, that is done. A tied weight is one
    layer, whichever of its names it is counted under.
    """
    those_before, those_after = _names(before), _names(after)
    prefixes = _prefixes(those_before, those_after)
    there = {name: layer for layer in those_after.values() for name in layer.tied_to} | those_after
    absent = {"before": _Absences(before), "after": _Absences(after)}
    matched: list[Matched] = []
    unmatched: list[Unmatched] = []
    met: set[str] = set()
    for name, layer in those_before.items():
        own = _exchanged(name, prefixes)
        keys = (own, name, *(_exchanged(alias, prefixes) for alias in layer.tied_to))
        other = next((there[key] for key in keys if key in there and there[key].name not in met), None)
        outcome: Matched | str
        if other is None:
            outcome = absent["after"].reason(own, layer, "after")
        else:
            met.add(other.name)
            outcome = _matched(layer, other, before.format != after.format, prefixes)
        if isinstance(outcome, Matched):
            matched.append(outcome)
        elif outcome:
            unmatched.append(Unmatched(layer.name, "before", outcome))
    for name, layer in those_after.items():
        reason = absent["before"].reason(_exchanged(name, prefixes[::-1]), layer, "before")
        if layer.name not in met and reason:
            unmatched.append(Unmatched(layer.name, "after", reason))
    return Matching(tuple(matched), tuple(unmatched), prefixes)


def _names(side: Candidate) -> dict[str, Layer]:
    """The layers by the names that tell what they are."""
    telling = _telling(side)
    named: dict[str, Layer] = {}
    for layer in layers_of(side.items):
        stored = layer.part_of or layer.name
        name = telling.get(stored, stored) + layer.name.removeprefix(stored)
        named[layer.name if name in named else name] = layer
    return named


def _telling(side: Candidate) -> dict[str, str]:
    """The names of stored tensors for which others tell better what they are: `a.weight` for `a.qweight`."""
    taken = {named.name for named in side.network.tensors}
    telling = {named.name: named.known_as for named in side.network.tensors if named.known_as}
    return {name: known_as for name, known_as in telling.items() if known_as not in taken}


def _exchanged(name: str, prefixes: tuple[str, str]) -> str:
    """The name with the second prefix in place of the first."""
    return prefixes[1] + name.removeprefix(prefixes[0]) if name.startswith(prefixes[0]) else name


def _prefixes(before: Mapping[str, Layer], after: Mapping[str, Layer]) -> tuple[str, str]:
    """The prefixes of which exchanging one for the other gives most names that are in both, of layers of one size; none
    where that gives no more than the names as they are.

    Where there are two, they may well stand for different things: at least FEWEST_EXCHANGED layers must fit.
    """

    def count(prefixes: tuple[str, str]) -> int:
        pairs = ((layer, after.get(_exchanged(name, prefixes), after.get(name))) for name, layer in before.items())
        return sum(other is not None and _size(other) == _size(layer) for layer, other in pairs)

    best, most = ("", ""), count(("", ""))
    if 2 * most >= min(len(before), len(after)):
        return best
    for one in ("", *_starts(list(before))):
        for other in ("", *_starts(list(after))):
            found = count((one, other))
            if found > most and (not one or not other or found >= FEWEST_EXCHANGED):
                best, most = (one, other), found
    return best


def _size(layer: Layer) -> int:
    return (layer.merged or layer.tensor).elements


def _starts(names: Sequence[str]) -> list[str]:
    """Parts up to a dot that many of the names start with, the shortest first."""
    counts: dict[str, int] = {}
    for name in names:
        place = -1
        for _ in range(MOST_PREFIX_PARTS):
            place = name.find(".", place + 1)
            if place < 0:
                break
            counts[name[: place + 1]] = counts.get(name[: place + 1], 0) + 1
    return sorted((start for start, count in counts.items() if count >= FEWEST_WITH_PREFIX * len(names)), key=len)


class _Absences:
    """What there is in one network where the other has a layer."""

    def __init__(self, candidate: Candidate) -> None:
        telling = _telling(candidate)
        self.items: dict[str, Layer | Other] = {}
        for item in candidate.items:
            for name in (item.name, item.part_of or telling.get(item.name, item.name)):
                self.items.setdefault(name, item)
        self.unread: dict[str, str] = {}
        for unread in candidate.unread:
            name = unread.name
            for prefix in candidate.network.dropped:
                name = name.removeprefix(prefix)
            self.unread[name] = unread.reason

    def reason(self, name: str, layer: Layer, side: Side) -> str:
        """Why a layer of the other network is none here, under this name; '' where it was not asked for."""
        stored = name.removesuffix(layer.name.removeprefix(layer.part_of)) if layer.part_of else name
        for known in (name, stored):
            item = self.items.get(known)
            if isinstance(item, Layer):
                return f"divided in another way {side}: {quoted(item.name)}"
            if isinstance(item, Other):
                return "" if item.kind == "not selected" else f"no layer {side} ({item.kind}): {item.reason}"
            if known in self.unread:
                return f"could not be read {side}: {self.unread[known]}"
        return f"a factor of an adapter, not there {side}" if layer.kind == "low_rank" else f"not there {side}"


def _matched(before: Layer, after: Layer, formats_differ: bool, prefixes: tuple[str, str]) -> Matched | str:
    """The two layers as one, or what is different about them."""
    tensors = before.merged or before.tensor, after.merged or after.tensor
    may_turn = formats_differ or (tensors[0].encoded_bytes is None) != (tensors[1].encoded_bytes is None)
    order = _order(_letters(before, tensors[0]), _letters(after, tensors[1]), may_turn)
    if order is None:
        return f"its shape is {_shape(tensors[0])} before and {_shape(tensors[1])} after"
    ones = [axis for axis, size in enumerate(tensors[1].shape) if size == 1]
    wide = [axis for axis, size in enumerate(tensors[1].shape) if size != 1]
    pair = Pair(*tensors, (*(wide[place] for place in order), *ones))
    return Matched(before, after, pair, tuple(_notes(before, after, order, prefixes)))


def _letters(layer: Layer, tensor: Tensor) -> list[tuple[str, int]]:
    """What each dimension of a weight counts, as far as that is known, and its size; those of one index aside."""
    use = layer.tensor.use
    axes = use.axes if use is not None and len(use.axes) == len(layer.tensor.shape) else "?" * len(layer.tensor.shape)
    known = [(axis, size) for axis, size in zip(axes, layer.tensor.shape, strict=True) if size != 1]
    sizes = [size for size in tensor.shape if size != 1]
    return known if [size for _, size in known] == sizes else [("?", size) for size in sizes]


def _order(
    before: Sequence[tuple[str, int]], after: Sequence[tuple[str, int]], may_turn: bool
) -> tuple[int, ...] | None:
    """Which dimension after is which before; None where they are of different sizes.

    Where both what the dimensions count and their sizes leave a choice, `may_turn` says whether to believe the former.
    """
    same = tuple(range(len(after)))
    has_same = [size for _, size in before] == [size for _, size in after]
    left = list(same)
    turned: list[int] = []
    for letter, size in before:
        place = next((place for place in left if after[place] == (letter, size)), None)
        if place is None:
            return same if has_same else None
        left.remove(place)
        turned.append(place)
    if left:
        return None
    return same if has_same and not may_turn else tuple(turned)


def _notes(before: Layer, after: Layer, order: Sequence[int], prefixes: tuple[str, str]) -> Iterator[str]:
    if _exchanged(before.name, prefixes) != after.name and before.name != after.name:
        yield f"called {quoted(after.name)} after"
    if list(order) != sorted(order):
        yield "its dimensions are stored in another order"
    for side, layer in (("before", before), ("after", after)):
        if layer.merged is not None:
            yield f"{side}, with its adapter: {layer.merged_because}"
    if (before.n_in, before.n_out) != (after.n_in, after.n_out):
        yield f"its fans are {before.n_in:,} → {before.n_out:,} before and {after.n_in:,} → {after.n_out:,} after"
    if before.kind != after.kind:
        yield f"taken for {before.kind} before and for {after.kind} after"


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a scalar"
