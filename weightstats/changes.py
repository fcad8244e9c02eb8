"""What changed of one layer, of all layers, and on the way between two steps of a training, as records."""

import heapq
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from weightstats.matching import Matched
from weightstats.pairs import PairMoments
from weightstats.penalties import PENALTIES, PenaltyName
from weightstats.report import LayerRow

Moved: TypeAlias = Literal["towards", "away"]

MOST_NAMED = 5
"""Layers that are named as those that moved most."""

SAME_DISTANCE = 0.01
"""By how much |ln ratio| may change without a layer being said to have moved: one per cent of its mean square, which
rounding weights to another dtype may do."""


@dataclass(frozen=True, slots=True)
class Change:
    """One number before and after."""

    before: float
    after: float


@dataclass(frozen=True, slots=True)
class LayerChange:
    """One layer that is in both checkpoints; NaN (null in JSON) where there is no such number."""

    name: str
    """Before."""

    name_after: str
    kind: str
    shape: tuple[int, ...]
    """Before."""

    dtype: str
    """Before."""

    dtype_after: str
    n_in: int
    n_out: int
    elements: int
    paired: int | None
    """Elements that are finite in both, which the change is over; None where they were not paired."""

    not_paired_because: str | None
    mean_square: Change
    """Of the weights that the network computes with, adapters added."""

    relative_change: float
    """‖after-before‖/‖before‖ (Frobenius)."""

    cosine: float
    """Of the angle between the weights before and after."""

    norm_ratio: float
    """‖after‖/‖before‖."""

    is_unchanged: bool
    """Whether no element has changed."""

    left_out_because: str | None
    """Why a fit leaves the layer out, before or after."""

    ratio: Change
    """Mean square over that of the law as it is fitted to the same checkpoint."""

    distance: Change
    """|ln ratio|: 0 where the layer lies on the law that is fitted to its checkpoint."""

    moved: Moved | None
    """Whether that distance has become smaller or larger by more than SAME_DISTANCE; None where it has not, where the
    layer did not change and where a fit leaves it out."""

    shares: Mapping[PenaltyName, Change]
    """Of each penalty's total over all layers of the same checkpoint."""

    scale_free: bool
    """Whether its scale does not change what the network computes, before or after."""

    tied_to: tuple[str, ...]
    notes: tuple[str, ...]
    """What is not as plain as a name and a shape: other names, another order of dimensions, adapters."""


@dataclass(frozen=True, slots=True)
class Extreme:
    """A layer that stands out."""

    name: str
    relative_change: float


@dataclass(frozen=True, slots=True)
class Total:
    """All layers that were paired; NaN where there is no such number."""

    layers: int
    """In both checkpoints."""

    paired: int
    """Of them, those whose elements could be paired."""

    unchanged: int
    """Of them, those of which no element has changed."""

    median_relative_change: float
    """Over the layers that have changed, each counting once."""

    least: Extreme | None
    """The layer that changed least of them, relative to its norm."""

    most: Extreme | None
    relative_change: float
    """Of all weights together, as of one long vector."""

    cosine: float
    norm: Change
    """Of all weights together."""

    towards: int
    """Layers that have come nearer to the law that is fitted to their checkpoint."""

    away: int


@dataclass(frozen=True, slots=True)
class Travelled:
    """How far the weights are from those of another checkpoint; NaN (null in JSON) where there is no such number."""

    matched: int
    """Layers that are in both."""

    layers: int
    """Of them, those that could be compared element for element."""

    unchanged: int
    """Of them, those of which no element has changed."""

    unmatched: int
    """Layers of either that are not compared."""

    relative_change: float
    """‖here-there‖/‖there‖ of all weights of those layers together (Frobenius)."""

    cosine: float
    median_relative_change: float
    """Over the layers that have changed, each counting once."""

    largest: tuple[Extreme, ...]
    """The layers that have changed most, relative to their norm, the largest change first: MOST_NAMED at most."""

    @property
    def is_unchanged(self) -> bool:
        """Whether there are layers in both, and no element of any has changed."""
        return 0 < self.layers == self.unchanged


def layer_change(matched: Matched, row: LayerRow, other: LayerRow, moments: PairMoments | str) -> LayerChange:
    """What changed of a layer from its row in the first report to the one in the second; `moments` may be why there are
    none."""
    reason = moments if isinstance(moments, str) else None
    sums = moments if isinstance(moments, PairMoments) else None
    left_out = row.left_out_because or other.left_out_because
    ratio = Change(_ratio(row), _ratio(other))
    distance = Change(_distance(ratio.before), _distance(ratio.after))
    is_unchanged = sums is not None and sums.is_unchanged
    if sums is not None and not sums.paired:
        reason = "no element is finite in both"
    return LayerChange(
        name=row.name,
        name_after=other.name,
        kind=row.kind,
        shape=row.shape,
        dtype=row.dtype,
        dtype_after=other.dtype,
        n_in=row.n_in,
        n_out=row.n_out,
        elements=row.elements,
        paired=sums.paired if sums is not None else None,
        not_paired_because=reason,
        mean_square=Change(_mean_square(row), _mean_square(other)),
        relative_change=sums.relative_change if sums is not None else math.nan,
        cosine=sums.cosine if sums is not None else math.nan,
        norm_ratio=sums.norm_ratio if sums is not None else math.nan,
        is_unchanged=is_unchanged,
        left_out_because=left_out,
        ratio=ratio,
        distance=distance,
        moved=None if is_unchanged or left_out is not None else _moved(distance),
        shares={penalty: Change(row.penalties[penalty].share, other.penalties[penalty].share) for penalty in PENALTIES},
        scale_free=row.scale_free or other.scale_free,
        tied_to=tuple(dict.fromkeys((*row.tied_to, *other.tied_to))),
        notes=matched.notes,
    )


def _mean_square(row: LayerRow) -> float:
    """Of the weights that the network computes with."""
    return row.mean_square if row.merged_mean_square is None else row.merged_mean_square


def _ratio(row: LayerRow) -> float:
    predicted, mean_square = row.predicted_mean_square, _mean_square(row)
    return mean_square / predicted if row.fitted and 0.0 < predicted < math.inf else math.nan


def _distance(ratio: float) -> float:
    return abs(math.log(ratio)) if 0.0 < ratio < math.inf else math.nan


def _moved(distance: Change) -> Moved | None:
    if distance.after < distance.before - SAME_DISTANCE:
        return "towards"
    return "away" if distance.after > distance.before + SAME_DISTANCE else None


def total_change(layers: Sequence[LayerChange], sums: PairMoments) -> Total:
    """All layers together; `sums` are over those that were paired."""
    changes = _changes(layers)
    return Total(
        layers=len(layers),
        paired=sum(layer.not_paired_because is None for layer in layers),
        unchanged=sum(layer.is_unchanged for layer in layers),
        median_relative_change=statistics.median(one.relative_change for one in changes) if changes else math.nan,
        least=min(changes, key=lambda one: one.relative_change, default=None),
        most=max(changes, key=lambda one: one.relative_change, default=None),
        relative_change=sums.relative_change,
        cosine=sums.cosine,
        norm=Change(float(sums.before.root), float(sums.after.root)),
        towards=sum(layer.moved == "towards" for layer in layers),
        away=sum(layer.moved == "away" for layer in layers),
    )


def _changes(layers: Sequence[LayerChange]) -> list[Extreme]:
    """The relative change of each layer that has one and has changed."""
    changed = (layer for layer in layers if not layer.is_unchanged and math.isfinite(layer.relative_change))
    return [Extreme(layer.name, layer.relative_change) for layer in changed]


def travelled(total: Total, layers: Sequence[LayerChange], unmatched: int) -> Travelled:
    """What a comparison says of the way between two steps, of which it leaves out so many layers."""
    return Travelled(
        matched=total.layers,
        layers=total.paired,
        unchanged=total.unchanged,
        unmatched=unmatched + total.layers - total.paired,
        relative_change=total.relative_change,
        cosine=total.cosine,
        median_relative_change=total.median_relative_change,
        largest=tuple(heapq.nlargest(MOST_NAMED, _changes(layers), key=lambda one: one.relative_change)),
    )
