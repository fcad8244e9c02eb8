"""What commands write: text to stdout, a progress bar to stderr."""

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PIPED_WIDTH = 100
"""Columns of a report that goes to a file or a pipe, unless COLUMNS says otherwise."""

PROGRESS_AFTER = 1.0
"""Seconds of work after which a progress bar appears."""

UNREADABLE = 3
"""Exit code where the checkpoint, or under --strict any tensor of it, could not be read."""

interrupts: list[int] = []
"""Signals that have come: one that comes where a library swallows the exception is noticed at the next block."""


def width() -> int:
    """Columns that there are for text on stdout."""
    return max(60, shutil.get_terminal_size((PIPED_WIDTH, 24)).columns)


def write(text: str) -> None:
    """Text to stdout; a reader that has gone away, such as `head`, is no error."""
    try:
        sys.stdout.write(text)
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
