"""What may be demanded of a value, and how it is written in a policy."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from weightstats.rules import matches


@dataclass(frozen=True, slots=True)
class Within:
    """A number from `low` to `high`, both included; either may be infinite. A NaN is never within."""

    low: float
    high: float

    def is_met(self, value: float) -> bool:
        """Whether a number lies within."""
        return self.low <= value <= self.high

    @property
    def words(self) -> str:
        """`0.2 to 5`, `at most 5`, `at least 0.2`, `exactly 5`, `a number`."""
        if self.low == self.high:
            return f"exactly {_plain(self.low)}"
        if self.low == -math.inf:
            return "a number" if self.high == math.inf else f"at most {_plain(self.high)}"
        return f"at least {_plain(self.low)}" if self.high == math.inf else f"{_plain(self.low)} to {_plain(self.high)}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some words."""

    values: tuple[str, ...]

    def is_met(self, value: str) -> bool:
        """Whether it is one of them."""
        return value in self.values

    @property
    def words(self) -> str:
        """`moved or not told`."""
        return " or ".join(filter(None, (", ".join(self.values[:-1]), self.values[-1])))


@dataclass(frozen=True, slots=True)
class Only:
    """Only texts that one of some globs matches; none at all without any."""

    globs: tuple[str, ...]

    def is_met(self, value: str) -> bool:
        """Whether a glob matches."""
        return any(matches(glob, value) for glob in self.globs)

    @property
    def words(self) -> str:
        """`only F32 or BF16`, `none`."""
        return f"only {OneOf(self.globs).words}" if self.globs else "none"


@dataclass(frozen=True, slots=True)
class Present:
    """Something for each of some globs."""

    globs: tuple[str, ...]

    @property
    def words(self) -> str:
        """What is demanded for each glob."""
        return "a tensor of that name"


@dataclass(frozen=True, slots=True)
class Never:
    """That it does not occur."""

    words: str
    """What there is instead: `a whole file`."""


Demand: TypeAlias = Within | OneOf | Only | Present | Never


@dataclass(frozen=True, slots=True)
class Interval:
    """Written as `[lo, hi]`."""

    lowest: float = -math.inf
    """That there can be."""

    @property
    def words(self) -> str:
        """What a policy must say."""
        return f"[lo, hi], two numbers in order{_between(self.lowest, math.inf)}"

    def demand(self, value: object) -> Within | None:
        """The demand that a value stands for; None where it stands for none."""
        if not isinstance(value, list | tuple) or len(value) != 2:
            return None
        low, high = (_number(one) for one in value)
        if low is None or high is None or not self.lowest <= low <= high or low == math.inf or high == -math.inf:
            return None
        return Within(low, high)


@dataclass(frozen=True, slots=True)
class Bound:
    """Written as a number."""

    kind: Literal["at most", "at least"]
    lowest: float = 0.0
    highest: float = math.inf
    whole: bool = False

    @property
    def words(self) -> str:
        """What a policy must say."""
        return f"a {'whole ' if self.whole else ''}number{_between(self.lowest, self.highest)}"

    def demand(self, value: object) -> Within | None:
        """The demand that a value stands for; None where it stands for none."""
        bound = _number(value)
        if bound is None or not self.lowest <= bound <= self.highest or (self.whole and not isinstance(value, int)):
            return None
        return Within(-math.inf, bound) if self.kind == "at most" else Within(bound, math.inf)


@dataclass(frozen=True, slots=True)
class Choice:
    """Written as a list of some of what there is."""

    known: tuple[str, ...]

    @property
    def words(self) -> str:
        """What a policy must say."""
        return f"a list of some of {', '.join(repr(one) for one in self.known)}"

    def demand(self, value: object) -> OneOf | None:
        """The demand that a value stands for; None where it stands for none."""
        values = _texts(value)
        return OneOf(values) if values and all(one in self.known for one in values) else None


@dataclass(frozen=True, slots=True)
class Allowed:
    """Written as a list of globs on what there may be."""

    may_be_none: bool

    @property
    def words(self) -> str:
        """What a policy must say."""
        return f"a list of globs{', [] for none' if self.may_be_none else ''}"

    def demand(self, value: object) -> Only | None:
        """The demand that a value stands for; None where it stands for none."""
        globs = _texts(value)
        return None if globs is None or not (globs or self.may_be_none) else Only(globs)


@dataclass(frozen=True, slots=True)
class Names:
    """Written as a list of globs on what there must be."""

    @property
    def words(self) -> str:
        """What a policy must say."""
        return "a list of globs"

    def demand(self, value: object) -> Present | None:
        """The demand that a value stands for; None where it stands for none."""
        globs = _texts(value)
        return Present(globs) if globs else None


@dataclass(frozen=True, slots=True)
class Off:
    """Written as `false`."""

    instead: str
    """What is demanded, in words: `a whole file`."""

    @property
    def words(self) -> str:
        """What a policy must say."""
        return "false"

    def demand(self, value: object) -> Never | None:
        """The demand that a value stands for; None where it stands for none."""
        return Never(self.instead) if value is False else None


Wanted: TypeAlias = Interval | Bound | Choice | Allowed | Names | Off
"""How a demand is written: `words` says what a policy must say, `demand` makes the demand of it."""


def _number(value: object) -> float | None:
    """A number that is neither true nor false, and that float64 can hold; a NaN lies within no bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _texts(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
        return None
    return tuple(dict.fromkeys(value))


def _between(lowest: float, highest: float) -> str:
    if highest == math.inf:
        return "" if lowest == -math.inf else f" from {_plain(lowest)} on"
    return f" from {_plain(lowest)} to {_plain(highest)}"


def _plain(number: float) -> str:
    """A number as people write it: `0.2`, `1,000,000`, `1e-30`."""
    is_count = float(number).is_integer() and 1000 <= abs(number) < 1e15
    return f"{number:,.0f}" if is_count else f"{number:.12g}"


def number_words(value: float, demand: Within) -> str:
    """A number with as many digits as it takes to see on which side of the demand it lies."""
    if float(value).is_integer() and abs(value) < 1e15:
        return _plain(float(value))
    texts = [f"{value:,.0f}"] if 1000 <= abs(value) < 1e6 else []
    texts += [f"{value:.{digits}g}" for digits in (4, 6, 9, 17)]
    met = demand.is_met(value)
    return next((text for text in texts if demand.is_met(float(text.replace(",", ""))) == met), texts[-1])
