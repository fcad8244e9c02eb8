"""Low-rank adapters: a weight W is used as W + s B A, with factors A and B of a small rank (arXiv:2106.09685).

The factors are layers of their own kind, which no fit uses. Where the weight lies in the same file, what it is with its
adapter added is worked out beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weightstats.effective_weights import Combined
from weightstats.effective_weights.adapter_names import Factor, base_of, beyond, factor_of, unwrapped
from weightstats.effective_weights.adapter_scale import Alphas, alphas_of, scale_of
from weightstats.effective_weights.merged import fitting, merged
from weightstats.errors import quoted
from weightstats.tensors import Tensor, Use


@dataclass(slots=True)
class _Adapter:
    """The factors of one adapter of one weight, by name."""

    factors: dict[str, Factor] = field(default_factory=dict)

    def of(self, side: str) -> list[str]:
        """The names of the factors on one side."""
        return [name for name, factor in self.factors.items() if factor.side == side]


def combined(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Sequence[Combined]:
    """The weights of the network that have adapters, and the adapters' factors."""
    adapters: dict[str, dict[str, _Adapter]] = {}
    for name in tensors:
        if (factor := factor_of(name)) is not None:
            adapters.setdefault(factor.module, {}).setdefault(factor.adapter, _Adapter()).factors[name] = factor
    settings = config.get("adapter_config.json")
    settings = settings if isinstance(settings, dict) else {}
    alphas = alphas_of(settings)
    some_transposed = _some_transposed(tensors, adapters)
    obstacles = beyond(tensors)
    found = []
    for module, ofs in adapters.items():
        uses = {name: _use(name, tensors[name], one) for one in ofs.values() for name in one.factors}
        others = {name: use for name, use in uses.items() if use is not None}
        if f"{module}.alpha" in tensors:
            others[f"{module}.alpha"] = Use("buffer", "", "alpha of an adapter, not trained")
        base = base_of(tensors, module)
        if base is None:
            found.append(Combined(next(iter(uses)), {}, others=others))
            continue
        known_as = unwrapped(base, module)
        bias = base.removesuffix("weight") + "bias"
        if known_as and bias in tensors:
            found.append(Combined(bias, {}, known_as=unwrapped(bias, module)))
        outcome = obstacles.get(module) or _outcome(tensors, module, base, ofs, settings, alphas, some_transposed)
        if isinstance(outcome, str):
            reason = f"measured without its adapter: {outcome}"
            found.append(Combined(base, {}, known_as=known_as, because=reason, others=others))
        else:
            sum_, because = outcome
            found.append(Combined(base, {}, known_as=known_as, merged=sum_, merged_because=because, others=others))
    return found


def _use(name: str, tensor: Tensor, adapter: _Adapter) -> Use | None:
    """What a factor is for: a map from the inputs to the rank, or from it to the outputs."""
    factor = adapter.factors[name]
    if len(tensor.shape) < 2 or tensor.dtype.kind != "float":
        return None
    return Use("low_rank", "OI" + "K" * (len(tensor.shape) - 2), f"{factor.origin}: a factor of an adapter", by="name")


def _outcome(
    tensors: Mapping[str, Tensor],
    module: str,
    base: str,
    adapters: Mapping[str, _Adapter],
    settings: Mapping[str, Any],
    alphas: Alphas,
    some_transposed: bool,
) -> tuple[Tensor, str] | str:
    """The weight with its adapter added and what was added, or why that cannot be worked out."""
    if len(adapters) > 1:
        names = ", ".join(quoted(name) for name in list(adapters)[:5])
        return f"it has {len(adapters)} ({names}), and which of them are used is not in the file"
    [(label, adapter)] = adapters.items()
    downs, ups = adapter.of("down"), adapter.of("up")
    if len(downs) != 1 or len(ups) != 1 or len(adapter.factors) != 2:
        return "its factors are not two, one applied after the other"
    weight, down, up = tensors[base], tensors[downs[0]], tensors[ups[0]]
    fits = fitting(weight, down, up)
    if isinstance(fits, str):
        return fits
    transposed = _is_transposed(fits, adapter.factors[downs[0]], settings, some_transposed)
    if transposed is None:
        return "its base is square, and may be stored with the inputs or with the outputs first"
    scale = scale_of(tensors, module, down.shape[0], settings, alphas)
    if isinstance(scale, str):
        return scale
    tensor = merged(weight, down, up, scale.factor, transposed=transposed)
    if isinstance(tensor, str):
        return tensor
    called = f"the adapter {label}" if label else "the adapter"
    return tensor, f"{called} (rank {down.shape[0]:,}, {scale.because})"


def _is_transposed(
    fits: tuple[bool, ...], factor: Factor, settings: Mapping[str, Any], some_transposed: bool
) -> bool | None:
    """Whether the base is stored with the inputs first; None where that cannot be told."""
    if len(fits) == 1:
        return fits[0]
    if factor.is_embedding:
        return True
    said = settings.get("fan_in_fan_out")
    if isinstance(said, bool):
        return said
    return None if some_transposed else False


def _some_transposed(tensors: Mapping[str, Tensor], adapters: Mapping[str, Mapping[str, _Adapter]]) -> bool:
    """Whether a base of this file, other than an embedding, fits its factors with the inputs first alone."""
    for module, ofs in adapters.items():
        base = base_of(tensors, module)
        for adapter in ofs.values():
            downs, ups = adapter.of("down"), adapter.of("up")
            if base is None or len(downs) != 1 or len(ups) != 1 or adapter.factors[downs[0]].is_embedding:
                continue
            if fitting(tensors[base], tensors[downs[0]], tensors[ups[0]]) == (True,):
                return True
    return False
