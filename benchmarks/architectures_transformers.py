"""Every model type of transformers: the class with the most used head, with its default sizes and with small ones."""

import contextlib
from collections.abc import Iterator
from typing import Any

import transformers
from architectures import Architecture
from saved_form import saved
from torch import nn
from transformers.models.auto import configuration_auto, modeling_auto

HEADS = (
    "MODEL_FOR_PRETRAINING_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES",
    "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
    "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_CTC_MAPPING_NAMES",
    "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)
"""Names of transformers' tables of classes; of each model type, the classes of the first two that have it."""

LAYERS = dict.fromkeys(
    (
        "num_hidden_layers",
        "num_layers",
        "n_layer",
        "n_layers",
        "encoder_layers",
        "decoder_layers",
        "num_encoder_layers",
        "num_decoder_layers",
        "num_encoder_blocks_",
        "depth",
        "n_encoder_layers",
        "num_blocks",
        "perceiver_layers",
        "vision_layers",
        "text_layers",
        "decoder_num_hidden_layers",
        "num_hidden_groups_",
        "l_layers",
        "x_layers",
        "r_layers",
        "decoder_num_layers",
        "v_layers",
        "num_codebooks_",
    ),
    3,
)
"""Numbers of layers, under all names that configurations have for them."""

SMALL = LAYERS | {
    "hidden_size": 48,
    "d_model": 48,
    "n_embd": 48,
    "embed_dim": 48,
    "dim": 48,
    "hidden_dim": 48,
    "intermediate_size": 112,
    "ffn_dim": 112,
    "d_ff": 112,
    "encoder_ffn_dim": 112,
    "decoder_ffn_dim": 112,
    "ffn_hidden_size": 112,
    "moe_intermediate_size": 40,
    "expert_ffn_hidden_size": 40,
    "shared_expert_intermediate_size": 72,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_kv_heads": 2,
    "head_dim": 16,
    "d_kv": 16,
    "num_experts": 6,
    "num_local_experts": 6,
    "n_routed_experts": 8,
}
"""Sizes that differ from each other; the vocabulary stays as it is."""


def networks() -> Iterator[Architecture]:
    """Of each model type, up to two classes, each twice."""
    for model_type, config_name in configuration_auto.CONFIG_MAPPING_NAMES.items():
        seen: list[str] = []
        for table in HEADS:
            names = getattr(modeling_auto, table).get(model_type, ())
            for name in (names,) if isinstance(names, str) else tuple(names)[:1]:
                if name not in seen:
                    seen.append(name)
        for name in seen[:2]:
            if name in INNER_CONFIGS:
                inner, overrides = INNER_CONFIGS[name]
                yield _network(f"{name}-small", name, inner, SMALL, overrides)
                continue
            yield _network(name, name, config_name, LAYERS)
            yield _network(f"{name}-small", name, config_name, SMALL)
    for name, class_name, config_name, overrides in VARIANTS:
        yield _network(name, class_name, config_name, SMALL, overrides)


NEEDED: dict[str, dict[str, Any]] = {
    "AutoformerConfig": {"prediction_length": 10},
    "InformerConfig": {"prediction_length": 10},
    "TimeSeriesTransformerConfig": {"prediction_length": 10},
    "EsmConfig": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "NemotronConfig": {"head_dim": 128, "num_key_value_heads": 8},
    "MinistralConfig": {"head_dim": 128},
    "HunYuanDenseV1Config": {"head_dim": 128},
    "HunYuanMoEV1Config": {"head_dim": 128},
    "MobileBertConfig": {"hidden_size": 256, "embedding_size": 128, "num_hidden_layers": 3},
    "SqueezeBertConfig": {"embedding_size": 48, "hidden_size": 48, "num_hidden_layers": 3},
    "Mamba2Config": {"num_heads": 6, "head_dim": 16, "hidden_size": 48, "expand": 2, "num_hidden_layers": 3},
    "GraniteMoeHybridConfig": {"mamba_n_heads": 8, "mamba_d_head": 12, "hidden_size": 48, "num_hidden_layers": 3},
    "BeitConfig": {"out_indices": [0, 1, 2, 3], "num_hidden_layers": 4},
    "DetrConfig": {
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone": None,
        "backbone_config": {"model_type": "resnet"},
    },
    "TableTransformerConfig": {
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone": None,
        "backbone_config": {"model_type": "resnet"},
    },
    "ConditionalDetrConfig": {
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone": None,
        "backbone_config": {"model_type": "resnet"},
    },
    "DeformableDetrConfig": {
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone": None,
        "d_model": 64,
        "backbone_config": {"model_type": "resnet", "out_features": ["stage2", "stage3", "stage4"]},
    },
    "DabDetrConfig": {
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone": None,
        "backbone_config": {"model_type": "resnet"},
    },
    "Wav2Vec2BertConfig": {"vocab_size": 61},
    "Wav2Vec2ConformerConfig": {"vocab_size": 61},
    "HieraConfig": {"mask_ratio": 0.6, "decoder_hidden_size": 64, "decoder_depth": 3, "decoder_num_heads": 4},
}
"""What a configuration must be given besides sizes: its defaults make no model."""

INNER_CONFIGS = {
    "DbrxForCausalLM": (
        "DbrxConfig",
        {
            "d_model": 48,
            "n_heads": 4,
            "n_layers": 3,
            "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4},
            "ffn_config": {"ffn_hidden_size": 80, "moe_num_experts": 6, "hidden_size": 48},
        },
    ),
    "Llama4ForCausalLM": ("Llama4TextConfig", {}),
    "Emu3ForCausalLM": ("Emu3TextConfig", {}),
    "Qwen3_5ForCausalLM": ("Qwen3_5TextConfig", {}),
    "Qwen3_5MoeForCausalLM": ("Qwen3_5MoeTextConfig", {}),
    "MusicgenForCausalLM": ("MusicgenDecoderConfig", {}),
    "MusicgenMelodyForCausalLM": ("MusicgenMelodyDecoderConfig", {}),
    "Lfm2MoeForCausalLM": ("Lfm2MoeConfig", {"layer_types": ["conv", "full_attention", "conv"], "num_dense_layers": 1}),
}
"""Classes that are built from another configuration than their model type's."""

VARIANTS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    (
        "FalconForCausalLM-new",
        "FalconForCausalLM",
        "FalconConfig",
        {"new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    (
        "FalconForCausalLM-heads",
        "FalconForCausalLM",
        "FalconConfig",
        {"new_decoder_architecture": False, "multi_query": False},
    ),
    ("GPTBigCodeForCausalLM-heads", "GPTBigCodeForCausalLM", "GPTBigCodeConfig", {"multi_query": False}),
    ("GPTBigCodeForCausalLM-query", "GPTBigCodeForCausalLM", "GPTBigCodeConfig", {"multi_query": True}),
    ("LlamaForCausalLM-wide-heads", "LlamaForCausalLM", "LlamaConfig", {"head_dim": 24}),
    ("LlamaForCausalLM-bias", "LlamaForCausalLM", "LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    ("GPT2LMHeadModel-square", "GPT2LMHeadModel", "GPT2Config", {"n_inner": 48}),
    ("BloomForCausalLM-square", "BloomForCausalLM", "BloomConfig", {"hidden_size": 48, "n_head": 4}),
    ("OPTForCausalLM-projected", "OPTForCausalLM", "OPTConfig", {"word_embed_proj_dim": 40}),
    (
        "AlbertForPreTraining-groups",
        "AlbertForPreTraining",
        "AlbertConfig",
        {"num_hidden_groups": 2, "inner_group_num": 2},
    ),
    (
        "Wav2Vec2ForCTC-layer-norm",
        "Wav2Vec2ForCTC",
        "Wav2Vec2Config",
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
    ),
    (
        "ReformerModelWithLMHead-decoder",
        "ReformerModelWithLMHead",
        "ReformerConfig",
        {"is_decoder": True, "hidden_size": 256},
    ),
    ("PhiForCausalLM-square", "PhiForCausalLM", "PhiConfig", {"intermediate_size": 48}),
)


def _network(
    name: str, class_name: str, config_name: str, sizes: dict[str, int], overrides: dict[str, Any] | None = None
) -> Architecture:
    return Architecture(
        name=name,
        library="transformers",
        build=lambda: _model(class_name, config_name, sizes, overrides or {}),
        config=lambda model: model.config.to_diff_dict() | {"architectures": [type(model).__name__]},
        saved=saved if sizes is SMALL else lambda model, tensors: None,
    )


def _model(class_name: str, config_name: str, sizes: dict[str, int], overrides: dict[str, Any]) -> nn.Module:
    """The model with the sizes that its configuration knows; with fewer of them where they contradict each other."""
    model_class = getattr(transformers, class_name)
    config_class = getattr(transformers, config_name)
    tries = [sizes] if sizes is not LAYERS else [LAYERS, {}]
    error: Exception | None = None
    for wanted in tries:
        try:
            return _made(model_class, _config(config_class, wanted, overrides))
        except Exception as caught:
            error = caught
    raise error or AssertionError


def _made(model_class: Any, config: Any) -> nn.Module:
    with contextlib.ExitStack() as stack:
        stack.enter_context(transformers.initialization.no_init_weights())
        return model_class(config) if not hasattr(model_class, "_from_config") else model_class._from_config(config)


def _config(config_class: Any, sizes: dict[str, int], overrides: dict[str, Any]) -> Any:
    """The default configuration with these sizes, also in the configurations inside it."""
    default = config_class()
    needed = NEEDED.get(config_class.__name__, {})
    return config_class(**(_changes(default, sizes) | needed | overrides))


def _changes(default: Any, sizes: dict[str, int]) -> dict[str, Any]:
    content = default.to_dict()
    changes: dict[str, Any] = {}
    names = {default.attribute_map.get(name, name): size for name, size in sizes.items()}
    for name, value in content.items():
        if name in names and (value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 1)):
            changes[name] = min(names[name], value) if isinstance(value, int) else names[name]
    for name in getattr(default, "sub_configs", {}):
        inner = getattr(default, name, None)
        if inner is not None and hasattr(inner, "to_dict"):
            changes[name] = inner.to_dict() | _changes(inner, sizes)
    depth = next((changes[n] for n in ("num_hidden_layers", "n_layer", "num_layers") if n in changes), None)
    for name, value in content.items():
        if (
            name in ("layer_types", "mlp_layer_types", "attention_layers", "layers_block_type")
            and isinstance(value, list)
            and depth
        ):
            changes[name] = _some_of_each(value, depth)
    return changes


def _some_of_each(types: list[Any], count: int) -> list[Any]:
    """Types of so many layers, every type among them where there is room."""
    kinds = list(dict.fromkeys(types))
    return (kinds + types)[:count] if len(kinds) <= count else types[:count]
