"""Whether layers are as an initialiser left them: by mean square, kurtosis, mean and largest weight."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from weightstats.draws import blocks_of, drawn_of
from weightstats.hypotheses import COARSEST, HARDLY, Hypothesis, Z, covered, hypotheses, ratio_interval
from weightstats.initialisers import Drawn
from weightstats.layers import Layer
from weightstats.moments import Moments
from weightstats.samples import PRECISION, Failed, Sample, failed, over_bound, sample_of, scores_of

State: TypeAlias = Literal["as initialised", "hardly moved", "moved", "not told"]

ALONE = 0.1
"""The share of the reach of mean squares that initialisers may cover where a layer is judged by itself: some 20,000
elements of a normal layer, 500 of a uniform one. `benchmarks/initialised.py` measures what other shares would do."""

IN_COMPANY = 0.5
"""The same where most other layers of the network are as initialised."""

FEWEST = 50
"""Elements below which a kurtosis says nothing."""

TOO_COARSE = 0.2
"""Rounding, in root mean squares, from which on a distribution's shape is that of the stored numbers."""

MOST_NAMED = 3
"""Initialisers that a reason names."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An initialiser that a layer could have been left by."""

    name: str
    ratio: float
    """The layer's mean square over the initialiser's."""

    interval: tuple[float, float]
    """What that ratio lies within in a fresh layer of so many elements, but for one in 40,000."""


@dataclass(frozen=True, slots=True)
class Initialisation:
    """What a layer has to do with the initialisers that could have drawn it."""

    state: State
    as_initialised: bool
    """Whether the state is that: nothing excludes some initialiser, and the layer is large enough for that to say
    something."""

    because: str
    distribution: str
    """The shape of the weights' distribution in a word or two; '' where the layer is not judged."""

    candidates: tuple[Candidate, ...]
    """The initialisers that nothing excludes, also where the layer is too small for that to say something; of a layer
    that has hardly moved, those that only its largest weight excludes."""

    nearest: str | None
    """The initialiser whose mean square is nearest, possible or not."""

    nearest_ratio: float
    """The layer's mean square over that one's; NaN where there is none."""

    @property
    def is_untrained(self) -> bool:
        """As initialised, or hardly moved from it."""
        return self.state in ("as initialised", "hardly moved")


@dataclass(frozen=True, slots=True)
class _Judged:
    """A layer by itself."""

    initialisation: Initialisation
    covered: float
    """Of the reach of mean squares, by the initialisers that it could be as of; infinite where there is none."""


def initialisations(layers: Sequence[Layer], moments: Sequence[Moments]) -> tuple[Initialisation, ...]:
    """One for each layer of a network, whose moments are those at its place.

    Where a layer is too small to be judged by itself, the other layers tell whether it is likely to be as initialised.
    """
    blocks = blocks_of(layers)
    judged = [_judged(layer, its, blocks.get(layer.name, 0)) for layer, its in zip(layers, moments, strict=True)]
    untrained = sum(one.initialisation.is_untrained and one.covered <= IN_COMPANY for one in judged)
    moved = sum(one.initialisation.state == "moved" for one in judged)
    return tuple(_in_company(one, untrained, moved) for one in judged)


def _in_company(one: _Judged, untrained: int, moved: int) -> Initialisation:
    """The initialisation, taken back where the layer is too small for what the other layers are."""
    found = one.initialisation
    if not found.is_untrained or one.covered <= ALONE:
        return found
    if one.covered <= IN_COMPANY and untrained - 1 >= max(1, moved):
        return found
    because = f"too small to tell: {found.because}, but so could be those of a trained layer of its size"
    return replace(found, state="not told", as_initialised=False, because=because)


def _judged(layer: Layer, moments: Moments, blocks: int) -> _Judged:
    reason = _not_judged(layer, moments)
    if reason:
        return _not_told(reason)
    drawn = drawn_of(layer, blocks)
    sample = sample_of(drawn, moments, layer.tensor.dtype.name)
    if sample.elements < FEWEST:
        return _not_told(f"too small to tell: {sample.elements} elements")
    if sample.step > TOO_COARSE:
        return _not_told("its numbers are rounded too coarsely for their size")
    return _tried(sample, drawn if sample.elements == drawn.elements else replace(drawn, elements=sample.elements))


def _not_told(because: str) -> _Judged:
    return _Judged(Initialisation("not told", False, because, "", (), None, math.nan), math.inf)


def _not_judged(layer: Layer, moments: Moments) -> str:
    """Why nothing can be said of the layer; '' where something can."""
    dtype = layer.tensor.dtype.name
    if layer.tensor.dtype.kind == "complex":
        return "complex: what is known of initialisers is of real weights"
    if dtype not in PRECISION or (layer.stored is not None and layer.stored.dtype.name != dtype):
        return "quantised: what it was drawn from is lost in the rounding"
    if moments.nonfinite:
        return "not all of its weights are finite"
    if moments.max_abs == 0.0:
        return "all its weights are zero, from the start or pruned"
    if not 0.0 < moments.mean_square < math.inf:
        return "its mean square is beyond what float64 can hold"
    if math.isnan(moments.excess_kurtosis):
        return "all its weights are equal"
    return ""


def _tried(sample: Sample, drawn: Drawn) -> _Judged:
    """What the initialisers would have made of the layer, tried on its sample."""
    every, scores = hypotheses(drawn), scores_of(sample)
    low, high = ratio_interval(sample.elements)  # of a normal distribution, the widest but for rounding
    near = every.between(sample.mean_square / (1.1 * high), 1.1 * sample.mean_square / max(low, 0.01))
    fates = [(failed(sample, one, scores), one) for one in near]
    possible = [one for fate, one in fates if fate is Failed.NOTHING]
    barely = [one for fate, one in fates if fate is Failed.BOUND and over_bound(sample, one) <= HARDLY]
    kept = possible or barely
    state: State = "as initialised" if possible else "hardly moved" if barely else "moved"
    nearest = min(every.nearest(sample.mean_square), key=lambda one: abs(scores[one.distribution.name]))
    if kept:
        because = _kept_because(sample, state, kept)
    else:  # what speaks against the initialiser that most speaks for
        against = max(fates, key=lambda pair: (pair[0], -abs(scores[pair[1].distribution.name])), default=None)
        because = _moved_because(sample, *(against or (Failed.MEAN_SQUARE, nearest)), nearest)
    return _Judged(
        Initialisation(
            state=state,
            as_initialised=state == "as initialised",
            because=because,
            distribution=_shape(scores),
            candidates=tuple(Candidate(one.name, sample.mean_square / one.mean_square, one.interval) for one in kept),
            nearest=nearest.name,
            nearest_ratio=sample.mean_square / nearest.mean_square,
        ),
        covered=min((_share(sample, drawn, one, 0.0 if possible else HARDLY) for one in kept), default=math.inf),
    )


def _share(sample: Sample, drawn: Drawn, one: Hypothesis, slack: float) -> float:
    """Of the reach of mean squares, by all initialisers of the same distribution."""
    if one.fewest and sample.step <= COARSEST:
        return 0.0 if sample.elements >= one.fewest else math.inf
    return covered(drawn, one.distribution, slack)


def _kept_because(sample: Sample, state: State, kept: Sequence[Hypothesis]) -> str:
    names = _listed(one.name for one in kept)
    if state == "as initialised":
        return f"its mean square, kurtosis, mean and largest weight are those of {names}"
    over = min(over_bound(sample, one) for one in kept)
    return (
        f"its mean square, kurtosis and mean are those of {names}, whose bound its largest weight exceeds by "
        f"{100 * over:.1f} %"
    )


def _moved_because(sample: Sample, fate: Failed, one: Hypothesis, nearest: Hypothesis) -> str:
    what = {
        Failed.KURTOSIS: f"its excess kurtosis, {sample.excess_kurtosis:.3g}, is not",
        Failed.MEAN: f"its mean, {sample.mean:.3g}, is too far from 0",
        Failed.ZEROS: f"{sample.zeros:,} of its weights are 0",
        Failed.TOO_LARGE: "its largest weight is too large",
        Failed.TOO_SMALL: "its largest weight is too small",
        Failed.BOUND: "its largest weight is far beyond the bound",
    }.get(fate)
    if what is not None:
        return f"its mean square is that of {one.name}, but {what}"
    ratio = sample.mean_square / nearest.mean_square
    return f"its mean square is {ratio:.3g} times that of the nearest initialiser, {nearest.name}"


def _listed(names: Iterable[str]) -> str:
    """`Glorot uniform or LeCun uniform`."""
    first = list(dict.fromkeys(names))
    shown = first if len(first) <= MOST_NAMED else [*first[: MOST_NAMED - 1], "others"]
    return " or ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _shape(scores: Mapping[str, float]) -> str:
    """The distribution in words, by its kurtosis."""
    fitting = [name for name, its in scores.items() if abs(its) <= Z]
    return " or ".join(fitting) or ("heavy-tailed" if scores["normal"] > 0.0 else "light-tailed")
