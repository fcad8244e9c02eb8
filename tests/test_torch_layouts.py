"""Quantised and sparse tensors of torch are read as the numbers that they stand for, or listed with the reason."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers import (
    FORMATS,
    Call,
    Stored,
    distinct,
    ending_soon,
    floats,
    named_values,
    opened,
    pickled,
    reasons,
    saved,
    values,
    view,
    zip_file,
)
from torch import nn
from torch._utils import _rebuild_qtensor, _rebuild_sparse_tensor

import weightstats
from weightstats.limits import changed_limits

pytestmark = pytest.mark.filterwarnings("ignore")  # torch is about to drop or still builds some of these layouts

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


def by_channel(tensor: torch.Tensor, axis: int, dtype: torch.dtype = torch.qint8) -> torch.Tensor:
    channels = tensor.shape[axis]
    scales = torch.linspace(0.01, 0.5, channels, dtype=torch.float64)
    zero_points = torch.arange(channels) % 7
    return torch.quantize_per_channel(tensor, scales, zero_points, axis, dtype)


def per_row(tensor: torch.Tensor) -> torch.Tensor:
    scales, zero_points = torch.linspace(0.01, 0.5, len(tensor)), torch.linspace(0.5, 9.25, len(tensor))
    return torch.quantize_per_channel(tensor, scales, zero_points, 0, torch.quint8)


QUANTISED: dict[str, Callable[[], torch.Tensor]] = {
    "qint8": lambda: torch.quantize_per_tensor(normal(4, 5), 0.1, 3, torch.qint8),
    "quint8": lambda: torch.quantize_per_tensor(normal(4, 5), 0.02, 128, torch.quint8),
    "qint32": lambda: torch.quantize_per_tensor(normal(4, 5), 1e-6, 5, torch.qint32),
    "a tiny scale": lambda: torch.quantize_per_tensor(normal(4), 1e-30, 0, torch.qint32),
    "a view": lambda: torch.quantize_per_tensor(normal(6, 5), 0.1, 0, torch.qint8)[2:4],
    "transposed": lambda: torch.quantize_per_tensor(normal(6, 5), 0.1, 0, torch.qint8).t(),
    "no elements": lambda: torch.quantize_per_tensor(normal(0, 5), 0.1, 0, torch.qint8),
    "by channel 0": lambda: by_channel(normal(4, 3, 2), 0),
    "by channel 1": lambda: by_channel(normal(4, 3, 2), 1, torch.quint8),
    "by channel 2": lambda: by_channel(normal(4, 3, 2), 2, torch.qint32),
    "one channel": lambda: by_channel(normal(1, 5), 0),
    "channels last": lambda: by_channel(normal(4, 3, 2, 5).to(memory_format=torch.channels_last), 0),
    "by row with real zero points": lambda: per_row(normal(5, 7)),
    "by channel, no elements": lambda: by_channel(normal(3, 0), 0),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", QUANTISED)
def test_a_quantised_tensor_is_what_torch_dequantises_it_to(tmp_path: Path, name: str, kind: str) -> None:
    tensor = QUANTISED[name]()
    checkpoint = opened(tmp_path / "f", saved({"w": tensor}, **FORMATS[kind]))
    (found,) = checkpoint.tensors
    assert (found.shape, found.dtype.name) == (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    np.testing.assert_allclose(np.sort(values(found)), distinct(tensor.dequantize()), rtol=1e-6, atol=0)
    assert found.stored_bytes == tensor.numel() * tensor.element_size()
    assert (checkpoint.unread, checkpoint.objects_not_loaded) == ((), ())


@pytest.mark.parametrize("axis", [0, 1])
def test_each_element_has_the_scale_of_its_own_channel(tmp_path: Path, axis: int) -> None:
    tensor = by_channel(normal(4, 3, 2, 5).to(memory_format=torch.channels_last), axis)
    (found,) = opened(tmp_path / "f", saved({"w": tensor})).tensors
    order = sorted(range(4), key=lambda dimension: -tensor.stride(dimension))
    in_storage = tensor.dequantize().permute(order).reshape(-1).double().numpy()
    np.testing.assert_allclose(values(found), in_storage, rtol=1e-6, atol=0)


def test_many_channels_are_read_in_blocks_with_their_own_scales(tmp_path: Path) -> None:
    tensor = by_channel(normal(700, 1000), 0)
    (found,) = opened(tmp_path / "f", saved({"w": tensor})).tensors
    np.testing.assert_allclose(values(found), tensor.dequantize().double().numpy().reshape(-1), rtol=1e-6, atol=0)


def test_the_weights_of_a_quantised_module_are_reported(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    quantised = torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, torch.qint8)
    torch.save(quantised.state_dict(), tmp_path / "f.pt")
    weight = quantised[0].weight().dequantize().double()
    report = weightstats.inspect(str(tmp_path / "f.pt"))
    found = [row for row in report.layers if row.shape == (6, 8)]
    assert len(found) == 1
    assert math.isclose(found[0].mean_square, float((weight**2).mean()), rel_tol=1e-6)


BYTES = bytes(range(12))


def quantised(parameters: Any, shape: Any = (3, 4), strides: Any = (4, 1), kind: Any = torch.QInt8Storage) -> Call:
    return Call(_rebuild_qtensor, (Stored("0", 12, kind), 0, shape, strides, parameters, False, {}))


def channels(scales: Any, zero_points: Any, axis: Any = 0) -> tuple[Any, ...]:
    return (torch.per_channel_affine, scales, zero_points, axis)


SCALES, ZEROS = view(Stored("s", 3), [3]), view(Stored("z", 3, torch.LongStorage), [3])
GOOD = channels(SCALES, ZEROS)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (quantised((torch.per_tensor_affine, math.nan, 0)), "its scale is not a positive number"),
        (quantised((torch.per_tensor_affine, math.inf, 0)), "its scale is not a positive number"),
        (quantised((torch.per_tensor_affine, 0.0, 0)), "its scale is not a positive number"),
        (quantised((torch.per_tensor_affine, -0.5, 0)), "its scale is not a positive number"),
        (quantised((torch.per_tensor_affine, "1", 0)), "its scale is not a positive number"),
        (quantised((torch.per_tensor_affine, 10**400, 0)), "its scale is not a positive number"),
        (quantised((torch.per_tensor_affine, 0.5, 128)), "its zero point is not an integer from -128 to 127"),
        (quantised((torch.per_tensor_affine, 0.5, 0.5)), "its zero point is not an integer from -128 to 127"),
        (quantised((torch.per_tensor_affine, 0.5, None)), "its zero point is not an integer from -128 to 127"),
        (quantised((torch.per_tensor_affine, 0.5)), "it is quantised by a scheme that is not read"),
        (quantised((torch.per_tensor_symmetric, 0.5, 0)), "it is quantised by a scheme that is not read"),
        (quantised(("per_tensor_affine", 0.5, 0)), "it is quantised by a scheme that is not read"),
        (quantised(()), "it is quantised by a scheme that is not read"),
        (quantised(None), "it is quantised by a scheme that is not read"),
        (quantised((torch.per_tensor_affine, 0.5, 0), (3, 4), (4, 4)), "elements of a storage that holds 12"),
        (quantised((torch.per_tensor_affine, 0.5, 0), (3, 4), (184652, 1)), "elements of a storage that holds 12"),
        (quantised((torch.per_tensor_affine, 0.5, 0), kind=torch.QUInt4x2Storage), "QUInt4x2Storage is not one"),
        (quantised((torch.per_tensor_affine, 0.5, 0), kind=torch.QUInt2x4Storage), "QUInt2x4Storage is not one"),
        (quantised((torch.per_tensor_affine, 0.5, 0), kind=torch.CharStorage), "its storage is a CharStorage"),
        (quantised(channels(SCALES, ZEROS, 99)), "its axis of scales is not one of its dimensions"),
        (quantised(channels(SCALES, ZEROS, -1)), "its axis of scales is not one of its dimensions"),
        (quantised(channels(SCALES, ZEROS, "0")), "its axis of scales is not one of its dimensions"),
        (quantised(channels(SCALES, ZEROS, 1)), "it has 4 channels, but scales or zero points for 3"),
        (quantised(channels(view(Stored("s", 3), [2]), ZEROS)), "it has 3 channels, but scales or zero points for 2"),
        (quantised(channels(SCALES, view(Stored("z", 3, torch.LongStorage), [3], [10**9]))), "a storage that holds 3"),
        (quantised(channels(view(Stored("nan", 3), [3]), ZEROS)), "one of its scales is not a positive number"),
        (quantised(channels(view(Stored("zero", 3), [3]), ZEROS)), "one of its scales is not a positive number"),
        (quantised(channels(SCALES, view(Stored("far", 3, torch.LongStorage), [3]))), "not an integer from -128 to"),
        (quantised(channels(SCALES, [0, 0])), "it has 3 channels, 3 scales and 2 zero points"),
        (quantised(channels([1.0, "2", 3.0], [0, 0, 0])), "its scales and zero points are not numbers"),
        (quantised(channels([1.0, 10**400, 3.0], [0, 0, 0])), "its scales and zero points are not numbers"),
        (quantised(channels(None, None)), "a part of it is not a dense tensor"),
        (quantised(channels(Call(dict), ZEROS)), "a part of it is not a dense tensor"),
        (quantised(channels(view(Stored("none", 3), [3]), ZEROS)), "its storage none is not in the archive"),
        (quantised(GOOD, (3, 2), (4, 2)), "its elements are scattered over its storage"),
        (quantised(GOOD, (3, 4), (0, 1)), "its elements are scattered over its storage"),
        (quantised(GOOD, (3, 4), (1, 1)), "visit the same element in two places"),
    ],
)  # fmt: skip
def test_a_malformed_quantised_tensor_is_unread_and_costs_no_other(tmp_path: Path, tensor: Call, reason: str) -> None:
    storages = {
        "0": BYTES,
        "s": floats(1, 2, 3),
        "z": np.array([0, 1, 2], "<i8").tobytes(),
        "nan": floats(1, math.nan, 3),
        "zero": floats(1, 0, 3),
        "far": np.array([0, 128, 0], "<i8").tobytes(),
    }
    thing = {"bad": tensor, "good": quantised(GOOD), "listed": quantised(channels([1.0, 2.0, 3.0], [0, 1, 2]))}
    checkpoint = opened(tmp_path / "f", zip_file(pickled(thing), storages))
    expected = [0, 1, 2, 3, 6, 8, 10, 12, 18, 21, 24, 27]
    assert reason in reasons(checkpoint)["bad"]
    assert named_values(checkpoint) == {"good": expected, "listed": expected}


def test_the_scales_that_are_held_are_bounded(tmp_path: Path) -> None:
    content = saved([by_channel(normal(10, 2), 0) for _ in range(5)])
    with changed_limits({"quantised_channels": 60}):
        checkpoint = opened(tmp_path / "f", content)
    assert [tensor.name for tensor in checkpoint.tensors] == ["0", "1", "2"]
    assert all("--limit quantised_channels=N" in reason for reason in reasons(checkpoint).values())


# Sparse


def sparse(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    tensor = normal(*shape)
    return torch.where(tensor > 0.7, tensor, torch.zeros(())).to(dtype)


def hybrid() -> torch.Tensor:
    return sparse(6, 5, 4).to_sparse(1)


def unsorted() -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.tensor([[2, 0], [1, 3]]), torch.tensor([5.0, 6.0]), (3, 4))


SPARSE: dict[str, Callable[[], torch.Tensor]] = {
    "COO": lambda: sparse(6, 8).to_sparse(),
    "COO of 3 dimensions": lambda: sparse(4, 3, 5).to_sparse(),
    "COO of 1 dimension": lambda: sparse(9).to_sparse(),
    "COO, dense inside": hybrid,
    "COO, out of order": unsorted,
    "COO without elements": lambda: torch.zeros(3, 4).to_sparse(),
    "COO of no size": lambda: torch.zeros(0, 4).to_sparse(),
    "COO of float64": lambda: sparse(6, 8, dtype=torch.float64).to_sparse(),
    "COO of bfloat16": lambda: sparse(6, 8, dtype=torch.bfloat16).to_sparse(),
    "COO of complex numbers": lambda: torch.complex(sparse(6, 8), sparse(6, 8)).to_sparse(),
    "COO of integers": lambda: (sparse(6, 8) * 10).int().to_sparse(),
    "CSR": lambda: sparse(6, 8).to_sparse_csr(),
    "CSR with 32-bit indices": lambda: torch.sparse_csr_tensor(
        torch.tensor([0, 1, 3], dtype=torch.int32), torch.tensor([2, 0, 1], dtype=torch.int32), torch.ones(3), (2, 3)
    ),
    "CSR without elements": lambda: torch.zeros(3, 4).to_sparse_csr(),
    "CSR, dense inside": lambda: sparse(6, 8, 3).to_sparse_csr(dense_dim=1),
    "CSC": lambda: sparse(6, 8).to_sparse_csc(),
    "BSR": lambda: sparse(6, 8).to_sparse_bsr((2, 4)),
    "BSC": lambda: sparse(6, 8).to_sparse_bsc((3, 2)),
    "BSR, dense inside": lambda: sparse(6, 8, 3).to_sparse_bsr((2, 4), dense_dim=1),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", SPARSE)
def test_a_sparse_tensor_is_read_with_its_zeros(tmp_path: Path, name: str, kind: str) -> None:
    tensor = SPARSE[name]()
    checkpoint = opened(tmp_path / "f", saved({"w": tensor}, **FORMATS[kind]))
    (found,) = checkpoint.tensors
    dense = tensor.to_dense()
    assert (found.shape, found.elements) == (tuple(dense.shape), dense.numel())
    expected = dense.reshape(-1).to(torch.complex128 if dense.is_complex() else torch.float64).numpy()
    assert values(found).tolist() == (np.abs(expected) if dense.is_complex() else expected).tolist()
    assert (checkpoint.unread, checkpoint.objects_not_loaded) == ((), ())


def test_what_a_sparse_tensor_takes_is_what_is_stored(tmp_path: Path) -> None:
    tensor = unsorted()
    (found,) = opened(tmp_path / "f", saved([tensor])).tensors
    assert found.stored_bytes == 2 * 2 * 8 + 2 * 4


def test_a_sparse_tensor_of_many_blocks_is_read_whole(tmp_path: Path) -> None:
    tensor = sparse(1000, 700)
    (found,) = opened(tmp_path / "f", saved([tensor.to_sparse()])).tensors
    assert np.array_equal(values(found), tensor.reshape(-1).double().numpy())


def test_a_sparse_tensor_of_a_compressed_archive_is_read(tmp_path: Path) -> None:
    thing = {"w": coo()}
    checkpoint = opened(tmp_path / "f", zip_file(pickled(thing), STORAGES, method=8))
    assert named_values(checkpoint) == {"w": COO_VALUES}


def test_a_sparse_layer_is_measured_over_all_its_elements(tmp_path: Path) -> None:
    tensor = sparse(60, 80)
    torch.save({"fc.weight": tensor.to_sparse_csr()}, tmp_path / "f.pt")
    (row,) = weightstats.inspect(str(tmp_path / "f.pt")).layers
    assert math.isclose(row.mean_square, float((tensor.double() ** 2).mean()), rel_tol=1e-6)
    assert (row.elements, row.zeros) == (4800, int((tensor == 0).sum()))


STORAGES = {
    "i": np.array([0, 2, 1, 3], "<i8").tobytes(),
    "v": floats(5, 6),
    "out": np.array([0, 3, 1, 3], "<i8").tobytes(),
    "negative": np.array([0, -1, 1, 3], "<i8").tobytes(),
    "twice": np.array([1, 1, 3, 3], "<i8").tobytes(),
    "crow": np.array([0, 1, 1, 2], "<i8").tobytes(),
    "down": np.array([0, 2, 1, 2], "<i8").tobytes(),
    "late": np.array([1, 1, 1, 2], "<i8").tobytes(),
    "many": np.array([0, 1, 1, 1 << 20], "<i8").tobytes(),
    "wrap": np.array([0, 2**63 - 1, -(2**63), 2], "<i8").tobytes(),
    "col": np.array([1, 3], "<i8").tobytes(),
    "far": np.array([1, 4], "<i8").tobytes(),
    "before": np.array([-1, 3], "<i8").tobytes(),
}
COO_VALUES = [0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6]


def long(key: str, *shape: int) -> Call:
    return view(Stored(key, math.prod(shape), torch.LongStorage), shape)


VALUES = view(Stored("v", 2), [2])


def coo(indices: Any = None, stored: Any = VALUES, size: Any = (3, 4), layout: Any = torch.sparse_coo) -> Call:
    indices = long("i", 2, 2) if indices is None else indices
    return Call(_rebuild_sparse_tensor, (layout, (indices, stored, size, True)))


def csr(starts: Any = None, plain: Any = None, stored: Any = VALUES, size: Any = (3, 4), **more: Any) -> Call:
    starts, plain = long("crow", 4) if starts is None else starts, long("col", 2) if plain is None else plain
    return Call(_rebuild_sparse_tensor, (more.get("layout", torch.sparse_csr), (starts, plain, stored, size)))


PAIR = view(Stored("v", 2), [1, 2, 1])

MALFORMED = {
    "COO, out of range": (coo(long("out", 2, 2)), "one of its indices is out of range"),
    "COO, negative": (coo(long("negative", 2, 2)), "one of its indices is out of range"),
    "COO, uncoalesced": (coo(long("twice", 2, 2)), "stores an element more than once (uncoalesced)"),
    "COO, fewer values": (coo(stored=view(Stored("v", 2), [1])), "its indices and values are not of one shape"),
    "COO, more dimensions": (coo(size=(3,)), "its indices and values are not of one shape"),
    "COO, another inside": (coo(size=(3, 4, 5)), "its values are not of the shape of its dense part"),
    "COO, real indices": (coo(view(Stored("v", 2), [2, 1])), "its indices are not integers"),
    "COO, indices of one dimension": (coo(long("i", 4)), "its indices and values are not of one shape"),
    "COO, indices beyond their storage": (coo(view(Stored("i", 4, torch.LongStorage), [2, 3])), "that holds 4"),
    "COO, too large": (coo(size=(2**40, 2**40)), "--limit sparse_bytes=N sets"),
    "COO, negative size": (coo(size=(-3, 4)), "its size is malformed"),
    "COO, size of nothing": (coo(size=()), "its size is malformed"),
    "COO, no size": (coo(size=None), "its size is not made of integers"),
    "COO, size without places": (coo(size=(0, 2**60)), "that its size has no place for"),
    "COO, values of nothing": (coo(stored=None), "a part of it is not a dense tensor"),
    "another layout": (coo(layout=torch.strided), "a layout that is not read: strided"),
    "CSR, decreasing": (csr(long("down", 4)), "do not count its values"),
    "CSR, late start": (csr(long("late", 4)), "do not count its values"),
    "CSR, claiming more": (csr(long("many", 4)), "one of its indices is out of range"),
    "CSR, wrapping": (csr(long("wrap", 4)), "one of its indices is out of range"),
    "CSR, of another height": (csr(size=(4, 4)), "do not count its values"),
    "CSR, out of range": (csr(plain=long("far", 2)), "one of its indices is out of range"),
    "CSR, negative": (csr(plain=long("before", 2)), "one of its indices is out of range"),
    "CSR, of one dimension": (csr(size=(12,)), "with batches or malformed"),
    "CSR, with batches": (csr(long("crow", 1, 4)), "with batches or malformed"),
    "CSR, other values": (csr(stored=view(Stored("v", 2), [1, 2])), "its values are not of the shape"),
    "BSR without blocks": (csr(layout=torch.sparse_bsr), "its values are not of the shape"),
    "BSR, other blocks": (
        csr(long("crow", 4), long("col", 2), view(Stored("v", 2), [2, 1, 1], [1, 1, 1]), layout=torch.sparse_bsc),
        "do not count its values",
    ),
    "BSR, parts of blocks": (
        csr(plain=view(Stored("col", 2, torch.LongStorage), [1]), stored=PAIR, layout=torch.sparse_bsr),
        "not made of whole blocks",
    ),
    "BSR, empty blocks": (
        csr(long("crow", 4), long("col", 2), view(Stored("v", 2), [2, 0, 1], [1, 1, 1]), layout=torch.sparse_bsr),
        "not made of whole blocks",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_sparse_tensor_is_unread_and_costs_no_other(tmp_path: Path, name: str) -> None:
    tensor, reason = MALFORMED[name]
    thing = {"bad": tensor, "good": coo(), "compressed": csr()}
    with ending_soon():
        checkpoint = opened(tmp_path / "f", zip_file(pickled(thing), STORAGES))
    assert reason in reasons(checkpoint)["bad"]
    assert named_values(checkpoint) == {"good": COO_VALUES, "compressed": [0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6]}


def test_sparse_tensors_together_are_bounded(tmp_path: Path) -> None:
    content = zip_file(pickled([coo() for _ in range(5)]), STORAGES)
    for limits in ({"sparse_elements": 3 * 6}, {"sparse_bytes": 3 * 48}):
        with changed_limits(limits):
            checkpoint = opened(tmp_path / "f", content)
        assert [tensor.name for tensor in checkpoint.tensors] == ["0", "1", "2"]
        assert all(f"--limit {next(iter(limits))}=N" in reason for reason in reasons(checkpoint).values())


def test_indices_scattered_over_a_large_storage_are_not_gathered(tmp_path: Path) -> None:
    far = view(Stored("large", 10_000, torch.LongStorage), [2, 2], [9_000, 1])
    checkpoint = opened(tmp_path / "f", zip_file(pickled([coo(far)]), STORAGES | {"large": bytes(80_000)}))
    assert reasons(checkpoint) == {"0": "a part of it is scattered over its storage"}


# Others


class Around(torch.Tensor):
    """A tensor that holds its data in others."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Around":
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.detach.default:
            return cls(args[0].inner)
        raise NotImplementedError


@pytest.mark.parametrize("make", [Around, lambda inner: nn.Parameter(Around(inner))])
def test_of_a_tensor_around_another_the_other_is_read(tmp_path: Path, make: Callable[[Any], torch.Tensor]) -> None:
    checkpoint = opened(tmp_path / "f", saved({"w": make(torch.ones(2))}))
    assert named_values(checkpoint) == {"w.inner": [1, 1]}
    assert checkpoint.unread == ()


def test_a_tensor_around_none_is_listed(tmp_path: Path) -> None:
    rebuild = torch._utils._rebuild_wrapper_subclass
    fake = Call(rebuild, (torch._subclasses.FakeTensor, torch.float32, (3,), (1,), 0, torch.strided, "cpu", False))
    typed = Call(torch._tensor._rebuild_from_type_v2, (rebuild, Around, fake.arguments, {"inner": None}))
    thing = {"w": fake, "typed": typed, "b": VALUES}
    checkpoint = opened(tmp_path / "f", zip_file(pickled(thing), STORAGES))
    reason = "it was saved without data (a tensor around others that are not there)"
    assert reasons(checkpoint) == {"w": reason, "typed": reason}
    assert named_values(checkpoint) == {"b": [5, 6]}


def test_a_tensor_of_another_device_is_read_as_it_was_copied(tmp_path: Path) -> None:
    rebuild = torch._utils._rebuild_device_tensor_from_cpu_tensor
    thing = {"w": Call(rebuild, (view(Stored("v", 2), [2]), torch.float32, "maia:0", False))}
    assert named_values(opened(tmp_path / "f", zip_file(pickled(thing), STORAGES))) == {"w": [5, 6]}


def test_a_tensor_of_another_device_that_was_copied_to_numpy_is_read(tmp_path: Path) -> None:
    rebuild = torch._utils._rebuild_device_tensor_from_numpy
    thing = {"w": Call(rebuild, (np.ones((2, 3), "f4"), torch.bfloat16, "xla:0", False))}
    (found,) = opened(tmp_path / "f", zip_file(pickled(thing), {})).tensors
    assert (found.shape, values(found).tolist()) == ((2, 3), [1.0] * 6)


def test_arrays_of_numpy_in_a_torch_file_are_read(tmp_path: Path) -> None:
    thing = {"state": np.arange(6, dtype="i8").reshape(2, 3), "w": torch.ones(1), "best": np.float32(0.5)}
    for options in FORMATS.values():
        checkpoint = opened(tmp_path / "f", saved(thing, **options))
        assert named_values(checkpoint) == {"state": [0, 1, 2, 3, 4, 5], "w": [1]}
        assert checkpoint.objects_not_loaded == ("numpy._core.multiarray.scalar",)


def test_no_file_of_quantised_and_sparse_tensors_cut_short_raises_anything_else(tmp_path: Path) -> None:
    thing = {"q": by_channel(normal(3, 2), 0), "s": sparse(3, 4).to_sparse(), "c": sparse(3, 4).to_sparse_csr()}
    stream = io.BytesIO()
    torch.save(thing, stream, _use_new_zipfile_serialization=False)
    content = stream.getvalue()
    whole = named_values(opened(tmp_path / "f", content))
    for size in range(len(content) - 400, len(content)):
        try:
            found = named_values(opened(tmp_path / "f", content[:size]))
        except weightstats.CheckpointError:
            continue
        assert all(whole[name] == numbers for name, numbers in found.items())
