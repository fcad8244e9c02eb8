"""What `fits.fit_law` finds for c/(n_in+n_out), for many checkpoints with the same layers at once.

The same formulas as in `weightstats.estimates`, `contest` and `verdicts`, over arrays of simulations: a hundred to a
thousand times as fast, and equal to `fit_law` to rounding, which `calibration.py` checks on a part of every cell and
`tests/test_calibration.py` on every network.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scatter_kinds import Floats, members
from scipy.special import fdtrc, stdtrit
from simulated_networks import SimulatedNetwork

from weightstats.estimates import ROUNDING
from weightstats.fits import ROLE_LEVEL

BISECTIONS = 50
"""As in `estimates`."""


def student(degrees: Floats | float) -> Floats:
    """Student's t that the central 95 % lie within."""
    half: Floats = np.asarray(stdtrit(degrees, 0.975), np.float64)
    return half


@dataclass(frozen=True, slots=True)
class Found:
    """An estimate in each simulation, with half of its interval's width, NaN where there is none."""

    value: Floats
    half: Floats

    def holds(self, truth: float, slack: float = 0.0) -> NDArray[np.bool_]:
        """Where the interval holds the truth."""
        return np.abs(self.value - truth) <= self.half + slack


@dataclass(frozen=True)
class Design:
    """The layers as arrays."""

    network: SimulatedNetwork

    @cached_property
    def n_in(self) -> Floats:
        """By layer."""
        return np.array([layer.n_in for layer in self.network.layers], np.float64)

    @cached_property
    def n_out(self) -> Floats:
        """By layer."""
        return np.array([layer.n_out for layer in self.network.layers], np.float64)

    @cached_property
    def elements(self) -> Floats:
        """By layer."""
        return np.array([layer.shape[2] for layer in self.network.layers], np.float64)

    @cached_property
    def x(self) -> Floats:
        """ln(n_in+n_out)."""
        x: Floats = np.log(self.n_in + self.n_out)
        return x

    @cached_property
    def shape(self) -> NDArray[np.int64]:
        """The number of each layer's shape."""
        return members([layer.shape for layer in self.network.layers])

    @cached_property
    def role(self) -> NDArray[np.int64]:
        """The number of each layer's role."""
        return members([layer.role for layer in self.network.layers])

    @cached_property
    def cell(self) -> NDArray[np.int64]:
        """The number of each layer's shape and role."""
        return members(list(zip(self.shape.tolist(), self.role.tolist(), strict=True)))

    def firsts(self, member: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first layer of each group."""
        return np.unique(member, return_index=True)[1]


def means_by(member: NDArray[np.int64], values: Floats) -> Floats:
    """(groups, simulations)."""
    counts = np.bincount(member).astype(np.float64)
    order = np.argsort(member, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts[:-1])]).astype(np.int64)
    sums: Floats = np.add.reduceat(values[order], starts, axis=0)
    return sums / counts[:, None]


def meta_regression(x: Floats, member: NDArray[np.int64], values: Floats) -> Found:
    """The slope on x, one value a layer, of the groups' means: `estimates.regressions`."""
    counts = np.bincount(member).astype(np.float64)
    means = means_by(member, values)
    at = x[np.unique(member, return_index=True)[1]]
    groups, layers = len(counts), len(member)
    nothing = np.full(values.shape[1], np.nan)
    if groups < 3 or np.ptp(x) == 0.0:
        return Found(nothing, nothing)
    noise = np.ones((groups, 1))
    if layers > groups:
        within = np.sum((values - means[member]) ** 2, axis=0) / (layers - groups)
        noise = np.maximum(within, ROUNDING**2) / counts[:, None]
    tau = np.zeros(values.shape[1])
    if layers > groups:
        none = _line(at, means, 1.0 / noise)[2] <= groups - 2
        low, high = tau, 4.0 * np.ptp(means, axis=0) ** 2 * groups
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            above = _line(at, means, 1.0 / (middle + noise))[2] > groups - 2
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        tau = np.where(none, 0.0, (low + high) / 2)
    slope, variance, rest = _line(at, means, np.broadcast_to(1.0 / (tau + noise), means.shape))
    return Found(slope, student(groups - 2.0) * np.sqrt(variance * rest / (groups - 2)))


def _line(at: Floats, means: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Slope, its variance for weights that are inverse variances, and the weighted sum of squares about the line."""
    total = weights.sum(axis=0)
    about = at[:, None] - (weights * at[:, None]).sum(axis=0) / total
    heights = means - (weights * means).sum(axis=0) / total
    spread = (weights * about**2).sum(axis=0)
    slope = (weights * about * heights).sum(axis=0) / spread
    return slope, 1.0 / spread, (weights * (heights - slope * about) ** 2).sum(axis=0)


def cluster_robust(design: Floats, place: int, member: NDArray[np.int64], power: float = -0.5) -> tuple[Floats, float]:
    """What turns residuals of least squares on `design`, (layers, p), into the parts of a coefficient's error, (groups,
    layers), and Satterthwaite's degrees of freedom for it; `power` is -1/2 for CR2 and -1 for CR3.

    Bell & McCaffrey 2002, Survey Methodology 28:169; Pustejovsky & Tipton 2018, doi:10.1080/07350015.2016.1247004.
    """
    bread = np.linalg.pinv(design)
    left = np.eye(len(design)) - design @ bread
    groups = int(member.max()) + 1
    parts = np.zeros((groups, len(design)))
    for group in range(groups):
        of = np.flatnonzero(member == group)
        eigen, vectors = np.linalg.eigh(left[np.ix_(of, of)])
        factor = np.where(eigen > 1e-10, np.maximum(eigen, 1e-300) ** power, 0.0)
        parts[group, of] = bread[place, of] @ (vectors * factor) @ vectors.T
    covariance = parts @ left @ parts.T
    total = float(np.sum(covariance**2))
    return parts, float(np.trace(covariance)) ** 2 / total if groups > 1 and total > 1e-18 else float("nan")


def robust(design: Floats, place: int, member: NDArray[np.int64], values: Floats, power: float = -0.5) -> Found:
    """A coefficient of least squares over layers, with the interval that `cluster_robust` makes."""
    coefficients = np.linalg.pinv(design) @ values
    parts, degrees = cluster_robust(design, place, member, power)
    errors = np.sqrt(np.sum((parts @ (values - design @ coefficients)) ** 2, axis=0))
    return Found(coefficients[place], student(degrees) * errors)


def role_values(design: Design, values: Floats) -> Floats:
    """The p-value by which layers of one role share an offset, by simulation: `estimates.differ_by`."""
    firsts = design.firsts(design.cell)
    means, x, role = means_by(design.cell, values), design.x[firsts], design.role[firsts]
    within = x - means_by(role, x[:, None])[role, 0]
    without, used = _rest(x - x.mean(), means - means.mean(axis=0))
    with_roles, used_within = _rest(within, means - means_by(role, means)[role])
    roles = int(role.max()) + 1
    extra, free = roles + used_within - 1 - used, len(x) - roles - used_within
    if extra < 1 or free < 1:
        return np.ones(values.shape[1])
    ratio = np.maximum(0.0, without - with_roles) / extra / (with_roles / free)
    found: Floats = fdtrc(extra, free, ratio)
    return found


def _rest(x: Floats, values: Floats) -> tuple[Floats, int]:
    spread = float(x @ x)
    squares = np.sum(values**2, axis=0)
    if spread <= 1e-12 * max(1, len(x)):
        return squares, 0
    return squares - (x @ values) ** 2 / spread, 1


@dataclass(frozen=True, slots=True)
class ManyFits:
    """What `fit_law` finds, by simulation."""

    by_role: NDArray[np.bool_]
    exponent: Found
    log_constant: Found


def many_fits(design: Design, log_mean_squares: Floats, level: float = ROLE_LEVEL) -> ManyFits:
    """The fits of c/(n_in+n_out) to (layers, simulations); `level` is that of the test of roles."""
    x = design.x
    by_role = role_values(design, log_mean_squares) < level
    line = np.column_stack([np.ones(len(x)), x - x.mean()])
    exponent = meta_regression(x, design.shape, log_mean_squares)
    residuals = log_mean_squares + x[:, None]
    constant = robust(line[:, :1], 0, design.shape, residuals)
    if by_role.any():
        exponent = _wider(exponent, robust(line, 1, design.role, log_mean_squares), by_role)
        constant = _wider(constant, robust(line[:, :1], 0, design.role, residuals), by_role)
    return ManyFits(by_role, exponent, constant)


def _wider(found: Found, other: Found, where: NDArray[np.bool_]) -> Found:
    wider = np.where(np.isnan(other.half), np.nan, np.fmax(found.half, other.half))
    return Found(found.value, np.where(where, wider, found.half))
