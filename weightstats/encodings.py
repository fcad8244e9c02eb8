"""Stored blocks that become floats only together, or with a scale beside them, decoded as they are read."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weightstats.dtypes import DTYPES, DType
from weightstats.errors import TensorError
from weightstats.tensors import Source, Storage, Tensor, Use, make_tensor

_STEP_BYTES = 1 << 18
"""Of decoded elements that are made at a time."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How blocks of bytes become blocks of numbers."""

    name: str
    """The dtype that the report shows."""

    block_elements: int
    block_bytes: int
    decode: Callable[[NDArray[np.uint8], int], NDArray[np.float32]]
    """(blocks, block_bytes) raw bytes, and the number of the first block in the tensor, to (blocks, block_elements)
    numbers. What it raises is a CheckpointError."""


def encoded(
    path: tuple[str, ...], shape: tuple[int, ...], encoding: Encoding, storage: Storage, use: Use | None = None
) -> Tensor:
    """A tensor of consecutive blocks in `storage`; elements of the last block that the shape does not count are left
    out. TensorError where the storage holds fewer blocks than the shape needs.
    """
    if any(size < 0 for size in shape):
        raise TensorError("its size is negative")
    elements = math.prod(shape)
    blocks = -(-elements // encoding.block_elements)
    if blocks * encoding.block_bytes > storage.size:
        raise TensorError(f"it needs {blocks * encoding.block_bytes:,} bytes of a storage that holds {storage.size:,}")
    decoded = Storage(_Decoded(storage, encoding), 0, 4 * elements)
    dtype = DType(encoding.name, "float", 4, DTYPES["F32"].decode)
    tensor = make_tensor(path, shape, dtype, decoded, use=use)
    return replace(tensor, encoded_bytes=blocks * encoding.block_bytes)


class _Decoded:
    """The decoded elements of a storage, as little-endian 32-bit floats."""

    def __init__(self, storage: Storage, encoding: Encoding) -> None:
        self.storage, self.encoding = storage, encoding
        self.location = storage.source.location
        self.sequential = storage.source.sequential
        self._kept = (0, 0, np.empty(0, np.float32))

    def reader(self) -> Source:
        """The same elements, for one thread."""
        return _Decoded(replace(self.storage, source=self.storage.source.reader()), self.encoding)

    def will_need(self, offset: int, length: int) -> None:
        """Take note that these elements are read soon."""
        first, last = self._blocks(offset, length)
        size = self.encoding.block_bytes
        self.storage.source.will_need(self.storage.start + first * size, (last - first) * size)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with whole elements from byte `offset` of all of them."""
        done = 0
        while done < len(buffer):
            length = min(_STEP_BYTES, len(buffer) - done)
            buffer[done : done + length] = self._decoded(offset + done, length)
            done += length

    def _blocks(self, offset: int, length: int) -> tuple[int, int]:
        """The first block that a range of bytes lies in, and the first after it."""
        size = 4 * self.encoding.block_elements
        return offset // size, -(-(offset + length) // size)

    def _decoded(self, offset: int, length: int) -> memoryview:
        first, last = self._blocks(offset, length)
        flat = self._elements(first, last)
        skipped = offset - 4 * first * self.encoding.block_elements
        return flat.data.cast("B")[skipped : skipped + length]

    def _elements(self, first: int, last: int) -> NDArray[np.float32]:
        """Those of some blocks. The blocks before are kept: where the end of one step and the start of the next lie in
        one block, it is read once, so that a compressed storage is only read forwards."""
        start, end, kept = self._kept
        size = self.encoding.block_elements
        if not start <= first < end:
            flat = self._made(first, last)
        elif last <= end:
            return kept[(first - start) * size : (last - start) * size]
        else:
            flat = np.concatenate((kept[(first - start) * size :], self._made(end, last)))
        self._kept = (first, last, flat)
        return flat

    def _made(self, first: int, last: int) -> NDArray[np.float32]:
        size = self.encoding.block_bytes
        raw = np.empty(((last - first), size), np.uint8)
        self.storage.source.read_into(self.storage.start + first * size, raw.reshape(-1).data)
        with np.errstate(all="ignore"):  # scales out of a file may well be NaN or too large
            numbers = self.encoding.decode(raw, first)
        return np.ascontiguousarray(numbers, "<f4").reshape(-1)
