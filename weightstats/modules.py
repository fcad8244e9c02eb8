"""A live torch.nn.Module as a checkpoint: what its state dict holds, over the memory in which it lies.

The only step beside the `torch_*` schemas that imports torch, so it is imported where a module is given.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from weightstats.checkpoint import Checkpoint, Unread
from weightstats.errors import CheckpointError, TensorError, shortened
from weightstats.schemas.torch_effective import WorkedOut, worked_out
from weightstats.schemas.torch_memory import Memory
from weightstats.schemas.torch_modules import ADAPTERS, buffer_use, class_name, use_of
from weightstats.schemas.torch_siblings import scale_free_layers
from weightstats.tensors import Tensor, Use

FORMAT = "torch module"


@dataclass(frozen=True, slots=True)
class Effective:
    """A weight that the module works out from what its state dict holds."""

    tensor: Tensor
    carrier: str
    """The end of the stored tensor's name that its module gave it: `weight_v`, `parametrizations.weight.original1`."""

    attribute: str
    """What the module calls the weight: `weight`."""

    because: str
    scale_free: str
    """Why the scale of what is stored does not matter, where that is so."""


@dataclass(frozen=True, slots=True)
class LiveModule:
    """A module as it is now."""

    checkpoint: Checkpoint
    """What its state dict holds."""

    effective: Mapping[str, Effective]
    """What is computed with in place of a stored tensor, by the name of that."""


def read_module(model: nn.Module) -> LiveModule:
    """A module's parameters and persistent buffers, none of them copied. The module is left as it is.

    Raises CheckpointError where it has no parameters, or not yet, since a lazy module in it has seen no batch.
    """
    location = class_name(model)
    _check_is_built(model, location)
    return _Reading(model, location).read()


def _check_is_built(model: nn.Module, location: str) -> None:
    for path, module in model.named_modules():
        tensors = (*module._parameters.values(), *module._buffers.values())
        if any(tensor is not None and is_lazy(tensor) for tensor in tensors):
            problem = (
                f"its module {path or '(the whole)'}, {class_name(module)}, has no weights yet: run one batch first"
            )
            raise CheckpointError(location, problem)


class _Reading:
    """What is known of a module while its state dict is gone through."""

    def __init__(self, model: nn.Module, location: str) -> None:
        self.model, self.location = model, location
        self.memory = Memory(location)
        self.scale_free = scale_free_layers(model)
        self.owners: dict[str, tuple[nn.Module, str]] = {}
        """The module of each name in the state dict, and the name in it."""
        self.owners_of: dict[int, tuple[nn.Module, str]] = {}
        """The same by the tensor's id."""
        self.carriers: dict[str, WorkedOut] = {}
        """What is worked out, by the whole name of what is stored for it."""
        self.companions: dict[str, Use] = {}
        self.computed: dict[tuple[int, str], Tensor] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            self._own(f"{path}." if path else "", module)

    def _own(self, prefix: str, module: nn.Module) -> None:
        for leaf, tensor in (*module._parameters.items(), *module._buffers.items()):
            self.owners[f"{prefix}{leaf}"] = (module, leaf)
            self.owners_of.setdefault(id(tensor), (module, leaf))
        for item in worked_out(module):
            self.carriers[f"{prefix}{item.carrier}"] = item
            self.companions |= {f"{prefix}{name}": item.use_of(name) for name in item.companions}

    def read(self) -> LiveModule:
        tensors: list[Tensor] = []
        unread: list[Unread] = []
        effective: dict[str, Effective] = {}
        with torch.no_grad():
            for name, tensor in _tensors("", self.model.state_dict(keep_vars=True)):
                try:
                    made = self.memory.tensor(name, tensor, self._use(name, tensor))
                    if name in self.carriers:
                        effective[name] = self._effective(name, self.carriers[name])
                except TensorError as error:
                    unread.append(Unread(name, str(error)))
                else:
                    tensors.append(made)
        if not tensors and not unread:
            raise CheckpointError(self.location, "has no parameters")
        seen = {tensor.view: tensor.stored_bytes for tensor in tensors}
        checkpoint = Checkpoint(
            self.location,
            FORMAT,
            sum(seen.values()),
            tuple(tensors),
            tuple(unread),
            config=_configurations(self.model),
        )
        return LiveModule(checkpoint, effective)

    def _use(self, name: str, tensor: torch.Tensor) -> Use | None:
        if name in self.companions:
            return self.companions[name]
        owner = self.owners.get(name) or self.owners_of.get(id(tensor))  # wrappers take their attributes out of names
        if owner is None or name in self.carriers or ADAPTERS.search(name):
            return None
        module, leaf = owner
        use = use_of(module, leaf, tensor)
        if use is None and leaf in module._buffers:
            return buffer_use(module, tensor)
        return self._with_scale(use, module, leaf)

    def _with_scale(self, use: Use | None, module: nn.Module, leaf: str) -> Use | None:
        because = self.scale_free.get(id(module), "")
        return (
            replace(use, scale_free=because) if because and use is not None and use.axes and leaf == "weight" else use
        )

    def _effective(self, name: str, item: WorkedOut) -> Effective:
        key = (id(item.module), item.weight)  # a module that has several names has one weight
        if key not in self.computed:
            self.computed[key] = self._computed(name, item)
        tensor = replace(self.computed[key], path=(name,))
        return Effective(tensor, item.carrier, item.weight, item.because, item.scale_free)

    def _computed(self, name: str, item: WorkedOut) -> Tensor:
        """The weight as the module computes with it; it is worked out once for its shape, and again when it is read."""
        try:
            example = item.compute()
        except Exception as error:  # whatever the code of a parametrization raises
            raise TensorError(f"it cannot be worked out: {shortened(str(error))}") from error
        use = self._with_scale(use_of(item.module, item.weight, example), item.module, item.weight)
        return replace(self.memory.computed(name, item.compute, tuple(example.shape), example.dtype), use=use)


def _tensors(prefix: str, held: object) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in a state dict, and in what modules put there as their extra state, with their names."""
    if isinstance(held, torch.Tensor):
        yield prefix, held
    elif isinstance(held, Mapping):
        for key, item in held.items():
            yield from _tensors(f"{prefix}.{key}" if prefix else str(key), item)
    elif isinstance(held, tuple | list):
        for index, item in enumerate(held):
            yield from _tensors(f"{prefix}.{index}", item)


def _configurations(model: nn.Module) -> dict[str, Any]:
    """The configurations that a model of transformers, diffusers or peft carries, by the names of the files that hold
    them elsewhere; that of several adapters is not one."""
    adapters = getattr(model, "peft_config", None)
    held = {
        "config.json": getattr(model, "config", None),
        "adapter_config.json": next(iter(adapters.values()))
        if isinstance(adapters, dict) and len(adapters) == 1
        else None,
    }
    contents = {name: _content(configuration) for name, configuration in held.items()}
    return {name: content for name, content in contents.items() if content is not None}


def _content(configuration: Any) -> dict[str, Any] | None:
    """A configuration as a dict; None where it cannot be told."""
    try:
        content = dict(configuration) if isinstance(configuration, Mapping) else configuration.to_dict()
    except Exception:  # whatever another library's code raises, and where this is no configuration
        return None
    return content if isinstance(content, dict) else None
