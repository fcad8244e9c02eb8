"""TensorFlow checkpoints and SavedModels: what TensorFlow wrote, what is published, and what breaks the format."""

import os
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import HEADER, Row, block, checkpoint, index, message, number, table, trailed, varint
from makers import ending_soon, floats, named_values, reasons, values
from published import published, published_folder
from tensorflow_written import content, written

from weightstats.checkpoint import Checkpoint
from weightstats.containers.sstable import crc32c
from weightstats.errors import CheckpointError
from weightstats.layers import Layer, classify
from weightstats.limits import changed_limits
from weightstats.network import find_network
from weightstats.places import open_file, open_folder
from weightstats.readers import frozen_graph, saved_model, tensorflow_checkpoint

TWO = {"a": Row(), "b": Row(offset=8)}
FOUR = floats(1, 2, 3, 4)


def opened(path: Path) -> Checkpoint:
    """What the readers of TensorFlow's formats make of a file or a folder."""
    if path.is_dir():
        folder = open_folder(path)
        reader = saved_model if saved_model.recognises_folder(folder) else tensorflow_checkpoint
        assert reader.recognises_folder(folder)
        return reader.read_folder(folder)
    file = open_file(path)
    head = file.read(0, min(512, file.size))
    readers = (tensorflow_checkpoint, saved_model, frozen_graph)
    return next(reader for reader in readers if reader.recognises(head, file)).read(file)


def paths(checkpoint: Checkpoint) -> set[tuple[str, ...]]:
    return {tensor.path for tensor in checkpoint.tensors}


def uses(checkpoint: Checkpoint) -> dict[str, tuple[str, str]]:
    return {tensor.name: (tensor.use.kind, tensor.use.axes) for tensor in checkpoint.tensors if tensor.use}


# What TensorFlow wrote


def test_a_partitioned_variable_is_put_together(tmp_path: Path) -> None:
    found = named_values(opened(written(tmp_path, "tf1")))
    assert found["model.rows"] == list(range(40))
    assert sorted(found["model.columns"]) == list(range(600))


def test_slots_averages_and_counters_are_told_from_variables(tmp_path: Path) -> None:
    found = opened(written(tmp_path, "tf1"))
    variables = ["net.conv.weights", "net.fc.kernel"]
    assert paths(found) == {
        *(("model", name) for name in (*variables, "rows", "columns")),
        *(("ema", f"{name}.ExponentialMovingAverage") for name in variables),
        *(("optimizer", f"{name}.{slot}") for name in variables for slot in ("Adam", "Adam_1")),
        *(("optimizer", name) for name in ("beta1_power", "beta2_power")),
        ("training_step", "global_step"),
    }
    assert {named.name for named in find_network(found).tensors} == {*variables, "rows", "columns"}


def test_values_are_those_of_the_variables(tmp_path: Path) -> None:
    found = named_values(opened(written(tmp_path, "tf1")))
    assert found["model.net.conv.weights"] == [i % 7 + 1 for i in range(48)]
    assert found["model.net.fc.kernel"] == [i % 7 + 2 for i in range(20)]
    assert found["training_step.global_step"] == [0]


def test_variables_that_keras_3_stores_under_its_optimizer_are_the_networks(tmp_path: Path) -> None:
    network = find_network(opened(written(tmp_path, "keras")))
    layers = [item for item in classify(network) if isinstance(item, Layer)]
    expected = [("sequential.conv2d.kernel", 8, 12), ("sequential.dense.kernel", 27, 2)]
    assert sorted((layer.name, layer.n_in, layer.n_out) for layer in layers) == expected
    assert {named.name.rpartition(".")[2] for named in network.tensors} == {
        *("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
    }
    assert len(network.beside) == 15


def test_the_second_copy_of_a_keras_export_is_set_aside(tmp_path: Path) -> None:
    found = opened(written(tmp_path, "export/variables"))
    network = find_network(found)
    assert (len(network.tensors), len(network.beside)) == (8, 8)
    assert {tensor.path[0] for tensor in found.tensors} == {"model", "copies"}


def test_every_dtype_is_read_and_texts_are_listed(tmp_path: Path) -> None:
    found = opened(written(tmp_path, "dtypes"))
    numbers = [0, 1, 2, 3, 4, 5]
    assert named_values(found) == {"b": [1, 0], "bf": numbers, "c": [5], "half": numbers, "i": [0, 1, 2]}
    assert {tensor.name: tensor.dtype.name for tensor in found.tensors}["bf"] == "BF16"
    assert reasons(found) == {"text": "holds text, not numbers"}


def test_a_saved_models_graph_says_what_its_variables_are_for(tmp_path: Path) -> None:
    found = opened(written(tmp_path, "module"))
    assert named_values(found) == {"b": [0, 0, 0], "w": list(range(12))}
    assert uses(found)["w"] == ("linear", "IO")
    assert found.format == "TensorFlow SavedModel"


def test_a_saved_model_can_be_named_by_its_file(tmp_path: Path) -> None:
    written(tmp_path, "module")
    assert named_values(opened(tmp_path / "module" / "saved_model.pb"))["w"] == list(range(12))


def test_the_constants_of_a_frozen_graph_are_its_weights(tmp_path: Path) -> None:
    found = opened(written(tmp_path, "frozen.pb"))
    assert named_values(found) == {
        "dense.w": list(range(12)),
        "dense.bias": [1, 2, 3],
        "out.w": list(range(6)),
        "splat": [0.5],
        "half": [1, 2],
    }
    assert uses(found) == {
        "dense.w": ("linear", "IO"),
        "out.w": ("linear", "OI"),
        "splat": ("linear", "IO"),
        "dense.bias": ("bias", ""),
    }
    splat = next(tensor for tensor in found.tensors if tensor.name == "splat")
    assert (splat.shape, splat.repeats) == ((2, 5), 10)


def test_a_saved_model_without_variables_holds_constants(tmp_path: Path) -> None:
    graph = message(2, content("frozen.pb"))
    meta = message(1, message(4, b"serve")) + graph
    path = tmp_path / "saved_model.pb"
    path.write_bytes(number(1, 1) + message(2, meta))
    assert opened(tmp_path).format == "TensorFlow SavedModel"
    assert named_values(opened(path))["dense.w"] == list(range(12))


# What is published

GUESSLANG = ("guesslang", "2.2.1", "guesslang/data/model")
"""guesslang 2.2.1 on PyPI: an Estimator's SavedModel of TensorFlow 1's kind, with a deep and a wide part; MIT."""

GUESSLANG_SHA256 = "c6c7b09de1a4660cd5b6e17dec40ef58f367cbd6de97b08dceb9131426ffedf2"
CUTKUM_SHA256 = "ad5f065d17ff07713ab450da9109c0cba6d06f17121804abeb81886bbed5e061"

GUESSLANG_VALUES = {
    "dnn.hiddenlayer_0.kernel": ((70, 512), 0.0034609345146139154),
    "dnn.logits.kernel": ((32, 54), 0.023483620633531557),
    "linear.linear_model.content.weights": ((5000, 54), 0.0005530456747188861),
}
"""Shapes and mean squares of what `tf.train.load_checkpoint` (TensorFlow 2.21) gives, computed in float64."""


def test_a_published_saved_model_is_read_as_tensorflow_reads_it() -> None:
    folder = published_folder(*GUESSLANG, GUESSLANG_SHA256)
    found = opened(folder)
    squares = {tensor.name: (tensor.shape, float(np.mean(values(tensor) ** 2))) for tensor in found.tensors}
    assert len(found.tensors) == 10
    for name, (shape, mean_square) in GUESSLANG_VALUES.items():
        assert squares[name] == (shape, pytest.approx(mean_square, rel=1e-7))
    assert uses(found)["linear.linear_model.content.weights"] == ("embedding", "IO")
    assert uses(found)["dnn.logits.kernel"] == ("linear", "IO")


def test_a_published_frozen_graph_is_read() -> None:
    """cutkum 2.4 on PyPI: Thai word segmentation by three GRUs, frozen by TensorFlow 1; MIT."""
    found = opened(published("cutkum", "2.4", "cutkum-2.4/cutkum/frozen_model.pb", CUTKUM_SHA256))
    layers = [item for item in classify(find_network(found)) if isinstance(item, Layer)]
    assert Counter(layer.kind for layer in layers) == {"linear": 1, "gru": 9}
    names = [layer.name.rpartition("gru_cell.")[2] for layer in layers if layer.kind == "gru"]
    assert sorted(set(names)) == ["candidate.kernel", "gates.kernel[reset]", "gates.kernel[update]"]
    assert reasons(found) == {}


# Folders


def test_the_latest_of_several_checkpoints_is_read(tmp_path: Path) -> None:
    for name in ("model-1", "model-20", "model-3"):
        (tmp_path / f"{name}.index").write_bytes(index(TWO))
        (tmp_path / f"{name}.data-00000-of-00001").write_bytes(floats(int(name[6:]), 0, 0, 0))
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/home/them/run/model-3"\n')
    assert named_values(opened(tmp_path))["a"] == [3, 0]
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(CheckpointError, match="holds 3 checkpoints, and no `checkpoint` file that chooses one"):
        opened(tmp_path)


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "model-9", "", 'a"b'], ids=lambda path: f"P1-{path}")
def test_p1_a_checkpoint_file_chooses_nothing_outside(tmp_path: Path, path: str) -> None:
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{path}"\n')
    checkpoint(tmp_path, TWO, FOUR)
    assert named_values(opened(tmp_path))["b"] == [3, 4]


def test_p2_a_data_file_that_is_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "data").write_bytes(FOUR)
    path = checkpoint(tmp_path / "in", TWO, b"")
    (tmp_path / "in" / "model.data-00000-of-00001").unlink()
    (tmp_path / "in" / "model.data-00000-of-00001").symlink_to(tmp_path / "data")
    with pytest.raises(CheckpointError, match="a link out of its own folder"):
        opened(path)


def test_p4_a_data_file_that_is_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, TWO, b"")
    (tmp_path / "model.data-00000-of-00001").unlink()
    os.mkfifo(tmp_path / "model.data-00000-of-00001")
    with ending_soon(5), pytest.raises(CheckpointError, match="is not a regular file"):
        opened(path)


def test_p8_tensors_of_a_missing_data_file_are_named(tmp_path: Path) -> None:
    rows = {"a": Row(), "b": Row(shard=1)}
    (tmp_path / "model.index").write_bytes(index(rows, number(1, 2)))
    (tmp_path / "model.data-00000-of-00002").write_bytes(FOUR)
    found = opened(tmp_path / "model.index")
    assert named_values(found) == {"a": [1, 2]}
    assert "model.data-00001-of-00002" in reasons(found)["b"]


# Damage

SHARED = "its bytes are also those of another tensor"

FAULTS: dict[str, tuple[Row, str]] = {
    "another size": (Row(size=4), "its shape needs 8 bytes, its entry says 4"),
    "beyond the end": (Row(offset=24), "it lies behind the end of its data file, which is truncated"),
    "negative offset": (Row(offset=-4), "its place or its size is negative"),
    "negative dimension": (Row(shape=(-2,), size=8), "a size of it is negative"),
    "2^40 x 2^40": (Row(shape=(1 << 40, 1 << 40)), "its shape needs"),
    "unknown rank": (Row(more=message(2, number(3, 1))), "has an unknown number of dimensions"),
    "unknown dtype": (Row(dtype=99), "its type 99 is not one that can be read"),
    "resource": (Row(dtype=20), "holds a resource, not numbers"),
    "no such shard": (Row(shard=7), "lies in data file 7 of 1"),
    "negative shard": (Row(shard=-1), "lies in data file -1 of 1"),
    "missing piece": (Row(more=message(7, message(1, number(1, 0) + number(2, 1)))), "is not there"),
    "piece of another rank": (Row(more=message(7, b"")), "has not its 1 dimensions"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_p8_a_faulty_entry_is_named_and_the_rest_is_read(tmp_path: Path, fault: str) -> None:
    row, reason = FAULTS[fault]
    found = opened(checkpoint(tmp_path, {"bad": row, "good": Row(offset=16)}, FOUR + floats(5, 6)))
    assert named_values(found) == {"good": [5, 6]}
    assert list(reasons(found)) == ["bad"]
    assert reason in reasons(found)["bad"]
    assert (found.damage or "").startswith("is truncated: 1 of its tensors") == (fault == "beyond the end")


def test_tensors_that_share_bytes_are_both_named(tmp_path: Path) -> None:
    rows = {"a": Row(), "b": Row(offset=4), "c": Row(offset=12, shape=(1,), size=4)}
    found = opened(checkpoint(tmp_path, rows, FOUR))
    assert reasons(found) == {"a": SHARED, "b": SHARED}
    assert named_values(found) == {"c": [4]}


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "snappy": (lambda: table([block([(b"", HEADER)], kind=1)]), "compressed with Snappy, which is not read"),
    "wrong checksum": (lambda: index(TWO).replace(b"a", b"c", 1), "the checksum of its block at byte 0 is wrong"),
    "a key twice": (lambda: table([block([(b"", HEADER), (b"a", b""), (b"a", b"")])]), "one is there twice"),
    "keys out of order": (lambda: table([block([(b"", HEADER), (b"b", b""), (b"a", b"")])]), "not in ascending order"),
    "block beyond the end": (lambda: table([block([(b"", HEADER)])], [(0, 1 << 40)]), "has a block that ends at byte"),
    "overlapping blocks": (
        lambda: table([block([(b"", HEADER)])], [(0, len(block([(b"", HEADER)])) - 5)] * 2),
        "its blocks overlap",
    ),
    "restarts of 2^32": (lambda: table([trailed(b"\xff" * 4)]), "its block at byte 0 is malformed"),
    "shared beyond the key": (lambda: table([trailed(b"\x05\0\0" + struct.pack("<II", 0, 1))]), "is malformed"),
    "endless number": (lambda: table([trailed(b"\xff" * 20 + struct.pack("<II", 0, 1))]), "a malformed number"),
    "no header": (lambda: table([block([(b"a", HEADER)])]), "not the index of a TensorFlow checkpoint"),
    "empty": (lambda: table([]), "not the index of a TensorFlow checkpoint"),
    "version 1": (lambda: table([block([(b"", message(1, b""))])]), "a TensorFlow checkpoint of version 1"),
    "newer format": (lambda: index(TWO, number(1, 1) + message(3, number(2, 9))), "wants a reader of version 9, not 1"),
    "no data files": (lambda: index(TWO, number(2, 0)), "names no data files"),
    "byte order 7": (lambda: index(TWO, number(1, 1) + number(2, 7)), "no byte order"),
    "no message": (lambda: table([block([(b"", HEADER), (b"a", b"\xff\xff")])]), "an entry of its table"),
    "group": (lambda: table([block([(b"", HEADER), (b"a", b"\x0b")])]), "wire type 3"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_index_is_refused(tmp_path: Path, fault: str) -> None:
    make, problem = BROKEN[fault]
    (tmp_path / "model.data-00000-of-00001").write_bytes(FOUR)
    (tmp_path / "model.index").write_bytes(make())
    with ending_soon(5), pytest.raises(CheckpointError, match=problem):
        tensorflow_checkpoint.read(open_file(tmp_path / "model.index"))


def test_big_endian_data_is_read(tmp_path: Path) -> None:
    data = np.array([1, 2, 3, 4], ">f4").tobytes()
    assert named_values(opened(checkpoint(tmp_path, TWO, data, HEADER + number(2, 1))))["b"] == [3, 4]


def test_more_tensors_than_the_limit_are_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, TWO, FOUR)
    with changed_limits({"tensors": 1}), pytest.raises(CheckpointError, match="--limit tensors=N"):
        opened(path)


def test_names_that_are_not_text_are_escaped_and_told_apart(tmp_path: Path) -> None:
    found = opened(checkpoint(tmp_path, {b"\xff": Row(), "\x1b[31m": Row(offset=8)}, FOUR))
    assert set(named_values(found)) == {"\\xff", "\x1b[31m"}
    path = checkpoint(tmp_path, {b"\xff": Row(), "\\xff": Row(offset=8)}, FOUR)
    with pytest.raises(CheckpointError, match="names differ only in what is not text"):
        opened(path)


@pytest.mark.parametrize("name", ["dtypes/ck.index", "tf1/model.ckpt-1.index"])
def test_an_index_cut_at_any_byte_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name.partition("/")[0]) / name.partition("/")[2]
    for end in range(len(content(name))):
        path.write_bytes(content(name)[:end])
        with pytest.raises(CheckpointError):
            tensorflow_checkpoint.read(open_file(path))


def test_data_cut_at_any_byte_leaves_right_values_and_names_the_rest(tmp_path: Path) -> None:
    folder = written(tmp_path, "dtypes")
    whole, data = named_values(opened(folder)), content("dtypes/ck.data-00000-of-00001")
    for end in range(len(data)):
        (folder / "ck.data-00000-of-00001").write_bytes(data[:end])
        try:
            found = opened(folder)
        except CheckpointError:
            continue
        assert named_values(found).items() <= whole.items()
        assert len(found.tensors) + len(found.unread) == len(whole) + 1


@pytest.mark.parametrize("name", ["frozen.pb", "module/saved_model.pb"])
def test_a_graph_cut_at_any_byte_is_refused_or_gives_right_values(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name.partition("/")[0]) if name != "frozen.pb" else written(tmp_path, name)
    path = path if path.is_file() else path / "saved_model.pb"
    reader = frozen_graph if name == "frozen.pb" else saved_model
    whole = named_values(reader.read(open_file(path)))
    for end in range(0, len(content(name)), 1 if name == "frozen.pb" else 97):
        path.write_bytes(content(name)[:end])
        try:
            found = reader.read(open_file(path))
        except CheckpointError:
            continue
        assert named_values(found).items() <= whole.items()


@pytest.mark.parametrize("name", ["tf1/model.ckpt-1.index", "keras/ckpt-1.index"])
def test_a_flipped_byte_of_an_index_is_noticed(tmp_path: Path, name: str) -> None:
    """Every block has a checksum; the empty block about blocks and the footer's padding are not read."""
    folder, _, file = name.partition("/")
    path = written(tmp_path, folder) / file
    whole = named_values(opened(path))
    for place in range(len(content(name))):
        damaged = bytearray(content(name))
        damaged[place] ^= 0x41
        path.write_bytes(damaged)
        try:
            found = tensorflow_checkpoint.read(open_file(path))
        except CheckpointError:
            continue
        assert named_values(found) == whole


def test_the_checksum_is_castagnolis() -> None:
    """RFC 3720, appendix B.4, and the check value of the CRC catalogue."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


def test_long_runs_are_checked_as_their_parts_would_be() -> None:
    """A bit at a time, over more than one lane."""
    content = bytes(i * 37 % 251 for i in range(1000))
    state = 0xFFFFFFFF
    for byte in content:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    assert crc32c(content) == state ^ 0xFFFFFFFF


def test_a_graph_of_too_many_nodes_leaves_the_variables_as_they_are(tmp_path: Path) -> None:
    folder = written(tmp_path, "module")
    with changed_limits({"graph_nodes": 3}):
        found = opened(folder)
    assert named_values(found)["w"] == list(range(12))
    assert any("--limit graph_nodes=N" in warning for warning in found.warnings)


def test_an_object_graph_that_is_damaged_is_refused(tmp_path: Path) -> None:
    graph = b"\xff\xff\xff"
    data = varint(len(graph)) + bytes(4) + graph
    rows = {"_CHECKPOINTABLE_OBJECT_GRAPH": Row(shape=(), dtype=7, size=len(data)), "a": Row(offset=len(data))}
    with pytest.raises(CheckpointError, match="its object graph"):
        opened(checkpoint(tmp_path, rows, data + floats(1, 2)))


@pytest.mark.parametrize("garbage", [b"", b"\0" * 600, b"\xff" * 600, b"{" * 600, b"\n\x02\n\0" * 100, b"\x08\x01\x12"])
def test_other_content_is_not_recognised(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "file").write_bytes(garbage)
    file = open_file(tmp_path / "file")
    for reader in (tensorflow_checkpoint, saved_model, frozen_graph):
        assert not reader.recognises(garbage[:512], file)


def test_kernels_of_tensorflow_1_are_rows_columns_inputs_outputs(tmp_path: Path) -> None:
    rows = {
        "conv/weights": Row(shape=(1, 1, 2, 1)),
        "net/conv/depthwise_weights": Row(shape=(1, 2, 1, 1), offset=8),
    }
    found = opened(checkpoint(tmp_path, rows, FOUR))
    depthwise = ("depthwise_conv2d", "KKOO")
    assert uses(found) == {"conv.weights": ("conv2d", "KKIO"), "net.conv.depthwise_weights": depthwise}


@pytest.mark.parametrize("left", ["nothing", "empty folder"])
def test_a_saved_model_whose_variables_are_missing_is_damaged(tmp_path: Path, left: str) -> None:
    folder = written(tmp_path, "module")
    for file in (folder / "variables").iterdir():
        file.unlink()
    if left == "nothing":
        (folder / "variables").rmdir()
    found = opened(folder)
    assert found.damage == "is without its variables: variables/variables.index is missing or empty"
