"""TFLite models written with the schema's own Python module (`tflite` and `flatbuffers` on PyPI)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite

TYPES = tflite.TensorType
OPERATORS = tflite.BuiltinOperator
OPTIONS = tflite.BuiltinOptions


@dataclass
class T:
    """A tensor, in a buffer of the model."""

    name: str
    shape: Sequence[int]
    buffer: int = 0
    type: int = TYPES.FLOAT32
    scales: Sequence[float] = ()
    zero_points: Sequence[int] = ()
    axis: int = 0
    details: int = 0
    sparse: bool = False


@dataclass
class Op:
    """An operator; `options` builds its table of options."""

    code: int
    inputs: Sequence[int]
    outputs: Sequence[int]
    options_type: int = 0
    options: Callable[[Any], int] | None = None
    custom: str = ""


@dataclass
class G:
    """A subgraph."""

    tensors: Sequence[T]
    operators: Sequence[Op] = ()
    inputs: Sequence[int] = ()
    name: str = "main"


@dataclass
class Model:
    """A model; buffer 0 is always the empty one. A buffer may be an (offset, size) behind the flatbuffer."""

    graphs: Sequence[G]
    buffers: Sequence[Any] = field(default_factory=lambda: [b""])
    version: int = 3

    def encoded(self) -> bytes:
        """The file."""
        b = flatbuffers.Builder(1024)
        codes: list[tuple[int, str]] = []
        for graph in self.graphs:
            codes += [(op.code, op.custom) for op in graph.operators if (op.code, op.custom) not in codes]
        buffers = [_buffer(b, each) for each in self.buffers]
        graphs = [_graph(b, graph, codes) for graph in self.graphs]
        written_codes = []
        for code, custom in codes:
            name = b.CreateString(custom) if custom else None
            tflite.OperatorCodeStart(b)
            tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
            tflite.OperatorCodeAddBuiltinCode(b, code)
            if name is not None:
                tflite.OperatorCodeAddCustomCode(b, name)
            written_codes.append(tflite.OperatorCodeEnd(b))
        parts = [_tables(b, each) for each in (written_codes, graphs, buffers)]
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, self.version)
        tflite.ModelAddOperatorCodes(b, parts[0])
        tflite.ModelAddSubgraphs(b, parts[1])
        tflite.ModelAddBuffers(b, parts[2])
        b.Finish(tflite.ModelEnd(b), file_identifier=b"TFL3")
        return bytes(b.Output())


def _tables(b: Any, tables: Sequence[int]) -> int:
    b.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        b.PrependUOffsetTRelative(table)
    return int(b.EndVector())


def _buffer(b: Any, content: Any) -> int:
    data = None
    if isinstance(content, bytes) and content:
        b.StartVector(1, len(content), 16)
        b.head -= len(content)
        b.Bytes[b.head : b.head + len(content)] = content
        data = b.EndVector()
    tflite.BufferStart(b)
    if data is not None:
        tflite.BufferAddData(b, data)
    if isinstance(content, tuple):
        tflite.BufferAddOffset(b, content[0])
        tflite.BufferAddSize(b, content[1])
    return int(tflite.BufferEnd(b))


def _tensor(b: Any, tensor: T) -> int:
    name = b.CreateString(tensor.name)
    shape = b.CreateNumpyVector(np.array(tensor.shape, np.int32))
    scale = b.CreateNumpyVector(np.array(tensor.scales, np.float32))
    zero = b.CreateNumpyVector(np.array(tensor.zero_points, np.int64))
    tflite.QuantizationParametersStart(b)
    tflite.QuantizationParametersAddScale(b, scale)
    tflite.QuantizationParametersAddZeroPoint(b, zero)
    tflite.QuantizationParametersAddQuantizedDimension(b, tensor.axis)
    tflite.QuantizationParametersAddDetailsType(b, tensor.details)
    quantisation = tflite.QuantizationParametersEnd(b)
    tflite.SparsityParametersStart(b)
    sparsity = tflite.SparsityParametersEnd(b)
    tflite.TensorStart(b)
    tflite.TensorAddShape(b, shape)
    tflite.TensorAddType(b, tensor.type)
    tflite.TensorAddBuffer(b, tensor.buffer)
    tflite.TensorAddName(b, name)
    tflite.TensorAddQuantization(b, quantisation)
    if tensor.sparse:
        tflite.TensorAddSparsity(b, sparsity)
    return int(tflite.TensorEnd(b))


def _operator(b: Any, op: Op, codes: Sequence[tuple[int, str]]) -> int:
    inputs = b.CreateNumpyVector(np.array(op.inputs, np.int32))
    outputs = b.CreateNumpyVector(np.array(op.outputs, np.int32))
    options = op.options(b) if op.options else None
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, codes.index((op.code, op.custom)))
    tflite.OperatorAddInputs(b, inputs)
    tflite.OperatorAddOutputs(b, outputs)
    if options is not None:
        tflite.OperatorAddBuiltinOptionsType(b, op.options_type)
        tflite.OperatorAddBuiltinOptions(b, options)
    return int(tflite.OperatorEnd(b))


def _graph(b: Any, graph: G, codes: Sequence[tuple[int, str]]) -> int:
    tensors = _tables(b, [_tensor(b, tensor) for tensor in graph.tensors])
    operators = _tables(b, [_operator(b, op, codes) for op in graph.operators])
    inputs = b.CreateNumpyVector(np.array(graph.inputs, np.int32))
    name = b.CreateString(graph.name)
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, tensors)
    tflite.SubGraphAddInputs(b, inputs)
    tflite.SubGraphAddOperators(b, operators)
    tflite.SubGraphAddName(b, name)
    return int(tflite.SubGraphEnd(b))


def depthwise(multiplier: int) -> Callable[[Any], int]:
    """The options of a depthwise convolution."""

    def build(b: Any) -> int:
        tflite.DepthwiseConv2DOptionsStart(b)
        tflite.DepthwiseConv2DOptionsAddDepthMultiplier(b, multiplier)
        return int(tflite.DepthwiseConv2DOptionsEnd(b))

    return build


def batch_matmul(adj_x: bool = False, adj_y: bool = False) -> Callable[[Any], int]:
    """The options of a batched product."""

    def build(b: Any) -> int:
        tflite.BatchMatMulOptionsStart(b)
        tflite.BatchMatMulOptionsAddAdjX(b, adj_x)
        tflite.BatchMatMulOptionsAddAdjY(b, adj_y)
        return int(tflite.BatchMatMulOptionsEnd(b))

    return build


def loop(cond: int, body: int) -> Callable[[Any], int]:
    """The options of a loop."""

    def build(b: Any) -> int:
        tflite.WhileOptionsStart(b)
        tflite.WhileOptionsAddCondSubgraphIndex(b, cond)
        tflite.WhileOptionsAddBodySubgraphIndex(b, body)
        return int(tflite.WhileOptionsEnd(b))

    return build


def shuffled(b: Any) -> int:
    """The options of a matrix in an order for one kind of processor."""
    tflite.FullyConnectedOptionsStart(b)
    tflite.FullyConnectedOptionsAddWeightsFormat(b, 1)
    return int(tflite.FullyConnectedOptionsEnd(b))
