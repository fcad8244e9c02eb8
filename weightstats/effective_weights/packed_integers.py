"""Integers that compressed-tensors packed in words (`pack-quantized`).

`weight_packed` (outputs, inputs / 32 * bits) holds the codes of 32 / bits inputs in each word, plus half their range;
`weight_scale` (outputs, groups of inputs) their factors, `weight_shape` the shape of the weight; `weight_zero_point`
may be packed too, along the outputs. Layout: https://github.com/vllm-project/compressed-tensors,
compressors/pack_quantized.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightstats.effective_weights import Combined
from weightstats.effective_weights.companion_uses import activation_scales, companion
from weightstats.effective_weights.companions import FLOATS, Numbers, PackedTable, Shelf, Table, checked, integers
from weightstats.effective_weights.dequantised import Codes, Factor, Grid, dequantised
from weightstats.effective_weights.packed_words import unpacked
from weightstats.errors import TensorError, quoted
from weightstats.tensors import Tensor

BITS = (1, 2, 4, 8)
"""Those of which a word holds a whole number: releases differ in how they pack others."""

COMPANIONS = {
    "weight_scale": "scales",
    "weight_shape": "shape",
    "weight_zero_point": "zero points",
    "weight_g_idx": "groups of the inputs",
}


def combined(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Iterator[Combined]:
    """One weight for each `weight_packed` of words beside which there are a scale and a shape."""
    shelf = Shelf()
    for name, carrier in tensors.items():
        module = name.removesuffix("weight_packed")
        if module == name or carrier.dtype.name != "I32":
            continue
        beside = {part: tensors[module + part] for part in COMPANIONS if module + part in tensors}
        companions = {module + part: companion(COMPANIONS[part]) for part in beside}
        try:
            bits, tensor = _decoded(carrier, beside, shelf)
        except TensorError as error:
            yield Combined(name, companions, unresolved=f"packed weights that cannot be decoded: {error}")
        else:
            because = f"{bits}-bit codes times {beside['weight_scale'].elements:,} scales (compressed-tensors)"
            others = activation_scales(name, tensors)
            yield Combined(name, companions, tensor, known_as=f"{module}weight", because=because, others=others)


def _decoded(carrier: Tensor, beside: Mapping[str, Tensor], shelf: Shelf) -> tuple[int, Tensor]:
    missing = [part for part in ("weight_scale", "weight_shape") if part not in beside]
    if missing:
        raise TensorError(f"its {missing[0]} is not there")
    if len(carrier.shape) != 2:
        raise TensorError(f"its shape {quoted(carrier.shape)} is not a matrix")
    outputs, words = carrier.shape
    shape = tuple(integers(beside["weight_shape"]))
    bits = next((bits for bits in BITS if shape == (outputs, words * 32 // bits)), None)
    if bits is None:
        raise TensorError(
            f"a weight of {quoted(shape)} does not fill words of {quoted(carrier.shape)} with whole codes"
        )
    inputs = shape[1]
    scale = checked(beside["weight_scale"], FLOATS)
    grid = _grid(outputs, inputs, scale, beside.get("weight_g_idx"), shelf)
    zero: Factor | float = float(1 << (bits - 1))
    if "weight_zero_point" in beside:
        zero = Factor(_zero_points(beside["weight_zero_point"], scale, outputs, bits, shelf), grid)
    order = "<u4" if carrier.storage.byte_order == "little" else ">u4"

    def numbers(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
        packed = raw.reshape(-1).view(order).astype(np.uint32, copy=False)
        return unpacked(packed.reshape(-1, 1, 1), bits).astype(np.float32)

    tensor = dequantised(
        f"INT{bits} packed",
        carrier,
        (outputs, inputs),
        Codes(32 // bits, 4, numbers),
        (Factor(Table(scale, shelf), grid),),
        zero,
        tuple(beside.values()),
        carrier.use,
    )
    return bits, tensor


def _grid(outputs: int, inputs: int, scale: Tensor, order: Tensor | None, shelf: Shelf) -> Grid:
    if scale.elements == 1:
        return Grid(1, outputs * inputs, 1, outputs * inputs)
    groups = scale.shape[1] if len(scale.shape) == 2 else 1
    if scale.shape not in ((outputs,), (outputs, groups)) or not groups or inputs % groups:
        raise TensorError(f"scales of the shape {quoted(scale.shape)} do not fit {outputs:,} x {inputs:,} codes")
    if order is None or groups == 1:
        return Grid(outputs, inputs, 1, inputs // groups)
    shelf.check_together(2 * groups * outputs + inputs)
    table = Table(checked(order, ("I32", "I64"), (inputs,)), shelf)
    return Grid(outputs, inputs, 1, 1, column_group=table, column_groups=groups)


def _zero_points(zero: Tensor, scale: Tensor, outputs: int, bits: int, shelf: Shelf) -> Numbers:
    """Zero points on the codes' own scale, from 0 on: packed along the outputs, or one signed byte each."""
    if zero.dtype.name == "I8" and zero.shape == scale.shape:
        return _Raised(Table(zero, shelf), float(1 << (bits - 1)))
    groups = scale.shape[1] if len(scale.shape) == 2 else 1
    if scale.shape[:1] != (outputs,) or zero.shape == scale.shape:
        raise TensorError(f"zero points of the shape {quoted(zero.shape)} may be packed or not")
    if outputs * bits % 32:
        raise TensorError(f"the zero points of {outputs:,} outputs do not fill whole words")
    return PackedTable(Table(checked(zero, ("I32",), (outputs * bits // 32, groups)), shelf), bits, groups)


class _Raised:
    """A table's numbers, and something more."""

    def __init__(self, table: Table, more: float) -> None:
        self._table, self._more = table, np.float32(more)

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        return self._table.read(first, last) + self._more
