"""Folders that DeepSpeed's `save_checkpoint` writes: `latest`, and for each step a folder of files by torch.save.

File names: deepspeed/runtime/engine.py, `_get_ckpt_name`, `_get_expert_ckpt_name` and `_get_rank_zero_ckpt_name`;
deepspeed/runtime/pipe/module.py, `ckpt_layer_path`.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.zip_archive import SIGNATURES
from weightstats.errors import CheckpointError, counted, quoted, shortened
from weightstats.order import natural_key
from weightstats.places import File, Folder, open_folder
from weightstats.readers import shards, torch_legacy, torch_zip
from weightstats.tensors import Tensor

FORMAT = "DeepSpeed"
RECOGNISED_BY = "a folder with *_model_states.pt files, or whose file latest names such a folder"
EXTRA = ""

LATEST = "latest"
"""The file that holds the name of the newest step's folder."""

MOST_TAG_BYTES = 4096
"""Of that name: what operating systems allow for a path."""

STEP = re.compile(r"global_step\d+")
"""What DeepSpeed calls a step's folder unless it is told otherwise."""

WHOLE = re.compile(r"mp_rank_(?P<piece>\d+)_model_states\.pt")
"""The model's state, one file for each tensor-parallel piece; without the model where that is a pipeline."""

LAYER = re.compile(r"(?P<layer>layer_\d+)(?P<piece>(-.+)?)-model_states\.pt")
"""One layer of a pipeline, one file for each of its tensor-parallel pieces."""

EXPERT = re.compile(r"(layer_\d+_)?expert_\d+_mp_rank_(?P<piece>\d+)_model_states\.pt")
"""One expert of a mixture, under the names that it has in the whole model; a file for each piece."""

PARTITIONED = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")
"""ZeRO stage 3: placeholders without elements where the parameters were."""

OPTIMIZER = re.compile(r".*_optim_states\.pt")
"""The optimizer's state, a file for each rank: under ZeRO, flat partitions that hold parts of many parameters."""

STATES = (WHOLE, LAYER, EXPERT, PARTITIONED, OPTIMIZER)

RECOVERY = "zero_to_fp32.py"
"""The script that DeepSpeed puts beside its checkpoints, which makes whole tensors of the partitions."""


@dataclass(frozen=True, slots=True)
class Step:
    """The files of one step."""

    prefix: str
    """What leads from the folder that was asked for to the step's: '' or its name and a slash."""

    names: tuple[str, ...]


def recognises_folder(folder: Folder) -> bool:
    """Names of states here or in the newest step's folder; not where whole weights lie beside it."""
    if any(name in shards.PREFERRED for name in folder.names):
        return False
    if any(map(_is_state, folder.names)) or any(map(STEP.fullmatch, folder.names)):
        return True
    try:
        return LATEST in folder.names and any(map(_is_state, _step(folder).names))
    except CheckpointError:
        return False


def read_folder(folder: Folder) -> Checkpoint:
    """The model in the folder, or in the newest step's folder inside it.

    CheckpointError where the files hold no whole tensors, and where none of them can be read.
    """
    step = _step(folder)
    found = {kind: [name for name in step.names if kind.fullmatch(name)] for kind in STATES}
    names = found[LAYER] or [*found[WHOLE], *found[EXPERT]]
    if not names:
        raise CheckpointError(folder.location, _nothing_whole(len(found[PARTITIONED]), len(found[OPTIMIZER])))
    _refuse_pieces(folder, names)
    parts: list[Checkpoint] = []
    unread: list[Unread] = []
    for name in sorted(names, key=natural_key):
        try:
            parts.append(_part(name, folder.open(f"{step.prefix}{name}")))
        except CheckpointError as error:
            unread.append(Unread(name, error.problem))
    if not parts:
        first = f"{shortened(unread[0].name)}: {unread[0].reason}"
        raise CheckpointError(folder.location, f"none of its files can be read; the first, {first}")
    tensors, doubles = _without_repeats([tensor for part in parts for tensor in part.tensors])
    warnings = [warning for part in parts for warning in part.warnings]
    return Checkpoint(
        location=folder.location,
        format=FORMAT,
        bytes=sum(part.bytes for part in parts),
        tensors=tensors,
        unread=(*(entry for part in parts for entry in part.unread), *doubles, *unread),
        objects_not_loaded=tuple(dict.fromkeys(name for part in parts for name in part.objects_not_loaded)),
        warnings=(*dict.fromkeys(warnings), *_left_alone(step.names, names)),
        damage=next((part.damage for part in parts if part.damage), None),
    )


def _is_state(name: str) -> bool:
    return any(kind.fullmatch(name) for kind in STATES)


def _step(folder: Folder) -> Step:
    """The folder itself where it holds states, else the step that `latest` names, else the only one."""
    if any(map(_is_state, folder.names)):
        return Step("", folder.names)
    if LATEST in folder.names:
        return _inside(folder, _tag(folder.open(LATEST)))
    steps = sorted(filter(STEP.fullmatch, folder.names), key=natural_key)
    if len(steps) != 1:
        shown = ", ".join(steps[:5]) + (f" and {len(steps) - 5:,} more" if len(steps) > 5 else "")
        raise CheckpointError(folder.location, f"holds several steps of a training run; name one of them: {shown}")
    return _inside(folder, steps[0])


def _tag(file: File) -> str:
    """The name of a step, which is all that the file `latest` holds."""
    if file.size > MOST_TAG_BYTES:
        raise CheckpointError(file.location, f"has {file.size:,} bytes, too many for the name of a step's folder")
    try:
        return file.read(0, file.size).decode().strip()
    except UnicodeDecodeError as error:
        raise CheckpointError(file.location, "does not hold the name of a step's folder") from error


def _inside(folder: Folder, tag: str) -> Step:
    """A step's folder; CheckpointError where it lies outside the folder or is none."""
    home, place = os.path.realpath(folder.path), folder.path / tag
    parts = tag.replace("\\", "/").split("/")
    if not tag or not tag.isprintable() or ".." in parts or os.path.commonpath([home, os.path.realpath(place)]) != home:
        raise CheckpointError(folder.location, f"its file latest names a folder outside of it: {quoted(tag)}")
    if not place.is_dir():
        problem = f"its newest step, the folder {quoted(tag)} that its file latest names, is not there"
        raise CheckpointError(folder.location, problem)
    return Step(f"{tag}/", open_folder(place).names)


def _nothing_whole(partitioned: int, optimizers: int) -> str:
    """Why there is no tensor to read."""
    shards_there = f"{optimizers:,} partitions in the state of the optimizer"
    if partitioned and optimizers:
        return (
            f"is a ZeRO-3 checkpoint: its parameters are only there as {shards_there}; "
            f"run its {RECOVERY}, then inspect what that writes"
        )
    if partitioned:
        return "is a ZeRO-3 checkpoint without its *_optim_states.pt files, where the parameters would be"
    if optimizers:
        return f"holds no model: there are only {shards_there}"
    return "is a DeepSpeed checkpoint without *_model_states.pt files"


def _refuse_pieces(folder: Folder, names: Sequence[str]) -> None:
    """CheckpointError where tensor parallelism has cut the tensors: a piece has neither their shape nor their fans."""
    for name in names:
        match = LAYER.fullmatch(name) or WHOLE.fullmatch(name) or EXPERT.fullmatch(name)
        whole = ("", "-model_00") if LAYER.fullmatch(name) else ("00",)
        if match is not None and match["piece"] not in whole:
            problem = (
                "holds the pieces of a tensor-parallel model, whose shapes are not its layers'; merge them first, or "
                f"name one file to inspect a piece by itself: {shortened(min(names, key=natural_key))}"
            )
            raise CheckpointError(folder.location, problem)


def _part(name: str, file: File) -> Checkpoint:
    """One file, with its tensors where they belong in the whole."""
    head = file.read(0, min(file.size, 512))
    if head.startswith(SIGNATURES):
        part = torch_zip.read(file)
    elif torch_legacy.recognises(head, file):
        part = torch_legacy.read(file)
    else:
        raise CheckpointError(file.location, "is not a file that torch.save has written")
    layer = LAYER.fullmatch(name)
    prefix = (layer["layer"],) if layer else ("module",) if EXPERT.fullmatch(name) else ()
    return replace(
        part,
        tensors=tuple(replace(tensor, path=(*prefix, *tensor.path)) for tensor in part.tensors),
        unread=tuple(Unread(".".join((*prefix, entry.name)), entry.reason) for entry in part.unread),
    )


def _without_repeats(tensors: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], list[Unread]]:
    """The tensors, less those that two files hold: which one counts cannot be known."""
    times = Counter(tensor.path for tensor in tensors)
    doubles = [Unread(".".join(path), f"{count} files hold it") for path, count in times.items() if count > 1]
    return tuple(tensor for tensor in tensors if times[tensor.path] == 1), doubles


def _left_alone(names: Sequence[str], read: Sequence[str]) -> Iterator[str]:
    """What is said of the files of the step that were not read."""
    left = sorted({name for name in names if _is_state(name)} - set(read), key=natural_key)
    optimizers = [name for name in left if OPTIMIZER.fullmatch(name)]
    if optimizers:
        what = "the state of the optimizer, and under ZeRO the parameters in 32 bits, in flat partitions"
        yield f"{counted(len(optimizers), 'file was', 'files were')} left alone: {what} ({shortened(optimizers[0])})"
    others = [name for name in left if not OPTIMIZER.fullmatch(name)]
    if others:
        alone = counted(len(others), "file was left alone, as its", "files were left alone, as their")
        yield f"{alone} model lies in others ({shortened(others[0])})"
