"""Satellites and aeroplanes among the candidates, and candidates in their light."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.trails.candidates import Candidate, absorb
from kernels.trails.geometry import LONG, DetectedSegment
from schemas.pixels import MaskPlane

FASTEST_DEG_PER_DAY = 200.0
"""Rate above that of any asteroid that is not about to hit: 2008 TC3 moved by 100 degrees a day six hours before its
end. Geostationary satellites move by 361 degrees a day among the stars, and all lower ones faster."""

_CROSSING_FWHM = 10.0  # shortest trail that can be recognised as entering and leaving
_BORDER = np.uint16(MaskPlane.EDGE)
_WIDEST = 25.0  # px


def longest_asteroid(exposure_time_s: float, arcsec_per_px: float | None, shape: tuple[int, int]) -> float:
    """Return the length of the longest trail of a Solar System object, px.

    Parameters
    ----------
    exposure_time_s
        Exposure time, s; 0 if not known.
    arcsec_per_px
        Pixel scale; None if not known. If either is not known, a quarter of the image's shorter side is the limit.
    shape
        (ny, nx) of the image, px.
    """
    if arcsec_per_px is None or not exposure_time_s > 0:
        return max(LONG, 0.25 * min(shape))
    return max(LONG, FASTEST_DEG_PER_DAY / 86400 * 3600 * exposure_time_s / arcsec_per_px)


def is_satellite(trail: DetectedSegment, mask: NDArray[np.uint16], longest: float, fwhm_px: float) -> bool:
    """Return whether a trail is longer than that of any asteroid, or enters and leaves the image.

    Parameters
    ----------
    trail
        Trail, px.
    mask : (ny, nx) uint16
        Mask plane; the border is the last pixel, or the plane EDGE.
    longest
        Result of `longest_asteroid`.
    fwhm_px
        FWHM of the PSF.
    """
    if trail.length > longest:
        return True
    if trail.length < _CROSSING_FWHM * fwhm_px:
        return False
    cosine, sine = trail.direction
    return all(
        _at_border(mask, trail.x + side * cosine, trail.y + side * sine, side * cosine, side * sine, fwhm_px)
        for side in (0.5 * trail.length, -0.5 * trail.length)
    )


def _at_border(mask: NDArray[np.uint16], x: float, y: float, dx: float, dy: float, fwhm_px: float) -> bool:
    """Return whether the border lies within 2 FWHM of a point in a given direction."""
    scale = 1 / math.hypot(dx, dy)
    for step in range(math.ceil(2 * fwhm_px) + 1):
        row, column = round(y + step * dy * scale), round(x + step * dx * scale)
        if not (0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]) or mask[row, column] & _BORDER:
            return True
    return False


def wing_radius(trail: DetectedSegment, psf: GaussianMixture, fwhm_px: float) -> float:
    """Return the distance from a long trail within which its light exceeds the noise of a pixel, px.

    Parameters
    ----------
    trail
        Trail with its S/N.
    psf, fwhm_px
        Point-spread function, and its FWHM, px.

    Returns
    -------
    float
        At least 2 FWHM, at most 25 px; the light of a trail of that S/N per px falls to one sigma there.
    """
    # A cross-section filtered by a Gaussian has the S/N of its peak times the root of the Gaussian's squared sum.
    effective = math.sqrt(fwhm_px / 2.3548 * math.sqrt(math.pi))
    peak = trail.snr / math.sqrt(max(trail.length, 1.0)) / effective
    radius = np.arange(0.0, _WIDEST + 0.25, 0.25)
    ridge = psf.weights / psf.sigmas
    profile = np.exp(-0.5 * np.square(radius[:, None] / psf.sigmas)) @ ridge / ridge.sum()
    bright = radius[peak * profile >= 1.0]  # the profile is monotonic
    return float(np.clip(bright[-1] if len(bright) else 0.0, 2 * fwhm_px, _WIDEST))


class Classified(NamedTuple):
    """Candidate with its class, and the distance within which its light spoils other detections, px.

    The class is ``satellite``, ``glint_trail``, or empty.
    """

    candidate: Candidate
    trail_class: str
    half_width: float


def classify_satellites(
    candidates: Sequence[Candidate],
    mask: NDArray[np.uint16],
    longest: float,
    psf: GaussianMixture,
    fwhm_px: float,
) -> list[Classified]:
    """Return the classified candidates, with those in the light of a satellite merged into it.

    Parameters
    ----------
    candidates
        Candidates, each trail once.
    mask : (ny, nx) uint16
        Mask plane.
    longest
        Greatest length of an asteroid's trail, px; see `kernels.trails.satellites.longest_asteroid`.
    psf, fwhm_px
        Point-spread function, and its FWHM, px.
    """
    rest: list[Candidate] = []
    found: list[Candidate] = []
    for one in candidates:
        seen = one.flashes or is_satellite(one.trail, mask, longest, fwhm_px)
        (found if seen else rest).append(one)
    classified = []
    for one in found:
        width = wing_radius(one.trail, psf, fwhm_px)
        whole, rest = absorb(one, width, rest, fwhm_px)
        classified.append(Classified(whole, "glint_trail" if one.flashes else "satellite", width))
    return classified + [Classified(one, "", 0.0) for one in rest]
