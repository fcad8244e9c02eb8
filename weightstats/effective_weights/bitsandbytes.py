"""Weights that bitsandbytes quantised to 8 bits (Dettmers et al., arXiv:2208.07339) or to 4 (arXiv:2305.14314).

8 bits: `weight` and, for each output, the largest magnitude in `SCB`. 4 bits: two codes a byte, the first in the high
half, each an entry of `weight.quant_map` times the largest magnitude of its block in `weight.absmax`, which may be
quantised once more. Layout: https://github.com/bitsandbytes-foundation/bitsandbytes, functional.py (QuantState).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightstats.containers.json_values import distinct, parsed
from weightstats.effective_weights import Combined
from weightstats.effective_weights.companion_uses import companion, module_of
from weightstats.effective_weights.companions import (
    FLOATS,
    Numbers,
    Shelf,
    Table,
    checked,
    content,
    integers,
)
from weightstats.effective_weights.dequantised import Codes, Factor, Grid, dequantised
from weightstats.effective_weights.packed_words import nibble_pairs
from weightstats.errors import TensorError, quoted, shortened
from weightstats.limits import LIMITS, over
from weightstats.tensors import Tensor

LARGEST = 127
"""The 8-bit code of the largest magnitude of a row."""

ROW_MAJOR = 0
"""`weight_format` of rows one after the other; the others are layouts of old kernels."""

STATES = ("quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4")
"""What the description of a 4-bit weight is called below the weight."""

BELOW = {
    "absmax": "largest magnitudes",
    "quant_map": "values of the codes",
    "nested_absmax": "largest magnitudes of the largest magnitudes",
    "nested_quant_map": "values of the codes of the largest magnitudes",
}


def combined(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Iterator[Combined]:
    """One weight for each that has a description of its 4 bits, or the scales of its 8, beside it."""
    shelf = Shelf()
    for name, tensor in tensors.items():
        for state in STATES:
            if name.endswith(f".{state}") and name.removesuffix(f".{state}") in tensors:
                yield _four_bits(name.removesuffix(f".{state}"), state, tensors, shelf)
        if name.endswith("SCB") and f"{module_of(name)}weight" in tensors and name == f"{module_of(name)}SCB":
            yield _eight_bits(module_of(name), tensor, tensors, shelf)


def _eight_bits(module: str, scales: Tensor, tensors: Mapping[str, Tensor], shelf: Shelf) -> Combined:
    name, layout = f"{module}weight", f"{module}weight_format"
    carrier = tensors[name]
    companions = {f"{module}SCB": companion("scales")}
    if layout in tensors:
        companions[layout] = companion("layout")
    try:
        checked(carrier, ("I8",))
        if len(carrier.shape) != 2:
            raise TensorError(f"its shape {quoted(carrier.shape)} is not a matrix")
        rows, columns = carrier.shape
        checked(scales, FLOATS, (rows,), (rows, 1), (1, rows))
        if layout in tensors and integers(tensors[layout]) != [ROW_MAJOR]:
            raise TensorError("its weight_format is not that of plain rows")
        tensor = dequantised(
            "INT8 (bitsandbytes)",
            carrier,
            carrier.shape,
            Codes(1, 1, lambda raw: raw.view(np.int8).astype(np.float32)),
            (Factor(_Part(Table(scales, shelf), 1 / LARGEST), Grid(rows, max(1, columns), 1, max(1, columns))),),
            companions=(scales,),
            use=carrier.use,
        )
    except TensorError as error:
        return Combined(name, companions, unresolved=f"8-bit codes of bitsandbytes that cannot be decoded: {error}")
    because = "8-bit codes times each row's largest magnitude / 127 (bitsandbytes)"
    return Combined(name, companions, tensor, because=because)


def _four_bits(name: str, state: str, tensors: Mapping[str, Tensor], shelf: Shelf) -> Combined:
    carrier = tensors[name]
    beside = {part: tensors[f"{name}.{part}"] for part in BELOW if f"{name}.{part}" in tensors}
    companions = {f"{name}.{part}": companion(BELOW[part]) for part in beside}
    companions[f"{name}.{state}"] = companion("description of the codes")
    try:
        settings = _settings(tensors[f"{name}.{state}"])
        shape, size = _shape(settings), _positive(settings, "blocksize")
        elements = math.prod(shape)
        if carrier.stored_bytes != -(-elements // 2):
            raise TensorError(f"its {carrier.stored_bytes:,} bytes are not those of {elements:,} codes")
        if carrier.storage.byte_order == "big" and carrier.dtype.width > 1:
            raise TensorError("its codes lie in big-endian words")
        blocks = -(-elements // size)
        values = _values(beside, "quant_map", 16)
        scales = _scales(beside, settings, blocks, shelf)
        tensor = dequantised(
            state[-3:].upper(),
            carrier,
            shape,
            Codes(2, 1, nibble_pairs(values, high_first=True)),
            (Factor(scales, Grid(1, elements, 1, size)),),
            companions=tuple(beside.values()),
            use=carrier.use,
        )
    except TensorError as error:
        return Combined(name, companions, unresolved=f"4-bit codes of bitsandbytes that cannot be decoded: {error}")
    twice = ", themselves quantised" if "nested_absmax" in beside else ""
    because = f"4-bit codes times the largest magnitude of each {size:,} elements{twice} (bitsandbytes)"
    return Combined(name, companions, tensor, because=because)


def _settings(state: Tensor) -> dict[str, Any]:
    """The JSON object in a tensor of bytes."""
    try:
        settings = parsed(content(checked(state, ("U8",))), distinct)
    except ValueError as error:
        raise TensorError(f"its description is not valid JSON: {shortened(str(error))}") from error
    if not isinstance(settings, dict):
        raise TensorError("its description is not a JSON object")
    return settings


def _shape(settings: Mapping[str, Any]) -> tuple[int, ...]:
    shape = settings.get("shape")
    if not isinstance(shape, list) or not 0 < len(shape) <= LIMITS.rank:
        raise TensorError("its description gives no shape")
    if not all(isinstance(size, int) and not isinstance(size, bool) and 0 < size <= LIMITS.elements for size in shape):
        raise TensorError(f"its description gives the shape {quoted(shape)}")
    if math.prod(shape) > LIMITS.elements:
        raise TensorError(f"its description gives the elements of its shape as {over('elements')}")
    return tuple(shape)


def _positive(settings: Mapping[str, Any], key: str) -> int:
    value = settings.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= LIMITS.elements:
        raise TensorError(f"its description gives the {key} {quoted(value)}")
    return value


def _values(beside: Mapping[str, Tensor], part: str, number: int) -> NDArray[np.float32]:
    """The values that codes stand for."""
    if part not in beside:
        raise TensorError(f"its {part} is not there")
    table = checked(beside[part], ("F32",), (number,))
    order = "<f4" if table.storage.byte_order == "little" else ">f4"
    return np.frombuffer(content(table), order).astype(np.float32)


def _scales(beside: Mapping[str, Tensor], settings: Mapping[str, Any], blocks: int, shelf: Shelf) -> Numbers:
    if "absmax" not in beside:
        raise TensorError("its absmax is not there")
    if "nested_absmax" not in beside:
        return Table(checked(beside["absmax"], FLOATS, (blocks,), (blocks, 1)), shelf)
    codes = checked(beside["absmax"], ("U8",), (blocks,), (blocks, 1))
    size, offset = _positive(settings, "nested_blocksize"), settings.get("nested_offset")
    if not isinstance(offset, int | float) or isinstance(offset, bool) or abs(offset) > 1e30:
        raise TensorError(f"its description gives the nested_offset {quoted(offset)}")
    outer = -(-blocks // size)
    scales = checked(beside["nested_absmax"], ("F32",), (outer,), (outer, 1))
    values = _values(beside, "nested_quant_map", 256)
    return _Nested(Table(codes, shelf), values, Table(scales, shelf), size, float(offset))


class _Part:
    """A fixed part of what a table holds."""

    def __init__(self, table: Numbers, factor: float) -> None:
        self._table, self._factor = table, np.float32(factor)

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        return self._table.read(first, last) * self._factor


class _Nested:
    """Largest magnitudes that are codes themselves: a value times the largest magnitude of their block, plus an
    offset."""

    def __init__(self, codes: Table, values: NDArray[np.float32], scales: Table, size: int, offset: float) -> None:
        self._codes, self._values, self._scales, self._size, self._offset = codes, values, scales, size, offset

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        start = first // self._size
        scales = self._scales.read(start, -(-last // self._size))
        index = np.arange(first, last) // self._size - start
        return self._values[self._codes.raw(first, last)] * scales[index] + np.float32(self._offset)
