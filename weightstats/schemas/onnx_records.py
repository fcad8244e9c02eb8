"""An ONNX model as records: its graphs, their nodes, and what each stored tensor says of itself.

Format: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, where the numbers below come from.
"""

from dataclasses import dataclass, field

FLOAT, INT64, STRING = 1, 7, 8
"""Numbers of TensorProto.DataType that an attribute's own fields stand for."""

FLOAT_DATA, INT32_DATA, STRING_DATA, INT64_DATA, RAW_DATA, DOUBLE_DATA, UINT64_DATA = 4, 5, 6, 7, 9, 10, 11
"""Fields of TensorProto that hold elements."""


@dataclass(frozen=True, slots=True)
class Data:
    """What one field of a tensor holds."""

    start: int
    """Where its bytes start in the file."""

    size: int
    gathered: bytes | None = None
    """The bytes themselves, where they lay in several places."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A tensor as the file describes it. Two are equal only if they are one."""

    name: str
    """In its graph."""

    label: str
    """For the report: the name after those of the nodes that enclose its graph."""

    shape: tuple[int, ...] | None
    """None for a list, which is as long as its data."""

    type: int
    """A TensorProto.DataType."""

    data: dict[int, Data] = field(default_factory=dict)
    """By the number of the field that holds it."""

    external: tuple[tuple[str, str], ...] | None = None
    """What is said of the file beside the model that holds the data, None where the model holds them."""

    problem: str | None = None
    """Why it cannot be read, where that is known already."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A parameter of a node."""

    integer: int | None = None
    integers: tuple[int, ...] = ()
    text: str = ""
    refers_to: str = ""
    """In a function: the name of the calling node's attribute that it stands for."""

    tensors: tuple[Stored, ...] = ()
    graphs: tuple["Graph", ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """An operator with its inputs and outputs."""

    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]

    @property
    def label(self) -> str:
        """What a report calls it."""
        return f"{self.operator} {self.name or next(iter(self.outputs), '')}".rstrip()


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in an order in which they can run, and the tensors stored beside them."""

    nodes: tuple[Node, ...]
    tensors: tuple[Stored, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    """A graph that nodes call by its domain and name."""

    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """All that a file holds."""

    graph: Graph
    functions: tuple[Function, ...]
    stored: tuple[Stored, ...]
    """Every tensor in these, in the order of the file."""

    training: tuple[Stored, ...]
    """Those of the graphs that train it: the optimizer's state."""
