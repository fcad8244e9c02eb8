"""One published network in several formats: every reader gives the same mean squares, tensor by tensor.

What an exporter did to the values is said beside each comparison, and what it left alone is held to a relative 1e-6.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from makers import values
from published import published

from weightstats.inspection import inspect
from weightstats.readers import open_checkpoint

TOLERANCE = 1e-6
"""Relative, of mean squares of float32 numbers: they were copied, not computed anew."""

SILERO = {
    "silero_vad.jit": "e1122837f4154c511485fe0b9c64455f7b929c96fbb8d79fbdb336383ebd3720",
    "silero_vad.onnx": "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
    "silero_vad_16k.safetensors": "c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1",
    "silero_vad_16k_op15.onnx": "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    "silero_vad_op18_ifless.onnx": "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
    "silero_vad_16k_sequence.onnx": "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
    "silero_vad_openvino_16k.onnx": "7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87",
}
"""Files of silero-vad 6.2.3, under silero_vad/data, with their digests. Those of `.jit` and `.onnx` hold one training's
weights, but for the 8 kHz network of `silero_vad_op18_ifless.onnx`; the one of `.safetensors` holds another's, and
`silero_vad_half.onnx`, which is not compared, a third's."""

ICLABEL = {
    "ICLabelNet.pt": "bccfee77d028858c855ea370b17e21b77e2f52d533775d4c54f12b168063579e",
    "ICLabelNet.onnx": "b7dc72bc3fa5960b2843fc6d5ba60add842b0a240c6371598be09b595182c04b",
}
"""Files of mne-icalabel 0.10.0, under mne_icalabel/iclabel/network/assets, with their digests."""

Tensors = Mapping[str, tuple[int, float]]
"""(elements, mean square) by name."""


def silero(name: str) -> Path:
    return published("silero-vad", "6.2.3", f"silero_vad/data/{name}", SILERO[name])


def iclabel(name: str) -> Path:
    folder = "mne_icalabel/iclabel/network/assets"
    return published("mne-icalabel", "0.10.0", f"{folder}/{name}", ICLABEL[name])


def tensors_of(path: Path) -> Tensors:
    """Every tensor of floating point that has elements; a name that is there twice fails."""
    checkpoint = open_checkpoint(str(path))
    floating = [tensor for tensor in checkpoint.tensors if tensor.dtype.kind == "float" and tensor.elements]
    found = {tensor.name: (tensor.elements, float(np.mean(values(tensor) ** 2))) for tensor in floating}
    assert len(found) == len(floating)
    assert checkpoint.unread == ()
    return found


def renamed(tensors: Tensors, pattern: str, replacement: str) -> Tensors:
    """The tensors whose names match, under their new names."""
    return {re.sub(pattern, replacement, name): held for name, held in tensors.items() if re.search(pattern, name)}


def assert_same(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, (elements, mean_square) in expected.items():
        assert found[name] == (elements, pytest.approx(mean_square, rel=TOLERANCE, abs=0)), name


# silero-vad: a network for 16 kHz and one for 8 kHz

LEARNED = r"(stft\.forward_basis|encoder\.\d|decoder\.)"
PARTS = 15
"""Tensors of one of the two networks: a fixed transform, and 14 that are learned."""


def from_torchscript(network: str) -> Tensors:
    """One network of the TorchScript file, each tensor under its name within it."""
    return renamed(tensors_of(silero("silero_vad.jit")), rf"^{network}\.(?={LEARNED})", "")


INLINED = "__Inline_0__"
"""With which the library that joined the two networks into one graph ends its prefixes."""


@pytest.mark.parametrize(
    ("file", "prefix", "network"),
    [
        ("silero_vad.onnx", f"If_0.then_branch.If_0_then_branch{INLINED}", "_model"),
        ("silero_vad.onnx", f"If_0.else_branch.If_0_else_branch{INLINED}", "_model_8k"),
        ("silero_vad_openvino_16k.onnx", f"F0::If_0_then_branch{INLINED}", "_model"),
        ("silero_vad_16k_op15.onnx", "model.", "_model"),
        ("silero_vad_op18_ifless.onnx", "model.", "_model"),
    ],
)
def test_silero_in_onnx_has_the_tensors_of_torchscript(file: str, prefix: str, network: str) -> None:
    """In constants of the branches of an If, in constants of the one graph, and in initialisers."""
    found = renamed(tensors_of(silero(file)), rf"^{re.escape(prefix)}(?={LEARNED})", "")
    assert len(found) == PARTS
    assert_same(found, from_torchscript(network))


def test_silero_for_sequences_has_the_gates_of_torchscript_in_another_order_and_its_biases_in_one() -> None:
    """torch's exporter writes an LSTM's gates as ONNX orders them (i, o, f, c) and joins its two biases: the mean
    square of the weights stays, that of the bias is the mean of both."""
    found = dict(tensors_of(silero("silero_vad_16k_sequence.onnx")))
    expected = dict(from_torchscript("_model"))
    biases = [expected.pop(f"decoder.rnn.bias_{part}") for part in ("ih", "hh")]
    expected["decoder.rnn.bias"] = (1024, sum(mean_square for _, mean_square in biases) / 2)
    names = {
        **{
            f"encoder.{number}.{kind}": f"encoder.{number}.reparam_conv.{kind}" for number in range(4) for kind in KINDS
        },
        **{f"output.{kind}": f"decoder.decoder.2.{kind}" for kind in KINDS},
        "stft.forward_basis_buffer": "stft.forward_basis_buffer",
        "onnx::LSTM_209": "decoder.rnn.weight_ih",
        "onnx::LSTM_210": "decoder.rnn.weight_hh",
        "onnx::LSTM_211": "decoder.rnn.bias",
    }
    assert_same({names[name]: held for name, held in found.items() if name in names}, expected)


KINDS = ("weight", "bias")


def test_silero_in_safetensors_is_another_training_of_the_same_network() -> None:
    """The published files differ: the same shapes and the same fixed transform, and no learned tensor in common."""
    found = tensors_of(silero("silero_vad_16k.safetensors"))
    expected = from_torchscript("_model")
    assert sorted(elements for elements, _ in found.values()) == sorted(elements for elements, _ in expected.values())
    assert found["stft_conv.weight"] == pytest.approx(expected["stft.forward_basis_buffer"], rel=TOLERANCE, abs=0)
    learned = [held for name, held in found.items() if name != "stft_conv.weight"]
    assert len(learned) == PARTS - 1
    assert not any(held == pytest.approx(other, rel=1e-3) for held in learned for other in expected.values())


def test_the_layers_of_silero_are_the_same_whether_names_or_the_graph_tell() -> None:
    """In `.safetensors` the names and the shapes decide, in `.onnx` the operators do."""
    by_name = inspect(str(silero("silero_vad_16k.safetensors"))).layers
    by_graph = inspect(str(silero("silero_vad_16k_sequence.onnx"))).layers
    assert {layer.fans_from for layer in by_graph} == {"graph"}
    shown = [
        [(layer.kind, layer.n_in, layer.n_out, layer.elements) for layer in layers] for layers in (by_name, by_graph)
    ]
    assert shown[0] == shown[1]


# ICLabelNet


def test_iclabel_in_onnx_has_the_tensors_of_torch() -> None:
    """torch's file lists some convolutions twice, in a module and in its `sequential`: the same stored numbers. The
    exporter takes one of each, and changes none."""
    found = tensors_of(iclabel("ICLabelNet.onnx"))
    held = tensors_of(iclabel("ICLabelNet.pt"))
    expected = {name: tensor for name, tensor in held.items() if not re.search(r"(^|\.)seq", name)}
    assert len(expected) == 20
    assert_same(found, expected)
    assert {tensor for name, tensor in held.items() if name not in expected} <= set(expected.values())


def test_the_layers_of_iclabel_are_the_same_in_both_formats() -> None:
    reports = [inspect(str(iclabel(name))) for name in ("ICLabelNet.pt", "ICLabelNet.onnx")]
    layers = [
        {layer.name: (layer.kind, layer.n_in, layer.n_out, layer.mean_square) for layer in report.layers}
        for report in reports
    ]
    assert layers[0].keys() == layers[1].keys()
    for name, (kind, n_in, n_out, mean_square) in layers[0].items():
        assert layers[1][name] == (kind, n_in, n_out, pytest.approx(mean_square, rel=TOLERANCE, abs=0))


# basic-pitch (SavedModel, ONNX, TensorFlow Lite) is compared in test_same_network_basic_pitch.py
