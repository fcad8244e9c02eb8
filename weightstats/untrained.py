"""How many layers of a network are as initialised, and what that means for a law that is fitted to them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from weightstats.initialisation import Initialisation

MOST_NAMED = 3
"""Initialisers that a sentence names."""


@dataclass(frozen=True, slots=True)
class Untrained:
    """How many of some layers are as initialised. Made by `untrained`."""

    as_initialised: int
    hardly_moved: int
    not_told: int
    """Too small, quantised or zero."""

    of: int
    """All of them."""

    initialisers: tuple[tuple[str, int], ...]
    """Those that account for the first two counts, the most frequent first, each with the layers that none before it
    accounts for."""

    @property
    def sentence(self) -> str:
        """What that means for a law that is fitted to these layers; '' where there are none."""
        return _sentence(self)


def untrained(layers: Iterable[Initialisation]) -> Untrained:
    """Count them."""
    found = list(layers)
    states = Counter(one.state for one in found)
    left = [{candidate.name for candidate in one.candidates} for one in found if one.is_untrained]
    named: list[tuple[str, int]] = []
    while left:
        counts = Counter(name for names in left for name in sorted(names))
        name, count = max(counts.items(), key=lambda item: item[1])
        named.append((name, count))
        left = [names for names in left if name not in names]
    return Untrained(
        as_initialised=states["as initialised"],
        hardly_moved=states["hardly moved"],
        not_told=states["not told"],
        of=len(found),
        initialisers=tuple(named),
    )


def _sentence(found: Untrained) -> str:
    count, judged = found.as_initialised + found.hardly_moved, found.of - found.not_told
    if not found.of:
        return ""
    if not judged:
        return "Whether the fitted layers are as initialised cannot be told: they are too small, quantised or zero."
    untold = f"; of {found.not_told:,} it cannot be told" if found.not_told else ""
    if not count:
        if not found.not_told:
            which = "The one fitted layer is not" if found.of == 1 else f"None of the {found.of:,} fitted layers is"
            return f"{which} as an initialiser leaves it."
        them = "it" if judged == 1 else "them"
        which = f"{judged:,} of the {found.of:,} fitted layers {_are(judged)}"
        return f"{which} not as an initialiser leaves {them}{untold}."
    if 2 * count >= judged:
        meaning = "this fit is that of the initialisation, not the outcome of training"
    else:
        meaning = f"what the fit owes to {'it' if count == 1 else 'them'} is not the outcome of training"
    return f"{_which(count, found.of)} {_state(found)} ({_initialisers(found)}){untold}: {meaning}."


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _which(count: int, of: int) -> str:
    if of == 1:
        return "The one fitted layer is"
    if count == of:
        return f"All {of:,} fitted layers are"
    return f"{count:,} of the {of:,} fitted layers {_are(count)}"


def _state(found: Untrained) -> str:
    if not found.hardly_moved:
        return "as initialised"
    return "as initialised or hardly moved from there" if found.as_initialised else "hardly moved from initialisation"


def _initialisers(found: Untrained) -> str:
    """`Glorot uniform ×3, torch's default ×1`."""
    names = ", ".join(f"{name} ×{times:,}" for name, times in found.initialisers[:MOST_NAMED])
    more = len(found.initialisers) - MOST_NAMED
    return f"{names} and {more:,} more" if more > 0 else names
