"""The fit of a law, its intervals and its verdict, against scipy's and against hand-made layers."""

import math
import re
from collections.abc import Callable, Sequence
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

from weightstats.contest import hold_contest
from weightstats.estimates import mean_by_cluster, regressions, slope_by_cluster
from weightstats.findings import sentences
from weightstats.fits import Fit, fit_law
from weightstats.laws import LAWS, SUPERSET, Law, law_of
from weightstats.observations import Observation, make_observations

SUMS = (8, 32, 128, 512, 2048)

Layers = Sequence[tuple[int, int, float]]

fans = st.integers(1, 100_000)
mean_squares = st.floats(-30, 10).map(math.exp)
some_layers = st.lists(st.tuples(fans, fans, mean_squares), min_size=3, max_size=25)
layers = some_layers.filter(lambda found: len({n_in + n_out for n_in, n_out, _ in found}) >= 3)
laws = st.sampled_from(LAWS)

NUMBERS = ("constant", "spread", "median_miss", "exponent", "degrees_of_freedom", "r_squared")
INTERVALS = ("constant_interval", "exponent_interval")


def fitted(found: Layers, law: str = "fan-sum", roles: Sequence[str] = ()) -> Fit:
    observations = make_observations(
        [
            Observation(f"layers.{place}.weight", n_in, n_out, mean_square, roles[place] if roles else "role")
            for place, (n_in, n_out, mean_square) in enumerate(found)
        ]
    )
    return fit_law(observations, law_of(law))


def halved(sums: Sequence[int]) -> list[tuple[int, int]]:
    """Fans of these sums, near their half."""
    return [(fan_sum // 2, fan_sum - fan_sum // 2) for fan_sum in sums]


def of_sums(sums: Sequence[int], found: Sequence[float]) -> Fit:
    return fitted([(*pair, mean_square) for pair, mean_square in zip(halved(sums), found, strict=True)])


def on_the_law(constant: float, sums: Sequence[int] = SUMS, exponent: float = -1.0) -> Fit:
    return of_sums(sums, [constant * s**exponent for s in sums])


def following(law: Law, constant: float) -> Callable[[int, int], float]:
    """The mean square of a layer on the law."""
    return lambda n_in, n_out: constant * float(np.exp(law.logarithms(*np.array([[float(n_in)], [float(n_out)]])))[0])


def logarithms(found: Layers) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.log([n_in + n_out for n_in, n_out, _ in found]), np.log([m for *_, m in found])


def a_shape_each(found: Layers) -> list[tuple[int, int, float]]:
    return list({(n_in, n_out): (n_in, n_out, mean_square) for n_in, n_out, mean_square in found}.values())


def assert_quotable(fit: Fit) -> None:
    """Two sentences for people: no NaN, no infinity, no negative zero."""
    for sentence in (*sentences(fit), fit.because):
        assert not re.search(r"\b(nan|inf|infinity|none)\b|[+-]0\.00(?!\d)", sentence, re.IGNORECASE), sentence
    assert all(sentence.endswith(".") for sentence in sentences(fit))


def numbers(fit: Fit) -> list[float]:
    return [*(getattr(fit, name) for name in NUMBERS), *(end for name in INTERVALS for end in getattr(fit, name))]


@pytest.mark.parametrize("constant", [1e-9, 0.5, 2.0, 300.0])
def test_layers_on_the_law_support_it(constant: float) -> None:
    fit = on_the_law(constant)
    assert fit.constant == pytest.approx(constant, rel=1e-12)
    assert fit.constant_interval == pytest.approx((constant, constant), rel=1e-12)
    assert (fit.exponent, fit.spread, fit.r_squared) == pytest.approx((-1.0, 1.0, 1.0), rel=1e-12)
    assert fit.median_miss == pytest.approx(1.0, rel=1e-12)
    assert (fit.verdict, fit.layers, fit.distinct_fan_sums, fit.fan_sum_range) == ("supported", 5, 5, (8, 2048))
    assert (fit.shapes, fit.distinct_values, fit.degrees_of_freedom, fit.clustered_by) == (5, 5, 3, "shape")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.key)
def test_layers_on_any_law_support_it(law: Law) -> None:
    shapes = ((8, 512), (512, 8), (64, 64), (100, 300), (2048, 31), (17, 900), (700, 1100))
    exact = following(law, law.constant or 7.0)
    fit = fitted([(*shape, exact(*shape)) for shape in shapes], law.key)
    assert fit.verdict == "supported"
    assert fit.constant == pytest.approx(law.constant or 7.0)
    assert fit.exponent == pytest.approx(-1.0 if law.measure_name else 0.0, abs=1e-9)
    assert (fit.law, fit.law_key, fit.measure) == (law.formula, law.key, law.measure_name or "n_in+n_out")


@pytest.mark.parametrize("law", [law for law in LAWS if law.constant is not None], ids=lambda law: law.key)
def test_another_constant_than_the_laws_own_contradicts_it(law: Law) -> None:
    shapes = ((8, 512), (512, 8), (64, 64), (100, 300), (2048, 31))
    exact = following(law, 1.1 * (law.constant or 1.0))
    scatter = (1.01, 0.99, 1.02, 0.98, 1.0)
    fit = fitted([(*shape, exact(*shape) * by) for shape, by in zip(shapes, scatter, strict=True)], law.key)
    assert fit.verdict == "contradicted"
    assert f"does not hold {law.constant:.3g}" in fit.because


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
    fit = of_sums([10, 20, 40, 80], [1.0, 0.01, 1.0, 0.01])
    assert fit.verdict == "undetermined"
    assert "holds both -1 (the law) and 0" in fit.because


def test_scatter_about_the_law_supports_it() -> None:
    fit = of_sums(SUMS, [2 / s * factor for s, factor in zip(SUMS, (1.5, 0.7, 1.1, 0.8, 1.3), strict=True)])
    assert fit.verdict == "supported"
    assert fit.because.endswith("holds -1 and not 0")


def test_a_law_that_another_one_beats_clearly_is_not_supported_by_its_exponent() -> None:
    shapes = ((1000, 100), (100, 50), (500, 400), (3000, 30), (50, 10), (200, 150))
    fit = fitted([(*shape, 1 / shape[0]) for shape in shapes])
    low, high = fit.exponent_interval
    assert low < -1.0 < high < 0.0
    assert fit.verdict == "undetermined"
    assert "c/n_in fits the mean squares clearly better" in fit.because
    assert fitted([(*shape, 1 / shape[0]) for shape in shapes], "fan-in").verdict == "supported"


def test_the_contest_that_is_given_is_the_one_that_decides() -> None:
    shapes = ((8, 512), (512, 8), (64, 64), (100, 300), (2048, 31), (17, 900), (700, 1100))
    layers_of = [
        make_observations([Observation(f"{shape}", *shape, value(*shape), "role") for shape in shapes])
        for value in (lambda n_in, n_out: 2 / (n_in + n_out), lambda n_in, n_out: 2 / n_in)
    ]
    contests = [hold_contest(observations) for observations in layers_of]
    assert [fit_law(layers_of[0], None, contest).verdict for contest in contests] == ["supported", "undetermined"]


def test_spread_and_intervals_of_two_layers_by_hand() -> None:
    fit = of_sums([2, 4], [1.0, 2.0])  # ratios to the law 2 and 8: c = 4, ln 2 to either side
    assert fit.constant == pytest.approx(4.0)
    assert math.log(fit.spread) == pytest.approx(math.log(2) * math.sqrt(2))
    assert fit.median_miss == pytest.approx(2.0)
    t = 12.706204736174698  # Student's t of one degree of freedom at 95 %
    assert np.log(fit.constant_interval) == pytest.approx(math.log(4) + t * math.log(2) * np.array([-1, 1]))
    assert fit.exponent == pytest.approx(1.0)
    assert all(map(math.isnan, fit.exponent_interval))


def test_without_layers_there_is_nothing_to_fit() -> None:
    fit = fitted([])
    assert (fit.layers, fit.distinct_fan_sums, fit.fan_sum_range, fit.verdict) == (0, 0, (0, 0), "undetermined")
    assert fit.because == "0 layers with 0 distinct values of n_in+n_out cannot tell one power law from another"
    assert all(map(math.isnan, numbers(fit)))
    assert (fit.shapes, fit.distinct_values) == (0, 0)
    assert not fit.hangs_on
    assert_quotable(fit)
    assert sentences(fit)[0] == "There is no layer that the law c/(n_in+n_out) could be fitted to."


def test_one_layer_gives_a_constant_and_tests_nothing() -> None:
    fit = of_sums([10], [0.3])
    assert fit.constant == pytest.approx(3.0)
    assert (fit.verdict, fit.layers) == ("undetermined", 1)
    assert fit.because == "1 layer with 1 distinct value of n_in+n_out cannot tell one power law from another"
    assert all(map(math.isnan, [number for number in numbers(fit) if number != fit.constant]))
    assert_quotable(fit)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_one_fan_sum_has_no_exponent(count: int) -> None:
    fit = of_sums([24] * count, [0.1 * (index + 1) for index in range(count)])
    assert math.isnan(fit.exponent)
    assert (fit.distinct_fan_sums, fit.shapes, fit.verdict) == (1, 1, "undetermined")
    assert fit.r_squared == pytest.approx(0.0, abs=1e-12)
    assert all(map(math.isnan, fit.constant_interval))  # layers of one shape are one observation
    assert_quotable(fit)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_two_fan_sums_are_too_few_for_a_verdict_even_on_the_law(count: int) -> None:
    sums = [(24, 48)[index % 2] for index in range(count)]
    fit = on_the_law(2.0, sums)
    assert fit.exponent == pytest.approx(-1.0)
    assert (fit.distinct_fan_sums, fit.verdict) == (2, "undetermined")
    assert f"{count} layers with 2 distinct values of n_in+n_out" in fit.because
    assert_quotable(fit)


def test_many_shapes_of_two_fan_sums_are_as_few() -> None:
    fit = fitted([(n_in, s - n_in, 2 / s) for s in (24, 48) for n_in in range(1, 20)])
    assert (fit.shapes, fit.distinct_fan_sums, fit.verdict) == (38, 2, "undetermined")
    assert "with 2 distinct values of n_in+n_out" in fit.because


@settings(deadline=None, max_examples=100)
@given(found=layers)
def test_the_exponent_of_layers_of_a_shape_each_is_scipys_slope(found: Layers) -> None:
    found = a_shape_each(found)
    x, y = logarithms(found)
    assume(np.ptp(y) > 0)  # scipy's interval is NaN where y is constant
    assume(len(x) > 2)
    fit, line = fitted(found), scipy.stats.linregress(x, y)
    half = scipy.stats.t.ppf(0.975, len(x) - 2) * line.stderr
    rounding = 1e-9 * (1 + np.ptp(y)) / np.ptp(x)
    assert fit.exponent == pytest.approx(line.slope, rel=1e-7, abs=rounding)
    assert fit.exponent_interval[0] == pytest.approx(line.slope - half, rel=1e-5, abs=1e2 * rounding)
    assert fit.exponent_interval[1] == pytest.approx(line.slope + half, rel=1e-5, abs=1e2 * rounding)
    assert fit.degrees_of_freedom == len(x) - 2


@settings(deadline=None, max_examples=100)
@given(found=st.lists(st.tuples(fans, fans, mean_squares), min_size=4, max_size=30))
def test_the_constants_interval_of_layers_of_a_shape_each_is_scipys(found: Layers) -> None:
    found = a_shape_each(found)
    assume(len(found) > 1)
    x, y = logarithms(found)
    fit, ratios = fitted(found), x + y
    half = scipy.stats.t.ppf(0.975, len(x) - 1) * scipy.stats.sem(ratios)
    assert math.log(fit.constant) == pytest.approx(np.mean(ratios), rel=1e-9, abs=1e-9)
    expected = [np.mean(ratios) - half, np.mean(ratios) + half]
    assert np.log(fit.constant_interval) == pytest.approx(expected, rel=1e-9, abs=1e-7)
    assert math.log(fit.spread) == pytest.approx(np.std(ratios, ddof=1), rel=1e-9, abs=1e-7)


@settings(deadline=None, max_examples=100)
@given(found=layers, law=laws)
def test_layers_of_one_shape_are_one_cluster(found: Layers, law: Law) -> None:
    """In the exponent by a meta-regression over the shapes, in the constant by an error robust to them."""
    observations = make_observations([Observation("", *layer, "role") for layer in [*found, *found[:2]]])
    shapes = observations.shapes
    fit = fit_law(observations, law)
    residuals = observations.log_mean_square - law.logarithms(observations.n_in, observations.n_out)
    by_shape = type(shapes)(shapes.first, shapes.member_of, shapes.counts, *_means_and_squares(residuals, shapes))
    constant = mean_by_cluster(residuals, by_shape)
    assert math.log(fit.constant) == pytest.approx(constant.value)
    assert np.log(fit.constant_interval) == pytest.approx(constant.interval, nan_ok=True, abs=1e-9)
    x = law.logarithms(observations.n_in, observations.n_out)[shapes.first]
    if not law.measure_name:
        x = -np.log(observations.n_in + observations.n_out)[shapes.first]
    assume(np.ptp(x) > 1e-3)
    assume(len(x) > 2)
    slope = regressions(np.column_stack([np.ones(len(x)), -x]), shapes).estimate(1)
    assert fit.exponent == pytest.approx(slope.value, rel=1e-6, abs=1e-6)
    assert fit.exponent_interval == pytest.approx(slope.interval, rel=1e-5, abs=1e-5)


def _means_and_squares(values: NDArray[Any], shapes: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    groups = [values[shapes.member_of == place] for place in range(len(shapes.counts))]
    return np.array([g.mean() for g in groups]), np.array([np.sum((g - g.mean()) ** 2) for g in groups])


def with_offsets(offset: float, seed: int = 1) -> tuple[list[tuple[int, int, float]], list[str]]:
    """Layers of five roles in eight shapes each, with an offset of each role that its shapes do not explain."""
    generator = np.random.default_rng(seed)
    offsets = offset * generator.normal(size=5)
    found, roles = [], []
    for place in range(40):
        n_in, n_out = (int(fan) for fan in generator.integers(16, 4096, 2))
        role = place % 5
        found.append((n_in, n_out, 2 / (n_in + n_out) * math.exp(offsets[role] + 0.1 * generator.normal())))
        roles.append(f"role {role}")
    return found, roles


@pytest.mark.parametrize(("offset", "clustered_by"), [(0.0, "shape"), (1.0, "role")])
def test_offsets_of_roles_make_them_the_clusters(offset: float, clustered_by: str) -> None:
    found, roles = with_offsets(offset)
    assert fitted(found, roles=roles).clustered_by == clustered_by
    assert fitted(found).clustered_by == "shape"


def test_offsets_of_roles_widen_the_intervals_to_those_that_are_robust_to_them() -> None:
    found, roles = with_offsets(1.0)
    fit, without = fitted(found, roles=roles), fitted(found)
    assert (fit.constant, fit.exponent) == pytest.approx((without.constant, without.exponent))
    x, y = logarithms(found)
    members = np.array([int(role[-1]) for role in roles])
    of_roles = slope_by_cluster(x, y, members)
    widths = [np.ptp(interval) for interval in (fit.exponent_interval, without.exponent_interval, of_roles.interval)]
    assert widths[0] == pytest.approx(max(widths[1:]))
    assert np.mean(fit.exponent_interval) == pytest.approx(fit.exponent)
    assert np.ptp(np.log(fit.constant_interval)) > 2 * np.ptp(np.log(without.constant_interval))
    assert fit.degrees_of_freedom < 5


@settings(deadline=None, max_examples=100)
@given(found=layers, law=laws, log_scale=st.floats(-20, 20))
def test_scaling_all_mean_squares_scales_the_constant_alone(found: Layers, law: Law, log_scale: float) -> None:
    scale = math.exp(log_scale)
    fit = fitted(found, law.key)
    scaled = fitted([(n_in, n_out, m * scale) for n_in, n_out, m in found], law.key)
    assert scaled.constant == pytest.approx(fit.constant * scale, rel=1e-9)
    assert np.array(scaled.constant_interval) == pytest.approx(
        np.array(fit.constant_interval) * scale, rel=1e-5, nan_ok=True
    )
    reach = np.ptp([math.log(following(law, 1.0)(n_in, n_out)) for n_in, n_out, _ in found])
    rounding = 1e-7 / min(1.0, float(reach) or 1.0)
    assert scaled.exponent == pytest.approx(fit.exponent, abs=rounding, nan_ok=True)
    assert scaled.exponent_interval == pytest.approx(fit.exponent_interval, rel=1e-4, abs=1e2 * rounding, nan_ok=True)
    assert (scaled.spread, scaled.median_miss) == pytest.approx((fit.spread, fit.median_miss), rel=1e-7)
    if law.constant is None and min(abs(end + 1) for end in fit.exponent_interval) > 1e-3:
        assert scaled.verdict == fit.verdict


@settings(deadline=None, max_examples=100)
@given(found=layers, law=laws, data=st.data())
def test_the_order_of_the_layers_does_not_matter(found: Layers, law: Law, data: st.DataObject) -> None:
    roles = [f"role {place % 3}" for place in range(len(found))]
    order = data.draw(st.permutations(range(len(found))))
    once = fitted(found, law.key, roles)
    again = fitted([found[place] for place in order], law.key, [roles[place] for place in order])
    assert (again.verdict, again.clustered_by) == (once.verdict, once.clustered_by)
    spread = np.ptp([math.log(n_in + n_out) for n_in, n_out, _ in found])
    assert again.constant == pytest.approx(once.constant, rel=1e-9)
    assert again.exponent == pytest.approx(once.exponent, rel=1e-6, abs=1e-6 / spread, nan_ok=True)
    assert {(w.n_in, w.n_out, w.verdict) for w in again.hangs_on or ()} == {
        (w.n_in, w.n_out, w.verdict) for w in once.hangs_on or ()
    }


@settings(deadline=None, max_examples=50)
@given(found=layers, copies=st.integers(2, 20))
def test_copies_of_every_layer_are_no_evidence(found: Layers, copies: int) -> None:
    found = a_shape_each(found)
    once, often = fitted(found), fitted(found * copies)
    assert often.exponent == pytest.approx(once.exponent, rel=1e-4, abs=1e-4, nan_ok=True)
    assert np.ptp(often.exponent_interval) == pytest.approx(np.ptp(once.exponent_interval), rel=1e-3, nan_ok=True)
    widths = [np.ptp(np.log(fit.constant_interval)) for fit in (once, often)]
    assert widths[1] == pytest.approx(widths[0], rel=1e-3, abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(found=some_layers, law=laws)
@example(found=[(4, 4, 2 / 8), (16, 16, 2 / 32), (64, 64, 2 / 128)], law=LAWS[0])
@example(found=[(4, 4, 0.1), (16, 16, 0.1), (64, 64, 0.1)], law=LAWS[0])
@example(found=[(4, 4, 0.1), (16, 16, 0.1000001), (64, 64, 0.1)], law=LAWS[0])
def test_every_fit_can_be_quoted(found: Layers, law: Law) -> None:
    assert_quotable(fitted(found, law.key))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.key)
@pytest.mark.parametrize("scales", [(1e-60, 1e60), (1e-300, 1.0, 1e300), (1e-300, 1e-300, 1e-300), (1e300,) * 4])
def test_scales_far_apart_give_an_interval_and_not_an_error(scales: tuple[float, ...], law: Law) -> None:
    fit = fitted([(4 + place, 4, scale) for place, scale in enumerate(scales)], law.key)
    assert fit.verdict in ("supported", "contradicted", "undetermined")
    assert not math.isnan(fit.constant)
    assert_quotable(fit)


def test_an_interval_beyond_float64_ends_in_infinity() -> None:
    fit = fitted([(4, 4, 1e-60), (3, 5, 1e60)])
    assert fit.constant == pytest.approx(8.0)
    assert fit.constant_interval == (0.0, math.inf)


def test_the_largest_mean_squares_can_be_fitted() -> None:
    fit = of_sums([8, 8, 16], [1.7e308] * 3)
    assert fit.verdict == "undetermined"
    assert fit.constant == math.inf
    assert_quotable(fit)


@pytest.mark.parametrize("fan", [10**9, 10**12, 2**60])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_fans_that_hardly_differ_decide_nothing(fan: int, count: int) -> None:
    fit = fitted([(fan + place, 1, 1 / (1 + place)) for place in range(count)])
    assert fit.verdict == "undetermined"
    assert_quotable(fit)


def test_a_prediction_that_underflows_is_no_error(tmp_path: Path) -> None:
    tensors = {"fc.weight": torch.full((1, 1), 3e-162, dtype=torch.float64), "embed.weight": torch.ones(50_000, 1)}
    rows = by_name(report_of(tmp_path, tensors).layers)
    assert rows["fc.weight"].ratio == pytest.approx(1.0)


def test_equal_mean_squares_have_no_variance_to_account_for() -> None:
    fit = of_sums([2**power for power in range(3, 14)], [0.08167327410095272] * 11)
    assert math.isnan(fit.r_squared)


@pytest.mark.parametrize(
    "sums",
    [
        (2843, 3836, 2550, 1482, 335, 2214),
        (1070, 1028, 1090, 1053),
    ],
)
def test_the_law_rounded_to_float32_is_supported(sums: tuple[int, ...]) -> None:
    fit = of_sums(sums, [float(np.float32(math.sqrt(2 / s))) ** 2 for s in sums])
    assert fit.exponent == pytest.approx(-1.0, abs=1e-5)
    assert fit.verdict == "supported"


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.key)
@pytest.mark.parametrize("seed", range(5))
def test_any_law_rounded_to_float32_is_supported(law: Law, seed: int) -> None:
    generator = np.random.default_rng(seed)
    exact = following(law, law.constant or 0.37)
    shapes = [(int(n_in), int(n_out)) for n_in, n_out in generator.integers(16, 5000, (8, 2))]
    rounded = [(*shape, float(np.float32(math.sqrt(exact(*shape)))) ** 2) for shape in shapes]
    assert fitted(rounded, law.key).verdict == "supported"


def test_a_contradiction_shows_an_interval_without_minus_1() -> None:
    sums = (3143, 1427, 2564, 1183, 3762, 1107)
    rounded = torch.tensor([math.sqrt(2 / s) for s in sums]).bfloat16().double()
    fit = of_sums(sums, [float(v) ** 2 for v in rounded])
    assert fit.verdict == "contradicted"
    assert not re.search(r"-1\.00(?!\d)", sentences(fit)[1])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("law", ["fan-sum", "glorot"])
@pytest.mark.parametrize("with_roles", [False, True])
def test_a_verdict_hangs_on_the_shapes_without_which_it_would_be_another(seed: int, law: str, with_roles: bool) -> None:
    generator = np.random.default_rng(seed)
    shapes = [(int(n_in), int(n_out)) for n_in, n_out in np.exp(generator.uniform(2, 8, (6, 2)))]
    shapes = shapes * 2 if with_roles else shapes + shapes[:3]
    roles = [f"role {place % 3 if with_roles else 0}" for place in range(len(shapes))]
    scatter = np.exp(0.4 * generator.normal(size=len(shapes)) + [0.8 * int(role[-1]) for role in roles])
    found = [(*shape, 2 / sum(shape) * by) for shape, by in zip(shapes, scatter, strict=True)]
    fit = fitted(found, law, roles)
    expected = set()
    for shape in dict.fromkeys(shapes):
        kept = [place for place in range(len(shapes)) if shapes[place] != shape]
        without = fitted([found[place] for place in kept], law, [roles[place] for place in kept])
        is_beaten = "clearly better" in without.because
        verdict = "supported" if is_beaten and fit.verdict == "supported" else without.verdict  # by the exponent alone
        if verdict != fit.verdict and without.clustered_by == fit.clustered_by:
            expected.add((*shape, len(shapes) - len(kept), f"layers.{shapes.index(shape)}.weight", verdict))
    changes = {(change.n_in, change.n_out, change.layers, change.name, change.verdict) for change in fit.hangs_on or ()}
    if fit.verdict == "undetermined":
        assert changes == set()
    elif with_roles:
        assert changes >= expected
    else:
        assert changes == expected


def test_three_shapes_of_which_any_one_is_needed_are_what_the_verdict_hangs_on() -> None:
    fit = on_the_law(2.0, (8, 128, 2048))
    assert fit.verdict == "supported"
    assert [(change.n_in, change.verdict) for change in fit.hangs_on or ()] == [
        (4, "undetermined"),
        (64, "undetermined"),
        (1024, "undetermined"),
    ]


def test_the_superset_is_no_law_to_be_fitted() -> None:
    assert SUPERSET not in {law.key for law in LAWS}
