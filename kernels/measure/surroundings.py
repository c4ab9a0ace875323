"""Surroundings of a detection, and the residual of its fit."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.measure.star_residue import share_left
from kernels.trails.geometry import Footprint, Segment, stadium
from kernels.trails.scene import Scene, trail_shape
from kernels.trails.trail_fit import TrailFit
from kernels.trails.trail_model import trail_rows
from schemas.dia_source import RESIDUALS, STATIC, UNKNOWN

_CORE = 0.75  # px from the axis of the trail
_BLOB = 1  # px; a masked area that remains after erosion by this much is a blob, not a column or a cosmic ray


def sharpness(scene: Scene, fit: TrailFit) -> float:
    """Return the ratio of the light within 0.75 px of the axis of a fitted trail to that of the model.

    Returns
    -------
    float
        1 for the PSF; about 2 to 3 for a cosmic ray; NaN if no usable pixel lies there or the flux is not positive.
    """
    footprint, segment = fit.seen.footprint, fit.segment
    line = (float(segment.x), float(segment.y), float(segment.length), math.radians(segment.angle))
    light, share = _core_light(fit.seen.values, fit.shape, scene.usable, footprint.y, footprint.x, line, fit.level)
    expected = fit.flux * share
    return light / expected if expected > 0 else math.nan


@njit(cache=True, nogil=True)
def _core_light(
    values: NDArray[np.float64],
    shape: NDArray[np.float64],
    usable: NDArray[np.bool_],
    y: NDArray[np.int32],
    x: NDArray[np.int32],
    line: tuple[float, float, float, float],
    level: float,
) -> tuple[float, float]:
    """Return the light above the level near the axis of a trail, and the share of the trail's own there."""
    x0, y0, length, theta = line
    cosine, sine, light, share = math.cos(theta), math.sin(theta), 0.0, 0.0
    for i in range(y.shape[0]):
        dx, dy = x[i] - x0, y[i] - y0
        beyond, across = max(abs(dx * cosine + dy * sine) - 0.5 * length, 0.0), dy * cosine - dx * sine
        if math.hypot(beyond, across) <= _CORE and usable[y[i], x[i]]:
            light += values[i] - level
            share += shape[i]
    return light, share


def blob_pixels(usable: NDArray[np.bool_], segment: Segment, radius: float) -> int:
    """Return the number of pixels near a trail that lie inside large masked areas.

    Parameters
    ----------
    usable : (ny, nx)
        Pixels that are not masked.
    segment, radius
        Trail, and largest distance from it, px.

    Returns
    -------
    int
        Number of masked pixels whose eight neighbours are also masked. A column, a cosmic ray or a bleed of 2 px width
        has none.
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
        if usable[row, column]:
            continue
        if not usable[row - _BLOB : row + _BLOB + 1, column - _BLOB : column + _BLOB + 1].any():
            count += 1
    return count


_WIDER = (1.25, 2.5)  # width over that of the PSF: of the residual of a mismatched width, and of a halo
_CAP = 20.0
_RESIDUAL_FWHM = 1.0  # distance from the axis


def residual_features(scene: Scene, fit: TrailFit, flux: float) -> NDArray[np.float32]:
    """Return features of the residual of a fit that show the imperfect subtraction of a star.

    A star that was not subtracted cleanly may look like a point. But the photon noise of the subtracted light remains,
    and errors of shift, width and pixel phase have characteristic patterns (Alard & Lupton 1998, ApJ 503, 325; Zackay,
    Ofek & Gal-Yam 2016, ApJ 830, 27, on the noise).

    Parameters
    ----------
    scene
        Image with its PSF and noise.
    fit
        Fit with its pixels.
    flux
        Flux of the trail, pixel units.

    Returns
    -------
    (len(RESIDUALS),) float32
        Features listed in `schemas.dia_source.RESIDUALS`; zeros if no pixel is usable.
    """
    footprint, use = fit.seen.footprint, fit.seen.use > 0
    if not use.any():
        return np.zeros(len(RESIDUALS), np.float32)
    x, y = footprint.x[use], footprint.y[use]
    segment, per_noise = fit.segment, 1 / scene.noise.sigma
    theta = math.radians(segment.angle)
    shapes = np.stack(
        [
            trail_rows(
                x - segment.x, y - segment.y, segment.length, theta, scene.psf.weights, sigmas, scene.psf.stretch
            )[0]
            for sigmas in (scene.psf.sigmas * wider for wider in (1.0, *_WIDER))
        ]
    )
    line = (float(segment.x), float(segment.y), float(segment.length), theta)
    left, model = fit.seen.values[use], np.abs(flux) * per_noise * shapes[0]
    left = (left - fit.level) * per_noise - math.copysign(1.0, flux) * model
    means, amplitudes = _patterns(x, y, left, model, shapes, line, _RESIDUAL_FWHM * scene.fwhm_px)
    core, peak, near, far, dark = means.tolist()
    found = [*(math.log(mean) for mean in (core, peak, near, far)), math.log1p(dark), *amplitudes.tolist()]
    return np.clip(found, -_CAP, _CAP).astype(np.float32)


@njit(cache=True, nogil=True)
def _patterns(
    x: NDArray[np.int32],
    y: NDArray[np.int32],
    left: NDArray[np.float64],
    model: NDArray[np.float64],
    shapes: NDArray[np.float64],
    line: tuple[float, float, float, float],
    near: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the five mean squared residuals of `RESIDUALS`, and the six amplitudes of its patterns.

    ``shapes`` are the trail and two wider ones, (3, n); ``near`` is the largest distance from the axis, px.
    """
    x0, y0, length, theta = line
    cosine, sine = math.cos(theta), math.sin(theta)
    squares, weights, found = np.zeros(5), np.zeros(5), np.zeros(6)
    parts, whole = np.zeros((2, 2, 2)), np.zeros(3)  # by pattern, side, and left * model or its square
    for i in range(x.shape[0]):
        dx, dy, own = x[i] - x0, y[i] - y0, model[i]
        along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
        close = math.hypot(max(abs(along) - length / 2, 0.0), across) <= near
        weight = (own, own * own, 1.0 if close else 0.0, 0.0 if close else 1.0, shapes[1, i])
        for k in range(5):
            squares[k] += (left[i] if k < 4 else min(left[i], 0.0)) ** 2 * weight[k]
            weights[k] += weight[k]
        shared = left[i] * own
        found[0] += shared * (1 - 2 * (x[i] % 2))
        found[1] += shared * (1 - 2 * (y[i] % 2))
        for k, side in enumerate((along > 0, abs(along) > length / 4)):
            parts[k, 1 if side else 0, 0] += shared
            parts[k, 1 if side else 0, 1] += own * own
        for k in range(1, 3):
            whole[k] += own * shapes[k, i]
    size = math.sqrt(weights[1])
    for k in range(2):
        found[k] = abs(found[k]) / size if size > 0 else 0.0
        found[2 + k] = _beyond(left, shapes[1 + k], model, whole[1 + k] / weights[1] if size > 0 else 0.0)
        found[4 + k] = _contrast(parts[k])
    found[4] = abs(found[4])
    for k in range(5):
        squares[k] = max(squares[k] / weights[k], 1e-3) if weights[k] > 0 else 1.0
    return squares, found


@njit(cache=True, nogil=True)
def _beyond(
    left: NDArray[np.float64], pattern: NDArray[np.float64], model: NDArray[np.float64], explained: float
) -> float:
    """Return the amplitude of a pattern in the residual, without the part explained by a change of the trail's flux.

    The unit is the standard deviation of white noise.
    """
    total = square = 0.0
    for i in range(left.shape[0]):
        own = pattern[i] - explained * model[i]
        total += left[i] * own
        square += own * own
    return total / math.sqrt(square) if square > 0 else 0.0


@njit(cache=True, nogil=True)
def _contrast(parts: NDArray[np.float64]) -> float:
    """Return the excess brightness of a part of the trail over the rest, in standard deviations of white noise.

    ``parts`` are the rest and the part: sums of residual times trail, and of the trail squared.
    """
    if min(parts[0, 1], parts[1, 1]) <= 0:
        return 0.0
    excess = parts[1, 0] / parts[1, 1] - parts[0, 0] / parts[0, 1]
    return excess / math.sqrt(1 / parts[1, 1] + 1 / parts[0, 1])


_LEVEL_FWHM = 8.0  # distance from the axis of pixels whose median is the sky level
_LIGHT_FWHM = 2.5  # distance of those that hold the trail
_STATIC_CORE = 0.3  # a pixel with this share of the trail's brightest pixel belongs to its core
_UNLIKE = 0.3  # share of its own light that a different PSF may move elsewhere on the science image
_LEAST_SEEN = 0.5  # minimum share of the trail's light on pixels with a value


def static_light(scene: Scene, science: NDArray[np.float32] | None, segments: Sequence[Segment]) -> NDArray[np.float32]:
    """Return features of the light under trails that is on the science image but not on the difference image.

    Subtraction leaves residuals at stars, in proportion to their light, while a moving source is rarely in front of
    one. So surveys judge a detection by the reference image at its position (Duev et al. 2019, MNRAS 489, 3582; Masci
    et al. 2019, PASP 131, 018003, on distance to the nearest reference source). Science minus difference is the
    reference matched to this exposure, and does not need the reference image itself. The two images may differ in PSF
    and scale (in Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27, a difference image has its own PSF), so a mismatch of 0.3
    of a pixel's own difference is allowed.

    Parameters
    ----------
    scene
        Difference image with its PSF and noise.
    science : (ny, nx)
        Science image on the same pixels and in the same unit; may hold NaN. None if there is no science image.
    segments
        Fitted trails.

    Returns
    -------
    (n, len(STATIC)) float32
        Features listed in `schemas.dia_source.STATIC`.
    """
    if science is None:
        found = [UNKNOWN] * len(segments)
    else:
        scenes = scene.at_each([segment[:2] for segment in segments])
        share = share_left(scene, science) if segments else 0.0
        found = [_under(there, science, segment, share) for there, segment in zip(scenes, segments, strict=True)]
    return np.array(found, np.float32).reshape(-1, len(STATIC))


def _under(
    scene: Scene, science: NDArray[np.float32], segment: Segment, share: float
) -> tuple[float, float, float, float]:
    here = stadium(scene.shape, segment, _LIGHT_FWHM * scene.fwhm_px)
    shape, light = trail_shape(scene, here, segment), _light(scene, science, here)
    seen = np.isfinite(light)
    if not seen.any() or shape[seen].sum() < _LEAST_SEEN * shape.sum():
        return UNKNOWN
    level = np.nanmedian(_light(scene, science, stadium(scene.shape, segment, _LEVEL_FWHM * scene.fwhm_px)))
    own = np.abs(scene.pixels[here.y, here.x] - scene.background)
    light, shape = ((light - level - _UNLIKE * own) / scene.noise.sigma)[seen], shape[seen]
    under = max(float((light * shape).sum()), 0.0)
    peak = max(float(light[shape >= _STATIC_CORE * shape.max()].max()), 0.0)
    left = share * under / math.sqrt(float(np.square(shape).sum()))
    return math.log1p(under / float(shape.sum())), math.log1p(peak), 0.0, math.log1p(left)


def _light(scene: Scene, science: NDArray[np.float32], area: Footprint) -> NDArray[np.float64]:
    """Return science minus difference; NaN where either is unusable."""
    light = science[area.y, area.x].astype(np.float64) - scene.pixels[area.y, area.x]
    return np.where(scene.usable[area.y, area.x] & np.isfinite(light), light, np.nan)
