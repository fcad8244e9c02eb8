"""A law fitted to the mean squares of the layers, with intervals, and the verdict on it."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weightstats.contest import Contest, hold_contest
from weightstats.estimates import (
    CONFIDENCE,
    NONE,
    ROUNDING,
    UNKNOWN,
    Estimate,
    Floats,
    Interval,
    clusters_of,
    differ_by,
    mean_by_cluster,
    regressions,
    slope_by_cluster,
)
from weightstats.laws import DEFAULT_LAW, LAWS, Law, law_of
from weightstats.observations import Observations, make_observations
from weightstats.verdicts import Evidence, Verdict, judge

ROLE_LEVEL = 0.1
"""p-value of the test that layers of one role share an offset, below which intervals allow for that too."""

MOST_LEFT_OUT = 300
"""Shapes, each of which is left out once to see whether the verdict hangs on it."""

MOST_CONTESTS = 25
"""Shapes up to which a contest is held without each of them that speaks against the law. For more, and where the
verdict is in its favour, another verdict goes by the exponent alone: a contest takes 10 ms."""

MOST_REFITTED = 100_000
"""Layers that this may come to where intervals by role have to be worked out again."""

_LOG_LARGEST = 709.0
"""Natural logarithm of about the largest float64."""


@dataclass(frozen=True, slots=True)
class Without:
    """What the verdict would be without the layers of one shape."""

    n_in: int
    n_out: int
    layers: int
    name: str
    """Of the first of them."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Fit:
    """One law on some layers. Logarithms are natural; a value is NaN where there are too few layers for it."""

    law: str
    """Its formula."""

    law_key: str
    """What `--law` calls it."""

    measure: str
    """What the free exponent is of: what the law depends on, or n_in+n_out where it is a constant."""

    layers: int
    shapes: int
    """Distinct (n_in, n_out, N): pairs of fans, but for convolutions that differ in their receptive fields."""

    distinct_fan_sums: int
    fan_sum_range: tuple[int, int]
    """Smallest and largest; (0, 0) without layers."""

    distinct_values: int
    """Of `measure`."""

    constant: float
    """c: the geometric mean of mean square times measure, over the layers."""

    constant_interval: Interval
    spread: float
    """The factor by which layers scatter about the law: exp of the residuals' standard deviation (divisor n - 1)."""

    median_miss: float
    """The factor within which half of the layers lie of it: exp of the median of the residuals' sizes."""

    exponent: float
    """b in m = a·measure**b, fitted freely: that of a meta-regression over the shapes (`estimates.regressions`)."""

    exponent_interval: Interval
    free_constant: float
    """a in m = a·measure**b, of the same regression."""

    degrees_of_freedom: float
    """Of Student's t in that interval."""

    clustered_by: str
    """`shape`, or `role` where layers of one role share an offset and the intervals allow for it."""

    r_squared: float
    """Share of the variance of ln m that the law accounts for; negative where a constant accounts for more."""

    verdict: Verdict
    because: str
    hangs_on: tuple[Without, ...] | None
    """Shapes without whose layers the verdict would be another; None where that was not tried: where it is
    undetermined, and where there are too many shapes."""


def fit_law(observations: Observations, law: Law | None = None, contest: Contest | None = None) -> Fit:
    """The law (by default c/(n_in+n_out)) fitted to the layers; there may be none.

    A verdict in its favour takes the contest of laws on the same layers, which is held if it is not given.
    """
    law = law_of(DEFAULT_LAW) if law is None else law
    count = len(observations.layers)
    sums = [layer.n_in + layer.n_out for layer in observations.layers]
    if count == 0:
        return _nothing(law)
    x = _regressor(observations, law)
    residuals = observations.log_mean_square - law.logarithms(
        observations.n_in, observations.n_out, observations.elements
    )
    by_role = _roles_differ(observations, x)
    log_c = _constant(observations, residuals, by_role)
    slope, log_a = _exponent(observations, x, by_role)
    off = residuals - log_c.value
    total = float(np.sum((observations.log_mean_square - np.mean(observations.log_mean_square)) ** 2))
    evidence = Evidence(
        layers=count,
        distinct=len(set(x.tolist())),
        measure=law.measure_name or "n_in+n_out",
        expected=-1.0 if law.measure_name else 0.0,
        rival=0.0 if law.measure_name else -1.0,
        exponent=slope.interval,
        slack=ROUNDING / min(1.0, float(np.ptp(x)) or 1.0),
        beaten_by="",
        constant=(_exp(log_c.interval[0]), _exp(log_c.interval[1])),
        fixed=law.constant,
    )
    verdict, because = judge(evidence)
    if verdict == "supported":
        evidence = replace(evidence, beaten_by=_beaten_by(law, contest or hold_contest(observations)))
        verdict, because = judge(evidence)
    hangs_on = _hangs_on(observations, law, (x, residuals), by_role, evidence, verdict)
    return Fit(
        law=law.formula,
        law_key=law.key,
        measure=evidence.measure,
        layers=count,
        shapes=len(observations.names),
        distinct_fan_sums=len(set(sums)),
        fan_sum_range=(min(sums), max(sums)),
        distinct_values=evidence.distinct,
        constant=_exp(log_c.value),
        constant_interval=evidence.constant,
        spread=_exp(float(np.std(off, ddof=1))) if count > 1 else math.nan,
        median_miss=_exp(float(np.median(np.abs(off)))) if count > 1 else math.nan,
        exponent=slope.value,
        exponent_interval=slope.interval,
        free_constant=_exp(log_a),
        degrees_of_freedom=slope.degrees,
        clustered_by="role" if by_role else "shape",
        r_squared=1.0 - float(np.sum(off**2)) / total if total > count * ROUNDING**2 else math.nan,
        verdict=verdict,
        because=because,
        hangs_on=hangs_on,
    )


def _nothing(law: Law) -> Fit:
    measure, nan = law.measure_name or "n_in+n_out", math.nan
    verdict, because = judge(Evidence(0, 0, measure, -1.0, 0.0, UNKNOWN, 0.0, "", UNKNOWN, None))
    empty = (0, 0, 0, (0, 0), 0)
    return Fit(
        law.formula, law.key, measure, *empty, nan, UNKNOWN, nan, nan, nan, UNKNOWN, nan, nan, "shape", nan,
        verdict, because, None,
    )  # fmt: skip


def _regressor(observations: Observations, law: Law) -> Floats:
    """ln of what the law depends on, for each layer; of the fan sum for a constant."""
    if law.measure_name:
        return -law.logarithms(observations.n_in, observations.n_out, observations.elements)
    sums: Floats = np.log(observations.n_in + observations.n_out)
    return sums


def _roles_differ(observations: Observations, x: Floats) -> bool:
    """Whether layers of one role share an offset that goes beyond their shape: an F test on the means of layers of one
    shape and role, which their line on x leaves."""
    layers = observations.layers
    cells = clusters_of([(layer.shape, layer.role) for layer in layers], observations.log_mean_square)
    roles = [layers[first].role for first in cells.first]
    return differ_by(roles, x[cells.first], cells.means) < ROLE_LEVEL


def _constant(observations: Observations, residuals: Floats, by_role: bool) -> Estimate:
    members = observations.shapes.member_of
    return _mean(residuals, members, _roles(observations) if by_role else members)


def _mean(residuals: Floats, shapes: NDArray[np.int64], roles: NDArray[np.int64]) -> Estimate:
    """Robust to clusters of one shape, and to those of one role where they are others."""
    estimate = mean_by_cluster(residuals, clusters_of(shapes.tolist(), residuals))
    if roles is shapes or np.array_equal(roles, shapes):
        return estimate
    return _wider(estimate, mean_by_cluster(residuals, clusters_of(roles.tolist(), residuals)))


def _exponent(observations: Observations, x: Floats, by_role: bool) -> tuple[Estimate, float]:
    """The exponent, and ln a of the line that it belongs to."""
    shapes = observations.shapes
    if float(np.ptp(x)) == 0.0:
        return NONE, math.nan
    of_shapes = x[shapes.first]
    found = regressions(_line(of_shapes), shapes)
    estimate = found.estimate(1)
    log_a = float(found.coefficients[0, 0]) - estimate.value * float(np.mean(of_shapes))
    if math.isnan(estimate.value):  # two shapes: a slope, and nothing to judge it by
        slope, log_a = (float(value) for value in np.polyfit(x, observations.log_mean_square, 1))
        estimate = replace(NONE, value=slope)
    if by_role:
        estimate = _wider(estimate, slope_by_cluster(x, observations.log_mean_square, _roles(observations)))
    return estimate, log_a


def _beaten_by(law: Law, contest: Contest) -> str:
    """The formula of the best law where this one, with a free constant, is not within its reach; '' where it is, or
    where there are too few shapes for a contest."""
    within = contest.indistinct
    same = {other.key for other in LAWS if other.measure_name == law.measure_name}
    return within[0].formula if within and not same & {standing.law for standing in within} else ""


def _line(x: Floats) -> Floats:
    return np.column_stack([np.ones(len(x)), x - np.mean(x)])


def _roles(observations: Observations) -> NDArray[np.int64]:
    return clusters_of([layer.role for layer in observations.layers], observations.log_mean_square).member_of


def _wider(estimate: Estimate, other: Estimate) -> Estimate:
    """The estimate, with the interval of the other where that is wider; none where the other has none."""
    if math.isnan(other.interval[0]):
        return replace(estimate, interval=UNKNOWN, degrees=math.nan)
    own, wide = (each.interval[1] - each.interval[0] for each in (estimate, other))
    if not wide > own:
        return estimate
    return Estimate(estimate.value, (estimate.value - wide / 2, estimate.value + wide / 2), other.degrees)


def _hangs_on(
    observations: Observations,
    law: Law,
    values: tuple[Floats, Floats],
    by_role: bool,
    evidence: Evidence,
    verdict: Verdict,
) -> tuple[Without, ...] | None:
    """The shapes without which the verdict would be another."""
    shapes, (x, residuals) = observations.shapes, values
    count = len(shapes.counts)
    refitted = by_role or evidence.fixed is not None
    if verdict == "undetermined" or count > MOST_LEFT_OUT or (refitted and count * len(x) > MOST_REFITTED):
        return None
    of_shapes = x[shapes.first]
    left = regressions(_line(of_shapes), shapes, ~np.eye(count, dtype=bool))
    roles = _roles(observations) if by_role else shapes.member_of
    changes = []
    for place, (n_in, n_out) in enumerate(observations.names):
        estimate, constant = left.estimate(1, CONFIDENCE, place), evidence.constant
        kept = shapes.member_of != place if refitted else np.zeros(0, np.bool_)
        if by_role:
            of_kept = slope_by_cluster(x[kept], observations.log_mean_square[kept], roles[kept])
            estimate = _wider(estimate, of_kept)
        if evidence.fixed is not None:
            low, high = _mean(residuals[kept], shapes.member_of[kept], roles[kept]).interval
            constant = (_exp(low), _exp(high))
        changed = replace(
            evidence,
            layers=len(x) - int(shapes.counts[place]),
            distinct=len(set(np.delete(of_shapes, place).tolist())),
            exponent=estimate.interval,
            constant=constant,
        )
        found = judge(changed)[0]
        if found == "supported" != verdict and count <= MOST_CONTESTS:
            rest = [
                layer for layer, member in zip(observations.layers, shapes.member_of, strict=True) if member != place
            ]
            beaten_by = _beaten_by(law, hold_contest(make_observations(rest)))
            found = judge(replace(changed, beaten_by=beaten_by))[0]
        if found != verdict:
            name = observations.layers[int(shapes.first[place])].name
            changes.append(Without(n_in, n_out, int(shapes.counts[place]), name, found))
    return tuple(changes)


def _exp(value: float) -> float:
    """math.exp that gives infinity instead of an error."""
    return math.exp(value) if value < _LOG_LARGEST else math.inf if value == value else value
