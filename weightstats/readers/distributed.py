"""Folders that torch.distributed.checkpoint writes: `.metadata`, and `*.distcp` files of pieces of tensors.

Each piece is a file of its own that torch.save or safetensors wrote, at the offset that the metadata gives.
"""

from collections.abc import Iterator
from dataclasses import replace

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.zip_archive import SIGNATURES, Archive
from weightstats.errors import CheckpointError, TensorError, counted, led_by, quoted
from weightstats.pieces import Box, check_tiling, put_together
from weightstats.places import File, Folder, open_inside
from weightstats.readers import safetensors_file, torch_legacy, torch_zip
from weightstats.schemas.distributed_metadata import Described, Metadata, Place, place_key, read_metadata
from weightstats.tensors import Tensor

FORMAT = "torch.distributed.checkpoint"
RECOGNISED_BY = "a folder with the pickle .metadata, which describes pieces of tensors"
EXTRA = ""

METADATA = ".metadata"
SUFFIX = ".distcp"
"""Of the files that hold the pieces."""

_CLASSES = (b"torch.distributed.checkpoint.metadata", b"torch.distributed._shard.checkpoint.metadata")
_HEAD_BYTES = 512


def recognises_folder(folder: Folder) -> bool:
    """The metadata's name."""
    return METADATA in folder.names


def recognises(head: bytes, file: File) -> bool:
    """The metadata itself, or a file of pieces, which without it are nameless."""
    if head.startswith(b"\x80") and any(name in head for name in _CLASSES):
        return True
    if not file.location.endswith(SUFFIX):
        return False
    return head.startswith(SIGNATURES) and _starts_late(file)


def _starts_late(file: File) -> bool:
    """Whether the zip archive at the end of a file is not the one that the file starts with."""
    try:
        return min((info.header_offset for info in Archive(file).entries.values()), default=0) > 0
    except CheckpointError:
        return True


def read_folder(folder: Folder) -> Checkpoint:
    """The tensors that the metadata describes, each put together. CheckpointError where the metadata is damaged."""
    return replace(_read(folder.open(METADATA), folder.names), location=folder.location)


def read(file: File) -> Checkpoint:
    """The same, for the metadata's own location. CheckpointError for a file of pieces."""
    if not file.read(0, 1).startswith(b"\x80"):
        problem = f"holds nameless pieces of tensors; name its folder, where the file {METADATA} says what they are"
        raise CheckpointError(file.location, problem)
    return _read(file, ())


def _read(file: File, names: tuple[str, ...]) -> Checkpoint:
    metadata = read_metadata(file)
    pieces = _Pieces(file, metadata)
    tensors: list[Tensor] = []
    unread = [Unread(name, reason) for name, reason in metadata.unread]
    for described in metadata.tensors:
        try:
            tensors.append(pieces.tensor(described))
        except TensorError as error:
            unread.append(Unread(described.name, str(error)))
    known = {*metadata.objects, *(tensor.name for tensor in metadata.tensors), *(name for name, _ in metadata.unread)}
    unread += [Unread(name, "it is stored, and nothing describes it") for name in metadata.stored if name not in known]
    return Checkpoint(
        location=file.location,
        format=FORMAT,
        bytes=file.size + sum(found.size for found in pieces.files.values() if isinstance(found, File)),
        tensors=tuple(tensors),
        unread=tuple(unread),
        objects_not_loaded=(*metadata.classes, *pieces.classes, *metadata.objects),
        warnings=tuple(_warnings(metadata, names, pieces)),
    )


def _warnings(metadata: Metadata, names: tuple[str, ...], pieces: "_Pieces") -> Iterator[str]:
    extra = [
        described.name
        for described in metadata.tensors
        if metadata.stored.get(described.name, 0) > len(described.boxes)
    ]
    if extra:
        yield f"{counted(len(extra), 'tensor has', 'tensors have')} more pieces than are described: {led_by(extra)}"
    strangers = [name for name in names if name.endswith(SUFFIX) and name not in pieces.files]
    if strangers:
        yield f"{counted(len(strangers), 'file is', 'files are')} not named in {METADATA}: {led_by(strangers)}"
    yield from pieces.warnings


class _Pieces:
    """The stored pieces of a checkpoint."""

    def __init__(self, file: File, metadata: Metadata) -> None:
        self.files: dict[str, File | CheckpointError] = {}
        self.classes: dict[str, None] = {}
        self.warnings: dict[str, None] = {}
        self._metadata, self._file = metadata, file
        self._overlapping: set[str] = set()
        self._of_file: dict[str, list[tuple[str, Place]]] = {}
        for key, place in metadata.places.items():
            if place is not None:
                self._of_file.setdefault(place.file, []).append((key, place))
        self._named: dict[str, dict[str, Tensor]] = {}

    def tensor(self, described: Described) -> Tensor:
        """A whole tensor; TensorError where a piece of it is missing or damaged, or there twice."""
        check_tiling(described.shape, described.boxes)
        pieces = []
        for box in described.boxes:
            piece = self._piece(described.name, box)
            if piece.dtype.name != described.dtype:
                raise TensorError(f"it is described as {described.dtype} and stored as {piece.dtype.name}")
            pieces.append((box, piece))
        return put_together(described.path, described.shape, pieces)

    def _piece(self, name: str, box: Box) -> Tensor:
        key = place_key(name, box.offsets)
        place = self._metadata.places.get(key)
        if place is None:
            problem = "two places" if key in self._metadata.places else "no place"
            raise TensorError(f"its piece at {quoted(box.offsets)} has {problem} in the metadata")
        if place.transform is not None:
            raise TensorError(f"its bytes went through {quoted(place.transform)} when they were written")
        try:
            file = self._opened(place.file)
            window = file.window(place.offset, place.length, f"{file.location} at byte {place.offset:,}")
            head = window.read(0, min(window.size, _HEAD_BYTES))
            is_zip = head.startswith(SIGNATURES)
            if not is_zip and not torch_legacy.recognises(head, window):
                return self._by_name(name, place, file)
            if key in self._overlapping:
                raise TensorError(f"its piece in {quoted(place.file)} shares bytes with another")
            return self._only(torch_zip.read(window) if is_zip else torch_legacy.read(window))
        except CheckpointError as error:
            raise TensorError(f"its piece in {quoted(place.file)}: {error.problem}") from error

    def _by_name(self, name: str, place: Place, file: File) -> Tensor:
        """A piece out of the safetensors file that starts at the piece's offset and reaches to the file's end."""
        start = f"{place.offset}:{place.file}"
        if start not in self._named:
            window = file.window(place.offset, file.size - place.offset, f"{file.location} at byte {place.offset:,}")
            if not safetensors_file.recognises(window.read(0, min(window.size, _HEAD_BYTES)), window):
                raise TensorError(f"its piece in {quoted(place.file)} is not what torch.save or safetensors writes")
            self._named[start] = {tensor.name: tensor for tensor in safetensors_file.read(window).tensors}
        if name not in self._named[start]:
            raise TensorError(f"its piece in {quoted(place.file)} is not there, or two pieces are said to be it")
        return self._named[start].pop(name)

    def _opened(self, name: str) -> File:
        if name not in self.files:
            try:
                opened = self.files[name] = open_inside(self._file.folder, name, self._file.location)
                self._overlapping.update(_overlapping(self._in(name, opened.size)))
            except CheckpointError as error:
                self.files[name] = error
        found = self.files[name]
        if isinstance(found, CheckpointError):
            raise found
        return found

    def _in(self, name: str, size: int) -> list[tuple[int, int, str]]:
        """(start, end, key) of each piece that a file of that size holds whole."""
        places = [(place.offset, place.offset + place.length, key) for key, place in self._of_file.get(name, ())]
        return [(start, end, key) for start, end, key in places if end <= size]

    def _only(self, checkpoint: Checkpoint) -> Tensor:
        """The one tensor of what torch.save wrote for a piece."""
        self.classes |= dict.fromkeys(checkpoint.objects_not_loaded)
        self.warnings |= dict.fromkeys(checkpoint.warnings)
        if len(checkpoint.tensors) == 1 and not checkpoint.unread:
            return checkpoint.tensors[0]
        if len(checkpoint.unread) == 1 and not checkpoint.tensors:
            raise TensorError(checkpoint.unread[0].reason)
        raise TensorError(f"its piece holds {len(checkpoint.tensors) + len(checkpoint.unread):,} tensors, not one")


def _overlapping(places: list[tuple[int, int, str]]) -> Iterator[str]:
    """Keys of pieces that claim bytes of a file which another one claims too; places are (start, end, key)."""
    reach, last = 0, ""
    for start, end, key in sorted(places):
        if start < reach:
            yield from (last, key)
        if end > reach:
            reach, last = end, key
