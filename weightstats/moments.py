"""The statistics of a tensor's elements, in one pass over blocks of bounded size."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weightstats.dtypes import Floats
from weightstats.errors import CheckpointError
from weightstats.tensors import BLOCK_ELEMENTS, Buffers, Section, Tensor, aligned_bytes
from weightstats.workers import default_workers, results


@dataclass(frozen=True, slots=True)
class Moments:
    """Statistics over the finite elements of one tensor; NaN where there are none.

    For complex elements they are those of the magnitudes.
    """

    elements: int
    """Finite or not; an expanded view counts each element as often as it shows it."""

    nonfinite: int
    """NaN and infinities."""

    zeros: int
    mean: float
    mean_square: float
    """Sum of squares over the number of finite elements; infinite or 0 where float64 cannot hold it."""

    sum_of_squares: float
    """0 where no element is finite."""

    max_abs: float
    excess_kurtosis: float
    """0 for a normal distribution, -1.2 for a uniform one; NaN where the spread is 0."""


@dataclass(frozen=True, slots=True)
class _Sums:
    """Central power sums of elements divided by 2**exponent."""

    count: int
    nonfinite: int
    zeros: int
    max_abs: float
    exponent: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0


_NONE = _Sums(count=0, nonfinite=0, zeros=0, max_abs=0.0)

_ROW = 512
"""Elements that are summed in float32, by BLAS and in many lanes, before float64 takes over: a row's sum of squares is
within about 1e-7, and the errors of a block's rows average out."""

_FAST_ELEMENTS = 1 << 15
"""Blocks smaller than this, or not whole rows, are worked out in float64 throughout."""

_FAST_SQUARES = (1e-8, 1e8)
"""Largest square in a block for which the fourth powers in float32 neither overflow nor lose the total, and every
element is finite whether or not its dtype's `restore` has been called."""

_CAST_ELEMENTS = 4096
"""Elements that numpy converts at a time where a dtype is widened: its default leaves the first-level cache."""


def measure(
    tensors: Sequence[Tensor],
    *,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Moments | str]:
    """The moments of each tensor, or the reason why its bytes could not be read.

    `progress` is called in this thread with the number of bytes that have just been dealt with. The result does not
    depend on the number of workers: sections are cut and put together in the same way for any.
    """
    workers = default_workers() if workers is None else workers
    plan = [(index, section) for index, tensor in enumerate(tensors) for section in tensor.sections()]
    totals = [_NONE] * len(tensors)
    failures: dict[int, str] = {}
    worker, size = _Worker([section for _, section in plan]), sum(section.bytes for _, section in plan)
    for (index, section), sums in zip(plan, results(worker, len(plan), size, workers), strict=True):
        if isinstance(sums, str):
            failures.setdefault(index, sums)
        else:
            totals[index] = _merged(totals[index], sums)
        progress(section.bytes)
    return [
        failures[index] if index in failures else _moments(totals[index], tensor)
        for index, tensor in enumerate(tensors)
    ]


class _Worker:
    """Works out sections by their number; each thread that calls it has its own memory."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self.sections = sections
        self.local = threading.local()

    def __call__(self, number: int) -> _Sums | str:
        if not hasattr(self.local, "workspace"):
            self.local.workspace = _Workspace()
        return _section_sums(self.sections[number], self.local.workspace)


class _Workspace:
    """One thread's reused memory."""

    __slots__ = ("buffers", "ones", "rows", "squares")

    def __init__(self) -> None:
        self.buffers = Buffers()
        self.squares = aligned_bytes(BLOCK_ELEMENTS * 4).view(np.float32)
        self.ones = np.ones(_ROW, np.float32)
        self.rows = np.empty((4, BLOCK_ELEMENTS // _ROW), np.float32)


def _section_sums(section: Section, workspace: _Workspace) -> _Sums | str:
    sums = _NONE
    powers, count, largest, zeros = np.zeros(4), 0, 0.0, 0
    try:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            np.setbufsize(_CAST_ELEMENTS)  # until errstate's end
            for block in section.blocks(workspace.buffers, restored=False):
                fast = _fast_powers(block, workspace)
                if fast is None:
                    sums = _merged(sums, _careful_sums(section.tensor.dtype.restore(block)))
                    continue
                powers += fast[0]
                largest = max(largest, fast[1])
                zeros += fast[2]
                count += block.size
    except CheckpointError as error:
        return error.problem
    # the root of a rounded square, rounded to float32 too, is the element itself
    return _merged(_centred(powers, count, float(np.sqrt(np.float32(largest))), zeros), sums) if count else sums


def _fast_powers(block: Floats, workspace: _Workspace) -> tuple[NDArray[np.float64], float, int] | None:
    """Sums of the first four powers, the largest square and the number of zeros, from products in float32.

    None where that would not be exact enough: a small block, non-finite elements, an extreme scale, or a mean so far
    from 0 that the central moments would be small differences of large sums.
    """
    if block.dtype != np.float32 or block.size < _FAST_ELEMENTS or block.size % _ROW:
        return None
    squares = workspace.squares[: block.size]
    np.multiply(block, block, out=squares)
    largest = float(np.maximum.reduce(squares))
    if not _FAST_SQUARES[0] <= largest <= _FAST_SQUARES[1]:
        return None
    rows, row_squares = block.reshape(-1, _ROW), squares.reshape(-1, _ROW)
    sums = workspace.rows[:, : rows.shape[0]]
    np.vecdot(rows, workspace.ones, out=sums[0])
    np.vecdot(rows, rows, out=sums[1])
    np.vecdot(rows, row_squares, out=sums[2])
    np.vecdot(row_squares, row_squares, out=sums[3])
    powers: NDArray[np.float64] = np.add.reduce(sums, axis=1, dtype=np.float64)
    if powers[0] ** 2 > 0.5 * powers[1] * block.size:
        return None
    # counting True is several times faster than counting floats
    zeros = 0 if np.minimum.reduce(squares) > 0.0 else int(np.count_nonzero(block == 0.0))
    return powers, largest, zeros


def _centred(powers: NDArray[np.float64], count: int, max_abs: float, zeros: int) -> _Sums:
    """Central power sums from those about 0."""
    s1, s2, s3, s4 = (float(power) for power in powers)
    mean = s1 / count
    return _Sums(
        count=count,
        nonfinite=0,
        zeros=zeros,
        max_abs=max_abs,
        mean=mean,
        m2=s2 - mean * s1,
        m3=s3 - 3 * mean * s2 + 2 * mean**2 * s1,
        m4=s4 - 4 * mean * s3 + 6 * mean**2 * s2 - 3 * mean**3 * s1,
    )


def _careful_sums(block: Floats) -> _Sums:
    """Power sums in float64 of any block: other than finite elements, extreme scales, means far from 0."""
    is_finite = np.isfinite(block)
    finite = block if is_finite.all() else block[is_finite]
    if finite.size == 0:
        return replace(_NONE, nonfinite=block.size)
    high, low = float(np.maximum.reduce(finite)), float(np.minimum.reduce(finite))
    largest = max(high, -low)
    exponent = math.frexp(largest)[1] if largest > 0.0 else 0
    scaled = _scaled(finite, -exponent)
    mean = float(np.add.reduce(scaled)) / scaled.size if low != high else float(scaled[0])
    scaled -= mean
    squares = scaled * scaled
    return _Sums(
        count=finite.size,
        nonfinite=block.size - finite.size,
        zeros=int(np.count_nonzero(finite == 0.0)),
        max_abs=largest,
        exponent=exponent,
        mean=mean,
        m2=float(np.add.reduce(squares)),
        m3=float(np.einsum("i,i->", squares, scaled)),
        m4=float(np.einsum("i,i->", squares, squares)),
    )


def _scaled(finite: Floats, exponent: int) -> NDArray[np.float64]:
    """A float64 copy times 2**exponent, exact but for what underflows."""
    if abs(exponent) < 1000:  # the power itself is a normal float64; ldexp is several times slower than a product
        return np.multiply(finite, 2.0**exponent, dtype=np.float64)
    return np.ldexp(finite.astype(np.float64), exponent)


def _rescaled(sums: _Sums, exponent: int) -> _Sums:
    shift = sums.exponent - exponent
    return replace(
        sums,
        exponent=exponent,
        mean=math.ldexp(sums.mean, shift),
        m2=math.ldexp(sums.m2, 2 * shift),
        m3=math.ldexp(sums.m3, 3 * shift),
        m4=math.ldexp(sums.m4, 4 * shift),
    )


def _merged(a: _Sums, b: _Sums) -> _Sums:
    """The sums of both together: Pébay, Sandia report SAND2008-6212, equations 2.1 and 3.1."""
    nonfinite, zeros, max_abs = a.nonfinite + b.nonfinite, a.zeros + b.zeros, max(a.max_abs, b.max_abs)
    if a.count == 0 or b.count == 0:
        return replace(a if a.count else b, nonfinite=nonfinite, zeros=zeros, max_abs=max_abs)
    if a.exponent != b.exponent:
        exponent = max((sums.exponent for sums in (a, b) if sums.max_abs > 0.0), default=0)
        a, b = _rescaled(a, exponent), _rescaled(b, exponent)
    count = a.count + b.count
    part_a, part_b = a.count / count, b.count / count
    delta = b.mean - a.mean
    cross = delta * delta * a.count * part_b
    return _Sums(
        count,
        nonfinite,
        zeros,
        max_abs,
        a.exponent,
        mean=a.mean + delta * part_b,
        m2=a.m2 + b.m2 + cross,
        m3=a.m3 + b.m3 + cross * delta * (part_a - part_b) + 3 * delta * (part_a * b.m2 - part_b * a.m2),
        m4=a.m4
        + b.m4
        + cross * delta**2 * (part_a**2 - part_a * part_b + part_b**2)
        + 6 * delta**2 * (part_a**2 * b.m2 + part_b**2 * a.m2)
        + 4 * delta * (part_a * b.m3 - part_b * a.m3),
    )


def _moments(sums: _Sums, tensor: Tensor) -> Moments:
    nan = math.nan
    if sums.count == 0:
        return Moments(tensor.elements, sums.nonfinite * tensor.repeats, 0, nan, nan, 0.0, nan, nan)
    scaled_mean_square = sums.m2 / sums.count + sums.mean**2
    return Moments(
        elements=tensor.elements,
        nonfinite=sums.nonfinite * tensor.repeats,
        zeros=sums.zeros * tensor.repeats,
        mean=_ldexp(sums.mean, sums.exponent),
        mean_square=_ldexp(scaled_mean_square, 2 * sums.exponent),
        sum_of_squares=_ldexp(scaled_mean_square * sums.count * tensor.repeats, 2 * sums.exponent),
        max_abs=sums.max_abs,
        excess_kurtosis=sums.count * sums.m4 / sums.m2**2 - 3.0 if sums.m2 > 0.0 else nan,
    )


def _ldexp(value: float, exponent: int) -> float:
    """math.ldexp that gives infinity instead of an error."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)
