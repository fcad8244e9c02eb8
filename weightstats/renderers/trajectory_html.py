"""A trajectory as a page to look at: one self-contained file with charts that answer the mouse, and a table."""

from collections.abc import Sequence
from typing import Any

from weightstats.changes import Extreme, Travelled
from weightstats.comparison_findings import MOST_NAMED
from weightstats.penalties import PENALTIES
from weightstats.renderers import page, trajectory_charts, words
from weightstats.renderers.chart_parts import PAGE, lines_of
from weightstats.renderers.comparison_html import warnings_of
from weightstats.renderers.comparison_terminal import constant_of, exponent_of
from weightstats.renderers.html import MOST_ROWS, Cell, Line, cell, grouped
from weightstats.renderers.trajectory_text import change_of, steps_from
from weightstats.trajectories import Trajectory, TrajectoryStep

CALL = "weightstats.trajectory(...)"
"""What made a page of which no command is known."""

NUMBERS = (
    *("layers", "c (95 % interval)", "exponent (95 % interval)", "scatter"),
    *(f"{words.TITLES[penalty]} evenness" for penalty in PENALTIES),
    *("‖w‖", "change from the first", "from the previous"),
)
"""The table's columns of numbers."""


def render(trajectory: Trajectory, command: str = CALL) -> str:
    """The page; `command` is what made it, as it can be run again."""
    found = trajectory_charts.drawn(trajectory)
    made = {name: make(found, PAGE, "container") for name, (make, _) in trajectory_charts.CHARTS.items()}
    return page.render("trajectory.html.j2", made, command, **_values(trajectory, found))


def _values(trajectory: Trajectory, found: trajectory_charts.Drawn) -> dict[str, Any]:
    steps = trajectory.steps
    return {
        "title": trajectory_charts.title_of(trajectory),
        "ends": [words.printable(step.checkpoint.location) for step in (steps[0], steps[-1])],
        "findings": trajectory.findings,
        "warnings": [warning for step in steps for warning in warnings_of(step.checkpoint.location, step.checkpoint)],
        "law": steps[-1].fit.law,
        "dashes": lines_of(steps[-1].fit),
        "unit": trajectory.unit or "checkpoint",
        "drawn": len(found.rows),
        "steps": len(steps),
        "moved": _moved(steps),
        "numbers": NUMBERS,
        "lines": [_line(index, step) for index, step in enumerate(steps[:MOST_ROWS])],
        "most_rows": MOST_ROWS,
        "steps_from": steps_from(trajectory),
        "skipped": grouped((one.reason, one.name) for one in trajectory.skipped),
    }


def _moved(steps: Sequence[TrajectoryStep]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The layers that moved most: from the first step to the last, and where one step took it furthest."""
    found = []
    last = steps[-1]
    if last.from_first is not None and last.from_first.largest:
        label = words.printable(last.step.label)
        found.append((f"from the first checkpoint to the last, {label}", _named(last.from_first.largest)))
    leaps = [
        (step.from_previous, step.step.label) for step in steps if step.from_previous and step.from_previous.largest
    ]
    if leaps and len(steps) > 2:
        furthest, label = max(leaps, key=lambda leap: leap[0].relative_change)
        title = f"in the largest move from one checkpoint to the next, to {words.printable(label)}"
        found.append((title, _named(furthest.largest)))
    return found


def _named(largest: Sequence[Extreme]) -> list[tuple[str, str]]:
    return [(words.printable(one.name), words.number(one.relative_change)) for one in largest]


def _line(index: int, step: TrajectoryStep) -> Line:
    fit = step.fit
    return Line(
        index=index,
        name=words.printable(step.step.label),
        kind=fit.verdict,
        shape="",
        numbers=(
            cell(step.layers, f"{step.layers:,}"),
            cell(fit.constant, constant_of(fit)),
            cell(fit.exponent, exponent_of(fit)),
            cell(fit.spread, words.number(fit.spread)),
            *(cell(step.evenness[penalty], words.evenness(step.evenness[penalty])) for penalty in PENALTIES),
            cell(step.norm, words.number(step.norm)),
            _change(step.from_first),
            _change(step.from_previous),
        ),
        notes=tuple(_notes(step)),
    )


def _change(travelled: Travelled | None) -> Cell:
    return Cell("", "") if travelled is None else cell(travelled.relative_change, change_of(travelled))


def _notes(step: TrajectoryStep) -> list[str]:
    """The layers that moved most, what was not compared, and where the checkpoint lies."""
    found = []
    for start, travelled in (("first", step.from_first), ("previous", step.from_previous)):
        if travelled is not None and travelled.largest:
            named = (f"{name} by {change}" for name, change in _named(travelled.largest[:MOST_NAMED]))
            found.append(f"moved most from the {start}: {', '.join(named)}")
        if travelled is not None and travelled.unmatched:
            found.append(f"{travelled.unmatched:,} layers not compared with the {start}")
    return [*found, words.printable(step.checkpoint.location)]
