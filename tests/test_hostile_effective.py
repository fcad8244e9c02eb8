"""Effective weights of hostile files: bounded work whatever they claim, and no wrong number."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import described_tensor
from makers import ending_soon, values
from quantised import found, weights, written

from weightstats import inspect
from weightstats.checkpoint import Checkpoint
from weightstats.configs import configs_beside
from weightstats.effective_weights import effective
from weightstats.effective_weights.adapter_scale import Scale, alphas_of, scale_of
from weightstats.effective_weights.quantisation_config import text
from weightstats.network import find_network


def factor(patterns: dict[str, Any], module: str) -> float | str:
    """The alpha, as a rank of 1 leaves it, that patterns give to a module; 6 where none does."""
    settings = {"lora_alpha": 6, "alpha_pattern": patterns}
    scale = scale_of({}, module, 1, settings, alphas_of(settings))
    return scale.factor if isinstance(scale, Scale) else scale


@pytest.mark.parametrize(
    ("patterns", "alpha"),
    [
        ({"fc": 10, "a.fc": 11}, 10),
        ({"a.fc": 11, "fc": 10}, 11),
        ({"^a.fc": 12, "fc": 10}, 12),
        ({"fc": 10, "^a.fc": 12}, 10),
        ({"c": 10, "^fc": 11}, 6),
        ({"fc": 10, "x.*": 11}, 10),
    ],
)
def test_the_first_pattern_that_names_a_module_counts(patterns: dict[str, Any], alpha: float) -> None:
    assert factor(patterns, "base_model.model.a.fc") == alpha


def test_regular_expressions_before_a_pattern_are_a_reason() -> None:
    assert "not run" in str(factor({"x.*": 11, "fc": 10}, "a.fc"))


def test_many_patterns_for_many_modules_take_no_long_time() -> None:
    settings = {"lora_alpha": 1, "alpha_pattern": {f"z{number}": 1 for number in range(300_000)}}
    with ending_soon(20):
        alphas = alphas_of(settings)
        for number in range(1_600):
            assert isinstance(scale_of({}, f"m{number}", 1, settings, alphas), Scale)


def test_a_setting_that_is_too_long_for_a_word_is_none() -> None:
    assert text({"a": "X" * 201, "b": "Y"}, "a", "b") == "y"
    assert text({"a": "X" * 200}, "a") == "x" * 200


@pytest.mark.parametrize("end", ["_v", "_orig", "_bar"])
def test_a_long_name_is_looked_at_only_at_its_end(end: str) -> None:
    start = "a." + "_weight" * 100_000 + "-"
    names = [f"{start}{end}", f"{start}.weight_v", f"{start}.weight_g"]
    tensors = tuple(
        described_tensor((name,), shape) for name, shape in zip(names, [(4, 4), (4, 4), (4, 1)], strict=True)
    )
    with ending_soon(20):
        network = effective(find_network(Checkpoint("a", "f", 10**9, tensors, ())))
    assert [named.known_as for named in network.tensors] == ["", f"{start}.weight", ""]


def test_quantised_weights_of_the_same_stored_elements_are_one_layer(tmp_path: Path) -> None:
    codes, scales = torch.arange(60, dtype=torch.int8).reshape(6, 10), torch.arange(1.0, 7.0)
    torch.save({"a.weight": codes, "a.SCB": scales, "b.weight": codes, "b.SCB": scales}, tmp_path / "m.pt")
    [row] = inspect(str(tmp_path / "m.pt")).layers
    assert (row.name, row.tied_to) == ("a.weight", ("b.weight",))


def test_the_same_stored_elements_in_other_parts_are_another_weight(tmp_path: Path) -> None:
    codes, one, two = torch.full((4, 4), 9, dtype=torch.int8), torch.arange(1.0, 5.0), torch.arange(5.0, 9.0)
    state = {}
    for name, scale, zero in (("a", one, two), ("b", two, one)):
        state |= {f"{name}.weight": codes, f"{name}.weight_scale": scale, f"{name}.weight_zero_point": zero}
    torch.save(state, tmp_path / "m.pt")
    made = weights(tmp_path / "m.pt")
    for name, scale, zero in (("a", one, two), ("b", two, one)):
        expected = ((codes - zero[:, None]) * scale[:, None]).flatten().numpy()
        np.testing.assert_allclose(values(made[f"{name}.weight"].tensor), expected)


def test_the_same_stored_elements_in_other_shapes_are_another_weight(tmp_path: Path) -> None:
    direction, magnitudes = torch.arange(1.0, 17.0).reshape(4, 4), torch.arange(1.0, 5.0)
    shapes = {"a": (4, 1), "b": (1, 4)}
    state = {}
    for name, shape in shapes.items():
        state |= {f"{name}.weight_v": direction, f"{name}.weight_g": magnitudes.reshape(shape)}
    torch.save(state, tmp_path / "m.pt")
    made = weights(tmp_path / "m.pt")
    for name, shape in shapes.items():
        expected = torch._weight_norm(direction, magnitudes.reshape(shape), shape.index(4)).flatten().numpy()
        np.testing.assert_allclose(values(made[f"{name}.weight_v"].tensor), expected, rtol=1e-6)


def adapted(rank: int) -> dict[str, torch.Tensor]:
    return {
        "m.weight": torch.ones(2, 3),
        "m.lora_A.weight": torch.ones(rank, 3),
        "m.lora_B.weight": torch.ones(2, rank),
    }


def test_a_rank_that_is_none_of_an_adapter_is_a_reason(tmp_path: Path) -> None:
    [row] = [row for row in inspect(str(written(tmp_path, adapted(4_097)))).layers if row.kind != "low_rank"]
    assert row.merged_mean_square is None
    assert "measured without its adapter" in row.kind_because
    assert "4,097" in row.kind_because


def test_a_weight_with_an_adapter_takes_the_bytes_of_its_factors_too(tmp_path: Path) -> None:
    merged = found(written(tmp_path, adapted(5)))["m.weight"].merged
    assert merged is not None
    assert merged.stored_bytes == merged.reach == 4 * (2 * 3 + 5 * 3 + 2 * 5)


def test_a_number_of_the_configuration_is_cut_where_a_reason_repeats_it(tmp_path: Path) -> None:
    words = torch.zeros(8, 32, dtype=torch.int32)
    tensors = {"qweight": words, "qzeros": words[:2, :4].clone(), "scales": torch.ones(2, 32)}
    use = found(written(tmp_path, tensors, {"quantization_config": {"bits": 10**4_000}}))["qweight"].tensor.use
    assert use is not None
    assert len(use.because) < 400


def test_a_description_of_more_than_4096_bytes_is_not_parsed(tmp_path: Path) -> None:
    described = json.dumps({"shape": [4, 4], "blocksize": 64}).encode().ljust(5_000)
    state = {
        "weight": torch.zeros(8, 1, dtype=torch.uint8),
        "weight.absmax": torch.ones(1),
        "weight.quant_map": torch.ones(16),
        "weight.quant_state.bitsandbytes__nf4": torch.tensor(list(described), dtype=torch.uint8),
    }
    use = found(written(tmp_path, state))["weight"].tensor.use
    assert use is not None
    assert "--limit quantisation_state_bytes=N" in use.because


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing"])
def test_a_configuration_that_is_no_file_is_a_warning(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    with ending_soon(20):
        configs, warnings = configs_beside(tmp_path, "a")
    assert configs == {}
    assert len(warnings) == 1
    assert warnings[0].startswith("config.json beside the weights is not used: ")
