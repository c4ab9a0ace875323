"""Traces of an imperfect subtraction: dark and bright lobes, dipoles, borders of detector and template."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.trails.geometry import Segment, stadium
from kernels.trails.scene import Scene
from schemas.pixels import MaskPlane

_BEYOND = 2.0  # sigma
_LOBE_FWHM = 3.0  # radius of the light that is compared

_FRACTION = 0.5  # dark over bright light
_DEPTH = 4.0  # sigma of the smoothed image
_BESIDE = 0.5  # fraction of the trail that must have dark light beside it


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
        """Return negative over positive light, at most 10: near 1 for a dipole, 0 for a source; NaN without light."""
        if not self.positive and not self.negative:
            return math.nan
        return min(self.negative / max(self.positive, 1e-9), 10.0)


def dipole_evidence(light: Lobes) -> float:
    """Return the evidence for a dipole: dark light of comparable strength, along most of the bright light.

    Returns
    -------
    float
        0 to 2; the least of three ratios: dark over bright light over 0.5, depth of the darkest pixel over 4 sigma, and
        the share of the trail's length with dark light beside it over 0.5. A hole beside a long trail is another
        star's, and no dipole.
    """
    if not light.negative:
        return 0.0
    dark = light.negative / max(light.positive, 1e-9)
    return float(max(0.0, min(dark / _FRACTION, -light.lowest / _DEPTH, light.beside / _BESIDE, 2.0)))


_BORDER = np.uint16(MaskPlane.EDGE)
_NEAR_FWHM = 2.0
_SHARE = 0.5  # of the trail


def edge_evidence(scene: Scene, mask: NDArray[np.uint16], trail: Segment) -> float:
    """Return the evidence for an edge taken for a trail: one that runs along the border of the image.

    Parameters
    ----------
    scene, mask
        Image and mask plane, (ny, nx); the border is the last pixel of either, or of the plane EDGE.
    trail
        Fitted trail, px.

    Returns
    -------
    float
        0 to 2: the share of the trail that has the border within 2 FWHM on one side, over 0.5.
    """
    x, y, length, angle = trail
    near = max(2, math.ceil(_NEAR_FWHM * scene.fwhm_px))
    return float(_share(mask, float(x), float(y), float(length), math.radians(angle), near)) / _SHARE


@njit(cache=True, nogil=True)
def _share(mask: NDArray[np.uint16], x: float, y: float, length: float, theta: float, near: int) -> float:
    cosine, sine = math.cos(theta), math.sin(theta)
    steps = int(length) + 1
    left, right = 0, 0
    for step in range(steps):
        along = (step + 0.5) / steps * length - 0.5 * length
        px, py = x + along * cosine, y + along * sine
        left += _borders(mask, px - near * sine, py + near * cosine)
        right += _borders(mask, px + near * sine, py - near * cosine)
    return max(left, right) / steps


@njit(cache=True, nogil=True)
def _borders(mask: NDArray[np.uint16], x: float, y: float) -> int:
    """Return 1 for the border and beyond, else 0."""
    row, column = math.floor(y + 0.5), math.floor(x + 0.5)
    if row < 0 or column < 0 or row >= mask.shape[0] or column >= mask.shape[1]:
        return 1
    return 1 if mask[row, column] & _BORDER else 0


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
    area = stadium(scene.shape, segment, _LOBE_FWHM * scene.fwhm_px)
    correlation = np.ascontiguousarray(scene.noise.correlation, np.float64)
    template, spread = _filter(scene.fwhm_px, correlation.shape[0], correlation.tobytes())
    spread *= scene.noise.sigma
    if not area.y.size or not spread > 0:
        return Lobes(0.0, 0.0, 0.0, 0.0)
    x, y, length, angle = segment
    line = (float(x), float(y), float(length), math.radians(angle))
    steps = max(1, round(length / scene.fwhm_px))
    positive, negative, lowest, dark = _compared(
        scene.pixels, scene.usable, area.y, area.x, template, float(level), spread, line, steps
    )
    return Lobes(positive, negative, lowest, dark / steps)


@lru_cache(maxsize=32)
def _filter(fwhm_px: float, side: int, correlation: bytes) -> tuple[NDArray[np.float64], float]:
    """Return a Gaussian as wide as a PSF, and what it leaves of noise of deviation 1.

    The latter is that of `kernels.trails.matched_filter`, faster.
    """
    sigma = fwhm_px / 2.3548
    offsets = np.arange(-math.ceil(2.5 * sigma), math.ceil(2.5 * sigma) + 1.0)
    kernel = np.exp(-0.5 * np.square(offsets / sigma))
    kernel /= kernel.sum()
    reach = side // 2
    own = np.correlate(np.pad(kernel, reach), kernel, "full")
    near = own[len(own) // 2 - reach : len(own) // 2 + reach + 1]
    left = float(near @ np.frombuffer(correlation).reshape(side, side) @ near)
    return np.outer(kernel, kernel), math.sqrt(max(left, 0.0))


@njit(cache=True, nogil=True)
def _compared(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    y: NDArray[np.int32],
    x: NDArray[np.int32],
    template: NDArray[np.float64],
    level: float,
    spread: float,
    line: tuple[float, float, float, float],
    steps: int,
) -> tuple[float, float, float, int]:
    """Return the fields of `Lobes`, the last as a number of steps; the angle of the line is in radians."""
    x0, y0, length, theta = line
    cosine, sine = math.cos(theta), math.sin(theta)
    positive, negative, lowest, dark = 0.0, 0.0, math.inf, np.zeros(steps, np.bool_)
    for i in range(y.shape[0]):
        smooth = _smooth(image, usable, y[i], x[i], template, level) / spread
        positive += max(smooth - _BEYOND, 0.0)
        negative += max(-smooth - _BEYOND, 0.0)
        lowest = min(lowest, smooth)
        if smooth < -_BEYOND:
            along = (x[i] - x0) * cosine + (y[i] - y0) * sine
            step = math.floor((along / max(length, 1e-9) + 0.5) * steps)
            dark[min(max(step, 0), steps - 1)] = True
    return positive, negative, lowest, int(dark.sum())


@njit(cache=True, nogil=True)
def _smooth(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    y: int,
    x: int,
    template: NDArray[np.float64],
    level: float,
) -> float:
    """Filter the image, less its level, at a pixel; what is not usable counts as level."""
    reach, total = template.shape[0] // 2, 0.0
    for row in range(max(0, y - reach), min(image.shape[0], y + reach + 1)):
        for column in range(max(0, x - reach), min(image.shape[1], x + reach + 1)):
            if usable[row, column]:
                total += template[row - y + reach, column - x + reach] * (image[row, column] - level)
    return total
