"""The layers' mean squares against what the law depends on, as a scatter plot in characters for any terminal.

What a mark means is in its character alone; colours only repeat it.
"""

import importlib
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weightstats.findings import number
from weightstats.laws import law_of
from weightstats.renderers.points import Scatter, make_scatter
from weightstats.report import LayerRow, Report

HEIGHT = 24
"""Lines of the plot with its axes; sentences stand above and below."""

LEAST = (40, 8)
"""Width and height of the smallest plot that is drawn."""

LEAST_DECADES = 0.5
"""Powers of ten that an axis spans at least, so that layers which lie close together do not look far apart."""

MARGIN = 0.04
"""Of an axis's span, left free on either side of the outermost layers."""

ROOM = (9, 3)
"""Columns for each tick of the lower axis, and lines for each tick of the left one."""

PLAIN = (-3, 5)
"""Powers of ten between which ticks are written out; others are written as 5e-7."""

MANTISSAS = ((1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0), (1.0, 2.0, 3.0, 5.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
"""Of ticks, the finest first: the first that leaves each its room is taken, else powers of ten at equal distances."""

FITTED, SCALE_FREE, LEFT_OUT = "fitted", "scale-free", "left out"

MARKS = {FITTED: "o", SCALE_FREE: "s", LEFT_OUT: "x"}
"""Of one layer in its place. For several the other two are written large; a layer of the fit makes it their number."""

MANY = "#"
"""Ten layers or more in one place."""

LAW = "·"

COLOURS = {FITTED: 6, SCALE_FREE: 3, LEFT_OUT: 1, LAW: 2}
"""Of the sixteen that terminals have: cyan, yellow, red, green."""

ASCII = str.maketrans(dict(zip("┌┐└┘├┤┬┴─│" + LAW, "++++++++-|.", strict=True)))
"""What stands in place of other characters where only ASCII can be shown."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """A logarithmic axis; places and ends are powers of ten."""

    title: str
    low: float
    high: float
    cells: int

    def cell(self, power: float) -> float:
        """Where a value lies: 0 in the middle of the first cell, `cells` - 1 in that of the last."""
        return (power - self.low) / (self.high - self.low) * (self.cells - 1)


@dataclass(frozen=True, slots=True)
class _Point:
    """A layer that can be drawn, as powers of ten."""

    x: float
    y: float
    standing: str


def render(
    report: Report, width: int = 100, height: int = HEIGHT, *, colour: bool = False, ascii_only: bool = False
) -> str:
    """The plot and what its marks mean, as lines of at most `width` characters (but see LEAST), ANSI colours only if
    `colour`, and nothing but ASCII if `ascii_only`. It needs the `plot` extra, unless there is nothing to draw."""
    width, height = max(width, LEAST[0]), max(height, LEAST[1])
    measure = report.fit.measure.replace("·", "*") if ascii_only else report.fit.measure
    scatter = make_scatter(report)
    every = _points(report, scatter)
    points = every if scatter.shows_left_out else [point for point in every if point.standing != LEFT_OUT]
    if not points:
        return "\n".join(textwrap.wrap(_nothing(report), width)) + "\n"
    drawn, signs = _drawn(points, _law_line(report), measure, width, height, colour=colour)
    head = f"Mean square of each layer against {measure}, both on logarithmic scales."
    legend = (
        *_legend(points, signs),
        _law(report, measure),
        _missing(len(report.layers) - len(every)),
        _far(len(every) - len(points)),
    )
    below = [line for said in legend for line in textwrap.wrap(said, width, subsequent_indent="  ")]
    text = "\n".join([*textwrap.wrap(head, width), *drawn, *below]) + "\n"
    return text.translate(ASCII) if ascii_only else text


def is_shown_by(encoding: str | None) -> bool:
    """Whether an encoding, such as that of stdout, has the characters that a plot is drawn with."""
    try:
        "".join(map(chr, ASCII)).encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _points(report: Report, scatter: Scatter) -> list[_Point]:
    """The layers that can be drawn, as powers of ten."""
    return [
        _Point(math.log10(point.measure), math.log10(point.mean_square), _standing(report.layers[point.index]))
        for point in scatter.points
    ]


def _standing(layer: LayerRow) -> str:
    if not layer.fitted:
        return LEFT_OUT
    return SCALE_FREE if layer.scale_free else FITTED


def _law_line(report: Report) -> tuple[float, float] | None:
    """Power of ten of the law's constant, and its slope; None where there is none."""
    if not 0.0 < report.fit.constant < math.inf:
        return None
    return math.log10(report.fit.constant), -1.0 if law_of(report.fit.law_key).measure_name else 0.0


def _drawn(
    points: Sequence[_Point],
    line: tuple[float, float] | None,
    measure: str,
    width: int,
    height: int,
    *,
    colour: bool,
) -> tuple[list[str], set[str]]:
    """The plot's lines, and the signs that are in them. Figure and terminal are its own: plotext's global ones keep
    what was drawn before, and are no wider than the terminal that there is."""
    plotext = importlib.import_module("plotext")
    terminal = type(plotext.terminal)().limit(False, False)
    figure = type(plotext.figure)(terminal).plot_size(width, height).theme("colorless")
    rows = height - 4  # two lines of the frame, one of ticks, one of titles
    y = _axis("mean square", [point.y for point in points], rows)
    y_ticks = _ticks(y, rows // ROOM[1])
    columns = width - 2 - max(map(len, y_ticks.values()))
    x = _axis(measure, [point.x for point in points], columns)
    for which, axis, ticks in ((0, x, _ticks(x, columns // ROOM[0])), (1, y, y_ticks)):
        ruler = figure.ruler(which, 0)
        ruler.lim(0, axis.cells - 1)
        ruler.ticks([axis.cell(power) for power in ticks], list(ticks.values()))
        figure.label(axis.title, which, 0)
    signs: dict[tuple[int, int], tuple[str, str]] = dict.fromkeys(_line_cells(line, x, y), (LAW, LAW))
    signs |= _signs(points, x, y)
    made = {sign: plotext.marker(sign[0], pixel=plotext.pixel(COLOURS[sign[1]])) for sign in set(signs.values())}
    figure.draw(figure.signal(*zip(*signs, strict=True), marker=[made[sign] for sign in signs.values()]))
    lines: list[str] = figure.build().string(colorless=not colour).splitlines()
    return [line if colour else line.rstrip() for line in lines], {sign for sign, _ in signs.values()}


def _axis(title: str, powers: Sequence[float], cells: int) -> _Axis:
    """An axis that holds the values with a margin."""
    low, high = min(powers), max(powers)
    free = max(MARGIN * (high - low), (LEAST_DECADES - (high - low)) / 2)
    return _Axis(title, low - free, high + free, cells)


def _ticks(axis: _Axis, most: int) -> dict[float, str]:
    """About `most` round values of an axis at the most, as powers of ten with their labels."""
    exponents = range(math.floor(axis.low), math.ceil(axis.high) + 1)
    for mantissas in MANTISSAS:
        values = [(mantissa, exponent) for exponent in exponents for mantissa in mantissas]
        shown = [value for value in values if axis.low <= math.log10(value[0]) + value[1] <= axis.high]
        if len(shown) <= max(most, 2):
            break
    else:
        step = math.ceil(len(shown) / max(most, 2))
        shown = [value for value in shown if value[1] % step == 0]
    written = all(PLAIN[0] <= exponent <= PLAIN[1] for _, exponent in shown)
    return {
        math.log10(mantissa) + exponent: f"{mantissa * 10.0**exponent:,.10g}" if written else f"{mantissa:g}e{exponent}"
        for mantissa, exponent in shown
    }


def _line_cells(line: tuple[float, float] | None, x: _Axis, y: _Axis) -> set[tuple[int, int]]:
    """The cells that the law passes through."""
    if line is None:
        return set()
    steps = np.linspace(x.low, x.high, 4 * (x.cells + y.cells))
    places = ((round(x.cell(power)), round(y.cell(line[0] + line[1] * power))) for power in steps.tolist())
    return {(across, up) for across, up in places if 0 <= up < y.cells}


def _signs(points: Sequence[_Point], x: _Axis, y: _Axis) -> dict[tuple[int, int], tuple[str, str]]:
    """What stands in each cell, and what it is coloured as."""
    cells: dict[tuple[int, int], list[str]] = {}
    for point in points:
        cells.setdefault((round(x.cell(point.x)), round(y.cell(point.y))), []).append(point.standing)
    return {cell: _sign(standings) for cell, standings in cells.items()}


def _sign(standings: Sequence[str]) -> tuple[str, str]:
    first = min(standings, key=list(MARKS).index)
    if len(standings) == 1:
        return MARKS[first], first
    if first == FITTED:
        return (str(len(standings)) if len(standings) < 10 else MANY), first
    return MARKS[first].upper(), first


def _legend(points: Sequence[_Point], signs: set[str]) -> tuple[str, ...]:
    """What the marks mean that there are; '' for others."""
    fitted, free, left_out = (sum(point.standing == standing for point in points) for standing in MARKS)
    numbers = any(sign.isdecimal() for sign in signs)
    free_means = "of the fit whose scale does not change what the network computes"
    return (
        f"o  a layer of the fit ({fitted:,})" if fitted else "",
        f"2-9  as many layers in one place{_also(MANY, 'ten or more', signs)}" if numbers else "",
        f"{MANY}  ten layers or more in one place" if MANY in signs and not numbers else "",
        f"s  a layer {free_means} ({free:,}){_also('S', 'several', signs)}" if free else "",
        f"x  a layer that the fit leaves out ({left_out:,}){_also('X', 'several', signs)}" if left_out else "",
    )


def _also(sign: str, meaning: str, signs: set[str]) -> str:
    return f"; {sign}  {meaning}" if sign in signs else ""


def _law(report: Report, measure: str) -> str:
    """What the line is, or why there is none."""
    fit = report.fit
    if not fit.layers:
        return "No law is drawn: there is no layer to fit it to."
    if not 0.0 < fit.constant < math.inf:
        return "No law is drawn: its constant is beyond what float64 can hold."
    law = law_of(fit.law_key)
    fixed = "" if law.constant is None else f" ({law.key} says {number(law.constant)})"
    formula = f"c/{f'({measure})' if '+' in measure or '·' in measure or '*' in measure else measure}"
    fitted = f"c = {number(fit.constant)}, fitted to {fit.layers:,} layer{'' if fit.layers == 1 else 's'}{fixed}"
    return f"{LAW}  the law {formula if law.measure_name else 'c'} with {fitted}"


def _missing(layers: int) -> str:
    if not layers:
        return ""
    return f"Not drawn: {layers:,} layer{' has' if layers == 1 else 's have'} no mean square that is a number above 0."


def _far(layers: int) -> str:
    if not layers:
        return ""
    which = (
        "1 layer that the fit leaves out, and that lies"
        if layers == 1
        else (f"{layers:,} layers that the fit leaves out, of which some lie")
    )
    return f"Not drawn: {which} far from the others."


def _nothing(report: Report) -> str:
    if not report.layers:
        return "Nothing to plot: the checkpoint has no layers."
    return f"Nothing to plot. {_missing(len(report.layers))}"
