"""GGUF files, as llama.cpp and what is built on ggml write them; split ones are put together.

Shapes are turned round: ggml has the dimension whose elements are neighbours first, torch has it last.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.encodings import encoded
from weightstats.errors import CheckpointError, TensorError, counted, quoted, shortened
from weightstats.extras import library
from weightstats.limits import LIMITS, over
from weightstats.order import natural_key
from weightstats.places import File, Folder, open_inside
from weightstats.readers.shards import PREFERRED, SUFFIXES
from weightstats.schemas.ggml_types import GGML_TYPES, REMOVED, encoding_of
from weightstats.schemas.gguf_header import MAGIC, Entry, Header, read_header
from weightstats.schemas.gguf_names import use_of
from weightstats.tensors import Storage, Tensor, make_tensor

FORMAT = "GGUF"
RECOGNISED_BY = 'the four bytes "GGUF"'
EXTRA = "gguf"

_MOST_TYPE = 10_000
"""Beyond any number that a type will have: the header has moved."""

SUFFIX = ".gguf"

_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
"""What llama.cpp calls the files of a split checkpoint (llama_split_path); numbers start at 1."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one file holds."""

    file: File
    number: int
    """Among the parts, from 0; split.no."""

    count: int
    """Of all parts; split.count, 1 where the checkpoint is not split."""

    total: int | None
    """Tensors in all parts together, where the file says it; split.tensors.count."""

    tensors: tuple[Tensor, ...]
    unread: tuple[Unread, ...]
    damage: str | None


def recognises(head: bytes, file: File) -> bool:
    """The format's magic number."""
    return head.startswith(MAGIC)


def recognises_folder(folder: Folder) -> bool:
    """GGUF files, and no weights of another kind beside them."""
    names = [name.lower() for name in folder.names]
    others = [name for name in names if not name.endswith(SUFFIX)]
    return len(others) < len(names) and not any(name in PREFERRED or name.endswith(SUFFIXES) for name in others)


def read_folder(folder: Folder) -> Checkpoint:
    """The one checkpoint in the folder, split or not. CheckpointError where there are several."""
    names = sorted((name for name in folder.names if name.lower().endswith(SUFFIX)), key=natural_key)
    first: dict[str, str] = {}
    for name in names:
        match = _PART.fullmatch(name)
        first.setdefault(f"{match['stem']} {match['count']}" if match else name, name)
    if len(first) > 1:
        shown = shortened(", ".join(first.values()))
        raise CheckpointError(folder.location, f"holds several checkpoints; name one of them: {shown}")
    return read(folder.open(names[0]))


def read(file: File) -> Checkpoint:
    """The tensors of the file in the order of the header, with those of the other parts of a split checkpoint.

    CheckpointError where the header breaks the format, or where a type needs the `gguf` library and it is not there.
    """
    part = _read_part(file)
    parts, problems = _all_parts(part)
    names = [[tensor.name for tensor in each.tensors] + [entry.name for entry in each.unread] for each in parts]
    holders = Counter(name for part_names in names for name in part_names)
    doubles = [Unread(name, f"{count} parts hold it") for name, count in holders.items() if count > 1]
    held = sum(holders.values())
    if held > LIMITS.tensors:
        raise CheckpointError(file.location, f"has {held:,} tensors in its parts, {over('tensors')}")
    if part.total is not None and not problems and held != part.total:
        problems.append(f"its parts hold {counted(held, 'tensor', 'tensors')}, and its metadata counts {part.total:,}")
    return Checkpoint(
        location=file.location,
        format=FORMAT if part.count == 1 else f"{FORMAT}, {part.count:,} parts",
        bytes=sum(each.file.size for each in parts),
        tensors=tuple(tensor for each in parts for tensor in each.tensors if holders[tensor.name] == 1),
        unread=(*(entry for each in parts for entry in each.unread if holders[entry.name] == 1), *doubles),
        damage=_incomplete(problems, part.total, held)
        if problems
        else next((p.damage for p in parts if p.damage), None),
    )


def _incomplete(problems: list[str], total: int | None, held: int) -> str:
    """What is wrong with a split checkpoint of which not all can be read."""
    more = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
    missing = ""
    if total is not None and total > held:
        missing = f"; {total - held:,} of its {total:,} tensors {'is' if total - held == 1 else 'are'} missing"
    return f"is incomplete{missing}: {problems[0]}{more}"


def _all_parts(part: _Part) -> tuple[list[_Part], list[str]]:
    """The parts of the checkpoint that the given one belongs to, in order, and why others could not be read."""
    if part.count == 1:
        return [part], []
    match = _PART.fullmatch(Path(part.file.location).name)
    if match is None or (int(match["number"]), int(match["count"])) != (part.number + 1, part.count):
        expected = _part_name("NAME", part.number, part.count)
        return [part], [f"it is one of {part.count:,} parts, and those are found by a name like {expected} only"]
    parts: list[_Part] = []
    problems: list[str] = []
    for number in range(part.count):
        if number == part.number:
            parts.append(part)
            continue
        other = _part_name(match["stem"], number, part.count)
        try:
            parts.append(_companion(part, other, number))
        except CheckpointError as error:
            problems.append(f"{shortened(other)}: {error.problem}")
    return parts, problems


def _companion(part: _Part, name: str, number: int) -> _Part:
    """Another part of the same checkpoint; CheckpointError where the file of its name is not that."""
    file = open_inside(part.file.folder, name, part.file.location)
    if file.read(0, min(file.size, len(MAGIC))) != MAGIC:
        raise CheckpointError(file.location, "is not a GGUF file")
    other = _read_part(file)
    if (other.number, other.count) != (number, part.count):
        held = f"part {other.number + 1:,} of {other.count:,}"
        raise CheckpointError(file.location, f"says that it is {held}")
    return other


def _part_name(stem: str, number: int, count: int) -> str:
    return f"{stem}-{number + 1:05d}-of-{count:05d}{SUFFIX}"


def _read_part(file: File) -> _Part:
    header = read_header(file)
    count = _number(file, header, "split.count", 1) or 1  # llama-gguf-split --merge leaves 0 in a whole checkpoint
    number = _number(file, header, "split.no", 0) if count > 1 else 0
    if count > LIMITS.gguf_parts:
        raise CheckpointError(file.location, f"is one of {count:,} parts, {over('gguf_parts')}")
    if number >= count:
        raise CheckpointError(file.location, f"says that it is part {number + 1:,} of {count:,}")
    tensors: list[Tensor] = []
    unread: list[Unread] = []
    end, gaps = _laid_out(file, header)
    for entry in header.entries:
        try:
            tensors.append(_tensor(file, header, entry))
        except TensorError as error:
            unread.append(Unread(entry.name, str(error)))
    padded = -(-end // header.alignment) * header.alignment
    extra = file.size - (padded if file.size >= padded else end)
    known = all(entry.type_number in GGML_TYPES for entry in header.entries)
    damage = None
    if extra > 0 and known:
        damage = f"has {extra:,} bytes at its end that belong to no tensor: something in it has moved"
    elif any(any(file.read(begin, min(stop, file.size) - begin)) for begin, stop in gaps if begin < file.size):
        damage = "has other bytes than zeros between its tensors, where nothing lies: something in it has moved"
    total = _number(file, header, "split.tensors.count", -1) if count > 1 else -1
    return _Part(
        file,
        number,
        count,
        total if total >= 0 else None,
        tuple(tensors),
        tuple(unread),
        damage,
    )


def _number(file: File, header: Header, key: str, default: int) -> int:
    value = header.metadata.get(key, default)
    if not isinstance(value, int) or value < min(default, 0):
        raise CheckpointError(file.location, f"its {key} is {quoted(value)}, not a count")
    return value


def _laid_out(file: File, header: Header) -> tuple[int, list[tuple[int, int]]]:
    """Where the last tensor ends, and the padding between them; they must follow each other as ggml asks for.

    The size of a tensor of an unknown type is not known: the next may begin at any aligned place behind its start.
    """
    end = header.data_start
    gaps = [(header.end, end)]
    exact = True
    for entry in header.entries:
        start = header.data_start + entry.offset
        expected = -(-end // header.alignment) * header.alignment
        problem = None
        if entry.offset % header.alignment:
            problem = f"which is not a multiple of the alignment, {header.alignment}"
        elif start < end:
            problem = "where the tensor before it has its data: they overlap"
        elif start < expected or (exact and start > expected):
            problem = f"and not behind the tensor before it, at {expected - header.data_start:,}"
        if problem is not None:
            place = f"its tensor {quoted(entry.name)} begins at byte {entry.offset:,} of the data"
            raise CheckpointError(file.location, f"{place}, {problem}")
        if exact:
            gaps.append((end, start))
        size = _size(file, entry)
        exact = size is not None
        end = start + (size or 0)
        if end > file.size:
            problem = f"{quoted(entry.name)} ends at byte {end:,}, the file has {file.size:,}"
            raise CheckpointError(file.location, f"is truncated: its tensor {problem}")
    return end, gaps


def _size(file: File, entry: Entry) -> int | None:
    """Bytes of a tensor, None where its type is not known."""
    type_ = GGML_TYPES.get(entry.type_number)
    if type_ is None:
        return None
    row = entry.sizes[0] if entry.sizes else 1
    if row % type_.block_elements:
        problem = f"has rows of {row:,} elements, not of whole blocks of {type_.block_elements}: {type_.name}"
        raise CheckpointError(file.location, f"its tensor {quoted(entry.name)} {problem}")
    return math.prod(entry.sizes) // type_.block_elements * type_.block_bytes


def _tensor(file: File, header: Header, entry: Entry) -> Tensor:
    """The tensor of an entry; TensorError where its type cannot be read."""
    type_ = GGML_TYPES.get(entry.type_number)
    if type_ is None:
        name = f" ({REMOVED[entry.type_number]}), which ggml removed" if entry.type_number in REMOVED else ""
        problem = f"it has the ggml type {entry.type_number:,}{name or ', which is not known'}"
        if entry.type_number >= _MOST_TYPE:
            raise CheckpointError(file.location, f"is damaged: of its tensor {quoted(entry.name)}, {problem}")
        raise TensorError(problem)

    def gguf() -> ModuleType:
        return library(EXTRA, file.location, f"{FORMAT} with {type_.name} tensors")

    shape = entry.sizes[::-1]
    storage = Storage(file, header.data_start + entry.offset, _size(file, entry) or 0, header.order)
    use = use_of(entry.name, shape, header.metadata)
    if type_.is_plain:
        return make_tensor((entry.name,), shape, type_.name, storage, use=use)
    return encoded((entry.name,), shape, encoding_of(type_, header.order, gguf), storage, use)
