"""Files that `torch.save` writes since torch 1.6: a zip archive with a pickle and one entry a storage.

Layout: `<root>/data.pkl`, `<root>/data/<key>`, `<root>/byteorder`, `<root>/version`; torch/serialization.py, `_save`.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.dtypes import DTYPES, ByteOrder
from weightstats.errors import CheckpointError, TensorError, quoted, shortened
from weightstats.limits import LIMITS
from weightstats.pickle_records import Pickle, PickleError, read_pickle
from weightstats.places import File
from weightstats.tensors import Storage
from weightstats.torch_records import OpenStorage, SavedStorage, described_storages, find_tensors, unknown_classes

FORMAT = "torch zip"
RECOGNISED_BY = "a zip archive with one data.pkl"

_LOCAL_HEADER = b"PK\x03\x04"
_HEADER_BYTES = 30
_ENCRYPTED = 0x1
_PICKLE = re.compile(r"(?:[^/]+/)?data\.pkl")


def recognises(head: bytes, file: File) -> bool:
    """The signature of a zip archive's first entry."""
    return head.startswith(_LOCAL_HEADER)


def read(file: File) -> Checkpoint:
    """The tensors that the archive's pickle leads to. CheckpointError where the archive or the pickle is damaged."""
    archive = _Archive(file)
    pickles = [archive.pickle(name) for name in (archive.pickle_name, *archive.constants)]
    try:
        parts = [
            find_tensors(pickle.root, archive.opener(folder, pickle), under)
            for pickle, folder, under in zip(pickles, ("data", "constants"), ((), ("constants",)), strict=False)
        ]
    except PickleError as error:
        raise CheckpointError(file.location, f"its pickle {error}") from error
    return Checkpoint(
        location=file.location,
        format="TorchScript" if archive.constants else FORMAT,
        bytes=file.size,
        tensors=tuple(tensor for part in parts for tensor in part.tensors),
        unread=tuple(Unread(".".join(path), reason) for part in parts for path, reason in part.unread),
        objects_not_loaded=unknown_classes(tuple(name for pickle in pickles for name in pickle.globals)),
        warnings=tuple(warning for part in parts for warning in part.warnings),
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
                raise CheckpointError(file.location, f"has two zip entries named {quoted(info.orig_filename)}")
            self.entries[info.orig_filename] = info
        self.overlapping = frozenset(_overlapping(infos))
        pickles = [name for name in self.entries if _PICKLE.fullmatch(name)]
        if len(pickles) != 1:
            problem = (
                "is a zip archive without a data.pkl: not a torch file"
                if not pickles
                else f"has {len(pickles)} pickles that could be the checkpoint: {shortened(', '.join(sorted(pickles)))}"
            )
            raise CheckpointError(file.location, problem)
        self.pickle_name = pickles[0]
        self.root = self.pickle_name.removesuffix("data.pkl")

        self.order = self._byte_order()

    @property
    def constants(self) -> tuple[str, ...]:
        """The pickle of constants that a TorchScript archive has."""
        name = f"{self.root}constants.pkl"
        return (name,) if name in self.entries else ()

    def pickle(self, name: str) -> Pickle:
        try:
            return read_pickle(io.BytesIO(self.bytes(name, LIMITS.pickle_bytes)))
        except PickleError as error:
            raise CheckpointError(self.file.location, f"its pickle {name} {error}") from error

    def opener(self, folder: str, pickle: Pickle) -> OpenStorage:
        """What finds the storages that a pickle names, in a folder of the archive."""
        _, contradicted = described_storages(pickle.persistents)
        known: dict[str, Storage] = {}

        def open_storage(saved: SavedStorage) -> Storage:
            if saved.key in contradicted:
                raise TensorError(
                    f"its storage {shortened(saved.key)} is described in two ways, of which one must be wrong"
                )
            if saved.key not in known:
                known[saved.key] = self._storage(f"{self.root}{folder}/{saved.key}", saved)
            return known[saved.key]

        return open_storage

    def _byte_order(self) -> ByteOrder:
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
        if info.CRC and zlib.crc32(data) != info.CRC:  # torch.serialization.set_crc32_options(False) leaves it 0
            raise CheckpointError(self.file.location, f"its entry {name} is damaged: the checksum differs")
        return bytes(data)

    def _storage(self, name: str, saved: SavedStorage) -> Storage:
        """The bytes of a storage; TensorError where the archive does not have all of them."""
        if name not in self.entries:
            raise TensorError(f"its storage {shortened(saved.key)} is not in the archive")
        stored = self._stored(self.entries[name], self.order)
        needed = saved.elements * (DTYPES[saved.dtype].width if saved.dtype else 1)
        if stored.size < needed:
            raise TensorError(
                f"its storage {shortened(saved.key)} claims {needed:,} bytes, the archive has {stored.size:,}"
            )
        return replace(stored, size=needed)

    def _stored(self, info: zipfile.ZipInfo, order: ByteOrder) -> Storage:
        """Where an entry's bytes are, once its local header agrees with the directory."""
        header = self.file.read(info.header_offset, _HEADER_BYTES)
        name_length = int.from_bytes(header[26:28], "little")
        extra_length = int.from_bytes(header[28:30], "little")
        name = self.file.read(info.header_offset + _HEADER_BYTES, name_length)
        method = int.from_bytes(header[8:10], "little")
        encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
        if not header.startswith(_LOCAL_HEADER) or name.decode(encoding, "replace") != info.orig_filename:
            raise TensorError("the archive's directory points at something else")
        if info.flag_bits & _ENCRYPTED:
            raise TensorError("it is encrypted")
        if method != info.compress_type:
            raise TensorError("the archive's directory and the entry name different compressions")
        start = info.header_offset + _HEADER_BYTES + name_length + extra_length
        if start + info.compress_size > self.file.size:
            raise TensorError("the archive is truncated before its end")
        if info.orig_filename in self.overlapping:
            raise TensorError("it shares bytes with another entry of the archive")
        if method == zipfile.ZIP_STORED:
            if info.file_size != info.compress_size:
                raise TensorError("the archive gives it two sizes")
            return Storage(self.file, start, info.file_size, order)
        if method == zipfile.ZIP_DEFLATED:
            source = _Deflated(self.file, start, info.compress_size, info.file_size)
            return Storage(source, 0, info.file_size, order)
        raise TensorError(f"it is compressed by a method (number {method}) that torch does not use")


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
