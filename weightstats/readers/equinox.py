"""The leaves of an Equinox model, as `equinox.tree_serialise_leaves` writes them: numpy arrays one behind the other.

Equinox writes neither names nor structure, which the reading program brings along; Python numbers become arrays of no
dimensions. Its documentation puts a line of JSON with the model's hyperparameters before them.
https://docs.kidger.site/equinox/api/serialisation/
"""

from collections.abc import Sequence

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.npy_header import MAGIC, NpyHeader, array_in, read_header
from weightstats.errors import CheckpointError, TensorError
from weightstats.limits import LIMITS, over
from weightstats.places import File
from weightstats.tensors import Storage, Tensor, Use

FORMAT = "Equinox"
RECOGNISED_BY = "numpy arrays one behind the other, perhaps after a line of JSON"
EXTRA = ""

_MOST_LINE = 1 << 20
"""Bytes of the line of JSON: hyperparameters take a few hundred."""


def recognises(head: bytes, file: File) -> bool:
    """A line that starts like JSON and is followed by an array, or an array that is followed by another."""
    try:
        if head[:1] in (b"{", b"["):
            return _first_array(file) > 0
        if not head.startswith(MAGIC):
            return False
        header = read_header(Storage(file, 0, file.size))
        return header.end is not None and _is_array(file, header.end)
    except (CheckpointError, TensorError):
        return False


def read(file: File) -> Checkpoint:
    """The arrays by their number. CheckpointError where what follows one is neither another nor the end."""
    headers: list[tuple[int, NpyHeader]] = []
    position = _first_array(file)
    damage = None
    while position < file.size:
        number = len(headers)
        if number == LIMITS.tensors:
            raise CheckpointError(file.location, f"has {number + 1:,} arrays, {over('tensors')}")
        try:
            header = read_header(Storage(file, position, file.size - position))
        except TensorError as error:
            problem = f"is damaged or truncated: of the array at byte {position:,} (number {number:,}), {error}"
            raise CheckpointError(file.location, problem) from error
        headers.append((position, header))
        if header.end is None:
            damage = f"what follows leaf_{number} was not read: {header.refusal}, and only they tell where it ends"
            break
        if header.end > file.size - position:
            there = file.size - position - header.size
            problem = f"array number {number:,} describes {header.data_size:,} bytes of elements, there are {there:,}"
            raise CheckpointError(file.location, f"is truncated: {problem}")
        position += header.end
    return _checkpoint(file, headers, damage)


def _checkpoint(file: File, headers: Sequence[tuple[int, NpyHeader]], damage: str | None) -> Checkpoint:
    tensors: list[Tensor] = []
    unread: list[Unread] = []
    shapes = [header.shape for _, header in headers]
    for number, (position, header) in enumerate(headers):
        name = f"leaf_{number}"
        storage = Storage(file, position, header.end if header.end is not None else file.size - position)
        try:
            tensors.append(array_in((name,), header, storage, _use(shapes[number : number + 2])))
        except TensorError as error:
            unread.append(Unread(name, str(error)))
    return Checkpoint(file.location, FORMAT, file.size, tuple(tensors), tuple(unread), damage=damage)


def _use(shapes: Sequence[tuple[int, ...]]) -> Use | None:
    """What an array of three dimensions is, by the shapes of it and its successor.

    equinox.nn.Conv1d has weights (out, in, size) and then a bias (out, 1); without that, the array may as well be a
    stack of matrices. Arrays of other dimensions have the layout that their shape is taken for anyway.
    """
    if len(shapes) == 2 and len(shapes[0]) == 3 and shapes[1] == (shapes[0][0], 1):
        return Use("conv1d", "OIK", f"followed by {shapes[1]}, the bias that equinox.nn.Conv1d has")
    return None


def _first_array(file: File) -> int:
    """Where the first array starts: 0, or behind a line of JSON."""
    start = file.read(0, min(file.size, _MOST_LINE))
    position = start.find(b"\n") + 1
    return position if start[:1] in (b"{", b"[") and _is_array(file, position) else 0


def _is_array(file: File, position: int) -> bool:
    return position + len(MAGIC) <= file.size and file.read(position, len(MAGIC)) == MAGIC
