"""What a notebook shows for a comparison and a trajectory: their sentences, the picture of the law, and the table."""

from collections.abc import Sequence

from weightstats import extras
from weightstats.comparison import Comparison
from weightstats.penalties import PENALTIES
from weightstats.renderers import notebook, words
from weightstats.renderers.comparison_rows import rows_of
from weightstats.renderers.comparison_terminal import constant_of, exponent_of
from weightstats.renderers.trajectory_text import MOST_ROWS, change_of
from weightstats.trajectories import Trajectory

_LAYERS = ("layer", "kind", "shape", "change", "cosine", "mean square", "ratio", "law")

_STEPS = (
    *("checkpoint", "c (95 % interval)", "exponent (95 % interval)", "verdict", "scatter"),
    *(f"{words.TITLES[penalty]} evenness" for penalty in PENALTIES),
    *("‖w‖", "from first", "from previous"),
)


def comparison(made: Comparison) -> str:
    """HTML: what was read, the findings, the picture where the `report` extra is installed, and the layers."""
    sides = (("before", made.before), ("after", made.after))
    read = [f"{side}: {line}" for side, report in sides for line in words.header(report)]
    warnings = [f"Warning, {side}: {warning}" for side, report in sides for warning in report.checkpoint.warnings]
    rows = [
        (
            *(row.name, row.kind, row.shape, row.change, row.cosine),
            *(" → ".join(both) for both in (row.mean_square, row.ratio)),
            row.moved.replace("\n", ", "),
        )
        for row in rows_of(made.layers)
    ]
    return _page([*read, *made.findings, *warnings], _comparison_picture(made), _LAYERS, rows)


def trajectory(made: Trajectory) -> str:
    """HTML: the findings, the picture where the `report` extra is installed, and the steps."""
    warnings = [
        f"Warning, {step.checkpoint.location}: {warning}" for step in made.steps for warning in step.checkpoint.warnings
    ]
    rows = [
        (
            *(words.printable(step.step.label), constant_of(step.fit), exponent_of(step.fit), step.fit.verdict),
            words.number(step.fit.spread),
            *(words.evenness(step.evenness[penalty]) for penalty in PENALTIES),
            *(words.number(step.norm), change_of(step.from_first), change_of(step.from_previous)),
        )
        for step in made.steps[:MOST_ROWS]
    ]
    return _page([*made.findings, *warnings], _trajectory_picture(made), _STEPS, rows)


def _page(lines: Sequence[str], picture: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return notebook.shown((words.printable(line, words.MOST_SENTENCE) for line in lines), picture, titles, rows)


def _comparison_picture(made: Comparison) -> str:
    """As SVG, which needs no script; '' without the extra that draws it, or a layer."""
    if not made.layers or not extras.is_installed("report"):
        return ""
    from weightstats.renderers import comparison_charts, pictures

    found = comparison_charts.drawn(made)
    return pictures.within_html(comparison_charts.law_chart(found), comparison_charts.law_legend(found), bold=False)


def _trajectory_picture(made: Trajectory) -> str:
    if not extras.is_installed("report"):
        return ""
    from weightstats.renderers import pictures, trajectory_charts
    from weightstats.renderers.chart_parts import LIGHT

    make, title = trajectory_charts.CHARTS["law"]
    return pictures.within_html(make(trajectory_charts.drawn(made), LIGHT, 640), [title])
