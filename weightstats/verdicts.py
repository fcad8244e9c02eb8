"""The verdict on a law: supported, contradicted or undetermined, with what it rests on."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from weightstats.estimates import ROUNDING, Interval

Verdict: TypeAlias = Literal["supported", "contradicted", "undetermined"]

FEWEST_VALUES = 3
"""Distinct values of what the law depends on below which a slope says nothing: two points always lie on a line."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict is given on."""

    layers: int
    distinct: int
    """Values of `measure` that there are."""

    measure: str
    """What the law depends on, `n_in+n_out`."""

    expected: float
    """The exponent of `measure` under the law: -1, or 0 where the law is a constant."""

    rival: float
    """The exponent that the law must be told from: 0, or -1 where the law is a constant."""

    exponent: Interval
    """95 % interval of the exponent, fitted freely; (NaN, NaN) where there is none."""

    slack: float
    """What the rounding of weights may do to the exponent."""

    beaten_by: str
    """The formula of a law that fits clearly better, '' where there is none or where that has not been tried."""

    constant: Interval
    """95 % interval of c."""

    fixed: float | None
    """c, where the law fixes it."""


def judge(evidence: Evidence) -> tuple[Verdict, str]:
    """The verdict, and what it rests on.

    Contradicted where the interval of the exponent does not hold what the law expects, or that of c what the law
    fixes. Supported where it holds that and not the rival, and no other law fits clearly better. Else undetermined.
    """
    low, high = evidence.exponent
    if evidence.distinct < FEWEST_VALUES or math.isnan(low):
        return "undetermined", _too_few(evidence)
    shown = f"the 95 % interval of the free exponent, {signed(low)} to {signed(high)},"
    expected, rival = f"{evidence.expected:g}", f"{evidence.rival:g}"
    if not _holds(evidence.exponent, evidence.expected, evidence.slack):
        return "contradicted", f"{shown} does not hold {expected}"
    if evidence.fixed is not None and not _holds_factor(evidence.constant, evidence.fixed):
        low, high = evidence.constant
        return "contradicted", f"the 95 % interval of c, {low:.3g} to {high:.3g}, does not hold {evidence.fixed:.3g}"
    if _holds(evidence.exponent, evidence.rival, evidence.slack):
        law, other = _meanings(evidence)
        return "undetermined", f"{shown} holds both {expected} ({law}) and {rival} ({other})"
    if evidence.beaten_by:
        return "undetermined", (
            f"{shown} holds {expected} and not {rival}, but {evidence.beaten_by} fits the mean squares clearly better"
        )
    return "supported", f"{shown} holds {expected} and not {rival}"


def _too_few(evidence: Evidence) -> str:
    values = f"{evidence.distinct} distinct value{'' if evidence.distinct == 1 else 's'} of {evidence.measure}"
    found = f"{evidence.layers} layer{'' if evidence.layers == 1 else 's'} with {values}"
    if evidence.distinct >= FEWEST_VALUES:
        return f"{found} leave no interval for the exponent"
    return f"{found} cannot tell one power law from another"


def _meanings(evidence: Evidence) -> tuple[str, str]:
    none = f"no dependence on {evidence.measure}"
    return ("the law", none) if evidence.expected else ("the law: " + none, f"1/({evidence.measure})")


def _holds(interval: Interval, value: float, slack: float) -> bool:
    return interval[0] - slack <= value <= interval[1] + slack


def _holds_factor(interval: Interval, value: float) -> bool:
    low, high = interval
    return math.isnan(low) or low * (1.0 - 2 * ROUNDING) <= value <= high * (1.0 + 2 * ROUNDING)


def signed(value: float) -> str:
    """Two decimals with a sign, more where two would show -1 or 0 and it is not, and no sign where it is 0."""
    for decimals in range(2, 7):
        text = f"{value:+.{decimals}f}"
        if float(text) not in (-1.0, 0.0) or abs(value - float(text)) <= ROUNDING:
            break
    return text[1:] if float(text) == 0.0 else text
