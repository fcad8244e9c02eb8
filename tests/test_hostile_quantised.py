"""Quantised weights whose parts do not fit each other: a reason in words, no exception, and no number made of them."""

import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers import ending_soon, values
from quantised import array, reason, reference, weights, written
from safetensors.torch import save_file

from weightstats import inspect
from weightstats.limits import changed_limits

CODES8 = torch.ones(6, 10, dtype=torch.int8)
FLOATS8 = torch.ones(6, 10).to(torch.float8_e4m3fn)


def state(**changes: Any) -> torch.Tensor:
    """The description of a 4-bit weight of 4 x 64."""
    described = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [4, 64], **changes}
    return torch.tensor(list(json.dumps(described).encode()), dtype=torch.uint8)


def four_bits(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    made = {
        "weight": torch.zeros(128, 1, dtype=torch.uint8),
        "weight.absmax": torch.ones(4),
        "weight.quant_map": torch.linspace(-1, 1, 16),
        "weight.quant_state.bitsandbytes__nf4": state(),
    }
    return {**made, **{name.replace("__", "."): tensor for name, tensor in changes.items()}}


def described(content: bytes) -> dict[str, torch.Tensor]:
    return {**four_bits(), "weight.quant_state.bitsandbytes__nf4": torch.tensor(list(content), dtype=torch.uint8)}


def gptq(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    made = {
        "qweight": torch.zeros(8, 32, dtype=torch.int32),
        "qzeros": torch.zeros(2, 4, dtype=torch.int32),
        "scales": torch.ones(2, 32),
        "g_idx": torch.zeros(64, dtype=torch.int32),
    }
    return {**made, **changes}


def words(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=torch.int32)


UNRESOLVED = {
    "scales of no number": ({"weight": CODES8, "weight_scale": torch.ones(0)}, "do not fit"),
    "too few scales": ({"weight": CODES8, "weight_scale": torch.ones(5)}, "do not fit"),
    "scales of the inputs": ({"weight": CODES8, "weight_scale": torch.ones(10)}, "do not fit"),
    "more scales than rows": ({"weight": FLOATS8, "weight_scale": torch.ones(7, 1)}, "do not divide"),
    "uncertain blocks": (
        {"weight": torch.ones(100, 7).to(torch.float8_e4m3fn), "weight_scale": torch.ones(3, 1)},
        "34 to 49",
    ),
    "scales of integers": ({"weight": CODES8, "weight_scale": words(6)}, "is of I32"),
    "exponents beside integers": ({"weight": CODES8, "weight_scale": torch.ones(6, dtype=torch.uint8)}, "is of U8"),
    "other zero points": (
        {"weight": CODES8, "weight_scale": torch.ones(6), "weight_zero_point": torch.ones(5, dtype=torch.int8)},
        "has the shape",
    ),
    "SCB of another size": ({"weight": CODES8, "SCB": torch.ones(5)}, "has the shape"),
    "SCB of another layout": (
        {"weight": CODES8, "SCB": torch.ones(6), "weight_format": torch.tensor(2, dtype=torch.uint8)},
        "weight_format",
    ),
    "fewer codes than the description says": (four_bits(weight=torch.zeros(127, 1, dtype=torch.uint8)), "127 bytes"),
    "too few magnitudes": (four_bits(weight__absmax=torch.ones(3)), "has the shape"),
    "no magnitudes": ({k: v for k, v in four_bits().items() if k != "weight.absmax"}, "absmax is not there"),
    "no values": ({k: v for k, v in four_bits().items() if k != "weight.quant_map"}, "quant_map is not there"),
    "nested magnitudes without their values": (
        four_bits(
            weight__absmax=torch.zeros(4, dtype=torch.uint8),
            weight__nested_absmax=torch.ones(1),
            weight__quant_state__bitsandbytes__nf4=state(),
        ),
        "nested_blocksize",
    ),
    "not JSON": (described(b"{"), "not valid JSON"),
    "not UTF-8": (described(b"\xff\xfe"), "not valid JSON"),
    "not an object": (described(b"[1]"), "not a JSON object"),
    "a key twice": (described(b'{"shape": [4, 64], "shape": [4, 64]}'), "twice"),
    "deep JSON": (described(b"[" * 4_000), "not valid JSON"),
    "long JSON": (described(b" " * 70_000), "4,096"),
    "no shape": (described(b'{"blocksize": 64}'), "gives no shape"),
    "a shape of text": (described(b'{"blocksize": 64, "shape": ["4", 64]}'), "gives the shape"),
    "a negative shape": (described(b'{"blocksize": 64, "shape": [-4, -64]}'), "gives the shape"),
    "a huge shape": (described(b'{"blocksize": 64, "shape": [4611686018427387904, 4]}'), "elements"),
    "blocks of nothing": (described(b'{"blocksize": 0, "shape": [4, 64]}'), "blocksize"),
    "blocks of a truth": (described(b'{"blocksize": true, "shape": [4, 64]}'), "blocksize"),
    "GPTQ of no bits": (gptq(qzeros=words(2, 5)), "fit none"),
    "GPTQ of other groups": (gptq(qzeros=words(3, 4)), "has the shape"),
    "GPTQ of other inputs": (gptq(g_idx=torch.zeros(63, dtype=torch.int32)), "has the shape"),
    "GPTQ of floats": (gptq(qweight=torch.zeros(8, 32)), "is of F32"),
    "GPTQ without scales": (gptq(scales=torch.ones(0, 32), qzeros=words(0, 4)), "no scales"),
    "neither GPTQ nor AWQ": (gptq(scales=torch.ones(2, 31)), "neither"),
    "AWQ of other zero points": (
        {"qweight": words(64, 4), "qzeros": words(2, 3), "scales": torch.ones(2, 32)},
        "has the shape",
    ),
    "AWQ of other groups": ({"qweight": words(64, 4), "qzeros": words(3, 4), "scales": torch.ones(3, 32)}, "3 groups"),
    "packed integers of another shape": (
        {"weight_packed": words(4, 8), "weight_scale": torch.ones(4, 1), "weight_shape": torch.tensor([4, 63])},
        "whole codes",
    ),
    "packed integers of no shape": ({"weight_packed": words(4, 8), "weight_scale": torch.ones(4, 1)}, "is not there"),
    "packed integers of other groups": (
        {"weight_packed": words(4, 8), "weight_scale": torch.ones(4, 3), "weight_shape": torch.tensor([4, 64])},
        "do not fit",
    ),
    "NVFP4 of other blocks": (
        {
            "weight_packed": torch.zeros(4, 16, dtype=torch.uint8),
            "weight_scale": torch.ones(4, 3).to(torch.float8_e4m3fn),
            "weight_global_scale": torch.ones(1),
        },
        "has the shape",
    ),
    "MXFP4 of other exponents": (
        {"e_blocks": torch.zeros(2, 3, 4, 16, dtype=torch.uint8), "e_scales": torch.zeros(2, 3, 5, dtype=torch.uint8)},
        "has the shape",
    ),
    "MXFP4 of too many experts": (
        {
            "e_blocks": torch.zeros(3000, 1, 1, 16, dtype=torch.uint8),
            "e_scales": torch.zeros(3000, 1, 1, dtype=torch.uint8),
        },
        "3,000 experts",
    ),
}


@pytest.mark.parametrize("case", UNRESOLVED)
def test_what_does_not_fit_is_listed_with_the_reason(tmp_path: Path, case: str) -> None:
    tensors, expected = UNRESOLVED[case]
    path = written(tmp_path, tensors)
    assert expected in reason(path, next(iter(tensors)))
    report = inspect(str(path))
    assert report.layers == ()
    assert len(report.others) == len(tensors)


CONFIGURATIONS = {
    "other bits": (gptq(), {"bits": 8}),
    "another layout": (gptq(), {"checkpoint_format": "marlin"}),
    "another method": (gptq(), {"quant_method": "vptq"}),
    "another kernel": (
        {"qweight": words(64, 4), "qzeros": words(2, 4), "scales": torch.ones(2, 32)},
        {"version": "gemv"},
    ),
}


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_a_configuration_that_contradicts_the_shapes_is_believed_to_no_number(tmp_path: Path, case: str) -> None:
    tensors, settings = CONFIGURATIONS[case]
    path = written(tmp_path, tensors, {"quantization_config": settings})
    assert "the configuration" in reason(path, "qweight")


@pytest.mark.parametrize(
    "config", [{"quantization_config": 7}, {"quantization_config": {"bits": "4"}}, {"text_config": []}]
)
def test_a_configuration_of_other_types_is_passed_over(tmp_path: Path, config: dict[str, Any]) -> None:
    assert list(weights(written(tmp_path, gptq(), config))) == ["qweight"]


@pytest.mark.parametrize(
    "settings", [{"weight_block_size": [0, 128]}, {"weight_block_size": ["a", 1]}, {"weight_block_size": [128]}]
)
def test_blocks_of_no_size_are_passed_over(tmp_path: Path, settings: dict[str, Any]) -> None:
    tensors = {"weight": FLOATS8, "weight_scale_inv": torch.full((1, 1), 2.0)}
    [named] = weights(written(tmp_path, tensors, {"quantization_config": settings})).values()
    assert set(values(named.tensor)) == {2.0}


def test_codes_out_of_order_are_not_decoded(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(10, 6, dtype=torch.int8).t(), "weight_scale": torch.ones(6, 1)}, tmp_path / "m.pt")
    assert "side by side" in reason(tmp_path / "m.pt", "weight")


def test_scales_that_are_shown_repeatedly_are_not_read(tmp_path: Path) -> None:
    torch.save({"weight": CODES8, "weight_scale": torch.ones(1, 1).expand(6, 1)}, tmp_path / "m.pt")
    assert "side by side" in reason(tmp_path / "m.pt", "weight")


def test_scales_in_no_order_are_held_only_as_far_as_the_limit_goes(tmp_path: Path) -> None:
    tensors = gptq(g_idx=torch.randint(0, 2, (64,), dtype=torch.int32))
    path = written(tmp_path, tensors)
    with changed_limits({"companion_bytes": 4 * (2 * 2 * 32 + 64)}):
        assert list(weights(path)) == ["qweight"]
    with changed_limits({"companion_bytes": 4 * (2 * 2 * 32 + 64) - 1}):
        assert "--limit companion_bytes=N" in reason(path, "qweight")


def test_rows_that_can_only_be_decoded_whole_have_a_limit(tmp_path: Path) -> None:
    path = written(tmp_path, gptq())
    with changed_limits({"dequantised_step_bytes": 1000}):
        assert "--limit dequantised_step_bytes=N" in reason(path, "qweight")


def test_scales_in_compressed_storages_have_a_limit_together(tmp_path: Path) -> None:
    torch.save(
        {f"{n}.{k}": v for n in range(9) for k, v in (("weight", CODES8 + n), ("weight_scale", torch.ones(6) + n))},
        tmp_path / "plain.pt",
    )
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for entry in plain.infolist():
            made.writestr(entry.filename, plain.read(entry))
    with changed_limits({"companion_bytes": 100}):
        assert list(weights(tmp_path / "m.pt")) == [f"{n}.weight" for n in range(4)]
        assert "in compressed storages take" in reason(tmp_path / "m.pt", "8.weight")


def test_a_row_without_end_takes_no_more_memory_than_another(tmp_path: Path) -> None:
    size = 40_000_000
    path = written(tmp_path, {"weight": torch.ones(1, size, dtype=torch.int8), "weight_scale": torch.full((1, 1), 3.0)})
    tracemalloc.start()
    try:
        [named] = weights(path).values()
        source = named.tensor.storage.source.reader()
        source.read_into(4 * (size - 1000), memoryview(bytearray(4000)))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_scales_at_the_ends_of_what_floats_hold_are_no_error(tmp_path: Path) -> None:
    scale = torch.tensor([[1e300], [-1e300], [1e-300], [0.0]], dtype=torch.float64)
    tensors = {"weight": torch.full((4, 2), 3, dtype=torch.int8), "weight_scale": scale}
    [named] = weights(written(tmp_path, tensors)).values()
    assert array(named).tolist() == [[np.inf] * 2, [-np.inf] * 2, [0.0] * 2, [0.0] * 2]


def test_an_exponent_of_all_ones_is_no_number(tmp_path: Path) -> None:
    tensors, _ = reference("mxfp4")
    tensors["experts.gate_up_proj_scales"][0, 0, 0] = 255
    [named] = weights(written(tmp_path, tensors)).values()
    assert np.isnan(array(named))[0, 0].tolist() == [True] * 32 + [False] * 64


def test_scales_that_two_weights_name_belong_to_the_first(tmp_path: Path) -> None:
    tensors = {"weight": FLOATS8, "weight_scale": torch.ones(1), "weight_scale_scale": torch.ones(1)}
    assert list(weights(written(tmp_path, tensors))) == ["weight"]


def test_scales_may_lie_in_another_file_than_the_codes(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    save_file({"a.weight": CODES8}, folder / "model-00001-of-00002.safetensors")
    save_file({"a.weight_scale": torch.ones(6)}, folder / "model-00002-of-00002.safetensors")
    places = {"a.weight": "model-00001-of-00002.safetensors", "a.weight_scale": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    [named] = weights(folder).values()
    assert set(values(named.tensor)) == {1.0}


def test_many_weights_of_one_scheme_take_no_long_time(tmp_path: Path) -> None:
    tensors = {f"{n}.{k}": v.clone() for n in range(1_200) for k, v in gptq().items()}
    path = written(tmp_path, tensors)
    with ending_soon(30):
        assert len(weights(path)) == 1_200
