"""One small network in every format, each written by the format's own library, or as it would write it."""

import io
import json
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import gguf
import h5py
import msgpack
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import safetensors.numpy
import tensorflow_written
import torch
import torch.distributed.checkpoint as dcp
from makers import saved
from mutations import Sample, sample
from numpy.typing import NDArray
from test_torch_tar import Outside, archive, dumped, storage, storages_member, tensor, tensors_member
from tflite_models import OPERATORS, G, Model, Op, T

Arrays = Mapping[str, NDArray[np.float32]]


@cache
def network() -> Arrays:
    """Three layers of different sizes, and a bias."""
    chance = np.random.default_rng(7)
    shapes = {"first.weight": (8, 6), "first.bias": (8,), "second.weight": (5, 8), "third.weight": (4, 5)}
    return {name: chance.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _torch() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in network().items()}


def _torch_script() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(_module()), stream)
    return stream.getvalue()


def _module() -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 5, bias=False), torch.nn.Linear(5, 4, False))
    with torch.no_grad():
        for parameter, array in zip(module.parameters(), network().values(), strict=True):
            parameter.copy_(torch.from_numpy(array.copy()))
    return module


def _exported() -> bytes:
    stream = io.BytesIO()
    torch.export.save(torch.export.export(_module(), (torch.zeros(1, 6),)), stream)
    return stream.getvalue()


def _tar() -> bytes:
    arrays = list(network().values())
    storages = [storage(index, torch.FloatStorage, array.size, array.tobytes()) for index, array in enumerate(arrays)]
    tensors = [
        tensor(100 + index, index, list(array.shape), [stride // 4 for stride in array.strides])
        for index, array in enumerate(arrays)
    ]
    state = {name: Outside(str(100 + index)) for index, name in enumerate(network())}
    parts = {"storages": storages_member(*storages), "tensors": tensors_member(*tensors), "pickle": dumped(state)}
    return archive(parts)


def _quantised() -> NDArray[np.uint8]:
    blocks: NDArray[np.uint8] = gguf.quantize(
        np.resize(network()["first.weight"], (4, 32)), gguf.GGMLQuantizationType.Q8_0
    )
    return blocks


def _gguf() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        writer = gguf.GGUFWriter(Path(folder) / "f", "llama")
        for name, array in network().items():
            writer.add_tensor(name, array)
        writer.add_tensor("fourth.weight", _quantised(), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return (Path(folder) / "f").read_bytes()


def _onnx() -> bytes:
    weights = {name: array for name, array in network().items() if name.endswith("weight")}
    values = ["x", "a", "b", "y"]
    nodes = [
        onnx.helper.make_node("Gemm", [value, name], [result], transB=1)
        for value, name, result in zip(values, weights, values[1:], strict=False)
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "network",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 6])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    content: bytes = onnx.helper.make_model(graph).SerializeToString()
    return content


def _hdf5() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, array in network().items():
            file.create_dataset(name.replace(".", "/"), data=array)
        file.create_dataset("compressed/weight", data=network()["second.weight"], chunks=(5, 4), compression="gzip")
    return stream.getvalue()


def _keras() -> bytes:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for name in ("first", "second", "third"):
            file.create_dataset(f"layers/{name}/vars/0", data=network()[f"{name}.weight"].T)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.0"}))
        archive.writestr("config.json", json.dumps({"module": "keras", "class_name": "Sequential", "config": {}}))
        archive.writestr("model.weights.h5", weights.getvalue())
    return stream.getvalue()


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **network())
    return stream.getvalue()


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, network()["first.weight"])
    return stream.getvalue()


def _equinox() -> bytes:
    stream = io.BytesIO(b"")
    stream.write(b'{"width": 8}\n')
    for array in network().values():
        np.save(stream, array)
    return stream.getvalue()


def _flax() -> bytes:
    tree: dict[str, dict[str, msgpack.ExtType]] = {}
    for name, array in network().items():
        module, _, leaf = name.partition(".")
        content = msgpack.packb((array.shape, array.dtype.name, array.tobytes()))
        tree.setdefault(module, {})[leaf] = msgpack.ExtType(1, content)
    packed: bytes = msgpack.packb({"params": tree})
    return packed


def _pickle() -> bytes:
    return pickle.dumps(dict(network()), protocol=4)


def _tflite() -> bytes:
    weights = {name: array for name, array in network().items() if name.endswith("weight")}
    sizes = (6, 8, 5, 4)
    values = [T(f"value{index}", [1, size]) for index, size in enumerate(sizes)]
    stored = [T(name, array.shape, 1 + index) for index, (name, array) in enumerate(weights.items())]
    operators = [Op(OPERATORS.FULLY_CONNECTED, [index, 4 + index, -1], [index + 1]) for index in range(3)]
    buffers = [b"", *(array.tobytes() for array in weights.values())]
    return Model([G([*values, *stored], operators, [0])], buffers).encoded()


def _weights_manifest() -> dict[str, bytes]:
    """TF.js: the manifest, and the one shard that it names."""
    weights = [{"name": name, "shape": array.shape, "dtype": "float32"} for name, array in network().items()]
    manifest = {"modelTopology": None, "weightsManifest": [{"paths": ["group1-shard1of1.bin"], "weights": weights}]}
    shard = b"".join(array.tobytes() for array in network().values())
    return {"model.json": json.dumps(manifest).encode(), "group1-shard1of1.bin": shard}


def _tensor_bundle() -> dict[str, bytes]:
    names = ("keras/ckpt-1.index", "keras/ckpt-1.data-00000-of-00001")
    return {name.partition("/")[2]: tensorflow_written.content(name) for name in names}


def _distributed() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        dcp.save({"model": _torch()}, checkpoint_id=folder, no_dist=True)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


FORMATS: dict[str, Callable[[], bytes | dict[str, bytes]]] = {
    "safetensors": lambda: safetensors.numpy.save(dict(network())),
    "torch zip": lambda: saved(_torch()),
    "TorchScript": _torch_script,
    "torch legacy": lambda: saved(_torch(), _use_new_zipfile_serialization=False),
    "torch tar": _tar,
    "torch.export": _exported,
    "torch.distributed.checkpoint": _distributed,
    "pickle": _pickle,
    "GGUF": _gguf,
    "ONNX": _onnx,
    "HDF5": _hdf5,
    "Keras archive": _keras,
    "TensorFlow checkpoint": _tensor_bundle,
    "TensorFlow frozen graph": lambda: tensorflow_written.content("frozen.pb"),
    "TFLite": _tflite,
    "TF.js": _weights_manifest,
    "NumPy archive": _npz,
    "NumPy array": _npy,
    "Equinox": _equinox,
    "Flax msgpack": _flax,
}
"""What writes the sample of each format: a file, or one that is damaged and its companions."""


@cache
def samples() -> dict[str, Sample]:
    """Every sample, by the name of its format."""
    weights = [part.tobytes() for array in network().values() for part in (array, array.T)]
    weights.append(_quantised().tobytes())
    weights += [np.arange(12, dtype="<f4").tobytes(), np.arange(6, dtype="<f4").tobytes()]  # of the frozen graph
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the libraries that write them say of themselves
        return {name: _sample(name, write(), weights) for name, write in FORMATS.items()}


def _sample(name: str, written: bytes | dict[str, bytes], weights: list[bytes]) -> Sample:
    if isinstance(written, bytes):
        return sample(name, written, weights)
    (file, content), *others = written.items()
    return replace(sample(name, content, weights), file=file, companions=tuple(others))
