"""One numpy array in a file, as `numpy.save` writes it."""

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.npy_header import MAGIC, array_in, read_header
from weightstats.errors import CheckpointError, TensorError
from weightstats.places import File
from weightstats.tensors import Storage

FORMAT = "NumPy array"
RECOGNISED_BY = "numpy's magic number"
EXTRA = ""

PATH = ("array",)
"""What the array is called: the file does not name it."""


def recognises(head: bytes, file: File) -> bool:
    """The magic number. A file that goes on with a second array is Equinox's, whose reader is asked first."""
    return head.startswith(MAGIC)


def read(file: File) -> Checkpoint:
    """The array. CheckpointError where its header is damaged, or describes another number of bytes than there are."""
    storage = Storage(file, 0, file.size)
    try:
        header = read_header(storage)
    except TensorError as error:
        raise CheckpointError(file.location, str(error)) from error
    if header.end is not None and header.end != file.size:
        problem = "is truncated" if header.end > file.size else "goes on after its array"
        raise CheckpointError(
            file.location,
            f"{problem}: its header describes {header.data_size:,} bytes of elements, "
            f"the file has {file.size - header.size:,}",
        )
    try:
        tensor = array_in(PATH, header, storage)
    except TensorError as error:
        return Checkpoint(file.location, FORMAT, file.size, (), (Unread(PATH[0], str(error)),))
    return Checkpoint(file.location, FORMAT, file.size, (tensor,))
