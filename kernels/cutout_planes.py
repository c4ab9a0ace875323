"""Cutouts in units of their own noise, whatever their zero point, background and size."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_RING = 2  # px: the border that tells background and noise
_QUARTILE = 0.6744897501960817  # of a normal distribution, in standard deviations
_RANGE = 1e-4  # noise is at least this share of the peak: images without noise stay finite
_HOLE = 0.5  # share of a band's pixels that may be missing
_CORE, _FLAT = 4, 4  # so many pixels of exactly the highest value, so near to the middle, are clipped


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
        """Give some of the cutouts."""
        return Planes(self.image[rows], self.psf[rows], self.usable[rows], self.has_psf[rows])


def make_planes(cutouts: NDArray[np.float32], bands: int, side: int) -> Planes:
    """Bring cutouts to a common form.

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
    value: these would be clipped.
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
    clipped = (around == np.where(known, images, -np.inf).max((2, 3))[:, :, None, None]).sum((2, 3)) >= _FLAT
    with np.errstate(invalid="ignore"):
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
    """Crop to ``side`` at most: the border of what is left tells the background."""
    return _fitted(np.asarray(images, np.float32), min(side, *images.shape[2:]))


def _ring(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixels of the outermost 2 px, (n, bands, pixels)."""
    inside = np.ones(images.shape[2:], bool)
    inside[_RING:-_RING, _RING:-_RING] = False
    return images[:, :, inside]


def _quartiles(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give median and lower quartile along the last axis, of what is not NaN; NaN of nothing."""
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
