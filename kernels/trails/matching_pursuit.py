"""Search for trails in a small image, one after another."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.trails.geometry import DetectedSegment, between, core_radius, in_line, lies_on, overlap, union
from kernels.trails.long_trail import erase_trail
from kernels.trails.trail_ascent import (
    brightest_part,
    brightest_point,
    evenness,
    refine_point,
    refine_trail,
    trail_snr,
)
from kernels.trails.trail_bank import TrailBank, best_trail, point_snr
from kernels.trails.trail_model import trail_image

_HALO = 0.02  # largest residual of a trail within 4 FWHM when its wings differ from the model, as a share
_EVEN = 0.6  # least bright share of a trail
_ENOUGH = 0.8  # share of a line's S/N squared at which a piece of the line is the trail
_BESIDE = np.float32(4.0)  # S/N of a pixel above which light beside the windows counts as hidden
_ALIKE = 3.0  # largest ratio of brightness of two pieces of one trail
_RESIDUE = 0.1  # largest residual of a trail from imperfect subtraction, as a share


class Optics(NamedTuple):
    """Filters of an exposure, and their inputs."""

    psf: GaussianMixture
    fwhm_px: float
    bank: TrailBank


class Windows(NamedTuple):
    """Pixels to search, (ny, nx) bool each.

    Attributes
    ----------
    centres
        Pixels where a trail's centre may lie, at least ``bank.reach`` px from the borders.
    lit
        Pixels where bright light counts; stars elsewhere are ignored.
    """

    centres: NDArray[np.bool_]
    lit: NDArray[np.bool_]


def pursue_trails(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    windows: Windows,
    optics: Optics,
    min_snr: float,
    limit: int,
) -> list[DetectedSegment]:
    """Return the trails in a crop: the most significant, then the next after subtracting it, and so on.

    Parameters
    ----------
    image : (ny, nx) float32
        Background subtracted, pixel units.
    usable : (ny, nx) bool
        Pixels that count.
    windows
        Pixels to search.
    optics
        PSF and filters.
    min_snr
        Least matched-filter S/N.
    limit
        Largest number of trails to try.

    Returns
    -------
    list of Segment
        Trails in the order found. Residuals of an accepted trail are left out: peaks on its line or beyond its ends,
        and peaks weaker than a tenth of it at the same position, or than 2 % of it nearby.

    Notes
    -----
    Matching pursuit (Mallat & Zhang 1993, IEEE Trans. Signal Process. 41, 3397) with refined atoms.
    """
    data, alive = np.where(usable, image, np.float32(0)), usable.copy()
    found: list[DetectedSegment] = []
    lights: list[NDArray[np.float32] | None] = []
    for _ in range(limit):
        snr = point_snr(data, optics.bank)
        snr = np.where(windows.lit | (snr <= _BESIDE), snr, np.float32(0))
        start = best_trail(snr, windows.centres, optics.bank)
        if start.snr < min_snr:
            break
        trail = _refined(snr, start, optics)
        if trail.snr <= 0:  # a mostly dark place
            break
        model = trail_model(trail, data.shape, optics)
        data -= model
        erase_trail(alive, trail, core_radius(trail.snr, optics.fwhm_px))
        data[~alive] = 0
        if not _is_residue(trail, found, lights, optics):
            found.append(trail)
            lights.append(_light(trail, model, optics, min_snr))
    return _bridged(found, alive, optics.fwhm_px)


def _refined(snr: NDArray[np.float32], start: DetectedSegment, optics: Optics) -> DetectedSegment:
    """Return the refined trail, or the brightest spot or the piece that most of its light comes from."""
    lags = optics.bank.lags
    trail = refine_trail(snr, lags, start)
    if trail.length < 3 * optics.fwhm_px:
        return trail
    if evenness(snr, trail) < _EVEN:
        return refine_point(snr, lags, brightest_point(snr, trail))
    part = brightest_part(snr, lags, trail)
    return refine_trail(snr, lags, part) if part.snr**2 >= _ENOUGH * trail.snr**2 else trail


def trail_model(trail: DetectedSegment, shape: tuple[int, ...], optics: Optics) -> NDArray[np.float32]:
    """Return the image of a trail with the flux of its S/N, pixel units; zero beyond the reach of the PSF stamp."""
    cosine, sine = trail.direction
    reach = optics.bank.stamp.shape[0] // 2
    half_x, half_y = (0.5 * trail.length * abs(part) + reach for part in (cosine, sine))
    x0, x1 = max(0, math.floor(trail.x - half_x)), min(shape[1], math.ceil(trail.x + half_x) + 1)
    y0, y1 = max(0, math.floor(trail.y - half_y)), min(shape[0], math.ceil(trail.y + half_y) + 1)
    model = np.zeros(shape, np.float32)
    if x0 < x1 and y0 < y1:
        unit = trail_image((y1 - y0, x1 - x0), trail.x - x0, trail.y - y0, trail.length, trail.angle, optics.psf)
        response = point_snr(unit.astype(np.float32), optics.bank)
        unit_snr = _line_snr(response, trail.shifted(-x0, -y0), optics)
        if unit_snr > 0:
            model[y0:y1, x0:x1] = unit * (trail.snr / unit_snr)
    return model


def _line_snr(snr: NDArray[np.float32], trail: DetectedSegment, optics: Optics) -> float:
    return float(trail_snr(snr, optics.bank.lags, *trail.ends()))


def _light(
    trail: DetectedSegment, model: NDArray[np.float32], optics: Optics, min_snr: float
) -> NDArray[np.float32] | None:
    """Return the S/N of a point source on a trail's model; None if a tenth of the trail is too faint to find."""
    return point_snr(model, optics.bank) if _RESIDUE * trail.snr > min_snr else None


def _is_residue(
    trail: DetectedSegment, found: list[DetectedSegment], lights: list[NDArray[np.float32] | None], optics: Optics
) -> bool:
    """Return whether a peak is a residual of an earlier, subtracted trail; for ``lights`` see `_light`."""
    for earlier, light in zip(found, lights, strict=True):
        if lies_on(trail, earlier, optics.fwhm_px):
            return True
        if trail.snr < _HALO * earlier.snr and overlap(trail, earlier, 4 * optics.fwhm_px) > 0.5:
            return True
        if light is not None and trail.snr < _RESIDUE * _line_snr(light, trail, optics):
            return True
    return False


def _bridged(found: list[DetectedSegment], alive: NDArray[np.bool_], fwhm_px: float) -> list[DetectedSegment]:
    """Return the union of two pieces of one line if hardly any pixels between them are usable."""
    joined: list[DetectedSegment] = []
    for trail in found:
        for i, stronger in enumerate(joined):
            aligned = max(trail.length, stronger.length) >= 3 * fwhm_px and in_line(
                trail, stronger, core_radius(0.0, fwhm_px)
            )
            alike = abs(math.log(_brightness(stronger, fwhm_px) / _brightness(trail, fwhm_px))) <= math.log(_ALIKE)
            if aligned and alike and _seen(between(trail, stronger), alive) <= 2 * fwhm_px:
                joined[i] = union(stronger, trail)
                break
        else:
            joined.append(trail)
    return joined


def _brightness(trail: DetectedSegment, fwhm_px: float) -> float:
    """Return the S/N per root of the length, which is the same for all pieces of a trail."""
    return trail.snr / math.sqrt(trail.length + fwhm_px)


def _seen(segment: DetectedSegment, alive: NDArray[np.bool_]) -> float:
    """Return the length of a segment on usable pixels, px."""
    column, row = np.rint(segment.points(1.0)).astype(np.intp).T
    inside = (row >= 0) & (column >= 0) & (row < alive.shape[0]) & (column < alive.shape[1])
    return segment.length * float(np.mean(alive[row[inside], column[inside]])) if inside.any() else 0.0
