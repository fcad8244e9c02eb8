"""Archives of numpy arrays, as `numpy.savez` and `savez_compressed` write them: a zip with one `.npy` for each array.

Keys that are written with slashes (JAX, TensorFlow and Keras name their variables so) are taken for nested keys.
"""

from dataclasses import dataclass

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.npy_header import NpyHeader, array_in, read_header
from weightstats.containers.zip_archive import Archive, names_in
from weightstats.errors import CheckpointError, TensorError, quoted, shortened
from weightstats.limits import LIMITS, over
from weightstats.places import File
from weightstats.schemas.jax_uses import uses_of
from weightstats.tensors import BLOCK_BYTES, Storage, Tensor

FORMAT = "NumPy archive"
RECOGNISED_BY = "a zip archive of which most entries are called .npy"
EXTRA = ""

_SUFFIX = ".npy"


def recognises(head: bytes, file: File) -> bool:
    """A zip archive with more entries called `.npy` than others, and without a torch file's pickle."""
    names = [name for name in names_in(head, file) if not name.endswith("/")]
    arrays = sum(name.endswith(_SUFFIX) for name in names)
    return 2 * arrays > len(names) and not any(name.rpartition("/")[2] == "data.pkl" for name in names)


@dataclass(frozen=True, slots=True)
class _Entry:
    """An array of the archive."""

    path: tuple[str, ...]
    header: NpyHeader
    storage: Storage


def read(file: File) -> Checkpoint:
    """The arrays in the order of the archive's directory. CheckpointError where the archive is damaged."""
    archive = Archive(file)
    found: list[_Entry] = []
    unread: list[Unread] = []
    strange: list[str] = []
    _check(archive)
    paths = _paths(archive)
    for name in archive.entries:
        if name.endswith("/"):
            continue
        try:
            storage = archive.storage(name)
            _check_small(storage)
            found.append(_Entry(paths[name], read_header(storage), storage))
        except (TensorError, CheckpointError) as error:
            reason = error.problem if isinstance(error, CheckpointError) else str(error)
            if name.endswith(_SUFFIX):
                unread.append(Unread(".".join(paths[name]), reason))
            else:
                strange.append(name)
    tensors: list[Tensor] = []
    uses = uses_of({entry.path: entry.header.shape for entry in found})
    for entry in found:
        try:
            tensors.append(array_in(entry.path, entry.header, entry.storage, uses.get(entry.path)))
        except TensorError as error:
            unread.append(Unread(".".join(entry.path), str(error)))
    warnings = (f"entries that are no arrays were left out: {shortened(', '.join(strange))}",) if strange else ()
    return Checkpoint(file.location, FORMAT, file.size, tuple(tensors), tuple(unread), warnings=warnings)


def _check(archive: Archive) -> None:
    """CheckpointError where two entries have one key, with and without `.npy`, or where there are too many."""
    location = archive.file.location
    if len(archive.entries) > LIMITS.tensors:
        raise CheckpointError(location, f"has {len(archive.entries):,} arrays, {over('tensors')}")
    for name in archive.entries:
        if name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX) in archive.entries:
            raise CheckpointError(location, f"has two arrays named {quoted(name.removesuffix(_SUFFIX))}")


def _check_small(storage: Storage) -> None:
    """CheckpointError where an array that lies in the archive as it is, and is small, differs from its checksum.

    Its header and its elements are read apart, so that neither read is of the whole entry. A compressed array is held
    to its checksum when its end is read.
    """
    if storage.size <= BLOCK_BYTES and not storage.source.sequential:
        storage.source.read_into(storage.start, memoryview(bytearray(storage.size)))


def _paths(archive: Archive) -> dict[str, tuple[str, ...]]:
    """The keys that lead to each array, by the name of its entry: whole where splitting would make two the same."""
    keys = {name: name.removesuffix(_SUFFIX) for name in archive.entries}
    paths = {name: _split(key) for name, key in keys.items()}
    return paths if len({*paths.values()}) == len(paths) else {name: (key,) for name, key in keys.items()}


def _split(key: str) -> tuple[str, ...]:
    """The keys in a key with slashes, doubled ones too; one that climbs or starts at the root is left whole."""
    parts = key.split("/")
    if key.startswith("/") or ".." in parts:
        return (key,)
    return tuple(part for part in parts if part) or (key,)
