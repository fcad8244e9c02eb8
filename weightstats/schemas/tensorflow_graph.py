"""TensorFlow graphs as data: their nodes, their constants, and what they use each variable or constant for.

Messages: tensorflow/core/framework/graph.proto, node_def.proto, attr_value.proto, function.proto and tensor.proto;
their fields are numbered here as they stand there. Nothing of a graph is run.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from weightstats.containers.protobuf import BYTES, DamageError, Field, fields, text
from weightstats.containers.small_messages import Message, Steps
from weightstats.limits import LIMITS, over
from weightstats.places import File
from weightstats.tensors import Use

PASSED_ON = (
    *("Identity", "ReadVariableOp", "Cast", "Enter", "StopGradient", "ExpandDims", "FakeQuantWithMinMaxVars"),
    *("FakeQuantWithMinMaxVarsPerChannel", "Dequantize"),
)
"""Operators whose output is their first input in another form."""

CALLS = ("PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile")
"""Operators that give their inputs to a function of the library."""

SAVE = "SaveV2"
_FIRST_SAVED = 3
"""Which input of it is the first of those that it saves; the second input are their keys."""

VARIABLES = ("VarHandleOp", "VariableV2", "Variable")

MEANINGS: dict[tuple[str, int], dict[int, tuple[str, str]]] = {
    ("Conv2D", 1): {4: ("conv2d", "KKIO"), 3: ("conv1d", "KIO")},  # a conv1d is one with a dimension put before it
    ("Conv3D", 1): {5: ("conv3d", "KKKIO")},
    ("Conv2DBackpropInput", 1): {4: ("conv_transpose2d", "KKOI"), 3: ("conv_transpose1d", "KOI")},
    ("Conv3DBackpropInputV2", 1): {5: ("conv_transpose3d", "KKKOI")},
    ("DepthwiseConv2dNative", 1): {4: ("depthwise_conv2d", "KKOO"), 3: ("depthwise_conv1d", "KOO")},
    ("MatMul", 0): {2: ("linear", "OI")},
    ("MatMul", 1): {2: ("linear", "IO")},
    ("BatchMatMulV2", 1): {2: ("linear", "IO"), 3: ("linear", "BIO")},
    ("ResourceGather", 0): {2: ("embedding", "IO")},
    ("GatherV2", 0): {2: ("embedding", "IO")},
    ("_FusedConv2D", 1): {4: ("conv2d", "KKIO")},
    ("_FusedConv2D", 2): {1: ("bias", "")},
    ("FusedDepthwiseConv2dNative", 1): {4: ("depthwise_conv2d", "KKOO")},
    ("FusedDepthwiseConv2dNative", 2): {1: ("bias", "")},
    ("_FusedMatMul", 1): {2: ("linear", "IO")},
    ("_FusedMatMul", 2): {1: ("bias", "")},
    ("BiasAdd", 1): {1: ("bias", "")},
    **{
        (operator, index): {1: (kind, "")}
        for operator in ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
        for index, kind in ((1, "norm"), (2, "norm"), (3, "buffer"), (4, "buffer"))
    },
}
"""What an operator's input is, by its number of dimensions; the kernels of TensorFlow 2 (tensorflow/core/kernels)."""

TRANSPOSED = {
    ("MatMul", 0): "transpose_a",
    ("MatMul", 1): "transpose_b",
    ("_FusedMatMul", 1): "transpose_b",
    ("BatchMatMulV2", 1): "adj_y",
}
"""The attribute that says that a matrix is the other way round."""

_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(CALLS, ("f", "body")),
    **dict.fromkeys(("MatMul", "_FusedMatMul"), ("transpose_a", "transpose_b")),
    "BatchMatMulV2": ("adj_y",),
    "Einsum": ("equation",),
    "VarHandleOp": ("shared_name",),
    "Const": ("value",),
}
"""What is read of each operator's attributes."""

Value: TypeAlias = tuple[str, str]
"""What a node makes or a function is given: the function in which it is, and its name there."""

_EINSUM = re.compile(r"(\.\.\.)?([a-zA-Z]+),([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)")

NORMALISED = ("conv2d", "conv1d", "conv_transpose2d", "depthwise_conv2d")
"""Kinds of layer whose output a FusedBatchNorm takes as it is: four dimensions."""

_MOST_BETWEEN = 4
"""Operators between a layer and its normalisation."""

_MOST_STEPS = 200_000
"""From value to value, on the way from variables to the operators that use them."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a graph, or of a function."""

    scope: str
    """The function in which it stands, '' for the graph itself."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    """Names of nodes or of the function's arguments."""

    attributes: Mapping[str, str | bool | Field]


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph and its library of functions."""

    nodes: tuple[Node, ...]
    arguments: Mapping[str, tuple[str, ...]]
    """Of each function."""


def read_graph(file: File, start: int, end: int) -> Graph:
    """The graph in a GraphDef; DamageError where it is damaged, or larger than LIMITS.graph_nodes."""
    nodes: list[Node] = []
    arguments: dict[str, tuple[str, ...]] = {}
    steps = Steps()
    for part in steps.of(fields(file, start, end)):
        if part.number == 1 and part.wire == BYTES:
            _add(nodes, file, part, "", steps)
        elif part.number == 2 and part.wire == BYTES:
            for function in steps.inside(file, part):
                if function.number == 1 and function.wire == BYTES:
                    _add_function(nodes, arguments, file, function, steps)
    return Graph(tuple(nodes), arguments)


def _add_function(
    nodes: list[Node], arguments: dict[str, tuple[str, ...]], file: File, function: Field, steps: Steps
) -> None:
    parts = [part for part in steps.inside(file, function) if part.wire == BYTES]
    signature = next((part for part in parts if part.number == 1), None)
    name, given = _signature(file, signature, steps) if signature else ("", ())
    arguments[name] = given
    for part in parts:
        if part.number == 3:
            _add(nodes, file, part, name, steps)


def _signature(file: File, signature: Field, steps: Steps) -> tuple[str, tuple[str, ...]]:
    """The name of a function and those of its arguments."""
    name = ""
    arguments: list[str] = []
    message = Message(file, signature.start, signature.size, steps)
    for part in message.inner(signature):
        if part.number == 1:
            name = message.text(part)
        elif part.number == 2:
            arguments += [message.text(inner) for inner in message.inner(part) if inner.number == 1][:1]
    return name, tuple(arguments)


def _add(nodes: list[Node], file: File, node: Field, scope: str, steps: Steps) -> None:
    """Read one more node."""
    if len(nodes) >= LIMITS.graph_nodes:
        raise DamageError(f"has {len(nodes) + 1:,} nodes, {over('graph_nodes')}")
    message = Message(file, node.start, node.size, steps)
    name = operator = ""
    inputs: list[str] = []
    attributes: dict[str, str | bool | Field] = {}
    for part in message.inner(node):
        if part.number == 1:
            name = message.text(part)
        elif part.number == 2:
            operator = message.text(part)
        elif part.number == 3:
            inputs.append(message.text(part))
        elif part.number == 5 and operator in _ATTRIBUTES:
            attributes |= _attribute(message, part, _ATTRIBUTES[operator])
    given = tuple(each.partition(":")[0] for each in inputs if not each.startswith("^"))
    nodes.append(Node(scope, name, operator, given, attributes))


def _attribute(message: Message, entry: Field, wanted: Sequence[str]) -> dict[str, str | bool | Field]:
    """One attribute with its value, if it is wanted."""
    parts = {part.number: part for part in message.inner(entry) if part.wire == BYTES}
    if 1 not in parts or 2 not in parts or (key := message.text(parts[1])) not in wanted:
        return {}
    for value in message.inner(parts[2]):
        if value.number == 2:
            return {key: message.text(value)}
        if value.number == 5:
            return {key: bool(value.value)}
        if value.number == 8 and value.wire == BYTES:
            return {key: value}
        if value.number == 10 and value.wire == BYTES:
            return {key: next((message.text(part) for part in message.inner(value) if part.number == 1), "")}
    return {}


def uses_in(graph: Graph, shapes: Mapping[Value, tuple[int, ...]]) -> dict[Value, Use]:
    """What the graph uses each value for; the values are those with a shape."""
    uses: dict[Value, Use] = {}
    direct = _direct(graph)
    for value, node, index in _readers(graph, shapes):
        use = _use(node, index, shapes[value])
        if use is None:
            continue
        use = replace(use, scale_free=_normalised(node, direct)) if use.kind in NORMALISED else use
        known = uses.setdefault(value, use)
        if use.axes and known.scale_free and not use.scale_free:  # used a second time, where its scale matters
            uses[value] = replace(known, scale_free="")
    return uses


def _direct(graph: Graph) -> dict[Value, list[tuple[Node, int]]]:
    """The nodes that read each value, and as which of their inputs."""
    direct: dict[Value, list[tuple[Node, int]]] = defaultdict(list)
    for node in graph.nodes:
        for index, name in enumerate(node.inputs):
            direct[node.scope, name].append((node, index))
    return direct


def _normalised(node: Node, direct: Mapping[Value, Sequence[tuple[Node, int]]]) -> str:
    """Why the scale of what a node multiplies with does not matter: its output goes into a batch normalisation only,
    which takes a bias away again as well."""
    for _ in range(_MOST_BETWEEN):
        readers = direct.get((node.scope, node.name), ())
        if len(readers) != 1 or readers[0][1] != 0:
            return ""
        node = readers[0][0]
        if node.operator.startswith("FusedBatchNorm"):
            return f"its output goes only into the batch normalisation {node.name}"
        if node.operator not in ("BiasAdd", "Identity"):
            return ""
    return ""


def saved_keys(file: File, graph: Graph) -> dict[Value, str]:
    """Under which key of a checkpoint the graph itself saves each of its variables."""
    constants = {
        (node.scope, node.name): value
        for node in graph.nodes
        if isinstance(value := node.attributes.get("value"), Field)
    }
    names: dict[Value, list[str]] = {}
    for node in graph.nodes:
        if node.operator == SAVE and len(node.inputs) > _FIRST_SAVED:
            value = constants.get((node.scope, node.inputs[1]))
            names[node.scope, node.name] = [] if value is None else _texts(file, value)
    keys: dict[Value, str] = {}
    variables = [("", node.name) for node in graph.nodes if node.operator in VARIABLES and not node.scope]
    for variable, node, index in _readers(graph, variables):
        saved = names.get((node.scope, node.name), [])
        if _FIRST_SAVED <= index < _FIRST_SAVED + len(saved):
            keys.setdefault(variable, saved[index - _FIRST_SAVED])
    return keys


def _texts(file: File, value: Field) -> list[str]:
    """The texts of a TensorProto."""
    parts = Steps().inside(file, value)
    return [text(file, part) for part in parts if part.number == 8 and part.wire == BYTES]


def _readers(graph: Graph, values: Iterable[Value]) -> Iterator[tuple[Value, Node, int]]:
    """Each value with the nodes that read it, as it is or in another form, and as which of their inputs."""
    direct = _direct(graph)
    steps = 0
    for value in values:
        seen, waiting = {value}, [value]
        while waiting and steps < _MOST_STEPS:
            for node, index in direct.get(waiting.pop(), ()):
                steps += 1
                yield value, node, index
                fresh = [there for there in _passed_on(graph, node, index) if there not in seen]
                seen.update(fresh)
                waiting += fresh


def _passed_on(graph: Graph, node: Node, index: int) -> list[Value]:
    """Where a node passes its input on to."""
    if node.operator in PASSED_ON:
        return [(node.scope, node.name)] if index == 0 else []
    called = [node.operator] if node.operator in graph.arguments else []
    if node.operator in CALLS:
        called = [name for name in node.attributes.values() if isinstance(name, str)]
    given = [(name, graph.arguments.get(name, ())) for name in called]
    return [(name, arguments[index]) for name, arguments in given if index < len(arguments)]


def _use(node: Node, index: int, shape: tuple[int, ...]) -> Use | None:
    """What a node says of its input."""
    because = f"input {index} of {node.operator} {node.name}"
    if node.operator == "Einsum":
        axes = _einsum(str(node.attributes.get("equation", "")), index)
        return Use("linear", axes, because) if axes and len(axes) == len(shape) else None
    kind, axes = MEANINGS.get((node.operator, index), {}).get(len(shape), ("", ""))
    if not kind:
        return None
    if node.attributes.get(TRANSPOSED.get((node.operator, index), "")) is True:
        axes = axes[:-2] + axes[-1] + axes[-2]
    if not axes:
        return Use(kind, "", f"input {index} of {node.operator}")
    return Use(kind, axes, because, groups=max(1, shape[-2]) if kind.startswith("depthwise") else 1)


def _einsum(equation: str, index: int) -> str:
    """The axes of the second factor: summed over, kept from both factors, or its own."""
    match = _EINSUM.fullmatch(equation.replace(" ", ""))
    if match is None or index != 1:
        return ""
    first, second, result = match[2], match[3], match[5]
    return "".join("I" if letter not in result else "B" if letter in first else "O" for letter in second)
