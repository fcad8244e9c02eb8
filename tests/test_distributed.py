"""Folders by torch.distributed.checkpoint are read as torch loads them; what is wrong in one costs its own tensors."""

import copyreg
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sharded
import torch
from makers import Call, Stored, distinct, ending_soon, named_values, pickled, reasons, saved, values, view, zip_file
from torch.distributed.checkpoint import FileSystemWriter, save
from torch.distributed.checkpoint.filesystem import SerializationFormat, _StorageInfo
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorStorageMetadata

from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError
from weightstats.places import open_file, open_folder
from weightstats.readers import distributed, distributed_safetensors


def read(folder: Path) -> Checkpoint:
    return distributed.read_folder(open_folder(folder))


def written(folder: Path, state: dict[str, Any], **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(state, storage_writer=FileSystemWriter(folder, **options), no_dist=True)
    return folder


def tensors() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(6.0, 12.0).reshape(2, 3)}


def edited(folder: Path, change: Callable[[Metadata], object]) -> Path:
    """The folder, with its metadata changed."""
    file = folder / ".metadata"
    metadata = pickle.loads(file.read_bytes())  # noqa: S301
    change(metadata)
    file.write_bytes(pickle.dumps(metadata))
    return folder


def place(metadata: Metadata, name: str, offset: tuple[int, ...] = (0, 0)) -> _StorageInfo:
    found = metadata.storage_data[MetadataIndex(name, offset)]
    assert isinstance(found, _StorageInfo)
    return found


def with_blob(folder: Path, content: bytes) -> Path:
    """The folder, with other bytes for the only piece of `a`."""
    (folder / "own.distcp").write_bytes(content)

    def change(metadata: Metadata) -> None:
        metadata.storage_data[MetadataIndex("a", (0, 0))] = _StorageInfo("own.distcp", 0, len(content))

    return edited(folder, change)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "checkpoint", tensors())


@pytest.fixture(scope="module")
def by_four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What four processes wrote together."""
    place = tmp_path_factory.mktemp("ranks")
    subprocess.run([sys.executable, sharded.__file__, str(place)], check=True, capture_output=True, timeout=300)
    return place


@pytest.mark.parametrize("kind", SerializationFormat)
def test_every_tensor_has_its_shape_and_its_elements(tmp_path: Path, kind: SerializationFormat) -> None:
    state = {
        "linear.weight": torch.randn(4, 3),
        "half": torch.randn(5).bfloat16(),
        "turned": torch.randn(3, 4).T if kind is SerializationFormat.TORCH_SAVE else torch.randn(4, 3),
        "number": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "bool": torch.tensor([True, False]),
    }
    checkpoint = read(written(tmp_path, state, serialization_format=kind))
    assert {tensor.name: tensor.shape for tensor in checkpoint.tensors} == {k: tuple(t.shape) for k, t in state.items()}
    assert checkpoint.unread == ()
    for tensor in checkpoint.tensors:
        assert np.array_equal(np.sort(values(tensor)), distinct(state[tensor.name]))
    assert checkpoint.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_the_values_are_those_that_torch_converts_the_folder_to(tmp_path: Path, by_four: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp_to_torch_save(by_four / "distcp", tmp_path / "whole.pt")
    whole = torch.load(tmp_path / "whole.pt", weights_only=True)["model"]
    checkpoint = read(by_four / "distcp")
    assert {tensor.path for tensor in checkpoint.tensors} == {("model", name) for name in whole}
    for tensor in checkpoint.tensors:
        assert tensor.shape == tuple(whole[tensor.path[1]].shape)
        assert np.array_equal(np.sort(values(tensor)), distinct(whole[tensor.path[1]]))
    assert (checkpoint.unread, checkpoint.objects_not_loaded) == ((), ("epoch",))


def test_rows_of_several_ranks_come_in_the_order_of_the_whole(by_four: Path) -> None:
    found = named_values(read(by_four / "distcp"))
    assert found["model.rows.weight"] == sharded.state()["rows.weight"].double().flatten().tolist()


def test_the_pieces_of_a_folder_of_safetensors_make_the_same_tensors(by_four: Path) -> None:
    listed = open_folder(by_four / "safetensors")
    assert distributed_safetensors.recognises_folder(listed)
    checkpoint = distributed_safetensors.read_folder(listed)
    assert {tensor.name: tensor.shape for tensor in checkpoint.tensors} == {
        name: tuple(tensor.shape) for name, tensor in sharded.state().items()
    }
    for tensor in checkpoint.tensors:
        assert np.array_equal(np.sort(values(tensor)), distinct(sharded.state()[tensor.name]))
    assert "nothing says how many files there were" in checkpoint.warnings[0]


def test_a_lost_file_of_safetensors_leaves_a_gap_that_is_named(by_four: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(by_four / "safetensors", tmp_path / "part"))
    (folder / "shard-00002-model-00001-of-00001.safetensors").unlink()
    found = reasons(distributed_safetensors.read_folder(open_folder(folder)))
    assert {"rows.weight", "columns.weight", "both.weight", "norm.weight"} <= found.keys()
    assert "a part of it is missing" in found["rows.weight"]


def test_a_damaged_file_of_safetensors_costs_the_tensors_that_it_may_hold_a_piece_of(
    by_four: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(by_four / "safetensors", tmp_path / "part"))
    last = folder / "shard-00004-model-00001-of-00001.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    checkpoint = distributed_safetensors.read_folder(open_folder(folder))
    assert checkpoint.tensors == ()
    assert "shard-00004" in reasons(checkpoint)["rows.weight"]


@pytest.mark.parametrize(
    "said",
    [b"[1, 2]", b'{"a": 3}', b'{"a": {"saved_offsets": [-1, 0]}}', b'{"a": {"saved_offsets": [true, 0]}}', b"[" * 9999],
)
def test_places_of_safetensors_that_make_no_sense_are_refused_by_name(tmp_path: Path, said: bytes) -> None:
    import safetensors.numpy

    content = safetensors.numpy.save({"a": np.ones((2, 3), "f4")}, {"DCP_SHARDING_INFO": said.decode()})
    (tmp_path / "shard-00001-model-00001-of-00001.safetensors").write_bytes(content)
    try:
        checkpoint = distributed_safetensors.read_folder(open_folder(tmp_path))
    except CheckpointError as error:
        assert "not valid JSON" in error.problem  # noqa: PT017
    else:
        assert [tensor.shape for tensor in checkpoint.tensors] in ([], [(2, 3)])
        assert len(checkpoint.tensors) + len(checkpoint.unread) == 1


def test_the_keys_of_the_nested_state_become_the_path(tmp_path: Path) -> None:
    state = {"model": {"0.weight": torch.ones(2, 2)}, "optim": {"state": [torch.ones(2)]}, "a.b": torch.ones(1)}
    paths = [tensor.path for tensor in read(written(tmp_path, state)).tensors]
    assert paths == [("model", "0.weight"), ("optim", "state", "0"), ("a.b",)]


def test_a_path_that_does_not_make_the_name_is_not_believed(folder: Path) -> None:
    edited(folder, lambda metadata: metadata.planner_data.update(a=("model", "b"), b=("b",) * 10**5))
    assert [tensor.path for tensor in read(folder).tensors] == [("a",), ("b",)]


def test_stored_objects_are_named_and_not_loaded(tmp_path: Path) -> None:
    state = {"a": torch.ones(2), "step": 3, "lr": 0.1, "evil": Call(os.system, ("exit 1",))}
    assert read(written(tmp_path, state)).objects_not_loaded == ("step", "lr", "evil")


def test_the_metadata_itself_stands_for_its_folder(folder: Path) -> None:
    file = open_file(folder / ".metadata")
    assert distributed.recognises(file.read(0, 512), file)
    assert named_values(distributed.read(file)) == named_values(read(folder))


def test_a_file_of_pieces_alone_is_refused_with_what_to_name(folder: Path) -> None:
    file = open_file(folder / "__0_0.distcp")
    assert distributed.recognises(file.read(0, 512), file)
    with pytest.raises(CheckpointError, match=r"name its folder, where the file \.metadata says what they are"):
        distributed.read(file)


def test_a_file_by_torch_save_is_not_taken_for_pieces(tmp_path: Path) -> None:
    (tmp_path / "one.distcp").write_bytes(saved(torch.ones(2)))
    file = open_file(tmp_path / "one.distcp")
    assert not distributed.recognises(file.read(0, 512), file)


def test_files_that_the_metadata_does_not_name_are_mentioned(folder: Path) -> None:
    (folder / "__1_0.distcp").write_bytes(b"")
    assert any("__1_0.distcp" in warning for warning in read(folder).warnings)


# What a hostile or damaged folder can say of one of its two tensors. The other is read all the same.


def _moved(**change: Any) -> Callable[[Metadata], None]:
    def apply(metadata: Metadata) -> None:
        for name, value in change.items():
            setattr(place(metadata, "a"), name, value)

    return apply


def _described(*chunks: tuple[tuple[int, ...], tuple[int, ...]], size: tuple[int, ...] = (2, 3)) -> Callable[..., None]:
    def apply(metadata: Metadata) -> None:
        whole = metadata.state_dict_metadata["a"]
        assert isinstance(whole, TensorStorageMetadata)
        whole.chunks[:] = [ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in chunks]
        whole.size = torch.Size(size)

    return apply


def _like_b(metadata: Metadata) -> None:
    other = place(metadata, "b")
    metadata.storage_data[MetadataIndex("a", (0, 0))] = _StorageInfo(other.relative_path, other.offset, other.length)


def _set(name: str, value: Any) -> Callable[[Metadata], None]:
    return lambda metadata: setattr(metadata.state_dict_metadata["a"], name, value)


def _dtype(metadata: Metadata) -> None:
    whole = metadata.state_dict_metadata["a"]
    assert isinstance(whole, TensorStorageMetadata)
    whole.properties.dtype = torch.int32


CASES: dict[str, tuple[Callable[[Metadata], object], str]] = {
    "I10 path upwards": (_moved(relative_path="../x.distcp"), "outside its own folder"),
    "I10 path absolute": (_moved(relative_path="/etc/passwd"), "outside its own folder"),
    "I10 path with a NUL": (_moved(relative_path="a\0b"), "outside its own folder"),
    "I10 path of a folder": (_moved(relative_path="."), "regular file|cannot be opened"),
    "I10 no such file": (_moved(relative_path="__7_0.distcp"), "no such file"),
    "I10 offset beyond the file": (_moved(offset=10**6), "truncated"),
    "I10 length beyond the file": (_moved(length=10**6), "truncated"),
    "I10 length beyond counting": (_moved(length=1 << 70), "no place"),
    "I10 offset negative": (_moved(offset=-1), "no place"),
    "I10 length too short": (_moved(length=100), "truncated"),
    "I10 length none": (_moved(length=0), "not what torch.save or safetensors writes"),
    "I10 offset between pieces": (_moved(offset=64, length=64), "not what torch.save or safetensors writes"),
    "I10 pieces overlapping": (_described(((0, 0), (2, 2)), ((0, 1), (2, 2))), "there twice"),
    "I10 piece missing": (_described(((0, 0), (1, 3))), "a part of it is missing"),
    "I10 piece double": (_described(((0, 0), (2, 3)), ((0, 0), (2, 3))), "there twice"),
    "I10 no pieces": (_described(), "a part of it is missing"),
    "I10 piece without a place": (_described(((0, 0), (1, 3)), ((1, 0), (1, 3))), "no place in the metadata"),
    "I10 size larger": (_described(((0, 0), (2, 3)), size=(2, 300)), "a part of it is missing"),
    "I10 size smaller": (_described(((0, 0), (2, 3)), size=(2, 2)), "reaches beyond its shape"),
    "I10 size and piece larger": (_described(((0, 0), (9, 9)), size=(9, 9)), "has the shape"),
    "I10 size beyond counting": (_described(((0, 0), (1 << 62, 1 << 62)), size=(1 << 62, 1 << 62)), "elements"),
    "I10 size of another rank": (_described(((0, 0), (2, 3)), size=(6,)), "not its 1 dimensions"),
    "I10 rank": (_described(((0,) * 99, (1,) * 99), size=(1,) * 99), "99 dimensions"),
    "I10 size is no size": (_set("size", ("2", 3)), "lacks a size"),
    "I10 size negative": (_set("size", [-2, 3]), "negative"),
    "I10 pieces are no list": (_set("chunks", 3), "lists no pieces"),
    "I10 properties are none": (_set("properties", None), "names no dtype"),
    "I10 dtype of another": (_dtype, "described as I32 and stored as F32"),
    "I10 compressed": (_moved(transform_descriptors=["stream.zstd/1"]), "went through 'stream.zstd/1'"),
    "I10 description is no tensor's": (
        lambda metadata: metadata.state_dict_metadata.update(a={"size": 3}),  # type: ignore[dict-item]
        "not that of a tensor",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_that_is_wrong_costs_itself(folder: Path, case: str) -> None:
    change, reason = CASES[case]
    checkpoint = read(edited(folder, change))
    assert named_values(checkpoint) == {"b": [6, 7, 8, 9, 10, 11]}
    assert reasons(checkpoint).keys() == {"a"}
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(reasons(checkpoint)["a"])


def test_a_place_that_two_pieces_share_costs_both(folder: Path) -> None:
    """I10: which of the two it is cannot be known."""
    checkpoint = read(edited(folder, _like_b))
    assert checkpoint.tensors == ()
    assert all("shares bytes with another" in reasons(checkpoint)[name] for name in "ab")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(saved({"x": torch.ones(2, 3), "y": torch.ones(2, 3)}), "holds 2 tensors, not one", id="I10 two"),
        pytest.param(saved(3), "holds 0 tensors, not one", id="I10 none"),
        pytest.param(saved(torch.ones(3, 2)), "has the shape", id="I10 shape"),
        pytest.param(saved(torch.ones(2, 3).half()), "stored as F16", id="I10 dtype"),
        pytest.param(saved(torch.ones(2, 3))[:-30], "damaged zip archive", id="C1"),
        pytest.param(zip_file(b"cposix\nsystem\n(X\x01\0\0\0xtR.", {}), "holds 0 tensors", id="A1"),
        pytest.param(zip_file(b"]q\0h\0a.", {}), "holds 0 tensors", id="A14"),
        pytest.param(zip_file(b"N", {}), "its pickle", id="A20"),
        pytest.param(zip_file(pickled(view(Stored("0", 6), (2, 3))), {}), "not in the archive", id="B17"),
        pytest.param(zip_file(pickled(view(Stored("0", 6), (2, 3), (3, 1), 9)), {"0": bytes(24)}), "needs", id="B2"),
        pytest.param(zip_file(pickled(view(Stored("0", 1 << 40), (2, 3))), {"0": bytes(24)}), "claims", id="B10"),
        pytest.param(b"", "neither|not what", id="empty"),
        pytest.param(os.urandom(4096), "not what torch.save or safetensors writes", id="noise"),
    ],
)
def test_a_piece_that_is_no_tensor_costs_itself(folder: Path, content: bytes, reason: str) -> None:
    checkpoint = read(with_blob(folder, content))
    assert named_values(checkpoint) == {"b": [6, 7, 8, 9, 10, 11]}
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(reasons(checkpoint)["a"])


@pytest.mark.parametrize("options", [{"_use_new_zipfile_serialization": False}, {}], ids=["torch legacy", "torch zip"])
def test_a_piece_may_be_of_either_format_of_torch_save(folder: Path, options: dict[str, Any]) -> None:
    checkpoint = read(with_blob(folder, saved(torch.full((2, 3), 4.0), **options)))
    assert named_values(checkpoint)["a"] == [4] * 6


def test_a_compressed_piece_is_inflated(folder: Path) -> None:
    """B15"""
    numbers = np.arange(6, dtype="<f4")
    content = zip_file(pickled(view(Stored("0", 6), (2, 3))), {"0": numbers.tobytes()}, method=8)
    assert named_values(read(with_blob(folder, content)))["a"] == numbers.tolist()


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    """I10, P2"""
    (tmp_path / "secret").write_bytes((folder / "__0_0.distcp").read_bytes())
    (folder / "__0_0.distcp").unlink()
    (folder / "__0_0.distcp").symlink_to(tmp_path / "secret")
    assert all("link out of its own folder" in reason for reason in reasons(read(folder)).values())


def test_a_pipe_for_a_file_is_not_waited_for(folder: Path) -> None:
    """I10, P4"""
    (folder / "__0_0.distcp").unlink()
    os.mkfifo(folder / "__0_0.distcp")
    with ending_soon():
        assert all("not a regular file" in reason for reason in reasons(read(folder)).values())


def test_what_the_pickle_would_run_is_named_and_not_run(folder: Path, tmp_path: Path) -> None:
    """I10, A1"""
    ran = tmp_path / "ran"
    edited(folder, lambda metadata: setattr(metadata, "planner_data", Call(os.system, (f"touch {ran}",))))
    checkpoint = read(folder)
    assert len(checkpoint.tensors) == 2
    assert f"{os.system.__module__}.system" in checkpoint.objects_not_loaded
    assert not ran.exists()


def test_a_tensor_that_is_described_twice_is_refused(folder: Path) -> None:
    file = folder / ".metadata"
    names = [b"\x8c\x01" + name for name in (b"a", b"b")]
    assert file.read_bytes().count(names[1]) == 1
    file.write_bytes(file.read_bytes().replace(names[1], names[0]))
    checkpoint = read(folder)
    assert checkpoint.tensors == ()
    assert reasons(checkpoint) == {"a": "it is described 2 times"}


class _Twin:
    """Pickled as the place of the piece of `a`, which a dict could not hold twice."""

    def __reduce__(self) -> tuple[Any, ...]:
        made_by = copyreg._reconstructor  # type: ignore[attr-defined]
        return made_by, (MetadataIndex, object, None), {"fqn": "a", "offset": torch.Size((0, 0))}


def test_a_piece_that_two_places_are_given_for_is_refused(folder: Path) -> None:
    """I10: the last of two equal keys would count for Python."""

    def change(metadata: Metadata) -> None:
        metadata.storage_data[_Twin()] = _StorageInfo("own.distcp", 0, 1)

    checkpoint = read(edited(folder, change))
    assert reasons(checkpoint) == {"a": "its piece at (0, 0) has two places in the metadata"}
    assert len(checkpoint.tensors) == 1


def test_a_tensor_of_safetensors_is_one_piece_only(tmp_path: Path) -> None:
    folder = written(tmp_path, tensors(), serialization_format=SerializationFormat.SAFETENSORS)

    def change(metadata: Metadata) -> None:
        _described(((0, 0), (2, 3)), ((2, 0), (2, 3)), size=(4, 3))(metadata)
        metadata.storage_data[MetadataIndex("a", (2, 0))] = place(metadata, "a")

    found = reasons(read(edited(folder, change)))
    assert found.keys() == {"a"}
    assert "two pieces are said to be it" in found["a"]


def test_a_stored_piece_that_nothing_describes_is_accounted_for(folder: Path) -> None:
    checkpoint = read(edited(folder, lambda metadata: metadata.state_dict_metadata.pop("a")))
    assert reasons(checkpoint) == {"a": "it is stored, and nothing describes it"}


def test_a_piece_more_than_is_described_is_mentioned(folder: Path) -> None:
    def change(metadata: Metadata) -> None:
        metadata.storage_data[MetadataIndex("a", (7, 7))] = _StorageInfo("x", 0, 1)

    checkpoint = read(edited(folder, change))
    assert len(checkpoint.tensors) == 2
    assert any("more pieces than are described" in warning for warning in checkpoint.warnings)


def test_one_list_of_pieces_for_many_tensors_is_read_once(folder: Path) -> None:
    def change(metadata: Metadata) -> None:
        whole = metadata.state_dict_metadata["a"]
        whole.chunks *= 5_000
        metadata.state_dict_metadata |= {
            f"copy {number}": TensorStorageMetadata(whole.properties, whole.size, whole.chunks)
            for number in range(5_000)
        }

    with ending_soon(20):
        found = reasons(read(edited(folder, change)))
    assert len(found) == 5_001
    assert "shares its list of pieces" in found["copy 0"]


@pytest.mark.parametrize(
    "content", [b"", b"N.", b"\x80\x04N.", b"\x80\x04}.", pickle.dumps(Metadata(None)), b"\x89HDF", b"]q\0h\0a."]
)
def test_a_pickle_that_is_no_metadata_is_refused(folder: Path, content: bytes) -> None:
    (folder / ".metadata").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"\.metadata: (is a pickle that does not describe|its pickle)"):
        read(folder)


def test_metadata_cut_short_anywhere_is_refused(folder: Path) -> None:
    file = folder / ".metadata"
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read(folder)


def test_pieces_cut_short_anywhere_are_right_or_unread(folder: Path) -> None:
    file = folder / "__0_0.distcp"
    content = file.read_bytes()
    right = named_values(read(folder))
    for length in range(0, len(content), 3):
        os.truncate(file, length) if length == 0 else file.write_bytes(content[:length])
        checkpoint = read(folder)
        found = named_values(checkpoint)
        assert found.keys() | reasons(checkpoint).keys() == right.keys()
        assert all(found[name] == right[name] for name in found)


def test_any_byte_of_the_metadata_may_be_wrong(folder: Path) -> None:
    file = folder / ".metadata"
    content = file.read_bytes()
    right = [sorted(numbers) for numbers in named_values(read(folder)).values()]
    for index in range(len(content)):
        for byte in (content[index] ^ 1, 0xFF):
            file.write_bytes(content[:index] + bytes([byte]) + content[index + 1 :])
            try:
                checkpoint = read(folder)
            except CheckpointError:
                continue
            assert all(sorted(values(tensor).tolist()) in right for tensor in checkpoint.tensors)
