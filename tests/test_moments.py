"""The statistics of a tensor's elements, against exact sums, at every scale and at every edge of the blocks."""

import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from builders import by_name, report_of, stored_tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import weightstats
from weightstats import moments, tensors
from weightstats import workers as workers_of
from weightstats.moments import Moments, measure
from weightstats.readers import open_checkpoint
from weightstats.tensors import BLOCK_ELEMENTS, SECTION_ELEMENTS, Tensor

EDGES = (1, 2, 511, 512, 513, 32767, 32768, 32769, BLOCK_ELEMENTS - 1, BLOCK_ELEMENTS, BLOCK_ELEMENTS + 1)
"""Sizes around a row of sums, the least block that is summed in float32, and a block."""

MEAN_SQUARE_WITHIN = 1e-6
IN_FLOAT64_WITHIN = 1e-9

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the work is shared out among threads only")


def weights(count: int, scale: float, code: str = "f4") -> NDArray[Any]:
    """Normal numbers about 0."""
    return (np.random.default_rng(count).standard_normal(count) * scale).astype(code)


def moments_of(path: Path, data: NDArray[Any], dtype: str = "F32", **options: Any) -> Moments:
    (measured,) = measure([stored_tensor(path / "data", data, dtype)], **options)
    assert isinstance(measured, Moments)
    return measured


def exact(data: NDArray[Any]) -> tuple[float, float, float]:
    """Mean, mean square and excess kurtosis of the finite elements, from exactly rounded sums in float64."""
    wide = data[np.isfinite(data)].astype(np.float64)
    exponent = math.frexp(float(np.max(np.abs(wide))))[1]
    scaled = np.ldexp(wide, -exponent)
    mean = math.fsum(scaled.tolist()) / scaled.size
    away = scaled - mean
    m2, m4 = math.fsum((away**2).tolist()), math.fsum((away**4).tolist())
    mean_square = math.fsum((scaled**2).tolist()) / scaled.size
    kurtosis = scaled.size * m4 / m2**2 - 3 if m2 > 0 else math.nan
    return math.ldexp(mean, exponent), math.ldexp(mean_square, 2 * exponent), kurtosis


def assert_close(measured: Moments, data: NDArray[Any], within: float) -> None:
    mean, mean_square, kurtosis = exact(data)
    assert measured.mean_square == pytest.approx(mean_square, rel=within, abs=0.0)
    assert measured.sum_of_squares == pytest.approx(mean_square * data.size, rel=within, abs=0.0)
    assert measured.mean == pytest.approx(mean, rel=within, abs=within * math.sqrt(mean_square))
    assert measured.max_abs == pytest.approx(float(np.max(np.abs(data))), rel=within, abs=0.0)
    if data.size > 2:
        assert measured.excess_kurtosis + 3 == pytest.approx(kurtosis + 3, rel=1e-6)


def test_four_numbers_by_hand(tmp_path: Path) -> None:
    measured = moments_of(tmp_path, np.array([1, -2, 0, 3], np.float32))
    # mean 1/2, squares 1 + 4 + 0 + 9; about the mean 1/2, -5/2, -1/2, 5/2: squares 13, fourth powers 78 1/4.
    assert measured == Moments(4, 0, 1, 0.5, 3.5, 14.0, 3.0, 4 * 78.25 / 13**2 - 3)


@pytest.mark.parametrize("scale", [1e-30, 1e-11, 1e-3, 1.0, 1e4, 1e11, 1e30])
@pytest.mark.parametrize("count", EDGES)
def test_float32_is_exact_at_every_scale_and_edge(tmp_path: Path, count: int, scale: float) -> None:
    data = weights(count, scale)
    assert_close(moments_of(tmp_path, data), data, MEAN_SQUARE_WITHIN)


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
@pytest.mark.parametrize("count", EDGES)
def test_float64_is_exact_at_every_scale_and_edge(tmp_path: Path, count: int, scale: float) -> None:
    data = weights(count, scale, "f8")
    assert_close(moments_of(tmp_path, data, "F64"), data, IN_FLOAT64_WITHIN)


@pytest.mark.parametrize(
    "count", [SECTION_ELEMENTS - 1, SECTION_ELEMENTS, SECTION_ELEMENTS + 1, 3 * SECTION_ELEMENTS + 7]
)
def test_sums_over_sections_are_those_of_integers(tmp_path: Path, count: int) -> None:
    units = np.random.default_rng(count).integers(-(2**20), 2**20, count)  # sums of squares stay below 2**63
    measured = moments_of(tmp_path, (units / 2**20).astype(np.float32))
    assert measured.elements == count
    assert measured.zeros == count - int(np.count_nonzero(units))
    assert measured.sum_of_squares == pytest.approx(int(np.sum(units**2)) / 2**40, rel=MEAN_SQUARE_WITHIN)
    assert measured.mean == pytest.approx(int(np.sum(units)) / 2**20 / count, abs=1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_narrow_floats_are_as_exact(tmp_path: Path, dtype: torch.dtype) -> None:
    weight = torch.randn(300, 500, generator=torch.Generator().manual_seed(0)).to(dtype)
    row = by_name(report_of(tmp_path, {"fc.weight": weight}, "m.safetensors").layers)["fc.weight"]
    _, mean_square, kurtosis = exact(weight.double().numpy())
    assert row.mean_square == pytest.approx(mean_square, rel=MEAN_SQUARE_WITHIN)
    assert row.excess_kurtosis + 3 == pytest.approx(kurtosis + 3, rel=1e-6)
    assert row.zeros == int((weight.float() == 0).sum())


@pytest.mark.parametrize("count", [100, 32768, BLOCK_ELEMENTS + 512])
def test_nan_and_infinities_are_counted_and_left_out(tmp_path: Path, count: int) -> None:
    data = weights(count, 1.0)
    data[[1, 7, 50]], data[[2, 8]], data[60] = np.nan, np.inf, -np.inf
    measured = moments_of(tmp_path, data)
    assert (measured.elements, measured.nonfinite) == (count, 6)
    assert_close(measured, data[np.isfinite(data)], MEAN_SQUARE_WITHIN)


def test_without_finite_elements_there_is_no_statistic(tmp_path: Path) -> None:
    measured = moments_of(tmp_path, np.array([np.nan, np.inf, -np.inf], np.float32))
    assert (measured.elements, measured.nonfinite, measured.zeros, measured.sum_of_squares) == (3, 3, 0, 0.0)
    assert all(map(math.isnan, (measured.mean, measured.mean_square, measured.max_abs, measured.excess_kurtosis)))


@pytest.mark.parametrize("count", [64, 32768, BLOCK_ELEMENTS])
def test_zeros_of_both_signs_are_counted(tmp_path: Path, count: int) -> None:
    data = weights(count, 1.0)
    data[:5], data[20:30] = 0.0, -0.0
    assert moments_of(tmp_path, data).zeros == 15


def test_numbers_whose_squares_underflow_are_no_zeros(tmp_path: Path) -> None:
    data = weights(32768, 1.0)
    data[:100] = 1e-40
    assert moments_of(tmp_path, data).zeros == 0


def test_all_zeros_have_no_kurtosis(tmp_path: Path) -> None:
    measured = moments_of(tmp_path, np.zeros(40000, np.float32))
    assert (measured.zeros, measured.mean, measured.mean_square, measured.max_abs) == (40000, 0.0, 0.0, 0.0)
    assert math.isnan(measured.excess_kurtosis)


@pytest.mark.parametrize("count", [1, 3, 7, 100, 32768, BLOCK_ELEMENTS + 7, SECTION_ELEMENTS + 7])
@pytest.mark.parametrize("value", [0.1, -1 / 3, 1e-30, 1e30])
def test_equal_float32_elements_have_no_kurtosis(tmp_path: Path, value: float, count: int) -> None:
    measured = moments_of(tmp_path, np.full(count, value, np.float32))
    assert math.isnan(measured.excess_kurtosis)
    assert measured.mean == float(np.float32(value))
    assert measured.mean_square == pytest.approx(float(np.float32(value)) ** 2, rel=1e-15)


@pytest.mark.parametrize("count", [1, 3, 6, 7, 100, 1001, BLOCK_ELEMENTS + 7])
@pytest.mark.parametrize("value", [0.1, -1 / 3, 1e-150, 1e150])
def test_equal_float64_elements_have_no_kurtosis(tmp_path: Path, value: float, count: int) -> None:
    measured = moments_of(tmp_path, np.full(count, value), "F64")
    assert math.isnan(measured.excess_kurtosis)
    assert measured.mean == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("count", [1000, BLOCK_ELEMENTS, BLOCK_ELEMENTS + 512])
def test_a_mean_far_from_zero_costs_no_accuracy(tmp_path: Path, count: int) -> None:
    data = (1000 + weights(count, 1.0, "f8")).astype(np.float32)
    assert_close(moments_of(tmp_path, data), data, IN_FLOAT64_WITHIN)


@pytest.mark.parametrize("offset", [0.3, 0.9, 1.1, 3.0])
def test_a_mean_near_the_spread_costs_no_accuracy(tmp_path: Path, offset: float) -> None:
    data = (offset + weights(BLOCK_ELEMENTS, 1.0, "f8")).astype(np.float32)
    assert_close(moments_of(tmp_path, data), data, MEAN_SQUARE_WITHIN)


@pytest.mark.parametrize("largest", [50.0, 9000.0, 1e6, 1e30])
def test_heavy_tails_are_exact(tmp_path: Path, largest: float) -> None:
    data = np.random.default_rng(0).standard_t(3, BLOCK_ELEMENTS).clip(-40, 40).astype(np.float32) / 1000
    data[[17, 40000]] = largest, -largest / 3
    assert_close(moments_of(tmp_path, data), data, MEAN_SQUARE_WITHIN)


def test_blocks_of_different_scales_are_put_together_exactly(tmp_path: Path) -> None:
    parts = [weights(BLOCK_ELEMENTS, scale) for scale in (1.0, 1e-20, 1e4, 1e-3)]
    data = np.concatenate(parts)
    assert_close(moments_of(tmp_path, data), data, MEAN_SQUARE_WITHIN)


def test_skewed_blocks_about_different_means_are_put_together_exactly(tmp_path: Path) -> None:
    skewed = np.random.default_rng(0).exponential(1.0, BLOCK_ELEMENTS) - 0.8
    data = np.concatenate([skewed, 5.0 - skewed[:1000] ** 2]).astype(np.float32)
    assert_close(moments_of(tmp_path, data), data, MEAN_SQUARE_WITHIN)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_a_block_of_zeros_beside_an_extreme_one_loses_nothing(tmp_path: Path, scale: float) -> None:
    data = np.concatenate([np.zeros(BLOCK_ELEMENTS, np.float32), weights(BLOCK_ELEMENTS, scale)])
    assert_close(moments_of(tmp_path, data), data, IN_FLOAT64_WITHIN)


def test_a_block_of_zeros_beside_the_least_float64_numbers_loses_nothing(tmp_path: Path) -> None:
    data = np.concatenate([np.zeros(BLOCK_ELEMENTS), weights(BLOCK_ELEMENTS, 1e-150, "f8")])
    assert_close(moments_of(tmp_path, data, "F64"), data, IN_FLOAT64_WITHIN)


@pytest.mark.parametrize("value", [1e-300, 5e-324, 1e300, 1.7e308])
def test_squares_beyond_float64_become_0_or_infinite_without_an_error(tmp_path: Path, value: float) -> None:
    measured = moments_of(tmp_path, np.array([value, -value]), "F64")
    assert measured.mean_square == (0.0 if value < 1 else math.inf)
    assert (measured.max_abs, measured.zeros, measured.excess_kurtosis) == (value, 0, -2.0)


@pytest.mark.parametrize("count", [100, BLOCK_ELEMENTS])
def test_max_abs_is_an_element(tmp_path: Path, count: int) -> None:
    data = weights(count, 0.1)
    assert moments_of(tmp_path, data).max_abs == float(np.max(np.abs(data)))


@pytest.mark.parametrize(
    ("dtype", "code", "values"),
    [
        ("I64", "i8", [3, -(2**62), 0]),
        ("I32", "i4", [3, -(2**31), 0]),
        ("I8", "i1", [3, -128, 0]),
        ("U8", "u1", [3, 255, 0]),
        ("BOOL", "u1", [1, 1, 0]),
    ],
)
def test_integers_are_measured_as_numbers(tmp_path: Path, dtype: str, code: str, values: list[int]) -> None:
    measured = moments_of(tmp_path, np.array(values, code), dtype)
    assert measured.mean_square == pytest.approx(float(Fraction(sum(value**2 for value in values), 3)), rel=1e-15)
    assert (measured.max_abs, measured.zeros, measured.nonfinite) == (max(map(abs, values)), 1, 0)


@pytest.mark.parametrize(("dtype", "code"), [("C64", "c8"), ("C128", "c16")])
def test_complex_numbers_are_measured_by_their_magnitudes(tmp_path: Path, dtype: str, code: str) -> None:
    measured = moments_of(tmp_path, np.array([3 + 4j, 0, -5j, complex(1, math.nan)], code), dtype)
    assert (measured.elements, measured.nonfinite, measured.zeros) == (4, 1, 1)
    assert (measured.max_abs, measured.mean, measured.mean_square) == pytest.approx((5.0, 10 / 3, 50 / 3), rel=1e-7)


def test_an_expanded_view_counts_each_element_as_often_as_it_shows_it(tmp_path: Path) -> None:
    column = torch.tensor([[1.0], [-2.0], [0.0], [math.nan]])
    row = by_name(report_of(tmp_path, {"fc.weight": column.expand(4, 1000)}).layers)["fc.weight"]
    assert (row.elements, row.zeros, row.nonfinite) == (4000, 1000, 1000)
    assert (row.mean, row.mean_square, row.sum_of_squares) == pytest.approx((-1 / 3, 5 / 3, 5000.0))
    assert row.excess_kurtosis == pytest.approx(-1.5)  # three distinct values, whatever the number of copies


def test_an_expanded_view_costs_what_is_stored(tmp_path: Path) -> None:
    read: list[int] = []
    weight = torch.ones(1, 1).expand(1 << 30, 1 << 20)
    row = report_of(tmp_path, {"fc.weight": weight}, progress=lambda done, total: read.append(total)).layers[0]
    assert row.elements == 1 << 50
    assert max(read) == 4


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t,
        lambda t: t.T,
        lambda t: t[::2, 1::3],
        lambda t: t[:, 5:6],
        lambda t: t.unflatten(0, (20, 5)).permute(2, 0, 1),
        lambda t: t[3:7],
        lambda t: t.diagonal().unsqueeze(1).expand(60, 3),
    ],
)
def test_a_view_of_a_larger_storage_is_measured_alone(tmp_path: Path, view: Any) -> None:
    weight = view(torch.randn(100, 120, generator=torch.Generator().manual_seed(0))[:, :60])
    row = report_of(tmp_path, {"fc.weight": weight}).layers[0]
    assert row.elements == weight.numel()
    assert row.mean_square == pytest.approx(float(weight.double().square().mean()), rel=1e-9)
    assert row.mean == pytest.approx(float(weight.double().mean()), abs=1e-9)


def test_without_tensors_there_is_nothing_to_measure() -> None:
    assert measure([]) == []


def test_a_tensor_without_elements_is_measured_without_reading(tmp_path: Path) -> None:
    measured = moments_of(tmp_path, np.zeros((0, 4), np.float32))
    assert (measured.elements, measured.nonfinite, measured.zeros, measured.sum_of_squares) == (0, 0, 0, 0.0)


# Sharing the work out.


@pytest.fixture
def shared_out(monkeypatch: pytest.MonkeyPatch) -> list[Executor]:
    """Small data is shared out too; gives the pools that did it."""
    pools: list[Executor] = []
    real = workers_of.pool

    def pool(*arguments: Any) -> Executor:
        pools.append(real(*arguments))
        return pools[-1]

    monkeypatch.setattr(workers_of, "WORTH_SHARING", 0)
    monkeypatch.setattr(workers_of, "pool", pool)
    monkeypatch.setattr(tensors, "SECTION_ELEMENTS", 1 << 15)
    return pools


@pytest.fixture
def many_tensors(tmp_path: Path) -> list[Tensor]:
    hurt = weights(70001, 1e-3)
    hurt[::1000] = np.nan
    return [
        stored_tensor(tmp_path / "a", weights(200_000, 1.0)),
        stored_tensor(tmp_path / "b", weights(7, 1e30)),
        stored_tensor(tmp_path / "c", hurt),
        stored_tensor(tmp_path / "d", weights(100_000, 1e-150, "f8"), "F64"),
    ]


@pytest.fixture
def another_thread() -> Any:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    yield thread
    stop.set()
    thread.join()


@linux_only
@pytest.mark.parametrize("workers", [2, 3])
def test_processes_find_what_one_worker_finds(
    many_tensors: list[Tensor], shared_out: list[Executor], workers: int
) -> None:
    alone = measure(many_tensors, workers=1)
    assert shared_out == []
    assert measure(many_tensors, workers=workers) == alone
    assert not isinstance(shared_out[0], ThreadPoolExecutor)


@pytest.mark.usefixtures("another_thread")
@pytest.mark.parametrize("workers", [2, 3])
def test_threads_find_what_one_worker_finds(
    many_tensors: list[Tensor], shared_out: list[Executor], workers: int
) -> None:
    alone = measure(many_tensors, workers=1)
    assert measure(many_tensors, workers=workers) == alone
    assert [type(pool) for pool in shared_out] == [ThreadPoolExecutor]


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_is_told_in_this_thread_of_every_byte(
    many_tensors: list[Tensor], shared_out: list[Executor], workers: int
) -> None:
    told: list[tuple[int, int]] = []
    measure(many_tensors, workers=workers, progress=lambda done: told.append((threading.get_ident(), done)))
    assert {thread for thread, _ in told} == {threading.get_ident()}
    assert sum(done for _, done in told) == sum(tensor.stored_bytes for tensor in many_tensors)


def interrupt(done: int) -> None:
    raise KeyboardInterrupt


@linux_only
def test_an_interruption_leaves_no_process_behind(many_tensors: list[Tensor], shared_out: list[Executor]) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure(many_tensors, workers=2, progress=interrupt)
    assert not isinstance(shared_out[0], ThreadPoolExecutor)
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("another_thread")
def test_an_interruption_leaves_no_thread_behind(many_tensors: list[Tensor], shared_out: list[Executor]) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure(many_tensors, workers=2, progress=interrupt)
    assert isinstance(shared_out[0], ThreadPoolExecutor)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("weightstats")]


@pytest.mark.usefixtures("another_thread", "shared_out")
def test_an_interruption_drops_the_work_that_waits(many_tensors: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "SECTION_ELEMENTS", 1000)
    real, begun = moments._section_sums, []

    def slow(*arguments: Any) -> Any:
        begun.append(arguments)
        time.sleep(0.001)
        return real(*arguments)

    monkeypatch.setattr(moments, "_section_sums", slow)
    with pytest.raises(KeyboardInterrupt):
        measure(many_tensors, workers=2, progress=interrupt)
    assert len(begun) < sum(len(tensor.sections()) for tensor in many_tensors) / 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_cut_after_opening_costs_only_the_tensors_behind_the_cut(
    tmp_path: Path, shared_out: list[Executor], workers: int
) -> None:
    path = tmp_path / "cut.safetensors"
    safetensors.torch.save_file({"a.weight": torch.ones(10, 10), "b.weight": torch.ones(300, 300)}, path)
    found = open_checkpoint(str(path)).tensors
    os.truncate(path, path.stat().st_size - 4)
    first, second = measure(found, workers=workers)
    assert isinstance(first, Moments)
    assert first.sum_of_squares == 100.0
    assert isinstance(second, str)
    assert "before the data that it promises" in second


def test_a_tensor_that_cannot_be_read_is_unread_and_the_others_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    safetensors.torch.save_file({"a.weight": torch.ones(10, 10), "b.weight": torch.ones(20, 20)}, path)

    def cut(done: int, total: int) -> None:
        os.truncate(path, path.stat().st_size - (4 if done == 0 else 0))

    report = weightstats.inspect(str(path), progress=cut)
    assert [row.name for row in report.layers] == ["a.weight"]
    assert [row.name for row in report.unread] == ["b.weight"]
    assert (report.checkpoint.tensors, report.accounting.stored.tensors, report.accounting.unread.tensors) == (2, 2, 1)


# Properties.

any_float32 = st.floats(width=32)
arrays = st.lists(any_float32, min_size=1, max_size=200).map(lambda values: np.array(values, np.float32))


@settings(deadline=None, max_examples=150)
@given(data=arrays)
def test_any_float32_array_is_measured_exactly(tmp_path_factory: pytest.TempPathFactory, data: NDArray[Any]) -> None:
    measured = moments_of(tmp_path_factory.getbasetemp(), data)
    finite = data[np.isfinite(data)]
    assert (measured.elements, measured.nonfinite) == (data.size, data.size - finite.size)
    assert measured.zeros == finite.size - np.count_nonzero(finite)
    if np.any(finite != 0):
        _, mean_square, _ = exact(finite)
        assert measured.mean_square == pytest.approx(mean_square, rel=1e-12, abs=0.0)
        assert measured.max_abs == float(np.max(np.abs(finite)))


@settings(deadline=None, max_examples=150)
@given(data=arrays, cuts=st.lists(st.integers(0, 200), max_size=6))
def test_the_parts_of_an_array_put_together_are_the_whole(data: NDArray[Any], cuts: list[int]) -> None:
    whole = moments._careful_sums(data)
    parts = np.split(data, sorted(min(cut, data.size) for cut in cuts))
    together = moments._NONE
    for part in parts:
        together = moments._merged(together, moments._careful_sums(part))
    assert_same_sums(together, whole)


@settings(deadline=None, max_examples=100)
@given(data=arrays, block=st.integers(1, 64), blocks=st.integers(1, 4))
def test_the_sizes_of_blocks_and_sections_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, data: NDArray[Any], block: int, blocks: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    whole = moments_of(folder, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "BLOCK_ELEMENTS", block)
        patch.setattr(tensors, "SECTION_ELEMENTS", block * blocks)
        pieces = moments_of(folder, data)
    assert (pieces.nonfinite, pieces.zeros) == (whole.nonfinite, whole.zeros)
    assert pieces.max_abs == pytest.approx(whole.max_abs, nan_ok=True, rel=0.0, abs=0.0)
    assert pieces.mean_square == pytest.approx(whole.mean_square, nan_ok=True, rel=1e-12, abs=0.0)


def assert_same_sums(found: moments._Sums, expected: moments._Sums) -> None:
    """Equal counts, and power sums that differ by no more than rounding."""
    assert (found.count, found.nonfinite, found.zeros) == (expected.count, expected.nonfinite, expected.zeros)
    assert found.max_abs == expected.max_abs
    if expected.count and expected.max_abs > 0:
        found = moments._rescaled(found, expected.exponent)
        for a, b in zip(powers(found), powers(expected), strict=True):
            assert a == pytest.approx(b, rel=1e-9, abs=1e-11 * expected.count)
        assert found.mean == pytest.approx(expected.mean, rel=1e-12, abs=1e-14)


def powers(sums: moments._Sums) -> Sequence[float]:
    return sums.m2, sums.m3, sums.m4
