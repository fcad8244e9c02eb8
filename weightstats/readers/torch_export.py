"""`.pt2` archives: zip files with the tensors and the graph of a program that torch.export or AOTInductor wrote.

Layouts: torch/export/pt2_archive/_package.py; until torch 2.7, torch/export/__init__.py, `save`.
"""

import json
from dataclasses import replace
from typing import Any, TypeAlias

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.containers.zip_archive import Archive, names_in
from weightstats.dtypes import ByteOrder
from weightstats.errors import CheckpointError, TensorError, quoted, shortened
from weightstats.limits import LIMITS, over
from weightstats.places import File
from weightstats.readers import torch_zip
from weightstats.schemas.exported_graph import item, uses_of
from weightstats.schemas.exported_payloads import Payloads, integers, payload_name
from weightstats.tensors import Tensor, Use, make_tensor

FORMAT = "torch.export"
RECOGNISED_BY = "a zip archive with an entry archive_format or serialized_state_dict.pt"
EXTRA = ""

ARCHIVE_FORMAT = "archive_format"
OLD_STATE = ("serialized_state_dict.pt", "serialized_state_dict.json")
"""What torch.save wrote; the second name is that of torch 2.1, with the same content."""

FOLDERS = {"data/weights/": ("_weights_config.json", ()), "data/constants/": ("_constants_config.json", ("constants",))}
"""Folders of tensors: how the description of each model in them ends, and the keys that its tensors are put under."""

COMPILED = "data/aotinductor/"


def recognises(head: bytes, file: File) -> bool:
    """An entry that only such archives have, at the archive's top or in its one folder."""
    return any(_is_top(name) or name in OLD_STATE for name in names_in(head, file))


def _is_top(name: str) -> bool:
    return name == ARCHIVE_FORMAT or name.partition("/")[2] == ARCHIVE_FORMAT


def read(file: File) -> Checkpoint:
    """The tensors of every program in the archive. CheckpointError where the archive or a description is damaged."""
    return _Program(file).checkpoint()


Found: TypeAlias = list[tuple[str, Tensor]]
"""Tensors, each with the name that it has in its program."""


class _Program:
    """What has been found in an archive."""

    def __init__(self, file: File) -> None:
        self.file, self.archive = file, Archive(file)
        self.tensors: list[Tensor] = []
        self.unread: list[Unread] = []
        self.objects: list[str] = []
        self.warnings: list[str] = []
        self.used: set[str] = set()
        self.inflated = 0

    def checkpoint(self) -> Checkpoint:
        """All of it."""
        if any(name in self.archive.entries for name in OLD_STATE):
            self._add_old()
        else:
            self._add_all(*self._top())
        return Checkpoint(
            location=self.file.location,
            format=FORMAT,
            bytes=self.file.size,
            tensors=tuple(self.tensors),
            unread=tuple(self.unread),
            objects_not_loaded=tuple(dict.fromkeys(self.objects)),
            warnings=tuple(dict.fromkeys(self.warnings)),
        )

    def _add_old(self) -> None:
        """What torch wrote before 2.8: one file of torch.save for the weights, and one for the constants."""
        found: Found = []
        for ending in (".pt", ".json"):
            found += self._saved(f"serialized_state_dict{ending}", ())
            found += self._saved(f"serialized_constants{ending}", ("constants",))
        self._add_used(found, "serialized_exported_program.json")
        self._add_examples("serialized_example_inputs.pt", ())

    def _top(self) -> tuple[str, ByteOrder]:
        """The folder that everything lies in, with its slash, and the byte order."""
        tops = [name for name in self.archive.entries if _is_top(name)]
        if len(tops) != 1:
            problem = f"holds {len(tops):,} archives in one: {shortened(', '.join(tops))}"
            raise CheckpointError(self.file.location, problem)
        written = self.archive.bytes(tops[0], "text_bytes")
        if written != b"pt2":
            raise CheckpointError(self.file.location, f"is an archive of the format {quoted(written)}, not pt2")
        top = tops[0].removesuffix(ARCHIVE_FORMAT)
        name = f"{top}byteorder"
        order = self.archive.bytes(name, "text_bytes") if name in self.archive.entries else b"little"
        if order not in (b"little", b"big"):
            raise CheckpointError(self.file.location, f"names a byte order that does not exist: {quoted(order)}")
        return top, "big" if order == b"big" else "little"

    def _add_all(self, top: str, order: ByteOrder) -> None:
        models = self._models(top)
        compiled = {name.removeprefix(top + COMPILED).partition("/")[0] for name in self._under(top + COMPILED)}
        names = list(dict.fromkeys((*models, *sorted(compiled))))
        for model in names:
            prefix = (model,) if len(names) > 1 else ()
            found: Found = []
            for folder, (ending, keys) in FOLDERS.items():
                if f"{top}{folder}{model}{ending}" in self.archive.entries:
                    found += self._described(top + folder, f"{model}{ending}", (*prefix, *keys), order)
                found += self._saved(f"{top}{folder}{model}.pt", (*prefix, *keys))
            found += self._compiled(top, model, prefix)
            self._add_used(found, f"{top}models/{model}.json")
            self._add_examples(f"{top}data/sample_inputs/{model}.pt", prefix)
        for folder in FOLDERS:
            left = [name for name in self._under(top + folder) if name not in self.used]
            self.unread += [Unread(name.removeprefix(top), "no description says what it is") for name in left]
        if compiled and not (self.tensors or self.unread):
            problem = "holds compiled code and no weights beside it: inspect what it was compiled from"
            raise CheckpointError(self.file.location, problem)

    def _models(self, top: str) -> list[str]:
        """The names of the programs, in the order of the archive."""
        models = [name.removeprefix(f"{top}models/").removesuffix(".json") for name in self._under(f"{top}models/")]
        for folder, (ending, _) in FOLDERS.items():
            for name in self._under(top + folder):
                suffix = next((suffix for suffix in (ending, ".pt") if name.endswith(suffix)), None)
                if suffix is not None:
                    models.append(name.removeprefix(top + folder).removesuffix(suffix))
        return list(dict.fromkeys(models))

    def _under(self, folder: str) -> list[str]:
        return [name for name in self.archive.entries if name.startswith(folder) and name != folder]

    def _add_used(self, found: Found, graph: str) -> None:
        """Add the tensors of a program, with what its graph uses them for."""
        uses: dict[str, Use] = {}
        if graph in self.archive.entries:
            try:
                uses = uses_of(self._json(graph), {name: tensor.shape for name, tensor in found})
            except CheckpointError as error:
                self.warnings.append(f"the graph was not read, so that names and shapes decide: {error.problem}")
        shared = {tensor.view: uses[name] for name, tensor in reversed(found) if name in uses and tensor.elements}
        for name, tensor in found:
            use = uses.get(name) or (shared.get(tensor.view) if tensor.elements else None)
            self.tensors.append(replace(tensor, use=use))

    def _add_examples(self, entry: str, prefix: tuple[str, ...]) -> None:
        """Add the inputs that the program was exported with."""
        use = Use("constant", "", "an example of the program's inputs")
        found = self._saved(entry, (*prefix, "example_inputs"))
        self.tensors += [replace(tensor, use=use) for _, tensor in found]

    def _described(self, folder: str, entry: str, prefix: tuple[str, ...], order: ByteOrder) -> Found:
        """The tensors of a folder, as the description that lies beside them says."""
        self.used.add(folder + entry)
        config = item(self._json(folder + entry), "config")
        if not isinstance(config, dict):
            raise CheckpointError(self.file.location, f"its {folder}{entry} describes nothing")
        if len(config) > LIMITS.tensors:
            raise CheckpointError(self.file.location, f"describes {len(config):,} tensors, {over('tensors')}")
        payloads = Payloads(self.archive, folder, config, order)
        found: Found = []
        for name, record in config.items():
            payload = folder + payload_name(record)
            self.used.add(payload)
            if payload.startswith((f"{folder}custom_obj_", f"{folder}opaque_obj_")):
                self.objects.append(name)
            elif item(record, "use_pickle") is True and payload in self.archive.entries:
                before = len(self.unread)
                saved = self._saved(payload, (*prefix, name))
                found += [(name, tensor) for _, tensor in saved]
                if not saved and len(self.unread) == before:
                    self.unread.append(Unread(".".join((*prefix, name)), "its pickle holds no tensor"))
            else:
                try:
                    found.append((name, payloads.tensor((*prefix, name), record)))
                except TensorError as error:
                    self.unread.append(Unread(".".join((*prefix, name)), str(error)))
        return found

    def _compiled(self, top: str, model: str, prefix: tuple[str, ...]) -> Found:
        """The weights beside a compiled model, each a view of a saved tensor: [file, shape, strides, offset]."""
        entry = f"{top}{COMPILED}{model}/weights_config.json"
        if entry not in self.archive.entries:
            return []
        stored: dict[str, Found] = {}
        found: Found = []
        config = self._json(entry)
        for name, record in config.items() if isinstance(config, dict) else ():
            try:
                file, shape, strides, offset = record
                sizes, steps, (first,) = integers(shape), integers(strides), integers([offset])
                entry = f"{top}data/weights/{file if isinstance(file, str) else ''}"
                if entry not in stored:
                    stored[entry] = self._saved(entry, (*prefix, file))
                if len(stored[entry]) != 1:
                    raise TensorError("its storage is not there, or not one tensor")
                whole = stored[entry][0][1]
                tensor = make_tensor((*prefix, name), sizes, whole.dtype, whole.storage, first, steps)
            except (TypeError, ValueError, TensorError) as error:
                reason = str(error) if isinstance(error, TensorError) else "its description is malformed"
                self.unread.append(Unread(".".join((*prefix, name)), reason))
            else:
                found.append((name, tensor))
        return found

    def _saved(self, entry: str, prefix: tuple[str, ...]) -> Found:
        """The tensors of an entry that torch.save wrote; none where there is no such entry."""
        info = self.archive.entries.get(entry)
        if info is None or not info.file_size:
            return []
        self.used.add(entry)
        try:
            self.inflated += info.file_size if info.compress_type else 0
            if self.inflated > LIMITS.expanded_bytes + LIMITS.expansion * self.file.size:
                raise CheckpointError(self.file.location, f"its entries inflate to {over('expanded_bytes')}")
            part = torch_zip.read(self.archive.file_in(entry))
        except CheckpointError as error:
            self.unread.append(Unread(".".join(prefix) or entry, f"its entry {shortened(entry)}: {error.problem}"))
            return []
        self.unread += [Unread(".".join((*prefix, entry.name)), entry.reason) for entry in part.unread]
        self.objects += part.objects_not_loaded
        self.warnings += part.warnings
        return [(tensor.name, replace(tensor, path=(*prefix, *tensor.path))) for tensor in part.tensors]

    def _json(self, entry: str) -> Any:
        try:
            return json.loads(self.archive.bytes(entry, "text_bytes"), object_pairs_hook=_without_doubles)
        except (ValueError, RecursionError) as error:
            detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            problem = f"its {shortened(entry)} cannot be read as JSON: {shortened(detail)}"
            raise CheckpointError(self.file.location, problem) from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key is there twice")
    return mapping
