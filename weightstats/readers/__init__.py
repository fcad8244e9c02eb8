"""Bytes to tensors, one module a format. The content decides which, never the name."""

import os
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from weightstats.checkpoint import Checkpoint
from weightstats.configs import configs_beside
from weightstats.containers.zip_archive import SIGNATURES, Archive
from weightstats.errors import CheckpointError, quoted
from weightstats.limits import crowded
from weightstats.order import in_network_order
from weightstats.places import File, Folder, open_file, open_folder
from weightstats.readers import safetensors_file, shards


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


@dataclass(frozen=True, slots=True)
class Entry:
    """A module of this folder, and what must be there before it is worth importing."""

    module: str
    begins: tuple[bytes, ...] = (b"",)
    """What a file may begin with."""

    at: int = 0
    """The offset at which it may."""

    def may_be(self, head: bytes) -> bool:
        """Whether the first bytes of a file leave it possible."""
        return head.startswith(self.begins, self.at)

    @property
    def reader(self) -> Any:
        """The module, which is a Reader, a FolderReader or both."""
        return import_module(f"weightstats.readers.{self.module}")


_BLANKS = (b" ", b"\t", b"\n", b"\r")

READERS: tuple[Entry, ...] = (
    Entry("distributed", (*SIGNATURES, b"\x80")),
    Entry("torch_export", SIGNATURES),
    Entry("torch_zip", SIGNATURES),
    Entry("keras_zip", SIGNATURES),
    Entry("numpy_npz", SIGNATURES),
    Entry("gguf_file", (b"GGUF",)),
    Entry("hdf5", (b"\x89HDF",)),
    Entry("tflite", (b"TFL3",), at=4),
    Entry("equinox", (b"\x93NUMPY", b"{", b"[")),
    Entry("numpy_npy", (b"\x93NUMPY",)),
    Entry("torch_legacy", (b"\x80", b"L")),
    Entry("torch_tar", (b"ustar",), at=257),
    Entry("tfjs", (b"{", b"[", *_BLANKS)),
    Entry("safetensors_file", (b"{", *_BLANKS), at=8),
    Entry("onnx_file", (b"\x08",)),
    Entry("saved_model", (b"\x08",)),
    Entry("frozen_graph", (b"\n",)),
    Entry("tensorflow_checkpoint"),
    Entry("plain_pickle"),
    Entry("flax_msgpack", tuple(bytes([first]) for first in (*range(0x81, 0x90), 0xDE, 0xDF))),
    Entry("hdf5"),
)
"""Formats of one file, tried in this order: the more telling first. A file that is two at once is read as the first."""

FOLDER_READERS = (
    *(Entry("saved_model"), Entry("distributed"), Entry("distributed_safetensors"), Entry("deepspeed")),
    *(Entry("tensorflow_checkpoint"), Entry("gguf_file")),
)
"""Formats of a folder, tried in this order; the last resort is a folder as the Hugging Face hub lays it out."""


def formats() -> tuple[Format, ...]:
    """Every format that is read."""
    names = dict.fromkeys(entry.module for entry in (*READERS, *FOLDER_READERS))
    return (*(cast(Format, Entry(name).reader) for name in names), shards)


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
    (b"\x1f\x8b", "is compressed with gzip; decompress it first"),
    (b"\xfd7zXZ", "is compressed with xz; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstandard; decompress it first"),
    (b"{", "is a JSON document that is neither a shard index nor a checkpoint"),
)
"""First bytes, in lower case where they are text, of files that people take for checkpoints, and what to do."""


def open_checkpoint(location: str) -> Checkpoint:
    """What is in the file, the shard index or the folder at `location`; no tensor's bytes are read.

    CheckpointError, in one line that says what the location holds, where it is not a readable checkpoint.
    """
    checkpoint = _with_configs(_opened(location), Path(location))
    if crowd := crowded(len(checkpoint.tensors) + len(checkpoint.unread), checkpoint.bytes):
        raise CheckpointError(location, crowd)
    return checkpoint


def _with_configs(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """The checkpoint with the configurations that lie beside its file, or in its folder."""
    found, warnings = configs_beside(path if os.path.isdir(path) else path.parent, checkpoint.location)
    return replace(checkpoint, config={**found, **checkpoint.config}, warnings=(*checkpoint.warnings, *warnings))


def _opened(location: str) -> Checkpoint:
    path = Path(location)
    if os.path.isdir(location):
        return _read_folder(open_folder(path, location))
    if not os.path.exists(location) and os.path.exists(f"{location}.index"):  # a TensorFlow checkpoint's prefix
        path = Path(f"{location}.index")
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
    for entry in FOLDER_READERS:
        folder_reader: FolderReader = entry.reader
        if folder_reader.recognises_folder(folder):
            return folder_reader.read_folder(folder)
    index, files = shards.in_folder(folder)
    return shards.read(index, files, folder.location, read_file)


def read_file(file: File) -> Checkpoint:
    """The checkpoint in one file."""
    head = file.read(0, min(file.size, HEAD_BYTES))
    for entry in READERS:
        if entry.may_be(head):
            reader: Reader = entry.reader
            if reader.recognises(head, file):
                return reader.read(file)
    if head.startswith(SIGNATURES):
        names = quoted(", ".join(Archive(file).entries))
        raise CheckpointError(
            file.location, f"is a zip archive that holds no checkpoint of a known format, but {names}"
        )
    text = head.lstrip().lower()
    for start, problem in STRANGERS:
        if head.startswith(start) or text.startswith(start):
            raise CheckpointError(file.location, problem)
    raise CheckpointError(
        file.location,
        "is not in a format that is read (`weightstats formats` lists them)",
    )
