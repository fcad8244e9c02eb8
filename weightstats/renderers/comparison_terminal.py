"""What `weightstats compare` shows of two checkpoints on a terminal of any width, with or without colour."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from weightstats.comparison import Comparison
from weightstats.fits import Fit
from weightstats.penalties import PENALTIES
from weightstats.renderers import words
from weightstats.renderers.comparison_rows import Row, rows_of
from weightstats.renderers.terminal import console_of, trimmed
from weightstats.report import Report
from weightstats.verdicts import signed

MOST_ROWS = 1_000
"""Rows of the table, which takes a millisecond a row: more are for a machine to read."""

MOST_LISTED = 20
"""Reasons, or layers with something to note, that are written out."""

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Layout:
    """How the table of layers uses the width that there is."""

    one_line: bool
    """A layer's numbers before and after side by side, not below each other."""

    shares: bool
    """The shares of the penalties too."""

    gap: int
    """Spaces between columns."""


LAYOUTS = (Layout(True, True, 2), Layout(False, True, 2), Layout(False, True, 1), Layout(False, False, 2))
"""The first that fits is taken; the last one folds long names."""


def render(comparison: Comparison, width: int = 100, *, colour: bool = False, warnings: bool = True) -> str:
    """The comparison as lines of at most `width` characters, ANSI colours only if `colour`.

    Without `warnings`, those are left to whoever shows them elsewhere.
    """
    console = console_of(width, colour)
    with console.capture() as capture:
        _print(console, comparison, width)
        for side, report in (("before", comparison.before), ("after", comparison.after)):
            for warning in report.checkpoint.warnings if warnings else ():
                console.print(Text(f"Warning, {side}: {words.printable(warning)}"))
            if report.checkpoint.damage is not None and warnings:
                console.print(Text(f"Damage, {side}: {words.printable(report.checkpoint.damage)}", "bold"))
    return trimmed(capture.get())


def new_table(gap: int = 2) -> Table:
    """An empty table as all of them look."""
    return Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")


def _print(console: Console, comparison: Comparison, width: int) -> None:
    for side, report in (("before", comparison.before), ("after", comparison.after)):
        first, *more = words.header(report)
        console.print(Text.assemble((f"{side}: ", "dim"), (first, "bold")))
        for line in more:
            console.print(Text(f"  {line}"))
    console.print()
    for sentence in comparison.findings:
        console.print(Text(words.printable(sentence, words.MOST_SENTENCE), "bold"))
    if comparison.layers:
        console.print()
        rows = rows_of(comparison.layers)
        table, has_shares = _layers(rows[:MOST_ROWS], console, width)
        console.print(table)
        if len(rows) > MOST_ROWS:
            left = f"… {len(rows) - MOST_ROWS:,} more rows; --format csv and json list every layer"
            console.print(Text(left, "bold"))
        console.print(Text(_legend(comparison, has_shares), "dim"))
        console.print()
        console.print(_fits(comparison.before.fit, comparison.after.fit))
        console.print()
        console.print(_splits(comparison.before, comparison.after))
    for remark in _remarks(comparison):
        console.print(remark)


def _layers(rows: Sequence[Row], console: Console, width: int) -> tuple[Table, bool]:
    """The table, and whether the shares are in it."""
    unlimited = console.options.update(max_width=1 << 20)
    for layout in LAYOUTS[:-1]:
        table = _table(rows, layout)
        if Measurement.get(console, unlimited, table).maximum <= width:
            return table, layout.shares
    return _table(rows, LAYOUTS[-1]), LAYOUTS[-1].shares


def _table(rows: Sequence[Row], layout: Layout) -> Table:
    table = new_table(layout.gap)
    if layout.one_line:
        for title in ("layer", "kind", "shape"):
            table.add_column(title, overflow="fold")
    else:
        table.add_column("layer\n  kind shape, n_in → n_out", overflow="fold")
    for title in ("change", "cosine", "mean sq.", "ratio"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("law", no_wrap=True)
    for penalty in PENALTIES if layout.shares else ():
        title = words.TITLES[penalty]
        table.add_column(title if layout.one_line else title.replace("-", "-\n"), justify="right", no_wrap=True)
    for row in rows:
        both = [row.mean_square, row.ratio, *(row.shares if layout.shares else ())]
        joined = [f"{before} → {after}" if layout.one_line else f"{before}\n{after}" for before, after in both]
        if layout.one_line:
            head: list[str | Text] = [row.name, row.kind, row.shape]
        else:
            head = [Text.assemble(row.name, "\n", (f"  {row.kind} {row.shape}, {row.fans}", "dim"))]
        table.add_row(*head, row.change, row.cosine, *joined[:2], row.moved, *joined[2:])
    return table


def _legend(comparison: Comparison, has_shares: bool) -> str:
    parts = [
        "change: ‖after-before‖/‖before‖. cosine: of the angle between the weights before and after.",
        f"mean sq., ratio{' and shares' if has_shares else ''}: before, then after.",
        "ratio: mean square over that of the law as fitted to the same checkpoint.",
        "law: whether |ln ratio| is smaller than before or larger, by 0.01 or more.",
    ]
    if has_shares:
        parts.append("plain, per-element, fan-scaled: the layer's share of each L2 penalty.")
    if any(layer.scale_free for layer in comparison.layers):
        parts.append(f"{words.FREE}: its scale does not change what the network computes.")
    return " ".join(parts)


def _fits(before: Fit, after: Fit) -> Table:
    table = new_table()
    table.add_column(f"law {after.law}", no_wrap=True)
    for title in ("before", "after"):
        table.add_column(title, overflow="fold")
    for title, of in FIT_LINES:
        table.add_row(title, of(before), of(after))
    return table


def constant_of(fit: Fit) -> str:
    """c with its interval."""
    return _with_interval(words.number(fit.constant), fit.constant_interval, words.number)


def exponent_of(fit: Fit) -> str:
    """The free exponent with its interval."""
    if math.isnan(fit.exponent):
        return "–"
    return _with_interval(signed(fit.exponent), fit.exponent_interval, signed)


def _with_interval(text: str, interval: tuple[float, float], worded: Callable[[float], str]) -> str:
    if math.isnan(interval[0]):
        return text
    return f"{text} ({worded(interval[0])} to {worded(interval[1])})"


FIT_LINES: tuple[tuple[str, Callable[[Fit], str]], ...] = (
    ("layers", lambda fit: f"{fit.layers:,}"),
    ("c", constant_of),
    ("scatter", lambda fit: words.number(fit.spread)),
    ("exponent", exponent_of),
    ("verdict", lambda fit: fit.verdict),
)
"""What the table of fits says of each, with 95 % intervals in brackets."""


def _splits(before: Report, after: Report) -> Table:
    table = new_table()
    table.add_column("L2 penalty", no_wrap=True)
    table.add_column("evenness", no_wrap=True)
    for side in ("before", "after"):
        table.add_column(f"largest share {side}", overflow="fold")
    for penalty in PENALTIES:
        splits = before.penalties[penalty], after.penalties[penalty]
        evenness = " → ".join(words.evenness(split.evenness) for split in splits)
        largest = [f"{words.percent(one.largest.share)} {words.printable(one.largest.name or '')}" for one in splits]
        table.add_row(words.TITLES[penalty], evenness, *(Text(text) for text in largest))
    return table


def _remarks(comparison: Comparison) -> Iterator[Text | Padding]:
    """What is left out, and what is not as plain as a name and a shape."""
    yield Text()
    if comparison.prefixes != ("", ""):
        yield Text(f"Layers were matched {words.printable(comparison.matched)}.")
    notes: dict[str, list[str]] = {}
    for layer in comparison.layers:
        reasons = [f"its weights could not be paired: {layer.not_paired_because}"] if layer.not_paired_because else []
        reasons += [f"not in both fits: {layer.left_out_because}"] if layer.left_out_because else []
        for note in (*reasons, *layer.notes):
            notes.setdefault(note, []).append(layer.name)
    yield from _items("Of the layers:", notes)
    missing: dict[str, list[str]] = {}
    for one in comparison.unmatched:
        missing.setdefault(f"only {one.where}: {one.reason}", []).append(one.name)
    yield from _items("Not compared:", missing)
    total = comparison.total
    yield Text(
        f"{total.layers:,} layers in both = {total.paired - total.unchanged:,} changed + {total.unchanged:,} unchanged "
        f"+ {total.layers - total.paired:,} not paired; {len(comparison.unmatched):,} not compared."
    )


def _items(title: str, reasons: dict[str, list[str]]) -> Iterator[Text | Padding]:
    if reasons:
        yield Text(title)
    for reason, names in list(reasons.items())[:MOST_LISTED]:
        shown = ", ".join(words.printable(name) for name in names[:EXAMPLES])
        more = f", … {len(names) - EXAMPLES:,} more" if len(names) > EXAMPLES else ""
        why = (f" ({words.printable(reason, words.MOST_REASON)})", "dim")
        yield Padding(Text.assemble(f"×{len(names):,}: {shown}{more}", why), (0, 0, 0, 2))
    if len(reasons) > MOST_LISTED:
        yield Text(f"  and {len(reasons) - MOST_LISTED:,} others, all of them in --format json")
