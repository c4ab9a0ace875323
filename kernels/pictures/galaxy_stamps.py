"""Pictures of galaxies from the pixels of science images, like those that our models have learnt from."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.image.science_image import ScienceImage
from schemas.objects import BANDS

CROP_RADII = 7.6
"""Side of a picture in half-light radii: the median in Galaxy Zoo."""

SCALES = {"u": 1.3, "g": 1.3}
"""Factors of bands, all others 1, that give galaxies the colours of Galaxy Zoo. Ellipticals there have light of
1 : 0.71 : 0.41 in red, green and blue, and 1 : 0.71 : 0.34 nJy in i, r, g (g - r 0.78, r - i 0.38); spirals
1 : 0.80 : 0.71, and 1 : 0.79 : 0.50."""

LARGEST = 4096
"""Maximum side of the area cut out, px."""

WHOLE = 0.98
"""Minimum fraction of a picture's pixels with a value, above which exposures are equally good."""

LEAST_USABLE = 0.8
"""Minimum fraction of a picture's pixels with a value."""

_SKY = 4.0
_NOISE = 3.5
_PEAK = 156.0
"""Sky, its noise, and brightness of the middle of those pictures, of 255."""


def size_over_psf(objects: pa.Table) -> NDArray[np.float64]:
    """Return the half-light radius of objects, less that of the PSF, over the PSF's FWHM, (n,); NaN: not known.

    Parameters
    ----------
    objects
        Of `schemas.objects.OBJECT`. The PSF is that of the band whose source gave the shape. Squares of radii are taken
        to add up, as those of Gaussians do, and the PSF's half-light radius to be half of its FWHM.
    """
    bands = np.array(objects["refBand"].to_pylist(), object)
    fwhm = np.full(len(objects), np.nan)
    for band in BANDS:
        fwhm = np.where(bands == band, _floats(objects, f"{band}_fwhm"), fwhm)
    radius = _floats(objects, "halfLightRadius")
    return np.sqrt(np.clip(radius**2 - (fwhm / 2) ** 2, 0, None)) / fwhm


def _floats(objects: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(objects[name].to_numpy(), np.float64)


class Stamp(NamedTuple):
    """Galaxy cut out of an image.

    Attributes
    ----------
    pixels : (side, side) float32
        Less the sky, in the image's unit; 0 where the image has no value.
    snr
        Mean of the image's pixels within the half-light radius over the noise of one.
    """

    pixels: NDArray[np.float32]
    snr: float


def half_side(radius: float) -> int:
    """Return half of the side of what is cut out, px, of a galaxy's half-light radius, px."""
    return max(round(CROP_RADII * radius / 2), 2)


def stamp(image: ScienceImage, x: int, y: int, radius: float, side: int, least: float = LEAST_USABLE) -> Stamp | None:
    """Cut out a galaxy, and bring it to a given side.

    Parameters
    ----------
    image
        Science image.
    x, y
        Pixel of the galaxy, 0-based.
    radius
        Its half-light radius, px.
    side
        Of the stamp, px.
    least
        Share of the pixels that must have a value.

    Returns
    -------
    Stamp or None
        None if fewer have one, or less than four fifths of those within the half-light radius, or it is too large.
    """
    pixels, bad = image.pixels, image.bad
    half = half_side(radius)
    if 2 * half > LARGEST:
        return None
    top, left = y - half, x - half
    rows, columns = slice(max(top, 0), max(y + half, 0)), slice(max(left, 0), max(x + half, 0))
    part, usable = pixels[rows, columns], ~bad[rows, columns] & np.isfinite(pixels[rows, columns])
    if usable.sum() < least * (2 * half) ** 2:
        return None
    ny, nx = part.shape
    row, column = np.ogrid[rows.start : rows.start + ny, columns.start : columns.start + nx]
    core = (row - y) ** 2 + (column - x) ** 2 <= max(radius, 1.0) ** 2
    if (core & usable).sum() < LEAST_USABLE * core.sum():
        return None
    snr = float(part[core & usable].mean() / max(float(image.noise[y, x]), 1e-12))
    whole = np.zeros((2 * half, 2 * half), np.float32)
    at = (rows.start - top, columns.start - left)
    whole[at[0] : at[0] + part.shape[0], at[1] : at[1] + part.shape[1]] = np.where(usable, part, 0)
    import torch  # a night without galaxies does not need it
    from torch.nn.functional import interpolate

    given = torch.from_numpy(whole)[None, None]
    seen = interpolate(given, (side, side), mode="bilinear", antialias=True, align_corners=False)
    return Stamp(np.asarray(seen[0, 0].numpy(), np.float32), snr)


def coloured(stamps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture, (side, side, 3) red, green and blue, of stamps (bands, side, side) from red to blue.

    Brightness is the inverse hyperbolic sine of the mean of the planes (Lupton et al. 2004, PASP 116, 133), with sky,
    noise and peak as in the pictures of Galaxy Zoo; colours are kept. Of two bands the plane between is their mean; one
    band is grey.
    """
    between = stamps[1:-1].mean(0) if len(stamps) > 2 else (stamps[0] + stamps[-1]) / 2
    planes = np.stack([stamps[0], between, stamps[-1]]).astype(np.float64)
    light = planes.mean(0)
    side = len(light)
    frame = np.ones_like(light, np.bool_)
    frame[side // 8 : -(side // 8), side // 8 : -(side // 8)] = False
    noise = 1.4826 * float(np.median(np.abs(light[frame] - np.median(light[frame]))))
    middle = slice(side // 2 - 2, side // 2 + 2)
    peak = max(float(light[middle, middle].max()), 3 * noise)
    if peak <= 0:
        return np.zeros((*light.shape, 3), np.uint8)
    soft = _softening(peak / max(noise, 1e-6 * peak)) * peak
    gain = (_PEAK - _SKY) / np.arcsinh(peak / soft)
    flat = np.where(light == 0, 1.0, light)
    factor = np.where(light == 0, gain / soft, gain * np.arcsinh(light / soft) / flat)
    return np.asarray(np.clip(_SKY + planes * factor, 0, 255).round().astype(np.uint8).transpose(1, 2, 0))


_SOFT = np.geomspace(1e-4, 10.0, 200)


def _softening(ratio: float) -> float:
    """Return the softening over the peak at which noise of 1 / ``ratio`` of the peak looks as it should."""
    seen = (_PEAK - _SKY) * np.arcsinh(1 / ratio / _SOFT) / np.arcsinh(1 / _SOFT)
    return float(_SOFT[int(np.argmin(np.abs(seen - _NOISE)))])
