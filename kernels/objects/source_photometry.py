"""Fluxes of sources on science images, their means by band, and magnitudes of objects."""

import math
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import sep
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.science_image import ScienceImage
from kernels.psf.gaussian_mixture import GaussianMixture, brightness
from schemas.archive_columns import BANDS as UGRIZ
from schemas.objects import BANDS

_LEAST_SEEN = 0.5  # minimum fraction of the light on pixels with a value, for a flux


PSF_REACH = 2.0
"""Radius of the pixels used in the fit of a point source, FWHM."""


class Fluxes(NamedTuple):
    """Fluxes at n places, (n,) each, pixel units; NaN where too few pixels have a value.

    Attributes
    ----------
    value, error
        Flux and its standard error.
    sky_error
        The part of the error that the sky makes: for weights that do not depend on the flux.
    seen
        Share of the light on pixels with a value.
    """

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    sky_error: NDArray[np.float64]
    seen: NDArray[np.float64]


def psf_fluxes(
    image: ScienceImage,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    psf: GaussianMixture,
    fwhm_px: float,
    correlation: NDArray[np.float64],
    gain: float,
) -> Fluxes:
    """Fit a point source at each place: least squares with equal weights, neighbours are not separated.

    Parameters
    ----------
    image
        Less its sky.
    x, y : (n,)
        Places, px, 0-based.
    psf, fwhm_px
        Of the image.
    correlation : (2L + 1, 2L + 1)
        Autocorrelation of the noise.
    gain
        Electrons per pixel unit; infinite if not known.
    """
    radius = max(PSF_REACH * fwhm_px, 2.0)
    sums = _fit(image.pixels, image.bad, x, y, psf.weights, psf.sigmas, radius)
    light, squares, cubes, all_squares = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        seen = np.where(all_squares > 0, squares / all_squares, 0.0)
        value = np.where(seen >= _LEAST_SEEN, light / squares, np.nan)
        sigma = _noise_at(image, x, y) * math.sqrt(_correlated(psf, radius, correlation))
        sky = sigma / np.sqrt(squares)
        poisson = np.maximum(value, 0) / gain * cubes / np.square(squares)
    return Fluxes(value, np.sqrt(np.square(sky) + poisson), np.where(np.isfinite(value), sky, np.nan), seen)


def aperture_fluxes(
    image: ScienceImage,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    radius: float,
    psf: GaussianMixture,
    correlation: NDArray[np.float64],
    gain: float,
) -> Fluxes:
    """Sum the light in a circle about each place, and add what a point source has outside it.

    Parameters
    ----------
    radius
        Of the circle, px.
    image, x, y, psf, correlation, gain
        As of `psf_fluxes`.

    Returns
    -------
    Fluxes
        A pixel without a value counts as the mean of the others in the circle (`sep`).
    """
    if not len(x):
        return Fluxes(*(np.zeros(0) for _ in range(4)))
    inside = encircled(psf, radius)
    sums, _, flag = sep.sum_circle(image.pixels, x, y, radius, mask=image.bad, subpix=5)
    hidden, _, _ = sep.sum_circle(image.bad, x, y, radius, subpix=1)
    area = math.pi * radius**2
    seen = np.clip(1 - hidden / area, 0, 1)
    gone = (flag & (sep.APER_ALLMASKED | sep.APER_TRUNC)) != 0
    value = np.where(gone | (seen < _LEAST_SEEN), np.nan, sums / inside)
    with np.errstate(divide="ignore", invalid="ignore"):  # what is seen stands for all of the light, noise and all
        sky = _noise_at(image, x, y) * np.sqrt(area * max(float(correlation.sum()), 0.1) / seen) / inside
        error = np.sqrt(np.square(sky) + np.maximum(np.nan_to_num(value), 0) / (gain * inside * seen))
    nothing = ~np.isfinite(value)
    return Fluxes(value, np.where(nothing, np.nan, error), np.where(nothing, np.nan, sky), np.where(gone, 0.0, seen))


def encircled(psf: GaussianMixture, radius: float) -> float:
    """Return the share of a point source's light within ``radius`` px."""
    return float(np.sum(psf.weights * -np.expm1(-0.5 * np.square(radius / psf.sigmas))))


def _noise_at(image: ScienceImage, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    ny, nx = image.noise.shape
    rows, columns = (np.clip(np.rint(place).astype(int), 0, side - 1) for place, side in ((y, ny), (x, nx)))
    return image.noise[rows, columns].astype(np.float64)


def _correlated(psf: GaussianMixture, radius: float, correlation: NDArray[np.float64]) -> float:
    """Return the variance of a PSF-weighted sum in correlated noise over that in white noise."""
    half = math.ceil(radius)
    offset = np.square(np.arange(-half, half + 1))
    distance = offset[:, None] + offset[None, :]
    shape = brightness(psf, distance)
    shape[distance > radius**2] = 0
    total, reach = 0.0, correlation.shape[0] // 2
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            shared = shape[max(dy, 0) : shape.shape[0] + min(dy, 0), max(dx, 0) : shape.shape[1] + min(dx, 0)]
            other = shape[max(-dy, 0) : shape.shape[0] + min(-dy, 0), max(-dx, 0) : shape.shape[1] + min(-dx, 0)]
            total += float(correlation[dy + reach, dx + reach] * np.sum(shared * other))
    return max(total / float(np.sum(np.square(shape))), 0.1)


@njit(cache=True, nogil=True)
def _fit(
    pixels: NDArray[np.float32],
    bad: NDArray[np.bool_],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    weights: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    radius: float,
) -> NDArray[np.float64]:
    """Return sums over pixels about each place: PSF times light, PSF squared and cubed; PSF squared without mask."""
    ny, nx = pixels.shape
    half = math.ceil(radius)
    out = np.zeros((len(x), 4))
    for n in range(len(x)):
        if not (abs(x[n]) < 1e9 and abs(y[n]) < 1e9):
            continue
        row0, column0 = math.floor(y[n] + 0.5), math.floor(x[n] + 0.5)
        for row in range(row0 - half, row0 + half + 1):
            for column in range(column0 - half, column0 + half + 1):
                distance = (row - y[n]) ** 2 + (column - x[n]) ** 2
                if distance > radius * radius:
                    continue
                value = 0.0
                for k in range(len(weights)):
                    variance = sigmas[k] * sigmas[k]
                    value += weights[k] * math.exp(-0.5 * distance / variance) / (2 * math.pi * variance)
                out[n, 3] += value * value
                if 0 <= row < ny and 0 <= column < nx and not bad[row, column]:
                    out[n, 0] += value * pixels[row, column]
                    out[n, 1] += value * value
                    out[n, 2] += value * value * value
    return out


class BandFlux(NamedTuple):
    """Mean flux of each object, its standard error, and the number of exposures; NaN and 0 where there is none."""

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    exposures: NDArray[np.int64]


class FluxSum:
    """Sum of fluxes, added one exposure at a time, weighted by the noise of the sky alone.

    Weights by the whole error, which grows with the flux, would favour low values.

    Parameters
    ----------
    objects
        How many there are.
    """

    def __init__(self, objects: int) -> None:
        self._weight, self._light, self._variance = (np.zeros(objects) for _ in range(3))
        self._count = np.zeros(objects, np.int64)

    def add(self, which: NDArray[np.int64], fluxes: Fluxes, scale: float) -> None:
        """Add the fluxes of some objects, each at most once, times ``scale``; those that are NaN are left out."""
        good = np.isfinite(fluxes.value) & (fluxes.sky_error > 0)
        which = which[good]
        value, error, sky = (scale * part[good] for part in (fluxes.value, fluxes.error, fluxes.sky_error))
        weight = sky**-2
        self._weight[which] += weight
        self._light[which] += weight * value
        self._variance[which] += np.square(weight * error)
        self._count[which] += 1

    def mean(self) -> BandFlux:
        """Return the weighted means."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return BandFlux(self._light / self._weight, np.sqrt(self._variance) / self._weight, self._count)


WORST = 0.3
"""Maximum useful error of a magnitude, mag: S/N 3.6."""


def object_photometry(objects: pa.Table) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """Return the magnitudes in the bands of ugriz, and their errors.

    Parameters
    ----------
    objects
        Of `schemas.objects.OBJECT`; or any table with columns ``<band>_apMag`` and ``<band>_apMagErr``, AB mag.

    Returns
    -------
    magnitudes, errors
        Band -> (n,) float32; NaN where there is no magnitude, or none with an error up to 0.3 mag. Aperture
        magnitudes, as seen through the dust: what the models were trained on is that, too.
    """
    errors = {band: _values(objects, f"{band}_apMagErr") for band in UGRIZ}
    magnitudes = {
        band: np.where(error <= WORST, _values(objects, f"{band}_apMag"), np.nan).astype(np.float32)
        for band, error in errors.items()
    }
    return magnitudes, errors


def _values(objects: pa.Table, name: str) -> NDArray[np.float32]:
    if name not in objects.column_names:
        return np.full(len(objects), np.nan, np.float32)
    return objects[name].to_numpy().astype(np.float32)


def seen_once(objects: pa.Table) -> NDArray[np.bool_]:
    """Return which objects are of one source, though the pixels of two or more exposures were measured there."""
    exposures = np.sum([objects[f"{band}_nExposures"].to_numpy() for band in BANDS], axis=0)
    return np.asarray(objects["nSources"].to_numpy() < np.minimum(exposures, 2))


COEFFICIENTS = {"u": 4.145, "g": 3.237, "r": 2.273, "i": 1.684, "z": 1.323, "y": 1.088}
"""A / E(B-V), mag, of the reddening of Schlegel, Finkbeiner & Davis (1998), for R_V = 3.1 in LSST's bands: Schlafly &
Finkbeiner 2011, ApJ 737, 103, table 6. There those of SDSS are within 5 %, those of DECam within 9 %."""


def dereddened(magnitude: NDArray[np.float64], band: str, ebv: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return magnitudes without the extinction of a reddening of ``ebv``, mag; NaN where that is not known."""
    return magnitude - COEFFICIENTS[band] * ebv
