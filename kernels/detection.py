"""Everything that is measured on the pixels of one candidate."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.footprint import Segment, stadium
from kernels.photometry import Flux, aperture_flux, fit_flux
from kernels.psf import GaussianMixture
from kernels.sandwich import Noise
from kernels.shape import Lobes, blob_pixels, lobes, sharpness
from kernels.trail_fit import TrailFit, fit_trail
from kernels.trail_lm import jacobian
from schemas.dia_source import DetectionFlag
from schemas.mask import UNUSABLE, MaskPlane

_DIPOLE_FRACTION = 0.5
_DIPOLE_DEPTH = 4.0  # sigma of the smoothed image
_BLOB_PIXELS = 9
_TOO_LONG = 0.25  # of the image's shorter side


@dataclass(frozen=True)
class Image:
    """An exposure as `measure` sees it.

    Attributes
    ----------
    pixels, mask : (ny, nx)
        Difference image, pixel units, and its mask plane.
    usable : (ny, nx) bool
        Pixels with a value that is to be trusted.
    psf, fwhm_px
        Point-spread function with the pixel's response, and its FWHM, px.
    noise
        Of the pixels.
    half_width
        Of the aperture, px.
    """

    pixels: NDArray[np.float32]
    mask: NDArray[np.uint16]
    usable: NDArray[np.bool_]
    psf: GaussianMixture
    fwhm_px: float
    noise: Noise
    half_width: float


@dataclass(frozen=True)
class Detection:
    """What is measured of one candidate, in pixel units.

    Attributes
    ----------
    fit
        Trail fit.
    trail
        Its flux with error and chi squared; where the fit failed, the flux at the first estimate.
    psf, aperture
        Fluxes of a point-source fit at the centre and inside the aperture.
    sharpness, negative_fraction, masked_fraction
        See `schemas.dia_source`; NaN if not known.
    flags
        What can be told from the pixels.
    """

    fit: TrailFit
    trail: Flux
    psf: Flux
    aperture: Flux
    sharpness: float
    negative_fraction: float
    masked_fraction: float
    flags: DetectionFlag


def usable_pixels(pixels: NDArray[np.float32], mask: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Pixels that are finite and not masked as unusable."""
    return ((mask & np.uint16(UNUSABLE)) == 0) & np.isfinite(pixels)


def measure_candidate(image: Image, start: Segment) -> Detection:
    """Measure one candidate.

    Parameters
    ----------
    image
        Where it lies.
    start
        First estimate of its place, px.
    """
    fit = fit_trail(image.pixels, image.usable, start, image.psf, image.fwhm_px, image.noise)
    segment, pixels = fit.segment, (fit.footprint.y, fit.footprint.x)
    values = np.where(fit.use > 0, image.pixels[pixels], 0.0).astype(float)
    point = segment._replace(length=0.0)
    psf = fit_flux(values, fit.use, fit.footprint, point, image.psf, image.noise)
    if fit.converged:
        trail = Flux(fit.flux, float(fit.errors[0]), fit.chi2)
    else:
        trail = fit_flux(values, fit.use, fit.footprint, segment, image.psf, image.noise)
    level_err = fit.level_err if math.isfinite(fit.level_err) else 0.0
    light = lobes(image.pixels, image.usable, segment, fit.level, image.fwhm_px, image.noise)
    masked_fraction, flags = _footprint_flags(image, segment)
    return Detection(
        fit=fit,
        trail=trail,
        psf=psf,
        aperture=aperture_flux(
            image.pixels, image.usable, segment, image.half_width, (fit.level, level_err), image.noise
        ),
        sharpness=sharpness(image.pixels, image.usable, segment, fit.level, _model(fit, image.psf), pixels),
        negative_fraction=light.fraction,
        masked_fraction=masked_fraction,
        flags=flags | _light_flags(image, fit, light),
    )


def _model(fit: TrailFit, psf: GaussianMixture) -> NDArray[np.float64]:
    s = fit.segment
    p = np.array([fit.flux, s.x, s.y, s.length, math.radians(s.angle), 0.0])
    shape, _ = jacobian(fit.footprint, p, psf.weights, psf.sigmas)
    return fit.flux * shape


def _footprint_flags(image: Image, segment: Segment) -> tuple[float, DetectionFlag]:
    """Share of unusable pixels under the aperture, and what they mean."""
    ny, nx = image.pixels.shape
    x1, y1, x2, y2 = segment.ends()
    margin = image.half_width
    area = stadium((ny, nx), segment, margin)
    planes = image.mask[area.y, area.x]
    unusable = ~image.usable[area.y, area.x]
    flags = DetectionFlag(0)
    outside = min(x1, x2) < margin or min(y1, y2) < margin or max(x1, x2) > nx - 1 - margin
    if outside or max(y1, y2) > ny - 1 - margin or np.any(planes & np.uint16(MaskPlane.EDGE)):
        flags |= DetectionFlag.EDGE
    if np.any(planes & np.uint16(MaskPlane.SAT)):
        flags |= DetectionFlag.SATURATED
    if np.any(unusable & ((planes & np.uint16(MaskPlane.SAT | MaskPlane.EDGE)) == 0)):
        flags |= DetectionFlag.MASKED
    border = min(x1, x2, y1, y2, nx - 1 - max(x1, x2), ny - 1 - max(y1, y2))
    leaves = border < image.fwhm_px / 2 and segment.length > 2 * image.fwhm_px
    if leaves or segment.length > _TOO_LONG * min(ny, nx):
        flags |= DetectionFlag.CROSSES_DETECTOR
    return float(unusable.mean()) if unusable.size else 1.0, flags


def _light_flags(image: Image, fit: TrailFit, light: Lobes) -> DetectionFlag:
    flags = DetectionFlag(0)
    if light.negative >= _DIPOLE_FRACTION * light.positive and light.lowest < -_DIPOLE_DEPTH:
        flags |= DetectionFlag.DIPOLE
    if blob_pixels(~image.usable, fit.segment, 10 + 2.5 * image.fwhm_px) >= _BLOB_PIXELS:
        flags |= DetectionFlag.NEAR_BRIGHT_STAR
    if not fit.converged:
        flags |= DetectionFlag.FIT_FAILED
    return flags
