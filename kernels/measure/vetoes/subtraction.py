"""What an imperfect subtraction leaves: dipoles, and borders of detector and template."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.measure.surroundings import Lobes
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from schemas.pixels import MaskPlane

_FRACTION = 0.5  # dark over bright light
_DEPTH = 4.0  # sigma of the smoothed image
_BESIDE = 0.5  # share of the trail that must have dark light beside it


def dipole_evidence(light: Lobes) -> float:
    """Say how much speaks for a dipole: dark light of comparable strength, along most of the bright light.

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
    """Say how much speaks for an edge taken for a trail: one that runs along the border of the image.

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
    """1 for the border and beyond, else 0."""
    row, column = math.floor(y + 0.5), math.floor(x + 0.5)
    if row < 0 or column < 0 or row >= mask.shape[0] or column >= mask.shape[1]:
        return 1
    return 1 if mask[row, column] & _BORDER else 0
