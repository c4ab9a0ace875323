"""Bleed columns of saturated stars."""

import math

import numpy as np
from numpy.typing import NDArray

from kernels.footprint import Segment
from kernels.scene import Scene
from kernels.vetoes.star_axis import star_on_axis

_TURN = 4.0  # deg that a long trail may be off the column
_SLACK = 0.6  # charge leaves a wide core beside its middle, too


def bleed_evidence(scene: Scene, mask: NDArray[np.uint16], trail: Segment, level: float) -> float:
    """Say how much speaks for charge that a saturated star has spilled along its column.

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
        0 to 2, see `kernels.vetoes.star_axis`.
    """
    off = abs(trail.angle % 180.0 - 90.0)
    if trail.length * math.sin(math.radians(off)) > scene.fwhm_px and off > _TURN:
        return 0.0
    return star_on_axis(scene, mask, trail._replace(angle=90.0), _SLACK, level)
