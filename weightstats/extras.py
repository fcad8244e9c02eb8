"""Libraries that one format or one output needs and the others do without: optional, imported when they are needed."""

import importlib
import importlib.util
from types import ModuleType

from weightstats.errors import CheckpointError, UsageError

MODULES: dict[str, tuple[str, ...]] = {
    "gguf": ("gguf",),
    "hdf5": ("h5py",),
    "report": ("altair", "jinja2", "vl_convert"),
    "plot": ("plotext",),
    "data": ("pandas", "pyarrow"),
}
"""The modules that each extra brings, by the extra's name in pyproject.toml."""


def is_installed(extra: str) -> bool:
    """Whether the libraries of an extra are there; they are not imported. '' is the name of no extra at all."""
    return not extra or all(importlib.util.find_spec(name) is not None for name in MODULES[extra])


def missing(extra: str, what: str) -> str:
    """The one line that says what is missing, and how to get it."""
    return f"{what} needs the {extra} extra: pip install 'weightstats[{extra}]'"


def need(extra: str, what: str) -> None:
    """UsageError, naming the extra, where its libraries are not installed: before any work is done for an output."""
    if not is_installed(extra):
        raise UsageError(missing(extra, what))


def library(extra: str, location: str, format_: str) -> ModuleType:
    """The first library of an extra; CheckpointError, naming the extra, where it is not installed."""
    try:
        return importlib.import_module(MODULES[extra][0])
    except ImportError as error:
        raise CheckpointError(location, missing(extra, format_)) from error
