"""What two tensors of one shape have in common: sums over their elements, paired by their indices, in one pass."""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weightstats.alignment import Alignment, align
from weightstats.dtypes import Floats
from weightstats.errors import CheckpointError
from weightstats.regions import Regions
from weightstats.tensors import BLOCK_ELEMENTS, Tensor, aligned_bytes
from weightstats.workers import default_workers, results

COMPLEX = "complex weights are read as their magnitudes, which tell nothing of how far they moved"


@dataclass(frozen=True, slots=True)
class Scaled:
    """The number significand * 2**exponent, which need not fit a float64."""

    significand: float = 0.0
    exponent: int = 0

    def __add__(self, other: "Scaled") -> "Scaled":
        if self.significand == 0.0 or other.significand == 0.0:
            return other if self.significand == 0.0 else self
        exponent = max(self.exponent, other.exponent)
        parts = (math.ldexp(part.significand, part.exponent - exponent) for part in (self, other))
        return Scaled(sum(parts), exponent)

    def __mul__(self, other: "Scaled") -> "Scaled":
        (one, first), (two, second) = math.frexp(self.significand), math.frexp(other.significand)
        return Scaled(one * two, self.exponent + other.exponent + first + second)

    def __truediv__(self, other: "Scaled") -> "Scaled":
        (one, first), (two, second) = math.frexp(self.significand), math.frexp(other.significand)
        return Scaled(one / two, self.exponent - other.exponent + first - second)

    def __float__(self) -> float:
        """The nearest float64: 0 or infinite where there is none."""
        try:
            return math.ldexp(self.significand, self.exponent)
        except OverflowError:
            return math.copysign(math.inf, self.significand)

    @property
    def root(self) -> "Scaled":
        """The square root of a number of 0 or more."""
        odd = self.exponent % 2
        return Scaled(math.sqrt(math.ldexp(self.significand, odd)), (self.exponent - odd) // 2)


@dataclass(frozen=True, slots=True)
class PairMoments:
    """Sums over the elements of two tensors that are finite in both, before (a) and after (b)."""

    elements: int
    """Of either tensor; an expanded view counts each as often as it shows it."""

    paired: int
    """Of them, those that are finite in both."""

    before: Scaled
    """Σ a²."""

    after: Scaled
    """Σ b²."""

    product: Scaled
    """Σ ab."""

    distance: Scaled
    """Σ (a-b)²; 0 exactly where no element has changed."""

    @property
    def relative_change(self) -> float:
        """‖b-a‖/‖a‖ (Frobenius); NaN where a is zero throughout, infinite where float64 cannot hold it."""
        return _root_of_quotient(self.distance, self.before)

    @property
    def cosine(self) -> float:
        """Σab/(‖a‖‖b‖), from -1 to 1; NaN where a or b is zero throughout."""
        if self.before.significand == 0.0 or self.after.significand == 0.0:
            return math.nan
        if self.distance.significand == 0.0:
            return 1.0
        return max(-1.0, min(1.0, float(self.product / (self.before * self.after).root)))

    @property
    def norm_ratio(self) -> float:
        """‖b‖/‖a‖; NaN where a is zero throughout."""
        return _root_of_quotient(self.after, self.before)

    @property
    def is_unchanged(self) -> bool:
        """Whether elements could be paired, and all of them are what they were."""
        return self.paired > 0 and self.distance.significand == 0.0


def _root_of_quotient(one: Scaled, other: Scaled) -> float:
    return float((one / other).root) if other.significand else math.nan


NOTHING = PairMoments(0, 0, Scaled(), Scaled(), Scaled(), Scaled())


def together(moments: Iterable[PairMoments]) -> PairMoments:
    """The sums over the elements of several pairs, as of one long vector each."""
    total = NOTHING
    for one in moments:
        total = PairMoments(
            total.elements + one.elements,
            total.paired + one.paired,
            total.before + one.before,
            total.after + one.after,
            total.product + one.product,
            total.distance + one.distance,
        )
    return total


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tensors whose elements belong together."""

    before: Tensor
    after: Tensor
    order: tuple[int, ...]
    """The dimensions of `after` in the order of those of `before`."""

    @property
    def stored_bytes(self) -> int:
        """Of both."""
        return self.before.stored_bytes + self.after.stored_bytes


def measure_pairs(
    pairs: Sequence[Pair],
    *,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[PairMoments | str]:
    """The moments of each pair, or the reason why there are none.

    `progress` is called in this thread with the number of bytes of both tensors that have just been dealt with. The
    result does not depend on the number of workers.
    """
    workers = default_workers() if workers is None else workers
    alignments = [_aligned(pair) for pair in pairs]
    tasks = [
        (index, alignment, first)
        for index, alignment in enumerate(alignments)
        if isinstance(alignment, Alignment)
        for first in range(0, alignment.boxes, alignment.together)
    ]
    totals = [NOTHING] * len(pairs)
    failures: dict[int, str] = {}
    size = sum(pair.stored_bytes for pair in pairs)
    for task, sums in zip(tasks, results(_Worker(tasks), len(tasks), size, workers), strict=True):
        index, alignment, first = task
        if isinstance(sums, str):
            failures.setdefault(index, sums)
        else:
            totals[index] = together((totals[index], sums))
        last = min(first + alignment.together, alignment.boxes)
        done = [pairs[index].stored_bytes * boxes // alignment.boxes for boxes in (first, last)]
        progress(done[1] - done[0])
    return [
        alignment if isinstance(alignment, str) else failures.get(index) or _repeated(totals[index], alignment)
        for index, alignment in enumerate(alignments)
    ]


def _aligned(pair: Pair) -> Alignment | str:
    if any(tensor.dtype.kind == "complex" for tensor in (pair.before, pair.after)):
        return COMPLEX
    return align(pair.before, pair.after, pair.order)


def _repeated(sums: PairMoments, alignment: Alignment) -> PairMoments:
    """The sums with each pair of elements counted as often as both tensors show it."""
    if alignment.repeats == 1:
        return sums
    times = Scaled(float(alignment.repeats))
    counts = (alignment.before.elements, sums.paired * alignment.repeats)
    return PairMoments(*counts, sums.before * times, sums.after * times, sums.product * times, sums.distance * times)


class _Worker:
    """Works out tasks by their number; each thread that calls it has its own memory."""

    def __init__(self, tasks: Sequence[tuple[int, Alignment, int]]) -> None:
        self.tasks = tasks
        self.local = threading.local()

    def __call__(self, number: int) -> PairMoments | str:
        if not hasattr(self.local, "workspace"):
            self.local.workspace = _Workspace()
        _, alignment, first = self.tasks[number]
        return _task_sums(alignment, first, self.local.workspace)


_ROW = 512
"""Elements that are summed in float32 before float64 takes over: see `weightstats.moments`."""

_FAST_ELEMENTS = 1 << 12
"""Blocks smaller than this are worked out in float64 throughout."""

_LARGEST_ROW: dict[str, float] = {"float32": 1e9, "float64": 1e290}
"""Largest sum of squares of a row that a fast sum is taken for: no product has overflown, and no element is other than
finite, whether or not its dtype's `restore` has been called."""

_SMALLEST_SUM: dict[str, float] = {"float32": 1e-20, "float64": 1e-250}
"""Smallest sum of squares of a block to which products that underflow add nothing."""


class _Workspace:
    """One thread's reused memory."""

    __slots__ = ("difference", "rows")

    def __init__(self) -> None:
        self.difference = aligned_bytes(BLOCK_ELEMENTS * 8)
        self.rows = aligned_bytes(4 * BLOCK_ELEMENTS // _ROW * 8)


def _task_sums(alignment: Alignment, first: int, workspace: _Workspace) -> PairMoments | str:
    """The sums over some boxes, or why they could not be read."""
    total = NOTHING
    try:
        with np.errstate(all="ignore"):
            before = Regions(alignment.before, held=alignment.held == "before")
            after = Regions(alignment.after, held=alignment.held == "after")
            steps = [axis.before for axis in alignment.axes], [axis.after for axis in alignment.axes]
            for number in range(first, min(first + alignment.together, alignment.boxes)):
                box = alignment.box(number)
                if box.elements:
                    a = before.read(box.before, box.sizes, steps[0])
                    b = after.read(box.after, box.sizes, steps[1])
                    total = together((total, *_block_sums(a, b, alignment, workspace)))
    except CheckpointError as error:
        return str(error)
    return total


def _block_sums(a: Floats, b: Floats, alignment: Alignment, workspace: _Workspace) -> Iterator[PairMoments]:
    """The sums over the elements of a box, a block at a time."""
    for start in range(0, a.size, BLOCK_ELEMENTS):
        one, other = a[start : start + BLOCK_ELEMENTS], b[start : start + BLOCK_ELEMENTS]
        if one.dtype != other.dtype:
            one = alignment.before.dtype.restore(one).astype(np.float64)
            other = alignment.after.dtype.restore(other).astype(np.float64)
        whole = one.size // _ROW * _ROW if one.size >= _FAST_ELEMENTS else 0
        sums = _fast_sums(one[:whole], other[:whole], workspace) if whole else None
        if sums is not None:
            yield sums
            one, other = one[whole:], other[whole:]
        if one.size:
            yield _careful_sums(alignment.before.dtype.restore(one), alignment.after.dtype.restore(other))


def _fast_sums(a: Floats, b: Floats, workspace: _Workspace) -> PairMoments | None:
    """The sums over whole rows from products in their own type; None where those would not be exact enough: other than
    finite elements, extreme scales."""
    difference: Floats = workspace.difference.view(a.dtype)[: a.size]
    np.subtract(b, a, out=difference)
    parts = [part.reshape(-1, _ROW) for part in (a, b, difference)]
    sums = workspace.rows.view(a.dtype)[: 4 * (a.size // _ROW)].reshape(4, -1)
    for place, (one, other) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1))):
        np.vecdot(parts[one], parts[other], out=sums[place])
    if not float(np.maximum.reduce(sums[:3], axis=None)) <= _LARGEST_ROW[a.dtype.name]:  # NaN is not
        return None
    squares = [float(total) for total in np.add.reduce(sums, axis=1, dtype=np.float64)]
    for total, part in zip(squares, parts, strict=False):
        if total < _SMALLEST_SUM[a.dtype.name] and (total > 0.0 or part.any()):
            return None
    return PairMoments(a.size, a.size, *(Scaled(squares[place]) for place in (0, 1, 3, 2)))


def _careful_sums(a: Floats, b: Floats) -> PairMoments:
    """The sums in float64 of any two blocks."""
    is_finite = np.isfinite(a) & np.isfinite(b)
    elements = a.size
    if not is_finite.all():
        a, b = a[is_finite], b[is_finite]
    if a.size == 0:
        return PairMoments(elements, 0, Scaled(), Scaled(), Scaled(), Scaled())
    one, other = a.astype(np.float64), b.astype(np.float64)
    (one, first), (other, second) = _normal(one), _normal(other)
    common = max(first, second)
    difference, more = _normal(np.ldexp(other, second - common) - np.ldexp(one, first - common))
    return PairMoments(
        elements,
        a.size,
        Scaled(_dot(one, one), 2 * first),
        Scaled(_dot(other, other), 2 * second),
        Scaled(_dot(one, other), first + second),
        Scaled(_dot(difference, difference), 2 * (common + more)),
    )


def _normal(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """The numbers over a power of two that leaves the largest of them below 1, and its exponent; exact but for what
    underflows, which adds nothing to a sum of squares."""
    largest = float(np.maximum.reduce(np.abs(numbers)))
    exponent = math.frexp(largest)[1]
    return np.ldexp(numbers, -exponent) if exponent else numbers, exponent


def _dot(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.einsum("i,i->", one, other))
