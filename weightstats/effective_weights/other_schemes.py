"""Quantised weights that are recognised and not decoded, so that nothing of theirs is measured as a weight."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weightstats.effective_weights import Combined
from weightstats.effective_weights.companion_uses import activation_scales, companion
from weightstats.effective_weights.quantisation_config import quantisation, text
from weightstats.errors import shortened
from weightstats.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one is told by the leaves of a module's names."""

    name: str
    codes: str
    """Of integers."""

    beside: tuple[str, ...]
    """One of them at least is there."""


SCHEMES = (
    Scheme("HQQ", "W_q", ("scale", "zero")),  # github.com/mobiusml/hqq, hqq/core/quantize.py
    Scheme("AQLM", "codes", ("codebooks", "scales")),  # github.com/Vahe1994/AQLM, inference_lib
    Scheme("ExLlamaV2", "q_weight", ("q_scale", "q_scale_max", "q_groups", "q_group_map", "q_perm", "q_invperm")),
    Scheme("ExLlamaV3", "trellis", ("suh", "svh", "su", "sv", "mcg", "mul1")),
    Scheme("QuIP#", "Qidxs", ("SU", "SV", "Wscale", "codebook_id")),  # github.com/Cornell-RelaxML/quip-sharp
    Scheme("VPTQ", "indices", ("centroids", "weight_scale", "weight_bias", "res_centroids", "outlier_centroids")),
    Scheme("optimum-quanto", "weight._data", ("weight._scale", "weight._shift")),
    Scheme("optimum-quanto", "weight._data._data", ("weight._scale", "weight._shift")),
    Scheme("torchao", "_weight_qdata", ("_weight_scale", "_weight_zero_point")),
    Scheme("torchao", "weight_qdata", ("weight_scale", "weight_zero_point")),
    Scheme("EETQ", "weight", ("weight_scales",)),  # github.com/NetEase-FuXi/EETQ: interleaved for its kernels
    Scheme("BitNet or another that packs bytes", "weight", ("weight_scale", "weight_zero_point")),
    Scheme("one whose scales stand alone", "qweight", ("scales", "qzeros", "g_idx", "lookup_table", "scale_and_zero")),
    Scheme("one of words", "weight_packed", ("weight_scale", "weight_global_scale", "weight_shape")),
    Scheme("one of words", "weight", ("scales", "biases")),
)
"""Asked in this order."""


def combined(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Iterator[Combined]:
    """One unresolved weight for each tensor of integers that looks so."""
    method = text(quantisation(config), "quant_method", "quant_algo")
    called = f", which the configuration calls {shortened(method)}" if method else ""
    for name, carrier in tensors.items():
        if carrier.dtype.kind != "integer" or carrier.encoded_bytes is not None:
            continue
        for scheme in SCHEMES:
            module = name.removesuffix(scheme.codes)
            beside = [module + leaf for leaf in scheme.beside if module + leaf in tensors]
            if module == name or module[-1:] not in ("", ".") or not beside:
                continue
            yield Combined(
                name,
                {other: companion("scales or tables") for other in beside},
                unresolved=f"packed weights of a scheme that is not decoded: {scheme.name}{called}",
                others=activation_scales(name, tensors),
            )
            break
