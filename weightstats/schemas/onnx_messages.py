"""A file to the records of an ONNX model: its messages are walked, and no tensor's data is read.

Format: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, where the numbers below are the fields'. The reference
library parses the whole file into memory, weights and all, and stops at 2 GB.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from weightstats.containers import protobuf
from weightstats.containers.protobuf import DamageError, Field
from weightstats.containers.small_messages import SMALL, Message
from weightstats.limits import LIMITS, over
from weightstats.places import File
from weightstats.schemas.onnx_records import (
    DOUBLE_DATA,
    FLOAT,
    FLOAT_DATA,
    INT32_DATA,
    INT64,
    INT64_DATA,
    RAW_DATA,
    STRING,
    STRING_DATA,
    UINT64_DATA,
    Attribute,
    Data,
    Function,
    Graph,
    Model,
    Node,
    Stored,
)

_DATA = (FLOAT_DATA, INT32_DATA, STRING_DATA, INT64_DATA, RAW_DATA, DOUBLE_DATA, UINT64_DATA)
_EXTERNAL = 1
_MOST_SHORT = 640
"""Bytes of a list of integers that belongs to an operator: axes, a permutation, a kernel's shape."""

_CONSTANTS: dict[str, tuple[int, int, int, bool]] = {
    "value_float": (2, FLOAT, FLOAT_DATA, False),
    "value_floats": (7, FLOAT, FLOAT_DATA, True),
    "value_int": (3, INT64, INT64_DATA, False),
    "value_ints": (8, INT64, INT64_DATA, True),
    "value_string": (4, STRING, STRING_DATA, False),
    "value_strings": (9, STRING, STRING_DATA, True),
}
"""How the operator Constant holds a tensor in an attribute's own fields: the field, the type, the field of a
TensorProto that would hold the same, and whether it is a list."""


def read_model(file: File) -> Model:
    """The model in a file. Raises DamageError where it is not one, or goes beyond a limit."""
    return _Parser(file).model()


class _Parser:
    """Counts what it takes, so that a file cannot ask for more than the limits."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.left = {name: getattr(LIMITS, name) for name in ("onnx_fields", "onnx_nodes", "tensors", "gathered_bytes")}
        self.stored: list[Stored] = []
        self.near = (0, 0, Message(file, 0, 0))

    def model(self) -> Model:
        graphs: list[Field] = []
        functions: list[Field] = []
        training: list[Field] = []
        version = operator_sets = 0
        for part in self._fields(0, self.file.size):
            match part.number:
                case 1:
                    version = part.value
                case 7:
                    graphs.append(part)
                case 8:
                    operator_sets += 1
                case 20:
                    training.append(part)
                case 25:
                    functions.append(part)
        if len(graphs) != 1:
            raise DamageError("holds more than one graph" if graphs else "holds no graph: it is truncated")
        if version >= 3 and not operator_sets:
            raise DamageError("does not say which operators it uses: it is truncated")
        graph = self._graph(graphs[0], "", 1)
        called = tuple(self._function(part, number) for number, part in enumerate(functions))
        stored, self.stored = tuple(self.stored), []
        for number, part in enumerate(training):
            for inner in self._inside(part):
                if inner.number in (1, 2):  # that initialises, and that takes a step
                    self._graph(inner, f"{number}.{inner.number}.", 2)
        return Model(graph, called, stored, tuple(self.stored))

    def _fields(self, start: int, end: int) -> Iterator[Field]:
        for part in protobuf.fields(self.file, start, end):
            self._count("onnx_fields")
            yield part

    def _inside(self, part: Field) -> Iterator[Field]:
        if part.wire != protobuf.BYTES:
            raise DamageError(f"has a number where field {part.number} holds a message")
        if part.size > SMALL:
            yield from self._fields(part.start, part.start + part.size)
            return
        for inner in self._around(part).inner(part):
            self._count("onnx_fields")
            yield inner

    def _around(self, part: Field) -> Message:
        """A message in memory in which a small field lies: the last one, or the field itself."""
        start, end = part.start, part.start + part.size
        if not self.near[0] <= start <= end <= self.near[1]:
            self.near = (start, end, Message(self.file, start, part.size))
        return self.near[2]

    def _count(self, limit: str, amount: int = 1) -> None:
        self.left[limit] -= amount
        if self.left[limit] < 0:
            what = limit.removeprefix("onnx_").replace("_", " ")
            raise DamageError(f"has more {what} than can be read: {over(limit)}")

    def _text(self, part: Field) -> str:
        return self._around(part).text(part) if part.size <= SMALL else protobuf.text(self.file, part)

    def _graph(self, part: Field, scope: str, depth: int) -> Graph:
        if depth > LIMITS.onnx_depth:
            raise DamageError(f"nests its messages {over('onnx_depth')}")
        nodes: list[Field] = []
        tensors: list[Stored] = []
        outputs: list[str] = []
        for inner in self._inside(part):
            if inner.number == 1:
                self._count("onnx_nodes")
                nodes.append(inner)
            elif inner.number == 5:
                tensors.append(self._tensor(inner, scope))
            elif inner.number == 15:
                tensors.append(self._sparse(inner, scope))
            elif inner.number == 12:
                outputs += [self._text(text) for text in self._inside(inner) if text.number == 1]
        return Graph(self._nodes(nodes, scope, depth), tuple(tensors), tuple(outputs))

    def _function(self, part: Field, number: int) -> Function:
        texts: dict[int, list[str]] = {1: [], 4: [], 5: [], 10: [], 13: []}
        nodes: list[Field] = []
        for inner in self._inside(part):
            if inner.number in texts:
                texts[inner.number].append(self._text(inner))
            elif inner.number == 7:
                self._count("onnx_nodes")
                nodes.append(inner)
        name = "".join(texts[1])
        scope = f"{name or f'function {number}'}{''.join(texts[13])}."
        body = self._nodes(nodes, scope, 1)
        return Function("".join(texts[10]), name, tuple(texts[4]), tuple(texts[5]), body)

    def _nodes(self, parts: list[Field], scope: str, depth: int) -> tuple[Node, ...]:
        names: Counter[str] = Counter()
        return tuple(self._node(part, scope, number, names, depth + 1) for number, part in enumerate(parts))

    def _node(self, part: Field, scope: str, number: int, names: Counter[str], depth: int) -> Node:
        texts: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: [], 7: []}
        attributes: list[Field] = []
        for inner in self._inside(part):
            if inner.number in texts:
                texts[inner.number].append(self._text(inner))
            elif inner.number == 5:
                attributes.append(inner)
        name, operator = "".join(texts[3][-1:]), "".join(texts[4][-1:])
        node = Node(name, operator, "".join(texts[7][-1:]), tuple(texts[1]), tuple(texts[2]), {})
        called = name or operator
        names[called] += 1
        own = f"{scope}{called}" if name and names[called] == 1 else f"{scope}{called}#{number}"
        for inner in attributes:
            key, attribute = self._attribute(inner, node, own, scope, depth + 1)
            node.attributes[key] = attribute
        return node

    def _attribute(self, part: Field, node: Node, own: str, scope: str, depth: int) -> tuple[str, Attribute]:
        """An attribute's name and value; `own` is what the tensors and graphs in it are called after."""
        parts: dict[int, list[Field]] = {}
        for inner in self._inside(part):
            parts.setdefault(inner.number, []).append(inner)
        name = "".join(self._text(inner) for inner in parts.get(1, [])[-1:])
        label = f"{own}.{name}"
        known = (name, label)
        if node.operator == "Constant" and node.outputs:
            known = (node.outputs[0], f"{scope}{node.outputs[0]}")
        tensors = [self._tensor(inner, scope, known) for inner in (*parts.get(5, ()), *parts.get(10, ()))]
        tensors += [self._sparse(inner, scope, known) for inner in (*parts.get(22, ()), *parts.get(23, ()))]
        if node.operator == "Constant" and name in _CONSTANTS:
            tensors.append(self._listed(parts, _CONSTANTS[name], known))
        graphs = (*parts.get(6, ()), *parts.get(11, ()))
        integers, numbers = parts.get(8, ()), parts.get(3, ())
        short = sum(inner.size for inner in integers) <= _MOST_SHORT
        text = parts.get(4, [])[-1:]
        return name, Attribute(
            integer=numbers[-1].signed if numbers else None,
            integers=tuple(self._integers(integers)) if short else (),
            text=self._text(text[0]) if text and text[0].size <= _MOST_SHORT else "",
            refers_to="".join(self._text(inner) for inner in parts.get(21, [])[-1:]),
            tensors=tuple(tensors),
            graphs=tuple(
                self._graph(inner, f"{label}{f'[{index}]' if index else ''}.", depth + 1)
                for index, inner in enumerate(graphs)
            ),
        )

    def _integers(self, parts: list[Field] | tuple[()]) -> Iterator[int]:
        for part in parts:
            yield from protobuf.signed(protobuf.varints(self.file, part, _MOST_SHORT))

    def _listed(
        self, parts: dict[int, list[Field]], constant: tuple[int, int, int, bool], known: tuple[str, str]
    ) -> Stored:
        """The tensor that an attribute of Constant holds in fields of its own."""
        number, kind, stands_for, is_list = constant
        data = self._gathered(parts.get(number, []))
        return self._kept(Stored(*known, None if is_list else (), kind, {stands_for: data} if data else {}))

    def _gathered(self, parts: list[Field]) -> Data | None:
        """What lies in one place, or the bytes of several."""
        if len(parts) < 2:
            return Data(parts[0].start, parts[0].size) if parts else None
        size = sum(part.size for part in parts)
        self._count("gathered_bytes", size)
        return Data(parts[0].start, size, b"".join(self.file.read(part.start, part.size) for part in parts))

    def _kept(self, tensor: Stored) -> Stored:
        self._count("tensors")
        self.stored.append(tensor)
        return tensor

    def _tensor(self, part: Field, scope: str, known: tuple[str, str] | None = None) -> Stored:
        """A TensorProto; `known` is its name and label where it is not an initialiser."""
        return self._kept(self._described(part, scope, known))

    def _described(self, part: Field, scope: str, known: tuple[str, str] | None) -> Stored:
        shape: list[int] = []
        name, kind, is_external = "", 0, False
        data: dict[int, list[Field]] = {}
        external: list[tuple[str, str]] = []
        problem: str | None = None
        for inner in self._inside(part):
            match inner.number:
                case 1:
                    shape += protobuf.signed(protobuf.varints(self.file, inner, LIMITS.header_rank))
                case 2:
                    kind = inner.signed
                case 3:
                    problem = "it is one segment of a tensor whose others are elsewhere"
                case 8:
                    name = self._text(inner)
                case 13:
                    external.append(self._pair(inner))
                case 14:
                    is_external = inner.value == _EXTERNAL
                case number if number in _DATA:
                    data.setdefault(number, []).append(inner)
        if len(shape) > LIMITS.header_rank:
            raise DamageError(f"describes a tensor of {len(shape):,} dimensions, {over('header_rank')}")
        problem = problem or _unclear(data, is_external=is_external, names_file=bool(external))
        name, label = known or (name, f"{scope}{name}")
        gathered: dict[int, Data] = {}
        for number, parts in data.items() if problem is None else ():
            if (found := self._gathered(parts)) is not None:
                gathered[number] = found
        where = tuple(external) if is_external else None
        return Stored(name, label, tuple(shape), kind, gathered, where, problem)

    def _pair(self, part: Field) -> tuple[str, str]:
        """A StringStringEntryProto."""
        texts = {1: "", 2: ""}
        for inner in self._inside(part):
            if inner.number in texts:
                texts[inner.number] = self._text(inner)
        return texts[1], texts[2]

    def _sparse(self, part: Field, scope: str, known: tuple[str, str] | None = None) -> Stored:
        """A SparseTensorProto, of which only the name of its values is of use."""
        described = [self._described(inner, scope, known) for inner in self._inside(part) if inner.number == 1]
        name, label = known or ("", scope)
        tensor = described[0] if described else Stored(name, label, (), FLOAT)
        return self._kept(replace(tensor, problem="it is stored sparse, as values with their places"))


def _unclear(data: dict[int, list[Field]], *, is_external: bool, names_file: bool) -> str | None:
    """Why it cannot be told which of several data are a tensor's; None where it can."""
    if len(data) > 1 or len(data.get(RAW_DATA, ())) > 1:
        return "its data is there more than once"
    if is_external and data:
        return "its data is said to be in another file, and is in this one too"
    if names_file and not is_external:
        return "another file is named for its data, but it is not said that they are there"
    return None
