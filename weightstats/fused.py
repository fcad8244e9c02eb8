"""The maps that one weight holds: queries, keys and values, gates, pairs of a gated unit, experts.

Sizes come from the configuration beside the weights where there is one, else from the modules beside the weight; what
fits neither stays whole.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weightstats.fused_names import (
    ATTENTION,
    EXPERTS_BELOW,
    OUTPUT_PROJECTION,
    PAIRS,
    QUERY,
    UP_AND_DOWN,
    Arrangement,
    Fusion,
)
from weightstats.layer_names import RECURRENT, RECURRENT_KINDS
from weightstats.limits import LIMITS
from weightstats.schemas.gates import TORCH, gates
from weightstats.surroundings import Shape, Surroundings, path_of
from weightstats.tensors import Part, Slice

HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "attention_heads")
"""Keys of a configuration for the number of heads: transformers; GPT-2, BLOOM, MPT."""

KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "kv_n_heads", "multi_query_group_num")
"""The same for keys and values: LLaMA, Falcon, DBRX, ChatGLM."""

BLOCKS_BY_MODEL = ("chatglm", "gpt_bigcode")
"""Values of `model_type` where a name that usually alternates by heads does not; Falcon's varies, see `_are_blocks`."""


@dataclass(frozen=True, slots=True)
class Fused:
    """The maps that are stacked in one weight."""

    parts: tuple[Part, ...]
    """Empty where they alternate in a way that the file does not tell."""

    maps: int
    """Of equal size, where `parts` is empty."""

    label: str
    """What stands in the brackets of `NAME[...]` then."""

    because: str
    by_config: bool = False
    """Whether the configuration beside the weights says so."""


_ANY_FUSION = re.compile("|".join(f"(?:{fusion.pattern.pattern})" for fusion in (*ATTENTION, *PAIRS)))


def fused(name: str, shape: Shape, axes: str, around: Surroundings) -> Fused | None:
    """The maps in a weight whose dimensions count what `axes` says (letters of `tensors.Use`); None for one map."""
    if "O" not in axes:
        return None
    axis = axes.index("O")
    if axes.count("O") > 1:
        return None
    inner = _gates(name, shape, axis, around) or _experts_below(name, shape, around)
    if inner is None and _ANY_FUSION.search(path_of(name)):
        inner = _attention(name, shape, axes, around) or _named_pair(name, shape, axes, around)
    inner = inner or _state_space(name, shape, axis, around) or _gated(name, shape, axes, around)
    if "B" not in axes or axes.count("B") > 1 or shape[axes.index("B")] == 1:
        return inner
    return _stack(shape, axes.index("B"), inner)


def _blocks(axis: int, sizes: Mapping[str, int], period: int) -> tuple[Part, ...]:
    """Parts one after the other, again in each `period` of the axis."""
    parts: list[Part] = []
    start = 0
    for part, size in sizes.items():
        if size:
            parts.append(Part(part, (Slice(axis, start, size, period),)))
        start += size
    return tuple(parts)


def _stack(shape: Shape, axis: int, inner: Fused | None) -> Fused | None:
    count = shape[axis]
    if count > LIMITS.parts:
        return None
    if inner is None or not inner.parts:
        parts = tuple(Part(str(index), (Slice(axis, index, 1, count),)) for index in range(count))
        return Fused(parts, count, "", "")
    parts = tuple(
        Part(f"{index},{part.name}", (Slice(axis, index, 1, count), *part.slices))
        for index in range(count)
        for part in inner.parts
    )
    return Fused(parts, len(parts), "", f"each with {inner.because}")


def _experts_below(name: str, shape: Shape, around: Surroundings) -> Fused | None:
    """Experts whose matrices lie below each other in one: transformers' DBRX."""
    if len(shape) != 2 or not EXPERTS_BELOW.search(name):
        return None
    count = around.expert_count(name.partition(".experts.")[0] + ".experts")
    if count is None or not 1 < count <= LIMITS.parts or shape[0] % count:
        return None
    rows = shape[0] // count
    parts = tuple(Part(str(index), (Slice(0, index * rows, rows, shape[0]),)) for index in range(count))
    return Fused(parts, count, "", f"{count} experts of {rows} rows, as many as the router chooses from")


def _gates(name: str, shape: Shape, axis: int, around: Surroundings) -> Fused | None:
    """Gates of torch's recurrent layers, stacked in the rows."""
    match = RECURRENT.search(name)
    if match is None or match["of"] == "hr" or len(shape) != 2:
        return None
    names = TORCH.get(RECURRENT_KINDS.get(gates_of(name, shape, around), ""), ())
    parts = gates(names, axis, shape[axis]) if names else ()
    if not parts:
        return None
    return Fused(parts, 1, "", f"{len(parts)} gates of {shape[axis] // len(parts)}")


def gates_of(name: str, shape: Shape, around: Surroundings) -> int:
    """How many gates a recurrent matrix holds, by the size of its hidden state; 0 where that does not divide it."""
    match = RECURRENT.search(name)
    if match is None:
        return 0
    if (projection := name.replace(f"weight_{match['of']}", "weight_hr")) in around.shapes:
        hidden = around.size_of(projection)
    else:
        other = name.replace("weight_ih", "weight_hh")
        hidden = around.size_of(other) if other in around.shapes else shape[-1]
    return shape[0] // hidden if hidden and shape[0] % hidden == 0 else 0


def _attention(name: str, shape: Shape, axes: str, around: Surroundings) -> Fused | None:
    path = path_of(name)
    fusion = next((fusion for fusion in ATTENTION if fusion.pattern.search(path)), None)
    if fusion is None or PAIRS[0].pattern.search(path) or _is_gated_recurrence(path, around):
        return None
    axis = axes.index("O")
    rows = shape[axis]
    arrangement = _arrangement(fusion, len(shape), around)
    if arrangement == "four blocks" and rows % 12 == 0:
        sizes = dict.fromkeys(fusion.parts, rows // 12)
        return Fused(_blocks(axis, sizes, rows // 4), 1, "", "q, v and k in turn in four blocks, as CodeGen has them")
    queries, evidence = _queries(path, rows, arrangement, around)
    if queries is None:
        return _beside_a_perceptron(path, rows, axis, around)
    others = (rows - queries) // 2
    if arrangement == "blocks":
        sizes = dict(zip(fusion.parts, (queries, others, others), strict=True))
        return Fused(_blocks(axis, sizes, rows), 1, "", evidence, by_config="the configuration's" in evidence)
    groups = _head_groups(around, queries, others)
    if groups is not None and queries % groups == 0 and others % groups == 0:
        sizes = {"q": queries // groups, "k": others // groups, "v": others // groups}
        in_turn = f"{evidence}, in turn for each of {groups} groups of heads, by the configuration"
        return Fused(_blocks(axis, sizes, rows // groups), 1, "", in_turn, by_config=True)
    if queries != others:
        return None
    return Fused((), 3, "q,k,v", f"{evidence}, in turn for each head, whose number is not known here: {ONE_ROW}")


ONE_ROW = "one row for all, with the fans of each"


def _arrangement(fusion: Fusion, dimensions: int, around: Surroundings) -> Arrangement:
    """How q, k and v lie, by the name, the kind of layer and the model that the configuration names."""
    if dimensions > 2 and fusion.arrangement == "blocks":
        return "heads"  # convolutions: some networks have heads first, some not
    model = around.model_type
    if fusion.arrangement == "heads" and _are_blocks(model, around.model_config):
        return "blocks"
    return fusion.arrangement


def _beside_a_perceptron(path: str, rows: int, axis: int, around: Surroundings) -> Fused | None:
    """The hidden layer of a perceptron before q, k and v: timm's ParallelScalingBlock (arXiv:2302.05442)."""
    parent = path.rpartition(".")[0]
    attention = around.units.get(f"{parent}.attn_out_proj")
    perceptron = around.units.get(f"{parent}.mlp_out_proj")
    if attention is None or perceptron is None:
        return None
    width, hidden = attention.shape[-1], perceptron.shape[-1]
    if hidden + 3 * width != rows:
        return None
    sizes = {"mlp": hidden, "q": width, "k": width, "v": width}
    return Fused(
        _blocks(axis, sizes, rows), 1, "", "the perceptron's hidden layer, q, k and v, by the modules that take them"
    )


def _is_gated_recurrence(path: str, around: Surroundings) -> bool:
    """Whether an `in_proj` belongs to a state-space layer."""
    parent = path.rpartition(".")[0]
    return f"{parent}.A_log" in around.shapes or f"{parent}.conv1d.weight" in around.shapes


def _are_blocks(model: str, config: Mapping[str, Any]) -> bool:
    if model == "falcon":
        return bool(config.get("multi_query", True)) and not config.get("new_decoder_architecture", False)
    return model in BLOCKS_BY_MODEL


def _queries(path: str, rows: int, arrangement: Arrangement, around: Surroundings) -> tuple[int | None, str]:
    """The outputs that are queries, and how that is known; None where nothing fits."""
    after = around.sibling(_NESTED.sub("", path), OUTPUT_PROJECTION)
    if after is not None:
        for queries in dict.fromkeys((after.shape[1], after.shape[0])):
            rest = rows - queries
            grouped = rest > 0 and rest % 2 == 0 and _divides(rest // 2, queries) and _may_group(path)
            if rest == 2 * queries or grouped:
                taken = f"q of {queries}, as {after.path.rpartition('.')[2]} beside it takes"
                return queries, f"{taken}, k and v of {rest // 2}"
    heads = around.setting(*HEADS)
    keys = around.setting(*KEY_VALUE_HEADS) or heads
    if heads and keys and heads % keys == 0 and rows % (heads + 2 * keys) == 0:
        queries = rows // (heads + 2 * keys) * heads
        evidence = f"q of {queries}, k and v of {(rows - queries) // 2} by the configuration's {heads} and {keys} heads"
        return queries, evidence
    by_name = rows // 3, f"q, k and v of {rows // 3} by its name"
    if rows % 3 or after is not None or path.endswith("in_proj"):
        return by_name if path.endswith(("in_proj_weight", "self.in_proj")) and rows % 3 == 0 else (None, "")
    return by_name if arrangement == "blocks" else (None, "")


_NESTED = re.compile(r"\.(conv|linear|c)$")


def _divides(small: int, large: int) -> bool:
    return 0 < small <= large and large % small == 0


_MAY_GROUP = re.compile(r"(^|\.)(qkv_proj|Wqkv|wqkv|c_attn|W_pack|query_key_value|qkv|attn_qkv|linear_qkv)$")


def _may_group(path: str) -> bool:
    """Whether fewer keys and values than queries are believed: of the names in use for that."""
    return _MAY_GROUP.search(path) is not None


def _head_groups(around: Surroundings, queries: int, others: int) -> int | None:
    """In how many groups of heads q, k and v alternate, by the configuration."""
    heads = around.setting(*HEADS)
    if not heads or queries % heads:
        return None
    size = queries // heads
    return others // size if others % size == 0 else None


def _named_pair(name: str, shape: Shape, axes: str, around: Surroundings) -> Fused | None:
    """Two maps by the name of the weight."""
    path = path_of(name)
    fusion = next((fusion for fusion in PAIRS if fusion.pattern.search(path)), None)
    axis = axes.index("O")
    if fusion is None or shape[axis] % 2:
        return None
    half = shape[axis] // 2
    if fusion.parts != ("k", "v"):
        interleaved = fusion.parts == ("gate", "up") and _alternates(path, around)
        return _halves(fusion.parts, half, axis, "by its name", in_turn=interleaved)
    query = around.sibling(_NESTED.sub("", path), QUERY)
    if query is None or not (_divides(half, query.shape[0]) or _divides(half, query.shape[1])):
        return None
    if len(shape) > 2:
        return Fused((), 2, "k,v", f"k and v of {half} by its name, perhaps in turn for each head: {ONE_ROW}")
    return _halves(fusion.parts, half, axis, "by its name")


def _alternates(path: str, around: Surroundings) -> bool:
    """Whether gate and up alternate: GPT-OSS, whose experts have a bias for each."""
    return around.model_type == "gpt_oss" or (
        "experts" in path.split(".") and around.bias_of(path) is not None and f"{path}_bias" in around.shapes
    )


def _halves(parts: Sequence[str], half: int, axis: int, evidence: str, *, in_turn: bool = False) -> Fused:
    first, second = parts
    if in_turn:
        slices = (Part(first, (Slice(axis, 0, 1, 2),)), Part(second, (Slice(axis, 1, 1, 2),)))
        return Fused(slices, 1, "", f"{first} and {second} of {half}, in turn, {evidence}")
    return Fused(
        _blocks(axis, {first: half, second: half}, 2 * half), 1, "", f"{first} and {second} of {half}, {evidence}"
    )


def _gated(name: str, shape: Shape, axes: str, around: Surroundings) -> Fused | None:
    """A gated unit: what it gives out is twice what the module after it takes."""
    path = path_of(name)
    parent, _, module = path.rpartition(".")
    axis = axes.index("O")
    if shape[axis] % 2:
        return None
    for down in _DOWN.get(module, ()):
        after = around.units.get(f"{parent}.{down}" if parent else down)
        if after is None:
            continue
        taken = after.shape[0] if down == "depthwise_conv" else _inputs(after.shape, axes, len(shape))
        if taken * 2 == shape[axis]:
            return _halves(("first", "second"), taken, axis, f"as {down} beside it takes {taken}")
    return None


_DOWN = {up: [down for other, down, _ in UP_AND_DOWN if other == up] for up, _, _ in UP_AND_DOWN}


def _inputs(shape: Shape, axes: str, dimensions: int) -> int:
    """What a unit stored in the same way as one of `axes` takes."""
    if len(shape) != dimensions:
        return 0
    return shape[axes.index("I")]


def _state_space(name: str, shape: Shape, axis: int, around: Surroundings) -> Fused | None:
    """The projections of Mamba (arXiv:2312.00752) and Mamba-2 (arXiv:2405.21060), as their authors and transformers
    lay them out."""
    path = path_of(name)
    parent, _, module = path.rpartition(".")
    decay = around.shapes.get(f"{parent}.A_log")
    if decay is None or module not in ("in_proj", "x_proj"):
        return None
    rows = shape[axis]
    if len(decay) == 2 and module == "in_proj" and rows == 2 * decay[0]:
        sizes = {"x": decay[0], "z": decay[0]}
    elif len(decay) == 2 and module == "x_proj":
        rank = around.size_of(f"{parent}.dt_proj.weight")
        sizes = {"dt": rank, "B": decay[1], "C": decay[1]}
    elif len(decay) == 1:
        inner = around.size_of(f"{parent}.out_proj.weight")
        mixed = around.size_of(f"{parent}.conv1d.weight", 0)
        state = (mixed - inner) // 2
        sizes = {"z": inner, "x": inner, "B": state, "C": state, "dt": decay[0]}
    else:
        return None
    if sum(sizes.values()) != rows or min(sizes.values()) < 1:
        return None
    named = ", ".join(f"{part} of {size}" for part, size in sizes.items())
    return Fused(_blocks(axis, sizes, rows), 1, "", f"{named}, by the sizes of A_log and the modules beside it")
