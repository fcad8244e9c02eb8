"""Flax's MessagePack files: what Flax writes is read in place, and a tree that lies is refused or listed."""

import contextlib
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest
import torch
from makers import ending_soon, named_values, opened, reasons, values
from numpy.typing import NDArray

import weightstats
from weightstats.errors import CheckpointError
from weightstats.places import open_file
from weightstats.readers import flax_msgpack, open_checkpoint

PUBLISHED = Path(__file__).parent.parent / "fixtures" / "published"

BY_FLAX = bytes.fromhex(
    "84a473746570c70e039390a5696e743332c40407000000a6706172616d7381a744656e73655f3082a66b65726e656c83b95f5f6d73677061"
    "636b5f6368756e6b65645f61727261795f5fc3a5736861706582a13002a13103a66368756e6b7382a130c71d01939104a7666c6f61743332"
    "c410000000000000803f0000004000004040a131c71501939102a7666c6f61743332c408000080400000a040a462696173c71201939102a8"
    "62666c6f61743136c404803f00c0a96f70745f737461746581a13081a5636f756e74c70e019390a5696e743332c40407000000a46e6f7465"
    "85a130cb3ff8000000000000a131c0a132a474657874a133c7130292cb3ff0000000000000cb4000000000000000a134c3"
)
"""Written by flax 0.12.8, with `flax.serialization.MAX_CHUNK_SIZE` set to 16 bytes:

    flax.serialization.to_bytes({
        "step": np.int32(7),
        "params": {"Dense_0": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.array([1, -2], "bfloat16")}},
        "opt_state": {"0": {"count": jnp.array(7)}},
        "note": [1.5, None, "text", 1 + 2j, True],
    })
"""

CHUNKED = "__msgpack_chunked_array__"


def array(stored: Any, shape: Any = None, dtype: str | None = None) -> msgpack.ExtType:
    """An array as flax.serialization packs it, or with another shape or dtype."""
    stored = np.asarray(stored)
    parts = (list(stored.shape) if shape is None else shape, dtype or stored.dtype.name, stored.tobytes())
    return msgpack.ExtType(1, msgpack.packb(parts, use_bin_type=True))


def written(tree: Any) -> bytes:
    """A tree as flax.serialization writes it."""

    def pack(value: Any) -> msgpack.ExtType:
        assert isinstance(value, np.ndarray)
        return array(value)

    return msgpack.packb(tree, default=pack, strict_types=True)


ONE = array(np.float32([1, 2]))
SIMPLE = {"params": {"kernel": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}}


def test_what_flax_wrote_is_read(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "f", BY_FLAX)
    assert (checkpoint.format, checkpoint.unread, checkpoint.warnings) == ("Flax msgpack", (), ())
    assert named_values(checkpoint) == {
        "step": [7.0],
        "params.Dense_0.kernel": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "params.Dense_0.bias": [1.0, -2.0],
        "opt_state.0.count": [7.0],
    }
    assert {tensor.name: (tensor.shape, tensor.dtype.name) for tensor in checkpoint.tensors} == {
        "step": ((), "I32"),
        "params.Dense_0.kernel": ((2, 3), "F32"),
        "params.Dense_0.bias": ((2,), "BF16"),
        "opt_state.0.count": ((), "I32"),
    }
    assert checkpoint.tensors[1].path == ("params", "Dense_0", "kernel")


def test_the_packer_of_these_tests_writes_what_flax_writes() -> None:
    kernel = np.arange(6, dtype=np.float32)
    chunks = {CHUNKED: True, "shape": {"0": 2, "1": 3}, "chunks": {"0": kernel[:4], "1": kernel[4:]}}
    tree = {
        "step": msgpack.ExtType(3, array(np.int32(7)).data),
        "params": {"Dense_0": {"kernel": chunks, "bias": np.array([1, -2], ml_dtypes.bfloat16)}},
        "opt_state": {"0": {"count": np.array(7, np.int32)}},
        "note": dict(
            zip("01234", (1.5, None, "text", msgpack.ExtType(2, msgpack.packb((1.0, 2.0))), True), strict=True)
        ),
    }
    assert written(tree) == BY_FLAX


DTYPES = {
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "complex128": "C128",
    "bool": "BOOL",
}
DTYPES |= {f"{sign}int{bits}": f"{sign[:1].upper() or 'I'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
DTYPES |= {"bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
DTYPES |= {"float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ"}


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_is_read_by_its_name(tmp_path: Path, name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    stored: NDArray[Any] = np.array([[0, 1], [1, 1]]).astype(dtype)
    (tensor,) = opened(tmp_path / "f", written({"a": stored})).tensors
    assert (tensor.shape, tensor.dtype.name, values(tensor).tolist()) == ((2, 2), DTYPES[name], [0.0, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4), (1,) * 20], ids=str)
def test_every_shape_is_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    stored = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    (tensor,) = opened(tmp_path / "f", written({"a": stored})).tensors
    assert (tensor.shape, values(tensor).tolist()) == (shape, stored.reshape(-1).tolist())


@pytest.mark.parametrize("size", [1, 31, 32, 255, 256, 65_535, 65_536, 200_000])
def test_keys_and_arrays_of_every_length_are_read(tmp_path: Path, size: int) -> None:
    key, stored = "k" * min(size, 65_536), np.arange(size, dtype=np.uint8)
    assert named_values(opened(tmp_path / "f", written({key: stored}))) == {key: (np.arange(size) % 256).tolist()}


def test_lists_and_numbered_keys_become_keys(tmp_path: Path) -> None:
    tree = {"list": [np.ones(1), {"a": np.ones(2)}], 7: np.ones(3), b"raw": np.ones(4), True: np.ones(5)}
    assert [tensor.path for tensor in opened(tmp_path / "f", written(tree)).tensors] == [
        *(("list", "0"), ("list", "1", "a"), ("7",), ("raw",), ("True",))
    ]


def test_maps_of_every_size_are_read(tmp_path: Path) -> None:
    for size in (1, 15, 16, 3000):
        tree = {str(number): np.full(1, number, np.float32) for number in range(size)}
        found = named_values(opened(tmp_path / "f", written({"a": tree})))
        assert found == {f"a.{number}": [float(number)] for number in range(size)}


def chunks(**changes: Any) -> dict[str, Any]:
    """A chunked array of 2 x 3, with changes."""
    parts = {"0": np.float32([0, 1, 2, 3]), "1": np.float32([4, 5])}
    return {CHUNKED: True, "shape": {"0": 2, "1": 3}, "chunks": parts} | changes


def test_chunks_are_joined_by_their_number_wherever_they_stand_i9(tmp_path: Path) -> None:
    parts = {"1": np.float32([4, 5]), "0": np.float32([0, 1, 2, 3])}
    checkpoint = opened(tmp_path / "f", written({"a": chunks(chunks=parts)}))
    assert named_values(checkpoint) == {"a": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}
    assert checkpoint.tensors[0].shape == (2, 3)


def test_many_chunks_are_read_in_blocks_that_cross_them(tmp_path: Path) -> None:
    stored = np.random.default_rng(3).normal(size=300_000).astype(np.float32)
    parts = {str(number): part for number, part in enumerate(np.array_split(stored, 37))}
    tree = {"a": chunks(shape={"0": 300, "1": 1000}, chunks=parts)}
    (tensor,) = opened(tmp_path / "f", written(tree)).tensors
    np.testing.assert_array_equal(values(tensor), stored.astype(np.float64))


BAD_CHUNKS = {
    "I9 chunks of too few elements": (chunks(shape={"0": 2, "1": 4}), "its shape (2, 4) is not that of its chunks"),
    "I9 a negative size": (chunks(shape={"0": -2, "1": -3}), "its shape (-2, -3) is not that of its chunks"),
    "I9 a chunk is missing": (chunks(chunks={"0": ONE, "2": ONE}), "are not numbered without a gap"),
    "I9 a size is missing": (chunks(shape={"0": 2, "2": 3}), "are not numbered without a gap"),
    "I9 no chunks": (chunks(chunks={}), "it has no chunks"),
    "I9 chunks of two dtypes": (chunks(chunks={"0": ONE, "1": np.ones(2)}), "its chunks have different dtypes"),
    "I9 a chunk that lies": (chunks(chunks={"0": array([1.0], [5])}), "its shape needs 40 bytes, there are 8"),
    "I9 a chunk that is no array": (chunks(chunks={"0": 1}), "there is more beside its chunks than Flax writes"),
    "I9 a chunk of another extension": (chunks(chunks={"0": msgpack.ExtType(9, b"")}), "of its chunk 0, it is an exte"),
    "I9 something else beside the chunks": (chunks(more=1), "there is more beside its chunks than Flax writes"),
}


@pytest.mark.parametrize("case", BAD_CHUNKS)
def test_chunks_that_do_not_fit_are_unread_and_the_others_are_read(tmp_path: Path, case: str) -> None:
    bad, reason = BAD_CHUNKS[case]
    checkpoint = opened(tmp_path / "f", written({"good": ONE, "bad": bad}))
    assert named_values(checkpoint) == {"good": [1.0, 2.0]}
    assert reason in reasons(checkpoint)["bad"]


def test_a_mark_of_chunks_behind_other_keys_is_refused(tmp_path: Path) -> None:
    tree = {"a": {"chunks": {"0": ONE}, CHUNKED: True, "shape": {"0": 2}}}
    with pytest.raises(CheckpointError, match="is marked as an array in chunks late"):
        opened(tmp_path / "f", written(tree))


BAD_ARRAYS = {
    "I9 an unknown extension": (msgpack.ExtType(42, b"x"), "it is an extension of type 42, which Flax does not write"),
    "I9 a negative extension": (msgpack.Timestamp(0), "of type -1"),
    "I9 a shape of more elements": (array([1.0], [2]), "its shape needs 16 bytes, there are 8"),
    "I9 a shape of fewer elements": (array([1.0, 2.0], [1]), "its shape needs 8 bytes, there are 16"),
    "I9 a shape that overflows": (
        array([1.0], [1 << 32, 1 << 32]),
        "its shape needs 147,573,952,589,676,412,928 bytes",
    ),
    "I9 a negative size": (array([1.0], [-1]), "its shape (-1,) has a negative size"),
    "I9 a size that is no number": (array([1.0], ["1"]), "it is no list of a shape, a dtype and bytes"),
    "I9 a size that is a truth value": (array([1.0], [True]), "it is no list of a shape, a dtype and bytes"),
    "I9 a shape that is none": (array([1.0], 5), "it does not start with the shape of an array"),
    "I9 a shape of 4 G sizes": (msgpack.ExtType(1, b"\x93\xdd\xff\xff\xff\xff"), "a list at byte"),
    "I9 an unknown dtype": (array([1.0], None, "float7"), "its dtype 'float7' is not one that can be read"),
    "I9 a dtype of 4 G": (msgpack.ExtType(1, b"\x93\x91\x01\xdb\xff\xff\xff\xff"), "text at byte"),
    "I9 a dtype of texts": (array(["ab"]), "its dtype 'str64' is not one that can be read"),
    "I9 4-bit integers": (array(np.ones(2, ml_dtypes.int4)), "its dtype 'int4' is not one that can be read"),
    "I9 bytes behind the array": (msgpack.ExtType(1, ONE.data + b"x"), "it has 1 bytes more than the array"),
    "I9 an empty extension": (msgpack.ExtType(1, b""), "it ends at byte"),
    "bytes": (b"abc", "bytes without a shape and a dtype"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_an_array_that_lies_is_unread_and_the_others_are_read(tmp_path: Path, case: str) -> None:
    bad, reason = BAD_ARRAYS[case]
    checkpoint = opened(tmp_path / "f", msgpack.packb({"good": ONE, "bad": bad}))
    assert named_values(checkpoint) == {"good": [1.0, 2.0]}
    assert reason in reasons(checkpoint)["bad"]


def behind(content: bytes) -> bytes:
    """A map of an array and of this."""
    return b"\x82\xa1a" + msgpack.packb(ONE) + b"\xa1b" + content


REFUSED = {
    "I9 a map of 4 G": (behind(b"\xdf\xff\xff\xff\xff"), "a map at byte .* claims 4,294,967,295"),
    "I9 a list of 4 G": (behind(b"\xdd\xff\xff\xff\xff"), "a list at byte .* claims 4,294,967,295"),
    "I9 bytes of 4 G": (
        behind(b"\xc6\xff\xff\xff\xff"),
        "bytes at byte .* of 4,294,967,295 bytes, of which 0 are there",
    ),
    "I9 a text of 4 G": (behind(b"\xdb\xff\xff\xff\xff"), "text at byte .* of 4,294,967,295 bytes"),
    "I9 an extension of 4 G": (behind(b"\xc9\xff\xff\xff\xff\x01"), "extension at byte .* of 4,294,967,295 bytes"),
    "I9 100,000 lists in each other": (behind(b"\x91" * 100_000 + b"\xc0"), "is nested more than the 512"),
    "I9 100,000 maps in each other": (behind(b"\x81\xa1a" * 100_000 + b"\xc0"), "is nested more than the 512"),
    "I9 a million numbers": (behind(b"\xdd" + struct.pack(">I", 10**6) + b"\0" * 10**6), "--limit msgpack_items=N"),
    "a byte that starts nothing": (behind(b"\xc1"), r"has a byte that starts no value \(0xc1\)"),
    "the same key twice": (b"\x82" + (b"\xa1a" + msgpack.packb(ONE)) * 2, "has the key 'a' twice"),
    "a number and its text": (b"\x82\x07" + msgpack.packb(ONE) + b"\xa17\xc0", "has the key '7' twice"),
    "a key that is a list": (b"\x82\xa1a" + msgpack.packb(ONE) + b"\x90\xc0", "has a key that is no text"),
    "a key of 100 kB": (
        b"\x82\xa1a" + msgpack.packb(ONE) + msgpack.packb("k" * 100_000) + b"\xc0",
        "has a key of 100,000",
    ),
    "11,000 arrays of one number": (written({str(n): np.ones(1) for n in range(11_000)}), "--limit crowded_tensors=N"),
    "names that add up": (
        written({"k" * 60_000: {str(number): np.ones(1) for number in range(2_000)}}),
        "characters of names, more than the .* --limit text_bytes=N",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_tree_that_lies_is_refused_soon(tmp_path: Path, case: str) -> None:
    content, problem = REFUSED[case]
    with ending_soon(), pytest.raises(CheckpointError, match=problem) as caught:
        opened(tmp_path / "f", content)
    assert str(caught.value).isprintable()


def test_bytes_behind_the_tree_are_damage_i9(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "f", written(SIMPLE) + b"\x01\x02")
    assert checkpoint.damage == "has 2 bytes after the end of its tree: something in it has moved"
    assert len(checkpoint.tensors) == 2


@pytest.mark.parametrize(
    "content",
    [
        msgpack.packb({"a": 1, "b": [1.5, "x"]}),
        msgpack.packb({"a": {"b": msgpack.ExtType(5, b"x")}}),
        msgpack.packb({"when": msgpack.Timestamp(0)}),
        msgpack.packb({"a": msgpack.ExtType(1, b"no array")}),
        msgpack.packb([ONE]),
        b"\x81",
        b"\x81\xa1a",
        b"\x80\x02}q\x00.",
        b"\x85" * 100,
    ],
    ids=["no arrays", "extension 5", "a time", "extension 1", "a list", "a byte", "a key", "a pickle", "maps as keys"],
)
def test_what_holds_no_array_of_flax_is_not_taken_for_flax_s(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"is not in a format|pickle"):
        opened(tmp_path / "f", content)


def test_random_bytes_are_not_taken_for_flax_s(tmp_path: Path) -> None:
    chance = np.random.default_rng(8)
    for _ in range(300):
        content = bytes((chance.choice((0x81, 0x85, 0xDE, 0xDF)),)) + chance.bytes(300)
        (tmp_path / "f").write_bytes(content)
        assert not flax_msgpack.recognises(content, open_file(tmp_path / "f"))


def bytes_read() -> int:
    """What this process has read so far."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what a process reads")
def test_only_what_describes_the_arrays_is_read_when_a_file_is_opened(tmp_path: Path) -> None:
    tree = {str(number): np.ones(1 << 18, np.float32) for number in range(64)}
    path = tmp_path / "f"
    path.write_bytes(written(tree))
    before = bytes_read()
    checkpoint = open_checkpoint(str(path))
    assert bytes_read() - before < 8 << 20
    assert checkpoint.bytes > 64 << 20


# What the arrays are


def uses(tree: Any, path: Path) -> dict[str, tuple[str, str] | None]:
    return {t.name: t.use and (t.use.kind, t.use.axes) for t in opened(path / "f", written(tree)).tensors}


def ones(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


def test_projections_of_attention_have_heads(tmp_path: Path) -> None:
    attention = {name: {"kernel": ones(16, 4, 4)} for name in ("query", "key", "value")} | {
        "out": {"kernel": ones(4, 4, 16)}
    }
    found = uses({"params": {"att": attention, "alone": {"query": {"kernel": ones(16, 4, 4)}}}}, tmp_path)
    assert found["params.att.query.kernel"] == found["params.att.value.kernel"] == ("linear", "IOO")
    assert found["params.att.out.kernel"] == ("linear", "IIO")
    assert found["params.alone.query.kernel"] is None


@pytest.mark.parametrize(
    ("kernel", "bias", "use"),
    [
        ((16, 4, 5), (4, 5), ("linear", "IOO")),
        ((6, 16, 5), (6, 5), ("linear", "BIO")),
        ((6, 6, 5), (6, 5), None),
        ((3, 4, 8), (8,), None),
        ((6, 3, 3, 4, 8), (6, 8), ("conv2d", "BKKIO")),
        ((4, 8), (8,), None),
    ],
    ids=str,
)
def test_a_kernel_is_known_by_the_shape_of_its_bias(tmp_path: Path, kernel: Any, bias: Any, use: Any) -> None:
    assert uses({"a": {"kernel": ones(*kernel), "bias": ones(*bias)}}, tmp_path)["a.kernel"] == use


def test_transposed_convolutions_and_embeddings_are_known_by_their_modules(tmp_path: Path) -> None:
    tree = {
        "ConvTranspose_0": {"kernel": ones(2, 2, 16, 4), "bias": ones(4)},
        "ConvTranspose_1": {"kernel": ones(2, 2, 16, 4), "bias": ones(16)},
        "Embed_0": {"embedding": ones(50, 8)},
    }
    found = uses(tree, tmp_path)
    assert found["ConvTranspose_0.kernel"] == ("conv_transpose2d", "KKIO")
    assert found["ConvTranspose_1.kernel"] == ("conv_transpose2d", "KKOI")
    assert found["Embed_0.embedding"] == ("embedding", "IO")


def test_the_network_of_a_training_state_is_its_params(tmp_path: Path) -> None:
    dense = {"kernel": ones(4, 3), "bias": ones(3)}
    tree = {
        "step": 7,
        "params": {"Dense_0": dense, "Dense_1": dense},
        "opt_state": {"0": {"count": np.int32([7]), "mu": {"Dense_0": dense}, "nu": {"Dense_0": dense}}, "1": {}},
        "batch_stats": {"BatchNorm_0": {"mean": ones(3), "var": ones(3)}},
    }
    (tmp_path / "f").write_bytes(written(tree))
    report = weightstats.inspect(str(tmp_path / "f"))
    assert [(layer.name, layer.n_in, layer.n_out) for layer in report.layers] == [
        *(("Dense_0.kernel", 4, 3), ("Dense_1.kernel", 4, 3))
    ]
    beside = {other.name for other in report.others}
    assert {"opt_state.0.mu.Dense_0.kernel", "batch_stats.BatchNorm_0.mean"} <= beside


def test_a_published_network_in_flax_s_form_is_read_whole(tmp_path: Path) -> None:
    state = torch.load(PUBLISHED / "facenet-pytorch" / "rnet.pt", weights_only=True)
    tree: dict[str, Any] = {}
    for name, tensor in state.items():
        module, leaf = name.rsplit(".", 1)
        stored = tensor.numpy()
        stored = np.ascontiguousarray(stored.transpose(*range(2, stored.ndim), 1, 0)) if stored.ndim > 1 else stored
        tree.setdefault(module, {})["kernel" if stored.ndim > 1 else leaf] = stored
    checkpoint = opened(tmp_path / "f", written({"params": tree}))
    expected = {
        f"params.{module}.{leaf}": part.reshape(-1) for module, kept in tree.items() for leaf, part in kept.items()
    }
    assert {name: list(found) for name, found in named_values(checkpoint).items()} == {
        name: part.astype(np.float64).tolist() for name, part in expected.items()
    }
    assert len(expected) == len(state)


# Damage


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    for content in (BY_FLAX, written(SIMPLE)):
        for length in range(1, len(content)):
            with pytest.raises(CheckpointError):
                opened(tmp_path / "f", content[:length])


def test_damage_is_refused_or_listed_and_nothing_else_escapes(tmp_path: Path) -> None:
    chance = np.random.default_rng(9)
    with ending_soon(30):
        for _ in range(1500):
            damaged = bytearray(BY_FLAX)
            for _ in range(chance.choice((1, 1, 2, 5))):
                damaged[chance.integers(len(damaged))] = chance.integers(256)
            with contextlib.suppress(CheckpointError):
                for tensor in opened(tmp_path / "f", bytes(damaged)).tensors:
                    values(tensor)
