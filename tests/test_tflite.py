"""TFLite models: what the schema's own module reads from them, what operators say, and what breaks the format."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tflite
from makers import ending_soon, floats, named_values, reasons, values
from published import published
from tflite_models import OPERATORS, OPTIONS, TYPES, G, Model, Op, T, batch_matmul, depthwise, loop, shuffled

from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError
from weightstats.layers import Layer, classify
from weightstats.limits import changed_limits
from weightstats.network import find_network
from weightstats.places import open_file
from weightstats.readers import tflite as reader

FOUR = floats(1, 2, 3, 4)


def opened(folder: Path, content: bytes) -> Checkpoint:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return reader.read(open_file(path))


def one(folder: Path, tensor: T, *operators: Op, data: bytes = FOUR) -> Checkpoint:
    """A model of one constant, tensor 1, beside an input, tensor 0, and an output, tensor 2."""
    tensor.buffer = 1
    graph = G([T("in", (1, 5, 5, 4)), tensor, T("out", (1, 4))], operators, inputs=[0])
    return opened(folder, Model([graph], [b"", data]).encoded())


# Published models

MEDIAPIPE = {
    "face_detection_short_range": (
        "face_detection",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    ),
    "hand_landmark_lite": ("hand_landmark", "048edd3645c9bf7397d19a9f6e3a42957d6e414c9bea6598030a2e9b624156e6"),
    "iris_landmark": ("iris_landmark", "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f"),
    "face_detection_full_range_sparse": (
        "face_detection",
        "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
    ),
}
"""Models of mediapipe 0.10.14 on PyPI, under mediapipe/modules: float16 behind DEQUANTIZE, matrices, float32, sparse;
Apache 2.0."""

DTYPES = {0: "<f4", 1: "<f2", 2: "<i4"}


def mediapipe(name: str) -> Path:
    folder, digest = MEDIAPIPE[name]
    return published("mediapipe", "0.10.14", f"mediapipe/modules/{folder}/{name}.tflite", digest)


@pytest.mark.parametrize("name", MEDIAPIPE)
def test_published_models_are_read_as_the_schemas_module_reads_them(name: str) -> None:
    path = mediapipe(name)
    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    expected: dict[str, list[float]] = {}
    sparse = 0
    for tensor in (graph.Tensors(index) for index in range(graph.TensorsLength())):
        buffer = model.Buffers(tensor.Buffer())
        if buffer.DataLength() and tensor.Sparsity() is None:
            expected[tensor.Name().decode()] = buffer.DataAsNumpy().view(DTYPES[tensor.Type()]).astype(float).tolist()
        sparse += bool(buffer.DataLength()) and tensor.Sparsity() is not None
    found = reader.read(open_file(path))
    assert named_values(found) == expected
    assert len(found.unread) == sparse


def test_layers_of_a_published_model_are_its_operators() -> None:
    found = reader.read(open_file(mediapipe("hand_landmark_lite")))
    layers = [item for item in classify(find_network(found)) if isinstance(item, Layer)]
    kinds = [layer.kind for layer in layers]
    assert [kinds.count(kind) for kind in ("conv2d", "depthwise_conv2d", "linear")] == [31, 16, 4]
    assert {(layer.fans_from, layer.tensor.dtype.name) for layer in layers} == {("graph", "F16")}
    first = layers[0]
    assert (first.tensor.shape, first.n_in, first.n_out) == ((24, 3, 3, 3), 27, 216)


def test_a_model_with_folded_normalisations_says_so() -> None:
    found = reader.read(open_file(mediapipe("face_detection_short_range")))
    assert any("batch normalisation" in warning for warning in found.warnings)


# What the operators say

USES = {
    "convolution": (T("w", (2, 1, 1, 4)), Op(OPERATORS.CONV_2D, [0, 1], [2]), ("conv2d", 4, 2)),
    "grouped convolution": (T("w", (4, 1, 1, 2)), Op(OPERATORS.CONV_2D, [0, 1], [2]), ("conv2d", 2, 2)),
    "depthwise": (
        T("w", (1, 2, 1, 4)),
        Op(OPERATORS.DEPTHWISE_CONV_2D, [0, 1], [2], OPTIONS.DepthwiseConv2DOptions, depthwise(1)),
        ("depthwise_conv2d", 2, 2),
    ),
    "depthwise times 2": (
        T("w", (1, 2, 1, 4)),
        Op(OPERATORS.DEPTHWISE_CONV_2D, [0, 1], [2], OPTIONS.DepthwiseConv2DOptions, depthwise(2)),
        ("depthwise_conv2d", 2, 4),
    ),
    "matrix": (T("w", (2, 4)), Op(OPERATORS.FULLY_CONNECTED, [0, 1], [2]), ("linear", 4, 2)),
    "transposed": (T("w", (4, 2, 1, 1)), Op(OPERATORS.TRANSPOSE_CONV, [2, 1, 0], [2]), ("conv_transpose2d", 2, 8)),
    "mediapipe's own": (
        T("w", (4, 2, 1, 1)),
        Op(OPERATORS.CUSTOM, [0, 1], [2], custom="Convolution2DTransposeBias"),
        ("conv_transpose2d", 2, 8),
    ),
    "right-hand factor": (
        T("w", (2, 4)),
        Op(OPERATORS.BATCH_MATMUL, [0, 1], [2], OPTIONS.BatchMatMulOptions, batch_matmul()),
        ("linear", 2, 4),
    ),
    "right-hand factor, transposed": (
        T("w", (2, 4)),
        Op(OPERATORS.BATCH_MATMUL, [0, 1], [2], OPTIONS.BatchMatMulOptions, batch_matmul(adj_y=True)),
        ("linear", 4, 2),
    ),
    "stack of left-hand factors": (
        T("w", (2, 1, 4)),
        Op(OPERATORS.BATCH_MATMUL, [1, 0], [2], OPTIONS.BatchMatMulOptions, batch_matmul()),
        ("linear", 4, 1),
    ),
    "LSTM": (T("w", (2, 4)), Op(OPERATORS.LSTM, [0, 1, *[-1] * 18], [2]), ("lstm", 4, 2)),
    "basic LSTM": (T("w", (2, 4)), Op(OPERATORS.LSTM, [0, 0, 1, 0, 0], [2]), ("lstm", 4, 2)),
    "recurrence": (T("w", (2, 4)), Op(OPERATORS.UNIDIRECTIONAL_SEQUENCE_RNN, [0, 0, 1], [2]), ("rnn", 4, 2)),
    "look-up": (T("w", (4, 2)), Op(OPERATORS.GATHER, [1, 0], [2]), ("embedding", 4, 2)),
}


@pytest.mark.parametrize("use", USES)
def test_the_operator_gives_the_fans(tmp_path: Path, use: str) -> None:
    tensor, operator, expected = USES[use]
    found = one(tmp_path, tensor, operator, data=floats(*range(1, 9)))
    layer = classify(find_network(found))[0]
    assert isinstance(layer, Layer)
    assert ((layer.kind, layer.n_in, layer.n_out), layer.fans_from) == (expected, "graph")


def test_the_gates_of_the_old_lstm_lie_in_the_rows_of_one_matrix(tmp_path: Path) -> None:
    found = one(tmp_path, T("w", (4, 2)), Op(OPERATORS.LSTM, [0, 0, 1, 0, 0], [2]), data=floats(*range(1, 9)))
    layers = [item for item in classify(find_network(found)) if isinstance(item, Layer)]
    assert [layer.name for layer in layers] == [f"w[{gate}]" for gate in ("input", "cell", "forget", "output")]
    assert [(layer.n_in, layer.n_out) for layer in layers] == [(2, 1)] * 4


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        (Op(OPERATORS.CONV_2D, [0, 0, 1], [2]), "bias"),
        (Op(OPERATORS.PRELU, [0, 1], [2]), "parameter"),
        (Op(OPERATORS.MUL, [0, 1], [2]), "parameter"),
        (Op(OPERATORS.PAD, [0, 1], [2]), "constant"),
        (Op(OPERATORS.LSTM, [0] * 12 + [1] + [-1] * 7, [2]), "bias"),
    ],
    ids=["bias", "slopes", "factor", "padding", "gate's bias"],
)
def test_the_operator_says_what_is_no_layer(tmp_path: Path, operator: Op, kind: str) -> None:
    use = one(tmp_path, T("w", (4,)), operator).tensors[0].use
    assert use is not None
    assert (use.kind, use.axes) == (kind, "")


def test_a_constant_is_followed_through_a_dequantisation_and_into_a_loop(tmp_path: Path) -> None:
    half = np.arange(8, dtype="<f2").tobytes()
    main = G(
        [T("in", (1, 4)), T("w", (2, 4), 1, TYPES.FLOAT16), T("wide", (2, 4)), T("out", (1, 2))],
        [
            Op(OPERATORS.DEQUANTIZE, [1], [2]),
            Op(OPERATORS.WHILE, [0, 2], [3, 2], OPTIONS.WhileOptions, loop(1, 2)),
        ],
    )
    body = G([T("x", (1, 4)), T("m", (2, 4)), T("y", (1, 2))], [Op(OPERATORS.FULLY_CONNECTED, [0, 1], [2])], [0, 1])
    found = opened(tmp_path, Model([main, G([]), body], [b"", half]).encoded())
    assert [(tensor.dtype.name, tensor.use and tensor.use.kind) for tensor in found.tensors] == [("F16", "linear")]


def test_tensors_of_other_subgraphs_are_told_apart_and_shared_buffers_are_tied(tmp_path: Path) -> None:
    graphs = [G([T("w", (4,), 1)], name="encode"), G([T("w", (4,), 1)], name="decode")]
    found = opened(tmp_path, Model(graphs, [b"", FOUR]).encoded())
    assert [tensor.name for tensor in found.tensors] == ["w", "decode/w"]
    assert found.tensors[0].view == found.tensors[1].view


def test_constants_come_in_the_order_of_the_operators(tmp_path: Path) -> None:
    tensors = [T("in", (1, 2)), T("unused", (1,), 3), T("last", (1, 2), 2), T("first", (2, 2), 1), T("a", (1, 2))]
    operators = [Op(OPERATORS.FULLY_CONNECTED, [0, 3], [4]), Op(OPERATORS.FULLY_CONNECTED, [4, 2], [4])]
    found = opened(tmp_path, Model([G(tensors, operators)], [b"", FOUR, floats(5, 6), floats(7)]).encoded())
    assert list(named_values(found)) == ["first", "last", "unused"]


# Quantised values


def test_one_scale_for_all(tmp_path: Path) -> None:
    found = one(tmp_path, T("w", (2, 2), type=TYPES.UINT8, scales=[0.5], zero_points=[3]), data=bytes([0, 3, 5, 255]))
    assert named_values(found) == {"w": [-1.5, 0, 1, 126]}
    assert found.tensors[0].dtype.name == "U8 scaled"
    assert any("1 tensor is quantised" in warning for warning in found.warnings)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_scale_for_each_channel(tmp_path: Path, axis: int) -> None:
    shape = (3, 2, 5)
    stored = np.random.default_rng(axis).integers(-128, 128, shape, np.int8)
    scales = np.arange(1, shape[axis] + 1, dtype=np.float32) / 8
    zero_points = np.arange(shape[axis]) - 1
    tensor = T("w", shape, type=TYPES.INT8, scales=scales.tolist(), zero_points=zero_points.tolist(), axis=axis)
    along = [-1 if dimension == axis else 1 for dimension in range(3)]
    expected = (stored - zero_points.reshape(along)) * scales.reshape(along).astype(float)
    assert named_values(one(tmp_path, tensor, data=stored.tobytes())) == {"w": expected.ravel().tolist()}


def test_many_channels_are_scaled_alike_whatever_the_block(tmp_path: Path) -> None:
    shape = (300, 7, 150)
    stored = np.random.default_rng(1).integers(-128, 128, shape, np.int8)
    scales = np.random.default_rng(2).uniform(0.5, 2, 300).astype(np.float32)
    found = one(tmp_path, T("w", shape, type=TYPES.INT8, scales=scales.tolist()), data=stored.tobytes())
    expected = (stored * scales.reshape(-1, 1, 1)).astype(np.float32)
    assert np.array_equal(values(found.tensors[0]), expected.ravel())


def test_biases_of_32_bits_with_a_scale(tmp_path: Path) -> None:
    data = np.array([-3, 1 << 20], "<i4").tobytes()
    found = one(tmp_path, T("b", (2,), type=TYPES.INT32, scales=[0.5, 0.25]), data=data)
    assert named_values(found) == {"b": [-1.5, (1 << 20) / 4]}


@pytest.mark.parametrize("scales", [[0.5], [0.5, 2.0]], ids=["one scale", "two scales"])
def test_four_bit_integers_of_an_odd_count(tmp_path: Path, scales: list[float]) -> None:
    tensor = T("w", (len(scales), 5 if len(scales) == 1 else 2), type=TYPES.INT4, scales=scales)
    stored = bytes([0x71, 0x8F, 0x02])[: 3 if len(scales) == 1 else 2]
    numbers = [1, 7, -1, -8, 2]
    expected = [0.5 * n for n in numbers] if len(scales) == 1 else [0.5, 3.5, -2, -16]
    assert named_values(one(tmp_path, tensor, data=stored)) == {"w": expected}


def test_integers_without_a_scale_stay_integers(tmp_path: Path) -> None:
    found = one(tmp_path, T("axis", (2,), type=TYPES.INT32, scales=[0.0]), data=np.array([1, 2], "<i4").tobytes())
    assert (found.tensors[0].dtype.name, named_values(found)) == ("I32", {"axis": [1, 2]})


def test_weights_behind_the_flatbuffer_are_read(tmp_path: Path) -> None:
    graph = G([T("w", (4,), 1)])
    place = len(Model([graph], [b"", (1 << 20, 16)]).encoded())
    content = Model([graph], [b"", (place, 16)]).encoded()
    assert len(content) == place
    assert named_values(opened(tmp_path, content + FOUR)) == {"w": [1, 2, 3, 4]}
    with pytest.raises(CheckpointError, match="it is truncated"):
        opened(tmp_path, content + FOUR[:-1])


# Faults

FAULTS = {
    "short": (T("w", (5,)), "its shape needs 20 bytes, its buffer has 16"),
    "2^31 x 2^31": (T("w", (2**31 - 1, 2**31 - 1)), "its shape needs"),
    "negative": (T("w", (-4,)), "a size of it is negative"),
    "text": (T("w", (1,), type=TYPES.STRING), "holds text, not numbers"),
    "resource": (T("w", (1,), type=TYPES.RESOURCE), "holds a resource, not numbers"),
    "unknown type": (T("w", (1,), type=99), "its type 99 is not one that can be read"),
    "sparse": (T("w", (4,), sparse=True), "is stored sparsely, without its zeros, which is not read"),
    "scales": (T("w", (4, 4), type=TYPES.INT8, scales=[1, 2]), "has 2 scales, which is not its size along dimension 0"),
    "axis": (T("w", (4, 4), type=TYPES.INT8, scales=[1, 2], axis=7), "has 2 scales"),
    "zero points": (T("w", (16,), type=TYPES.INT8, scales=[1], zero_points=[1, 2]), "1 scales and 2 zero points"),
    "no number": (T("w", (16,), type=TYPES.INT8, scales=[float("nan")]), "a scale of it is not a positive number"),
    "by blocks": (T("w", (16,), type=TYPES.INT8, scales=[1], details=2), "is quantised by blocks"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_tensor_is_named_and_the_rest_is_read(tmp_path: Path, fault: str) -> None:
    tensor, reason = FAULTS[fault]
    tensor.buffer = 1
    found = opened(tmp_path, Model([G([tensor, T("good", (1,), 2)])], [b"", FOUR, floats(9)]).encoded())
    assert named_values(found) == {"good": [9]}
    assert reason in reasons(found)["w"]


def test_a_matrix_in_an_order_for_one_processor_is_named(tmp_path: Path) -> None:
    operator = Op(OPERATORS.FULLY_CONNECTED, [0, 1], [2], OPTIONS.FullyConnectedOptions, shuffled)
    assert "for one kind of processor" in reasons(one(tmp_path, T("w", (2, 2)), operator))["w"]


BROKEN = {
    "version": (Model([G([])], version=2).encoded(), "is of version 2 of the TFLite schema, not 3"),
    "no such buffer": (Model([G([T("w", (4,), 9)])]).encoded(), "has a tensor in buffer 9 of 1"),
    "both places": (Model([G([T("w", (4,), 1)])], [b"", (100, 1 << 40)]).encoded(), "it is truncated"),
    "root beyond the end": (struct.pack("<I", 1 << 30) + b"TFL3" + bytes(64), "refers to byte"),
    "root in itself": (struct.pack("<I", 4) + b"TFL3" + bytes(64), "refers to byte|malformed table"),
    "nothing but the identifier": (bytes(4) + b"TFL3", "malformed table|refers to byte"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_model_is_refused(tmp_path: Path, fault: str) -> None:
    content, problem = BROKEN[fault]
    with ending_soon(5), pytest.raises(CheckpointError, match=problem):
        opened(tmp_path, content)


def test_buffers_that_overlap_are_refused(tmp_path: Path) -> None:
    model = Model([G([T("a", (4,), 1), T("b", (4,), 2)])], [b"", (1024, 16), (1028, 16)]).encoded()
    with pytest.raises(CheckpointError, match=r"the buffers at bytes 1,024 and 1,028 overlap"):
        opened(tmp_path, model.ljust(2048, b"\0"))


def small_model() -> bytes:
    tensors = [
        T("in", (1, 2)),
        T("weights", (2, 2), 1),
        T("scaled", (4,), 2, TYPES.INT8, [0.5, 1, 2, 4]),
        T("out", (1, 2)),
    ]
    operators = [Op(OPERATORS.FULLY_CONNECTED, [0, 1, 2], [3])]
    return Model([G(tensors, operators, [0])], [b"", FOUR, bytes([1, 2, 3, 4])]).encoded()


SMALL = {"weights": [1.0, 2.0, 3.0, 4.0], "scaled": [0.5, 2.0, 6.0, 16.0]}


def test_a_model_cut_at_any_byte_is_refused_or_gives_right_values(tmp_path: Path) -> None:
    content = small_model()
    assert named_values(opened(tmp_path, content)) == SMALL
    for end in range(len(content)):
        try:
            found = opened(tmp_path, content[:end])
        except CheckpointError:
            continue
        assert named_values(found).items() <= SMALL.items()


@pytest.mark.parametrize("value", [0x00, 0x7F, 0x80, 0xFF])
def test_no_byte_makes_reading_fail_otherwise(tmp_path: Path, value: int) -> None:
    """Every structure may be damaged; values are what some other sound model would hold."""
    content = small_model()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] = value
        try:
            found = opened(tmp_path, bytes(damaged))
            for tensor in found.tensors:
                values(tensor)
        except CheckpointError:
            continue


def test_tables_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    with changed_limits({"flatbuffer_tables": 5}), pytest.raises(CheckpointError, match="--limit flatbuffer_tables=N"):
        opened(tmp_path, small_model())
    with changed_limits({"tensors": 2}), pytest.raises(CheckpointError, match="--limit tensors=N"):
        opened(tmp_path, small_model())


def test_a_model_is_known_by_its_identifier(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(small_model())
    file = open_file(tmp_path / "file")
    assert reader.recognises(small_model()[:512], file)
    assert not any(reader.recognises(head, file) for head in (b"", b"TFL3", bytes(512), b"\xff" * 512))
