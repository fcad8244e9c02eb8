"""Adapters: the factors of every library are told from weights, and merged as the libraries merge them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from effective import assert_measured, kinds, moments, network_of, reported, row
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import Memory, values

from weightstats.effective_weights import effective, low_rank, merged
from weightstats.effective_weights.adapter_names import factor_of
from weightstats.inspection import inspect
from weightstats.layers import Layer, classify
from weightstats.network import find_network
from weightstats.readers import open_checkpoint
from weightstats.report import Report
from weightstats.tensors import Slice, Storage, Tensor, make_tensor, part_of

PEFT_SHAPES: dict[str, tuple[int, ...]] = {
    "embed.base_layer.weight": (11, 6),
    "embed.lora_embedding_A.default": (2, 11),
    "embed.lora_embedding_B.default": (6, 2),
    "fc.base_layer.weight": (8, 6),
    "fc.base_layer.bias": (8,),
    "fc.lora_A.default.weight": (2, 6),
    "fc.lora_B.default.weight": (8, 2),
    "square.base_layer.weight": (8, 8),
    "square.base_layer.bias": (8,),
    "square.lora_A.default.weight": (3, 8),
    "square.lora_B.default.weight": (8, 3),
    "conv.base_layer.weight": (4, 3, 3, 3),
    "conv.base_layer.bias": (4,),
    "conv.lora_A.default.weight": (2, 3, 3, 3),
    "conv.lora_B.default.weight": (4, 2, 1, 1),
    "head.weight": (5, 8),
    "head.bias": (5,),
}
"""The state dict of a network that peft 0.21.2 wrapped, less `base_model.model.`."""

PEFT_SETTINGS = {"r": 2, "lora_alpha": 6, "alpha_pattern": {"fc": 10}, "rank_pattern": {"square": 3}}
PEFT_MERGED = {
    "embed": (2.308554390982276, 2.977738857269287),
    "fc": (19.125102358610874, 9.351119995117188),
    "square": (1.5668069894298564, 2.7694711685180664),
    "conv": (5.6240793351002045, 4.182468414306641),
}
"""Mean square and largest magnitude of the weights after peft 0.21.2's `merge_and_unload`, for `waves`."""

RANK_STABILISED_MERGED = {"embed": 4.033576856988481, "fc": 13.876977488093308, "conv": 10.726072382928468}
"""Mean squares with `use_rslora=True`, and no patterns: every rank is 2."""


def waves(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Cosines, which any machine makes again: of the network that the numbers above were made with."""
    made = {}
    for number, (name, shape) in enumerate(sorted(shapes.items())):
        angles = torch.arange(int(np.prod(shape)), dtype=torch.float64) * (number + 1) * 0.37 + number
        made[f"base_model.model.{name}"] = angles.cos().reshape(shape).float()
    return made


def with_settings(folder: Path, state: Mapping[str, torch.Tensor], adapter_config: object) -> Report:
    torch.save(dict(state), folder / "pytorch_model.bin")
    (folder / "adapter_config.json").write_text(json.dumps(adapter_config))
    return inspect(str(folder))


def adapter(outputs: int = 5, inputs: int = 7, rank: int = 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "fc.weight": torch.randn(outputs, inputs),
        "fc.lora_A.weight": torch.randn(rank, inputs),
        "fc.lora_B.weight": torch.randn(outputs, rank),
    }


def tensor_of(array: torch.Tensor) -> Tensor:
    """Whatever its strides."""
    axes = sorted(range(array.dim()), key=lambda axis: -array.stride(axis))
    content = array.permute(axes).contiguous().numpy().tobytes()
    return make_tensor(
        ("t",), tuple(array.shape), "F32", Storage(Memory(content), 0, len(content)), 0, tuple(array.stride())
    )


def shuffled(array: torch.Tensor, axes: list[int]) -> torch.Tensor:
    """The same elements in another order of the storage."""
    back = [axes.index(axis) for axis in range(len(axes))]
    return array.permute(axes).contiguous().permute(back)


def test_a_state_dict_of_peft_is_merged_as_peft_merges_it(tmp_path: Path) -> None:
    report = with_settings(tmp_path, waves(PEFT_SHAPES), PEFT_SETTINGS)
    found = {layer.name: layer for layer in report.layers}
    for name, (mean_square, _) in PEFT_MERGED.items():
        layer = found[f"base_model.model.{name}.base_layer.weight"]
        assert layer.merged_mean_square == pytest.approx(mean_square, rel=1e-6)
    assert found["base_model.model.head.weight"].merged_mean_square is None
    because = {name: found[f"base_model.model.{name}.base_layer.weight"].merged_because for name in PEFT_MERGED}
    assert because == {
        "embed": "the adapter default (rank 2, alpha 6: factor 3)",
        "fc": "the adapter default (rank 2, alpha 10: factor 5)",
        "square": "the adapter default (rank 3, alpha 6: factor 2)",
        "conv": "the adapter default (rank 2, alpha 6: factor 3)",
    }


def test_the_merged_elements_are_pefts(tmp_path: Path) -> None:
    state = waves(PEFT_SHAPES)
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "adapter_config.json").write_text(json.dumps(PEFT_SETTINGS))
    for named in effective(find_network(open_checkpoint(str(tmp_path)))).tensors:
        if named.merged is not None:
            mean_square, largest = PEFT_MERGED[named.name.split(".")[2]]
            found = moments(named.merged)
            assert (found.mean_square, found.max_abs) == pytest.approx((mean_square, largest), rel=1e-6)


def test_a_rank_stabilised_adapter_is_merged_as_peft_merges_it(tmp_path: Path) -> None:
    shapes = {
        name: tuple(2 if size == 3 and "square.lora" in name else size for size in shape)
        for name, shape in PEFT_SHAPES.items()
    }
    report = with_settings(tmp_path, waves(shapes), {"r": 2, "lora_alpha": 6, "use_rslora": True})
    for name, mean_square in RANK_STABILISED_MERGED.items():
        layer = row(report, f"base_model.model.{name}.base_layer.weight")
        assert layer.merged_mean_square == pytest.approx(mean_square, rel=1e-6)
        assert layer.merged_because == "the adapter default (rank 2, alpha 6: factor 4.24264)"


def test_a_base_is_the_kind_of_layer_that_it_was_before_it_was_wrapped(tmp_path: Path) -> None:
    report = with_settings(tmp_path, waves(PEFT_SHAPES), PEFT_SETTINGS)
    found = {layer.name: (layer.kind, layer.n_in, layer.n_out) for layer in report.layers}
    assert found["base_model.model.embed.base_layer.weight"] == ("embedding", 11, 6)
    assert found["base_model.model.fc.base_layer.weight"] == ("linear", 6, 8)
    assert found["base_model.model.conv.base_layer.weight"] == ("conv2d", 27, 36)
    wrapped = {"c.base_layer.weight": (6, 18), "c.base_layer.bias": (18,), "c.lora_A.weight": (2, 6)}
    conv1d = row(reported(tmp_path, {**waves(wrapped)}), "base_model.model.c.base_layer.weight")
    assert (conv1d.n_in, conv1d.n_out) == (6, 18)


FACTORS = {
    "peft": ("x.lora_A.weight", "x.lora_B.weight"),
    "peft's state dict": ("x.lora_A.default.weight", "x.lora_B.default.weight"),
    "peft's embedding": ("x.lora_embedding_A", "x.lora_embedding_B"),
    "peft's embedding in a state dict": ("x.lora_embedding_A.default", "x.lora_embedding_B.default"),
    "AdaLoRA": ("x.lora_A.default", "x.lora_B.default"),
    "loralib": ("x.lora_A", "x.lora_B"),
    "torchtune": ("x.lora_a.weight", "x.lora_b.weight"),
    "kohya-ss": ("lora_unet_down_blocks_0.lora_down.weight", "lora_unet_down_blocks_0.lora_up.weight"),
    "diffusers": ("x.lora.down.weight", "x.lora.up.weight"),
    "diffusers' layers": ("x.lora_linear_layer.down.weight", "x.lora_linear_layer.up.weight"),
    "diffusers' processors": ("attn1.processor.to_q_lora.down.weight", "attn1.processor.to_q_lora.up.weight"),
    "LoHa": ("x.hada_w1_b", "x.hada_w1_a"),
    "LoKr": ("x.lokr_w2_b", "x.lokr_w2_a"),
    "LoKr, whole": ("x.lokr_w1", "x.lokr_w2"),
    "LoHa of peft": ("x.hada_w1_b.default", "x.hada_w1_a.default"),
}


@pytest.mark.parametrize("names", FACTORS.values(), ids=FACTORS)
@pytest.mark.parametrize("shapes", [((2, 9), (5, 2)), ((2, 9, 3, 3), (5, 2, 1, 1))], ids=["linear", "conv"])
def test_the_factors_of_every_library_are_maps_of_their_own_kind(
    tmp_path: Path, names: tuple[str, str], shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    state = {name: torch.randn(shape) for name, shape in zip(names, shapes, strict=True)}
    bias = {f"{names[0].split('.')[0]}.bias": torch.zeros(9)}
    report = reported(tmp_path, {**state, **bias})
    field = 9 if len(shapes[0]) == 4 else 1
    assert {layer.name: (layer.kind, layer.n_in, layer.n_out, layer.fitted) for layer in report.layers} == {
        names[0]: ("low_rank", 9 * field, 2 * field, False),
        names[1]: ("low_rank", 2, 5, False),
    }
    assert report.layers[0].left_out_because == "one factor of a low-rank adapter: only the product is a weight"


@pytest.mark.parametrize(
    "name",
    ["lora.weight", "x.lora_dropout.weight", "explora_A.weight", "x.lora_B.default.bias", "x.lora_B.bias", "x.alpha"],
)
def test_other_names_are_no_factors(name: str) -> None:
    assert factor_of(name) is None


def test_the_alpha_and_the_magnitudes_of_an_adapter_are_no_layers(tmp_path: Path) -> None:
    state = {
        "lora_te_x.lora_down.weight": torch.ones(2, 3),
        "lora_te_x.alpha": torch.tensor(4.0),
        "lora_te_x.dora_scale": torch.ones(5, 1),
        "y.lora_magnitude_vector.default.weight": torch.ones(5),
    }
    assert kinds(reported(tmp_path, state)) == {
        "lora_te_x.alpha": "buffer",
        "lora_te_x.dora_scale": "parameter",
        "y.lora_magnitude_vector.default.weight": "parameter",
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.float16])
def test_an_alpha_beside_the_factors_counts(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {**adapter(), "fc.alpha": torch.tensor(4, dtype=dtype)}
    _, network = network_of(tmp_path, state)
    [named] = [named for named in network.tensors if named.name == "fc.weight"]
    assert named.merged_because == "the adapter (rank 2, alpha 4: factor 2)"
    assert_measured(moments(named.merged), state["fc.weight"].double() + 2 * _product(state))


def _product(state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return state["fc.lora_B.weight"].double() @ state["fc.lora_A.weight"].double()


def test_without_an_alpha_the_factor_is_1_and_that_is_said(tmp_path: Path) -> None:
    state = adapter()
    found = row(reported(tmp_path, state), "fc.weight")
    expected = (state["fc.weight"].double() + _product(state)).square().mean().item()
    assert found.merged_mean_square == pytest.approx(expected, rel=1e-6)
    assert found.merged_because == "the adapter (rank 2, its alpha is not in the file: factor 1)"
    assert_measured(found, state["fc.weight"])


@settings(deadline=None, max_examples=150)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    rank=st.integers(1, 4),
    transposed=st.booleans(),
    wide=st.booleans(),
    data=st.data(),
    seed=st.integers(0, 2**16),
)
def test_every_shape_and_layout_is_merged_as_a_product_of_matrices(
    sizes: list[int], rank: int, transposed: bool, wide: bool, data: st.DataObject, seed: int
) -> None:
    torch.manual_seed(seed)
    transposed = transposed and len(sizes) == 2
    base = torch.randn(sizes)
    outputs, inputs = (sizes[1], (sizes[0],)) if transposed else (sizes[0], tuple(sizes[1:]))
    down, up = torch.randn(rank, *inputs), torch.randn(outputs, rank, *(1 for _ in inputs[1:]))
    product = (up.double().flatten(1) @ down.double().flatten(1)).reshape(outputs, *inputs)
    inner = data.draw(st.permutations(range(1, len(sizes))))
    order = [1, 0] if len(sizes) == 2 and data.draw(st.booleans()) else [0, *inner]
    stored = [
        tensor_of(shuffled(base, order)),
        tensor_of(shuffled(down, data.draw(st.permutations(range(down.dim()))))),
        tensor_of(shuffled(up, [1, 0, *range(2, up.dim())]) if wide else up),
    ]
    assert transposed in merged.fitting(*stored)
    tensor = merged.merged(*stored, -0.75, transposed=transposed)
    assert isinstance(tensor, Tensor)
    expected = base.double() - 0.75 * (product.T if transposed else product)
    np.testing.assert_allclose(values(tensor), expected.permute(order).reshape(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("turned", [False, True])
def test_many_blocks_of_rows_are_merged_in_any_order_by_any_number_of_workers(tmp_path: Path, turned: bool) -> None:
    torch.manual_seed(1)
    outputs, inputs = 3000, 4001
    state = {
        "fc.weight": torch.randn((inputs, outputs) if turned else (outputs, inputs)),
        "fc.lora_A.weight": torch.randn(5, inputs),
        "fc.lora_B.weight": torch.randn(outputs, 5),
    }
    product = _product(state)
    expected = state["fc.weight"].double() + (product.T if turned else product)
    _, network = network_of(tmp_path, state)
    [tensor] = [named.merged for named in network.tensors if named.merged is not None]
    assert_measured(moments(tensor, workers=1), expected)
    assert_measured(moments(tensor, workers=2), expected)


def test_a_base_of_float64_is_merged_in_float64(tmp_path: Path) -> None:
    state = {name: value.double() for name, value in adapter().items()}
    _, network = network_of(tmp_path, state)
    [tensor] = [named.merged for named in network.tensors if named.merged is not None]
    assert_measured(moments(tensor), state["fc.weight"] + _product(state), 1e-13)


def test_the_parts_of_a_fused_base_are_merged_each_for_itself() -> None:
    state = adapter(6, 7)
    tensor = merged.merged(*(tensor_of(value) for value in state.values()), 1.0, transposed=False)
    assert isinstance(tensor, Tensor)
    part = part_of(tensor, [Slice(0, 2, 2, 6)])
    np.testing.assert_allclose(
        values(part), (state["fc.weight"] + _product(state))[2:4].reshape(-1), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"fc.lora_B.weight": torch.ones(5, 3)}, "do not fit its shape (5, 7)"),
        ({"fc.lora_A.weight": torch.ones(2, 8)}, "do not fit its shape (5, 7)"),
        ({"fc.lora_A.weight": torch.ones(0, 7), "fc.lora_B.weight": torch.ones(5, 0)}, "is no matrix"),
        ({"fc.lora_A.weight": torch.ones(7)}, "is no matrix"),
        ({"fc.lora_A.weight": torch.ones(2, 7, dtype=torch.int8)}, "not all floating-point"),
        ({"fc.alpha": torch.tensor(float("nan"))}, "its alpha is nan"),
        ({"fc.alpha": torch.ones(2)}, "its alpha is not a single number"),
        ({"fc.alpha": torch.ones(1, dtype=torch.bool)}, "its alpha is not a single number"),
        ({"fc.lora_A.other.weight": torch.ones(2, 7)}, "it has 2 ('', 'other'), and which of them are used is not in"),
        ({"fc.lora_mid.weight": torch.ones(2, 2, 3, 3)}, "its factors are not two"),
        ({"fc.lora_magnitude_vector.weight": torch.ones(5)}, "its magnitudes (DoRA) go beyond a sum"),
        ({"fc.dora_scale": torch.ones(5, 1)}, "its magnitudes (DoRA) go beyond a sum"),
        ({"fc.lora_E": torch.ones(2, 1)}, "a diagonal stands between its factors (AdaLoRA)"),
        ({"fc.lora_diag": torch.ones(2)}, "beside its factors it has what is not known"),
        ({"fc.lora_A.weight": torch.ones(4, 7)[::2]}, "do not lie side by side"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_adapter_that_cannot_be_added_is_a_reason_and_the_base_is_measured_as_it_is_stored(
    tmp_path: Path, changed: dict[str, torch.Tensor], reason: str
) -> None:
    state = {**adapter(), **changed}
    found = row(reported(tmp_path, state), "fc.weight")
    assert_measured(found, state["fc.weight"])
    assert found.merged_mean_square is None
    assert f"measured without its adapter: {reason}" in found.kind_because.replace(
        "factors of the shapes (2, 7) and (5, 3) ", ""
    ).replace("factors of the shapes (2, 8) and (5, 2) ", "").replace("it or one of its factors ", "").replace(
        "it and its factors are ", ""
    ).replace("of it or a factor, its elements ", "")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"lora_alpha": "6"}, "the alpha of its configuration is not a number"),
        ({"lora_alpha": True}, "the alpha of its configuration is not a number"),
        ({"lora_alpha": 10**400}, "the alpha of its configuration is not finite"),
        ({"alpha_pattern": [1]}, "the alpha_pattern of its configuration is not an object"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "holds regular expressions, which are not run"),
        ({"alpha_pattern": {"fc": None}}, "the alpha of its configuration is not a number"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_a_reason(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    found = row(with_settings(tmp_path, adapter(), {"lora_alpha": 6, **changed}), "fc.weight")
    assert found.merged_mean_square is None
    assert reason in found.kind_because


@pytest.mark.parametrize(
    ("pattern", "alpha"), [("fc", 10), ("^a.fc", 10), ("^fc", 6), ("a.fc", 10), ("c", 6), ("b.fc", 6)]
)
def test_a_pattern_of_modules_names_their_ends_or_with_a_caret_all_of_them(
    tmp_path: Path, pattern: str, alpha: int
) -> None:
    state = {f"base_model.model.a.{name}": value for name, value in adapter().items()}
    report = with_settings(tmp_path, state, {"lora_alpha": 6, "alpha_pattern": {pattern: 10}})
    assert f"alpha {alpha}:" in (row(report, "base_model.model.a.fc.weight").merged_because or "")


def test_whether_a_square_base_is_transposed_is_what_the_configuration_says(tmp_path: Path) -> None:
    state = adapter(6, 6)
    for said in (False, True):
        report = with_settings(tmp_path, state, {"lora_alpha": 2, "fan_in_fan_out": said})
        product = _product(state).T if said else _product(state)
        expected = (state["fc.weight"].double() + product).square().mean().item()
        assert row(report, "fc.weight").merged_mean_square == pytest.approx(expected, rel=1e-6)


def test_a_square_base_beside_transposed_ones_is_not_merged_without_a_configuration(tmp_path: Path) -> None:
    square = adapter(6, 6)
    wide = {name.replace("fc", "wide"): value for name, value in adapter(6, 18).items()}
    wide["wide.weight"] = wide["wide.weight"].T.contiguous()
    report = reported(tmp_path, {**square, **wide})
    assert row(report, "fc.weight").merged_mean_square is None
    assert "its base is square, and may be stored with" in row(report, "fc.weight").kind_because
    assert row(report, "wide.weight").merged_mean_square is not None


def test_a_kernel_of_one_position_may_have_factors_that_are_matrices(tmp_path: Path) -> None:
    state = adapter()
    state["fc.weight"] = state["fc.weight"].reshape(5, 7, 1, 1)
    expected = (state["fc.weight"].double().flatten(1) + _product(state)).square().mean().item()
    assert row(reported(tmp_path, state), "fc.weight").merged_mean_square == pytest.approx(expected, rel=1e-6)


def test_factors_that_are_too_large_to_hold_are_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(merged, "MOST_ELEMENTS", 13)
    found = row(reported(tmp_path, adapter()), "fc.weight")
    assert "a factor of it has more than the 13 elements that are held" in found.kind_because


def test_an_adapter_of_a_parametrization_is_added_to_its_original(tmp_path: Path) -> None:
    state = adapter()
    inside = {
        "fc.parametrizations.weight.original": state["fc.weight"],
        "fc.parametrizations.weight.0.lora_A": state["fc.lora_A.weight"],
        "fc.parametrizations.weight.0.lora_B": state["fc.lora_B.weight"],
    }
    found = row(reported(tmp_path, inside), "fc.parametrizations.weight.original")
    expected = (state["fc.weight"].double() + _product(state)).square().mean().item()
    assert found.merged_mean_square == pytest.approx(expected, rel=1e-6)
    assert "function is not in the file" not in found.kind_because


def test_an_adapter_is_added_to_the_effective_weight_of_another_scheme(tmp_path: Path) -> None:
    state = adapter()
    normalised = {
        "fc.parametrizations.weight.original": state["fc.weight"],
        "fc.parametrizations.weight.0._u": torch.ones(5),
        "fc.parametrizations.weight.0._v": torch.ones(7),
        "fc.parametrizations.weight.0.lora_A": state["fc.lora_A.weight"],
        "fc.parametrizations.weight.0.lora_B": state["fc.lora_B.weight"],
    }
    found = row(reported(tmp_path, normalised), "fc.parametrizations.weight.original")
    weight = state["fc.weight"].double() / state["fc.weight"].double().sum()
    assert_measured(found, weight)
    expected = (weight + _product(state)).square().mean().item()
    assert found.merged_mean_square == pytest.approx(expected, rel=1e-6)


def test_an_adapter_without_its_base_lists_its_factors_alone(tmp_path: Path) -> None:
    state = adapter()
    del state["fc.weight"]
    report = reported(tmp_path, state)
    assert [layer.kind for layer in report.layers] == ["low_rank", "low_rank"]
    assert [layer.merged_because for layer in report.layers] == [None, None]


def test_names_that_only_look_like_adapters_take_no_long_time() -> None:
    for name in ("." * 60_000 + "lora_A", ".lora_A" * 10_000, ".lora_A." + "x" * 60_000 + ".weight", "lora_" * 20_000):
        factor_of(name)
    tensors = {".lora_x" * count: tensor_of(torch.ones(2)) for count in range(1, 2000)}
    assert low_rank.combined(tensors, {}) == []


def test_a_live_classification_sees_the_factors_as_layers(tmp_path: Path) -> None:
    _, network = network_of(tmp_path, adapter())
    found = {item.name: item.kind for item in classify(network) if isinstance(item, Layer)}
    assert found == {"fc.weight": "linear", "fc.lora_A.weight": "low_rank", "fc.lora_B.weight": "low_rank"}


def test_an_adapter_is_added_to_a_base_that_is_quantised(tmp_path: Path) -> None:
    state = adapter()
    codes = (state["fc.weight"] * 16).to(torch.float8_e4m3fn)
    found = row(reported(tmp_path, {**state, "fc.weight": codes, "fc.weight_scale": torch.tensor(1 / 16)}), "fc.weight")
    weight = codes.double() / 16
    assert_measured(found, weight)
    expected = (weight + _product(state)).square().mean().item()
    assert found.merged_mean_square == pytest.approx(expected, rel=1e-6)
