"""What each tensor is of the file that transformers' save_pretrained writes, where that is not the state dict.

transformers 5 keeps some weights in another form than its files do (the experts of a layer stacked, projections fused)
and turns them back on saving. Every element is followed from the state dict into the file: the elements are numbered,
and the library itself does the turning.
"""

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from truth import Truth

MOST_ELEMENTS = 30_000_000
"""Of a network that is followed; larger ones have a smaller variant."""


def saved(model: nn.Module, truths: list[Truth]) -> list[Truth] | None:
    """The tensors of the file, None where they are those of the state dict."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import revert_weight_conversion

    if not get_model_conversion_mapping(model, add_legacy=False):
        return None
    kept = [truth for truth in truths if truth.tie is None and 0 not in truth.shape]
    sizes = torch.tensor([torch.Size(truth.shape).numel() for truth in kept])
    if int(sizes[[truth.kind != "embedding" for truth in kept]].sum()) > MOST_ELEMENTS:
        return None
    ends = sizes.cumsum(0)
    starts = ends - sizes
    numbered = {truth.name: _numbers(truth, int(start)) for truth, start in zip(kept, starts, strict=True)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written: dict[str, Any] = revert_weight_conversion(model, numbered)
    if list(written) == list(numbered) or {n: t.shape for n, t in written.items()} == {
        n: t.shape for n, t in numbered.items()
    }:
        return None
    return [_followed(name, tensor, kept, starts, ends) for name, tensor in written.items()]


def _numbers(truth: Truth, start: int) -> torch.Tensor:
    """Of its elements; one number for all of them where the tensor is a table, which is large and never rearranged."""
    if truth.kind == "embedding":
        return torch.tensor(start).expand(truth.shape)
    return torch.arange(start, start + torch.Size(truth.shape).numel()).reshape(truth.shape)


def _followed(name: str, tensor: torch.Tensor, kept: list[Truth], starts: torch.Tensor, ends: torch.Tensor) -> Truth:
    """The truth of one tensor of the file."""
    at = int(torch.searchsorted(ends, tensor[(0,) * tensor.dim()], right=True))
    if kept[at].shape == tuple(tensor.shape) and (
        not any(tensor.stride()) or torch.equal(tensor, _numbers(kept[at], int(starts[at])))
    ):
        return replace(kept[at], name=name, note=f"from {kept[at].name}")
    if kept[at].kind == "embedding" and tensor.dim() == 2:
        return replace(kept[at], name=name, shape=tuple(tensor.shape), n_in=tensor.shape[0], n_out=tensor.shape[1])
    numbers = tensor.reshape(-1)
    sources = torch.unique(torch.searchsorted(ends, numbers, right=True)).tolist()
    parts = [
        _part(kept[source], numbers[(numbers >= starts[source]) & (numbers < ends[source])] - starts[source])
        for source in sources
    ]
    first = parts[0]
    shape = tuple(tensor.shape)
    note = "from " + ", ".join(kept[source].name for source in sources[:3])
    if all(kept[source].n_in is None and kept[source].kind != "unknown" for source in sources):  # pieces of no layer
        return replace(kept[sources[0]], name=name, shape=shape, note=note)
    if kept[sources[0]].kind.startswith("depthwise") and kept[sources[0]].shape[1:] == shape[1:]:  # some channels of it
        return replace(kept[sources[0]], name=name, shape=shape, note=note)
    if any(part is None for part in parts) or first is None:
        unchanged = len(sources) == 1 and kept[sources[0]].shape == shape
        return (
            replace(kept[sources[0]], name=name, shape=shape, note=note)
            if unchanged
            else _unknown(kept[sources[0]], name, shape, note)
        )
    n_in = {part.n_in for part in parts if part is not None}
    if len(parts) > 1 and (len(n_in) > 1 or any(part.kind != "linear" for part in parts if part is not None)):
        return _unknown(first, name, shape, note)
    n_out = sum(part.n_out or 0 for part in parts if part is not None) if len(parts) > 1 else first.n_out
    return replace(first, name=name, shape=shape, n_out=n_out, axes="", note=note)


def _part(source: Truth, places: torch.Tensor) -> Truth | None:
    """What the elements at these places of a layer's weight make up; None where that is no map."""
    if source.n_in is None or not set(source.axes) <= set("OIB"):
        return None
    index = torch.unravel_index(places, source.shape)
    counts = {}
    for letter in "OIB":
        combined = torch.zeros_like(places)
        for axis, size, at in zip(source.axes, source.shape, index, strict=True):
            if axis == letter:
                combined = combined * size + at
        counts[letter] = len(torch.unique(combined))
    if counts["O"] * counts["I"] * counts["B"] != len(places):
        return None
    return replace(source, n_in=counts["I"], n_out=counts["O"])


def _unknown(source: Truth, name: str, shape: tuple[int, ...], note: str) -> Truth:
    return replace(source, name=name, shape=shape, kind="unknown", n_in=None, n_out=None, axes="", note=note)
