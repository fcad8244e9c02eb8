"""Experts in MXFP4, as gpt-oss keeps them: OCP microscaling formats specification 1.0.

`NAME_blocks` (experts, outputs, blocks, 16) holds 32 E2M1 numbers in 16 bytes, the first in the low half; `NAME_scales`
(experts, outputs, blocks) the exponent of each block plus 127. Gate and up lie in alternate outputs. Sources:
https://github.com/openai/gpt-oss, gpt_oss/torch/weights.py (`.blocks`, `.scales`) and model.py (swiglu);
https://github.com/huggingface/transformers, integrations/mxfp4.py, which then puts the inputs first.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from weightstats.effective_weights import Combined
from weightstats.effective_weights.companion_uses import companion
from weightstats.effective_weights.companions import Shelf, Table, checked
from weightstats.effective_weights.dequantised import Codes, Factor, Grid, dequantised
from weightstats.effective_weights.e2m1 import numbers
from weightstats.effective_weights.exponents import Exponents
from weightstats.errors import TensorError, quoted
from weightstats.tensors import Part, Slice, Tensor, Use

BLOCK = 32
"""Elements that share an exponent."""

GATE_AND_UP = ("gate_up_proj", "mlp1_weight")
"""What holds gate and up in alternate outputs: transformers' name and OpenAI's."""

MOST_EXPERTS = 2_048
"""Of one stack; published ones have up to 512."""

PAIRS_OF_NAMES = (("_blocks", "_scales"), (".blocks", ".scales"))


def combined(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Iterator[Combined]:
    """One stack of experts for each pair of blocks and scales of bytes."""
    shelf = Shelf()
    for name, carrier in tensors.items():
        for blocks, scales in PAIRS_OF_NAMES:
            known_as = name.removesuffix(blocks)
            beside = tensors.get(f"{known_as}{scales}")
            if known_as == name or beside is None or carrier.dtype.name != "U8" or beside.dtype.name != "U8":
                continue
            companions = {f"{known_as}{scales}": companion("exponents")}
            try:
                tensor = _decoded(known_as, carrier, beside, shelf)
            except TensorError as error:
                yield Combined(name, companions, unresolved=f"packed weights in MXFP4 that cannot be decoded: {error}")
            else:
                because = f"E2M1 numbers times a power of two for each {BLOCK} (MXFP4)"
                yield Combined(name, companions, tensor, known_as=known_as, because=because)


def _decoded(known_as: str, carrier: Tensor, scales: Tensor, shelf: Shelf) -> Tensor:
    if len(carrier.shape) != 4 or carrier.shape[3] * 2 != BLOCK or not carrier.elements:
        raise TensorError(f"its shape {quoted(carrier.shape)} is not (experts, outputs, blocks, 16)")
    experts, outputs, blocks, _ = carrier.shape
    if experts > MOST_EXPERTS:
        raise TensorError(f"it claims {experts:,} experts, more than {MOST_EXPERTS:,}")
    checked(scales, ("U8",), (experts, outputs, blocks))
    elements = 2 * carrier.elements
    return dequantised(
        "MXFP4",
        carrier,
        (experts, outputs, BLOCK * blocks),
        Codes(BLOCK, BLOCK // 2, numbers),
        (Factor(Exponents(Table(scales, shelf)), Grid(1, elements, 1, BLOCK)),),
        companions=(scales,),
        use=_use(known_as, experts, outputs),
    )


def _use(known_as: str, experts: int, outputs: int) -> Use:
    """One map an expert, or two where gate and up are fused."""
    parts: list[Part] = []
    fused = known_as.rpartition(".")[2] in GATE_AND_UP and outputs % 2 == 0
    for expert in range(experts):
        whole = Slice(0, expert, 1, experts)
        if fused:
            parts.append(Part(f"{expert},gate", (whole, Slice(1, 0, 1, 2))))
            parts.append(Part(f"{expert},up", (whole, Slice(1, 1, 1, 2))))
        else:
            parts.append(Part(str(expert), (whole,)))
    because = f"a stack of {experts:,} experts, outputs first" + (", gate and up in turn" if fused else "")
    return Use("linear", "BOI", because, by="name", parts=tuple(parts))
