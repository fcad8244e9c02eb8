"""What the report calls the tensors that belong to a quantised weight."""

from collections.abc import Iterable, Mapping

from weightstats.tensors import Tensor, Use

KIND = "quantisation"

ACTIVATION_SCALES = (
    *("input_scale", "output_scale", "input_global_scale", "input_zero_point"),  # compressed-tensors, ModelOpt
    "activation_scale",  # transformers' fine-grained fp8
    "scale_input",  # ComfyUI
    "qscale_act",  # Mistral's own checkpoints
)
"""Leaves of a module whose weight is quantised: what its inputs and outputs are scaled by, no part of the weight."""


def companion(what: str) -> Use:
    """The use of something that decoding takes; the report lists together what has one reason, so it names no weight:
    the tensor's own name does."""
    return Use(KIND, "", f"{what} of a quantised weight")


def module_of(name: str) -> str:
    """The names of a module's tensors up to the leaf: `layers.0.q_proj.` or ''."""
    return name[: name.rfind(".") + 1]


def activation_scales(carrier: str, tensors: Mapping[str, Tensor]) -> dict[str, Use]:
    """What is beside a quantised weight for the activations."""
    module = module_of(carrier)
    names: Iterable[str] = (module + leaf for leaf in ACTIVATION_SCALES)
    return {name: Use(KIND, "", "scale of the activations at a quantised weight") for name in names if name in tensors}
