"""Checkpoints made byte by byte, so that a test can break exactly one rule, and what reads their tensors whole."""

import io
import json
import os
import pickle
import signal
import struct
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from weightstats.checkpoint import Checkpoint
from weightstats.readers import open_checkpoint
from weightstats.readers.torch_legacy import MAGIC_NUMBER, PROTOCOL_VERSION
from weightstats.tensors import Buffers, Tensor

FORMATS = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}
"""What torch.save is told, by the name of the format that it then writes."""


def opened(path: Path, content: bytes) -> Checkpoint:
    """The checkpoint in a new file with this content."""
    path.write_bytes(content)
    return open_checkpoint(str(path))


def values(tensor: Tensor) -> NDArray[np.float64]:
    """The distinct elements of a tensor in the order of the storage."""
    buffers = Buffers()
    with np.errstate(invalid="ignore"):  # widening a signalling NaN
        blocks = [block.astype(np.float64) for section in tensor.sections() for block in section.blocks(buffers)]
    return np.concatenate(blocks) if blocks else np.empty(0)


def named_values(checkpoint: Checkpoint) -> dict[str, list[float]]:
    """The elements of every tensor, by name; a name that is there twice fails."""
    found = {tensor.name: values(tensor).tolist() for tensor in checkpoint.tensors}
    assert len(found) == len(checkpoint.tensors)
    return found


def reasons(checkpoint: Checkpoint) -> dict[str, str]:
    """Why each tensor that could not be read was not; a name that is there twice fails."""
    found = {entry.name: entry.reason for entry in checkpoint.unread}
    assert len(found) == len(checkpoint.unread)
    return found


def floats(*numbers: float) -> bytes:
    """Little-endian 32-bit floats."""
    return np.array(numbers, "<f4").tobytes()


@contextmanager
def ending_soon(seconds: float = 5) -> Iterator[None]:
    """Fail where the body would not end; no measure of speed. They are seconds of this process's own time, beside
    whatever else the machine does; a body that waits may take ten times as many."""

    def give_up(number: int, frame: object) -> None:
        raise AssertionError(f"did not end within {seconds} seconds")

    signals = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    before = {number: signal.signal(number, give_up) for number in signals}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    try:
        yield
    finally:
        for number, timer in signals.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def wait_until_open(process: int, path: Path) -> None:
    """Until a process has had a file open for a while, or for some seconds where that cannot be seen."""
    descriptors = Path(f"/proc/{process}/fd")
    for _ in range(300):
        time.sleep(0.1)
        if descriptors.exists() and any(os.path.realpath(one) == str(path.resolve()) for one in descriptors.iterdir()):
            break
    time.sleep(0.5)


@dataclass
class Memory:
    """Bytes as the source of a storage, with a note of every range that is read."""

    content: bytes
    sequential: bool = False
    location: str = "memory"
    read: list[tuple[int, int]] = field(default_factory=list)

    def reader(self) -> "Memory":
        return self

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.read.append((offset, offset + len(buffer)))
        assert 0 <= offset <= offset + len(buffer) <= len(self.content)
        buffer[:] = self.content[offset : offset + len(buffer)]

    def will_need(self, offset: int, length: int) -> None:
        assert 0 <= offset <= offset + length <= len(self.content)


# safetensors


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    """One tensor in a safetensors header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_file(header: object, data: bytes = b"") -> bytes:
    """A header, as an object or as its bytes, and the data behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


# torch


class Stored(NamedTuple):
    """A storage outside the pickle, as torch.save's persistent ids describe it."""

    key: str
    elements: int
    kind: Any = torch.FloatStorage
    view: tuple[str, int, int] | None = None


@dataclass
class Call:
    """Pickled as the call of a function; `state` is built into its result and `pairs` are set on it as items."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    pairs: tuple[tuple[Any, Any], ...] = ()
    state: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments, self.state, None, iter(self.pairs)


class _Pickler(pickle.Pickler):
    view_is_written = False

    def persistent_id(self, thing: object) -> tuple[Any, ...] | None:
        if not isinstance(thing, Stored):
            return None
        identity = ("storage", thing.kind, thing.key, "cpu", thing.elements)
        return (*identity, thing.view) if self.view_is_written else identity


class _LegacyPickler(_Pickler):
    view_is_written = True


def pickled(thing: object, protocol: int = 2, legacy: bool = False) -> bytes:
    """The pickle of a torch file; storages are `Stored`."""
    stream = io.BytesIO()
    (_LegacyPickler if legacy else _Pickler)(stream, protocol).dump(thing)
    return stream.getvalue()


def view(storage: object, shape: Iterable[Any], strides: Iterable[Any] | None = None, offset: Any = 0) -> Call:
    """A tensor as torch.save writes it; contiguous by default."""
    shape = tuple(shape)
    if strides is None:
        strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    arguments = (storage, offset, shape, tuple(strides), False, OrderedDict())
    return Call(torch._utils._rebuild_tensor_v2, arguments)


def zip_file(pickle_bytes: bytes, storages: dict[str, bytes], **more: Any) -> bytes:
    """A torch zip. `byteorder` adds that entry, `method` compresses, `entries` are added as they are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", more.get("method", zipfile.ZIP_STORED)) as archive:
        archive.writestr("archive/data.pkl", pickle_bytes)
        if "byteorder" in more:
            archive.writestr("archive/byteorder", more["byteorder"])
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3")
        for name, content in more.get("entries", ()):
            archive.writestr(name, content)
    return stream.getvalue()


def legacy_file(thing: object, storages: dict[str, tuple[int, bytes]], keys: list[str] | None = None) -> bytes:
    """A legacy torch file; each storage is its element count and its bytes."""
    system = {"protocol_version": PROTOCOL_VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4}}
    parts = [pickle.dumps(part, 2) for part in (MAGIC_NUMBER, PROTOCOL_VERSION, system)]
    parts += [pickled(thing, legacy=True), pickle.dumps(list(storages) if keys is None else keys, 2)]
    parts += [struct.pack("<q", count) + content for count, content in storages.values()]
    return b"".join(parts)


def saved(thing: object, **options: Any) -> bytes:
    """What torch.save writes."""
    stream = io.BytesIO()
    torch.save(thing, stream, **options)
    return stream.getvalue()


def distinct(tensor: torch.Tensor) -> NDArray[np.float64]:
    """The elements of a tensor as float64 magnitudes, each stored one once, in ascending order with NaN last."""
    tensor = tensor.detach()
    shape = [1 if stride == 0 and size else size for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
    tensor = tensor.as_strided(shape, tensor.stride())
    wide = tensor.to(torch.complex128 if tensor.is_complex() else torch.float64).numpy()
    return np.sort((np.abs(wide) if tensor.is_complex() else wide).reshape(-1))
