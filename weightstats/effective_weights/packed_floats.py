"""Matrices of E2M1 numbers, two in each byte, with a scale for each block of inputs: NVFP4 and MXFP4.

The codes are `weight_packed` (compressed-tensors) or `weight` (NVIDIA's ModelOpt), (outputs, inputs / 2), the first of
two in the low half. NVFP4: `weight_scale` (outputs, inputs / 16) of 8-bit floats, which `weight_global_scale` divides
or `weight_scale_2` multiplies. MXFP4: `weight_scale` (outputs, inputs / 32) of exponents.
Layouts: https://github.com/vllm-project/compressed-tensors, compressors/nvfp4 and mxfp4;
https://github.com/NVIDIA/Model-Optimizer, modelopt/torch/quantization/qtensor/nvfp4_tensor.py.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightstats.effective_weights import Combined
from weightstats.effective_weights.companion_uses import activation_scales, companion
from weightstats.effective_weights.companions import Numbers, Shelf, Table, checked
from weightstats.effective_weights.dequantised import Codes, Factor, Grid, dequantised, one_for_all
from weightstats.effective_weights.e2m1 import numbers
from weightstats.effective_weights.exponents import Exponents
from weightstats.errors import TensorError, quoted
from weightstats.tensors import Tensor

NVFP4_BLOCK = 16
MXFP4_BLOCK = 32

COMPANIONS = {
    "weight_scale": "scales",
    "weight_global_scale": "divisor of the scales",
    "weight_scale_2": "factor of the scales",
}


def combined(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Iterator[Combined]:
    """One weight for each matrix of bytes beside which there are such scales."""
    shelf = Shelf()
    for name, carrier in tensors.items():
        module = name.removesuffix("_packed").removesuffix("weight")
        if f"{module}weight" != name.removesuffix("_packed") or carrier.dtype.name != "U8":
            continue
        beside = {part: tensors[module + part] for part in COMPANIONS if module + part in tensors}
        if "weight_scale" not in beside or (not name.endswith("_packed") and "weight_scale_2" not in beside):
            continue
        companions = {module + part: companion(COMPANIONS[part]) for part in beside}
        try:
            tensor = _decoded(carrier, beside, shelf)
        except TensorError as error:
            yield Combined(name, companions, unresolved=f"4-bit floats that cannot be decoded: {error}")
        else:
            because = f"E2M1 numbers times {beside['weight_scale'].elements:,} scales ({tensor.dtype.name})"
            known_as = f"{module}weight" if name.endswith("_packed") else ""
            others = activation_scales(name, tensors)
            yield Combined(name, companions, tensor, known_as=known_as, because=because, others=others)


def _decoded(carrier: Tensor, beside: Mapping[str, Tensor], shelf: Shelf) -> Tensor:
    if len(carrier.shape) not in (2, 3) or not carrier.elements:
        raise TensorError(f"its shape {quoted(carrier.shape)} is not a matrix, or a stack of them")
    scale, inputs = beside["weight_scale"], 2 * carrier.shape[-1]
    divisor, factor = beside.get("weight_global_scale"), beside.get("weight_scale_2")
    shape = (*carrier.shape[:-1], inputs)
    if divisor is None and factor is None:
        if inputs % MXFP4_BLOCK:
            raise TensorError(f"its {inputs:,} inputs are no whole blocks of {MXFP4_BLOCK}")
        checked(scale, ("U8", "F8_E8M0"), (*shape[:-1], inputs // MXFP4_BLOCK))
        factors = [_blocks(Exponents(Table(scale, shelf)), carrier, MXFP4_BLOCK)]
        return _made("MXFP4", carrier, shape, factors, beside)
    if divisor is not None and factor is not None:
        raise TensorError("it has both a weight_global_scale and a weight_scale_2")
    if inputs % NVFP4_BLOCK:
        raise TensorError(f"its {inputs:,} inputs are no whole blocks of {NVFP4_BLOCK}")
    checked(scale, ("F8_E4M3",), (*shape[:-1], inputs // NVFP4_BLOCK))
    factors = [_blocks(Table(scale, shelf), carrier, NVFP4_BLOCK), _overall(shape, divisor, factor, shelf)]
    return _made("NVFP4", carrier, shape, factors, beside)


def _blocks(scales: Numbers, carrier: Tensor, size: int) -> Factor:
    elements = 2 * carrier.elements
    return Factor(scales, Grid(1, elements, 1, size))


def _overall(shape: tuple[int, ...], divisor: Tensor | None, factor: Tensor | None, shelf: Shelf) -> Factor:
    """The scale of the scales: one for the whole, or one for each matrix of a stack."""
    whole = divisor if divisor is not None else factor
    assert whole is not None  # noqa: S101 - one of both is there
    one_each = ((shape[0],), (shape[0], 1), (shape[0], 1, 1)) if len(shape) == 3 else ()
    table = Table(checked(whole, ("F32", "BF16", "F16"), (), (1,), *one_each), shelf)
    grid = one_for_all(shape)
    if whole.elements > 1:
        size = shape[1] * shape[2]
        grid = Grid(shape[0], size, 1, size)
    return Factor(_Inverse(table) if divisor is not None else table, grid)


def _made(
    name: str, carrier: Tensor, shape: tuple[int, ...], factors: list[Factor], beside: Mapping[str, Tensor]
) -> Tensor:
    codes = Codes(2, 1, numbers)
    return dequantised(name, carrier, shape, codes, factors, 0.0, tuple(beside.values()), carrier.use)


class _Inverse:
    """One over a table's numbers."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        return np.float32(1) / self._table.read(first, last)
