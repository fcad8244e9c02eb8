"""A weight with the product of an adapter's factors added, worked out some rows at a time."""

import math

import numpy as np

from weightstats.dtypes import Floats
from weightstats.effective_weights.computed import (
    MOST_ELEMENTS,
    SCATTERED,
    Computed,
    Run,
    computed,
    remembered,
    storage_order,
)
from weightstats.limits import LIMITS, over
from weightstats.tensors import Tensor

ROWS_ELEMENTS = 1 << 20
"""Elements of the rows that are worked out at once: enough for a product of matrices to pay."""


def fitting(base: Tensor, down: Tensor, up: Tensor) -> tuple[bool, ...] | str:
    """In which ways the factors fit their base, as they are (False) or transposed (True), or why in neither.

    A is (rank, inputs, field...), B (outputs, rank, 1...); a base with the inputs first is a matrix.
    """
    if any(tensor.dtype.kind != "float" for tensor in (base, down, up)):
        return "it and its factors are not all floating-point numbers"
    if min(len(tensor.shape) for tensor in (base, down, up)) < 2 or not all(t.elements for t in (base, down, up)):
        return "it or one of its factors is no matrix"
    rank, outputs = down.shape[0], up.shape[0]
    fits = []
    if up.shape[1] == rank and math.prod(up.shape[2:]) == 1:
        if outputs == base.shape[0] and _without_ones(down.shape[1:]) == _without_ones(base.shape[1:]):
            fits.append(False)
        if base.shape == (math.prod(down.shape[1:]), outputs) and math.prod(down.shape[2:]) == 1:
            fits.append(True)
    return tuple(fits) or f"factors of the shapes {down.shape} and {up.shape} do not fit its shape {base.shape}"


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def merged(base: Tensor, down: Tensor, up: Tensor, factor: float, *, transposed: bool) -> Tensor | str:
    """The base plus factor · B A, or its transpose, for tensors that fit so; or why it cannot be worked out."""
    orders = [storage_order(tensor) for tensor in (base, down, up)]
    if any(order is None for order in orders):
        return f"of it or a factor, {SCATTERED}"
    order = [axis for axis in orders[0] or () if base.shape[axis] > 1]
    by_columns = len(base.shape) == 2 and order == [1, 0]
    if not by_columns and order[:1] not in ([], [0]) and base.shape[0] > 1:
        return "its outputs are not the outermost of its dimensions in the storage"
    source = _Merged(base, down, up, factor, turned=transposed != by_columns)
    if source.rank > LIMITS.adapter_rank:
        return f"its rank, {source.rank:,}, is {over('adapter_rank')}"
    if source.rank * source.columns > MOST_ELEMENTS:
        return f"a factor of it has more than the {MOST_ELEMENTS:,} elements that are held"
    if source.left_is_scattered and source.sequential and source.rank * source.rows > MOST_ELEMENTS:
        return "its factors are compressed, and stored in the other order"
    return computed(source)


class _Merged(Computed):
    """Rows of the base, in the order of its storage, each plus its row of `left` times `right`.

    They are B and A where the rows are outputs, else, `turned`, the transposes of A and B.
    """

    def __init__(self, base: Tensor, down: Tensor, up: Tensor, factor: float, *, turned: bool) -> None:
        self.turned, self.factor = turned, factor
        self.rank = down.shape[0]
        self.rows = down.elements // self.rank if turned else up.shape[0]
        self.columns = base.elements // self.rows
        self.left = down if turned else up
        self.left_is_scattered = self.rank > 1 and self.rows > 1 and (_is_outermost(self.left, 0) == turned)
        super().__init__(base, down, up)

    def begin(self) -> None:
        """Positions in the base and in the factor that is read along with it."""
        self._base, self._left = Run(self.carrier), Run(self.left)
        self._block: tuple[int, Floats] = (-1, np.empty(0))

    def elements(self, first: int, count: int) -> Floats:
        """Those of the base, with the product's added."""
        size = max(1, ROWS_ELEMENTS // max(self.columns, self.rank)) * self.columns
        parts = []
        while count:
            number, place = divmod(first, size)
            if self._block[0] != number:
                self._block = number, self._worked_out(number * size // self.columns, size // self.columns)
            part = self._block[1][place : place + count]
            parts.append(part)
            first, count = first + part.size, count - part.size
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _worked_out(self, row: int, rows: int) -> Floats:
        """Some rows, as one run of elements."""
        rows = min(rows, self.rows - row)
        right = remembered(self.number, self._right)
        sums = self._left_rows(row, rows).astype(right.dtype) @ right
        sums *= self.factor
        sums += self._base.read(row * self.columns, rows * self.columns).reshape(rows, -1)
        result: Floats = sums.reshape(-1)
        return result

    def _left_rows(self, row: int, rows: int) -> Floats:
        """(rows, rank)."""
        if not self.left_is_scattered:
            return self._left.read(row * self.rank, rows * self.rank).reshape(rows, self.rank)
        if self.sequential or self.left.elements <= MOST_ELEMENTS:
            whole = remembered((self.number, "left"), lambda: self._left.read(0, self.left.elements))
            return whole.reshape(self.rank, self.rows)[:, row : row + rows].T
        return np.stack([self._left.read(place * self.rows + row, rows) for place in range(self.rank)], axis=1)

    def _right(self) -> Floats:
        """(rank, columns), the columns in the order of the base's storage."""
        down, up = self.companions
        kind = np.float64 if self.dtype.width == 8 else np.float32
        if self.turned:
            matrix = _array(up).reshape(self.columns, self.rank).T
        elif len(self.carrier.shape) == 2:
            matrix = _array(down)
        else:
            order = [axis for axis in storage_order(self.carrier) or () if axis]
            matrix = _array(down).reshape(self.rank, *self.carrier.shape[1:]).transpose(0, *order)
        return np.ascontiguousarray(matrix.reshape(self.rank, self.columns), kind)


def _is_outermost(tensor: Tensor, axis: int) -> bool:
    """Whether an axis is the outermost in the storage, of those with more than one index."""
    order = [other for other in storage_order(tensor) or () if tensor.shape[other] > 1]
    return order[:1] == [axis]


def _array(tensor: Tensor) -> Floats:
    """A whole tensor that is not large, in its shape."""
    order = storage_order(tensor) or ()
    stored = Run(tensor).read(0, tensor.elements).reshape([tensor.shape[axis] for axis in order])
    return stored.transpose(np.argsort(order).tolist())
