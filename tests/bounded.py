"""Runs the command line in a process that is measured, and holds it to its bounds: memory, processor time, output.

`python bounded.py OUT ERR COMMAND...` does the measuring. It is a process of its own, since the peak memory of a child
starts with that of its parent, and a parent that runs tests has torch in it.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEMORY, MEMORY_FACTOR = 256 << 20, 10
"""Bytes of memory that any file may take, and how many times the bytes of its metadata on top."""

SECONDS, BYTES_A_SECOND = 2.0, 100e6
"""Processor time that any file may take, and how many stored bytes are worth another second."""

MOST_SECONDS, MOST_MEMORY = 120, 8 << 30
"""At which a run is ended: far beyond what is asserted, so that a failure does not take the machine with it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run of the command line said, and what it took."""

    code: int
    out: str
    err: str
    seconds: float
    """Processor time, that of its workers included."""

    memory: int
    """Peak, in bytes, of the process or of its largest worker."""

    @property
    def report(self) -> Any:
        """The report in JSON that it wrote."""
        return json.loads(self.out)

    @property
    def unread(self) -> dict[str, str]:
        """Why each tensor that could not be read was not."""
        return {row["name"]: row["reason"] for row in self.report["unread"]}


def measured(*arguments: str | Path, folder: Path | None = None) -> Result:
    """A run of `python -m weightstats` with these arguments, whatever comes of it."""
    command = [sys.executable, "-m", "weightstats", *map(str, arguments)]
    paths = (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", ""))
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        done = subprocess.run(
            [sys.executable, "-I", "-S", __file__, str(out), str(err), *command],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            capture_output=True,
            text=True,
            check=True,
        )
        code, seconds, memory = json.loads(done.stdout)
        return Result(code, out.read_text("utf-8"), err.read_text("utf-8"), seconds, memory)


def run_bounded(arguments: list[str | Path], stored_bytes: int, metadata_bytes: int) -> Result:
    """A run of `weightstats inspect ARGUMENTS --format json`, which must keep every bound for a file of this size."""
    result = measured("inspect", *arguments, "--format", "json")
    assert broken_promise(result, stored_bytes, metadata_bytes) is None, result.err[:500]
    return result


def broken_promise(result: Result, stored_bytes: int, metadata_bytes: int) -> str | None:
    """Which promise a run breaks; None where it keeps them all."""
    lines = result.err.splitlines()
    if result.code not in (0, 2, 3):
        return f"it ended with {result.code}"
    if "Traceback" in result.err or not all(line.isprintable() for line in lines):
        return "it wrote what is not one printable line"
    if result.code == 3 and not result.out and len(lines) != 1:
        return f"it was refused in {len(lines)} lines"
    if result.out and result.report["schema"] != "weightstats/report/1":
        return "it gave no report"
    if result.memory > MEMORY + MEMORY_FACTOR * metadata_bytes:
        return f"it took {result.memory:,} bytes of memory for {metadata_bytes:,} of metadata"
    if result.seconds > SECONDS + stored_bytes / BYTES_A_SECOND:
        return f"it took {result.seconds:.2f} s of processor time for {stored_bytes:,} bytes"
    return None


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


def _main(out: str, err: str, *command: str) -> None:
    _limit()  # inherited by the child, whose memory would otherwise start with a copy of this process
    with Path(out).open("wb") as out_stream, Path(err).open("wb") as err_stream:
        process = subprocess.Popen(command, stdout=out_stream, stderr=err_stream)
        _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    sys.stdout.write(json.dumps([code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
