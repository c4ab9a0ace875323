"""Fluxes at a known position, and their units."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.noise import variance
from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.trails.geometry import Segment, stadium
from kernels.trails.least_squares import fit_covariance
from kernels.trails.scene import Scene, View, trail_shape

_FIFTHS = 5  # a pixel at the border of an aperture is sampled at 5 x 5 points
_AB_OF_NJY = 31.4  # AB magnitude of 1 nJy (Oke & Gunn 1983, ApJ 266, 713)


class Flux(NamedTuple):
    """Flux, its standard error, and chi squared of its fit (NaN without a fit)."""

    value: float
    error: float
    chi2: float = math.nan


def fit_flux(scene: Scene, seen: View, segment: Segment, others: Sequence[NDArray[np.float64]] = ()) -> Flux:
    """Return the flux of a trail, or of a point source (length 0), fitted with the level at a given position.

    Parameters
    ----------
    scene, seen
        Image, and the pixels to fit.
    segment
        Position and extent of the source, px.
    others : (n,) each
        Images of further sources in the pixels of ``seen``, whose fluxes are fitted at the same time.

    Returns
    -------
    Flux
        Pixel units; NaN if no usable pixel lies under the source. Only the error is NaN if the noise correlations give
        no positive variance, as for a few pixels with anticorrelated noise.
    """
    return shaped_flux(scene, seen, trail_shape(scene, seen.footprint, segment), others)


def shaped_flux(
    scene: Scene, seen: View, shape: NDArray[np.float64], others: Sequence[NDArray[np.float64]] = ()
) -> Flux:
    """Return the fitted flux of a source with unit-flux image ``shape``, (n,), in pixels ``seen``; see `fit_flux`."""
    if not np.any(seen.use * shape > 1e-6):
        return Flux(math.nan, math.nan)
    design = np.stack([shape, np.ones_like(shape), *others], axis=1)
    solution = np.linalg.lstsq(design * seen.use[:, None], seen.values * seen.use, rcond=None)[0]
    light = solution[0] * shape
    for value, other in zip(solution[2:], others, strict=True):
        light = light + value * other
    covariance = fit_covariance(design, seen.use, light, seen.footprint, scene.noise, seen.added)
    squares = seen.use * np.square(seen.values - light - solution[1]) / variance(light, scene.noise, seen.added)
    error = math.sqrt(covariance[0, 0]) if covariance[0, 0] > 0 else math.nan
    return Flux(float(solution[0]), error, float(squares.sum()))


_EVEN = 8.0
"""Difference of chi squared at which a point and a trail are equally likely; noise has a median of 2."""

_FREE = (2.0, 3.0)
"""Parameters that bias the flux of a point, and of a trail, upwards as they follow the noise."""


def point_or_trail(psf: Flux, trail: Flux) -> Flux:
    """Return the flux of a source that may be a point or a short trail.

    Parameters
    ----------
    psf, trail
        Flux as a point and as a trail, with chi squared of the same pixels.

    Returns
    -------
    Flux
        Mean of both, weighted by the residuals of the two fits; its error includes their difference. If the trail is
        significant, the mean is the flux of the trail, else nearly that of the point.

    Notes
    -----
    The fluxes are averaged as models in Buckland, Burnham & Augustin 1997, Biometrics 53, 603. The maximum likelihood
    over p parameters of position and shape overestimates the flux by a share of p / (2 S^2) (Portillo, Speagle &
    Finkbeiner 2020, AJ 159, 165), which is corrected. The two constants were set on simulated sources of 0 to 20 px
    (``benchmarks/measurement/magnitudes.py``).
    """
    weight = 1 / (1 + math.exp(min(max((_EVEN - (psf.chi2 - trail.chi2)) / 2, -50.0), 50.0)))
    point, line = (_unbiased(one, free) for one, free in zip((psf, trail), _FREE, strict=True))
    value = weight * line + (1 - weight) * point
    spread = weight * (trail.error**2 + (line - value) ** 2) + (1 - weight) * (psf.error**2 + (point - value) ** 2)
    return Flux(value, math.sqrt(spread))


def _unbiased(flux: Flux, free: float) -> float:
    return flux.value * (1 - free / (2 * max(flux.value / flux.error, 3.0) ** 2))


def aperture_flux(
    scene: Scene, segment: Segment, half_width: float, level: float = 0.0, level_err: float = 0.0
) -> Flux:
    """Return the sum of the light inside a rectangle along a trail.

    Parameters
    ----------
    scene
        Image. Pixels that are unusable or outside add nothing.
    segment, half_width
        The rectangle is ``length + 2 half_width`` long and ``2 half_width`` wide, px.
    level, level_err
        Local background and its standard error, pixel units.

    Returns
    -------
    Flux
        Pixel units; the error is NaN if the sum has no variance, as without a usable pixel.

    Notes
    -----
    The border is exact to a fifth of a pixel. The variance of the sum has three parts: the correlated noise, which is
    the sum over lags of rho(lag) times the area that the rectangle shares with itself displaced by the lag; the
    Poisson noise of the light; and the error of the level.
    """
    long, wide, theta = segment.length + 2 * half_width, 2 * half_width, math.radians(segment.angle)
    around = stadium(scene.shape, segment, math.sqrt(2) * half_width + 1)
    box = (float(segment.x), float(segment.y), theta, 0.5 * long, 0.5 * wide)
    total, area = _sum_inside(scene.pixels, scene.usable, around.y, around.x, box, float(level))
    share = area / (long * wide)
    correlated = share * scene.noise.sigma**2 * _shared_area(float(long), float(wide), theta, scene.noise.correlation)
    light = max(total, 0.0) / scene.noise.gain
    if scene.variance is not None:
        sky = scene.noise.sigma**2 / scene.variance_scale
        light = max(
            light, scene.variance_scale * _sum_inside(scene.variance, scene.usable, around.y, around.x, box, sky)[0]
        )
    spread = correlated + light + (area * level_err) ** 2
    return Flux(total, math.sqrt(spread) if spread > 0 else math.nan)


@njit(cache=True, nogil=True)
def _sum_inside(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    y: NDArray[np.int32],
    x: NDArray[np.int32],
    box: tuple[float, float, float, float, float],
    level: float,
) -> tuple[float, float]:
    """Return the light above the level, and the area (px), of the usable part of a box.

    A box is the x and y of its centre, its angle, half its length and half its width.
    """
    x0, y0, theta, half_long, half_wide = box
    cosine, sine = math.cos(theta), math.sin(theta)
    total = area = 0.0
    for i in range(y.shape[0]):
        if not usable[y[i], x[i]]:
            continue
        inside = 0
        for j in range(_FIFTHS * _FIFTHS):
            dx = x[i] - x0 + (j % _FIFTHS - (_FIFTHS - 1) / 2) / _FIFTHS
            dy = y[i] - y0 + (j // _FIFTHS - (_FIFTHS - 1) / 2) / _FIFTHS
            along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
            inside += abs(along) < half_long and abs(across) < half_wide
        weight = inside / _FIFTHS**2
        total += weight * (pixels[y[i], x[i]] - level)
        area += weight
    return total, area


@njit(cache=True, nogil=True)
def _shared_area(long: float, wide: float, theta: float, correlation: NDArray[np.float64]) -> float:
    """Return the sum over lags of the autocorrelation times a rectangle's overlap with itself, px."""
    reach_y, reach_x = correlation.shape[0] // 2, correlation.shape[1] // 2
    cosine, sine, total = math.cos(theta), math.sin(theta), 0.0
    for dy in range(-reach_y, reach_y + 1):
        for dx in range(-reach_x, reach_x + 1):
            along, across = abs(dx * cosine + dy * sine), abs(dy * cosine - dx * sine)
            shared = max(long - along, 0.0) * max(wide - across, 0.0)
            total += correlation[dy + reach_y, dx + reach_x] * shared
    return max(total, 0.0)


def njy_per_unit(zero_point: float) -> float:
    """Return the nJy of one pixel unit of flux from the AB magnitude of one."""
    return 10 ** ((_AB_OF_NJY - zero_point) / 2.5)


def ab_magnitude(
    flux: NDArray[np.float64], error: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return AB magnitudes and their standard errors from fluxes in nJy; NaN if the flux is not positive."""
    positive = np.where(flux > 0, flux, np.nan)
    return _AB_OF_NJY - 2.5 * np.log10(positive), 2.5 / math.log(10) * error / positive


_RADIUS_FWHM, _LEAST_RADIUS = 3.5, 6.0  # radius of the fitted pixels, as in `kernels.measure.forced`
_LEAST_PIXELS = 12
_LEAST_VISIBLE = 0.5  # of the light


class StampFluxes(NamedTuple):
    """Fluxes and their standard errors, (n,), in the unit of the pixels; NaN if they cannot be measured."""

    value: NDArray[np.float64]
    error: NDArray[np.float64]


def stamp_fluxes(
    stamps: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64], psf: GaussianMixture, fwhm_px: float
) -> StampFluxes:
    """Return the fluxes of point sources at given positions, each fitted with a level to one of several stamps.

    Parameters
    ----------
    stamps : (n, side, side)
        Pixels; NaN if unusable.
    x, y : (n,)
        Positions in the stamps, px, 0-based.
    psf, fwhm_px
        Point-spread function with the response of a pixel, and its FWHM, px.

    Returns
    -------
    StampFluxes
        NaN if less than half of the light falls on usable pixels.

    Notes
    -----
    Two parameters are fitted by linear least squares, within 3.5 FWHM (at least 6 px), with equal weights. The error
    is that of white noise with the scatter around the fit.
    """
    radius = max(_RADIUS_FWHM * fwhm_px, _LEAST_RADIUS)
    value, error = np.full(len(stamps), np.nan), np.full(len(stamps), np.nan)
    _fit_stamps(stamps, x, y, psf.weights / (2 * math.pi * psf.sigmas**2), psf.sigmas, radius, value, error)
    return StampFluxes(value, error)


@njit(cache=True, nogil=True, error_model="numpy")
def _fit_stamps(
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
