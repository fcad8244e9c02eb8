"""A pickle read as data: opcodes in, inert records out. Nothing that it names is imported, called or compared.

`pickletools` knows the opcodes and their arguments; this machine only moves records between a stack and a memo. Keys
are never hashed and nothing is ever turned into text here, so neither a colliding key nor a deep nesting costs more
than its opcodes. Format: PEP 307, PEP 574 and CPython's Lib/pickletools.py.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, TypeAlias

from weightstats.containers.pickle_arguments import ARGUMENTS, LEAVING
from weightstats.errors import WeightstatsError, shortened
from weightstats.limits import LIMITS, OPCODE_BYTES, over

Record: TypeAlias = Any
"""A Python int, float, str, bytes, bytearray, bool, None or tuple of records, or one of the classes below."""


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


AfterBuild: TypeAlias = dict[str, Callable[[Instance, IO[bytes]], Record]]
"""By class: takes what lies in the stream behind an object's state and is no opcode, and gives one state more."""


def read_pickle(
    stream: IO[bytes], *, stored_bytes: int = 0, leave: bool = False, after_build: AfterBuild | None = None
) -> Pickle:
    """What one pickle says. The stream ends up after its STOP.

    `stored_bytes` are those of the checkpoint, by which the number of opcodes is bounded. With `leave`, long runs of
    bytes stay in the stream, which may then be as long as it likes, as `LeftBytes`. Raises PickleError for whatever
    the format does not allow, and where LIMITS are passed.
    """
    machine = _Machine(_Bounded(stream) if leave else stream, after_build or {})
    most = LIMITS.pickle_opcodes + stored_bytes // OPCODE_BYTES
    return machine.run(_LEAVING if leave else _OPCODES, most)


class _Bounded:
    """A stream from which no more than LIMITS.pickle_bytes are read, however many are skipped."""

    def __init__(self, stream: Any) -> None:
        self.left = LIMITS.pickle_bytes
        self.stream, self.tell, self.seek = stream, stream.tell, stream.seek

    def read(self, size: int) -> bytes:
        return self._counted(self.stream.read(min(size, self.left + 1)))

    def readline(self, size: int = -1) -> bytes:
        most = self.left + 1
        return self._counted(self.stream.readline(most if size < 0 else min(size, most)))

    def _counted(self, data: bytes) -> bytes:
        self.left -= len(data)
        if self.left < 0:
            raise PickleError(f"has at least {LIMITS.pickle_bytes:,} bytes beside its arrays, {over('pickle_bytes')}")
        return data


class _Machine:
    def __init__(self, stream: Any, after_build: AfterBuild) -> None:
        self.stream, self.after_build = stream, after_build
        self.stack: list[Record] = []
        self.memo: dict[int, Record] = {}
        self.globals: list[Global] = []
        self.persistents: list[Persistent] = []

    def run(self, opcodes: "_Opcodes", most: int) -> Pickle:
        count, stream = 0, self.stream
        try:
            while (code := stream.read(1)) != b".":
                if code not in opcodes:
                    unknown = f"at position {stream.tell() - 1}, opcode {code!r} unknown"
                    raise ValueError(unknown if code else "pickle exhausted before seeing STOP")
                argument_of, step = opcodes[code]
                argument = argument_of(stream) if argument_of else None
                count += 1
                if count > most:
                    raise PickleError(f"has at least {count:,} opcodes, {over('pickle_opcodes')}")
                step(self, argument)
        except PickleError:
            raise
        except (ValueError, OverflowError, IndexError, KeyError, MemoryError) as error:
            detail = str(error) if isinstance(error, ValueError) else "it takes what was never put there"
            raise PickleError(f"is malformed after opcode {count:,}: {shortened(detail)}") from error
        if len(self.stack) != 1 or self.stack[0] is _MARK:
            raise PickleError(f"is malformed: it ends with {len(self.stack)} objects instead of one")
        return Pickle(self.stack[0], tuple(self.globals), tuple(self.persistents))

    def _push(self, argument: Record) -> None:
        if isinstance(argument, int) and argument.bit_length() > 8 * LIMITS.pickle_integer_bytes:
            raise PickleError(
                f"holds an integer of {argument.bit_length() // 8:,} bytes, {over('pickle_integer_bytes')}"
            )
        self.stack.append(argument)

    _op_int = _op_binint = _op_binint1 = _op_binint2 = _op_long = _op_long1 = _op_long4 = _push
    _op_float = _op_binfloat = _op_string = _op_binstring = _op_short_binstring = _push
    _op_unicode = _op_binunicode = _op_short_binunicode = _op_binunicode8 = _push
    _op_binbytes = _op_short_binbytes = _op_binbytes8 = _op_bytearray8 = _push

    def _op_none(self, argument: None) -> None:
        self.stack.append(None)

    def _op_newtrue(self, argument: None) -> None:
        self.stack.append(True)

    def _op_newfalse(self, argument: None) -> None:
        self.stack.append(False)

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

    def _op_global(self, argument: tuple[str, str]) -> None:
        self.stack.append(self._name(*argument))

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

    def _op_inst(self, argument: tuple[str, str]) -> None:
        arguments = tuple(self._pop_to_mark())
        self.stack.append(Instance(self._name(*argument), arguments))

    def _op_obj(self, argument: None) -> None:
        made_by, *arguments = self._pop_to_mark()
        self.stack.append(Instance(made_by, tuple(arguments)))

    def _op_build(self, argument: None) -> None:
        state = self._pop()
        target = self._top()
        if isinstance(target, Instance):
            target.states.append(state)
            if target.class_name in self.after_build:
                target.states.append(self.after_build[target.class_name](target, self.stream))

    def _op_persid(self, argument: Record) -> None:
        found = Persistent(argument)
        self.persistents.append(found)
        self.stack.append(found)

    def _op_binpersid(self, argument: None) -> None:
        self._op_persid(self._pop())


def _refusing(name: str) -> Callable[[_Machine, Any], None]:
    def refuse(machine: _Machine, argument: Any) -> None:
        raise PickleError(f"uses the opcode {name}, which no checkpoint needs")

    return refuse


_Opcodes: TypeAlias = dict[bytes, tuple[Callable[[Any], Any] | None, Callable[[_Machine, Any], None]]]

_OPCODES: _Opcodes = {
    opcode.code.encode("latin-1"): (
        ARGUMENTS.get(opcode.name),
        getattr(_Machine, f"_op_{opcode.name.lower()}", None) or _refusing(opcode.name),
    )
    for opcode in pickletools.opcodes
}
"""Every opcode; those that no checkpoint needs (EXT*, buffers outside the pickle) are refused."""

_LEAVING: _Opcodes = _OPCODES | {code: (LEAVING[code], _OPCODES[code][1]) for code in LEAVING}
