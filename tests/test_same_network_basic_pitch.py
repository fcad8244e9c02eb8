"""basic-pitch 0.4.0 (Apache 2.0), published as a SavedModel, as TFLite and as ONNX.

The readers agree on what the exporters left alone, and the two exports on what both changed: each folds a batch
normalisation into the convolution before it.
"""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from makers import values
from published import published, published_folder

from weightstats.checkpoint import Checkpoint
from weightstats.layers import Layer, classify
from weightstats.network import find_network
from weightstats.places import open_file, open_folder
from weightstats.readers import onnx_file, saved_model, tensorflow_checkpoint, tflite

FOLDER = "basic_pitch/saved_models/icassp_2022"
SAVED_MODEL_SHA256 = "d70a702e145726adc339cc185056374ef3ef44f100fee3681830b0a3664e9867"
TFLITE_SHA256 = "3db297d54af8e01c6e5618245c956b1d71b6a2b978cb2dedb527173186552676"
ONNX_SHA256 = "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec"

EXPECTED = {
    "conv2d_1.kernel": ((3, 39, 8, 8), 936, 936, 0.0010683758799796628),
    "contours-reduced.kernel": ((5, 5, 8, 1), 200, 25, 0.004999998614291654),
    "conv2d_2.kernel": ((7, 7, 1, 32), 49, 1568, 0.020408159789565995),
    "conv2d_4.kernel": ((5, 5, 8, 32), 200, 800, 0.004999998946234041),
    "conv2d_3.kernel": ((7, 3, 32, 1), 672, 21, 0.0014880950454875318),
    "conv2d_5.kernel": ((3, 3, 33, 1), 297, 9, 0.0033670026444190017),
}
"""(shape, n_in, n_out, mean square); the last is of what `tf.train.load_checkpoint` (TensorFlow 2.21) gives."""

FOLDED = {"conv2d_4.kernel": 0.08903204737032572, "conv2d_1.kernel": 0.0014250230568441438}
"""Mean squares of the kernels that hold their batch normalisation in both exports, by `onnx.numpy_helper` (1.23)."""


def folder() -> Path:
    return published_folder("basic-pitch", "0.4.0", f"{FOLDER}/nmp", SAVED_MODEL_SHA256)


def file(name: str, sha256: str) -> Path:
    return published("basic-pitch", "0.4.0", f"{FOLDER}/{name}", sha256)


def layers(checkpoint: Checkpoint) -> tuple[Layer, ...]:
    return tuple(item for item in classify(find_network(checkpoint)) if isinstance(item, Layer))


def mean_square(layer: Layer) -> float:
    return float(np.mean(values(layer.tensor) ** 2))


def test_the_saved_model_is_read_as_tensorflow_reads_it() -> None:
    found = {layer.name: layer for layer in layers(saved_model.read_folder(open_folder(folder())))}
    assert found.keys() == EXPECTED.keys()
    for name, (shape, n_in, n_out, square) in EXPECTED.items():
        layer = found[name]
        assert (layer.kind, layer.fans_from, layer.tensor.shape) == ("conv2d", "graph", shape)
        assert (layer.n_in, layer.n_out) == (n_in, n_out)
        assert mean_square(layer) == pytest.approx(square, rel=1e-7)


def test_its_variables_alone_give_the_same_layers() -> None:
    alone = layers(tensorflow_checkpoint.read(open_file(folder() / "variables" / "variables.index")))
    assert {layer.name: (layer.n_in, layer.n_out) for layer in alone} == {
        name: expected[1:3] for name, expected in EXPECTED.items()
    }


def test_optimizer_and_metrics_are_set_aside() -> None:
    beside = find_network(saved_model.read_folder(open_folder(folder()))).beside
    kinds = [entry.kind for entry in beside]
    assert (kinds.count("optimizer"), kinds.count("training state"), len(kinds)) == (41, 8, 49)


@pytest.mark.parametrize(
    ("reader", "name", "sha256"),
    [(tflite, "nmp.tflite", TFLITE_SHA256), (onnx_file, "nmp.onnx", ONNX_SHA256)],
    ids=["TFLite", "ONNX"],
)
def test_an_export_holds_the_same_kernels(reader: ModuleType, name: str, sha256: str) -> None:
    found = layers(reader.read(open_file(file(name, sha256))))
    squares = {(layer.n_in, layer.n_out): mean_square(layer) for layer in found}
    for kernel, (_, n_in, n_out, square) in EXPECTED.items():
        assert squares[n_in, n_out] == pytest.approx(FOLDED.get(kernel, square), rel=1e-6), kernel
