"""The pipeline, in the order in which it runs: location to report."""

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from weightstats.budget import beyond_budget
from weightstats.checkpoint import Checkpoint
from weightstats.effective_weights import effective
from weightstats.errors import CheckpointError, UsageError
from weightstats.laws import prepare
from weightstats.layers import Layer, Other, classify, layers_of
from weightstats.limits import changed_limits, limit_names
from weightstats.moments import Moments, measure
from weightstats.network import find_network
from weightstats.penalties import DEFAULT_WEIGHT_DECAY
from weightstats.readers import open_checkpoint
from weightstats.report import Report, make_report

NOT_SELECTED = "left out by --include or --exclude"


def inspect(
    location: str,
    *,
    weight_decay: float = DEFAULT_WEIGHT_DECAY,
    root: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    as_stored: bool = False,
    limits: Mapping[str, int] = MappingProxyType({}),
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Read the checkpoint at `location` (a file, a shard index or a folder) and report on its layers.

    `root` names the part of the file that is the network, where the choice made without it is wrong. With `include`,
    only layers whose name matches one of the patterns (shell style, `*` and `?`) are reported; `exclude` leaves out
    those that match. A weight that holds several maps (q, k and v; the gates of an LSTM; a stack of experts) is one
    layer a map, unless `as_stored`. `limits` changes some of those in `weightstats.limits`, by name. `progress` is called with the
    bytes read so far and the bytes to read.

    Raises CheckpointError where the location cannot be read at all, and UsageError for a root that is not there, for
    a limit that is not in the table and for a negative weight decay. A tensor that cannot be read is in the report's
    `unread`, and harms no other.
    """
    if not (math.isfinite(weight_decay) and weight_decay >= 0.0):
        raise UsageError(f"the weight decay must be 0 or more, not {weight_decay}")
    unknown = [name for name in limits if name not in limit_names()]
    if unknown:
        raise UsageError(f"there is no limit {unknown[0]!r}; there are {', '.join(limit_names())}")
    with changed_limits(limits):
        return _inspected(str(location), weight_decay, root, (include, exclude), as_stored, workers, progress)


def _inspected(
    location: str,
    weight_decay: float,
    root: str | None,
    patterns: tuple[Sequence[str], Sequence[str]],
    as_stored: bool,
    workers: int | None,
    progress: Callable[[int, int], None],
) -> Report:
    include, exclude = patterns
    checkpoint = open_checkpoint(location)
    if not checkpoint.tensors and (checkpoint.damage or not checkpoint.unread):
        raise CheckpointError(checkpoint.location, checkpoint.damage or _nothing_to_measure(checkpoint))
    network = effective(find_network(checkpoint, root))
    found = classify(network, as_stored=as_stored)
    items = [_selected(item, include, exclude) for item in found]
    if (include or exclude) and layers_of(found) and not layers_of(items):
        raise UsageError(f"none of the {len(layers_of(found)):,} layers is left by --include and --exclude")
    measured, merged = _measured(items, checkpoint.bytes, workers, progress)
    return make_report(checkpoint, network, items, measured, merged, weight_decay)


def _nothing_to_measure(checkpoint: Checkpoint) -> str:
    """What a file without tensors is, and what to do."""
    objects = ", ".join(checkpoint.objects_not_loaded[:3])
    holds = f" but objects ({objects})" if objects else ""
    return (
        f"is a {checkpoint.format} file that holds no tensors{holds}: not a network's weights; look for them beside it"
    )


def _selected(item: Layer | Other, include: Sequence[str], exclude: Sequence[str]) -> Layer | Other:
    """A layer that the patterns leave out becomes one of the others, so that it is still accounted for."""
    if not isinstance(item, Layer):
        return item
    wanted = not include or any(fnmatch.fnmatchcase(item.name, pattern) for pattern in include)
    if wanted and not any(fnmatch.fnmatchcase(item.name, pattern) for pattern in exclude):
        return item
    return Other(item.name, "not selected", item.tensor, NOT_SELECTED)


def _measured(
    items: Sequence[Layer | Other], stored_bytes: int, workers: int | None, progress: Callable[[int, int], None]
) -> tuple[dict[str, Moments | str], dict[str, Moments | str]]:
    """Moments of every floating-point tensor of the network, or why its bytes could not be read; and those of weights
    with their adapters added."""
    own = [(item.name, item.tensor) for item in items if isinstance(item, Layer) or _is_worth_reading(item)]
    merged = [(item.name, item.merged) for item in items if isinstance(item, Layer) and item.merged is not None]
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


def _is_worth_reading(other: Other) -> bool:
    """Whether it could hold a NaN that the network computes with."""
    return other.tensor.dtype.kind in ("float", "complex") and other.kind not in ("tied", "not selected", "empty")
