"""Files that `torch.save` writes since torch 1.6: a zip archive with a pickle and one entry a storage.

Layout: `<root>/data.pkl`, `<root>/data/<key>`, `<root>/byteorder`, `<root>/version`; torch/serialization.py, `_save`.
"""

import io
import re
import zipfile
import zlib
from dataclasses import replace

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.dtypes import DTYPES, ByteOrder
from weightstats.errors import CheckpointError, TensorError
from weightstats.limits import LIMITS
from weightstats.pickle_records import PickleError, read_pickle
from weightstats.places import File
from weightstats.tensors import Storage
from weightstats.torch_records import SavedStorage, find_tensors, unknown_classes

FORMAT = "torch zip"
RECOGNISED_BY = "a zip archive with one data.pkl"

_LOCAL_HEADER = b"PK\x03\x04"
_ENCRYPTED = 0x1
_PICKLE = re.compile(r"(?:[^/]+/)?data\.pkl")


def recognises(head: bytes, file: File) -> bool:
    """The signature of a zip archive's first entry."""
    return head.startswith(_LOCAL_HEADER)


def read(file: File) -> Checkpoint:
    """The tensors that the archive's pickle leads to. CheckpointError where the archive or the pickle is damaged."""
    archive = _Archive(file)
    try:
        pickle = read_pickle(io.BytesIO(archive.bytes(archive.pickle_name, LIMITS.pickle_bytes)))
    except PickleError as error:
        raise CheckpointError(file.location, f"its pickle {archive.pickle_name} {error}") from error
    order = archive.byte_order()
    storages: dict[str, tuple[str | None, int, Storage]] = {}

    def open_storage(saved: SavedStorage) -> Storage:
        known = storages.get(saved.key)
        if known is None:
            storage = archive.storage(saved, order)
            storages[saved.key] = (saved.dtype, saved.elements, storage)
            return storage
        if known[:2] != (saved.dtype, saved.elements):
            raise TensorError(f"its storage {saved.key} is described in two ways: which one holds is not to be known")
        return known[2]

    found = find_tensors(pickle.root, open_storage)
    return Checkpoint(
        location=file.location,
        format="TorchScript" if archive.is_torchscript else FORMAT,
        bytes=file.size,
        tensors=tuple(found.tensors),
        unread=tuple(Unread(".".join(path), reason) for path, reason in found.unread),
        objects_not_loaded=unknown_classes(pickle.globals),
        warnings=tuple(found.warnings),
    )


class _Archive:
    """The entries of a zip archive that is a torch file; nothing is ever extracted to disk."""

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
            raise CheckpointError(file.location, f"has {len(infos):,} zip entries, more than {LIMITS.zip_entries:,}")
        self.entries: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            if info.orig_filename in self.entries:
                raise CheckpointError(file.location, f"has two zip entries named {info.orig_filename!r}")
            self.entries[info.orig_filename] = info
        pickles = [name for name in self.entries if _PICKLE.fullmatch(name)]
        if len(pickles) != 1:
            problem = (
                "is a zip archive without a data.pkl: not a torch file"
                if not pickles
                else f"has {len(pickles)} pickles that could be the checkpoint: {', '.join(sorted(pickles))}"
            )
            raise CheckpointError(file.location, problem)
        self.pickle_name = pickles[0]
        self.root = self.pickle_name.removesuffix("data.pkl")

    @property
    def is_torchscript(self) -> bool:
        return f"{self.root}constants.pkl" in self.entries

    def byte_order(self) -> ByteOrder:
        name = f"{self.root}byteorder"
        text = self.bytes(name, 16) if name in self.entries else b"little"
        if text not in (b"little", b"big"):
            raise CheckpointError(self.file.location, f"names a byte order that does not exist: {text!r}")
        return "little" if text == b"little" else "big"

    def bytes(self, name: str, limit: int) -> bytes:
        """A whole entry, inflated where it is compressed."""
        info = self.entries[name]
        if info.file_size > limit or info.file_size > LIMITS.metadata_expansion * max(info.compress_size, 1024):
            raise CheckpointError(self.file.location, f"its {name} claims {info.file_size:,} bytes, more than is read")
        try:
            storage = self._stored(info, "little")
            data = bytearray(storage.size)
            storage.source.reader().read_into(storage.start, memoryview(data))
        except TensorError as error:
            raise CheckpointError(self.file.location, f"its entry {name}: {error}") from error
        if zlib.crc32(data) != info.CRC:
            raise CheckpointError(self.file.location, f"its entry {name} is damaged: the checksum differs")
        return bytes(data)

    def storage(self, saved: SavedStorage, order: ByteOrder) -> Storage:
        """The bytes of a storage; TensorError where the archive does not have all of them."""
        name = f"{self.root}data/{saved.key}"
        if name not in self.entries:
            raise TensorError(f"its storage {saved.key} is not in the archive")
        stored = self._stored(self.entries[name], order)
        needed = saved.elements * (DTYPES[saved.dtype].width if saved.dtype else 1)
        if stored.size < needed:
            raise TensorError(f"its storage {saved.key} claims {needed:,} bytes, the archive has {stored.size:,}")
        return replace(stored, size=needed)

    def _stored(self, info: zipfile.ZipInfo, order: ByteOrder) -> Storage:
        """Where an entry's bytes are, once its local header agrees with the directory."""
        header = self.file.read(info.header_offset, 30)
        name_length = int.from_bytes(header[26:28], "little")
        extra_length = int.from_bytes(header[28:30], "little")
        name = self.file.read(info.header_offset + 30, name_length)
        method = int.from_bytes(header[8:10], "little")
        encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
        if not header.startswith(_LOCAL_HEADER) or name.decode(encoding, "replace") != info.orig_filename:
            raise TensorError("the archive's directory points at something else")
        if info.flag_bits & _ENCRYPTED:
            raise TensorError("it is encrypted")
        if method != info.compress_type:
            raise TensorError("the archive's directory and the entry name different compressions")
        start = info.header_offset + 30 + name_length + extra_length
        if start + info.compress_size > self.file.size:
            raise TensorError("the archive is truncated before its end")
        if method == zipfile.ZIP_STORED:
            if info.file_size != info.compress_size:
                raise TensorError("the archive gives it two sizes")
            return Storage(self.file, start, info.file_size, order)
        if method == zipfile.ZIP_DEFLATED:
            source = _Deflated(self.file, start, info.compress_size, info.file_size)
            return Storage(source, 0, info.file_size, order)
        raise TensorError(f"it is compressed by a method (number {method}) that torch does not use")


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
