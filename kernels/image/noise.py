"""Background and noise of an image, the correlation of neighbouring pixels, and the noise behind a filter."""

from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_SAMPLE = 1_000_000  # with this many pixels the median is accurate to 0.1 % of sigma
_CLIP = 4.0  # sigma; leaves 99.994 % of a Gaussian
MAD_TO_SIGMA = 1.482602218505602
"""Factor from the median absolute deviation to the standard deviation of a normal distribution: 1 / quantile(3/4)."""


def background_and_noise(image: NDArray[np.float32], usable: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the median of an image and the standard deviation of its pixels about it, both robust.

    Parameters
    ----------
    image : (ny, nx)
        Any unit; finite where usable.
    usable : (ny, nx)
        Pixels to take into account.

    Returns
    -------
    background, noise
        Median, and 1.4826 times the median absolute deviation, of the pixels within 4 sigma; unit of ``image``.
        Images of more than a million pixels are sampled on a regular grid.

    Raises
    ------
    ValueError
        No pixel is usable.
    """
    step = max(1, round((image.size / _SAMPLE) ** 0.5))
    sampled = image[::step, ::step][usable[::step, ::step]]
    # A grid may miss what little is usable.
    values: NDArray[np.floating] = sampled if sampled.size > 1000 else image[usable]
    if not values.size:
        raise ValueError("no pixel is usable")
    # Sorted once, medians and what lies within a limit are a matter of a few looks.
    ordered = np.sort(without_steps(values)).astype(np.float64)
    centre, spread = _moments(ordered)
    for _ in range(10):
        kept = _within(ordered, centre, _CLIP * spread)
        if kept.size == ordered.size or not spread:
            break
        ordered = kept
        centre, spread = _moments(ordered)
    return centre, spread


_LOOKED_AT = 4096  # values examined for steps
_FEW = 64  # maximum steps in the middle half of these: with more, median and MAD are accurate to 1 %
_OFF = 0.05  # of a step: float32 numbers are rounded


def without_steps(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return values, (n,), with each spread over the step that it stands for, always alike, if they come in steps.

    The median and the MAD of counts, or of counts times a gain, come in steps, too, and are too coarse for a noise of a
    few.
    """
    step = 1.0 if (values == np.rint(values)).all() else _step(values)
    return values + step * np.random.default_rng(0).uniform(-0.5, 0.5, values.size) if step else values


def _step(values: NDArray[np.floating]) -> float:
    """Return the step of values that lie a few steps apart; 0 of others."""
    some = np.sort(values[:: max(1, values.size // _LOOKED_AT)]).astype(np.float64)
    middle = some[len(some) // 4 : len(some) - len(some) // 4]
    gaps = np.diff(middle)[np.diff(middle) > 0]
    if not 0 < len(gaps) <= min(_FEW, len(middle) // 8):
        return 0.0
    steps = gaps / gaps.min()
    return float(gaps.min()) if np.abs(steps - np.rint(steps)).max() < _OFF else 0.0


def _within(ordered: NDArray[np.float64], centre: float, reach: float) -> NDArray[np.float64]:
    first = bisect_left(ordered, True, key=lambda value: centre - value <= reach)
    return ordered[first : bisect_left(ordered, True, first, key=lambda value: value - centre > reach)]


def _moments(ordered: NDArray[np.float64]) -> tuple[float, float]:
    """Return the median of sorted values and the scaled median absolute deviation from it."""
    middle = (ordered.size - 1) // 2, ordered.size // 2
    centre = float(ordered[middle[0]] + ordered[middle[1]]) / 2
    deviations = [_deviation(ordered, centre, rank) for rank in middle]
    return centre, MAD_TO_SIGMA * (sum(deviations) / 2)


def _deviation(ordered: NDArray[np.float64], centre: float, rank: int) -> float:
    """Return the absolute deviation from ``centre`` below which ``rank`` of the sorted values stay.

    The ``rank + 1`` values nearest to the centre are neighbours; of all such runs it is the one whose ends are equally
    far away, or as nearly as can be.
    """

    def right_end_is_farther(first: int) -> bool:
        return bool(ordered[first + rank] - centre >= centre - ordered[first])

    runs = range(ordered.size - rank)
    first = bisect_left(runs, True, key=right_end_is_farther)
    ends = [ordered[first + rank] - centre] if first < len(runs) else []
    return float(min([*ends, *([centre - ordered[first - 1]] if first else [])]))


_SIDE = 64
_PATCHES = 144
_CORRELATION_CLIP, _SOURCE = 3.5, 5.0  # sigma: pixels left out; pixels left out with their neighbours
_QUIET = 0.75  # fraction of the patches that is used
_LEAST_POWER = 0.01  # minimum power of the noise in a large area, relative to white noise


def noise_correlation(
    image: NDArray[np.float32], usable: NDArray[np.bool_], background: float, noise: float, reach: int = 5
) -> NDArray[np.float64]:
    """Estimate the autocorrelation of the noise of an image.

    Parameters
    ----------
    image, usable : (ny, nx)
        See `kernels.image.noise.background_and_noise`.
    background, noise
        Its results.
    reach
        Largest lag, px.

    Returns
    -------
    (2 L + 1, 2 L + 1)
        At lags -L..L in y and x, L <= ``reach`` as small as holds all of it; 1 at the centre, symmetric about it,
        0 where it is within three standard errors of 0. Contrary noise is nearer to white than measured if its sum over
        all lags, the noise of a large area, would be less than a hundredth of white noise's.

    Notes
    -----
    Mean product of all pairs of unmasked pixels at each lag, over up to 144 patches of 64 px, each about its own mean
    so that slow gradients do not count; pixels beyond 3.5 sigma, and the surroundings of those beyond 5, are masked,
    and so are the patches with most of them. Division by the number of pairs makes it unbiased whatever the mask.
    Computed with zero-padded Fourier transforms (Wiener-Khinchin). Standard errors by Bartlett's formula:
    sum(rho^2) / pairs (Bartlett 1946, Suppl. J. R. Stat. Soc. 8, 27).
    """
    from scipy import fft

    values, weights = _patches(image, usable, background, noise)
    if not weights.any():
        return np.ones((1, 1))
    size = [fft.next_fast_len(side + reach, real=True) for side in values.shape[1:]]
    products = _lagged(values, size, reach)
    pairs = _lagged(weights, size, reach)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = np.where(pairs > 0.5, products / pairs, 0.0)
    if covariance[reach, reach] <= 0:
        return np.ones((1, 1))
    rho = covariance / covariance[reach, reach]
    rho = (rho + rho[::-1, ::-1]) / 2
    error = np.sqrt(np.sum(np.square(rho)) / np.maximum(pairs, 1))
    rho[np.abs(rho) < 3 * error] = 0.0
    rho[reach, reach] = 1.0
    if (total := rho.sum()) < _LEAST_POWER:
        rho *= (1 - _LEAST_POWER) / (1 - total)
        rho[reach, reach] = 1.0
    return _trimmed(rho, reach)


def _patches(
    image: NDArray[np.float32], usable: NDArray[np.bool_], background: float, noise: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return residuals in units of the noise, 0 where left out, and weights 0 or 1; (patches, side, side)."""
    from scipy.ndimage import maximum_filter

    sides = [min(_SIDE, extent) for extent in image.shape]
    corners = [
        (y, x)
        for y in range(0, image.shape[0] - sides[0] + 1, sides[0])
        for x in range(0, image.shape[1] - sides[1] + 1, sides[1])
    ]
    chosen = np.linspace(0, len(corners) - 1, min(_PATCHES, len(corners))).round().astype(int)
    boxes = [np.s_[corners[i][0] : corners[i][0] + sides[0], corners[i][1] : corners[i][1] + sides[1]] for i in chosen]
    good = np.stack([usable[box] for box in boxes])
    scaled = np.where(good, (np.stack([image[box] for box in boxes]).astype(np.float64) - background) / noise, 0.0)
    # About the patch's own level first: on a gradient, clipping about the global one would cut into the noise.
    scaled -= _level(scaled, good)
    bright = maximum_filter(np.abs(scaled) * good > _SOURCE, size=(1, 5, 5))
    kept = good & ~bright & (np.abs(scaled) < _CORRELATION_CLIP)
    lost = (~kept).sum(axis=(1, 2))
    quiet = np.argsort(lost, kind="stable")[: max(1, round(_QUIET * len(lost)))]
    scaled, kept = scaled[quiet], kept[quiet]
    return np.where(kept, scaled - _level(scaled, kept), 0.0), kept.astype(np.float64)


def _level(values: NDArray[np.float64], weights: NDArray[np.bool_]) -> NDArray[np.float64]:
    inside = weights & (np.abs(values) < _CORRELATION_CLIP)
    total = np.where(inside, values, 0.0).sum(axis=(1, 2), keepdims=True)
    return total / np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)


def _lagged(stack: NDArray[np.float64], size: list[int], reach: int) -> NDArray[np.float64]:
    """Return the products of values that lie -reach..reach apart, summed over the stack."""
    from scipy import fft

    power = np.square(np.abs(fft.rfft2(stack, size))).sum(axis=0)
    lags = np.arange(-reach, reach + 1)
    return fft.irfft2(power, size)[np.ix_(lags, lags)]


def _trimmed(rho: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    away = np.abs(np.argwhere(rho != 0) - reach).max()
    inner = slice(reach - away, reach + away + 1)
    return np.ascontiguousarray(rho[inner, inner])


class Noise(NamedTuple):
    """Noise of an image.

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


def own_variance(model: NDArray[np.float64], noise: Noise, added: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return the variance that light adds to each pixel: Poisson's of ``model``, or what a variance plane has there."""
    return np.maximum(np.maximum(model, 0.0) / noise.gain, added)


def variance(model: NDArray[np.float64], noise: Noise, added: NDArray[np.float64] | float = 0.0) -> NDArray[np.float64]:
    """Return the variance of each pixel under a source: the noise's and that of light (pixel units)."""
    return noise.sigma**2 + own_variance(model, noise, added)


LEAST_SHARE = 0.1
"""Minimum standard deviation of filtered noise, as a fraction of that for white noise."""

LEAST_VARIANCE = 0.1
"""Minimum variance of a sum along a line, per point: a measured correlation need not belong to any process."""


def filtered_noise(template: NDArray[np.floating], noise: float, correlation: NDArray[np.floating]) -> float:
    """Return the standard deviation of stationary, correlated noise filtered by ``template``.

    Parameters
    ----------
    template : (ny, nx)
        Filter m.
    noise
        Standard deviation of one pixel, any unit.
    correlation : (2L + 1, 2L + 1)
        Autocorrelation rho of the noise at lags -L..L in y and x; 1 at the centre. ``[[1.0]]`` is white noise.

    Returns
    -------
    float
        noise * sqrt(sum over lags of (m star m)(lag) rho(lag)), in the unit of ``noise``; at least a tenth of that of
        white noise, because a measured rho need not be that of any process.

    Notes
    -----
    Variance of a linear filter of a stationary process, e.g. Papoulis 1991, *Probability, Random Variables and
    Stochastic Processes*, ch. 10. For white noise it is noise * sqrt(sum(m^2)).
    """
    reach = correlation.shape[0] // 2
    padded = np.pad(np.asarray(template, float), reach)
    own = convolve(padded, np.asarray(template, float)[::-1, ::-1])
    rows, columns = template.shape
    own = own[rows - 1 : -rows + 1 or None, columns - 1 : -columns + 1 or None]
    least = LEAST_SHARE**2 * float(np.sum(np.square(template)))
    return float(noise * np.sqrt(max(float(np.sum(own * correlation)), least)))


def convolve(image: NDArray[np.floating], kernel: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the full linear convolution of two images, by FFT.

    Parameters
    ----------
    image : (ny, nx)
    kernel : (ky, kx)

    Returns
    -------
    (ny + ky - 1, nx + kx - 1)
        The same bits as of `scipy.signal.fftconvolve`, whose import takes longer than what it does here.
    """
    from scipy import fft

    shape = [a + b - 1 for a, b in zip(image.shape, kernel.shape, strict=True)]
    axes = [axis for axis in (0, 1) if 1 not in (image.shape[axis], kernel.shape[axis])]
    if not axes:
        return image * kernel
    padded = [fft.next_fast_len(shape[axis], real=True) for axis in axes]
    product = fft.rfftn(image, padded, axes) * fft.rfftn(kernel, padded, axes)
    return np.asarray(fft.irfftn(product, padded, axes))[: shape[0], : shape[1]].copy()
