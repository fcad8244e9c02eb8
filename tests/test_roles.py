"""What a layer does, by its name: names as torch, timm, transformers, Keras, Flax and GGUF give them."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightstats.roles import FAMILIES, family_of, role_of
from weightstats.rules import KINDS

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"

NETWORKS: dict[str, Any] = json.loads(gzip.decompress((FIXTURES / "architectures.json.gz").read_bytes()))

PATHS = {
    row[0]: ("", "", *row[0].split("."))
    for network in NETWORKS.values()
    for row in network["tensors"]
    if row[3] == "linear"
}
"""Names of the weights of linear layers of timm and transformers, and their keys."""


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("layers.3.mlp.up.weight", "mlp.up"),
        ("model.layers.11.self_attn.q_proj.weight", "self_attn.q_proj"),
        ("transformer.h.0.attn.c_attn.weight[q]", "attn.c_attn[q]"),
        ("layer1.0.conv1.weight", "conv1"),
        ("layer1.0.downsample.0.weight", "downsample.0"),
        ("layers.3.mlp.2.weight", "mlp.2"),
        ("encoder.layers.encoder_layer_0.mlp.3.weight", "mlp.3"),
        ("encoder.layers.encoder_layer_7.self_attention.out_proj.weight", "self_attention.out_proj"),
        ("features.denseblock1.denselayer5.conv2.weight", "conv2"),
        ("Transformer/encoderblock_3/MultiHeadDotProductAttention_1/query/kernel", None),
        ("blk.0.attn_q.weight", "attn_q"),
        ("blocks.0.1.weight", "blocks"),
        ("down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q.weight", "attn1.to_q"),
    ],
)
def test_layers_of_repeated_blocks_have_in_common_what_follows_the_number(name: str, role: str | None) -> None:
    assert role_of(name) == ("MultiHeadDotProductAttention_1.query" if role is None else role)


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (["features.0.weight", "features.12.weight"], "features"),
        (["0.weight", "3.weight"], ""),
        (["fc1.weight", "fc2.weight"], "fc#"),
        (["conv2d_3/conv2d_3/kernel:0", "conv2d_11/conv2d_11/kernel:0"], "conv#d_#"),
        (["resnet50/conv1/kernel:0", "resnet50/conv2/kernel:0"], "resnet#.conv#"),
        (["lstm.weight_ih_l0[input]", "lstm.weight_ih_l1[input]"], "lstm.weight_ih_l#[input]"),
        (["layers.3.experts.2.weight", "layers.4.experts.5.weight"], "experts"),
        (["layers.3.experts.2.up.weight", "layers.4.experts.5.up.weight"], "up"),
        (["layers.0.experts[3,up]", "layers.7.experts[0,up]"], "experts[up]"),
        (["experts[3]", "experts[12]"], "experts"),
        (["a.weight", "a.kernel", "a/w", "a.embedding"], "a"),
        (["", "[3]"], ""),
    ],
)
def test_members_of_one_list_have_one_role(names: list[str], role: str) -> None:
    assert {role_of(name) for name in names} == {role}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("layers.0.mlp.0.weight", "layers.0.mlp.2.weight"),
        ("layers.0.mlp.fc1.weight", "layers.0.mlp.fc2.weight"),
        ("layers.0.qkv.weight[q]", "layers.0.qkv.weight[k]"),
        ("layers.0.experts[0,up]", "layers.0.experts[0,down]"),
        ("layers.0.attn1.to_q.weight", "layers.0.attn2.to_q.weight"),
        ("head.weight", "stem.weight"),
    ],
)
def test_layers_with_different_places_in_a_block_have_different_roles(first: str, second: str) -> None:
    assert role_of(first) != role_of(second)


def test_the_experts_and_blocks_of_a_mixture_make_few_roles() -> None:
    names = [
        f"model.layers.{block}.{module}.weight"
        for block in range(8)
        for module in (
            "self_attn.q_proj",
            "self_attn.o_proj",
            *(f"mlp.experts.{e}.{p}" for e in range(9) for p in "ud"),
        )
    ]
    assert Counter(map(role_of, names)) == {"self_attn.q_proj": 8, "self_attn.o_proj": 8, "u": 72, "d": 72}


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("conv2d", "convolution"),
        ("depthwise_conv1d", "convolution"),
        ("conv_transpose3d", "convolution"),
        ("lstm", "recurrent"),
        ("gru", "recurrent"),
        ("rnn", "recurrent"),
        ("recurrent", "recurrent"),
        ("linear", "linear"),
        ("bilinear", "linear"),
        ("embedding", ""),
        ("low_rank", ""),
    ],
)
def test_the_kind_of_a_layer_gives_its_family(kind: str, family: str) -> None:
    assert kind in KINDS
    assert family_of(kind, "some.weight") == family


def test_every_kind_that_is_no_embedding_and_no_factor_has_a_family() -> None:
    assert {kind for kind in KINDS if family_of(kind, "w") not in FAMILIES} == {"embedding", "low_rank"}


@pytest.mark.parametrize("kind", ["conv2d", "lstm", "embedding"])
def test_only_a_linear_layer_is_attentions(kind: str) -> None:
    assert family_of(kind, "blocks.0.attn.qkv.weight[q]") == family_of(kind, "x.weight")


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "transformer.h.0.attn.c_proj.weight",
        "bert.encoder.layer.0.attention.self.query.weight",
        "bert.encoder.layer.0.attention.output.dense.weight",
        "encoder.layer.0.crossattention.output.dense.weight",
        "encoder.block.0.layer.0.SelfAttention.k.weight",
        "encoder.block.0.layer.0.LocalSelfAttention.o.weight",
        "decoder.block.0.layer.1.EncDecAttention.q.weight",
        "self_attn.in_proj_weight[q]",
        "blocks.0.attn.qkv.weight[v]",
        "blocks.0.token_mixer.qkv.weight[q]",
        "encoder.x_layers.0.visn_self_att.output.dense.weight",
        "stages.0.blocks.0.e_mhsa.proj.weight",
        "stages.0.blocks.0.xca.proj.weight",
        "transformer_blocks.0.attn1.to_out.0.weight",
        "layers.0.temporal_block.k_proj.weight",
        "encoder.stages.0.layers.1.module.queries_keys_values.linear.weight",
        "multihead_attn.out_proj.weight",
        "blk.3.attn_output.weight",
        "layers.0.norm_attn_norm.attn.out_proj.weight",
        "layers.0.attention.wq.weight",
        "transformer.layers.0.multi_head_attention.Wq.weight",
        "transformer/h_3/ATTN/dense/kernel:0",
    ],
)
def test_a_linear_layer_of_attention_is_told_by_its_name(name: str) -> None:
    assert family_of("linear", name) == "attention"


@pytest.mark.parametrize(
    "name",
    [
        "layers.0.mlp.up_proj.weight",
        "fc.weight",
        "lm_head.weight",
        "classifier.out_proj.weight",
        "coarse_acoustics.layers.0.mlp.out_proj.weight",
        "layers.0.mixer.out_proj.weight",
        "model.layers.0.mamba.out_proj.weight",
        "gated_cross_attn_layers.0.mlp.gate_proj.weight",
        "memory_attention.layers.0.mlp.down_proj.weight",
        "memory_attention.layers.0.linear1.weight",
        "cls_attn_blocks.0.mlp.fc1.weight",
        "stages.0.blocks.0.attn_block.mlp.fc2.weight",
        "model.layers.0.post_attention_layernorm.mlp.fc1.weight",
        "model.layers.0.post_attention_norm.proj.weight",
        "attn_pool.mlp.fc1.weight",
        "perceiver.encoder.cross_attention.mlp.dense1.weight",
        "bert.encoder.layer.0.output.dense.weight",
        "blk.0.ffn_up.weight",
        "encoder.block.0.layer.1.DenseReluDense.wo.weight",
        "key_embedding_matter.proj.weight",
        "battery.pattern.weight",
    ],
)
def test_a_linear_layer_that_is_not_attentions_is_not_taken_for_it(name: str) -> None:
    assert family_of("linear", name) == "linear"


def test_projections_of_attention_in_public_networks_are_attentions() -> None:
    """Whatever lies directly in a module called attention, and whatever is called the projection of q, k or v."""
    projections = {"q_proj", "k_proj", "v_proj", "qkv", "o_proj", "query_key_value"}
    modules = {"attn", "self_attn", "attention", "SelfAttention"}
    missed = [
        name
        for name, (*_, module, layer, _) in PATHS.items()
        if (layer in projections or module in modules) and "mlp" not in layer
        if family_of("linear", name) != "attention"
    ]
    assert missed == []


def test_perceptrons_in_public_networks_are_not_attentions() -> None:
    keys = {"mlp", "ffn", "feed_forward", "intermediate", "classifier", "lm_head", "fc1", "fc2"}
    taken = [
        name
        for name, (*_, module, layer, _) in PATHS.items()
        if {module, layer} & keys
        if family_of("linear", name) != "linear"
    ]
    assert taken == []


HOSTILE = ("_", ".", "_a", "attn_", "x_", "1.", ".weight", "q_", "[q]", "[", ".weight[", "_é", "²", "٣.", "/", "\x00")


@pytest.mark.parametrize("part", HOSTILE)
def test_a_long_name_has_a_role_and_a_family_that_its_end_decides(part: str) -> None:
    name = part * 100_000
    assert role_of(name) == role_of(name[-256:])
    assert family_of("linear", name) == family_of("linear", name[-256:])


@given(st.text(max_size=40) | st.text("ab019._/[],wqkvattn", max_size=60))
def test_any_text_has_a_role_and_a_family(name: str) -> None:
    assert isinstance(role_of(name), str)
    assert family_of("linear", name) in ("linear", "attention")


@given(st.lists(st.sampled_from(["layers", "3", "0", "mlp", "experts", "w1", "a_2", "block_3"]), min_size=1))
def test_the_number_of_a_block_does_not_bear_on_the_role(keys: list[str]) -> None:
    for number in ("5", "12345"):
        assert role_of(".".join(["layers", number, "block", *keys])) == role_of(
            ".".join(["layers", "7", "block", *keys])
        )
