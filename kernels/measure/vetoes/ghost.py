"""Ghosts, halos and other smooth light."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.trails.geometry import Segment, stadium
from kernels.trails.scene import Scene

_NEAR_FWHM, _FAR_FWHM = 2.0, 5.0  # from the trail
_CLIP = 3.0  # sigma; stars beside the trail count no more
_SHARE = 0.35  # of the trail's brightness that its surroundings must have
_SURE = 4.0  # sigma
_LEAST = 30  # pixels


def ghost_evidence(scene: Scene, trail: Segment, flux: float) -> float:
    """Say how much speaks for smooth light: a trail no brighter than its surroundings on both sides.

    Parameters
    ----------
    scene
        Image.
    trail, flux
        Fitted trail, px and pixel units.

    Returns
    -------
    float
        0 to 2; the lesser of two ratios: the level of the darker side, 2 to 5 FWHM from the trail, above the
        background, over 0.35 of the brightness of the trail's ridge, and its S/N over 4.
    """
    near, far = _NEAR_FWHM * scene.fwhm_px, _FAR_FWHM * scene.fwhm_px
    area = stadium(scene.shape, trail, far)
    sigma = scene.noise.sigma
    x, y, length, angle = trail
    means, counts = _sides(
        scene.pixels, scene.usable, area.y, area.x, float(x), float(y), float(length), math.radians(angle), near,
        float(scene.background), _CLIP * sigma,
    )  # fmt: skip
    ridge = flux * ridge_brightness(scene.psf, length)
    if counts.min() < _LEAST or not ridge > 0:
        return 0.0
    # Neighbouring pixels are not independent: the sum over all lags is how many count as one.
    error = sigma * math.sqrt(max(float(scene.noise.correlation.sum()), 1.0) / float(counts.min()))
    level = float(means.min())
    return max(0.0, min(level / (_SHARE * ridge), level / error / _SURE, 2.0))


def ridge_brightness(psf: GaussianMixture, length: float) -> float:
    """Return the brightness at the centre of a trail of unit flux, per px^2."""
    widths = psf.sigmas
    reach = np.array([math.erf(length / (2 * math.sqrt(2) * s)) for s in widths]) if length > 0.01 else np.zeros(0)
    along = reach / length if len(reach) else 1 / (math.sqrt(2 * math.pi) * widths)
    return float((psf.weights * along / (math.sqrt(2 * math.pi) * widths)).sum())


@njit(cache=True, nogil=True)
def _sides(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    y: NDArray[np.int32],
    x: NDArray[np.int32],
    x0: float,
    y0: float,
    length: float,
    theta: float,
    near: float,
    background: float,
    clip: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean level of the pixels further than ``near`` from a trail, either side of it, and their numbers."""
    cosine, sine = math.cos(theta), math.sin(theta)
    total, count = np.zeros(2), np.zeros(2, np.int64)
    for i in range(y.shape[0]):
        if not usable[y[i], x[i]]:
            continue
        dx, dy = x[i] - x0, y[i] - y0
        beyond, across = max(abs(dx * cosine + dy * sine) - 0.5 * length, 0.0), dy * cosine - dx * sine
        if beyond * beyond + across * across >= near * near:
            side = 1 if across > 0 else 0
            total[side] += min(max(pixels[y[i], x[i]] - background, -clip), clip)
            count[side] += 1
    return total / np.maximum(count, 1), count
