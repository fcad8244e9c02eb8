"""Charts as files to print or to put in a paper: PNG, SVG and PDF, drawn by vl-convert without a browser."""

from collections.abc import Sequence

import vl_convert

from weightstats.renderers.chart_parts import LIGHT, VEGA_LITE, Chart, configured, titled

SCALE = 2.0
"""Pixels of a PNG for each point: 144 to the inch."""


def render(chart: Chart, suffix: str) -> bytes:
    """The chart, one of `charts` with a look of its own, in the format of the suffix: `.png`, `.svg` or `.pdf`."""
    specification = chart.to_dict(validate=False)
    match suffix:
        case ".png":
            return vl_convert.vegalite_to_png(specification, vl_version=VEGA_LITE, scale=SCALE)
        case ".pdf":
            return vl_convert.vegalite_to_pdf(specification, vl_version=VEGA_LITE)
        case ".svg":
            return vl_convert.vegalite_to_svg(specification, vl_version=VEGA_LITE).encode("utf-8")
    raise AssertionError(suffix)


def within_html(chart: Chart, lines: Sequence[str], *, bold: bool = True) -> str:
    """A chart that has no look yet, with lines above it, as SVG for a notebook: it needs no script."""
    return render(configured(titled(chart, lines, bold=bold), LIGHT), ".svg").decode("utf-8")
