"""Files are opened without waiting; a checkpoint names only files inside its own folder."""

import io
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from makers import ending_soon

from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits
from weightstats.places import File, open_file, open_folder, open_inside, written_out


def made(path: Path, content: bytes = b"0123456789") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def content(file: File) -> bytes:
    return file.read(0, file.size)


# open_file


def test_a_file_is_read_at_offsets(tmp_path: Path) -> None:
    file = open_file(made(tmp_path / "f"))
    assert (file.size, file.sequential, file.read(3, 4), file.read(10, 0)) == (10, False, b"3456", b"")


def test_a_file_is_called_what_the_user_called_it(tmp_path: Path) -> None:
    assert open_file(made(tmp_path / "f"), "here").location == "here"
    assert open_file(tmp_path / "f").location == str(tmp_path / "f")


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="f: there is no such file or folder"):
        open_file(tmp_path / "f")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a regular file"):
        open_file(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ending_soon(), pytest.raises(CheckpointError, match="is not a regular file"):
        open_file(tmp_path / "pipe")


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(CheckpointError, match="cannot be opened"):
            open_file(Path("socket"))


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_is_refused(device: str) -> None:
    with pytest.raises(CheckpointError, match="is not a regular file"):
        open_file(Path(device))


@pytest.mark.parametrize("name", ["a\0b", "x" * 10_000, "\ud800"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be opened"):
        open_file(tmp_path / name)


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(CheckpointError, match="cannot be opened"):
        open_file(tmp_path / "a")


def test_a_refused_path_leaves_no_descriptor_open(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not list a process's descriptors under /proc")
    before = descriptors()
    with pytest.raises(CheckpointError):
        open_file(tmp_path)
    assert descriptors() == before


def test_a_file_that_nothing_refers_to_is_closed(tmp_path: Path) -> None:
    file = open_file(made(tmp_path / "f"))
    descriptor = file.descriptor
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


# Reading


@pytest.mark.parametrize(("offset", "length"), [(0, 11), (10, 1), (5, 6), (-1, 2), (2, -1), (2**70, 1), (0, 2**70)])
def test_a_read_beyond_the_file_is_refused_before_anything_is_allocated(
    tmp_path: Path, offset: int, length: int
) -> None:
    with pytest.raises(CheckpointError, match="it is truncated"):
        open_file(made(tmp_path / "f")).read(offset, length)


def test_a_file_that_became_shorter_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    file = open_file(made(tmp_path / "f"))
    os.truncate(tmp_path / "f", 4)
    buffer = bytearray(8)
    with ending_soon():
        with pytest.raises(CheckpointError, match="the file ends at byte 4, before the data that it promises"):
            file.read_into(0, memoryview(buffer))
        with pytest.raises(CheckpointError, match="the file ends at byte 6, before the data that it promises"):
            file.read(6, 2)


def test_a_file_that_is_replaced_is_still_read_as_it_was_opened(tmp_path: Path) -> None:
    file = open_file(made(tmp_path / "f"))
    made(tmp_path / "g", b"another thing").replace(tmp_path / "f")
    assert content(file) == b"0123456789"


def test_a_system_without_preadv_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_file(made(tmp_path / "f"))
    monkeypatch.delattr(os, "preadv", raising=False)
    assert (file.read(3, 4), file.read(0, 2)) == (b"3456", b"01")
    os.truncate(tmp_path / "f", 4)
    with pytest.raises(CheckpointError, match="the file ends at byte 4"):
        file.read(0, 10)


def test_a_read_that_the_system_refuses_is_an_error_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    file = open_file(made(tmp_path / "f"))
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(CheckpointError, match="reading failed: Input/output error"):
        file.read(0, 1)


def test_a_stream_reads_and_seeks_up_to_its_end(tmp_path: Path) -> None:
    stream = open_file(made(tmp_path / "f")).stream(8)
    assert stream.read(3) == b"012"
    assert (stream.tell(), stream.seek(-2, io.SEEK_END), stream.read(), stream.read()) == (3, 6, b"67", b"")
    assert (stream.seek(20), stream.read()) == (20, b"")
    assert open_file(tmp_path / "f").stream(99).read() == b"0123456789"
    with pytest.raises(ValueError, match="before the start"):
        stream.raw.seek(-1)


# open_inside


@pytest.mark.parametrize("name", ["f", "sub/f", "./f", "sub//f", "..f", "f..", "sub/f:1"])
def test_a_file_in_the_folder_is_opened(tmp_path: Path, name: str) -> None:
    made(tmp_path / name)
    assert content(open_inside(tmp_path, name, "index")) == b"0123456789"


@pytest.mark.parametrize(
    "name",
    [
        *("../f", "..", "sub/../../f", "sub/../f", "sub/..", "..\\f", "sub\\..\\..\\f"),
        *("/etc/passwd", "//host/f", "C:\\f", "C:/f", "c:f", "http://host/f", "file:///etc/passwd"),
        *("", "a\0b", "\0"),
    ],
)
def test_a_name_that_leads_out_of_the_folder_is_refused_without_a_look_at_it(tmp_path: Path, name: str) -> None:
    made(tmp_path / "f")
    (tmp_path / "home" / "sub").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="index: names a file outside its own folder"):
        open_inside(tmp_path / "home", name, "index")


def test_the_message_keeps_control_characters_escaped(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_inside(tmp_path, "../\x1b[31m\n", "index")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("target", ["../f", "/etc/passwd", "../home/../f"])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    made(tmp_path / "f")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "link").symlink_to(target)
    with pytest.raises(CheckpointError, match="names a file that is a link out of its own folder: 'link'"):
        open_inside(tmp_path / "home", "link", "index")


def test_a_linked_folder_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "other" / "f")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "sub").symlink_to("../other")
    with pytest.raises(CheckpointError, match="is a link out of its own folder"):
        open_inside(tmp_path / "home", "sub/f", "index")


def test_a_neighbour_whose_name_starts_like_the_folder_is_outside(tmp_path: Path) -> None:
    made(tmp_path / "home-of-others" / "f")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "link").symlink_to("../home-of-others/f")
    with pytest.raises(CheckpointError, match="is a link out of its own folder"):
        open_inside(tmp_path / "home", "link", "index")


def test_a_link_that_stays_in_the_folder_is_followed(tmp_path: Path) -> None:
    made(tmp_path / "sub" / "f")
    (tmp_path / "link").symlink_to("sub/f")
    assert content(open_inside(tmp_path, "link", "index")) == b"0123456789"


def test_a_folder_that_is_itself_reached_by_a_link_is_home(tmp_path: Path) -> None:
    made(tmp_path / "home" / "f")
    (tmp_path / "alias").symlink_to("home")
    assert content(open_inside(tmp_path / "alias", "f", "index")) == b"0123456789"


@pytest.mark.parametrize("name", ["missing", "sub/missing"])
def test_a_missing_file_in_the_folder_is_said_to_be_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="there is no such file or folder"):
        open_inside(tmp_path, name, "index")


@pytest.mark.parametrize("name", [".", "sub"])
def test_a_folder_in_the_folder_is_not_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(CheckpointError, match="is not a regular file"):
        open_inside(tmp_path, name, "index")


def test_a_pipe_in_the_folder_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ending_soon(), pytest.raises(CheckpointError, match="is not a regular file"):
        open_inside(tmp_path, "pipe", "index")


def test_a_name_that_cannot_be_encoded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        open_inside(tmp_path, "\ud800", "index")


# The Hugging Face cache: models--NAME/snapshots/REVISION/FILE -> ../../blobs/SHA


def cached(model: Path, name: str = "model.safetensors") -> Path:
    """A model of the cache with one file; its snapshot folder."""
    made(model / "blobs" / "5f4dcc3b")
    link = model / "snapshots" / "abc123" / name
    link.parent.mkdir(parents=True)
    link.symlink_to("../" * (2 + name.count("/")) + "blobs/5f4dcc3b")
    return model / "snapshots" / "abc123"


@pytest.mark.parametrize("name", ["model.safetensors", "text_encoder/model.safetensors"])
def test_a_link_into_the_blobs_of_the_same_cached_model_is_followed(tmp_path: Path, name: str) -> None:
    snapshot = cached(tmp_path / "models--x--y", name)
    assert content(open_inside(snapshot, name, "index")) == b"0123456789"


def test_a_subfolder_of_a_snapshot_is_still_in_the_cache(tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "models--x--y", "text_encoder/model.safetensors")
    assert content(open_inside(snapshot / "text_encoder", "model.safetensors", "index")) == b"0123456789"


def test_a_cached_file_is_named_by_its_link(tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "models--x--y")
    file = open_inside(snapshot, "model.safetensors", "index")
    assert file.location == str(snapshot / "model.safetensors")


def test_a_snapshot_named_by_a_relative_path_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cached(tmp_path / "models--x--y"))
    assert content(open_inside(Path(), "model.safetensors", "index")) == b"0123456789"


@pytest.mark.parametrize("model", ["datasets--x--y", "y"])
def test_a_folder_that_only_looks_like_the_cache_gets_no_exception(tmp_path: Path, model: str) -> None:
    snapshot = cached(tmp_path / model)
    with pytest.raises(CheckpointError, match="is a link out of its own folder"):
        open_inside(snapshot, "model.safetensors", "index")


@pytest.mark.parametrize("target", ["../../../models--x--z/blobs/5f4dcc3b", "../../refs", "../../../f"])
def test_a_cached_link_to_anything_but_the_blobs_of_its_model_is_refused(tmp_path: Path, target: str) -> None:
    snapshot = cached(tmp_path / "models--x--y")
    cached(tmp_path / "models--x--z")
    made(tmp_path / "models--x--y" / "refs")
    made(tmp_path / "f")
    (snapshot / "link").symlink_to(target)
    with pytest.raises(CheckpointError, match="is a link out of its own folder"):
        open_inside(snapshot, "link", "index")


def test_blobs_that_are_a_link_out_of_the_model_are_refused(tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "models--x--y")
    (tmp_path / "models--x--y" / "blobs").rename(tmp_path / "elsewhere")
    (tmp_path / "models--x--y" / "blobs").symlink_to("../elsewhere")
    with pytest.raises(CheckpointError):
        open_inside(snapshot, "model.safetensors", "index")


# Parts of a file


def test_a_part_of_a_file_is_a_file_of_its_own(tmp_path: Path) -> None:
    part = open_file(made(tmp_path / "f")).window(2, 6, "part")
    assert (part.size, part.location, part.sequential, content(part)) == (6, "part", False, b"234567")
    assert part.read(4, 2) == b"67"
    inner = part.window(1, 3, "inner")
    assert (inner.location, content(inner)) == ("inner", b"345")
    assert part.stream().read() == b"234567"
    assert part.stream(4).read() == b"2345"
    stream = part.stream()
    assert (stream.seek(-2, io.SEEK_END), stream.read()) == (4, b"67")


@pytest.mark.parametrize(("start", "size"), [(-1, 2), (0, 11), (10, 1), (5, 6), (2, -1), (2**70, 0), (0, 2**70)])
def test_a_part_that_is_not_all_there_is_refused(tmp_path: Path, start: int, size: int) -> None:
    with pytest.raises(CheckpointError, match="part: the file ends before byte"):
        open_file(made(tmp_path / "f")).window(start, size, "part")


@pytest.mark.parametrize(("offset", "length"), [(0, 5), (4, 1), (-1, 1)])
def test_a_read_beyond_a_part_is_refused_though_the_file_goes_on(tmp_path: Path, offset: int, length: int) -> None:
    part = open_file(made(tmp_path / "f")).window(2, 4, "part")
    with pytest.raises(CheckpointError, match="part: the file ends before byte"):
        part.read(offset, length)
    with pytest.raises(CheckpointError, match="inner: the file ends before byte"):
        part.window(offset, length, "inner")


def test_an_empty_part_may_lie_at_the_end(tmp_path: Path) -> None:
    part = open_file(made(tmp_path / "f")).window(10, 0, "part")
    assert (part.size, content(part)) == (0, b"")


def test_a_part_keeps_its_file_open(tmp_path: Path) -> None:
    part = open_file(made(tmp_path / "f")).window(2, 3, "part").window(1, 2, "inner")
    assert content(part) == b"34"
    descriptor = part.descriptor
    del part
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_system_without_preadv_reads_parts_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_file(made(tmp_path / "f"))
    monkeypatch.delattr(os, "preadv", raising=False)
    assert (content(file.window(3, 4, "part")), content(file)) == (b"3456", b"0123456789")


def test_a_stream_asks_for_no_more_memory_than_there_are_bytes(tmp_path: Path) -> None:
    assert open_file(made(tmp_path / "f")).stream().read(2**60) == b"0123456789"


# Folders


def test_a_folder_knows_its_names_in_order_and_opens_what_lies_in_it(tmp_path: Path) -> None:
    for name in ("b", "a", "sub/c"):
        made(tmp_path / name, name.encode())
    folder = open_folder(tmp_path, "here")
    assert (folder.location, folder.names) == ("here", ("a", "b", "sub"))
    assert content(folder.open("a")) == b"a"
    assert content(folder.open("sub/c")) == b"sub/c"


@pytest.mark.parametrize("name", ["../f", "/etc/passwd", "sub/../../f", "", "..", "\\\\host\\share", "\\f", "c:\\f"])
def test_a_folder_opens_nothing_outside(tmp_path: Path, name: str) -> None:
    made(tmp_path / "f")
    (tmp_path / "home").mkdir()
    with pytest.raises(CheckpointError, match="here: names a file outside its own folder"):
        open_folder(tmp_path / "home", "here").open(name)


def test_a_folder_of_more_entries_than_the_limit_is_refused_without_listing_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        made(tmp_path / str(number))
    with changed_limits({"folder_entries": 5}):
        assert len(open_folder(tmp_path).names) == 5
    with changed_limits({"folder_entries": 4}), pytest.raises(CheckpointError, match="more than the 4 that --limit"):
        open_folder(tmp_path)


@pytest.mark.parametrize("name", ["missing", "f"])
def test_what_is_no_folder_cannot_be_listed(tmp_path: Path, name: str) -> None:
    made(tmp_path / "f")
    with pytest.raises(CheckpointError, match="cannot be listed"):
        open_folder(tmp_path / name)


# Bytes written out


def test_bytes_that_are_written_out_are_a_file_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = written_out((b"012", b"", b"34"), "there")
    assert (file.size, file.location, content(file), file.read(2, 2)) == (5, "there", b"01234", b"23")
    assert [*tmp_path.iterdir()] == []
    descriptor = file.descriptor
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_an_error_on_the_way_leaves_no_file_and_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"012"
        raise CheckpointError("f", "is damaged")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    handles: list[int] = []
    real = tempfile.mkstemp

    def noted(**options: str) -> tuple[int, str]:
        handle, path = real(**options)
        handles.append(handle)
        return handle, path

    monkeypatch.setattr(tempfile, "mkstemp", noted)
    with pytest.raises(CheckpointError, match="is damaged"):
        written_out(pieces(), "there")
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handles[0])


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(CheckpointError, match="there: cannot be written out to a temporary file: No space left"):
        written_out((b"012",), "there")


def test_a_temporary_folder_that_is_missing_is_an_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(CheckpointError, match="there: cannot be written out to a temporary file: No such file"):
        written_out((b"012",), "there")


def test_pieces_that_are_written_in_parts_are_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data)[:2]))
    assert content(written_out((b"0123456",), "there")) == b"0123456"
