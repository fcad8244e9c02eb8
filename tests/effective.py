"""What a report says of a state dict, beside what torch computes with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from weightstats.checkpoint import Checkpoint
from weightstats.effective_weights import effective
from weightstats.inspection import inspect
from weightstats.moments import Moments, measure
from weightstats.network import Network, find_network
from weightstats.readers import open_checkpoint
from weightstats.report import LayerRow, Report
from weightstats.tensors import Tensor


def reported(folder: Path, state: Mapping[str, torch.Tensor], **options: Any) -> Report:
    """The report on a state dict that torch.save has written."""
    torch.save(dict(state), folder / "model.pt")
    return inspect(str(folder / "model.pt"), **options)


def network_of(folder: Path, state: Mapping[str, torch.Tensor]) -> tuple[Checkpoint, Network]:
    """The checkpoint that torch.save has written, and its network with effective weights."""
    torch.save(dict(state), folder / "model.pt")
    checkpoint = open_checkpoint(str(folder / "model.pt"))
    return checkpoint, effective(find_network(checkpoint))


def row(report: Report, name: str) -> LayerRow:
    """The layer of that name."""
    [found] = [layer for layer in report.layers if layer.name == name]
    return found


def kinds(report: Report) -> dict[str, str]:
    """What the tensors that are no layers are."""
    return {other.name: other.kind for other in report.others}


def assert_measured(found: LayerRow | Moments, weight: torch.Tensor, accuracy: float = 1e-6) -> None:
    """The statistics are those of the weight, worked out in float64; sums that cancel in float32 alone are let pass."""
    numbers = weight.detach().double().numpy().reshape(-1)
    finite = numbers[np.isfinite(numbers)]
    spread = finite - finite.mean()
    assert found.elements == numbers.size
    assert found.nonfinite == numbers.size - finite.size
    assert np.count_nonzero(finite == 0.0) <= found.zeros <= np.count_nonzero(np.abs(finite) < 1e-6)
    scale = float(np.sqrt(np.mean(finite**2)))
    assert found.mean == pytest.approx(float(finite.mean()), rel=accuracy, abs=accuracy * scale)
    assert found.mean_square == pytest.approx(float(np.mean(finite**2)), rel=accuracy)
    assert found.max_abs == pytest.approx(float(np.abs(finite).max()), rel=accuracy)
    if np.mean(spread**2) > 1e-12 * scale**2:
        kurtosis = float(np.mean(spread**4) / np.mean(spread**2) ** 2 - 3.0)
        assert found.excess_kurtosis == pytest.approx(kurtosis, rel=10 * accuracy, abs=10 * accuracy)


def moments(tensor: Tensor | None, workers: int = 1) -> Moments:
    """Those of one tensor that can be read."""
    assert tensor is not None
    [found] = measure([tensor], workers=workers)
    assert isinstance(found, Moments)
    return found
