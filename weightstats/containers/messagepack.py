"""MessagePack, in place: a file's tree of values with where each lies, and no long text or bytes loaded.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md. The reference library makes objects of the whole file,
arrays and all; here what has a length is an offset and a size.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from weightstats.errors import WeightstatsError, quoted
from weightstats.limits import LIMITS, over
from weightstats.places import File

Kind: TypeAlias = Literal["nil", "bool", "integer", "float", "text", "bytes", "extension", "list", "map"]
Path: TypeAlias = tuple[str, ...]

_WINDOW = 1 << 13
"""Bytes that are read at a time: a checkpoint's arrays lie between its keys, and are longer."""

_KEY_BYTES = 1 << 16
"""The longest key that is a name."""


class DamageError(WeightstatsError):
    """A tree that breaks the format; the message continues a sentence about the file."""


@dataclass(frozen=True, slots=True)
class Item:
    """A value, or the start of a list or a map."""

    kind: Kind
    value: int | float | bool | None = None
    """Of a number or truth value; how many values a list and how many pairs a map has."""

    start: int = 0
    """Where the content of a text, of bytes or of an extension starts in the file."""

    size: int = 0
    """Bytes of that content."""

    code: int = 0
    """The type of an extension."""


_FIXED: dict[int, tuple[Kind, bool | None]] = {0xC0: ("nil", None), 0xC2: ("bool", False), 0xC3: ("bool", True)}
_NUMBERS: dict[int, tuple[Kind, str]] = {
    0xCA: ("float", ">f"),
    0xCB: ("float", ">d"),
    **{0xCC + index: ("integer", f">{letter}") for index, letter in enumerate("BHIQbhiq")},
}
_SIZED: dict[int, tuple[Kind, int]] = {
    **{0xC4 + index: ("bytes", 1 << index) for index in range(3)},
    **{0xC7 + index: ("extension", 1 << index) for index in range(3)},
    **{0xD9 + index: ("text", 1 << index) for index in range(3)},
    **{0xDC + index: ("list", 2 << index) for index in range(2)},
    **{0xDE + index: ("map", 2 << index) for index in range(2)},
}
"""The kinds whose length is written in so many bytes, by their first byte."""


class Items:
    """The values of a part of a file in order, each list and map before what is in it."""

    def __init__(self, file: File, start: int, end: int) -> None:
        self.file, self.position, self.end = file, start, end
        self._window, self._window_start = b"", start

    def take(self) -> Item:
        """The next one; DamageError where none that fits into the rest of the file comes."""
        first = self._bytes(1)[0]
        if first <= 0x7F or first >= 0xE0:
            return Item("integer", first if first <= 0x7F else first - 0x100)
        if first <= 0x8F:
            return self._container("map", first & 0x0F)
        if first <= 0x9F:
            return self._container("list", first & 0x0F)
        if first <= 0xBF:
            return self._content("text", first & 0x1F)
        if first in _FIXED:
            return Item(*_FIXED[first])
        if first in _NUMBERS:
            kind, code = _NUMBERS[first]
            return Item(kind, struct.unpack(code, self._bytes(struct.calcsize(code)))[0])
        if 0xD4 <= first <= 0xD8:
            return self._content("extension", 1 << (first - 0xD4))
        if first not in _SIZED:
            raise DamageError(f"has a byte that starts no value ({first:#04x}) at byte {self.position - 1:,}")
        kind, width = _SIZED[first]
        length = int.from_bytes(self._bytes(width), "big")
        return self._container(kind, length) if kind in ("list", "map") else self._content(kind, length)

    def text(self, item: Item) -> str:
        """The text of an item, of bytes too, with escapes for what is not UTF-8; DamageError where it is too long."""
        if item.size > _KEY_BYTES:
            raise DamageError(f"has a key of {item.size:,} bytes at byte {item.start:,}")
        return self.file.read(item.start, item.size).decode("utf-8", "backslashreplace")

    def _container(self, kind: Kind, length: int) -> Item:
        if length * (2 if kind == "map" else 1) > self.end - self.position:
            there = f"of which {self.end - self.position:,} bytes are left"
            raise DamageError(f"is damaged or truncated: a {kind} at byte {self.position:,} claims {length:,}, {there}")
        return Item(kind, length)

    def _content(self, kind: Kind, size: int) -> Item:
        code = struct.unpack("b", self._bytes(1))[0] if kind == "extension" else 0
        if size > self.end - self.position:
            raise DamageError(
                f"is damaged or truncated: {kind} at byte {self.position:,} of {size:,} bytes, "
                f"of which {self.end - self.position:,} are there"
            )
        self.position += size
        return Item(kind, None, self.position - size, size, code)

    def _bytes(self, count: int) -> bytes:
        if self.position + count > self.end:
            raise DamageError(f"is damaged or truncated: it ends at byte {self.end:,}, within a value")
        begin = self.position - self._window_start
        if begin + count > len(self._window):
            begin, self._window_start = 0, self.position
            self._window = self.file.read(self.position, min(_WINDOW, self.end - self.position))
        self.position += count
        return self._window[begin : begin + count]


@dataclass(slots=True)
class _Open:
    """A list or map that is being walked."""

    path: Path
    left: int
    """Values that are still to come."""

    keys: set[str] | None
    """Those of a map so far; None for a list."""

    length: int = 0
    """Of a list, so far."""


@dataclass(slots=True)
class Tree:
    """The one value of a file, and how much of it was walked."""

    file: File
    _items: Items = field(init=False)

    def __post_init__(self) -> None:
        self._items = Items(self.file, 0, self.file.size)

    @property
    def end(self) -> int:
        """Where what was walked ends."""
        return self._items.position

    def leaves(self, most: int) -> Iterator[tuple[Path, Item]]:
        """Every value that is no list or map, with the keys and numbers that lead to it, in the order of the file.

        DamageError where the file breaks the format, writes a key twice in a map, nests more than LIMITS.msgpack_depth
        deep or has more than `most` keys and values, which is LIMITS.msgpack_items or less.
        """
        taken = 0
        waiting = [_Open((), 1, None)]
        path: Path = ()
        while waiting:
            inside = waiting[-1]
            if inside.left == 0:
                waiting.pop()
                continue
            inside.left -= 1
            if len(waiting) > 1:
                path = (*inside.path, self._key(inside))
            taken += 1 if inside.keys is None else 2
            if taken > most:
                raise DamageError(f"has {over('msgpack_items')} keys and values")
            item = self._items.take()
            if item.kind not in ("list", "map"):
                yield path, item
                continue
            if len(waiting) > LIMITS.msgpack_depth:
                raise DamageError(f"is nested {over('msgpack_depth')} maps and lists deep")
            waiting.append(_Open(path, int(item.value or 0), set() if item.kind == "map" else None))

    def _key(self, inside: _Open) -> str:
        if inside.keys is None:
            inside.length += 1
            return str(inside.length - 1)
        item = self._items.take()
        if item.kind in ("text", "bytes"):
            key = self._items.text(item)
        elif item.kind in ("integer", "bool"):
            key = str(item.value)
        else:
            raise DamageError(f"has a key that is no text before byte {self._items.position:,}: {item.kind}")
        if key in inside.keys:
            raise DamageError(f"has the key {quoted('.'.join((*inside.path, key)))} twice")
        inside.keys.add(key)
        return key
