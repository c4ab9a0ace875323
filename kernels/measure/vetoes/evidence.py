"""Evidence for each known cause of false streaks, and what is refused for it."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.measure.surroundings import Lobes
from kernels.measure.vetoes.detector_defects import cosmic_ray_evidence, hot_column_evidence
from kernels.measure.vetoes.ghost import ghost_evidence
from kernels.measure.vetoes.star_lines import bleed_evidence, spike_evidence
from kernels.measure.vetoes.subtraction import dipole_evidence, edge_evidence
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene
from schemas.dia_source import CAUSES, DetectionFlag
from schemas.summary import CauseCount


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
    """Return whether a trail, not fitted yet, is a spike, a bleed or a column: where one is, another may be in line."""
    level = scene.background
    return (
        spike_evidence(scene, mask, trail, level) >= 1
        or bleed_evidence(scene, mask, trail, level) >= 1
        or hot_column_evidence(scene, trail) >= 1
    )


COUNTED = (*(flag for _, flag, _ in CAUSES), DetectionFlag.SATELLITE)
"""Flags that are counted."""


def count_causes(flags: NDArray[np.integer], published: NDArray[np.bool_]) -> dict[str, CauseCount]:
    """Count candidates by cause.

    Parameters
    ----------
    flags : (n,)
        Bits of `DetectionFlag`.
    published : (n,) bool
        Which of them are given.

    Returns
    -------
    dict
        Name of the flag in lower case -> counts, for every flag of `COUNTED`.
    """
    counts = {}
    for flag in COUNTED:
        has = (flags & flag.value) != 0
        name = str(flag.name).lower()
        counts[name] = CauseCount(refused=int((has & ~published).sum()), published=int((has & published).sum()))
    return counts


REFUSING = ("bleed", "cosmicRay", "hotColumn", "ghost")
"""Causes, as in `schemas.dia_source.CAUSES`, that alone are enough. Each of them costs fewer than 0.3 % of true streaks
in every range of S/N and length (docs/measured/measurement.md); the others cost more, and only set a flag."""

LEAST_EVIDENCE = 1.5
"""From here on; the flag is set from 1 on."""


def refused(table: pa.Table) -> NDArray[np.bool_]:
    """Tell which measured candidates, rows of `schemas.dia_source`, are refused; satellites never are."""
    evidence = np.stack([table[f"{name}Evidence"].to_numpy() for name in REFUSING])
    kept = np.array([name != "" for name in table["trailClass"].to_pylist()], np.bool_)
    return np.asarray((evidence >= LEAST_EVIDENCE).any(0) & ~kept)
