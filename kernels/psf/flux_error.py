"""Errors of fluxes and lengths that follow from what is not known of the PSF."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kernels.psf.gaussian_mixture import GaussianMixture, moffat_mixture

UNKNOWN_FLATNESS = 0.25
"""Standard error of 1 / beta if the profile is not known: it is 0 for a Gaussian, and 0.4 for broad wings."""

_LENGTHS, _STEP = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0]), 0.01  # FWHM
_PER_SIGMA = 2.3548  # FWHM of a Gaussian
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


def psf_length_error(fwhm_px: float, fwhm_err: float, lengths: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the error of fitted lengths that an error of the width of the PSF makes.

    Parameters
    ----------
    fwhm_px, fwhm_err
        Width of the PSF and its standard error, px; 0: none.
    lengths : (n,)
        Of the trails, px.

    Returns
    -------
    (n,) float64
        Standard errors, px.

    Notes
    -----
    Under noise of one size the fit to a trail t ends at the length whose model m has the greatest <t, m>^2 / <m, m>. It
    counts by how much the lengths of the two sources that are one standard error away differ most; a point that is
    wider than the PSF becomes a trail. All are Gaussians here: wings hardly matter. Between lengths of a grid the error
    is interpolated; from five widths on it is that of five, where the ends of a trail do not see each other.
    """
    if not fwhm_err > 0:
        return np.zeros(len(lengths))
    model, grid = _gaussian(fwhm_px), fwhm_px * _LENGTHS
    tried = np.arange(0.0, _LENGTHS[-1] * fwhm_px + 4 * (fwhm_px + fwhm_err), _STEP * fwhm_px)
    norm = _overlap(model, model, tried)
    moved = np.zeros(len(grid))
    for width in (fwhm_px + fwhm_err, max(fwhm_px - fwhm_err, 0.25 * fwhm_px)):
        source = _gaussian(width)
        fitted = [tried[np.argmax(_overlap(source, model, tried, one) ** 2 / norm)] for one in grid]
        moved = np.maximum(moved, np.abs(np.array(fitted) - grid))
    return np.asarray(np.interp(lengths, grid, moved), np.float64)


def _gaussian(fwhm_px: float) -> GaussianMixture:
    return GaussianMixture(np.ones(1), np.array([fwhm_px / _PER_SIGMA]))


def _spread(share: Callable[[float], NDArray[np.float64]], error: float) -> NDArray[np.float64]:
    if not error > 0:
        return np.zeros(1)
    return np.maximum(np.abs(share(1.0)), np.abs(share(-1.0)))


def _overlap(
    one: GaussianMixture, other: GaussianMixture, lengths: NDArray[np.float64], length: float | None = None
) -> NDArray[np.float64]:
    """Return the integral of the product of two trails of unit flux, (n,) px^-2.

    That of ``other`` has one of ``lengths``, that of ``one`` has ``length``, or the same if it is None.
    """
    from scipy.special import erf  # here: stages are imported without scipy

    variance = np.square(one.sigmas)[:, None] + np.square(other.sigmas)
    sigma, weight = np.sqrt(variance).ravel(), np.outer(one.weights, other.weights).ravel()
    second = np.maximum(lengths, 1e-3 * sigma.min())[:, None]
    first = second if length is None else np.maximum(length, 1e-3 * sigma.min())

    def twice_integrated(u: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = u / (math.sqrt(2) * sigma)
        return np.asarray(u * erf(ratio) + sigma * math.sqrt(2 / math.pi) * np.expm1(-np.square(ratio)))

    # Mean of a Gaussian of the difference of two places, each anywhere on its trail; it is 1 / (sqrt(2 pi) sigma) at 0.
    inner, outer = (first - second) / 2, (first + second) / 2
    along = (twice_integrated(outer) - twice_integrated(inner)) / (first * second)
    point = 1 / (math.sqrt(2 * math.pi) * sigma)
    return np.asarray((along * point) @ weight, np.float64)
