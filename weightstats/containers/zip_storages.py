"""The bytes of a zip archive's entries as sources of storages, held to what the archive says of them."""

import zlib
from dataclasses import dataclass

from weightstats.containers.zip_directory import Entry
from weightstats.errors import CheckpointError
from weightstats.places import File

INFLATE_STEP = 1 << 18
"""Bytes that are taken from the archive, or given back, at a time."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The archive's file, for an entry that lies in it as it is: a read of the whole entry is held to its checksum.

    Small tensors are read so. What is read in parts, perhaps by several processes, is not checked.
    """

    file: File
    start: int
    size: int
    checksum: int

    sequential = False

    @property
    def location(self) -> str:
        """The archive's."""
        return self.file.location

    def reader(self) -> "Checked":
        """Itself: it keeps no position."""
        return self

    def will_need(self, offset: int, length: int) -> None:
        """Tell the system that these bytes are read soon."""
        self.file.will_need(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset` in the archive."""
        self.file.read_into(offset, buffer)
        if offset == self.start and len(buffer) == self.size and zlib.crc32(buffer) != self.checksum:
            raise CheckpointError(self.location, "it is damaged: the checksum differs")


class Deflated:
    """A compressed entry, inflated from front to back as it is read."""

    sequential = True

    def __init__(self, file: File, start: int, entry: Entry) -> None:
        self.file, self.start, self.entry = file, start, entry
        self.compressed, self.size = entry.compress_size, entry.file_size
        self.location = file.location
        self._rewind()

    def reader(self) -> "Deflated":
        """The same entry with a position of its own."""
        return Deflated(self.file, self.start, self.entry)

    def will_need(self, offset: int, length: int) -> None:
        """Tell the system that the compressed bytes are read soon."""
        self.file.will_need(self.start, self.compressed)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with inflated bytes; CheckpointError where the stream is damaged or too short."""
        if offset < self._given:
            self._rewind()
        while self._given < offset:
            self._take(min(INFLATE_STEP, offset - self._given))
        done = 0
        while done < len(buffer):
            part = self._take(len(buffer) - done)
            buffer[done : done + len(part)] = part
            done += len(part)

    def _rewind(self) -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._taken = self._given = self._checksum = 0
        self._pending = b""

    def _take(self, most: int) -> bytes:
        """The next 1 to `most` inflated bytes."""
        part = self._inflated(most)
        if not part:
            raise CheckpointError(self.location, "a compressed storage is shorter than the archive says")
        self._given += len(part)
        self._checksum = zlib.crc32(part, self._checksum)
        if self._given == self.size:
            self._check_end()
        return part

    def _inflated(self, most: int) -> bytes:
        """At most so many inflated bytes; none where the stream has ended."""
        part = b""
        while not part and not self._inflater.eof and (self._pending or self._taken < self.compressed):
            if not self._pending:
                step = min(INFLATE_STEP, self.compressed - self._taken)
                self._pending = self.file.read(self.start + self._taken, step)
                self._taken += step
            try:
                part = self._inflater.decompress(self._pending, most)
            except zlib.error as error:
                raise CheckpointError(self.location, "a compressed storage is damaged") from error
            self._pending = self._inflater.unconsumed_tail
        return part

    def _check_end(self) -> None:
        """CheckpointError unless the stream ends with its last byte, and gave what its checksum says."""
        if self._inflated(1):
            raise CheckpointError(self.location, "a compressed storage is longer than the archive says")
        if not self._inflater.eof or self._inflater.unused_data or self._taken < self.compressed:
            raise CheckpointError(self.location, "a compressed storage is damaged: it does not end where it should")
        if self.entry.checksum and self._checksum != self.entry.checksum:
            raise CheckpointError(self.location, "a compressed storage is damaged: its checksum differs")
