"""Protocol buffers at the level of their wire format, in place: a file's fields with where each lies, nothing loaded.

Format: https://protobuf.dev/programming-guides/encoding. The reference library parses whole messages in memory, weights
and all; here a length-delimited field is an offset and a size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from weightstats.errors import WeightstatsError
from weightstats.limits import LIMITS, over
from weightstats.places import File

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types. Groups (3 and 4) are long deprecated and are taken for damage."""

_WINDOW = 1 << 16
_LONGEST_VARINT = 10


class DamageError(WeightstatsError):
    """A message that breaks the wire format; the text says how."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    number: int
    wire: int
    value: int
    """Of a varint or a fixed-width field, as an unsigned number; 0 for bytes."""

    start: int
    """Where its content starts in the file."""

    size: int
    """Bytes of its content."""

    @property
    def signed(self) -> int:
        """The value of an int64 or int32 field."""
        return self.value - (1 << 64) if self.value >= 1 << 63 else self.value


class Cursor:
    """A place in a range of a file, from which bytes are taken through a small window."""

    __slots__ = ("_window", "_window_start", "end", "file", "position")

    def __init__(self, file: File, start: int, end: int) -> None:
        self.file, self.position, self.end = file, start, end
        self._window, self._window_start = b"", start

    def take(self, length: int) -> bytes:
        """The next `length` bytes, of which there are few."""
        if self.position + length > self.end:
            raise DamageError("ends in the middle of a field")
        begin = self.position - self._window_start
        if not 0 <= begin <= len(self._window) - length:
            size = max(length, min(_WINDOW, self.end - self.position))
            self._window, self._window_start, begin = self.file.read(self.position, size), self.position, 0
        self.position += length
        return self._window[begin : begin + length]

    def varint(self) -> int:
        """The next variable-length integer, as an unsigned 64-bit number."""
        value = shift = 0
        for _ in range(_LONGEST_VARINT):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF
            shift += 7
        raise DamageError("holds a number of more than ten bytes")


def fields(file: File, start: int, end: int) -> Iterator[Field]:
    """The fields of the message between two places of a file, in order. DamageError where it is not a message."""
    cursor = Cursor(file, start, end)
    while cursor.position < end:
        tag = cursor.varint()
        number, wire = tag >> 3, tag & 7
        if number == 0 or number >= 1 << 29:
            raise DamageError("holds a field with an impossible number")
        if wire == VARINT:
            begin = cursor.position
            value = cursor.varint()
            yield Field(number, wire, value, begin, cursor.position - begin)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
            begin = cursor.position
            yield Field(number, wire, int.from_bytes(cursor.take(size), "little"), begin, size)
        elif wire == BYTES:
            size = cursor.varint()
            if cursor.position + size > end:
                raise DamageError(f"holds a field of {size:,} bytes where {end - cursor.position:,} are left")
            yield Field(number, wire, 0, cursor.position, size)
            cursor.position += size
        else:
            raise DamageError(f"holds a field of wire type {wire}, which is not in use")


def content(file: File, field: Field) -> bytes:
    """The bytes of a short length-delimited field; DamageError for another kind and beyond LIMITS.text_bytes."""
    if field.wire != BYTES:
        raise DamageError(f"has a number where field {field.number} holds bytes")
    if field.size > LIMITS.text_bytes:
        raise DamageError(f"holds a text of {field.size:,} bytes, {over('text_bytes')}")
    return file.read(field.start, field.size)


def text(file: File, field: Field) -> str:
    """A string field; bytes that are not UTF-8 become escapes."""
    return content(file, field).decode("utf-8", "backslashreplace")


def varints(file: File, field: Field, most: int) -> list[int]:
    """A repeated integer field's unsigned values: one, or as many as are packed. DamageError for more than `most`."""
    if field.wire != BYTES:
        return [field.value]
    cursor = Cursor(file, field.start, field.start + field.size)
    values: list[int] = []
    while cursor.position < cursor.end:
        values.append(cursor.varint())
        if len(values) > most:
            raise DamageError(f"holds more than {most:,} numbers in field {field.number}")
    return values


def signed(values: list[int]) -> list[int]:
    """Unsigned 64-bit values as the signed ones of an int64 or int32 field."""
    return [value - (1 << 64) if value >= 1 << 63 else value for value in values]
