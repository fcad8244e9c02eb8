"""The parameters that a penalty on the layers falls on: each has one decay, whatever it holds."""

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from weightstats.effective_weights.weight_norm import BECAUSE as WEIGHT_NORM
from weightstats.errors import UsageError, shortened
from weightstats.listing import ListedLayer, ListedOther
from weightstats.penalties import PenalisedLayer
from weightstats.report import LayerRow, OtherRow

PRUNED = "what is stored times its mask: pruning"
"""How a live module's pruned weight is worked out, see `schemas.torch_effective`."""

NOT_SELECTED = "not selected"
"""Kind of a layer, or a part of one, that the user left out."""


@dataclass(frozen=True, slots=True)
class DecayedParameter:
    """A parameter that a penalty falls on."""

    name: str
    tied_to: tuple[str, ...]
    """Other names of the same parameter."""

    layer: PenalisedLayer
    """What it holds. Several maps that are fused in it count together: k is their number, or the sum of their fan sums,
    over the number of all their elements. That is the k of each where they are of one size, and otherwise the mean of
    theirs by elements."""

    is_pruned: bool
    """Whether a mask is applied to it."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A weight that the penalty does not fall on."""

    name: str
    because: str


def parameters_of(
    layers: Sequence[LayerRow] | Sequence[ListedLayer],
    others: Sequence[OtherRow] | Sequence[ListedOther],
    unread: Collection[str],
    trained: Collection[str] | None = None,
) -> tuple[list[DecayedParameter], list[LeftOut]]:
    """The parameters that the layers are, in their order, and the layers that are none; `unread` are names.

    A weight that is worked out from several tensors is left out, but for two ways of making it: of a weight
    normalisation, the magnitudes are decayed (their squares add up to those of the weight, whatever its direction is),
    and of a pruning what is stored is (what the mask hides has no effect). With `trained`, only tensors of these names
    are parameters. UsageError where only some of the maps that are fused in one parameter were selected.
    """
    kinds = {other.name: other.kind for other in others}
    missing = sorted({name for name, kind in kinds.items() if kind == NOT_SELECTED}.union(unread))
    found: list[DecayedParameter] = []
    left_out: list[LeftOut] = []
    by_tensor: dict[str, list[LayerRow | ListedLayer]] = {}
    for layer in layers:
        by_tensor.setdefault(layer.part_of or layer.name, []).append(layer)
    for stored, parts in by_tensor.items():
        because = parts[0].worked_out_because
        name = _decayed_name(stored, because, kinds)
        lost = _first_with(f"{stored}[", missing) if parts[0].part_of is not None else None
        if lost is not None and kinds.get(lost) == NOT_SELECTED:
            raise UsageError(
                f"{shortened(stored)} has one decay for all its maps, and only some are selected: give its own name"
            )
        if lost is not None:
            left_out.append(LeftOut(stored, f"its part {shortened(lost)} could not be read"))
        elif name is None:
            left_out.append(LeftOut(stored, f"decaying it does not decay the weight that is made of it: {because}"))
        elif trained is not None and name not in trained:
            left_out.append(LeftOut(stored, "no parameter of the module: it is not trained"))
        else:
            tied = tied_names(parts[0]) if name == stored else tuple(map(_magnitudes, tied_names(parts[0])))
            found.append(DecayedParameter(name, tied, _together(name, parts), because == PRUNED))
    return found, left_out


def tied_names(layer: LayerRow | ListedLayer) -> tuple[str, ...]:
    """The other names of the stored tensor that a layer is, or is a part of."""
    part = layer.name.removeprefix(layer.part_of) if layer.part_of is not None else ""
    return tuple(name.removesuffix(part) for name in layer.tied_to)


def _first_with(prefix: str, ordered: Sequence[str]) -> str | None:
    """The first of some names, which are in order, that starts so."""
    place = bisect_left(ordered, prefix)
    return ordered[place] if place < len(ordered) and ordered[place].startswith(prefix) else None


def _decayed_name(stored: str, because: str | None, kinds: Mapping[str, str]) -> str | None:
    """The parameter whose decay is that of the weight; None where there is none."""
    if because is None or because == PRUNED:
        return stored
    magnitudes = _magnitudes(stored)
    return magnitudes if because == WEIGHT_NORM and kinds.get(magnitudes) in ("parameter", "tied") else None


def _magnitudes(direction: str) -> str:
    """The name of what belongs to the direction of a weight normalisation."""
    return f"{direction[:-1]}0" if direction.endswith(".original1") else f"{direction.removesuffix('_v')}_g"


def _together(name: str, parts: Sequence[LayerRow | ListedLayer]) -> PenalisedLayer:
    return PenalisedLayer(
        name,
        elements=sum(map(_elements, parts)),
        fan_sum=sum(part.n_in + part.n_out for part in parts),
        sum_of_squares=sum(part.sum_of_squares if isinstance(part, LayerRow) else math.nan for part in parts),
        maps=len(parts),
    )


def _elements(layer: LayerRow | ListedLayer) -> int:
    """The finite ones, where that is known."""
    return layer.elements - layer.nonfinite if isinstance(layer, LayerRow) else math.prod(layer.shape)
