"""Trees of arrays as `flax.serialization.to_bytes` and `msgpack_serialize` write them.

A MessagePack tree with three extensions: 1, an array; 2, a complex number; 3, a numpy scalar. An array is the
MessagePack list of its shape, the name of its dtype and its bytes; one of more than 2^30 bytes is a map of chunks.
https://github.com/google/flax/blob/main/flax/serialization.py
"""

import math
from dataclasses import dataclass, field

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.messagepack import DamageError, Item, Items, Path, Tree
from weightstats.dtypes import DTYPES, NAMES
from weightstats.errors import CheckpointError, TensorError, quoted
from weightstats.limits import LIMITS, over
from weightstats.pieces import Concatenated
from weightstats.places import File
from weightstats.schemas.jax_uses import uses_of
from weightstats.tensors import Storage, Tensor, Use, make_tensor

FORMAT = "Flax msgpack"
RECOGNISED_BY = "a MessagePack map that leads to an array of Flax"
EXTRA = ""

_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_CHUNKED = "__msgpack_chunked_array__"

_MAPS = (*range(0x81, 0x90), 0xDE, 0xDF)
"""First bytes of a map that is not empty. A pickle starts with 0x80, an empty one."""

_MOST_LOOKED_THROUGH = 10_000
"""Keys and values before the first array: the counters of a training state, and modules without parameters."""


@dataclass(frozen=True, slots=True)
class _Array:
    """An array as the file describes it."""

    shape: tuple[int, ...]
    dtype: str
    """As numpy and ml_dtypes call it."""

    start: int
    size: int


@dataclass(frozen=True, slots=True)
class _Chunks:
    """A flat array in pieces, and the shape that it has when they are joined, both by their number as text."""

    sizes: dict[str, int] = field(default_factory=dict)
    pieces: dict[str, _Array] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """What the pieces have together, as far as its sizes are numbered without a gap."""
        return tuple(self.sizes[number] for number in map(str, range(len(self.sizes))) if number in self.sizes)


def recognises(head: bytes, file: File) -> bool:
    """A map, and in it, after few other values, an extension that holds an array as Flax writes it."""
    if not head or head[0] not in _MAPS:
        return False
    try:
        for _, item in Tree(file).leaves(_MOST_LOOKED_THROUGH):
            if item.kind == "extension" and item.code != _COMPLEX:
                return bool(_array(file, item).dtype)
    except (DamageError, TensorError, CheckpointError):
        return False
    return False


def read(file: File) -> Checkpoint:
    """The arrays under their keys, in the order of the file. CheckpointError where the tree is damaged."""
    tree, found = Tree(file), _Found(file)
    try:
        for path, item in tree.leaves(LIMITS.msgpack_items):
            found.add(path, item)
    except DamageError as error:
        raise CheckpointError(file.location, str(error)) from error
    left = file.size - tree.end
    tensors, unread = found.tensors()
    damage = f"has {left:,} bytes after the end of its tree: something in it has moved" if left else None
    return Checkpoint(file.location, FORMAT, file.size, tensors, unread, damage=damage)


class _Found:
    """The arrays of a tree, gathered value by value."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.arrays: dict[Path, _Array | _Chunks] = {}
        self.unread: list[Unread] = []
        self.characters = 0
        self.last: Path = ()

    def add(self, path: Path, item: Item) -> None:
        """Keep what a value tells of an array, if anything. DamageError where the arrays exceed a limit."""
        before, self.last = self.last, path
        if path and path[-1] == _CHUNKED:
            if before[: len(path) - 1] == path[:-1] and before:
                raise DamageError(f"has a map that is marked as an array in chunks late: {quoted('.'.join(path))}")
            self._count(path)
            self.arrays[path[:-1]] = _Chunks()
            return
        if isinstance(whole := self.arrays.get(path[:-2]), _Chunks) and len(path) > 1:
            self._part(whole, path[-2], path[-1], item)
        elif isinstance(whole := self.arrays.get(path[:-1]), _Chunks):
            whole.problems.append("there is more beside its chunks than Flax writes")
        elif item.kind == "bytes":
            self._count(path)
            self.unread.append(Unread(".".join(path), "bytes without a shape and a dtype"))
        elif item.kind == "extension" and item.code != _COMPLEX:
            self._count(path)
            try:
                self.arrays[path] = _array(self.file, item)
            except TensorError as error:
                self.unread.append(Unread(".".join(path), str(error)))

    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Unread, ...]]:
        """What was found as tensors, and what of it cannot be read."""
        tensors: list[Tensor] = []
        uses = uses_of({path: array.shape for path, array in self.arrays.items()})
        for path, array in self.arrays.items():
            try:
                tensors.append(_tensor(self.file, path, array, uses.get(path)))
            except TensorError as error:
                self.unread.append(Unread(".".join(path), str(error)))
        return tuple(tensors), tuple(self.unread)

    def _part(self, whole: _Chunks, of: str, number: str, item: Item) -> None:
        try:
            if of == "shape" and item.kind == "integer" and item.value is not None:
                whole.sizes[number] = int(item.value)
            elif of == "chunks" and item.kind == "extension":
                whole.pieces[number] = _array(self.file, item)
            else:
                whole.problems.append("there is more beside its chunks than Flax writes")
        except TensorError as error:
            whole.problems.append(f"of its chunk {number}, {error}")

    def _count(self, path: Path) -> None:
        self.characters += sum(map(len, path)) + len(path)
        if self.characters > LIMITS.text_bytes:
            raise DamageError(f"has {self.characters:,} characters of names, {over('text_bytes')}")
        count = len(self.arrays) + len(self.unread) + 1
        if count > LIMITS.tensors:
            raise DamageError(f"has {count:,} arrays, {over('tensors')}")
        if count > LIMITS.crowded_tensors and self.file.size < count * LIMITS.crowded_bytes:
            raise DamageError(f"has {count:,} arrays in {self.file.size:,} bytes, {over('crowded_tensors')}")


def _array(file: File, item: Item) -> _Array:
    """The array in an extension; TensorError where it is none."""
    if item.code not in (_ARRAY, _SCALAR):
        raise TensorError(f"it is an extension of type {item.code}, which Flax does not write")
    items = Items(file, item.start, item.start + item.size)
    try:
        outer, shape = items.take(), items.take()
        if (outer.kind, outer.value, shape.kind) != ("list", 3, "list"):
            raise TensorError("it does not start with the shape of an array")
        dimensions = int(shape.value or 0)
        if dimensions > LIMITS.header_rank:
            raise TensorError(f"it has {dimensions:,} dimensions, {over('header_rank')}")
        sizes = [size.value for size in (items.take() for _ in range(dimensions)) if size.kind == "integer"]
        dtype, content = items.take(), items.take()
        if len(sizes) != dimensions or dtype.kind not in ("text", "bytes") or content.kind not in ("text", "bytes"):
            raise TensorError("it is no list of a shape, a dtype and bytes")
        name = items.text(dtype)
    except DamageError as error:
        raise TensorError(f"it {error}") from error
    if items.position != items.end:
        raise TensorError(f"it has {items.end - items.position:,} bytes more than the array")
    return _Array(tuple(int(size or 0) for size in sizes), name, content.start, content.size)


def _tensor(file: File, path: Path, array: _Array | _Chunks, use: Use | None) -> Tensor:
    if isinstance(array, _Array):
        _check(array)
        return make_tensor(path, array.shape, NAMES[array.dtype], Storage(file, array.start, array.size), use=use)
    if array.problems:
        raise TensorError(array.problems[0])
    if any(str(number) not in parts for parts in (array.sizes, array.pieces) for number in range(len(parts))):
        raise TensorError("its chunks, or the sizes of its shape, are not numbered without a gap")
    pieces = [array.pieces[str(number)] for number in range(len(array.pieces))]
    for piece in pieces:
        _check(piece)
    dtypes = {piece.dtype for piece in pieces}
    if len(dtypes) != 1:
        raise TensorError("its chunks have different dtypes" if dtypes else "it has no chunks")
    size, dtype = sum(piece.size for piece in pieces), NAMES[dtypes.pop()]
    if min(array.shape, default=0) < 0 or math.prod(array.shape) * DTYPES[dtype].width != size:
        raise TensorError(f"its shape {quoted(array.shape)} is not that of its chunks, which have {size:,} bytes")
    joined = Concatenated([Storage(file, piece.start, piece.size) for piece in pieces])
    return make_tensor(path, array.shape, dtype, Storage(joined, 0, size), use=use)


def _check(array: _Array) -> None:
    """TensorError for an unknown dtype, and for other bytes than the shape needs."""
    if array.dtype not in NAMES:
        raise TensorError(f"its dtype {quoted(array.dtype)} is not one that can be read")
    if any(size < 0 for size in array.shape):
        raise TensorError(f"its shape {quoted(array.shape)} has a negative size")
    needed = math.prod(array.shape) * DTYPES[NAMES[array.dtype]].width
    if needed != array.size:
        raise TensorError(f"its shape needs {needed:,} bytes, there are {array.size:,}")
