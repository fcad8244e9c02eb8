"""What became of a network between checkpoints, in sentences that a person can quote."""

import math
from collections.abc import Sequence

from weightstats.changes import LayerChange, Total, Travelled
from weightstats.errors import shortened
from weightstats.findings import number
from weightstats.fits import Fit
from weightstats.laws import law_of
from weightstats.verdicts import Verdict, signed

MOST_NAMED = 3
"""Layers that a sentence names."""

SAME_SCATTER = 0.05
"""By how much the logarithm of a scatter may differ from another without being taken for larger or smaller."""

FEWEST_IN_BOTH = 0.5
"""Share of the smaller network's layers below which two checkpoints may well be of two networks."""

FAVOURS: dict[Verdict, int] = {"contradicted": 0, "undetermined": 1, "supported": 2}
"""How well each verdict speaks of the law."""


def two_networks(in_both: int, counts: tuple[int, int]) -> str:
    """That hardly a layer is in both; '' where enough of them are, and where none is, which is another matter."""
    before, after = counts
    if not 0 < in_both < FEWEST_IN_BOTH * min(before, after):
        return ""
    found = "is" if in_both == 1 else "are"
    return (
        f"Only {in_both:,} of the {before:,} layers before {found} among the {after:,} after: these may well be two "
        f"networks, and no more than {'that one is' if in_both == 1 else 'those are'} compared."
    )


def sentences(total: Total, layers: Sequence[LayerChange], before: Fit, after: Fit) -> tuple[str, ...]:
    """How far the weights moved; whether towards the law or away; and which layers did not move, if some did not."""
    if total.paired == 0:
        return (_nothing(total),)
    if total.unchanged == total.paired:
        which = "the weights of the one layer" if total.paired == 1 else f"the weights of all {total.paired:,} layers"
        return (f"Nothing moved: {which} are what they were, element for element.",)
    law = law_between(before, after)
    if total.towards or total.away:
        law += f" Of the layers, {total.towards:,} came nearer to the law as it is fitted to each checkpoint, "
        law += f"{total.away:,} went further from it."
    if not total.unchanged:
        return _movement(total), law
    return _movement(total), law, _frozen(layers)


def _nothing(total: Total) -> str:
    if total.layers:
        which = "layer that is" if total.layers == 1 else "layers that are"
        return f"The {total.layers:,} {which} in both could not be compared weight by weight."
    return "No layer of the one is a layer of the other: there is nothing to compare."


def _movement(total: Total) -> str:
    moved = total.paired - total.unchanged
    if total.paired == 1:
        start = "The one layer moved"
    elif moved == total.paired:
        start = f"All {moved:,} layers moved"
    else:
        start = f"Of {total.paired:,} layers, {moved:,} moved"
    if total.least is None or total.most is None:
        return f"{start} away from nothing but zeros, so that there is no relative change."
    if moved == 1:
        found = f"its relative change ‖after-before‖/‖before‖ is {number(total.most.relative_change)}"
    else:
        found = (
            "the median relative change ‖after-before‖/‖before‖ is "
            f"{number(total.median_relative_change)}, from {number(total.least.relative_change)} "
            f"({shortened(total.least.name)}) to {number(total.most.relative_change)} ({shortened(total.most.name)})"
        )
    return f"{start}: {found}; over all weights together it is {number(total.relative_change)}."


def way(travelled: Travelled | None) -> str:
    """How far the weights of the last step are from those of the first, and the layers that moved most."""
    if travelled is None or travelled.layers == 0:
        return "No layer of the last step could be compared with one of the first."
    if travelled.is_unchanged:
        which = (
            "the one layer did not change" if travelled.layers == 1 else f"none of {travelled.layers:,} layers changed"
        )
        return f"From the first step to the last, {which}, though there was a change in between."
    moved = f"by {number(travelled.relative_change)} of their norm (‖last-first‖/‖first‖"
    moved += f", cosine {number(travelled.cosine)})"
    if travelled.layers - travelled.unchanged > 1 and travelled.largest:
        named = (f"{shortened(one.name)} by {number(one.relative_change)}" for one in travelled.largest[:MOST_NAMED])
        moved += f", most of all {', '.join(named)}"
    frozen = f"; {travelled.unchanged:,} of {travelled.layers:,} layers did not change" if travelled.unchanged else ""
    return f"From the first step to the last, the weights together moved {moved}{frozen}."


def along_the_way(first: str, last: str, law: str) -> str:
    """What `law_between` says, of the way from the step of one label to that of another."""
    return f"From {shortened(first)} to {shortened(last)}, {law[:1].lower()}{law[1:]}"


def law_between(before: Fit, after: Fit) -> str:
    """Whether the second fit is nearer to the law than the first one, by its scatter and by its free exponent, and what
    became of the verdict.

    The exponents count where each lies outside of the other's interval, the scatter where it is another by more than
    SAME_SCATTER.
    """
    law = after.law
    if math.isnan(before.spread) or math.isnan(after.spread):
        return f"Whether the layers moved towards the law {law} cannot be told: it takes two that are fitted in both."
    scatter = _scatter(before.spread, after.spread)
    spreads = f"they scatter about it by a factor of {number(after.spread)}, before by {number(before.spread)}"
    if math.isnan(before.exponent) or math.isnan(after.exponent):
        return f"{_start(scatter, 0, law)}: {spreads} (one standard deviation). {_verdict(before, after, scatter)}"
    slope, told = _slope(before, after, -1.0 if law_of(after.law_key).measure_name else 0.0)
    exponents = f"the free exponent of {after.measure} is {_exponent(after)}, before {_exponent(before)}"
    verdict = _verdict(before, after, scatter + slope)
    return f"{_start(scatter, slope, law)}: {spreads} (one standard deviation); {exponents}{told}. {verdict}"


def _start(scatter: int, slope: int, law: str) -> str:
    """What both measures together say, -1 standing for nearer to the law and 1 for further away."""
    signs = {scatter, slope} - {0}
    if not signs:
        return f"The layers neither moved towards the law {law} nor away from it, as far as can be told"
    if len(signs) == 1:
        way = "towards" if signs == {-1} else "away from"
        by = "" if scatter == slope else " by their scatter" if scatter else " by their exponent"
        return f"The layers moved {way} the law {law}{by}"
    nearer, further = ("scatter", "exponent") if scatter < 0 else ("exponent", "scatter")
    return f"The layers moved towards the law {law} by their {nearer} and away from it by their {further}"


def _scatter(before: float, after: float) -> int:
    one, other = math.log(before), math.log(after)
    if one == other or abs(one - other) < SAME_SCATTER * max(one, other):
        return 0
    return -1 if other < one else 1


def _slope(before: Fit, after: Fit, expected: float) -> tuple[int, str]:
    """The sign, and what is said of it."""
    if math.isnan(before.exponent_interval[0]) or math.isnan(after.exponent_interval[0]):
        return 0, ", without an interval"
    if _holds(before.exponent_interval, after.exponent) or _holds(after.exponent_interval, before.exponent):
        return 0, ", which the intervals do not tell apart"
    nearer = abs(after.exponent - expected) < abs(before.exponent - expected)
    return -1 if nearer else 1, f", {'nearer to' if nearer else 'further from'} the law's {expected:g}"


def _verdict(before: Fit, after: Fit, direction: int) -> str:
    """The two verdicts; `direction` is negative where the layers moved towards the law, positive where away from it."""
    if before.verdict == after.verdict:
        return f"The verdict is {after.verdict} for both."
    favour = FAVOURS[after.verdict] - FAVOURS[before.verdict]
    still = " all the same" if favour * direction > 0 else ""
    return f"The verdict goes from {before.verdict} to {after.verdict}{still}: {after.because}."


def _holds(interval: tuple[float, float], value: float) -> bool:
    return interval[0] <= value <= interval[1]


def _exponent(fit: Fit) -> str:
    low, high = fit.exponent_interval
    if math.isnan(low):
        return signed(fit.exponent)
    return f"{signed(fit.exponent)} (95 % interval {signed(low)} to {signed(high)})"


def _frozen(layers: Sequence[LayerChange]) -> str:
    names = [shortened(layer.name) for layer in layers if layer.is_unchanged]
    more = len(names) - MOST_NAMED
    shown = ", ".join(names[:MOST_NAMED]) + (f", … {more:,} more" if more > 0 else "")
    return f"{len(names):,} layer{'' if len(names) == 1 else 's'} did not change at all: {shown}."
