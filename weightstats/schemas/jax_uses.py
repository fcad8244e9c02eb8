"""What arrays of JAX libraries are used for, where their names and the shapes beside them leave one reading only.

Flax: https://flax.readthedocs.io/en/latest/api_reference/flax.linen/layers.html; Haiku:
https://dm-haiku.readthedocs.io/en/latest/api.html. Both put the inputs before the outputs, in convolutions behind the
positions. Kernels with one dimension of inputs and one of outputs are known by their name elsewhere and left out here.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from weightstats.schemas.gates import BLOCKED, KERAS, gates
from weightstats.tensors import Use

Path: TypeAlias = tuple[str, ...]
Shape: TypeAlias = tuple[int, ...]

_ATTENTION = {"query": "IOO", "key": "IOO", "value": "IOO", "out": "IIO"}
"""Projections of flax.linen.MultiHeadDotProductAttention: (embedding, heads, size of a head), and back."""


_CELLS = {
    "lstm": tuple(f"{of}{gate}" for of in "ih" for gate in "ifgo"),
    "gru": tuple(f"{of}{gate}" for of in "ih" for gate in "rzn"),
}
"""The matrices of flax.linen.LSTMCell, OptimizedLSTMCell and GRUCell, one for each gate."""

_HAIKU_LSTM = re.compile(r"(^|/)(\w*_)?lstm(_\d+)?/(~/)?linear$")
"""Haiku's LSTM, whose linear layer is given the inputs and the hidden state side by side."""

_LONGEST_NAME = 256


def uses_of(shapes: Mapping[Path, Shape]) -> dict[Path, Use]:
    """The use of each array for which one is certain, by its path."""
    found: dict[Path, Use] = {}
    for path, shape in shapes.items():
        use = None
        module, leaf = path[-2:-1], path[-1:]
        if leaf == ("kernel",):
            bias = shapes.get((*path[:-1], "bias"))
            use = (
                _cell(path, shape, shapes)
                or _attention(path, shape, shapes)
                or _transposed(module, shape, bias)
                or _kernel(shape, bias)
            )
        elif leaf == ("w",):
            use = _haiku_lstm(path, shape) or _haiku(shape, shapes.get((*path[:-1], "b")))
        elif leaf in (("w_i",), ("w_h",)):
            use = _haiku_gru(path, shape, shapes)
        elif leaf == ("embedding",) and module and len(shape) == 2:
            use = Use("embedding", "IO", "the table of flax.linen.Embed, by its name")
        if use is not None:
            found[path] = replace(use, by="name")
    return found


def _cell(path: Path, shape: Shape, shapes: Mapping[Path, Shape]) -> Use | None:
    """A matrix of one gate of a recurrent cell, beside those of all others."""
    if len(path) < 2 or len(shape) != 2:
        return None
    for kind, modules in _CELLS.items():
        if path[-2] in modules:
            beside = [shapes.get((*path[:-2], module, "kernel")) for module in modules]
            if all(other is not None and len(other) == 2 and other[-1] == shape[-1] for other in beside):
                return Use(kind, "IO", f"the {path[-2]} of a recurrent cell, beside its other gates")
    return None


def _haiku_lstm(path: Path, shape: Shape) -> Use | None:
    """The one matrix of Haiku's LSTM: (inputs and hidden state, gates of outputs)."""
    if len(shape) != 2 or not _HAIKU_LSTM.search("/".join(path[:-1])[-_LONGEST_NAME:]):
        return None
    parts = gates(BLOCKED["lstm"], 1, shape[1]) if shape[0] * 4 > shape[1] else ()
    return Use("lstm", "IO", "its module's name: the linear layer of Haiku's LSTM", parts=parts) if parts else None


def _haiku_gru(path: Path, shape: Shape, shapes: Mapping[Path, Shape]) -> Use | None:
    """A matrix of Haiku's GRU, beside the other."""
    hidden = shapes.get((*path[:-1], "w_h"), ())
    beside = shapes.get((*path[:-1], "w_i"), ())
    if len(hidden) != 2 or len(beside) != 2 or beside[1] != hidden[1] or hidden[0] * 3 != hidden[1]:
        return None
    return Use("gru", "IO", "its name beside the other matrix of Haiku's GRU", parts=gates(KERAS["gru"], 1, shape[1]))


def _attention(path: Path, shape: Shape, shapes: Mapping[Path, Shape]) -> Use | None:
    """A projection of attention with several heads, beside the other three; with one dimension more, a stack."""
    if len(path) < 2 or path[-2] not in _ATTENTION or len(shape) not in (3, 4):
        return None
    beside = [shapes.get((*path[:-2], name, "kernel")) for name in _ATTENTION]
    if any(other is None or len(other) != len(shape) for other in beside):
        return None
    axes = "B" * (len(shape) - 3) + _ATTENTION[path[-2]]
    return Use("linear", axes, f"the {path[-2]} of an attention, beside {', '.join(set(_ATTENTION) - {path[-2]})}")


def _transposed(module: Path, shape: Shape, bias: Shape | None) -> Use | None:
    """A kernel of flax.linen.ConvTranspose: (positions, in, out), or (positions, out, in) with `transpose_kernel`."""
    if not module or not module[0].startswith("ConvTranspose") or len(shape) not in (3, 4, 5):
        return None
    turned = bias == (shape[-2],) != (shape[-1],)
    axes = "K" * (len(shape) - 2) + ("OI" if turned else "IO")
    return Use(f"conv_transpose{len(shape) - 2}d", axes, "its module's name, ConvTranspose")


def _kernel(shape: Shape, bias: Shape | None) -> Use | None:
    """A kernel of Flax whose bias shows that it has two dimensions of outputs, or is a stack."""
    if bias is None or len(bias) != 2:
        return None
    several, stack = bias == shape[1:], bias == (shape[0], shape[-1])
    if len(shape) == 3 and several != stack:
        axes = "IOO" if several else "BIO"
        return Use("linear", axes, f"its bias has the shape {bias}")
    if len(shape) in (5, 6) and stack:
        return Use(f"conv{len(shape) - 3}d", "B" + "K" * (len(shape) - 3) + "IO", f"its bias has the shape {bias}")
    return None


def _haiku(shape: Shape, bias: Shape | None) -> Use | None:
    """A convolution of Haiku, (positions, in, out), or transposed (positions, out, in), by the size of its bias.

    A torch convolution that somebody called `w` has its outputs first.
    """
    if (
        bias is None
        or len(shape) not in (4, 5)
        or [size for size in bias if size != 1] not in ([shape[-1]], [shape[-2]])
    ):
        return None
    outputs = max(bias)
    if outputs in shape[:-2]:
        return None
    positions = len(shape) - 2
    if outputs == shape[-1]:
        return Use(f"conv{positions}d", "K" * positions + "IO", f"its bias b has its last size, {outputs:,}")
    return Use(
        f"conv_transpose{positions}d", "K" * positions + "OI", f"its bias b has its last size but one, {outputs:,}"
    )
