"""Laws for the mean square of a layer's weights, as a function of its fans: the claim under audit and its rivals.

n_in and n_out count the receptive field of a convolution, and only the connections that exist.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weightstats.errors import UsageError

Floats = NDArray[np.float64]

DEFAULT_LAW = "fan-sum"


@dataclass(frozen=True, slots=True)
class Law:
    """m = c / measure(n_in, n_out), with c free or fixed."""

    key: str
    """What `--law` calls it."""

    formula: str
    measure_name: str
    """What the mean square is inversely proportional to; '' for a law that does not depend on the fans."""

    measure: Callable[[Floats, Floats, Floats], Floats]
    """(n_in, n_out, N) to what `measure_name` says, all as arrays of one shape; N counts a layer's elements."""

    constant: float | None
    """c, where an initialisation fixes it."""

    source: str

    def logarithms(self, n_in: Floats, n_out: Floats, elements: Floats | None = None) -> Floats:
        """ln of the law's shape, -ln measure: what ln m is but for ln c. Without `elements` they are n_in·n_out, as in
        a linear layer."""
        shape: Floats = -np.log(self.measure(n_in, n_out, n_in * n_out if elements is None else elements))
        return shape


def _sum(n_in: Floats, n_out: Floats, elements: Floats) -> Floats:
    return n_in + n_out


def _n_in(n_in: Floats, n_out: Floats, elements: Floats) -> Floats:
    return n_in


def _n_out(n_in: Floats, n_out: Floats, elements: Floats) -> Floats:
    return n_out


def _max(n_in: Floats, n_out: Floats, elements: Floats) -> Floats:
    return np.maximum(n_in, n_out)


def _spectral(n_in: Floats, n_out: Floats, elements: Floats) -> Floats:
    return n_in * np.maximum(1.0, n_in / n_out)


def _elements(n_in: Floats, n_out: Floats, elements: Floats) -> Floats:
    return elements


def _one(n_in: Floats, n_out: Floats, elements: Floats) -> Floats:
    return np.ones_like(n_in)


_SPECTRAL = "n_in·max(1, n_in/n_out)"

TRUNCATED = 0.7737413
"""Variance of a standard normal distribution truncated at ±2: 1 - 4·φ(2)/(Φ(2) - Φ(-2))."""

LAWS: tuple[Law, ...] = (
    Law("fan-sum", "c/(n_in+n_out)", "n_in+n_out", _sum, None, "the claim under audit"),
    Law("glorot", "2/(n_in+n_out)", "n_in+n_out", _sum, 2.0, "Glorot & Bengio 2010, AISTATS; torch's xavier_*"),
    Law("fan-in", "c/n_in", "n_in", _n_in, None, "the form of LeCun's, He's and torch's own initialisations"),
    Law("lecun", "1/n_in", "n_in", _n_in, 1.0, "LeCun et al. 1998; muP's hidden layers, arXiv:2203.03466"),
    Law("he", "2/n_in", "n_in", _n_in, 2.0, "He et al. 2015, arXiv:1502.01852"),
    Law("torch", "1/(3·n_in)", "n_in", _n_in, 1 / 3, "torch.nn.Linear and Conv: uniform within ±1/sqrt(n_in)"),
    Law("fan-out", "c/n_out", "n_out", _n_out, None, "the form of He's for the backward pass"),
    Law("he-fan-out", "2/n_out", "n_out", _n_out, 2.0, "He et al. 2015, arXiv:1502.01852; torchvision's ResNet"),
    Law("largest-fan", "c/max(n_in, n_out)", "max(n_in, n_out)", _max, None, "orthogonal matrices' form"),
    Law("orthogonal", "1/max(n_in, n_out)", "max(n_in, n_out)", _max, 1.0, "Saxe et al. 2014, arXiv:1312.6120"),
    Law("spectral", f"c/({_SPECTRAL})", _SPECTRAL, _spectral, None, "Yang, Simon & Bernstein 2023, arXiv:2310.17813"),
    Law("balanced", "c/N", "N", _elements, None, "Σw² equal, as L2 balances layers: Du et al. 2018, arXiv:1806.00900"),
    Law("constant", "c", "", _one, None, "AdamW's equilibrium, Kosson et al. 2023, arXiv:2305.17212"),
    Law("normal-0.02", "0.0004", "", _one, 0.0004, "GPT-2, BERT: normal with standard deviation 0.02"),
    Law("truncated-0.02", "0.00030950", "", _one, 0.0004 * TRUNCATED, "the same truncated at ±2 standard deviations"),
)  # fmt: skip
"""N counts a layer's elements. Those with the same free form stand together. What depends on a layer's role and not on
its fans alone (torch's recurrent layers, muP's output, GPT-2's residual projections) is in `initialisers`."""

SUPERSET = "superset"
SUPERSET_FORMULA = "c·n_in^a·n_out^b"
SUPERSET_SOURCE = "what c, c/n_in and c/n_out are cases of; in the contest only"


def law_of(key: str) -> Law:
    """The law that `--law` calls so; UsageError where there is none."""
    for law in LAWS:
        if law.key == key:
            return law
    keys = ", ".join(law.key for law in LAWS)
    raise UsageError(f"there is no law {key!r}; there are {keys}: `weightstats laws` says what they are")
