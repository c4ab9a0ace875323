"""All candidates of an exposure: satellites, and what their light does not spoil."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kernels.detection import Detection, measure_candidate
from kernels.footprint import Segment, comes_near, erase_stadium
from kernels.scene import Scene
from schemas.dia_source import DetectionFlag

_KEPT = 0.7  # of a satellite's length: a fit that keeps less has settled on a piece of it
_SHARP = DetectionFlag.COSMIC_RAY | DetectionFlag.HOT_COLUMN
_LONG_ARTEFACTS = DetectionFlag.BLEED | DetectionFlag.GHOST | DetectionFlag.EDGE


def measure_candidates(
    scene: Scene, mask: NDArray[np.uint16], starts: Sequence[Segment], widths: Sequence[float], aperture: float
) -> list[Detection]:
    """Measure satellites first; their light is no part of the other detections.

    Parameters
    ----------
    scene, mask
        Image with its PSF and noise, and its mask plane, (ny, nx).
    starts
        First estimates, px.
    widths
        How far from each its light spoils others, px: 0 if it is no satellite.
    aperture
        Half width of the aperture, px.

    Returns
    -------
    list of Detection
        In the order given. Those that come within one FWHM of a satellite's light have the flag SATELLITE.
    """
    found: dict[int, Detection] = {}
    spoiled = scene._replace(usable=scene.usable.copy()) if any(widths) else scene
    satellites: list[tuple[Segment, float]] = []
    for i in np.flatnonzero(np.asarray(widths)).tolist():
        found[i] = measure_candidate(scene, mask, starts[i], aperture, least_length=_KEPT * starts[i].length)
        satellites.append((found[i].fit.segment, widths[i] + scene.fwhm_px))
    for segment, reach in satellites:
        erase_stadium(spoiled.usable, segment, reach - scene.fwhm_px)
    for i, start in enumerate(starts):
        if i not in found:
            one = measure_candidate(spoiled, mask, start, aperture)
            across = any(comes_near(one.fit.segment, other, reach) for other, reach in satellites)
            found[i] = replace(one, flags=one.flags | DetectionFlag.SATELLITE) if across else one
    return [found[i] for i in range(len(starts))]


def confirmed_class(found: Detection, trail_class: str) -> str:
    """Give the class of a candidate, or none if it is something else that is as long as a satellite's trail."""
    # What speaks for the other causes says nothing of a line that is dark for the most part.
    other = _SHARP if trail_class == "glint_trail" else _SHARP | _LONG_ARTEFACTS
    return "" if found.evidence.flags & other else trail_class
