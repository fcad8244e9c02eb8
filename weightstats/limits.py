"""How much a file may ask for before it is refused. One table, each limit with where it comes from."""

from dataclasses import dataclass


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

    tensors: int = 2_000_000
    """Tensors of one checkpoint."""

    rank: int = 64
    """Dimensions of one tensor: numpy's and torch's own limit."""

    header_rank: int = 10_000
    """Dimensions in a header beyond which the file is refused; beyond `rank`, only the tensor is unread."""

    elements: int = (1 << 63) - 1
    """Elements of one tensor: what torch and numpy can count."""

    folder_entries: int = 100_000
    """Entries of a folder that is looked through for a checkpoint."""


LIMITS = Limits()
