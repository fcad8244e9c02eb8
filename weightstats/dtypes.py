"""How stored numbers become floats: one entry a dtype, named as safetensors names them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32 | np.float64]
ByteOrder: TypeAlias = Literal["little", "big"]
Kind: TypeAlias = Literal["float", "complex", "integer", "bool"]


def _as_it_is(floats: Floats) -> Floats:
    return floats


@dataclass(frozen=True, slots=True)
class DType:
    """A type of stored element."""

    name: str
    kind: Kind
    width: int
    """Bytes of one element."""

    decode: Callable[[Bytes, ByteOrder, NDArray[np.uint32]], Floats]
    """Raw bytes, their order and a buffer of at least as many 32-bit words as elements, to floats.

    The result may lie in either input; it is valid until they are used again. Complex numbers become their
    magnitudes. Elements that are not finite may come out as finite ones of 65536 and more, until `restore`.
    """

    restore: Callable[[Floats], Floats] = _as_it_is
    """Puts infinities and NaN back into what `decode` gave."""


def _plain(code: str) -> Callable[[Bytes, ByteOrder, NDArray[np.uint32]], Floats]:
    """A decoder for a type that numpy has; `code` is numpy's, without the byte order."""
    native = np.float32 if code in ("f4", "c8") else np.float64

    def decode(raw: Bytes, order: ByteOrder, words: NDArray[np.uint32]) -> Floats:
        stored: NDArray[Any] = raw.view(("<" if order == "little" else ">") + code)
        if code[0] == "c":
            return np.abs(stored.astype(np.complex128))
        floats: Floats = stored.astype(native, copy=False)
        return floats

    return decode


def _half_words(raw: Bytes, order: ByteOrder) -> NDArray[np.uint16]:
    return raw.view("<u2" if order == "little" else ">u2").astype(np.uint16, copy=False)


def _bfloat16(raw: Bytes, order: ByteOrder, words: NDArray[np.uint32]) -> Floats:
    """The upper half of a float32."""
    half = _half_words(raw, order)
    wide = words[: half.size]
    np.left_shift(half, 16, out=wide, dtype=np.uint32)
    return wide.view(np.float32)


_F16_SIGN_AND_REST = np.uint32(0x8FFFE000)
_F16_TO_F32 = np.float32(2.0**112)
_F16_BEYOND = np.float32(65536.0)
"""The least magnitude that float16's largest exponent would have if it stood for numbers."""


def _float16(raw: Bytes, order: ByteOrder, words: NDArray[np.uint32]) -> Floats:
    """Bits moved to where float32 has them, then the exponent's bias corrected by a product: exact, subnormals too.

    numpy's own conversion is several times slower. Infinities come out as 65536 and NaN as more; `_restored` knows.
    """
    half = _half_words(raw, order)
    wide = words[: half.size]
    np.left_shift(half.view(np.int16), 13, out=wide.view(np.int32), dtype=np.int32)
    np.bitwise_and(wide, _F16_SIGN_AND_REST, out=wide)
    floats = wide.view(np.float32)
    np.multiply(floats, _F16_TO_F32, out=floats)
    return floats


def _restored(floats: Floats) -> Floats:
    """float16's infinities and NaN, out of what `_float16` makes of them."""
    magnitudes = np.abs(floats)
    if magnitudes.size == 0 or np.maximum.reduce(magnitudes) < _F16_BEYOND:
        return floats
    floats = np.where(magnitudes == _F16_BEYOND, np.copysign(np.float32(np.inf), floats), floats)
    return np.where(magnitudes > _F16_BEYOND, np.float32(np.nan), floats)


def _minifloats(exponent_bits: int, bias: int, special: Literal["ieee", "fn", "fnuz"]) -> NDArray[np.float32]:
    """The 256 values of an 8-bit float with one sign bit.

    `ieee`: the largest exponent holds infinities and NaN; `fn`: no infinities, NaN where all bits are set;
    `fnuz`: neither infinities nor a negative zero, whose pattern is the only NaN.
    Source: OCP 8-bit floating point specification 1.0; Noune et al., arXiv:2206.02915.
    """
    mantissa_bits = 7 - exponent_bits
    codes = np.arange(256)
    sign = np.where(codes & 0x80, -1.0, 1.0)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    fraction = (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    normal = np.ldexp(1.0 + fraction, exponent - bias)
    values = sign * np.where(exponent == 0, np.ldexp(fraction, 1 - bias), normal)
    if special == "ieee":
        top = exponent == (1 << exponent_bits) - 1
        values = np.where(top, np.where(fraction == 0, sign * np.inf, np.nan), values)
    elif special == "fn":
        values = np.where((codes & 0x7F) == 0x7F, np.nan, values)
    else:
        values = np.where(codes == 0x80, np.nan, values)
    return values.astype(np.float32)


def _table(values: NDArray[np.float32]) -> Callable[[Bytes, ByteOrder, NDArray[np.uint32]], Floats]:
    def decode(raw: Bytes, order: ByteOrder, words: NDArray[np.uint32]) -> Floats:
        floats = words[: raw.size].view(np.float32)
        np.take(values, raw, out=floats, mode="clip")
        return floats

    return decode


DTYPES: dict[str, DType] = {
    dtype.name: dtype
    for dtype in (
        DType("F64", "float", 8, _plain("f8")),
        DType("F32", "float", 4, _plain("f4")),
        DType("F16", "float", 2, _float16, _restored),
        DType("BF16", "float", 2, _bfloat16),
        DType("F8_E4M3", "float", 1, _table(_minifloats(4, 7, "fn"))),
        DType("F8_E5M2", "float", 1, _table(_minifloats(5, 15, "ieee"))),
        DType("F8_E4M3FNUZ", "float", 1, _table(_minifloats(4, 8, "fnuz"))),
        DType("F8_E5M2FNUZ", "float", 1, _table(_minifloats(5, 16, "fnuz"))),
        DType("F8_E8M0", "float", 1, _table(np.append(2.0 ** np.arange(-127.0, 128.0), np.nan).astype(np.float32))),
        DType("C64", "complex", 8, _plain("c8")),
        DType("C128", "complex", 16, _plain("c16")),
        DType("I64", "integer", 8, _plain("i8")),
        DType("I32", "integer", 4, _plain("i4")),
        DType("I16", "integer", 2, _plain("i2")),
        DType("I8", "integer", 1, _plain("i1")),
        DType("U64", "integer", 8, _plain("u8")),
        DType("U32", "integer", 4, _plain("u4")),
        DType("U16", "integer", 2, _plain("u2")),
        DType("U8", "integer", 1, _plain("u1")),
        DType("BOOL", "bool", 1, _plain("u1")),
    )
}
"""Every dtype that can be read, by name."""

NAMES: dict[str, str] = {
    "bool": "BOOL",
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"complex{bits}": f"C{bits}" for bits in (64, 128)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}
"""Dtypes by the names that numpy, ml_dtypes and torch all give them (`numpy.dtype.name`, `torch.dtype`)."""


def affine(name: str, stored: str, scale: float, zero_point: int) -> DType:
    """Integers that stand for (q - zero_point) * scale: a whole tensor quantised with one scale.

    `stored` is the name of the integers' dtype, `name` what the report calls the quantised one. KeyError for a dtype
    that is not in the table.
    """
    integers = DTYPES[stored]

    def decode(raw: Bytes, order: ByteOrder, words: NDArray[np.uint32]) -> Floats:
        return (integers.decode(raw, order, words) - zero_point) * scale

    return DType(name, "float", integers.width, decode)
