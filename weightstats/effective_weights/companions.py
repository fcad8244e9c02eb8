"""Tensors that quantised weights need beside their codes: scales, zero points, tables; read piece by piece, at need."""

import math
import threading
from collections import OrderedDict
from collections.abc import Collection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from weightstats.dtypes import DTYPES
from weightstats.effective_weights.packed_words import unpacked
from weightstats.errors import CheckpointError, TensorError, quoted
from weightstats.limits import LIMITS, over
from weightstats.tensors import Storage, Tensor

FLOATS = ("F64", "F32", "F16", "BF16")
"""Dtypes of scales that are plain numbers."""


class Numbers(Protocol):
    """A table that decoding looks numbers up in."""

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """Its elements from `first` to before `last`, in C order, not to be written to; CheckpointError where they
        cannot be read."""
        ...


class Shelf:
    """What the tables of one network have last read, for all threads of a process; a forked one has a copy.

    It is bounded by LIMITS.companion_bytes in force where it was made. Tables in compressed storages are held whole,
    since they are read well only from front to back: together, those take no more than the same.
    """

    def __init__(self) -> None:
        self._most = LIMITS.companion_bytes
        self._problem = over("companion_bytes")
        self._held: OrderedDict[tuple[int, int, int], NDArray[np.float32]] = OrderedDict()
        self._bytes = self._compressed = 0
        self.lock = threading.RLock()

    def make_room_for_compressed(self, tensor: Tensor) -> None:
        """TensorError where the bytes to inflate for a table are too many."""
        self._compressed += tensor.storage.start + tensor.reach
        if self._compressed > self._most:
            raise TensorError(f"the scales and tables in compressed storages take {self._problem} (bytes)")

    def check(self, location: str, elements: int) -> None:
        """CheckpointError where a piece is too large to be held."""
        if 4 * elements > self._most:
            raise CheckpointError(location, f"the scales that are needed at a time take {self._problem} (bytes)")

    def check_together(self, elements: int) -> None:
        """TensorError where tables that are needed in no order could not be held side by side, and so would be read
        again for each piece of the weight."""
        if 4 * elements > self._most:
            raise TensorError(f"the scales and zero points that are needed together take {self._problem} (bytes)")

    def get(self, key: tuple[int, int, int]) -> NDArray[np.float32] | None:
        """A piece that is still there: of which table, from where, to where."""
        with self.lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: tuple[int, int, int], piece: NDArray[np.float32]) -> NDArray[np.float32]:
        """The piece, which is kept while there is room."""
        with self.lock:
            if key not in self._held:
                self._held[key] = piece
                self._bytes += piece.nbytes
            while self._bytes > self._most and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
        return piece


class Table:
    """The elements of one tensor."""

    def __init__(self, tensor: Tensor, shelf: Shelf) -> None:
        if tensor.storage.source.sequential:
            shelf.make_room_for_compressed(tensor)
        self.tensor, self.storage, self.shelf = tensor, storage_of(tensor), shelf
        self._content: bytes | None = None

    def raw(self, first: int, last: int) -> NDArray[np.uint8]:
        """The stored bytes of some of the elements."""
        width, source = self.tensor.dtype.width, self.storage.source
        self.shelf.check(source.location, last - first)
        if source.sequential:
            return np.frombuffer(self._whole(), np.uint8)[first * width : last * width]
        raw = np.empty((last - first) * width, np.uint8)
        source.read_into(self.storage.start + first * width, raw.data)
        return raw

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """The elements as numbers."""
        key = (id(self), first, last)
        held = self.shelf.get(key)
        if held is not None:
            return held
        dtype = self.tensor.dtype
        words = np.empty(last - first, np.uint32)
        numbers = dtype.restore(dtype.decode(self.raw(first, last), self.storage.byte_order, words))
        return self.shelf.put(key, numbers.astype(np.float32))

    def words(self, first: int, last: int) -> NDArray[np.uint32]:
        """The elements as unsigned words, where they are of 32 bits."""
        return self.raw(first, last).view("<u4" if self.storage.byte_order == "little" else ">u4").astype(np.uint32)

    def _whole(self) -> bytes:
        with self.shelf.lock:
            if self._content is None:
                content = bytearray(self.storage.size)
                self.storage.source.reader().read_into(self.storage.start, memoryview(content))
                self._content = bytes(content)
            return self._content


class PackedTable:
    """Integers packed in the words of one tensor: `columns` of them side by side, each column's in the words below each
    other, as many as it takes for whole words (`packed_words.unpacked`)."""

    def __init__(self, table: Table, bits: int, columns: int = 1, more: int = 0) -> None:
        self._table, self._bits, self._columns = table, bits, columns
        self._more = more
        """What is added to each integer, within its bits."""

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """The integers, row by row of the unpacked table."""
        key = (id(self), first, last)
        held = self._table.shelf.get(key)
        if held is not None:
            return held
        words, numbers = tile(self._bits)
        start, end = first // (numbers * self._columns), -(-last // (numbers * self._columns))
        self._table.shelf.check(self._table.storage.source.location, (end - start) * numbers * self._columns)
        size = words * self._columns
        raw = self._table.words(start * size, end * size).reshape(end - start, words, self._columns)
        skipped = first - start * numbers * self._columns
        made = unpacked(raw, self._bits).reshape(-1)[skipped : skipped + last - first]
        if self._more:
            made = (made + np.uint8(self._more)) & np.uint8((1 << self._bits) - 1)
        return self._table.shelf.put(key, made.astype(np.float32))


def tile(bits: int) -> tuple[int, int]:
    """The fewest words that hold a whole number of integers, and how many they hold."""
    common = math.gcd(bits, 32)
    return bits // common, 32 // common


def storage_of(tensor: Tensor) -> Storage:
    """The bytes of a tensor whose elements lie side by side in C order; TensorError for another."""
    if not is_contiguous(tensor) or tensor.encoded_bytes is not None:
        raise TensorError(f"the elements of {quoted(tensor.name)} do not lie side by side in the order of its shape")
    width, storage = tensor.dtype.width, tensor.storage
    start = storage.start + tensor.offset * width
    return Storage(storage.source, start, tensor.elements * width, storage.byte_order)


def is_contiguous(tensor: Tensor) -> bool:
    """Whether its elements lie side by side in C order."""
    expected = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides or ()), strict=False):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return tensor.strides is not None and tensor.repeats == 1


def checked(tensor: Tensor, dtypes: Collection[str], *shapes: tuple[int, ...]) -> Tensor:
    """The tensor, which has one of the dtypes and of the shapes (any, if there are none); TensorError for another."""
    if tensor.dtype.name not in dtypes:
        raise TensorError(f"{quoted(tensor.name)} is of {tensor.dtype.name}, which does not fit the codes")
    if shapes and tensor.shape not in shapes:
        raise TensorError(f"{quoted(tensor.name)} has the shape {quoted(tensor.shape)}, which does not fit the codes")
    return tensor


def content(tensor: Tensor) -> bytes:
    """The bytes of a small tensor that decoding depends on as a whole; TensorError where they are many, or cannot be
    read."""
    storage = storage_of(tensor)
    inflated = tensor.storage.start + tensor.reach if storage.source.sequential else storage.size
    if inflated > LIMITS.quantisation_state_bytes:
        raise TensorError(f"{quoted(tensor.name)} takes {over('quantisation_state_bytes')} (bytes)")
    raw = bytearray(storage.size)
    try:
        storage.source.reader().read_into(storage.start, memoryview(raw))
    except CheckpointError as error:
        raise TensorError(error.problem) from error
    return bytes(raw)


def integers(tensor: Tensor) -> list[int]:
    """The elements of a small tensor of integers; TensorError for another, and where it is not small."""
    if tensor.dtype.kind != "integer" or DTYPES[tensor.dtype.name] != tensor.dtype:
        raise TensorError(f"{quoted(tensor.name)} is of {tensor.dtype.name}, not of integers")
    order = "<" if tensor.storage.byte_order == "little" else ">"
    code = f"{order}{'u' if tensor.dtype.name.startswith('U') else 'i'}{tensor.dtype.width}"
    return [int(number) for number in np.frombuffer(content(tensor), code)]
