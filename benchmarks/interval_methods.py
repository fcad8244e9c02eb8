"""Ways to an interval for the exponent, each for many checkpoints with the same layers at once.

Each takes a `Design` and ln of the mean squares, (layers, simulations), and returns `Found`: slopes on ln(n_in+n_out).
An interval that is not symmetric, of the bootstrap and of Theil and Sen, is given by its middle and half its width.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from many_fits import Design, Found, cluster_robust, many_fits, means_by, robust, student
from scatter_kinds import Floats
from scipy.stats import theilslopes

RESAMPLES = 399
"""Of the bootstrap. The same resamples of the layers' shapes serve all simulations."""

SEED = 20_251_122
"""Of the resamples."""

HUBER = 1.345
"""Standard deviations beyond which Huber's weights fall: 95 % efficient for normal errors."""

_ROUNDS = 40
"""Of reweighting."""

_NORMAL = 0.6745
"""The median of the size of a standard normal variable."""


def _line(x: Floats) -> Floats:
    return np.column_stack([np.ones(len(x)), x - x.mean()])


def _alone(design: Design) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.arange(len(design.x))


def least_squares(design: Design, values: Floats) -> Found:
    """Ordinary least squares over layers, taken for independent."""
    return _ordinary(design.x, values)


def on_shape_means(design: Design, values: Floats) -> Found:
    """Ordinary least squares over the means of the shapes, all of one weight."""
    return _ordinary(design.x[design.firsts(design.shape)], means_by(design.shape, values))


def _ordinary(x: Floats, values: Floats) -> Found:
    count, about = len(x), x - x.mean()
    spread = float(about @ about)
    slope = about @ values / spread
    rest = np.sum((values - values.mean(axis=0) - about[:, None] * slope) ** 2, axis=0)
    return Found(slope, student(count - 2.0) * np.sqrt(rest / (count - 2.0) / spread))


def heteroscedastic(design: Design, values: Floats) -> Found:
    """Least squares over layers with HC3 (MacKinnon & White 1985, doi:10.1016/0304-4076(85)90158-7), n - 2 degrees."""
    line = _line(design.x)
    parts, _ = cluster_robust(line, 1, _alone(design), -1.0)
    coefficients = np.linalg.pinv(line) @ values
    errors = np.sqrt(np.sum((parts @ (values - line @ coefficients)) ** 2, axis=0))
    return Found(coefficients[1], student(len(line) - 2.0) * errors)


def clustered(design: Design, values: Floats) -> Found:
    """Least squares over layers with CR2 by shape and Satterthwaite's degrees of freedom."""
    return robust(_line(design.x), 1, design.shape, values)


def clustered_more(design: Design, values: Floats) -> Found:
    """Least squares over layers with CR3 by shape and Satterthwaite's degrees of freedom."""
    return robust(_line(design.x), 1, design.shape, values, -1.0)


def bootstrapped(design: Design, values: Floats) -> Found:
    """Least squares over layers, shapes resampled with all of their layers, percentiles 2.5 and 97.5."""
    shapes = int(design.shape.max()) + 1
    drawn = np.random.default_rng(SEED).multinomial(shapes, np.full(shapes, 1.0 / shapes), size=RESAMPLES)
    weights = drawn[:, design.shape].astype(np.float64)
    about = design.x - (weights @ design.x / weights.sum(axis=1))[:, None]
    spread = np.sum(weights * about**2, axis=1)
    usable = spread > 1e-9
    slopes = (weights * about)[usable] @ values / spread[usable, None]
    low, high = np.percentile(slopes, (2.5, 97.5), axis=0)
    return Found((low + high) / 2, (high - low) / 2)


def theil_sen(design: Design, values: Floats) -> Found:
    """The median of the slopes between layers, with Sen's interval (scipy.stats.theilslopes)."""
    ends = np.array([theilslopes(column, design.x, 0.95)[2:] for column in values.T])
    return Found(ends.mean(axis=1), (ends[:, 1] - ends[:, 0]) / 2)


def huber(design: Design, values: Floats) -> Found:
    """Huber's regression over layers, scale by the median of the residuals' sizes, CR2 by shape for its weights."""
    line = _line(design.x)
    weights = np.ones_like(values)
    for _ in range(_ROUNDS):
        intercepts, slopes = _weighted(line[:, 1], values, weights)
        off = values - intercepts - line[:, 1:] * slopes
        scale = np.maximum(np.median(np.abs(off), axis=0) / _NORMAL, 1e-12)
        weights = np.minimum(1.0, HUBER * scale / np.maximum(np.abs(off), 1e-300))
    roots = np.sqrt(weights)
    halves = [
        _robust_once(line * root[:, None], root * rest, design) for root, rest in zip(roots.T, off.T, strict=True)
    ]
    return Found(slopes, np.array(halves))


def _weighted(x: Floats, values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    total = weights.sum(axis=0)
    middle = x @ weights / total
    mean = np.sum(weights * values, axis=0) / total
    about = x[:, None] - middle
    slopes = np.sum(weights * about * values, axis=0) / np.sum(weights * about**2, axis=0)
    return mean - slopes * middle, slopes


def _robust_once(rows: Floats, residuals: Floats, design: Design) -> float:
    """Half the interval of the second coefficient by CR2, as `cluster_robust`, without matrices of (layers, layers)."""
    inverse = np.linalg.inv(rows.T @ rows)
    root = np.linalg.cholesky(inverse)
    of_slope = rows @ inverse[1]
    order = np.argsort(design.shape, kind="stable")
    edges = np.flatnonzero(np.diff(design.shape[order], prepend=-1, append=-2))
    squares, reaches, variance = [], [], 0.0
    for start, end in pairwise(edges):
        members = order[start:end]
        basis, singular, _ = np.linalg.svd(rows[members] @ root, full_matrices=False)
        left = 1.0 - singular**2
        factor = np.where(left > 1e-10, 1.0 / np.sqrt(np.maximum(left, 1e-300)), 0.0)
        adjusted = of_slope[members] + basis @ ((factor - 1.0) * (basis.T @ of_slope[members]))
        variance += float(adjusted @ residuals[members]) ** 2
        squares.append(float(adjusted @ adjusted))
        reaches.append(adjusted @ rows[members])
    reach = np.array(reaches)
    covariance = np.diag(squares) - reach @ inverse @ reach.T
    degrees = float(np.trace(covariance)) ** 2 / float(np.sum(covariance**2))
    return float(student(degrees)) * variance**0.5


def package(design: Design, values: Floats) -> Found:
    """What weightstats reports: meta-regression over shapes, widened where roles differ."""
    return many_fits(design, values).exponent


METHODS: tuple[tuple[str, Callable[[Design, Floats], Found]], ...] = (
    ("least squares", least_squares),
    ("HC3, t(n-2)", heteroscedastic),
    ("CR2 by shape", clustered),
    ("CR3 by shape", clustered_more),
    ("bootstrap of shapes", bootstrapped),
    ("Theil-Sen", theil_sen),
    ("Huber, CR2 by shape", huber),
    ("means of shapes", on_shape_means),
    ("weightstats", package),
)
"""What `docs/calibration.md` compares, by the names that it has there."""
