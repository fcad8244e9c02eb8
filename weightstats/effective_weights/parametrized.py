"""Weights that a function computes from what is stored (torch.nn.utils.parametrize), where the function is not known.

Which class a parametrization has is in no file of weights: orthogonal maps, symmetric ones, functions of one's own.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from weightstats.effective_weights import Combined
from weightstats.effective_weights.adapter_names import factor_of
from weightstats.tensors import Tensor, Use

ORIGINAL = re.compile(r"(?P<module>^|.*\.)parametrizations\.(?P<parameter>[^.]+)\.original$", re.DOTALL)
"""The name of what torch.nn.utils.parametrize keeps of a parameter."""

INSIDE = re.compile(r"(?P<original>(^|.*\.)parametrizations\.[^.]+\.)\d+\.[^.]", re.DOTALL)
"""The name of what one of the functions keeps: the base of an orthogonal map, vectors, parameters of its own."""

BECAUSE = "the parametrization's function is not in the file: measured as stored"


def combined(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Sequence[Combined]:
    """The weights of the network that are stored as something else, known as what they become."""
    inside = defaultdict(list)
    for name in tensors:
        if ".parametrizations." in f".{name}" and (match := INSIDE.match(name)):
            inside[match["original"]].append(name)
    found = []
    for name in tensors:
        if not name.endswith(".original") or (match := ORIGINAL.match(name)) is None:
            continue
        weight, kept = match["module"] + match["parameter"], inside[name.removesuffix("original")]
        factors = [other for other in kept if factor_of(other) is not None]  # a function that is known
        use = Use("parameter", "", "of a parametrization whose function is not in the file")
        companions = {other: use for other in kept if other not in factors}
        because = "" if factors and not companions else BECAUSE
        found.append(Combined(name, companions, known_as=weight, because=because))
    return found
