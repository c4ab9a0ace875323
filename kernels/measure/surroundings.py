"""Surroundings of a detection, and the residual of its fit."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.trails.geometry import Footprint, Segment, stadium
from kernels.trails.scene import Scene, trail_shape
from kernels.trails.trail_fit import TrailFit
from kernels.trails.trail_model import trail_rows
from schemas.dia_source import RESIDUALS, STATIC, UNKNOWN

_CORE = 0.75  # px from the axis of the trail
_BLOB = 1  # px; what is left of a masked area when so much is taken off all around is a blob, not a column or a ray


def sharpness(scene: Scene, fit: TrailFit) -> float:
    """Compare the light within 0.75 px of the axis of a fitted trail with that of the model there.

    Returns
    -------
    float
        1 for the PSF; about 2 to 3 for a cosmic ray; NaN if no usable pixel lies there or the flux is not positive.
    """
    footprint, segment = fit.seen.footprint, fit.segment
    theta = math.radians(segment.angle)
    dx, dy = footprint.x - segment.x, footprint.y - segment.y
    along, across = dx * math.cos(theta) + dy * math.sin(theta), dy * math.cos(theta) - dx * math.sin(theta)
    core = np.hypot(np.maximum(np.abs(along) - 0.5 * segment.length, 0), across) <= _CORE
    core &= scene.usable[footprint.y, footprint.x]
    expected = fit.flux * trail_shape(scene, footprint, segment)[core].sum()
    return float((fit.seen.values[core] - fit.level).sum() / expected) if expected > 0 else math.nan


def blob_pixels(usable: NDArray[np.bool_], segment: Segment, radius: float) -> int:
    """Count the pixels near a trail that lie inside large masked areas.

    Parameters
    ----------
    usable : (ny, nx)
        Pixels that are not masked.
    segment, radius
        The trail, and how far from it to look, px.

    Returns
    -------
    int
        Masked pixels whose eight neighbours are masked too: none in a column, a cosmic ray or a bleed of 2 px width.
    """
    area = stadium((usable.shape[0], usable.shape[1]), segment, radius)
    return int(_inner(usable, area.y, area.x))


@njit(cache=True, nogil=True)
def _inner(usable: NDArray[np.bool_], y: NDArray[np.int32], x: NDArray[np.int32]) -> int:
    count = 0
    for i in range(y.shape[0]):
        row, column = y[i], x[i]
        if row < _BLOB or column < _BLOB or row >= usable.shape[0] - _BLOB or column >= usable.shape[1] - _BLOB:
            continue
        if not usable[row - _BLOB : row + _BLOB + 1, column - _BLOB : column + _BLOB + 1].any():
            count += 1
    return count


_WIDER = (1.25, 2.5)  # times the PSF: of light that a mismatched width leaves, and of a halo
_CAP = 20.0
_RESIDUAL_FWHM = 1.0  # from the axis


def residual_features(scene: Scene, fit: TrailFit, flux: float) -> NDArray[np.float32]:
    """Describe the residual of a fit by what imperfect subtraction of a star would leave.

    A star that was not subtracted cleanly may look like a point; but the light that is gone has left its photon noise
    behind, and mismatched shift, width and pixel phase have patterns of their own (Alard & Lupton 1998, ApJ 503, 325;
    Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27, on the noise).

    Parameters
    ----------
    scene
        Image with its PSF and noise.
    fit
        The fit, and the pixels it has seen.
    flux
        Of the trail, pixel units.

    Returns
    -------
    (len(RESIDUALS),) float32
        As listed in `schemas.dia_source.RESIDUALS`; zeros if nothing was seen.
    """
    footprint, use = fit.seen.footprint, fit.seen.use > 0
    if not use.any():
        return np.zeros(len(RESIDUALS), np.float32)
    x, y = footprint.x[use], footprint.y[use]
    segment, per_noise = fit.segment, 1 / scene.noise.sigma
    theta = math.radians(segment.angle)
    dx, dy = x - segment.x, y - segment.y
    shapes = [
        trail_rows(dx, dy, segment.length, theta, *scene.psf._replace(sigmas=scene.psf.sigmas * wider))[0]
        for wider in (1.0, *_WIDER)
    ]
    model = np.abs(flux) * per_noise * shapes[0]
    left = (fit.seen.values[use] - fit.level) * per_noise - math.copysign(1.0, flux) * model
    along = dx * math.cos(theta) + dy * math.sin(theta)
    across = np.abs(dy * math.cos(theta) - dx * math.sin(theta))
    beyond = np.hypot(np.maximum(np.abs(along) - segment.length / 2, 0), across)
    near = beyond <= _RESIDUAL_FWHM * scene.fwhm_px
    square = np.square(left)
    found = {
        "core_misfit": math.log(_mean(square, model)),
        "peak_misfit": math.log(_mean(square, np.square(model))),
        "near_misfit": math.log(_mean(square, near)),
        "far_misfit": math.log(_mean(square, ~near)),
        "dark_misfit": math.log1p(_mean(np.square(np.minimum(left, 0)), shapes[1])),
        "ringing_x": abs(_amplitude(left, model * (1 - 2 * (x % 2)))),
        "ringing_y": abs(_amplitude(left, model * (1 - 2 * (y % 2)))),
        "broadness": _amplitude(left, _without(shapes[1], model)),
        "halo": _amplitude(left, _without(shapes[2], model)),
        "imbalance": abs(_contrast(left, model, along > 0)),
        "hollowness": _contrast(left, model, np.abs(along) > segment.length / 4),
    }
    return np.clip([found[name] for name in RESIDUALS], -_CAP, _CAP).astype(np.float32)


def _mean(values: NDArray[np.float64], weight: NDArray[np.floating] | NDArray[np.bool_]) -> float:
    """Return the weighted mean, at least 1e-3; 1 without weight."""
    total = float(weight.sum())
    return max(float((values * weight).sum()) / total, 1e-3) if total > 0 else 1.0


def _amplitude(left: NDArray[np.float64], pattern: NDArray[np.float64]) -> float:
    """Return the amplitude of a pattern in the residual, in standard deviations of white noise."""
    size = float(np.sqrt(np.sum(np.square(pattern))))
    return float((left * pattern).sum()) / size if size > 0 else 0.0


def _without(pattern: NDArray[np.float64], model: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a pattern without the part that a change of the trail's flux explains."""
    size = float(np.sum(np.square(model)))
    return pattern - model * (float((pattern * model).sum()) / size) if size > 0 else pattern


def _contrast(left: NDArray[np.float64], model: NDArray[np.float64], part: NDArray[np.bool_]) -> float:
    """Return by how much a part of the trail is brighter than the rest, in standard deviations of white noise."""
    weights = [float(np.sum(np.square(model[side]))) for side in (part, ~part)]
    if min(weights) <= 0:
        return 0.0
    parts = [float((left * model)[side].sum()) / weight for side, weight in zip((part, ~part), weights, strict=True)]
    return (parts[0] - parts[1]) / math.sqrt(1 / weights[0] + 1 / weights[1])


_LEVEL_FWHM = 8.0  # from the axis: pixels whose median is the level of the sky
_LIGHT_FWHM = 2.5  # and those that hold the trail
_STATIC_CORE = 0.3  # share of the trail's brightest pixel from which on a pixel is of its core
_UNLIKE = 0.3  # share of its own light that may be elsewhere on the science image, whose PSF is another
_LEAST_SEEN = 0.5  # share of the trail's light whose pixels have a value


def static_light(scene: Scene, science: NDArray[np.float32] | None, segments: Sequence[Segment]) -> NDArray[np.float32]:
    """Describe the light of the science image under some trails that the difference image does not have.

    Subtraction leaves residues where stars are, in proportion to their light; what moves is rarely in front of one. So
    surveys weigh a detection by what the reference image shows there (Duev et al. 2019, MNRAS 489, 3582; Masci et al.
    2019, PASP 131, 018003, on distance to the nearest reference source). Science less difference is the reference, as
    matched to this exposure, wherever the reference image itself is kept. The two images may differ in PSF and scale
    (Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27, give a difference image a PSF of its own), so 0.3 of a pixel's own
    difference is granted.

    Parameters
    ----------
    scene
        Difference image with its PSF and noise.
    science : (ny, nx)
        On the same pixels and in the same unit; may hold NaN. None if there is no science image.
    segments
        Fitted trails.

    Returns
    -------
    (n, len(STATIC)) float32
        As listed in `schemas.dia_source.STATIC`.
    """
    found = [UNKNOWN if science is None else _under(scene, science, segment) for segment in segments]
    return np.array(found, np.float32).reshape(-1, len(STATIC))


def _under(scene: Scene, science: NDArray[np.float32], segment: Segment) -> tuple[float, float, float]:
    scene = scene.at(segment.x, segment.y)
    here = stadium(scene.shape, segment, _LIGHT_FWHM * scene.fwhm_px)
    shape, light = trail_shape(scene, here, segment), _light(scene, science, here)
    seen = np.isfinite(light)
    if not seen.any() or shape[seen].sum() < _LEAST_SEEN * shape.sum():
        return UNKNOWN
    level = np.nanmedian(_light(scene, science, stadium(scene.shape, segment, _LEVEL_FWHM * scene.fwhm_px)))
    own = np.abs(scene.pixels[here.y, here.x] - scene.background)
    light, shape = ((light - level - _UNLIKE * own) / scene.noise.sigma)[seen], shape[seen]
    mean, peak = (light * shape).sum() / shape.sum(), light[shape >= _STATIC_CORE * shape.max()].max()
    return math.log1p(max(float(mean), 0.0)), math.log1p(max(float(peak), 0.0)), 0.0


def _light(scene: Scene, science: NDArray[np.float32], area: Footprint) -> NDArray[np.float64]:
    """Return science less difference; NaN where either does not count."""
    light = science[area.y, area.x].astype(np.float64) - scene.pixels[area.y, area.x]
    return np.where(scene.usable[area.y, area.x] & np.isfinite(light), light, np.nan)
