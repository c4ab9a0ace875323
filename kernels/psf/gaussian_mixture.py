"""Point-spread functions as sums of Gaussians."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RADIUS = 8
"""Half side of the matched filter, px."""

_COMPONENTS = 5
_PIXEL_VARIANCE = 1 / 12  # of a unit square, along each axis


def _frozen(values: NDArray[np.float64]) -> NDArray[np.float64]:
    values.setflags(write=False)
    return values


ROUND = _frozen(np.array([1.0, 0.0, 1.0]))
"""Stretch without effect."""


class GaussianMixture(NamedTuple):
    """Sum of concentric Gaussians, all circular once the image is stretched.

    Attributes
    ----------
    weights : (K,)
        Share of the flux in each; positive, they sum to 1.
    sigmas : (K,)
        Standard deviations, px, increasing.
    stretch : (3,)
        a, b, c of the matrix ((a, b), (b, c)) that takes (dx, dy) from the centre to where the circular profile has
        that brightness, but for the factor of the matrix's determinant.
    """

    weights: NDArray[np.float64]
    sigmas: NDArray[np.float64]
    stretch: NDArray[np.float64] = ROUND


@lru_cache(maxsize=1024)
def moffat_mixture(fwhm_px: float, beta: float) -> GaussianMixture:
    """Approximate a circular Moffat profile, seen through square pixels, by Gaussians.

    Parameters
    ----------
    fwhm_px
        Full width at half maximum of the profile before the pixels, px.
    beta
        Slope of its wings, > 1 (Moffat 1969, A&A 3, 455).

    Returns
    -------
    GaussianMixture
        Five read-only components. Without the pixels they follow the profile to 0.5 % of its peak. The response of
        a pixel is the Gaussian of the same variance: 1/12 px^2 is added to each sigma^2.

    Raises
    ------
    ValueError
        ``fwhm_px`` is not positive, or ``beta`` not above 1.

    Notes
    -----
    A Moffat profile is exactly a Gamma-weighted continuum of Gaussians: (1 + u)^-b = E[exp(-u t)], t ~ Gamma(b).
    Five of them, fitted by least squares, suffice (multi-Gaussian expansion: Cappellari 2002, MNRAS 333, 400).
    """
    if not fwhm_px > 0 or not beta > 1:
        raise ValueError(f"a Moffat profile needs FWHM > 0 and beta > 1, got {fwhm_px} and {beta}")
    weights, sigmas = _unit_mixture(beta)
    return GaussianMixture(weights, _frozen(np.sqrt(np.square(sigmas * fwhm_px) + _PIXEL_VARIANCE)))


@lru_cache(maxsize=256)
def _unit_mixture(beta: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights and sigmas for FWHM 1."""
    from scipy.optimize import least_squares

    alpha = 0.5 / np.sqrt(2 ** (1 / beta) - 1)
    radius = np.concatenate([np.linspace(0, 2, 81), np.geomspace(2.05, 12, 60)])
    profile = (1 + np.square(radius / alpha)) ** -beta
    peak = (beta - 1) / (np.pi * alpha**2)  # for a total flux of 1

    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        weights, sigmas = _unpack(parameters)
        model = np.exp(-0.5 * np.square(radius[:, None] / sigmas)) @ (weights / (2 * np.pi * np.square(sigmas)))
        # Tempered, so that the wings, where a trail's neighbours lie, count too.
        return (model / peak - profile) / (profile + 0.02) ** 0.5

    spread = np.array([0.55, 0.8, 1.15, 1.9, 4.0]) ** min(1.0, 4 / beta)
    start = np.concatenate([np.log(0.42 * spread), np.log([0.2, 0.4, 0.25, 0.1, 0.05])])
    weights, sigmas = _unpack(least_squares(residuals, start, max_nfev=200).x)
    order = np.argsort(sigmas)
    return _frozen(weights[order]), _frozen(sigmas[order])


def _unpack(parameters: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weights = np.exp(parameters[_COMPONENTS:] - parameters[_COMPONENTS:].max())
    return weights / weights.sum(), np.exp(parameters[:_COMPONENTS])


def brightness(psf: GaussianMixture, squared: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the profile at squared distances from its centre, px2, up to a constant factor."""
    variances = np.square(psf.sigmas)
    return np.exp(-0.5 * squared[..., None] / variances) @ (psf.weights / variances)


def seen_variance(fwhm_px: float) -> float:
    """Return variance, px^2, along an axis of a Gaussian PSF of ``fwhm_px`` px that is seen through square pixels."""
    return (fwhm_px / math.sqrt(8 * math.log(2))) ** 2 + _PIXEL_VARIANCE


def fwhm_before_pixels(fwhm_px: float, beta: float) -> float:
    """Return the FWHM of a Moffat profile of slope ``beta`` before square pixels blurred it to ``fwhm_px``, px.

    Headers state the width seen in the image, which has the pixels in it; `moffat_mixture` puts them in itself.

    Notes
    -----
    A pixel's variance is 1/12 px^2, and adds 8 ln 2 / 12 to the square of a Gaussian's FWHM. The sharper core of a
    Moffat profile loses more: (1 + 1.75 / beta) times that, from a fit to GalSim's profiles of beta 2.5 to 20 and FWHM
    1.4 to 5 px, 2 % accurate. Never less than half of the width seen.
    """
    return float(np.sqrt(max(fwhm_px**2 - _added(beta), (fwhm_px / 2) ** 2)))


def fwhm_with_pixels(fwhm_px: float, beta: float) -> float:
    """Return the FWHM, px, to which square pixels blur a Moffat profile: `fwhm_before_pixels` undoes it."""
    return float(np.sqrt(min(fwhm_px**2 + _added(beta), (2 * fwhm_px) ** 2)))


def _added(beta: float) -> float:
    return float(8 * np.log(2) / 12 * (1 + 1.75 / beta))


def filter_taps(fwhm_px: float) -> NDArray[np.float32]:
    """Return a Gaussian as wide as a PSF of ``fwhm_px`` px seen through the pixels, (2 RADIUS + 1,), sum 1."""
    taps = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * seen_variance(fwhm_px)))
    return (taps / taps.sum()).astype(np.float32)
