"""What each tensor of a network's state dict is, as the classes of its live modules say; written without weightstats.

An oracle for what weightstats makes of a file (names and shapes) and of a live module. It imports torch and nothing of
the package; classes of other libraries are known by their names.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from bare_parameters import bare
from torch import nn

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}
"""As safetensors writes them."""

NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
)

CONVOLUTIONS = {
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Conv3d: "conv3d",
    nn.ConvTranspose1d: "conv_transpose1d",
    nn.ConvTranspose2d: "conv_transpose2d",
    nn.ConvTranspose3d: "conv_transpose3d",
}

GATES = {"LSTM": ("lstm", 4), "LSTMCell": ("lstm", 4), "GRU": ("gru", 3), "GRUCell": ("gru", 3)}
"""Of torch's recurrent classes, the kind and the maps that are stacked in a matrix; one for the others."""


@dataclass(frozen=True, slots=True)
class Truth:
    """One entry of a state dict."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    tie: str | None
    """The first name of the same storage, offset and strides, where that is another."""

    owner: str
    """The class of the module whose parameter or buffer it is."""

    bases: tuple[str, ...]
    """Names of the classes that the owner derives from, without object and nn.Module."""

    parent: str
    """The class of the module that holds the owner."""

    kind: str
    """weightstats' word for a layer; "bias", "norm", "buffer", "not a layer" or "unknown" otherwise."""

    n_in: int | None = None
    n_out: int | None = None
    """Of the stored tensor as a whole: of all gates, of all maps of a fused projection."""

    axes: str = ""
    """Of a layer's dimensions: O outputs, I inputs (of a table its rows), K positions, B stacked maps."""

    note: str = ""


def truths(model: nn.Module) -> Iterator[Truth]:
    """Every tensor of the state dict, in its order."""
    modules = dict(model.named_modules(remove_duplicate=False))
    first: dict[object, str] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, torch.Tensor):
            continue
        tie = first.setdefault(_place(value), name)
        path, leaf = _owner_of(name, modules)
        owner = modules[path]
        parent = modules.get(path.rpartition(".")[0], owner)
        kind, n_in, n_out, axes, note = _kind(owner, leaf, value, path, modules)
        yield Truth(
            name=name,
            shape=tuple(value.shape),
            dtype=DTYPES.get(value.dtype, str(value.dtype)),
            tie=None if tie == name else tie,
            owner=type(owner).__name__,
            bases=tuple(c.__name__ for c in type(owner).__mro__[1:] if c not in (object, nn.Module)),
            parent=type(parent).__name__,
            kind=kind,
            n_in=n_in,
            n_out=n_out,
            axes=axes,
            note=note,
        )


def dump(name: str, library: str, model: nn.Module, tensors: Iterable[Truth], config: Any = None) -> dict[str, Any]:
    """All of a model, for JSON."""
    return {
        "name": name,
        "library": library,
        "class": type(model).__name__,
        "config": config,
        "tensors": [asdict(truth) for truth in tensors],
    }


def _place(value: torch.Tensor) -> object:
    """Equal for two tensors that are the same stored elements; on the meta device, the same object."""
    if value.device.type == "meta" or value.numel() == 0:
        return id(value)
    return value.untyped_storage().data_ptr(), value.storage_offset(), value.stride(), value.shape


def _owner_of(name: str, modules: dict[str, nn.Module]) -> tuple[str, str]:
    """The longest module path that the name starts with, and the rest."""
    path = name
    while path:
        path = path.rpartition(".")[0]
        if path in modules:
            return path, name[len(path) + 1 :] if path else name
    return "", name


Kind = tuple[str, int | None, int | None, str, str]


def _kind(owner: nn.Module, leaf: str, value: torch.Tensor, path: str, modules: dict[str, nn.Module]) -> Kind:
    """Kind, n_in, n_out, axes and a note."""
    if type(owner).__name__ == "ParametrizationList":
        holder, _, attribute = path.rpartition("parametrizations.")
        return _parametrized(modules[holder.removesuffix(".")], attribute, leaf, value)
    if not isinstance(value, nn.Parameter):
        return "buffer", None, None, "", ""
    if value.numel() == 0:
        return "not a layer", None, None, "", "it has no elements"
    if isinstance(owner, NORMS):
        return "norm", None, None, "", ""
    if leaf == "weight_g" and hasattr(owner, "weight_v"):
        return "not a layer", None, None, "", "the length of a weight normalisation"
    if leaf in ("weight_v", "weight_orig"):  # torch.nn.utils.weight_norm and spectral_norm
        leaf = "weight"
    return _of_layer(owner, leaf, value)


def _parametrized(holder: nn.Module, attribute: str, leaf: str, value: torch.Tensor) -> Kind:
    """What torch.nn.utils.parametrizations store in place of an attribute."""
    if leaf == "original0":
        return "not a layer", None, None, "", "the length of a weight normalisation"
    if leaf in ("original", "original1"):
        return _of_layer(holder, attribute, value)
    return "buffer", None, None, "", "of a parametrisation"


def _of_layer(owner: nn.Module, leaf: str, value: torch.Tensor) -> Kind:
    names = {c.__name__ for c in type(owner).__mro__}
    for maker in (_convolution, _dense, _recurrent, _attention):
        kind = maker(owner, leaf, names)
        if kind is not None:
            return kind
    if value.dim() < 2:
        return "not a layer", None, None, "", "a vector"
    return _bare(owner, leaf, value)


def _bare(owner: nn.Module, leaf: str, value: torch.Tensor) -> Kind:
    """A parameter that the module holds itself."""
    name = type(owner).__name__
    if name == "CondConv2d" and leaf == "weight":  # timm: a stack of kernels, each flattened
        field = math.prod(owner.kernel_size)
        fans = owner.in_channels // owner.groups * field, owner.out_channels // owner.groups * field
        kind = "depthwise_conv2d" if owner.groups == owner.in_channels > 1 else "conv2d"
        return kind, *fans, "", f"{value.shape[0]} kernels, each flattened"
    if name == "DbrxExpertGLU" and leaf in (
        "w1",
        "v1",
        "w2",
    ):  # transformers: the experts' matrices one below the other
        fans = (owner.hidden_size, owner.ffn_hidden_size)
        return "linear", *(fans if leaf != "w2" else fans[::-1]), "", f"{owner.moe_num_experts} experts in its rows"
    known = bare(name, leaf, value.dim())
    if known is None:
        return "unknown", None, None, "", ""
    if not known.axes:
        return "not a layer", None, None, "", "a parameter of the module itself"
    counts = dict.fromkeys("OIKB", 1)
    for letter, size in zip(known.axes, value.shape, strict=True):
        counts[letter] *= size
    return (
        known.kind,
        counts["I"] * counts["K"],
        counts["O"] * counts["K"],
        known.axes,
        "a parameter of the module itself",
    )


def _convolution(owner: nn.Module, leaf: str, names: set[str]) -> Kind | None:
    kind = next((kind for cls, kind in CONVOLUTIONS.items() if isinstance(owner, cls)), None)
    if kind is None or leaf not in ("weight", "bias"):
        return None
    if leaf == "bias":
        return "bias", None, None, "", ""
    field, groups = math.prod(owner.kernel_size), owner.groups
    n_in, n_out = owner.in_channels // groups * field, owner.out_channels // groups * field
    axes = ("IO" if "transpose" in kind else "OI") + "K" * len(owner.kernel_size)
    if groups == owner.in_channels > 1 and "transpose" not in kind:
        kind = f"depthwise_{kind}"
    return kind, n_in, n_out, axes, f"groups {groups}" if groups > 1 else ""


def _dense(owner: nn.Module, leaf: str, names: set[str]) -> Kind | None:
    if isinstance(owner, nn.Linear) and leaf == "weight":
        return "linear", int(owner.in_features), int(owner.out_features), "OI", ""
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag) and leaf == "weight":
        return "embedding", int(owner.num_embeddings), int(owner.embedding_dim), "IO", ""
    if isinstance(owner, nn.Bilinear) and leaf == "weight":
        return "bilinear", owner.in1_features * owner.in2_features, owner.out_features, "OII", ""
    if "Conv1D" in names and hasattr(owner, "nf") and leaf == "weight":  # transformers.pytorch_utils.Conv1D
        return "linear", owner.weight.shape[0], owner.nf, "IO", "stored input first"
    if leaf == "bias" and (isinstance(owner, nn.Linear | nn.Bilinear) or "Conv1D" in names):
        return "bias", None, None, "", ""
    return None


def _recurrent(owner: nn.Module, leaf: str, names: set[str]) -> Kind | None:
    if not isinstance(owner, nn.RNNBase | nn.RNNCellBase):
        return None
    if leaf.startswith("bias"):
        return "bias", None, None, "", ""
    name = next((name for name in GATES if name in names), "")
    kind, gates = GATES.get(name, ("rnn", 1))
    weight = getattr(owner, leaf)
    if leaf.startswith("weight_hr"):
        return "linear", owner.hidden_size, owner.proj_size, "OI", "projection of a recurrent layer"
    if leaf.startswith("weight_hh"):
        n_in = getattr(owner, "proj_size", 0) or owner.hidden_size
    elif leaf.startswith("weight_ih_l") and not leaf.startswith("weight_ih_l0"):
        n_in = (owner.proj_size or owner.hidden_size) * (2 if owner.bidirectional else 1)
    else:
        n_in = owner.input_size
    if tuple(weight.shape) != (gates * owner.hidden_size, n_in):
        raise AssertionError(f"{leaf} of {type(owner).__name__} has {tuple(weight.shape)}")
    return kind, n_in, gates * owner.hidden_size, "OI", ""


def _attention(owner: nn.Module, leaf: str, names: set[str]) -> Kind | None:
    if not isinstance(owner, nn.MultiheadAttention):
        return None
    width = owner.embed_dim
    match leaf:
        case "in_proj_weight":
            return "linear", width, 3 * width, "OI", "q, k and v"
        case "q_proj_weight":
            return "linear", width, width, "OI", ""
        case "k_proj_weight":
            return "linear", owner.kdim, width, "OI", ""
        case "v_proj_weight":
            return "linear", owner.vdim, width, "OI", ""
        case "in_proj_bias" | "bias_k" | "bias_v":
            return "bias", None, None, "", ""
    return None
