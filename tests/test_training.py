"""Decay that does the same: parameter groups and penalties of live modules."""

import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import NETWORKS, Recurrent, inputs_of, network, trained
from torch import nn
from torch.nn.utils import parametrizations, prune

import weightstats
from weightstats import training
from weightstats.decayed_parameters import PRUNED
from weightstats.errors import CheckpointError, UsageError
from weightstats.penalties import PENALTIES, PenaltyName

DECAY = 0.03

every_penalty = pytest.mark.parametrize("penalty", PENALTIES)
every_network = pytest.mark.parametrize("name", NETWORKS)


def decays(model: nn.Module, groups: list[dict[str, Any]]) -> dict[str, float]:
    """The weight decay of each parameter; one that is not in exactly one group fails."""
    found: dict[int, float] = {}
    for group in groups:
        for parameter in group["params"]:
            assert id(parameter) not in found
            found[id(parameter)] = group["weight_decay"]
    named = dict(model.named_parameters())
    assert found.keys() == {id(parameter) for parameter in named.values()}
    return {name: found[id(parameter)] for name, parameter in named.items()}


def equal_lambda(model: nn.Module, penalty: PenaltyName) -> float:
    return weightstats.inspect(model, weight_decay=DECAY / 2).penalties[penalty].equal_total_weight_decay


def number(tensor: torch.Tensor) -> float:
    return float(tensor.detach().item())


@torch.no_grad()
def distance(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(number((a - b).abs().max()) for a, b in pairs)


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda groups: torch.optim.SGD(groups, lr=0.1),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.02, momentum=0.9, nesterov=True),
    "Adam": lambda groups: torch.optim.Adam(groups, lr=0.01, eps=1e-2),
}
"""With an eps that keeps the rounding of gradients that are 0 (a bias before a normalisation) from being blown up."""


@every_penalty
@every_network
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_groups_and_a_penalty_in_the_loss_take_the_same_steps(name: str, penalty: PenaltyName, optimizer: str) -> None:
    make, inputs = OPTIMIZERS[optimizer], inputs_of(name)
    start, grouped, penalised, free = (network(name) for _ in range(4))
    groups = weightstats.parameter_groups(grouped, penalty, weight_decay=DECAY)
    weight = equal_lambda(penalised, penalty)
    trained(grouped, inputs, make(groups))
    trained(penalised, inputs, make(penalised.parameters()), lambda: weight * weightstats.penalty(penalised, penalty))
    trained(free, inputs, make(free.parameters()))
    assert distance(grouped, penalised) < 1e-12
    assert distance(grouped, start) > 1e-2
    assert distance(grouped, free) > 1e-3


@every_penalty
def test_unscaled_groups_are_the_gradient_of_the_penalty_with_half_the_decay(penalty: PenaltyName) -> None:
    inputs = inputs_of("lstm")
    grouped, penalised = network("lstm"), network("lstm")
    groups = weightstats.parameter_groups(grouped, penalty, weight_decay=DECAY, equal_total=False)
    trained(grouped, inputs, torch.optim.SGD(groups, lr=0.1))
    optimizer = torch.optim.SGD(penalised.parameters(), lr=0.1)
    trained(penalised, inputs, optimizer, lambda: DECAY / 2 * weightstats.penalty(penalised, penalty))
    assert distance(grouped, penalised) < 1e-12


@every_penalty
@every_network
def test_the_gradient_is_twice_the_factor_times_the_weight(name: str, penalty: PenaltyName) -> None:
    model = network(name)
    factors = decays(model, weightstats.parameter_groups(model, penalty, weight_decay=1.0, equal_total=False))
    weightstats.penalty(model, penalty).backward()  # type: ignore[no-untyped-call]
    for own, parameter in model.named_parameters():
        expected = 2 * factors[own] * parameter.detach()
        torch.testing.assert_close(torch.zeros_like(expected) if parameter.grad is None else parameter.grad, expected)


FACTORS = {
    "0.weight": ("linear 8 to 12", 1 / 96, 20 / 96),
    "3.weight": ("linear 12 to 5", 1 / 60, 17 / 60),
    "5.weight": ("linear 5 to 3", 1 / 15, 8 / 15),
}


def test_factors_of_linear_layers_are_those_of_the_textbook() -> None:
    model = network("mlp")
    for penalty, place in (("per-element", 1), ("fan-scaled", 2)):
        found = decays(model, weightstats.parameter_groups(model, penalty, weight_decay=0.5, equal_total=False))
        expected = {name: 0.5 * FACTORS[name][place] if name in FACTORS else 0.0 for name in found}  # type: ignore[operator]
        assert found == pytest.approx(expected)


@every_penalty
@every_network
def test_the_penalty_times_lambda_is_the_total_of_the_report(name: str, penalty: PenaltyName) -> None:
    model = network(name)
    total = weightstats.inspect(model, weight_decay=0.7).penalties[penalty].total
    assert 0.7 * number(weightstats.penalty(model, penalty)) == pytest.approx(total, rel=1e-12)


@every_penalty
@every_network
def test_a_layers_decay_is_the_plain_one_times_the_multiplier_of_the_report(name: str, penalty: PenaltyName) -> None:
    model = network(name)
    found = decays(model, weightstats.parameter_groups(model, penalty, weight_decay=DECAY))
    rows = {(row.part_of or row.name): row for row in weightstats.inspect(model).layers}
    magnitudes = {
        key.replace("original1", "original0").replace("weight_v", "weight_g"): row for key, row in rows.items()
    }
    expected = {
        key: DECAY * magnitudes[key].penalties[penalty].decay_multiplier if key in magnitudes else 0.0 for key in found
    }
    assert found == pytest.approx(expected, rel=1e-12)
    assert max(found.values()) > 0.0


@every_penalty
@every_network
def test_with_equal_totals_the_penalties_are_equal(name: str, penalty: PenaltyName) -> None:
    model = network(name)
    plain = DECAY / 2 * number(weightstats.penalty(model, "plain"))
    assert equal_lambda(model, penalty) * number(weightstats.penalty(model, penalty)) == pytest.approx(plain, rel=1e-12)


@every_penalty
def test_adamw_shrinks_each_layer_by_its_decay(penalty: PenaltyName) -> None:
    model = network("mlp")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    groups = weightstats.parameter_groups(model, penalty, weight_decay=DECAY)
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, decay in decays(model, groups).items():
        torch.testing.assert_close(model.get_parameter(name).detach(), before[name] * (1 - 0.1 * decay))


def test_with_adamw_a_penalty_in_the_loss_does_something_else() -> None:
    grouped, penalised, inputs = network("mlp"), network("mlp"), inputs_of("mlp")
    groups = weightstats.parameter_groups(grouped, "fan-scaled", weight_decay=DECAY)
    weight = equal_lambda(penalised, "fan_scaled")
    trained(grouped, inputs, torch.optim.AdamW(groups, lr=0.01))
    optimizer = torch.optim.AdamW(penalised.parameters(), lr=0.01, weight_decay=0.0)
    trained(penalised, inputs, optimizer, lambda: weight * weightstats.penalty(penalised, "fan-scaled"))
    assert distance(grouped, penalised) > 1e-3


def test_a_penalty_may_be_written_with_a_hyphen_or_an_underscore() -> None:
    model = network("mlp")
    assert weightstats.penalty(model, "fan-scaled") == weightstats.penalty(model, "fan_scaled")
    one, other = (
        weightstats.parameter_groups(model, name, weight_decay=DECAY) for name in ("per-element", "per_element")
    )
    assert decays(model, one) == decays(model, other)


@pytest.mark.parametrize(
    "call", [training.penalty, lambda model, name: training.parameter_groups(model, name, weight_decay=1)]
)
def test_an_unknown_penalty_names_those_there_are(call: Callable[[nn.Module, str], object]) -> None:
    with pytest.raises(UsageError, match="no penalty 'L1'; there are plain, per_element, fan_scaled"):
        call(network("mlp"), "L1")


@pytest.mark.parametrize("weight_decay", [-1e-3, math.nan, math.inf])
def test_a_weight_decay_that_torch_would_not_take_is_an_error(weight_decay: float) -> None:
    with pytest.raises(UsageError, match="must be 0 or more"):
        weightstats.parameter_groups(network("mlp"), "plain", weight_decay=weight_decay)


def test_equal_decays_are_one_group() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3))
    groups = weightstats.parameter_groups(model, "fan-scaled", weight_decay=DECAY)
    assert [len(group["params"]) for group in groups] == [2, 3, 1]
    assert groups[1]["weight_decay"] == 0.0


def test_a_tied_parameter_is_in_one_group_and_counted_once() -> None:
    model = network("attention")
    found = decays(model, weightstats.parameter_groups(model, "fan-scaled", weight_decay=1.0, equal_total=False))
    assert found["embedding.weight"] == pytest.approx((11 + 6) / 66)
    assert "head.weight" not in found
    expected = sum(number(model.get_parameter(name).square().sum()) for name, decay in found.items() if decay)
    assert number(weightstats.penalty(model, "plain")) == pytest.approx(expected)


def test_parameters_that_share_memory_are_decayed_once() -> None:
    shared = torch.randn(4, 4)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    for layer in model:
        layer.weight = nn.Parameter(shared)
    assert sorted(decays(model, weightstats.parameter_groups(model, "plain", weight_decay=DECAY)).values()) == [
        0.0,
        DECAY,
    ]
    weightstats.penalty(model, "plain").backward()  # type: ignore[no-untyped-call]
    assert [layer.weight.grad is None for layer in model] == [False, True]


# maps that are fused in one parameter


def unequal() -> tuple[nn.Module, list[dict[str, object]]]:
    """Queries of 8 and keys and values of 2 in one parameter, as where several queries share a key."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"mixed": nn.Linear(8, 12, bias=False), "out": nn.Linear(8, 8, bias=False)}).double()
    return model, [{"match": "mixed.weight", "split": {"q": 8, "k": 2, "v": 2}}]


def test_maps_of_unequal_size_have_the_mean_of_their_factors() -> None:
    model, rules = unequal()
    rows = {row.name: row for row in weightstats.inspect(model, rules=rules).layers}
    assert {name: (row.n_in, row.n_out) for name, row in rows.items() if "mixed" in name} == {
        "mixed.weight[q]": (8, 8),
        "mixed.weight[k]": (8, 2),
        "mixed.weight[v]": (8, 2),
    }
    groups = weightstats.parameter_groups(model, "fan-scaled", weight_decay=1.0, equal_total=False, rules=rules)
    by_elements = (16 / 64 * 64 + 10 / 16 * 16 + 10 / 16 * 16) / 96
    assert decays(model, groups)["mixed.weight"] == pytest.approx(by_elements)
    groups = weightstats.parameter_groups(model, "per-element", weight_decay=1.0, equal_total=False, rules=rules)
    assert decays(model, groups)["mixed.weight"] == pytest.approx(3 / 96)


@every_penalty
def test_maps_of_unequal_size_have_one_decay_in_the_groups_and_in_the_penalty(penalty: PenaltyName) -> None:
    model, rules = unequal()
    found = decays(
        model, weightstats.parameter_groups(model, penalty, weight_decay=1.0, equal_total=False, rules=rules)
    )
    weightstats.penalty(model, penalty, rules=rules).backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * found[name] * parameter.detach())


def test_maps_of_one_mean_square_have_the_total_of_the_report_whatever_their_sizes() -> None:
    model, rules = unequal()
    nn.init.constant_(model["mixed"].weight, 0.5)  # type: ignore[index, arg-type]
    report = weightstats.inspect(model, rules=rules, weight_decay=1.0)
    assert number(weightstats.penalty(model, "fan-scaled", rules=rules)) == pytest.approx(
        report.penalties["fan_scaled"].total
    )


def test_taken_as_stored_a_parameter_has_the_fans_of_the_whole() -> None:
    model = Recurrent(nn.LSTM)
    groups = weightstats.parameter_groups(model, "fan-scaled", weight_decay=1.0, equal_total=False, as_stored=True)
    found = decays(model, groups)
    assert found["recurrent.weight_ih_l0"] == pytest.approx((5 + 28) / (5 * 28))
    weightstats.penalty(model, "fan-scaled", as_stored=True).backward()  # type: ignore[no-untyped-call]
    weight = model.recurrent.weight_ih_l0
    torch.testing.assert_close(weight.grad, 2 * found["recurrent.weight_ih_l0"] * weight.detach())


# what is left out


@pytest.mark.parametrize("choice", [{"include": ["head*"]}, {"exclude": ["rec*", "embedding*"]}])
def test_names_that_are_left_out_are_not_decayed(choice: dict[str, list[str]]) -> None:
    model = network("lstm")
    found = decays(model, weightstats.parameter_groups(model, "fan-scaled", weight_decay=DECAY, **choice))  # type: ignore[arg-type]
    assert {name: decay for name, decay in found.items() if decay} == {"head.weight": pytest.approx(DECAY)}
    expected = 10 / 21 * number(model.get_parameter("head.weight").square().sum())
    assert number(weightstats.penalty(model, "fan-scaled", **choice)) == pytest.approx(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("call", [training.penalty, lambda *a, **k: training.parameter_groups(*a, weight_decay=1, **k)])
def test_some_maps_of_a_parameter_cannot_be_left_out(call: Callable[..., object]) -> None:
    with pytest.raises(UsageError, match=r"attention.in_proj_weight has one decay for all its maps"):
        call(network("attention"), "plain", exclude=["*[q]"])
    with pytest.raises(UsageError, match="none of the 5 layers is left"):
        call(network("attention"), "plain", include=["nothing"])


PARAMETRIZED: dict[str, Callable[[], nn.Module]] = {
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 6)),
    "hooked spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 6)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(4, 6)),
    "weight norm of something": lambda: parametrizations.weight_norm(
        parametrizations.orthogonal(nn.Linear(4, 6)),
        "bias",
        dim=None,  # type: ignore[arg-type]
    ),
}


@pytest.mark.parametrize("case", list(PARAMETRIZED))
def test_a_weight_that_decay_does_not_shrink_is_left_out_with_a_warning(case: str) -> None:
    model = nn.Sequential(PARAMETRIZED[case](), nn.Linear(6, 3))
    with pytest.warns(UserWarning, match=r"without decay: 0\.\S+: decaying it does not decay the weight") as caught:
        found = decays(model, weightstats.parameter_groups(model, "fan-scaled", weight_decay=DECAY))
    assert caught[0].filename == __file__
    assert {name for name, decay in found.items() if decay} == {"1.weight"}
    with pytest.warns(UserWarning, match="without decay") as caught:
        value = weightstats.penalty(model, "fan-scaled")
    assert caught[0].filename == __file__
    assert number(value) == pytest.approx(9 / 18 * number(model[1].weight.square().sum()))


def test_a_weight_that_is_left_out_by_name_is_not_warned_of() -> None:
    model = nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 6)), nn.Linear(6, 3))
    with warnings.catch_warnings(action="error"):
        weightstats.parameter_groups(model, "plain", weight_decay=DECAY, exclude=["0.*"])
        weightstats.penalty(model, "plain", exclude=["0.*"])


def test_a_frozen_weight_that_cannot_be_decayed_is_not_warned_of() -> None:
    model = nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 6)), nn.Linear(6, 3))
    model[0].requires_grad_(False)
    with warnings.catch_warnings(action="error"):
        weightstats.parameter_groups(model, "plain", weight_decay=DECAY)


def test_decaying_the_magnitudes_decays_the_normalised_weight() -> None:
    """The same as a penalty on the weight itself, which moves no direction."""
    inputs = inputs_of("normalised")
    grouped, penalised = network("normalised"), network("normalised")
    groups = weightstats.parameter_groups(grouped, "fan-scaled", weight_decay=DECAY, equal_total=False)
    trained(grouped, inputs, torch.optim.SGD(groups, lr=0.1))
    sizes = {0: 20 / 96, 2: 17 / 60, 4: 8 / 15}

    def on_the_weights() -> torch.Tensor:
        terms = [factor * penalised[place].weight.square().sum() for place, factor in sizes.items()]
        return DECAY / 2 * torch.stack(terms).sum()

    trained(penalised, inputs, torch.optim.SGD(penalised.parameters(), lr=0.1), on_the_weights)
    assert distance(grouped, penalised) < 1e-12


def test_a_pruned_weight_is_decayed_as_what_is_computed_with() -> None:
    def pruned() -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 3)).double()
        prune.random_unstructured(model[0], "weight", 0.5)  # type: ignore[no-untyped-call]
        return model

    inputs = inputs_of("mlp")
    grouped, penalised = pruned(), pruned()
    assert next(row for row in weightstats.inspect(grouped).layers).worked_out_because == PRUNED
    total = weightstats.inspect(penalised, weight_decay=1.0).penalties["fan_scaled"].total
    assert number(weightstats.penalty(penalised, "fan-scaled")) == pytest.approx(total)
    groups = weightstats.parameter_groups(grouped, "fan-scaled", weight_decay=DECAY, equal_total=False)
    trained(grouped, inputs, torch.optim.SGD(groups, lr=0.1, momentum=0.9))
    optimizer = torch.optim.SGD(penalised.parameters(), lr=0.1, momentum=0.9)
    trained(penalised, inputs, optimizer, lambda: DECAY / 2 * weightstats.penalty(penalised, "fan-scaled"))
    assert number((grouped(inputs) - penalised(inputs)).abs().max()) < 1e-12


class Projection(nn.Module):
    """A matrix that is not trained, under a name as of a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        weight = self.linear.weight.detach()
        del self.linear.weight
        self.linear.register_buffer("weight", weight)
        self.head = nn.Linear(4, 2)


def test_a_weight_that_is_a_buffer_is_not_penalised() -> None:
    model = Projection()
    assert "linear.weight" in [row.name for row in weightstats.inspect(model).layers]
    with warnings.catch_warnings(action="error"):
        found = decays(model, weightstats.parameter_groups(model, "fan-scaled", weight_decay=DECAY))
        value = weightstats.penalty(model, "fan-scaled")
    assert found == {"linear.bias": 0.0, "head.weight": pytest.approx(DECAY), "head.bias": 0.0}
    assert number(value) == pytest.approx(6 / 8 * number(model.head.weight.square().sum()))


@pytest.mark.parametrize("call", [training.penalty, lambda *a: training.parameter_groups(*a, weight_decay=1)])
def test_parameters_without_data_are_an_error(call: Callable[..., object]) -> None:
    with pytest.raises(CheckpointError, match=r"Sequential: its parameter 1.weight: it has no data \(a meta tensor\)"):
        call(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2, device="meta")), "plain")
    with pytest.raises(CheckpointError, match="run one batch first"):
        call(nn.Sequential(nn.LazyLinear(2)), "plain")


def test_zeros_alone_have_no_total_to_keep() -> None:
    model = nn.Linear(4, 2)
    nn.init.zeros_(model.weight)
    with pytest.warns(UserWarning, match="weight: it has no decay multiplier: sums of squares are 0"):
        groups = weightstats.parameter_groups(model, "fan-scaled", weight_decay=DECAY)
    assert set(decays(model, groups).values()) == {0.0}
    groups = weightstats.parameter_groups(model, "fan-scaled", weight_decay=DECAY, equal_total=False)
    assert decays(model, groups)["weight"] == pytest.approx(DECAY * 6 / 8)


def test_a_network_without_layers_has_no_penalty() -> None:
    model = nn.LayerNorm(4)
    assert number(weightstats.penalty(model, "plain")) == 0.0
    assert decays(model, weightstats.parameter_groups(model, "plain", weight_decay=DECAY)) == {
        "weight": 0.0,
        "bias": 0.0,
    }


# the penalty as a tensor


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.half, torch.float32),
    ],
)
def test_sums_of_squares_are_not_taken_in_half_precision(dtype: torch.dtype, result: torch.dtype) -> None:
    model = nn.Linear(400, 300, bias=False).to(dtype)
    nn.init.constant_(model.weight, 2.0)
    value = weightstats.penalty(model, "plain")
    assert (value.dtype, value.shape, number(value)) == (result, (), 4.0 * 400 * 300)
    value.backward()  # type: ignore[no-untyped-call]
    assert model.weight.grad is not None
    assert set(model.weight.grad.flatten().tolist()) == {4.0}


def test_complex_weights_are_penalised_by_their_magnitudes() -> None:
    model = nn.Linear(4, 3, bias=False, dtype=torch.complex128)
    value = weightstats.penalty(model, "fan-scaled")
    assert number(value) == pytest.approx(7 / 12 * number(model.weight.abs().square().sum()))
    value.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(model.weight.grad, 2 * 7 / 12 * model.weight.detach())


def test_a_weight_that_is_no_number_gives_none() -> None:
    model = network("mlp")
    with torch.no_grad():
        model.get_parameter("0.weight")[0, 0] = math.nan
    assert math.isnan(number(weightstats.penalty(model, "plain")))


def test_a_frozen_layer_counts_and_has_no_gradient() -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False))
    model[0].requires_grad_(False)
    value = weightstats.penalty(model, "plain")
    assert number(value) == pytest.approx(sum(number(each.weight.square().sum()) for each in model))
    value.backward()  # type: ignore[no-untyped-call]
    assert [each.weight.grad is None for each in model] == [True, False]


def test_the_layers_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("mlp")
    first = weightstats.penalty(model, "fan-scaled")
    monkeypatch.setattr(training, "list_layers", lambda *_, **__: pytest.fail("looked for again"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    assert number(weightstats.penalty(model, "fan-scaled")) == pytest.approx(4 * number(first))
    with pytest.raises(pytest.fail.Exception, match="looked for again"):
        weightstats.penalty(model, "plain")


def test_a_layer_that_has_been_replaced_is_the_one_that_counts() -> None:
    model = nn.Sequential(nn.Linear(4, 3, bias=False))
    weightstats.penalty(model, "fan-scaled")
    model[0] = nn.Linear(4, 6, bias=False)
    assert number(weightstats.penalty(model, "fan-scaled")) == pytest.approx(
        10 / 24 * number(model[0].weight.square().sum())
    )


def test_no_weight_is_read_to_know_the_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weightstats.tensors.Section.blocks", lambda *_, **__: pytest.fail("weights were read"))
    weightstats.penalty(network("lstm"), "fan-scaled")


def test_a_model_that_is_gone_is_not_kept() -> None:
    model = network("mlp")
    weightstats.penalty(model, "plain")
    before = len(training._terms_of)
    del model
    assert len(training._terms_of) == before - 1


def test_the_penalty_can_be_compiled_with_the_loss() -> None:
    model, inputs = network("mlp"), inputs_of("mlp")

    def loss() -> torch.Tensor:
        return model(inputs).square().mean() + 0.1 * weightstats.penalty(model, "fan-scaled")

    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    compiled().backward()
    found = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    loss().backward()  # type: ignore[no-untyped-call]
    for one, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)


# wrappers


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_a_wrapped_model_has_the_groups_and_the_penalty_of_the_model(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = network("lstm")
    wrapped = wrap(model)
    assert [name for name, _ in wrapped.named_parameters()] != [name for name, _ in model.named_parameters()]
    one, other = (weightstats.parameter_groups(each, "fan-scaled", weight_decay=DECAY) for each in (model, wrapped))
    assert decays(model, one) == decays(model, other)
    assert weightstats.penalty(wrapped, "fan-scaled") == weightstats.penalty(model, "fan-scaled")


def test_a_wrapper_inside_the_model_changes_nothing() -> None:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = network("mlp")
    value, plain = (
        weightstats.penalty(model, "fan-scaled"),
        weightstats.parameter_groups(model, "plain", weight_decay=1),
    )
    expected = decays(model, plain)
    model[3] = checkpoint_wrapper(model[3])  # type: ignore[index, operator]
    assert weightstats.penalty(model, "fan-scaled") == value
    found = decays(model, weightstats.parameter_groups(model, "plain", weight_decay=1))
    assert {re.sub(r"_checkpoint_wrapped_module\.", "", name): decay for name, decay in found.items()} == expected


def test_the_model_is_left_as_it_is() -> None:
    model = network("attention")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weightstats.parameter_groups(model, "fan-scaled", weight_decay=DECAY)
    weightstats.penalty(model, "fan-scaled")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
