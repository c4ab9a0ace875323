"""Fit of a PSF-convolved trail to an image, with errors for correlated noise."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.noise import variance
from kernels.image.order_statistic import median, quantile
from kernels.trails.geometry import Segment, grow
from kernels.trails.hidden_ends import as_seen, hidden_covariance
from kernels.trails.least_squares import fit_covariance, jacobian, minimise, vector
from kernels.trails.scene import Scene, View, trail_shape, view
from kernels.trails.trail_model import PARAMETERS, trail_rows
from schemas.pixels import WHOLE_PIXELS, is_large

_OUTLIER = 5.0  # sigma
_MISFIT = 0.5  # share of the model: a wrong PSF or profile makes no outliers
_MOST_CLIPPED = 0.4  # share of the weight: more is not a neighbour but the source itself


def capped(seen: View, sigma: float) -> View:
    """Return pixels capped above a long trail to limit stars; a trail fills over a twentieth of its surroundings."""
    known = seen.values[seen.use > 0]
    middle, high = median(known), quantile(known, 0.95)
    return seen._replace(values=np.minimum(seen.values, middle + max(_OUTLIER * sigma, 1.5 * (high - middle))))


def starts(scene: Scene, seen: View, first: Segment) -> list[NDArray[np.float64]]:
    """Return first estimates of the six parameters.

    Parameters
    ----------
    scene, seen
        Image, and the pixels to be fitted.
    first
        First estimate of the trail. If it is shorter than two FWHM, its direction is uncertain, and three are returned.
    """
    turns = (0.0, 60.0, 120.0) if first.length < 2 * scene.fwhm_px else (0.0,)
    length, level = max(first.length, scene.fwhm_px), robust_level(seen)
    above, out = seen.values - level, []
    for turn in turns:
        segment = first._replace(length=length, angle=first.angle + turn)
        shape = trail_shape(scene, seen.footprint, segment) * seen.use
        flux = float(shape @ above) / max(float(shape @ shape), 1e-30)
        # From a negative flux the fit would diverge from the trail.
        out.append(vector(max(flux, 5 * scene.noise.sigma * scene.fwhm_px), segment, level))
    return out


def robust_level(seen: View) -> float:
    """Return the median without values more than 2.5 sigma away; 0 if no pixel is usable."""
    return float(_clipped_median(seen.values, seen.use))


@njit(cache=True, nogil=True)
def _clipped_median(values: NDArray[np.float64], use: NDArray[np.float64]) -> float:
    kept, count = np.empty(values.shape[0]), 0
    for i in range(values.shape[0]):
        if use[i] > 0:
            kept[count] = values[i]
            count += 1
    if not count:
        return 0.0
    deviation = np.empty(count)
    for _ in range(3):
        middle = median(kept[:count])
        for i in range(count):
            deviation[i] = abs(kept[i] - middle)
        limit, before, count = 2.5 * 1.4826 * median(deviation[:count]), count, 0
        for i in range(before):
            if deviation[i] <= limit:
                kept[count] = kept[i]
                count += 1
    return median(kept[:count])


def without_outliers(scene: Scene, seen: View, parameters: NDArray[np.float64]) -> View:
    """Leave out the pixels that hold light other than the trail's, and their neighbours.

    Parameters
    ----------
    scene, seen
        Image, and the pixels to be fitted.
    parameters : (6,)
        Trail as fitted so far.
    """
    p = parameters
    shape = trail_rows(seen.footprint.x - p[1], seen.footprint.y - p[2], p[3], p[4], *scene.psf)[0]
    marked = _outliers(seen, p, shape, scene.noise.sigma**2, scene.noise.gain, scene.fwhm_px)
    weight = np.square(shape) * seen.use
    if weight[marked].sum() > _MOST_CLIPPED * weight.sum():
        return seen
    return seen._replace(use=seen.use * ~marked)


@njit(cache=True, nogil=True)
def _outliers(
    seen: View, p: NDArray[np.float64], shape: NDArray[np.float64], noise: float, gain: float, fwhm_px: float
) -> NDArray[np.bool_]:
    """Mark outliers and their neighbours; ``noise`` is the variance of the sky."""
    marked, cosine, sine = np.zeros(shape.shape[0], np.bool_), math.cos(p[4]), math.sin(p[4])
    for i in range(shape.shape[0]):
        dx, dy = seen.footprint.x[i] - p[1], seen.footprint.y[i] - p[2]
        along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
        # Light straight ahead of its ends may be more of the trail.
        ahead = abs(along) > p[3] / 2 - fwhm_px and abs(across) < fwhm_px
        model, excess = p[0] * shape[i], seen.values[i] - p[5]
        threshold = _OUTLIER * math.sqrt(noise + max(max(model, 0.0) / gain, seen.added[i]))
        # A pixel below the model means that the model is wrong there; a very negative pixel is an outlier.
        above = excess - model > max(threshold, _MISFIT * model) and not ahead
        marked[i] = seen.use[i] > 0 and (above or excess < -threshold)
    return grow(marked, seen.footprint, math.ceil(fwhm_px / 2))


_RADIUS_FWHM = 3.5  # distance from the trail of the fitted pixels
_LEAST_PIXELS = 12
_PASSES = 10
_TOLERANCE, _FIRST_TOLERANCE = 1e-6, 1e-3  # relative change of chi squared
_STILL = 0.3  # px; ends that move less have converged
_STRAY_FWHM = 3.0  # a fit further than this from the first estimate is another trail
_LONG_FWHM = 8.0  # longer trails may cross stars, which must not disturb the start of the fit
_BLUR_FWHM = 0.8  # a blurred model converges from further away
_PER_SIGMA = 2.3548  # FWHM of a Gaussian
_FREE_DIRECTION = 0.6  # a point's length is the largest over all directions: 2.4 errors of q once in 20 times, not 2
_WANDER = 8.0  # see the notes of `fit_trail`


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
        Covariance of (flux, x, y, length, angle in deg); NaN if the fit failed.
    level_err
        Standard error of ``level``; NaN if the fit failed.
    chi2, ndata
        Chi squared of the fit, and its number of pixels.
    converged
        Whether the fit converged; if not, ``segment`` is the first estimate.
    seen, shape : (n,)
        Pixels fitted, and the unit-flux trail in them.
    """

    flux: float
    segment: Segment
    level: float
    covariance: NDArray[np.float64]
    level_err: float
    chi2: float
    ndata: int
    converged: bool
    seen: View
    shape: NDArray[np.float64]

    @property
    def errors(self) -> NDArray[np.float64]:
        """Return the standard errors of (flux, x, y, length, angle)."""
        return np.sqrt(np.diag(self.covariance))


def fit_trail(scene: Scene, start: Segment) -> TrailFit:
    """Fit flux, centre, length and angle of a trail, and its background level.

    Parameters
    ----------
    scene
        Image with its PSF and noise.
    start
        First estimate. Its length may be 0.

    Returns
    -------
    TrailFit

    Notes
    -----
    The model is that of Vereš et al. 2012 (PASP 124, 1197). Pixels have equal weights; `kernels.trails.least_squares`
    gives the errors. Pixels that deviate by more than 5 sigma and by more than half the model (stars on and beside the
    trail) are left out with their neighbours, and the fit is repeated until its ends no longer move. A trail that
    leaves the image ends at the border. A fit that strays from the first estimate has failed.

    The model depends on the square q of a short length. The error of the length is therefore the greater of
    sqrt(q + err(q)) - length and half of length - sqrt(q - 2 err(q)), which is the usual error for a resolved trail.
    For a point, whose direction is free, the factor 2 rises to at most 2.6, so that its length lies within two errors
    of 0 in 19 of 20 cases. A line adds a twelfth of its length squared to the variance along it, so an error e of the
    PSF's ellipticity gives an error of 12 sigma^2 e in q. Errors of the angle are at most 90 degrees.

    If unusable pixels hide an end and leave the length open, the trail is cut off there. If they may hide it, the
    errors of centre and length include that (`kernels.trails.hidden_ends`). The ends of a faint trail may move from one
    noise peak to the next, which a linear error does not include. So the errors of the length, and of the centre along
    the trail, are multiplied by sqrt(1 + 8 / s^2), with s the S/N of one FWHM of the trail; 8 was measured on simulated
    trails (``benchmarks/measurement/pulls.py``).
    """
    seen = view(scene, start, _radius(scene))
    if seen.use.sum() < _LEAST_PIXELS:
        return unfitted(scene, start)
    parameters = _first_fit(scene, start)
    ahead = 0.0  # px beyond its ends that are searched for more of the trail
    for turn in range(_PASSES):
        before = _segment(parameters)
        seen = view(scene, before._replace(length=before.length + 2 * ahead), _radius(scene))
        if seen.use.sum() < _LEAST_PIXELS:
            break
        seen = without_outliers(scene, seen, parameters)
        parameters, converged = _best(scene, seen, [parameters], PARAMETERS)
        after = _segment(parameters)
        growing = after.length > before.length + _radius(scene) / 2
        # After many passes, accept ends that oscillate a little as outliers change.
        still = _STILL if turn < _PASSES - 3 else scene.fwhm_px
        if converged and not growing and not ahead and _moved(before, after) < still:
            if after.distance(start.x, start.y) > max(_STRAY_FWHM * scene.fwhm_px, 6.0):
                break
            return _as_seen(scene, seen, parameters)
        ahead = max(2 * ahead, 2 * _radius(scene)) if growing else 0.0
    return unfitted(scene, start)


def _radius(scene: Scene) -> float:
    return max(_RADIUS_FWHM * scene.fwhm_px, 6.0)


def _first_fit(scene: Scene, start: Segment) -> NDArray[np.float64]:
    """Return the parameters of a first fit from a rough estimate, at a fixed level."""
    long, short = start.length > _LONG_FWHM * scene.fwhm_px, start.length < 2 * scene.fwhm_px
    seen = view(scene, start, _radius(scene) + (_aside(scene, start.length) if long else 0.0))
    if long:
        seen = capped(seen, scene.noise.sigma)
    return _best(scene, seen, starts(scene, seen, start), PARAMETERS - 1, 0.0 if short else _BLUR_FWHM)[0]


def _aside(scene: Scene, length: float) -> float:
    """Return the distance from a rough estimate within which a long trail is searched for, px.

    On a large image the searched area is limited to that for the longest trail on any other image.
    """
    longest = math.sqrt(2 * WHOLE_PIXELS)
    return 0.03 * length * (min(1.0, longest / length) ** 2 if is_large(scene.shape) else 1.0)


def _best(
    scene: Scene, seen: View, first: list[NDArray[np.float64]], free: int, blur_fwhm: float = 0.0
) -> tuple[NDArray[np.float64], bool]:
    """Return the best fit from several first estimates, and whether it converged."""
    psf = scene.psf
    if blur_fwhm:
        psf = psf._replace(sigmas=np.hypot(psf.sigmas, blur_fwhm * scene.fwhm_px))
    reach, tolerance = 2 * scene.fwhm_px, _TOLERANCE if free == PARAMETERS else _FIRST_TOLERANCE
    fits = [
        minimise(seen.values, seen.use, seen.footprint, p, *psf, scene.shape, reach, free, tolerance) for p in first
    ]
    parameters, _, converged = min(fits, key=lambda fit: fit[1])
    return parameters, converged


def _segment(parameters: NDArray[np.float64]) -> Segment:
    _, x, y, length, theta, _ = parameters.tolist()
    return Segment(x, y, abs(length), math.degrees(theta) % 180)


def _as_seen(scene: Scene, seen: View, parameters: NDArray[np.float64]) -> TrailFit:
    """Return the fit of a trail, or that of its visible part if the pixels leave its length open.

    The visible part has the brightness per px of the whole trail, and keeps its light in the pixels.
    """
    fit, whole = _result(scene, seen, parameters), _segment(parameters)
    if scene.usable[seen.footprint.y, seen.footprint.x].all():
        return fit
    fit = _with_hidden_ends(scene, fit)
    part = as_seen(scene.usable, scene.fwhm_px, whole)
    if part == whole or (fit.converged and fit.errors[3] < whole.length - part.length):
        return fit
    share = part.length / whole.length
    cut = _result(scene, seen, vector(float(parameters[0]) * share, part, float(parameters[5])))
    cut = _with_hidden_ends(scene, cut)
    light = trail_shape(scene, seen.footprint, whole) / share
    return replace(cut, shape=light, chi2=_chi2(scene, seen, cut.flux * light, cut.level)) if cut.converged else cut


def _with_hidden_ends(scene: Scene, fit: TrailFit) -> TrailFit:
    """Return a fit whose errors include ends hidden by unusable pixels."""
    if not fit.converged:
        return fit
    hidden = hidden_covariance(scene.usable, scene.fwhm_px, fit.segment, float(fit.errors[3]))
    return replace(fit, covariance=fit.covariance + hidden)


def _moved(one: Segment, other: Segment) -> float:
    """Return the largest displacement of an end point, px, ignoring the order of the ends."""
    a, b, c, d = one.ends()
    e, f, g, h = other.ends()
    along = max(math.hypot(a - e, b - f), math.hypot(c - g, d - h))
    return min(along, max(math.hypot(a - g, b - h), math.hypot(c - e, d - f)))


def _result(scene: Scene, seen: View, parameters: NDArray[np.float64]) -> TrailFit:
    segment = _segment(parameters)
    shape = trail_shape(scene, seen.footprint, segment)
    model = parameters[0] * shape
    # At length 0 the derivatives by length and angle vanish, so they are taken at the shortest visible length.
    resolved = parameters.copy()
    resolved[3] = max(parameters[3], float(scene.psf.weights @ scene.psf.sigmas) / 2)
    _, derivatives = jacobian(seen.footprint, resolved, *scene.psf)
    covariance = fit_covariance(derivatives, seen.use, model, seen.footprint, scene.noise, seen.added)
    if not (np.diag(covariance) > 0).all():
        return unfitted(scene, segment)
    lengthened = 12 * (scene.fwhm_px / _PER_SIGMA) ** 2 * scene.ellipticity_err
    stretch = _honest(covariance, parameters, resolved[3], scene.fwhm_px, lengthened)
    return TrailFit(
        flux=float(parameters[0]),
        segment=segment,
        level=float(parameters[5]),
        covariance=stretch @ covariance[:5, :5] @ stretch.T,
        level_err=float(np.sqrt(covariance[5, 5])),
        chi2=_chi2(scene, seen, model, float(parameters[5])),
        ndata=int(seen.use.sum()),
        converged=True,
        seen=seen,
        shape=shape,
    )


def _chi2(scene: Scene, seen: View, model: NDArray[np.float64], level: float) -> float:
    squares = seen.use * np.square(seen.values - model - level) / variance(model, scene.noise, seen.added)
    return float(squares.sum())


def _honest(
    covariance: NDArray[np.float64],
    parameters: NDArray[np.float64],
    resolved: float,
    fwhm_px: float,
    lengthened: float = 0.0,
) -> NDArray[np.float64]:
    """Return the matrix from the linear errors to those of `fit_trail`'s notes, and from radians to degrees.

    ``lengthened`` is the error of the squared length from the error of the PSF's ellipticity, px2.
    """
    flux, _, _, length, theta, _ = parameters.tolist()
    errors = np.sqrt(np.diag(covariance)).tolist()
    square, square_err = length**2, math.hypot(2 * resolved * errors[3], lengthened)
    chance = 2 + _FREE_DIRECTION * math.exp(-((square / (4 * square_err)) ** 2))
    length_err = max(
        math.sqrt(square + square_err) - length, (length - math.sqrt(max(square - chance * square_err, 0.0))) / 2
    )
    angle_err = min(math.degrees(errors[4]) * (resolved / max(length, 1e-3)) ** 2, 90.0)
    snr = max(flux / errors[0], 0.1) * math.sqrt(fwhm_px / max(length, fwhm_px))
    wander = math.sqrt(1 + _WANDER / snr**2) if length > fwhm_px else 1.0
    stretch = np.diag([1.0, 1.0, 1.0, wander * length_err / errors[3], angle_err / errors[4]])
    along = np.array([math.cos(theta), math.sin(theta)])
    stretch[1:3, 1:3] += (wander - 1) * np.outer(along, along)
    return stretch


def unfitted(scene: Scene, start: Segment) -> TrailFit:
    """Return the first estimate of a trail, with its best-fitting flux, as a failed fit."""
    seen = view(scene, start, _radius(scene))
    shape = trail_shape(scene, seen.footprint, start)
    design = np.stack([shape, np.ones_like(shape)], axis=1) * seen.use[:, None]
    flux, level = np.linalg.lstsq(design, seen.values * seen.use, rcond=None)[0].tolist()
    unknown = np.full((5, 5), np.nan)
    return TrailFit(flux, start, level, unknown, math.nan, math.nan, int(seen.use.sum()), False, seen, shape)
