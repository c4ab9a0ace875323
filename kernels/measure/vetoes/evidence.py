"""Evidence for each known cause of false streaks, and the candidates refused for it."""

import math
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.measure.vetoes.crosstalk import crosstalk_evidence
from kernels.measure.vetoes.detector_defects import cosmic_ray_evidence, hot_column_evidence
from kernels.measure.vetoes.star_lines import bleed_evidence, spike_evidence
from kernels.measure.vetoes.subtraction import Lobes, dipole_evidence, edge_evidence
from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.trails.geometry import Segment, stadium
from kernels.trails.scene import Scene
from schemas.dia_source import CAUSES, DetectionFlag
from schemas.summary import CauseCount

_NEAR_FWHM, _FAR_FWHM = 2.0, 5.0  # from the trail

_CLIP = 3.0  # sigma; limit for stars beside the trail

_SHARE = 0.35  # of the trail's brightness: minimum for its surroundings

_SURE = 4.0  # sigma

_LEAST = 30  # pixels


class Evidence(NamedTuple):
    """Evidence for each of `schemas.dia_source.CAUSES`, in that order, 0 to 2.5; at 1 and above its flag is set."""

    spike: float
    bleed: float
    dipole: float
    cosmic_ray: float
    hot_column: float
    ghost: float
    edge: float

    @property
    def flags(self) -> DetectionFlag:
        """Return the causes that are more likely than not."""
        flags = DetectionFlag(0)
        for value, flag in zip(self, FLAGS, strict=True):
            if value >= 1:
                flags |= flag
        return flags


FLAGS = tuple(flag for _, flag, _ in CAUSES)
"""Flag of each field of `Evidence`."""


def weigh(scene: Scene, mask: NDArray[np.uint16], trail: Segment, flux: float, level: float, light: Lobes) -> Evidence:
    """Measure the evidence for each cause.

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
        ghost=max(ghost_evidence(scene, trail, flux), crosstalk_evidence(scene, trail)),
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
"""Causes, from `schemas.dia_source.CAUSES`, that are sufficient by themselves. Each costs fewer than 0.3 % of true
streaks in any range of S/N and length (docs/measured/measurement.md); the others cost more, and only set a flag."""

LEAST_EVIDENCE = 1.5
"""Minimum evidence to refuse a candidate; the flag is set from 1 on."""


def refused(table: pa.Table) -> NDArray[np.bool_]:
    """Return which measured candidates, rows of `schemas.dia_source`, are refused; satellites never are."""
    evidence = np.stack([table[f"{name}Evidence"].to_numpy() for name in REFUSING])
    return refused_by(evidence, np.array([name != "" for name in table["trailClass"].to_pylist()], np.bool_))


def refused_by(evidence: NDArray[np.floating], classed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which candidates are refused, (n,): by the (causes, n) evidence for `REFUSING` and by their classes."""
    return np.asarray((evidence >= LEAST_EVIDENCE).any(0) & ~classed)


def ghost_evidence(scene: Scene, trail: Segment, flux: float) -> float:
    """Return the evidence for smooth light: a trail no brighter than its surroundings on both sides.

    Parameters
    ----------
    scene
        Image.
    trail, flux
        Fitted trail, px and pixel units.

    Returns
    -------
    float
        0 to 2; the lesser of two ratios: the level of the darker side, 2 to 5 FWHM from the trail, above the
        background, over 0.35 of the brightness of the trail's ridge, and its S/N over 4.
    """
    near, far = _NEAR_FWHM * scene.fwhm_px, _FAR_FWHM * scene.fwhm_px
    area = stadium(scene.shape, trail, far)
    sigma = scene.noise.sigma
    x, y, length, angle = trail
    means, counts = _sides(
        scene.pixels, scene.usable, area.y, area.x, float(x), float(y), float(length), math.radians(angle), near,
        float(scene.background), _CLIP * sigma,
    )  # fmt: skip
    ridge = flux * ridge_brightness(scene.psf, length)
    if counts.min() < _LEAST or not ridge > 0:
        return 0.0
    # Neighbouring pixels are not independent: the sum over all lags is how many count as one.
    error = sigma * math.sqrt(max(float(scene.noise.correlation.sum()), 1.0) / float(counts.min()))
    level = float(means.min())
    return max(0.0, min(level / (_SHARE * ridge), level / error / _SURE, 2.0))


def ridge_brightness(psf: GaussianMixture, length: float) -> float:
    """Return the brightness at the centre of a trail of unit flux, per px^2."""
    total = 0.0
    for weight, width in zip(psf.weights.tolist(), psf.sigmas.tolist(), strict=True):
        across = 1 / (math.sqrt(2 * math.pi) * width)
        along = math.erf(length / (2 * math.sqrt(2) * width)) / length if length > 0.01 else across
        total += weight * along * across
    return total


@njit(cache=True, nogil=True)
def _sides(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    y: NDArray[np.int32],
    x: NDArray[np.int32],
    x0: float,
    y0: float,
    length: float,
    theta: float,
    near: float,
    background: float,
    clip: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean level of the pixels farther than ``near`` from a trail, on either side, and their numbers."""
    cosine, sine = math.cos(theta), math.sin(theta)
    total, count = np.zeros(2), np.zeros(2, np.int64)
    for i in range(y.shape[0]):
        if not usable[y[i], x[i]]:
            continue
        dx, dy = x[i] - x0, y[i] - y0
        beyond, across = max(abs(dx * cosine + dy * sine) - 0.5 * length, 0.0), dy * cosine - dx * sine
        if beyond * beyond + across * across >= near * near:
            side = 1 if across > 0 else 0
            total[side] += min(max(pixels[y[i], x[i]] - background, -clip), clip)
            count[side] += 1
    return total / np.maximum(count, 1), count
