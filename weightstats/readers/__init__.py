"""Bytes to tensors, one module a format. The content decides which, never the name."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError, quoted
from weightstats.order import in_network_order
from weightstats.places import File, Folder, open_file, open_folder
from weightstats.readers import safetensors_file, shards, torch_legacy, torch_zip
from weightstats.zip_archive import SIGNATURES, Archive


class Format(Protocol):
    """What each module of this folder says of itself."""

    FORMAT: str
    RECOGNISED_BY: str
    EXTRA: str
    """Of weightstats, which it needs; '' where it needs none."""


class Reader(Format, Protocol):
    """A module that reads a file."""

    def recognises(self, head: bytes, file: File) -> bool:
        """Whether the first bytes of a file are this format's."""
        ...

    def read(self, file: File) -> Checkpoint:
        """The tensors in the file, or CheckpointError."""
        ...


class FolderReader(Format, Protocol):
    """A module that reads a folder."""

    def recognises_folder(self, folder: Folder) -> bool:
        """Whether the names in a folder are this format's."""
        ...

    def read_folder(self, folder: Folder) -> Checkpoint:
        """The tensors in the folder, or CheckpointError."""
        ...


READERS: tuple[Reader, ...] = (torch_zip, torch_legacy, safetensors_file)
"""Formats of one file, tried in this order."""

FOLDER_READERS: tuple[FolderReader, ...] = ()
"""Formats of a folder, tried in this order; the last resort is a folder as the Hugging Face hub lays it out."""

FORMATS: tuple[Format, ...] = tuple(dict.fromkeys((*READERS, *FOLDER_READERS, shards)))
"""Every format that is read."""

HEAD_BYTES = 512

STRANGERS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "is a Git LFS pointer, not the checkpoint itself; run `git lfs pull` where you cloned it, or download the file",
    ),
    (
        b"/annex/objects/",
        "is a git-annex pointer, not the checkpoint itself; run `git annex get` where you cloned it",
    ),
    (b"<!doctype html", "is a web page, not a checkpoint: the download saved a page, perhaps a log-in or an error"),
    (b"<html", "is a web page, not a checkpoint: the download saved a page, perhaps a log-in or an error"),
    (b"<?xml", "is an XML document, not a checkpoint: perhaps a download's error message"),
    (b"GGUF", "is a GGUF file, a format that is not read yet"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file (Keras?), a format that is not read yet"),
    (b"\x93NUMPY", "is a numpy array, a format that is not read yet"),
    (b"\x1f\x8b", "is compressed with gzip; decompress it first"),
    (b"\xfd7zXZ", "is compressed with xz; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstandard; decompress it first"),
    (b"\x80", "is a plain pickle, not written by torch.save: a format that is not read yet"),
    (b"{", "is a JSON document that is neither a shard index nor a checkpoint"),
)
"""First bytes, in lower case where they are text, of files that people take for checkpoints, and what to do."""


def open_checkpoint(location: str) -> Checkpoint:
    """What is in the file, the shard index or the folder at `location`; no tensor's bytes are read.

    CheckpointError, in one line that says what the location holds, where it is not a readable checkpoint.
    """
    path = Path(location)
    if path.is_dir():
        return _read_folder(open_folder(path, location))
    if not path.exists() and path.with_name(f"{path.name}.index").exists():  # a TensorFlow checkpoint's prefix
        path = path.with_name(f"{path.name}.index")
    file = open_file(path, location)
    if file.size == 0:
        raise CheckpointError(location, "is empty (0 bytes): the download or the save did not finish")
    if shards.is_index(file):
        return shards.read(file, shards.named_by(file, path.parent), location, read_file)
    checkpoint = read_file(file)
    if checkpoint.format != safetensors_file.FORMAT:
        return checkpoint
    return replace(checkpoint, tensors=in_network_order([checkpoint.tensors]))


def _read_folder(folder: Folder) -> Checkpoint:
    for reader in FOLDER_READERS:
        if reader.recognises_folder(folder):
            return reader.read_folder(folder)
    index, files = shards.in_folder(folder)
    return shards.read(index, files, folder.location, read_file)


def read_file(file: File) -> Checkpoint:
    """The checkpoint in one file."""
    head = file.read(0, min(file.size, HEAD_BYTES))
    for reader in READERS:
        if reader.recognises(head, file):
            return reader.read(file)
    if head.startswith(SIGNATURES):
        names = quoted(", ".join(Archive(file).entries))
        raise CheckpointError(file.location, f"is a zip archive that holds no checkpoint of a known format, but {names}")
    text = head.lstrip().lower()
    for start, problem in STRANGERS:
        if head.startswith(start) or text.startswith(start):
            raise CheckpointError(file.location, problem)
    raise CheckpointError(
        file.location,
        "is not in a format that is read (`weightstats formats` lists them)",
    )
