"""Hostile and damaged files from elsewhere: nothing of them runs, and each is read, listed as unread or refused.

The collection lies beside the project, not in it: some of the files are live attacks. Its MANIFEST.tsv says what is
expected of each.
"""

import csv
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from makers import Call, Stored, floats, legacy_file, pickled, safetensors_file, view, zip_file

AUDITED = Path(__file__).parent / "audited.py"
COLLECTION = Path(__file__).parents[2] / "shared" / "hostile"
BATCH = 100
"""Files that one process reads."""

here = pytest.mark.skipif(
    not (COLLECTION / "MANIFEST.tsv").exists(), reason="the collection of hostile files is not beside the project"
)


def manifest() -> list[dict[str, str]]:
    if not (COLLECTION / "MANIFEST.tsv").exists():
        return []
    with (COLLECTION / "MANIFEST.tsv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


FILES = manifest()
BATCHES = [FILES[start : start + BATCH] for start in range(0, len(FILES), BATCH)] or [[]]


def audited(mode: str, given: list[Any], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, AUDITED, mode],
        input=json.dumps(given),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def warming(folder: Path) -> list[str]:
    """Files of every kind, so that all that reading needs is imported before the guard stands."""
    tensor = {"a": view(Stored("0", 2), [2])}
    contents = {
        "zip": zip_file(pickled(tensor), {"0": floats(1, 2)}),
        "deflated": zip_file(pickled(tensor), {"0": floats(1, 2)}, method=8),
        "legacy": legacy_file(tensor, {"0": (2, floats(1, 2))}),
        "protocol 0": zip_file(pickle.dumps(["ä", 2**70, 1.5, b"x"], 0), {}),
        "safetensors": safetensors_file({"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}, b"\0\x7c"),
        "not utf-8": safetensors_file(b"{\xff}"),
        "index": b'{"weight_map": {"a": "missing"}}',
        "stranger": b"\x80\xff",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [str(folder / name) for name in contents]


def results_of(rows: list[dict[str, str]], tmp_path: Path) -> list[dict[str, Any]]:
    """What reading each file gave; fails where it did what it must not, wrote a file or printed anything."""
    workplace, warm = tmp_path / "workplace", tmp_path / "warm"
    workplace.mkdir()
    warm.mkdir()
    done = audited("files", [warming(warm), [str(COLLECTION / row["file"]) for row in rows]], workplace)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [*workplace.iterdir()] == []
    results = json.loads(done.stdout)
    assert len(results) == len(rows)
    return results


_COUNT = re.compile(
    r"reference reader: (?:numeric datasets|tensors|initializers)=(\d+)(?: other=(\d+))?(?: links=(.*))?"
)
"""Tensors; datasets that hold no numbers, and links that are not followed, which are listed as unread."""


def wrong(row: dict[str, str], result: dict[str, Any]) -> str | None:
    """How a result differs from what the manifest expects; None where it does not."""
    expected, count = row["expected"], _COUNT.search(row["what"])
    if "escaped" in result:
        return f"{result['escaped']} escaped"
    if not str(result.get("error", "")).isprintable():
        return "its error is more than one line"
    if not result.get("whole", True):
        return "not all elements of a tensor were given"
    if expected == "must-error" and result.get("tensors") and not result["unread"]:
        return "was read as if it were sound"
    if expected != "must-read" or not count:
        return None
    listed = len(result.get("unread", ())) - (int(count[2] or 0) + (count[3] or "").count("ExternalLink"))
    more = "initializers" in row["what"]  # of an ONNX model; the constants of its nodes are tensors as well
    found = min(result.get("tensors", 0), int(count[1])) if more else result.get("tensors")
    return f"has {count[1]} tensors" if (found, listed) != (int(count[1]), 0) else None


@here
@pytest.mark.parametrize("rows", BATCHES, ids=lambda rows: f"{len(rows)} files")
def test_nothing_of_a_hostile_file_runs_and_each_gives_what_the_manifest_expects(
    tmp_path: Path, rows: list[dict[str, str]]
) -> None:
    results = results_of(rows, tmp_path)
    differences = [(row["file"], wrong(row, result), result) for row, result in zip(rows, results, strict=True)]
    assert [difference for difference in differences if difference[1]] == []


@here
def test_the_collection_holds_files_that_are_read_refused_and_attacks() -> None:
    assert {row["expected"] for row in FILES} >= {"must-read", "must-error", "must-not-execute"}
    assert all((COLLECTION / row["file"]).is_file() for row in FILES)


FINE = {"format": "torch zip", "tensors": 2, "whole": True, "unread": []}


@pytest.mark.parametrize(
    ("expected", "result", "is_wrong"),
    [
        ("must-read", FINE, False),
        ("must-read", FINE | {"tensors": 1}, True),
        ("must-read", FINE | {"unread": ["a"]}, True),
        ("must-read", {"error": "f: no"}, True),
        ("must-read", FINE | {"whole": False}, True),
        ("must-error", FINE, True),
        ("must-error", FINE | {"unread": ["a"]}, False),
        ("must-error", FINE | {"tensors": 0}, False),
        ("must-error", {"error": "f: no"}, False),
        ("must-error", {"error": "f:\nno"}, True),
        ("must-error", {"escaped": "KeyError()"}, True),
        ("must-not-execute", FINE, False),
        ("must-not-execute", {"escaped": "KeyError()"}, True),
        ("either", {"error": "f: no"}, False),
    ],
)
def test_a_result_is_held_against_the_manifest(expected: str, result: dict[str, Any], is_wrong: bool) -> None:
    row = {"file": "x.pt", "expected": expected, "what": "zip | reference reader: tensors=2"}
    assert bool(wrong(row, result)) == is_wrong


# The guard itself


ATTACKS = {
    "exec": (pickle.dumps(Call(exec, ("1",))), "compile"),
    "eval": (pickle.dumps(Call(eval, ("1",))), "compile"),
    "compile": (pickle.dumps(Call(compile, ("1", "x", "eval"))), "compile"),
    "import": (pickle.dumps(Call(__import__, ("antigravity_of_the_test",))), "import"),
    "the module of a name": (b"cantigravity_of_the_test\nx\n.", "import"),
    "system": (pickle.dumps(Call(os.system, ("touch canary",))), "os.system"),
    "process": (pickle.dumps(Call(subprocess.Popen, (["touch", "canary"],))), "subprocess.Popen"),
    "socket": (b"c_socket\nsocket\n(tR.", "socket.__new__"),
    "write": (pickle.dumps(Call(open, ("canary", "w"))), "open"),
    "read": (pickle.dumps(Call(open, (sys.executable,))), "open"),
    "remove": (pickle.dumps(Call(os.remove, ("canary",))), "os.remove"),
    "list": (pickle.dumps(Call(os.listdir, (".",))), "os.listdir"),
}
"""Pickles of a call, and the event at which it must end."""


def test_the_guard_ends_the_process_at_each_kind_of_attack(tmp_path: Path) -> None:
    contents = [pickle.dumps([1, {"a": None}]), *(content for content, _ in ATTACKS.values())]
    done = audited("guarded load", [content.hex() for content in contents], tmp_path)
    assert json.loads(done.stdout) == [0, *[99] * len(ATTACKS)]
    assert [line.split()[0] for line in done.stderr.splitlines()] == [event for _, event in ATTACKS.values()]
    assert [*tmp_path.iterdir()] == []


def test_the_guard_ends_the_process_at_a_file_beside_the_one_that_is_read(tmp_path: Path) -> None:
    before = warming(tmp_path)
    (tmp_path / "index").write_text(json.dumps({"weight_map": {"a": "zip"}}), encoding="utf-8")
    done = audited("files", [before, [str(tmp_path / "index")]], tmp_path)
    assert done.returncode == 99
    assert done.stderr.startswith("open ")
