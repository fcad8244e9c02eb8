"""Weights that a torch module works out from several parameters: by parametrizations, and by hooks before its forward.

Source: torch/nn/utils: parametrize.py, weight_norm.py, spectral_norm.py, prune.py.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from weightstats.tensors import Use


@dataclass(frozen=True, slots=True)
class WorkedOut:
    """One weight of a module, and how it comes from what the state dict holds. Names are relative to the module."""

    module: nn.Module
    weight: str
    """The attribute that the module computes with."""

    carrier: str
    """The stored tensor under whose name the weight is reported."""

    companions: Mapping[str, str]
    """What else it is made of, by name: what each of these tensors is, in words."""

    compute: Callable[[], torch.Tensor]
    """The weight as it is now; leaves the module as it is."""

    because: str
    scale_free: str = ""
    """Why the scale of what is stored does not change what the network computes, where that is so."""

    def use_of(self, companion: str) -> Use:
        """What a companion is for."""
        what = self.companions[companion]
        if what.startswith(("a vector", "a mask", "a buffer")):
            return Use("buffer", "", f"{what}, not trained", by="module")
        return Use("parameter", "", what, by="module")


def worked_out(module: nn.Module) -> Iterator[WorkedOut]:
    """The weights of a module that are worked out from others."""
    if parametrize.is_parametrized(module):
        for name, parametrization in module.parametrizations.items():  # type: ignore[union-attr, operator]
            yield _parametrized(module, name, parametrization)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm | SpectralNorm | BasePruningMethod):
            yield _hooked(module, hook)


def _parametrized(module: nn.Module, name: str, parametrization: parametrize.ParametrizationList) -> WorkedOut:
    place = f"parametrizations.{name}"
    classes = [type(step).__name__ for step in parametrization.children()]
    magnitudes = classes[0] == "_WeightNorm" and not parametrization.is_tensor
    carrier = f"{place}.{'original' if parametrization.is_tensor else 'original1' if magnitudes else 'original0'}"
    companions: dict[str, str] = {}
    for leaf, _ in parametrization.named_parameters():
        own = "magnitudes of a weight normalisation" if magnitudes else "a part of a parametrization"
        companions[f"{place}.{leaf}"] = own if "." not in leaf else "a parameter of the parametrization"
    for leaf, _ in parametrization.named_buffers():
        is_vector = leaf.rpartition(".")[2] in ("_u", "_v") and "_SpectralNorm" in classes
        companions[f"{place}.{leaf}"] = (
            "a vector of a spectral normalisation" if is_vector else "a buffer of a parametrization"
        )
    companions.pop(carrier, None)
    because = " and ".join(_MADE_BY.get(each, f"parametrized by {each}") for each in classes)
    scale_free = SCALE_FREE if classes == ["_SpectralNorm"] else ""
    return WorkedOut(module, name, carrier, companions, lambda: _without_training(parametrization), because, scale_free)


SCALE_FREE = "its scale is set by its spectral normalisation"

_MADE_BY = {
    "_WeightNorm": "its direction times its magnitudes: weight normalisation",
    "_SpectralNorm": "what is stored over the largest singular value that its vectors estimate: spectral normalisation",
}


def _without_training(parametrization: nn.Module) -> torch.Tensor:
    """What a parametrization gives outside of training, in which a spectral norm would take a step of its method."""
    modes = [(module, module.training) for module in parametrization.modules()]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad():
            made: torch.Tensor = parametrization()
            return made
    finally:
        for module, training in modes:
            module.training = training


def _hooked(module: nn.Module, hook: WeightNorm | SpectralNorm | BasePruningMethod) -> WorkedOut:
    if isinstance(hook, WeightNorm):
        name = hook.name
        companions = {f"{name}_g": "magnitudes of a weight normalisation"}
        because = _MADE_BY["_WeightNorm"]
        return WorkedOut(module, name, f"{name}_v", companions, lambda: hook.compute_weight(module), because)
    if isinstance(hook, SpectralNorm):
        name = hook.name
        companions = {f"{name}_{part}": "a vector of a spectral normalisation" for part in "uv"}
        because = _MADE_BY["_SpectralNorm"]
        return WorkedOut(
            module, name, f"{name}_orig", companions, lambda: hook.compute_weight(module, False), because, SCALE_FREE
        )
    name = hook._tensor_name
    because = "what is stored times its mask: pruning"
    companions = {f"{name}_mask": "a mask of the pruning"}
    return WorkedOut(module, name, f"{name}_orig", companions, lambda: _masked(module, hook), because)


def _masked(module: nn.Module, hook: BasePruningMethod) -> torch.Tensor:
    made: torch.Tensor = hook.apply_mask(module)  # type: ignore[no-untyped-call]
    return made
