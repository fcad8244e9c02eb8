"""What was found, in sentences: as a reader would want them, for every law and every amount of evidence."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import report_of

import weightstats
from weightstats.contest import Contest, hold_contest
from weightstats.findings import briefly, by_kind, contested, number, rests_on, sentences
from weightstats.fits import Fit, fit_law
from weightstats.laws import LAWS, Law, law_of
from weightstats.observations import Observation, Observations, make_observations
from weightstats.report import Report

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"

SHAPES = ((8, 512), (512, 8), (64, 64), (100, 300), (2048, 31), (17, 900), (700, 1100))

SEVEN = "7 layers of 7 shapes, n_in+n_out from 128 to 2,079"
SEVEN_PAIRS = "7 distinct pairs (n_in, n_out), n_in from 8 to 2,048, n_out from 8 to 1,100"

NEARLY_ALIKE = ((1000, 100), (100, 50), (500, 400), (3000, 30), (50, 10), (200, 150))
"""On which n_in and n_in+n_out are nearly proportional."""

CASES = (
    "nothing",
    "one layer",
    "two layers of one shape",
    "two shapes",
    "five layers of one shape",
    "three shapes",
    "exact",
    "little scatter",
    "much scatter",
    "another constant",
    "another law",
    "a law that another one beats",
    "many layers",
    "many shapes",
    "an outlier",
    "extremes",
    "offsets of roles",
)


def mean_square(law: Law, n_in: int, n_out: int, constant: float | None = None) -> float:
    constant = law.constant or 2.0 if constant is None else constant
    return constant * float(np.exp(law.logarithms(*np.array([[float(n_in)], [float(n_out)]])))[0])


def found_in(case: str, law: Law) -> Iterator[tuple[int, int, float, str]]:
    """Layers as (n_in, n_out, mean square, role)."""
    generator = np.random.default_rng(CASES.index(case))
    if case in ("one layer", "two layers of one shape", "five layers of one shape"):
        yield from ((8, 8, 0.1 * (1 + place), "role") for place in range({"one": 1, "two": 2}.get(case[:3], 5)))
    elif case == "two shapes":
        yield from ((8, 8 * (1 + place), 0.1, "role") for place in range(2))
    elif case == "extremes":
        values = (1e-300, 1e300, 1e-300, 1.0, 1e300, 1e-200, 1e10)
        yield from ((*shape, value, "role") for shape, value in zip(SHAPES, values, strict=True))
    elif case == "a law that another one beats":
        yield from ((n_in, n_out, 1 / n_in, "role") for n_in, n_out in NEARLY_ALIKE)
    elif case == "another law":
        yield from ((*shape, mean_square(law_of("fan-sum"), *shape) ** 1.7, "role") for shape in SHAPES)
    elif case != "nothing":
        shapes = {"three shapes": SHAPES[:3], "many layers": SHAPES * 200}.get(case, SHAPES)
        shapes = [(8 + 3 * i, 9 + (i * i) % 500) for i in range(350)] if case == "many shapes" else shapes
        scatter = {"exact": 0.0, "three shapes": 0.0, "much scatter": 1.5, "an outlier": 0.05}.get(case, 0.1)
        shapes = SHAPES * 4 if case == "offsets of roles" else shapes
        for place, shape in enumerate(shapes):
            role = place % 4 if case == "offsets of roles" else 0
            off = scatter * generator.normal() + role * 1.1 + 4.0 * (case == "an outlier" and place == 1)
            off += math.log(1.5) * (case == "another constant")
            yield (*shape, mean_square(law, *shape) * math.exp(off), f"role {role}")


def observed(case: str, law: Law) -> Observations:
    return make_observations(
        [
            Observation(f"layers.{place}.weight", n_in, n_out, value, role)
            for place, (n_in, n_out, value, role) in enumerate(found_in(case, law))
        ]
    )


@cache
def judged(case: str, key: str = "fan-sum") -> tuple[Fit, Contest]:
    observations = observed(case, law_of(key))
    contest = hold_contest(observations)
    return fit_law(observations, law_of(key), contest), contest


def all_of(fit: Fit, contest: Contest) -> list[str]:
    kinds = by_kind({"linear": fit, "attention": fit})
    return [text for text in (*sentences(fit), rests_on(fit), contested(contest, fit), *kinds) if text]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.key)
@pytest.mark.parametrize("case", CASES)
def test_every_sentence_can_be_read(case: str, law: Law) -> None:
    fit, contest = judged(case, law.key)
    for sentence in all_of(fit, contest):
        assert sentence.endswith(".")
        assert not re.search(r"\b(nan|inf|infinity|none|null)\b", sentence, re.IGNORECASE), sentence
        assert not re.search(r"[+-]0\.00(?!\d)", sentence), sentence
        assert not re.search(r"  | [,.;:)]|\( |[,;:]{2}|\.\.|\(\)", sentence), sentence
        assert not re.search(r"(?<![\d,.])1 (layers|shapes|pairs|values|other shapes)\b", sentence), sentence
        assert not re.search(r"(?<![\d,.])(0|[2-9]|\d\d+) (layer|shape|distinct pair|distinct value)\b", sentence), (
            sentence
        )
        assert not re.search(r"(?<![\d.])\d{4,}(?![\d.]*e)(?!\.\d{8})", sentence.replace(law.formula, "")), sentence
        assert not re.search(r"from ([\d,]+) to \1\b", sentence), sentence
        assert "of of" not in sentence
        assert sentence.count("(") == sentence.count(")"), sentence


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.key)
@pytest.mark.parametrize("case", CASES)
def test_the_verdict_is_named_and_the_law_too(case: str, law: Law) -> None:
    fit, _ = judged(case, law.key)
    prediction, verdict = sentences(fit)
    assert f" is {fit.verdict}: " in verdict
    assert law.formula in prediction
    assert fit.verdict in briefly(fit) or fit.layers < 2


def test_the_cases_reach_every_verdict() -> None:
    verdicts = {(case, law.key): judged(case, law.key)[0] for case in CASES for law in LAWS}
    assert {fit.verdict for fit in verdicts.values()} == {"supported", "contradicted", "undetermined"}
    assert {fit.clustered_by for fit in verdicts.values()} == {"shape", "role"}
    assert any("clearly better" in fit.because for fit in verdicts.values())
    assert any("interval of c" in fit.because for fit in verdicts.values())
    assert all(judged("exact", law.key)[0].verdict == "supported" for law in LAWS)


def test_the_sentences_quote_the_fit() -> None:
    prediction, verdict = sentences(judged("exact")[0])
    assert prediction == (
        "Fitted to 7 layers, the law c/(n_in+n_out) has c = 2 (95 % interval 2 to 2; Glorot's initialisation has 2); "
        "half of the layers lie within a factor of 1 of it, and one standard deviation of their scatter is a factor of "
        "1."
    )
    assert verdict == (
        "The law's exponent, -1, is supported: the free exponent of n_in+n_out is -1.00 (95 % interval -1.00 to -1.00, "
        "layers of one shape taken as a cluster), which holds -1 and not 0."
    )


def test_numbers_in_the_sentences_are_those_of_the_fit() -> None:
    fit, _ = judged("much scatter")
    prediction, verdict = sentences(fit)
    low, high = fit.constant_interval
    assert f"c = {fit.constant:.3g} (95 % interval {low:.3g} to {high:.3g}; " in prediction
    assert f"within a factor of {fit.median_miss:.3g} of it" in prediction
    assert prediction.endswith(f"scatter is a factor of {fit.spread:.3g}.")
    low, high = fit.exponent_interval
    assert f"{low:+.2f} to {high:+.2f}" in verdict


def test_a_law_with_a_constant_of_its_own_says_that_it_was_left_free_and_what_it_is() -> None:
    prediction, verdict = sentences(judged("another constant", "glorot")[0])
    assert prediction.startswith("Fitted to 7 layers, its constant left free, the law 2/(n_in+n_out) has c = ")
    assert "; the law has 2); half of the layers" in prediction
    assert verdict.startswith("The law 2/(n_in+n_out) is contradicted: the 95 % interval of c, ")
    assert " does not hold 2; the free exponent of n_in+n_out is " in verdict
    _, verdict = sentences(judged("exact", "glorot")[0])
    assert verdict.endswith("which holds -1 and not 0, and the interval of c holds 2.")


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("fan-sum", "Whether mean squares fall as 1/(n_in+n_out) is undetermined: "),
        ("fan-in", "Whether mean squares fall as 1/n_in is undetermined: "),
        ("balanced", "Whether mean squares fall as 1/N is undetermined: "),
        ("largest-fan", "Whether mean squares fall as 1/max(n_in, n_out) is undetermined: "),
        ("spectral", "Whether mean squares fall as 1/(n_in·max(1, n_in/n_out)) is undetermined: "),
        ("constant", "Whether mean squares are equal is undetermined: "),
    ],
)
def test_what_is_undetermined_is_the_law_itself(key: str, what: str) -> None:
    assert sentences(judged("two shapes", key)[0])[1].startswith(what)


def test_known_constants_are_named_beside_the_fitted_one() -> None:
    assert (
        "(no interval: all layers have one shape; LeCun's initialisation has 1, He's 2)"
        in (sentences(judged("two layers of one shape", "fan-in")[0])[0])
    )


def test_offsets_of_roles_are_said_to_be_allowed_for() -> None:
    assert "layers of one role taken as a cluster" in sentences(judged("offsets of roles")[0])[1]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("nothing", ""),
        ("one layer", ""),
        (
            "two shapes",
            "2 layers of 2 shapes, n_in+n_out from 16 to 24; layers with other values of n_in+n_out could tell.",
        ),
        (
            "two layers of one shape",
            "2 layers of 1 shape, n_in+n_out 16; layers with other values of n_in+n_out could tell.",
        ),
        (
            "exact",
            f"{SEVEN}; leaving out the layers of any one shape does not change the verdict.",
        ),
    ],
)
def test_what_a_verdict_rests_on_is_said(case: str, expected: str) -> None:
    assert rests_on(judged(case)[0]) == (expected and f"This rests on {expected}")


def test_a_law_that_another_one_beats_is_said_to_be_and_which_one() -> None:
    fit, contest = judged("a law that another one beats")
    assert sentences(fit)[1].endswith(" holds -1 and not 0, but c/n_in fits the mean squares clearly better.")
    assert "does not change" not in rests_on(fit)
    told = contested(contest, fit)
    assert told.startswith("Not distinguishable here: c/n_in and c/max(n_in, n_out) (6 distinct pairs ")
    assert told.endswith("). They fit clearly better than c/(n_in+n_out).")
    assert briefly(fit).endswith(": undetermined, since c/n_in fits the mean squares clearly better.")


def test_how_narrow_an_interval_would_tell_is_said() -> None:
    fit, _ = judged("much scatter")
    low, high = fit.exponent_interval
    assert low < -1 < 0 < high
    assert rests_on(fit).endswith(
        f"the interval is {high - low:.1f} wide, and one narrower than 1 could not hold both -1 and 0: that takes "
        "layers of more shapes, a wider range of n_in+n_out, or less scatter."
    )


def test_shapes_that_a_verdict_hangs_on_are_named() -> None:
    fit, _ = judged("exact")
    without = [
        weightstats.fits.Without(8, 16, layers, name, verdict)
        for layers, name, verdict in (
            (1, "first.weight", "undetermined"),
            (1_200, "second.weight", "contradicted"),
            (1, "third.weight", "undetermined"),
            (1, "fourth.weight", "undetermined"),
        )
    ]
    endings = [rests_on(replace(fit, hangs_on=tuple(without[:count]))).partition("; ")[2] for count in range(1, 5)]
    two = "without first.weight or without the 1,200 layers 8 → 16"
    either = "it would be contradicted or undetermined."
    assert endings == [
        "without first.weight it would be undetermined.",
        f"{two} {either}",
        f"{two} (or those of one other shape) {either}",
        f"{two} (or those of any of 2 other shapes) {either}",
    ]


def test_a_verdict_of_three_shapes_is_not_said_to_stand_without_one() -> None:
    fit, _ = judged("three shapes", "fan-in")
    assert fit.verdict == "supported"
    assert "does not change" not in rests_on(fit)
    assert rests_on(fit).endswith("it would be undetermined.")


def test_what_was_not_tried_is_not_said() -> None:
    fit, _ = judged("many shapes")
    assert fit.verdict != "undetermined"
    assert rests_on(fit) == "This rests on 350 layers of 350 shapes, n_in+n_out from 17 to 1,507."


def test_laws_that_cannot_be_told_apart_are_named() -> None:
    fit, contest = judged("much scatter")
    formulas = [standing.formula for standing in contest.indistinct]
    assert len(formulas) > 2
    assert contested(contest, fit) == (
        f"Not distinguishable here: {', '.join(formulas[:-1])} and {formulas[-1]} ({SEVEN_PAIRS})."
    )


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("nothing", ""),
        ("one layer", ""),
        (
            "five layers of one shape",
            "No law can be told from another here: 1 distinct pair (n_in, n_out), n_in 8, n_out 8.",
        ),
        (
            "two shapes",
            "No law can be told from another here: 2 distinct pairs (n_in, n_out), n_in 8, n_out from 8 to 16.",
        ),
        (
            "exact",
            f"Of the laws with a free constant, c/(n_in+n_out) stands out here: {SEVEN_PAIRS}.",
        ),
    ],
)
def test_how_far_laws_can_be_told_apart_is_said(case: str, expected: str) -> None:
    fit, contest = judged(case)
    assert contested(contest, fit) == expected


def test_a_fit_in_brief_has_its_numbers_and_its_verdict() -> None:
    assert briefly(judged("nothing")[0]) == "no layer is left, which tests nothing."
    assert briefly(judged("one layer")[0]) == "one layer alone tests nothing."
    assert briefly(judged("exact")[0]) == (
        "c = 2, scatter 1, free exponent -1.00 (95 % interval -1.00 to -1.00): supported."
    )
    assert briefly(judged("two layers of one shape")[0]).endswith(
        "; undetermined: 2 layers with 1 distinct value of n_in+n_out cannot tell one power law from another."
    )


def test_kinds_are_told_apart_where_there_are_two() -> None:
    exact, one = judged("exact")[0], judged("one layer")[0]
    assert by_kind({"linear": exact}) == ()
    first, second = by_kind({"linear": exact, "recurrent": one})
    assert first == f"linear (7 layers): {briefly(exact)}"
    assert second == "recurrent (1 layer): one layer alone tests nothing."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.000123456, "0.000123"),
        (2.0, "2"),
        (1234.5, "1,234"),
        (999_999.0, "999,999"),
        (1e6, "1e+06"),
        (math.inf, "more than 1e308"),
    ],
)
def test_a_number_in_a_sentence(value: float, text: str) -> None:
    assert number(value) == text


def strictly(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("[tmp]*/**/*.*t*")), ids=lambda path: path.name)
def test_the_dict_of_a_report_is_strict_json(path: Path) -> None:
    if path.is_file():
        strictly(weightstats.inspect(str(path)).to_dict())


def report(law: str = "fan-sum") -> Report:
    return weightstats.inspect(str(FIXTURES / "published/silero-vad/silero_vad_16k.safetensors"), law=law)


def test_the_dict_has_the_evidence_behind_the_verdict() -> None:
    own = report()
    dicts = own.to_dict()
    assert dicts["rests_on"] == own.rests_on == rests_on(own.fit) != ""
    assert dicts["indistinct"] == own.indistinct == contested(own.contest, own.fit) != ""
    assert dicts["findings"] == list(own.findings)
    assert dicts["contest"]["indistinct"] == [standing.law for standing in own.contest.indistinct]
    assert [row["law"] for row in dicts["contest"]["standings"]] == [row.law for row in own.contest.standings]
    assert set(dicts["contest"]["standings"][0]) == {field.name for field in fields(own.contest.standings[0])}
    assert {(row["family"], row["kind"]) for row in dicts["layers"]} == {
        ("convolution", "conv1d"),
        ("recurrent", "lstm"),
    }
    roles = {row["name"]: row["role"] for row in dicts["layers"]}
    assert roles["lstm_cell.weight_ih[input]"] == "lstm_cell.weight_ih[input]"
    assert roles["conv3.weight"] == "conv#"


def test_each_kind_has_a_fit_of_its_own_layers() -> None:
    own = report()
    dicts = own.to_dict()["fits_by_kind"]
    assert list(dicts) == ["convolution", "recurrent"]
    for family, fit in own.fits_by_kind.items():
        rows = [row for row in own.layers if row.family == family and row.fitted]
        observations = [
            Observation(row.name, row.n_in, row.n_out, row.mean_square, row.role, row.elements) for row in rows
        ]
        assert fit == fit_law(make_observations(observations))
        assert (dicts[family]["layers"], dicts[family]["verdict"]) == (len(rows), fit.verdict)


def test_one_kind_has_no_fit_of_its_own() -> None:
    law = weightstats.inspect(str(FIXTURES / "made/law.safetensors"))
    assert law.to_dict()["fits_by_kind"] == {} == dict(law.fits_by_kind)


@pytest.mark.parametrize("key", ["fan-in", "glorot", "constant"])
def test_the_law_under_test_is_that_of_all_fits_and_the_contest_is_the_same(key: str) -> None:
    own, default = report(key), report()
    assert {fit.law_key for fit in (own.fit, *own.fits_by_kind.values())} == {key}
    assert own.contest == default.contest


def test_layers_that_the_fit_leaves_out_are_in_no_contest(tmp_path: Path) -> None:
    tensors = {f"layers.{place}.weight": torch.randn(4 + place, 8) for place in range(5)}
    own = report_of(tmp_path, tensors | {"embed_tokens.weight": torch.randn(900, 8), "zero.weight": torch.zeros(3, 9)})
    assert sum(row.fitted for row in own.layers) == own.contest.layers == own.fit.layers == 5
    assert own.contest.n_in_range == (8, 8)
