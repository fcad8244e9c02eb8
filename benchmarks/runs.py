"""Runs of a command: how long they took, how much memory they needed, and whether something else was busy meanwhile.

For Linux: it reads /proc. Import nothing large here: a child's peak starts at the size of the process that started it.
"""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.02
"""Between two looks at the memory of a process tree."""

TRIES = 3
"""Runs of one command, at most, until one is not disturbed."""

DISTURBANCE = 0.1
"""Processor seconds of others, for each second of a run, from which on it counts as disturbed."""

TICKS = 0.04
"""Seconds by which the kernel's count of processor time may be off, in a short run."""

LOOK_SECONDS, LONGEST_WAIT = 0.25, 2.0
"""After a disturbed run: how long it is watched whether others are still busy, and when waiting for them ends."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is timed."""

    name: str
    arguments: tuple[str, ...]
    file: Path | None = None
    """What it reads: brought into the page cache before each run."""

    most_runs: int | None = None
    """For a slow one: fewer runs than the others."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command."""

    seconds: float
    peak: int
    """Resident bytes of its largest process, shared libraries and mapped files included."""

    others: float
    """Processor seconds that were spent meanwhile, but not by it."""

    @property
    def disturbed(self) -> bool:
        """Whether other work took so much that the time says little."""
        return self.others > DISTURBANCE * self.seconds + TICKS


@dataclass(frozen=True, slots=True)
class Timing:
    """What the runs of one command came to."""

    median: float
    shortest: float
    runs: int
    peak: int
    disturbed: int
    """Runs during which something else was busy, at every try."""


def interleaved(commands: Sequence[Command], repeats: int, environment: Mapping[str, str]) -> dict[str, Timing]:
    """The timing of each command by its name: one run of each, then the next of each."""
    runs: dict[str, list[Run]] = {command.name: [] for command in commands}
    for number in range(repeats):
        for command in commands:
            if command.most_runs is None or number < command.most_runs:
                runs[command.name].append(_undisturbed(command, environment))
    return {name: _timing(of_one) for name, of_one in runs.items()}


def run(command: Command, environment: Mapping[str, str]) -> Run:
    """Run it with its output thrown away; RuntimeError with the end of what it said where it fails."""
    with tempfile.TemporaryFile() as errors:
        busy, start = _busy_seconds(), time.perf_counter()
        process = subprocess.Popen(command.arguments, stdout=subprocess.DEVNULL, stderr=errors, env=dict(environment))
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        others = _busy_seconds() - busy - usage.ru_utime - usage.ru_stime
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            said = errors.read()[-500:].decode(errors="replace").strip()
            raise RuntimeError(f"{command.name} ended with {process.returncode}: {said}")
    return Run(seconds=seconds, peak=usage.ru_maxrss * 1024, others=max(0.0, others))


def peak_of_tree(command: Command, environment: Mapping[str, str]) -> int:
    """The largest sum, over the processes of one run, of their proportional set sizes; in bytes.

    Proportional: a page that several processes share (forked ones share nearly all) counts once.
    """
    _warm_up(command.file)
    process = subprocess.Popen(
        command.arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(environment)
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_proportional_size(member) for member in _tree(process.pid)))
        time.sleep(SAMPLE_SECONDS)
    return peak


def _undisturbed(command: Command, environment: Mapping[str, str]) -> Run:
    """The first run that nothing disturbed, or else the one that others disturbed least."""
    tries: list[Run] = []
    for _ in range(TRIES if command.most_runs is None else 1):
        _warm_up(command.file)
        tries.append(run(command, environment))
        if not tries[-1].disturbed:
            return tries[-1]
        _wait_for_quiet()
    return min(tries, key=lambda one: one.others)


def _warm_up(file: Path | None) -> None:
    """Read it, right before it is needed: a system may drop the pages of idle files after seconds."""
    buffer = bytearray(1 << 20)
    with open(file or os.devnull, "rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


def _wait_for_quiet() -> None:
    end = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < end:
        busy = _busy_seconds()
        time.sleep(LOOK_SECONDS)
        if _busy_seconds() - busy <= DISTURBANCE * LOOK_SECONDS:
            return


def _timing(runs: Sequence[Run]) -> Timing:
    seconds = [one.seconds for one in runs]
    return Timing(
        median=statistics.median(seconds),
        shortest=min(seconds),
        runs=len(runs),
        peak=max(one.peak for one in runs),
        disturbed=sum(one.disturbed for one in runs),
    )


def _busy_seconds() -> float:
    """Processor seconds since the machine started, also those that its host took from it; idle and waiting ones not."""
    user, nice, system, _idle, _waiting, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def _tree(pid: int) -> Iterator[int]:
    """The process and all that came from it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _text(children).split():
            yield from _tree(int(child))


def _proportional_size(pid: int) -> int:
    for line in _text(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _text(path: Path) -> str:
    """Empty where the process has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
