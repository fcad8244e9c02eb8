"""The command line with hostile paths and surroundings: a documented exit code, and never a traceback."""
# ruff: noqa: N802 - the id of a case is part of the test's name

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bounded import measured, run_bounded
from makers import entry, floats, safetensors_file, wait_until_open

import weightstats
from weightstats.errors import CheckpointError

ROOT = Path(__file__).resolve().parent.parent
SOUND = safetensors_file({"layer.weight": entry("F32", [2, 2], 0, 16)}, floats(1, 2, 3, 4))


def run(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    command = [sys.executable, "-m", "weightstats", *arguments]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, check=False, **options)
    assert b"Traceback" not in done.stderr
    assert done.stderr.decode().replace("\n", "").isprintable()
    return done


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A sound checkpoint."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(SOUND)
    return path


NAMES = (b"-x.pt", b"--help", b"a\nb.pt", b"\x1b[31m.pt", b"\xff\xfe.pt", b" ", "\u202e.pt".encode(), b"[b]x.pt")


@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"I11 {name!r}")
@pytest.mark.parametrize("format_", ["terminal", "json", "csv", "markdown"])
def test_I11_a_file_of_any_name_is_read_and_its_name_never_acts(tmp_path: Path, name: bytes, format_: str) -> None:
    (Path(os.fsdecode(tmp_path)) / os.fsdecode(name)).write_bytes(SOUND)
    done = run("inspect", "--format", format_, "--", name, cwd=tmp_path, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert not {"\x1b", "\u202e"} & set(done.stdout.decode())


@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"I11 {name!r}")
def test_I11_a_missing_file_of_any_name_is_one_line(tmp_path: Path, name: bytes) -> None:
    done = run("inspect", "--", name, cwd=tmp_path, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (3, b"", 1)
    assert b"there is no such file or folder" in done.stderr


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"", "is empty (0 bytes)", id="I11 0 bytes"),
        pytest.param(b"\0", "is not in a format that is read", id="I11 1 byte"),
        pytest.param(b"{", "", id="I11 1 byte of JSON"),
        pytest.param(b"\x80", "", id="I11 1 byte of a pickle"),
        pytest.param(b"P", "", id="I11 1 byte of an archive"),
        pytest.param(np.random.default_rng(0).bytes(1 << 20), "is not in a format that is read", id="I11 random 1 MB"),
        pytest.param(bytes(1 << 20), "is not in a format that is read", id="I11 zeros 1 MB"),
        pytest.param(b"\xff" * (1 << 20), "is not in a format that is read", id="I11 ones 1 MB"),
        pytest.param(b"hello\n" * 1000, "is not in a format that is read", id="I11 text"),
    ],
)
def test_I11_a_file_of_nothing_known_is_refused_within_the_bounds(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "f").write_bytes(content)
    result = run_bounded([tmp_path / "f"], len(content), len(content))
    assert (result.code, result.out) == (3, "")
    assert problem in result.err


@pytest.mark.parametrize("name", ["model.pt", "model.gguf", "model.h5", "model.onnx", "x.index.json", "model.keras"])
def test_I11_a_file_of_nothing_known_is_refused_by_any_name(tmp_path: Path, name: str) -> None:
    for content in (b"\0", b"{", b"\x80", b"P", b"[", b"PK\3\4", bytes(5000), b"\xff" * 5000, b"hello\n" * 1000):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            weightstats.inspect(str(tmp_path / name))
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "first", [b"\0", b"PK\3\4", b"\x80\2", b"\x02\0\0\0\0\0\0\0{}"], ids=lambda first: f"I11 {first!r}"
)
def test_I11_a_sparse_file_of_5_GB_is_refused_within_the_bounds_of_a_small_one(tmp_path: Path, first: bytes) -> None:
    path = tmp_path / "sparse.bin"
    with path.open("wb") as stream:
        stream.write(first)
        stream.truncate(5 << 30)
    result = run_bounded([path], 0, 0)
    assert (result.code, result.out) == (3, "")


def test_I11_an_empty_folder_and_a_device_are_refused(tmp_path: Path) -> None:
    for path, problem in ((tmp_path, "is a folder with no checkpoint in it"), ("/dev/null", "is not a regular file")):
        result = run_bounded([path], 0, 0)
        assert result.code == 3
        assert problem in result.err


@pytest.mark.parametrize("name", ["", "x" * 300, "x" * 5000, "x/" * 2000])
def test_I11_a_path_that_cannot_be_is_one_line(name: str) -> None:
    result = measured("inspect", "--", name)
    assert (result.code, result.out, result.err.count("\n")) == (3, "", 1)
    assert "Traceback" not in result.err


def test_I11_a_file_that_is_deleted_while_it_is_read_is_read(file: Path) -> None:
    report = weightstats.inspect(str(file), progress=lambda done, total: file.unlink(missing_ok=True))
    assert [layer.max_abs for layer in report.layers] == [4.0]


def test_I11_a_file_that_is_cut_while_it_is_read_costs_its_tensors(file: Path) -> None:
    report = weightstats.inspect(str(file), progress=lambda done, total: os.truncate(file, len(SOUND) - 4))
    [unread] = report.unread
    assert unread.name == "layer.weight"
    assert "before the data that it promises" in unread.reason


def test_I11_an_interrupt_exits_with_130_in_one_line(tmp_path: Path) -> None:
    path, size = tmp_path / "zeros.safetensors", 8 << 30
    start = safetensors_file({"a.weight": entry("F64", [1 << 14, size >> 17], 0, size)})
    with path.open("wb") as stream:
        stream.write(start)
        stream.truncate(len(start) + size)
    command = [sys.executable, "-m", "weightstats", "inspect", str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_until_open(process.pid, path)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, "Traceback" in err) == (130, "", False)
    assert err.strip().splitlines()[-1] == "interrupted"


@pytest.mark.parametrize("format_", ["terminal", "json", "csv", "markdown"])
def test_I11_a_reader_that_has_gone_away_is_no_error(file: Path, format_: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run("inspect", file, "--format", format_, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_I11_a_closed_standard_output_is_one_line_at_most(file: Path) -> None:
    command = f'exec "{sys.executable}" -m weightstats inspect "$0" >&-'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["/bin/sh", "-c", command, file], env=environment, stderr=subprocess.PIPE, check=False)
    assert done.returncode in (0, 3)
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") <= 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_P11_a_full_disk_is_one_line(file: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run("inspect", file, stdout=full)
    assert (done.returncode, done.stderr.count(b"\n")) == (3, 1)
    assert os.strerror(errno.ENOSPC).encode() in done.stderr
    result = measured("inspect", file, "--output", "/dev/full")
    assert (result.code, result.out, result.err.count("\n")) == (3, "", 1)
    assert os.strerror(errno.ENOSPC) in result.err


@pytest.mark.parametrize("where", ["missing/report.txt", "."])
def test_P11_an_output_that_cannot_be_written_is_one_line(file: Path, tmp_path: Path, where: str) -> None:
    result = measured("inspect", file, "--output", tmp_path / where)
    assert (result.code, result.out) in ((3, ""), (2, ""))
    assert "Traceback" not in result.err


def test_I11_a_dumb_terminal_and_a_home_that_cannot_be_written_are_enough(file: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    surroundings = {"TERM": "dumb", "HOME": str(home), "LC_ALL": "C", "LANG": "C"}
    done = run("inspect", file, env=surroundings, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\x1b" not in done.stdout
    assert [*home.iterdir()] == []


def test_I11_nothing_is_asked_of_the_network(file: Path) -> None:
    watch = (
        "import sys\n"
        "def watch(event, arguments):\n"
        "    if event.startswith(('socket.', 'urllib.', 'http.')):\n"
        "        raise SystemExit(99)\n"
        "sys.addaudithook(watch)\n"
        "from weightstats.cli import main\n"
        "main()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", watch, "inspect", str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
