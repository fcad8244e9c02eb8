"""Networks whose layers `calibration.py` draws mean squares for: tensors under the names and with the shapes of real
checkpoints, which weightstats tells layers, parts and fans of."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from differences import NoBytes

from weightstats.checkpoint import Checkpoint
from weightstats.effective_weights import effective
from weightstats.layers import Layer, classify
from weightstats.network import find_network
from weightstats.observations import Observation
from weightstats.roles import role_of
from weightstats.tensors import Storage, make_tensor

Shapes = Iterator[tuple[str, tuple[int, ...]]]
"""Names of tensors with their shapes, in the checkpoint's order."""


def _linear(name: str, n_in: int, n_out: int) -> Shapes:
    yield f"{name}.weight", (n_out, n_in)
    yield f"{name}.bias", (n_out,)


def _convolution(name: str, n_in: int, n_out: int, size: int) -> Shapes:
    yield f"{name}.weight", (n_out, n_in, size, size)
    yield f"{name}.bias", (n_out,)


def _norm(name: str, size: int) -> Shapes:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (size,)


def _mlp(*sizes: int) -> Shapes:
    for place, (n_in, n_out) in enumerate(pairwise(sizes), 1):
        yield from _linear(f"fc{place}", n_in, n_out)


def _small_cnn() -> Shapes:
    for place, (n_in, n_out) in zip((0, 3, 6, 9), ((3, 32), (32, 64), (64, 64), (64, 128)), strict=True):
        yield from _convolution(f"features.{place}", n_in, n_out, 3)
    yield from _linear("classifier.1", 2048, 256)
    yield from _linear("classifier.4", 256, 10)


def _vgg16() -> Shapes:
    channels = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    for place, n_in, n_out in ((place, *pair) for place, pair in zip(places, pairwise(channels), strict=True)):
        yield from _convolution(f"features.{place}", n_in, n_out, 3)
    yield from _linear("classifier.0", 25088, 4096)
    yield from _linear("classifier.3", 4096, 4096)
    yield from _linear("classifier.6", 4096, 1000)


def _resnet50() -> Shapes:
    yield "conv1.weight", (64, 3, 7, 7)
    yield from _norm("bn1", 64)
    channels = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            yield f"{at}.conv1.weight", (width, channels, 1, 1)
            yield from _norm(f"{at}.bn1", width)
            yield f"{at}.conv2.weight", (width, width, 3, 3)
            yield from _norm(f"{at}.bn2", width)
            yield f"{at}.conv3.weight", (4 * width, width, 1, 1)
            yield from _norm(f"{at}.bn3", 4 * width)
            if block == 0:
                yield f"{at}.downsample.0.weight", (4 * width, channels, 1, 1)
                yield from _norm(f"{at}.downsample.1", 4 * width)
            channels = 4 * width
    yield from _linear("fc", 2048, 1000)


def _gpt2() -> Shapes:
    yield "wte.weight", (50257, 768)
    yield "wpe.weight", (1024, 768)
    for block in range(12):
        at = f"h.{block}"
        yield f"{at}.ln_1.weight", (768,)
        yield f"{at}.ln_1.bias", (768,)
        for name, n_in, n_out in (
            ("attn.c_attn", 768, 2304),
            ("attn.c_proj", 768, 768),
            ("mlp.c_fc", 768, 3072),
            ("mlp.c_proj", 3072, 768),
        ):
            yield f"{at}.{name}.weight", (n_in, n_out)
            yield f"{at}.{name}.bias", (n_out,)


def _llama(width: int, key_value: int, hidden: int, vocabulary: int) -> Shapes:
    yield "model.embed_tokens.weight", (vocabulary, width)
    for block in range(32):
        at = f"model.layers.{block}"
        for name, n_in, n_out in (
            ("self_attn.q_proj", width, width),
            ("self_attn.k_proj", width, key_value),
            ("self_attn.v_proj", width, key_value),
            ("self_attn.o_proj", width, width),
            ("mlp.gate_proj", width, hidden),
            ("mlp.up_proj", width, hidden),
            ("mlp.down_proj", hidden, width),
        ):
            yield f"{at}.{name}.weight", (n_out, n_in)
        yield f"{at}.input_layernorm.weight", (width,)
        yield f"{at}.post_attention_layernorm.weight", (width,)
    yield "model.norm.weight", (width,)
    yield "lm_head.weight", (vocabulary, width)


@dataclass(frozen=True, slots=True)
class SimulatedNetwork:
    """The layers of a checkpoint that a law is fitted to."""

    name: str
    layers: tuple[Observation, ...]
    """With a mean square of 1."""

    @property
    def shapes(self) -> int:
        """Distinct (n_in, n_out, N)."""
        return len({layer.shape for layer in self.layers})

    @property
    def fan_sums(self) -> int:
        """Distinct values of n_in+n_out."""
        return len({layer.n_in + layer.n_out for layer in self.layers})

    @property
    def roles(self) -> int:
        """Distinct roles."""
        return len({layer.role for layer in self.layers})

    @property
    def cells(self) -> int:
        """Distinct pairs of shape and role."""
        return len({(layer.shape, layer.role) for layer in self.layers})


CHECKPOINTS: dict[str, tuple[Callable[[], Shapes], bool]] = {
    "MLP": (lambda: _mlp(784, 512, 256, 128, 64, 10), False),
    "deep MLP": (lambda: _mlp(784, 512, 512, 512, 256, 256, 128, 10), False),
    "small CNN": (_small_cnn, False),
    "VGG16": (_vgg16, False),
    "ResNet-50": (_resnet50, False),
    "GPT-2": (_gpt2, False),
    "GPT-2 as stored": (_gpt2, True),
    "LLaMA-7B": (lambda: _llama(4096, 4096, 11008, 32000), False),
    "LLaMA-3-8B": (lambda: _llama(4096, 1024, 14336, 128256), False),
}
"""The tensors, and whether fused weights are taken as they are stored. Names and shapes are those of torchvision's
vgg16 and resnet50, and of gpt2, huggyllama/llama-7b and meta-llama/Meta-Llama-3-8B on the Hugging Face hub."""


@cache
def network(name: str) -> SimulatedNetwork:
    """One of CHECKPOINTS."""
    shapes, as_stored = CHECKPOINTS[name]
    tensors, start, source = [], 0, NoBytes()
    for tensor, shape in shapes():
        length = 4 * math.prod(shape)
        tensors.append(make_tensor((tensor,), shape, "F32", Storage(source, start, length)))
        start += length
    checkpoint = Checkpoint(location=name, format="names and shapes", bytes=start, tensors=tuple(tensors))
    return SimulatedNetwork(
        name,
        tuple(
            Observation(item.name, item.n_in, item.n_out, 1.0, role_of(item.name), item.tensor.elements)
            for item in classify(effective(find_network(checkpoint, root="")), as_stored=as_stored)
            if isinstance(item, Layer) and item.left_out_because is None
        ),
    )
