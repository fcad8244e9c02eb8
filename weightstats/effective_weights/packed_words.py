"""Integers of a few bits in 32-bit words, the first one in the lowest bits."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def unpacked(words: NDArray[np.uint32], bits: int) -> NDArray[np.uint8]:
    """(n, words, columns) to (n, integers, columns): the bits of the words below each other, cut into integers.

    Where `bits` does not divide 32, an integer may begin in one word and end in the next; there are as many words as
    it takes for a whole number of integers.
    """
    count, height, columns = words.shape
    if 32 % bits == 0:
        shifts = np.arange(0, 32, bits, dtype=np.uint32)[None, None, :, None]
        integers = (words[:, :, None, :] >> shifts) & np.uint32((1 << bits) - 1)
        return integers.astype(np.uint8).reshape(count, height * (32 // bits), columns)
    made = np.empty((count, height * 32 // bits, columns), np.uint8)
    for number in range(made.shape[1]):
        word, shift = divmod(number * bits, 32)
        integer = words[:, word] >> np.uint32(shift)
        if shift + bits > 32:
            integer = integer | (words[:, word + 1] << np.uint32(32 - shift))
        made[:, number] = integer & np.uint32((1 << bits) - 1)
    return made


def nibble_pairs(
    values: NDArray[np.float32], *, high_first: bool
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """What makes bytes the numbers that they stand for, twice as many: each half is the index of one of 16 values."""
    codes = np.arange(256)
    halves = (codes >> 4, codes & 15) if high_first else (codes & 15, codes >> 4)
    pairs = values[np.stack(halves, axis=1)].view(np.uint64).reshape(256)  # one look-up for two numbers

    def numbers(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.take(pairs, raw.reshape(-1), mode="clip").view(np.float32)

    return numbers
