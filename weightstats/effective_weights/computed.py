"""Weights that are worked out from several stored tensors block by block, as they are read."""

import copy
import itertools
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np

from weightstats.dtypes import DTYPES, DType, Floats
from weightstats.tensors import Source, Storage, Tensor, make_tensor

STEP_ELEMENTS = 1 << 16
"""Elements that are read, or worked out, at a time: they stay in the second-level cache."""

MOST_REMEMBERED = 1 << 25
"""Bytes of what has been worked out for whole tensors (norms, factors) that a process keeps, the last one whatever it
takes."""

MOST_ENTRIES = 64
"""Of what is kept so."""

MOST_ELEMENTS = 1 << 22
"""Elements of a matrix that is held in memory for one tensor: a rank of 256 at a width of 16,384."""

MOST_NUMBERS = 1 << 20
"""Elements of a vector that is held for one tensor, in float64: norms, singular vectors."""

MOST_SKIPPED = 1 << 16
"""Bytes that are inflated in vain, beyond as many as a tensor has, before it is read."""

SCATTERED = "its elements do not lie side by side, or lie deep in a compressed storage"

_remembered: OrderedDict[Hashable, Floats] = OrderedDict()
_lock = threading.RLock()
_numbers = itertools.count()


def remembered(key: Hashable, work_out: Callable[[], Floats]) -> Floats:
    """What `work_out` returned for this key, if that is not too long ago, else what it returns now.

    One thread works at a time, so that several that need the same do not all read for it. A forked process goes on
    with a copy of its own.
    """
    with _lock:
        if key in _remembered:
            _remembered.move_to_end(key)
            return _remembered[key]
        made = work_out()
        _remembered[key] = made
        while len(_remembered) > 1 and (
            len(_remembered) > MOST_ENTRIES or sum(kept.nbytes for kept in _remembered.values()) > MOST_REMEMBERED
        ):
            _remembered.popitem(last=False)
        return made


def storage_order(tensor: Tensor) -> tuple[int, ...] | None:
    """The axes of a tensor, the outermost in the storage first; None where its elements are SCATTERED."""
    if tensor.storage.source.sequential and tensor.offset * tensor.dtype.width > tensor.stored_bytes + MOST_SKIPPED:
        return None
    if tensor.strides is None or tensor.repeats != 1 or tensor.dimensions != ((tensor.elements, 1),):
        return None
    strides = tensor.strides
    return tuple(sorted(range(len(strides)), key=lambda axis: -strides[axis]))


class Run:
    """The elements of a tensor that has a `storage_order`, in that order, for one thread that reads them forwards."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._source: Source | None = None

    def read(self, first: int, count: int) -> Floats:
        """Elements from number `first`, float32 or float64; CheckpointError where they cannot be read."""
        dtype, storage = self._tensor.dtype, self._tensor.storage
        if self._source is None:
            self._source = storage.source.reader()
        parts = []
        for start in range(first, first + count, STEP_ELEMENTS):
            size = min(STEP_ELEMENTS, first + count - start)
            raw = np.empty(size * dtype.width, np.uint8)
            self._source.read_into(storage.start + (self._tensor.offset + start) * dtype.width, raw.data)
            floats = dtype.restore(dtype.decode(raw, storage.byte_order, np.empty(size, np.uint32)))
            parts.append(floats)
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, np.float32)


class Computed(ABC):
    """The elements of an effective weight in the order of its carrier's storage, as little-endian floats."""

    def __init__(self, carrier: Tensor, *companions: Tensor) -> None:
        self.carrier, self.companions = carrier, companions
        self.location = carrier.storage.source.location
        self.sequential = any(tensor.storage.source.sequential for tensor in (carrier, *companions))
        self.number = next(_numbers)
        """Of the weight: the same for all that read it."""
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """Take positions of its own in what it reads."""

    @abstractmethod
    def elements(self, first: int, count: int) -> Floats:
        """Those from number `first`; CheckpointError where what they are made of cannot be read."""

    @property
    def dtype(self) -> DType:
        """Of what `read_into` gives: float64 where the carrier's elements are, else float32."""
        return floating(self.carrier)

    def reader(self) -> Source:
        """The same elements, for one thread."""
        other = copy.copy(self)
        other.begin()
        return other

    def will_need(self, offset: int, length: int) -> None:
        """Tell the carrier's source which of its bytes are read soon."""
        carrier, width = self.carrier, self.dtype.width
        start = carrier.storage.start + (carrier.offset + offset // width) * carrier.dtype.width
        carrier.storage.source.will_need(start, length // width * carrier.dtype.width)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with whole elements from byte `offset` of all of them."""
        width = self.dtype.width
        first, count = offset // width, len(buffer) // width
        for start in range(0, count, STEP_ELEMENTS):
            size = min(STEP_ELEMENTS, count - start)
            with np.errstate(all="ignore"):  # what comes from a file may be NaN, zero or too large
                numbers = np.ascontiguousarray(self.elements(first + start, size), f"<f{width}")
            buffer[start * width : (start + size) * width] = numbers.data.cast("B")


def floating(tensor: Tensor) -> DType:
    """The dtype of numbers that are worked out from a tensor, under the tensor's name."""
    wide = tensor.dtype.name == "F64"
    return DType(tensor.dtype.name, "float", 8 if wide else 4, DTYPES["F64" if wide else "F32"].decode)


def computed(source: Computed) -> Tensor:
    """The tensor of a source's elements, in the shape of its carrier, which has a `storage_order`."""
    carrier, dtype = source.carrier, source.dtype
    storage = Storage(source, 0, carrier.elements * dtype.width)
    tensor = make_tensor(carrier.path, carrier.shape, dtype, storage, 0, carrier.strides, carrier.use)
    stored = sum(part.stored_bytes for part in (carrier, *source.companions))
    return replace(tensor, encoded_bytes=stored)
