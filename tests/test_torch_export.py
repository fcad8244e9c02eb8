"""Archives by torch.export are read as torch.export.load reads them; what their graph says decides what a tensor is."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers import Call, distinct, ending_soon, named_values, pickled, reasons, saved, values, zip_file
from torch.export.pt2_archive._package import package_pt2

from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits
from weightstats.places import open_file
from weightstats.readers import torch_export
from weightstats.schemas.exported_graph import uses_of
from weightstats.tensors import Tensor

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, while it exports


class Network(torch.nn.Module):
    """A layer of every kind that the graph tells apart."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(11, 6)
        self.grouped = torch.nn.Conv1d(6, 8, 3, groups=2)
        self.depthwise = torch.nn.Conv1d(8, 8, 3, groups=8)
        self.transposed = torch.nn.ConvTranspose1d(8, 4, 2)
        self.norm = torch.nn.LayerNorm(4)
        self.recurrent = torch.nn.LSTM(4, 5, batch_first=True)
        self.mixing = torch.nn.Parameter(torch.randn(5, 7))
        self.batch_norm = torch.nn.BatchNorm1d(7)
        self.slopes = torch.nn.PReLU()
        self.narrow = torch.nn.Linear(7, 7).bfloat16()
        self.first, self.tied = torch.nn.Linear(7, 7), torch.nn.Linear(7, 7)
        self.tied.weight = self.first.weight
        self.register_buffer("scale", torch.rand(7))
        self.register_buffer("passing", torch.rand(7), persistent=False)
        self.empty = torch.nn.Parameter(torch.zeros(0, 3))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.transposed(self.depthwise(self.grouped(self.embedding(tokens).transpose(1, 2))))
        x = self.recurrent(self.norm(x.transpose(1, 2)))[0] @ self.mixing
        x = self.slopes(self.batch_norm(x.transpose(1, 2)).transpose(1, 2)) * self.scale + self.passing
        x = self.narrow(x.bfloat16()).float()
        return self.tied(self.first(x)) + torch.tensor([1.0, 2, 3, 4, 5, 6, 7])


def exported() -> torch.export.ExportedProgram:
    torch.manual_seed(3)
    return torch.export.export(Network().eval(), (torch.arange(9).reshape(1, 9),))


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    return exported()


@pytest.fixture(scope="module")
def archive(program: torch.export.ExportedProgram) -> bytes:
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def small() -> bytes:
    """One layer only, so that every byte can be tried."""
    stream = io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.ones(1, 3),)), stream)
    return stream.getvalue()


def read(folder: Path, content: bytes) -> Checkpoint:
    (folder / "model.pt2").write_bytes(content)
    file = open_file(folder / "model.pt2")
    assert torch_export.recognises(file.read(0, min(file.size, 512)), file)
    return torch_export.read(file)


def entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(contents: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return stream.getvalue()


def wanted(program: torch.export.ExportedProgram) -> dict[str, torch.Tensor]:
    constants = {f"constants.{name}": tensor for name, tensor in program.constants.items()}
    return {**program.state_dict, **constants, "example_inputs.0.0": program.example_inputs[0][0]}


def check(checkpoint: Checkpoint, tensors: Mapping[str, torch.Tensor]) -> None:
    assert {tensor.name: tensor.shape for tensor in checkpoint.tensors} == {
        k: tuple(t.shape) for k, t in tensors.items()
    }
    for tensor in checkpoint.tensors:
        assert np.array_equal(np.sort(values(tensor)), distinct(tensors[tensor.name]))
    assert checkpoint.unread == ()


def by_name(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in checkpoint.tensors}


def test_every_weight_and_constant_is_what_torch_loads(tmp_path: Path, archive: bytes) -> None:
    check(read(tmp_path, archive), wanted(torch.export.load(io.BytesIO(archive))))


def test_the_graph_says_what_each_tensor_is(tmp_path: Path, archive: bytes) -> None:
    uses = {
        name: tensor.use and (tensor.use.kind, tensor.use.axes)
        for name, tensor in by_name(read(tmp_path, archive)).items()
    }
    assert uses == {
        "embedding.weight": ("embedding", "IO"),
        "grouped.weight": ("conv1d", "OIK"),
        "grouped.bias": ("bias", ""),
        "depthwise.weight": ("depthwise_conv1d", "OIK"),
        "depthwise.bias": ("bias", ""),
        "transposed.weight": ("conv_transpose1d", "IOK"),
        "transposed.bias": ("bias", ""),
        "norm.weight": ("norm", ""),
        "norm.bias": ("bias", ""),
        "recurrent.weight_ih_l0": ("lstm", "OI"),
        "recurrent.weight_hh_l0": ("lstm", "OI"),
        "recurrent.bias_ih_l0": None,
        "recurrent.bias_hh_l0": None,
        "mixing": ("linear", "IO"),
        "batch_norm.weight": ("norm", ""),
        "batch_norm.bias": ("bias", ""),
        "batch_norm.running_mean": ("buffer", ""),
        "batch_norm.running_var": ("buffer", ""),
        "batch_norm.num_batches_tracked": ("buffer", ""),
        "slopes.weight": ("parameter", ""),
        "narrow.weight": ("linear", "OI"),
        "narrow.bias": ("bias", ""),
        "first.weight": ("linear", "OI"),
        "first.bias": ("bias", ""),
        "tied.weight": ("linear", "OI"),
        "tied.bias": ("bias", ""),
        "scale": ("buffer", ""),
        "empty": None,
        "constants.passing": ("buffer", ""),
        "constants.lifted_tensor_0": ("constant", ""),
        "example_inputs.0.0": ("constant", ""),
    }


def test_the_groups_of_a_convolution_are_kept(tmp_path: Path, archive: bytes) -> None:
    found = by_name(read(tmp_path, archive))
    assert [found[name].use.groups for name in ("grouped.weight", "depthwise.weight")] == [2, 8]  # type: ignore[union-attr]


def test_tied_weights_are_one_stored_tensor(tmp_path: Path, archive: bytes) -> None:
    found = by_name(read(tmp_path, archive))
    assert found["first.weight"].view == found["tied.weight"].view


def test_a_decomposed_graph_says_the_same_of_its_products(tmp_path: Path) -> None:
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 3), torch.nn.Conv2d(1, 2, (1, 3)), torch.nn.ConvTranspose2d(2, 4, 1, groups=2)
    )
    program = torch.export.export(module, (torch.ones(1, 5, 4),)).run_decompositions()
    stream = io.BytesIO()
    torch.export.save(program, stream)
    uses = {name: tensor.use for name, tensor in by_name(read(tmp_path, stream.getvalue())).items()}
    told = {name: (use.kind, use.axes, use.groups) for name, use in uses.items() if use and name.endswith("weight")}
    assert told == {
        "0.weight": ("linear", "OI", 1),
        "1.weight": ("conv2d", "OIKK", 1),
        "2.weight": ("conv_transpose2d", "IOKK", 2),
    }


def test_the_layout_until_torch_2_7_is_read(tmp_path: Path, program: torch.export.ExportedProgram) -> None:
    from torch._export.serde.serialize import SCHEMA_VERSION, serialize

    artifact = serialize(program)
    content = zipped(
        {
            "serialized_exported_program.json": artifact.exported_program,
            "serialized_state_dict.pt": artifact.state_dict,
            "serialized_constants.pt": artifact.constants,
            "serialized_example_inputs.pt": artifact.example_inputs,
            "version": ".".join(map(str, SCHEMA_VERSION)).encode(),
        }
    )
    checkpoint = read(tmp_path, content)
    check(checkpoint, wanted(torch.export.load(io.BytesIO(content))))
    assert by_name(checkpoint)["first.weight"].use is not None


def test_the_layout_of_the_first_2_8_is_read(tmp_path: Path, archive: bytes, program: Any) -> None:
    """Whole state dicts, each by torch.save, in place of descriptions."""
    kept = {
        name: content
        for name, content in entries(archive).items()
        if "/data/weights/" not in name and "/data/constants/" not in name
    }
    kept["archive/data/weights/model.pt"] = saved(dict(program.state_dict))
    kept["archive/data/constants/model.pt"] = saved(dict(program.constants))
    checkpoint = read(tmp_path, zipped(kept))
    check(checkpoint, wanted(program))
    assert by_name(checkpoint)["mixing"].use is not None


def test_programs_of_one_archive_are_kept_apart(tmp_path: Path) -> None:
    programs = {
        name: torch.export.export(torch.nn.Linear(3, size), (torch.ones(1, 3),)) for name, size in (("a", 2), ("b", 4))
    }
    stream = io.BytesIO()
    package_pt2(stream, exported_programs=programs)
    found = by_name(read(tmp_path, stream.getvalue()))
    assert {name: tensor.shape for name, tensor in found.items() if "weight" in name} == {
        "a.weight": (2, 3),
        "b.weight": (4, 3),
    }


def test_a_compressed_archive_is_inflated(tmp_path: Path, archive: bytes, program: Any) -> None:
    check(read(tmp_path, zipped(entries(archive), zipfile.ZIP_DEFLATED)), wanted(program))


def test_numbers_of_the_other_byte_order_are_turned(tmp_path: Path, small: bytes) -> None:
    """B18"""
    contents = entries(small)
    right = named_values(read(tmp_path, small))
    for name in list(contents):
        if name.rpartition("/")[2].startswith("weight_"):
            contents[name] = np.frombuffer(contents[name], "<f4").astype(">f4").tobytes()
    contents["archive/byteorder"] = b"big"
    found = named_values(read(tmp_path, zipped(contents)))
    assert {name: found[name] for name in ("weight", "bias")} == {name: right[name] for name in ("weight", "bias")}


def test_views_of_one_tensor_beside_compiled_code_are_read(tmp_path: Path) -> None:
    whole = torch.arange(12.0)
    config = {"a": ["weight_0", [2, 3], [3, 1], 0], "b": ["weight_0", [3], [1], 6]}
    contents = {
        "x/archive_format": b"pt2",
        "x/data/aotinductor/model/x.so": b"\x7fELF",
        "x/data/aotinductor/model/weights_config.json": json.dumps(config).encode(),
        "x/data/weights/weight_0": saved(whole),
    }
    found = named_values(read(tmp_path, zipped(contents)))
    assert found == {"a": [0, 1, 2, 3, 4, 5], "b": [6, 7, 8]}


@pytest.mark.parametrize(
    "record",
    [3, [], ["weight_9", [1], [1], 0], ["weight_0", [9, 9], [9, 1], 0], ["weight_0", "x", [1], 0], [[], [1], [1], 0]],
)
def test_a_view_beside_compiled_code_that_is_none_is_unread(tmp_path: Path, record: object) -> None:
    contents = {
        "x/archive_format": b"pt2",
        "x/data/aotinductor/model/weights_config.json": json.dumps({"a": record}).encode(),
        "x/data/weights/weight_0": saved(torch.ones(4)),
    }
    assert "a" in reasons(read(tmp_path, zipped(contents)))


def test_compiled_code_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="compiled code and no weights beside it"):
        read(tmp_path, zipped({"x/archive_format": b"pt2", "x/data/aotinductor/model/x.so": b"\x7fELF"}))


def test_a_file_by_torch_save_is_not_taken_for_an_archive(tmp_path: Path) -> None:
    (tmp_path / "x.pt2").write_bytes(saved(torch.ones(2)))
    file = open_file(tmp_path / "x.pt2")
    assert not torch_export.recognises(file.read(0, 512), file)


# Descriptions that are wrong: each is the linear layer's, with something else in it.

CONFIG = "archive/data/weights/model_weights_config.json"


def changed(content: bytes, change: Callable[[dict[str, Any]], object], name: str = CONFIG) -> bytes:
    """The archive with another description of its weights, or another graph."""
    contents = entries(content)
    record = json.loads(contents[name])
    change(record.get("config", record))
    contents[name] = json.dumps(record).encode()
    return zipped(contents)


def meta(**change: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["weight"]["tensor_meta"].update(change)


def path(name: str | None) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["weight"].update(path_name=name)


def integers(*sizes: Any) -> list[dict[str, Any]]:
    return [{"as_int": size} for size in sizes]


CASES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "B1 offset negative": (meta(storage_offset={"as_int": -1}), "negative"),
    "B1 offset": (meta(storage_offset={"as_int": 1 << 62}), "needs"),
    "B2 beyond the storage": (meta(storage_offset={"as_int": 1}), "needs 7 elements of a storage that holds 6"),
    "B3 stride": (meta(strides=integers(10**9, 1)), "needs"),
    "B4 stride negative": (meta(strides=integers(-1, 1)), "negative"),
    "B5 size negative": (meta(sizes=integers(-4, 1)), "negative"),
    "B6 sizes": (meta(sizes=integers(1 << 40, 1 << 40)), "needs"),
    "B6 size beyond 64 bits": (meta(sizes=integers(1 << 64, 1)), "malformed"),
    "B7 rank": (meta(sizes=integers(*[1] * 99), strides=integers(*[1] * 99)), "99 dimensions"),
    "B9 overlapping": (meta(strides=integers(1, 1)), "the same element in two places"),
    "B17 path upwards": (path("../../models/model.json"), "not in the archive"),
    "B17 path missing": (path("weight_9"), "not in the archive"),
    "B17 path none": (path(None), "not in the archive"),
    "B23 dtype": (meta(dtype=33), "number 33"),
    "B23 dtype none": (meta(dtype=None), "of no number"),
    "B23 dtype list": (meta(dtype=[7]), "of no number"),
    "B25 layout": (meta(layout=1), "layout"),
    "shape of the inputs": (meta(sizes=[{"as_expr": {"expr_str": "s0"}}]), "depends on the program's inputs"),
    "size is a truth value": (meta(sizes=integers(True, 3)), "malformed"),
    "size is none": (meta(sizes=None), "malformed"),
    "size is no list": (meta(sizes=3), "malformed"),
    "strides too few": (meta(strides=integers(3)), "2 dimensions but 1 strides"),
    "no description": (lambda config: config["weight"].update(tensor_meta=None), "layout"),
    "record is a list": (lambda config: config.update(weight=[1]), "not in the archive"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_description_costs_its_tensor(tmp_path: Path, small: bytes, case: str) -> None:
    change, reason = CASES[case]
    right = named_values(read(tmp_path, small))
    checkpoint = read(tmp_path, changed(small, change))
    assert named_values(checkpoint)["bias"] == right["bias"]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(reasons(checkpoint)["weight"])


def test_one_storage_of_two_dtypes_costs_both(tmp_path: Path, small: bytes) -> None:
    """B16"""

    def change(config: dict[str, Any]) -> None:
        config["bias"] |= {"path_name": config["weight"]["path_name"]}
        config["bias"]["tensor_meta"]["dtype"] = 4

    found = reasons(read(tmp_path, changed(small, change)))
    assert all("described in two ways" in found[name] for name in ("weight", "bias"))


def test_a_storage_that_no_description_names_is_unread(tmp_path: Path, small: bytes) -> None:
    found = reasons(read(tmp_path, changed(small, lambda config: config.pop("weight"))))
    assert found == {"data/weights/weight_0": "no description says what it is"}


def test_a_tensor_without_its_data_is_unread(tmp_path: Path, small: bytes) -> None:
    """B26: what torch writes for a fake tensor."""
    contents = entries(small) | {"archive/data/weights/weight_0": b""}
    assert reasons(read(tmp_path, zipped(contents))) == {"weight": "it was saved without its data"}


def pickled_weight(content: bytes, blob: bytes) -> bytes:
    contents = entries(changed(content, lambda config: config["weight"].update(use_pickle=True)))
    return zipped(contents | {"archive/data/weights/weight_0": blob})


def test_a_tensor_of_another_class_is_read_out_of_its_pickle(tmp_path: Path, small: bytes) -> None:
    content = pickled_weight(small, saved(torch.nn.Parameter(torch.full((2, 3), 4.0))))
    assert named_values(read(tmp_path, content))["weight"] == [4] * 6


@pytest.mark.parametrize("blob", [b"", b"\x80\x04N.", saved(torch.ones(2))[:-9], zip_file(b"]q\0h\0a.", {})])
def test_a_pickle_without_a_tensor_costs_its_tensor(tmp_path: Path, small: bytes, blob: bytes) -> None:
    checkpoint = read(tmp_path, pickled_weight(small, blob))
    assert "weight" in reasons(checkpoint)
    assert "bias" in named_values(checkpoint)


def test_nothing_is_run(tmp_path: Path, small: bytes) -> None:
    """A1, in each entry that torch would unpickle."""
    ran = tmp_path / "ran"
    evil = zip_file(pickled(Call(os.system, (f"touch {ran}",))), {})
    contents = entries(pickled_weight(small, evil)) | {"archive/data/sample_inputs/model.pt": evil}
    checkpoint = read(tmp_path, zipped(contents))
    assert f"{os.system.__module__}.system" in checkpoint.objects_not_loaded
    assert not ran.exists()


def test_objects_among_the_constants_are_named(tmp_path: Path, small: bytes) -> None:
    def change(config: dict[str, Any]) -> None:
        config["obj"] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}

    contents = entries(changed(small, change, "archive/data/constants/model_constants_config.json"))
    contents["archive/data/constants/opaque_obj_0"] = pickle.dumps(Call(os.system, ("exit 1",)))
    checkpoint = read(tmp_path, zipped(contents))
    assert checkpoint.objects_not_loaded == ("obj",)
    assert checkpoint.unread == ()


@pytest.mark.parametrize(
    "graph",
    [b"", b"{", b"[" * 10**5, b"null", b'{"graph_module": 3}', b'{"graph_module": {"graph": {"nodes": [3, {}]}}}'],
)
def test_a_graph_that_says_nothing_leaves_names_and_shapes_to_decide(
    tmp_path: Path, small: bytes, graph: bytes
) -> None:
    checkpoint = read(tmp_path, zipped(entries(small) | {"archive/models/model.json": graph}))
    assert named_values(checkpoint).keys() >= {"weight", "bias"}
    assert by_name(checkpoint)["weight"].use is None


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (CONFIG, b"{", "cannot be read as JSON"),
        (CONFIG, b"[" * 10**5, "nested too deeply"),
        (CONFIG, b'{"config": {"a": 1, "a": 2}}', "a key is there twice"),
        (CONFIG, b'{"config": []}', "describes nothing"),
        (CONFIG, b"\xff", "cannot be read as JSON"),
        (CONFIG, b'{"config": {"a": ' + b"9" * 10_000 + b"}}", "cannot be read as JSON"),
        ("archive/archive_format", b"pt3", "of the format b'pt3', not pt2"),
        ("other/archive_format", b"pt2", "holds 2 archives in one"),
        ("archive/byteorder", b"middle", "byte order that does not exist"),
    ],
)
def test_an_archive_that_contradicts_itself_is_refused(
    tmp_path: Path, small: bytes, name: str, content: bytes, problem: str
) -> None:
    with ending_soon(), pytest.raises(CheckpointError, match=problem):
        read(tmp_path, zipped(entries(small) | {name: content}))


def test_a_description_that_inflates_without_end_is_refused(tmp_path: Path, small: bytes) -> None:
    """C6"""
    with pytest.raises(CheckpointError, match="limit"):
        read(tmp_path, zipped(entries(small) | {CONFIG: b" " * (65 << 20)}, zipfile.ZIP_DEFLATED))


def test_entries_that_inflate_to_too_much_together_are_refused(tmp_path: Path, small: bytes) -> None:
    """C5: each of them alone would do."""
    blob = saved(torch.zeros(2, 3))
    contents = entries(pickled_weight(small, blob)) | {"archive/data/sample_inputs/model.pt": blob}
    content = zipped(contents, zipfile.ZIP_DEFLATED)
    with changed_limits({"expansion": 0, "expanded_bytes": len(blob)}):
        found = reasons(read(tmp_path, content))
    assert found.keys() == {"example_inputs"}
    assert "inflate to more than" in found["example_inputs"]


def test_an_archive_cut_short_anywhere_is_not_taken_for_one(tmp_path: Path, small: bytes) -> None:
    for length in range(0, len(small), 97):
        (tmp_path / "model.pt2").write_bytes(small[:length])
        file = open_file(tmp_path / "model.pt2")
        assert not torch_export.recognises(small[: min(length, 512)], file)
        with pytest.raises(CheckpointError):
            torch_export.read(file)


@pytest.mark.parametrize("name", [CONFIG, "archive/models/model.json"])
def test_any_byte_of_a_description_may_be_wrong(tmp_path: Path, small: bytes, name: str) -> None:
    contents = entries(small)
    right = [sorted(numbers) for numbers in named_values(read(tmp_path, small)).values()]
    text = contents[name]
    for index in range(0, len(text), 7 if name == CONFIG else 61):
        contents[name] = text[:index] + bytes([text[index] ^ 1]) + text[index + 1 :]
        try:
            checkpoint = read(tmp_path, zipped(contents))
        except CheckpointError:
            continue
        for tensor in checkpoint.tensors:
            assert sorted(values(tensor).tolist()) in right or len(tensor.shape) != 2 or name == CONFIG


def test_an_operator_that_is_not_torchs_says_nothing() -> None:
    node = {
        "target": "torch.ops.mine.linear.default",
        "inputs": [{"name": "weight", "arg": {"as_tensor": {"name": "p"}}}],
    }
    specs = [{"parameter": {"arg": {"name": "p"}, "parameter_name": "w"}}]
    module = {"graph": {"nodes": [node]}, "signature": {"input_specs": specs}}
    assert uses_of({"graph_module": module}, {"w": (2, 2)}) == {}
    node["target"] = "torch.ops.aten.linear.default"
    assert uses_of({"graph_module": module}, {"w": (2, 2)}).keys() == {"w"}
    assert uses_of({"graph_module": module}, {"w": (2, 2, 2)}) == {}
