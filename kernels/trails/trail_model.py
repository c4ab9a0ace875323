"""Model of a trail: a line segment of light convolved with the PSF."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.gaussian import FAST, FURTHEST, error_function, gaussian
from kernels.psf.gaussian_mixture import ROUND, GaussianMixture

PARAMETERS = 6
"""Number of parameters of a trail on a level: flux, x, y, length, angle in radians, level."""

BLOCK = 32
"""Number of pixels evaluated at once."""

_SQRT2 = math.sqrt(2.0)
_NORM = 1 / math.sqrt(2.0 * math.pi)
_FAR = 6.5  # sigma; a Gaussian is below 1e-9 of its peak there
_SHORT = 0.05  # length over sigma below which the difference of error functions is replaced by its series


def trail_image(
    shape: tuple[int, int], x: float, y: float, length: float, angle: float, psf: GaussianMixture
) -> NDArray[np.float64]:
    """Return the image of a unit-flux trail.

    Parameters
    ----------
    shape
        (ny, nx) of the image, px.
    x, y
        Centre of the trail, px; the centre of the first pixel is (0, 0).
    length, angle
        Length before convolution with the PSF, px, and angle from +x towards +y, deg. Length 0 is a point source;
        the image depends smoothly on the length there.
    psf
        Point-spread function with the response of a pixel included.

    Returns
    -------
    (ny, nx) float64
        Flux in each pixel; sums to 1 if the whole trail is inside.

    Notes
    -----
    Vereš et al. 2012 (PASP 124, 1197), eq. 3, for each Gaussian of the PSF: a difference of error functions along
    the trail, a Gaussian across.
    """
    rows, columns = np.divmod(np.arange(shape[0] * shape[1]), max(shape[1], 1))
    return trail_rows(columns - x, rows - y, length, math.radians(angle), *psf)[0].reshape(shape)


def trail_rows(
    dx: NDArray[np.floating],
    dy: NDArray[np.floating],
    length: float,
    theta: float,
    weights: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    stretch: NDArray[np.float64] = ROUND,
) -> NDArray[np.float64]:
    """Return the unit-flux model in any number of pixels, with its derivatives.

    Parameters
    ----------
    dx, dy : (n,)
        Positions of the pixels relative to the centre of the trail, px.
    length, theta
        Length of the trail, px; its angle, radians.
    weights, sigmas, stretch
        Parameters of the PSF.

    Returns
    -------
    (5, n)
        Value, and its derivatives by x and y of the centre (per px), length (per px), angle (per radian).
    """
    out = np.zeros((5, len(dx)))
    _fill(dx, dy, float(length), theta, weights, sigmas, stretch, out)
    return out


@njit(cache=True, nogil=True)
def _fill(
    dx: NDArray[np.float64],
    dy: NDArray[np.float64],
    length: float,
    theta: float,
    weights: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    stretch: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    count, block = dx.shape[0], np.empty((PARAMETERS, BLOCK))
    x, y = np.zeros(BLOCK), np.zeros(BLOCK)
    for first in range(0, count, BLOCK):
        inside = min(BLOCK, count - first)
        for i in range(inside):
            x[i], y[i] = dx[first + i], dy[first + i]
        if trail_gradient(x, y, 0.0, 0.0, length, theta, weights, sigmas, stretch, block):
            for k in range(5):
                for i in range(inside):
                    out[k, first + i] = block[k, i]


@njit(**FAST)
def trail_gradient(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x0: float,
    y0: float,
    length: float,
    theta: float,
    weights: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    stretch: NDArray[np.float64],
    out: NDArray[np.float64],
) -> bool:
    """Evaluate the unit-flux model in a block of pixels, with its derivatives (compiled).

    Parameters
    ----------
    x, y : (BLOCK,)
        Pixels, px.
    x0, y0, length, theta
        Centre and length of the trail, px; its angle, radians.
    weights, sigmas, stretch
        Parameters of the PSF.
    out : (6, BLOCK)
        Receives the value, its derivatives by x and y of the centre (per px), length (per px) and angle (per radian),
        to 1e-12 of their largest, and 1, the derivative by a level.

    Returns
    -------
    bool
        False if no light falls on the block; ``out`` then has no meaning.

    Notes
    -----
    A line stays a line when the image is stretched to make the PSF circular, so the model is evaluated there.
    """
    a, b, c = stretch[0], stretch[1], stretch[2]
    cosine, sine, area = math.cos(theta), math.sin(theta), a * c - b * b
    along_x, along_y = a * cosine + b * sine, b * cosine + c * sine
    turned_x, turned_y = b * cosine - a * sine, c * cosine - b * sine
    scale = math.hypot(along_x, along_y)
    cosine, sine, long = along_x / scale, along_y / scale, scale * length
    half = 0.5 * long
    nearest, closest, furthest = np.inf, np.inf, 0.0
    for i in range(BLOCK):
        dx, dy = a * (x[i] - x0) + b * (y[i] - y0), b * (x[i] - x0) + c * (y[i] - y0)
        u, v = dx * cosine + dy * sine, dy * cosine - dx * sine
        out[4, i], out[5, i] = u, v
        nearest, closest, furthest = min(nearest, abs(v)), min(closest, abs(u)), max(furthest, abs(u))
    if nearest > _FAR * sigmas[-1] or closest - half > _FAR * sigmas[-1]:
        return False
    for k in range(4):
        for i in range(BLOCK):
            out[k, i] = 0.0
    for k in range(weights.shape[0]):
        if nearest > _FAR * sigmas[k] or closest - half > _FAR * sigmas[k]:
            continue
        if long < _SHORT * sigmas[k]:
            _add_short(out, long, area * weights[k], sigmas[k])
        elif half - furthest > FURTHEST * _SQRT2 * sigmas[k]:
            _add_middle(out, long, area * weights[k], sigmas[k])
        else:
            _add_long(out, long, area * weights[k], sigmas[k])
    turn, growth = area / (scale * scale), length * (along_x * turned_x + along_y * turned_y) / scale
    for i in range(BLOCK):
        d_along, d_across, u, v = out[1, i], out[2, i], out[4, i], out[5, i]
        by_x, by_y = d_across * sine - d_along * cosine, -d_along * sine - d_across * cosine
        out[1, i] = a * by_x + b * by_y
        out[2, i] = b * by_x + c * by_y
        out[4, i] = turn * (d_along * v - d_across * u) + growth * out[3, i]
        out[3, i] *= scale
        out[5, i] = 1.0
    return True


@njit(**FAST)
def _add_long(out: NDArray[np.float64], length: float, weight: float, sigma: float) -> None:
    """Add one Gaussian of the PSF: its mean over the length; derivatives along, across, by length."""
    half, far, scale = 0.5 * length, _FAR * sigma, 1 / (_SQRT2 * sigma)
    norm, per_length, per_variance = _NORM / sigma, 1 / length, 1 / (sigma * sigma)
    for i in range(BLOCK):
        u, v = out[4, i], out[5, i]
        ahead, behind = (u + half) * scale, (u - half) * scale
        x, y = min(abs(ahead), FURTHEST), min(abs(behind), FURTHEST)
        right, left = gaussian(x), gaussian(y)
        upper, lower = error_function(x, right), error_function(y, left)
        mean = 0.5 * per_length * ((upper if ahead >= 0 else -upper) - (lower if behind >= 0 else -lower))
        near = (abs(v) <= far) & (abs(u) - half <= far)
        g = weight * norm * gaussian(min(abs(v) * scale, FURTHEST)) if near else 0.0
        out[0, i] += mean * g
        out[1, i] += norm * (right - left) * per_length * g
        out[2, i] -= mean * g * v * per_variance
        out[3, i] += (0.5 * norm * (left + right) - mean) * per_length * g


@njit(**FAST)
def _add_middle(out: NDArray[np.float64], length: float, weight: float, sigma: float) -> None:
    """Add one Gaussian of the PSF far from both ends of the trail."""
    far, scale, per_length = _FAR * sigma, 1 / (_SQRT2 * sigma), 1 / length
    norm, per_variance = _NORM / sigma, 1 / (sigma * sigma)
    for i in range(BLOCK):
        v = out[5, i]
        value = per_length * weight * norm * gaussian(min(abs(v) * scale, FURTHEST)) if abs(v) <= far else 0.0
        out[0, i] += value
        out[2, i] -= value * v * per_variance
        out[3, i] -= value * per_length


@njit(**FAST)
def _add_short(out: NDArray[np.float64], length: float, weight: float, sigma: float) -> None:
    """Add one Gaussian of the PSF by a series in Hermite polynomials, to the fourth order in length over sigma."""
    far, scale, norm = _FAR * sigma, 1 / (_SQRT2 * sigma), _NORM / sigma
    t, per_sigma, per_variance = length / sigma, 1 / sigma, 1 / (sigma * sigma)
    t2 = t * t
    for i in range(BLOCK):
        u, v = out[4, i], out[5, i]
        z = u * per_sigma
        z2 = z * z
        h2, h4 = z2 - 1, (z2 - 6) * z2 + 3
        h3, h5 = z * (z2 - 3), z * ((z2 - 10) * z2 + 15)
        near = (abs(v) <= far) & (abs(u) - 0.5 * length <= far)
        g = weight * norm * gaussian(min(abs(v) * scale, FURTHEST)) if near else 0.0
        g *= norm * gaussian(min(abs(u) * scale, FURTHEST))
        mean = g * (1 + t2 / 24 * h2 + t2 * t2 / 1920 * h4)
        out[0, i] += mean
        out[1, i] -= g * per_sigma * (z + t2 / 24 * h3 + t2 * t2 / 1920 * h5)
        out[2, i] -= mean * v * per_variance
        out[3, i] += g * per_sigma * (t / 12 * h2 + t2 * t / 480 * h4)
