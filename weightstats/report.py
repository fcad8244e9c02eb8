"""The report: everything that was found, as records. Its dict form is the JSON schema `weightstats/report/1`."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.contest import Contest, hold_contest
from weightstats.effective_weights import PACKED
from weightstats.errors import counted
from weightstats.extras import need
from weightstats.findings import contested, rests_on, sentences
from weightstats.fits import Fit, fit_law
from weightstats.initialisation import Initialisation, initialisations
from weightstats.laws import Law
from weightstats.layers import Layer, Other
from weightstats.moments import Moments
from weightstats.network import Beside, Network
from weightstats.observations import Observation, Observations, make_observations
from weightstats.penalties import LayerPenalty, PenalisedLayer, PenaltyName, Split, evenness, split_penalties
from weightstats.roles import FAMILIES, family_of, role_of
from weightstats.schemas.dangerous_names import danger, is_dangerous
from weightstats.untrained import Untrained, untrained
from weightstats.version import VERSION

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]
    import pyarrow  # type: ignore[import-untyped]

SCHEMA = "weightstats/report/1"


@dataclass(frozen=True, slots=True)
class CheckpointPart:
    """What was read."""

    location: str
    format: str
    bytes: int
    """Of the file or files."""

    tensors: int
    """All that the checkpoint stores, read or not."""

    parameters: int
    """Elements of the network's layers, biases, norms and other learned tensors; tied ones once, buffers not."""

    warnings: tuple[str, ...]
    root: str
    """The key under which the network lies, '' where it is the whole checkpoint."""

    root_because: str
    dropped_from_names: tuple[str, ...]
    """Keys and wrappers' attributes that the names in this report lack."""

    objects_not_loaded: tuple[str, ...]
    """Classes and functions that a pickle names; none was imported."""

    damage: str | None
    """What is wrong with the file as a whole, where some of its tensors could be read all the same."""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer. Statistics are over its finite elements; NaN (null in JSON) where there are none."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    n_in: int
    n_out: int
    fans_from: str
    elements: int
    nonfinite: int
    zeros: int
    mean: float
    mean_square: float
    sum_of_squares: float
    max_abs: float
    excess_kurtosis: float
    tied_to: tuple[str, ...]
    fitted: bool
    left_out_because: str | None
    predicted_mean_square: float
    """The fitted law at the layer's fans: c/(n_in+n_out), unless another law is tried."""

    ratio: float
    """Mean square over the predicted one."""

    penalties: Mapping[PenaltyName, LayerPenalty]
    kind_because: str
    """How the kind and the fans were decided."""

    byte_order: Literal["little", "big"]
    part_of: str | None
    """The stored tensor that this layer is a part of."""

    scale_free: bool
    """Whether its scale does not change what the network computes, so that the law has nothing to hold on to."""

    scale_free_because: str | None
    merged_mean_square: float | None
    """Of the weight with its low-rank adapter added, where the file holds both."""

    merged_because: str | None
    """Which adapter, and with which factor."""

    worked_out_because: str | None
    """How the weight comes from what is stored (a direction and magnitudes, codes); None where it is stored itself."""

    family: str
    """Linear, attention, convolution or recurrent: what verdicts by kind are given for; '' for none of them."""

    role: str
    """What its name has in common with those of the same place in other blocks: see `roles.role_of`."""

    initialisation: Initialisation
    """Which initialisers could have left it as it is."""

    @property
    def fan_sum(self) -> int:
        """n_in + n_out."""
        return self.n_in + self.n_out


@dataclass(frozen=True, slots=True)
class OtherRow:
    """A tensor that is not a layer."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    elements: int
    nonfinite: int | None
    """None where it was not read: integers, and what lies outside the network."""

    reason: str


@dataclass(frozen=True, slots=True)
class LargestShare:
    """The layer that carries most of a penalty."""

    name: str | None
    share: float


@dataclass(frozen=True, slots=True)
class PenaltySplit:
    """One penalty over all layers."""

    total: float
    equal_total_weight_decay: float
    """The lambda with which this penalty has the total that the plain one has with the report's; NaN where none."""

    evenness: float
    evenness_fitted: float
    """Over the layers that the fit uses."""

    largest: LargestShare


@dataclass(frozen=True, slots=True)
class Tally:
    """How many tensors of one list, with their elements and stored bytes; what is stored once is counted once."""

    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Accounting:
    """Every stored tensor is in one of the lists, so the first three add up to `stored`. Those of unread tensors count
    no elements and no bytes: what they would be is not known."""

    stored: Tally
    layers: Tally
    others: Tally
    unread: Tally


@dataclass(frozen=True, slots=True)
class Report:
    """All that `weightstats inspect` says of a checkpoint."""

    version: str
    """Of weightstats."""

    checkpoint: CheckpointPart
    layers: tuple[LayerRow, ...]
    others: tuple[OtherRow, ...]
    unread: tuple[Unread, ...]
    fit: Fit
    fit_without_scale_free: Fit | None
    """The same fit without the layers whose scale does not matter; None where the fit uses none of them."""

    fits_by_kind: Mapping[str, Fit]
    """The same fit on the layers of each family; empty where there is but one."""

    contest: Contest
    """How the law's rivals do on the same layers."""

    untrained: Untrained
    """How many of the fitted layers are as initialised."""

    weight_decay: float
    penalties: Mapping[PenaltyName, PenaltySplit]
    accounting: Accounting

    @property
    def is_complete(self) -> bool:
        """Whether every tensor could be read, and every weight decoded."""
        return not self.unread and all(other.kind != PACKED for other in self.others)

    @property
    def findings(self) -> tuple[str, str]:
        """Two sentences that can be quoted: how well the law predicts, and what the free exponent says of it."""
        return sentences(self.fit)

    @property
    def rests_on(self) -> str:
        """What the verdict rests on and what would change it, in one sentence; '' where there is nothing."""
        return rests_on(self.fit)

    @property
    def indistinct(self) -> str:
        """Which laws cannot be told apart here, in one sentence; '' where there is nothing."""
        return contested(self.contest, self.fit)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain dicts, lists and numbers for JSON: no NaN and no infinity, None in their place."""
        return {
            "schema": SCHEMA,
            "version": self.version,
            "checkpoint": plain(self.checkpoint),
            "layers": plain(self.layers),
            "others": plain(self.others),
            "unread": plain(self.unread),
            "fit": plain(self.fit),
            "fit_without_scale_free": plain(self.fit_without_scale_free),
            "fits_by_kind": plain(self.fits_by_kind),
            "contest": {**plain(self.contest), "indistinct": [standing.law for standing in self.contest.indistinct]},
            "untrained": {**plain(self.untrained), "sentence": self.untrained.sentence},
            "penalties": {"weight_decay": plain(self.weight_decay), **plain(self.penalties)},
            "accounting": plain(self.accounting),
            "findings": plain(self.findings),
            "rests_on": self.rests_on,
            "indistinct": self.indistinct,
        }

    def to_arrow(self) -> "pyarrow.Table":
        """The layers as an Arrow table, one row each, with the rest of the report in its metadata.

        UsageError where the `data` extra is not installed.
        """
        from weightstats import frames

        return frames.to_arrow(self)

    def to_pandas(self) -> "pandas.DataFrame":
        """The layers as a pandas data frame, one row each. UsageError where the `data` extra is not installed."""
        from weightstats import frames

        return frames.to_pandas(self)

    def __str__(self) -> str:
        from weightstats.renderers import terminal

        return terminal.render(self, width=100, colour=False)

    def to_html(self, command: str = "weightstats.inspect(...)") -> str:
        """The page that `--format html` writes; `command` is what it says that made it. UsageError without the `report`
        extra."""
        need("report", "a page")
        from weightstats.renderers import html

        return html.render(self, command)

    def chart(self) -> Any:
        """Its charts as an `altair.VConcatChart`, which a notebook shows and whose `save` writes pictures. UsageError
        without the `report` extra."""
        need("report", "a chart")
        from weightstats.renderers import charts

        return charts.report_chart(self)

    def _repr_html_(self) -> str:
        from weightstats.renderers import notebook

        return notebook.render(self)


def plain(value: Any) -> Any:
    """A record as dicts, lists, text and finite numbers."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def make_report(
    checkpoint: Checkpoint,
    network: Network,
    items: Sequence[Layer | Other],
    measured: Mapping[str, Moments | str],
    merged: Mapping[str, Moments | str],
    weight_decay: float,
    law: Law,
) -> Report:
    """Fit, split and add up what was found; `measured` has moments, or why there are none, by name, `merged` those of
    weights with their adapters added."""
    failed = {name: problem for name, problem in measured.items() if isinstance(problem, str)}
    moments = {name: result for name, result in measured.items() if isinstance(result, Moments)}
    layers = [item for item in items if isinstance(item, Layer) and item.name not in failed]
    others = [item for item in items if isinstance(item, Other) and item.name not in failed]
    left_out = [_left_out(layer, moments[layer.name]) for layer in layers]
    fitted = [layer for layer, reason in zip(layers, left_out, strict=True) if reason is None]
    observations = _observations(fitted, moments)
    contest = hold_contest(observations)
    fit = fit_law(observations, law, contest)
    bound = [layer for layer in fitted if not layer.scale_free]
    splits = split_penalties([_penalised(layer, moments[layer.name]) for layer in layers], weight_decay)
    drawn = initialisations(layers, [moments[layer.name] for layer in layers])
    rows = tuple(
        _layer_row(
            layer,
            moments[layer.name],
            merged.get(layer.name),
            reason,
            _predicted(layer, fit, law),
            {name: splits[name].layers[index] for name in splits},
            drawn[index],
        )
        for index, (layer, reason) in enumerate(zip(layers, left_out, strict=True))
    )
    other_rows = (
        *(_other_row(other, moments.get(other.name)) for other in others),
        *(_other_row(tensor, None) for tensor in network.beside),
    )
    repeated = [(layer.name, layer.tensor.repeats) for layer in layers if layer.tensor.repeats > 1]
    unread = (*checkpoint.unread, *(Unread(name, problem) for name, problem in failed.items()))
    return Report(
        version=VERSION,
        checkpoint=_checkpoint_part(
            checkpoint,
            network,
            others,
            _warnings(checkpoint, rows, other_rows, unread, repeated),
            sum(row.elements for row in rows),
        ),
        layers=rows,
        others=other_rows,
        unread=unread,
        fit=fit,
        fit_without_scale_free=fit_law(_observations(bound, moments), law) if len(bound) < len(fitted) else None,
        fits_by_kind=_fits_by_kind(fitted, moments, law),
        contest=contest,
        untrained=untrained(row.initialisation for row in rows if row.fitted),
        weight_decay=weight_decay,
        penalties={name: _penalty_split(split, rows) for name, split in splits.items()},
        accounting=_accounting(layers, [*others, *network.beside], len(checkpoint.unread) + _lost(items, failed)),
    )


def _observations(layers: Sequence[Layer], moments: Mapping[str, Moments]) -> Observations:
    return make_observations(
        [
            Observation(
                layer.name,
                layer.n_in,
                layer.n_out,
                moments[layer.name].mean_square,
                role_of(layer.name),
                layer.tensor.elements,
            )
            for layer in layers
        ]
    )


def _fits_by_kind(layers: Sequence[Layer], moments: Mapping[str, Moments], law: Law) -> dict[str, Fit]:
    families: dict[str, list[Layer]] = {family: [] for family in FAMILIES}
    for layer in layers:
        families.setdefault(family_of(layer.kind, layer.name), []).append(layer)
    found = {family: members for family, members in families.items() if family and members}
    if len(found) < 2:
        return {}
    return {family: fit_law(_observations(members, moments), law) for family, members in found.items()}


def _predicted(layer: Layer, fit: Fit, law: Law) -> float:
    """The fitted law's mean square of a layer."""
    fans = (np.array([float(count)]) for count in (layer.n_in, layer.n_out, layer.tensor.elements))
    shape = law.logarithms(*fans)
    return fit.constant * math.exp(float(shape[0]))


def _penalty_split(split: Split, rows: Sequence[LayerRow]) -> PenaltySplit:
    shares = [part.share for part, row in zip(split.layers, rows, strict=True) if row.fitted]
    return PenaltySplit(
        total=split.total,
        equal_total_weight_decay=split.equal_total_weight_decay,
        evenness=split.evenness,
        evenness_fitted=evenness(shares),
        largest=LargestShare(split.largest_name, split.largest_share),
    )


def _left_out(layer: Layer, moments: Moments) -> str | None:
    """Why the fit leaves the layer out; None where it does not."""
    if layer.left_out_because is not None:
        return layer.left_out_because
    if moments.elements == moments.nonfinite:
        return "none of its weights is finite"
    if moments.max_abs == 0.0:
        return "all its weights are zero"
    if math.isnan(moments.excess_kurtosis) and moments.elements - moments.nonfinite > 1:
        return "all its weights are equal: nothing that was trained"
    if not 0.0 < moments.mean_square < math.inf:
        return "its mean square is beyond what float64 can hold"
    return None


def _penalised(layer: Layer, moments: Moments) -> PenalisedLayer:
    finite = moments.elements - moments.nonfinite
    return PenalisedLayer(layer.name, finite, layer.n_in + layer.n_out, moments.sum_of_squares)


def _layer_row(
    layer: Layer,
    moments: Moments,
    merged: Moments | str | None,
    left_out: str | None,
    predicted: float,
    penalties: dict[PenaltyName, LayerPenalty],
    initialisation: Initialisation,
) -> LayerRow:
    return LayerRow(
        name=layer.name,
        kind=layer.kind,
        shape=layer.tensor.shape,
        dtype=layer.tensor.dtype.name,
        n_in=layer.n_in,
        n_out=layer.n_out,
        fans_from=layer.fans_from,
        elements=moments.elements,
        nonfinite=moments.nonfinite,
        zeros=moments.zeros,
        mean=moments.mean,
        mean_square=moments.mean_square,
        sum_of_squares=moments.sum_of_squares,
        max_abs=moments.max_abs,
        excess_kurtosis=moments.excess_kurtosis,
        tied_to=layer.tied_to,
        fitted=left_out is None,
        left_out_because=left_out,
        predicted_mean_square=predicted,
        ratio=_ratio(moments.mean_square, predicted),
        penalties=penalties,
        kind_because=layer.because,
        byte_order=(layer.stored or layer.tensor).storage.byte_order,
        part_of=layer.part_of,
        scale_free=bool(layer.scale_free),
        scale_free_because=layer.scale_free or None,
        merged_mean_square=merged.mean_square if isinstance(merged, Moments) else None,
        merged_because=(merged if isinstance(merged, str) else layer.merged_because) if merged is not None else None,
        worked_out_because=layer.worked_out or None,
        family=family_of(layer.kind, layer.name),
        role=role_of(layer.name),
        initialisation=initialisation,
    )


def _ratio(mean_square: float, predicted: float) -> float:
    """Their quotient; NaN where float64 cannot hold the prediction."""
    return mean_square / predicted if 0.0 < predicted < math.inf else math.nan


def _other_row(other: Other | Beside, moments: Moments | None) -> OtherRow:
    return OtherRow(
        name=other.name,
        kind=other.kind,
        shape=other.tensor.shape,
        dtype=other.tensor.dtype.name,
        elements=other.tensor.elements,
        nonfinite=moments.nonfinite if moments else None,
        reason=other.reason,
    )


def _checkpoint_part(
    checkpoint: Checkpoint, network: Network, others: Sequence[Other], warnings: Iterable[str], in_layers: int
) -> CheckpointPart:
    learned = ("bias", "norm", "parameter", "not selected")
    return CheckpointPart(
        location=checkpoint.location,
        format=checkpoint.format,
        bytes=checkpoint.bytes,
        tensors=len(checkpoint.tensors) + len(checkpoint.unread),
        parameters=in_layers + sum(other.tensor.elements for other in others if other.kind in learned),
        warnings=tuple(warnings),
        root=network.root,
        root_because=network.because,
        dropped_from_names=network.dropped,
        objects_not_loaded=checkpoint.objects_not_loaded,
        damage=checkpoint.damage,
    )


def _warnings(
    checkpoint: Checkpoint,
    rows: Sequence[LayerRow],
    other_rows: Sequence[OtherRow],
    unread: Sequence[Unread],
    repeated: Sequence[tuple[str, int]],
) -> Iterator[str]:
    yield from checkpoint.warnings
    if unread:
        first = f"{'; the first' if len(unread) > 1 else ''}, {unread[0].name}: {unread[0].reason}"
        yield f"{counted(len(unread), 'tensor', 'tensors')} could not be read{first}"
    packed = [row for row in other_rows if row.kind == PACKED]
    if packed:
        held = counted(len(packed), "tensor holds", "tensors hold")
        first = f"{packed[0].name}: {packed[0].reason}"
        yield f"{held} quantised weights that are not decoded, so that none is measured; the first, {first}"
    with_counts = [(row.name, row.nonfinite, row.elements) for row in rows]
    with_counts += [(row.name, row.nonfinite or 0, row.elements) for row in other_rows]
    for name, nonfinite, elements in with_counts:
        if nonfinite:
            yield f"{name}: {nonfinite:,} of {elements:,} elements {'is' if nonfinite == 1 else 'are'} NaN or infinite"
    swapped = sum(tensor.storage.byte_order == "big" for tensor in checkpoint.tensors)
    if swapped:
        stored = counted(swapped, "tensor is", "tensors are")
        yield f"{stored} stored in big-endian byte order, which is rare: are the numbers plausible?"
    for name, repeats in repeated:
        yield f"{name}: each of its stored elements is shown {repeats:,} times (an expanded view)"
    for row in rows:
        if row.elements > row.nonfinite and row.max_abs == 0.0:
            yield f"{row.name}: all its weights are zero"
    warned = danger(checkpoint.objects_not_loaded)
    if warned:
        yield f"the file {warned}"
    names = [name for name in checkpoint.objects_not_loaded if not is_dangerous(name)]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"objects in the file were not loaded: {', '.join(names[:3])}{more}"


def _lost(items: Sequence[Layer | Other], failed: Mapping[str, str]) -> int:
    """Stored tensors of which nothing could be read."""
    names: dict[str, list[bool]] = {}
    for item in items:
        names.setdefault(_stored_name(item), []).append(item.name in failed)
    return sum(all(parts) for parts in names.values())


def _stored_name(item: Layer | Other | Beside) -> str:
    return (None if isinstance(item, Beside) else item.part_of) or item.name


def _accounting(layers: Sequence[Layer], others: Sequence[Other | Beside], unread_tensors: int) -> Accounting:
    seen: set[tuple[object, ...]] = set()
    with_layers = {layer.part_of for layer in layers if layer.part_of is not None}
    others = [other for other in others if _stored_name(other) not in with_layers]
    in_layers, in_others, unread = _tally(layers, seen), _tally(others, seen), Tally(unread_tensors, 0, 0)
    return Accounting(
        stored=Tally(
            tensors=in_layers.tensors + in_others.tensors + unread.tensors,
            elements=in_layers.elements + in_others.elements,
            bytes=in_layers.bytes + in_others.bytes,
        ),
        layers=in_layers,
        others=in_others,
        unread=unread,
    )


def _tally(items: Sequence[Layer | Other | Beside], seen: set[tuple[object, ...]]) -> Tally:
    """The sum of what is stored for the items; stored elements that are in `seen` add nothing but their number."""
    elements = stored_bytes = 0
    for item in items:
        stored = item.tensor if isinstance(item, Beside) else item.stored or item.tensor
        if stored.view not in seen:
            seen.add(stored.view)
            elements += stored.elements
            stored_bytes += stored.stored_bytes
    return Tally(len({_stored_name(item) for item in items}), elements, stored_bytes)
