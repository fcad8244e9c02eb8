"""Where the numbers of an HDF5 dataset lie, as storages: in place, inflated chunk by chunk, or never written.

The chunks come one after the other as the file has them, which need not be the order of their elements' indices.
Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html, sections III.E and IV.A.2.i.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from operator import sub

import numpy as np
from numpy.typing import NDArray

from weightstats.containers.hdf5_jail import Chunked, Compact, Contiguous, Dataset
from weightstats.dtypes import DTYPES
from weightstats.errors import CheckpointError, TensorError, quoted
from weightstats.limits import LIMITS, over
from weightstats.pieces import Held
from weightstats.places import File
from weightstats.tensors import Storage

DEFLATE, SHUFFLE, FLETCHER32, LZF = 1, 2, 3, 32000
CHECKSUM_BYTES = 4

FILTERS = {4: "szip", 5: "nbit", 6: "scaleoffset", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle",
           32013: "zfp", 32015: "zstd", 32026: "blosc2"}  # fmt: skip
"""Filters that are not read. Numbers: the HDF Group's registry of filter plugins."""

SHARED_CHUNK_BYTES = 1 << 20
"""Larger chunks are inflated by one thread only: two that meet within a chunk would both inflate it."""

MOST_ADVICE = 16
"""Runs of bytes of which the system is told at once that they are needed."""


class Budget:
    """How many bytes a file's storages may yet give beyond those that are stored."""

    def __init__(self, stored: int) -> None:
        self.left = LIMITS.expanded_bytes + LIMITS.expansion * stored

    def take(self, given: int, stored: int) -> None:
        """TensorError where more comes out of what is stored than is left."""
        if given - stored > self.left:
            claim = f"it takes {stored:,} bytes in the file and gives {given:,}"
            raise TensorError(f"{claim}: with the others, {over('expanded_bytes')} (bytes) and expansion allows")
        self.left -= max(0, given - stored)


def storage_of(file: File, start: int, dataset: Dataset, budget: Budget) -> tuple[Storage, int]:
    """(storage, bytes in the file) of a dataset of the HDF5 file that begins at `start`; TensorError with a reason."""
    width = DTYPES[dataset.dtype].width
    needed = math.prod(dataset.shape) * width
    layout = dataset.layout
    if needed == 0:
        return Storage(file, 0, 0, dataset.order), 0
    if isinstance(layout, Chunked):
        chunks = _Chunks(file, start, dataset, layout, budget)
        return Storage(chunks, 0, needed, dataset.order), chunks.stored
    if isinstance(layout, Compact):
        if len(layout.data) != needed:
            raise TensorError(f"it needs {needed:,} bytes, and its header holds {len(layout.data):,}")
        return Storage(Held(file.location, layout.data), 0, needed, dataset.order), needed
    if layout.offset is None:
        budget.take(needed, 0)
        return Storage(_Repeated(file.location, _filled(dataset)), 0, needed, dataset.order), 0
    _check_place(file, start, layout)
    if layout.size < needed:
        raise TensorError(f"it needs {needed:,} bytes, and the file keeps {layout.size:,} for it")
    return Storage(file, start + layout.offset, needed, dataset.order), needed


def order_of(dataset: Dataset) -> bytes:
    """What tells the order in which the elements are given from all others; b"" where it is that of their indices."""
    layout, shape = dataset.layout, dataset.shape
    if not isinstance(layout, Chunked) or not layout.chunks:
        return b""
    places = [place for place, *_ in sorted(layout.chunks, key=lambda chunk: chunk[1])]
    number = math.prod(-(-size // step) for size, step in zip(shape, layout.shape, strict=True))
    cut = next((axis for axis, step in enumerate(layout.shape) if step != 1), len(shape))
    are_runs = all(step >= size for step, size in zip(layout.shape[cut + 1 :], shape[cut + 1 :], strict=True))
    if are_runs and len(places) == number and places == sorted(places):
        return b""
    return repr((layout.shape, places)).encode()


def _check_place(file: File, start: int, layout: Contiguous) -> None:
    if layout.offset is not None and start + layout.offset + layout.size > file.size:
        raise TensorError("its bytes lie beyond the end of the file: it is truncated")


def _filled(dataset: Dataset) -> bytes:
    if dataset.fill is None:
        raise TensorError("it was never written, and the file does not say what it holds then")
    return dataset.fill or bytes(DTYPES[dataset.dtype].width)


class _Repeated(Held):
    """One element, again and again."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        width = len(self.content)
        skipped = offset % width
        times = (skipped + len(buffer)) // width + 1
        buffer[:] = np.tile(np.frombuffer(self.content, np.uint8), times)[skipped : skipped + len(buffer)].data


@dataclass(frozen=True, slots=True)
class _Plan:
    """What all chunks of a dataset have in common."""

    shape: tuple[int, ...]
    """Of the dataset."""

    chunk_shape: tuple[int, ...]
    width: int
    filters: tuple[int, ...]
    """Their numbers, in the order of writing."""

    shuffled: int
    """Bytes of the elements that the shuffle filter took apart."""

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunk_shape) * self.width

    def sizes_at(self, place: Sequence[int]) -> tuple[int, ...]:
        """How much of the chunk at a place lies within the dataset."""
        return tuple(map(min, self.chunk_shape, map(sub, self.shape, place)))


class _Chunks:
    """The elements of a chunked dataset: those of each stored chunk in the order of the file, then what is filled."""

    def __init__(self, file: File, start: int, dataset: Dataset, layout: Chunked, budget: Budget) -> None:
        self.file, self.location, self.start = file, file.location, start
        self.plan = _plan(dataset, layout)
        chunks = sorted(layout.chunks, key=lambda chunk: chunk[1])
        chunks = [chunk for chunk in chunks if all(at < size for at, size in zip(chunk[0], dataset.shape, strict=True))]
        self._check(chunks)
        needed = math.prod(dataset.shape) * self.plan.width
        self.stored = sum(size for _, _, size, _ in chunks)
        budget.take(needed, self.stored)
        self.places = np.array([place for place, *_ in chunks], np.int64).reshape(len(chunks), len(dataset.shape))
        self.stored_at = np.array([[*rest] for _, *rest in chunks], np.int64).reshape(len(chunks), 3)
        given = [math.prod(self.plan.sizes_at(place)) * self.plan.width for place, *_ in chunks]
        self.ends = np.cumsum(np.array(given, np.int64))
        self.written = sum(given)
        self.fill = _Repeated(file.location, _filled(dataset) if self.written < needed else b"\0")
        self.sequential = bool(self.plan.filters) and self.plan.chunk_bytes > SHARED_CHUNK_BYTES
        self._kept: tuple[int, memoryview] = (-1, memoryview(b""))

    def _check(self, chunks: list[tuple[tuple[int, ...], int, int, int]]) -> None:
        """TensorError for chunks that are not where the dataset and the file have room for them."""
        end = 0
        for place, offset, size, mask in chunks:
            if any(at % step for at, step in zip(place, self.plan.chunk_shape, strict=True)):
                raise TensorError("one of its chunks begins within another")
            if self.start + offset + size > self.file.size:
                raise TensorError("one of its chunks lies beyond the end of the file: it is truncated")
            if offset < end:
                raise TensorError("two of its chunks share bytes of the file")
            if mask >> len(self.plan.filters):
                raise TensorError("one of its chunks leaves out a filter that there is not")
            if not self.plan.filters and size != self.plan.chunk_bytes:
                raise TensorError(f"one of its chunks has {size:,} bytes in place of {self.plan.chunk_bytes:,}")
            end = offset + size
        if len({place for place, *_ in chunks}) != len(chunks):
            raise TensorError("one of its chunks is stored twice")

    def reader(self) -> "_Chunks":
        """The same chunks, for one thread: it keeps the last one that was inflated."""
        reader = object.__new__(_Chunks)
        reader.__dict__.update(self.__dict__)
        return reader

    def will_need(self, offset: int, length: int) -> None:
        """Take note that these elements are read soon."""
        first, last = np.searchsorted(self.ends, [offset, max(offset, offset + length - 1)], "right")
        for at, size, _ in self.stored_at[first : last + 1][:MOST_ADVICE].tolist():
            self.file.will_need(self.start + at, size)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from byte `offset` of all elements; CheckpointError where a chunk is damaged."""
        done = 0
        while done < len(buffer):
            at = offset + done
            if at >= self.written:
                self.fill.read_into(at - self.written, buffer[done:])
                return
            number = int(np.searchsorted(self.ends, at, "right"))
            skipped = at - (int(self.ends[number - 1]) if number else 0)
            length = min(len(buffer) - done, int(self.ends[number]) - at)
            self._read_chunk(number, skipped, buffer[done : done + length])
            done += length

    def _read_chunk(self, number: int, skipped: int, buffer: memoryview) -> None:
        at, size, mask = map(int, self.stored_at[number])
        plan = self.plan
        sizes = plan.sizes_at(self.places[number].tolist())
        if not plan.filters and sizes == plan.chunk_shape:
            self.file.read_into(self.start + at + skipped, buffer)
            return
        if self._kept[0] != number:
            self._kept = (-1, memoryview(b""))
            try:
                elements = _unfiltered(self.file.read(self.start + at, size), plan, mask)
            except ValueError as error:
                raise CheckpointError(self.location, f"a chunk of one of its datasets is damaged: {error}") from error
            part = elements.reshape(*plan.chunk_shape, plan.width)[tuple(map(slice, sizes))]
            self._kept = (number, np.ascontiguousarray(part).reshape(-1).data)
        buffer[:] = self._kept[1][skipped : skipped + len(buffer)]


def _plan(dataset: Dataset, layout: Chunked) -> _Plan:
    """TensorError for filters that are not read, and for chunks that are too large to be inflated whole."""
    width = DTYPES[dataset.dtype].width
    shuffled = width
    for number, name, values in layout.filters:
        if number not in (DEFLATE, SHUFFLE, FLETCHER32, LZF):
            known = FILTERS.get(number, f"number {number}, called {quoted(name)}")
            raise TensorError(f"its chunks are stored through a filter that is not read: {known}")
        if number == SHUFFLE and values:
            shuffled = values[0]
    numbers = tuple(number for number, _, _ in layout.filters)
    if len(set(numbers)) < len(numbers):
        raise TensorError("its chunks are stored through one filter twice")
    if shuffled < 1:
        raise TensorError("its chunks are shuffled by elements of no bytes")
    plan = _Plan(dataset.shape, layout.shape, width, numbers, shuffled)
    whole = all(size % step == 0 for size, step in zip(dataset.shape, layout.shape, strict=True))
    if plan.chunk_bytes > LIMITS.hdf5_chunk_bytes and layout.chunks and (numbers or not whole):
        raise TensorError(f"its chunks are {plan.chunk_bytes:,} bytes each, {over('hdf5_chunk_bytes')}")
    return plan


def _unfiltered(data: bytes, plan: _Plan, mask: int) -> NDArray[np.uint8]:
    """A chunk's bytes as they were before its filters; ValueError where they cannot be got back exactly."""
    for index in reversed(range(len(plan.filters))):
        if mask >> index & 1:
            continue
        if plan.filters[index] == DEFLATE:
            data = _inflated(data, plan.chunk_bytes + CHECKSUM_BYTES)
        elif plan.filters[index] == LZF:
            data = _expanded(data, plan.chunk_bytes + CHECKSUM_BYTES)
        elif plan.filters[index] == SHUFFLE:
            data = _unshuffled(data, plan.shuffled)
        else:
            data, sums = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
            if int.from_bytes(sums, "little") not in _checksums(data):
                raise ValueError("its checksum differs")
    if len(data) != plan.chunk_bytes:
        raise ValueError(f"it has {len(data):,} bytes in place of {plan.chunk_bytes:,}")
    return np.frombuffer(data, np.uint8)


def _inflated(data: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        result = inflater.decompress(data, most + 1)
    except zlib.error as error:
        raise ValueError("it cannot be inflated") from error
    if not inflater.eof:
        raise ValueError("it inflates to more or less than a chunk")
    return result


def _expanded(data: bytes, most: int) -> bytes:
    """LZF: runs of bytes, and copies of what came before. Format: lzf_d.c of liblzf 3.6, by Marc Lehmann."""
    made = bytearray()
    at = 0
    try:
        while at < len(data) and len(made) <= most:
            length = data[at] >> 5
            if length == 0:
                end = at + 2 + data[at]
                made += data[at + 1 : end]
                at = end
                continue
            back = (data[at] & 31) << 8
            if length == 7:
                at += 1
                length += data[at]
            back += data[at + 1] + 1
            at += 2
            if back > len(made):
                raise ValueError("it copies from before its start")
            part = made[-back:]
            made += (part * ((length + 2) // back + 1))[: length + 2]
    except IndexError as error:
        raise ValueError("it ends within a copy") from error
    return bytes(made)


def _unshuffled(data: bytes, width: int) -> bytes:
    """The bytes of each element together again; what is left over stays at the end."""
    count = len(data) // width
    if width < 2 or count < 2:
        return data
    planes = np.frombuffer(data, np.uint8, count * width).reshape(width, count)
    return planes.T.tobytes() + data[count * width :]


def _checksums(data: bytes) -> tuple[int, int]:
    """HDF5's Fletcher-32 of the data, and the form with swapped bytes that libraries before 1.6.3 wrote."""
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.uint64)
    first = second = 0
    for start in range(0, len(words), 1 << 16):
        part = words[start : start + (1 << 16)]
        second += first * len(part) + int((part * np.arange(len(part), 0, -1, dtype=np.uint64)).sum())
        first += int(part.sum())
    folded = [total % 65535 or (65535 if total else 0) for total in (first, second)]
    swapped = [(total & 0xFF) << 8 | total >> 8 for total in folded]
    return folded[1] << 16 | folded[0], swapped[1] << 16 | swapped[0]
