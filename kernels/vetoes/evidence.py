"""What speaks for each known cause of false streaks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.footprint import Segment
from kernels.scene import Scene
from kernels.shape import Lobes
from kernels.vetoes.bleed import bleed_evidence
from kernels.vetoes.cosmic_ray import cosmic_ray_evidence
from kernels.vetoes.dipole import dipole_evidence
from kernels.vetoes.edge import edge_evidence
from kernels.vetoes.ghost import ghost_evidence
from kernels.vetoes.hot_column import hot_column_evidence
from kernels.vetoes.spike import spike_evidence
from schemas.dia_source import CAUSES, DetectionFlag


class Evidence(NamedTuple):
    """For each of `schemas.dia_source.CAUSES`, in that order, 0 to 2.5; at 1 and above its flag is set."""

    spike: float
    bleed: float
    dipole: float
    cosmic_ray: float
    hot_column: float
    ghost: float
    edge: float

    @property
    def flags(self) -> DetectionFlag:
        """Causes that are more likely than not."""
        flags = DetectionFlag(0)
        for value, flag in zip(self, FLAGS, strict=True):
            if value >= 1:
                flags |= flag
        return flags


FLAGS = tuple(flag for _, flag, _ in CAUSES)
"""Flag of each field of `Evidence`."""


def weigh(scene: Scene, mask: NDArray[np.uint16], trail: Segment, flux: float, level: float, light: Lobes) -> Evidence:
    """Look for each cause.

    Parameters
    ----------
    scene, mask
        Image and mask plane, (ny, nx).
    trail, flux
        Fitted trail, px and pixel units.
    level
        Beside the trail, pixel units.
    light
        What is bright and dark near the trail.
    """
    return Evidence(
        spike=spike_evidence(scene, mask, trail, level),
        bleed=bleed_evidence(scene, mask, trail, level),
        dipole=dipole_evidence(light),
        cosmic_ray=cosmic_ray_evidence(scene, trail, flux, level),
        hot_column=hot_column_evidence(scene, trail),
        ghost=ghost_evidence(scene, trail, flux),
        edge=edge_evidence(scene, mask, trail),
    )


def is_line_artefact(scene: Scene, mask: NDArray[np.uint16], trail: Segment) -> bool:
    """Tell whether a trail, not fitted yet, is a spike, a bleed or a column: where one is, another may be in line."""
    level = scene.background
    return (
        spike_evidence(scene, mask, trail, level) >= 1
        or bleed_evidence(scene, mask, trail, level) >= 1
        or hot_column_evidence(scene, trail) >= 1
    )
