"""What is known of the values of an ONNX graph: which stored tensors they show, and in what arrangement."""

import math
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import TypeAlias

from weightstats.schemas.onnx_records import Stored
from weightstats.tensors import Use


@dataclass(frozen=True, slots=True)
class Scaled:
    """How integers stand for numbers: (q - zero_point) * scale."""

    scale: Stored
    zero_point: Stored | None
    axis: int | None
    """The dimension of the integers along which the scales change; None where there is one for all."""

    block: int = 0
    """Elements along the axis that share a scale; 0: every one has its own."""

    packed: tuple[int, int, int] | None = None
    """Outputs, inputs and bits, where the integers lie packed in bytes, blocks of the inputs one after the other."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A stored tensor as a value of the graph shows it."""

    tensor: Stored
    axes: tuple[int | None, ...]
    """Of each dimension of the value, the tensor's; None for one of size 1 that was put in."""

    scaled: Scaled | None = None
    is_whole: bool = True
    """Whether the value has all of it, and nothing else."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a value of the graph."""

    seen: tuple[Seen, ...] = ()
    from_layer: bool = False
    """Whether it is a layer's output, to which a bias may be added."""

    unscaled: tuple[Seen, Use] | None = None
    """The weights of a product of integers, until the scale comes that makes it one of numbers."""

    factor: Seen | None = None
    """A stored number that it is a multiple of."""

    @property
    def whole(self) -> Seen | None:
        """The one stored tensor that the value is, in some arrangement; None for another value."""
        return self.seen[0] if len(self.seen) == 1 and self.seen[0].is_whole else None


UNKNOWN = Known()
Values: TypeAlias = MutableMapping[str, Known]


_Axes: TypeAlias = tuple[int | None, ...] | None


def _sizes(seen: Seen) -> list[int]:
    """Of the dimensions of the value, where that is all of the tensor; a part of it has smaller ones."""
    return [1 if axis is None or seen.tensor.shape is None else seen.tensor.shape[axis] for axis in seen.axes]


def _squeezed(seen: Seen, given: tuple[int, ...]) -> _Axes:
    sizes = _sizes(seen)
    places = {place % len(sizes) for place in given if sizes} or {at for at, size in enumerate(sizes) if size == 1}
    if any(sizes[place] != 1 for place in places):
        return None
    return tuple(axis for place, axis in enumerate(seen.axes) if place not in places)


def _unsqueezed(seen: Seen, given: tuple[int, ...]) -> _Axes:
    rank = len(seen.axes) + len(given)
    added = {place % rank for place in given if rank}
    if len(added) != len(given):
        return None
    rest = iter(seen.axes)
    return tuple(None if place in added else next(rest) for place in range(rank))


def _reshaped_to(seen: Seen, given: tuple[int, ...]) -> _Axes:
    """The same sizes in the same order, but for those of 1; a size of 0 is the one at its place, -1 is what is left."""
    if not seen.is_whole:
        return None
    sizes = _sizes(seen)
    wanted = [sizes[place] if size == 0 and place < len(sizes) else size for place, size in enumerate(given)]
    if wanted.count(-1) == 1:
        rest = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = math.prod(sizes) // rest if rest else 0
    if [size for size in wanted if size != 1] != [size for size in sizes if size != 1]:
        return None
    long = iter([axis for axis, size in zip(seen.axes, sizes, strict=True) if size != 1])
    return tuple(None if size == 1 else next(long) for size in wanted)


REARRANGED: dict[str, Callable[[Seen, tuple[int, ...]], _Axes]] = {
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Reshape": _reshaped_to,
}
"""What operators make of the dimensions of a value, given some numbers; None where it is not followed."""
