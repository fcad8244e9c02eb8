"""Stored numbers become the floats that numpy, torch and ml_dtypes make of them."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from weightstats.dtypes import DTYPES, ByteOrder
from weightstats.readers import safetensors_file
from weightstats.schemas.torch_records import STORAGE_DTYPES, TORCH_DTYPES
from weightstats.tensors import Buffers

NUMPY = (
    {"F64": "f8", "F32": "f4", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1"}
    | {"U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1"}
    | {"C64": "c8", "C128": "c16"}
)
TORCH = {"F16": torch.float16, "BF16": torch.bfloat16}
EIGHT_BITS = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}
ORDERS: tuple[ByteOrder, ...] = ("little", "big")


def decoded(name: str, raw: bytes, order: ByteOrder = "little") -> NDArray[np.float64]:
    buffers = Buffers()
    buffers.raw[: len(raw)] = np.frombuffer(raw, np.uint8)
    floats = DTYPES[name].restore(DTYPES[name].decode(buffers.raw[: len(raw)], order, buffers.words))
    with np.errstate(invalid="ignore"):  # widening a signalling NaN
        return floats.astype(np.float64)


def assert_same(found: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    """Equal with NaN at the same places, and with the sign of zeros and infinities."""
    np.testing.assert_array_equal(found, expected)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found[known]), np.signbit(expected[known]))


def torch_values(name: str, patterns: NDArray[np.uint16]) -> NDArray[np.float64]:
    return torch.from_numpy(patterns.view(np.int16)).view(TORCH[name]).to(torch.float64).numpy()


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("F32", "0000803f", 1.0),
        ("F64", "000000000000f0bf", -1.0),
        ("F16", "0100", 2.0**-24),
        ("F16", "ff7b", 65504.0),
        ("BF16", "803f", 1.0),
        ("F8_E4M3", "7e", 448.0),
        ("F8_E5M2", "7b", 57344.0),
        ("F8_E4M3FNUZ", "7f", 240.0),
        ("F8_E5M2FNUZ", "01", 2.0**-17),
        ("C64", "0000404000008040", 5.0),
        ("I64", "ffffffffffffffff", -1.0),
        ("I8", "80", -128.0),
        ("U64", "ffffffffffffffff", 2.0**64),
        ("U16", "ffff", 65535.0),
        ("BOOL", "01", 1.0),
    ],
)
def test_a_known_pattern_has_its_known_value(name: str, raw: str, expected: float) -> None:
    assert decoded(name, bytes.fromhex(raw)).tolist() == [expected]


def test_every_dtype_is_held_against_an_oracle() -> None:
    assert set(DTYPES) == {*NUMPY, *TORCH, *EIGHT_BITS, "BOOL"}


def test_every_name_that_a_format_uses_is_a_dtype() -> None:
    assert {*STORAGE_DTYPES.values(), *TORCH_DTYPES.values()} <= DTYPES.keys()
    assert DTYPES.keys().isdisjoint(safetensors_file.BITS)


@pytest.mark.parametrize("name", TORCH_DTYPES)
def test_an_element_is_as_wide_as_torch_has_it(name: str) -> None:
    assert DTYPES[TORCH_DTYPES[name]].width == getattr(torch, name).itemsize


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", NUMPY)
@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_bytes_are_what_numpy_reads_in_them(name: str, order: ByteOrder, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 20))
    raw = data.draw(st.binary(min_size=count * DTYPES[name].width, max_size=count * DTYPES[name].width))
    with np.errstate(all="ignore"):
        stored = np.frombuffer(raw, ("<" if order == "little" else ">") + NUMPY[name])
        wide = np.abs(stored.astype(np.complex128)) if name[0] == "C" else stored.astype(np.float64)
        assert_same(decoded(name, raw, order), wide)


def test_booleans_are_zero_and_one() -> None:
    assert decoded("BOOL", b"\x00\x01\x01").tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", TORCH)
def test_every_half_is_what_torch_reads_in_it(name: str, order: ByteOrder) -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16)
    raw = patterns.astype("<u2" if order == "little" else ">u2").tobytes()
    assert_same(decoded(name, raw, order), torch_values(name, patterns))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", TORCH)
def test_every_finite_half_is_what_torch_reads_in_it_where_no_other_is_near(name: str, order: ByteOrder) -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16)
    patterns = patterns[np.isfinite(torch_values(name, patterns))]
    raw = patterns.astype("<u2" if order == "little" else ">u2").tobytes()
    assert_same(decoded(name, raw, order), torch_values(name, patterns))


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("pattern", [0x7C00, 0x7C01, 0x7F80, 0x7F81, 0x7FFF, 0xFC00, 0xFC01, 0xFF80, 0xFF81, 0xFFFF])
def test_one_infinity_or_nan_among_finite_halves_is_kept(name: str, pattern: int) -> None:
    patterns = np.array([0x0001, pattern, 0x8001, 0x3C00], np.uint16)
    assert_same(decoded(name, patterns.tobytes()), torch_values(name, patterns))


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_every_8_bit_float_is_what_ml_dtypes_reads_in_it(name: str) -> None:
    codes = np.arange(256, dtype=np.uint8)
    assert_same(decoded(name, codes.tobytes()), codes.view(EIGHT_BITS[name]).astype(np.float64))


@pytest.mark.parametrize("name", DTYPES)
def test_no_bytes_are_no_numbers(name: str) -> None:
    assert decoded(name, b"").tolist() == []
