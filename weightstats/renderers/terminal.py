"""The report for a terminal of any width, with or without colour."""

import io
from dataclasses import dataclass

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from weightstats.penalties import FORMULAS, PENALTIES
from weightstats.renderers import words
from weightstats.report import Report


@dataclass(frozen=True, slots=True)
class Layout:
    """How the table of layers uses the width that there is."""

    one_line: bool
    """A layer's kind, shape and fans in columns of their own, not under its name."""

    bar: int
    """Characters of a bar."""

    gap: int
    """Spaces between columns."""


LAYOUTS = (Layout(True, 6, 2), Layout(True, 3, 1), Layout(False, 3, 1))
"""The first that fits is taken; the last one folds long names."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"

MOST_ROWS = 1_000
"""Rows of the table, which takes a millisecond a row: more are for a machine to read."""

_MOST_PROBLEMS = 20
_EXAMPLES = 3


def render(report: Report, width: int = 100, *, colour: bool = False, warnings: bool = True) -> str:
    """The report as lines of at most `width` characters, ANSI colours only if `colour`.

    Without `warnings`, those are left to whoever shows them elsewhere.
    """
    console = console_of(width, colour)
    with console.capture() as capture:
        _print(console, report, width)
        for warning in report.checkpoint.warnings if warnings else ():
            console.print(Text(f"Warning: {words.printable(warning)}"))
        if report.checkpoint.damage is not None and warnings:
            console.print(Text(f"Damage: {words.printable(report.checkpoint.damage)}", "bold"))
    return trimmed(capture.get())


def console_of(width: int, colour: bool) -> Console:
    """A console that writes into memory, and takes nothing in a text for markup."""
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        highlight=False,
        markup=False,
        emoji=False,
    )


def trimmed(text: str) -> str:
    """The text without spaces at the ends of its lines."""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _print(console: Console, report: Report, width: int) -> None:
    first, *more = words.header(report)
    console.print(Text(first, "bold"))
    for line in more:
        console.print(Text(line))
    if report.layers:
        console.print()
        rows = words.rows_of(report.layers)
        console.print(_layers(rows[:MOST_ROWS], console, width))
        left = len(rows) - MOST_ROWS
        if left > 0:
            console.print(Text(f"… {left:,} more rows; --format csv and json list every layer", "bold"))
        console.print(Text(_legend(report), "dim"))
        for line in (words.free(report), words.untrained(report), *words.merged(report)):
            if line:
                console.print(Text(line, "dim"))
    console.print()
    for sentence in report.findings:
        console.print(Text(sentence, "bold"))
    for sentence in words.evidence(report):
        console.print(Text(sentence))
    if words.contest(report):
        console.print()
        console.print(_contest(report))
        console.print(Text(words.about_contest(report), "dim"))
    if report.layers:
        console.print()
        console.print(_splits(report))
        console.print(Text(_about_splits(report), "dim"))
        console.print(Text(words.evenest(report), "bold"))
    console.print()
    _left_out(console, report)


def _layers(rows: tuple[words.Row, ...], console: Console, width: int) -> Table:
    unlimited = console.options.update(max_width=1 << 20)
    for layout in LAYOUTS[:-1]:
        table = _table(rows, layout)
        if Measurement.get(console, unlimited, table).maximum <= width:
            return table
    return _table(rows, LAYOUTS[-1])


def _table(rows: tuple[words.Row, ...], layout: Layout) -> Table:
    table = Table(box=None, padding=(0, layout.gap, 0, 0), pad_edge=False, header_style="bold")
    if layout.one_line:
        table.add_column("layer", overflow="fold")
        table.add_column("kind", no_wrap=True)
        table.add_column("shape", no_wrap=True)
        table.add_column("n_in", justify="right", no_wrap=True)
        table.add_column("n_out", justify="right", no_wrap=True)
    else:
        table.add_column("layer\n  kind shape, n_in → n_out", overflow="fold")
    table.add_column("mean sq.", justify="right", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    for penalty in PENALTIES:
        title = words.TITLES[penalty]
        table.add_column(title if layout.bar > 3 else title.replace("-", "-\n"), no_wrap=True)
    most = max((share for row in rows for share in row.shares if share == share), default=0.0)
    marks = max((len(row.marks) for row in rows), default=0)
    for row in rows:
        ratio = f"{row.ratio}{row.marks.ljust(marks)}"  # digits stand in one column
        name = [row.name, row.kind, row.shape, row.n_in, row.n_out] if layout.one_line else [_stacked(row)]
        bars = [_bar(share, most, layout.bar) for share in row.shares]
        numbers = (row.mean_square, ratio)
        if not layout.one_line:
            numbers = (_over_two_lines(row.mean_square), _over_two_lines(ratio))
        table.add_row(*name, *numbers, *bars)
    return table


def _over_two_lines(text: str) -> str:
    """A range with its ends below each other, where a row has two lines anyway."""
    low, dash, high = text.partition("–")
    return f"{low}–\n{high}" if low and dash else text


def _stacked(row: words.Row) -> Text:
    """All that says what a layer is, in one cell."""
    return Text.assemble(row.name, "\n", (f"  {row.kind} {row.shape}, {row.n_in} → {row.n_out}", "dim"))


def _bar(share: float, most: float, width: int) -> Text:
    """A bar as long as the share is of the largest one in the table, then the share in per cent."""
    eighths = round(8 * width * share / most) if most > 0.0 and share == share else 0
    full, rest = divmod(eighths, 8)
    bar = ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)
    return Text.assemble((bar, "cyan"), words.percent(share).rjust(6))


def _legend(report: Report) -> str:
    ratio = "ratio: mean square over the fitted law's, 1 = on the law"
    ratio += ". " if all(layer.fitted for layer in report.layers) else "; – where the fit leaves the layer out. "
    return f"{ratio}plain, per-element, fan-scaled: the layer's share of each L2 penalty."


def _splits(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("L2 penalty", no_wrap=True)
    table.add_column("formula", no_wrap=True)
    table.add_column("evenness", justify="right", no_wrap=True)
    table.add_column("largest share", overflow="fold")
    for penalty in PENALTIES:
        split = report.penalties[penalty]
        largest = f"{words.percent(split.largest.share)} {words.printable(split.largest.name or '')}"
        evenness = words.evenness(split.evenness)
        if not all(layer.fitted for layer in report.layers):
            evenness += f" ({words.evenness(split.evenness_fitted)})"
        table.add_row(words.TITLES[penalty], FORMULAS[penalty], evenness, Text(largest))
    return table


def _contest(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(words.CONTEST_TITLES[0], overflow="fold")
    for title in words.CONTEST_TITLES[1:]:
        table.add_column(title, justify="right")
    for standing in words.contest(report):
        table.add_row(*words.contest_row(standing))
    return table


def _about_splits(report: Report) -> str:
    text = (
        "N: a layer's elements, n_in·n_out in a linear one. "
        "evenness: 1 where every layer carries the same share, 1/layers where one carries all"
    )
    if not all(layer.fitted for layer in report.layers):
        text += "; in brackets, over the fitted layers only"
    return f"{text}."


def _left_out(console: Console, report: Report) -> None:
    reasons: dict[str, list[str]] = {}
    for layer in report.layers:
        if layer.left_out_because is not None:
            reasons.setdefault(layer.left_out_because, []).append(layer.name)
    if reasons:
        console.print(Text("Layers that the fit leaves out:"))
    for reason, names in reasons.items():
        _print_item(console, f"×{len(names):,}: {_some(names)}", reason)
    groups = words.others_by_reason(report.others)
    if groups:
        console.print(Text("Not layers:"))
    for (kind, reason), members in groups.items():
        _print_item(console, f"{kind} ×{len(members):,}: {_some([member.name for member in members])}", reason)
    problems: dict[str, list[str]] = {}
    for entry in report.unread:
        problems.setdefault(entry.reason, []).append(entry.name)
    if problems:
        console.print(Text("Unread:"))
    for problem, names in list(problems.items())[:_MOST_PROBLEMS]:
        _print_item(console, f"×{len(names):,}: {_some(names)}", words.printable(problem))
    if len(problems) > _MOST_PROBLEMS:
        console.print(Text(f"  and {len(problems) - _MOST_PROBLEMS:,} other problems, all of them in --format json"))
    console.print(Text(words.accounted(report)))


def _print_item(console: Console, what: str, why: str) -> None:
    console.print(Padding(Text.assemble(what, (f" ({why})", "dim")), (0, 0, 0, 2)))


def _some(names: list[str]) -> str:
    shown = ", ".join(words.printable(name) for name in names[:_EXAMPLES])
    return shown + (f", … {len(names) - _EXAMPLES:,} more" if len(names) > _EXAMPLES else "")
