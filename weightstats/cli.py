"""The command line: options in, text and exit codes out. Nothing else in the package prints or exits."""

import io
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weightstats.errors import UsageError, WeightstatsError, printable
from weightstats.limits import LIMITS, limit_names
from weightstats.penalties import DEFAULT_WEIGHT_DECAY
from weightstats.renderers import MODULES
from weightstats.version import VERSION

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from weightstats.report import Report

UNREADABLE = 3
"""Exit code where the checkpoint, or under --strict any tensor of it, could not be read."""

INTERRUPTED = 130

PIPED_WIDTH = 100
"""Columns of a report that goes to a file or a pipe, unless COLUMNS says otherwise."""

PROGRESS_AFTER = 1.0
"""Seconds of work after which a progress bar appears."""


def main() -> None:
    """Run the command line; the one place that turns errors into lines and exit codes."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # sums are shared out among processes instead
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that its encoding does not have is no error
    signal.signal(signal.SIGINT, _on_interrupt)
    debug = "--debug" in sys.argv[1:]
    try:
        code = cli.main(prog_name="weightstats", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # sys.exit may end in the signal itself, where it came while a library was imported
    except click.ClickException as error:
        error.show()
        _exit(error.exit_code)
    except UsageError as error:
        _exit(2, f"Error: {printable(str(error))}")
    except WeightstatsError as error:
        _trace(debug)
        _exit(UNREADABLE, printable(str(error)))
    except OSError as error:
        _trace(debug)
        _exit(UNREADABLE, printable(f"{error.filename or 'output'}: {error.strerror or error}"))
    except Exception as error:
        _trace(debug)
        _exit(UNREADABLE, printable(f"unexpected {type(error).__name__}: {error} (--debug shows where)"))
    _exit(code if isinstance(code, int) else 0)


_interrupts: list[int] = []
"""Signals that have come: one that comes where a library swallows the exception is noticed at the next block."""


def _on_interrupt(number: int, frame: object) -> None:
    _interrupts.append(number)
    raise KeyboardInterrupt


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="weightstats")
def cli() -> None:
    """Audit a neural network that somebody else trained, from its checkpoint alone."""


_ROOT = click.option(
    "--root", metavar="KEY", help="The part of the file that is the network, e.g. model_state_dict; '' for all of it."
)
_RULES = click.option(
    "--rules", type=click.Path(path_type=Path), metavar="FILE", help="A TOML file that says what tensors are."
)
_AS_STORED = click.option(
    "--as-stored", is_flag=True, help="Take a weight that holds several maps (q, k and v; gates; experts) as one layer."
)
_LIMIT = click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a limit on what a file may ask for; repeatable. `weightstats formats --limits` lists them.",
)


@cli.command(epilog="Example: weightstats inspect model.safetensors --format json --output report.json")
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
@_ROOT
@_RULES
@_AS_STORED
@click.option("--include", multiple=True, metavar="GLOB", help="Report only layers whose name matches; repeatable.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out layers whose name matches; repeatable.")
@_LIMIT
@click.option("--strict", is_flag=True, help="Exit with 3 if any tensor could not be read, or its weights not decoded.")
@click.option("--debug", is_flag=True, help="Show a traceback for an error.")
def inspect(
    checkpoint: str,
    format_: str,
    output: Path | None,
    weight_decay: float,
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

    with _Progress() as progress:
        report = inspect_checkpoint(
            checkpoint,
            weight_decay=weight_decay,
            root=root,
            include=include,
            exclude=exclude,
            as_stored=as_stored,
            rules=rules,
            limits=_limits(limits),
            progress=progress.advance,
        )
    for warning in report.checkpoint.warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    text = _rendered(report, format_, to_file=output is not None)
    if output is not None:
        output.write_text(text, encoding="utf-8", newline="")
    else:
        _write(text)
    if report.checkpoint.damage is not None:
        click.echo(printable(f"{report.checkpoint.location}: {report.checkpoint.damage}"), err=True)
        return UNREADABLE
    return UNREADABLE if strict and not report.is_complete else 0


@cli.command(epilog="Example: weightstats layers model.safetensors --rules rules.toml")
@click.argument("checkpoint", type=click.Path(path_type=str))
@click.option(
    "--format",
    "format_",
    type=click.Choice(("terminal", "json", "csv")),
    default="terminal",
    show_default=True,
    help="How to list.",
)
@_ROOT
@_RULES
@_AS_STORED
@click.option("--all", "every", is_flag=True, help="A line for every tensor, also where many are alike.")
@_LIMIT
@click.option("--debug", is_flag=True, help="Show a traceback for an error.")
def layers(
    checkpoint: str,
    format_: str,
    root: str | None,
    rules: Path | None,
    as_stored: bool,
    every: bool,
    limits: tuple[str, ...],
    debug: bool,
) -> int:
    """List what each tensor of CHECKPOINT is taken for, and why, without reading the weights.

    A weight that holds several maps (q, k and v; the gates of an LSTM; a stack of experts) is shown with its parts.
    Where a tensor is taken for the wrong thing, a rule says what it is: --rules.

    Exit codes: those of `weightstats inspect`.
    """
    from weightstats.inspection import list_layers
    from weightstats.renderers import layers_text

    listing = list_layers(checkpoint, root=root, as_stored=as_stored, rules=rules, limits=_limits(limits))
    for warning in listing.warnings:
        click.echo(f"warning: {printable(warning)}", err=True)
    if format_ == "terminal":
        width = max(60, shutil.get_terminal_size((PIPED_WIDTH, 24)).columns)
        _write(layers_text.as_terminal(listing, width, every=every, warnings=False))
    else:
        _write(layers_text.as_json(listing) if format_ == "json" else layers_text.as_csv(listing))
    if listing.damage is not None:
        click.echo(printable(f"{listing.location}: {listing.damage}"), err=True)
        return UNREADABLE
    return 0


def _limits(given: tuple[str, ...]) -> dict[str, int]:
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


@cli.command(epilog="Example: weightstats formats")
@click.option("--limits", "show_limits", is_flag=True, help="List the limits that --limit changes instead.")
def formats(show_limits: bool) -> None:
    """List the formats that are read, how each is recognised, and what it needs to be installed.

    The content of a file decides which format it is, never its name.
    """
    from weightstats.renderers import tables

    width = max(60, shutil.get_terminal_size((PIPED_WIDTH, 24)).columns)
    _write(tables.limits(width) if show_limits else tables.formats(width))


def _rendered(report: "Report", format_: str, *, to_file: bool) -> str:
    from weightstats.renderers import renderer, terminal

    if format_ != "terminal":
        return renderer(format_).render(report)
    on_terminal = sys.stdout.isatty() and not to_file
    colour = on_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    width = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns if not to_file else PIPED_WIDTH
    return terminal.render(report, width=max(60, width), colour=colour, warnings=to_file)


def _write(text: str) -> None:
    """Text to stdout; a reader that has gone away, such as `head`, is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end


def _trace(debug: bool) -> None:
    if debug:
        click.echo(traceback.format_exc(), err=True, nl=False)


def _exit(code: int, message: str | None = None) -> None:
    if message is not None:
        click.echo(message, err=True)
    sys.exit(code)


class _Progress:
    """A bar on stderr, once the work has taken a second and if stderr is a terminal."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, done: int, total: int) -> None:
        """Show that `done` of `total` bytes have been dealt with, and end where an interrupt has come."""
        if _interrupts:
            raise KeyboardInterrupt
        if self.bar is None and sys.stderr.isatty() and time.monotonic() - self.started > PROGRESS_AFTER:
            self._start(total)
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done)

    def _start(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("reading", total=total)
        self.bar.start()
