"""Pieces make a tensor just where they fill it; what they make has their elements, wherever each lies."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import Memory, ending_soon, values

from weightstats.errors import TensorError
from weightstats.pieces import Box, Concatenated, check_tiling, put_together
from weightstats.tensors import Slice, Storage, Tensor, make_tensor, part_of


def stored(array: np.ndarray, before: int = 0, sequential: bool = False) -> Tensor:
    content = bytes(before) + array.astype("<f4").tobytes()
    return make_tensor((), array.shape, "F32", Storage(Memory(content, sequential), before, array.size * 4))


def cut(whole: np.ndarray, *boxes: tuple[tuple[int, ...], tuple[int, ...]]) -> list[tuple[Box, Tensor]]:
    pieces = []
    for number, (offsets, sizes) in enumerate(boxes):
        part = whole[tuple(slice(start, start + size) for start, size in zip(offsets, sizes, strict=True))]
        pieces.append((Box(offsets, sizes), stored(np.ascontiguousarray(part), before=number)))
    return pieces


def test_pieces_of_rows_come_in_their_order_whatever_the_order_that_they_are_given_in() -> None:
    whole = np.arange(20.0).reshape(5, 4)
    pieces = cut(whole, ((4, 0), (1, 4)), ((0, 0), (2, 4)), ((2, 0), (2, 4)))
    tensor = put_together(("w",), (5, 4), pieces)
    assert (tensor.path, tensor.shape, tensor.elements, tensor.stored_bytes) == (("w",), (5, 4), 20, 80)
    assert values(tensor).tolist() == list(range(20))


def test_a_grid_of_pieces_gives_every_element_once() -> None:
    whole = np.arange(30.0).reshape(5, 6)
    grid = [((row, column), (rows, 3)) for row, rows in ((0, 2), (2, 3)) for column in (0, 3)]
    assert sorted(values(put_together((), (5, 6), cut(whole, *grid)))) == list(range(30))


def test_one_piece_is_the_tensor_itself_with_its_strides() -> None:
    turned = make_tensor((), (2, 3), "F32", Storage(Memory(bytes(24)), 0, 24), 0, (1, 2))
    assert put_together(("w",), (2, 3), [(Box((0, 0), (2, 3)), turned)]) == replace(turned, path=("w",))


def test_pieces_without_elements_are_no_matter() -> None:
    whole = np.arange(6.0).reshape(2, 3)
    pieces = cut(whole, ((0, 0), (0, 3)), ((0, 0), (2, 3)), ((2, 0), (0, 3)))
    assert values(put_together((), (2, 3), pieces)).tolist() == list(range(6))
    empty = put_together((), (0, 3), cut(np.zeros((0, 3)), ((0, 0), (0, 3))))
    assert (empty.shape, empty.elements) == ((0, 3), 0)


def test_a_number_without_dimensions_is_one_piece() -> None:
    assert values(put_together((), (), [(Box((), ()), stored(np.array(7.0)))])).tolist() == [7.0]
    with pytest.raises(TensorError, match="there twice"):
        check_tiling((), [Box((), ()), Box((), ())])


def test_elements_that_lie_turned_but_side_by_side_are_all_there() -> None:
    turned = make_tensor((), (2, 3), "F32", stored(np.arange(6.0)).storage, 0, (1, 2))
    pieces = [(Box((0, 0), (2, 3)), turned), (Box((2, 0), (1, 3)), stored(np.full((1, 3), 9.0)))]
    assert sorted(values(put_together((), (3, 3), pieces))) == [0, 1, 2, 3, 4, 5, 9, 9, 9]


@pytest.mark.parametrize(
    ("shape", "axis", "in_order"),
    [((6, 8), 0, True), ((6, 8), 1, False), ((1, 8), 1, True), ((6, 1), 0, True), ((4, 2, 6), 1, False)],
)
def test_a_tensor_has_strides_where_its_elements_come_in_the_order_of_their_indices(
    shape: tuple[int, ...], axis: int, in_order: bool
) -> None:
    halves = np.split(np.arange(float(np.prod(shape)), dtype=np.float32).reshape(shape), 2, axis)
    offsets = [tuple(half * shape[axis] // 2 if at == axis else 0 for at in range(len(shape))) for half in (0, 1)]
    pieces = [(Box(offset, half.shape), stored(half)) for offset, half in zip(offsets, halves, strict=True)]
    tensor = put_together(("w",), shape, pieces)
    assert (tensor.strides is not None) == (tensor.layout is not None) == in_order
    if in_order:
        assert np.array_equal(values(tensor), np.arange(float(np.prod(shape))))
    else:
        with pytest.raises(ValueError, match="without strides"):
            part_of(tensor, (Slice(0, 0, 1, shape[0]),))


def test_pieces_that_lie_turned_leave_the_whole_without_strides() -> None:
    array = np.arange(12, dtype=np.float32).reshape(4, 3)
    turned = make_tensor(("p",), (2, 3), "F32", stored(array[:2]).storage, 0, (1, 2))
    pieces = [(Box((0, 0), (2, 3)), turned), (Box((2, 0), (2, 3)), stored(array[2:]))]
    assert put_together(("w",), (4, 3), pieces).strides is None


def test_orders_of_pieces_are_told_apart() -> None:
    array = np.arange(64, dtype=np.float32).reshape(8, 8)

    def at(column: int) -> Tensor:
        pieces = [(Box((0, 0), (8, column)), stored(array[:, :column]))]
        return put_together(("w",), (8, 8), [*pieces, (Box((0, column), (8, 8 - column)), stored(array[:, column:]))])

    assert at(4).given_in == at(4).given_in != at(2).given_in


def test_elements_of_a_piece_with_others_between_them_are_refused() -> None:
    sparse = make_tensor((), (2, 2), "F32", stored(np.arange(8.0)).storage, 0, (4, 1))
    pieces = [(Box((0, 0), (2, 2)), sparse), (Box((2, 0), (1, 2)), stored(np.zeros((1, 2))))]
    with pytest.raises(TensorError, match="do not lie side by side"):
        put_together((), (3, 2), pieces)


@pytest.mark.parametrize(
    ("boxes", "reason"),
    [
        ([((0, 0), (2, 3))], "hold 6 of its 12 elements: a part of it is missing"),
        ([((0, 0), (4, 3)), ((0, 0), (2, 3))], "hold 18 elements where it has 12: some of them are there twice"),
        ([((0, 0), (2, 3)), ((1, 0), (2, 3))], "overlap in one place and leave another empty"),
        ([((0, 0), (5, 3))], "reaches beyond its shape"),
        ([((3, 0), (2, 3))], "reaches beyond its shape"),
        ([((0,), (4,))], "has not its 2 dimensions"),
        ([((0, 0), (4,))], "has not its 2 dimensions"),
        ([], "hold 0 of its 12 elements"),
    ],
)
def test_pieces_that_do_not_fill_a_tensor_are_refused(boxes: list[tuple[tuple[int, ...], ...]], reason: str) -> None:
    with pytest.raises(TensorError, match=reason):
        check_tiling((4, 3), [Box(*box) for box in boxes])


def test_a_tensor_of_nothing_still_needs_a_piece() -> None:
    with pytest.raises(TensorError, match="nothing of it is stored"):
        check_tiling((0, 3), [])


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((1 << 62, 1 << 62), "elements"), ((1 << 900,) * 64, "elements"), ((1,) * 65, "65 dimensions")],
)
def test_a_shape_beyond_the_limits_is_refused(shape: tuple[int, ...], reason: str) -> None:
    with pytest.raises(TensorError, match=reason):
        check_tiling(shape, [Box((0,) * len(shape), shape)])


def test_cuts_along_many_dimensions_are_refused_before_their_corners_are_counted() -> None:
    shape = (2,) * 40
    with ending_soon(), pytest.raises(TensorError, match="cut along 40 dimensions"):
        check_tiling(shape, [Box((0,) * 40, (1,) * 40), Box((1,) * 40, (1,) * 40)])


def test_many_pieces_are_checked_in_a_time_that_grows_with_their_number() -> None:
    boxes = [Box((row, column), (1, 1)) for row in range(250) for column in range(200)]
    with ending_soon(10):
        check_tiling((250, 200), boxes)
        with pytest.raises(TensorError, match="overlap"):
            check_tiling((250, 200), [*boxes[:-1], boxes[0]])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": "BF16"}, "different dtypes"),
        ({"order": "big"}, "different byte orders"),
        ({"shape": (3, 1)}, "has the shape"),
    ],
)
def test_pieces_that_contradict_each_other_are_refused(change: dict[str, object], reason: str) -> None:
    told: dict[str, object] = {"dtype": "F32", "order": "little", "shape": (1, 3)} | change
    other = make_tensor((), told["shape"], told["dtype"], Storage(Memory(bytes(12)), 0, 12, told["order"]))  # type: ignore[arg-type]
    with pytest.raises(TensorError, match=reason):
        put_together((), (2, 3), [(Box((0, 0), (1, 3)), stored(np.zeros((1, 3)))), (Box((1, 0), (1, 3)), other)])


BOX = st.tuples(*(st.integers(0, 2) for _ in range(3))), st.tuples(*(st.integers(0, 3) for _ in range(3)))


@given(st.lists(st.builds(Box, *BOX), max_size=5))
@settings(deadline=None)
def test_the_corners_agree_with_counting_every_element(boxes: list[Box]) -> None:
    shape = (3, 2, 2)
    counts = np.zeros(shape, int)
    fits = bool(boxes)
    for box in boxes:
        ends = [offset + size for offset, size in zip(box.offsets, box.sizes, strict=True)]
        fits = fits and all(end <= whole for end, whole in zip(ends, shape, strict=True))
        counts[tuple(slice(offset, end) for offset, end in zip(box.offsets, ends, strict=True))] += 1
    if fits and (counts == 1).all():
        check_tiling(shape, boxes)
    else:
        with pytest.raises(TensorError):
            check_tiling(shape, boxes)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.data())
@settings(deadline=None)
def test_any_range_of_the_joined_bytes_is_read_from_its_parts(sizes: list[int], data: st.DataObject) -> None:
    content = bytes(range(sum(sizes)))
    starts = itertools.accumulate(sizes, initial=0)
    parts = [
        Storage(Memory(b"\xff" + content[start : start + size]), 1, size)
        for start, size in zip(starts, sizes, strict=False)
    ]
    source = Concatenated(parts)
    first = data.draw(st.integers(0, len(content)))
    last = data.draw(st.integers(first, len(content)))
    buffer = bytearray(last - first)
    source.will_need(first, last - first)
    source.reader().read_into(first, memoryview(buffer))
    assert bytes(buffer) == content[first:last]


def test_parts_of_compressed_streams_are_read_by_one_reader_from_front_to_back() -> None:
    pieces = [(Box((row, 0), (1, 3)), stored(np.full((1, 3), row), sequential=True)) for row in range(2)]
    tensor = put_together((), (2, 3), pieces)
    assert tensor.storage.source.sequential
    assert values(tensor).tolist() == [0, 0, 0, 1, 1, 1]
