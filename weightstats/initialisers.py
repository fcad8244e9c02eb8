"""Initialisers with fixed constants: from which distribution they draw, and which mean square they give a layer."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Family: TypeAlias = Literal["linear", "bilinear", "convolution", "recurrent", "embedding"]


@dataclass(frozen=True, slots=True)
class Distribution:
    """What elements are drawn from, and how the kurtosis of N independent ones scatters.

    The excess kurtosis of a sample is on average `excess_kurtosis` + `bias`/N, with a variance of `variance`/N and a
    skewness of `skew`/sqrt(N).
    """

    name: str
    excess_kurtosis: float
    bias: float
    variance: float
    skew: float
    peak: float
    """The largest magnitude over the root mean square; infinite where there is none."""

    share_beyond: Callable[[float], float]
    """The share of elements whose magnitude exceeds so many root mean squares."""


def _distribution(
    name: str,
    moments: tuple[float, float, float, float],
    skew: float,
    peak: float,
    share_beyond: Callable[[float], float],
) -> Distribution:
    """A distribution about 0 of these second, fourth, sixth and eighth moments, whose odd ones are 0.

    Bias and variance are those of m4/m2² to order 1/N, by the delta method.
    """
    second = moments[0]
    fourth, sixth, eighth = (moment / second**power for power, moment in enumerate(moments[1:], 2))
    bias = 6 + 3 * fourth**2 - 3 * fourth - 2 * sixth
    variance = eighth - 4 * fourth * sixth + 4 * fourth**3 - fourth**2
    return Distribution(name, fourth - 3.0, bias, variance, skew, peak, share_beyond)


TRUNCATION = 2.0
"""Standard deviations at which TensorFlow, Keras and JAX cut a normal distribution."""

_KEPT = math.erf(TRUNCATION / math.sqrt(2))
"""The share of a normal distribution within them."""


def _truncated_moments() -> tuple[float, float, float, float]:
    """Of what is left of a standard normal: integration by parts leads from each even moment to the next."""
    edge = 2 * math.exp(-(TRUNCATION**2) / 2) / math.sqrt(2 * math.pi) / _KEPT
    second = 1 - TRUNCATION * edge
    fourth = 3 * second - TRUNCATION**3 * edge
    sixth = 5 * fourth - TRUNCATION**5 * edge
    return second, fourth, sixth, 7 * sixth - TRUNCATION**7 * edge


TRUNCATED_VARIANCE = _truncated_moments()[0]
"""0.7737; Keras and JAX divide by its root, .87962566103423978, where the variance is to be the nominal one."""

# the skewness of a normal sample's kurtosis is known, the other two are from 400,000 simulated samples
UNIFORM = _distribution(
    "uniform", (1 / 3, 1 / 5, 1 / 7, 1 / 9), 4.1, math.sqrt(3), lambda x: max(0.0, 1.0 - x / math.sqrt(3))
)
TRUNCATED = _distribution(
    "truncated normal",
    _truncated_moments(),
    4.65,
    TRUNCATION / math.sqrt(TRUNCATED_VARIANCE),
    lambda x: max(0.0, 1.0 - math.erf(x * math.sqrt(TRUNCATED_VARIANCE / 2)) / _KEPT),
)
NORMAL = _distribution(
    "normal", (1.0, 3.0, 15.0, 105.0), 6 * math.sqrt(6), math.inf, lambda x: math.erfc(x / math.sqrt(2))
)
DISTRIBUTIONS = (UNIFORM, TRUNCATED, NORMAL)


@dataclass(frozen=True, slots=True)
class Matrix:
    """What an orthogonal initialiser fills, and the block of it that the layer is, perhaps all."""

    rows: int
    columns: int
    block_rows: int
    block_columns: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """A layer as initialisers see it, in each of the ways in which libraries count."""

    family: Family
    elements: int
    """Independent ones."""

    fans: tuple[tuple[int, int], ...]
    """(fan-in, fan-out), first those of the layer's own connections."""

    matrices: tuple[Matrix, ...]
    inputs: int
    """Without the receptive field; of a bilinear layer, the first ones."""

    outputs: int
    """Without the receptive field: the hidden size of a recurrent gate, the width of an embedding."""

    blocks: int = 0
    """How many layers of its kind write into a residual stream, 0 where it is none of those."""


Laws: TypeAlias = Callable[[Drawn], Iterable[float]]
"""The mean squares that an initialiser gives a layer, one for each way of counting."""


@dataclass(frozen=True, slots=True)
class Initialiser:
    """One way of drawing a layer's weights, about 0."""

    name: str
    distribution: Distribution
    laws: Laws
    families: tuple[Family, ...]
    source: str


def _fans(law: Callable[[int, int], float]) -> Laws:
    return lambda drawn: [law(fan_in, fan_out) for fan_in, fan_out in drawn.fans]


def _always(mean_square: float) -> Laws:
    return lambda drawn: (mean_square,)


def _glorot(fan_in: int, fan_out: int) -> float:
    return 2 / (fan_in + fan_out)


def _he(fan_in: int, fan_out: int) -> float:
    return 2 / fan_in


def _he_out(fan_in: int, fan_out: int) -> float:
    return 2 / fan_out


def _lecun(fan_in: int, fan_out: int) -> float:
    return 1 / fan_in


def _residual(drawn: Drawn) -> Iterable[float]:
    return (0.02**2 / (2 * drawn.blocks),) if drawn.blocks else ()


_MAPS: tuple[Family, ...] = ("linear", "bilinear", "convolution")
_GATES: tuple[Family, ...] = (*_MAPS, "recurrent")
_ALL: tuple[Family, ...] = (*_GATES, "embedding")

_TORCH = "reset_parameters of the modules in torch.nn"
_GLOROT = (
    "Glorot & Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html; torch's xavier_, Keras' and JAX's glorot_"
)
_HE = "He et al. 2015, arXiv:1502.01852; torch's kaiming_, Keras' and JAX's he_"
_LECUN = "LeCun et al. 1998, doi:10.1007/3-540-49430-8_2; Keras' and JAX's lecun_"
_KERAS = "what keras.initializers take where nothing else is said, and keras.layers.Embedding"

INITIALISERS: tuple[Initialiser, ...] = (
    Initialiser("torch's default", UNIFORM, _fans(lambda i, o: 1 / (3 * i)), ("linear", "convolution"), _TORCH),
    Initialiser("torch's default", UNIFORM, lambda drawn: (1 / (3 * drawn.inputs),), ("bilinear",), _TORCH),
    Initialiser("torch's default", UNIFORM, lambda drawn: (1 / (3 * drawn.outputs),), ("recurrent",), _TORCH),
    Initialiser("torch's default", NORMAL, _always(1.0), ("embedding",), _TORCH),
    Initialiser("Glorot uniform", UNIFORM, _fans(_glorot), _ALL, _GLOROT),
    Initialiser("Glorot normal", NORMAL, _fans(_glorot), _ALL, _GLOROT),
    Initialiser("Glorot truncated normal", TRUNCATED, _fans(_glorot), _ALL, _GLOROT),
    Initialiser("He uniform", UNIFORM, _fans(_he), _GATES, _HE),
    Initialiser("He normal", NORMAL, _fans(_he), _GATES, _HE),
    Initialiser("He truncated normal", TRUNCATED, _fans(_he), _GATES, _HE),
    Initialiser("He uniform by fan-out", UNIFORM, _fans(_he_out), _MAPS, _HE),
    Initialiser("He normal by fan-out", NORMAL, _fans(_he_out), _MAPS, f"{_HE}; torchvision's ResNet"),
    Initialiser("He truncated normal by fan-out", TRUNCATED, _fans(_he_out), _MAPS, f"{_HE}; Keras' EfficientNet"),
    Initialiser("LeCun uniform", UNIFORM, _fans(_lecun), _GATES, f"{_LECUN}; Detectron2's c2_xavier_fill"),
    Initialiser("LeCun normal", NORMAL, _fans(_lecun), _GATES, _LECUN),
    Initialiser("LeCun truncated normal", TRUNCATED, _fans(_lecun), _GATES, f"{_LECUN}; Flax's Dense and Conv"),
    Initialiser(
        "Glorot uniform with gain 1/sqrt(2)",
        UNIFORM,
        _fans(lambda i, o: 1 / (i + o)),
        ("linear",),
        "q, k and v apart in fairseq's MultiheadAttention",
    ),
    Initialiser(
        "Glorot uniform with gain sqrt(2)",
        UNIFORM,
        _fans(lambda i, o: 4 / (i + o)),
        _MAPS,
        "torch.nn.init.calculate_gain('relu')",
    ),
    Initialiser(
        "Glorot uniform of the flattened kernel",
        UNIFORM,
        lambda drawn: (2 / (drawn.fans[0][0] + drawn.outputs),),
        ("convolution",),
        "patches in MAE, arXiv:2111.06377, and timm's Vision Transformer",
    ),
    Initialiser(
        "uniform 1/sqrt(fan-out)",
        UNIFORM,
        _fans(lambda i, o: 1 / (3 * o)),
        ("linear",),
        "the classifier of torchvision's and timm's EfficientNet",
    ),
    Initialiser(
        "normal 1/sqrt(width)",
        NORMAL,
        lambda drawn: (1 / drawn.outputs,),
        ("embedding",),
        "fairseq's Embedding; flax.linen.Embed",
    ),
    Initialiser("normal 0.02", NORMAL, _always(0.02**2), _ALL, "GPT-2, BERT; torch's trunc_normal_ cut at ±2, not 2 σ"),
    Initialiser("normal 0.02/sqrt(2 blocks)", NORMAL, _residual, ("linear",), "GPT-2's residual projections"),
    Initialiser("normal 0.01", NORMAL, _always(0.01**2), _MAPS, "AlexNet, doi:10.1145/3065386; torchvision's VGG"),
    Initialiser("normal 1", NORMAL, _always(1.0), _MAPS, "equalised learning rates, arXiv:1710.10196"),
    Initialiser("normal 0.05", NORMAL, _always(0.05**2), _GATES, _KERAS),
    Initialiser("truncated normal 0.02", TRUNCATED, _always(0.02**2 * TRUNCATED_VARIANCE), _ALL, "BERT in TensorFlow"),
    Initialiser("truncated normal 0.05", TRUNCATED, _always(0.05**2 * TRUNCATED_VARIANCE), _GATES, _KERAS),
    Initialiser("uniform 0.05", UNIFORM, _always(0.05**2 / 3), _ALL, _KERAS),
    Initialiser("uniform 0.1", UNIFORM, _always(0.1**2 / 3), _ALL, "torch's examples/word_language_model"),
)  # fmt: skip
"""Those that libraries and well-known networks use, in the order in which they are named."""

ORTHOGONAL_GAINS = {
    "orthogonal": 1.0,
    "orthogonal with gain sqrt(2)": math.sqrt(2),
    "orthogonal with gain 0.01": 0.01,
}
"""Saxe et al. 2013, arXiv:1312.6120; torch's orthogonal_, Keras' recurrent kernels. The gains are those of
reinforcement learning (stable-baselines3's ActorCriticPolicy)."""
