"""What torch's rebuild functions would make, as tensors over the bytes: dense, quantised, sparse, or none that is read.

Source: torch/_utils.py, whose functions have the same names.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from weightstats.containers.pickle_records import Global, Instance, Mapping, Record, Sequence
from weightstats.dtypes import DTYPES, affine
from weightstats.encodings import Encoding, encoded
from weightstats.errors import TensorError, shortened
from weightstats.schemas.torch_sparse import LAYOUTS, sparse_tensor
from weightstats.schemas.torch_storages import (
    QUANTISED_STORAGES,
    TORCH_DTYPES,
    Storages,
    arguments_of,
    integers,
    is_int,
    saved_storage,
)
from weightstats.schemas.torch_views import View
from weightstats.tensors import Storage, Tensor, make_tensor

Path: TypeAlias = tuple[str, ...]


def view_of(record: Record, storages: Storages) -> View:
    """The dense view that a record stands for; TensorError where it is something else or malformed."""
    name = record.callable.full_name if isinstance(record, Instance) and isinstance(record.callable, Global) else ""
    if name not in _DENSE:
        raise TensorError("a part of it is not a dense tensor")
    return _DENSE[name](record, storages)


def _view_v2(record: Instance, storages: Storages) -> View:
    """_rebuild_tensor and _rebuild_tensor_v2: (storage, offset, size, stride, requires_grad, hooks, metadata)."""
    arguments = arguments_of(record, 4)
    saved = saved_storage(arguments[0])
    if saved.dtype is None:
        raise TensorError("its storage has no dtype")
    _check_sign(arguments[6:7])
    return _view(saved.dtype, arguments, storages)


def _view_v3(record: Instance, storages: Storages) -> View:
    """_rebuild_tensor_v3: (untyped storage, offset, size, stride, requires_grad, hooks, dtype, metadata)."""
    arguments = arguments_of(record, 7)
    dtype = arguments[6]
    if not isinstance(dtype, Global):
        raise TensorError("it names no dtype")
    known = TORCH_DTYPES.get(dtype.name)
    if known is None:
        raise TensorError(f"its dtype {shortened(dtype.name)} is not one that can be read")
    _check_sign(arguments[7:8])
    return _view(known, arguments, storages)


_DENSE: dict[str, Callable[[Instance, Storages], View]] = {
    "torch._utils._rebuild_tensor": _view_v2,
    "torch._utils._rebuild_tensor_v2": _view_v2,
    "torch._utils._rebuild_tensor_v3": _view_v3,
}


def _check_sign(metadata: tuple[Record, ...]) -> None:
    """TensorError where torch's negative bit is set. Its conjugate bit does not matter for magnitudes."""
    for pairs in (part.pairs for part in metadata if isinstance(part, Mapping)):
        if any(key == "neg" and value is True for key, value in pairs):
            raise TensorError("it is a view that changes the sign of what is stored (torch's negative bit)")


def _view(dtype: str, arguments: tuple[Record, ...], storages: Storages) -> View:
    offset, shape, strides = arguments[1], integers(arguments[2]), integers(arguments[3])
    if not is_int(offset) or shape is None or strides is None:
        raise TensorError("its size, stride or offset is not made of integers")
    return View(dtype, shape, strides, offset, storages.open(saved_storage(arguments[0])))


def _dense(path: Path, record: Instance, storages: Storages) -> Tensor:
    return view_of(record, storages).tensor(path)


def _quantised(path: Path, record: Instance, storages: Storages) -> Tensor:
    """_rebuild_qtensor: (storage, offset, size, stride, (scheme, ...), requires_grad, hooks)."""
    arguments = arguments_of(record, 5)
    saved = saved_storage(arguments[0])
    if saved.kind not in QUANTISED_STORAGES or saved.dtype is None:
        raise TensorError(f"it is quantised, but its storage is a {shortened(saved.kind)}")
    view = _view(saved.dtype, arguments, storages)
    parameters = arguments[4]
    scheme = parameters[0] if isinstance(parameters, tuple) and parameters else None
    name = QUANTISED_STORAGES[saved.kind]
    match scheme.name if isinstance(scheme, Global) else None, parameters:
        case "per_tensor_affine", (_, scale, zero_point):
            _check_scale(scale)
            _check_zero_point(zero_point, saved.dtype)
            dtype = affine(name, saved.dtype, scale, zero_point)
            return make_tensor(path, view.shape, dtype, view.storage, view.offset, view.strides)
        case "per_channel_affine" | "per_channel_affine_float_qparams", (_, scales, zero_points, axis):
            return _by_channel(path, name, view, (scales, zero_points, axis), storages)
    raise TensorError("it is quantised by a scheme that is not read")


def _check_scale(scale: Record) -> None:
    if not isinstance(scale, float) or not math.isfinite(scale) or scale <= 0:
        raise TensorError("its scale is not a positive number")


def _check_zero_point(zero_point: Record, dtype: str) -> None:
    lowest, highest = _INTEGERS[dtype]
    if not is_int(zero_point) or not lowest <= zero_point <= highest:
        raise TensorError(f"its zero point is not an integer from {lowest:,} to {highest:,}")


_INTEGERS = {"I8": (-(1 << 7), (1 << 7) - 1), "U8": (0, (1 << 8) - 1), "I32": (-(1 << 31), (1 << 31) - 1)}
"""The lowest and the highest integer of the dtypes that torch quantises to."""


def _by_channel(
    path: Path, name: str, view: View, parameters: tuple[Record, Record, Record], storages: Storages
) -> Tensor:
    """A tensor with a scale and a zero point for each index of one axis, if its elements are dense in the storage."""
    axis = parameters[2]
    if not is_int(axis) or not 0 <= axis < len(view.shape):
        raise TensorError("its axis of scales is not one of its dimensions")
    channels = view.shape[axis]
    scales, zero_points = (_numbers(record, channels, storages) for record in parameters[:2])
    if scales.size != channels or zero_points.size != channels:
        raise TensorError(f"it has {channels:,} channels, {scales.size:,} scales and {zero_points.size:,} zero points")
    if not (np.isfinite(scales).all() and np.isfinite(zero_points).all() and (scales > 0).all()):
        raise TensorError("one of its scales is not a positive number, or one of its zero points not a number")
    lowest, highest = _INTEGERS[view.dtype]
    if zero_points.dtype.kind != "f" and ((zero_points < lowest) | (zero_points > highest)).any():
        raise TensorError(f"one of its zero points is not an integer from {lowest:,} to {highest:,}")
    view.tensor(path)  # checks the view
    if 0 in view.shape:
        return make_tensor(path, view.shape, affine(name, view.dtype, 1.0, 0), view.storage)
    if not view.is_dense:
        raise TensorError("it has a scale for each channel, and its elements are scattered over its storage")
    width = DTYPES[view.dtype].width
    start = view.storage.start + view.offset * width
    storage = Storage(view.storage.source, start, math.prod(view.shape) * width, view.storage.byte_order)
    decode = _channel_decoder(view, axis, scales, zero_points)
    flat = encoded(path, (math.prod(view.shape),), Encoding(name, 1, width, decode), storage)
    tensor = make_tensor(path, view.shape, flat.dtype, flat.storage, 0, view.strides)
    return replace(tensor, encoded_bytes=flat.encoded_bytes)


def _channel_decoder(
    view: View, axis: int, scales: NDArray[Any], zero_points: NDArray[Any]
) -> Callable[[NDArray[np.uint8], int], NDArray[np.float32]]:
    channels, stride = view.shape[axis], max(1, view.strides[axis])
    stored = view.numpy_code
    zeros, factors = zero_points.astype(np.float64), scales.astype(np.float64)

    def decode(raw: NDArray[np.uint8], first: int) -> NDArray[np.float32]:
        channel = np.arange(first, first + len(raw)) // stride % channels
        numbers = (raw.view(stored).reshape(-1) - zeros[channel]) * factors[channel]
        return numbers.astype(np.float32).reshape(-1, 1)

    return decode


def _numbers(record: Record, most: int, storages: Storages) -> NDArray[Any]:
    """Scales or zero points: a tensor, or in old files a list of numbers; no more than one over `most` of them."""
    if isinstance(record, Sequence):
        if not all(isinstance(item, int | float) for item in record.items[: most + 1]):
            raise TensorError("its scales and zero points are not numbers")
        storages.allowance.spend("quantised_channels", len(record.items))
        try:
            return np.array(record.items, np.float64)
        except OverflowError as error:
            raise TensorError("its scales and zero points are not numbers") from error
    view = view_of(record, storages)
    if math.prod(view.shape) != most:
        raise TensorError(f"it has {most:,} channels, but scales or zero points for {math.prod(view.shape):,}")
    return view.values("quantised_channels", storages.allowance)


def _sparse(path: Path, record: Instance, storages: Storages) -> Tensor:
    """_rebuild_sparse_tensor: (layout, (indices or compressed indices, ..., values, size, ...))."""
    layout, parts = arguments_of(record, 2)[:2]
    name = layout.arguments[0] if isinstance(layout, Instance) and isinstance(layout.arguments, tuple) else None
    name = layout.name if isinstance(layout, Global) else name
    kind = name.removeprefix("torch.") if isinstance(name, str) else ""
    if kind not in LAYOUTS:
        raise TensorError(f"it is sparse in a layout that is not read: {shortened(kind)}")
    indices = 1 if kind == "sparse_coo" else 2
    if not isinstance(parts, tuple) or len(parts) < indices + 2:
        raise TensorError("it is sparse, and lacks a part")
    size = integers(parts[indices + 1])
    if size is None:
        raise TensorError("its size is not made of integers")
    views = [view_of(part, storages) for part in parts[: indices + 1]]
    return sparse_tensor(path, kind, size, views, storages.allowance)


def _nested(path: Path, record: Instance, storages: Storages) -> Tensor:
    raise TensorError("it is a nested tensor: several of different shapes in one, which is not read")


def _no_data(path: Path, record: Instance, storages: Storages) -> Tensor:
    raise TensorError("it was saved without data (a meta tensor)")


Rebuild: TypeAlias = Callable[[Path, Instance, Storages], Tensor]

REBUILDERS: dict[str, Rebuild] = {
    **dict.fromkeys(_DENSE, _dense),
    "torch._utils._rebuild_meta_tensor_no_storage": _no_data,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_sparse_csr_tensor": _sparse,
    "torch._utils._rebuild_nested_tensor": _nested,
    "torch._utils._rebuild_qtensor": _quantised,
}
"""What torch calls when it loads a tensor; here each only tells where the bytes are. TensorError says why it cannot."""
