"""What commands write: text to stdout, a progress bar to stderr."""

import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weightstats.errors import UsageError

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
