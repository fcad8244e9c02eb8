"""What a policy may demand something of, by the names that the report's JSON has for them."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from weightstats.demands import Allowed, Bound, Choice, Interval, Names, Off, Wanted
from weightstats.initialisation import State
from weightstats.verdicts import Verdict

Scope: TypeAlias = Literal["layers", "tensors", "unread", "packed", "count", "fit", "penalty", "checkpoint"]
"""What a rule goes through: each layer; each layer, bias, norm and other tensor of the network; each tensor that was
not read, or not decoded; the number of layers; the fit; a penalty; the checkpoint as a whole."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that may be judged."""

    scope: Scope
    wanted: Wanted
    """How a demand on it is written."""

    title: str
    help: str
    """A sentence or two: what is judged, and what is not judged."""


_SHARE = Bound("at most", 0.0, 1.0)
_COUNT = Bound("at most", whole=True)
_POSITIVE = Interval(0.0)

SUBJECTS: dict[str, Subject] = {
    "nonfinite": Subject(
        "tensors",
        _COUNT,
        "elements that are NaN or infinite",
        "Elements of each layer, bias, norm or other floating-point tensor of the network that are NaN or infinite.",
    ),
    "dtype": Subject(
        "tensors",
        Allowed(may_be_none=False),
        "dtype",
        "The dtype in which each layer, bias, norm and other learned tensor is stored, as the report names it.",
    ),
    "ratio": Subject(
        "layers",
        _POSITIVE,
        "ratio to the law",
        "The mean square of each layer over the fitted law's. A layer that the fit leaves out is not judged.",
    ),
    "initialisation": Subject(
        "layers",
        Choice(get_args(State)),
        "state of initialisation",
        "Whether each layer is as an initialiser leaves it. One of which that cannot be told is not judged, "
        "unless 'not told' is in the list.",
    ),
    "all_zero": Subject(
        "layers",
        Off("some that is not zero"),
        "dead layers",
        "No layer's weights are all zero.",
    ),
    "share_of_zeros": Subject(
        "layers",
        _SHARE,
        "share of zeros",
        "The share of each layer's finite weights that are exactly 0.",
    ),
    "max_abs": Subject(
        "layers",
        Bound("at most"),
        "largest weight",
        "The largest absolute value of each layer's weights.",
    ),
    "mean_square": Subject(
        "layers",
        _POSITIVE,
        "mean square",
        "The mean squared weight of each layer.",
    ),
    "excess_kurtosis": Subject(
        "layers",
        Interval(-2.0),
        "excess kurtosis",
        "The excess kurtosis of each layer's weights: 0 for a normal distribution, -1.2 for a uniform one. A layer "
        "whose weights are all equal has none, and is not judged.",
    ),
    "layers": Subject(
        "count",
        _POSITIVE,
        "number of layers",
        "How many layers there are; with include or exclude, how many of those.",
    ),
    "names": Subject(
        "checkpoint",
        Names(),
        "names that must be there",
        "For each glob, some tensor of the checkpoint that has such a name and can be read.",
    ),
    "unread": Subject(
        "unread",
        _COUNT,
        "tensors that could not be read",
        "How many tensors could not be read. Every policy demands 0 unless it says otherwise.",
    ),
    "packed": Subject(
        "packed",
        _COUNT,
        "quantised weights that are not decoded",
        "How many tensors hold quantised weights that are not decoded, so that nothing is known of them. Every policy "
        "demands 0 unless it says otherwise.",
    ),
    "verdict": Subject(
        "fit",
        Choice(get_args(Verdict)),
        "verdict on the law",
        "The verdict on the law under test. Without any fitted layer it is not judged.",
    ),
    "exponent": Subject(
        "fit",
        Interval(),
        "free exponent",
        "The exponent of what the law depends on, fitted freely.",
    ),
    "exponent_interval": Subject(
        "fit",
        Interval(),
        "interval of the free exponent",
        "The 95 % interval of that exponent, all of it.",
    ),
    "constant": Subject(
        "fit",
        _POSITIVE,
        "fitted constant",
        "c, the law's fitted constant.",
    ),
    "constant_interval": Subject(
        "fit",
        _POSITIVE,
        "interval of the fitted constant",
        "The 95 % interval of c, all of it.",
    ),
    "spread": Subject(
        "fit",
        Bound("at most", 1.0),
        "scatter about the law",
        "The factor by which layers scatter about the law.",
    ),
    "evenness": Subject(
        "penalty",
        Bound("at least", 0.0, 1.0),
        "evenness",
        "How evenly a penalty falls on the layers: 1 where all carry the same.",
    ),
    "evenness_fitted": Subject(
        "penalty",
        Bound("at least", 0.0, 1.0),
        "evenness over the fitted layers",
        "The same over the layers that the fit uses.",
    ),
    "largest_share": Subject(
        "penalty",
        _SHARE,
        "largest share",
        "The share of a penalty that falls on the layer that carries most of it.",
    ),
    "objects_not_loaded": Subject(
        "checkpoint",
        Allowed(may_be_none=True),
        "objects that are not loaded",
        "Classes and functions that the file names; the list says which may be there.",
    ),
    "warnings": Subject(
        "checkpoint",
        Allowed(may_be_none=True),
        "warnings",
        "What the inspection warns of; the list says which warnings there may be.",
    ),
    "damage": Subject(
        "checkpoint",
        Off("a whole file"),
        "damage",
        "The file is whole. (A damaged one does not hold in any case, and the exit code is 3.)",
    ),
    "format": Subject(
        "checkpoint",
        Allowed(may_be_none=False),
        "format",
        "The format, as `weightstats formats` names it.",
    ),
    "parameters": Subject(
        "checkpoint",
        _POSITIVE,
        "number of parameters",
        "Elements of layers, biases, norms and other learned tensors; tied ones once.",
    ),
    "tensors": Subject(
        "checkpoint",
        _POSITIVE,
        "number of tensors",
        "All that the checkpoint stores, read or not.",
    ),
    "bytes": Subject(
        "checkpoint",
        _POSITIVE,
        "size in bytes",
        "Of the file or files.",
    ),
}

OF_TENSORS = frozenset(
    name for name, one in SUBJECTS.items() if one.scope in ("layers", "tensors", "unread", "packed", "count")
)
"""Subjects whose rules may have `include` and `exclude`."""

OF_PENALTIES = frozenset(name for name, one in SUBJECTS.items() if one.scope == "penalty")
"""Subjects whose rules need a `penalty`."""
