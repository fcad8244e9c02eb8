"""Files that torch wrote before 0.1.10: a tar archive of storages, tensors and the pickle that refers to them.

Layout: torch/serialization.py, `legacy_load`. The members are read where they lie in the file, never extracted.
"""

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, NoReturn

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.pickle_records import Global, Persistent, PickleError, Record, Sequence, read_pickle
from weightstats.containers.tar_archive import Member, tar_members
from weightstats.dtypes import DTYPES
from weightstats.errors import CheckpointError, TensorError
from weightstats.limits import LIMITS, over
from weightstats.places import File
from weightstats.schemas.torch_records import SavedStorage, find_tensors, unknown_classes
from weightstats.schemas.torch_storages import STORAGE_DTYPES, integers, is_int
from weightstats.tensors import Storage, Tensor, make_tensor

FORMAT = "torch tar"
RECOGNISED_BY = "a tar archive with members `storages`, `tensors` and `pickle`"
EXTRA = ""

_PARTS = ("storages", "tensors", "pickle")


def recognises(head: bytes, file: File) -> bool:
    """A tar archive whose first members have one of the names that torch gave them."""
    if head[257:262] != b"ustar":
        return False
    try:
        return any(member.name in _PARTS for member in tar_members(file))
    except CheckpointError:
        return False


def read(file: File) -> Checkpoint:
    """The tensors that the pickle refers to. CheckpointError where a member is damaged, missing or not a plain file."""
    parts = _parts(file)
    try:
        storages = _Storages(file, parts["storages"])
        tensors = dict(_tensors(file, parts["tensors"], storages))
        pickle = read_pickle(_stream(file, parts["pickle"]))
        used: set[int] = set()

        def outside(path: tuple[str, ...], persistent: Persistent) -> Tensor | None:
            key = _number(persistent.identity)
            if key is None or (key not in tensors and key in storages.places):
                return None
            used.add(key)
            found = tensors.get(key, TensorError("the archive has no such tensor"))
            if isinstance(found, TensorError):
                raise found
            return replace(found, path=path)

        found = find_tensors(pickle.root, _no_storage, outside=outside)
    except PickleError as error:
        raise CheckpointError(file.location, f"its pickle {error}") from error
    unread = [Unread(".".join(path), reason) for path, reason in found.unread]
    unread += [Unread(f"<tensor {key}>", "nothing in the pickle refers to it") for key in tensors if key not in used]
    return Checkpoint(
        location=file.location,
        format=FORMAT,
        bytes=file.size,
        tensors=tuple(found.tensors),
        unread=tuple(unread),
        objects_not_loaded=unknown_classes(pickle.globals),
        warnings=tuple(found.warnings),
    )


def _no_storage(saved: SavedStorage) -> Storage:
    raise TensorError("its storage is not in the file")


def _parts(file: File) -> dict[str, Member]:
    """The members that make a checkpoint, each there once and a plain file."""
    parts: dict[str, Member] = {}
    for member in tar_members(file):
        if member.name not in _PARTS:
            continue
        if member.name in parts:
            _refuse(file, f"has two members named {member.name}")
        if not member.is_file:
            _refuse(file, f"has a member {member.name} that is a link, a device or not stored plainly")
        parts[member.name] = member
    missing = [name for name in _PARTS if name not in parts]
    if missing:
        _refuse(file, f"is a tar archive of torch without its member {' and '.join(missing)}, which torch cannot load")
    return parts


def _stream(file: File, member: Member) -> IO[bytes]:
    window = file.window(member.start, member.size, file.location)
    return window.stream(LIMITS.pickle_bytes) if member.name == "pickle" else window.stream()


class _Storages:
    """Where the storages lie: a pickle of (key, device, type), the number of elements and the elements, for each."""

    def __init__(self, file: File, member: Member) -> None:
        self.places: dict[int, tuple[str, int, int]] = {}
        """Dtype, first byte and bytes of each storage and each view of one, by key."""

        stream = _stream(file, member)
        for _ in range(_count(file, stream, "storages")):
            key, dtype = self._described(file, read_pickle(stream, leave=True).root)
            elements = struct.unpack("<q", _exactly(file, stream, 8))[0]
            size = elements * DTYPES[dtype].width
            if not 0 <= size <= member.size - stream.tell():
                _refuse(file, f"is truncated or damaged: its storage {key} claims {elements:,} elements")
            self._add(file, key, dtype, member.start + stream.tell(), size)
            stream.seek(size, 1)
        views = read_pickle(stream, leave=True).root
        if not isinstance(views, Sequence):
            _refuse(file, "its list of storages that are views is malformed")
        for view in views.items:
            self._add_view(file, integers(view))

    def _described(self, file: File, described: Record) -> tuple[int, str]:
        key, _, kind = described if isinstance(described, tuple) and len(described) == 3 else (None, None, None)
        number, dtype = _number(key), STORAGE_DTYPES.get(kind.name) if isinstance(kind, Global) else None
        if number is None or dtype is None:
            _refuse(file, "one of its storages is malformed, so that those after it are lost")
        return number, dtype

    def _add(self, file: File, key: int, dtype: str, start: int, size: int) -> None:
        if key in self.places:
            _refuse(file, f"has two storages with the key {key}")
        self.places[key] = (dtype, start, size)

    def _add_view(self, file: File, view: tuple[int, ...] | None) -> None:
        """(key, key of the whole, first element, elements)."""
        if view is None or len(view) != 4 or view[1] not in self.places:
            _refuse(file, "its list of storages that are views is malformed")
        key, whole, first, elements = view
        dtype, start, size = self.places[whole]
        width = DTYPES[dtype].width
        if first < 0 or elements < 0 or (first + elements) * width > size:
            _refuse(file, f"its storage {key} reaches beyond the storage that it is a view of")
        self._add(file, key, dtype, start + first * width, elements * width)


def _tensors(file: File, member: Member, storages: _Storages) -> Iterator[tuple[int, Tensor | TensorError]]:
    """A pickle of (key, storage, type), then rank, shape, strides and offset, for each."""
    stream = _stream(file, member)
    seen: set[int] = set()
    for _ in range(_count(file, stream, "tensors")):
        described = read_pickle(stream, leave=True).root
        rank, _ = struct.unpack("<ii", _exactly(file, stream, 8))
        if not 0 <= rank <= (member.size - stream.tell()) // 16:
            _refuse(file, f"is truncated or damaged: one of its tensors claims {rank:,} dimensions")
        numbers = struct.unpack(f"<{2 * rank + 1}q", _exactly(file, stream, 8 * (2 * rank + 1)))
        key = _number(described[0]) if isinstance(described, tuple) and len(described) == 3 else None
        if key is None or key in seen:
            _refuse(file, "one of its tensors is malformed, or has the key of another")
        seen.add(key)
        try:
            yield key, _tensor(file, storages, _number(described[1]), rank, numbers)
        except TensorError as error:
            yield key, error


def _tensor(file: File, storages: _Storages, key: int | None, rank: int, numbers: tuple[int, ...]) -> Tensor:
    if key is None or key not in storages.places:
        raise TensorError("its storage is not in the archive")
    dtype, start, size = storages.places[key]
    storage = Storage(file, start, size)
    return make_tensor((), numbers[:rank], dtype, storage, numbers[-1], numbers[rank:-1])


def _count(file: File, stream: IO[bytes], what: str) -> int:
    count = read_pickle(stream, leave=True).root
    if not is_int(count) or count < 0:
        _refuse(file, f"does not say how many {what} it has")
    if count > LIMITS.tensors:
        _refuse(file, f"has {count:,} {what}, {over('tensors')}")
    return int(count)


def _exactly(file: File, stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        _refuse(file, "is truncated or damaged: a member ends before what it describes")
    return data


def _number(identity: Record) -> int | None:
    """A key, which is an address: an integer, or its digits."""
    if isinstance(identity, str) and identity.isascii() and identity.isdigit() and len(identity) <= 20:
        return int(identity)
    return identity if is_int(identity) else None


def _refuse(file: File, problem: str, cause: Exception | None = None) -> NoReturn:
    raise CheckpointError(file.location, problem) from cause
