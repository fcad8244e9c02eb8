"""One `.onnx` file, with the files beside it that it names. Format: https://onnx.ai, `onnx/onnx.proto`.

The `onnx` library loads a whole model into memory and stops at 2 GB; here the weights stay where they are.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers import protobuf
from weightstats.containers.protobuf import DamageError
from weightstats.encodings import Encoding, encoded
from weightstats.errors import CheckpointError, TensorError
from weightstats.pieces import Held
from weightstats.places import File
from weightstats.schemas.onnx_data import Companions, Range, data_in, overlapping
from weightstats.schemas.onnx_graph import Found, order_of, uses_of
from weightstats.schemas.onnx_messages import read_model
from weightstats.schemas.onnx_operators import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS
from weightstats.schemas.onnx_records import Model, Stored
from weightstats.schemas.onnx_types import (
    DTYPE_NAMES,
    PACKED_IN_BYTES,
    PACKINGS,
    Elements,
    bytes_of,
    in_blocks,
    is_integer,
    packed,
    runs_along,
    scaled,
)
from weightstats.schemas.onnx_values import Scaled
from weightstats.tensors import Storage, Tensor, Use, make_tensor

FORMAT = "ONNX"
RECOGNISED_BY = "a protocol buffer with the fields of an ONNX model"
EXTRA = ""

_WIRES = {
    **dict.fromkeys((1, 5), protobuf.VARINT),
    **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), protobuf.BYTES),
}
"""The fields of a ModelProto, each with its wire type."""

_IR_VERSION, _PRODUCER_NAME, _GRAPH, _OPERATOR_SET = 1, 2, 7, 8
_TELLING = (_PRODUCER_NAME, _OPERATOR_SET)
_MOST_VERSION = 100
"""There have been about 15 since 2017."""

_OPERATOR_SET_WIRES = {1: protobuf.BYTES, 2: protobuf.VARINT}
_FEW = 64
_LONG = 4096
_MOST_HELD = 1 << 20
_MOST_AXES = 64
_WHOLE = {6: "<i4", 7: "<i8"}
_LAYERS = frozenset((*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS, "Gemm", "FusedGemm", "QGemm"))
_FOLDED = "exported for inference; batch norm, if the network had any, may be folded into the weights"
UNFOLLOWED = "its functions call each other too often to follow: some kinds of layers come from names and shapes alone"
_OPTIMIZER = "training_info of the optimizer"


def recognises(head: bytes, file: File) -> bool:
    """A version, then fields of a model only, a graph among them; the file may end too early."""
    if head[:1] != b"\x08":
        return False
    seen: list[int] = []
    try:
        for part in islice(protobuf.fields(file, 0, file.size), _FEW):
            if _WIRES.get(part.number) != part.wire or (part.number == _IR_VERSION and part.value > _MOST_VERSION):
                return False
            if part.number in _TELLING and not _tells(file, part):
                return False
            seen.append(part.number)
    except DamageError:
        return any(number in seen for number in _TELLING)
    return _GRAPH in seen


def _tells(file: File, part: protobuf.Field) -> bool:
    """Whether a field holds what it does in a model: the name of a program, or of a set of operators with a version."""
    if part.size > _LONG:
        return False
    if part.number == _PRODUCER_NAME:
        return protobuf.text(file, part).isprintable()
    held = {inner.number: inner for inner in protobuf.fields(file, part.start, part.start + part.size)}
    return {number: inner.wire for number, inner in held.items()}.items() <= _OPERATOR_SET_WIRES.items()


def read(file: File) -> Checkpoint:
    """The tensors of the model, in the order in which its operators use them. CheckpointError for a damaged file."""
    try:
        model = read_model(file)
    except DamageError as error:
        raise CheckpointError(file.location, f"is a damaged ONNX file: it {error}") from error
    return _Reading(file, model).checkpoint()


class _Reading:
    """Makes the tensors of one model."""

    def __init__(self, file: File, model: Model) -> None:
        self.file, self.model = file, model
        self.companions = Companions(file)
        self.unread: list[Unread] = []
        self.places: dict[Stored, Storage] = {}
        self.shared: dict[tuple[object, ...], Tensor] = {}

    def checkpoint(self) -> Checkpoint:
        stored, training = self.model.stored, self.model.training
        self._place([*stored, *training], Counter(map(_label, stored)) | Counter(map(_label, training)))
        uses = uses_of(self.model, self._integers)
        tensors = [self._made((t.label,), t, uses.found.get(t)) for t in order_of(stored, uses.found)]
        tensors += [self._made((_OPTIMIZER, tensor.label), tensor, None) for tensor in training]
        return Checkpoint(
            self.file.location,
            FORMAT,
            self.file.size + self.companions.bytes,
            tuple(tensor for tensor in tensors if tensor is not None),
            tuple(self.unread),
            warnings=tuple(_warnings(uses.operators, is_complete=uses.is_complete)),
        )

    def _place(self, stored: list[Stored], labels: Counter[str]) -> None:
        """Find the bytes of every tensor; what cannot be found is unread."""
        ranges: list[tuple[Stored, Range]] = []
        for tensor in stored:
            try:
                if labels[tensor.label] > 1:
                    raise TensorError("another tensor has its name")
                if tensor.problem:
                    raise TensorError(tensor.problem)
                if tensor.external is not None:
                    ranges.append((tensor, self.companions.range_of(tensor, _bytes_needed(tensor))))
                else:
                    self.places[tensor] = self._inside(tensor)
            except TensorError as error:
                self.unread.append(Unread(tensor.label, str(error)))
        unclear = overlapping(ranges)
        for tensor, place in ranges:
            if tensor in unclear:
                self.unread.append(Unread(tensor.label, "another tensor is said to have some of its bytes"))
            else:
                self.places[tensor] = Storage(place.companion, place.start, place.size)

    def _inside(self, tensor: Stored) -> Storage:
        """Where a tensor's bytes are in the model; TensorError where they are not as many as it says."""
        needed = _bytes_needed(tensor)
        found = [data_in(self.file, number, data, tensor.type) for number, data in tensor.data.items()]
        storage = found[0] if found else Storage(self.file, 0, 0)
        if tensor.shape is not None and storage.size != needed:
            raise TensorError(f"its type and shape take {needed:,} bytes, and its data has {storage.size:,}")
        return storage

    def _made(self, path: tuple[str, ...], stored: Stored, found: Found | None) -> Tensor | None:
        storage = self.places.get(stored)
        if storage is None:
            return None
        scale = found and found.scaled
        key = (id(storage.source), storage.start, storage.size, stored.type, stored.shape, scale)
        try:
            tensor = self.shared.get(key) if storage.size else None
            if tensor is None:
                tensor = self.shared[key] = self._tensor(path, stored, storage, found)
        except TensorError as error:
            self.unread.append(Unread(stored.label, str(error)))
            return None
        return replace(tensor, path=path, use=_use(found, tensor))

    def _tensor(self, path: tuple[str, ...], stored: Stored, storage: Storage, found: Found | None) -> Tensor:
        kind = stored.type
        shape = (storage.size // bytes_of(kind, 1),) if stored.shape is None else stored.shape
        if found is not None and found.scaled is not None and found.use is not None:
            outputs_and_inputs = found.scaled.packed[:2] if found.scaled.packed else shape
            return encoded(path, outputs_and_inputs, self._scaled(kind, shape, found.scaled), storage)
        if kind not in PACKINGS:
            return make_tensor(path, shape, DTYPE_NAMES[kind], storage)
        tensor = encoded(path, shape, packed(kind), storage)
        return replace(tensor, dtype=replace(tensor.dtype, kind="integer")) if is_integer(kind) else tensor

    def _scaled(self, kind: int, shape: tuple[int, ...], scale: Scaled) -> Encoding:
        scales = self._elements(scale.scale, "scale")
        zero_points = self._elements(scale.zero_point, "zero point") if scale.zero_point else None
        if scale.packed is not None:
            *sizes, bits = scale.packed
            if kind != PACKED_IN_BYTES[8] or math.prod(sizes) * bits != math.prod(shape) * 8:
                raise TensorError("its shape is not the one that its operator names")
            return in_blocks((sizes[0], sizes[1]), bits, scale.block, scales, zero_points)
        if zero_points is not None and zero_points.count != scales.count:
            raise TensorError(f"it has {scales.count:,} scales and {zero_points.count:,} zero points")
        return scaled(kind, runs_along(shape, scale.axis, scale.block, scale.scale.shape or ()), scales, zero_points)

    def _elements(self, stored: Stored, what: str) -> Elements:
        """A tensor that another one needs; in memory where it can only be read from front to back."""
        storage = self.places.get(stored)
        if storage is None or stored.shape is None:
            raise TensorError(f"its {what} cannot be read")
        if storage.source.sequential:
            if storage.size > _MOST_HELD:
                raise TensorError(f"its {what}s are numbers of variable length, more of them than can be held")
            content = bytearray(storage.size)
            storage.source.reader().read_into(storage.start, memoryview(content))
            storage = Storage(Held(self.file.location, bytes(content)), 0, storage.size)
        return Elements(stored.type, math.prod(stored.shape), storage)

    def _integers(self, stored: Stored) -> tuple[int, ...] | None:
        """The elements of a small tensor of whole numbers, which shapes and axes are."""
        storage = self.places.get(stored)
        if storage is None or stored.type not in _WHOLE or storage.size > _MOST_AXES * 8:
            return None
        content = bytearray(storage.size)
        try:
            storage.source.reader().read_into(storage.start, memoryview(content))
        except CheckpointError:
            return None
        return tuple(np.frombuffer(content, _WHOLE[stored.type]).tolist())


def _label(tensor: Stored) -> str:
    return tensor.label


def _use(found: Found | None, tensor: Tensor) -> Use | None:
    """What a tensor is used for; nothing of whole numbers that are weights, but of unknown scale."""
    use = found.use if found else None
    return None if use is not None and use.axes and tensor.dtype.kind in ("integer", "bool") else use


def _bytes_needed(tensor: Stored) -> int:
    """By its type and shape; at least, for a list."""
    shape = (0,) if tensor.shape is None else tensor.shape
    if any(size < 0 for size in shape):
        raise TensorError("its size is negative")
    return bytes_of(tensor.type, math.prod(shape))


def _warnings(operators: frozenset[str], *, is_complete: bool) -> Iterator[str]:
    if operators & _LAYERS and "BatchNormalization" not in operators:
        yield _FOLDED
    if not is_complete:
        yield UNFOLLOWED
