"""Tensors of a process that runs torch, as tensors over the memory in which they lie; nothing is copied before it is
read, and then a block at a time, but for what has to be computed first."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from weightstats.dtypes import DTYPES, NAMES, DType
from weightstats.errors import CheckpointError, TensorError, shortened
from weightstats.limits import LIMITS, over
from weightstats.tensors import Source, Storage, Tensor, Use, make_tensor


class Memory:
    """The storages of one process, each opened once: tensors that share one share its source."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._latest = _Latest()
        self._sources: dict[tuple[str, int, int], Source] = {}

    def tensor(self, name: str, tensor: torch.Tensor, use: Use | None = None) -> Tensor:
        """A tensor as it lies in memory; TensorError, with the reason, for one that cannot be read."""
        tensor = tensor.detach()
        _check_is_whole(tensor)
        if tensor.is_quantized:
            called = _name(tensor.dtype)
            made = self.computed(name, tensor.dequantize, tuple(tensor.shape), torch.float32, called)
            return replace(made, use=use, encoded_bytes=tensor.nelement() * tensor.element_size())
        if tensor.layout is not torch.strided:
            return replace(self._sparse(name, tensor), use=use)
        if tensor.is_neg():
            made = self.computed(name, tensor.resolve_neg, tuple(tensor.shape), tensor.dtype)
            return replace(made, use=use)
        storage = tensor.untyped_storage()
        held = Storage(self._source(storage), 0, storage.nbytes())
        offset = int(tensor.storage_offset())
        return make_tensor(
            (name,), tuple(tensor.shape), _dtype(tensor.dtype), held, offset, tuple(tensor.stride()), use
        )

    def computed(
        self,
        name: str,
        compute: Callable[[], torch.Tensor],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        called: str | None = None,
    ) -> Tensor:
        """A tensor that `compute` returns when it is read; one at a time is kept. `called` is the dtype in the report.

        TensorError for a dtype that cannot be read.
        """
        kind = _dtype(dtype)
        source = _Computed(f"{self.location}: {name}", compute, (shape, dtype), self._latest)
        storage = Storage(source, 0, math.prod(shape) * kind.width)
        return make_tensor((name,), shape, replace(kind, name=called) if called else kind, storage)

    def _sparse(self, name: str, tensor: torch.Tensor) -> Tensor:
        """A sparse tensor with its zeros, which are counted."""
        size = tensor.nelement() * tensor.element_size()
        if size > LIMITS.sparse_bytes:
            raise TensorError(f"it is sparse, and takes {size:,} bytes with its zeros, {over('sparse_bytes')}")
        return self.computed(name, tensor.to_dense, tuple(tensor.shape), tensor.dtype)

    def _source(self, storage: torch.UntypedStorage) -> Source:
        key = (str(storage.device), storage.data_ptr(), storage.nbytes())
        if key not in self._sources:
            content = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
            self._sources[key] = _Bytes(self.location, content)
        return self._sources[key]


def _check_is_whole(tensor: torch.Tensor) -> None:
    """TensorError unless all elements of the tensor lie in memory that this process can read."""
    kind = type(tensor).__name__
    if hasattr(tensor, "full_tensor"):
        raise TensorError(f"it is a {kind}: other processes hold parts of it")
    if tensor.is_nested:
        raise TensorError("it is a nested tensor: several of different shapes in one, which is not read")
    if tensor.is_meta:
        raise TensorError("it has no data (a meta tensor)")
    if hasattr(tensor, "__tensor_flatten__"):
        raise TensorError(f"it is a {kind}: a tensor made of others, which is not read")
    if tensor.layout is not torch.strided:
        return
    try:
        is_there = tensor.untyped_storage().device.type != "meta"
    except (RuntimeError, NotImplementedError) as error:
        raise TensorError(f"it is a {kind}, whose memory cannot be read") from error
    if not is_there:
        raise TensorError(f"it has no data (a {kind})")


def _dtype(dtype: torch.dtype) -> DType:
    name = _name(dtype)
    if name not in NAMES:
        raise TensorError(f"its dtype {name} is not one that can be read")
    return DTYPES[NAMES[name]]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class _Bytes:
    """The bytes of a storage; those of another device than the processor are copied as they are read."""

    sequential = False

    def __init__(self, location: str, content: torch.Tensor) -> None:
        self.location = location
        self._content = content

    def reader(self) -> Source:
        """Itself: it has no position."""
        return self

    def will_need(self, offset: int, length: int) -> None:
        """Nothing to do."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`."""
        try:
            buffer[:] = self._content[offset : offset + len(buffer)].cpu().numpy().data
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(self.location, f"its memory cannot be read: {shortened(str(error))}") from error


class _Latest:
    """The last tensor that was computed, so that no more than one is in memory."""

    def __init__(self) -> None:
        self.owner: object = None
        self.content: Source | None = None


class _Computed:
    """The bytes of a tensor that is computed when they are asked for."""

    sequential = False

    def __init__(
        self,
        location: str,
        compute: Callable[[], torch.Tensor],
        expected: tuple[tuple[int, ...], torch.dtype],
        latest: _Latest,
    ) -> None:
        self.location = location
        self._compute, self._expected, self._latest = compute, expected, latest

    def reader(self) -> Source:
        """Itself: it has no position."""
        return self

    def will_need(self, offset: int, length: int) -> None:
        """Nothing to do."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`."""
        if self._latest.owner is not self or self._latest.content is None:
            self._latest.owner = self._latest.content = None
            self._latest.content = _Bytes(self.location, self._bytes())
            self._latest.owner = self
        self._latest.content.read_into(offset, buffer)

    def _bytes(self) -> torch.Tensor:
        try:
            with torch.no_grad():
                made = self._compute().detach().contiguous()
        except Exception as error:  # whatever the code of a module raises
            raise CheckpointError(self.location, f"it cannot be computed: {shortened(str(error))}") from error
        if (tuple(made.shape), made.dtype) != self._expected:
            raise CheckpointError(self.location, "it cannot be computed: its shape or dtype changes from time to time")
        return made.reshape(-1).view(torch.uint8)
