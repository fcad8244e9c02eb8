"""Equinox's files of leaves: arrays one behind the other, with a line of JSON before them or not."""

import contextlib
import io
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from makers import ending_soon, named_values, opened, reasons, values
from published import published

from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits
from weightstats.readers import open_checkpoint


def leaves(*arrays: Any, line: bytes = b"") -> bytes:
    """What equinox.tree_serialise_leaves writes (it calls numpy.save for each leaf), behind a line of JSON."""
    stream = io.BytesIO()
    stream.write(line)
    for array in arrays:
        np.save(stream, array)
    return stream.getvalue()


LINE = b'{"width": 3, "depth": 2}\n'
MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("line", [b"", LINE, b"[1, 2]\n"], ids=["no line", "an object", "a list"])
def test_leaves_are_read_in_their_order_with_or_without_a_line_of_hyperparameters(tmp_path: Path, line: bytes) -> None:
    content = leaves(MATRIX, np.ones(2, np.float32), 0.5, 3, True, np.zeros((0, 2)), line=line)
    checkpoint = opened(tmp_path / "f", content)
    assert (checkpoint.format, checkpoint.unread, checkpoint.damage) == ("Equinox", (), None)
    assert named_values(checkpoint) == {
        "leaf_0": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "leaf_1": [1.0, 1.0],
        "leaf_2": [0.5],
        "leaf_3": [3.0],
        "leaf_4": [1.0],
        "leaf_5": [],
    }
    assert [tensor.shape for tensor in checkpoint.tensors] == [(2, 3), (2,), (), (), (), (0, 2)]


def test_one_leaf_behind_a_line_is_enough_and_without_a_line_it_is_a_numpy_array(tmp_path: Path) -> None:
    assert opened(tmp_path / "f", leaves(MATRIX, line=LINE)).format == "Equinox"
    assert opened(tmp_path / "f", leaves(MATRIX)).format == "NumPy array"


def test_bfloat16_leaves_are_read(tmp_path: Path) -> None:
    stored = np.array([1, -2.5], ml_dtypes.bfloat16)
    checkpoint = opened(tmp_path / "f", leaves(stored, MATRIX))
    assert named_values(checkpoint)["leaf_0"] == [1.0, -2.5]
    assert checkpoint.tensors[0].dtype.name == "BF16"


def test_a_leaf_that_holds_no_numbers_is_unread_and_those_behind_it_are_read(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "f", leaves(MATRIX, np.array(["ab"]), np.ones(1)))
    assert [tensor.name for tensor in checkpoint.tensors] == ["leaf_0", "leaf_2"]
    assert reasons(checkpoint) == {"leaf_1": "its elements are texts ('<U2')"}


def test_behind_pickled_objects_nothing_can_be_found_and_the_damage_says_so(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "f", leaves(MATRIX, np.array([None]), np.ones(1)))
    assert [tensor.name for tensor in checkpoint.tensors] == ["leaf_0"]
    assert reasons(checkpoint) == {"leaf_1": "its elements are pickled objects, which are never loaded"}
    assert checkpoint.damage is not None
    assert checkpoint.damage.startswith("what follows leaf_1 was not read")


def test_a_convolution_of_one_dimension_is_known_by_the_bias_behind_it(tmp_path: Path) -> None:
    shapes = [(8, 4, 3), (8, 1), (5, 4, 3), (5,), (8, 4, 3, 3), (8, 1, 1)]
    checkpoint = opened(tmp_path / "f", leaves(*(np.ones(shape, np.float32) for shape in shapes)))
    uses = [tensor.use and (tensor.use.kind, tensor.use.axes) for tensor in checkpoint.tensors]
    assert uses == [("conv1d", "OIK"), None, None, None, None, None]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (leaves(MATRIX, MATRIX) + b"x", r"of the array at byte 304 \(number 2\), it ends within its numpy header"),
        (leaves(MATRIX, MATRIX) + b"something", "it does not start like a numpy array"),
        (leaves(MATRIX, MATRIX)[:-1], "is truncated: array number 1 describes 24 bytes of elements, there are 23"),
        (LINE + leaves(MATRIX)[:-30], "ends within its numpy header|is truncated"),
    ],
    ids=["a byte", "a text", "a cut array", "a cut header"],
)
def test_what_is_neither_an_array_nor_the_end_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        opened(tmp_path / "f", content)


def test_more_arrays_than_the_limit_are_refused(tmp_path: Path) -> None:
    with changed_limits({"tensors": 3}), pytest.raises(CheckpointError, match="--limit tensors=N"):
        opened(tmp_path / "f", leaves(*range(4)))


def test_json_without_arrays_is_not_equinox(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a JSON document"):
        opened(tmp_path / "f", LINE + b'{"more": 1}\n')


def test_a_file_that_is_cut_is_refused_or_holds_the_arrays_before_the_cut(tmp_path: Path) -> None:
    content = leaves(MATRIX, np.ones(2, np.float32), np.zeros(1), line=LINE)
    whole = named_values(opened(tmp_path / "f", content))
    between = 0
    for length in range(1, len(content)):
        try:
            checkpoint = opened(tmp_path / "f", content[:length])
        except CheckpointError:
            continue
        between += 1
        found = named_values(checkpoint)
        assert found == {name: whole[name] for name in found}
    assert between == 2  # the format does not say how many arrays there are: both cuts are just behind one


def test_damage_is_refused_or_listed_and_nothing_else_escapes(tmp_path: Path) -> None:
    content, chance = leaves(MATRIX, np.ones(2), line=LINE), np.random.default_rng(6)
    with ending_soon(30):
        for _ in range(1000):
            damaged = bytearray(content)
            for _ in range(chance.choice((1, 1, 2, 5))):
                damaged[chance.integers(len(damaged))] = chance.integers(256)
            with contextlib.suppress(CheckpointError):
                for tensor in opened(tmp_path / "f", bytes(damaged)).tensors:
                    values(tensor)


def test_the_published_network_of_expaloma_is_read_as_numpy_reads_it() -> None:
    digest = "a7fa565aca2961b2f960b62801025e9426ca3a4f3536194a424bbf9a4ea44993"
    path = published("expaloma", "0.1.0", "expaloma/weights/espaloma_v0_0_8.eqx", digest)
    checkpoint = open_checkpoint(str(path))
    assert (checkpoint.format, len(checkpoint.tensors), checkpoint.unread) == ("Equinox", 16, ())
    with path.open("rb") as stream:
        for tensor in checkpoint.tensors:
            array = np.load(stream, allow_pickle=False)
            assert tensor.shape == array.shape
            assert values(tensor).tolist() == array.reshape(-1).tolist()
        assert stream.read() == b""
