"""Parquet: one row a layer, and the rest of the report in the file's metadata; see `weightstats.frames`."""

import io

from weightstats.frames import to_arrow
from weightstats.report import Report


def render(report: Report) -> bytes:
    """The layers as a Parquet file, compressed with zstd; the same report gives the same bytes.

    UsageError where the `data` extra is not installed.
    """
    table = to_arrow(report)
    import pyarrow.parquet  # type: ignore[import-untyped]

    written = io.BytesIO()
    pyarrow.parquet.write_table(table, written, compression="zstd")
    return written.getvalue()
