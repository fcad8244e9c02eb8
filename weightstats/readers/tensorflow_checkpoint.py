"""TensorFlow checkpoints: a table (`PREFIX.index`) that says where in which `PREFIX.data-NNNNN-of-MMMMM` a tensor lies.

Format: tensorflow/core/util/tensor_bundle. In a folder of several checkpoints, the one is read that its `checkpoint`
file names as the latest, looked for in the folder itself whatever path it had when it was saved. The index is tested
against its checksums; the tensors are not, since each of them is read only once.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.protobuf import Cursor, DamageError
from weightstats.containers.sstable import is_table
from weightstats.dtypes import DTYPES
from weightstats.errors import CheckpointError, TensorError, quoted
from weightstats.order import natural_key
from weightstats.pieces import Box, put_together
from weightstats.places import File, Folder, open_inside
from weightstats.readers.shards import PREFERRED
from weightstats.schemas.tensor_bundle import DTYPE_NAMES, NOT_NUMBERS, STRING, Bundle, Stored, read_bundle
from weightstats.schemas.tensorflow_layouts import use_by_name
from weightstats.schemas.trackable_objects import BOOKKEEPING, GRAPH_KEY, Variable, paths, read_objects
from weightstats.tensors import Storage, Tensor, make_tensor

FORMAT = "TensorFlow checkpoint"
RECOGNISED_BY = "a LevelDB table's last bytes (`.index`), or a folder with such a file"
EXTRA = ""

BEHIND = "it lies behind the end of its data file, which is truncated"

LATEST = re.compile(rb'^model_checkpoint_path:\s*"([^"\\\n]+)"', re.MULTILINE)
"""What the `checkpoint` file of a folder says; tensorflow/python/checkpoint/checkpoint_state.proto."""

_CHECKPOINT_BYTES = 1 << 16
_CHECKSUM_BYTES = 4


def recognises(head: bytes, file: File) -> bool:
    """The magic number at the end of a table."""
    return is_table(file)


def recognises_folder(folder: Folder) -> bool:
    """An index with its first data file, and no weights of another format that the hub's libraries would take."""
    return bool(prefixes(folder.names)) and not set(PREFERRED) & set(folder.names)


def prefixes(names: Sequence[str]) -> tuple[str, ...]:
    """The checkpoints among the names of a folder."""
    stems = [name.removesuffix(".index") for name in names if name.endswith(".index")]
    data = {name.partition(".data-")[0] for name in names if ".data-" in name}
    return tuple(stem for stem in stems if stem in data)


def read_folder(folder: Folder) -> Checkpoint:
    """The checkpoint of the folder, or the latest of several."""
    found = prefixes(folder.names)
    latest = _latest(folder) if "checkpoint" in folder.names else ""
    if latest not in found and len(found) != 1:
        some = ", ".join(quoted(name) for name in found[:5])
        problem = f"holds {len(found):,} checkpoints, and no `checkpoint` file that chooses one; name one of {some}"
        raise CheckpointError(folder.location, problem)
    prefix = latest if latest in found else found[0]
    return replace(read(folder.open(f"{prefix}.index")), location=folder.location)


def _latest(folder: Folder) -> str:
    """The last part of the path that the `checkpoint` file of a folder gives, '' where it gives none."""
    file = folder.open("checkpoint")
    match = LATEST.search(file.read(0, min(file.size, _CHECKPOINT_BYTES)))
    return "" if match is None else match[1].decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]


def read(file: File) -> Checkpoint:
    """The tensors that the index names, in the natural order of their keys."""
    return read_keyed(file)[0]


def read_keyed(file: File) -> tuple[Checkpoint, tuple[str, ...]]:
    """The same with the key of each of the tensors."""
    shards = _Shards(file, read_bundle(file))
    objects = shards.objects()
    stored = {entry.name: entry for entry in shards.bundle.tensors if not entry.is_piece}
    if len(stored) + len(shards.pieces) != len(shards.bundle.tensors):
        raise CheckpointError(file.location, "has two tensors whose names differ only in what is not text")
    keys = sorted((key for key in stored if not _is_bookkeeping(stored[key])), key=natural_key)
    by_key, names = paths(keys, objects)
    tensors: dict[str, Tensor] = {}
    unread: list[Unread] = []
    for key in keys:
        try:
            tensor = shards.tensor(stored[key], by_key[key])
            tensors[key] = replace(tensor, use=use_by_name(names[key], tensor.shape))
        except TensorError as error:
            unread.append(Unread(".".join(by_key[key]), str(error)))
    unread += [Unread(quoted(entry.name), "is a piece of no tensor") for entry in shards.unclaimed()]
    if unread and not tensors:
        raise CheckpointError(
            file.location, f"none of its tensors can be read; the first, {unread[0].name}: {unread[0].reason}"
        )
    lost = sum(entry.reason == BEHIND for entry in unread)
    lie = "lies" if lost == 1 else "lie"
    damage = f"is truncated: {lost:,} of its tensors {lie} behind the end of a data file" if lost else None
    checkpoint = Checkpoint(file.location, FORMAT, shards.size, tuple(tensors.values()), tuple(unread), damage=damage)
    return checkpoint, tuple(tensors)


def _is_bookkeeping(entry: Stored) -> bool:
    return entry.dtype == STRING and BOOKKEEPING.search(entry.name) is not None


class _Shards:
    """The data files of a checkpoint, each opened when a tensor in it is looked at."""

    def __init__(self, index: File, bundle: Bundle) -> None:
        self.index, self.bundle = index, bundle
        self.size = index.size
        self._stem = re.split(r"[/\\]", index.location)[-1].removesuffix(".index")
        self._files: dict[int, File | str] = {}
        self.pieces = {entry.key: entry for entry in bundle.tensors if entry.is_piece}
        self._shared = _overlapping(bundle.tensors)

    def objects(self) -> dict[str, Variable]:
        """What the object graph says, where there is one and it can be read."""
        entry = next((entry for entry in self.bundle.tensors if entry.name == GRAPH_KEY), None)
        if entry is None or entry.dtype != STRING:
            return {}
        try:
            storage, file = self._storage(entry), self._file(entry.shard)
            cursor = Cursor(file, storage.start, storage.start + storage.size)
            length = cursor.varint()
        except (TensorError, DamageError):
            return {}
        start = cursor.position + _CHECKSUM_BYTES
        if start + length != cursor.end:
            raise CheckpointError(self.index.location, "its object graph has another size than its entry says")
        return read_objects(file, start, cursor.end)

    def tensor(self, entry: Stored, path: tuple[str, ...]) -> Tensor:
        """One tensor, put together from its pieces where it is stored in pieces; TensorError where it cannot be."""
        if entry.shape is None:
            raise TensorError("has an unknown number of dimensions")
        if not entry.slices:
            return self._whole(entry, path, entry.shape)
        pieces = []
        for piece in entry.slices:
            if len(piece.starts) != len(entry.shape):
                raise TensorError(f"a piece of it has not its {len(entry.shape)} dimensions")
            box, stored = piece.box(entry.shape), self.pieces.get(piece.key(entry.key))
            if stored is None:
                raise TensorError(f"a piece of it, at {quoted(box.offsets)}, is not there")
            pieces.append((box, self._piece(stored, box)))
        return put_together(path, entry.shape, pieces)

    def unclaimed(self) -> list[Stored]:
        """Pieces that no tensor has claimed."""
        claimed = {
            piece.key(entry.key)
            for entry in self.bundle.tensors
            for piece in entry.slices
            if entry.shape is not None and not entry.is_piece
        }
        return [entry for key, entry in self.pieces.items() if key not in claimed]

    def _piece(self, entry: Stored, box: Box) -> Tensor:
        if entry.shape != box.sizes:
            raise TensorError(f"a piece of it has the shape {quoted(entry.shape)}, not {quoted(box.sizes)}")
        return self._whole(entry, ("piece",), box.sizes)

    def _whole(self, entry: Stored, path: tuple[str, ...], shape: tuple[int, ...]) -> Tensor:
        if entry.dtype in NOT_NUMBERS:
            raise TensorError(f"holds {NOT_NUMBERS[entry.dtype]}, not numbers")
        if entry.dtype not in DTYPE_NAMES:
            raise TensorError(f"its type {entry.dtype} is not one that can be read")
        if entry.key in self._shared:
            raise TensorError("its bytes are also those of another tensor")
        if any(size < 0 for size in shape):
            raise TensorError("a size of it is negative")
        needed = math.prod(shape) * DTYPES[DTYPE_NAMES[entry.dtype]].width
        if needed != entry.size:
            raise TensorError(f"its shape needs {needed:,} bytes, its entry says {entry.size:,}")
        return make_tensor(path, shape, DTYPE_NAMES[entry.dtype], self._storage(entry))

    def _storage(self, entry: Stored) -> Storage:
        """Where the bytes of an entry lie; TensorError where they are not all there."""
        file = self._file(entry.shard)
        if entry.offset < 0 or entry.size < 0:
            raise TensorError("its place or its size is negative")
        if entry.offset + entry.size > file.size:
            raise TensorError(BEHIND)
        return Storage(file, entry.offset, entry.size, self.bundle.byte_order)

    def _file(self, shard: int) -> File:
        """A data file; TensorError where it cannot be opened."""
        if not 0 <= shard < self.bundle.shards:
            raise TensorError(f"lies in data file {shard:,} of {self.bundle.shards:,}")
        if shard not in self._files:
            name = f"{self._stem}.data-{shard:05d}-of-{self.bundle.shards:05d}"
            try:
                file = open_inside(self.index.folder, name, self.index.location)
                self._files[shard], self.size = file, self.size + file.size
            except CheckpointError as error:
                self._files[shard] = f"its data file {name} {error.problem}"
        found = self._files[shard]
        if isinstance(found, str):
            raise TensorError(found)
        return found


def _overlapping(tensors: Sequence[Stored]) -> set[bytes]:
    """The keys of those that share bytes with another one."""
    shared: set[bytes] = set()
    last: Stored | None = None
    held = (entry for entry in tensors if entry.size > 0 and not entry.slices)
    for entry in sorted(held, key=lambda entry: (entry.shard, entry.offset, entry.size)):
        if last is not None and last.shard == entry.shard and entry.offset < last.offset + last.size:
            shared |= {last.key, entry.key}
            last = max(last, entry, key=lambda either: either.offset + either.size)
        else:
            last = entry
    return shared
