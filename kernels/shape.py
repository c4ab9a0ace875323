"""What a detection and its surroundings look like, beyond the fit."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.footprint import Footprint, Segment, stadium
from kernels.sandwich import Noise
from kernels.scene import Scene, trail_shape
from kernels.trail_fit import TrailFit

_CORE = 0.75  # px from the axis of the trail
_BEYOND = 2.0  # sigma
_NEAR_FWHM = 3.0
_BLOB = 1  # px; what is left of a masked area when so much is taken off all around is a blob, not a column or a ray


class Lobes(NamedTuple):
    """Bright and dark light near a trail, in the smoothed image.

    Attributes
    ----------
    positive, negative
        Light beyond 2 sigma, sigma.
    lowest
        The darkest pixel, sigma.
    beside
        Share of the trail's length, in steps of about one FWHM, that has a pixel below -2 sigma beside it.
    """

    positive: float
    negative: float
    lowest: float
    beside: float

    @property
    def fraction(self) -> float:
        """Negative over positive light, 10 at most: about 1 for a dipole, near 0 for a source; NaN without light."""
        if not self.positive and not self.negative:
            return math.nan
        return min(self.negative / max(self.positive, 1e-9), 10.0)


def lobes(scene: Scene, segment: Segment, level: float) -> Lobes:
    """Compare the light above and below the level near a trail.

    Parameters
    ----------
    scene
        Image. It is smoothed by a Gaussian as wide as its PSF first.
    segment
        The trail, px. Pixels within 3 FWHM of it are looked at.
    level
        Local background, pixel units.
    """
    sigma = scene.fwhm_px / 2.3548
    reach = math.ceil(2.5 * sigma)
    offsets = np.arange(-reach, reach + 1.0)
    kernel = np.exp(-0.5 * np.square(offsets / sigma))
    kernel /= kernel.sum()
    area = stadium(scene.shape, segment, _NEAR_FWHM * scene.fwhm_px)
    spread = _spread(kernel, scene.noise)
    if not area.y.size or not spread > 0:
        return Lobes(0.0, 0.0, 0.0, 0.0)
    smooth = _smooth(scene.pixels, scene.usable, area.y, area.x, np.outer(kernel, kernel), float(level)) / spread
    positive, negative = np.maximum(smooth - _BEYOND, 0).sum(), np.maximum(-smooth - _BEYOND, 0).sum()
    return Lobes(float(positive), float(negative), float(smooth.min()), _beside(smooth, area, segment, scene.fwhm_px))


def _beside(smooth: NDArray[np.float64], area: Footprint, segment: Segment, fwhm_px: float) -> float:
    """Share of the steps of about one FWHM along a trail in which a pixel is below -2 sigma."""
    dark = smooth < -_BEYOND
    steps = max(1, round(segment.length / fwhm_px))
    theta = math.radians(segment.angle)
    along = (area.x[dark] - segment.x) * math.cos(theta) + (area.y[dark] - segment.y) * math.sin(theta)
    step = np.floor((along / max(segment.length, 1e-9) + 0.5) * steps)
    return len(np.unique(np.clip(step, 0, steps - 1))) / steps


def _spread(kernel: NDArray[np.float64], noise: Noise) -> float:
    """Give what `kernels.matched_filter.filtered_noise` would for the filter ``kernel`` along both axes, faster."""
    reach = noise.correlation.shape[0] // 2
    own = np.correlate(np.pad(kernel, reach), kernel, "full")
    near = own[len(own) // 2 - reach : len(own) // 2 + reach + 1]
    return noise.sigma * math.sqrt(max(float(near @ noise.correlation @ near), 0.0))


def sharpness(scene: Scene, fit: TrailFit) -> float:
    """Compare the light within 0.75 px of the axis of a fitted trail with that of the model there.

    Returns
    -------
    float
        1 for the PSF; about 2 to 3 for a cosmic ray; NaN if no usable pixel lies there or the flux is not positive.
    """
    footprint, segment = fit.seen.footprint, fit.segment
    theta = math.radians(segment.angle)
    dx, dy = footprint.x - segment.x, footprint.y - segment.y
    along, across = dx * math.cos(theta) + dy * math.sin(theta), dy * math.cos(theta) - dx * math.sin(theta)
    core = np.hypot(np.maximum(np.abs(along) - 0.5 * segment.length, 0), across) <= _CORE
    core &= scene.usable[footprint.y, footprint.x]
    expected = fit.flux * trail_shape(scene, footprint, segment)[core].sum()
    return float((fit.seen.values[core] - fit.level).sum() / expected) if expected > 0 else math.nan


def blob_pixels(usable: NDArray[np.bool_], segment: Segment, radius: float) -> int:
    """Count the pixels near a trail that lie inside large masked areas.

    Parameters
    ----------
    usable : (ny, nx)
        Pixels that are not masked.
    segment, radius
        The trail, and how far from it to look, px.

    Returns
    -------
    int
        Masked pixels whose eight neighbours are masked too: none in a column, a cosmic ray or a bleed of 2 px width.
    """
    area = stadium((usable.shape[0], usable.shape[1]), segment, radius)
    return int(_inner(usable, area.y, area.x))


@njit(cache=True, nogil=True)
def _inner(usable: NDArray[np.bool_], y: NDArray[np.int32], x: NDArray[np.int32]) -> int:
    count = 0
    for i in range(y.shape[0]):
        row, column = y[i], x[i]
        if row < _BLOB or column < _BLOB or row >= usable.shape[0] - _BLOB or column >= usable.shape[1] - _BLOB:
            continue
        if not usable[row - _BLOB : row + _BLOB + 1, column - _BLOB : column + _BLOB + 1].any():
            count += 1
    return count


@njit(cache=True, nogil=True)
def _smooth(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    y: NDArray[np.int32],
    x: NDArray[np.int32],
    template: NDArray[np.float64],
    level: float,
) -> NDArray[np.float64]:
    """Filter the image, less its level, at the given pixels; what is not usable counts as level."""
    reach = template.shape[0] // 2
    out = np.zeros(y.shape[0])
    for i in range(y.shape[0]):
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                row, column = y[i] + dy, x[i] + dx
                if 0 <= row < image.shape[0] and 0 <= column < image.shape[1] and usable[row, column]:
                    out[i] += template[dy + reach, dx + reach] * (image[row, column] - level)
    return out
