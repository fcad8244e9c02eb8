"""Completion in shells: what a TAB offers, that it is quick, and that the scripts are what a shell takes."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete

from weightstats.cli import cli
from weightstats.commands import COMMANDS
from weightstats.commands.completion import SHELLS, VARIABLE, script
from weightstats.commands.groups import PENALTY_NAMES
from weightstats.commands.options import LAW, LAW_NAMES, LIMIT
from weightstats.laws import LAWS
from weightstats.limits import limit_names
from weightstats.renderers import MODULES

ROOT = Path(__file__).resolve().parent.parent

ASKED = """
source {script}
compopt() {{ echo compopt "$@"; }}
COMP_WORDS=({words})
COMP_CWORD={position}
COMPREPLY=()
_weightstats_completion weightstats
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
"""What bash does at a TAB, but that outside of one there is no compopt."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the command `weightstats` and the script for bash."""
    made = tmp_path_factory.mktemp("bin")
    (made / "weightstats").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m weightstats "$@"\n')
    (made / "weightstats").chmod(0o755)
    (made / "script").write_text(script(cli, "bash"))
    return made


def offered_by_bash(folder: Path, *words: str) -> list[str]:
    """What bash, with the script sourced, offers for the last word; `compopt -o default` for the names of files."""
    quoted = " ".join(f"'{word}'" for word in ("weightstats", *words))
    asked = ASKED.format(script=folder / "script", words=quoted, position=len(words))
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    command = ["bash", "--norc", "--noprofile", "-c", asked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def offered(shell: str, words: str, position: str) -> list[str]:
    """What the command prints for the script of a shell."""
    asked = {VARIABLE: f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": position}
    command = [sys.executable, "-m", "weightstats"]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_completes_commands(folder: Path) -> None:
    assert offered_by_bash(folder, "") == list(COMMANDS)
    assert offered_by_bash(folder, "la") == ["layers", "laws"]


def test_bash_completes_options(folder: Path) -> None:
    assert {"--format", "--law", "--rules", "--strict"} <= set(offered_by_bash(folder, "inspect", "--"))
    assert offered_by_bash(folder, "groups", "model.pt", "--pen") == ["--penalty"]


def test_bash_completes_values(folder: Path) -> None:
    assert offered_by_bash(folder, "inspect", "--format", "") == list(MODULES)
    assert offered_by_bash(folder, "inspect", "--format", "=") == list(MODULES)
    assert offered_by_bash(folder, "groups", "--penalty", "") == list(PENALTY_NAMES)
    assert offered_by_bash(folder, "completion", "") == list(SHELLS)


@pytest.mark.parametrize(
    "words",
    [("inspect", ""), ("inspect", "mod"), ("layers", "a.pt", "--rules", ""), ("groups", "a.pt", "--output", "")],
)
def test_bash_is_left_to_complete_names_of_files(folder: Path, words: tuple[str, ...]) -> None:
    assert offered_by_bash(folder, *words)[0] == "compopt -o default"


@pytest.mark.parametrize("name", COMMANDS)
def test_all_options_of_a_command_are_offered(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = [option for param in command.params if isinstance(param, click.Option) for option in param.opts]
    assert set(offered("bash", f"weightstats {name} -", "2")) >= {f"plain,{option}" for option in options}


@pytest.mark.parametrize(
    ("shell", "words", "position"), [("zsh", "weightstats la", "1"), ("fish", "weightstats la", "la")]
)
def test_other_shells_are_told_what_the_commands_do(shell: str, words: str, position: str) -> None:
    said = offered(shell, words, position)
    assert (
        said
        == {
            "zsh": [
                *("plain", "layers", "What each tensor is taken for, and why."),
                *("plain", "laws", "The laws that mean squares are tried against."),
            ],
            "fish": [
                "plain,layers\tWhat each tensor is taken for, and why.",
                "plain,laws\tThe laws that mean squares are tried against.",
            ],
        }[shell]
    )


def test_laws_are_completed() -> None:
    asking = BashComplete(click.Command("asking", params=[]), {}, "asking", "")
    asking.cli = LAW(asking.cli)
    assert [item.value for item in asking.get_completions(["--law"], "")] == list(LAW_NAMES)
    assert [item.value for item in asking.get_completions(["--law"], "he")] == ["he", "he-fan-out"]


def test_limits_are_completed_up_to_their_value() -> None:
    asking = BashComplete(click.Command("asking", params=[]), {}, "asking", "")
    asking.cli = LIMIT(asking.cli)
    assert [item.value for item in asking.get_completions(["--limit"], "")] == [f"{name}=" for name in limit_names()]
    assert [item.value for item in asking.get_completions(["--limit"], "sha")] == ["shards="]


def test_the_laws_that_are_completed_are_those_there_are() -> None:
    assert list(LAW_NAMES) == [law.key for law in LAWS]


@pytest.mark.parametrize(
    "words",
    [
        "weightstats ",
        "weightstats inspect --",
        "weightstats groups --penalty ",
        *(f"weightstats {name} --" for name in COMMANDS),
    ],
)
def test_a_completion_imports_no_large_library(words: str) -> None:
    code = (
        "import sys\nfrom weightstats.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.exit(str(sorted({'numpy', 'scipy', 'torch', 'rich'} & set(sys.modules))))"
    )
    asked = {VARIABLE: "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]"
    assert done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_names_the_command_and_what_asks_it(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "weightstats", "completion", shell], capture_output=True, text=True, check=True
    )
    assert f"{VARIABLE}={shell}_complete" in done.stdout
    assert done.stdout == script(cli, shell)
    assert done.stdout.endswith("\n")
    assert not done.stdout.endswith("\n\n")


def test_no_shell_is_run_for_its_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    assert all(script(cli, shell) for shell in SHELLS)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_help_says_what_to_do_in_each_shell(shell: str) -> None:
    command = cli.get_command(click.Context(cli), "completion")
    assert command is not None
    lines = command.get_help(click.Context(command, info_name="completion", terminal_width=80)).splitlines()
    (place,) = (index for index, line in enumerate(lines) if line.startswith(f"  {shell}") and line.endswith(":"))
    assert f"weightstats completion {shell}" in lines[place + 1]


def test_another_shell_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "weightstats", "completion", "tcsh"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in done.stderr
