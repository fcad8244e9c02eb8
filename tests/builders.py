"""Checkpoints and tensors for the tests of what is measured: small, written where the test says."""

import importlib.util
import itertools
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

import weightstats
from weightstats.places import open_file
from weightstats.report import LayerRow, OtherRow, Report
from weightstats.tensors import Storage, Tensor, make_tensor

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"

TORCH_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""torch's dtypes as safetensors names them."""


@cache
def fixture_maker() -> ModuleType:
    """fixtures/make.py, with what it knows of the files that it writes."""
    spec = importlib.util.spec_from_file_location("fixtures_make", FIXTURES / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report_of(folder: Path, saved: Any, name: str = "model.pt", **options: Any) -> Report:
    """The report on what `torch.save`, or safetensors where the name says so, writes into the folder."""
    path = folder / name
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(saved, path)
    else:
        torch.save(saved, path)
    return weightstats.inspect(str(path), **options)


def by_name(rows: tuple[LayerRow, ...] | tuple[OtherRow, ...]) -> dict[str, Any]:
    """The rows by their names, which must be different."""
    named = {row.name: row for row in rows}
    assert len(named) == len(rows)
    return named


def all_names(report: Report) -> list[str]:
    """The names of the report's three lists, sorted, as often as they occur."""
    return sorted(
        [row.name for row in report.layers] + [row.name for row in report.others] + [row.name for row in report.unread]
    )


def stored_tensor(path: Path, data: NDArray[Any], dtype: str = "F32") -> Tensor:
    """A tensor over a new file that holds the bytes of `data`."""
    path.write_bytes(np.ascontiguousarray(data).tobytes())
    file = open_file(path)
    return make_tensor(("weight",), data.shape, dtype, Storage(file, 0, file.size))


_SOME_FILE = open_file(Path(__file__))
_PLACES = itertools.count()


def described_tensor(path: tuple[str, ...], shape: tuple[int, ...], dtype: str = "F32") -> Tensor:
    """A tensor that is never read, for what is decided by names and shapes alone; no two share a storage."""
    return make_tensor(path, shape, dtype, Storage(_SOME_FILE, next(_PLACES), 16 * math.prod(shape)))


def random_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Normal float32 tensors of these shapes."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
