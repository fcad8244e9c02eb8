"""What the README shows and says is so."""

import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET

import pytest
from readme import README, ROOT, commands, output_of, regenerated

import weightstats
from weightstats import extras
from weightstats.readers import formats
from weightstats.renderers import MODULES, pictures
from weightstats.rules import make_rules

SILERO = ROOT / "fixtures/published/silero-vad/silero_vad_16k.safetensors"
TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", commands(TEXT))
def test_the_output_that_is_shown_is_the_output(command: str) -> None:
    assert f"$ {command}\n{output_of(command)}```" in TEXT


def test_the_demo_runs_the_command_that_is_shown_first() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"$(BIN)/{commands(TEXT)[0]}\n" in makefile


def test_regenerating_changes_nothing() -> None:
    assert regenerated(TEXT) == TEXT


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
def test_the_python_examples_run(example: str) -> None:
    done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout
    assert "silero" not in example or "lstm_cell.weight_hh" in done.stdout


def test_every_format_that_is_read_is_in_the_table_with_how_it_is_recognised() -> None:
    for reader in formats():
        assert f"| {reader.FORMAT} | " in TEXT


def test_every_option_and_output_format_is_described() -> None:
    options = ("--strict", "--root", "--weight-decay", "--include", "--exclude", "--output", "--debug", "--limit")
    for word in (*MODULES, *options, "--rules", "--as-stored", "weightstats layers"):
        assert word in TEXT


def test_the_rules_that_are_shown_can_be_read() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert len(make_rules(tomllib.loads(example)["rule"], "the README").rules) == 3


def test_the_changelog_has_the_version() -> None:
    from weightstats import __version__

    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_picture_is_the_one_that_is_drawn() -> None:
    made = pictures.render(weightstats.inspect(str(SILERO)).chart(), ".svg")
    shown = (ROOT / "docs/pictures/silero-vad.svg").read_bytes()
    assert "(docs/pictures/silero-vad.svg)" in TEXT
    texts = ["".join(element.itertext()) for element in ET.fromstring(made).iter() if element.tag.endswith("text")]  # noqa: S314
    assert len(texts) > 50
    assert texts == ["".join(one.itertext()) for one in ET.fromstring(shown).iter() if one.tag.endswith("text")]  # noqa: S314


def test_every_extra_is_named() -> None:
    for extra in extras.MODULES:
        assert f"`{extra}`" in TEXT


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_makefile_does_what_the_readme_says(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    said = {
        "demo": ["-m venv .venv", "torch==2.13.0", "weightstats inspect"],
        "test": ["-m venv .venv", "torch==2.13.0", ".[dev]", "ruff format --check", "ruff check", "mypy", "pytest"],
    }
    installed = {"-m venv .venv", "torch==2.13.0", ".[dev]"} if (ROOT / ".venv").exists() else set()
    assert [part for part in said[target] if part not in done.stdout and part not in installed] == []
