"""Estimates with intervals, against statsmodels, scipy and the dense matrices of the papers."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import statsmodels.api
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracles import cluster_robust, half_width, line, meta_regression
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.meta_analysis import combine_effects

from weightstats.estimates import (
    ROUNDING,
    Clusters,
    Floats,
    clusters_of,
    differ_by,
    mean_by_cluster,
    regressions,
    slope_by_cluster,
    student,
)

SEEDS = range(12)

values = st.floats(-20, 20).map(lambda value: round(value, 6))


def drawn(seed: int, clusters: int = 6, most: int = 8, between: float = 0.5, within: float = 0.4) -> Any:
    """A key and a value for each member: clusters of unequal size, with offsets of their own."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, most + 1, clusters)
    counts[0] = max(2, counts[0])
    keys = [key for key, count in enumerate(counts) for _ in range(count)]
    offsets = generator.normal(0, between, clusters)
    order = generator.permutation(len(keys))
    members = [keys[place] for place in order]
    return members, offsets[members] + generator.normal(0, within, len(keys)), generator


def sampling_variances(clusters: Clusters) -> Floats:
    """sigma²/n of each mean, with sigma² pooled within the clusters."""
    free = clusters.counts.sum() - len(clusters.counts)
    return clusters.squares_within.sum() / free / clusters.counts


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("between", [0.0, 0.3, 2.0])
def test_a_mean_of_clusters_is_that_of_paule_and_mandel_with_hartung_and_knapps_interval(
    seed: int, between: float
) -> None:
    keys, y, _ = drawn(seed, between=between)
    clusters = clusters_of(keys, y)
    # it gives up, at no variance between, where rounding takes it past the solution
    expected = combine_effects(clusters.means, sampling_variances(clusters), method_re="iterated", atol=1e-6)
    found = regressions(np.ones((len(clusters.counts), 1)), clusters)
    assert found.between[0] == pytest.approx(max(0.0, expected.tau2), abs=1e-6)
    assert found.coefficients[0, 0] == pytest.approx(expected.mean_effect_re, rel=1e-6, abs=1e-6)
    assert found.errors[0, 0] == pytest.approx(expected.sd_eff_w_re_hksj, rel=1e-5)
    half = scipy.stats.t.ppf(0.975, len(clusters.counts) - 1) * expected.sd_eff_w_re_hksj
    estimate = found.estimate(0)
    assert estimate.interval == pytest.approx((estimate.value - half, estimate.value + half), rel=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("between", [0.0, 0.3, 2.0])
def test_a_slope_is_that_of_weighted_least_squares_with_the_variances_that_paule_and_mandel_ask_for(
    seed: int, between: float
) -> None:
    keys, y, generator = drawn(seed, clusters=7, between=between)
    clusters = clusters_of(keys, y)
    design = line(generator.uniform(2, 9, len(clusters.counts)))
    found = regressions(design, clusters)
    expected, tau = meta_regression(design[clusters.member_of], y, keys)
    assert found.between[0] == pytest.approx(tau, rel=1e-6, abs=1e-9)
    assert found.coefficients[0] == pytest.approx(expected.params, rel=1e-6, abs=1e-8)
    assert found.errors[0] == pytest.approx(expected.bse, rel=1e-6)
    assert found.estimate(1).interval == pytest.approx(tuple(expected.conf_int()[1]), rel=1e-5, abs=1e-8)
    assert found.estimate(1).degrees == expected.df_resid


def test_variance_between_clusters_is_found_in_some_of_these_cases_and_none_in_others() -> None:
    found = [
        regressions(np.ones((6, 1)), clusters_of(*drawn(seed, between=between)[:2])).between[0]
        for seed in SEEDS
        for between in (0.0, 2.0)
    ]
    assert min(found) == 0.0
    assert max(found) > 1.0


@settings(deadline=None, max_examples=100)
@given(pairs=st.lists(st.tuples(values, values), min_size=3, max_size=30))
def test_clusters_of_one_member_make_it_ordinary_least_squares(pairs: list[tuple[float, float]]) -> None:
    x, y = np.array(pairs).T
    assume(np.ptp(x) > 1e-3)
    assume(np.ptp(y) > 0)  # scipy's error is NaN where y is constant
    expected = scipy.stats.linregress(x, y)
    half = scipy.stats.t.ppf(0.975, len(x) - 2) * expected.stderr
    found = regressions(line(x), clusters_of(range(len(x)), y)).estimate(1)
    rounding = 1e-6 * (1 + np.ptp(y)) / np.ptp(x)
    assert found.value == pytest.approx(expected.slope, rel=1e-6, abs=rounding)
    expected_interval = (expected.slope - half, expected.slope + half)
    assert found.interval == pytest.approx(expected_interval, rel=1e-5, abs=1e2 * rounding)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_subset_of_the_clusters_gives_what_they_would_give_alone(seed: int) -> None:
    keys, y, generator = drawn(seed, clusters=9)
    clusters = clusters_of(keys, y)
    design = line(generator.uniform(2, 9, 9))
    subsets = generator.random((5, 9)) < 0.7
    found = regressions(design, clusters, subsets)
    for row, subset in enumerate(subsets):
        kept = [place for place, member in enumerate(clusters.member_of) if subset[member]]
        alone_of = clusters_of([keys[place] for place in kept], y[kept])
        alone_design = design[clusters.member_of[np.array(kept)[alone_of.first]]]
        alone = regressions(alone_design, alone_of)
        assert found.between[row] == pytest.approx(alone.between[0], rel=1e-6, abs=1e-9)
        assert found.estimate(1, subset=row).interval == pytest.approx(
            alone.estimate(1).interval, rel=1e-5, nan_ok=True
        )


@pytest.mark.parametrize("count", [1, 2])
def test_two_clusters_leave_a_slope_without_anything_to_judge_it_by(count: int) -> None:
    clusters = clusters_of(range(count), np.arange(count, dtype=float))
    estimate = regressions(line(np.arange(count, dtype=float)), clusters).estimate(1)
    assert all(map(math.isnan, (estimate.value, *estimate.interval, estimate.degrees)))


@pytest.mark.parametrize("copies", [2, 50])
@pytest.mark.parametrize("most", [1, 4], ids=["a member each", "several members each"])
def test_copies_of_every_member_do_not_narrow_the_interval_of_a_slope(copies: int, most: int) -> None:
    widths = []
    for seed in range(40):
        keys, y, generator = drawn(seed, clusters=7, most=most)
        keys, y = (keys, y) if most > 1 else (list(range(7)), generator.normal(0, 1, 7))
        clusters = clusters_of(keys, y)
        design = line(generator.uniform(2, 9, 7))
        often = clusters_of(list(keys) * copies, np.tile(y, copies))
        once, again = (np.ptp(regressions(design, own).estimate(1).interval) for own in (clusters, often))
        widths.append(again / once)
    if most == 1:
        assert widths == pytest.approx(np.ones(40), rel=1e-6)
    assert np.median(widths) > 0.98  # the scatter within shapes looks better known; what shapes scatter takes it up
    assert min(widths) > 0.7


@pytest.mark.parametrize("seed", SEEDS)
def test_the_error_of_a_mean_is_that_of_the_dense_matrices(seed: int) -> None:
    keys, y, _ = drawn(seed)
    mean, error, degrees = cluster_robust(np.ones((len(y), 1)), y, keys, 0)
    found = mean_by_cluster(y, clusters_of(keys, y))
    half = half_width(error, degrees)
    assert found.value == pytest.approx(mean)
    assert found.degrees == pytest.approx(degrees)
    assert found.interval == pytest.approx((mean - half, mean + half))


def test_the_mean_of_clusters_of_one_member_has_the_ordinary_interval() -> None:
    y = np.random.default_rng(0).normal(3, 2, 9)
    found = mean_by_cluster(y, clusters_of(range(9), y))
    expected = scipy.stats.t.interval(0.95, 8, loc=y.mean(), scale=scipy.stats.sem(y))
    assert found.interval == pytest.approx(expected)
    assert found.degrees == pytest.approx(8)


def test_one_cluster_has_a_mean_and_no_interval() -> None:
    y = np.array([1.0, 2.0, 6.0])
    found = mean_by_cluster(y, clusters_of("aaa", y))
    assert found.value == 3.0
    assert all(map(math.isnan, (*found.interval, found.degrees)))


def test_no_value_has_no_mean() -> None:
    found = mean_by_cluster(np.array([]), clusters_of([], np.array([])))
    assert all(map(math.isnan, (found.value, *found.interval, found.degrees)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("clusters", [2, 3, 7])
def test_the_error_of_a_slope_is_that_of_the_dense_matrices(seed: int, clusters: int) -> None:
    keys, y, generator = drawn(seed, clusters=clusters, most=12)
    x = generator.uniform(2, 9, len(y))
    slope, error, degrees = cluster_robust(line(x), y, keys, 1)
    found = slope_by_cluster(x, y, np.array(keys))
    half = half_width(error, degrees)
    assert found.value == pytest.approx(slope)
    assert found.degrees == pytest.approx(degrees)
    assert found.interval == pytest.approx((slope - half, slope + half))


def test_a_cluster_that_alone_holds_the_slope_is_left_out_of_its_error_as_in_the_dense_matrices() -> None:
    x = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    y = np.array([0.1, -0.2, 0.3, 0.2, 0.4, 3.0])
    keys = [0, 0, 1, 1, 2, 3]
    slope, error, degrees = cluster_robust(line(x), y, keys, 1)
    found = slope_by_cluster(x, y, np.array(keys))
    half = half_width(error, degrees)
    assert found.interval == pytest.approx((slope - half, slope + half))


@pytest.mark.parametrize("values_of_x", [2, 1])
def test_a_slope_of_which_clusters_say_nothing_has_no_interval(values_of_x: int) -> None:
    keys = np.array([0, 0, 0, 1, 1, 1])
    x = np.minimum(keys, values_of_x - 1).astype(float)  # of two clusters, each has one value: their means decide
    found = slope_by_cluster(x, np.array([0.0, 0.1, -0.1, 1.0, 1.2, 0.9]), keys)
    assert all(map(math.isnan, (*found.interval, found.degrees)))
    assert found.value == pytest.approx(3.1 / 3) if values_of_x == 2 else math.isnan(found.value)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("effect", [0.0, 0.5])
@pytest.mark.parametrize("whole_groups", [False, True], ids=["x varies within groups", "x is one for a group"])
def test_the_test_for_offsets_of_groups_is_that_of_an_analysis_of_variance(
    seed: int, effect: float, whole_groups: bool
) -> None:
    keys, y, generator = drawn(seed, clusters=5, between=effect)
    x = generator.uniform(2, 9, 5)[keys] if whole_groups else generator.uniform(2, 9, len(y))
    without = statsmodels.api.OLS(y, line(x)).fit()
    groups = np.eye(5)[keys]
    design = groups if whole_groups else np.column_stack([groups, x])  # x of whole groups adds nothing to them
    with_groups = statsmodels.api.OLS(y, design).fit()
    expected = float(anova_lm(without, with_groups)["Pr(>F)"].iloc[1])
    assert differ_by(keys, x, y) == pytest.approx(expected, rel=1e-6)


def test_offsets_of_groups_cannot_be_told_where_every_value_is_a_group() -> None:
    y = np.array([1.0, 5.0, 2.0, 8.0])
    assert differ_by("abcd", np.arange(4.0), y) == 1.0


def test_offsets_of_groups_cannot_be_told_where_there_is_one() -> None:
    assert differ_by("aaaa", np.arange(4.0), np.array([1.0, 5.0, 2.0, 8.0])) == 1.0


@pytest.mark.parametrize(("offset", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_offsets_without_any_scatter_are_told_by_more_than_rounding(offset: float, expected: float) -> None:
    x = np.array([0.0, 1.0, 2.0, 0.0, 1.0, 2.0])
    y = 3.0 - 2.0 * x + np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) * offset + ROUNDING / 10 * np.sin(np.arange(6))
    assert differ_by("aaabbb", x, y) == expected


@pytest.mark.parametrize("confidence", [0.95, 0.99])
@pytest.mark.parametrize("degrees", [1.0, 1.7, 5.0, 1e6])
def test_students_t_is_scipys(degrees: float, confidence: float) -> None:
    assert student(degrees, confidence) == pytest.approx(scipy.stats.t.ppf(0.5 + confidence / 2, degrees))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 5), values), max_size=30))
def test_clusters_have_the_counts_means_and_squares_of_their_members(pairs: list[tuple[int, float]]) -> None:
    keys = [key for key, _ in pairs]
    y: NDArray[np.float64] = np.array([value for _, value in pairs], np.float64)
    clusters = clusters_of(keys, y)
    assert [keys[first] for first in clusters.first] == list(dict.fromkeys(keys))
    for place, key in enumerate(dict.fromkeys(keys)):
        members = y[[own == key for own in keys]]
        assert clusters.counts[place] == len(members)
        assert clusters.means[place] == pytest.approx(members.mean())
        assert clusters.squares_within[place] == pytest.approx(np.sum((members - members.mean()) ** 2), abs=1e-9)
        assert all(keys[member] == key for member in np.flatnonzero(clusters.member_of == place))


def test_the_spread_within_clusters_is_pooled() -> None:
    assert clusters_of("aabbb", np.array([0.0, 2.0, 5.0, 5.0, 8.0])).spread_within == pytest.approx((2 + 6) / 3)
    assert clusters_of("abc", np.array([0.0, 2.0, 5.0])).spread_within == 0.0
