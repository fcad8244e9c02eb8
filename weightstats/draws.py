"""What initialisers saw of a layer: its sizes, its matrix, and its fans in each way in which libraries count them."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from weightstats.initialisers import Drawn, Family, Matrix
from weightstats.layers import Layer
from weightstats.tensors import Tensor

_FAMILY_OF_KIND: dict[str, Family] = {
    **dict.fromkeys(("lstm", "gru", "rnn", "recurrent"), "recurrent"),
    "embedding": "embedding",
    "bilinear": "bilinear",
}

_GATES = {"lstm": 4, "gru": 3}
"""Gates in the rows of a recurrent weight that is taken as it is stored."""

_RESIDUAL = re.compile(r"(^|\.)(c_proj|dense_4h_to_h|(self_)?attention\.dense|linear_proj|linear_fc2)\.weight$")
"""Layers that write into the residual stream and are scaled by their number: GPT-2, nanoGPT; Megatron-LM."""

_NUMBER = re.compile(r"\d+")
_LONGEST = 256
"""Characters at the end of a name that patterns are tried on."""


def blocks_of(layers: Sequence[Layer]) -> dict[str, int]:
    """How many layers are called the same but for a number, of those that write into a residual stream."""
    templates = {
        layer.name: _NUMBER.sub("{}", layer.name[-_LONGEST:])
        for layer in layers
        if _RESIDUAL.search(layer.name[-_LONGEST:])
    }
    counts = Counter(templates.values())
    return {name: counts[template] for name, template in templates.items()}


def drawn_of(layer: Layer, blocks: int = 0) -> Drawn:
    """The layer as initialisers saw it; `blocks` is what `blocks_of` says of it."""
    tensor = layer.tensor
    counts = _counts(tensor)
    field = counts["K"]
    elements = tensor.elements // max(1, tensor.repeats)
    groups = max(1, round(tensor.elements * field / (layer.n_in * layer.n_out)))
    family = _family(layer.kind)
    outputs = counts["O"]
    if family == "recurrent" and layer.part_of is None:
        outputs = max(1, outputs // _GATES.get(layer.kind, 1))
    inputs = tensor.shape[1] if family == "bilinear" and len(tensor.shape) == 3 else counts["I"]
    return Drawn(
        family=family,
        elements=elements,
        fans=tuple(dict.fromkeys(((layer.n_in, layer.n_out), *_counted_otherwise(layer, field, groups)))),
        matrices=tuple(dict.fromkeys(_matrices(layer))),
        inputs=inputs,
        outputs=outputs,
        blocks=blocks if blocks > 1 else 0,
    )


def _family(kind: str) -> Family:
    return "convolution" if "conv" in kind else _FAMILY_OF_KIND.get(kind, "linear")


def _counts(tensor: Tensor) -> dict[str, int]:
    """The sizes of a tensor by the letters of `Use.axes`, 1 for those that it has not."""
    counts = dict.fromkeys("OIKB", 1)
    for letter, size in zip(tensor.use.axes if tensor.use else "", tensor.shape, strict=False):
        counts[letter] *= size
    return counts


def _counted_otherwise(layer: Layer, field: int, groups: int) -> list[tuple[int, int]]:
    """Fans as libraries take them from the dimensions of what they store, which groups and parts do not change."""
    n_in, n_out = layer.n_in, layer.n_out
    if "transpose" in layer.kind:
        return [(n_out, n_in * groups)]  # torch's second dimension, and Keras' last but one, are outputs here
    fans = []
    if groups > 1 and "conv" in layer.kind:
        fans.append((n_in, n_out * groups))  # torch and Keras: all outputs, whatever their group
        if n_in == field:
            fans.append((n_in * groups, n_out))  # Keras' DepthwiseConv2D, whose last dimension is the multiplier
    if layer.part_of is not None and layer.stored is not None:
        whole = _counts(layer.stored)
        if whole["B"] == 1:
            fans.append((whole["I"] * whole["K"], whole["O"] * whole["K"]))
        elif len(layer.stored.shape) == 3:  # taken for a convolution of the first dimension, or of the last two
            stack, first, second = layer.stored.shape
            fans += [(first * second, stack * second), (stack * first, stack * second)]
    return fans


def _matrices(layer: Layer) -> list[Matrix]:
    """The layer's matrix, and the one that it is a block of."""
    own = _matrix(layer.tensor)
    if own is None:
        return []
    matrices = [Matrix(*own, *own)]
    if layer.part_of is not None and layer.stored is not None:
        whole = _matrix(layer.stored)
        if whole is not None and whole[0] >= own[0] and whole[1] >= own[1]:
            matrices.append(Matrix(*whole, *own))
    return matrices


def _matrix(tensor: Tensor) -> tuple[int, int] | None:
    """Rows and columns: torch keeps the first dimension and joins the others, Keras keeps the last."""
    if len(tensor.shape) < 2 or 0 in tensor.shape:
        return None
    if tensor.use is not None and tensor.use.axes.endswith("O"):
        return math.prod(tensor.shape[:-1]), tensor.shape[-1]
    return tensor.shape[0], math.prod(tensor.shape[1:])
