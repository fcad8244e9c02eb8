"""Names that differ only in their numbers, as one pattern: `layers.*.mlp.up.weight`."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import translate

MOST_NAME = 256
"""Characters of a name that may be part of a pattern; published ones are shorter."""

MOST_STEPS = 20_000_000
"""Names and characters that may be looked at to see what patterns match, one or two seconds of work; what is left then
is not folded. The 27 patterns of a network of 46,000 tensors (61 blocks of 256 experts) take 2,000,000."""

_NUMBER = re.compile(r"(?<![^.])[0-9]{1,9}(?![^.])")
"""A number between dots, or at an end."""

_SPECIAL = re.compile(r"[*?\[\]]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """Names that one shell-style pattern matches, and no others of the checkpoint."""

    glob: str
    """For `fnmatch.fnmatchcase`; the only wildcard is `*`, where the names have numbers."""

    names: tuple[str, ...]


def folded(groups: Sequence[Sequence[str]], names: Collection[str]) -> list[tuple[Pattern, ...]]:
    """For each group of names, the patterns that match two or more of them and nothing else among `names`, which are
    all that there are. What is in no pattern stands for itself."""
    candidates: list[tuple[int, Pattern]] = []
    for index, group in enumerate(groups):
        members: dict[str, list[str]] = {}
        for name in group:
            if (glob := _glob_of(name)) is not None:
                members.setdefault(glob, []).append(name)
        candidates += [(index, Pattern(glob, tuple(own))) for glob, own in members.items() if len(own) > 1]
    return _exact(candidates, len(groups), names)


def _glob_of(name: str) -> str | None:
    """The pattern of a name with its numbers replaced; None where it has none, or cannot be part of a pattern."""
    if len(name) > MOST_NAME or _SPECIAL.search(name):
        return None
    glob, numbers = _NUMBER.subn("*", name)
    return glob if numbers else None


def _exact(candidates: Sequence[tuple[int, Pattern]], groups: int, names: Collection[str]) -> list[tuple[Pattern, ...]]:
    """The candidates that match their own names alone, by the groups that they are of; those of most names first."""
    kept: set[int] = set()
    left = MOST_STEPS
    for place in sorted(range(len(candidates)), key=lambda place: -len(candidates[place][1].names)):
        pattern = candidates[place][1]
        first, _, rest = pattern.glob.partition("*")
        ends = first, rest.rpartition("*")[2]
        near = [name for name in names if name.startswith(ends[0]) and name.endswith(ends[1])]
        left -= len(names) + sum(map(len, near))
        if left < 0:
            break
        matches = re.compile(translate(pattern.glob)).match
        if sum(matches(name) is not None for name in near) == len(pattern.names):
            kept.add(place)
    return [
        tuple(pattern for place, (index, pattern) in enumerate(candidates) if index == group and place in kept)
        for group in range(groups)
    ]
