"""The schemas in docs/schemas are those of the records, and every JSON that is printed fits the one that it names."""

import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import json_schemas
import pytest
import torch
from builders import FIXTURES, ROOT, report_of
from json_schemas import FOLDER, ROOTS, as_text, schemas, strict
from jsonschema import Draft202012Validator
from test_hostile_files import COLLECTION, FILES, here
from test_renderers import EVIL

import weightstats
from weightstats.checks import hold, unreadable
from weightstats.decay_groups import make_groups
from weightstats.penalties import PENALTIES
from weightstats.policies import make_policy
from weightstats.renderers import (
    check_json,
    comparison_text,
    groups_text,
    layers_text,
    renderer,
    tables,
    trajectory_text,
)

CHECKPOINTS = sorted(path for path in FIXTURES.rglob("*") if path.suffix in (".pt", ".pth", ".safetensors"))
TRAINED = sorted((FIXTURES / "trained").glob("*-step0.*"))
HOSTILE = [row["file"] for row in FILES if row["expected"] != "must-not-execute"][::3]
DOCUMENT = ROOT / "docs/schemas.md"


@cache
def validator(name: str, *, closed: bool = True) -> Draft202012Validator:
    """For `weightstats/NAME/1`: closed, it refuses what the schema does not list."""
    schema = schemas()[f"{name}-1.json"]
    return Draft202012Validator(strict(schema) if closed else schema)


def parsed(text: str) -> Any:
    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refused)


def problems(told: Any, *, closed: bool = True) -> list[str]:
    """How an output differs from the schema that it names."""
    name = told["schema"].split("/")[1]
    return [f"{error.json_path}: {error.message}" for error in validator(name, closed=closed).iter_errors(told)]


def printed(path: Path) -> str:
    return str(renderer("json").render(weightstats.inspect(str(path))))


def final(path: Path) -> Path:
    return path.with_name(path.name.replace("-step0", "-final"))


# The files


def test_the_files_are_what_the_records_say() -> None:
    kept = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert kept == {name: as_text(schema) for name, schema in schemas().items()}, "run tests/json_schemas.py"


@pytest.mark.parametrize("name", ROOTS)
def test_each_is_a_schema_itself(name: str) -> None:
    schema = schemas()[f"{name}-1.json"]
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(schema)
    Draft202012Validator.check_schema(strict(schema))


def test_every_schema_that_the_package_names_is_there() -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "weightstats").rglob("*.py"))
    named = {name for text in sources for name in re.findall(r"weightstats/(\w+)/1\b", text)}
    assert named == set(ROOTS)


def test_all_that_is_referred_to_is_defined_and_the_other_way_round() -> None:
    for schema in schemas().values():
        referred = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
        assert referred == set(schema["$defs"])


# The generator


@dataclass
class Part:
    """A part."""

    text: str


@dataclass
class Whole:
    """A whole."""

    number: float
    """A number; NaN where there
    is none."""

    count: int | None
    pair: tuple[float, float]
    parts: tuple[Part, ...]
    part: Part | None


def test_a_record_becomes_a_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_schemas, "ROOTS", {"whole": Whole})
    number = {"type": ["number", "null"]}
    assert schemas()["whole-1.json"] == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:weightstats:whole:1",
        "title": "weightstats/whole/1",
        "description": "A whole.",
        "type": "object",
        "properties": {
            "schema": {"const": "weightstats/whole/1", "description": "The name of this schema."},
            "number": {"description": "A number; null where there is none.", **number},
            "count": {"type": ["integer", "null"]},
            "pair": {"type": "array", "prefixItems": [number, number], "items": False, "minItems": 2},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
            "part": {"anyOf": [{"$ref": "#/$defs/Part"}, {"type": "null"}]},
        },
        "required": ["schema", "number", "count", "pair", "parts", "part"],
        "$defs": {
            "Part": {
                "description": "A part.",
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
            }
        },
    }


# What is printed


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.name)
def test_reports_listings_and_groups_fit_their_schemas(path: Path) -> None:
    report = weightstats.inspect(str(path))
    assert problems(parsed(str(renderer("json").render(report)))) == []
    assert problems(parsed(layers_text.as_json(weightstats.list_layers(str(path))))) == []
    for penalty in PENALTIES:
        for equal_total in (True, False):
            groups = make_groups(report, penalty, 0.01, equal_total=equal_total)
            assert problems(parsed(groups_text.as_json(groups))) == []


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.name)
def test_comparisons_fit_their_schema(path: Path) -> None:
    for before, after in ((path, final(path)), (path, path), (path, TRAINED[0])):
        told = parsed(comparison_text.as_json(weightstats.compare(str(before), str(after))))
        assert (told["schema"], problems(told)) == ("weightstats/comparison/1", [])


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.name)
def test_trajectories_fit_their_schema(path: Path, tmp_path: Path) -> None:
    for step, source in ((0, path), (100, final(path)), (200, final(path))):
        shutil.copy(source, tmp_path / f"step-{step}{source.suffix}")
    (tmp_path / "note.bin").write_bytes(b"no checkpoint")
    told = parsed(trajectory_text.as_json(weightstats.trajectory(str(tmp_path))))
    assert (told["schema"], problems(told)) == ("weightstats/trajectory/1", [])
    assert told["steps"][2]["from_previous"]["unchanged"] > 0
    assert told["skipped"] != []


POLICY: dict[str, Any] = {
    "rule": [
        {"ratio": [0.99, 1.01], "level": "warning", "because": "the law"},
        {"ratio": [0.1, 10.0], "exclude": ["no such layer"]},
        {"mean_square": [0.0, 1e-9], "include": ["*"], "when_not_judged": "note"},
        {"largest_share": 0.1, "penalty": "fan_scaled"},
        {"verdict": ["supported"]},
        {"exponent": [-1.0, -1.0]},
    ]
}


@pytest.mark.parametrize("name", ["made/law.safetensors", "made/nonfinite.pt", "trained/cnn-final.pt"])
def test_checks_fit_their_schema(name: str) -> None:
    policy = make_policy(POLICY, "policy.toml")
    check = hold(weightstats.inspect(str(FIXTURES / name)), policy)
    assert check.findings
    for each in (check, unreadable("model.pt", "is not there", policy)):
        assert problems(parsed(check_json.render(each))) == []


def test_the_list_of_laws_fits_its_schema() -> None:
    assert problems(parsed(tables.laws_as_json())) == []


WEIGHTS = torch.linspace(-1.0, 1.0, 6)

UNUSUAL: dict[str, dict[str, torch.Tensor]] = {
    "no layer": {"bias": torch.zeros(3)},
    "NaN": {"a.weight": torch.full((3, 2), math.nan)},
    "infinite": {"a.weight": torch.full((3, 2), math.inf), "b.weight": WEIGHTS.reshape(3, 2)},
    "overflow": {"a.weight": torch.full((3, 2), 1e300, dtype=torch.float64) * WEIGHTS.reshape(3, 2)},
    "zero": {"a.weight": torch.zeros(3, 2)},
    "one element": {"a.weight": torch.ones(1, 1)},
    "no element": {"a.weight": torch.zeros(0, 4), "b.weight": WEIGHTS.reshape(2, 3)},
    "an adapter": {
        "fc.weight": WEIGHTS.reshape(2, 3),
        "fc.lora_A.weight": WEIGHTS[:3].reshape(1, 3),
        "fc.lora_B.weight": WEIGHTS[:2].reshape(2, 1),
    },
    "hostile names": {name: WEIGHTS.reshape(3, 2) for name in EVIL if name.isascii() or name.startswith("\u202e")},
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_checkpoints_fit_the_schemas(name: str, tmp_path: Path) -> None:
    report = report_of(tmp_path, UNUSUAL[name])
    path = str(tmp_path / "model.pt")
    outputs: list[Callable[[], str]] = [
        lambda: str(renderer("json").render(report)),
        lambda: layers_text.as_json(weightstats.list_layers(path)),
        lambda: groups_text.as_json(make_groups(report, "fan_scaled", 0.01)),
        lambda: comparison_text.as_json(weightstats.compare(path, path)),
        lambda: trajectory_text.as_json(weightstats.trajectory([path, path])),
    ]
    assert [problems(parsed(make())) for make in outputs] == [[]] * len(outputs)


def test_a_report_on_a_damaged_file_fits_the_schema(tmp_path: Path) -> None:
    path, content = tmp_path / "model.pt", io.BytesIO()
    torch.save(UNUSUAL["infinite"], content, _use_new_zipfile_serialization=False)
    path.write_bytes(content.getvalue()[:-10])
    told = parsed(printed(path))
    assert told["checkpoint"]["damage"] is not None
    assert problems(told) == []


@here
@pytest.mark.parametrize("files", [HOSTILE[start::4] for start in range(4)], ids=lambda files: f"{len(files)} files")
def test_reports_on_hostile_files_fit_the_schema(files: list[str]) -> None:
    reported = 0
    for file in files:
        try:
            text = printed(COLLECTION / file)
        except weightstats.CheckpointError:
            continue
        assert (file, problems(parsed(text))) == (file, [])
        reported += 1
    assert reported > 0


# What is refused


BREAKS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a missing field": (lambda told: told["layers"][0].pop("ratio"), "'ratio' is a required property"),
    "a missing part": (lambda told: told.pop("fit"), "'fit' is a required property"),
    "a text for a number": (
        lambda told: told["layers"][0].update(mean_square="0.5"),
        r"'0.5' is not of type 'number', 'null'",
    ),
    "a fraction for a count": (lambda told: told["layers"][0].update(n_in=0.5), "0.5 is not of type 'integer'"),
    "a number for a truth": (lambda told: told["layers"][0].update(fitted=1), "1 is not of type 'boolean'"),
    "null for a text": (lambda told: told["layers"][0].update(name=None), "None is not of type 'string'"),
    "a strange verdict": (lambda told: told["fit"].update(verdict="true"), "'true' is not one of"),
    "a missing penalty": (lambda told: told["layers"][0]["penalties"].pop("plain"), "'plain' is a required property"),
    "a third end of an interval": (
        lambda told: told["fit"]["exponent_interval"].append(0.0),
        "Expected at most 2 items",
    ),
    "a lost end of an interval": (lambda told: told["fit"]["exponent_interval"].pop(), "is too short"),
    "another schema": (lambda told: told["untrained"].pop("sentence"), "'sentence' is a required property"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_report_is_refused(name: str) -> None:
    told = parsed(printed(FIXTURES / "made/law.safetensors"))
    break_, message = BREAKS[name]
    break_(told)
    for closed in (True, False):
        (problem,) = problems(told, closed=closed)
        assert re.search(message, problem)


def test_another_name_of_the_schema_is_refused() -> None:
    told = parsed(printed(FIXTURES / "made/law.safetensors"))
    told["schema"] = "weightstats/report/2"
    assert [error.json_path for error in validator("report", closed=False).iter_errors(told)] == ["$.schema"]


@pytest.mark.parametrize("where", [(), ("layers", 0), ("fit",), ("penalties",), ("layers", 0, "penalties")])
def test_a_new_field_is_allowed_but_no_test_lets_it_pass_undescribed(where: tuple[str | int, ...]) -> None:
    told = parsed(printed(FIXTURES / "made/law.safetensors"))
    part = told
    for key in where:
        part = part[key]
    part["new"] = 1
    assert problems(told, closed=False) == []
    assert ["'new' was unexpected" in problem for problem in problems(told)] == [True]


# The document


def test_the_document_names_every_schema_and_its_file() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `weightstats/(\w+)/1` \| \[(\w+)-1\.json\]\(schemas/(\w+)-1\.json\) \|", text, re.MULTILINE)
    assert rows == [(name, name, name) for name in ROOTS]


def test_what_the_document_shows_is_so(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    shutil.copy(FIXTURES / "published/silero-vad/silero_vad_16k.safetensors", tmp_path / "model.safetensors")
    shutil.copytree(FOLDER, tmp_path / "docs/schemas")
    for command in re.findall(r"^\$ weightstats (.*)$", text, re.MULTILINE):
        run("-m", "weightstats", *command.split(), folder=tmp_path)
    examples = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)
    assert len(examples) == text.count("```python") == 3
    for code, output in examples:
        assert run("-c", code, folder=tmp_path) == output


def run(*arguments: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
