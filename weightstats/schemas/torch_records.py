"""The tensors among the records of a pickle that `torch.save` wrote, each with the keys that lead to it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from weightstats.checkpoint import counters_in
from weightstats.containers.pickle_records import Global, Instance, Mapping, Persistent, PickleError, Record, Sequence
from weightstats.errors import TensorError, shortened
from weightstats.limits import LIMITS, over
from weightstats.schemas.numpy_records import KNOWN_NAMES, Arrays, array_tensor
from weightstats.schemas.torch_layouts import REBUILDERS
from weightstats.schemas.torch_storages import (
    STORAGE_DTYPES,
    TORCH_DTYPES,
    OpenStorage,
    SavedStorage,
    Storages,
    arguments_of,
    described_storages,
    is_int,
)
from weightstats.tensors import Source, Tensor

__all__ = [
    "STORAGE_DTYPES",
    "TORCH_DTYPES",
    "Found",
    "OpenStorage",
    "SavedStorage",
    "described_storages",
    "find_tensors",
    "unknown_classes",
]

FROM_TYPE = {"torch._tensor._rebuild_from_type", "torch._tensor._rebuild_from_type_v2"}
"""Functions that rebuild a subclass of Tensor; arguments (function, class, its arguments, state)."""

_AROUND_OTHERS = "torch._utils._rebuild_wrapper_subclass"
"""The function of a subclass that holds its data in other tensors (DTensor, quantised weights of torchao, ...)."""

_MOST_LOOKED_AT = 1_000
"""Records in which such a subclass may hide its tensors; those known have them among their first attributes."""

_MOST_WRAPPERS = 4
"""A parameter around a subclass around a tensor is two."""

WRAPPERS = {
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.nn.parameter.Parameter",
    "torch.nn.parameter.Buffer",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    "torch._utils._rebuild_device_tensor_from_numpy",
    "torch._utils._rebuild_xla_tensor",
}
"""Functions and classes whose first argument is the tensor that they wrap."""

MAPPING_CLASSES = {"collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"}

_MOST_WARNINGS = 100

_METHODS = frozenset(dir(dict)) | {"move_to_end"}
"""Of a dict: an attribute of that name hides its items from what loads it, as a pickle may have it."""

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
class Found:
    """What a walk through the records came across."""

    tensors: list[Tensor] = field(default_factory=list)
    unread: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    """Paths of tensors that cannot be read, with the reason."""

    warnings: list[str] = field(default_factory=list)


Outside: TypeAlias = Callable[[tuple[str, ...], Persistent], Tensor | None]
"""The tensor that a persistent id stands for, None where it stands for something else; or raises TensorError."""


def find_tensors(
    root: Record,
    open_storage: OpenStorage,
    under: tuple[str, ...] = (),
    *,
    source: Source | None = None,
    outside: Outside | None = None,
) -> Found:
    """Every tensor that can be reached from `root`, in the order in which the file holds them, with `under` on top.

    `open_storage` gives the bytes of a storage, or raises TensorError; `source` is what bytes were left in. Each
    container is entered once, so that cycles and shared parts cost nothing; a tensor that is reached on two paths is
    found twice. Raises PickleError where there are more than LIMITS.tensors.
    """
    found = Found()
    finder = _Finder(Storages(open_storage), Arrays(source), outside)
    entered: set[int] = set()
    paths: dict[tuple[str, ...], int] = {}
    too_deep = 0
    waiting: list[tuple[_Place, Record]] = [(_Place(under), root)]
    while waiting:
        place, record = waiting.pop()
        _check_number(found)
        try:
            tensor = finder.tensor(place.path, record)
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
        children = [child for child in _children(record, place, found.warnings) if _may_hold(child[1])]
        waiting.extend(reversed(children))
    _check_number(found)
    if len(found.warnings) > _MOST_WARNINGS:
        found.warnings[_MOST_WARNINGS:] = [f"{len(found.warnings) - _MOST_WARNINGS:,} more warnings of this kind"]
    if too_deep:
        found.warnings.append(
            f"objects nested more than {LIMITS.depth:,} deep, or under endless keys, were not looked into"
        )
    return found


def _check_number(found: Found) -> None:
    if len(found.tensors) + len(found.unread) > LIMITS.tensors:
        raise PickleError(f"leads to tensors, {over('tensors')}")


def _distinct(path: tuple[str, ...], taken: dict[tuple[str, ...], int]) -> tuple[str, ...]:
    """The path, with a number where another tensor has it; `taken` counts the tensors of each path, and is added to."""
    made = path
    while made in taken:
        taken[path] += 1
        made = (*path[:-1], f"{path[-1] if path else ''}#{taken[path]}")
    taken[made] = 1
    return made


def _attached(record: Record) -> list[Record]:
    """What a tensor's record holds beside the tensor: its attributes, which may be tensors as well."""
    if not isinstance(record, Instance):
        return []
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
    known = (
        PLAIN_CLASSES
        | WRAPPERS
        | FROM_TYPE
        | set(REBUILDERS)
        | KNOWN_NAMES
        | {f"torch.{name}" for name in TORCH_DTYPES}
    )
    known |= {f"torch.{name}" for name in STORAGE_DTYPES} | {"torch.storage.UntypedStorage"}
    known |= {f"{module}.{name}" for module in ("copyreg", "copy_reg") for name in ("_reconstructor", "__newobj__")}
    known |= {f"torch.{name}" for name in ("per_tensor_affine", "per_channel_affine", "serialization._get_layout")}
    known |= {"builtins.object", "__builtin__.object", "torch._tensor.Tensor", "torch.Tensor"}
    return tuple(dict.fromkeys(shortened(g.full_name) for g in found_globals if g.full_name not in known))


def counters_of(root: Record) -> dict[str, int]:
    """How far a training was, where the outermost mapping says so: see `checkpoint.COUNTERS`."""
    if isinstance(root, Instance) and root.class_name in MAPPING_CLASSES:
        root = root.pairs
    return counters_in(root.pairs) if isinstance(root, Mapping) else {}


def _children(record: Record, place: _Place, warnings: list[str]) -> Iterator[tuple[_Place, Record]]:
    if isinstance(record, Mapping):
        yield from _entries(record, place, warnings)
    elif isinstance(record, Sequence | tuple):
        items = record.items if isinstance(record, Sequence) else record
        yield from ((place.at(str(index)), item) for index, item in enumerate(items) if _may_hold(item))
    else:
        yield from _entries(record.pairs, place, warnings)
        items = record.items.items
        yield from ((place.at(str(index)), item) for index, item in enumerate(items) if _may_hold(item))
        if record.class_name in MAPPING_CLASSES:
            warnings.extend(_overwritten(record, place))
        for state in record.states:
            yield from _state_children(state, place, warnings)
        if record.class_name in MAPPING_CLASSES and isinstance(record.arguments, tuple):
            yield from _entries(Mapping([pair for part in record.arguments for pair in _pairs(part)]), place, warnings)
        elif isinstance(record.arguments, tuple):
            yield from ((place.below(), argument) for argument in record.arguments)


def _may_hold(record: Record) -> bool:
    """Whether a record can lead to a tensor: plain values and empty containers cannot."""
    if isinstance(record, tuple):
        return bool(record)
    if isinstance(record, Sequence):
        return bool(record.items)
    if isinstance(record, Mapping):
        return bool(record.pairs)
    return isinstance(record, Instance | Persistent)


def _overwritten(record: Instance, place: _Place) -> Iterator[str]:
    """A warning for a dict that gives its own methods another meaning."""
    states = [part for state in record.states for part in (state if isinstance(state, tuple) else (state,))]
    keys = [key for state in states if isinstance(state, Mapping) for key, _ in state.pairs]
    names = sorted({key for key in keys if isinstance(key, str) and key in _METHODS})
    if names:
        where = f"the dict {'.'.join(place.path)}" if place.path else "the outermost dict"
        yield f"{where} overwrites its own {', '.join(names)}: what loads it may see other items than are listed here"


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
    names = [key if isinstance(key, str) else str(key) if is_int(key) else None for key, _ in mapping.pairs]
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


@dataclass(frozen=True, slots=True)
class _Finder:
    """What tells the tensors among the records."""

    storages: Storages
    arrays: Arrays
    outside: Outside | None

    def tensor(self, path: tuple[str, ...], record: Record) -> Tensor | None:
        """The tensor that a record stands for, None where it stands for something else."""
        for _ in range(_MOST_WRAPPERS):
            if isinstance(record, Persistent) and self.outside is not None:
                return self.outside(path, record)
            if not isinstance(record, Instance):
                return None
            name = record.callable.full_name if isinstance(record.callable, Global) else ""
            if name in WRAPPERS:
                record = arguments_of(record, 1)[0]
            elif name in FROM_TYPE:
                function, _, arguments = arguments_of(record, 3)[:3]
                if isinstance(function, Global) and function.full_name == _AROUND_OTHERS:
                    _check_around_others(record)
                    return None
                record = Instance(function, arguments)
            elif name == _AROUND_OTHERS:
                _check_around_others(record)
                return None
            elif name in REBUILDERS:
                return REBUILDERS[name](path, record, self.storages)
            else:
                return array_tensor(path, record, self.arrays)
        raise TensorError(f"it is wrapped more than {_MOST_WRAPPERS} times")


def _check_around_others(record: Instance) -> None:
    """A tensor that has no storage but holds other tensors, which are found on their own; TensorError without any."""
    waiting: list[Record] = [record.arguments, record.states]
    for _ in range(_MOST_LOOKED_AT):
        if not waiting:
            break
        part = waiting.pop()
        if isinstance(part, Instance) and part.class_name in REBUILDERS.keys() | WRAPPERS | FROM_TYPE:
            if part is not record:
                return
        elif isinstance(part, tuple | list):
            waiting.extend(part)
        elif isinstance(part, Sequence):
            waiting.extend(part.items)
        elif isinstance(part, Mapping):
            waiting.extend(value for _, value in part.pairs)
        elif isinstance(part, Instance):
            waiting.extend((part.arguments, part.states))
    raise TensorError("it was saved without data (a tensor around others that are not there)")
