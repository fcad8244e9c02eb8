"""One `.safetensors` file. Format: https://github.com/huggingface/safetensors, section "Format".

The header is checked against the whole specification here, since the reference implementation refuses a file for one
unknown dtype and takes the last of two tensors with one name.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from weightstats.checkpoint import Checkpoint, Unread, counters_in
from weightstats.containers.json_values import Pairs, distinct, parsed
from weightstats.containers.zip_directory import SIGNATURES, ends_like_an_archive
from weightstats.dtypes import DTYPES
from weightstats.encodings import Encoding, encoded
from weightstats.errors import CheckpointError, TensorError, quoted, shortened
from weightstats.limits import LIMITS, crowded, over
from weightstats.places import File
from weightstats.tensors import Storage, Tensor, make_tensor

FORMAT = "safetensors"
RECOGNISED_BY = "an 8-byte header length, then a JSON object"
EXTRA = ""

MOST_NESTED = 127
"""serde_json's limit, which the reference implementation has."""

BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
"""Bits of the dtypes that are narrower than a byte. How six bits are packed is not specified: those are not read."""

_F4_VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""E2M1: OCP microscaling formats specification 1.0, section 5.3.3."""


def _halves(raw: NDArray[np.uint8], first: int) -> NDArray[np.float32]:
    return _F4_VALUES[np.concatenate((raw & 15, raw >> 4), axis=1)]


F4 = Encoding("F4", block_elements=2, block_bytes=1, decode=_halves)


def recognises(head: bytes, file: File) -> bool:
    """A header length, other than what a zip archive's first bytes would be, and the first sign of a JSON object."""
    if head.startswith(SIGNATURES):
        return False
    return int.from_bytes(head[:8], "little") >= 2 and head[8:].lstrip(b" \t\r\n")[:1] == b"{"


def read(file: File) -> Checkpoint:
    """The tensors of the file, in order of their bytes. CheckpointError where the header breaks the specification."""
    header, start = _header(file)
    data_size = file.size - start
    tensors: list[Tensor] = []
    unread: list[Unread] = []
    end_of_last = 0
    entries = [(name, *_entry(file, name, entry)) for name, entry in header.items() if name != "__metadata__"]
    for name, dtype, shape, begin, end in sorted(entries, key=lambda entry: entry[3:]):
        if begin != end_of_last:
            kind = "overlap" if begin < end_of_last else "leave a gap"
            _refuse(file, f"the bytes of tensors {kind} before {quoted(name)}")
        end_of_last = end
        try:
            storage = Storage(file, start + begin, end - begin)
            made = (
                encoded((name,), shape, F4, storage) if dtype == "F4" else make_tensor((name,), shape, dtype, storage)
            )
            tensors.append(made)
        except TensorError as error:
            unread.append(Unread(name, str(error)))
    if end_of_last != data_size:
        problem = "is truncated" if end_of_last > data_size else "goes on after its last tensor"
        _refuse(file, f"{problem}: the header describes {end_of_last:,} bytes of data, the file has {data_size:,}")
    tensors += _dropped_names(header, tensors)
    return Checkpoint(
        file.location,
        FORMAT,
        file.size,
        tuple(tensors),
        tuple(unread),
        warnings=tuple(_warnings(file)),
        counters=counters_in((header.get("__metadata__") or {}).items()),
    )


def _dropped_names(header: dict[str, Any], tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that `safetensors.torch.save_model` stores under another name, by the metadata that it writes: a tied
    weight is kept under one of its names."""
    made = {tensor.name: tensor for tensor in tensors}
    metadata: dict[str, str] = header.get("__metadata__") or {}
    return [
        replace(made[kept], path=(dropped,))
        for dropped, kept in metadata.items()
        if kept in made and dropped not in header and _may_be_tied(dropped, kept)
    ]


def _may_be_tied(one: str, other: str) -> bool:
    """Whether both are names of tensors, and not a remark that happens to be what a tensor is called."""
    return one.rpartition(".")[2] == other.rpartition(".")[2] or ("." in one and "." in other)


def _warnings(file: File) -> Iterator[str]:
    if file.read(8, 1).isspace():
        yield "its header starts with blanks, which the format does not allow"
    if ends_like_an_archive(file):
        yield "it ends like a zip archive, for which other programs may take it; it was read as safetensors"


def _header(file: File) -> tuple[dict[str, Any], int]:
    """The parsed header, and where the data begins."""
    length = int.from_bytes(file.read(0, 8), "little")
    if length > LIMITS.safetensors_header_bytes:
        _refuse(file, f"its header claims {length:,} bytes, {over('safetensors_header_bytes')}")
    if 8 + length > file.size:
        _refuse(file, f"is truncated: its header claims {length:,} bytes, the file has {file.size:,}")
    raw = file.read(8, length)
    _check_number(file, raw.count(b'"data_offsets"'))  # before anything is made of them
    try:
        header = parsed(raw, _checked, _integer)
        if _depth(header) > MOST_NESTED:
            raise ValueError("it is nested too deeply")
    except ValueError as error:
        problem = f"its safetensors header is not valid JSON: {shortened(str(error))}"
        raise CheckpointError(file.location, problem) from error
    if not isinstance(header, dict):
        _refuse(file, "its safetensors header is not a JSON object")
    metadata = header.get("__metadata__")
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        _refuse(file, "its __metadata__ is not a map of text to text")
    _check_number(file, len(header) - ("__metadata__" in header) + len(metadata or {}))
    return header, 8 + length


def _check_number(file: File, tensors: int) -> None:
    problem = crowded(tensors, file.size)
    if problem is not None:
        _refuse(file, problem)


def _checked(pairs: Pairs) -> dict[str, Any]:
    """A JSON object whose keys are distinct and, as its text values, can be written as UTF-8."""
    mapping = distinct(pairs)
    for pair in pairs:
        for text in pair:
            if isinstance(text, str) and not text.isascii():
                text.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
    return mapping


def _integer(text: str) -> int | float:
    """An integer; for `-0` and what is negative a float, which is no size."""
    if len(text) > 20:
        raise ValueError(f"{quoted(text)} is beyond 64 bits")
    return float(text) if text.startswith("-") else int(text)


def _depth(value: Any) -> int:
    """How deeply lists and objects are nested in a JSON value."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return depth


def _entry(file: File, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """(dtype, shape, begin, end) of a tensor, checked against each other as far as the dtype is known."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        _refuse(file, f"the entry of {quoted(name)} lacks dtype, shape or data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        _refuse(file, f"the entry of {quoted(name)} is malformed")
    begin, end = offsets
    if len(shape) > LIMITS.header_rank:
        _refuse(file, f"{quoted(name)} has {len(shape):,} dimensions")
    if end < begin:
        _refuse(file, f"the data_offsets of {quoted(name)} run backwards")
    bits = BITS.get(dtype, _bits(dtype))
    if bits is not None and math.prod(shape) * bits != (end - begin) * 8:
        _refuse(
            file, f"{quoted(name)} has {end - begin:,} bytes, which is not what {quoted(dtype)} {quoted(shape)} needs"
        )
    if math.prod(size for size in shape if size) >= 1 << 64:
        _refuse(file, f"the shape of {quoted(name)} counts beyond 64 bits")
    return dtype, tuple(shape), begin, end


def _bits(dtype: str) -> int | None:
    return DTYPES[dtype].width * 8 if dtype in DTYPES else None


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64 for value in values
    )


def _refuse(file: File, problem: str) -> NoReturn:
    raise CheckpointError(file.location, problem)
