"""The pipeline, in the order in which it runs: location to report."""

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from weightstats.budget import beyond_budget
from weightstats.checkpoint import Checkpoint
from weightstats.effective_weights import effective
from weightstats.errors import CheckpointError, UsageError, with_article
from weightstats.estimates import prepare
from weightstats.laws import DEFAULT_LAW, Law, law_of
from weightstats.layers import Layer, Other, classify, layers_of
from weightstats.limits import changed_limits, limit_names
from weightstats.moments import Moments, measure
from weightstats.network import Network, find_network
from weightstats.penalties import DEFAULT_WEIGHT_DECAY
from weightstats.readers import open_checkpoint
from weightstats.report import Report, make_report
from weightstats.rules import Rules, RulesGiven, is_selected, rules_from
from weightstats.schemas.dangerous_names import danger
from weightstats.tensors import Tensor

if TYPE_CHECKING:
    import torch

    from weightstats.listing import Listing

Location: TypeAlias = "str | os.PathLike[str] | torch.nn.Module"
"""Where the weights are: a path, or a module that lives in this process."""

NOT_SELECTED = "left out by --include or --exclude"


def inspect(
    location: Location,
    *,
    weight_decay: float = DEFAULT_WEIGHT_DECAY,
    law: str = DEFAULT_LAW,
    root: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    as_stored: bool = False,
    rules: RulesGiven = None,
    limits: Mapping[str, int] = MappingProxyType({}),
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Read the checkpoint at `location` (a file, a shard index or a folder) and report on its layers.

    `location` may be a torch.nn.Module as well: it is measured as it is now, in place and in this thread, and is left
    as it is; its classes tell what its parameters are for. Its weights as its parametrizations, weight and spectral
    normalisations make them are what is measured.

    `law` is the key of the law under test, one of `laws.LAWS`: by default "fan-sum", c/(n_in+n_out).

    `root` names the part of the file that is the network, where the choice made without it is wrong. With `include`,
    only layers whose name matches one of the patterns (shell style, `*` and `?`; a part of a fused weight by its own
    name or by that of the whole) are reported; `exclude` leaves out those that match. A weight that holds several maps
    (q, k and v; the gates of an LSTM; a stack of experts) is one layer a map, `NAME[part]`, unless `as_stored`. `rules`
    is a TOML file, or its tables as mappings, that says what tensors are, over all that is found: see
    `weightstats.rules`. `limits` changes some of those in `weightstats.limits`, by name. `progress` is called with the
    bytes read so far and the bytes to read.

    Raises CheckpointError where the location cannot be read at all, and UsageError for a root that is not there, for
    a limit or a law that is not in its table, for a negative weight decay and for rules that cannot be read or do not
    fit. A tensor that cannot be read is in the report's `unread`, and harms no other.
    """
    if not (math.isfinite(weight_decay) and weight_decay >= 0.0):
        raise UsageError(f"the weight decay must be 0 or more, not {weight_decay}")
    with limited(limits):
        how = (as_stored, rules_from(rules))
        return _inspected(location, (weight_decay, law_of(law)), root, (include, exclude), how, workers, progress)


def list_layers(
    location: Location,
    *,
    root: str | None = None,
    as_stored: bool = False,
    rules: RulesGiven = None,
    limits: Mapping[str, int] = MappingProxyType({}),
) -> "Listing":
    """What each tensor of the checkpoint at `location` is taken for, and why; no weight is read.

    The arguments and the errors are those of `inspect`.
    """
    from weightstats.listing import make_listing  # not at the top: a report does without

    with limited(limits):
        return make_listing(*_opened(location, root, as_stored, rules_from(rules)))


def limited(limits: Mapping[str, int]) -> AbstractContextManager[None]:
    """The limits changed within a `with`; UsageError for a name that is not in the table."""
    unknown = [name for name in limits if name not in limit_names()]
    if unknown:
        raise UsageError(f"there is no limit {unknown[0]!r}; there are {', '.join(limit_names())}")
    return changed_limits(limits)


def _inspected(
    location: Location,
    tried: tuple[float, Law],
    root: str | None,
    patterns: tuple[Sequence[str], Sequence[str]],
    how: tuple[bool, Rules],
    workers: int | None,
    progress: Callable[[int, int], None],
) -> Report:
    return report_on(opened(location, root, patterns, how), tried, workers, progress)


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint before its weights are read. Made by `opened`."""

    checkpoint: Checkpoint
    network: Network
    items: tuple[Layer | Other, ...]
    """What each tensor of the network was taken for."""

    is_live: bool
    """Whether it is a module: torch has threads of its own, and devices that a forked process cannot use."""

    @property
    def bytes_to_read(self) -> int:
        """For the report on it."""
        return sum(tensor.stored_bytes for _, tensor in (*_own(self.items), *_merged(self.items)))


def opened(
    location: Location,
    root: str | None,
    patterns: tuple[Sequence[str], Sequence[str]],
    how: tuple[bool, Rules],
) -> Opened:
    """The checkpoint at a location; `patterns` are what to include and to exclude, `how` is (as_stored, rules)."""
    include, exclude = patterns
    checkpoint, network, found = _opened(location, root, *how)
    items = tuple(_selected(item, include, exclude) for item in found)
    if (include or exclude) and layers_of(found) and not layers_of(items):
        count = len(layers_of(found))
        which = "the one layer is not" if count == 1 else f"none of the {count:,} layers is"
        raise UsageError(f"{which} left by --include and --exclude")
    return Opened(checkpoint, network, items, _as_module(location) is not None)


def report_on(
    found: Opened,
    tried: tuple[float, Law],
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Read the weights and report on them; `tried` is (weight decay, law)."""
    measured, merged = _measured(found.items, found.checkpoint.bytes, 1 if found.is_live else workers, progress)
    return make_report(found.checkpoint, found.network, found.items, measured, merged, *tried)


def _opened(
    location: Location, root: str | None, as_stored: bool, rules: Rules
) -> tuple[Checkpoint, Network, tuple[Layer | Other, ...]]:
    """What is known of a checkpoint before its weights are read."""
    checkpoint, network = _network_at(location, root)
    items = classify(network, as_stored=as_stored, rules=rules)
    second_names = {name: first for layer in layers_of(items) for name, first in _tied_names(layer)}
    idle = rules.without_effect([named.name for named in network.tensors], second_names)
    idle += _idle_on_others(rules, items)
    return replace(checkpoint, warnings=(*checkpoint.warnings, *idle)), network, items


def _idle_on_others(rules: Rules, items: Sequence[Layer | Other]) -> list[str]:
    """A sentence for each rule that would say something of layers and meets none."""
    met: dict[str, str] = {}
    for item in items:
        rule = rules.rule_for(item.part_of or item.name) if item.kind != "tied" else None
        if rule is not None and (isinstance(item, Layer) or rule.ignore or rule.kind is not None):
            met[rule.label] = ""
        elif rule is not None:
            met.setdefault(
                rule.label, f"{rule.because} decides nothing: {item.name} is no layer ({item.kind}), and the"
            )
    return [f"{sentence} rule gives no kind" for sentence in met.values() if sentence]


def _network_at(location: Location, root: str | None) -> tuple[Checkpoint, Network]:
    """The checkpoint, and the network in it with its effective weights."""
    module = _as_module(location)
    if module is not None:
        from weightstats.effective_weights.live_modules import worked_out
        from weightstats.modules import read_module

        live = read_module(module)
        return live.checkpoint, effective(worked_out(find_network(live.checkpoint, root), live.effective))
    checkpoint = open_checkpoint(str(location))
    if not checkpoint.tensors and (checkpoint.damage or not checkpoint.unread):
        raise CheckpointError(checkpoint.location, checkpoint.damage or _nothing_to_measure(checkpoint))
    return checkpoint, effective(find_network(checkpoint, root))


def _as_module(location: Location) -> "torch.nn.Module | None":
    """The location if it is a module; torch, which takes a second to import, has been imported if there is one."""
    torch = sys.modules.get("torch")
    return location if torch is not None and isinstance(location, torch.nn.Module) else None


def _tied_names(layer: Layer) -> list[tuple[str, str]]:
    """The other names of a layer's stored tensor, each with the name under which it is counted."""
    stored = layer.part_of or layer.name
    return [(name.removesuffix(layer.name.removeprefix(stored)), stored) for name in layer.tied_to]


def _nothing_to_measure(checkpoint: Checkpoint) -> str:
    """What a file without tensors is, and what to do."""
    objects = ", ".join(checkpoint.objects_not_loaded[:3])
    holds = f" but objects ({objects})" if objects else ""
    warned = danger(checkpoint.objects_not_loaded)
    return (
        f"is {with_article(checkpoint.format)} file that holds no tensors{holds}: not a network's weights; "
        f"{f'it {warned}' if warned else 'look for them beside it'}"
    )


def _selected(item: Layer | Other, include: Sequence[str], exclude: Sequence[str]) -> Layer | Other:
    """A layer that the patterns leave out becomes one of the others, so that it is still accounted for."""
    if not isinstance(item, Layer):
        return item
    names = {item.name, item.part_of or item.name}
    if is_selected(names, include, exclude):
        return item
    return Other(item.name, "not selected", item.tensor, NOT_SELECTED, item.stored, item.part_of)


def _measured(
    items: Sequence[Layer | Other], stored_bytes: int, workers: int | None, progress: Callable[[int, int], None]
) -> tuple[dict[str, Moments | str], dict[str, Moments | str]]:
    """Moments of every floating-point tensor of the network, or why its bytes could not be read; and those of weights
    with their adapters added."""
    own, merged = _own(items), _merged(items)
    wanted = [tensor for _, tensor in (*own, *merged)]
    total = sum(tensor.stored_bytes for tensor in wanted)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        if done == 0:
            prepare()
        done += count
        progress(done, total)

    progress(0, total)
    results: dict[int, Moments | str] = dict(beyond_budget(wanted, stored_bytes))
    read = [index for index in range(len(wanted)) if index not in results]
    moments = measure([wanted[index] for index in read], workers=workers, progress=advance)
    results |= dict(zip(read, moments, strict=True))
    return (
        {name: results[index] for index, (name, _) in enumerate(own)},
        {name: results[index] for index, (name, _) in enumerate(merged, len(own))},
    )


def _own(items: Sequence[Layer | Other]) -> list[tuple[str, Tensor]]:
    """What is measured, by name."""
    return [(item.name, item.tensor) for item in items if isinstance(item, Layer) or _is_worth_reading(item)]


def _merged(items: Sequence[Layer | Other]) -> list[tuple[str, Tensor]]:
    """Weights with their adapters added, by name."""
    return [(item.name, item.merged) for item in items if isinstance(item, Layer) and item.merged is not None]


def _is_worth_reading(other: Other) -> bool:
    """Whether it could hold a NaN that the network computes with."""
    return other.tensor.dtype.kind in ("float", "complex") and other.kind not in ("tied", "not selected", "empty")
