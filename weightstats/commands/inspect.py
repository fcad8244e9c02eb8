"""`weightstats inspect`: the report on a checkpoint."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weightstats.commands.options import (
    AS_STORED,
    DEBUG,
    LAW,
    LIMIT,
    ROOT,
    RULES,
    examples,
    exclude,
    include,
    limits_of,
    output,
    picture_suffix,
)
from weightstats.commands.output import (
    UNREADABLE,
    ProgressBar,
    command_line,
    deliver,
    look,
    refuse_binary,
    refuse_overwriting,
    tell_damage,
    tell_warnings,
)
from weightstats.errors import UsageError
from weightstats.extras import need
from weightstats.penalties import DEFAULT_WEIGHT_DECAY
from weightstats.renderers import EXTRAS, MODULES

if TYPE_CHECKING:
    from weightstats.report import Report


@click.command(
    short_help="Mean squares, the law, and L2 penalties.",
    epilog=examples(
        "weightstats inspect model.safetensors",
        "weightstats inspect model.safetensors --format html --output model.html",
        "weightstats inspect model.safetensors --law he --plot -",
    ),
)
@click.argument("checkpoint", type=click.Path(path_type=str))
@click.option(
    "--format",
    "format_",
    type=click.Choice(tuple(MODULES)),
    default="terminal",
    show_default=True,
    help="How to report.",
)
@output("the report")
@click.option(
    "--plot",
    type=click.Path(path_type=str, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Draw the charts as well: to a .png, .svg or .pdf, or, with -, in characters below the report.",
)
@click.option(
    "--weight-decay",
    type=click.FloatRange(min=0.0),
    default=DEFAULT_WEIGHT_DECAY,
    show_default=True,
    metavar="X",
    help="The penalties' factor lambda.",
)
@LAW
@ROOT
@RULES
@AS_STORED
@include("Report only layers")
@exclude("Leave out layers")
@LIMIT
@click.option("--strict", is_flag=True, help="Exit with 3 if any tensor could not be read, or its weights not decoded.")
@DEBUG
def inspect(
    checkpoint: str,
    format_: str,
    output: Path | None,
    plot: str | None,
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

    _refuse(format_, output, plot)
    refuse_overwriting({"--output": output, "--plot": plot}, [("checkpoint", checkpoint), ("file of rules", rules)])
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
    tell_warnings(report.checkpoint)
    deliver(_rendered(report, format_, output, in_characters=plot == "-"), output)
    if plot is not None and plot != "-":
        deliver(_picture(report, picture_suffix(plot)), Path(plot))
    incomplete = strict and not report.is_complete
    return tell_damage(report.checkpoint) or (UNREADABLE if incomplete else 0)


def _refuse(format_: str, output: Path | None, plot: str | None) -> None:
    """UsageError for what could not be written in the end, before anything is read."""
    if format_ in EXTRAS:
        need(EXTRAS[format_], f"--format {format_}")
    refuse_binary(format_, output)
    if plot == "-":
        need("plot", "--plot -")
        if format_ != "terminal":
            raise UsageError(f"--plot - draws below the terminal's report, and --format is {format_}: name a file")
    elif plot is not None:
        picture_suffix(plot)


def _rendered(report: "Report", format_: str, output: Path | None, *, in_characters: bool) -> str | bytes:
    from weightstats.renderers import renderer, terminal

    if format_ == "html":
        from weightstats.renderers import html

        return html.render(report, command_line())
    if format_ != "terminal":
        return renderer(format_).render(report)
    appearance = look(output)
    text = terminal.render(report, **appearance)
    if in_characters:
        from weightstats.renderers import characters

        shown = output is not None or characters.is_shown_by(sys.stdout.encoding)
        plot = characters.render(report, appearance["width"], colour=appearance["colour"], ascii_only=not shown)
        text += f"\n{plot}"
    return text


def _picture(report: "Report", suffix: str) -> bytes:
    from weightstats.renderers import charts, pictures

    return pictures.render(charts.report_chart(report), suffix)
