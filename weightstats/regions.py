"""Elements of a tensor anywhere in its storage, for one reader: as many as asked for, in the order of given strides."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from weightstats.dtypes import Floats
from weightstats.tensors import Dimensions, Source, Tensor, aligned_bytes

SEPARATE_BYTES = 8 << 10
"""Bytes that can be read in the time that a read of its own takes."""

MOST_SPANNED = 32 << 20
"""Bytes that are read at once, with what lies between the elements."""

STEP_ELEMENTS = 1 << 20
"""Elements that are decoded at a time where a tensor is held whole."""

_WORDS = {1: "u1", 2: "u2", 4: "u4", 8: "u8", 16: "c16"}
"""numpy's types that are moved as they are, by their bytes."""


class Regions:
    """Reads one tensor, with memory that is used again and again."""

    def __init__(self, tensor: Tensor, *, held: bool = False) -> None:
        self.tensor = tensor
        self._source: Source = tensor.storage.source.reader()
        self._raw = aligned_bytes(0)
        self._words = aligned_bytes(0).view(np.uint32)
        self._held: Floats | None = None
        if held:
            self._held = self._whole()

    def read(self, offset: int, sizes: Sequence[int], strides: Sequence[int]) -> Floats:
        """Float32 or float64 numbers, one-dimensional, from element `offset` of the storage on; the last stride's
        indices follow each other. A stride of 0 shows the same elements again.

        What comes out is valid until the next call; infinities and NaN may have to be put back by the dtype's
        `restore`. Raises CheckpointError where the bytes cannot be read.
        """
        if self._held is not None:
            strides = [stride * self._held.itemsize for stride in strides]
            start = self._held[offset - self.tensor.offset :]
            return np.ascontiguousarray(np.lib.stride_tricks.as_strided(start, sizes, strides)).reshape(-1)
        stored = [axis for axis, stride in enumerate(strides) if stride]
        stored.sort(key=lambda axis: -strides[axis])
        floats = self._stored(offset, tuple((sizes[axis], strides[axis]) for axis in stored))
        if stored == list(range(len(sizes))):
            return floats
        floats = floats.reshape([sizes[axis] for axis in stored])
        floats = floats.transpose([stored.index(axis) for axis in sorted(stored)])
        shown = floats.reshape([size if stride else 1 for size, stride in zip(sizes, strides, strict=True)])
        return np.ascontiguousarray(np.broadcast_to(shown, sizes)).reshape(-1)

    def _stored(self, offset: int, dimensions: Dimensions) -> Floats:
        """Those of some dimensions, the largest stride first, in that order."""
        dtype, storage = self.tensor.dtype, self.tensor.storage
        count = math.prod(size for size, _ in dimensions)
        if self._raw.size < count * dtype.width:
            self._raw = aligned_bytes(count * dtype.width)
        if self._words.size < count:
            self._words = aligned_bytes(4 * count).view(np.uint32)
        raw = self._raw[: count * dtype.width]
        self._fill(offset, _with_runs(dimensions), raw)
        return dtype.decode(raw, storage.byte_order, self._words)

    def _fill(self, offset: int, dimensions: Dimensions, raw: NDArray[np.uint8]) -> None:
        """The bytes of the elements, side by side."""
        width, start = self.tensor.dtype.width, self.tensor.storage.start
        span = (sum((size - 1) * stride for size, stride in dimensions) + 1) * width
        if span == raw.size:
            self._source.read_into(start + offset * width, raw.data)
            return
        reads = math.prod(size for size, _ in dimensions[:-1]) * (1 if dimensions[-1][1] == 1 else dimensions[-1][0])
        if span <= min(MOST_SPANNED, reads * SEPARATE_BYTES):
            whole = np.empty(span, np.uint8)
            self._source.read_into(start + offset * width, whole.data)
            shape, steps = zip(*((size, stride * width) for size, stride in dimensions), strict=True)
            as_words = _WORDS[width]
            raw.view(as_words).reshape(shape)[...] = np.lib.stride_tricks.as_strided(whole.view(as_words), shape, steps)
            return
        size, stride = dimensions[0]
        inner = raw.size // size
        for index in range(size):
            self._fill(offset + index * stride, dimensions[1:] or ((1, 1),), raw[index * inner : (index + 1) * inner])

    def _whole(self) -> Floats:
        """The elements from the first to the last, with what lies between them."""
        tensor = self.tensor
        count = sum((size - 1) * stride for size, stride in tensor.dimensions) + 1
        whole: Floats = np.empty(0, np.float32)
        for first in range(0, count, STEP_ELEMENTS):
            size = min(STEP_ELEMENTS, count - first)
            step = self._stored(tensor.offset + first, ((size, 1),))
            if first == 0:
                whole = np.empty(count, step.dtype)
            whole[first : first + size] = step
        return whole


def _with_runs(dimensions: Dimensions) -> Dimensions:
    """The same dimensions, those that continue each other made one."""
    joined: list[tuple[int, int]] = []
    for size, stride in reversed(dimensions):
        if joined and stride == joined[-1][0] * joined[-1][1]:
            joined[-1] = (size * joined[-1][0], joined[-1][1])
        elif size > 1:
            joined.append((size, stride))
    return tuple(reversed(joined)) or ((1, 1),)
