"""A pickle read as data: opcodes in, inert records out. Nothing that it names is imported, called or compared.

`pickletools` knows the opcodes and their arguments; this machine only moves records between a stack and a memo. Keys
are never hashed and nothing is ever turned into text here, so neither a colliding key nor a deep nesting costs more
than its opcodes. Format: PEP 307, PEP 574 and CPython's Lib/pickletools.py.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, TypeAlias

from weightstats.errors import WeightstatsError
from weightstats.limits import LIMITS

Record: TypeAlias = Any
"""A Python int, float, str, bytes, bool, None or tuple of records, or one of the classes below."""


class PickleError(WeightstatsError):
    """The pickle breaks the rules of its format; the message says which."""


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A name that the pickle would have imported."""

    module: str
    name: str

    @property
    def full_name(self) -> str:
        """As an import would write it."""
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """A list, a set or a frozenset, as far as it was filled."""

    items: list[Record] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """A dict as it was written: pairs in order, equal keys not joined."""

    pairs: list[tuple[Record, Record]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Persistent:
    """An object that lies outside the pickle, with what names it there."""

    identity: Record


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """An object that would have been made by a call, with everything that would have been put into it."""

    callable: Record
    arguments: Record
    items: Sequence = field(default_factory=Sequence)
    pairs: Mapping = field(default_factory=Mapping)
    states: list[Record] = field(default_factory=list)

    @property
    def class_name(self) -> str:
        """What it is made by, as far as that is a plain name; '' otherwise."""
        made_by = self.callable
        if isinstance(made_by, Global) and made_by.name in _MAKERS and isinstance(self.arguments, tuple):
            made_by = self.arguments[0] if self.arguments else made_by
        return made_by.full_name if isinstance(made_by, Global) else ""


_MAKERS = ("__newobj__", "_reconstructor", "__newobj_ex__")
"""Functions of copyreg whose first argument is the class."""


class _Mark:
    """The place on the stack that a MARK opcode left."""


_MARK = _Mark()


@dataclass(frozen=True, slots=True, eq=False)
class Pickle:
    """All that one pickle says."""

    root: Record
    globals: tuple[Global, ...]
    """Every name that it would have imported, in order."""

    persistents: tuple[Persistent, ...]


def read_pickle(stream: IO[bytes]) -> Pickle:
    """What one pickle says. The stream ends up after its STOP.

    Raises PickleError for whatever the format does not allow, and where LIMITS are passed.
    """
    return _Machine().run(stream)


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Record] = []
        self.memo: dict[int, Record] = {}
        self.globals: list[Global] = []
        self.persistents: list[Persistent] = []
        self.steps: dict[str, Callable[[Any], None]] = {
            name.removeprefix("_op_").upper(): getattr(self, name) for name in dir(self) if name.startswith("_op_")
        }

    def run(self, stream: IO[bytes]) -> Pickle:
        count = 0
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                count += 1
                if count > LIMITS.pickle_opcodes:
                    raise PickleError(f"has more than {LIMITS.pickle_opcodes:,} opcodes")
                if opcode.name == "STOP":
                    break
                self._step(opcode.name, argument)
        except PickleError:
            raise
        except (ValueError, OverflowError, IndexError, KeyError, MemoryError) as error:
            detail = str(error) if isinstance(error, ValueError) else "it takes what was never put there"
            raise PickleError(f"is malformed after opcode {count:,}: {detail}") from error
        if len(self.stack) != 1 or self.stack[0] is _MARK:
            raise PickleError(f"is malformed: it ends with {len(self.stack)} objects instead of one")
        return Pickle(self.stack[0], tuple(self.globals), tuple(self.persistents))

    def _step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > 8 * LIMITS.pickle_integer_bytes:
                raise PickleError(f"holds an integer of more than {LIMITS.pickle_integer_bytes} bytes")
            self.stack.append(argument)
        elif name in self.steps:
            self.steps[name](argument)
        else:
            raise PickleError(f"uses the opcode {name}, which no checkpoint needs")

    def _pop(self) -> Record:
        record = self.stack.pop()
        if record is _MARK:
            raise PickleError("is malformed: an opcode takes a mark for an object")
        return record

    def _top(self) -> Record:
        record = self.stack[-1]
        if record is _MARK:
            raise PickleError("is malformed: an opcode takes a mark for an object")
        return record

    def _pop_to_mark(self) -> list[Record]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                taken = self.stack[index + 1 :]
                del self.stack[index:]
                return taken
        raise PickleError("is malformed: a mark is missing")

    def _op_proto(self, argument: int) -> None:
        if argument > 5:
            raise PickleError(f"claims protocol {argument}; the highest is 5")

    def _op_frame(self, argument: int) -> None:
        """Frames only group opcodes."""

    def _op_mark(self, argument: None) -> None:
        self.stack.append(_MARK)

    def _op_pop(self, argument: None) -> None:
        self.stack.pop()

    def _op_pop_mark(self, argument: None) -> None:
        self._pop_to_mark()

    def _op_dup(self, argument: None) -> None:
        self.stack.append(self._top())

    def _op_put(self, argument: int) -> None:
        self.memo[argument] = self._top()

    _op_binput = _op_long_binput = _op_put

    def _op_memoize(self, argument: None) -> None:
        self.memo[len(self.memo)] = self._top()

    def _op_get(self, argument: int) -> None:
        self.stack.append(self.memo[argument])

    _op_binget = _op_long_binget = _op_get

    def _op_tuple(self, argument: None) -> None:
        self.stack.append(tuple(self._pop_to_mark()))

    def _op_empty_tuple(self, argument: None) -> None:
        self.stack.append(())

    def _op_tuple1(self, argument: None) -> None:
        self.stack.append((self._pop(),))

    def _op_tuple2(self, argument: None) -> None:
        second, first = self._pop(), self._pop()
        self.stack.append((first, second))

    def _op_tuple3(self, argument: None) -> None:
        third, second, first = self._pop(), self._pop(), self._pop()
        self.stack.append((first, second, third))

    def _op_empty_list(self, argument: None) -> None:
        self.stack.append(Sequence())

    _op_empty_set = _op_empty_list

    def _op_list(self, argument: None) -> None:
        self.stack.append(Sequence(self._pop_to_mark()))

    _op_frozenset = _op_list

    def _op_append(self, argument: None) -> None:
        item = self._pop()
        self._items_of(self._top()).append(item)

    def _op_appends(self, argument: None) -> None:
        items = self._pop_to_mark()
        self._items_of(self._top()).extend(items)

    _op_additems = _op_appends

    def _items_of(self, target: Record) -> list[Record]:
        if isinstance(target, Instance):
            return target.items.items
        if isinstance(target, Sequence):
            return target.items
        raise PickleError("is malformed: it appends to something that is not a list")

    def _op_empty_dict(self, argument: None) -> None:
        self.stack.append(Mapping())

    def _op_dict(self, argument: None) -> None:
        self.stack.append(Mapping(self._paired(self._pop_to_mark())))

    def _op_setitem(self, argument: None) -> None:
        value, key = self._pop(), self._pop()
        self._pairs_of(self._top()).append((key, value))

    def _op_setitems(self, argument: None) -> None:
        pairs = self._paired(self._pop_to_mark())
        self._pairs_of(self._top()).extend(pairs)

    def _pairs_of(self, target: Record) -> list[tuple[Record, Record]]:
        if isinstance(target, Instance):
            return target.pairs.pairs
        if isinstance(target, Mapping):
            return target.pairs
        raise PickleError("is malformed: it sets an item of something that is not a dict")

    def _paired(self, records: list[Record]) -> list[tuple[Record, Record]]:
        if len(records) % 2:
            raise PickleError("is malformed: a dict has a key without a value")
        return list(zip(records[::2], records[1::2], strict=True))

    def _name(self, module: Record, name: Record) -> Record:
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError("is malformed: it names a global with something that is not text")
        found = Global(module, name)
        self.globals.append(found)
        return found

    def _op_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self._name(module, name))

    def _op_stack_global(self, argument: None) -> None:
        name, module = self._pop(), self._pop()
        self.stack.append(self._name(module, name))

    def _op_reduce(self, argument: None) -> None:
        arguments, made_by = self._pop(), self._pop()
        self.stack.append(Instance(made_by, arguments))

    _op_newobj = _op_reduce

    def _op_newobj_ex(self, argument: None) -> None:
        keywords, arguments, made_by = self._pop(), self._pop(), self._pop()
        self.stack.append(Instance(made_by, arguments, states=[keywords]))

    def _op_inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        arguments = tuple(self._pop_to_mark())
        self.stack.append(Instance(self._name(module, name), arguments))

    def _op_obj(self, argument: None) -> None:
        made_by, *arguments = self._pop_to_mark()
        self.stack.append(Instance(made_by, tuple(arguments)))

    def _op_build(self, argument: None) -> None:
        state = self._pop()
        target = self._top()
        if isinstance(target, Instance):
            target.states.append(state)

    def _op_persid(self, argument: Record) -> None:
        found = Persistent(argument)
        self.persistents.append(found)
        self.stack.append(found)

    def _op_binpersid(self, argument: None) -> None:
        self._op_persid(self._pop())


_CONSTANTS: dict[str, Record] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}

_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
"""Opcodes that push the argument which pickletools has read; those left out (EXT*, buffers) are refused."""
