"""The tar archives that torch wrote before 0.1.10 are read in place, as torch reads them."""

import io
import pickle
import struct
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers import Call, ending_soon, floats, named_values, reasons

from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError
from weightstats.places import open_file
from weightstats.readers import torch_tar

COLLECTION = Path(__file__).parents[2] / "shared" / "hostile"


class Outside:
    """An object that the pickle names by a persistent id."""

    def __init__(self, identity: Any) -> None:
        self.identity = identity


class Pickler(pickle.Pickler):
    def persistent_id(self, thing: object) -> Any:
        return thing.identity if isinstance(thing, Outside) else None


def dumped(thing: object, protocol: int = 2) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, protocol).dump(thing)
    return stream.getvalue()


def storage(key: int, kind: Any, elements: int, content: bytes) -> bytes:
    return dumped((key, "cpu", kind)) + struct.pack("<q", elements) + content


def storages_member(*storages: bytes, views: Any = (), count: int | None = None) -> bytes:
    return dumped(len(storages) if count is None else count) + b"".join(storages) + dumped(list(views))


def tensor(key: int, of: int, shape: list[int], strides: list[int], offset: int = 0) -> bytes:
    rank = len(shape)
    numbers = struct.pack(f"<{2 * rank + 1}q", *shape, *strides, offset)
    return dumped((key, of, torch.FloatTensor)) + struct.pack("<ii", rank, 0) + numbers


def tensors_member(*tensors: bytes, count: int | None = None) -> bytes:
    return dumped(len(tensors) if count is None else count) + b"".join(tensors)


STORAGES = storages_member(
    storage(100, torch.FloatStorage, 6, floats(1, 2, 3, 4, 5, 6)),
    storage(101, torch.LongStorage, 2, np.array([7, 8], "<i8").tobytes()),
    views=[(102, 100, 2, 3)],
)
TENSORS = tensors_member(
    tensor(200, 100, [2, 3], [3, 1]),
    tensor(201, 101, [2], [1]),
    tensor(202, 102, [2], [1], 1),
    tensor(203, 100, [], []),
)
THING = OrderedDict(
    [("weight", Outside("200")), ("steps", Outside("201")), ("part", Outside("202")), ("scalar", Outside("203"))]
)
MEMBERS = {"sys_info": dumped({}), "pickle": dumped(THING), "tensors": TENSORS, "storages": STORAGES}


def archive(members: dict[str, bytes], kind: int = tarfile.PAX_FORMAT, **odd: Any) -> bytes:
    """A tar archive as torch made it; `odd` are members given as they are."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:", format=kind) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = 1490000000.25  # a fraction, for which an archive of POSIX has attributes
            tar.addfile(info, io.BytesIO(content))
        for info in odd.get("infos", ()):
            tar.addfile(info)
    return stream.getvalue()


def read(path: Path, content: bytes) -> Checkpoint:
    path.write_bytes(content)
    file = open_file(path)
    assert torch_tar.recognises(file.read(0, min(512, file.size)), file)
    return torch_tar.read(file)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_it_is_read_as_torch_loads_it(tmp_path: Path, kind: int) -> None:
    content = archive(MEMBERS, kind)
    checkpoint = read(tmp_path / "f.tar", content)
    loaded = torch.load(tmp_path / "f.tar", weights_only=False)
    assert named_values(checkpoint) == {name: value.reshape(-1).tolist() for name, value in loaded.items()}
    assert {entry.name: entry.shape for entry in checkpoint.tensors} == {n: tuple(v.shape) for n, v in loaded.items()}
    assert (checkpoint.format, checkpoint.unread, checkpoint.objects_not_loaded) == ("torch tar", (), ())


@pytest.mark.parametrize("protocol", range(3))
def test_any_protocol_of_the_time_is_read(tmp_path: Path, protocol: int) -> None:
    members = MEMBERS | {"pickle": dumped({"weight": Outside("200")}, protocol)}
    assert named_values(read(tmp_path / "f", archive(members)))["weight"] == [1, 2, 3, 4, 5, 6]


def test_a_tensor_that_the_pickle_does_not_name_is_listed(tmp_path: Path) -> None:
    checkpoint = read(tmp_path / "f", archive(MEMBERS | {"pickle": dumped([Outside("200"), Outside("100")])}))
    assert [entry.name for entry in checkpoint.tensors] == ["0"]
    assert reasons(checkpoint) == {f"<tensor {key}>": "nothing in the pickle refers to it" for key in (201, 202, 203)}


def test_a_class_with_its_source_is_named_and_its_tensors_are_read(tmp_path: Path) -> None:
    source = Outside((collections_counter(), "model.py", "class Net: ..."))
    thing = Call(OrderedDict, (), pairs=(("net", source), ("w", Outside("200"))))
    checkpoint = read(tmp_path / "f", archive(MEMBERS | {"pickle": dumped(thing)}))
    assert named_values(checkpoint) == {"w": [1, 2, 3, 4, 5, 6]}


def collections_counter() -> type:
    return io.StringIO


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (tensor(200, 999, [1], [1]), "its storage is not in the archive"),
        (tensor(200, 100, [7], [1]), "it needs 7 elements of a storage that holds 6"),
        (tensor(200, 100, [2**40, 2**40], [1, 1]), "elements of a storage that holds 6"),
        (tensor(200, 100, [2], [-1]), "is negative"),
        (tensor(200, 100, [1], [1], 2**62), "of a storage that holds 6"),
        (tensor(200, 100, [1] * 70, [1] * 70), "it has 70 dimensions"),
    ],
)
def test_a_tensor_that_breaks_a_rule_is_unread(tmp_path: Path, tensors: bytes, reason: str) -> None:
    members = MEMBERS | {"tensors": tensors_member(tensors), "pickle": dumped({"w": Outside("200")})}
    assert reason in reasons(read(tmp_path / "f", archive(members)))["w"]


def test_a_key_that_is_not_in_the_archive_is_unread_or_no_tensor(tmp_path: Path) -> None:
    members = MEMBERS | {"pickle": dumped({"w": Outside("200"), "gone": Outside("999"), "odd": Outside("x")})}
    assert reasons(read(tmp_path / "f", archive(members)))["gone"] == "the archive has no such tensor"


ONE = storage(100, torch.FloatStorage, 1, floats(1))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"storages": storages_member(storage(100, torch.FloatStorage, 2_500_000_000, floats(1)))}, "claims 2,500,000"),
        ({"storages": storages_member(storage(100, torch.FloatStorage, -1, b""))}, "claims -1 elements"),
        ({"storages": storages_member(ONE, ONE)}, "two storages with the key 100"),
        ({"storages": storages_member(ONE, views=[(1, 2, 3, 4)])}, "that are views is malformed"),
        ({"storages": storages_member(ONE, views=[(1, 100, 0)])}, "that are views is malformed"),
        ({"storages": storages_member(ONE, views=[(1, 100, 0, 2)])}, "reaches beyond the storage"),
        ({"storages": storages_member(ONE, views=[(1, 100, -1, 1)])}, "reaches beyond the storage"),
        ({"storages": storages_member(ONE, count=2)}, "one of its storages is malformed"),
        ({"storages": storages_member(ONE, count=-1)}, "does not say how many storages"),
        ({"storages": storages_member(ONE, count=10**9)}, "1,000,000,000 storages, more than the"),
        ({"storages": storages_member(storage(100, io.StringIO, 1, floats(1)))}, "one of its storages is malformed"),
        ({"storages": dumped("many")}, "does not say how many storages"),
        ({"storages": b"\xff"}, "is malformed"),
        ({"tensors": tensors_member(count=1)}, "exhausted before seeing STOP"),
        ({"tensors": tensors_member(tensor(200, 100, [1], [1])[:-1])}, "a member ends before"),
        ({"tensors": dumped(1) + dumped((1, 100, None)) + struct.pack("<ii", 10**6, 0)}, "claims 1,000,000 dimensions"),
        ({"tensors": dumped(1) + dumped((1, 100, None)) + struct.pack("<ii", -1, 0)}, "claims -1 dimensions"),
        ({"tensors": tensors_member(*[tensor(200, 100, [1], [1])] * 2)}, "has the key of another"),
        ({"pickle": b"N"}, "its pickle is malformed"),
    ],
)  # fmt: skip
def test_a_damaged_member_is_refused(tmp_path: Path, changes: dict[str, bytes], problem: str) -> None:
    with ending_soon(), pytest.raises(CheckpointError, match=problem):
        read(tmp_path / "f", archive(MEMBERS | changes))


def link(name: str, kind: bytes, target: str = "/etc/passwd", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


LINKS = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]


@pytest.mark.parametrize("kind", LINKS)
def test_a_member_that_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    members = {name: content for name, content in MEMBERS.items() if name != "storages"}
    with pytest.raises(CheckpointError, match="a member storages that is a link, a device or not stored plainly"):
        read(tmp_path / "f", archive(members, infos=[link("storages", kind)]))


@pytest.mark.parametrize("name", ["../storages", "/etc/passwd", "a/../../b", ".."])
def test_other_members_are_neither_read_nor_written(tmp_path: Path, name: str) -> None:
    checkpoint = read(tmp_path / "f", archive(MEMBERS | {name: b"x" * 600}, infos=[link("x", tarfile.SYMTYPE)]))
    assert len(checkpoint.tensors) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    another = tarfile.TarInfo("pickle").tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(CheckpointError, match="has two members named pickle"):
        read(tmp_path / "f", another + archive(MEMBERS))


@pytest.mark.parametrize("missing", ["storages", "tensors"])
def test_a_missing_member_is_named(tmp_path: Path, missing: str) -> None:
    members = {name: content for name, content in MEMBERS.items() if name != missing}
    with pytest.raises(CheckpointError, match=f"without its member {missing}"):
        read(tmp_path / "f", archive(members))


def sized(content: bytes, size: bytes) -> bytes:
    """The archive with another size in its first header, and the sum that fits."""
    header = bytearray(content[:512])
    header[124:136] = size.ljust(12, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content[512:]


@pytest.mark.parametrize("size", [b"77777777777", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\xff" * 11 + b"\0", b"zz"])
def test_a_member_that_lies_about_its_size_makes_no_torch_file(tmp_path: Path, size: bytes) -> None:
    (tmp_path / "f").write_bytes(sized(archive(MEMBERS, tarfile.USTAR_FORMAT), size))
    file = open_file(tmp_path / "f")
    with ending_soon():
        assert not torch_tar.recognises(file.read(0, 512), file)
        with pytest.raises(CheckpointError, match="damaged"):
            torch_tar.read(file)


@pytest.mark.parametrize(
    "attributes",
    [b"20 size=99999999999\n", b"13 size=-1234\n", b"99 a=b\n", b"x", b"0 a=b\n", b"6 a=b", b"10 size=x\xff\n"],
)
def test_attributes_that_lie_are_refused(tmp_path: Path, attributes: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(attributes)
    content = header.tobuf(tarfile.USTAR_FORMAT) + attributes.ljust(512, b"\0") + archive(MEMBERS)
    (tmp_path / "f").write_bytes(content)
    with ending_soon(), pytest.raises(CheckpointError, match="damaged"):
        torch_tar.read(open_file(tmp_path / "f"))


def test_endless_attributes_are_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    (tmp_path / "f").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 10_000)
    with ending_soon(), pytest.raises(CheckpointError, match="more than 64 members"):
        torch_tar.read(open_file(tmp_path / "f"))


def test_an_archive_cut_anywhere_is_refused_or_read_whole(tmp_path: Path) -> None:
    content = archive(MEMBERS, tarfile.USTAR_FORMAT)
    whole = named_values(read(tmp_path / "f", content))
    outcomes = set()
    for size in range(0, len(content), 7):
        (tmp_path / "f").write_bytes(content[:size])
        file = open_file(tmp_path / "f")
        torch_tar.recognises(file.read(0, min(512, size)), file)
        try:
            assert named_values(torch_tar.read(file)) == whole
            outcomes.add("whole")
        except CheckpointError as error:
            outcomes.add("refused" if str(error).isprintable() else str(error))
    assert outcomes == {"whole", "refused"}


def test_a_changed_byte_costs_the_file_or_tensors_and_nothing_else(tmp_path: Path) -> None:
    content = archive(MEMBERS, tarfile.USTAR_FORMAT)
    problems = []
    for place in range(0, len(content), 5):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        (tmp_path / "f").write_bytes(changed)
        file = open_file(tmp_path / "f")
        try:
            torch_tar.recognises(file.read(0, 512), file)
            named_values(torch_tar.read(file))
        except CheckpointError as error:
            problems.append(str(error))
    assert problems
    assert all(problem.isprintable() for problem in problems)


@pytest.mark.parametrize("content", [b"", b"x" * 600, archive({"model_config.yaml": b"a: 1"}), b"PK\x03\x04"])
def test_other_files_are_not_recognised(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    file = open_file(tmp_path / "f")
    assert not torch_tar.recognises(file.read(0, min(512, file.size)), file)


@pytest.mark.skipif(not COLLECTION.exists(), reason="the collection of hostile files is not beside the project")
def test_archives_that_torch_cannot_load_are_refused_by_name() -> None:
    found = sorted((COLLECTION / "files").glob("*.tar"))
    assert found
    for path in found:
        file = open_file(path)
        assert torch_tar.recognises(file.read(0, 512), file)
        with pytest.raises(CheckpointError, match="without its member tensors, which torch cannot load"):
            torch_tar.read(file)
