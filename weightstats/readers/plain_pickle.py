"""Files that `pickle.dump` or `joblib.dump` wrote: any object, with the numpy arrays that it holds.

Long arrays are read where they lie in the file. Formats: CPython's Lib/pickletools.py, joblib/numpy_pickle.py.
"""

import pickletools
import re

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.pickle_records import PickleError, read_pickle
from weightstats.errors import CheckpointError, TensorError
from weightstats.places import File
from weightstats.schemas.dangerous_names import danger
from weightstats.schemas.numpy_records import AFTER_BUILD, JOBLIB_ARRAY
from weightstats.schemas.torch_records import SavedStorage, find_tensors, unknown_classes
from weightstats.tensors import Storage

FORMAT = "pickle"
RECOGNISED_BY = "the opcodes of a pickle, of any protocol"
EXTRA = ""

_PROTO = 0x80
_PROTOCOLS = range(2, 6)
_OPCODES = frozenset(opcode.code.encode("latin-1") for opcode in pickletools.opcodes)

_STARTS_OF_TEXT = (b"(", b"c", b"]", b"}")
"""Opcodes with which protocols 0 and 1 begin a container or an object; a mere number or text is no checkpoint."""

_WRITTEN_BY_PICKLE = re.compile(rb"\([ld]p\d+\n|\(i[\w.]+\n\w+\n|[]}]q|\(?c[\w.]+\n\w+\n")
"""How a container or an object begins that Python's own pickler wrote."""

_LOOKED_AT = 1 << 16
"""Bytes of a file that may be a pickle of protocol 0 or 1: they must be opcodes up to the end, or to the cut."""


def recognises(head: bytes, file: File) -> bool:
    """A protocol from 2 to 5 with an opcode behind it; for the protocols before, opcodes that fit each other."""
    if head[:1] == bytes((_PROTO,)):
        return len(head) > 2 and head[1] in _PROTOCOLS and head[2:3] in _OPCODES
    if not head.startswith(_STARTS_OF_TEXT):
        return False
    stream = file.stream(_LOOKED_AT)
    try:
        read_pickle(stream)
    except PickleError:
        is_cut = file.size > _LOOKED_AT and stream.tell() >= _LOOKED_AT
        return is_cut and _WRITTEN_BY_PICKLE.match(head) is not None
    return True


def read(file: File) -> Checkpoint:
    """The arrays that the pickle leads to. CheckpointError where it is damaged or holds none."""
    stream = file.stream()
    try:
        pickle = read_pickle(stream, stored_bytes=file.size, leave=True, after_build=AFTER_BUILD)
        found = find_tensors(pickle.root, _no_storage, source=file)
    except PickleError as error:
        raise CheckpointError(file.location, f"its pickle {error}") from error
    if not found.tensors and not found.unread:
        warned = danger(unknown_classes(pickle.globals))
        problem = "is a plain pickle, not written by torch.save, that holds no arrays: not a checkpoint"
        raise CheckpointError(file.location, f"{problem}; it {warned}" if warned else problem)
    behind = file.size - stream.tell()
    warnings = [f"the {behind:,} bytes after the end of the pickle are not looked at"] if behind else []
    return Checkpoint(
        location=file.location,
        format="joblib" if any(name.full_name == JOBLIB_ARRAY for name in pickle.globals) else FORMAT,
        bytes=file.size,
        tensors=tuple(found.tensors),
        unread=tuple(Unread(".".join(path), reason) for path, reason in found.unread),
        objects_not_loaded=unknown_classes(pickle.globals),
        warnings=(*found.warnings, *warnings),
    )


def _no_storage(saved: SavedStorage) -> Storage:
    raise TensorError("its storage is not in the file")
