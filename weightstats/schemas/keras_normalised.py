"""Layers of a Keras model whose output goes into a normalisation and nowhere else, by the model's configuration.

Configuration: keras/src/models/functional.py and sequential.py, `get_config`; of Keras 1 and 2,
keras/engine/topology.py.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

LAYERS: dict[str, int] = {
    "Dense": 1,
    **{f"{name}1D": 2 for name in ("Conv", "Convolution", "DepthwiseConv", "SeparableConv")},
    **{f"{name}2D": 3 for name in ("Conv", "Convolution", "DepthwiseConv", "SeparableConv", "SeparableConvolution")},
    "Conv3D": 4,
    **{f"Conv{dimensions}DTranspose": dimensions + 1 for dimensions in (1, 2, 3)},
}
"""Classes that give their product as it is, and the number of the last dimension of their output."""

NORMALISATIONS = {
    "BatchNormalization": "batch normalisation",
    "SyncBatchNormalization": "batch normalisation",
    "LayerNormalization": "layer normalisation",
    "GroupNormalization": "group normalisation",
    "RMSNormalization": "root mean square normalisation",
}
"""Classes that divide what they are given by its own scale, as a report calls them."""

BY_CHANNEL = ("BatchNormalization", "SyncBatchNormalization")
"""Those that take the mean of each channel away, and a bias of the layer with it."""


def normalised_in(class_name: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Why the scale of a layer does not matter, by the layer's name; of the layers of one model."""
    listed = options.get("layers")
    layers = [layer for layer in listed if isinstance(layer, dict)] if isinstance(listed, list) else []
    by_name = {name: layer for layer in layers if (name := _name(layer))}
    if len(by_name) != len(layers):
        return {}
    readers: dict[str, list[str]] = defaultdict(list)
    if class_name == "Sequential":
        for before, after in pairwise(layers):
            readers[_name(before)].append(_name(after))
    else:
        for name, layer in by_name.items():
            for given in _given(layer.get("inbound_nodes")):
                readers[given].append(name)
        for given in _given(options.get("output_layers")):
            readers[given].append("")
    found = {}
    for name, layer in by_name.items():
        after = by_name.get(readers[name][0], {}) if len(readers[name]) == 1 else {}
        if after and _is_normalised(layer, after):
            found[name] = f"its output goes only into the {NORMALISATIONS[after['class_name']]} {_name(after)}"
    return found


def _options(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    options = layer.get("config")
    return options if isinstance(options, dict) else {}


def _name(layer: Mapping[str, Any]) -> str:
    names = (_options(layer).get("name"), layer.get("name"))
    return next((name for name in names if isinstance(name, str)), "")


def _given(nodes: Any) -> Iterator[str]:
    """Names of the layers whose outputs are given, each as often as it is: lists [name, node, tensor, ...]."""
    waiting = [nodes]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
            yield value[0]
            waiting += value[3:]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()


def _is_normalised(layer: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    class_name, behind = layer.get("class_name"), after.get("class_name")
    if class_name not in LAYERS or behind not in NORMALISATIONS:
        return False
    options = _options(layer)
    if options.get("activation", "linear") not in ("linear", None):
        return False
    if options.get("use_bias", options.get("bias", True)) is False:
        return True
    axis = _options(after).get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    is_first = options.get("data_format") == "channels_first" or options.get("dim_ordering") == "th"
    return behind in BY_CHANNEL and axis in ((1,) if is_first and class_name != "Dense" else (-1, LAYERS[class_name]))
