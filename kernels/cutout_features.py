"""Measurements of the bands of a cutout: moments, and what the PSF leaves over."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.adaptive_moments import Moments, adaptive_moments
from kernels.cutout_planes import Planes
from kernels.psf_contrast import WIDTHS, psf_contrast

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
"""Of the source: arcsinh of the S/N, ln of the width (px), ellipticity, fourth moment, distance from the middle (px).
Then of the PSF: ln of its width; and of both: ln of the ratio, distance of the ellipticities, change of the fourth."""

FEATURES = (*MOMENTS, "misfit", *(f"excess_{w}" for w in WIDTHS), *(f"excess_share_{w}" for w in WIDTHS))
"""After the moments, those of `kernels.psf_contrast`."""

OF_PSF = FEATURES.index("psf_size")
"""Features from here on need the PSF; they are 0 where there is none."""

CHANNELS = 4
"""Pictures of a band: see `BandViews`."""


class BandViews(NamedTuple):
    """What a network sees of each band.

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
    """Give the highest mean of 2 x 2 px in the middle 8 x 8 px."""
    first = images.shape[1] // 2 - 4
    part = images[:, first : first + 8, first : first + 8]
    return ((part[:, 1:, 1:] + part[:, :-1, 1:] + part[:, 1:, :-1] + part[:, :-1, :-1]) / 4).max((1, 2))
