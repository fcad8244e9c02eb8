"""What a GGUF file says before its data: some of its metadata, and where each tensor lies.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; what it leaves open is as ggml's own reader
(src/gguf.cpp) has it. Metadata is skipped by its sizes, but for the few keys that tell how to read the tensors.
"""

import struct
from dataclasses import dataclass
from typing import NoReturn

from weightstats.dtypes import ByteOrder
from weightstats.errors import CheckpointError, quoted
from weightstats.limits import LIMITS, over
from weightstats.places import File

MAGIC = b"GGUF"
VERSIONS = (2, 3)
"""ggml refuses version 1, of August 2023, and so does every program that is built on it."""

LONGEST_NAME = 65_535
"""Bytes: the format's limit on a key, here on a tensor's name as well."""

LONGEST_TEXT = 4_096
"""Bytes of a metadata text that is kept."""

ALIGNMENT = 32
"""Bytes, where the file names no other."""

MOST_ALIGNMENT = 1 << 20

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
"""The types of metadata of one size, as `struct` calls them."""

UINT32, TEXT, ARRAY = 4, 8, 9
INTEGERS = (0, 1, 2, 3, 4, 5, 10, 11)

KEPT = (
    *("general.alignment", "general.type", "general.architecture", "split.no", "split.count", "split.tensors.count"),
)

SIZES = ("attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
         "embedding_length", "feed_forward_length", "expert_feed_forward_length")  # fmt: skip
"""Keys behind the name of the architecture that tell what a fused matrix holds; a list, one number a layer, is left."""

MOST_SIZES = 64
"""Keys of sizes that are kept: of one architecture there are fewer."""

_STEP = 1 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor, as the header has it."""

    name: str
    sizes: tuple[int, ...]
    """Elements along each dimension, the one whose elements are neighbours first."""

    type_number: int
    offset: int
    """Bytes from the start of the data."""


@dataclass(frozen=True, slots=True)
class Header:
    """A GGUF file without its data."""

    order: ByteOrder
    alignment: int
    entries: tuple[Entry, ...]
    end: int
    """Where the last entry ends; what follows up to the data is padding."""

    data_start: int
    metadata: dict[str, int | str]
    """Of the keys in KEPT and SIZES: whole numbers and texts; what has another type is left out."""


def read_header(file: File) -> Header:
    """The header of a file that begins with MAGIC. CheckpointError where it breaks the format."""
    walk = _Walk(file)
    walk.skip(len(MAGIC))
    version = walk.number("I")
    if version & 0xFFFF == 0:  # ggml's own sign of the other byte order
        walk.prefix = ">"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version not in VERSIONS:
        known = " and ".join(map(str, VERSIONS))
        walk.refuse(f"is a GGUF file of version {version:,}; versions {known} can be read")
    tensors, pairs = walk.number("Q"), walk.number("Q")
    if tensors > LIMITS.tensors:
        walk.refuse(f"claims {tensors:,} tensors, {over('tensors')}")
    if pairs > LIMITS.gguf_pairs:
        walk.refuse(f"claims {pairs:,} metadata keys, {over('gguf_pairs')}")
    metadata = _metadata(walk, pairs)
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= MOST_ALIGNMENT or alignment & (alignment - 1):
        walk.refuse(f"its general.alignment is {quoted(alignment)}, not a power of two up to {MOST_ALIGNMENT:,}")
    entries = _entries(walk, tensors)
    data_start = -(-walk.position // alignment) * alignment
    return Header("big" if walk.prefix == ">" else "little", alignment, entries, walk.position, data_start, metadata)


class _Walk:
    """A position in the header that only moves forwards, and never beyond the end of the file."""

    def __init__(self, file: File) -> None:
        self.file, self.position, self.prefix = file, 0, "<"
        self.texts = 0
        self._start, self._chunk = 0, b""

    def refuse(self, problem: str) -> NoReturn:
        raise CheckpointError(self.file.location, problem)

    def numbers(self, codes: str) -> tuple[int, ...]:
        """The next numbers, of struct's types `codes`; whole ones, as no others are asked for."""
        codes = self.prefix + codes
        offset = self._take(struct.calcsize(codes))
        return struct.unpack_from(codes, self._chunk, offset)

    def number(self, code: str) -> int:
        """The next number."""
        return self.numbers(code)[0]

    def text(self, what: str, longest: int) -> bytes:
        """The next text."""
        length = self.number("Q")
        if length > longest:
            self.refuse(f"{what} claims {length:,} bytes, more than {longest:,}")
        offset = self._take(length)
        return self._chunk[offset : offset + length]

    def skip(self, length: int) -> None:
        """Go on without reading."""
        self._check(length)
        self.position += length

    def skip_texts(self, count: int) -> None:
        """Go on behind so many texts."""
        self.texts += count
        if self.texts > LIMITS.gguf_texts:
            self.refuse(f"its metadata claims {self.texts:,} texts in lists, {over('gguf_texts')}")
        length_of = struct.Struct(f"{self.prefix}Q").unpack_from
        size, position, start, chunk = self.file.size, self.position, self._start, self._chunk
        for _ in range(count):
            if position + 8 > start + len(chunk):
                self._check(position + 8 - self.position)
                start, chunk = position, self.file.read(position, min(_STEP, size - position))
            position += 8 + length_of(chunk, position - start)[0]
        self._check(position - self.position)
        self.position, self._start, self._chunk = position, start, chunk

    def _check(self, length: int) -> None:
        if length > self.file.size - self.position:
            end = self.position + length
            self.refuse(f"is truncated: its header claims {end:,} bytes, the file has {self.file.size:,}")

    def _take(self, length: int) -> int:
        """Where in the chunk the next bytes are."""
        offset = self.position - self._start
        if offset + length > len(self._chunk):
            self._check(length)
            left = self.file.size - self.position
            self._start, self._chunk = self.position, self.file.read(self.position, min(max(_STEP, length), left))
            offset = 0
        self.position += length
        return offset


def _metadata(walk: _Walk, count: int) -> dict[str, int | str]:
    """The metadata that is kept, once each key has been seen to be there once."""
    kept: dict[str, int | str] = {}
    seen: set[bytes] = set()
    for _ in range(count):
        key = walk.text("a metadata key", LONGEST_NAME)
        if not key or key in seen:
            walk.refuse(
                f"has the metadata key {quoted(key.decode(errors='replace'))} twice"
                if key
                else "has a metadata key without a name"
            )
        seen.add(key)
        name = key.decode(errors="replace")
        type_ = walk.number("I")
        is_size = name.partition(".")[2] in SIZES and type_ in INTEGERS and len(kept) < MOST_SIZES
        if name not in KEPT and not is_size:
            _skip(walk, name, type_)
        elif name == "general.alignment" and type_ != UINT32:
            walk.refuse(f"its general.alignment has the metadata type {type_}, not an unsigned 32-bit integer")
        elif type_ in INTEGERS:
            kept[name] = walk.number(SCALARS[type_])
        elif type_ == TEXT:
            kept[name] = walk.text(f"its {name}", LONGEST_TEXT).decode(errors="replace")
        else:
            _skip(walk, name, type_)
    return kept


def _skip(walk: _Walk, name: str, type_: int) -> None:
    """Go on behind a value of metadata."""
    count = 1
    if type_ == ARRAY:  # of arrays there is none: ggml refuses a list of lists
        type_, count = walk.number("I"), walk.number("Q")
    if type_ in SCALARS:
        walk.skip(count * struct.calcsize(SCALARS[type_]))
    elif type_ == TEXT and count == 1:
        walk.skip(walk.number("Q"))
    elif type_ == TEXT:
        walk.skip_texts(count)
    else:
        walk.refuse(f"its metadata key {quoted(name)} has the type {type_:,}, which is not one of the format's")


def _entries(walk: _Walk, count: int) -> tuple[Entry, ...]:
    """The tensors, in the order of the header; no two of one name, none without elements."""
    entries: dict[str, Entry] = {}
    most = LIMITS.rank
    for _ in range(count):
        text = walk.text("a tensor's name", LONGEST_NAME)
        try:
            name = text.decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(
                walk.file.location, f"has a tensor whose name is not UTF-8: {quoted(text)}"
            ) from error
        if name in entries:
            walk.refuse(f"has two tensors named {quoted(name)}")
        rank = walk.number("I")
        if rank > most:
            walk.refuse(f"its tensor {quoted(name)} has {rank:,} dimensions, {over('rank')}")
        *sizes, type_, offset = walk.numbers(f"{rank}QIQ")
        if 0 in sizes:
            walk.refuse(f"its tensor {quoted(name)} has a dimension of 0: {quoted(sizes)}")
        entries[name] = Entry(name, tuple(sizes), type_, offset)
    return tuple(entries.values())
