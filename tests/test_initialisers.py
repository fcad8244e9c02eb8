"""The table of initialisers against torch's own, and its distributions against scipy."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from scipy import integrate, special, stats
from torch import nn
from torch.nn import init

import weightstats
from weightstats.hypotheses import LEVEL, TAIL, Z, hypotheses, ratio_interval
from weightstats.initialisers import (
    DISTRIBUTIONS,
    INITIALISERS,
    TRUNCATED,
    TRUNCATED_VARIANCE,
    Distribution,
    Drawn,
    Matrix,
)
from weightstats.report import LayerRow
from weightstats.samples import Sample, score

Fill = Callable[[torch.Tensor], object]

DENSITIES: dict[str, tuple[Callable[[float], float], float]] = {
    "uniform": (lambda x: 0.5, 1.0),
    "truncated normal": (lambda x: float(stats.truncnorm.pdf(x, -2, 2)), 2.0),
    "normal": (lambda x: float(stats.norm.pdf(x)), 15.0),
}
"""Of each distribution, and where it ends."""

each_distribution = pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda one: one.name)


def moment(distribution: Distribution, power: int, start: float = 0.0) -> float:
    """The mean of |x|**power over the elements beyond `start`, in units of the root mean square."""
    density, end = DENSITIES[distribution.name]
    unit = math.sqrt(2 * integrate.quad(lambda x: x**2 * density(x), 0.0, end)[0])
    value: float = 2 * integrate.quad(lambda x: (x / unit) ** power * density(x), min(end, start * unit), end)[0]
    return value


def filled(module: nn.Module, fill: Fill, *names: str) -> nn.Module:
    for name in names or ("weight",):
        fill(module.get_parameter(name))
    return module


def by_torch() -> Iterator[tuple[str, Callable[[], nn.Module], str, str]]:
    """What torch draws: its name, the module, how the names of its layers start, the initialiser."""
    default = "torch's default"
    yield "Linear", lambda: nn.Linear(300, 500), "weight", default
    yield "Conv1d", lambda: nn.Conv1d(40, 90, 7), "weight", default
    yield "Conv2d, grouped", lambda: nn.Conv2d(96, 96, 5, groups=3), "weight", default
    yield "Conv2d, depthwise", lambda: nn.Conv2d(512, 512, 5, groups=512), "weight", default
    yield "ConvTranspose2d", lambda: nn.ConvTranspose2d(48, 20, 5), "weight", default
    yield "ConvTranspose2d, grouped", lambda: nn.ConvTranspose2d(96, 48, 5, groups=4), "weight", default
    yield "Bilinear", lambda: nn.Bilinear(40, 20, 30), "weight", default
    yield "Embedding", lambda: nn.Embedding(4000, 48), "weight", default
    yield "Embedding, padded", lambda: nn.Embedding(4000, 48, padding_idx=3), "weight", default
    yield "RNN", lambda: nn.RNN(70, 90), "weight", default
    yield "GRU", lambda: nn.GRU(70, 90), "weight", default
    yield "LSTM", lambda: nn.LSTM(70, 90, 2, bidirectional=True), "weight", default
    yield "LSTM cell", lambda: nn.LSTMCell(70, 90), "weight", default
    yield "LSTM, projected", lambda: nn.LSTM(70, 90, proj_size=50), "weight", default
    yield "MultiheadAttention", lambda: nn.MultiheadAttention(192, 4), "in_proj", "Glorot uniform"
    yield "MultiheadAttention, apart", lambda: nn.MultiheadAttention(192, 4, kdim=96), "q_proj", "Glorot uniform"
    for name, fill, found in FILLS:
        yield f"Linear, {name}", lambda fill=fill: filled(nn.Linear(300, 500), fill), "weight", found
        yield f"Conv2d, {name}", lambda fill=fill: filled(nn.Conv2d(64, 96, 5), fill), "weight", found
    for name, fill, found in (FILLS[0], FILLS[1], FILLS[-1]):
        yield f"LSTM, {name}", lambda fill=fill: filled(nn.LSTM(200, 200), fill, *GATES), "weight", found
    yield "grouped, xavier_uniform_", lambda: filled(nn.Conv2d(96, 64, 5, groups=4), FILLS[0][1]), "w", FILLS[0][2]
    yield "transposed, He", lambda: filled(nn.ConvTranspose2d(96, 32, 5), FILLS[2][1]), "w", FILLS[2][2]
    yield "EfficientNet's classifier", lambda: filled(nn.Linear(320, 90), of_outputs), "w", "uniform 1/sqrt(fan-out)"
    yield (
        "MAE's patches",
        lambda: filled(nn.Conv2d(3, 256, 16), flattened),
        "w",
        "Glorot uniform of the flattened kernel",
    )
    yield "fairseq's q", lambda: filled(nn.Linear(256, 256), smaller), "w", "Glorot uniform with gain 1/sqrt(2)"
    yield "fairseq's embedding", lambda: filled(nn.Embedding(3000, 64), by_width), "w", "normal 1/sqrt(width)"


GATES = ("weight_ih_l0", "weight_hh_l0")

FILLS: tuple[tuple[str, Fill, str], ...] = (
    ("xavier_uniform_", init.xavier_uniform_, "Glorot uniform"),
    ("xavier_normal_", init.xavier_normal_, "Glorot normal"),
    ("kaiming_uniform_", lambda w: init.kaiming_uniform_(w, nonlinearity="relu"), "He uniform"),
    ("kaiming_normal_", lambda w: init.kaiming_normal_(w, nonlinearity="relu"), "He normal"),
    ("kaiming_normal_ of fan-out", lambda w: init.kaiming_normal_(w, mode="fan_out"), "He normal by fan-out"),
    ("kaiming_normal_, linear", lambda w: init.kaiming_normal_(w, nonlinearity="linear"), "LeCun normal"),
    ("kaiming_uniform_, linear", lambda w: init.kaiming_uniform_(w, nonlinearity="linear"), "LeCun uniform"),
    ("gain of relu", lambda w: init.xavier_uniform_(w, math.sqrt(2)), "Glorot uniform with gain sqrt(2)"),
    ("normal_ of 0.02", lambda w: init.normal_(w, std=0.02), "normal 0.02"),
    ("normal_ of 0.01", lambda w: init.normal_(w, std=0.01), "normal 0.01"),
    ("normal_", init.normal_, "normal 1"),
    ("trunc_normal_ of 0.02", lambda w: init.trunc_normal_(w, std=0.02), "normal 0.02"),
    ("trunc_normal_ at 2 σ", lambda w: init.trunc_normal_(w, 0.0, 0.02, -0.04, 0.04), "truncated normal 0.02"),
    ("uniform_ of 0.05", lambda w: init.uniform_(w, -0.05, 0.05), "uniform 0.05"),
    ("orthogonal_ with gain", lambda w: init.orthogonal_(w, math.sqrt(2)), "orthogonal with gain sqrt(2)"),
    ("orthogonal_", init.orthogonal_, "orthogonal"),
)
"""torch's functions, and what the table calls them."""


def of_outputs(weight: torch.Tensor) -> None:
    init.uniform_(weight, -1 / math.sqrt(weight.shape[0]), 1 / math.sqrt(weight.shape[0]))


def flattened(weight: torch.Tensor) -> None:
    init.xavier_uniform_(weight.data.view(weight.shape[0], -1))


def smaller(weight: torch.Tensor) -> None:
    init.xavier_uniform_(weight, gain=1 / math.sqrt(2))


def by_width(weight: torch.Tensor) -> None:
    init.normal_(weight, std=weight.shape[1] ** -0.5)


def rows_of(module: nn.Module, start: str) -> list[LayerRow]:
    return [row for row in weightstats.inspect(module).layers if row.name.startswith(start)]


@pytest.mark.parametrize(("make", "start", "name"), [case[1:] for case in by_torch()], ids=[c[0] for c in by_torch()])
def test_what_torch_draws_has_the_mean_square_of_the_table_and_is_as_initialised(
    make: Callable[[], nn.Module], start: str, name: str
) -> None:
    torch.manual_seed(0)
    rows = rows_of(make(), start)
    assert rows
    for row in rows:
        found = row.initialisation
        assert found.state == "as initialised", (row.name, found.because)
        [ratio] = {candidate.ratio for candidate in found.candidates if candidate.name == name}
        assert ratio == pytest.approx(1.0, abs=4 * math.sqrt(2 / row.elements))


def test_gates_that_are_taken_as_they_are_stored_have_the_hidden_size_of_one() -> None:
    torch.manual_seed(0)
    for module in (nn.LSTM(70, 90), nn.GRU(70, 90), nn.RNN(70, 90)):
        for row in weightstats.inspect(module, as_stored=True).layers:
            assert row.part_of is None
            assert [candidate.name for candidate in row.initialisation.candidates] == ["torch's default"]


def test_an_orthogonal_matrix_has_exactly_the_mean_square_of_the_table() -> None:
    torch.manual_seed(0)
    [row] = rows_of(filled(nn.Linear(90, 200), init.orthogonal_), "weight")
    assert row.mean_square == pytest.approx(1 / 200, rel=1e-6)
    assert row.initialisation.candidates[0].interval == (1.0, 1.0)


def test_a_gate_of_an_orthogonal_matrix_scatters_as_a_block_of_it() -> None:
    rows, columns = 40, 40
    drawn = Drawn("recurrent", 1600, ((40, 40),), (Matrix(160, 40, rows, columns),), 40, 40)
    [one] = [one for one in hypotheses(drawn).all if one.name == "orthogonal"]
    generator = torch.Generator().manual_seed(0)
    ratios = torch.empty(400)
    for index in range(len(ratios)):
        whole = init.orthogonal_(torch.empty(160, 40), generator=generator)
        ratios[index] = whole[:rows].square().mean() * 160
    low, high = one.interval
    assert float(ratios.std()) == pytest.approx((high - low) / (2 * Z), rel=0.12)
    assert float(ratios.mean()) == pytest.approx(1.0, abs=0.005)


def test_the_residual_layers_of_gpt_2_are_scaled_by_their_number() -> None:
    torch.manual_seed(0)
    blocks = [nn.ModuleDict({"c_proj": nn.Linear(200, 200)}) for _ in range(6)]
    for block in blocks:
        init.normal_(block["c_proj"].weight, std=0.02 / math.sqrt(12))
    rows = weightstats.inspect(nn.ModuleDict({"h": nn.ModuleList(blocks)})).layers
    assert len(rows) == 6
    assert {row.initialisation.candidates[0].name for row in rows} == {"normal 0.02/sqrt(2 blocks)"}


@pytest.mark.parametrize(
    ("make", "fan_in", "fan_out"),
    [
        (lambda: nn.Conv2d(288, 288, 3, groups=288), 9 * 288, 9),  # DepthwiseConv2D's kernel (3, 3, 288, 1)
        (lambda: nn.Conv2d(576, 1152, 3, groups=576), 9 * 576, 18),  # with a depth_multiplier of 2
        (lambda: nn.Conv2d(128, 64, 3, groups=4), 9 * 32, 9 * 64),  # Conv2D with groups: (3, 3, 32, 64)
        (lambda: nn.ConvTranspose2d(128, 64, 3), 9 * 64, 9 * 128),  # Conv2DTranspose: (3, 3, 64, 128)
        (lambda: nn.GRU(64, 128), 64, 3 * 128),  # the kernel of all gates: (64, 384)
    ],
    ids=["depthwise", "multiplier", "grouped", "transposed", "gates"],
)
def test_fans_that_keras_counts_otherwise(make: Callable[[], nn.Module], fan_in: int, fan_out: int) -> None:
    torch.manual_seed(0)
    bound = math.sqrt(6 / (fan_in + fan_out))  # compute_fans in keras/src/initializers/random_initializers.py
    module = make()
    name = "weight_ih_l0" if isinstance(module, nn.GRU) else "weight"
    for row in rows_of(filled(module, lambda weight: init.uniform_(weight, -bound, bound), name), name):
        assert row.initialisation.state == "as initialised"
        assert "Glorot uniform" in [candidate.name for candidate in row.initialisation.candidates]


def test_the_truncated_normals_of_keras_and_jax_have_the_nominal_variance() -> None:
    torch.manual_seed(0)
    deviation = math.sqrt(1 / 300) / 0.87962566103423978  # keras' VarianceScaling, jax.nn.initializers.lecun_normal
    fill = lambda weight: init.trunc_normal_(weight, 0.0, deviation, -2 * deviation, 2 * deviation)  # noqa: E731
    [row] = rows_of(filled(nn.Linear(300, 500), fill), "weight")
    assert [candidate.name for candidate in row.initialisation.candidates] == ["LeCun truncated normal"]
    assert row.initialisation.distribution == "truncated normal"
    assert pytest.approx(0.87962566103423978**2, rel=1e-12) == TRUNCATED_VARIANCE
    assert pytest.approx(float(stats.truncnorm.var(-2, 2)), rel=1e-9) == TRUNCATED_VARIANCE


@each_distribution
def test_the_kurtosis_is_that_of_the_density(distribution: Distribution) -> None:
    assert distribution.excess_kurtosis == pytest.approx(moment(distribution, 4) - 3, abs=1e-8)


@each_distribution
def test_the_share_beyond_a_magnitude_is_that_of_the_density(distribution: Distribution) -> None:
    for start in (0.0, 0.5, 1.0, 1.7, 2.2, 3.0):
        assert distribution.share_beyond(start) == pytest.approx(moment(distribution, 0, start), abs=1e-8)


@each_distribution
def test_the_peak_is_where_the_density_ends(distribution: Distribution) -> None:
    if math.isinf(distribution.peak):
        assert distribution.share_beyond(6.0) > 0.0
    else:
        assert distribution.share_beyond(distribution.peak) == pytest.approx(0.0, abs=1e-12)
        assert distribution.share_beyond(0.999 * distribution.peak) > 0.0


def samples(distribution: Distribution, times: int, count: int) -> torch.Tensor:
    """Samples of so many elements each."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.empty(times, count, dtype=torch.float64)
    if distribution.name == "uniform":
        return drawn.uniform_(-1, 1, generator=generator)
    if distribution is TRUNCATED:
        return torch.from_numpy(stats.truncnorm.ppf(drawn.uniform_(generator=generator).numpy(), -2, 2))
    return drawn.normal_(generator=generator)


def kurtosis_of(drawn: torch.Tensor) -> torch.Tensor:
    """The excess kurtosis of each row."""
    central = drawn - drawn.mean(1, keepdim=True)
    return (central**4).mean(1) / (central**2).mean(1) ** 2 - 3


@each_distribution
def test_the_kurtosis_of_samples_scatters_as_the_table_says(distribution: Distribution) -> None:
    count, times = 1000, 20_000
    kurtosis = kurtosis_of(samples(distribution, times, count))
    deviation = math.sqrt(distribution.variance / count)
    expected = distribution.excess_kurtosis + distribution.bias / count
    assert float(kurtosis.mean()) == pytest.approx(expected, abs=4 * deviation / math.sqrt(times))
    assert float(kurtosis.std()) == pytest.approx(deviation, rel=0.03)
    skewness = float((((kurtosis - kurtosis.mean()) / kurtosis.std()) ** 3).mean())
    assert skewness == pytest.approx(distribution.skew / math.sqrt(count), abs=0.1)


@each_distribution
@pytest.mark.parametrize("count", [300, 1000])
def test_the_score_of_a_kurtosis_is_standard_normal(distribution: Distribution, count: int) -> None:
    times = 10_000
    scores = torch.tensor(
        [
            score(Sample(count, 0, 0.0, 1.0, one, math.nan, 2.0**-24), distribution, distribution.excess_kurtosis)
            for one in kurtosis_of(samples(distribution, times, count)).tolist()
        ]
    )
    assert float(scores.mean()) == pytest.approx(0.0, abs=0.06)
    assert float(scores.std()) == pytest.approx(1.0, abs=0.06)
    for side in (scores, -scores):
        assert float((side > 3).float().mean()) == pytest.approx(0.00135, abs=0.003)


def test_elements_of_orthogonal_matrices_have_the_kurtosis_of_the_table() -> None:
    size, times = 12, 3000
    drawn = Drawn("linear", size * size, ((size, size),), (Matrix(size, size, size, size),), size, size)
    [expected] = {one.excess_kurtosis for one in hypotheses(drawn).all if one.name == "orthogonal"}
    generator = torch.Generator().manual_seed(0)
    matrices = [init.orthogonal_(torch.empty(size, size), generator=generator).flatten() for _ in range(times)]
    found = float((torch.stack(matrices) ** 4).double().mean()) * size**2 - 3
    assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("degrees", [50.0, 400.0, 1e5])
def test_the_interval_of_a_ratio_is_that_of_chi_squared(degrees: float) -> None:
    low, high = ratio_interval(degrees)
    assert low == pytest.approx(float(stats.chi2.ppf(TAIL, degrees)) / degrees, rel=0.01)
    assert high == pytest.approx(float(stats.chi2.isf(TAIL, degrees)) / degrees, rel=0.01)


def test_the_level_is_that_of_four_two_sided_tests() -> None:
    assert 8 * TAIL == LEVEL
    assert pytest.approx(float(special.ndtri(1 - TAIL)), abs=1e-3) == Z


def test_every_initialiser_names_its_source_and_has_positive_laws() -> None:
    drawn = {
        family: Drawn(family, 1200, ((30, 40), (60, 40)), (Matrix(40, 30, 40, 30),), 30, 40, 3)
        for one in INITIALISERS
        for family in one.families
    }
    for one in INITIALISERS:
        assert one.source
        assert all(law > 0.0 for family in one.families for law in one.laws(drawn[family]))
