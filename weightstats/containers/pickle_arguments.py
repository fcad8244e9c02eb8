"""The arguments of a pickle's opcodes, as they stand in the stream behind them.

`pickletools` reads most of them; those in lines are read as Python's unpickler does, which knows no escapes in names.
"""

import codecs
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LEFT_FROM = 1 << 12
"""Bytes from which on a run of bytes is left in its stream, where the caller wants that."""


@dataclass(frozen=True, slots=True, eq=False)
class LeftBytes:
    """Bytes that were left in the stream: where they start, and how many there are."""

    start: int
    size: int


def _line(stream: Any) -> bytes:
    line: bytes = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError("a line does not end")
    return line[:-1]


def _text(stream: Any) -> str:
    return _line(stream).decode("utf-8")


def _two_texts(stream: Any) -> tuple[str, str]:
    return _text(stream), _text(stream)


def _string(stream: Any) -> str:
    """A string of Python 2 in quotes, its bytes as the characters of Latin-1: an array's data may be such a string."""
    quoted = pickletools.read_stringnl(stream, decode=False)
    with warnings.catch_warnings():  # Python is about to forbid some escapes that old pickles have
        warnings.simplefilter("ignore", DeprecationWarning)
        data: bytes = codecs.escape_decode(quoted)[0]
    return data.decode("latin-1")


def _leaving(read_size: Callable[[Any], int], read_all: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What reads the argument of an opcode that starts with its length, or leaves it where it is if it is long."""

    def read(stream: Any) -> Any:
        start = stream.tell()
        size = read_size(stream)
        if size < LEFT_FROM:
            stream.seek(start)
            return read_all(stream)
        left = LeftBytes(stream.tell(), size)
        stream.seek(left.start + size - 1)
        if not stream.read(1):
            raise ValueError(f"it ends before {size:,} bytes that it promises")
        return left

    return read


ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    opcode.name: opcode.arg.reader for opcode in pickletools.opcodes if opcode.arg
}
ARGUMENTS |= {"GLOBAL": _two_texts, "INST": _two_texts, "PERSID": _text, "STRING": _string}
"""What reads the argument of an opcode, by its name."""

_SIZES = {
    b"T": pickletools.read_int4,
    b"B": pickletools.read_uint4,
    b"\x8e": pickletools.read_uint8,
    b"\x96": pickletools.read_uint8,
}
"""Opcodes of bytes, and of Python 2's strings, with what reads their length."""

LEAVING: dict[bytes, Callable[[Any], Any]] = {
    opcode.code.encode("latin-1"): _leaving(_SIZES[opcode.code.encode("latin-1")], opcode.arg.reader)
    for opcode in pickletools.opcodes
    if opcode.arg and opcode.code.encode("latin-1") in _SIZES
}
"""The same for opcodes of bytes, by their code, where long ones are left in the stream."""
