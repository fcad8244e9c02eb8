"""What a file's names and shapes tell, beside what the modules' classes say: the dumps of architectures.py."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weightstats.checkpoint import Checkpoint
from weightstats.effective_weights import effective
from weightstats.layers import Layer, Other, classify
from weightstats.network import find_network
from weightstats.order import natural_key
from weightstats.tensors import Storage, Tensor, make_tensor

NOT_LAYERS = ("bias", "norm", "buffer", "not a layer")
"""The truth's words for what has no fans."""

ORDERS = ("state dict", "natural")
"""In which a file may hold the tensors: as torch writes them; by name, as safetensors' writers do, which the reader
turns into the names' natural order."""

WIDTHS = {"F64": 8, "I64": 8, "C64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}


@dataclass(frozen=True, slots=True)
class Difference:
    """One tensor for which the file tells something else than the module."""

    library: str
    architecture: str
    order: str
    name: str
    shape: tuple[int, ...]
    owner: str
    what: str
    truth: str
    told: str
    because: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One network in one order."""

    library: str
    architecture: str
    order: str
    layers: int
    """Tensors that are layers by their module's class."""

    others: int
    """Tensors that are something else by their module's class."""

    differences: tuple[Difference, ...]
    unknown: tuple[tuple[str, str, tuple[int, ...], str], ...]
    """Owner, name, shape and what the file tells, where the module's class is not known."""


class NoBytes:
    """A source that is never read: only names and shapes are asked for."""

    location = "names and shapes"
    sequential = False

    def reader(self) -> "NoBytes":
        """Itself."""
        return self

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Zeros."""
        buffer[:] = bytes(len(buffer))

    def will_need(self, offset: int, length: int) -> None:
        """Nothing to do."""


def dumps(folder: Path, library: str = "", only: str = "") -> Iterator[dict[str, Any]]:
    """The dumped networks, by library and name."""
    for path in sorted(folder.glob("*/*.json")):
        if (not library or path.parent.name == library) and (not only or re.fullmatch(only, path.stem)):
            yield json.loads(path.read_text())


def compared(network: Mapping[str, Any], order: str, *, config: bool = True) -> Compared:
    """What a file of this network would tell, beside what its modules say."""
    truths = {truth["name"]: truth for truth in network["tensors"]}
    items = told(network, order, config=config)
    differences: list[Difference] = []
    unknown = []
    layers = others = 0
    for item in items:
        truth = truths[item.name]
        words = _words(item)
        if truth["kind"] == "unknown":
            unknown.append((truth["owner"], item.name, tuple(truth["shape"]), words))
            continue
        if isinstance(item, Other) and item.kind == "tied":
            continue
        is_layer = truth["kind"] not in NOT_LAYERS
        layers, others = layers + is_layer, others + (not is_layer)
        what = _difference(truth, item)
        if what:
            differences.append(
                Difference(
                    library=network["library"],
                    architecture=network["name"],
                    order=order,
                    name=item.name,
                    shape=tuple(truth["shape"]),
                    owner=truth["owner"],
                    what=what,
                    truth=f"{truth['kind']} {truth['n_in']}→{truth['n_out']}" if is_layer else truth["kind"],
                    told=words,
                    because=item.because if isinstance(item, Layer) else item.reason,
                )
            )
    return Compared(network["library"], network["name"], order, layers, others, tuple(differences), tuple(unknown))


def told(network: Mapping[str, Any], order: str, *, config: bool = True) -> tuple[Layer | Other, ...]:
    """What weightstats makes of names and shapes."""
    tensors = _tensors(network["tensors"], ties=order == "state dict")
    if order == "natural":
        tensors.sort(key=lambda tensor: natural_key(tensor.name))
    checkpoint = Checkpoint(
        location=network["name"],
        format="names and shapes",
        bytes=sum(tensor.stored_bytes for tensor in tensors),
        tensors=tuple(tensors),
        config={"config.json": network["config"]} if config and network["config"] else {},
    )
    return classify(effective(find_network(checkpoint, root="")), as_stored=True)


def _tensors(truths: Iterable[Mapping[str, Any]], *, ties: bool) -> list[Tensor]:
    """The tensors side by side; with `ties`, a tied one lies where the other does, else it is left out."""
    truths = list(truths)
    size = sum((math.prod(truth["shape"]) * WIDTHS.get(truth["dtype"], 1) + 15) // 8 * 8 for truth in truths)
    source = NoBytes()
    start = 0
    made: dict[str, Tensor] = {}
    for truth in truths:
        if truth["tie"] is not None and not ties:
            continue
        length = math.prod(truth["shape"]) * WIDTHS.get(truth["dtype"], 1)
        place = Storage(source, start, length) if truth["tie"] is None else made[truth["tie"]].storage
        made[truth["name"]] = make_tensor((truth["name"],), tuple(truth["shape"]), truth["dtype"], place)
        start += (length + 7) // 8 * 8
    assert start <= size  # noqa: S101
    return list(made.values())


def _difference(truth: Mapping[str, Any], item: Layer | Other) -> str:
    """In a few words; '' where they agree."""
    if truth["kind"] in NOT_LAYERS:
        table = isinstance(item, Layer) and item.kind == "embedding" and truth["kind"] in ("buffer", "not a layer")
        return "" if isinstance(item, Other) or table else "taken for a layer"  # a table of vectors that is looked up
    if isinstance(item, Other):
        return "not taken for a layer"
    if item.kind != truth["kind"]:
        return f"{truth['kind']} taken for {item.kind}"
    if (item.n_in, item.n_out) == (truth["n_in"], truth["n_out"]):
        return ""
    return (
        "n_in and n_out swapped" if (item.n_out, item.n_in) == (truth["n_in"], truth["n_out"]) else "other n_in, n_out"
    )


def _words(item: Layer | Other) -> str:
    if isinstance(item, Other):
        return item.kind
    fused = len(item.tensor.use.parts) if item.tensor.use is not None else 0
    left_out = ", left out" if item.left_out_because and item.kind != "embedding" else ""
    return f"{item.kind} {item.n_in}→{item.n_out}{f', {fused} parts' if fused else ''}{left_out}"
