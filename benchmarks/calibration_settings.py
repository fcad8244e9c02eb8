"""What `calibration.py` simulates, how often, and the records of what came out."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scatter_kinds import KINDS, Floats, applies
from simulated_networks import network

SEED = 20_251_122

COVERAGE = 10_000
"""Simulations of a cell of the tables of coverage."""

VERDICT, RIVAL_VERDICT = 1_000, 100
"""Of verdicts: where the truth is a power of n_in+n_out, and where it is not, which takes a contest in most."""

METHOD = 300
"""Of the comparison of methods."""

CONTEST = 20
"""Contests for each law that is true."""

PICK = 2_000
"""Of least squares' choice of a law."""

CHECKED = 2
"""Simulations of each cell of verdicts that are also given to `fit_law` itself, which must say the same."""

SIZES = (0.3, 0.5, 0.7, 1.0)
"""Standard deviations of ln m that coverage is tried at."""

SHOWN_SIZE = 0.5
"""The one whose coverage and widths are shown: the procedure knows no scale, so that all are alike."""

VERDICT_SIZES = (0.3, 0.7)
CONTEST_SIZES = (0.3, 0.7)
CONTEST_KINDS = ("independent", "shape 0.5", "shape 0.9", "role 0.5", "role 0.9")

RULES = tuple((reach, often) for often in (False, True) for reach in (2.0, 4.0, 6.0, 10.0))
"""Rules for what is within reach: AICc above the best; whether the bootstrap's wins count too."""

BAR = (0.93, 0.97)
"""What the coverage of a 95 % interval should lie within, where what the interval assumes holds."""

TRUE_C = 2.0


@dataclass(frozen=True, slots=True)
class Truth:
    """What the mean squares follow."""

    key: str
    logarithm: Callable[[Floats, Floats, Floats], Floats]
    """(n_in, n_out, N) to ln m but for a constant."""

    exponent: float | None
    """Of n_in+n_out; None where it is no power of that."""


LAW = Truth("2/(n_in+n_out)", lambda n_in, n_out, _: math.log(TRUE_C) - np.log(n_in + n_out), -1.0)

TRUTHS: tuple[Truth, ...] = (
    LAW,
    Truth("c", lambda n_in, n_out, _: np.zeros_like(n_in), 0.0),
    Truth("c/(n_in+n_out)^0.5", lambda n_in, n_out, _: -0.5 * np.log(n_in + n_out), -0.5),
    Truth("c/n_in", lambda n_in, n_out, _: -np.log(n_in), None),
    Truth("c/n_out", lambda n_in, n_out, _: -np.log(n_out), None),
    Truth("c/max(n_in, n_out)", lambda n_in, n_out, _: -np.log(np.maximum(n_in, n_out)), None),
    Truth("c/sqrt(n_in·n_out)", lambda n_in, n_out, _: -0.5 * np.log(n_in * n_out), None),
)

PICKED_FROM = ("2/(n_in+n_out)", "c", "c/n_in", "c/n_out", "c/max(n_in, n_out)", "c/sqrt(n_in·n_out)")
"""Keys of TRUTHS that least squares chooses from, all with a free constant; the first is true."""

PICKS: dict[str, tuple[str, str]] = {
    "GPT-2 as stored": ("GPT-2 as stored", ""),
    "LLaMA-7B without its head": ("LLaMA-7B", "lm_head"),
    "VGG16": ("VGG16", ""),
}
"""What it chooses on, by name: a network, and the role that is left out."""


def truth_of(key: str) -> Truth:
    """One of TRUTHS."""
    return next(truth for truth in TRUTHS if truth.key == key)


def kinds_of(name: str) -> list[str]:
    """Those kinds of scatter that the network can have."""
    return [kind.key for kind in KINDS if applies(network(name), kind)]


def judged(name: str) -> bool:
    """Whether there are fan sums enough for a verdict."""
    return network(name).fan_sums >= 3


def rated(name: str) -> bool:
    """Whether laws are rated on the network: it takes more than three shapes."""
    return network(name).shapes > 3


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often the 95 % intervals hold the truth, where the law is true. Widths are medians."""

    network: str
    kind: str
    exponent: tuple[float, ...]
    """The share that holds -1, by size of the scatter."""

    exponent_half: float
    """Half the width, at SHOWN_SIZE."""

    constant: tuple[float, ...]
    """The share that holds c, by size of the scatter."""

    constant_factor: float
    """By which the ends of the interval are off its middle, at SHOWN_SIZE."""

    by_role: float
    """Share of fits that allow for roles."""


@dataclass(frozen=True, slots=True)
class VerdictRates:
    """Shares of the verdicts."""

    network: str
    kind: str
    truth: str
    size: float
    supported: float
    contradicted: float
    by_interval: float
    """Share of `supported` were there no contest."""


@dataclass(frozen=True, slots=True)
class Methods:
    """Coverage of the exponent and the median of half the width, by method."""

    network: str
    kind: str
    found: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Reached:
    """What the contest says where one of its laws is true."""

    network: str
    kind: str
    size: float
    law: str
    covered: tuple[float, ...]
    """Share of contests in which the true law is within reach, by rule."""

    laws: tuple[float, ...]
    """How many are, on average, by rule."""

    first: float
    """Share in which no law comes before the true one."""


@dataclass(frozen=True, slots=True)
class Pick:
    """How often the true law, c/(n_in+n_out), leaves the least sum of squares over the layers."""

    network: str
    size: float
    share: float


Cell = Coverage | VerdictRates | Methods | Reached | Pick


@dataclass(frozen=True, slots=True)
class Results:
    """All that the document shows."""

    share: float
    """Of the simulations above that were made."""

    coverages: tuple[Coverage, ...]
    verdicts: tuple[VerdictRates, ...]
    methods: tuple[Methods, ...]
    reached: tuple[Reached, ...]
    picks: tuple[Pick, ...]

    def simulations(self, whole: int) -> int:
        """How many of so many were made."""
        return part(whole, self.share)


def part(whole: int, share: float) -> int:
    """A share of so many simulations, ten at least."""
    return max(10, round(share * whole))


def make_results(share: float, cells: list[Cell]) -> Results:
    """The cells by kind, in the order in which they come."""
    return Results(
        share,
        tuple(cell for cell in cells if isinstance(cell, Coverage)),
        tuple(cell for cell in cells if isinstance(cell, VerdictRates)),
        tuple(cell for cell in cells if isinstance(cell, Methods)),
        tuple(cell for cell in cells if isinstance(cell, Reached)),
        tuple(cell for cell in cells if isinstance(cell, Pick)),
    )
