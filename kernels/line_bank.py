"""Trails as short sums along lines of pixels, over a PSF-filtered image."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from kernels.dense_input import RADIUS, filter_taps
from kernels.matched_filter import filtered_noise

LENGTHS = np.array([1, 4, 8, 12, 16, 24, 32, 48])
"""Pixels in a sum, counted along the axis nearest to the line: sums of 4, 8, 16 and 32 px share their halves."""

STEPS = 8
"""Lines rise by 0, 1, ... 8 px in so many: 32 directions in all, 3.6 to 7.1 deg apart."""

HALF = int(LENGTHS[-1]) // 2
"""How far from its middle a sum reaches, px."""

FRAMES = ((0, STEPS), (1, STEPS), (0, STEPS - 1), (1, STEPS - 1))
"""First and last rise of the lines in each of four frames: the image, upside down, transposed, and both."""


class LineBank(NamedTuple):
    """Filters for one exposure.

    Attributes
    ----------
    taps : (2 RADIUS + 1,) float32
        Gaussian of the PSF's width; the filter is its outer product with itself.
    gain
        Factor from the filtered image, in units of the noise, to the S/N of a point source.
    scale : (4, STEPS + 1, len(LENGTHS)) float32
        Factor from a sum of S/N to the S/N of the trail, for each frame and rise; 0 where that line belongs to
        another frame.
    """

    taps: NDArray[np.float32]
    gain: float
    scale: NDArray[np.float32]


def line_bank(fwhm_px: float, correlation: NDArray[np.float64]) -> LineBank:
    """Prepare the filters for a PSF of ``fwhm_px`` px and noise with an autocorrelation.

    Notes
    -----
    A trail is a point source smeared along a line, so its matched filter is the mean of the point source's along that
    line. Each sum is scaled by its standard deviation in the noise as it is: the covariance of the filtered noise,
    summed over all pairs of its pixels.
    """
    return _line_bank(fwhm_px, correlation.tobytes(), correlation.shape[0])


@lru_cache(maxsize=64)
def _line_bank(fwhm_px: float, correlation: bytes, side: int) -> LineBank:
    rho = np.frombuffer(correlation).reshape(side, side)
    taps = filter_taps(fwhm_px)
    stamp = np.outer(taps, taps).astype(np.float64)
    noise = filtered_noise(stamp, 1.0, rho)
    lags = fftconvolve(fftconvolve(stamp, stamp), rho) / noise**2
    reach = max(lags.shape[0] // 2, int(LENGTHS[-1]))
    lags = np.pad(lags, reach - lags.shape[0] // 2)
    scale = np.zeros((len(FRAMES), STEPS + 1, len(LENGTHS)), np.float32)
    for frame, (first, last) in enumerate(FRAMES):
        for rise in range(first, last + 1):
            for n, length in enumerate(LENGTHS):
                dx, dy = middle_pixels(frame, rise, int(length))
                pairs = lags[reach + dy[:, None] - dy, reach + dx[:, None] - dx]
                scale[frame, rise, n] = 1 / math.sqrt(pairs.sum())
    return LineBank(taps, 1 / noise, scale)


def line_pixels(length: int, rise: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the pixels of a sum from its first one on: steps along and across the frame's axis, (length,) each.

    Eight pixels rise by ``rise`` px, rounded; the next eight are the same ones over again.
    """
    along = np.arange(length)
    return along, along // STEPS * rise + (along % STEPS * rise + STEPS // 2) // STEPS


def in_image(
    frame: int, along: NDArray[np.int64], across: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Turn steps along and across the axis of a frame into steps (dx, dy) of the image."""
    across = -across if frame % 2 else across
    return (across, along) if frame >= 2 else (along, across)


def middle_pixels(frame: int, rise: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the pixels of a sum as steps (dx, dy) from the one on which it is centred, (length,) each."""
    along, across = line_pixels(length, rise)
    return in_image(frame, along - along[length // 2], across - across[length // 2])


@lru_cache(maxsize=1)
def every_line() -> NDArray[np.float64]:
    """Give the lines of all codes of `kernels.line_search.best_lines`.

    Returns
    -------
    (codes, 4) float64
        Steps in x and y from the pixel of the peak to the middle, px; length, px (0 for a point); angle, deg from +x
        towards +y, 0 to 180.
    """
    lines = []
    for frame in range(len(FRAMES)):
        for rise in range(STEPS + 1):
            angle = math.degrees(math.atan2(-rise if frame % 2 else rise, STEPS))
            angle = (90.0 - angle if frame >= 2 else angle) % 180.0
            for length in LENGTHS.tolist():
                dx, dy = middle_pixels(frame, rise, length)
                extent = length * math.hypot(1.0, rise / STEPS) if length > 1 else 0.0
                lines.append((dx.mean(), dy.mean(), extent, angle))
    return np.array(lines)


REACH = HALF + RADIUS
"""How far around a pixel its best sum depends on the image, px."""
