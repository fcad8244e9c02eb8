"""Parts that the charts of comparisons and of trajectories have in common."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from weightstats.fits import Fit
from weightstats.laws import law_of
from weightstats.renderers import words
from weightstats.renderers.charts import LIGHT, MOST_LABELS, Chart, Look, configured

MOST_REACH = 3.0
"""Units of an exponent that an axis shows beyond the exponents themselves, whatever their intervals."""


Range = tuple[float, float]


def positive(value: float) -> float | None:
    """The value if it has a logarithm, else None."""
    return value if 0.0 < value < math.inf else None


def known(value: float) -> float | None:
    """The value if it is a number, else None."""
    return value if math.isfinite(value) else None


def reach(values: Sequence[float | None], margin: float) -> Range:
    """From the smallest positive value to the largest, and a margin beyond; (0.1, 1) without any."""
    there = [value for value in values if value is not None and 0.0 < value < math.inf]
    return (max(min(there) / margin, 1e-300), min(max(there) * margin, 1e300)) if there else (0.1, 1.0)


def logarithmic(ends: Range) -> alt.Scale:
    """A scale whose ends are given."""
    return alt.Scale(type="log", nice=False, domain=list(ends))


def exponents(fits: Sequence[Fit]) -> Range:
    """The ends of an axis for free exponents: their intervals within MOST_REACH, and always -1 and 0."""
    values = [fit.exponent for fit in fits if math.isfinite(fit.exponent)] or [-1.0]
    ends = [end for fit in fits for end in fit.exponent_interval if math.isfinite(end)]
    low = max(min([*ends, *values, -1.0]), min(*values, -1.0) - MOST_REACH)
    high = min(max([*ends, *values, 0.0]), max(*values, 0.0) + MOST_REACH)
    return low - 0.15, high + 0.15


def lines_of(fit: Fit) -> str:
    """What the lines at -1 and 0 stand for."""
    if law_of(fit.law_key).measure_name:
        return f"dashed: -1, the law, and 0, no dependence on {fit.measure}"
    return f"dashed: 0, the law, and -1, 1/({fit.measure})"


def below_each_other(parts: Sequence[Chart], title: str, sentences: Sequence[str]) -> Chart:
    """Charts as one picture, with sentences on top."""
    subtitle = wrapped(sentences)
    chart = alt.vconcat(*parts, title=alt.Title(title, subtitle=subtitle, fontSize=15, offset=14)).resolve_scale(
        color="independent", shape="independent", fill="independent"
    )
    return configured(chart, LIGHT)


def wrapped(sentences: Sequence[str], width: int = 110) -> list[str]:
    """Sentences as lines of a picture."""
    said = [words.printable(sentence, words.MOST_SENTENCE) for sentence in sentences]
    return [line for sentence in said for line in textwrap.wrap(sentence, width)]


def in_order(labels: Sequence[str], title: str = "layer, in network order") -> alt.X:
    """Layers, or steps, in their order: by name where there are few."""
    if len(labels) <= MOST_LABELS:
        axis = alt.Axis(labelAngle=-35, labelLimit=150, title=None, labelOverlap=False)
    else:
        step = next((step for step in (5, 10, 20, 50, 100, 200, 500) if len(labels) <= 12 * step), 1_000)
        shown = [label for place, label in enumerate(labels, 1) if place == 1 or place % step == 0]
        axis = alt.Axis(title=title, labelOverlap=True, labelAngle=0, values=shown)
    return alt.X("label:O", sort=None, scale=alt.Scale(domain=list(labels)), axis=axis)


def of(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """A chart of rows of data."""
    return alt.Chart(inline(rows))


def inline(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    """Rows as the data of a chart, or of all charts of a layered one: altair copies those of each chart many times."""
    return alt.InlineData(values=[dict(row) for row in rows])


def picked(look: Look) -> Chart:
    """A ring about the point that the parameter `picked` names by its index, of the data of a layered chart."""
    ring = alt.Chart().mark_point(size=320, strokeWidth=3, shape="circle", filled=False, color=look.text, aria=False)
    return ring.transform_filter("datum.index === picked")


def scaled(channel: Any, field: str, range_: Mapping[str, str]) -> Any:
    """A channel whose scale is spelt out, with one legend for all that share it; none where there is nothing in it."""
    legend = alt.Legend(columns=3) if range_ else None
    return channel(f"{field}:N", scale=alt.Scale(domain=list(range_), range=list(range_.values())), legend=legend)
