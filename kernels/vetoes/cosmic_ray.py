"""Cosmic rays."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.footprint import Segment, stadium
from kernels.psf import GaussianMixture
from kernels.scene import Scene

_BRIGHT = 4.0  # sigma of the pixels that are looked at
_MARGIN = 0.7  # of the smallest share of its light that a neighbour gets: the PSF is not known better
_SURE = 2.0  # sigma
_SHARE = 0.4  # of the light beyond 4 sigma
_PART = 0.3  # of all light of the trail
_LEAST = 10.0  # sigma of a pixel, in all


def cosmic_ray_evidence(scene: Scene, trail: Segment, flux: float, level: float) -> float:
    """Say how much speaks for a cosmic ray: light that is sharper than any that came through the telescope.

    Parameters
    ----------
    scene
        Image.
    trail, flux
        Fitted trail, px and pixel units; pixels within one FWHM of it, at least 2 px, are looked at.
    level
        Local background, pixel units.

    Returns
    -------
    float
        0 to 2.5; the least of three ratios: light in pixels that are too sharp over 0.4 of all light beyond 4 sigma,
        over 0.3 of the flux, and over 10 times the noise of a pixel.

    Notes
    -----
    What a PSF has blurred cannot fall off faster than the PSF itself: the mean of two opposite neighbours is at least
    psf(d) / psf(0) of the pixel between them, wherever the source's centre lies and whatever its form. A pixel is too
    sharp if that fails in one of four directions, with a margin of 30 % and 2 sigma: the third condition of the
    search for cosmic rays of SDSS and LSST (R. H. Lupton), a Laplacian test (van Dokkum 2001, PASP 113, 1420) whose
    limit is that of the PSF in hand, so that it holds for undersampled images as well.
    A pair with a pixel below -3 sigma says nothing, lest the dark side of a residual pass for sharpness.
    """
    near = max(scene.fwhm_px, 2.0)
    area = stadium(scene.shape, trail, near)
    side, corner = neighbour_share(scene.psf, 1.0), neighbour_share(scene.psf, math.sqrt(2))
    light, sharp = _sharp_light(
        scene.pixels, scene.usable, area.y, area.x, float(level), scene.noise.sigma, scene.noise.gain, side, corner
    )
    if not light > 0 or not flux > 0:
        return 0.0
    return min(sharp / light / _SHARE, sharp / flux / _PART, sharp / scene.noise.sigma / _LEAST, 2.5)


def neighbour_share(psf: GaussianMixture, distance: float) -> float:
    """Give the brightness of a star ``distance`` px from its centre over that at the centre."""
    peak = psf.weights / np.square(psf.sigmas)
    return float((peak * np.exp(-0.5 * np.square(distance / psf.sigmas))).sum() / peak.sum())


@njit(cache=True, nogil=True)
def _sharp_light(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    y: NDArray[np.int32],
    x: NDArray[np.int32],
    level: float,
    noise: float,
    gain: float,
    side: float,
    corner: float,
) -> tuple[float, float]:
    """Light beyond 4 sigma, and the part of it that is too sharp."""
    light, sharp = 0.0, 0.0
    for i in range(y.shape[0]):
        row, column = y[i], x[i]
        if not usable[row, column] or pixels[row, column] - level < _BRIGHT * noise:
            continue
        value = pixels[row, column] - level
        light += value
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            r0, c0, r1, c1 = row - dy, column - dx, row + dy, column + dx
            if min(r0, r1, c0, c1) < 0 or max(r0, r1) >= usable.shape[0] or max(c0, c1) >= usable.shape[1]:
                continue
            if not (usable[r0, c0] and usable[r1, c1]):
                continue
            one, other = pixels[r0, c0] - level, pixels[r1, c1] - level
            if min(one, other) < -3 * noise:
                continue
            least = _MARGIN * (side if dy * dx == 0 else corner) * value
            mean = 0.5 * (one + other)
            error = math.sqrt(0.5 * (noise**2 + max(mean, 0.0) / gain) + (least / value) ** 2 * noise**2)
            if least - mean > _SURE * error:
                sharp += value
                break
    return light, sharp
