"""Sparse tensors of torch, unfolded: their zeros count like any others, so that they are given among the elements.

Layouts: https://pytorch.org/docs/stable/sparse.html; the indices are checked here, since torch does not check them when
it loads a file.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from weightstats.dtypes import DTYPES
from weightstats.errors import CheckpointError, TensorError
from weightstats.schemas.torch_storages import Allowance
from weightstats.schemas.torch_views import View
from weightstats.tensors import Source, Storage, Tensor, make_tensor

Elements: TypeAlias = tuple[NDArray[np.int64], NDArray[np.void]]
"""Positions among the elements of the whole tensor, ascending, and the raw bytes of the elements there."""


def sparse_tensor(
    path: tuple[str, ...], layout: str, shape: tuple[int, ...], views: Sequence[View], allowance: Allowance
) -> Tensor:
    """The tensor of that shape and layout whose stored elements are the last of the views; the others say their places.

    The stored elements are looked at now and once more when the tensor is read, and not held in between. TensorError
    where an index is out of range or a place is stored twice, or where the whole would be too large.
    """
    if len(shape) < 1 or any(size < 0 for size in shape):
        raise TensorError("it is sparse, and its size is malformed")
    values = views[-1]
    size = math.prod(shape) * DTYPES[values.dtype].width
    if size == 0 and values.bytes:
        raise TensorError("it is sparse, and stores elements that its size has no place for")
    allowance.spend("sparse_bytes", size)
    parts = _Parts(layout, shape, tuple(views))
    if size:
        parts.elements(allowance)
    source = _Unfolded(values.storage.source.location, DTYPES[values.dtype].width, parts)
    tensor = make_tensor(path, shape, values.dtype, Storage(source, 0, size, values.storage.byte_order))
    return replace(tensor, encoded_bytes=sum(view.bytes for view in views))


@dataclass(frozen=True, slots=True)
class _Parts:
    layout: str
    shape: tuple[int, ...]
    views: tuple[View, ...]

    def elements(self, allowance: Allowance) -> Elements:
        """Every stored element and its position; TensorError where they contradict the shape or each other."""
        *indices, values = self.views
        if any(view.dtype not in ("I32", "I64") for view in indices):
            raise TensorError("it is sparse, and its indices are not integers")
        arrays = [view.values("sparse_elements", allowance).astype(np.int64) for view in indices]
        raw = values.raw("sparse_elements", allowance)
        positions = LAYOUTS[self.layout](self.shape, arrays, values.shape).reshape(-1)
        if not (positions[1:] > positions[:-1]).all():
            order = np.argsort(positions, kind="stable")
            positions, raw = positions[order], raw[order]
            if not (positions[1:] > positions[:-1]).all():
                raise TensorError("it is sparse, and stores an element more than once (uncoalesced)")
        return positions, raw


class _Unfolded:
    """All elements of a sparse tensor, from front to back; the stored ones are loaded by the reader that gives them."""

    sequential = True

    def __init__(self, location: str, width: int, parts: _Parts) -> None:
        self.location, self.width, self.parts = location, width, parts
        self.loaded: Elements | None = None

    def reader(self) -> Source:
        """The same elements with their own memory."""
        return _Unfolded(self.location, self.width, self.parts)

    def will_need(self, offset: int, length: int) -> None:
        """Nothing is known to be of use."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with whole elements from byte `offset` of all of them."""
        if self.loaded is None:
            try:
                self.loaded = self.parts.elements(Allowance())
            except TensorError as error:
                raise CheckpointError(self.location, f"a sparse tensor cannot be read any more: {error}") from error
        positions, raw = self.loaded
        elements = np.frombuffer(buffer, f"V{self.width}")
        elements.view(np.uint8)[:] = 0
        first = offset // self.width
        start, end = np.searchsorted(positions, (first, first + elements.size))
        elements[positions[start:end] - first] = raw[start:end]


Shape: TypeAlias = tuple[int, ...]
Indices: TypeAlias = list[NDArray[np.int64]]


def _coordinates(shape: Shape, indices: Indices, stored: Shape) -> NDArray[np.int64]:
    """COO: indices (sparse dimensions, places), values (places, *dense dimensions)."""
    (places,) = indices
    if places.ndim != 2 or len(stored) < 1 or places.shape[1] != stored[0] or not 1 <= places.shape[0] <= len(shape):
        raise TensorError("it is sparse, and its indices and values are not of one shape")
    outer, inner = shape[: places.shape[0]], shape[places.shape[0] :]
    if stored[1:] != inner:
        raise TensorError("it is sparse, and its values are not of the shape of its dense part")
    position = np.zeros(stored[0], np.int64)
    for size, index in zip(outer, places, strict=True):
        _check_range(index, size)
        position = position * size + index
    return position[:, None] * math.prod(inner) + np.arange(math.prod(inner))


def _compressed(columns: bool, blocks: bool) -> Callable[[Shape, Indices, Shape], NDArray[np.int64]]:
    """CSR, CSC, BSR, BSC: where each row (or column) starts, the column (or row) of each place, and its values."""

    def positions(shape: Shape, indices: Indices, stored: Shape) -> NDArray[np.int64]:
        starts, plain = indices
        if starts.ndim != 1 or plain.ndim != 1 or len(shape) < 2 or len(stored) < 1:
            raise TensorError("it is sparse with batches or malformed, which is not read")
        height, width = stored[1:3] if blocks and len(stored) >= 3 else (1, 1)
        inner = shape[2:]
        if stored != (plain.size, *((height, width) if blocks else ()), *inner):
            raise TensorError("it is sparse, and its values are not of the shape that its size and indices ask for")
        if 0 in (height, width) or shape[0] % height or shape[1] % width:
            raise TensorError("it is sparse, and its size is not made of whole blocks")
        rows, count_of_columns = shape[0] // height, shape[1] // width
        lines, places = (count_of_columns, rows) if columns else (rows, count_of_columns)
        _check_range(starts, plain.size + 1)
        lengths = np.diff(starts)
        if starts.size != lines + 1 or starts[0] != 0 or (lengths < 0).any() or starts[-1] != plain.size:
            raise TensorError("it is sparse, and its compressed indices do not count its values")
        _check_range(plain, places)
        line = np.repeat(np.arange(lines), lengths)
        row, column = (plain, line) if columns else (line, plain)
        row = row[:, None, None] * height + np.arange(height)[:, None]
        column = column[:, None, None] * width + np.arange(width)
        return (row * shape[1] + column)[..., None] * math.prod(inner) + np.arange(math.prod(inner))

    return positions


def _check_range(index: NDArray[np.int64], size: int) -> None:
    if index.size and (index.min() < 0 or index.max() >= size):
        raise TensorError("it is sparse, and one of its indices is out of range")


LAYOUTS: dict[str, Callable[[Shape, Indices, Shape], NDArray[np.int64]]] = {
    "sparse_coo": _coordinates,
    "sparse_csr": _compressed(columns=False, blocks=False),
    "sparse_csc": _compressed(columns=True, blocks=False),
    "sparse_bsr": _compressed(columns=False, blocks=True),
    "sparse_bsc": _compressed(columns=True, blocks=True),
}
"""torch's sparse layouts, with what tells the positions of the stored values in the whole tensor."""
