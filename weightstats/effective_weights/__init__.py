"""The weights that a network computes with, where a file keeps each in several tensors; one module for each way."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Protocol, cast

from weightstats.network import MOST_NAME, Named, Network
from weightstats.tensors import Tensor, Use

PACKED = "packed integers"
"""Kind of a tensor that holds quantised weights which are not decoded."""


@dataclass(frozen=True, slots=True)
class Combined:
    """One weight that is made of several stored tensors."""

    carrier: str
    """The stored tensor under whose name the weight is reported: the codes, the direction, the base of an adapter."""

    companions: Mapping[str, Use]
    """What else it is made of, by name: what each of these tensors is (a `Use` without axes, kind and reason)."""

    tensor: Tensor | None = None
    """The effective weight, decoded as it is read; None where the carrier is measured as it is stored."""

    known_as: str = ""
    """The name that tells what the weight is, where that is not the carrier's: `conv.weight` for `conv.weight_v`."""

    because: str = ""
    """How the weight comes from what is stored, for the report."""

    scale_free: str = ""
    """Why the scale of what is stored does not change what the network computes, where that is so."""

    merged: Tensor | None = None
    merged_because: str = ""
    """The carrier with its low-rank adapter added, and which one with which factor."""

    unresolved: str = ""
    """Why it cannot be worked out: the carrier is then listed as packed integers, or measured as it is stored."""

    others: Mapping[str, Use] = field(default_factory=dict)
    """Uses for further tensors that are not part of the weight (a layer's `Use` is allowed here: adapters' factors)."""

    @property
    def only_adds(self) -> bool:
        """Whether it is an adapter: what is measured stays what it was, and another scheme may have made that."""
        return bool(self.others) and self.tensor is None and not self.unresolved


class Scheme(Protocol):
    """What each module of this folder offers."""

    def combined(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Sequence[Combined]:
        """The weights of the network that are kept in this way; `config` is `Checkpoint.config`."""
        ...


CODES = ("bitsandbytes", "gptq", "awq", "mxfp4", "packed_integers", "packed_floats", "scaled", "other_schemes")
"""Modules for quantised weights, asked where some tensor may hold codes."""

PARTS: dict[str, re.Pattern[str]] = {
    "weight_norm": re.compile(r"_v$|\.original1$"),
    "spectral_norm": re.compile(r"_orig$|_bar$|\.original$"),
    "parametrized": re.compile(r"\.original$"),
    "low_rank": re.compile(r"lora|hada_|lokr_|base_layer"),
}
"""Modules for weights that are kept in parts, each asked where some tensor's name has what its pattern finds."""


def effective(network: Network) -> Network:
    """The network with its effective weights in place of what is stored for them.

    What one scheme has taken is left alone by the next.
    """
    tensors = {named.name: named for named in network.tensors}
    taken = {named.name for named in network.tensors if named.stored is not None}  # a live module has told
    made: dict[object, Tensor] = {}
    for name in _asked(network):
        scheme = cast("Scheme", import_module(f"weightstats.effective_weights.{name}"))
        for combined in scheme.combined({name: named.tensor for name, named in tensors.items()}, network.config):
            involved = set(combined.companions) if combined.only_adds else {combined.carrier, *combined.companions}
            if taken.isdisjoint(involved):
                taken |= involved
                _put(tensors, _as_before(combined, name, tensors, made))
    return replace(network, tensors=tuple(tensors[named.name] for named in network.tensors))


def _as_before(combined: Combined, scheme: str, tensors: Mapping[str, Named], made: dict[object, Tensor]) -> Combined:
    """The weight with the tensor that the same stored elements have given under other names: it is stored once."""
    if combined.tensor is None:
        return combined
    carrier, tensor = tensors[combined.carrier].tensor, combined.tensor
    beside = [(use.because, tensors[name].tensor) for name, use in combined.companions.items()]
    parts = tuple((role, part.view, part.shape) for role, part in beside)  # in another shape, or place, it is another
    leaf = combined.carrier.rpartition(".")[2]  # `weight_orig` and `weight_bar` are made in other ways
    key = scheme, leaf, tensor.dtype.name, tensor.shape, carrier.view, carrier.shape, parts
    return replace(combined, tensor=replace(made.setdefault(key, tensor), path=tensor.path, use=tensor.use))


def _asked(network: Network) -> tuple[str, ...]:
    """The modules that may find something; the others are not imported."""
    codes = CODES if any(_may_be_codes(named.tensor) for named in network.tensors) else ()
    names = [named.name[-MOST_NAME:] for named in network.tensors]
    return (*codes, *(scheme for scheme, part in PARTS.items() if any(map(part.search, names))))


def _may_be_codes(tensor: Tensor) -> bool:
    return (tensor.dtype.kind == "integer" and len(tensor.shape) > 1) or tensor.dtype.name.startswith("F8")


def _put(tensors: dict[str, Named], combined: Combined) -> None:
    carrier = tensors[combined.carrier]
    if combined.unresolved:
        use = Use(PACKED, "", combined.unresolved)
        tensors[carrier.name] = replace(carrier, tensor=replace(carrier.tensor, use=use))
    else:
        tensors[carrier.name] = replace(
            carrier,
            tensor=combined.tensor or carrier.tensor,
            stored=carrier.tensor if combined.tensor is not None else carrier.stored,
            known_as=combined.known_as or carrier.known_as,
            because="; ".join(filter(None, (carrier.because, combined.because))),
            worked_out=carrier.worked_out if combined.only_adds else combined.because or carrier.worked_out,
            scale_free=combined.scale_free or carrier.scale_free,
            merged=combined.merged or carrier.merged,
            merged_because=combined.merged_because or carrier.merged_because,
        )
    for name, use in {**combined.companions, **combined.others}.items():
        tensors[name] = replace(tensors[name], tensor=replace(tensors[name].tensor, use=use))
