"""What each tensor of a network is: a layer with its fans, or something else, and why.

The decision rests on names and shapes; the names are in `layer_names`, and the first table that matches decides.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from weightstats.errors import UsageError, quoted
from weightstats.fused import Fused, fused
from weightstats.layer_names import DIRECTION, LOW_RANK
from weightstats.limits import LIMITS
from weightstats.network import Named, Network
from weightstats.normalised import Map, scale_free_of
from weightstats.rule_uses import Found, use_by_rule
from weightstats.rules import NO_RULES, Rule, Rules
from weightstats.surroundings import Surroundings
from weightstats.tensors import Part, Tensor, Use, part_of
from weightstats.uses import fixed_use, use_of

FansFrom: TypeAlias = Literal["module", "graph", "name", "shape", "rule"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A weight with a fan-in and a fan-out. A convolution's receptive field counts in both."""

    name: str
    kind: str
    tensor: Tensor
    n_in: int
    n_out: int
    fans_from: FansFrom
    because: str
    """How the kind was decided."""

    left_out_because: str | None = None
    """Why the fit leaves the layer out, None where it does not."""

    tied_to: tuple[str, ...] = ()
    """Other names of the same stored tensor."""

    part_of: str | None = None
    """The name of the stored tensor, where the layer is one of the maps that are fused in it."""

    stored: Tensor | None = None
    """What lies in the file, where that is not `tensor`: the whole of a part, the codes of a quantised weight."""

    worked_out: str = ""
    """How the weight comes from what lies in the file, where the network computes with something else."""

    scale_free: str = ""
    """Why its scale does not change what the network computes, where that is so."""

    merged: Tensor | None = None
    """The weight with its low-rank adapter added, where both are in the file."""

    merged_because: str = ""


@dataclass(frozen=True, slots=True)
class Other:
    """A tensor that is not a layer."""

    name: str
    kind: str
    tensor: Tensor
    reason: str
    stored: Tensor | None = None
    """What lies in the file, where that is not `tensor`."""

    part_of: str | None = None
    """The name of the stored tensor, where this is one of the maps that are fused in it."""


UNSPLIT = ("embedding", "low_rank", "bilinear")
"""Kinds of layer that are one map, whatever their names."""

FEWEST_PARTS = 16
FEWEST_ELEMENTS = 256
"""Elements of a part, where there are more than FEWEST_PARTS of them."""

MOST_READING = 8
"""How many times reading all parts may reach over the whole: the gates of a Keras LSTM, stored as columns, take 4."""

MOST_COMPRESSED_PARTS = 16

UNORDERED = "its elements are stored in pieces, not in the order of their indices"

EMBEDDING_LEFT_OUT = "an embedding: rows that are looked up are no fan-in"
LOW_RANK_LEFT_OUT = "one factor of a low-rank adapter: only the product is a weight"
DIRECTION_LEFT_OUT = "the direction of a weight normalisation: its scale is not the weight's"
COMPLEX_LEFT_OUT = "complex weights: the law speaks of real ones"


def classify(network: Network, *, as_stored: bool = False, rules: Rules = NO_RULES) -> tuple[Layer | Other, ...]:
    """Every tensor of the network, in its order; a tensor that is stored once under several names is one layer.

    A weight that holds several maps is one layer a map, `NAME[part]`, unless `as_stored`. What a rule says of a tensor
    overrules what was found, its `split` also `as_stored`; UsageError where it does not fit the tensor.
    """
    around = Surroundings(network)
    tied_names = _tied_groups(network)
    first_name = _first_names(network, tied_names, around)
    stored_names = {named.name for named in network.tensors}
    left = LIMITS.crowded_tensors + sum(named.tensor.stored_bytes for named in network.tensors) // LIMITS.crowded_bytes
    names: dict[str, list[str]] = {}
    result: list[Layer | Other] = []
    for named in network.tensors:
        first = first_name[named.tensor.view] if named.tensor.elements else named.name
        if first != named.name:
            names.setdefault(first, []).append(named.name)
            result.append(Other(named.name, "tied", named.tensor, f"the same stored tensor as {first}", named.stored))
            continue
        item = _classified(named, around)
        rule = rules.rule_for(named.name)
        item = _with_origin(item if rule is None else _ruled(item, named, rule), named)
        whole = as_stored if rule is None or rule.split is None else not rule.split
        names_of_it = 1 + len(tied_names.get(named.tensor.view, ()))
        most = min(_most_parts(item.tensor, len(named.name), names_of_it), left)
        parts = _split(item, around, named.telling, most) if isinstance(item, Layer) and not whole else [item]
        taken = next((part.name for part in parts if part.name != item.name and part.name in stored_names), None)
        if taken is not None:
            parts = [_undivided(item, taken, rule)]
        left -= len(parts) - 1
        result += parts if rule is None else [_as_said(part, rule) for part in parts]
    return tuple(_normalised([_tied(item, names) for item in result], network, around, rules))


def _undivided(item: Layer | Other, taken: str, rule: Rule | None) -> Layer | Other:
    """A layer whose parts would have the name of a stored tensor; UsageError where a rule asks for them."""
    if rule is not None and rule.split is not None:
        raise UsageError(f"{rule.because}: its part {quoted(taken)} has the name of another tensor of the file")
    if isinstance(item, Other):
        return item
    return replace(item, because=f"{item.because}; kept whole: a tensor of the file is called {quoted(taken)}")


def _tied_groups(network: Network) -> dict[tuple[object, ...], list[Named]]:
    """Tensors that show the same stored elements under several names."""
    groups: dict[tuple[object, ...], list[Named]] = {}
    for named in network.tensors:
        groups.setdefault(named.tensor.view, []).append(named)
    return {view: group for view, group in groups.items() if len(group) > 1}


def _first_names(
    network: Network, tied: Mapping[tuple[object, ...], Sequence[Named]], around: Surroundings
) -> dict[tuple[object, ...], str]:
    """Under which name tensors of the same stored elements are reported: as an embedding if one of them is one."""
    first = {named.tensor.view: named.name for named in network.tensors}
    for view, group in tied.items():
        first[view] = next((named.name for named in group if _is_embedding(named, around)), group[0].name)
    return first


def _is_embedding(named: Named, around: Surroundings) -> bool:
    item = _classified(named, around)
    return isinstance(item, Layer) and item.kind == "embedding"


def _ruled(item: Layer | Other, named: Named, rule: Rule) -> Layer | Other:
    """What a rule makes of a tensor, before it is split."""
    name, tensor = named.name, item.tensor
    if rule.ignore:
        return Other(name, "ignored", tensor, f"ignored by {rule.because}")
    if isinstance(item, Other) and (rule.kind is None or tensor.elements == 0):
        return item
    found = Found(item.kind, item.n_in, item.n_out) if isinstance(item, Layer) else None
    layer = item if isinstance(item, Layer) else Layer(name, rule.kind or "", tensor, 0, 0, "rule", rule.because)
    if rule.says_fans:
        layer = replace(layer, fans_from="rule", because=rule.because)
    use = use_by_rule(rule, name, tensor, found)
    if use is None or len(use.axes) != len(tensor.shape):
        return layer
    made = _layer(name, tensor, use)
    layer = replace(layer, tensor=made.tensor, n_in=made.n_in, n_out=made.n_out)
    if found is not None and found.kind == use.kind:
        return layer
    return replace(layer, kind=use.kind, left_out_because=made.left_out_because)


def _as_said(item: Layer | Other, rule: Rule) -> Layer | Other:
    """A layer, or each part of one, with what a rule says of its fans and of the fit."""
    if isinstance(item, Other):
        return item
    item = replace(item, n_in=rule.n_in or item.n_in, n_out=rule.n_out or item.n_out)
    if rule.fit and item.left_out_because is not None:
        item = replace(item, because=f"{item.because}; in the fit by {rule.because}")
    if rule.fit is not None:
        item = replace(item, left_out_because=None if rule.fit else f"left out by {rule.because}")
    if rule.scale_free is not None:
        item = replace(item, scale_free=rule.because if rule.scale_free else "")
    return item


def _with_origin(item: Layer | Other, named: Named) -> Layer | Other:
    """What the tables made of the name that tells, under the name that the file has."""
    if isinstance(item, Other):
        return replace(item, name=named.name, stored=named.stored)
    because = f"{item.because}; {named.because}" if named.because else item.because
    return replace(
        item,
        name=named.name,
        because=because,
        stored=named.stored,
        worked_out=named.worked_out,
        scale_free=item.scale_free or named.scale_free,
        merged=named.merged,
        merged_because=named.merged_because,
    )


def _split(layer: Layer, around: Surroundings, telling: str, most: int) -> list[Layer | Other]:
    """The maps that are fused in a layer's weight, or the layer; `telling` is the name that tables are tried on."""
    use = layer.tensor.use
    if use is None:
        return [layer]
    parts, because = use.parts, layer.because
    if not parts:
        found = (
            None if layer.kind in UNSPLIT or use.by == "rule" else fused(telling, layer.tensor.shape, use.axes, around)
        )
        if found is None:
            return [layer]
        because = "; ".join(filter(None, (because, found.because)))
        if found.by_config and layer.fans_from in ("name", "shape"):
            layer = replace(layer, fans_from="graph")
        if not found.parts:
            return [_joint(layer, found, because)]
        parts = found.parts
    if layer.tensor.strides is None:
        return [replace(layer, because=f"{because}; kept whole: {UNORDERED}")]
    if use.by == "rule":
        return [_part(layer, part, because) for part in parts]
    if len(parts) > most:
        return [replace(layer, because=f"{because}; kept whole: {len(parts):,} parts are too many to be read apart")]
    made: list[Layer | Other] = [_part(layer, part, because) for part in parts]
    if sum(part.tensor.reach for part in made) > MOST_READING * layer.tensor.reach and not _is_inflated(layer.tensor):
        return [replace(layer, because=f"{because}; kept whole: its parts lie too scattered to be read apart")]
    return made


def _is_inflated(tensor: Tensor) -> bool:
    return tensor.storage.source.sequential


def _part(layer: Layer, part: Part, because: str) -> Layer:
    """One of the maps that are fused in a layer's weight."""
    tensor = _one_map(part_of(layer.tensor, part.slices))
    made = _layer(layer.name, tensor, tensor.use or Use(layer.kind, "", ""))
    return replace(
        layer,
        name=f"{layer.name}[{part.name}]",
        tensor=made.tensor,
        n_in=made.n_in,
        n_out=made.n_out,
        because=because,
        part_of=layer.name,
        stored=layer.stored or layer.tensor,
        merged=None if layer.merged is None else part_of(layer.merged, part.slices),
    )


def _one_map(tensor: Tensor) -> Tensor:
    """A part without the dimension that counted the maps of the stack."""
    use = tensor.use
    if use is None or use.axes.count("B") != 1 or tensor.shape[axis := use.axes.index("B")] != 1:
        return tensor
    strides = None if tensor.strides is None else (*tensor.strides[:axis], *tensor.strides[axis + 1 :])
    runs = None if tensor.runs is None else (*tensor.runs[:axis], *tensor.runs[axis + 1 :])
    use = replace(use, axes=use.axes.replace("B", ""))
    shape = (*tensor.shape[:axis], *tensor.shape[axis + 1 :])
    return replace(tensor, shape=shape, strides=strides, runs=runs, use=use)


def _joint(layer: Layer, found: Fused, because: str) -> Layer:
    """Maps of one size that cannot be told apart, in one row with the fans of each."""
    return replace(
        layer,
        name=f"{layer.name}[{found.label}]",
        n_out=layer.n_out // found.maps,
        because=because,
        part_of=layer.name,
        stored=layer.stored or layer.tensor,
    )


def _most_parts(tensor: Tensor, name: int, names: int) -> int:
    """Into how many layers a weight may be split, whose name has so many characters and is one of so many names.

    A compressed one is inflated again for each, one of a few elements a part holds no maps, and every part has names.
    """
    if _is_inflated(tensor):
        return MOST_COMPRESSED_PARTS
    by_size = max(FEWEST_PARTS, min(LIMITS.parts, tensor.elements // FEWEST_ELEMENTS))
    return min(by_size, max(FEWEST_PARTS, LIMITS.part_name_characters // ((name + 100) * names)))


def _tied(item: Layer | Other, names: dict[str, list[str]]) -> Layer | Other:
    """The item with the other names of its stored tensor."""
    if not isinstance(item, Layer) or (item.part_of or item.name) not in names:
        return item
    part = item.name.removeprefix(item.part_of) if item.part_of is not None else ""
    return replace(item, tied_to=tuple(f"{name}{part}" for name in names[item.part_of or item.name]))


def _classified(named: Named, around: Surroundings) -> Layer | Other:
    """What a tensor is by its own use, else by its name and what lies around it."""
    name, tensor = named.telling, named.tensor
    use = tensor.use
    if use is None or use.axes or not tensor.elements:
        use = fixed_use(name, tensor) or use
    if use is None or (use.axes and len(use.axes) != len(tensor.shape)):
        use = use_of(name, tensor.shape, around)
    if not use.axes:
        return Other(named.name, use.kind, tensor, use.because)
    layer = _layer(named.name, tensor, use)
    if layer.left_out_because is None and LOW_RANK.search(name):
        return replace(layer, kind="low_rank", left_out_because=LOW_RANK_LEFT_OUT)
    if layer.left_out_because is None and DIRECTION.search(name):
        return replace(layer, left_out_because=DIRECTION_LEFT_OUT)
    return layer


def _layer(name: str, tensor: Tensor, use: Use) -> Layer:
    """The layer of a weight that is used so; its fans count the connections that exist."""
    counts = dict.fromkeys("OIKB", 1)
    for letter, size in zip(use.axes, tensor.shape, strict=True):
        counts[letter] *= size
    n_in, n_out = counts["I"] * counts["K"], counts["O"] * counts["K"]
    if "transpose" in use.kind:
        n_in //= use.groups
    else:
        n_out //= use.groups
    left_out = {"embedding": EMBEDDING_LEFT_OUT, "low_rank": LOW_RANK_LEFT_OUT}.get(use.kind)
    if tensor.dtype.kind == "complex":
        left_out = COMPLEX_LEFT_OUT
    return Layer(
        name=name,
        kind=use.kind,
        tensor=tensor if tensor.use is use else replace(tensor, use=use),
        n_in=n_in,
        n_out=n_out,
        fans_from=use.by,
        because=use.because,
        left_out_because=left_out,
        scale_free=use.scale_free,
    )


def _normalised(
    items: Sequence[Layer | Other], network: Network, around: Surroundings, rules: Rules
) -> Iterator[Layer | Other]:
    """The items, those with the reason whose scale the normalisation behind them makes immaterial."""
    telling = {named.name: named.telling for named in network.tensors}
    maps = [
        _map(item, telling[item.part_of or item.name])
        for item in items
        if isinstance(item, Layer) and item.kind != "embedding" and not item.tied_to
    ]
    reasons = scale_free_of(around.shapes, maps)
    for item in items:
        rule = rules.rule_for(item.part_of if isinstance(item, Layer) and item.part_of else item.name)
        is_said = rule is not None and rule.scale_free is not None
        if isinstance(item, Layer) and not item.scale_free and not is_said and item.name in reasons:
            yield replace(item, scale_free=reasons[item.name])
        else:
            yield item


def _map(layer: Layer, telling: str) -> Map:
    """The layer as what a normalisation is looked for behind; `telling` is the name that tables are tried on."""
    use, counts = layer.tensor.use, dict.fromkeys("OIKB", 1)
    for letter, size in zip(use.axes if use else "", layer.tensor.shape, strict=False):
        counts[letter] *= size
    groups, is_transposed = use.groups if use else 1, "transpose" in layer.kind
    return Map(
        name=layer.name,
        module=telling.rpartition(".")[0],
        part=layer.name.removeprefix(layer.part_of)[1:-1] if layer.part_of is not None else "",
        outputs=counts["O"] * counts["B"] * (groups if is_transposed else 1),
        inputs=counts["I"] * counts["B"] * (1 if is_transposed else groups),
    )


def layers_of(items: Sequence[Layer | Other]) -> tuple[Layer, ...]:
    """The layers among them."""
    return tuple(item for item in items if isinstance(item, Layer))
