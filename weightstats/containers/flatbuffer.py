"""Flatbuffers in place: tables, vectors and texts of a file, every offset checked before it is followed.

Format: https://flatbuffers.dev/internals. A table begins with a signed offset back to its vtable, which says where
in the table each field lies; vectors and texts begin with their length; references are unsigned offsets forward. The
reference library trusts them all.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weightstats.errors import CheckpointError
from weightstats.limits import LIMITS, over
from weightstats.places import File

_PAGE = 1 << 16
"""Bytes that are read and kept at a time: what describes a model lies close together."""

_PAGES = 64

_LARGEST_VTABLE = 1024
"""Bytes: room for 510 fields, where the schemas that are read here have at most 20 in a table."""

_CODES = {
    "bool": struct.Struct("<?"),
    "i8": struct.Struct("<b"),
    "u8": struct.Struct("<B"),
    "u16": struct.Struct("<H"),
    "i32": struct.Struct("<i"),
    "u32": struct.Struct("<I"),
    "u64": struct.Struct("<Q"),
}


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of bytes of the file."""

    start: int
    size: int


class Flatbuffer:
    """The flatbuffer that a file consists of."""

    def __init__(self, file: File) -> None:
        self.file = file
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._tables = 0
        self._listed = 0

    def root(self) -> "Table":
        """The table that all others hang on."""
        return self.table(self.integer(0, "u32"))

    def table(self, position: int) -> "Table":
        """The table at a place of the file."""
        self._tables += 1
        if self._tables > LIMITS.flatbuffer_tables:
            raise self.damage(f"leads to {self._tables:,} tables, {over('flatbuffer_tables')}")
        vtable = position - self.integer(position, "i32")
        size = self.integer(vtable, "u16")
        if size < 4 or size % 2 or size > _LARGEST_VTABLE:
            raise self.damage(f"has a malformed table at byte {position:,}")
        slots = struct.unpack(f"<{size // 2}H", self.content(vtable, size))
        if position + slots[1] > self.file.size:
            raise self.damage(f"has a table at byte {position:,} that reaches beyond its end")
        return Table(self, position, slots[1], slots[2:])

    def integer(self, position: int, code: str) -> int:
        """A number; its code is i or u for its sign, and its bits."""
        form = _CODES[code]
        return int(form.unpack(self.content(position, form.size))[0])

    def content(self, position: int, size: int) -> bytes:
        """A few bytes at a place of the file."""
        if position < 0 or position + size > self.file.size:
            raise self.damage(f"refers to byte {position + size:,} of a file of {self.file.size:,} bytes")
        page, begin = divmod(position, _PAGE)
        if begin + size > _PAGE:
            return self.file.read(position, size)
        return self._page(page)[begin : begin + size]

    def vector(self, position: int, width: int) -> Extent:
        """The elements of the vector at a place of the file, `width` bytes each."""
        count = self.integer(position, "u32")
        if position + 4 + count * width > self.file.size:
            raise self.damage(f"has a vector of {count:,} elements at byte {position:,} that reaches beyond its end")
        return Extent(position + 4, count * width)

    def listed(self, extent: Extent) -> bytes:
        """What a vector that is part of the description holds; however often it is referred to, it counts."""
        self._listed += extent.size
        if self._listed > self.file.size + LIMITS.text_bytes:
            raise self.damage("refers to the same bytes again and again")
        return self.content(extent.start, extent.size)

    def damage(self, problem: str) -> CheckpointError:
        """The error that says what is wrong with the file."""
        return CheckpointError(self.file.location, problem)

    def _page(self, number: int) -> bytes:
        if number in self._pages:
            self._pages.move_to_end(number)
            return self._pages[number]
        start = number * _PAGE
        page = self.file.read(start, min(_PAGE, self.file.size - start))
        self._pages[number] = page
        if len(self._pages) > _PAGES:
            self._pages.popitem(last=False)
        return page


@dataclass(frozen=True, slots=True)
class Table:
    """A table; its fields are known by their number in the schema."""

    buffer: Flatbuffer
    position: int
    size: int
    slots: tuple[int, ...]
    """Where each field lies in the table, 0 where it is left out."""

    def integer(self, field: int, code: str, default: int = 0) -> int:
        """A number or a truth value."""
        place = self._place(field, _CODES[code].size)
        return default if place is None else self.buffer.integer(place, code)

    def table(self, field: int) -> "Table | None":
        """Another table, None where there is none."""
        place = self._referred(field)
        return None if place is None else self.buffer.table(place)

    def extent(self, field: int, width: int = 1) -> Extent | None:
        """Where the elements of a vector lie, which are not read; None where there is no vector."""
        place = self._referred(field)
        return None if place is None else self.buffer.vector(place, width)

    def numbers(self, field: int, code: str) -> NDArray[np.generic]:
        """A vector of numbers; the code is numpy's, without the byte order. Empty where there is none."""
        extent = self.extent(field, np.dtype(code).itemsize)
        return np.frombuffer(b"" if extent is None else self.buffer.listed(extent), "<" + code)

    def integers(self, field: int, code: str = "i4") -> tuple[int, ...]:
        """A vector of integers."""
        return tuple(int(number) for number in self.numbers(field, code))

    def text(self, field: int) -> str:
        """A text, '' where there is none; bytes that are not UTF-8 become escapes."""
        extent = self.extent(field)
        if extent is None:
            return ""
        if extent.size > LIMITS.text_bytes:
            raise self.buffer.damage(f"holds a text of {extent.size:,} bytes, {over('text_bytes')}")
        return self.buffer.listed(extent).decode("utf-8", "backslashreplace")

    def tables(self, field: int) -> Iterator["Table"]:
        """A vector of tables, one after the other."""
        extent = self.extent(field, 4)
        for place in () if extent is None else range(extent.start, extent.start + extent.size, 4):
            yield self.buffer.table(place + self.buffer.integer(place, "u32"))

    def _place(self, field: int, size: int) -> int | None:
        """Where a field lies in the file."""
        slot = self.slots[field] if field < len(self.slots) else 0
        if slot == 0:
            return None
        if slot < 4 or slot + size > self.size:
            raise self.buffer.damage(f"has a field outside its table at byte {self.position:,}")
        return self.position + slot

    def _referred(self, field: int) -> int | None:
        """Where what a field refers to lies in the file."""
        place = self._place(field, 4)
        return None if place is None else place + self.buffer.integer(place, "u32")
