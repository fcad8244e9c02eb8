"""Networks of libraries that the classification of files was not developed on, each with a few lines of its own.

`LIBRARIES` has them by name. A class is built with its own defaults; what it has no default for is taken from a table
by the argument's name, and what is left is among those that did not build. No library is imported before it is asked
for, and none has to be installed for another.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from architectures import Architecture
from torch import nn

for _name in ("nms", "qnms"):  # torchvision without its compiled operators, which building a network does not call
    torch.library.define(f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

FEW = dict.fromkeys(
    (
        "num_layers",
        "num_single_layers",
        "num_joint_layers",
        "num_mmdit_layers",
        "num_single_dit_layers",
        "num_refiner_layers",
        "num_double_stream_layers",
        "num_single_stream_layers",
        "num_double_layers",
        "num_encoder_layers",
        "num_decoder_layers",
        "depth",
        "n_layers",
    ),
    2,
)
"""Numbers of layers, under the names that classes have for them."""


def filled(cls: Callable[..., nn.Module], values: Mapping[str, Any], **given: Any) -> nn.Module:
    """An object of the class, with those of the values that it has no default for, and all that are given."""
    parameters = inspect.signature(cls).parameters
    needed = {
        name: values[name]
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and name in values
    }
    return cls(**(needed | given))


def few_layers(cls: Callable[..., nn.Module]) -> dict[str, Any]:
    """Of the numbers of layers that the class has a default for, small ones."""
    parameters = inspect.signature(cls).parameters
    return {name: 2 for name in FEW if name in parameters and isinstance(parameters[name].default, int)}


def of_classes(
    library: str,
    classes: Iterable[tuple[str, Callable[..., nn.Module]]],
    values: Mapping[str, Any],
    given: Mapping[str, Mapping[str, Any]],
    config: Callable[[nn.Module], Any] = lambda model: None,
) -> Iterator[Architecture]:
    """One network of each class."""
    for name, cls in classes:
        arguments = few_layers(cls) | dict(given.get(name, {}))
        build = lambda cls=cls, arguments=arguments: filled(cls, values, **arguments)  # noqa: E731
        yield Architecture(name=name, library=library, build=build, config=config)


def classes_of(module: Any, *, own: bool = False) -> Iterator[tuple[str, type[nn.Module]]]:
    """The modules that a module exports or, with `own`, defines; each once."""
    seen = set()
    for name, cls in sorted(vars(module).items(), key=lambda item: (item[0].lower(), item[0])):
        if not (inspect.isclass(cls) and issubclass(cls, nn.Module)) or cls in seen:
            continue
        if not own or cls.__module__ == module.__name__:
            seen.add(cls)
            yield cls.__name__ if not own else name, cls


def torchvision() -> Iterator[Architecture]:
    """Everything that it lists, less the quantised."""
    models = importlib.import_module("torchvision.models")
    for name in models.list_models():
        if not name.startswith("quantized_"):
            given = {"weights": None} | ({"weights_backbone": None} if "rcnn" in name or "_" in name else {})
            yield Architecture(name, "torchvision", lambda name=name, given=given: _of_torchvision(models, name, given))


def _of_torchvision(models: Any, name: str, given: dict[str, Any]) -> nn.Module:
    accepted = inspect.signature(models.get_model_builder(name)).parameters
    return models.get_model(name, **{key: value for key, value in given.items() if key in accepted})


def diffusers() -> Iterator[Architecture]:
    """Every model class with its default sizes and few layers."""
    models = importlib.import_module("diffusers.models")
    names = [name for group in models._import_structure.values() for name in group]
    base = models.ModelMixin
    found = []
    for name in sorted(set(names) - {"ModelMixin", "AutoModel"}):
        cls = getattr(models, name)
        if inspect.isclass(cls) and issubclass(cls, base):
            found.append((name, cls))
    given = {
        "UNet1DModel": {"block_out_channels": (32, 32, 64)},
        "PriorTransformer": {"num_layers": 2},
        "Transformer2DModel": {"in_channels": 64},
        "TransformerTemporalModel": {"in_channels": 64},
        "DualTransformer2DModel": {"in_channels": 64, "cross_attention_dim": 48},
        "MotionAdapter": {"block_out_channels": (64, 128)},
        "HunyuanDiT2DModel": {"sample_size": 32, "patch_size": 2, "in_channels": 4, "hidden_size": 96, "num_layers": 4},
        "LatteTransformer3DModel": {"in_channels": 4, "sample_size": 32, "patch_size": 2, "caption_channels": 48},
        "LuminaNextDiT2DModel": {"sample_size": 32, "cross_attention_dim": 64, "num_kv_heads": 8},
        "EasyAnimateTransformer3DModel": {"in_channels": 16, "sample_width": 90, "sample_height": 60},
        "HiDreamImageTransformer2DModel": {
            "patch_size": 2,
            "in_channels": 16,
            "caption_channels": (64, 48),
            "num_single_layers": 1,
            "num_layers": 1,
            "llama_layers": (0, 1),
        },
        "WanVACETransformer3DModel": {"num_layers": 3, "vace_layers": [0, 2]},
        "ControlNetUnionModel": {"addition_embed_type": "text_time", "projection_class_embeddings_input_dim": 2816,
                                 "addition_time_embed_dim": 256},
    }  # fmt: skip
    return of_classes("diffusers", found, {}, given, config=lambda model: dict(model.config))


def monai() -> Iterator[Architecture]:
    """Its networks, in three dimensions where they have a choice."""
    nets = importlib.import_module("monai.networks.nets")
    values = {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
        "channels": (8, 16, 32),
        "strides": (2, 2),
        "in_shape": (1, 32, 32),
        "out_shape": (2,),
        "img_size": (64, 64, 64),
        "image_size": (64, 64),
        "patch_size": (16, 16, 16),
        "num_classes": 2,
        "latent_size": 16,
        "latent_shape": (16,),
        "start_shape": (16, 4, 4),
        "classes": 2,
        "label_nc": 3,
        "kernel_size": (3, 3, 3),
        "upsample_kernel_size": (2, 2),
        "backbone": "efficientnet-b0",
        "num_channel_initial": 8,
        "extract_levels": (0, 1, 2),
        "num_tokens": 64,
        "max_seq_len": 128,
        "attn_layers_dim": 96,
        "attn_layers_depth": 2,
        "attn_layers_heads": 4,
        "num_layers": 2,
        "latent_channels": 3,
        "channel": 8,
        "hidden_channels": (16, 8),
        "dim": 64,
        "block": "basic",
        "layers": (1, 1, 1, 1),
        "groups": 1,
        "reduction": 16,
        "block_inplanes": (8, 16, 32, 64),
        "num_layers_d": 3,
        "num_d": 2,
        "encoder_channels": (8, 16),
        "decoder_channels": (16, 8),
        "depth": 3,
        "model_name": "resnet18",
        "hidden_size": 96,
        "mlp_dim": 160,
        "num_heads": 4,
        "num_language_layers": 2,
        "num_vision_layers": 2,
        "num_mixed_layers": 2,
        "input_image_size": (32, 32, 32),
        "encode_channels": (16, 8),
        "decode_channels": (8, 16),
        "unet_out_channels": 16,
        "final_conv_channels": (16, 16),
        "in_planes": 16,
        "planes": 16,
        "input_shape": (64, 64),
    }
    given = {
        "SwinUNETR": {"feature_size": 24},
        "DynUNet": {"kernel_size": [3, 3, 3], "strides": [1, 2, 2]},
        "ViT": {"num_layers": 2, "classification": True},
        "UNETR": {"img_size": (64, 64, 64), "out_channels": 2},
        "EfficientNetBN": {"model_name": "efficientnet-b0", "pretrained": False},
        "EfficientNetBNFeatures": {"model_name": "efficientnet-b0", "pretrained": False},
        "EfficientNet": {"blocks_args_str": ["r1_k3_s11_e1_i32_o16_se0.25", "r2_k3_s22_e6_i16_o24_se0.25"]},
        "SENet": {"block": "se_bottleneck"},
        "SEResNet50": {"spatial_dims": 3, "in_channels": 1},
        "SEResNext50": {"spatial_dims": 3, "in_channels": 1},
        "SENet154": {"spatial_dims": 3, "in_channels": 1},
        "AutoEncoder": {"channels": (8, 16), "strides": (2, 2)},
        "VarAutoEncoder": {"channels": (8, 16), "strides": (2, 2)},
        "GlobalNet": {"image_size": (32, 32, 32)},
        "ResNetFeatures": {"pretrained": False},
        "ResNetEncoder": {"pretrained": False},
        "FlexibleUNet": {"backbone": "resnet18", "pretrained": False},
        "SPADENet": {"spatial_dims": 2, "in_channels": 1, "label_nc": 3},
        "MILModel": {"mil_mode": "att_trans_pyramid", "pretrained": False},
        "TorchVisionFCModel": {"model_name": "resnet18", "pretrained": False},
        "AutoencoderKL": {"channels": (32, 64), "num_res_blocks": (1, 1), "attention_levels": (False, True)},
        "SPADEAutoencoderKL": {"channels": (32, 64), "num_res_blocks": (1, 1), "attention_levels": (False, True)},
        "DiffusionModelUNet": {"channels": (32, 64), "attention_levels": (False, True), "num_res_blocks": (1, 1)},
        "SPADEDiffusionModelUNet": {"channels": (32, 64), "attention_levels": (False, True), "num_res_blocks": (1, 1)},
        "ControlNet": {"channels": (32, 64), "attention_levels": (False, True), "num_res_blocks": (1, 1)},
        "LocalNet": {"extract_levels": (0, 1)},
        "MedNeXt": {"in_channels": 1},
        "PatchDiscriminator": {"channels": 8},
        "MultiScalePatchDiscriminator": {"channels": 8},
        "VNet": {"in_channels": 1},
        "ViTAutoEnc": {"num_layers": 2},
        "MaskedAutoEncoderViT": {"num_layers": 2, "decoder_num_layers": 2},
    }
    classes = [(name, cls) for name, cls in classes_of(nets) if name != "Transchex"]  # that would be downloaded
    return of_classes("monai", classes, values, given)


def torchaudio() -> Iterator[Architecture]:
    """Its models, by their factories where there are some."""
    models = importlib.import_module("torchaudio.models")
    given: dict[str, dict[str, Any]] = {
        "conv_tasnet_base": {},
        "hdemucs_low": {},
        "hdemucs_high": {"sources": ["drums", "bass", "other"]},
        "wav2vec2_base": {"aux_num_out": 32},
        "wav2vec2_large_lv60k": {},
        "hubert_base": {},
        "hubert_pretrain_base": {},
        "wavlm_base": {},
        "wavlm_large": {},
        "squim_objective_base": {},
        "squim_subjective_base": {},
        "emformer_rnnt_base": {"num_symbols": 64},
        "Tacotron2": {},
        "DeepSpeech": {"n_feature": 80},
        "Wav2Letter": {},
        "WaveRNN": {"upsample_scales": [5, 5, 8], "n_classes": 256, "hop_length": 200},
        "Conformer": {
            "input_dim": 80,
            "num_heads": 4,
            "ffn_dim": 128,
            "num_layers": 2,
            "depthwise_conv_kernel_size": 31,
        },
        "Emformer": {"input_dim": 80, "num_heads": 4, "ffn_dim": 128, "num_layers": 2, "segment_length": 4},
    }
    given["hdemucs_low"] = {"sources": ["drums", "bass", "other"]}
    for name, arguments in given.items():
        build = lambda name=name, arguments=arguments: getattr(models, name)(**arguments)  # noqa: E731
        yield Architecture(name, "torchaudio", build)


def segmentation_models_pytorch() -> Iterator[Architecture]:
    """Every architecture with one encoder, and the first with one encoder of each family."""
    smp = importlib.import_module("segmentation_models_pytorch")
    for name, cls in classes_of(smp):
        encoder = "tu-vit_base_patch16_224" if name == "DPT" else "resnet18"
        build = lambda cls=cls, encoder=encoder: cls(encoder, encoder_weights=None)  # noqa: E731
        yield Architecture(name, "segmentation_models_pytorch", build)
    families: dict[str, str] = {}
    for encoder in smp.encoders.encoders:
        families.setdefault(re.split(r"[\d_]", encoder.removeprefix("timm-"))[0], encoder)
    for encoder in families.values():
        build = lambda encoder=encoder: smp.Unet(encoder, encoder_weights=None)  # noqa: E731
        yield Architecture(f"Unet-{encoder}", "segmentation_models_pytorch", build)


def vit_pytorch() -> Iterator[Architecture]:
    """The network of each of its files."""
    package = importlib.import_module("vit_pytorch")
    values = {
        "image_size": 64,
        "image_patch_size": 8,
        "patch_size": 8,
        "frames": 8,
        "frame_patch_size": 2,
        "num_frames": 8,
        "img_size": 64,
        "seq_len": 64,
        "num_classes": 10,
        "dim": 96,
        "depth": 2,
        "spatial_depth": 2,
        "temporal_depth": 2,
        "heads": 4,
        "dim_head": 24,
        "mlp_dim": 160,
        "cls_depth": 1,
        "max_tokens_per_depth": (32, 16),
        "window_size": 4,
        "num_hierarchies": 3,
        "ndim": 3,
        "input_shape": 64,
        "image_height": 64,
        "n_input_channels": 3,
        "dims": (48, 64, 80),
        "stages": 3,
        "local_patch_size": 4,
        "num_memories": 4,
        "max_frames": 8,
        "freq_patch_size": 8,
        "num_residual_streams": 4,
        "num_slots": 8,
    }
    given = {
        "mobile_vit.MobileViT": {
            "image_size": (256, 256),
            "dims": [96, 120, 144],
            "channels": [16, 32, 48, 48, 64, 64, 80, 80, 96, 96, 384],
        },
        "max_vit.MaxViT": {"depth": (1, 2), "dim": 64, "dim_head": 32},
        "max_vit_with_registers.MaxViT": {"depth": (1, 2), "dim": 64, "dim_head": 32},
        "pit.PiT": {"depth": (1, 2), "dim": 48},
        "nest.NesT": {"image_size": 64, "patch_size": 4, "block_repeats": (1, 1, 1)},
        "levit.LeViT": {"image_size": 224, "dim": (96, 128), "depth": 2, "heads": (4, 8), "stages": 2, "mlp_mult": 2},
        "scalable_vit.ScalableViT": {
            "dim": 32,
            "heads": (2, 4),
            "depth": (1, 1),
            "reduction_factor": (4, 2),
            "window_size": (4, None),
        },
        "sep_vit.SepViT": {"depth": (1, 1), "heads": (2, 4)},
        "cross_vit.CrossViT": {"image_size": 192, "sm_dim": 48, "lg_dim": 64},
        "jet_vit.JetViT": {"dim": 96, "dim_head": 24},
        "looped_vit.LoopedViT": {"image_size": 64},
        "t2t.T2TViT": {"depth": 2, "heads": 4, "mlp_dim": 160},
        "look_vit.LookViT": {"image_size": 64, "highres_patch_size": 8, "patch_size": 16},
    }
    for info in pkgutil.iter_modules(package.__path__):
        try:
            module = importlib.import_module(f"vit_pytorch.{info.name}")
        except ImportError:
            continue
        own = {name: cls for name, cls in vars(module).items() if inspect.isclass(cls) and issubclass(cls, nn.Module)}
        own = {name: cls for name, cls in own.items() if cls.__module__ == module.__name__}
        if own:
            name, cls = list(own.items())[-1]
            yield from of_classes("vit_pytorch", [(f"{info.name}.{name}", cls)], values, given)


def x_transformers() -> Iterator[Architecture]:
    """A decoder with one option each, and the wrappers."""
    x = importlib.import_module("x_transformers")
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "glu": {"ff_glu": True, "ff_swish": True},
        "no-bias": {"ff_no_bias": True},
        "memory": {"attn_num_mem_kv": 16},
        "scalenorm": {"use_scalenorm": True},
        "rmsnorm": {"use_rmsnorm": True},
        "talking-heads": {"attn_pre_talking_heads": True, "attn_post_talking_heads": True},
        "one-kv": {"attn_one_kv_head": True},
        "kv-heads": {"attn_kv_heads": 2},
        "on-attention": {"attn_on_attn": True},
        "gated-values": {"attn_gate_values": True},
        "sandwich": {"sandwich_coef": 2},
        "macaron": {"macaron": True},
        "relative": {"rel_pos_bias": True},
        "gate-residual": {"gate_residual": True},
        "rotary": {"rotary_pos_emb": True},
        "alibi": {"alibi_pos_bias": True, "alibi_num_heads": 4},
        "dynamic": {"dynamic_pos_bias": True},
        "shift": {"shift_tokens": 1},
        "qk-norm": {"attn_qk_norm": True, "attn_qk_norm_dim_scale": True},
        "post-norm": {"pre_norm": False, "residual_attn": True},
        "cross": {"cross_attend": True},
        "latent": {
            "attn_use_latent_q": True, "attn_dim_latent_q": 24, "attn_use_latent_kv": True, "attn_dim_latent_kv": 24,
        },
        "hyper": {"num_residual_streams": 4},
        "peer": {"ff_glu": True, "ff_glu_mult_bias": True},
    }  # fmt: skip
    for name, given in options.items():
        yield Architecture(
            f"decoder-{name}",
            "x_transformers",
            lambda given=given: x.TransformerWrapper(
                num_tokens=300, max_seq_len=128, attn_layers=x.Decoder(dim=96, depth=2, heads=4, **given)
            ),
        )
    both = {"num_tokens": 256, "depth": 2, "heads": 4, "max_seq_len": 64}
    sides = {f"{side}_{key}": value for side in ("enc", "dec") for key, value in both.items()}
    made: dict[str, Callable[[], nn.Module]] = {
        "XTransformer": lambda: x.XTransformer(dim=96, tie_token_emb=True, **sides),
        "ViTransformerWrapper": lambda: x.ViTransformerWrapper(
            image_size=64, patch_size=8, num_classes=10, attn_layers=x.Encoder(dim=96, depth=2, heads=4)
        ),
        "ContinuousTransformerWrapper": lambda: x.ContinuousTransformerWrapper(
            dim_in=32, dim_out=100, max_seq_len=64, attn_layers=x.Encoder(dim=96, depth=2, heads=4)
        ),
        "memory-tokens": lambda: x.TransformerWrapper(
            num_tokens=300,
            max_seq_len=128,
            num_memory_tokens=20,
            emb_dim=48,
            attn_layers=x.Encoder(dim=96, depth=2, heads=4),
        ),
    }
    for name, build in made.items():
        yield Architecture(name, "x_transformers", build)


def open_clip() -> Iterator[Architecture]:
    """Every configuration; those that are made like another are dumped once."""
    clip = importlib.import_module("open_clip")
    for name in clip.list_models():
        config = clip.get_model_config(name)
        if "hf_model_name" not in config["text_cfg"]:  # the text tower would be downloaded
            yield Architecture(
                name.replace("/", "-"), "open_clip", lambda name=name: clip.create_model(name, device="meta")
            )


class Two(nn.Module):
    """Two layers of a graph network one after the other, as tutorials write them."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.conv1, self.conv2 = first, second


def torch_geometric() -> Iterator[Architecture]:
    """Its models, and two layers of each of its convolutions."""
    package = importlib.import_module("torch_geometric.nn")
    values = {
        "in_channels": 32,
        "hidden_channels": 64,
        "out_channels": 16,
        "num_layers": 3,
        "num_nodes": 50,
        "num_relations": 5,
        "embedding_dim": 24,
        "edge_dim": 8,
        "num_timesteps": 2,
        "depth": 2,
        "num_blocks": 2,
        "num_bilinear": 8,
        "int_emb_size": 16,
        "basis_emb_size": 8,
        "out_emb_channels": 32,
        "num_spherical": 3,
        "num_radial": 4,
        "hidden_size": 64,
        "seq_len": 5,
        "channels": 64,
        "mode": "lstm",
        "num_classes": 7,
        "hidden_node_channels": 32,
        "hidden_edge_channels": 16,
        "dim": 3,
        "kernel_size": 3,
        "aggregators": ["mean", "max"],
        "scalers": ["identity"],
        "deg": torch.tensor([1, 2, 3], device="cpu"),
        "K": 3,
        "heads": 2,
        "alpha": 0.1,
        "k": 4,
        "space_dimensions": 4,
        "propagate_dimensions": 8,
        "filter_size": 3,
        "num_node_types": 2,
        "num_edge_types": 3,
        "edge_type_emb_dim": 8,
        "edge_attr_emb_dim": 8,
        "first_aggr": True,
        "num_rels": 5,
        "types": ["a", "b"],
        "dim_emb": 32,
        "dim_pe_in": 8,
        "dim_pe_out": 8,
        "max_degree": 4,
        "num_segments": 2,
        "nn": nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 32 * 64)),
        "metadata": (["a", "b"], [("a", "to", "b")]),
    }
    given: dict[str, dict[str, Any]] = {
        "MLP": {"channel_list": [32, 64, 16]},
        "PNA": {"aggregators": ["mean"], "scalers": ["identity"], "deg": values["deg"]},
        "JumpingKnowledge": {"channels": 64, "num_layers": 3},
        "HeteroJumpingKnowledge": {"channels": 64, "num_layers": 3},
    }
    names = [name for name in package.models.__all__ if inspect.isclass(getattr(package, name))]
    yield from of_classes("torch_geometric", [(name, getattr(package, name)) for name in names], values, given)
    for name in package.conv.__all__:
        cls = getattr(package, name)
        if inspect.isclass(cls) and name != "MessagePassing":
            second = values | {"in_channels": 64}
            build = lambda cls=cls, second=second: Two(filled(cls, values | {"out_channels": 64}), filled(cls, second))  # noqa: E731
            yield Architecture(f"two-{name}", "torch_geometric", build)


def speechbrain() -> Iterator[Architecture]:
    """The networks of its recipes."""
    values = {
        "input_shape": (8, 100, 80),
        "input_size": 80,
        "tgt_vocab": 200,
        "vocab": 200,
        "d_model": 64,
        "nhead": 4,
        "d_ffn": 128,
        "in_channels": 64,
        "out_channels": 64,
        "num_layers": 2,
        "output_neurons": 50,
        "num_spks": 2,
    }
    wanted: dict[str, dict[str, Any]] = {
        "CRDNN.CRDNN": {"input_shape": (8, 100, 80)},
        "Cnn14.Cnn14": {"mel_bins": 64, "emb_dim": 128},
        "ContextNet.ContextNet": {},
        "DiffWave.DiffWave": {"input_channels": 80, "residual_layers": 3, "residual_channels": 16,
                              "dilation_cycle_length": 3, "total_steps": 50},
        "ECAPA_TDNN.ECAPA_TDNN": {"input_size": 80},
        "ESPnetVGG.ESPnetVGG": {},
        "EnhanceResnet.EnhanceResnet": {},
        "HifiGAN.HifiganGenerator": {"in_channels": 80, "out_channels": 1, "resblock_type": "1",
                                     "resblock_dilation_sizes": [[1, 3, 5]] * 3, "resblock_kernel_sizes": [3, 7, 11],
                                     "upsample_kernel_sizes": [16, 16, 4, 4], "upsample_initial_channel": 64,
                                     "upsample_factors": [8, 8, 2, 2]},
        "HifiGAN.HifiganDiscriminator": {},
        "MetricGAN.EnhancementGenerator": {},
        "MetricGAN.MetricDiscriminator": {},
        "RNNLM.RNNLM": {"output_neurons": 50, "embedding_dim": 32},
        "ResNet.ResNet": {},
        "Tacotron2.Tacotron2": {},
        "MSTacotron2.Tacotron2": {"spk_emb_size": 64},
        "VanillaNN.VanillaNN": {"input_shape": (8, 100, 80)},
        "Xvector.Xvector": {"in_channels": 40},
        "beats.BEATs": {},
        "segan_model.Generator": {"kernel_size": 31},
        "segan_model.Discriminator": {"kernel_size": 31},
        "wav2vec.W2VLatentExtractor": {},
        "wav2vec.W2VTargetQuantiser": {},
        "conv_tasnet.MaskNet": {"N": 32, "B": 16, "H": 24, "P": 3, "X": 2, "R": 2, "C": 2},
        "dual_path.SepformerWrapper": {"encoder_out_nchannels": 32, "masknet_chunksize": 50, "masknet_numlayers": 1},
        "resepformer.ResourceEfficientSeparator": {"input_dim": 64},
        "transformer.Conformer.ConformerEncoder": {},
        "transformer.Conformer.ConformerDecoder": {},
        "transformer.Branchformer.BranchformerEncoder": {},
        "transformer.TransformerASR.TransformerASR": {"input_size": 80, "d_model": 64, "nhead": 4, "d_ffn": 128},
        "transformer.TransformerLM.TransformerLM": {"d_model": 64, "nhead": 4, "d_ffn": 128, "d_embedding": 32},
        "transformer.TransformerSE.CNNTransformerSE": {"d_model": 64, "output_size": 50},
        "FastSpeech2.AlignmentNetwork": {},
        "L2I.Psi": {},
        "L2I.NMFDecoderAudio": {},
        "L2I.Theta": {},
        "PIQ.VectorQuantizedPSI_Audio": {},
    }  # fmt: skip
    for name, given in wanted.items():
        path, _, cls = name.rpartition(".")
        build = lambda path=path, cls=cls, given=given: filled(  # noqa: E731
            getattr(importlib.import_module(f"speechbrain.lobes.models.{path}"), cls), values, **given
        )
        yield Architecture(name, "speechbrain", build)


def pytorchcv() -> Iterator[Architecture]:
    """The first two models of each family of names."""
    models = importlib.import_module("pytorchcv.model_provider")._models
    families: dict[str, int] = {}
    for name, build in models.items():
        family = re.split(r"[\d_]", name)[0]
        families[family] = families.get(family, 0) + 1
        if families[family] <= 2:
            yield Architecture(name, "pytorchcv", lambda build=build: build(pretrained=False))


def others() -> Iterator[Architecture]:
    """Packages of one or two networks."""
    wanted: dict[str, dict[str, Any]] = {
        "performer_pytorch.PerformerLM": {"num_tokens": 300, "max_seq_len": 64, "dim": 96, "depth": 2, "heads": 4},
        "linformer.Linformer": {"dim": 96, "seq_len": 128, "depth": 2, "heads": 4, "k": 32},
        "linformer.LinformerLM": {"num_tokens": 300, "dim": 96, "seq_len": 128, "depth": 2},
        "perceiver_pytorch.Perceiver": {"num_freq_bands": 6, "max_freq": 10.0, "depth": 2},
        "perceiver_pytorch.PerceiverIO": {"dim": 32, "queries_dim": 24, "logits_dim": 100, "depth": 2},
        "reformer_pytorch.ReformerLM": {"num_tokens": 300, "dim": 96, "depth": 2, "max_seq_len": 128, "heads": 4},
        "tab_transformer_pytorch.TabTransformer": {
            "categories": (10, 5, 6), "num_continuous": 10, "dim": 32, "depth": 2, "heads": 4, "dim_out": 1,
        },
        "tab_transformer_pytorch.FTTransformer": {
            "categories": (10, 5, 6), "num_continuous": 10, "dim": 32, "depth": 2, "heads": 4,
        },
        "denoising_diffusion_pytorch.Unet": {"dim": 32, "dim_mults": (1, 2)},
        "denoising_diffusion_pytorch.KarrasUnet": {"image_size": 32, "dim": 32},
        "denoising_diffusion_pytorch.Unet1D": {"dim": 32, "dim_mults": (1, 2)},
        "local_attention.LocalTransformer": {
            "num_tokens": 300, "max_seq_len": 64, "dim": 96, "depth": 2, "local_attn_window_size": 16,
        },
        "pytorch_tabnet.tab_network.TabNet": {
            "input_dim": 20, "output_dim": 3, "cat_idxs": [0], "cat_dims": [5], "cat_emb_dim": [2],
            "group_attention_matrix": torch.eye(20, device="cpu"),
        },
        "efficientnet_pytorch.EfficientNet": {},
        "neuralop.models.FNO": {"n_modes": (8, 8), "in_channels": 1, "out_channels": 1, "hidden_channels": 24},
        "neuralop.models.TFNO": {"n_modes": (8, 8), "in_channels": 1, "out_channels": 1, "hidden_channels": 24},
        "neuralop.models.UNO": {
            "in_channels": 3, "out_channels": 3, "hidden_channels": 24, "channel_mlp_skip": "linear", "n_layers": 3,
            "uno_out_channels": [24, 24, 24], "uno_n_modes": [[4, 4], [4, 4], [4, 4]],
            "uno_scalings": [[1.0, 1.0], [0.5, 0.5], [1, 1]],
        },
    }  # fmt: skip
    for name, given in wanted.items():
        path, _, cls = name.rpartition(".")
        yield Architecture(
            name, "others", lambda path=path, cls=cls, given=given: _other(importlib.import_module(path), cls, given)
        )


def _other(module: Any, cls: str, given: dict[str, Any]) -> nn.Module:
    made = getattr(module, cls)
    model: nn.Module = made.from_name("efficientnet-b0") if cls == "EfficientNet" else made(**given)
    return model


LIBRARIES: dict[str, Callable[[], Iterator[Architecture]]] = {
    made.__name__: made
    for made in (
        torchvision,
        diffusers,
        monai,
        torchaudio,
        segmentation_models_pytorch,
        vit_pytorch,
        x_transformers,
        open_clip,
        torch_geometric,
        speechbrain,
        pytorchcv,
        others,
    )
}
"""By the name that `architectures.py` takes; each is the name of a package, or of the packages of one network."""
