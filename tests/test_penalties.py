"""The three L2 penalties: textbook values, shares, evenness, and the shrinkage that each causes."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weightstats.penalties import PENALTIES, LayerPenalty, PenalisedLayer, Split, evenness, split_penalties

DECAY = 0.5

FIRST = PenalisedLayer("first", elements=12, fan_sum=7, sum_of_squares=24.0)
"""4 in, 3 out, mean square 2."""

SECOND = PenalisedLayer("second", elements=6, fan_sum=5, sum_of_squares=6.0)
"""3 in, 2 out, mean square 1."""


def factor(penalty: str, layer: PenalisedLayer) -> float:
    return {"plain": 1.0, "per_element": 1 / layer.elements, "fan_scaled": layer.fan_sum / layer.elements}[penalty]


def dense(name: str, n_in: int, n_out: int, mean_square: float) -> PenalisedLayer:
    return PenalisedLayer(name, n_in * n_out, n_in + n_out, mean_square * n_in * n_out)


penalised_layers = st.builds(
    dense, st.just("w"), st.integers(1, 5000), st.integers(1, 5000), st.floats(-40, 20).map(math.exp)
)
networks = st.lists(penalised_layers, min_size=1, max_size=20)
every_penalty = pytest.mark.parametrize("penalty", PENALTIES)


def rows(split: Split, field: str) -> list[float]:
    return [getattr(row, field) for row in split.layers]


@pytest.mark.parametrize(
    ("penalty", "values"),
    [
        ("plain", (0.5 * 24, 0.5 * 6)),
        ("per_element", (0.5 * 24 / (4 * 3), 0.5 * 6 / (3 * 2))),
        ("fan_scaled", (0.5 * 24 * (4 + 3) / (4 * 3), 0.5 * 6 * (3 + 2) / (3 * 2))),
    ],
)
def test_two_dense_layers_have_the_textbook_values(penalty: str, values: tuple[float, float]) -> None:
    split = split_penalties([FIRST, SECOND], DECAY)[penalty]
    assert rows(split, "value") == pytest.approx(values)
    assert split.total == pytest.approx(sum(values))
    assert rows(split, "share") == pytest.approx([value / sum(values) for value in values])
    assert (split.largest_name, split.largest_share) == ("first", pytest.approx(values[0] / sum(values)))


@pytest.mark.parametrize(
    ("penalty", "multipliers"),
    [
        ("plain", (1.0, 1.0)),
        ("per_element", (1 / 12 * 30 / 3, 1 / 6 * 30 / 3)),  # S/N is 2 + 1 against a plain 24 + 6
        ("fan_scaled", (7 / 12 * 30 / 19, 5 / 6 * 30 / 19)),  # S·s/N is 14 + 5
    ],
)
def test_multipliers_of_two_dense_layers_by_hand(penalty: str, multipliers: tuple[float, float]) -> None:
    split = split_penalties([FIRST, SECOND], DECAY)[penalty]
    assert rows(split, "decay_multiplier") == pytest.approx(multipliers)


def test_evenness_of_shares_by_hand() -> None:
    assert evenness([1.0]) == 1.0
    assert evenness([0.25] * 4) == pytest.approx(1.0)
    assert evenness([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert evenness([0.5, 0.5, 0.0, 0.0]) == pytest.approx(0.5)
    assert evenness([0.75, 0.25]) == pytest.approx(math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / 2)


def test_the_names_of_the_penalties_are_those_of_the_schema() -> None:
    assert PENALTIES == ("plain", "per_element", "fan_scaled")


@every_penalty
@settings(deadline=None, max_examples=50)
@given(layers=networks, weight_decay=st.floats(1e-8, 10))
def test_shares_are_parts_of_the_total(penalty: str, layers: list[PenalisedLayer], weight_decay: float) -> None:
    split = split_penalties(layers, weight_decay)[penalty]
    assert math.fsum(rows(split, "share")) == pytest.approx(1.0)
    assert all(0.0 <= share <= 1.0 for share in rows(split, "share"))
    assert math.fsum(rows(split, "value")) == pytest.approx(split.total)
    assert split.largest_share == max(rows(split, "share"))


@every_penalty
@settings(deadline=None, max_examples=50)
@given(layers=networks)
def test_multipliers_keep_the_plain_total_and_the_penaltys_proportions(
    penalty: str, layers: list[PenalisedLayer]
) -> None:
    multipliers = rows(split_penalties(layers, DECAY)[penalty], "decay_multiplier")
    weighted = math.fsum(m * layer.sum_of_squares for m, layer in zip(multipliers, layers, strict=True))
    assert weighted == pytest.approx(math.fsum(layer.sum_of_squares for layer in layers))
    proportions = [m / factor(penalty, layer) for m, layer in zip(multipliers, layers, strict=True)]
    assert proportions == pytest.approx([proportions[0]] * len(layers))


@settings(deadline=None, max_examples=50)
@given(layers=networks, weight_decay=st.floats(0, 10))
def test_the_per_element_penalty_is_lambda_times_the_sum_of_mean_squares(
    layers: list[PenalisedLayer], weight_decay: float
) -> None:
    expected = weight_decay * math.fsum(layer.sum_of_squares / layer.elements for layer in layers)
    assert split_penalties(layers, weight_decay)["per_element"].total == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(shapes=st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 4000)), min_size=2, max_size=20))
def test_under_the_law_the_fan_scaled_penalty_is_even(shapes: list[tuple[int, int]]) -> None:
    layers = [dense("w", n_in, n_out, 2 / (n_in + n_out)) for n_in, n_out in shapes]
    split = split_penalties(layers, DECAY)["fan_scaled"]
    assert split.evenness == pytest.approx(1.0)
    assert rows(split, "share") == pytest.approx([1 / len(shapes)] * len(shapes))


def test_under_the_law_the_other_penalties_are_not_even() -> None:
    layers = [dense(f"{n_in}", n_in, n_out, 2 / (n_in + n_out)) for n_in, n_out in ((64, 128), (128, 256), (256, 10))]
    splits = split_penalties(layers, DECAY)
    assert splits["plain"].evenness < 0.9
    assert splits["per_element"].evenness < 0.99
    assert splits["plain"].largest_name == "128"


@every_penalty
@settings(deadline=None, max_examples=50)
@given(layers=networks)
def test_evenness_lies_between_one_layer_and_all(penalty: str, layers: list[PenalisedLayer]) -> None:
    found = split_penalties(layers, DECAY)[penalty].evenness
    assert (1 - 1e-12) / len(layers) <= found <= 1 + 1e-12


@every_penalty
def test_without_layers_there_is_no_split(penalty: str) -> None:
    split = split_penalties([], DECAY)[penalty]
    assert (split.total, split.layers, split.largest_name) == (0.0, (), None)
    assert math.isnan(split.evenness)
    assert math.isnan(split.largest_share)


@every_penalty
def test_layers_of_zeros_carry_no_share(penalty: str) -> None:
    split = split_penalties([dense("zero", 4, 3, 0.0)], DECAY)[penalty]
    assert (split.total, split.largest_name) == (0.0, None)
    assert math.isnan(split.layers[0].share)
    assert split.layers[0].value == 0.0


@every_penalty
def test_a_layer_of_zeros_beside_another_has_the_share_0(penalty: str) -> None:
    split = split_penalties([dense("zero", 4, 3, 0.0), SECOND], DECAY)[penalty]
    assert rows(split, "share") == [0.0, 1.0]
    assert split.evenness == 0.5


@every_penalty
def test_a_layer_without_finite_elements_is_left_out(penalty: str) -> None:
    split = split_penalties([PenalisedLayer("nan", 0, 7, 0.0), FIRST], DECAY)[penalty]
    assert math.isnan(split.layers[0].value)
    assert math.isnan(split.layers[0].share)
    assert (split.layers[1].share, split.evenness, split.largest_name) == (1.0, 1.0, "first")


@every_penalty
def test_an_infinite_sum_is_left_out_of_the_total(penalty: str) -> None:
    split = split_penalties([PenalisedLayer("huge", 4, 4, math.inf), SECOND], DECAY)[penalty]
    assert math.isfinite(split.total)
    assert math.isnan(split.layers[0].share)
    assert (split.layers[1].share, split.largest_name) == (1.0, "second")
    assert split.layers[1].decay_multiplier == pytest.approx(1.0)


@every_penalty
def test_without_weight_decay_values_are_0_and_shares_remain(penalty: str) -> None:
    split, other = split_penalties([FIRST, SECOND], 0.0)[penalty], split_penalties([FIRST, SECOND], DECAY)[penalty]
    assert (split.total, rows(split, "value")) == (0.0, [0.0, 0.0])
    assert rows(split, "share") == rows(other, "share")
    assert rows(split, "decay_multiplier") == rows(other, "decay_multiplier")


@every_penalty
def test_the_gradient_is_two_lambda_times_the_decay_factor_times_the_weight(penalty: str) -> None:
    modules = [torch.nn.Linear(4, 3, dtype=torch.float64), torch.nn.Conv2d(2, 5, 3, dtype=torch.float64)]
    layers = [penalised(module.weight) for module in modules]
    loss = torch.zeros((), dtype=torch.float64)
    for module, layer in zip(modules, layers, strict=True):
        loss = loss + DECAY * factor(penalty, layer) * module.weight.square().sum()
    loss.backward()
    split = split_penalties(layers, DECAY)[penalty]
    assert loss.item() == pytest.approx(split.total)
    plain_total = sum(layer.sum_of_squares for layer in layers)
    for module, layer, row in zip(modules, layers, split.layers, strict=True):
        gradient = 2 * DECAY * factor(penalty, layer) * module.weight
        torch.testing.assert_close(module.weight.grad, gradient.detach())
        # What the multiplier stands for: plain weight decay of this strength, scaled by the ratio of the totals.
        plain = 2 * DECAY * row.decay_multiplier * module.weight * (split.total / DECAY / plain_total)
        torch.testing.assert_close(module.weight.grad, plain.detach())


def penalised(weight: torch.Tensor) -> PenalisedLayer:
    fans = torch.nn.init._calculate_fan_in_and_fan_out(weight)
    return PenalisedLayer("w", weight.numel(), sum(fans), float(weight.detach().square().sum()))


def test_the_split_keeps_the_order_of_the_layers() -> None:
    layers = [dense(str(index), index + 1, 2, 1.0) for index in range(5)]
    plain = split_penalties(layers, DECAY)["plain"].layers
    assert rows_of_values(plain) == [DECAY * layer.sum_of_squares for layer in layers]


def rows_of_values(layers: Sequence[LayerPenalty]) -> list[float]:
    return [row.value for row in layers]


def test_sums_whose_total_overflows_are_no_error() -> None:
    splits = split_penalties([PenalisedLayer("a", 4, 4, 1.5e308), PenalisedLayer("b", 4, 4, 1.5e308)], DECAY)
    assert splits["per_element"].evenness == pytest.approx(1.0)


def test_multipliers_keep_the_plain_total_of_the_layers_that_both_count() -> None:
    layers = [PenalisedLayer("huge", 1, 2, 1.5e308), PenalisedLayer("ordinary", 4, 4, 1.0)]
    assert split_penalties(layers, DECAY)["fan_scaled"].layers[1].decay_multiplier == pytest.approx(1.0)


@every_penalty
def test_a_layer_with_an_infinite_sum_has_no_value(penalty: str) -> None:
    split = split_penalties([PenalisedLayer("huge", 4, 4, math.inf), SECOND], DECAY)[penalty]
    assert math.isnan(split.layers[0].value)


@every_penalty
def test_a_value_that_overflows_is_none(penalty: str) -> None:
    split = split_penalties([PenalisedLayer("huge", 1, 4, 1.5e308), SECOND], 1.0)[penalty]
    assert math.isfinite(split.layers[0].value) == (penalty != "fan_scaled")
    assert math.isfinite(split.layers[1].value)
