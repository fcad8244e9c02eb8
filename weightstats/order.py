"""The order in which a network's tensors are shown."""

import re
from collections.abc import Sequence

from weightstats.tensors import Tensor

_NUMBERS = re.compile(r"(\d+)")


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key by which `layers.2` comes before `layers.10`."""
    parts = _NUMBERS.split(name)
    return tuple((0, int(part)) if part.isdecimal() and len(part) < 19 else (1, part) for part in parts if part)


def in_network_order(parts: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """The tensors of safetensors files as they were given, unless that is how a writer sorts them.

    safetensors' own writers sort by dtype and then by name, letter by letter, which puts layer 10 before layer 2; an
    order that is just this says nothing of the network, and is replaced by the names' natural order.
    """
    tensors = [tensor for part in parts for tensor in part]
    if all(_is_sorted_by_name(part) for part in parts):
        tensors.sort(key=lambda tensor: natural_key(tensor.name))
    return tuple(tensors)


def _is_sorted_by_name(tensors: Sequence[Tensor]) -> bool:
    by_dtype: dict[str, list[str]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype.name, []).append(tensor.name)
    return all(names == sorted(names) for names in by_dtype.values())
