"""What libraries call the factors of low-rank adapters, and the weights that they are added to."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from weightstats.tensors import Tensor

BASES: tuple[str, ...] = (
    "base_layer.weight",  # peft
    "weight",  # peft before 0.7, torchtune, loralib, and adapters that are loaded beside their network
    "linear.weight",  # LitGPT
)
"""What follows a module's name in that of the weight that its adapter is added to, the more telling first."""

WRAPPED = ("base_layer.", "linear.")
"""What those put into the names of the module that an adapter belongs to."""

FACTORS: tuple[tuple[str, str], ...] = (
    # peft: `X.lora_A.weight` in an adapter's file, `X.lora_A.default.weight` in a whole state dict; torchtune: `lora_a`
    # parameters without `.weight` in loralib, LitGPT and peft's embeddings
    (
        r"\.lora_(?P<embedding>embedding_)?(?P<side>A|B|a|b)(\.(?P<adapter>(?!bias$)[^.]+))??(\.weight)?$",
        "lora_A and lora_B",
    ),
    # kohya-ss and LyCORIS
    (r"\.lora_(?P<side>down|up|mid)\.weight$", "lora_down and lora_up"),
    # diffusers before it used peft
    (r"[._]lora(_linear_layer|_conv_layer|_layer)?\.(?P<side>down|up)\.weight$", "lora.down and lora.up"),
    # LyCORIS: the Hadamard product of two products, and a Kronecker product
    (r"\.(?P<side>hada_w[12]_[ab]|hada_t[12])$", "LoHa"),
    (r"\.(?P<side>lokr_w[12](_[ab])?|lokr_t2)$", "LoKr"),
    # peft: the same two
    (r"\.(?P<side>hada_w[12]_[ab]|hada_t[12]|lokr_w[12](_[ab])?|lokr_t2)\.(?P<adapter>[^.]+)$", "LoHa or LoKr"),
)
"""Ends of factors' names, each with what the report calls them."""

SIDES: Mapping[str, str] = {"A": "down", "a": "down", "down": "down", "B": "up", "b": "up", "up": "up"}
"""Which factor is applied first; any other name is of an adapter that is more than a product of two."""

BEYOND: tuple[tuple[str, str], ...] = (
    (r"\.(lora_magnitude_vector|dora_scale|magnitude)(\.|$)", "its magnitudes (DoRA) go beyond a sum"),
    (r"\.lora_E(\.|$)", "a diagonal stands between its factors (AdaLoRA)"),
    (r"\.lora_[^.]+(\.|$)", "beside its factors it has what is not known"),
)
"""What else an adapter may have, so that it is not a product that is added, each with the reason that this is: peft,
LyCORIS and torchtune (arXiv:2402.09353); peft (arXiv:2303.10512). The first that fits counts."""

LONGEST = 120
"""Characters at a name's end in which its factor is looked for."""


@dataclass(frozen=True, slots=True)
class Factor:
    """What a factor's name says."""

    module: str
    """What the adapter belongs to."""

    adapter: str
    """The adapter's own name, '' where it has none."""

    side: str
    """`down` for A, which is applied first, `up` for B; for others their own name."""

    is_embedding: bool
    """Whether it belongs to a table of vectors, which is stored with its inputs first."""

    origin: str


_PATTERNS = tuple((re.compile(pattern), origin) for pattern, origin in FACTORS)
_BEYOND = tuple((re.compile(pattern), reason) for pattern, reason in BEYOND)


def factor_of(name: str) -> Factor | None:
    """What a tensor's name says of the adapter that it is a factor of; None where it is none."""
    tail = name[-LONGEST:]
    if "lora" not in tail and "hada_" not in tail and "lokr_" not in tail:
        return None
    for pattern, origin in _PATTERNS:
        if (match := pattern.search(tail)) is None:
            continue
        groups = match.groupdict()
        module = name[: len(name) - len(tail) + match.start()]
        return Factor(
            module=module,
            adapter=groups.get("adapter") or "",
            side=SIDES.get(groups["side"], groups["side"]),
            is_embedding=bool(groups.get("embedding")),
            origin=origin,
        )
    return None


def base_of(tensors: Mapping[str, Tensor], module: str) -> str | None:
    """The name of the weight that a module's adapters are added to, if it is in the file."""
    names = [f"{module}.{leaf}" for leaf in BASES]
    if ".parametrizations." in module and module.endswith(".0"):
        names.append(f"{module[:-1]}original")  # minLoRA
    return next((name for name in names if name in tensors), None)


def unwrapped(base: str, module: str) -> str:
    """The name that a base, or the bias beside it, would have without its adapter."""
    leaf = base.removeprefix(f"{module}.")
    return next((f"{module}.{leaf.removeprefix(start)}" for start in WRAPPED if leaf.startswith(start)), "")


def beyond(names: Iterable[str]) -> dict[str, str]:
    """Modules whose adapters are not products that are added, as far as names tell, with the reason."""
    found: dict[str, str] = {}
    for name in names:
        tail = name[-LONGEST:]
        if not any(word in tail for word in ("lora_", "dora_", "magnitude")) or factor_of(name) is not None:
            continue
        for pattern, reason in _BEYOND:
            if (match := pattern.search(tail)) is not None and not tail.endswith(".bias"):
                found.setdefault(name[: len(name) - len(tail) + match.start()], reason)
                break
    return found
