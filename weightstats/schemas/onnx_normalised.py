"""Layers of an ONNX graph whose output goes into a normalisation and nowhere else.

Operators: https://onnx.ai/onnx/operators and, of the domain com.microsoft,
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from weightstats.schemas.onnx_records import Node

BY_CHANNEL = {
    "BatchNormalization": "batch normalisation",
    "InstanceNormalization": "instance normalisation",
}
"""Operators that take the mean of each channel away, and a bias of the layer with it."""

NORMALISATIONS = {
    **BY_CHANNEL,
    "GroupNormalization": "group normalisation",
    "GroupNorm": "group normalisation",
    "LayerNormalization": "layer normalisation",
    "RMSNormalization": "root mean square normalisation",
    "SimplifiedLayerNormalization": "root mean square normalisation",
}
"""Operators that divide their first input by its own scale, as a report calls them."""

BIASED = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), 2),
    "MatMul": None,
}
"""Layers that give their product as it is, and which input is the bias."""

SAME = ("Identity", "Cast", "Dropout")
"""Operators that give on what they are given."""

REARRANGED = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators behind which a bias may no longer be one number a channel."""

_MOST_STEPS = 16
"""Operators between a layer and its normalisation."""


def normalised_in(
    nodes: Sequence[Node], outputs: Iterable[str], vectors: Collection[str], domains: Collection[str]
) -> dict[str, str]:
    """Why the scale of a layer does not matter, by the layer's output.

    `outputs` are those of the graph, `vectors` the stored values with one number for each channel, `domains` those
    whose operators are known.
    """
    readers: dict[str, list[Node | None]] = defaultdict(list)
    for name in outputs:
        readers[name].append(None)
    for node in nodes:
        for name in node.inputs:
            readers[name].append(node)
    for name in _captured(nodes):
        readers[name].append(None)
    found = {}
    for node in nodes:
        if node.operator in BIASED and node.domain in domains and node.outputs:
            because = _behind(node, readers, vectors, domains)
            if because:
                found[node.outputs[0]] = because
    return found


def _captured(nodes: Iterable[Node]) -> Iterator[str]:
    """Names that the graphs inside nodes read, among them those of the graph around."""
    waiting = [graph for node in nodes for held in node.attributes.values() for graph in held.graphs]
    while waiting:
        graph = waiting.pop()
        yield from graph.outputs
        for node in graph.nodes:
            yield from node.inputs
            waiting += [inner for held in node.attributes.values() for inner in held.graphs]


def _behind(
    layer: Node,
    readers: Mapping[str, Sequence[Node | None]],
    vectors: Collection[str],
    domains: Collection[str],
) -> str:
    """The normalisation behind a layer, in words; '' where there is none, or not alone."""
    place = BIASED[layer.operator]
    is_biased = place is not None and place < len(layer.inputs) and layer.inputs[place] != ""
    is_moved, name = False, layer.outputs[0]
    for _ in range(_MOST_STEPS):
        read = readers.get(name, ())
        node = read[0] if len(read) == 1 else None
        if node is None or node.domain not in domains or not node.outputs:
            return ""
        if node.operator == "Add" and not is_moved and len(node.inputs) == 2:
            if node.inputs[1 - node.inputs.index(name)] not in vectors:
                return ""
            is_biased = True
        elif node.inputs[0] != name:
            return ""
        elif node.operator in REARRANGED:
            is_moved = True
        elif node.operator in NORMALISATIONS:
            if is_biased and (is_moved or node.operator not in BY_CHANNEL):
                return ""
            label = node.name or node.outputs[0]
            return f"its output goes only into the {NORMALISATIONS[node.operator]} {label}"
        elif node.operator not in SAME:
            return ""
        name = node.outputs[0]
    return ""
