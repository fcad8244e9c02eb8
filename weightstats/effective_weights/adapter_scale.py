"""The factor that a low-rank adapter is multiplied with before it is added: from its alpha and its rank."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weightstats.effective_weights.computed import Run, storage_order
from weightstats.errors import CheckpointError
from weightstats.network import MOST_NAME
from weightstats.tensors import Tensor

ORDINARY = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
"""What a pattern of module names may be made of: others are regular expressions, and none from a file is run."""


MOST_COMPONENTS = 32
"""Components at the end of a module's name that a pattern is looked for among."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What B A is multiplied with."""

    factor: float
    because: str


@dataclass(frozen=True, slots=True)
class Alphas:
    """What `alpha_pattern` of a configuration says, each ending with its place in the order of the patterns."""

    whole: Mapping[str, tuple[int, Any]]
    """By the whole name of a module, without `base_model.model.`."""

    ending: Mapping[str, tuple[int, Any]]
    """By the last components of its name."""

    not_run: int | None
    """The place of the first regular expression, which no file has run."""

    problem: str = ""


def alphas_of(settings: Mapping[str, Any]) -> Alphas:
    """The patterns of a configuration, looked at once."""
    patterns = settings.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        return Alphas({}, {}, None, "the alpha_pattern of its configuration is not an object")
    whole: dict[str, tuple[int, Any]] = {}
    ending: dict[str, tuple[int, Any]] = {}
    for place, (pattern, value) in enumerate(patterns.items()):
        name = pattern.removeprefix("^")
        if not ORDINARY.issuperset(name):
            return Alphas(whole, ending, place)
        whole.setdefault(name, (place, value))
        if not pattern.startswith("^"):
            ending.setdefault(name, (place, value))
    return Alphas(whole, ending, None)


def scale_of(
    tensors: Mapping[str, Tensor], module: str, rank: int, settings: Mapping[str, Any], alphas: Alphas
) -> Scale | str:
    """The factor of an adapter, or why it cannot be told.

    It is alpha / rank, with alpha from the tensor `MODULE.alpha` (kohya-ss) or from `adapter_config.json` (peft), where
    `use_rslora` makes it alpha / sqrt(rank) (arXiv:2312.03732); 1 where no alpha is stored.
    """
    name = f"{module}.alpha"
    if name in tensors:
        alpha, rank_stabilised = _single(tensors[name]), False
    elif "lora_alpha" in settings:
        alpha, rank_stabilised = _configured(module, settings, alphas), settings.get("use_rslora") is True
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


def _configured(module: str, settings: Mapping[str, Any], alphas: Alphas) -> float | str:
    """The alpha that a configuration gives to a module: that of the first pattern that fits, else the general one."""
    if alphas.problem:
        return alphas.problem
    whole = module.removeprefix("base_model.model.")
    found = [alphas.whole[whole]] if whole in alphas.whole else []
    components = whole[-MOST_NAME:].split(".")[-MOST_COMPONENTS:]
    endings = (".".join(components[start:]) for start in range(len(components)))
    found += [alphas.ending[ending] for ending in endings if ending in alphas.ending]
    alpha = min(found, key=lambda entry: entry[0])[1] if found else settings["lora_alpha"]
    if not found and alphas.not_run is not None:
        return "the alpha_pattern of its configuration holds regular expressions, which are not run"
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        return "the alpha of its configuration is not a number"
    try:
        alpha = float(alpha)
    except OverflowError:
        alpha = math.inf
    return alpha if math.isfinite(alpha) else "the alpha of its configuration is not finite"
