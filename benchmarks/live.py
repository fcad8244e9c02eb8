"""What weightstats tells of a live module and of the file that its state dict makes, layer by layer."""

import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from architectures import Architecture, built
from differences import NOT_LAYERS
from safetensors.torch import save_file
from torch import nn
from truth import truths

import weightstats

MOST_BYTES = 1 << 28
"""Of a network that is put into memory; the larger ones have a smaller variant or are compared by `--quick`."""


@dataclass(frozen=True, slots=True)
class Met:
    """One network: what its module and its file were taken for."""

    library: str
    architecture: str
    format: str
    tensors: int
    """Stored tensors that hold a layer by the module, by the file or by both."""

    agreeing: int
    """Those whose layers have the same names, kinds, fans and place in the fit or out of it."""

    differences: tuple[tuple[str, str, str], ...]
    """The stored tensor's name, what the module tells of it, what the file tells."""

    against_classes: tuple[tuple[str, str, str], ...]
    """The stored tensor's name, what its class says by `truth.py`, what weightstats tells of the live module."""


def met(architecture: Architecture, *, measure: bool) -> Iterator[Met]:
    """The network against its file as safetensors writes it and as torch does; nothing for one that is too large."""
    torch.manual_seed(0)
    own = architecture.library == "torch"  # small, and with values that belong together, as a power iteration's vectors
    model = architecture.build() if own else built(architecture)
    size = sum(
        value.numel() * value.element_size()
        for value in model.state_dict(keep_vars=True).values()
        if isinstance(value, torch.Tensor)
    )
    if size > MOST_BYTES:
        return
    materialise(model)
    with tempfile.TemporaryDirectory() as folder:
        config = architecture.config(model)
        if config:
            Path(folder, "config.json").write_text(json.dumps(config, default=str))
        of_module = _told(model, measure=measure)
        against_classes = tuple(_against_classes(model))
        for name in ("model.safetensors", "model.pt"):
            path = Path(folder, name)
            _write(model, path)
            of_file = _told(path, measure=measure)
            path.unlink()
            yield _met(architecture, path.suffix.removeprefix("."), of_module, of_file, against_classes)


def materialise(model: nn.Module, seed: int = 0) -> None:
    """Small random numbers in the CPU's memory for what lies on the meta device; what was one tensor stays one."""
    generator = torch.Generator().manual_seed(seed)
    made: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, value in held.items():
                if value is None or value.device.type != "meta":
                    continue
                if id(value) not in made:
                    made[id(value)] = _filled(value, generator)
                held[name] = made[id(value)]


def _filled(value: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    tensor = torch.zeros(value.shape, dtype=value.dtype)
    if not value.is_floating_point():
        return nn.Parameter(tensor, requires_grad=False) if isinstance(value, nn.Parameter) else tensor
    tensor.uniform_(-0.05, 0.05, generator=generator)
    return nn.Parameter(tensor, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else tensor


def _write(model: nn.Module, path: Path) -> None:
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    if path.suffix == ".pt":
        torch.save(state, path)
        return
    first: dict[object, str] = {}
    for name, value in state.items():
        first.setdefault((value.data_ptr(), value.shape, value.stride()) if value.numel() else name, name)
    save_file({name: state[name].clone().contiguous() for name in first.values()}, path)


Layers = Mapping[str, tuple[str, ...]]
"""By the stored tensor's name, what is told of each layer in it."""


def _told(location: Any, *, measure: bool) -> Layers:
    """The layers of a module or a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = weightstats.inspect(location).layers if measure else weightstats.list_layers(location).layers
    told: dict[str, list[str]] = {}
    for row in rows:
        fitted = row.fitted if measure else row.left_out_because is None
        part = row.name.removeprefix(row.part_of) if row.part_of else ""
        words = f"{part}{' ' if part else ''}{row.kind} {row.n_in}→{row.n_out}{'' if fitted else ', left out'}"
        told.setdefault(row.part_of or row.name, []).append(words)
    return {name: tuple(sorted(words)) for name, words in told.items()}


def _met(
    architecture: Architecture,
    form: str,
    of_module: Layers,
    of_file: Layers,
    against_classes: tuple[tuple[str, str, str], ...],
) -> Met:
    names = dict.fromkeys((*of_module, *of_file))
    differences = [
        (name, _words(of_module.get(name)), _words(of_file.get(name)))
        for name in names
        if of_module.get(name) != of_file.get(name)
    ]
    agreeing = len(names) - len(differences)
    return Met(architecture.library, architecture.name, form, len(names), agreeing, tuple(differences), against_classes)


def _against_classes(model: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Where weightstats tells something else of the live module than `truth.py`, which knows the classes on its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = {row.name: row for row in weightstats.list_layers(model, as_stored=True).layers}
    for truth in truths(model):
        row = rows.get(truth.name)
        if truth.tie is not None or truth.kind == "unknown":
            continue
        told = "no layer" if row is None else f"{row.kind} {row.n_in}→{row.n_out}"
        if truth.kind in NOT_LAYERS:
            if row is not None and row.kind != "embedding":
                yield truth.name, truth.kind, told
        elif told != (said := f"{truth.kind} {truth.n_in}→{truth.n_out}"):
            yield truth.name, said, told


def _words(layers: tuple[str, ...] | None) -> str:
    if layers is None:
        return "no layer"
    return (
        layers[0]
        if len(layers) == 1
        else f"{len(layers)} parts: {'; '.join(layers[:2])}{' ...' if len(layers) > 2 else ''}"
    )
