"""Zip archives, in place: their entries as storages, whole bytes or files, once the archive agrees with itself."""

import zipfile
import zlib
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from weightstats.dtypes import ByteOrder
from weightstats.errors import CheckpointError, TensorError, quoted
from weightstats.limits import LIMITS, over
from weightstats.places import File, written_out
from weightstats.tensors import Storage

_LOCAL_HEADER = b"PK\x03\x04"
SIGNATURES = (_LOCAL_HEADER, b"PK\x05\x06")
"""With which an archive starts: an entry's local header, or the end of the directory where there is no entry."""

_HEADER_BYTES = 30
_ENCRYPTED = 0x1


_names: WeakKeyDictionary[File, tuple[str, ...]] = WeakKeyDictionary()


def names_in(head: bytes, file: File) -> tuple[str, ...]:
    """The names of the entries of a file that starts like a zip archive, for telling formats apart; () for another
    file and for a damaged archive."""
    if not head.startswith(SIGNATURES):
        return ()
    if file not in _names:
        try:
            _names[file] = tuple(Archive(file).entries)
        except CheckpointError:
            _names[file] = ()
    return _names[file]


class Archive:
    """The entries of a zip archive. CheckpointError where its directory is damaged or names an entry twice."""

    def __init__(self, file: File) -> None:
        self.file = file
        try:
            with zipfile.ZipFile(file.stream()) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError) as error:
            raise CheckpointError(
                file.location, "is a damaged zip archive, probably a truncated download: its directory is missing"
            ) from error
        if len(infos) > LIMITS.zip_entries:
            raise CheckpointError(file.location, f"has {len(infos):,} zip entries, {over('zip_entries')}")
        self.entries: dict[str, zipfile.ZipInfo] = {}
        """By name, in the order of the directory."""

        for info in infos:
            if info.orig_filename in self.entries:
                raise CheckpointError(file.location, f"has two zip entries named {quoted(info.orig_filename)}")
            self.entries[info.orig_filename] = info
        self._overlapping = frozenset(_overlapping(infos))

    def bytes(self, name: str, limit: str) -> bytes:
        """A whole entry, inflated where it is compressed, within the limit of that name."""
        info = self.entries[name]
        if info.file_size > getattr(LIMITS, limit):
            raise CheckpointError(self.file.location, f"its {name} claims {info.file_size:,} bytes, {over(limit)}")
        if info.file_size > LIMITS.metadata_expansion * max(info.compress_size, 1024):
            problem = f"its {name} claims to inflate {info.file_size / max(info.compress_size, 1):,.0f} times"
            raise CheckpointError(self.file.location, f"{problem}, {over('metadata_expansion')}")
        try:
            storage = self.storage(name)
            data = bytearray(storage.size)
            storage.source.reader().read_into(storage.start, memoryview(data))
        except TensorError as error:
            raise CheckpointError(self.file.location, f"its entry {name}: {error}") from error
        if info.CRC and zlib.crc32(data) != info.CRC:  # torch.serialization.set_crc32_options(False) leaves it 0
            raise CheckpointError(self.file.location, f"its entry {name} is damaged: the checksum differs")
        return bytes(data)

    def file_in(self, name: str) -> File:
        """An entry as a file: in place, or inflated into a temporary one. CheckpointError where it cannot be."""
        try:
            storage = self.storage(name)
        except TensorError as error:
            raise CheckpointError(self.file.location, f"its entry {name}: {error}") from error
        location = f"{self.file.location}/{name}"
        if isinstance(storage.source, File):
            return self.file.window(storage.start, storage.size, location)
        if storage.size > LIMITS.expanded_bytes + LIMITS.expansion * self.file.size:
            problem = f"its entry {name} claims to inflate to {storage.size:,} bytes, {over('expanded_bytes')}"
            raise CheckpointError(self.file.location, problem)
        return written_out(_pieces(storage), location)

    def storage(self, name: str, order: ByteOrder = "little") -> Storage:
        """Where an entry's bytes are, once its local header agrees with the directory; TensorError where not."""
        info = self.entries[name]
        header = self.file.read(info.header_offset, _HEADER_BYTES)
        name_length = int.from_bytes(header[26:28], "little")
        extra_length = int.from_bytes(header[28:30], "little")
        local_name = self.file.read(info.header_offset + _HEADER_BYTES, name_length)
        method = int.from_bytes(header[8:10], "little")
        encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
        if not header.startswith(_LOCAL_HEADER) or local_name.decode(encoding, "replace") != info.orig_filename:
            raise TensorError("the archive's directory points at something else")
        if info.flag_bits & _ENCRYPTED:
            raise TensorError("it is encrypted")
        if method != info.compress_type:
            raise TensorError("the archive's directory and the entry name different compressions")
        start = info.header_offset + _HEADER_BYTES + name_length + extra_length
        if start + info.compress_size > self.file.size:
            raise TensorError("the archive is truncated before its end")
        if info.orig_filename in self._overlapping:
            raise TensorError("it shares bytes with another entry of the archive")
        if method == zipfile.ZIP_STORED:
            if info.file_size != info.compress_size:
                raise TensorError("the archive gives it two sizes")
            return Storage(self.file, start, info.file_size, order)
        if method == zipfile.ZIP_DEFLATED:
            source = _Deflated(self.file, start, info.compress_size, info.file_size)
            return Storage(source, 0, info.file_size, order)
        raise TensorError(f"it is compressed by a method (number {method}) that is not read")


def _pieces(storage: Storage) -> Iterator[bytes]:
    source = storage.source.reader()
    buffer = memoryview(bytearray(_INFLATE_STEP))
    for start in range(0, storage.size, _INFLATE_STEP):
        part = buffer[: min(_INFLATE_STEP, storage.size - start)]
        source.read_into(storage.start + start, part)
        yield bytes(part)


def _overlapping(infos: list[zipfile.ZipInfo]) -> Iterator[str]:
    """Names of entries that claim bytes which another one claims too."""
    reach, last = 0, ""
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < reach:
            yield from (last, info.orig_filename)
        end = info.header_offset + _HEADER_BYTES + len(info.orig_filename) + info.compress_size
        if end > reach:
            reach, last = end, info.orig_filename


_INFLATE_STEP = 1 << 18


class _Deflated:
    """A compressed entry, inflated from front to back as it is read."""

    sequential = True

    def __init__(self, file: File, start: int, compressed: int, size: int) -> None:
        self.file, self.start, self.compressed, self.size = file, start, compressed, size
        self.location = file.location
        self._rewind()

    def reader(self) -> "_Deflated":
        """The same entry with a position of its own."""
        return _Deflated(self.file, self.start, self.compressed, self.size)

    def will_need(self, offset: int, length: int) -> None:
        self.file.will_need(self.start, self.compressed)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with inflated bytes; CheckpointError where the stream is damaged or too short."""
        if offset < self._given:
            self._rewind()
        while self._given < offset:
            self._take(min(_INFLATE_STEP, offset - self._given))
        done = 0
        while done < len(buffer):
            part = self._take(len(buffer) - done)
            buffer[done : done + len(part)] = part
            done += len(part)

    def _rewind(self) -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._taken = self._given = 0
        self._pending = b""

    def _take(self, most: int) -> bytes:
        """The next 1 to `most` inflated bytes."""
        while True:
            if not self._pending and self._taken < self.compressed:
                step = min(_INFLATE_STEP, self.compressed - self._taken)
                self._pending = self.file.read(self.start + self._taken, step)
                self._taken += step
            try:
                part = self._inflater.decompress(self._pending, most)
            except zlib.error as error:
                raise CheckpointError(self.location, "a compressed storage is damaged") from error
            self._pending = self._inflater.unconsumed_tail
            if part:
                self._given += len(part)
                return part
            if not self._pending and self._taken >= self.compressed:
                raise CheckpointError(self.location, "a compressed storage is shorter than the archive says")
