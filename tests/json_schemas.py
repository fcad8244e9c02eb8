"""Write docs/schemas from the records: a JSON Schema for each kind of JSON that is printed. Run by `make schemas`.

A record's fields are its object's properties, with their types, and their docstrings as descriptions. What `to_dict`
writes otherwise is told by the tables ADDED, LEFT_OUT and WRITTEN_AS. Every property is required, and others are
allowed: fields may be added to a schema, and none is taken away or given another type.
"""

import ast
import copy
import inspect
import json
import re
import textwrap
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from weightstats.checks import Check
from weightstats.comparison import Comparison
from weightstats.contest import Contest
from weightstats.decay_groups import DecayGroup, DecayGroups
from weightstats.fits import Fit
from weightstats.listing import Listing
from weightstats.penalties import PenaltyName
from weightstats.policies import Level
from weightstats.report import CheckpointPart, PenaltySplit, Report
from weightstats.trajectories import Trajectory
from weightstats.untrained import Untrained

FOLDER = Path(__file__).resolve().parent.parent / "docs/schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


@dataclass
class Penalties:
    """Each penalty over all layers."""

    weight_decay: float
    """The penalties' factor lambda."""

    plain: PenaltySplit
    per_element: PenaltySplit
    fan_scaled: PenaltySplit


@dataclass
class Side:
    """What a comparison repeats of the report on one checkpoint."""

    checkpoint: CheckpointPart
    fit: Fit
    fit_without_scale_free: Fit | None
    penalties: Penalties


@dataclass
class Counts:
    """How many there are. Tensors are those with layers, the others and the unread ones."""

    tensors: int
    with_layers: int
    """Stored tensors that hold a layer or several."""

    layers: int
    others: int
    unread: int


@dataclass
class GroupPattern:
    """Parameters whose names differ only in their numbers."""

    pattern: str
    """Shell-style; no other name of the checkpoint matches it."""

    parameters: int
    """How many it stands for."""


@dataclass
class CheckedRule:
    """What one rule of a policy demands, and what it found."""

    id: str
    """Different for each rule of a policy: what findings name."""

    subject: str
    """What is looked at."""

    penalty: PenaltyName | None
    """Of which penalty, for rules on penalties."""

    demanded: str
    """In words."""

    level: Level
    """Of its findings."""

    when_not_judged: Level
    """Of its findings on what cannot be judged."""

    because: str | None
    """Why it is demanded, in the words of who wrote the policy."""

    include: tuple[str, ...]
    """Globs on names, for rules on tensors; none for all of them."""

    exclude: tuple[str, ...]
    judged: int | None
    """How many layers, tensors or values of the checkpoint it could judge; None where the checkpoint could not be
    read."""

    holds: bool
    """Whether the checkpoint could be read, and no finding is an error."""

    findings: int
    """How many of the findings are its own."""


@dataclass
class ListedLaw:
    """What mean squares can be tried against."""

    law: str
    """What `--law` calls it."""

    formula: str
    measure: str | None
    """What the mean square is inversely proportional to; null for a law that does not depend on the fans."""

    constant: float | None
    """c, where an initialisation fixes it."""

    source: str


@dataclass
class Laws:
    """All that `weightstats laws` lists."""

    laws: tuple[ListedLaw, ...]


ROOTS: dict[str, type] = {
    "report": Report,
    "comparison": Comparison,
    "trajectory": Trajectory,
    "layers": Listing,
    "groups": DecayGroups,
    "laws": Laws,
    "check": Check,
}
"""The record of each schema `weightstats/NAME/1`."""

ADDED: dict[type, dict[str, Any]] = {
    Report: {"penalties": Penalties, "findings": None, "rests_on": None, "indistinct": None},
    Contest: {"indistinct": tuple[str, ...]},
    Untrained: {"sentence": None},
    Comparison: {"findings": None},
    Trajectory: {"findings": None},
    Listing: {"counts": Counts},
    Check: {"holds": None, "counts": Mapping[Level, int], "rules": tuple[CheckedRule, ...], "findings": None},
}
"""What is written beside the fields, or in place of one, with its type: None where a property of the record has it."""

LEFT_OUT: dict[type, tuple[str, ...]] = {Report: ("weight_decay",), Check: ("outcomes",)}
"""Fields that are not written."""

WRITTEN_AS: dict[tuple[type, str], Any] = {
    (Comparison, "before"): Side,
    (Comparison, "after"): Side,
    (DecayGroup, "patterns"): tuple[GroupPattern, ...],
}
"""The types of fields that are written as something else."""

DESCRIBED: dict[tuple[type, str], str] = {
    (Contest, "indistinct"): "The laws with a free constant that cannot be told from the best one, itself included.",
    (Check, "counts"): "Findings of each level.",
    (Check, "rules"): "What each rule found, in the policy's order.",
    (Check, "findings"): "Of all rules, in their order.",
}
"""Descriptions where what is written is not what the record's docstring tells of."""


def schemas() -> dict[str, Schema]:
    """Every schema by the name of its file."""
    return {f"{name}-1.json": _schema(name, record) for name, record in ROOTS.items()}


def strict(schema: Schema) -> Schema:
    """The schema without leave for properties that it does not know."""
    made = copy.deepcopy(schema)
    for part in (made, *made["$defs"].values()):
        _close(part)
    return made


def as_text(schema: Schema) -> str:
    """As it is kept in a file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _schema(name: str, record: type) -> Schema:
    definitions: dict[str, tuple[type, Schema]] = {}
    root = _object(record, definitions)
    const = {"const": f"weightstats/{name}/1", "description": "The name of this schema."}
    return {
        "$schema": DIALECT,
        "$id": f"urn:weightstats:{name}:1",
        "title": f"weightstats/{name}/1",
        **root,
        "properties": {"schema": const, **root["properties"]},
        "required": ["schema", *root["required"]],
        "$defs": {key: definitions[key][1] for key in sorted(definitions)},
    }


def _object(record: type, definitions: dict[str, tuple[type, Schema]]) -> Schema:
    """The schema of a record; those of the records in it go into `definitions`."""
    hints, told = get_type_hints(record), _docstrings(record)
    added = ADDED.get(record, {})
    names = [field.name for field in fields(record) if field.name not in LEFT_OUT.get(record, ())]
    properties: dict[str, Schema] = {}
    for name in dict.fromkeys((*names, *added)):
        found = getattr(record, name, None)
        if name in added and added[name] is None:
            assert isinstance(found, property), f"{record.__name__} has no property {name}"
            written, described = get_type_hints(found.fget)["return"], inspect.getdoc(found)
        else:
            written = added.get(name) or WRITTEN_AS.get((record, name)) or hints[name]
            described = DESCRIBED.get((record, name)) or told.get(name)
        properties[name] = _described(_of(written, definitions), described)
    made = {"type": "object", "properties": properties, "required": list(properties)}
    return _described(made, inspect.getdoc(record))


def _of(hint: Any, definitions: dict[str, tuple[type, Schema]]) -> Schema:
    """The schema of what a type is written as in JSON, where NaN and infinities are null."""
    if isinstance(hint, type) and is_dataclass(hint):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = hint, {}
            definitions[hint.__name__] = hint, _object(hint, definitions)
        assert definitions[hint.__name__][0] is hint, f"two records are called {hint.__name__}"
        return {"$ref": f"#/$defs/{hint.__name__}"}
    simple: dict[Any, Schema] = {
        str: {"type": "string"},
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        float: {"type": ["number", "null"]},
        type(None): {"type": "null"},
    }
    if hint in simple:
        return simple[hint]
    arguments = get_args(hint)
    match get_origin(hint):
        case typing.Literal:
            return {"enum": list(arguments)}
        case types.UnionType | typing.Union:
            return _either([_of(argument, definitions) for argument in arguments])
        case origin if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": _of(arguments[0], definitions)}
        case origin if origin is tuple:
            items = [_of(argument, definitions) for argument in arguments]
            return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
        case origin if origin is Mapping:
            return _mapping(arguments[0], _of(arguments[1], definitions))
    raise TypeError(f"what is {hint} written as?")


def _either(parts: list[Schema]) -> Schema:
    """A schema for what fits one of several."""
    if all(set(part) == {"type"} for part in parts):
        names = [name for part in parts for name in ([part["type"]] if isinstance(part["type"], str) else part["type"])]
        return {"type": list(dict.fromkeys(names))}
    if all(set(part) == {"enum"} or part == {"type": "null"} for part in parts):
        return {"enum": [value for part in parts for value in part.get("enum", [None])]}
    return {"anyOf": parts}


def _mapping(key: Any, value: Schema) -> Schema:
    if get_origin(key) is Literal:
        names = list(get_args(key))
        return {"type": "object", "properties": dict.fromkeys(names, value), "required": names}
    return {"type": "object", "additionalProperties": value}


def _described(schema: Schema, text: str | None) -> Schema:
    """The schema with what a docstring says, but for what makes the record, and with JSON's word for nothing."""
    if not text:
        return schema
    words = re.sub(r" Made by .*", "", " ".join(text.split()))
    words = re.sub(r"NaN \(null in JSON\)|\b(?:NaN|None)\b", "null", words)
    return {"description": re.sub(r"(^|[.] )null", r"\1Null", words), **schema}


def _docstrings(record: type) -> dict[str, str]:
    """What the string literals below the fields of a dataclass say of them."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(definition, ast.ClassDef)
    told = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                told[name] = inspect.cleandoc(text)
    return told


def _close(schema: Schema) -> None:
    """Forbid properties that are not listed, here and in the objects that stand in place."""
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
        for part in schema["properties"].values():
            _close(part)
    for part in (*schema.get("anyOf", ()), *schema.get("prefixItems", ())):
        _close(part)
    if isinstance(schema.get("items"), dict):
        _close(schema["items"])


if __name__ == "__main__":
    for name, schema in schemas().items():
        (FOLDER / name).write_text(as_text(schema), encoding="utf-8")
