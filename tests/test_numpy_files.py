"""numpy's own files, `.npy` and `.npz`: what numpy writes is read, pickles are never loaded, and lies are refused."""

import contextlib
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from makers import ending_soon, named_values, opened, pickled, reasons, values, zip_file
from numpy.typing import NDArray
from published import published

from weightstats.containers.literals import LiteralError, read_literal
from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits
from weightstats.places import open_file
from weightstats.readers import numpy_npz, open_checkpoint

DTYPES = {"f2": "F16", "f4": "F32", "f8": "F64", "c8": "C64", "c16": "C128", "b1": "BOOL"}
DTYPES |= {f"{kind}{width}": f"{kind.upper()}{8 * width}" for kind in "iu" for width in (1, 2, 4, 8)}


def npy(array: Any, **options: Any) -> bytes:
    """What numpy.save writes."""
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npz(compressed: bool = False, **arrays: Any) -> bytes:
    """What numpy.savez writes."""
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


def with_header(text: str | bytes, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """An array whose header has this text."""
    text = text if isinstance(text, bytes) else text.encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


def header(descr: str = "'<f4'", shape: str = "(2,)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def archive(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, content in entries.items():
            made.writestr(name, content)
    return stream.getvalue()


def in_storage_order(array: NDArray[Any]) -> list[float]:
    """The elements as they lie in the file, complex ones as magnitudes."""
    flat = array.reshape(-1, order="F" if array.flags.fnc else "C")
    return (np.abs(flat.astype(np.complex128)) if array.dtype.kind == "c" else flat.astype(np.float64)).tolist()


# One array


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", DTYPES)
def test_every_dtype_is_read_as_numpy_reads_it_in_either_byte_order(tmp_path: Path, code: str, order: str) -> None:
    array = np.random.default_rng(1).integers(0, 2 if code == "b1" else 100, (3, 4)).astype(f"{order}{code}")
    checkpoint = opened(tmp_path / "f", npy(array))
    (tensor,) = checkpoint.tensors
    assert (tensor.name, tensor.shape, tensor.dtype.name) == ("array", (3, 4), DTYPES[code])
    assert values(tensor).tolist() == in_storage_order(array)
    assert (checkpoint.format, checkpoint.unread, checkpoint.warnings) == ("NumPy array", (), ())


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4), (1,) * 64], ids=str)
def test_every_shape_is_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    (tensor,) = opened(tmp_path / "f", npy(array)).tensors
    assert (tensor.shape, values(tensor).tolist()) == (shape, array.reshape(-1).tolist())


def test_fortran_order_keeps_shape_and_values_i4(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))
    (tensor,) = opened(tmp_path / "f", npy(array)).tensors
    assert tensor.shape == (2, 3, 4)
    assert values(tensor).tolist() == in_storage_order(array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(tmp_path: Path, version: Any) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([1.0, 2.0]), version=version)
    assert named_values(opened(tmp_path / "f", stream.getvalue())) == {"array": [1.0, 2.0]}


def test_bfloat16_is_known_by_its_byte_order_which_raw_bytes_have_not(tmp_path: Path) -> None:
    array = np.array([1, -2.5, 3e38], ml_dtypes.bfloat16)
    (tensor,) = opened(tmp_path / "f", npy(array)).tensors
    assert (tensor.dtype.name, values(tensor).tolist()) == ("BF16", array.astype(np.float64).tolist())


def test_a_header_that_python_2_wrote_is_read(tmp_path: Path) -> None:
    content = with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2L,)}", np.ones(2, "<f4").tobytes())
    assert named_values(opened(tmp_path / "f", content)) == {"array": [1.0, 1.0]}


NOT_READ: dict[str, tuple[Any, str]] = {
    "objects": (np.array([1, "a"], object), "its elements are pickled objects, which are never loaded"),
    "raw bytes": (np.zeros(3, "V2"), "its elements are raw bytes of no known type ('|V2')"),
    "texts": (np.array(["ab"]), "its elements are texts ('<U2')"),
    "byte texts": (np.array([b"ab"]), "its elements are texts of bytes ('|S2')"),
    "times": (np.zeros(2, "M8[ns]"), "its elements are points in time ('<M8[ns]')"),
    "spans": (np.zeros(2, "m8[D]"), "its elements are spans of time ('<m8[D]')"),
    "structures": (np.zeros(2, [("a", "f4"), ("b", "i2", (2, 3))]), "its elements are structures of several types"),
    "nested": (np.zeros(2, [("a", [("b", "f4")])]), "its elements are structures of several types"),
    "long doubles": (np.ones(2, np.longdouble), "long doubles, whose layout depends on the machine"),
    "8-bit floats": (np.ones(2, ml_dtypes.float8_e4m3fn), "8-bit floats or small integers of a kind"),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_what_holds_no_numbers_of_a_known_kind_is_unread_with_its_reason_i3(tmp_path: Path, name: str) -> None:
    array, reason = NOT_READ[name]
    for content in (npy(array), npz(array=array), npz(True, array=array)):
        checkpoint = opened(tmp_path / "f", content)
        assert checkpoint.tensors == ()
        assert reason in reasons(checkpoint)["array"]


def test_a_pickle_in_an_array_is_never_loaded_i8(tmp_path: Path) -> None:
    pickle = b"cos\nmkdir\n(S'" + str(tmp_path / "canary").encode() + b"'\ntR."
    content = with_header(header("'|O'", "(1,)"), pickle)
    for held in (content, archive({"a.npy": content})):
        assert list(reasons(opened(tmp_path / "f", held)).values()) == [
            "its elements are pickled objects, which are never loaded"
        ]
    assert not (tmp_path / "canary").exists()


REFUSED = {
    "I1 10 GB of which 16 bytes are there": (
        with_header(header("'<f8'", "(1250000000,)"), bytes(16)),
        r"is truncated: its header describes 10,000,000,000 bytes of elements, the file has 16",
    ),
    "I2 a header of 4 MB": (b"\x93NUMPY\2\0" + struct.pack("<I", 4 << 20), "more than the 10,000 that --limit npy_h"),
    "I2 a header of 4 GB": (b"\x93NUMPY\2\0\xff\xff\xff\xff", "claims 4,294,967,295 bytes, more than the 10,000"),
    "I3 300 types in each other": (
        with_header(header("[('a', " * 300 + "'<f4'" + ")]" * 300)),
        "is nested more than 32 deep",
    ),
    "I3 texts of 2 GB": (with_header(header("'|S2000000000'", "(1,)")), "is truncated"),
    "I5 a negative size": (with_header(header(shape="(-2,)"), bytes(8)), r"its shape \(-2,\) is not one of sizes"),
    "I5 a size beyond 64 bits": (with_header(header(shape="(18446744073709551616,)")), "is truncated"),
    "I5 a size of 5,000 digits": (with_header(header(shape=f"({'9' * 5000},)")), "has a number of 5,000 digits"),
    "I5 sizes whose product overflows": (with_header(header(shape="(4294967296, 4294967296)")), "is truncated"),
    "I5 a size that is a truth value": (with_header(header(shape="(True, 2)"), bytes(8)), "is not one of sizes"),
    "I8 version 9.9": (with_header(header(), bytes(8), (9, 9)), "is of version 9.9 of the numpy format"),
    "data beyond the array": (npy(np.ones(2)) + b"x", "goes on after its array: its header describes 16 bytes"),
    "data of a second array": (npy(np.ones(2))[:-1] + npy(np.ones(2)), "goes on after its array"),
    "a shape that is no tuple": (with_header(header(shape="2"), bytes(8)), "a fortran_order or a shape that is none"),
    "an order that is no truth value": (with_header(header(order="1"), bytes(8)), "a fortran_order or a shape"),
    "a dtype that is none": (with_header(header("'<q9'"), bytes(8)), "its dtype '<q9' is none of numpy's"),
    "a dtype that is a number": (with_header(header("4"), bytes(8)), "its dtype is none of numpy's"),
    "a field of negative size": (with_header(header("[('a', '<f4', (-1,))]")), r"\(-1,\) is not one of sizes"),
    "a key too many": (with_header("{'a': 1, 'descr': '<f4', 'fortran_order': False, 'shape': ()}"), "is not a dict"),
    "a key twice": (with_header("{'descr': '<f4', 'descr': '<f8'}"), "gives 'descr' twice"),
    "code": (with_header("__import__('os').system('id')"), "has something else at character 0"),
    "a call": (with_header(header(shape="tuple([2])"), bytes(8)), "has something else at character"),
    "not UTF-8": (with_header(b"{'\xff': 1}", version=(3, 0)), "its numpy header is not text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_header_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    content, problem = REFUSED[case]
    with ending_soon(), pytest.raises(CheckpointError, match=problem) as caught:
        opened(tmp_path / "f", content)
    assert str(caught.value).isprintable()


def test_more_dimensions_than_numpy_has_are_unread(tmp_path: Path) -> None:
    content = with_header(header(shape=f"({'1, ' * 70})"), bytes(4))
    assert "70 dimensions" in reasons(opened(tmp_path / "f", content))["array"]


def test_a_longer_header_is_read_where_the_limit_allows_it(tmp_path: Path) -> None:
    content = with_header(header(shape="(2,)").rstrip() + " " * 20_000 + "\n", np.ones(2, "<f4").tobytes(), (2, 0))
    with pytest.raises(CheckpointError, match="--limit npy_header_bytes=N"):
        opened(tmp_path / "f", content)
    with changed_limits({"npy_header_bytes": 30_000}):
        assert named_values(opened(tmp_path / "f", content)) == {"array": [1.0, 1.0]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': (1, 2L,), \"b\": [True, False]}", {"a": (1, 2), "b": [True, False]}),
        ("(1)", 1),
        ("(1,)", (1,)),
        ("()", ()),
        ("[]", []),
        (r"'it\'s'", r"it\'s"),
        ("u'a'", "a"),
        ("-3", -3),
    ],
)
def test_literals_have_the_values_that_python_gives_them(text: str, value: object) -> None:
    assert read_literal(text) == value


@pytest.mark.parametrize("text", ["", "{", "{1: 2}", "{'a' 1}", "(1 2)", "(,)", "1 2", "]", "'a", "None", "1.5", "a"])
def test_other_texts_are_no_literals(text: str) -> None:
    with pytest.raises(LiteralError):
        read_literal(text)


# Archives


@pytest.mark.parametrize("compressed", [False, True], ids=["stored", "deflated"])
def test_what_savez_writes_is_read(tmp_path: Path, compressed: bool) -> None:
    chance = np.random.default_rng(2)
    arrays: dict[str, Any] = {code: chance.integers(0, 2, (5, 3)).astype(code) for code in (*DTYPES, ">f4", ">i8")}
    arrays["fortran"] = np.asfortranarray(chance.normal(size=(3, 4)))
    arrays["large"] = chance.normal(size=200_000)
    checkpoint = opened(tmp_path / "f", npz(compressed, **arrays))
    assert checkpoint.format == "NumPy archive"
    assert named_values(checkpoint) == {name: in_storage_order(array) for name, array in arrays.items()}
    assert [tensor.shape for tensor in checkpoint.tensors] == [array.shape for array in arrays.values()]


def test_arrays_without_names_have_those_that_numpy_gives_them(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, np.ones(1), np.zeros(2))
    assert named_values(opened(tmp_path / "f", stream.getvalue())) == {"arr_0": [1.0], "arr_1": [0.0, 0.0]}


def test_keys_with_slashes_are_nested_keys(tmp_path: Path) -> None:
    names = ("Transformer/block/kernel", "scope//weights", "plain.key")
    checkpoint = opened(tmp_path / "f", npz(**{name: np.ones(1) for name in names}))
    paths = [("Transformer", "block", "kernel"), ("scope", "weights"), ("plain.key",)]
    assert [tensor.path for tensor in checkpoint.tensors] == paths


def test_keys_that_would_be_the_same_without_their_slashes_are_left_whole(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "f", npz(**{"a//b": np.ones(1), "a/b": np.zeros(1)}))
    assert [tensor.path for tensor in checkpoint.tensors] == [("a//b",), ("a/b",)]


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/../../evil"])
def test_i7_a_name_that_climbs_is_only_a_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    checkpoint = opened(folder / "f", archive({f"{name}.npy": npy(np.ones(2))}))
    assert [tensor.path for tensor in checkpoint.tensors] == [(name,)]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["f", "folder"]


def test_entries_without_the_suffix_are_read_if_they_are_arrays(tmp_path: Path) -> None:
    entries = {"a.npy": npy(np.ones(1)), "b": npy(np.zeros(1)), "c.npy": npy(np.ones(2)), "d.npy": npy(1.0)}
    checkpoint = opened(tmp_path / "f", archive(entries | {"notes.txt": b"hello"}))
    assert named_values(checkpoint) == {"a": [1.0], "b": [0.0], "c": [1.0, 1.0], "d": [1.0]}
    assert checkpoint.warnings == ("entries that are no arrays were left out: notes.txt",)


def test_two_arrays_of_one_key_are_refused(tmp_path: Path) -> None:
    content = archive({"a.npy": npy(np.ones(1)), "a": npy(np.zeros(1)), "b.npy": npy(np.ones(1))})
    with pytest.raises(CheckpointError, match="has two arrays named 'a'"):
        opened(tmp_path / "f", content)


def test_a_bad_array_is_unread_and_the_others_are_read(tmp_path: Path) -> None:
    entries = {
        "good.npy": npy(np.ones(2)),
        "short.npy": npy(np.ones(2))[:-1],
        "long.npy": npy(np.ones(2)) + b"x",
        "version.npy": with_header(header(), bytes(8), (9, 9)),
        "text.npy": b"hello",
        "empty.npy": b"",
    }
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        checkpoint = opened(tmp_path / "f", archive(entries, method))
        assert named_values(checkpoint) == {"good": [1.0, 1.0]}
        assert reasons(checkpoint) == {
            "short": "its header describes 16 bytes of elements, there are 15",
            "long": "its header describes 16 bytes of elements, there are 17",
            "version": "it is of version 9.9 of the numpy format, which does not exist",
            "text": "it ends within its numpy header",
            "empty": "it ends within its numpy header",
        }


def test_a_bomb_is_not_inflated_when_it_is_opened_i6(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made,
        made.open("bomb.npy", "w", force_zip64=True) as entry,
    ):
        entry.write(with_header(header("'|u1'", f"({300 << 20},)")))
        for _ in range(300):
            entry.write(bytes(1 << 20))
    with ending_soon(2):
        (tensor,) = opened(tmp_path / "f", stream.getvalue()).tensors
    assert tensor.shape == (300 << 20,)


def test_a_damaged_element_of_a_small_array_is_found_by_its_checksum(tmp_path: Path) -> None:
    content = npz(a=np.arange(4.0), b=np.ones(3))
    place = content.index(np.arange(4.0).tobytes()) + 9
    checkpoint = opened(tmp_path / "f", content[:place] + b"\xff" + content[place + 1 :])
    assert named_values(checkpoint) == {"b": [1.0, 1.0, 1.0]}
    assert "checksum" in reasons(checkpoint)["a"]


def test_a_torch_file_with_arrays_beside_its_pickle_stays_one(tmp_path: Path) -> None:
    content = zip_file(pickled({}), {}, entries=[(f"archive/{name}.npy", npy(np.ones(1))) for name in "abcdef"])
    assert opened(tmp_path / "f", content).format == "torch zip"
    assert not numpy_npz.recognises(content, open_file(tmp_path / "f"))


def test_a_zip_with_few_arrays_is_no_numpy_archive(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a zip archive that holds no checkpoint"):
        opened(tmp_path / "f", archive({"a.npy": npy(np.ones(1)), "b.txt": b"", "c.txt": b""}))


def test_convolutions_of_haiku_are_known_by_the_size_of_their_bias(tmp_path: Path) -> None:
    shapes = {"conv/w": (3, 3, 4, 8), "conv/b": (8,), "up/w": (2, 2, 6, 5), "up/b": (6,), "torch/w": (8, 4, 3, 3)}
    shapes |= {"odd/w": (8, 3, 3, 8), "odd/b": (8,)}
    shapes |= {"torch/b": (8,), "linear/w": (4, 8), "linear/b": (8,)}
    checkpoint = opened(tmp_path / "f", npz(**{name: np.ones(shape, np.float32) for name, shape in shapes.items()}))
    uses = {tensor.name: tensor.use and (tensor.use.kind, tensor.use.axes) for tensor in checkpoint.tensors}
    assert uses["conv.w"] == ("conv2d", "KKIO")
    assert uses["up.w"] == ("conv_transpose2d", "KKOI")
    assert (uses["torch.w"], uses["odd.w"], uses["linear.w"]) == (None, None, None)


# Damage


@pytest.mark.parametrize(
    "content",
    [npy(np.arange(6.0)), npz(a=np.arange(6.0), b=np.ones(2)), npz(True, a=np.arange(600.0))],
    ids=["npy", "npz", "npz deflated"],
)
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path, content: bytes) -> None:
    for length in range(1, len(content)):
        with pytest.raises(CheckpointError):
            opened(tmp_path / "f", content[:length])


@pytest.mark.parametrize("kind", ["npy", "npz", "npz deflated"])
def test_damage_is_refused_or_listed_and_nothing_else_escapes(tmp_path: Path, kind: str) -> None:
    arrays = {"a": np.arange(6.0), "b": np.ones((2, 2), np.float32)}
    content = npy(arrays["a"]) if kind == "npy" else npz(kind != "npz", **arrays)
    chance = np.random.default_rng(5)
    with ending_soon(30):
        for _ in range(1000):
            damaged = bytearray(content)
            for _ in range(chance.choice((1, 1, 2, 5))):
                damaged[chance.integers(len(damaged))] = chance.integers(256)
            with contextlib.suppress(CheckpointError):
                for tensor in opened(tmp_path / "f", bytes(damaged)).tensors:
                    values(tensor)


# Published networks


def test_the_published_network_of_g2p_en_is_read_as_numpy_reads_it() -> None:
    digest = "b8af35e4596d8dd5836dfd3fe9b2ba4f97b9c311efe8879544cbcfcbd566d8c6"
    path = published("g2p-en", "2.1.0", "g2p_en/checkpoint20.npz", digest)
    checkpoint = open_checkpoint(str(path))
    with np.load(path, allow_pickle=False) as arrays:
        assert named_values(checkpoint) == {name: in_storage_order(arrays[name]) for name in arrays.files}
        assert {t.name: t.shape for t in checkpoint.tensors} == {name: arrays[name].shape for name in arrays.files}
    assert len(checkpoint.tensors) == 12
