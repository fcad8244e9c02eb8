"""What the `.metadata` pickle of a torch.distributed.checkpoint says: which tensors there are, cut into which pieces,
and where each piece lies. torch/distributed/checkpoint/metadata.py and filesystem.py.
"""

import io
import re
from collections import Counter
from dataclasses import dataclass, field

from weightstats.containers.pickle_records import Global, Instance, Mapping, PickleError, Record, Sequence, read_pickle
from weightstats.errors import CheckpointError, TensorError, shortened
from weightstats.limits import LIMITS, over
from weightstats.pieces import Box
from weightstats.places import File
from weightstats.schemas.torch_records import TORCH_DTYPES, unknown_classes

LARGEST = (1 << 63) - 1
"""Of sizes and offsets, which torch keeps in 64 bits with a sign."""

KNOWN_MODULES = ("torch.distributed.checkpoint.", "torch.distributed._shard.checkpoint.")
"""Where the classes of the metadata are defined; the second until torch 1.13."""

MOST_ATTRIBUTES = 32
"""Of one object; the classes of the metadata have six at most."""

HARMLESS = re.compile(r"torch\.serialization\._get_layout|pathlib\.(_local\.)?(Pure)?(Posix|Windows)?Path")
"""What the metadata names beside its own classes: a layout, and where it was written."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one piece of a tensor lies."""

    file: str
    """Its name, relative to the folder."""

    offset: int
    length: int
    """Bytes."""

    transform: str | None
    """What the bytes went through when they were written (compression); '' where that has no name."""


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor as the metadata describes it."""

    name: str
    path: tuple[str, ...]
    """The keys of the nested state dict that it was saved from, where the metadata knows them; else the name alone."""

    dtype: str
    shape: tuple[int, ...]
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """All that the metadata says; what it says wrongly of a tensor is in `unread`."""

    tensors: list[Described] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    """Names of what is stored and is no tensor."""

    unread: list[tuple[str, str]] = field(default_factory=list)
    """Names and reasons."""

    places: dict[str, Place | None] = field(default_factory=dict)
    """By `place_key`; None for a piece that has two places."""

    stored: dict[str, int] = field(default_factory=dict)
    """How many places each name has."""

    classes: tuple[str, ...] = ()
    """What the pickle names beside the classes of the metadata; none is imported."""


def place_key(name: str, offsets: tuple[int, ...]) -> str:
    """A text, whose hash no file can choose."""
    return f"{','.join(map(str, offsets))}:{name}"


def read_metadata(file: File) -> Metadata:
    """What the pickle in `file` says. CheckpointError where it is damaged or says nothing of tensors."""
    if file.size > LIMITS.pickle_bytes:
        raise CheckpointError(file.location, f"has {file.size:,} bytes, {over('pickle_bytes')}")
    try:
        pickle = read_pickle(io.BytesIO(file.read(0, file.size)), stored_bytes=file.size)
    except PickleError as error:
        raise CheckpointError(file.location, f"its pickle {error}") from error
    attributes = _attributes(pickle.root, "Metadata")
    described = attributes.get("state_dict_metadata")
    if not isinstance(described, Mapping):
        raise CheckpointError(file.location, "is a pickle that does not describe a torch.distributed.checkpoint")
    if len(described.pairs) > LIMITS.tensors:
        raise CheckpointError(file.location, f"describes {len(described.pairs):,} tensors, {over('tensors')}")
    names = unknown_classes(pickle.globals)
    classes = tuple(name for name in names if not name.startswith(KNOWN_MODULES) and not HARMLESS.fullmatch(name))
    metadata = Metadata(classes=classes)
    _describe(metadata, described, _paths(attributes.get("planner_data")))
    _place(metadata, attributes.get("storage_data"))
    return metadata


def _describe(metadata: Metadata, described: Mapping, paths: dict[str, tuple[str, ...]]) -> None:
    """Add the tensors and the objects that a state dict was made of."""
    times = Counter(name for name, _ in described.pairs if isinstance(name, str))
    metadata.unread.extend((name, f"it is described {count} times") for name, count in times.items() if count > 1)
    used: set[int] = set()
    for index, (name, record) in enumerate(described.pairs):
        if not isinstance(name, str):
            metadata.unread.append((f"<key {index}>", "its name is not a text"))
        elif times[name] > 1:
            continue
        elif _class_of(record) == "BytesStorageMetadata":
            metadata.objects.append(name)
        else:
            try:
                metadata.tensors.append(_described(name, paths.get(name, (name,)), record, used))
            except TensorError as error:
                metadata.unread.append((name, str(error)))


def _described(name: str, path: tuple[str, ...], record: Record, used: set[int]) -> Described:
    """One tensor; `used` are the lists of pieces that others have: to read one again and again could take for ever."""
    if _class_of(record) != "TensorStorageMetadata":
        raise TensorError("its description is not that of a tensor")
    attributes = _attributes(record, "TensorStorageMetadata")
    chunks = attributes.get("chunks")
    if not isinstance(chunks, Sequence):
        raise TensorError("its description lists no pieces")
    if id(chunks) in used:
        raise TensorError("its description shares its list of pieces with another tensor's")
    used.add(id(chunks))
    boxes = []
    for chunk in chunks.items:
        parts = _attributes(chunk, "ChunkStorageMetadata")
        boxes.append(Box(_sizes(parts.get("offsets")), _sizes(parts.get("sizes"))))
    return Described(name, path, _dtype(attributes.get("properties")), _sizes(attributes.get("size")), tuple(boxes))


def _dtype(properties: Record) -> str:
    """The dtype out of a TensorProperties, whose state is a tuple that the dtype comes first in."""
    states = properties.states if isinstance(properties, Instance) else []
    state = states[0] if len(states) == 1 else None
    if isinstance(state, Mapping):
        state = (_attributes(properties, "TensorProperties").get("dtype"),)
    dtype = state[0] if isinstance(state, tuple) and state else None
    if not isinstance(dtype, Global) or dtype.module != "torch":
        raise TensorError("its description names no dtype")
    if dtype.name not in TORCH_DTYPES:
        raise TensorError(f"its dtype {shortened(dtype.name)} is not one that can be read")
    return TORCH_DTYPES[dtype.name]


def _paths(planner_data: Record) -> dict[str, tuple[str, ...]]:
    """The keys that led to each name before the state dict was flattened, where the name is made of them."""
    paths: dict[str, tuple[str, ...]] = {}
    for name, keys in planner_data.pairs if isinstance(planner_data, Mapping) else ():
        if not isinstance(name, str) or name in paths:
            continue
        paths[name] = (name,)
        if isinstance(keys, tuple) and len(keys) <= len(name) + 1:
            path = tuple(str(key) for key in keys if isinstance(key, str | int))
            if sum(map(len, path)) <= len(name) and ".".join(path) == name:
                paths[name] = path
    return paths


def _place(metadata: Metadata, storage_data: Record) -> None:
    """Add the places of the pieces; what cannot be understood is left out, and so missed where it is needed."""
    for index, info in storage_data.pairs if isinstance(storage_data, Mapping) else ():
        parts, where = _attributes(index, "MetadataIndex"), _attributes(info, "_StorageInfo")
        name, file = parts.get("fqn"), where.get("relative_path")
        if not isinstance(name, str) or not isinstance(file, str):
            continue
        try:
            offsets = () if parts.get("offset") is None else _sizes(parts["offset"])
            offset, length = _sizes((where.get("offset"), where.get("length")))
        except TensorError:
            continue
        key = place_key(name, offsets)
        place = Place(file, offset, length, _transform(where.get("transform_descriptors")))
        metadata.places[key] = place if key not in metadata.places else None
        metadata.stored[name] = metadata.stored.get(name, 0) + 1


def _transform(record: Record) -> str | None:
    """The first of the transforms."""
    items = record.items if isinstance(record, Sequence) else record if isinstance(record, tuple) else ()
    first = items[0] if items else None
    return first if isinstance(first, str) or first is None else ""


def _class_of(record: Record) -> str:
    """The class of an object, without its module, which has moved between versions of torch."""
    return record.class_name.rpartition(".")[2] if isinstance(record, Instance) else ""


def _attributes(record: Record, class_name: str) -> dict[str, Record]:
    """The attributes of an object of that class; none for anything else, and for one that names an attribute twice."""
    if _class_of(record) != class_name or len(record.states) != 1 or not isinstance(record.states[0], Mapping):
        return {}
    pairs = record.states[0].pairs
    if len(pairs) > MOST_ATTRIBUTES:
        return {}
    attributes = {key: value for key, value in pairs if isinstance(key, str)}
    return attributes if len(attributes) == len(pairs) else {}


def _sizes(record: Record) -> tuple[int, ...]:
    """Integers of at most 63 bits out of a tuple, a list or a torch.Size; TensorError for anything else."""
    if isinstance(record, Instance) and record.class_name == "torch.Size" and isinstance(record.arguments, tuple):
        record = record.arguments[0] if record.arguments else ()
    items = record.items if isinstance(record, Sequence) else record
    if not isinstance(items, tuple | list) or not all(isinstance(item, int) for item in items[: LIMITS.rank]):
        raise TensorError("its description lacks a size or an offset")
    if len(items) > LIMITS.rank:
        raise TensorError(f"it has {len(items):,} dimensions, {over('rank')}")
    if any(isinstance(item, bool) or not 0 <= item <= LARGEST for item in items):
        raise TensorError("its description gives a size or an offset that is negative or beyond 63 bits")
    return tuple(items)
