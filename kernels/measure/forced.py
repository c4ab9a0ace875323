"""Forced photometry: flux of a trail with given position, length and angle, detected or not."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.image.noise import background_and_noise, variance
from kernels.measure.photometry import Flux, fit_flux
from kernels.trails.geometry import Footprint, Segment, grow, stadium
from kernels.trails.scene import Scene, View, trail_shape, view
from kernels.trails.trail_fit import robust_level
from schemas.forced import ForcedFlag
from schemas.pixels import MaskPlane

_RADIUS_FWHM, _LEAST_RADIUS = 3.5, 6.0  # distance from the trail of the fitted pixels, as in `kernels.trails.trail_fit`
_APERTURE_FWHM = 1.5  # distance from the trail of the pixels that set flags
_MARGIN = 24  # px beyond the fit, where the noise is measured
_LEAST_PIXELS = 500  # with fewer pixels the noise is not known to 5 %
_LEAST_VISIBLE = 0.5  # of the light
_LONG = 200.0  # px; for longer trails the share of light beyond the fit radius is the same to 0.1 %
_OUTLIER = 5.0  # sigma
_MOST_CUT = 0.5  # share of the light: more is not a neighbour but the source itself
_PASSES = 3
_APART = 0.2  # least squared share of a source's light that differs from all others, to separate it

_NONE = Flux(math.nan, math.nan)


class ForcedFlux(NamedTuple):
    """Measurements at a given position, in pixel units.

    Attributes
    ----------
    trail, psf
        Flux of the trail, and of a point source at its centre; NaN if not measured.
    ndata
        Number of fitted pixels.
    visible
        Share of the trail's light that falls on usable pixels.
    flags
        Flags from the pixels.
    """

    trail: Flux
    psf: Flux
    ndata: int
    visible: float
    flags: ForcedFlag


def reach(length: float, fwhm_px: float) -> int:
    """Return the distance from the centre of a trail within which pixels affect `forced_flux`, px."""
    return math.ceil(length / 2 + _radius(fwhm_px)) + _MARGIN


def forced_flux(
    scene: Scene, mask: NDArray[np.uint16], segment: Segment, neighbours: Sequence[Segment] = ()
) -> ForcedFlux:
    """Return the flux of a trail at a given position.

    Parameters
    ----------
    scene, mask
        Image around the trail, out to `reach` or the border of the exposure, and its mask plane, (ny, nx).
    segment
        Trail, px.
    neighbours
        Other sources nearby, px; their fluxes are fitted at the same time.

    Returns
    -------
    ForcedFlux

    Notes
    -----
    Flux and level beside the trail are fitted by linear least squares. The position is fixed, so the flux is unbiased
    however faint the source, and negative as often as positive without a source. Pixels have equal weights. The error
    is that of the estimate in the correlated noise (`kernels.trails.least_squares`), with the standard deviation of the
    surroundings. Pixels that deviate from the fit by 5 sigma, and by more than the trail's own light, are left out with
    their neighbours; this is repeated up to three times.
    """
    seen = view(scene, segment, _radius(scene.fwhm_px))
    shape = trail_shape(scene, seen.footprint, segment)
    visible = _visible(scene, seen, segment, shape)
    flags = _flags(scene, mask, segment)
    if visible < _LEAST_VISIBLE:
        return ForcedFlux(_NONE, _NONE, 0, visible, flags | ForcedFlag.NOT_MEASURED)
    scene = scene._replace(noise=scene.noise._replace(sigma=_local_noise(scene, seen.footprint)))
    others, blended = _told_apart(scene, seen, shape, neighbours)
    seen, contaminated = _cleaned(scene, seen, shape, others)
    trail = fit_flux(scene, seen, segment, others)
    if not math.isfinite(trail.error):  # too few pixels to separate the trail from a level
        return ForcedFlux(_NONE, _NONE, 0, visible, flags | ForcedFlag.NOT_MEASURED)
    psf = trail if segment.length == 0 else fit_flux(scene, seen, segment._replace(length=0.0), others)
    flags |= ForcedFlag.BLENDED if blended else ForcedFlag(0)
    flags |= ForcedFlag.CONTAMINATED if contaminated else ForcedFlag(0)
    return ForcedFlux(trail, psf, int(seen.use.sum()), visible, flags)


def upper_limit(flux: NDArray[np.float64], error: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Return an upper limit of the true flux, with the one-sided confidence of ``sigma`` standard errors.

    Notes
    -----
    ``max(flux, 0) + sigma error`` is the classical upper end of a Gaussian confidence interval (an "upper bound" in
    the words of Kashyap et al. 2010, ApJ 719, 900), with a negative flux taken as 0, so that it is never below
    the noise limit (Feldman & Cousins 1998, PRD 57, 3873, sect. IV B). A true flux exceeds it with a probability of
    at most Phi(-sigma), 0.13 % for 3, and never if it is below ``sigma error``.
    """
    return np.maximum(flux, 0.0) + sigma * error


def _radius(fwhm_px: float) -> float:
    return max(_RADIUS_FWHM * fwhm_px, _LEAST_RADIUS)


def _visible(scene: Scene, seen: View, segment: Segment, shape: NDArray[np.float64]) -> float:
    """Return the share of a trail's light within the fit radius that falls on usable pixels of the image."""
    length = min(segment.length, _LONG)
    side = 2 * reach(length, scene.fwhm_px) + 1
    middle = Segment(side // 2 + segment.x % 1, side // 2 + segment.y % 1, length, segment.angle)
    whole = trail_shape(scene, stadium((side + 1, side + 1), middle, _radius(scene.fwhm_px)), middle)
    return min(float((shape * seen.use).sum() / whole.sum()), 1.0)


def _flags(scene: Scene, mask: NDArray[np.uint16], segment: Segment) -> ForcedFlag:
    """Return the flags of a trail, from the mask of the pixels under it."""
    ny, nx = scene.shape
    x1, y1, x2, y2 = segment.ends()
    margin = _APERTURE_FWHM * scene.fwhm_px
    area = stadium((ny, nx), segment, margin)
    planes, unusable = mask[area.y, area.x], ~scene.usable[area.y, area.x]
    flags = ForcedFlag(0)
    border = min(x1, x2, y1, y2, nx - 1 - max(x1, x2), ny - 1 - max(y1, y2))
    if border < margin or np.any(planes & np.uint16(MaskPlane.EDGE)):
        flags |= ForcedFlag.EDGE
    if np.any(planes & np.uint16(MaskPlane.SAT)):
        flags |= ForcedFlag.SATURATED
    if np.any(unusable & ((planes & np.uint16(MaskPlane.SAT | MaskPlane.EDGE)) == 0)):
        flags |= ForcedFlag.MASKED
    return flags


def _local_noise(scene: Scene, under: Footprint) -> float:
    """Return the robust standard deviation of the pixels around the fit, or the exposure's if they are too few."""
    around = scene.usable.copy()
    around[under.y, under.x] = False
    if np.count_nonzero(around) < _LEAST_PIXELS:
        return scene.noise.sigma
    return background_and_noise(scene.pixels, around)[1] or scene.noise.sigma


def _told_apart(
    scene: Scene, seen: View, shape: NDArray[np.float64], neighbours: Sequence[Segment]
) -> tuple[list[NDArray[np.float64]], bool]:
    """Return images of the neighbours that differ from the trail and each other, and whether one is like the trail."""
    kept: list[NDArray[np.float64]] = []
    basis = [_unit(shape * seen.use)]
    blended = False
    for one in neighbours:
        image = trail_shape(scene, seen.footprint, one)
        mine = image * seen.use
        if mine @ mine < 1e-6 * (shape @ shape):
            continue
        left = _unit(mine)
        for other in basis:
            left = left - (left @ other) * other
        if left @ left > _APART:
            kept.append(image)
            basis.append(_unit(left))
        else:
            blended = blended or bool(1 - (_unit(mine) @ basis[0]) ** 2 <= _APART)
    return kept, blended


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values / math.sqrt(values @ values)


def _cleaned(
    scene: Scene, seen: View, shape: NDArray[np.float64], others: Sequence[NDArray[np.float64]]
) -> tuple[View, bool]:
    """Leave out pixels with other light, unless they hold most of the trail; return whether there were any."""
    design, above = np.stack([shape, *others], axis=1), seen.values - robust_level(seen)
    cut: NDArray[np.bool_] = np.zeros(len(shape), np.bool_)
    for _ in range(_PASSES):
        use = seen.use * ~cut
        solution = np.linalg.lstsq(design * use[:, None], above * use, rcond=None)[0]
        light = design @ solution
        limit = np.maximum(_OUTLIER * np.sqrt(variance(light, scene.noise)), np.abs(solution[0]) * shape)
        off = (seen.use > 0) & (np.abs(above - light) > limit)
        marked = cut | grow(off, seen.footprint, math.ceil(scene.fwhm_px / 2))
        if not (marked & ~cut).any():
            break
        cut = marked
    if not cut.any():
        return seen, False
    if (shape * seen.use)[cut].sum() > _MOST_CUT * (shape * seen.use).sum():
        return seen, True
    return seen._replace(use=seen.use * ~cut), True
