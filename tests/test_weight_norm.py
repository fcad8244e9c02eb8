"""Weight normalisation is undone as torch undoes it, whichever dimension, dtype and layout; torch is the oracle."""

import re
import threading
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from effective import assert_measured, kinds, moments, reported, row
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import Memory, values
from torch import nn

from weightstats.effective_weights import computed, weight_norm
from weightstats.effective_weights.computed import STEP_ELEMENTS
from weightstats.errors import CheckpointError
from weightstats.inspection import inspect
from weightstats.moments import measure
from weightstats.tensors import Storage, Tensor, make_tensor

STYLES = ("hooked", "parametrized")


def normalised(module: nn.Module, style: str, name: str = "weight", dim: int | None = 0) -> nn.Module:
    """The module with one of torch's two weight normalisations, its magnitudes other than the norms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older one is deprecated
        apply = nn.utils.weight_norm if style == "hooked" else nn.utils.parametrizations.weight_norm
        apply(module, name, dim)
    state = module.state_dict()
    for key, value in state.items():
        if key.endswith(("_g", "original0")):
            state[key] = value * torch.linspace(0.5, 2.0, value.numel()).reshape(value.shape)
    module.load_state_dict(state)
    return module


def weight_of(module: nn.Module, style: str, name: str = "weight") -> torch.Tensor:
    """What torch computes with, once the normalisation is removed; in float64."""
    module.double()
    if style == "hooked":
        nn.utils.remove_weight_norm(module, name)
    else:
        nn.utils.parametrize.remove_parametrizations(module, name)
    return getattr(module, name)


def carrier(style: str, name: str = "weight") -> str:
    return f"{name}_v" if style == "hooked" else f"parametrizations.{name}.original1"


def tensor_of(array: torch.Tensor, memory: Callable[[bytes], Memory] = Memory) -> Tensor:
    content = array.contiguous().numpy().tobytes()
    return make_tensor(("t",), tuple(array.shape), "F32", Storage(memory(content), 0, len(content)))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("dim", [0, 1, 2, None])
def test_a_convolution_is_measured_as_torch_computes_it(tmp_path: Path, style: str, dim: int | None) -> None:
    torch.manual_seed(0)
    module = normalised(nn.Conv1d(12, 20, 5), style, dim=dim)
    report = reported(tmp_path, module.state_dict())
    found = row(report, carrier(style))
    assert_measured(found, weight_of(module, style))
    assert (found.kind, found.n_in, found.n_out, found.fitted) == ("conv1d", 60, 100, True)
    assert found.kind_because.endswith("its direction times its magnitudes: weight normalisation")
    assert set(kinds(report).values()) == {"parameter", "bias"}


@pytest.mark.parametrize("style", STYLES)
def test_a_matrix_of_a_recurrent_layer_keeps_its_kind(tmp_path: Path, style: str) -> None:
    torch.manual_seed(1)
    module = normalised(nn.LSTM(6, 9), style, "weight_hh_l0")
    report = reported(tmp_path, module.state_dict(), as_stored=True)
    found = row(report, carrier(style, "weight_hh_l0"))
    assert_measured(found, weight_of(module, style, "weight_hh_l0"))
    assert found.kind == "lstm"


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float16, 1e-6), (torch.bfloat16, 1e-6), (torch.float64, 1e-12)])
def test_any_floating_dtype_is_read(tmp_path: Path, dtype: torch.dtype, accuracy: float) -> None:
    torch.manual_seed(2)
    module = normalised(nn.Linear(300, 250), "hooked").to(dtype)
    found = row(reported(tmp_path, module.state_dict()), "weight_v")
    assert_measured(found, weight_of(module, "hooked"), accuracy)
    assert found.dtype == {torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}[dtype]


def test_known_numbers() -> None:
    direction, magnitudes = tensor_of(torch.tensor([[3.0, 4.0], [0.0, 2.0]])), tensor_of(torch.tensor([[10.0], [3.0]]))
    [combined] = weight_norm.combined({"a.weight_v": direction, "a.weight_g": magnitudes}, {})
    assert combined.tensor is not None
    assert values(combined.tensor).tolist() == [6.0, 8.0, 0.0, 3.0]
    assert (combined.carrier, combined.known_as) == ("a.weight_v", "a.weight")
    assert combined.companions["a.weight_g"].because == "magnitudes of a weight normalisation"


def test_a_slice_without_a_norm_is_what_torch_gives(tmp_path: Path) -> None:
    module = normalised(nn.Linear(4, 3), "parametrized")
    state = module.state_dict()
    state["parametrizations.weight.original1"][1] = 0.0
    found = row(reported(tmp_path, state), "parametrizations.weight.original1")
    module.load_state_dict(state)
    weight = weight_of(module, "parametrized")
    assert torch.isnan(weight).sum() == 4
    assert_measured(found, weight)


@settings(deadline=None, max_examples=150)
@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    dim=st.integers(-1, 3),
    order=st.randoms(),
    seed=st.integers(0, 2**16),
)
def test_every_shape_dimension_and_layout_gives_the_elements_that_torch_gives(
    shape: list[int], dim: int, order: "object", seed: int
) -> None:
    dim = min(dim, len(shape) - 1)
    torch.manual_seed(seed)
    direction = torch.randn(shape)
    magnitudes = torch.rand_like(torch.norm_except_dim(direction, 2, dim)) + 0.5
    axes = list(range(len(shape)))
    order.shuffle(axes)  # type: ignore[attr-defined]
    stored = direction.permute(axes).contiguous()
    strides = [0] * len(shape)
    for place, axis in enumerate(axes):
        strides[axis] = stored.stride(place)
    content = stored.numpy().tobytes()
    tensor = make_tensor(("v",), tuple(shape), "F32", Storage(Memory(content), 0, len(content)), 0, tuple(strides))
    [combined] = weight_norm.combined({"weight_v": tensor, "weight_g": tensor_of(magnitudes)}, {})
    expected = torch._weight_norm(direction.double(), magnitudes.double(), dim)
    assert combined.tensor is not None
    assert combined.tensor.shape == tuple(shape)
    np.testing.assert_allclose(values(combined.tensor), expected.permute(axes).reshape(-1), rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "magnitudes"),
    [
        ((3, STEP_ELEMENTS + 7), (3, 1)),
        ((2 * STEP_ELEMENTS + 3, 3), (2 * STEP_ELEMENTS + 3, 1)),
        ((5, 1000, 77), (1, 1000, 1)),
        ((70_000, 3), (1, 3)),
        ((3, 70_000), (1, 70_000)),
        ((1, 300_000), (1, 300_000)),
        ((50, 60, 70), ()),
        ((50, 60, 70), (1,)),
        ((1, 60, 700), (1, 1, 1)),
    ],
    ids=str,
)
def test_tensors_of_many_blocks_are_right_at_every_edge(shape: tuple[int, ...], magnitudes: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    direction, sizes = torch.randn(shape), torch.rand(magnitudes) + 0.5
    [combined] = weight_norm.combined({"weight_v": tensor_of(direction), "weight_g": tensor_of(sizes)}, {})
    axes = [axis for axis, size in enumerate(shape) if not magnitudes or len(magnitudes) == 1 or magnitudes[axis] == 1]
    norms = direction.double().square().sum(dim=axes, keepdim=True).sqrt()
    assert combined.tensor is not None
    np.testing.assert_allclose(values(combined.tensor), (direction * sizes / norms).reshape(-1), rtol=1e-6)


def test_sections_can_be_read_in_any_order_by_threads_at_once() -> None:
    torch.manual_seed(4)
    direction = torch.randn(3, 900_000)
    sizes = torch.rand(3, 1)
    [combined] = weight_norm.combined({"weight_v": tensor_of(direction), "weight_g": tensor_of(sizes)}, {})
    before = threading.Thread(target=threading.Event().wait, args=(2,))
    before.start()  # with another thread alive, the workers are threads
    try:
        found = moments(combined.tensor, workers=3)
    finally:
        before.join()
    assert_measured(found, direction.double() * sizes / direction.double().norm(dim=1, keepdim=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_large_weights_are_the_same_for_any_number_of_processes(tmp_path: Path, workers: int) -> None:
    torch.manual_seed(5)
    module = nn.Conv1d(500, 5000, 6)
    state = normalised(module, "hooked", dim=2).state_dict()
    found = row(reported(tmp_path, state, workers=workers), "weight_v")
    assert_measured(found, weight_of(module, "hooked"))


def test_compressed_storages_are_read_forwards(tmp_path: Path) -> None:
    torch.manual_seed(6)
    module = normalised(nn.Linear(700, 900), "hooked")
    torch.save(module.state_dict(), tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "small.pt", "w", 8) as small:
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    assert_measured(row(inspect(str(tmp_path / "small.pt")), "weight_v"), weight_of(module, "hooked"))


def test_each_reader_of_a_compressed_storage_has_positions_of_its_own() -> None:
    class Stream(Memory):
        position = 0

        def __init__(self, content: bytes) -> None:
            super().__init__(content, sequential=True)

        def reader(self) -> "Stream":
            return Stream(self.content)

        def read_into(self, offset: int, buffer: memoryview) -> None:
            assert offset >= self.position, "read backwards"
            self.position = offset + len(buffer)
            super().read_into(offset, buffer)

    direction = torch.randn(5, STEP_ELEMENTS)
    tensors = {"weight_v": tensor_of(direction, Stream), "weight_g": tensor_of(torch.rand(5, 1), Stream)}
    [combined] = weight_norm.combined(tensors, {})
    assert combined.tensor is not None
    source, found = combined.tensor.storage.source, []
    for order in ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (1, 2), (1, 3), (0, 3)):
        if order[1] == 0:
            found.append(source.reader())
        found[order[0]].read_into(order[1] * 4 * STEP_ELEMENTS, memoryview(bytearray(4 * STEP_ELEMENTS)))


def test_what_lies_deep_in_a_compressed_storage_is_measured_as_stored(tmp_path: Path) -> None:
    whole = torch.randn(100_000)
    torch.save({"weight_v": whole[90_000:90_012].reshape(3, 4), "weight_g": torch.ones(3, 1)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "small.pt", "w", 8) as small:
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    assert "deep in a compressed storage" in row(inspect(str(tmp_path / "small.pt")), "weight_v").kind_because


def test_views_of_one_storage_are_normalised_each_for_itself(tmp_path: Path) -> None:
    whole = torch.randn(60)
    report = reported(tmp_path, {"weight_v": whole[20:50].reshape(5, 6), "weight_g": whole[50:55].reshape(5, 1)})
    expected = torch._weight_norm(whole[20:50].reshape(5, 6).double(), whole[50:55].reshape(5, 1).double(), 0)
    assert_measured(row(report, "weight_v"), expected)


def test_infinities_of_half_precision_are_what_torch_makes_of_them(tmp_path: Path) -> None:
    direction, magnitudes = torch.randn(3, 4).half(), torch.ones(3, 1).half()
    direction[1, 2], magnitudes[0] = float("inf"), float("nan")
    found = row(reported(tmp_path, {"weight_v": direction, "weight_g": magnitudes}), "weight_v")
    assert_measured(found, torch._weight_norm(direction.double(), magnitudes.double(), 0))
    assert found.nonfinite == 5  # a NaN where the infinity is, zeros beside it


def test_directions_that_are_tied_are_one_layer(tmp_path: Path) -> None:
    state = normalised(nn.Linear(4, 3), "hooked").state_dict()
    doubled = {f"{module}.{name}": value for module in ("a", "b") for name, value in state.items()}
    report = reported(tmp_path, doubled)
    assert [(layer.name, layer.tied_to) for layer in report.layers] == [("a.weight_v", ("b.weight_v",))]


def test_everything_that_is_stored_is_accounted_for(tmp_path: Path) -> None:
    state = normalised(nn.Linear(4, 3), "hooked").state_dict()
    accounting = reported(tmp_path, state).accounting
    assert accounting.stored.tensors == 3
    assert accounting.stored.bytes == 4 * (12 + 3 + 3)
    assert accounting.layers.bytes == 48


@pytest.mark.parametrize(
    ("magnitudes", "reason"),
    [
        (torch.ones(5, 1), r"magnitudes of shape \(5, 1\) do not fit a direction of shape \(3, 4\)"),
        (torch.ones(3), r"magnitudes of shape \(3,\) do not fit"),
        (torch.ones(3, 4), r"magnitudes of shape \(3, 4\) do not fit"),
        (torch.ones(1, 1), r"magnitudes of shape \(1, 1\) do not fit"),
        (torch.ones(0), r"magnitudes of shape \(0,\) do not fit"),
        (torch.ones(3, 1, dtype=torch.int32), "not both floating-point"),
        (torch.ones(6, 1)[::2], "do not lie side by side"),
    ],
)
def test_magnitudes_that_do_not_fit_leave_the_direction_as_it_is_stored(
    tmp_path: Path, magnitudes: torch.Tensor, reason: str
) -> None:
    direction = torch.arange(12.0).reshape(3, 4)
    found = row(reported(tmp_path, {"weight_v": direction, "weight_g": magnitudes}), "weight_v")
    assert_measured(found, direction)
    assert not found.fitted
    assert re.search(f"measured as stored, without its magnitudes: .*{reason}", found.kind_because)


@pytest.mark.parametrize("name", ["weight_v", "weight_ih_l0_v"])
def test_a_direction_without_magnitudes_is_not_fitted(tmp_path: Path, name: str) -> None:
    found = row(reported(tmp_path, {name: torch.randn(3, 4)}), name)
    assert (found.fitted, found.left_out_because) == (
        False,
        "the direction of a weight normalisation: its scale is not the weight's",
    )


def test_the_vectors_of_a_spectral_normalisation_are_not_taken_for_it() -> None:
    tensors = {name: tensor_of(torch.ones(3)) for name in ("weight_v", "weight_g", "weight_orig")}
    assert weight_norm.combined(tensors, {}) == []


def test_more_norms_along_an_inner_dimension_than_are_held_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_norm, "MOST_NUMBERS", 3)
    tensors = {"weight_v": tensor_of(torch.ones(2, 4)), "weight_g": tensor_of(torch.ones(1, 4))}
    [combined] = weight_norm.combined(tensors, {})
    assert combined.tensor is None
    assert "4 along an inner dimension, more than the 3 that are held" in combined.because


def test_magnitudes_that_cannot_be_read_are_a_reason() -> None:
    class Damaged(Memory):
        def read_into(self, offset: int, buffer: memoryview) -> None:
            raise CheckpointError("memory", "the bytes are damaged")

    direction, magnitudes = tensor_of(torch.ones(3, 4)), tensor_of(torch.ones(3, 1), Damaged)
    [combined] = weight_norm.combined({"weight_v": direction, "weight_g": magnitudes}, {})
    assert combined.tensor is not None
    assert measure([combined.tensor, direction])[0] == "the bytes are damaged"


def test_memory_that_is_kept_does_not_grow_with_the_number_of_weights() -> None:
    for _ in range(3 * computed.MOST_ENTRIES):
        tensors = {"weight_v": tensor_of(torch.ones(30, 4)), "weight_g": tensor_of(torch.ones(30, 1))}
        [combined] = weight_norm.combined(tensors, {})
        moments(combined.tensor)
    assert len(computed._remembered) == computed.MOST_ENTRIES
    for number in range(5):
        computed.remembered(("large", number), lambda: np.zeros(computed.MOST_REMEMBERED // 16))
    assert sum(array.nbytes for array in computed._remembered.values()) <= computed.MOST_REMEMBERED


def test_what_is_kept_is_worked_out_once_for_all_threads() -> None:
    calls: list[int] = []

    def work_out() -> np.ndarray:
        calls.append(1)
        threading.Event().wait(0.05)
        return np.zeros(1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: computed.remembered("once", work_out), range(4)))
    assert len(calls) == 1
