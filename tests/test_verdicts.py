"""The verdict on a law, from intervals made by hand."""

import math
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightstats.estimates import ROUNDING, UNKNOWN
from weightstats.verdicts import Evidence, judge, signed

LAW = Evidence(
    layers=5,
    distinct=5,
    measure="n_in+n_out",
    expected=-1.0,
    rival=0.0,
    exponent=(-1.2, -0.8),
    slack=ROUNDING,
    beaten_by="",
    constant=(1.5, 2.5),
    fixed=None,
)
CONSTANT = replace(LAW, expected=0.0, rival=-1.0, exponent=(-0.2, 0.2))

ends = st.floats(-3, 3) | st.sampled_from([-1.0, 0.0, -1.0 + 1e-5, 1e-9, -math.inf, math.inf])


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
    assert judge(replace(LAW, exponent=(low, high)))[0] == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.5, 0.5, "supported"),
        (-1e-12, -1e-12, "supported"),
        (-0.9, 0.0, "supported"),
        (0.1, 0.5, "contradicted"),
        (-1.5, -0.5, "contradicted"),
        (-1.0, 0.0, "undetermined"),
    ],
)
def test_a_law_without_fans_expects_no_dependence_and_is_told_from_1_over_n_in_plus_n_out(
    low: float, high: float, verdict: str
) -> None:
    assert judge(replace(CONSTANT, exponent=(low, high)))[0] == verdict


@pytest.mark.parametrize(("distinct", "verdict"), [(1, "undetermined"), (2, "undetermined"), (3, "supported")])
def test_a_verdict_takes_three_values_of_what_the_law_depends_on(distinct: int, verdict: str) -> None:
    assert judge(replace(LAW, distinct=distinct))[0] == verdict


@pytest.mark.parametrize(
    ("layers", "distinct", "because"),
    [
        (1, 1, "1 layer with 1 distinct value of n_in+n_out cannot tell one power law from another"),
        (9, 2, "9 layers with 2 distinct values of n_in+n_out cannot tell one power law from another"),
        (9, 3, "9 layers with 3 distinct values of n_in+n_out leave no interval for the exponent"),
    ],
)
def test_what_there_is_too_little_of_is_said(layers: int, distinct: int, because: str) -> None:
    evidence = replace(LAW, layers=layers, distinct=distinct, exponent=UNKNOWN)
    assert judge(evidence) == ("undetermined", because)


@pytest.mark.parametrize(
    ("constant", "verdict"),
    [
        ((1.5, 2.5), "supported"),
        ((2.0, 2.5), "supported"),
        ((2.0 * (1 + ROUNDING), 2.5), "supported"),
        ((2.1, 2.5), "contradicted"),
        ((1.0, 1.9), "contradicted"),
        (UNKNOWN, "supported"),
        ((0.0, math.inf), "supported"),
    ],
)
def test_a_fixed_constant_must_lie_in_the_interval_of_c(constant: tuple[float, float], verdict: str) -> None:
    assert judge(replace(LAW, constant=constant, fixed=2.0))[0] == verdict


def test_a_constant_that_is_free_may_be_any() -> None:
    assert judge(replace(LAW, constant=(2.1, 2.5)))[0] == "supported"


def test_a_fixed_constant_contradicts_where_the_exponent_cannot_tell() -> None:
    verdict, because = judge(replace(LAW, exponent=(-1.5, 0.5), constant=(2.1, 2.5), fixed=2.0))
    assert verdict == "contradicted"
    assert because == "the 95 % interval of c, 2.1 to 2.5, does not hold 2"


def test_a_law_that_another_one_beats_is_not_supported() -> None:
    verdict, because = judge(replace(LAW, beaten_by="c/n_in"))
    assert verdict == "undetermined"
    assert because.endswith("holds -1 and not 0, but c/n_in fits the mean squares clearly better")


def test_a_law_that_another_one_beats_is_still_contradicted() -> None:
    assert judge(replace(LAW, beaten_by="c/n_in", exponent=(-3.0, -2.0)))[0] == "contradicted"


@pytest.mark.parametrize("evidence", [LAW, CONSTANT])
def test_slack_widens_the_interval_on_both_sides(evidence: Evidence) -> None:
    for end, other in product((-1, 1), (-1, 1)):
        near = evidence.expected + end * 1e-3
        interval = (near, near + 0.1) if end > 0 else (near - 0.1, near)
        assert judge(replace(evidence, exponent=interval))[0] == "contradicted"
        assert judge(replace(evidence, exponent=interval, slack=1.1e-3))[0] == "supported"
        rival = evidence.rival + other * 1e-3
        interval = (min(evidence.expected, rival), max(evidence.expected, rival))
        holds = interval[0] <= evidence.rival <= interval[1]
        assert judge(replace(evidence, exponent=interval))[0] == ("undetermined" if holds else "supported")
        assert judge(replace(evidence, exponent=interval, slack=1.1e-3))[0] == "undetermined"


@given(low=ends, width=st.floats(0, 3) | st.just(math.inf), constant=st.tuples(ends, ends), beaten=st.booleans())
def test_a_verdict_is_always_given_with_words(
    low: float, width: float, constant: tuple[float, float], beaten: bool
) -> None:
    interval = (min(low, 1e300), low + width if low + width == low + width else math.inf)
    beaten_by = "c" if beaten else ""
    for evidence in (LAW, CONSTANT, replace(LAW, fixed=2.0)):
        verdict, because = judge(
            replace(evidence, exponent=interval, constant=(min(constant), max(constant)), beaten_by=beaten_by)
        )
        assert verdict in ("supported", "contradicted", "undetermined")
        assert because
        assert "nan" not in because


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-1.0, "-1.00"),
        (-1.0 + ROUNDING / 2, "-1.00"),
        (-1.0003, "-1.0003"),
        (-0.999, "-0.999"),
        (0.0, "0.00"),
        (-0.0, "0.00"),
        (1e-9, "0.00"),
        (-0.0004, "-0.0004"),
        (0.4567, "+0.46"),
        (1.0, "+1.00"),
        (-17.256, "-17.26"),
    ],
)
def test_an_exponent_is_shown_so_that_minus_1_and_0_are_told_from_what_is_near(value: float, text: str) -> None:
    assert signed(value) == text


@given(st.floats(-5, 5))
def test_an_exponent_as_shown_is_near_and_minus_1_or_0_only_where_it_is(value: float) -> None:
    shown = float(signed(value))
    assert shown == pytest.approx(value, abs=0.005 + 1e-12)
    if shown in (-1.0, 0.0):
        assert value == pytest.approx(shown, abs=2 * ROUNDING)
