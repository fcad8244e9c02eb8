"""What was found, in sentences that a person can quote."""

import math
from collections.abc import Mapping

from weightstats.contest import FEWEST_SHAPES, Contest
from weightstats.errors import shortened
from weightstats.fits import Fit, Without
from weightstats.laws import LAWS, law_of
from weightstats.verdicts import signed

REFERENCES = {
    "fan-sum": "Glorot's initialisation has 2",
    "fan-in": "LeCun's initialisation has 1, He's 2",
    "fan-out": "He's initialisation has 2",
}
"""Constants that laws of this form are known with, by the key of the law."""

MOST_NAMED = 2
"""Shapes, or laws, that a sentence names."""


def sentences(fit: Fit) -> tuple[str, str]:
    """Two sentences that can be quoted: how well the law predicts, and what the free exponent says of it."""
    return _prediction(fit), _verdict(fit)


def rests_on(fit: Fit) -> str:
    """What the verdict rests on, and what would change it where that was tried."""
    if fit.layers < 2:
        return ""
    basis = (
        f"This rests on {_count(fit.layers, 'layer')} of {_count(fit.shapes, 'shape')}, "
        f"n_in+n_out {_range(fit.fan_sum_range)}"
    )
    if fit.measure != "n_in+n_out":
        basis += f", with {_count(fit.distinct_values, 'distinct value')} of {fit.measure}"
    return f"{basis}{'; ' if (change := _what_would_change(fit)) else ''}{change}."


def _what_would_change(fit: Fit) -> str:
    if fit.verdict == "undetermined":
        if fit.distinct_values < 3 or math.isnan(fit.exponent_interval[0]):
            return f"layers with other values of {fit.measure} could tell"
        wide = fit.exponent_interval[1] - fit.exponent_interval[0]
        if "clearly better" in fit.because:
            return "the exponent alone would support it; the lead of the other law does not"
        if wide < 1.0:
            return f"less scatter, or a wider range of {fit.measure}, could tell"
        return (
            f"the interval is {wide:,.1f} wide, and one narrower than 1 could not hold both -1 and 0: that takes "
            f"layers of more shapes, a wider range of {fit.measure}, or less scatter"
        )
    if fit.hangs_on is None:
        return ""
    if not fit.hangs_on:
        return "leaving out the layers of any one shape does not change the verdict"
    named = [f"without {_left_out(change)}" for change in fit.hangs_on[:MOST_NAMED]]
    more = len(fit.hangs_on) - len(named)
    names = " or ".join(named) + (
        f" (or those of {'one' if more == 1 else f'any of {more:,}'} other shape{'' if more == 1 else 's'})"
        if more
        else ""
    )
    outcomes = sorted({change.verdict for change in fit.hangs_on})
    return f"{names} it would be {' or '.join(outcomes)}"


def _left_out(change: Without) -> str:
    if change.layers == 1:
        return shortened(change.name)
    return f"the {change.layers:,} layers {change.n_in:,} → {change.n_out:,}"


def briefly(fit: Fit) -> str:
    """The fit in one line: the constant, the free exponent, the verdict."""
    if fit.layers < 2:
        return "one layer alone tests nothing." if fit.layers else "no layer is left, which tests nothing."
    constant = f"c = {number(fit.constant)}, scatter {number(fit.spread)}"
    if math.isnan(fit.exponent_interval[0]):
        return f"{constant}; undetermined: {fit.because}."
    low, high = (signed(end) for end in fit.exponent_interval)
    beaten = fit.because.partition(", but ")[2] if fit.verdict == "undetermined" else ""
    verdict = f"{fit.verdict}, since {beaten}" if beaten else fit.verdict
    return f"{constant}, free exponent {signed(fit.exponent)} (95 % interval {low} to {high}): {verdict}."


def by_kind(fits: Mapping[str, Fit]) -> tuple[str, ...]:
    """One line a kind; none where there are fewer than two."""
    if len(fits) < 2:
        return ()
    return tuple(f"{kind} ({_count(fit.layers, 'layer')}): {briefly(fit)}" for kind, fit in fits.items())


def contested(contest: Contest, fit: Fit) -> str:
    """Which laws cannot be told apart, and whether the fitted one is among them; '' where there is nothing to say."""
    if contest.layers < 2:
        return ""
    pairs = (
        f"{_count(contest.shapes, 'distinct pair')} (n_in, n_out), n_in {_range(contest.n_in_range)}, "
        f"n_out {_range(contest.n_out_range)}"
    )
    if contest.shapes < FEWEST_SHAPES or not contest.indistinct:
        return f"No law can be told from another here: {pairs}."
    formulas = [standing.formula for standing in contest.indistinct]
    form = next(law for law in LAWS if law.constant is None and law.measure_name == law_of(fit.law_key).measure_name)
    beaten = "" if form.formula in formulas else f" They fit clearly better than {form.formula}."
    if len(formulas) == 1:
        beaten = beaten.replace("They fit", "It fits")
        return f"Of the laws with a free constant, {formulas[0]} stands out here: {pairs}.{beaten}"
    return f"Not distinguishable here: {', '.join(formulas[:-1])} and {formulas[-1]} ({pairs}).{beaten}"


def _prediction(fit: Fit) -> str:
    if fit.layers == 0:
        return f"There is no layer that the law {fit.law} could be fitted to."
    if fit.layers == 1:
        return f"One layer alone can be fitted, with c = {number(fit.constant)} in {fit.law}: that tests nothing."
    fixed = law_of(fit.law_key).constant
    known = REFERENCES.get(fit.law_key, "") if fixed is None else f"the law has {fixed:.3g}"
    if math.isnan(fit.constant_interval[0]):
        interval = "no interval: all layers have one shape" if fit.shapes == 1 else "no interval"
    else:
        low, high = (number(end) for end in fit.constant_interval)
        interval = f"95 % interval {low} to {high}"
    return (
        f"Fitted to {fit.layers:,} layers{'' if fixed is None else ', its constant left free'}, the law {fit.law} has "
        f"c = {number(fit.constant)} "
        f"({'; '.join(filter(None, (interval, known)))}); half of the layers lie within a factor of "
        f"{number(fit.median_miss)} of it, and one standard deviation of their scatter is a factor of "
        f"{number(fit.spread)}."
    )


def _verdict(fit: Fit) -> str:
    expected = "-1" if law_of(fit.law_key).measure_name else "0"
    if fit.verdict == "undetermined":
        measure = f"({fit.measure})" if "+" in fit.measure or "·" in fit.measure else fit.measure
        what = f"Whether mean squares fall as 1/{measure}" if expected == "-1" else "Whether mean squares are equal"
        return f"{what} is undetermined: {fit.because}."
    low, high = (signed(end) for end in fit.exponent_interval)
    found = (
        f"the free exponent of {fit.measure} is {signed(fit.exponent)} (95 % interval {low} to {high}, layers of one "
        f"{fit.clustered_by} taken as a cluster)"
    )
    if fit.verdict == "contradicted" and "of c" in fit.because:
        return f"The law {fit.law} is contradicted: {fit.because}; {found}."
    if fit.verdict == "contradicted":
        return f"The law's exponent, {expected}, is contradicted: {found}, which excludes {expected}."
    rival = "0" if expected == "-1" else "-1"
    fixed = law_of(fit.law_key).constant
    if fixed is not None:
        of_c = f", and the interval of c holds {fixed:.3g}"
        return f"The law {fit.law} is supported: {found}, which holds {expected} and not {rival}{of_c}."
    return f"The law's exponent, {expected}, is supported: {found}, which holds {expected} and not {rival}."


def _range(ends: tuple[int, int]) -> str:
    low, high = ends
    return f"{low:,}" if low == high else f"from {low:,} to {high:,}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float) -> str:
    """Three significant digits, in words where float64 has no number for it."""
    if not math.isfinite(value):
        return "more than 1e308"
    return f"{value:,.0f}" if 1000 <= value < 1e6 else f"{value:.3g}"
