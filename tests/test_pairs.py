"""Sums over the elements of two tensors: closed forms, numpy on the whole arrays, every order of storage."""

import math
import zipfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from builders import stored_tensor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from makers import values
from numpy.typing import NDArray
from quantised import cases, found, reference, written

from weightstats import alignment, pairs, workers
from weightstats.alignment import Alignment, align
from weightstats.pairs import COMPLEX, NOTHING, Pair, PairMoments, Scaled, measure_pairs, together
from weightstats.pieces import Box, Held, put_together
from weightstats.readers import open_checkpoint
from weightstats.tensors import Slice, Storage, Tensor, make_tensor, part_of

RNG = np.random.default_rng(0)


def pair(before: Tensor, after: Tensor, order: Sequence[int] | None = None) -> Pair:
    return Pair(before, after, tuple(range(len(after.shape)) if order is None else order))


def measured(before: Tensor, after: Tensor, order: Sequence[int] | None = None) -> PairMoments:
    (result,) = measure_pairs([pair(before, after, order)], workers=1)
    assert isinstance(result, PairMoments), result
    return result


def reason(before: Tensor, after: Tensor, order: Sequence[int] | None = None) -> str:
    (result,) = measure_pairs([pair(before, after, order)], workers=1)
    assert isinstance(result, str)
    return result


def held(array: NDArray[Any], dtype: str = "F32", strides: tuple[int, ...] | None = None, offset: int = 0) -> Tensor:
    """A tensor over the bytes of an array in memory."""
    content = np.ascontiguousarray(array).tobytes()
    storage = Storage(Held("here", content), 0, len(content))
    return make_tensor(("weight",), array.shape, dtype, storage, offset, strides)


def normal(*shape: int) -> NDArray[np.float32]:
    return RNG.standard_normal(shape).astype(np.float32)


def assert_is(result: PairMoments, before: NDArray[Any], after: NDArray[Any], rel: float = 1e-6) -> None:
    """The sums are numpy's over the whole arrays in float64."""
    a, b = before.astype(np.float64).reshape(-1), after.astype(np.float64).reshape(-1)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    assert (result.elements, result.paired) == (both.size, int(both.sum()))
    assert float(result.before) == pytest.approx(float(a @ a), rel=rel)
    assert float(result.after) == pytest.approx(float(b @ b), rel=rel)
    assert float(result.product) == pytest.approx(float(a @ b), rel=rel, abs=rel * float(np.abs(a) @ np.abs(b)))
    assert float(result.distance) == pytest.approx(float((b - a) @ (b - a)), rel=rel)


# Known answers.


def test_the_sums_of_a_pair_of_small_integers() -> None:
    result = measured(held(np.array([1, 2, -3], np.float32)), held(np.array([4, 0, -1], np.float32)))
    assert [float(sum_) for sum_ in (result.before, result.after, result.product, result.distance)] == [14, 17, 7, 17]
    assert result.relative_change == pytest.approx(math.sqrt(17 / 14), rel=1e-15)
    assert result.cosine == pytest.approx(7 / math.sqrt(14 * 17), rel=1e-15)
    assert result.norm_ratio == pytest.approx(math.sqrt(17 / 14), rel=1e-15)


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_twice_the_weights_is_a_change_of_1_in_the_same_direction(dtype: str) -> None:
    before = RNG.standard_normal((300, 701)).astype(dtype)
    result = measured(held(before, f"F{8 * before.itemsize}"), held(2 * before, f"F{8 * before.itemsize}"))
    assert (result.relative_change, result.cosine, result.norm_ratio) == (1.0, 1.0, 2.0)


def test_the_opposite_weights_are_a_change_of_2_in_the_opposite_direction() -> None:
    before = normal(200, 301)
    result = measured(held(before), held(-before))
    assert (result.relative_change, result.cosine) == (2.0, -1.0)


@pytest.mark.parametrize("elements", [1, 511, 4096, 70_001])
def test_the_same_bytes_are_no_change_at_all(elements: int) -> None:
    weights = normal(elements)
    result = measured(held(weights), held(weights))
    assert (result.relative_change, result.cosine, result.is_unchanged) == (0.0, 1.0, True)


@pytest.mark.parametrize("scale", [1.0, 1e-19])
def test_one_changed_element_of_many_is_a_change(scale: float) -> None:
    before = normal(80_000)
    after = before.copy()
    after[70_000] = before[70_000] + np.float32(1e-3 * scale)
    before[70_000] = 0.0
    after[70_000] = 1e-3 * scale
    result = measured(held(before), held(after))
    assert not result.is_unchanged
    assert result.relative_change == pytest.approx(1e-3 * scale / float(np.linalg.norm(before.astype("f8"))), rel=1e-6)


def test_right_angles_have_the_cosine_0() -> None:
    result = measured(held(np.array([3, 0], np.float32)), held(np.array([0, 4], np.float32)))
    assert (result.cosine, result.relative_change) == (0.0, 5 / 3)


def test_zero_weights_before_have_no_relative_change() -> None:
    result = measured(held(np.zeros(9000, np.float32)), held(normal(9000)))
    assert math.isnan(result.relative_change)
    assert math.isnan(result.cosine)
    assert math.isnan(result.norm_ratio)
    assert not result.is_unchanged


def test_zero_weights_after_are_a_change_of_1_without_a_direction() -> None:
    result = measured(held(normal(9000)), held(np.zeros(9000, np.float32)))
    assert result.relative_change == pytest.approx(1.0, rel=1e-12)
    assert math.isnan(result.cosine)


def test_elements_count_where_they_are_finite_in_both() -> None:
    before, after = normal(90_000), normal(90_000)
    before[::100], after[50::100], before[7] = np.nan, np.inf, -np.inf
    assert_is(measured(held(before), held(after)), before, after)


def test_nothing_finite_gives_nan_and_no_error() -> None:
    result = measured(held(np.full(5000, np.nan, np.float32)), held(normal(5000)))
    assert (result.elements, result.paired, result.is_unchanged) == (5000, 0, False)
    assert math.isnan(result.relative_change)
    assert math.isnan(result.cosine)


def test_tensors_without_elements_are_paired_without_reading() -> None:
    assert measured(held(np.zeros((0, 3), np.float32)), held(np.zeros((0, 3), np.float32))) == NOTHING


def test_complex_weights_are_not_paired() -> None:
    weights = normal(8).astype(np.complex64)
    assert reason(held(weights, "C64"), held(weights, "C64")) == COMPLEX


def test_a_mapping_of_other_shapes_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="is not"):
        align(held(normal(3, 4)), held(normal(4, 3)))


# Scales.


@pytest.mark.parametrize(
    ("dtype", "scale"), [("f4", 1e-30), ("f4", 1e30), ("f8", 1e-200), ("f8", 1e200), ("f8", 5e-309)]
)
@pytest.mark.parametrize("count", [7, 70_000])
def test_extreme_scales_neither_overflow_nor_underflow(dtype: str, scale: float, count: int) -> None:
    generator = np.random.default_rng(1)
    before = (generator.standard_normal(count) * scale).astype(dtype)
    after = (generator.standard_normal(count) * scale).astype(dtype)
    result = measured(held(before, f"F{8 * before.itemsize}"), held(after, f"F{8 * before.itemsize}"))
    a, b = (part.astype("f8") / scale for part in (before, after))
    assert result.relative_change == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-6)
    assert result.cosine == pytest.approx(float(a @ b) / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-5, abs=1e-7)


def test_sides_of_far_apart_scales_keep_their_cosine() -> None:
    before = RNG.standard_normal(5000)
    result = measured(held(before * 1e-180, "F64"), held(before * 1e180, "F64"))
    assert result.cosine == pytest.approx(1.0, rel=1e-12)
    assert result.relative_change == math.inf
    assert result.norm_ratio == math.inf
    assert float(result.distance / result.after) == pytest.approx(1.0, rel=1e-12)


def test_opposite_ends_of_float64_do_not_overflow() -> None:
    result = measured(held(np.array([1.5e308, 0.0]), "F64"), held(np.array([-1.5e308, 0.0]), "F64"))
    assert (result.relative_change, result.cosine) == (2.0, -1.0)


def test_a_small_change_of_large_weights_is_not_lost() -> None:
    before = normal(100_000) * 1000
    after = np.nextafter(before, np.float32(np.inf))
    assert_is(measured(held(before), held(after)), before, after)


def test_small_elements_beside_large_ones_that_do_not_move_are_seen() -> None:
    before, after = np.full(70_000, 100.0, np.float32), np.full(70_000, 100.0, np.float32)
    after[5], before[5] = 1e-30, 0.0
    result = measured(held(before), held(after))
    assert float(result.distance) == pytest.approx(1e-60, rel=1e-6)


def test_scaled_numbers_add_as_exact_ones_do() -> None:
    parts = [Scaled(0.75, 2000), Scaled(0.5, 1990), Scaled(0.0, 5000), Scaled(0.5, -4000)]
    total = Scaled()
    for part in parts:
        total = total + part
    exact = sum((Fraction(part.significand) * Fraction(2) ** part.exponent for part in parts), Fraction())
    found_ = Fraction(total.significand) * Fraction(2) ** total.exponent
    assert abs(found_ - exact) <= exact * Fraction(1, 10**15)
    assert float(total) == math.inf
    assert float(parts[3]) == 0.0


def test_several_pairs_together_are_one_long_vector() -> None:
    befores, afters = [normal(5), normal(9000) * 1e-25], [normal(5), normal(9000) * 1e-25]
    parts = [measured(held(a), held(b)) for a, b in zip(befores, afters, strict=True)]
    assert_is(together(parts), np.concatenate(befores), np.concatenate(afters))


# Dtypes.


@pytest.mark.parametrize("before", ["F64", "F32", "F16", "BF16", "F8_E4M3"])
@pytest.mark.parametrize("after", ["F64", "F32", "F16", "BF16", "F8_E5M2"])
def test_any_two_dtypes_are_paired(tmp_path: Path, before: str, after: str) -> None:
    of_torch = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    of_torch |= {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
    weights = {name: torch.randn(130, 97).to(getattr(torch, of_torch[name])) for name in {before, after}}
    weights[before][5, 5] = weights[after][100, 3] = math.nan
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    tensors = {tensor.name: tensor for tensor in open_checkpoint(str(tmp_path / "w.safetensors")).tensors}
    arrays = {name: weight.double().numpy() for name, weight in weights.items()}
    assert_is(measured(tensors[before], tensors[after]), arrays[before], arrays[after])


@pytest.mark.parametrize("place", [0, 4099])
def test_infinities_of_float16_are_left_out_wherever_they_are(place: int) -> None:
    before, after = normal(4100).astype("f2"), normal(4100).astype("f2")
    before[place] = np.inf
    result = measured(held(before, "F16"), held(after, "F16"))
    assert_is(result, before, after)
    assert result.paired == 4099


@pytest.mark.parametrize("count", [100, 5000])
def test_infinities_of_float16_are_left_out_beside_float64_too(count: int) -> None:
    before, after = normal(count).astype("f2"), normal(count).astype("f8")
    before[7] = -np.inf
    assert_is(measured(held(before, "F16"), held(after, "F64")), before, after)
    assert_is(measured(held(after, "F64"), held(before, "F16")), after, before)


def test_byte_orders_may_differ() -> None:
    before, after = normal(70, 90), normal(70, 90)
    content = after.astype(">f4").tobytes()
    swapped = make_tensor(("w",), (70, 90), "F32", Storage(Held("here", content), 0, len(content), "big"))
    assert_is(measured(held(before), swapped), before, after)


# Orders of storage.


@st.composite
def stored_in_some_order(draw: Any, shape: tuple[int, ...]) -> tuple[Tensor, NDArray[np.float64]]:
    """A tensor of this shape, stored with its axes in some order and perhaps with gaps, or expanded; and its array."""
    rank = len(shape)
    order = draw(st.permutations(range(rank)))
    gaps = [draw(st.integers(0, 3)) for _ in range(rank)]
    expanded = draw(st.sets(st.integers(0, rank - 1), max_size=1)) if draw(st.booleans()) else set()
    strides, step = [0] * rank, 1
    for axis in reversed(order):
        if axis not in expanded:
            strides[axis] = step
            step *= shape[axis] + gaps[axis]
    offset = draw(st.integers(0, 5))
    flat = np.random.default_rng(draw(st.integers(0, 99))).standard_normal(step + offset + 1).astype(np.float32)
    array = np.lib.stride_tricks.as_strided(flat[offset:], shape, [stride * 4 for stride in strides])
    storage = Storage(Held("here", flat.tobytes()), 0, flat.nbytes)
    return make_tensor(("w",), shape, "F32", storage, offset, tuple(strides)), array.astype(np.float64)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), shape=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple), few=st.booleans())
def test_elements_are_paired_by_their_indices_in_any_order_of_storage(
    monkeypatch: pytest.MonkeyPatch, data: Any, shape: tuple[int, ...], few: bool
) -> None:
    monkeypatch.setattr(alignment, "BOX_ELEMENTS", 24 if few else 1 << 21)
    monkeypatch.setattr(alignment, "RUN_ELEMENTS", 3 if few else 1 << 10)
    monkeypatch.setattr(alignment, "BLOCK_ELEMENTS", 10 if few else 1 << 17)
    before, a = data.draw(stored_in_some_order(shape))
    after, b = data.draw(stored_in_some_order(shape))
    (result,) = measure_pairs([pair(before, after)], workers=1)
    if isinstance(result, str):
        assert before.repeats > 1
        assert after.repeats > 1
    else:
        assert_is(result, a, b)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), shape=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple))
def test_dimensions_are_paired_in_the_order_that_is_given(data: Any, shape: tuple[int, ...]) -> None:
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    after, b = data.draw(stored_in_some_order(shape))
    before, a = data.draw(stored_in_some_order(tuple(shape[axis] for axis in order)))
    (result,) = measure_pairs([pair(before, after, order)], workers=1)
    if not isinstance(result, str):
        assert_is(result, a, b.transpose(order))


@pytest.mark.parametrize(("periods", "said"), [((8, 8), None), ((8, 4), None), ((12, 8), "alternate")])
def test_parts_that_alternate_are_paired_where_their_runs_fit(periods: tuple[int, int], said: str | None) -> None:
    first, second = normal(48, 6), normal(48, 6)
    cut = [(Slice(0, period // 4, period // 2, period),) for period in periods]
    before, after = part_of(held(first), cut[0]), part_of(held(second), cut[1])
    if said is not None:
        assert said in reason(before, after)
        return
    rows = [[row for row in range(48) if period // 4 <= row % period < period // 4 + period // 2] for period in periods]
    assert_is(measured(before, after), first[rows[0]], second[rows[1]])


def test_a_part_is_paired_with_a_tensor_of_its_own() -> None:
    fused, alone = normal(40, 30), normal(10, 30)
    assert_is(measured(part_of(held(fused), (Slice(0, 20, 10, 40),)), held(alone)), fused[20:30], alone)


def test_large_transposed_tensors_are_paired_in_boxes(tmp_path: Path) -> None:
    before, after = normal(1500, 2300), normal(2300, 1500)
    result = align(stored_tensor(tmp_path / "a", before), stored_tensor(tmp_path / "b", after), (1, 0))
    assert isinstance(result, Alignment)
    assert result.boxes > 1
    found_ = measured(stored_tensor(tmp_path / "a", before), stored_tensor(tmp_path / "b", after), (1, 0))
    assert_is(found_, before, after.T)


def test_a_kernel_is_paired_whatever_comes_first_in_it() -> None:
    torchs, kerass = normal(20, 30, 3, 5), normal(3, 5, 30, 20)
    result = measured(held(torchs), held(kerass), (3, 2, 0, 1))
    assert_is(result, torchs, kerass.transpose(3, 2, 0, 1))


def test_dimensions_of_one_index_do_not_matter() -> None:
    before, after = normal(5, 1, 7), normal(5, 7)
    assert_is(measured(held(before), held(after)), before, after)


def test_expanded_pairs_count_as_often_as_they_are_shown() -> None:
    a, b = normal(4), normal(4)
    before = make_tensor(("w",), (3, 4), "F32", held(a).storage, 0, (0, 1))
    after = make_tensor(("w",), (3, 4), "F32", held(b).storage, 0, (0, 1))
    assert_is(measured(before, after), np.tile(a, (3, 1)), np.tile(b, (3, 1)))


def test_an_expanded_tensor_is_paired_with_one_that_is_not() -> None:
    a, b = normal(4), normal(3, 4)
    before = make_tensor(("w",), (3, 4), "F32", held(a).storage, 0, (0, 1))
    assert_is(measured(before, held(b)), np.tile(a, (3, 1)), b)
    assert_is(measured(held(b), before), b, np.tile(a, (3, 1)))


def test_two_claims_of_more_elements_than_are_stored_are_refused() -> None:
    a = held(normal(1000))
    before = make_tensor(("w",), (1000, 1000), "F32", a.storage, 0, (0, 1))
    after = make_tensor(("w",), (1000, 1000), "F32", a.storage, 0, (1, 0))
    assert "again and again" in reason(before, after)


# What is decoded or inflated on the way.


def compressed(tmp_path: Path, weight: torch.Tensor, name: str) -> Tensor:
    """The tensor in a torch file whose entries are compressed."""
    plain, packed = tmp_path / f"{name}-plain.pt", tmp_path / f"{name}.pt"
    torch.save({"w": weight}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.namelist():
            target.writestr(entry, source.read(entry))
    (tensor,) = open_checkpoint(str(packed)).tensors
    assert tensor.storage.source.sequential
    return tensor


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
def test_compressed_tensors_are_paired(tmp_path: Path, turned: tuple[bool, bool]) -> None:
    a, b = torch.randn(300, 500), torch.randn(300, 500)
    first, second = (part.T.contiguous().T if turn else part for part, turn in zip((a, b), turned, strict=True))
    before, after = compressed(tmp_path, first, "a"), compressed(tmp_path, second, "b")
    assert_is(measured(before, after), a.numpy(), b.numpy())
    assert_is(measured(before, held(b.numpy())), a.numpy(), b.numpy())
    assert_is(measured(held(a.numpy()), after), a.numpy(), b.numpy())


def test_compressed_tensors_in_different_orders_are_refused_where_neither_can_be_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = compressed(tmp_path, torch.randn(30, 50), "a"), compressed(tmp_path, torch.randn(50, 30).T, "b")
    made = align(before, after)
    assert isinstance(made, Alignment)
    assert made.held == "before"
    assert_is(measured(before, after), values(before), values(after).reshape(50, 30).T)
    monkeypatch.setattr(alignment, "HELD_ELEMENTS", 1499)
    assert "different orders" in reason(before, after)


def test_compressed_tensors_are_gone_through_by_one_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "BLOCK_ELEMENTS", 100)
    monkeypatch.setattr(alignment, "SECTION_ELEMENTS", 200)
    packed, plain = compressed(tmp_path, torch.randn(30, 50), "a"), held(normal(30, 50))
    for pair_ in ((packed, plain), (plain, packed), (plain, plain)):
        made = align(*pair_)
        assert isinstance(made, Alignment)
        assert (made.boxes, made.together) == (15, 2 if pair_ == (plain, plain) else 15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_part_of_a_compressed_tensor_is_held_from_where_it_begins(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = torch.randn(60, 50).to(dtype)
    whole[15, 3] = math.inf
    before, after = compressed(tmp_path, whole, "a"), compressed(tmp_path, torch.randn(50, 20).T, "b")
    part = part_of(before, (Slice(0, 5, 20, 60),))
    made = align(part, after)
    assert isinstance(made, Alignment)
    assert made.held == "before"
    assert_is(measured(part, after), whole[5:25].double().numpy(), values(after).reshape(50, 20).T)


class Counting(Held):
    """Bytes in memory that count how often they are read."""

    reads = 0

    def read_into(self, offset: int, buffer: memoryview) -> None:
        Counting.reads += 1
        super().read_into(offset, buffer)


def test_small_gaps_are_read_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "reads", 0)
    wide = normal(2000, 12)
    storage = Storage(Counting("here", wide.tobytes()), 0, wide.nbytes)
    view = make_tensor(("w",), (2000, 3), "F32", storage, 4, (12, 1))
    assert_is(measured(view, held(wide[:, 4:7])), wide[:, 4:7], wide[:, 4:7])
    assert Counting.reads < 10


def test_scattered_reads_are_refused_where_they_are_more_than_the_tensor_is_worth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, after = held(normal(64, 512)), held(normal(512, 64), strides=None)
    monkeypatch.setattr(alignment, "FEW_READS", 0)
    monkeypatch.setattr(alignment, "RUN_ELEMENTS", 2)
    monkeypatch.setattr(alignment, "BOX_ELEMENTS", 4)
    assert isinstance(align(before, after, (1, 0)), Alignment)
    assert_is(measured(before, after, (1, 0)), values(before), values(after).reshape(512, 64).T)
    monkeypatch.setattr(alignment, "HELD_ELEMENTS", 1)
    assert "too large to be held" in reason(before, after, (1, 0))


@pytest.mark.parametrize("case", cases())
def test_a_quantised_weight_is_paired_with_what_it_stands_for(tmp_path: Path, case: str) -> None:
    tensors, expected = reference(case)
    (named,) = [named for named in found(written(tmp_path, tensors)).values() if named.stored is not None]
    array = values(named.tensor).reshape(named.tensor.shape)
    other = array + RNG.standard_normal(array.shape)
    assert_is(measured(named.tensor, held(other, "F64")), array, other)
    if array.ndim == 2:
        assert_is(measured(named.tensor, held(other.T, "F64"), (1, 0)), array, other)
        assert_is(measured(held(other.T, "F64"), named.tensor, (1, 0)), other.T, array.T)
    assert array.size == expected.size


# Tensors in pieces.


def pieced(array: NDArray[np.float32], axis: int) -> Tensor:
    halves = np.split(array, 2, axis)
    offsets = [tuple(half * array.shape[axis] // 2 if at == axis else 0 for at in range(array.ndim)) for half in (0, 1)]
    parts = [(Box(offset, half.shape), held(half)) for offset, half in zip(offsets, halves, strict=True)]
    return put_together(("w",), array.shape, parts)


def test_pieces_that_are_cut_alike_are_paired() -> None:
    a, b = normal(6, 8), normal(6, 8)
    assert_is(measured(pieced(a, 1), pieced(b, 1)), a, b)


def test_pieces_that_are_cut_along_the_first_dimension_are_paired_with_any() -> None:
    a, b = normal(6, 8), normal(6, 8)
    assert_is(measured(pieced(a, 0), held(b)), a, b)


@pytest.mark.parametrize("axis", [0, None])
def test_pieces_in_another_order_are_refused(axis: int | None) -> None:
    a, b = normal(6, 8), normal(6, 8)
    assert "pieces" in reason(pieced(a, 1), held(b) if axis is None else pieced(b, axis))
    assert "pieces" in reason(held(b), pieced(a, 1))


def test_pieces_that_are_cut_alike_are_not_paired_across_their_dimensions() -> None:
    a, b = normal(8, 8), normal(8, 8)
    assert "pieces" in reason(pieced(a, 1), pieced(b, 1), (1, 0))


@pytest.mark.parametrize(("chunks", "is_paired"), [(None, True), ((3, 8), True), ((2, 4), False)])
def test_a_dataset_in_chunks_is_paired_where_they_are_in_the_order_of_indices(
    tmp_path: Path, chunks: tuple[int, int] | None, is_paired: bool
) -> None:
    a, b = normal(6, 8), normal(6, 8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", data=a, chunks=chunks)
    (tensor,) = open_checkpoint(str(tmp_path / "a.h5")).tensors
    if is_paired:
        assert_is(measured(tensor, held(b)), a, b)
    else:
        assert "pieces" in reason(tensor, held(b))


# Sharing the work out, and what cannot be read.


def test_any_number_of_workers_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WORTH_SHARING", 0)
    monkeypatch.setattr(alignment, "SECTION_ELEMENTS", 1 << 15)
    shapes = ((700, 300), (5,), (1100, 900))
    some = []
    for number, shape in enumerate(shapes):
        before, after = (
            stored_tensor(tmp_path / f"{number}a", normal(*shape)),
            stored_tensor(tmp_path / f"{number}b", normal(*shape[::-1])),
        )
        some.append(pair(before, after, (1, 0) if len(shape) > 1 else None))
    alone = measure_pairs(some, workers=1)
    assert all(isinstance(result, PairMoments) for result in alone)
    assert measure_pairs(some, workers=3) == alone


def test_progress_adds_up_to_the_bytes_of_both(tmp_path: Path) -> None:
    steps: list[int] = []
    some = [pair(held(normal(3000, 1100)), held(normal(3000, 1100))), pair(held(normal(7)), held(normal(7)))]
    measure_pairs(some, workers=1, progress=steps.append)
    assert sum(steps) == 2 * 4 * (3000 * 1100 + 7)
    assert len(steps) > 2


def test_a_file_that_ends_early_costs_its_own_pair_alone(tmp_path: Path) -> None:
    whole, cut = stored_tensor(tmp_path / "whole", normal(50, 60)), stored_tensor(tmp_path / "cut", normal(50, 60))
    (tmp_path / "cut").write_bytes(b"")
    first, second = measure_pairs([pair(whole, cut), pair(whole, whole)], workers=1)
    assert isinstance(first, str)
    assert "cut" in first
    assert "the file ends" in first
    assert isinstance(second, PairMoments)


@pytest.mark.parametrize("dtype", ["F32", "F64"])
def test_fast_and_careful_sums_agree(dtype: str) -> None:
    count = 1 << 16
    a, b = (RNG.standard_normal(count).astype("f4" if dtype == "F32" else "f8") for _ in range(2))
    fast, careful = pairs._fast_sums(a, b, pairs._Workspace()), pairs._careful_sums(a, b)
    assert fast is not None
    for name in ("before", "after", "distance"):
        assert float(getattr(fast, name)) == pytest.approx(float(getattr(careful, name)), rel=1e-7)
    assert float(fast.product) == pytest.approx(float(careful.product), abs=1e-7 * float(careful.before))
