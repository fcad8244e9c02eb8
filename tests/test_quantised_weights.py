"""Quantised weights are measured as what they stand for: as their libraries decode them, in any file and any order."""

import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import values
from quantised import array, cases, found, reason, reference, weights, written

from weightstats import inspect
from weightstats.moments import measure
from weightstats.tensors import Buffers

GENERATOR = torch.Generator().manual_seed(5)

E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])

DTYPES = {
    "awq": "AWQ-4bit",
    "bnb_int8": "INT8 (bitsandbytes)",
    "fp4": "FP4",
    "fp8_inverse": "F8_E4M3 scaled",
    "gptq3": "GPTQ-3bit",
    "int8_channel": "INT8 scaled",
    "mxfp4": "MXFP4",
    "nf4_nested": "NF4",
    "nvfp4": "NVFP4",
    "pack4": "INT4 packed",
}


def words(*shape: int) -> torch.Tensor:
    """Random bits."""
    return torch.randint(-(2**31), 2**31 - 1, shape, generator=GENERATOR, dtype=torch.int64).to(torch.int32)


def gptq(inputs: int, outputs: int, size: int) -> dict[str, torch.Tensor]:
    groups = inputs // size
    return {
        "q.qweight": words(inputs // 8, outputs),
        "q.qzeros": words(groups, outputs // 8),
        "q.scales": torch.rand(groups, outputs, generator=GENERATOR).half(),
    }


def gptq_by_hand(tensors: dict[str, torch.Tensor], groups: list[int], more: int) -> np.ndarray:
    """Element by element: (code - zero) * scale, the codes of eight inputs in each word, the lowest bits first."""
    codes, zeros = tensors["q.qweight"].numpy().view(np.uint32), tensors["q.qzeros"].numpy().view(np.uint32)
    scales = tensors["q.scales"].double().numpy()
    made = np.empty((8 * codes.shape[0], codes.shape[1]))
    for i in range(made.shape[0]):
        for o in range(made.shape[1]):
            code = (int(codes[i // 8, o]) >> (4 * (i % 8))) % 16
            zero = ((int(zeros[groups[i], o // 8]) >> (4 * (o % 8))) + more) % 16
            made[i, o] = (code - zero) * scales[groups[i], o]
    return made


@pytest.mark.parametrize("case", cases())
def test_codes_become_what_their_own_library_makes_of_them(tmp_path: Path, case: str) -> None:
    tensors, expected = reference(case)
    [named] = weights(written(tmp_path, tensors)).values()
    tolerance = 3e-5 if case == "nvfp4" else 3e-7  # NVFP4: the library rounds the scales once more
    np.testing.assert_allclose(array(named), expected, rtol=tolerance, atol=0)
    assert (
        named.tensor.stored_bytes
        >= sum(t.numel() * t.element_size() for n, t in tensors.items() if "shape" not in n) - 200
    )


@pytest.mark.parametrize("case", DTYPES)
def test_the_dtype_tells_the_scheme(tmp_path: Path, case: str) -> None:
    [named] = weights(written(tmp_path, reference(case)[0])).values()
    assert named.tensor.dtype.name == DTYPES[case]


@pytest.mark.parametrize("case", cases())
def test_scales_and_tables_are_others_and_no_parameters(tmp_path: Path, case: str) -> None:
    tensors, expected = reference(case)
    report = inspect(str(written(tmp_path, {f"m.{name}": tensor for name, tensor in tensors.items()})))
    assert {row.kind for row in report.others} == {"quantisation"}
    assert len(report.others) == len(tensors) - 1
    assert report.checkpoint.parameters == expected.size
    assert sum(row.elements for row in report.layers) == expected.size
    assert report.accounting.stored.bytes == sum(t.numel() * t.element_size() for t in tensors.values())


def test_the_name_is_that_of_the_codes_and_the_fans_are_the_weights(tmp_path: Path) -> None:
    tensors, _ = reference("awq")
    [layer] = inspect(str(written(tmp_path, {f"q_proj.{name}": tensor for name, tensor in tensors.items()}))).layers
    assert (layer.name, layer.shape, layer.n_in, layer.n_out) == ("q_proj.qweight", (64, 24), 64, 24)
    assert layer.fans_from == "name"


@pytest.mark.parametrize(("layout", "more"), [(None, 1), ("gptq", 1), ("gptq_v2", 0)])
def test_zero_points_are_stored_less_one_in_the_first_layout_only(
    tmp_path: Path, layout: str | None, more: int
) -> None:
    tensors = gptq(32, 16, 16)
    config = None if layout is None else {"quantization_config": {"bits": 4, "checkpoint_format": layout}}
    [named] = weights(written(tmp_path, tensors, config)).values()
    expected = gptq_by_hand(tensors, [i // 16 for i in range(32)], more)
    np.testing.assert_allclose(array(named), expected, rtol=1e-6)


def test_inputs_of_gptq_are_in_the_groups_that_they_are_said_to_be(tmp_path: Path) -> None:
    groups = torch.randint(0, 4, (64,), generator=GENERATOR, dtype=torch.int32)
    tensors = {**gptq(64, 8, 16), "q.g_idx": groups}
    [named] = weights(written(tmp_path, tensors)).values()
    np.testing.assert_allclose(array(named), gptq_by_hand(tensors, groups.tolist(), 1), rtol=1e-6)


def test_a_group_that_is_not_there_gives_no_numbers(tmp_path: Path) -> None:
    groups = torch.zeros(64, dtype=torch.int32)
    groups[5], groups[6] = 4, -1
    [named] = weights(written(tmp_path, {**gptq(64, 8, 16), "q.g_idx": groups})).values()
    assert np.isnan(array(named)).sum(axis=1).tolist() == [8 if i in (5, 6) else 0 for i in range(64)]


def test_inputs_of_packed_integers_are_in_the_groups_that_they_are_said_to_be(tmp_path: Path) -> None:
    groups = torch.randint(0, 2, (32,), generator=GENERATOR, dtype=torch.int32)
    packed, scale = words(3, 4), torch.rand(3, 2, generator=GENERATOR)
    tensors = {"q.weight_packed": packed, "q.weight_scale": scale, "q.weight_shape": torch.tensor([3, 32])}
    [named] = weights(written(tmp_path, {**tensors, "q.weight_g_idx": groups})).values()
    codes = (packed.numpy().view(np.uint32)[:, :, None] >> (4 * np.arange(8))).reshape(3, 32) % 16 - 8.0
    np.testing.assert_allclose(array(named), codes * scale.numpy()[:, groups.numpy()], rtol=1e-6)


def test_experts_and_their_gates_are_parts(tmp_path: Path) -> None:
    tensors, expected = reference("mxfp4")
    layers = {row.name: row for row in inspect(str(written(tmp_path, tensors))).layers}
    assert list(layers) == [f"experts.gate_up_proj_blocks[{e},{part}]" for e in (0, 1) for part in ("gate", "up")]
    up = layers["experts.gate_up_proj_blocks[1,up]"]
    assert (up.n_in, up.n_out) == (96, 3)
    assert up.mean_square == pytest.approx(np.mean(expected[1, 1::2] ** 2), rel=1e-6)


def test_the_other_matrix_of_the_experts_is_one_part_each(tmp_path: Path) -> None:
    tensors, expected = reference("mxfp4")
    renamed = {name.replace("gate_up_proj_", "mlp2_weight."): tensor for name, tensor in tensors.items()}
    layers = inspect(str(written(tmp_path, renamed))).layers
    assert [row.name for row in layers] == ["experts.mlp2_weight.blocks[0]", "experts.mlp2_weight.blocks[1]"]
    assert layers[1].mean_square == pytest.approx(np.mean(expected[1] ** 2), rel=1e-6)


@pytest.mark.parametrize("beside", ["scale", "scale_weight", "qscale_weight", "weight_scale"])
def test_one_scale_beside_the_weight_multiplies_all_of_it(tmp_path: Path, beside: str) -> None:
    codes = torch.randn(5, 7, generator=GENERATOR).to(torch.float8_e5m2)
    [named] = weights(written(tmp_path, {"a.weight": codes, f"a.{beside}": torch.tensor(0.25)})).values()
    np.testing.assert_array_equal(array(named), codes.double().numpy() * 0.25)


def test_eight_bit_floats_without_a_scale_are_what_they_are(tmp_path: Path) -> None:
    assert weights(written(tmp_path, {"a.weight": torch.ones(3, 3).to(torch.float8_e4m3fn)})) == {}


def test_a_second_scale_multiplies_and_a_divisor_divides(tmp_path: Path) -> None:
    codes = torch.randint(0, 256, (4, 16), generator=GENERATOR).to(torch.uint8)
    scale = torch.rand(4, 2, generator=GENERATOR).to(torch.float8_e4m3fn)
    halves = torch.stack((E2M1[(codes & 15).long()], E2M1[(codes >> 4).long()]), -1).reshape(4, 2, 16)
    expected = (halves.double() * scale.double()[:, :, None]).reshape(4, 32).numpy()
    for name, factor in (("weight_scale_2", 8.0), ("weight_global_scale", 1 / 8)):
        carrier = "weight" if name == "weight_scale_2" else "weight_packed"
        tensors = {f"a.{carrier}": codes, "a.weight_scale": scale, f"a.{name}": torch.tensor([8.0])}
        [named] = weights(written(tmp_path, tensors)).values()
        np.testing.assert_allclose(array(named), expected * factor, rtol=1e-6)


def test_blocks_at_the_edge_may_be_cut(tmp_path: Path) -> None:
    codes = torch.randn(300, 130, generator=GENERATOR).to(torch.float8_e4m3fn)
    scale = torch.rand(3, 2, generator=GENERATOR)
    [named] = weights(written(tmp_path, {"a.weight": codes, "a.weight_scale_inv": scale})).values()
    spread = scale.repeat_interleave(128, 0)[:300].repeat_interleave(128, 1)[:, :130]
    np.testing.assert_allclose(array(named), (codes.double() * spread.double()).numpy(), rtol=1e-6)


def test_blocks_are_of_the_size_that_the_configuration_says(tmp_path: Path) -> None:
    codes = torch.randn(100, 40, generator=GENERATOR).to(torch.float8_e4m3fn)
    scale = torch.rand(4, 2, generator=GENERATOR)
    config = {"quantization_config": {"weight_block_size": [30, 24]}}
    [named] = weights(written(tmp_path, {"a.weight": codes, "a.weight_scale_inv": scale}, config)).values()
    spread = scale.repeat_interleave(30, 0)[:100].repeat_interleave(24, 1)[:, :40]
    np.testing.assert_allclose(array(named), (codes.double() * spread.double()).numpy(), rtol=1e-6)


def test_experts_in_a_stack_have_blocks_each(tmp_path: Path) -> None:
    codes = torch.randn(3, 256, 128, generator=GENERATOR).to(torch.float8_e4m3fn)
    scale = torch.rand(3, 2, 1, generator=GENERATOR)
    tensors = {"experts.down_proj": codes, "experts.down_proj_scale_inv": scale}
    [named] = weights(written(tmp_path, tensors)).values()
    expected = codes.double() * scale.repeat_interleave(128, 1).double()
    np.testing.assert_allclose(array(named), expected.numpy(), rtol=1e-6)


def test_scales_that_are_no_numbers_make_elements_that_are_counted(tmp_path: Path) -> None:
    scale = torch.tensor([[1.0], [torch.nan], [torch.inf]])
    tensors = {"a.weight": torch.ones(3, 8, dtype=torch.int8), "a.weight_scale": scale}
    [layer] = inspect(str(written(tmp_path, tensors))).layers
    assert (layer.nonfinite, layer.elements, layer.mean_square) == (16, 24, 1.0)


def large(outputs: int = 70_000) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """Codes whose rows are longer than a step of reading, in several sections."""
    tensors = gptq(64, outputs, 16)
    codes = (tensors["q.qweight"].numpy().view(np.uint32)[:, None] >> (4 * np.arange(8))[:, None]).reshape(64, -1) % 16
    zeros = (tensors["q.qzeros"].numpy().view(np.uint32)[:, :, None] >> (4 * np.arange(8))).reshape(4, -1)
    zeros = (zeros + 1) % 16
    scales = tensors["q.scales"].double().numpy()
    return tensors, ((codes - zeros.repeat(16, 0).astype(float)) * scales.repeat(16, 0))


def test_sections_are_decoded_by_any_thread(tmp_path: Path) -> None:
    tensors, expected = large()
    [named] = weights(written(tmp_path, tensors)).values()
    sections = named.tensor.sections()
    assert len(sections) > 2

    def read(index: int) -> np.ndarray:
        return np.concatenate([block.astype(np.float64) for block in sections[index].blocks(Buffers())])

    with ThreadPoolExecutor(3) as pool:
        parts = list(pool.map(read, reversed(range(len(sections)))))
    np.testing.assert_allclose(np.concatenate(parts[::-1]), expected.reshape(-1), rtol=1e-6)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_measured_does_not_depend_on_the_workers(tmp_path: Path, workers: int) -> None:
    tensors, expected = large(210_000)
    [named] = weights(written(tmp_path, tensors)).values()
    [moments] = measure([named.tensor], workers=workers)
    assert not isinstance(moments, str)
    assert moments.mean_square == pytest.approx(np.mean(expected**2), rel=1e-6)


def test_compressed_storages_are_read_forwards(tmp_path: Path) -> None:
    tensors, expected = large()
    torch.save(tensors, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for entry in plain.infolist():
            made.writestr(entry.filename, plain.read(entry))
    [named] = weights(tmp_path / "m.pt").values()
    assert named.tensor.storage.source.sequential
    np.testing.assert_allclose(array(named), expected, rtol=1e-6)


def test_a_part_of_a_decoded_weight_is_read_alone(tmp_path: Path) -> None:
    tensors, expected = large()
    [named] = weights(written(tmp_path, tensors)).values()
    buffer = bytearray(4 * 3)
    named.tensor.storage.source.reader().read_into(4 * (70_000 * 9 + 69_999), memoryview(buffer))
    np.testing.assert_allclose(np.frombuffer(buffer, "<f4"), expected.reshape(-1)[70_000 * 9 + 69_999 :][:3], rtol=1e-6)


OTHER_SCHEMES = {
    "HQQ": {"W_q": torch.uint8, "scale": torch.float16, "zero": torch.float16},
    "AQLM": {"codes": torch.int16, "codebooks": torch.float16, "scales": torch.float16},
    "ExLlamaV2": {"q_weight": torch.int32, "q_scale": torch.int32, "q_scale_max": torch.float16},
    "ExLlamaV3": {"trellis": torch.int16, "suh": torch.float16, "svh": torch.float16},
    "optimum-quanto": {"weight._data": torch.uint8, "weight._scale": torch.float16, "weight._shift": torch.float16},
    "torchao": {"weight_qdata": torch.int8, "weight_scale": torch.float16},
    "EETQ": {"weight": torch.int8, "weight_scales": torch.float16},
    "BitNet": {"weight": torch.uint8, "weight_scale": torch.float16},
    "one whose scales stand alone": {"qweight": torch.int32, "scales": torch.float16},
    "one of words": {"weight": torch.uint32, "scales": torch.float16, "biases": torch.float16},
}


@pytest.mark.parametrize("scheme", OTHER_SCHEMES)
def test_schemes_that_are_not_decoded_are_named_and_nothing_of_them_is_measured(tmp_path: Path, scheme: str) -> None:
    tensors = {f"layer.{leaf}": torch.zeros(8, 8, dtype=dtype) for leaf, dtype in OTHER_SCHEMES[scheme].items()}
    path = written(tmp_path, tensors)
    assert scheme in reason(path, next(iter(tensors)))
    report = inspect(str(path))
    assert report.layers == ()
    assert {row.kind for row in report.others} == {"packed integers", "quantisation"}


def test_eight_bits_of_quanto_are_decoded(tmp_path: Path) -> None:
    codes = torch.randint(-127, 128, (4, 6), generator=GENERATOR).to(torch.int8)
    scale = torch.rand(4, 1, generator=GENERATOR)
    [named] = weights(written(tmp_path, {"a.weight._data": codes, "a.weight._scale": scale})).values()
    assert named.known_as == "a.weight"
    np.testing.assert_allclose(array(named), (codes.double() * scale.double()).numpy(), rtol=1e-6)


def test_scales_of_the_activations_are_no_part_of_the_weight(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.ones(4, 4).to(torch.float8_e4m3fn), "a.weight_scale": torch.tensor(2.0)}
    network = found(written(tmp_path, {**tensors, "a.input_scale": torch.tensor(7.0)}))
    use = network["a.input_scale"].tensor.use
    assert use is not None
    assert (use.kind, use.because) == ("quantisation", "scale of the activations at a quantised weight")
    assert set(values(network["a.weight"].tensor)) == {2.0}
