"""The claim under audit, m = c/(n_in+n_out), fitted to the mean squares of the layers, and a verdict on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Verdict: TypeAlias = Literal["supported", "contradicted", "undetermined"]
Interval: TypeAlias = tuple[float, float]

LAW = "c/(n_in+n_out)"

CONFIDENCE = 0.95

FEWEST_FAN_SUMS = 3
"""Distinct fan sums below which a slope says nothing about a power law: two points always lie on a line."""

_LOG_LARGEST = 709.0
"""Natural logarithm of about the largest float64."""

_ROUNDING = 1e-6
"""What an exponent may miss -1 or 0 by where fan sums span a factor of e: weights on a law, but for the rounding of
float32, miss it by less."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Least squares in logarithms. Intervals are Student's t at 95 % and take the layers for independent.

    A value is NaN where there are too few layers for it.
    """

    law: str
    layers: int
    distinct_fan_sums: int
    fan_sum_range: tuple[int, int]
    """Smallest and largest; (0, 0) without layers."""

    constant: float
    """c: the geometric mean of mean square times fan sum."""

    constant_interval: Interval
    spread: float
    """The factor by which layers scatter about the law: exp of the residuals' standard deviation (divisor n - 1)."""

    exponent: float
    """b in m = a·s**b, fitted freely; -1 if the law holds, 0 if the mean square does not depend on the fan sum."""

    exponent_interval: Interval
    r_squared: float
    """Share of the variance of ln m that the law accounts for; negative where a constant accounts for more."""

    verdict: Verdict
    because: str


def fit_law(fan_sums: Sequence[int], mean_squares: Sequence[float]) -> Fit:
    """The law fitted to layers of these fan sums (n_in + n_out, at least 1) and mean squares (positive, finite)."""
    log_s = np.log(np.asarray(fan_sums, dtype=np.float64))
    log_m = np.log(np.asarray(mean_squares, dtype=np.float64))
    count, distinct = len(fan_sums), len(set(fan_sums))
    residuals = log_m + log_s
    log_c = float(np.mean(residuals)) if count else math.nan
    deviation = float(np.std(residuals, ddof=1)) if count > 1 else math.nan
    half = _t(count - 1) * deviation / math.sqrt(count) if count > 1 else math.nan
    exponent, interval = _slope(log_s, log_m)
    total = float(np.sum((log_m - np.mean(log_m)) ** 2)) if count > 1 else 0.0
    reach = float(np.ptp(log_s)) if count else 0.0
    verdict, because = _judged(count, distinct, interval, _ROUNDING / min(1.0, reach) if reach > 0.0 else _ROUNDING)
    return Fit(
        law=LAW,
        layers=count,
        distinct_fan_sums=distinct,
        fan_sum_range=(min(fan_sums), max(fan_sums)) if count else (0, 0),
        constant=_exp(log_c),
        constant_interval=(_exp(log_c - half), _exp(log_c + half)),
        spread=_exp(deviation),
        exponent=exponent,
        exponent_interval=interval,
        r_squared=1.0 - float(np.sum((residuals - log_c) ** 2)) / total if total > count * _ROUNDING**2 else math.nan,
        verdict=verdict,
        because=because,
    )


def _exp(value: float) -> float:
    """math.exp that gives infinity instead of an error."""
    return math.exp(value) if value < _LOG_LARGEST else math.inf if value == value else value


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, Interval]:
    """Slope of y on x by least squares, with its interval; NaN where there is none."""
    count = len(x)
    if count < 2 or float(np.ptp(x)) == 0.0:
        return math.nan, (math.nan, math.nan)
    centred = x - np.mean(x)
    sum_xx = float(np.dot(centred, centred))
    slope = float(np.dot(centred, y)) / sum_xx
    if count < 3:
        return slope, (math.nan, math.nan)
    residuals = y - np.mean(y) - slope * centred
    half = _t(count - 2) * math.sqrt(float(np.dot(residuals, residuals)) / (count - 2) / sum_xx)
    return slope, (slope - half, slope + half)


def prepare() -> None:
    """Import what a fit needs, which takes 0.2 s: well spent while other processes read the weights."""
    import scipy.special  # noqa: F401


def _t(degrees: int) -> float:
    """Student's t that the central CONFIDENCE lies within."""
    from scipy.special import stdtrit  # not at the top: 0.2 s

    return float(stdtrit(degrees, 0.5 + CONFIDENCE / 2))


def _judged(count: int, distinct: int, interval: Interval, slack: float = _ROUNDING) -> tuple[Verdict, str]:
    """The verdict on the law, and what it rests on; `slack` is what the rounding of weights may do to a slope."""
    if distinct < FEWEST_FAN_SUMS or math.isnan(interval[0]):
        sums = f"{distinct} distinct value{'' if distinct == 1 else 's'} of n_in+n_out"
        found = f"{count} layer{'' if count == 1 else 's'} with {sums}"
        return "undetermined", f"{found} cannot tell one power law from another"
    low, high = interval
    has_law = low - slack <= -1.0 <= high + slack
    has_constant = low - slack <= 0.0 <= high + slack
    shown = f"the 95 % interval of the free exponent, {_signed(low)} to {_signed(high)},"
    if not has_law:
        return "contradicted", f"{shown} does not hold -1"
    if has_constant:
        return "undetermined", f"{shown} holds both -1 (the law) and 0 (no dependence on n_in+n_out)"
    return "supported", f"{shown} holds -1 and not 0"


def sentences(fit: Fit) -> tuple[str, str]:
    """Two sentences that can be quoted: how well the law predicts, and what the free exponent says of it."""
    return _prediction(fit), _verdict(fit)


def briefly(fit: Fit) -> str:
    """The fit in one line: the constant, the free exponent, the verdict."""
    if fit.layers < 2:
        return f"{'one layer' if fit.layers else 'no layer'} is left, which tests nothing."
    constant = f"c = {_number(fit.constant)}, scatter {_number(fit.spread)}"
    if fit.verdict == "undetermined":
        return f"{constant}; undetermined: {fit.because}."
    low, high = (_signed(end) for end in fit.exponent_interval)
    return f"{constant}, free exponent {_signed(fit.exponent)} (95 % interval {low} to {high}): {fit.verdict}."


def _prediction(fit: Fit) -> str:
    if fit.layers == 0:
        return f"There is no layer that the law {fit.law} could be fitted to."
    if fit.layers == 1:
        return f"One layer alone can be fitted, with c = {_number(fit.constant)} in {fit.law}: that tests nothing."
    low, high = (_number(end) for end in fit.constant_interval)
    return (
        f"Fitted to {fit.layers} layers, the law {fit.law} has c = {_number(fit.constant)} (95 % interval {low} to "
        f"{high}; Glorot's initialisation has 2), and the layers scatter about it by a factor of {_number(fit.spread)} "
        "(one standard deviation)."
    )


def _verdict(fit: Fit) -> str:
    if fit.verdict == "undetermined":
        return f"Whether mean squares fall as 1/(n_in+n_out) is undetermined: {fit.because}."
    low, high = (_signed(end) for end in fit.exponent_interval)
    found = f"the free exponent of n_in+n_out is {_signed(fit.exponent)} (95 % interval {low} to {high}"
    if fit.verdict == "contradicted":
        return f"The law's exponent, -1, is contradicted: {found}, were the layers independent), which excludes -1."
    return f"The law's exponent, -1, is supported: {found}, were the layers independent), which holds -1 and not 0."


def _number(value: float) -> str:
    """Three significant digits, in words where float64 has no number for it."""
    if not math.isfinite(value):
        return "more than 1e308"
    return f"{value:,.0f}" if 1000 <= value < 1e6 else f"{value:.3g}"


def _signed(value: float) -> str:
    """Two decimals with a sign, more where two would show -1 or 0 and it is not, and no sign where it is 0."""
    for decimals in range(2, 7):
        text = f"{value:+.{decimals}f}"
        if float(text) not in (-1.0, 0.0) or abs(value - float(text)) <= _ROUNDING:
            break
    return text[1:] if float(text) == 0.0 else text
