"""The intervals hold what they promise, and docs/calibration.md says what benchmarks/calibration.py simulates."""

import importlib
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, linregress

from weightstats.contest import hold_contest
from weightstats.fits import fit_law

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = str(ROOT / "benchmarks")

MODULES = (
    *("simulated_networks", "scatter_kinds", "many_fits", "many_verdicts", "interval_methods"),
    *("calibration_settings", "calibration_cells", "calibration_tables", "calibration_document"),
)

NETWORKS = (
    *("MLP", "deep MLP", "small CNN", "VGG16", "ResNet-50"),
    *("GPT-2", "GPT-2 as stored", "LLaMA-7B", "LLaMA-3-8B"),
)

TRUE_SLOPE = -1.0
LEVEL = 0.95

CHANCE = 1e-5
"""Of a count beyond what a test allows, were the bar just met."""


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[Any]:
    """The modules of MODULES."""
    sys.path.insert(0, BENCHMARKS)
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def text() -> str:
    return (ROOT / "docs/calibration.md").read_text(encoding="utf-8")


def drawn(benchmarks: Any, name: str, kind: str, simulations: int, size: float = 0.5, truth: str = "") -> Any:
    design = benchmarks.many_fits.Design(benchmarks.simulated_networks.network(name))
    settings = benchmarks.calibration_settings
    law = settings.truth_of(truth) if truth else settings.LAW
    return design, benchmarks.calibration_cells.drawn(design, law, kind, size, simulations, "test")


def within_chance(held: int, simulations: int, low: float = LEVEL, high: float = LEVEL) -> bool:
    """Whether so many of 95 % intervals may hold the truth, were their coverage between `low` and `high`."""
    least, most = binom.ppf(CHANCE / 2, simulations, low), binom.ppf(1 - CHANCE / 2, simulations, high)
    return bool(least <= held <= most)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("deep MLP", "shape 0.5"), ("VGG16", "independent")],
)
def test_95_in_100_intervals_of_fit_law_hold_the_true_exponent_and_c(benchmarks: Any, name: str, kind: str) -> None:
    simulations = 200
    design, values = drawn(benchmarks, name, kind, simulations)
    fits = [fit_law(benchmarks.many_verdicts.observations(design, column)) for column in values.T]
    slopes = sum(fit.exponent_interval[0] <= TRUE_SLOPE <= fit.exponent_interval[1] for fit in fits)
    constants = sum(fit.constant_interval[0] <= 2.0 <= fit.constant_interval[1] for fit in fits)
    assert within_chance(slopes, simulations)
    assert within_chance(constants, simulations)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["independent", "shape 0.5", "shape 0.9"])
def test_coverage_is_93_to_97_in_100_where_layers_scatter_alone_or_by_shape(
    benchmarks: Any, name: str, kind: str
) -> None:
    simulations = 2000
    design, values = drawn(benchmarks, name, kind, simulations)
    fits = benchmarks.many_fits.many_fits(design, values)
    for held in (fits.exponent.holds(TRUE_SLOPE), fits.log_constant.holds(math.log(2.0))):
        assert within_chance(int(held.sum()), simulations, 0.93, 0.97)


@pytest.mark.parametrize("name", NETWORKS)
def test_many_fits_finds_what_fit_law_finds(benchmarks: Any, name: str) -> None:
    for kind in ("independent", "role 0.9", "wild layer"):
        for truth in ("", "c/n_in"):
            design, values = drawn(benchmarks, name, kind, 2, truth=truth)
            many = benchmarks.many_fits.many_fits(design, values)
            verdicts = benchmarks.many_verdicts.many_verdicts(design, values, many).each
            for place, column in enumerate(values.T):
                fit = fit_law(benchmarks.many_verdicts.observations(design, column))
                low, high = fit.exponent_interval
                assert [many.exponent.value[place], many.exponent.half[place]] == pytest.approx(
                    [fit.exponent, (high - low) / 2], rel=1e-6, nan_ok=True
                )
                low, high = fit.constant_interval
                assert [many.log_constant.value[place], many.log_constant.half[place]] == pytest.approx(
                    [math.log(fit.constant), math.log(high / low) / 2], rel=1e-6, abs=1e-9, nan_ok=True
                )
                assert many.by_role[place] == (fit.clustered_by == "role")
                assert benchmarks.many_verdicts.VERDICTS[verdicts[place]] == fit.verdict


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_contest(benchmarks: Any, name: str) -> None:
    design, values = drawn(benchmarks, name, "shape 0.5", 1)
    contest = hold_contest(benchmarks.many_verdicts.observations(design, values[:, 0]))
    of = {standing.law: standing.aicc for standing in contest.standings}
    keys = [*(law.key for law in benchmarks.many_verdicts.FREE_LAWS), "superset"]
    assert benchmarks.many_verdicts.scores(design, values)[:, 0] == pytest.approx(
        [of[key] for key in keys], rel=1e-6, abs=1e-6, nan_ok=True
    )


@pytest.mark.parametrize("name", ["deep MLP", "ResNet-50", "LLaMA-3-8B"])
def test_coverage_does_not_depend_on_the_size_of_the_scatter(benchmarks: Any, name: str) -> None:
    held = []
    for size in (0.3, 1.0):
        design, values = drawn(benchmarks, name, "role 0.5" if name != "deep MLP" else "shape 0.5", 500, size)
        fits = benchmarks.many_fits.many_fits(design, values)
        held.append((fits.exponent.holds(TRUE_SLOPE), fits.log_constant.holds(math.log(2.0))))
    assert np.array_equal(held[0], held[1])


@pytest.mark.parametrize("name", ["MLP", "VGG16", "LLaMA-3-8B"])
def test_a_constant_is_seldom_taken_for_the_law(benchmarks: Any, name: str) -> None:
    simulations = 2000
    design, values = drawn(benchmarks, name, "independent", simulations, 0.7, "c")
    verdicts = benchmarks.many_verdicts.many_verdicts(
        design, values, benchmarks.many_fits.many_fits(design, values)
    ).each
    assert np.sum(verdicts == 0) <= binom.ppf(1 - CHANCE, simulations, (1 - LEVEL) / 2)


def test_least_squares_is_that_of_scipy(benchmarks: Any) -> None:
    design, values = drawn(benchmarks, "VGG16", "independent", 1)
    found = benchmarks.interval_methods.least_squares(design, values)
    line = linregress(design.x, values[:, 0])
    degrees = len(design.x) - 2
    assert found.value[0] == pytest.approx(line.slope)
    assert found.half[0] == pytest.approx(line.stderr * float(benchmarks.many_fits.student(degrees)))


def test_hc3_divides_residuals_by_what_they_leave_to_the_others(benchmarks: Any) -> None:
    design, values = drawn(benchmarks, "small CNN", "independent", 1)
    found = benchmarks.interval_methods.heteroscedastic(design, values)
    line = np.column_stack([np.ones(len(design.x)), design.x])
    inverse = np.linalg.inv(line.T @ line)
    leverages = np.einsum("ij,jk,ik->i", line, inverse, line)
    residuals = (values[:, 0] - line @ (inverse @ (line.T @ values[:, 0]))) / (1 - leverages)
    error = math.sqrt((inverse @ (line.T * residuals**2) @ line @ inverse)[1, 1])
    assert found.half[0] == pytest.approx(error * float(benchmarks.many_fits.student(len(line) - 2)))


def test_huber_without_outliers_is_least_squares_with_cr2(benchmarks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    design, values = drawn(benchmarks, "VGG16", "shape 0.5", 3)
    monkeypatch.setattr(benchmarks.interval_methods, "HUBER", 1e6)
    found = benchmarks.interval_methods.huber(design, values)
    known = benchmarks.interval_methods.clustered(design, values)
    assert found.value == pytest.approx(known.value)
    assert found.half == pytest.approx(known.half)


def test_huber_is_not_drawn_by_a_wild_layer(benchmarks: Any) -> None:
    design, values = drawn(benchmarks, "VGG16", "independent", 1, 1e-3)
    values[0] += math.log(100.0)
    assert benchmarks.interval_methods.huber(design, values).value[0] == pytest.approx(TRUE_SLOPE, abs=0.01)
    assert abs(benchmarks.interval_methods.least_squares(design, values).value[0] - TRUE_SLOPE) > 0.3


@pytest.mark.parametrize(("kind", "share"), [("shape 0.9", 0.9), ("role 0.2", 0.2), ("independent", 0.0)])
def test_layers_share_the_part_of_the_variance_that_their_kind_of_scatter_says(
    benchmarks: Any, kind: str, share: float
) -> None:
    network = benchmarks.simulated_networks.network("ResNet-50")
    of_kind = next(one for one in benchmarks.scatter_kinds.KINDS if one.key == kind)
    off = benchmarks.scatter_kinds.scatter(network, of_kind, 0.7, 20_000, np.random.default_rng(0))
    assert np.std(off, axis=1) == pytest.approx(np.full(len(off), 0.7), rel=0.05)
    alike = [
        place
        for place, layer in enumerate(network.layers)
        if layer.name.endswith(("3.1.conv2.weight", "3.2.conv2.weight"))
    ]
    assert np.corrcoef(off[alike])[0, 1] == pytest.approx(share, abs=0.03)


def test_the_document_has_the_settings_of_the_script(benchmarks: Any, text: str) -> None:
    settings, document = benchmarks.calibration_settings, benchmarks.calibration_document
    whole = settings.Results(1.0, (), (), (), (), ())
    assert " ".join(document.settings(whole).split()) in " ".join(text.split())
    assert re.findall(r"(?m)^## .*", text) == re.findall(r"(?m)^## .*", document.DOCUMENT)


def test_the_document_has_the_networks_and_the_columns_of_the_script(benchmarks: Any, text: str) -> None:
    tables = benchmarks.calibration_tables
    assert tables.networks() in text
    columns = [value for name, value in vars(tables).items() if name.endswith("_COLUMNS")]
    assert len(columns) == 8
    for header in columns:
        assert f"| {' | '.join(header)} |\n" in text
    for kind in benchmarks.scatter_kinds.KINDS:
        assert f"- *{kind.key}*: {kind.words}\n" in text


@pytest.mark.parametrize("name", ["MLP", "deep MLP", "small CNN"])
def test_the_coverage_in_the_document_is_what_a_new_run_finds(benchmarks: Any, text: str, name: str) -> None:
    settings, tables = benchmarks.calibration_settings, benchmarks.calibration_tables
    cells = [
        benchmarks.calibration_cells.coverage_of(name, kind, settings.COVERAGE) for kind in settings.kinds_of(name)
    ]
    for of in (tables.of_exponent, tables.of_constant):
        expected = tables.coverage_row(name, cells, of)
        rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(f"| {name} |")]
        assert any(same(row, expected) for row in rows), expected


def same(row: list[str], expected: list[str]) -> bool:
    """Whether two rows agree to what another library below numpy may make of the last digit."""
    found, wanted = ([re.findall(r"\d+\.\d+", cell) for cell in cells] for cells in (row, expected))
    return [len(cell) for cell in found] == [len(cell) for cell in wanted] and all(
        abs(float(one) - float(two)) < 0.11
        for cells in zip(found, wanted, strict=True)
        for one, two in zip(*cells, strict=True)
    )
