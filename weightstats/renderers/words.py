"""How names, numbers and rows are worded, the same in every format for people."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from weightstats import errors
from weightstats.contest import RESAMPLES, Standing
from weightstats.findings import briefly, by_kind
from weightstats.findings import number as constant
from weightstats.penalties import PENALTIES, PenaltyName
from weightstats.report import LayerRow, OtherRow, Report

TITLES: dict[PenaltyName, str] = {"plain": "plain", "per_element": "per-element", "fan_scaled": "fan-scaled"}
"""The penalties as people read them."""

MOST_NAME = 200
"""Characters of a name that are shown; names come from the file, and may be megabytes."""

FOLD_ABOVE = 40
"""Rows above which layers that differ only in their numbers are shown as one."""

_NUMBER = re.compile(r"(?:(?<=[.\[])|^)\d{1,9}(?=[.\[\],]|$)")
"""A number that a name counts by: `layers.3.up`, `experts[3]`, `experts[3,up]`."""

_ANY_NUMBER = re.compile(r"(?<!\d)\d{1,9}(?!\d)")

FREE = "°"
"""Marks layers whose scale does not change what the network computes."""

UNTRAINED = "†"
"""Marks layers that are as their initialiser left them, or have hardly moved from there."""

MOST_MERGED = 3
"""Layers whose mean square with an adapter added is written out."""


MOST_SENTENCE = 1_000
"""Characters of a sentence that is shown; it may quote names."""

SHOWN_FIXED = 2
"""Laws with a fixed constant that the contest's table shows, the closest ones."""

WITHIN_REACH = " *"
"""Marks laws that cannot be told from the best one."""

MOST_REASON = 800
"""Characters of a reason that are shown; it may quote two names of MOST_NAME."""


def printable(text: str, most: int = MOST_NAME) -> str:
    """The text with everything that a terminal would act on, or that hides, written as escapes, and cut if long."""
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-most // 2 :]}"
    return errors.printable(text)


def last_part(location: str) -> str:
    """The name of a file or folder, for a title."""
    return printable(location.rstrip("/").rpartition("/")[2] or location)


def shape(dimensions: Sequence[int]) -> str:
    """`128×129×3`; `scalar` without dimensions."""
    return "×".join(str(size) for size in dimensions) or "scalar"


def number(value: float, digits: int = 3) -> str:
    """Three significant digits, `–` where there is no number."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "overflow"
    return f"{value:,.0f}" if 1000 <= value < 1e6 else f"{value:.{digits}g}"


def ratio(value: float) -> str:
    """Two decimals where that says something."""
    if math.isfinite(value) and 0.095 <= value < 1000:
        return f"{value:.2f}" if value < 100 else f"{value:.0f}"
    return number(value, 2)


def percent(share: float) -> str:
    """`12%`, `3.4%`, `<0.1%`."""
    if math.isnan(share):
        return "–"
    points = 100 * share
    if points >= 9.95:
        return f"{points:.0f}%"
    if points >= 0.05:
        return f"{points:.1f}%"
    return "<0.1%" if points > 0 else "0%"


def evenness(value: float) -> str:
    """Two decimals: it lies between 0 and 1."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def size(count: int) -> str:
    """Bytes in decimal units."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{count} bytes" if unit == "bytes" else f"{value:.3g} {unit}"
        value /= 1000
    raise AssertionError


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of layers: a layer, or several that differ only in the numbers of their names."""

    name: str
    kind: str
    shape: str
    n_in: str
    n_out: str
    mean_square: str
    """With its range, where the row stands for several layers."""

    ratio: str
    """As above; `–` where the fit leaves the layer out."""

    shares: tuple[float, ...]
    """Of each penalty, in the order of PENALTIES; the sum over the row's layers."""

    scale_free: bool
    """Whether its scale does not change what the network computes."""

    untrained: bool
    """Whether it is as initialised or has hardly moved; of several layers, most of them."""

    @property
    def marks(self) -> str:
        """What is said of the ratio: that it says nothing of what the network computes, or of its training."""
        return f"{FREE if self.scale_free else ''}{UNTRAINED if self.untrained else ''}"

    @property
    def marked_ratio(self) -> str:
        """The ratio with its marks."""
        return f"{self.ratio}{self.marks}"


def rows_of(layers: Sequence[LayerRow]) -> tuple[Row, ...]:
    """The lines of the table, numbered blocks folded where there are more than FOLD_ABOVE layers."""
    if len(layers) <= FOLD_ABOVE:
        return tuple(_row([layer]) for layer in layers)
    groups: dict[tuple[object, ...], list[LayerRow]] = {}
    for layer in layers:
        alike = (layer.kind, layer.shape, layer.dtype, layer.n_in, layer.n_out)
        key = (template(layer.name), *alike, layer.left_out_because, layer.scale_free)
        groups.setdefault(key, []).append(layer)
    return tuple(_row(whole) for members in groups.values() for whole in wholes(members, lambda layer: layer.name))


def wholes(members: Sequence[T], name_of: Callable[[T], str], *, loose: bool = False) -> list[Sequence[T]]:
    """Members whose names have one template, divided so that the braces of `folded_name` stand for those alone."""
    number = _ANY_NUMBER if loose else _NUMBER
    return _wholes([(tuple(map(int, number.findall(name_of(member)))), member) for member in members])


def _wholes(numbered: Sequence[tuple[tuple[int, ...], T]]) -> list[Sequence[T]]:
    columns = [set(column) for column in zip(*(numbers for numbers, _ in numbered), strict=True)]
    if len(numbered) == math.prod(map(len, columns)):
        return [[member for _, member in numbered]]
    divisions = []
    for place in (place for place, values in enumerate(columns) if len(values) > 1):
        parts: dict[int, list[tuple[tuple[int, ...], T]]] = {}
        for numbers, member in numbered:
            parts.setdefault(numbers[place], []).append((numbers, member))
        alike: dict[frozenset[tuple[int, ...]], list[tuple[tuple[int, ...], T]]] = {}
        for part in parts.values():
            others = frozenset((*numbers[:place], *numbers[place + 1 :]) for numbers, _ in part)
            alike.setdefault(others, []).extend(part)
        divisions.append(list(alike.values()))
    best = min(divisions, key=len)
    if len(best) == 1:  # two of one name
        return [[member] for _, member in numbered]
    return [whole for part in best for whole in _wholes(part)]


def _row(members: Sequence[LayerRow]) -> Row:
    first = members[0]
    nonfinite = sum(member.nonfinite for member in members)
    tied = "".join(f" = {printable(name)}" for name in first.tied_to) if len(members) == 1 else ""
    harm = f" ({nonfinite:,} NaN or infinite)" if nonfinite else ""
    return Row(
        name=f"{folded_name([member.name for member in members])}{tied}{harm}",
        kind=printable(first.kind),
        shape=shape(first.shape),
        n_in=f"{first.n_in:,}",
        n_out=f"{first.n_out:,}",
        mean_square=_span([member.mean_square for member in members], number),
        ratio=_span([member.ratio for member in members], ratio) if first.fitted else "–",
        shares=tuple(sum(member.penalties[penalty].share for member in members) for penalty in PENALTIES),
        scale_free=first.scale_free,
        untrained=2 * sum(member.initialisation.is_untrained for member in members) > len(members),
    )


def _span(values: Sequence[float], worded: Callable[[float], str]) -> str:
    """`0.0012–0.0031`, or one number where both ends read the same."""
    known = sorted(value for value in values if not math.isnan(value)) or [math.nan]
    low, high = worded(known[0]), worded(known[-1])
    return low if low == high else f"{low}–{high}"


def template(name: str) -> str:
    """A name without the numbers that it counts by: equal for those that are folded."""
    return _NUMBER.sub("{}", name)


def loose_template(text: str) -> str:
    """A text without any numbers."""
    return _ANY_NUMBER.sub("{}", text)


def folded_name(names: Sequence[str], *, loose: bool = False) -> str:
    """Names of one template as one: `layers.{0..31}.mlp.up.weight ×32`."""
    if len(names) == 1:
        return printable(names[0])
    return f"{printable(_together(names, _ANY_NUMBER if loose else _NUMBER))} ×{len(names):,}"


def folded_text(texts: Sequence[str]) -> str:
    """Texts of one loose template as one: `followed by blocks.{0..31}.norm`."""
    return printable(texts[0] if len(set(texts)) == 1 else _together(texts, _ANY_NUMBER), MOST_REASON)


def _together(texts: Sequence[str], number: re.Pattern[str]) -> str:
    numbers = [[int(found) for found in number.findall(text)] for text in texts]
    columns = iter([sorted(set(column)) for column in zip(*numbers, strict=True)])
    return number.sub(lambda _: _braced(next(columns)), texts[0])


def _braced(values: Sequence[int]) -> str:
    if len(values) == 1:
        return str(values[0])
    if values[-1] - values[0] == len(values) - 1:
        return f"{{{values[0]}..{values[-1]}}}"
    shown = [str(value) for value in values]
    if len(shown) > 4:
        shown = [*shown[:2], "…", shown[-1]]
    return f"{{{','.join(shown)}}}"


def others_by_reason(others: Sequence[OtherRow]) -> dict[tuple[str, str], list[OtherRow]]:
    """Tensors that are no layers, by kind and reason; tied ones by kind, since each reason names another tensor."""
    groups: dict[tuple[str, str], list[OtherRow]] = {}
    for other in others:
        reason = "stored once with another tensor, and counted there" if other.kind == "tied" else other.reason
        groups.setdefault((other.kind, reason), []).append(other)
    return groups


def evenest(report: Report) -> str:
    """Which penalty splits most evenly, in one sentence; '' where none can be told."""
    known = {penalty: split.evenness for penalty, split in report.penalties.items() if not math.isnan(split.evenness)}
    if not known or len(report.layers) < 2:
        return ""
    most = max(known.values())
    *first, last = [TITLES[penalty] for penalty, value in known.items() if most - value < 0.005]
    names = f"{', '.join(first)} and {last}" if first else last
    return f"Most even here: {names}. If c/(n_in+n_out) held exactly, the fan-scaled one would be, at 1."


def header(report: Report) -> tuple[str, ...]:
    """What was read, in one or two lines."""
    part = report.checkpoint
    parameters = errors.counted(part.parameters, "parameter", "parameters")
    counts = f"{errors.counted(part.tensors, 'tensor', 'tensors')}, {parameters}"
    first = f"{printable(part.location)}: {part.format}, {size(part.bytes)}, {counts}"
    return (first, *network(part.root, part.root_because, part.dropped_from_names))


def network(root: str, because: str, dropped: Sequence[str]) -> tuple[str, ...]:
    """Which part of the checkpoint was taken, and what its names lack; nothing where that is all of it."""
    lines = [f"Network: {printable(root)} ({printable(because)})."] if root else []
    wrappers = [name for name in dropped if name.rstrip(".") not in root.split(".")]
    if wrappers:
        lines.append(f"Dropped from every name: {', '.join(printable(name) for name in wrappers)}")
    return tuple(lines)


def accounted(report: Report) -> str:
    """The sum of what was found, in one sentence."""
    tally = report.accounting
    layers = with_layers(tally.layers.tensors, len(report.layers))
    return (
        f"{errors.counted(tally.stored.tensors, 'tensor', 'tensors')} = {layers} "
        f"+ {errors.counted(tally.others.tensors, 'other', 'others')} + {tally.unread.tensors:,} unread; "
        f"{errors.counted(tally.stored.elements, 'element', 'elements')} in {size(tally.stored.bytes)} = "
        f"{tally.layers.elements:,} in layers + {tally.others.elements:,} in others."
    )


def with_layers(tensors: int, layers: int) -> str:
    """`7 layers`, or `5 (holding 17 layers)` where several are fused in one tensor."""
    counted = f"{layers:,} layer{'' if layers == 1 else 's'}"
    return counted if tensors == layers else f"{tensors:,} (holding {counted})"


def free(report: Report) -> str:
    """What FREE means, '' where no layer is marked."""
    if not any(layer.scale_free for layer in report.layers):
        return ""
    return (
        f"{FREE}: its output goes into a normalisation, or it is normalised itself: its scale does not change what the "
        "network computes."
    )


def untrained(report: Report) -> str:
    """What UNTRAINED means, '' where no layer is marked."""
    if not any(layer.initialisation.is_untrained for layer in report.layers):
        return ""
    return (
        f"{UNTRAINED}: as an initialiser leaves it, or hardly moved from there (of several layers, most): its mean "
        "square is what the initialiser made it, as far as can be told."
    )


def without_free(report: Report) -> str:
    """The fit without the layers whose scale does not matter, in one sentence; '' where it is the same."""
    fit = report.fit_without_scale_free
    if fit is None:
        return ""
    left = report.fit.layers - fit.layers
    which = "the layer" if left == 1 else f"the {left:,} layers"
    return f"Without {which} whose scale does not matter ({FREE}): {briefly(fit)}"


def evidence(report: Report, *, rests_on: bool = True) -> tuple[str, ...]:
    """What stands behind the findings: what they rest on (unless that is said elsewhere), the rivals, other choices of
    layers; no empty lines."""
    said = (report.untrained.sentence, report.rests_on if rests_on else "", report.indistinct)
    lines = (*said, without_free(report), *by_kind(report.fits_by_kind))
    return tuple(printable(line, MOST_SENTENCE) for line in lines if line)


CONTEST_TITLES = ("law", "c", "scatter", "misses a new shape by", "AICc", "weight", "wins")
"""Of the columns of `contest_row`."""


def contest(report: Report) -> tuple[Standing, ...]:
    """The standings that are shown: all laws with a free constant, and the closest with a fixed one."""
    free = [standing for standing in report.contest.standings if standing.is_free]
    fixed = [standing for standing in report.contest.standings if not standing.is_free]
    return (*free, *fixed[:SHOWN_FIXED])


def contest_row(standing: Standing) -> tuple[str, ...]:
    """One law's cells, marked where it cannot be told from the best one."""
    exponents = standing.exponents
    fitted = f" (a {exponents[0]:+.2f}, b {exponents[1]:+.2f})" if exponents else ""
    reached = f"{standing.formula}{fitted}{WITHIN_REACH if standing.within_reach and standing.is_free else ''}"
    numbers = (standing.constant, standing.spread, standing.prediction_error)
    cells = ("–" if math.isnan(value) else constant(value) for value in numbers)
    aicc = "–" if math.isnan(standing.aicc) else f"{standing.aicc:.1f}"
    return (reached, *cells, aicc, percent(standing.weight), percent(standing.wins))


def about_contest(report: Report) -> str:
    """What the columns of the contest mean."""
    return (
        "scatter: the factor by which layers scatter about the law. misses a new shape by: the same for layers of a "
        "shape that was left out of the fit. AICc, weight, wins: Akaike's criterion and weight, and the share of "
        f"{RESAMPLES} resamples of the shapes that the law wins, among the laws with a free constant; in the last "
        f"{SHOWN_FIXED} rows among those with a fixed one, of which these come closest. "
        f"{WITHIN_REACH.strip()}: cannot be told from the best."
    )


def merged(report: Report) -> tuple[str, ...]:
    """Lines on the mean squares of weights with their low-rank adapters added."""
    found = [layer for layer in report.layers if layer.merged_because is not None]
    lines = []
    for layer in found[:MOST_MERGED]:
        value = "not known" if layer.merged_mean_square is None else number(layer.merged_mean_square)
        was = number(layer.mean_square)
        because = printable(layer.merged_because or "")
        lines.append(f"With its adapter: {printable(layer.name)} mean sq. {value} (was {was}; {because})")
    if len(found) > MOST_MERGED:
        lines.append(f"… {len(found) - MOST_MERGED:,} more layers with an adapter; --format csv and json list them all")
    return tuple(lines)
