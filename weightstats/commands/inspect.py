"""`weightstats inspect`: the report on a checkpoint."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weightstats.commands.options import AS_STORED, DEBUG, LIMIT, ROOT, RULES, limits_of
from weightstats.commands.output import PIPED_WIDTH, UNREADABLE, ProgressBar, width, write
from weightstats.errors import printable
from weightstats.penalties import DEFAULT_WEIGHT_DECAY
from weightstats.renderers import MODULES

if TYPE_CHECKING:
    from weightstats.report import Report


@click.command(epilog="Example: weightstats inspect model.safetensors --format json --output report.json")
@click.argument("checkpoint", type=click.Path(path_type=str))
@click.option(
    "--format",
    "format_",
    type=click.Choice(tuple(MODULES)),
    default="terminal",
    show_default=True,
    help="How to report.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the report to a file instead of stdout."
)
@click.option(
    "--weight-decay",
    type=click.FloatRange(min=0.0),
    default=DEFAULT_WEIGHT_DECAY,
    show_default=True,
    metavar="X",
    help="The penalties' factor lambda.",
)
@click.option(
    "--law",
    default="fan-sum",
    show_default=True,
    metavar="LAW",
    help="The law under test, c/(n_in+n_out) by default; `weightstats laws` lists them all.",
)
@ROOT
@RULES
@AS_STORED
@click.option("--include", multiple=True, metavar="GLOB", help="Report only layers whose name matches; repeatable.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out layers whose name matches; repeatable.")
@LIMIT
@click.option("--strict", is_flag=True, help="Exit with 3 if any tensor could not be read, or its weights not decoded.")
@DEBUG
def inspect(
    checkpoint: str,
    format_: str,
    output: Path | None,
    weight_decay: float,
    law: str,
    root: str | None,
    rules: Path | None,
    as_stored: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    limits: tuple[str, ...],
    strict: bool,
    debug: bool,
) -> int:
    """Report the mean squared weight of each layer of CHECKPOINT, and what L2 penalties make of it.

    CHECKPOINT is a file of any format that `weightstats formats` lists, an index of shards (*.index.json), or a folder
    that holds them. Nothing in it is executed.

    The mean squares are fitted to c/(n_in+n_out); the penalties are the plain, the per-element and the fan-scaled one.

    Exit codes: 0 read and reported; 2 usage; 3 the checkpoint could not be read or is truncated, or the report could
    not be written, with --strict also when a tensor could not be read; 130 interrupted.
    """
    from weightstats.inspection import inspect as inspect_checkpoint

    with ProgressBar() as progress:
        report = inspect_checkpoint(
            checkpoint,
            weight_decay=weight_decay,
            law=law,
            root=root,
            include=include,
            exclude=exclude,
            as_stored=as_stored,
            rules=rules,
            limits=limits_of(limits),
            progress=progress.advance,
        )
    for warning in report.checkpoint.warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    text = _rendered(report, format_, to_file=output is not None)
    if output is not None:
        output.write_text(text, encoding="utf-8", newline="")
    else:
        write(text)
    if report.checkpoint.damage is not None:
        click.echo(printable(f"{report.checkpoint.location}: {report.checkpoint.damage}"), err=True)
        return UNREADABLE
    return UNREADABLE if strict and not report.is_complete else 0


def _rendered(report: "Report", format_: str, *, to_file: bool) -> str:
    from weightstats.renderers import renderer, terminal

    if format_ != "terminal":
        return renderer(format_).render(report)
    on_terminal = sys.stdout.isatty() and not to_file
    colour = on_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    columns = PIPED_WIDTH if to_file else width()
    return terminal.render(report, width=columns, colour=colour, warnings=to_file)
