"""Hostile pickles and torch files, case by case: refused in one line, or the rest is read and what is odd is listed.

The number of a case is in the name of its test, or in the test's parameter.
"""

import argparse
import collections
import enum
import io
import itertools
import math
import pathlib
import pickle
import struct
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers import (
    Call,
    Stored,
    ending_soon,
    floats,
    legacy_file,
    named_values,
    pickled,
    reasons,
    saved,
    values,
    view,
    zip_file,
)
from torch import nn

from weightstats.checkpoint import Checkpoint
from weightstats.containers.pickle_records import Global, Instance, PickleError, read_pickle
from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits
from weightstats.places import open_file
from weightstats.readers import plain_pickle, torch_legacy, torch_tar, torch_zip

READERS = (torch_zip, torch_legacy, torch_tar, plain_pickle)

WHOLE = view(Stored("0", 2), [2])
STORAGE = {"0": floats(1, 2)}
TENSOR = pickled(WHOLE)[2:-1]
"""Opcodes of a tensor [1, 2], without protocol and STOP."""


def opened(path: Path, content: bytes) -> Checkpoint:
    """What the family of readers makes of a file, by its content alone."""
    path.write_bytes(content)
    file = open_file(path)
    head = file.read(0, min(512, file.size))
    for reader in READERS:
        if reader.recognises(head, file):
            return reader.read(file)
    raise CheckpointError(str(path), "is not recognised")


def short(text: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text


def beside(*attack: bytes, end: bytes = b"u.") -> bytes:
    """A torch zip with opcodes of an attack as the value of `evil`, and a sound tensor `w` behind it."""
    return zip_file(b"\x80\x04}(" + short(b"evil") + b"".join(attack) + short(b"w") + TENSOR + end, STORAGE)


def refusal(path: Path, content: bytes) -> str:
    with ending_soon(), pytest.raises(CheckpointError) as caught:
        opened(path, content)
    assert str(caught.value).isprintable()
    return str(caught.value)


# A: the pickle machine


ATTACKS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "A1 reduce": (b"cposix\nsystem\n" + short(b"touch canary") + b"\x85R", ("posix.system",)),
    "A2 names on the stack": (
        short(b"posix") + short(b"system") + b"\x93" + short(b"touch canary") + b"\x85R",
        ("posix.system",),
    ),
    "A2 names in the memo": (
        short(b"posix") + b"q\xc8" + short(b"system") + b"q\xc900h\xc8h\xc9\x93" + short(b"touch canary") + b"\x85R",
        ("posix.system",),
    ),
    "A2 names as strings": (b"U\x05posixU\x06system\x93U\x0ctouch canary\x85R", ("posix.system",)),
    "A2 by getattr": (
        b"cbuiltins\ngetattr\ncbuiltins\n__import__\n" + short(b"os") + b"\x85R" + short(b"system") + b"\x86R"
        + short(b"touch canary") + b"\x85R",
        ("builtins.getattr", "builtins.__import__"),
    ),
    "A3 inst": (b"(S'touch canary'\nios\nsystem\n", ("os.system",)),
    "A3 obj": (b"(cos\nsystem\nS'touch canary'\no", ("os.system",)),
    "A4 newobj": (b"cos\nsystem\n" + short(b"touch canary") + b"\x85\x81", ("os.system",)),
    "A4 newobj_ex": (
        b"csubprocess\nPopen\n)}" + short(b"args") + short(b"touch canary") + b"s\x92",
        ("subprocess.Popen",),
    ),
    "A5 state for __setstate__": (b"cevil\nThing\n)R}" + short(b"a") + b"K\x01sb", ("evil.Thing",)),
    "A5 state of attributes": (
        b"cevil\nThing\n)R}(" + b"".join(short(name) + b"cos\nsystem\n" for name in
        (b"__class__", b"__dict__", b"__getattr__", b"__reduce__")) + b"u}" + short(b"__class__") + b"Ns\x86b",
        ("evil.Thing", "os.system"),
    ),
    "A6 state of a class": (
        b"cevil\nThing\n}(" + short(b"__hash__") + b"cos\nsystem\n" + short(b"__eq__") + b"Nub",
        ("evil.Thing", "os.system"),
    ),
    "A7 poly1d": (
        b"cnumpy\npoly1d\n)R}" + short(b"variable") + short(b"__import__('os').system('touch canary')") + b"sb",
        ("numpy.poly1d",),
    ),
    "A8 bytearray": (b"cbuiltins\nbytearray\n(L4000000000L\ntR", ("builtins.bytearray",)),
    "A8 FloatTensor": (b"ctorch\nFloatTensor\n(L4000000000L\ntR", ("torch.FloatTensor",)),
    "A8 UntypedStorage": (b"ctorch\nUntypedStorage\n(L8000000000L\ntR", ("torch.UntypedStorage",)),
    "A11 a persistent id in text": (b"Pstorage\n", ()),
    "A11 a persistent id that is a number": (b"K\x07Q", ()),
    "A13 a tuple doubled": (b")q\xc80" + b"h\xc8h\xc8\x86q\xc80" * 60 + b"h\xc8", ()),
    "A14 a list that holds itself": (b"]q\xc8h\xc8a", ()),
    "A16 a memo of a far number": (b"Nr\xff\xff\xff\xff0Np1000000000000000000\n", ()),
    "A24 keys that collide": (
        b"}(" + b"".join(b"\x8a\x0e" + (i * (2**61 - 1)).to_bytes(14, "little") + b"N" for i in range(20_000)) + b"u",
        (),
    ),
    "A25 keys that cannot be hashed": (b"}(]N}N)Nu", ()),
    "A26 an odd codec": (b"c_codecs\nencode\n" + short(b"x") + short(b"../../evil") + b"\x86R", ()),
    "A27 a set": (b"\x8f(K\x01K\x02\x90", ()),
    "A27 a frozenset": (b"(K\x01\x91", ()),
    "A28 a pickle within": (b"C\x1d" + pickle.dumps({"a": [1, 2]}, 2).ljust(29, b"."), ()),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_a_record_and_the_tensor_beside_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    attack, listed = ATTACKS[name]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with ending_soon():
        checkpoint = opened(tmp_path / "f", beside(attack))
    assert named_values(checkpoint) == {"w": [1, 2]}
    assert set(listed) <= set(checkpoint.objects_not_loaded)
    assert checkpoint.unread == ()
    assert [*(tmp_path / "here").iterdir()] == []


def test_a9_a_dict_that_overwrites_its_methods_hides_nothing_and_is_warned_of(tmp_path: Path) -> None:
    hiding = Call(collections.OrderedDict, (), (("w", WHOLE),), {"items": set, "keys": set})
    for thing, where in ((hiding, "the outermost dict"), ({"a": hiding}, "the dict a")):
        checkpoint = opened(tmp_path / "f", zip_file(pickled(thing), STORAGE))
        assert [*named_values(checkpoint).values()] == [[1, 2]]
        assert [warning.partition(" overwrites its own items, keys")[0] for warning in checkpoint.warnings] == [where]


def test_a9_the_attributes_of_a_state_dict_are_not_warned_of(tmp_path: Path) -> None:
    assert opened(tmp_path / "f", saved(nn.Linear(2, 2).state_dict())).warnings == ()


NEVER_READ: dict[str, bytes] = {
    "A10 extension 1": b"\x82\x01",
    "A10 extension 2": b"\x83\x01\x00",
    "A10 extension 4": b"\x84\x01\x00\x00\x00",
    "A17 text": b"X\xff\xff\xff\xffabc",
    "A17 long text": b"\x8d" + struct.pack("<Q", 2**63) + b"abc",
    "A17 bytes": b"B\xff\xff\xff\xffabc",
    "A17 long bytes": b"\x8e" + struct.pack("<Q", 2**63) + b"abc",
    "A17 a byte array": b"\x96" + struct.pack("<Q", 2**64 - 1) + b"abc",
    "A17 an integer": b"\x8b\xff\xff\xff\x7fabc",
    "A17 an integer of negative length": b"\x8b\xff\xff\xff\xffabc",
    "A18 an integer of many bytes": b"\x8b\x00\x00\x10\x00" + b"\x7f" * (1 << 20),
    "A18 an integer of many digits": b"L" + b"9" * 10**7 + b"L\n",
    "A18 a short integer of many digits": b"I" + b"9" * 10**7 + b"\n",
    "A19 an integer that is none": b"Iabc\n",
    "A19 a number that is none": b"F1.2.3\n",
    "A19 a string without its end": b"S'abc\n",
    "A19 a string without quotes": b"Sabc\n",
    "A19 a string of half an escape": b"S'\\x4'\n",
    "A19 text that is not UTF-8": b"X\x02\x00\x00\x00\xff\xfe",
    "A19 text with half an escape": b"V\\u12\n",
    "A19 a name that is not UTF-8": b"cos\n\xff\n",
    "A20 an unknown memo": b"h\xfe",
    "A20 an append to nothing": b"Na",
    "A20 a mark for an object": b"(\x85",
    "A20 a reduce of a mark": b"(R",
    "A21 an unknown opcode": b"\xff",
    "A21 protocol 6": b"\x80\x06",
    "A27 an item of a tuple": b")NNs",
    "A27 an addition to a dict": b"}(N\x90",
    "A27 a buffer outside": b"\x97",
    "A27 a read-only buffer": b"N\x98",
}


@pytest.mark.parametrize("name", NEVER_READ)
def test_what_no_pickle_may_say_is_refused(tmp_path: Path, name: str) -> None:
    assert "its pickle" in refusal(tmp_path / "f", beside(NEVER_READ[name]))
    assert "its pickle" in refusal(tmp_path / "f", b"\x80\x02]" + NEVER_READ[name] + b"a.")


PERSISTENTS = {
    "A11 text": b"Pstorage\n",
    "A11 a number": b"K\x07Q",
    "A11 too short": short(b"storage") + b"\x85Q",
    "A11 another tag": b"(" + short(b"module") + b"ctorch\nFloatStorage\n" + short(b"0") + short(b"cpu") + b"K\x02tQ",
    "A11 a class as text": b"(" + short(b"storage") * 2 + short(b"0") + short(b"cpu") + b"K\x02tQ",
    "A11 not persistent": b"("
    + short(b"storage")
    + b"ctorch\nFloatStorage\n"
    + short(b"0")
    + short(b"cpu")
    + b"K\x02t",
}


@pytest.mark.parametrize("name", PERSISTENTS)
def test_a_storage_that_is_none_costs_its_tensor(tmp_path: Path, name: str) -> None:
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + PERSISTENTS[name] + b"K\x00K\x02\x85K\x01\x85\x89}tR"
    checkpoint = opened(tmp_path / "f", beside(tensor))
    assert reasons(checkpoint) == {"evil": "it does not refer to a storage"}
    assert named_values(checkpoint) == {"w": [1, 2]}


def test_a12_a_list_that_would_grow_a_million_millions_is_walked_once(tmp_path: Path) -> None:
    bomb = b"](" + b"K\x01" * 10 + b"eq\xc80"
    for step in range(200, 212):
        bomb += b"](" + bytes((ord("h"), step)) * 10 + b"eq" + bytes((step + 1,)) + b"0"
    bomb += b"h\xd4"
    with ending_soon(1):
        assert named_values(opened(tmp_path / "f", beside(bomb))) == {"w": [1, 2]}


@pytest.mark.parametrize("nested", [b")" + b"\x85" * 10**6, b"]" * 10**6 + b"a" * (10**6 - 1)], ids=["tuple", "list"])
def test_a15_a_nesting_of_a_million_is_left_alone_with_a_warning(tmp_path: Path, nested: bytes) -> None:
    with ending_soon(2), pytest.raises(CheckpointError, match="--limit pickle_opcodes=N"):
        opened(tmp_path / "f", beside(nested))
    with ending_soon(20), changed_limits({"pickle_opcodes": 3_000_000}):
        checkpoint = opened(tmp_path / "f", beside(nested))
    assert named_values(checkpoint) == {"w": [1, 2]}
    assert ["nested more than" in warning for warning in checkpoint.warnings] == [True]


NAMES = ["\x1b[2J", "a\0b", "\u202eevil", "=cmd|' /C calc'!A0", "a\nb", "[red]x[/]", "<script>", "\ud800", "|", ""]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a19_odd_names_are_kept_as_data(tmp_path: Path, name: str) -> None:
    content = zip_file(pickled({name: WHOLE, "bad": {name: view(Stored("0", 2), [3])}}), STORAGE)
    checkpoint = opened(tmp_path / "f", content)
    assert [tensor.path for tensor in checkpoint.tensors] == [(name,)]
    assert [entry.name for entry in checkpoint.unread] == [f"bad.{name}"]


def test_a20_every_opcode_on_an_empty_stack_is_refused_or_harmless(tmp_path: Path) -> None:
    for code in range(256):
        for behind in (b".", b"", b"\n.", b"\0" * 9 + b".", b"1\n1\n."):
            content = zip_file(bytes([code]) + behind, {})
            try:
                assert opened(tmp_path / "f", content).tensors == ()
            except CheckpointError as error:
                if not str(error).isprintable():
                    raise


@pytest.mark.parametrize("content", [b"", b".", b"N", b"NN.", b"(.", b"\x80\x02"])
def test_a20_a_pickle_that_does_not_end_with_one_object_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "its pickle" in refusal(tmp_path / "f", zip_file(content, {}))


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**63, 2**64 - 1])
def test_a21_the_length_of_a_frame_decides_nothing(tmp_path: Path, length: int) -> None:
    content = b"\x80\x04\x95" + struct.pack("<Q", length) + b"}" + short(b"w") + TENSOR + b"s."
    assert named_values(opened(tmp_path / "f", zip_file(content, STORAGE))) == {"w": [1, 2]}


def test_a22_of_two_pickles_the_first_is_read(tmp_path: Path) -> None:
    first, second = pickle.dumps([np.ones(2)], 4), pickle.dumps([np.zeros(3)], 4)
    checkpoint = opened(tmp_path / "f", first + second)
    assert named_values(checkpoint) == {"0": [1, 1]}
    assert checkpoint.warnings == (f"the {len(second):,} bytes after the end of the pickle are not looked at",)
    assert "its pickle" in refusal(tmp_path / "f", b"\x80\x02]\xff." + first)
    inside = opened(tmp_path / "f", zip_file(pickled({"w": WHOLE}) + b"cos\nsystem\n(S'id'\ntR.", STORAGE))
    assert (named_values(inside), inside.objects_not_loaded) == ({"w": [1, 2]}, ())


@pytest.mark.parametrize("name", ["model.bin", "model.safetensors", "model.txt", "model.pt", "model"])
def test_a23_a_pickle_of_protocol_0_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    attack = b"cposix\nsystem\n(S'touch canary'\ntR."
    assert "is a plain pickle" in refusal(tmp_path / name, attack)
    assert named_values(opened(tmp_path / name, pickle.dumps({"w": np.ones(1)}, 0))) == {"w": [1]}


def test_a24_colliding_keys_above_tensors_are_read_in_time(tmp_path: Path) -> None:
    keys = b"".join(b"\x8a\x0e" + (i * (2**61 - 1)).to_bytes(14, "little") + b"h\xc8" for i in range(1, 9_001))
    content = zip_file(b"\x80\x04" + TENSOR + b"q\xc80}(" + keys + b"u.", STORAGE)
    with ending_soon():
        assert len(opened(tmp_path / "f", content).tensors) == 9_000


def test_a25_a_tensor_under_any_key_has_a_name_of_its_own(tmp_path: Path) -> None:
    keys = [b"]", b"}", b")", b"K\x01\x85", b"K\x05", short(b"5"), b"N", b"\x88", b"G\x3f\xf0" + bytes(6), TENSOR]
    content = b"\x80\x02}(" + b"".join(key + TENSOR for key in keys) + (short(b"w") + TENSOR) * 2 + b"u."
    checkpoint = opened(tmp_path / "f", zip_file(content, STORAGE))
    assert len({tensor.path for tensor in checkpoint.tensors}) == len(checkpoint.tensors) == len(keys) + 2
    assert checkpoint.warnings == ("the key w is written more than once; the last one counts",)


def test_a27_items_set_on_a_tensor_change_nothing_of_it(tmp_path: Path) -> None:
    content = beside(TENSOR + short(b"key") + b"Ns" + b"Na" + b"(Ne")
    assert named_values(opened(tmp_path / "f", content)) == {"evil": [1, 2], "w": [1, 2]}


class Colour(enum.Enum):
    RED = 1


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.register_buffer("steps", torch.tensor(3))


def ordinary() -> dict[str, Any]:
    return {
        "args": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("a")),
        "colour": Colour.RED,
        "scalar": np.float64(0.5),
        "dtype": np.dtype("f4"),
        "state": np.random.RandomState(0).get_state(),
        "random": torch.get_rng_state(),
        "counter": collections.Counter("aab"),
        "hyper_parameters": {"lr": 0.1, "device": torch.device("cpu")},
        "model": Own(),
        "w": torch.tensor([1.0, 2.0]),
    }


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
def test_a29_ordinary_objects_are_listed_and_all_tensors_read(tmp_path: Path, options: dict[str, Any]) -> None:
    thing = ordinary()
    checkpoint = opened(tmp_path / "f", saved(thing, **options))
    found = named_values(checkpoint)
    assert {name: len(numbers) for name, numbers in found.items()} == {
        "state.1": 624,
        "random": thing["random"].numel(),
        "model.layer.weight": 2,
        "model.layer.bias": 1,
        "model.steps": 1,
        "w": 2,
    }
    assert found["state.1"] == thing["state"][1].tolist()
    assert checkpoint.unread == ()
    assert {"argparse.Namespace", "pathlib.PurePosixPath", "numpy._core.multiarray.scalar"} <= set(
        checkpoint.objects_not_loaded
    )


def array(shape: Any, data: Any, dtype: Any = None) -> Call:
    function, arguments, _ = np.zeros(1).__reduce__()
    return Call(function, arguments, state=(1, shape, dtype or np.dtype("f4"), False, data))


@pytest.mark.parametrize(
    ("thing", "reason"),
    [
        (array((2,), floats(1, 2)), None),
        (array((3,), floats(1, 2)), "it needs 3 elements of a storage that holds 2"),
        (array((1,), floats(1, 2)), "it is an array of 4 bytes with 8 bytes of data"),
        (array((2**40, 2**40), floats(1, 2)), "elements of a storage that holds 2"),
        (array((-2,), floats(1, 2)), "is negative"),
        (array((2,), [1, 2], np.dtype("O")), "it is an array of Python objects, which is not read"),
        (array((2,), floats(1, 2), "f4"), "its dtype is not one of numpy's"),
    ],
)
def test_a30_an_array_is_exact_or_unread(tmp_path: Path, thing: Call, reason: str | None) -> None:
    contents = zip_file(pickled({"a": thing, "w": WHOLE}), STORAGE), pickle.dumps({"a": thing, "w": np.arange(1.0, 3)})
    for content in contents:
        with ending_soon():
            checkpoint = opened(tmp_path / "f", content)
        assert named_values(checkpoint) == ({"w": [1, 2]} if reason else {"a": [1, 2], "w": [1, 2]})
        assert reason is None or reason in reasons(checkpoint)["a"]


# B: storages and tensors


FOUR = Stored("4", 4)
STORAGES = STORAGE | {"4": floats(1, 2, 3, 4)}


def v3(dtype: Any) -> Call:
    storage = Stored("u", 16, torch.UntypedStorage)
    return Call(torch._utils._rebuild_tensor_v3, (storage, 0, (4,), (1,), False, {}, dtype))


def quantised(parameters: Any, shape: Any = (2, 4), strides: Any = (4, 1), kind: Any = torch.QInt8Storage) -> Call:
    return Call(torch._utils._rebuild_qtensor, (Stored("q", 8, kind), 0, shape, strides, parameters, False, {}))


def by_channel(scales: Any, zeros: Any = (0, 0), axis: int = 0) -> Call:
    return quantised((torch.per_channel_affine, list(scales), list(zeros), axis))


def sparse(layout: Any, *parts: Any) -> Call:
    return Call(torch._utils._rebuild_sparse_tensor, (layout, parts))


def longs(*numbers: int, shape: Any = None) -> Call:
    """Indices; their storage has the numbers as its key."""
    key = "i" + ",".join(map(str, numbers))
    STORAGES[key] = np.array(numbers, "<i8").tobytes()
    return view(Stored(key, len(numbers), torch.LongStorage), shape or [len(numbers)])


SKIPPED: dict[str, tuple[Call, str]] = {
    "B1 offset -1": (view(FOUR, [1], offset=-1), "is negative"),
    "B1 offset 2^62": (view(FOUR, [1], offset=2**62), "a storage that holds 4"),
    "B2 beyond the end": (view(FOUR, [4], offset=1), "it needs 5 elements of a storage that holds 4"),
    "B3 stride 10^9": (view(FOUR, [2], [10**9]), "it needs 1,000,000,001 elements of a storage that holds 4"),
    "B4 stride -1": (view(FOUR, [2], [-1], 3), "is negative"),
    "B5 size -4": (view(FOUR, [-4]), "is negative"),
    "B6 2^40 x 2^40": (view(FOUR, [2**40, 2**40], [2**40, 1]), "a storage that holds 4"),
    "B7 100,000 dimensions": (view(FOUR, [1] * 100_000, [1] * 100_000), "it has 100,000 dimensions"),
    "B9 aliasing": (view(Stored("many", 2000), [1000, 1000], [1, 1]), "visit the same element in two places"),
    "B10 2.5e9 elements": (view(Stored("odd", 2_500_000_000), [2]), "claims 10,000,000,000 bytes"),
    "B12 -4 elements": (view(Stored("4", -4), [1]), "its storage has no usable key or size"),
    "B13 a wrapping number of elements": (view(Stored("odd", 0x4000000000000001), [1]), "its storage odd claims"),
    "B17 no record": (view(Stored("none", 4), [1]), "its storage none is not in the archive"),
    "B17 another folder": (view(Stored("../../etc/passwd", 4), [1]), "is not in the archive"),
    "B17 a NUL": (view(Stored("0\0", 4), [1]), "is not in the archive"),
    "B17 an absolute path": (view(Stored("/etc/passwd", 4), [1]), "its storage /etc/passwd is not in the archive"),
    "B22 complex32": (v3(torch.complex32), "its dtype complex32 is not one that can be read"),
    "B23 float4": (v3(torch.float4_e2m1fn_x2), "its dtype float4_e2m1fn_x2 is not one that can be read"),
    **{f"B23 uint{n}": (v3(getattr(torch, f"uint{n}")), f"its dtype uint{n} is not one") for n in range(1, 8)},
    **{f"B23 int{n}": (v3(getattr(torch, f"int{n}")), f"its dtype int{n} is not one") for n in range(1, 8)},
    "B23 bits": (v3(torch.bits8), "its dtype bits8 is not one that can be read"),
    "B24 quint4x2": (quantised((torch.per_tensor_affine, 0.5, 0), kind=torch.QUInt4x2Storage), "QUInt4x2Storage"),
    "B24 quint2x4": (quantised((torch.per_tensor_affine, 0.5, 0), kind=torch.QUInt2x4Storage), "QUInt2x4Storage"),
    "B24 stride 184652": (quantised((torch.per_tensor_affine, 0.5, 0), strides=(184652, 1)), "a storage that holds 8"),
    "B24 scale NaN": (quantised((torch.per_tensor_affine, math.nan, 0)), "its scale is not a positive number"),
    "B24 scale 0": (quantised((torch.per_tensor_affine, 0.0, 0)), "its scale is not a positive number"),
    "B24 zero point 300": (quantised((torch.per_tensor_affine, 0.5, 300)), "its zero point is not an integer from"),
    "B24 scales NaN": (by_channel([1.0, math.nan]), "one of its scales is not a positive number"),
    "B24 scales 0": (by_channel([1.0, 0.0]), "one of its scales is not a positive number"),
    "B24 three scales": (by_channel([1.0, 2.0, 3.0]), "it has 2 channels, 3 scales and 2 zero points"),
    "B24 three zero points": (by_channel([1.0, 2.0], [0, 0, 0]), "it has 2 channels, 2 scales and 3 zero points"),
    "B24 axis 99": (by_channel([1.0, 2.0], axis=99), "its axis of scales is not one of its dimensions"),
    "B25 COO, out of range": (
        sparse(torch.sparse_coo, longs(0, 2, 0, 1, shape=[2, 2]), WHOLE, (2, 2)), "one of its indices is out of range"
    ),
    "B25 COO, negative": (
        sparse(torch.sparse_coo, longs(0, -1, 0, 1, shape=[2, 2]), WHOLE, (2, 2)), "one of its indices is out of range"
    ),
    "B25 COO, uncoalesced": (
        sparse(torch.sparse_coo, longs(1, 1, 0, 0, shape=[2, 2]), WHOLE, (2, 2)), "(uncoalesced)"
    ),
    "B25 CSR of 2^20 values": (
        sparse(torch.sparse_csr, longs(0, 1, 2**20), longs(0, 1), WHOLE, (2, 2)), "one of its indices is out of range"
    ),
    "B25 CSC, decreasing": (
        sparse(torch.sparse_csc, longs(0, 2, 1, 2), longs(0, 1), WHOLE, (2, 3)), "do not count its values"
    ),
    "B25 BSR of half blocks": (
        sparse(torch.sparse_bsr, longs(0, 1), longs(0), view(Stored("0", 2), [1, 2, 1]), (3, 1)), "of whole blocks"
    ),
    "B25 BSC, out of range": (
        sparse(torch.sparse_bsc, longs(0, 1), longs(7), view(Stored("0", 2), [1, 2, 1]), (4, 1)), "is out of range"
    ),
    "B26 a meta tensor": (
        Call(torch._utils._rebuild_meta_tensor_no_storage, (torch.float32, (10**6, 10**6), (10**6, 1), False)),
        "it was saved without data (a meta tensor)",
    ),
    "B27 a nested tensor": (
        Call(torch._utils._rebuild_nested_tensor, (WHOLE, longs(1, 1), longs(1, 1), longs(0, 1))),
        "it is a nested tensor",
    ),
    "B27 a fake tensor": (
        Call(torch._utils._rebuild_wrapper_subclass, (torch._subclasses.FakeTensor, torch.float32, (3,), (1,), 0)),
        "it was saved without data",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SKIPPED)
def test_a_tensor_that_breaks_a_rule_is_listed_and_the_rest_is_read(tmp_path: Path, name: str) -> None:
    tensor, reason = SKIPPED[name]
    storages = STORAGES | {"many": bytes(8000), "odd": floats(1), "q": bytes(8), "u": bytes(16), "w": floats(7)}
    thing = {"bad": tensor, "also good": view(Stored("4", 4), [4]), "w": view(Stored("w", 1), [1])}
    with ending_soon():
        checkpoint = opened(tmp_path / "f", zip_file(pickled(thing), storages))
    assert reason in reasons(checkpoint)["bad"]
    assert named_values(checkpoint) == {"also good": [1, 2, 3, 4], "w": [7]}


def test_b8_an_element_shown_a_million_million_times_is_read_once(tmp_path: Path) -> None:
    content = zip_file(pickled([view(Stored("0", 2), [10**6, 10**6], [0, 0], 1)]), STORAGE)
    with ending_soon(1):
        (tensor,) = opened(tmp_path / "f", content).tensors
        assert (values(tensor).tolist(), tensor.elements, tensor.repeats) == ([2], 10**12, 10**12)


@pytest.mark.parametrize("elements", [1, 3])
def test_b11_b14_a_record_of_another_length_costs_its_tensors(tmp_path: Path, elements: int) -> None:
    thing = {"bad": view(Stored("0", elements), [1]), "w": view(Stored("4", 4), [4])}
    content = zip_file(pickled(thing), STORAGES | {"behind": bytes(1000)})
    checkpoint = opened(tmp_path / "f", content)
    if elements == 3:
        assert reasons(checkpoint) == {"bad": "its storage 0 claims 12 bytes, the archive has 8"}
    assert named_values(checkpoint) in ({"w": [1, 2, 3, 4]}, {"bad": [1], "w": [1, 2, 3, 4]})


def test_b15_a_deflated_record_is_inflated(tmp_path: Path) -> None:
    numbers = [float(number % 3) for number in range(5000)]
    content = zip_file(pickled({"w": view(Stored("0", 5000), [5000])}), {"0": floats(*numbers)}, method=8)
    assert named_values(opened(tmp_path / "f", content)) == {"w": numbers}


@pytest.mark.parametrize("other", [Stored("0", 1), Stored("0", 2, torch.IntStorage)])
def test_b16_a_storage_described_in_two_ways_costs_both_tensors(tmp_path: Path, other: Stored) -> None:
    thing = {"a": WHOLE, "b": view(other, [1]), "w": view(Stored("4", 4), [4])}
    checkpoint = opened(tmp_path / "f", zip_file(pickled(thing), STORAGES))
    assert named_values(checkpoint) == {"w": [1, 2, 3, 4]}
    assert [*reasons(checkpoint)] == ["a", "b"]
    assert all("described in two ways" in reason for reason in reasons(checkpoint).values())


def test_b18_the_byte_order_that_is_named_counts(tmp_path: Path) -> None:
    thing = pickled({"w": view(Stored("0", 4), [4])})
    big = zip_file(thing, {"0": np.array([1, 2, 3, 4], ">f4").tobytes()}, byteorder="big")
    assert named_values(opened(tmp_path / "f", big)) == {"w": [1, 2, 3, 4]}
    little = {"0": floats(1, 2, 3, 4)}
    for content in (zip_file(thing, little, byteorder="little"), zip_file(thing, little)):
        assert named_values(opened(tmp_path / "f", content)) == {"w": [1, 2, 3, 4]}
    for order in ("middle", "\ufefflittle", "", "little\n"):
        assert "byte order" in refusal(tmp_path / "f", zip_file(thing, little, byteorder=order))


def test_b19_tied_tensors_are_both_read_and_show_the_same(tmp_path: Path) -> None:
    thing = {"a": WHOLE, "b": view(Stored("0", 2), [1, 2]), "part": view(Stored("0", 2), [1])}
    first, second, part = opened(tmp_path / "f", zip_file(pickled(thing), STORAGE)).tensors
    assert first.view == second.view != part.view


@pytest.mark.parametrize("shape", [[0, 3], [0, 2**60], [2**60, 0], []])
def test_b20_a_tensor_of_no_size_or_no_dimension_is_read(tmp_path: Path, shape: list[int]) -> None:
    strides = [1] * len(shape)
    checkpoint = opened(tmp_path / "f", zip_file(pickled({"w": view(Stored("0", 2), shape, strides)}), STORAGE))
    assert named_values(checkpoint) == {"w": [] if shape else [1]}


@pytest.mark.parametrize("numbers", [[math.nan] * 3, [math.inf, -math.inf, -0.0], [1e-45, -1e-45, 0.0], [5.0]])
def test_b21_numbers_that_are_odd_are_given_as_they_are(tmp_path: Path, numbers: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = named_values(opened(tmp_path / "f", saved({"w": torch.tensor(numbers)})))
    np.testing.assert_array_equal(found["w"], np.array(numbers, "f4").astype("f8"))


EXTREMES = {
    "float16": torch.tensor([65504, 6e-8, -65504], dtype=torch.float16),
    "bfloat16": torch.tensor([3e38, 1e-40], dtype=torch.bfloat16),
    "float64": torch.tensor([1e308, 5e-324], dtype=torch.float64),
    "int64": torch.tensor([2**63 - 1, -(2**63)]),
    "uint64": torch.tensor([2**64 - 1, 2**63 + 1], dtype=torch.uint64),
    "complex64": torch.tensor([3 + 4j], dtype=torch.complex64),
    "complex128": torch.tensor([3e200 + 4e200j], dtype=torch.complex128),
    "float8_e4m3fn": torch.tensor([448.0, 0.001953125]).to(torch.float8_e4m3fn),
    "float8_e5m2": torch.tensor([57344.0]).to(torch.float8_e5m2),
    "float8_e4m3fnuz": torch.tensor([240.0]).to(torch.float8_e4m3fnuz),
    "float8_e8m0fnu": torch.tensor([2.0**127, 2.0**-127]).to(torch.float8_e8m0fnu),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_b22_b23_the_extremes_of_a_dtype_are_given_as_they_are(tmp_path: Path, name: str) -> None:
    tensor = EXTREMES[name]
    if tensor.dtype == torch.uint64:
        expected = tensor.numpy().astype("f8")
    else:
        expected = (tensor.abs() if tensor.is_complex() else tensor).double().numpy()
    found = named_values(opened(tmp_path / "f", saved({"w": tensor})))
    np.testing.assert_allclose(found["w"], expected, rtol=1e-15)


def test_b22_a_truth_value_of_any_byte_is_read(tmp_path: Path) -> None:
    content = zip_file(pickled({"w": view(Stored("0", 3, torch.BoolStorage), [3])}), {"0": b"\x00\x02\xff"})
    (tensor,) = opened(tmp_path / "f", content).tensors
    assert tensor.dtype.kind == "bool"
    assert [number != 0 for number in values(tensor).tolist()] == [False, True, True]


@pytest.mark.filterwarnings("ignore")
def test_b24_b25_what_torch_quantises_and_thins_out_is_read(tmp_path: Path) -> None:
    dense = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, -1.0]])
    scales, zeros = torch.tensor([0.5, 0.25]), torch.tensor([0, 1])
    thing = {
        "tensor": torch.quantize_per_tensor(dense, 0.5, 3, torch.quint8),
        "channel": torch.quantize_per_channel(dense, scales, zeros, 0, torch.qint8),
        "coo": dense.to_sparse(),
        "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(),
        "bsr": dense.to_sparse_bsr((1, 3)),
        "bsc": dense.to_sparse_bsc((2, 1)),
    }
    found = named_values(opened(tmp_path / "f", saved(thing)))
    assert found == {name: [0, 1, 0, 2, 0, -1] for name in thing}


def test_b27_parameters_with_attributes_are_read(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    parameter.extra = torch.tensor([2.0])  # type: ignore[attr-defined]
    found = named_values(opened(tmp_path / "f", saved({"w": parameter})))
    assert found == {"w": [1], "w.<attributes>.extra": [2]}


@pytest.mark.parametrize("place", [b"cuda:7", b"mps", b"xla:0", b"meta", b"\x1b[2J$(id)"])
def test_b28_the_device_is_ignored(tmp_path: Path, place: bytes) -> None:
    thing = pickled({"w": WHOLE}).replace(short(b"cpu"), short(place))
    assert place in thing
    assert named_values(opened(tmp_path / "f", zip_file(thing, STORAGE))) == {"w": [1, 2]}


def test_b29_a_file_saved_without_its_data_is_zeros(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with torch.serialization.skip_data():
        torch.save({"w": torch.ones(100)}, stream)
    assert set(named_values(opened(tmp_path / "f", stream.getvalue()))["w"]) == {0.0}


def test_b30_packed_weights_are_read_as_the_integers_that_they_are(tmp_path: Path) -> None:
    thing = {
        "fc.weight": torch.arange(8, dtype=torch.uint8).reshape(8, 1),
        "fc.weight.absmax": torch.ones(3),
        "fc.weight.quant_map": torch.linspace(-1, 1, 16),
        "q.qweight": torch.arange(6, dtype=torch.int32).reshape(2, 3),
        "q.qzeros": torch.zeros(7, 5, dtype=torch.int32),
        "q.g_idx": torch.zeros(1, dtype=torch.int32),
    }
    checkpoint = opened(tmp_path / "f", saved(thing))
    assert {name: len(numbers) for name, numbers in named_values(checkpoint).items()} == {
        name: tensor.numel() for name, tensor in thing.items()
    }


LEGACY = {"a": view(Stored("0", 2, view=None), [2]), "b": view(Stored("1", 1, view=None), [1])}
TWO = {"0": (2, floats(1, 2)), "1": (1, floats(3))}


def test_b31_a_legacy_file_is_read(tmp_path: Path) -> None:
    assert named_values(opened(tmp_path / "f", legacy_file(LEGACY, TWO))) == {"a": [1, 2], "b": [3]}
    part = {"a": view(Stored("0", 2, view=("v", 1, 1)), [1])}
    assert named_values(opened(tmp_path / "f", legacy_file(part, {"0": TWO["0"]}))) == {"a": [2]}


@pytest.mark.parametrize("count", [2_500_000_000, -1, 2**62, -(2**63), 3])
def test_b31_a_legacy_storage_that_lies_costs_itself_and_what_follows(tmp_path: Path, count: int) -> None:
    checkpoint = opened(tmp_path / "f", legacy_file(LEGACY, TWO | {"0": (count, floats(1, 2))}))
    assert [*reasons(checkpoint)] == ["a", "b"]
    assert checkpoint.damage is not None


@pytest.mark.parametrize("keys", [[], ["0"], ["1"], ["x", "0", "1"], ["0", "x", "1"]])
def test_b31_a_list_of_other_keys_gives_no_wrong_number(tmp_path: Path, keys: list[str]) -> None:
    found = named_values(opened(tmp_path / "f", legacy_file(LEGACY, TWO, keys)))
    assert found.items() <= {"a": [1, 2], "b": [3]}.items()


def test_b31_a_legacy_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    content = legacy_file(LEGACY, TWO)
    assert "protocol 1002" in refusal(tmp_path / "f", content.replace(pickle.dumps(1001, 2), pickle.dumps(1002, 2), 1))
    magic = pickle.dumps(torch_legacy.MAGIC_NUMBER, 2)
    other = pickle.dumps(torch_legacy.MAGIC_NUMBER + 1, 2)
    assert "is a plain pickle" in refusal(tmp_path / "f", content.replace(magic, other, 1))


def test_b31_a_system_that_claims_another_byte_order_changes_nothing(tmp_path: Path) -> None:
    system = pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2)
    other = pickle.dumps({"protocol_version": 1001, "little_endian": False}, 2)
    parts = [pickle.dumps(part, 2) for part in (torch_legacy.MAGIC_NUMBER, 1001)]
    rest = legacy_file(LEGACY, TWO)
    rest = rest[rest.index(pickled(LEGACY, legacy=True)) :]
    for claimed in (system, other):
        assert named_values(opened(tmp_path / "f", b"".join([*parts, claimed, rest]))) == {"a": [1, 2], "b": [3]}


def test_b31_a_legacy_file_cut_at_any_byte_gives_no_wrong_number(tmp_path: Path) -> None:
    content = legacy_file(LEGACY, TWO)
    for size in range(len(content)):
        try:
            found = named_values(opened(tmp_path / "f", content[:size]))
        except CheckpointError as error:
            if not str(error).isprintable():
                raise
        else:
            assert found.items() <= {"a": [1, 2], "b": [3]}.items()


def tar(members: dict[str, bytes], *odd: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in odd:
            archive.addfile(info)
    return stream.getvalue()


def tar_members(elements: int = 2) -> dict[str, bytes]:
    storage = pickle.dumps((1, "cpu", torch.FloatStorage), 2) + struct.pack("<q", elements) + floats(1, 2)
    numbers = struct.pack("<ii3q", 1, 0, 2, 1, 0)
    return {
        "sys_info": pickle.dumps({}, 2),
        "pickle": b"\x80\x02}" + short(b"w") + short(b"5") + b"Qs.",
        "tensors": pickle.dumps(1, 2) + pickle.dumps((5, 1, torch.FloatTensor), 2) + numbers,
        "storages": pickle.dumps(1, 2) + storage + pickle.dumps([], 2),
    }


def test_b32_an_old_tar_archive_is_read_in_place(tmp_path: Path) -> None:
    members = {"../evil": b"x" * 100, "/evil": b"", **tar_members()}
    assert named_values(opened(tmp_path / "f", tar(members))) == {"w": [1, 2]}
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("name", ["storages", "tensors", "pickle"])
def test_b32_a_link_or_device_for_a_member_is_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    members = {other: content for other, content in tar_members().items() if other != name}
    assert f"a member {name} that is a link" in refusal(tmp_path / "f", tar(members, info))


@pytest.mark.parametrize("elements", [-1, 0, 1, 3, 2**60])
def test_b32_a_size_that_lies_is_refused(tmp_path: Path, elements: int) -> None:
    problem = "its pickle is malformed" if elements in (0, 1, 3) else "its storage 1 claims"
    assert problem in refusal(tmp_path / "f", tar(tar_members(elements)))


def test_b33_the_constants_of_torchscript_are_read_and_its_code_is_not(tmp_path: Path) -> None:
    code = [("archive/code/__torch__.py", "import os; os.system('touch canary')" * 10)]
    constants = [("archive/constants.pkl", pickled((WHOLE, view(Stored("gone", 1), [1]))))]
    entries = [*code, *constants, ("archive/constants/0", floats(8, 9))]
    checkpoint = opened(tmp_path / "f", zip_file(pickled({"w": WHOLE}), STORAGE, entries=entries))
    assert checkpoint.format == "TorchScript"
    assert named_values(checkpoint) == {"w": [1, 2], "constants.0": [8, 9]}
    assert reasons(checkpoint) == {"constants.1": "its storage gone is not in the archive"}


@pytest.mark.filterwarnings("ignore")
def test_b33_what_torch_scripts_is_read(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(module), stream)
    found = named_values(opened(tmp_path / "f", stream.getvalue()))
    assert found["0.weight"] == module[0].weight.double().reshape(-1).tolist()


# The list itself


def test_every_case_has_a_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    names = [f"{section}{number}" for section, last in (("A", 30), ("B", 33)) for number in range(1, last + 1)]
    missing = [
        name
        for name in names
        if f'"{name} ' not in text and f"test_{name.lower()}_" not in text and f"_{name.lower()}_" not in text
    ]
    assert missing == []


def test_every_attack_would_have_been_a_call_or_a_name() -> None:
    for (name, (attack, listed)), protocol in itertools.product(ATTACKS.items(), (b"", b"\x80\x04")):
        try:
            root = read_pickle(io.BytesIO(protocol + attack + b".")).root
        except PickleError:
            root = None
        assert not listed or isinstance(root, Instance | Global), name
