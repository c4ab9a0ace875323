"""Cutouts in units of their own noise, and measurements of their bands."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.psf.moments import Moments, adaptive_moments
from kernels.psf.psf_contrast import WIDTHS, psf_contrast

_RING = 2  # px: width of the border used for background and noise
_QUARTILE = 0.6744897501960817  # of a normal distribution, in standard deviations
_RANGE = 1e-4  # minimum ratio of noise to peak: images without noise stay finite
_HOLE = 0.5  # maximum fraction of a band's pixels that may be missing
_CORE, _FLAT = 4, 4  # this many pixels of the highest value, this close to the centre, are clipped
_LEVEL = 1e-3  # of the peak: so much lower counts as the highest value, from which a sky that varies was subtracted


class Planes(NamedTuple):
    """Bands of n cutouts, (n, bands, side, side) float32 each.

    Attributes
    ----------
    image
        Background subtracted, in units of the noise of a pixel; 0 where pixels are missing or the band is not usable.
    psf
        Peak 1; 0 where there is none.
    usable, has_psf : (n, bands) bool
        Whether the band, and its PSF, can be used.
    """

    image: NDArray[np.float32]
    psf: NDArray[np.float32]
    usable: NDArray[np.bool_]
    has_psf: NDArray[np.bool_]

    def take(self, rows: NDArray[np.bool_]) -> "Planes":
        """Return some of the cutouts."""
        return Planes(self.image[rows], self.psf[rows], self.usable[rows], self.has_psf[rows])


def make_planes(cutouts: NDArray[np.float32], bands: int, side: int) -> Planes:
    """Convert cutouts to a common form.

    Parameters
    ----------
    cutouts : (n, bands or 2 bands, height, width)
        Images of the bands in any unit, then, if there are twice as many planes, their PSFs. NaN is missing.
    bands
        Number of bands.
    side
        Of the result, px: larger cutouts are cropped, smaller ones padded with missing pixels, both about the middle.

    Notes
    -----
    Background is the median of the outermost 2 px, noise the distance to the lower quartile over 0.674, which
    a neighbour there hardly changes; at least 1e-4 of the peak. A band is usable if at least half of its pixels and all
    of the middle 3 x 3 are finite, it has any spread, and no four pixels within 4 px of the middle share the highest
    value, to a thousandth of the peak: these would be clipped.
    """
    images = _fitted(np.asarray(cutouts[:, :bands], np.float32), side)
    known = np.isfinite(images)
    own = _bordered(cutouts[:, :bands], side)
    background, lower = _quartiles(_ring(own))
    peak = np.where(known, images, -np.inf).max((2, 3)) - background
    noise = np.maximum((background - lower) / _QUARTILE, _RANGE * peak)
    middle = side // 2
    core = known[:, :, middle - 1 : middle + 2, middle - 1 : middle + 2].all((2, 3))
    inside = np.isfinite(own).mean((2, 3))
    around = images[:, :, middle - _CORE : middle + _CORE + 1, middle - _CORE : middle + _CORE + 1]
    with np.errstate(invalid="ignore"):
        clipped = (around >= (background + (1 - _LEVEL) * peak)[:, :, None, None]).sum((2, 3)) >= _FLAT
        usable = core & ~clipped & (inside >= _HOLE) & (noise > 0) & np.isfinite(noise) & np.isfinite(background)
    scale = np.where(usable, noise, 1.0)[:, :, None, None]
    level = np.where(usable, background, 0.0)[:, :, None, None]
    with np.errstate(invalid="ignore", over="ignore"):
        image = np.where(known & usable[:, :, None, None], (images - level) / scale, 0.0).astype(np.float32)
    psf, has_psf = _psfs(cutouts, bands, side)
    return Planes(image, psf, usable, has_psf & usable)


def _psfs(cutouts: NDArray[np.float32], bands: int, side: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    shape = (len(cutouts), bands, side, side)
    if cutouts.shape[1] != 2 * bands:
        return np.zeros(shape, np.float32), np.zeros(shape[:2], bool)
    given = np.asarray(cutouts[:, bands:], np.float32)
    whole = np.isfinite(given).all((2, 3))
    psf = np.nan_to_num(_fitted(given, side), nan=0.0, posinf=0.0, neginf=0.0)
    peak = psf.max((2, 3))
    good = whole & (peak > 0)
    return np.where(good[:, :, None, None], psf / np.where(good, peak, 1)[:, :, None, None], 0).astype(np.float32), good


def _fitted(images: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Crop about the middle, or pad with NaN; infinite pixels become NaN."""
    images = np.where(np.isfinite(images), images, np.float32(np.nan))
    for axis in (2, 3):
        size = images.shape[axis]
        if size > side:
            first = size // 2 - side // 2
            images = np.take(images, range(first, first + side), axis)
        elif size < side:
            before = side // 2 - size // 2
            width = [(0, 0)] * 4
            width[axis] = (before, side - size - before)
            images = np.pad(images, width, constant_values=np.nan)
    return images


def _bordered(images: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Crop to ``side`` at most: the border of the rest gives the background."""
    return _fitted(np.asarray(images, np.float32), min(side, *images.shape[2:]))


def _ring(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the pixels of the outermost 2 px, (n, bands, pixels)."""
    inside = np.ones(images.shape[2:], bool)
    inside[_RING:-_RING, _RING:-_RING] = False
    return images[:, :, inside]


def _quartiles(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return median and lower quartile along the last axis, of what is not NaN; NaN of nothing."""
    ordered = np.sort(values, -1)  # NaN last
    count = np.isfinite(ordered).sum(-1)
    found = []
    for share in (0.5, 0.25):
        place = share * np.maximum(count - 1, 0)
        low, part = place.astype(np.int64), (place % 1).astype(np.float32)
        high = np.minimum(low + 1, np.maximum(count - 1, 0))
        below = np.take_along_axis(ordered, low[..., None], -1)[..., 0]
        above = np.take_along_axis(ordered, high[..., None], -1)[..., 0]
        found.append((1 - part) * below + part * above)
    return found[0], found[1]


MOMENTS = (
    "signal",
    "size",
    "flattening",
    "fourth",
    "offset",
    "psf_size",
    "size_ratio",
    "shape_change",
    "fourth_change",
)
"""First those of the source: arcsinh of the S/N, ln of the width (px), ellipticity, fourth moment, distance from the
centre (px); then of the PSF: ln of its width; then of both: ln of the ratio, distance of the ellipticities, change of
the fourth moment."""

FEATURES = (*MOMENTS, "misfit", *(f"excess_{w}" for w in WIDTHS), *(f"excess_share_{w}" for w in WIDTHS))
"""The moments, followed by the features of `kernels.psf.psf_contrast`."""

OF_PSF = FEATURES.index("psf_size")
"""Index from which features need the PSF; they are 0 without one."""

CHANNELS = 4
"""Number of pictures per band: see `BandViews`."""


class BandViews(NamedTuple):
    """Inputs of a network, by band.

    Attributes
    ----------
    pictures : (n, bands, 4, side, side) float32
        Image in units of noise (arcsinh / 4), image in units of its own peak, PSF, what a fit of the PSF leaves over
        (arcsinh / 4). The latter two are 0 without PSF.
    features : (n, bands, len(FEATURES)) float32
        0 where the band is not usable.
    usable, has_psf : (n, bands) bool
        See `Planes`.
    """

    pictures: NDArray[np.float32]
    features: NDArray[np.float32]
    usable: NDArray[np.bool_]
    has_psf: NDArray[np.bool_]


def band_views(planes: Planes) -> BandViews:
    """Measure cutouts and prepare their pictures."""
    n, bands, side, _ = planes.image.shape
    flat = np.ascontiguousarray(planes.image.reshape(n * bands, side, side))
    psfs = np.ascontiguousarray(planes.psf.reshape(n * bands, side, side))
    source, point = adaptive_moments(flat), adaptive_moments(psfs)
    with_psf = planes.has_psf.ravel() & (point.flux > 0)
    features = np.zeros((n * bands, len(FEATURES)), np.float32)
    features[:, : len(MOMENTS)] = _moment_features(source, point, with_psf)
    residuals = np.zeros_like(flat)
    psf_contrast(
        flat,
        psfs,
        np.stack([source.x - point.x, source.y - point.y], 1),
        np.stack([source.x, source.y], 1),
        np.where(with_psf, point.sigma, np.float32(0)),
        features[:, len(MOMENTS) :],
        residuals,
    )
    features[~planes.usable.ravel()] = 0
    peak = np.maximum(_smooth_peak(flat), 1.0)[:, None, None]
    shape = (n, bands, side, side)
    pictures = np.empty((n, bands, CHANNELS, side, side), np.float32)
    pictures[:, :, 0] = (np.arcsinh(flat) / 4).reshape(shape)
    pictures[:, :, 1] = np.clip(flat / peak, -1, 1.5).reshape(shape)
    pictures[:, :, 2] = np.where(planes.has_psf[:, :, None, None], planes.psf, 0)
    pictures[:, :, 3] = (np.arcsinh(residuals) / 4).reshape(shape)
    return BandViews(pictures, features.reshape(n, bands, -1), planes.usable, with_psf.reshape(n, bands))


def _moment_features(source: Moments, point: Moments, with_psf: NDArray[np.bool_]) -> NDArray[np.float32]:
    # The weight's sum of squares is pi sigma^2.
    signal = np.arcsinh(source.flux / (np.sqrt(np.pi) * source.sigma))
    fourth = np.clip(source.fourth, -2, 8)
    own = [
        signal,
        np.log(source.sigma),
        np.hypot(source.e1, source.e2).clip(0, 2),
        fourth,
        np.hypot(source.x, source.y),
    ]
    both = [
        np.log(point.sigma),
        np.log(source.sigma / point.sigma),
        np.hypot(source.e1 - point.e1, source.e2 - point.e2).clip(0, 2),
        fourth - np.clip(point.fourth, -2, 8),
    ]
    return np.stack([*own, *(np.where(with_psf, one, 0) for one in both)], 1).astype(np.float32)


def _smooth_peak(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the highest mean of 2 x 2 px in the middle 8 x 8 px."""
    first = images.shape[1] // 2 - 4
    part = images[:, first : first + 8, first : first + 8]
    return ((part[:, 1:, 1:] + part[:, :-1, 1:] + part[:, 1:, :-1] + part[:, :-1, :-1]) / 4).max((1, 2))
