"""The archives that Keras 3 writes (`.keras`): a configuration in JSON, and the weights in HDF5 beside it.

Layout: keras/src/saving/saving_lib.py. A plain zip around one `.keras` or `.h5` file is read too.
"""

import re
from dataclasses import replace

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.zip_archive import SIGNATURES, Archive, names_in
from weightstats.errors import CheckpointError, quoted
from weightstats.places import File
from weightstats.readers import hdf5
from weightstats.schemas.keras_layers import LayerConfig, model_in, not_loaded

FORMAT = "Keras archive"
RECOGNISED_BY = "a zip archive with model.weights.h5, or around one .keras or .h5 file"
EXTRA = "hdf5"

CONFIG = "config.json"
WEIGHTS = re.compile(r"model(_\d{5})?\.weights\.h5")
"""The weights in one file, or in the parts that `max_shard_size` makes."""

ARRAYS = "model.weights.npz"
KNOWN = re.compile(r"(metadata|config|model\.weights)\.json|assets/.*|model(_\d{5})?\.weights\.(h5|npz)|.*/")
"""Entries that Keras itself writes."""

PACKED = (".keras", ".h5", ".hdf5")


def recognises(head: bytes, file: File) -> bool:
    """An archive with the weights' entry, with the configuration's two, or around one file."""
    names = names_in(head, file)
    is_keras = any(map(WEIGHTS.fullmatch, names)) or ARRAYS in names or {CONFIG, "metadata.json"} <= set(names)
    return is_keras or _packed(names) is not None


def read(file: File) -> Checkpoint:
    """The tensors of the weights' entries. CheckpointError where there is none, or where one cannot be read."""
    archive = Archive(file)
    packed = _packed(tuple(archive.entries))
    if packed is not None:
        inner = archive.file_in(packed)
        is_archive = inner.read(0, min(4, inner.size)) in SIGNATURES
        found = _read(inner, Archive(inner)) if is_archive else hdf5.read(inner)
    else:
        found = _read(file, archive)
    return replace(found, location=file.location, bytes=file.size)


def _packed(names: tuple[str, ...]) -> str | None:
    """The one file that a plain zip is around."""
    files = [name for name in names if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(files) == 1 and files[0].lower().endswith(PACKED) and not WEIGHTS.fullmatch(files[0]):
        return files[0]
    return None


def _read(file: File, archive: Archive) -> Checkpoint:
    warnings: list[str] = []
    model = _model(archive, warnings)
    parts = [
        hdf5.read_model(archive.file_in(name), model) for name in sorted(archive.entries) if WEIGHTS.fullmatch(name)
    ]
    unread = [entry for part in parts for entry in part.unread]
    if ARRAYS in archive.entries:
        unread.append(Unread(ARRAYS, "its weights are pickled objects in numpy's format, which are never loaded"))
    if not parts and not unread:
        raise CheckpointError(file.location, "is a Keras archive without model.weights.h5: it holds no weights")
    strangers = [name for name in archive.entries if not KNOWN.fullmatch(name)]
    return Checkpoint(
        location=file.location,
        format=FORMAT,
        bytes=file.size,
        tensors=tuple(tensor for part in parts for tensor in part.tensors),
        unread=tuple(unread),
        objects_not_loaded=(
            *not_loaded(model),
            *(f"the entry {quoted(name)}: not opened" for name in strangers),
            *(what for part in parts for what in part.objects_not_loaded),
        ),
        warnings=(*warnings, *(warning for part in parts for warning in part.warnings)),
        damage=next((part.damage for part in parts if part.damage), None),
    )


def _model(archive: Archive, warnings: list[str]) -> LayerConfig | None:
    """The model that the configuration describes; None, and a warning, where it cannot be used."""
    if CONFIG not in archive.entries:
        return None
    try:
        return model_in(archive.bytes(CONFIG, "text_bytes").decode("utf-8"))
    except CheckpointError as error:
        warnings.append(f"its {CONFIG} is not used: {error.problem}")
    except ValueError as error:
        warnings.append(f"its {CONFIG} is not used: it is not valid JSON ({str(error)[:100]})")
    return None
