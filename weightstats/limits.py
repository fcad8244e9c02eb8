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

    config_bytes: int = 4 << 20
    """A configuration beside the weights (`config.json`); the largest published ones, with their labels, are 1 MB."""

    json_values: int = 3_000_000
    """Texts, lists, objects and commas in a JSON description; 140,000 tensors of safetensors take 2,000,000."""

    shards: int = 4_096
    """Files that a shard index names; the largest published checkpoints have about 200."""

    pickle_bytes: int = 256 << 20
    """The pickle that describes a torch file; the tensors' bytes lie outside it."""

    pickle_opcodes: int = 300_000
    """Of one pickle, and one more for each 50 bytes of the file: a second of work; published checkpoints with
    optimizer state stay below, but for those with long lists beside their weights."""

    pickle_integer_bytes: int = 256
    """The longest integer in a pickle; sizes and offsets need 8 bytes."""

    depth: int = 1_000
    """How deeply objects in a pickle may be nested before they are left alone."""

    path_characters: int = 65_536
    """All the keys that lead to an object in a pickle, which may name one long key again and again."""

    zip_entries: int = 200_000
    """Entries of a zip archive; one storage is one entry, and published checkpoints have up to 140,000 tensors."""

    zip_directory_bytes: int = 64 << 20
    """The directory of a zip archive; one with 140,000 names of 100 characters takes 20 MB."""

    metadata_expansion: int = 100
    """How many times its compressed size a compressed description may inflate to."""

    quoted: int = 100
    """Characters of a text from a file that an error message repeats."""

    crowded_tensors: int = 5_000
    """Tensors of a checkpoint whose tensors take less than `crowded_bytes` each: more are an attack on who reads them;
    networks of 100,000 tensors have hundreds of gigabytes."""

    crowded_bytes: int = 1_000
    """See `crowded_tensors`."""

    text_bytes: int = 64 << 20
    """One text in a file: a name, or a description in JSON."""

    npy_header_bytes: int = 10_000
    """The header of a numpy array: numpy's own limit."""

    msgpack_items: int = 600_000
    """Keys and values of a MessagePack tree: two for each array, a few for each module; a second or two of work."""

    msgpack_depth: int = 512
    """Maps and lists within each other in a MessagePack tree: the reference library writes up to 511."""

    gguf_pairs: int = 65_536
    """Metadata keys of a GGUF file; published ones have fewer than 100."""

    gguf_texts: int = 4_000_000
    """Texts in the lists of a GGUF file's metadata: tokens and merges; published ones have fewer than 1,000,000."""

    gguf_parts: int = 1_000
    """Files of one split GGUF checkpoint, all open at once; the largest published ones have about 100."""

    tensors: int = 500_000
    """Tensors of one checkpoint; the largest published ones, with 61 layers of 384 experts, have about 140,000."""

    hdf5_seconds: int = 3
    """Processor time to find what is in an HDF5 file, and one more for each 2.5 MB; 10,000 datasets take 1 or 2."""

    hdf5_memory: int = 1 << 30
    """Bytes of address space of the process that parses an HDF5 file; it needs about 300 MB to start."""

    hdf5_description_bytes: int = 64 << 20
    """What that process may tell of an HDF5 file: names, shapes and offsets; 10,000 datasets take 2 MB."""

    hdf5_chunks: int = 200_000
    """Chunks of all datasets of an HDF5 file; h5py writes 64 kB to 1 MB each unless it is told otherwise."""

    hdf5_chunk_bytes: int = 32 << 20
    """One compressed chunk of an HDF5 dataset, as it is inflated whole; h5py's own choice is 1 MB at most."""

    expanded_bytes: int = 256 << 20
    """Bytes that may be read, beyond `expansion`, from compressed and from repeatedly shown storages together."""

    expansion: int = 20
    """How many times the bytes of the checkpoint may be read when its storages are compressed or shown repeatedly;
    trained weights hardly compress."""

    graph_nodes: int = 50_000
    """Nodes of a TensorFlow graph with its functions: a few seconds of work; a BERT has about 10,000."""

    message_fields: int = 1_000_000
    """Fields of the messages that describe a TensorFlow graph, its objects or its tensors: a few seconds of work; a
    BERT's graph has about 100,000."""

    graph_inputs: int = 1_000_000
    """Inputs of all operators of a TFLite model; published models stay under 20,000."""

    flatbuffer_tables: int = 2_000_000
    """Tables of a flatbuffer: a tensor takes up to three and an operator two; published models stay under 100,000."""

    companion_bytes: int = 64 << 20
    """Scales, zero points and tables of quantised weights that a process holds at a time, as 32-bit floats; a layer of
    8,192 x 28,672 in groups of 32 whose inputs are in no order needs 30 MB of scales."""

    adapter_rank: int = 4_096
    """Rank of a low-rank adapter that is added to its base; published ones have up to 1,024."""

    parts: int = 4_096
    """Maps that one weight is split into; published stacks have up to 512 experts, each with two maps."""

    part_name_characters: int = 4_000_000
    """Characters in the names of the parts of one weight, under all its names."""

    dequantised_step_bytes: int = 16 << 20
    """Numbers that a quantised weight gives only together: 32 rows of 128,000 where 3 bits are packed."""

    quantisation_state_bytes: int = 4_096
    """The JSON that describes one weight of bitsandbytes; it has about 200."""

    quantised_channels: int = 1 << 22
    """Scales and zero points of a torch checkpoint's quantised tensors, together; they are held while it is read."""

    sparse_elements: int = 1 << 22
    """Stored values and indices of a torch checkpoint's sparse tensors, together: they are checked, and sorted."""

    sparse_bytes: int = 2 << 30
    """What a torch checkpoint's sparse tensors, together, would take with all their zeros, which are counted."""

    onnx_fields: int = 1_000_000
    """Fields of an ONNX file's messages that are looked at; a node takes about ten, and the largest published graphs
    have some ten thousand nodes."""

    onnx_nodes: int = 100_000
    """Nodes of an ONNX file's graphs and functions, and steps from function to function."""

    onnx_depth: int = 100
    """Messages of an ONNX file that lie in each other: the protobuf libraries' own limit."""

    gathered_bytes: int = 64 << 20
    """Data of an ONNX file's tensors that lie in many places each, and are put together in memory."""

    rank: int = 64
    """Dimensions of one tensor: numpy's and torch's own limit."""

    header_rank: int = 10_000
    """Dimensions in a header beyond which the file is refused; beyond `rank`, only the tensor is unread."""

    elements: int = (1 << 63) - 1
    """Elements of one tensor: what torch and numpy can count."""

    folder_entries: int = 100_000
    """Entries of a folder that is looked through for a checkpoint."""


OPCODE_BYTES = 50
"""Stored bytes that are worth another opcode of a pickle beyond LIMITS.pickle_opcodes."""

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


def crowded(tensors: int, stored_bytes: int) -> str | None:
    """What a message says where a checkpoint has too many tensors at all, or for its bytes; None where it has not."""
    if tensors > LIMITS.tensors:
        return f"has {tensors:,} tensors, {over('tensors')}"
    if tensors > LIMITS.crowded_tensors and stored_bytes < tensors * LIMITS.crowded_bytes:
        return f"has {tensors:,} tensors in {stored_bytes:,} bytes, {over('crowded_tensors')}"
    return None


def over(name: str) -> str:
    """What a message says of a limit that is exceeded: its value, and how to change it."""
    return f"more than the {getattr(LIMITS, name):,} that --limit {name}=N sets"
