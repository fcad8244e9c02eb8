"""How much a file may ask for before it is refused. One table, each limit with where it comes from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import cast


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds on what the metadata of a checkpoint may claim."""

    safetensors_header_bytes: int = 100_000_000
    """The safetensors format's own limit on its header."""

    index_bytes: int = 64 << 20
    """A shard index (`*.index.json`); the largest published ones are under 20 MB."""

    pickle_bytes: int = 256 << 20
    """The pickle that describes a torch file; the tensors' bytes lie outside it."""

    pickle_opcodes: int = 50_000_000
    """About a minute of work; published checkpoints with optimizer state stay under one million."""

    pickle_integer_bytes: int = 256
    """The longest integer in a pickle; sizes and offsets need 8 bytes."""

    depth: int = 1_000
    """How deeply objects in a pickle may be nested before they are left alone."""

    path_characters: int = 65_536
    """All the keys that lead to an object in a pickle, which may name one long key again and again."""

    zip_entries: int = 1_000_000
    """Entries of a zip archive; one storage is one entry."""

    metadata_expansion: int = 100
    """How many times its compressed size a compressed description may inflate to."""

    quoted: int = 100
    """Characters of a text from a file that an error message repeats."""

    text_bytes: int = 64 << 20
    """One text in a file: a name, or a description in JSON."""

    npy_header_bytes: int = 10_000
    """The header of a numpy array: numpy's own limit."""

    msgpack_items: int = 2_000_000
    """Keys and values of a MessagePack tree, arrays not counted by their elements: two to four for each tensor."""

    msgpack_depth: int = 512
    """Maps and lists within each other in a MessagePack tree: the reference library's limit."""

    tensors: int = 500_000
    """Tensors of one checkpoint; the largest published ones, with 61 layers of 384 experts, have about 140,000."""

    expanded_bytes: int = 256 << 20
    """Bytes that may be read, beyond `expansion`, from compressed and from repeatedly shown storages together."""

    expansion: int = 20
    """How many times the bytes of the checkpoint may be read when its storages are compressed or shown repeatedly;
    trained weights hardly compress."""

    flatbuffer_tables: int = 2_000_000
    """Tables of a flatbuffer: a tensor takes up to three and an operator two; published models stay under 100,000."""

    rank: int = 64
    """Dimensions of one tensor: numpy's and torch's own limit."""

    header_rank: int = 10_000
    """Dimensions in a header beyond which the file is refused; beyond `rank`, only the tensor is unread."""

    elements: int = (1 << 63) - 1
    """Elements of one tensor: what torch and numpy can count."""

    folder_entries: int = 100_000
    """Entries of a folder that is looked through for a checkpoint."""


DEFAULTS = Limits()

_limits: ContextVar[Limits] = ContextVar("limits", default=DEFAULTS)


class _Current:
    """The limits in force where they are asked for."""

    def __getattr__(self, name: str) -> object:
        return getattr(_limits.get(), name)


LIMITS = cast(Limits, _Current())
"""The limits in force: the defaults, but for those changed by `changed_limits` around the caller."""


def limit_names() -> tuple[str, ...]:
    """Every limit, in the order of the table."""
    return tuple(field.name for field in fields(Limits))


@contextmanager
def changed_limits(changes: Mapping[str, int]) -> Iterator[None]:
    """Other values for some limits within the body. Raises TypeError for a name that is not in the table."""
    token = _limits.set(replace(_limits.get(), **changes))
    try:
        yield
    finally:
        _limits.reset(token)


def over(name: str) -> str:
    """What a message says of a limit that is exceeded: its value, and how to change it."""
    return f"more than the {getattr(LIMITS, name):,} that --limit {name}=N sets"
