"""What the operators of a program that torch.export wrote do with its tensors. The program is JSON, read as data only.

Layout: torch/_export/serde/schema.py. Operators and the names of their arguments:
https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/native_functions.yaml
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from weightstats.tensors import Use

OPERATOR = re.compile(r"torch\.ops\.aten\.(?P<name>\w+)\.\w+")

CONVOLUTION = re.compile(r"_?conv(olution|[123]d)")
TRANSPOSED_CONVOLUTION = re.compile(r"conv_transpose[123]d")
"""The kernel's dimensions: (outputs, inputs of a group, ...); turned round, (inputs, outputs of a group, ...)."""

RECURRENT = re.compile(r"(?P<kind>lstm|gru|rnn)(_tanh|_relu)?(_cell)?")
"""Operators whose matrices are (gates of outputs, inputs)."""

_PROJECTION = re.compile(r"(^|[._])weight_hr(_l\d+)?(_reverse)?$")

PRODUCTS = {
    ("linear", "weight"): ("linear", "OI"),
    ("matmul", "other"): ("linear", "IO"),
    ("mm", "mat2"): ("linear", "IO"),
    ("addmm", "mat2"): ("linear", "IO"),
    ("embedding", "weight"): ("embedding", "IO"),
}
"""Arguments that are matrices: the layer, and what their dimensions count."""

SAME = ("alias", "clone", "contiguous", "detach", "to", "_to_copy")
"""Operators that give their input with the same dimensions."""

TURNED = {"t": (), "permute": ([1, 0],), "transpose": ([0, 1], [1, 0], [-2, -1], [-1, -2])}
"""Operators that change rows for columns, with the dimensions that they are then given."""

NORMALISATION = re.compile(r"_?(native_)?(batch|layer|group|instance|rms)_norm(_legit_no_training)?")

BY_CHANNEL = re.compile(r".*(batch|instance)_norm.*")
"""Those that take the mean of each channel away, and a bias of the layer with it."""

PRODUCT = re.compile(r"_?conv(olution|[123]d)|conv_transpose[123]d|linear|addmm|mm|matmul")
"""Operators of layers that give their product as it is."""

NORMALISING = {
    "weight": Use("norm", "", "scale of a normalisation"),
    "bias": Use("bias", "", "shift of a normalisation"),
    "running_mean": Use("buffer", "", "running statistics of a batch normalisation, not trained"),
    "running_var": Use("buffer", "", "running statistics of a batch normalisation, not trained"),
}
"""Its arguments."""

_ADDED = Use("bias", "", "added to a layer's output")

OTHERS = {
    ("linear", "bias"): _ADDED,
    ("bilinear", "bias"): _ADDED,
    ("bilinear", "weight"): Use("parameter", "", "multiplied with two inputs at once, so that it has no one fan-in"),
    ("prelu", "weight"): Use("parameter", "", "slopes of an activation function"),
}
"""Arguments of other operators."""

UNTRAINED = {
    "buffer": Use("buffer", "", "a buffer of a module, not a parameter"),
    "tensor_constant": Use("constant", "", "a constant of the program"),
}
"""Kinds of stored tensors that are no parameters: what they are where no operator tells more."""


def uses_of(program: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Use]:
    """The use of each parameter, buffer and constant of a known shape, by its name, where an operator tells.

    The first operator counts; of an embedding that is a projection as well, that is the embedding.
    """
    module = item(program, "graph_module")
    inputs = list(_inputs(item(item(module, "signature"), "input_specs")))
    values = {value: _Value(name, shapes[name]) for value, name, _ in inputs if name in shapes}
    uses: dict[str, Use] = {}
    readers = _readers(item(module, "graph"))
    for record in items(item(item(module, "graph"), "nodes")):
        node = _node(record)
        if node is None:
            continue
        scale_free = _normalised(node, readers) if PRODUCT.fullmatch(node.operator) else ""
        for argument, name in node.tensors:
            if name in values:
                use = _use(node, argument, values[name])
                if use is not None:
                    use = replace(use, scale_free=scale_free) if use.axes else use
                    known = uses.setdefault(values[name].name, use)
                    if known.scale_free and not use.scale_free:  # used a second time, where its scale matters
                        uses[values[name].name] = replace(known, scale_free="")
        passed = _passed_on(node, values)
        if passed is not None:
            values[node.output] = passed
    return {name: UNTRAINED[kind] for _, name, kind in inputs if kind in UNTRAINED} | uses


@dataclass(frozen=True, slots=True)
class _Value:
    """A stored tensor as the graph knows it."""

    name: str
    shape: tuple[int, ...]
    is_turned: bool = False
    """A matrix whose rows are columns here."""


@dataclass(frozen=True, slots=True)
class _Node:
    operator: str
    tensors: tuple[tuple[str, str], ...]
    """(argument, value), in order."""

    numbers: dict[str, Any] = field(default_factory=dict)
    """Arguments that are a number, a truth value or a list of integers."""

    output: str = ""


def _node(record: Any) -> _Node | None:
    """A node that calls one of torch's own operators."""
    target = item(record, "target")
    match = OPERATOR.fullmatch(target) if isinstance(target, str) else None
    if match is None:
        return None
    tensors: list[tuple[str, str]] = []
    numbers: dict[str, Any] = {}
    for given in items(item(record, "inputs")):
        argument, value = item(given, "name"), item(given, "arg")
        if isinstance(argument, str) and isinstance(value, dict):
            tensors += [(argument, name) for name in _tensors(value)]
            numbers[argument] = next((value[key] for key in ("as_int", "as_bool", "as_ints") if key in value), None)
    outputs = [name for output in items(item(record, "outputs")) for name in _tensors(output)]
    return _Node(match["name"], tuple(tensors), numbers, outputs[0] if outputs else "")


def _readers(graph: Any) -> dict[str, list[tuple[_Node | None, str]]]:
    """The nodes that read each value, and as which argument; None for another operator and for the result."""
    readers: dict[str, list[tuple[_Node | None, str]]] = defaultdict(list)
    for record in items(item(graph, "nodes")):
        node = _node(record)
        for given in items(item(record, "inputs")):
            for name in _tensors(item(given, "arg")):
                readers[name].append((node, str(item(given, "name"))))
    for output in items(item(graph, "outputs")):
        for name in _tensors(output):
            readers[name].append((None, ""))
    return readers


def _normalised(node: _Node, readers: Mapping[str, Sequence[tuple[_Node | None, str]]]) -> str:
    """Why the scale of what a node multiplies with does not matter, '' where it may."""
    read = readers.get(node.output, ())
    after, argument = read[0] if len(read) == 1 else (None, "")
    if after is None or argument != "input" or not NORMALISATION.fullmatch(after.operator):
        return ""
    is_biased = node.operator == "addmm" or any(name == "bias" for name, _ in node.tensors)
    if is_biased and not BY_CHANNEL.fullmatch(after.operator):
        return ""
    return f"its output goes only into torch's operator {after.operator}"


def _tensors(value: Any) -> Iterator[str]:
    """Names of the tensors that an argument or a result is."""
    for one in (value, *items(item(value, "as_optional_tensors"))):
        for tensor in (item(one, "as_tensor"), *items(item(one, "as_tensors"))):
            name = item(tensor, "name")
            if isinstance(name, str):
                yield name


def _inputs(specs: Any) -> Iterator[tuple[str, str, str]]:
    """(value in the graph, name in the archive, kind) of each stored tensor."""
    for spec in items(specs):
        for kind in ("parameter", *UNTRAINED):
            value, name = item(item(item(spec, kind), "arg"), "name"), item(item(spec, kind), f"{kind}_name")
            if isinstance(value, str) and isinstance(name, str):
                yield value, name, kind


def _passed_on(node: _Node, values: Mapping[str, _Value]) -> _Value | None:
    """The stored tensor that the node gives on, perhaps with its rows as columns."""
    value = values.get(node.tensors[0][1]) if len(node.tensors) == 1 else None
    if value is None or not node.output:
        return None
    if node.operator in SAME:
        return value
    dimensions = node.numbers.get("dims", [node.numbers[name] for name in ("dim0", "dim1") if name in node.numbers])
    if len(value.shape) == 2 and node.operator in TURNED and dimensions in (TURNED[node.operator] or ([],)):
        return _Value(value.name, value.shape, not value.is_turned)
    return None


def _use(node: _Node, argument: str, value: _Value) -> Use | None:
    """What a node does with one of its arguments."""
    because = f"the {argument} of torch's operator {node.operator}"
    place, rank = (node.operator, argument), len(value.shape)
    if place in PRODUCTS and rank == 2:
        axes = PRODUCTS[place]
        return Use(axes[0], axes[1][::-1] if value.is_turned else axes[1], because)
    if value.is_turned:
        return None
    if place in OTHERS:
        return OTHERS[place]
    if NORMALISATION.fullmatch(node.operator):
        return NORMALISING.get(argument)
    recurrent = RECURRENT.fullmatch(node.operator)
    if recurrent and rank == 2 and _PROJECTION.search(value.name):
        return Use("linear", "OI", f"the projection of torch's operator {node.operator}")
    if recurrent and rank == 2:
        return Use(recurrent["kind"], "OI", f"a weight of torch's operator {node.operator}")
    is_transposed = TRANSPOSED_CONVOLUTION.fullmatch(node.operator) or node.numbers.get("transposed") is True
    if is_transposed or CONVOLUTION.fullmatch(node.operator):
        return _ADDED if argument == "bias" else _kernel(node, value.shape, because, is_transposed=bool(is_transposed))
    return None


def _kernel(node: _Node, shape: tuple[int, ...], because: str, *, is_transposed: bool) -> Use | None:
    """The kernel of a convolution."""
    groups, rank = node.numbers.get("groups", 1), len(shape)
    if not 3 <= rank <= 5 or not isinstance(groups, int) or groups < 1 or shape[0] % groups:
        return None
    if is_transposed:
        return Use(f"conv_transpose{rank - 2}d", "IO" + "K" * (rank - 2), because, groups)
    kind = "depthwise_conv" if groups > 1 and shape[1] == 1 else "conv"
    return Use(f"{kind}{rank - 2}d", "OI" + "K" * (rank - 2), because, groups)


def item(record: Any, key: str) -> Any:
    """What a JSON object holds under a key, None where it holds nothing or is no object."""
    return record.get(key) if isinstance(record, dict) else None


def items(record: Any) -> list[Any]:
    """A JSON list; an empty one for anything else."""
    return record if isinstance(record, list) else []
