"""What `weightstats groups` prints: a function for a training script, or JSON.

The function is code that somebody runs, and the names in it come from a file. They are written by `ascii()`, as
literals of one line. Whatever else is not ours stands in comments, escaped, and below the two lines at the top in which
Python looks for the encoding of the source.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from weightstats.decay_groups import DecayGroups
from weightstats.decayed_parameters import LeftOut
from weightstats.network import WRAPPER_PARTS
from weightstats.penalties import PENALTIES, PenaltyName
from weightstats.renderers.words import TITLES, printable

FORMULAS: dict[PenaltyName, str] = {
    "plain": "sum(w**2)",
    "per_element": "sum(w**2) / N",
    "fan_scaled": "sum(w**2) * (n_in + n_out) / N",
}
"""Those of `penalties.FORMULAS`, in ASCII."""

WIDTH = 100
"""Columns of a comment."""

MOST_LEFT_OUT = 20
"""Weights without decay that the comments name; the JSON names all."""

MOST_COMMENT = 2000
"""Characters of one comment; a path may be long."""

TORCH_FORMATS = (
    *("safetensors", "shards", "torch zip", "torch legacy", "torch tar", "torch.export", "torch module", "pickle"),
    *("torch.distributed.checkpoint", "torch.distributed safetensors", "DeepSpeed"),
)
"""Formats whose names may be those of `model.named_parameters()`."""

_IMPORTS = """\
import re
from collections import Counter
from fnmatch import fnmatchcase
"""

_HEAD = '''\
def parameter_groups(named_parameters, weight_decay={DECAY}):
    """Groups for torch.optim, from all of model.named_parameters(): each parameter in one of them, tied ones once.

    A layer's decay is weight_decay times its decay multiplier, in the tables; what is in none of them (biases, norms,
    ...) is not decayed. ValueError where the model lacks what is in the tables.
    """
'''

_BODY = """\
    wrappers = re.compile(r"(^|\\.)(?:(?:{WRAPPERS})\\.)+")

    def key_of(name):
        name = tied.get(name, name)
        return name if name in names else next((glob for glob in patterns if fnmatchcase(name, glob)), None)

    parameters = {}
    for name, parameter in named_parameters:
        parameters.setdefault(id(parameter), (wrappers.sub(r"\\1", name), parameter))
    own = [name for name, _ in parameters.values()]
    while True:
        keys = [key_of(name) for name in own]
        counts = Counter(keys)
        missing = [name for name in names if not counts[name]]
        missing += [glob for glob, (_, count) in patterns.items() if counts[glob] != count]
        if not missing:
            break
        if not own or not all(name.startswith("module.") for name in own):
            raise ValueError(f"not the network of the checkpoint: its parameters do not fit {missing[:3]}")
        own = [name[len("module.") :] for name in own]  # of a DataParallel
    multipliers = names | {glob: multiplier for glob, (multiplier, _) in patterns.items()}
    groups = {}
    for key, (_, parameter) in zip(keys, parameters.values()):
        groups.setdefault(weight_decay * multipliers.get(key, 0.0), []).append(parameter)
        if key in names:
            multipliers[key] = 0.0  # another parameter in the same memory is decayed with it
    return [{"params": members, "weight_decay": decay} for decay, members in groups.items()]
"""


def as_json(groups: DecayGroups) -> str:
    """The groups as one JSON object in the schema `weightstats/groups/1`; names are escaped to ASCII."""
    return json.dumps(groups.to_dict(), allow_nan=False, indent=2) + "\n"


def as_torch(groups: DecayGroups) -> str:
    """A function that makes the groups for torch.optim, to paste into a training script: valid Python, in ASCII."""
    names: dict[str, str] = {}
    patterns: dict[str, str] = {}
    tied: dict[str, str] = {}
    for group in groups.groups:
        multiplier = repr(group.decay_multiplier)
        names |= {ascii(each.name): multiplier for each in group.names}
        tied |= {ascii(other): ascii(each.name) for each in group.names for other in each.tied_to}
        patterns |= {ascii(each.glob): f"({multiplier}, {len(each.names)})" for each in group.patterns}
    return "".join(
        (
            _IMPORTS,
            "\n",
            *(f"# {line}\n" for line in _comments(groups)),
            "\n\n",
            _HEAD.replace("{DECAY}", repr(groups.weight_decay)),
            _table("names", names),
            _table("patterns", patterns, "with the number of parameters that each stands for"),
            _table("tied", tied, "other names of parameters in the tables above"),
            _BODY.replace("{WRAPPERS}", "|".join(WRAPPER_PARTS[1:])),
        )
    )


def _table(name: str, entries: Mapping[str, str], what: str = "") -> str:
    """The assignment of a dict, given its keys and values as literals."""
    if not entries:
        return f"    {name} = {{}}\n"
    lines = "".join(f"        {key}: {value},\n" for key, value in entries.items())
    return f"    {name} = {{{f'  # {what}' if what else ''}\n{lines}    }}\n"


def _comments(groups: DecayGroups) -> Iterator[str]:
    """What the function is for, in lines."""
    title, formula = TITLES[groups.penalty], FORMULAS[groups.penalty]
    yield from _lines(f"weightstats {groups.version}: the {title} L2 penalty, lambda * {formula}, as weight decay.")
    yield from _lines(f"The network: {groups.location} ({groups.format})")
    if groups.dropped_from_names:
        yield from _lines(f"Dropped from its names: {', '.join(groups.dropped_from_names)}")
    if groups.format not in TORCH_FORMATS:
        yield from _lines(f"The names are those of the {groups.format} file: a torch module may have others.")
    yield from _lines(_scale(groups))
    yield from _lines(
        "SGD takes the same steps as with the penalty in the loss: weight_decay is 2 * lambda * the layer's factor. "
        "Adam does too, and rescales the decay with the gradient. AdamW decays apart from the gradient."
    )
    yield from _left_out(groups.left_out)


def _scale(groups: DecayGroups) -> str:
    """What the multipliers are, and lambda."""
    decay = f"weight_decay={groups.weight_decay!r}"
    if not groups.groups:
        return "There is nothing to decay."
    if not groups.equal_total:
        return f"A multiplier is the layer's factor itself. With {decay}, lambda is {groups.penalty_lambda!r}."
    equal = ", ".join(f"{TITLES[name]} {groups.equal_total_lambda[name]!r}" for name in PENALTIES)
    return (
        "The multipliers give the penalty the total that a plain one has on these weights. "
        f"Lambdas of equal total, with {decay}: {equal}."
    )


def _left_out(entries: Sequence[LeftOut]) -> Iterator[str]:
    if entries:
        yield "Not decayed:"
    for entry in entries[:MOST_LEFT_OUT]:
        yield from _lines(f"{printable(entry.name)}: {entry.because}", indent="  ")
    if len(entries) > MOST_LEFT_OUT:
        yield f"  and {len(entries) - MOST_LEFT_OUT:,} more, which --as json lists"


def _lines(text: str, indent: str = "") -> list[str]:
    """A text in lines that fit a comment: printable ASCII, so that none ends early."""
    safe = printable(text, MOST_COMMENT).encode("ascii", "backslashreplace").decode()
    return textwrap.wrap(safe, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
