"""The first convolution of a window network, over whole rows of the image."""

import numba as nb
import numpy as np
from numpy.typing import NDArray

from kernels.fused_layers import Layers
from kernels.fused_rows import add_weighted


@nb.njit(cache=True)
def convolve_rows(pixels: NDArray[np.float32], y: int, layers: Layers, out: NDArray[np.float32]) -> None:
    """Convolve rows y, y + 1, ... of the rings of pixel rows, for every channel and band apart.

    Parameters
    ----------
    pixels : (bands, k1, phases, length) float32
        Row y of a band lies at y % k1, as `split_row` writes it; phases are stride + k1 - 1.
    y
        First of the k1 rows.
    layers
        Of the network.
    out : (channels, bands, stride * length) float32
        Receives a row of each map.
    """
    bands, k1, phases, length = pixels.shape
    starts = np.empty(k1 * k1, np.int64)
    for tap in range(k1 * k1):
        starts[tap] = ((y + tap // k1) % k1 * phases + tap % k1) * length
    for channel in range(out.shape[0]):
        for band in range(bands):
            out[channel, band] = 0.0
            add_weighted(out[channel, band], pixels[band].reshape(-1), starts, layers.first[channel, band])
