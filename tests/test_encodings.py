"""Blocks that are decoded as they are read: any size, any section, any thread, as numpy decodes them whole."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from archives import DEFLATED, Part, archive
from makers import Memory, values
from numpy.typing import NDArray

from weightstats.containers.zip_archive import Archive
from weightstats.encodings import Encoding, encoded
from weightstats.errors import TensorError
from weightstats.moments import measure
from weightstats.places import open_file
from weightstats.tensors import SECTION_ELEMENTS, Buffers, Storage, Use

SIZES = (0, 1, 2, 3, 31, 32, 33, 64, 65, 1000, (1 << 16) - 1, (1 << 16) + 1, (1 << 18) + 5)


def scaled(raw: NDArray[np.uint8], first: int) -> NDArray[np.float32]:
    """A 16-bit scale, and 32 signed bytes that it multiplies: the blocks of ggml's Q8_0."""
    scales = raw[:, :2].copy().view("<f2").astype(np.float32)
    return scales * raw[:, 2:].view(np.int8)


def numbered(raw: NDArray[np.uint8], first: int) -> NDArray[np.float32]:
    """Each byte plus the number of its block: what a scale that stands elsewhere depends on."""
    return (raw + (first + np.arange(len(raw)))[:, None]).astype(np.float32)


def halves(raw: NDArray[np.uint8], first: int) -> NDArray[np.float32]:
    return np.stack((raw & 15, raw >> 4), axis=-1).reshape(len(raw), 2).astype(np.float32)


ENCODINGS = {
    "scaled": Encoding("scaled", 32, 34, scaled),
    "numbered": Encoding("numbered", 1, 1, numbered),
    "halves": Encoding("halves", 2, 1, halves),
    "odd": Encoding("odd", 7, 7, numbered),
}


def stored(encoding: Encoding, elements: int) -> tuple[bytes, NDArray[np.float32]]:
    """Random blocks, and the elements that they are."""
    blocks = -(-elements // encoding.block_elements)
    raw = np.random.default_rng(elements).integers(0, 100, (blocks, encoding.block_bytes), np.uint8)
    return raw.tobytes(), encoding.decode(raw, 0).reshape(-1)[:elements]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ENCODINGS)
def test_all_elements_are_decoded_in_order(name: str, size: int) -> None:
    content, expected = stored(ENCODINGS[name], size)
    tensor = encoded(("t",), (size,), ENCODINGS[name], Storage(Memory(b"pad" + content), 3, len(content)))
    np.testing.assert_array_equal(values(tensor), expected)
    assert (tensor.elements, tensor.stored_bytes, tensor.dtype.name) == (size, len(content), name)


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4), (2, 3, 11), (1, 33)], ids=str)
def test_any_shape_is_filled_in_the_order_of_the_blocks(shape: tuple[int, ...]) -> None:
    encoding = ENCODINGS["scaled"]
    content, expected = stored(encoding, math.prod(shape))
    tensor = encoded(("t",), shape, encoding, Storage(Memory(content), 0, len(content)))
    assert tensor.shape == shape
    np.testing.assert_array_equal(values(tensor), expected)


@pytest.mark.parametrize("name", ["scaled", "numbered", "odd"])
def test_sections_are_decoded_each_for_itself_in_any_order_by_any_thread(name: str) -> None:
    size = 2 * SECTION_ELEMENTS + 12_345
    content, expected = stored(ENCODINGS[name], size)
    tensor = encoded(("t",), (size,), ENCODINGS[name], Storage(Memory(content), 0, len(content)))
    sections = tensor.sections()
    assert len(sections) == 3

    def read(index: int) -> NDArray[np.float32]:
        return np.concatenate([block.copy() for block in sections[index].blocks(Buffers())])

    for order in itertools.permutations(range(3)):
        with ThreadPoolExecutor(3) as pool:
            parts = dict(zip(order, pool.map(read, order), strict=True))
        np.testing.assert_array_equal(np.concatenate([parts[index] for index in range(3)]), expected)


def test_ranges_that_start_and_end_within_blocks_are_those_elements() -> None:
    content, expected = stored(ENCODINGS["scaled"], 1000)
    source = encoded(("t",), (1000,), ENCODINGS["scaled"], Storage(Memory(content), 0, len(content))).storage.source
    for first, count in ((0, 1), (31, 2), (32, 32), (33, 64), (999, 1), (500, 0), (5, 990)):
        buffer = bytearray(4 * count)
        source.read_into(4 * first, memoryview(buffer))
        np.testing.assert_array_equal(np.frombuffer(buffer, "<f4"), expected[first : first + count])


def test_no_more_is_read_than_the_blocks_that_are_asked_for() -> None:
    memory = Memory(stored(ENCODINGS["scaled"], 1000)[0])
    tensor = encoded(("t",), (1000,), ENCODINGS["scaled"], Storage(memory, 0, len(memory.content)))
    tensor.storage.source.read_into(4 * 40, memoryview(bytearray(4)))
    assert memory.read == [(34, 68)]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_measured_does_not_depend_on_the_workers(tmp_path: Path, workers: int) -> None:
    size = SECTION_ELEMENTS + 77
    content, expected = stored(ENCODINGS["scaled"], size)
    (tmp_path / "f").write_bytes(content)
    file = open_file(tmp_path / "f")
    [found] = measure([encoded(("t",), (size,), ENCODINGS["scaled"], Storage(file, 0, file.size))], workers=workers)
    assert not isinstance(found, str)
    assert found.mean_square == pytest.approx(float(np.mean(expected.astype(np.float64) ** 2)), rel=1e-9)
    assert found.max_abs == float(np.abs(expected).max())


def test_blocks_in_a_compressed_storage_are_decoded(tmp_path: Path) -> None:
    content, expected = stored(ENCODINGS["scaled"], 300_001)
    (tmp_path / "f").write_bytes(archive([Part("x", content, DEFLATED)]))
    storage = Archive(open_file(tmp_path / "f")).storage("x")
    tensor = encoded(("t",), (300_001,), ENCODINGS["scaled"], storage)
    assert len(tensor.sections()) == 1
    for _ in range(2):
        np.testing.assert_array_equal(values(tensor), expected)


@pytest.mark.parametrize(("elements", "size"), [(1, 33), (33, 67), (1000, 1087), (2**62, 1088)])
def test_a_storage_that_is_too_short_is_refused(elements: int, size: int) -> None:
    storage = Storage(Memory(bytes(size)), 0, size)
    with pytest.raises(TensorError, match=rf"it needs [\d,]+ bytes of a storage that holds {size:,}"):
        encoded(("t",), (elements,), ENCODINGS["scaled"], storage)


def test_a_storage_may_be_longer_than_its_blocks() -> None:
    content, expected = stored(ENCODINGS["scaled"], 40)
    tensor = encoded(("t",), (40,), ENCODINGS["scaled"], Storage(Memory(content + b"xx"), 0, len(content) + 2))
    np.testing.assert_array_equal(values(tensor), expected)
    assert tensor.stored_bytes == 68


@pytest.mark.parametrize("shape", [(-1,), (-2, -2), (4, -1)])
def test_a_negative_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(TensorError, match="its size is negative"):
        encoded(("t",), shape, ENCODINGS["scaled"], Storage(Memory(bytes(340)), 0, 340))


def test_a_rank_beyond_the_limit_is_refused() -> None:
    with pytest.raises(TensorError, match="it has 65 dimensions, more than the 64"):
        encoded(("t",), (1,) * 65, ENCODINGS["scaled"], Storage(Memory(bytes(34)), 0, 34))


def test_scales_that_are_no_numbers_make_no_noise() -> None:
    block = np.array([np.nan, np.inf], "<f2").reshape(2, 1).view(np.uint8)
    raw = np.concatenate((block, np.full((2, 32), 100, np.uint8)), axis=1).tobytes()
    tensor = encoded(("t",), (64,), ENCODINGS["scaled"], Storage(Memory(raw), 0, 68))
    [found] = measure([tensor])
    assert not isinstance(found, str)
    assert found.nonfinite == 64


def test_what_a_tensor_is_used_for_is_kept() -> None:
    use = Use("linear", "OI", "because")
    tensor = encoded(("t",), (2, 16), ENCODINGS["scaled"], Storage(Memory(bytes(34)), 0, 34), use)
    assert tensor.use == use


def test_blocks_that_several_steps_lie_in_are_read_once_and_forwards() -> None:
    encoding = Encoding("wide", 100_000, 100_000, numbered)
    content, expected = stored(encoding, 500_000)
    memory = Memory(content)
    tensor = encoded(("t",), (500_000,), encoding, Storage(memory, 0, len(content)))
    np.testing.assert_array_equal(values(tensor), expected)
    assert [start for start, _ in memory.read] == [0, *(end for _, end in memory.read[:-1])]
