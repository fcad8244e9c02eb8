"""`weightstats check`: a checkpoint held to a policy."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weightstats.commands.options import (
    AS_STORED,
    DEBUG,
    LAW_NAMES,
    LIMIT,
    ROOT,
    RULES,
    completed_from,
    examples,
    limits_of,
)
from weightstats.commands.output import UNREADABLE, ProgressBar, deliver, refuse_overwriting, tell_warnings
from weightstats.errors import CheckpointError, UsageError, printable

if TYPE_CHECKING:
    from weightstats.checks import Check

DOES_NOT_HOLD = 1
"""Exit code where a checkpoint was read and does not hold."""

MODULES = {"terminal": "check_terminal", "json": "check_json", "sarif": "sarif_text", "junit": "junit_text"}
"""The renderer of each value of `--format`."""


def _print_example(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from weightstats.commands.example_policy import EXAMPLE

        click.echo(EXAMPLE, nl=False)
        context.exit()


@click.command(
    short_help="Hold a checkpoint to a policy.",
    epilog=examples(
        "weightstats check --example > policy.toml",
        "weightstats check model.safetensors --policy policy.toml",
        "weightstats check model.pt --policy policy.toml --format sarif > x.sarif",
    ),
)
@click.argument("checkpoint", type=click.Path(path_type=str))
@click.option("--policy", type=click.Path(path_type=Path), metavar="FILE", help="A TOML file of rules.")
@click.option(
    "--example",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_example,
    help="Print a policy to start from, with comments, and exit.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(tuple(MODULES)),
    default="terminal",
    show_default=True,
    help="How to report: lines of text, JSON, SARIF 2.1.0, or JUnit's XML.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report to a file instead of stdout; the findings are then shown on stderr.",
)
@click.option(
    "--law",
    metavar="LAW",
    shell_complete=completed_from(LAW_NAMES),
    help="The law under test, in place of the policy's; `weightstats laws` lists them all.",
)
@ROOT
@RULES
@AS_STORED
@LIMIT
@DEBUG
def check(
    checkpoint: str,
    policy: Path | None,
    format_: str,
    output: Path | None,
    law: str | None,
    root: str | None,
    rules: Path | None,
    as_stored: bool,
    limits: tuple[str, ...],
    debug: bool,
) -> int:
    """Hold CHECKPOINT to the rules of a policy.

    Each rule demands one thing of what `weightstats inspect` reports: of every layer (its ratio to the law, zeros,
    whether it is as initialised, ...), of the fit, of a penalty, or of the file. What cannot be judged is a finding
    too.

    \b
    Exit codes:
      0    the checkpoint holds: no finding is an error
      1    it does not
      2    usage, and a policy that cannot be used
      3    the checkpoint could not be read or is damaged, or no report written
      130  interrupted
    """
    from weightstats.checking import report_for, with_options
    from weightstats.checks import hold, unreadable
    from weightstats.policies import read_policy

    if policy is None:
        raise UsageError(
            "--policy FILE is missing: `weightstats check --example > policy.toml` makes one to start from"
        )
    refuse_overwriting({"--output": output}, [("checkpoint", checkpoint), ("policy", policy), ("file of rules", rules)])
    held = with_options(read_policy(policy), law=law, root=root, as_stored=as_stored or None, rules=rules)
    if isinstance(held.layer_rules, str | Path):
        refuse_overwriting({"--output": output}, [("file of rules", held.layer_rules)])
    try:
        with ProgressBar() as progress:
            report = report_for(checkpoint, held, limits=limits_of(limits), progress=progress.advance)
    except CheckpointError as error:
        if format_ != "terminal" or output is not None:
            deliver(_rendered(unreadable(checkpoint, _problem(error, checkpoint), held), format_), output)
        raise
    tell_warnings(report.checkpoint)
    found = hold(report, held)
    deliver(_rendered(found, format_), output)
    if format_ != "terminal" or output is not None:
        click.echo(_beside(found, whole=output is not None), err=True, nl=False)
    if found.problem is not None:
        click.echo(printable(f"{found.location}: {found.problem}"), err=True)
        return UNREADABLE
    return 0 if found.holds else DOES_NOT_HOLD


def _problem(error: CheckpointError, checkpoint: str) -> str:
    """What is wrong, with the file that it is wrong with where that is another one."""
    return error.problem if error.location == checkpoint else f"{error.location}: {error.problem}"


def _rendered(found: "Check", format_: str) -> str:
    text: str = import_module(f"weightstats.renderers.{MODULES[format_]}").render(found)
    return text


def _beside(found: "Check", *, whole: bool) -> str:
    """What a person sees where the report goes elsewhere: the findings, or the sum alone where a document is shown."""
    from weightstats.renderers import check_terminal

    return check_terminal.render(found) if whole else f"{check_terminal.summary(found)}\n"
