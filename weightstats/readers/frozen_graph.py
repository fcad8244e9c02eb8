"""Frozen TensorFlow graphs: one GraphDef whose constants are the weights.

Message: tensorflow/core/framework/graph.proto. Nothing of the graph is run.
"""

import re

from weightstats.checkpoint import Checkpoint
from weightstats.containers.protobuf import DamageError
from weightstats.errors import CheckpointError
from weightstats.places import File
from weightstats.readers.saved_model import constants_of
from weightstats.schemas.tensorflow_graph import read_graph

FORMAT = "TensorFlow frozen graph"
RECOGNISED_BY = "a GraphDef that begins with a node of a name and an operator"
EXTRA = ""

_FIRST_NODE = re.compile(rb"\n(?:[\x80-\xff]{0,4}[\x00-\x7f])\n([\x01-\x7f])([ -~]+)", re.DOTALL)
_OPERATOR = re.compile(rb"\x12([\x02-\x7f])(_?[A-Z][A-Za-z0-9_]+)")


def recognises(head: bytes, file: File) -> bool:
    """A message whose first field is one of a name and the name of an operator."""
    match = _FIRST_NODE.match(head)
    if match is None:
        return False
    end = match.start(2) + match[1][0]
    operator = _OPERATOR.match(head, end)
    return operator is not None and len(operator[2]) >= operator[1][0]


def read(file: File) -> Checkpoint:
    """The constants of the graph."""
    try:
        return constants_of(file, read_graph(file, 0, file.size), FORMAT)
    except DamageError as error:
        raise CheckpointError(file.location, f"the graph {error}") from error
