"""What is measured in checkpoints whose values are set by hand, against formulas."""

import math
from functools import cache
from typing import Any

import pytest
from builders import FIXTURES, all_names, by_name, fixture_maker

import weightstats
from weightstats.report import Report

MAKER = fixture_maker()

every_file = pytest.mark.parametrize("file", MAKER.EXPECTED)
every_layer = pytest.mark.parametrize(
    ("file", "name"), [(file, name) for file, layers in MAKER.EXPECTED.items() for name in layers]
)


@cache
def report(file: str) -> Report:
    return weightstats.inspect(str(FIXTURES / "made" / file))


def first_name(file: str, name: str) -> str:
    """The name under which a tensor comes first: one that is stored once under several names is one layer."""
    names = list(MAKER.EXPECTED[file])
    return min((name, *MAKER.EXPECTED[file][name].tied_to), key=names.index)


@every_file
def test_the_layers_are_the_ones_that_were_made_as_layers(file: str) -> None:
    expected = {first_name(file, name) for name in MAKER.EXPECTED[file]}
    assert {row.name for row in report(file).layers} == expected


@every_file
def test_the_others_are_the_rest(file: str) -> None:
    tied = {name for name in MAKER.EXPECTED[file] if first_name(file, name) != name}
    assert {row.name for row in report(file).others} == {*MAKER.EXPECTED_OTHERS[file], *tied}
    assert all_names(report(file)) == sorted([*MAKER.EXPECTED[file], *MAKER.EXPECTED_OTHERS[file]])


@every_layer
def test_fans_and_counts_are_exact(file: str, name: str) -> None:
    expected, row = MAKER.EXPECTED[file][name], by_name(report(file).layers)[first_name(file, name)]
    assert (row.n_in, row.n_out) == (expected.n_in, expected.n_out)
    assert (row.elements, row.zeros, row.nonfinite) == (expected.elements, expected.zeros, expected.nonfinite)
    assert row.max_abs == expected.max_abs


@every_layer
def test_statistics_are_those_of_the_formulas(file: str, name: str) -> None:
    expected, row = MAKER.EXPECTED[file][name], by_name(report(file).layers)[first_name(file, name)]
    assert row.mean_square == pytest.approx(expected.mean_square, rel=1e-12, abs=0.0)
    assert row.sum_of_squares == pytest.approx(expected.sum_of_squares, rel=1e-12, abs=0.0)
    assert row.mean == pytest.approx(expected.mean, rel=1e-12, abs=1e-12 * expected.max_abs)
    assert row.excess_kurtosis == pytest.approx(expected.excess_kurtosis, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("file", MAKER.EXPECTED_FITS)
def test_fits_are_those_of_the_formulas(file: str) -> None:
    expected, fit = MAKER.EXPECTED_FITS[file], report(file).fit
    assert fit.constant == pytest.approx(expected.constant, rel=1e-12)
    assert fit.exponent == pytest.approx(expected.exponent, abs=1e-12)
    assert fit.distinct_fan_sums == expected.distinct_fan_sums
    assert fit.spread == pytest.approx(expected.spread, rel=1e-12) if expected.spread is not None else fit.spread > 2


def test_the_law_is_supported_where_it_holds_and_contradicted_where_nothing_depends_on_the_fans() -> None:
    assert report("law.safetensors").fit.verdict == "supported"
    assert report("constant.pt").fit.verdict == "contradicted"


def test_ratios_are_1_on_the_law() -> None:
    assert [row.ratio for row in report("law.safetensors").layers] == pytest.approx([1.0] * 5, rel=1e-12)


def test_a_tied_tensor_is_one_layer_that_names_the_other() -> None:
    rows = by_name(report("tied.pt").layers)
    assert rows["encoder.weight"].tied_to == ("decoder.weight",)
    assert rows["between.weight"].tied_to == ()
    other = by_name(report("tied.pt").others)["decoder.weight"]
    assert (other.kind, other.reason) == ("tied", "the same stored tensor as encoder.weight")


def test_a_tied_tensor_is_counted_once() -> None:
    assert report("tied.pt").checkpoint.parameters == 24 * 8 + 8 * 8 + 8
    assert report("tied.pt").accounting.stored.bytes == 4 * (24 * 8 + 8 * 8 + 8)
    assert report("tied.pt").accounting.stored.tensors == 4


def test_nonfinite_elements_are_warned_of() -> None:
    assert report("nonfinite.pt").checkpoint.warnings == ("hurt.weight: 6 of 32 elements are NaN or infinite",)


def test_a_layer_of_zeros_is_left_out_of_the_fit_and_warned_of() -> None:
    row = by_name(report("edges.safetensors").layers)["zero.weight"]
    assert (row.fitted, row.left_out_because) == (False, "all its weights are zero")
    assert "zero.weight: all its weights are zero" in report("edges.safetensors").checkpoint.warnings


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("embed.weight", "embedding"),
        ("conv1.weight", "conv1d"),
        ("conv2.weight", "conv2d"),
        ("conv3.weight", "conv3d"),
        ("depthwise.weight", "depthwise_conv2d"),
        ("head.weight", "linear"),
    ],
)
def test_kinds_are_told_apart(name: str, kind: str) -> None:
    row = by_name(report("mixed.pt").layers)[name]
    assert row.kind == kind
    assert row.fitted == (kind != "embedding")


@every_layer
def test_penalties_are_mean_squares_times_their_factors(file: str, name: str) -> None:
    expected, row = MAKER.EXPECTED[file][name], by_name(report(file).layers)[first_name(file, name)]
    decay, fan_sum = report(file).weight_decay, expected.n_in + expected.n_out
    values = {penalty: split.value for penalty, split in row.penalties.items()}
    assert values["plain"] == pytest.approx(decay * expected.sum_of_squares, rel=1e-12, abs=0.0)
    assert values["per_element"] == pytest.approx(decay * expected.mean_square, rel=1e-12, abs=0.0)
    assert values["fan_scaled"] == pytest.approx(decay * expected.mean_square * fan_sum, rel=1e-12, abs=0.0)


def test_evenness_is_given_for_the_fitted_layers_too() -> None:
    assert [row.name for row in report("mixed.pt").layers if not row.fitted] == ["embed.weight"]
    fitted = [row for row in report("mixed.pt").layers if row.fitted]
    for penalty, split in report("mixed.pt").penalties.items():
        values = [row.penalties[penalty].value for row in fitted]
        entropy = -sum(value / sum(values) * math.log(value / sum(values)) for value in values)
        assert split.evenness_fitted == pytest.approx(math.exp(entropy) / len(fitted))
        assert split.evenness != pytest.approx(split.evenness_fitted)


@every_file
def test_every_number_of_the_dict_form_is_finite_or_none(file: str) -> None:
    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [number for item in value.values() for number in numbers(item)]
        if isinstance(value, list):
            return [number for item in value for number in numbers(item)]
        return [value] if isinstance(value, float) else []

    assert all(math.isfinite(number) for number in numbers(report(file).to_dict()))
