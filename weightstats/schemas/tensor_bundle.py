"""TensorFlow's tensor bundle: the table of a checkpoint that says where in which data file each tensor lies.

Messages: tensorflow/core/protobuf/tensor_bundle.proto, tensor_shape.proto and tensor_slice.proto; their fields are
numbered here as they stand there. Keys of pieces: tensorflow/core/util/saved_tensor_slice_util.cc.
"""

import re
from dataclasses import dataclass, field

from weightstats.containers.protobuf import BYTES, DamageError, Field
from weightstats.containers.small_messages import Message, Steps
from weightstats.containers.sstable import Entry, entries
from weightstats.dtypes import ByteOrder
from weightstats.errors import CheckpointError
from weightstats.limits import crowded
from weightstats.pieces import Box
from weightstats.places import File

DTYPE_NAMES: dict[int, str] = {
    1: "F32", 2: "F64", 3: "I32", 4: "U8", 5: "I16", 6: "I8", 8: "C64", 9: "I64", 10: "BOOL", 14: "BF16", 17: "U16",
    18: "C128", 19: "F16", 22: "U32", 23: "U64", 24: "F8_E5M2", 25: "F8_E4M3", 26: "F8_E4M3FNUZ", 28: "F8_E5M2FNUZ",
}  # fmt: skip
"""DataType in tensorflow/core/framework/types.proto."""

STRING = 7

NOT_NUMBERS = {STRING: "text", 20: "a resource", 21: "a variant"}

READ_VERSION = 1
"""The version of the format that is read; a bundle says which one its reader must know at least."""

_FULL = -1
"""The length in a piece's key along a dimension that is not cut."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece's place in its tensor: where it starts along each dimension and how far it goes, None for all of it."""

    starts: tuple[int, ...]
    lengths: tuple[int | None, ...]

    def box(self, shape: tuple[int, ...]) -> Box:
        """The same of a tensor of that shape; ValueError where it has other dimensions."""
        pairs = zip(self.lengths, shape, strict=True)
        return Box(self.starts, tuple(whole if length is None else length for length, whole in pairs))

    def key(self, name: bytes) -> bytes:
        """Under what the piece is stored."""
        parts = [_number(0), _text(name), _number(len(self.starts))]
        for start, length in zip(self.starts, self.lengths, strict=True):
            parts += [_signed(start), _signed(_FULL if length is None else length)]
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the table says of one tensor."""

    key: bytes
    dtype: int
    shape: tuple[int, ...] | None
    """None where the bundle says that the number of dimensions is not known."""

    shard: int
    offset: int
    size: int
    slices: tuple[Slice, ...]

    @property
    def name(self) -> str:
        """The key as text; bytes that are not UTF-8 become escapes."""
        return self.key.decode("utf-8", "backslashreplace")

    @property
    def is_piece(self) -> bool:
        """Whether it is a part of a tensor that another entry describes."""
        return self.key.startswith(b"\0")


@dataclass(frozen=True, slots=True)
class Bundle:
    """The whole table."""

    shards: int
    """How many data files there are."""

    byte_order: ByteOrder
    tensors: tuple[Stored, ...]
    """In ascending order of their keys."""


def read_bundle(file: File) -> Bundle:
    """The table in an index file; CheckpointError where it is damaged, or of another kind."""
    found, steps = entries(file), Steps()
    header = next(found, None)
    if header is None or header.key:
        raise CheckpointError(file.location, "is a sorted table, but not the index of a TensorFlow checkpoint")
    try:
        shards, byte_order = _header(file, header, steps)
        tensors: list[Stored] = []
        claimed = 0
        for entry in found:
            tensors.append(_stored(file, entry, steps))
            claimed += tensors[-1].size
            if problem := crowded(len(tensors), claimed):
                raise CheckpointError(file.location, problem)
    except DamageError as error:
        raise CheckpointError(file.location, f"an entry of its table {error}") from error
    return Bundle(shards, byte_order, tuple(tensors))


def _header(file: File, entry: Entry, steps: Steps) -> tuple[int, ByteOrder]:
    """How many data files there are, and the order of their bytes."""
    shards = order = wanted = 0
    message = Message(file, entry.start, entry.size, steps)
    for part in message.parts(entry.start, entry.size):
        if part.number == 1 and part.wire == BYTES:
            problem = "is a TensorFlow checkpoint of version 1, with the tensors in its table, which is not read"
            raise CheckpointError(file.location, problem)
        if part.number == 1:
            shards = part.value
        elif part.number == 2:
            order = part.value
        elif part.number == 3 and part.wire == BYTES:
            wanted = next((inner.value for inner in message.inner(part) if inner.number == 2), 0)
    if wanted > READ_VERSION:
        raise CheckpointError(file.location, f"wants a reader of version {wanted:,}, not {READ_VERSION}")
    if shards < 1 or order > 1:
        raise CheckpointError(file.location, "has a header that names no data files or no byte order")
    return shards, "big" if order else "little"


@dataclass(slots=True)
class _Draft:
    numbers: dict[int, int] = field(default_factory=dict)
    shape: list[int] | None = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)


def _stored(file: File, entry: Entry, steps: Steps) -> Stored:
    draft = _Draft()
    message = Message(file, entry.start, entry.size, steps)
    for part in message.parts(entry.start, entry.size):
        if part.wire != BYTES:
            draft.numbers[part.number] = part.signed
        elif part.number == 2:
            draft.shape = read_shape(message, part)
        elif part.number == 7:
            draft.slices.append(_slice(message, part))
    dtype, shard, offset, size = (draft.numbers.get(number, 0) for number in (1, 3, 4, 5))
    shape = None if draft.shape is None else tuple(draft.shape)
    return Stored(entry.key, dtype, shape, shard, offset, size, tuple(draft.slices))


def read_shape(message: Message, shape: Field) -> list[int] | None:
    """The sizes in a TensorShapeProto; None for an unknown number of them."""
    sizes: list[int] = []
    for part in message.inner(shape):
        if part.number == 3 and part.value:
            return None
        if part.number == 2 and part.wire == BYTES:
            sizes.append(next((inner.signed for inner in message.inner(part) if inner.number == 1), 0))
    return sizes


def _slice(message: Message, piece: Field) -> Slice:
    starts: list[int] = []
    lengths: list[int | None] = []
    for extent in message.inner(piece):
        if extent.number == 1 and extent.wire == BYTES:
            values = {part.number: part.signed for part in message.inner(extent)}
            starts.append(values.get(1, 0))
            lengths.append(values.get(2))
    return Slice(tuple(starts), tuple(lengths))


def _number(value: int) -> bytes:
    """An unsigned number in an order-preserving code: how many bytes it has, then those."""
    length = -(-value.bit_length() // 8)
    return bytes([length]) + value.to_bytes(length, "big")


def _text(text: bytes) -> bytes:
    """A text in an order-preserving code, which says itself where it ends."""
    return re.sub(rb"[\0\xff]", lambda match: match[0] + (b"\xff" if match[0] == b"\0" else b"\0"), text) + b"\0\1"


def _signed(value: int) -> bytes:
    """A signed 64-bit number in an order-preserving code, whose first bits say how many bytes it has."""
    length = (~value if value < 0 else value).bit_length() // 7 + 1
    header = (1 << length) - 1 << 7 * length
    return ((value & (1 << 8 * length) - 1) ^ header).to_bytes(length, "big")
