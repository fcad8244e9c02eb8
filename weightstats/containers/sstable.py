"""Sorted string tables: LevelDB's files of keys and values in order, which TensorFlow's checkpoint index is.

Format: https://github.com/google/leveldb/blob/main/doc/table_format.md and the block format in table/block_builder.cc.
Every block's checksum is tested, for a table says where the bytes of tensors lie.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weightstats.errors import CheckpointError
from weightstats.limits import LIMITS, over
from weightstats.places import File

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER_BYTES = 48

_TRAILER_BYTES = 5
"""After a block: how it is compressed, and its checksum."""

_MASK_DELTA = 0xA282EAD8
"""Added to a rotated CRC-32C: LevelDB masks a checksum of data that may hold checksums."""

_LANE_BYTES = 64
_POLYNOMIAL = 0x82F63B78


@dataclass(frozen=True, slots=True)
class Entry:
    """A key, and where its value lies in the file."""

    key: bytes
    start: int
    size: int


def is_table(file: File) -> bool:
    """Whether the last bytes of a file are a table's."""
    return file.size >= FOOTER_BYTES and file.read(file.size - len(MAGIC), len(MAGIC)) == MAGIC


def entries(file: File) -> Iterator[Entry]:
    """What the table holds, in ascending order of its keys; CheckpointError where it breaks the format."""
    if not is_table(file):
        raise CheckpointError(file.location, "is truncated: it does not end as a sorted table does")
    end = file.size - FOOTER_BYTES
    if end > LIMITS.index_bytes:
        raise CheckpointError(file.location, f"is a table of {end:,} bytes, {over('index_bytes')}")
    footer = _Numbers(file, file.read(end, FOOTER_BYTES - len(MAGIC)))
    footer.next(), footer.next()  # where the blocks about blocks lie, of which there are none
    index = (footer.next(), footer.next())
    last, done, spent = None, 0, 0
    for handle in _block(file, *index, end):
        numbers = _Numbers(file, file.read(handle.start, handle.size))
        start, size = numbers.next(), numbers.next()
        if start < done:
            raise CheckpointError(file.location, "its blocks overlap")
        done = start + size
        for entry in _block(file, start, size, end):
            if last is not None and entry.key <= last:
                raise CheckpointError(file.location, "its keys are not in ascending order, or one is there twice")
            last, spent = entry.key, spent + len(entry.key)
            if spent > LIMITS.text_bytes:
                raise CheckpointError(file.location, f"has {spent:,} bytes of keys, {over('text_bytes')}")
            yield entry


def _block(file: File, start: int, size: int, end: int) -> Iterator[Entry]:
    """The entries of one block: each key says how much of its start is that of the key before it."""
    if start + size + _TRAILER_BYTES > end:
        raise CheckpointError(file.location, f"has a block that ends at byte {start + size:,} of {end:,}")
    block = file.read(start, size + _TRAILER_BYTES)
    if int.from_bytes(block[-4:], "little") != masked(crc32c(block[:-4])):
        raise CheckpointError(file.location, f"the checksum of its block at byte {start:,} is wrong: it is damaged")
    if block[size] != 0:
        kind = "with Snappy" if block[size] == 1 else "in an unknown way"
        raise CheckpointError(file.location, f"its blocks are compressed {kind}, which is not read")
    restarts = int.from_bytes(block[size - 4 : size], "little") if size >= 4 else -1
    content = size - 4 - 4 * restarts
    if restarts < 0 or content < 0:
        raise CheckpointError(file.location, f"its block at byte {start:,} is malformed")
    numbers, key = _Numbers(file, block[:content]), b""
    while numbers.position < content:
        shared, own, length = numbers.next(), numbers.next(), numbers.next()
        value = numbers.position + own
        if shared > len(key) or value + length > content:
            raise CheckpointError(file.location, f"its block at byte {start:,} is malformed")
        key = key[:shared] + block[numbers.position : value]
        numbers.position = value + length
        yield Entry(key, start + value, length)


class _Numbers:
    """Variable-length integers, one after the other."""

    def __init__(self, file: File, content: bytes) -> None:
        self.file, self.content, self.position = file, content, 0

    def next(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            if self.position >= len(self.content):
                break
            byte = self.content[self.position]
            self.position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise CheckpointError(self.file.location, "has a malformed number in its table")


def masked(checksum: int) -> int:
    """A checksum as LevelDB and TensorFlow store it."""
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF


def crc32c(content: bytes) -> int:
    """The CRC-32C (Castagnoli) of some bytes: of short runs side by side, each then carried over those after it."""
    state, first = 0xFFFFFFFF, len(content) % _LANE_BYTES
    for byte in content[:first]:
        state = _TABLE_LIST[(state ^ byte) & 0xFF] ^ state >> 8
    lanes = np.frombuffer(content, np.uint8, offset=first).reshape(-1, _LANE_BYTES)
    for lane in _over(np.zeros(len(lanes), np.uint32), lanes).tolist():
        carried = _CARRY[0][state & 0xFF] ^ _CARRY[1][state >> 8 & 0xFF] ^ _CARRY[2][state >> 16 & 0xFF]
        state = carried ^ _CARRY[3][state >> 24] ^ lane
    return state ^ 0xFFFFFFFF


def _table() -> NDArray[np.uint32]:
    """The states after one byte each, from nothing."""
    states = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        states = np.where(states & 1, states >> 1 ^ _POLYNOMIAL, states >> 1).astype(np.uint32)
    return states


def _over(states: NDArray[np.uint32], lanes: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The states after one lane of bytes each."""
    for column in lanes.T:
        states = _TABLE[(states ^ column) & 0xFF] ^ states >> 8
    return states


_TABLE = _table()
_TABLE_LIST: list[int] = _TABLE.tolist()
_CARRY: list[list[int]] = [
    _over(np.arange(256, dtype=np.uint32) << np.uint32(8 * byte), np.zeros((256, _LANE_BYTES), np.uint8)).tolist()
    for byte in range(4)
]
"""What each byte of a state becomes over a lane of zeros."""
