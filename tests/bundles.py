"""TensorFlow checkpoints made byte by byte, so that a test can break exactly one rule."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from weightstats.containers.sstable import MAGIC, crc32c, masked


def varint(value: int) -> bytes:
    """A variable-length integer; a negative one as the 64-bit number that protobuf makes of it."""
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def number(field: int, value: int) -> bytes:
    """A protobuf field with a number."""
    return varint(field << 3) + varint(value)


def message(field: int, content: bytes) -> bytes:
    """A protobuf field with bytes."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def block(entries: Iterable[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """One block of a table, no key shortened, with its trailer."""
    content = b"".join(
        varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in entries
    ) + struct.pack("<II", 0, 1)
    return trailed(content, kind)


def trailed(content: bytes, kind: int = 0) -> bytes:
    """A block's content with how it is compressed and its checksum."""
    return content + bytes([kind]) + struct.pack("<I", masked(crc32c(content + bytes([kind]))))


def table(blocks: Sequence[bytes], handles: Sequence[tuple[int, int]] | None = None) -> bytes:
    """A table of blocks; `handles` are the (start, size) of each that its index gives, the true ones by default."""
    places, start = [], 0
    for each in blocks:
        places.append((start, len(each) - 5))
        start += len(each)
    index = block([(b"z" * (n + 1), varint(a) + varint(b)) for n, (a, b) in enumerate(handles or places)])
    meta = block([])
    body = b"".join(blocks) + meta + index
    footer = varint(start) + varint(len(meta) - 5) + varint(start + len(meta)) + varint(len(index) - 5)
    return body + footer.ljust(40, b"\0") + MAGIC


HEADER = number(1, 1) + message(3, number(1, 1))
"""Of one data file, little-endian."""


@dataclass(frozen=True)
class Row:
    """What the table says of a tensor."""

    shape: Sequence[int] = (2,)
    offset: int = 0
    size: int = 8
    dtype: int = 1
    shard: int = 0
    more: bytes = b""

    def encoded(self) -> bytes:
        shape = b"".join(message(2, number(1, size)) for size in self.shape)
        numbers = number(1, self.dtype) + message(2, shape) + number(3, self.shard) + number(4, self.offset)
        return numbers + number(5, self.size) + self.more


def index(rows: Mapping[str | bytes, Row], header: bytes = HEADER) -> bytes:
    """The index of a checkpoint."""
    pairs = [(key.encode() if isinstance(key, str) else key, row.encoded()) for key, row in rows.items()]
    return table([block([(b"", header), *sorted(pairs)])])


def checkpoint(folder: Path, rows: Mapping[str | bytes, Row], data: bytes, header: bytes = HEADER) -> Path:
    """The index of a checkpoint of one data file, in a folder."""
    (folder / "model.data-00000-of-00001").write_bytes(data)
    path = folder / "model.index"
    path.write_bytes(index(rows, header))
    return path
