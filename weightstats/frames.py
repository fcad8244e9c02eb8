"""The layers of a report as a table for other programs: Arrow's, which carries the rest of the report, and pandas'."""

import json
from typing import TYPE_CHECKING, Any

from weightstats import extras
from weightstats.penalties import PENALTIES
from weightstats.report import Report

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]
    import pyarrow  # type: ignore[import-untyped]

EXTRA = "data"

METADATA = b"weightstats"
"""The key of the table's metadata under which the report lies, but for its layers, as JSON."""

MOST_METADATA = 32 << 20
"""Bytes of that JSON: Parquet keeps it twice, and readers refuse a footer of 100 MB."""

COLUMNS: dict[str, str] = {
    "name": "text",
    "kind": "category",
    "shape": "integers",
    "dtype": "category",
    "n_in": "integer",
    "n_out": "integer",
    "fans_from": "category",
    "elements": "integer",
    "nonfinite": "integer",
    "zeros": "integer",
    "mean": "number",
    "mean_square": "number",
    "sum_of_squares": "number",
    "max_abs": "number",
    "excess_kurtosis": "number",
    "tied_to": "texts",
    "fitted": "boolean",
    "left_out_because": "text",
    "predicted_mean_square": "number",
    "ratio": "number",
    "part_of": "text",
    "scale_free": "boolean",
    "merged_mean_square": "number",
    "family": "category",
    "role": "category",
    **{f"{penalty}_{part}": "number" for penalty in PENALTIES for part in ("value", "share", "decay_multiplier")},
    "as_initialised": "boolean",
    "initialisation": "category",
    "initialiser": "texts",
    "kind_because": "text",
    "byte_order": "category",
    "scale_free_because": "text",
    "merged_because": "text",
    "worked_out_because": "text",
    "initialisation_because": "text",
    "initialisation_distribution": "category",
    "initialisation_candidates": "candidates",
    "initialisation_nearest": "category",
    "initialisation_nearest_ratio": "number",
}
"""The table's columns with what they hold: those of the CSV under the same names, then what else the JSON has."""

_LISTS = ("integers", "texts", "candidates")

_LARGEST = (1 << 63) - 1
"""That an integer of Arrow's, as of SQL, can be."""


def to_arrow(report: Report) -> "pyarrow.Table":
    """One row a layer, in the order of the report. UsageError where the `data` extra is not installed.

    What is not known is null, as in JSON; so is an integer that 64 bits do not hold. A lone surrogate in a text, which
    UTF-8 cannot hold, is written as its escape.
    """
    extras.need(EXTRA, "a table of the layers")
    import pyarrow as pa

    rest = report.to_dict()
    rows = [_flat(layer) for layer in rest.pop("layers")]
    types = _types()
    arrays = [pa.array([row[name] for row in rows], types[holds]) for name, holds in COLUMNS.items()]
    return pa.Table.from_arrays(
        arrays,
        schema=pa.schema(
            [pa.field(name, types[holds]) for name, holds in COLUMNS.items()], metadata={METADATA: _metadata(rest)}
        ),
    )


def to_pandas(report: Report) -> "pandas.DataFrame":
    """The same as a data frame: numbers that are not known are NaN, and lists are tuples, which can be grouped by."""
    extras.need(EXTRA, "a data frame of the layers")
    import pandas

    table = to_arrow(report)
    frame = table.to_pandas(ignore_metadata=True)
    for name, holds in COLUMNS.items():
        if holds in _LISTS:
            values = [tuple(row) for row in table.column(name).to_pylist()]
            frame[name] = pandas.Series(values, frame.index, dtype=object)
        elif holds == "integer" and table.column(name).null_count:
            frame[name] = pandas.array(table.column(name).to_pylist(), dtype="Int64")
    return frame


def _types() -> dict[str, Any]:
    """The Arrow type of what columns hold."""
    import pyarrow as pa

    def list_of(held: Any) -> Any:
        return pa.list_(pa.field("element", held))  # the name that Parquet gives it

    text, number = pa.string(), pa.float64()
    candidate = pa.struct([("name", text), ("ratio", number), ("interval", list_of(number))])
    return {
        "text": text,
        "category": pa.dictionary(pa.int32(), text),
        "integer": pa.int64(),
        "number": number,
        "boolean": pa.bool_(),
        "integers": list_of(pa.int64()),
        "texts": list_of(text),
        "candidates": list_of(candidate),
    }


def _flat(layer: dict[str, Any]) -> dict[str, Any]:
    """The values of one row by column, from the layer as JSON has it."""
    drawn = layer["initialisation"]
    found = {
        **layer,
        **{f"{name}_{part}": value for name, parts in layer["penalties"].items() for part, value in parts.items()},
        **{f"initialisation_{part}": value for part, value in drawn.items()},
        "as_initialised": drawn["as_initialised"],
        "initialisation": drawn["state"],
        "initialiser": [candidate["name"] for candidate in drawn["candidates"]],
    }
    return {name: _held(found[name]) for name in COLUMNS}


def _held(value: Any) -> Any:
    """The value as Arrow can hold it."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, int) and abs(value) > _LARGEST:
        return None
    if isinstance(value, list):
        return [_held(item) for item in value]
    if isinstance(value, dict):
        return {key: _held(item) for key, item in value.items()}
    return value


def _metadata(rest: dict[str, Any]) -> bytes:
    """The rest of the report as JSON in ASCII; its largest parts are left out, and named, where it is too long."""
    parts = {key: json.dumps(value, allow_nan=False) for key, value in rest.items()}
    left_out: list[str] = []
    while sum(map(len, parts.values())) > MOST_METADATA:
        left_out.append(max(parts, key=lambda key: len(parts[key])))
        del parts[left_out[-1]]
    if left_out:
        parts["left_out_of_metadata"] = json.dumps(left_out)
    return f"{{{', '.join(f'{json.dumps(key)}: {part}' for key, part in parts.items())}}}".encode("ascii")
