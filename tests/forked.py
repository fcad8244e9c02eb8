"""Runs the command line on many files, each in a process of its own that is forked from one that has all modules.

`python forked.py`, a JSON list of paths on standard input; on standard output a JSON list of what each run did: exit
code, standard output and error, processor seconds and peak memory. A run that does not end is ended by its limit on
processor time, or by an alarm where it waits.
"""

import json
import os
import resource
import signal
import sys
import tempfile
from typing import Any

from weightstats import cli, inspection
from weightstats.renderers import json_text  # noqa: F401

SECONDS = 60
"""Of processor time, and of waiting: a safety net far above what is allowed."""


def run(path: str) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _child(path, out.fileno(), err.fileno())
        _, status, usage = os.wait4(child, 0)
        out.seek(0)
        err.seek(0)
        return {
            "code": os.waitstatus_to_exitcode(status),
            "out": out.read().decode(errors="replace"),
            "err": err.read().decode(errors="replace"),
            "seconds": usage.ru_utime + usage.ru_stime,
            "bytes": usage.ru_maxrss * 1024,
        }


def _child(path: str, out: int, err: int) -> None:
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        signal.alarm(SECONDS)
        sys.argv = ["weightstats", "inspect", path, "--format", "json"]
        cli.main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 70)
    finally:
        os._exit(71)


if __name__ == "__main__":
    inspection.prepare()
    results = [run(path) for path in json.load(sys.stdin)]
    json.dump(results, sys.stdout)
