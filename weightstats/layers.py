"""What each tensor of a network is: a layer with its fans, or something else, and why.

The decision rests on names and shapes; the names are in `layer_names`, and the first table that matches decides.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from weightstats.layer_names import (
    ACTIVATION_MODULE,
    BIAS,
    BUFFERS,
    CAUSAL_MASK,
    CONVOLUTION_LEAF,
    DEPTHWISE,
    DIRECTION,
    EMBEDDING_MODULE,
    LOW_RANK,
    NORM_MODULE,
    PARAMETERS,
    RECURRENT,
    RECURRENT_KINDS,
    TRANSPOSED,
    WEIGHT_LEAF,
)
from weightstats.network import Named, Network
from weightstats.tensors import Tensor, part_of

FansFrom: TypeAlias = Literal["module", "graph", "name", "shape", "rule"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A weight with a fan-in and a fan-out. A convolution's receptive field counts in both."""

    name: str
    kind: str
    tensor: Tensor
    n_in: int
    n_out: int
    fans_from: FansFrom
    because: str
    """How the kind was decided."""

    left_out_because: str | None = None
    """Why the fit leaves the layer out, None where it does not."""

    tied_to: tuple[str, ...] = ()
    """Other names of the same stored tensor."""

    part_of: str | None = None
    """The name of the stored tensor, where the layer is one of the maps that are fused in it."""

    stored: Tensor | None = None
    """What lies in the file, where that is not `tensor`: the whole of a part, the codes of a quantised weight."""

    scale_free: str = ""
    """Why its scale does not change what the network computes, where that is so."""

    merged: Tensor | None = None
    """The weight with its low-rank adapter added, where both are in the file."""

    merged_because: str = ""


@dataclass(frozen=True, slots=True)
class Other:
    """A tensor that is not a layer."""

    name: str
    kind: str
    tensor: Tensor
    reason: str
    stored: Tensor | None = None
    """What lies in the file, where that is not `tensor`."""


MOST_NAME = 256
"""Characters at the end of a name that the tables are tried on: their patterns take quadratic time on hostile names."""

MOST_MULTIPLIER = 2
"""Outputs for each input channel of a depthwise convolution that are believed without a graph to show them."""

EMBEDDING_LEFT_OUT = "an embedding: a vocabulary is not a fan-in"
LOW_RANK_LEFT_OUT = "one factor of a low-rank adapter: only the product is a weight"
DIRECTION_LEFT_OUT = "the direction of a weight normalisation: its scale is not the weight's"
COMPLEX_LEFT_OUT = "complex weights: the law speaks of real ones"


def classify(network: Network, *, as_stored: bool = False) -> tuple[Layer | Other, ...]:
    """Every tensor of the network, in its order; a tensor that is stored once under several names is one layer.

    A weight that holds several maps is one layer a map, `NAME[part]`, unless `as_stored`.
    """
    shapes = {named.known_as or named.name: named.tensor.shape for named in network.tensors}
    first_name: dict[tuple[object, ...], str] = {}
    names: dict[str, list[str]] = {}
    result: list[Layer | Other] = []
    channels: dict[int, int] = {}
    for named in network.tensors:
        first = first_name.setdefault(named.tensor.view, named.name) if named.tensor.elements else named.name
        if first != named.name:
            names.setdefault(first, []).append(named.name)
            result.append(Other(named.name, "tied", named.tensor, f"the same stored tensor as {first}", named.stored))
            continue
        item = _classified(named, shapes, channels)
        if isinstance(item, Layer) and "conv" in item.kind:
            channels[len(named.tensor.shape)] = _outputs(named)
        item = _with_origin(item, named)
        result += _split(item, as_stored=as_stored) if isinstance(item, Layer) else [item]
    return tuple(_tied(item, names) for item in result)


def _with_origin(item: Layer | Other, named: Named) -> Layer | Other:
    """What the tables made of the name that tells, under the name that the file has."""
    if isinstance(item, Other):
        return replace(item, name=named.name, stored=named.stored)
    because = f"{item.because}; {named.because}" if named.because else item.because
    return replace(
        item,
        name=named.name,
        because=because,
        stored=named.stored,
        merged=named.merged,
        merged_because=named.merged_because,
    )


def _split(layer: Layer, *, as_stored: bool) -> list[Layer | Other]:
    """The maps that are fused in a layer's weight, or the layer."""
    use = layer.tensor.use
    if as_stored or use is None or not use.parts:
        return [layer]
    parts: list[Layer | Other] = []
    for part in use.parts:
        tensor = part_of(layer.tensor, part.slices)
        made = _by_use(Named(layer.name, tensor))
        if made is None:
            return [layer]
        parts.append(
            replace(
                layer,
                name=f"{layer.name}[{part.name}]",
                tensor=tensor,
                n_in=made.n_in,
                n_out=made.n_out,
                part_of=layer.name,
                stored=layer.stored or layer.tensor,
                merged=None if layer.merged is None else part_of(layer.merged, part.slices),
            )
        )
    return parts


def _tied(item: Layer | Other, names: dict[str, list[str]]) -> Layer | Other:
    """The item with the other names of its stored tensor."""
    if not isinstance(item, Layer) or (item.part_of or item.name) not in names:
        return item
    part = item.name.removeprefix(item.part_of) if item.part_of is not None else ""
    return replace(item, tied_to=tuple(f"{name}{part}" for name in names[item.part_of or item.name]))


def _outputs(named: Named) -> int:
    """The channels that a convolution gives out."""
    use, shape = named.tensor.use, named.tensor.shape
    if use is not None and len(use.axes) == len(shape):
        return math.prod(size for letter, size in zip(use.axes, shape, strict=True) if letter == "O")
    return shape[-1] if named.name.endswith("kernel") else shape[0]


def _classified(named: Named, shapes: dict[str, tuple[int, ...]], channels: dict[int, int]) -> Layer | Other:
    """One tensor; `channels` are those that the last convolution of so many dimensions gave out."""
    name, tensor = named.known_as or named.name, named.tensor
    if tensor.use is not None and not tensor.use.axes and tensor.elements:
        return Other(name, tensor.use.kind, tensor, tensor.use.because)
    if named.known_as or len(name) > MOST_NAME:
        return replace(_classified(Named(name[-MOST_NAME:], tensor), shapes, channels), name=name)
    other = _stored_otherwise(named)
    item = other or _by_use(named) or _by_table(named) or _vector(named, shapes)
    if item is not None:
        return item
    path, _, leaf = name.rpartition(".")
    module = path.rpartition(".")[2] or name
    bias = shapes.get(f"{path}.bias" if path else "bias")
    dimensions = len(tensor.shape)
    if dimensions > 5:
        return Other(name, "parameter", tensor, f"{dimensions} dimensions: no layer that is known has so many")
    if NORM_MODULE.search(module):
        return Other(name, "norm", tensor, "scale of a normalisation, by its module's name")
    if leaf == "weight" and bias == tensor.shape:
        return Other(name, "norm", tensor, "scale of a normalisation: its bias has its shape")
    if not WEIGHT_LEAF.search(name) and sum(size > 1 for size in tensor.shape) < 2:
        return Other(name, "parameter", tensor, "a learned vector in an array of more dimensions: no fan-in")
    layer = _recurrent(named, shapes) or _embedding(named, module, bias) or _linear(named, bias)
    layer = layer or _convolution(named, channels.get(dimensions))
    if tensor.dtype.kind == "complex":
        return replace(layer, left_out_because=COMPLEX_LEFT_OUT)
    if LOW_RANK.search(name):
        return replace(layer, kind="low_rank", left_out_because=LOW_RANK_LEFT_OUT)
    if DIRECTION.search(name):
        return replace(layer, left_out_because=DIRECTION_LEFT_OUT)
    return layer


def _stored_otherwise(named: Named) -> Other | None:
    """Tensors without elements, buffers, and what is not floating point."""
    name, tensor = named.name, named.tensor
    if tensor.elements == 0:
        return Other(name, "empty", tensor, "has no elements")
    for pattern, what in BUFFERS:
        if re.search(pattern, name):
            return Other(name, "buffer", tensor, f"{what} by its name, not trained")
    if CAUSAL_MASK.search(name) and len(tensor.shape) >= 2:
        return Other(name, "buffer", tensor, "a mask by its name and dimensions, not trained")
    if tensor.dtype.kind in ("float", "complex"):
        return None
    if tensor.dtype.kind == "bool":
        return Other(name, "buffer", tensor, "a mask of booleans")
    if tensor.dtype.width == 1 and len(tensor.shape) >= 2:
        return Other(name, "integers", tensor, "8-bit integers, perhaps quantised weights: their scale is not known")
    return Other(name, "integers", tensor, "integers: a table or a counter, or packed weights of unknown scale")


def _by_use(named: Named) -> Layer | None:
    """What the file itself says that the tensor is for."""
    name, tensor, use = named.name, named.tensor, named.tensor.use
    if use is None or len(use.axes) != len(tensor.shape):
        return None
    counts = dict.fromkeys("OIKB", 1)
    for letter, size in zip(use.axes, tensor.shape, strict=True):
        counts[letter] *= size
    n_in, n_out = counts["I"] * counts["K"], counts["O"] * counts["K"]
    if "transpose" in use.kind:
        n_in //= use.groups
    else:
        n_out //= use.groups
    left_out = EMBEDDING_LEFT_OUT if use.kind == "embedding" else None
    if tensor.dtype.kind == "complex":
        left_out = COMPLEX_LEFT_OUT
    return Layer(
        name, use.kind, tensor, n_in, n_out, use.by, use.because, left_out_because=left_out, scale_free=use.scale_free
    )


def _by_table(named: Named) -> Other | None:
    """Learned tensors whose name says that they are not layers."""
    name, tensor = named.name, named.tensor
    for pattern, what in PARAMETERS:
        if re.search(pattern, name):
            return Other(name, "parameter", tensor, f"{what}, by its name")
    if BIAS.search(name):
        return Other(name, "bias", tensor, "added to a layer's output")
    return None


def _vector(named: Named, shapes: dict[str, tuple[int, ...]]) -> Other | None:
    """Scalars and vectors: a layer's weight has two dimensions or more."""
    name, tensor = named.name, named.tensor
    if len(tensor.shape) >= 2:
        return None
    module, _, leaf = name.rpartition(".")
    if f"{name.removesuffix('weight_v')}weight_u" in shapes:
        return Other(name, "buffer", tensor, "a vector of spectral normalisation by its name, not trained")
    if NORM_MODULE.search(module) or f"{module}.running_mean" in shapes:
        return Other(name, "norm", tensor, "scale of a normalisation")
    if ACTIVATION_MODULE.search(module):
        return Other(name, "parameter", tensor, "slopes of an activation function")
    if leaf == "weight" and shapes.get(f"{module}.bias") == tensor.shape:
        return Other(name, "norm", tensor, "scale of a normalisation: a vector beside a bias of its shape")
    what = "a single number" if tensor.elements == 1 else "a vector"
    return Other(name, "parameter", tensor, f"{what}: no fan-in and fan-out")


def _recurrent(named: Named, shapes: dict[str, tuple[int, ...]]) -> Layer | None:
    """A matrix of a recurrent layer, its gates stacked in the rows."""
    name, tensor = named.name, named.tensor
    match = RECURRENT.search(name)
    if match is None or len(tensor.shape) != 2:
        return None
    rows, columns = tensor.shape
    if match["of"] == "hr":
        return Layer(name, "linear", tensor, columns, rows, "name", "projection of a recurrent layer")
    if (projection := name.replace(f"weight_{match['of']}", "weight_hr")) in shapes:
        hidden = shapes[projection][-1]
    else:
        hidden = shapes.get(name.replace("weight_ih", "weight_hh"), tensor.shape)[-1]
    gates = rows // hidden if hidden and rows % hidden == 0 else 0
    kind = RECURRENT_KINDS.get(gates, "recurrent")
    because = f"name of a recurrent weight; {gates} gates of {hidden}" if gates else "name of a recurrent weight"
    return Layer(name, kind, tensor, columns, rows, "name", because)


def _embedding(named: Named, module: str, bias: tuple[int, ...] | None) -> Layer | None:
    """A table of vectors that are looked up, not multiplied with; such a module has no bias."""
    name, tensor = named.name, named.tensor
    if len(tensor.shape) != 2 or not EMBEDDING_MODULE.search(module) or bias is not None:
        return None
    rows, columns = tensor.shape
    because = f"the module's name, {module}"
    return Layer(name, "embedding", tensor, rows, columns, "name", because, left_out_because=EMBEDDING_LEFT_OUT)


def _linear(named: Named, bias: tuple[int, ...] | None) -> Layer | None:
    """A matrix, or a stack of matrices whose name is not a convolution's."""
    name, tensor = named.name, named.tensor
    leaf = name.rpartition(".")[2]
    if len(tensor.shape) == 2:
        rows, columns = tensor.shape
        if leaf == "kernel":
            return Layer(name, "linear", tensor, rows, columns, "name", "a matrix called kernel: input first")
        if bias == (columns,) and rows != columns:
            return Layer(name, "linear", tensor, rows, columns, "shape", "a matrix whose bias has its second size")
        because = "a matrix" if WEIGHT_LEAF.search(name) else "a matrix whose name says nothing else"
        return Layer(name, "linear", tensor, columns, rows, "shape", because)
    if len(tensor.shape) == 3 and not CONVOLUTION_LEAF.search(name):
        n_out, n_in = tensor.shape[1:]
        return Layer(name, "linear", tensor, n_in, n_out, "shape", f"a stack of {tensor.shape[0]} matrices")
    return None


def _convolution(named: Named, channels: int | None) -> Layer:
    """A convolution's kernel: torch's (out, in/groups, ...), or (..., in, out) where Keras and JAX call it kernel."""
    name, tensor = named.name, named.tensor
    shape = (*tensor.shape[:-3:-1], *tensor.shape[:-2]) if name.endswith("kernel") else tensor.shape
    n_out, n_in, field = shape[0], shape[1], math.prod(shape[2:])
    kind = f"conv{len(shape) - 2}d"
    if TRANSPOSED.search(name):
        return Layer(name, f"conv_transpose{kind[4:]}", tensor, n_out * field, n_in * field, "name", "its name")
    if n_in == 1 and n_out > 1:
        follows = channels is not None and channels > 1 and n_out in (channels, MOST_MULTIPLIER * channels)
        per_group = n_out // channels * field if follows and channels is not None else field
        if DEPTHWISE.search(name):
            because = "its name, and one input channel"
            return Layer(name, f"depthwise_{kind}", tensor, field, per_group, "name", because)
        if follows:
            because = f"one input channel after a convolution of {channels}: one group a channel"
            return Layer(name, f"depthwise_{kind}", tensor, field, per_group, "shape", because)
    return Layer(name, kind, tensor, n_in * field, n_out * field, "shape", f"{len(shape)} dimensions")


def layers_of(items: Sequence[Layer | Other]) -> tuple[Layer, ...]:
    """The layers among them."""
    return tuple(item for item in items if isinstance(item, Layer))
