"""The gates of recurrent layers whose matrices lie in one tensor, by the order in which each library stacks them."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from weightstats.tensors import Part, Slice

Gates: TypeAlias = Mapping[str, tuple[str, ...]]
"""By the kind of layer, the names of its gates in their order; without names where there is but one."""

TORCH: Gates = {"lstm": ("input", "forget", "cell", "output"), "gru": ("reset", "update", "new"), "rnn": ("",)}
"""torch.nn.LSTM and GRU, `weight_ih_l0`: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html"""

ONNX: Gates = {"lstm": ("input", "output", "forget", "cell"), "gru": ("update", "reset", "new"), "rnn": ("",)}
"""https://onnx.ai/onnx/operators/onnx__LSTM.html (iofc) and onnx__GRU.html (zrh)."""

KERAS: Gates = {"lstm": ("input", "forget", "cell", "output"), "gru": ("update", "reset", "new"), "rnn": ("",)}
"""keras/src/layers/rnn/lstm.py and gru.py, the methods `call` of the cells; convolutional ones as well."""

BLOCKED: Gates = {"lstm": ("input", "cell", "forget", "output")}
"""tf.compat.v1's BasicLSTMCell, LSTMCell and LSTMBlockCell (tensorflow/python/keras/layers/legacy_rnn), Haiku's LSTM
(haiku/_src/recurrent.py), and TFLite's LSTM of five inputs (tensorflow/lite/kernels/lstm.cc)."""


def gates(
    names: Sequence[str], axis: int, size: int, directions: int = 1, direction_axis: int | None = None
) -> tuple[Part, ...]:
    """The parts of a tensor whose axis of `size` has the gates one after the other; none where they do not fit or
    there is but one.

    `directions` is 2 where another axis has the layer that reads forwards and the one that reads in reverse.
    """
    if size < len(names) or size % len(names) or directions not in (1, 2):
        return ()
    step = size // len(names)
    parts = []
    for direction, word in enumerate(("forward", "reverse")[:directions] if directions == 2 else ("",)):
        for number, name in enumerate(names):
            cuts = [Slice(axis, number * step, step, size)] if len(names) > 1 else []
            if directions == 2 and direction_axis is not None:
                cuts.append(Slice(direction_axis, direction, 1, 2))
            parts.append(Part(".".join(filter(None, (word, name))), tuple(cuts)))
    return tuple(parts) if len(parts) > 1 else ()
