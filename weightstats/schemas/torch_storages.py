"""The storages that torch's tensors are views of, as a pickle describes them, and the names of torch's dtypes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from weightstats.containers.pickle_records import Global, Instance, Persistent, Record, Sequence
from weightstats.dtypes import NAMES
from weightstats.errors import TensorError, shortened
from weightstats.limits import LIMITS, over
from weightstats.tensors import Storage

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

QUANTISED_STORAGES: dict[str, str] = {
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
}
"""Those whose integers stand for other numbers, with torch's name of the dtype."""

TORCH_DTYPES = NAMES
"""Names of torch.dtype."""


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

    kind: str = ""
    """Name of torch's class."""


OpenStorage: TypeAlias = Callable[[SavedStorage], Storage]
"""Gives the bytes of a storage, or raises TensorError."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much has been spent on one checkpoint's tensors that are not simply dense."""

    spent: Counter[str] = field(default_factory=Counter)
    """By the name of the limit."""

    def spend(self, limit: str, amount: int) -> None:
        """Take an amount out of what a limit allows; TensorError where less than that is left."""
        if self.spent[limit] + amount > getattr(LIMITS, limit):
            raise TensorError(f"it brings what is asked for to {self.spent[limit] + amount:,}, {over(limit)}")
        self.spent[limit] += amount


@dataclass(frozen=True, slots=True)
class Storages:
    """Where the bytes of one checkpoint's tensors are, and what it may still ask for."""

    open: OpenStorage
    allowance: Allowance = field(default_factory=Allowance)


def saved_storage(record: Record) -> SavedStorage:
    """The storage that a persistent id describes; TensorError where it is not one of torch's."""
    if isinstance(record, Instance) and record.class_name == "torch.storage._load_from_bytes":
        raise TensorError("its storage is a whole torch file inside the pickle, which is not opened")
    if not isinstance(record, Persistent) or not isinstance(record.identity, tuple):
        raise TensorError("it does not refer to a storage")
    identity = record.identity
    if len(identity) not in (5, 6) or identity[0] != "storage" or not isinstance(identity[1], Global):
        raise TensorError("it does not refer to a storage")
    _, kind, key, _, elements = identity[:5]
    if not isinstance(key, str) or not is_int(elements) or elements < 0:
        raise TensorError("its storage has no usable key or size")
    if kind.name not in STORAGE_DTYPES and kind.name != "UntypedStorage":
        raise TensorError(f"its storage type {shortened(kind.name)} is not one that can be read")
    part = _part(identity[5]) if len(identity) == 6 and identity[5] is not None else None
    return SavedStorage(key, STORAGE_DTYPES.get(kind.name), elements, part, kind.name)


def _part(view: Record) -> tuple[int, int]:
    """(first element, elements) out of a legacy file's (key of the view, offset, size)."""
    if isinstance(view, tuple) and len(view) == 3 and all(is_int(size) and size >= 0 for size in view[1:]):
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


def arguments_of(record: Record, least: int) -> tuple[Record, ...]:
    """The arguments of a call, at least so many; TensorError where there are fewer."""
    arguments = record.arguments if isinstance(record, Instance) else None
    if not isinstance(arguments, tuple) or len(arguments) < least:
        raise TensorError("it lacks arguments")
    return arguments


def integers(record: Record) -> tuple[int, ...] | None:
    """A tuple of ints, out of a tuple, a list or a torch.Size."""
    if isinstance(record, Instance) and record.class_name == "torch.Size" and isinstance(record.arguments, tuple):
        record = record.arguments[0] if record.arguments else ()
    items = record.items if isinstance(record, Sequence) else record
    if isinstance(items, tuple | list) and all(is_int(item) for item in items):
        return tuple(items)
    return None


def is_int(record: Record) -> bool:
    """Whether a record is an integer and no truth value."""
    return isinstance(record, int) and not isinstance(record, bool)
