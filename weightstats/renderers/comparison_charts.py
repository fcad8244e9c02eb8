"""The charts of a comparison, defined once for pages, pictures and notebooks, with Vega-Altair."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from weightstats.changes import LayerChange
from weightstats.comparison import Comparison
from weightstats.fits import Fit
from weightstats.penalties import PENALTIES
from weightstats.renderers import words
from weightstats.renderers.chart_parts import (
    LIGHT,
    MOST_LABELS,
    MOST_NAME,
    Chart,
    Look,
    Width,
    below_each_other,
    evenly,
    exponents,
    has_interval,
    in_order,
    inline,
    known,
    logarithmic,
    of,
    picked,
    places_of,
    positive,
    scaled,
    titled,
)
from weightstats.renderers.points import MARGIN, Place, Range, make_scatter, measures_of, reach

STATES = ("nearer", "further", "neither", "not in both fits", "unchanged")
"""What became of a layer, seen from the law."""

SHAPES = dict(zip(STATES, ("circle", "square", "triangle-up", "cross", "diamond"), strict=True))

SIDES = ("before", "after")

MANY = 200
"""Layers from which the lines from before to after are pale."""

MOST_FACTOR = 100.0
"""The same of a constant, as a factor."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The layers of a comparison as charts draw them."""

    rows: tuple[dict[str, Any], ...]
    """In the order of the first checkpoint: `index`, `name`, ... (see `drawn`)."""

    layers: int
    """All of them; where that is more than `rows`, evenly many of those are left out."""

    measure: str
    """The name of the horizontal axis of `law_chart`."""

    measures: Range
    mean_squares: Range
    changes: Range
    """The ends of the axes."""

    laws: tuple[tuple[Place, ...], tuple[Place, ...]]
    """The fitted law before and after; empty where there is none."""

    fits: tuple[Fit, Fit]
    evenness: tuple[tuple[str, float, float], ...]
    """Of each penalty: its name, and its evenness before and after."""

    median: float
    together: float
    """The relative change of a layer in the middle, and of all weights together; NaN where there is none."""


def drawn(comparison: Comparison) -> Drawn:
    """What all charts of a comparison draw."""
    layers = comparison.layers
    fits = comparison.before.fit, comparison.after.fit
    measures = measures_of(fits[1], layers).tolist()
    rows = [_row(index, layers[index], measures[index], len(layers)) for index in evenly(len(layers))]
    total = comparison.total
    changes = reach([*(row["change"] for row in rows), total.relative_change, total.median_relative_change], 1.5)
    rows = [{**row, "at": changes[0] if row["state"] == "unchanged" else row["change"]} for row in rows]
    laws = make_scatter(comparison.before).law, make_scatter(comparison.after).law
    places = [row["measure"] for row in rows if row["before"] is not None or row["after"] is not None]
    squares = [row[side] for row in rows for side in SIDES] + [place.mean_square for law in laws for place in law]
    return Drawn(
        rows=tuple(rows),
        layers=len(layers),
        measure=fits[1].measure,
        measures=reach(places, MARGIN),
        mean_squares=reach(squares, 1.5),
        changes=changes,
        laws=laws,
        fits=fits,
        evenness=tuple(
            (words.TITLES[name], comparison.before.penalties[name].evenness, comparison.after.penalties[name].evenness)
            for name in PENALTIES
        ),
        median=total.median_relative_change,
        together=total.relative_change,
    )


def _row(index: int, layer: LayerChange, measure: float, layers: int) -> dict[str, Any]:
    name = words.printable(layer.name, MOST_NAME)
    before, after = positive(layer.mean_square.before), positive(layer.mean_square.after)
    return {
        "index": index,
        "label": f"{index + 1}. {name}" if layers <= MOST_LABELS else str(index + 1),
        "name": name,
        "kind": words.printable(layer.kind),
        "shape": words.shape(layer.shape),
        "measure": measure,
        "before": before,
        "after": after,
        "ratios": f"{words.ratio(layer.ratio.before)} → {words.ratio(layer.ratio.after)}",
        "change": positive(layer.relative_change),
        "changed": "none" if layer.is_unchanged else words.number(layer.relative_change),
        "state": state(layer),
    }


def state(layer: LayerChange) -> str:
    """What became of a layer, seen from the law: one of STATES."""
    if layer.is_unchanged:
        return "unchanged"
    if layer.left_out_because is not None:
        return "not in both fits"
    return {"towards": "nearer", "away": "further", None: "neither"}[layer.moved]


def colours(look: Look) -> Mapping[str, str]:
    """By state."""
    first, second, third, *_ = look.families.values()
    return {
        "nearer": third,
        "further": second,
        "neither": first,
        "not in both fits": look.rival,
        "unchanged": look.muted,
    }


def change_chart(found: Drawn, look: Look = LIGHT, width: Width = 640) -> Chart:
    """The relative change of each layer, in the order of the first checkpoint; those without
    any stand at the lower end.

    `picked` is the index of a layer to stand out.
    """
    y = alt.Y(
        "at:Q",
        title="relative change",
        scale=logarithmic(found.changes),
        axis=alt.Axis(format="~g", tickCount=5, labelOverlap=True),
    )
    x = in_order([row["label"] for row in found.rows])
    lines = [
        {"at": value, "said": said}
        for value, said in ((found.together, "all weights together"), (found.median, "median layer"))
        if positive(value) is not None
    ]
    layers = [
        of([line])
        .mark_rule(color=look.text, strokeDash=[6, 4] if line["said"] == "median layer" else [1, 0], aria=False)
        .encode(y=y, tooltip=[alt.Tooltip("said:N", title=" "), alt.Tooltip("at:Q", title="change", format=".3~g")])
        for line in lines
    ]
    layers += [
        alt.Chart()
        .mark_point(size=70, strokeWidth=1.8, aria=False, cursor="pointer", clip=False)
        .encode(x=x, y=y, tooltip=_about(found.measure), **_by_state(found.rows, look))
        .transform_filter("isValid(datum.at)"),
        picked(look).encode(x=x, y=y).transform_filter("isValid(datum.at)"),
    ]
    return (
        alt.layer(*layers, data=inline(found.rows))
        .add_params(alt.param(name="picked", value=-1))
        .properties(
            width=width,
            height=220,
            description="Points: the relative change of each layer. The table has the numbers.",
        )
    )


def law_chart(found: Drawn, look: Look = LIGHT, width: Width = 640, height: int = 400) -> Chart:
    """Mean square against what the law depends on, both logarithmic: each layer from where it was before to where it is
    after, with the law as it is fitted to either.

    `band` switches the intervals of the laws on and off, `picked` is the index of a layer to stand out.
    """
    x = alt.X(
        "measure:Q",
        title=f"{found.measure} (logarithmic)",
        scale=logarithmic(found.measures),
        axis=alt.Axis(format="~s", tickCount=8, labelOverlap=True),
    )

    def y(field: str) -> alt.Y:
        return alt.Y(
            f"{field}:Q",
            title="mean squared weight (logarithmic)",
            scale=logarithmic(found.mean_squares),
            axis=alt.Axis(format="~g", tickCount=6, labelOverlap=True),
        )

    layers: list[Chart] = []
    for law, colour, dash in zip(found.laws, (look.muted, look.law), ([6, 4], [1, 0]), strict=True):
        places = places_of(law)
        if has_interval(law):
            band = of(places).mark_area(color=colour, opacity=0.12, clip=True, aria=False)
            layers.append(band.encode(x=x, y=y("low"), y2="high:Q").transform_filter("band"))
        line = of(places).mark_line(color=colour, strokeWidth=2, strokeDash=dash, clip=True, aria=False)
        layers.append(line.encode(x=x, y=y("mean_square")))
    by_state = _by_state(found.rows, look)
    both, after = "isValid(datum.before) && isValid(datum.after)", "isValid(datum.after)"
    layers += [
        alt.Chart()
        .mark_rule(strokeWidth=1.6, opacity=0.8 if len(found.rows) <= MANY else 0.35, clip=True, aria=False)
        .encode(x=x, y=y("before"), y2="after:Q", color=by_state["color"])
        .transform_filter(both),
        alt.Chart()
        .mark_tick(thickness=1.6, width=9, orient="horizontal", clip=True, aria=False)
        .encode(x=x, y=y("before"), color=by_state["color"])
        .transform_filter(both),
        alt.Chart()
        .mark_point(size=70, strokeWidth=1.8, aria=False, cursor="pointer")
        .encode(x=x, y=y("after"), tooltip=_about(found.measure), **by_state)
        .transform_filter(after),
        picked(look).encode(x=x, y=y("after")).transform_filter(after),
    ]
    return (
        alt.layer(*layers, data=inline(found.rows))
        .add_params(alt.param(name="band", value=True), alt.param(name="picked", value=-1))
        .properties(
            width=width,
            height=height,
            description=(
                f"Scatter: mean squared weight of each layer against {found.measure}, before and after. The table has "
                "the numbers."
            ),
        )
    )


def law_legend(found: Drawn) -> list[str]:
    """What the lines and marks of `law_chart` mean."""
    lines = ["Each layer: a tick where it was before, a mark where it is after."]
    if any(found.laws):
        band = "; tinted: the 95 % interval of its c" if any(has_interval(law) for law in found.laws) else ""
        lines.append(f"Dashed: the law {found.fits[1].law} as fitted before, solid: as fitted after{band}.")
    lines.append("Nearer, further: from the law that is fitted to the same checkpoint, by 0.01 or more in |ln ratio|.")
    return lines


def constant_chart(found: Drawn, look: Look = LIGHT, width: Width = 640) -> Chart:
    """c before and after, each with its 95 % interval."""
    rows = [_estimate(side, fit.constant, fit.constant_interval) for side, fit in _sides(found)]
    ends = reach([row["value"] for row in rows], MOST_FACTOR)
    shown = reach([row[key] for row in rows for key in ("value", "low", "high")], 1.2)
    domain = (max(ends[0], shown[0]), min(ends[1], shown[1]))
    return _estimates(rows, "c", logarithmic(domain), [], look).properties(width=width, height=70)


def exponent_chart(found: Drawn, look: Look = LIGHT, width: Width = 640) -> Chart:
    """The free exponent before and after, each with its 95 % interval, and lines at -1 and 0."""
    rows = [_estimate(side, fit.exponent, fit.exponent_interval) for side, fit in _sides(found)]
    ends = exponents([fit for _, fit in _sides(found)])
    scale = alt.Scale(domain=list(ends), nice=False, zero=False)
    return _estimates(rows, f"free exponent of {found.measure}", scale, [-1.0, 0.0], look).properties(
        width=width, height=70
    )


def _sides(found: Drawn) -> list[tuple[str, Fit]]:
    return list(zip(SIDES, found.fits, strict=True))


def _estimate(side: str, value: float, interval: Range) -> dict[str, Any]:
    """A number with its interval; None for what is not known."""
    low, high = interval
    return {"side": side, "value": known(value), "low": known(low), "high": known(high)}


def _estimates(
    rows: Sequence[Mapping[str, Any]], title: str, scale: alt.Scale, lines: Sequence[float], look: Look
) -> Chart:
    """A row each for before and after: the number, and its interval as a bar."""

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(format="~g", tickCount=6, labelOverlap=True))

    y = alt.Y("side:N", title=None, sort=None, scale=alt.Scale(domain=list(SIDES)), axis=alt.Axis(ticks=False))
    told = [alt.Tooltip(f"{key}:Q", format=".3~g") for key in ("value", "low", "high")]
    layers = [
        of([{"value": line} for line in lines]).mark_rule(color=look.muted, strokeDash=[4, 4], aria=False)
        .encode(x=x("value"))
    ] if lines else []  # fmt: skip
    bounded = [row for row in rows if row["low"] is not None and row["high"] is not None]
    there = [row for row in rows if row["value"] is not None]
    fill: dict[str, Any] = {"color": look.law, "clip": True, "aria": False}
    layers += [
        of(bounded).mark_rule(strokeWidth=2.5, **fill).encode(x=x("low"), x2="high:Q", y=y, tooltip=told),
        of(there).mark_point(size=90, filled=True, opacity=1, **fill).encode(x=x("value"), y=y, tooltip=told),
    ]
    return alt.layer(*layers).properties(description=f"Intervals: {title} before and after.")


def evenness_chart(found: Drawn, look: Look = LIGHT, width: Width = 640) -> Chart:
    """The evenness of each penalty before and after, from 0 to 1."""
    rows = [{"penalty": name, "before": known(before), "after": known(after)} for name, before, after in found.evenness]
    names = [name for name, *_ in found.evenness]
    y = alt.Y("penalty:N", title=None, sort=None, scale=alt.Scale(domain=names), axis=alt.Axis(ticks=False))
    colour = alt.Color("penalty:N", scale=alt.Scale(domain=names, range=list(look.penalties.values())), legend=None)
    told = [alt.Tooltip("penalty:N"), *(alt.Tooltip(f"{side}:Q", format=".2f") for side in SIDES)]

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title="evenness", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5))

    both = [row for row in rows if row["before"] is not None and row["after"] is not None]
    return alt.layer(
        of(both).mark_rule(strokeWidth=2, aria=False).encode(x=x("before"), x2="after:Q", y=y, color=colour),
        of(rows)
        .mark_tick(thickness=2, height=14, orient="vertical", aria=False)
        .encode(x=x("before"), y=y, color=colour, tooltip=told),
        of(rows)
        .mark_point(size=90, filled=True, opacity=1, aria=False)
        .encode(x=x("after"), y=y, color=colour, tooltip=told),
    ).properties(
        width=width,
        height=90,
        description="Dots: the evenness of each penalty after; ticks: before. The table has the numbers.",
    )


CHARTS: dict[str, tuple[Callable[[Drawn, Look, Width], Chart], str]] = {
    "changes": (change_chart, "Relative change of each layer; solid: of all weights together, dashed: the median"),
    "law": (law_chart, ""),
    "constants": (constant_chart, "c with its 95 % interval"),
    "exponents": (exponent_chart, "Free exponent with its 95 % interval; dashed: -1 and 0"),
    "evenness": (evenness_chart, "Evenness of the three penalties: a tick before, a dot after"),
}
"""All charts by their names in a page, with what stands above them in a picture: `law_chart` has its legend."""


def comparison_chart(comparison: Comparison) -> Chart:
    """All charts of a comparison below each other, for a picture or a notebook."""
    found = drawn(comparison)
    parts = [
        titled(make(found, LIGHT, 640), [title] if title else law_legend(found), bold=bool(title))
        for make, title in CHARTS.values()
    ]
    return below_each_other(parts, title_of(comparison), comparison.findings)


def title_of(comparison: Comparison) -> str:
    """`step-0.pt → final.pt`."""
    return " → ".join(words.last_part(side.checkpoint.location) for side in (comparison.before, comparison.after))


def _by_state(rows: Sequence[Mapping[str, Any]], look: Look) -> dict[str, Any]:
    """Colour and shape by what became of a layer; the legend has what there is."""
    there = [state for state in STATES if any(row["state"] == state for row in rows)]
    palette = colours(look)
    return {
        "color": scaled(alt.Color, "state", {state: palette[state] for state in there}),
        "fill": scaled(alt.Fill, "state", {state: palette[state] for state in there}),
        "shape": scaled(alt.Shape, "state", {state: SHAPES[state] for state in there}),
        "fillOpacity": alt.value(0.55),
    }


def _about(measure: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("name:N", title="layer"),
        alt.Tooltip("kind:N"),
        alt.Tooltip("shape:N"),
        alt.Tooltip("measure:Q", title=measure, format=",~g"),
        alt.Tooltip("changed:N", title="relative change"),
        alt.Tooltip("before:Q", title="mean square before", format=".3~g"),
        alt.Tooltip("after:Q", title="after", format=".3~g"),
        alt.Tooltip("ratios:N", title="over the law's"),
        alt.Tooltip("state:N", title="from the law"),
    ]
