"""What a fitted trail leaves over."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.scene import Scene
from kernels.trail_fit import TrailFit
from kernels.trail_model import trail_rows
from schemas.reliability import RESIDUALS

_WIDER = (1.25, 2.5)  # times the PSF: of light that a mismatched width leaves, and of a halo
_CAP = 20.0
_NEAR_FWHM = 1.0  # from the axis


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
        As listed in `schemas.reliability.RESIDUALS`; zeros if nothing was seen.
    """
    footprint, use = fit.seen.footprint, fit.seen.use > 0
    if not use.any():
        return np.zeros(len(RESIDUALS), np.float32)
    x, y = footprint.x[use], footprint.y[use]
    segment, per_noise = fit.segment, 1 / scene.noise.sigma
    theta = math.radians(segment.angle)
    dx, dy = x - segment.x, y - segment.y
    shapes = [
        trail_rows(dx, dy, segment.length, theta, scene.psf.weights, scene.psf.sigmas * wider)[0]
        for wider in (1.0, *_WIDER)
    ]
    model = np.abs(flux) * per_noise * shapes[0]
    left = (fit.seen.values[use] - fit.level) * per_noise - math.copysign(1.0, flux) * model
    along = dx * math.cos(theta) + dy * math.sin(theta)
    across = np.abs(dy * math.cos(theta) - dx * math.sin(theta))
    beyond = np.hypot(np.maximum(np.abs(along) - segment.length / 2, 0), across)
    near = beyond <= _NEAR_FWHM * scene.fwhm_px
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
    """Weighted mean, never quite 0; 1 without weight."""
    total = float(weight.sum())
    return max(float((values * weight).sum()) / total, 1e-3) if total > 0 else 1.0


def _amplitude(left: NDArray[np.float64], pattern: NDArray[np.float64]) -> float:
    """How many standard deviations of white noise a pattern has in the residual."""
    size = float(np.sqrt(np.sum(np.square(pattern))))
    return float((left * pattern).sum()) / size if size > 0 else 0.0


def _without(pattern: NDArray[np.float64], model: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take out of a pattern what a change of the trail's flux explains."""
    size = float(np.sum(np.square(model)))
    return pattern - model * (float((pattern * model).sum()) / size) if size > 0 else pattern


def _contrast(left: NDArray[np.float64], model: NDArray[np.float64], part: NDArray[np.bool_]) -> float:
    """Difference of brightness between a part of the trail and the rest, in standard deviations of white noise."""
    weights = [float(np.sum(np.square(model[side]))) for side in (part, ~part)]
    if min(weights) <= 0:
        return 0.0
    parts = [float((left * model)[side].sum()) / weight for side, weight in zip((part, ~part), weights, strict=True)]
    return (parts[0] - parts[1]) / math.sqrt(1 / weights[0] + 1 / weights[1])
