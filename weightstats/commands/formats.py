"""`weightstats formats`: what can be read."""

import click

from weightstats.commands.options import examples
from weightstats.commands.output import width, write


@click.command(
    short_help="The formats that are read, and limits.",
    epilog=examples("weightstats formats", "weightstats formats --limits"),
)
@click.option("--limits", "show_limits", is_flag=True, help="List the limits that --limit changes instead.")
def formats(show_limits: bool) -> None:
    """List the formats that are read, how each is recognised, and what it needs to be installed.

    The content of a file decides which format it is, never its name.

    Exit codes: 0 listed; 2 usage; 130 interrupted.
    """
    from weightstats.renderers import tables

    write(tables.limits(width()) if show_limits else tables.formats(width()))
