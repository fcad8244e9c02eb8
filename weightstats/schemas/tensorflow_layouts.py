"""What TensorFlow stores under a name in one layout only: the fallback where no graph says what a variable is for."""

import re

from weightstats.schemas.keras_layers import Model
from weightstats.tensors import Use

DEPTHWISE = re.compile(r"(^|/)depthwise_(weights|filter)$|(^|/)depthwise/weights$")
"""Rows, columns, inputs, outputs of each input: slim, tf.nn.depthwise_conv2d, face-api."""

KERNEL = re.compile(r"(^|/)(pointwise_|conv_)?(weights|filters?|w|W)$")
"""What slim, tf.nn's guides, Sonnet and face-api call the weights of a layer."""

TRANSPOSED = re.compile(r"transpose|deconv|upconv", re.IGNORECASE)

STATISTICS = re.compile(r"(^|/)moving_(mean|variance)$")

_KERAS = Model(None)


def use_by_name(name: str, shape: tuple[int, ...], model: Model = _KERAS) -> Use | None:
    """The use of a variable by its name, which has slashes, and its shape; None where that does not tell it.

    `model` is a Keras model's configuration, where there is one. No operator of TensorFlow takes a kernel in another
    layout than the one given here.
    """
    if STATISTICS.search(name):
        return Use("buffer", "", "running statistics of a normalisation by its name, not trained")
    if DEPTHWISE.search(name) and len(shape) == 4:
        because = "its name: TensorFlow's depthwise kernels are rows, columns, inputs, outputs of each"
        return Use("depthwise_conv2d", "KKBO", because)
    if KERNEL.search(name) and len(shape) == 4:
        if TRANSPOSED.search(name):
            return Use("conv_transpose2d", "KKOI", "its name: transposed, outputs come before inputs")
        return Use("conv2d", "KKIO", "its name: TensorFlow's kernels are rows, columns, inputs, outputs")
    use = model.use(tuple(name.split("/")), shape, "", 0)
    return use if use is None or len(use.axes) in (0, len(shape)) else None
