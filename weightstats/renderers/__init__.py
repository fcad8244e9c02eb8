"""Report to text or bytes, one module a format. Renderers are pure: no files, no decisions, and no trust in names."""

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from weightstats.report import Report


class Renderer(Protocol):
    """What each module of this folder offers."""

    def render(self, report: "Report") -> str | bytes:
        """The whole report as text that ends with a line end, or as bytes where the format is no text."""
        ...


MODULES = {
    "terminal": "terminal",
    "json": "json_text",
    "csv": "csv_text",
    "markdown": "markdown_text",
    "html": "html",
    "parquet": "parquet",
}
"""The module of each value of `--format`."""

EXTRAS = {"html": "report", "parquet": "data"}
"""The extra that a format needs, where it needs one."""


def renderer(name: str) -> Renderer:
    """The renderer of a format; it is imported only when it is asked for."""
    return cast("Renderer", import_module(f"weightstats.renderers.{MODULES[name]}"))
