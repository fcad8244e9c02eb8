"""Three L2 penalties, and how each would fall on the layers.

A penalty matters through the shrinkage that it causes: its gradient is 2·lambda·(decay factor)·w, so that each is also
given as a per-layer multiplier of a plain weight decay with the same total.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

PenaltyName: TypeAlias = Literal["plain", "per_element", "fan_scaled"]

PENALTIES: tuple[PenaltyName, ...] = ("plain", "per_element", "fan_scaled")

FORMULAS: dict[PenaltyName, str] = {
    "plain": "Σ w²",
    "per_element": "Σ w² / N",
    "fan_scaled": "Σ w² · (n_in+n_out) / N",
}
"""N counts a layer's elements: n_in·n_out where it is fully connected, and less in a convolution, whose receptive field
counts in both fans."""

DEFAULT_WEIGHT_DECAY = 1e-4


@dataclass(frozen=True, slots=True)
class PenalisedLayer:
    """What the penalties need of one layer."""

    name: str
    elements: int
    """N: the finite elements."""

    fan_sum: int
    sum_of_squares: float
    maps: int = 1
    """Where several are taken together: their number. `fan_sum` is then the sum of theirs."""


@dataclass(frozen=True, slots=True)
class LayerPenalty:
    """One penalty on one layer; NaN where the layer has no finite sum of squares."""

    value: float
    """lambda times the layer's sum of squares times its decay factor."""

    share: float
    """Of the penalty's total, 0 to 1."""

    decay_multiplier: float
    """The decay factor, scaled so that the penalty's total is that of the plain one."""


@dataclass(frozen=True, slots=True)
class Split:
    """One penalty over all layers."""

    penalty: PenaltyName
    total: float
    equal_total_weight_decay: float
    """lambda·ΣS / Σ(decay factor·S), S a layer's sum of squares: the lambda with which this penalty has the total that
    the plain one has with lambda; NaN where it has none."""

    evenness: float
    """exp(entropy of the shares) over the number of layers: 1 where all carry the same; NaN without any."""

    largest_name: str | None
    largest_share: float
    layers: tuple[LayerPenalty, ...]
    """In the order of the layers that were given."""


def split_penalties(layers: Sequence[PenalisedLayer], weight_decay: float) -> dict[PenaltyName, Split]:
    """The split of each penalty with lambda = `weight_decay` over the layers."""
    factors = {penalty: [decay_factor(penalty, layer) for layer in layers] for penalty in PENALTIES}
    return {penalty: _split(penalty, layers, factors[penalty], weight_decay) for penalty in PENALTIES}


def decay_factor(penalty: PenaltyName, layer: PenalisedLayer) -> float:
    """What multiplies 2·lambda·w in the penalty's gradient; NaN for a layer without elements."""
    if layer.elements == 0:
        return math.nan
    match penalty:
        case "plain":
            return 1.0
        case "per_element":
            return layer.maps / layer.elements
        case "fan_scaled":
            return layer.fan_sum / layer.elements


def evenness(shares: Sequence[float]) -> float:
    """exp(entropy) over the number of shares; they need not add up to 1, as long as their sum is positive."""
    total = _total(shares)
    if not 0.0 < total < math.inf:
        return math.nan
    parts = [share / total for share in shares]
    entropy = -math.fsum(part * math.log(part) for part in parts if part > 0.0)
    return math.exp(entropy) / len(parts)


def _finite(value: float) -> float:
    """The value, or NaN where float64 could not hold it."""
    return value if math.isfinite(value) else math.nan


def _total(values: Sequence[float]) -> float:
    """Exact sum, infinite where float64 cannot hold it."""
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf


def _split(
    penalty: PenaltyName,
    layers: Sequence[PenalisedLayer],
    factors: Sequence[float],
    weight_decay: float,
) -> Split:
    raw = [_finite(layer.sum_of_squares * factor) for layer, factor in zip(layers, factors, strict=True)]
    usable = [value for value in raw if value == value]
    total = _total(usable)
    plain_total = _total([layer.sum_of_squares for layer, value in zip(layers, raw, strict=True) if value == value])
    scale = plain_total / total if 0.0 < total < math.inf else math.nan
    shares = [value / total if 0.0 < total < math.inf else math.nan for value in raw]
    largest = max(range(len(raw)), key=lambda i: raw[i] if raw[i] == raw[i] else -1.0, default=None)
    has_largest = largest is not None and math.isfinite(shares[largest])
    return Split(
        penalty=penalty,
        total=weight_decay * total,
        equal_total_weight_decay=_finite(weight_decay * scale),
        evenness=evenness(usable),
        largest_name=layers[largest].name if has_largest and largest is not None else None,
        largest_share=shares[largest] if has_largest and largest is not None else math.nan,
        layers=tuple(
            LayerPenalty(weight_decay * value, share, factor * scale if value == value else math.nan)
            for value, share, factor in zip(raw, shares, factors, strict=True)
        ),
    )
