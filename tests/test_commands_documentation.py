"""What docs/commands.md and the manual pages say is what click says, and the examples of each --help run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from commands_documentation import DOCS, Page, generated, manual, markdown, pages, roff

from weightstats.cli import cli

ROOT = DOCS.parent
TRAINED = ROOT / "fixtures/trained"
PAGES = pages()
MANUALS = {page.path: manual(page, PAGES) for page in PAGES}

RULES = '[[rule]]\nmatch = "*.bias"\nignore = true\n'


@pytest.mark.parametrize(("path", "text"), generated().items(), ids=lambda each: getattr(each, "name", ""))
def test_what_is_in_docs_is_what_click_says(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "out of date: `make docs` makes it anew"


def test_there_is_no_page_of_a_command_that_is_gone() -> None:
    assert set((DOCS / "man").iterdir()) == {path for path in generated() if path.suffix == ".1"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_every_command_has_examples_of_itself(page: Page) -> None:
    assert len(page.examples) >= 2
    name = r"weightstats \w+" if page.path == "weightstats" else re.escape(page.path)
    assert all(re.match(rf"{name}(?!\S)|weightstats --", example) for example in page.examples)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_every_command_says_how_it_exits(page: Page) -> None:
    codes = [code for code, _ in page.exit_codes]
    assert {"0", "2", "130"} <= set(codes)
    assert codes == sorted(codes, key=int)
    assert all(meaning for _, meaning in page.exit_codes)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_examples_stay_on_lines_of_their_own_in_80_columns(page: Page) -> None:
    command = [sys.executable, "-m", *page.path.split(), "--help"]
    environment = os.environ | {"COLUMNS": "80"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert [example for example in page.examples if example not in lines] == []
    assert max(map(len, page.examples)) <= 80 - len("    ")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that examples name, and the command."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/weightstats"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m weightstats "$@"\n')
    command.chmod(0o755)
    (tmp_path / "checkpoints").mkdir()
    for file, name in (
        ("mlp-16-final.safetensors", "model.safetensors"),
        ("mlp-16-step0.safetensors", "step-0.safetensors"),
        ("mlp-16-final.safetensors", "final.safetensors"),
        ("mlp-64-final.pt", "model.pt"),
        ("mlp-64-step0.pt", "base.pt"),
        ("mlp-64-final.pt", "tuned.pt"),
        ("mlp-16-step0.safetensors", "checkpoints/step-0.safetensors"),
        ("mlp-16-final.safetensors", "checkpoints/step-100.safetensors"),
    ):
        shutil.copy(TRAINED / file, tmp_path / name)
    (tmp_path / "rules.toml").write_text(RULES)
    if any(page.path == "weightstats check" for page in PAGES):
        policy = subprocess.run([command, "check", "--example"], capture_output=True, text=True, check=True)
        (tmp_path / "policy.toml").write_text(policy.stdout)
    return tmp_path


@pytest.mark.parametrize("example", [example for page in PAGES for example in page.examples])
def test_examples_run(example: str, folder: Path) -> None:
    environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder)}
    command = ["sh", "-c", example]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    may_not_hold = example.startswith("weightstats check")
    assert done.returncode in ((0, 1) if may_not_hold else (0,)), done.stderr
    written = re.search(r"(?:--output|>) (\S+)", example)
    assert (folder / written[1]).stat().st_size > 0 if written else done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_a_manual_page_has_its_sections_in_order(page: Page) -> None:
    found = re.findall(r"^\.SH (.+)$", MANUALS[page.path], re.MULTILINE)
    commands = ["COMMANDS"] if page.path == "weightstats" else []
    before = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"]
    assert found == [*before, *commands, "EXIT STATUS", "EXAMPLES", "SEE ALSO"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_a_manual_page_is_what_every_roff_takes(page: Page) -> None:
    text = MANUALS[page.path]
    assert re.fullmatch(r"[\n -~]*", text)
    assert set(re.findall(r"^([.'].\w*)", text, re.MULTILINE)) <= {
        *(".TH", ".SH", ".PP", ".TP", ".B", ".BR", ".nf", ".fi")
    }
    escapes = re.findall(r"\\(\[u[0-9A-F]{4,6}\]|\(..|f[BR]|[-e&]|.)", text)
    assert all(len(escape) > 1 or escape in "-e&" for escape in escapes)
    assert text.count("\\fB") == text.count("\\fR")
    assert text.count(".nf\n") == text.count(".fi\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_every_option_and_default_is_in_the_manual_page_and_the_document(page: Page) -> None:
    document = (DOCS / "commands.md").read_text(encoding="utf-8")
    command = cli if page.path == "weightstats" else cli.get_command(click.Context(cli), page.path.split()[1])
    assert command is not None
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert len(options) + 1 == len(page.options)  # and --help
    for option in options:
        (said,) = [text for flags, text in page.options if re.match(rf"{option.opts[0]}(?![\w-])", flags)]
        assert roff(said) in MANUALS[page.path]
        assert f"\\fB{roff(option.opts[0])}\\fR" in MANUALS[page.path]
        assert markdown(said) in document
        if option.show_default and isinstance(option.default, str):
            assert f"[default: {option.default}" in said


def test_nothing_generated_has_a_date() -> None:
    assert all(text.splitlines()[0].split('"')[3] == "" for text in MANUALS.values())
    assert not [name for name, text in generated().items() if re.search(r"\b(19|20)\d\d-\d\d-\d\d\b", text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".TH is no macro here", "\\&.TH is no macro here"),
        ("'tis quoted", "\\(aqtis quoted"),
        ("a\\b", "a\\eb"),
        ("--all", "\\-\\-all"),
        ("n² ≥ 2", "n\\[u00B2] \\[u2265] 2"),
        ("see `weightstats laws`.", "see \\fBweightstats laws\\fR."),
        ("`.nf`", "\\fB.nf\\fR"),
        ("~/x^2", "\\(ti/x\\(ha2"),
    ],
)
def test_nothing_in_a_text_means_anything_to_roff(text: str, expected: str) -> None:
    assert roff(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*.json | a_b _c_", "\\*.json \\| a_b \\_c\\_"),
        ("<b> [x](y) [z]", "\\<b> [x\\](y) [z]"),
        ("`a*b|c`", "`a*b\\|c`"),
    ],
)
def test_nothing_in_a_text_but_backticks_means_anything_to_markdown(text: str, expected: str) -> None:
    assert markdown(text) == expected
