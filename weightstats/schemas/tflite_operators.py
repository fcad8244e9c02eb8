"""What the operators of a TFLite model use its constants for.

Operators and the order of their inputs: tensorflow/lite/schema/schema.fbs and the kernels in tensorflow/lite/kernels.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from weightstats.containers.flatbuffer import Table
from weightstats.schemas.gates import BLOCKED, gates
from weightstats.tensors import Use

OPERATORS: dict[int, str] = {
    0: "ADD", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE", 7: "EMBEDDING_LOOKUP", 9: "FULLY_CONNECTED",
    16: "LSTM", 18: "MUL", 22: "RESHAPE", 23: "RESIZE_BILINEAR", 24: "RNN", 27: "SVDF", 31: "CALL", 32: "CUSTOM",
    33: "EMBEDDING_LOOKUP_SPARSE", 34: "PAD", 35: "UNIDIRECTIONAL_SEQUENCE_RNN", 36: "GATHER", 39: "TRANSPOSE",
    40: "MEAN", 41: "SUB", 42: "DIV", 44: "UNIDIRECTIONAL_SEQUENCE_LSTM", 45: "STRIDED_SLICE",
    46: "BIDIRECTIONAL_SEQUENCE_RNN", 48: "TOPK_V2", 49: "SPLIT", 52: "BIDIRECTIONAL_SEQUENCE_LSTM", 53: "CAST",
    54: "PRELU", 56: "ARG_MAX", 60: "PADV2", 65: "SLICE", 67: "TRANSPOSE_CONV", 69: "TILE", 70: "EXPAND_DIMS",
    74: "SUM", 78: "POW", 79: "ARG_MIN", 81: "REDUCE_PROD", 82: "REDUCE_MAX", 85: "ONE_HOT", 89: "REDUCE_MIN",
    94: "FILL",
    96: "RANGE", 97: "RESIZE_NEAREST_NEIGHBOR", 100: "MIRROR_PAD", 102: "SPLIT_V", 105: "REVERSE_V2", 118: "IF",
    119: "WHILE", 124: "DENSIFY", 126: "BATCH_MATMUL", 128: "CUMSUM", 130: "BROADCAST_TO", 132: "CONV_3D",
    141: "CONV_3D_TRANSPOSE",
}  # fmt: skip
"""Names of the operators that say what a constant is, by their number in the schema."""

Meaning = tuple[str, str]
"""The kind and the axes of a `Use`."""

BIAS: Meaning = ("bias", "")
NORM: Meaning = ("norm", "")
PARAMETER: Meaning = ("parameter", "")
CONSTANT: Meaning = ("constant", "")


def _lstm(inputs: int, recurrent: int, peephole: int, bias: int, projection: int) -> dict[int, Meaning]:
    """The weights of one direction: input, forget, cell and output gate, each a matrix of its own."""
    return {
        **dict.fromkeys(range(inputs, inputs + 4), ("lstm", "OI")),
        **dict.fromkeys(range(recurrent, recurrent + 4), ("lstm", "OI")),
        **dict.fromkeys(range(peephole, peephole + 3), PARAMETER),
        **dict.fromkeys(range(bias, bias + 4), BIAS),
        projection: ("linear", "OI"),
        projection + 1: BIAS,
    }


INPUTS: dict[str, dict[int, Meaning]] = {
    "CONV_2D": {1: ("conv2d", "OKKI"), 2: BIAS},
    "CONV_3D": {1: ("conv3d", "KKKIO"), 2: BIAS},
    "DEPTHWISE_CONV_2D": {1: ("depthwise_conv2d", "IKKO"), 2: BIAS},
    "TRANSPOSE_CONV": {0: CONSTANT, 1: ("conv_transpose2d", "OKKI"), 3: BIAS},
    "CONV_3D_TRANSPOSE": {0: CONSTANT, 1: ("conv_transpose3d", "KKKOI"), 3: BIAS},
    "Convolution2DTransposeBias": {1: ("conv_transpose2d", "OKKI"), 2: BIAS},  # MediaPipe's own
    "FULLY_CONNECTED": {1: ("linear", "OI"), 2: BIAS},
    "EMBEDDING_LOOKUP": {1: ("embedding", "IO")},
    "EMBEDDING_LOOKUP_SPARSE": {4: ("embedding", "IO")},
    "GATHER": {0: ("embedding", "IO"), 1: CONSTANT},
    "BATCH_MATMUL": {0: ("linear", "OI"), 1: ("linear", "IO")},
    "RNN": {1: ("rnn", "OI"), 2: ("rnn", "OI"), 3: BIAS},
    "UNIDIRECTIONAL_SEQUENCE_RNN": {1: ("rnn", "OI"), 2: ("rnn", "OI"), 3: BIAS},
    "BIDIRECTIONAL_SEQUENCE_RNN": {
        **dict.fromkeys((1, 2, 5, 6, 10, 11), ("rnn", "OI")),
        **dict.fromkeys((3, 7), BIAS),
    },
    "LSTM": {**_lstm(1, 5, 9, 12, 16), **dict.fromkeys(range(20, 24), NORM)},
    "UNIDIRECTIONAL_SEQUENCE_LSTM": {**_lstm(1, 5, 9, 12, 16), **dict.fromkeys(range(20, 24), NORM)},
    "BIDIRECTIONAL_SEQUENCE_LSTM": {
        **_lstm(1, 5, 9, 12, 16),
        **_lstm(18, 22, 26, 29, 33),
        **dict.fromkeys(range(40, 48), ("lstm", "OI")),
    },
    "SVDF": {1: ("linear", "OI"), 2: ("depthwise_conv1d", "OK"), 3: BIAS},
    "PRELU": {1: PARAMETER},
    "TFLite_Detection_PostProcess": {2: CONSTANT},  # anchors
}
"""What each input of an operator is."""

BASIC_LSTM: dict[int, Meaning] = {2: ("lstm", "OI"), 3: BIAS}
"""Of an LSTM with the old kernel of five inputs, whose gates and two kinds of inputs share one matrix."""

ELEMENTWISE = ("ADD", "SUB", "MUL", "DIV", "POW")
"""Whose constants may have been learned, and may not: no fan-in in any case."""

SHAPES = (
    *("RESHAPE", "RESIZE_BILINEAR", "PAD", "TRANSPOSE", "MEAN", "STRIDED_SLICE", "TOPK_V2", "SPLIT", "ARG_MAX"),
    *("PADV2", "SLICE", "TILE", "EXPAND_DIMS", "SUM", "ARG_MIN", "REDUCE_PROD", "REDUCE_MAX", "ONE_HOT", "REDUCE_MIN"),
    *("FILL", "RANGE", "RESIZE_NEAREST_NEIGHBOR", "MIRROR_PAD", "SPLIT_V", "REVERSE_V2", "CUMSUM", "BROADCAST_TO"),
)
"""Whose second and later inputs are sizes, axes and places."""

PASSED_ON = ("DEQUANTIZE", "DENSIFY", "CAST")
"""Whose output is their input in another form."""

PRECEDENCE = {"embedding": 0, "bias": 2, "norm": 2, "parameter": 3, "constant": 4}
"""Which use counts of a constant that several operators use; layers come first, and among them a table look-up."""

_MOST_READERS = 64
"""Operators that are looked at for one constant."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a subgraph."""

    name: str
    inputs: tuple[int, ...]
    """Numbers of tensors in its subgraph, -1 for an input that is left out."""

    outputs: tuple[int, ...]
    options: Table | None


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A function of the model, with what is needed to see what its constants are for."""

    shapes: Sequence[tuple[int, ...]]
    """By the number of the tensor."""

    inputs: tuple[int, ...]
    operators: tuple[Operator, ...]


Place = tuple[int, int]
"""The number of a subgraph, and that of a tensor in it."""


class Uses:
    """What every constant of a model is used for."""

    def __init__(self, subgraphs: Sequence[Subgraph]) -> None:
        self.subgraphs = subgraphs
        self._readers: dict[Place, list[tuple[int, Operator]]] = defaultdict(list)
        self.order: dict[Place, int] = {}
        """Where in the order of the operators each tensor is first read."""
        for number, subgraph in enumerate(subgraphs):
            for operator in subgraph.operators:
                for index, tensor in enumerate(operator.inputs):
                    self._readers[number, tensor].append((index, operator))
                    self.order.setdefault((number, tensor), len(self.order))

    def of(self, place: Place) -> Use | None:
        """What a constant is used for; None where no operator says it."""
        found: list[Use] = []
        places, seen, looked_at = [place], {place}, 0
        shape = self._shape(place)
        while places and looked_at < _MOST_READERS:
            here = places.pop()
            for index, operator in self._readers.get(here, ())[: _MOST_READERS - looked_at]:
                looked_at += 1
                for there in self._passed_on(here[0], index, operator):
                    if there not in seen and self._shape(there) == shape:
                        seen.add(there)
                        places.append(there)
                use = self._use(here[0], index, operator, shape)
                if use is not None:
                    found.append(use)
        return min(found, key=lambda use: PRECEDENCE.get(use.kind, 1), default=None)

    def is_shuffled(self, place: Place) -> bool:
        """Whether a matrix is stored in an order for one kind of processor, with other values."""
        return any(
            operator.name == "FULLY_CONNECTED" and index == 1 and operator.options and operator.options.integer(1, "i8")
            for index, operator in self._readers.get(place, ())[:_MOST_READERS]
        )

    def _shape(self, place: Place) -> tuple[int, ...]:
        number, tensor = place
        known = number < len(self.subgraphs) and 0 <= tensor < len(self.subgraphs[number].shapes)
        return self.subgraphs[number].shapes[tensor] if known else ()

    def _passed_on(self, number: int, index: int, operator: Operator) -> list[Place]:
        """The tensors that an operator gives what it is given, here or in a subgraph that it calls."""
        if operator.name in PASSED_ON:
            return [(number, tensor) for tensor in operator.outputs[:1]] if index == 0 else []
        options = operator.options
        if options is None or operator.name not in ("WHILE", "IF", "CALL"):
            return []
        called = [options.integer(0, "i32")] if operator.name == "CALL" else []
        if operator.name == "WHILE":
            called = [options.integer(1, "i32")]
        if operator.name == "IF":
            called, index = [options.integer(0, "i32"), options.integer(1, "i32")], index - 1
        known = [(other, self.subgraphs[other].inputs) for other in called if 0 <= other < len(self.subgraphs)]
        return [(other, inputs[index]) for other, inputs in known if 0 <= index < len(inputs)]

    def _use(self, number: int, index: int, operator: Operator, shape: tuple[int, ...]) -> Use | None:
        """What one operator says of its input."""
        meaning = _meaning(index, operator)
        if meaning is None:
            return None
        kind, axes = meaning
        because = f"input {index} of {operator.name}"
        if operator.name == "BATCH_MATMUL" and len(shape) >= 2:
            axes = "B" * (len(shape) - 2) + _matrix(index, operator)
        if len(axes) != (len(shape) if axes else 0):
            return None
        if (
            kind == "embedding"
            and operator.name == "GATHER"
            and operator.options
            and operator.options.integer(0, "i32")
        ):
            return None
        groups = 1
        first = self._shape((number, operator.inputs[0]))
        if kind == "conv2d" and first and 0 < shape[3] < first[-1] and first[-1] % shape[3] == 0:
            groups = first[-1] // shape[3]
        if kind == "depthwise_conv2d":
            multiplier = operator.options.integer(3, "i32", 1) if operator.options else 1
            groups = shape[3] // multiplier if multiplier > 0 and shape[3] % multiplier == 0 else shape[3]
        if kind == "depthwise_conv1d":
            groups = shape[0]
        is_fused = kind == "lstm" and _is_basic(operator)
        parts = gates(BLOCKED["lstm"], 0, shape[0]) if is_fused else ()
        return Use(kind, axes, because, max(1, groups), parts=parts)


def _is_basic(operator: Operator) -> bool:
    """Whether an operator is an LSTM with the old kernel."""
    return operator.name == "LSTM" and len(operator.inputs) == len(("data", "activation", "weights", "bias", "state"))


def _meaning(index: int, operator: Operator) -> Meaning | None:
    if _is_basic(operator):
        return BASIC_LSTM.get(index)
    if operator.name in ELEMENTWISE:
        return PARAMETER
    if operator.name in SHAPES:
        return CONSTANT if index > 0 or operator.name in ("SPLIT", "FILL", "RANGE") else None
    return INPUTS.get(operator.name, {}).get(index)


def _matrix(index: int, operator: Operator) -> str:
    """The axes of a constant that is multiplied from the left or from the right."""
    transposed = operator.options is not None and operator.options.integer(index, "bool") != 0
    return "IO" if (index == 1) != transposed else "OI"
