"""Where the fit of a trail starts, and which pixels it is not to believe."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.footprint import Segment, grow
from kernels.sandwich import variance
from kernels.scene import Scene, View, trail_shape
from kernels.trail_lm import jacobian, vector

_OUTLIER = 5.0  # sigma
_MISFIT = 0.5  # of the model: a wrong PSF or profile makes no outliers
_MOST_CLIPPED = 0.4  # share of the weight: more is no neighbour but the source itself


def capped(seen: View, sigma: float) -> View:
    """Cut off what is brighter than a long trail: stars. A trail fills more than a twentieth of its surroundings."""
    middle, high = np.quantile(seen.values[seen.use > 0], [0.5, 0.95])
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
    values = seen.values[seen.use > 0]
    if not values.size:
        return 0.0
    for _ in range(3):
        deviation = np.abs(values - np.median(values))
        values = values[deviation <= 2.5 * 1.4826 * np.median(deviation)]
    return float(np.median(values))


def without_outliers(scene: Scene, seen: View, parameters: NDArray[np.float64]) -> View:
    """Leave out the pixels with something else in them than the trail, and their neighbours.

    Parameters
    ----------
    scene, seen
        Image, and the pixels to be fitted.
    parameters : (6,)
        Trail as fitted so far.
    """
    shape, _ = jacobian(seen.footprint, parameters, scene.psf.weights, scene.psf.sigmas)
    model, excess = parameters[0] * shape, seen.values - parameters[5]
    threshold = _OUTLIER * np.sqrt(variance(model, scene.noise))
    # A pixel below the model says that the model is wrong there; one far below nothing, that something else is.
    above, below = excess - model > np.maximum(threshold, _MISFIT * model), excess < -threshold
    above &= ~_straight_ahead(seen, parameters, scene.fwhm_px)
    marked = grow((seen.use > 0) & (above | below), seen.footprint, math.ceil(scene.fwhm_px / 2))
    weight = np.square(shape) * seen.use
    if weight[marked].sum() > _MOST_CLIPPED * weight.sum():
        return seen
    return seen._replace(use=seen.use * ~marked)


def _straight_ahead(seen: View, parameters: NDArray[np.float64], fwhm_px: float) -> NDArray[np.bool_]:
    """Pixels beyond the ends of a trail: they may be more of it, and are not to be put aside."""
    _, x, y, length, theta, _ = parameters.tolist()
    dx, dy = seen.footprint.x - x, seen.footprint.y - y
    along, across = dx * math.cos(theta) + dy * math.sin(theta), dy * math.cos(theta) - dx * math.sin(theta)
    return (np.abs(along) > length / 2 - fwhm_px) & (np.abs(across) < fwhm_px)
