"""What all charts have in common: how much they draw, how they look, axes, rows of data."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

import altair as alt

from weightstats.fits import Fit
from weightstats.laws import law_of
from weightstats.penalties import PENALTIES, PenaltyName
from weightstats.renderers import words
from weightstats.renderers.points import Place, Range
from weightstats.roles import FAMILIES

MOST_POINTS = 4_000
"""Layers that a chart draws; of more, evenly many are taken in their order, and the page says so."""

MOST_LABELS = 24
"""Layers up to which an axis names them."""

MOST_NAME = 80
"""Characters of a layer's name in a chart."""

MOST_LABEL = 30
"""Characters of a name at an axis; it is cut in its middle."""

OTHER = "other"
"""Layers of no family."""

SHAPES = {
    **dict(zip(FAMILIES, ("circle", "square", "triangle-up", "diamond"), strict=False)),
    OTHER: "cross",
}
"""What marks a layer of each family: colour alone would not reach everybody."""

VEGA_LITE = "6.4"
"""The version that altair 6 writes, as vl-convert names it."""

Width = int | Literal["container"]

Chart = Any
"""altair's compound charts, whose methods say less of their types than mypy wants."""


MOST_REACH = 3.0
"""Units of an exponent that an axis shows beyond the exponents themselves, whatever their intervals."""


@dataclass(frozen=True, slots=True)
class Look:
    """Colours, by what they are for. In a page they are CSS variables, so that it can be light or dark."""

    text: str
    muted: str
    grid: str
    background: str
    law: str
    free: str
    rival: str
    families: Mapping[str, str]
    penalties: Mapping[PenaltyName, str]


_COLOURS = ("#0b6bab", "#b8460e", "#00775a", "#9c3f86")
"""Of Okabe and Ito's palette, darkened until each stands out from white by 4.5 to 1."""

LIGHT = Look(
    text="#1c2024",
    muted="#5a6270",
    grid="#dde1e6",
    background="#ffffff",
    law="#1c2024",
    free="#b8460e",
    rival="#7a3fb0",
    families=MappingProxyType({**dict(zip(FAMILIES, _COLOURS, strict=False)), OTHER: "#5a6270"}),
    penalties=MappingProxyType(dict(zip(PENALTIES, _COLOURS, strict=False))),
)
"""For pictures, which are printed."""

PAGE = Look(
    text="var(--text)",
    muted="var(--muted)",
    grid="var(--grid)",
    background="transparent",
    law="var(--text)",
    free="var(--second)",
    rival="var(--fifth)",
    families=MappingProxyType(
        {
            **dict(zip(FAMILIES, ("var(--first)", "var(--second)", "var(--third)", "var(--fourth)"), strict=False)),
            OTHER: "var(--muted)",
        }
    ),
    penalties=MappingProxyType(dict(zip(PENALTIES, ("var(--first)", "var(--second)", "var(--third)"), strict=False))),
)
"""For pages; the style sheet gives the values."""


def positive(value: float) -> float | None:
    """The value if it has a logarithm, else None."""
    return value if 0.0 < value < math.inf else None


def known(value: float) -> float | None:
    """The value if it is a number, else None."""
    return value if math.isfinite(value) else None


def evenly(count: int) -> range:
    """Indices of all of so many things, or of MOST_POINTS of them at the most, evenly taken in their order."""
    return range(0, count, -(-count // MOST_POINTS) or 1)


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


def titled(chart: Chart, lines: Sequence[str], *, bold: bool = True) -> Chart:
    """The chart with lines above it, for a picture: a page has them in its text."""
    weight: Literal["bold", "normal"] = "bold" if bold else "normal"
    return chart.properties(
        title=alt.Title(list(lines), anchor="start", fontSize=13 if bold else 12, fontWeight=weight)
    )


def configured(chart: Chart, look: Look) -> Chart:
    """The chart with the look's fonts and colours."""
    return (
        chart.configure(background=look.background, font="system-ui, 'DejaVu Sans', sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=look.muted,
            titleColor=look.text,
            gridColor=look.grid,
            domainColor=look.muted,
            tickColor=look.muted,
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_legend(labelColor=look.text, titleColor=look.text, orient="top", labelFontSize=12, title=None)
        .configure_title(color=look.text, subtitleColor=look.muted, anchor="start", subtitleFontSize=12)
    )


def places_of(places: Sequence[Place]) -> list[dict[str, Any]]:
    """The places of a line as rows of data, without what has no logarithm."""
    return [{key: positive(value) for key, value in asdict(place).items()} for place in places]


def has_interval(places: Sequence[Place]) -> bool:
    """Whether there is an interval about a line that can be drawn."""
    return bool(places) and all(positive(place.low) and positive(place.high) for place in places)


def wrapped(sentences: Sequence[str], width: int = 110) -> list[str]:
    """Sentences as lines of a picture."""
    said = [words.printable(sentence, words.MOST_SENTENCE) for sentence in sentences]
    return [line for sentence in said for line in textwrap.wrap(sentence, width)]


def in_order(
    labels: Sequence[str], title: str = "layer, in the checkpoint's order", *, named: bool = True, bars: bool = False
) -> alt.X:
    """Layers, or steps, in their order: by name where there are few, and without anything unless `named`. A scale for
    points, or for bars."""
    scale = alt.Scale(domain=list(labels))
    if bars:
        scale = alt.Scale(domain=list(labels), paddingInner=0.0 if len(labels) > 6 * MOST_LABELS else 0.15)
    if not named:
        axis = alt.Axis(labels=False, ticks=False, title=None)
    elif len(labels) <= MOST_LABELS:
        axis = alt.Axis(labelAngle=-35, labelLimit=240, title=None, labelOverlap=False)
    else:
        step = next((step for step in (5, 10, 20, 50, 100, 200, 500) if len(labels) <= 12 * step), 1_000)
        shown = [label for place, label in enumerate(labels, 1) if place == 1 or place % step == 0]
        axis = alt.Axis(title=title, labelOverlap=True, labelAngle=0, values=shown)
    return alt.X("label:O", sort=None, scale=scale, axis=axis)


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
