"""What a law is tried against: the fans, the mean square and the role of each fitted layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weightstats.estimates import Clusters, Floats, clusters_of


@dataclass(frozen=True, slots=True)
class Observation:
    """One layer."""

    name: str
    n_in: int
    n_out: int
    mean_square: float
    """Positive and finite."""

    role: str
    """Layers of one role may share an offset: see `roles.role_of`."""

    elements: int = 0
    """N; 0 stands for n_in·n_out, as in a linear layer."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """n_in, n_out and N: layers that have them in common are a cluster, with one mean square by any law."""
        return self.n_in, self.n_out, self.elements or self.n_in * self.n_out


@dataclass(frozen=True, slots=True)
class Observations:
    """The layers as arrays, and as clusters of one shape (n_in, n_out, N). Made by `make_observations`."""

    layers: tuple[Observation, ...]
    n_in: Floats
    n_out: Floats
    elements: Floats
    log_mean_square: Floats
    shapes: Clusters
    """Of the logarithms of the mean squares."""

    @property
    def names(self) -> tuple[tuple[int, int], ...]:
        """(n_in, n_out) of each shape."""
        return tuple((self.layers[first].n_in, self.layers[first].n_out) for first in self.shapes.first)


def make_observations(layers: Sequence[Observation]) -> Observations:
    """The layers, in their order; there may be none."""
    logarithms = np.log(np.array([layer.mean_square for layer in layers], np.float64))
    return Observations(
        tuple(layers),
        np.array([layer.n_in for layer in layers], np.float64),
        np.array([layer.n_out for layer in layers], np.float64),
        np.array([layer.shape[2] for layer in layers], np.float64),
        logarithms,
        clusters_of([layer.shape for layer in layers], logarithms),
    )
