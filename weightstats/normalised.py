"""Layers whose output is normalised at once, by the names and sizes of the network's tensors.

The scale of such a weight is divided out again, so that it does not change what the network computes: van Laarhoven,
"L2 Regularization versus Batch and Weight Normalization", arXiv 1706.05350. Only pairs of names that occur in one order
are believed, and only where the sizes agree: what could as well be a normalisation of the layer's input is left out.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from weightstats.network import MOST_NAME
from weightstats.order import natural_key

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Of all tensors of the network, by name, in its order."""


@dataclass(frozen=True, slots=True)
class Map:
    """A layer, as far as its partner is looked for."""

    name: str
    """In the report, with the part in brackets."""

    module: str
    """What its tensor's name has before the last dot."""

    part: str
    """Of a fused weight: `q`, ..., '' for a whole weight."""

    outputs: int
    """Channels that it gives out; of a part, those of the part."""

    inputs: int
    """Channels that it is given."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Names of a layer and of the batch normalisation behind it, in one module."""

    layer: str
    """A pattern of the last part of the layer's module."""

    norms: tuple[str, ...]
    """The last part of the normalisation's; \\1 is the layer's number."""

    beside: tuple[str, ...] = ()
    """Modules that must be there too."""

    without: tuple[str, ...] = ()
    """Modules that must not be there."""

    is_sure: bool = False
    """Whether one library alone uses the names, and in this order: sizes that agree are enough."""


PAIRS: tuple[Pair, ...] = (
    # torchvision's and timm's ResNet; ConvNormAct of timm, ConvModule of mmcv, Conv of ultralytics
    Pair(r"conv(\d*)", (r"bn\1",)),
    # timm's ResNetV2 without pre-activation, segmentation heads; torchvision's DenseNet has them the other way round
    Pair(r"conv(\d*)", (r"norm\1", r"batch_norm\1", r"batchnorm\1", "normalization")),
    # transformers: ResNet, RegNet, MobileNet, MobileViT, EfficientNet, LeViT
    Pair(r"convolution", ("normalization", "batch_norm", "batchnorm")),
    # LeViT, EfficientFormer; PointNet and others with matrices
    Pair(r"linear(\d*)", (r"batch_norm\1", r"batchnorm\1", r"bn\1")),
    Pair(r"fc(\d*)", (r"bn\1",)),
    # RepViT, SHViT and EfficientViT of Microsoft Research in timm
    Pair(r"c", ("bn",)),
    # transformers: EfficientNet's steps
    Pair(r"expand_conv", ("expand_bn",), is_sure=True),
    Pair(r"depthwise_conv", ("depthwise_norm",), is_sure=True),
    Pair(r"project_conv", ("project_bn",), is_sure=True),
    # transformers' and NeMo's Conformer
    Pair(r"depthwise_conv", ("batch_norm",), is_sure=True),
    # transformers: SegFormer's head
    Pair(r"linear_fuse", ("batch_norm",), is_sure=True),
    # timm's blocks of EfficientNet, MobileNetV2 and V3: separable, inverted, fused, and the ends of the network
    Pair(r"conv_dw", ("bn1",), ("conv_pw",), ("conv_pwl",), is_sure=True),
    Pair(r"conv_pw", ("bn2",), ("conv_dw",), ("conv_pwl",), is_sure=True),
    Pair(r"conv_pw", ("bn1",), ("conv_dw", "conv_pwl"), is_sure=True),
    Pair(r"conv_dw", ("bn2",), ("conv_pw", "conv_pwl"), is_sure=True),
    Pair(r"conv_pwl", ("bn3",), ("conv_dw", "conv_pw"), is_sure=True),
    Pair(r"conv_exp", ("bn1",), ("conv_pwl",), is_sure=True),
    Pair(r"conv_pwl", ("bn2",), ("conv_exp",), is_sure=True),
    Pair(r"conv", ("bn1",), without=("bn2", "bn"), is_sure=True),
    Pair(r"conv_stem", ("bn1",), is_sure=True),
    Pair(r"conv_head", ("bn2",), ("conv_stem", "bn1"), is_sure=True),
    # timm's separable convolutions elsewhere: Xception, VoVNet, GhostNet
    Pair(r"conv_(dw|pw)", (r"bn_\1",), is_sure=True),
    Pair(r"conv_pw", ("bn",), ("conv_dw",), ("bn1",), is_sure=True),
)
"""Layers and their batch normalisations by name."""

FROZEN_IN = re.compile(r"(^|\.)(backbone|conv_encoder)(\.|$)")
"""Where detectors keep a normalisation whose statistics are constants (FrozenBatchNorm2d of torchvision, detectron2
and transformers' DETR); it has no counter, as no normalisation had before torch 0.4.1."""

_COUNTER = ".num_batches_tracked"

HEADS: tuple[tuple[str, str, str], ...] = (
    ("q_proj", "", "q_norm"),  # transformers: Qwen3, Gemma 3, OLMo 2, OLMoE, Cohere, SmolLM3
    ("k_proj", "", "k_norm"),
    ("q_proj", "", "q_layernorm"),  # transformers: Persimmon, StableLM, Phi
    ("k_proj", "", "k_layernorm"),
    ("query", "", "q_norm"),
    ("key", "", "k_norm"),
    ("to_q", "", "norm_q"),  # diffusers
    ("to_k", "", "norm_k"),
    ("add_q_proj", "", "norm_added_q"),
    ("add_k_proj", "", "norm_added_k"),
    ("qkv", "q", "q_norm"),  # timm
    ("qkv", "k", "k_norm"),
    ("qkv_proj", "q", "q_norm"),
    ("qkv_proj", "k", "k_norm"),
    ("qkv", "q", "ln_q"),  # Stable Diffusion 3.5
    ("qkv", "k", "ln_k"),
    ("query_key_value", "q", "q_layernorm"),
    ("query_key_value", "k", "k_layernorm"),
    ("attn_q", "", "attn_q_norm"),  # GGUF
    ("attn_k", "", "attn_k_norm"),
    ("attn_qkv", "q", "attn_q_norm"),
    ("attn_qkv", "k", "attn_k_norm"),
    ("q_a_proj", "", "q_a_layernorm"),  # DeepSeek's attention through a narrow space
    ("attn_q_a", "", "attn_q_a_norm"),
)
"""Projections of attention, the part of them, and the normalisation of each head or of all heads behind them."""

NARROWING = ("q_a_proj", "attn_q_a")
"""Projections whose normalisation stands alone; the others come in pairs, of queries and keys."""

CONVOLUTIONS_BETWEEN = ("_sconv", "_conv", "_conv1d", "_sconv.conv", "_sconv.conv1d")
"""What q and k are called with where a short convolution comes first: Inkling, gated delta networks."""

BEHIND_BOTH = ("to_q", "to_k", "add_q_proj", "add_k_proj")
"""Whose library has no normalisation of this name before them, so that equal sizes leave no doubt."""


@dataclass(frozen=True, slots=True)
class Sandwich:
    """A block of a transformer that normalises what its branches give, before it is added."""

    layer: str
    """The module in the block."""

    norm: str
    needs: tuple[str, ...]
    lacks: tuple[str, ...] = ()


SANDWICHES: tuple[Sandwich, ...] = (
    # Gemma 2 and 3
    Sandwich(
        "self_attn.o_proj",
        "post_attention_layernorm",
        ("input_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
    ),
    Sandwich(
        "mlp.down_proj",
        "post_feedforward_layernorm",
        ("input_layernorm", "pre_feedforward_layernorm", "post_attention_layernorm"),
        ("post_feedforward_layernorm_1",),
    ),
    # OLMo 2 and 3, EXAONE 4: nothing is normalised before the branches
    Sandwich(
        "self_attn.o_proj",
        "post_attention_layernorm",
        ("post_feedforward_layernorm",),
        ("input_layernorm", "pre_feedforward_layernorm"),
    ),
    Sandwich(
        "mlp.down_proj",
        "post_feedforward_layernorm",
        ("post_attention_layernorm",),
        ("input_layernorm", "pre_feedforward_layernorm"),
    ),
    # GLM 4
    Sandwich("self_attn.o_proj", "post_self_attn_layernorm", ("input_layernorm", "post_mlp_layernorm")),
    Sandwich("mlp.down_proj", "post_mlp_layernorm", ("input_layernorm", "post_self_attn_layernorm")),
    # the same in GGUF
    Sandwich("attn_output", "post_attention_norm", ("post_ffw_norm",), ("post_ffw_norm_1",)),
    Sandwich("ffn_down", "post_ffw_norm", ("post_attention_norm",), ("post_ffw_norm_1", "ffn_down_exps")),
)
"""Blocks by the names of their normalisations; of root mean square ones, which have no shift."""


def scale_free_of(shapes: Shapes, maps: Sequence[Map]) -> dict[str, str]:
    """Why the scale of a layer does not matter, by the layer's name, for those of which names and sizes show it."""
    shapes = {name: shape for name, shape in shapes.items() if len(name) <= MOST_NAME}
    maps = [one for one in maps if one.part in ("", "q", "k") and len(one.module) <= MOST_NAME]
    modules = _modules(shapes)
    found = {
        one.name: f"followed by the normalisation {norm}" for one, norm in _normalised_heads(shapes, maps, modules)
    }
    found |= {one.name: f"followed by the normalisation {norm}" for one, norm in _sandwiched(shapes, maps)}
    batch = {name.removesuffix(".running_mean"): shape for name, shape in shapes.items() if _is_mean(name)}
    if batch:
        pairs = (*_in_sequence(shapes, maps, batch), *_by_name(shapes, maps, batch, modules))
        counted = any(name.endswith(_COUNTER) for name in shapes)
        claims = defaultdict(set)
        for one, norm in pairs:
            claims[norm].add(one.module)
        found |= {
            one.name: f"followed by the batch normalisation {norm}"
            for one, norm in pairs
            if len(claims[norm]) == 1 and (f"{norm}{_COUNTER}" in shapes or not (counted or FROZEN_IN.search(norm)))
        }
    return found


def _is_mean(name: str) -> bool:
    return name.endswith(".running_mean")


def _modules(shapes: Shapes) -> frozenset[str]:
    """All modules that have tensors, in them or further inside."""
    found: set[str] = set()
    for name in shapes:
        module = name.rpartition(".")[0]
        while module and module not in found:
            found.add(module)
            module = module.rpartition(".")[0]
    return frozenset(found)


def _joined(parent: str, child: str) -> str:
    return f"{parent}.{child}" if parent else child


def _in_sequence(shapes: Shapes, maps: Sequence[Map], batch: Shapes) -> Iterator[tuple[Map, str]]:
    """Layers of a torch.nn.Sequential, which numbers its modules, with a normalisation as the next."""
    for one in maps:
        parent, _, number = one.module.rpartition(".")
        if not number.isdecimal() or one.part:
            continue
        norm = _joined(parent, str(int(number[:9]) + 1))
        if batch.get(norm) == (one.outputs,):
            yield one, norm


def _by_name(shapes: Shapes, maps: Sequence[Map], batch: Shapes, modules: frozenset[str]) -> list[tuple[Map, str]]:
    """Layers whose name and that of a normalisation in the same module make one of PAIRS.

    A bias would be taken away again by the normalisation, so that a layer with one is as likely followed by an
    activation function first: it is left out.
    """
    place = _places(shapes)
    candidates: dict[tuple[int, str], list[tuple[Map, str]]] = defaultdict(list)
    for one in maps:
        parent, _, last = one.module.rpartition(".")
        for row, pair in enumerate(PAIRS):
            match = re.fullmatch(pair.layer, last)
            if match is None or one.part or not _fits(pair, parent, modules):
                continue
            norms = [_joined(parent, match.expand(norm)) for norm in pair.norms]
            candidates[row, re.sub(r"\d+", "#", parent)] += [(one, norm) for norm in norms if norm in batch]
    found = []
    for (row, _), pairs in candidates.items():
        votes = {_vote(one, batch[norm], place.get(one.module), place.get(norm)) for one, norm in pairs}
        if False not in votes and (True in votes or PAIRS[row].is_sure):
            found += [(one, norm) for one, norm in pairs if f"{one.module}.bias" not in shapes]
    return found


def _fits(pair: Pair, parent: str, modules: frozenset[str]) -> bool:
    beside = all(_joined(parent, name) in modules for name in pair.beside)
    return beside and not any(_joined(parent, name) in modules for name in pair.without)


def _places(shapes: Shapes) -> dict[str, int]:
    """Of each module, where its first tensor comes, by the order in which the network was built; empty where the file
    sorts its names."""
    names = [name for name in shapes if not name.endswith(".num_batches_tracked")]
    if names in (sorted(names), sorted(names, key=natural_key)):
        return {}
    places: dict[str, int] = {}
    for name in names:
        places.setdefault(name.rpartition(".")[0], len(places))
    return places


def _vote(one: Map, length: tuple[int, ...], layer_place: int | None, norm_place: int | None) -> bool | None:
    """Whether a layer comes before the normalisation of its name, None where that is open."""
    built_first = None if layer_place is None or norm_place is None else layer_place < norm_place
    if length != (one.outputs,) or built_first is False:
        return False
    return True if one.inputs != one.outputs or (built_first and norm_place == (layer_place or 0) + 1) else None


def _normalised_heads(shapes: Shapes, maps: Sequence[Map], modules: frozenset[str]) -> Iterator[tuple[Map, str]]:
    """Queries and keys that are normalised; not with a bias, which the mean square counts too."""
    for one in maps:
        parent, _, last = one.module.rpartition(".")
        for layer, part, norm_name in HEADS:
            norm = _joined(parent, norm_name)
            shape = shapes.get(f"{norm}.weight")
            if (layer, part) != (last, one.part) or shape is None or f"{one.module}.bias" in shapes:
                continue
            length = math.prod(shape)
            other = norm_name.translate(str.maketrans("qk", "kq"))
            is_alone = last not in NARROWING and f"{_joined(parent, other)}.weight" not in shapes
            if not _is_all(one, parent, shapes):
                continue
            is_before = length == one.inputs and (length != one.outputs or not _is_behind(one, parent, modules))
            if length > 1 and one.outputs % length == 0 and not is_alone and not is_before:
                yield one, norm


def _is_all(one: Map, parent: str, shapes: Shapes) -> bool:
    """Whether queries or keys are all that a projection gives out: no gate beside the queries (Qwen3-Next), no values
    that are the keys before their normalisation (Gemma 4)."""
    last = one.module.rpartition(".")[2]
    if any(f"{_joined(parent, last[:1] + name)}.weight" in shapes for name in CONVOLUTIONS_BETWEEN):
        return False
    output = shapes.get(f"{_joined(parent, 'o_proj')}.weight")
    if last == "q_proj" and output is not None:
        return output[-1:] == (one.outputs,)
    return last != "k_proj" or f"{_joined(parent, 'v_proj')}.weight" in shapes


def _is_behind(one: Map, parent: str, modules: frozenset[str]) -> bool:
    """Whether a normalisation as long as the layer's inputs and its outputs is one of the outputs: what is given to
    the attention has been normalised already, or each branch is normalised at its end."""
    block = parent.rpartition(".")[0]
    normalised = ("input_layernorm", "post_feedforward_layernorm", "attn_norm", "post_ffw_norm")
    return (
        one.module.rpartition(".")[2] in BEHIND_BOTH
        or any(_joined(block, name) in modules for name in normalised)
        or any(_joined(parent, name) in modules for name in normalised[2:])
    )


def _sandwiched(shapes: Shapes, maps: Sequence[Map]) -> Iterator[tuple[Map, str]]:
    for one in maps:
        for sandwich in SANDWICHES:
            if one.part or not f".{one.module}".endswith(f".{sandwich.layer}") or f"{one.module}.bias" in shapes:
                continue
            block = one.module[: len(one.module) - len(sandwich.layer)].removesuffix(".")
            norm = _joined(block, sandwich.norm)
            there = {name for name in (*sandwich.needs, *sandwich.lacks) if f"{_joined(block, name)}.weight" in shapes}
            fits = there == set(sandwich.needs) and shapes.get(f"{norm}.weight") == (one.outputs,)
            if fits and f"{norm}.bias" not in shapes:
                yield one, norm
