"""What `weightstats compare` says of two checkpoints, as JSON and as CSV."""

import csv
import io
import json

from weightstats.changes import LayerChange
from weightstats.comparison import Comparison
from weightstats.penalties import PENALTIES
from weightstats.renderers.csv_text import cell

COLUMNS = (
    *("list", "name", "name_after", "kind", "shape", "dtype", "dtype_after", "n_in", "n_out", "elements", "paired"),
    *("mean_square_before", "mean_square_after", "relative_change", "cosine", "norm_ratio", "is_unchanged"),
    *("ratio_before", "ratio_after", "distance_before", "distance_after", "moved"),
    *(f"{penalty}_share_{side}" for penalty in PENALTIES for side in ("before", "after")),
    *("scale_free", "tied_to", "notes", "reason"),
)
"""The header line of CSV."""


def as_json(comparison: Comparison) -> str:
    """The comparison as one JSON object; names are escaped to ASCII, so that no terminal acts on them."""
    return json.dumps(comparison.to_dict(), allow_nan=False, indent=2) + "\n"


def as_csv(comparison: Comparison) -> str:
    """One line for each layer that is in both, then one for each that is not compared, with the reason."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for layer in comparison.layers:
        values = _values(layer)
        writer.writerow([cell(values[column]) for column in COLUMNS])
    for one in comparison.unmatched:
        name = {"name" if one.where == "before" else "name_after": one.name}
        values = {"list": f"only {one.where}", "reason": one.reason, **name}
        writer.writerow([cell(values.get(column)) for column in COLUMNS])
    return text.getvalue()


def _values(layer: LayerChange) -> dict[str, object]:
    changes = {"mean_square": layer.mean_square, "ratio": layer.ratio, "distance": layer.distance}
    changes |= {f"{penalty}_share": layer.shares[penalty] for penalty in PENALTIES}
    values: dict[str, object] = {column: getattr(layer, column, None) for column in COLUMNS}
    for name, change in changes.items():
        values |= {f"{name}_before": change.before, f"{name}_after": change.after}
    return values | {
        "list": "layer",
        "shape": "x".join(map(str, layer.shape)),
        "tied_to": " ".join(layer.tied_to),
        "notes": "; ".join(layer.notes),
        "reason": layer.not_paired_because or layer.left_out_because,
    }
