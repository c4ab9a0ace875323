"""Fluxes of point sources at known places, of many small pictures at once."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.psf.gaussian_mixture import GaussianMixture

_RADIUS_FWHM, _LEAST_RADIUS = 3.5, 6.0  # pixels so near the place are fitted, as in `kernels.measure.forced`
_LEAST_PIXELS = 12
_LEAST_VISIBLE = 0.5  # of the light


class StampFluxes(NamedTuple):
    """Fluxes and their standard errors, (n,), in the unit of the pixels; NaN where they cannot be measured."""

    value: NDArray[np.float64]
    error: NDArray[np.float64]


def stamp_fluxes(
    stamps: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64], psf: GaussianMixture, fwhm_px: float
) -> StampFluxes:
    """Fit a point source at a given place, and the level that it lies on, to each of some pictures.

    Parameters
    ----------
    stamps : (n, side, side)
        Pixels; NaN where they do not count.
    x, y : (n,)
        Places in the pictures, px, 0-based.
    psf, fwhm_px
        Point-spread function with the response of a pixel, and its FWHM, px.

    Returns
    -------
    StampFluxes
        NaN where less than half of the light falls on pixels that count.

    Notes
    -----
    Linear least squares of two parameters, within 3.5 FWHM (6 px at least), all pixels alike; the error is that of
    white noise of the scatter about the fit.
    """
    radius = max(_RADIUS_FWHM * fwhm_px, _LEAST_RADIUS)
    value, error = np.full(len(stamps), np.nan), np.full(len(stamps), np.nan)
    _fit(stamps, x, y, psf.weights / (2 * math.pi * psf.sigmas**2), psf.sigmas, radius, value, error)
    return StampFluxes(value, error)


@njit(cache=True, nogil=True, error_model="numpy")
def _fit(
    stamps: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    peaks: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    radius: float,
    value: NDArray[np.float64],
    error: NDArray[np.float64],
) -> None:
    side = stamps.shape[1]
    along_x, along_y = np.empty((len(sigmas), side)), np.empty((len(sigmas), side))
    shape = np.empty((side, side))
    for n in range(len(stamps)):
        for k in range(len(sigmas)):
            for i in range(side):
                along_x[k, i] = math.exp(-0.5 * ((i - x[n]) / sigmas[k]) ** 2) * peaks[k]
                along_y[k, i] = math.exp(-0.5 * ((i - y[n]) / sigmas[k]) ** 2)
        count, light = 0, 0.0
        p = pp = d = dp = 0.0
        for j in range(side):
            for i in range(side):
                shape[j, i] = -1.0
                pixel = stamps[n, j, i]
                if (i - x[n]) ** 2 + (j - y[n]) ** 2 > radius * radius or not math.isfinite(pixel):
                    continue
                here = 0.0
                for k in range(len(sigmas)):
                    here += along_x[k, i] * along_y[k, j]
                shape[j, i] = here
                count += 1
                light += here
                p += here
                pp += here * here
                d += pixel
                dp += pixel * here
        determinant = count * pp - p * p
        if count < _LEAST_PIXELS or light < _LEAST_VISIBLE or determinant <= 0:
            continue
        flux = (count * dp - p * d) / determinant
        level = (d - flux * p) / count
        squares = 0.0
        for j in range(side):
            for i in range(side):
                if shape[j, i] >= 0:
                    squares += (stamps[n, j, i] - level - flux * shape[j, i]) ** 2
        value[n] = flux
        error[n] = math.sqrt(squares / (count - 2) * count / determinant)
