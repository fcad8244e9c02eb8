"""Which elements of a weight a scale belongs to, by the shapes of both."""

import math

from weightstats.effective_weights.dequantised import Grid, one_for_all
from weightstats.errors import TensorError, quoted

USUAL_BLOCK = 128
"""Rows and columns of DeepSeek's blocks (arXiv:2412.19437, section 3.3.2), which others took over."""


def grid_for(shape: tuple[int, ...], scales: tuple[int, ...], configured: tuple[int, int] | None = None) -> Grid:
    """The blocks of a weight of one shape that share a scale, where the scales have the other: one for all, one for
    each index of the first dimension, or blocks of the last two (`configured`, where that fits).

    TensorError where the shapes do not say it for certain.
    """
    number = math.prod(scales)
    if number == 1:
        return one_for_all(shape)
    if not number or not shape or not math.prod(shape):
        raise TensorError(_misfit(shape, scales))
    if scales[0] == shape[0] == number and (len(scales) == 1 or len(scales) == len(shape)):
        columns = math.prod(shape[1:])
        return Grid(shape[0], columns, 1, columns)
    if len(scales) != len(shape) or len(shape) < 2 or scales[:-2] != shape[:-2]:
        raise TensorError(_misfit(shape, scales))
    rows, columns = shape[-2:]
    down, across = scales[-2:]
    if configured is not None:
        fits = all(
            -(-size // block) == count
            for size, block, count in zip((rows, columns), configured, scales[-2:], strict=True)
        )
        if fits:
            return Grid(rows, columns, *configured)
    return Grid(rows, columns, block_of(rows, down), block_of(columns, across))


def block_of(size: int, count: int) -> int:
    """Into how large blocks a dimension is cut, the last one perhaps less; TensorError where that is not certain."""
    if count == size:
        return 1
    if count == 1:
        return size
    if not 0 < count < size:
        raise TensorError(f"{count:,} scales do not divide {size:,} rows or columns")
    if -(-size // USUAL_BLOCK) == count:
        return USUAL_BLOCK
    least, most = -(-size // count), (size - 1) // (count - 1)
    if least == most:
        return least
    if size % count == 0 and _is_power_of_two(size // count):
        return size // count
    powers = [1 << bit for bit in range(size.bit_length()) if least <= 1 << bit <= most]
    if least > most:
        raise TensorError(f"{count:,} scales do not divide {size:,} rows or columns")
    if len(powers) != 1:
        raise TensorError(f"{count:,} scales for {size:,} rows or columns may be those of {least:,} to {most:,} each")
    return powers[0]


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


def _misfit(shape: tuple[int, ...], scales: tuple[int, ...]) -> str:
    return f"scales of the shape {quoted(scales)} do not fit codes of the shape {quoted(shape)}"
