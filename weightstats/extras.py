"""Libraries that one format needs and the others do without: optional, imported when a file of that format is read."""

import importlib
import importlib.util
from types import ModuleType

from weightstats.errors import CheckpointError

MODULES: dict[str, str] = {
    "gguf": "gguf",
    "hdf5": "h5py",
}
"""The module that each extra brings, by the extra's name in pyproject.toml."""


def is_installed(extra: str) -> bool:
    """Whether the library of an extra is there; it is not imported. '' is the name of no extra at all."""
    return not extra or importlib.util.find_spec(MODULES[extra]) is not None


def missing(extra: str, format_: str) -> str:
    """The one line that says what is missing, and how to get it."""
    return f"{format_} needs the {extra} extra: pip install 'weightstats[{extra}]'"


def library(extra: str, location: str, format_: str) -> ModuleType:
    """The library of an extra; CheckpointError, naming the extra, where it is not installed."""
    try:
        return importlib.import_module(MODULES[extra])
    except ImportError as error:
        raise CheckpointError(location, missing(extra, format_)) from error
