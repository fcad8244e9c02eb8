"""Weights that AutoGPTQ and GPTQModel packed: Frantar et al., arXiv:2210.17323.

`qweight` (inputs / 32 * bits, outputs) holds the codes of 32 / bits inputs in each word, `scales` (groups, outputs)
their factors and `qzeros` (groups, outputs / 32 * bits) the codes that stand for zero; `g_idx` (inputs) tells the group
of each input. Layout: https://github.com/AutoGPTQ/AutoGPTQ, auto_gptq/nn_modules/qlinear/qlinear_cuda_old.py.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightstats.effective_weights import Combined
from weightstats.effective_weights.companion_uses import companion
from weightstats.effective_weights.companions import FLOATS, PackedTable, Shelf, Table, checked, tile
from weightstats.effective_weights.dequantised import Codes, Factor, Grid, dequantised
from weightstats.effective_weights.packed_words import unpacked
from weightstats.effective_weights.quantisation_config import number, quantisation, text
from weightstats.errors import TensorError, quoted
from weightstats.tensors import Tensor, Use

BITS = (2, 3, 4, 8)

STORED_LESS_ONE = {"": True, "gptq": True, "gptq_v2": False}
"""Whether the codes for zero are stored less one, by `checkpoint_format`; releases that did not name it did so. The
highest code can only have been 0 less one: AutoGPTQ's qlinear_cuda_old.py takes it so too, others of its kernels take
it for one beyond all codes."""

METHODS = ("", "gptq")
"""`quant_method` that is laid out so."""

PACKED_AS_GPTQ = ("auto_round:auto_gptq",)
"""`packing_format` of AutoRound that is laid out so."""

COMPANIONS = {"scales": "scales", "qzeros": "packed zero points", "g_idx": "groups of the inputs"}


def combined(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Iterator[Combined]:
    """One weight for each `qweight` beside which there are `scales` of as many outputs."""
    shelf = Shelf()
    settings = quantisation(config)
    for name, carrier in tensors.items():
        module, _, leaf = name.rpartition("qweight")
        scales = tensors.get(f"{module}scales")
        if leaf or module[-1:] not in ("", ".") or scales is None or f"{module}qzeros" not in tensors:
            continue
        if not len(carrier.shape) == len(scales.shape) == 2 or scales.shape[1] != carrier.shape[1]:
            continue
        companions = {module + part: companion(what) for part, what in COMPANIONS.items() if module + part in tensors}
        try:
            bits = _bits(carrier, tensors[f"{module}qzeros"], settings)
            tensor = _decoded(
                carrier,
                {part: tensors[module + part] for part in COMPANIONS if module + part in tensors},
                bits,
                settings,
                shelf,
            )
        except TensorError as error:
            yield Combined(name, companions, unresolved=f"packed weights of GPTQ that cannot be decoded: {error}")
        else:
            groups = scales.shape[0]
            because = f"{bits}-bit codes less their zero points, times the scales of {groups:,} groups of inputs (GPTQ)"
            yield Combined(name, companions, tensor, known_as=f"{module}weight", because=because)


def _bits(carrier: Tensor, zeros: Tensor, settings: Mapping[str, Any]) -> int:
    """Bits of one code: what the shapes imply, and the configuration does not contradict."""
    checked(carrier, ("I32", "U32"))
    checked(zeros, ("I32", "U32"))
    outputs = carrier.shape[1]
    fitting = [bits for bits in BITS if len(zeros.shape) == 2 and zeros.shape[1] * 32 == outputs * bits]
    if not fitting or not outputs:
        raise TensorError(
            f"the shapes {quoted(carrier.shape)} and {quoted(zeros.shape)} fit none of 2, 3, 4 and 8 bits"
        )
    configured = number(settings, "bits", "w_bit")
    overridden = bool(settings.get("dynamic"))  # GPTQModel's other bits for some of the layers
    if configured is not None and configured != fitting[0] and not overridden:
        raise TensorError(
            f"its shapes are those of {fitting[0]} bits, the configuration speaks of {quoted(configured)}"
        )
    return fitting[0]


def _decoded(
    carrier: Tensor, beside: Mapping[str, Tensor], bits: int, settings: Mapping[str, Any], shelf: Shelf
) -> Tensor:
    words, height = tile(bits)
    rows, outputs = carrier.shape
    if rows % words:
        raise TensorError(f"its {rows:,} rows of words are no whole number of {bits}-bit codes")
    inputs = rows // words * height
    groups = beside["scales"].shape[0]
    checked(beside["scales"], FLOATS)
    checked(beside["qzeros"], ("I32", "U32"), (groups, outputs * bits // 32))
    grid = _grid(inputs, outputs, groups, beside.get("g_idx"), settings, shelf)
    scales = Table(beside["scales"], shelf)
    zeros = PackedTable(Table(beside["qzeros"], shelf), bits, more=int(_stored_less_one(settings)))
    order = "<u4" if carrier.storage.byte_order == "little" else ">u4"

    def numbers(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
        packed = raw.reshape(-1).view(order).astype(np.uint32, copy=False)
        return unpacked(packed.reshape(len(raw), words, outputs), bits).astype(np.float32)

    return dequantised(
        f"GPTQ-{bits}bit",
        carrier,
        (inputs, outputs),
        Codes(height * outputs, 4 * words * outputs, numbers),
        (Factor(scales, grid),),
        Factor(zeros, grid),
        tuple(beside.values()),
        Use("linear", "IO", "a weight that GPTQ packed, inputs first", by="name"),
    )


def _grid(
    inputs: int, outputs: int, groups: int, order: Tensor | None, settings: Mapping[str, Any], shelf: Shelf
) -> Grid:
    """Which group each input is in: its entry in `g_idx`, or the one that its place falls into."""
    if not groups:
        raise TensorError("it has no scales")
    if order is not None and order.elements:
        shelf.check_together(2 * groups * outputs + inputs)
        table = Table(checked(order, ("I32", "I64"), (inputs,)), shelf)
        return Grid(inputs, outputs, 1, 1, row_group=table, row_groups=groups)
    size = number(settings, "group_size") or 0
    if size < 1 or -(-inputs // size) != groups:
        size = inputs // groups
    if -(-inputs // max(size, 1)) != groups:
        raise TensorError(f"{groups:,} groups do not divide {inputs:,} inputs, and no g_idx tells them apart")
    return Grid(inputs, outputs, size, 1)


def _stored_less_one(settings: Mapping[str, Any]) -> bool:
    """Whether 1 is to be added to each stored zero point; TensorError where the configuration names another layout."""
    layout, method = text(settings, "checkpoint_format"), text(settings, "quant_method")
    if method not in METHODS and text(settings, "packing_format") not in PACKED_AS_GPTQ:
        raise TensorError(f"the configuration calls the method {quoted(method)}")
    if layout not in STORED_LESS_ONE or settings.get("planar"):
        raise TensorError(f"the configuration calls the layout {quoted(layout)}")
    return STORED_LESS_ONE[layout]
