"""What a command writes never replaces what it reads."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import click.testing
import numpy as np
import pytest
import safetensors.numpy

from weightstats import UsageError
from weightstats.cli import cli
from weightstats.commands.output import refuse_overwriting

MADE = Path(__file__).resolve().parent.parent / "fixtures/made"

POLICY = "[[rule]]\nnonfinite = 0\n"
RULES = '[[rule]]\nmatch = "nothing"\nkind = "other"\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two checkpoints, a policy and a file of rules."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.pt", "x.png"):
        (tmp_path / name).write_bytes((MADE / "mixed.pt").read_bytes())
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "ruled.toml").write_text(f'[inspect]\nrules = "rules.toml"\n{POLICY}')
    return tmp_path


def refused(place: Path, *arguments: str) -> str:
    """Why a command line is refused, by which no file has changed."""
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    result = click.testing.CliRunner().invoke(cli, arguments)
    assert isinstance(result.exception, UsageError), result.exception
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    return str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("inspect a.pt --format json --output a.pt", "--output a.pt: that is the checkpoint itself"),
        ("inspect a.pt --output ./a.pt", "--output a.pt: that is the checkpoint itself"),
        (
            "inspect a.pt --rules rules.toml --output rules.toml",
            "--output rules.toml: that is the file of rules itself",
        ),
        ("inspect x.png --plot x.png", "--plot x.png: that is the checkpoint itself"),
        ("inspect a.pt --output b.png --plot b.png", "--plot b.png: that is the file of --output"),
        ("check a.pt --policy policy.toml --output a.pt", "--output a.pt: that is the checkpoint itself"),
        ("check a.pt --policy policy.toml --output policy.toml", "--output policy.toml: that is the policy itself"),
        ("check a.pt --policy policy.toml --rules rules.toml --output rules.toml", "that is the file of rules itself"),
        ("check a.pt --policy ruled.toml --output rules.toml", "that is the file of rules itself"),
        ("compare a.pt x.png --output a.pt", "--output a.pt: that is the checkpoint itself"),
        ("compare a.pt x.png --plot x.png", "--plot x.png: that is the checkpoint itself"),
        ("compare a.pt a.pt x.png --output x.png", "--output x.png: that is the checkpoint itself"),
        ("compare a.pt x.png --rules rules.toml --output rules.toml", "that is the file of rules itself"),
        ("groups a.pt --output a.pt", "--output a.pt: that is the checkpoint itself"),
        ("groups a.pt --rules rules.toml --output rules.toml", "that is the file of rules itself"),
    ],
)
def test_what_is_read_is_not_replaced(arguments: str, problem: str, place: Path) -> None:
    assert problem in refused(place, *arguments.split())


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_to_the_checkpoint_is_the_checkpoint(link: Callable[[str, str], None], place: Path) -> None:
    link("a.pt", "b.html")
    assert refused(place, "inspect", "a.pt", "--output", "b.html") == "--output b.html: that is the checkpoint itself"


def test_nothing_is_read_before(place: Path) -> None:
    (place / "none.pt").write_bytes(b"nothing")
    assert refused(place, "inspect", "none.pt", "--output", "none.pt").endswith("that is the checkpoint itself")


def test_a_name_in_the_message_is_printable(place: Path) -> None:
    name = "\x1b[31m.pt"
    (place / "a.pt").rename(place / name)
    assert refused(place, "inspect", name, "--output", name) == ("--output \\x1b[31m.pt: that is the checkpoint itself")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A folder with an index, two shards, a configuration, and a file in a folder below."""
    folder = tmp_path / "model"
    (folder / "below").mkdir(parents=True)
    for name in ("a", "b"):
        safetensors.numpy.save_file({f"{name}.weight": np.ones((3, 4), np.float32)}, folder / f"{name}.safetensors")
    index = {"weight_map": {f"{name}.weight": f"{name}.safetensors" for name in ("a", "b")}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"schema": "mine"}')
    (folder / "below/variables.data").write_bytes(b"numbers")
    return folder


@pytest.mark.parametrize("checkpoint", ["model", "model/model.safetensors.index.json"])
@pytest.mark.parametrize(
    "name", ["a.safetensors", "config.json", "model.safetensors.index.json", "below/variables.data"]
)
def test_files_of_a_folder_are_not_replaced(
    checkpoint: str, name: str, sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sharded.parent)
    assert f"--output model/{name}: that " in refused(sharded, "inspect", checkpoint, "--output", f"model/{name}")


def test_a_link_to_a_file_below_the_folder_is_not_written_through(sharded: Path) -> None:
    output = sharded.parent / "elsewhere"
    output.symlink_to(sharded / "below/variables.data")
    with pytest.raises(UsageError, match="may be a part of it"):
        refuse_overwriting({"--output": output}, [("checkpoint", sharded)])


def test_a_file_that_a_link_in_the_folder_leads_to_is_not_replaced(sharded: Path) -> None:
    blob = sharded.parent / "blob"
    (sharded / "a.safetensors").rename(blob)
    (sharded / "a.safetensors").symlink_to(blob)
    for output in (blob, sharded / "a.safetensors"):
        with pytest.raises(UsageError, match="may be a part of it"):
            refuse_overwriting({"--output": output}, [("checkpoint", sharded)])


@pytest.mark.parametrize("name", ["new", "report.html", "layers.csv", "report.json", "found.sarif", "found.json"])
def test_reports_beside_the_weights_are_replaced(name: str, sharded: Path) -> None:
    texts = {
        "report.json": '{\n "schema": "weightstats/report/1",',
        "found.json": '{\n "$schema": "x/sarif-schema-2.1.0.json"',
    }
    if name != "new":
        (sharded / name).write_text(texts.get(name, "text"))
    refuse_overwriting({"--output": sharded / name}, [("checkpoint", sharded)])


@pytest.mark.parametrize("format_", ["json", "html"])
def test_a_report_is_written_again(format_: str, sharded: Path) -> None:
    output = sharded / f"report.{format_}"
    for _ in range(2):
        arguments = ["inspect", str(sharded), "--format", format_, "--output", str(output)]
        assert click.testing.CliRunner().invoke(cli, arguments).exception is None
    assert output.stat().st_size > 1000


def test_every_json_that_is_written_is_told_from_a_configuration(sharded: Path) -> None:
    policy = sharded.parent / "policy.toml"
    policy.write_text(POLICY)
    for number, arguments in enumerate(
        (
            ("inspect", "--format", "json"),
            ("compare", str(sharded), "--format", "json"),
            ("groups", "--as", "json"),
            ("check", "--policy", str(policy), "--format", "json"),
            ("check", "--policy", str(policy), "--format", "sarif"),
        )
    ):
        output = str(sharded / f"{number}.json")
        for _ in range(2):
            result = click.testing.CliRunner().invoke(cli, [*arguments, str(sharded), "--output", output])
            assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert Path(output).stat().st_size > 100


@pytest.mark.parametrize("spread", ["model.ckpt", "model.ckpt.index", "model.onnx", "w-00001-of-00002.gguf"])
def test_the_other_files_of_a_checkpoint_are_not_replaced(spread: str, tmp_path: Path) -> None:
    other = tmp_path / "model.ckpt.data-00000-of-00001"
    other.write_bytes(b"numbers")
    (tmp_path / (f"{spread}.index" if spread == "model.ckpt" else spread)).write_bytes(b"checkpoint")
    with pytest.raises(UsageError, match="may be a part of it"):
        refuse_overwriting({"--output": other}, [("checkpoint", str(tmp_path / spread))])


def test_what_lies_beside_one_file_is_replaced(place: Path) -> None:
    (place / "report").write_text("text")
    refuse_overwriting({"--output": Path("report"), "--plot": "-"}, [("checkpoint", "a.pt"), ("file of rules", None)])
    refuse_overwriting({"--output": Path("report")}, [("checkpoint", "not-there.pt")])
    refuse_overwriting({"--output": Path(os.devnull)}, [("checkpoint", os.devnull)])
