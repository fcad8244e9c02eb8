"""What commands write: text to stdout, a progress bar to stderr."""

import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from weightstats.errors import UsageError, printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PIPED_WIDTH = 100
"""Columns of a report that goes to a file or a pipe, unless COLUMNS says otherwise."""

PROGRESS_AFTER = 1.0
"""Seconds of work after which a progress bar appears."""

BINARY = ("parquet",)
"""Formats of reports that are no text."""

UNREADABLE = 3
"""Exit code where the checkpoint, or under --strict any tensor of it, could not be read."""

IN_SEVERAL_FILES = re.compile(r"\.(json|index|onnx|pb)$|-of-\d+\.", re.IGNORECASE)
"""Names of files that are the index, or one part, of a checkpoint whose other files lie in the same folder."""

REPORTS = (".html", ".csv", ".md", ".txt", ".xml", ".sarif", ".png", ".svg", ".pdf", ".parquet", ".py")
"""Suffixes of what is written, and no weights have."""

REPORTS_IN_JSON = re.compile(rb'^\s*\{\s*("schema": ?"weightstats/|"\$schema": ?"[^"]*/sarif-schema-)')
"""How a report in JSON begins; a model's configuration or index, which may lie beside it, does not."""

interrupts: list[int] = []
"""Signals that have come: one that comes where a library swallows the exception is noticed at the next block."""


def width() -> int:
    """Columns that there are for text on stdout."""
    return max(60, shutil.get_terminal_size((PIPED_WIDTH, 24)).columns)


def look(output: Path | None) -> dict[str, Any]:
    """What a terminal's text is made for: `width`, `colour`, and whether `warnings` belong into it."""
    on_terminal = sys.stdout.isatty() and output is None
    colour = on_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return {
        "width": width() if output is None else PIPED_WIDTH,
        "colour": colour,
        "warnings": output is not None,
    }


def refuse_binary(format_: str, output: Path | None) -> None:
    """UsageError where bytes that are no text would go to a terminal."""
    if format_ in BINARY and output is None and sys.stdout.isatty():
        raise UsageError(f"--format {format_} is binary: name a file with --output")


def refuse_overwriting(
    outputs: Mapping[str, str | Path | None], inputs: Iterable[tuple[str, str | Path | None]]
) -> None:
    """UsageError where an output would replace what is to be read, or another output; called before anything is read.

    `outputs` are by their options (`--output`), `inputs` come with what messages call them (`checkpoint`). Where a
    checkpoint is a folder, or one of several files, no file in that folder is replaced that is not plainly a report.
    """
    named = {option: Path(path) for option, path in outputs.items() if path is not None and str(path) != "-"}
    given = [(what, path) for what, path in inputs if path is not None]
    for option, path in named.items():
        problem = _replaced(path, given)
        if problem:
            raise UsageError(printable(f"{option} {path}: {problem}"))
    for (first, path), (second, other) in combinations(named.items(), 2):
        if _is_same(path, other) or os.path.realpath(path) == os.path.realpath(other):
            raise UsageError(printable(f"{second} {other}: that is the file of {first}, which it would replace"))


def _replaced(path: Path, inputs: Sequence[tuple[str, str | Path]]) -> str:
    """What of the inputs an output would replace; '' where it is none."""
    if not os.path.isfile(path):  # nothing is there, or /dev/null
        return ""
    for what, given in inputs:
        if _is_same(path, given):
            return f"that is the {what} itself"
    for what, given in inputs:
        if what == "checkpoint" and not _is_report(path) and _lies_in(path, _folder_of(given)):
            return (
                "that file is there already, in the checkpoint's folder, and may be a part of it: choose another name, "
                "or remove it first"
            )
    return ""


def _folder_of(checkpoint: str | Path) -> str | None:
    """The folder that holds the files of a checkpoint; None where it is one file, or not there."""
    text = os.fspath(checkpoint)
    if os.path.isdir(text):
        return text
    is_prefix = not os.path.exists(text) and os.path.exists(f"{text}.index")  # TensorFlow's name of a checkpoint
    return os.path.dirname(text) or "." if is_prefix or IN_SEVERAL_FILES.search(text) else None


def _lies_in(path: Path, folder: str | None) -> bool:
    """Whether a file is in a folder or below it, by its name, by where its links lead, or as what a link in it is."""
    if folder is None or not os.path.isdir(folder):
        return False
    parents = {parent for name in (os.path.abspath(path), os.path.realpath(path)) for parent in Path(name).parents}
    return any(_is_same(parent, folder) for parent in parents) or any(
        _is_same(path, os.path.join(folder, name)) for name in os.listdir(folder)
    )


def _is_report(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return path.suffix.lower() in REPORTS
    with path.open("rb") as file:
        return REPORTS_IN_JSON.match(file.read(200)) is not None


def _is_same(one: str | Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them is not there
        return False


class Told(Protocol):
    """What was read, as far as stderr tells of it."""

    @property
    def location(self) -> str:
        """Where it lies."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about it."""
        ...

    @property
    def damage(self) -> str | None:
        """What is wrong with it as a whole."""
        ...


def tell_warnings(read: Told, name: str | None = None) -> None:
    """A line on stderr for each warning, which begins with the name of what was read, where there is one."""
    which = "" if name is None else f"{printable(name)}: "
    for warning in read.warnings:
        click.echo(f"warning: {which}{printable(warning)}", err=True)


def tell_damage(read: Told) -> int:
    """A line on stderr for the damage; the exit code that it asks for, 0 without any."""
    if read.damage is None:
        return 0
    click.echo(printable(f"{read.location}: {read.damage}"), err=True)
    return UNREADABLE


def command_line() -> str:
    """The command as it can be run again, for pages that tell how they were made."""
    return shlex.join(["weightstats", *sys.argv[1:]])


def deliver(made: str | bytes, output: Path | None) -> None:
    """What was asked for, to the file, or to stdout where there is none."""
    if output is None:
        write(made)
    elif isinstance(made, bytes):
        output.write_bytes(made)
    else:
        output.write_text(made, encoding="utf-8", newline="")


def write(made: str | bytes) -> None:
    """Text, or bytes, to stdout; a reader that has gone away, such as `head`, is no error."""
    try:
        if isinstance(made, bytes):
            sys.stdout.flush()
            sys.stdout.buffer.write(made)
        else:
            sys.stdout.write(made)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end


class ProgressBar:
    """A bar on stderr, once the work has taken a second and if stderr is a terminal."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.bar: Progress | None = None
        self.task: TaskID | None = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, done: int, total: int) -> None:
        """Show that `done` of `total` bytes have been dealt with, and end where an interrupt has come."""
        if interrupts:
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
