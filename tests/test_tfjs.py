"""TensorFlow.js models: values as its decoder gives them, what the topology says, and what breaks the manifest."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers import ending_soon, floats, named_values, reasons
from published_npm import published_npm

from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError
from weightstats.layers import Layer, classify
from weightstats.limits import changed_limits
from weightstats.network import find_network
from weightstats.places import open_file
from weightstats.readers import tfjs

LANGUAGE_SHA256 = "8121e471b76a54b189952b31cdeca1f55969451c9d4ac045353ff81bdde57db6"
FACE_SHA256 = "b904a79965e543aa19afb143ed0d2cc4925b66a4e9428a8a4d774205a6c51cea"

FOUR = floats(1, 2, 3, 4)


def weight(name: str = "w", shape: Any = (4,), dtype: Any = "float32", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(shape) if isinstance(shape, tuple) else shape, "dtype": dtype, **more}


def group(*weights: Any, paths: Any = ("group1-shard1of1.bin",)) -> dict[str, Any]:
    return {"paths": list(paths) if isinstance(paths, tuple) else paths, "weights": list(weights)}


def opened(folder: Path, *groups: Any, topology: Any = None, **files: bytes) -> Checkpoint:
    """A model; `files` are its binary files, by name without the suffix."""
    for name, content in files.items():
        (folder / f"{name}.bin").write_bytes(content)
    document = {"format": "graph-model", "modelTopology": topology, "weightsManifest": list(groups)}
    return read(folder, json.dumps(document).encode())


def read(folder: Path, document: bytes) -> Checkpoint:
    path = folder / "model.json"
    path.write_bytes(document)
    return tfjs.read(open_file(path))


def node(name: str, op: str, *inputs: str, **attributes: bool) -> dict[str, Any]:
    return {"name": name, "op": op, "input": list(inputs), "attr": {key: {"b": on} for key, on in attributes.items()}}


# Values


def test_weights_follow_each_other_through_the_files_of_a_group(tmp_path: Path) -> None:
    weights = [weight("a", (3,)), weight("dense/kernel", (2, 2)), weight("c", (), "int32"), weight("d", (2,), "bool")]
    content = floats(1, 2, 3, 4, 5, 6, 7) + np.array([-8], "<i4").tobytes() + b"\1\0"
    found = opened(tmp_path, group(*weights, paths=("x.bin", "y.bin", "z.bin")), x=content[:6], y=b"", z=content[6:])
    assert named_values(found) == {"a": [1, 2, 3], "dense.kernel": [4, 5, 6, 7], "c": [-8], "d": [1, 0]}
    assert found.bytes == len(content) + (tmp_path / "model.json").stat().st_size


def test_every_group_begins_in_files_of_its_own(tmp_path: Path) -> None:
    found = opened(
        tmp_path,
        group(weight("a"), paths=("x.bin",)),
        group(weight("b"), paths=("y.bin",)),
        x=FOUR,
        y=floats(5, 6, 7, 8),
    )
    assert named_values(found) == {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8]}


@pytest.mark.parametrize(
    ("dtype", "code"),
    [("uint8", "u1"), ("uint16", "<u2")],
)
def test_quantised_weights_are_scaled_as_the_decoder_does_it(tmp_path: Path, dtype: str, code: str) -> None:
    stored = np.array([0, 1, 77, 255], code)
    quantised = {"dtype": dtype, "scale": 0.009007044399485869, "min": -1.2069439495311063}
    found = opened(tmp_path, group(weight(quantization=quantised), paths=("x.bin",)), x=stored.tobytes())
    expected = np.array([v * quantised["scale"] + quantised["min"] for v in stored.tolist()], np.float32)
    assert named_values(found) == {"w": expected.astype(float).tolist()}
    assert found.tensors[0].dtype.name == f"U{8 * stored.itemsize} scaled"


def test_half_precision_is_quantisation_to_the_format(tmp_path: Path) -> None:
    stored = np.array([1.5, -2, 65504, 6e-8], "<f2")
    found = opened(tmp_path, group(weight(quantization={"dtype": "float16"}), paths=("x.bin",)), x=stored.tobytes())
    assert named_values(found) == {"w": stored.astype(float).tolist()}
    assert found.tensors[0].dtype.name == "F16"


def test_quantised_integers_are_rounded(tmp_path: Path) -> None:
    quantised = {"dtype": "uint8", "scale": 0.4, "min": -3}
    found = opened(
        tmp_path, group(weight(dtype="int32", quantization=quantised), paths=("x.bin",)), x=bytes([0, 1, 2, 9])
    )
    assert named_values(found) == {"w": [-3, -3, -2, 1]}
    assert found.tensors[0].dtype.kind == "integer"


def test_texts_are_listed_and_what_follows_them_is_read(tmp_path: Path) -> None:
    texts = b"\3\0\0\0abc" + b"\0\0\0\0"
    found = opened(
        tmp_path, group(weight("t", (2,), "string"), weight("w", (1,)), paths=("x.bin",)), x=texts + floats(7)
    )
    assert named_values(found) == {"w": [7]}
    assert reasons(found) == {"t": "holds text, not numbers"}


# What the topology says


def test_a_graphs_operators_say_what_weights_are_for(tmp_path: Path) -> None:
    nodes = [
        *(node(name, "Const") for name in "abcd"),
        node("conv", "_FusedConv2D", "x", "a", "b"),
        node("fc", "MatMul", "conv", "c:0", "^ignored", transpose_b=True),
        node("look", "GatherV2", "d", "ids", "axis"),
    ]
    weights = [weight("a", (1, 1, 2, 1)), weight("b", (1,)), weight("c", (1, 2)), weight("d", (3, 1))]
    found = opened(tmp_path, group(*weights, paths=("x.bin",)), topology={"node": nodes}, x=floats(*range(8)))
    said = {tensor.name: (tensor.use.kind, tensor.use.axes) for tensor in found.tensors if tensor.use}
    assert said == {"a": ("conv2d", "KKIO"), "b": ("bias", ""), "c": ("linear", "OI"), "d": ("embedding", "IO")}
    assert any("batch normalisations" in warning for warning in found.warnings)


def test_kerass_configuration_says_what_a_layers_kernel_is(tmp_path: Path) -> None:
    layers = [{"class_name": "Conv2DTranspose", "config": {"name": "up"}}]
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": layers}}
    weights = group(weight("up/kernel", (1, 1, 2, 1)), paths=("x.bin",))
    found = opened(tmp_path, weights, topology={"model_config": config}, x=floats(1, 2))
    assert found.tensors[0].use is not None
    assert (found.tensors[0].use.kind, found.tensors[0].use.axes) == ("conv_transpose2d", "KKOI")


@pytest.mark.parametrize("topology", [None, 7, [], {"node": 7}, {"node": [7]}, {"node": [{"name": 1, "op": 2}]}])
def test_a_strange_topology_says_nothing(tmp_path: Path, topology: Any) -> None:
    found = opened(tmp_path, group(weight(), paths=("x.bin",)), topology=topology, x=FOUR)
    assert named_values(found) == {"w": [1, 2, 3, 4]}


def test_a_published_graph_model_is_read() -> None:
    """@vscode/vscode-languagedetection 1.0.23: guesslang's network, its weights quantised to 8 bits; MIT."""
    members = ("package/model/model.json", "package/model/group1-shard1of1.bin")
    folder = published_npm("@vscode/vscode-languagedetection", "1.0.23", members, LANGUAGE_SHA256)
    found = tfjs.read(open_file(folder / members[0]))
    layers = {item.name: item for item in classify(find_network(found)) if isinstance(item, Layer)}
    square = float(np.mean(np.square(named_values(found)["dnn.logits.kernel"])))
    assert (layers["dnn.logits.kernel"].n_in, layers["dnn.logits.kernel"].n_out) == (32, 54)
    assert square == pytest.approx(0.023483620633531557, rel=1e-3)  # TensorFlow's, before it was quantised
    groups = json.loads((folder / members[0]).read_bytes())["weightsManifest"]
    assert len(found.tensors) + len(found.unread) == sum(len(group["weights"]) for group in groups)


def test_a_published_manifest_alone_is_read() -> None:
    """@vladmandic/face-api 1.7.15: a face detector of seven convolutions; MIT."""
    members = tuple(f"package/model/tiny_face_detector_model{end}" for end in ("-weights_manifest.json", ".bin"))
    folder = published_npm("@vladmandic/face-api", "1.7.15", members, FACE_SHA256)
    file = open_file(folder / members[0])
    assert tfjs.recognises(file.read(0, 512), file)
    found = tfjs.read(file)
    layers = [item for item in classify(find_network(found)) if isinstance(item, Layer)]
    assert [layer.kind for layer in layers].count("depthwise_conv2d") == 5
    assert (layers[0].name, layers[0].n_in, layers[0].n_out) == ("conv0.filters", 27, 144)
    stored = np.frombuffer((folder / members[1]).read_bytes(), np.uint8, 3 * 3 * 3 * 16)
    expected = (stored * 0.009007044399485869 - 1.2069439495311063).astype(np.float32)
    assert named_values(found)["conv0.filters"] == expected.astype(float).tolist()


# Paths

OUTSIDE = ["../x.bin", "/etc/passwd", "sub/../../x.bin", "C:\\x.bin", "http://x/x.bin", "x\0.bin", ""]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: f"P1-{path!a}")
def test_a_file_outside_the_folder_is_not_opened(tmp_path: Path, path: str) -> None:
    (tmp_path / "x.bin").write_bytes(FOUR)
    (tmp_path / "in").mkdir()
    with pytest.raises(CheckpointError, match=r"names a file (outside its own folder|that cannot be)"):
        opened(tmp_path / "in", group(weight(), paths=(path,)))


def test_p2_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(FOUR)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "y.bin").symlink_to(tmp_path / "x.bin")
    with pytest.raises(CheckpointError, match="a link out of its own folder"):
        opened(tmp_path / "in", group(weight(), paths=("y.bin",)))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["P4-pipe", "P4-folder"])
def test_p4_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.bin")
    with ending_soon(5), pytest.raises(CheckpointError, match="is not a regular file"):
        opened(tmp_path, group(weight(), paths=("x.bin",)))


def test_p8_weights_of_a_missing_file_are_named(tmp_path: Path) -> None:
    found = opened(tmp_path, group(weight("a"), paths=("x.bin",)), group(weight("b"), paths=("y.bin",)), y=FOUR)
    assert named_values(found) == {"b": [1, 2, 3, 4]}
    assert reasons(found) == {"a": "its file 'x.bin' is not there"}


# Faults

REFUSED: dict[str, tuple[list[Any], str]] = {
    "no group": ([7], "a group of its weights manifest is malformed"),
    "paths": ([group(weight(), paths=7)], "a group of its weights manifest is malformed"),
    "weights": ([{"paths": ["x.bin"], "weights": [7]}], "a group of its weights manifest is malformed"),
    "no name": ([group(weight(name=None), paths=("x.bin",))], "a weight without a name"),  # type: ignore[arg-type]
    "a name twice": ([group(weight(shape=(2,)), weight(shape=(2,)), paths=("x.bin",))], "two of the name 'w'"),
    "shape": ([group(weight(shape=7), paths=("x.bin",))], "the shape of 'w' is malformed"),
    "negative": ([group(weight(shape=(-4,)), paths=("x.bin",))], "the shape of 'w' is malformed"),
    "truth": ([group(weight(shape=(True,)), paths=("x.bin",))], "the shape of 'w' is malformed"),
    "dtype": ([group(weight(dtype="float31"), paths=("x.bin",))], "which is not one that can be read"),
    "dtype no text": ([group(weight(dtype=[]), paths=("x.bin",))], "which is not one that can be read"),
    "quantisation": ([group(weight(quantization={"dtype": "int3"}), paths=("x.bin",))], "not one that can be read"),
    "no scale": ([group(weight(quantization={"dtype": "uint8"}), paths=("x.bin",))], "is not a number"),
    "endless scale": (
        [group(weight(quantization={"dtype": "uint8", "scale": 1e999, "min": 0}), paths=("x.bin",))],
        "is not valid JSON|is not a number",
    ),
    "more bytes": ([group(weight(shape=(3,)), paths=("x.bin",))], "describes 12 bytes of weights where .* have 16"),
    "a file twice": (
        [group(weight("a"), paths=("x.bin",)), group(weight("b"), paths=("x.bin",))],
        "names the file 'x.bin' twice",
    ),
    "texts beyond the end": ([group(weight(dtype="string", shape=(9,)), paths=("x.bin",))], "in the middle of a text"),
    "2^60 texts": ([group(weight(dtype="string", shape=(1 << 60,)), paths=("x.bin",))], "has a tensor of"),
    "2^60 numbers": ([group(weight(shape=(1 << 30, 1 << 30)), paths=("x.bin",))], "it is truncated"),
    "rank": ([group(weight(shape=(1,) * 20_000), paths=("x.bin",))], "has 20,000 dimensions"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_faulty_manifest_is_refused(tmp_path: Path, fault: str) -> None:
    groups, problem = REFUSED[fault]
    with ending_soon(5), pytest.raises(CheckpointError, match=problem):
        opened(tmp_path, *groups, x=FOUR)


@pytest.mark.parametrize(
    "document",
    [
        *(b'{"format": 1', b'{"format": 1}', b'{"format": 1, "weightsManifest": 7}', b'{"format": 1, "format": 2}'),
        *(b'{"format": \xff}', b'{"format": ' + b"[" * 100_000, b'[{"weights": []', b'{"format": NaN}', b'"weights"'),
    ],
    ids=["cut", "no manifest", "manifest", "key twice", "no text", "nested", "list", "NaN", "text"],
)
def test_a_faulty_document_is_refused(tmp_path: Path, document: bytes) -> None:
    with ending_soon(5), pytest.raises(CheckpointError):
        read(tmp_path, document)


def test_a_tensor_that_is_cut_off_is_named(tmp_path: Path) -> None:
    found = opened(tmp_path, group(weight("a", (2,)), weight("b", (3,)), paths=("x.bin",)), x=FOUR)
    assert named_values(found) == {"a": [1, 2]}
    assert reasons(found) == {"b": "ends at byte 20 of a group of 16: it is truncated"}


def test_a_document_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    opened(tmp_path, group(weight(), paths=("x.bin",)), x=FOUR)
    document = (tmp_path / "model.json").read_bytes()
    for end in range(len(document)):
        with pytest.raises(CheckpointError):
            read(tmp_path, document[:end])


def test_data_cut_at_any_byte_leaves_right_values_and_names_the_rest(tmp_path: Path) -> None:
    weights = group(weight("a", (2,)), weight("b", (2,)), paths=("x.bin",))
    whole = named_values(opened(tmp_path, weights, x=FOUR))
    for end in range(len(FOUR)):
        try:
            found = opened(tmp_path, weights, x=FOUR[:end])
        except CheckpointError:
            continue
        assert named_values(found).items() <= whole.items()
        assert len(found.tensors) + len(found.unread) == 2


def test_more_weights_than_the_limit_are_refused(tmp_path: Path) -> None:
    weights = group(weight("a", (2,)), weight("b", (2,)), paths=("x.bin",))
    with changed_limits({"tensors": 1}), pytest.raises(CheckpointError, match="--limit tensors=N"):
        opened(tmp_path, weights, x=FOUR)


@pytest.mark.parametrize("garbage", [b"", b"{", b"{}", b"[]", b"\0" * 100, b'{"metadata": {}}', b'["weights"]'])
def test_other_content_is_not_recognised(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "file").write_bytes(garbage)
    assert not tfjs.recognises(garbage, open_file(tmp_path / "file"))
