"""Which of a checkpoint's tensors are the network, and not the optimizer's state or a second copy."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from weightstats.checkpoint import Checkpoint
from weightstats.errors import UsageError, shortened
from weightstats.tensors import Tensor

ROOT_KEYS: tuple[str, ...] = (
    "state_dict",  # PyTorch Lightning, MoCo, torchvision's older examples
    "model_state_dict",  # the PyTorch tutorials' "Saving and loading a general checkpoint"
    "model_state",
    "model",  # timm, DETR, fairseq, YOLO, torchvision's references
    "module",  # DeepSpeed's mp_rank_00_model_states.pt
    "net",
    "network",
    "net_state_dict",
    "student",
    "teacher",  # DINO
    "weights",
    "params",  # BasicSR, Flax
    "params_ema",  # BasicSR
    "generator",
    "g_ema",  # StyleGAN2 ports
    "ema",  # YOLO
    "model_ema",
    "ema_state_dict",
    "state_dict_ema",  # timm
)
"""Keys under which training code keeps the network, the more telling first."""

NOT_NETWORK = re.compile(
    r"optim|sched|(^|_)(grad_?)?scaler|(^|_)amp($|_)|(^|_)rng|random_state|(^|_)(args|config|cfg|hparams|hyper_parameters|opt)$"
    r"|(^|_)opt_state$|(^|_)batch_stats$"  # Flax and optax
    r"|callbacks|loops|(^|_)(loss|losses|criterion|metrics|best_score|epoch|step|iteration|global_step)$"
)
"""Keys of what a training run keeps beside the network: torch.save tutorials, Lightning's checkpoint format."""

WRAPPER_PARTS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Attributes that wrappers put into every name: DataParallel and DDP; torch.compile; FSDP; checkpoint_wrapper."""


MOST_NAME = 256
"""Characters at the end of a name that tables are tried on: their patterns take quadratic time on hostile names."""


@dataclass(frozen=True, slots=True)
class Named:
    """A tensor with the name that the report gives it."""

    name: str
    tensor: Tensor
    """What is measured: the effective weight where the file holds it in several tensors."""

    stored: Tensor | None = None
    """What lies in the file under this name, where that is not what is measured."""

    known_as: str = ""
    """The name that tells what it is, where that is not `name`: `conv.weight` for `conv.weight_v`."""

    because: str = ""
    """How the effective weight comes from what is stored."""

    worked_out: str = ""
    """The same, where the network computes with something else than what is stored; an adapter only adds to it."""

    scale_free: str = ""
    """Why the scale of what is stored does not change what the network computes, where that is so."""

    merged: Tensor | None = None
    """The weight with its low-rank adapter added, where both are in the file."""

    merged_because: str = ""
    """Which adapter, and with which factor."""

    @property
    def telling(self) -> str:
        """The end of the name that tells what the tensor is, at most MOST_NAME characters."""
        return (self.known_as or self.name)[-MOST_NAME:]


@dataclass(frozen=True, slots=True)
class Beside:
    """A tensor that is in the file and not in the network."""

    name: str
    tensor: Tensor
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Network:
    """The tensors that the checkpoint is about, and how they were told from the rest."""

    tensors: tuple[Named, ...]
    beside: tuple[Beside, ...]
    root: str
    """The key under which they lie, '' where they are the whole file."""

    because: str
    dropped: tuple[str, ...]
    """Parts of names that were dropped: the root's keys and the wrappers' attributes."""

    config: Mapping[str, Any] = field(default_factory=dict)
    """What lies beside the weights in `config.json` and the like: see `Checkpoint.config`."""


def find_network(checkpoint: Checkpoint, root: str | None = None) -> Network:
    """The network in a checkpoint: under `root` if that is given, else under the key that names it best.

    UsageError where `root` is not a key of the checkpoint that leads to tensors.
    """
    tensors = checkpoint.tensors
    if root is not None:
        chosen, because = _keys_of(tensors, root), "as asked for"
    else:
        chosen, because = _best_root(tensors)
    inside = [tensor for tensor in tensors if tensor.path[: len(chosen)] == chosen]
    beside = [_beside(tensor, chosen) for tensor in tensors if tensor.path[: len(chosen)] != chosen]
    if root is None:
        kept = [tensor for tensor in inside if not _is_state(tensor, len(chosen))]
        beside += [_beside(tensor, chosen) for tensor in inside if _is_state(tensor, len(chosen))]
        inside = kept
    names = [".".join(tensor.path[len(chosen) :]) or tensor.name or "<tensor>" for tensor in inside]
    names, wrappers = _without_wrappers(names)
    return Network(
        tensors=tuple(Named(name, tensor) for name, tensor in zip(_distinct(names), inside, strict=True)),
        beside=tuple(beside),
        root=".".join(chosen),
        because=because,
        dropped=(*(f"{key}." for key in chosen), *wrappers),
        config=checkpoint.config,
    )


def _keys_of(tensors: Iterable[Tensor], root: str) -> tuple[str, ...]:
    """The keys that `root` stands for, joined by dots; '' stands for the whole checkpoint."""
    if not root:
        return ()
    prefixes = dict.fromkeys(tensor.path[:length] for tensor in tensors for length in range(1, len(tensor.path)))
    for prefix in prefixes:
        if ".".join(prefix) == root:
            return prefix
    short = [shortened(".".join(prefix)) for prefix in prefixes if len(prefix) <= 2]
    known = ", ".join(short[:10]) + (f" and {len(short) - 10} more" if len(short) > 10 else "")
    parts = f"it has {known}" if known else "its tensors lie in no parts that could be chosen from"
    raise UsageError(f"no part of the checkpoint is called {root!r}: {parts}")


def _best_root(tensors: tuple[Tensor, ...]) -> tuple[tuple[str, ...], str]:
    """The keys to go down, and why."""
    root: tuple[str, ...] = ()
    because = "every tensor of the file"
    by_name = False  # below a key that names the network, another may well be the name of a module
    while True:
        depth = len(root)
        inside = [tensor for tensor in tensors if tensor.path[:depth] == root]
        parts = dict.fromkeys(
            tensor.path[depth] for tensor in inside if len(tensor.path) > depth + 1 and not _is_state(tensor, depth)
        )
        named = [key for key in ROOT_KEYS if key in parts] if not by_name else []
        alone = len(parts) == 1 and all(len(t.path) > depth + 1 or _is_state(t, depth) for t in inside)
        if not named and not alone:
            return root, because
        key = named[0] if named else next(iter(parts))
        by_name = by_name or bool(named)
        because = (
            f"the key {key!r} is where training code keeps the network"
            if named
            else f"{key!r} is the only part that holds tensors of a network"
        )
        root = (*root, key)


def _is_state(tensor: Tensor, depth: int) -> bool:
    """Whether the key below `depth` is one of what a training run keeps beside its network.

    A key of a flat state dict names a module, which may well be called `step` or `loss`: only a key of a mapping, or
    of a tensor that lies beside mappings, counts.
    """
    return len(tensor.path) > depth + 1 and NOT_NETWORK.search(tensor.path[depth].lower()) is not None


def _beside(tensor: Tensor, root: tuple[str, ...]) -> Beside:
    key = next((key for index, key in enumerate(tensor.path) if root[index : index + 1] != (key,)), tensor.path[-1])
    if "optim" in key.lower() or key.lower().endswith("opt_state"):
        return Beside(tensor.name, tensor, "optimizer", f"state of the optimizer, under {key!r}")
    if key.lower().endswith("batch_stats"):
        return Beside(tensor.name, tensor, "buffer", f"running statistics of a normalisation, under {key!r}")
    if NOT_NETWORK.search(key.lower()):
        return Beside(tensor.name, tensor, "training state", f"training state, under {key!r}")
    return Beside(tensor.name, tensor, "not the network", f"outside the part taken for the network, under {key!r}")


def _without_wrappers(names: list[str]) -> tuple[list[str], list[str]]:
    """Names less the attributes that a wrapper put into all of them."""
    dropped: list[str] = []
    while names:
        first = names[0].split(".", 1)[0]
        if first not in WRAPPER_PARTS or not all(name.startswith(f"{first}.") for name in names):
            break
        names = [name[len(first) + 1 :] for name in names]
        dropped.append(f"{first}.")
    for part in WRAPPER_PARTS[1:]:
        inner = re.compile(rf"(^|\.)(?:{part}\.)+")
        if any(inner.search(name) for name in names):
            names = [inner.sub(r"\1", name) for name in names]
            dropped.append(f"{part}.")
    return names, dropped


def _distinct(names: list[str]) -> list[str]:
    """Names made different where two tensors have the same one."""
    taken = set(names)
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = number = seen.get(name, 0) + 1
        made = name
        while number > 1 and made in taken:
            made = f"{name}#{number}"
            number += 1
        taken.add(made)
        distinct.append(made)
    return distinct
