"""A checkpoint is read no more than its bytes warrant, whatever its tensors claim to show."""

import json
import zipfile
from pathlib import Path

import pytest
from makers import Memory, Stored, entry, floats, pickled, safetensors_file, view, zip_file

import weightstats
from weightstats.budget import beyond_budget
from weightstats.errors import CheckpointError, UsageError
from weightstats.limits import changed_limits
from weightstats.tensors import Storage, make_tensor

SMALL = {"expanded_bytes": 0, "expansion": 2}


def storage(elements: int, *, sequential: bool = False) -> Storage:
    return Storage(Memory(bytes(4 * elements), sequential), 0, 4 * elements)


def test_whole_storages_are_always_within_the_budget() -> None:
    tensors = [make_tensor((str(index),), (10,), "F32", storage(10)) for index in range(50)]
    with changed_limits({"expanded_bytes": 0, "expansion": 1}):
        assert beyond_budget(tensors, 50 * 40) == {}


def test_views_beyond_the_budget_are_refused_and_those_within_it_are_not() -> None:
    shared = storage(10)
    tensors = [make_tensor((str(index),), (8,), "F32", shared, offset=index % 3) for index in range(5)]
    with changed_limits(SMALL):
        refused = beyond_budget(tensors, 40)
    assert [*refused] == [2, 3, 4]
    assert "more than the 0 that --limit expanded_bytes=N sets" in refused[2]


def test_a_view_of_a_compressed_storage_costs_what_lies_before_it() -> None:
    tensors = [make_tensor(("a",), (1,), "F32", storage(10, sequential=True), offset=9)]
    with changed_limits({"expanded_bytes": 39, "expansion": 0}):
        assert [*beyond_budget(tensors, 40)] == [0]
    with changed_limits({"expanded_bytes": 40, "expansion": 0}):
        assert beyond_budget(tensors, 40) == {}


def test_a_tensor_without_elements_costs_nothing() -> None:
    with changed_limits({"expanded_bytes": 0, "expansion": 0}):
        assert beyond_budget([make_tensor(("a",), (0, 5), "F32", storage(0))], 0) == {}


def test_a_storage_that_inflates_beyond_the_budget_is_unread_and_the_rest_is_read(tmp_path: Path) -> None:
    zeros = 500 * 1000
    tensors = {"bomb.weight": view(Stored("0", zeros), [500, 1000]), "small.weight": view(Stored("1", 6), [2, 3])}
    content = zip_file(
        pickled(tensors), {"0": bytes(4 * zeros), "1": floats(1, 2, 3, 4, 5, 6)}, method=zipfile.ZIP_DEFLATED
    )
    (tmp_path / "f").write_bytes(content)
    report = weightstats.inspect(str(tmp_path / "f"), limits={"expanded_bytes": 1_000_000})
    assert [layer.name for layer in report.layers] == ["small.weight"]
    assert [(entry.name, "--limit expanded_bytes" in entry.reason) for entry in report.unread] == [
        ("bomb.weight", True)
    ]
    assert len(weightstats.inspect(str(tmp_path / "f")).layers) == 2


def crowded(tensors: int) -> bytes:
    header = {f"t{index}": entry("F32", [1], 4 * index, 4 * index + 4) for index in range(tensors)}
    return safetensors_file(json.dumps(header).encode(), bytes(4 * tensors))


def test_a_crowd_of_tiny_tensors_is_refused_by_the_limit_s_name(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(crowded(11))
    limits = {"crowded_tensors": 10}
    with pytest.raises(CheckpointError, match=r"has 11 tensors in .* bytes, more than the 10 that --limit"):
        weightstats.inspect(str(tmp_path / "f"), limits=limits)
    assert weightstats.inspect(str(tmp_path / "f"), limits=limits | {"crowded_bytes": 1}).checkpoint.tensors == 11


def test_a_limit_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no limit 'pickles'; there are safetensors_header_bytes, "):
        weightstats.inspect(str(tmp_path), limits={"pickles": 1})


def test_a_changed_limit_is_over_when_the_call_is(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(crowded(3))
    with pytest.raises(CheckpointError, match="--limit tensors=N"):
        weightstats.inspect(str(tmp_path / "f"), limits={"tensors": 2})
    assert weightstats.inspect(str(tmp_path / "f")).checkpoint.tensors == 3
