"""Spectral normalisation: a weight over its largest singular value, which two vectors estimate (arXiv:1802.05957).

torch.nn.utils.spectral_norm keeps `weight_orig` with `weight_u` and `weight_v`,
torch.nn.utils.parametrizations.spectral_norm `parametrizations.weight.original` with `parametrizations.weight.0._u` and
`._v`. The weight W is looked at as a matrix, a row for each output; its largest singular value is taken for u W v.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightstats.dtypes import Floats
from weightstats.effective_weights import Combined
from weightstats.effective_weights.computed import (
    MOST_NUMBERS,
    SCATTERED,
    STEP_ELEMENTS,
    Computed,
    Run,
    computed,
    remembered,
    storage_order,
)
from weightstats.errors import CheckpointError
from weightstats.network import MOST_NAME
from weightstats.tensors import Tensor, Use

HOOKED = re.compile(r"(^|[._])weight(_\w+)?_(?P<how>orig|bar)$")
"""The weight's name with torch.nn.utils.spectral_norm, and `weight_bar` with the implementation for PyTorch 0.3 that
many generative networks carry with them (github.com/christiancosgrove/pytorch-spectral-normalization-gan)."""

PARAMETRIZED = re.compile(r"(^|\.)parametrizations\.(?P<parameter>[^.]+)\.original$")
"""The weight's name with torch.nn.utils.parametrizations.spectral_norm, and with every other parametrization."""

BECAUSE = "what is stored over the largest singular value that its vectors estimate: spectral normalisation"
SCALE_FREE = "its scale is set by its spectral normalisation"

ALIGNED = 0.7
"""Cosine between u and W v from which on they are believed where they fit two dimensions: it is 1 after one step of
the power iteration, and about the root of one over the number of rows for vectors of something else."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A weight with its vectors, by name."""

    carrier: str
    weight: str
    left: str
    """Has an element for each row of the matrix."""

    right: str | None
    """Has an element for each column; versions of torch before 1.0 do not keep it."""

    axes: tuple[int, ...]
    """That the rows may run along."""


def combined(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Sequence[Combined]:
    """The weights of the network that are divided by their largest singular value."""
    result = []
    for found in _found(tensors):
        carrier, left = tensors[found.carrier], tensors[found.left]
        right = tensors[found.right] if found.right is not None else None
        effective = _normalised(carrier, left, right, found.axes)
        vector = Use("buffer", "", "a vector of a spectral normalisation, not trained")
        companions = {name: vector for name in (found.left, found.right) if name is not None}
        if isinstance(effective, str):
            reason = f"measured as stored, with its spectral normalisation undone: {effective}"
            result.append(Combined(found.carrier, companions, None, found.weight, reason))
            continue
        copy = tensors.get(found.weight)
        if copy is not None and copy.shape == carrier.shape:  # versions of torch before 1.0 keep the quotient too
            companions[found.weight] = Use(
                "buffer", "", "what its spectral normalisation made of it at the time, not trained"
            )
        result.append(Combined(found.carrier, companions, effective, found.weight, BECAUSE, scale_free=SCALE_FREE))
    return result


def _found(tensors: Mapping[str, Tensor]) -> Iterator[_Found]:
    for name, tensor in tensors.items():
        if name.endswith(("_orig", "_bar")) and (match := HOOKED.search(name[-MOST_NAME:])):
            weight = name.removesuffix(f"_{match['how']}")
            left, right, axes = f"{weight}_u", f"{weight}_v", (0, 1) if match["how"] == "orig" else (0,)
        elif name.endswith(".original") and (match := PARAMETRIZED.search(name[-MOST_NAME:])):
            weight = name.removesuffix(match[0].lstrip(".")) + match["parameter"]
            base = name.removesuffix("original")
            left, right, axes = f"{base}0._u", f"{base}0._v", (0, 1)
            if right not in tensors:
                continue
        else:
            continue
        if left in tensors and len(tensor.shape) >= 2:
            yield _Found(name, weight, left, right if right in tensors else None, axes)


def _normalised(carrier: Tensor, left: Tensor, right: Tensor | None, axes: tuple[int, ...]) -> Tensor | str:
    """The effective weight, or why it cannot be worked out."""
    vectors = [vector for vector in (left, right) if vector is not None]
    if any(tensor.dtype.kind != "float" for tensor in (carrier, *vectors)):
        return "it and its vectors are not all floating-point numbers"
    if carrier.elements == 0:
        return "it has no elements"
    fitting = [
        axis
        for axis in axes
        if left.elements == carrier.shape[axis]
        and (right is None or right.elements == carrier.elements // carrier.shape[axis])
    ]
    if len(carrier.shape) == 2:
        fitting = fitting[:1]  # of the rows, but where something else was asked for and only that fits
    if not fitting:
        sizes = " and ".join(f"{vector.elements:,}" for vector in vectors)
        return f"its vectors, of {sizes} elements, do not fit the shape {carrier.shape}"
    if any(max(carrier.shape[axis], carrier.elements // carrier.shape[axis]) > MOST_NUMBERS for axis in fitting):
        return f"a vector of it has more than the {MOST_NUMBERS:,} elements that are held"
    if any(storage_order(tensor) is None for tensor in (carrier, *vectors)):
        return SCATTERED
    return computed(_SpectralNorm(carrier, left, right, tuple(fitting)))


class _SpectralNorm(Computed):
    """The elements over the largest singular value, for which the whole weight is read once before."""

    def __init__(self, carrier: Tensor, left: Tensor, right: Tensor | None, axes: tuple[int, ...]) -> None:
        super().__init__(carrier, left, *(() if right is None else (right,)))
        self._axes = axes

    def begin(self) -> None:
        """A position in the weight."""
        self._data = Run(self.carrier)

    def elements(self, first: int, count: int) -> Floats:
        """What is stored, divided."""
        quotients: Floats = self._data.read(first, count) / remembered(self.number, self._largest)
        return quotients

    def _largest(self) -> Floats:
        """The singular value, as one number in an array."""
        left, *rest = (Run(vector).read(0, vector.elements).astype(np.float64) for vector in self.companions)
        if not rest:  # the right vector is what W makes of the left one
            lengths = [float(np.linalg.norm(_times_left(self.carrier, axis, left))) for axis in self._axes]
            return np.array([max(lengths)])
        images = [_times_right(self.carrier, axis, rest[0]) for axis in self._axes]
        cosines = [abs(left @ image) / (np.linalg.norm(left) * np.linalg.norm(image)) for image in images]
        best = int(np.argmax(cosines))
        if len(cosines) > 1 and not cosines[best] >= ALIGNED:
            problem = "the vectors of its spectral normalisation fit two of its dimensions, and are not those of either"
            raise CheckpointError(self.location, problem)
        return np.array([left @ images[best]])


def _times_right(weight: Tensor, axis: int, right: NDArray[np.float64]) -> NDArray[np.float64]:
    """W v."""
    order, (outer, rows, inner) = _layout(weight, axis)
    sizes = [size for place, size in enumerate(weight.shape) if place != axis]
    columns = [place - (place > axis) for place in order if place != axis]
    vector = right.reshape(sizes).transpose(columns).reshape(outer, inner)
    image = np.zeros(rows)
    for which, some, block in _blocks(weight, outer, rows, inner):
        image[some] += np.einsum("ori,oi->r", block, vector[which], optimize=True)
    return image


def _times_left(weight: Tensor, axis: int, left: NDArray[np.float64]) -> NDArray[np.float64]:
    """The transpose of W times u, its elements in the order of the storage."""
    _, (outer, rows, inner) = _layout(weight, axis)
    image = np.zeros((outer, inner))
    for which, some, block in _blocks(weight, outer, rows, inner):
        image[which] += np.einsum("ori,r->oi", block, left[some], optimize=True)
    return image.reshape(-1)


def _layout(weight: Tensor, axis: int) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """The axes in the order of the storage, and the elements before, along and behind one of them."""
    order = storage_order(weight) or ()
    place = order.index(axis)
    before, behind = order[:place], order[place + 1 :]
    return order, (
        math.prod(weight.shape[other] for other in before),
        weight.shape[axis],
        math.prod(weight.shape[other] for other in behind),
    )


def _blocks(weight: Tensor, outer: int, rows: int, inner: int) -> Iterator[tuple[slice, slice, NDArray[np.float64]]]:
    """All elements: in each block those of some outer indices and some rows, with all inner indices."""
    run = Run(weight)
    outers = max(1, STEP_ELEMENTS // (rows * inner))
    some = rows if outers > 1 else max(1, STEP_ELEMENTS // inner)
    for which in range(0, outer, outers):
        for row in range(0, rows, some):
            shape = (min(outers, outer - which), min(some, rows - row), inner)
            block = run.read((which * rows + row) * inner, math.prod(shape)).reshape(shape)
            yield slice(which, which + shape[0]), slice(row, row + shape[1]), block.astype(np.float64)
