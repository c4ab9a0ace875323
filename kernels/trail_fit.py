"""Fit of a trail with its PSF to an image, with errors that hold in correlated noise."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.footprint import Footprint, Segment, grow, stadium
from kernels.psf import GaussianMixture
from kernels.sandwich import Noise, sandwich, variance
from kernels.trail_lm import PARAMETERS, jacobian, minimise

RADIUS_FWHM = 3.5
"""Pixels within so many FWHM of the trail are fitted."""

_PASSES = 5
_LONG_FWHM = 8.0  # longer trails may run over stars, and need to be steadied against them at the start
_BLUR = 0.8  # FWHM; a model blurred at first is drawn in from further off
_OUTLIER = 5.0  # sigma
_MISFIT = 0.5  # of the model: a wrong PSF or profile makes no outliers
_MOST_CLIPPED = 0.4  # share of the weight: more is no neighbour but the source itself
_WANDER = 8.0  # see the notes of `fit_trail`
_STILL = 0.3  # px; ends that move less have arrived


@dataclass(frozen=True)
class TrailFit:
    """Result of `fit_trail`.

    Attributes
    ----------
    flux
        Pixel units.
    segment
        Centre (px), length (px, before the PSF), angle (deg, modulo 180).
    level
        Local background beside the trail, pixel units.
    covariance : (5, 5)
        Of (flux, x, y, length, angle in deg); NaN if the fit failed.
    level_err
        Standard error of ``level``.
    chi2, ndata
        Of the fit, and its number of pixels.
    converged
        Whether the fit did; if not, ``segment`` is the first estimate.
    footprint, use : n pixels, (n,)
        Pixels fitted, and their weights, 0 or 1.
    """

    flux: float
    segment: Segment
    level: float
    covariance: NDArray[np.float64]
    level_err: float
    chi2: float
    ndata: int
    converged: bool
    footprint: Footprint
    use: NDArray[np.float64]

    @property
    def errors(self) -> NDArray[np.float64]:
        """Standard errors of (flux, x, y, length, angle)."""
        return np.sqrt(np.diag(self.covariance))


def fit_trail(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    start: Segment,
    psf: GaussianMixture,
    fwhm_px: float,
    noise: Noise,
) -> TrailFit:
    """Fit flux, centre, length and angle of a trail, and the level it lies on.

    Parameters
    ----------
    image, usable : (ny, nx)
        Difference image, pixel units, and which of its pixels are fitted.
    start
        First estimate. Its length may be 0.
    psf, fwhm_px
        Point-spread function with the pixel's response, and its FWHM, px.
    noise
        Of the image.

    Returns
    -------
    TrailFit

    Notes
    -----
    Model: Vereš et al. 2012 (PASP 124, 1197). Pixels weigh alike; the errors are those of `kernels.sandwich`. Pixels
    beyond 5 sigma and beyond half the model itself (stars on and beside the trail) are left out with their
    neighbours, and the fit is repeated until its ends rest. What leaves the image is cut off at its border.
    The model depends on the square q of a short length, so the error given is sqrt(length^2 + err(q)) - length: the
    usual one for a resolved trail, an upper limit for a point. Errors of the angle end at 90 degrees. The ends of a
    faint trail wander from one peak of the noise to the next, which no linear error sees: the errors of the length and
    of the centre along the trail are raised by sqrt(1 + 8 / s^2), s the S/N of one FWHM of the trail; 8 is measured on
    simulated trails (``benchmarks/pulls.py``).
    """
    radius = max(RADIUS_FWHM * fwhm_px, 6.0)
    segment, converged = start, False
    parameters: NDArray[np.float64] | None = None
    for turn in range(_PASSES):
        steady = turn == 0 and start.length > _LONG_FWHM * fwhm_px
        blur = _BLUR if turn == 0 and start.length > 2 * fwhm_px else 0.0
        footprint = stadium(_shape(image), segment, radius + (0.03 * start.length if steady else 0.0))
        values, use = _pixels(image, usable, footprint)
        if use.sum() < 12:
            return _failed(values, use, footprint, start, psf, noise)
        if parameters is not None:
            use = use * ~_outliers(values, use, footprint, parameters, psf, fwhm_px, noise)
            starts, free = [parameters], PARAMETERS
        else:
            values = np.minimum(values, _cap(values, use, noise.sigma)) if steady else values
            starts, free = _starts(values, use, footprint, start, psf, fwhm_px, noise), PARAMETERS - 1
        sigmas = np.hypot(psf.sigmas, blur * fwhm_px)
        fits = [minimise(values, use, footprint, p, psf.weights, sigmas, 2 * fwhm_px, free) for p in starts]
        parameters, _, converged = min(fits, key=lambda fit: fit[1])
        if not np.isfinite(parameters).all():
            return _failed(values, use, footprint, start, psf, noise)
        parameters = _inside(parameters, image.shape)
        before, segment = segment, _segment(parameters)
        if turn and _moved(before, segment) < _STILL:
            break
    if parameters is None or not converged:
        return _failed(values, use, footprint, start, psf, noise)
    return _result(values, use, footprint, parameters, psf, fwhm_px, noise)


def _shape(image: NDArray[np.float32]) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _pixels(
    image: NDArray[np.float32], usable: NDArray[np.bool_], footprint: Footprint
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    use = usable[footprint.y, footprint.x].astype(float)
    return np.where(use > 0, image[footprint.y, footprint.x], 0.0).astype(float), use


def _segment(parameters: NDArray[np.float64]) -> Segment:
    _, x, y, length, theta, _ = parameters.tolist()
    return Segment(x, y, abs(length), math.degrees(theta) % 180)


def _moved(one: Segment, other: Segment) -> float:
    """Largest displacement of an end point, px; segments have no direction."""
    a, b = np.reshape(one.ends(), (2, 2)), np.reshape(other.ends(), (2, 2))
    return float(min(np.hypot(*(a - b).T).max(), np.hypot(*(a - b[::-1]).T).max()))


def _cap(values: NDArray[np.float64], use: NDArray[np.float64], sigma: float) -> float:
    """Level above which pixels are stars rather than a long trail: a trail fills over a twentieth of its band."""
    middle, high = np.quantile(values[use > 0], [0.5, 0.95])
    return float(middle + max(_OUTLIER * sigma, 1.5 * (high - middle)))


def _starts(
    values: NDArray[np.float64],
    use: NDArray[np.float64],
    footprint: Footprint,
    start: Segment,
    psf: GaussianMixture,
    fwhm_px: float,
    noise: Noise,
) -> list[NDArray[np.float64]]:
    """First estimates of the six parameters. What is short may point anywhere."""
    turns = (0.0, 60.0, 120.0) if start.length < 2 * fwhm_px else (0.0,)
    inside = values[use > 0]
    for _ in range(3):
        level, spread = np.median(inside), 1.4826 * np.median(np.abs(inside - np.median(inside)))
        inside = inside[np.abs(inside - level) <= 2.5 * spread]
    length = max(start.length, fwhm_px)
    starts = []
    for turn in turns:
        p = np.array([1.0, start.x, start.y, length, math.radians(start.angle + turn), level])
        shape, _ = jacobian(footprint, p, psf.weights, psf.sigmas)
        flux = np.sum(use * shape * (values - level)) / np.sum(use * np.square(shape))
        p[0] = max(flux, 5 * noise.sigma * fwhm_px)  # from a negative one the fit would walk away from the trail
        starts.append(p)
    return starts


def _linear(
    values: NDArray[np.float64], use: NDArray[np.float64], footprint: Footprint, segment: Segment, psf: GaussianMixture
) -> NDArray[np.float64]:
    """All six parameters, with the best flux and level for a given segment."""
    p = np.array([1.0, segment.x, segment.y, segment.length, math.radians(segment.angle), 0.0])
    shape, _ = jacobian(footprint, p, psf.weights, psf.sigmas)
    design = np.stack([shape, np.ones_like(shape)], axis=1) * use[:, None]
    p[[0, 5]] = np.linalg.lstsq(design, values * use, rcond=None)[0]
    return p


def _outliers(
    values: NDArray[np.float64],
    use: NDArray[np.float64],
    footprint: Footprint,
    parameters: NDArray[np.float64],
    psf: GaussianMixture,
    fwhm_px: float,
    noise: Noise,
) -> NDArray[np.bool_]:
    """Pixels with something else in them."""
    shape, _ = jacobian(footprint, parameters, psf.weights, psf.sigmas)
    model = parameters[0] * shape
    excess = values - parameters[5]
    threshold = _OUTLIER * np.sqrt(variance(model, noise))
    # A pixel below the model says that the model is wrong there; one far below nothing, that something else is.
    above, below = excess - model > np.maximum(threshold, _MISFIT * model), excess < -threshold
    marked = (use > 0) & (above | below)
    marked = grow(marked, footprint, math.ceil(fwhm_px / 2))
    weight = np.square(shape) * use
    return marked & (weight[marked].sum() <= _MOST_CLIPPED * weight.sum())


def _inside(parameters: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Cut a trail off at the border of the image, at constant surface brightness."""
    flux, x, y, length, theta, level = parameters.tolist()
    low, high = -0.5 * length, 0.5 * length
    for slope, origin, size in ((math.cos(theta), x, shape[1]), (math.sin(theta), y, shape[0])):
        if abs(slope) > 1e-12:
            a, b = sorted(((-0.5 - origin) / slope, (size - 0.5 - origin) / slope))
            low, high = max(low, a), min(high, b)
    if low >= high or (low, high) == (-0.5 * length, 0.5 * length):
        return parameters
    middle, share = 0.5 * (low + high), (high - low) / length
    return np.array(
        [flux * share, x + middle * math.cos(theta), y + middle * math.sin(theta), high - low, theta, level]
    )


def _result(
    values: NDArray[np.float64],
    use: NDArray[np.float64],
    footprint: Footprint,
    parameters: NDArray[np.float64],
    psf: GaussianMixture,
    fwhm_px: float,
    noise: Noise,
) -> TrailFit:
    shape, _ = jacobian(footprint, parameters, psf.weights, psf.sigmas)
    model = parameters[0] * shape
    # At length 0 the derivatives by length and angle vanish: they are taken where the trail begins to show.
    resolved = parameters.copy()
    resolved[3] = max(parameters[3], float(psf.weights @ psf.sigmas) / 2)
    _, derivatives = jacobian(footprint, resolved, psf.weights, psf.sigmas)
    covariance = sandwich(derivatives, use, model, footprint, noise)
    stretch = _honest(covariance, parameters, resolved[3], fwhm_px)
    squares = use * np.square(values - model - parameters[5]) / variance(model, noise)
    return TrailFit(
        flux=float(parameters[0]),
        segment=_segment(parameters),
        level=float(parameters[5]),
        covariance=stretch @ covariance[:5, :5] @ stretch.T,
        level_err=float(np.sqrt(covariance[5, 5])),
        chi2=float(squares.sum()),
        ndata=int(use.sum()),
        converged=bool(np.isfinite(covariance).all()),
        footprint=footprint,
        use=use,
    )


def _honest(
    covariance: NDArray[np.float64], parameters: NDArray[np.float64], resolved: float, fwhm_px: float
) -> NDArray[np.float64]:
    """Matrix that turns the linear errors into those of `fit_trail`'s notes, and radians into degrees."""
    flux, _, _, length, theta, _ = parameters.tolist()
    errors = np.sqrt(np.diag(covariance))
    length_err = math.sqrt(length**2 + 2 * resolved * errors[3]) - length
    angle_err = min(math.degrees(errors[4]) * (resolved / max(length, 1e-3)) ** 2, 90.0)
    snr = max(flux / errors[0], 0.1) * math.sqrt(fwhm_px / max(length, fwhm_px))
    wander = math.sqrt(1 + _WANDER / snr**2) if length > fwhm_px else 1.0
    stretch = np.diag([1.0, 1.0, 1.0, wander * length_err / errors[3], angle_err / errors[4]])
    along = np.array([math.cos(theta), math.sin(theta)])
    stretch[1:3, 1:3] += (wander - 1) * np.outer(along, along)
    return stretch


def _failed(
    values: NDArray[np.float64],
    use: NDArray[np.float64],
    footprint: Footprint,
    start: Segment,
    psf: GaussianMixture,
    noise: Noise,
) -> TrailFit:
    """Keep the first estimate, with the best flux for it."""
    nan = np.full((5, 5), np.nan)
    p = _linear(values, use, footprint, start, psf)
    return TrailFit(float(p[0]), start, float(p[5]), nan, math.nan, math.nan, int(use.sum()), False, footprint, use)
