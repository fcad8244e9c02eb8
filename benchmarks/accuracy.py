"""How exact the mean squares are: each tensor's against one worked out without rounding on the way.

    python benchmarks/accuracy.py

Exits with 1 if one is off by more than 1e-6 of itself.
"""

import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from safetensors.torch import save_file

import weightstats

BAR = 1e-6
"""Largest relative error that is accepted."""

SIZES = (1000, 100_000, 3_000_000)
"""Elements: the small ones are summed by another way than the large ones."""

SCALES = {
    torch.float64: (1e-150, 1e150),
    torch.float32: (1e-30, 1e-10, 0.02, 1.0, 1e10, 1e30),
    torch.bfloat16: (1e-30, 1e-10, 0.02, 1.0, 1e10, 1e30),
    torch.float16: (1e-7, 1e-5, 1e-3, 0.02, 1.0, 100.0, 1e4),
}
"""Standard deviations: the ordinary ones, and those where squares do not fit the dtype, or not even float64."""

DEGREES = 3.0
"""Of Student's t: its fourth moment is infinite, so that single elements carry much of the sum."""

LARGEST_F16 = 65504.0


@dataclass(frozen=True, slots=True)
class Case:
    """A tensor to measure."""

    name: str
    values: torch.Tensor


@dataclass(frozen=True, slots=True)
class Error:
    """How far the mean square of one tensor is off."""

    dtype: str
    name: str
    elements: int
    relative: float


def main() -> int:
    """Print the worst error of each dtype; 1 where any exceeds the bar."""
    worst: dict[str, Error] = {}
    count = 0
    for number, case in enumerate(cases()):
        error = measured(case)
        count = number + 1
        if error.dtype not in worst or not error.relative <= worst[error.dtype].relative:
            worst[error.dtype] = error
    print("| dtype | worst relative error | tensor | elements |")
    print("| ----- | -------------------: | ------ | -------: |")
    for error in worst.values():
        print(f"| {error.dtype} | {error.relative:.1e} | {error.name} | {error.elements:,} |")
    within = all(error.relative <= BAR for error in worst.values())
    print(f"{count} tensors: {'all within' if within else 'NOT all within'} {BAR:.0e}")
    return 0 if within else 1


def cases(seed: int = 0) -> Iterator[Case]:
    """Every dtype, scale and size, and tensors that are hard to sum: equal squares are all rounded the same way."""
    generator = torch.Generator().manual_seed(seed)
    for dtype, scales in SCALES.items():
        for size in SIZES:
            for scale in scales:
                normal = torch.randn(size, generator=generator, dtype=torch.float64) * scale
                yield _case(f"N(0, {scale:g}²)", normal, dtype)
            chi = torch.randn(int(DEGREES), size, generator=generator, dtype=torch.float64).square().sum(0)
            student = torch.randn(size, generator=generator, dtype=torch.float64) / (chi / DEGREES).sqrt()
            yield _case("0.02 × Student's t, 3 degrees", student * 0.02, dtype)
            yield _case("N(1000, 1)", torch.randn(size, generator=generator, dtype=torch.float64) + 1000, dtype)
            yield _case("±0.1", torch.full((size,), 0.1).copysign(normal), dtype)


def _case(name: str, values: torch.Tensor, dtype: torch.dtype) -> Case:
    """In the dtype; what float16 cannot hold is cut off."""
    if dtype == torch.float16:
        values = values.clamp(-LARGEST_F16, LARGEST_F16)
    return Case(name, values.to(dtype))


def measured(case: Case) -> Error:
    """The error of weightstats on a file that holds the tensor alone, as a matrix."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tensor.safetensors"
        save_file({"layer.weight": case.values.reshape(10, -1)}, path)
        layer = weightstats.inspect(str(path)).layers[0]
    exact = exact_mean_square(case.values)
    given = layer.mean_square
    relative = (
        float(abs(Fraction(given) - exact) / exact) if math.isfinite(given) else _where_float64_ends(given, exact)
    )
    return Error(layer.dtype, case.name, case.values.numel(), relative)


def exact_mean_square(values: torch.Tensor) -> Fraction:
    """Squares of the elements divided by a power of two, so that none over- or underflows, summed by math.fsum.

    The squares are rounded to float64 (F64 only: those of the shorter dtypes fit), their sum is not.
    """
    exponent = math.frexp(float(values.abs().max()))[1]
    scaled = torch.ldexp(values.double(), torch.tensor(-exponent, dtype=torch.float64))
    total = Fraction(math.fsum(scaled.square().tolist()))
    return total / values.numel() * Fraction(2) ** (2 * exponent)


def _where_float64_ends(given: float, exact: Fraction) -> float:
    """Infinity is right where float64 cannot hold the mean square, and NaN never is."""
    return 0.0 if given == math.inf and exact > Fraction(sys.float_info.max) else math.inf


if __name__ == "__main__":
    sys.exit(main())
