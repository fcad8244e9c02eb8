"""What names and shapes that nobody trained may do to the classification: no error, no wrong number, bounded work."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders import described_tensor, report_of
from safetensors.torch import save_file
from test_fused import Shapes, layers_in

import weightstats
from weightstats.checkpoint import Checkpoint
from weightstats.errors import UsageError
from weightstats.layers import Layer, classify
from weightstats.network import find_network

SCALARS: dict[str, Shapes] = {
    "hidden state": {"rnn.weight_ih_l0": (32, 8), "rnn.weight_hh_l0": ()},
    "projection": {"rnn.weight_ih_l0": (32, 8), "rnn.weight_hh_l0": (32, 8), "rnn.weight_hr_l0": ()},
    "convolution of Mamba-2": {"m.A_log": (4,), "m.in_proj.weight": (32, 8), "m.conv1d.weight": ()},
    "output of Mamba-2": {
        "m.A_log": (4,),
        "m.in_proj.weight": (32, 8),
        "m.out_proj.weight": (),
        "m.conv1d.weight": (8, 1, 3),
    },
    "steps of Mamba": {"m.A_log": (8, 4), "m.x_proj.weight": (32, 8), "m.dt_proj.weight": ()},
    "output of an attention": {
        **{f"a.{name}_proj.weight": (32, 32) for name in "qk"},
        **{f"a.{name}_norm.weight": (8,) for name in "qk"},
        "a.o_proj.weight": (),
    },
    "router": {"m.gate.weight": (0, 8), "m.experts.mlp.w1": (32, 8), "m.experts.w": (2, 8, 8)},
}


@pytest.mark.parametrize("case", SCALARS)
def test_a_neighbour_without_dimensions_harms_nothing(case: str) -> None:
    shapes = SCALARS[case]
    whole = {layer.part_of or name for name, layer in layers_in(shapes).items()}
    matrices = {name for name, shape in shapes.items() if len(shape) > 1 and all(shape)}
    assert whole == matrices - {"m.A_log"}


@pytest.mark.parametrize("prefix", ["x" * 300, "1a" * 300, "a." * 200])
def test_names_of_any_length_have_neighbours(prefix: str) -> None:
    shapes = {f"{prefix}.conv1.weight": (8, 4, 3, 3), f"{prefix}.conv2.weight": (8, 2, 3, 3)}
    assert len(layers_in(shapes)) == 2


@pytest.mark.parametrize("kind", [torch.float32, torch.int8])
def test_a_tensor_that_has_the_name_of_an_effective_weight_harms_nothing(tmp_path: Path, kind: torch.dtype) -> None:
    saved = {
        "conv1.weight_v": torch.randn(8, 4, 3),
        "conv1.weight_g": torch.rand(8, 1, 1),
        "conv1.weight": torch.ones(8, dtype=kind),
        "conv2.weight": torch.randn(8, 8, 3),
    }
    report = report_of(tmp_path, saved)
    assert {row.name for row in report.layers} == {"conv1.weight_v", "conv2.weight"}


QKV = "a.query_key_value.weight"


@pytest.mark.parametrize(
    ("fused", "part"), [(QKV, f"{QKV}[q,k,v]"), ("a.qkv_proj.weight", "a.qkv_proj.weight[q]")], ids=["joint", "parts"]
)
def test_a_tensor_that_has_the_name_of_a_part_keeps_its_own_number(tmp_path: Path, fused: str, part: str) -> None:
    torch.manual_seed(0)
    saved = {fused: torch.randn(24, 8), "a.dense.weight": torch.randn(8, 8), part: 100 * torch.randn(8, 8)}
    rows = {row.name: row for row in report_of(tmp_path, saved).layers}
    assert rows.keys() == saved.keys()
    for name, value in saved.items():
        assert rows[name].mean_square == pytest.approx(float(value.double().square().mean()), rel=1e-6)
    assert "kept whole: a tensor of the file is called" in rows[fused].kind_because


def test_a_rule_that_makes_a_part_of_a_stored_name_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.randn(4, 4), "w[q]": torch.randn(2, 4)}, tmp_path / "model.pt")
    with pytest.raises(UsageError, match="has the name of another tensor"):
        weightstats.inspect(str(tmp_path / "model.pt"), rules=[{"match": "w", "kind": "linear", "split": ["q", "k"]}])


def test_parts_times_the_length_of_a_name_are_bounded() -> None:
    (layer,) = layers_in({"x" * 100_000 + ".experts.w": (4_096, 64, 64)}).values()
    assert layer.part_of is None
    assert "too many" in layer.because


def test_parts_times_the_names_of_a_tensor_are_bounded() -> None:
    one = described_tensor(("m.experts.w0",), (4_096, 64, 64))
    tensors = tuple(replace(one, path=(f"m.experts.w{index}",)) for index in range(2_000))
    items = classify(find_network(Checkpoint("x", "x", 0, tensors)))
    assert sum(isinstance(item, Layer) for item in items) == 1


def test_the_parts_of_a_checkpoint_are_bounded_by_its_bytes() -> None:
    shapes = {f"m{index}.experts.w": (256, 16, 17) for index in range(200)}
    found = len(layers_in(shapes))
    assert 200 <= found <= 5_000 + 200 * 256 * 16 * 17 * 4 // 1_000 + 200
    small = {f"m{index}.experts.w": (16, 2, 3) for index in range(2_000)}
    assert len(layers_in(small)) <= 5_000 + 2_000 + 2_000 * 16 * 6 * 4 // 1_000


def test_parts_that_are_scattered_over_the_whole_are_not_read_apart(tmp_path: Path) -> None:
    weight = torch.randn(64, 32, 256).permute(2, 0, 1)  # the experts are innermost in the storage
    report = report_of(tmp_path, {"m.experts.w": weight})
    (row,) = report.layers
    assert "too scattered" in row.kind_because
    assert row.mean_square == pytest.approx(float(weight.double().square().mean()), rel=1e-6)


def test_columns_are_read_apart_although_each_reaches_over_the_whole(tmp_path: Path) -> None:
    weight = torch.randn(8, 24)
    saved = {"h.0.attn.c_attn.weight": weight, "h.0.attn.c_attn.bias": torch.randn(24)}
    rows = list(report_of(tmp_path, {**saved, "h.0.attn.c_proj.weight": torch.randn(8, 8)}).layers)
    for row, part in zip(rows, weight.chunk(3, dim=1), strict=False):
        assert row.mean_square == pytest.approx(float(part.double().square().mean()), rel=1e-6)


@pytest.mark.parametrize("metadata", [{"format": "pt"}, {"layer": "pt"}, {"a.b": "pt"}])
def test_a_remark_in_the_metadata_is_no_tensor(tmp_path: Path, metadata: dict[str, str]) -> None:

    save_file({"pt": torch.randn(4, 4)}, tmp_path / "model.safetensors", metadata=metadata)
    assert weightstats.inspect(str(tmp_path / "model.safetensors")).checkpoint.tensors == 1
