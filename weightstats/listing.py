"""What each tensor of a checkpoint was taken for, and why; its dict form is the JSON schema `weightstats/layers/1`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.layers import Layer, Other
from weightstats.network import Beside, Network
from weightstats.report import plain
from weightstats.version import VERSION

SCHEMA = "weightstats/layers/1"


@dataclass(frozen=True, slots=True)
class ListedLayer:
    """A layer: a stored tensor, or one of the maps that are fused in it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    """Of the map."""

    dtype: str
    n_in: int
    n_out: int
    fans_from: str
    because: str
    """How the kind and the fans were decided."""

    part_of: str | None
    """The stored tensor that this layer is a part of."""

    stored_shape: tuple[int, ...]
    stored_dtype: str
    left_out_because: str | None
    """Why the fit leaves the layer out; None where nothing but its numbers could speak against it."""

    scale_free_because: str | None
    """Why its scale does not change what the network computes; None where it does."""

    merged_because: str | None
    """The low-rank adapter that belongs to it, and its factor."""

    worked_out_because: str | None
    """How the weight comes from what is stored (a direction and magnitudes, codes); None where it is stored itself."""

    tied_to: tuple[str, ...]

    @property
    def stored_name(self) -> str:
        """Of the tensor in the file."""
        return self.part_of or self.name


@dataclass(frozen=True, slots=True)
class ListedOther:
    """A tensor that is not a layer."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    because: str


@dataclass(frozen=True, slots=True)
class Listing:
    """All that `weightstats layers` says of a checkpoint, in the order of the network."""

    version: str
    """Of weightstats."""

    location: str
    format: str
    bytes: int
    root: str
    """The key under which the network lies, '' where it is the whole checkpoint."""

    root_because: str
    dropped_from_names: tuple[str, ...]
    warnings: tuple[str, ...]
    damage: str | None
    layers: tuple[ListedLayer, ...]
    others: tuple[ListedOther, ...]
    unread: tuple[Unread, ...]

    @property
    def tensors_with_layers(self) -> int:
        """Stored tensors that hold a layer or several."""
        return len({layer.stored_name for layer in self.layers})

    @property
    def tensors(self) -> int:
        """All that the checkpoint stores: those with layers, the others and the unread ones."""
        return self.tensors_with_layers + len(self.others) + len(self.unread)

    def to_dict(self) -> dict[str, Any]:
        """The listing as plain dicts, lists and numbers for JSON."""
        counts = {
            "tensors": self.tensors,
            "with_layers": self.tensors_with_layers,
            "layers": len(self.layers),
            "others": len(self.others),
            "unread": len(self.unread),
        }
        return {"schema": SCHEMA, **plain(self), "counts": counts}

    def __str__(self) -> str:
        from weightstats.renderers import layers_text

        return layers_text.as_terminal(self, width=100)


def make_listing(checkpoint: Checkpoint, network: Network, items: Sequence[Layer | Other]) -> Listing:
    """The listing of what was found."""
    others: list[Other | Beside] = [item for item in items if isinstance(item, Other)]
    return Listing(
        version=VERSION,
        location=checkpoint.location,
        format=checkpoint.format,
        bytes=checkpoint.bytes,
        root=network.root,
        root_because=network.because,
        dropped_from_names=network.dropped,
        warnings=checkpoint.warnings,
        damage=checkpoint.damage,
        layers=tuple(_layer(item) for item in items if isinstance(item, Layer)),
        others=tuple(_other(other) for other in (*others, *network.beside)),
        unread=checkpoint.unread,
    )


def _layer(layer: Layer) -> ListedLayer:
    stored = layer.stored or layer.tensor
    return ListedLayer(
        name=layer.name,
        kind=layer.kind,
        shape=layer.tensor.shape,
        dtype=layer.tensor.dtype.name,
        n_in=layer.n_in,
        n_out=layer.n_out,
        fans_from=layer.fans_from,
        because=layer.because,
        part_of=layer.part_of,
        stored_shape=stored.shape,
        stored_dtype=stored.dtype.name,
        left_out_because=layer.left_out_because,
        scale_free_because=layer.scale_free or None,
        merged_because=layer.merged_because or None,
        worked_out_because=layer.worked_out or None,
        tied_to=layer.tied_to,
    )


def _other(other: Other | Beside) -> ListedOther:
    stored = other.tensor if isinstance(other, Beside) else other.stored or other.tensor
    return ListedOther(other.name, other.kind, stored.shape, stored.dtype.name, other.reason)
