"""Options that several commands have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from weightstats.errors import UsageError
from weightstats.extras import need
from weightstats.limits import LIMITS, limit_names

Command = TypeVar("Command", bound=Callable[..., Any])

LAW_NAMES = (
    *("fan-sum", "glorot", "fan-in", "lecun", "he", "torch", "fan-out", "he-fan-out", "largest-fan", "orthogonal"),
    *("spectral", "balanced", "constant", "normal-0.02", "truncated-0.02"),
)
"""The keys of `laws.LAWS`, which is not imported for a completion: it stands on numpy. A test says that they agree."""


def completed_from(
    values: tuple[str, ...],
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]:
    """What a shell offers for an option: the values that begin as the word does."""

    def offered(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        return [CompletionItem(value) for value in values if value.startswith(incomplete)]

    return offered


LAW = click.option(
    "--law",
    default="fan-sum",
    show_default=True,
    metavar="LAW",
    shell_complete=completed_from(LAW_NAMES),
    help="The law under test, c/(n_in+n_out) by default; `weightstats laws` lists them all.",
)
ROOT = click.option(
    "--root", metavar="KEY", help="The part of the file that is the network, e.g. model_state_dict; '' for all of it."
)
RULES = click.option(
    "--rules", type=click.Path(path_type=Path), metavar="FILE", help="A TOML file that says what tensors are."
)
AS_STORED = click.option(
    "--as-stored", is_flag=True, help="Take a weight that holds several maps (q, k and v; gates; experts) as one layer."
)
LIMIT = click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=completed_from(tuple(f"{name}=" for name in limit_names())),
    help="Change a limit on what a file may ask for; repeatable. `weightstats formats --limits` lists them.",
)
PLOT = click.option(
    "--plot",
    type=click.Path(path_type=str, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Draw the charts to FILE as well, a .png, .svg or .pdf.",
)
DEBUG = click.option("--debug", is_flag=True, help="Show a traceback for an error.")


def output(what: str) -> Callable[[Command], Command]:
    """--output FILE, for what a command makes: `the report`."""
    return click.option(
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        help=f"Write {what} to a file instead of stdout.",
    )


def include(doing: str) -> Callable[[Command], Command]:
    """--include GLOB, for what is done with the layers: `Report only layers`."""
    return click.option("--include", multiple=True, metavar="GLOB", help=f"{doing} whose name matches; repeatable.")


def exclude(doing: str) -> Callable[[Command], Command]:
    """--exclude GLOB, for what is done with the layers: `Leave out layers`."""
    return click.option("--exclude", multiple=True, metavar="GLOB", help=f"{doing} whose name matches; repeatable.")


def examples(*lines: str) -> str:
    """An epilog of command lines, each of which stays on a line of its own."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


PICTURES = (".png", ".svg", ".pdf")
"""Suffixes of `--plot`."""


def picture_suffix(plot: str) -> str:
    """The format of the picture that `--plot` names; a usage error where it is none, or what draws it is missing."""
    suffix = Path(plot).suffix.lower()
    if suffix not in PICTURES:
        raise UsageError(f"--plot {plot}: the name must end in one of {', '.join(PICTURES)}")
    need("report", f"--plot {plot}")
    return suffix


def limits_of(given: tuple[str, ...]) -> dict[str, int]:
    """NAME=VALUE as a mapping; a usage error where it is something else."""
    limits = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in limit_names():
            raise UsageError(f"--limit {text}: there is no limit {name!r}; `weightstats formats --limits` lists them")
        if not value.replace("_", "").isdecimal():
            raise UsageError(f"--limit {text}: the value must be a whole number, as in {name}={getattr(LIMITS, name)}")
        limits[name] = int(value)
    return limits
