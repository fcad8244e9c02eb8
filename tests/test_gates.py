"""The gates of recurrent layers, and other maps that a format stacks in one tensor, are told apart."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from makers import opened
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_models import stored
from test_gguf_file import info, made, number, pair, text

import weightstats
from weightstats.layers import Layer, classify
from weightstats.network import find_network
from weightstats.schemas import jax_uses, tensorflow_layouts
from weightstats.schemas.gates import KERAS, gates
from weightstats.tensors import Use

SIZES = (0.5, 0.8, 1.1, 1.4)
"""What the elements of each gate are, in the order in which they are stored."""


def recurrence(operator: str, gates: int, directions: int = 1) -> onnx.ModelProto:
    """One recurrent layer of two inputs and three hidden units, each gate with its own number, nothing fed back."""
    rows = np.repeat(np.float32(SIZES[:gates]), 3)
    forwards = np.stack([rows * (2 if direction else 1) for direction in range(directions)])
    weights = np.broadcast_to(forwards[:, :, None], (directions, 3 * gates, 2))
    way = {"direction": "bidirectional"} if directions == 2 else {}
    nodes = [helper.make_node(operator, ["x", "w", "r"], ["y"], hidden_size=3, **way)]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", floats, [2, 1, 2])],
        [helper.make_tensor_value_info("y", floats, None)],
        [stored("w", weights), stored("r", np.zeros((directions, 3 * gates, 3)))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])


def measured(folder: Path, model: onnx.ModelProto) -> dict[str, float]:
    """The size of the elements of each part of the input weights."""
    onnx.save(model, folder / "m.onnx")
    rows = weightstats.inspect(str(folder / "m.onnx")).layers
    return {row.name: math.sqrt(row.mean_square) for row in rows if row.name.startswith("w[")}


def logistic(number: float) -> float:
    return 1 / (1 + math.exp(-number))


X = np.float32([[[1, 0.5]], [[-0.5, 1]]])


def test_the_gates_of_an_onnx_lstm_are_those_that_the_reference_computes_with(tmp_path: Path) -> None:
    model = recurrence("LSTM", 4)
    gate = measured(tmp_path, model)
    cell = 0.0
    for step in X.sum((1, 2)):
        cell = logistic(gate["w[forget]"] * step) * cell + logistic(gate["w[input]"] * step) * math.tanh(
            gate["w[cell]"] * step
        )
        hidden = logistic(gate["w[output]"] * step) * math.tanh(cell)
    (reference,) = ReferenceEvaluator(model).run(None, {"x": X})
    assert np.ravel(reference)[-1] == pytest.approx(hidden, rel=1e-5)


def test_the_gates_of_an_onnx_gru_are_those_that_the_reference_computes_with(tmp_path: Path) -> None:
    model = recurrence("GRU", 3)
    gate = measured(tmp_path, model)
    assert gate["w[reset]"] == pytest.approx(SIZES[1])
    hidden = 0.0
    for step in X.sum((1, 2)):
        update = logistic(gate["w[update]"] * step)
        hidden = (1 - update) * math.tanh(gate["w[new]"] * step) + update * hidden
    (reference,) = ReferenceEvaluator(model).run(None, {"x": X})
    assert np.ravel(reference)[-1] == pytest.approx(hidden, rel=1e-5)


def test_each_direction_of_an_onnx_layer_has_its_gates(tmp_path: Path) -> None:
    found = measured(tmp_path, recurrence("GRU", 3, directions=2))
    assert found == {
        f"w[{way}.{gate}]": pytest.approx(factor * size)
        for way, factor in (("forward", 1), ("reverse", 2))
        for gate, size in zip(("update", "reset", "new"), SIZES, strict=False)
    }


def test_a_plain_recurrence_has_parts_only_in_two_directions(tmp_path: Path) -> None:
    assert measured(tmp_path, recurrence("RNN", 1)) == {}
    assert set(measured(tmp_path, recurrence("RNN", 1, directions=2))) == {"w[forward]", "w[reverse]"}


def test_rows_that_are_no_whole_gates_stay_whole() -> None:
    assert gates(KERAS["lstm"], 1, 10) == ()
    assert gates(KERAS["rnn"], 1, 10) == ()
    assert len(gates(KERAS["lstm"], 1, 12)) == 4


# Names of TensorFlow 1, Flax and Haiku


def names(use: Use | None) -> tuple[str, str, list[str]] | None:
    return None if use is None else (use.kind, use.axes, [part.name for part in use.parts])


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("rnn/basic_lstm_cell/kernel", (5, 12), ("lstm", "IO", ["input", "cell", "forget", "output"])),
        ("rnn/multi_rnn_cell/cell_0/lstm_cell/kernel", (5, 12), ("lstm", "IO", ["input", "cell", "forget", "output"])),
        ("lstm/lstm_cell/kernel", (5, 12), ("lstm", "IO", ["input", "forget", "cell", "output"])),
        ("lstm/lstm_cell/recurrent_kernel", (3, 12), ("lstm", "IO", ["input", "forget", "cell", "output"])),
        ("lstm/lstm_cell/recurrent_kernel", (4, 12), ("lstm", "IO", [])),
        ("gru/gru_cell/kernel", (5, 9), ("gru", "IO", ["update", "reset", "new"])),
        ("rnn/gru_cell/gates/kernel", (5, 6), ("gru", "IO", ["reset", "update"])),
        ("rnn/gru_cell/candidate/kernel", (5, 3), ("gru", "IO", [])),
        ("rnn/basic_lstm_cell/kernel", (2, 12), ("linear", "IO", [])),
    ],
)
def test_tensorflow_s_names_tell_the_gates(
    name: str, shape: tuple[int, ...], expected: tuple[str, str, list[str]]
) -> None:
    assert names(tensorflow_layouts.use_by_name(name, shape)) == expected


def test_a_graph_s_matrix_is_a_recurrent_layer_by_its_name() -> None:
    by_name = tensorflow_layouts.use_by_name("lstm/lstm_cell/kernel", (5, 12))
    assert names(tensorflow_layouts.combined(Use("linear", "IO", "input 1 of MatMul m"), by_name)) == names(by_name)
    turned = Use("linear", "OI", "input 1 of MatMul m")
    assert tensorflow_layouts.combined(turned, by_name) == turned


def test_flax_s_cells_have_a_matrix_for_each_gate() -> None:
    cell: dict[tuple[str, ...], tuple[int, ...]] = {
        ("lstm", f"{of}{gate}", "kernel"): (5 if of == "i" else 3, 3) for of in "ih" for gate in "ifgo"
    }
    assert {use.kind for use in jax_uses.uses_of(cell).values()} == {"lstm"}
    del cell["lstm", "ho", "kernel"]
    assert jax_uses.uses_of(cell) == {}


def test_haiku_s_gates_are_side_by_side() -> None:
    found = jax_uses.uses_of({("net/lstm/linear", "w"): (5, 12), ("gru", "w_i"): (5, 9), ("gru", "w_h"): (3, 9)})
    assert [names(use) for use in found.values()] == [
        ("lstm", "IO", ["input", "cell", "forget", "output"]),
        *2 * [("gru", "IO", ["update", "reset", "new"])],
    ]


# GGUF, by its metadata

PAIRS = [
    pair("general.architecture", 8, text("phi3")),
    number("phi3.attention.head_count", 4, 4),
    number("phi3.attention.head_count_kv", 4, 2),
    number("phi3.embedding_length", 4, 8),
    number("phi3.feed_forward_length", 4, 6),
]


def in_gguf(folder: Path, name: str, sizes: list[int], pairs: list[bytes]) -> dict[str, tuple[int, ...]]:
    """The shape of each part, in the order in which they lie."""
    content = made([info(name, sizes, 0)], bytes(4 * math.prod(sizes)), pairs)
    items = classify(find_network(opened(folder / "a.gguf", content)))
    layers = sorted((item for item in items if isinstance(item, Layer)), key=lambda layer: layer.tensor.offset)
    return {layer.name.removeprefix(name): layer.tensor.shape for layer in layers}


def test_a_gguf_s_heads_tell_queries_from_keys_and_values(tmp_path: Path) -> None:
    found = in_gguf(tmp_path, "blk.0.attn_qkv.weight", [8, 16], PAIRS)
    assert list(found.items()) == [("[q]", (8, 8)), ("[k]", (4, 8)), ("[v]", (4, 8))]


def test_a_gguf_s_feed_forward_length_tells_the_gate(tmp_path: Path) -> None:
    found = in_gguf(tmp_path, "blk.0.ffn_up.weight", [8, 12], PAIRS)
    assert list(found.items()) == [("[gate]", (6, 8)), ("[up]", (6, 8))]
    assert in_gguf(tmp_path, "blk.0.ffn_up.weight", [8, 6], PAIRS) == {"": (6, 8)}


def test_a_gguf_s_experts_have_a_gate_each(tmp_path: Path) -> None:
    found = in_gguf(tmp_path, "blk.0.ffn_gate_up_exps.weight", [8, 4, 2], [])
    assert found == {f"[{expert},{half}]": (2, 8) for expert in (0, 1) for half in ("gate", "up")}
