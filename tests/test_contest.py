"""The contest of laws, against an explicit search for the highest likelihood and against leaving shapes out by hand."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
from numpy.typing import NDArray

from weightstats.contest import Contest, Standing, hold_contest
from weightstats.estimates import ROUNDING
from weightstats.fits import fit_law
from weightstats.laws import LAWS, SUPERSET, Law, law_of
from weightstats.observations import Observation, Observations, make_observations

Floats = NDArray[np.float64]

FREE = tuple(law.key for law in LAWS if law.constant is None)
FIXED = tuple(law.key for law in LAWS if law.constant is not None)

SHAPES = ((8, 512), (512, 8), (64, 64), (100, 300), (2048, 31), (17, 900), (700, 1100), (256, 40), (33, 35))


def layers(
    shapes: Sequence[tuple[int, int]],
    mean_square: Callable[[int, int], float],
    scatter: float = 0.3,
    copies: Sequence[int] = (1,),
    seed: int = 0,
) -> Observations:
    """Layers of these shapes about a law: `copies[i]` of the i-th shape, in turn."""
    generator = np.random.default_rng(seed)
    return make_observations(
        [
            Observation(f"layers.{place}.{copy}.weight", *pair, mean_square(*pair) * math.exp(noise), "role")
            for place, pair in enumerate(shapes)
            for copy in range(copies[place % len(copies)])
            for noise in [scatter * generator.normal()]
        ]
    )


def on_fan_sum(n_in: int, n_out: int) -> float:
    return 2 / (n_in + n_out)


def following(law: Law, constant: float) -> Callable[[int, int], float]:
    """The mean square of a linear layer on the law."""
    return lambda n_in, n_out: constant * float(np.exp(law.logarithms(*np.array([[float(n_in)], [float(n_out)]])))[0])


def by_key(contest: Contest) -> dict[str, Standing]:
    return {standing.law: standing for standing in contest.standings}


class Model:
    """One law as it is documented, with its likelihood written out."""

    def __init__(self, observations: Observations, key: str) -> None:
        shapes = observations.shapes
        n_in, n_out = observations.n_in[shapes.first], observations.n_out[shapes.first]
        self.count = len(n_in)
        law = None if key == SUPERSET else law_of(key)
        if law is None:
            self.design: Floats = np.column_stack([np.ones(self.count), np.log(n_in), np.log(n_out)])
            self.means = shapes.means
        else:
            self.design = np.ones((self.count, int(law.constant is None)))
            elements = observations.elements[shapes.first]
            self.means = shapes.means - law.logarithms(n_in, n_out, elements) - math.log(law.constant or 1.0)
        free = shapes.counts.sum() - self.count
        within = shapes.squares_within.sum() / free if free else 0.0
        self.sampling = np.maximum(within, ROUNDING**2) / shapes.counts
        starts = np.arange(-32.0, 12.0, 0.5)
        best = min(starts, key=self._deviance)
        found = scipy.optimize.minimize_scalar(
            self._deviance, bounds=(best - 0.5, best + 0.5), method="bounded", options={"xatol": 1e-9}
        )
        self.between = math.exp(found.x) if found.fun < self.deviance(0.0) else 0.0

    def _deviance(self, log_between: float) -> float:
        return self.deviance(math.exp(log_between))

    def coefficients(self, between: float, kept: slice | Floats = slice(None)) -> Floats:
        root = 1 / np.sqrt(between + self.sampling[kept])
        return np.linalg.lstsq(self.design[kept] * root[:, None], self.means[kept] * root)[0]

    def deviance(self, between: float) -> float:
        """-2 ln L at the best coefficients."""
        variances = between + self.sampling
        left = self.means - self.design @ self.coefficients(between)
        return float(np.sum(np.log(2 * math.pi * variances) + left**2 / variances))

    def aicc(self) -> float:
        parameters = self.design.shape[1] + 1
        correction = 2 * parameters * (parameters + 1) / (self.count - parameters - 1)
        return self.deviance(self.between) + 2 * parameters + correction

    def left_out(self) -> float:
        """The root mean square of the errors of predicting each shape from the others, at the variance of all."""
        errors = []
        for place in range(self.count):
            kept = np.arange(self.count) != place
            errors.append(self.means[place] - self.design[place] @ self.coefficients(self.between, kept))
        return math.exp(math.sqrt(np.mean(np.square(errors))))


def convolutions() -> Observations:
    """Kernels of 1, 9 and 25 elements over channels; of two that have the same fans, the elements differ."""
    generator = np.random.default_rng(3)
    shapes = [(64 * k, 128 * k, 64 * 128 * k) for k in (1, 9, 25)]
    shapes += [(576, 1152, 576 * 1152), (27, 576, 27 * 64), (9, 9, 9 * 32), (512, 10, 5120), (1152, 1152, 1152 * 128)]
    return make_observations(
        [
            Observation(f"{shape}", n_in, n_out, 40 / elements * math.exp(0.3 * generator.normal()), "role", elements)
            for n_in, n_out, elements in shapes
            for shape in range(3)
        ]
    )


CASES = {
    "a layer each": layers(SHAPES, on_fan_sum),
    "several layers each": layers(SHAPES, on_fan_sum, copies=(1, 7, 3, 20)),
    "shapes that differ": layers(SHAPES, lambda n_in, n_out: 2 / (n_in + n_out) * (1 + n_in % 7), 0.1, (4, 9)),
    "many shapes": layers([(8 + 7 * i, 5 + (i * i) % 600) for i in range(120)], on_fan_sum),
    "little scatter": layers(SHAPES, on_fan_sum, scatter=1e-3),
    "no scatter": layers(SHAPES, on_fan_sum, scatter=0.0),
    "convolutions": convolutions(),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("key", [*FREE, *FIXED, SUPERSET])
def test_the_criterion_is_that_of_the_highest_likelihood(key: str, case: str) -> None:
    assert by_key(hold_contest(CASES[case]))[key].aicc == pytest.approx(Model(CASES[case], key).aicc(), abs=0.01)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("key", [*FREE, SUPERSET])
def test_the_prediction_error_is_that_of_leaving_out_each_shape(key: str, case: str) -> None:
    found = by_key(hold_contest(CASES[case]))[key].prediction_error
    assert found == pytest.approx(Model(CASES[case], key).left_out(), rel=1e-3)


@pytest.mark.parametrize("key", FIXED)
def test_a_law_that_fits_nothing_predicts_a_new_shape_as_well_as_the_others(key: str) -> None:
    model = Model(CASES["several layers each"], key)
    found = by_key(hold_contest(CASES["several layers each"]))[key].prediction_error
    assert math.log(found) == pytest.approx(math.sqrt(np.mean(model.means**2)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("keys", [(*FREE, SUPERSET), FIXED], ids=["free", "fixed"])
def test_weights_are_akaikes_in_each_league(keys: tuple[str, ...], case: str) -> None:
    standings = [standing for standing in hold_contest(CASES[case]).standings if standing.law in keys]
    best = min(standing.aicc for standing in standings)
    relative = [math.exp((best - standing.aicc) / 2) for standing in standings]
    expected = [each / sum(relative) for each in relative]
    assert [standing.weight for standing in standings] == pytest.approx(expected, abs=1e-12)
    assert {standing.is_free for standing in standings} == {keys[0] in FREE}


@pytest.mark.parametrize("case", CASES)
def test_the_wins_of_each_league_add_up_to_one(case: str) -> None:
    standings = hold_contest(CASES[case]).standings
    for is_free in (True, False):
        assert sum(s.wins for s in standings if s.is_free is is_free) == pytest.approx(1.0)
    assert all(0.0 <= standing.wins <= 1.0 for standing in standings)


def test_laws_that_are_one_on_these_shapes_share_what_they_win() -> None:
    funnel = [(n_out * (2 + place), n_out) for place, n_out in enumerate((3, 11, 40, 90, 200, 700))]
    found = by_key(hold_contest(layers(funnel, lambda n_in, n_out: 1 / n_in, scatter=0.05)))
    assert found["fan-in"].wins == found["largest-fan"].wins > 0.3
    assert found["fan-in"].aicc == pytest.approx(found["largest-fan"].aicc, abs=1e-9)


def test_a_contest_is_the_same_each_time_and_in_any_order_of_the_layers() -> None:
    for seed, observations in enumerate(CASES.values()):
        once = hold_contest(observations)
        assert hold_contest(observations) == once
        order = np.random.default_rng(seed).permutation(len(observations.layers))
        again = hold_contest(make_observations([observations.layers[place] for place in order]))
        assert [standing.law for standing in again.standings] == [standing.law for standing in once.standings]
        for own, other in zip(once.standings, again.standings, strict=True):
            assert (other.wins, other.within_reach) == (own.wins, own.within_reach)
            expected = (own.aicc, own.weight, own.constant, own.spread, own.prediction_error)
            found = (other.aicc, other.weight, other.constant, other.spread, other.prediction_error)
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1e9, 1e290])
@pytest.mark.parametrize("case", ["several layers each", "little scatter", "no scatter"])
def test_scaling_all_mean_squares_changes_the_constants_of_the_free_laws_alone(case: str, scale: float) -> None:
    observations = CASES[case]
    scaled = make_observations(
        [Observation(o.name, o.n_in, o.n_out, o.mean_square * scale, o.role) for o in observations.layers]
    )
    once, again = by_key(hold_contest(observations)), by_key(hold_contest(scaled))
    for key in (*FREE, SUPERSET):
        assert math.log(again[key].constant) == pytest.approx(math.log(once[key].constant) + math.log(scale), abs=1e-6)
        assert again[key].aicc == pytest.approx(once[key].aicc, abs=1e-3)
        assert (again[key].wins, again[key].within_reach) == (once[key].wins, once[key].within_reach)
        own, other = once[key], again[key]
        assert (other.spread, other.prediction_error) == pytest.approx((own.spread, own.prediction_error), rel=1e-5)
        assert other.exponents == pytest.approx(own.exponents, abs=1e-6)


@pytest.mark.parametrize("key", FREE)
@pytest.mark.parametrize("scatter", [0.0, 0.02])
def test_the_law_that_layers_follow_comes_first(key: str, scatter: float) -> None:
    law = law_of(key)

    contest = hold_contest(layers(SHAPES, following(law, 3.0), scatter))
    assert contest.standings[0].law == key
    assert {standing.law for standing in contest.indistinct} <= {key, SUPERSET}  # that has some of them as cases
    assert contest.standings[0].constant == pytest.approx(3.0, rel=3 * scatter + 1e-9)
    assert contest.standings[0].prediction_error == pytest.approx(1.0, abs=3 * scatter + 1e-9)
    assert contest.standings[0].spread == pytest.approx(1.0, abs=3 * scatter + 1e-9)


@pytest.mark.parametrize("key", FIXED)
def test_the_fixed_law_that_layers_follow_comes_first_of_those(key: str) -> None:
    law = law_of(key)
    assert law.constant is not None
    observations = layers(SHAPES, following(law, law.constant), 0.02)
    standings = [standing for standing in hold_contest(observations).standings if not standing.is_free]
    assert standings[0].law == key
    assert standings[0].weight > 0.99
    assert standings[0].constant == law.constant


def test_the_superset_finds_its_exponents_where_no_other_law_holds() -> None:
    observations = layers(SHAPES, lambda n_in, n_out: 5 * n_in**-0.3 * n_out**-1.4, scatter=0.01)
    best = hold_contest(observations).standings[0]
    assert best.law == SUPERSET
    assert best.exponents == pytest.approx((-0.3, -1.4), abs=0.02)
    assert best.constant == pytest.approx(5.0, rel=0.2)


@pytest.mark.parametrize("key", FREE)
def test_constant_and_scatter_are_those_of_the_fit(key: str) -> None:
    observations = CASES["several layers each"]
    fit = fit_law(observations, law_of(key))
    standing = by_key(hold_contest(observations))[key]
    assert (standing.constant, standing.spread) == pytest.approx((fit.constant, fit.spread))


@pytest.mark.parametrize("key", FIXED)
def test_the_scatter_about_a_fixed_law_is_about_its_own_constant(key: str) -> None:
    observations = CASES["several layers each"]
    law = law_of(key)
    shape = law.logarithms(observations.n_in, observations.n_out, observations.elements)
    off = observations.log_mean_square - shape - math.log(law.constant or 1.0)
    assert by_key(hold_contest(observations))[key].spread == pytest.approx(math.exp(math.sqrt(np.mean(off**2))))


@pytest.mark.parametrize("case", CASES)
def test_what_is_near_the_best_or_wins_often_is_within_reach(case: str) -> None:
    standings = hold_contest(CASES[case]).standings
    for is_free in (True, False):
        league = [standing for standing in standings if standing.is_free is is_free]
        best = min(standing.aicc for standing in league)
        expected = [standing.aicc - best <= 6.0 or standing.wins >= 0.05 for standing in league]  # Richards 2005
        assert [standing.within_reach for standing in league] == expected
        assert all(first.aicc <= second.aicc for first, second in pairwise(league))


def test_the_best_law_of_each_league_comes_first_and_free_ones_before_fixed_ones() -> None:
    leagues = [standing.is_free for standing in hold_contest(CASES["a layer each"]).standings]
    assert leagues == [True] * (len(FREE) + 1) + [False] * len(FIXED)


@pytest.mark.parametrize(
    ("shapes", "rated"),
    [(3, FIXED), (4, (*FREE, *FIXED)), (5, (*FREE, *FIXED)), (6, (*FREE, *FIXED, SUPERSET))],
)
def test_a_law_is_rated_where_there_are_two_more_shapes_than_parameters(shapes: int, rated: tuple[str, ...]) -> None:
    standings = hold_contest(layers(SHAPES[:shapes], on_fan_sum)).standings
    assert {standing.law for standing in standings if not math.isnan(standing.aicc)} == set(rated)
    for standing in standings:
        if standing.law not in rated:
            assert not standing.within_reach
            assert math.isnan(standing.wins)
            assert math.isnan(standing.weight)


@pytest.mark.parametrize("shapes", [0, 1, 2])
def test_two_shapes_decide_nothing(shapes: int) -> None:
    contest = hold_contest(layers(SHAPES[:shapes], on_fan_sum, copies=(3,)))
    assert (contest.standings, contest.indistinct) == ((), ())
    assert (contest.layers, contest.shapes) == (3 * shapes, shapes)


def test_the_ranges_are_those_of_the_fans() -> None:
    contest = hold_contest(CASES["several layers each"])
    assert (contest.n_in_range, contest.n_out_range) == ((8, 2048), (8, 1100))
    assert (contest.layers, contest.shapes) == (len(CASES["several layers each"].layers), 9)


def test_resamples_that_three_parameters_fit_exactly_win_nothing_for_the_superset() -> None:
    """A quarter of all resamples of six shapes hold three of them at most."""
    standing = by_key(hold_contest(layers(SHAPES[:6], on_fan_sum, scatter=0.8)))[SUPERSET]
    assert standing.wins < 0.05
    assert not standing.within_reach


@pytest.mark.parametrize(
    "shapes",
    [[(8 * place, 10) for place in range(1, 9)], [(8 * place, 8 * place) for place in range(1, 9)]],
    ids=["one n_out", "n_in and n_out are equal"],
)
def test_a_superset_whose_exponents_cannot_be_told_from_one_another_takes_no_part(
    shapes: list[tuple[int, int]],
) -> None:
    found = by_key(hold_contest(layers(shapes, on_fan_sum)))
    assert SUPERSET not in found
    assert sum(found[key].wins for key in FREE) == pytest.approx(1.0)
