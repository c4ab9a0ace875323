"""How an exposure lies on the sky, and how deep it goes."""

import warnings
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from numpy.typing import NDArray

from kernels.matched_filter import filtered_noise
from kernels.psf import moffat_mixture
from kernels.trail_model import trail_image
from schemas.exposure import ExposureInfo


@dataclass(frozen=True)
class Compass:
    """Directions at the middle of an exposure, in pixels.

    Attributes
    ----------
    scale
        Side of a pixel, arcsec.
    north, east
        Unit vectors (x, y).
    """

    scale: float
    north: tuple[float, float]
    east: tuple[float, float]


def compass(info: ExposureInfo) -> Compass | None:
    """Directions and scale of ``info``, None without a WCS that can be read."""
    if info.wcs_header is None:
        return None
    centre = np.array([(info.shape[1] - 1) / 2, (info.shape[0] - 1) / 2])
    try:
        wcs = _wcs(info.wcs_header)
        if not wcs.has_celestial:
            return None
        ra, dec = (float(angle) for angle in wcs.all_pix2world(centre[None], 0)[0])
        step = 1.0 / 3600
        ends = [[ra, dec], [ra, dec + step], [ra + step / np.cos(np.radians(dec)), dec]]
        origin, north, east = wcs.all_world2pix(ends, 0, quiet=True)
    except (ValueError, KeyError, ArithmeticError):  # what astropy raises for headers of every sort of wrong
        return None
    toward_north, toward_east = north - origin, east - origin
    lengths = np.hypot(*toward_north), np.hypot(*toward_east)
    if not (np.isfinite(lengths).all() and min(lengths) > 0):
        return None
    scale = 1 / np.sqrt(abs(toward_north[0] * toward_east[1] - toward_north[1] * toward_east[0]))
    return Compass(float(scale), _unit(toward_north), _unit(toward_east))


def depth(info: ExposureInfo) -> float | None:
    """AB magnitude of a point source of S/N 5, null without a zero point.

    The noise of the PSF-weighted flux is that of the image as it is, correlated: 5 std(m-filtered noise) / sum(m^2)
    for the PSF m.
    """
    if info.zero_point is None:
        return None
    reach = int(np.ceil(3 * info.psf.fwhm_px)) + 1
    side = 2 * reach + 1
    psf = moffat_mixture(info.psf.fwhm_px, info.psf.beta)
    profile = trail_image((side, side), reach, reach, 0.0, 0.0, psf)
    noise = filtered_noise(profile, info.noise, np.array(info.noise_correlation))
    flux = 5 * noise / float(np.sum(profile**2))
    return info.zero_point - 2.5 * float(np.log10(flux))


def _wcs(cards: str) -> WCS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # of dates and cards that play no part here
        return WCS(fits.Header.fromstring(cards, sep="\n"))


def _unit(vector: NDArray[np.float64]) -> tuple[float, float]:
    x, y = vector / np.hypot(*vector)
    return float(x), float(y)
