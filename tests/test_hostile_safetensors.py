"""safetensors files that lie or blow up: refused with the rule they break, unread by name, or read exactly."""
# ruff: noqa: N802 - the id of a case is part of the test's name

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from bounded import measured, run_bounded
from makers import entry, floats, named_values, opened, reasons, safetensors_file, values

from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits

B = entry("F32", [1], 0, 4)
"""A sound tensor at the start of the data."""

NOT_JSON = "its safetensors header is not valid JSON: "


def refused(path: Path, content: bytes) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        opened(path, content)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert caught.value.location == str(path)
    return caught.value.problem


def header(text: str, data: bytes = b"") -> bytes:
    return safetensors_file(text.encode(), data)


def one(**fields: str) -> bytes:
    """A file with one tensor, some fields of which are written as they are given."""
    written = {"dtype": '"F32"', "shape": "[1]", "data_offsets": "[0,4]"} | fields
    return header('{"a":{' + ",".join(f'"{name}":{text}' for name, text in written.items()) + "}}", bytes(4))


SOUND = safetensors_file({"a": entry("F32", [2], 0, 8), "b": entry("F32", [1], 8, 12)}, floats(1, 2, 9))

REFUSED: dict[str, tuple[bytes, str]] = {
    "D1 length 2^64-1": (struct.pack("<Q", 2**64 - 1) + b"{}", "its header claims 18,446,744,073,709,551,615 bytes"),
    "D1 length 2^63": (struct.pack("<Q", 2**63) + b"{}", "its header claims 9,223,372,036,854,775,808 bytes"),
    "D1 length above the format's": (struct.pack("<Q", 100_000_001) + b"{}", "more than the 100,000,000 that --limit"),
    "D1 length beyond the file": (struct.pack("<Q", 3) + b"{}", "is truncated: its header claims 3 bytes"),
    "D1 length 0": (bytes(8) + b"{}", "is not in a format that is read"),
    "D1 length 1": (struct.pack("<Q", 1) + b"{}", "is not in a format that is read"),
    "D1 seven bytes": (b"\2\0\0\0\0\0\0", "is not in a format that is read"),
    "D1 one byte": (b"\2", "is not in a format that is read"),
    "D1 only a length": (struct.pack("<Q", 2), "is not in a format that is read"),
    "D2 header cut": (SOUND[:40], "is truncated: its header claims"),
    "D2 data cut": (SOUND[:-1], "is truncated: the header describes 12 bytes of data, the file has 11"),
    "D3 overlap": (
        safetensors_file({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, bytes(12)),
        "the bytes of tensors overlap before 'b'",
    ),
    "D3 one in another": (
        safetensors_file({"a": entry("U8", [12], 0, 12), "b": entry("F32", [1], 4, 8)}, bytes(12)),
        "the bytes of tensors overlap before 'b'",
    ),
    "D4 same offsets": (safetensors_file({"a": B, "b": B}, bytes(4)), "the bytes of tensors overlap before 'b'"),
    "D5 hole at the start": (
        safetensors_file({"a": entry("F32", [1], 4, 8)}, bytes(8)),
        "the bytes of tensors leave a gap before 'a'",
    ),
    "D5 hole in the middle": (
        safetensors_file({"a": B, "b": entry("F32", [1], 8, 12)}, bytes(12)),
        "the bytes of tensors leave a gap before 'b'",
    ),
    "D6 trailing byte": (SOUND + b"\0", "goes on after its last tensor: the header describes 12 bytes"),
    "D6 trailing file": (SOUND + SOUND, "goes on after its last tensor"),
    "D7 tensor twice": (
        header('{"a":' + json.dumps(B) + ',"a":' + json.dumps(entry("I32", [1], 0, 4)) + "}", bytes(4)),
        f"{NOT_JSON}the key 'a' is there twice",
    ),
    "D7 tensor twice, once with an escape": (
        header('{"a":' + json.dumps(B) + ',"\\u0061":' + json.dumps(B) + "}", bytes(4)),
        f"{NOT_JSON}the key 'a' is there twice",
    ),
    "D7 field twice": (
        one(dtype='"F32","dtype":"I32"'),
        f"{NOT_JSON}the key 'dtype' is there twice",
    ),
    "D7 metadata twice": (
        header('{"__metadata__":{},"__metadata__":{}}'),
        f"{NOT_JSON}the key '__metadata__' is there twice",
    ),
    "D7 key of the metadata twice": (header('{"__metadata__":{"x":"1","x":"2"}}'), f"{NOT_JSON}the key 'x'"),
    "D8 trailing NUL": (safetensors_file(json.dumps({"a": B}).encode() + b"\0\0", bytes(4)), f"{NOT_JSON}Extra data"),
    "D8 leading NUL": (safetensors_file(b"\0" + json.dumps({"a": B}).encode(), bytes(4)), "is not in a format"),
    "D10 too few bytes": (safetensors_file({"a": entry("F32", [2], 0, 4)}, bytes(4)), "'a' has 4 bytes, which is not"),
    "D10 too many bytes": (safetensors_file({"a": entry("F32", [1], 0, 8)}, bytes(8)), "'a' has 8 bytes, which is not"),
    "D10 reversed": (one(data_offsets="[4,0]"), "the data_offsets of 'a' run backwards"),
    **{
        f"D10 {field} {text}": (one(**{field: text}), "the entry of 'a' is malformed")
        for field, texts in {
            "shape": (
                "-1",
                "1.0",
                "1e0",
                "true",
                "null",
                "[1]",
                "{}",
                "18446744073709551616",
                "99999999999999999999",
                "-0",
            ),
            "data_offsets": ("-4,0", "0,4.0", "0,4e0", "0", "0,4,4", "", "null,4", "0,18446744073709551616"),
        }.items()
        for text in (f"[{inner}]" for inner in texts)
    },
    "D10 shape no list": (one(shape="1"), "the entry of 'a' is malformed"),
    "D10 dtype no text": (one(dtype="32"), "the entry of 'a' is malformed"),
    "D10 no shape": (header('{"a":{"dtype":"F32","data_offsets":[0,4]}}', bytes(4)), "lacks dtype, shape or data_off"),
    "D10 entry no object": (header('{"a":[]}'), "the entry of 'a' lacks dtype, shape or data_offsets"),
    "D10 wraps to zero": (one(shape="[4294967296,4294967296]", data_offsets="[0,0]"), "'a' has 0 bytes"),
    "D10 wraps to four": (one(shape="[4611686018427387905]"), "'a' has 4 bytes"),
    "D10 counts beyond 64 bits": (
        header('{"a":{"dtype":"X","shape":[4294967296,4294967296],"data_offsets":[0,4]}}', bytes(4)),
        "the shape of 'a' counts beyond 64 bits",
    ),
    "D12 metadata with a number": (header('{"__metadata__":{"x":1}}'), "its __metadata__ is not a map of text to text"),
    "D12 metadata with a list": (header('{"__metadata__":{"x":[]}}'), "its __metadata__ is not a map of text to text"),
    "D12 metadata a text": (header('{"__metadata__":"x"}'), "its __metadata__ is not a map of text to text"),
    "D12 metadata a list": (header('{"__metadata__":[]}'), "its __metadata__ is not a map of text to text"),
    "D13 nested lists": (header('{"a":' + "[" * 10**5 + "]" * 10**5 + "}"), f"{NOT_JSON}it is nested too deeply"),
    "D13 nested objects": (header('{"a":' * 10**5 + "1" + "}" * 10**5), f"{NOT_JSON}it is nested too deeply"),
    "D13 nested lists that do not end": (header('{"a":' + "[" * 10**5), NOT_JSON),
    "D13 nested beside a sound tensor": (one(more="[" * 200 + "]" * 200), f"{NOT_JSON}it is nested too deeply"),
    "D15 odd halves": (safetensors_file({"a": entry("F4", [3], 0, 2)}, bytes(2)), "'a' has 2 bytes, which is not what"),
    "D15 odd six bits": (safetensors_file({"a": entry("F6_E2M3", [3], 0, 3)}, bytes(3)), "'a' has 3 bytes, which is n"),
    "D17 byte order mark": (safetensors_file(b"\xef\xbb\xbf" + b"{}"), "is not in a format that is read"),
    "D17 UTF-16": (safetensors_file("{}".encode("utf-16-le")), NOT_JSON),
    "D17 UTF-16 with its mark": (safetensors_file("{}".encode("utf-16")), "is not in a format that is read"),
    "D17 not UTF-8": (safetensors_file(b'{"\xff":' + json.dumps(B).encode() + b"}", bytes(4)), NOT_JSON),
    "D17 overlong UTF-8": (safetensors_file(b'{"\xc0\xaf":' + json.dumps(B).encode() + b"}", bytes(4)), NOT_JSON),
    "D17 surrogate in UTF-8": (safetensors_file(b'{"\xed\xa0\x80":' + json.dumps(B).encode() + b"}"), NOT_JSON),
    "D19 lone surrogate in a name": (header('{"\\ud800":' + json.dumps(B) + "}", bytes(4)), NOT_JSON),
    "D19 lone surrogate in a text": (header('{"__metadata__":{"x":"\\udc00"}}'), NOT_JSON),
    **{
        f"D19 {text[:12]}": (one(shape=f"[{text}]"), NOT_JSON)
        for text in ("NaN", "Infinity", "-Infinity", "01", "+1", "0x1", "1.", ".5", "9" * 5000, "'1'", "True")
    },
    "D19 1e400": (one(shape="[1e400]"), "the entry of 'a' is malformed"),
    "D19 NaN where nobody looks": (one(more="NaN"), f"{NOT_JSON}NaN is not a JSON number"),
    "D19 control character": (header('{"a\n":' + json.dumps(B) + "}", bytes(4)), NOT_JSON),
    "D19 comment": (header('{"a":' + json.dumps(B) + "/**/}", bytes(4)), NOT_JSON),
    "D19 comma at the end": (header('{"a":' + json.dumps(B) + ",}", bytes(4)), NOT_JSON),
    "D20 web page": (b"<!DOCTYPE html>\n<html><title>404</title></html>", "is a web page, not a checkpoint"),
    "D20 web page in capitals": (b"\r\n <HTML lang=en>", "is a web page, not a checkpoint"),
    "D20 Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1000\n",
        "is a Git LFS pointer, not the checkpoint itself; run `git lfs pull`",
    ),
    "D20 git-annex pointer": (
        b"/annex/objects/SHA256E-s1000--" + b"0" * 64 + b".safetensors\n",
        "is a git-annex pointer, not the checkpoint itself; run `git annex get`",
    ),
    "D20 empty": (b"", "is empty (0 bytes)"),
    "D20 an error in XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is an XML document"),
    "D20 an error in JSON": (b'{"error":"Repository not found"}', "is a JSON document that is neither"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_lies_is_refused_with_the_rule(tmp_path: Path, case: str) -> None:
    content, problem = REFUSED[case]
    assert problem in refused(tmp_path / "model.safetensors", content)


def test_D1_a_length_that_lies_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 99_999_999) + b"{" + b" " * 100)
    result = run_bounded([path], 109, 109)
    assert (result.code, result.out) == (3, "")


def test_D2_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    for length in range(len(SOUND)):
        refused(tmp_path / "f", SOUND[:length])


# READ and SKIP


def test_D8_blanks_before_the_header_are_read_with_a_warning_and_those_behind_without(tmp_path: Path) -> None:
    text = json.dumps({"a": B}).encode()
    front = opened(tmp_path / "f", safetensors_file(b" \n" + text, floats(3)))
    assert (named_values(front), len(front.warnings)) == ({"a": [3.0]}, 1)
    assert "its header starts with blanks" in front.warnings[0]
    behind = opened(tmp_path / "f", safetensors_file(text + b" \t\r\n", floats(3)))
    assert (named_values(behind), behind.warnings) == ({"a": [3.0]}, ())


@pytest.mark.parametrize("dtype", ["F128", "f32", "", "FLOAT32", "\x1b[31m", "F" * 100_000], ids=lambda text: text[:9])
def test_D9_an_unknown_dtype_costs_one_tensor(tmp_path: Path, dtype: str) -> None:
    content = safetensors_file({"a": entry(dtype, [3], 0, 5), "b": entry("F32", [1], 5, 9)}, bytes(5) + floats(9))
    checkpoint = opened(tmp_path / "f", content)
    assert named_values(checkpoint) == {"b": [9.0]}
    assert re.fullmatch(r"its dtype [ -~…]{0,110} is not one that can be read", reasons(checkpoint)["a"])


@pytest.mark.parametrize(
    ("tensor", "data", "expected"),
    [
        pytest.param(entry("F32", [0, 2**60], 0, 0), b"", [], id="D11 [0, 2^60]"),
        pytest.param(entry("F32", [2**60, 0, 3], 0, 0), b"", [], id="D11 [2^60, 0, 3]"),
        pytest.param(entry("F32", [1] * 64, 0, 4), floats(7), [7.0], id="D11 rank 64"),
        pytest.param(entry("F32", [], 0, 4), floats(7), [7.0], id="D11 rank 0"),
        pytest.param(
            entry("F4", [4], 0, 2), b"\x21\xf7", [0.5, 1.0, 6.0, -6.0], id="D15 halves of bytes, the lower one first"
        ),
        pytest.param(
            entry("F8_E8M0", [4], 0, 4), b"\0\x7f\x80\xfe", [2.0**-127, 1.0, 2.0, 2.0**127], id="D15 powers of two"
        ),
        pytest.param(entry("BOOL", [4], 0, 4), b"\0\1\2\xff", [0.0, 1.0, 2.0, 255.0], id="D18 bytes of truth values"),
    ],
)
def test_what_only_looks_odd_is_read_exactly(
    tmp_path: Path, tensor: dict[str, Any], data: bytes, expected: list[float]
) -> None:
    checkpoint = opened(tmp_path / "f", safetensors_file({"a": tensor}, data))
    assert named_values(checkpoint) == {"a": expected}


def test_D11_a_rank_of_1000_is_named(tmp_path: Path) -> None:
    content = safetensors_file({"a": entry("F32", [1] * 1000, 0, 4), "b": entry("F32", [1], 4, 8)}, floats(7, 9))
    checkpoint = opened(tmp_path / "f", content)
    assert named_values(checkpoint) == {"b": [9.0]}
    assert reasons(checkpoint) == {"a": "it has 1,000 dimensions, more than the 64 that --limit rank=N sets"}
    with changed_limits({"rank": 1000}):
        assert named_values(opened(tmp_path / "f", content)) == {"a": [7.0], "b": [9.0]}


def test_D11_a_rank_beyond_all_reason_is_refused(tmp_path: Path) -> None:
    assert "'a' has 10,001 dimensions" in refused(tmp_path / "f", one(shape=str([1] * 10_001)))


@pytest.mark.parametrize("metadata", ["null", "{}", '{"":""}', '{"x":"\\u001b[31m\\u0000"}', '{"x":"\\ud83d\\ude00"}'])
def test_D12_metadata_of_texts_is_read(tmp_path: Path, metadata: str) -> None:
    content = header('{"__metadata__":' + metadata + ',"a":' + json.dumps(B) + "}", floats(3))
    assert named_values(opened(tmp_path / "f", content)) == {"a": [3.0]}


def test_D12_metadata_of_50_MB_is_read_within_the_bounds(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    text = json.dumps([{"a, [b]": {"c": [1, 2]}}] * 1000)
    metadata = {f"key {number}": text * 165 for number in range(10)}
    content = safetensors_file({"__metadata__": metadata, "a.weight": entry("F32", [2, 2], 0, 16)}, floats(1, 2, 3, 4))
    assert len(content) > 50e6
    path.write_bytes(content)
    result = run_bounded([path], len(content), len(content))
    assert (result.code, result.err, len(result.report["layers"])) == (0, "", 1)


def test_D12_escapes_in_the_header_never_reach_the_terminal(tmp_path: Path) -> None:
    name = "\x1b[31m\u202e\n.weight"
    content = {"__metadata__": {"x": "\x1b[31m"}, name: entry("F32", [2, 2], 0, 16), "u": entry("\x1b[1m", [1], 16, 20)}
    (tmp_path / "f").write_bytes(safetensors_file(content, bytes(20)))
    for format_ in ("terminal", "markdown", "csv", "json"):
        done = measured("inspect", tmp_path / "f", "--format", format_)
        assert done.code == 0
        assert not {"\x1b", "\u202e"} & set(done.out + done.err)


def test_D14_a_million_empty_tensors_are_refused_within_the_bounds(tmp_path: Path) -> None:
    path = tmp_path / "many.safetensors"
    for field in ("data_offsets", "data_offset\\u0073"):
        each = f'{{"dtype":"F32","shape":[0],"{field}":[0,0]}}'
        text = "{" + ",".join(f'"{number:x}":{each}' for number in range(1_000_000)) + "}"
        path.write_bytes(header(text))
        result = run_bounded([path], len(text), len(text))
        assert (result.code, result.out) == (3, "")
        assert "--limit " in result.err


def test_D14_as_many_tensors_as_are_allowed_are_read_within_the_bounds(tmp_path: Path) -> None:
    path = tmp_path / "many.safetensors"
    tensors = {f"{number:x}": entry("F32", [0], 0, 0) for number in range(5_000)}
    path.write_bytes(safetensors_file(tensors))
    result = run_bounded([path], path.stat().st_size, path.stat().st_size)
    assert result.code == 0
    assert result.report["accounting"]["stored"]["tensors"] == 5_000


def repeated(piece: str, number: int) -> str:
    return ",".join([piece] * number)


BOMBS: dict[str, Callable[[], str]] = {
    "D13 lists": lambda: "[" + repeated("[]", 10_000_000) + "]",
    "D13 lists, fewer": lambda: "[" + repeated("[]", 1_400_000) + "]",
    "D13 objects": lambda: "[" + repeated("{}", 1_000_000) + "]",
    "D13 objects, many": lambda: "[" + repeated("{}", 10_000_000) + "]",
    "D13 numbers": lambda: "[" + repeated("0", 2_900_000) + "]",
    "D13 long numbers": lambda: "[" + repeated("9" * 19, 1_000_000) + "]",
    "D13 texts": lambda: "[" + repeated('""', 10_000_000) + "]",
    "D13 keys": lambda: "{" + ",".join(f'"{number:x}":""' for number in range(900_000)) + "}",
    "D13 quotes within a text": lambda: '"' + '\\"' * 10_000_000 + '"',
    "D13 backslashes": lambda: '"' + "\\\\" * 10_000_000 + '"',
    "D13 a wide letter": lambda: '"' + "x" * 30_000_000 + "\U0001f600" + '"',
}
"""JSON that makes much more of itself when it is parsed."""


@pytest.mark.parametrize("case", BOMBS)
def test_a_header_that_blows_up_is_read_or_refused_within_the_bounds(tmp_path: Path, case: str) -> None:
    path = tmp_path / "f.safetensors"
    each = entry("F32", [1], 0, 4)
    path.write_bytes(header('{"a":' + json.dumps(each)[:-1] + f', "more":{BOMBS[case]()}' + "}}", floats(3)))
    result = run_bounded([path], path.stat().st_size, path.stat().st_size)
    assert result.code in (0, 3)
    assert result.code == 0 or "json_values=N sets" in result.err


@pytest.mark.parametrize("name", ["", "\0", "../x", "/etc/passwd", "a/b", "__metadata", "=cmd|'/c'!A1", "[/]", "<b>"])
def test_D16_a_name_is_only_text(tmp_path: Path, name: str) -> None:
    checkpoint = opened(tmp_path / "f", safetensors_file({name: B}, floats(3)))
    assert [tensor.path for tensor in checkpoint.tensors] == [(name,)]
    assert named_values(checkpoint) == {name: [3.0]}


def test_D16_a_name_of_10_MB_is_read_within_the_bounds(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    path.write_bytes(safetensors_file({"x" * 10_000_000: entry("F32", [2, 2], 0, 16)}, bytes(16)))
    result = run_bounded([path], path.stat().st_size, path.stat().st_size)
    assert result.code == 0
    assert result.report["accounting"]["stored"]["tensors"] == 1


def test_D10_a_shape_of_large_sizes_is_refused_without_multiplying_them_all(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    path.write_bytes(one(shape=str([2**63] * 10_000)))
    assert run_bounded([path], path.stat().st_size, path.stat().st_size).code == 3


def test_every_dtype_of_the_format_is_read_or_listed(tmp_path: Path) -> None:
    codes = np.arange(16, dtype=np.uint8)
    halves = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    content = safetensors_file({"a": entry("F4", [16], 0, 8)}, (codes[::2] | codes[1::2] << 4).tobytes())
    [tensor] = opened(tmp_path / "f", content).tensors
    assert values(tensor).tolist() == halves.tolist()
    for dtype in ("F6_E2M3", "F6_E3M2"):
        checkpoint = opened(tmp_path / "f", safetensors_file({"a": entry(dtype, [4], 0, 3)}, bytes(3)))
        assert reasons(checkpoint) == {"a": f"its dtype {dtype} is not one that can be read"}


def test_a_hole_filled_by_another_tensor_s_lie_is_still_a_hole(tmp_path: Path) -> None:
    tensors = {"a": entry("F32", [0], 4, 4), "b": entry("F32", [1], 8, 12), "c": entry("F32", [1], 0, 4)}
    assert "leave a gap" in refused(tmp_path / "f", safetensors_file(tensors, bytes(12)))
