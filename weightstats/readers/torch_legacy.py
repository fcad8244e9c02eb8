"""Files that `torch.save` wrote before torch 1.6, and still writes when asked to: pickles, then the storages' bytes.

Layout: five pickles (magic number, protocol version, system, object, storage keys), then for each key an 8-byte
element count and the elements, little-endian; torch/serialization.py, `_legacy_save` and `_legacy_load`.
"""

from collections.abc import Iterator
from typing import NoReturn

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.pickle_records import Persistent, Pickle, PickleError, Sequence, read_pickle
from weightstats.dtypes import DTYPES
from weightstats.errors import CheckpointError, TensorError, shortened
from weightstats.limits import LIMITS
from weightstats.places import File
from weightstats.schemas.torch_records import (
    SavedStorage,
    counters_of,
    described_storages,
    find_tensors,
    unknown_classes,
)
from weightstats.tensors import Storage

FORMAT = "torch legacy"
RECOGNISED_BY = "the pickle of torch's magic number"
EXTRA = ""

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001


def recognises(head: bytes, file: File) -> bool:
    """A pickle, of any protocol, whose only object is the magic number."""
    return MAGIC_NUMBER.to_bytes(10, "little") in head[:32] or head.startswith(b"L%d" % MAGIC_NUMBER)


def read(file: File) -> Checkpoint:
    """The tensors of the file. CheckpointError where its pickles are damaged; a storage cut short costs its tensors."""
    stream = file.stream(LIMITS.pickle_bytes)
    pickles: list[Pickle] = []
    for part in ("magic number", "protocol version", "system", "object", "storage keys"):
        try:
            pickles.append(read_pickle(stream, stored_bytes=file.size))
        except PickleError as error:
            _refuse(file, f"its pickle of the {part} {error}", error)
    magic, version, _, saved, keys = (pickle.root for pickle in pickles)
    if magic != MAGIC_NUMBER or version != PROTOCOL_VERSION:
        _refuse(file, f"is a torch file of protocol {version}; only {PROTOCOL_VERSION} is known")
    if not isinstance(keys, Sequence) or not all(isinstance(key, str) for key in keys.items):
        _refuse(file, "its list of storages is malformed")
    if len(set(keys.items)) != len(keys.items):
        _refuse(file, "its list of storages names one of them twice")
    storages = _Storages(file, keys.items, stream.tell(), pickles[3].persistents)
    try:
        found = find_tensors(saved, storages.open)
    except PickleError as error:
        _refuse(file, f"its pickle of the object {error}", error)
    return Checkpoint(
        location=file.location,
        format=FORMAT,
        bytes=file.size,
        tensors=tuple(found.tensors),
        unread=tuple(Unread(".".join(path), reason) for path, reason in found.unread),
        objects_not_loaded=unknown_classes(pickles[3].globals),
        warnings=tuple(found.warnings),
        damage=storages.damage,
        counters=counters_of(saved),
    )


class _Storages:
    """Where the storages lie. The file gives their lengths in elements, the pickle the width of an element."""

    def __init__(self, file: File, keys: list[str], start: int, persistents: tuple[Persistent, ...]) -> None:
        self.file = file
        self.damage: str | None = None
        described, self.contradicted = described_storages(persistents)
        self.places = dict(self._laid_out(keys, start, described))
        """Offset and bytes of each storage that lies whole in the file."""

    def _laid_out(
        self, keys: list[str], offset: int, described: dict[str, SavedStorage]
    ) -> Iterator[tuple[str, tuple[int, int]]]:
        """From one element count to the next, as far as the file goes."""
        for number, key in enumerate(keys):
            saved = described.get(key)
            if saved is None:
                self.damage = (
                    f"is damaged: nothing says what its storage {shortened(key)} holds, so that those after it are lost"
                )
                return
            complete = offset + 8 <= self.file.size
            elements = int.from_bytes(self.file.read(offset, 8), "little", signed=True) if complete else 0
            size = elements * _width(saved)
            if not complete or elements < 0 or offset + 8 + size > self.file.size:
                self.damage = (
                    f"is truncated or damaged: of its {len(keys):,} storages only {number:,} lie whole in its "
                    f"{self.file.size:,} bytes; download or save it again"
                )
                return
            yield key, (offset + 8, size)
            offset += 8 + size
        if offset < self.file.size:
            behind = self.file.size - offset
            self.damage = f"has {behind:,} bytes behind its last storage: something in it has moved, or was appended"

    def open(self, saved: SavedStorage) -> Storage:
        if saved.key in self.contradicted:
            raise TensorError(
                f"its storage {shortened(saved.key)} is described in two ways, of which one must be wrong"
            )
        if saved.key not in self.places:
            raise TensorError("the file ends or goes wrong before its storage")
        start, size = self.places[saved.key]
        skipped, elements = saved.part or (0, saved.elements)
        needed = max(saved.elements, skipped + elements) * _width(saved)
        if needed != size:
            raise TensorError(f"its storage claims {needed:,} bytes, the file has {size:,}")
        return Storage(self.file, start + skipped * _width(saved), elements * _width(saved))


def _width(saved: SavedStorage) -> int:
    return DTYPES[saved.dtype].width if saved.dtype else 1


def _refuse(file: File, problem: str, cause: Exception | None = None) -> NoReturn:
    raise CheckpointError(file.location, problem) from cause
