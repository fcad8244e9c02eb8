"""What a tensor is for, told from its name, its shape and the modules beside it, where nothing else says so."""

import math
import re

from weightstats.fused import gates_of
from weightstats.kernels import kernel_use
from weightstats.layer_names import (
    ACTIVATION_MODULE,
    BIAS,
    BUFFERS,
    CAUSAL_MASK,
    CONVOLUTION_LEAF,
    DOWN_MODULE,
    EMBEDDING_MODULE,
    HEAD_MODULE,
    HEADS_APART,
    INPUTS_FIRST,
    KEY_MODULE,
    LINEAR_MODULE,
    LOW_RANK,
    MULTIPLIED,
    NORM_MODULE,
    NOT_EMBEDDING,
    PARAMETERS,
    POSITION_BIAS,
    RECURRENT,
    RECURRENT_KINDS,
    ROUTED,
    WEIGHT_LEAF,
)
from weightstats.surroundings import Shape, Surroundings, Unit, path_of
from weightstats.tensors import Tensor, Use

MOST_KERNEL = 64
"""Positions of a one-dimensional kernel beyond which three dimensions are rather a stack of matrices, where the first
counts experts."""

FEWEST_TOKENS = 8_000
"""Rows of a matrix that make it a vocabulary's table, where its name is not that of an output layer."""


_ANY_BUFFER = re.compile("|".join(f"(?:{pattern})" for pattern, _ in BUFFERS))
_ANY_PARAMETER = re.compile("|".join(f"(?:{pattern})" for pattern, _ in PARAMETERS))


def fixed_use(name: str, tensor: Tensor) -> Use | None:
    """Tensors without elements, buffers, and what is not floating point: by whatever they are used, no layers."""
    if tensor.elements == 0:
        return _other("empty", "has no elements")
    if _ANY_BUFFER.search(name):
        what = next(what for pattern, what in BUFFERS if re.search(pattern, name))
        return _other("buffer", f"{what} by its name, not trained")
    if CAUSAL_MASK.search(name) and len(tensor.shape) >= 2:
        return _other("buffer", "a mask by its name and dimensions, not trained")
    if tensor.dtype.kind in ("float", "complex"):
        return None
    if tensor.dtype.kind == "bool":
        return _other("buffer", "a mask of booleans")
    if tensor.dtype.width == 1 and len(tensor.shape) >= 2:
        return _other("integers", "8-bit integers, perhaps quantised weights: their scale is not known")
    return _other("integers", "integers: a table or a counter, or packed weights of unknown scale")


def use_of(name: str, shape: Shape, around: Surroundings) -> Use:
    """What the tensor is for by its name (at most MOST_NAME characters), its shape and what lies around it."""
    return (
        _by_table(name)
        or _vector(name, shape, around)
        or _normalisation(name, shape, around)
        or _parameter(name, shape, around)
        or _recurrent(name, shape, around)
        or _bilinear(name, shape)
        or _heads_apart(name, shape)
        or _embedding(name, shape, around)
        or _linear(name, shape, around)
        or _stack(name, shape, around)
        or kernel_use(name, shape, around)
    )


def _other(kind: str, reason: str) -> Use:
    return Use(kind, "", reason, by="name")


def _by_table(name: str) -> Use | None:
    """Learned tensors whose name says that they are not layers."""
    if _ANY_PARAMETER.search(name):
        what = next(what for pattern, what in PARAMETERS if re.search(pattern, name))
        return _other("parameter", f"{what}, by its name")
    if BIAS.search(name):
        return _other("bias", "added to a layer's output")
    return None


def _module(name: str) -> tuple[str, str, str]:
    """(path, module, leaf): the module's path and its last part, and what comes after it."""
    path, _, leaf = name.rpartition(".")
    return path, path.rpartition(".")[2] or name, leaf


def _vector(name: str, shape: Shape, around: Surroundings) -> Use | None:
    """Scalars and vectors: a layer's weight has two dimensions or more."""
    if len(shape) >= 2:
        return None
    path, _, leaf = _module(name)
    shapes = around.shapes
    if f"{name.removesuffix('weight_v')}weight_u" in shapes:
        return _other("buffer", "a vector of spectral normalisation by its name, not trained")
    if NORM_MODULE.search(path) or f"{path}.running_mean" in shapes:
        return _other("norm", "scale of a normalisation")
    if ACTIVATION_MODULE.search(path):
        return _other("parameter", "slopes of an activation function")
    if leaf == "weight" and shapes.get(f"{path}.bias") == shape:
        return _other("norm", "scale of a normalisation: a vector beside a bias of its shape")
    what = "a single number" if math.prod(shape) == 1 else "a vector"
    return _other("parameter", f"{what}: no fan-in and fan-out")


def _normalisation(name: str, shape: Shape, around: Surroundings) -> Use | None:
    path, module, leaf = _module(name)
    bias = around.shapes.get(f"{path}.bias" if path else "bias")
    if NORM_MODULE.search(module) and not (bias is not None and bias in (shape[:1], shape[-1:])):
        return _other("norm", "scale of a normalisation, by its module's name")
    if leaf == "weight" and bias == shape:
        return _other("norm", "scale of a normalisation: its bias has its shape")
    return None


def _parameter(name: str, shape: Shape, around: Surroundings) -> Use | None:
    """Learned arrays that nothing shows to be multiplied with an input."""
    if len(shape) > 5:
        return _other("parameter", f"{len(shape)} dimensions: no layer that is known has so many")
    if len(shape) == 2 and _is_routed(name, shape, around):
        what = f"{shape[0]} kernels of a convolution, mixed for each input and stored flat: their form is not known"
        return _other("parameter", what)
    if WEIGHT_LEAF.search(name):
        return None
    if sum(size > 1 for size in shape) < 2:
        return _other("parameter", "a learned vector in an array of more dimensions: no fan-in")
    if len(shape) >= 3 and shape[0] == 1 and not LINEAR_MODULE.search(name):
        return _other("parameter", "one array for every input, as its first dimension is 1, not a module's weight")
    if around.calls_weights_so and not _is_multiplied(name):
        return _other(
            "parameter", "not a module's weight, and nothing in its name says that it is multiplied with an input"
        )
    return None


def _is_multiplied(name: str) -> bool:
    """Whether the last part of a bare parameter's name, or what it lies in, says that it is a matrix of a layer."""
    leaf = name.rpartition(".")[2]
    known = (MULTIPLIED, INPUTS_FIRST, RECURRENT, LOW_RANK)
    return any(pattern.search(leaf) for pattern in known) or any(
        re.search(pattern, name) for pattern, _, _ in HEADS_APART
    )


def _is_routed(name: str, shape: Shape, around: Surroundings) -> bool:
    """Whether it holds as many flattened kernels as the router beside it weighs."""
    parent, _, module = path_of(name).rpartition(".")
    router = around.units.get(f"{parent}.{ROUTED}" if parent else ROUTED)
    return router is not None and module != ROUTED and router.shape[0] == shape[0]


def _recurrent(name: str, shape: Shape, around: Surroundings) -> Use | None:
    """A matrix of a recurrent layer, its gates stacked in the rows."""
    match = RECURRENT.search(name)
    if match is None or len(shape) != 2:
        return None
    if match["of"] == "hr":
        return Use("linear", "OI", "projection of a recurrent layer, by its name", by="name")
    gates = gates_of(name, shape, around)
    kind = RECURRENT_KINDS.get(gates, "recurrent")
    return Use(kind, "OI", "name of a recurrent weight", by="name")


def _bilinear(name: str, shape: Shape) -> Use | None:
    if len(shape) == 3 and name.endswith(".weight") and "bilinear" in name.lower().split(".")[-2]:
        return Use("bilinear", "OII", "its module's name: each output sums the products of two inputs", by="name")
    return None


def _heads_apart(name: str, shape: Shape) -> Use | None:
    """Projections that keep a dimension for the heads."""
    for pattern, axes, origin in HEADS_APART:
        if len(shape) == len(axes) and re.search(pattern, name):
            return Use("linear", axes, f"a projection with its heads apart, by its name ({origin})", by="name")
    return None


def _embedding(name: str, shape: Shape, around: Surroundings) -> Use | None:
    """A table of vectors that are looked up, not multiplied with; such a module has no bias."""
    path, module, leaf = _module(name)
    if len(shape) != 2 or f"{path}.bias" in around.shapes:
        return None
    while module.isdecimal() and "." in path:  # one of a list of tables
        path, module, _ = _module(path)
    if EMBEDDING_MODULE.search(module) and not NOT_EMBEDDING.search(module):
        return Use("embedding", "IO", f"the module's name, {module}", by="name")
    if POSITION_BIAS.search(module) and shape[0] > shape[1]:
        return Use("embedding", "IO", f"the module's name, {module}, and more rows than columns", by="name")
    if module == "query" and around.sibling(path, KEY_MODULE) is None:
        return Use("embedding", "IO", "the module's name, query, without a key beside it", by="name")
    vocabulary = shape[0] >= FEWEST_TOKENS and shape[0] >= 16 * shape[1] and not HEAD_MODULE.search(name)
    if leaf == "weight" and vocabulary and not around.is_repeated(Unit(path_of(name), name, shape)):
        return Use("embedding", "IO", f"{shape[0]:,} rows, as many as a vocabulary has, and no bias", by="shape")
    return None


def _linear(name: str, shape: Shape, around: Surroundings) -> Use | None:
    """A matrix."""
    if len(shape) != 2:
        return None
    leaf = name.rpartition(".")[2]
    bias = around.bias_of(path_of(name))
    if leaf == "kernel":
        return Use("linear", "IO", "a matrix called kernel: input first", by="name")
    if INPUTS_FIRST.search(name):
        return Use("linear", "IO", "a parameter called a projection: input first", by="name")
    if bias == shape[1:] and shape[0] != shape[1]:
        return Use("linear", "IO", "a matrix whose bias has its second size", by="shape")
    because = "a matrix" if WEIGHT_LEAF.search(name) else "a matrix whose name says nothing else"
    if shape[0] == shape[1]:
        return Use("linear", "OI", f"{because}, square, so that either dimension may come first", by="shape")
    by_name = name.endswith("in_proj_weight")
    return Use("linear", "OI", f"{because}, outputs first as torch keeps them", by="name" if by_name else "shape")


def _stack(name: str, shape: Shape, around: Surroundings) -> Use | None:
    """A stack of matrices: three dimensions whose name is not a convolution's, or as many maps as there are experts."""
    if len(shape) != 3:
        return None
    path = path_of(name)
    count = around.expert_count(path)
    experts = count == shape[0] > 1
    bias = around.bias_of(path)
    if bias == shape[2:] and shape[2] not in shape[:2]:
        what = f"a stack of {shape[0]} matrices, as its bias has the last size"
        return Use("linear", "BIO", what, by="shape")
    if CONVOLUTION_LEAF.search(name) and not (
        experts and (shape[2] > MOST_KERNEL or LINEAR_MODULE.search(path.rpartition(".")[2]))
    ):
        return None
    key = path.rpartition(".")[0], shape, bias, DOWN_MODULE.search(path.rpartition(".")[2]) is None
    if key not in around.orientations:
        around.orientations[key] = _orientation(path, shape, around)
    axes, evidence = around.orientations[key]
    what = f"{shape[0]} experts, as many as the router chooses from" if experts else f"a stack of {shape[0]} matrices"
    return Use("linear", axes, f"{what}; {evidence}", by="shape")


def _orientation(path: str, shape: Shape, around: Surroundings) -> tuple[str, str]:
    """Whether a stack's maps have their outputs or their inputs first, by its bias, the module that continues it, or
    the width of the network around it."""
    _, first, second = shape
    bias = around.bias_of(path)
    if bias is not None and first != second and bias[-1:] in ((first,), (second,)):
        return _outputs_first(bias[-1] == first, "as its bias has")
    for other in around.beside(path):
        if len(other.shape) != 3 or other.shape[0] != shape[0]:
            continue
        up, down = sorted((shape[1:], other.shape[1:]), key=math.prod, reverse=True)
        # a gated unit gives out twice what the other takes
        as_torch = up[0] == 2 * down[1] and up[1] == down[0]
        turned = up[1] == 2 * down[0] and up[0] == down[1]
        if as_torch != turned:
            return _outputs_first(as_torch, f"by the sizes of {other.path.rpartition('.')[2]} beside it")
    width = around.router_width(path)
    if width is not None and first != second and width in (first, second):
        gives_width = DOWN_MODULE.search(path.rpartition(".")[2]) is not None
        return _outputs_first((width == first) == gives_width, f"by the {width} channels that the router takes")
    return _outputs_first(True, "as most keep them")


def _outputs_first(is_so: bool, evidence: str) -> tuple[str, str]:
    return ("BOI", f"outputs first, {evidence}") if is_so else ("BIO", f"inputs first, {evidence}")
