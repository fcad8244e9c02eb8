"""Where the data of an ONNX model's stored tensors lie: storages in the model, beside it, or decoded as they are read.

External data: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from weightstats.errors import CheckpointError, TensorError, quoted
from weightstats.pieces import Held
from weightstats.places import File, open_inside
from weightstats.schemas.onnx_records import (
    DOUBLE_DATA,
    FLOAT_DATA,
    INT32_DATA,
    INT64_DATA,
    RAW_DATA,
    UINT64_DATA,
    Data,
    Stored,
)
from weightstats.tensors import Source, Storage

FIXED = {FLOAT_DATA: (1, 14), DOUBLE_DATA: (11, 15)}
"""Fields that hold elements as they are, with the types that they may hold."""

VARINTS = {
    INT32_DATA: (2, 3, 4, 5, 6, 9, 10, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26),
    INT64_DATA: (7,),
    UINT64_DATA: (12, 13),
}
"""Fields that hold numbers of variable length, with the types whose bits those are."""

_RANGES = {3: (-(1 << 7), (1 << 7) - 1), 5: (-(1 << 15), (1 << 15) - 1), 6: (-(1 << 31), (1 << 31) - 1)}
_WIDTHS = {4: 2, 5: 2, 6: 4, 7: 8, 10: 2, 12: 4, 13: 8, 16: 2}
_STEP = 1 << 16
_MOST_OPEN = 64
_KEYS = ("location", "offset", "length", "checksum")
_CACHED = "prepacked"
"""With which the keys start under which ONNX Runtime keeps what it has worked out from a tensor."""


class Varints:
    """Numbers of variable length, as elements of one width: read from front to back."""

    sequential = True

    def __init__(self, storage: Storage, kind: int) -> None:
        self.storage, self.kind = storage, kind
        self.location = storage.source.location
        self.width = _WIDTHS.get(kind, 1)
        self._taken = self._given = 0
        self._pending = self._rest = b""

    def reader(self) -> Source:
        """The same elements, with a position of its own."""
        return Varints(self.storage, self.kind)

    def will_need(self, offset: int, length: int) -> None:
        """Nothing to do: what lies where is not known before it is read."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`; CheckpointError where a number is not one of the type's."""
        if offset < self._given:
            self._taken = self._given = 0
            self._pending = self._rest = b""
        done = 0
        while done < len(buffer):
            if not self._pending:
                self._pending = self._next()
            skipped = min(offset + done - self._given, len(self._pending))
            part = self._pending[skipped : skipped + len(buffer) - done]
            buffer[done : done + len(part)] = part
            done += len(part)
            self._pending = self._pending[skipped + len(part) :]
            self._given += skipped + len(part)

    def _next(self) -> bytes:
        """The elements that the next bytes hold."""
        size = min(_STEP, self.storage.size - self._taken)
        if size == 0:
            raise CheckpointError(self.location, "its data ends before its last element")
        raw = np.empty(size, np.uint8)
        self.storage.source.read_into(self.storage.start + self._taken, raw.data)
        self._taken += size
        raw = np.concatenate((np.frombuffer(self._rest, np.uint8), raw))
        ends = np.flatnonzero(raw < 0x80)
        whole = int(ends[-1]) + 1 if ends.size else 0
        self._rest = raw[whole:].tobytes()
        if len(self._rest) > _LONGEST:
            raise CheckpointError(self.location, "its data holds a number of more than ten bytes")
        return self._elements(raw, ends)

    def _elements(self, raw: NDArray[np.uint8], ends: NDArray[np.int64]) -> bytes:
        starts = np.concatenate((np.zeros(1, np.int64), ends + 1))[: ends.size]
        lengths = ends + 1 - starts
        longest = int(lengths.max(initial=0))
        if longest > _LONGEST:
            raise CheckpointError(self.location, "its data holds a number of more than ten bytes")
        numbers = np.zeros(ends.size, np.uint64)
        for place in range(longest):
            longer = lengths > place
            bits = (raw[starts[longer] + place] & 0x7F).astype(np.uint64)
            numbers[longer] |= bits << np.uint64(7 * place)
        signed = numbers.view(np.int64)
        low, high = _RANGES.get(self.kind, (0, (1 << 8 * self.width) - 1))
        if self.width < 8 and signed.size and (int(signed.min()) < low or int(signed.max()) > high):
            raise CheckpointError(self.location, "its data holds a number that its type has not")
        return numbers.view(np.uint8).reshape(-1, 8)[:, : self.width].tobytes()


_LONGEST = 10


def data_in(file: File, number: int, data: Data, kind: int) -> Storage:
    """The elements that one field of a tensor holds; TensorError where it holds others than the type's."""
    source: Source = Held(file.location, data.gathered) if data.gathered is not None else file
    storage = Storage(source, 0 if data.gathered is not None else data.start, data.size)
    if number == RAW_DATA or kind in FIXED.get(number, ()):
        return storage
    if kind not in VARINTS.get(number, ()):
        raise TensorError("its data is in a field that is not read for its type")
    return Storage(Varints(storage, kind), 0, _count(storage) * _WIDTHS.get(kind, 1))


def _count(storage: Storage) -> int:
    """Numbers of variable length in a storage: each has one byte that says that it ends."""
    count = 0
    raw = np.empty(_STEP, np.uint8)
    for start in range(0, storage.size, _STEP):
        part = raw[: min(_STEP, storage.size - start)]
        storage.source.read_into(storage.start + start, part.data)
        count += int(np.count_nonzero(part < 0x80))
    return count


# Data beside the model


class Companion:
    """A file beside the model, opened when it is read: a model may name more of them than can be open at once."""

    sequential = False

    def __init__(self, open_again: Callable[[str], File], name: str, file: File) -> None:
        self._open_again, self._name = open_again, name
        self.location, self.size = file.location, file.size
        self.identity = _identity(file)

    def reader(self) -> "Companion":
        """Itself: it has no position."""
        return self

    def will_need(self, offset: int, length: int) -> None:
        """Take note that these bytes are read soon."""
        self._file().will_need(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`; CheckpointError where the file is not there any more, or is another one."""
        self._file().read_into(offset, buffer)

    def _file(self) -> File:
        file = self._open_again(self._name)
        if _identity(file) != self.identity:
            raise CheckpointError(self.location, "was replaced by another file while it was read")
        return file


def _identity(file: File) -> tuple[int, int]:
    status = os.fstat(file.descriptor)
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class Range:
    """The bytes of one tensor in a file beside the model."""

    companion: Companion
    start: int
    size: int


class Companions:
    """The files beside one model, each opened once whatever it is called."""

    def __init__(self, file: File) -> None:
        self._open_again = lru_cache(_MOST_OPEN)(lambda name: open_inside(file.folder, name, file.location))
        self._by_name: dict[str, Companion] = {}
        self._by_identity: dict[tuple[int, int], Companion] = {}

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return sum(companion.size for companion in self._by_identity.values())

    def range_of(self, tensor: Stored, needed: int) -> Range:
        """Where a tensor's bytes are; TensorError where it does not say so clearly, or they are not there."""
        pairs = tensor.external or ()
        keys = [key for key, _ in pairs if not key.startswith(_CACHED)]
        unknown = [key for key in keys if key not in _KEYS]
        if unknown or len(set(keys)) != len(keys):
            what = f"an unknown key, {quoted(unknown[0])}" if unknown else "the same key twice"
            raise TensorError(f"what is said of its file has {what}")
        said = dict(pairs)
        companion = self._companion(said.get("location", ""))
        start = _number(said.get("offset", "0"), "offset")
        size = _number(said["length"], "length") if "length" in said else needed
        if size != needed:
            raise TensorError(f"its type and shape take {needed:,} bytes, and its length is said to be {size:,}")
        if start + size > companion.size:
            raise TensorError(f"{companion.location} ends before its last byte: it is truncated, or another file")
        return Range(companion, start, size)

    def _companion(self, name: str) -> Companion:
        if name not in self._by_name:
            try:
                made = Companion(self._open_again, name, self._open_again(name))
            except CheckpointError as error:
                raise TensorError(f"its file: {error.problem}") from error
            self._by_name[name] = self._by_identity.setdefault(made.identity, made)
        return self._by_name[name]


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise TensorError(f"its {what} in the file is not a number: {quoted(text)}")
    return int(text)


def overlapping(ranges: Sequence[tuple[Stored, Range]]) -> set[Stored]:
    """Tensors that share some of their bytes with another, but not all of them, or see another type in them."""
    sharing: dict[tuple[tuple[int, int], int, int], list[Stored]] = {}
    for tensor, one in ranges:
        if one.size:
            sharing.setdefault((one.companion.identity, one.start, one.start + one.size), []).append(tensor)
    unclear = {tensor for held in sharing.values() if len({one.type for one in held}) > 1 for tensor in held}
    last: tuple[tuple[int, int], int, int] | None = None
    for key in sorted(sharing):
        if last is not None and key[0] == last[0] and key[1] < last[2]:
            unclear.update(sharing[key], sharing[last])
        if last is None or key[0] != last[0] or key[2] > last[2]:
            last = key
    return unclear
