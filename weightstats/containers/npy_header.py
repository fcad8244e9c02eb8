"""The header of a numpy array in a file: its dtype, shape and order, as text that is parsed and never evaluated.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, versions 1.0, 2.0 and 3.0. numpy itself
reads the header with `ast.literal_eval`, which compiles it, warns of odd escapes and fails on depth in several ways.
"""

import math
import re
from dataclasses import dataclass, replace

from weightstats.containers.literals import LiteralError, Value, read_literal
from weightstats.dtypes import DTYPES, NAMES, ByteOrder
from weightstats.errors import TensorError, quoted
from weightstats.limits import LIMITS, over
from weightstats.tensors import Storage, Tensor, Use, make_tensor

MAGIC = b"\x93NUMPY"

_LENGTH_BYTES = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
"""Bytes of the header's length in each version of the format."""

_KINDS = {"f": "float", "c": "complex", "i": "int", "u": "uint"}
_NUMBER = re.compile(r"([<>=|]?)([fciu])(\d{1,2})")
_OTHER = re.compile(r"[<>=|]?([SaUVOmM])(\d{0,12})(?:\[[^]]{0,40}\])?")

_OTHERS = {
    "S": "texts of bytes",
    "a": "texts of bytes",
    "U": "texts",
    "V": "raw bytes of no known type",
    "m": "spans of time",
    "M": "points in time",
}
"""numpy's types that are no numbers, by the letter that stands for them."""

_NO_NUMBERS = {
    "<f1": "8-bit floats of a kind that the header does not tell",
    "<V1": "8-bit floats or small integers of a kind that the header does not tell",  # ml_dtypes has a dozen
    **dict.fromkeys(("f10", "f12", "f16"), "long doubles, whose layout depends on the machine"),
    **dict.fromkeys(("c20", "c24", "c32"), "pairs of long doubles, whose layout depends on the machine"),
}
"""Numbers that cannot be read, by dtype or by dtype without its byte order."""

PICKLED = "its elements are pickled objects, which are never loaded"


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What stands before the elements of an array."""

    dtype: str | None
    """The dtype's name in `dtypes`, None where it is none that can be read."""

    order: ByteOrder
    refusal: str
    """Why the dtype cannot be read, '' where it can."""

    width: int | None
    """Bytes of one element; None where only the elements themselves would tell."""

    shape: tuple[int, ...]
    size: int
    """Bytes of the header itself, the magic number included."""

    @property
    def data_size(self) -> int | None:
        """Bytes of all elements, None where the header does not tell."""
        return None if self.width is None else math.prod(self.shape) * self.width

    @property
    def end(self) -> int | None:
        """Where the array ends, counted from its magic number."""
        return None if self.data_size is None else self.size + self.data_size


def read_header(storage: Storage) -> NpyHeader:
    """The header at the start of a storage. TensorError where it is damaged; CheckpointError where reading fails."""
    source = storage.source.reader()

    def take(start: int, length: int) -> bytes:
        if start + length > storage.size:
            raise TensorError("it ends within its numpy header")
        data = bytearray(length)
        source.read_into(storage.start + start, memoryview(data))
        return bytes(data)

    start = take(0, 8)
    if not start.startswith(MAGIC):
        raise TensorError("it does not start like a numpy array")
    version = (start[6], start[7])
    if version not in _LENGTH_BYTES:
        raise TensorError(f"it is of version {version[0]}.{version[1]} of the numpy format, which does not exist")
    length = int.from_bytes(take(8, _LENGTH_BYTES[version]), "little")
    if length > LIMITS.npy_header_bytes:
        raise TensorError(f"its numpy header claims {length:,} bytes, {over('npy_header_bytes')}")
    begin = 8 + _LENGTH_BYTES[version]
    try:
        text = take(begin, length).decode("utf-8" if version == (3, 0) else "latin-1")
        fields = read_literal(text)
    except UnicodeDecodeError as error:
        raise TensorError("its numpy header is not text") from error
    except LiteralError as error:
        raise TensorError(f"its numpy header {error}") from error
    return _header(fields, begin + length)


def array_in(path: tuple[str, ...], header: NpyHeader, storage: Storage, use: Use | None = None) -> Tensor:
    """The array whose header stands at the start of `storage`, which it fills. TensorError where it cannot be read.

    Elements in Fortran's order fill the same bytes, and come in the order in which they lie there, as all elements do.
    """
    if header.data_size is not None and header.end != storage.size:
        there = storage.size - header.size
        raise TensorError(f"its header describes {header.data_size:,} bytes of elements, there are {there:,}")
    if header.dtype is None:
        raise TensorError(header.refusal)
    elements = replace(
        storage, start=storage.start + header.size, size=storage.size - header.size, byte_order=header.order
    )
    return make_tensor(path, header.shape, header.dtype, elements, use=use)


def _header(fields: Value, size: int) -> NpyHeader:
    if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise TensorError("its numpy header is not a dict of descr, fortran_order and shape")
    fortran_order, shape = fields["fortran_order"], fields["shape"]
    if not isinstance(fortran_order, bool) or not isinstance(shape, tuple):
        raise TensorError("its numpy header has a fortran_order or a shape that is none")
    if len(shape) > LIMITS.header_rank:
        raise TensorError(f"it has {len(shape):,} dimensions, {over('header_rank')}")
    dtype, order, refusal, width = _element(fields["descr"])
    return NpyHeader(dtype, order, refusal, width, _sizes(shape), size)


def _sizes(shape: tuple[Value, ...]) -> tuple[int, ...]:
    sizes = tuple(item for item in shape if isinstance(item, int) and not isinstance(item, bool) and item >= 0)
    if len(sizes) != len(shape):
        raise TensorError(f"its shape {quoted(shape)} is not one of sizes")
    return sizes


def _element(descr: Value) -> tuple[str | None, ByteOrder, str, int | None]:
    """(dtype, byte order, why it cannot be read, bytes of an element) of a type as a header describes it."""
    if not isinstance(descr, str):
        return None, "little", "its elements are structures of several types", _structure_width(descr)
    if descr == "<V2":  # raw bytes have no byte order: it is ml_dtypes' bfloat16, its only type of two bytes
        return "BF16", "little", "", 2
    number = _NUMBER.fullmatch(descr)
    name = "bool" if descr in ("|b1", "b1", "?", "|?") else descr
    if number is not None:
        name = f"{_KINDS[number[2]]}{8 * int(number[3])}"
    dtype = NAMES.get(name)
    if dtype is not None:
        order: ByteOrder = "big" if number is not None and number[1] == ">" else "little"
        return dtype, order, "", DTYPES[dtype].width
    no_number = _NO_NUMBERS.get(descr) or _NO_NUMBERS.get(descr.lstrip("<>=|"))
    if no_number is not None:
        return None, "little", f"its elements are {no_number}", int(descr.lstrip("<>=|")[1:])
    other = _OTHER.fullmatch(descr)
    if other is None:
        raise TensorError(f"its dtype {quoted(descr)} is none of numpy's")
    if other[1] == "O":
        return None, "little", PICKLED, None
    width = int(other[2] or 0) * (4 if other[1] == "U" else 1)
    return None, "little", f"its elements are {_OTHERS[other[1]]} ({quoted(descr)})", width


def _structure_width(descr: Value) -> int | None:
    """Bytes of a structured element, None where it holds objects; TensorError where it is no list of fields."""
    if not isinstance(descr, list):
        raise TensorError("its dtype is none of numpy's")
    total = 0
    for field in descr:
        if not isinstance(field, tuple) or len(field) not in (2, 3):
            raise TensorError("its dtype is none of numpy's")
        shape = field[2] if len(field) == 3 else ()
        width = _element(field[1])[3]
        if width is None:
            return None
        total += width * math.prod(_sizes(shape if isinstance(shape, tuple) else (shape,)))
    return total
