"""What TensorFlow stores under a name in one layout only: the fallback where no graph says what a variable is for."""

import re
from dataclasses import replace

from weightstats.schemas.gates import BLOCKED, gates
from weightstats.schemas.keras_layers import Model
from weightstats.tensors import Use

DEPTHWISE = re.compile(r"(^|/)depthwise_(weights|filter)$|(^|/)depthwise/weights$")
"""Rows, columns, inputs, outputs of each input: slim, tf.nn.depthwise_conv2d, face-api."""

KERNEL = re.compile(r"(^|/)(pointwise_|conv_)?(weights|filters?|w|W)$")
"""What slim, tf.nn's guides, Sonnet and face-api call the weights of a layer."""

TRANSPOSED = re.compile(r"transpose|deconv|upconv", re.IGNORECASE)

STATISTICS = re.compile(r"(^|/)moving_(mean|variance)$")

OLD_LSTM = re.compile(
    r"(^|/)(basic_lstm_cell|lstm_block_cell)(_\d+)?/(kernel|weights)$"
    r"|(^|/)(rnn|bidirectional_rnn)(_\d+)?/(.*/)?lstm_cell(_\d+)?/(kernel|weights)$"
)
"""tf.compat.v1.nn.rnn_cell's LSTMs: (inputs and hidden state, gates of outputs). Keras's do not lie in an `rnn`."""

OLD_GRU = re.compile(r"(^|/)(block_)?gru_cell(_v2)?(_\d+)?/(?P<of>gates|candidate)/(kernel|weights)$")
"""tf.compat.v1.nn.rnn_cell.GRUCell: reset and update in one matrix, the candidate in another."""

RECURRENT = ("lstm", "gru")

_LONGEST_NAME = 256
"""Characters at the end of a name that these patterns are tried on: they take quadratic time on hostile names."""

_KERAS = Model(None)


def use_of(by_graph: Use | None, name: str, shape: tuple[int, ...], model: Model = _KERAS) -> Use | None:
    """What the graph says of a variable, else what its name says."""
    return combined(by_graph, use_by_name(name, shape, model))


def combined(by_graph: Use | None, by_name: Use | None) -> Use | None:
    """What the graph says of a variable, or what its name says where that is more: to a graph, the gates of a recurrent
    layer are one matrix.
    """
    if by_graph is None or by_name is None or by_name.kind not in RECURRENT:
        return by_graph or by_name
    if by_graph.kind != "linear" or by_graph.axes != by_name.axes:
        return by_graph
    return replace(by_name, because=f"{by_graph.because}; {by_name.because}")


def use_by_name(name: str, shape: tuple[int, ...], model: Model = _KERAS) -> Use | None:
    """The use of a variable by its name, which has slashes, and its shape; None where that does not tell it.

    `model` is a Keras model's configuration, where there is one. No operator of TensorFlow takes a kernel in another
    layout than the one given here.
    """
    if STATISTICS.search(name):
        return Use("buffer", "", "running statistics of a normalisation by its name, not trained")
    if DEPTHWISE.search(name) and len(shape) == 4:
        because = "its name: TensorFlow's depthwise kernels are rows, columns, inputs, outputs of each"
        return Use("depthwise_conv2d", "KKOO", because, groups=max(1, shape[2]), by="name")
    if len(shape) == 2 and (use := _old_recurrent(name, shape)) is not None:
        return use
    if KERNEL.search(name) and len(shape) == 4:
        if TRANSPOSED.search(name):
            return Use("conv_transpose2d", "KKOI", "its name: transposed, outputs come before inputs", by="name")
        return Use("conv2d", "KKIO", "its name: TensorFlow's kernels are rows, columns, inputs, outputs", by="name")
    use = model.use(tuple(name.split("/")), shape, "", 0)
    return use if use is None or len(use.axes) in (0, len(shape)) else None


def _old_recurrent(name: str, shape: tuple[int, ...]) -> Use | None:
    """A kernel of TensorFlow 1's recurrent cells, which has the inputs and the hidden state in its rows."""
    name = name[-_LONGEST_NAME:]
    if OLD_LSTM.search(name):
        because = "its name: the input, cell, forget and output gate of TensorFlow 1's LSTM, side by side"
        parts = gates(BLOCKED["lstm"], 1, shape[1]) if shape[0] * 4 > shape[1] else ()
        return Use("lstm", "IO", because, by="name", parts=parts) if parts else None
    match = OLD_GRU.search(name)
    if match is None:
        return None
    because = f"its name: the {match['of']} of TensorFlow 1's GRU"
    parts = gates(("reset", "update"), 1, shape[1]) if match["of"] == "gates" else ()
    return Use("gru", "IO", because, by="name", parts=parts)
