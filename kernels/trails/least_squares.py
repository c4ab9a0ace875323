"""Least-squares fit of a trail on a constant background, compiled, and its errors in correlated noise."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.gaussian import FAST
from kernels.image.noise import Noise, own_variance
from kernels.psf.gaussian_mixture import ROUND
from kernels.trails.geometry import Footprint, Segment
from kernels.trails.trail_model import BLOCK, PARAMETERS, trail_gradient, trail_rows

_DAMPING = 1e-2
_MOST_DAMPING = 1e12
_ITERATIONS = 60
_SHORTEST = 0.01
"""Length below which a trail is a point, px: at 0 it has no angle, and rounding would decide where the fit goes."""
_MOST_TURN = 0.5
"""Maximum change of a trail's angle in a step, radians."""
_MOST_CUT = 0.75
"""Maximum reduction of a trail's length in a step, as a fraction."""


def vector(flux: float, segment: Segment, level: float) -> NDArray[np.float64]:
    """Return the six parameters of a fit."""
    return np.array([flux, segment.x, segment.y, segment.length, math.radians(segment.angle), level])


def jacobian(
    footprint: Footprint,
    p: NDArray[np.float64],
    weights: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    stretch: NDArray[np.float64] = ROUND,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the unit-flux trail, and the derivatives of the whole model with respect to its six parameters.

    Parameters
    ----------
    footprint
        n pixels.
    p : (6,)
        Flux, x, y, length, angle (radians), level.
    weights, sigmas, stretch
        Parameters of the PSF.

    Returns
    -------
    shape, derivatives : (n,), (n, 6)
    """
    rows = trail_rows(footprint.x - p[1], footprint.y - p[2], p[3], p[4], weights, sigmas, stretch)
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
    stretch: NDArray[np.float64],
    shape: tuple[int, int],
    reach: float,
    free: int,
    tolerance: float,
) -> tuple[NDArray[np.float64], float, bool]:
    """Fit a trail by the Levenberg-Marquardt method (Marquardt 1963, J. SIAM 11, 431).

    Parameters
    ----------
    values, use : (n,)
        Pixels of the footprint, and their weights.
    footprint
        Positions of these pixels.
    start : (6,)
        First estimate, see `jacobian`.
    weights, sigmas, stretch
        Parameters of the PSF.
    shape
        (ny, nx) of the image. Ends are kept inside, since the part beyond has no effect.
    reach
        Largest shift of an end of the trail in one step, px; there are false minima further away.
    free
        Number of fitted parameters: 6, or 5 to fix the level.
    tolerance
        Relative change of the sum of squares at convergence.

    Returns
    -------
    parameters, squares, converged
        (6,); the weighted sum of squared residuals; whether the fit converged.
    """
    p, damping = _inside(start, shape), _DAMPING
    data = _pixels(values, use, footprint)
    normal, slope = np.empty((PARAMETERS, PARAMETERS)), np.empty(PARAMETERS)
    new_normal, new_slope = np.empty((PARAMETERS, PARAMETERS)), np.empty(PARAMETERS)
    squares = _equations(data, p, weights, sigmas, stretch, normal, slope)
    for _ in range(_ITERATIONS):
        step, solved = _damped_step(normal, slope, damping, free)
        step[3], step[4] = max(step[3], -_MOST_CUT * p[3]), min(max(step[4], -_MOST_TURN), _MOST_TURN)
        trial = _inside(p + step, shape)
        new = np.inf
        if solved and _stride(p, trial) <= reach:
            new = _equations(data, trial, weights, sigmas, stretch, new_normal, new_slope)
        if new <= squares:
            done = squares - new <= tolerance * squares
            p, squares, damping = trial, new, max(damping / 8, 1e-9)
            normal, new_normal, slope, new_slope = new_normal, normal, new_slope, slope
            if done:
                return p, squares, True
        else:
            damping *= 6
            if damping > _MOST_DAMPING:
                return p, squares, True
    return p, squares, False


@njit(cache=True, nogil=True)
def _inside(p: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Make the length positive, and cut the trail at the border of the image, at constant surface brightness."""
    length, cosine, sine = max(abs(p[3]), _SHORTEST), math.cos(p[4]), math.sin(p[4])  # the model is even in length
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
    """Return an upper limit for the shift of the ends, px."""
    return math.hypot(q[1] - p[1], q[2] - p[2]) + 0.5 * (abs(q[3] - p[3]) + p[3] * abs(q[4] - p[4]))


@njit(cache=True, nogil=True)
def _pixels(values: NDArray[np.float64], use: NDArray[np.float64], footprint: Footprint) -> NDArray[np.float64]:
    """Return the pixels with a weight in blocks: rows of x, y, value and weight."""
    count = np.count_nonzero(use)
    data = np.zeros((-(-count // BLOCK), 4, BLOCK))
    place = 0
    for i in range(use.shape[0]):
        if use[i] != 0.0:
            block, k = data[place // BLOCK], place % BLOCK
            block[0, k], block[1, k], block[2, k], block[3, k] = footprint.x[i], footprint.y[i], values[i], use[i]
            place += 1
    for i in range(count, data.shape[0] * BLOCK):  # padding of the last block has no weight
        data[-1, 0, i % BLOCK], data[-1, 1, i % BLOCK] = data[-1, 0, 0], data[-1, 1, 0]
    return data


@njit(cache=True, nogil=True)
def _equations(
    data: NDArray[np.float64],
    p: NDArray[np.float64],
    weights: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    stretch: NDArray[np.float64],
    normal: NDArray[np.float64],
    slope: NDArray[np.float64],
) -> float:
    """Fill in J'WJ (its lower triangle) and J'Wr; return r'Wr. ``data`` comes from `_pixels`."""
    normal[:] = 0.0
    slope[:] = 0.0
    rows, squares = np.empty((PARAMETERS + 1, BLOCK)), 0.0
    for block in data:
        if trail_gradient(block[0], block[1], p[1], p[2], p[3], p[4], weights, sigmas, stretch, rows):
            squares += _add_lit(rows, block[2], block[3], p[0], p[5], normal, slope)
        else:
            squares += _add_dark(block[2], block[3], p[5], normal, slope)
    for a in range(1, 5):  # for unit flux so far
        slope[a] *= p[0]
        for b in range(PARAMETERS):
            normal[a, b] *= p[0]
            normal[b, a] *= p[0]
    return squares


_SUMS = FAST | {"fastmath": {"contract", "nsz", "reassoc"}}


@njit(**_SUMS)
def _add_lit(
    rows: NDArray[np.float64],
    values: NDArray[np.float64],
    use: NDArray[np.float64],
    flux: float,
    level: float,
    normal: NDArray[np.float64],
    slope: NDArray[np.float64],
) -> float:
    """Add a block of pixels to the equations; ``rows`` is a buffer for the residuals."""
    squares = 0.0
    for i in range(BLOCK):
        residual = values[i] - flux * rows[0, i] - level
        rows[PARAMETERS, i] = use[i] * residual
        squares += use[i] * residual * residual
    for a in range(PARAMETERS):
        total = 0.0
        for i in range(BLOCK):
            total += rows[a, i] * rows[PARAMETERS, i]
        slope[a] += total
        for b in range(a + 1):
            total = 0.0
            for i in range(BLOCK):
                total += rows[a, i] * rows[b, i] * use[i]
            normal[a, b] += total
    return squares


@njit(**_SUMS)
def _add_dark(
    values: NDArray[np.float64],
    use: NDArray[np.float64],
    level: float,
    normal: NDArray[np.float64],
    slope: NDArray[np.float64],
) -> float:
    """Add a block without light of the trail to the equations."""
    weight = total = squares = 0.0
    for i in range(BLOCK):
        residual = values[i] - level
        weight += use[i]
        total += use[i] * residual
        squares += use[i] * residual * residual
    normal[5, 5] += weight
    slope[5] += total
    return squares


@njit(cache=True, nogil=True)
def _damped_step(
    normal: NDArray[np.float64], slope: NDArray[np.float64], damping: float, free: int
) -> tuple[NDArray[np.float64], bool]:
    """Solve (N + damping diag N) step = slope by Cholesky decomposition; only the lower triangle of N is read."""
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


def fit_covariance(
    jacobian: NDArray[np.float64],
    weights: NDArray[np.float64],
    model: NDArray[np.float64],
    footprint: Footprint,
    noise: Noise,
    added: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Return the covariance of the parameters of a least-squares fit.

    Parameters
    ----------
    jacobian : (n, p)
        Derivatives of the model, for each pixel of the footprint and each parameter.
    weights : (n,)
        Weights of the fit: 1, or 0 for pixels left out.
    model : (n,)
        Source without background, pixel units.
    footprint, noise
        Positions of the pixels, and their noise.
    added : (n,)
        Variance above that of the sky in a variance plane, which includes the Poisson variance of the source.

    Returns
    -------
    (p, p)
        ``N^-1 (J' W V W J) N^-1`` with ``N = J' W J``; NaN if N is singular.

    Notes
    -----
    The fit gives pixels equal weights, as if the noise were white. The estimator gives its error in the actual noise,
    V (Huber 1967; White 1980, Econometrica 48, 817). The Poisson noise of the source is treated as white: resampling
    smears it without changing its sum over a few pixels, on which a flux depends.
    """
    weighted = jacobian * weights[:, None]
    scale = np.sqrt(np.sum(np.square(weighted), axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = weighted / scale  # parameters differ by many powers of ten
    if not np.isfinite(unit).all():
        return np.full((jacobian.shape[1],) * 2, np.nan)
    correlated = noise.sigma**2 * _between(unit, footprint, np.ascontiguousarray(noise.correlation, float))
    poisson = (unit * own_variance(model, noise, added)[:, None]).T @ unit
    values, vectors = np.linalg.eigh(unit.T @ unit)
    if not values[0] > 1e-12 * values[-1]:
        return np.full(correlated.shape, np.nan)
    bread = (vectors / values) @ vectors.T
    covariance = bread @ (correlated + poisson) @ bread
    return (covariance + covariance.T) / 2 / np.outer(scale, scale)


@njit(cache=True, nogil=True)
def _between(unit: NDArray[np.float64], footprint: Footprint, correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum over pairs of pixels of J_i rho(i - j) J_j."""
    count, width = unit.shape
    reach_y, reach_x = correlation.shape[0] // 2, correlation.shape[1] // 2
    flat, nearby = unit.ravel(), np.zeros(count * width)
    for dy in range(-reach_y, reach_y + 1):
        for dx in range(-reach_x, reach_x + 1):
            rho = correlation[dy + reach_y, dx + reach_x]
            if rho != 0.0:
                _add_displaced(flat, rho, dy, dx, width, footprint, nearby)
    out = np.zeros((width, width))
    for i in range(count):
        for a in range(width):
            for b in range(width):
                out[a, b] += unit[i, a] * nearby[i * width + b]
    return out


@njit(cache=True, nogil=True)
def _add_displaced(
    values: NDArray[np.float64],
    factor: float,
    dy: int,
    dx: int,
    width: int,
    footprint: Footprint,
    out: NDArray[np.float64],
) -> None:
    """Add to each pixel of a footprint ``factor`` times the ``width`` values of the pixel (dx, dy) away, if listed.

    A row of pixels and the displaced row are slices of the list, so they are added as a whole.
    """
    left, first = footprint.left, footprint.first
    for row in range(max(0, -dy), left.shape[0] - max(0, dy)):
        other = row + dy
        low = max(left[row], left[other] - dx)
        high = min(left[row] + first[row + 1] - first[row], left[other] + first[other + 1] - first[other] - dx)
        here, there = first[row] + low - left[row], first[other] + low + dx - left[other]
        size = max(high - low, 0) * width
        mine, theirs = out[here * width :][:size], values[there * width :][:size]
        for k in range(size):
            mine[k] += factor * theirs[k]
