"""A check as strict JSON in the schema `weightstats/check/1`: no NaN and no infinity, null in their place."""

import json

from weightstats.checks import Check


def render(check: Check) -> str:
    """The check as one JSON object; names are escaped to ASCII, so that no terminal acts on them."""
    return json.dumps(check.to_dict(), allow_nan=False, indent=2) + "\n"
