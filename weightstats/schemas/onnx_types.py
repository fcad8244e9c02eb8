"""How ONNX packs elements, and how its quantised ones become numbers: dtypes and encodings for `Stored` tensors.

Types: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, TensorProto.DataType and the comment on raw_data.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from weightstats.dtypes import DTYPES
from weightstats.encodings import Encoding
from weightstats.errors import CheckpointError, TensorError
from weightstats.tensors import Storage

DTYPE_NAMES = dict(
    (
        *((1, "F32"), (2, "U8"), (3, "I8"), (4, "U16"), (5, "I16"), (6, "I32"), (7, "I64"), (9, "BOOL"), (10, "F16")),
        *((11, "F64"), (12, "U32"), (13, "U64"), (14, "C64"), (15, "C128"), (16, "BF16"), (17, "F8_E4M3")),
        *((18, "F8_E4M3FNUZ"), (19, "F8_E5M2"), (20, "F8_E5M2FNUZ"), (24, "F8_E8M0")),
    )
)
"""Types whose elements take whole bytes."""

UNREAD_TYPES = {0: "it has no type", 8: "it holds text, not numbers"}


@dataclass(frozen=True)
class Packing:
    """Elements of fewer bits than a byte, the first in the lowest bits."""

    name: str
    bits: int
    values: NDArray[np.float32]
    """What each pattern of bits stands for."""

    is_integer: bool

    @property
    def elements(self) -> int:
        """Of one group that fills whole bytes."""
        return 4 if self.bits == 6 else 8 // self.bits

    @property
    def bytes(self) -> int:
        """Of one group."""
        return self.elements * self.bits // 8

    def unpacked(self, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(groups, bytes) to (groups, elements)."""
        if self.bytes == 1:
            return np.take(self.of_a_byte, raw[:, 0], axis=0)
        words = np.zeros(raw.shape[0], np.uint32)
        for place in range(self.bytes):
            words |= raw[:, place].astype(np.uint32) << np.uint32(8 * place)
        return self._taken(words)

    @cached_property
    def of_a_byte(self) -> NDArray[np.float32]:
        """The elements that each byte holds."""
        return self._taken(np.arange(256, dtype=np.uint32))

    def _taken(self, words: NDArray[np.uint32]) -> NDArray[np.float32]:
        shifts = np.arange(self.elements, dtype=np.uint32) * np.uint32(self.bits)
        return np.take(self.values, (words[:, None] >> shifts) & np.uint32((1 << self.bits) - 1))


def _integers(bits: int, *, signed: bool) -> NDArray[np.float32]:
    values = np.arange(1 << bits, dtype=np.float32)
    return np.where(values >= 1 << (bits - 1), values - (1 << bits), values) if signed else values


def _small_floats(exponent_bits: int, mantissa_bits: int, bias: int) -> NDArray[np.float32]:
    """All values of a float without infinities and NaN. Source: OCP microscaling formats specification 1.0, 5.3."""
    codes = np.arange(1 << (exponent_bits + mantissa_bits))
    exponents, fractions = codes >> mantissa_bits, (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    magnitudes = np.where(
        exponents == 0, np.ldexp(fractions, 1 - bias), np.ldexp(1.0 + fractions, exponents.astype(np.int64) - bias)
    )
    return np.concatenate((magnitudes, -magnitudes)).astype(np.float32)


PACKINGS = {
    21: Packing("U4", 4, _integers(4, signed=False), True),
    22: Packing("I4", 4, _integers(4, signed=True), True),
    23: Packing("F4", 4, _small_floats(2, 1, 1), False),
    25: Packing("U2", 2, _integers(2, signed=False), True),
    26: Packing("I2", 2, _integers(2, signed=True), True),
    27: Packing("F6_E2M3", 6, _small_floats(2, 3, 1), False),
    28: Packing("F6_E3M2", 6, _small_floats(3, 2, 3), False),
}
"""Types whose elements take parts of a byte."""

MOST_SCALES = 1 << 21
"""Scales that the elements of one block may have between them: more would have to be held in memory."""


def bytes_of(kind: int, elements: int) -> int:
    """Bytes that so many elements of a type take. TensorError for a type that is not read."""
    if kind in PACKINGS:
        return -(-elements * PACKINGS[kind].bits // 8)
    if kind in DTYPE_NAMES:
        return elements * DTYPES[DTYPE_NAMES[kind]].width
    raise TensorError(UNREAD_TYPES.get(kind, f"its type has the number {kind}, which is not one that can be read"))


def is_integer(kind: int) -> bool:
    """Whether the elements of a type are whole numbers, which a scale can turn into others."""
    if kind in PACKINGS:
        return PACKINGS[kind].is_integer
    return DTYPES[DTYPE_NAMES[kind]].kind == "integer" if kind in DTYPE_NAMES else False


@dataclass(frozen=True, slots=True)
class Elements:
    """Stored elements as numbers, some at a time."""

    kind: int
    count: int
    storage: Storage

    def part(self, first: int, last: int) -> NDArray[np.float32]:
        """Those from `first` to before `last`; CheckpointError where they cannot be read."""
        group = PACKINGS[self.kind].elements if self.kind in PACKINGS else 1
        begin, end = bytes_of(self.kind, first // group * group), bytes_of(self.kind, last)
        raw = np.empty(end - begin, np.uint8)
        self.storage.source.reader().read_into(self.storage.start + begin, raw.data)
        return decoded(self.kind, raw)[first % group :][: last - first]


def decoded(kind: int, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes to numbers; whole numbers beyond 2**24 are rounded."""
    if kind in PACKINGS:
        packing = PACKINGS[kind]
        whole = np.zeros(-(-raw.size // packing.bytes) * packing.bytes, np.uint8)
        whole[: raw.size] = raw
        return packing.unpacked(whole.reshape(-1, packing.bytes)).reshape(-1)
    dtype = DTYPES[DTYPE_NAMES[kind]]
    words = np.empty(raw.size // dtype.width, np.uint32)
    return dtype.restore(dtype.decode(raw, "little", words)).astype(np.float32)


def packed(kind: int) -> Encoding:
    """How elements that take parts of a byte are read."""
    packing = PACKINGS[kind]
    return Encoding(packing.name, packing.elements, packing.bytes, lambda raw, first: packing.unpacked(raw))


@dataclass(frozen=True, slots=True)
class Runs:
    """Which scale each element has: that of its run of consecutive elements, or of its place in the run."""

    run: int
    """Elements of a run."""

    period: int
    """Runs after which the scales start again; 0 where they do not."""

    share: int = 1
    """Consecutive runs, of those of one period, that have the same scales."""

    own: bool = False
    """Whether each element of a run has a scale of its own, at its place."""

    def rows(self, runs: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of each run among those with scales of their own."""
        if not self.period:
            return runs // self.share
        shared = runs % self.period // self.share
        return runs // self.period * -(-self.period // self.share) + shared if self.own else shared


def runs_along(shape: tuple[int, ...], axis: int | None, block: int, scales: tuple[int, ...]) -> Runs:
    """How the scales of DequantizeLinear go with the elements. TensorError where there are not as many as it takes."""
    if axis is None:
        if math.prod(scales) != 1:
            raise TensorError(f"it has {math.prod(scales):,} scales, not one")
        return Runs(max(1, math.prod(shape)), 1)
    inner = math.prod(shape[axis + 1 :])
    if not block:
        if scales != (shape[axis],):
            raise TensorError(f"it has {math.prod(scales):,} scales, which is not its size along dimension {axis}")
        return Runs(inner, shape[axis])
    if scales != (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :]):
        raise TensorError("it is quantised by blocks, and has not one scale for each of them")
    if inner == 1 and shape[axis] % block == 0:
        return Runs(block, 0)
    return Runs(inner, shape[axis], block, own=True)


def scaled(kind: int, runs: Runs, scales: Elements, zero_points: Elements | None) -> Encoding:
    """Elements that stand for (q - zero point) * scale, worked out in float32 as ONNX does.

    TensorError where one block of them would need more scales than can be held.
    """
    columns = runs.run if runs.own else 1
    if columns > MOST_SCALES or runs.period > MOST_SCALES:
        raise TensorError(f"its scales change along more than {MOST_SCALES:,} elements")
    packing = PACKINGS.get(kind)
    name = packing.name if packing else DTYPE_NAMES[kind]
    in_block = packing.elements if packing else 1
    width = packing.bytes if packing else DTYPES[name].width

    def decode(raw: NDArray[np.uint8], first: int) -> NDArray[np.float32]:
        numbers = decoded(kind, raw.reshape(-1))
        begin = first * in_block
        counted = np.arange(begin // runs.run, -(-(begin + numbers.size) // runs.run))
        rows = runs.rows(counted)
        low, high = int(rows.min()), int(rows.max()) + 1
        skipped = begin - int(counted[0]) * runs.run

        def spread(elements: Elements) -> NDArray[np.float32]:
            last = min(high * columns, elements.count)  # the last block may hold elements that are not counted
            held = elements.part(low * columns, last)
            held = np.pad(held, (0, (high - low) * columns - held.size)).reshape(-1, columns)
            if runs.own:
                return held[rows - low].reshape(-1)[skipped:][: numbers.size]
            if runs.run == 1:
                return np.ravel(held[rows - low])
            return np.repeat(held[rows - low, 0], _lengths(counted, runs.run, begin, numbers.size))

        factors = spread(scales)
        if not np.isfinite(factors).all():
            raise CheckpointError(scales.storage.source.location, "one of its scales is not a finite number")
        moved = numbers - spread(zero_points) if zero_points is not None else numbers
        return (moved * factors).reshape(-1, in_block)

    return Encoding(f"{name} scaled", in_block, width, decode)


def _lengths(counted: NDArray[np.int64], run: int, begin: int, size: int) -> NDArray[np.int64]:
    """Elements of each run that lie between `begin` and `begin + size`."""
    return np.minimum((counted + 1) * run, begin + size) - np.maximum(counted * run, begin)


PACKED_IN_BYTES = {2: 25, 4: 21, 8: 2}
"""Types of the unsigned integers of so many bits."""

_MOST_BLOCK = 1 << 16


def in_blocks(
    shape: tuple[int, int], bits: int, block: int, scales: Elements, zero_points: Elements | None
) -> Encoding:
    """The weights of MatMulNBits: each row of the shape in blocks, each block with its scale.

    Zero points are packed like the weights, each row of them filling whole bytes; without them, it is the middle of the
    range. TensorError where the numbers of blocks, scales and zero points do not fit.
    """
    if bits not in PACKED_IN_BYTES or not 8 <= block <= _MOST_BLOCK or block & (block - 1):
        raise TensorError(f"it has {bits} bits in blocks of {block:,}, which is not read")
    rows, columns = shape
    if columns % block:
        raise TensorError("its last blocks are not full, and what fills them is not told from weights")
    in_row = columns // block
    padded = -(-in_row * bits // 8) * 8 // bits
    if scales.count != rows * in_row:
        raise TensorError(f"it has {rows * in_row:,} blocks and {scales.count:,} scales")
    packed_points = zero_points is not None and zero_points.kind == PACKED_IN_BYTES[8]
    if packed_points and zero_points is not None:
        zero_points = Elements(PACKED_IN_BYTES[bits], zero_points.count * 8 // bits, zero_points.storage)
    if zero_points is not None and zero_points.count != rows * (padded if packed_points else in_row):
        raise TensorError(f"it has {rows * in_row:,} blocks, and not as many zero points")

    def decode(raw: NDArray[np.uint8], first: int) -> NDArray[np.float32]:
        numbers = decoded(PACKED_IN_BYTES[bits], raw.reshape(-1)).reshape(-1, block)
        last = first + len(numbers)
        factors = scales.part(first, last)
        if not np.isfinite(factors).all():
            raise CheckpointError(scales.storage.source.location, "one of its scales is not a finite number")
        points = np.full(len(numbers), 1 << (bits - 1), np.float32)
        if zero_points is not None:
            blocks = np.arange(first, last)
            places = blocks // in_row * padded + blocks % in_row if packed_points else blocks
            points[:] = zero_points.part(int(places[0]), int(places[-1]) + 1)[places - places[0]]
        restored: NDArray[np.float32] = (numbers - points[:, None]) * factors[:, None]
        return restored

    return Encoding(f"U{bits} scaled", block, block * bits // 8, decode)
