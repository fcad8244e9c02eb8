"""Layers of a torch module whose output is normalised at once, by the order in which modules register each other.

The scale of such a weight is divided out again, so that it does not change what the network computes: van Laarhoven,
arXiv:1706.05350.
"""

import itertools
import re
from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from weightstats.schemas.torch_modules import class_name, class_names, is_norm

HEADS = {
    **dict.fromkeys(("q_proj", "to_q", "wq", "q", "query"), ("q_norm", "norm_q", "q_layernorm", "ln_q")),
    **dict.fromkeys(("k_proj", "to_k", "wk", "k", "key"), ("k_norm", "norm_k", "k_layernorm", "ln_k")),
    "add_q_proj": ("norm_added_q",),
    "add_k_proj": ("norm_added_k",),
}
"""Projections of attention, and what normalises each head, or all heads, behind them: transformers, timm, diffusers."""

STANDARDISED = re.compile(r"Std(?![a-z])|WS(?![a-z])|WeightStandardi[sz]ed")
"""Convolutions' classes that standardise their weight: timm (StdConv2d, ScaledStdConv2d), NFNets, lucidrains."""


def scale_free_layers(model: nn.Module) -> dict[int, str]:
    """Why the scale of a module's weight does not matter, by the module's id, where that can be told."""
    found: dict[int, str] = {}
    contradicted: set[int] = set()
    for path, parent in model.named_modules():
        prefix = f"{path}." if path else ""
        children = [(name, child) for name, child in parent.named_children() if not isinstance(child, nn.Identity)]
        ours = {id(layer): f"followed by the {what} {prefix}{name}" for layer, name, what in _pairs(parent, children)}
        contradicted |= {id(child) for _, child in children if id(child) in found and id(child) not in ours}
        found |= ours
        if isinstance(parent, _ConvNd) and (name := _standardised(parent)):
            found[id(parent)] = f"its class {name} standardises its weight"
    return {module: because for module, because in found.items() if module not in contradicted}


def _standardised(module: nn.Module) -> str | None:
    return class_name(module) if any(STANDARDISED.search(name) for name in class_names(module)) else None


def _pairs(parent: nn.Module, children: Sequence[tuple[str, nn.Module]]) -> Iterator[tuple[nn.Module, str, str]]:
    """(layer, name of what normalises its output, what that is)."""
    if isinstance(parent, nn.Sequential):
        for (_, layer), (name, norm) in itertools.pairwise(children):
            what = _kind_of(norm, layer)
            if what and _fits(layer, norm) and (not _has_bias(layer) or isinstance(norm, _BatchNorm | _InstanceNorm)):
                yield layer, name, what
        return
    yield from _normalised_heads(children)
    pairs = list(_candidates(children))
    # a normalisation of a layer's inputs that its outputs do not fit: here modules are named for what comes before them
    if any(_size(norm) == _inputs(layer) != _outputs(layer) for layer, _, norm in pairs):
        return
    for layer, name, norm in pairs:
        what = _kind_of(norm, layer)
        if what and what != "layer normalisation" and _fits(layer, norm) and not _has_bias(layer):
            yield layer, name, what


def _candidates(children: Sequence[tuple[str, nn.Module]]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """(layer, name, normalisation): that of its number among those behind it and behind further layers, else the one
    that is registered next, if it is no other layer's."""
    numbered, next_ones = [], []
    for index, (name, layer) in enumerate(children):
        if _outputs(layer) is None:
            continue
        rest = children[index + 1 :]
        behind = list(itertools.dropwhile(lambda child: _outputs(child[1]) is not None, rest))
        norms = list(itertools.takewhile(lambda child: _size(child[1]) is not None, behind))
        same = [norm for norm in norms if _number(norm[0]) == _number(name) != ""]
        if same:
            numbered.append((layer, *same[0]))
        elif norms and norms[0] is rest[0]:
            next_ones.append((layer, *norms[0]))
    taken = {name for _, name, _ in numbered}
    yield from numbered
    yield from (pair for pair in next_ones if pair[1] not in taken)


def _number(name: str) -> str:
    """The digits at the end of a name."""
    return name[len(name.rstrip("0123456789")) :]


def _normalised_heads(children: Sequence[tuple[str, nn.Module]]) -> Iterator[tuple[nn.Module, str, str]]:
    named = dict(children)
    for name, norms in HEADS.items():
        layer = named.get(name)
        norm = next((norm for norm in norms if norm in named and is_norm(named[norm])), None)
        if layer is not None and norm is not None and _outputs(layer) is not None and not _has_bias(layer):
            yield layer, norm, "normalisation"


def _kind_of(norm: nn.Module, layer: nn.Module) -> str:
    """What a normalisation is, '' where it does not divide its input's scale out."""
    if isinstance(norm, _InstanceNorm):
        return "instance normalisation"
    if isinstance(norm, _BatchNorm) or ("running_mean" in norm._buffers and _size(norm) is not None):
        return "" if "Frozen" in class_name(norm) else "batch normalisation"
    if isinstance(norm, nn.GroupNorm):
        return "group normalisation"
    if isinstance(norm, nn.LayerNorm) or any(name.endswith("RMSNorm") for name in class_names(norm)):
        return "layer normalisation" if isinstance(layer, nn.Linear) else ""
    return ""


def _fits(layer: nn.Module, norm: nn.Module) -> bool:
    outputs = _outputs(layer)
    return outputs is not None and outputs == _size(norm)


def _size(norm: nn.Module) -> int | None:
    """The channels that a normalisation is for; None for another module."""
    if not is_norm(norm) and "running_mean" not in norm._buffers:
        return None
    for name in ("num_features", "num_channels"):
        size = getattr(norm, name, None)
        if isinstance(size, int):
            return size
    shape = getattr(norm, "normalized_shape", None)
    return shape[0] if isinstance(shape, tuple) and len(shape) == 1 else None


def _outputs(layer: nn.Module) -> int | None:
    """The channels that a layer gives out; None for another module."""
    if isinstance(layer, _ConvNd):
        return int(layer.out_channels)
    return int(layer.out_features) if isinstance(layer, nn.Linear) else None


def _inputs(layer: nn.Module) -> int | None:
    if isinstance(layer, _ConvNd):
        return int(layer.in_channels)
    return int(layer.in_features) if isinstance(layer, nn.Linear) else None


def _has_bias(layer: nn.Module) -> bool:
    return getattr(layer, "bias", None) is not None
