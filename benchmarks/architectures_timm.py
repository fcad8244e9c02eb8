"""Networks of timm: every model that is made of other modules or other names than those before it."""

from collections.abc import Iterator

import torch
from architectures import Architecture
from torch import nn

for _name in ("nms", "qnms"):  # torchvision without its compiled operators, which timm does not call
    torch.library.define(f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402 - after the operators that torchvision expects


def networks() -> Iterator[Architecture]:
    """One of each, without pretrained weights."""
    for name in timm.list_models():
        yield Architecture(name=name, library="timm", build=lambda name=name: _model(name), config=_config)


def _model(name: str) -> nn.Module:
    model: nn.Module = timm.create_model(name, pretrained=False)
    return model


def _config(model: nn.Module) -> dict[str, object]:
    """What timm writes beside the weights that it pushes to a hub, as far as it says something of layers."""
    cfg = model.pretrained_cfg
    return {"architecture": cfg["architecture"], "num_classes": model.num_classes, "num_features": model.num_features}
