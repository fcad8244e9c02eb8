"""Markdown for issues, model cards and notebooks: the same parts as on the terminal."""

import re

from weightstats.penalties import FORMULAS, PENALTIES
from weightstats.renderers import words
from weightstats.report import Report

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&$@]|^[+-])")


def escaped(text: str, most: int = words.MOST_NAME) -> str:
    """Text in which Markdown and HTML see only characters, cut if it is longer than `most`."""
    return _SPECIAL.sub(r"\\\1", words.printable(text, most))


def render(report: Report) -> str:
    """The report with a table of layers, the finding, the splits and what was left out."""
    lines = [escaped(line) for line in words.header(report)]
    lines += [f"- **Warning:** {escaped(warning)}" for warning in report.checkpoint.warnings]
    lines += [
        "",
        *(escaped(sentence, words.MOST_SENTENCE) for sentence in report.findings),
        "",
        *(f"- {escaped(sentence, words.MOST_SENTENCE)}" for sentence in words.evidence(report)),
        "",
        *_contest(report),
        *_layers(report),
        "",
        *_notes(report),
        *_splits(report),
        "",
        escaped(words.evenest(report), words.MOST_SENTENCE),
        "",
    ]
    lines += _left_out(report)
    return "\n".join(lines) + "\n"


def _layers(report: Report) -> list[str]:
    lines = [
        "| layer | kind | shape | n_in | n_out | mean square | ratio | plain | per-element | fan-scaled |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in words.rows_of(report.layers):
        cells = [
            escaped(row.name),
            escaped(row.kind),
            row.shape,
            row.n_in,
            row.n_out,
            row.mean_square,
            row.marked_ratio,
        ]
        lines.append(f"| {' | '.join([*cells, *map(words.percent, row.shares)])} |")
    return lines


def _notes(report: Report) -> list[str]:
    """What the table's marks mean, and what it has no column for, a list behind it."""
    notes = (words.free(report), words.untrained(report), *words.merged(report))
    lines = [f"- {escaped(line)}" for line in notes if line]
    return [*lines, ""] if lines else []


def _splits(report: Report) -> list[str]:
    lines = ["| penalty | formula | evenness | largest share |", "|---|---|--:|---|"]
    for penalty in PENALTIES:
        split = report.penalties[penalty]
        largest = f"{words.percent(split.largest.share)} {escaped(split.largest.name or '')}"
        formula = escaped(FORMULAS[penalty])
        lines.append(f"| {words.TITLES[penalty]} | {formula} | {words.evenness(split.evenness)} | {largest} |")
    return lines


def _contest(report: Report) -> list[str]:
    standings = words.contest(report)
    if not standings:
        return []
    lines = [f"| {' | '.join(words.CONTEST_TITLES)} |", "|---|--:|--:|--:|--:|--:|--:|"]
    lines += [f"| {' | '.join(escaped(cell) for cell in words.contest_row(standing))} |" for standing in standings]
    return [*lines, "", escaped(words.about_contest(report), words.MOST_SENTENCE), ""]


def _left_out(report: Report) -> list[str]:
    lines = [escaped(words.accounted(report)), ""]
    for layer in report.layers:
        if not layer.fitted:
            lines.append(f"- {escaped(layer.name)}: not in the fit, {escaped(layer.left_out_because or '')}")
    for (kind, reason), members in words.others_by_reason(report.others).items():
        names = [member.name for member in members]
        shown = ", ".join(escaped(name) for name in names[:3]) + (
            f" and {len(names) - 3} more" if len(names) > 3 else ""
        )
        lines.append(f"- {escaped(kind)} ×{len(names)}: {shown} ({escaped(reason)})")
    lines += [f"- unread: {escaped(entry.name)}: {escaped(entry.reason)}" for entry in report.unread]
    return lines
