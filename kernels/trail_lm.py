"""Least squares of a trail on a level background, compiled."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.bell import FAST
from kernels.footprint import Footprint, Segment
from kernels.trail_model import BLOCK, PARAMETERS, trail_gradient, trail_rows

_DAMPING = 1e-2
_MOST_DAMPING = 1e12
_ITERATIONS = 60


def vector(flux: float, segment: Segment, level: float) -> NDArray[np.float64]:
    """Give the six parameters of a fit."""
    return np.array([flux, segment.x, segment.y, segment.length, math.radians(segment.angle), level])


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
    rows = trail_rows(footprint.x - p[1], footprint.y - p[2], p[3], p[4], weights, sigmas)
    derivatives = np.empty((rows.shape[1], PARAMETERS))
    derivatives[:, 0], derivatives[:, 1:5], derivatives[:, 5] = rows[0], p[0] * rows[1:].T, 1.0
    return rows[0], derivatives


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
    data = _pixels(values, use, footprint)
    rows = np.empty((PARAMETERS + 2, data.shape[1]))
    normal, slope = np.empty((PARAMETERS, PARAMETERS)), np.empty(PARAMETERS)
    squares = _equations(data, p, weights, sigmas, rows, normal, slope)
    new_normal, new_slope = np.empty_like(normal), np.empty_like(slope)
    for _ in range(_ITERATIONS):
        step, solved = _damped_step(normal, slope, damping, free)
        trial = _inside(p + step, shape)
        new = np.inf
        if solved and _stride(p, trial) <= reach:
            new = _equations(data, trial, weights, sigmas, rows, new_normal, new_slope)
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
def _pixels(values: NDArray[np.float64], use: NDArray[np.float64], footprint: Footprint) -> NDArray[np.float64]:
    """Rows of x, y, value and weight of the pixels with a weight, in whole blocks."""
    count = np.count_nonzero(use)
    data = np.zeros((4, -(-count // BLOCK) * BLOCK))
    place = 0
    for i in range(use.shape[0]):
        if use[i] != 0.0:
            data[0, place], data[1, place] = footprint.x[i], footprint.y[i]
            data[2, place], data[3, place] = values[i], use[i]
            place += 1
    for i in range(count, data.shape[1]):  # what fills up the last block has no weight
        data[0, i], data[1, i] = data[0, count - 1], data[1, count - 1]
    return data


@njit(cache=True, nogil=True)
def _equations(
    data: NDArray[np.float64],
    p: NDArray[np.float64],
    weights: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    rows: NDArray[np.float64],
    normal: NDArray[np.float64],
    slope: NDArray[np.float64],
) -> float:
    """Fill in J'WJ (its lower triangle) and J'Wr; give r'Wr.

    ``data`` is that of `_pixels`; ``rows`` is room for J', r and W of the pixels that the trail shines on.
    """
    dx, dy = data[0] - p[1], data[1] - p[2]
    lit, dark = 0, np.zeros(3)  # of the pixels without light: W, Wr, r'Wr
    for first in range(0, data.shape[1], BLOCK):
        if trail_gradient(dx, dy, first, p[3], p[4], weights, sigmas, rows, lit):
            for i in range(BLOCK):
                rows[6, lit + i] = data[2, first + i] - p[0] * rows[0, lit + i] - p[5]
                rows[7, lit + i] = data[3, first + i]
            lit += BLOCK
        else:
            _add_dark(data, first, p[5], dark)
    for a in range(PARAMETERS):
        factor = p[0] if 0 < a < 5 else 1.0  # rows are those of unit flux
        slope[a] = factor * _dot(rows, a, 6, lit)
        for b in range(a + 1):
            normal[a, b] = factor * (p[0] if 0 < b < 5 else 1.0) * _dot(rows, a, b, lit)
    normal[5, 5] += dark[0]
    slope[5] += dark[1]
    return float(_dot(rows, 6, 6, lit) + dark[2])


_SUMS = FAST | {"fastmath": {"contract", "nsz", "reassoc"}}


@njit(**_SUMS)
def _dot(rows: NDArray[np.float64], a: int, b: int, count: int) -> float:
    """Weighted product of two of the rows."""
    total = 0.0
    for i in range(count):
        total += rows[a, i] * rows[b, i] * rows[7, i]
    return total


@njit(**_SUMS)
def _add_dark(data: NDArray[np.float64], first: int, level: float, dark: NDArray[np.float64]) -> None:
    weight = slope = squares = 0.0
    for i in range(first, first + BLOCK):
        residual, use = data[2, i] - level, data[3, i]
        weight += use
        slope += use * residual
        squares += use * residual * residual
    dark[0] += weight
    dark[1] += slope
    dark[2] += squares


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
