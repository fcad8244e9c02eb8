"""Weights that a live module works out from its parameters, as it has worked them out itself."""

from collections.abc import Mapping
from dataclasses import replace

from weightstats.modules import Effective
from weightstats.network import Named, Network


def worked_out(network: Network, effective: Mapping[str, Effective]) -> Network:
    """The network with its effective weights, given by the names of what is stored in their place."""
    return replace(network, tensors=tuple(_with(named, effective.get(named.tensor.name)) for named in network.tensors))


def _with(named: Named, effective: Effective | None) -> Named:
    if effective is None:
        return named
    return replace(
        named,
        tensor=effective.tensor,
        stored=named.tensor,
        known_as=named.name.removesuffix(effective.carrier) + effective.attribute,
        because=effective.because,
        worked_out=effective.because,
        scale_free=effective.scale_free,
    )
