"""Numbered tasks shared out among processes or threads; their results in order."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

MOST_WORKERS = 8
"""Beyond this the memory's speed, not the processor's, sets the pace."""

WORTH_SHARING = 48 << 20
"""Bytes below which starting workers takes longer than they save."""

MOST_TOGETHER = 8
"""A worker is given that many tasks at a time, where there are enough for all; each hand-over costs a third of a
millisecond."""


def default_workers() -> int:
    """The processors that this process may use, up to MOST_WORKERS."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, usable)


def results(task: Callable[[int], T], number: int, size: int, workers: int) -> Iterator[T]:
    """What `task` returns for 0 to before `number`, in that order.

    `size` is the bytes that they read together. A task is called in a forked process, which has a copy of all that it
    knows and gives back only its result, or in a thread; with few bytes, or one worker, in this thread.
    """
    if workers <= 1 or size < WORTH_SHARING:
        yield from map(task, range(number))
        return
    with pool(task, workers) as executor:
        if isinstance(executor, ThreadPoolExecutor):
            yield from executor.map(task, range(number))
            return
        with warnings.catch_warnings():
            # Python 3.12 warns of any fork beside native threads; ours run numpy's loops and reads, and take no locks
            warnings.filterwarnings("ignore", "(?s).*multi-threaded.*fork", DeprecationWarning)
            together = max(1, min(MOST_TOGETHER, number // (8 * workers)))
            made: Iterator[T] = executor.map(_forked, range(number), chunksize=together)
        yield from made


def pool(task: Callable[[int], Any], workers: int) -> Executor:
    """Forked processes where that is safe, else threads.

    numpy lets go of the interpreter's lock for some microseconds at a time, and handing it over costs about as much:
    two threads are hardly faster than one. A process that has other threads must not be forked.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return ThreadPoolExecutor(workers, thread_name_prefix="weightstats")
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_adopt, initargs=(task,))


_adopted: Callable[[int], Any] | None = None
"""In a forked process, the task that it inherited: it holds open files and is never sent."""


def _adopt(task: Callable[[int], Any]) -> None:
    global _adopted  # noqa: PLW0603 - a process pool gives its tasks no other place for inherited state
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and stops its workers
    _adopted = task


def _forked(number: int) -> Any:
    assert _adopted is not None  # noqa: S101 - set by the pool's initializer
    return _adopted(number)
