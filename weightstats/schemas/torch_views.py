"""A dense view of a storage, before it is a tensor: some are read at once, because they say what others mean."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightstats.dtypes import DTYPES
from weightstats.errors import CheckpointError, TensorError
from weightstats.schemas.torch_storages import Allowance
from weightstats.tensors import Storage, Tensor, make_tensor

NUMPY_CODES = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U8": "u1"}
"""numpy's names of the dtypes that indices, scales and zero points may have."""

_MOST_SCATTERED = 8
"""How many times its own bytes a view that is read at once may span."""


@dataclass(frozen=True, slots=True)
class View:
    """A dtype, and which elements of a storage; offset and strides in elements. Not checked yet."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    storage: Storage

    def tensor(self, path: tuple[str, ...]) -> Tensor:
        """The tensor; TensorError where the view is malformed or reaches beyond its storage."""
        return make_tensor(path, self.shape, self.dtype, self.storage, self.offset, self.strides)

    @property
    def is_dense(self) -> bool:
        """Whether its elements, in whatever order of dimensions, are those of a range without a gap."""
        pairs = [(stride, size) for size, stride in zip(self.shape, self.strides, strict=True) if size != 1]
        expected = 1
        for stride, size in sorted(pairs):
            if stride != expected:
                return False
            expected *= size
        return True

    @property
    def bytes(self) -> int:
        """Of all its elements."""
        return math.prod(self.shape) * DTYPES[self.dtype].width

    def values(self, limit: str, allowance: Allowance) -> NDArray[Any]:
        """Its elements as an array of its shape, within what the limit allows the whole checkpoint."""
        return self.raw(limit, allowance).view(self.numpy_code).reshape(self.shape)

    @property
    def numpy_code(self) -> str:
        """numpy's name of the dtype, with the byte order; TensorError where it has none."""
        if self.dtype not in NUMPY_CODES:
            raise TensorError(f"a part of it is made of {self.dtype}, which is not looked into")
        return ("<" if self.storage.byte_order == "little" else ">") + NUMPY_CODES[self.dtype]

    def raw(self, limit: str, allowance: Allowance) -> NDArray[np.void]:
        """Its elements as one-dimensional raw bytes, in the order of its shape."""
        self.tensor(())
        allowance.spend(limit, math.prod(self.shape))
        width = DTYPES[self.dtype].width
        if 0 in self.shape:
            return np.empty(0, f"V{width}")
        span = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if span > _MOST_SCATTERED * math.prod(self.shape):
            raise TensorError("a part of it is scattered over its storage")
        data = np.empty(span * width, np.uint8)
        try:
            source = self.storage.source.reader()
            source.read_into(self.storage.start + self.offset * width, data.data)
        except CheckpointError as error:
            raise TensorError(f"a part of it cannot be read: {error.problem}") from error
        strides = [stride * width for stride in self.strides]
        elements = np.lib.stride_tricks.as_strided(data.view(f"V{width}"), self.shape, strides)
        return np.ascontiguousarray(elements).reshape(-1)
