"""What the tensors of a Keras model are for: by the layers that its configuration lists, and by Keras's own names.

The configuration is data: it is looked up here, and what it would have Keras import or run is only listed.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from weightstats.errors import quoted
from weightstats.schemas.gates import KERAS, gates
from weightstats.schemas.keras_normalised import normalised_in
from weightstats.tensors import Part, Use

KERNELS: dict[str, tuple[str, str]] = {
    "Dense": ("linear", "IO"),
    "Conv1D": ("conv1d", "KIO"),
    "Conv2D": ("conv2d", "KKIO"),
    "Conv3D": ("conv3d", "KKKIO"),
    "Convolution1D": ("conv1d", "KIO"),
    "Convolution2D": ("conv2d", "KKIO"),
    "Conv1DTranspose": ("conv_transpose1d", "KOI"),
    "Conv2DTranspose": ("conv_transpose2d", "KKOI"),
    "Conv3DTranspose": ("conv_transpose3d", "KKKOI"),
    "DepthwiseConv1D": ("depthwise_conv1d", "KOO"),
    "DepthwiseConv2D": ("depthwise_conv2d", "KKOO"),
    "SimpleRNN": ("rnn", "IO"),
    "SimpleRNNCell": ("rnn", "IO"),
    "LSTM": ("lstm", "IO"),
    "LSTMCell": ("lstm", "IO"),
    "CuDNNLSTM": ("lstm", "IO"),
    "GRU": ("gru", "IO"),
    "GRUCell": ("gru", "IO"),
    "CuDNNGRU": ("gru", "IO"),
    "ConvLSTM1D": ("conv1d", "KIO"),
    "ConvLSTM2D": ("conv2d", "KKIO"),
    "ConvLSTM3D": ("conv3d", "KKKIO"),
}  # fmt: skip
"""Kind and axes of each class's kernel, and of its recurrent kernel: keras/src/layers, the methods `build`."""

SEPARABLE = {"SeparableConv1D": 1, "SeparableConv2D": 2, "SeparableConvolution2D": 2}
"""Dimensions of the two-step convolutions."""

VARIABLES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(KERNELS, ("kernel", "bias")),
    **dict.fromkeys(
        (name for name in KERNELS if re.search("RNN|LSTM|GRU", name)), ("kernel", "recurrent_kernel", "bias")
    ),
    **dict.fromkeys(SEPARABLE, ("depthwise_kernel", "pointwise_kernel", "bias")),
    "EinsumDense": ("kernel", "bias"),
    "Embedding": ("embeddings",),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "LayerNormalization": ("gamma", "beta"),
    "GroupNormalization": ("gamma", "beta"),
    "RMSNormalization": ("scale",),
    "Normalization": ("mean", "variance", "count"),
    "PReLU": ("alpha",),
}
"""The variables of each class in the order in which Keras 3 numbers them (`vars/0`, ...): keras/src/layers."""

SWITCHES = {"bias": "use_bias", "gamma": "scale", "beta": "center"}
"""Variables that an option of the layer leaves out."""

OTHERS: dict[str, tuple[str, str]] = {
    "bias": ("bias", "added to a layer's output"),
    "gamma": ("norm", "the scale of a normalisation"),
    "scale": ("norm", "the scale of a normalisation"),
    "beta": ("norm", "the shift of a normalisation"),
    "moving_mean": ("buffer", "the running mean of a normalisation, not trained"),
    "moving_variance": ("buffer", "the running variance of a normalisation, not trained"),
    "mean": ("buffer", "the mean of a fixed normalisation, not trained"),
    "variance": ("buffer", "the variance of a fixed normalisation, not trained"),
    "count": ("buffer", "a counter of a normalisation"),
    "alpha": ("parameter", "slopes of an activation function"),
}
"""Variables that are no layer's weight, with what they are."""

MOST_NESTED = 32
"""Models within models that are looked into."""

SPOKEN = ("bias", "gamma", "beta", "moving_mean", "moving_variance")
"""Names that mean the same whichever layer they are found in."""

UNKNOWN_CLASS: dict[tuple[str, int], tuple[str, str]] = {
    ("kernel", 2): ("linear", "IO"),
    ("kernel", 4): ("conv2d", "KKIO"),
    ("recurrent_kernel", 2): ("rnn", "IO"),
    ("depthwise_kernel", 3): ("depthwise_conv1d", "KOO"),
    ("depthwise_kernel", 4): ("depthwise_conv2d", "KKOO"),
    ("pointwise_kernel", 3): ("conv1d", "KIO"),
    ("pointwise_kernel", 4): ("conv2d", "KKIO"),
    ("embeddings", 2): ("embedding", "IO"),
}
"""What a variable of that name and so many dimensions is in all of Keras's layers, save what `KERNELS` tells apart."""

ATTENTION = {"query": "IOO", "key": "IOO", "value": "IOO", "output": "IIO"}
"""Axes of the kernels of MultiHeadAttention, whose heads are a dimension of their own."""

_ATTENTION_PART = re.compile(r"_?(query|key|value|output)_dense|(query|key|value)|attention_(output)")
_RECURRENT = re.compile("LSTM|GRU")
_NUMBERED = re.compile(r"_\d+$")
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """One layer of a configuration."""

    name: str
    class_name: str
    options: Mapping[str, Any]
    whole: Mapping[str, Any] = field(default_factory=dict)
    """The object of the configuration that it was made from."""

    @property
    def inner(self) -> "LayerConfig":
        """The layer that a wrapper (Bidirectional, TimeDistributed, ...) wraps, itself where it wraps none."""
        return _layer(self.options.get("layer")) or self

    @property
    def layers(self) -> "tuple[LayerConfig, ...]":
        """The layers of a model."""
        listed = self.options.get("layers")
        return tuple(found for found in map(_layer, listed) if found) if isinstance(listed, list) else ()


def model_in(text: str) -> LayerConfig | None:
    """The model that a configuration in JSON describes, or None. ValueError for what is no JSON."""
    try:
        return _layer(json.loads(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def not_loaded(model: LayerConfig | None) -> tuple[str, ...]:
    """What Keras would import or run to rebuild the model, beyond its own layers: nothing of it is."""
    found: dict[str, None] = {}
    waiting: list[Any] = [model.whole] if model else []
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            found.update(dict.fromkeys(_suspects(value)))
        if isinstance(value, dict | list):
            waiting += reversed(list(value.values() if isinstance(value, dict) else value))
    return tuple(found)


class Model:
    """Looks up what the tensors of one file are for."""

    def __init__(self, config: LayerConfig | None) -> None:
        self.config = config
        self.by_name: dict[str, LayerConfig | None] = {}
        self.by_keys: dict[tuple[str, ...], tuple[LayerConfig, tuple[int, ...]]] = {}
        self._scale_free: dict[int, str] = {}
        waiting: list[tuple[LayerConfig, tuple[str, ...], tuple[int, ...]]] = [(config, (), ())] if config else []
        while waiting:
            layer, keys, place = waiting.pop()
            if len(place) > MOST_NESTED:
                continue
            self.by_keys[keys] = layer, place
            known = self.by_name.setdefault(layer.name, layer)
            if known is not None and known.class_name != layer.class_name:
                self.by_name[layer.name] = None
            reasons = normalised_in(layer.class_name, layer.options) if layer.layers else {}
            inside = layer.layers
            self._scale_free.update({id(one.whole): reasons[one.name] for one in inside if one.name in reasons})
            listed = enumerate(_counted(inside).items())
            waiting += [(inner, (*keys, "layers", key), (*place, number)) for number, (key, inner) in listed]

    def use(self, path: tuple[str, ...], shape: tuple[int, ...], named: str, count: int) -> Use | None:
        """What a tensor is for, None where neither the configuration nor its name says so.

        `named` is the layer's own name where the file keeps it beside the tensor, '' where not; `count` is the number
        of tensors beside it.
        """
        if len(path) >= 2 and path[-2] == "vars" and path[-1].isdecimal():
            layer = self._numbered(path[:-2], named)
            leaf = _variable(layer, int(path[-1]), count) if layer else ""
        else:
            layer = self._named(path[:-1])
            leaf = _leaf(path[-1]) if path else ""
        part = next((match for key in path[:-1] if (match := _ATTENTION_PART.fullmatch(key))), None)
        if leaf == "kernel" and part and len(shape) == 3 and (layer is None or layer.class_name not in KERNELS):
            axes = ATTENTION[next(filter(None, part.groups()))]
            return Use("linear", axes, "an attention's kernel, its heads a dimension of their own")
        use = _use(layer, leaf, shape)
        if use is None or not use.axes or layer is None or leaf == "recurrent_kernel":
            return use
        return replace(use, scale_free=self._scale_free.get(id(layer.whole), ""))

    def place(self, path: tuple[str, ...]) -> tuple[int, ...]:
        """Where the layer of a tensor with numbered variables comes in the model, () where that is not known."""
        keys = self._listed(path)
        return self.by_keys[keys][1] if keys else ()

    def _listed(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        """The keys of the innermost layer around a tensor that the configuration lists."""
        plain = tuple("layers" if key in _CONTAINERS else key for key in keys)
        known: tuple[str, ...] = ()
        for end in range(2, len(plain) + 1, 2):
            if plain[:end] not in self.by_keys:
                break
            known = plain[:end]
        return known

    def _numbered(self, keys: tuple[str, ...], named: str) -> LayerConfig | None:
        """The layer whose variables are numbered: Keras 3 counts the layers of each class."""
        listed = self._listed(keys)
        layer = self.by_keys[listed][0] if listed else None
        rest = keys[len(listed) :]
        if not rest and layer is not None and named in ("", layer.name):
            return layer
        for key in rest or keys[-1:]:
            if key in ("layer", "forward_layer", "backward_layer") and layer is not None:
                layer = layer.inner
            elif key != "cell":
                layer = _guessed(key) or (
                    LayerConfig(key, "EinsumDense", {}) if _ATTENTION_PART.fullmatch(key) else None
                )
        return layer or _guessed(named)

    def _named(self, keys: tuple[str, ...]) -> LayerConfig | None:
        """The layer whose variables have names: Keras 1 and 2 go by the layers' names."""
        for key in reversed(keys):
            layer = self.by_name.get(key)
            if layer is not None and layer is not self.config and not layer.layers:
                return layer.inner
        return next(filter(None, map(_guessed, reversed(keys))), None)


def _layer(value: Any) -> LayerConfig | None:
    if not isinstance(value, dict) or not isinstance(value.get("class_name"), str):
        return None
    options = value.get("config")
    if isinstance(options, list):  # a Sequential model before Keras 2.2.3
        options = {"layers": options}
    options = options if isinstance(options, dict) else {}
    names = [name for name in (options.get("name"), value.get("name")) if isinstance(name, str)]
    return LayerConfig(names[0] if names else "", value["class_name"], options, value)


def _suspects(value: dict[str, Any]) -> Iterator[str]:
    """What one object of a configuration would have Keras import or run."""
    class_name, module, options = value.get("class_name"), value.get("module"), value.get("config")
    registered = value.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        class_name = registered
    if not isinstance(class_name, str):
        return
    if class_name == "Lambda":
        name = options.get("name") if isinstance(options, dict) else None
        yield f"Lambda layer {quoted(name)} carries code: not loaded"
    elif class_name == "function":
        yield f"the function {quoted(f'{module}.{options}')}: not loaded"
    elif class_name == "__lambda__":
        yield "a lambda function, as code: not loaded"
    elif ">" in class_name or (isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins")):
        in_module = "" if ">" in class_name or not module else f"{module}."
        yield f"the class {quoted(in_module + class_name)}: not loaded"


def _snake_case(name: str) -> str:
    """keras.src.utils.naming.to_snake_case."""
    name = re.sub(r"\W+", "", name.rpartition(">")[2])
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


_BY_SNAKE_CASE = {_snake_case(name): name for name in VARIABLES}


def _guessed(key: str) -> LayerConfig | None:
    """A layer that has the name which Keras gives to the layers of a class unless it is told another."""
    class_name = _BY_SNAKE_CASE.get(_NUMBERED.sub("", key))
    return LayerConfig(key, class_name, {}) if class_name else None


def _counted(layers: Iterable[LayerConfig]) -> dict[str, LayerConfig]:
    """Layers by class and number, as keras.src.saving.saving_lib names them."""
    numbers: dict[str, int] = {}
    found = {}
    for layer in layers:
        name = _snake_case(layer.class_name)
        number = numbers[name] = numbers.get(name, -1) + 1
        found[f"{name}_{number}" if number else name] = layer
    return found


def _variable(layer: LayerConfig, number: int, count: int) -> str:
    """The name of a numbered variable, '' where it is not known."""
    names = [
        name
        for name in VARIABLES.get(layer.class_name, ())
        if layer.options.get(SWITCHES.get(name, ""), True) is not False
    ]
    certain = count == len(names) or (number < count <= len(names) and names[number:][:1] == ["kernel"])
    if layer.class_name in KERNELS or certain:
        return names[number] if number < len(names) else ""
    return ""


def _leaf(key: str) -> str:
    """The name of a variable without what TensorFlow and Keras 1 put around it."""
    key = re.sub(r":\d+$", "", key)
    return {"W": "kernel", "b": "bias"}.get(key.rpartition("_")[2], key) if key[-2:] in ("_W", "_b") else key


def _use(layer: LayerConfig | None, leaf: str, shape: tuple[int, ...]) -> Use | None:
    """What a variable of a layer is for."""
    of = f"the {leaf} of a {layer.class_name}" if layer else f"a {leaf}, as Keras names it"
    if leaf in OTHERS and (leaf in SPOKEN or (layer and leaf in VARIABLES.get(layer.class_name, ()))):
        kind, what = OTHERS[leaf]
        return Use(kind, "", f"{what}: {of}")
    kind, axes = _axes(layer, leaf, shape)
    if len(axes) != len(shape) or not axes:
        return None
    groups = layer.options.get("groups", 1) if layer and leaf == "kernel" else 1
    outputs = shape[axes.index("O")] if "O" in axes else 0
    groups = groups if isinstance(groups, int) and groups > 0 and outputs % groups == 0 else 1
    if kind.startswith("depthwise"):
        groups = max(1, shape[-2])
    by: Literal["graph", "name"] = "graph" if layer and layer.whole else "name"
    return Use(kind, axes, of, groups, by, _gates(layer, leaf, axes, shape))


def _gates(layer: LayerConfig | None, leaf: str, axes: str, shape: tuple[int, ...]) -> tuple[Part, ...]:
    """The gates of a recurrent layer, whose maps lie side by side in its columns."""
    match = _RECURRENT.search(layer.class_name) if layer else None
    if match is None or axes[-1] != "O" or leaf not in ("kernel", "recurrent_kernel"):
        return ()
    names = KERAS[match[0].lower()]
    units = layer.options.get("units", layer.options.get("filters")) if layer else None
    if isinstance(units, int) and units * len(names) != shape[-1]:
        return ()
    if leaf == "recurrent_kernel" and shape[-2] * len(names) != shape[-1]:
        return ()
    return gates(names, len(shape) - 1, shape[-1])


def _axes(layer: LayerConfig | None, leaf: str, shape: tuple[int, ...]) -> tuple[str, str]:
    """(kind, axes) of a weight, ('', '') where they are not known."""
    if layer is not None and layer.class_name in KERNELS and leaf in ("kernel", "recurrent_kernel", "depthwise_kernel"):
        kind, axes = KERNELS[layer.class_name]
        return (kind, "OIKK") if layer.options.get("dim_ordering") == "th" and axes == "KKIO" else (kind, axes)
    if layer is not None and layer.class_name == "EinsumDense":
        equation = layer.options.get("equation", "ab,bc->ac")
        return ("linear", _einsum_axes(equation)) if leaf == "kernel" else ("", "")
    if layer is not None and not _guessed(_snake_case(layer.class_name)) and leaf == "kernel":
        return "", ""  # a class of somebody's own
    return UNKNOWN_CLASS.get((leaf, len(shape)), ("", ""))


def _einsum_axes(equation: Any) -> str:
    """Axes of the kernel in an equation such as "abc,cd->abd"; '' where it is not one."""
    match = re.fullmatch(r"([\w.]+),(\w+)->([\w.]+)", equation) if isinstance(equation, str) else None
    if match is None:
        return ""
    given, kernel, made = match.groups()
    letters = ["O" if letter not in given else "I" if letter not in made else "B" for letter in kernel]
    return "".join(letters)
