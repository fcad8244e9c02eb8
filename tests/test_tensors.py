"""A tensor is a view of a storage: its distinct elements are read once each, in blocks, and nothing else is."""

import itertools
import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from makers import Memory, distinct, values

from weightstats import tensors
from weightstats.errors import TensorError
from weightstats.tensors import BLOCK_BYTES, BLOCK_ELEMENTS, SECTION_ELEMENTS, Buffers, Storage, Tensor, make_tensor

BEFORE = 16
"""Bytes ahead of the storage, which no tensor may touch."""


def counting(elements: int, sequential: bool = False) -> tuple[Memory, Storage]:
    """A storage of the float32 numbers 0, 1, 2, ..., between bytes that are not its own."""
    content = b"\xff" * BEFORE + np.arange(elements, dtype="<f4").tobytes() + b"\xff" * 16
    source = Memory(content, sequential)
    return source, Storage(source, BEFORE, elements * 4)


def counted(elements: int, shape: tuple[int, ...], strides: tuple[int, ...] | None = None, offset: int = 0) -> Tensor:
    return make_tensor(("t",), shape, "F32", counting(elements)[1], offset, strides)


@st.composite
def valid_views(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], int, int]:
    """(shape, strides, offset, elements of the storage): nested, with gaps, expanded, of one, empty, in any order."""
    dimensions, span = [], 1
    for _ in range(draw(st.integers(0, 5))):
        size = draw(st.integers(0, 5))
        kind = draw(st.sampled_from(("nested", "nested", "expanded")))
        stride = 0 if kind == "expanded" else span + draw(st.integers(0, 3))
        dimensions.append((size, stride))
        span += max(0, size - 1) * stride
    dimensions = draw(st.permutations(dimensions))
    offset = draw(st.integers(0, 5))
    elements = offset + span + draw(st.integers(0, 3))
    return tuple(size for size, _ in dimensions), tuple(stride for _, stride in dimensions), offset, elements


# Known answers


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "expected"),
    [
        ((2, 3), None, 0, [0, 1, 2, 3, 4, 5]),
        ((2, 3), None, 4, [4, 5, 6, 7, 8, 9]),
        ((3, 2), (1, 3), 0, [0, 1, 2, 3, 4, 5]),
        ((2, 2), (4, 1), 1, [1, 2, 5, 6]),
        ((3,), (3,), 1, [1, 4, 7]),
        ((2, 2, 2), (1, 2, 5), 0, [0, 1, 2, 3, 5, 6, 7, 8]),
        ((4, 2), (0, 1), 3, [3, 4]),
        ((1000, 1000), (0, 0), 7, [7]),
        ((), (), 9, [9]),
        ((1, 1), (77, 99), 2, [2]),
        ((0, 3), None, 0, []),
        ((3, 0, 2**40), None, 0, []),
    ],
)
def test_a_view_gives_its_distinct_elements_in_the_order_of_the_storage(
    shape: tuple[int, ...], strides: tuple[int, ...] | None, offset: int, expected: list[float]
) -> None:
    assert values(counted(10, shape, strides, offset)).tolist() == expected


def test_an_expanded_view_counts_all_its_elements_and_stores_each_once() -> None:
    tensor = counted(2, (10**6, 10**6, 2), (0, 0, 1))
    assert (tensor.elements, tensor.repeats, tensor.stored_bytes) == (2 * 10**12, 10**12, 8)
    assert values(tensor).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("shape", "elements"), [((), 1), ((0, 5), 0), ((2, 3), 6)])
def test_the_elements_are_the_product_of_the_shape(shape: tuple[int, ...], elements: int) -> None:
    tensor = counted(10, shape)
    assert (tensor.elements, tensor.stored_bytes) == (elements, 4 * elements)


def test_an_empty_tensor_has_no_sections() -> None:
    assert counted(10, (0,)).sections() == ()


def test_a_name_is_its_path_with_dots() -> None:
    assert make_tensor(("model", "0.weight"), (1,), "F32", counting(1)[1]).name == "model.0.weight"


@pytest.mark.parametrize(
    ("shape", "strides"), [((2, 3, 4), (1, 8, 2)), ((6, 1, 4), (4, 99, 1)), ((1, 24, 1), (1, 1, 0)), ((5, 24), (0, 1))]
)
def test_a_tensor_without_gaps_is_read_as_one_run(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    assert counted(24, shape, strides).dimensions == ((24, 1),)


def test_two_tensors_have_the_same_view_only_where_both_show_the_same_elements() -> None:
    _, storage = counting(12)
    first = make_tensor(("a",), (3, 4), "F32", storage)
    assert first.view == make_tensor(("b",), (3, 4), "F32", storage).view
    assert first.view == make_tensor(("b",), (2, 6), "F32", storage).view
    for other in (
        make_tensor(("b",), (3, 3), "F32", storage),
        make_tensor(("b",), (3, 2), "F32", storage, strides=(4, 1)),
        make_tensor(("b",), (11,), "F32", storage, offset=1),
        make_tensor(("b",), (2, 3, 4), "F32", storage, strides=(0, 4, 1)),
        make_tensor(("b",), (3, 4), "I32", storage),
        make_tensor(("b",), (3, 4), "F32", counting(12)[1]),
    ):
        assert first.view != other.view


def test_a_big_endian_storage_is_read_as_one() -> None:
    source = Memory(np.array([1.5, -2.0], ">f4").tobytes())
    assert values(make_tensor(("t",), (2,), "F32", Storage(source, 0, 8, "big"))).tolist() == [1.5, -2.0]


# Blocks and sections


def test_blocks_are_bounded_and_keep_the_order() -> None:
    elements = 2 * BLOCK_ELEMENTS + 5
    tensor = counted(elements, (elements,))
    most = min(BLOCK_ELEMENTS, BLOCK_BYTES // tensor.dtype.width)
    [section] = tensor.sections()
    sizes = [block.size for block in section.blocks(Buffers())]
    assert sizes == [most] * (elements // most) + [elements % most]
    assert values(counted(elements, (elements,))).tolist() == list(range(elements))


def test_sections_are_bounded_and_together_hold_every_byte() -> None:
    storage = Storage(Memory(b""), 0, (3 * SECTION_ELEMENTS + 1) * 8)
    sections = make_tensor(("t",), (3 * SECTION_ELEMENTS + 1,), "F64", storage).sections()
    assert [section.bytes for section in sections] == [SECTION_ELEMENTS * 8] * 3 + [8]


def test_a_source_that_is_read_front_to_back_has_one_section() -> None:
    storage = Storage(Memory(b"", sequential=True), 0, 3 * SECTION_ELEMENTS * 4)
    assert len(make_tensor(("t",), (3 * SECTION_ELEMENTS,), "F32", storage).sections()) == 1


def test_the_widest_dtype_fits_the_buffers() -> None:
    numbers = np.arange(BLOCK_ELEMENTS, dtype="<c16")
    tensor = make_tensor(("t",), numbers.shape, "C128", Storage(Memory(numbers.tobytes()), 0, numbers.nbytes))
    np.testing.assert_array_equal(values(tensor), np.arange(BLOCK_ELEMENTS))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(view=valid_views(), block=st.integers(1, 40), section=st.integers(1, 60), sequential=st.booleans())
@example(view=((3, 4, 5), (1, 3, 12), 0, 60), block=7, section=11, sequential=False)
@example(view=((2, 5), (0, 2), 1, 10), block=1, section=1, sequential=True)
def test_the_elements_of_any_view_are_those_of_torch(
    view: tuple[tuple[int, ...], tuple[int, ...], int, int], block: int, section: int, sequential: bool
) -> None:
    shape, strides, offset, elements = view
    source, storage = counting(elements, sequential)
    tensor = make_tensor(("t",), shape, "F32", storage, offset, strides)
    with mock.patch.object(tensors, "BLOCK_ELEMENTS", block), mock.patch.object(tensors, "SECTION_ELEMENTS", section):
        blocks = [part.astype(np.float64) for piece in tensor.sections() for part in piece.blocks(Buffers())]
    found = np.concatenate([np.empty(0), *blocks])
    expected = torch.arange(elements, dtype=torch.float32).as_strided(shape, strides, offset)
    np.testing.assert_array_equal(np.sort(found), distinct(expected))
    assert all(0 < part.size <= block for part in blocks)
    assert tensor.elements == expected.numel()
    assert tensor.repeats * found.size == expected.numel()
    assert tensor.stored_bytes == found.size * 4
    assert sum(end - begin for begin, end in source.read) <= storage.size


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    dimensions=st.lists(st.tuples(st.integers(-1, 6), st.integers(-2, 12)), max_size=4),
    offset=st.integers(-1, 12),
    elements=st.integers(0, 12),
    block=st.integers(1, 8),
)
def test_no_view_is_read_beyond_its_storage(
    dimensions: list[tuple[int, int]], offset: int, elements: int, block: int
) -> None:
    source, storage = counting(elements)
    shape, strides = tuple(size for size, _ in dimensions), tuple(stride for _, stride in dimensions)
    with mock.patch.object(tensors, "BLOCK_ELEMENTS", block):
        try:
            tensor = make_tensor(("t",), shape, "F32", storage, offset, strides)
        except TensorError:
            return
        found = values(tensor)
    for section in tensor.sections():
        section.will_need()
    assert all(BEFORE <= begin <= end <= BEFORE + storage.size for begin, end in source.read)
    assert len(set(found.tolist())) == found.size
    assert found.size * tensor.repeats == math.prod(shape)


# Refusals


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "reason"),
    [
        ((2,), (1,), -1, "its size, stride or offset is negative"),
        ((-4,), (1,), 0, "its size, stride or offset is negative"),
        ((2,), (-1,), 9, "its size, stride or offset is negative"),
        ((0, -1), (1, 1), 0, "its size, stride or offset is negative"),
        ((11,), (1,), 0, "it needs 11 elements of a storage that holds 10"),
        ((10,), (1,), 1, "it needs 11 elements of a storage that holds 10"),
        ((2,), (10,), 0, "it needs 11 elements of a storage that holds 10"),
        ((), (), 10, "it needs 11 elements of a storage that holds 10"),
        ((2,), (10**9,), 0, "it needs 1,000,000,001 elements of a storage that holds 10"),
        ((1,), (1,), 2**62, "elements of a storage that holds 10"),
        ((2**40, 2**40), None, 0, "elements of a storage that holds 10"),
        ((3, 3), (1, 1), 0, "its strides visit the same element in two places"),
        ((2, 3), (2, 1), 0, "its strides visit the same element in two places"),
        ((2, 2, 2), (4, 1, 1), 0, "its strides visit the same element in two places"),
        ((1,) * 65, None, 0, "it has 65 dimensions, more than the 64 that"),
        ((2, 2), (1,), 0, "it has 2 dimensions but 1 strides"),
        ((2,), (2, 1), 0, "it has 1 dimensions but 2 strides"),
    ],
)
def test_a_view_that_breaks_a_rule_is_refused_with_the_rule(
    shape: tuple[int, ...], strides: tuple[int, ...] | None, offset: int, reason: str
) -> None:
    with pytest.raises(TensorError, match=reason):
        counted(10, shape, strides, offset)


def test_an_unknown_dtype_is_refused_by_name() -> None:
    with pytest.raises(TensorError, match="its dtype F99 is not one that can be read"):
        make_tensor(("t",), (1,), "F99", counting(1)[1])


def test_a_storage_holds_only_whole_elements() -> None:
    with pytest.raises(TensorError, match="it needs 2 elements of a storage that holds 1"):
        make_tensor(("t",), (2,), "F64", Storage(Memory(bytes(15)), 0, 15))


def test_64_dimensions_are_read() -> None:
    assert values(counted(1, (1,) * 64)).tolist() == [0.0]


@pytest.mark.parametrize("shape", [(2**63,), (2**2000, 2**2000), (2**40, 2**40)])
def test_more_elements_than_64_bits_count_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(TensorError, match="the elements of its shape are more than the 9,223,372,036,854,775,807 that"):
        counted(10, shape, (0,) * len(shape))


@pytest.mark.parametrize(("shape", "strides"), [((2, 3), (3, 2)), ((3, 2), (2, 3)), ((2, 2, 3), (9, 3, 2))])
def test_a_view_whose_strides_interleave_is_read_where_no_element_is_shared(
    shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    expected = torch.arange(20.0).as_strided(shape, strides)
    np.testing.assert_array_equal(np.sort(values(counted(20, shape, strides))), distinct(expected))


def test_a_large_view_whose_strides_interleave_is_refused_rather_than_searched() -> None:
    storage = Storage(Memory(b""), 0, 4 * 4 * BLOCK_ELEMENTS)
    with pytest.raises(TensorError, match="its strides interleave, and may visit the same element in two places"):
        make_tensor(("t",), (2, BLOCK_ELEMENTS), "F32", storage, strides=(3, 2))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    dimensions=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), max_size=4),
    offset=st.integers(0, 3),
    elements=st.integers(0, 40),
)
@example(dimensions=[(2, 3), (3, 2)], offset=0, elements=8)
@example(dimensions=[(2, 1), (2, 3), (2, 2)], offset=0, elements=8)
def test_a_view_is_refused_exactly_where_it_leaves_its_storage_or_shares_an_element(
    dimensions: list[tuple[int, int]], offset: int, elements: int
) -> None:
    steps = [[index * stride for index in range(size)] for size, stride in dimensions if stride]
    places = [offset + sum(step) for step in itertools.product(*steps)]
    sound = max(places) < elements and len(set(places)) == len(places)
    shape, strides = tuple(size for size, _ in dimensions), tuple(stride for _, stride in dimensions)
    try:
        found = values(counted(elements, shape, strides, offset)).tolist()
    except TensorError:
        found = None
    assert (sorted(found) if found is not None else None) == (sorted(places) if sound else None)
