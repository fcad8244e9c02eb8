"""Constants of a TensorFlow graph as tensors, in place: a frozen graph holds its weights so.

Message: tensorflow/core/framework/tensor.proto; its fields are numbered here as they stand there.
"""

import itertools
import math

from weightstats.containers.protobuf import BYTES, Field, fields
from weightstats.containers.small_messages import Message, Steps
from weightstats.dtypes import DTYPES
from weightstats.errors import TensorError
from weightstats.places import File
from weightstats.schemas.tensor_bundle import DTYPE_NAMES, NOT_NUMBERS, read_shape
from weightstats.tensors import Storage, Tensor, make_tensor

CONTENT = 4
PACKED: dict[str, int] = {"F32": 5, "F64": 6, "C64": 9, "C128": 12}
"""Fields in which numbers of one width follow each other as they do in `tensor_content`."""


MOST_FIELDS = 1_000
"""Of a constant: more hold its numbers one by one."""


def is_listed(file: File, value: Field) -> bool:
    """Whether a constant is more than a size, an axis or a text of the graph's own."""
    dtype = 0
    for part in itertools.islice(fields(file, value.start, value.start + value.size), MOST_FIELDS):
        if part.number == 1:
            dtype = part.value
        if dtype in NOT_NUMBERS:
            return False
        if part.number == CONTENT and part.size:
            return True
    return DTYPE_NAMES.get(dtype, "?")[0] in "FBC?"


def constant(file: File, path: tuple[str, ...], value: Field) -> Tensor:
    """The tensor that a TensorProto describes; TensorError where it cannot be read."""
    parts = list(itertools.islice(fields(file, value.start, value.start + value.size), MOST_FIELDS + 1))
    if len(parts) > MOST_FIELDS:
        raise TensorError("its numbers are stored one by one, which is not read")
    dtype = next((part.value for part in parts if part.number == 1), 0)
    if dtype not in DTYPE_NAMES:
        raise TensorError(f"its type {dtype} is not one that can be read")
    name = DTYPE_NAMES[dtype]
    shape = _shape(file, parts)
    elements, width = math.prod(shape), DTYPES[name].width
    stored = [part for part in parts if part.wire == BYTES and part.number in (CONTENT, PACKED.get(name))]
    if len(stored) != 1:
        raise TensorError("its values are stored in no form that is read" if elements else "it has no values")
    storage = Storage(file, stored[0].start, stored[0].size)
    if stored[0].size == elements * width:
        return make_tensor(path, shape, name, storage)
    if stored[0].number != CONTENT and stored[0].size == width:
        return make_tensor(path, shape, name, storage, strides=(0,) * len(shape))  # one value for all elements
    raise TensorError(f"its shape needs {elements * width:,} bytes, it has {stored[0].size:,}")


def _shape(file: File, parts: list[Field]) -> tuple[int, ...]:
    described = next((part for part in parts if part.number == 2 and part.wire == BYTES), None)
    if described is None:
        return ()
    message = Message(file, described.start, described.size, Steps())
    shape = read_shape(message, described)
    if shape is None or any(size < 0 for size in shape):
        raise TensorError("has an unknown or negative size")
    return tuple(shape)
