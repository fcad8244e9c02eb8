"""The structure of an HDF5 file, as a process of its own finds it: `hdf5_child` parses, this side believes nothing.

What comes back is checked field by field; that the process crashed, hung or told too much is one line about the file.
On a platform without resource limits (Windows) only its time and its answer are bounded.
"""

import base64
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn, TypeAlias

from weightstats.dtypes import DTYPES, ByteOrder
from weightstats.errors import CheckpointError, quoted
from weightstats.limits import LIMITS, over
from weightstats.places import File

COMMAND = (sys.executable, "-I", "-B", str(Path(__file__).with_name("hdf5_child.py")))

KEPT_ENVIRONMENT = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What Python itself may need to start."""

BYTES_A_SECOND = 2_500_000
"""How much of a file one more second of processor time is granted for: as many small datasets take about as long."""

MOST_SECONDS = 60
"""More than this are not granted for a file's size; the metadata of published models takes under one."""

WAIT = 6
"""Seconds to wait for each second of processor time that is granted: other processes run, too."""

OUT_OF_TIME = tuple(getattr(signal, name) for name in ("SIGKILL", "SIGXCPU") if hasattr(signal, name))
"""Signals that end the process when its time is up."""

Path_: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contiguous:
    """Numbers in one run of bytes."""

    offset: int | None
    """From the file's signature; None where nothing was ever written."""

    size: int


@dataclass(frozen=True, slots=True)
class Compact:
    """Numbers in the dataset's own header."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Chunked:
    """Numbers in blocks, each perhaps filtered; blocks that were never written are not listed."""

    shape: tuple[int, ...]
    filters: tuple[tuple[int, str, tuple[int, ...]], ...]
    """(number, name, parameters), in the order of writing."""

    chunks: tuple[tuple[tuple[int, ...], int, int, int], ...]
    """(index of the first element, offset, stored bytes, bits of the filters that were left out)."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """One array of the file."""

    path: Path_
    address: int
    """Of its header: equal for two names of one dataset, and the order of writing."""

    dtype: str
    order: ByteOrder
    shape: tuple[int, ...]
    fill: bytes | None
    """An element that was never written, b"" for zero, None where it is not defined."""

    layout: Contiguous | Compact | Chunked


@dataclass(slots=True)
class Structure:
    """What is in a file, in the order in which its groups list it."""

    datasets: list[Dataset] = field(default_factory=list)
    again: list[tuple[Path_, int]] = field(default_factory=list)
    """Other names of a dataset, with its address."""

    unread: list[tuple[Path_, str]] = field(default_factory=list)
    links: list[tuple[Path_, str]] = field(default_factory=list)
    """Soft links and what they name; they are not followed."""

    texts: dict[tuple[Path_, str], tuple[str, ...]] = field(default_factory=dict)
    """Texts that Keras keeps beside the numbers, by group and name."""

    warnings: list[str] = field(default_factory=list)


def parsed(file: File, userblock: int) -> Structure:
    """The structure of the HDF5 file that begins at `userblock`; CheckpointError where it cannot be told."""
    seconds = LIMITS.hdf5_seconds + min(MOST_SECONDS, file.size // BYTES_A_SECOND)
    job = {
        "base": file.base + userblock,
        "size": file.size - userblock,
        "folders": _library_folders(),
        "answer": LIMITS.hdf5_description_bytes,
        "memory": LIMITS.hdf5_memory,
        "seconds": seconds,
        "tensors": LIMITS.tensors,
        "chunks": LIMITS.hdf5_chunks,
        "depth": LIMITS.depth,
        "text": LIMITS.text_bytes,
    }
    structure = Structure()
    last: dict[str, Any] = {}
    with _child(job, file, seconds * WAIT) as (process, output):
        try:
            for line in _lines(output):
                last = json.loads(line)
                _take(structure, last)
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            problem = "is damaged: the HDF5 library's account of it makes no sense"
            raise CheckpointError(file.location, problem) from error
        process.wait()
    _check_end(file, last, process.returncode)
    return structure


def _library_folders() -> list[str]:
    """Where the library and numpy are installed, which an isolated interpreter may not know."""
    specs = [importlib.util.find_spec(name) for name in ("h5py", "numpy")]
    return [str(Path(spec.origin).parent.parent) for spec in specs if spec is not None and spec.origin is not None]


@contextlib.contextmanager
def _child(job: dict[str, Any], file: File, seconds: int) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """The running process and its output; it is gone at the end, whatever happens."""
    environment = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    environment |= {"HDF5_PLUGIN_PATH": "::", "HDF5_USE_FILE_LOCKING": "FALSE"}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # each takes address space
    command = [*COMMAND, json.dumps(job)]
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module; the job holds numbers and folders
            command, stdin=file.descriptor, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
    except OSError as error:
        raise CheckpointError(file.location, f"the process that reads HDF5 files does not start: {error}") from error
    alarm = threading.Timer(seconds, process.kill)
    alarm.start()
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        yield process, process.stdout
    finally:
        process.kill()
        alarm.cancel()
        alarm.join()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _lines(output: IO[bytes]) -> Iterator[bytes]:
    """The lines of an answer; ValueError where it does not keep to the limit."""
    left = LIMITS.hdf5_description_bytes + 100
    while line := output.readline(left):
        left -= len(line)
        if left <= 0:
            raise ValueError("it goes on beyond what was agreed")
        yield line


def _check_end(file: File, last: dict[str, Any], code: int) -> None:
    """CheckpointError unless the answer is complete."""
    kind = last.get("kind")
    if kind == "end" and code == 0:
        return
    if kind == "over":
        problem = f"describes {over('hdf5_description_bytes')} (bytes)"
    elif kind == "too many":
        problem = f"holds more datasets than may be tensors, {over('tensors')}"
    elif kind == "error":
        problem = _in_words(str(last.get("problem", "")))
    elif -code in OUT_OF_TIME:
        problem = f"takes too long to find out what is in it: {over('hdf5_seconds')} (seconds)"
    elif code < 0:
        problem = f"is damaged: the HDF5 library crashed on it (signal {-code})"
    else:
        problem = f"cannot be read: the process that reads HDF5 files ended early, or needed {over('hdf5_memory')}"
    raise CheckpointError(file.location, problem)


REASONS = (
    ("truncated file", "is truncated: the HDF5 file was longer than what is there"),
    ("already open for write", "is marked as still open for writing: it was not closed, and may be incomplete"),
    ("", "is a damaged HDF5 file"),
)
"""What the library's message holds, and what that means."""


def _in_words(message: str) -> str:
    """A refusal out of the library's own message; it runs out of memory without one."""
    if not message:
        return f"is damaged, or asks for {over('hdf5_memory')} (bytes)"
    reason = next(reason for part, reason in REASONS if part in message)
    return f"{reason} ({quoted(message)[1:-1]})"


def _take(structure: Structure, line: dict[str, Any]) -> None:
    """Add one line of the answer. What is not as agreed raises ValueError, TypeError or KeyError."""
    kind = line["kind"]
    if kind in ("end", "error", "over", "too many"):
        return
    path = tuple(_text(key) for key in line["path"])
    name = "/".join(path)
    if kind == "dataset" and "reason" in line:
        reason = _text(line["reason"])
        structure.unread.append((path, f"its file has {over('hdf5_chunks')}" if "over" in line else reason))
    elif kind == "dataset":
        structure.datasets.append(_dataset(path, line))
    elif kind == "again":
        structure.again.append((path, _size(line["address"])))
    elif kind == "group again":
        first = "/".join(_text(key) for key in line["first"])
        structure.warnings.append(f"the group {quoted(name)} is the group {quoted('/' + first)} under another name")
    elif kind == "too deep":
        structure.unread.append((path, f"a group that lies in {over('depth')} (groups)"))
    elif kind == "ambiguous":
        structure.unread.append((path or ("/",), "a group with two links of one name: which one is meant is not known"))
    elif kind == "link" and line["external"]:
        structure.unread.append((path, f"a link into another file, {quoted(_text(line['target']))}: not opened"))
    elif kind == "link":
        structure.links.append((path, _text(line["target"])))
    elif kind == "texts":
        structure.texts[path, _text(line["name"])] = tuple(_text(text) for text in line["texts"])
    elif kind == "no texts":
        structure.warnings.append(f"the attribute {quoted(line['name'])} of {quoted('/' + name)} cannot be read")
    else:
        _refuse(kind)


def _dataset(path: Path_, line: dict[str, Any]) -> Dataset:
    dtype, order, fill = _text(line["dtype"]), _text(line["order"]), line.get("fill", "")
    if dtype not in DTYPES or order not in ("little", "big"):
        _refuse(dtype)
    filled = None if fill is None else base64.b64decode(_text(fill), validate=True)
    if filled and len(filled) != DTYPES[dtype].width:
        filled = None
    shape = _sizes(line["shape"])
    layout = _layout(line, len(shape))
    return Dataset(path, _size(line["address"]), dtype, "big" if order == "big" else "little", shape, filled, layout)


def _layout(line: dict[str, Any], rank: int) -> Contiguous | Compact | Chunked:
    if line["layout"] == "compact":
        return Compact(base64.b64decode(_text(line["bytes"]), validate=True))
    if line["layout"] == "contiguous":
        return Contiguous(None, 0) if line["offset"] is None else Contiguous(_size(line["offset"]), _size(line["size"]))
    shape = _sizes(line["chunk_shape"])
    filters = tuple((_size(number), _text(name), _sizes(values)) for number, name, values in line["filters"])
    chunks = tuple(
        (_sizes(place), _size(offset), _size(size), _size(mask)) for place, offset, size, mask in line["chunks"]
    )
    if len(shape) != rank or not all(shape) or any(len(place) != rank for place, _, _, _ in chunks):
        _refuse(shape)
    return Chunked(shape, filters, chunks)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        _refuse(value)
    value.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
    return value


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return value
    return _refuse(value)


def _sizes(values: Any) -> tuple[int, ...]:
    return tuple(_size(value) for value in values) if isinstance(values, list) else _refuse(values)


def _refuse(value: Any) -> NoReturn:
    raise ValueError(f"not as agreed: {quoted(value)}")
