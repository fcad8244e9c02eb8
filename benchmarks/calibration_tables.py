"""The tables of `docs/calibration.md`, as Markdown."""

import math
from collections.abc import Callable, Iterable, Sequence

from calibration_settings import (
    BAR,
    CONTEST_KINDS,
    CONTEST_SIZES,
    LAW,
    PICKS,
    RULES,
    SHOWN_SIZE,
    SIZES,
    TRUTHS,
    Coverage,
    Results,
    VerdictRates,
    judged,
    rated,
)
from interval_methods import METHODS
from scatter_kinds import KINDS
from simulated_networks import CHECKPOINTS, network

from weightstats.contest import OFTEN, REACH

GROUPS: dict[str, tuple[str, ...]] = {
    "each layer on its own": ("independent", "heavy tails"),
    "by shape": ("shape 0.5", "shape 0.9"),
    "by role": ("role 0.2", "role 0.5", "role 0.9"),
    "a wild layer": ("wild layer",),
}
"""Kinds of scatter that are summed up together; the model holds in all but the last."""

NETWORK_COLUMNS = ("network", "layers", "shapes", "fan sums", "roles", "roles of several shapes")
KIND_COLUMNS = ("network", *(kind.key for kind in KINDS))
WILD_COLUMNS = ("network", *(f"{what}, {size:g}" for what in ("exponent", "c") for size in SIZES))
WRONG_COLUMNS = ("true law", "wrong verdict", *GROUPS)
METHOD_COLUMNS = ("method", *GROUPS)
RULE_COLUMNS = ("within reach", *(f"{what}, {size:g}" for what in list(GROUPS)[:3] for size in CONTEST_SIZES))
CONTEST_COLUMNS = ("network", *(f"{kind}, {size:g}" for size in CONTEST_SIZES for kind in CONTEST_KINDS))
PICK_COLUMNS = ("network", *(f"scatter {size:g}" for size in CONTEST_SIZES))


def percent(share: float) -> str:
    """Without decimals."""
    return f"{100 * share:.0f} %"


def mean(values: Iterable[float]) -> float:
    """NaN for none."""
    found = list(values)
    return sum(found) / len(found) if found else math.nan


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def networks() -> str:
    """What there is of each network."""
    rows = []
    for name in CHECKPOINTS:
        made = network(name)
        shapes_of: dict[str, set[tuple[int, int, int]]] = {}
        for layer in made.layers:
            shapes_of.setdefault(layer.role, set()).add(layer.shape)
        crossing = sum(len(shapes) > 1 for shapes in shapes_of.values())
        rows.append([name, *map(str, (len(made.layers), made.shapes, made.fan_sums, made.roles, crossing))])
    return table(NETWORK_COLUMNS, rows)


def of_exponent(cell: Coverage) -> tuple[float, str]:
    """Coverage and width at SHOWN_SIZE."""
    return cell.exponent[SIZES.index(SHOWN_SIZE)], f"±{cell.exponent_half:.2f}"


def of_constant(cell: Coverage) -> tuple[float, str]:
    """Coverage and width at SHOWN_SIZE."""
    factor = f"×{cell.constant_factor:.2f}" if cell.constant_factor < 100 else f"×{cell.constant_factor:.0f}"
    return cell.constant[SIZES.index(SHOWN_SIZE)], factor


def coverage_row(name: str, cells: Iterable[Coverage], of: Callable[[Coverage], tuple[float, str]]) -> list[str]:
    """One network's row."""
    found = {cell.kind: of(cell) for cell in cells if cell.network == name}
    return [name, *(_covered(*found[kind.key], kind.wild) if kind.key in found else "–" for kind in KINDS)]


def _covered(share: float, width: str, wild: bool) -> str:
    text = f"{100 * share:.1f}"
    missed = not wild and not BAR[0] <= round(share, 3) <= BAR[1]
    return f"{f'**{text}**' if missed else text} ({width})"


def coverage(results: Results, of: Callable[[Coverage], tuple[float, str]]) -> str:
    """Network by kind of scatter."""
    return table(KIND_COLUMNS, [coverage_row(name, results.coverages, of) for name in CHECKPOINTS])


def wild(results: Results) -> str:
    """Coverage with a wild layer, by the scatter of the others."""
    cells = [cell for cell in results.coverages if cell.kind == "wild layer"]
    rows = [[cell.network, *(f"{100 * share:.1f}" for share in (*cell.exponent, *cell.constant))] for cell in cells]
    return table(WILD_COLUMNS, rows)


def wrong(cell: VerdictRates) -> float:
    """The share of verdicts that are wrong: contradicted where the law is true, supported where it is not."""
    return cell.contradicted if cell.truth == LAW.key else cell.supported


def wrong_verdicts(results: Results) -> str:
    """The largest shares, and the mean ones."""
    rows = []
    for truth in TRUTHS:
        row = [truth.key, "contradicted" if truth is LAW else "supported"]
        for kinds in GROUPS.values():
            cells = [cell for cell in results.verdicts if cell.truth == truth.key and cell.kind in kinds]
            worst = max(cells, key=wrong)
            row.append(f"{percent(wrong(worst))}, {worst.network}; mean {percent(mean(map(wrong, cells)))}")
        rows.append(row)
    return table(WRONG_COLUMNS, rows)


def verdicts(results: Results, truth: str, size: float) -> str:
    """Network by kind of scatter."""
    rows = []
    for name in filter(judged, CHECKPOINTS):
        cells = {
            cell.kind: f"{100 * cell.supported:.0f} / {100 * cell.contradicted:.0f}"
            for cell in results.verdicts
            if (cell.network, cell.truth, cell.size) == (name, truth, size)
        }
        rows.append([name, *(cells.get(kind.key, "–") for kind in KINDS)])
    return table(KIND_COLUMNS, rows)


def methods(results: Results) -> str:
    """Method by what scatter follows."""
    rows = []
    for method, _ in METHODS:
        row = [method]
        for kinds in GROUPS.values():
            cells = [cell for cell in results.methods if cell.kind in kinds]
            shares = [cell.found[method][0] for cell in cells]
            ratios = [math.log(cell.found[method][1] / cell.found["weightstats"][1]) for cell in cells]
            row.append(f"{100 * min(shares):.0f} to {100 * max(shares):.0f} % (×{math.exp(mean(ratios)):.2f})")
        rows.append(row)
    return table(METHOD_COLUMNS, rows)


def own_rule() -> int:
    """The place of the package's own among RULES."""
    return RULES.index((REACH, True))


def rules(results: Results) -> str:
    """Rule by what scatter follows."""
    rows = []
    for place, (reach, often) in enumerate(RULES):
        name = f"AICc ≤ {reach:g}{f', or {percent(OFTEN)} of wins' if often else ''}"
        row = [f"**{name}**" if place == own_rule() else name]
        for kinds in list(GROUPS.values())[:3]:
            for size in CONTEST_SIZES:
                cells = [cell for cell in results.reached if cell.kind in kinds and cell.size == size]
                reached = mean(cell.covered[place] for cell in cells)
                row.append(f"{100 * reached:.1f} ({mean(cell.laws[place] for cell in cells):.1f})")
        rows.append(row)
    return table(RULE_COLUMNS, rows)


def contests(results: Results) -> str:
    """Network by kind and size of scatter."""
    own, rows = own_rule(), []
    for name in filter(rated, CHECKPOINTS):
        row = [name]
        for size in CONTEST_SIZES:
            for kind in CONTEST_KINDS:
                cells = [cell for cell in results.reached if (cell.network, cell.kind, cell.size) == (name, kind, size)]
                reached, laws = mean(cell.covered[own] for cell in cells), mean(cell.laws[own] for cell in cells)
                first = mean(cell.first for cell in cells)
                row.append(f"{100 * reached:.0f} ({laws:.1f}; {100 * first:.0f})" if cells else "–")
        rows.append(row)
    return table(CONTEST_COLUMNS, rows)


def picks(results: Results) -> str:
    """Network by size of scatter."""
    found = {(pick.network, pick.size): f"{100 * pick.share:.0f}" for pick in results.picks}
    return table(PICK_COLUMNS, [[name, *(found[name, size] for size in CONTEST_SIZES)] for name in PICKS])
