"""The report as a page to look at: one self-contained file with charts that answer the mouse, and a table."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from weightstats.penalties import FORMULAS, PENALTIES
from weightstats.renderers import charts, page, words
from weightstats.renderers.chart_parts import MOST_NAME, PAGE, Chart, has_interval
from weightstats.renderers.points import Scatter
from weightstats.report import CheckpointPart, LayerRow, Report

MOST_ROWS = 5_000
"""Layers that the table lists; more are for a machine to read."""

MOST_LISTED = 5_000
"""Names of tensors that are no layers, of each reason."""

CALL = "weightstats.inspect(...)"
"""What made a page of which no command is known."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of the table."""

    shown: str
    value: str
    """What it is sorted by: a number, or '' for none."""


@dataclass(frozen=True, slots=True)
class Line:
    """A layer's line of the table."""

    index: int
    name: str
    kind: str
    shape: str
    numbers: tuple[Cell, ...]
    """As in NUMBERS."""

    notes: tuple[str, ...]
    fitted: bool = True
    """Whether the fit uses it."""


NUMBERS = (
    "n_in",
    "n_out",
    "mean square",
    "ratio",
    "plain share",
    "per-element share",
    "fan-scaled share",
    "per-element decay",
    "fan-scaled decay",
    "zeros",
    "NaN or infinite",
)
"""The table's columns of numbers."""


def render(report: Report, command: str = CALL) -> str:
    """The page; `command` is what made it, as it can be run again."""
    found = charts.drawn(report)
    made: dict[str, Chart] = {}
    if found.scatter.points:
        made["law"] = charts.law_chart(found, PAGE, "container")
    if report.layers:
        made |= {penalty: charts.split_chart(found, penalty, PAGE, "container") for penalty in PENALTIES}
        made["multipliers"] = charts.multiplier_chart(found, PAGE, "container")
    return page.render("report.html.j2", made, command, **_values(report, found))


def _values(report: Report, found: charts.Drawn) -> dict[str, Any]:
    part = report.checkpoint
    return {
        "title": words.last_part(part.location),
        "law": report.fit.law,
        "header": words.header(report),
        "findings": report.findings,
        "rests_on": report.rests_on,
        "verdict": report.fit.verdict,
        "warnings": wrong_with(part),
        "evidence": words.evidence(report, rests_on=False),
        "numbers": NUMBERS,
        "lines": [_line(index, row) for index, row in enumerate(report.layers[:MOST_ROWS])],
        "layers": len(report.layers),
        "drawn": len(found.rows),
        "not_drawn": [words.printable(report.layers[index].name) for index in found.scatter.not_drawn],
        "rivals": _rivals(report, found.scatter),
        "beyond": charts.ends_of(found.scatter.whole) if any(not row.fitted for row in report.layers) else (),
        "shows_left_out": found.scatter.shows_left_out,
        "ends": charts.ENDS,
        "has_band": has_interval(found.scatter.law),
        "has_free": bool(found.scatter.free),
        "contest_titles": words.CONTEST_TITLES,
        "contest": [words.contest_row(standing) for standing in words.contest(report)],
        "about_contest": words.about_contest(report),
        "splits": _splits(report),
        "panels": [(name, words.TITLES[name], charts.split_title(found, name)) for name in PENALTIES],
        "legend": charts.law_legend(found),
        "evenest": words.evenest(report),
        "weight_decay": f"{report.weight_decay:g}",
        "left_out": _left_out(report),
        "others": _others(report),
        "unread": [(words.printable(entry.name), words.printable(entry.reason)) for entry in report.unread],
        "objects": [words.printable(name) for name in part.objects_not_loaded],
        "accounted": words.accounted(report),
        "marks": [line for line in (words.free(report), words.untrained(report), *words.merged(report)) if line],
        "most_rows": MOST_ROWS,
        "kinds": sorted({kind_of(row) for row in report.layers}),
    }


def wrong_with(part: CheckpointPart) -> list[str]:
    """Its warnings and its damage."""
    return [*part.warnings, *([f"damaged: {part.damage}"] if part.damage else [])]


@dataclass(frozen=True, slots=True)
class Choice:
    """A rival law that can be switched on."""

    law: str
    title: str
    low: float
    high: float
    """The smallest and the largest mean square that it says."""


def _rivals(report: Report, scatter: Scatter) -> dict[str, list[Choice]]:
    """The rivals of the law under test, those with a fitted constant and those with a fixed one."""
    said: dict[str, list[float]] = {}
    for place in scatter.rivals:
        said.setdefault(place.law, []).append(place.mean_square)
    found: dict[str, list[Choice]] = {"Rival laws, c fitted": [], "Rival laws, c fixed": []}
    for standing in report.contest.standings:
        if standing.law in said and standing.law != report.fit.law_key:
            values = said[standing.law]
            title = standing.formula if standing.is_free else f"{standing.formula} ({standing.law})"
            kind = "Rival laws, c fitted" if standing.is_free else "Rival laws, c fixed"
            found[kind].append(Choice(standing.law, title, min(values), max(values)))
    return {kind: choices for kind, choices in found.items() if choices}


def _line(index: int, row: LayerRow) -> Line:
    marks = f"{words.FREE if row.scale_free else ''}{words.UNTRAINED if row.initialisation.is_untrained else ''}"
    shares = [row.penalties[penalty].share for penalty in PENALTIES]
    multipliers = [row.penalties[penalty].decay_multiplier for penalty in PENALTIES[1:]]
    return Line(
        index=index,
        name=words.printable(row.name),
        kind=kind_of(row),
        shape=words.shape(row.shape),
        numbers=(
            cell(row.n_in, f"{row.n_in:,}"),
            cell(row.n_out, f"{row.n_out:,}"),
            cell(row.mean_square, words.number(row.mean_square)),
            cell(row.ratio, f"{words.ratio(row.ratio)}{marks}") if row.fitted else cell(math.nan, "–"),
            *(cell(share, words.percent(share)) for share in shares),
            *(cell(value, words.number(value)) for value in multipliers),
            cell(row.zeros, words.percent(row.zeros / row.elements) if row.elements else "–"),
            cell(row.nonfinite, f"{row.nonfinite:,}"),
        ),
        fitted=row.fitted,
        notes=tuple(words.printable(note, words.MOST_REASON) for note in _notes(row)),
    )


def kind_of(row: LayerRow) -> str:
    """The kind, and the family where that says more: `linear, attention`."""
    kind = words.printable(row.kind)
    return f"{kind}, {row.family}" if row.family == "attention" and row.family not in kind else kind


def cell(value: float, shown: str) -> Cell:
    """A number of the table, which is sorted by all its digits."""
    return Cell(shown, repr(value) if math.isfinite(value) else "")


def _notes(row: LayerRow) -> list[str]:
    """What else is known of a layer, in few words each."""
    found = [f"fans from {row.fans_from}", row.dtype, row.kind_because]
    if not row.fitted:
        found = ["left out of the fit", row.left_out_because or "", *found]
    if row.scale_free:
        found.append(f"scale-free: {row.scale_free_because}")
    if row.initialisation.is_untrained:
        names = ", ".join(candidate.name for candidate in row.initialisation.candidates)
        found.append(f"{row.initialisation.state}: {names}")
    if row.tied_to:
        found.append(f"tied to {', '.join(row.tied_to)}")
    if row.part_of is not None:
        found.append(f"part of {row.part_of}")
    if row.worked_out_because is not None:
        found.append(row.worked_out_because)
    if row.merged_because is not None:
        found.append(f"with its adapter, mean square {words.number(row.merged_mean_square or math.nan)}")
    return found


def _splits(report: Report) -> list[tuple[str, ...]]:
    return [
        (
            words.TITLES[penalty],
            FORMULAS[penalty],
            words.evenness(split.evenness),
            words.evenness(split.evenness_fitted),
            f"{words.percent(split.largest.share)} {words.printable(split.largest.name or '', MOST_NAME)}",
            f"{split.total:.4g}",
        )
        for penalty, split in report.penalties.items()
    ]


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors of one reason."""

    reason: str
    names: tuple[str, ...]
    more: int
    """Names beyond MOST_LISTED."""

    @property
    def count(self) -> str:
        """How many they are."""
        return f"{len(self.names) + self.more:,}"


def group(reason: str, names: Sequence[str]) -> Group:
    """Names with one reason."""
    shown = tuple(words.printable(name) for name in names[:MOST_LISTED])
    return Group(words.printable(reason, words.MOST_REASON), shown, len(names) - len(shown))


def grouped(named: Iterable[tuple[str, str]]) -> list[Group]:
    """(reason, name) by reason, in the order in which reasons first occur."""
    reasons: dict[str, list[str]] = {}
    for reason, name in named:
        reasons.setdefault(reason, []).append(name)
    return [group(reason, names) for reason, names in reasons.items()]


def _left_out(report: Report) -> list[Group]:
    return grouped((row.left_out_because, row.name) for row in report.layers if row.left_out_because is not None)


def _others(report: Report) -> list[Group]:
    groups = words.others_by_reason(report.others)
    return [
        group(f"{kind}: {reason}", [member.name for member in members]) for (kind, reason), members in groups.items()
    ]
