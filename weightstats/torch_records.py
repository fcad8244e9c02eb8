"""The tensors among the records of a pickle that `torch.save` wrote, each with the keys that lead to it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from weightstats.errors import TensorError, shortened
from weightstats.limits import LIMITS
from weightstats.pickle_records import Global, Instance, Mapping, Persistent, PickleError, Record, Sequence
from weightstats.tensors import Storage, Tensor, make_tensor

STORAGE_DTYPES: dict[str, str] = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
    "QInt8Storage": "I8",
    "QUInt8Storage": "U8",
    "QInt32Storage": "I32",
}
"""Dtypes of torch's typed storages: torch/storage.py, `_dtype_to_storage_type_map`."""

TORCH_DTYPES: dict[str, str] = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "complex64": "C64",
    "complex128": "C128",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
"""Names of torch.dtype."""

FROM_TYPE = {"torch._tensor._rebuild_from_type", "torch._tensor._rebuild_from_type_v2"}
"""Functions that rebuild a subclass of Tensor; arguments (function, class, its arguments, state)."""

_MOST_WRAPPERS = 4
"""A parameter around a subclass around a tensor is two."""

WRAPPERS = {
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.nn.parameter.Parameter",
    "torch.nn.parameter.Buffer",
}
"""Functions and classes whose first argument is the tensor that they wrap."""

MAPPING_CLASSES = {"collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"}

_PLAIN_BUILTINS = ("set", "frozenset", "list", "tuple", "int", "float", "str", "bool", "bytes", "complex", "object")

PLAIN_CLASSES = MAPPING_CLASSES | {f"{m}.{name}" for m in ("builtins", "__builtin__") for name in _PLAIN_BUILTINS}
PLAIN_CLASSES |= {
    "torch.Size",
    "torch.device",
    "builtins.set",
    "__builtin__.set",
    "builtins.list",
}
"""Containers and descriptors that hide nothing: not worth listing as objects that were not loaded."""

MODULE_ALIASES = ("_flat_weights", "_flat_weights_names", "_all_weights")
"""Attributes of torch.nn.RNNBase that hold its parameters once more."""

MODULE_PARTS = ("_parameters", "_buffers", "_modules")
"""Attributes of a torch.nn.Module that hold its tensors and submodules: their names are not part of a state dict's
keys (torch/nn/modules/module.py, `state_dict`)."""


@dataclass(frozen=True, slots=True)
class SavedStorage:
    """What a pickle says of a storage that lies outside it."""

    key: str
    dtype: str | None
    """None for an untyped storage, whose tensors name their own dtype."""

    elements: int
    """Of `dtype`; bytes where that is None."""

    part: tuple[int, int] | None = None
    """First element and number of elements, where only a part of it is meant (old legacy files)."""


OpenStorage: TypeAlias = Callable[[SavedStorage], Storage]
"""Gives the bytes of a storage, or raises TensorError."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a walk through the records came across."""

    tensors: list[Tensor] = field(default_factory=list)
    unread: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    """Paths of tensors that cannot be read, with the reason."""

    warnings: list[str] = field(default_factory=list)


def saved_storage(record: Record) -> SavedStorage:
    """The storage that a persistent id describes; TensorError where it is not one of torch's."""
    if not isinstance(record, Persistent) or not isinstance(record.identity, tuple):
        raise TensorError("it does not refer to a storage")
    identity = record.identity
    if len(identity) not in (5, 6) or identity[0] != "storage" or not isinstance(identity[1], Global):
        raise TensorError("it does not refer to a storage")
    _, kind, key, _, elements = identity[:5]
    if not isinstance(key, str) or not _is_int(elements) or elements < 0:
        raise TensorError("its storage has no usable key or size")
    if kind.name not in STORAGE_DTYPES and kind.name != "UntypedStorage":
        raise TensorError(f"its storage type {shortened(kind.name)} is not one that can be read")
    part = _part(identity[5]) if len(identity) == 6 and identity[5] is not None else None
    return SavedStorage(key, STORAGE_DTYPES.get(kind.name), elements, part)


def _part(view: Record) -> tuple[int, int]:
    """(first element, elements) out of a legacy file's (key of the view, offset, size)."""
    if isinstance(view, tuple) and len(view) == 3 and all(_is_int(size) and size >= 0 for size in view[1:]):
        return view[1], view[2]
    raise TensorError("its storage is a malformed view")


def described_storages(persistents: tuple[Persistent, ...]) -> tuple[dict[str, SavedStorage], set[str]]:
    """What a pickle says of each storage, by key, and the keys of those that it describes in two ways."""
    described: dict[str, SavedStorage] = {}
    contradicted: set[str] = set()
    for persistent in persistents:
        try:
            saved = saved_storage(persistent)
        except TensorError:
            continue
        first = described.setdefault(saved.key, saved)
        if (first.dtype, first.elements) != (saved.dtype, saved.elements):
            contradicted.add(saved.key)
    return described, contradicted


def find_tensors(root: Record, open_storage: OpenStorage, under: tuple[str, ...] = ()) -> Found:
    """Every tensor that can be reached from `root`, in the order in which the file holds them, with `under` on top.

    `open_storage` gives the bytes of a storage, or raises TensorError. Each container is entered once, so that cycles
    and shared parts cost nothing; a tensor that is reached on two paths is found twice. Raises
    PickleError where there are more than LIMITS.tensors.
    """
    found = Found()
    entered: set[int] = set()
    paths: dict[tuple[str, ...], int] = {}
    too_deep = 0
    waiting: list[tuple[_Place, Record]] = [(_Place(under), root)]
    while waiting:
        place, record = waiting.pop()
        _check_number(found)
        try:
            tensor = _tensor_of(place.path, record, open_storage)
        except TensorError as error:
            found.unread.append((_distinct(place.path, paths), str(error)))
            continue
        if tensor is not None:
            found.tensors.append(replace(tensor, path=_distinct(place.path, paths)))
            waiting.extend((place.at("<attributes>"), attached) for attached in _attached(record))
            continue
        if place.is_beyond:
            too_deep += 1
            continue
        if not isinstance(record, tuple | Sequence | Mapping | Instance) or id(record) in entered:
            continue
        entered.add(id(record))
        children = list(_children(record, place, found.warnings))
        waiting.extend(reversed(children))
    _check_number(found)
    if too_deep:
        found.warnings.append(
            f"objects nested more than {LIMITS.depth:,} deep, or under endless keys, were not looked into"
        )
    return found


def _check_number(found: Found) -> None:
    if len(found.tensors) + len(found.unread) > LIMITS.tensors:
        raise PickleError(f"leads to more than {LIMITS.tensors:,} tensors")


def _distinct(path: tuple[str, ...], taken: dict[tuple[str, ...], int]) -> tuple[str, ...]:
    """The path, with a number where another tensor has it; `taken` counts the tensors of each path, and is added to."""
    made = path
    while made in taken:
        taken[path] += 1
        made = (*path[:-1], f"{path[-1] if path else ''}#{taken[path]}")
    taken[made] = 1
    return made


def _attached(record: Instance) -> list[Record]:
    """What a tensor's record holds beside the tensor: its attributes, which may be tensors as well."""
    arguments = record.arguments if isinstance(record.arguments, tuple) else ()
    return [*record.states, *arguments[3:]] if record.class_name in WRAPPERS | FROM_TYPE else list(record.states)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a record is: the keys that lead to it, those inside a module joined by dots as in its state dict."""

    path: tuple[str, ...]
    module_at: int | None = None
    """How many keys lead to the outermost module, if the record is in one."""

    depth: int = 0
    length: int = 0
    """Characters of all the keys."""

    @property
    def is_beyond(self) -> bool:
        return self.depth > LIMITS.depth or self.length > LIMITS.path_characters

    def at(self, key: str) -> "_Place":
        path = (*self.path, key)
        if self.module_at is not None and len(self.path) > self.module_at:
            path = (*self.path[:-1], f"{self.path[-1]}.{key}")
        return _Place(path, self.module_at, self.depth + 1, self.length + len(key))

    def in_module(self) -> "_Place":
        return self if self.module_at is not None else replace(self, module_at=len(self.path))

    def below(self) -> "_Place":
        """The same place, for what lies deeper without a key of its own."""
        return replace(self, depth=self.depth + 1)


def unknown_classes(found_globals: tuple[Global, ...]) -> tuple[str, ...]:
    """The names of what the pickle would have imported beside tensors and plain containers, each once, in order."""
    known = PLAIN_CLASSES | WRAPPERS | FROM_TYPE | set(_REBUILDERS) | {f"torch.{name}" for name in TORCH_DTYPES}
    known |= {f"torch.{name}" for name in STORAGE_DTYPES} | {"torch.storage.UntypedStorage"}
    known |= {f"{module}.{name}" for module in ("copyreg", "copy_reg") for name in ("_reconstructor", "__newobj__")}
    known |= {"builtins.object", "__builtin__.object", "torch._tensor.Tensor", "torch.Tensor"}
    return tuple(dict.fromkeys(shortened(g.full_name) for g in found_globals if g.full_name not in known))


def _children(record: Record, place: _Place, warnings: list[str]) -> Iterator[tuple[_Place, Record]]:
    if isinstance(record, Mapping):
        yield from _entries(record, place, warnings)
    elif isinstance(record, Sequence | tuple):
        items = record.items if isinstance(record, Sequence) else record
        yield from ((place.at(str(index)), item) for index, item in enumerate(items))
    else:
        yield from _entries(record.pairs, place, warnings)
        yield from ((place.at(str(index)), item) for index, item in enumerate(record.items.items))
        for state in record.states:
            yield from _state_children(state, place, warnings)
        if record.class_name in MAPPING_CLASSES and isinstance(record.arguments, tuple):
            yield from _entries(Mapping([pair for part in record.arguments for pair in _pairs(part)]), place, warnings)
        elif isinstance(record.arguments, tuple):
            yield from ((place.below(), argument) for argument in record.arguments)


def _pairs(record: Record) -> list[tuple[Record, Record]]:
    """The pairs that a dict is made from when it is pickled as a list of them (an OrderedDict of Python 2)."""
    items = record.items if isinstance(record, Sequence) else record if isinstance(record, tuple) else ()
    pairs = [item.items if isinstance(item, Sequence) else item for item in items]
    return [(pair[0], pair[1]) for pair in pairs if isinstance(pair, tuple | list) and len(pair) == 2]


def _state_children(state: Record, place: _Place, warnings: list[str]) -> Iterator[tuple[_Place, Record]]:
    """The attributes of an object; those of a torch module by the names that its state dict gives them."""
    for part in state if isinstance(state, tuple) else (state,):
        if not isinstance(part, Mapping):
            yield place.below(), part
            continue
        is_module = all(any(key == name for key, _ in part.pairs) for name in MODULE_PARTS)
        inside = place.in_module() if is_module else place
        for child_place, child in _entries(part, inside, warnings):
            attribute = child_place.path[-1].rpartition(".")[2]
            if is_module and attribute in MODULE_ALIASES:
                continue
            yield (inside.below() if is_module and attribute in MODULE_PARTS else child_place), child


def _entries(mapping: Mapping, place: _Place, warnings: list[str]) -> Iterator[tuple[_Place, Record]]:
    """Values under their keys; of equal keys the last counts, as it does for Python."""
    names = [key if isinstance(key, str) else str(key) if _is_int(key) else None for key, _ in mapping.pairs]
    marked = [(name, isinstance(key, str)) for name, (key, _) in zip(names, mapping.pairs, strict=True)]
    last = {mark: index for index, mark in enumerate(marked)}
    repeated: set[tuple[str | None, bool]] = set()
    for index, (name, (key, value)) in enumerate(zip(names, mapping.pairs, strict=True)):
        if name is None:
            yield place.at(f"<key {index} itself>"), key
            yield place.at(f"<key {index}>"), value
        elif last[marked[index]] == index:
            yield place.at(name), value
        elif marked[index] not in repeated:
            repeated.add(marked[index])
            written = ".".join((*place.path, name))
            warnings.append(f"the key {written} is written more than once; the last one counts")


def _tensor_of(path: tuple[str, ...], record: Record, open_storage: OpenStorage) -> Tensor | None:
    """The tensor that a record stands for, None where it stands for something else."""
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(record, Instance) or not isinstance(record.callable, Global):
            return None
        name = record.callable.full_name
        if name in WRAPPERS:
            record = _arguments(record, 1)[0]
        elif name in FROM_TYPE:
            function, _, arguments = _arguments(record, 3)[:3]
            record = Instance(function, arguments)
        elif name in _REBUILDERS:
            return _REBUILDERS[name](path, record, open_storage)
        else:
            return None
    raise TensorError(f"it is wrapped more than {_MOST_WRAPPERS} times")


def _rebuild_tensor(path: tuple[str, ...], record: Instance, open_storage: OpenStorage) -> Tensor:
    """torch._utils._rebuild_tensor and _v2: (storage, offset, size, stride, ...)."""
    storage, offset, shape, strides = _arguments(record, 4)[:4]
    saved = saved_storage(storage)
    if saved.dtype is None:
        raise TensorError("its storage has no dtype")
    metadata = record.arguments[6] if len(record.arguments) > 6 else None
    if isinstance(metadata, Mapping) and any(key == "neg" and value is True for key, value in metadata.pairs):
        raise TensorError("it is a view that changes the sign of what is stored (torch's negative bit)")
    return _make(path, saved, saved.dtype, (offset, shape, strides), open_storage)


def _rebuild_tensor_v3(path: tuple[str, ...], record: Instance, open_storage: OpenStorage) -> Tensor:
    """torch._utils._rebuild_tensor_v3: (untyped storage, offset, size, stride, requires_grad, hooks, dtype, ...)."""
    arguments = _arguments(record, 7)
    storage, offset, shape, strides = arguments[:4]
    dtype = arguments[6]
    if not isinstance(dtype, Global):
        raise TensorError("it names no dtype")
    known = TORCH_DTYPES.get(dtype.name)
    if known is None:
        raise TensorError(f"its dtype {shortened(dtype.name)} is not one that can be read")
    return _make(path, saved_storage(storage), known, (offset, shape, strides), open_storage)


def _no_data(path: tuple[str, ...], record: Instance, open_storage: OpenStorage) -> Tensor:
    raise TensorError("it was saved without data (a meta tensor)")


def _not_dense(path: tuple[str, ...], record: Instance, open_storage: OpenStorage) -> Tensor:
    raise TensorError("it is a sparse, nested or quantised tensor, which is not read yet")


_REBUILDERS: dict[str, Callable[[tuple[str, ...], Instance, OpenStorage], Tensor]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_meta_tensor_no_storage": _no_data,
    "torch._utils._rebuild_sparse_tensor": _not_dense,
    "torch._utils._rebuild_sparse_csr_tensor": _not_dense,
    "torch._utils._rebuild_nested_tensor": _not_dense,
    "torch._utils._rebuild_qtensor": _not_dense,
}
"""What torch calls when it loads a tensor; here each only tells where the bytes are."""


def _make(
    path: tuple[str, ...],
    saved: SavedStorage,
    dtype: str,
    view: tuple[Record, Record, Record],
    open_storage: OpenStorage,
) -> Tensor:
    offset, shape, strides = view[0], _integers(view[1]), _integers(view[2])
    if not _is_int(offset) or shape is None or strides is None:
        raise TensorError("its size, stride or offset is not made of integers")
    return make_tensor(path, shape, dtype, open_storage(saved), offset, strides)


def _arguments(record: Record, least: int) -> tuple[Record, ...]:
    arguments = record.arguments if isinstance(record, Instance) else None
    if not isinstance(arguments, tuple) or len(arguments) < least:
        raise TensorError("it lacks arguments")
    return arguments


def _integers(record: Record) -> tuple[int, ...] | None:
    """A tuple of ints, out of a tuple, a list or a torch.Size."""
    if isinstance(record, Instance) and record.class_name == "torch.Size" and isinstance(record.arguments, tuple):
        record = record.arguments[0] if record.arguments else ()
    items = record.items if isinstance(record, Sequence) else record
    if isinstance(items, tuple | list) and all(_is_int(item) for item in items):
        return tuple(items)
    return None


def _is_int(record: Record) -> bool:
    return isinstance(record, int) and not isinstance(record, bool)
