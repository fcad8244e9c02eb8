"""What an ONNX model's operators use its stored tensors for: one `Found` for each tensor that is reached.

Operators: https://onnx.ai/onnx/operators and, of the domain com.microsoft,
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from weightstats.limits import LIMITS
from weightstats.schemas.gates import ONNX, gates
from weightstats.schemas.onnx_normalised import normalised_in
from weightstats.schemas.onnx_operators import OTHERS, RECURRENT, SCALES, VALUES_ONLY, Weight, weights_of
from weightstats.schemas.onnx_records import Attribute, Function, Model, Node, Stored
from weightstats.schemas.onnx_values import REARRANGED, UNKNOWN, Known, Scaled, Seen, Values
from weightstats.tensors import Part, Use

DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Of the operators that are known. The others' may have the same names and do something else."""

MOST_PIECES = 16
"""Tensors that one value is put together from, beyond which it is not followed."""

WHOLE_NUMBERS = (6, 7, 9, 12, 13)
"""Types (int32, int64, bool, uint32, uint64) in which no weights are stored."""

Integers: TypeAlias = Callable[[Stored], tuple[int, ...] | None]
"""The elements of a small tensor of whole numbers, None for another tensor."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a stored tensor from the graph."""

    use: Use | None
    scaled: Scaled | None
    place: int
    """In the order in which the operators run."""

    worth: int = 0
    """How much the use says: of two uses, the one that says more is kept, else the first."""


@dataclass(frozen=True, slots=True)
class Uses:
    """What the graph says of all tensors."""

    found: dict[Stored, Found]
    operators: frozenset[str]
    is_complete: bool
    """False where the functions call each other too often to follow them all."""


def uses_of(model: Model, integers: Integers) -> Uses:
    """What each tensor of the model is used for, as far as its operators say."""
    walk = _Walk(model.functions, integers)
    values: Values = {}
    walk.define(model.graph.tensors, values)
    walk.visit(model.graph.nodes, model.graph.outputs, values, 0)
    return Uses(walk.found, frozenset(walk.operators), walk.left > 0)


class _Walk:
    """Follows the nodes in their order. What it finds is in `found`."""

    def __init__(self, functions: Sequence[Function], integers: Integers) -> None:
        self.found: dict[Stored, Found] = {}
        self.operators: set[str] = set()
        self.left = LIMITS.onnx_nodes
        self.integers = integers
        self.functions: dict[tuple[str, str], Function | None] = {}
        for function in functions:
            key = (function.domain, function.name)
            self.functions[key] = None if key in self.functions else function
        self.passing: dict[str, Callable[[Node, list[Known]], Known]] = {
            **dict.fromkeys(("Identity", "Cast", "CastLike", "Dropout"), self._same),
            **dict.fromkeys(("Unsqueeze", "Squeeze", "Reshape", "Flatten"), self._reshaped),
            **dict.fromkeys(("Slice", "Split"), self._cut),
            "Transpose": self._transposed,
            "Concat": self._joined,
            "DequantizeLinear": self._dequantised,
            "Mul": self._multiplied,
        }

    def define(self, tensors: Sequence[Stored], values: Values) -> None:
        """Make stored tensors known under their names."""
        for tensor in tensors:
            axes = tuple(range(len(tensor.shape))) if tensor.shape is not None else (0,)
            values[tensor.name] = Known((Seen(tensor, axes),))

    def visit(self, nodes: Sequence[Node], outputs: Sequence[str], values: Values, depth: int) -> None:
        """Follow the nodes of one graph; `values` are those of the graphs around it too."""
        if self.left <= 0:
            return
        normalised = normalised_in(nodes, outputs, _vectors(nodes, values), DOMAINS)
        for node in nodes:
            self.left -= 1
            if self.left <= 0:
                return
            function = self.functions.get((node.domain, node.operator))
            if function is not None:
                self._call(function, node, values, depth)
            elif node.domain in DOMAINS:
                self.operators.add(node.operator)
                self._operator(node, values, normalised.get(next(iter(node.outputs), ""), ""))
            for attribute in node.attributes.values():
                for graph in attribute.graphs:
                    inner: Values = ChainMap({}, *(values.maps if isinstance(values, ChainMap) else [values]))
                    self.define(graph.tensors, inner)
                    self.visit(graph.nodes, graph.outputs, inner, depth + 1)

    def _call(self, function: Function, node: Node, values: Values, depth: int) -> None:
        """Follow a function's nodes with the values that it is called with."""
        if depth >= LIMITS.onnx_depth:
            return
        given = [values.get(name, UNKNOWN) for name in node.inputs]
        inner: Values = dict(zip(function.inputs, given, strict=False))
        nodes = [_with_arguments(called, node.attributes) for called in function.nodes]
        self.visit(nodes, function.outputs, inner, depth + 1)
        for formal, name in zip(function.outputs, node.outputs, strict=False):
            values[name] = inner.get(formal, UNKNOWN)

    def _operator(self, node: Node, values: Values, scale_free: str) -> None:
        place = LIMITS.onnx_nodes - self.left
        if node.operator == "Constant":
            self.define([tensor for held in node.attributes.values() for tensor in held.tensors], values)
            return
        for tensor in [tensor for held in node.attributes.values() for tensor in held.tensors]:
            self._keep(tensor, Found(Use("constant", "", "a number that the graph works with"), None, place, 1))
        inputs = [values.get(name, UNKNOWN) for name in node.inputs]
        passed = self.passing.get(node.operator, _nothing)(node, inputs)
        if node.operator == "MatMulNBits":
            self._in_blocks(node, inputs, place)
        weights = {weight.index: weight for weight in weights_of(node, [_rank(known) for known in inputs])}
        for index, known in enumerate(inputs):
            for seen in known.seen:
                if (weight := weights.get(index)) is not None:
                    layer = _layer_use(seen, weight, node, scale_free)
                    scaled = seen.scaled or _scaled_beside(node, index, seen, layer, inputs)
                    self._keep(seen.tensor, Found(layer, scaled, place, 3 if layer else 0))
                else:
                    use = _other_use(node, index, seen, inputs)
                    self._keep(seen.tensor, Found(use, None, place, _WORTH.get(use.kind, 2) if use else 0))
        if weights or node.operator in SCALES:
            passed = replace(self._product(node, weights, inputs), from_layer=True)
        for output in node.outputs:
            values[output] = passed

    def _keep(self, tensor: Stored, found: Found) -> None:
        before = self.found.get(tensor)
        if before is None or found.worth > before.worth:
            self.found[tensor] = found
        elif before.use and before.use.scale_free and not (found.use and found.use.scale_free):
            self.found[tensor] = replace(before, use=replace(before.use, scale_free=""))

    def _in_blocks(self, node: Node, inputs: list[Known], place: int) -> None:
        """Note the weights of a MatMulNBits: (outputs, blocks, bytes), with a scale for each block."""
        sizes = [node.attributes.get(name, Attribute()).integer or 0 for name in ("N", "K", "bits", "block_size")]
        if len(inputs) < 3 or not _is_absent(node, 4):  # the fifth input says of another order of the inputs
            return
        seen, scale = inputs[1].whole, inputs[2].whole
        zero_point = inputs[3].whole if len(inputs) > 3 else None
        if seen is None or scale is None or (zero_point is None and not _is_absent(node, 3)):
            return
        outputs, columns, bits, block = sizes
        scaled = Scaled(scale.tensor, _tensor_of(zero_point), None, block, (outputs, columns, bits or 4))
        use = Use("linear", "OI", f"the right-hand input of {node.label}")
        self._keep(seen.tensor, Found(use, scaled, place, 3))

    def _product(self, node: Node, weights: dict[int, Weight], inputs: list[Known]) -> Known:
        """The output of a product of integers, whose weights wait for their scale."""
        for index, weight in weights.items():
            places = SCALES.get(node.operator, {}).get(index)
            if places is None or places[0] is not None or inputs[index].whole is None:
                continue
            seen = inputs[index].seen[0]
            layer = _layer_use(seen, weight, node, "")
            zero_point = inputs[places[1]].whole if places[1] < len(inputs) else None
            if layer is not None and (zero_point is not None or _is_absent(node, places[1])):
                waiting = replace(seen, scaled=Scaled(seen.tensor, _tensor_of(zero_point), None))
                return Known(unscaled=(waiting, layer))
        return UNKNOWN

    # What the operators that only rearrange make of their first input

    def _same(self, node: Node, inputs: list[Known]) -> Known:
        return inputs[0] if inputs else UNKNOWN

    def _transposed(self, node: Node, inputs: list[Known]) -> Known:
        known = inputs[0] if inputs else UNKNOWN
        order = node.attributes.get("perm", Attribute()).integers
        seen = []
        for one in known.seen:
            places = order or tuple(reversed(range(len(one.axes))))
            if sorted(places) != list(range(len(one.axes))):
                return UNKNOWN
            seen.append(replace(one, axes=tuple(one.axes[place] for place in places)))
        return replace(known, seen=tuple(seen))

    def _reshaped(self, node: Node, inputs: list[Known]) -> Known:
        """Dimensions of size 1 may come and go; a tensor that is rearranged otherwise is not followed."""
        known = inputs[0] if inputs else UNKNOWN
        name = "shape" if node.operator == "Reshape" else "axes"
        given = self._numbers(inputs[1]) if len(inputs) > 1 else node.attributes.get(name, Attribute()).integers
        rearranged = REARRANGED.get(node.operator)
        if rearranged is None or given is None or any(seen.tensor.shape is None for seen in known.seen):
            return replace(known, seen=())
        found = [replace(seen, axes=axes) for seen in known.seen if (axes := rearranged(seen, given)) is not None]
        return replace(known, seen=tuple(found) if len(found) == len(known.seen) else ())

    def _numbers(self, known: Known) -> tuple[int, ...] | None:
        return self.integers(known.whole.tensor) if known.whole is not None else None

    def _cut(self, node: Node, inputs: list[Known]) -> Known:
        known = inputs[0] if inputs else UNKNOWN
        return Known(tuple(replace(seen, is_whole=False) for seen in known.seen))

    def _joined(self, node: Node, inputs: list[Known]) -> Known:
        pieces = dict.fromkeys(replace(seen, is_whole=False) for known in inputs for seen in known.seen)
        if not all(known.seen for known in inputs) or len(pieces) > MOST_PIECES:
            return UNKNOWN
        return Known(tuple(pieces) if len({len(seen.axes) for seen in pieces}) == 1 else ())

    def _dequantised(self, node: Node, inputs: list[Known]) -> Known:
        """The numbers that stored integers stand for."""
        if len(inputs) < 2 or inputs[1].whole is None:
            return UNKNOWN
        seen, scale = inputs[0].whole, inputs[1].whole
        zero_point = inputs[2].whole if len(inputs) > 2 else None
        if seen is None or seen.scaled is not None or (zero_point is None and not _is_absent(node, 2)):
            return UNKNOWN
        held = node.attributes.get("axis", Attribute()).integer
        place = 1 if held is None else held
        axis = seen.axes[place] if -len(seen.axes) <= place < len(seen.axes) else None
        if scale.tensor.shape == () or axis is None:
            axis = None
        block = node.attributes.get("block_size", Attribute()).integer or 0
        scaled = Scaled(scale.tensor, _tensor_of(zero_point), axis, max(block, 0))
        return Known((replace(seen, scaled=scaled),))

    def _multiplied(self, node: Node, inputs: list[Known]) -> Known:
        """A product of integers with its scale, or the scale of one that comes later."""
        if len(inputs) != 2:
            return UNKNOWN
        for known, other in (inputs, inputs[::-1]):
            factor = other.whole or other.factor
            if known.unscaled is not None and factor is not None:
                seen, layer = known.unscaled
                zero_point = seen.scaled.zero_point if seen.scaled else None
                scaled = _scaled(factor, Seen(zero_point, ()) if zero_point else None, seen, layer)
                before = self.found.get(seen.tensor)
                if scaled is not None and before is not None and before.scaled is None:
                    self.found[seen.tensor] = replace(before, scaled=scaled)
                return Known(from_layer=True)
            if known == UNKNOWN and factor is not None:
                return Known(factor=factor)
        return UNKNOWN


_WORTH = {"constant": 1}


def _nothing(node: Node, inputs: list[Known]) -> Known:
    return UNKNOWN


def _tensor_of(seen: Seen | None) -> Stored | None:
    return None if seen is None else seen.tensor


def _rank(known: Known) -> int | None:
    """Dimensions of a value that is made of stored tensors alone."""
    return len(known.seen[0].axes) if known.seen else None


def _is_absent(node: Node, index: int) -> bool:
    return index >= len(node.inputs) or not node.inputs[index]


def _with_arguments(node: Node, arguments: dict[str, Attribute]) -> Node:
    """A function's node with the attributes that it is called with."""
    if not any(attribute.refers_to for attribute in node.attributes.values()):
        return node
    resolved = {
        name: arguments.get(attribute.refers_to, attribute) if attribute.refers_to else attribute
        for name, attribute in node.attributes.items()
    }
    return replace(node, attributes=resolved)


def _scaled_beside(node: Node, index: int, seen: Seen, layer: Use | None, inputs: list[Known]) -> Scaled | None:
    """The scale of an integer weight that the same node is given."""
    places = SCALES.get(node.operator, {}).get(index)
    if places is None or layer is None or places[0] is None or places[0] >= len(inputs):
        return None
    scale = inputs[places[0]].whole
    zero_point = inputs[places[1]].whole if places[1] < len(inputs) else None
    if scale is None or (zero_point is None and not _is_absent(node, places[1])):
        return None
    return _scaled(scale, zero_point, seen, layer)


def _scaled(scale: Seen, zero_point: Seen | None, seen: Seen, layer: Use) -> Scaled | None:
    """One scale for all, or one for each output; None for what is neither."""
    count, shape = scale.tensor.shape, seen.tensor.shape
    if count is None or shape is None:
        return None
    held = _tensor_of(zero_point)
    sizes = [size for size in count if size != 1]
    if not sizes:
        return Scaled(scale.tensor, held, None)
    outputs = [axis for axis, letter in enumerate(layer.axes) if letter == "O"]
    if len(outputs) == 1 and sizes == [shape[outputs[0]]]:
        return Scaled(scale.tensor, held, outputs[0])
    return None


def _layer_use(seen: Seen, weight: Weight, node: Node, scale_free: str) -> Use | None:
    """What a layer makes of the dimensions of a stored tensor; None where it does not say of all."""
    shape = seen.tensor.shape
    if shape is None or len(weight.axes) != len(seen.axes):
        return None
    letters = ["K" if size == 1 else "" for size in shape]
    for axis, letter in zip(seen.axes, weight.axes, strict=True):
        if axis is not None:
            letters[axis] = letter
    counts = dict.fromkeys("OI", 1)
    for letter, size in zip(letters, shape, strict=True):
        counts[letter] = counts.get(letter, 1) * size
    if not all(letters) or counts["I" if "transpose" in weight.kind else "O"] % weight.groups:
        return None
    is_depthwise = weight.kind.startswith("conv") and weight.groups > 1 and counts["I"] == 1
    kind = f"depthwise_{weight.kind}" if is_depthwise and "transpose" not in weight.kind else weight.kind
    because = f"{weight.role} of {node.label}"
    return Use(kind, "".join(letters), because, weight.groups, parts=_gates(seen, node), scale_free=scale_free)


def _gates(seen: Seen, node: Node) -> tuple[Part, ...]:
    """The gates of a recurrent layer; none where the file has them in another order than the operator."""
    shape = seen.tensor.shape
    if node.operator not in RECURRENT or not seen.is_whole or shape is None or len(seen.axes) != len("BOI"):
        return ()
    direction_axis, axis, _ = seen.axes
    names = ONNX[RECURRENT[node.operator]]
    hidden = node.attributes.get("hidden_size", Attribute()).integer
    if axis is None or shape[axis] != len(names) * (hidden or shape[axis] // len(names)):
        return ()
    directions = 1 if direction_axis is None else shape[direction_axis]
    return gates(names, axis, shape[axis], directions, direction_axis)


def _vectors(nodes: Sequence[Node], values: Values) -> frozenset[str]:
    """Names of stored values that have one number for each channel, among them those that the nodes hold."""
    stored = [(name, known.whole.tensor) for name, known in values.items() if known.whole is not None]
    for node in nodes:
        if node.operator == "Constant" and node.outputs:
            stored += [(node.outputs[0], tensor) for held in node.attributes.values() for tensor in held.tensors]
    return frozenset(
        name for name, tensor in stored if tensor.shape is not None and sum(size != 1 for size in tensor.shape) < 2
    )


def _other_use(node: Node, index: int, seen: Seen, inputs: list[Known]) -> Use | None:
    """What a tensor is that is no layer's weight, where the operator tells."""
    found = OTHERS.get(node.operator, {}).get(index) or _by_operator(node, seen, inputs)
    return Use(found[0], "", found[1]) if found else None


def _by_operator(node: Node, seen: Seen, inputs: list[Known]) -> tuple[str, str] | None:
    """The kind of a tensor, and why."""
    if seen.tensor.shape is None:
        return "constant", "a list of numbers that the graph works with"
    long = sum(size != 1 for size in seen.tensor.shape)
    if node.operator == "Add" and long < 2 and any(known.from_layer for known in inputs):
        return "bias", "added to a layer's output"
    if seen.tensor.type in WHOLE_NUMBERS:
        return "constant", "whole numbers that the graph works with: shapes, indices, counts"
    if not long or node.operator in VALUES_ONLY:
        return "constant", "a number that the graph works with"
    if node.operator in ("Add", "Sub", "Mul", "Div"):
        return "parameter", "added to values or multiplied with them, one by one"
    return None


def order_of(stored: Sequence[Stored], found: dict[Stored, Found]) -> Iterator[Stored]:
    """The tensors in the order in which the operators come to use them; those that none uses last."""
    last = max((one.place for one in found.values()), default=0) + 1
    yield from sorted(stored, key=lambda tensor: found[tensor].place if tensor in found else last)
