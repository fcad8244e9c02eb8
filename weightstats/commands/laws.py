"""`weightstats laws`: what mean squares can be tried against."""

import click

from weightstats.commands.options import examples
from weightstats.commands.output import width, write


@click.command(
    short_help="The laws that mean squares are tried against.",
    epilog=examples("weightstats laws", "weightstats laws --format json"),
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(("terminal", "json")),
    default="terminal",
    show_default=True,
    help="How to list.",
)
def laws(format_: str) -> None:
    """List the laws that mean squares are tried against, with formula and source.

    `weightstats inspect --law LAW` puts one of them to the test; the contest in its report has them all.

    Exit codes: 0 listed; 2 usage; 130 interrupted.
    """
    from weightstats.renderers import tables

    write(tables.laws_as_json() if format_ == "json" else tables.laws(width()))
