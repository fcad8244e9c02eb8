"""Estimates with intervals from layers of which several have one shape, and which are then not independent.

The layers of one shape are a cluster. A slope is that of a meta-regression over the shapes: the mean of each is one
observation, with the variance tau² + sigma²/n for its n layers, so that a shape of a hundred layers weighs a hundred
times a single one where layers scatter on their own, and no more than it where shapes do. A mean is that over layers,
with an error that is robust to clusters. `docs/calibration.md` compares these with others by simulation.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Interval: TypeAlias = tuple[float, float]
Floats: TypeAlias = NDArray[np.float64]

UNKNOWN: Interval = (math.nan, math.nan)

CONFIDENCE = 0.95

ROUNDING = 1e-6
"""What the logarithm of a mean square may be off by where weights are stored in float32."""

_BISECTIONS = 50


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with what it may be off by."""

    value: float
    interval: Interval
    """Two-sided; (NaN, NaN) where there is nothing to estimate it from."""

    degrees: float
    """Degrees of freedom of Student's t in the interval; NaN without one."""


NONE = Estimate(math.nan, UNKNOWN, math.nan)


@dataclass(frozen=True, slots=True)
class Clusters:
    """Values summed up by cluster."""

    first: NDArray[np.int64]
    """The index of a member, in the order in which the clusters come."""

    member_of: NDArray[np.int64]
    counts: Floats
    means: Floats
    """Of the values, by cluster."""

    squares_within: Floats
    """Sum of squares about the cluster's mean, by cluster."""

    @property
    def spread_within(self) -> float:
        """Pooled variance within clusters; 0 where every cluster has one member."""
        free = float(np.sum(self.counts)) - len(self.counts)
        return float(np.sum(self.squares_within)) / free if free > 0 else 0.0


def clusters_of(keys: Sequence[Hashable], values: Floats) -> Clusters:
    """The values by equal keys; no cluster for no values."""
    numbers: dict[Hashable, int] = {}
    member_of = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    count = len(numbers)
    counts: Floats = np.bincount(member_of, minlength=count).astype(np.float64)
    means: Floats = np.bincount(member_of, values, minlength=count) / np.maximum(counts, 1.0)
    within: Floats = np.bincount(member_of, (values - means[member_of]) ** 2, minlength=count).astype(np.float64)
    first: NDArray[np.int64] = np.full(count, len(keys), np.int64)
    np.minimum.at(first, member_of, np.arange(len(keys)))
    return Clusters(first, member_of, counts, means, within)


@dataclass(frozen=True, slots=True)
class Regressions:
    """Coefficients of means on regressors, one row for each subset of the clusters that was asked for."""

    coefficients: Floats
    """(subsets, regressors)."""

    errors: Floats
    """Their standard errors, of the same shape."""

    degrees: Floats
    """Of freedom, by subset: clusters less regressors; the coefficients are NaN where it is less than 1."""

    between: Floats
    """tau², the variance between clusters beyond that within, by subset."""

    def estimate(self, regressor: int, confidence: float = CONFIDENCE, subset: int = 0) -> Estimate:
        """A coefficient with its interval."""
        value, error = float(self.coefficients[subset, regressor]), float(self.errors[subset, regressor])
        degrees = float(self.degrees[subset])
        if not (degrees >= 1 and math.isfinite(value)):
            return NONE
        half = student(degrees, confidence) * error
        return Estimate(value, (value - half, value + half), degrees)


def regressions(regressors: Floats, clusters: Clusters, subsets: NDArray[np.bool_] | None = None) -> Regressions:
    """Meta-regression of the clusters' means on `regressors`, (clusters, p), for each row of `subsets`, (subsets,
    clusters), or for all of the clusters.

    Weights are 1/(tau² + sigma²/n): sigma² is pooled within clusters, tau² makes the weighted sum of squares about the
    line equal its degrees of freedom, or is 0 (Paule & Mandel 1982, doi:10.6028/jres.087.022). The error of a
    coefficient is scaled by that sum of squares over its degrees of freedom (Knapp & Hartung 2003,
    doi:10.1002/sim.1482). Where every cluster has one member this is ordinary least squares with Student's t.
    """
    count, width = regressors.shape
    masks = np.ones((1, count)) if subsets is None else subsets.astype(np.float64)
    degrees = masks.sum(axis=1) - width
    free = masks @ (clusters.counts - 1.0)
    within = np.where(free > 0, masks @ clusters.squares_within / np.maximum(free, 1.0), 0.0)
    noise = np.maximum(within[:, None], ROUNDING**2) / clusters.counts
    noise = np.where(free[:, None] > 0, noise, 1.0)  # without repeats all clusters weigh the same
    usable = degrees >= 1
    tau = np.zeros(len(masks))
    searched = usable & (free > 0)
    if searched.any():
        tau[searched] = _between(regressors, clusters.means, masks[searched], noise[searched], degrees[searched])
    coefficients, inverse, rest = _weighted(regressors, clusters.means, masks / (tau[:, None] + noise))
    scale = rest / np.maximum(degrees, 1.0)
    errors = np.sqrt(np.maximum(np.diagonal(inverse, axis1=1, axis2=2) * scale[:, None], 0.0))
    bad = ~usable | ~np.isfinite(errors).all(axis=1)
    coefficients[bad] = errors[bad] = math.nan
    return Regressions(coefficients, errors, np.where(bad, math.nan, degrees), tau)


def _between(regressors: Floats, means: Floats, masks: Floats, noise: Floats, degrees: Floats) -> Floats:
    """Paule and Mandel's tau² for each subset, by bisection: the sum of squares falls as tau² grows."""

    def excess(tau: Floats) -> Floats:
        left: Floats = _weighted(regressors, means, masks / (tau[:, None] + noise))[2] - degrees
        return left

    low = np.zeros(len(masks))
    high = np.full(len(masks), 4.0 * float(np.ptp(means)) ** 2 * means.size + 1e-300)
    none = excess(low) <= 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = excess(middle) > 0.0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(none, 0.0, (low + high) / 2)


def _weighted(regressors: Floats, means: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Weighted least squares for each row of weights: coefficients, inverse of X'WX, weighted sum of squares."""
    crossed = np.einsum("bg,gi,gj->bij", weights, regressors, regressors)
    inverse = np.linalg.pinv(crossed, hermitian=True)
    coefficients = np.einsum("bij,bj->bi", inverse, (weights * means) @ regressors)
    rest = np.sum(weights * (means - coefficients @ regressors.T) ** 2, axis=1)
    return coefficients, inverse, rest


def mean_by_cluster(values: Floats, clusters: Clusters) -> Estimate:
    """The mean of all values, with an interval that is robust to clusters.

    CR2 (Bell & McCaffrey 2002, Survey Methodology 28:169): the sums of residuals by cluster, each corrected for the
    part that the mean takes of it, with Satterthwaite's degrees of freedom. For clusters of one member this is the
    ordinary interval with n - 1 degrees; for a single cluster there is none.
    """
    count = len(values)
    if count == 0:
        return NONE
    mean = float(np.mean(values))
    parts = clusters.counts / count
    if len(parts) < 2:
        return Estimate(mean, UNKNOWN, math.nan)
    sums = clusters.counts * (clusters.means - mean)
    variance = float(np.sum(sums**2 / (1.0 - parts))) / count**2
    # of the working model's covariance of the corrected sums, diag(own) - reach·reach'/n: its trace and its square's
    own, reach = clusters.counts / (1.0 - parts), clusters.counts / np.sqrt(1.0 - parts)
    shared = float(np.sum(reach**2)) / count
    squares = float(np.sum(own**2)) - 2.0 * float(np.sum(own * reach**2)) / count + shared**2
    degrees = (float(np.sum(own)) - shared) ** 2 / squares
    half = student(degrees) * math.sqrt(variance)
    return Estimate(mean, (mean - half, mean + half), degrees)


def slope_by_cluster(x: Floats, values: Floats, member_of: NDArray[np.int64]) -> Estimate:
    """The slope of least squares over all values, with an interval that is robust to clusters of any kind.

    CR2 with Satterthwaite's degrees of freedom: Bell & McCaffrey 2002; Pustejovsky & Tipton 2018,
    doi:10.1080/07350015.2016.1247004.
    """
    design = np.column_stack([np.ones(len(x)), x - np.mean(x)])
    spread = float(np.dot(design[:, 1], design[:, 1]))
    if spread <= 0.0:
        return NONE
    inverse = np.diag([1.0 / len(x), 1.0 / spread])
    slope = float(np.dot(design[:, 1], values)) / spread
    residuals = values - np.mean(values) - slope * design[:, 1]
    weights = design[:, 1] / spread
    order = np.argsort(member_of, kind="stable")
    edges = np.flatnonzero(np.diff(member_of[order], prepend=-1, append=-2))
    squares, reaches, variance = [], [], 0.0
    for start, end in pairwise(edges):
        members = order[start:end]
        adjusted = _adjusted(weights[members], design[members] * np.sqrt(np.diag(inverse)))
        variance += float(np.dot(adjusted, residuals[members])) ** 2
        squares.append(float(np.dot(adjusted, adjusted)))
        reaches.append(adjusted @ design[members])
    # of the working model's covariance of the corrected sums, diag(own) - reach·inverse·reach'
    own, reach = np.array(squares), np.array(reaches)
    lost = np.sum(reach @ inverse * reach, axis=1)
    crossed = inverse @ (reach.T @ reach)
    trace = float(np.sum(own - lost))
    total = float(np.sum(own**2) - 2.0 * np.sum(own * lost) + np.trace(crossed @ crossed))
    if len(squares) < 2 or total <= 0.0 or trace * spread <= 1e-9:  # the clusters' own sums are all that there is
        return Estimate(slope, UNKNOWN, math.nan)
    degrees = trace**2 / total
    half = student(degrees) * math.sqrt(variance)
    return Estimate(slope, (slope - half, slope + half), degrees)


def _adjusted(weights: Floats, rows: Floats) -> Floats:
    """(I - H)^(-1/2) of one cluster times its weights, where H = rows·rows'; what H takes wholly is left out."""
    basis, singular, _ = np.linalg.svd(rows, full_matrices=False)
    left = 1.0 - singular**2
    factor = np.where(left > 1e-10, 1.0 / np.sqrt(np.maximum(left, 1e-300)), 0.0)
    result: Floats = weights + basis @ ((factor - 1.0) * (basis.T @ weights))
    return result


def differ_by(keys: Sequence[Hashable], x: Floats, means: Floats) -> float:
    """The p-value of an F test that values with different keys have offsets of their own, beside a common line on x;
    1 where there are too few to tell."""
    groups = clusters_of(keys, means)
    lines = clusters_of(keys, x)
    count = len(means)
    whole_x, whole_y = x - np.mean(x), means - np.mean(means)
    own_x, own_y = x - lines.means[lines.member_of], means - groups.means[groups.member_of]
    without, used = _rest(whole_x, whole_y)
    with_groups, used_within = _rest(own_x, own_y)
    extra, free = len(groups.counts) + used_within - 1 - used, count - len(groups.counts) - used_within
    if extra < 1 or free < 1:
        return 1.0
    if with_groups <= count * ROUNDING**2:
        return 0.0 if without > count * ROUNDING**2 else 1.0
    from scipy.special import fdtrc  # not at the top: 0.2 s

    return float(fdtrc(extra, free, max(0.0, without - with_groups) / extra / (with_groups / free)))


def _rest(x: Floats, y: Floats) -> tuple[float, int]:
    """Sum of squares of y that a slope on x leaves, and how many coefficients that takes."""
    spread = float(np.dot(x, x))
    if spread <= 1e-12 * max(1, len(x)):
        return float(np.dot(y, y)), 0
    return float(np.dot(y, y)) - float(np.dot(x, y)) ** 2 / spread, 1


def student(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Student's t that the central part `confidence` lies within."""
    from scipy.special import stdtrit  # not at the top: 0.2 s

    return float(stdtrit(degrees, 0.5 + confidence / 2))


def prepare() -> None:
    """Import what an interval needs, which takes 0.2 s: well spent while other processes read the weights."""
    import scipy.special  # noqa: F401
