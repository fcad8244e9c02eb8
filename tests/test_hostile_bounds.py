"""Every hostile file costs no more memory and time than its size warrants, and ends in one line or a report."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bounded import Result, broken_promise
from test_hostile_files import COLLECTION, FILES, here

FORKED = Path(__file__).parent / "forked.py"


def wrong(result: dict[str, Any], size: int) -> str | None:
    """Which promise the run breaks; None where it keeps them all. All of the file may be metadata."""
    run = Result(result["code"], result["out"], result["err"], result["seconds"], result["bytes"])
    if run.code not in (0, 3):
        return f"ended with {run.code}: {run.err[-500:]}"
    if run.code == 0 and not run.out:
        return "gave no report"
    return broken_promise(run, size, size)


@here
def test_every_hostile_file_ends_in_one_line_or_a_report_within_its_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    paths = [COLLECTION / row["file"] for row in FILES]
    done = subprocess.run(
        [sys.executable, FORKED],
        input=json.dumps([str(path) for path in paths]),
        capture_output=True,
        text=True,
        check=True,
    )
    results = json.loads(done.stdout)
    found = [(path.name, wrong(result, path.stat().st_size)) for path, result in zip(paths, results, strict=True)]
    read = sum(result["code"] == 0 for result in results)
    slowest = max(zip(results, paths, strict=True), key=lambda pair: pair[0]["seconds"])
    largest = max(zip(results, paths, strict=True), key=lambda pair: pair[0]["bytes"])
    with capsys.disabled():
        print(f"\n{len(results)} hostile files: {read} reported, {len(results) - read} refused; ", end="")  # noqa: T201
        print(f"at most {slowest[0]['seconds']:.2f} s of processor time ({slowest[1].name}), ", end="")  # noqa: T201
        print(f"{largest[0]['bytes'] / 1e6:.0f} MB ({largest[1].name})", end="")  # noqa: T201
    assert [problem for problem in found if problem[1]] == []


FINE = {"code": 3, "out": "", "err": "f: is damaged\n", "seconds": 0.1, "bytes": 50 << 20}


@pytest.mark.parametrize(
    ("change", "is_wrong"),
    [
        ({}, False),
        ({"code": 0, "out": '{"schema": "weightstats/report/1"}', "err": ""}, False),
        ({"code": 1}, True),
        ({"code": -9}, True),
        ({"code": 71}, True),
        ({"err": "Traceback\n"}, True),
        ({"err": "two\nlines\n"}, True),
        ({"err": "\x1b[31m\n"}, True),
        ({"seconds": 2.01}, True),
        ({"bytes": 257 << 20}, True),
    ],
)
def test_a_run_is_held_against_the_promises(change: dict[str, Any], is_wrong: bool) -> None:
    assert bool(wrong(FINE | change, 100)) == is_wrong
