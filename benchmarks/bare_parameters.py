"""What parameters are that a module holds itself rather than in a torch layer, read from the code that uses them."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bare:
    """Parameters of a class, by the whole name of the class and of the attribute."""

    owner: str
    attribute: str
    axes: str
    """O outputs, I inputs, K positions, B maps of one kind that are stacked; '' for no layer."""

    kind: str = "linear"


BARE: tuple[Bare, ...] = (
    # transformers: torch.bmm(x, weight) or `is_transposed`, input first
    Bare("(Aria|GptOss|OpenAIPrivacyFilter|Llama4Text)Experts", "gate_up_proj|down_proj", "BIO"),
    # transformers: F.linear(x, weight[expert])
    Bare(r"\w*Experts", "gate_up_proj|gate_proj|up_proj|down_proj", "BOI"),
    Bare("JetMoeParallelExperts", "weight", "BOI"),
    Bare(r"\w*(Top[Kk]|Hash)Router", "weight", "OI"),
    Bare(r"\w*Hyper(Connection|Head)", "fn|hc_fn", "OI"),
    Bare(r"Glm5NextTextIndexer", "index_kpool_compress_gate", "OI"),
    Bare(r"Inkling2?RelativeLogits", "proj", "IO"),  # relative_states @ proj
    Bare("(Gemma3|T5Gemma2)MultiModalProjector", "mm_input_projection_weight", "IO"),  # torch.matmul(x, weight)
    Bare("XCLIPModel", "prompts_visual_projection", "IO"),  # x @ weight
    Bare("CsmCodebooksHead", "weight", "BIO"),  # F.linear(x, weight[i].T)
    Bare("RecurrentGemmaRglru", "input_gate_weight|recurrent_gate_weight", "BIO"),  # torch.baddbmm(bias, x, weight)
    Bare("ZambaMambaMixer", "x_proj_weight|dt_proj_weight", "BOI"),  # weight @ x
    Bare("XLNetRelativeAttention", "q|k|v|r", "IOO"),  # einsum("ibh,hnd->ibnd")
    Bare("XLNetRelativeAttention", "o", "OII"),  # einsum("ibnd,hnd->ibh")
    Bare("FunnelRelMultiheadAttention", "r_kernel", "IOO"),  # einsum("td,dnh->tnh")
    Bare("Inkling2DynamicShortConvolution", "static_weight", "KB", "depthwise_conv1d"),
    Bare("QuantLinear", "weight", "OI"),  # I-BERT
    Bare("QuantEmbedding", "weight", "IO", "embedding"),
    # torch_geometric: F.linear(x, weight), or x @ weight in a stack of matrices
    Bare("Linear", "weight", "OI"),
    Bare("Linear|HeteroLinear|(Fast)?RGCNConv|RGATConv|GatedGraphConv", "weight", "BIO"),
    Bare("(Fast)?RGCNConv", "root", "IO"),
    Bare("ARMAConv", "init_weight", "BIO"),
    Bare("ARMAConv", "weight|root_weight", "BBIO"),
    Bare("GMMConv", "g", "IO"),
    Bare("(GAT|GATv2|GATE|SuperGAT|HAN)Conv|LPAttLayer", "att|att_src|att_dst|att_[lr]", ""),
    # open_clip: x @ projection
    Bare("CLIP|MultimodalTransformer|TextTransformer", "text_projection", "IO"),
    Bare("VisionTransformer", "proj", "IO"),
    # diffusers
    Bare(".*", r"(\w+_)?scale_shift_table|modulate_table|modulation|\w*pad_token|padding_tokens|latent_queries", ""),
    Bare("MotionConv2d", "weight", "OIKK", "conv2d"),  # F.conv2d(x, weight * scale)
    Bare("MotionLinear|MoEGate", "weight", "OI"),  # F.linear(x, weight)
    Bare("SanaWMTemporalShortConvolution", "weight", "BIK", "depthwise_conv1d"),
    # denoising_diffusion_pytorch.KarrasUnet: F.conv2d(x, normalize_weight(weight)); pytorchcv: torchvision's operator
    Bare("Conv2d|DeformConv2d", "weight", "OIKK", "conv2d"),
    Bare("LinformerSelfAttention", "proj_[kv]", "IO"),  # einsum("bnd,nk->bkd")
    Bare("RelPosMHAXL", "in_proj_weight", "OI"),  # speechbrain: F.linear(x, weight)
    Bare("(Chan)?LayerNorm|RMSNorm", "[gb]", ""),
    Bare("XConv2d", "mask", ""),
    Bare(".*", r"mem_(k|v|kv)|memory_tokens|(\w+_)?[qk]_scale|rel_pos_t|(spatial|temporal)_pos", ""),
    # networks of architectures_torch.py
    Bare("GraphConvolution", "weight", "IO"),  # torch.mm(x, weight)
    Bare("Capsules", "route_weights", "BBIO"),  # x @ weight
    # names that say enough
    Bare(
        ".*",
        r".*(cls|dist|distillation|mask|reg|register|group|class|segment|detection)_?(register_)?tokens?(_.*)?|type_token_.*",
        "",
    ),
    Bare(
        ".*",
        r".*(pos|position|positional|time)_?(embed|embedding|embeddings|emb|enc|encoding|pos)(_.*|\d*)|class_pos_emb|(patch|pixel)_pos",
        "",
    ),
    Bare(
        ".*",
        r"rel_pos_[hw]|(height|width)_rel|emb_rel_[kv]|freqs|relative_position_bias_table|attention_biases|\w*_embedding_table",
        "",
    ),
    Bare(".*", r".*_?bias(_[uv])?|[rb]_[rsw]_bias|b\d|translate|beta", ""),
    Bare(
        ".*",
        r"A_log|D|time_mix_\w+|w_g|log_scale|logit_scale|temperature|layer_scale(_\d)?|gamma|alpha|gain|scale|grn",
        "",
    ),
    Bare(
        ".*",
        r".*(embed|embedding|embeddings|emb)(_parameter)?|latents?(_\dd)?|latent_query|query(_tokens)?|pooling_attention_query|probe",
        "",
    ),
    Bare(
        ".*",
        r"codevectors|label_embeddings_concat|position_enc|text_prompt|pad_(up|down|left|right)|\w*_feature_extensor|no_object_pointer",
        "",
    ),
    Bare(".*", r"index_kpool_compress_ape|gru_rel_pos_const|tau", ""),
    Bare(r"\w*GRN|Affine|ConvNextV2GRN", "weight|bias", ""),
    Bare("ParameterList", r"\d+", ""),  # Reformer's axial positions
)
"""Tried in this order; classes of transformers 5.23 and timm 1.0.31."""


def bare(owner: str, attribute: str, rank: int) -> Bare | None:
    """The first that fits, None where no one has looked at the class."""
    for candidate in BARE:
        if re.fullmatch(candidate.owner, owner) and re.fullmatch(candidate.attribute, attribute):
            return candidate if not candidate.axes or len(candidate.axes) == rank else None
    return None
