"""What each tensor is taken for, against the torch modules that it comes from."""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import all_names, by_name, described_tensor, random_tensors, report_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from weightstats.checkpoint import Checkpoint
from weightstats.layers import Layer, Other, classify
from weightstats.network import find_network
from weightstats.report import Report

EMBEDDING = "an embedding: rows that are looked up are no fan-in"

Kinds = Mapping[str, str]


def named(**modules: nn.Module) -> nn.Module:
    return nn.ModuleDict(modules)


def report_on(folder: Path, network: nn.Module | Mapping[str, torch.Tensor]) -> Report:
    """The report on a state dict as safetensors, its fused weights whole."""
    tensors = network.state_dict() if isinstance(network, nn.Module) else network
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return report_of(folder, whole, "model.safetensors", as_stored=True)


def report_on_shapes(folder: Path, **shapes: tuple[int, ...]) -> Report:
    """The report on random tensors; in the names `__` stands for a dot."""
    return report_on(folder, random_tensors({name.replace("__", "."): shape for name, shape in shapes.items()}))


def kinds(report: Report) -> dict[str, str]:
    return {row.name: row.kind for row in (*report.layers, *report.others)}


def fans(report: Report) -> dict[str, tuple[int, int]]:
    return {row.name: (row.n_in, row.n_out) for row in report.layers}


class PReLUNetwork(nn.Sequential):
    """A network as facenet-pytorch builds it."""

    def __init__(self) -> None:
        super().__init__(OrderedDict(conv1=nn.Conv2d(3, 4, 3), prelu1=nn.PReLU(4), dense=nn.Linear(4, 2)))


ORDINARY: Mapping[str, tuple[Callable[[], nn.Module], Kinds]] = {
    "linear": (lambda: named(fc=nn.Linear(5, 3)), {"fc.weight": "linear", "fc.bias": "bias"}),
    "linear of one output": (lambda: named(fc=nn.Linear(5, 1)), {"fc.weight": "linear", "fc.bias": "bias"}),
    "conv1d": (lambda: named(c=nn.Conv1d(5, 3, 7)), {"c.weight": "conv1d", "c.bias": "bias"}),
    "conv2d": (lambda: named(c=nn.Conv2d(5, 3, (2, 4))), {"c.weight": "conv2d", "c.bias": "bias"}),
    "conv3d": (lambda: named(c=nn.Conv3d(5, 3, 2)), {"c.weight": "conv3d", "c.bias": "bias"}),
    "conv 1x1": (lambda: named(c=nn.Conv2d(5, 3, 1, bias=False)), {"c.weight": "conv2d"}),
    "grouped conv": (lambda: named(c=nn.Conv2d(8, 4, 3, groups=2)), {"c.weight": "conv2d", "c.bias": "bias"}),
    "unnamed stack": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)),
        {"0.weight": "conv2d", "0.bias": "bias", "1.weight": "norm", "1.bias": "bias", "1.running_mean": "buffer"}
        | {"1.running_var": "buffer", "1.num_batches_tracked": "buffer", "4.weight": "linear", "4.bias": "bias"},
    ),
    "prelu": (
        PReLUNetwork,
        {"conv1.weight": "conv2d", "conv1.bias": "bias", "prelu1.weight": "parameter", "dense.weight": "linear"}
        | {"dense.bias": "bias"},
    ),
    "attention": (
        lambda: named(attn=nn.MultiheadAttention(8, 2, add_bias_kv=True)),
        {"attn.in_proj_weight": "linear", "attn.in_proj_bias": "bias", "attn.out_proj.weight": "linear"}
        | {"attn.out_proj.bias": "bias", "attn.bias_k": "bias", "attn.bias_v": "bias"},
    ),
    "transformer layer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16),
        {"self_attn.in_proj_weight": "linear", "self_attn.in_proj_bias": "bias"}
        | {"self_attn.out_proj.weight": "linear", "self_attn.out_proj.bias": "bias"}
        | {"linear1.weight": "linear", "linear1.bias": "bias", "linear2.weight": "linear", "linear2.bias": "bias"}
        | {"norm1.weight": "norm", "norm1.bias": "bias", "norm2.weight": "norm", "norm2.bias": "bias"},
    ),
    "lstm": (
        lambda: named(lstm=nn.LSTM(5, 3)),
        {"lstm.weight_ih_l0": "lstm", "lstm.weight_hh_l0": "lstm"}
        | {"lstm.bias_ih_l0": "bias", "lstm.bias_hh_l0": "bias"},
    ),
    "lstm of two layers, both ways": (
        lambda: named(lstm=nn.LSTM(5, 3, num_layers=2, bidirectional=True, bias=False)),
        {f"lstm.weight_{of}_l{i}{way}": "lstm" for of in ("ih", "hh") for i in (0, 1) for way in ("", "_reverse")},
    ),
    "gru": (
        lambda: named(gru=nn.GRU(5, 3, num_layers=2, bias=False)),
        {f"gru.weight_{of}_l{index}": "gru" for of in ("ih", "hh") for index in (0, 1)},
    ),
    "rnn": (
        lambda: named(rnn=nn.RNN(5, 3, bias=False, bidirectional=True)),
        {f"rnn.weight_{of}_l0{way}": "rnn" for of in ("ih", "hh") for way in ("", "_reverse")},
    ),
    "cells": (
        lambda: named(a=nn.LSTMCell(5, 3, bias=False), b=nn.GRUCell(5, 3, bias=False), c=nn.RNNCell(5, 3, bias=False)),
        {f"{name}.weight_{of}": kind for name, kind in zip("abc", ("lstm", "gru", "rnn"), strict=True)
         for of in ("ih", "hh")},
    ),
    "group and layer norm": (
        lambda: nn.Sequential(nn.Linear(8, 4), nn.GroupNorm(2, 4), nn.LayerNorm(4)),
        {"0.weight": "linear", "0.bias": "bias", "1.weight": "norm", "1.bias": "bias", "2.weight": "norm"}
        | {"2.bias": "bias"},
    ),
    "rms norm": (
        lambda: named(input_layernorm=nn.RMSNorm(4), norm=nn.RMSNorm(4), ln_f=nn.RMSNorm(4), fc=nn.Linear(4, 2)),
        {"input_layernorm.weight": "norm", "norm.weight": "norm", "ln_f.weight": "norm", "fc.weight": "linear"}
        | {"fc.bias": "bias"},
    ),
    "layer norm of an image, by its name": (
        lambda: named(norm=nn.LayerNorm((4, 8, 8)), ln1=nn.LayerNorm((8, 8))),
        {"norm.weight": "norm", "norm.bias": "bias", "ln1.weight": "norm", "ln1.bias": "bias"},
    ),
    "batch norms of every rank": (
        lambda: named(bn1=nn.BatchNorm1d(4), bn2=nn.BatchNorm3d(4), norm=nn.InstanceNorm2d(4, affine=True)),
        {f"bn{i}.{name}": kind for i in (1, 2) for name, kind in (("weight", "norm"), ("bias", "bias"),
         ("running_mean", "buffer"), ("running_var", "buffer"), ("num_batches_tracked", "buffer"))}
        | {"norm.weight": "norm", "norm.bias": "bias"},
    ),
    "spectral norm": (
        lambda: named(fc=nn.utils.parametrizations.spectral_norm(nn.Linear(5, 3))),
        {"fc.bias": "bias", "fc.parametrizations.weight.original": "linear"}
        | {"fc.parametrizations.weight.0._u": "buffer", "fc.parametrizations.weight.0._v": "buffer"},
    ),
}  # fmt: skip
"""Modules with the kind of each of their tensors; the fans are torch's."""


@pytest.mark.parametrize("case", ORDINARY)
def test_tensors_of_a_module_are_told_apart(tmp_path: Path, case: str) -> None:
    make, expected = ORDINARY[case]
    assert kinds(report_on(tmp_path, make())) == dict(expected)


@pytest.mark.parametrize("case", ORDINARY)
def test_fans_of_a_modules_weights_are_torchs(tmp_path: Path, case: str) -> None:
    network = ORDINARY[case][0]()
    report, weights = report_on(tmp_path, network), network.state_dict()
    for row in report.layers:
        assert (row.n_in, row.n_out) == torch.nn.init._calculate_fan_in_and_fan_out(weights[row.name])
        assert (row.fitted, row.left_out_because) == (True, None)


def test_a_kind_comes_with_how_it_was_decided(tmp_path: Path) -> None:
    rows = by_name(report_on(tmp_path, named(c=nn.Conv2d(5, 3, 2), fc=nn.Linear(3, 2), rnn=nn.LSTM(2, 3))).layers)
    assert (rows["c.weight"].fans_from, rows["c.weight"].kind_because) == ("shape", "a kernel of 4 dimensions")
    assert (rows["fc.weight"].fans_from, rows["fc.weight"].kind_because) == (
        "shape",
        "a matrix, outputs first as torch keeps them",
    )
    assert rows["rnn.weight_ih_l0"].fans_from == "name"
    assert rows["rnn.weight_ih_l0"].kind_because == "name of a recurrent weight"


# Depthwise and transposed convolutions.


@pytest.mark.parametrize("name", ["depthwise", "dwconv", "dw", "conv_dw", "block.depth_wise_conv", "dw2"])
def test_a_depthwise_convolution_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    weight = nn.Conv2d(8, 8, 3, groups=8).weight.detach()
    row = report_on(tmp_path, {f"{name}.weight": weight}).layers[0]
    assert (row.kind, row.n_in, row.n_out, row.fans_from) == ("depthwise_conv2d", 9, 9, "name")


def test_a_depthwise_convolution_is_known_by_the_layer_before_it(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    report = report_of(tmp_path, network.state_dict())
    assert [row.kind for row in report.layers] == ["conv2d", "depthwise_conv2d", "conv2d"]
    assert fans(report)["2.weight"] == (9, 9)
    assert report.layers[1].fans_from == "shape"
    assert "one input channel after" in report.layers[1].kind_because


def test_a_channel_multiplier_counts_in_the_fan_out(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv1d(3, 8, 1), nn.Conv1d(8, 16, 5, groups=8))
    assert fans(report_of(tmp_path, network.state_dict()))["1.weight"] == (5, 10)


def test_a_named_depthwise_convolution_has_its_own_fans_whatever_is_before_it(tmp_path: Path) -> None:
    blocks = [
        OrderedDict(  # an inverted residual of timm's EfficientNet
            conv_pw=nn.Conv2d(16, 96, 1, bias=False),
            conv_dw=nn.Conv2d(96, 96, 3, groups=96, bias=False),
            se=nn.Sequential(OrderedDict(conv_reduce=nn.Conv2d(96, 4, 1), conv_expand=nn.Conv2d(4, 96, 1))),
            conv_pwl=nn.Conv2d(96, 16, 1, bias=False),
        )
        for _ in range(2)
    ]
    report = report_on(tmp_path, nn.Sequential(*(nn.Sequential(block) for block in blocks)))
    assert [fans(report)[f"{index}.conv_dw.weight"] for index in (0, 1)] == [(9, 9), (9, 9)]


def test_a_first_convolution_is_not_depthwise_because_another_network_ends_on_two_classes(tmp_path: Path) -> None:
    report = report_of(tmp_path, random_tensors({"head.weight": (2, 64, 1, 1), "refiner.0.weight": (64, 1, 3, 3)}))
    assert kinds(report)["refiner.0.weight"] == "conv2d"


def test_a_first_convolution_of_one_channel_is_not_depthwise(tmp_path: Path) -> None:
    report = report_of(tmp_path, nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)).state_dict())
    assert [row.kind for row in report.layers] == ["conv2d", "conv2d"]
    assert fans(report)["0.weight"] == (9, 72)


def test_one_input_channel_after_a_layer_of_other_channels_is_not_depthwise(tmp_path: Path) -> None:
    report = report_on_shapes(tmp_path, a__weight=(6, 3, 3, 3), b__weight=(8, 1, 3, 3))
    assert kinds(report)["b.weight"] == "conv2d"


def test_a_first_convolution_is_not_depthwise_because_a_classifier_comes_first_by_name(tmp_path: Path) -> None:
    network = named(features=nn.Sequential(nn.Conv2d(1, 32, 3)), classifier=nn.Linear(32, 2))
    report = report_on(tmp_path, network)
    assert kinds(report)["features.0.weight"] == "conv2d"


@pytest.mark.parametrize("name", ["deconv", "upconv1", "up.conv_transpose", "decoder.convtr", "ConvTranspose_0"])
def test_a_transposed_convolution_is_known_by_its_name_and_its_first_dimension_is_its_input(
    tmp_path: Path, name: str
) -> None:
    weight = nn.ConvTranspose2d(6, 4, 3).weight.detach()
    row = report_on(tmp_path, {f"{name}.weight": weight}).layers[0]
    assert (row.kind, row.n_in, row.n_out, row.fans_from) == ("conv_transpose2d", 6 * 9, 4 * 9, "name")


def test_a_first_convolution_after_a_layer_of_one_channel_is_not_depthwise(tmp_path: Path) -> None:
    discriminators = {"d.0.conv_post.weight": (1, 8, 3, 1), "d.1.convs.0.weight": (8, 1, 5, 1)}  # HiFi-GAN
    assert kinds(report_of(tmp_path, random_tensors(discriminators)))["d.1.convs.0.weight"] == "conv2d"


# Recurrent layers.


def test_an_lstm_with_a_projection_is_an_lstm(tmp_path: Path) -> None:
    report = report_on(tmp_path, named(lstm=nn.LSTM(5, 32, num_layers=2, proj_size=8, bias=False)))
    assert {name: kind for name, kind in kinds(report).items() if "_hr_" not in name} == {
        f"lstm.weight_{of}_l{index}": "lstm" for of in ("ih", "hh") for index in (0, 1)
    }


def test_the_projection_of_an_lstm_is_linear(tmp_path: Path) -> None:
    report = report_on(tmp_path, named(lstm=nn.LSTM(5, 32, proj_size=8, bias=False)))
    assert kinds(report)["lstm.weight_hr_l0"] == "linear"
    assert fans(report)["lstm.weight_hr_l0"] == (32, 8)


# Embeddings.


@pytest.mark.parametrize(
    "name",
    [
        *("wte", "transformer.wte", "wpe"),  # GPT-2
        "bert.embeddings.word_embeddings",
        "bert.embeddings.position_embeddings",
        "bert.embeddings.token_type_embeddings",
        "model.embed_tokens",  # LLaMA
        "model.decoder.embed_positions",  # OPT
        "gpt_neox.embed_in",
        *("shared", "encoder.embed_tokens"),  # T5
        "text_model.embeddings.token_embedding",  # CLIP
        *("emb", "embedding", "user_embedding", "tok_embeddings", "time_embed"),
    ],
)
def test_an_embedding_is_known_by_its_name_and_not_fitted(tmp_path: Path, name: str) -> None:
    report = report_on(tmp_path, {f"{name}.weight": nn.Embedding(50, 8).weight.detach()})
    row = report.layers[0]
    assert (row.kind, row.n_in, row.n_out, row.fans_from) == ("embedding", 50, 8, "name")
    assert (row.fitted, row.left_out_because) == (False, EMBEDDING)
    assert report.fit.layers == 0


@pytest.mark.parametrize("name", ["embed_out", "lm_head", "embeddings.LayerNorm.dense", "time_embedding.linear_1"])
def test_a_matrix_beside_embeddings_is_linear(tmp_path: Path, name: str) -> None:
    row = report_on(tmp_path, {f"{name}.weight": nn.Linear(8, 50).weight.detach()}).layers[0]
    assert (row.kind, row.n_in, row.n_out, row.fitted) == ("linear", 8, 50, True)


@pytest.mark.parametrize("name", ["patch_embed.proj", "conv1", "embeddings.patch_embeddings.projection"])
def test_a_patch_embedding_is_a_convolution(tmp_path: Path, name: str) -> None:
    row = report_on(tmp_path, {f"{name}.weight": nn.Conv2d(3, 8, 4).weight.detach()}).layers[0]
    assert (row.kind, row.n_in, row.n_out, row.fitted) == ("conv2d", 48, 128, True)


def test_a_layer_with_a_bias_is_no_embedding(tmp_path: Path) -> None:
    report = report_on(tmp_path, named(class_embed=nn.Linear(8, 50)))  # DETR's classifier
    assert kinds(report)["class_embed.weight"] == "linear"


def test_the_relative_positions_of_t5_are_no_layer_of_the_fit(tmp_path: Path) -> None:
    name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    report = report_on(tmp_path, {name: nn.Embedding(32, 8).weight.detach()})
    assert report.fit.layers == 0


# Parameters that are multiplied with nothing.


@pytest.mark.parametrize(
    ("name", "shape", "what"),
    [
        ("cls_token", (1, 1, 8), "a learned token"),
        ("dist_token", (1, 1, 8), "a learned token"),
        ("encoder.class_token", (1, 1, 8), "a learned token"),
        ("embeddings.mask_token", (1, 1, 8), "a learned token"),
        ("pos_embed", (1, 17, 8), "learned positions"),
        ("encoder.pos_embedding", (1, 17, 8), "learned positions"),
        ("positional_embedding", (77, 8), "learned positions"),
        ("absolute_pos_embed", (1, 49, 8), "learned positions"),
        ("blocks.0.ls1.gamma", (8,), "a learned scale"),
        ("logit_scale", (), "a learned scale"),
        ("fc.weight_g", (5, 1), "magnitudes of a weight normalisation"),
        ("conv.parametrizations.weight.original0", (5, 1, 1), "magnitudes of a weight normalisation"),
    ],
)
def test_a_learned_tensor_that_multiplies_no_input_is_no_layer(
    tmp_path: Path, name: str, shape: tuple[int, ...], what: str
) -> None:
    row = report_on(tmp_path, random_tensors({name: shape})).others[0]
    assert row.kind == "parameter"
    assert row.reason.startswith(what)


def test_a_vector_with_more_dimensions_is_no_layer(tmp_path: Path) -> None:
    row = report_on(tmp_path, random_tensors({"blocks.0.shift": (1, 1, 8)})).others[0]
    assert (row.kind, row.reason) == ("parameter", "a learned vector in an array of more dimensions: no fan-in")


def test_a_scale_beside_running_statistics_is_a_norms(tmp_path: Path) -> None:
    report = report_on(tmp_path, random_tensors({"1.weight": (8,), "1.running_mean": (8,)}))
    assert kinds(report) == {"1.weight": "norm", "1.running_mean": "buffer"}


@pytest.mark.parametrize(
    "name",
    [
        *("layers.0.attn.relative_position_bias_table", "attention_biases", "rel_pos_bias"),
    ],
)
def test_a_table_of_relative_positions_is_called_one(tmp_path: Path, name: str) -> None:
    row = report_on(tmp_path, random_tensors({name: (49, 3)})).others[0]
    assert row.kind == "parameter"
    assert "a table of relative positions" in row.reason


def test_a_table_of_relative_positions_is_no_layer(tmp_path: Path) -> None:
    report = report_on(tmp_path, random_tensors({"attn.relative_position_bias_table": (49, 3), "rel_pos_h": (27, 8)}))
    assert report.layers == ()


def test_the_positions_of_a_transformers_vit_are_no_layer(tmp_path: Path) -> None:
    assert report_on(tmp_path, random_tensors({"embeddings.position_embeddings": (1, 197, 8)})).layers == ()


@pytest.mark.parametrize("shape", [(4, 8, 8), (8, 8)])
def test_a_layer_norm_over_more_dimensions_is_known_by_its_bias(tmp_path: Path, shape: tuple[int, ...]) -> None:
    report = report_on(tmp_path, nn.Sequential(nn.LayerNorm(shape)))
    assert kinds(report) == {"0.weight": "norm", "0.bias": "bias"}


@pytest.mark.parametrize("name", ["normal_head", "normals"])
def test_a_head_for_surface_normals_is_a_layer(tmp_path: Path, name: str) -> None:
    assert kinds(report_on(tmp_path, named(**{name: nn.Conv2d(8, 3, 1)})))[f"{name}.weight"] == "conv2d"


@pytest.mark.parametrize("name", ["align", "design"])
def test_a_word_that_ends_like_a_norm_is_none(tmp_path: Path, name: str) -> None:
    assert kinds(report_on(tmp_path, named(**{name: nn.Linear(8, 3)})))[f"{name}.weight"] == "linear"


# Buffers, and integers.


@pytest.mark.parametrize(
    ("name", "tensor", "kind"),
    [
        ("h.0.attn.bias", torch.ones(1, 1, 6, 6).tril(), "buffer"),
        ("h.0.attn.bias", torch.ones(1, 1, 6, 6, dtype=torch.bool).tril(), "buffer"),
        ("h.0.attn.bias", torch.ones(1, 1, 6, 6, dtype=torch.uint8).tril(), "buffer"),
        ("h.0.attn.masked_bias", torch.tensor(-1e4), "buffer"),
        ("layers.0.self_attn.rotary_emb.inv_freq", torch.ones(4), "buffer"),
        ("freqs_cis", torch.ones(16, 4, dtype=torch.complex64), "buffer"),
        ("embeddings.position_ids", torch.arange(16).reshape(1, 16), "buffer"),
        ("attn.relative_position_index", torch.arange(16).reshape(4, 4), "buffer"),
        ("bn.num_batches_tracked", torch.tensor(3), "buffer"),
        ("mel_basis", torch.ones(80, 201), "buffer"),
        ("window", torch.hann_window(16), "buffer"),
        ("fc.weight", torch.ones(4, 4, dtype=torch.int8), "integers"),
        ("fc.qweight", torch.ones(4, 4, dtype=torch.int32), "integers"),
        ("steps", torch.arange(5), "integers"),
    ],
)
def test_what_is_not_learned_is_no_layer(tmp_path: Path, name: str, tensor: torch.Tensor, kind: str) -> None:
    report = report_on(tmp_path, {name: tensor})
    assert report.layers == ()
    assert kinds(report) == {name: kind}
    assert report.checkpoint.parameters == 0


def test_quantised_weights_say_that_their_scale_is_not_known(tmp_path: Path) -> None:
    row = report_on(tmp_path, {"fc.weight": torch.ones(4, 4, dtype=torch.int8)}).others[0]
    assert row.reason == "8-bit integers, perhaps quantised weights: their scale is not known"


def test_both_vectors_of_an_old_spectral_norm_are_buffers(tmp_path: Path) -> None:
    report = report_on(tmp_path, random_tensors({"fc.weight_orig": (5, 3), "fc.weight_u": (5,), "fc.weight_v": (3,)}))
    assert kinds(report) == {"fc.weight_orig": "linear", "fc.weight_u": "buffer", "fc.weight_v": "buffer"}


@pytest.mark.parametrize("name", ["h.0.attn.c_attn", "attention", "attn"])
def test_the_bias_of_an_attentions_linear_layer_is_no_mask(tmp_path: Path, name: str) -> None:
    report = report_on(tmp_path, random_tensors({f"{name}.weight": (6, 24), f"{name}.bias": (6,)}))
    assert kinds(report)[f"{name}.bias"] == "bias"
    assert report.checkpoint.parameters == 6 * 24 + 6


def test_an_empty_tensor_is_no_layer(tmp_path: Path) -> None:
    row = report_on(tmp_path, {"fc.weight": torch.zeros(0, 4)}).others[0]
    assert (row.kind, row.reason) == ("empty", "has no elements")


@pytest.mark.parametrize("dimensions", [6, 8])
def test_more_dimensions_than_any_layer_has_are_no_layer(tmp_path: Path, dimensions: int) -> None:
    row = report_on(tmp_path, random_tensors({"x.weight": (2,) * dimensions})).others[0]
    assert row.reason == f"{dimensions} dimensions: no layer that is known has so many"


# Weights that are parts of weights.


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("q.lora_A.weight", "one factor of a low-rank adapter: only the product is a weight"),
        ("q.lora_B.default.weight", "one factor of a low-rank adapter: only the product is a weight"),
        ("x.lora_up.weight", "one factor of a low-rank adapter: only the product is a weight"),
        ("x.hada_w1_a", "one factor of a low-rank adapter: only the product is a weight"),
        ("fc.weight_v", "the direction of a weight normalisation: its scale is not the weight's"),
        (
            "fc.parametrizations.weight.original1",
            "the direction of a weight normalisation: its scale is not the weight's",
        ),
    ],
)
def test_a_part_of_a_weight_is_left_out_of_the_fit(tmp_path: Path, name: str, reason: str) -> None:
    report = report_on(tmp_path, random_tensors({name: (8, 4)}))
    assert (report.layers[0].fitted, report.layers[0].left_out_because) == (False, reason)
    assert report.fit.layers == 0


@pytest.mark.parametrize("name", ["x.hada_w1_b", "x.lokr_w2_b", "q.lora_b"])
def test_the_second_factor_of_an_adapter_is_no_bias(tmp_path: Path, name: str) -> None:
    assert kinds(report_on(tmp_path, random_tensors({name: (8, 4)}))) == {name: "low_rank"}


def test_complex_weights_are_left_out_of_the_fit(tmp_path: Path) -> None:
    row = report_on(tmp_path, {"fc.weight": torch.ones(4, 3, dtype=torch.complex64)}).layers[0]
    assert (row.kind, row.fitted) == ("linear", False)
    assert row.left_out_because == "complex weights: the law speaks of real ones"


def test_a_kernel_has_its_input_before_its_output(tmp_path: Path) -> None:
    report = report_on_shapes(tmp_path, dense__kernel=(3, 8), conv__kernel=(5, 5, 4, 8), conv1d__kernel=(5, 4, 8))
    assert fans(report) == {"dense.kernel": (3, 8), "conv.kernel": (100, 200), "conv1d.kernel": (20, 40)}
    assert kinds(report) == {"dense.kernel": "linear", "conv.kernel": "conv2d", "conv1d.kernel": "conv1d"}


def test_a_stack_of_experts_has_the_fans_of_one(tmp_path: Path) -> None:
    row = report_on(tmp_path, random_tensors({"mlp.experts.gate_up_proj": (8, 16, 12)})).layers[0]
    assert (row.kind, {row.n_in, row.n_out}) == ("linear", {16, 12})
    assert row.kind_because.startswith("a stack of 8 matrices")


def test_a_stack_of_experts_called_w1_is_no_convolution(tmp_path: Path) -> None:
    tensor = described_tensor(("layers.0.feed_forward.cond_ffn.w1",), (8, 14336, 4096))  # gpt-fast's Mixtral
    (item,) = classify(find_network(Checkpoint("x", "x", 0, (tensor,))), as_stored=True)
    assert isinstance(item, Layer)
    assert (item.kind, item.n_in + item.n_out) == ("linear", 14336 + 4096)


def test_a_matrix_whose_bias_has_its_second_size_has_its_input_first(tmp_path: Path) -> None:
    report = report_on(tmp_path, random_tensors({"h.0.mlp.c_fc.weight": (8, 32), "h.0.mlp.c_fc.bias": (32,)}))
    assert fans(report)["h.0.mlp.c_fc.weight"] == (8, 32)


# Tied weights.


def test_tied_weights_are_one_layer_that_names_the_others(tmp_path: Path) -> None:
    network = named(encoder=nn.Linear(8, 50, bias=False), decoder=nn.Linear(8, 50, bias=False), fc=nn.Linear(8, 8))
    network["decoder"].weight = network["encoder"].weight
    report = report_of(tmp_path, network.state_dict())
    rows = by_name(report.layers)
    assert set(rows) == {"encoder.weight", "fc.weight"}
    assert rows["encoder.weight"].tied_to == ("decoder.weight",)
    other = by_name(report.others)["decoder.weight"]
    assert (other.kind, other.reason) == ("tied", "the same stored tensor as encoder.weight")
    assert report.checkpoint.parameters == 8 * 50 + 8 * 8 + 8


def test_three_names_of_one_weight_are_one_layer(tmp_path: Path) -> None:
    weight = torch.ones(4, 3)
    row = report_of(tmp_path, {"a.weight": weight, "b.weight": weight, "c.weight": weight}).layers[0]
    assert row.tied_to == ("b.weight", "c.weight")


def test_different_views_of_one_storage_are_not_tied(tmp_path: Path) -> None:
    weight = torch.randn(6, 4)
    report = report_of(tmp_path, {"a.weight": weight[:3], "b.weight": weight[3:], "c.weight": weight[:, :2]})
    assert [row.tied_to for row in report.layers] == [(), (), ()]


def test_a_transposed_view_is_tied_or_not_whatever_its_shape(tmp_path: Path) -> None:
    square, oblong = torch.randn(4, 4), torch.randn(4, 3)
    of_square = report_of(tmp_path, {"a.weight": square, "b.weight": square.T})
    of_oblong = report_of(tmp_path, {"a.weight": oblong, "b.weight": oblong.T})
    assert kinds(of_square) == kinds(of_oblong)


def test_an_embedding_tied_to_an_output_projection_is_one_embedding(tmp_path: Path) -> None:
    weight = torch.randn(50, 8)
    report = report_of(tmp_path, {"wte.weight": weight, "lm_head.weight": weight})
    assert [(row.kind, row.tied_to) for row in report.layers] == [("embedding", ("lm_head.weight",))]


# Any names and shapes.

PARTS = (
    "weight", "bias", "kernel", "w1", "w", "b", "running_mean", "num_batches_tracked", "norm",
    "bn1", "ln_f", "attn", "attention", "mask", "embed", "wte", "weight_ih_l0", "weight_hh_l0",
    "weight_hr_l0_reverse", "weight_g", "weight_v", "weight_u", "lora_A", "lora_b", "dw", "conv",
    "deconv", "parametrizations", "original0", "original1", "0", "1", "pos_embed", "cls_token",
    "relative_position_bias_table", "prelu", "stft", "#", "ä", "_", "module", "_orig_mod",
    "optimizer", "model", "state_dict",
)  # fmt: skip
"""Of names that are looked at, and of some that are not."""

names = st.lists(st.sampled_from(PARTS) | st.text(max_size=5), min_size=1, max_size=4).map(".".join)
shapes = st.lists(st.integers(0, 6), max_size=7).map(tuple)
dtypes = st.sampled_from(["F32", "F64", "BF16", "C64", "I64", "I8", "U8", "BOOL"])
described = st.dictionaries(names, st.tuples(shapes, dtypes), max_size=12)


@settings(deadline=None, max_examples=200)
@given(tensors=described)
@example(tensors={"": ((2, 2), "F32")})
@example(tensors={"weight_ih_l0": ((0, 3), "F32"), "weight_hh_l0": ((4, 0), "F32")})
def test_every_tensor_lands_in_one_list_whatever_its_name_and_shape(
    tensors: dict[str, tuple[tuple[int, ...], str]],
) -> None:
    made = tuple(described_tensor((name,), shape, dtype) for name, (shape, dtype) in tensors.items())
    items = classify(find_network(Checkpoint("x", "x", 0, made)))
    stored = {item.part_of if isinstance(item, Layer) and item.part_of else item.name for item in items}
    assert len(stored) == len(made)
    assert sum(item.tensor.elements for item in items) == sum(tensor.elements for tensor in made)
    whole = classify(find_network(Checkpoint("x", "x", 0, made)), as_stored=True)
    assert Counter(item.tensor.view for item in whole) == Counter(tensor.view for tensor in made)
    for item in (*items, *whole):
        if isinstance(item, Layer):
            assert item.n_in >= 1
            assert item.n_out >= 1
            assert item.because
            assert len(item.tensor.shape) >= 2
            assert item.tensor.dtype.kind in ("float", "complex")
        else:
            assert isinstance(item, Other)
            assert item.reason


@settings(deadline=None, max_examples=30)
@given(tensors=st.dictionaries(names, shapes, min_size=1, max_size=8))
def test_every_stored_tensor_is_reported_once(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, tuple[int, ...]]
) -> None:
    report = report_of(tmp_path_factory.getbasetemp(), {name: torch.ones(shape) for name, shape in tensors.items()})
    accounting = report.accounting
    stored = [*{row.part_of or row.name for row in report.layers}, *(row.name for row in report.others)]
    assert len(stored) == len(set(stored)) == len(tensors) == report.checkpoint.tensors == accounting.stored.tensors
    assert len(set(all_names(report))) == len(all_names(report))
    assert accounting.stored.elements == sum(math.prod(shape) for shape in tensors.values())


def test_a_tensor_that_cannot_be_read_is_unread_and_counted(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"fc.weight": torch.ones(2, 3), "meta.weight": torch.ones(2, 3, device="meta")})
    assert all_names(report) == ["fc.weight", "meta.weight"]
    assert (report.checkpoint.tensors, report.accounting.stored.tensors, report.accounting.unread.tensors) == (2, 2, 1)


def test_the_order_is_the_files(tmp_path: Path) -> None:
    tensors: dict[str, Any] = {f"{letter}.weight": torch.ones(2, 2) for letter in "zaymb"}
    assert [row.name for row in report_of(tmp_path, tensors).layers] == list(tensors)
