"""Codes with the scales that belong to them, as one tensor of numbers; which scale an element has, by its place."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weightstats.effective_weights.companions import Numbers, storage_of
from weightstats.encodings import Encoding, encoded
from weightstats.errors import TensorError
from weightstats.limits import LIMITS, over
from weightstats.tensors import Tensor, Use


@dataclass(frozen=True, slots=True)
class Grid:
    """Blocks of the elements of stacked matrices that share an entry of a table: (matrices, blocks down, blocks
    across) in C order. Blocks at the lower and right edge may be cut."""

    rows: int
    """Of one matrix."""

    columns: int
    row_block: int
    column_block: int
    row_group: Numbers | None = None
    """The block that each row of the only matrix belongs to, where the rows of a block need not lie together; an entry
    that is no block gives NaN."""

    row_groups: int = 0
    """How many such blocks there are, where `row_group` tells them apart."""

    column_group: Numbers | None = None
    """The same for the columns."""

    column_groups: int = 0

    @property
    def down(self) -> int:
        """Blocks of one matrix below each other."""
        return self.row_groups or -(-self.rows // self.row_block)

    @property
    def across(self) -> int:
        """Blocks of one matrix side by side."""
        return self.column_groups or -(-self.columns // self.column_block)

    def spread(
        self, table: Numbers, numbers: NDArray[np.float32], first: int
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Views of the numbers, which are the elements from `first` on, as (rows, columns), each with what belongs to
        it as an array that can be broadcast to it."""
        count = numbers.size
        done = 0
        while done < count:
            row, column = divmod(first + done, self.columns)
            whole = (count - done) // self.columns if column == 0 else 0
            rows, width = (whole, self.columns) if whole else (1, min(self.columns - column, count - done))
            part = numbers[done : done + rows * width].reshape(rows, width)
            yield part, self._across(self._down(table, row, rows, column, width), column, width)
            done += part.size

    def _down(self, table: Numbers, row: int, rows: int, column: int, width: int) -> NDArray[np.float32]:
        """Entries for some rows, or one row of them for all, in the blocks that some columns lie in."""
        numbers = np.arange(row, row + rows)
        known = np.ones(rows, np.bool_)
        if self.row_group is None:
            place = numbers // self.rows * self.down + numbers % self.rows // self.row_block
        else:
            place, known = _places(self.row_group.read(row, row + rows), self.down)
        low, high = int(place.min()), int(place.max())
        if high - low >= rows:  # in no order: all blocks, which are then at hand for the next rows
            low, high = 0, self.down - 1
        left, right = (0, self.across) if self.column_group else self._blocks(column, width)
        if low == high:
            entries = table.read(low * self.across + left, low * self.across + right)[None]
        else:
            entries = table.read(low * self.across, (high + 1) * self.across).reshape(-1, self.across)[:, left:right]
            entries = entries[place - low]
        return entries if known.all() else np.where(known[:, None], entries, np.float32(np.nan))

    def _across(self, entries: NDArray[np.float32], column: int, width: int) -> NDArray[np.float32]:
        """Entries of the blocks for each of the columns, or one for all."""
        if self.column_group is not None:
            place, known = _places(self.column_group.read(column, column + width), self.across)
            return np.where(known, entries[:, place], np.float32(np.nan))
        if entries.shape[1] == 1 or self.column_block == 1:
            return entries
        skipped = column - column // self.column_block * self.column_block
        return np.repeat(entries, self.column_block, axis=1)[:, skipped : skipped + width]

    def _blocks(self, column: int, width: int) -> tuple[int, int]:
        return column // self.column_block, -(-(column + width) // self.column_block)


def _places(groups: NDArray[np.float32], number: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Groups as indices of `number` blocks, and whether each of them is one."""
    known = (groups >= 0) & (groups < number)
    return np.where(known, groups, np.float32(0)).astype(np.int64), known


@dataclass(frozen=True, slots=True)
class Codes:
    """How the bytes of a carrier become numbers that scales are then applied to."""

    block_elements: int
    block_bytes: int
    numbers: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    """(blocks, block_bytes) to as many new float32 numbers, in the order of the elements."""


@dataclass(frozen=True, slots=True)
class Factor:
    """Numbers that multiply the codes, or are first subtracted from them, block by block."""

    table: Numbers
    grid: Grid


def one_for_all(shape: Sequence[int]) -> Grid:
    """One entry for every element of a tensor."""
    elements = max(1, math.prod(shape))
    return Grid(1, elements, 1, elements)


def dequantised(
    name: str,
    carrier: Tensor,
    shape: tuple[int, ...],
    codes: Codes,
    scales: Sequence[Factor],
    zero: Factor | float = 0.0,
    companions: Sequence[Tensor] = (),
    use: Use | None = None,
) -> Tensor:
    """The tensor (codes - zero) * scales, decoded as it is read, in the order of the carrier's codes.

    `name` is the dtype that the report shows. TensorError where the carrier is not contiguous, holds fewer codes than
    the shape needs or blocks of them that are too large.
    """
    storage = storage_of(carrier)
    elements = math.prod(shape)
    if 4 * codes.block_elements > LIMITS.dequantised_step_bytes:
        raise TensorError(f"its codes can only be decoded in steps of {over('dequantised_step_bytes')} (bytes)")

    def decode(raw: NDArray[np.uint8], first: int) -> NDArray[np.float32]:
        numbers = codes.numbers(raw).reshape(-1)
        start = first * codes.block_elements
        count = min(numbers.size, elements - start)
        used = numbers[:count]
        if isinstance(zero, Factor):
            for part, values in zero.grid.spread(zero.table, used, start):
                np.subtract(part, values, out=part)
        elif zero:
            used -= np.float32(zero)
        for factor in scales:
            for part, values in factor.grid.spread(factor.table, used, start):
                np.multiply(part, values, out=part)
        return numbers

    encoding = Encoding(name, codes.block_elements, codes.block_bytes, decode)
    tensor = encoded(carrier.path, shape, encoding, storage, use)
    beside = sum(companion.stored_bytes for companion in companions)
    return replace(tensor, encoded_bytes=carrier.stored_bytes + beside)
