"""Pieces of one tensor put together again, wherever each of them lies."""

import itertools
import math
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from weightstats.errors import TensorError, quoted
from weightstats.limits import LIMITS, over
from weightstats.tensors import Source, Storage, Tensor, given_in_order_of, make_tensor

MOST_DIVIDED = 4
"""Dimensions along which a tensor may be cut into pieces; every one of them doubles the corners that are compared."""


@dataclass(frozen=True, slots=True)
class Box:
    """Where a piece lies in the tensor that it is a piece of."""

    offsets: tuple[int, ...]
    """Index of its first element along each dimension."""

    sizes: tuple[int, ...]


class Held:
    """Bytes in memory."""

    sequential = False

    def __init__(self, location: str, content: bytes) -> None:
        self.location, self.content = location, content

    def reader(self) -> Source:
        """Itself: it has no position."""
        return self

    def will_need(self, offset: int, length: int) -> None:
        """Nothing to do."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`."""
        buffer[:] = self.content[offset : offset + len(buffer)]


class Concatenated:
    """Storages one after the other, as one run of bytes."""

    def __init__(self, parts: Sequence[Storage]) -> None:
        self._parts = tuple(parts)
        self._starts = tuple(itertools.accumulate((part.size for part in parts), initial=0))
        self.size = self._starts[-1]
        self.location = parts[0].source.location
        self.sequential = any(part.source.sequential for part in parts)

    def reader(self) -> Source:
        """The same bytes, for one thread."""
        if not self.sequential:
            return self
        return Concatenated([replace(part, source=part.source.reader()) for part in self._parts])

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`, from as many parts as it takes."""
        for part, start, place, length in self._ranges(offset, len(buffer)):
            part.source.read_into(part.start + start, buffer[place : place + length])

    def will_need(self, offset: int, length: int) -> None:
        """Take note that these bytes are read soon."""
        for part, start, _, size in self._ranges(offset, length):
            part.source.will_need(part.start + start, size)

    def _ranges(self, offset: int, length: int) -> Iterator[tuple[Storage, int, int, int]]:
        """(part, offset in it, place in the result, bytes) for each part that a range of bytes touches."""
        done = 0
        index = bisect_right(self._starts, offset) - 1
        while done < length:
            part, start = self._parts[index], offset + done - self._starts[index]
            size = min(part.size - start, length - done)
            yield part, start, done, size
            done += size
            index += 1


def put_together(path: tuple[str, ...], shape: tuple[int, ...], pieces: Sequence[tuple[Box, Tensor]]) -> Tensor:
    """The tensor that the pieces are parts of; TensorError unless they fill it exactly, each element once.

    Its elements come piece by piece. Where that is not the order of their indices, as where it is cut along another
    dimension than its first, it has no strides.
    """
    check_tiling(shape, [box for box, _ in pieces])
    for box, piece in pieces:
        if piece.shape != box.sizes:
            raise TensorError(f"a piece of it has the shape {quoted(piece.shape)}, not {quoted(box.sizes)}")
    in_order = sorted(pieces, key=lambda pair: pair[0].offsets)
    ordered = [piece for _, piece in in_order]
    full = [piece for piece in ordered if piece.elements]
    if len(full) < 2:
        return replace((full or ordered)[0], path=path, shape=shape)
    first = full[0]
    if any(piece.dtype != first.dtype for piece in full):
        raise TensorError("its pieces have different dtypes")
    if any(piece.storage.byte_order != first.storage.byte_order for piece in full):
        raise TensorError("its pieces have different byte orders")
    source = Concatenated([_run(piece) for piece in full])
    tensor = make_tensor(path, shape, first.dtype, Storage(source, 0, source.size, first.storage.byte_order))
    if not all(_is_run(box, shape) and _is_contiguous(piece) for box, piece in in_order if piece.elements):
        tensor = given_in_order_of(tensor, repr([(box, piece.strides) for box, piece in in_order]).encode())
    if all(piece.encoded_bytes is None for piece in full):
        return tensor
    return replace(tensor, encoded_bytes=sum(piece.stored_bytes for piece in full))


def _is_run(box: Box, shape: tuple[int, ...]) -> bool:
    """Whether the elements of a box are one run of those of the whole, in the order of their indices."""
    cut = next((axis for axis, size in enumerate(box.sizes) if size != 1), len(shape))
    return box.sizes[cut + 1 :] == shape[cut + 1 :]


def _is_contiguous(piece: Tensor) -> bool:
    """Whether the elements of a piece are given in the order of their indices."""
    if piece.strides is None:
        return False
    steps = [(size, stride) for size, stride in zip(piece.shape, piece.strides, strict=True) if size != 1]
    return all(stride == math.prod(size for size, _ in steps[at + 1 :]) for at, (_, stride) in enumerate(steps))


def _run(piece: Tensor) -> Storage:
    """The bytes of a piece whose elements lie side by side, in whatever order; TensorError for another."""
    count = piece.elements
    if piece.dimensions != ((count, 1),) or piece.repeats != 1:
        raise TensorError("the elements of one of its pieces do not lie side by side")
    width, storage = piece.dtype.width, piece.storage
    return replace(storage, start=storage.start + piece.offset * width, size=count * width)


def check_tiling(shape: tuple[int, ...], boxes: Sequence[Box]) -> None:
    """TensorError unless the boxes fill the shape exactly; of a shape without elements, there must be one.

    Each box stands for +1 and -1, in turn, at its corners. The sums at all corners are those of the whole just where
    every element is in one box: a sum of boxes is known by its differences along all dimensions.
    """
    if len(shape) > LIMITS.rank:
        raise TensorError(f"it has {len(shape):,} dimensions, {over('rank')}")
    elements = math.prod(shape)
    if max(elements, *shape, 0) > LIMITS.elements:
        raise TensorError(f"its shape claims {over('elements')} (elements)")
    for box in boxes:
        _check_inside(box, shape)
    full = [box for box in boxes if all(box.sizes)]
    divided = [axis for axis, whole in enumerate(shape) if any(box.sizes[axis] != whole for box in full)]
    if len(divided) > MOST_DIVIDED:
        raise TensorError(f"it is cut along {len(divided)} dimensions, more than {MOST_DIVIDED}")
    balance: Counter[bytes] = Counter()
    for box in full:
        for corner, sign in _corners(box, divided):
            balance[corner] += sign
    if elements:
        for corner, sign in _corners(Box((0,) * len(shape), shape), divided):
            balance[corner] -= sign
    if any(balance.values()) or not boxes:
        raise TensorError(_untiled(sum(math.prod(box.sizes) for box in full), elements))


def _check_inside(box: Box, shape: tuple[int, ...]) -> None:
    if len(box.offsets) != len(shape) or len(box.sizes) != len(shape):
        raise TensorError(f"a piece of it has not its {len(shape)} dimensions")
    for offset, size, whole in zip(box.offsets, box.sizes, shape, strict=True):
        if not 0 <= offset <= offset + size <= whole:
            place = f"at {quoted(box.offsets)}, of {quoted(box.sizes)}"
            raise TensorError(f"a piece of it, {place}, reaches beyond its shape {quoted(shape)}")


def _corners(box: Box, axes: Sequence[int]) -> Iterator[tuple[bytes, int]]:
    """The corners of a box in some of its dimensions, each with its sign; as bytes, whose hashes no file can choose."""
    ends = [((box.offsets[axis], 1), (box.offsets[axis] + box.sizes[axis], -1)) for axis in axes]
    for corner in itertools.product(*ends):
        yield struct.pack(f"{len(axes)}q", *(place for place, _ in corner)), math.prod(sign for _, sign in corner)


def _untiled(held: int, elements: int) -> str:
    if held < elements:
        return f"its pieces hold {held:,} of its {elements:,} elements: a part of it is missing"
    if held > elements:
        return f"its pieces hold {held:,} elements where it has {elements:,}: some of them are there twice"
    if not elements:
        return "nothing of it is stored"
    return "its pieces overlap in one place and leave another empty"
