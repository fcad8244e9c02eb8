"""The numpy arrays among the records of a pickle, as tensors over the bytes that the pickle itself holds.

Sources: numpy's `ndarray.__reduce_ex__` and `dtype.__reduce__` (numpy/_core/src/multiarray/methods.c, descriptor.c) and
joblib's `NumpyArrayWrapper` (joblib/numpy_pickle.py), whose data lies between the opcodes.
"""

import math
import re
from dataclasses import dataclass, field
from typing import IO, TypeAlias

from weightstats.containers.pickle_arguments import LeftBytes
from weightstats.containers.pickle_records import (
    AfterBuild,
    Global,
    Instance,
    Mapping,
    PickleError,
    Record,
    Sequence,
    read_pickle,
)
from weightstats.dtypes import NAMES, ByteOrder
from weightstats.errors import TensorError, shortened
from weightstats.pieces import Held
from weightstats.tensors import Source, Storage, Tensor, make_tensor

Shape: TypeAlias = tuple[int, ...]

_MODULES = ("numpy.core", "numpy._core")
"""Before and since numpy 2."""

RECONSTRUCT = frozenset(f"{module}.multiarray._reconstruct" for module in _MODULES)
"""An array's function up to protocol 4: its state holds shape, dtype and data."""

FROM_BUFFER = frozenset(f"{module}.numeric._frombuffer" for module in _MODULES)
"""An array's function in protocol 5: (data, dtype, shape, order, axes)."""

FROM_JAX = frozenset(
    (
        "jax._src.array._reconstruct_array",
        "jax._src.device_array.reconstruct_device_array",
        "jax.interpreters.xla._reconstruct_device_array",
    )
)
"""Functions of jax: (numpy's function, its arguments, its state, ...)."""

JOBLIB_ARRAY = "joblib.numpy_pickle.NumpyArrayWrapper"

MASKED = frozenset(("numpy.ma.core._mareconstruct", "numpy.ma._mareconstruct"))

KNOWN_NAMES = (
    RECONSTRUCT
    | FROM_BUFFER
    | FROM_JAX
    | {JOBLIB_ARRAY, "numpy.ndarray", "numpy.dtype", "_codecs.encode"}
    | {f"ml_dtypes.{name}" for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")}
)
"""What an array needs and what hides nothing."""

DTYPES_OF_CODES: dict[str, str] = {
    "f8": "F64",
    "f4": "F32",
    "f2": "F16",
    "c8": "C64",
    "c16": "C128",
    "i8": "I64",
    "i4": "I32",
    "i2": "I16",
    "i1": "I8",
    "u8": "U64",
    "u4": "U32",
    "u2": "U16",
    "u1": "U8",
    "b1": "BOOL",
}
"""numpy's codes without the byte order."""

DTYPES_OF_CLASSES: dict[str, str] = {
    name: dtype for name, dtype in NAMES.items() if name == "bfloat16" or name.startswith("float8")
}
"""Scalar types of the package ml_dtypes, which a dtype names instead of a code."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """Where the bytes of one pickle's arrays are."""

    source: Source | None = None
    """What `LeftBytes` are in."""

    storages: dict[int, Storage] = field(default_factory=dict)
    """Those of bytes that are in memory, by the identity of their record."""

    def storage(self, data: Record, order: ByteOrder) -> Storage:
        """The bytes that a record stands for; TensorError where it stands for something else."""
        if isinstance(data, LeftBytes) and self.source is not None:
            return Storage(self.source, data.start, data.size, order)
        if id(data) not in self.storages:
            content = _bytes(data)
            self.storages[id(data)] = Storage(Held("an array of a pickle", content), 0, len(content))
        held = self.storages[id(data)]
        return Storage(held.source, 0, held.size, order)


_NO_BYTES = ("__builtin__.bytes", "builtins.bytes")
"""With no argument: how Python 3 writes empty bytes for protocols 0 to 2."""


def _bytes(data: Record) -> bytes:
    """Bytes; the text that Python 3 makes of bytes for protocol 2; a text of Python 2, which is bytes."""
    if isinstance(data, Instance) and data.class_name == "_codecs.encode" and isinstance(data.arguments, tuple):
        text, codec = (*data.arguments, None, None)[:2]
        if codec not in ("latin1", "latin-1"):
            raise TensorError("its data is a text in a codec that is not read")
        data = text
    if isinstance(data, Instance) and data.class_name in _NO_BYTES and data.arguments == ():
        data = b""
    if isinstance(data, bytes | bytearray):
        return bytes(data)
    if isinstance(data, str):
        try:
            return data.encode("latin-1")
        except UnicodeEncodeError as error:
            raise TensorError("its data is a text that is not made of bytes") from error
    raise TensorError("it is made of Python objects" if isinstance(data, Sequence) else "it has no data")


def array_tensor(path: tuple[str, ...], record: Record, arrays: Arrays) -> Tensor | None:
    """The tensor of the array that a record stands for, None where it is no array; TensorError where it is unread."""
    name = record.class_name if isinstance(record, Instance) else ""
    if name in FROM_JAX:
        function, arguments, state = _tuple(record.arguments, 3, "jax array")[:3]
        record = Instance(function, arguments, states=[state])
        name = record.class_name
    if name in RECONSTRUCT:
        return _reconstructed(path, record, arrays)
    if name in FROM_BUFFER:
        return _from_buffer(path, record, arrays)
    if name == JOBLIB_ARRAY:
        return _from_joblib(path, record, arrays)
    if name in MASKED:
        raise TensorError("it is a masked array, which is not read")
    return None


def _reconstructed(path: tuple[str, ...], record: Instance, arrays: Arrays) -> Tensor:
    """State: (version, shape, dtype, whether Fortran's order, data), without the version before numpy 1.0."""
    if len(record.states) != 1:
        raise TensorError(f"it is an array with {len(record.states)} states instead of one")
    shape, dtype, is_fortran, data = _tuple(record.states[0], 4, "array")[-4:]
    if not isinstance(is_fortran, int):
        raise TensorError("its order of elements is malformed")
    return _array(path, shape, dtype, "F" if is_fortran else "C", data, arrays)


def _from_buffer(path: tuple[str, ...], record: Instance, arrays: Arrays) -> Tensor:
    data, dtype, shape, order = _tuple(record.arguments, 4, "array")[:4]
    if order != "K":
        return _array(path, shape, dtype, order, data, arrays)
    sizes = _sizes(shape)
    axes = _sizes(record.arguments[4]) if len(record.arguments) > 4 else tuple(range(len(sizes)))
    if sorted(axes) != [*range(len(sizes))]:
        raise TensorError("its order of axes is malformed")
    stored = _array(path, shape, dtype, "C", data, arrays)
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    shape, moved = tuple(sizes[axis] for axis in axes), tuple(strides[axis] for axis in axes)
    return make_tensor(path, shape, stored.dtype, stored.storage, 0, moved)


def _from_joblib(path: tuple[str, ...], record: Instance, arrays: Arrays) -> Tensor:
    if len(record.states) != 2 or not isinstance(record.states[0], Mapping):
        raise TensorError("it is a malformed array of joblib")
    described, data = _fields(record.states[0]), record.states[1]
    return _array(path, described.get("shape"), described.get("dtype"), described.get("order"), data, arrays)


def _array(path: tuple[str, ...], shape: Record, dtype: Record, order: Record, data: Record, arrays: Arrays) -> Tensor:
    sizes = _sizes(shape)
    code, byte_order = _code(dtype)
    if code not in DTYPES_OF_CODES and code not in DTYPES_OF_CLASSES:
        kind = _KINDS.get(code[:1], f"of numpy's type {shortened(code)}")
        raise TensorError(f"it is an array {kind}, which is not read")
    strides = None
    if order == "F":
        strides = tuple(math.prod(sizes[:axis]) for axis in range(len(sizes)))
    elif order not in ("C", "A"):
        raise TensorError("its order of elements is malformed")
    storage = arrays.storage(data, byte_order)
    name = DTYPES_OF_CODES.get(code) or DTYPES_OF_CLASSES[code]
    tensor = make_tensor(path, sizes, name, storage, 0, strides)
    if storage.size != tensor.elements * tensor.dtype.width:
        raise TensorError(
            f"it is an array of {tensor.elements * tensor.dtype.width:,} bytes with {storage.size:,} bytes of data"
        )
    return tensor


_KINDS = {
    "O": "of Python objects",
    "V": "of records",
    "U": "of text",
    "S": "of text",
    "M": "of times",
    "m": "of times",
}
"""What numpy's codes of other kinds start with."""


def _code(dtype: Record) -> tuple[str, ByteOrder]:
    """numpy's code, or the name of a scalar type, and the byte order."""
    if not isinstance(dtype, Instance) or dtype.class_name != "numpy.dtype" or not isinstance(dtype.arguments, tuple):
        raise TensorError("its dtype is not one of numpy's")
    code = dtype.arguments[0] if dtype.arguments else None
    code = code.name if isinstance(code, Global) else code
    if not isinstance(code, str) or len(dtype.states) > 1:
        raise TensorError("its dtype is malformed")
    state = dtype.states[0] if dtype.states else (3, "|", None)
    if not isinstance(state, tuple) or len(state) < 3 or state[1] not in ("<", ">", "|", "="):
        raise TensorError("its dtype is malformed")
    if state[2] is not None:
        raise TensorError("it is an array of arrays, which is not read")
    return code, "big" if state[1] == ">" else "little"


def _sizes(shape: Record) -> Shape:
    items = shape.items if isinstance(shape, Sequence) else shape
    if isinstance(items, tuple | list) and all(isinstance(size, int) and not isinstance(size, bool) for size in items):
        return tuple(items)
    raise TensorError("its shape is not made of integers")


def _tuple(record: Record, least: int, what: str) -> tuple[Record, ...]:
    if not isinstance(record, tuple) or len(record) < least:
        raise TensorError(f"it is a malformed {what}")
    return record


def _fields(state: Mapping) -> dict[str, Record]:
    return {key: value for key, value in state.pairs if isinstance(key, str)}


_ITEM_BYTES = re.compile(r"[bBifucSVMmU](\d{1,9})")


def _joblib_data(built: Instance, stream: IO[bytes]) -> Record:
    """The bytes of an array that joblib has put behind its description."""
    described = _fields(built.states[0]) if isinstance(built.states[0], Mapping) else {}
    try:
        code, _ = _code(described.get("dtype"))
        count = math.prod(_sizes(described.get("shape")))
    except TensorError as error:
        raise PickleError(f"is one of joblib, and an array in it cannot be passed over: {error}") from error
    if code.startswith("O"):
        read_pickle(stream, leave=True)
        return Sequence()
    item = _ITEM_BYTES.fullmatch(code)
    if count < 0 or item is None:
        raise PickleError("is one of joblib, and an array in it cannot be passed over")
    if described.get("numpy_array_alignment_bytes") is not None:
        padding = stream.read(1)
        stream.seek(int.from_bytes(padding, "little"), 1)
    left = LeftBytes(stream.tell(), count * int(item[1]) * (4 if code.startswith("U") else 1))
    if left.size:
        stream.seek(min(left.start + left.size, 1 << 62) - 1)
        if not stream.read(1):
            raise PickleError(f"is one of joblib, and truncated: it ends before an array of {left.size:,} bytes does")
    return left


AFTER_BUILD: AfterBuild = {JOBLIB_ARRAY: _joblib_data}
"""What lies between the opcodes of a pickle."""
