"""One line a layer, for spreadsheets and data frames."""

import csv
import io
import math

from weightstats.penalties import PENALTIES
from weightstats.report import LayerRow, Report

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

_PLAIN = (
    "name",
    "kind",
    "shape",
    "dtype",
    "n_in",
    "n_out",
    "fans_from",
    "elements",
    "nonfinite",
    "zeros",
    "mean",
    "mean_square",
    "sum_of_squares",
    "max_abs",
    "excess_kurtosis",
    "tied_to",
    "fitted",
    "left_out_because",
    "predicted_mean_square",
    "ratio",
    "part_of",
    "scale_free",
    "merged_mean_square",
    "family",
    "role",
)

_INITIALISATION = ("as_initialised", "initialisation", "initialiser")
"""Whether it is as initialised, its state, and the candidates."""

COLUMNS = (
    *_PLAIN,
    *(f"{penalty}_{field}" for penalty in PENALTIES for field in ("value", "share", "decay_multiplier")),
    *_INITIALISATION,
)
"""The header line."""


def render(report: Report) -> str:
    """Layers as lines of RFC 4180, floats with all their digits, what is not known as an empty field.

    A text that a spreadsheet would take for a formula is given a leading apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for layer in report.layers:
        penalties = [layer.penalties[penalty] for penalty in PENALTIES]
        numbers = [value for part in penalties for value in (part.value, part.share, part.decay_multiplier)]
        writer.writerow([cell(value) for value in (*_plain(layer), *numbers, *_initialisation(layer))])
    return text.getvalue()


def _plain(layer: LayerRow) -> list[object]:
    values: list[object] = [getattr(layer, column) for column in _PLAIN]
    values[_PLAIN.index("shape")] = "x".join(str(size) for size in layer.shape)
    values[_PLAIN.index("tied_to")] = " ".join(layer.tied_to)
    return values


def _initialisation(layer: LayerRow) -> tuple[object, ...]:
    found = layer.initialisation
    return found.as_initialised, found.state, "; ".join(candidate.name for candidate in found.candidates)


def cell(value: object) -> str:
    """One value as a cell that no spreadsheet takes for a formula."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
