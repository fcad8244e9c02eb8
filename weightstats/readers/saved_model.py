"""TensorFlow SavedModels: a folder with `saved_model.pb` (graphs, which are data here) and `variables/`.

Messages: tensorflow/core/protobuf/saved_model.proto and meta_graph.proto; their fields are numbered here as they stand
there. A model without variables holds its weights as constants of its graph.
"""

from dataclasses import replace

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.protobuf import BYTES, DamageError, Field, fields, text
from weightstats.containers.small_messages import Steps
from weightstats.errors import CheckpointError, TensorError
from weightstats.places import File, Folder, open_inside
from weightstats.readers import tensorflow_checkpoint
from weightstats.schemas.graph_constants import constant, is_listed
from weightstats.schemas.tensor_bundle import read_bundle
from weightstats.schemas.tensorflow_graph import Graph, Node, read_graph, saved_keys, uses_in
from weightstats.schemas.tensorflow_layouts import combined, use_of
from weightstats.schemas.trackable_objects import dotted
from weightstats.tensors import Tensor

FORMAT = "TensorFlow SavedModel"
RECOGNISED_BY = "a folder with `saved_model.pb`, or that file"
EXTRA = ""

VARIABLES = {"VarHandleOp", "VariableV2", "Variable"}
"""Operators that stand for a variable."""

MODEL = "saved_model.pb"
VARIABLES_INDEX = "variables/variables.index"

SERVED = "serve"
"""The tag of the graph that is meant for use, where there are several."""

FOLDED = "the weights are constants of a frozen graph; batch normalisations may have been folded into them"
UNSEEN = "what the graph uses the variables for is not looked at: it {}"


def recognises_folder(folder: Folder) -> bool:
    """The name of the file that every SavedModel has."""
    return MODEL in folder.names


def read_folder(folder: Folder) -> Checkpoint:
    """The variables of the model, or the constants of its graph where it has no variables."""
    return replace(read(folder.open(MODEL)), location=folder.location)


def recognises(head: bytes, file: File) -> bool:
    """Version 1 of the schema, then a graph whose first field is a message: ONNX has a text at that place."""
    if head[:3] != b"\x08\x01\x12":
        return False
    length = 1 + next((place for place, byte in enumerate(head[3:13]) if byte < 0x80), 10)
    return head[3 + length : 4 + length] == b"\x0a"


def read(file: File) -> Checkpoint:
    """The same, for the file itself."""
    try:
        graphs = _meta_graphs(file)
    except DamageError as error:
        raise CheckpointError(file.location, f"the description of its graphs {error}") from error
    index = _variables(file)
    if index is not None:
        return _variable_checkpoint(file, index, graphs[0])
    try:
        graph = read_graph(file, graphs[0].start, graphs[0].start + graphs[0].size)
        checkpoint = constants_of(file, graph, FORMAT)
    except DamageError as error:
        raise CheckpointError(file.location, f"its graph {error}") from error
    if any(node.operator in VARIABLES for node in graph.nodes):
        return replace(checkpoint, damage=f"is without its variables: {VARIABLES_INDEX} is missing or empty")
    return checkpoint


def _meta_graphs(file: File) -> list[Field]:
    """Where the graphs lie, the one for use first; CheckpointError where there is none."""
    found: list[tuple[bool, Field]] = []
    steps = Steps()
    for meta in steps.of(fields(file, 0, file.size)):
        if meta.number != 2 or meta.wire != BYTES:
            continue
        tags: set[str] = set()
        graphs = []
        for part in steps.inside(file, meta):
            if part.number == 1 and part.wire == BYTES:
                tags.update(text(file, tag) for tag in steps.inside(file, part) if tag.number == 4)
            elif part.number == 2 and part.wire == BYTES:
                graphs.append(part)
        found += [(SERVED not in tags, part) for part in graphs]
    if not found:
        raise CheckpointError(file.location, "holds no graph")
    return [part for _, part in sorted(found, key=lambda pair: pair[0])]


def _variables(file: File) -> File | None:
    """The index of the model's variables; None where there are none."""
    if not (file.folder / VARIABLES_INDEX).exists():
        return None
    index = open_inside(file.folder, VARIABLES_INDEX, file.location)
    return index if read_bundle(index).tensors else None


def _variable_checkpoint(file: File, index: File, described: Field) -> Checkpoint:
    """The variables, with what the graph uses them for."""
    variables, keys = tensorflow_checkpoint.read_keyed(index)
    whole = replace(variables, location=file.location, format=FORMAT, bytes=variables.bytes + file.size)
    try:
        graph = read_graph(file, described.start, described.start + described.size)
        saved = saved_keys(file, graph)
    except DamageError as error:
        return replace(whole, warnings=(*whole.warnings, UNSEEN.format(error)))
    by_key = dict(zip(keys, whole.tensors, strict=True))
    uses = uses_in(graph, {value: by_key[key].shape for value, key in saved.items() if key in by_key})
    used = by_key | {
        saved[value]: replace(by_key[saved[value]], use=combined(use, by_key[saved[value]].use))
        for value, use in uses.items()
    }
    return replace(whole, tensors=tuple(used.values()))


def constants_of(file: File, graph: Graph, format_: str) -> Checkpoint:
    """The constants of a graph; those of its functions where it has none itself."""
    listed = [(node, value) for node in graph.nodes if (value := _value(file, node)) is not None]
    own = [pair for pair in listed if not pair[0].scope]
    tensors: dict[tuple[str, str], Tensor] = {}
    unread: list[Unread] = []
    for node, value in own or listed:
        path = (dotted(f"{node.scope}/{node.name}" if node.scope else node.name),)
        try:
            tensors[node.scope, node.name] = constant(file, path, value)
        except TensorError as error:
            unread.append(Unread(path[0], str(error)))
    uses = uses_in(graph, {key: tensor.shape for key, tensor in tensors.items()})
    used = tuple(replace(tensor, use=use_of(uses.get(key), key[1], tensor.shape)) for key, tensor in tensors.items())
    return Checkpoint(file.location, format_, file.size, used, tuple(unread), warnings=(FOLDED,))


def _value(file: File, node: Node) -> Field | None:
    """What a constant holds, where it is more than a size or a text."""
    value = node.attributes.get("value")
    return value if isinstance(value, Field) and is_listed(file, value) else None
