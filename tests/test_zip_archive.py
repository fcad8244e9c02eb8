"""Zip archives in place: entries as storages, whole bytes and files, stored or deflated."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from archives import BEHIND, DEFLATED, STORED, Part, archive, deflated_zeros
from makers import values

from weightstats.containers.zip_archive import Archive, names_in
from weightstats.errors import CheckpointError, TensorError
from weightstats.limits import changed_limits
from weightstats.places import File, open_file
from weightstats.tensors import make_tensor

NOISE = np.random.default_rng(0).bytes(600_001)


def archived(path: Path, *parts: Part, **options: bytes) -> Archive:
    path.write_bytes(archive(list(parts), **options))
    return Archive(open_file(path))


def written_by_python(path: Path, **contents: bytes) -> Archive:
    """What the standard library writes: stored, deflated, and without knowing the sizes beforehand."""

    class Unseekable(io.RawIOBase):
        content = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.content += bytes(data)
            return len(data)

    stream = Unseekable()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content, zipfile.ZIP_DEFLATED if "deflated" in name else zipfile.ZIP_STORED)
        with file.open("large", "w", force_zip64=True) as large:
            large.write(b"0123456789")
    path.write_bytes(stream.content)
    return Archive(open_file(path))


def whole(file: File) -> bytes:
    return file.read(0, file.size)


@pytest.mark.parametrize("method", [STORED, DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("content", [b"", b"x", NOISE, bytes(60_000)], ids=["empty", "a byte", "noise", "zeros"])
@pytest.mark.parametrize("flags", [0, BEHIND], ids=["sizes in front", "sizes behind"])
def test_an_entry_is_its_bytes_as_bytes_as_a_file_and_as_a_storage(
    tmp_path: Path, method: int, content: bytes, flags: int
) -> None:
    found = archived(tmp_path / "f", Part("before", b"b"), Part("x", content, method, flags), Part("after", b"a"))
    assert list(found.entries) == ["before", "x", "after"]
    assert found.bytes("x", "pickle_bytes") == content
    assert whole(found.file_in("x")) == content
    storage = found.storage("x", "big")
    assert (storage.size, storage.byte_order, storage.source.sequential) == (len(content), "big", method == DEFLATED)
    for offset, length in ((0, len(content)), (len(content) // 2, len(content) // 3), (0, 1 if content else 0)):
        buffer = bytearray(length)
        storage.source.read_into(storage.start + offset, memoryview(buffer))
        assert bytes(buffer) == content[offset : offset + length]


def test_what_the_standard_library_writes_is_read(tmp_path: Path) -> None:
    found = written_by_python(tmp_path / "f", stored=NOISE, deflated=NOISE[:1000])
    assert {name: whole(found.file_in(name)) for name in found.entries} == {
        "stored": NOISE,
        "deflated": NOISE[:1000],
        "large": b"0123456789",
    }


def test_an_archive_in_a_part_of_a_file_is_read(tmp_path: Path) -> None:
    inner = archive([Part("x", NOISE), Part("y", b"y" * 1000, DEFLATED)])
    (tmp_path / "f").write_bytes(b"head" + inner + b"tail")
    found = Archive(open_file(tmp_path / "f").window(4, len(inner), "inner"))
    assert (whole(found.file_in("x")), whole(found.file_in("y"))) == (NOISE, b"y" * 1000)


def test_a_stored_entry_is_a_file_in_place_and_a_deflated_one_is_gone_when_it_is_not_used(tmp_path: Path) -> None:
    found = archived(tmp_path / "f", Part("x", NOISE), Part("y", NOISE, DEFLATED))
    stored, inflated = found.file_in("x"), found.file_in("y")
    assert stored.descriptor == found.file.descriptor
    assert inflated.descriptor != found.file.descriptor
    assert {stored.location, inflated.location} == {f"{tmp_path / 'f'}/x", f"{tmp_path / 'f'}/y"}
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("method", [STORED, DEFLATED], ids=["stored", "deflated"])
def test_a_window_of_an_entry_ends_with_it(tmp_path: Path, method: int) -> None:
    file = archived(tmp_path / "f", Part("x", b"0123456789", method), Part("y", b"secret")).file_in("x")
    assert whole(file.window(2, 8, "part")) == b"23456789"
    for offset, length in ((0, 11), (10, 1), (-1, 1)):
        with pytest.raises(CheckpointError, match="it is truncated"):
            file.read(offset, length)
        with pytest.raises(CheckpointError, match="it is truncated"):
            file.window(offset, length, "part")


# Limits


def test_bytes_stop_at_the_limit_that_is_named(tmp_path: Path) -> None:
    found = archived(tmp_path / "f", Part("x", b"12345"))
    with changed_limits({"text_bytes": 5, "pickle_bytes": 4}):
        assert found.bytes("x", "text_bytes") == b"12345"
        with pytest.raises(CheckpointError, match="its x claims 5 bytes, more than the 4 that --limit pickle_bytes=N"):
            found.bytes("x", "pickle_bytes")


def test_bytes_of_a_compressed_entry_stop_at_the_limit_of_a_text(tmp_path: Path) -> None:
    found = archived(tmp_path / "f", Part("x", b"1234" * 100, DEFLATED), Part("y", b"1234" * 100))
    with changed_limits({"text_bytes": 399}):
        assert len(found.bytes("y", "pickle_bytes")) == 400
        with pytest.raises(CheckpointError, match="its x claims 400 bytes, more than the 399 that --limit text_bytes"):
            found.bytes("x", "pickle_bytes")


def test_bytes_stop_at_a_hundredfold(tmp_path: Path) -> None:
    found = archived(tmp_path / "f", Part("x", bytes(200_000), DEFLATED), Part("y", bytes(100_000), DEFLATED))
    assert found.bytes("y", "text_bytes") == bytes(100_000)
    with pytest.raises(
        CheckpointError, match=r"its x claims to inflate \d+ times, more than the 100 that --limit meta"
    ):
        found.bytes("x", "text_bytes")


def test_a_file_stops_where_inflating_does(tmp_path: Path) -> None:
    bomb = Part("x", method=DEFLATED, stored=deflated_zeros(2)).both(size=2 << 20, checksum=0)
    found = archived(tmp_path / "f", bomb)
    assert whole(found.file_in("x")) == bytes(2 << 20)
    with (
        changed_limits({"expanded_bytes": 1 << 20, "expansion": 1}),
        pytest.raises(
            CheckpointError, match="its entry x claims to inflate to 2,097,152 bytes, more than the 1,048,576"
        ),
    ):
        found.file_in("x")


def test_the_number_of_entries_is_bounded_before_they_are_read(tmp_path: Path) -> None:
    parts = [Part(str(number)) for number in range(5)]
    with changed_limits({"zip_entries": 5}):
        assert len(archived(tmp_path / "f", *parts).entries) == 5
    with changed_limits({"zip_entries": 4}), pytest.raises(CheckpointError, match="has 5 zip entries, more than the 4"):
        archived(tmp_path / "f", *parts)


# Damage


@pytest.mark.parametrize("method", [STORED, DEFLATED], ids=["stored", "deflated"])
def test_a_damaged_entry_names_itself(tmp_path: Path, method: int) -> None:
    found = archived(tmp_path / "f", Part("x", b"0123456789", method).both(checksum=7))
    with pytest.raises(CheckpointError, match=r"f: its entry x: .*damaged.*checksum differs"):
        found.bytes("x", "text_bytes")
    storage = found.storage("x")
    with pytest.raises(CheckpointError, match="checksum differs"):
        storage.source.read_into(storage.start, memoryview(bytearray(10)))


def test_a_part_of_a_stored_entry_is_read_without_the_rest(tmp_path: Path) -> None:
    storage = archived(tmp_path / "f", Part("x", b"0123456789").both(checksum=7)).storage("x")
    buffer = bytearray(3)
    storage.source.read_into(storage.start + 7, memoryview(buffer))
    assert bytes(buffer) == b"789"


def test_an_entry_that_contradicts_itself_is_no_storage_no_bytes_and_no_file(tmp_path: Path) -> None:
    found = archived(tmp_path / "f", Part("x", b"0123", local={"size": 5}))
    with pytest.raises(TensorError, match="contradict each other"):
        found.storage("x")
    for read in (lambda: found.bytes("x", "text_bytes"), lambda: found.file_in("x")):
        with pytest.raises(CheckpointError, match="f: its entry x: the archive's directory and the entry contradict"):
            read()


def test_an_archive_cut_or_changed_in_one_byte_gives_the_same_bytes_or_an_error(tmp_path: Path) -> None:
    contents = {"x": b"0123456789" * 3, "y": b"abcdefghij" * 5}
    sound = archive([Part("x", contents["x"], DEFLATED, BEHIND), Part("y", contents["y"])])
    for place in range(len(sound)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(sound)
            damaged[place] ^= change
            (tmp_path / "f").write_bytes(damaged)
            try:
                found = Archive(open_file(tmp_path / "f"))
                read = {name: found.bytes(name, "text_bytes") for name in found.entries}
            except CheckpointError:
                continue
            assert [*read.values()] == [*contents.values()], place


@pytest.mark.parametrize("method", [STORED, DEFLATED], ids=["stored", "deflated"])
def test_a_tensor_over_an_entry_has_its_elements(tmp_path: Path, method: int) -> None:
    numbers = np.arange(300_000, dtype="<f4")
    found = archived(tmp_path / "f", Part("x", numbers.tobytes(), method))
    tensor = make_tensor(("x",), (300, 1000), "F32", found.storage("x"))
    np.testing.assert_array_equal(values(tensor), numbers)
    late = make_tensor(("x",), (10,), "F32", found.storage("x"), offset=299_990)
    np.testing.assert_array_equal(values(late), numbers[-10:])


def test_two_looks_at_an_archive_go_through_its_directory_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(archive([Part("x")]))
    file = open_file(tmp_path / "f")
    assert names_in(b"PK\3\4", file) == ("x",)
    monkeypatch.setattr(File, "read", lambda *_: pytest.fail("read again"))
    assert list(Archive(file).entries) == ["x"]
