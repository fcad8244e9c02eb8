"""Spectral normalisation is undone as torch undoes it, whichever way its vectors are kept; torch is the oracle."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from effective import assert_measured, kinds, reported, row
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import Memory, values
from torch import nn

from weightstats.effective_weights import parametrized, spectral_norm
from weightstats.effective_weights.computed import STEP_ELEMENTS
from weightstats.moments import measure
from weightstats.tensors import Storage, Tensor, make_tensor

STYLES = ("hooked", "parametrized")
MODULES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(9, 7),
    "square": lambda: nn.Linear(9, 9),
    "conv2d": lambda: nn.Conv2d(6, 10, 3),
    "square conv2d": lambda: nn.Conv2d(8, 8, 3),
    "conv_transpose2d": lambda: nn.ConvTranspose2d(6, 10, 4),
    "square conv_transpose1d": lambda: nn.ConvTranspose1d(8, 8, 3),
    "conv3d": lambda: nn.Conv3d(4, 5, 2),
}


def normalised(module: nn.Module, style: str, steps: int = 5, dim: int | None = None) -> nn.Module:
    """The module with one of torch's two spectral normalisations, after some steps of its power iteration."""
    module.weight.data.mul_(3.0)  # type: ignore[union-attr, operator]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older one is deprecated
        if style == "hooked":
            nn.utils.spectral_norm(module, dim=dim)
            for _ in range(steps):
                for hook in module._forward_pre_hooks.values():
                    hook(module, ())
        else:
            nn.utils.parametrizations.spectral_norm(module, dim=dim)
            for _ in range(steps):
                _ = module.weight
    return module


def weight_of(module: nn.Module, style: str) -> torch.Tensor:
    """What torch computes with where it does not train; in float64."""
    module.eval()
    module.double()
    if style == "hooked":
        for hook in module._forward_pre_hooks.values():
            hook(module, ())
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()


def carrier(style: str) -> str:
    return "weight_orig" if style == "hooked" else "parametrizations.weight.original"


def tensor_of(array: torch.Tensor) -> Tensor:
    content = array.contiguous().numpy().tobytes()
    return make_tensor(("t",), tuple(array.shape), "F32", Storage(Memory(content), 0, len(content)))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", MODULES)
def test_a_weight_is_measured_as_torch_computes_it(tmp_path: Path, style: str, name: str) -> None:
    torch.manual_seed(0)
    module = normalised(MODULES[name](), style)
    report = reported(tmp_path, module.state_dict())
    found = row(report, carrier(style))
    assert_measured(found, weight_of(module, style))
    assert found.scale_free_because == "its scale is set by its spectral normalisation"
    assert found.kind_because.endswith(
        "what is stored over the largest singular value that its vectors estimate: spectral normalisation"
    )
    assert sorted(kinds(report).values()) == ["bias", "buffer", "buffer"]


def test_known_numbers() -> None:
    tensors = {
        "weight_orig": tensor_of(torch.tensor([[3.0, 0.0], [0.0, 1.0]])),
        "weight_u": tensor_of(torch.tensor([1.0, 0.0])),
        "weight_v": tensor_of(torch.tensor([1.0, 0.0])),
    }
    [combined] = spectral_norm.combined(tensors, {})
    assert combined.tensor is not None
    assert values(combined.tensor) == pytest.approx([1.0, 0.0, 0.0, 1 / 3])


def test_vectors_along_another_dimension_are_used_where_only_that_fits(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = normalised(nn.Linear(9, 7), "parametrized", dim=1)
    found = row(reported(tmp_path, module.state_dict()), carrier("parametrized"))
    assert_measured(found, weight_of(module, "parametrized"))


def test_a_square_matrix_is_taken_with_its_rows_first(tmp_path: Path) -> None:
    torch.manual_seed(6)
    state = {"weight_orig": torch.randn(30, 30), "weight_u": torch.randn(30), "weight_v": torch.randn(30)}
    weight, left, right = (value.double() for value in state.values())
    assert_measured(row(reported(tmp_path, state), "weight_orig"), weight / (left @ weight @ right), 1e-5)


def test_without_the_right_vector_it_is_what_the_weight_makes_of_the_left_one(tmp_path: Path) -> None:
    torch.manual_seed(2)
    for module in (nn.Conv2d(6, 10, 3), nn.ConvTranspose2d(6, 10, 3), nn.ConvTranspose2d(8, 8, 3)):
        state = normalised(module, "hooked", steps=30).state_dict()
        right = state.pop("weight_v")
        rows = state["weight_orig"] if isinstance(module, nn.Conv2d) else state["weight_orig"].transpose(0, 1)
        sigma = (rows.flatten(1).double().T @ state["weight_u"].double()).norm()
        report = reported(tmp_path, {**state, "weight": state["weight_orig"] / sigma})
        assert_measured(row(report, "weight_orig"), state["weight_orig"] / sigma)
        assert kinds(report)["weight"] == "buffer"
        assert len(right) == rows.flatten(1).shape[1]


def test_the_older_name_of_the_weight_is_known(tmp_path: Path) -> None:
    torch.manual_seed(3)
    module = normalised(nn.Conv2d(6, 6, 3), "hooked")
    state = {name.replace("_orig", "_bar"): value for name, value in module.state_dict().items()}
    assert_measured(row(reported(tmp_path, state), "weight_bar"), weight_of(module, "hooked"))


@settings(deadline=None, max_examples=100)
@given(shape=st.lists(st.integers(1, 6), min_size=2, max_size=4), order=st.randoms(), seed=st.integers(0, 2**16))
def test_every_shape_and_layout_gives_the_elements_that_torch_gives(
    shape: list[int], order: "object", seed: int
) -> None:
    torch.manual_seed(seed)
    weight = torch.randn(shape)
    left, right = torch.randn(shape[0]), torch.randn(weight[0].numel())
    axes = list(range(len(shape)))
    order.shuffle(axes)  # type: ignore[attr-defined]
    stored = weight.permute(axes).contiguous()
    strides = [0] * len(shape)
    for place, axis in enumerate(axes):
        strides[axis] = stored.stride(place)
    content = stored.numpy().tobytes()
    tensor = make_tensor(("w",), tuple(shape), "F32", Storage(Memory(content), 0, len(content)), 0, tuple(strides))
    tensors = {"weight_bar": tensor, "weight_u": tensor_of(left), "weight_v": tensor_of(right)}
    [combined] = spectral_norm.combined(tensors, {})
    sigma = left.double() @ weight.flatten(1).double() @ right.double()
    assert combined.tensor is not None
    np.testing.assert_allclose(values(combined.tensor), (stored.double() / sigma).reshape(-1), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, STEP_ELEMENTS + 7), (STEP_ELEMENTS + 7, 3), (500, 300, 3)], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_tensors_of_many_blocks_are_right_in_both_dimensions(shape: tuple[int, ...], axis: int) -> None:
    torch.manual_seed(4)
    weight = torch.randn(shape)
    matrix = weight.transpose(0, axis).flatten(1).double()
    left = torch.randn(shape[axis])
    right = (left.double() @ matrix).float()
    tensors = {"weight_orig": tensor_of(weight), "weight_u": tensor_of(left), "weight_v": tensor_of(right)}
    for known in (tensors, {name: tensor for name, tensor in tensors.items() if name != "weight_v"}):
        [combined] = spectral_norm.combined(known, {})
        value = left.double() @ matrix
        sigma = value @ right.double() if len(known) == 3 else value.norm()
        assert combined.tensor is not None
        np.testing.assert_allclose(values(combined.tensor), (weight.double() / sigma).reshape(-1), rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.0, float("nan")])
def test_a_singular_value_that_is_no_number_gives_what_torch_gives(tmp_path: Path, sigma: float) -> None:
    state = {"weight_orig": torch.randn(3, 4), "weight_u": torch.full((3,), sigma), "weight_v": torch.ones(4)}
    assert row(reported(tmp_path, state), "weight_orig").nonfinite == 12


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("which", "size"), [(0, 5), (1, 5), (0, 0), (1, 36)])
def test_vectors_of_a_wrong_length_leave_the_weight_as_it_is_stored(
    tmp_path: Path, style: str, which: int, size: int
) -> None:
    state = normalised(nn.Conv2d(2, 3, 3), style).state_dict()
    vector = [name for name in state if name.endswith(("_u", "_v"))][which]
    state[vector] = torch.ones(size)
    report = reported(tmp_path, state)
    found = row(report, carrier(style))
    assert_measured(found, state[carrier(style)])
    assert re.search(
        r"measured as stored, with its spectral normalisation undone: its vectors, of \d+ and \d+ elements, do not fit "
        r"the shape \(3, 2, 3, 3\)",
        found.kind_because,
    )
    assert found.scale_free_because is None
    assert (found.kind, kinds(report)[vector]) == ("conv2d", "buffer" if size else "empty")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"weight_u": torch.ones(3, dtype=torch.int64)}, "not all floating-point"),
        ({"weight_u": torch.ones(6)[::2]}, "do not lie side by side"),
        ({"weight_orig": torch.ones(3, 8)[:, ::2]}, "do not lie side by side"),
    ],
)
def test_what_cannot_be_worked_out_is_said(tmp_path: Path, changed: dict[str, torch.Tensor], reason: str) -> None:
    state = {"weight_orig": torch.randn(3, 4), "weight_u": torch.ones(3), "weight_v": torch.ones(4), **changed}
    assert reason in row(reported(tmp_path, state), "weight_orig").kind_because


def test_vectors_that_fit_two_dimensions_and_belong_to_neither_are_a_reason() -> None:
    torch.manual_seed(5)
    weight, left, right = torch.randn(64, 64, 3), torch.randn(64), torch.randn(192)
    tensors = {"weight_orig": tensor_of(weight), "weight_u": tensor_of(left), "weight_v": tensor_of(right)}
    [combined] = spectral_norm.combined(tensors, {})
    assert combined.tensor is not None
    [found] = measure([combined.tensor])
    assert found == "the vectors of its spectral normalisation fit two of its dimensions, and are not those of either"


def test_a_weight_that_is_pruned_or_lacks_its_vectors_is_left_alone() -> None:
    tensors = {name: tensor_of(torch.ones(3, 3)) for name in ("weight_orig", "weight_mask", "weight_v")}
    assert spectral_norm.combined(tensors, {}) == []


def test_longer_vectors_than_are_held_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral_norm, "MOST_NUMBERS", 3)
    tensors = {"weight_orig": tensor_of(torch.ones(2, 4)), "weight_u": tensor_of(torch.ones(2))}
    assert "more than the 3 elements" in spectral_norm.combined(tensors, {})[0].because
    tensors["weight_v"] = tensor_of(torch.ones(4))
    assert "more than the 3 elements" in spectral_norm.combined(tensors, {})[0].because


def test_another_parametrization_is_measured_as_stored_under_the_kind_of_its_weight(tmp_path: Path) -> None:
    module = nn.Conv1d(4, 6, 3)
    nn.utils.parametrize.register_parametrization(module, "weight", nn.Softplus(), unsafe=True)
    found = row(reported(tmp_path, module.state_dict()), "parametrizations.weight.original")
    assert_measured(found, module.state_dict()["parametrizations.weight.original"])
    assert found.kind == "conv1d"
    assert found.kind_because.endswith("the parametrization's function is not in the file: measured as stored")


def test_an_orthogonal_map_is_known_as_its_weight() -> None:
    module = nn.utils.parametrizations.orthogonal(nn.Linear(4, 3))
    name = "parametrizations.weight.original"
    tensors = {f"head.{key}": tensor_of(value) for key, value in module.state_dict().items()}
    [combined] = parametrized.combined(tensors, {})
    assert (combined.carrier, combined.known_as) == (f"head.{name}", "head.weight")
    assert set(combined.companions) == {"head.parametrizations.weight.0.base"}
