"""The charts of a report, defined once for pages, pictures and notebooks, with Vega-Altair."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import altair as alt

from weightstats.penalties import FORMULAS, PENALTIES, PenaltyName
from weightstats.renderers import words
from weightstats.renderers.points import Place, Scatter, make_scatter
from weightstats.report import LayerRow, Report
from weightstats.roles import FAMILIES

MOST_POINTS = 4_000
"""Layers that a chart draws; of more, evenly many are taken in network order, and the page says so."""

MOST_LABELS = 24
"""Layers up to which an axis names them."""

MOST_NAME = 80
"""Characters of a layer's name in a chart."""

LEAST_SHARE = 1e-8
"""Share at which the axis of a split ends."""

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


@dataclass(frozen=True, slots=True)
class Drawn:
    """The layers of a report as charts draw them."""

    rows: tuple[dict[str, Any], ...]
    """By network order: `index`, `name`, ... (see `drawn`)."""

    scatter: Scatter
    layers: int
    """All of them; where that is more than `rows`, evenly many of those are left out."""

    evenness: Mapping[PenaltyName, float]
    shares: tuple[float, float]
    """The smallest that is not zero and the largest, in any penalty."""

    law: str
    """Its formula."""


def drawn(report: Report) -> Drawn:
    """What all charts of a report draw."""
    scatter = make_scatter(report)
    measures = {point.index: point for point in scatter.points}
    every = -(-len(report.layers) // MOST_POINTS) or 1
    few = len(report.layers) <= MOST_LABELS
    rows: list[dict[str, Any]] = []
    for index in range(0, len(report.layers), every):
        row = report.layers[index]
        point = measures.get(index)
        rows.append(
            {
                "index": index,
                "label": f"{index + 1}. {words.printable(row.name, MOST_LABEL)}" if few else str(index + 1),
                "name": words.printable(row.name, MOST_NAME),
                "kind": words.printable(row.kind),
                "family": row.family or OTHER,
                "shape": words.shape(row.shape),
                "n_in": row.n_in,
                "n_out": row.n_out,
                "measure": None if point is None else point.measure,
                "mean_square": None if point is None else point.mean_square,
                "ratio": words.ratio(row.ratio) if row.fitted else "left out of the fit",
                "state": _state(row),
                **{penalty: _positive(row.penalties[penalty].share) for penalty in PENALTIES},
                **{_multiplier(name): _positive(row.penalties[name].decay_multiplier) for name in PENALTIES[1:]},
            }
        )
    shares = [row[penalty] for row in rows for penalty in PENALTIES if row[penalty]] or [1.0]
    return Drawn(
        rows=tuple(rows),
        scatter=scatter,
        layers=len(report.layers),
        evenness={penalty: report.penalties[penalty].evenness for penalty in PENALTIES},
        shares=(max(min(shares), LEAST_SHARE), max(shares)),
        law=report.fit.law,
    )


def _multiplier(penalty: PenaltyName) -> str:
    return f"{penalty}_multiplier"


def _state(row: LayerRow) -> str:
    if not row.fitted:
        return "left out"
    return "scale-free" if row.scale_free else "fitted"


def _positive(value: float) -> float | None:
    return value if 0.0 < value < float("inf") else None


def law_chart(found: Drawn, look: Look = LIGHT, width: Width = 640, height: int = 400) -> Chart:
    """Mean square against what the law depends on, both logarithmic: the layers, the law with the interval of its
    constant, the free exponent with its interval, and the rivals that the parameter `rivals` names by key.

    `band` and `free` switch the interval and the free exponent on and off, `picked` is the index of a layer to stand
    out, and `low` and `high` are the ends of the vertical axis.
    """
    scatter = found.scatter
    families = [family for family in look.families if any(row["family"] == family for row in found.rows)]
    x = alt.X(
        "measure:Q",
        title=f"{scatter.measure} (logarithmic)",
        scale=alt.Scale(type="log", nice=False, domain=list(found.scatter.measures)),
        axis=alt.Axis(format="~s", tickCount=8, labelOverlap=True),
    )
    y_title = "mean squared weight (logarithmic)"
    y_scale = alt.Scale(type="log", nice=False, domain=[alt.expr("low"), alt.expr("high")])
    y_axis = alt.Axis(format="~g", tickCount=6, labelOverlap=True)
    y = alt.Y("mean_square:Q", title=y_title, scale=y_scale, axis=y_axis)
    layers: list[alt.Chart] = []
    if has_interval(scatter.law):
        layers.append(
            _of(_places(scatter.law))
            .mark_area(color=look.law, opacity=0.13, clip=True, aria=False)
            .encode(x=x, y=alt.Y("low:Q", title=y_title, scale=y_scale, axis=y_axis), y2="high:Q")
            .transform_filter("band")
        )
    if has_interval(scatter.free):
        layers.append(
            _of(_places(scatter.free))
            .mark_area(color=look.free, opacity=0.16, clip=True, aria=False)
            .encode(x=x, y=alt.Y("low:Q", title=y_title, scale=y_scale, axis=y_axis), y2="high:Q")
            .transform_filter("free")
        )
    layers.append(
        _of([vars_of(rival) for rival in scatter.rivals])
        .mark_tick(thickness=2, width=14, orient="horizontal", color=look.rival, clip=True, aria=False)
        .encode(x=x, y=y, tooltip=[alt.Tooltip("formula:N", title="law"), *_numbers()])
        .transform_filter("indexof(rivals, datum.law) >= 0")
    )
    layers.append(
        _of(_places(scatter.law)).mark_line(color=look.law, strokeWidth=2, clip=True, aria=False).encode(x=x, y=y)
    )
    layers.append(
        _of(_places(scatter.free))
        .mark_line(color=look.free, strokeWidth=2, strokeDash=[6, 4], clip=True, aria=False)
        .encode(x=x, y=y)
        .transform_filter("free")
    )
    layers.append(
        _of([row for row in found.rows if row["mean_square"] is not None])
        .mark_point(size=70, strokeWidth=1.8, aria=False, cursor="pointer")
        .encode(
            x=x,
            y=y,
            color=_scaled(alt.Color, "family", families, look.families),
            shape=_scaled(alt.Shape, "family", families, SHAPES),
            fill=_scaled(alt.Fill, "family", families, look.families),
            fillOpacity=alt.condition("datum.state == 'fitted'", alt.value(0.55), alt.value(0.0)),
            strokeOpacity=alt.condition("datum.state == 'left out'", alt.value(0.45), alt.value(1.0)),
            tooltip=_about(scatter.measure),
        )
    )
    layers.append(
        _of([row for row in found.rows if row["mean_square"] is not None])
        .mark_point(size=320, strokeWidth=3, shape="circle", filled=False, color=look.text, aria=False)
        .encode(x=x, y=y)
        .transform_filter("datum.index === picked")
    )
    chart = alt.layer(*layers).add_params(
        alt.param(name="band", value=True),
        alt.param(name="free", value=bool(scatter.free)),
        alt.param(name="rivals", value=[]),
        alt.param(name="picked", value=-1),
        alt.param(name="low", value=scatter.mean_squares[0]),
        alt.param(name="high", value=scatter.mean_squares[1]),
    )
    return chart.properties(
        width=width,
        height=height,
        description=f"Scatter: mean squared weight of each layer against {scatter.measure}. The table has the numbers.",
    )


def law_legend(found: Drawn) -> list[str]:
    """What the lines and marks of `law_chart` mean."""
    scatter = found.scatter
    if not scatter.law:
        return []
    band = "; grey: the 95 % interval of c" if has_interval(scatter.law) else ""
    lines = [f"Line: the fitted law {found.law}{band}."]
    if scatter.free:
        wedge = "; tinted: the 95 % interval of its slope" if has_interval(scatter.free) else ""
        lines.append(f"Dashed: the free exponent{wedge}.")
    lines.append("Filled: fitted. Hollow: fitted, though its scale does not matter. Pale: left out of the fit.")
    return lines


def split_chart(
    found: Drawn, penalty: PenaltyName, look: Look = LIGHT, width: Width = 640, *, named: bool = True
) -> Chart:
    """The share of each layer in a penalty, in network order: how far it is above or below an even share, on the same
    logarithmic scale for all penalties. The layers are named below it if `named`."""
    even = 1.0 / max(1, found.layers)
    bars = (
        _of([{**{key: row[key] for key in (*_SHOWN, *PENALTIES)}, "even": even} for row in found.rows])
        .mark_bar(color=look.penalties[penalty], aria=False, cursor="pointer")
        .encode(
            x=_order(found, named=named),
            y=alt.Y(
                f"{penalty}:Q",
                title="share",
                axis=alt.Axis(format=".2~%", values=_decades(found)),
                scale=alt.Scale(type="log", domain=_domain(found), nice=False),
            ),
            y2="even:Q",
            tooltip=[
                alt.Tooltip("name:N", title="layer"),
                *(alt.Tooltip(f"{name}:Q", title=words.TITLES[name], format=".2~%") for name in PENALTIES),
                alt.Tooltip("even:Q", title="an even share", format=".2~%"),
            ],
        )
    )
    line = _of([{"even": even}]).mark_rule(color=look.text, aria=False).encode(y="even:Q")
    return alt.layer(bars, line).properties(
        width=width,
        height=110,
        description=f"Bars: share of each layer in the {words.TITLES[penalty]} penalty. The table has the numbers.",
    )


def split_title(found: Drawn, penalty: PenaltyName) -> str:
    """What stands above a `split_chart`."""
    return f"{words.TITLES[penalty]}, {FORMULAS[penalty]}: evenness {words.evenness(found.evenness[penalty])}"


def multiplier_chart(found: Drawn, look: Look = LIGHT, width: Width = 640) -> Chart:
    """The decay multiplier of each layer under the two scaled penalties; the plain one's is 1."""
    names = [words.TITLES[penalty] for penalty in PENALTIES[1:]]
    rows = [
        {**{key: row[key] for key in _SHOWN}, "penalty": words.TITLES[penalty], "multiplier": value}
        for row in found.rows
        for penalty in PENALTIES[1:]
        if (value := row[_multiplier(penalty)]) is not None
    ]
    colours = {words.TITLES[penalty]: look.penalties[penalty] for penalty in PENALTIES[1:]}
    marks = dict(zip(names, ("square", "triangle-up"), strict=True))
    points = (
        _of(rows)
        .mark_point(size=45, strokeWidth=1.8, aria=False, cursor="pointer")
        .encode(
            x=_order(found, bars=False),
            y=alt.Y(
                "multiplier:Q",
                title="decay multiplier",
                scale=alt.Scale(type="log", nice=False, padding=8),
                axis=alt.Axis(format="~g", tickCount=5, labelOverlap=True),
            ),
            color=_scaled(alt.Color, "penalty", names, colours),
            shape=_scaled(alt.Shape, "penalty", names, marks),
            tooltip=[
                alt.Tooltip("name:N", title="layer"),
                alt.Tooltip("penalty:N"),
                alt.Tooltip("multiplier:Q", format=".3~g"),
            ],
        )
    )
    one = _of([{"one": 1.0}]).mark_rule(color=look.text, strokeDash=[4, 4], aria=False).encode(y="one:Q")
    return alt.layer(points, one).properties(
        width=width,
        height=180,
        description="Points: the decay multiplier of each layer under two penalties. The table has the numbers.",
    )


def report_chart(report: Report) -> Chart:
    """All charts of a report below each other, for a picture or a notebook."""
    found = drawn(report)
    last = PENALTIES[-1]
    parts = [
        titled(law_chart(found), law_legend(found), bold=False),
        *(titled(split_chart(found, name, named=name == last), [split_title(found, name)]) for name in PENALTIES),
        titled(multiplier_chart(found), ["Decay multipliers; the plain penalty's is 1 (dashed)"]),
    ]
    chart = alt.vconcat(*parts, title=_title(report)).resolve_scale(
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


_SHOWN = ("index", "label", "name")


def _title(report: Report) -> alt.Title:
    first = words.printable(report.checkpoint.location.rsplit("/", 1)[-1])
    return alt.Title(first, subtitle=_wrapped(report.findings), fontSize=15)


def _wrapped(sentences: Sequence[str], width: int = 110) -> list[str]:
    """Sentences as lines of a picture."""
    said = [words.printable(sentence, words.MOST_SENTENCE) for sentence in sentences]
    return [line for sentence in said for line in textwrap.wrap(sentence, width)]


def _domain(found: Drawn) -> list[float]:
    even = 1.0 / max(1, found.layers)
    return [min(found.shares[0], even) / 1.2, max(found.shares[1], even) * 1.2]


def _decades(found: Drawn) -> list[float]:
    """Where the axis of a split has lines: powers of ten and, where they are few, half-decades."""
    low, high = _domain(found)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1.0, 2.0, 5.0) if math.log10(high / low) < 2.5 else (1.0,)
    ticks = (step * 10.0**decade for decade in decades for step in steps)
    every = [tick for tick in ticks if low <= tick <= high]
    return every[:: -(-len(every) // 6)] if every else []


def _order(found: Drawn, *, named: bool = True, bars: bool = True) -> alt.X:
    """The layers in network order: by name where there are few."""
    scale = alt.Scale(paddingInner=0.0 if len(found.rows) > MOST_LABELS * 6 else 0.15) if bars else alt.Undefined
    if not named:
        return alt.X("label:O", sort=None, scale=scale, axis=alt.Axis(labels=False, ticks=False, title=None))
    if len(found.rows) <= MOST_LABELS:
        axis = alt.Axis(labelAngle=-35, labelLimit=240, title=None, labelOverlap=False)
    else:
        axis = alt.Axis(title="layer, in network order", labelOverlap=True, labelAngle=0, values=_round_places(found))
    return alt.X("label:O", sort=None, scale=scale, axis=axis)


def _round_places(found: Drawn) -> list[str]:
    """The labels of about ten layers."""
    count = len(found.rows)
    step = next((step for step in (5, 10, 20, 50, 100, 200, 500) if count <= 12 * step), 1_000)
    return [row["label"] for place, row in enumerate(found.rows, 1) if place == 1 or place % step == 0]


def _of(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))


def _places(places: Sequence[Place]) -> list[dict[str, Any]]:
    return [{key: _positive(value) for key, value in vars_of(place).items()} for place in places]


def vars_of(record: Any) -> dict[str, Any]:
    """The fields of a flat record."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def has_interval(places: Sequence[Place]) -> bool:
    """Whether there is an interval about a line that can be drawn."""
    return bool(places) and all(_positive(place.low) and _positive(place.high) for place in places)


def _scaled(channel: Any, field: str, values: Sequence[str], range_: Mapping[str, str]) -> Any:
    """A channel whose scale is spelt out, with one legend for all that share it."""
    return channel(
        f"{field}:N",
        scale=alt.Scale(domain=list(values), range=[range_[value] for value in values]),
        legend=alt.Legend(),
    )


def _numbers() -> list[alt.Tooltip]:
    return [alt.Tooltip("measure:Q", format=",~g"), alt.Tooltip("mean_square:Q", title="mean square", format=".3~g")]


def _about(measure: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("name:N", title="layer"),
        alt.Tooltip("kind:N"),
        alt.Tooltip("shape:N"),
        alt.Tooltip("n_in:Q", format=","),
        alt.Tooltip("n_out:Q", format=","),
        alt.Tooltip("mean_square:Q", title="mean square", format=".3~g"),
        alt.Tooltip("ratio:N", title="over the law's"),
        alt.Tooltip("state:N"),
    ]
