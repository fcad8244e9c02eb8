"""Folders, indices and paths that lie: nothing outside is opened, nothing waits, and what is missing is listed."""
# ruff: noqa: N802 - the id of a case is part of the test's name

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from bounded import run_bounded
from makers import ending_soon, entry, floats, named_values, opened, reasons, safetensors_file, values

from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits
from weightstats.moments import measure
from weightstats.readers import open_checkpoint

INDEX = "model.safetensors.index.json"


def shard(**numbers: float) -> bytes:
    """A safetensors file with one number a name."""
    header = {name: entry("F32", [1], 4 * at, 4 * at + 4) for at, name in enumerate(numbers)}
    return safetensors_file(header, floats(*numbers.values()))


def index(weight_map: Any, **more: Any) -> bytes:
    return json.dumps({"metadata": {"total_size": 4}, "weight_map": weight_map} | more).encode()


def folder(path: Path, weight_map: Any, **files: bytes) -> Path:
    """A folder with an index and files, the first shard of which has a = 1."""
    path.mkdir(exist_ok=True)
    (path / INDEX).write_bytes(index(weight_map))
    for name, content in ({"first": shard(a=1.0)} | files).items():
        (path / name).write_bytes(content)
    return path


def only_a(checkpoint: Checkpoint) -> dict[str, str]:
    """Why the others cannot be read, where `a` is and is exact."""
    assert named_values(checkpoint) == {"a": [1.0]}
    return reasons(checkpoint)


def refused(path: Path) -> str:
    with ending_soon(), pytest.raises(CheckpointError) as caught:
        open_checkpoint(str(path))
    assert str(caught.value).isprintable()
    return caught.value.problem


OUTSIDE = (
    *("../outside", "/etc/passwd", "sub/../../outside", "sub/../outside", "..", "C:\\x", "C:/x", "\\\\host\\share\\x"),
    *("http://host/x", "file:///etc/passwd", "a\0b", "", "//etc/passwd", "..\\outside", "sub\\..\\..\\outside"),
)


@pytest.fixture
def opened_paths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every path that is opened from now on."""
    seen: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: seen.append(str(path)) or real(path, *rest, **more))
    return seen


@pytest.mark.parametrize("name", OUTSIDE, ids=lambda name: f"P1 {name!r}")
def test_P1_a_shard_outside_the_folder_is_never_opened(tmp_path: Path, opened_paths: list[str], name: str) -> None:
    (tmp_path / "outside").write_bytes(shard(b=2.0))
    home = folder(tmp_path / "home", {"a": "first", "b": name})
    (home / "sub").mkdir()
    found = only_a(open_checkpoint(str(home)))
    assert "names a file outside its own folder" in found["b"]
    assert {os.path.dirname(path) for path in opened_paths} == {str(home)}


@pytest.mark.parametrize("name", OUTSIDE, ids=lambda name: f"P1 {name!r}")
def test_P1_an_index_of_nothing_but_files_outside_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_bytes(shard(b=2.0))
    assert "names a file outside its own folder" in refused(folder(tmp_path / "home", {"b": name}))


def test_P2_a_link_out_of_the_folder_is_never_opened(tmp_path: Path, opened_paths: list[str]) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_bytes(shard(b=2.0))
    home = folder(tmp_path / "home", {"a": "first", "b": "file", "c": "sub/x", "d": "twice"})
    (home / "file").symlink_to("../other/x")
    (home / "sub").symlink_to("../other")
    (home / "twice").symlink_to("file")
    found = only_a(open_checkpoint(str(home)))
    assert list(found) == ["b", "c", "d"]
    assert all("is a link out of its own folder" in reason for reason in found.values())
    assert len(opened_paths) == 2


def test_P2_a_loop_of_links_is_not_followed_for_ever(tmp_path: Path) -> None:
    home = folder(tmp_path / "home", {"a": "first", "b": "one", "c": "self/x"})
    (home / "one").symlink_to("two")
    (home / "two").symlink_to("one")
    (home / "self").symlink_to("self")
    with ending_soon():
        assert list(only_a(open_checkpoint(str(home)))) == ["b", "c"]


def test_P3_a_hard_link_is_a_file_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(shard(b=2.0))
    home = folder(tmp_path / "home", {"a": "first", "b": "second"})
    (home / "second").hardlink_to(tmp_path / "other")
    assert named_values(open_checkpoint(str(home))) == {"a": [1.0], "b": [2.0]}


def unusual(path: Path, kind: str) -> None:
    """Something at the path that is no file."""
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "socket":
            before = Path.cwd()
            os.chdir(path.parent)  # the path of a socket must be short
            try:
                with socket.socket(socket.AF_UNIX) as server:
                    server.bind(path.name)
            finally:
                os.chdir(before)


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket"])
def test_P4_what_is_no_file_costs_its_tensors_without_waiting(tmp_path: Path, kind: str) -> None:
    home = folder(tmp_path / "home", {"a": "first", "b": "odd"})
    unusual(home / "odd", kind)
    with ending_soon():
        found = only_a(open_checkpoint(str(home)))
    assert "is not a regular file" in found["b"] or "cannot be opened" in found["b"]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
@pytest.mark.parametrize("name", ["x.pt", "model.safetensors", INDEX])
def test_P4_what_is_no_file_is_refused_without_waiting(tmp_path: Path, kind: str, name: str) -> None:
    unusual(tmp_path / name, kind)
    for path in (tmp_path / name, tmp_path):
        assert "is not a regular file" in (problem := refused(path)) or "cannot be opened" in problem


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/random", "/dev/tty"])
def test_P4_a_device_is_refused_without_reading_it(device: str) -> None:
    assert "is not a regular file" in (problem := refused(Path(device))) or "cannot be opened" in problem


def cached(model: Path) -> Path:
    """A snapshot of the Hugging Face cache: index and shard are links into the model's blobs."""
    snapshot = model / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (model / "blobs").mkdir()
    (model / "blobs" / "1").write_bytes(shard(a=1.0))
    (model / "blobs" / "2").write_bytes(index({"a": "first"}))
    (snapshot / "first").symlink_to("../../blobs/1")
    (snapshot / INDEX).symlink_to("../../blobs/2")
    return snapshot


def test_P5_a_snapshot_of_the_cache_is_read(tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "models--x--y")
    for path in (snapshot, snapshot / INDEX, snapshot / "first"):
        assert named_values(open_checkpoint(str(path))) == {"a": [1.0]}


def test_P5_a_snapshot_that_leads_to_another_model_s_blobs_is_refused(tmp_path: Path) -> None:
    cached(tmp_path / "models--x--z")
    snapshot = cached(tmp_path / "models--x--y")
    (snapshot / "first").unlink()
    (snapshot / "first").symlink_to("../../../models--x--z/blobs/1")
    assert "is a link out of its own folder" in refused(snapshot)


@pytest.mark.parametrize("model", ["y", "datasets--x--y"])
def test_P5_a_folder_that_only_looks_like_the_cache_is_refused(tmp_path: Path, model: str) -> None:
    assert "is a link out of its own folder" in refused(cached(tmp_path / model))


def test_P6_a_file_that_is_replaced_after_it_was_opened_is_read_as_it_was(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "f", shard(a=1.0))
    (tmp_path / "new").write_bytes(shard(a=2.0))
    (tmp_path / "new").replace(tmp_path / "f")
    assert named_values(checkpoint) == {"a": [1.0]}


def test_P7_a_file_that_shrinks_while_it_is_read_costs_its_tensor(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "f", shard(a=1.0, b=2.0))
    os.truncate(tmp_path / "f", (tmp_path / "f").stat().st_size - 4)
    first, second = measure(checkpoint.tensors)
    assert not isinstance(first, str)
    assert first.max_abs == 1.0
    assert isinstance(second, str)
    assert "before the data that it promises" in second


# P8: what an index says and what is there


def test_P8_what_the_index_and_the_shards_disagree_on_is_listed(tmp_path: Path) -> None:
    where = {"a": "first", "b": "second", "gone": "first", "lost": "third", "twice": "second"}
    home = folder(tmp_path / "home", where, second=shard(b=2.0, twice=3.0, more=4.0), fourth=shard(x=5.0))
    (home / "first").write_bytes(shard(a=1.0, twice=9.0))
    checkpoint = open_checkpoint(str(home))
    assert named_values(checkpoint) == {"a": [1.0], "b": [2.0], "more": [4.0]}
    assert reasons(checkpoint) == {
        "gone": "the index places it in first, which does not hold it",
        "lost": "its shard third: there is no such file or folder",
        "twice": "2 shards hold it",
    }
    assert any("in the shards but not in the index: more" in warning for warning in checkpoint.warnings)


@pytest.mark.parametrize("size", [0, -1, 2**70, "x", None, [1], 1e400])
def test_P8_a_total_size_that_lies_is_of_no_consequence(tmp_path: Path, size: Any) -> None:
    home = folder(tmp_path / "home", {"a": "first"})
    text = json.dumps({"metadata": {"total_size": "HERE"}, "weight_map": {"a": "first"}})
    written = "1e400" if size == 1e400 else json.dumps(size)
    (home / INDEX).write_text(text.replace('"HERE"', written))
    assert only_a(open_checkpoint(str(home))) == {}


@pytest.mark.parametrize("weight_map", [[], "x", 1, None, {"a": 1}, {"a": None}, {"a": ["first"]}, {"a": {}}, {}])
def test_P8_a_map_that_is_none_is_refused(tmp_path: Path, weight_map: Any) -> None:
    problem = refused(folder(tmp_path / "home", weight_map))
    assert 'it has no "weight_map" of tensor to file names' in problem or "names no tensor" in problem


@pytest.mark.parametrize("text", [b'{"weight_map": ' + b"[" * 10**5, b'{"weight_map": {"a": NaN}}', b'{"weight_map"'])
def test_P8_an_index_that_is_not_json_is_refused(tmp_path: Path, text: bytes) -> None:
    home = folder(tmp_path / "home", {})
    (home / INDEX).write_bytes(text)
    assert "its JSON cannot be read" in refused(home)


@pytest.mark.parametrize("count", [1_000_000, 400_000])
def test_P8_an_index_of_very_many_tensors_is_refused_within_the_bounds(tmp_path: Path, count: int) -> None:
    home = folder(tmp_path / "home", {"a": "first"} | {f"{number:x}": "first" for number in range(count)})
    size = (home / INDEX).stat().st_size
    result = run_bounded([home], size, size)
    assert result.code == 3
    assert "--limit " in result.err


def test_P8_an_index_of_as_many_tensors_as_are_allowed_lists_them_within_the_bounds(tmp_path: Path) -> None:
    home = folder(tmp_path / "home", {"a": "first"} | {f"{number:x}x": "first" for number in range(4_999)})
    size = (home / INDEX).stat().st_size
    result = run_bounded([home], size, size)
    assert (result.code, len(result.unread)) == (0, 4_999)


@pytest.mark.parametrize("count", [100_000, 4_000])
def test_P8_an_index_of_very_many_missing_shards_ends_within_the_bounds(tmp_path: Path, count: int) -> None:
    home = folder(tmp_path / "home", {"a": "first"} | {f"{number:x}x": f"{number:x}.bin" for number in range(count)})
    size = (home / INDEX).stat().st_size
    result = run_bounded([home], size, size)
    if count > 4_096:
        assert result.code == 3
        assert "has 100,001 shards, more than the 4,096 that --limit shards=N sets" in result.err
    else:
        assert (result.code, len(result.unread)) == (0, count)


# P9, P10


def test_P9_of_safetensors_and_a_pickle_the_safetensors_are_read(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(shard(a=1.0))
    (tmp_path / "pytorch_model.bin").write_bytes(shard(b=2.0))
    assert named_values(open_checkpoint(str(tmp_path))) == {"a": [1.0]}


def test_P9_an_index_whose_files_are_all_missing_is_refused_rather_than_replaced_by_another(tmp_path: Path) -> None:
    home = folder(tmp_path / "home", {"a": "gone"})
    (home / "pytorch_model.bin").write_bytes(shard(b=2.0))
    assert "none of its files can be read; the first, gone: there is no such file" in refused(home)


def test_P9_several_checkpoints_without_a_well_known_name_are_refused_and_named(tmp_path: Path) -> None:
    for name in ("one.safetensors", "two.bin"):
        (tmp_path / name).write_bytes(shard(a=1.0))
    assert refused(tmp_path) == "holds several checkpoints; name one of them: one.safetensors, two.bin"


def test_P10_names_that_differ_in_case_are_different(tmp_path: Path) -> None:
    home = folder(tmp_path / "home", {"a": "first", "A": "First"}, First=shard(A=2.0))
    assert named_values(open_checkpoint(str(home))) == {"a": [1.0], "A": [2.0]}


def test_P10_names_that_look_alike_are_different(tmp_path: Path) -> None:
    home = folder(tmp_path / "home", {"\u00e9": "first", "e\u0301": "first"})
    (home / "first").write_bytes(shard(**dict(zip(("\u00e9", "e\u0301"), (1.0, 2.0), strict=True))))
    assert named_values(open_checkpoint(str(home))) == {"\u00e9": [1.0], "e\u0301": [2.0]}


# P11: files that the system does not give (the output's are among the tests of the command line)


def test_P11_a_file_that_may_not_be_read_is_refused_with_the_system_s_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(shard(a=1.0))

    def fail(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", fail)
    assert refused(tmp_path / "f") == "cannot be opened: Permission denied"


def test_P11_a_shard_that_cannot_be_read_on_the_way_costs_its_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(str(folder(tmp_path / "home", {"a": "first"})))

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(CheckpointError, match="reading failed: Input/output error"):
        values(checkpoint.tensors[0])
    assert measure(checkpoint.tensors) == ["reading failed: Input/output error"]


# P12


def test_P12_a_folder_of_very_many_files_is_refused_within_the_bounds(tmp_path: Path) -> None:
    names = [f"model-{number:06}-of-100000.safetensors" for number in range(1, 100_001)]
    for name in names:
        os.close(os.open(tmp_path / name, os.O_CREAT | os.O_WRONLY))
    size = sum(map(len, names))
    result = run_bounded([tmp_path], 0, size)
    assert result.code == 3
    assert "has 100,000 shards, more than the 4,096 that --limit shards=N sets" in result.err
    (tmp_path / "one more").touch()
    result = run_bounded([tmp_path], 0, size)
    assert "is a folder of more than the 100,000 that --limit folder_entries=N sets entries" in result.err


def test_P12_folders_in_folders_are_not_gone_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path
    for _ in range(200):
        deep = deep / "x"
        deep.mkdir()
    for number in range(2_000):
        (tmp_path / f"sub{number}").mkdir()
    listed: list[object] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or real(path))
    assert "is a folder with no checkpoint in it" in refused(tmp_path)
    assert listed == [tmp_path]


def test_P12_a_folder_of_shards_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"x-{number}-of-3.safetensors").write_bytes(shard(**{f"t{number}": 1.0}))
    assert len(open_checkpoint(str(tmp_path)).tensors) == 3
    with changed_limits({"shards": 2}):
        assert refused(tmp_path) == "has 3 shards, more than the 2 that --limit shards=N sets"
