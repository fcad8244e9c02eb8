"""The table of laws against torch's own initialisers, and how the command line shows and takes it."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

import weightstats
from weightstats.errors import UsageError
from weightstats.laws import DEFAULT_LAW, LAWS, SUPERSET, TRUNCATED, Law, law_of

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"

KEYS = [law.key for law in LAWS]

SHAPES = ((200, 700), (700, 200), (400, 400), (90, 3000))


def measure(key: str, n_in: float, n_out: float, elements: float | None = None) -> float:
    """ln measure of one layer, undone."""
    given = [np.array([value]) for value in (n_in, n_out, elements) if value is not None]
    return float(np.exp(-law_of(key).logarithms(*given))[0])


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "weightstats", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("key", "initialise"),
    [
        ("glorot", nn.init.xavier_uniform_),
        ("glorot", nn.init.xavier_normal_),
        ("lecun", lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="linear")),
        ("he", nn.init.kaiming_normal_),
        ("he", nn.init.kaiming_uniform_),
        ("he-fan-out", lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out")),
        ("torch", lambda weight: nn.init.kaiming_uniform_(weight, a=math.sqrt(5))),
        ("orthogonal", nn.init.orthogonal_),
        ("normal-0.02", lambda weight: nn.init.normal_(weight, std=0.02)),
        ("truncated-0.02", lambda weight: nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)),
    ],
)
@pytest.mark.parametrize(("n_in", "n_out"), SHAPES)
def test_a_fixed_law_is_the_mean_square_that_torch_initialises_with(
    key: str, initialise: Callable[[torch.Tensor], Any], n_in: int, n_out: int
) -> None:
    torch.manual_seed(n_in)
    weight = torch.empty(n_out, n_in)
    initialise(weight)
    expected = float(law_of(key).constant) / measure(key, n_in, n_out)
    # a mean of N squares of normal numbers is off by sqrt(2/N), one standard deviation
    assert float(weight.double().square().mean()) == pytest.approx(expected, rel=4 * math.sqrt(2 / weight.numel()))


@pytest.mark.parametrize("layer", [nn.Linear(700, 900), nn.Conv2d(64, 96, 5), nn.Conv1d(300, 200, 3)])
def test_the_law_called_torch_is_its_default(layer: nn.Module) -> None:
    torch.manual_seed(0)
    layer.reset_parameters()
    weight = layer.weight.detach().double()
    n_in = weight[0].numel()
    expected = float(law_of("torch").constant) / measure("torch", n_in, 1)
    assert float(weight.square().mean()) == pytest.approx(expected, rel=4 * math.sqrt(2 / weight.numel()))


def test_every_fixed_law_with_an_initialiser_of_torch_is_compared_with_it() -> None:
    marks = test_a_fixed_law_is_the_mean_square_that_torch_initialises_with.pytestmark
    compared = {case[0] for mark in marks if mark.args[0] == ("key", "initialise") for case in mark.args[1]}
    assert compared == {law.key for law in LAWS if law.constant is not None}


def test_the_variance_of_the_truncated_normal_distribution_is_scipys() -> None:
    assert pytest.approx(scipy.stats.truncnorm(-2, 2).var(), rel=1e-6) == TRUNCATED
    assert law_of("truncated-0.02").constant == pytest.approx(0.0004 * TRUNCATED)
    assert law_of("truncated-0.02").formula == f"{0.0004 * TRUNCATED:.8f}"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("fan-sum", lambda n_in, n_out: n_in + n_out),
        ("fan-in", lambda n_in, n_out: n_in),
        ("fan-out", lambda n_in, n_out: n_out),
        ("largest-fan", max),
        ("spectral", lambda n_in, n_out: n_in**2 / min(n_in, n_out)),
        ("balanced", lambda n_in, n_out: n_in * n_out),
        ("constant", lambda n_in, n_out: 1),
    ],
)
@pytest.mark.parametrize(("n_in", "n_out"), [*SHAPES, (1, 1), (1, 10**9), (10**9, 1)])
def test_a_law_is_inversely_proportional_to_its_measure(
    key: str, expected: Callable[[int, int], int], n_in: int, n_out: int
) -> None:
    assert measure(key, n_in, n_out) == pytest.approx(expected(n_in, n_out))


def test_the_elements_of_a_convolution_are_those_that_there_are_and_not_the_product_of_its_fans() -> None:
    assert measure("balanced", 576, 1152, 64 * 128 * 9) == pytest.approx(64 * 128 * 9)
    assert measure("fan-sum", 576, 1152, 64 * 128 * 9) == pytest.approx(576 + 1152)


@pytest.mark.parametrize("law", [law for law in LAWS if law.constant is not None], ids=lambda law: law.key)
def test_a_formula_says_what_the_law_computes(law: Law) -> None:
    n_in, n_out = 24.0, 40.0
    said = eval(law.formula.replace("·", "*"), {"n_in": n_in, "n_out": n_out, "max": max, "__builtins__": {}})  # noqa: S307
    assert float(law.constant or 0.0) / measure(law.key, n_in, n_out) == pytest.approx(said, rel=2e-5)


@pytest.mark.parametrize("law", [law for law in LAWS if law.constant is None], ids=lambda law: law.key)
def test_a_formula_with_a_free_constant_says_what_the_law_computes(law: Law) -> None:
    n_in, n_out = 24.0, 10.0
    names = {"n_in": n_in, "n_out": n_out, "N": n_in * n_out, "c": 1.0, "max": max, "__builtins__": {}}
    assert 1 / measure(law.key, n_in, n_out) == pytest.approx(eval(law.formula.replace("·", "*"), names))  # noqa: S307
    if law.measure_name:
        own = eval(law.measure_name.replace("·", "*"), names)  # noqa: S307
        assert measure(law.key, n_in, n_out) == pytest.approx(own)


def test_keys_and_formulas_are_told_apart() -> None:
    assert len({law.key for law in LAWS}) == len({law.formula for law in LAWS}) == len(LAWS)
    assert {DEFAULT_LAW} < set(KEYS)
    assert all(law.source for law in LAWS)


def test_every_fixed_law_stands_behind_its_free_form() -> None:
    free = ""
    for law in LAWS:
        if law.constant is None:
            free = law.measure_name
        assert law.measure_name == free


def test_no_other_key_is_a_law() -> None:
    with pytest.raises(UsageError, match=r"'gloro'; there are fan-sum, glorot, .*truncated-0\.02: `weightstats laws` "):
        law_of("gloro")


def test_the_command_lists_every_law_with_its_source() -> None:
    result = run("laws")
    assert result.returncode == 0
    flat = " ".join(result.stdout.split())
    for law in LAWS:
        assert re.search(rf"(^|\s){re.escape(law.key)}\s+{re.escape(law.formula)}\s", flat)
    assert flat.endswith(f"({SUPERSET}) c·n_in^a·n_out^b what c, c/n_in and c/n_out are cases of; in the contest only")


def test_the_command_lists_them_as_json() -> None:
    listed = json.loads(run("laws", "--format", "json").stdout)
    assert listed["schema"] == "weightstats/laws/1"
    assert [row["law"] for row in listed["laws"]] == [*KEYS, SUPERSET]
    by_key = {row["law"]: row for row in listed["laws"]}
    assert by_key["he"] == {
        "law": "he",
        "formula": "2/n_in",
        "measure": "n_in",
        "constant": 2.0,
        "source": "He et al. 2015, arXiv:1502.01852",
    }
    assert (by_key["constant"]["measure"], by_key["fan-sum"]["constant"]) == (None, None)


@pytest.mark.parametrize("law", ["constant", "fan-in", "glorot", "balanced"])
def test_inspect_puts_any_law_to_the_test(law: str) -> None:
    result = run("inspect", str(FIXTURES / "made/law.safetensors"), "--law", law, "--format", "json")
    assert (result.returncode, result.stderr) == (0, "")
    fit = json.loads(result.stdout)["fit"]
    assert (fit["law"], fit["law_key"]) == (law_of(law).formula, law)


@pytest.mark.parametrize("law", ["gloro", "superset", "", "c/n_in"])
def test_a_law_that_there_is_not_is_a_usage_error(law: str) -> None:
    result = run("inspect", str(FIXTURES / "made/law.safetensors"), "--law", law)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"there is no law '{law}'; there are fan-sum, " in " ".join(result.stderr.split())


def test_the_library_takes_a_law_too_and_refuses_one_that_there_is_not() -> None:
    path = str(FIXTURES / "made/law.safetensors")
    assert weightstats.inspect(path, law="glorot").fit.verdict == "supported"
    assert weightstats.inspect(path, law="constant").fit.verdict == "contradicted"
    with pytest.raises(UsageError, match="there is no law 'x'"):
        weightstats.inspect(path, law="x")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.key)
def test_the_prediction_of_a_layer_is_the_fitted_law_at_its_fans(law: Law) -> None:
    report = weightstats.inspect(str(FIXTURES / "trained/cnn-final.pt"), law=law.key)
    for row in report.layers:
        expected = report.fit.constant / measure(law.key, row.n_in, row.n_out, row.elements)
        assert row.predicted_mean_square == pytest.approx(expected)
        assert row.ratio == pytest.approx(row.mean_square / expected)
