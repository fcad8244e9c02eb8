"""What a reader finds in a checkpoint: every tensor, every one that could not be read, and what else was there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from weightstats.tensors import Tensor

COUNTERS = (
    "global_step",  # PyTorch Lightning, transformers
    "global_steps",  # DeepSpeed
    "step",
    "steps",
    "num_updates",  # fairseq
    "iteration",  # Megatron-LM
    "iter",
    "epoch",  # the PyTorch tutorials' "Saving and loading a general checkpoint"
)
"""Keys under which training code keeps how far it was, the finer counts first."""

MOST_DIGITS = 18
"""Of a counter that is written as text."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A tensor that is in the checkpoint and could not be read."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The content of a checkpoint, before anything is decided about it."""

    location: str
    format: str
    bytes: int
    """Size of the files that it lies in."""

    tensors: tuple[Tensor, ...]
    """In the order in which the file holds them, or by name where that order is not the network's."""

    unread: tuple[Unread, ...] = ()
    objects_not_loaded: tuple[str, ...] = ()
    """Classes and functions that a pickle names; none is imported, and what they would have made is left out."""

    warnings: tuple[str, ...] = ()

    damage: str | None = None
    """What is wrong with the file as a whole, where some of its tensors can be read all the same."""

    config: Mapping[str, Any] = field(default_factory=dict)
    """The configurations that lie beside the weights or in them, as parsed JSON, by the names of their files
    (`config.json`, `adapter_config.json`, ...). Nothing in them has been checked."""

    counters: Mapping[str, int] = field(default_factory=dict)
    """How far the training was, where that is kept beside the network: some of COUNTERS, by their keys."""


def counters_in(pairs: Iterable[tuple[object, object]]) -> dict[str, int]:
    """Those of COUNTERS that are among some keys with their values; anything but a count is left out."""
    found = {}
    for key, value in pairs:
        if isinstance(key, str) and key in COUNTERS and (count := _count(value)) is not None:
            found[key] = count
    return found


def _count(value: object) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdecimal() and len(value) <= MOST_DIGITS else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**MOST_DIGITS
    return value if is_count and isinstance(value, int) else None
