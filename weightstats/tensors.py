"""A stored tensor: what it is called, its shape and dtype, and where its bytes lie. Nothing is read until asked for."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from weightstats.dtypes import DTYPES, ByteOrder, DType, Floats
from weightstats.errors import TensorError, shortened
from weightstats.limits import LIMITS, over

BLOCK_ELEMENTS = 1 << 17
"""Elements of one block at most: with its square in float32 it fits the second-level cache of current processors."""

WIDEST = 16
"""Bytes of the widest element, a complex number of two float64."""

BLOCK_BYTES = 1 << 18
"""Stored bytes of one block at most: more leave that cache before they are used."""

SECTION_ELEMENTS = 1 << 21
"""Elements of one section, the unit of work of a thread: 16 blocks."""

CACHE_LINE = 64
"""Bytes; also the width of the widest vector registers."""

Dimensions: TypeAlias = tuple[tuple[int, int], ...]
"""(size, stride) of each dimension, outermost (largest stride) first, strides in elements."""


class Source(Protocol):
    """Bytes that can be read at an offset."""

    @property
    def location(self) -> str:
        """What messages call it."""
        ...

    @property
    def sequential(self) -> bool:
        """Whether it is read well only from front to back, by one reader (a compressed stream)."""
        ...

    def reader(self) -> "Source":
        """What one thread reads it with: itself, or an own position in a compressed stream."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`, or raise CheckpointError."""
        ...

    def will_need(self, offset: int, length: int) -> None:
        """Take note that these bytes are read soon."""
        ...


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of bytes that tensors are views of."""

    source: Source
    start: int
    """Offset of its first byte in the source."""

    size: int
    """Bytes."""

    byte_order: ByteOrder = "little"


def aligned_bytes(size: int) -> NDArray[np.uint8]:
    """Uninitialised memory that starts on a cache line: vector instructions are up to twice as fast on it."""
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size]


class Buffers:
    """Reused memory for one thread's blocks."""

    __slots__ = ("raw", "words")

    def __init__(self) -> None:
        self.raw = aligned_bytes(BLOCK_ELEMENTS * WIDEST)
        self.words = aligned_bytes(BLOCK_ELEMENTS * 4).view(np.uint32)


@dataclass(frozen=True, slots=True)
class Slice:
    """Some indices of one axis: those whose remainder by `period` lies from `start` to before `start + size`."""

    axis: int
    start: int
    size: int
    period: int
    """The axis' whole size for one run of indices; less where runs alternate, as the heads of a fused q,k,v may."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the maps that a fused weight holds."""

    name: str
    """`q`, `forget`, `3,up`: what stands in the brackets of `NAME[part]`."""

    slices: tuple[Slice, ...]
    """At most one an axis."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a tensor is for, where the module or the file itself says so: by a class, by operators, by a convention of
    its format."""

    kind: str
    """Of a layer ("linear", "conv2d", "depthwise_conv2d", "conv_transpose1d", "embedding", "lstm", "gru", "rnn"), or of
    something else ("bias", "norm", "buffer", "parameter", "constant")."""

    axes: str
    """What each dimension of a layer's weight counts: O outputs, I inputs, K positions of the receptive field,
    B maps of one kind that are stacked. '' where it is no layer."""

    because: str
    """The operator or the convention, for the report."""

    groups: int = 1
    """Of a convolution: every output is connected to one group of the inputs only, and every input to one of the
    outputs. The dimension I counts the inputs of one group and O the outputs of all, in a transposed convolution
    the other way round."""

    by: Literal["module", "graph", "name", "shape", "rule"] = "graph"
    """Whether the class of a live module says so, operators (or the classes of layers) in the file, a name that has
    this meaning, shapes, or a rule of the user's."""

    parts: tuple[Part, ...] = ()
    """The maps that are stacked in it, if there are several; together they hold every element once. `axes` is then of
    each part, and `groups` too."""

    scale_free: str = ""
    """Why its scale does not change what the network computes, where that is so."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage. Made by `make_tensor`, which checks that the view lies within it."""

    path: tuple[str, ...]
    """The keys that lead to it, from the outermost mapping of the file inwards."""

    shape: tuple[int, ...]
    dtype: DType
    storage: Storage
    offset: int
    """Of its first element, in elements."""

    dimensions: Dimensions
    """The distinct elements, contiguous dimensions joined; expanded ones (stride 0) are in `repeats`."""

    repeats: int
    """How many times each distinct element counts: more than 1 for an expanded view."""

    use: Use | None = None
    encoded_bytes: int | None = None
    """What it takes in the file, where its storage gives elements that are decoded on the way."""

    strides: tuple[int, ...] | None = None
    """Of each dimension, in elements; None for a part whose runs of indices alternate, and for a tensor whose elements
    are not given in the order of their indices."""

    decoded_bytes: int | None = None
    """Of a part of a tensor that is decoded on the way: what has to be decoded for it, in the file's bytes."""

    runs: tuple[Dimensions, ...] | None = None
    """Of each dimension of a part whose runs of indices alternate: (size, stride) of its runs, and of the indices in
    each."""

    given_in: bytes = b""
    """In which order the elements are given, where no strides say it: equal for two tensors of one shape exactly where
    both give them in the same order."""

    @property
    def name(self) -> str:
        """The path with dots between the keys."""
        return ".".join(self.path)

    @property
    def elements(self) -> int:
        """Product of the shape; an expanded view may have more than its storage holds."""
        return math.prod(self.shape)

    @property
    def stored_bytes(self) -> int:
        """Bytes of its distinct elements, as they are stored."""
        if self.encoded_bytes is not None:
            return self.encoded_bytes
        return self.elements // self.repeats * self.dtype.width if self.elements else 0

    @property
    def reach(self) -> int:
        """Bytes that reading it takes at most: from its first to its last element, or from the start of a compressed
        storage."""
        if self.elements == 0:
            return 0
        if self.encoded_bytes is not None and not self.storage.source.sequential:
            return self.encoded_bytes if self.decoded_bytes is None else self.decoded_bytes
        skipped = self.offset if self.storage.source.sequential else 0
        return (skipped + _span(self.dimensions)) * self.dtype.width

    @property
    def layout(self) -> tuple[Dimensions, ...] | None:
        """(size, stride) of what each dimension counts, outermost first: of itself, or of its runs and the indices in
        each. None where the place of an element cannot be told from its indices."""
        if self.strides is None:
            return self.runs
        return tuple(((size, stride),) for size, stride in zip(self.shape, self.strides, strict=True))

    @property
    def view(self) -> tuple[object, ...]:
        """Equal for two tensors exactly where both show the same stored elements, in whatever shape."""
        storage = (id(self.storage.source), self.storage.start)
        return (*storage, self.offset, self.dimensions, self.repeats, self.dtype)

    def sections(self) -> tuple["Section", ...]:
        """The tensor in pieces that threads can work on side by side, in element order."""
        if self.elements == 0:
            return ()
        if self.storage.source.sequential:
            return (Section(self, self.offset, self.dimensions),)
        pieces = _split(self.offset, self.dimensions, SECTION_ELEMENTS)
        return tuple(Section(self, offset, dimensions) for offset, dimensions in pieces)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a tensor's distinct elements."""

    tensor: Tensor
    offset: int
    dimensions: Dimensions

    @property
    def bytes(self) -> int:
        """Bytes of its elements."""
        return math.prod(size for size, _ in self.dimensions) * self.tensor.dtype.width

    def will_need(self) -> None:
        """Tell the system that it is read soon."""
        storage, width = self.tensor.storage, self.tensor.dtype.width
        storage.source.will_need(storage.start + self.offset * width, _span(self.dimensions) * width)

    def blocks(self, buffers: Buffers, *, restored: bool = True) -> Iterator[Floats]:
        """One-dimensional float32 or float64 arrays of at most BLOCK_ELEMENTS elements.

        A block is valid until the next one is asked for: it lies in `buffers`. With `restored` false, the caller sees
        to the dtype's `restore`. Raises CheckpointError where the bytes cannot be read.
        """
        dtype, storage = self.tensor.dtype, self.tensor.storage
        source = storage.source.reader()
        memory = buffers.raw.data
        for offset, dimensions in _split(self.offset, self.dimensions, min(BLOCK_ELEMENTS, BLOCK_BYTES // dtype.width)):
            length = _span(dimensions) * dtype.width
            source.read_into(storage.start + offset * dtype.width, memory[:length])
            floats = dtype.decode(buffers.raw[:length], storage.byte_order, buffers.words)
            yield _select(dtype.restore(floats) if restored else floats, dimensions)


def make_tensor(
    path: tuple[str, ...],
    shape: tuple[int, ...],
    dtype: str | DType,
    storage: Storage,
    offset: int = 0,
    strides: tuple[int, ...] | None = None,
    use: Use | None = None,
) -> Tensor:
    """A tensor whose every element lies in `storage`; offset and strides in elements, contiguous by default.

    Raises TensorError, with the reason, for an unknown dtype and for a view that is malformed, reaches beyond the
    storage or visits an element in two places.
    """
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise TensorError(f"its dtype {shortened(dtype)} is not one that can be read")
        dtype = DTYPES[dtype]
    strides = _contiguous(shape) if strides is None else strides
    if len(shape) > LIMITS.rank:
        raise TensorError(f"it has {len(shape):,} dimensions, {over('rank')}")
    if len(strides) != len(shape):
        raise TensorError(f"it has {len(shape)} dimensions but {len(strides)} strides")
    if offset < 0 or any(size < 0 for size in shape) or any(stride < 0 for stride in strides):
        raise TensorError("its size, stride or offset is negative")
    held = storage.size // dtype.width
    pairs = [(size, stride) for size, stride in zip(shape, strides, strict=True) if size != 1]
    if any(size == 0 for size in shape):
        return Tensor(path, shape, dtype, storage, 0, ((0, 1),), 1, use, strides=strides)
    end = offset + sum((size - 1) * stride for size, stride in pairs) + 1
    if end > held:
        raise TensorError(f"it needs {end:,} elements of a storage that holds {held:,}")
    if math.prod(shape) > LIMITS.elements:
        raise TensorError(f"the elements of its shape are {over('elements')}")
    repeats = math.prod(size for size, stride in pairs if stride == 0)
    dimensions = _joined(tuple(sorted((pair for pair in pairs if pair[1] != 0), key=lambda pair: -pair[1])))
    return Tensor(path, shape, dtype, storage, offset, dimensions, repeats, use, strides=strides)


def part_of(tensor: Tensor, slices: Sequence[Slice]) -> Tensor:
    """The elements of a tensor at the indices that every slice holds; the others are not read.

    ValueError for a slice that does not fit the tensor, and for a tensor without strides.
    """
    if tensor.strides is None:
        raise ValueError("of a tensor without strides, no part can be taken")
    offset = tensor.offset
    sizes: list[tuple[tuple[int, int], ...]] = [
        ((size, stride),) for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    ]
    alternating = False
    for cut in slices:
        whole, stride = tensor.shape[cut.axis], tensor.strides[cut.axis]
        if cut.period < 1 or whole % cut.period or not 0 <= cut.start < cut.start + cut.size <= cut.period:
            raise ValueError(f"{cut} does not fit the shape {tensor.shape}")
        offset += cut.start * stride
        runs = whole // cut.period
        sizes[cut.axis] = ((runs, cut.period * stride), (cut.size, stride))
        alternating = alternating or (runs > 1 and cut.size > 1)
    pairs = [pair for axis in sizes for pair in axis if pair[0] != 1]
    repeats = math.prod(size for size, stride in pairs if stride == 0)
    dimensions = _joined(tuple(sorted((pair for pair in pairs if pair[1] != 0), key=lambda pair: -pair[1])))
    shape = tuple(math.prod(size for size, _ in axis) for axis in sizes)
    strides = None if alternating else tuple(_stride_of(axis) for axis in sizes)
    encoded_bytes = decoded_bytes = tensor.encoded_bytes
    if encoded_bytes is not None and decoded_bytes is not None:
        decoded_bytes = max(1, decoded_bytes * _span(dimensions) // _span(tensor.dimensions))
        encoded_bytes = encoded_bytes * math.prod(shape) // tensor.elements
    return Tensor(
        tensor.path,
        shape,
        tensor.dtype,
        tensor.storage,
        offset,
        dimensions,
        repeats,
        tensor.use,
        encoded_bytes,
        strides,
        decoded_bytes,
        tuple(sizes) if alternating else None,
    )


def given_in_order_of(tensor: Tensor, order: bytes) -> Tensor:
    """The tensor, of which it is known that its elements are not given in the order of their indices, but in another
    that `order` tells from all others."""
    return replace(tensor, strides=None, given_in=hashlib.sha256(order).digest())


def _stride_of(axis: tuple[tuple[int, int], ...]) -> int:
    """The stride of an axis that is one run: that of the pair with more than one index."""
    return next((stride for size, stride in axis if size > 1), axis[-1][1])


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * size)
    return tuple(reversed(strides[: len(shape)]))


def _joined(dimensions: Dimensions) -> Dimensions:
    """Dimensions that continue each other made one; TensorError where two positions may share an element."""
    joined: list[tuple[int, int]] = []
    for size, stride in reversed(dimensions):
        if joined and stride < _span(tuple(joined)):
            return _interleaved(dimensions)
        if joined and stride == joined[-1][0] * joined[-1][1]:
            joined[-1] = (size * joined[-1][0], joined[-1][1])
        else:
            joined.append((size, stride))
    return tuple(reversed(joined)) or ((1, 1),)


def _interleaved(dimensions: Dimensions) -> Dimensions:
    """Dimensions whose ranges overlap, if their elements do not; only where all of them fit one block."""
    count = math.prod(size for size, _ in dimensions)
    if count > _span(dimensions):
        raise TensorError("its strides visit the same element in two places")
    if _span(dimensions) > BLOCK_BYTES // WIDEST:
        raise TensorError("its strides interleave, and may visit the same element in two places")
    places = sum(np.ix_(*(np.arange(size) * stride for size, stride in dimensions)), np.zeros((), np.int64))
    if np.unique(places).size < count:
        raise TensorError("its strides visit the same element in two places")
    return dimensions


def _span(dimensions: Dimensions) -> int:
    """Elements from the first to the last that the dimensions reach."""
    return sum((size - 1) * stride for size, stride in dimensions) + 1


def _split(offset: int, dimensions: Dimensions, limit: int) -> Iterator[tuple[int, Dimensions]]:
    """Pieces of a view, each spanning at most `limit` elements, in order of their offsets."""
    size, stride = dimensions[0]
    inner = _span(dimensions[1:])
    if inner > limit:
        for index in range(size):
            yield from _split(offset + index * stride, dimensions[1:], limit)
        return
    step = (limit - inner) // stride + 1
    for index in range(0, size, step):
        yield offset + index * stride, ((min(step, size - index), stride), *dimensions[1:])


def _select(floats: Floats, dimensions: Dimensions) -> Floats:
    """The elements of a view out of the span that was read."""
    if len(dimensions) == 1 and dimensions[0][1] == 1:
        return floats
    shape = tuple(size for size, _ in dimensions)
    strides = tuple(stride * floats.itemsize for _, stride in dimensions)
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(floats, shape, strides)).reshape(-1)
