"""Matched filtering of small images with trails of many lengths and angles."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.gaussian import FAST
from kernels.image.noise import LEAST_VARIANCE, convolve, filtered_noise
from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.trails.geometry import DetectedSegment
from kernels.trails.trail_model import trail_image

HALVES = np.array([0, 2, 4, 7, 11, 16, 22, 30])
"""Half lengths of the bank's trails, px."""

ANGLES = 24
"""Number of angles of its longest trails: 7.5 deg apart, so that no end is more than 2 px off the line."""


class TrailBank(NamedTuple):
    """Trails as sums over a PSF-filtered image, each scaled to unit noise.

    A trail is a point source smeared along a line, so its matched filter is the mean of the point source's filter along
    that line, and one convolution serves all lengths and angles.

    Attributes
    ----------
    stamp : (2R + 1, 2R + 1) float32
        PSF of unit flux.
    noise
        Standard deviation of the image filtered by ``stamp``, pixel units.
    lags : (M, M) float64
        Autocorrelation of the filtered noise at lags -M//2..M//2 px; 1 at the centre.
    offsets : (ANGLES, HALVES[-1], 2) int64
        Steps (dy, dx) from the centre to the pixels of one half of the trail; the other half is their mirror image.
    scale : (ANGLES, len(HALVES)) float32
        Factor from the sum over a trail's pixels to S/N; 0 for a trail that is not in the bank, because a neighbouring
        angle is as good at its length.
    """

    stamp: NDArray[np.float32]
    noise: float
    lags: NDArray[np.float64]
    offsets: NDArray[np.int64]
    scale: NDArray[np.float32]

    @property
    def reach(self) -> int:
        """Return the distance around a pixel within which the image affects its response, px."""
        return int(HALVES[-1]) + self.stamp.shape[0] // 2


def trail_bank(psf: GaussianMixture, fwhm_px: float, noise: float, correlation: NDArray[np.floating]) -> TrailBank:
    """Return the filters for an exposure.

    Parameters
    ----------
    psf
        Point-spread function, including the pixel response.
    fwhm_px
        Full width at half maximum of the PSF, px.
    noise, correlation
        Noise of the image; see `kernels.image.noise.filtered_noise`.
    """
    radius = math.ceil(2.5 * fwhm_px) + 1
    stamp = trail_image((2 * radius + 1, 2 * radius + 1), radius, radius, 0.0, 0.0, psf)
    point_noise = filtered_noise(stamp, noise, correlation)
    lags = convolve(convolve(stamp, stamp[::-1, ::-1]), correlation) * (noise / point_noise) ** 2
    steps = np.arange(1, HALVES[-1] + 1)[None, :] * np.exp(1j * np.pi * np.arange(ANGLES) / ANGLES)[:, None]
    offsets = np.stack([np.rint(steps.imag), np.rint(steps.real)], -1).astype(np.int64)
    scale = np.zeros((ANGLES, len(HALVES)), np.float32)
    for i, half in enumerate(HALVES):
        # An angle has its own template if it moves the trail's ends by more than about a pixel.
        step = max(1, int(ANGLES / max(1.0, 0.8 * math.pi * half)))
        for angle in range(0, ANGLES, step):
            pixels = np.concatenate([-offsets[angle, :half], [[0, 0]], offsets[angle, :half]])
            scale[angle, i] = 1 / math.sqrt(max(_covariance(pixels, lags), LEAST_VARIANCE * len(pixels)))
    return TrailBank(stamp.astype(np.float32), point_noise, lags, offsets, scale)


def longest_only(bank: TrailBank) -> TrailBank:
    """Return the bank without its shorter trails."""
    scale = np.zeros_like(bank.scale)
    scale[:, -1] = bank.scale[:, -1]
    return bank._replace(scale=scale)


@njit(cache=True, nogil=True)
def _covariance(pixels: NDArray[np.int64], lags: NDArray[np.float64]) -> float:
    """Return the variance of the sum over ``pixels`` in noise of autocorrelation ``lags``."""
    reach, total = lags.shape[0] // 2, 0.0
    for i in range(pixels.shape[0]):
        for j in range(pixels.shape[0]):
            dy, dx = pixels[i, 0] - pixels[j, 0], pixels[i, 1] - pixels[j, 1]
            if max(abs(dy), abs(dx)) <= reach:
                total += lags[dy + reach, dx + reach]
    return total


def point_snr(image: NDArray[np.float32], bank: TrailBank) -> NDArray[np.float32]:
    """Return the S/N of a point source at each pixel, from an image without background whose unusable pixels are 0.

    Parameters
    ----------
    image : (ny, nx) float32
        Pixel units.

    Returns
    -------
    (ny, nx) float32
    """
    from scipy import fft

    side = bank.stamp.shape[0]
    size = [fft.next_fast_len(extent + side - 1, real=True) for extent in image.shape]
    product = fft.rfft2(image, size) * _spectrum(bank.stamp.tobytes(), side, size[0], size[1])
    first = side // 2  # the stamp is its own mirror image
    filtered = fft.irfft2(product, size)[first : first + image.shape[0], first : first + image.shape[1]]
    return np.asarray(filtered / np.float32(bank.noise), np.float32)


@lru_cache(maxsize=32)
def _spectrum(stamp: bytes, side: int, ny: int, nx: int) -> NDArray[np.complex64]:
    """Return the padded Fourier transform of a stamp; groups of hits of the same shape share it."""
    from scipy import fft

    return np.asarray(fft.rfft2(np.frombuffer(stamp, np.float32).reshape(side, side), (ny, nx)))


def best_trail(snr: NDArray[np.float32], allowed: NDArray[np.bool_], bank: TrailBank) -> DetectedSegment:
    """Return the trail of the bank with the highest S/N.

    Parameters
    ----------
    snr : (ny, nx) float32
        Result of `point_snr`.
    allowed : (ny, nx) bool
        Pixels where the centre may lie, at least HALVES[-1] px from the borders.

    Returns
    -------
    Segment
        Its S/N is 0 or less if there is no positive light.
    """
    rows, columns = np.flatnonzero(allowed.any(1)), np.flatnonzero(allowed.any(0))
    if not len(rows):
        return DetectedSegment(0.0, 0.0, 0.0, 0.0, 0.0)
    box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    value, y, x, angle, i = _search(snr, allowed, box, bank.offsets, HALVES, bank.scale)
    return DetectedSegment(float(x), float(y), 2.0 * HALVES[i], 180.0 * angle / len(bank.scale), float(value))


@njit(**FAST)
def _search(
    snr: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    box: tuple[int, int, int, int],
    offsets: NDArray[np.int64],
    halves: NDArray[np.int64],
    scale: NDArray[np.float32],
) -> tuple[float, int, int, int, int]:
    """Return the best (S/N, y, x, angle index, length index), the first of equal values."""
    y0, y1, x0, x1 = box
    width, pitch, flat = x1 - x0, snr.shape[1], snr.ravel()
    closed = _barrier(allowed, box)
    total = np.empty(width, np.float32)
    best, by, bx, ba, bi = np.float32(0), y0, x0, 0, 0
    for angle in range(scale.shape[0]):
        for y in range(y0, y1):
            here, shut = flat[y * pitch + x0 : y * pitch + x1], closed[y - y0]
            for j in range(width):
                total[j] = here[j]
            k = 0
            for i in range(halves.shape[0]):
                while k < halves[i]:
                    step = offsets[angle, k, 0] * pitch + offsets[angle, k, 1]
                    first, second = y * pitch + x0 + step, y * pitch + x0 - step
                    ahead, behind = flat[first : first + width], flat[second : second + width]
                    for j in range(width):
                        total[j] += ahead[j] + behind[j]
                    k += 1
                if scale[angle, i] > 0:
                    limit = best / scale[angle, i]
                    above = np.int32(0)  # counted without a branch, as they are rare
                    for j in range(width):
                        above += np.int32(1) if total[j] > limit + shut[j] else np.int32(0)
                    for j in range(width if above else 0):
                        if total[j] > limit + shut[j]:
                            limit = total[j]
                            best, by, bx, ba, bi = limit * scale[angle, i], y, x0 + j, angle, i
    return float(best), by, bx, ba, bi


@njit(cache=True, nogil=True)
def _barrier(allowed: NDArray[np.bool_], box: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """Return the barrier that S/N must exceed in a box: 0 where a trail's centre may lie, else infinity."""
    y0, y1, x0, x1 = box
    out = np.zeros((y1 - y0, x1 - x0), np.float32)
    for y in range(y0, y1):
        for x in range(x0, x1):
            if not allowed[y, x]:
                out[y - y0, x - x0] = np.inf
    return out
