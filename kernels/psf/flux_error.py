"""Error of fluxes that follows from what is not known of the PSF."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kernels.psf.gaussian_mixture import GaussianMixture, moffat_mixture

UNKNOWN_FLATNESS = 0.25
"""Standard error of 1 / beta where nothing tells the profile: it is 0 of a Gaussian, and 0.4 of broad wings."""

_GAUSSIAN = 100.0
_STEEPEST = 1.2


def psf_flux_error(
    fwhm_px: float, beta: float, fwhm_err: float, flatness_err: float, lengths: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the relative error of fitted fluxes that the errors of the PSF make.

    Parameters
    ----------
    fwhm_px, beta
        Of the Moffat profile that is fitted.
    fwhm_err, flatness_err
        Standard errors of its width, px, and of 1 / beta; 0: none.
    lengths : (n,)
        Of the trails, px; 0 for point sources.

    Returns
    -------
    (n,) float64
        Standard errors as shares of the flux.

    Notes
    -----
    A model m fitted to a source t under noise of one size finds <t, m> / <m, m> of its flux. Both are trails of sums of
    Gaussians, whose products have closed integrals. Each error counts as the greater change of flux of the two
    sources that are one standard error away; 1 / beta stays within 0.01 and 0.83.
    """
    model, flatness, along = moffat_mixture(fwhm_px, beta), 1 / beta, np.asarray(lengths, np.float64)
    norm = _overlap(model, model, along)

    def share(width: float, flat: float) -> NDArray[np.float64]:
        source = moffat_mixture(width, min(max(1 / max(flat, 1 / _GAUSSIAN), _STEEPEST), _GAUSSIAN))
        return _overlap(source, model, along) / norm - 1

    by_width = _spread(lambda step: share(max(fwhm_px + step * fwhm_err, 0.25 * fwhm_px), flatness), fwhm_err)
    by_profile = _spread(lambda step: share(fwhm_px, flatness + step * flatness_err), flatness_err)
    return np.asarray(np.hypot(by_width, by_profile) * np.ones_like(along), np.float64)


def _spread(share: Callable[[float], NDArray[np.float64]], error: float) -> NDArray[np.float64]:
    if not error > 0:
        return np.zeros(1)
    return np.maximum(np.abs(share(1.0)), np.abs(share(-1.0)))


def _overlap(one: GaussianMixture, other: GaussianMixture, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the integral of the product of two trails of unit flux and the same length, (n,) px^-2."""
    from scipy.special import erf  # here: stages are imported without scipy

    variance = np.square(one.sigmas)[:, None] + np.square(other.sigmas)
    sigma, weight = np.sqrt(variance).ravel(), np.outer(one.weights, other.weights).ravel()
    length = np.maximum(lengths, 1e-3)[:, None]
    ratio = length / (math.sqrt(2) * sigma)
    # Mean of a Gaussian of the difference of two places, each anywhere on the trail; it is 1 / (sqrt(2 pi) sigma) at 0.
    along = (length * erf(ratio) + sigma * math.sqrt(2 / math.pi) * np.expm1(-np.square(ratio))) / length**2
    point = 1 / (math.sqrt(2 * math.pi) * sigma)
    along = np.where(ratio < 1e-3, point, along)
    return np.asarray((along * point) @ weight, np.float64)
