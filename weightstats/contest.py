"""The contest of laws: how well each law of `laws.LAWS` fits the layers, and which of them cannot be told apart.

Every law gives all layers of one shape the same mean square, so that only the means of the shapes bear on the choice: a
shape is one observation, of variance tau² + sigma²/n for its n layers, with sigma² from within the shapes and tau² by
maximum likelihood for each law.
"""

import math
from dataclasses import dataclass

import numpy as np

from weightstats.estimates import ROUNDING, Clusters, Floats
from weightstats.laws import LAWS, SUPERSET, SUPERSET_FORMULA, Law
from weightstats.observations import Observations

RESAMPLES = 500
"""Of the bootstrap: a frequency is within about 0.04 of what more would give."""

FEWEST_RESAMPLES = 50
_MOST_DRAWN = 1_000_000
"""Shapes times resamples, beyond which there are fewer resamples: a file may have a hundred thousand shapes."""

SEED = 20_251_122
"""Of the bootstrap, so that a report is the same each time."""

REACH = 6.0
"""AICc above the best within which a law is not told from it: Richards 2005, doi:10.1890/05-0074, found that smaller
differences leave the best one out too often."""

OFTEN = 0.05
"""Share of the resamples, won, that keeps a law within reach too."""

FEWEST_SHAPES = 3
"""Below which a contest decides nothing."""

_STEP = 1.7
"""Between the values of tau² that are tried, from more than all that there is to none."""

_SECTIONS = 40
"""Golden sections between those, for the layers as they are: to 1e-8 of the logarithm of tau²."""

_TIE = 1e-9
"""AICc that two laws may differ by and share a win: on a funnel, n_in is the largest fan."""

_RIDGE = 1e-12
"""Of the trace, so that a resample of too few shapes can be solved."""

_OF_SUPERSET = 4
"""Parameters, with tau². Resamples of no more distinct shapes, which it fits exactly, do not rate it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one law stands. A value is NaN where there are too few shapes for it."""

    law: str
    """Its key in `laws.LAWS`, or `superset`."""

    formula: str
    constant: float
    """c: fixed, or the geometric mean over the layers as in a Fit; that of the superset by maximum likelihood."""

    exponents: tuple[float, float] | None
    """a and b of the superset; None for the others."""

    spread: float
    """The factor by which layers scatter about it: exp of the root mean square of the residuals of ln m, with
    the divisor n - 1 where the constant is free, as in a Fit."""

    prediction_error: float
    """The factor by which it misses the mean of a shape that it was not fitted to: exp of the root mean square of the
    errors of ln m, each shape left out once."""

    aicc: float
    """-2 ln L + 2k + 2k(k+1)/(n-k-1) for n shapes and k parameters with tau²: Hurvich & Tsai 1989,
    doi:10.1093/biomet/76.2.297."""

    weight: float
    """Akaike's: exp(-difference/2) of the AICc to the best, over the sum of those of all laws of its league: those with
    a free constant, or those with a fixed one."""

    wins: float
    """The share of resamples of the shapes in which its AICc is the lowest of its league."""

    within_reach: bool
    """Whether it cannot be told from the best one of its league here."""

    is_free: bool
    """Whether its constant is fitted. A free constant costs more by AICc, for few shapes, than the form of any law can
    gain, so that the two leagues are not compared by it."""


@dataclass(frozen=True, slots=True)
class Contest:
    """All laws tried on the same layers."""

    standings: tuple[Standing, ...]
    """Those with a free constant and then those with a fixed one, the best first; empty where there are too few
    shapes."""

    layers: int
    shapes: int
    """Distinct pairs (n_in, n_out)."""

    n_in_range: tuple[int, int]
    n_out_range: tuple[int, int]

    @property
    def indistinct(self) -> tuple[Standing, ...]:
        """The laws with a free constant within reach of the best one, itself included; empty where none is rated."""
        return tuple(standing for standing in self.standings if standing.is_free and standing.within_reach)


def hold_contest(observations: Observations) -> Contest:
    """Try every law on the layers; nothing is drawn but from SEED."""
    pairs = observations.names
    shapes = len(pairs)
    standings: tuple[Standing, ...] = ()
    if shapes >= FEWEST_SHAPES:
        standings = _standings(observations)
    return Contest(
        standings,
        len(observations.layers),
        shapes,
        _range([n_in for n_in, _ in pairs]),
        _range([n_out for _, n_out in pairs]),
    )


def _range(values: list[int]) -> tuple[int, int]:
    return (min(values), max(values)) if values else (0, 0)


@dataclass(frozen=True, slots=True)
class _League:
    """Laws as linear models of the shapes' means: what is known, and what is free."""

    shapes: Clusters
    laws: tuple[Law, ...]
    residuals: Floats
    """(shapes, laws): the means less what each law says but for a free constant."""

    free: int
    """Free constants of each law, 0 or 1."""

    superset: Floats | None
    """The design of the superset, (shapes, 3), where it takes part."""

    noise: Floats
    """The variance of each mean but for tau²."""

    between: Floats
    """Candidates for tau², falling, the last one 0."""

    @property
    def about(self) -> Floats:
        """The residuals, about their mean where the constant is free: of a size that squares keep the digits of."""
        about: Floats = self.residuals - self.free * self.residuals.mean(axis=0)
        return about


def _standings(observations: Observations) -> tuple[Standing, ...]:
    shapes = observations.shapes
    fans = observations.n_in[shapes.first], observations.n_out[shapes.first], observations.elements[shapes.first]
    n_in, n_out, _ = fans
    whole = np.column_stack([np.ones(len(n_in)), np.log(n_in), np.log(n_out)])
    count = len(n_in)
    number = min(RESAMPLES, max(FEWEST_RESAMPLES, _MOST_DRAWN // count))
    counts = np.ones((number + 1, count))
    in_order = np.lexsort(fans[::-1])  # whatever the order of the layers
    counts[1:, in_order] = np.random.default_rng(SEED).multinomial(count, np.full(count, 1.0 / count), size=number)
    free = tuple(law for law in LAWS if law.constant is None)
    fixed = tuple(law for law in LAWS if law.constant is not None)
    return (
        *_ranked(_league(shapes, free, fans, whole if _can_tell(whole) else None), observations, counts),
        *_ranked(_league(shapes, fixed, fans, None), observations, counts),
    )


def _can_tell(design: Floats) -> bool:
    """Whether the exponents of n_in and n_out can be told from one another, and from the constant."""
    return bool(np.linalg.matrix_rank(design - [0.0, *design[:, 1:].mean(axis=0)], tol=1e-6) == design.shape[1])


def _league(
    shapes: Clusters, laws: tuple[Law, ...], fans: tuple[Floats, Floats, Floats], superset: Floats | None
) -> _League:
    residuals = np.column_stack([shapes.means - law.logarithms(*fans) - math.log(law.constant or 1.0) for law in laws])
    free = 1 if laws[0].constant is None else 0
    noise = np.maximum(shapes.spread_within, ROUNDING**2) / shapes.counts
    about = residuals - free * residuals.mean(axis=0)
    largest = 2.0 * float(np.max(np.mean(about**2, axis=0))) + ROUNDING**2
    steps = math.ceil(math.log(largest / (0.1 * float(noise.min()))) / math.log(_STEP))
    between = np.concatenate([largest * _STEP ** -np.arange(max(1, steps) + 1.0), [0.0]])
    return _League(shapes, laws, residuals, free, superset, noise, between)


def _ranked(league: _League, observations: Observations, counts: Floats) -> tuple[Standing, ...]:
    """The standings of a league, the best first."""
    count = len(league.shapes.counts)
    parameters = np.array([league.free + 1.0] * len(league.laws) + [_OF_SUPERSET] * (league.superset is not None))
    between, deviances = _likeliest(league)
    scores = _aicc(np.vstack([deviances, _lowest(league, counts[1:])]), parameters, count)
    if league.superset is not None:
        scores[1:][np.count_nonzero(counts[1:], axis=1) <= _OF_SUPERSET, -1] = math.nan
    variances_of = list(between[:, None] + league.noise)
    own = scores[0]
    if np.isnan(own).all():
        best, weights_of, wins = math.nan, np.full(len(own), math.nan), np.full(len(own), math.nan)
    else:
        best = float(np.nanmin(own))
        relative = np.exp(-(own - best) / 2)
        weights_of = relative / np.nansum(relative)
        rated = np.where(np.isnan(scores[1:]), math.inf, scores[1:])
        lowest = rated <= rated.min(axis=1, keepdims=True) + _TIE
        wins = np.where(np.isnan(own), math.nan, np.mean(lowest / lowest.sum(axis=1, keepdims=True), axis=0))
    made = [
        _standing(
            league,
            place,
            observations,
            variances,
            (float(own[place]), float(weights_of[place])),
            float(wins[place]),
            best,
        )
        for place, variances in enumerate(variances_of)
    ]
    return tuple(sorted(made, key=lambda standing: (math.isnan(standing.aicc), standing.aicc)))


def _aicc(deviances: Floats, parameters: Floats, count: int) -> Floats:
    """(resamples, laws): of deviances -2 ln L, with NaN where there are too few shapes for the parameters."""
    left = count - parameters - 1.0
    extra = 2.0 * parameters * (1.0 + (parameters + 1.0) / np.maximum(left, 1.0))
    scores: Floats = deviances + np.where(left < 1.0, math.nan, extra)
    return scores


def _lowest(league: _League, counts: Floats) -> Floats:
    """(resamples, laws): the lowest deviance of each law, and of the superset, at any of the candidates for tau²."""
    lowest = np.full((len(counts), len(league.laws) + (league.superset is not None)), math.inf)
    for between in league.between:
        variances = between + league.noise
        weights = counts / variances
        logs = counts @ np.log(2.0 * math.pi * variances)
        lowest = np.minimum(lowest, logs[:, None] + _rests(league, weights))
    return lowest


def _likeliest(league: _League) -> tuple[Floats, Floats]:
    """tau² of each law, and of the superset, where its likelihood is the highest, and its deviance there."""

    def deviances(between: Floats) -> Floats:
        variances = between[:, None] + league.noise
        own = np.diagonal(_rests(league, 1.0 / variances))
        found: Floats = np.sum(np.log(2.0 * math.pi * variances), axis=1) + own
        return found

    width = len(league.laws) + (league.superset is not None)
    tried = np.array([deviances(np.full(width, between)) for between in league.between])
    place = np.argmin(tried[:-1], axis=0)
    low, high = (np.log(league.between[np.clip(place + side, 0, len(tried) - 2)]) for side in (1, -1))
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(_SECTIONS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        falls = deviances(np.exp(left)) > deviances(np.exp(right))
        low, high = np.where(falls, left, low), np.where(falls, high, right)
    between = np.exp((low + high) / 2.0)
    best = deviances(between)
    return np.where(best < tried[-1], between, 0.0), np.minimum(best, tried[-1])


def _rests(league: _League, weights: Floats) -> Floats:
    """(rows of weights, laws): weighted sums of squares about each law, its constant at its best where it is free, and
    about the superset."""
    about = league.about
    squares = weights @ about**2
    if league.free:
        squares = squares - (weights @ about) ** 2 / weights.sum(axis=1, keepdims=True)
    if league.superset is not None:
        squares = np.column_stack([squares, _rest_of_superset(league, weights)])
    rests: Floats = np.maximum(squares, 0.0)
    return rests


def _rest_of_superset(league: _League, weights: Floats) -> Floats:
    design, means = league.superset, league.shapes.means
    assert design is not None  # noqa: S101 - asked for only where it takes part
    centred = design - np.array([0.0, *design[:, 1:].mean(axis=0)])
    about = means - means.mean()
    rows, columns = np.triu_indices(3)
    sums = weights @ (centred[:, rows] * centred[:, columns])
    crossed = np.empty((len(weights), 3, 3))
    crossed[:, rows, columns] = crossed[:, columns, rows] = sums
    crossed += _RIDGE * np.trace(crossed, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    products = weights @ (centred * about[:, None])
    found = np.linalg.solve(crossed, products[:, :, None])[:, :, 0]
    rests: Floats = weights @ about**2 - np.sum(products * found, axis=1)
    return rests


def _standing(
    league: _League,
    place: int,
    observations: Observations,
    variances: Floats,
    rated: tuple[float, float],
    wins: float,
    best: float,
) -> Standing:
    aicc, weight = rated
    shapes = league.shapes
    law = league.laws[place] if place < len(league.laws) else None
    if law is None and league.superset is not None:
        means, design = shapes.means, league.superset
    else:
        means, design = league.residuals[:, place], np.ones((len(shapes.means), league.free))
    found = _solved(design, means, 1.0 / variances)
    left = means - design @ found
    residuals = observations.log_mean_square - shapes.means[shapes.member_of] + left[shapes.member_of]
    fixed = law.constant if law is not None else None
    if law is not None and fixed is None:  # as in a Fit: over the layers
        by_layer = means[shapes.member_of] + observations.log_mean_square - shapes.means[shapes.member_of]
        found = np.array([np.mean(by_layer)])
        residuals = (by_layer - found[0]) * math.sqrt(len(by_layer) / max(1, len(by_layer) - 1))
    return Standing(
        law=SUPERSET if law is None else law.key,
        formula=SUPERSET_FORMULA if law is None else law.formula,
        constant=_exp(float(found[0])) if fixed is None else fixed,
        exponents=(float(found[1]), float(found[2])) if law is None else None,
        spread=_exp(math.sqrt(float(np.mean(residuals**2)))),
        prediction_error=_exp(_left_out_error(design, means, 1.0 / variances)),
        aicc=aicc,
        weight=weight,
        wins=wins,
        within_reach=not math.isnan(aicc) and (aicc - best <= REACH or wins >= OFTEN),
        is_free=fixed is None,
    )


def _solved(design: Floats, means: Floats, weights: Floats) -> Floats:
    if not design.shape[1]:
        return np.zeros(0)
    root = np.sqrt(weights)
    found: Floats = np.linalg.lstsq(design * root[:, None], means * root)[0].astype(np.float64)
    return found


def _left_out_error(design: Floats, means: Floats, weights: Floats) -> float:
    """Root mean square of the errors of predicting each shape's mean from the others; NaN where they do not suffice."""
    if not design.shape[1]:
        return math.sqrt(float(np.mean(means**2)))
    scaled = design * np.sqrt(weights)[:, None]
    leverage = np.sum(scaled * np.linalg.pinv(scaled).T, axis=1)
    if np.any(leverage > 1.0 - 1e-9):
        return math.nan
    errors = (means - design @ _solved(design, means, weights)) / (1.0 - leverage)
    return math.sqrt(float(np.mean(errors**2)))


def _exp(value: float) -> float:
    """math.exp that gives infinity instead of an error."""
    return math.exp(value) if value < 709.0 else math.inf if value == value else value
