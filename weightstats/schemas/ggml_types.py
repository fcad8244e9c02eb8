"""The element types of ggml, by the numbers that GGUF files give them, and how their blocks become floats.

Origin: ggml, include/ggml.h (the numbers), src/ggml-common.h (the blocks) and src/ggml-quants.c (their values), at
commit d99724f2. Blocks are decoded by the `gguf` library, but for four types that its version 0.19 does not decode.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightstats.dtypes import ByteOrder
from weightstats.encodings import Encoding
from weightstats.errors import TensorError

Blocks = NDArray[np.uint8]
Decoder = Callable[[Blocks], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class GgmlType:
    """A type of element, or of block of elements."""

    number: int
    name: str
    """As ggml has it, in capitals; for a type of one element also the name in `dtypes`."""

    block_elements: int
    block_bytes: int
    halves: tuple[int, ...] | None = None
    """Where a block has 16-bit numbers; None where no byte order but little-endian is defined for the type.

    Origin of the definition: gguf-py, gguf/scripts/gguf_convert_endian.py, which converts these types and no others.
    """

    decode: Decoder | None = None
    """Own decoder, of little-endian blocks; without one, the `gguf` library has it."""

    @property
    def is_plain(self) -> bool:
        """Whether an element stands for itself."""
        return self.block_elements == 1


def _scaled(numbers: NDArray[Any], scales: NDArray[Any]) -> NDArray[np.float32]:
    return numbers.astype(np.float32) * scales.astype(np.float32)


def _q8_1(blocks: Blocks) -> NDArray[np.float32]:
    """A scale, a sum that only products need, and 8-bit integers; ggml itself keeps it for activations."""
    return _scaled(blocks[:, 4:].view(np.int8), np.ascontiguousarray(blocks[:, :2]).view("<f2"))


def _q8_k(blocks: Blocks) -> NDArray[np.float32]:
    """A 32-bit scale, 8-bit integers, and sums that only products need; `dequantize_row_q8_K`."""
    return _scaled(blocks[:, 4:260].view(np.int8), np.ascontiguousarray(blocks[:, :4]).view("<f4"))


def _q1_0(blocks: Blocks) -> NDArray[np.float32]:
    """Signs, the least significant bit first; `dequantize_row_q1_0`."""
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").view(np.int8)
    return _scaled(2 * bits - 1, np.ascontiguousarray(blocks[:, :2]).view("<f2"))


def _q2_0(blocks: Blocks) -> NDArray[np.float32]:
    """-1, 0, 1 or 2 times the scale, the least significant pair of bits first; `dequantize_row_q2_0`."""
    pairs = (blocks[:, 2:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    numbers = pairs.reshape(len(blocks), -1).view(np.int8) - 1
    return _scaled(numbers, np.ascontiguousarray(blocks[:, :2]).view("<f2"))


GGML_TYPES: dict[int, GgmlType] = {
    type_.number: type_
    for type_ in (
        GgmlType(0, "F32", 1, 4),
        GgmlType(1, "F16", 1, 2),
        GgmlType(2, "Q4_0", 32, 18, (0,)),
        GgmlType(3, "Q4_1", 32, 20),
        GgmlType(6, "Q5_0", 32, 22),
        GgmlType(7, "Q5_1", 32, 24),
        GgmlType(8, "Q8_0", 32, 34, (0,)),
        GgmlType(9, "Q8_1", 32, 36, decode=_q8_1),  # gguf 0.19 has 40 bytes, the size before March 2024
        GgmlType(10, "Q2_K", 256, 84),
        GgmlType(11, "Q3_K", 256, 110),
        GgmlType(12, "Q4_K", 256, 144, (0, 2)),
        GgmlType(13, "Q5_K", 256, 176),
        GgmlType(14, "Q6_K", 256, 210, (208,)),
        GgmlType(15, "Q8_K", 256, 292, decode=_q8_k),
        GgmlType(16, "IQ2_XXS", 256, 66),
        GgmlType(17, "IQ2_XS", 256, 74),
        GgmlType(18, "IQ3_XXS", 256, 98),
        GgmlType(19, "IQ1_S", 256, 50),
        GgmlType(20, "IQ4_NL", 32, 18),
        GgmlType(21, "IQ3_S", 256, 110),
        GgmlType(22, "IQ2_S", 256, 82),
        GgmlType(23, "IQ4_XS", 256, 136),
        GgmlType(24, "I8", 1, 1),
        GgmlType(25, "I16", 1, 2),
        GgmlType(26, "I32", 1, 4),
        GgmlType(27, "I64", 1, 8),
        GgmlType(28, "F64", 1, 8),
        GgmlType(29, "IQ1_M", 256, 56),
        GgmlType(30, "BF16", 1, 2),
        GgmlType(34, "TQ1_0", 256, 54),
        GgmlType(35, "TQ2_0", 256, 66),
        GgmlType(39, "MXFP4", 32, 17, ()),
        GgmlType(40, "NVFP4", 64, 36, ()),
        GgmlType(41, "Q1_0", 128, 18, decode=_q1_0),
        GgmlType(42, "Q2_0", 64, 18, decode=_q2_0),
    )
}
"""Every type that a GGUF file may have today."""

REMOVED: dict[int, str] = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}
"""Types that ggml once had in files and no longer reads."""


def encoding_of(type_: GgmlType, order: ByteOrder, library: Callable[[], ModuleType]) -> Encoding:
    """How blocks of a type are decoded; `library` gives the `gguf` library and is called where that is needed.

    TensorError where the library does not decode the type, or where no big-endian form of its blocks is defined.
    """
    if order == "big" and type_.halves is None:
        raise TensorError(f"how a big-endian file has blocks of {type_.name} is not defined")
    decode = type_.decode or _decoder(type_, library())
    columns = np.arange(type_.block_bytes)
    for start in (type_.halves or ()) if order == "big" else ():
        columns[[start, start + 1]] = start + 1, start

    def decode_blocks(raw: Blocks, first: int) -> NDArray[np.float32]:
        return decode(raw if order == "little" else raw[:, columns])

    return Encoding(type_.name, type_.block_elements, type_.block_bytes, decode_blocks)


def _decoder(type_: GgmlType, library: ModuleType) -> Decoder:
    """The library's decoder for a type; TensorError where it has none, or one for blocks of another size."""
    problem = _problem(type_, library)
    if problem is not None:
        raise TensorError(problem)
    return lambda blocks: _decoded(type_, library, blocks)


def _decoded(type_: GgmlType, library: ModuleType, blocks: Blocks) -> NDArray[np.float32]:
    row = blocks.reshape(1, -1)  # the library works on sixteen rows at a time: many short ones would take it long
    floats: NDArray[np.float32] = library.quants.dequantize(row, library.GGMLQuantizationType(type_.number))
    return floats.reshape(-1, type_.block_elements)


@functools.cache
def _problem(type_: GgmlType, library: ModuleType) -> str | None:
    """Why the library cannot decode a type, by what it makes of one block; None where it can."""
    try:
        decoded = _decoded(type_, library, np.zeros((1, type_.block_bytes), np.uint8))
    except (AttributeError, AssertionError, NotImplementedError, ValueError):
        return f"the installed gguf library does not decode {type_.name}: a newer one may"
    if len(decoded) != 1:
        return f"the installed gguf library has blocks of another size for {type_.name}"
    return None
