"""Numbers of four bits with two for the exponent and one for the mantissa."""

import numpy as np

from weightstats.effective_weights.packed_words import nibble_pairs

VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""What the codes stand for: OCP microscaling formats specification 1.0, section 5.3.3."""

numbers = nibble_pairs(VALUES, high_first=False)
"""Bytes to the two numbers in each, the first in the low half."""
