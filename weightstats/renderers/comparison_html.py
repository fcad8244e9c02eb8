"""A comparison as a page to look at: one self-contained file with charts that answer the mouse, and a table."""

import math
from collections.abc import Sequence
from typing import Any

from weightstats.changes import Change, LayerChange
from weightstats.comparison import Comparison
from weightstats.penalties import FORMULAS, PENALTIES
from weightstats.renderers import comparison_charts, page, words
from weightstats.renderers.chart_parts import MOST_NAME, PAGE, has_interval, lines_of
from weightstats.renderers.comparison_rows import MOVED, cosine
from weightstats.renderers.comparison_terminal import FIT_LINES
from weightstats.renderers.html import MOST_ROWS, Group, Line, cell, grouped, wrong_with
from weightstats.report import CheckpointPart

CALL = "weightstats.compare(...)"
"""What made a page of which no command is known."""

SHARES = tuple(f"{words.TITLES[penalty]} share {side}" for penalty in PENALTIES for side in ("before", "after"))

NUMBERS = (
    *("change", "cosine", "norm ratio", "mean square before", "mean square after"),
    *("ratio before", "ratio after"),
    "|ln ratio| change",
    *SHARES,
)
"""The table's columns of numbers."""


def render(comparison: Comparison, command: str = CALL) -> str:
    """The page; `command` is what made it, as it can be run again."""
    made: dict[str, Any] = {}
    found = comparison_charts.drawn(comparison)
    if comparison.layers:
        made = {name: make(found, PAGE, "container") for name, (make, _) in comparison_charts.CHARTS.items()}
    return page.render("comparison.html.j2", made, command, **_values(comparison, found))


def _values(comparison: Comparison, found: comparison_charts.Drawn) -> dict[str, Any]:
    before, after = comparison.before, comparison.after
    layers = comparison.layers
    total = comparison.total
    prefixed = comparison.prefixes != ("", "")
    return {
        "title": comparison_charts.title_of(comparison),
        "headers": [("before", words.header(before)), ("after", words.header(after))],
        "findings": comparison.findings,
        "verdict": after.fit.verdict,
        "warnings": [
            warning
            for side, of in (("before", before), ("after", after))
            for warning in warnings_of(side, of.checkpoint)
        ],
        "matched": words.printable(comparison.matched, words.MOST_REASON) if prefixed else "",
        "law": after.fit.law,
        "dashes": lines_of(after.fit),
        "legend": comparison_charts.law_legend(found),
        "has_band": any(map(has_interval, found.laws)),
        "drawn": len(found.rows),
        "unmoved": [row["name"] for row in found.rows if row["at"] is None],
        "unplaced": [row["name"] for row in found.rows if row["after"] is None],
        "layers": len(layers),
        "fits": [(title, of(before.fit), of(after.fit)) for title, of in FIT_LINES],
        "splits": _splits(comparison),
        "numbers": NUMBERS,
        "kinds": sorted({words.printable(layer.kind) for layer in layers}),
        "lines": [_line(index, layer) for index, layer in enumerate(layers[:MOST_ROWS])],
        "most_rows": MOST_ROWS,
        "has_free": any(layer.scale_free for layer in layers),
        "free": words.FREE,
        "remarks": _remarks(layers),
        "unmatched": _unmatched(comparison),
        "accounted": (
            f"{total.layers:,} layers in both = {total.paired - total.unchanged:,} changed + {total.unchanged:,} "
            f"unchanged + {total.layers - total.paired:,} not paired; {len(comparison.unmatched):,} not compared."
        ),
    }


def warnings_of(side: str, part: CheckpointPart) -> list[str]:
    """What is wrong with one checkpoint, each beginning with what it is called."""
    return [f"{side}: {warning}" for warning in wrong_with(part)]


def _splits(comparison: Comparison) -> list[tuple[str, ...]]:
    rows = []
    for penalty in PENALTIES:
        sides = comparison.before.penalties[penalty], comparison.after.penalties[penalty]
        largest = (
            f"{words.percent(one.largest.share)} {words.printable(one.largest.name or '', MOST_NAME)}" for one in sides
        )
        evenness = (words.evenness(one.evenness) for one in sides)
        rows.append((words.TITLES[penalty], FORMULAS[penalty], *evenness, *largest))
    return rows


def _line(index: int, layer: LayerChange) -> Line:
    free = words.FREE if layer.scale_free else ""
    nearer = layer.distance.after - layer.distance.before
    return Line(
        index=index,
        name=words.printable(layer.name),
        kind=words.printable(layer.kind),
        shape=words.shape(layer.shape),
        numbers=(
            cell(layer.relative_change, "same" if layer.is_unchanged else words.number(layer.relative_change)),
            cell(layer.cosine, cosine(layer.cosine)),
            cell(layer.norm_ratio, words.number(layer.norm_ratio)),
            *(cell(value, words.number(value)) for value in _both(layer.mean_square)),
            *(cell(value, f"{words.ratio(value)}{free}") for value in _both(layer.ratio)),
            cell(nearer, _nearer(nearer, layer)),
            *(cell(value, words.percent(value)) for penalty in PENALTIES for value in _both(layer.shares[penalty])),
        ),
        notes=tuple(words.printable(note, words.MOST_REASON) for note in _notes(layer)),
    )


def _both(change: Change) -> tuple[float, float]:
    return change.before, change.after


def _nearer(change: float, layer: LayerChange) -> str:
    """`-0.31 nearer`, or `–` where a fit leaves the layer out."""
    if math.isnan(change):
        return MOVED[None]
    shown = "0" if abs(change) < 0.005 else f"{change:+.2f}"
    return f"{shown} {MOVED[layer.moved]}" if layer.moved else shown


def _notes(layer: LayerChange) -> list[str]:
    """What else is known of a layer, in few words each."""
    types = layer.dtype if layer.dtype == layer.dtype_after else f"{layer.dtype} → {layer.dtype_after}"
    found = [*_reasons(layer), f"{layer.n_in:,} → {layer.n_out:,}", types, *layer.notes]
    if layer.paired is not None and layer.paired != layer.elements:
        found.append(f"{layer.paired:,} of {layer.elements:,} elements are finite in both")
    if layer.tied_to:
        found.append(f"tied to {', '.join(layer.tied_to)}")
    return found


def _reasons(layer: LayerChange) -> list[str]:
    """Why there are numbers that a layer does not have."""
    found = [f"its weights could not be paired: {layer.not_paired_because}"] if layer.not_paired_because else []
    return [*found, *([f"not in both fits: {layer.left_out_because}"] if layer.left_out_because else [])]


def _remarks(layers: Sequence[LayerChange]) -> list[Group]:
    """What is not as plain as a name and a shape, with the layers of which it is so."""
    return grouped((remark, layer.name) for layer in layers for remark in (*_reasons(layer), *layer.notes))


def _unmatched(comparison: Comparison) -> list[Group]:
    return grouped((f"only {one.where}: {one.reason}", one.name) for one in comparison.unmatched)
