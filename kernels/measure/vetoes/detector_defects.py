"""Evidence for defects of the detector: cosmic rays, hot and bad columns and rows."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.trails.geometry import Segment, stadium
from kernels.trails.scene import Scene

_BRIGHT = 4.0  # sigma of the pixels examined
_MARGIN = 0.7  # of the smallest fraction of its light that a neighbour receives: the PSF is not known better
_SURE = 2.0  # sigma
_SHARE = 0.4  # of the light beyond 4 sigma
_PART = 0.3  # of all light of the trail
_LEAST = 10.0  # sigma of a pixel, in all


def cosmic_ray_evidence(scene: Scene, trail: Segment, flux: float, level: float) -> float:
    """Return the evidence for a cosmic ray: light that is sharper than any that came through the telescope.

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
    limit is that of the PSF in hand: it holds for undersampled images as well.
    A pair with a pixel below -3 sigma is left out, lest the dark side of a residual pass for sharpness.
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
    """Return the brightness of a star ``distance`` px from its centre over that at the centre."""
    sigmas = psf.sigmas.tolist()
    peak = [weight / sigma**2 for weight, sigma in zip(psf.weights.tolist(), sigmas, strict=True)]
    there = [one * math.exp(-0.5 * (distance / sigma) ** 2) for one, sigma in zip(peak, sigmas, strict=True)]
    return sum(there) / sum(peak)


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
    """Return the light beyond 4 sigma, and the part of it that is too sharp."""
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


_TURN = 8.0  # deg, maximum angle of a long trail to the column
_SHORT_FWHM = 3.0  # a trail shorter than this may lie on a column whatever its angle
_REACH = 60  # px beyond the ends
_COLUMN_LEAST = 15  # minimum number of pixels
_COLUMN_SHARE = 0.4  # of the trail's brightness: minimum for its column beyond the ends
_COLUMN_SURE = 5.0  # sigma
_STRAIGHT = 1.5  # px, maximum deviation of a trail that is a column
_LONG_FWHM = 5.0
_THIN = 0.5  # fraction of the light that the PSF would put on neighbouring columns


def hot_column_evidence(scene: Scene, trail: Segment) -> float:
    """Return the evidence for a defect of a column or row: one pixel wide, and there beyond the ends of the trail too.

    Parameters
    ----------
    scene
        Image in the detector's own pixels.
    trail
        Fitted trail, px.

    Returns
    -------
    float
        0 to 2; the greater of two numbers. A column that goes on: the lesser of two ratios, brightness of the column
        beyond the trail over 0.4 of that at the trail, and its S/N over 5; brightness is that above the columns 2 px
        to either side, beyond means 2 FWHM to 60 px further, above or below. A trail of 5 FWHM or more that is the
        column: how much less of its light than the PSF would put there lies on the columns next to it, over one half,
        at an S/N of 10 or more.
    """
    best, short = 0.0, trail.length < _SHORT_FWHM * scene.fwhm_px
    thin = _line_share(scene.psf) if trail.length >= _LONG_FWHM * scene.fwhm_px else 0.0
    off = abs(trail.angle % 180.0 - 90.0)  # 0 along a column, 90 along a row
    half_x, half_y = (0.5 * trail.length * f(math.radians(trail.angle)) for f in (math.cos, math.sin))
    margin, noise = 2 * scene.fwhm_px, scene.noise.sigma * math.sqrt(1.5)
    if short or off <= _TURN:
        narrow = thin if abs(half_x) <= _STRAIGHT else 0.0
        best = _defect(scene.pixels, scene.usable, trail.x, trail.y, abs(half_y), margin, noise, narrow)
    if short or off >= 90 - _TURN:
        narrow = thin if abs(half_y) <= _STRAIGHT else 0.0
        across = _defect(scene.pixels.T, scene.usable.T, trail.y, trail.x, abs(half_x), margin, noise, narrow)
        best = max(best, across)
    return min(best, 2.0)


def _line_share(psf: GaussianMixture) -> float:
    """Return the brightness of a long trail 1 px beside its ridge over that on it."""
    ridge = psf.weights / psf.sigmas
    return float((ridge * np.exp(-0.5 / np.square(psf.sigmas))).sum() / ridge.sum())


@njit(cache=True, nogil=True)
def _defect(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    x: float,
    y: float,
    half: float,
    margin: float,
    noise: float,
    share: float,
) -> float:
    best, middle = 0.0, math.floor(x + 0.5)
    for column in range(middle - 1, middle + 2):
        if column < 2 or column >= pixels.shape[1] - 2:
            continue
        own, seen = _excess(pixels, usable, column, 2, y - half - 1, y + half + 1, math.inf)
        if own <= 0:
            continue
        if share > 0 and own * math.sqrt(seen) > 2 * _COLUMN_SURE * noise:
            beside, _ = _excess(pixels, usable, column, 1, y - half - 1, y + half + 1, math.inf)
            next_to = 1 - beside / own  # own is above the second neighbours, beside above the first
            best = max(best, (1 - next_to / share) / _THIN)
        for side in (-1.0, 1.0):
            near, far = y + side * (half + margin), y + side * (half + margin + _REACH)
            beyond, count = _excess(pixels, usable, column, 2, min(near, far), max(near, far), 4 * noise + own)
            if count >= _COLUMN_LEAST:
                best = max(best, min(beyond / (_COLUMN_SHARE * own), beyond * math.sqrt(count) / noise / _COLUMN_SURE))
    return best


@njit(cache=True, nogil=True)
def _excess(
    pixels: NDArray[np.float32], usable: NDArray[np.bool_], column: int, side: int, low: float, high: float, clip: float
) -> tuple[float, int]:
    """Return the mean excess, clipped, of a piece of a column over those ``side`` px away, and its number of pixels."""
    total, count = 0.0, 0
    for row in range(max(0, math.ceil(low)), min(pixels.shape[0] - 1, math.floor(high)) + 1):
        if usable[row, column] and usable[row, column - side] and usable[row, column + side]:
            value = pixels[row, column] - 0.5 * (pixels[row, column - side] + pixels[row, column + side])
            total += min(max(value, -clip), clip)
            count += 1
    return total / max(count, 1), count
