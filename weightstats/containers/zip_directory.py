"""The directory of a zip archive, read strictly: an archive in which two readers could see different things is refused.

Format: APPNOTE 6.3.10, sections 4.3 and 4.5, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT. The standard
library's zipfile takes one of several ends, skips what stands before the archive or behind it, does not count the
entries, and needs a second for 200,000 of them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn
from weakref import WeakKeyDictionary

from weightstats.errors import CheckpointError, quoted
from weightstats.limits import LIMITS, over
from weightstats.places import File

LOCAL_HEADER = b"PK\x03\x04"
_END = b"PK\x05\x06"
SIGNATURES = (LOCAL_HEADER, _END)
"""With which an archive starts: an entry's local header, or the end of the directory where there is no entry."""

HEADER_BYTES = 30
UTF_8 = 0x800
LARGE = 0xFFFFFFFF
"""Stands for a number that is in the entry's extra field, with 64 bits."""

_END_RECORD = struct.Struct("<4s4H2LH")
_END_64_RECORD = struct.Struct("<4sQ2H2L4Q")
_END_64_PLACE = struct.Struct("<4sLQL")
_RECORD = struct.Struct("<4s6H3L5H2L")
_LONGEST_COMMENT = 0xFFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """What the directory says of an entry; sizes and method have the names that zipfile gives them."""

    name: str
    raw_name: bytes
    header_offset: int
    flags: int
    compress_type: int
    checksum: int
    compress_size: int
    file_size: int


@dataclass(frozen=True, slots=True)
class Directory:
    """All that the directory of an archive says."""

    entries: dict[str, Entry]
    """By name, in the order of the directory."""

    ends: dict[int, int]
    """Where the next entry starts, or the directory, by the offset of each entry's header."""

    overlapping: frozenset[str]
    """Names of entries that claim bytes which another one claims too."""


@dataclass(frozen=True, slots=True)
class _End:
    """Where the directory is, and how many entries it has."""

    entries: int
    start: int
    size: int


_known: WeakKeyDictionary[File, Directory | str] = WeakKeyDictionary()
"""The directory of an archive that is in use, or what is wrong with it: several formats look into it."""


def directory_of(file: File) -> Directory:
    """The entries of a zip archive.

    CheckpointError where the archive is damaged, where it does not fill the file, and where two entries share a name.
    """
    found = _known.get(file)
    if found is None:
        try:
            found = _directory(file)
        except CheckpointError as error:
            found = error.problem
        _known[file] = found
    if isinstance(found, str):
        raise CheckpointError(file.location, found)
    return found


def ends_like_an_archive(file: File) -> bool:
    """Whether a file of another format is, for a program that starts at its end, a zip archive as well."""
    size = min(file.size, _END_RECORD.size + _LONGEST_COMMENT)
    tail = file.read(file.size - size, size)
    return any(_reach(tail, at) == len(tail) for at in _ends_in(tail))


def _directory(file: File) -> Directory:
    end = _end(file)
    entries: dict[str, Entry] = {}
    for entry in _listed(file, end):
        if entry.name in entries:
            _refuse(file, f"has two zip entries named {quoted(entry.name)}")
        entries[entry.name] = entry
    in_place = sorted(entries.values(), key=lambda entry: entry.header_offset)
    starts = [entry.header_offset for entry in in_place]
    if starts and starts[0]:
        _refuse(file, f"starts with {starts[0]:,} bytes that belong to none of its zip entries")
    ends = dict(pairwise((*starts, end.start)))
    return Directory(entries, ends, frozenset(_overlapping(in_place)))


def _listed(file: File, end: _End) -> Iterator[Entry]:
    """What the records of the directory say."""
    directory = file.read(end.start, end.size)
    position = 0
    for _ in range(end.entries):
        if position + _RECORD.size > end.size:
            _refuse(file, "is a damaged zip archive: its directory has fewer entries than it says")
        fields = _RECORD.unpack_from(directory, position)
        signature, _, _, flags, method, _, _, checksum, compressed, size = fields[:10]
        name_length, extra_length, comment_length, disk, _, _, offset = fields[10:]
        begin = position + _RECORD.size
        position = begin + name_length + extra_length + comment_length
        if signature != b"PK\x01\x02" or position > end.size:
            _refuse(file, "is a damaged zip archive: its directory is not made of entries")
        if LARGE in (compressed, size, offset):
            extra = directory[begin + name_length : begin + name_length + extra_length]
            numbers = large_numbers(extra, (size, compressed, offset))
            if numbers is None:
                _refuse(file, "is a damaged zip archive: a size of more than 4 GB is missing in its directory")
            size, compressed, offset = numbers
        if disk not in (0, 0xFFFF):
            _refuse(file, "is one of several parts of a zip archive")
        raw = directory[begin : begin + name_length]
        name = raw.decode("utf-8" if flags & UTF_8 else "cp437", "backslashreplace")
        yield Entry(name, raw, offset, flags, method, checksum, compressed, size)
    if position != end.size:
        _refuse(file, "is a damaged zip archive: its directory has more entries than it says")


def large_numbers(extra: bytes, numbers: tuple[int, ...]) -> list[int] | None:
    """The numbers, those that are LARGE out of an extra field; None where they are not in it, or in it twice."""
    blocks = []
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            blocks.append(extra[position + 4 : position + 4 + length])
        position += 4 + length
    missing = sum(number == LARGE for number in numbers)
    if len(blocks) != 1 or len(blocks[0]) < 8 * missing:
        return None
    given = iter(struct.unpack_from(f"<{missing}Q", blocks[0]))
    return [next(given) if number == LARGE else number for number in numbers]


def _overlapping(in_place: list[Entry]) -> set[str]:
    """See Directory."""
    found: set[str] = set()
    reach, last = 0, ""
    for entry in in_place:
        if entry.header_offset < reach:
            found |= {last, entry.name}
        end = entry.header_offset + HEADER_BYTES + len(entry.raw_name) + entry.compress_size
        if end > reach:
            reach, last = end, entry.name
    return found


def _end(file: File) -> _End:
    """The record with which an archive ends, and its larger form before it."""
    tail_start = max(0, file.size - _END_RECORD.size - _LONGEST_COMMENT)
    tail = file.read(tail_start, file.size - tail_start)
    at = _only_end(file, tail)
    _, disk, its_disk, here, entries, size, start, _ = _END_RECORD.unpack_from(tail, at)
    position = tail_start + at
    large = _large_end(file, position)
    if large is not None:
        position, numbers = large
        for small, most, number in zip((disk, its_disk, here, entries, size, start), _ALL_ONES, numbers, strict=True):
            if small not in (most, number):
                _refuse(file, "is a damaged zip archive: it has two ends that contradict each other")
        disk, its_disk, here, entries, size, start = numbers
    if disk or its_disk or here != entries:
        _refuse(file, "is one of several parts of a zip archive")
    if entries > LIMITS.zip_entries:
        _refuse(file, f"has {entries:,} zip entries, {over('zip_entries')}")
    if size > LIMITS.zip_directory_bytes:
        _refuse(file, f"has a zip directory of {size:,} bytes, {over('zip_directory_bytes')}")
    if start + size != position:
        _refuse(file, "is a damaged zip archive: its directory does not lie where its end says")
    return _End(entries, start, size)


_ALL_ONES = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, LARGE, LARGE)


def _only_end(file: File, tail: bytes) -> int:
    """Where in the last bytes of a file the end record is. CheckpointError where there is none, or could be two."""
    ends = _ends_in(tail)
    if not ends or ends[-1] + _END_RECORD.size > len(tail):
        _refuse(file, "is a damaged zip archive, probably a truncated download: its directory is missing")
    fitting = [at for at in ends if _reach(tail, at) == len(tail)]
    if fitting == ends[-1:]:
        return ends[-1]
    if fitting:
        _refuse(file, "is a zip archive with two ends: which of them counts cannot be known")
    beyond = len(tail) - _reach(tail, ends[-1])
    if beyond > 0:
        _refuse(file, f"goes on for {beyond:,} bytes after its zip archive")
    return _refuse(file, "is a damaged zip archive, probably a truncated download: its end is missing")


def _ends_in(tail: bytes) -> list[int]:
    ends = []
    at = tail.find(_END)
    while at >= 0:
        ends.append(at)
        at = tail.find(_END, at + 1)
    return ends


def _reach(tail: bytes, at: int) -> int:
    """Where an end record and its comment end."""
    whole = at + _END_RECORD.size
    return whole + int.from_bytes(tail[whole - 2 : whole], "little")


def _large_end(file: File, position: int) -> tuple[int, tuple[int, ...]] | None:
    """Where the 64-bit end record is, and its six numbers, where there is one before the other."""
    begin = position - _END_64_PLACE.size
    if begin < 0 or file.read(begin, 4) != b"PK\x06\x07":
        return None
    _, disk, start, disks = _END_64_PLACE.unpack(file.read(begin, _END_64_PLACE.size))
    if start + _END_64_RECORD.size > begin:
        _refuse(file, "is a damaged zip archive: its end points at something else")
    signature, size, _, _, *numbers = _END_64_RECORD.unpack(file.read(start, _END_64_RECORD.size))
    if signature != b"PK\x06\x06" or start + 12 + size != begin or disk or disks > 1:
        _refuse(file, "is a damaged zip archive: its end points at something else")
    return start, tuple(numbers)


def _refuse(file: File, problem: str) -> NoReturn:
    raise CheckpointError(file.location, problem)
