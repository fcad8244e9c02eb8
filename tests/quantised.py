"""Quantised checkpoints: files of them, what is made of them, and reference values that their own libraries gave.

`fixtures/quantised/reference.safetensors` holds small seeded weights as `CASE.name` for each of their tensors and, as
`CASE.__reference__`, what the library itself decodes them to: compressed-tensors 0.20.0 (pack, int8, fp8, nvfp4, mxfp),
bitsandbytes 0.50.2 on the CPU (nf4, fp4, int8), transformers 5.23.0 (`convert_moe_packed_tensors`,
`_dequantize_fp8_weight`), auto-gptq 0.7.1 (`qlinear_cuda_old` and, with the inputs in no order, `qlinear_cuda`, both on
the CPU with the identity as input) and AutoAWQ, commit 88e4c76 (`packing_utils.dequantize_gemm`).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from builders import FIXTURES
from makers import values
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from weightstats.effective_weights import effective
from weightstats.network import Named, find_network
from weightstats.readers import open_checkpoint

REFERENCE = FIXTURES / "quantised" / "reference.safetensors"


def reference(case: str) -> tuple[dict[str, torch.Tensor], NDArray[np.float64]]:
    """The tensors of one case, and what its library decodes them to."""
    tensors = {
        name.removeprefix(f"{case}."): tensor
        for name, tensor in load_file(REFERENCE).items()
        if name.startswith(f"{case}.")
    }
    return tensors, tensors.pop("__reference__").double().numpy()


def cases() -> list[str]:
    """All that there are references for."""
    return sorted({name.split(".", 1)[0] for name in load_file(REFERENCE)})


def written(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any] | None = None) -> Path:
    """A safetensors file of these tensors, and a config.json beside it."""
    path = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder if config is not None else path


def found(path: Path) -> dict[str, Named]:
    """The tensors of the network in a checkpoint, effective weights in place of their codes, by name."""
    return {named.name: named for named in effective(find_network(open_checkpoint(str(path)))).tensors}


def weights(path: Path) -> dict[str, Named]:
    """Those that are effective weights."""
    return {name: named for name, named in found(path).items() if named.stored is not None}


def array(named: Named) -> NDArray[np.float64]:
    """The elements of a weight in its shape."""
    return values(named.tensor).reshape(named.tensor.shape)


def reason(path: Path, name: str) -> str:
    """Why codes are listed as packed integers; fails where they are not."""
    use = found(path)[name].tensor.use
    assert use is not None
    assert (use.kind, use.axes) == ("packed integers", "")
    return use.because
