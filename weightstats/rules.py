"""What the user says of a checkpoint's tensors, which overrules all that was found: a TOML file of rules.

    [[rule]]
    match = "encoder.*.attn.c_attn.weight"
    kind = "linear"
    split = ["q", "k", "v"]
    axis = 1

TOML: https://toml.io/en/v1.0.0
"""

import difflib
import fnmatch
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from weightstats.errors import UsageError, quoted, shortened
from weightstats.limits import LIMITS

Split: TypeAlias = tuple[tuple[str, int | None], ...]
"""The names of the parts with their sizes, None for equal ones."""

RulesGiven: TypeAlias = "str | Path | Sequence[Mapping[str, Any]] | Rules | None"
"""Rules as a caller gives them: a TOML file, or what its tables say as mappings."""

KEYS: dict[str, str] = {
    "match": "text",
    "kind": "text",
    "n_in": "a whole number from 1 on",
    "n_out": "a whole number from 1 on",
    "groups": "a whole number from 1 on",
    "transposed": "true or false",
    "split": "a list of names, a table of sizes, or a number of parts",
    "axis": "a whole number from 0 on",
    "fit": "true or false",
    "scale_free": "true or false",
    "ignore": "true or false",
}
"""What a rule may say, and what each value is."""

KINDS = (
    *("linear", "bilinear", "embedding", "lstm", "gru", "rnn", "recurrent", "low_rank"),
    *(f"{before}{positions}d" for before in ("conv", "depthwise_conv", "conv_transpose") for positions in (1, 2, 3)),
)
"""Kinds that are known; a rule may give another, but none that looks like a mistyped one."""

MOST_PARTS = 65_536
"""Parts that a rule may make of one tensor."""

_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*(?:rule|\"rule\"|'rule')[ \t]*\]\]")
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Rule:
    """What the user says of the tensors whose name matches; None for what is left as it was found."""

    label: str
    """`rule 2 of rules.toml (line 7)`."""

    match: str
    """A glob on the whole name of a stored tensor, as the report shows it."""

    kind: str | None = None
    n_in: int | None = None
    """Of each part, where there are several."""

    n_out: int | None = None
    groups: int | None = None
    transposed: bool | None = None
    """Whether the inputs' dimension comes before the outputs'."""

    split: Split | None = None
    """The maps that are fused in the weight; none for a weight that is one map."""

    axis: int | None = None
    """The dimension that is split: by default that of the outputs."""

    fit: bool | None = None
    scale_free: bool | None = None
    ignore: bool = False

    @property
    def because(self) -> str:
        """The rule as a reason."""
        return f"{self.label}: match {quoted(self.match)}"

    @property
    def says_fans(self) -> bool:
        """Whether it says what a layer is, and not only what is done with it."""
        said = (self.kind, self.n_in, self.n_out, self.groups, self.transposed, self.split)
        return any(value is not None for value in said)


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules in their order; made by `rules_from`, `parse_rules` and `make_rules`."""

    rules: tuple[Rule, ...] = ()
    literal: Mapping[str, int] | None = None
    """The first rule of each match that has no wildcards, by the match."""

    wild: re.Pattern[str] | None = None
    """All other matches in one pattern, a group each in the order of the rules."""

    places: tuple[int, ...] = ()
    """The rule of each group of `wild`."""

    def rule_for(self, name: str) -> Rule | None:
        """The first rule that matches a tensor's name; it alone decides."""
        found = [] if self.literal is None or name not in self.literal else [self.literal[name]]
        matched = self.wild.match(name) if self.wild is not None else None
        if matched is not None and matched.lastindex is not None:
            found.append(self.places[matched.lastindex - 1])
        return self.rules[min(found)] if found else None

    def without_effect(self, names: Sequence[str], second_names: Mapping[str, str]) -> list[str]:
        """A sentence for each rule that decides none of the tensors of these names.

        `second_names` are among them: names under which a tensor is stored once more, with its first one.
        """
        decided: dict[str, str | None] = {}
        for name in names:
            rule = self.rule_for(name)
            if rule is not None and decided.get(rule.label, "") is not None:
                decided[rule.label] = second_names.get(name)
        sentences = []
        for rule in self.rules:
            first = decided.get(rule.label, "")
            if first:
                sentences.append(f"{rule.because} decides nothing: the tensor is stored once, as {shortened(first)}")
            elif first is not None:
                earlier = any(matches(rule.match, name) for name in names)
                why = "earlier rules match all its tensors" if earlier else "no tensor of the network has such a name"
                sentences.append(f"{rule.because} decides nothing: {why}")
        return sentences


NO_RULES = Rules()


def matches(pattern: str, name: str) -> bool:
    """Whether a glob matches a name: `*`, `?` and `[abc]` as in a shell, and brackets also as themselves, since they
    stand around the name of a part: `*.in_proj_weight[q]`."""
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def is_selected(names: Collection[str], include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether what has these names is chosen: by a pattern of `include`, if there are any, and none of `exclude`."""
    wanted = not include or any(matches(pattern, name) for pattern in include for name in names)
    return wanted and not any(matches(pattern, name) for pattern in exclude for name in names)


def rules_from(given: RulesGiven) -> Rules:
    """The rules of a file or of mappings; UsageError as in `parse_rules`."""
    if given is None:
        return NO_RULES
    if isinstance(given, Rules):
        return given
    if isinstance(given, str | Path):
        return parse_rules(given)
    return make_rules(given, "the rules given")


def parse_rules(path: str | Path) -> Rules:
    """The rules in a TOML file.

    UsageError, in one line that names the file and the rule, for a file that cannot be read, for what is not TOML,
    for a key that there is not and for a value of another type.
    """
    content, lines = read_tables(path, "rules")
    others = [key for key in content if key != "rule"]
    if others:
        raise UsageError(f"{path}: unknown key {quoted(others[0])}: a file of rules holds [[rule]] tables only")
    tables = content.get("rule", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path}: a file of rules holds [[rule]] tables, and there is none")
    return make_rules(tables, shortened(Path(path).name), lines if len(lines) == len(tables) else ())


def read_tables(path: str | Path, what: str) -> tuple[dict[str, Any], list[int]]:
    """A TOML file with [[rule]] tables, and the lines on which they begin; UsageError, which calls it `what`, where it
    cannot be read."""
    try:
        text = Path(path).read_bytes().decode("utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: the {what} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid TOML: {shortened(str(error))}") from error
    return content, [number for number, line in enumerate(text.splitlines(), 1) if _HEADER.match(line)]


def make_rules(tables: Sequence[Mapping[str, Any]], source: str, lines: Sequence[int] = ()) -> Rules:
    """Rules from mappings with the keys of `KEYS`; UsageError as in `parse_rules`.

    `source` and `lines`, one a rule where they are known, are what messages call them.
    """
    rules = []
    for index, table in enumerate(tables):
        label = f"rule {index + 1} of {source}" + (f" (line {lines[index]})" if lines else "")
        rules.append(_rule(table, label))
    wild = [index for index, rule in enumerate(rules) if _WILD.search(rule.match)]
    literal: dict[str, int] = {}
    for index, rule in enumerate(rules):
        literal.setdefault(rule.match, index)  # brackets in a name stand for themselves too
    pattern = "|".join(f"({fnmatch.translate(rules[index].match)})" for index in wild)
    return Rules(tuple(rules), literal, re.compile(pattern) if wild else None, tuple(wild))


def _rule(table: Mapping[str, Any], label: str) -> Rule:
    if not isinstance(table, Mapping):
        raise UsageError(f"{label}: it is not a table of {', '.join(KEYS)}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in KEYS:
            raise UsageError(f"{label}: unknown key {quoted(key)}; there are {', '.join(KEYS)}")
        if not _fits(KEYS[key], value):
            raise UsageError(f"{label}: {key} must be {KEYS[key]}, not {quoted(value)}")
        values[key] = value
    if (kind := values.get("kind", "linear")) not in KINDS and (near := difflib.get_close_matches(kind, KINDS, 1, 0.8)):
        raise UsageError(f"{label}: kind {quoted(kind)} is not known; did you mean {quoted(near[0])}?")
    if not values.get("match"):
        raise UsageError(f"{label}: it has no match, the glob on the names of the tensors that it speaks of")
    if len(values) == 1:
        raise UsageError(f"{label}: it says nothing of the tensors that it matches")
    if values.get("ignore") and len(values) > 2:
        raise UsageError(f"{label}: a tensor that is ignored is no layer, so that ignore stands alone beside match")
    if "axis" in values and not values.get("split"):
        raise UsageError(f"{label}: axis says what split cuts, and there is no split")
    if "split" in values:
        values["split"] = _parts_of(values["split"], label)
    return Rule(label, **values)


def _fits(wanted: str, value: object) -> bool:
    """Whether a value is what `KEYS` says."""
    if wanted == "text":
        return isinstance(value, str) and value != ""
    if wanted == "true or false":
        return isinstance(value, bool)
    if wanted.startswith("a whole number"):
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and int("from 1" in wanted) <= value <= LIMITS.elements
        )
    return isinstance(value, list | tuple | Mapping | int) and not isinstance(value, bool)


def _parts_of(value: "Sequence[str] | Mapping[str, int] | int", label: str) -> Split:
    count = value if isinstance(value, int) else len(value)
    if count > MOST_PARTS or count < 0 or (isinstance(value, int) and count == 0):
        raise UsageError(f"{label}: split makes {count:,} parts, and there may be 1 to {MOST_PARTS:,}")
    if isinstance(value, int):
        return tuple((str(index), None) for index in range(value))
    names = list(value)
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise UsageError(f"{label}: the names in split must be different texts")
    if not isinstance(value, Mapping):
        return tuple((name, None) for name in names)
    for name, size in value.items():
        if not _fits(KEYS["n_in"], size):
            raise UsageError(f"{label}: the size of {quoted(name)} in split must be {KEYS['n_in']}, not {quoted(size)}")
    return tuple(value.items())
