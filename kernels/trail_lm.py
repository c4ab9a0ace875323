"""Least squares of a trail on a level background, compiled."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.footprint import Footprint, Segment
from kernels.trail_model import trail_gradient

PARAMETERS = 6
"""Flux, x, y, length, angle in radians, level."""

_DAMPING = 1e-2
_MOST_DAMPING = 1e12
_ITERATIONS = 60


def vector(flux: float, segment: Segment, level: float) -> NDArray[np.float64]:
    """Give the six parameters of a fit."""
    return np.array([flux, segment.x, segment.y, segment.length, math.radians(segment.angle), level])


@njit(cache=True, nogil=True)
def jacobian(
    footprint: Footprint, p: NDArray[np.float64], weights: NDArray[np.float64], sigmas: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Evaluate the unit-flux trail, and the derivatives of the whole model by its six parameters.

    Parameters
    ----------
    footprint
        n pixels.
    p : (6,)
        Flux, x, y, length, angle (radians), level.
    weights, sigmas
        Of the PSF.

    Returns
    -------
    shape, derivatives : (n,), (n, 6)
    """
    count = footprint.y.shape[0]
    shape, derivatives = np.empty(count), np.empty((count, PARAMETERS))
    cosine, sine, g = math.cos(p[4]), math.sin(p[4]), np.empty(5)
    for i in range(count):
        trail_gradient(footprint.x[i] - p[1], footprint.y[i] - p[2], p[3], cosine, sine, weights, sigmas, g)
        shape[i] = g[0]
        derivatives[i, 0] = g[0]
        for k in range(1, 5):
            derivatives[i, k] = p[0] * g[k]
        derivatives[i, 5] = 1.0
    return shape, derivatives


@njit(cache=True, nogil=True)
def minimise(
    values: NDArray[np.float64],
    use: NDArray[np.float64],
    footprint: Footprint,
    start: NDArray[np.float64],
    weights: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    shape: tuple[int, int],
    reach: float,
    free: int,
    tolerance: float,
) -> tuple[NDArray[np.float64], float, bool]:
    """Fit by Levenberg's and Marquardt's method (Marquardt 1963, J. SIAM 11, 431).

    Parameters
    ----------
    values, use : (n,)
        Pixels of the footprint, and their weights.
    footprint
        Which pixels they are.
    start : (6,)
        First estimate, see `jacobian`.
    weights, sigmas
        Of the PSF.
    shape
        (ny, nx) of the image. Ends are kept inside: what lies beyond has no say.
    reach
        Furthest that one step may carry an end of the trail, px: further off lie false minima.
    free
        How many of the parameters are fitted: 6, or 5 to hold the level.
    tolerance
        Relative change of the sum of squares at which it has converged.

    Returns
    -------
    parameters, squares, converged
        (6,); the weighted sum of squared residuals; whether it stopped by itself.
    """
    p, damping = _inside(start, shape), _DAMPING
    normal, slope = np.empty((PARAMETERS, PARAMETERS)), np.empty(PARAMETERS)
    squares = _equations(values, use, footprint, p, weights, sigmas, normal, slope)
    new_normal, new_slope = np.empty_like(normal), np.empty_like(slope)
    for _ in range(_ITERATIONS):
        step, solved = _damped_step(normal, slope, damping, free)
        trial = _inside(p + step, shape)
        new = np.inf
        if solved and _stride(p, trial) <= reach:
            new = _equations(values, use, footprint, trial, weights, sigmas, new_normal, new_slope)
        if new <= squares:
            done = squares - new <= tolerance * squares
            p, squares, damping = trial, new, max(damping / 8, 1e-9)
            normal[:], slope[:] = new_normal, new_slope
            if done:
                return p, squares, True
        else:
            damping *= 6
            if damping > _MOST_DAMPING:
                return p, squares, True
    return p, squares, False


@njit(cache=True, nogil=True)
def _inside(p: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Make the length positive, and cut a trail off at the border of the image, at constant surface brightness."""
    length, cosine, sine = abs(p[3]), math.cos(p[4]), math.sin(p[4])  # the model is even in length
    low, high = -0.5 * length, 0.5 * length
    if abs(cosine) > 1e-12:
        left, right = (-0.5 - p[1]) / cosine, (shape[1] - 0.5 - p[1]) / cosine
        low, high = max(low, min(left, right)), min(high, max(left, right))
    if abs(sine) > 1e-12:
        left, right = (-0.5 - p[2]) / sine, (shape[0] - 0.5 - p[2]) / sine
        low, high = max(low, min(left, right)), min(high, max(left, right))
    out = p.copy()
    out[3] = length
    if low < high < length + low:
        middle = 0.5 * (low + high)
        out[0] *= (high - low) / length
        out[1] += middle * cosine
        out[2] += middle * sine
        out[3] = high - low
    return out


@njit(cache=True, nogil=True)
def _stride(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Bound on how far the ends are carried, px."""
    return math.hypot(q[1] - p[1], q[2] - p[2]) + 0.5 * (abs(q[3] - p[3]) + p[3] * abs(q[4] - p[4]))


@njit(cache=True, nogil=True)
def _equations(
    values: NDArray[np.float64],
    use: NDArray[np.float64],
    footprint: Footprint,
    p: NDArray[np.float64],
    weights: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    normal: NDArray[np.float64],
    slope: NDArray[np.float64],
) -> float:
    """Fill in J'WJ and J'Wr; give r'Wr."""
    normal[:] = 0.0
    slope[:] = 0.0
    squares = 0.0
    cosine, sine = math.cos(p[4]), math.sin(p[4])
    g, d = np.empty(5), np.empty(PARAMETERS)
    for i in range(values.shape[0]):
        if use[i] == 0.0:
            continue
        trail_gradient(footprint.x[i] - p[1], footprint.y[i] - p[2], p[3], cosine, sine, weights, sigmas, g)
        residual = values[i] - p[0] * g[0] - p[5]
        squares += use[i] * residual * residual
        d[0], d[5] = g[0], 1.0
        for k in range(1, 5):
            d[k] = p[0] * g[k]
        for a in range(PARAMETERS):
            slope[a] += use[i] * residual * d[a]
            for b in range(a + 1):
                normal[a, b] += use[i] * d[a] * d[b]
    return squares


@njit(cache=True, nogil=True)
def _damped_step(
    normal: NDArray[np.float64], slope: NDArray[np.float64], damping: float, free: int
) -> tuple[NDArray[np.float64], bool]:
    """Solve (N + damping diag N) step = slope by Cholesky's decomposition; N's lower triangle is read."""
    scale, low, step = np.ones(PARAMETERS), np.zeros((PARAMETERS, PARAMETERS)), np.zeros(PARAMETERS)
    for a in range(free):
        scale[a] = math.sqrt(normal[a, a]) if normal[a, a] > 0 else 1.0
    for a in range(free):
        for b in range(a + 1):
            value = normal[a, b] / (scale[a] * scale[b])
            if a == b:
                value = 1.0 + damping
            for k in range(b):
                value -= low[a, k] * low[b, k]
            if a != b:
                low[a, b] = value / low[b, b]
            elif value > 0:
                low[a, a] = math.sqrt(value)
            else:
                return step, False
    for a in range(free):
        value = slope[a] / scale[a]
        for k in range(a):
            value -= low[a, k] * step[k]
        step[a] = value / low[a, a]
    for a in range(free - 1, -1, -1):
        value = step[a]
        for k in range(a + 1, free):
            value -= low[k, a] * step[k]
        step[a] = value / low[a, a]
    return step / scale, True
