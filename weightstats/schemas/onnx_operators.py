"""What ONNX operators do with each of their inputs, as tables: which are weights, with which dimensions, and the rest.

Operators: https://onnx.ai/onnx/operators and, of the domain com.microsoft,
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from weightstats.schemas.onnx_records import Attribute, Node

CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""The input that is the kernel: (outputs, inputs of a group, ...)."""

TRANSPOSED_CONVOLUTIONS = {"ConvTranspose": 1}
"""The input that is the kernel: (inputs, outputs of a group, ...)."""

PRODUCTS = {
    **dict.fromkeys(("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulInteger", "MatMulIntegerToFloat"), (0, 1)),
    **dict.fromkeys(("QLinearMatMul", "QGemm"), (0, 3)),
    **dict.fromkeys(("DynamicQuantizeMatMul", "Attention", "QAttention"), (None, 1)),
}
"""The inputs that are the left and the right factor of a matrix product."""

RECURRENT = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}
"""Kinds of layer: weights (directions, gates of outputs, inputs)."""

SCALES: dict[str, dict[int, tuple[int | None, int]]] = {
    "ConvInteger": {1: (None, 3)},
    "MatMulInteger": {0: (None, 2), 1: (None, 3)},
    "MatMulIntegerToFloat": {0: (2, 4), 1: (3, 5)},
    "DynamicQuantizeMatMul": {1: (2, 3)},
    "QLinearConv": {3: (4, 5)},
    "QLinearMatMul": {0: (1, 2), 3: (4, 5)},
    "QGemm": {0: (1, 2), 3: (4, 5)},
    "QAttention": {1: (4, 7)},
}
"""By the input that is an integer weight: those that are its scale, None where a later Mul brings it, and its zero
point."""

_SCALE = ("norm", "scale of a normalisation")
_SHIFT = ("bias", "shift of a normalisation")
_RUNNING = ("buffer", "running statistics of a batch normalisation, not trained")
_BIAS = ("bias", "added to a layer's output")
_STATE = ("parameter", "a recurrent layer's initial state")
_PEEPHOLES = ("parameter", "a recurrent layer's peepholes, one for each cell")
_SLOPES = ("parameter", "slopes of an activation function")
_QUANTISATION = ("constant", "a scale or a zero point of quantised values")

OTHERS: dict[str, dict[int, tuple[str, str]]] = {
    "BatchNormalization": {1: _SCALE, 2: _SHIFT, 3: _RUNNING, 4: _RUNNING},
    "InstanceNormalization": {1: _SCALE, 2: _SHIFT},
    "GroupNormalization": {1: _SCALE, 2: _SHIFT},
    "GroupNorm": {1: _SCALE, 2: _SHIFT},
    "LayerNormalization": {1: _SCALE, 2: _SHIFT},
    "RMSNormalization": {1: _SCALE},
    "SimplifiedLayerNormalization": {1: _SCALE},
    "SkipLayerNormalization": {2: _SCALE, 3: _SHIFT, 4: _BIAS},
    "SkipSimplifiedLayerNormalization": {2: _SCALE, 3: _BIAS},
    "EmbedLayerNormalization": {5: _SCALE, 6: _SHIFT},
    "Conv": {2: _BIAS},
    "FusedConv": {2: _BIAS},
    "ConvTranspose": {2: _BIAS},
    "Gemm": {2: _BIAS},
    "FusedGemm": {2: _BIAS},
    "Attention": {2: _BIAS},
    "LSTM": {3: _BIAS, 5: _STATE, 6: _STATE, 7: _PEEPHOLES},
    "GRU": {3: _BIAS, 5: _STATE},
    "RNN": {3: _BIAS, 5: _STATE},
    "PRelu": {1: _SLOPES},
    "DequantizeLinear": {1: _QUANTISATION, 2: _QUANTISATION},
    "QuantizeLinear": {1: _QUANTISATION, 2: _QUANTISATION},
    "ConvInteger": {2: _QUANTISATION, 3: _QUANTISATION},
    "MatMulInteger": {2: _QUANTISATION, 3: _QUANTISATION},
    "MatMulIntegerToFloat": {**dict.fromkeys((2, 3, 4, 5), _QUANTISATION), 6: _BIAS},
    "DynamicQuantizeMatMul": {2: _QUANTISATION, 3: _QUANTISATION, 4: _BIAS},
    "QLinearConv": {**dict.fromkeys((1, 2, 4, 5, 6, 7), _QUANTISATION), 8: _BIAS},
    "QLinearMatMul": dict.fromkeys((1, 2, 4, 5, 6, 7), _QUANTISATION),
    "QGemm": {**dict.fromkeys((1, 2, 4, 5, 7, 8), _QUANTISATION), 6: _BIAS},
    "MatMulNBits": {2: _QUANTISATION, 3: _QUANTISATION, 5: _BIAS},
    "QAttention": {2: _BIAS, **dict.fromkeys((3, 4, 6, 7), _QUANTISATION)},
}
"""By input: the kind and the reason of what is no layer's weight."""

VALUES_ONLY = frozenset(
    ("Resize", "Upsample", "Clip", "Pad", "Range", "OneHot", "NonMaxSuppression", "Pow", "Min", "Max", "Mod")
)
"""Operators whose other inputs are settings, not weights."""

EMBEDDED = {"EmbedLayerNormalization": (2, 3, 4)}
"""Inputs that are tables of vectors beside those of Gather."""


@dataclass(frozen=True, slots=True)
class Weight:
    """An input of a node that is a layer's weight."""

    index: int
    kind: str
    axes: str
    """As in `Use`, of the value that the node is given."""

    role: str
    """What the node calls it."""

    groups: int = 1


def weights_of(node: Node, ranks: Sequence[int | None]) -> Iterator[Weight]:
    """The inputs of a node that are weights. `ranks` are the dimensions of those inputs that are stored, else None."""
    operator = node.operator
    for index, rank in enumerate(ranks):
        if rank is None:
            continue
        if CONVOLUTIONS.get(operator) == index or TRANSPOSED_CONVOLUTIONS.get(operator) == index:
            yield from _convolution(node, index, rank)
        elif operator in PRODUCTS and index in PRODUCTS[operator]:
            yield from _factor(node, index, rank)
        elif operator in RECURRENT and index in (1, 2) and rank == 3:
            role = "the input weights" if index == 1 else "the recurrent weights"
            yield Weight(index, RECURRENT[operator], "BOI", role)
        elif operator == "Einsum" and len(ranks) == 2:
            yield from _contraction(node, index, rank)
        elif rank == 2 and _is_table(node, index, ranks):
            yield Weight(index, "embedding", "IO", "the table")


def _is_table(node: Node, index: int, ranks: Sequence[int | None]) -> bool:
    """Whether an input is a table whose rows are picked by what the network is given."""
    if node.operator == "Gather":
        return index == 0 and ranks[1:] == [None] and _integer(node, "axis", 0) == 0
    return index in EMBEDDED.get(node.operator, ())


def _integer(node: Node, name: str, default: int) -> int:
    held = node.attributes.get(name, Attribute()).integer
    return default if held is None else held


def _convolution(node: Node, index: int, rank: int) -> Iterator[Weight]:
    """A kernel; that a group is one channel is told from its shape, later."""
    if not 3 <= rank <= 5:
        return
    groups = max(1, _integer(node, "group", 1))
    field = "K" * (rank - 2)
    if node.operator in CONVOLUTIONS:
        yield Weight(index, f"conv{rank - 2}d", f"OI{field}", "the kernel", groups)
    else:
        yield Weight(index, f"conv_transpose{rank - 2}d", f"IO{field}", "the kernel", groups)


def _factor(node: Node, index: int, rank: int) -> Iterator[Weight]:
    """A factor of a matrix product: the dimension that is summed over counts the inputs."""
    if rank < 2:
        return
    is_left = index == 0
    is_turned = _integer(node, "transA" if is_left else "transB", 0) != 0
    axes = "OI" if is_left != is_turned else "IO"
    role = "the left-hand input" if is_left else "the right-hand input"
    yield Weight(index, "linear", "B" * (rank - 2) + axes, role)


def _contraction(node: Node, index: int, rank: int) -> Iterator[Weight]:
    """A factor of an Einstein sum: letters that are summed over count inputs, those of it alone outputs."""
    equation = node.attributes.get("equation", Attribute()).text.replace(" ", "")
    terms, arrow, result = equation.partition("->")
    factors = terms.split(",")
    if not arrow or len(factors) != 2 or "." in equation:
        return
    own, other = factors[index], factors[1 - index]
    if len(own) != rank or len(set(own)) != rank or not set(own) <= set(other) | set(result):
        return
    axes = "".join("I" if letter not in result else "B" if letter in other else "O" for letter in own)
    if "I" in axes:
        yield Weight(index, "linear", axes, "a factor")
