"""Files that `torch.save` writes since torch 1.6: a zip archive with a pickle and one entry a storage.

Layout: `<root>/data.pkl`, `<root>/data/<key>`, `<root>/byteorder`, `<root>/version`; torch/serialization.py, `_save`.
"""

import io
import re

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.pickle_records import Pickle, PickleError, read_pickle
from weightstats.containers.zip_archive import Archive, names_in
from weightstats.dtypes import DTYPES, ByteOrder
from weightstats.errors import CheckpointError, TensorError, quoted, shortened
from weightstats.places import File
from weightstats.schemas.torch_records import (
    OpenStorage,
    SavedStorage,
    counters_of,
    described_storages,
    find_tensors,
    unknown_classes,
)
from weightstats.tensors import Storage

FORMAT = "torch zip"
RECOGNISED_BY = "a zip archive with one data.pkl"
EXTRA = ""

_PICKLE = re.compile(r"(?:[^/]+/)?data\.pkl")


def recognises(head: bytes, file: File) -> bool:
    """A zip archive with a data.pkl, wherever in it."""
    return any(name.rpartition("/")[2] == "data.pkl" for name in names_in(head, file))


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
        warnings=(*(warning for part in parts for warning in part.warnings), *archive.warnings),
        counters=counters_of(pickles[0].root),
    )


class _Archive:
    """A zip archive that is a torch file; nothing is ever extracted to disk."""

    def __init__(self, file: File) -> None:
        self.file, self.zip = file, Archive(file)
        pickles = [name for name in self.zip.entries if _PICKLE.fullmatch(name)]
        if len(pickles) != 1:
            problem = (
                "is a zip archive whose data.pkl lies too deep in it: not a torch file"
                if not pickles
                else f"has {len(pickles)} pickles that could be the checkpoint: {shortened(', '.join(sorted(pickles)))}"
            )
            raise CheckpointError(file.location, problem)
        roots = {name.partition("/")[0] for name in self.zip.entries}
        if len(roots) != 1:
            problem = "has entries in several folders where torch writes one"
            raise CheckpointError(file.location, f"{problem}: {shortened(', '.join(sorted(roots)))}")
        self.pickle_name = pickles[0]
        self.root = self.pickle_name.removesuffix("data.pkl")
        self.warnings: tuple[str, ...] = ()
        self.order = self._byte_order()

    @property
    def constants(self) -> tuple[str, ...]:
        """The pickle of constants that a TorchScript archive has."""
        name = f"{self.root}constants.pkl"
        return (name,) if name in self.zip.entries else ()

    def pickle(self, name: str) -> Pickle:
        stream = io.BytesIO(self.zip.bytes(name, "pickle_bytes"))
        try:
            pickle = read_pickle(stream, stored_bytes=self.file.size)
        except PickleError as error:
            raise CheckpointError(self.file.location, f"its pickle {name} {error}") from error
        if behind := len(stream.getbuffer()) - stream.tell():
            self.warnings += (f"the {behind:,} bytes after the end of the pickle {shortened(name)} are not looked at",)
        return pickle

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
        text = self.zip.bytes(name, "text_bytes") if name in self.zip.entries else b"little"
        if text not in (b"little", b"big"):
            raise CheckpointError(self.file.location, f"names a byte order that does not exist: {quoted(text)}")
        return "little" if text == b"little" else "big"

    def _storage(self, name: str, saved: SavedStorage) -> Storage:
        """The bytes of a storage; TensorError where the archive has not just those that the pickle speaks of."""
        if name not in self.zip.entries:
            raise TensorError(f"its storage {shortened(saved.key)} is not in the archive")
        stored = self.zip.storage(name, self.order)
        needed = saved.elements * (DTYPES[saved.dtype].width if saved.dtype else 1)
        if stored.size != needed:
            raise TensorError(
                f"its storage {shortened(saved.key)} claims {needed:,} bytes, the archive has {stored.size:,}"
            )
        return stored
