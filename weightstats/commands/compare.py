"""`weightstats compare`: what changed from one checkpoint to another, or over several."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weightstats.commands.options import AS_STORED, DEBUG, LIMIT, ROOT, RULES, limits_of
from weightstats.commands.output import PIPED_WIDTH, UNREADABLE, ProgressBar, width, write
from weightstats.errors import printable

if TYPE_CHECKING:
    from weightstats.comparison import Comparison
    from weightstats.report import CheckpointPart
    from weightstats.trajectories import Trajectory


@click.command(epilog="Example: weightstats compare step-0.safetensors final.safetensors")
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=str), metavar="BEFORE AFTER...")
@click.option(
    "--format",
    "format_",
    type=click.Choice(("terminal", "json", "csv")),
    default="terminal",
    show_default=True,
    help="How to report.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the report to a file instead of stdout."
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
@click.option("--include", multiple=True, metavar="GLOB", help="Compare only layers whose name matches; repeatable.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out layers whose name matches; repeatable.")
@LIMIT
@DEBUG
def compare(
    checkpoints: tuple[str, ...],
    format_: str,
    output: Path | None,
    law: str,
    root: str | None,
    rules: Path | None,
    as_stored: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    limits: tuple[str, ...],
    debug: bool,
) -> int:
    """Report what changed from BEFORE to AFTER, two checkpoints of one network: how far the weights of each layer
    moved, and whether towards the law or away from it.

    They may be of any format that is read, and of different ones: step 0 and the end, a base and what was fine-tuned
    from it, floats and quantised weights. Layers are matched by their names and compared element by element.

    More than two, in order, or one folder of checkpoints with steps in their names (step-500.pt, checkpoint-1000,
    net-final.pt), are reported step by step.

    Exit codes: 0 read and reported; 2 usage; 3 a checkpoint could not be read or is truncated, or the report could not
    be written; 130 interrupted.
    """
    from weightstats import comparing

    how: dict[str, Any] = {"law": law, "root": root, "as_stored": as_stored, "rules": rules}
    how |= {"include": include, "exclude": exclude, "limits": limits_of(limits)}
    with ProgressBar() as progress:
        how["progress"] = progress.advance
        if len(checkpoints) == 2:
            return _compared(comparing.compare(*checkpoints, **how), format_, output)
        of = checkpoints[0] if len(checkpoints) == 1 else checkpoints
        return _followed(comparing.trajectory(of, **how), format_, output)


def _compared(comparison: "Comparison", format_: str, output: Path | None) -> int:
    from weightstats.renderers import comparison_terminal, comparison_text

    if format_ == "terminal":
        text = comparison_terminal.render(comparison, **_look(output))
    else:
        text = comparison_text.as_json(comparison) if format_ == "json" else comparison_text.as_csv(comparison)
    parts = {"before": comparison.before.checkpoint, "after": comparison.after.checkpoint}
    return _written(text, output, iter(parts.items()))


def _followed(trajectory: "Trajectory", format_: str, output: Path | None) -> int:
    from weightstats.renderers import trajectory_text

    if format_ == "terminal":
        text = trajectory_text.as_terminal(trajectory, **_look(output))
    else:
        text = trajectory_text.as_json(trajectory) if format_ == "json" else trajectory_text.as_csv(trajectory)
    return _written(text, output, ((step.checkpoint.location, step.checkpoint) for step in trajectory.steps))


def _look(output: Path | None) -> dict[str, Any]:
    """What a terminal's text is made for."""
    on_terminal = sys.stdout.isatty() and output is None
    colour = on_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return {
        "width": width() if output is None else PIPED_WIDTH,
        "colour": colour,
        "warnings": output is not None,
    }


def _written(text: str, output: Path | None, parts: "Iterator[tuple[str, CheckpointPart]]") -> int:
    """Write the report, and what is wrong with its checkpoints on stderr; the exit code."""
    known = list(parts)
    for name, part in known:
        for warning in part.warnings:
            click.echo(f"warning: {printable(name)}: {printable(warning)}", err=True)
    if output is not None:
        output.write_text(text, encoding="utf-8", newline="")
    else:
        write(text)
    damaged = [part for _, part in known if part.damage is not None]
    for part in damaged:
        click.echo(printable(f"{part.location}: {part.damage}"), err=True)
    return UNREADABLE if damaged else 0
