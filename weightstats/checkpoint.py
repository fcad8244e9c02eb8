"""What a reader finds in a checkpoint: every tensor, every one that could not be read, and what else was there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weightstats.tensors import Tensor


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
