"""What a kernel of a convolution is for: transposed or not, in how many groups, and the first of its network or not.

A kernel says how many channels a group takes, never how many there are: those are looked for beside it.
"""

import re
from typing import Literal

from weightstats.layer_names import (
    DEPTHWISE,
    GROUPED,
    GROUPS_BY_CONFIG,
    SMALLER,
    TRANSPOSED,
    UPSAMPLING,
)
from weightstats.surroundings import MOST_INPUT_CHANNELS, Shape, Surroundings, Unit, field_of, path_of
from weightstats.tensors import Use

MOST_MULTIPLIER = 8
"""Outputs for each input channel of a depthwise convolution that are believed without a graph to show them."""


def kernel_use(name: str, shape: Shape, around: Surroundings) -> Use:
    """A convolution's kernel: torch's (out, in/groups, ...), or (..., in, out) where Keras and JAX call it kernel."""
    dimensions = len(shape) - 2
    if name.endswith("kernel"):
        return Use(f"conv{dimensions}d", "K" * dimensions + "IO", "a kernel: its channels come last", by="name")
    kind = f"conv{dimensions}d"
    unit = Unit(path_of(name), name, shape)
    axes = "OI" + "K" * dimensions
    turned = _transposed(unit, around)
    if turned:
        groups = _groups_of_transposed(unit, around)
        by = _by("by its name" in turned)
        return Use(f"conv_transpose{dimensions}d", "IO" + "K" * dimensions, turned, groups=groups, by=by)
    groups, because = _groups(unit, around)
    by = _by(groups > 1 and "its name" in because)
    if groups > 1 and because.endswith("of the configuration"):
        by = "graph"
    return Use(f"depthwise_{kind}" if groups > 1 == shape[1] else kind, axes, because, groups=groups, by=by)


def _by(by_name: bool) -> Literal["graph", "name", "shape"]:
    return "name" if by_name else "shape"


def _transposed(unit: Unit, around: Surroundings) -> str:
    """Why a kernel is one of a transposed convolution, with its inputs first; '' where it is not."""
    first, second = unit.shape[:2]
    bias = around.bias_of(unit.path)
    even = all(size in (2, 4, 8) for size in unit.shape[2:])
    enlarges = even and UPSAMPLING.search(unit.path) is not None
    if second == 1 < first and (enlarges or (bias == (first,) and TRANSPOSED.search(unit.name))):
        return "transposed, by its name"
    if bias is not None and len(bias) == 1 and first != second:
        if bias == (first,):
            return ""
        if bias[0] and second and bias[0] % second == 0 and first % (bias[0] // second) == 0:
            return "transposed: its bias has a multiple of its second size" if bias[0] > second else BY_BIAS
    if TRANSPOSED.search(unit.name):
        return "transposed, by its name"
    if first == second and even and _like_neighbours(unit, around):
        return "transposed, like those beside it"
    if enlarges:
        return "transposed, by its name and its even kernel"
    return "" if first == second else _transposed_by_channels(unit, around, even=even)


BY_BIAS = "transposed: its bias has the second size"


def _transposed_by_channels(unit: Unit, around: Surroundings, *, even: bool) -> str:
    """The same by the channels of what is before and after it."""
    first, second = unit.shape[:2]
    before = around.neighbour(unit, -1, len(unit.shape))
    if before is not None and before.shape[0] == second:
        return ""
    if even and before is not None and before.shape[1] == first and before.shape[2:] == unit.shape[2:]:
        return f"transposed: {before.path} gives out the {first} channels of its first dimension"
    if around.normalised_after(unit) == second:
        return f"transposed: the normalisation after it has {second} channels"
    return ""


def _like_neighbours(unit: Unit, around: Surroundings) -> bool:
    """Whether a kernel of the same form, numbered next to it, is one of a transposed convolution."""
    for step in (-1, 1):
        other = around.neighbour(unit, step, len(unit.shape))
        if other is not None and other.shape[2:] == unit.shape[2:] and other.shape[0] != other.shape[1]:
            return bool(_transposed(other, around))
    return False


def _groups_of_transposed(unit: Unit, around: Surroundings) -> int:
    """1, or as many as the bias shows: it has an entry for each output of all groups."""
    bias = around.bias_of(unit.path)
    first, second = unit.shape[:2]
    if bias is not None and len(bias) == 1 and second and bias[0] % second == 0 and first % (bias[0] // second) == 0:
        return max(1, bias[0] // second)
    if (
        bias is None
        and second == 1
        and around.neighbour(unit, 1, len(unit.shape)) is None
        and UPSAMPLING.search(unit.path)
    ):
        return first
    return 1


def _groups(unit: Unit, around: Surroundings) -> tuple[int, str]:
    """The groups of a convolution, and how they were told."""
    plain = f"a kernel of {len(unit.shape)} dimensions"
    if groups := _groups_of_config(unit, around):
        return groups
    if unit.shape[1] == 1 < unit.shape[0]:
        return _depthwise(unit, around, plain)
    outputs, inputs = unit.shape[:2]
    if (GROUPED.search(unit.path) or DEPTHWISE.search(unit.name)) and (number := _divided(outputs, inputs, outputs)):
        return number, f"{plain}; {number} groups of {inputs}: by its name as many channels come in as go out"
    number, evidence = _groups_by_channels(unit, around)
    return number, f"{plain}; {evidence}" if evidence else plain


def _groups_of_config(unit: Unit, around: Surroundings) -> tuple[int, str] | None:
    for pattern, key in GROUPS_BY_CONFIG:
        groups = around.setting(key) or 0
        if groups and unit.shape[0] % groups == 0 and re.search(pattern, unit.path):
            return groups, f"a kernel of {len(unit.shape)} dimensions; {groups} groups, by {key} of the configuration"
    return None


def _groups_by_channels(unit: Unit, around: Surroundings) -> tuple[int, str]:
    """Groups by the channels that the convolution before it gives out, else by those that are given out near it."""
    outputs, inputs = unit.shape[:2]
    narrow = field_of(unit.shape) == 1
    before = around.neighbour(unit, -1, len(unit.shape))
    anywhere = around.gives_out("", inputs, besides=unit)
    if (evidence := _one_group(unit, before, around, anywhere=anywhere)) is not None:
        return 1, evidence
    doubt = ""
    if before is not None:
        given, direct = before.shape[0], around.follows_directly(unit, before)
        if given != outputs and not direct and not narrow:
            given = outputs if _given_near(unit, outputs, around) else given
        groups = _divided(given, inputs, outputs) if given <= outputs or (direct and not anywhere) else 0
        halved = groups == 2 and len(unit.shape) == 3  # a gated unit between them halves the channels
        wide = not narrow and not _given_near(unit, inputs, around)
        if groups and not halved and (wide or not anywhere):
            return groups, f"{groups} groups of {inputs}, as {given} channels come from {before.path} or from beside it"
        if direct and (groups := _divided(before.shape[0], inputs, outputs)):
            doubt = f"one group, unless all {before.shape[0]} channels of {before.path} come in, in {groups} groups"
    if anywhere or _may_be_input(unit, around) or around.first_of_its_kind(unit):
        return 1, doubt
    if inputs > outputs or (narrow and len(unit.shape) > 3):
        return 1, doubt or f"nothing gives out {inputs} channels: several outputs joined, or groups of unknown number"
    groups, evidence = _groups_near(unit, around)
    return (groups, evidence) if groups > 1 else (1, doubt)


def _one_group(unit: Unit, before: Unit | None, around: Surroundings, *, anywhere: bool) -> str | None:
    """What shows that a convolution takes all channels that come in; None where nothing does."""
    inputs, narrow = unit.shape[1], field_of(unit.shape) == 1
    if before is not None and before.shape[0] == inputs:
        return f"takes {inputs} channels, as many as {before.path} gives out"
    if before is not None and before.shape == unit.shape and anywhere:
        return f"beside {before.path}, which takes and gives out as many channels"
    pictures = len(unit.shape) > 3  # in one dimension, linear layers are convolutions of one position, in groups too
    twins = (around.takes(place, inputs, besides=unit) for place in _near(unit) if place)
    return "" if (pictures or not narrow) and any(twins) else None


def _groups_near(unit: Unit, around: Surroundings) -> tuple[int, str]:
    """Groups of channels that something near gives out, where nothing at all gives out those of one group."""
    outputs, inputs = unit.shape[:2]
    few = inputs <= MOST_INPUT_CHANNELS
    for place in _near(unit):
        for given in (outputs, *around.widths(place)) if around.is_repeated(unit) and not few else (outputs,):
            groups = _divided(given, inputs, outputs)
            halved = groups == 2 and len(unit.shape) == 3
            if groups and not halved and around.gives_out(place, given, besides=unit):
                return (
                    groups,
                    f"{groups} groups of {inputs}: {given} channels are given out beside it, {inputs} nowhere",
                )
    return 1, ""


def _may_be_input(unit: Unit, around: Surroundings) -> bool:
    """Whether its few inputs may be those of the network."""
    if unit.shape[1] > MOST_INPUT_CHANNELS:
        return False
    return around.is_named_input(unit) or not (around.is_repeated(unit) and around.takes_pictures(len(unit.shape)))


def _near(unit: Unit) -> tuple[str, ...]:
    parent = unit.path.rpartition(".")[0]
    return tuple(dict.fromkeys((parent, parent.rpartition(".")[0])))


def _given_near(unit: Unit, channels: int, around: Surroundings) -> bool:
    """Whether a module of the same parent or grandparent gives out so many channels."""
    return any(place and around.gives_out(place, channels, besides=unit) for place in _near(unit))


def _divided(whole: int, inputs: int, outputs: int) -> int:
    """Groups of so many inputs in the whole; 0 unless there are two or more that divide the outputs too."""
    groups = whole // inputs if inputs and whole % inputs == 0 else 0
    return groups if groups > 1 and outputs % groups == 0 else 0


def _depthwise(unit: Unit, around: Surroundings, plain: str) -> tuple[int, str]:
    """One input channel: a group for each channel that comes in, or the first layer of a network with one input."""
    outputs = unit.shape[0]
    before = around.neighbour(unit, -1, len(unit.shape))
    by_name = DEPTHWISE.search(unit.name) is not None
    given = before.shape[0] if before is not None else 0
    most = given if by_name else MOST_MULTIPLIER * given
    if before is not None and 1 < given <= outputs <= most and outputs % given == 0:
        return given, f"one input channel after {before.path}, which gives out {given}: one group a channel"
    if SMALLER.search(unit.path) and around.halved_before(unit):
        return outputs // 2, f"one input channel after a stage of {outputs // 2}: one group a channel, two outputs each"
    if by_name:
        return outputs, "its name, and one input channel: a group for each output"
    pictures = around.takes_pictures(len(unit.shape))
    narrow = field_of(unit.shape) == 1
    if f"{unit.path.rpartition('.')[0]}.A_log" in around.shapes:
        return outputs, "one input channel, in a state-space layer: one group a channel"
    if narrow and not pictures:
        return 1, f"{plain}; one input channel and one position"
    if before is None and (around.takes_sound(unit) or not pictures) and (evidence := _first_layer(unit, around)):
        return 1, f"{plain}; one input channel, {evidence}"
    elsewhere = pictures or around.has_token_table
    if around.is_repeated(unit, whatever_outputs=True) or (elsewhere and around.gives_out("", outputs, besides=unit)):
        return (
            outputs,
            f"one input channel where the network's input is elsewhere: a group for each of {outputs} channels",
        )
    if not narrow and around.gives_out("", outputs, besides=unit):
        return outputs, f"one input channel where {outputs} are given out elsewhere: one group a channel"
    return 1, f"{plain}; one input channel"


def _first_layer(unit: Unit, around: Surroundings) -> str:
    """Why a convolution of one channel takes the network's input; '' where nothing says so."""
    if around.is_named_input(unit) and (not around.is_repeated(unit) or around.takes_sound(unit)):
        return "the network's input by its name"
    outputs, dimensions = unit.shape[0], len(unit.shape)
    after = around.neighbour(unit, 1, dimensions)
    if after is not None and around.is_in_wide_chain(unit):
        if after.shape[1] == outputs and field_of(after.shape) > 1:
            return f"the network's input: {after.path} takes the {outputs} channels that it gives out"
        if after.shape[:2] == (outputs, 1):
            return f"the network's input, before {after.path} that has a group for each of {outputs}"
    if not around.has_token_table and around.first_of_its_kind(unit):
        return "the network's input"
    return ""
