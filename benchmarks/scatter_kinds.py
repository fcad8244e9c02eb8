"""How layers scatter about a law in `calibration.py`: kinds of scatter, each drawn for many checkpoints at once."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from simulated_networks import SimulatedNetwork

Floats = NDArray[np.float64]

WILD = 100.0
"""The factor that the wild layer is off by, up or down."""


@dataclass(frozen=True, slots=True)
class ScatterKind:
    """A way for layers to scatter, with a variance of ln m of 1 for each layer, but for the wild one."""

    key: str
    words: str
    follows: str = ""
    """`shape` or `role`, where the layers of one share an offset."""

    share: float = 0.0
    """Of the variance that is shared."""

    degrees: float = math.inf
    """Of freedom of Student's t: infinite for a normal distribution."""

    wild: bool = False
    """Whether one layer of each checkpoint, any, is off by a factor of WILD."""


KINDS: tuple[ScatterKind, ...] = (
    ScatterKind("independent", "each layer on its own, normal"),
    ScatterKind("heavy tails", "each layer on its own, Student's t with 3 degrees of freedom", degrees=3.0),
    ScatterKind("shape 0.5", "layers of one shape share half of the variance", "shape", 0.5),
    ScatterKind("shape 0.9", "layers of one shape share nine tenths of it", "shape", 0.9),
    ScatterKind("role 0.2", "layers of one role share a fifth of the variance", "role", 0.2),
    ScatterKind("role 0.5", "layers of one role share half of it", "role", 0.5),
    ScatterKind("role 0.9", "layers of one role share nine tenths of it", "role", 0.9),
    ScatterKind("wild layer", f"each layer on its own, one of them off by a factor of {WILD:g}", wild=True),
)


def members(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """The number of each key, in the order in which they first come."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def scatter(
    network: SimulatedNetwork, kind: ScatterKind, size: float, simulations: int, random: np.random.Generator
) -> Floats:
    """What ln m is off the law by, (layers, simulations); `size` is its standard deviation in one layer."""
    layers = network.layers
    many = (len(layers), simulations)
    if math.isinf(kind.degrees):
        own = random.standard_normal(many)
    else:
        own = random.standard_t(kind.degrees, many) / math.sqrt(kind.degrees / (kind.degrees - 2.0))
    if kind.follows:
        keys = [layer.role if kind.follows == "role" else layer.shape for layer in layers]
        group = members(keys)
        shared = random.standard_normal((int(group.max()) + 1, simulations))
        own = math.sqrt(1.0 - kind.share) * own + math.sqrt(kind.share) * shared[group]
    drawn: Floats = size * own
    if kind.wild:
        which = random.integers(len(layers), size=simulations)
        drawn[which, np.arange(simulations)] += random.choice((-1.0, 1.0), simulations) * math.log(WILD)
    return drawn


def applies(network: SimulatedNetwork, kind: ScatterKind) -> bool:
    """Whether such scatter differs from independent layers, but for a common factor, which is c's."""
    return kind.follows != "role" or network.roles > 1
