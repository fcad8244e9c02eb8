"""The table that a notebook shows for a report."""

from html import escape

from weightstats.renderers import words
from weightstats.report import Report

_HEAD = ("layer", "kind", "shape", "n_in", "n_out", "mean square", "ratio", "plain", "per-element", "fan-scaled")


def render(report: Report) -> str:
    """HTML: what was read, the finding, and the layers."""
    head = "".join(f"<th>{title}</th>" for title in _HEAD)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>" for cells in _rows(report))
    marks = (words.free(report), words.untrained(report))
    found = (*report.findings, *words.evidence(report), *marks, *words.merged(report))
    lines = (*words.header(report), *found, *_warnings(report))
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in lines if line)
    return f"<div>{paragraphs}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _warnings(report: Report) -> list[str]:
    warnings = [f"Warning: {warning}" for warning in report.checkpoint.warnings]
    return [*warnings, f"Damage: {report.checkpoint.damage}"] if report.checkpoint.damage else warnings


def _rows(report: Report) -> list[list[str]]:
    return [
        [
            row.name,
            row.kind,
            row.shape,
            row.n_in,
            row.n_out,
            row.mean_square,
            row.marked_ratio,
            *map(words.percent, row.shares),
        ]
        for row in words.rows_of(report.layers)
    ]
