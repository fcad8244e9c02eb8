"""The tensors of a torch.export archive, out of entries that are nothing but their bytes and JSON that describes them.

Layout: torch/_export/serde/schema.py, PayloadMeta and TensorMeta.
"""

from typing import Any

from weightstats.containers.zip_archive import Archive
from weightstats.dtypes import ByteOrder
from weightstats.errors import TensorError, quoted
from weightstats.schemas.exported_graph import item
from weightstats.tensors import Storage, Tensor, make_tensor

SCALAR_TYPES = {
    1: "U8",
    2: "I8",
    3: "I16",
    4: "I32",
    5: "I64",
    6: "F16",
    7: "F32",
    8: "F64",
    10: "C64",
    11: "C128",
    12: "BOOL",
    13: "BF16",
    28: "U16",
    29: "F8_E4M3",
    30: "F8_E5M2",
    31: "F8_E4M3FNUZ",
    32: "F8_E5M2FNUZ",
    34: "U32",
    35: "U64",
}
"""ScalarType, in the same file."""

STRIDED = 7
"""Of Layout, in the same file."""


class Payloads:
    """The tensors whose bytes lie in entries of their own, without a word about them there."""

    def __init__(self, archive: Archive, folder: str, config: dict[str, Any], order: ByteOrder) -> None:
        self.archive, self.folder, self.order = archive, folder, order
        self.storages: dict[str, Storage] = {}
        self.dtypes: dict[str, set[str]] = {}
        for record in config.values():
            dtypes = self.dtypes.setdefault(payload_name(record), set())
            dtypes.add(_dtype(item(record, "tensor_meta")))

    def tensor(self, path: tuple[str, ...], record: Any) -> Tensor:
        """One of them; TensorError where it is not all there."""
        meta, payload = item(record, "tensor_meta"), payload_name(record)
        if not payload or self.folder + payload not in self.archive.entries:
            raise TensorError("its storage is not in the archive")
        if len(self.dtypes[payload]) > 1:
            raise TensorError(f"its storage {quoted(payload)} is described in two ways, of which one must be wrong")
        if item(meta, "layout") != STRIDED:
            raise TensorError("its layout is not one that can be read")
        if payload not in self.storages:
            self.storages[payload] = self.archive.storage(self.folder + payload, self.order)
        storage = self.storages[payload]
        shape, strides = _sizes(item(meta, "sizes")), _sizes(item(meta, "strides"))
        (offset,) = _sizes([item(meta, "storage_offset")])
        if not storage.size and all(shape):
            raise TensorError("it was saved without its data")
        return make_tensor(path, shape, _dtype(meta), storage, offset, strides)


def payload_name(record: Any) -> str:
    """The entry that a tensor lies in, without its folder; '' where none is named."""
    name = item(record, "path_name")
    return name if isinstance(name, str) else ""


def _dtype(meta: Any) -> str:
    """The name of a dtype; what is not known gets one that make_tensor does not know either."""
    code = item(meta, "dtype")
    return SCALAR_TYPES.get(code, f"number {code}") if isinstance(code, int) else "of no number"


def _sizes(records: Any) -> tuple[int, ...]:
    """Integers out of [{"as_int": size}, ...]; TensorError for a size that is an expression, and for anything else."""
    sizes = records if isinstance(records, list) else [None]
    if any(item(size, "as_expr") is not None for size in sizes):
        raise TensorError("its shape depends on the program's inputs")
    return integers([item(size, "as_int") for size in sizes])


def integers(values: Any) -> tuple[int, ...]:
    """A list of integers of 64 bits, as it stands in JSON; TensorError for anything else."""
    if isinstance(values, list) and all(type(value) is int and abs(value) < 1 << 63 for value in values):
        return tuple(values)
    raise TensorError("its description is malformed")
