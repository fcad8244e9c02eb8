"""The members of a tar archive, in place: nothing is extracted, and what a header claims is checked against the file.

Format: POSIX.1-2001, `pax`; the standard library's `tarfile` reads each header, within bounds.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from weightstats.errors import CheckpointError, quoted
from weightstats.places import File

_BLOCK = 512
_MOST_MEMBERS = 64
"""With the attributes that archives may have in front of each; torch wrote four."""

_WITHOUT_DATA = frozenset(
    (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
)
"""Types of member behind whose header comes the next one, whatever size it claims."""

_MOST_ATTRIBUTES = 1 << 16
"""Bytes of such attributes: mostly the time of a file."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the archive."""

    name: str
    start: int
    """Of its data in the file."""

    size: int
    is_file: bool
    """Whether it is a plain file, and no link, device, folder or file with holes."""


def tar_members(file: File) -> Iterator[Member]:
    """The members of the archive, in order. CheckpointError where a header does not hold, or there are very many."""
    offset = 0
    attributes: dict[str, str] = {}
    for _ in range(_MOST_MEMBERS):
        if offset + _BLOCK > file.size:
            return
        header = file.read(offset, _BLOCK)
        if not header.strip(b"\0"):
            return
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            _refuse(file, "is a damaged tar archive: a header does not hold", error)
        size = 0 if info.type in _WITHOUT_DATA else _size(file, attributes, info.size)
        if not 0 <= size <= file.size - offset - _BLOCK:
            _refuse(file, f"is truncated or damaged: its member {quoted(info.name)} claims {size:,} bytes")
        start = offset + _BLOCK
        offset = start + -(-size // _BLOCK) * _BLOCK
        if info.type == tarfile.XHDTYPE:
            if size > _MOST_ATTRIBUTES:
                _refuse(file, f"has {size:,} bytes of attributes in front of a member, more than {_MOST_ATTRIBUTES:,}")
            attributes = dict(_attributes(file, file.read(start, size)))
            continue
        if info.type == tarfile.XGLTYPE:
            _refuse(file, "is a tar archive with attributes for all members, which is not read")
        name = attributes.get("path", info.name)
        is_file = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not any("sparse" in key for key in attributes)
        attributes = {}
        yield Member(name, start, size, is_file)
    _refuse(file, f"is a tar archive of more than {_MOST_MEMBERS} members: no checkpoint")


def _size(file: File, attributes: dict[str, str], size: int) -> int:
    """The size that the attributes of a member give it, or else its header's."""
    if "size" not in attributes:
        return size
    text = attributes["size"]
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        _refuse(file, f"is a damaged tar archive: a member has the size {quoted(text)}")
    return int(text)


def _attributes(file: File, text: bytes) -> Iterator[tuple[str, str]]:
    """`length key=value` in lines, as POSIX.1-2001 has it."""
    while text:
        length, _, _ = text[:20].partition(b" ")
        end = int(length) if length.isdigit() else 0
        key, equals, value = text[len(length) + 1 : end].partition(b"=")
        if not equals or end > len(text) or not value.endswith(b"\n"):
            _refuse(file, "is a damaged tar archive: the attributes of a member are malformed")
        yield key.decode("utf-8", "replace"), value[:-1].decode("utf-8", "replace")
        text = text[end:]


def _refuse(file: File, problem: str, cause: Exception | None = None) -> NoReturn:
    raise CheckpointError(file.location, problem) from cause
