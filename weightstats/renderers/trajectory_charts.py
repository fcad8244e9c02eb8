"""The charts of a trajectory, defined once for pages, pictures and notebooks, with Vega-Altair."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import altair as alt

from weightstats.changes import Travelled
from weightstats.penalties import PENALTIES
from weightstats.renderers import words
from weightstats.renderers.chart_parts import (
    LIGHT,
    MOST_LABELS,
    MOST_NAME,
    Chart,
    Look,
    Width,
    below_each_other,
    evenly,
    exponents,
    in_order,
    inline,
    known,
    logarithmic,
    of,
    picked,
    positive,
    scaled,
    titled,
)
from weightstats.renderers.points import Range, reach
from weightstats.trajectories import Trajectory, TrajectoryStep

MANY = 60
"""Steps from which points are small, and intervals are a band alone."""

MOST_FACTOR = 1_000.0
"""How far beyond the values of c an axis reaches for their intervals, as a factor."""

STARTS = ("first", "previous")
"""What a change is counted from."""

TOGETHER, MEDIAN, LARGEST = "all weights", "median layer", "moved most"
"""What a change is of: all weights together, the layer in the middle, one of those that moved most."""

MARKS = {TOGETHER: "circle", MEDIAN: "square", LARGEST: "triangle-up"}

PENALTY_MARKS = ("circle", "square", "triangle-up")


@dataclass(frozen=True, slots=True)
class Drawn:
    """The steps of a trajectory as charts draw them."""

    rows: tuple[dict[str, Any], ...]
    """In order: `index`, `label`, `number`, ... (see `drawn`)."""

    steps: int
    """All of them; where that is more than `rows`, evenly many of those are left out."""

    unit: str
    """What the steps are counted in, where that rises from one to the next; '' where they stand in order."""

    measure: str
    """What the free exponent is of."""

    exponents: Range
    constants: Range
    norms: Range
    changes: Range
    """The ends of the axes."""

    moves: Mapping[str, tuple[dict[str, Any], ...]]
    """By STARTS: the changes of a step, of all weights together, of the median layer and of those that moved most."""


def drawn(trajectory: Trajectory) -> Drawn:
    """What all charts of a trajectory draw."""
    steps = [(index, trajectory.steps[index]) for index in evenly(len(trajectory.steps))]
    rows = tuple(_row(index, step, few=len(trajectory.steps) <= MOST_LABELS) for index, step in steps)
    moves = {start: tuple(_moves(start, rows, [step for _, step in steps])) for start in STARTS}
    constants = [row["constant"] for row in rows]
    ends = reach(constants, MOST_FACTOR)
    shown = reach([*constants, *(row[end] for row in rows for end in ("constant_low", "constant_high"))], 1.2)
    numbers = [row["number"] for row in rows]
    rises = None not in numbers and all(one < other for one, other in pairwise(numbers))
    return Drawn(
        rows=rows,
        steps=len(trajectory.steps),
        unit=trajectory.unit or "" if rises else "",
        measure=trajectory.steps[-1].fit.measure,
        exponents=exponents([step.fit for _, step in steps]),
        constants=(max(ends[0], shown[0]), min(ends[1], shown[1])),
        norms=_span([row["norm"] for row in rows]),
        changes=reach([row["change"] for start in STARTS for row in moves[start]], 1.4),
        moves=moves,
    )


def _row(index: int, step: TrajectoryStep, *, few: bool) -> dict[str, Any]:
    label = words.printable(step.step.label, MOST_NAME)
    fit = step.fit
    return {
        "index": index,
        "label": f"{index + 1}. {label}" if few else str(index + 1),
        "name": label,
        "number": step.step.number,
        "verdict": fit.verdict,
        "exponent": known(fit.exponent),
        "exponent_low": known(fit.exponent_interval[0]),
        "exponent_high": known(fit.exponent_interval[1]),
        "constant": positive(fit.constant),
        "constant_low": positive(fit.constant_interval[0]),
        "constant_high": positive(fit.constant_interval[1]),
        "norm": known(step.norm),
        **{penalty: known(step.evenness[penalty]) for penalty in PENALTIES},
    }


def _moves(start: str, rows: Sequence[Mapping[str, Any]], steps: Sequence[TrajectoryStep]) -> list[dict[str, Any]]:
    """The changes that have a logarithm."""
    found = []
    for row, step in zip(rows, steps, strict=True):
        travelled: Travelled | None = step.from_first if start == "first" else step.from_previous
        if travelled is None:
            continue
        said = [(TOGETHER, "", travelled.relative_change), (MEDIAN, "", travelled.median_relative_change)]
        said += [(LARGEST, words.printable(one.name, MOST_NAME), one.relative_change) for one in travelled.largest]
        found += [
            {**_place(row), "what": what, "layer": layer or what, "change": value}
            for what, layer, value in said
            if positive(value) is not None
        ]
    return found


def _place(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("index", "label", "name", "number")}


def _span(values: Sequence[float | None]) -> Range:
    """The ends of an axis that need not hold 0."""
    there = [value for value in values if value is not None]
    if not there:
        return 0.0, 1.0
    low, high = min(there), max(there)
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def exponent_chart(found: Drawn, look: Look = LIGHT, width: Width = 640) -> Chart:
    """The free exponent of each step, with its 95 % interval, and lines at -1 and 0."""
    y = _axis(f"free exponent of {found.measure}", alt.Scale(domain=list(found.exponents), nice=False, zero=False))
    lines = of([{"line": -1.0}, {"line": 0.0}]).mark_rule(color=look.muted, strokeDash=[4, 4], aria=False)
    chart = _with_interval(found, "exponent", y, look)
    described = "Line: the free exponent of each step, with its 95 % interval. The table has the numbers."
    return _sized(alt.layer(lines.encode(y=y("line")), *chart, data=inline(found.rows)), width, 240, described)


def constant_chart(found: Drawn, look: Look = LIGHT, width: Width = 640) -> Chart:
    """c of each step, with its 95 % interval."""
    y = _axis("c (logarithmic)", logarithmic(found.constants))
    described = "Line: c of each step, with its 95 % interval. The table has the numbers."
    return _sized(
        alt.layer(*_with_interval(found, "constant", y, look), data=inline(found.rows)), width, 180, described
    )


def _with_interval(found: Drawn, field: str, y: Callable[[str], alt.Y], look: Look) -> list[Chart]:
    """A line, and its interval as a band and, for each step, a bar: of the data of a layered chart."""
    x = _steps(found)
    low, high = f"{field}_low", f"{field}_high"
    told = [
        alt.Tooltip("name:N", title=found.unit or "checkpoint"),
        alt.Tooltip(f"{field}:Q", format=".3~g"),
        alt.Tooltip(f"{low}:Q", title="95 % interval from", format=".3~g"),
        alt.Tooltip(f"{high}:Q", title="to", format=".3~g"),
        alt.Tooltip("verdict:N"),
    ]
    ink: dict[str, Any] = {"color": look.law, "clip": True, "aria": False}
    bars = alt.Chart().mark_rule(opacity=0.4, **ink).encode(x=x, y=y(low), y2=f"{high}:Q")
    bars = bars.transform_filter(f"isValid(datum.{low}) && isValid(datum.{high})")
    return [
        alt.Chart().mark_area(opacity=0.14, **ink).encode(x=x, y=y(low), y2=f"{high}:Q"),
        *([bars] if len(found.rows) < MANY else []),
        alt.Chart().mark_line(strokeWidth=2, **ink).encode(x=x, y=y(field)),
        alt.Chart()
        .mark_point(size=_size(found), filled=True, opacity=1, cursor="pointer", **ink)
        .encode(x=x, y=y(field), tooltip=told)
        .transform_filter(f"isValid(datum.{field})"),
        picked(look).encode(x=x, y=y(field)).transform_filter(f"isValid(datum.{field})"),
    ]


def evenness_chart(found: Drawn, look: Look = LIGHT, width: Width = 640) -> Chart:
    """The evenness of each penalty's split over the layers, step by step, from 0 to 1."""
    names = [words.TITLES[penalty] for penalty in PENALTIES]
    rows = [
        {**_place(row), "penalty": words.TITLES[penalty], "evenness": row[penalty]}
        for row in found.rows
        for penalty in PENALTIES
    ]
    y = _axis("evenness", alt.Scale(domain=[0, 1]))("evenness")
    colour = scaled(alt.Color, "penalty", dict(zip(names, look.penalties.values(), strict=True)))
    told = [
        alt.Tooltip("name:N", title=found.unit or "checkpoint"),
        alt.Tooltip("penalty:N"),
        alt.Tooltip("evenness:Q", format=".2f"),
    ]
    lines = of(rows).mark_line(strokeWidth=2, aria=False).encode(x=_steps(found), y=y, color=colour)
    points = (
        of([row for row in rows if row["evenness"] is not None])
        .mark_point(size=_size(found), filled=True, opacity=1, aria=False, cursor="pointer")
        .encode(
            x=_steps(found),
            y=y,
            color=colour,
            shape=scaled(alt.Shape, "penalty", dict(zip(names, PENALTY_MARKS, strict=True))),
            tooltip=told,
        )
    )
    described = "Lines: the evenness of the three penalties at each step. The table has the numbers."
    return _sized(alt.layer(lines, points), width, 180, described)


def norm_chart(found: Drawn, look: Look = LIGHT, width: Width = 640) -> Chart:
    """The norm of all weights together, step by step."""
    y = _axis("‖w‖", alt.Scale(domain=list(found.norms), nice=False, zero=False))("norm")
    ink: dict[str, Any] = {"color": look.law, "clip": True, "aria": False}
    told = [alt.Tooltip("name:N", title=found.unit or "checkpoint"), alt.Tooltip("norm:Q", format=".4~g")]
    there = of([row for row in found.rows if row["norm"] is not None])
    points = there.mark_point(size=_size(found), filled=True, opacity=1, cursor="pointer", **ink)
    return _sized(
        alt.layer(
            of(found.rows).mark_line(strokeWidth=2, **ink).encode(x=_steps(found), y=y),
            points.encode(x=_steps(found), y=y, tooltip=told),
        ),
        width,
        140,
        "Line: the norm of all weights together at each step. The table has the numbers.",
    )


def first_chart(found: Drawn, look: Look = LIGHT, width: Width = 640) -> Chart:
    """How far the weights of each step are from those of the first one."""
    return _moved(found, "first", look, width)


def previous_chart(found: Drawn, look: Look = LIGHT, width: Width = 640) -> Chart:
    """How far the weights of each step are from those of the one before."""
    return _moved(found, "previous", look, width)


def _moved(found: Drawn, start: str, look: Look, width: Width) -> Chart:
    """All weights together and the median layer as lines, and the layers that moved most as points."""
    rows = found.moves[start]
    first, second, third, *_ = look.families.values()
    y = _axis("relative change", logarithmic(found.changes))("change")
    colour = scaled(alt.Color, "what", {TOGETHER: first, MEDIAN: third, LARGEST: second})
    told = [
        alt.Tooltip("name:N", title=found.unit or "checkpoint"),
        alt.Tooltip("layer:N", title="of"),
        alt.Tooltip("change:Q", title=f"change from the {start}", format=".3~g"),
    ]
    lines = of([row for row in rows if row["what"] != LARGEST]).mark_line(strokeWidth=2, clip=True, aria=False)
    points = of(rows).mark_point(size=_size(found), filled=True, opacity=0.9, clip=True, aria=False, cursor="pointer")
    return _sized(
        alt.layer(
            lines.encode(x=_steps(found), y=y, color=colour),
            points.encode(x=_steps(found), y=y, color=colour, shape=scaled(alt.Shape, "what", MARKS), tooltip=told),
        ),
        width,
        180,
        f"Lines: the relative change from the {start} step. The table has the numbers.",
    )


def _axis(title: str, scale: alt.Scale) -> Callable[[str], alt.Y]:
    """One vertical axis for several fields."""
    axis = alt.Axis(format="~g", tickCount=5, labelOverlap=True)
    return lambda field: alt.Y(f"{field}:Q", title=title, scale=scale, axis=axis)


def _steps(found: Drawn) -> alt.X:
    """The horizontal axis: numbers where the steps are counted, else their order."""
    if not found.unit:
        return in_order([row["label"] for row in found.rows], "checkpoint, in order")
    numbers = [row["number"] for row in found.rows]
    scale = alt.Scale(domain=[numbers[0], numbers[-1]], nice=False, zero=False, padding=8)
    return alt.X("number:Q", title=found.unit, scale=scale, axis=alt.Axis(format=",~d", tickCount=8, labelOverlap=True))


def _size(found: Drawn) -> int:
    return 50 if len(found.rows) < MANY else 16


def _sized(chart: Chart, width: Width, height: int, description: str) -> Chart:
    parameter = alt.param(name="picked", value=-1)
    return chart.add_params(parameter).properties(width=width, height=height, description=description)


CHARTS: dict[str, tuple[Callable[[Drawn, Look, Width], Chart], str]] = {
    "law": (exponent_chart, "Free exponent with its 95 % interval; dashed: -1 and 0"),
    "constants": (constant_chart, "c with its 95 % interval"),
    "evenness": (evenness_chart, "Evenness of the three penalties"),
    "norms": (norm_chart, "Norm of all weights together"),
    "first": (first_chart, "Relative change from the first checkpoint"),
    "previous": (previous_chart, "Relative change from the previous checkpoint"),
}
"""All charts by their names in a page, with what stands above them in a picture."""


def trajectory_chart(trajectory: Trajectory) -> Chart:
    """All charts of a trajectory below each other, for a picture or a notebook."""
    found = drawn(trajectory)
    parts = [titled(make(found, LIGHT, 640), [title]) for make, title in CHARTS.values()]
    return below_each_other(parts, title_of(trajectory), trajectory.findings)


def title_of(trajectory: Trajectory) -> str:
    """`10 checkpoints, from step-0.pt to step-2000.pt`."""
    ends = (trajectory.steps[0], trajectory.steps[-1])
    first, last = (words.last_part(step.checkpoint.location) for step in ends)
    return f"{len(trajectory.steps):,} checkpoints, from {first} to {last}"
