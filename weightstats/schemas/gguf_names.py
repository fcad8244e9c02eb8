"""What the tensors of GGUF files are used for, where their names say so by convention.

Origin: the "standardized tensor names" of the format (ggml, docs/gguf.md), and TENSOR_NAMES and MODEL_TENSORS of
gguf-py 0.19 (gguf/constants.py), whose names llama.cpp's graphs look for. Only names that say more than a matrix's
name and shape do are here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from weightstats.tensors import Part, Slice, Use


@dataclass(frozen=True, slots=True)
class Convention:
    """What tensors of some names are used for."""

    kind: str
    axes: str
    """As in `Use`: of a tensor with as many dimensions, where it is a layer."""

    because: str
    names: tuple[str, ...]
    """The last key of a name, or the last two, without `.weight`."""


CONVENTIONS: tuple[Convention, ...] = (
    Convention(
        "embedding",
        "IO",
        "GGUF's name of a table of embeddings",
        ("token_embd", "per_layer_token_embd", "token_types"),
    ),
    Convention(
        "linear",
        "BOI",
        "GGUF's name of a stack of matrices, one an expert",
        (
            *("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate_up_exps"),
            *("ffn_gate_chexps", "ffn_up_chexps", "ffn_down_chexps"),
        ),
    ),
    Convention(
        "linear",
        "BOI",
        "GGUF's name of a stack of matrices, one a head or a stream",
        ("attn_k_b", "attn_v_b", "altup_proj", "altup_unembd_proj"),
    ),
    Convention(
        "depthwise_conv1d",
        "OK",
        "GGUF's name of a convolution along the sequence, one kernel a channel",
        ("ssm_conv1d", "ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v", "shortconv.conv"),
    ),
    Convention(
        "parameter",
        "",
        "learned positions, added to the activations, by GGUF's name",
        ("position_embd", "pos_embd"),
    ),
    Convention(
        "parameter",
        "",
        "a table of relative positions, added to attention, by GGUF's name",
        ("attn_rel_b", "cross_attn_rel_b", "attn_rel_pos_emb"),
    ),
    Convention(
        "parameter",
        "",
        "rates of a recurrence, multiplied element by element, by GGUF's name",
        (
            *("ssm_a", "ssm_d", "time_mix_first", "time_mix_decay", "channel_mix_lerp_k", "channel_mix_lerp_r"),
            *(f"time_mix_lerp_{stream}" for stream in ("x", "w", "k", "v", "r", "g", "fused")),
            *(f"time_mix_{rate}" for rate in ("w0", "a0", "v0", "k_k", "k_a", "r_k")),
        ),
    ),
    Convention(
        "buffer",
        "",
        "frequencies of a rotary position encoding by GGUF's name, not trained",
        ("attn_rot_embd", "rope_freqs", "rope_factors_long", "rope_factors_short"),
    ),
)

_BY_NAME = {name: convention for convention in CONVENTIONS for name in convention.names}

IMPORTANCE = Use("buffer", "", "sums of an importance matrix, as the file's general.type says: no weights")


GATE_FIRST = ("phi3", "chatglm", "glm4")
"""Architectures whose `ffn_up` holds the gate as well, before it: llama.cpp, src/models, LLM_FFN_SWIGLU."""

MOST_EXPERTS = 2_048
"""Of a stack that is taken apart: published ones have up to 512."""

_BLOCK = re.compile(r"(^|\.)blk\.\d+\.(attn_qkv|ffn_up)\.weight$")


def use_of(name: str, shape: tuple[int, ...], metadata: Mapping[str, int | str]) -> Use | None:
    """What a tensor is used for, None where name and shape have to decide; `metadata` is what the header keeps."""
    if metadata.get("general.type") == "imatrix":
        return IMPORTANCE
    module, _, last = name.removesuffix(".weight").rpartition(".")
    if len(shape) == 2 and _BLOCK.search(name):
        return _fused(last, shape, metadata)
    convention = _BY_NAME.get(last) or _BY_NAME.get(f"{module.rpartition('.')[2]}.{last}")
    if convention is None or len(convention.axes) not in (0, len(shape)):
        return None
    groups = shape[0] if convention.kind.startswith("depthwise") else 1
    parts = _experts(shape) if last == "ffn_gate_up_exps" else ()
    return Use(convention.kind, convention.axes, convention.because, groups, by="name", parts=parts)


def _experts(shape: tuple[int, ...]) -> tuple[Part, ...]:
    """The gate and the other half of each expert."""
    count, rows, _ = shape
    if rows % 2 or count > MOST_EXPERTS:
        return ()
    halves = (("gate", Slice(1, 0, rows // 2, rows)), ("up", Slice(1, rows // 2, rows // 2, rows)))
    return tuple(
        Part(f"{expert},{half}", (Slice(0, expert, 1, count), cut)) for expert in range(count) for half, cut in halves
    )


def _fused(last: str, shape: tuple[int, ...], metadata: Mapping[str, int | str]) -> Use | None:
    """A matrix that holds several maps one after the other, by the sizes in the metadata; None where those do not add
    up to its rows, so that it may be one map.
    """
    architecture = str(metadata.get("general.architecture", ""))

    def size(key: str) -> int:
        value = metadata.get(f"{architecture}.{key}", 0)
        return value if isinstance(value, int) and value > 0 else 0

    rows = shape[0]
    if last == "ffn_up":
        length = size("feed_forward_length")
        if architecture not in GATE_FIRST or length == 0 or rows != 2 * length:
            return None
        sizes, because = {"gate": length, "up": length}, f"GGUF's name, with a feed_forward_length of {length:,}"
    else:
        heads = size("attention.head_count")
        others = size("attention.head_count_kv") or heads
        head = size("attention.key_length") or (size("embedding_length") // heads if heads else 0)
        values = size("attention.value_length") or head
        sizes = {"q": heads * head, "k": others * head, "v": others * values}
        because = f"GGUF's name, with a head_count of {heads:,} and {others:,}"
    if 0 in sizes.values() or sum(sizes.values()) != rows:
        return None
    starts = {part: sum(list(sizes.values())[:number]) for number, part in enumerate(sizes)}
    parts = tuple(Part(part, (Slice(0, starts[part], count, rows),)) for part, count in sizes.items())
    return Use("linear", "OI", because, by="name", parts=parts)
