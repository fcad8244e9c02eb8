"""Weights of one code an element with scales beside them: 8-bit integers and 8-bit floats.

The weight is (code - zero point) * scale, with one scale for the whole, for each output or for each block. All of these
multiply, `weight_scale_inv` too: it is the inverse of what the weight was multiplied with before it was rounded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightstats.effective_weights import Combined
from weightstats.effective_weights.blocks import grid_for
from weightstats.effective_weights.companion_uses import activation_scales, companion, module_of
from weightstats.effective_weights.companions import FLOATS, Numbers, Shelf, Table, checked
from weightstats.effective_weights.dequantised import Codes, Factor, dequantised
from weightstats.effective_weights.exponents import Exponents
from weightstats.effective_weights.quantisation_config import quantisation
from weightstats.errors import TensorError
from weightstats.tensors import Tensor

CODES = {
    "I8": "INT8 scaled",
    "F8_E4M3": "F8_E4M3 scaled",
    "F8_E5M2": "F8_E5M2 scaled",
    "F8_E4M3FNUZ": "F8_E4M3FNUZ scaled",
    "F8_E5M2FNUZ": "F8_E5M2FNUZ scaled",
}
"""Dtypes of codes, and what the report calls the weight."""

APPENDED = ("_scale", "_scale_inv")
"""What is appended to a weight's name: compressed-tensors, ModelOpt, FBGEMM; DeepSeek and transformers, which also do
so for stacks of experts (`gate_up_proj_scale_inv`)."""

BESIDE = (
    "scale",  # DeepSeek's own inference code
    "scale_weight",  # ComfyUI
    "qscale_weight",  # Mistral's own checkpoints
)
"""Leaves beside `weight`."""

BELOW = {"weight._data": "weight._scale"}
"""Leaves of one tensor that is stored in two: optimum-quanto's 8 bits."""

ZERO_POINTS = ("_zero_point",)


@dataclass(frozen=True, slots=True)
class _Found:
    """A weight with what belongs to it, by names."""

    scale: str
    known_as: str = ""


def combined(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Iterator[Combined]:
    """One weight for each tensor of 8-bit codes beside which there are scales."""
    shelf = Shelf()
    block = _block_size(config)
    for name, carrier in tensors.items():
        found = _found(name, tensors) if carrier.dtype.name in CODES and carrier.elements else None
        if found is None:
            continue
        scale = tensors[found.scale]
        companions = {found.scale: companion("scales")}
        zero_name = next((name + end for end in ZERO_POINTS if name + end in tensors), None)
        if zero_name is not None:
            companions[zero_name] = companion("zero points")
        try:
            tensor = _decoded(carrier, scale, tensors[zero_name] if zero_name else None, block, shelf)
        except TensorError as error:
            yield Combined(name, companions, unresolved=f"8-bit codes whose scales do not fit: {error}")
            continue
        because = f"{carrier.dtype.name} codes times {_described(scale)}"
        others = activation_scales(name, tensors)
        yield Combined(name, companions, tensor, known_as=found.known_as, because=because, others=others)


def _found(name: str, tensors: Mapping[str, Tensor]) -> _Found | None:
    for end in APPENDED:
        if name + end in tensors:
            return _Found(name + end)
    for below, scale in BELOW.items():
        module = name.removesuffix(below)
        if module != name and module + scale in tensors:
            return _Found(module + scale, f"{module}weight")
    if name == f"{module_of(name)}weight":
        return next((_Found(module_of(name) + leaf) for leaf in BESIDE if module_of(name) + leaf in tensors), None)
    return None


def _decoded(
    carrier: Tensor, scale: Tensor, zero: Tensor | None, block: tuple[int, int] | None, shelf: Shelf
) -> Tensor:
    grid = grid_for(carrier.shape, scale.shape, block)
    zeros: Factor | float = 0.0
    if zero is not None:
        checked(zero, ("I8", "U8", "I32", "I64", *FLOATS, *CODES), scale.shape)
        zeros = Factor(Table(zero, shelf), grid)
    companions = (scale,) if zero is None else (scale, zero)
    return dequantised(
        CODES[carrier.dtype.name],
        carrier,
        carrier.shape,
        Codes(1, 1, _numbers(carrier)),
        (Factor(_scales(carrier, scale, shelf), grid),),
        zeros,
        companions,
        carrier.use,
    )


def _scales(carrier: Tensor, scale: Tensor, shelf: Shelf) -> Numbers:
    """Scales as numbers; bytes beside 8-bit floats are exponents (MXFP8), beside integers they may be anything."""
    if scale.dtype.name in ("U8", "F8_E8M0") and carrier.dtype.kind == "float":
        return Exponents(Table(scale, shelf))
    return Table(checked(scale, FLOATS), shelf)


def _numbers(carrier: Tensor) -> Any:
    """How bytes become the numbers that they stand for."""
    dtype = carrier.dtype

    def numbers(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
        flat = raw.reshape(-1)
        return dtype.decode(flat, "little", np.empty(flat.size, np.uint32)).astype(np.float32, copy=False)

    return numbers


def _described(scale: Tensor) -> str:
    return "one scale" if scale.elements == 1 else f"{scale.elements:,} scales"


def _block_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns of a block, where the configuration says it."""
    size = quantisation(config).get("weight_block_size")
    if isinstance(size, list) and len(size) == 2 and all(isinstance(part, int) and 0 < part < 1 << 31 for part in size):
        return size[0], size[1]
    return None
