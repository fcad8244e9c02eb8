"""ONNX files: every way to store a tensor, what the graph says of it, and what no exporter writes."""

import csv
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from makers import ending_soon, named_values, opened, reasons, values
from onnx import TensorProto, helper, numpy_helper
from onnx_models import graph_of, message, model, model_around, model_of, numbers_of, stored, varint
from published import published

from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError
from weightstats.inspection import inspect
from weightstats.limits import changed_limits
from weightstats.places import open_file
from weightstats.readers import HEAD_BYTES, onnx_file, open_checkpoint
from weightstats.tensors import Use

HOSTILE = Path(__file__).parents[2] / "shared" / "hostile"
T = TensorProto
RAW, FLOATS, INT32S, INT64S, DOUBLES = 9, 4, 5, 7, 10
"""Fields of a TensorProto that hold elements."""


def uses(checkpoint: Checkpoint) -> dict[str, Use | None]:
    return {tensor.name: tensor.use for tensor in checkpoint.tensors}


def node(operator: str, inputs: str, outputs: str = "y", name: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node; the names of its inputs and outputs are separated by blanks, a dot stands for an absent one."""
    given = ["" if part == "." else part for part in inputs.split()]
    return helper.make_node(operator, given, outputs.split(), name, **attributes)


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# How elements are stored

FLOATS_OF_ALL_KINDS = (0.0, -0.0, 1.0, -1.5, 3.0, 0.5, 6.0, -2.0)
WHOLE = (0, 1, 3, 2, 1, 0, 1)
SIGNED = (0, 1, -2, -1, 1, 0, -1)
COMPLEX = (3 + 4j, 1j, -2)

KINDS = {
    **dict.fromkeys((T.FLOAT, T.DOUBLE, T.FLOAT16, T.BFLOAT16, T.FLOAT4E2M1), FLOATS_OF_ALL_KINDS),
    **dict.fromkeys((T.FLOAT8E4M3FN, T.FLOAT8E4M3FNUZ, T.FLOAT8E5M2, T.FLOAT8E5M2FNUZ), FLOATS_OF_ALL_KINDS),
    T.FLOAT8E8M0: (1.0, 2.0, 0.5, 2.0**127),
    **dict.fromkeys((T.UINT2, T.UINT4, T.UINT8, T.UINT16, T.UINT32, T.UINT64), WHOLE),
    **dict.fromkeys((T.INT2, T.INT4, T.INT8, T.INT16, T.INT32, T.INT64), SIGNED),
    T.BOOL: (True, False, True),
    **dict.fromkeys((T.COMPLEX64, T.COMPLEX128), COMPLEX),
}


@pytest.mark.parametrize("kind", KINDS, ids=T.DataType.Name)
@pytest.mark.parametrize("is_raw", [True, False], ids=["raw", "typed"])
def test_every_type_is_read_as_the_reference_library_reads_it(tmp_path: Path, kind: int, is_raw: bool) -> None:
    array = np.array(KINDS[kind]).astype(helper.tensor_dtype_to_np_dtype(kind))
    tensor = helper.make_tensor("w", kind, [len(array)], array)
    if is_raw:
        tensor = numpy_helper.from_array(array, "w")
    assert tensor.HasField("raw_data") == is_raw
    checkpoint = opened(tmp_path / "m.onnx", model((), [tensor]))
    assert checkpoint.unread == ()
    np.testing.assert_array_equal(values(checkpoint.tensors[0]), numbers_of(tensor))
    assert checkpoint.tensors[0].shape == (len(array),)


def test_six_bit_floats_are_read(tmp_path: Path) -> None:
    for kind in (T.FLOAT6E2M3, T.FLOAT6E3M2):
        array = np.array(FLOATS_OF_ALL_KINDS).astype(helper.tensor_dtype_to_np_dtype(kind))
        tensor = numpy_helper.from_array(array, "w")
        assert named_values(opened(tmp_path / "m.onnx", model((), [tensor]))) == {"w": list(FLOATS_OF_ALL_KINDS)}


@pytest.mark.parametrize("kind", [T.UINT2, T.INT4, T.FLOAT4E2M1, T.UINT8, T.BOOL, T.INT64], ids=T.DataType.Name)
def test_whole_numbers_without_a_scale_are_not_taken_for_weights(tmp_path: Path, kind: int) -> None:
    array = np.ones((4, 6)).astype(helper.tensor_dtype_to_np_dtype(kind))
    checkpoint = opened(tmp_path / "m.onnx", model([node("MatMul", "x w")], [numpy_helper.from_array(array, "w")]))
    [tensor] = checkpoint.tensors
    assert (tensor.dtype.kind == "float", tensor.use is not None) == (kind == T.FLOAT4E2M1,) * 2


@pytest.mark.parametrize(
    ("kind", "field", "pieces"),
    [
        (T.FLOAT, FLOATS, [1.5, -2.0, 3.0]),
        (T.INT64, INT64S, [1, 2, -3]),
        (T.INT32, INT32S, [1, -2, 3]),
        (T.FLOAT, FLOATS, [np.array([1, 2], "<f4").tobytes(), 3.0]),
        (T.INT64, INT64S, [varint(300) + varint(2), 3, b"", varint(70_000)]),
        (T.DOUBLE, DOUBLES, [np.array([1, 2], "<f8").tobytes(), np.array([3], "<f8").tobytes()]),
    ],
)
def test_repeated_fields_that_are_not_packed_or_lie_in_pieces_are_put_together(
    tmp_path: Path, kind: int, field: int, pieces: list[Any]
) -> None:
    count = sum(len(numbers_of_bytes(piece, kind)) if isinstance(piece, bytes) else 1 for piece in pieces)
    content = model_of(message((1, count), (2, kind), *((field, piece) for piece in pieces), (8, "w")))
    expected = numbers_of(onnx.load_from_string(content).graph.initializer[0])
    assert named_values(opened(tmp_path / "m.onnx", content)) == {"w": expected.tolist()}


def numbers_of_bytes(piece: bytes, kind: int) -> list[int]:
    if kind in (T.FLOAT, T.DOUBLE):
        return [0] * (len(piece) // (4 if kind == T.FLOAT else 8))
    return [byte for byte in piece if byte < 0x80]


def test_packed_dimensions_are_read_like_single_ones(tmp_path: Path) -> None:
    content = model_of(message((1, varint(2) + varint(1)), (2, T.FLOAT), (RAW, b"\0" * 8), (8, "w")))
    assert opened(tmp_path / "m.onnx", content).tensors[0].shape == (2, 1)


def test_many_numbers_of_variable_length_are_decoded_across_the_steps_in_which_they_are_read(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1).integers(-(1 << 31), 1 << 31, 40_000)
    tensor = helper.make_tensor("w", T.INT32, [200, 200], numbers)
    checkpoint = opened(tmp_path / "m.onnx", model((), [tensor]))
    np.testing.assert_array_equal(values(checkpoint.tensors[0]), numbers)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [(T.UINT8, [256]), (T.INT8, [-129]), (T.FLOAT16, [-1]), (T.BOOL, [256]), (T.INT32, [1 << 31]), (T.UINT4, [256])],
)
def test_a_number_that_its_type_has_not_is_refused_when_it_is_read(
    tmp_path: Path, kind: int, numbers: list[int]
) -> None:
    count = 2 if kind == T.UINT4 else 1
    content = model_of(message((1, count), (2, kind), *((INT32S, number) for number in numbers), (8, "w")))
    [tensor] = opened(tmp_path / "m.onnx", content).tensors
    with pytest.raises(CheckpointError, match="holds a number that its type has not"):
        values(tensor)


def test_scalars_and_empty_tensors_are_read(tmp_path: Path) -> None:
    tensors = [stored("scalar", 2.5), stored("empty", np.empty((0, 3))), stored("huge", np.empty((0, 1 << 40)))]
    checkpoint = opened(tmp_path / "m.onnx", model((), tensors))
    assert named_values(checkpoint) == {"scalar": [2.5], "empty": [], "huge": []}


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ({"value": stored("", [[1.0, 2.0]])}, [1.0, 2.0]),
        ({"value_float": 1.5}, [1.5]),
        ({"value_floats": [1.5, 2.5, -1.0]}, [1.5, 2.5, -1.0]),
        ({"value_int": -7}, [-7.0]),
        ({"value_ints": [1, -2, 300]}, [1.0, -2.0, 300.0]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_constant_nodes_hold_tensors_named_by_their_output(
    tmp_path: Path, attribute: dict[str, Any], expected: list[float]
) -> None:
    assert named_values(opened(tmp_path / "m.onnx", model([node("Constant", "", "c", **attribute)]))) == {"c": expected}


def test_a_constant_of_a_thousand_numbers_is_read_whole(tmp_path: Path) -> None:
    content = model([node("Constant", "", "c", value_ints=list(range(1000)))])
    assert named_values(opened(tmp_path / "m.onnx", content)) == {"c": list(map(float, range(1000)))}


def test_text_is_unread_and_named(tmp_path: Path) -> None:
    tensor = helper.make_tensor("words", T.STRING, [2], [b"a", b"b"])
    nodes = [node("Constant", "", "c", value_strings=["a"]), node("Constant", "", "d", value_string="a")]
    checkpoint = opened(tmp_path / "m.onnx", model(nodes, [tensor, stored("w", [1.0])]))
    assert reasons(checkpoint) == dict.fromkeys(("words", "c", "d"), "it holds text, not numbers")
    assert named_values(checkpoint) == {"w": [1.0]}


@pytest.mark.parametrize("indices", [[0, 3], [7, 99]], ids=["sound", "G8 indices out of bounds"])
def test_sparse_tensors_are_unread_and_named(tmp_path: Path, indices: list[int]) -> None:
    sparse = helper.make_sparse_tensor(stored("s", [1.0, 2.0]), stored("", indices, "<i8"), [8])
    held = onnx.load_from_string(model([node("Constant", "", "c", sparse_value=sparse)], [stored("w", [1.0])]))
    held.graph.sparse_initializer.append(sparse)
    checkpoint = opened(tmp_path / "m.onnx", held.SerializeToString())
    reason = "it is stored sparse, as values with their places"
    assert reasons(checkpoint) == {"s": reason, "c": reason}
    assert named_values(checkpoint) == {"w": [1.0]}


# Names and order


def test_tensors_come_in_the_order_in_which_the_nodes_use_them_and_unused_ones_last(tmp_path: Path) -> None:
    weight = np.ones((2, 2))
    nodes = [node("MatMul", "x second", "a"), node("Gemm", "a third bias", "y")]
    tensors = [stored(name, weight) for name in ("unused", "third", "second")]
    checkpoint = opened(tmp_path / "m.onnx", model(nodes, [*tensors, stored("bias", [1.0, 2.0])]))
    assert [tensor.name for tensor in checkpoint.tensors] == ["second", "third", "bias", "unused"]


def test_names_in_graphs_within_nodes_are_made_distinct_and_stand_where_their_node_does(tmp_path: Path) -> None:
    def branch(number: float) -> onnx.GraphProto:
        return graph_of([node("MatMul", "x w")], "inner", [stored("w", np.full((2, 2), number))])

    nodes = [
        node("MatMul", "x first", "a"),
        node("If", "c", "b", name="choice", then_branch=branch(1), else_branch=branch(2)),
        node("If", "c", "d", then_branch=branch(3), else_branch=branch(4)),
        node("If", "c", "e", name="choice", then_branch=branch(5), else_branch=branch(6)),
        node("MatMul", "a last", "y"),
    ]
    checkpoint = opened(tmp_path / "m.onnx", model(nodes, [stored(n, np.ones((2, 2))) for n in ("last", "first")]))
    assert [tensor.name for tensor in checkpoint.tensors] == [
        "first",
        *("choice.else_branch.w", "choice.then_branch.w"),  # as the reference library sorts them
        *("If#2.else_branch.w", "If#2.then_branch.w"),
        *("choice#3.else_branch.w", "choice#3.then_branch.w"),
        "last",
    ]
    assert [values(tensor)[0] for tensor in checkpoint.tensors] == [1, 2, 1, 4, 3, 6, 5, 1]
    assert {use.kind for use in uses(checkpoint).values() if use} == {"linear"}


def test_a_graph_within_a_node_sees_the_tensors_around_it(tmp_path: Path) -> None:
    inner = graph_of([node("Conv", "x w")], "body")
    nodes = [node("Loop", "n c", "y", body=graph_of([node("If", "c", then_branch=inner, else_branch=inner)], "body"))]
    checkpoint = opened(tmp_path / "m.onnx", model(nodes, [stored("w", np.ones((4, 3, 5)))]))
    assert uses(checkpoint)["w"] == Use("conv1d", "OIK", "the kernel of Conv y")


def test_names_of_exporters_are_shown_as_they_are(tmp_path: Path) -> None:
    content = model([node("MatMul", "x onnx::MatMul_123")], [stored("onnx::MatMul_123", np.ones((2, 2)))])
    assert [tensor.path for tensor in opened(tmp_path / "m.onnx", content).tensors] == [("onnx::MatMul_123",)]


def test_the_state_of_the_optimizer_is_not_the_network(tmp_path: Path) -> None:
    held = onnx.load_from_string(model([node("MatMul", "x w")], [stored("w", np.ones((2, 2)))]))
    training = held.training_info.add()
    training.algorithm.initializer.append(stored("momentum", np.ones((2, 2))))
    path = tmp_path / "m.onnx"
    path.write_bytes(held.SerializeToString())
    report = inspect(str(path))
    assert [layer.name for layer in report.layers] == ["w"]
    assert [other.kind for other in report.others] == ["optimizer"]


def test_nodes_of_a_function_use_what_it_is_called_with(tmp_path: Path) -> None:
    """As exporters that keep a module as a function write it: with attributes handed on."""
    gemm = node("Gemm", "a b c", "d")
    reference = gemm.attribute.add()
    reference.name, reference.ref_attr_name, reference.type = "transB", "turned", onnx.AttributeProto.INT
    constant = node("Constant", "", "k", value=stored("", [[1.0, 2.0]]))
    sets = [helper.make_opsetid("", 17)]
    inner = helper.make_function("local", "Affine", list("abc"), ["d"], [gemm], sets, ["turned"])
    outer = helper.make_function(
        "local", "Layer", ["x", "w", "b"], ["y"], [constant, node("Affine", "x w b", domain="local", turned=1)], sets
    )
    nodes = [node("Layer", "x w b", domain="local")]
    tensors = [stored("w", np.ones((2, 3))), stored("b", [1.0, 2.0])]
    checkpoint = opened(tmp_path / "m.onnx", model(nodes, tensors, [inner, outer]))
    found = uses(checkpoint)
    assert found["w"] == Use("linear", "OI", "the right-hand input of Gemm d")
    assert found["b"] == Use("bias", "", "added to a layer's output")
    assert named_values(checkpoint)["Layer.k"] == [1.0, 2.0]


def test_functions_that_call_each_other_without_end_or_again_and_again_are_not_followed(tmp_path: Path) -> None:
    sets = [helper.make_opsetid("", 17)]

    def calling(name: str, called: str) -> onnx.FunctionProto:
        calls = [node(called, "x", "a", domain="local"), node(called, "a", "y", domain="local")]
        return helper.make_function("local", name, ["x"], ["y"], calls, sets)

    functions = [calling("Endless", "Endless"), *(calling(f"F{n}", f"F{n + 1}") for n in range(60))]
    nodes = [node("Endless", "x", "a", domain="local"), node("F0", "a", domain="local")]
    with ending_soon(20):
        checkpoint = opened(tmp_path / "m.onnx", model(nodes, [stored("w", [1.0])], functions))
    assert checkpoint.warnings == (onnx_file.UNFOLLOWED,)
    assert named_values(checkpoint) == {"w": [1.0]}


# What the operators say

KERNEL = (8, 4, 3, 3)

LAYERS: dict[str, tuple[list[onnx.NodeProto], tuple[int, ...], tuple[str, str, int] | None]] = {
    "Conv 1d": ([node("Conv", "x w")], (8, 4, 3), ("conv1d", "OIK", 1)),
    "Conv 2d": ([node("Conv", "x w")], KERNEL, ("conv2d", "OIKK", 1)),
    "Conv 3d": ([node("Conv", "x w")], (8, 4, 3, 3, 3), ("conv3d", "OIKKK", 1)),
    "Conv in groups": ([node("Conv", "x w", group=2)], KERNEL, ("conv2d", "OIKK", 2)),
    "Conv by channel": ([node("Conv", "x w", group=4)], (8, 1, 3, 3), ("depthwise_conv2d", "OIKK", 4)),
    "Conv in groups that do not fit": ([node("Conv", "x w", group=3)], KERNEL, None),
    "Conv in no groups": ([node("Conv", "x w", group=0)], KERNEL, ("conv2d", "OIKK", 1)),
    "ConvTranspose": ([node("ConvTranspose", "x w")], KERNEL, ("conv_transpose2d", "IOKK", 1)),
    "ConvTranspose in groups": ([node("ConvTranspose", "x w", group=2)], KERNEL, ("conv_transpose2d", "IOKK", 2)),
    "MatMul right": ([node("MatMul", "x w")], (4, 8), ("linear", "IO", 1)),
    "MatMul left": ([node("MatMul", "w x")], (4, 8), ("linear", "OI", 1)),
    "MatMul of a stack": ([node("MatMul", "x w")], (2, 4, 8), ("linear", "BIO", 1)),
    "MatMul of a vector": ([node("MatMul", "x w")], (4,), None),
    "Gemm": ([node("Gemm", "x w")], (4, 8), ("linear", "IO", 1)),
    "Gemm turned": ([node("Gemm", "x w", transB=1)], (8, 4), ("linear", "OI", 1)),
    "Gemm left": ([node("Gemm", "w x")], (8, 4), ("linear", "OI", 1)),
    "Gemm left turned": ([node("Gemm", "w x", transA=1)], (4, 8), ("linear", "IO", 1)),
    "Einsum": ([node("Einsum", "x w", equation="abc,cd->abd")], (4, 8), ("linear", "IO", 1)),
    "Einsum of heads": ([node("Einsum", "x w", equation="bte,ehd->bthd")], (4, 2, 3), ("linear", "IOO", 1)),
    "Einsum of experts": ([node("Einsum", "w x", equation="eio,bei->beo")], (2, 4, 8), ("linear", "BIO", 1)),
    "Einsum of a product": ([node("Einsum", "x w", equation="ab,ab->ab")], (2, 4), None),
    "Gather": ([node("Gather", "w x")], (100, 8), ("embedding", "IO", 1)),
    "Gather columns": ([node("Gather", "w x", axis=1)], (100, 8), None),
    "LSTM": ([node("LSTM", "x w .", "y", hidden_size=2)], (1, 8, 3), ("lstm", "BOI", 1)),
    "LSTM recurrent": ([node("LSTM", "x . w", "y", hidden_size=2)], (2, 8, 2), ("lstm", "BOI", 1)),
    "GRU": ([node("GRU", "x w .", "y", hidden_size=2)], (1, 6, 3), ("gru", "BOI", 1)),
    "RNN": ([node("RNN", "x w .", "y", hidden_size=2)], (1, 2, 3), ("rnn", "BOI", 1)),
    "through Identity": ([node("Identity", "w", "v"), node("MatMul", "x v")], (4, 8), ("linear", "IO", 1)),
    "through Cast": ([node("Cast", "w", "v", to=1), node("MatMul", "x v")], (4, 8), ("linear", "IO", 1)),
    "through Transpose": (
        [node("Transpose", "w", "v", perm=[1, 0]), node("MatMul", "x v")],
        (8, 4),
        ("linear", "OI", 1),
    ),
    "through Transpose by default": (
        [node("Transpose", "w", "v"), node("Conv", "x v")],
        (3, 4, 8),
        ("conv1d", "KIO", 1),
    ),
    "through Unsqueeze": (
        [node("Constant", "", "at", value_ints=[0]), node("Unsqueeze", "w at", "v"), node("LSTM", "x v .")],
        (8, 3),
        ("lstm", "OI", 1),
    ),
    "through Unsqueeze of old": (
        [node("Unsqueeze", "w", "v", axes=[-2]), node("Conv", "x v")],
        (8, 4, 3),
        ("conv2d", "OIK", 1),
    ),
    "through Squeeze": (
        [node("Constant", "", "at", value_ints=[2]), node("Squeeze", "w at", "v"), node("Conv", "x v")],
        (8, 4, 1, 3),
        ("conv1d", "OIKK", 1),
    ),
    "through Reshape that adds a dimension": (
        [node("Constant", "", "to", value_ints=[8, -1, 1, 3]), node("Reshape", "w to", "v"), node("Conv", "x v")],
        (8, 4, 3),
        ("conv2d", "OIK", 1),
    ),
    "not through Reshape that mixes": (
        [node("Constant", "", "to", value_ints=[8, 12]), node("Reshape", "w to", "v"), node("Gemm", "x v")],
        (8, 4, 3),
        None,
    ),
    "not through Reshape of a part": (
        [
            node("Constant", "", "to", value_ints=[8, 4]),
            *(node("Slice", "w from to", "part"), node("Reshape", "part to", "v"), node("Gemm", "x v")),
        ],
        (8, 4, 1),
        None,
    ),
    "through gates in another order": (
        [
            *(node("Slice", "w from to", f"gate{number}") for number in range(4)),
            node("Concat", "gate0 gate2 gate3 gate1", "v", axis=0),
            node("Unsqueeze", "v at", "u"),
            node("LSTM", "x u ."),
        ],
        (8, 3),
        None,
    ),
}
"""Nodes that use a stored `w` of a shape, and what they say of it: kind, axes and groups."""


@pytest.mark.parametrize("case", LAYERS)
def test_an_operator_says_what_the_dimensions_of_its_weight_count(tmp_path: Path, case: str) -> None:
    nodes, shape, expected = LAYERS[case]
    use = uses(opened(tmp_path / "m.onnx", model(nodes, [stored("w", np.ones(shape))])))["w"]
    assert (None if use is None or not use.axes else (use.kind, use.axes, use.groups)) == expected


OTHERS: dict[str, tuple[list[onnx.NodeProto], tuple[int, ...], str | None]] = {
    "bias of Conv": ([node("Conv", "x v w")], (8,), "bias"),
    "bias of Gemm": ([node("Gemm", "x v w")], (8,), "bias"),
    "bias of LSTM": ([node("LSTM", "x v u w")], (1, 16), "bias"),
    "bias added": ([node("MatMul", "x v", "a"), node("Add", "a w")], (1, 8), "bias"),
    "bias added first": ([node("MatMul", "x v", "a"), node("Add", "w a")], (8,), "bias"),
    "bias added after a transposition": (
        [node("MatMul", "x v", "a"), node("Transpose", "a", "b"), node("Add", "b w")],
        (8,),
        "bias",
    ),
    "added to a product of values": ([node("MatMul", "x u", "a"), node("Add", "a w")], (8,), "parameter"),
    "positions added": ([node("MatMul", "x v", "a"), node("Add", "a w")], (6, 8), "parameter"),
    "added to no layer": ([node("Relu", "x", "a"), node("Add", "a w")], (8,), "parameter"),
    "multiplied": ([node("Mul", "x w")], (8,), "parameter"),
    "a number": ([node("Mul", "x w")], (), "constant"),
    "scale of BatchNormalization": ([node("BatchNormalization", "x w b m v")], (8,), "norm"),
    "shift of BatchNormalization": ([node("BatchNormalization", "x s w m v")], (8,), "bias"),
    "mean of BatchNormalization": ([node("BatchNormalization", "x s b w v")], (8,), "buffer"),
    "variance of BatchNormalization": ([node("BatchNormalization", "x s b m w")], (8,), "buffer"),
    "scale of LayerNormalization": ([node("LayerNormalization", "x w b")], (8,), "norm"),
    "scale of InstanceNormalization": ([node("InstanceNormalization", "x w b")], (8,), "norm"),
    "slopes of PRelu": ([node("PRelu", "x w")], (8, 1, 1), "parameter"),
    "scales of Resize": ([node("Resize", "x . w")], (4,), "constant"),
    "of a domain that is not known": ([node("MatMul", "x w", domain="elsewhere")], (4, 8), None),
    "looked up by what is stored": ([node("Constant", "", "i", value_int=1), node("Gather", "w i")], (4, 8), None),
}
"""Nodes that use a stored `w` of a shape, and the kind that they give it."""


@pytest.mark.parametrize("case", OTHERS)
def test_an_operator_says_what_a_tensor_is_that_is_no_layers_weight(tmp_path: Path, case: str) -> None:
    nodes, shape, expected = OTHERS[case]
    tensors = [stored("w", np.ones(shape)), stored("v", np.ones((8, 8)))]
    use = uses(opened(tmp_path / "m.onnx", model(nodes, tensors)))["w"]
    assert (None if use is None else (use.kind, use.axes)) == (None if expected is None else (expected, ""))


def test_a_weight_that_is_looked_up_and_multiplied_with_is_what_it_is_first(tmp_path: Path) -> None:
    nodes = [node("Gather", "w x", "a"), node("Transpose", "w", "v"), node("MatMul", "a v")]
    use = uses(opened(tmp_path / "m.onnx", model(nodes, [stored("w", np.ones((9, 4)))])))["w"]
    assert use == Use("embedding", "IO", "the table of Gather a")


def test_gates_that_an_exporter_puts_in_another_order_are_weights_of_their_layer(tmp_path: Path) -> None:
    nodes = [
        node("Constant", "", "at", value_ints=[0]),
        *(node("Slice", "w from to", f"gate{number}") for number in range(4)),
        node("Concat", "gate0 gate2 gate3 gate1", "v", axis=0),
        node("Unsqueeze", "v", "u", axes=[0]),
        node("LSTM", "x u ."),
    ]
    assert uses(opened(tmp_path / "m.onnx", model(nodes, [stored("w", np.ones((8, 3)))])))["w"] is not None


FOLDED = ("exported for inference; batch norm, if the network had any, may be folded into the weights",)


@pytest.mark.parametrize(
    ("operators", "warnings"),
    [
        (["Conv"], FOLDED),
        (["Gemm"], FOLDED),
        (["Conv", "BatchNormalization"], ()),
        (["MatMul"], ()),
        ([], ()),
    ],
)
def test_batch_normalisation_that_may_be_folded_is_warned_of(
    tmp_path: Path, operators: list[str], warnings: tuple[str, ...]
) -> None:
    nodes = [node(operator, "x w", f"y{index}") for index, operator in enumerate(operators)]
    assert opened(tmp_path / "m.onnx", model(nodes, [stored("w", np.ones(KERNEL))])).warnings == warnings


# Quantised weights


def dequantised(tensors: list[onnx.TensorProto], **attributes: Any) -> Any:
    """What the reference library makes of quantised weights."""
    names = [tensor.name for tensor in tensors]
    described = [helper.make_tensor_value_info("y", T.FLOAT, None)]
    graph = helper.make_graph([node("DequantizeLinear", " ".join(names), **attributes)], "g", [], described, tensors)
    held = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    return onnx.reference.ReferenceEvaluator(held).run(None, {})[0]


def integers(shape: tuple[int, ...], kind: int, seed: int = 1) -> onnx.TensorProto:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    low, high = {T.INT8: (-128, 128), T.UINT8: (0, 256), T.INT4: (-8, 8), T.UINT4: (0, 16), T.INT32: (-99, 99)}.get(
        kind, (-3, 4)
    )
    return numpy_helper.from_array(np.random.default_rng(seed).integers(low, high, shape).astype(dtype), "w")


def scales(*shape: int) -> onnx.TensorProto:
    return stored("s", np.random.default_rng(2).uniform(0.001, 0.1, shape))


@pytest.mark.parametrize("kind", [T.INT8, T.UINT8, T.INT4, T.UINT4, T.INT32, T.FLOAT8E4M3FN], ids=T.DataType.Name)
@pytest.mark.parametrize(
    ("shape", "scale", "attributes"),
    [
        ((5, 7), (), {}),
        ((5, 7), (5,), {"axis": 0}),
        ((5, 7), (7,), {"axis": 1}),
        ((5, 7), (7,), {"axis": -1}),
        ((3, 5, 7), (5,), {}),
        ((6, 7), (3, 7), {"axis": 0, "block_size": 2}),
        ((7, 6), (7, 3), {"axis": 1, "block_size": 2}),
        ((2, 7, 3), (2, 3, 3), {"axis": 1, "block_size": 3}),
        ((300, 500), (300,), {"axis": 0}),
        ((300, 500), (10, 500), {"axis": 0, "block_size": 30}),
    ],
)
@pytest.mark.parametrize("has_zero_point", [True, False], ids=["zero points", "none"])
def test_quantised_weights_are_measured_as_the_numbers_that_they_stand_for(
    tmp_path: Path,
    kind: int,
    shape: tuple[int, ...],
    scale: tuple[int, ...],
    attributes: dict[str, int],
    has_zero_point: bool,
) -> None:
    tensors = [integers(shape, kind), scales(*scale)]
    if has_zero_point and kind not in (T.INT32, T.FLOAT8E4M3FN):
        zero_point = integers(scale, kind, seed=3)
        zero_point.name = "z"
        tensors.append(zero_point)
    names = " ".join(tensor.name for tensor in tensors)
    nodes = [node("DequantizeLinear", names, "v", **attributes), node("MatMul", "x v")]
    checkpoint = opened(tmp_path / "m.onnx", model(nodes, tensors))
    [weight] = [tensor for tensor in checkpoint.tensors if tensor.name == "w"]
    np.testing.assert_array_equal(values(weight), dequantised(tensors, **attributes).astype(np.float64).reshape(-1))
    assert weight.use == Use("linear", "B" * (len(shape) - 2) + "IO", "the right-hand input of MatMul y")
    assert weight.dtype.name.endswith(" scaled")
    assert weight.stored_bytes == len(tensors[0].raw_data)


def test_a_block_longer_than_the_axis_is_the_axis(tmp_path: Path) -> None:
    nodes = [node("DequantizeLinear", "w s", "v", axis=0, block_size=(1 << 63) - 1), node("MatMul", "x v")]
    tensors = [stored("w", [[1, 2], [3, 4]], "i1"), stored("s", [[10.0, 100.0]])]
    assert named_values(opened(tmp_path / "m.onnx", model(nodes, tensors)))["w"] == [10.0, 200.0, 30.0, 400.0]


def test_blocks_that_do_not_fill_the_axis_have_their_scales(tmp_path: Path) -> None:
    weight = np.arange(1, 15).reshape(2, 7)
    factors = np.array([[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]])
    nodes = [node("DequantizeLinear", "w s", "v", axis=1, block_size=3), node("MatMul", "x v")]
    tensors = [stored("w", weight, "i1"), stored("s", factors)]
    expected = (weight * np.repeat(factors, 3, axis=1)[:, :7]).reshape(-1).tolist()
    assert named_values(opened(tmp_path / "m.onnx", model(nodes, tensors)))["w"] == expected


QUANTISED: dict[str, tuple[list[onnx.NodeProto], tuple[int, ...], int, str]] = {
    "QLinearConv": ([node("QLinearConv", "x xs xz w s z ys yz b")], (4, 2, 3), 0, "OIK"),
    "QLinearMatMul": ([node("QLinearMatMul", "x xs xz w s z ys yz")], (6, 4), 1, "IO"),
    "QGemm": ([node("QGemm", "x xs xz w s z b", domain="com.microsoft", transB=1)], (4, 6), 0, "OI"),
    "DynamicQuantizeMatMul": ([node("DynamicQuantizeMatMul", "x w s z", domain="com.microsoft")], (6, 4), 1, "IO"),
    "MatMulIntegerToFloat": (
        [node("MatMulIntegerToFloat", "x w xs s xz z", domain="com.microsoft")],
        (6, 4),
        1,
        "IO",
    ),
    "MatMulInteger": (
        [
            node("DynamicQuantizeLinear", "x", "q qs qz"),
            node("Mul", "qs s", "both"),
            node("MatMulInteger", "q w qz z", "p"),
            node("Cast", "p", "f", to=1),
            node("Mul", "f both"),
        ],
        (6, 4),
        1,
        "IO",
    ),
    "ConvInteger": (
        [
            node("DynamicQuantizeLinear", "x", "q qs qz"),
            node("ConvInteger", "q w qz z", "p"),
            node("Cast", "p", "f", to=1),
            node("Mul", "s qs", "both"),
            node("Mul", "both f"),
        ],
        (4, 2, 3),
        0,
        "OIK",
    ),
}
"""Nodes that use an integer `w` of a shape with scales `s` and zero points `z`; the axis of its outputs, its axes."""


@pytest.mark.parametrize("case", QUANTISED)
@pytest.mark.parametrize("many", [False, True], ids=["one scale", "one an output"])
def test_integer_operators_bring_the_scale_of_their_weights(tmp_path: Path, case: str, many: bool) -> None:
    nodes, shape, axis, axes = QUANTISED[case]
    weight = numpy_helper.to_array(integers(shape, T.INT8))
    broadcast = tuple(-1 if place == axis else 1 for place in range(len(shape)))
    factor = numpy_helper.to_array(scales(shape[axis] if many else 1))
    zero = np.arange(shape[axis] if many else 1, dtype=np.int8)
    tensors = [stored("w", weight, "i1"), stored("s", factor), stored("z", zero, "i1")]
    checkpoint = opened(tmp_path / "m.onnx", model(nodes, tensors))
    [found] = [tensor for tensor in checkpoint.tensors if tensor.name == "w"]
    expected = (weight.astype(np.float32) - zero.reshape(broadcast)) * factor.reshape(broadcast)
    np.testing.assert_array_equal(values(found), expected.astype(np.float64).reshape(-1))
    assert found.use is not None
    assert found.use.axes == axes


def test_integer_weights_whose_scale_the_graph_does_not_show_are_integers(tmp_path: Path) -> None:
    nodes = [node("MatMulInteger", "q w", "p"), node("Cast", "p", "f", to=1), node("Mul", "f unknown")]
    content = model(nodes, [stored("w", np.ones((4, 4)), "i1")])
    [tensor] = opened(tmp_path / "m.onnx", content).tensors
    assert (tensor.use, tensor.dtype.name) == (None, "I8")


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("points", ["none", "packed", "float"])
def test_the_blocks_of_matmulnbits_are_scaled_as_its_specification_says(tmp_path: Path, bits: int, points: str) -> None:
    """https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits"""
    outputs, columns, block = 5, 48, 16
    random_numbers = np.random.default_rng(bits)
    numbers = random_numbers.integers(0, 1 << bits, (outputs, columns))
    factors = random_numbers.uniform(-0.1, 0.1, (outputs, columns // block)).astype(np.float32)
    zero = random_numbers.integers(0, 1 << bits, factors.shape)

    def packed(rows: Any) -> Any:
        in_byte = 8 // bits
        whole = np.zeros((len(rows), -(-rows.shape[1] // in_byte) * in_byte), np.uint8)
        whole[:, : rows.shape[1]] = rows
        return sum(whole[:, place::in_byte].astype(int) << bits * place for place in range(in_byte))

    tensors = [
        stored("w", packed(numbers).reshape(outputs, columns // block, -1), "u1"),
        stored("s", factors.reshape(-1)),
    ]
    given = {"none": "", "packed": "z", "float": "z"}[points]
    if points == "packed":
        tensors.append(stored("z", packed(zero).reshape(-1), "u1"))
    elif points == "float":
        tensors.append(stored("z", zero.reshape(-1)))
    attributes = {"N": outputs, "K": columns, "bits": bits, "block_size": block, "domain": "com.microsoft"}
    content = model([node("MatMulNBits", f"x w s {given}", **attributes)], tensors)
    [found] = [tensor for tensor in opened(tmp_path / "m.onnx", content).tensors if tensor.name == "w"]
    middle = np.full_like(zero, 1 << (bits - 1)) if points == "none" else zero
    expected = (numbers - np.repeat(middle, block, 1)).astype(np.float32) * np.repeat(factors, block, 1)
    np.testing.assert_array_equal(values(found), expected.reshape(-1))
    assert found.shape == (outputs, columns)
    assert found.use == Use("linear", "OI", "the right-hand input of MatMulNBits y")


@pytest.mark.parametrize(
    ("scale", "attributes", "reason"),
    [
        (scales(3), {"axis": 0}, "it has 3 scales, which is not its size along dimension 0"),
        (scales(2, 7), {"axis": 0, "block_size": 2}, "and has not one scale for each of them"),
        (helper.make_tensor("s", T.STRING, [5], [b""] * 5), {"axis": 0}, "its scale cannot be read"),
    ],
)
def test_weights_whose_scales_do_not_fit_are_unread(
    tmp_path: Path, scale: onnx.TensorProto, attributes: dict[str, int], reason: str
) -> None:
    nodes = [node("DequantizeLinear", "w s", "v", **attributes), node("MatMul", "x v")]
    checkpoint = opened(tmp_path / "m.onnx", model(nodes, [integers((5, 7), T.INT8), scale]))
    assert reason in reasons(checkpoint)["w"]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_scale_that_is_no_number_makes_its_weights_unread(tmp_path: Path, number: float) -> None:
    nodes = [node("DequantizeLinear", "w s", "v"), node("MatMul", "x v")]
    checkpoint = opened(tmp_path / "m.onnx", model(nodes, [integers((5, 7), T.INT8), stored("s", number)]))
    with pytest.raises(CheckpointError, match="one of its scales is not a finite number"):
        named_values(checkpoint)


# Data in another file


def outside(name: str = "w", shape: tuple[int, ...] = (4,), kind: int = T.FLOAT, **said: Any) -> onnx.TensorProto:
    """A tensor whose data is in the file that `said` describes."""
    tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in said.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor


def read_beside(folder: Path, *tensors: onnx.TensorProto) -> Checkpoint:
    return opened(folder / "m.onnx", model((), tensors))


def test_data_beside_the_model_is_read_in_place(tmp_path: Path) -> None:
    (tmp_path / "m.data").write_bytes(np.arange(8, dtype="<f4").tobytes())
    tensors = [
        outside("a", location="m.data", offset=16, length=16),
        outside("b", (2, 2), location="./m.data", checksum="not checked"),
    ]
    checkpoint = read_beside(tmp_path, *tensors)
    assert named_values(checkpoint) == {"a": [4, 5, 6, 7], "b": [0, 1, 2, 3]}
    assert checkpoint.bytes == (tmp_path / "m.onnx").stat().st_size + 32


def test_a_model_as_the_reference_library_saves_it_with_external_data_is_read(tmp_path: Path) -> None:
    weights = {f"w{n}": np.random.default_rng(n).normal(size=(n + 1, 3)).astype("<f4") for n in range(4)}
    held = onnx.load_from_string(model((), [stored(name, weight) for name, weight in weights.items()]))
    for together in (True, False):
        path = tmp_path / f"{together}.onnx"
        onnx.save_model(
            held,
            str(path),
            save_as_external_data=True,
            all_tensors_to_one_file=together,
            size_threshold=0,
            convert_attribute=True,
            location=f"{together}.data" if together else None,
        )
        assert named_values(open_checkpoint(str(path))) == {k: v.reshape(-1).tolist() for k, v in weights.items()}


def test_more_files_than_can_be_open_at_once_are_read(tmp_path: Path) -> None:
    import resource

    names = [f"w{number}" for number in range(300)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(np.full(4, number, "<f4").tobytes())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        found = named_values(read_beside(tmp_path, *(outside(name, location=name) for name in names)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == {name: [float(number)] * 4 for number, name in enumerate(names)}


def test_a_file_that_is_replaced_after_it_was_opened_is_not_read(tmp_path: Path) -> None:
    many = [outside(f"w{number}", location=f"d{number}") for number in range(100)]
    for number in range(100):
        (tmp_path / f"d{number}").write_bytes(bytes(16))
    first = read_beside(tmp_path, *many).tensors[0]  # whose file is not kept open, with so many after it
    (tmp_path / "new").write_bytes(b"\1" * 16)
    os.replace(tmp_path / "new", tmp_path / "d0")
    with pytest.raises(CheckpointError, match="was replaced by another file"):
        values(first)


def test_a_file_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    for number, count in ((1.0, 4), (2.0, 8)):
        (tmp_path / "d").write_bytes(np.full(count, number, "<f4").tobytes())
        assert named_values(read_beside(tmp_path, outside(shape=(count,), location="d"))) == {"w": [number] * count}


def prepare(folder: Path) -> None:
    """A folder beside the model's with a file that must not be read, and links to it."""
    (folder.parent / "secret").write_bytes(b"\1" * 64)
    (folder / "d").write_bytes(bytes(64))
    (folder / "inner").mkdir()
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "links").symlink_to(folder.parent)
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")


OUTSIDE = {
    "G1 parent": ({"location": "../secret"}, "outside its own folder"),
    "G1 parent through a folder": ({"location": "inner/../../secret"}, "outside its own folder"),
    "G1 absolute": ({"location": "/etc/passwd"}, "outside its own folder"),
    "G1 backslash": ({"location": "..\\secret"}, "outside its own folder"),
    "G1 drive": ({"location": "C:\\secret"}, "outside its own folder"),
    "G1 URL": ({"location": "http://127.0.0.1/secret"}, "outside its own folder"),
    "G1 symlink": ({"location": "link"}, "a link out of its own folder"),
    "G1 symlink of a folder": ({"location": "links/secret"}, "a link out of its own folder"),
    "G1 symlink loop": ({"location": "loop"}, "its file: "),
    "G1 missing": ({"location": "missing"}, "there is no such file"),
    "G1 directory": ({"location": "inner"}, "is not a regular file"),
    "G1 pipe": ({"location": "pipe"}, "is not a regular file"),
    "G1 empty": ({"location": ""}, "outside its own folder"),
    "G1 none": ({"offset": 0}, "outside its own folder"),
    "G1 NUL": ({"location": "d\0"}, "outside its own folder"),
    "G2 offset -1": ({"location": "d", "offset": -1}, "is not a number: '-1'"),
    "G2 offset beyond the file": ({"location": "d", "offset": 1 << 62}, "ends before its last byte"),
    "G2 offset beyond 64 bits": ({"location": "d", "offset": 10**30}, "is not a number"),
    "G2 offset of many digits": ({"location": "d", "offset": "9" * 100_000}, "is not a number"),
    "G2 length 10^13": ({"location": "d", "length": 10**13}, "its length is said to be 10,000,000,000,000"),
    "G2 length 0": ({"location": "d", "length": 0}, "its length is said to be 0"),
    "G2 length of words": ({"location": "d", "length": "all"}, "its length in the file is not a number: 'all'"),
    "G2 length in other digits": ({"location": "d", "length": "١٦"}, "is not a number"),
    "G2 offset that runs over the end": ({"location": "d", "offset": 60}, "ends before its last byte"),
    "G3 __class__": ({"location": "d", "__class__": "os"}, "an unknown key, '__class__'"),
    "G3 basepath": ({"location": "d", "basepath": "/etc"}, "an unknown key, 'basepath'"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_data_that_cannot_be_had_safely_is_unread(tmp_path: Path, case: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    prepare(folder)
    said, reason = OUTSIDE[case]
    with ending_soon():
        checkpoint = read_beside(folder, outside(**said), stored("sound", [1.0]))
    assert reason in reasons(checkpoint)["w"]
    assert named_values(checkpoint) == {"sound": [1.0]}


def test_g1_a_hard_link_is_a_file_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(np.arange(4, dtype="<f4").tobytes())
    os.link(tmp_path / "d", tmp_path / "hard")
    checkpoint = read_beside(tmp_path, outside("a", location="d"), outside("b", location="hard"))
    assert named_values(checkpoint) == {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3]}
    assert checkpoint.tensors[0].view == checkpoint.tensors[1].view
    assert checkpoint.bytes == (tmp_path / "m.onnx").stat().st_size + 16


def test_g3_a_key_that_is_there_twice_is_unclear(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(bytes(64))
    tensor = outside(location="d", offset=0)
    again = tensor.external_data.add()
    again.key, again.value = "offset", "16"
    assert reasons(read_beside(tmp_path, tensor)) == {"w": "what is said of its file has the same key twice"}


def test_what_onnx_runtime_keeps_beside_the_data_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(bytes(64))
    assert read_beside(tmp_path, outside(location="d", prepacked_0="key|0|16")).unread == ()


@pytest.mark.parametrize("kind", [T.FLOAT, T.INT4], ids=["float", "four bits"])
def test_g7_one_file_that_many_tensors_share_is_measured_once(tmp_path: Path, kind: int) -> None:
    size = 1 << 20
    (tmp_path / "d").write_bytes(bytes(size))
    elements = size * 2 if kind == T.INT4 else size // 4
    many = [outside(f"w{number}", (elements,), kind, location="d", offset=0) for number in range(4_900)]
    with ending_soon(60):
        checkpoint = read_beside(tmp_path, *many)
    assert len({tensor.view for tensor in checkpoint.tensors}) == 1
    assert checkpoint.bytes == (tmp_path / "m.onnx").stat().st_size + size


def test_g7_tensors_that_share_some_of_their_bytes_are_unread(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(bytes(64))
    tensors = [
        outside("a", location="d"),
        outside("b", location="d", offset=4),
        outside("same bytes, other type", kind=T.INT32, location="d", offset=32),
        outside("c", location="d", offset=32),
        outside("sound", location="d", offset=48),
    ]
    checkpoint = read_beside(tmp_path, *tensors)
    reason = "another tensor is said to have some of its bytes"
    assert reasons(checkpoint) == dict.fromkeys(("a", "b", "same bytes, other type", "c"), reason)
    assert named_values(checkpoint) == {"sound": [0.0] * 4}


def test_a_tensor_whose_data_is_in_two_places_is_unread(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(bytes(16))
    both = outside(location="d")
    both.raw_data = bytes(16)
    named = outside("named", location="d")
    named.ClearField("data_location")
    assert reasons(read_beside(tmp_path, both, named)) == {
        "w": "its data is said to be in another file, and is in this one too",
        "named": "another file is named for its data, but it is not said that they are there",
    }


# Damage, and what no exporter writes

WRONG = {
    "G4 dims 2^40 x 2^40": (((1, 1 << 40), (1, 1 << 40), (2, 1), (RAW, bytes(16))), "take 4,835,703,278,458,516,698,"),
    "G4 dims that wrap to 4": (((1, 1 << 32), (1, (1 << 32) + 1), (2, 1), (RAW, bytes(16))), "take 73,786,976,"),
    "G4 dims -4": (((1, -4), (2, 1), (RAW, bytes(16))), "its size is negative"),
    "G4 two negative dims": (((1, -2), (1, -2), (2, 1), (RAW, bytes(16))), "its size is negative"),
    "G4 65 dims": ((*[(1, 1)] * 65, (2, 1), (RAW, bytes(4))), "it has 65 dimensions, more than the 64"),
    "G4 raw short": (((1, 4), (2, 1), (RAW, bytes(15))), "take 16 bytes, and its data has 15"),
    "G4 raw long": (((1, 4), (2, 1), (RAW, bytes(17))), "take 16 bytes, and its data has 17"),
    "G4 no data": (((1, 4), (2, 1)), "take 16 bytes, and its data has 0"),
    "G4 typed short": (((1, 4), (2, 1), (FLOATS, bytes(12))), "take 16 bytes, and its data has 12"),
    "G4 numbers short": (((1, 4), (2, 7), (INT64S, b"\1\1\1")), "take 32 bytes, and its data has 24"),
    "G4 raw and typed": (((1, 4), (2, 1), (RAW, bytes(16)), (FLOATS, bytes(16))), "its data is there more than once"),
    "G4 raw twice": (((1, 4), (2, 1), (RAW, bytes(16)), (RAW, bytes(16))), "its data is there more than once"),
    "G4 data_type 999": (((1, 4), (2, 999), (RAW, bytes(16))), "its type has the number 999"),
    "G4 data_type -1": (((1, 4), (2, -1), (RAW, bytes(16))), "its type has the number -1"),
    "G4 data_type 0": (((1, 4), (2, 0), (RAW, bytes(16))), "it has no type"),
    "G4 no data_type": (((1, 4), (RAW, bytes(16))), "it has no type"),
    "G4 floats for whole numbers": (((1, 4), (2, 6), (FLOATS, bytes(16))), "in a field that is not read for its type"),
    "G4 a segment": (((1, 4), (2, 1), (3, message((1, 0))), (RAW, bytes(16))), "it is one segment of a tensor"),
    "G8 six bits one to a number": (((1, 1), (2, 27), (INT32S, b"\1")), "in a field that is not read for its type"),
    "G8 six bits that do not fill their bytes": (((1, 1), (2, 27), (RAW, b"\1")), "of a storage that holds 1"),
    "G8 text as raw data": (((1, 1), (2, 8), (RAW, b"a")), "it holds text, not numbers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_tensor_that_contradicts_itself_is_unread(tmp_path: Path, case: str) -> None:
    fields, reason = WRONG[case]
    sound = stored("sound", [1.0]).SerializeToString()
    content = model_around(message((5, message(*fields, (8, "w"))), (5, sound)))
    checkpoint = opened(tmp_path / "m.onnx", content)
    assert reason in reasons(checkpoint)["w"]
    assert named_values(checkpoint) == {"sound": [1.0]}


def test_two_tensors_of_one_name_are_unread(tmp_path: Path) -> None:
    tensors = [stored("w", [1.0]), stored("w", [2.0]), stored("v", [3.0])]
    checkpoint = opened(tmp_path / "m.onnx", model((), tensors))
    assert [(entry.name, entry.reason) for entry in checkpoint.unread] == [("w", "another tensor has its name")] * 2
    assert named_values(checkpoint) == {"v": [3.0]}


def nested(levels: int) -> bytes:
    """A graph in a node in a graph, and so on."""
    graph = message((5, stored("w", [1.0]).SerializeToString()))
    for _ in range(levels):
        attribute = message((1, "body"), (6, graph), (20, 5))
        graph = message((1, message((4, "Loop"), (5, attribute))))
    return model_around(graph)


def deep_groups(levels: int) -> bytes:
    return model_around(b"") + bytes([3 << 3 | 3]) * levels


REFUSED = {
    "G5 a wrong wire type": model_around(message((5, 7))),
    "G5 a name that is a number": model_of(message((1, 1), (2, 1), (8, 7))),
    "G5 groups": deep_groups(10_000),
    "G5 a length of 2 GB": b"\x08\x08" + b"\x12\x01x" + bytes([7 << 3 | 2]) + varint(1 << 31),
    "G5 a length of 2^63": b"\x08\x08" + b"\x12\x01x" + bytes([7 << 3 | 2]) + varint(1 << 63),
    "G5 a graph that ends in a field": model_around(b"\x0a\x10"),
    "G5 a field number 0": model_around(b"\x02\x00"),
    "G5 no graph": message((1, 8), (2, "tests"), (8, message((2, 17)))),
    "G5 two graphs": message((1, 8), (2, "tests"), (7, b""), (7, b""), (8, message((2, 17)))),
    "G5 no operator set": message((1, 8), (2, "tests"), (7, b"")),
    "G6 If/Loop in each other 1,000 times": nested(1000),
    "G6 If/Loop in each other 40 times": nested(40),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_model_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(REFUSED[case])
    with ending_soon(), pytest.raises(CheckpointError, match="is a damaged ONNX file: it ") as caught:
        onnx_file.read(open_file(path))
    assert str(caught.value).isprintable()


def test_g5_unknown_fields_are_passed_over(tmp_path: Path) -> None:
    content = model_around(message((99, 1), (98, b"x"), (5, message((1, 1), (2, 1), (97, 1.0), (RAW, bytes(4))))))
    assert len(opened(tmp_path / "m.onnx", content).tensors) == 1


def test_g6_graphs_in_each_other_as_deep_as_the_reference_library_reads_them_are_read(tmp_path: Path) -> None:
    assert onnx.load_from_string(nested(32)).graph.node
    with pytest.raises(Exception, match=r"[Pp]ars"):
        onnx.load_from_string(nested(34))
    assert len(opened(tmp_path / "m.onnx", nested(32)).tensors) == 1


LIMITED = {
    "onnx_nodes": model([node("Relu", "x")] * 12),
    "onnx_fields": model([node("Relu", "x")] * 12),
    "tensors": model((), [stored(f"w{number}", [1.0]) for number in range(12)]),
    "onnx_depth": nested(4),
    "gathered_bytes": model_of(message((1, 12), (2, 1), *[(FLOATS, 1.0)] * 12)),
    "header_rank": model_of(message(*[(1, 1)] * 12, (2, 1), (RAW, bytes(4)))),
}


@pytest.mark.parametrize("limit", LIMITED)
def test_what_goes_beyond_a_limit_is_refused_and_the_limit_named(tmp_path: Path, limit: str) -> None:
    opened(tmp_path / "m.onnx", LIMITED[limit])
    with changed_limits({limit: 10}), pytest.raises(CheckpointError, match=f"--limit {limit}=N"):
        opened(tmp_path / "m.onnx", LIMITED[limit])


def small() -> bytes:
    """A model with a tensor in every kind of field, two of them quantised."""
    nodes = [
        node("Constant", "", "c", value_ints=[1, 2, 300]),
        node("Conv", "x kernel bias", "a", group=1),
        node("DequantizeLinear", "q s", "v"),
        node("MatMul", "a v", "b"),
        node("If", "c", "y", then_branch=graph_of([], "t", [stored("w", [4.0])]), else_branch=graph_of([], "e")),
    ]
    tensors = [
        stored("kernel", np.arange(12).reshape(2, 2, 3)),
        helper.make_tensor("bias", T.FLOAT, [2], [1.0, 2.0]),
        helper.make_tensor("half", T.FLOAT16, [2], np.array([1.0, 2.0], np.float16)),
        helper.make_tensor("q", T.INT4, [3], [1, 2, 3]),
        stored("s", 0.5),
    ]
    return model(nodes, tensors)


def read_whole(path: Path) -> dict[str, list[float]] | None:
    """The elements of every tensor, None where the file is refused; any other exception fails."""
    try:
        return named_values(open_checkpoint(str(path)))
    except CheckpointError:
        return None


def test_a_file_cut_at_any_byte_gives_an_error_or_the_right_numbers(tmp_path: Path) -> None:
    content, path = small(), tmp_path / "m.onnx"
    expected = named_values(opened(path, content))
    assert len(expected) == 7
    for size in range(len(content)):
        path.write_bytes(content[:size])
        found = read_whole(path)
        assert found is None or found == expected


def test_a_file_with_any_byte_changed_gives_an_error_or_numbers_and_nothing_else(tmp_path: Path) -> None:
    content, path = small(), tmp_path / "m.onnx"
    flipped = np.random.default_rng(1).integers(0, 8, len(content)).tolist()
    for place in range(len(content)):
        for byte in (0, 0xFF, content[place] ^ 1 << flipped[place]):
            path.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
            read_whole(path)


# Recognition


def recognised(path: Path) -> bool:
    file = open_file(path)
    return onnx_file.recognises(file.read(0, min(file.size, HEAD_BYTES)), file)


@pytest.mark.parametrize(
    "content",
    [
        b"\x08",
        b"\x08\x08",
        b"\x08\x08" * 1000,
        message((1, 8), (2, b"\0\1"), (7, b"")),
        message((1, 1_000_000), (7, b"")),
        message((1, 1), (2, message((1, b"meta")))),  # a TensorFlow SavedModel
        message((1, 4), (2, message((1, b"x"))), (500, b"")),  # a Core ML model
        message((1, 8), (7, 1)),
        message((1, 8), (8, b"\x10\x01" * 10_000), (7, b"")),
        message((2, "tests"), (7, b"")),
    ],
)
def test_other_protocol_buffers_are_not_taken_for_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m"
    path.write_bytes(content)
    assert not recognised(path)


def test_random_bytes_are_not_taken_for_onnx(tmp_path: Path) -> None:
    generator, path = np.random.default_rng(1), tmp_path / "m"
    for size in generator.integers(0, 600, 2000):
        path.write_bytes(b"\x08" + generator.bytes(size))
        assert not recognised(path)


def test_the_smallest_models_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "m"
    for content in (model(), message((1, 3), (7, b""), (8, b"")), model()[:-1]):
        path.write_bytes(content)
        assert recognised(path)


# Files from elsewhere


def manifest() -> Iterator[dict[str, str]]:
    if (HOSTILE / "MANIFEST.tsv").exists():
        with (HOSTILE / "MANIFEST.tsv").open(encoding="utf-8", newline="") as lines:
            yield from (row for row in csv.DictReader(lines, delimiter="\t") if row["file"].endswith(".onnx"))


def tensors_in(held: onnx.ModelProto) -> dict[str, int]:
    """How many initialisers and tensors in attributes the reference library finds."""
    counts = {"initializers": len(held.graph.initializer), "attributes": 0}

    def count(nodes: Any, counted: Callable[[onnx.GraphProto], None]) -> None:
        for one in nodes:
            for attribute in one.attribute:
                is_listed = one.op_type == "Constant" and attribute.type in (1, 2, 6, 7)
                counts["attributes"] += attribute.type == onnx.AttributeProto.TENSOR or is_listed
                for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                    counted(graph)

    def inner(graph: onnx.GraphProto) -> None:
        counts["attributes"] += len(graph.initializer)
        count(graph.node, inner)

    count(held.graph.node, inner)
    for function in held.functions:
        count(function.node, inner)
    return counts


ROWS = list(manifest())


@pytest.mark.skipif(not ROWS, reason="the collection of hostile files is not beside the project")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: Path(row["file"]).stem)
def test_the_projects_own_test_models_are_read_whole(row: dict[str, str]) -> None:
    path = HOSTILE / row["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"]
    checkpoint = open_checkpoint(str(path))
    held = onnx.load(path)
    counts = tensors_in(held)
    said = re.search(r"reference reader: initializers=(\d+)", row["what"])
    assert said is None or counts["initializers"] == int(said[1])
    assert checkpoint.unread == ()
    assert len(checkpoint.tensors) == sum(counts.values())
    found = {tensor.name: values(tensor) for tensor in checkpoint.tensors}
    for tensor in held.graph.initializer:
        np.testing.assert_array_equal(found[tensor.name], numbers_of(tensor))


MEGNET = (
    "mne-icalabel",
    "0.10.0",
    "mne_icalabel/megnet/assets/megnet.onnx",
    "1a6a5b7ac025c35a30534d5687f7123bdd93fa50e0946f5d1f547686ba3574f2",
)
"""Written by tf2onnx 1.16.1 from a Keras network: kernels under the names of TensorFlow's operators."""


def test_every_number_of_a_published_model_is_the_reference_librarys() -> None:
    path = published(*MEGNET)
    checkpoint = open_checkpoint(str(path))
    held = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    assert [tensor.name for tensor in checkpoint.tensors if tensor.name not in held] == []
    assert len(checkpoint.tensors) == len(held) == 95
    for tensor in checkpoint.tensors:
        np.testing.assert_array_equal(values(tensor), numbers_of(held[tensor.name]))


def test_the_layers_of_a_published_model_come_from_its_graph() -> None:
    report = inspect(str(published(*MEGNET)))
    assert {layer.fans_from for layer in report.layers} == {"graph"}
    layers = {layer.name.removeprefix("StatefulPartitionedCall/model/").split("/")[0]: layer for layer in report.layers}
    assert len(layers) == 17
    assert (layers["spatial_L1"].kind, layers["spatial_L1"].n_in, layers["spatial_L1"].n_out) == ("conv2d", 363, 3025)
    assert (layers["dense"].kind, layers["dense"].n_in, layers["dense"].n_out) == ("linear", 45_411, 117)
    assert {other.kind for other in report.others} == {"bias", "norm", "buffer", "parameter", "constant"}
    assert report.checkpoint.warnings == ()
