"""Networks of libraries that nobody had looked at: measured once, before any change made because of them.

    python held_out.py FOLDER [COMMIT]

compares the dumps of `architectures.py` in FOLDER, in both orders, with and without config.json, and writes what came
of it to FOLDER/first.json, with the commit that was measured (this repository's, or the one that is named). What is
written once is not written again: a second run would measure what has been learnt from the first.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from differences import ORDERS, Compared, compared, dumps

FIRST = "first.json"
"""Beside the folders of dumps."""

POOR = 0.9
"""A network is listed by itself where less than this share of its layers is right."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What agreed in all networks of a library, in one order of the file."""

    library: str
    order: str
    config: bool
    """Whether config.json lay beside the file."""

    networks: int
    wholly_right: int
    layers: int
    layers_right: int
    others: int
    """Tensors that are no layers by their module's class."""

    others_right: int
    unknown: int
    """Tensors whose module's class says nothing; among neither."""


def right_layers(result: Compared) -> int:
    """Of one network, the layers that are told as their classes say."""
    return result.layers - sum(difference.what != "taken for a layer" for difference in result.differences)


def right_others(result: Compared) -> int:
    """Of one network, what is no layer and not taken for one."""
    return result.others - sum(difference.what == "taken for a layer" for difference in result.differences)


def counts(results: Iterable[Compared], library: str, order: str, *, config: bool) -> Counts:
    """Of the networks of this library in this order."""
    of = [result for result in results if (result.library, result.order) == (library, order)]
    return Counts(
        library=library,
        order=order,
        config=config,
        networks=len(of),
        wholly_right=sum(not result.differences for result in of),
        layers=sum(result.layers for result in of),
        layers_right=sum(right_layers(result) for result in of),
        others=sum(result.others for result in of),
        others_right=sum(right_others(result) for result in of),
        unknown=sum(len(result.unknown) for result in of),
    )


def measured(folder: Path, commit: str) -> dict[str, Any]:
    """All of it, for JSON."""
    rows: list[Counts] = []
    poor: dict[str, float] = {}
    kinds: Counter[str] = Counter()
    for config in (True, False):
        results = [compared(network, order, config=config) for network in dumps(folder) for order in ORDERS]
        for library in sorted({result.library for result in results}):
            rows += [counts(results, library, order, config=config) for order in ORDERS]
        if config:
            for result in results:
                share = right_layers(result) / max(1, result.layers)
                name = f"{result.library}/{result.architecture}"
                if result.layers and share < POOR:
                    poor[name] = min(share, poor.get(name, 1.0))
                kinds.update(difference.what for difference in result.differences)
    return {
        "commit": commit,
        "counts": [asdict(row) for row in rows],
        "poor": poor,
        "differences": dict(kinds.most_common()),
    }


def stored(folder: Path) -> dict[str, Any] | None:
    """What the first run wrote; None where there was none."""
    path = folder / FIRST
    return json.loads(path.read_text()) if path.exists() else None


def section(first: dict[str, Any]) -> list[str]:
    """The first run as lines of Markdown."""
    lines = [
        "## Networks that nobody had looked at",
        "",
        "What tells layers apart was developed on the networks above. These are of libraries that it was not developed",
        f"on, measured once at commit `{first['commit'][:7]}`, before any change made because of them; what has been",
        "learnt from them since is not in these figures. With `config.json` where the library writes one.",
        "",
        "| library | order of the file | networks | wholly right | layers | right | other tensors | right |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = [Counts(**row) for row in first["counts"] if row["config"]]
    for order in ORDERS:
        of = [row for row in rows if row.order == order]
        names = ("networks", "wholly_right", "layers", "layers_right", "others", "others_right", "unknown")
        sums = {name: sum(getattr(row, name) for row in of) for name in names}
        rows.append(Counts(library="all of them", order=order, config=True, **sums))
    for row in rows:
        lines.append(
            f"| {row.library} | {row.order} | {row.networks} | {row.wholly_right:,} | {row.layers:,} | "
            f"{_share(row.layers_right, row.layers)} | {row.others:,} | {_share(row.others_right, row.others)} |"
        )
    unknown = sum(row.unknown for row in rows if row.library == "all of them" and row.order == ORDERS[0])
    lines += ["", f"{unknown:,} tensors whose class says nothing of what they are for are not counted."]
    if first["poor"]:
        lines += ["", f"{len(first['poor'])} networks have less than {POOR:.0%} of their layers right:", ""]
        lines += [f"- {name}: {share:.1%}" for name, share in sorted(first["poor"].items(), key=lambda one: one[1])]
    return lines


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "–"


def main() -> None:
    """Measure and write, once."""
    folder, *named = sys.argv[1:]
    path = Path(folder, FIRST)
    if path.exists():
        raise SystemExit(f"{path} is there: the first run has been")
    head = ["git", "rev-parse", "HEAD"]
    commit = named[0] if named else subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    path.write_text(json.dumps(measured(Path(folder), commit), indent=1) + "\n")


if __name__ == "__main__":
    main()
