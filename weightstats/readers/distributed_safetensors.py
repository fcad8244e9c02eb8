"""Folders of safetensors files that torch.distributed.checkpoint writes, one for each rank, with that rank's pieces.

Each file says in its metadata where its pieces lie in the whole: torch/distributed/checkpoint/hf_storage.py.
"""

import json
import re
from typing import Any

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.errors import CheckpointError, TensorError, shortened
from weightstats.order import in_network_order, natural_key
from weightstats.pieces import Box, put_together
from weightstats.places import File, Folder
from weightstats.readers import safetensors_file
from weightstats.tensors import Tensor

FORMAT = "torch.distributed safetensors"
RECOGNISED_BY = "a folder with shard-*-model-*.safetensors files"
EXTRA = ""

SHARD = re.compile(r"shard-\d+-model-\d+-of-\d+\.safetensors")

SHARDING = "DCP_SHARDING_INFO"
"""The key of the metadata under which JSON gives the offsets of each piece."""


def recognises_folder(folder: Folder) -> bool:
    """Names that only such a folder has, and none of whole tensors."""
    return any(map(SHARD.fullmatch, folder.names)) and "model.safetensors.index.json" not in folder.names


def read_folder(folder: Folder) -> Checkpoint:
    """The tensors, put together. CheckpointError where no file can be read; another costs what it has pieces of."""
    names = sorted(filter(SHARD.fullmatch, folder.names), key=natural_key)
    parts: list[tuple[Checkpoint, dict[str, Any]]] = []
    problems: list[str] = []
    for name in names:
        try:
            file = folder.open(name)
            parts.append((safetensors_file.read(file), _sharding(file)))
        except CheckpointError as error:
            problems.append(f"{name}: {error.problem}")
    if not parts:
        raise CheckpointError(folder.location, f"none of its files can be read; the first, {problems[0]}")
    tensors: list[Tensor] = []
    unread = [entry for part, _ in parts for entry in part.unread]
    for name, pieces in _pieces(parts).items():
        try:
            if problems:
                raise TensorError(f"a piece of it may lie in a file that cannot be read, {shortened(problems[0])}")
            tensors.append(_whole(name, pieces))
        except TensorError as error:
            unread.append(Unread(name, str(error)))
    return Checkpoint(
        location=folder.location,
        format=FORMAT,
        bytes=sum(part.bytes for part, _ in parts),
        tensors=in_network_order([tuple(tensors)]),
        unread=tuple(unread),
        warnings=(f"nothing says how many files there were: the shapes are those that these {len(parts):,} give",),
    )


def _sharding(file: File) -> dict[str, Any]:
    """What the header, which is known to be sound, says of the places of the pieces; {} where it says nothing."""
    length = int.from_bytes(file.read(0, 8), "little")
    metadata = json.loads(file.read(8, length)).get("__metadata__") or {}
    try:
        sharding = json.loads(metadata.get(SHARDING, "{}"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(file.location, f"its {SHARDING} is not valid JSON") from error
    return sharding if isinstance(sharding, dict) else {}


def _pieces(parts: list[tuple[Checkpoint, dict[str, Any]]]) -> dict[str, list[tuple[Any, Tensor]]]:
    """(what is said of its place, piece) for each piece of each tensor, by name."""
    pieces: dict[str, list[tuple[Any, Tensor]]] = {}
    for part, sharding in parts:
        for tensor in part.tensors:
            pieces.setdefault(tensor.name, []).append((sharding.get(tensor.name), tensor))
    return pieces


def _whole(name: str, pieces: list[tuple[Any, Tensor]]) -> Tensor:
    """The tensor of these pieces, as large as they reach."""
    boxes = [Box(_offsets(place, piece), piece.shape) for place, piece in pieces]
    ranks = {len(box.sizes) for box in boxes}
    if len(ranks) > 1:
        raise TensorError("its pieces have different numbers of dimensions")
    reach = zip(
        *([offset + size for offset, size in zip(box.offsets, box.sizes, strict=True)] for box in boxes), strict=True
    )
    return put_together(
        (name,), tuple(map(max, reach)), [(box, piece) for box, (_, piece) in zip(boxes, pieces, strict=True)]
    )


def _offsets(place: Any, piece: Tensor) -> tuple[int, ...]:
    """Where a piece begins; at the start where nothing is said. TensorError for what is no place."""
    offsets = place.get("saved_offsets") if isinstance(place, dict) else None if place else [0] * len(piece.shape)
    if not isinstance(offsets, list) or len(offsets) != len(piece.shape):
        raise TensorError("the place of one of its pieces is malformed")
    if any(type(offset) is not int or not 0 <= offset < 1 << 63 for offset in offsets):
        raise TensorError("the place of one of its pieces is malformed")
    return tuple(offsets)
