"""Lines of saturated stars: bleed columns and diffraction spikes."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from schemas.pixels import UNUSABLE, MaskPlane

_BORDER, _UNUSABLE = np.uint16(MaskPlane.EDGE), np.uint16(UNUSABLE)
_THINNEST = 5  # px: anything thinner is a bad column or a cosmic ray
_WIDEST = 300  # px: anything wider is not a star
_BRIDGE = 0.4  # fraction of the line's brightness that must continue up to the mask
_MOST = 2.0


def star_on_axis(scene: Scene, mask: NDArray[np.uint16], axis: Segment, slack: float, level: float) -> float:
    """Return the evidence for a line of light that begins at a saturated star.

    Parameters
    ----------
    scene, mask
        Image and mask plane, (ny, nx).
    axis
        The line, px.
    slack
        Share of the star's half width by which the line may pass beside its middle.
    level
        Local background, pixel units.

    Returns
    -------
    float
        0 to 2; 1 and above if it does. The product of two things: how near the line, carried on, passes the middle of
        a masked area (half of its widths either side; the mask of a star is symmetric, with bars and all), and how
        much of the line's brightness goes on up to the rim of that mask.

    Notes
    -----
    A masked area is at least 5 px thick, is not the border of the image, and begins no further from the line than
    1.5 times its own width, or 4 FWHM.
    """
    x, y, length, angle = axis
    numbers = (float(x), float(y), float(length), math.radians(angle))
    return float(
        _along(scene.pixels, scene.usable, mask, *numbers, scene.fwhm_px, slack, float(level), scene.noise.sigma)
    )


@njit(cache=True, nogil=True)
def _state(mask: NDArray[np.uint16], x: float, y: float) -> int:
    """Return 0 for a usable pixel, 1 for a masked one, 2 for the border and beyond."""
    row, column = math.floor(y + 0.5), math.floor(x + 0.5)
    if row < 0 or column < 0 or row >= mask.shape[0] or column >= mask.shape[1] or mask[row, column] & _BORDER:
        return 2
    return 1 if mask[row, column] & _UNUSABLE else 0


@njit(cache=True, nogil=True)
def _walk(mask: NDArray[np.uint16], x: float, y: float, dx: float, dy: float, most: int) -> int:
    """Count the masked pixels from a place in a direction; -1 if they end at the border, or not within ``most``."""
    for step in range(1, most + 1):
        state = _state(mask, x + step * dx, y + step * dy)
        if state == 2:
            return -1
        if state == 0:
            return step - 1
    return -1


@njit(cache=True, nogil=True)
def _light(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    x: float,
    y: float,
    dx: float,
    dy: float,
    low: float,
    high: float,
    level: float,
) -> tuple[float, int]:
    """Return the mean brightness and number of the usable pixels between two places on a line 3 px wide."""
    total, count = 0.0, 0
    for step in range(math.floor(high - low) + 1):
        for side in range(-1, 2):
            px, py = x + (low + step) * dx - side * dy, y + (low + step) * dy + side * dx
            row, column = math.floor(py + 0.5), math.floor(px + 0.5)
            inside = 0 <= row < usable.shape[0] and 0 <= column < usable.shape[1]
            if inside and usable[row, column]:
                total += pixels[row, column] - level
                count += 1
    return total / max(count, 1), count


@njit(cache=True, nogil=True)
def _along(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    mask: NDArray[np.uint16],
    x: float,
    y: float,
    length: float,
    theta: float,
    fwhm: float,
    slack: float,
    level: float,
    noise: float,
) -> float:
    best, half = 0.0, 0.5 * length
    for turn in (1.0, -1.0):
        dx, dy = turn * math.cos(theta), turn * math.sin(theta)
        t = -half
        while t <= half + _WIDEST:
            state = _state(mask, x + t * dx, y + t * dy)
            if state == 2 and t > half:
                break
            if state != 1:
                t += 1.0
                continue
            deep = _walk(mask, x + t * dx, y + t * dy, dx, dy, _WIDEST)
            if deep < 0:
                break
            best = max(
                best,
                _evidence(pixels, usable, mask, x, y, dx, dy, half, t, deep, fwhm, slack, level, noise),
            )
            t += deep + 1.0
    return best


@njit(cache=True, nogil=True)
def _evidence(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    mask: NDArray[np.uint16],
    x: float,
    y: float,
    dx: float,
    dy: float,
    half: float,
    rim: float,
    deep: int,
    fwhm: float,
    slack: float,
    level: float,
    noise: float,
) -> float:
    """Return the evidence for a star whose mask begins ``rim`` px along the line and is ``deep`` px deep there."""
    middle_x, middle_y = x + (rim + 0.5 * deep) * dx, y + (rim + 0.5 * deep) * dy
    left = _walk(mask, middle_x, middle_y, -dy, dx, _WIDEST)
    right = _walk(mask, middle_x, middle_y, dy, -dx, _WIDEST)
    if deep + 1 < _THINNEST or left < 0 or right < 0 or left + right + 1 < _THINNEST:
        return 0.0
    gap = max(rim - half, 0.0)
    if gap > max(1.5 * max(deep, left + right), 4 * fwhm):
        return 0.0
    offset, allowed = 0.5 * abs(left - right), max(fwhm, slack * 0.5 * (left + right + 1))
    bridge = 1.0
    if gap > 1.5 * fwhm:
        shine, seen = _light(pixels, usable, x, y, dx, dy, -half, half, level)
        between, there = _light(pixels, usable, x, y, dx, dy, half + 0.5 * fwhm, rim - 1.0, level)
        if not seen or not shine > 0:
            return 0.0
        # What the noise may add is not light.
        between -= noise / math.sqrt(max(there, 1))
        bridge = min(max(between / shine / _BRIDGE, 0.0), 1.0) if there else 1.0
    return min(allowed / max(offset, allowed / _MOST), _MOST) * bridge


_TURN = 4.0  # deg, maximum angle of a long trail to the column
_SLACK = 0.6  # charge also leaves a wide core beside its centre


def bleed_evidence(scene: Scene, mask: NDArray[np.uint16], trail: Segment, level: float) -> float:
    """Return the evidence for charge that a saturated star has spilled along its column.

    Parameters
    ----------
    scene, mask
        Image in the detector's own pixels, charge moving along y, and mask plane, (ny, nx).
    trail
        Fitted trail, px; short ones need not lie along the column.
    level
        Local background, pixel units.

    Returns
    -------
    float
        0 to 2, see `kernels.measure.vetoes.star_lines`.
    """
    off = abs(trail.angle % 180.0 - 90.0)
    if trail.length * math.sin(math.radians(off)) > scene.fwhm_px and off > _TURN:
        return 0.0
    return star_on_axis(scene, mask, trail._replace(angle=90.0), _SLACK, level)


_SHORTEST_FWHM = 1.5  # minimum for a trail with a direction
_SPIKE_SLACK = 0.3


def spike_evidence(scene: Scene, mask: NDArray[np.uint16], trail: Segment, level: float) -> float:
    """Return the evidence for a diffraction spike: a trail that points at the middle of a masked star.

    Parameters
    ----------
    scene, mask
        Image and mask plane, (ny, nx).
    trail
        Fitted trail, px. Spikes have no direction of their own here: cameras and their mounts differ.
    level
        Local background, pixel units.

    Returns
    -------
    float
        0 to 2, see `kernels.measure.vetoes.star_lines`; 0 below 1.5 FWHM, where a trail has no direction.
    """
    if trail.length < _SHORTEST_FWHM * scene.fwhm_px:
        return 0.0
    return star_on_axis(scene, mask, trail, _SPIKE_SLACK, level)
