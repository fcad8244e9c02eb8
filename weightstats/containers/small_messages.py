"""Protocol buffer messages that are read at once where they are small: graphs have many, each of many fields."""

from collections.abc import Iterator

from weightstats.containers import protobuf
from weightstats.containers.protobuf import BYTES, FIXED32, FIXED64, VARINT, DamageError, Field
from weightstats.limits import LIMITS, over
from weightstats.places import File

SMALL = 1 << 14
"""Bytes of a message that is taken into memory; a larger one stays in the file."""

_LONGEST_VARINT = 10


class Steps:
    """Counts the fields that are looked at, all in all."""

    def __init__(self) -> None:
        self._most = self._left = LIMITS.message_fields

    def of(self, parts: Iterator[Field]) -> Iterator[Field]:
        """The same fields; DamageError when there have been too many."""
        for part in parts:
            self._left -= 1
            if self._left < 0:
                raise DamageError(f"has {self._most + 1:,} fields, {over('message_fields')}")
            yield part

    def inside(self, file: File, message: Field) -> Iterator[Field]:
        """The fields of a large message, in the file."""
        return self.of(protobuf.fields(file, message.start, message.start + message.size))


class Message:
    """A message in a file, and what is in it; `steps` counts its fields with those of others."""

    __slots__ = ("_content", "_file", "_start", "_steps")

    def __init__(self, file: File, start: int, size: int, steps: Steps | None = None) -> None:
        self._file, self._start, self._steps = file, start, steps or Steps()
        self._content = file.read(start, size) if size <= SMALL else None

    def parts(self, start: int, size: int) -> Iterator[Field]:
        """The fields in a range of the file that lies in the message. DamageError where they are none."""
        if self._content is None:
            return self._steps.of(protobuf.fields(self._file, start, start + size))
        return self._steps.of(self._loaded(self._content, start - self._start, start - self._start + size))

    def inner(self, field: Field) -> Iterator[Field]:
        """The fields of a field that is a message."""
        return self.parts(field.start, field.size)

    def text(self, field: Field) -> str:
        """A string field; bytes that are not UTF-8 become escapes."""
        if self._content is None or field.wire != BYTES:
            return protobuf.text(self._file, field)
        begin = field.start - self._start
        return self._content[begin : begin + field.size].decode("utf-8", "backslashreplace")

    def _loaded(self, content: bytes, position: int, end: int) -> Iterator[Field]:
        while position < end:
            tag, position = _varint(content, position, end)
            number, wire, value = tag >> 3, tag & 7, 0
            if wire == VARINT:
                begin = position
                value, position = _varint(content, position, end)
                size = position - begin
            elif wire == BYTES:
                size, begin = _varint(content, position, end)
            elif wire in (FIXED32, FIXED64):
                size, begin = 4 if wire == FIXED32 else 8, position
                value = int.from_bytes(content[begin : begin + size], "little")
            else:
                raise DamageError(f"holds a field of wire type {wire}, which is not in use")
            if begin + size > end or not 0 < number < 1 << 29:
                raise DamageError("holds a field that is longer than its message, or has an impossible number")
            yield Field(number, wire, value, self._start + begin, size)
            position = begin + size


def _varint(content: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    value = shift = 0
    for byte in content[position : min(end, position + _LONGEST_VARINT)]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
    raise DamageError("holds a number that does not end")
