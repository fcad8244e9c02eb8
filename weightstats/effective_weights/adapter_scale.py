"""The factor that a low-rank adapter is multiplied with before it is added: from its alpha and its rank."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weightstats.effective_weights.computed import Run, storage_order
from weightstats.errors import CheckpointError
from weightstats.tensors import Tensor

ORDINARY = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
"""What a pattern of module names may be made of: others are regular expressions, and none from a file is run."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What B A is multiplied with."""

    factor: float
    because: str


def scale_of(
    tensors: Mapping[str, Tensor], module: str, adapter: str, rank: int, settings: Mapping[str, Any]
) -> Scale | str:
    """The factor of an adapter, or why it cannot be told.

    It is alpha / rank, with alpha from the tensor `MODULE.alpha` (kohya-ss) or from `adapter_config.json` (peft), where
    `use_rslora` makes it alpha / sqrt(rank) (arXiv:2312.03732); 1 where no alpha is stored.
    """
    name = f"{module}.alpha"
    if name in tensors:
        alpha, rank_stabilised = _single(tensors[name]), False
    elif "lora_alpha" in settings:
        alpha, rank_stabilised = _configured(module, settings), settings.get("use_rslora") is True
    else:
        return Scale(1.0, "its alpha is not in the file: factor 1")
    if isinstance(alpha, str):
        return alpha
    factor = alpha / (math.sqrt(rank) if rank_stabilised else rank)
    return Scale(factor, f"alpha {alpha:g}: factor {factor:.6g}")


def _single(tensor: Tensor) -> float | str:
    """The number in a tensor of one."""
    if tensor.elements != 1 or tensor.dtype.kind not in ("float", "integer") or storage_order(tensor) is None:
        return "its alpha is not a single number"
    try:
        alpha = float(Run(tensor).read(0, 1)[0])
    except CheckpointError as error:
        return f"its alpha cannot be read: {error.problem}"
    return alpha if math.isfinite(alpha) else f"its alpha is {alpha}"


def _configured(module: str, settings: Mapping[str, Any]) -> float | str:
    """The alpha that a configuration gives to a module."""
    alpha = settings["lora_alpha"]
    patterns = settings.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        return "the alpha_pattern of its configuration is not an object"
    for pattern, value in patterns.items():
        ending = pattern.removeprefix("^")
        if not ORDINARY.issuperset(ending):
            return "the alpha_pattern of its configuration holds regular expressions, which are not run"
        whole = module.removeprefix("base_model.model.")
        if whole == ending or (not pattern.startswith("^") and whole.endswith(f".{ending}")):
            alpha = value
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        return "the alpha of its configuration is not a number"
    try:
        alpha = float(alpha)
    except OverflowError:
        alpha = math.inf
    return alpha if math.isfinite(alpha) else "the alpha of its configuration is not finite"
