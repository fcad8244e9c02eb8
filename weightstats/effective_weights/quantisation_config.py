"""What the configuration beside the weights says of how they were quantised."""

from collections.abc import Mapping
from typing import Any

FILES = ("quantize_config.json", "quant_config.json")
"""Files that say nothing else: AutoGPTQ's, and that of older releases of AutoAWQ."""

KEYS = ("quantization_config", "compression_config")
"""Keys of `config.json`: transformers', and that of older releases of compressed-tensors."""


MOST_TEXT = 200
"""Characters of a setting that is looked at."""


def quantisation(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings, an empty mapping where there are none."""
    whole = config.get("config.json")
    if isinstance(whole, Mapping):
        nested = whole.get("text_config")
        for part in (whole, nested if isinstance(nested, Mapping) else {}):
            for key in KEYS:
                settings = part.get(key)
                if isinstance(settings, Mapping):
                    return settings
    for name in FILES:
        settings = config.get(name)
        if isinstance(settings, Mapping):
            return settings
    return {}


def text(settings: Mapping[str, Any], *names: str) -> str:
    """The first of some settings that is a short text, in lower case; '' where there is none."""
    values = (settings.get(name) for name in names)
    return next((value.lower() for value in values if isinstance(value, str) and len(value) <= MOST_TEXT), "")


def number(settings: Mapping[str, Any], *names: str) -> int | None:
    """The first of some settings that is an integer; None where there is none."""
    values = (settings.get(name) for name in names)
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)
