"""What torch.save writes is read as torch.load would, without a call; what is damaged costs no more than it must."""

import argparse
import collections
import fractions
import io
import math
import pickle
import re
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from makers import (
    FORMATS,
    Call,
    Stored,
    distinct,
    ending_soon,
    floats,
    legacy_file,
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

from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits
from weightstats.readers import open_checkpoint
from weightstats.readers.torch_legacy import MAGIC_NUMBER, PROTOCOL_VERSION
from weightstats.schemas.torch_records import TORCH_DTYPES

FIXTURES = Path(__file__).parent.parent / "fixtures"


class Block(nn.Module):
    """A module with everything that a module may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten())
        self.heads = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 1)})
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("steps", torch.tensor([1, 2]))
        self.register_parameter("nothing", None)
        self.rate = 0.1


Pair = collections.namedtuple("Pair", "first second")


def tensors_in(thing: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], torch.Tensor]:
    """Every tensor in what torch.load gave, by the keys that lead to it; a module's by its state dict."""
    match thing:
        case torch.Tensor():
            return {path: thing}
        case nn.Module():
            inside = thing.state_dict().items()
        case dict():
            inside = thing.items()
        case list() | tuple():
            inside = enumerate(thing)
        case argparse.Namespace():
            inside = vars(thing).items()
        case _:
            return {}
    return {at: tensor for key, value in inside for at, tensor in tensors_in(value, (*path, str(key))).items()}


def assert_read_as_torch_loads_it(path: Path) -> Checkpoint:
    return assert_read_as(path, torch.load(path, weights_only=False, map_location="cpu"))


def assert_read_as(path: Path, thing: Any) -> Checkpoint:
    expected = tensors_in(thing)
    checkpoint = open_checkpoint(str(path))
    assert checkpoint.unread == ()
    assert [(tensor.path, tensor.shape, tensor.dtype.name) for tensor in checkpoint.tensors] == [
        (at, tuple(tensor.shape), TORCH_DTYPES[str(tensor.dtype).removeprefix("torch.")])
        for at, tensor in expected.items()
    ]
    for tensor in checkpoint.tensors:
        oracle = expected[tensor.path]
        found = values(tensor)
        np.testing.assert_array_equal(np.sort(found), distinct(oracle))
        assert tensor.elements == oracle.numel() == found.size * tensor.repeats
        if oracle.is_contiguous() and not oracle.is_complex():
            np.testing.assert_array_equal(found, oracle.detach().to(torch.float64).numpy().reshape(-1))
    return checkpoint


def numbers(*shape: int) -> torch.Tensor:
    return torch.arange(1.0, math.prod(shape) + 1).reshape(shape)


def few(dtype: str) -> torch.Tensor:
    return torch.tensor([[0, 1], [1, 0]]).to(getattr(torch, dtype))


def every(dtype: str) -> torch.Tensor:
    """Elements of all bytes, so that no two dtypes give the same numbers; NaN and infinities among them."""
    if dtype == "bool":
        return torch.tensor([True, False])
    return torch.arange(256, dtype=torch.uint8).flip(0).view(getattr(torch, dtype))


def tied() -> dict[str, Any]:
    shared = numbers(3, 4)
    return {"embedding": shared, "head": shared, "flat": shared.view(12), "part": shared[1:], "other": numbers(3, 4)}


SAVED: dict[str, Callable[[], Any]] = {
    "flat state dict": lambda: nn.Linear(3, 2).state_dict(),
    "nested dicts": lambda: {"epoch": 3, "model": {"a": numbers(2), "deep": {"b": numbers(3)}}, "note": "text"},
    "one tensor": lambda: numbers(2, 3),
    "list of tensors": lambda: [numbers(2), {"a": numbers(1)}, (numbers(3), None)],
    "integer keys": lambda: {"state": {0: {"exp_avg": numbers(2)}, 10: {"exp_avg": numbers(3)}, 2: {"x": numbers(1)}}},
    "ordered dict": lambda: collections.OrderedDict([("z", numbers(2)), ("a", numbers(3))]),
    "default dict": lambda: collections.defaultdict(list, {"a": numbers(2), "b": [numbers(1)]}),
    "namespace beside tensors": lambda: {"args": argparse.Namespace(lr=0.1, start=numbers(2)), "a": numbers(3)},
    "parameter": lambda: {"a": nn.Parameter(numbers(2, 2)), "b": nn.Parameter(numbers(3), requires_grad=False)},
    "buffer": lambda: {"a": nn.Buffer(numbers(2, 2))},
    "whole sequential": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 2)),
    "whole module": Block,
    "module in a dict": lambda: {"model": Block(), "ema": {"net": nn.Linear(2, 2)}, "epoch": 1},
    "module behind DataParallel": lambda: nn.DataParallel(nn.Linear(2, 2)),
    "transformer layer": lambda: nn.TransformerEncoderLayer(4, 2, 8),
    "parameter list": lambda: nn.ModuleList([nn.ParameterList([numbers(2)]), nn.Linear(1, 1)]),
    "parameter dict": lambda: nn.ParameterDict({"k": numbers(3)}),
    "tied tensors": tied,
    "expanded": lambda: {"row": numbers(3).expand(4, 3), "one": torch.tensor([2.5]).expand(1000, 1000)},
    "transposed": lambda: {"t": numbers(3, 4).t(), "p": numbers(2, 3, 4).permute(2, 0, 1)},
    "sliced": lambda: {"a": numbers(10)[3:7], "b": numbers(10)[::3], "c": numbers(5, 6)[1:4, 2:5:2]},
    "column": lambda: {"a": numbers(4, 4)[:, 1], "b": numbers(300, 700)[:, ::7]},
    "empty and scalar": lambda: {"none": torch.empty(0), "rows": torch.empty(3, 0), "scalar": torch.tensor(3.5)},
    "not finite": lambda: {"a": torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-45])},
    "channels last": lambda: {"a": numbers(2, 3, 4, 5).to(memory_format=torch.channels_last)},
    "with hooks and gradients": lambda: {"a": (numbers(2).requires_grad_() * 2).detach().requires_grad_()},
    "conjugate view": lambda: {"a": torch.tensor([3 + 4j, 1 - 1j]).conj()},
    **{
        f"dtype {name}": lambda name=name: {"0 and 1": few(name), "all bytes": every(name)}
        for name in TORCH_DTYPES
    },
}  # fmt: skip


NOT_LOADED_BACK = {
    f"dtype {name}"
    for name in (*(name for name in TORCH_DTYPES if name.startswith("float8")), "uint16", "uint32", "uint64")
}
"""What torch saves in the legacy format and then cannot load (its UntypedStorage has no dtype)."""


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", SAVED)
def test_what_torch_saves_is_read_as_torch_loads_it(tmp_path: Path, name: str, kind: str) -> None:
    torch.manual_seed(0)
    thing = SAVED[name]()
    (tmp_path / "f").write_bytes(saved(thing, **FORMATS[kind]))
    if kind == "legacy" and name in NOT_LOADED_BACK:
        checkpoint = assert_read_as(tmp_path / "f", thing)
    else:
        checkpoint = assert_read_as_torch_loads_it(tmp_path / "f")
    assert checkpoint.format == f"torch {kind}"
    assert checkpoint.bytes == (tmp_path / "f").stat().st_size
    assert (checkpoint.warnings, checkpoint.damage) == ((), None)


@pytest.mark.parametrize(
    ("options", "protocol"),
    [(options, protocol) for options in FORMATS.values() for protocol in (1, 2, 3, 4, 5)],
)
def test_any_pickle_protocol_that_torch_can_save_with_is_read(
    tmp_path: Path, options: dict[str, Any], protocol: int
) -> None:
    thing = {"a": numbers(2), "model": nn.Linear(2, 2), "args": argparse.Namespace(x=1)}
    (tmp_path / "f").write_bytes(saved(thing, pickle_protocol=protocol, **options))
    assert_read_as_torch_loads_it(tmp_path / "f")


FIXTURE_FILES = [path for path in sorted(FIXTURES.rglob("*.p*t*")) if path.suffix in (".pt", ".pth")]


@pytest.mark.parametrize("path", FIXTURE_FILES, ids=lambda path: str(path.relative_to(FIXTURES)))
def test_a_fixture_is_read_as_torch_loads_it(path: Path) -> None:
    assert_read_as_torch_loads_it(path)


def test_there_are_fixtures_of_both_formats() -> None:
    assert {open_checkpoint(str(path)).format for path in FIXTURE_FILES} == {"torch zip", "torch legacy"}


def test_a_file_saved_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        (tmp_path / "f").write_bytes(saved({"a": numbers(2)}))
    finally:
        torch.serialization.set_crc32_options(True)
    assert_read_as_torch_loads_it(tmp_path / "f")


def test_a_view_with_the_negative_bit_is_unread_rather_than_read_with_the_wrong_signs(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "f", saved({"a": torch.tensor([1 + 2j, 3 + 4j]).conj().imag}))
    assert torch.load(tmp_path / "f")["a"].tolist() == [-2.0, -4.0]
    assert reasons(checkpoint) == {"a": "it is a view that changes the sign of what is stored (torch's negative bit)"}


# Names


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2)), id="sequential"),
        pytest.param(Block, id="nested"),
        pytest.param(lambda: nn.MultiheadAttention(4, 2), id="attention"),
        pytest.param(
            lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 1, 4), 2, enable_nested_tensor=False),
            id="transformer",
        ),
        pytest.param(lambda: nn.Embedding(3, 2), id="embedding"),
        pytest.param(lambda: nn.LSTM(2, 2, bidirectional=True), id="lstm"),
    ],
)
def test_the_names_of_a_whole_module_are_its_state_dict_s(tmp_path: Path, make: Callable[[], nn.Module]) -> None:
    module = make()
    checkpoint = opened(tmp_path / "f", saved(module))
    assert [tensor.name for tensor in checkpoint.tensors] == list(module.state_dict())


def test_a_module_that_is_registered_twice_is_listed_once_under_its_first_name(tmp_path: Path) -> None:
    shared = nn.Linear(2, 2)
    checkpoint = opened(tmp_path / "f", saved(nn.Sequential(shared, nn.ReLU(), shared)))
    assert [tensor.name for tensor in checkpoint.tensors] == ["0.weight", "0.bias"]


def test_tensors_of_a_module_that_its_state_dict_leaves_out_are_listed_all_the_same(tmp_path: Path) -> None:
    module = nn.Linear(1, 1, bias=False)
    module.register_buffer("mask", numbers(2), persistent=False)
    module.cache = [numbers(3)]
    names = [tensor.name for tensor in opened(tmp_path / "f", saved({"model": module})).tensors]
    assert sorted(names) == ["model.cache.0", "model.mask", "model.weight"]


def test_the_path_of_a_module_s_tensor_has_one_key_for_all_its_name(tmp_path: Path) -> None:
    [tensor] = opened(tmp_path / "f", saved({"ema": nn.Sequential(nn.Linear(1, 1, bias=False))})).tensors
    assert tensor.path == ("ema", "0.weight")


def test_a_key_that_is_neither_text_nor_an_integer_is_named_by_its_place(tmp_path: Path) -> None:
    thing = {None: numbers(1), (1, 2): numbers(1), b"k": numbers(1), 1.5: numbers(1), True: numbers(1), -3: numbers(1)}
    names = [tensor.name for tensor in opened(tmp_path / "f", saved(thing)).tensors]
    assert names == ["<key 0>", "<key 1>", "<key 2>", "<key 3>", "<key 4>", "-3"]


def test_tied_tensors_have_the_same_view_and_others_do_not(tmp_path: Path) -> None:
    for options in FORMATS.values():
        found = {tensor.name: tensor.view for tensor in opened(tmp_path / "f", saved(tied(), **options)).tensors}
        assert found["embedding"] == found["head"] == found["flat"]
        assert len(set(found.values())) == 3


@pytest.mark.parametrize(
    ("thing", "shapes"),
    [
        pytest.param(Pair(torch.ones(2), torch.ones(3)), {(2,), (3,)}, id="named tuple"),
        pytest.param({1: torch.ones(2), "1": torch.ones(3)}, {(2,), (3,)}, id="1 and '1'"),
    ],
)
def test_no_two_tensors_have_the_same_path(tmp_path: Path, thing: Any, shapes: set[tuple[int, ...]]) -> None:
    tensors = opened(tmp_path / "f", saved({"x": thing})).tensors
    assert {tensor.shape for tensor in tensors} == shapes
    assert len({tensor.path for tensor in tensors}) == len(tensors)


def with_attribute() -> torch.Tensor:
    tensor = torch.ones(2)
    tensor.extra = torch.ones(3)
    return tensor


@pytest.mark.parametrize(
    "thing",
    [
        pytest.param({torch.ones(3): "key"}, id="as a key"),
        pytest.param({"a": with_attribute()}, id="as another tensor's attribute"),
    ],
)
def test_a_tensor_in_an_odd_place_is_accounted_for(tmp_path: Path, thing: Any) -> None:
    checkpoint = opened(tmp_path / "f", saved(thing))
    assert (3,) in [tensor.shape for tensor in checkpoint.tensors] or checkpoint.unread


# Duplicate keys


def with_two_keys_made_one() -> bytes:
    plain = pickled({"first": view(Stored("0", 3), [1]), "secnd": view(Stored("0", 3), [1], offset=2)})
    return zip_file(plain.replace(b"secnd", b"first"), {"0": floats(1, 2, 3)})


def twice_in(kind: type, key: object) -> bytes:
    tensors = [view(Stored("0", 3), [1], offset=offset) for offset in (0, 2)]
    return zip_file(pickled(Call(kind, (), tuple((key, tensor) for tensor in tensors))), {"0": floats(1, 2, 3)})


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(with_two_keys_made_one(), id="dict"),
        pytest.param(twice_in(dict, "first"), id="dict by a call"),
        pytest.param(twice_in(collections.OrderedDict, "first"), id="ordered dict"),
    ],
)
def test_of_two_equal_keys_the_last_counts_with_a_warning(tmp_path: Path, content: bytes) -> None:
    checkpoint = opened(tmp_path / "f", content)
    assert torch.load(tmp_path / "f", weights_only=False)["first"].tolist() == [3.0]
    assert named_values(checkpoint) == {"first": [3.0]}
    assert checkpoint.warnings == ("the key first is written more than once; the last one counts",)


def test_a_key_that_is_written_many_times_is_warned_of_once(tmp_path: Path) -> None:
    tensor = view(Stored("0", 3), [1])
    content = zip_file(pickled(Call(dict, (), (("a", tensor),) * 5)), {"0": floats(1, 2, 3)})
    assert len(opened(tmp_path / "f", content).warnings) == 1


def test_of_two_equal_integer_keys_the_last_counts_with_a_warning(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "f", twice_in(dict, 7))
    assert {key: tensor.tolist() for key, tensor in torch.load(tmp_path / "f", weights_only=False).items()} == {
        7: [3.0]
    }
    assert named_values(checkpoint) == {"7": [3.0]}
    assert len(checkpoint.warnings) == 1


# What old and other writers make


def test_an_ordered_dict_of_python_2_is_read(tmp_path: Path) -> None:
    pairs = [["lin0.weight", view(Stored("0", 2), [2])], ["lin1.weight", view(Stored("0", 2), [1], offset=1)]]
    (tmp_path / "f").write_bytes(zip_file(pickled(Call(collections.OrderedDict, (pairs,))), {"0": floats(1, 2)}))
    checkpoint = assert_read_as_torch_loads_it(tmp_path / "f")
    assert named_values(checkpoint) == {"lin0.weight": [1.0, 2.0], "lin1.weight": [2.0]}


def test_the_published_lpips_weights_have_their_names() -> None:
    checkpoint = open_checkpoint(str(FIXTURES / "published/lpips/alex.pth"))
    assert [tensor.name for tensor in checkpoint.tensors] == [f"lin{index}.model.1.weight" for index in range(5)]
    assert checkpoint.objects_not_loaded == ()


def test_tensors_of_the_first_rebuild_function_are_read(tmp_path: Path) -> None:
    old = Call(torch._utils._rebuild_tensor, (Stored("0", 4), 1, (3,), (1,)))
    parameter = Call(nn.Parameter, (old, True))
    (tmp_path / "f").write_bytes(zip_file(pickled({"a": old, "b": parameter}), {"0": floats(1, 2, 3, 4)}))
    assert named_values(assert_read_as_torch_loads_it(tmp_path / "f")) == {"a": [2.0, 3.0, 4.0], "b": [2.0, 3.0, 4.0]}


@pytest.mark.parametrize(("order", "code"), [("little", "<"), ("big", ">")])
def test_the_byte_order_that_the_archive_names_is_used(tmp_path: Path, order: str, code: str) -> None:
    numbers_of = {"0": ([1, 2, -3], "f4"), "1": ([4, 5], "f2"), "2": ([6, -7], "i8")}
    storages = {key: np.array(given, code + kind).tobytes() for key, (given, kind) in numbers_of.items()}
    thing = {
        "f": view(Stored("0", 3), [3]),
        "h": view(Stored("1", 2, torch.HalfStorage), [2]),
        "i": view(Stored("2", 2, torch.LongStorage), [2]),
    }
    (tmp_path / "f").write_bytes(zip_file(pickled(thing), storages, byteorder=order))
    checkpoint = assert_read_as_torch_loads_it(tmp_path / "f")
    assert named_values(checkpoint) == {"f": [1.0, 2.0, -3.0], "h": [4.0, 5.0], "i": [6.0, -7.0]}


@pytest.mark.parametrize("order", ["middle", "", "BIG", "\ufefflittle"])
def test_a_byte_order_that_does_not_exist_is_refused(tmp_path: Path, order: str) -> None:
    content = zip_file(pickled({"a": view(Stored("0", 1), [1])}), {"0": floats(1)}, byteorder=order)
    with pytest.raises(CheckpointError, match="names a byte order that does not exist"):
        opened(tmp_path / "f", content)


def test_a_storage_that_is_a_view_of_another_is_read(tmp_path: Path) -> None:
    root = Stored("root", 10)
    thing = {"a": view(root._replace(view=("part", 2, 4)), [4]), "b": view(root, [10])}
    (tmp_path / "f").write_bytes(legacy_file(thing, {"root": (10, floats(*range(10)))}))
    assert_read_as_torch_loads_it(tmp_path / "f")


def test_the_constants_of_a_torchscript_archive_are_accounted_for(tmp_path: Path) -> None:
    constants = pickled((view(Stored("0", 2), [2]),))
    entries = [("archive/constants.pkl", constants), ("archive/constants/0", floats(8, 9))]
    checkpoint = opened(
        tmp_path / "f", zip_file(pickled({"a": view(Stored("0", 1), [1])}), {"0": floats(1)}, entries=entries)
    )
    assert checkpoint.format == "TorchScript"
    assert named_values(checkpoint) == {"a": [1.0], "constants.0": [8.0, 9.0]}


# Objects that are not loaded


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_objects_that_are_not_loaded_are_named_and_torch_s_own_are_not(tmp_path: Path, options: dict[str, Any]) -> None:
    thing = {name: make() for name, make in SAVED.items() if name not in ("namespace beside tensors", "default dict")}
    thing = {name: value for name, value in thing.items() if not isinstance(value, nn.Module) and "module" not in name}
    assert opened(tmp_path / "f", saved(thing, **options)).objects_not_loaded == ()
    thing["args"] = argparse.Namespace(lr=0.1, more=argparse.Namespace())
    thing["rate"] = fractions.Fraction(1, 2)
    checkpoint = opened(tmp_path / "f", saved(thing, **options))
    assert checkpoint.objects_not_loaded == ("argparse.Namespace", "fractions.Fraction")


@pytest.mark.parametrize(
    "thing", [{1, 2}, collections.defaultdict(list), frozenset((1,))], ids=lambda it: type(it).__name__
)
def test_plain_python_objects_are_not_listed_as_not_loaded(tmp_path: Path, thing: object) -> None:
    assert opened(tmp_path / "f", saved({"x": thing})).objects_not_loaded == ()


def test_a_bomb_of_an_allocation_is_not_called(tmp_path: Path) -> None:
    thing = {"bomb": Call(bytearray, (4_000_000_000,)), "a": view(Stored("0", 1), [1])}
    content = zip_file(pickled(thing), {"0": floats(5)})
    tracemalloc.start()
    try:
        checkpoint = opened(tmp_path / "f", content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert checkpoint.objects_not_loaded == ("__builtin__.bytearray",)
    assert named_values(checkpoint) == {"a": [5.0]}


def test_a_dict_whose_methods_are_overwritten_hides_nothing(tmp_path: Path) -> None:
    hiding = Call(collections.OrderedDict, (), (("a", view(Stored("0", 1), [1])),), {"items": set, "keys": set})
    checkpoint = opened(tmp_path / "f", zip_file(pickled(hiding), {"0": floats(5)}))
    assert named_values(checkpoint) == {"a": [5.0]}


# Tensors that cannot be read


def quietly(make: Callable[[], torch.Tensor]) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda: torch.ones(3, device="meta"), "it was saved without data (a meta tensor)", id="meta"),
        pytest.param(
            lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
            "it is a nested tensor: several of different shapes in one, which is not read",
            id="nested",
        ),
        pytest.param(
            lambda: torch.ones(3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
            "its dtype float4_e2m1fn_x2 is not one that can be read",
            id="float4_e2m1fn_x2",
        ),
        pytest.param(
            lambda: torch.ones(3, dtype=torch.complex32),
            "its dtype complex32 is not one that can be read",
            id="complex32",
        ),
    ],
)  # fmt: skip
def test_a_tensor_that_is_not_read_is_listed_with_the_reason(
    tmp_path: Path, make: Callable[[], torch.Tensor], reason: str, options: dict[str, Any]
) -> None:
    checkpoint = opened(tmp_path / "f", saved({"model": {"odd": quietly(make), "plain": numbers(2)}}, **options))
    assert reasons(checkpoint) == {"model.odd": reason}
    assert named_values(checkpoint) == {"model.plain": [1.0, 2.0]}


FOUR = Stored("0", 4)
WHOLE = view(FOUR, [4])


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (view(FOUR, [5]), "it needs 5 elements of a storage that holds 4"),
        (view(FOUR, [4], offset=1), "it needs 5 elements of a storage that holds 4"),
        (view(FOUR, [2], [10**9]), "it needs 1,000,000,001 elements of a storage that holds 4"),
        (view(FOUR, [2**40, 2**40]), "elements of a storage that holds 4"),
        (view(FOUR, [1], offset=2**62), "elements of a storage that holds 4"),
        (view(FOUR, [1], offset=-1), "its size, stride or offset is negative"),
        (view(FOUR, [-4]), "its size, stride or offset is negative"),
        (view(FOUR, [2], [-1]), "its size, stride or offset is negative"),
        (view(FOUR, [2, 2], [1]), "it has 2 dimensions but 1 strides"),
        (view(FOUR, [2, 2], [1, 1]), "its strides visit the same element in two places"),
        (view(FOUR, [1] * 100_000, [1] * 100_000), "it has 100,000 dimensions, more than the 64 that --limit"),
        (view(FOUR, [1.0], [1]), "its size, stride or offset is not made of integers"),
        (view(FOUR, [True], [1]), "its size, stride or offset is not made of integers"),
        (view(FOUR, ["1"], [1]), "its size, stride or offset is not made of integers"),
        (view(FOUR, [1], [None]), "its size, stride or offset is not made of integers"),
        (view(FOUR, [1], offset="0"), "its size, stride or offset is not made of integers"),
        (view(FOUR, [1], offset=None), "its size, stride or offset is not made of integers"),
        (Call(torch._utils._rebuild_tensor_v2, (FOUR, 0, 4, 1)), "its size, stride or offset is not made of integers"),
        (Call(torch._utils._rebuild_tensor_v2, (FOUR, 0, (4,))), "it lacks arguments"),
        (Call(torch._utils._rebuild_tensor_v2), "it lacks arguments"),
        (Call(torch._utils._rebuild_tensor_v3, (FOUR, 0, (4,), (1,), False, {})), "it lacks arguments"),
        (Call(torch._utils._rebuild_tensor_v3, (FOUR, 0, (4,), (1,), False, {}, "F32")), "it names no dtype"),
        (Call(torch._utils._rebuild_parameter), "it lacks arguments"),
        (view(None, [1]), "it does not refer to a storage"),
        (view("0", [1]), "it does not refer to a storage"),
        (view([FOUR], [1]), "it does not refer to a storage"),
        (view(Stored("0", 4, "FloatStorage"), [1]), "it does not refer to a storage"),
        (view(Stored("0", 4, None), [1]), "it does not refer to a storage"),
        (view(Stored("0", 4, collections.Counter), [1]), "its storage type Counter is not one that can be read"),
        (view(Stored("0", 4, torch.QUInt4x2Storage), [1]), "its storage type QUInt4x2Storage is not one that"),
        (view(Stored("0", 16, torch.UntypedStorage), [1]), "its storage has no dtype"),
        (view(Stored(0, 4), [1]), "its storage has no usable key or size"),
        (view(Stored("0", -4), [1]), "its storage has no usable key or size"),
        (view(Stored("0", 4.0), [1]), "its storage has no usable key or size"),
        (view(Stored("0", True), [1]), "its storage has no usable key or size"),
        (view(Stored("1", 4), [1]), "its storage 1 is not in the archive"),
        (view(Stored("../0", 4), [1]), "its storage ../0 is not in the archive"),
        (view(Stored("/etc/passwd", 4), [1]), "its storage /etc/passwd is not in the archive"),
        (view(Stored("a\0b", 4), [1]), "is not in the archive"),
        (view(Stored("", 4), [1]), "its storage  is not in the archive"),
        (view(Stored("0", 5), [1]), "its storage 0 claims 20 bytes, the archive has 16"),
        (view(Stored("0", 2_500_000_000), [4]), "its storage 0 claims 10,000,000,000 bytes, the archive has 16"),
        (view(Stored("0", 0x4000000000000001), [4]), "its storage 0 claims"),
        (view(Stored("0", 4, torch.DoubleStorage), [1]), "its storage 0 claims 32 bytes, the archive has 16"),
    ],
)  # fmt: skip
def test_a_tensor_that_breaks_a_rule_is_listed_with_the_rule_and_costs_no_other(
    tmp_path: Path, tensor: Call, reason: str
) -> None:
    thing = {"bad": tensor, "good": view(Stored("good", 2), [2])}
    checkpoint = opened(tmp_path / "f", zip_file(pickled(thing), {"0": floats(1, 2, 3, 4), "good": floats(5, 6)}))
    assert reason in reasons(checkpoint)["bad"]
    assert named_values(checkpoint) == {"good": [5.0, 6.0]}


def test_a_persistent_object_of_another_kind_is_not_a_storage(tmp_path: Path) -> None:
    other = pickled({"a": WHOLE}).replace(b"storage", b"garbage")
    assert reasons(opened(tmp_path / "f", zip_file(other, STORAGE))) == {"a": "it does not refer to a storage"}


def test_a_subclass_around_a_parameter_around_a_tensor_is_read_and_a_longer_chain_is_not(tmp_path: Path) -> None:
    def wrapped(times: int) -> Any:
        tensor = view(FOUR, [4])
        for _ in range(times):
            tensor = Call(torch._utils._rebuild_parameter, (tensor, True, {}))
        return tensor

    subclass = Call(
        torch._tensor._rebuild_from_type_v2,
        (torch._utils._rebuild_tensor_v2, torch.Tensor, view(FOUR, [4]).arguments, {}),
    )
    thing = {
        "subclass": Call(torch._utils._rebuild_parameter, (subclass, True, {})),
        "two": wrapped(2),
        "ten": wrapped(200),
    }
    checkpoint = opened(tmp_path / "f", zip_file(pickled(thing), {"0": floats(1, 2, 3, 4)}))
    assert named_values(checkpoint) == {"subclass": [1.0, 2.0, 3.0, 4.0], "two": [1.0, 2.0, 3.0, 4.0]}
    assert reasons(checkpoint) == {"ten": "it is wrapped more than 4 times"}


def test_an_expanded_view_of_one_element_is_read_once(tmp_path: Path) -> None:
    thing = {"a": view(Stored("0", 1), [10**6, 10**6], [0, 0])}
    with ending_soon():
        checkpoint = opened(tmp_path / "f", zip_file(pickled(thing), {"0": floats(3)}))
        assert named_values(checkpoint) == {"a": [3.0]}
    assert checkpoint.tensors[0].elements == 10**12


# One storage, two descriptions


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Stored("0", 4, torch.IntStorage), id="two dtypes"),
        pytest.param(Stored("0", 3), id="two sizes"),
    ],
)
def test_a_storage_of_an_archive_that_is_described_in_two_ways_is_not_read_at_all(
    tmp_path: Path, other: Stored
) -> None:
    thing = {"a": view(FOUR, [3]), "b": view(other, [3]), "c": view(Stored("1", 1), [1])}
    checkpoint = opened(tmp_path / "f", zip_file(pickled(thing), {"0": floats(1, 2, 3, 4), "1": floats(9)}))
    assert named_values(checkpoint) == {"c": [9.0]}
    reason = "its storage 0 is described in two ways, of which one must be wrong"
    assert reasons(checkpoint) == {"a": reason, "b": reason}


def test_a_storage_of_a_legacy_file_with_two_dtypes_is_not_read_at_all(tmp_path: Path) -> None:
    thing = {"a": view(FOUR, [4]), "b": view(Stored("0", 4, torch.IntStorage), [4]), "c": view(Stored("1", 1), [1])}
    checkpoint = opened(tmp_path / "f", legacy_file(thing, {"0": (4, floats(1, 2, 3, 4)), "1": (1, floats(9))}))
    assert named_values(checkpoint) == {"c": [9.0]}
    reason = "its storage 0 is described in two ways, of which one must be wrong"
    assert reasons(checkpoint) == {"a": reason, "b": reason}


# The archive


ONE = pickled({"a": view(FOUR, [4])})
STORAGE = {"0": floats(1, 2, 3, 4)}


def headers_of(content: bytes, name: str) -> tuple[int, int]:
    """Where the local and the central header of an entry begin."""
    at = [match.start() for match in re.finditer(re.escape(name.encode()), content)]
    return at[0] - 30, at[-1] - 46


def patched(content: bytes, name: str, local: int | None, central: int | None, written: bytes) -> bytes:
    """The archive with some bytes of an entry's headers replaced, at these offsets in the headers."""
    changed = bytearray(content)
    for begin, offset in zip(headers_of(content, name), (local, central), strict=True):
        if offset is not None:
            changed[begin + offset : begin + offset + len(written)] = written
    return bytes(changed)


DATA = "archive/data/0"
PICKLE = "archive/data.pkl"


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        pytest.param([(DATA, floats(9, 9, 9, 9))], "has two zip entries named 'archive/data/0'", id="data twice"),
        pytest.param([(PICKLE, b"N.")], "has two zip entries named 'archive/data.pkl'", id="pickle twice"),
        pytest.param([("other/data.pkl", b"N.")], "has 2 pickles that could be the checkpoint", id="two roots"),
        pytest.param([("data.pkl", b"N.")], "has 2 pickles that could be the checkpoint", id="root and none"),
    ],
)
def test_an_archive_that_could_be_read_in_two_ways_is_refused(
    tmp_path: Path, entries: list[tuple[str, bytes]], problem: str
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name")
        content = zip_file(ONE, STORAGE, entries=entries)
    with pytest.raises(CheckpointError, match=problem):
        opened(tmp_path / "f", content)


def test_a_pickle_deeper_in_the_archive_is_not_the_checkpoint_s(tmp_path: Path) -> None:
    content = zip_file(ONE, STORAGE, entries=[("archive/inner/data.pkl", b"N."), ("archive/data.pkl.txt", b"")])
    assert named_values(opened(tmp_path / "f", content)) == {"a": [1.0, 2.0, 3.0, 4.0]}


def test_an_archive_without_a_pickle_is_not_a_torch_file(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("weights.txt", b"")
    with pytest.raises(
        CheckpointError, match=r"is a zip archive that holds no checkpoint of a known format, but 'weights\.txt'"
    ):
        opened(tmp_path / "f", stream.getvalue())


@pytest.mark.parametrize(
    ("local", "central", "written", "reason"),
    [
        pytest.param(6, 8, b"\x01", "it is encrypted", id="encrypted"),
        pytest.param(None, 8, b"\x01", "it is encrypted", id="encrypted by the directory"),
        pytest.param(8, None, b"\x08", "name different compressions", id="compressed by the header"),
        pytest.param(None, 10, b"\x08", "name different compressions", id="compressed by the directory"),
        pytest.param(8, 10, b"\x0c", r"compressed by a method \(number 12\) that is not read", id="bzip2"),
        pytest.param(8, 10, b"\x63", r"compressed by a method \(number 99\) that is not read", id="method 99"),
        pytest.param(22, 24, b"\x0f", "the archive gives it two sizes", id="two sizes"),
        pytest.param(0, None, b"PK\x05\x06", "points at something else", id="no local header"),
        pytest.param(30, None, b"X", "points at something else", id="another local name"),
        pytest.param(26, None, b"\x05", "points at something else", id="shorter local name"),
    ],
)
def test_an_entry_whose_headers_do_not_hold_is_not_read(
    tmp_path: Path, local: int | None, central: int | None, written: bytes, reason: str
) -> None:
    content = zip_file(ONE, STORAGE)
    checkpoint = opened(tmp_path / "f", patched(content, DATA, local, central, written))
    assert re.search(reason, reasons(checkpoint)["a"])


@pytest.mark.parametrize(
    ("local", "central", "written", "problem"),
    [
        pytest.param(6, 8, b"\x01", "its entry archive/data.pkl: it is encrypted", id="encrypted"),
        pytest.param(8, 10, b"\x0c", "its entry archive/data.pkl: it is compressed by a method", id="bzip2"),
        pytest.param(30, None, b"X", "its entry archive/data.pkl: the archive's directory points at", id="other name"),
        pytest.param(22, 24, b"\x0f", "its entry archive/data.pkl: the archive gives it two sizes", id="two sizes"),
        pytest.param(22, 24, b"\xfe" + b"\xff" * 3, "its archive/data.pkl claims 4,294,967,294 bytes", id="4 GB"),
    ],
)
def test_an_archive_whose_pickle_s_headers_do_not_hold_is_refused(
    tmp_path: Path, local: int | None, central: int | None, written: bytes, problem: str
) -> None:
    with pytest.raises(CheckpointError, match=re.escape(problem)):
        opened(tmp_path / "f", patched(zip_file(ONE, STORAGE), PICKLE, local, central, written))


def test_an_entry_that_claims_to_reach_beyond_the_file_is_not_read(tmp_path: Path) -> None:
    content = zip_file(ONE, STORAGE)
    for written in (b"\0\0\1\0", b"\xfe\xff\xff\xff"):
        claims = patched(patched(content, DATA, 18, 20, written), DATA, 22, 24, written)
        assert reasons(opened(tmp_path / "f", claims))["a"] == "the archive is truncated before its end"


def test_entries_that_share_bytes_are_not_read(tmp_path: Path) -> None:
    content = overlapping()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read(DATA).endswith(archive.read("archive/data/1"))
    try:
        found = opened(tmp_path / "f", content).tensors
    except CheckpointError:
        found = ()
    assert found == ()


def overlapping() -> bytes:
    """An archive whose entry data/0 holds the local header and the bytes of data/1."""
    inner = zip_entry("archive/data/1", floats(8, 9))
    thing = {"a": view(Stored("0", len(inner) // 4), [len(inner) // 4]), "b": view(Stored("1", 2), [2])}
    entries = {PICKLE: pickled(thing), DATA: inner}
    body, directory = b"", b""
    for name, content in entries.items():
        directory += central_header(name, content, len(body))
        body += zip_entry(name, content)
    directory += central_header("archive/data/1", floats(8, 9), len(body) - len(inner))
    return body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, len(directory), len(body), 0)


def zip_entry(name: str, content: bytes) -> bytes:
    sizes = (zlib.crc32(content), len(content), len(content))
    return struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, *sizes, len(name), 0) + name.encode() + content


def central_header(name: str, content: bytes, offset: int) -> bytes:
    sizes = (zlib.crc32(content), len(content), len(content))
    places = (len(name), 0, 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, *sizes, *places) + name.encode()


def test_a_pickle_that_is_not_what_its_checksum_says_is_refused(tmp_path: Path) -> None:
    content = bytearray(zip_file(ONE, STORAGE))
    content[content.index(b"FloatStorage")] ^= 0x20
    with pytest.raises(CheckpointError, match=r"its entry archive/data\.pkl: it is damaged: the checksum differs"):
        opened(tmp_path / "f", bytes(content))


@pytest.mark.parametrize("pickle_bytes", [b"", b"N", b"\xff.", ONE[:-1], ONE[:40]])
def test_a_damaged_pickle_is_refused(tmp_path: Path, pickle_bytes: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"its pickle archive/data\.pkl is malformed"):
        opened(tmp_path / "f", zip_file(pickle_bytes, STORAGE))


def test_an_archive_cut_anywhere_is_refused_in_one_line(tmp_path: Path) -> None:
    content = zip_file(ONE, STORAGE)
    for length in range(len(content)):
        with pytest.raises(CheckpointError) as caught:
            opened(tmp_path / "f", content[:length])
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_download_is_called_one(tmp_path: Path, share: float) -> None:
    content = saved({"a": torch.zeros(1000)})
    with pytest.raises(CheckpointError, match="is a damaged zip archive, probably a truncated download"):
        opened(tmp_path / "f", content[: int(len(content) * share)])


# Compression


def test_compressed_entries_are_inflated(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(300_000).astype("<f4")
    thing = {
        "all": view(Stored("0", noise.size), [noise.size]),
        "late": view(Stored("0", noise.size), [2], offset=noise.size - 2),
        "early": view(Stored("0", noise.size), [3], [1000], offset=5),
        "odd": view(Stored("1", 3, torch.ByteStorage), [3]),
    }
    content = zip_file(pickled(thing), {"0": noise.tobytes(), "1": b"abc"}, method=zipfile.ZIP_DEFLATED)
    checkpoint = opened(tmp_path / "f", content)
    found = named_values(checkpoint)
    np.testing.assert_array_equal(found["all"], noise)
    assert found["late"] == noise[-2:].tolist()
    assert found["early"] == noise[5:3000:1000].tolist()
    assert found["odd"] == [97.0, 98.0, 99.0]
    np.testing.assert_array_equal(values(checkpoint.tensors[0]), noise)


def test_a_compressed_entry_may_be_read_backwards(tmp_path: Path) -> None:
    [tensor] = opened(tmp_path / "f", zip_file(ONE, STORAGE, method=zipfile.ZIP_DEFLATED)).tensors
    reader, buffer = tensor.storage.source.reader(), bytearray(4)
    for position, number in ((3, 4.0), (0, 1.0), (1, 2.0), (1, 2.0)):
        reader.read_into(4 * position, memoryview(buffer))
        assert bytes(buffer) == floats(number)


def test_a_compressed_storage_that_is_shorter_than_it_says_fails_when_it_is_read(tmp_path: Path) -> None:
    thing = pickled({"a": view(Stored("0", 8), [8])})
    longer = patched(zip_file(thing, STORAGE, method=zipfile.ZIP_DEFLATED), DATA, 22, 24, struct.pack("<L", 32))
    [tensor] = opened(tmp_path / "f", longer).tensors
    with pytest.raises(CheckpointError, match="a compressed storage is shorter than the archive says"):
        values(tensor)


def test_a_damaged_compressed_storage_fails_when_it_is_read(tmp_path: Path) -> None:
    content = bytearray(zip_file(ONE, STORAGE, method=zipfile.ZIP_DEFLATED))
    begin = headers_of(bytes(content), DATA)[0] + 30 + len(DATA)
    content[begin : begin + 4] = b"\xff\xff\xff\xff"
    [tensor] = opened(tmp_path / "f", bytes(content)).tensors
    with pytest.raises(CheckpointError, match="a compressed storage is damaged"):
        values(tensor)


def test_a_pickle_that_inflates_a_thousandfold_is_refused(tmp_path: Path) -> None:
    content = zip_file(bytes(100_000_000), {}, method=zipfile.ZIP_DEFLATED)
    assert len(content) < 200_000
    with pytest.raises(CheckpointError, match=r"its archive/data\.pkl claims to inflate 1,029 times"):
        opened(tmp_path / "f", content)


def test_a_pickle_that_inflates_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    content = zip_file(bytes(1_000_000), {}, method=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="a compressed storage is longer than the archive says"):
        opened(tmp_path / "f", patched(content, PICKLE, 22, 24, struct.pack("<L", 1000)))


# The legacy format


THREE = {"0": (2, floats(1, 2)), "1": (1, floats(3)), "2": (3, floats(4, 5, 6))}


def three_tensors() -> dict[str, Call]:
    return {f"t{key}": view(Stored(key, count), [count]) for key, (count, _) in THREE.items()}


def test_a_legacy_file_cut_in_its_storages_gives_the_tensors_before_the_cut(tmp_path: Path) -> None:
    content = legacy_file(three_tensors(), THREE)
    assert named_values(opened(tmp_path / "f", content)) == {"t0": [1.0, 2.0], "t1": [3.0], "t2": [4.0, 5.0, 6.0]}
    ends = [len(content) - 32, len(content) - 20, len(content)]
    for length in range(len(content) - 48, len(content)):
        checkpoint = opened(tmp_path / "f", content[:length])
        whole = [f"t{index}" for index, end in enumerate(ends) if end <= length]
        assert list(named_values(checkpoint)) == whole
        assert reasons(checkpoint).keys() == {"t0", "t1", "t2"} - {*whole}
        assert f"of its 3 storages only {len(whole)} lie whole" in str(checkpoint.damage)


def test_a_legacy_file_cut_in_its_pickles_is_refused_in_one_line(tmp_path: Path) -> None:
    content = legacy_file(three_tensors(), THREE)
    for length in range(len(content) - 48):
        with pytest.raises(CheckpointError) as caught:
            opened(tmp_path / "f", content[:length])
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("count", [-1, -(2**63), 2**63 - 1, 2_500_000_000, 7])
def test_a_legacy_storage_that_lies_about_its_length_costs_itself_and_what_follows(tmp_path: Path, count: int) -> None:
    lying = THREE | {"1": (count, floats(3))}
    checkpoint = opened(tmp_path / "f", legacy_file(three_tensors(), lying))
    assert named_values(checkpoint) == {"t0": [1.0, 2.0]}
    assert set(reasons(checkpoint).values()) == {"the file ends or goes wrong before its storage"}


def test_a_legacy_storage_smaller_than_the_pickle_says_costs_its_tensors(tmp_path: Path) -> None:
    thing = three_tensors() | {"t1": view(Stored("1", 2), [1])}
    checkpoint = opened(tmp_path / "f", legacy_file(thing, THREE))
    assert reasons(checkpoint) == {"t1": "its storage claims 8 bytes, the file has 4"}
    assert list(named_values(checkpoint)) == ["t0", "t2"]


@pytest.mark.parametrize(
    ("keys", "whole"), [(["0", "1"], ["t0", "t1"]), (["0", "stranger", "1", "2"], ["t0"]), ([], [])]
)
def test_legacy_storages_that_the_key_list_does_not_lead_to_are_unread(
    tmp_path: Path, keys: list[str], whole: list[str]
) -> None:
    checkpoint = opened(tmp_path / "f", legacy_file(three_tensors(), THREE, keys))
    assert list(named_values(checkpoint)) == whole
    assert len(checkpoint.unread) == 3 - len(whole)


@pytest.mark.parametrize(
    ("position", "part", "problem"),
    [
        (1, 1002, "is a torch file of protocol 1002; only 1001 is known"),
        (1, None, "is a torch file of protocol None; only 1001 is known"),
        (4, 5, "its list of storages is malformed"),
        (4, [1, 2], "its list of storages is malformed"),
    ],
)
def test_a_legacy_file_with_another_layout_is_refused(
    tmp_path: Path, position: int, part: object, problem: str
) -> None:
    parts = [MAGIC_NUMBER, PROTOCOL_VERSION, {}, {}, []]
    parts[position] = part
    with pytest.raises(CheckpointError, match=problem):
        opened(tmp_path / "f", b"".join(pickle.dumps(part, 2) for part in parts))


def test_a_length_beyond_a_legacy_file_allocates_nothing(tmp_path: Path) -> None:
    start = b"".join(pickle.dumps(part, 2) for part in (MAGIC_NUMBER, PROTOCOL_VERSION, {}))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            opened(tmp_path / "f", start + b"\x80\x04\x8e" + struct.pack("<Q", 2**31) + b"abc.")
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


# Small files of large things


def test_what_holds_itself_or_doubles_itself_is_walked_once(tmp_path: Path) -> None:
    loop: list[Any] = [view(FOUR, [4])]
    loop.append(loop)
    doubled: Any = (view(FOUR, [2]),)
    for _ in range(60):
        doubled = (doubled, doubled)
    with ending_soon():
        checkpoint = opened(tmp_path / "f", zip_file(pickled({"loop": loop, "doubled": doubled}), STORAGE))
    assert [tensor.shape for tensor in checkpoint.tensors] == [(4,), (2,)]


def test_a_nesting_of_100_000_is_left_alone_with_a_warning(tmp_path: Path) -> None:
    bottom = view(FOUR, [4])
    for _ in range(100):
        bottom = [bottom]
    content = b"]" * 100_000 + b"a" * 99_999 + pickled(bottom)[2:-1] + b"\x86."
    with ending_soon():
        checkpoint = opened(tmp_path / "f", zip_file(content, STORAGE))
    assert list(named_values(checkpoint).values()) == [[1.0, 2.0, 3.0, 4.0]]
    assert checkpoint.warnings == ("objects nested more than 1,000 deep, or under endless keys, were not looked into",)


def many(times: int, container: bytes, end: bytes, tensor: Call = WHOLE) -> bytes:
    """A torch zip whose only tensor is put into a container this many times."""
    once = pickled(tensor)[:-1]
    return zip_file(once + b"q\xff0" + container + b"h\xff" * times + end + b".", STORAGE)


def test_a_call_with_ten_thousand_tensors_is_walked_quickly(tmp_path: Path) -> None:
    with ending_soon(1), changed_limits({"crowded_tensors": 10_000}):
        checkpoint = opened(tmp_path / "f", many(10_000, b"ccollections\nCounter\n(", b"tR"))
    assert len({tensor.path for tensor in checkpoint.tensors}) == 10_000


def test_the_number_of_tensors_is_bounded(tmp_path: Path) -> None:
    with changed_limits({"tensors": 5}):
        assert len(opened(tmp_path / "f", many(5, b"](", b"e")).tensors) == 5
        with pytest.raises(CheckpointError, match="leads to tensors, more than the 5 that --limit tensors=N sets"):
            opened(tmp_path / "f", many(6, b"](", b"e"))


def test_the_number_of_tensors_that_cannot_be_read_is_bounded(tmp_path: Path) -> None:
    content = many(6, b"](", b"e", view(FOUR, [5]))
    with changed_limits({"tensors": 5}), pytest.raises(CheckpointError, match="more than the 5 that --limit tensors=N"):
        opened(tmp_path / "f", content)


def test_a_name_does_not_grow_far_beyond_the_file(tmp_path: Path) -> None:
    key = b"X" + struct.pack("<L", 5000) + b"k" * 5000 + b"q\xfe0"
    levels = 900
    content = b"\x80\x02" + key + b"}h\xfe" * levels + pickled(view(FOUR, [4]))[2:-1] + b"s" * levels + b"."
    checkpoint = opened(tmp_path / "f", zip_file(content, STORAGE))
    names = [tensor.name for tensor in checkpoint.tensors] + [entry.name for entry in checkpoint.unread]
    assert all(len(name) < 100_000 for name in names)
    assert names or checkpoint.warnings


SEED = pickled(
    {
        "a": view(FOUR, [2, 2]),
        "m": {"p": Call(torch._utils._rebuild_parameter, (view(FOUR, [4]), True, {})), 3: [view(FOUR, [])]},
        "o": Call(collections.OrderedDict, ([["k", view(FOUR, [1])]],)),
    }
)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # pickletools, on a damaged name
@given(edits=st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.binary(max_size=3)), min_size=1, max_size=3))
def test_a_damaged_pickle_costs_tensors_or_the_file_and_nothing_else(
    tmp_path: Path, edits: list[tuple[int, bytes]]
) -> None:
    damaged = bytearray(SEED)
    for position, written in edits:
        damaged[position : position + 1] = written
    problem, tensors = "", ()
    try:
        tensors = opened(tmp_path / "f", zip_file(bytes(damaged), STORAGE)).tensors
    except CheckpointError as error:
        problem = str(error)
    assert "\n" not in problem
    assert all(values(tensor).size * tensor.repeats == tensor.elements for tensor in tensors)


ARCHIVE = zip_file(ONE, STORAGE, byteorder="little", method=zipfile.ZIP_DEFLATED)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(ARCHIVE) - 1), st.sampled_from((b"\0", b"\1", b"\xff", b"\xff" * 4, b"", b"PK"))),
        min_size=1,
        max_size=3,
    )
)
def test_a_damaged_archive_costs_tensors_or_the_file_and_nothing_else(
    tmp_path: Path, edits: list[tuple[int, bytes]]
) -> None:
    damaged = bytearray(ARCHIVE)
    for position, written in edits:
        damaged[position : position + len(written)] = written
    problem = ""
    try:
        for tensor in opened(tmp_path / "f", bytes(damaged)).tensors:
            values(tensor)
    except CheckpointError as error:
        problem = str(error)
    assert "\n" not in problem
