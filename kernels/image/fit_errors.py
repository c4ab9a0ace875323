"""Honest errors of a least-squares fit in correlated noise."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.trails.geometry import Footprint, place


class Noise(NamedTuple):
    """What is known of the noise of an image.

    Attributes
    ----------
    sigma
        Standard deviation of a pixel, pixel units.
    correlation : (2L + 1, 2L + 1)
        Its autocorrelation at lags -L..L in y and x; 1 at the centre.
    gain
        Electrons per pixel unit; infinite if not known: the source then adds no noise of its own.
    """

    sigma: float
    correlation: NDArray[np.float64]
    gain: float = np.inf


def variance(model: NDArray[np.float64], noise: Noise) -> NDArray[np.float64]:
    """Variance of each pixel under a source: the noise's own and the Poisson noise of ``model`` (pixel units)."""
    return noise.sigma**2 + np.maximum(model, 0.0) / noise.gain


def fit_covariance(
    jacobian: NDArray[np.float64],
    weights: NDArray[np.float64],
    model: NDArray[np.float64],
    footprint: Footprint,
    noise: Noise,
) -> NDArray[np.float64]:
    """Return the covariance of the parameters of a least-squares fit.

    Parameters
    ----------
    jacobian : (n, p)
        Derivatives of the model, by pixel of the footprint and parameter.
    weights : (n,)
        Weights of the fit: 1, or 0 for pixels left out.
    model : (n,)
        Source without background, pixel units.
    footprint, noise
        Which pixels they are, and what noise they have.

    Returns
    -------
    (p, p)
        ``N^-1 (J' W V W J) N^-1`` with ``N = J' W J``; NaN where N is singular.

    Notes
    -----
    The fit weighs pixels alike, as if the noise were white; the estimator says how far off it is in the noise as it
    is, V (Huber 1967; White 1980, Econometrica 48, 817). The Poisson noise of the source counts as white: resampling
    smears it without changing its sum over a few pixels, which is what a flux feels.
    """
    weighted = jacobian * weights[:, None]
    scale = np.sqrt(np.sum(np.square(weighted), axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = weighted / scale  # parameters differ by many powers of ten
    if not np.isfinite(unit).all():
        return np.full((jacobian.shape[1],) * 2, np.nan)
    correlated = noise.sigma**2 * _between(unit, footprint, np.ascontiguousarray(noise.correlation, float))
    poisson = (unit * (np.maximum(model, 0.0) / noise.gain)[:, None]).T @ unit
    values, vectors = np.linalg.eigh(unit.T @ unit)
    if not values[0] > 1e-12 * values[-1]:
        return np.full(correlated.shape, np.nan)
    bread = (vectors / values) @ vectors.T
    covariance = bread @ (correlated + poisson) @ bread
    return (covariance + covariance.T) / 2 / np.outer(scale, scale)


@njit(cache=True, nogil=True)
def _between(unit: NDArray[np.float64], footprint: Footprint, correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over pairs of pixels of J_i rho(i - j) J_j."""
    count, width = unit.shape
    reach_y, reach_x = correlation.shape[0] // 2, correlation.shape[1] // 2
    out = np.zeros((width, width))
    nearby = np.empty(width)
    for i in range(count):
        nearby[:] = 0.0
        for dy in range(-reach_y, reach_y + 1):
            for dx in range(-reach_x, reach_x + 1):
                rho = correlation[dy + reach_y, dx + reach_x]
                if rho == 0.0:
                    continue
                row, column = footprint.y[i] + dy, footprint.x[i] + dx
                j = place(row, column, footprint.row0, footprint.left, footprint.first)
                if j >= 0:
                    for k in range(width):
                        nearby[k] += rho * unit[j, k]
        for a in range(width):
            for b in range(width):
                out[a, b] += unit[i, a] * nearby[b]
    return out
