"""The safetensors format: what its own writer writes is read, and what its specification forbids is refused."""

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from makers import distinct, ending_soon, entry, named_values, opened, reasons, safetensors_file, values

import weightstats
from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits
from weightstats.readers import open_checkpoint

FLOATS = 4
"""Bytes of one F32."""

DTYPES = (
    {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    | {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64}
    | {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "BOOL": torch.bool}
    | {"U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8}
)


def refused_by_the_library(path: Path) -> bool:
    try:
        with safetensors.safe_open(path, framework="pt"):
            return False
    except safetensors.SafetensorError:
        return True


def header_text(**tensors: Any) -> bytes:
    return json.dumps(tensors).encode()


ONE = header_text(a=entry("F32", [1], 0, 4))
"""The header of a file with one number."""


def test_the_file_of_the_format_s_own_example_is_read(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"made": "by hand"},
        "w": entry("F32", [2, 2], 0, 16),
        "b": entry("F16", [2], 16, 20),
    }
    data = np.array([1, 2, 3, 4], "<f4").tobytes() + np.array([5, 6], "<f2").tobytes()
    checkpoint = opened(tmp_path / "f", safetensors_file(header, data))
    assert [(tensor.path, tensor.shape, tensor.dtype.name) for tensor in checkpoint.tensors] == [
        (("b",), (2,), "F16"),
        (("w",), (2, 2), "F32"),
    ]
    assert named_values(checkpoint) == {"w": [1.0, 2.0, 3.0, 4.0], "b": [5.0, 6.0]}
    assert checkpoint.format == "safetensors"
    assert checkpoint.bytes == (tmp_path / "f").stat().st_size
    assert (checkpoint.unread, checkpoint.warnings, checkpoint.objects_not_loaded) == ((), (), ())


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 3), (2, 1, 3, 2)], ids=str)
@pytest.mark.parametrize("name", DTYPES)
def test_what_the_library_writes_is_read(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    raw = torch.randint(0, 2, (math.prod(shape) * DTYPES[name].itemsize,), generator=torch.Generator().manual_seed(7))
    stored = raw.to(torch.uint8).view(DTYPES[name]).reshape(shape)
    safetensors.torch.save_file({"t": stored, "other": torch.ones(1)}, tmp_path / "f")
    found = {tensor.name: tensor for tensor in open_checkpoint(str(tmp_path / "f")).tensors}
    assert (found["t"].shape, found["t"].dtype.name) == (shape, name)
    np.testing.assert_array_equal(np.sort(values(found["t"])), distinct(stored))
    assert values(found["other"]).tolist() == [1.0]


def test_elements_keep_their_order(tmp_path: Path) -> None:
    safetensors.torch.save_file({"t": torch.arange(6.0).reshape(3, 2).t().contiguous()}, tmp_path / "f")
    assert named_values(open_checkpoint(str(tmp_path / "f"))) == {"t": [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]}


@pytest.mark.parametrize("header", [b"{}", b"{}      ", b'{"__metadata__":{"format":"pt"}}', b'{"__metadata__":null}'])
def test_a_file_without_tensors_is_read(tmp_path: Path, header: bytes) -> None:
    assert opened(tmp_path / "f", safetensors_file(header)).tensors == ()


@pytest.mark.parametrize(
    "header",
    [
        *(ONE + b"   ", ONE + b"\n\t", b'{"__metadata__":null,' + ONE[1:], b'{"__metadata__":{},' + ONE[1:]),
        ONE.replace(b'"shape"', b'"more": [1, {"x": null}], "shape"'),
    ],
)
def test_what_the_format_lets_pass_is_read(tmp_path: Path, header: bytes) -> None:
    content = safetensors_file(header, struct.pack("<f", 2.5))
    assert named_values(opened(tmp_path / "f", content)) == {"a": [2.5]}
    assert not refused_by_the_library(tmp_path / "f")


@pytest.mark.parametrize("name", ["", "a/b", "../x", "ä", "\x00", "\x1b[31m", "[b]", "x" * 10_000, "__metadata"])
def test_a_name_is_only_text(tmp_path: Path, name: str) -> None:
    content = safetensors_file({name: entry("F32", [1], 0, 4)}, struct.pack("<f", 2.5))
    assert opened(tmp_path / "f", content).tensors[0].path == (name,)


def test_a_shape_with_a_zero_may_be_as_large_as_a_number_may(tmp_path: Path) -> None:
    header = {"a": entry("F32", [0, 2**60], 0, 0), "b": entry("F32", [1], 0, 4)}
    assert named_values(opened(tmp_path / "f", safetensors_file(header, bytes(4)))) == {"a": [], "b": [0.0]}


def test_empty_tensors_may_stand_anywhere(tmp_path: Path) -> None:
    header = {name: entry("F32", [0], at, at) for name, at in (("first", 0), ("between", 4), ("last", 8))}
    header |= {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 4, 8)}
    assert len(opened(tmp_path / "f", safetensors_file(header, bytes(8))).tensors) == 5


# Order


def in_file_order(path: Path, *names: str, dtypes: str = "") -> list[str]:
    """The names as read, of a file that holds one number for each in this order."""
    kinds = dtypes.split() or ["F32"] * len(names)
    ends = np.cumsum([4 if kind == "F32" else 2 for kind in kinds]).tolist()
    header = {
        name: entry(kind, [1], begin, end)
        for name, kind, begin, end in zip(names, kinds, [0, *ends], ends, strict=False)
    }
    return [tensor.name for tensor in opened(path, safetensors_file(header, bytes(ends[-1]))).tensors]


def test_names_in_the_order_of_the_alphabet_are_put_into_natural_order(tmp_path: Path) -> None:
    assert in_file_order(tmp_path / "f", "layers.0", "layers.1", "layers.10", "layers.2") == [
        "layers.0",
        "layers.1",
        "layers.2",
        "layers.10",
    ]


def test_the_order_of_the_file_is_kept_where_it_is_not_the_alphabet_s(tmp_path: Path) -> None:
    names = ["stem", "layers.0", "layers.10", "layers.2", "head"]
    assert in_file_order(tmp_path / "f", *names) == names


def test_a_file_that_is_sorted_by_dtype_and_then_by_name_says_nothing_of_the_order(tmp_path: Path) -> None:
    names = ("a.10", "a.9", "a.1", "a.2")
    assert in_file_order(tmp_path / "f", *names, dtypes="F32 F32 F16 F16") == ["a.1", "a.2", "a.9", "a.10"]


def test_layers_that_the_library_wrote_come_in_natural_order(tmp_path: Path) -> None:
    written = {f"layers.{index}.weight": torch.ones(1) for index in range(12)}
    safetensors.torch.save_file(written, tmp_path / "f")
    found = [tensor.name for tensor in open_checkpoint(str(tmp_path / "f")).tensors]
    assert found == list(written)


@pytest.mark.parametrize("count", [300])
def test_the_order_of_the_header_s_text_does_not_matter(tmp_path: Path, count: int) -> None:
    header = {f"t{index:03}": entry("F32", [1], 4 * index, 4 * index + 4) for index in reversed(range(count))}
    checkpoint = opened(tmp_path / "f", safetensors_file(header, np.arange(count, dtype="<f4").tobytes()))
    assert named_values(checkpoint) == {f"t{index:03}": [float(index)] for index in range(count)}


# What costs one tensor


@pytest.mark.parametrize("dtype", ["Q7", "F32 ", "f32", "", "F128", "__metadata__"])
def test_an_unknown_dtype_costs_one_tensor(tmp_path: Path, dtype: str) -> None:
    header = {"a": entry(dtype, [3], 0, 5), "b": entry("F32", [1], 5, 9)}
    checkpoint = opened(tmp_path / "f", safetensors_file(header, bytes(9)))
    assert reasons(checkpoint) == {"a": f"its dtype {dtype} is not one that can be read"}
    assert named_values(checkpoint) == {"b": [0.0]}


def test_the_reason_stays_short_however_long_the_dtype_is(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "f", safetensors_file({"a": entry("F" * 100_000, [1], 0, 4)}, bytes(4)))
    assert len(reasons(checkpoint)["a"]) < 1000


@pytest.mark.parametrize(("dtype", "shape", "size"), [("F6_E2M3", [4], 3), ("F6_E3M2", [8], 6)])
def test_a_dtype_of_the_format_that_is_not_read_costs_one_tensor(
    tmp_path: Path, dtype: str, shape: list[int], size: int
) -> None:
    header = {"a": entry(dtype, shape, 0, size), "b": entry("F32", [1], size, size + 4)}
    checkpoint = opened(tmp_path / "f", safetensors_file(header, bytes(size + 4)))
    assert reasons(checkpoint) == {"a": f"its dtype {dtype} is not one that can be read"}
    assert named_values(checkpoint) == {"b": [0.0]}
    assert not refused_by_the_library(tmp_path / "f")


def test_halves_of_bytes_are_the_numbers_of_the_microscaling_format(tmp_path: Path) -> None:
    codes = np.arange(16, dtype=np.uint8)
    packed = codes[::2] | codes[1::2] << 4
    checkpoint = opened(tmp_path / "f", safetensors_file({"a": entry("F4", [4, 4], 0, 8)}, packed.tobytes()))
    assert [tensor.dtype.name for tensor in checkpoint.tensors] == ["F4"]
    assert checkpoint.tensors[0].stored_bytes == 8
    expected = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    assert sorted(values(checkpoint.tensors[0])) == sorted(expected)
    assert not refused_by_the_library(tmp_path / "f")


def test_blanks_before_the_header_are_read_with_a_warning(tmp_path: Path) -> None:
    checkpoint = opened(
        tmp_path / "f", safetensors_file(b"  " + json.dumps({"a": entry("F32", [1], 0, 4)}).encode(), bytes(4))
    )
    assert named_values(checkpoint) == {"a": [0.0]}
    assert checkpoint.warnings == ("its header starts with blanks, which the format does not allow",)


def test_more_tensors_than_the_limit_are_refused_before_they_are_made(tmp_path: Path) -> None:
    header = {f"t{index}": entry("F32", [1], 4 * index, 4 * index + 4) for index in range(3)}
    with (
        changed_limits({"tensors": 2}),
        pytest.raises(CheckpointError, match="has 3 tensors, more than the 2 that"),
    ):
        opened(tmp_path / "f", safetensors_file(header, bytes(12)))


def test_too_many_dimensions_cost_one_tensor(tmp_path: Path) -> None:
    header = {"a": entry("F32", [1] * 65, 0, 4), "b": entry("F32", [1], 4, 8)}
    checkpoint = opened(tmp_path / "f", safetensors_file(header, bytes(8)))
    assert reasons(checkpoint) == {"a": "it has 65 dimensions, more than the 64 that --limit rank=N sets"}
    assert named_values(checkpoint) == {"b": [0.0]}


# Refusals


TWO = {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 4, 8)}


def two(**changes: Any) -> bytes:
    return header_text(**(TWO | changes))


def field_replaced(field: str, written: str) -> bytes:
    """The header of one number with one field's value as it is written here."""
    return re.sub(rf'"{field}": (\[[^]]*\]|"[^"]*")'.encode(), f'"{field}": {written}'.encode(), ONE)


REFUSED: dict[str, tuple[bytes, str]] = {
    "header longer than the format allows": (
        struct.pack("<Q", 100_000_001) + ONE,
        "claims 100,000,001 bytes, more than the 100,000,000 that --limit",
    ),
    "header of 2^63 bytes": (struct.pack("<Q", 2**63) + ONE, "claims 9,223,372,036,854,775,808 bytes"),
    "header of 2^64-1 bytes": (struct.pack("<Q", 2**64 - 1) + ONE, "claims 18,446,744,073,709,551,615 bytes"),
    "header beyond the file": (struct.pack("<Q", len(ONE) + 1) + ONE, "is truncated: its header claims"),
    "header cut short": (safetensors_file(ONE)[:-2], "is truncated: its header claims"),
    "no data": (safetensors_file(ONE), "is truncated: the header describes 4 bytes of data, the file has 0"),
    "data cut short": (safetensors_file(two(), bytes(7)), "is truncated: the header describes 8 bytes of data, the fi"),
    "trailing byte": (safetensors_file(two(), bytes(9)), "goes on after its last tensor"),
    "data without tensors": (safetensors_file(b"{}", bytes(4)), "goes on after its last tensor"),
    "gap at the start": (safetensors_file({"a": entry("F32", [1], 4, 8)}, bytes(8)), "leave a gap before 'a'"),
    "gap between": (safetensors_file(two(b=entry("F32", [1], 8, 12)), bytes(12)), "leave a gap before 'b'"),
    "overlap": (safetensors_file(two(b=entry("F32", [1], 2, 6)), bytes(6)), "overlap before 'b'"),
    "same range twice": (safetensors_file(two(b=entry("F32", [1], 0, 4)), bytes(4)), "overlap before 'b'"),
    "range inside a range": (
        safetensors_file({"a": entry("U8", [8], 0, 8), "b": entry("U8", [1], 2, 3)}, bytes(8)),
        "overlap before 'b'",
    ),
    "tensor twice": (safetensors_file(ONE[:-1] + b"," + ONE[1:], bytes(4)), "the key 'a' is there twice"),
    "field twice": (
        safetensors_file(ONE.replace(b'"dtype"', b'"dtype": "F32", "dtype"'), bytes(4)),
        "the key 'dtype' is there twice",
    ),
    "metadata twice": (
        safetensors_file(b'{"__metadata__":{},"__metadata__":{},' + ONE[1:], bytes(4)),
        "the key '__metadata__' is there twice",
    ),
    "offsets reversed": (safetensors_file(field_replaced("data_offsets", "[4, 0]"), bytes(4)), "of 'a' run backwards"),
    "too few bytes for the shape": (safetensors_file({"a": entry("F32", [2], 0, 4)}, bytes(4)), "'a' has 4 bytes"),
    "too many bytes for the shape": (safetensors_file({"a": entry("F32", [1], 0, 8)}, bytes(8)), "'a' has 8 bytes"),
    "bytes for an empty shape": (safetensors_file({"a": entry("F32", [0], 0, 4)}, bytes(4)), "'a' has 4 bytes"),
    "no bytes for a number": (safetensors_file({"a": entry("F32", [], 0, 0)}), "'a' has 0 bytes"),
    "half a byte": (safetensors_file({"a": entry("F4", [3], 0, 2)}, bytes(2)), "'a' has 2 bytes"),
    "size that wraps to zero": (safetensors_file({"a": entry("F32", [2**32, 2**32], 0, 0)}), "'a' has 0 bytes"),
    "size that wraps to four": (
        safetensors_file({"a": entry("F32", [2**62 + 1], 0, 4)}, bytes(4)),
        "'a' has 4 bytes",
    ),
    **{
        f"{field} {written}": (safetensors_file(field_replaced(field, written), bytes(4)), "the entry of 'a' is malf")
        for field, written in (
            *(
                ("shape", text)
                for text in ("[-1]", "[1.0]", "[1e0]", "[true]", '["1"]', "[null]", "[[1]]", "1", "null")
            ),
            *(("shape", text) for text in ("[18446744073709551616]", "[1e400]", "{}", '"1"')),
            *(("data_offsets", text) for text in ("[-4, 0]", "[0, 4.0]", "[0, 4e0]", "[0]", "[0, 4, 4]", "[]", "4")),
            *(("data_offsets", text) for text in ("[0, 18446744073709551616]", '["0", "4"]', "null", "[false, 4]")),
            *(("dtype", text) for text in ("1", "null", "[]", "true")),
        )
    },
    "shape NaN": (safetensors_file(field_replaced("shape", "[NaN]"), bytes(4)), "NaN is not a JSON number"),
    "shape Infinity": (safetensors_file(field_replaced("shape", "[Infinity]"), bytes(4)), "Infinity is not a JSON num"),
    "shape -Infinity": (safetensors_file(field_replaced("shape", "[-Infinity]"), bytes(4)), "-Infinity is not a JSON"),
    "shape 01": (safetensors_file(field_replaced("shape", "[01]"), bytes(4)), "is not valid JSON"),
    "integer of 5,000 digits": (safetensors_file(field_replaced("shape", f"[{'9' * 5000}]"), bytes(4)), "not valid J"),
    **{
        f"entry without {field}": (
            safetensors_file({"a": {key: value for key, value in TWO["a"].items() if key != field}}, bytes(4)),
            "the entry of 'a' lacks dtype, shape or data_offsets",
        )
        for field in ("dtype", "shape", "data_offsets")
    },
    "entry that is null": (safetensors_file(b'{"a": null}'), "the entry of 'a' lacks"),
    "entry that is a number": (safetensors_file(b'{"a": 1}'), "the entry of 'a' lacks"),
    "entry that is a list": (safetensors_file(b'{"a": ["F32", [1], [0, 4]]}', bytes(4)), "the entry of 'a' lacks"),
    "metadata that is a list": (safetensors_file(b'{"__metadata__": []}'), "its __metadata__ is not a map of text"),
    "metadata that is text": (safetensors_file(b'{"__metadata__": "x"}'), "its __metadata__ is not a map of text"),
    "metadata with a number": (safetensors_file(b'{"__metadata__": {"a": 1}}'), "its __metadata__ is not a map of te"),
    "metadata with null": (safetensors_file(b'{"__metadata__": {"a": null}}'), "its __metadata__ is not a map of text"),
    "metadata with a map": (safetensors_file(b'{"__metadata__": {"a": {}}}'), "its __metadata__ is not a map of text"),
    "array for a header": (safetensors_file(b"[" + ONE + b"]", bytes(4)), "is not in a format that is read"),
    "two objects": (safetensors_file(ONE + ONE, bytes(4)), "is not valid JSON"),
    "byte-order mark": (safetensors_file(b"\xef\xbb\xbf" + ONE, bytes(4)), "is not in a format that is read"),
    "utf-16": (safetensors_file(ONE.decode().encode("utf-16-le"), bytes(4)), "is not valid JSON"),
    "not utf-8": (safetensors_file(ONE.replace(b"a", b"\xff", 1), bytes(4)), "is not valid JSON: 'utf-8' codec"),
    "surrogate in utf-8": (safetensors_file(ONE.replace(b"a", b"\xed\xa0\x80", 1), bytes(4)), "is not valid JSON"),
    "control character": (safetensors_file(ONE.replace(b"a", b"\n", 1), bytes(4)), "is not valid JSON"),
    "trailing NUL": (safetensors_file(ONE + b"\0", bytes(4)), "is not valid JSON"),
    "trailing comma": (safetensors_file(ONE[:-1] + b",}", bytes(4)), "is not valid JSON"),
    "comment": (safetensors_file(ONE + b"//", bytes(4)), "is not valid JSON"),
    "nested without end": (safetensors_file(b'{"a":' + b"[" * 100_000), "nested too deeply"),
    "nested 100,000 deep": (safetensors_file(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "nested too deeply"),
    "unclosed": (safetensors_file(b"{ "), "is not valid JSON"),
}


@pytest.mark.parametrize(("content", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_breaks_the_specification_is_refused_with_the_rule(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(problem)) as caught:
        opened(tmp_path / "f", content)
    assert caught.value.location == str(tmp_path / "f")
    assert str(caught.value).isprintable()


LENIENT = {"tensor twice", "entry that is a list"}
"""Where the library takes what its specification forbids."""


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_here_is_refused_by_the_library_but_for_the_known_cases(tmp_path: Path, case: str) -> None:
    (tmp_path / "f").write_bytes(REFUSED[case][0])
    assert refused_by_the_library(tmp_path / "f") == (case not in LENIENT)


@pytest.mark.parametrize("size", range(8))
def test_a_file_shorter_than_a_header_length_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(CheckpointError, match=r"is empty \(0 bytes\)|is not in a format that is read"):
        opened(tmp_path / "f", safetensors_file(b"{}")[:size])


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(field_replaced("data_offsets", "[-0, 4]"), id="minus zero"),
        pytest.param(ONE.replace(b'"a"', b'"\\ud800"'), id="lone surrogate in a name"),
        pytest.param(b'{"__metadata__":{"x":"\\udc00"},' + ONE[1:], id="lone surrogate in the metadata"),
        pytest.param(
            ONE[:-1] + b',"b":{"dtype":"F32","shape":[1099511627776,1099511627776,0],"data_offsets":[4,4]}}',
            id="size that overflows before it is zero",
        ),
        pytest.param(
            ONE.replace(b'"shape"', b'"more": ' + b"[" * 200 + b"]" * 200 + b', "shape"'), id="nested 200 deep"
        ),
    ],
)
def test_what_the_library_refuses_is_refused_here(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "f").write_bytes(safetensors_file(header, bytes(4)))
    assert refused_by_the_library(tmp_path / "f")
    with pytest.raises(CheckpointError):
        open_checkpoint(str(tmp_path / "f"))


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry("F32", [1] * 10_000 + [2], 0, 4)},
        {"a" * 100_000: entry("F32", [2], 0, 4)},
        {"a" * 100_000: 1},
    ],
    ids=["shape", "name", "name without a tensor"],
)
def test_a_refusal_is_one_line_that_a_terminal_can_show(tmp_path: Path, header: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError) as caught:
        opened(tmp_path / "f", safetensors_file(header, bytes(4)))
    assert len(caught.value.problem) < 1000


def test_a_shape_of_a_hundred_thousand_large_sizes_is_refused_quickly(tmp_path: Path) -> None:
    header = {"a": entry("F32", [2**63] * 100_000, 0, 4)}
    with ending_soon(0.5), pytest.raises(CheckpointError):
        opened(tmp_path / "f", safetensors_file(header, bytes(4)))


@pytest.mark.parametrize(
    "inside",
    [
        "1",
        "",
    ],
)
def test_the_nesting_that_is_read_is_the_nesting_that_the_library_reads(tmp_path: Path, inside: str) -> None:
    for depth in range(120, 132):
        nested = "[" * depth + inside + "]" * depth
        (tmp_path / "f").write_bytes(
            safetensors_file(ONE.replace(b'"shape"', f'"more": {nested}, "shape"'.encode()), bytes(4))
        )
        try:
            is_read = bool(open_checkpoint(str(tmp_path / "f")).tensors)
        except CheckpointError:
            is_read = False
        assert is_read != refused_by_the_library(tmp_path / "f"), depth


# Properties

SIZES = st.one_of(
    st.integers(0, 4), st.sampled_from((-1, 2**32, 2**63, 2**64 - 1, 2**64, 1.0, 0.5, True, None, "1", []))
)
OFFSETS = st.one_of(st.integers(0, 6).map(lambda index: index * 4), SIZES)
ENTRIES = st.one_of(
    st.sampled_from(((0, 4), (4, 8), (8, 12), (0, 8))).map(
        lambda ends: entry("F32", [(ends[1] - ends[0]) // FLOATS], *ends)
    ),
    st.fixed_dictionaries(
        {"dtype": st.sampled_from(("F32", "U8", "BOOL", "F4", "F8_E8M0", "C64", 1, None))},
        optional={
            "shape": st.one_of(st.lists(SIZES, max_size=3), SIZES),
            "data_offsets": st.one_of(st.lists(OFFSETS, min_size=2, max_size=2), st.lists(OFFSETS, max_size=3), SIZES),
            "more": st.sampled_from((1, "x", [[]], {"y": 1.5})),
        },
    ),
    st.sampled_from((None, 1, "x", {})),
)
HEADERS = st.dictionaries(
    st.one_of(st.sampled_from("abc"), st.just("__metadata__")), ENTRIES | st.just({"x": "y"}), max_size=4
)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(header=HEADERS, size=st.sampled_from((0, 4, 8, 12, 13)))
@example(header={"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 4, 8)}, size=8)
def test_exactly_what_the_library_refuses_is_refused_here(tmp_path: Path, header: dict[str, Any], size: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(safetensors_file(header, bytes(size)))
    try:
        checkpoint = open_checkpoint(str(path))
    except CheckpointError:
        checkpoint = None
    assert (checkpoint is None) == refused_by_the_library(path)
    if checkpoint is not None:
        assert {tensor.name for tensor in checkpoint.tensors} | reasons(checkpoint).keys() == header.keys() - {
            "__metadata__"
        }


VALID = safetensors_file({"__metadata__": {"x": "y"}, **TWO, "c": entry("BF16", [2, 1], 8, 12)}, bytes(12))


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(edits=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.binary(max_size=3)), min_size=1, max_size=3))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path: Path, edits: list[tuple[int, bytes]]) -> None:
    damaged = bytearray(VALID)
    for position, written in edits:
        damaged[position : position + 1] = written
    problem, tensors = "", ()
    try:
        tensors = opened(tmp_path / "f", bytes(damaged)).tensors
    except CheckpointError as error:
        problem = str(error)
    assert "\n" not in problem
    assert all(values(tensor).size == tensor.elements for tensor in tensors)


def test_a_tied_weight_that_was_stored_once_is_known_by_both_names(tmp_path: Path) -> None:
    network = torch.nn.ModuleDict({"lm_head": torch.nn.Linear(4, 9, bias=False), "embed": torch.nn.Embedding(9, 4)})
    network["lm_head"].weight = network["embed"].weight
    safetensors.torch.save_model(network, str(tmp_path / "model.safetensors"))
    report = weightstats.inspect(str(tmp_path / "model.safetensors"))
    assert {(row.name, row.kind) for row in report.layers} == {("embed.weight", "embedding")}
    assert [(row.name, row.kind) for row in report.others] == [("lm_head.weight", "tied")]
    assert report.accounting.stored.elements == 36
