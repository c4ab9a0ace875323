"""Diffraction spikes."""

import numpy as np
from numpy.typing import NDArray

from kernels.footprint import Segment
from kernels.scene import Scene
from kernels.vetoes.star_axis import star_on_axis

_SHORTEST_FWHM = 1.5  # of a trail that has a direction
_SLACK = 0.3


def spike_evidence(scene: Scene, mask: NDArray[np.uint16], trail: Segment, level: float) -> float:
    """Say how much speaks for a diffraction spike: a trail that points at the middle of a masked star.

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
        0 to 2, see `kernels.vetoes.star_axis`; 0 below 1.5 FWHM, where a trail has no direction.
    """
    if trail.length < _SHORTEST_FWHM * scene.fwhm_px:
        return 0.0
    return star_on_axis(scene, mask, trail, _SLACK, level)
