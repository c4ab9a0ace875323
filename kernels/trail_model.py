"""A line segment of light seen through a PSF."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.psf import GaussianMixture

_SQRT2 = math.sqrt(2.0)
_NORM = 1 / math.sqrt(2.0 * math.pi)
_FAR = 6.5  # sigma; a Gaussian is below 1e-9 of its peak there
_SHORT = 0.05  # length over sigma below which the difference of error functions is replaced by its series


def trail_image(
    shape: tuple[int, int], x: float, y: float, length: float, angle: float, psf: GaussianMixture
) -> NDArray[np.float64]:
    """Draw a trail of unit flux.

    Parameters
    ----------
    shape
        (ny, nx) of the image, px.
    x, y
        Centre of the trail, px; the centre of the first pixel is (0, 0).
    length, angle
        Length before convolution with the PSF, px, and angle from +x towards +y, deg. Length 0 is a point source,
        and the image is smooth there.
    psf
        Point-spread function with the response of a pixel included.

    Returns
    -------
    (ny, nx) float64
        Flux in each pixel; sums to 1 where all of it is inside.

    Notes
    -----
    Vereš et al. 2012 (PASP 124, 1197), eq. 3, for each Gaussian of the PSF: a difference of error functions along
    the trail, a Gaussian across.
    """
    out = np.empty(shape)
    _draw(out, x, y, length, math.radians(angle), psf.weights, psf.sigmas)
    return out


@njit(cache=True, nogil=True)
def _draw(
    out: NDArray[np.float64],
    x: float,
    y: float,
    length: float,
    theta: float,
    weights: NDArray[np.float64],
    sigmas: NDArray[np.float64],
) -> None:
    cosine, sine = math.cos(theta), math.sin(theta)
    gradient = np.empty(5)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            trail_gradient(column - x, row - y, length, cosine, sine, weights, sigmas, gradient)
            out[row, column] = gradient[0]


@njit(cache=True, nogil=True)
def trail_gradient(
    dx: float,
    dy: float,
    length: float,
    cosine: float,
    sine: float,
    weights: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Evaluate the unit-flux model at one pixel, with its derivatives (compiled, for use in compiled loops).

    Parameters
    ----------
    dx, dy
        Place of the pixel from the centre of the trail, px.
    length, cosine, sine
        Length of the trail, px; cosine and sine of its angle.
    weights, sigmas
        Of the PSF.
    out : (5,)
        Receives the value and its derivatives by x and y of the centre (per px), length (per px), angle (per radian).
    """
    along = dx * cosine + dy * sine
    across = dy * cosine - dx * sine
    value = d_along = d_across = d_length = 0.0
    for k in range(weights.shape[0]):
        sigma = sigmas[k]
        if abs(across) > _FAR * sigma or abs(along) - 0.5 * length > _FAR * sigma:
            continue
        if length < _SHORT * sigma:
            a, a_u, a_l = _short(along, length, sigma)
        else:
            a, a_u, a_l = _long(along, length, sigma)
        g = weights[k] * _gauss(across, sigma)
        value += a * g
        d_along += a_u * g
        d_across -= a * g * across / (sigma * sigma)
        d_length += a_l * g
    out[0] = value
    out[1] = d_across * sine - d_along * cosine
    out[2] = -d_along * sine - d_across * cosine
    out[3] = d_length
    out[4] = d_along * across - d_across * along


@njit(cache=True, nogil=True)
def _gauss(u: float, sigma: float) -> float:
    z = u / sigma
    return _NORM / sigma * math.exp(-0.5 * z * z)


@njit(cache=True, nogil=True)
def _long(u: float, length: float, sigma: float) -> tuple[float, float, float]:
    """Mean of a Gaussian over ``length`` about u, with its derivatives by u and by length."""
    ahead, behind = u + 0.5 * length, u - 0.5 * length
    mean = 0.5 * (math.erf(ahead / (_SQRT2 * sigma)) - math.erf(behind / (_SQRT2 * sigma))) / length
    left, right = _gauss(behind, sigma), _gauss(ahead, sigma)
    return mean, (right - left) / length, (0.5 * (left + right) - mean) / length


@njit(cache=True, nogil=True)
def _short(u: float, length: float, sigma: float) -> tuple[float, float, float]:
    """Give the same by the series in Hermite polynomials, to the fourth order in length over sigma."""
    z, t = u / sigma, length / sigma
    z2, t2 = z * z, t * t
    h2, h4 = z2 - 1, (z2 - 6) * z2 + 3
    h3, h5 = z * (z2 - 3), z * ((z2 - 10) * z2 + 15)
    g = _gauss(u, sigma)
    mean = g * (1 + t2 / 24 * h2 + t2 * t2 / 1920 * h4)
    slope = -g / sigma * (z + t2 / 24 * h3 + t2 * t2 / 1920 * h5)
    return mean, slope, g / sigma * (t / 12 * h2 + t2 * t / 480 * h4)
