"""Scales that are powers of two, in bytes that hold the exponent plus 127."""

import numpy as np
from numpy.typing import NDArray

from weightstats.dtypes import DTYPES
from weightstats.effective_weights.companions import Table

_VALUES = DTYPES["F8_E8M0"].decode(np.arange(256, dtype=np.uint8), "little", np.empty(256, np.uint32)).copy()
"""NaN where all bits are set: OCP microscaling formats specification 1.0, section 5.4.1."""


class Exponents:
    """The powers of two that a table of bytes stands for."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """Those of some of the bytes."""
        return np.asarray(_VALUES[self._table.raw(first, last)], np.float32)
