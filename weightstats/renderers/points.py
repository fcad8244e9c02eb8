"""What the picture of a fit shows, as numbers: the layers, the law with its interval, the free exponent, the rivals.

All lines are straight in logarithms, so that their ends tell them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from weightstats.contest import Standing
from weightstats.fits import Fit
from weightstats.laws import LAWS, Floats, law_of
from weightstats.report import Report

MARGIN = 1.25
"""Factor by which lines reach beyond the outermost layers."""

_LOG_LARGEST = 709.0
"""Natural logarithm of about the largest float64."""


Range = tuple[float, float]
"""The ends of an axis."""


class HasFans(Protocol):
    """A layer as any record has it."""

    @property
    def n_in(self) -> int:
        """Inputs."""
        ...

    @property
    def n_out(self) -> int:
        """Outputs."""
        ...

    @property
    def elements(self) -> int:
        """Weights."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """A layer that can be drawn: its mean square and its measure are positive numbers."""

    index: int
    """In the report's layers."""

    measure: float
    """What the law depends on, n_in+n_out by default."""

    mean_square: float


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a line: what it says of the mean square there, with the interval about it."""

    measure: float
    mean_square: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rival:
    """What another law of the contest says of the layers of one shape."""

    law: str
    """Its key in `laws.LAWS`, or `superset`."""

    formula: str
    measure: float
    mean_square: float


@dataclass(frozen=True, slots=True)
class Frame:
    """The ends of the axes."""

    measures: Range
    mean_squares: Range

    def is_far_beyond(self, other: "Frame") -> bool:
        """Whether it would squeeze the other one into less than half of an axis."""
        axes = ((self.measures, other.measures), (self.mean_squares, other.mean_squares))
        return any(math.log(own[1] / own[0]) > 2.0 * math.log(its[1] / its[0]) for own, its in axes)


@dataclass(frozen=True, slots=True)
class Scatter:
    """The picture of a fit. Made by `make_scatter`."""

    measure: str
    """The name of the horizontal axis."""

    points: tuple[Point, ...]
    frame: Frame
    """Of the layers that the fit uses and of the law; an interval or a rival may go beyond."""

    whole: Frame
    """Of all layers that can be drawn."""

    not_drawn: tuple[int, ...]
    """Layers without a mean square that has a logarithm: zero, or not known."""

    law: tuple[Place, ...]
    """The fitted law with the 95 % interval of its constant; empty without one."""

    free: tuple[Place, ...]
    """The line of the free exponent, and lines of the ends of its 95 % interval through its middle; empty without."""

    rivals: tuple[Rival, ...]

    @property
    def shows_left_out(self) -> bool:
        """Whether layers that the fit leaves out are drawn from the start: unless they lie far from the others."""
        return not self.whole.is_far_beyond(self.frame)


def make_scatter(report: Report) -> Scatter:
    """The picture of the report's fit; there may be no layer to draw."""
    fit = report.fit
    measures = measures_of(fit, report.layers)
    drawn = [
        0.0 < row.mean_square < math.inf and 0.0 < measure < math.inf
        for row, measure in zip(report.layers, measures.tolist(), strict=True)
    ]
    points = tuple(
        Point(index, float(measures[index]), row.mean_square) for index, row in enumerate(report.layers) if drawn[index]
    )
    fitted = [point.measure for point in points if report.layers[point.index].fitted]
    ends = (min(fitted) / MARGIN, max(fitted) * MARGIN) if fitted else None
    law = () if ends is None else _law(fit, ends)
    return Scatter(
        measure=fit.measure,
        points=points,
        frame=_frame([point for point in points if report.layers[point.index].fitted] or points, law),
        whole=_frame(points, law),
        not_drawn=tuple(index for index, there in enumerate(drawn) if not there),
        law=law,
        free=() if ends is None else _free(fit, ends, math.exp(math.fsum(map(math.log, fitted)) / len(fitted))),
        rivals=tuple(_rivals(report, measures)),
    )


def _frame(points: Sequence[Point], law: Sequence[Place]) -> Frame:
    values = [*(point.mean_square for point in points), *(place.mean_square for place in law)]
    return Frame(reach([point.measure for point in points], MARGIN), reach(values, 1.5))


def reach(values: Sequence[float | None], margin: float) -> Range:
    """From the smallest positive value to the largest, and a margin beyond; (0.1, 1) without any."""
    there = [value for value in values if value is not None and 0.0 < value < math.inf]
    return (max(min(there) / margin, 1e-300), min(max(there) * margin, 1e300)) if there else (0.1, 1.0)


def measures_of(fit: Fit, layers: Sequence[HasFans]) -> Floats:
    """What the law depends on, for each layer; n_in+n_out where it is a constant."""
    n_in, n_out, elements = _fans(layers)
    law = law_of(fit.law_key)
    return law.measure(n_in, n_out, elements) if law.measure_name else n_in + n_out


def _fans(layers: Sequence[HasFans]) -> tuple[Floats, Floats, Floats]:
    columns = [(row.n_in, row.n_out, row.elements) for row in layers]
    n_in, n_out, elements = np.array(columns, dtype=np.float64).reshape(-1, 3).T
    return n_in, n_out, elements


def _law(fit: Fit, ends: tuple[float, float]) -> tuple[Place, ...]:
    falls = 1.0 if law_of(fit.law_key).measure_name else 0.0
    low, high = fit.constant_interval
    return tuple(
        Place(end, *(constant / end**falls for constant in (fit.constant, low, high)))
        for end in ends
        if math.isfinite(fit.constant)
    )


def _free(fit: Fit, ends: tuple[float, float], middle: float) -> tuple[Place, ...]:
    """Through the line's value at the middle: only how steep it is has an interval here."""
    if not (math.isfinite(fit.exponent) and math.isfinite(fit.free_constant)):
        return ()
    centre = _scaled(fit.free_constant, fit.exponent * math.log(middle))
    places = []
    for end in (ends[0], middle, ends[1]):
        steps = math.log(end / middle)
        value, *sides = (_scaled(centre, slope * steps) for slope in (fit.exponent, *fit.exponent_interval))
        places.append(Place(end, value, min(sides), max(sides)))
    return tuple(places)


def _scaled(value: float, logarithm: float) -> float:
    """value·exp(logarithm); infinite or 0 beyond what float64 holds."""
    return float(value * np.exp(np.float64(min(logarithm, _LOG_LARGEST))))


def _rivals(report: Report, measures: Floats) -> list[Rival]:
    """Each law of the contest at each distinct shape of the fitted layers, in the contest's order."""
    shapes: dict[tuple[int, int, int], int] = {}
    for index, row in enumerate(report.layers):
        if row.fitted:
            shapes.setdefault((row.n_in, row.n_out, row.elements), index)
    places = list(shapes.values())
    fans = _fans([report.layers[index] for index in places])
    rivals = []
    for standing in report.contest.standings:
        for index, value in zip(places, _said(standing, fans), strict=True):
            if 0.0 < value < math.inf:
                rivals.append(Rival(standing.law, standing.formula, float(measures[index]), float(value)))
    return rivals


def _said(standing: Standing, fans: tuple[Floats, Floats, Floats]) -> Floats:
    """The mean squares that a law has for layers of these fans, with its constant in the contest."""
    if standing.exponents is not None:
        logarithms = standing.exponents[0] * np.log(fans[0]) + standing.exponents[1] * np.log(fans[1])
    else:
        logarithms = next(law for law in LAWS if law.key == standing.law).logarithms(*fans)
    with np.errstate(over="ignore", under="ignore"):
        said: Floats = standing.constant * np.exp(logarithms)
    return said
