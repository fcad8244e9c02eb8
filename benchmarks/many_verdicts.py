"""The verdicts that `fits.fit_law` gives on c/(n_in+n_out), for many checkpoints with the same layers at once.

As in `weightstats.contest` and `verdicts`; `many_fits` says how that is checked. The contest's bootstrap is left to the
package itself: it is held only where it can change the verdict.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from many_fits import Design, ManyFits, means_by
from numpy.typing import NDArray
from scatter_kinds import Floats

from weightstats.contest import FEWEST_SHAPES, OFTEN, REACH, hold_contest
from weightstats.estimates import ROUNDING
from weightstats.laws import DEFAULT_LAW, LAWS
from weightstats.observations import Observations, make_observations
from weightstats.verdicts import FEWEST_VALUES

VERDICTS = ("supported", "contradicted", "undetermined")

FREE_LAWS = tuple(law for law in LAWS if law.constant is None)

STEP = 1.7
SECTIONS = 40
"""As in `contest`: between the values of tau² that are tried first, and golden sections between those."""

RIDGE = 1e-12
"""As in `contest`."""


def observations(design: Design, log_mean_squares: Floats) -> Observations:
    """One simulation as the package takes it."""
    layers = zip(design.network.layers, log_mean_squares.tolist(), strict=True)
    return make_observations([replace(layer, mean_square=math.exp(value)) for layer, value in layers])


def scores(design: Design, log_mean_squares: Floats) -> Floats:
    """AICc of each of FREE_LAWS and of the superset, (laws + 1, simulations); NaN where there are too few shapes."""
    means = means_by(design.shape, log_mean_squares)
    counts = np.bincount(design.shape).astype(np.float64)
    shapes, layers, simulations = len(counts), len(design.shape), means.shape[1]
    firsts = design.firsts(design.shape)
    n_in, n_out = design.n_in[firsts], design.n_out[firsts]
    laws = np.array([law.logarithms(n_in, n_out, design.elements[firsts]) for law in FREE_LAWS])
    residuals = means - laws[:, :, None]
    about = residuals - residuals.mean(axis=1, keepdims=True)
    largest = 2.0 * np.max(np.mean(about**2, axis=1), axis=0) + ROUNDING**2
    within = np.zeros(simulations)
    if layers > shapes:
        within = np.sum((log_mean_squares - means[design.shape]) ** 2, axis=0) / (layers - shapes)
    noise = np.maximum(within, ROUNDING**2) / counts[:, None]
    regressors = np.column_stack([np.ones(shapes), np.log(n_in), np.log(n_out)])
    regressors[:, 1:] -= regressors[:, 1:].mean(axis=0)

    def deviances(between: Floats) -> Floats:
        """-2 ln L of each law and the superset, each with its own tau²: (laws + 1, simulations) both."""
        weights = 1.0 / (between[:, None, :] + noise)
        logs = np.sum(np.log(2.0 * math.pi / weights), axis=1)
        own = weights[:-1]
        rests = np.sum(own * about**2, axis=1) - np.sum(own * about, axis=1) ** 2 / own.sum(axis=1)
        rests = np.vstack([rests, _rest_of_superset(regressors, means, weights[-1])])
        return logs + np.maximum(rests, 0.0)

    best = _lowest(deviances, largest, 0.1 * noise.min(axis=0))
    parameters = np.array([*(2.0 for _ in FREE_LAWS), 4.0])[:, None]
    left = shapes - parameters - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        made: Floats = best + 2.0 * parameters * (1.0 + (parameters + 1.0) / left)
    return np.where((left < 1) | (shapes < FEWEST_SHAPES), math.nan, made)


def _lowest(deviances: Callable[[Floats], Floats], largest: Floats, smallest: Floats) -> Floats:
    """The lowest deviance of each law and simulation at any tau² from the largest to the smallest, or none."""
    width = (len(FREE_LAWS) + 1, len(largest))
    steps = math.ceil(float(np.max(np.log(largest / smallest))) / math.log(STEP))
    candidates = [largest * STEP**-power for power in range(max(1, steps) + 1)]
    tried = np.array([deviances(np.broadcast_to(between, width)) for between in candidates])
    place = np.argmin(tried, axis=0)
    logs = np.log(np.array(candidates))
    columns = np.broadcast_to(np.arange(len(largest)), width)
    low, high = (logs[np.clip(place + side, 0, len(logs) - 1), columns] for side in (1, -1))
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(SECTIONS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        falls = deviances(np.exp(left)) > deviances(np.exp(right))
        low, high = np.where(falls, left, low), np.where(falls, high, right)
    found: Floats = np.minimum(deviances(np.exp((low + high) / 2.0)), deviances(np.zeros(width)))
    return found


def _rest_of_superset(regressors: Floats, means: Floats, weights: Floats) -> Floats:
    about = means - means.mean(axis=0)
    crossed = np.einsum("gr,gi,gj->rij", weights, regressors, regressors)
    crossed += RIDGE * np.trace(crossed, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    products = np.einsum("gr,gi->ri", weights * about, regressors)
    found = np.linalg.solve(crossed, products[:, :, None])[:, :, 0]
    rest: Floats = np.sum(weights * about**2, axis=0) - np.sum(products * found, axis=1)
    return rest


@dataclass(frozen=True, slots=True)
class ManyVerdicts:
    """The verdicts by simulation, and how many there are of each."""

    each: NDArray[np.int64]
    """Indices into VERDICTS."""

    by_interval: NDArray[np.int64]
    """What they would be without the contest."""

    contests: int
    """How many were held."""

    @property
    def rates(self) -> dict[str, float]:
        """The share of each."""
        counts = Counter(self.each.tolist())
        return {verdict: counts[place] / len(self.each) for place, verdict in enumerate(VERDICTS)}


def many_verdicts(design: Design, log_mean_squares: Floats, fits: ManyFits) -> ManyVerdicts:
    """The verdicts on the fits."""
    by_interval = _by_interval(design, fits)
    each = by_interval.copy()
    supported = np.flatnonzero(by_interval == 0)
    held = 0
    if len(supported):
        rated = scores(design, log_mean_squares[:, supported])
        if not np.isnan(rated).all():
            own = rated[[law.key for law in FREE_LAWS].index(DEFAULT_LAW)]
            beyond = supported[own - np.nanmin(rated, axis=0) > REACH]
            held = len(beyond)
            for place in beyond:
                contest = hold_contest(observations(design, log_mean_squares[:, place]))
                wins = next(standing.wins for standing in contest.standings if standing.law == DEFAULT_LAW)
                each[place] = 0 if wins >= OFTEN else 2
    return ManyVerdicts(each, by_interval, held)


def _by_interval(design: Design, fits: ManyFits) -> NDArray[np.int64]:
    exponent = fits.exponent
    if design.network.fan_sums < FEWEST_VALUES:
        return np.full(len(exponent.value), 2)
    slack = ROUNDING / min(1.0, float(np.ptp(design.x)) or 1.0)
    holds, rival = exponent.holds(-1.0, slack), exponent.holds(0.0, slack)
    verdicts = np.where(np.isnan(exponent.half), 2, np.where(~holds, 1, np.where(rival, 2, 0)))
    return verdicts.astype(np.int64)
