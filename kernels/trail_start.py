"""Where the fit of a trail starts, and which pixels it is not to believe."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.footprint import Segment, grow
from kernels.order_statistic import median, quantile
from kernels.scene import Scene, View, trail_shape
from kernels.trail_lm import vector
from kernels.trail_model import trail_rows

_OUTLIER = 5.0  # sigma
_MISFIT = 0.5  # of the model: a wrong PSF or profile makes no outliers
_MOST_CLIPPED = 0.4  # share of the weight: more is no neighbour but the source itself


def capped(seen: View, sigma: float) -> View:
    """Cut off what is brighter than a long trail: stars. A trail fills more than a twentieth of its surroundings."""
    known = seen.values[seen.use > 0]
    middle, high = median(known), quantile(known, 0.95)
    return seen._replace(values=np.minimum(seen.values, middle + max(_OUTLIER * sigma, 1.5 * (high - middle))))


def starts(scene: Scene, seen: View, first: Segment) -> list[NDArray[np.float64]]:
    """Give first estimates of the six parameters.

    Parameters
    ----------
    scene, seen
        Image, and the pixels to be fitted.
    first
        First estimate of the trail. Shorter than two FWHM, it may point anywhere: three directions are given.
    """
    turns = (0.0, 60.0, 120.0) if first.length < 2 * scene.fwhm_px else (0.0,)
    length, level = max(first.length, scene.fwhm_px), robust_level(seen)
    out = []
    for turn in turns:
        segment = first._replace(length=length, angle=first.angle + turn)
        shape = trail_shape(scene, seen.footprint, segment) * seen.use
        flux = float(shape @ (seen.values - level)) / max(float(shape @ shape), 1e-30)
        # From a negative flux the fit would walk away from the trail.
        out.append(vector(max(flux, 5 * scene.noise.sigma * scene.fwhm_px), segment, level))
    return out


def robust_level(seen: View) -> float:
    """Give the median without what is above or below it by 2.5 sigma; 0 where no pixel is usable."""
    return float(_clipped_median(seen.values, seen.use))


@njit(cache=True, nogil=True)
def _clipped_median(values: NDArray[np.float64], use: NDArray[np.float64]) -> float:
    kept, count = np.empty(values.shape[0]), 0
    for i in range(values.shape[0]):
        if use[i] > 0:
            kept[count] = values[i]
            count += 1
    if not count:
        return 0.0
    deviation = np.empty(count)
    for _ in range(3):
        middle = median(kept[:count])
        for i in range(count):
            deviation[i] = abs(kept[i] - middle)
        limit, before, count = 2.5 * 1.4826 * median(deviation[:count]), count, 0
        for i in range(before):
            if deviation[i] <= limit:
                kept[count] = kept[i]
                count += 1
    return median(kept[:count])


def without_outliers(scene: Scene, seen: View, parameters: NDArray[np.float64]) -> View:
    """Leave out the pixels with something else in them than the trail, and their neighbours.

    Parameters
    ----------
    scene, seen
        Image, and the pixels to be fitted.
    parameters : (6,)
        Trail as fitted so far.
    """
    p = parameters
    shape = trail_rows(seen.footprint.x - p[1], seen.footprint.y - p[2], p[3], p[4], *scene.psf)[0]
    marked = _outliers(seen, p, shape, scene.noise.sigma**2, scene.noise.gain, scene.fwhm_px)
    weight = np.square(shape) * seen.use
    if weight[marked].sum() > _MOST_CLIPPED * weight.sum():
        return seen
    return seen._replace(use=seen.use * ~marked)


@njit(cache=True, nogil=True)
def _outliers(
    seen: View, p: NDArray[np.float64], shape: NDArray[np.float64], noise: float, gain: float, fwhm_px: float
) -> NDArray[np.bool_]:
    """Mark outliers and their neighbours; ``noise`` is the variance of the sky."""
    marked, cosine, sine = np.zeros(shape.shape[0], np.bool_), math.cos(p[4]), math.sin(p[4])
    for i in range(shape.shape[0]):
        dx, dy = seen.footprint.x[i] - p[1], seen.footprint.y[i] - p[2]
        along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
        # What lies straight ahead of its ends may be more of the trail.
        ahead = abs(along) > p[3] / 2 - fwhm_px and abs(across) < fwhm_px
        model, excess = p[0] * shape[i], seen.values[i] - p[5]
        threshold = _OUTLIER * math.sqrt(noise + max(model, 0.0) / gain)
        # A pixel below the model says that the model is wrong there; one far below nothing, that something else is.
        above = excess - model > max(threshold, _MISFIT * model) and not ahead
        marked[i] = seen.use[i] > 0 and (above or excess < -threshold)
    return grow(marked, seen.footprint, math.ceil(fwhm_px / 2))
