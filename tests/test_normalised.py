"""Layers whose scale a normalisation takes away, by the names and sizes of a state dict."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from weightstats.layers import Layer, classify
from weightstats.network import find_network
from weightstats.normalised import Map, scale_free_of
from weightstats.readers import open_checkpoint
from weightstats.rules import make_rules


def marked(tmp_path: Path, model: nn.Module) -> dict[str, str]:
    """The layers of a saved state dict that are scale-free, with the normalisation that makes them so."""
    torch.save(model.state_dict(), tmp_path / "f.pt")
    return {
        item.name: item.scale_free
        for item in classify(find_network(open_checkpoint(str(tmp_path / "f.pt"))))
        if isinstance(item, Layer) and item.scale_free
    }


def named(**modules: nn.Module) -> nn.Module:
    """A module with these children, in this order."""
    return nn.Sequential(OrderedDict(modules))


def conv(n_in: int, n_out: int, groups: int = 1, *, bias: bool = False) -> nn.Module:
    return nn.Conv2d(n_in, n_out, 3, groups=groups, bias=bias)


def linear(n_in: int, n_out: int, *, bias: bool = False) -> nn.Module:
    return nn.Linear(n_in, n_out, bias=bias)


POST: dict[str, tuple[nn.Module, set[str]]] = {
    "torchvision's ResNet": (
        named(conv1=conv(3, 8), bn1=nn.BatchNorm2d(8), fc=linear(8, 10, bias=True)),
        {"conv1.weight"},
    ),
    "a Sequential, bias or not": (
        named(features=nn.Sequential(conv(3, 8, bias=True), nn.BatchNorm2d(8), nn.ReLU())),
        {"features.0.weight"},
    ),
    "a pair of one module": (
        named(stem=named(conv=conv(3, 8), bn=nn.BatchNorm2d(8))),
        {"stem.conv.weight"},
    ),
    "transformers' ResNet": (
        named(a=named(convolution=conv(3, 8), normalization=nn.BatchNorm2d(8))),
        {"a.convolution.weight"},
    ),
    "equal sizes beside a pair that tells": (
        named(**{"0": named(conv=conv(3, 8), bn=nn.BatchNorm2d(8)), "1": named(conv=conv(8, 8), bn=nn.BatchNorm2d(8))}),
        {"0.conv.weight", "1.conv.weight"},
    ),
    "timm's inverted residual": (
        named(
            conv_pw=conv(4, 8),
            bn1=nn.BatchNorm2d(8),
            conv_dw=conv(8, 8, 8),
            bn2=nn.BatchNorm2d(8),
            conv_pwl=conv(8, 4),
            bn3=nn.BatchNorm2d(4),
        ),
        {"conv_pw.weight", "conv_dw.weight", "conv_pwl.weight"},
    ),
    "timm's separable convolution": (
        named(conv_dw=conv(8, 8, 8), bn1=nn.BatchNorm2d(8), conv_pw=conv(8, 4), bn2=nn.BatchNorm2d(4)),
        {"conv_dw.weight", "conv_pw.weight"},
    ),
    "a transposed convolution": (
        named(up=nn.Sequential(nn.ConvTranspose2d(6, 4, 2, bias=False), nn.BatchNorm2d(4))),
        {"up.0.weight"},
    ),
}


@pytest.mark.parametrize("case", POST)
def test_a_layer_before_its_batch_normalisation_is_marked(tmp_path: Path, case: str) -> None:
    model, expected = POST[case]
    assert set(marked(tmp_path, model)) == expected


UNMARKED: dict[str, nn.Module] = {
    "before the layer, by its size": named(bn1=nn.BatchNorm2d(4), conv1=conv(4, 8)),
    "before the layer, by the order of the file": named(bn1=nn.BatchNorm2d(4), conv1=conv(4, 4)),
    "before the layer, in a Sequential": nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4)),
    "before one of two layers of the pattern": named(
        **{"0": named(norm1=nn.BatchNorm2d(3), conv1=conv(3, 8)), "1": named(conv1=conv(3, 8), norm1=nn.BatchNorm2d(8))}
    ),
    "behind an activation, for all that a bias tells": named(conv1=conv(3, 8, bias=True), bn1=nn.BatchNorm2d(8)),
    "without statistics": named(conv1=conv(3, 8), bn1=nn.GroupNorm(2, 8)),
    "two layers of one normalisation": named(conv1=conv(3, 8), fc1=linear(5, 8), bn1=nn.BatchNorm2d(8)),
}


@pytest.mark.parametrize("case", UNMARKED)
def test_a_normalisation_that_may_be_elsewhere_marks_nothing(tmp_path: Path, case: str) -> None:
    assert marked(tmp_path, UNMARKED[case]) == {}


def test_the_reason_names_the_normalisation(tmp_path: Path) -> None:
    found = marked(tmp_path, named(stem=named(conv=conv(3, 8), bn=nn.BatchNorm2d(8))))
    assert found == {"stem.conv.weight": "followed by the batch normalisation stem.bn"}


def test_a_rule_overrules_the_names(tmp_path: Path) -> None:
    torch.save(named(conv1=conv(3, 8), bn1=nn.BatchNorm2d(8)).state_dict(), tmp_path / "f.pt")
    network = find_network(open_checkpoint(str(tmp_path / "f.pt")))
    rules = make_rules([{"match": "conv1.*", "scale_free": False}], "the rules given")
    assert [item.scale_free for item in classify(network, rules=rules) if isinstance(item, Layer)] == [""]


def batch(*names: str, counter: bool = True) -> dict[str, tuple[int, ...]]:
    """Shapes of batch normalisations of eight channels."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        shapes |= {f"{name}.weight": (8,), f"{name}.running_mean": (8,)}
        shapes |= {f"{name}.num_batches_tracked": ()} if counter else {}
    return shapes


def test_frozen_normalisations_leave_the_scale_as_it_is() -> None:
    for frozen in ("backbone.0", "conv_encoder.a"):
        maps = [Map("w", f"{frozen}.conv1", "", 8, 3), Map("v", "conv1", "", 8, 3)]
        shapes = {f"{frozen}.conv1.weight": (8, 3, 1, 1), **batch(f"{frozen}.bn1", counter=False)}
        assert scale_free_of(shapes, maps) == {}
    mixed = {"a.conv1.weight": (8, 3, 1, 1), **batch("a.bn1", counter=False), **batch("other")}
    assert scale_free_of(mixed, [Map("w", "a.conv1", "", 8, 3)]) == {}


def test_a_network_older_than_the_counter_is_marked() -> None:
    shapes = {"conv1.weight": (8, 3, 1, 1), **batch("bn1", counter=False)}
    assert set(scale_free_of(shapes, [Map("w", "conv1", "", 8, 3)])) == {"w"}


def test_the_order_of_a_sorted_file_tells_nothing() -> None:
    shapes = dict(sorted({"conv1.weight": (8, 3, 1, 1), **batch("bn1")}.items()))
    assert set(scale_free_of(shapes, [Map("w", "conv1", "", 8, 3)])) == {"w"}
    assert scale_free_of(shapes, [Map("w", "conv1", "", 8, 8)]) == {}


# Attention

QK = {
    "a.q_proj.weight": (8, 6),
    "a.k_proj.weight": (4, 6),
    "a.v_proj.weight": (4, 6),
    "a.o_proj.weight": (6, 8),
    "a.q_norm.weight": (4,),
    "a.k_norm.weight": (4,),
}


def heads(shapes: dict[str, tuple[int, ...]]) -> set[str]:
    """The projections among these tensors that are marked."""
    maps = [
        Map(name, name.removesuffix(".weight"), "", shape[0], shape[1])
        for name, shape in shapes.items()
        if len(shape) == 2
    ]
    return set(scale_free_of(shapes, maps))


def test_queries_and_keys_that_are_normalised_are_marked() -> None:
    assert heads(QK) == {"a.q_proj.weight", "a.k_proj.weight"}


@pytest.mark.parametrize(
    ("change", "left"),
    [
        pytest.param({"a.q_proj.bias": (8,)}, {"a.k_proj.weight"}, id="a bias"),
        pytest.param({"a.q_conv1d.weight": (8, 1, 4)}, {"a.k_proj.weight"}, id="a convolution between"),
        pytest.param({"a.o_proj.weight": (6, 4)}, {"a.k_proj.weight"}, id="a gate beside the queries"),
        pytest.param({"a.q_norm.weight": (3,), "a.k_norm.weight": (3,)}, set(), id="a size that is no head's"),
        pytest.param({"a.q_norm.weight": (6,), "a.k_norm.weight": (6,)}, set(), id="the inputs' size"),
    ],
)
def test_queries_and_keys_whose_normalisation_does_not_take_the_scale_away(
    change: dict[str, tuple[int, ...]], left: set[str]
) -> None:
    assert heads(QK | change) == left


def test_keys_that_are_values_as_well_are_not_marked() -> None:
    assert heads({name: shape for name, shape in QK.items() if "v_proj" not in name}) == {"a.q_proj.weight"}


def test_a_normalisation_of_inputs_or_outputs_is_one_of_outputs_where_the_inputs_have_their_own() -> None:
    square = {f"l.a.{one}_proj.weight": (8, 8) for one in "qkvo"} | {f"l.a.{one}_norm.weight": (8,) for one in "qk"}
    assert heads(square) == set()
    assert heads(square | {"l.input_layernorm.weight": (8,)}) == {"l.a.q_proj.weight", "l.a.k_proj.weight"}


def test_only_queries_and_keys_of_a_fused_weight_are_marked() -> None:
    shapes: dict[str, tuple[int, ...]] = {"b.qkv.weight": (24, 8), "b.q_norm.weight": (4,), "b.k_norm.weight": (4,)}
    maps = [Map(f"b.qkv.weight[{part}]", "b.qkv", part, 8, 8) for part in "qkv"]
    assert set(scale_free_of(shapes, maps)) == {"b.qkv.weight[q]", "b.qkv.weight[k]"}


# Blocks that normalise what their branches give

BRANCHES: dict[str, tuple[int, ...]] = {"l.self_attn.o_proj.weight": (6, 8), "l.mlp.down_proj.weight": (6, 9)}
BOTH = set(BRANCHES)


@pytest.mark.parametrize(
    ("norms", "expected"),
    [
        pytest.param(
            "input_layernorm post_attention_layernorm pre_feedforward_layernorm post_feedforward_layernorm",
            BOTH,
            id="Gemma 2",
        ),
        pytest.param("post_attention_layernorm post_feedforward_layernorm", BOTH, id="OLMo 2"),
        pytest.param("input_layernorm post_self_attn_layernorm post_mlp_layernorm", BOTH, id="GLM 4"),
        pytest.param("input_layernorm post_attention_layernorm", set(), id="LLaMA, whose name means something else"),
        pytest.param(
            "input_layernorm post_attention_layernorm post_feedforward_layernorm", set(), id="a mixture of both"
        ),
    ],
)
def test_branches_that_end_in_a_normalisation_are_marked(norms: str, expected: set[str]) -> None:
    assert heads(BRANCHES | {f"l.{norm}.weight": (6,) for norm in norms.split()}) == expected


def test_names_of_any_length_take_no_time_and_mark_nothing() -> None:
    name = "conv1." * 20_000 + "conv1"
    shapes = {f"{name}.weight": (8, 3), f"{name[:-5]}bn1.running_mean": (8,)}
    assert scale_free_of(shapes, [Map("w", name, "", 8, 3)]) == {}
