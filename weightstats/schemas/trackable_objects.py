"""What TensorFlow's objects call the variables of a checkpoint, and which of them belong to an optimizer.

Messages: tensorflow/core/protobuf/trackable_object_graph.proto; their fields are numbered here as they stand there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from weightstats.containers.protobuf import BYTES, DamageError, fields
from weightstats.containers.small_messages import Message, Steps
from weightstats.errors import CheckpointError
from weightstats.limits import LIMITS, over
from weightstats.places import File

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
SLOT = "/.OPTIMIZER_SLOT/"

BOOKKEEPING = re.compile(rf"^{GRAPH_KEY}$|/\.ATTRIBUTES/OBJECT_CONFIG_JSON$")
"""Texts beside the variables that describe objects."""

OPTIMIZER = re.compile(r"^opt$|optimizer", re.IGNORECASE)
"""The name under which an object keeps its optimizer: tf.train.Checkpoint's guide, Keras."""

OPTIMIZER_LEAF = re.compile(r"(^|/)beta[12]_power(_\d+)?$")
"""Variables of TensorFlow 1's Adam that belong to no other variable."""

SLOT_SUFFIX = re.compile(
    r"/(Adam|Momentum|RMSProp|Adagrad|Adadelta|Ftrl|AdaMax|AdamWeightDecay|LAMB)\w*$"  # tf.train and contrib in 1.x
    r"|/(adam|lamb)_[mv]$"  # google-research/bert, albert
    r"|_slot_v[rc]?$|_slot_m$"  # mesh-tensorflow's Adafactor, T5
)
"""The slots of TensorFlow 1: a variable's name, then the optimizer's."""

AVERAGE_SUFFIX = "/ExponentialMovingAverage"

METRICS = re.compile(r"^(keras_api/metrics|metrics)/")

COUNTERS = re.compile(r"(^|/)(save_counter|global_step|step|epoch|iter|iterations)$")
"""Counters of a training run: tf.train.Checkpoint, tf.train.get_or_create_global_step, the guides."""

POSITIONS = re.compile(r"(^|/)((layer|layer_with_weights)-\d+|(_?(layers|operations)|_?(\w+_)?variables)/\d+)(/|$)")
"""Keys that count layers or variables, whose own names say more: Keras and tf.Module."""

TRAINED = re.compile(r"(^|/)_trainable_variables/\d+$")
"""Keras 3's optimizer holds on to the variables that it trains, which in a checkpoint of both are found there first."""

COPY, ORIGINAL = re.compile(r"^variables/\d+$"), re.compile(r"^_all_variables/\d+$")
"""Keras 3's `Model.export` stores every variable twice."""

_MOST_SCOPES = 3
"""Scopes around an optimizer that may stand before the name of a variable in that of its slot."""


@dataclass(frozen=True, slots=True)
class Variable:
    """What the object graph says of the value under one key."""

    full_name: str
    is_slot: bool


def read_objects(file: File, start: int, end: int) -> dict[str, Variable]:
    """The variables of an object graph by their keys; CheckpointError where it is damaged."""
    if end - start > LIMITS.text_bytes:
        raise CheckpointError(file.location, f"has an object graph of {end - start:,} bytes, {over('text_bytes')}")
    try:
        return _variables(file, start, end)
    except DamageError as error:
        raise CheckpointError(file.location, f"its object graph {error}") from error


def _variables(file: File, start: int, end: int) -> dict[str, Variable]:
    slots: set[int] = set()
    found: list[tuple[int, str, str]] = []
    steps = Steps()
    nodes = (field for field in steps.of(fields(file, start, end)) if field.number == 1 and field.wire == BYTES)
    for number, node in enumerate(nodes):
        message = Message(file, node.start, node.size, steps)
        for part in message.inner(node):
            if part.number == 2 and part.wire == BYTES:
                texts = {inner.number: message.text(inner) for inner in message.inner(part) if inner.number in (2, 3)}
                found.append((number, texts.get(3, ""), texts.get(2, "")))
            elif part.number == 3 and part.wire == BYTES:
                slots.update(inner.value for inner in message.inner(part) if inner.number == 3)
    return {key: Variable(full_name, number in slots) for number, key, full_name in found if key}


def paths(keys: Sequence[str], objects: dict[str, Variable]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """The path and the name of each variable, by its key.

    Optimizer state, training state and averages lie each under a key of their own. A variable's own name takes the
    place of a key that only counts layers.
    """
    names = {key: key.removesuffix(VALUE_SUFFIX) for key in keys}
    known = set(names.values())
    full = {key: objects[key].full_name for key in keys if key in objects and objects[key].full_name}
    originals = {full[key] for key in full if ORIGINAL.match(names[key])}
    kinds = {key: _kind(key, name, known, objects.get(key)) for key, name in names.items()}
    kinds |= {key: "copies" for key in full if COPY.match(names[key]) and full[key] in originals}
    network = [key for key in keys if kinds[key] == "model"]
    own = {key: full[key] for key in network if key in full}
    if len(set(own.values())) == len(network) and any(POSITIONS.search(names[key]) for key in network):
        names |= own
    is_apart = bool(network) and not {"ema", "copies"}.isdisjoint(kinds.values())
    bare = (() if is_apart else ("model",)) + (() if network else ("ema",))
    shown = {key: dotted(_shown(kinds[key], names[key])) for key in keys}
    return {key: (*(() if kinds[key] in bare else (kinds[key],)), shown[key]) for key in keys}, names


def dotted(name: str) -> str:
    """A name with its parts set apart as in every other format."""
    return name.replace("/", ".")


def _shown(kind: str, name: str) -> str:
    """A name without the part that its kind repeats."""
    return name.removeprefix("keras_api/").removeprefix(f"{kind}/")


def _kind(key: str, name: str, known: set[str], variable: Variable | None) -> str:
    """Of what a variable is a part."""
    if TRAINED.search(name):
        return "model"
    optimizers = (SLOT in name, variable is not None and variable.is_slot, OPTIMIZER.search(name.split("/")[0]))
    if any(optimizers) or OPTIMIZER_LEAF.search(name) or _has_base(name, SLOT_SUFFIX.search(name), known):
        return "optimizer"
    if METRICS.match(name):
        return "metrics"
    if COUNTERS.search(name):
        return "training_step"
    if name.endswith(AVERAGE_SUFFIX):
        return "ema" if name.removesuffix(AVERAGE_SUFFIX) in known else "model"
    return "model"


def _has_base(name: str, suffix: re.Match[str] | None, known: set[str]) -> bool:
    """Whether the variable whose slot it would be is there too, perhaps without the scope of the optimizer."""
    if suffix is None:
        return False
    base = name[: suffix.start()].split("/")
    return any("/".join(base[scopes:]) in known for scopes in range(min(_MOST_SCOPES, len(base))))
