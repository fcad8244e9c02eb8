"""Penalties in the training of a live module: as parameter groups for torch.optim, or as a term of the loss.

The penalty is λ·Σ k·w² (see `penalties.FORMULAS` for each k), whose gradient is 2·λ·k·w. torch's weight_decay d adds
d·w to the gradient (SGD, Adam, RMSprop, ...), so that d = 2·λ·k takes the same steps as the penalty in the loss: in
SGD, with momentum too, and in Adam and its kin. But those divide the sum of both gradients by its own size, so that a
decay twice as strong does not shrink a weight twice as fast. AdamW multiplies the weights by 1 - lr·d, apart from the
gradient: it shrinks as d says, and no penalty in the loss does the same.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from weightstats.decay_groups import check_weight_decay, make_groups, penalty_named
from weightstats.decayed_parameters import NOT_SELECTED, LeftOut, parameters_of
from weightstats.errors import CheckpointError, UsageError, shortened
from weightstats.inspection import inspect, list_layers
from weightstats.listing import ListedLayer, ListedOther
from weightstats.modules import read_module
from weightstats.network import find_network
from weightstats.penalties import PenaltyName, decay_factor
from weightstats.report import OtherRow
from weightstats.rules import Rules, RulesGiven, is_selected, rules_from

MOST_NAMED = 3
"""Weights that a warning names."""

_Terms: TypeAlias = tuple[tuple[str, str | None, float], ...]
"""For each parameter where it is in the model, where its mask is, and k."""

_terms_of: WeakKeyDictionary[nn.Module, dict[object, tuple[object, _Terms]]] = WeakKeyDictionary()
"""What `penalty` has found out of a model: by its arguments, with the parameters that the model had."""


def parameter_groups(
    model: nn.Module,
    penalty: str,
    *,
    weight_decay: float,
    equal_total: bool = True,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    as_stored: bool = False,
    rules: RulesGiven = None,
) -> list[dict[str, Any]]:
    """Groups for torch.optim in which the weight decay falls on each layer as the gradient of a penalty does.

    `penalty` is "plain", "per-element" or "fan-scaled", and `weight_decay` torch's d of the plain one that it stands in
    for: a layer's is d times its decay multiplier, the `decay_multiplier` of `weightstats.inspect(model)`. So scaled,
    the penalty has the total that the plain one has on the weights as they are now; it has another one as they train.
    Without `equal_total` a layer's is d·k, and the penalty's λ is d/2.

    Every parameter is in exactly one group, a tied one once. What is no layer (biases, norms, ...) has a weight_decay
    of 0, and so has what `include` and `exclude` leave out. Maps that are fused in one parameter have one decay: their
    own where they are of one size, otherwise the mean of theirs by elements. Of a weight normalisation the magnitudes
    are decayed, which decays the weight, and of a pruned weight what is stored. Other weights that are worked out from
    parameters are left out, with a warning. `rules` and the rest are those of `weightstats.inspect`.

    Raises UsageError for an unknown penalty, for a weight decay that is no number from 0 on and where only some maps of
    one parameter are selected; CheckpointError where a parameter has no data in this process (meta, lazy, sharded).
    """
    name = penalty_named(penalty)
    check_weight_decay(weight_decay)
    held = _parameters(model)
    report = inspect(model, include=include, exclude=exclude, as_stored=as_stored, rules=rules)
    groups = make_groups(report, name, weight_decay, equal_total=equal_total, trained=held)
    _warn(groups.left_out, report.others, held, 3)
    decays = {id(held[each]): group.weight_decay for group in groups.groups for each in group.parameters}
    by_decay: dict[float, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        by_decay.setdefault(decays.get(id(parameter), 0.0), []).append(parameter)
    return [{"params": parameters, "weight_decay": decay} for decay, parameters in by_decay.items()]


def penalty(
    model: nn.Module,
    penalty: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    as_stored: bool = False,
    rules: RulesGiven = None,
) -> torch.Tensor:
    """Σ k·w² over the layers, without λ: a scalar on the model's device that gradients flow through, for the loss.

    k is 1 ("plain"), 1/N ("per-element") or (n_in+n_out)/N ("fan-scaled"). Times λ it is the penalty's total in
    `weightstats.inspect(model, weight_decay=λ)`, but for two differences, both as in `parameter_groups`: maps of
    unequal size that are fused in one parameter have one k, and some weights that are worked out from parameters are
    left out, with a warning. The groups with `equal_total=False` and a weight decay of 2·λ are its gradient. The sum is
    in float32 where the weights have less, and NaN where one of them is.

    What the layers are is found out at the first call, and again where parameters have been replaced; torch.compile
    takes it for constant. Errors as in `parameter_groups`.
    """
    total: torch.Tensor | None = None
    chosen = tuple(include), tuple(exclude)
    for path, mask, factor in _terms(model, penalty_named(penalty), chosen, as_stored, rules):
        weight: torch.Tensor = model.get_parameter(path)
        term = factor * _sum_of_squares(weight if mask is None else weight * model.get_buffer(mask))
        total = term if total is None else total + term.to(total.device)
    return torch.zeros((), device=next(model.parameters()).device) if total is None else total


def _sum_of_squares(weight: torch.Tensor) -> torch.Tensor:
    if weight.is_complex():
        weight = torch.view_as_real(weight)
    return (weight.float() if weight.element_size() < 4 else weight).square().sum()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _terms(
    model: nn.Module,
    penalty: PenaltyName,
    chosen: tuple[tuple[str, ...], tuple[str, ...]],
    as_stored: bool,
    rules: RulesGiven,
) -> _Terms:
    """What the penalty is the sum of; found out once for parameters that stay the same."""
    named = model.named_parameters(remove_duplicate=False)
    parameters = tuple((path, id(own), None if is_lazy(own) else own.shape) for path, own in named)
    known = rules_from(rules)
    arguments = penalty, chosen, as_stored, known.rules
    remembered = _terms_of.setdefault(model, {})
    if arguments not in remembered or remembered[arguments][0] != parameters:
        remembered[arguments] = parameters, _found_terms(model, penalty, chosen, as_stored, known)
    return remembered[arguments][1]


def _found_terms(
    model: nn.Module,
    penalty: PenaltyName,
    chosen: tuple[tuple[str, ...], tuple[str, ...]],
    as_stored: bool,
    rules: Rules,
) -> _Terms:
    held = _parameters(model)
    listing = list_layers(model, as_stored=as_stored, rules=rules)
    layers = [layer for layer in listing.layers if is_selected((layer.name, layer.stored_name), *chosen)]
    if listing.layers and not layers:
        count = len(listing.layers)
        which = "the one layer is not" if count == 1 else f"none of the {count:,} layers is"
        raise UsageError(f"{which} left by include and exclude")
    kept = {layer.name for layer in layers}
    others = [*listing.others, *(_not_selected(layer) for layer in listing.layers if layer.name not in kept)]
    found, left_out = parameters_of(layers, others, (), held)
    _warn(left_out, others, held, 5)
    paths = {id(own): path for path, own in model.named_parameters()}
    terms = []
    for each in found:
        path = paths[id(held[each.name])]
        mask = f"{path.removesuffix('_orig')}_mask" if each.is_pruned else None
        terms.append((path, mask, decay_factor(penalty, each.layer)))
    return tuple(terms)


def _not_selected(layer: ListedLayer) -> ListedOther:
    return ListedOther(layer.name, NOT_SELECTED, layer.shape, layer.dtype, "left out by include or exclude")


def _parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a module by the names that a report gives them; a tied one has several.

    CheckpointError where one has no data in this process.
    """
    checkpoint = read_module(model).checkpoint
    own = {id(parameter): parameter for parameter in model.parameters()}
    held = {name: own[id(tensor)] for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in own}
    for entry in checkpoint.unread:
        if entry.name in held:
            raise CheckpointError(checkpoint.location, f"its parameter {shortened(entry.name)}: {entry.reason}")
    names = {named.tensor.name: named.name for named in find_network(checkpoint).tensors}
    return {names[name]: parameter for name, parameter in held.items()}


def _warn(
    left_out: Sequence[LeftOut],
    others: Sequence[OtherRow] | Sequence[ListedOther],
    held: Mapping[str, nn.Parameter],
    stacklevel: int,
) -> None:
    """Warn of weights that are trained and not decayed, though nobody has asked for that."""
    asked = {other.name for other in others if other.kind == NOT_SELECTED}
    entries = [entry for entry in left_out if entry.name in held and entry.name not in asked]
    entries = [entry for entry in entries if held[entry.name].requires_grad]
    if entries:
        named = "; ".join(f"{shortened(entry.name)}: {shortened(entry.because)}" for entry in entries[:MOST_NAMED])
        more = f"; and {len(entries) - MOST_NAMED:,} more" if len(entries) > MOST_NAMED else ""
        warnings.warn(f"without decay: {named}{more} (exclude= says that this is meant)", stacklevel=stacklevel)
