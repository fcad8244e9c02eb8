"""The configurations that libraries write beside the weights: heads, groups, adapters, quantisation."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weightstats.containers.json_values import distinct, parsed
from weightstats.errors import CheckpointError, shortened
from weightstats.limits import LIMITS, over
from weightstats.places import open_inside

FILES = (
    "config.json",  # transformers, diffusers, timm
    "adapter_config.json",  # peft
    "quantize_config.json",  # AutoGPTQ
    "quant_config.json",  # AutoAWQ's older releases
)
"""Names of the files; each holds one JSON object."""


def configs_beside(folder: Path, location: str) -> tuple[dict[str, Any], list[str]]:
    """The configurations in a folder by the names of their files, and a warning for each that cannot be used."""
    found: dict[str, Any] = {}
    warnings: list[str] = []
    for name, content in _contents(folder, location):
        if isinstance(content, dict):
            found[name] = content
        else:
            warnings.append(f"{name} beside the weights is not used: {content}")
    return found, warnings


def _contents(folder: Path, location: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Each configuration that is there: its object, or what is wrong with it."""
    for name in FILES:
        if not os.path.lexists(folder / name):
            continue
        if not (folder / name).is_file():
            yield name, "it is no file"
            continue
        try:
            file = open_inside(folder, name, location)
            if file.size > LIMITS.config_bytes:
                yield name, f"it has {file.size:,} bytes, {over('config_bytes')}"
                continue
            content = parsed(file.read(0, file.size), distinct)
        except CheckpointError as error:
            yield name, error.problem
        except ValueError as error:
            yield name, f"it is not valid JSON: {shortened(str(error))}"
        else:
            yield name, content if isinstance(content, dict) else "it is not a JSON object"
