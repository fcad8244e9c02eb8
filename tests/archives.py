"""Zip archives made record by record, so that a test can break exactly one rule of theirs."""

import struct
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from makers import Stored, floats, pickled, view

STORED, DEFLATED = 0, 8
BEHIND = 0x8
"""Flag of an entry whose sizes and checksum follow its bytes."""

PICKLE, FIRST, SECOND = "archive/data.pkl", "archive/data/0", "archive/data/1"


@dataclass(frozen=True)
class Part:
    """One entry; `local` and `central` replace numbers of its two headers, by the names in `_numbers`."""

    name: str
    content: bytes = b""
    method: int = STORED
    flags: int = 0
    local: dict[str, int] = field(default_factory=dict)
    central: dict[str, int] = field(default_factory=dict)
    local_name: bytes | None = None
    local_extra: bytes = b""
    central_extra: bytes = b""
    stored: bytes | None = None
    """What stands in the archive, where that is not what the method makes of the content."""

    behind: bytes | None = None
    """What follows the bytes; by default what the flags promise."""

    mode: int = 0
    """File mode and type, as Unix has them."""

    @property
    def held(self) -> bytes:
        if self.stored is not None:
            return self.stored
        return deflated(self.content) if self.method == DEFLATED else self.content

    @property
    def raw_name(self) -> bytes:
        return self.name.encode("utf-8" if self.flags & 0x800 else "cp437")

    def both(self, **numbers: int) -> "Part":
        """The same entry with numbers replaced in both headers."""
        return replace(self, local=self.local | numbers, central=self.central | numbers)

    def _numbers(self, changes: dict[str, int], extra: bytes) -> dict[str, int]:
        sizes = {"compressed": len(self.held), "size": len(self.content)}
        lengths = {"name_length": len(self.raw_name), "extra_length": len(extra)}
        kind = {"flags": self.flags, "method": self.method, "checksum": zlib.crc32(self.content)}
        return kind | sizes | lengths | {"signature": 0x04034B50, "disk": 0} | changes

    def written(self) -> bytes:
        """The local header, the bytes and what follows them."""
        left_out = {"checksum": 0, "compressed": 0, "size": 0} if self.flags & BEHIND else {}
        n = self._numbers(left_out | self.local, self.local_extra)
        header = struct.pack("<L5H3L2H", n["signature"], 20, n["flags"], n["method"], 0, 0, *_sizes(n), *_lengths(n))
        name = self.raw_name if self.local_name is None else self.local_name
        behind = self.behind
        if behind is None:
            described = struct.pack("<3L", *_sizes(self._numbers({}, b"")))
            behind = b"PK\x07\x08" + described if self.flags & BEHIND else b""
        return header + name + self.local_extra + self.held + behind

    def listed(self, offset: int) -> bytes:
        """The record in the directory."""
        n = {"offset": offset} | self._numbers({"signature": 0x02014B50} | self.central, self.central_extra)
        head = struct.pack("<L6H3L2H", n["signature"], 20, 20, n["flags"], n["method"], 0, 0, *_sizes(n), *_lengths(n))
        rest = struct.pack("<3H2L", 0, n["disk"], 0, self.mode << 16, n["offset"])
        return head + rest + self.raw_name + self.central_extra


def _sizes(numbers: dict[str, int]) -> tuple[int, int, int]:
    return numbers["checksum"], numbers["compressed"], numbers["size"]


def _lengths(numbers: dict[str, int]) -> tuple[int, int]:
    return numbers["name_length"], numbers["extra_length"]


def archive(
    parts: list[Part],
    *,
    before: bytes = b"",
    behind: bytes = b"",
    comment: bytes = b"",
    gap: bytes = b"",
    large: dict[str, int] | None = None,
    **end: int,
) -> bytes:
    """A whole archive. `end` replaces numbers of the end record (disk, its_disk, here, entries, size, start, comment),
    `large` of the 64-bit one, which is written where it is given; `gap` stands before the directory."""
    body, directory = before, b""
    for part in parts:
        directory += part.listed(len(body))
        body += part.written()
    body += gap
    numbers = {"disk": 0, "its_disk": 0, "here": len(parts), "entries": len(parts)}
    numbers |= {"size": len(directory), "start": len(body)}
    written = body + directory
    if large is not None:
        place = {"at": len(written), "disks": 1, "length": 44} | numbers | large
        record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", place["length"], 45, 45, *(place[name] for name in numbers))
        written += record + struct.pack("<4sLQL", b"PK\6\7", 0, place["at"], place["disks"])
    fields = numbers | {"comment": len(comment)} | end
    return written + struct.pack("<4s4H2LH", b"PK\5\6", *fields.values()) + comment + behind


def torch_parts(**changes: Part) -> list[Part]:
    """A torch file with a = [1, 2, 3, 4] and b = [9], its entries `pickle`, `first`, `second` and `version`."""
    thing = {"a": view(Stored("0", 4), [4]), "b": view(Stored("1", 1), [1])}
    parts = {
        "pickle": Part(PICKLE, pickled(thing)),
        "first": Part(FIRST, floats(1, 2, 3, 4)),
        "second": Part(SECOND, floats(9)),
        "version": Part("archive/version", b"3\n"),
    }
    return list((parts | changes).values())


def deflated(content: bytes) -> bytes:
    """The bare stream that a zip archive holds."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(content) + deflater.flush()


def deflated_zeros(megabytes: int) -> bytes:
    """So many MiB of zeros, compressed a thousandfold: one block that is repeated."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = deflater.compress(bytes(1 << 20)) + deflater.flush(zlib.Z_FULL_FLUSH)
    return block * megabytes + deflated(b"")


def empty_entries(path: Path, count: int, parts: list[Part]) -> None:
    """An archive of the parts and of so many empty entries beside them, written quickly."""
    local = np.zeros(count, [("head", "V30"), ("name", "S14")])
    central = np.zeros(count, [("head", "V42"), ("offset", "<u4"), ("name", "S14")])
    names = np.char.mod(b"archive/%06x", np.arange(count))
    local["name"] = central["name"] = names
    local["head"] = np.void(struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 14, 0))
    central["head"] = np.void(struct.pack("<4s6H3L5HL", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 14, 0, 0, 0, 0, 0))
    begin = b"".join(part.written() for part in parts)
    offsets = np.cumsum([0, *(len(part.written()) for part in parts)])
    listed = b"".join(part.listed(int(offset)) for part, offset in zip(parts, offsets, strict=False))
    central["offset"] = len(begin) + local.itemsize * np.arange(count)
    body, directory = begin + local.tobytes(), listed + central.tobytes()
    total = count + len(parts)
    numbers = (0, 0, total, total, len(directory), len(body))
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, *numbers)
    place = struct.pack("<4sLQL", b"PK\6\7", 0, len(body) + len(directory), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(body + directory + record + place + end)
