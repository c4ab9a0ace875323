"""Image to be searched, and its brightness as networks see it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.gaussian import FAST
from schemas.exposure import ExposureInfo


class SearchImage(NamedTuple):
    """Pixels of a difference image or of a part of it, with properties of the whole.

    Attributes
    ----------
    pixels : (ny, nx) float32
        Any unit; those that are not usable, or not finite, do not count.
    usable : (ny, nx) bool
        Pixels that count.
    background, noise
        Robust median and standard deviation of the pixels, in their unit.
    correlation : (2L + 1, 2L + 1)
        Autocorrelation of the noise; 1 at the centre.
    fwhm_px
        Of the PSF before the pixels, px.
    """

    pixels: NDArray[np.float32]
    usable: NDArray[np.bool_]
    background: float
    noise: float
    correlation: NDArray[np.float64]
    fwhm_px: float

    @classmethod
    def of(cls, info: ExposureInfo, pixels: NDArray[np.float32], usable: NDArray[np.bool_]) -> "SearchImage":
        """Return the pixels of an exposure, or of a part of it."""
        return cls(pixels, usable, info.background, info.noise, np.array(info.noise_correlation), info.psf.fwhm_px)


class Places(NamedTuple):
    """Grid of places to be scored: ``rows`` x ``columns``, ``stride`` px apart, the first at pixel (y, x).

    A plane holds the pixels around them, as far as there are any.
    """

    y: int
    x: int
    rows: int
    columns: int
    stride: int


FURTHEST = 128.0
"""S/N above which brightness makes no difference."""


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
