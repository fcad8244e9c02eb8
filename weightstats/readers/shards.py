"""Checkpoints of several files: an `*.index.json` that names its shards, and folders as the Hugging Face hub lays out.

Index: {"metadata": {...}, "weight_map": {tensor name: file name}}; transformers, `save_pretrained`.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.json_values import distinct, parsed
from weightstats.errors import CheckpointError, counted, led_by, shortened
from weightstats.limits import LIMITS, over
from weightstats.order import in_network_order, natural_key
from weightstats.places import File, Folder, open_file, open_inside
from weightstats.readers import safetensors_file
from weightstats.tensors import Tensor

FORMAT = "shards"
RECOGNISED_BY = 'a JSON object with a "weight_map"'
EXTRA = ""

PREFERRED = (
    "model.safetensors.index.json",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "adapter_model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
    "adapter_model.bin",
    "flax_model.msgpack",
    "tf_model.h5",
    "model.weights.h5",
    "model.onnx",
    "model.json",
)
"""Names that the Hugging Face libraries give a folder's weights, in the order in which they look for them."""

SUFFIXES = (
    *(".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pt2", ".jit", ".gguf", ".onnx", ".h5", ".hdf5", ".keras"),
    *(".tflite", ".pb", ".joblib", ".npz", ".npy", ".msgpack", ".eqx"),
)
"""Names worth a look in a folder that has none of the preferred ones; the content still decides."""

NOT_WEIGHTS = re.compile(r"optimizer|scheduler|rng_state|training_args|scaler|random_states|tokenizer|vocab")
"""Files that trainers write beside the weights: transformers' Trainer and accelerate."""

_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d+)-of-(?P<count>\d+)(?P<suffix>\.\w+)")


@dataclass(frozen=True, slots=True)
class Shards:
    """The files of one checkpoint, and where its index says each tensor is."""

    folder: Path
    names: tuple[str, ...]
    weight_map: dict[str, str]
    """Tensor name to file name; empty where there is no index."""


def is_index(file: File) -> bool:
    """Whether the file starts like a JSON object and names itself an index or holds a weight map."""
    head = file.read(0, min(file.size, 4096))
    if int.from_bytes(head[:8], "little") < file.size:
        return False  # the brace is part of the length of a safetensors header: as text, eight bytes are far more
    return head.lstrip().startswith(b"{") and (b'"weight_map"' in head or file.location.endswith(".index.json"))


def in_folder(folder: Folder) -> tuple[File | None, Shards]:
    """The index of a folder, if it has one, and the files that are its checkpoint.

    The names that the hub's libraries use come first; else the folder must hold one file, or one complete set of
    numbered shards, that could be weights. CheckpointError where there is nothing, or more than one choice.
    """
    names, location = folder.names, folder.location
    present = set(names)
    for name in PREFERRED:
        if name in present and name.endswith(".index.json"):
            index = open_file(folder.path / name)
            return index, named_by(index, folder.path)
        if name in present:
            return None, Shards(folder.path, (name,), {})
    indices = [name for name in names if name.endswith(".index.json")]
    if len(indices) == 1:
        index = open_file(folder.path / indices[0])
        return index, named_by(index, folder.path)
    weights = [name for name in names if name.lower().endswith(SUFFIXES) and not NOT_WEIGHTS.search(name.lower())]
    sets = {(match["stem"], match["count"], match["suffix"]) for name in weights if (match := _SHARD.fullmatch(name))}
    if len(weights) == 1 or (len(sets) == 1 and all(_SHARD.fullmatch(name) for name in weights)):
        _check_number(location, weights)
        return None, Shards(folder.path, tuple(sorted(weights, key=natural_key)), {})
    if not weights:
        raise CheckpointError(location, _nothing_in(folder.path, names))
    shown = ", ".join(weights[:5]) + (f" and {len(weights) - 5} more" if len(weights) > 5 else "")
    raise CheckpointError(location, f"holds several checkpoints; name one of them: {shown}")


def _nothing_in(folder: Path, names: Sequence[str]) -> str:
    for name in names[:1000]:
        inside = folder / name
        if inside.is_dir() and any((inside / preferred).exists() for preferred in PREFERRED):
            return f"holds no checkpoint itself; there is one in its folder {name}"
    kinds = f"{len(names):,} other entries" if names else "nothing"
    return f"is a folder with no checkpoint in it ({kinds}; looked for {', '.join(SUFFIXES)})"


def named_by(index: File, folder: Path) -> Shards:
    """The shards that an index names. CheckpointError where it is not an index."""
    if index.size > LIMITS.index_bytes:
        raise CheckpointError(index.location, f"is an index of {index.size:,} bytes, {over('index_bytes')}")
    try:
        content = parsed(index.read(0, index.size), distinct)
    except ValueError as error:
        raise CheckpointError(index.location, f"its JSON cannot be read: {shortened(str(error))}") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(index.location, 'is not a shard index: it has no "weight_map" of tensor to file names')
    if not weight_map:
        raise CheckpointError(index.location, "is a shard index that names no tensor")
    if len(weight_map) > LIMITS.tensors:
        raise CheckpointError(index.location, f"names {len(weight_map):,} tensors, {over('tensors')}")
    names = set(weight_map.values())
    _check_number(index.location, names)
    return Shards(folder, tuple(sorted(names, key=natural_key)), weight_map)


def _check_number(location: str, names: Collection[str]) -> None:
    if len(names) > LIMITS.shards:
        raise CheckpointError(location, f"has {len(names):,} shards, {over('shards')}")


def read(index: File | None, shards: Shards, location: str, read_file: Callable[[File], Checkpoint]) -> Checkpoint:
    """The shards put together. A shard that is missing or damaged costs its own tensors only, each named as unread."""
    parts: list[Checkpoint] = []
    places: dict[str, str] = {}
    unread: list[Unread] = []
    problems: list[str] = []
    tensors_of: dict[str, list[str]] = {}
    for tensor, name in shards.weight_map.items():
        tensors_of.setdefault(name, []).append(tensor)
    for name in shards.names:
        try:
            parts.append(read_file(open_inside(shards.folder, name, location)))
            places |= {tensor.name: name for tensor in parts[-1].tensors}
        except CheckpointError as error:
            problems.append(f"{name}: {error.problem}")
            unread.extend(Unread(tensor, f"its shard {name}: {error.problem}") for tensor in tensors_of.get(name, ()))
    if not parts:
        raise CheckpointError(location, f"none of its files can be read; the first, {problems[0]}")
    kept, doubles = _without_repeats(parts)
    sorts = all(part.format == safetensors_file.FORMAT for part in parts) and any(len(part) > 1 for part in kept)
    tensors = in_network_order(kept) if sorts else tuple(tensor for part in kept for tensor in part)
    unread += doubles
    known = {tensor.name for tensor in tensors} | {tensor.name for part in parts for tensor in part.unread}
    listed = {entry.name for entry in unread}
    unread += [
        Unread(tensor, f"the index places it in {file}, which does not hold it")
        for tensor, file in shards.weight_map.items()
        if tensor not in known and tensor not in listed
    ]
    warnings = [warning for part in parts for warning in part.warnings] + _incomplete(shards.names)
    extra = [tensor.name for tensor in tensors if shards.weight_map and tensor.name not in shards.weight_map]
    if extra:
        warnings.append(
            f"{counted(len(extra), 'tensor is', 'tensors are')} in the shards but not in the index: {led_by(extra)}"
        )
    moved = [name for name, file in shards.weight_map.items() if places.get(name, file) != file]
    if moved:
        warnings.append(
            f"{counted(len(moved), 'tensor is', 'tensors are')} in another shard than the index says: {led_by(moved)}"
        )
    formats = " and ".join(dict.fromkeys(part.format for part in parts))
    return Checkpoint(
        location=location,
        format=formats if len(shards.names) == 1 else f"{formats}, {len(shards.names)} shards",
        bytes=sum(part.bytes for part in parts) + (index.size if index else 0),
        tensors=tensors,
        unread=(*(entry for part in parts for entry in part.unread), *unread),
        objects_not_loaded=tuple(dict.fromkeys(name for part in parts for name in part.objects_not_loaded)),
        warnings=tuple(dict.fromkeys(warnings)),
        damage=next((part.damage for part in parts if part.damage), None),
    )


def _without_repeats(parts: list[Checkpoint]) -> tuple[list[list[Tensor]], list[Unread]]:
    """The tensors of each shard, less those that two shards hold: which one counts cannot be known."""
    holders: dict[str, int] = {}
    for part in parts:
        for tensor in part.tensors:
            holders[tensor.name] = holders.get(tensor.name, 0) + 1
    if len(parts) == 1:
        return [list(parts[0].tensors)], []
    kept = [[tensor for tensor in part.tensors if holders[tensor.name] == 1] for part in parts]
    doubles = [Unread(name, f"{count} shards hold it") for name, count in holders.items() if count > 1]
    return kept, doubles


def _incomplete(names: tuple[str, ...]) -> list[str]:
    """A warning where numbered shards are missing that no index could tell of."""
    matches = [match for name in names if (match := _SHARD.fullmatch(name))]
    if not matches or len(matches) == int(matches[0]["count"][:9]):
        return []
    return [f"only {len(matches)} of {int(matches[0]['count'][:9])} numbered shards are there"]
