"""The fit of c/(n_in+n_out), its intervals and its verdict, against scipy's and against hand-made layers."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from builders import by_name, report_of
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from weightstats import laws
from weightstats.laws import Fit, fit_law, sentences

SUMS = (8, 32, 128, 512, 2048)

fan_sums = st.integers(2, 200_000)
mean_squares = st.floats(-30, 10).map(math.exp)
layers = st.lists(st.tuples(fan_sums, mean_squares), min_size=3, max_size=30).filter(
    lambda pairs: len({s for s, _ in pairs}) >= 3
)


def on_the_law(constant: float, sums: Sequence[int] = SUMS, exponent: float = -1.0) -> Fit:
    return fit_law(sums, [constant * s**exponent for s in sums])


def logarithms(pairs: Sequence[tuple[int, float]]) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.log([s for s, _ in pairs]), np.log([m for _, m in pairs])


def fitted(pairs: Sequence[tuple[int, float]]) -> Fit:
    return fit_law([s for s, _ in pairs], [m for _, m in pairs])


def assert_quotable(fit: Fit) -> None:
    """Two sentences for people: no NaN, no infinity, no negative zero."""
    for sentence in (*sentences(fit), fit.because):
        assert not re.search(r"\b(nan|inf|infinity|none)\b|[+-]0\.00(?!\d)", sentence, re.IGNORECASE), sentence
    assert all(sentence.endswith(".") for sentence in sentences(fit))


@pytest.mark.parametrize("constant", [1e-9, 0.5, 2.0, 300.0])
def test_layers_on_the_law_support_it(constant: float) -> None:
    fit = on_the_law(constant)
    assert fit.constant == pytest.approx(constant, rel=1e-12)
    assert fit.constant_interval == pytest.approx((constant, constant), rel=1e-12)
    assert (fit.exponent, fit.spread, fit.r_squared) == pytest.approx((-1.0, 1.0, 1.0), rel=1e-12)
    assert (fit.verdict, fit.layers, fit.distinct_fan_sums, fit.fan_sum_range) == ("supported", 5, 5, (8, 2048))


def test_one_mean_square_for_all_contradicts_the_law() -> None:
    fit = on_the_law(0.1, exponent=0.0)
    assert fit.exponent == pytest.approx(0.0, abs=1e-12)
    assert fit.verdict == "contradicted"
    assert fit.constant == pytest.approx(0.1 * 128)  # the geometric mean of the fan sums


@pytest.mark.parametrize(
    ("exponent", "verdict"), [(-2.0, "contradicted"), (-0.5, "contradicted"), (1.0, "contradicted")]
)
def test_another_power_contradicts_the_law(exponent: float, verdict: str) -> None:
    fit = on_the_law(2.0, exponent=exponent)
    assert fit.exponent == pytest.approx(exponent, rel=1e-12)
    assert fit.verdict == verdict


def test_scatter_that_hides_the_slope_leaves_it_undetermined() -> None:
    fit = fit_law([10, 20, 40, 80], [1.0, 0.01, 1.0, 0.01])
    assert fit.verdict == "undetermined"
    assert "holds both -1 (the law) and 0" in fit.because


def test_scatter_about_the_law_supports_it() -> None:
    fit = fit_law(SUMS, [2 / s * factor for s, factor in zip(SUMS, (1.5, 0.7, 1.1, 0.8, 1.3), strict=True)])
    assert fit.verdict == "supported"
    assert fit.because.endswith("holds -1 and not 0")


def test_spread_and_intervals_of_two_layers_by_hand() -> None:
    fit = fit_law([2, 4], [1.0, 2.0])  # ratios to the law 2 and 8: c = 4, ln 2 to either side
    assert fit.constant == pytest.approx(4.0)
    assert math.log(fit.spread) == pytest.approx(math.log(2) * math.sqrt(2))
    t = 12.706204736174698  # Student's t of one degree of freedom at 95 %
    assert np.log(fit.constant_interval) == pytest.approx(math.log(4) + t * math.log(2) * np.array([-1, 1]))
    assert fit.exponent == pytest.approx(1.0)
    assert all(map(math.isnan, fit.exponent_interval))


def test_without_layers_there_is_nothing_to_fit() -> None:
    fit = fit_law([], [])
    assert (fit.layers, fit.distinct_fan_sums, fit.fan_sum_range, fit.verdict) == (0, 0, (0, 0), "undetermined")
    assert fit.because == "0 layers with 0 distinct values of n_in+n_out cannot tell one power law from another"
    numbers = (fit.constant, *fit.constant_interval, fit.spread, fit.exponent, *fit.exponent_interval, fit.r_squared)
    assert all(map(math.isnan, numbers))
    assert_quotable(fit)
    assert sentences(fit)[0] == "There is no layer that the law c/(n_in+n_out) could be fitted to."


def test_one_layer_gives_a_constant_and_tests_nothing() -> None:
    fit = fit_law([10], [0.3])
    assert fit.constant == pytest.approx(3.0)
    assert (fit.verdict, fit.layers) == ("undetermined", 1)
    assert fit.because == "1 layer with 1 distinct value of n_in+n_out cannot tell one power law from another"
    numbers = (*fit.constant_interval, fit.spread, fit.exponent, *fit.exponent_interval, fit.r_squared)
    assert all(map(math.isnan, numbers))
    assert_quotable(fit)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_one_fan_sum_has_no_exponent(count: int) -> None:
    fit = fit_law([24] * count, [0.1 * (index + 1) for index in range(count)])
    assert math.isnan(fit.exponent)
    assert (fit.distinct_fan_sums, fit.verdict) == (1, "undetermined")
    assert fit.r_squared == pytest.approx(0.0, abs=1e-12)
    assert_quotable(fit)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_two_fan_sums_are_too_few_for_a_verdict_even_on_the_law(count: int) -> None:
    sums = [(24, 48)[index % 2] for index in range(count)]
    fit = on_the_law(2.0, sums)
    assert fit.exponent == pytest.approx(-1.0)
    assert (fit.distinct_fan_sums, fit.verdict) == (2, "undetermined")
    assert f"{count} layers with 2 distinct values of n_in+n_out" in fit.because
    assert_quotable(fit)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-1.5, -0.5, "supported"),
        (-1.0, -0.5, "supported"),
        (-1.5, -1.0, "supported"),
        (-1.0, -1e-5, "supported"),
        (-1.0 - 1e-12, -1.0 - 1e-12, "supported"),
        (-1.0 + 1e-12, -1.0 + 1e-12, "supported"),
        (-1.0 + 1e-5, -0.5, "contradicted"),
        (-2.0, -1.0 - 1e-5, "contradicted"),
        (-0.5, 0.5, "contradicted"),
        (0.0, 0.0, "contradicted"),
        (0.5, 1.0, "contradicted"),
        (-1.0, 0.0, "undetermined"),
        (-1.5, 0.5, "undetermined"),
        (-math.inf, math.inf, "undetermined"),
    ],
)
def test_the_verdict_is_what_the_closed_interval_holds(low: float, high: float, verdict: str) -> None:
    assert laws._judged(5, 5, (low, high))[0] == verdict


@pytest.mark.parametrize(("distinct", "verdict"), [(1, "undetermined"), (2, "undetermined"), (3, "supported")])
def test_a_verdict_takes_three_fan_sums(distinct: int, verdict: str) -> None:
    assert laws._judged(5, distinct, (-1.1, -0.9))[0] == verdict


@settings(deadline=None, max_examples=100)
@given(pairs=layers)
def test_the_exponent_is_scipys_slope(pairs: list[tuple[int, float]]) -> None:
    x, y = logarithms(pairs)
    assume(np.ptp(y) > 0)  # scipy's interval is NaN where y is constant
    fit, line = fitted(pairs), scipy.stats.linregress(x, y)
    half = scipy.stats.t.ppf(0.975, len(x) - 2) * line.stderr
    rounding = 1e-9 * (1 + np.ptp(y)) / np.ptp(x)
    assert fit.exponent == pytest.approx(line.slope, rel=1e-7, abs=rounding)
    assert fit.exponent_interval[0] == pytest.approx(line.slope - half, rel=1e-5, abs=1e2 * rounding)
    assert fit.exponent_interval[1] == pytest.approx(line.slope + half, rel=1e-5, abs=1e2 * rounding)


@settings(deadline=None, max_examples=100)
@given(pairs=st.lists(st.tuples(fan_sums, mean_squares), min_size=4, max_size=30))
def test_the_constants_interval_is_scipys(pairs: list[tuple[int, float]]) -> None:
    x, y = logarithms(pairs)
    fit, ratios = fitted(pairs), x + y
    half = scipy.stats.t.ppf(0.975, len(x) - 1) * scipy.stats.sem(ratios)
    assert math.log(fit.constant) == pytest.approx(np.mean(ratios), rel=1e-9, abs=1e-9)
    expected = [np.mean(ratios) - half, np.mean(ratios) + half]
    assert np.log(fit.constant_interval) == pytest.approx(expected, rel=1e-9, abs=1e-7)
    assert math.log(fit.spread) == pytest.approx(np.std(ratios, ddof=1), rel=1e-9, abs=1e-7)


@settings(deadline=None, max_examples=100)
@given(pairs=layers, log_scale=st.floats(-20, 20))
def test_scaling_all_mean_squares_scales_the_constant_alone(pairs: list[tuple[int, float]], log_scale: float) -> None:
    scale = math.exp(log_scale)
    fit, scaled = fitted(pairs), fitted([(s, m * scale) for s, m in pairs])
    assert scaled.constant == pytest.approx(fit.constant * scale, rel=1e-9)
    x = logarithms(pairs)[0]
    assert scaled.exponent == pytest.approx(fit.exponent, abs=1e-9 * 50 / np.ptp(x))
    assert scaled.spread == pytest.approx(fit.spread, rel=1e-7)


@settings(deadline=None, max_examples=100)
@given(pairs=layers, data=st.data())
def test_the_order_of_the_layers_does_not_matter(pairs: list[tuple[int, float]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(pairs))
    assert fitted(shuffled).constant == pytest.approx(fitted(pairs).constant, rel=1e-9)
    x = logarithms(pairs)[0]
    assert fitted(shuffled).exponent == pytest.approx(fitted(pairs).exponent, abs=1e-9 * 50 / np.ptp(x))


@settings(deadline=None, max_examples=100)
@given(pairs=st.lists(st.tuples(fan_sums, mean_squares), min_size=3, max_size=30))
@example(pairs=[(8, 2 / 8), (32, 2 / 32), (128, 2 / 128)])
@example(pairs=[(8, 0.1), (32, 0.1), (128, 0.1)])
@example(pairs=[(8, 0.1), (32, 0.1000001), (128, 0.1)])
def test_every_fit_can_be_quoted(pairs: list[tuple[int, float]]) -> None:
    assert_quotable(fitted(pairs))


def test_the_sentences_quote_the_fit() -> None:
    prediction, verdict = sentences(on_the_law(2.0))
    assert prediction == (
        "Fitted to 5 layers, the law c/(n_in+n_out) has c = 2 (95 % interval 2 to 2; Glorot's initialisation has 2), "
        "and the layers scatter about it by a factor of 1 (one standard deviation)."
    )
    assert verdict == (
        "The law's exponent, -1, is supported: the free exponent of n_in+n_out is -1.00 (95 % interval -1.00 to -1.00, "
        "were the layers independent), which holds -1 and not 0."
    )


@pytest.mark.parametrize("scales", [(1e-60, 1e60), (1e-300, 1.0, 1e300)])
def test_scales_far_apart_give_an_interval_and_not_an_error(scales: tuple[float, ...]) -> None:
    fit = fit_law([8] * len(scales), scales)
    assert fit.constant == pytest.approx(8.0)
    assert fit.constant_interval[1] > 1e300
    assert_quotable(fit)


def test_the_largest_mean_squares_can_be_fitted() -> None:
    assert fit_law([8, 8, 16], [1.7e308] * 3).verdict == "undetermined"


def test_a_prediction_that_underflows_is_no_error(tmp_path: Path) -> None:
    tensors = {"fc.weight": torch.full((1, 1), 3e-162, dtype=torch.float64), "embed.weight": torch.ones(50_000, 1)}
    rows = by_name(report_of(tmp_path, tensors).layers)
    assert rows["fc.weight"].ratio == pytest.approx(1.0)


def test_equal_mean_squares_have_no_variance_to_account_for() -> None:
    fit = fit_law([2**power for power in range(3, 14)], [0.08167327410095272] * 11)
    assert math.isnan(fit.r_squared)


@pytest.mark.parametrize(
    "sums",
    [
        (2843, 3836, 2550, 1482, 335, 2214),
        (1070, 1028, 1090, 1053),
    ],
)
def test_the_law_rounded_to_float32_is_supported(sums: tuple[int, ...]) -> None:
    fit = fit_law(sums, [float(np.float32(math.sqrt(2 / s))) ** 2 for s in sums])
    assert fit.exponent == pytest.approx(-1.0, abs=1e-5)
    assert fit.verdict == "supported"


def test_a_contradiction_shows_an_interval_without_minus_1() -> None:
    sums = (3143, 1427, 2564, 1183, 3762, 1107)
    rounded = torch.tensor([math.sqrt(2 / s) for s in sums]).bfloat16().double()
    fit = fit_law(sums, [float(v) ** 2 for v in rounded])
    assert fit.verdict == "contradicted"
    assert not re.search(r"-1\.00(?!\d)", sentences(fit)[1])
