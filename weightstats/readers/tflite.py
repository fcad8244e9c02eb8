"""TFLite (LiteRT) models: one flatbuffer with the operators of a network and the buffers of its constants.

Schema: tensorflow/lite/schema/schema.fbs, version 3; fields are numbered here as they stand in it. No operator is run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.flatbuffer import Extent, Flatbuffer, Table
from weightstats.dtypes import DTYPES, affine
from weightstats.encodings import Encoding, encoded
from weightstats.errors import CheckpointError, TensorError, counted
from weightstats.limits import LIMITS, crowded, over
from weightstats.places import File
from weightstats.schemas.tflite_operators import OPERATORS, Operator, Place, Subgraph, Uses
from weightstats.tensors import Storage, Tensor, Use, make_tensor

FORMAT = "TFLite"
RECOGNISED_BY = "TFL3 at byte 4"
EXTRA = ""

ALIGNMENT = 4
"""Bytes; the schema asks for 16 (`force_align`), old converters kept to the width of a number."""

VERSION = 3

DTYPE_NAMES: dict[int, str] = {
    0: "F32", 1: "F16", 2: "I32", 3: "U8", 4: "I64", 6: "BOOL", 7: "I16", 8: "C64", 9: "I8", 10: "F64", 11: "C128",
    12: "U64", 15: "U32", 16: "U16", 18: "BF16",
}  # fmt: skip
"""The schema's TensorType, where an element is some bytes."""

INT4 = 17

NOT_NUMBERS = {5: "text", 13: "a resource", 14: "a variant"}

FOLDED = (
    "an export for inference: a batch normalisation that followed a layer is folded into its weights, which then are "
    "not those that were trained"
)
QUANTISED = "quantised: measured are the rounded values that their codes stand for"

_OUTSIDE = 2
"""The least offset of a buffer that lies behind the flatbuffer; 0 and 1 say that it lies in it."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor of the model whose values are stored."""

    place: Place
    name: str
    shape: tuple[int, ...]
    type: int
    values: Extent
    quantisation: Table | None
    is_sparse: bool


def recognises(head: bytes, file: File) -> bool:
    """The file identifier of the schema."""
    return head[4:8] == b"TFL3"


def read(file: File) -> Checkpoint:
    """The constants of the model, in the order in which its operators use them."""
    model = Flatbuffer(file).root()
    if (version := model.integer(0, "u32")) != VERSION:
        raise CheckpointError(file.location, f"is of version {version} of the TFLite schema, not {VERSION}")
    buffers = _buffers(model)
    subgraphs, constants = _subgraphs(model, buffers)
    _check_apart(file, [constant.values for constant in constants])
    uses = Uses(subgraphs)
    constants.sort(key=lambda constant: uses.order.get(constant.place, len(uses.order)))
    tensors: list[Tensor] = []
    unread: list[Unread] = []
    seen: dict[tuple[object, ...], Tensor] = {}
    for constant in constants:
        try:
            tensors.append(_tensor(file, constant, uses, seen))
        except TensorError as error:
            unread.append(Unread(constant.name, str(error)))
    quantised = sum(tensor.dtype.name not in DTYPES for tensor in tensors)
    warnings = (FOLDED, *([f"{counted(quantised, 'tensor is', 'tensors are')} {QUANTISED}"] if quantised else []))
    return Checkpoint(file.location, FORMAT, file.size, tuple(tensors), tuple(unread), warnings=warnings)


def _buffers(model: Table) -> list[Extent | None]:
    """Where the bytes of each buffer lie; None for an empty one."""
    file = model.buffer.file
    buffers: list[Extent | None] = []
    for table in model.tables(4):
        extent = table.extent(0)
        offset, size = table.integer(1, "u64"), table.integer(2, "u64")
        if offset >= _OUTSIDE:
            if extent is not None and extent.size:
                raise CheckpointError(file.location, f"buffer {len(buffers):,} is both in the flatbuffer and behind it")
            if offset + size > file.size:
                problem = f"buffer {len(buffers):,} ends at byte {offset + size:,} of {file.size:,}: it is truncated"
                raise CheckpointError(file.location, problem)
            extent = Extent(offset, size)
        buffers.append(extent if extent is not None and extent.size else None)
    return buffers


def _subgraphs(model: Table, buffers: Sequence[Extent | None]) -> tuple[list[Subgraph], list[Constant]]:
    """The subgraphs as the operators see them, and all their stored tensors."""
    names = [_operator_name(table) for table in model.tables(1)]
    subgraphs: list[Subgraph] = []
    constants: list[Constant] = []
    count = connected = 0
    for number, table in enumerate(model.tables(2)):
        shapes: list[tuple[int, ...]] = []
        for index, tensor in enumerate(table.tables(0)):
            count += 1
            if problem := crowded(count, model.buffer.file.size):
                raise model.buffer.damage(problem)
            shapes.append(tensor.integers(0))
            constant = _constant((number, index), table, tensor, shapes[-1], buffers)
            if constant is not None:
                constants.append(constant)
        operators = tuple(_operator(operator, names) for operator in table.tables(3))
        connected += sum(len(operator.inputs) for operator in operators)
        if connected > LIMITS.graph_inputs:
            raise model.buffer.damage(f"has operators of {connected:,} inputs, {over('graph_inputs')}")
        subgraphs.append(Subgraph(tuple(shapes), table.integers(1), operators))
    return subgraphs, constants


def _constant(
    place: Place, subgraph: Table, tensor: Table, shape: tuple[int, ...], buffers: Sequence[Extent | None]
) -> Constant | None:
    """The tensor, if its values are stored."""
    number = tensor.integer(2, "u32")
    if number >= len(buffers):
        raise tensor.buffer.damage(f"has a tensor in buffer {number:,} of {len(buffers):,}")
    values = buffers[number]
    if values is None:
        return None
    name = tensor.text(3) or f"tensor {place[1]}"
    if place[0] > 0:
        name = f"{subgraph.text(4) or f'subgraph {place[0]}'}/{name}"
    sparsity = tensor.table(6)
    return Constant(place, name, shape, tensor.integer(1, "i8"), values, tensor.table(4), sparsity is not None)


def _operator_name(table: Table) -> str:
    """Of an operator code, whose number once was a byte; a custom operator has a name of its own."""
    number = max(table.integer(0, "i8"), table.integer(3, "i32"))
    name = OPERATORS.get(number, "")
    return table.text(1) if name == "CUSTOM" else name


def _operator(table: Table, names: Sequence[str]) -> Operator:
    number = table.integer(0, "u32")
    if number >= len(names):
        raise table.buffer.damage(f"has an operator with code {number:,} of {len(names):,}")
    options = table.table(4) if table.integer(3, "u8") else None
    return Operator(names[number], table.integers(1), table.integers(2), options)


def _check_apart(file: File, extents: Sequence[Extent]) -> None:
    """CheckpointError where two buffers share some of their bytes and not all."""
    end, last = 0, Extent(0, 0)
    for extent in sorted(set(extents), key=lambda extent: (extent.start, extent.size)):
        if extent.start < end:
            raise CheckpointError(file.location, f"the buffers at bytes {last.start:,} and {extent.start:,} overlap")
        end, last = extent.start + extent.size, extent


def _tensor(file: File, constant: Constant, uses: Uses, seen: dict[tuple[object, ...], Tensor]) -> Tensor:
    """The numbers that a constant stands for; TensorError where they cannot be told. `seen` finds the tied ones."""
    if constant.type in NOT_NUMBERS:
        raise TensorError(f"holds {NOT_NUMBERS[constant.type]}, not numbers")
    if constant.type != INT4 and constant.type not in DTYPE_NAMES:
        raise TensorError(f"its type {constant.type} is not one that can be read")
    if constant.is_sparse:
        raise TensorError("is stored sparsely, without its zeros, which is not read")
    if uses.is_shuffled(constant.place):
        raise TensorError("is stored in an order for one kind of processor, which is not read")
    if any(size < 0 for size in constant.shape):
        raise TensorError("a size of it is negative")
    elements = math.prod(constant.shape)
    needed = -(-elements // 2) if constant.type == INT4 else elements * DTYPES[DTYPE_NAMES[constant.type]].width
    if needed != constant.values.size:
        raise TensorError(f"its shape needs {needed:,} bytes, its buffer has {constant.values.size:,}")
    if constant.values.size and constant.values.start % ALIGNMENT:
        raise TensorError(f"its buffer starts at byte {constant.values.start:,}, where the format does not place any")
    storage = Storage(file, constant.values.start, constant.values.size)
    scales, zero_points, axis = _scales(constant)
    key = (constant.values, constant.shape, constant.type, scales.tobytes(), zero_points.tobytes(), axis)
    if key not in seen:
        seen[key] = _made(constant, storage, uses.of(constant.place), scales, zero_points, axis)
    return replace(seen[key], path=(constant.name,))


def _scales(constant: Constant) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
    """Scales and zero points, none where the numbers are stored as they are, and the dimension that they go along."""
    table = constant.quantisation
    none = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    if table is None or DTYPE_NAMES.get(constant.type, "I4")[0] not in "IU":
        return none
    if table.integer(4, "u8"):
        raise TensorError("is quantised by blocks or in a way of its own, which is not read")
    scales, zero_points = table.numbers(2, "f4").astype(np.float32), table.numbers(3, "i8").astype(np.int64)
    if not scales.any() and DTYPE_NAMES.get(constant.type) in ("I32", "I64"):
        return none  # sizes and places, which converters gave an empty scale of 0
    axis = table.integer(6, "i32") if scales.size > 1 else 0
    if not scales.size:
        return none
    if scales.size > 1 and (not 0 <= axis < len(constant.shape) or constant.shape[axis] != scales.size):
        raise TensorError(f"has {scales.size:,} scales, which is not its size along dimension {axis}")
    if zero_points.size not in (0, scales.size):
        raise TensorError(f"has {scales.size:,} scales and {zero_points.size:,} zero points")
    if not np.isfinite(scales).all() or not (scales > 0).all():
        raise TensorError("a scale of it is not a positive number")
    return scales, zero_points if zero_points.size else np.zeros(scales.size, np.int64), axis


def _made(
    constant: Constant,
    storage: Storage,
    use: Use | None,
    scales: NDArray[np.float32],
    zero_points: NDArray[np.int64],
    axis: int,
) -> Tensor:
    path, shape, stored = (constant.name,), constant.shape, DTYPE_NAMES.get(constant.type, "I4")
    if stored == "I4":
        ones = (scales, zero_points) if scales.size else (np.ones(1, np.float32), np.zeros(1, np.int64))
        name = "I4 scaled" if scales.size else "I4"
        return encoded(path, shape, _rescaled(name, *ones, _run(shape, axis, scales), 2), storage, use)
    if not scales.size:
        return make_tensor(path, shape, stored, storage, use=use)
    name = f"{stored} scaled"
    if scales.size == 1:
        dtype = affine(name, stored, float(scales[0]), int(zero_points[0]))
        return make_tensor(path, shape, dtype, storage, use=use)
    return encoded(path, shape, _rescaled(name, scales, zero_points, _run(shape, axis, scales), 1), storage, use)


def _run(shape: tuple[int, ...], axis: int, scales: NDArray[np.float32]) -> int:
    """How many elements follow each other before the next scale counts."""
    return max(1, math.prod(shape[axis + 1 :] if scales.size > 1 else shape))


def _rescaled(
    name: str, scales: NDArray[np.float32], zero_points: NDArray[np.int64], run: int, in_a_byte: int
) -> Encoding:
    """Integers with a scale and a zero point for each `run` of elements, over and over; one or two in a byte."""
    stored = name.split()[0]
    width = 1 if in_a_byte == 2 else DTYPES[stored].width

    def decode(raw: NDArray[np.uint8], first: int) -> NDArray[np.float32]:
        numbers = _nibbles(raw) if in_a_byte == 2 else raw.reshape(-1).view(f"<{stored[0].lower()}{width}")
        begin = first * in_a_byte
        runs = np.arange(begin // run, -(-(begin + numbers.size) // run))
        lengths = np.minimum((runs + 1) * run, begin + numbers.size) - np.maximum(runs * run, begin)
        channel = np.repeat(runs % scales.size, lengths)
        restored = (numbers - zero_points[channel]) * scales[channel].astype(np.float64)
        return restored.astype(np.float32).reshape(-1, in_a_byte)

    return Encoding(name, in_a_byte, width, decode)


def _nibbles(raw: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Signed four-bit integers, the lower half of each byte first."""
    halves = np.stack([raw.reshape(-1) << 4, raw.reshape(-1) & 0xF0], axis=-1).view(np.int8) >> 4
    return halves.reshape(-1)
