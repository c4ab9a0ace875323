"""Width of the PSF from the stars in an image."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
import sep
from numpy.typing import NDArray

_BETA = (1.1, 20.0)  # beyond 20 a Moffat profile is a Gaussian to 1 %
_SUBPIXELS = 5


def fit_moffat(stamp: NDArray[np.floating]) -> tuple[float, float]:
    """Fit ``A (1 + (r / alpha)^2)^-beta + B``, averaged over each pixel, by least squares.

    Parameters
    ----------
    stamp : (ny, nx)
        Image of one point source near the middle, any unit; not finite pixels are left out.

    Returns
    -------
    fwhm_px, beta
        Full width at half maximum before the pixels blur it, px, and slope, 1.1 to 20
        (Moffat 1969, A&A 3, 455).

    Raises
    ------
    ValueError
        The stamp holds no positive source, or is smaller than 5 x 5 px.
    """
    good = np.isfinite(stamp)
    if min(stamp.shape) < 5 or good.sum() < 25:
        raise ValueError(f"a stamp of {stamp.shape} with {int(good.sum())} finite pixels is too small")
    data = np.where(good, stamp, 0).astype(np.float64)
    peak = float(data.max())
    base = float(np.median(data[good]))
    if peak <= base:
        raise ValueError("the stamp has no peak above its median")
    data = (data - base) / (peak - base)
    y0, x0 = np.unravel_index(np.argmax(np.where(good, data, -np.inf)), data.shape)
    above = max(float((data[good] > 0.5).sum()), 1.0)
    start = [1.0, 0.0, float(x0), float(y0), 2 * np.sqrt(above / np.pi), 3.0]
    bounds = (
        [0.2, -0.5, x0 - 2.0, y0 - 2.0, 0.3, _BETA[0]],
        [20.0, 0.5, x0 + 2.0, y0 + 2.0, 2.0 * max(stamp.shape), _BETA[1]],
    )
    start[4] = float(np.clip(start[4], 0.5, max(stamp.shape)))

    def residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        return (_profile(parameters, data.shape) - data)[good]

    def slopes(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        return _slopes(parameters, data.shape)[good]

    limits: dict[str, Any] = {"bounds": bounds, "x_scale": [1, 0.1, 1, 1, 1, 1], "max_nfev": 200}
    fitted = scipy.optimize.least_squares(residuals, start, slopes, **limits).x
    return float(fitted[4]), float(fitted[5])


def _profile(parameters: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    amplitude, base, x0, y0, fwhm, beta = parameters
    y, x = _from_middle(y0, shape[0])[:, None], _from_middle(x0, shape[1])
    steepness = 4 * (2 ** (1 / beta) - 1) / fwhm**2
    return amplitude * _pixels((1 + steepness * (x * x + y * y)) ** -beta, shape) + base


def _slopes(parameters: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the derivatives of `_profile` by each parameter, (ny, nx, 6)."""
    amplitude, _, x0, y0, fwhm, beta = parameters
    y, x = _from_middle(y0, shape[0])[:, None], _from_middle(x0, shape[1])
    doubled = 2 ** (1 / beta)
    steepness = 4 * (doubled - 1) / fwhm**2
    squared = steepness * (x * x + y * y)
    logarithm = np.log1p(squared)
    fine = np.exp(-beta * logarithm)
    fall = fine * (beta / (1 + squared))  # less of it for more of ``squared``
    wider = _pixels(fall * squared, shape)
    steeper = -math.log(2) * doubled / (beta**2 * (doubled - 1))  # of the logarithm of ``steepness``, by beta
    moved = 2 * amplitude * steepness
    return np.stack(
        [
            _pixels(fine, shape), np.ones(shape), moved * _pixels(fall * x, shape), moved * _pixels(fall * y, shape),
            2 * amplitude / fwhm * wider, -amplitude * (_pixels(logarithm * fine, shape) + steeper * wider),
        ],
        axis=-1,
    )  # fmt: skip


def _from_middle(middle: float, size: int) -> NDArray[np.float64]:
    """Return how far the parts of pixels are from a place along an axis."""
    parts = (np.arange(_SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5
    return np.asarray((np.arange(size)[:, None] + parts - middle).ravel())


def _pixels(fine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the means of the parts of each pixel."""
    rows = fine.reshape(shape[0], _SUBPIXELS, -1).sum(axis=1)
    return np.asarray(rows.reshape(*shape, _SUBPIXELS).sum(axis=2) / _SUBPIXELS**2)


class StarsPsf(NamedTuple):
    """PSF of the stars of an image.

    Attributes
    ----------
    fwhm_px, beta
        Of a Moffat profile before the pixels blur it; medians over the stars.
    fwhm_err, flatness_err
        Standard errors of the width, px, and of 1 / beta.
    stars
        How many there are.
    ellipticity, angle_deg
        1 - minor / major axis of their mean, and the direction of the major axis from +x to +y, 0 to 180 deg.
    """

    fwhm_px: float
    beta: float
    fwhm_err: float = 0.0
    flatness_err: float = 0.0
    stars: int = 0
    ellipticity: float = 0.0
    angle_deg: float = 0.0


class Star(NamedTuple):
    """Star on an image: its pixel, 0-based, and the pixels around it less background."""

    x: int
    y: int
    stamp: NDArray[np.float32]


_MEDIAN_ERROR = 1.4826 * math.sqrt(math.pi / 2)  # standard error of a median of n over their MAD / sqrt(n)
_LEAST_ERROR = (
    0.003,
    0.02,
)  # of the width, relative, and of 1 / beta: a PSF is no closer to a Moffat profile
_NEARLY_GAUSSIAN = 0.9 * _BETA[1]  # beyond, a profile may as well be Gaussian: 1 / beta is 0
_SIGMA = math.sqrt(8 * math.log(2))
_HALF = 10  # half the side of a stamp, px
_STARS = 25
_PIXELS = 300_000  # maximum number above the threshold that sep holds at once
LEAST_STARS = 3
"""Minimum number of stars for a meaningful median."""

BRIGHT = 20.0
"""Minimum peak of a star used for the PSF, times the noise."""


def psf_of(found: Sequence[Star]) -> StarsPsf | None:
    """Estimate FWHM and beta of a Moffat PSF, the medians of fits to the first 25 of some stars.

    Parameters
    ----------
    found
        Of `bright_stars`.

    Returns
    -------
    StarsPsf or None
        None if fewer than 3 are fit for it.
    """
    stars = [stamp for _, _, stamp in found[:_STARS]]
    fits = np.array([fit_moffat(stamp) for stamp in stars]) if stars else np.empty((0, 2))
    # Narrower than a pixel: a cosmic ray or a hot pixel; as wide as the stamp: a galaxy or a ghost.
    kept = np.flatnonzero((fits[:, 0] > 0.9) & (fits[:, 0] < _HALF))
    if len(kept) < LEAST_STARS:
        return None
    fwhm, beta = (float(value) for value in np.median(fits[kept], axis=0))
    own = np.stack([fits[kept, 0], 1 / fits[kept, 1]])
    scatter = np.median(np.abs(own - np.array([[fwhm], [1 / beta]])), axis=1) * _MEDIAN_ERROR / math.sqrt(len(kept))
    least = 1 / beta if beta > _NEARLY_GAUSSIAN else _LEAST_ERROR[1]
    errors = np.hypot(scatter, [_LEAST_ERROR[0] * fwhm, least])
    shape = _mean_shape([stars[i] for i in kept], fwhm)
    return StarsPsf(fwhm, beta, float(errors[0]), float(errors[1]), len(kept), *shape)


def _mean_shape(stamps: Sequence[NDArray[np.float32]], fwhm: float) -> tuple[float, float]:
    """Return the ellipticity and the direction of stars, from moments under a round Gaussian weight as wide as they.

    Such a weight halves (a^2 - b^2) / (a^2 + b^2) of a Gaussian source (Bernstein & Jarvis 2002, AJ 123, 583).
    """
    y, x = np.mgrid[-_HALF : _HALF + 1, -_HALF : _HALF + 1].astype(float)
    found = []
    for stamp in stamps:
        x0 = y0 = 0.0
        for _ in range(5):
            weight = stamp * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * (fwhm / _SIGMA) ** 2 + 1 / 6))
            total = max(float(weight.sum()), 1e-30)
            u, v = x - x0, y - y0
            x0, y0 = x0 + 2 * float((weight * u).sum()) / total, y0 + 2 * float((weight * v).sum()) / total
        xx, yy, xy = (float((weight * term).sum()) for term in (u * u, v * v, u * v))
        size = max(xx + yy, 1e-30)
        found.append((2 * (xx - yy) / size, 4 * xy / size))
    e1, e2 = np.median(np.array(found), axis=0)
    size = min(float(np.hypot(e1, e2)), 0.98)
    return 1 - math.sqrt((1 - size) / (1 + size)), float(np.degrees(0.5 * np.arctan2(e2, e1)) % 180)


def bright_stars(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: float,
    noise: float,
    saturation: float | None,
    most: int,
    least: float = BRIGHT,
) -> list[Star]:
    """Return the brightest round, positive, isolated sources, brightest first.

    Parameters
    ----------
    image, usable : (ny, nx)
        Direct or difference image, any unit; finite where usable, any values elsewhere.
    background, noise
        See `kernels.image.noise.background_and_noise`.
    saturation
        Sources that reach 0.8 of it are left out; unit of ``image``.
    most
        Sources to return at most.
    least
        Their peaks at least, times the noise.
    """
    data = _less_background(image, usable, background)
    found = _extracted(data, usable, noise)
    limit = np.inf if saturation is None else 0.8 * saturation - background
    elongation = found["a"] / np.maximum(found["b"], 1e-3)
    found = found[(found["flag"] == 0) & (elongation < 1.4) & (found["peak"] > least * noise) & (found["peak"] < limit)]
    stars = []
    for source in np.sort(found, order="peak")[::-1]:
        y, x = round(float(source["y"])), round(float(source["x"]))
        box = np.s_[y - _HALF : y + _HALF + 1, x - _HALF : x + _HALF + 1]
        stamp = data[box]
        inside = min(y, x) >= _HALF and stamp.shape == (2 * _HALF + 1, 2 * _HALF + 1) and usable[box].all()
        # A dipole has a hole beside it; a neighbour would be fitted as wings.
        if inside and stamp.min() > -5 * noise - 0.1 * source["peak"] and _alone(stamp, float(source["peak"])):
            stars.append(Star(x, y, stamp))
        if len(stars) == most:
            break
    return stars


def _less_background(image: NDArray[np.float32], usable: NDArray[np.bool_], background: float) -> NDArray[np.float32]:
    """Return an image less its background, in one copy; 0 where it is not usable."""
    data = np.where(usable, image, np.float32(background))
    data -= np.float32(background)
    return data


def _extracted(data: NDArray[np.float32], usable: NDArray[np.bool_], noise: float) -> NDArray[np.void]:
    """Return sep's sources of 5 px and more above 8 sigma; none where more pixels are above than sep holds."""
    # One setting for the whole process, and all of it is taken beforehand.
    sep.set_extract_pixstack(min(_PIXELS, data.size))
    try:
        # A contrast of 1 takes no source apart; one level spares it the search.
        return sep.extract(data, 8.0, err=noise, minarea=5, mask=~usable, deblend_cont=1.0, deblend_nthresh=1)
    except Exception as error:  # sep raises nothing more special
        if "full" not in str(error):
            raise
    return sep.extract(np.zeros_like(data), 8.0, err=noise)


def _alone(stamp: NDArray[np.float32], peak: float) -> bool:
    y, x = np.mgrid[-_HALF : _HALF + 1, -_HALF : _HALF + 1]
    return bool(stamp[np.hypot(y, x) > 0.7 * _HALF].max() < 0.3 * peak)


_STAMP_HALF = 7  # half the side of the fitted area, px
_LEAST_PEAK = 12.0  # sigma
_LEAST_WIDTH, _MOST_WIDTH = 0.9, 7.0  # px: a cosmic ray; a galaxy


def fit_stars(
    image: NDArray[np.float32], usable: NDArray[np.bool_], background: float, noise: float
) -> NDArray[np.float64]:
    """Fit a Moffat profile to each bright, round, isolated, positive source.

    Parameters
    ----------
    image, usable : (ny, nx)
        Any unit; finite where usable, any values elsewhere.
    background, noise
        See `kernels.image.noise.background_and_noise`.

    Returns
    -------
    (n, 4) float64
        x and y, 0-based px; FWHM before the pixels, px; beta. Brightest first.
    """
    data = _less_background(image, usable, background)
    found = _extracted(data, usable, noise)
    found = found[np.argsort(-found["flux"], kind="stable")]
    stars = []
    for i, source in enumerate(found):
        y, x = round(float(source["y"])), round(float(source["x"]))
        box = np.s_[y - _STAMP_HALF : y + _STAMP_HALF + 1, x - _STAMP_HALF : x + _STAMP_HALF + 1]
        whole = min(y, x) >= _STAMP_HALF and data[box].shape == (2 * _STAMP_HALF + 1,) * 2 and usable[box].all()
        near = np.hypot(found["x"] - source["x"], found["y"] - source["y"]) < 1.5 * _STAMP_HALF
        alone = found["flux"][near].sum() - source["flux"] < 0.1 * source["flux"]
        round_one = source["flag"] == 0 and source["a"] < 1.4 * source["b"]
        if not (whole and alone and round_one and source["peak"] > _LEAST_PEAK * noise):
            continue
        fwhm, beta = fit_moffat(data[box])
        if _LEAST_WIDTH < fwhm < _MOST_WIDTH:
            stars.append((found["x"][i], found["y"][i], fwhm, beta))
    return np.array(stars, float).reshape(-1, 4)
