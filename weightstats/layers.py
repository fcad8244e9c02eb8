"""What each tensor of a network is: a layer with its fans, or something else, and why.

The decision rests on names and shapes. Tables of names are data, each with its origin; the first that matches decides.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from weightstats.network import Named, Network
from weightstats.tensors import Tensor

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


@dataclass(frozen=True, slots=True)
class Other:
    """A tensor that is not a layer."""

    name: str
    kind: str
    tensor: Tensor
    reason: str


BUFFERS: tuple[tuple[str, str], ...] = (
    # torch.nn.BatchNorm
    (r"running_mean$|running_var$|running_std$", "running statistics of a normalisation"),
    (r"num_batches_tracked$", "a counter of a normalisation"),
    # transformers: BERT, GPT-2, GPT-NeoX, LLaMA
    (r"(^|[._])position_ids$|token_type_ids$", "a table of positions"),
    (
        r"(^|[._])(attn|attention|self|sa)\.(masked_)?bias$|masked_bias$|(attn|causal|attention|tgt|src)_?mask$",
        "a mask",
    ),
    (r"inv_freq$|(^|[._])(freqs_cis|rope|rotary)([._]|$)", "frequencies of a rotary position encoding"),
    # Swin, BEiT, MaxViT in torchvision and timm
    (r"relative_position_index$|relative_coords_table$|rel_pos_idx$", "a table of relative positions"),
    # torchaudio, openai-whisper, silero-vad, nnAudio
    (
        r"(^|[._])stft|(^|[._])istft|mel_?(filter|basis|scale|fb)|fbank|filter_?bank|(^|[._])dct_mat",
        "a fixed transform",
    ),
    (r"(^|[._])(hann|hamming)?_?window$", "a window function"),
    # torch.nn.utils.spectral_norm and its parametrization
    (r"weight_u$|(^|[._])_u$|(^|[._])_v$|parametrizations\..*\.0\._[uv]$", "a vector of spectral normalisation"),
    # quantisation-aware training and observers
    (r"(^|[._])(zero_point|min_val|max_val|observer_enabled|fake_quant_enabled)$", "state of a quantisation observer"),
    # chemprop, torchmetrics, torch.nn.CrossEntropyLoss
    (r"(^|[._])(task|class|loss|sample|label|pos)_weights?$", "weights of a loss, not of a layer"),
    (r"anchor_grid$|(^|[._])anchors$|(^|[._])stride$", "geometry of a detector"),
)
"""Names of tensors that training does not learn, with what they are."""

PARAMETERS: tuple[tuple[str, str], ...] = (
    (r"relative_position_bias_table$|rel_pos_[hw]$|rel_pos_bias|attention_biases$|rel_height$|rel_width$",
     "a table of relative positions, added to attention"),
    (r"(^|[._])(pos_?emb(ed|edding|eds)?|positional_embedding|position_embedding|pos_encoding|pe|absolute_pos_embed)$",
     "learned positions, added to the activations"),
    (r"(cls|class|dist|mask|register|reg|prompt|query)_?(token|tokens)$|class_embedding$|(^|[._])(latents?|queries)$",
     "a learned token, not multiplied with an input"),
    (r"logit_scale$|(^|[._])temperature$|(^|[._])(gamma|beta|alpha)(_\d)?$|layer_?scale|(^|[._])ls\d?$|gate_?msa$",
     "a learned scale"),
    (r"weight_g$|parametrizations\.[^.]+\.original0$|(^|[._])magnitude|lora_magnitude_vector",
     "magnitudes of a weight normalisation"),
)  # fmt: skip
"""Learned tensors that are not multiplied with an input, so that they have no fan-in: timm, torchvision, CLIP."""

NORM_MODULE = re.compile(
    r"(^|[._])(\w*norm\w*|bn\d*|batchnorm\d*|ln(_\w+|\d+)?|gn\d*|layernorm|\w*_ln|\w*_bn|\w+BN|\w+LN)$", re.IGNORECASE
)
"""Names of normalisation modules: the last part of the name before `weight`."""

ACTIVATION_MODULE = re.compile(r"(^|[._])(p?relu|act|activation|snake|alpha)\d*$", re.IGNORECASE)

EMBEDDING_MODULE = re.compile(
    r"^(wte|wpe|shared|(\w*_)?(embed|embeds|embedding|embeddings|embedder|emb)(_(tokens|positions|in|table))?|tok_emb\w*)$"
)
"""Names of torch.nn.Embedding modules in transformers (GPT-2, BERT, T5, LLaMA, OPT, GPT-NeoX) and fairseq. A final
projection such as GPT-NeoX's `embed_out` is a linear layer."""

RECURRENT = re.compile(r"(^|[._])weight_(?P<of>ih|hh|hr)(_l\d+)?(_reverse)?$")
"""torch.nn.RNN, LSTM, GRU and their cells."""

RECURRENT_KINDS = {4: "lstm", 3: "gru", 1: "rnn"}
"""Gates, by the number of them."""

LOW_RANK = re.compile(r"(^|[._])lora_(A|B|a|b|up|down|embedding_[AB]|mid)([._]|$)|hada_w[12]|lokr_w[12]")
"""Factors of low-rank adapters: peft, kohya-ss, LyCORIS."""

DIRECTION = re.compile(r"(^|[._])weight_v$|parametrizations\.[^.]+\.original1$")
"""torch.nn.utils.weight_norm: the direction, whose scale the network does not use."""

DEPTHWISE = re.compile(r"depth_?wise|(^|[._])(dw|dw_?conv|conv_?dw)\d*([._]|$)", re.IGNORECASE)
TRANSPOSED = re.compile(r"transpose|deconv|conv_?tr([._]|$)|upconv|convt([._]|$)", re.IGNORECASE)

WEIGHT_LEAF = re.compile(
    r"(^|\.)(\w*_)?(weight(_(ih|hh|hr)(_l\d+)?(_reverse)?|_v|_orig)?|kernel|w\d*)$|\.original1?$", re.IGNORECASE
)
"""What the last part of a weight's name is called: torch, Keras and JAX."""

EMBEDDING_LEFT_OUT = "an embedding: a vocabulary is not a fan-in"
LOW_RANK_LEFT_OUT = "one factor of a low-rank adapter: only the product is a weight"
DIRECTION_LEFT_OUT = "the direction of a weight normalisation: its scale is not the weight's"
COMPLEX_LEFT_OUT = "complex weights: the law speaks of real ones"


def classify(network: Network) -> tuple[Layer | Other, ...]:
    """Every tensor of the network, in its order; a tensor that is stored once under several names is one layer."""
    shapes = {named.name: named.tensor.shape for named in network.tensors}
    first_name: dict[tuple[object, ...], str] = {}
    names: dict[str, list[str]] = {}
    result: list[Layer | Other] = []
    channels: int | None = None
    for named in network.tensors:
        first = first_name.setdefault(named.tensor.view, named.name) if named.tensor.elements else named.name
        if first != named.name:
            names.setdefault(first, []).append(named.name)
            result.append(Other(named.name, "tied", named.tensor, f"the same stored tensor as {first}"))
            continue
        item = _classified(named, shapes, channels)
        if isinstance(item, Layer) and item.kind != "embedding":
            channels = named.tensor.shape[0]
        result.append(item)
    return tuple(
        replace(item, tied_to=tuple(names[item.name])) if isinstance(item, Layer) and item.name in names else item
        for item in result
    )


def _classified(named: Named, shapes: dict[str, tuple[int, ...]], channels: int | None) -> Layer | Other:
    """One tensor; `channels` are the output channels of the layer before it."""
    name, tensor = named.name, named.tensor
    other = _stored_otherwise(named) or _by_table(named) or _vector(named, shapes)
    if other is not None:
        return other
    module = name.rpartition(".")[0].rpartition(".")[2] or name
    dimensions = len(tensor.shape)
    if dimensions > 5:
        return Other(name, "parameter", tensor, f"{dimensions} dimensions: no layer that is known has so many")
    if NORM_MODULE.search(module):
        return Other(name, "norm", tensor, "scale of a normalisation (its module's name)")
    if not WEIGHT_LEAF.search(name) and sum(size > 1 for size in tensor.shape) < 2:
        return Other(name, "parameter", tensor, "a learned vector in an array of more dimensions: no fan-in")
    layer = _recurrent(named, shapes) or _embedding(named, module) or _linear(named) or _convolution(named, channels)
    if tensor.dtype.kind == "complex":
        return replace(layer, left_out_because=COMPLEX_LEFT_OUT)
    if LOW_RANK.search(name):
        return replace(layer, kind="low_rank", left_out_because=LOW_RANK_LEFT_OUT)
    if DIRECTION.search(name):
        return replace(layer, left_out_because=DIRECTION_LEFT_OUT)
    return layer


def _stored_otherwise(named: Named) -> Other | None:
    """Tensors without elements, and those that are not floating point."""
    name, tensor = named.name, named.tensor
    if tensor.elements == 0:
        return Other(name, "empty", tensor, "has no elements")
    if tensor.dtype.kind in ("float", "complex"):
        return None
    for pattern, what in BUFFERS:
        if re.search(pattern, name):
            return Other(name, "buffer", tensor, f"{what}, not trained: by its name")
    if tensor.dtype.kind == "bool":
        return Other(name, "buffer", tensor, "a mask of booleans")
    if tensor.dtype.width == 1 and len(tensor.shape) >= 2:
        return Other(name, "integers", tensor, "8-bit integers, perhaps quantised weights: their scale is not known")
    return Other(name, "integers", tensor, "integers: a table or a counter, or packed weights of unknown scale")


def _by_table(named: Named) -> Other | None:
    """Tensors whose name says that they are not layers."""
    name, tensor = named.name, named.tensor
    for pattern, what in BUFFERS:
        if re.search(pattern, name):
            return Other(name, "buffer", tensor, f"{what}, not trained: by its name")
    if re.search(r"(^|[._])(\w*_)?bias(es)?(_\w+)?$|(^|[._])b\d*$", name):
        return Other(name, "bias", tensor, "added to a layer's output")
    for pattern, what in PARAMETERS:
        if re.search(pattern, name):
            return Other(name, "parameter", tensor, f"{what} by its name")
    return None


def _vector(named: Named, shapes: dict[str, tuple[int, ...]]) -> Other | None:
    """Scalars and vectors: a layer's weight has two dimensions or more."""
    name, tensor = named.name, named.tensor
    if len(tensor.shape) >= 2:
        return None
    module, _, leaf = name.rpartition(".")
    if NORM_MODULE.search(module) or f"{module}.running_mean" in shapes:
        return Other(name, "norm", tensor, "scale of a normalisation")
    if ACTIVATION_MODULE.search(module):
        return Other(name, "parameter", tensor, "slopes of an activation function")
    if leaf == "weight" and shapes.get(f"{module}.bias") == tensor.shape:
        return Other(name, "norm", tensor, "scale of a normalisation (a vector beside a bias of its shape)")
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
    hidden = shapes.get(name.replace("weight_ih", "weight_hh"), tensor.shape)[-1]
    gates = rows // hidden if hidden and rows % hidden == 0 else 0
    kind = RECURRENT_KINDS.get(gates, "recurrent")
    because = f"name of a recurrent weight; {gates} gates of {hidden}" if gates else "name of a recurrent weight"
    return Layer(name, kind, tensor, columns, rows, "name", because)


def _embedding(named: Named, module: str) -> Layer | None:
    """A table of vectors that are looked up, not multiplied with."""
    name, tensor = named.name, named.tensor
    if len(tensor.shape) != 2 or not EMBEDDING_MODULE.search(module):
        return None
    rows, columns = tensor.shape
    because = f"the module's name, {module}"
    return Layer(name, "embedding", tensor, rows, columns, "name", because, left_out_because=EMBEDDING_LEFT_OUT)


def _linear(named: Named) -> Layer | None:
    """A matrix, or a stack of matrices whose name is not a convolution's."""
    name, tensor = named.name, named.tensor
    is_weight = WEIGHT_LEAF.search(name) is not None
    if len(tensor.shape) == 2:
        n_out, n_in = reversed(tensor.shape) if name.endswith("kernel") else tensor.shape
        because = "a matrix" if is_weight else "a matrix whose name says nothing else"
        return Layer(name, "linear", tensor, n_in, n_out, "shape", because)
    if len(tensor.shape) == 3 and not is_weight:
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
        if DEPTHWISE.search(name):
            return Layer(name, f"depthwise_{kind}", tensor, field, field, "name", "its name, and one input channel")
        if channels is not None and channels > 1 and n_out % channels == 0:
            because = f"one input channel after a layer of {channels}: one group a channel"
            per_group = n_out // channels * field
            return Layer(name, f"depthwise_{kind}", tensor, field, per_group, "shape", because)
    return Layer(name, kind, tensor, n_in * field, n_out * field, "shape", f"{len(shape)} dimensions")


def layers_of(items: Sequence[Layer | Other]) -> tuple[Layer, ...]:
    """The layers among them."""
    return tuple(item for item in items if isinstance(item, Layer))
