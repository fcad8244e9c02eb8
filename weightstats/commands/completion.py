"""`weightstats completion`: what makes a shell complete commands, options and their values."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from weightstats.commands.options import examples
from weightstats.commands.output import write

SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}

VARIABLE = "_WEIGHTSTATS_COMPLETE"
"""Tells a process of `weightstats` that a shell asks what could stand in a command line; click's name for it."""


@click.command(
    short_help="A script that makes a shell complete.",
    epilog=examples(
        "weightstats completion bash > weightstats-completion.sh",
        "weightstats completion fish > weightstats.fish",
    ),
)
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
def completion(shell: str) -> None:
    """Print a script that makes SHELL complete commands, options, their values and names of files.

    \b
    bash (4.4 or newer), in ~/.bashrc:
      eval "$(weightstats completion bash)"

    \b
    zsh, in ~/.zshrc, behind the line with compinit:
      eval "$(weightstats completion zsh)"

    \b
    fish, once:
      weightstats completion fish > ~/.config/fish/completions/weightstats.fish

    The command itself changes nothing. New shells take it up.

    Exit codes: 0 printed; 2 usage; 130 interrupted.
    """
    write(script(click.get_current_context().find_root().command, shell))


def script(command: click.Command, shell: str) -> str:
    """The script for one of SHELLS, made without running that shell."""
    made = SHELLS[shell](command, {}, "weightstats", VARIABLE)
    return f"{ShellComplete.source(made).rstrip()}\n"  # BashComplete.source would run bash to see its version
