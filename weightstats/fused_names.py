"""Names of weights that hold several maps: tables of patterns, each with the libraries that the names come from."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Arrangement: TypeAlias = Literal["blocks", "heads", "four blocks"]
"""How the outputs of q, k and v lie: one after the other; in turn for each head; in turn for each of four blocks."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """Maps that are stacked along the outputs of one weight."""

    pattern: re.Pattern[str]
    """Searched in the module's path, whose last component it ends in."""

    parts: tuple[str, ...]
    arrangement: Arrangement = "blocks"


def _at_end(names: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|[._])(?:{names})$")


ATTENTION: tuple[Fusion, ...] = (
    # transformers: CodeGen, whose rows lie as the four cores of a TPU had them
    Fusion(re.compile(r"(^|\.)h\.\d+\.attn\.qkv_proj$"), ("q", "v", "k"), "four blocks"),
    # transformers: GPT-NeoX, BLOOM, Falcon, Persimmon, GLM; DeBERTa; Megatron-LM
    Fusion(
        _at_end(r"query_key_value|attention\.self\.in_proj|attention\.linear_qkv|self_attention\.linear_qkv"),
        ("q", "k", "v"),
        "heads",
    ),
    # timm: MaxViT, CoAtNet, whose heads come first; EfficientViT, LeViT, convolutions
    Fusion(re.compile(r"attn_(block|grid)\.attn\.qkv$|(^|\.)qkv\.(conv|linear|c)$"), ("q", "k", "v"), "heads"),
    # torch.nn.MultiheadAttention, OpenCLIP; timm, DINO, SAM, Swin; Phi-3, Qwen-VL; MPT, DBRX, ModernBERT,
    # flash-attention; GPT-2, nanoGPT, Qwen; Bark; diffusers and lucidrains; Baichuan; XCiT; GGUF
    Fusion(
        _at_end(
            r"in_proj|qkv|qkv_proj|qkv_linear|to_qkv|qkv_layer|Wqkv|wqkv|W_pack|c_attn|att_proj|attn_qkv|in_proj_qkv"
        ),
        ("q", "k", "v"),
    ),
)
"""Queries, keys and values in one matrix."""

PAIRS: tuple[Fusion, ...] = (
    # GPT-2's cross-attention
    Fusion(re.compile(r"crossattention\.c_attn$"), ("k", "v")),
    # timm: PVT, Twins, CaiT; lucidrains' perceiver; MPT's grouped attention
    Fusion(_at_end(r"kv|to_kv|kv_proj|key_value|Wkv|kv_linear|kv_layer"), ("k", "v")),
    Fusion(_at_end(r"qk|to_qk|qk_proj"), ("q", "k")),
    # transformers: Phi-3, GLM, Llama 4, Zamba; xformers, DINOv2 (w12); vLLM
    Fusion(_at_end(r"gate_up_proj|gate_up|gate_and_up_proj|w12|w13|gate_up_projs|fc1_gate_up"), ("gate", "up")),
)
"""Two maps in one matrix, by their names."""

OUTPUT_PROJECTION = re.compile(
    r"(proj|out_proj|o_proj|c_proj|dense|out|wo|Wo|to_out|output|out_lin|o|linear_proj|attn_output|out_linear)"
    r"(\.(0|linear|conv|c|dense|proj))?"
)
"""Beside a fused attention, what takes the joined heads: its inputs are as many as there are queries."""

QUERY = re.compile(r"(q|to_q|q_proj|q_lin|query|Wq|q_attn)(\.(conv|linear|c))?")
"""Beside a fused pair of keys and values."""

UP_AND_DOWN: tuple[tuple[str, str, str], ...] = (
    # (up, down, origin): two maps where `up` gives out twice what `down` takes
    ("fc1", "fc2", "timm's GluMlp and SwiGLUPacked, transformers"),
    ("w1", "w2", "LLaMA-like networks"),
    ("Wi", "Wo", "ModernBERT"),
    ("wi", "wo", "T5-like networks"),
    ("linear1", "linear2", "torch.nn.TransformerEncoderLayer-like networks"),
    ("linear_fc1", "linear_fc2", "Megatron-LM"),
    ("dense_h_to_4h", "dense_4h_to_h", "ChatGLM"),
    ("c_fc", "c_proj", "GPT-2-like networks"),
    ("up_proj", "down_proj", "LLaMA-like networks"),
    ("up_gate_proj", "down_proj", "Nemotron and ERNIE"),
    ("gate_proj", "down_proj", "BitNet-like networks"),
    ("in_proj", "out_proj", "gated convolutions and recurrences"),
    ("proj_in", "proj_out", "diffusers"),
    ("input_linear", "output_linear", "GraniteMoE, JetMoE"),
    ("gated_layers", "wo", "nomic, JINA-BERT"),
    ("up_gated_layer", "down_layer", "GTE"),
    ("ffn_up", "ffn_down", "GGUF"),
    ("wi_0", "wo", "mT5"),
    ("pointwise_conv1", "depthwise_conv", "Conformer"),
)
"""Gated linear units whose two halves lie in one matrix."""

EXPERTS_BELOW = re.compile(r"\.experts\.mlp\.(w1|v1|w2)$")
"""Experts below each other in one matrix: transformers' DBRX, whose w2 has its inputs first."""
