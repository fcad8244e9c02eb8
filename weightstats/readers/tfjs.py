"""TensorFlow.js models: a JSON document with a weights manifest, whose groups each lie in one or more binary files.

Format: tfjs-core/src/io/types.ts (ModelJSON, WeightsManifestConfig) and the decoder in tfjs-core/src/io/io_utils.ts.
The topology is data: it says what each weight is used for. A manifest alone, as a list, is read too.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.json_values import distinct, parsed
from weightstats.dtypes import DTYPES, ByteOrder, Bytes, DType, Floats
from weightstats.errors import CheckpointError, TensorError, counted, quoted
from weightstats.limits import LIMITS, crowded, over
from weightstats.pieces import Concatenated
from weightstats.places import File, open_inside
from weightstats.schemas.keras_layers import Model, model_in
from weightstats.schemas.tensorflow_graph import Graph, Node, uses_in
from weightstats.schemas.tensorflow_layouts import use_of
from weightstats.schemas.trackable_objects import dotted
from weightstats.tensors import Storage, Tensor, make_tensor

FORMAT = "TF.js"
RECOGNISED_BY = "a JSON object with a weights manifest and a topology, or the manifest alone"
EXTRA = ""

DTYPE_NAMES = {
    "float32": "F32",
    "float16": "F16",
    "int32": "I32",
    "uint8": "U8",
    "uint16": "U16",
    "bool": "BOOL",
    "complex64": "C64",
}

FOLDED = "an export for inference: batch normalisations may have been folded into the weights before them"
QUANTISED = "quantised: measured are the rounded values that their codes stand for"

_MODEL = re.compile(rb'\s*\{\s*"(format|modelTopology|weightsManifest|generatedBy|convertedBy)"\s*:')
_MANIFEST = re.compile(rb'\s*\[\s*\{\s*"(weights|paths)"\s*:')

_Item = TypeVar("_Item")

_LENGTH_BYTES = 4
"""Before each text of a tensor of texts."""


def recognises(head: bytes, file: File) -> bool:
    """The first key of the document."""
    return _MODEL.match(head) is not None or _MANIFEST.match(head) is not None


def read(file: File) -> Checkpoint:
    """The weights of all groups, in the order of the manifest."""
    document = _document(file)
    groups = document if isinstance(document, list) else document.get("weightsManifest")
    if not isinstance(groups, list):
        _refuse(file, "has no weights manifest")
    found = _Weights(file)
    for group in groups:
        found.add_group(group)
    if found.unread and not found.tensors:
        _refuse(file, f"none of its weights can be read; the first, {found.unread[0].name}: {found.unread[0].reason}")
    nodes = _nodes(document) if isinstance(document, dict) else ()
    model = _keras_model(document) if isinstance(document, dict) else Model(None)
    uses = uses_in(Graph(nodes, {}), {("", name): tensor.shape for name, tensor in found.tensors.items()})
    tensors = tuple(
        replace(tensor, use=use_of(uses.get(("", name)), name, tensor.shape, model))
        for name, tensor in found.tensors.items()
    )
    quantised = sum(tensor.dtype.name not in DTYPES for tensor in tensors)
    warnings = [FOLDED] if nodes else []
    if quantised:
        warnings.append(f"{counted(quantised, 'tensor is', 'tensors are')} {QUANTISED}")
    return Checkpoint(
        file.location, FORMAT, found.size, tensors, tuple(found.unread), (), tuple(warnings), found.damage
    )


def _document(file: File) -> Any:
    if file.size > LIMITS.text_bytes:
        _refuse(file, f"is a JSON document of {file.size:,} bytes, {over('text_bytes')}")
    try:
        document = parsed(file.read(0, file.size), distinct)
    except ValueError as error:
        raise CheckpointError(file.location, f"is not valid JSON: {error}") from error
    if not isinstance(document, dict | list):
        _refuse(file, "is a JSON document that is neither an object nor a list")
    return document


class _Weights:
    """What the groups of a manifest hold."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.size = file.size
        self.tensors: dict[str, Tensor] = {}
        self.unread: list[Unread] = []
        self.damage: str | None = None
        self._shards: set[str] = set()
        self._names: set[str] = set()

    def add_group(self, group: Any) -> None:
        """The weights of one group, which follow each other in its files."""
        paths, weights = (group.get("paths"), group.get("weights")) if isinstance(group, dict) else (None, None)
        if paths is None or weights is None or not _is_list(paths, str) or not _is_list(weights, dict):
            _refuse(self.file, "a group of its weights manifest is malformed")
        data, problem = self._joined(paths)
        if too_many := crowded(len(self._names) + len(weights), self.size):
            _refuse(self.file, too_many)
        place = 0
        for weight in weights:
            name = weight.get("name")
            if not isinstance(name, str) or name in self._names:
                _refuse(self.file, f"has a weight without a name, or two of the name {quoted(name)}")
            self._names.add(name)
            shape, stored = _described(self.file, weight)
            if stored is None:
                place, reason = self._after_texts(data, place, math.prod(shape)), "holds text, not numbers"
                self.unread.append(Unread(dotted(name), problem or reason))
                continue
            size = math.prod(shape) * stored.width
            self._add(name, shape, stored, data, place, problem)
            place += size
        if data is not None and place != data.size:
            problem = f"describes {place:,} bytes of weights where the files of the group have {data.size:,}"
            if place < data.size:
                _refuse(self.file, problem)
            self.damage = self.damage or problem

    def _add(
        self, name: str, shape: tuple[int, ...], stored: DType, data: Storage | None, place: int, problem: str
    ) -> None:
        size = math.prod(shape) * stored.width
        if data is None or place + size > data.size:
            reason = f"ends at byte {place + size:,} of a group of {data.size:,}: it is truncated" if data else problem
            self.unread.append(Unread(dotted(name), reason))
            return
        try:
            storage = Storage(data.source, data.start + place, size)
            self.tensors[name] = make_tensor((dotted(name),), shape, stored, storage)
        except TensorError as error:
            self.unread.append(Unread(dotted(name), str(error)))

    def _joined(self, paths: Sequence[str]) -> tuple[Storage | None, str]:
        """The files of a group as one; else why there are none."""
        files = []
        for path in paths:
            if path in self._shards:
                _refuse(self.file, f"names the file {quoted(path)} twice")
            self._shards.add(path)
            try:
                files.append(open_inside(self.file.folder, path, self.file.location))
            except CheckpointError as error:
                if (self.file.folder / path).exists() or "outside" in error.problem or "cannot be" in error.problem:
                    raise
                return None, f"its file {quoted(path)} is not there"
        if not files:
            return None, "its group names no file"
        self.size += sum(file.size for file in files)
        source = Concatenated([Storage(file, 0, file.size) for file in files])
        return Storage(source, 0, source.size), ""

    def _after_texts(self, data: Storage | None, place: int, count: int) -> int:
        """The place after so many texts, each of which begins with its length."""
        if count > LIMITS.tensors:
            _refuse(self.file, f"has a tensor of {count:,} texts")
        for _ in range(count if data is not None else 0):
            length = bytearray(_LENGTH_BYTES)
            if data is None or place + _LENGTH_BYTES > data.size:
                _refuse(self.file, "is truncated: its files end in the middle of a text")
            data.source.read_into(place, memoryview(length))
            place += _LENGTH_BYTES + int.from_bytes(length, "little")
        return place


def _described(file: File, weight: dict[str, Any]) -> tuple[tuple[int, ...], DType | None]:
    """The shape of a weight, and what its numbers are; None for texts."""
    name, shape, dtype, quantised = (weight.get(key) for key in ("name", "shape", "dtype", "quantization"))
    if not _is_list(shape, int) or any(size < 0 or isinstance(size, bool) for size in shape):
        _refuse(file, f"the shape of {quoted(name)} is malformed")
    if len(shape) > LIMITS.header_rank:
        _refuse(file, f"{quoted(name)} has {len(shape):,} dimensions")
    if dtype == "string":
        return tuple(shape), None
    if not isinstance(dtype, str) or dtype not in DTYPE_NAMES:
        _refuse(file, f"the dtype of {quoted(name)} is {quoted(dtype)}, which is not one that can be read")
    if quantised is None:
        return tuple(shape), DTYPES[DTYPE_NAMES[dtype]]
    if not isinstance(quantised, dict) or quantised.get("dtype") not in ("uint8", "uint16", "float16"):
        _refuse(file, f"the quantization of {quoted(name)} is not one that can be read")
    if quantised["dtype"] == "float16":
        return tuple(shape), DTYPES["F16"]
    scale, least = quantised.get("scale"), quantised.get("min")
    if not _is_number(scale) or not _is_number(least):
        _refuse(file, f"the scale of {quoted(name)} is not a number")
    return tuple(shape), _scaled(DTYPES[DTYPE_NAMES[quantised["dtype"]]], scale, least, dtype == "int32")


def _scaled(stored: DType, scale: float, least: float, is_integer: bool) -> DType:
    """Numbers that stand for q * scale + least, rounded where they were integers."""

    def decode(raw: Bytes, order: ByteOrder, words: NDArray[np.uint32]) -> Floats:
        with np.errstate(over="ignore"):
            numbers = (stored.decode(raw, order, words) * scale + least).astype(np.float32)
        return np.rint(numbers) if is_integer else numbers

    return DType(f"{stored.name} scaled", "integer" if is_integer else "float", stored.width, decode)


def _nodes(document: dict[str, Any]) -> tuple[Node, ...]:
    """The nodes of a graph model's topology, as far as they are well formed."""
    topology = document.get("modelTopology")
    nodes = topology.get("node") if isinstance(topology, dict) else None
    found = []
    for node in nodes if _is_list(nodes, dict) else ():
        name, operator, inputs = node.get("name"), node.get("op"), node.get("input", [])
        if isinstance(name, str) and isinstance(operator, str) and _is_list(inputs, str):
            given = tuple(each.partition(":")[0] for each in inputs if not each.startswith("^"))
            found.append(Node("", name, operator, given, _truths(node.get("attr"))))
    return tuple(found)


def _keras_model(document: dict[str, Any]) -> Model:
    """The layers of a layers model, which Keras' configuration lists."""
    topology = document.get("modelTopology")
    config = topology.get("model_config", topology) if isinstance(topology, dict) else None
    try:
        return Model(model_in(json.dumps(config)))
    except (ValueError, RecursionError):
        return Model(None)


def _truths(attributes: Any) -> dict[str, Any]:
    """The attributes of a node that are true or false."""
    pairs = attributes.items() if isinstance(attributes, dict) else ()
    return {key: value["b"] for key, value in pairs if isinstance(value, dict) and isinstance(value.get("b"), bool)}


def _is_list(value: Any, kind: type[_Item]) -> TypeGuard[list[_Item]]:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse(file: File, problem: str) -> NoReturn:
    raise CheckpointError(file.location, problem)
