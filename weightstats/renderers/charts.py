"""The charts of a report, defined once for pages, pictures and notebooks, with Vega-Altair."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import altair as alt

from weightstats.penalties import FORMULAS, PENALTIES, PenaltyName
from weightstats.renderers import words
from weightstats.renderers.chart_parts import (
    LIGHT,
    MOST_LABEL,
    MOST_LABELS,
    MOST_NAME,
    OTHER,
    SHAPES,
    Chart,
    Look,
    Width,
    below_each_other,
    evenly,
    has_interval,
    in_order,
    inline,
    of,
    picked,
    places_of,
    positive,
    scaled,
    titled,
)
from weightstats.renderers.points import Frame, Rival, Scatter, make_scatter
from weightstats.report import LayerRow, Report

ENDS = ("left", "right", "low", "high")
"""The parameters of `law_chart` that hold the ends of its axes."""

MEANINGS = {
    "fitted": "Filled: a layer of the fit.",
    "scale-free": "Hollow: a layer of the fit whose scale does not matter.",
    "left out": "Pale: a layer that the fit leaves out.",
}
"""Of the marks."""

LEAST_SHARE = 1e-8
"""Share at which the axis of a split ends."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The layers of a report as charts draw them."""

    rows: tuple[dict[str, Any], ...]
    """In the order of the report: `index`, `name`, ... (see `drawn`)."""

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
    few = len(report.layers) <= MOST_LABELS
    rows: list[dict[str, Any]] = []
    for index in evenly(len(report.layers)):
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
                **{penalty: positive(row.penalties[penalty].share) for penalty in PENALTIES},
                **{_multiplier(name): positive(row.penalties[name].decay_multiplier) for name in PENALTIES[1:]},
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


def law_chart(found: Drawn, look: Look = LIGHT, width: Width = 640, height: int = 400) -> Chart:
    """Mean square against what the law depends on, both logarithmic: the layers, the law with the interval of its
    constant, the free exponent with its interval, and the rivals that the parameter `rivals` names by key.

    `band` and `free` switch the interval and the free exponent on and off, `picked` is the index of a layer to stand
    out, `left_out` whether layers are there that the fit leaves out, and ENDS are the ends of the axes.
    """
    scatter = found.scatter
    frame = scatter.whole if scatter.shows_left_out else scatter.frame
    families = [family for family in look.families if any(row["family"] == family for row in found.rows)]
    x = alt.X(
        "measure:Q",
        title=f"{scatter.measure} (logarithmic)",
        scale=alt.Scale(type="log", nice=False, domain=[alt.expr("left"), alt.expr("right")]),
        axis=alt.Axis(format="~s", tickCount=8, labelOverlap=True),
    )
    y_title = "mean squared weight (logarithmic)"
    y_scale = alt.Scale(type="log", nice=False, domain=[alt.expr("low"), alt.expr("high")])
    y_axis = alt.Axis(format="~g", tickCount=6, labelOverlap=True)
    y = alt.Y("mean_square:Q", title=y_title, scale=y_scale, axis=y_axis)
    layers: list[Chart] = []
    if has_interval(scatter.law):
        layers.append(
            of(places_of(scatter.law))
            .mark_area(color=look.law, opacity=0.13, clip=True, aria=False)
            .encode(x=x, y=alt.Y("low:Q", title=y_title, scale=y_scale, axis=y_axis), y2="high:Q")
            .transform_filter("band")
        )
    if has_interval(scatter.free):
        layers.append(
            of(places_of(scatter.free))
            .mark_area(color=look.free, opacity=0.16, clip=True, aria=False)
            .encode(x=x, y=alt.Y("low:Q", title=y_title, scale=y_scale, axis=y_axis), y2="high:Q")
            .transform_filter("free")
        )
    layers.append(
        of([asdict(rival) for rival in scatter.rivals])
        .mark_tick(thickness=2, width=14, orient="horizontal", color=look.rival, clip=True, aria=False)
        .encode(x=x, y=y, tooltip=[alt.Tooltip("formula:N", title="law"), *_numbers(scatter.measure)])
        .transform_filter("indexof(rivals, datum.law) >= 0")
    )
    layers.append(
        of([asdict(rival) for rival in _last_places(scatter)])
        .mark_text(align="right", dx=-10, dy=-7, color=look.rival, fontSize=12, aria=False)
        .encode(x=x, y=y, text="formula:N")
        .transform_filter("indexof(rivals, datum.law) >= 0")
    )
    layers.append(
        of(places_of(scatter.law)).mark_line(color=look.law, strokeWidth=2, clip=True, aria=False).encode(x=x, y=y)
    )
    layers.append(
        of(places_of(scatter.free))
        .mark_line(color=look.free, strokeWidth=2, strokeDash=[6, 4], clip=True, aria=False)
        .encode(x=x, y=y)
        .transform_filter("free")
    )
    marks = (
        alt.Chart()
        .mark_point(size=70, strokeWidth=1.8, aria=False, cursor="pointer")
        .encode(
            x=x,
            y=y,
            color=scaled(alt.Color, "family", {family: look.families[family] for family in families}),
            shape=scaled(alt.Shape, "family", {family: SHAPES[family] for family in families}),
            fill=scaled(alt.Fill, "family", {family: look.families[family] for family in families}),
            fillOpacity=alt.condition("datum.state == 'fitted'", alt.value(0.8), alt.value(0.0)),
            strokeOpacity=alt.condition("datum.state == 'left out'", alt.value(0.45), alt.value(1.0)),
            tooltip=_about(scatter.measure),
        )
        .transform_filter("left_out || datum.state != 'left out'")
    )
    drawable = inline([row for row in found.rows if row["mean_square"] is not None])
    layers.append(alt.layer(marks, picked(look).encode(x=x, y=y), data=drawable))
    chart = alt.layer(*layers).add_params(
        alt.param(name="band", value=True),
        alt.param(name="free", value=bool(scatter.free)),
        alt.param(name="rivals", value=[]),
        alt.param(name="picked", value=-1),
        alt.param(name="left_out", value=scatter.shows_left_out),
        *(alt.param(name=name, value=value) for name, value in zip(ENDS, ends_of(frame), strict=True)),
    )
    return chart.properties(
        width=width,
        height=height,
        description=f"Scatter: mean squared weight of each layer against {scatter.measure}. The table has the numbers.",
    )


def ends_of(frame: Frame) -> tuple[float, ...]:
    """In the order of ENDS."""
    return (*frame.measures, *frame.mean_squares)


def _last_places(scatter: Scatter) -> list[Rival]:
    """Where each rival's name stands: at its place furthest to the right."""
    return list({rival.law: rival for rival in sorted(scatter.rivals, key=lambda rival: rival.measure)}.values())


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
    states = {row["state"] for row in found.rows if row["mean_square"] is not None}
    if states != {"fitted"}:
        lines += [" ".join(meaning for state, meaning in MEANINGS.items() if state in states)]
    if not scatter.shows_left_out:
        lines.append("Layers that the fit leaves out lie far beyond the picture.")
    return lines


def split_chart(
    found: Drawn, penalty: PenaltyName, look: Look = LIGHT, width: Width = 640, *, named: bool = True
) -> Chart:
    """The share of each layer in a penalty, in their order: how far it is above or below an even share, on the same
    logarithmic scale for all penalties. The layers are named below it if `named`."""
    even = 1.0 / max(1, found.layers)
    bars = (
        of([{**{key: row[key] for key in (*_SHOWN, *PENALTIES)}, "even": even} for row in found.rows])
        .mark_bar(color=look.penalties[penalty], aria=False, cursor="pointer")
        .encode(
            x=in_order(_labels(found), named=named, bars=True),
            y=alt.Y(
                f"{penalty}:Q",
                title="share",
                axis=alt.Axis(format=".2~p", values=_decades(found)),
                scale=alt.Scale(type="log", domain=_domain(found), nice=False),
            ),
            y2="even:Q",
            tooltip=[
                alt.Tooltip("name:N", title="layer"),
                *(alt.Tooltip(f"{name}:Q", title=words.TITLES[name], format=".2~p") for name in PENALTIES),
                alt.Tooltip("even:Q", title="an even share", format=".2~p"),
            ],
        )
    )
    line = of([{"even": even}]).mark_rule(color=look.text, aria=False).encode(y="even:Q")
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
        of(rows)
        .mark_point(size=45, strokeWidth=1.8, aria=False, cursor="pointer")
        .encode(
            x=in_order(_labels(found)),
            y=alt.Y(
                "multiplier:Q",
                title="decay multiplier",
                scale=alt.Scale(type="log", nice=False, padding=8),
                axis=alt.Axis(format="~g", tickCount=5, labelOverlap=True),
            ),
            color=scaled(alt.Color, "penalty", colours),
            shape=scaled(alt.Shape, "penalty", marks),
            tooltip=[
                alt.Tooltip("name:N", title="layer"),
                alt.Tooltip("penalty:N"),
                alt.Tooltip("multiplier:Q", format=".3~g"),
            ],
        )
    )
    one = of([{"one": 1.0}]).mark_rule(color=look.text, strokeDash=[4, 4], aria=False).encode(y="one:Q")
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
    return below_each_other(parts, words.last_part(report.checkpoint.location), [*report.findings, report.rests_on])


_SHOWN = ("index", "label", "name")


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


def _labels(found: Drawn) -> list[str]:
    return [row["label"] for row in found.rows]


def _numbers(measure: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("measure:Q", title=measure, format=",~g"),
        alt.Tooltip("mean_square:Q", title="mean square", format=".3~g"),
    ]


def _about(measure: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("name:N", title="layer"),
        alt.Tooltip("kind:N"),
        alt.Tooltip("family:N"),
        alt.Tooltip("shape:N"),
        alt.Tooltip("n_in:Q", format=","),
        alt.Tooltip("n_out:Q", format=","),
        alt.Tooltip("mean_square:Q", title="mean square", format=".3~g"),
        alt.Tooltip("ratio:N", title="over the law's"),
        alt.Tooltip("state:N"),
    ]
