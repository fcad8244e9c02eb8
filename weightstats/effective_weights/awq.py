"""Weights that AutoAWQ packed for its GEMM kernels: Lin et al., arXiv:2306.00978.

`qweight` (inputs, outputs / 8) holds the 4-bit codes of eight outputs in each word, `qzeros` (groups, outputs / 8)
those that stand for zero, `scales` (groups, outputs) their factors. Layout: https://github.com/casper-hansen/AutoAWQ,
awq/utils/packing_utils.py.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightstats.effective_weights import Combined
from weightstats.effective_weights.companion_uses import companion
from weightstats.effective_weights.companions import FLOATS, Shelf, Table, checked
from weightstats.effective_weights.dequantised import Codes, Factor, Grid, dequantised
from weightstats.effective_weights.quantisation_config import number, quantisation, text
from weightstats.errors import TensorError, quoted
from weightstats.tensors import Tensor, Use

VERSIONS = ("", "gemm")
"""`version` (AutoAWQ's, in the configuration) that is laid out so."""

METHODS = ("", "awq")

PACKED_AS_AWQ = ("auto_round:auto_awq",)
"""`packing_format` of AutoRound that is laid out so."""

COMPANIONS = {"scales": "scales", "qzeros": "packed zero points"}


def combined(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Iterator[Combined]:
    """One weight for each `qweight` beside which there are `scales` of other widths than GPTQ's."""
    shelf = Shelf()
    settings = quantisation(config)
    for name, carrier in tensors.items():
        module, _, leaf = name.rpartition("qweight")
        beside = {part: tensors[module + part] for part in COMPANIONS if module + part in tensors}
        if leaf or module[-1:] not in ("", ".") or len(beside) < len(COMPANIONS):
            continue
        companions = {module + part: companion(what) for part, what in COMPANIONS.items()}
        try:
            tensor = _decoded(carrier, beside["scales"], beside["qzeros"], settings, shelf)
        except TensorError as error:
            yield Combined(name, companions, unresolved=f"packed weights that cannot be decoded: {error}")
        else:
            groups = beside["scales"].shape[0]
            because = f"4-bit codes less their zero points, times the scales of {groups:,} groups of inputs (AWQ)"
            yield Combined(name, companions, tensor, known_as=f"{module}weight", because=because)


def _decoded(carrier: Tensor, scales: Tensor, zeros: Tensor, settings: Mapping[str, Any], shelf: Shelf) -> Tensor:
    checked(carrier, ("I32", "U32"))
    if len(carrier.shape) != 2 or len(scales.shape) != 2 or scales.shape[1] != 8 * carrier.shape[1]:
        shapes = f"{quoted(carrier.shape)} and {quoted(scales.shape)}"
        raise TensorError(f"codes and scales of {shapes} are neither GPTQ's nor those of AWQ's GEMM layout")
    inputs, words = carrier.shape
    groups, outputs = scales.shape
    if not groups or inputs % groups:
        raise TensorError(f"its {inputs:,} inputs are no whole number of {groups:,} groups")
    _check(settings)
    checked(scales, FLOATS)
    checked(zeros, ("I32", "U32"), (groups, words))
    grid = Grid(inputs, outputs, inputs // groups, 1)
    order = "<u4" if carrier.storage.byte_order == "little" else ">u4"

    def numbers(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
        return _unpacked(raw.view(order).reshape(-1)).astype(np.float32)

    return dequantised(
        "AWQ-4bit",
        carrier,
        (inputs, outputs),
        Codes(8, 4, numbers),
        (Factor(Table(scales, shelf), grid),),
        Factor(_Zeros(Table(zeros, shelf)), grid),
        (scales, zeros),
        Use("linear", "IO", "a weight that AWQ packed, inputs first", by="name"),
    )


def _check(settings: Mapping[str, Any]) -> None:
    """TensorError where the configuration names another layout."""
    version, method, bits = text(settings, "version"), text(settings, "quant_method"), number(settings, "bits", "w_bit")
    if method not in METHODS and text(settings, "packing_format") not in PACKED_AS_AWQ:
        raise TensorError(f"the configuration calls the method {quoted(method)}")
    if version not in VERSIONS:
        raise TensorError(f"the configuration calls the layout {quoted(version)}")
    if bits not in (None, 4):
        raise TensorError(f"the configuration speaks of {quoted(bits)} bits")


def _unpacked(words: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """(n) to (n, 8): the codes of eight outputs in their order."""
    parts = words.astype("<u4", copy=False).view(np.uint8).reshape(-1, 4)
    codes = np.empty((len(words), 8), np.uint8)
    low, high = parts & 15, parts >> 4
    codes[:, 0:2], codes[:, 2:4] = low[:, 0::2], high[:, 0::2]  # the order of the kernels, which dequantise pairs
    codes[:, 4:6], codes[:, 6:8] = low[:, 1::2], high[:, 1::2]
    return codes


class _Zeros:
    """The codes that stand for zero, group by group."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        start = first // 8
        codes = _unpacked(self._table.words(start, -(-last // 8))).reshape(-1)
        return codes[first - 8 * start : last - 8 * start].astype(np.float32)
