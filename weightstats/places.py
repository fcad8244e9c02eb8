"""Where bytes come from: a local file, read at offsets through one descriptor.

Files are read with `pread` and never mapped: a mapped file that shrinks kills the process.
"""

import contextlib
import io
import os
import stat
import tempfile
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from weightstats.errors import CheckpointError, quoted
from weightstats.limits import LIMITS, over

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class File:
    """An open regular file. It is closed when nothing refers to it any more."""

    location: str
    """The path as the user wrote it, for messages."""

    size: int
    """Bytes in the file when it was opened."""

    descriptor: int
    base: int = 0
    """Where it starts in what the descriptor stands for: more than 0 for a part of a file."""

    whole: "File | None" = None
    """The file of which it is a part, kept open by it."""

    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def folder(self) -> Path:
        """The folder in which it lies, as the user wrote it."""
        return Path(self.location).parent

    @property
    def sequential(self) -> bool:
        """Whether reading backwards costs more than reading on: never, for a file."""
        return False

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; CheckpointError where the file holds fewer."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise CheckpointError(self.location, f"the file ends before byte {offset + length:,}: it is truncated")
        data = bytearray(length)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` (bytes) from `offset`; CheckpointError where the file has become shorter or fails."""
        done = 0
        while done < len(buffer):
            try:
                count = self._read_some(offset + done, buffer[done:])
            except OSError as error:
                raise CheckpointError(self.location, f"reading failed: {error.strerror or error}") from error
            if count == 0:
                raise CheckpointError(
                    self.location, f"the file ends at byte {offset + done:,}, before the data that it promises"
                )
            done += count

    def stream(self, end: int | None = None) -> io.BufferedReader:
        """The file from its start as a seekable binary stream, up to `end` bytes."""
        return _Buffered(_Stream(self, self.size if end is None else min(end, self.size)))

    def window(self, start: int, size: int, location: str) -> "File":
        """A part of the file as a file of its own; CheckpointError where the part is not all there."""
        if start < 0 or size < 0 or start + size > self.size:
            raise CheckpointError(location, f"the file ends before byte {start + size:,}: it is truncated")
        whole = self.whole or self
        return File(location, size, self.descriptor, self.base + start, whole, whole.lock)

    def reader(self) -> "File":
        """Itself: any number of threads may read a file side by side."""
        return self

    def will_need(self, offset: int, length: int) -> None:
        """Tell the system that these bytes are read soon, where it can be told."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.descriptor, self.base + offset, length, os.POSIX_FADV_WILLNEED)

    def _read_some(self, offset: int, buffer: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self.descriptor, [buffer], self.base + offset)
        with self.lock:
            os.lseek(self.descriptor, self.base + offset, os.SEEK_SET)
            data = os.read(self.descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Buffered(io.BufferedReader):
    """A buffered stream that asks for no more memory than there are bytes left, however many are asked of it."""

    raw: "_Stream"

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes; all that are left where it is negative."""
        left = max(0, self.raw.end - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


class _Stream(io.RawIOBase):
    def __init__(self, file: File, end: int) -> None:
        self.file, self.end, self.position = file, end, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.end}[whence]
        if base + offset < 0:
            raise ValueError("seek to a place before the start")
        self.position = base + offset
        return self.position

    def readinto(self, buffer: "Buffer") -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.end - self.position))
        self.file.read_into(self.position, view[:count])
        self.position += count
        return count


def open_file(path: Path, location: str | None = None) -> File:
    """Open a regular file for reading; devices, pipes and sockets are refused without waiting for them."""
    location = str(path) if location is None else location
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except FileNotFoundError as error:
        raise CheckpointError(location, "there is no such file or folder") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(location, f"cannot be opened: {reason}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise CheckpointError(location, "is not a regular file")
    file = File(location=location, size=status.st_size, descriptor=descriptor)
    weakref.finalize(file, os.close, descriptor)
    return file


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder in which a checkpoint may lie."""

    path: Path
    location: str
    """The path as the user wrote it, for messages."""

    names: tuple[str, ...]
    """Of its entries, sorted; no more than LIMITS.folder_entries of them."""

    def open(self, name: str) -> File:
        """A file in it, or in a folder inside it; CheckpointError for one that lies outside."""
        return open_inside(self.path, name, self.location)


def open_folder(path: Path, location: str | None = None) -> Folder:
    """The folder at `path`; CheckpointError where it cannot be listed."""
    location = str(path) if location is None else location
    try:
        with os.scandir(path) as entries:
            names = [entry.name for _, entry in zip(range(LIMITS.folder_entries + 1), entries, strict=False)]
    except OSError as error:
        raise CheckpointError(location, f"cannot be listed: {error.strerror or error}") from error
    if len(names) > LIMITS.folder_entries:
        raise CheckpointError(location, f"is a folder of {over('folder_entries')} entries")
    return Folder(path, location, tuple(sorted(names)))


def written_out(pieces: Iterable[bytes], location: str) -> File:
    """Bytes as a file without a name, for what is read at random and lies compressed; gone when it is not used.

    CheckpointError where there is no room for them.
    """
    try:
        handle, path = tempfile.mkstemp(prefix="weightstats-")
    except OSError as error:
        raise _unwritten(location, error) from error
    with contextlib.suppress(OSError):  # where an open file cannot be removed, it stays in the temporary folder
        os.unlink(path)
    size = 0
    try:
        for piece in pieces:
            size += _written(handle, piece, location)
    except BaseException:
        os.close(handle)
        raise
    file = File(location=location, size=size, descriptor=handle)
    weakref.finalize(file, os.close, handle)
    return file


def _written(handle: int, piece: bytes, location: str) -> int:
    """How many bytes the piece has, all of which are written."""
    done = 0
    try:
        while done < len(piece):
            done += os.write(handle, memoryview(piece)[done:])
    except OSError as error:
        raise _unwritten(location, error) from error
    return done


def _unwritten(location: str, error: OSError) -> CheckpointError:
    return CheckpointError(location, f"cannot be written out to a temporary file: {error.strerror or error}")


def open_inside(folder: Path, name: str, location: str) -> File:
    """Open the file that a checkpoint names beside itself, if it lies in `folder`.

    The one exception to staying inside is the Hugging Face cache, whose `snapshots/<revision>/` holds links into
    the `blobs/` folder of the same model.
    """
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or "\0" in name or ":" in parts[0] or ".." in parts:
        raise CheckpointError(location, f"names a file outside its own folder: {quoted(name)}")
    try:
        real = Path(os.path.realpath(folder / name))
    except (OSError, ValueError) as error:
        raise CheckpointError(location, f"names a file that cannot be: {quoted(name)}") from error
    home = Path(os.path.realpath(folder))
    inside = real.is_relative_to(home) or any(real.is_relative_to(blobs) for blobs in _cache_blobs(folder))
    if not inside:
        raise CheckpointError(location, f"names a file that is a link out of its own folder: {quoted(name)}")
    return open_file(real, location=str(folder / name))


def _cache_blobs(folder: Path) -> tuple[Path, ...]:
    """The blobs of the model in whose Hugging Face cache `folder` is a snapshot, else nothing."""
    absolute = Path(os.path.abspath(folder))
    for parent in absolute.parents:
        if parent.name == "snapshots" and parent.parent.name.startswith("models--"):
            model, blobs = (Path(os.path.realpath(path)) for path in (parent.parent, parent.parent / "blobs"))
            return (blobs,) if blobs == model / "blobs" else ()
    return ()
