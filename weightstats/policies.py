"""What a checkpoint is held to: a TOML file of rules, each of which demands one thing of what a report says.

    [[rule]]
    ratio = [0.2, 5]
    include = ["encoder.*"]
    level = "warning"

TOML: https://toml.io/en/v1.0.0
"""

import difflib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from weightstats.demands import Demand, Within
from weightstats.errors import UsageError, quoted
from weightstats.laws import LAWS
from weightstats.penalties import PENALTIES, PenaltyName
from weightstats.rules import RulesGiven, read_tables
from weightstats.subjects import OF_PENALTIES, OF_TENSORS, SUBJECTS

Level: TypeAlias = Literal["error", "warning", "note"]

LEVELS: tuple[Level, ...] = get_args(Level)

PolicyGiven: TypeAlias = "str | Path | Mapping[str, Any] | Policy"
"""A policy as a caller gives it: a TOML file, or what it says as a mapping."""

READABLE = "readable"
"""The id of what is demanded without a rule: that the checkpoint can be read, and is whole."""

ALWAYS = ("unread", "packed")
"""Subjects of which every policy has a rule, at 0 where it has none of its own: what could not be read or decoded
would otherwise not be judged, and nothing would say so."""

ALWAYS_BECAUSE = "every policy demands it that has no rule of its own for it: what is not read is not judged"

TOP_KEYS = ("inspect", "rule")

INSPECT_KEYS: dict[str, str] = {
    "law": "the key of a law, as `weightstats laws` lists them",
    "root": "text",
    "rules": "the path of a file of rules on tensors, from the policy's folder",
    "as_stored": "true or false",
}
"""What `[inspect]` may say: how the report is made that is judged."""

RULE_KEYS: dict[str, str] = {
    "level": "error, warning or note",
    "when_not_judged": "error, warning or note",
    "id": "a name of letters, digits, hyphens, underscores and dots",
    "because": "text",
    "include": "a list of globs",
    "exclude": "a list of globs",
    "penalty": f"one of {', '.join(PENALTIES)}",
}
"""What a rule may say beside its demand."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One demand, with where it applies and how grave it is if it is not met."""

    id: str
    """Different for each rule of a policy: what findings name."""

    subject: str
    """What is looked at: one of `subjects.SUBJECTS`."""

    demand: Demand
    level: Level
    """Of its findings."""

    when_not_judged: Level
    """Of its findings on what cannot be judged."""

    because: str | None
    """Why it is demanded, in the words of who wrote the policy."""

    include: tuple[str, ...]
    """Globs on names, for rules on tensors; none for all of them."""

    exclude: tuple[str, ...]
    penalty: PenaltyName | None
    """Of which penalty, for rules on penalties."""

    @property
    def about(self) -> str:
        """What is looked at, in a few words."""
        title = SUBJECTS[self.subject].title
        return f"{title} of the {self.penalty.replace('_', '-')} penalty" if self.penalty is not None else title


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in their order, and how the report is made that they judge. Made by `read_policy` and `make_policy`."""

    source: str
    """What messages call it: the file."""

    rules: tuple[PolicyRule, ...]
    law: str | None
    root: str | None
    layer_rules: RulesGiven
    """What tensors are, as `inspect` takes it."""

    as_stored: bool


def policy_from(given: PolicyGiven) -> Policy:
    """The policy in a file or in a mapping; UsageError as in `read_policy`."""
    if isinstance(given, Policy):
        return given
    if isinstance(given, str | Path):
        return read_policy(given)
    return make_policy(given, "the policy")


def read_policy(path: str | Path) -> Policy:
    """The policy in a TOML file.

    UsageError, in one line that names the file and the rule, for a file that cannot be read, for what is not TOML, for
    a key that there is not, for a value that its key cannot have, and for a policy without any rule.
    """
    content, lines = read_tables(path, "policy")
    return make_policy(content, str(path), lines, Path(path).parent)


def make_policy(
    content: Mapping[str, Any], source: str, lines: Sequence[int] = (), folder: Path | None = None
) -> Policy:
    """A policy from what its TOML says; UsageError as in `read_policy`.

    `source` and `lines`, one a rule where they are known, are what messages call it and its rules; paths in it are
    taken from `folder`.
    """
    if not isinstance(content, Mapping):
        raise UsageError(f"{source}: a policy is a table, not {quoted(content)}")
    for key in content:
        if key not in TOP_KEYS:
            meant = "; a demand belongs into a [[rule]]" if key in SUBJECTS or key in RULE_KEYS else ""
            raise UsageError(f"{source}: unknown key {_unknown(key, TOP_KEYS)}{meant}")
    tables = content.get("rule", [])
    if not isinstance(tables, list | tuple) or not all(isinstance(table, Mapping) for table in tables):
        raise UsageError(f"{source}: rules are [[rule]] tables, not {quoted(tables)}")
    if not tables:
        raise UsageError(f"{source}: the policy has no [[rule]], so that every checkpoint would hold")
    known = len(lines) == len(tables)
    labels = [
        f"{source}: rule {number}" + (f" (line {lines[number - 1]})" if known else "")
        for number in range(1, len(tables) + 1)
    ]
    rules = [_rule(table, label) for table, label in zip(tables, labels, strict=True)]
    none = Within(-math.inf, 0.0)
    rules += [
        PolicyRule("", subject, none, "error", "error", ALWAYS_BECAUSE, (), (), None)
        for subject in ALWAYS
        if all(rule.subject != subject for rule in rules)
    ]
    return Policy(source, _with_ids(rules, labels), **_inspection(content.get("inspect", {}), source, folder))


def _inspection(table: Any, source: str, folder: Path | None) -> dict[str, Any]:
    """How the report is made, as fields of a Policy."""
    if not isinstance(table, Mapping):
        raise UsageError(f"{source}: inspect is a table of {', '.join(INSPECT_KEYS)}, not {quoted(table)}")
    for key, value in table.items():
        if key not in INSPECT_KEYS:
            raise UsageError(f"{source}: [inspect]: unknown key {_unknown(key, tuple(INSPECT_KEYS))}")
        if not (isinstance(value, bool) if key == "as_stored" else isinstance(value, str)):
            raise UsageError(f"{source}: [inspect]: {key} must be {INSPECT_KEYS[key]}, not {quoted(value)}")
    law = table.get("law")
    if law is not None and law not in (laws := tuple(one.key for one in LAWS)):
        raise UsageError(f"{source}: [inspect]: there is no law {_unknown(law, laws)}")
    rules = table.get("rules")
    return {
        "law": law,
        "root": table.get("root"),
        "layer_rules": None if rules is None else (folder or Path()) / rules,
        "as_stored": table.get("as_stored", False),
    }


def _rule(table: Mapping[str, Any], label: str) -> PolicyRule:
    """The rule in a table; its id is '' where the table gives none."""
    for key in table:
        if key not in SUBJECTS and key not in RULE_KEYS:
            raise UsageError(f"{label}: unknown key {_unknown(key, (*SUBJECTS, *RULE_KEYS))}")
    demanded = [key for key in table if key in SUBJECTS]
    if len(demanded) != 1:
        what = f"this one demands {' and '.join(demanded)}" if demanded else "this one demands nothing"
        some = "" if demanded else f"; there are {', '.join(SUBJECTS)}"
        raise UsageError(f"{label}: a rule demands one thing, and {what}{some}")
    (subject,) = demanded
    wanted = SUBJECTS[subject].wanted
    demand = wanted.demand(table[subject])
    if demand is None:
        raise UsageError(f"{label}: {subject} must be {wanted.words}, not {quoted(table[subject])}")
    level = _level(table, "level", "error", label)
    return PolicyRule(
        id=_id(table, label),
        subject=subject,
        demand=demand,
        level=level,
        when_not_judged=_level(table, "when_not_judged", level, label),
        because=_because(table, label),
        include=_globs(table, "include", subject, label),
        exclude=_globs(table, "exclude", subject, label),
        penalty=_penalty(table, subject, label),
    )


def _level(table: Mapping[str, Any], key: str, otherwise: Level, label: str) -> Level:
    value = table.get(key, otherwise)
    if value not in LEVELS:
        raise UsageError(f"{label}: {key} must be {RULE_KEYS[key]}, not {quoted(value)}")
    level: Level = value
    return level


def _id(table: Mapping[str, Any], label: str) -> str:
    value = table.get("id", "")
    if "id" in table and not (isinstance(value, str) and _ID.fullmatch(value)):
        raise UsageError(f"{label}: id must be {RULE_KEYS['id']}, not {quoted(value)}")
    return str(value)


def _because(table: Mapping[str, Any], label: str) -> str | None:
    value = table.get("because")
    if "because" in table and not (isinstance(value, str) and value):
        raise UsageError(f"{label}: because must be text, not {quoted(value)}")
    return value


def _globs(table: Mapping[str, Any], key: str, subject: str, label: str) -> tuple[str, ...]:
    if key not in table:
        return ()
    value = table[key]
    if subject not in OF_TENSORS:
        raise UsageError(f"{label}: {key} is for rules on layers and tensors, and {subject} is none")
    if not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) and one for one in value):
        raise UsageError(f"{label}: {key} must be {RULE_KEYS[key]}, not {quoted(value)}")
    return tuple(value)


def _penalty(table: Mapping[str, Any], subject: str, label: str) -> PenaltyName | None:
    value = table.get("penalty")
    if subject not in OF_PENALTIES:
        if value is not None:
            raise UsageError(f"{label}: penalty is for rules on {', '.join(sorted(OF_PENALTIES))}, not on {subject}")
        return None
    if value is None:
        raise UsageError(f"{label}: {subject} is that of a penalty: penalty must be {RULE_KEYS['penalty']}")
    for penalty in PENALTIES:
        if isinstance(value, str) and value.replace("-", "_") == penalty:
            return penalty
    raise UsageError(f"{label}: there is no penalty {_unknown(value, PENALTIES)}")


def _with_ids(rules: Sequence[PolicyRule], labels: Sequence[str]) -> tuple[PolicyRule, ...]:
    """The rules, each with an id of its own: by default its subject, with a number where several have one."""
    taken: dict[str, str] = {READABLE: "what every policy demands"}
    for rule, label in zip(rules, labels, strict=False):
        if rule.id in taken:
            raise UsageError(f"{label}: id {quoted(rule.id)} is that of {taken[rule.id].rpartition(': ')[2]}")
        if rule.id:
            taken[rule.id] = label
    named = []
    for rule in rules:
        first = rule.subject if rule.penalty is None else f"{rule.subject}-{rule.penalty}"
        given, number = rule.id or first, 1
        while not rule.id and given in taken:
            number += 1
            given = f"{first}-{number}"
        taken.setdefault(given, "")
        named.append(replace(rule, id=given))
    return tuple(named)


def _unknown(found: object, known: Collection[str]) -> str:
    """What is not known, with what may be meant, or else with all that there is."""
    near = difflib.get_close_matches(str(found).replace("-", "_"), known, 1, 0.6)
    return f"{quoted(found)}; did you mean {near[0]!r}?" if near else f"{quoted(found)}; there are {', '.join(known)}"
