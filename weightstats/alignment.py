"""How two tensors of one shape are gone through side by side, each element beside the one of the same indices.

Tensors are stored in many orders: inputs or outputs first, a map among others that are fused with it, decoded block by
block, compressed. Both are gone through in boxes of bounded size, which are cut so that what has to be read or decoded
for them is little more than they hold.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from weightstats.tensors import BLOCK_BYTES, BLOCK_ELEMENTS, SECTION_ELEMENTS, Dimensions, Tensor

BOX_ELEMENTS = 1 << 21
"""Elements of one box where the tensors are stored in different orders: 16 MB of each as float64."""

RUN_ELEMENTS = 1 << 10
"""Elements side by side in a storage that are worth a read of their own: its start costs about as much."""

HELD_ELEMENTS = 1 << 23
"""Elements of a tensor that is held in memory, where both are only read well in orders of their own."""

FEWEST_ELEMENTS_A_READ = 8
"""Of a tensor that is not held: more reads than that take far longer than the tensor is worth."""

FEW_READS = 1 << 16

Side: TypeAlias = Literal["before", "after"]

SIDES: tuple[Side, Side] = ("before", "after")


@dataclass(frozen=True, slots=True)
class Axis:
    """A run of indices that both tensors count with one stride each."""

    size: int
    before: int
    """The stride in elements; 0 where the elements of the others are shown again."""

    after: int


@dataclass(frozen=True, slots=True)
class Box:
    """Some indices of each axis: where they begin in either tensor, in elements, and how many there are."""

    before: int
    after: int
    sizes: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many it holds."""
        return math.prod(self.sizes)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Two tensors and the boxes in which they are gone through. Made by `align`."""

    before: Tensor
    after: Tensor
    axes: tuple[Axis, ...]
    """In the order in which boxes follow each other, outermost first."""

    extents: tuple[int, ...]
    """Of a box, along each axis; those at the end of an axis may be smaller."""

    repeats: int
    """How many times each pair of elements counts: both tensors show them again and again."""

    held: Side | None
    """The tensor that is read whole before the first box."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Boxes along each axis."""
        return tuple(-(-axis.size // extent) for axis, extent in zip(self.axes, self.extents, strict=True))

    @property
    def boxes(self) -> int:
        """All of them."""
        return math.prod(self.counts)

    @property
    def together(self) -> int:
        """How many boxes one reader goes through: all, where going back or starting again is dear."""
        if self.held or any(tensor.storage.source.sequential for tensor in (self.before, self.after)):
            return self.boxes
        return max(1, SECTION_ELEMENTS // math.prod(self.extents))

    def box(self, number: int) -> Box:
        """One of them, from 0 on; along the order of the axes they never go back."""
        before, after, sizes = self.before.offset, self.after.offset, list[int]()
        for axis, extent, count in reversed(list(zip(self.axes, self.extents, self.counts, strict=True))):
            number, place = divmod(number, count)
            before += place * extent * axis.before
            after += place * extent * axis.after
            sizes.append(min(extent, axis.size - place * extent))
        return Box(before, after, tuple(reversed(sizes)))


def align(before: Tensor, after: Tensor, order: Sequence[int] | None = None) -> Alignment | str:
    """The two tensors side by side, or the reason why their elements cannot be paired within bounds.

    The dimensions of `after` are taken in `order` (a permutation of them), which gives the shape of `before`, but for
    dimensions of one index; ValueError where it does not.
    """
    order = tuple(range(len(after.shape))) if order is None else tuple(order)
    if _longer(before.shape) != _longer([after.shape[axis] for axis in order]):
        raise ValueError(f"{after.shape} in the order {order} is not {before.shape}")
    if before.elements == 0:
        return Alignment(before, after, (Axis(0, 1, 1),), (1,), 1, None)
    axes = _axes(before, after, order)
    if isinstance(axes, str):
        return axes
    repeats = math.prod(axis.size for axis in axes if axis.before == axis.after == 0)
    axes = [axis for axis in axes if axis.size > 1 and (axis.before or axis.after)] or [Axis(1, 1, 1)]
    if any(axis.before == 0 for axis in axes) and any(axis.after == 0 for axis in axes):
        return "both show elements again and again, each in its own way"
    return _cut(before, after, axes, repeats)


def _longer(shape: Iterable[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _axes(before: Tensor, after: Tensor, order: Sequence[int]) -> list[Axis] | str:
    """Every run of indices that both count with one stride, outermost first."""
    layouts = before.layout, after.layout
    if layouts[0] is None or layouts[1] is None:
        is_same = before.given_in == after.given_in and before.shape == after.shape and list(order) == sorted(order)
        if not is_same or not before.given_in or before.dimensions != after.dimensions:
            return "they are stored in pieces, which are not cut or ordered in the same way"
        return [Axis(size, stride, stride) for size, stride in before.dimensions]
    axes: list[Axis] = []
    those_before = [runs for runs, size in zip(layouts[0], before.shape, strict=True) if size != 1]
    those_after = [layouts[1][axis] for axis in order if after.shape[axis] != 1]
    for one, other in zip(those_before, those_after, strict=True):
        common = _refined(one, other)
        if common is None:
            return "their parts alternate in different ways"
        axes += common
    return axes


def _refined(one: Dimensions, other: Dimensions) -> list[Axis] | None:
    """One dimension, counted by two tensors in runs, as runs that both count; None where they cut across each other."""
    left, right, axes = list(one), list(other), list[Axis]()
    while left and right:
        (size, stride), (width, step) = left.pop(), right.pop()
        common = math.gcd(size, width)
        if common not in (size, width):
            return None
        axes.append(Axis(common, stride, step))
        if size > common:
            left.append((size // common, stride * common))
        if width > common:
            right.append((width // common, step * common))
    return axes[::-1]


def _cut(before: Tensor, after: Tensor, axes: list[Axis], repeats: int) -> Alignment | str:
    """The alignment of two tensors along these axes."""
    of = {"before": before, "after": after}
    repeated = next((side for side in SIDES if any(getattr(axis, side) == 0 for axis in axes)), None)
    in_order = {side: _ordered(axes, side) for side in SIDES}
    if repeated is None and in_order["before"] == in_order["after"]:
        joined = _joined(in_order["before"])
        block = min(BLOCK_ELEMENTS, BLOCK_BYTES // max(before.dtype.width, after.dtype.width))
        return Alignment(before, after, joined, _inner(joined, block), repeats, None)
    plain = [side for side in SIDES if _is_plain(of[side])]
    here_and_there: Side = repeated or (plain[-1] if plain else "before" if _is_small(before) else "after")
    followed: Side = "before" if here_and_there == "after" else "after"
    ordered = in_order[followed]
    extents = _square(ordered) if len(plain) == 2 and repeated is None else _inner(ordered, BOX_ELEMENTS)
    made = Alignment(before, after, tuple(ordered), extents, repeats, None)
    most = FEW_READS + math.prod(axis.size for axis in axes) // FEWEST_ELEMENTS_A_READ
    if here_and_there in plain and _reads(made, here_and_there) <= most:
        return made
    if _is_small(of[here_and_there]):
        return replace(made, held=here_and_there)
    return "they are stored in different orders, and are too large to be held in memory for that"


def _ordered(axes: Iterable[Axis], side: Side) -> list[Axis]:
    """The largest stride first."""
    return sorted(axes, key=lambda axis: -getattr(axis, side))


def _is_plain(tensor: Tensor) -> bool:
    """Whether reading it here and there costs no more than reading it from front to back."""
    return tensor.encoded_bytes is None and not tensor.storage.source.sequential


def _is_small(tensor: Tensor) -> bool:
    """Whether it may be held in memory, with what lies between its elements."""
    return sum((size - 1) * stride for size, stride in tensor.dimensions) < HELD_ELEMENTS


def _joined(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Axes that continue each other in both tensors made one."""
    joined: list[Axis] = []
    for axis in reversed(axes):
        last = joined[-1] if joined else None
        if last is not None and (axis.before, axis.after) == (last.size * last.before, last.size * last.after):
            joined[-1] = Axis(axis.size * last.size, last.before, last.after)
        else:
            joined.append(axis)
    return tuple(reversed(joined))


def _inner(axes: Sequence[Axis], most: int) -> tuple[int, ...]:
    """The extents of boxes of at most so many elements that take the innermost axes whole."""
    extents = []
    for axis in reversed(axes):
        extents.append(min(axis.size, most))
        most = max(1, most // axis.size)
    return tuple(reversed(extents))


def _square(axes: Sequence[Axis]) -> tuple[int, ...]:
    """The extents of boxes in which the elements lie side by side in runs, in both tensors."""
    extents = dict.fromkeys(axes, 1)
    for side in ("before", "after"):
        run = 1
        for axis in sorted(axes, key=lambda axis: getattr(axis, side)):
            extents[axis] = max(extents[axis], min(axis.size, -(-RUN_ELEMENTS // run)))
            run *= extents[axis]
            if run >= RUN_ELEMENTS:
                break
    left = max(1, BOX_ELEMENTS // math.prod(extents.values()))
    for axis in reversed(axes):
        more = min(-(-axis.size // extents[axis]), left)
        extents[axis] = min(axis.size, extents[axis] * more)
        left = max(1, left // more)
    return tuple(extents[axis] for axis in axes)


def _reads(alignment: Alignment, side: Side) -> int:
    """How many runs of elements the boxes have in one tensor."""
    run = 1
    pairs = zip(alignment.axes, alignment.extents, strict=True)
    for axis, extent in sorted(pairs, key=lambda pair: getattr(pair[0], side)):
        if getattr(axis, side) == run:
            run *= extent
    return math.prod(alignment.extents) // run * alignment.boxes
