"""What `weightstats --version` prints: the versions of what a result may depend on, for a report of a problem."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from weightstats.version import VERSION

REQUIRED = ("numpy", "scipy", "click", "rich", "safetensors", "torch")
"""The distributions that pyproject.toml requires."""

OPTIONAL = {
    "gguf": ("gguf",),
    "hdf5": ("h5py",),
    "report": ("altair", "jinja2", "vl-convert-python"),
    "plot": ("plotext",),
    "data": ("pandas", "pyarrow"),
}
"""The distributions of each extra in pyproject.toml."""


def versions() -> str:
    """A line with the version of weightstats, then one for each thing that it uses. Nothing is imported for them."""
    lines = [("Python", f"{platform.python_version()} ({sys.implementation.name}), {_system()}")]
    lines += [(name, _version(name) or "not installed") for name in REQUIRED]
    for extra, names in OPTIONAL.items():
        lines += [(name, _version(name) or f"not installed (extra {extra})") for name in names]
    width = max(len(name) for name, _ in lines) + 2
    return "".join([f"weightstats {VERSION}\n", *(f"{name:{width}}{said}\n" for name, said in lines)])


def _system() -> str:
    return f"{platform.system()} {platform.release()} {platform.machine()}".strip()


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
