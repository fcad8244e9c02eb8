"""Networks of public libraries with random weights, built without downloads.

    python architectures.py LIBRARY FOLDER [NAME ...]

LIBRARY is transformers, timm, torch, or one of those in `architectures_others.py`. It
writes what each tensor of each network is (`truth.py`) to FOLDER/LIBRARY/NAME.json, and what did not build, with the
reason, to FOLDER/LIBRARY/failed.txt. Networks are built on the meta device: they have names, shapes and classes, and
take no memory.
"""

import json
import re
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from truth import Truth, dump, truths

MOST_BYTES = 16 << 30
MOST_SECONDS = 90
"""What building one network may take; one that needs more is one of those that did not build."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network that can be built."""

    name: str
    """Of the file that it is dumped to."""

    library: str
    build: Callable[[], nn.Module]
    """On the current default device."""

    config: Callable[[nn.Module], Any] = lambda model: None
    """What the library would write to config.json."""

    saved: Callable[[nn.Module, list[Truth]], list[Truth] | None] = lambda model, tensors: None
    """What the library would write to a file of weights, where that is not the state dict."""


def built(architecture: Architecture) -> nn.Module:
    """On the meta device; on the CPU where the library computes with values while it builds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):
                return architecture.build()
        except Exception:  # whatever a library raises: the CPU is the second try
            return architecture.build()


def architectures(library: str) -> Iterator[Architecture]:
    """All of one library."""
    match library:
        case "transformers":
            from architectures_transformers import networks
        case "timm":
            from architectures_timm import networks
        case "torch":
            from architectures_torch import networks
        case _:
            from architectures_others import LIBRARIES

            if library not in LIBRARIES:
                raise SystemExit(f"no such library: {library}; there are also {', '.join(LIBRARIES)}")
            networks = LIBRARIES[library]
    return networks()


def _pattern(tensors: list[dict[str, Any]]) -> str:
    """Equal for networks of the same names, less their numbers, in modules of the same classes."""
    return "\n".join(sorted({f"{re.sub(r'[0-9]+', '#', t['name'])} {t['owner']} {t['kind']}" for t in tensors}))


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {MOST_SECONDS} seconds")


def dumps(architecture: Architecture) -> Iterator[dict[str, Any]]:
    """The network's state dict, and what the library saves if that is something else."""
    model = built(architecture)
    name, library, config = architecture.name, architecture.library, architecture.config(model)
    tensors = list(truths(model))
    yield dump(name, library, model, tensors, config)
    saved = architecture.saved(model, tensors)
    if saved is not None:
        yield dump(f"{name}-saved", library, model, saved, config)


def main() -> None:
    """Dump what is asked for."""
    library, folder, *names = sys.argv[1:]
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    signal.signal(signal.SIGALRM, _too_long)
    out = Path(folder) / library
    out.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    alike: dict[str, str] = {}
    repeated = 0
    for architecture in architectures(library):
        if names and not any(re.fullmatch(name, architecture.name) for name in names):
            continue
        signal.alarm(MOST_SECONDS)
        try:
            for content in dumps(architecture):
                first = alike.setdefault(_pattern(content["tensors"]), architecture.name)
                if first != architecture.name and library not in ("transformers", "torch"):
                    repeated += 1
                else:
                    (out / f"{content['name']}.json").write_text(
                        json.dumps(content, separators=(",", ":"), default=str)
                    )
        except Exception as error:  # whatever a library raises is a reason
            failed.append(f"{architecture.name}: {type(error).__name__}: {str(error)[:200]}".replace("\n", " "))
        finally:
            signal.alarm(0)
    if not names:
        (out / "failed.txt").write_text("\n".join(failed) + "\n")
    else:
        print(*failed, sep="\n")
    print(
        f"{library}: {len(list(out.glob('*.json')))} dumped, {len(failed)} did not build, {repeated} are like another"
    )


if __name__ == "__main__":
    main()
