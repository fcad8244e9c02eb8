"""A page: one HTML file that needs nothing else, from a template, charts and the command that made it.

Names in it come from the checkpoint. jinja2 escapes all that it fills in; chart data are JSON that no parser of HTML
ends early; and a content security policy lets the browser run the page's own two scripts, by their hashes, and nothing
else, load nothing and send nothing.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from weightstats.renderers import words
from weightstats.renderers.chart_parts import PAGE, VEGA_LITE, Chart, configured
from weightstats.version import VERSION

TEMPLATES = Path(__file__).parent / "templates"

LIBRARIES = ("altair", "jinja2", "numpy", "scipy", "vl-convert-python")
"""Those that a page names with their versions."""


def render(template: str, charts: Mapping[str, Chart], command: str, **values: Any) -> str:
    """The page of a template of `templates/`, with charts by the names under which the template shows them.

    `command` is what made it, as it can be run again.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sentence"] = lambda text: words.printable(text, words.MOST_SENTENCE)
    scripts = _bundle(), (TEMPLATES / "page.js").read_text(encoding="utf-8")
    text = environment.get_template(template).render(
        charts=frozenset(charts),
        command=command,
        data=_embedded({name: _specification(chart) for name, chart in charts.items()}),
        libraries=_libraries(),
        policy=_policy(scripts),
        scripts=[Markup(script) for script in scripts],  # noqa: S704  ours and the library's; nothing of the checkpoint
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),  # noqa: S704
        version=VERSION,
        **values,
    )
    return text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


def _specification(chart: Chart) -> dict[str, Any]:
    found: dict[str, Any] = configured(chart, PAGE).to_dict(validate=False)
    return found


def _embedded(specifications: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Charts as JSON for a script element, data sets that several have in common once."""
    data: dict[str, Any] = {}
    charts = {}
    for name, specification in specifications.items():
        data |= specification.get("datasets", {})
        charts[name] = {key: value for key, value in specification.items() if key != "datasets"}
    text = json.dumps({"datasets": data, "charts": charts}, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  no tag can begin or end in it: JSON is ASCII here, and these three are escaped


def _policy(scripts: tuple[str, ...]) -> str:
    """The content security policy."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, as vl-convert brings them."""
    bundle: str = vl_convert.javascript_bundle(snippet=None, vl_version=VEGA_LITE)  # type: ignore[arg-type]
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _libraries() -> str:
    return ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
