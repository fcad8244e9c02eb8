"""What `weightstats compare` shows of several checkpoints in order: for a terminal, as JSON and as CSV."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from weightstats.changes import Travelled
from weightstats.penalties import PENALTIES
from weightstats.renderers import words
from weightstats.renderers.comparison_terminal import new_table
from weightstats.renderers.csv_text import cell
from weightstats.renderers.terminal import console_of, trimmed
from weightstats.trajectories import Trajectory, TrajectoryStep
from weightstats.verdicts import signed

MOST_ROWS = 1_000

MOST_SKIPPED = 20

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Layout:
    """How the table of steps uses the width that there is."""

    between: str | None
    """What stands between a number and its interval; None where intervals are left out."""

    evenness: bool
    gap: int
    """Spaces between columns."""


LAYOUTS = (
    Layout(" ", True, 2),
    Layout("\n", True, 2),
    Layout("\n", True, 1),
    Layout(None, True, 2),
    Layout(None, False, 1),
)
"""The first that fits is taken."""

_TRAVELLED = ("layers", "unchanged", "unmatched", "relative_change", "cosine", "median_relative_change")

COLUMNS = (
    *("step", "unit", "label", "step_from", "location", "layers", "norm"),
    *("constant", "constant_low", "constant_high", "spread", "exponent", "exponent_low", "exponent_high", "verdict"),
    *(f"{penalty}_evenness{kind}" for penalty in PENALTIES for kind in ("", "_fitted")),
    *(f"{part}_from_{start}" for start in ("first", "previous") for part in _TRAVELLED),
)
"""The header line of CSV."""


def as_json(trajectory: Trajectory) -> str:
    """The trajectory as one JSON object; names are escaped to ASCII, so that no terminal acts on them."""
    return json.dumps(trajectory.to_dict(), allow_nan=False, indent=2) + "\n"


def as_csv(trajectory: Trajectory) -> str:
    """One line a step."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for step in trajectory.steps:
        values = _values(step)
        writer.writerow([cell(values.get(column)) for column in COLUMNS])
    return text.getvalue()


def _values(step: TrajectoryStep) -> dict[str, object]:
    values: dict[str, object] = {
        "step": step.step.number,
        "unit": step.step.unit,
        "label": step.step.label,
        "step_from": step.step.taken_from,
        "location": step.checkpoint.location,
        "layers": step.layers,
        "norm": step.norm,
    }
    values |= {name: getattr(step.fit, name) for name in ("constant", "spread", "exponent", "verdict")}
    for name, interval in (("constant", step.fit.constant_interval), ("exponent", step.fit.exponent_interval)):
        values |= {f"{name}_low": interval[0], f"{name}_high": interval[1]}
    for penalty in PENALTIES:
        values[f"{penalty}_evenness"] = step.evenness[penalty]
        values[f"{penalty}_evenness_fitted"] = step.evenness_fitted[penalty]
    for start, travelled in (("first", step.from_first), ("previous", step.from_previous)):
        if travelled is not None:
            values |= {f"{part}_from_{start}": getattr(travelled, part) for part in _TRAVELLED}
    return values


def as_terminal(trajectory: Trajectory, width: int = 100, *, colour: bool = False, warnings: bool = True) -> str:
    """The trajectory as lines of at most `width` characters, ANSI colours only if `colour`.

    Without `warnings`, those are left to whoever shows them elsewhere.
    """
    console = console_of(width, colour)
    with console.capture() as capture:
        _print(console, trajectory, width)
        for step in trajectory.steps if warnings else ():
            where = words.printable(step.checkpoint.location)
            for warning in step.checkpoint.warnings:
                console.print(Text(f"Warning, {where}: {words.printable(warning)}"))
            if step.checkpoint.damage is not None:
                console.print(Text(f"Damage, {where}: {words.printable(step.checkpoint.damage)}", "bold"))
    return trimmed(capture.get())


def _print(console: Console, trajectory: Trajectory, width: int) -> None:
    steps = trajectory.steps
    first, last = (words.printable(step.checkpoint.location) for step in (steps[0], steps[-1]))
    console.print(Text(f"{len(steps):,} checkpoints, from {first} to {last}", "bold"))
    console.print()
    for sentence in trajectory.findings:
        console.print(Text(words.printable(sentence, words.MOST_SENTENCE), "bold"))
    console.print()
    table, layout = _table(steps[:MOST_ROWS], trajectory.unit or "", console, width)
    console.print(table)
    if len(steps) > MOST_ROWS:
        console.print(Text(f"… {len(steps) - MOST_ROWS:,} more; --format csv and json list every step", "bold"))
    console.print(Text(_legend(trajectory, layout), "dim"))
    if trajectory.skipped:
        console.print(Text("Not in it:"))
    for one in trajectory.skipped[:MOST_SKIPPED]:
        line = Text.assemble(words.printable(one.name), (f" ({words.printable(one.reason, words.MOST_REASON)})", "dim"))
        console.print(Padding(line, (0, 0, 0, 2)))
    if len(trajectory.skipped) > MOST_SKIPPED:
        console.print(Text(f"  and {len(trajectory.skipped) - MOST_SKIPPED:,} others, all of them in --format json"))


def _table(steps: Sequence[TrajectoryStep], unit: str, console: Console, width: int) -> tuple[Table, Layout]:
    """The first layout that fits; the last one folds labels."""
    unlimited = console.options.update(max_width=1 << 20)
    for layout in LAYOUTS[:-1]:
        table = _made(steps, unit, layout)
        if Measurement.get(console, unlimited, table).maximum <= width:
            return table, layout
    return _made(steps, unit, LAYOUTS[-1]), LAYOUTS[-1]


def _made(steps: Sequence[TrajectoryStep], unit: str, layout: Layout) -> Table:
    table = new_table(layout.gap)
    table.add_column(unit or "checkpoint", justify="right" if unit else "left", overflow="fold")
    for title in ("c", "exponent"):
        table.add_column(title if layout.between is None else f"{title}{layout.between}(95 % interval)", no_wrap=True)
    if layout.between is not None:
        table.add_column("verdict", no_wrap=True)
    table.add_column("scatter", justify="right", no_wrap=True)
    for penalty in PENALTIES if layout.evenness else ():
        table.add_column(words.TITLES[penalty].replace("-", "-\n"), justify="right", no_wrap=True)
    for title in ("‖w‖", "from\nfirst", "from\nprevious"):
        table.add_column(title, justify="right", no_wrap=True)
    for step in steps:
        fit = step.fit
        constant = _with_interval(fit.constant, fit.constant_interval, words.number, layout.between)
        exponent = _with_interval(fit.exponent, fit.exponent_interval, signed, layout.between)
        verdict = () if layout.between is None else (fit.verdict,)
        evenness = [words.evenness(step.evenness[penalty]) for penalty in PENALTIES if layout.evenness]
        changes = [words.number(step.norm), *(change_of(one) for one in (step.from_first, step.from_previous))]
        label = Text(words.printable(step.step.label.removeprefix(f"{unit} ")))
        table.add_row(label, constant, exponent, *verdict, words.number(fit.spread), *evenness, *changes)
    return table


def _with_interval(
    value: float, interval: tuple[float, float], worded: Callable[[float], str], between: str | None
) -> str:
    text = "–" if math.isnan(value) else worded(value)
    if between is None or math.isnan(interval[0]):
        return text
    return f"{text}{between}({worded(interval[0])} to {worded(interval[1])})"


def change_of(travelled: Travelled | None) -> str:
    """The relative change, or that there is none; '' where there is nothing that it could be from."""
    if travelled is None:
        return ""
    return "same" if travelled.is_unchanged else words.number(travelled.relative_change)


def _legend(trajectory: Trajectory, layout: Layout) -> str:
    law = trajectory.steps[-1].fit.law
    parts = [f"c, exponent, scatter: of the law {law} as fitted to the checkpoint."]
    if layout.evenness:
        parts.append("plain, per-element, fan-scaled: evenness of the penalty's split over the layers.")
    else:
        parts.append("The evenness of the penalties is in --format csv and json.")
    parts.append("from first, from previous: relative change of all weights together since that checkpoint.")
    parts.append(steps_from(trajectory))
    return " ".join(parts)


def steps_from(trajectory: Trajectory) -> str:
    """What tells the steps, or what their order is where nothing does, in one sentence."""
    if trajectory.unit is None:
        return (
            "Nothing tells a step of each checkpoint: they are in the order given, those of a folder in that of names."
        )
    places = dict.fromkeys(step.step.taken_from for step in trajectory.steps if step.step.number is not None)
    said = [words.printable(place.replace("its name", "the checkpoints' names")) for place in places]
    more = f" and {len(said) - EXAMPLES:,} more" if len(said) > EXAMPLES else ""
    return f"The {trajectory.unit} of each is told by {'; '.join(said[:EXAMPLES])}{more}."
