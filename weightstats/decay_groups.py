"""A penalty as torch's weight decay: how much of it each parameter gets. The dict form is `weightstats/groups/1`.

The penalty is λ·Σ k·w², with the decay factor k of each layer: 1 (plain), 1/N (per-element), (n_in+n_out)/N
(fan-scaled). Its gradient is 2·λ·k·w. A weight_decay d of torch adds d·w to the gradient, so that d = 2·λ·k makes the
same steps: in SGD, with momentum too, and in Adam and its kin, which then rescale it as they do the loss's gradient.
AdamW multiplies the weights by 1 - lr·d instead, which no penalty in the loss does.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weightstats.decayed_parameters import NOT_SELECTED, DecayedParameter, LeftOut, parameters_of, tied_names
from weightstats.effective_weights import PACKED
from weightstats.errors import UsageError
from weightstats.name_patterns import Pattern, folded
from weightstats.penalties import PENALTIES, PenalisedLayer, PenaltyName, decay_factor, split_penalties
from weightstats.report import Report, plain

SCHEMA = "weightstats/groups/1"

DEFAULT_WEIGHT_DECAY = 1e-2
"""That of torch.optim.AdamW."""


@dataclass(frozen=True, slots=True)
class ParameterNames:
    """A parameter of a group."""

    name: str
    tied_to: tuple[str, ...]
    """Other names of the same parameter."""


@dataclass(frozen=True, slots=True)
class DecayGroup:
    """Parameters with one decay."""

    weight_decay: float
    """For torch: the plain weight decay times the multiplier."""

    decay_multiplier: float
    names: tuple[ParameterNames, ...]
    """Those that no pattern stands for."""

    patterns: tuple[Pattern, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        """A name of each."""
        return (*(each.name for each in self.names), *(name for pattern in self.patterns for name in pattern.names))


@dataclass(frozen=True, slots=True)
class DecayGroups:
    """A penalty as weight decay. A parameter that is in no group has none."""

    version: str
    """Of weightstats."""

    location: str
    format: str
    penalty: PenaltyName
    weight_decay: float
    """torch's, of the plain decay that the penalty stands in for."""

    equal_total: bool
    """Whether the penalty has the total that the plain one has at the present weights; else the multiplier is k."""

    penalty_lambda: float
    """The λ of the penalty: the weight decay of a parameter is 2·λ·k. NaN where there is none."""

    equal_total_lambda: Mapping[PenaltyName, float]
    """The λ with which each penalty has the plain one's total; that of the plain one is half the weight decay, or NaN
    where the total is 0."""

    groups: tuple[DecayGroup, ...]
    """In the order of their first parameters."""

    left_out: tuple[LeftOut, ...]
    """Weights without decay where that may not be what is wanted."""

    dropped_from_names: tuple[str, ...]
    """Keys and wrappers' attributes that the names lack."""

    def to_dict(self) -> dict[str, Any]:
        """The groups as plain dicts, lists and numbers for JSON: no NaN and no infinity, None in their place."""
        return {"schema": SCHEMA, **plain(self), "groups": [_plain_group(group) for group in self.groups]}


def _plain_group(group: DecayGroup) -> dict[str, Any]:
    patterns = [{"pattern": pattern.glob, "parameters": len(pattern.names)} for pattern in group.patterns]
    return {**plain(group), "patterns": patterns}


def penalty_named(name: str) -> PenaltyName:
    """The penalty of a name that is written with a hyphen or with an underscore; UsageError where there is none."""
    found = next((penalty for penalty in PENALTIES if penalty == name.replace("-", "_")), None)
    if found is None:
        raise UsageError(f"there is no penalty {name!r}; there are {', '.join(PENALTIES)}")
    return found


def make_groups(
    report: Report,
    penalty: PenaltyName,
    weight_decay: float,
    *,
    equal_total: bool = True,
    trained: Collection[str] | None = None,
) -> DecayGroups:
    """The penalty as weight decay, in place of a plain one of torch's `weight_decay` on all the layers of the report.

    Arguments and errors as in `parameters_of`, and UsageError for a weight decay that is no number from 0 on.
    """
    check_weight_decay(weight_decay)
    found, left_out = parameters_of(report.layers, report.others, {entry.name for entry in report.unread}, trained)
    splits = split_penalties([parameter.layer for parameter in found], weight_decay / 2)
    decayed: dict[float, list[DecayedParameter]] = {}
    for parameter, part in zip(found, splits[penalty].layers, strict=True):
        multiplier = part.decay_multiplier if equal_total else decay_factor(penalty, parameter.layer)
        if math.isfinite(weight_decay * multiplier):
            decayed.setdefault(multiplier, []).append(parameter)
        else:
            left_out.append(LeftOut(parameter.name, _why_not(parameter.layer)))
    lambdas = {name: split.equal_total_weight_decay for name, split in splits.items()}
    foldable = [[one.name for one in members if not one.tied_to] for members in decayed.values()]
    return DecayGroups(
        version=report.version,
        location=report.checkpoint.location,
        format=report.checkpoint.format,
        penalty=penalty,
        weight_decay=weight_decay,
        equal_total=equal_total,
        penalty_lambda=lambdas[penalty] if equal_total else weight_decay / 2,
        equal_total_lambda=lambdas,
        groups=tuple(
            _group(weight_decay, multiplier, members, patterns)
            for (multiplier, members), patterns in zip(
                decayed.items(), folded(foldable, _names_in(report)), strict=True
            )
        ),
        left_out=(*left_out, *_not_measured(report)),
        dropped_from_names=report.checkpoint.dropped_from_names,
    )


def check_weight_decay(weight_decay: float) -> None:
    """UsageError for a weight decay that is no number from 0 on."""
    if not (math.isfinite(weight_decay) and weight_decay >= 0.0):
        raise UsageError(f"the weight decay must be 0 or more, not {weight_decay}")


def _group(
    weight_decay: float, multiplier: float, members: Sequence[DecayedParameter], patterns: tuple[Pattern, ...]
) -> DecayGroup:
    in_patterns = {name for pattern in patterns for name in pattern.names}
    names = tuple(ParameterNames(one.name, one.tied_to) for one in members if one.name not in in_patterns)
    return DecayGroup(weight_decay * multiplier, multiplier, names, patterns)


def _why_not(layer: PenalisedLayer) -> str:
    """Why a layer has no decay that is a number."""
    if layer.elements == 0:
        return "none of its weights is finite"
    return "it has no decay multiplier: sums of squares are 0, or beyond what float64 can hold"


def _not_measured(report: Report) -> Iterable[LeftOut]:
    """What might be a layer if it had been selected, decoded or read."""
    for other in report.others:
        if other.kind in (NOT_SELECTED, PACKED):
            yield LeftOut(other.name, other.reason)
    for entry in report.unread:
        yield LeftOut(entry.name, f"could not be read: {entry.reason}")


def _names_in(report: Report) -> set[str]:
    """The names of all the tensors that the report is about."""
    names = {other.name for other in report.others} | {entry.name for entry in report.unread}
    for layer in report.layers:
        names |= {layer.part_of or layer.name, *tied_names(layer)}
    return names
