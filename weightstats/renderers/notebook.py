"""What a notebook shows for a report: its sentences, the picture of the fit, and the table of layers."""

from collections.abc import Iterable
from html import escape

from weightstats import extras
from weightstats.renderers import words
from weightstats.report import Report

_HEAD = ("layer", "kind", "shape", "n_in", "n_out", "mean square", "ratio", "plain", "per-element", "fan-scaled")


def render(report: Report) -> str:
    """HTML: what was read, the finding, the picture where the `report` extra is installed, and the layers."""
    marks = (words.free(report), words.untrained(report))
    found = (*report.findings, *words.evidence(report), *marks, *words.merged(report))
    lines = (*words.header(report), *found, *_warnings(report))
    return shown(lines, _picture(report), _HEAD, _rows(report))


def shown(lines: Iterable[str], picture: str, titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Lines of text without the empty ones, a picture in HTML, and a table."""
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in lines if line)
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>" for cells in rows)
    return f"<div>{paragraphs}{picture}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _picture(report: Report) -> str:
    """The picture of the fit as SVG, which needs no script; '' without the extra that draws it, or a layer."""
    if not extras.is_installed("report"):
        return ""
    from weightstats.renderers import charts, pictures

    found = charts.drawn(report)
    if not found.scatter.points:
        return ""
    return pictures.within_html(charts.law_chart(found), charts.law_legend(found), bold=False)


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
