"""A layer drawn by each initialiser that could have drawn it, and how much room all of them leave a mean square."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from weightstats.initialisers import DISTRIBUTIONS, INITIALISERS, NORMAL, ORTHOGONAL_GAINS, Distribution, Drawn

LEVEL = 1e-4
"""The share of fresh layers that a hypothesis which holds is excluded for: one layer in thirty networks of three
hundred."""

TAIL = LEVEL / 8
"""The same for each side of each of the four tests: mean square, kurtosis, mean, largest weight."""

Z = 4.2149
"""The standard normal quantile that TAIL lies beyond."""

HARDLY = 0.1
"""By how much of an initialiser's bound the largest weight may exceed it in a layer that has hardly moved."""

REACH = 6.0
"""Over how many factors of e the mean squares of trained layers spread, at a given fan sum: no stretch of one factor of
e held more than a sixth of 4,393 layers of published networks."""

COARSEST = 2.0**-8
"""Relative rounding that is allowed for in any file: what it holds may have been through one of 16 bits."""

FEWEST_ORTHOGONAL = 4096
"""Elements of an orthogonal matrix: columns of unit length, which some layers are trained with, have its mean square,
so that the kurtosis must say something."""


class Hypothesis(NamedTuple):
    """A layer drawn by one initialiser; a tuple, since every shape of a network has some sixty."""

    mean_square: float
    name: str
    distribution: Distribution
    interval: tuple[float, float]
    """What the mean square over this one lies within but for twice TAIL; without rounding."""

    excess_kurtosis: float
    fewest: int = 0
    """Elements below which an interval of no width is not to be trusted."""


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """All those of one layer, by rising mean square."""

    all: tuple[Hypothesis, ...]
    mean_squares: tuple[float, ...]

    def between(self, low: float, high: float) -> tuple[Hypothesis, ...]:
        """Those of such mean squares."""
        return self.all[bisect_left(self.mean_squares, low) : bisect_right(self.mean_squares, high)]

    def nearest(self, mean_square: float) -> tuple[Hypothesis, ...]:
        """Those whose mean square is the nearest, by its ratio."""
        place = bisect_left(self.mean_squares, mean_square)
        around = self.mean_squares[max(0, place - 1) : place + 1]
        nearest = min(around, key=lambda other: max(other / mean_square, mean_square / other))
        return self.between(nearest * (1 - 1e-9), nearest * (1 + 1e-9))


@lru_cache(256)  # layers of one shape are many
def hypotheses(drawn: Drawn) -> Hypotheses:
    """What each initialiser would have made of the layer."""
    intervals = {
        distribution.name: ratio_interval(2 * drawn.elements / (distribution.excess_kurtosis + 2))
        for distribution in DISTRIBUTIONS
    }
    found: dict[tuple[str, float], Hypothesis] = {}
    for initialiser in INITIALISERS:
        if drawn.family in initialiser.families:
            name, distribution = initialiser.name, initialiser.distribution
            interval, kurtosis = intervals[distribution.name], distribution.excess_kurtosis
            for law in filter(None, initialiser.laws(drawn)):  # 0.0 where fans are beyond what float64 can hold
                found[name, law] = Hypothesis(law, name, distribution, interval, kurtosis)
    every = sorted((*found.values(), *_orthogonal(drawn)), key=lambda one: one.mean_square)
    return Hypotheses(tuple(every), tuple([one.mean_square for one in every]))


def _orthogonal(drawn: Drawn) -> Iterable[Hypothesis]:
    """A matrix with orthonormal rows or columns, or a block of one.

    The sum of squares of a block of r·c in a random orthogonal matrix of n·n has a variance of
    2·r·c·(n - r)·(n - c)/(n²·(n - 1)·(n + 2)), and its elements an excess kurtosis of -6/(n + 2): they are coordinates
    on a sphere.
    """
    if drawn.family == "embedding":
        return
    for matrix in drawn.matrices:
        size, rows, columns = max(matrix.rows, matrix.columns), matrix.block_rows, matrix.block_columns
        free = (size - rows) * (size - columns)
        interval = ratio_interval(rows * columns * (size - 1) * (size + 2) / free) if free else (1.0, 1.0)
        for name, gain in ORTHOGONAL_GAINS.items():
            fewest = 0 if free else FEWEST_ORTHOGONAL
            yield Hypothesis(gain**2 / size, name, NORMAL, interval, -6 / (size + 2), fewest)


def ratio_interval(degrees: float) -> tuple[float, float]:
    """What chi² over its degrees of freedom lies within but for twice TAIL, by the cube root of Wilson and Hilferty
    (1931, doi:10.1073/pnas.17.12.684).

    A mean of N squares over its expectation has the same variance, 2/degrees, where degrees is 2N/(kurtosis + 2) with
    the excess kurtosis.
    """
    variance = 2 / (9 * degrees)
    return max(0.0, 1 - variance - Z * math.sqrt(variance)) ** 3, (1 - variance + Z * math.sqrt(variance)) ** 3


@lru_cache(256)
def covered(drawn: Drawn, distribution: Distribution, slack: float) -> float:
    """Which share of REACH a mean square may lie in without excluding all initialisers of this distribution.

    Where there is a bound, the largest weight leaves less room than the mean square does; `slack` is what it may exceed
    it by.
    """
    least = _least_peak(distribution, drawn.elements)
    room = 2 * math.log(distribution.peak * (1 + slack + 2 * COARSEST) / least) if least > 0.0 else math.inf
    total, end = 0.0, -math.inf
    for one in hypotheses(drawn).all:  # all intervals have one width, so that they end in the order in which they start
        if one.distribution is distribution and not one.fewest:
            low, high = one.interval
            half = min(math.log(high / max(low, 1e-9)), room) / 2
            middle = math.log(one.mean_square)
            total += max(0.0, middle + half - max(middle - half, end))
            end = max(end, middle + half)
    return total / REACH


def _least_peak(distribution: Distribution, elements: int) -> float:
    """In root mean squares, what the largest of so many exceeds but for TAIL; 0 where there is no bound."""
    if math.isinf(distribution.peak):
        return 0.0
    low, high, beyond = 0.0, distribution.peak, -math.expm1(math.log(TAIL) / elements)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if distribution.share_beyond(middle) > beyond else (low, middle)
    return low
