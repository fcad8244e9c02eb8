"""Strict JSON in the schema `weightstats/report/1`: no NaN and no infinity, null in their place."""

import json

from weightstats.report import Report


def render(report: Report) -> str:
    """The report as one JSON object; names are escaped to ASCII, so that no terminal acts on them."""
    return json.dumps(report.to_dict(), allow_nan=False, indent=2) + "\n"
