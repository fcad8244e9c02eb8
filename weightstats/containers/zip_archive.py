"""Zip archives, in place: their entries as storages, whole bytes or files, once the archive agrees with itself."""

import struct
from collections.abc import Iterator, Mapping

from weightstats.containers.zip_directory import (
    HEADER_BYTES,
    LARGE,
    LOCAL_HEADER,
    SIGNATURES,
    Entry,
    directory_of,
    large_numbers,
)
from weightstats.containers.zip_storages import INFLATE_STEP, Checked, Deflated
from weightstats.dtypes import ByteOrder
from weightstats.errors import CheckpointError, TensorError, shortened
from weightstats.limits import LIMITS, over
from weightstats.places import File, written_out
from weightstats.tensors import Storage

__all__ = ["SIGNATURES", "Archive", "Entry", "names_in"]

STORED, DEFLATED = 0, 8
"""The methods of compression that are read; checkpoints have no other."""

_ENCRYPTED = 0x1 | 0x40 | 0x2000
_DESCRIBED_BEHIND = 0x8
_HARMLESS = 0x2 | 0x4 | _DESCRIBED_BEHIND | 0x800
"""Flags that are read: how hard the writer tried to compress, what follows the entry, and UTF-8 in names."""

_LOCAL = struct.Struct("<4s5H3L2H")


def names_in(head: bytes, file: File) -> tuple[str, ...]:
    """The names of the entries of a file that starts like a zip archive, for telling formats apart; () for another
    file and for a damaged archive."""
    if not head.startswith(SIGNATURES):
        return ()
    try:
        return tuple(directory_of(file).entries)
    except CheckpointError:
        return ()


class Archive:
    """The entries of a zip archive. CheckpointError where its directory is damaged or names an entry twice."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.directory = directory_of(file)
        self.entries: Mapping[str, Entry] = self.directory.entries
        """By name, in the order of the directory."""

    def bytes(self, name: str, limit: str) -> bytes:
        """A whole entry, inflated where it is compressed, within the limit of that name."""
        entry, location = self.entries[name], self.file.location
        shown = shortened(name)
        is_stored = entry.compress_type == STORED
        if not is_stored and entry.file_size > LIMITS.metadata_expansion * max(entry.compress_size, 1024):
            problem = f"its {shown} claims to inflate {entry.file_size / max(entry.compress_size, 1):,.0f} times"
            raise CheckpointError(location, f"{problem}, {over('metadata_expansion')}")
        if not is_stored and LIMITS.text_bytes < getattr(LIMITS, limit):
            limit = "text_bytes"
        if entry.file_size > getattr(LIMITS, limit):
            raise CheckpointError(location, f"its {shown} claims {entry.file_size:,} bytes, {over(limit)}")
        try:
            storage = self.storage(name)
            data = bytearray(storage.size)
            storage.source.reader().read_into(storage.start, memoryview(data))
        except (TensorError, CheckpointError) as error:
            problem = error.problem if isinstance(error, CheckpointError) else str(error)
            raise CheckpointError(location, f"its entry {shown}: {problem}") from error
        return bytes(data)

    def file_in(self, name: str) -> File:
        """An entry as a file: in place, or inflated into a temporary one. CheckpointError where it cannot be."""
        shown = shortened(name)
        try:
            storage = self.storage(name)
        except TensorError as error:
            raise CheckpointError(self.file.location, f"its entry {shown}: {error}") from error
        location = f"{self.file.location}/{name}"
        if not storage.source.sequential:
            return self.file.window(storage.start, storage.size, location)
        if storage.size > LIMITS.expanded_bytes + LIMITS.expansion * self.file.size:
            problem = f"its entry {shown} claims to inflate to {storage.size:,} bytes, {over('expanded_bytes')}"
            raise CheckpointError(self.file.location, problem)
        return written_out(_pieces(storage), location)

    def storage(self, name: str, order: ByteOrder = "little") -> Storage:
        """Where an entry's bytes are, once its headers agree with each other; TensorError where not."""
        entry = self.entries[name]
        start = self._start(entry)
        if name in self.directory.overlapping:
            raise TensorError("it shares bytes with another entry of the archive")
        self._check_end(entry, start + entry.compress_size)
        if entry.compress_type == STORED:
            if entry.file_size != entry.compress_size:
                raise TensorError("the archive gives it two sizes")
            source = Checked(self.file, start, entry.file_size, entry.checksum) if entry.checksum else self.file
            return Storage(source, start, entry.file_size, order)
        if entry.compress_type == DEFLATED:
            return Storage(Deflated(self.file, start, entry), 0, entry.file_size, order)
        raise TensorError(f"it is compressed by a method (number {entry.compress_type}) that is not read")

    def _start(self, entry: Entry) -> int:
        """Where the bytes of an entry start, behind a header that says the same as the directory."""
        here = min(HEADER_BYTES + len(entry.raw_name), self.file.size - entry.header_offset)
        header = self.file.read(entry.header_offset, here)
        if len(header) < HEADER_BYTES or not header.startswith(LOCAL_HEADER):
            raise TensorError("the archive's directory points at something else")
        _, _, flags, method, _, _, checksum, compressed, size, name_length, extra_length = _LOCAL.unpack_from(header)
        if name_length != len(entry.raw_name) or header[HEADER_BYTES:] != entry.raw_name:
            raise TensorError("the archive's directory points at something else")
        if (flags | entry.flags) & _ENCRYPTED:
            raise TensorError("it is encrypted")
        if flags != entry.flags or flags & ~_HARMLESS:
            raise TensorError(f"its flags are 0x{flags:x} in one place and 0x{entry.flags:x} in another, or not read")
        if method != entry.compress_type:
            raise TensorError("the archive's directory and the entry name different compressions")
        begin = entry.header_offset + HEADER_BYTES + name_length
        start: int = begin + extra_length
        if start + entry.compress_size > self.file.size:
            raise TensorError("the archive is truncated before its end")
        if LARGE in (size, compressed):
            size, compressed = large_numbers(self.file.read(begin, extra_length), (size, compressed)) or (-1, -1)
        pairs = ((checksum, entry.checksum), (compressed, entry.compress_size), (size, entry.file_size))
        left_out = flags & _DESCRIBED_BEHIND
        if any(local != central and not (left_out and local == 0) for local, central in pairs):
            raise TensorError("the archive's directory and the entry contradict each other")
        return start

    def _check_end(self, entry: Entry, end: int) -> None:
        """TensorError unless an entry ends where the next one starts, or its description does that follows it."""
        left = self.directory.ends[entry.header_offset] - end
        if entry.flags & _DESCRIBED_BEHIND:
            numbers = (entry.checksum, entry.compress_size, entry.file_size)
            forms = [struct.pack(form, *numbers) for form in ("<3L", "<L2Q") if max(numbers) < LARGE or form == "<L2Q"]
            found = self.file.read(end, left) if 0 < left <= 24 else b""
            if found.removeprefix(b"PK\x07\x08") not in forms:
                raise TensorError("what describes it in the archive contradicts the directory")
        elif left:
            raise TensorError("the archive's entries do not lie side by side")


def _pieces(storage: Storage) -> Iterator[bytes]:
    source = storage.source.reader()
    buffer = memoryview(bytearray(INFLATE_STEP))
    for start in range(0, storage.size, INFLATE_STEP):
        part = buffer[: min(INFLATE_STEP, storage.size - start)]
        source.read_into(storage.start + start, part)
        yield bytes(part)
