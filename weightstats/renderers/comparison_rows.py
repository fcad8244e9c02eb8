"""The lines of a comparison's table: one a layer, or one for several that differ only in the numbers of their names."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from weightstats.changes import Change, LayerChange
from weightstats.penalties import PENALTIES
from weightstats.renderers import words

MOVED = {"towards": "nearer", "away": "further", None: "–"}
"""Where a layer is now, seen from the law."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a layer, or several that differ only in the numbers of their names."""

    name: str
    kind: str
    shape: str
    fans: str
    change: str
    cosine: str
    mean_square: tuple[str, str]
    ratio: tuple[str, str]
    moved: str
    shares: tuple[tuple[str, str], ...]


def rows_of(layers: Sequence[LayerChange]) -> tuple[Row, ...]:
    """The lines of the table, numbered blocks folded where there are more than words.FOLD_ABOVE layers."""
    if len(layers) <= words.FOLD_ABOVE:
        return tuple(_row([layer]) for layer in layers)
    groups: dict[tuple[object, ...], list[LayerChange]] = {}
    for layer in layers:
        alike = (layer.kind, layer.shape, layer.n_in, layer.n_out, layer.left_out_because, layer.scale_free)
        state = (layer.is_unchanged, layer.not_paired_because)
        groups.setdefault((words.template(layer.name), *alike, *state), []).append(layer)
    return tuple(_row(whole) for group in groups.values() for whole in words.wholes(group, lambda layer: layer.name))


def _row(members: Sequence[LayerChange]) -> Row:
    first = members[0]
    free = words.FREE if first.scale_free else ""
    return Row(
        name=words.folded_name([member.name for member in members]),
        kind=words.printable(first.kind),
        shape=words.shape(first.shape),
        fans=f"{first.n_in:,} → {first.n_out:,}",
        change="same" if first.is_unchanged else span([member.relative_change for member in members], words.number),
        cosine=span([member.cosine for member in members], cosine),
        mean_square=spans([member.mean_square for member in members], words.number),
        ratio=spans([member.ratio for member in members], lambda value: f"{words.ratio(value)}{free}"),
        moved=_moved(members),
        shares=tuple(_sums([member.shares[penalty] for member in members]) for penalty in PENALTIES),
    )


def _moved(members: Sequence[LayerChange]) -> str:
    counts = {MOVED[moved]: sum(member.moved == moved for member in members) for moved in MOVED}
    found = {what: count for what, count in counts.items() if count}
    if len(found) == 1:
        return next(iter(found))
    return "\n".join(f"{count:,} {what}" for what, count in found.items())


def _sums(changes: Sequence[Change]) -> tuple[str, str]:
    return (
        words.percent(sum(change.before for change in changes)),
        words.percent(sum(change.after for change in changes)),
    )


def spans(changes: Sequence[Change], worded: Callable[[float], str]) -> tuple[str, str]:
    """Before and after, each as one number or a range."""
    return (
        span([change.before for change in changes], worded),
        span([change.after for change in changes], worded),
    )


def span(values: Sequence[float], worded: Callable[[float], str]) -> str:
    """`0.0012–0.0031`, or one number where both ends read the same; `–` without any."""
    known = sorted(value for value in values if not math.isnan(value))
    if not known:
        return "–"
    low, high = worded(known[0]), worded(known[-1])
    return low if low == high else f"{low}–{high}"


def cosine(value: float) -> str:
    """Three decimals, more where they would read 1 and it is not."""
    if math.isnan(value):
        return "–"
    for decimals in range(3, 8):
        text = f"{value:.{decimals}f}"
        if abs(float(text)) < 1.0 or abs(value) == 1.0:
            break
    return text.rstrip("0").rstrip(".") if abs(value) == 1.0 or value == 0.0 else text
