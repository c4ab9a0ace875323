"""Share of the light of stars that remains in a difference image."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.trails.scene import Scene

_BLOCK = 16  # px: side of squares whose brightest pixel may be a star
_BOX_FWHM = 1.2  # half of the side of a star's box; its sky is the rim of a box of twice the side
_PRECISE = 0.01  # largest standard error of a star's share
_STARS = 20  # fewer stars are not enough


def share_left(scene: Scene, science: NDArray[np.float32]) -> float:
    """Return the typical share of a star's light that remains in a difference image.

    An error of the flux scale leaves the same share of each star. Errors of the flat field and the PSF, and variable
    stars, add scatter. A source on a star is hardly new if it is no brighter than this share.

    Parameters
    ----------
    scene
        Difference image with its noise.
    science : (ny, nx)
        Science image on the same pixels and in the same unit; may hold NaN.

    Returns
    -------
    float
        Median over the stars plus one standard deviation (from the median deviation, with the noise subtracted); 0 if
        that is negative, or if fewer than 20 stars are bright enough for shares accurate to 1 %.
    """
    half = math.ceil(_BOX_FWHM * scene.fwhm_px)
    shares, errors = _shares(scene.pixels, scene.usable, science, scene.noise.sigma, half)
    if len(shares) < _STARS:
        return 0.0
    middle = float(np.median(shares))
    spread = 1.4826 * float(np.median(np.abs(shares - middle)))
    return max(middle + math.sqrt(max(spread**2 - float(np.median(errors)) ** 2, 0.0)), 0.0)


@njit(cache=True, nogil=True)
def _shares(
    pixels: NDArray[np.float32], usable: NDArray[np.bool_], science: NDArray[np.float32], sigma: float, half: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the remaining share of the light of stars, at most one per block, and its standard error."""
    ny, nx = pixels.shape
    rim = 2 * half
    shares, errors = np.empty((ny // _BLOCK) * (nx // _BLOCK)), np.empty((ny // _BLOCK) * (nx // _BLOCK))
    count, noise = 0, (2 * half + 1) * sigma
    for top in range(rim, ny - rim - _BLOCK + 1, _BLOCK):
        for left in range(rim, nx - rim - _BLOCK + 1, _BLOCK):
            best, y, x = -np.inf, -1, -1
            for j in range(top, top + _BLOCK):
                for i in range(left, left + _BLOCK):
                    light = science[j, i] - pixels[j, i]
                    if usable[j, i] and light > best:
                        best, y, x = light, j, i
            if y < 0:
                continue
            light, residue = _above_sky(pixels, usable, science, y, x, half)
            if noise < _PRECISE * light:
                shares[count], errors[count] = residue / light, noise / light
                count += 1
    return shares[:count], errors[:count]


@njit(cache=True, nogil=True)
def _above_sky(
    pixels: NDArray[np.float32], usable: NDArray[np.bool_], science: NDArray[np.float32], y: int, x: int, half: int
) -> tuple[float, float]:
    """Return the static light and the difference-image light of a box; 0 and 0 if (y, x) is not its peak."""
    peak = science[y, x] - pixels[y, x]
    static = left = sky_static = sky_left = 0.0
    count = 0
    for j in range(y - 2 * half, y + 2 * half + 1):
        for i in range(x - 2 * half, x + 2 * half + 1):
            away = max(abs(j - y), abs(i - x))
            light = science[j, i] - pixels[j, i]
            if away <= half:
                if not (usable[j, i] and light <= peak):
                    return 0.0, 0.0
                static += light
                left += pixels[j, i]
            elif away == 2 * half and usable[j, i] and not math.isnan(light):
                sky_static += light
                sky_left += pixels[j, i]
                count += 1
    if count < 8 * half:  # half of the rim
        return 0.0, 0.0
    area = (2 * half + 1) ** 2 / count
    return static - area * sky_static, left - area * sky_left
