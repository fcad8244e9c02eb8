"""Weight normalisation: a direction v and magnitudes g, of which the weight is g v / ‖v‖ (arXiv:1602.07868).

torch.nn.utils.weight_norm keeps them as `weight_g` and `weight_v`, torch.nn.utils.parametrizations.weight_norm as
`parametrizations.weight.original0` and `original1`; for other parameters with their names in place of `weight`.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
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
from weightstats.network import MOST_NAME
from weightstats.tensors import Tensor, Use

HOOKED = re.compile(r"(^|[._])weight(_\w+)?_v$")
"""The direction's name with torch.nn.utils.weight_norm."""

PARAMETRIZED = re.compile(r"(^|\.)parametrizations\.(?P<parameter>[^.]+)\.original1$")
"""The direction's name with torch.nn.utils.parametrizations.weight_norm."""

BECAUSE = "its direction times its magnitudes: weight normalisation"


def combined(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Sequence[Combined]:
    """The weights of the network that are a direction and magnitudes."""
    found = []
    for direction, magnitudes, weight in _pairs(tensors):
        effective = _normalised(tensors[direction], tensors[magnitudes])
        if isinstance(effective, str):
            reason = f"measured as stored, without its magnitudes: {effective}"
            found.append(Combined(direction, {}, because=reason))
            continue
        use = Use("parameter", "", "magnitudes of a weight normalisation")
        found.append(Combined(direction, {magnitudes: use}, effective, weight, BECAUSE))
    return found


def _pairs(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str, str]]:
    """(direction, magnitudes, the weight that they are) by name."""
    for name in tensors:
        if name.endswith("_v") and HOOKED.search(name[-MOST_NAME:]):
            weight, magnitudes = name[:-2], f"{name[:-2]}_g"
            if magnitudes in tensors and f"{weight}_orig" not in tensors:
                yield name, magnitudes, weight
        elif name.endswith(".original1") and (match := PARAMETRIZED.search(name[-MOST_NAME:])):
            magnitudes = f"{name[:-1]}0"
            if magnitudes in tensors and f"{name[:-1]}2" not in tensors:
                module = name.removesuffix(match[0].lstrip("."))
                yield name, magnitudes, module + match["parameter"]


def _normalised(direction: Tensor, magnitudes: Tensor) -> Tensor | str:
    """The effective weight, or why it cannot be worked out."""
    if direction.dtype.kind != "float" or magnitudes.dtype.kind != "float":
        return "they are not both floating-point numbers"
    if direction.elements == 0:
        return "it has no elements"
    axis = _axis(direction.shape, magnitudes.shape)
    if isinstance(axis, str):
        return axis
    order = storage_order(direction)
    if order is None or storage_order(magnitudes) is None:
        return SCATTERED
    if axis is None:
        return computed(_WeightNorm(direction, magnitudes, 1, direction.elements))
    place = order.index(axis)
    inner = math.prod(direction.shape[other] for other in order[place + 1 :])
    outer = math.prod(direction.shape[other] for other in order[:place])
    if outer > 1 and magnitudes.elements > MOST_NUMBERS:
        return (
            f"they are {magnitudes.elements:,} along an inner dimension, more than the {MOST_NUMBERS:,} that are held"
        )
    return computed(_WeightNorm(direction, magnitudes, outer, inner))


def _axis(shape: tuple[int, ...], magnitudes: tuple[int, ...]) -> int | str | None:
    """The axis that each magnitude belongs to one index of, None for one magnitude of all, or what is wrong."""
    if all(size == 1 for size in magnitudes) and (
        len(magnitudes) < 2 or (len(magnitudes) == len(shape) and 1 in shape)
    ):
        return None  # the only index of an axis holds all the others
    wide = [axis for axis, size in enumerate(magnitudes) if size != 1]
    if len(magnitudes) != len(shape) or len(wide) != 1 or magnitudes[wide[0]] != shape[wide[0]]:
        return f"magnitudes of shape {magnitudes} do not fit a direction of shape {shape}"
    return wide[0]


class _WeightNorm(Computed):
    """The elements lie as (outer, slices, inner); each slice has a magnitude and a norm of its own."""

    def __init__(self, direction: Tensor, magnitudes: Tensor, outer: int, inner: int) -> None:
        super().__init__(direction, magnitudes)
        self._outer, self._inner, self._slices = outer, inner, magnitudes.elements

    def begin(self) -> None:
        """Positions in the directions, for the elements and ahead of them for the norms, and in the magnitudes."""
        self._data, self._ahead, self._magnitudes = Run(self.carrier), Run(self.carrier), Run(self.companions[0])

    def elements(self, first: int, count: int) -> Floats:
        """Directions times their slices' magnitudes over their norms."""
        run, lengths = self._runs(first, count)
        factors = self._factors(run, run + lengths.size)
        weights: Floats = self._data.read(first, count) * (np.repeat(factors, lengths) if self._inner > 1 else factors)
        return weights

    def _runs(self, first: int, count: int) -> tuple[int, NDArray[np.int64]]:
        """The runs of `inner` elements, each of one slice, that some elements lie in: the number of the first one, and
        how many of the elements lie in each."""
        run, last = first // self._inner, (first + count - 1) // self._inner
        lengths = np.full(last - run + 1, self._inner, np.int64)
        lengths[0] -= first - run * self._inner
        lengths[-1] -= (last + 1) * self._inner - first - count
        return run, lengths

    def _factors(self, start: int, stop: int) -> Floats:
        """Of the runs from `start` to before `stop`: magnitude over norm."""
        if self._outer > 1:
            whole = remembered(self.number, partial(self._worked_out, 0, self._slices))
            return whole[np.arange(start, stop) % self._slices]
        step = max(1, STEP_ELEMENTS // self._inner)
        blocks = []
        for first in range(start // step * step, stop, step):
            size = min(step, self._slices - first)
            factors = remembered((self.number, first), partial(self._worked_out, first, size))
            blocks.append(factors[max(0, start - first) : stop - first])
        return np.concatenate(blocks)

    def _worked_out(self, first: int, slices: int) -> Floats:
        """Magnitude over norm of some slices: all of them, where each lies in several runs."""
        squares = np.zeros(slices)
        outers = max(1, STEP_ELEMENTS // (slices * self._inner))
        together = slices if outers > 1 else max(1, STEP_ELEMENTS // self._inner)
        for outer in range(0, self._outer, outers):
            for start in range(0, slices, together):
                shape = (min(outers, self._outer - outer), min(together, slices - start))
                place = (outer * self._slices + first + start) * self._inner
                squares[start : start + shape[1]] += self._squares(place, shape)
        return np.divide(self._magnitudes.read(first, slices), np.sqrt(squares), dtype=np.float64)

    def _squares(self, place: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """The sum of squares of each of the slices that lie side by side from element number `place`; `shape` is how
        often, and how many of them. Their elements are read in more than one step where there is one slice only."""
        squares = np.zeros(shape[1])
        end = place + shape[0] * shape[1] * self._inner
        for start in range(place, end, STEP_ELEMENTS):
            part = self._ahead.read(start, min(STEP_ELEMENTS, end - start)).astype(np.float64)
            part = part.reshape(shape[0], shape[1], -1)
            squares += np.einsum("osi,osi->s", part, part)
        return squares
