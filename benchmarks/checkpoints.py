"""The checkpoints that are timed: transformers of any size with random weights, as safetensors and torch zip."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STANDARD_DEVIATION = 0.02
"""Of every weight: what transformers are commonly initialised with."""

SUFFIXES = {"safetensors": "safetensors", "torch zip": "pt"}

TORCH_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A network to make, and the file of each format that it goes to."""

    dtype: str
    size: int
    """Bytes of its tensors, to the nearest block of layers."""

    width: int
    """Of the hidden state."""

    paths: dict[str, Path]
    """By format, a key of SUFFIXES."""


def wanted(folder: Path, name: str, dtype: str, size: int, width: int) -> Wanted:
    """A network with one file for each format in `folder`."""
    paths = {form: folder / f"{name}.{suffix}" for form, suffix in SUFFIXES.items()}
    return Wanted(dtype=dtype, size=size, width=width, paths=paths)


def make(networks: tuple[Wanted, ...], seed: int = 0) -> None:
    """Write the files that are not there yet."""
    import torch
    from safetensors.torch import save_file

    for network in networks:
        missing = [form for form, path in network.paths.items() if not path.exists()]
        if not missing:
            continue
        generator = torch.Generator().manual_seed(seed)
        dtype = getattr(torch, TORCH_DTYPES[network.dtype])
        state = {name: _weights(shape, dtype, generator) for name, shape in shapes(network).items()}
        for form in missing:
            path = network.paths[form]
            unfinished = path.with_suffix(".unfinished")
            if form == "safetensors":
                save_file(state, unfinished)
            else:
                torch.save(state, unfinished)
            unfinished.rename(path)


def shapes(network: Wanted) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors, as a LLaMA has them."""
    width = network.width
    inner = width * 11 // 4
    block: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (width, width),
        "self_attn.k_proj.weight": (width, width),
        "self_attn.v_proj.weight": (width, width),
        "self_attn.o_proj.weight": (width, width),
        "mlp.gate_proj.weight": (inner, width),
        "mlp.up_proj.weight": (inner, width),
        "mlp.down_proj.weight": (width, inner),
        "input_layernorm.weight": (width,),
        "post_attention_layernorm.weight": (width,),
    }
    vocabulary = 32 * width
    elements = network.size // (4 if network.dtype == "F32" else 2)
    blocks = max(1, round((elements - vocabulary * width) / (4 * width * width + 3 * width * inner)))
    return {
        "model.embed_tokens.weight": (vocabulary, width),
        **{f"model.layers.{i}.{name}": shape for i in range(blocks) for name, shape in block.items()},
        "model.norm.weight": (width,),
    }


def _weights(shape: tuple[int, ...], dtype: "torch.dtype", generator: "torch.Generator") -> "torch.Tensor":
    import torch

    return torch.randn(shape, generator=generator).mul_(STANDARD_DEVIATION).to(dtype)
