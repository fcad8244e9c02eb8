"""HDF5 files of arrays, and the models and weights that Keras keeps in them (`.h5`, `.hdf5`, `.weights.h5`).

Keras 1 and 2 keep a model's configuration, and the order of layers and weights, in attributes; Keras 3 numbers the
variables of each layer (keras/src/legacy/saving/legacy_h5_format.py, keras/src/saving/saving_lib.py).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.hdf5_jail import Contiguous, Dataset, Structure, parsed
from weightstats.containers.hdf5_storages import Budget, order_of, storage_of
from weightstats.errors import CheckpointError, TensorError, quoted, shortened
from weightstats.extras import is_installed, missing
from weightstats.places import File
from weightstats.schemas.keras_layers import LayerConfig, Model, model_in, not_loaded
from weightstats.tensors import Tensor, given_in_order_of, make_tensor

FORMAT = "HDF5"
KERAS_FORMAT = "Keras HDF5"
RECOGNISED_BY = "the signature \\x89HDF, at the start or after a user block"
EXTRA = "hdf5"

SIGNATURE = b"\x89HDF\r\n\x1a\n"
FIRST_BLOCK = 512
"""Where the signature may be if not at 0, and at each double of it."""

OPEN_FLAGS = 0b101
"""Of the superblock's versions from 3 on: open for writing, or for writing while others read."""

_SUPERBLOCK = 96
"""Bytes of the longest superblock, with addresses of eight bytes."""

_MOST_AGAIN = 20
"""Further names of datasets that are listed."""


def recognises(head: bytes, file: File) -> bool:
    """The signature, at one of the places where the format allows it."""
    return _userblock(file) is not None


def read(file: File) -> Checkpoint:
    """Every array of the file. CheckpointError where its structure cannot be told."""
    return read_model(file, None)


def read_model(file: File, model: LayerConfig | None) -> Checkpoint:
    """Every array of the file, whose model is described elsewhere."""
    if not is_installed(EXTRA):
        raise CheckpointError(file.location, missing(EXTRA, FORMAT))
    userblock = _userblock(file)
    if userblock is None:
        raise CheckpointError(file.location, "is not an HDF5 file")
    if _is_open(file, userblock):
        problem = "is marked as open for writing: the program that wrote it did not close it, or has not yet"
        raise CheckpointError(file.location, problem)
    size = _stated_size(file, userblock)
    if size is not None and size > file.size:
        problem = f"is truncated: its superblock states {size:,} bytes, the file has {file.size:,}"
        raise CheckpointError(file.location, problem)
    structure = parsed(file, userblock)
    keras = _Keras(structure, model)
    tensors, unread = _tensors(file, userblock, structure, keras.model)
    first = {dataset.address: dataset.path for dataset in structure.datasets}
    again = [f"{'.'.join(path)} of {'.'.join(first.get(address, ()))}" for path, address in structure.again]
    return Checkpoint(
        location=file.location,
        format=KERAS_FORMAT if keras.is_keras else FORMAT,
        bytes=file.size,
        tensors=tuple(sorted(tensors, key=lambda tensor: keras.place(tensor.path))),
        unread=tuple(unread),
        objects_not_loaded=(
            *not_loaded(keras.model.config if model is None else None),
            *(
                f"the link {quoted('/'.join(path))} to {quoted(target)}: not followed"
                for path, target in structure.links
            ),
        ),
        warnings=(
            *structure.warnings,
            *keras.warnings,
            *(f"another name of a dataset, which is listed once: {shortened(names)}" for names in again[:_MOST_AGAIN]),
            *([f"{len(again) - _MOST_AGAIN:,} more names of datasets"] if len(again) > _MOST_AGAIN else ()),
        ),
        damage=_damage(file, size, unread),
    )


def _userblock(file: File) -> int | None:
    """Where the signature is, None where there is none."""
    start = 0
    while start + len(SIGNATURE) <= file.size:
        if file.read(start, len(SIGNATURE)) == SIGNATURE:
            return start
        start = 2 * start or FIRST_BLOCK
    return None


def _stated_size(file: File, userblock: int) -> int | None:
    """The end of the file by its superblock, None where that is of an unknown version or was moved; it is found without
    the library, which would need a process for it. HDF5 file format specification 3.0, section II.A."""
    superblock = file.read(userblock, min(_SUPERBLOCK, file.size - userblock))
    version = superblock[8] if len(superblock) > 8 else -1
    width = superblock[13 if version < 2 else 9] if len(superblock) > 13 else 0
    base = {0: 24, 1: 28, 2: 12, 3: 12}.get(version, _SUPERBLOCK)
    if width not in (2, 4, 8) or base + 3 * width > len(superblock):
        return None
    base_address, _, end = (
        int.from_bytes(superblock[start : start + width], "little") for start in range(base, base + 3 * width, width)
    )
    return end if base_address == userblock else None


def _damage(file: File, size: int | None, unread: Sequence[Unread]) -> str | None:
    """What speaks against all that is read of the file: no checksum guards its addresses, only the library's sense."""
    broken = [entry for entry in unread if entry.reason.startswith("it is damaged")]
    if broken:
        return f"is damaged: {len(broken):,} of its objects cannot be opened, {shortened(broken[0].name)} among them"
    if size is not None and size < file.size:
        return f"has {file.size - size:,} bytes behind the end that its superblock states: something in it has moved"
    return None


def _is_open(file: File, userblock: int) -> bool:
    """Whether the superblock says so; the library itself would not ask where it is given a part of a file."""
    superblock = file.read(userblock, min(12, file.size - userblock))
    return len(superblock) == 12 and superblock[8] >= 3 and bool(superblock[11] & OPEN_FLAGS)


def _tensors(file: File, userblock: int, structure: Structure, model: Model) -> tuple[list[Tensor], list[Unread]]:
    """The tensors, in the order in which their datasets were made, and what is not read."""
    budget = Budget(file.size)
    counts = Counter(dataset.path[:-1] for dataset in structure.datasets)
    tensors: list[Tensor] = []
    unread = dict(structure.unread)
    overlapping = _overlapping(structure.datasets)
    for dataset in sorted(structure.datasets, key=lambda dataset: dataset.address):
        path = dataset.path
        try:
            if dataset.address in overlapping:
                raise TensorError("it shares bytes of the file with another dataset, in part")
            storage, stored = storage_of(file, userblock, dataset, budget)
            named = structure.texts.get((path[:-1], "name"), ("",))[0]
            use = model.use(path, dataset.shape, named, counts[path[:-1]])
            tensor = make_tensor(path, dataset.shape, dataset.dtype, storage, use=use)
            if order := order_of(dataset):
                tensor = given_in_order_of(tensor, order)
            tensors.append(tensor if tensor.stored_bytes == stored else replace(tensor, encoded_bytes=stored))
        except TensorError as error:
            unread[path] = str(error)
    return tensors, [Unread(".".join(path), reason) for path, reason in unread.items()]


def _overlapping(datasets: Iterable[Dataset]) -> set[int]:
    """Addresses of datasets that have some bytes of the file in common with another one, and not all."""
    runs = sorted(
        (dataset.layout.offset, -dataset.layout.size, dataset.address)
        for dataset in datasets
        if isinstance(dataset.layout, Contiguous) and dataset.layout.offset is not None and dataset.layout.size
    )
    found: set[int] = set()
    first, end, addresses = -1, 0, list[int]()
    for start, negative, address in runs:
        if start < end and (start, start - negative) != (first, end):
            found |= {address, *addresses}
        if (start, start - negative) == (first, end):
            addresses.append(address)
        elif start - negative > end:
            first, end, addresses = start, start - negative, [address]
    return found


class _Keras:
    """What Keras keeps in a file beside the numbers."""

    def __init__(self, structure: Structure, model: LayerConfig | None) -> None:
        texts = structure.texts
        self.warnings: list[str] = []
        self.order: dict[tuple[str, ...], int] = {}
        for group in ((), ("model_weights",)):
            for layer in dict.fromkeys(texts.get((group, "layer_names"), ())):
                for name in texts.get(((*group, layer), "weight_names"), ()):
                    self.order.setdefault((*group, layer, *name.split("/")), len(self.order))
        config = texts.get(((), "model_config"))
        if config is not None and model is None:
            try:
                model = model_in(config[0])
            except ValueError as error:
                self.warnings.append(f"its model_config is not valid JSON: {str(error)[:100]}")
        numbered = any(path[-2:-1] == ("vars",) for path in (dataset.path for dataset in structure.datasets))
        self.is_keras = bool(self.order or numbered or config or ((), "keras_version") in texts)
        self.model = Model(model)

    def place(self, path: tuple[str, ...]) -> tuple[int, bool, tuple[int, ...]]:
        """Where a tensor comes in the order that Keras keeps; behind those, in the order of the file."""
        place = self.model.place(path)
        return self.order.get(path, len(self.order)), not place, place
