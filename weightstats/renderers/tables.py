"""What `weightstats formats` and `weightstats laws` show: what can be read, its limits, what it is tried against."""

import io
import json
import re
from dataclasses import fields
from inspect import getsource

from rich.console import Console
from rich.table import Table
from rich.text import Text

from weightstats import extras
from weightstats.laws import LAWS, SUPERSET, SUPERSET_FORMULA, SUPERSET_SOURCE
from weightstats.limits import LIMITS, Limits
from weightstats.readers import formats as known_formats


def formats(width: int) -> str:
    """Every format with how it is recognised, and whether what it needs is installed."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("format", no_wrap=True)
    table.add_column("recognised by", overflow="fold")
    table.add_column("needs", overflow="fold")
    for module in known_formats():
        installed = extras.is_installed(module.EXTRA)
        state = "installed" if installed else f"pip install 'weightstats[{module.EXTRA}]'"
        table.add_row(module.FORMAT, module.RECOGNISED_BY, f"{module.EXTRA} extra: {state}" if module.EXTRA else "")
    return _printed(table, width)


def limits(width: int) -> str:
    """Every limit with its value and its reason."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("limit", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("what it bounds", overflow="fold")
    reasons = limit_reasons()
    for field in fields(Limits):
        table.add_row(field.name, f"{getattr(LIMITS, field.name):,}", Text(reasons[field.name]))
    return _printed(table, width)


def laws(width: int) -> str:
    """Every law with its formula and where it comes from."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    table.add_column("--law", no_wrap=True)
    table.add_column("mean square", no_wrap=True)
    table.add_column("source", overflow="fold")
    for law in LAWS:
        table.add_row(law.key, law.formula, Text(law.source))
    table.add_row(f"({SUPERSET})", SUPERSET_FORMULA, Text(SUPERSET_SOURCE))
    return _printed(table, width)


def laws_as_json() -> str:
    """The same as one JSON object, schema `weightstats/laws/1`."""
    rows = [
        {
            "law": law.key,
            "formula": law.formula,
            "measure": law.measure_name or None,
            "constant": law.constant,
            "source": law.source,
        }
        for law in LAWS
    ]
    rows.append(
        {"law": SUPERSET, "formula": SUPERSET_FORMULA, "measure": None, "constant": None, "source": SUPERSET_SOURCE}
    )
    return json.dumps({"schema": "weightstats/laws/1", "laws": rows}, indent=2, ensure_ascii=False) + "\n"


def limit_reasons() -> dict[str, str]:
    """What the table in `weightstats.limits` says of each limit, by name, in one line."""
    entries = re.findall(r'^    (\w+): int = [^\n]*\n    """(.*?)"""', getsource(Limits), re.MULTILINE | re.DOTALL)
    return {name: " ".join(reason.replace("`", "").split()) for name, reason in entries}


def _printed(table: Table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
