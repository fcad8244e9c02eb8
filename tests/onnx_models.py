"""ONNX models made with the reference library, and messages made byte by byte where the library would refuse."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


def message(*fields: tuple[int, Any]) -> bytes:
    """A protocol buffer: an int is a varint, bytes and text are length-delimited, a float is a fixed32."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value & (1 << 64) - 1))
        elif isinstance(value, float):
            parts.append(varint(number << 3 | 5) + np.array(value, "<f4").tobytes())
        else:
            content = value.encode() if isinstance(value, str) else value
            parts.append(varint(number << 3 | 2) + varint(len(content)) + content)
    return b"".join(parts)


def varint(value: int) -> bytes:
    """A number of variable length."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def stored(name: str, values: Any, dtype: str = "<f4") -> onnx.TensorProto:
    """A tensor with its data as raw bytes."""
    return numpy_helper.from_array(np.array(values, dtype), name)


def model(
    nodes: Iterable[onnx.NodeProto] = (),
    tensors: Iterable[onnx.TensorProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> bytes:
    """A whole model, with one input x and one output y of which nothing is said."""
    described = [helper.make_value_info(name, onnx.TypeProto()) for name in "xy"]
    graph = helper.make_graph(list(nodes), "graph", described[:1], described[1:], list(tensors))
    return helper.make_model(graph, functions=list(functions), producer_name="tests").SerializeToString()


def model_of(tensor: bytes) -> bytes:
    """A model with one initialiser, given as its message."""
    return model_around(message((5, tensor)))


def model_around(graph: bytes) -> bytes:
    """A model with this graph."""
    return message((1, 8), (2, "tests"), (7, graph), (8, message((2, 17))))


def graph_of(nodes: Iterable[onnx.NodeProto], name: str, tensors: Iterable[onnx.TensorProto] = ()) -> onnx.GraphProto:
    """A graph inside a node, with one output y."""
    return helper.make_graph(list(nodes), name, [], [helper.make_value_info("y", onnx.TypeProto())], list(tensors))


def numbers_of(tensor: onnx.TensorProto) -> NDArray[np.float64]:
    """The elements of a tensor as the reference library reads them; of complex ones the magnitudes."""
    array = numpy_helper.to_array(tensor)
    return (np.abs(array) if array.dtype.kind == "c" else array).astype(np.float64).reshape(-1)
