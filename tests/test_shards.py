"""Checkpoints of several files: by an index, by their numbers, in a folder; what is missing is listed."""

import json
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from makers import Stored, entry, floats, named_values, opened, pickled, reasons, safetensors_file, view, zip_file

from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits
from weightstats.readers import open_checkpoint, read_file, shards
from weightstats.readers.shards import PREFERRED, SUFFIXES


def safetensors_shard(**numbers: float) -> bytes:
    """A safetensors file with one float a name."""
    header = {name: entry("F32", [1], 4 * at, 4 * at + 4) for at, name in enumerate(numbers)}
    return safetensors_file(header, floats(*numbers.values()))


def torch_shard(**numbers: float) -> bytes:
    """A torch zip with one float a name."""
    tensors = {name: view(Stored(str(at), 1), [1]) for at, name in enumerate(numbers)}
    return zip_file(pickled(tensors), {str(at): floats(number) for at, number in enumerate(numbers.values())})


def index(weight_map: Any) -> bytes:
    return json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}).encode()


def written(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


TWO_SHARDS = {
    "model-00001-of-00002.safetensors": safetensors_shard(a=1.0, b=2.0),
    "model-00002-of-00002.safetensors": safetensors_shard(c=3.0),
}
TWO_MAP = {"a": "model-00001-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"} | {
    "c": "model-00002-of-00002.safetensors"
}
INDEX = "model.safetensors.index.json"


def with_index(path: Path, weight_map: Any = TWO_MAP, **more: bytes) -> Path:
    """A folder with two shards and an index."""
    return written(path, TWO_SHARDS | {INDEX: index(weight_map)} | more)


# Whole checkpoints


@pytest.mark.parametrize("shard", [safetensors_shard, torch_shard], ids=["safetensors", "torch"])
@pytest.mark.parametrize("at", ["index", "folder"])
def test_the_shards_of_an_index_are_one_checkpoint(tmp_path: Path, shard: Callable[..., bytes], at: str) -> None:
    files = {"part-1.bin": shard(a=1.0, b=2.0), "part-2.bin": shard(c=3.0)}
    weight_map = {"a": "part-1.bin", "b": "part-1.bin", "c": "part-2.bin"}
    written(tmp_path, files | {"pytorch_model.bin.index.json": index(weight_map)})
    location = tmp_path / "pytorch_model.bin.index.json" if at == "index" else tmp_path
    checkpoint = open_checkpoint(str(location))
    assert named_values(checkpoint) == {"a": [1.0], "b": [2.0], "c": [3.0]}
    assert (checkpoint.unread, checkpoint.warnings) == ((), ())
    assert checkpoint.location == str(location)
    assert checkpoint.format == ("safetensors" if shard is safetensors_shard else "torch zip") + ", 2 shards"
    assert checkpoint.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_shards_may_be_of_different_formats(tmp_path: Path) -> None:
    files = {"1": safetensors_shard(a=1.0), "2": torch_shard(b=2.0), "i.json": index({"a": "1", "b": "2"})}
    checkpoint = open_checkpoint(str(written(tmp_path, files) / "i.json"))
    assert named_values(checkpoint) == {"a": [1.0], "b": [2.0]}
    assert checkpoint.format == "safetensors and torch zip, 2 shards"


@pytest.mark.parametrize("name", [name for name in PREFERRED if not name.endswith(".json")])
def test_a_folder_with_a_file_of_a_well_known_name_is_that_checkpoint(tmp_path: Path, name: str) -> None:
    others = {"zzz.pt": torch_shard(z=1.0), "optimizer.bin": torch_shard(o=1.0)}
    checkpoint = open_checkpoint(str(written(tmp_path, others | {name: safetensors_shard(a=1.0)})))
    assert named_values(checkpoint) == {"a": [1.0]}
    assert checkpoint.format == "safetensors"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_with_one_file_of_weights_is_that_checkpoint(tmp_path: Path, suffix: str) -> None:
    others = {"config.json": b"{}", "optimizer.pt": b"x", "scheduler.pt": b"x", "training_args.bin": b"x", "a.txt": b""}
    folder = written(tmp_path, others | {f"net{suffix}": torch_shard(a=1.0)})
    assert named_values(open_checkpoint(str(folder))) == {"a": [1.0]}


def test_the_index_comes_before_the_files_and_safetensors_before_pickles(tmp_path: Path) -> None:
    more = {"model.safetensors": safetensors_shard(x=9.0), "pytorch_model.bin": torch_shard(y=9.0)}
    assert named_values(open_checkpoint(str(with_index(tmp_path, **more)))).keys() == {"a", "b", "c"}
    (tmp_path / INDEX).unlink()
    assert named_values(open_checkpoint(str(tmp_path))).keys() == {"x"}
    (tmp_path / "model.safetensors").unlink()
    assert named_values(open_checkpoint(str(tmp_path))).keys() == {"y"}


def test_an_index_of_another_name_is_found_where_it_is_the_only_one(tmp_path: Path) -> None:
    files = TWO_SHARDS | {"model.fp16.safetensors.index.json": index(TWO_MAP)}
    assert len(open_checkpoint(str(written(tmp_path, files))).tensors) == 3


def test_numbered_shards_without_an_index_are_one_checkpoint(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(written(tmp_path, TWO_SHARDS)))
    assert named_values(checkpoint) == {"a": [1.0], "b": [2.0], "c": [3.0]}
    assert checkpoint.warnings == ()


@pytest.mark.parametrize("missing", TWO_SHARDS)
def test_numbered_shards_that_are_not_all_there_are_read_with_a_warning(tmp_path: Path, missing: str) -> None:
    checkpoint = open_checkpoint(str(written(tmp_path, {k: v for k, v in TWO_SHARDS.items() if k != missing})))
    assert checkpoint.warnings == ("only 1 of 2 numbered shards are there",)


EARLY = {f"layers.{layer}.weight": 1.0 for layer in (0, 10, 2, 4, 6, 8)}
LATE = {f"layers.{layer}.weight": 1.0 for layer in (1, 11, 3, 5, 7, 9)}


def in_two_shards(path: Path, shard: Callable[..., bytes], *parts: dict[str, float]) -> list[str]:
    """The names as read, of a folder with these shards."""
    files = {str(number): shard(**part) for number, part in enumerate(parts)}
    weight_map = {name: str(number) for number, part in enumerate(parts) for name in part}
    checkpoint = open_checkpoint(str(written(path, files | {INDEX: index(weight_map)})))
    return [tensor.name for tensor in checkpoint.tensors]


def test_layers_of_sorted_safetensors_shards_come_in_natural_order(tmp_path: Path) -> None:
    names = in_two_shards(tmp_path, safetensors_shard, EARLY, LATE)
    assert names == [f"layers.{layer}.weight" for layer in range(12)]


@pytest.mark.parametrize(
    ("shard", "first"),
    [
        pytest.param(safetensors_shard, {"stem": 1.0, **EARLY, "head": 1.0}, id="safetensors that are not sorted"),
        pytest.param(torch_shard, EARLY, id="torch"),
    ],
)
def test_layers_of_other_shards_keep_the_order_of_the_files(
    tmp_path: Path, shard: Callable[..., bytes], first: dict[str, float]
) -> None:
    assert in_two_shards(tmp_path, shard, first, LATE) == [*first, *LATE]


def test_shards_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    files = {f"m-{number}-of-12.bin": torch_shard(**{name: 1.0}) for number, name in enumerate("zyxwvutsrqpo", 1)}
    assert [tensor.name for tensor in open_checkpoint(str(written(tmp_path, files))).tensors] == [*"zyxwvutsrqpo"]


def test_tied_tensors_within_a_shard_stay_tied(tmp_path: Path) -> None:
    shared = {"a": view(Stored("0", 2), [2]), "b": view(Stored("0", 2), [2])}
    files = {"1": zip_file(pickled(shared), {"0": floats(1, 2)}), "2": torch_shard(c=1.0)}
    folder = written(tmp_path, files | {INDEX: index({"a": "1", "b": "1", "c": "2"})})
    found = {tensor.name: tensor.view for tensor in open_checkpoint(str(folder)).tensors}
    assert found["a"] == found["b"] != found["c"]


def test_what_the_shards_name_and_warn_of_is_kept(tmp_path: Path) -> None:
    doubled = pickled({"first": view(Stored("0", 1), [1]), "secnd": view(Stored("0", 1), [1]), "x": Fraction})
    files = {"1": zip_file(doubled.replace(b"secnd", b"first"), {"0": floats(1)}), "2": torch_shard(b=1.0)}
    checkpoint = open_checkpoint(str(written(tmp_path, files | {INDEX: index({"first": "1", "b": "2"})})))
    assert checkpoint.warnings == ("the key first is written more than once; the last one counts",)
    assert checkpoint.objects_not_loaded == ("fractions.Fraction",)


# Folders without one checkpoint


def test_a_folder_with_several_checkpoints_names_them(tmp_path: Path) -> None:
    folder = written(tmp_path, {"b.pt": torch_shard(a=1.0), "a.ckpt": torch_shard(a=1.0)})
    with pytest.raises(CheckpointError, match=r"holds several checkpoints; name one of them: a\.ckpt, b\.pt$"):
        open_checkpoint(str(folder))


def test_of_many_checkpoints_some_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    folder = written(tmp_path, {f"epoch{number}.pt": b"" for number in range(9)})
    with pytest.raises(CheckpointError, match=r"epoch0\.pt, .*, epoch4\.pt and 4 more$"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({"other-1-of-2.safetensors": b""}, id="another stem"),
        pytest.param({"model-1-of-3.safetensors": b""}, id="another count"),
        pytest.param({"model-1-of-2.bin": b""}, id="another suffix"),
        pytest.param({"extra.pt": b""}, id="a file without a number"),
    ],
)
def test_numbered_shards_of_two_sets_are_several_checkpoints(tmp_path: Path, others: dict[str, bytes]) -> None:
    with pytest.raises(CheckpointError, match="holds several checkpoints"):
        open_checkpoint(str(written(tmp_path, TWO_SHARDS | others)))


def test_an_empty_folder_has_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a folder with no checkpoint in it \(nothing; looked for"):
        open_checkpoint(str(tmp_path))


def test_a_folder_of_other_things_says_what_was_looked_for(tmp_path: Path) -> None:
    folder = written(tmp_path, {"config.json": b"{}", "optimizer.pt": b"x", "notes.txt": b""})
    with pytest.raises(CheckpointError, match=r"no checkpoint in it \(3 other entries; looked for \.safetensors"):
        open_checkpoint(str(folder))


def test_a_folder_whose_subfolder_has_the_checkpoint_points_to_it(tmp_path: Path) -> None:
    written(tmp_path / "unet", {"diffusion_pytorch_model.safetensors": safetensors_shard(a=1.0)})
    written(tmp_path / "docs", {"a.txt": b""})
    with pytest.raises(CheckpointError, match="holds no checkpoint itself; there is one in its folder unet"):
        open_checkpoint(str(tmp_path))


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(CheckpointError, match="cannot be listed: Permission denied"):
        open_checkpoint(str(tmp_path))


# Damage


def test_a_missing_shard_costs_its_tensors(tmp_path: Path) -> None:
    with_index(tmp_path)
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    checkpoint = open_checkpoint(str(tmp_path))
    reason = "its shard model-00001-of-00002.safetensors: there is no such file or folder"
    assert reasons(checkpoint) == {"a": reason, "b": reason}
    assert named_values(checkpoint) == {"c": [3.0]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (safetensors_shard(a=1.0, b=2.0)[:-1], "is truncated"),
        (torch_shard(a=1.0, b=2.0)[:-1], "is a damaged zip archive"),
        (b"", "is not in a format that is read|is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (index({"a": INDEX}), "is a JSON document"),
    ],
    ids=["safetensors", "torch", "empty", "pointer", "an index"],
)
def test_a_damaged_shard_costs_its_tensors(tmp_path: Path, content: bytes, reason: str) -> None:
    with_index(tmp_path, **{"model-00001-of-00002.safetensors": content})
    checkpoint = open_checkpoint(str(tmp_path))
    assert reasons(checkpoint).keys() == {"a", "b"}
    assert all(any(part in text for part in reason.split("|")) for text in reasons(checkpoint).values())
    assert named_values(checkpoint) == {"c": [3.0]}


def test_a_shard_with_a_tensor_that_cannot_be_read_costs_that_tensor(tmp_path: Path) -> None:
    header = {"a": entry("Q7", [1], 0, 4), "b": entry("F32", [1], 4, 8)}
    with_index(tmp_path, **{"model-00001-of-00002.safetensors": safetensors_file(header, floats(0, 2))})
    checkpoint = open_checkpoint(str(tmp_path))
    assert reasons(checkpoint) == {"a": "its dtype Q7 is not one that can be read"}
    assert named_values(checkpoint) == {"b": [2.0], "c": [3.0]}


class Counting(dict[str, str]):
    """A weight map that counts how often it is gone through."""

    times = 0

    def items(self) -> Any:
        Counting.times += 1
        return super().items()


def test_many_missing_shards_do_not_each_go_through_the_whole_map(tmp_path: Path) -> None:
    weight_map = Counting({f"t{number}": f"{number}.bin" for number in range(20)}, a="there")
    names = tuple(sorted(set(weight_map.values())))
    written(tmp_path, {"there": torch_shard(a=1.0)})
    checkpoint = shards.read(None, shards.Shards(tmp_path, names, weight_map), str(tmp_path), read_file)
    assert len(checkpoint.unread) == 20
    assert Counting.times < 10


def test_where_no_shard_can_be_read_the_checkpoint_is_refused(tmp_path: Path) -> None:
    written(tmp_path, {INDEX: index(TWO_MAP)})
    with pytest.raises(
        CheckpointError, match=r"none of its files can be read; the first, model-00001-of-00002\.safetensors: there is"
    ):
        open_checkpoint(str(tmp_path))


def test_a_tensor_that_the_index_names_and_no_shard_has_is_unread(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(with_index(tmp_path, TWO_MAP | {"d": "model-00002-of-00002.safetensors"})))
    assert reasons(checkpoint) == {
        "d": "the index places it in model-00002-of-00002.safetensors, which does not hold it"
    }
    assert named_values(checkpoint).keys() == {"a", "b", "c"}


def test_a_tensor_that_the_index_does_not_name_is_read_with_a_warning(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(with_index(tmp_path, {name: TWO_MAP[name] for name in ("a", "c")})))
    assert named_values(checkpoint).keys() == {"a", "b", "c"}
    assert checkpoint.warnings == ("1 tensor is in the shards but not in the index: b",)


@pytest.mark.parametrize("indexed", [True, False])
def test_a_tensor_that_two_shards_hold_is_unread(tmp_path: Path, indexed: bool) -> None:
    files = TWO_SHARDS | {"model-00002-of-00002.safetensors": safetensors_shard(b=7.0, c=3.0)}
    checkpoint = open_checkpoint(str(written(tmp_path, files | ({INDEX: index(TWO_MAP)} if indexed else {}))))
    assert reasons(checkpoint) == {"b": "2 shards hold it"}
    assert named_values(checkpoint) == {"a": [1.0], "c": [3.0]}


def test_a_tensor_in_another_shard_than_the_index_says_is_warned_of(tmp_path: Path) -> None:
    swapped = TWO_MAP | {"a": "model-00002-of-00002.safetensors"}
    checkpoint = open_checkpoint(str(with_index(tmp_path, swapped)))
    assert checkpoint.warnings == ("1 tensor is in another shard than the index says: a",)
    assert named_values(checkpoint).keys() == {"a", "b", "c"}


# What an index may not say


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "sub/../../x.safetensors", "C:\\x", "http://host/x", "a\0b", "", "link"]
)
def test_a_shard_outside_the_folder_is_refused_and_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "x.safetensors").write_bytes(safetensors_shard(d=9.0))
    folder = with_index(tmp_path / "home", TWO_MAP | {"d": name})
    (folder / "link").symlink_to("../x.safetensors")
    seen: list[str] = []
    monkeypatch.setattr(os, "open", lambda path, *rest: seen.append(os.path.realpath(path)) or real_open(path, *rest))
    checkpoint = open_checkpoint(str(folder))
    assert list(reasons(checkpoint)) == ["d"]
    assert "outside its own folder" in reasons(checkpoint)["d"] or "link out of its own" in reasons(checkpoint)["d"]
    assert named_values(checkpoint).keys() == {"a", "b", "c"}
    home = os.path.realpath(folder)
    assert len(seen) == 3
    assert all(os.path.dirname(path) == home for path in seen)


real_open = os.open


def test_an_index_that_names_only_files_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(safetensors_shard(d=9.0))
    written(tmp_path / "home", {INDEX: index({"d": "../x.safetensors"})})
    with pytest.raises(CheckpointError, match="names a file outside its own folder"):
        open_checkpoint(str(tmp_path / "home"))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_well_known_name_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(safetensors_shard(d=9.0))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / name).symlink_to("../x")
    with pytest.raises(CheckpointError, match="is a link out of its own folder"):
        open_checkpoint(str(tmp_path / "home"))


def test_a_shard_that_is_a_pipe_costs_its_tensors(tmp_path: Path) -> None:
    with_index(tmp_path, TWO_MAP | {"d": "pipe"})
    os.mkfifo(tmp_path / "pipe")
    assert reasons(open_checkpoint(str(tmp_path))) == {"d": "its shard pipe: is not a regular file"}


def test_a_shard_whose_name_cannot_be_encoded_costs_its_tensors(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(with_index(tmp_path, TWO_MAP | {"d": "\ud800"})))
    assert list(reasons(checkpoint)) == ["d"]


def test_a_snapshot_of_the_hugging_face_cache_is_read(tmp_path: Path) -> None:
    model = tmp_path / "models--x--y"
    snapshot = model / "snapshots" / "abc"
    written(model / "blobs", {f"sha{at}": content for at, content in enumerate(TWO_SHARDS.values())})
    (model / "blobs" / "shaindex").write_bytes(index(TWO_MAP))
    snapshot.mkdir(parents=True)
    for name, blob in {**dict(zip(TWO_SHARDS, ("sha0", "sha1"), strict=True)), INDEX: "shaindex"}.items():
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    for location in (snapshot, snapshot / INDEX):
        assert named_values(open_checkpoint(str(location))) == {"a": [1.0], "b": [2.0], "c": [3.0]}


NO_MAP = 'it has no "weight_map" of tensor to file names'


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{}", NO_MAP),
        (b"[]", "is not in a format that is read"),
        (b'{"weight_map": null}', NO_MAP),
        (b'{"weight_map": ["a"]}', NO_MAP),
        (b'{"weight_map": "a"}', NO_MAP),
        (b'{"weight_map": {"a": 1}}', NO_MAP),
        (b'{"weight_map": {"a": null}}', NO_MAP),
        (b'{"weight_map": {"a": ["b"]}}', NO_MAP),
        (b'{"weight_map": {}}', "is a shard index that names no tensor"),
        (b'{"weight_map": {"a": "1", "a": "2"}}', "its JSON cannot be read: the key 'a' is there twice"),
        (
            b'{"weight_map": {"a": "1"}, "weight_map": {}}',
            "its JSON cannot be read: the key 'weight_map' is there twice",
        ),
        (b'{"weight_map": {"a": "1"', "its JSON cannot be read"),
        (b'{"weight_map": {"a": "\xff"}}', "its JSON cannot be read"),
        (b'{"weight_map": ' + b"[" * 100_000, "its JSON cannot be read"),
        (b'{"weight_map": {"a": "1"}} trailing', "its JSON cannot be read"),
        (b'{"weight_map": ' + b"9" * 5000 + b"}", "its JSON cannot be read"),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else "",
)
def test_a_malformed_index_is_refused_with_the_rule(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        opened(tmp_path / INDEX, content)
    assert problem in str(caught.value)
    assert caught.value.location == str(tmp_path / INDEX)
    assert str(caught.value).isprintable()


def test_an_index_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with_index(tmp_path)
    size = (tmp_path / INDEX).stat().st_size
    with (
        changed_limits({"index_bytes": size - 1}),
        pytest.raises(
            CheckpointError,
            match=rf"is an index of {size} bytes, more than the {size - 1} that --limit index_bytes=N sets",
        ),
    ):
        open_checkpoint(str(tmp_path))


def test_an_index_with_leading_blanks_and_a_map_at_its_start_is_recognised_by_content(tmp_path: Path) -> None:
    with_index(tmp_path)
    assert len(opened(tmp_path / "renamed", b"\n  " + index(TWO_MAP)).tensors) == 3


def test_a_safetensors_file_with_a_tensor_called_weight_map_is_no_index(tmp_path: Path) -> None:
    header = json.dumps({"weight_map": entry("F32", [1], 0, 4)}).encode()
    content = safetensors_file(header.ljust(0x7B), floats(5))
    assert content[:1] == b"{"
    assert named_values(opened(tmp_path / "f", content)) == {"weight_map": [5.0]}
