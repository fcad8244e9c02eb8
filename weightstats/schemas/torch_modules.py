"""What the class of a torch module says of its parameters and buffers. Classes of other libraries are known by name.

Source: torch.nn; the shapes of its parameters are those that its documentation gives.
"""

import re

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import type_before_parametrizations

from weightstats.schemas.gates import TORCH, gates
from weightstats.tensors import Use

RECURRENT_LEAF = re.compile(r"(?P<what>weight|bias)_(?P<of>ih|hh|hr)(_l\d+(_reverse)?)?$")

ADAPTERS = re.compile(
    r"(^|\.)(lora_(A|B|embedding_A|embedding_B|magnitude_vector)|vera_lambda_[bd]|hada_\w+|lokr_\w+)\b"
)
"""Parts of a module's name in peft: a linear layer of that name is a factor of an adapter."""

NORM_CLASS = re.compile(r"Norm(Act|Gated)?(\d+|\dd)?(_\w+|Fp32|FP32|BF16|NoWeight)?$|(?i:^(rms|layer|group|batch)norm)")
"""Names of normalisations' classes in transformers, timm, diffusers, torchvision and apex (LlamaRMSNorm, LayerNorm2d,
FrozenBatchNorm2d, BatchNormAct2d, LayerNormFp32)."""

CONVOLUTION_CLASSES = ("DeformConv2d",)
"""Convolutions with torch's attributes that are no subclass of torch's: torchvision."""


def class_names(module: nn.Module) -> tuple[str, ...]:
    """The name of a module's class and of those that it derives from, as they were before it was parametrized."""
    own = type_before_parametrizations(module)
    return tuple(base.__name__ for base in own.__mro__ if base not in (nn.Module, object))


def class_name(module: nn.Module) -> str:
    """The name of a module's class, as it was written."""
    return str(type_before_parametrizations(module).__name__)


def is_norm(module: nn.Module) -> bool:
    """Whether a module's class is a normalisation, by what it derives from or by its name."""
    torch_norms = (_NormBase, nn.LayerNorm, nn.GroupNorm)
    return isinstance(module, torch_norms) or any(NORM_CLASS.search(name) for name in class_names(module))


def use_of(module: nn.Module, leaf: str, tensor: torch.Tensor) -> Use | None:
    """What the module's attribute `leaf`, which `tensor` is the value of, is for; None where its class does not tell.

    A class is believed only where the tensor has the shape that the class gives it.
    """
    shape = tuple(tensor.shape)
    because = f"the module's class, {class_name(module)}"
    use = _layer(module, leaf, shape, because)
    if use is not None:
        is_number = tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized
        return use if is_number else None
    return _other(module, leaf, shape)


def _layer(module: nn.Module, leaf: str, shape: tuple[int, ...], because: str) -> Use | None:
    """The use of a weight that is multiplied with an input."""
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return _recurrent(module, leaf, shape, because)
    if isinstance(module, nn.MultiheadAttention):
        return _attention(module, leaf, shape, because)
    if leaf != "weight":
        return None
    if isinstance(module, nn.Bilinear):
        fits = shape == (module.out_features, module.in1_features, module.in2_features)
        return Use("bilinear", "OII", because, by="module") if fits else None
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        fits = shape == (module.num_embeddings, module.embedding_dim)
        return Use("embedding", "IO", because, by="module") if fits else None
    if isinstance(module, _ConvNd) or class_name(module) in CONVOLUTION_CLASSES:
        return _convolution(module, shape, because)
    names = class_names(module)
    if "Conv1D" in names:  # transformers: a linear layer whose weight is the transposed one
        fits = len(shape) == 2 and shape[1] == getattr(module, "nf", None)
        return Use("linear", "IO", because, by="module") if fits else None
    if any("Linear" in name for name in names):
        fits = shape == (getattr(module, "out_features", None), getattr(module, "in_features", None))
        return Use("linear", "OI", because, by="module") if fits else None
    return None


def _convolution(module: nn.Module, shape: tuple[int, ...], because: str) -> Use | None:
    n_in, n_out, groups = (getattr(module, name, 0) for name in ("in_channels", "out_channels", "groups"))
    dimensions = len(shape) - 2
    is_transposed = isinstance(module, _ConvTransposeNd)
    if not groups or shape[:2] != ((n_in, n_out // groups) if is_transposed else (n_out, n_in // groups)):
        return None
    if is_transposed:
        return Use(f"conv_transpose{dimensions}d", f"IO{'K' * dimensions}", because, groups, by="module")
    kind = f"depthwise_conv{dimensions}d" if groups == n_in > 1 else f"conv{dimensions}d"
    return Use(kind, f"OI{'K' * dimensions}", because, groups, by="module")


def _recurrent(module: nn.RNNBase | nn.RNNCellBase, leaf: str, shape: tuple[int, ...], because: str) -> Use | None:
    match = RECURRENT_LEAF.search(leaf)
    mode = str(getattr(module, "mode", "")) or "".join(class_names(module))
    kind = next((kind for kind in TORCH if kind.upper() in mode), None)
    if match is None or match["what"] != "weight" or kind is None or len(shape) != 2:
        return None
    hidden = module.hidden_size
    if match["of"] == "hr":
        fits = shape == (getattr(module, "proj_size", 0), hidden)
        return Use("linear", "OI", f"{because}: the projection of its state", by="module") if fits else None
    if shape[0] != len(TORCH[kind]) * hidden:
        return None
    return Use(kind, "OI", because, by="module", parts=gates(TORCH[kind], 0, shape[0]))


def _attention(module: nn.MultiheadAttention, leaf: str, shape: tuple[int, ...], because: str) -> Use | None:
    size = module.embed_dim
    if leaf == "in_proj_weight" and shape == (3 * size, size):
        return Use("linear", "OI", because, by="module", parts=gates(("q", "k", "v"), 0, 3 * size))
    if leaf in ("q_proj_weight", "k_proj_weight", "v_proj_weight") and len(shape) == 2 and shape[0] == size:
        return Use("linear", "OI", because, by="module")
    return None


def _other(module: nn.Module, leaf: str, shape: tuple[int, ...]) -> Use | None:
    """The use of what is not multiplied with an input."""
    name = class_name(module)
    is_buffer = leaf in module._buffers
    if is_norm(module):
        if is_buffer:
            return Use("buffer", "", f"kept by the normalisation {name}, not trained", by="module")
        if isinstance(module, nn.LayerNorm) or sum(size > 1 for size in shape) < 2:
            what = "bias" if "bias" in leaf else "norm"
            because = f"{'shift' if what == 'bias' else 'scale'} of the normalisation {name}"
            return Use(what, "", because, by="module")
        return None
    if isinstance(module, nn.PReLU):
        return Use("parameter", "", "slopes of an activation function", by="module")
    if isinstance(module, nn.MultiheadAttention) and leaf in ("bias_k", "bias_v"):
        return Use("parameter", "", f"appended to the {'keys' if leaf == 'bias_k' else 'values'}", by="module")
    if leaf == "in_proj_bias" and isinstance(module, nn.MultiheadAttention):
        return Use("bias", "", "added to a layer's output", by="module")
    if leaf.startswith("bias") and _layer_class(module):
        return Use("bias", "", "added to a layer's output", by="module")
    return None


def _layer_class(module: nn.Module) -> bool:
    known = (nn.Linear, nn.Bilinear, _ConvNd, nn.RNNBase, nn.RNNCellBase)
    return isinstance(module, known) or any("Linear" in name or name == "Conv1D" for name in class_names(module))


def buffer_use(module: nn.Module, tensor: torch.Tensor) -> Use | None:
    """The use of a buffer of which the module's class says nothing else; None for integers, which may be weights."""
    if tensor.is_floating_point() or tensor.is_complex():
        return Use("buffer", "", f"a buffer of {class_name(module)}: not trained", by="module")
    return None
