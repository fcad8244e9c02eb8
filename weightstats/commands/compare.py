"""`weightstats compare`: what changed from one checkpoint to another, or over several."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weightstats.commands.options import (
    AS_STORED,
    DEBUG,
    LAW,
    LIMIT,
    PLOT,
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
    ProgressBar,
    command_line,
    deliver,
    look,
    refuse_overwriting,
    tell_damage,
    tell_warnings,
)
from weightstats.errors import UsageError, printable, quoted
from weightstats.extras import need
from weightstats.renderers import EXTRAS

if TYPE_CHECKING:
    from weightstats.comparison import Comparison
    from weightstats.report import CheckpointPart
    from weightstats.trajectories import Trajectory


@click.command(
    short_help="What changed between checkpoints.",
    epilog=examples(
        "weightstats compare step-0.safetensors final.safetensors",
        "weightstats compare base.pt tuned.pt --format csv --output changes.csv",
        "weightstats compare checkpoints/ --format html --output training.html",
    ),
)
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=str), metavar="BEFORE AFTER...")
@click.option(
    "--format",
    "format_",
    type=click.Choice(("terminal", "json", "csv", "html")),
    default="terminal",
    show_default=True,
    help="How to report.",
)
@output("the report")
@PLOT
@LAW
@ROOT
@RULES
@AS_STORED
@include("Compare only layers")
@exclude("Leave out layers")
@LIMIT
@DEBUG
def compare(
    checkpoints: tuple[str, ...],
    format_: str,
    output: Path | None,
    plot: str | None,
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

    Where hardly a layer of one is a layer of another, which may then be of two networks, a warning says so; where none
    is, the report has the reasons, and the exit code is 2.

    Exit codes: 0 read and reported; 2 usage, or no layer in common; 3 a checkpoint could not be read or is truncated,
    or the report could not be written; 130 interrupted.
    """
    from weightstats import comparing

    if format_ in EXTRAS:
        need(EXTRAS[format_], f"--format {format_}")
    suffix = None if plot is None else picture_suffix(plot)
    read = (*(("checkpoint", checkpoint) for checkpoint in checkpoints), ("file of rules", rules))
    refuse_overwriting({"--output": output, "--plot": plot}, read)
    how: dict[str, Any] = {"law": law, "root": root, "as_stored": as_stored, "rules": rules}
    how |= {"include": include, "exclude": exclude, "limits": limits_of(limits)}
    with ProgressBar() as progress:
        how["progress"] = progress.advance
        if len(checkpoints) == 2:
            made: Comparison | Trajectory = comparing.compare(*checkpoints, **how)
        else:
            made = comparing.trajectory(checkpoints[0] if len(checkpoints) == 1 else checkpoints, **how)
    parts = _parts(made)
    for name, part in parts:
        tell_warnings(part, name)
    for doubt in made.doubts:
        click.echo(f"warning: {printable(doubt)}", err=True)
    deliver(_rendered(made, format_, output), output)
    if plot is not None and suffix is not None:
        _draw(made, suffix, Path(plot))
    code = max(tell_damage(part) for _, part in parts)
    if made.is_disjoint and not code:
        first, last = (quoted(part.location) for _, part in (parts[0], parts[-1]))
        raise UsageError(f"{first} and {last} have no layer in common: there is nothing to compare")
    return code


def _parts(made: "Comparison | Trajectory") -> "list[tuple[str, CheckpointPart]]":
    """What was read, and what warnings call it."""
    from weightstats.comparison import Comparison

    if isinstance(made, Comparison):
        return [("before", made.before.checkpoint), ("after", made.after.checkpoint)]
    return [(step.checkpoint.location, step.checkpoint) for step in made.steps]


def _rendered(made: "Comparison | Trajectory", format_: str, output: Path | None) -> str:
    from weightstats.comparison import Comparison
    from weightstats.renderers import comparison_terminal, comparison_text, trajectory_text

    if format_ == "html":
        return made.to_html(command_line())
    if isinstance(made, Comparison):
        match format_:
            case "json":
                return comparison_text.as_json(made)
            case "csv":
                return comparison_text.as_csv(made)
        return comparison_terminal.render(made, **look(output))
    match format_:
        case "json":
            return trajectory_text.as_json(made)
        case "csv":
            return trajectory_text.as_csv(made)
    return trajectory_text.as_terminal(made, **look(output))


def _draw(made: "Comparison | Trajectory", suffix: str, output: Path) -> None:
    from weightstats.renderers import pictures

    deliver(pictures.render(made.chart(), suffix), output)
