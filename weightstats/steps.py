"""How far a training was when a checkpoint was written: from the names of files and folders, or from what they keep."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePath
from typing import Literal, TypeAlias

from weightstats.checkpoint import COUNTERS
from weightstats.network import NOT_NETWORK

Unit: TypeAlias = Literal["step", "epoch"]

UNITS: tuple[Unit, ...] = ("step", "epoch")

_NAMED: dict[Unit, re.Pattern[str]] = {
    # step-500, step=200 (PyTorch Lightning), global_step1000 (DeepSpeed), checkpoint-1000 (transformers), ckpt_20,
    # iter_0005000 (Megatron-LM), step10k
    "step": re.compile(
        r"(?:^|(?<=[^a-z]))(?:global[-_]?)?(?:steps?|checkpoint|ckpt|iter(?:ation)?s?|updates?)[-_=]?"
        r"(?P<number>\d{1,15})(?P<thousands>k?)(?![a-z0-9])",
        re.IGNORECASE,
    ),
    # epoch=3 (PyTorch Lightning), epoch_10, ep10
    "epoch": re.compile(r"(?:^|(?<=[^a-z]))ep(?:ochs?)?[-_=]?(?P<number>\d{1,15})(?P<thousands>)(?![a-z0-9])", re.I),
}

_AT_END = re.compile(r"(?:^|[-_.])(?P<number>\d{1,15})(?P<thousands>k?)$", re.IGNORECASE)
"""`model_00300`."""

_FIRST = re.compile(r"(?:^|(?<=[-_.]))(?:init|initial|initialized|start)(?=$|[-_.])", re.IGNORECASE)
_LAST = re.compile(r"(?:^|(?<=[-_.]))(?:final|last|latest|end)(?=$|[-_.])", re.IGNORECASE)

_SHARD = re.compile(r"\d+-of-\d+|(?:^|[-_])rank[-_]?\d+", re.IGNORECASE)
"""`model-00001-of-00002`, `mp_rank_00`: parts of one checkpoint."""

_SUFFIX = re.compile(r"(?:\.(?:weights|ckpt|model))?\.[a-z][a-z0-9]{0,11}$", re.IGNORECASE)
"""`.pt`, `.weights.h5`, `.ckpt.index`; never digits alone, as in `model.300`."""

NO_CHECKPOINTS = (
    *(
        "cfg",
        "csv",
        "gif",
        "html",
        "ini",
        "ipynb",
        "jpg",
        "jpeg",
        "json",
        "jsonl",
        "log",
        "md",
        "pdf",
        "png",
        "py",
        "sh",
    ),
    *("svg", "toml", "tsv", "txt", "yaml", "yml"),
)
"""Last parts of names that a folder of checkpoints has beside them."""

PARENTS = 2
"""Folders above a checkpoint whose names are looked at, for `checkpoint-500/model.safetensors`."""

MOST_NAME = 256
"""Characters at the end of a name that are looked at."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where in a training a checkpoint lies."""

    number: int | None
    """None where nothing says it."""

    unit: Unit | None
    label: str
    """As it is shown: `step 1,000`, `epoch 3`, `final`, or the checkpoint's name."""

    taken_from: str
    """What says so, in words."""


@dataclass(frozen=True, slots=True)
class _Clues:
    """All that is known of one checkpoint."""

    numbers: Mapping[Unit, tuple[int, str]]
    """With what says so."""

    last: str
    """The word in its name for the last one; '' where there is none."""

    name: str


def steps_of(checkpoints: Sequence[tuple[str, Mapping[str, int]]]) -> tuple[Step, ...]:
    """The step of each of several checkpoints, given as (location, `Checkpoint.counters`), in one unit for all.

    That is the step if it is known of each, else the epoch if that is, else the same but for those that are called the
    last; else only their names are given.
    """
    clues = [_clues(location, counters) for location, counters in checkpoints]
    known = (unit for unit in UNITS if all(unit in clue.numbers for clue in clues))
    nearly = (unit for unit in UNITS if all(unit in clue.numbers or clue.last for clue in clues))
    unit = next(chain(known, nearly), None)
    return tuple(_step(clue, unit) for clue in clues)


def _step(clue: _Clues, unit: Unit | None) -> Step:
    number, taken_from = clue.numbers.get(unit, (None, "")) if unit is not None else (None, "")
    shown = "" if number is None else f"{unit} {number:,}"
    if clue.last:
        label = f"{clue.last} ({shown})" if shown else clue.last
        return Step(number, unit if number is not None else None, label, taken_from or "its name")
    return Step(number, unit, shown or clue.name, taken_from or "its name")


def in_order(steps: Sequence[Step]) -> list[int]:
    """The indices of the steps from the first to the last; those that are not numbered come last, in their order."""
    return sorted(range(len(steps)), key=lambda index: _key(steps[index]))


def _key(step: Step) -> float:
    return math.inf if step.number is None else step.number


def _clues(location: str, counters: Mapping[str, int]) -> _Clues:
    parts = [part[-MOST_NAME:] for part in PurePath(location).parts[::-1][: 1 + PARENTS]]
    stems = [_stem(part) for part in parts]
    numbers: dict[Unit, tuple[int, str]] = {}
    for place, stem in enumerate(stems):
        whose = "its name" if place == 0 else f"the folder {parts[place]}"
        for unit, number in _numbers(stem, is_own=place == 0):
            numbers.setdefault(unit, (number, whose))
    for key in COUNTERS:
        if key in counters:
            numbers.setdefault("epoch" if key == "epoch" else "step", (counters[key], f"{key} in the checkpoint"))
    last = _LAST.search(stems[0]) if stems else None
    return _Clues(numbers, last[0] if last else "", parts[0] if parts else location)


def _numbers(stem: str, *, is_own: bool) -> Iterator[tuple[Unit, int]]:
    """What a name says; a number alone counts only in the name of the checkpoint itself."""
    if _SHARD.search(stem):
        return
    found = {unit: match for unit, pattern in _NAMED.items() if (match := pattern.search(stem))}
    for unit, match in found.items():
        yield unit, _value(match)
    if not is_own or found:
        return
    if _FIRST.search(stem):
        yield from ((unit, 0) for unit in UNITS)
    elif match := _AT_END.search(stem):
        yield "step", _value(match)


def _value(match: re.Match[str]) -> int:
    return int(match["number"]) * (1000 if match["thousands"] else 1)


def _stem(name: str) -> str:
    """A name without what it ends in."""
    return _SUFFIX.sub("", name) or name


def series_of(names: Sequence[str]) -> dict[str, list[str]]:
    """The names in a folder that tell a step, by what is the same in all of one series: `mlp` for `mlp-step0.pt` and
    `mlp-final.pt`. What is no network's checkpoint by its name is left out."""
    series: dict[str, list[str]] = {}
    for name in names:
        stem = _stem(name[-MOST_NAME:])
        clues = _clues(name, {})
        rest = stem
        for pattern in (*_NAMED.values(), _FIRST, _LAST, _AT_END):
            rest = pattern.sub("", rest)
        rest = re.sub(r"[-_=.]+", "-", rest).strip("-")
        is_file_of_another_kind = name.rpartition(".")[2].lower() in NO_CHECKPOINTS or name.startswith(".")
        if is_file_of_another_kind or _SHARD.search(stem) or NOT_NETWORK.search(rest.lower()):
            continue
        if clues.numbers or clues.last:
            series.setdefault(rest, []).append(name)
    return series
