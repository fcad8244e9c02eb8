"""Options that several commands have."""

from pathlib import Path

import click

from weightstats.errors import UsageError
from weightstats.limits import LIMITS, limit_names

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
    help="Change a limit on what a file may ask for; repeatable. `weightstats formats --limits` lists them.",
)
DEBUG = click.option("--debug", is_flag=True, help="Show a traceback for an error.")


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
