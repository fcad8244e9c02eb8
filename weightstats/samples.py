"""The statistics of what an initialiser drew, and the tests that a hypothesis must pass."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from weightstats.hypotheses import COARSEST, TAIL, Hypothesis, Z
from weightstats.initialisers import DISTRIBUTIONS, Distribution, Drawn
from weightstats.moments import Moments

PRECISION: dict[str, tuple[float, float]] = {
    "F64": (2.0**-53, 2.0**-1074),
    "F32": (2.0**-24, 2.0**-149),
    "F16": (2.0**-11, 2.0**-24),
    "BF16": (2.0**-8, 2.0**-133),
    "F8_E4M3": (2.0**-4, 2.0**-9),
    "F8_E5M2": (2.0**-3, 2.0**-16),
    "F8_E4M3FNUZ": (2.0**-4, 2.0**-10),
    "F8_E5M2FNUZ": (2.0**-3, 2.0**-17),
}
"""By dtype: the relative rounding at most, and the distance of the smallest numbers."""

CUT = 2.0
"""Where torch's trunc_normal_ cuts unless told otherwise. In timm and before torch 2.13 it sets one element in 2**24 to
minus that: the uniform number that it starts from is then -1, whose inverse error function is infinite."""

MOST_CUT_SQUARE = 0.1
"""The mean square up to which an element at the cut is so far from the others that it can be told and counted."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A layer's statistics over the elements that an initialiser drew. Made by `sample_of`."""

    elements: int
    zeros: int
    mean: float
    mean_square: float
    excess_kurtosis: float
    max_abs: float
    """NaN where it is not one of those that were drawn."""

    step: float
    """What rounding may change an element by: relatively, or in root mean squares."""


def sample_of(drawn: Drawn, moments: Moments, dtype: str) -> Sample:
    """The statistics without an embedding's row of zeros, and without what torch's trunc_normal_ set to its cut.

    `moments` are of finite elements that are not all equal, `dtype` is one of PRECISION.
    """
    count, zeros = drawn.elements, moments.zeros * drawn.elements // moments.elements
    mean, second, largest = moments.mean, moments.mean_square, moments.max_abs
    scale = math.sqrt(second)
    fourth = (moments.excess_kurtosis + 3.0) * (1.0 - (mean / scale) ** 2) ** 2  # about the mean, over second²
    left = count - drawn.outputs
    if drawn.family == "embedding" and zeros >= drawn.outputs and left >= drawn.outputs:  # padding_idx
        mean, second, fourth = mean * count / left, second * count / left, fourth * left / count
        count, zeros = left, zeros - drawn.outputs
    if largest == CUT and second < MOST_CUT_SQUARE:
        distance = CUT + mean
        cut = round((fourth - 3.0) * second**2 * count / distance**4)
        if 0 < cut <= 3 + count / 2**22:
            left = count - cut
            rest = (second * count - cut * CUT**2) / left
            fourth = (fourth * second**2 * count - cut * distance**4) / left / rest**2 if rest > 0.0 else math.nan
            mean, second, count, largest = (mean * count + CUT * cut) / left, rest, left, math.nan
    unit, spacing = PRECISION[dtype]
    step = max(unit, spacing / math.sqrt(second)) if second > 0.0 else math.inf
    return Sample(count, zeros, mean, second, fourth - 3.0, largest, step)


def scores_of(sample: Sample) -> dict[str, float]:
    """The kurtosis as a standard normal number, under each distribution."""
    return {one.name: score(sample, one, one.excess_kurtosis) for one in DISTRIBUTIONS}


def score(sample: Sample, distribution: Distribution, expected: float) -> float:
    """The kurtosis as a standard normal number, where `expected` is expected of many elements.

    Anscombe & Glynn 1983, doi:10.1093/biomet/70.1.227, with the moments that the kurtosis has under the distribution.
    """
    count, difference = sample.elements, sample.excess_kurtosis - expected - distribution.bias / sample.elements
    difference = math.copysign(max(0.0, abs(difference) - 8 * sample.step**2), difference)
    skew = distribution.skew / math.sqrt(count)
    shape = 6 + 8 / skew * (2 / skew + math.sqrt(1 + 4 / skew**2))
    base = 1 + difference / math.sqrt(distribution.variance / count) * math.sqrt(2 / (shape - 4))
    if not base > 0.0:
        return -math.inf
    root: float = ((1 - 2 / shape) / base) ** (1 / 3)
    return (1 - 2 / (9 * shape) - root) / math.sqrt(2 / (9 * shape))


class Failed(IntEnum):
    """The first test that a hypothesis fails, in the order in which they are made."""

    MEAN_SQUARE = 0
    KURTOSIS = 1
    MEAN = 2
    ZEROS = 3
    TOO_LARGE = 4
    TOO_SMALL = 5
    BOUND = 6
    NOTHING = 7


def failed(sample: Sample, one: Hypothesis, scores: Mapping[str, float]) -> Failed:
    """What excludes a hypothesis, if anything does; `scores` are those of the sample.

    Rounding changes mean squares and fourth powers by about the square of the step, and means not at all where it is to
    the nearest; it moves the largest weight by a step at most, and makes small weights 0.
    """
    scale, count, step = math.sqrt(one.mean_square), sample.elements, sample.step
    low, high = one.interval
    rounding = 4 * step**2 + 1e-6 + (1e-5 + 6 * step / math.sqrt(count) if low == high else 0.0)
    if not low - rounding <= sample.mean_square / one.mean_square <= high + rounding:
        return Failed.MEAN_SQUARE
    found = scores[one.distribution.name]
    if one.excess_kurtosis != one.distribution.excess_kurtosis:
        found = score(sample, one.distribution, one.excess_kurtosis)
    if not abs(found) <= Z:
        return Failed.KURTOSIS
    if abs(sample.mean) > (Z / math.sqrt(count) + 2 * min(step, COARSEST)) * scale:
        return Failed.MEAN
    zeros = count * (min(step, COARSEST) + step)
    if sample.zeros > zeros + 5 * math.sqrt(zeros) + 5:
        return Failed.ZEROS
    return _failed_by_largest(sample, one.distribution, sample.max_abs / scale)


def _failed_by_largest(sample: Sample, distribution: Distribution, largest: float) -> Failed:
    """The test of the largest weight, in root mean squares of the hypothesis; NaN passes."""
    peak, lift = distribution.peak, 1 + max(sample.step, COARSEST)
    if largest > peak * lift:
        return Failed.BOUND
    if math.isinf(peak) and sample.elements * distribution.share_beyond(largest / lift) < TAIL:
        return Failed.TOO_LARGE
    beyond = distribution.share_beyond(largest * lift)
    if beyond < 1.0 and sample.elements * math.log1p(-beyond) < math.log(TAIL):
        return Failed.TOO_SMALL
    return Failed.NOTHING


def over_bound(sample: Sample, one: Hypothesis) -> float:
    """By how much of the bound the largest weight exceeds it."""
    return sample.max_abs / math.sqrt(one.mean_square) / one.distribution.peak - 1
