"""Brightness as networks see it."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.bell import FAST

FURTHEST = 128.0
"""S/N beyond which brightness says nothing more."""


@njit(**FAST)
def squash(values: NDArray[np.float32]) -> None:
    """Replace each s by ``s (1 + |s| / 64) / (1 + |s| / 4)``, |s| at most `FURTHEST` (compiled, in place).

    Linear in the noise, the more level the brighter: 0.8 at 1, 4.4 at 20, 11.6 at 128.
    """
    flat = values.ravel()
    for i in range(flat.shape[0]):
        size = min(abs(flat[i]), np.float32(FURTHEST))
        small = size * (np.float32(1) + size * np.float32(1 / 64)) / (np.float32(1) + size * np.float32(0.25))
        flat[i] = small if flat[i] > 0 else -small
