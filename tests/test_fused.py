"""The maps that one weight holds, by its name and by what lies around it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from builders import described_tensor, report_of
from torch import nn

from weightstats.checkpoint import Checkpoint
from weightstats.layers import Layer, classify
from weightstats.network import find_network

Shapes = Mapping[str, tuple[int, ...]]


def layers_in(shapes: Shapes, config: Mapping[str, Any] | None = None, *, as_stored: bool = False) -> dict[str, Layer]:
    """The layers that tensors of these names and shapes are taken for, by name."""
    tensors = tuple(described_tensor((name,), shape) for name, shape in shapes.items())
    checkpoint = Checkpoint("x", "x", 0, tensors, config={"config.json": dict(config)} if config else {})
    items = classify(find_network(checkpoint), as_stored=as_stored)
    return {item.name: item for item in items if isinstance(item, Layer)}


def fans_in(shapes: Shapes, config: Mapping[str, Any] | None = None) -> dict[str, tuple[int, int]]:
    """(n_in, n_out) of each layer."""
    return {name: (layer.n_in, layer.n_out) for name, layer in layers_in(shapes, config).items()}


def of(fans: Mapping[str, tuple[int, int]], name: str) -> dict[str, tuple[int, int]]:
    """The fans of the parts of one tensor, by what stands in the brackets."""
    return {part[len(name) + 1 : -1]: pair for part, pair in fans.items() if part.startswith(f"{name}[")}


@pytest.mark.parametrize(
    ("fused", "output"),
    [
        ("attn.in_proj_weight", "attn.out_proj.weight"),  # torch.nn.MultiheadAttention
        ("blocks.0.attn.qkv.weight", "blocks.0.attn.proj.weight"),  # timm
        ("model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.self_attn.o_proj.weight"),  # Phi-3
        ("transformer.blocks.0.attn.Wqkv.weight", "transformer.blocks.0.attn.out_proj.weight"),  # MPT
        ("transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_proj.weight"),  # nanoGPT
        ("layers.0.to_qkv.weight", "layers.0.to_out.0.weight"),  # lucidrains
    ],
)
def test_q_k_and_v_in_one_matrix_are_three_layers(fused: str, output: str) -> None:
    assert of(fans_in({fused: (24, 8), output: (8, 8)}), fused) == {"q": (8, 8), "k": (8, 8), "v": (8, 8)}


def test_fewer_keys_than_queries_are_told_by_the_output_projection() -> None:
    name = "layers.0.self_attn.qkv_proj.weight"
    shapes = {name: (32 + 2 * 8, 24), "layers.0.self_attn.o_proj.weight": (24, 32)}
    assert of(fans_in(shapes), name) == {"q": (24, 32), "k": (24, 8), "v": (24, 8)}


def test_fewer_keys_than_queries_are_told_by_the_configuration() -> None:
    name = "layers.0.self_attn.qkv_proj.weight"
    config = {"num_attention_heads": 8, "num_key_value_heads": 2}
    assert of(fans_in({name: (48, 24)}, config), name) == {"q": (24, 32), "k": (24, 8), "v": (24, 8)}


def test_sizes_that_fit_nothing_leave_a_weight_whole() -> None:
    shapes = {"layers.0.self_attn.qkv_proj.weight": (49, 24), "layers.0.self_attn.o_proj.weight": (24, 32)}
    assert set(fans_in(shapes)) == set(shapes)


def test_gpt2_keeps_its_inputs_first() -> None:
    name = "h.0.attn.c_attn.weight"
    shapes = {name: (8, 24), "h.0.attn.c_attn.bias": (24,), "h.0.attn.c_proj.weight": (8, 8)}
    parts = [layer for layer in layers_in(shapes).values() if layer.part_of == name]
    assert [(layer.n_in, layer.n_out, layer.tensor.shape) for layer in parts] == [(8, 8, (8, 8))] * 3


def test_the_cross_attention_of_gpt2_holds_keys_and_values() -> None:
    name = "h.0.crossattention.c_attn.weight"
    shapes = {name: (8, 16), "h.0.crossattention.c_attn.bias": (16,), "h.0.crossattention.q_attn.weight": (8, 8)}
    assert of(fans_in(shapes), name) == {"k": (8, 8), "v": (8, 8)}


NEOX = {
    "layers.0.attention.query_key_value.weight": (24, 8),
    "layers.0.attention.dense.weight": (8, 8),
}


def test_heads_of_an_unknown_number_leave_one_row_with_the_fans_of_each() -> None:
    assert fans_in(NEOX)["layers.0.attention.query_key_value.weight[q,k,v]"] == (8, 8)


def test_heads_of_a_known_number_are_told_apart() -> None:
    fans = fans_in(NEOX, {"model_type": "gpt_neox", "num_attention_heads": 2})
    assert of(fans, "layers.0.attention.query_key_value.weight") == {"q": (8, 8), "k": (8, 8), "v": (8, 8)}


def test_what_comes_from_the_configuration_says_so() -> None:
    layers = layers_in(NEOX, {"model_type": "gpt_neox", "num_attention_heads": 2})
    assert layers["layers.0.attention.query_key_value.weight[q]"].fans_from == "graph"
    assert layers["layers.0.attention.dense.weight"].fans_from == "shape"


def test_the_parts_of_interleaved_heads_hold_the_rows_of_their_heads(tmp_path: Any) -> None:
    heads, size, width = 3, 4, 12
    weight = torch.zeros(heads, 3, size, width)
    for index, value in enumerate((1.0, 10.0, 100.0)):  # q, k and v of every head
        weight[:, index] = value * torch.randn(heads, size, width, generator=torch.Generator().manual_seed(index))
    saved = {
        "layers.0.attention.query_key_value.weight": weight.reshape(3 * heads * size, width),
        "layers.0.attention.dense.weight": torch.randn(12, 12),
    }
    (tmp_path / "config.json").write_text('{"model_type": "gpt_neox", "num_attention_heads": 3}')
    rows = {row.name.partition("[")[2]: row for row in report_of(tmp_path, saved).layers}
    for index, part in enumerate(("q]", "k]", "v]")):
        expected = float(weight[:, index].double().square().mean())
        assert rows[part].mean_square == pytest.approx(expected, rel=1e-6)


def test_codegen_keeps_q_v_and_k_in_four_blocks(tmp_path: Any) -> None:
    rows = np.arange(48, dtype=np.float64)
    saved = {"transformer.h.0.attn.qkv_proj.weight": torch.from_numpy(np.repeat(rows[:, None], 16, axis=1))}
    report = report_of(tmp_path, saved)
    means = {row.name.partition("[")[2]: row.mean for row in report.layers}
    blocks = rows.reshape(4, 3, 4)  # of four cores; q, v, k; rows
    expected = {"q]": blocks[:, 0].mean(), "v]": blocks[:, 1].mean(), "k]": blocks[:, 2].mean()}
    assert means == pytest.approx(expected)


@pytest.mark.parametrize(
    ("module", "gates"),
    [
        (nn.LSTM(5, 3), ("input", "forget", "cell", "output")),
        (nn.GRU(5, 3), ("reset", "update", "new")),
        (nn.LSTMCell(5, 3), ("input", "forget", "cell", "output")),
    ],
)
def test_the_gates_of_a_recurrent_layer_are_layers(tmp_path: Any, module: nn.Module, gates: tuple[str, ...]) -> None:
    report = report_of(tmp_path, module.state_dict())
    for of_what, inputs in (("ih", 5), ("hh", 3)):
        rows = [row for row in report.layers if f"weight_{of_what}" in row.name]
        assert [row.name.partition("[")[2][:-1] for row in rows] == list(gates)
        weight = next(value for name, value in module.state_dict().items() if f"weight_{of_what}" in name)
        for row, part in zip(rows, weight.chunk(len(gates)), strict=True):
            assert (row.n_in, row.n_out) == (inputs, 3)
            assert row.mean_square == pytest.approx(float(part.double().square().mean()), rel=1e-6)


def test_an_lstm_with_a_projection_has_gates_of_its_hidden_size() -> None:
    shapes = {"l.weight_ih_l0": (32, 5), "l.weight_hh_l0": (32, 2), "l.weight_hr_l0": (2, 8)}
    fans = fans_in(shapes)
    assert of(fans, "l.weight_ih_l0") == dict.fromkeys(("input", "forget", "cell", "output"), (5, 8))
    assert of(fans, "l.weight_hh_l0") == dict.fromkeys(("input", "forget", "cell", "output"), (2, 8))
    assert fans["l.weight_hr_l0"] == (8, 2)


def test_gate_and_up_in_one_matrix_are_two_layers() -> None:
    name = "layers.0.mlp.gate_up_proj.weight"
    assert of(fans_in({name: (40, 8), "layers.0.mlp.down_proj.weight": (8, 20)}), name) == {
        "gate": (8, 20),
        "up": (8, 20),
    }


def test_a_gated_unit_is_known_by_the_layer_that_takes_half() -> None:
    name = "blocks.0.mlp.fc1.weight"
    assert of(fans_in({name: (40, 8), "blocks.0.mlp.fc2.weight": (8, 20)}), name) == {
        "first": (8, 20),
        "second": (8, 20),
    }


def test_a_perceptron_that_is_not_gated_is_whole() -> None:
    shapes = {"blocks.0.mlp.fc1.weight": (40, 8), "blocks.0.mlp.fc2.weight": (8, 40)}
    assert set(fans_in(shapes)) == set(shapes)


MIXTRAL = {
    "layers.0.mlp.gate.weight": (4, 8),
    "layers.0.mlp.experts.gate_up_proj": (4, 40, 8),
    "layers.0.mlp.experts.down_proj": (4, 8, 20),
}
"""transformers: outputs before inputs."""

LLAMA4 = {
    "layers.0.feed_forward.router.weight": (4, 8),
    "layers.0.feed_forward.experts.gate_up_proj": (4, 8, 40),
    "layers.0.feed_forward.experts.down_proj": (4, 20, 8),
}
"""transformers: inputs before outputs."""


@pytest.mark.parametrize("shapes", [MIXTRAL, LLAMA4])
def test_experts_are_layers_whichever_dimension_comes_first(shapes: Shapes) -> None:
    fans = fans_in(shapes)
    up, down = (name for name in shapes if "experts" in name)
    assert of(fans, up) == {f"{expert},{part}": (8, 20) for expert in range(4) for part in ("gate", "up")}
    assert of(fans, down) == {str(expert): (20, 8) for expert in range(4)}


def test_gate_and_up_of_gpt_oss_alternate(tmp_path: Any) -> None:
    weight = torch.randn(2, 8, 12, dtype=torch.float64)
    weight[:, :, 1::2] *= 10
    saved = {
        "mlp.router.weight": torch.randn(2, 8),
        "mlp.experts.gate_up_proj": weight,
        "mlp.experts.gate_up_proj_bias": torch.zeros(2, 12),
        "mlp.experts.down_proj": torch.randn(2, 6, 8),
        "mlp.experts.down_proj_bias": torch.zeros(2, 8),
    }
    rows = {row.name: row for row in report_of(tmp_path, saved).layers}
    for expert in range(2):
        for part, start in (("gate", 0), ("up", 1)):
            row = rows[f"mlp.experts.gate_up_proj[{expert},{part}]"]
            assert row.mean_square == pytest.approx(float(weight[expert, :, start::2].square().mean()))
            assert (row.n_in, row.n_out, row.shape) == (8, 6, (8, 6))


def test_the_projections_of_mamba_are_told_by_its_decay() -> None:
    shapes = {
        "mixer.A_log": (16, 4),
        "mixer.in_proj.weight": (32, 8),
        "mixer.conv1d.weight": (16, 1, 4),
        "mixer.x_proj.weight": (3 + 2 * 4, 16),
        "mixer.dt_proj.weight": (16, 3),
        "mixer.out_proj.weight": (8, 16),
    }
    fans = fans_in(shapes)
    assert of(fans, "mixer.in_proj.weight") == {"x": (8, 16), "z": (8, 16)}
    assert of(fans, "mixer.x_proj.weight") == {"dt": (16, 3), "B": (16, 4), "C": (16, 4)}


def test_the_projection_of_mamba2_holds_five_maps() -> None:
    shapes = {
        "mixer.A_log": (2,),
        "mixer.in_proj.weight": (16 + 16 + 4 + 4 + 2, 8),
        "mixer.conv1d.weight": (24, 1, 4),
        "mixer.out_proj.weight": (8, 16),
    }
    assert of(fans_in(shapes), "mixer.in_proj.weight") == {
        "z": (8, 16), "x": (8, 16), "B": (8, 4), "C": (8, 4), "dt": (8, 2)
    }  # fmt: skip


def test_as_stored_keeps_everything_whole() -> None:
    for shapes in (MIXTRAL, LLAMA4, NEOX):
        assert set(layers_in(shapes, as_stored=True)) == set(shapes)


@pytest.mark.parametrize("count", [5_000, 10**9])
def test_a_stack_beyond_belief_is_kept_whole(count: int) -> None:
    shapes = {"mlp.experts.w": (count, 2, 2)}
    assert set(layers_in(shapes)) == set(shapes)


def test_experts_below_each_other_are_told_by_the_router() -> None:
    shapes = {"ffn.router.layer.weight": (3, 8), "ffn.experts.mlp.w1": (30, 8), "ffn.experts.mlp.w2": (30, 8)}
    fans = fans_in(shapes)
    assert of(fans, "ffn.experts.mlp.w1") == dict.fromkeys("012", (8, 10))
    assert of(fans, "ffn.experts.mlp.w2") == dict.fromkeys("012", (10, 8))
