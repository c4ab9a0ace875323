"""Measurement of the candidates of an exposure on its pixels."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.measure.photometry import Flux, aperture_flux, fit_flux, point_or_trail, shaped_flux
from kernels.measure.surroundings import blob_pixels, sharpness
from kernels.measure.vetoes.evidence import Evidence, weigh
from kernels.measure.vetoes.subtraction import lobes
from kernels.trails.geometry import DetectedSegment, Footprint, Segment, comes_near, outshines, stadium
from kernels.trails.scene import Scene
from kernels.trails.trail_fit import TrailFit, fit_trail, robust_level, unfitted
from schemas.dia_source import DetectionFlag
from schemas.pixels import MaskPlane

_DARK_FRACTION = 2.0  # ratio of negative to positive light
_BLOB_PIXELS = 9
_TOO_LONG = 0.25  # share of the image's shorter side
_EXPLAINED = np.uint16(MaskPlane.SAT | MaskPlane.EDGE)
"""Planes with a flag of their own."""


@dataclass(frozen=True)
class Detection:
    """Measurements of one candidate, in pixel units.

    Attributes
    ----------
    fit
        Trail fit.
    trail
        Flux with error and chi squared; if the fit failed, the flux at the first estimate.
    matched
        Flux of a trail with the position, length and angle of the fit, which are taken as known.
    psf, aperture
        Fluxes of a point-source fit at the centre and inside the aperture.
    sharpness, negative_fraction, masked_fraction
        See `schemas.dia_source`; NaN if not known.
    evidence
        Evidence for known causes of false streaks.
    flags
        Flags that follow from the pixels.
    """

    fit: TrailFit
    trail: Flux
    matched: Flux
    psf: Flux
    aperture: Flux
    sharpness: float
    negative_fraction: float
    masked_fraction: float
    evidence: Evidence
    flags: DetectionFlag

    @property
    def shines(self) -> bool:
        """Return whether the candidate has positive flux and is not the rim of a dark residual."""
        dark = self.negative_fraction > _DARK_FRACTION
        return self.trail.value > 0 and math.isfinite(self.trail.error) and not dark

    @property
    def snr(self) -> float:
        """Return the larger of the matched-filter S/N as a point and as a trail."""
        return max((one.value / one.error for one in (self.matched, self.psf) if one.error > 0), default=0.0)

    @property
    def light(self) -> Flux:
        """Return the flux of the source as a point or trail; without an error if the fit failed."""
        if not self.fit.converged:
            return Flux(self.trail.value, math.nan)
        return point_or_trail(self.psf, self.trail) if self.psf.error > 0 else self.trail


def measure_candidate(
    scene: Scene, mask: NDArray[np.uint16], start: Segment, half_width: float, least_length: float = 0.0
) -> Detection:
    """Return the measurements of one candidate.

    Parameters
    ----------
    scene, mask
        Image with its PSF and noise, and its mask plane, (ny, nx).
    start
        First estimate of the trail, px.
    half_width
        Half width of the aperture, px.
    least_length
        Least length of a successful fit, px.
    """
    return _measured(scene.at(start.x, start.y), mask, start, half_width, least_length)


def _measured(
    scene: Scene,
    mask: NDArray[np.uint16],
    start: Segment,
    half_width: float,
    least_length: float = 0.0,
    flashes: bool = False,
) -> Detection:
    """Return the measurements of a candidate on an image with the PSF and the noise at its position.

    The model is a line of uniform brightness, unlike flashes in line. If the fit explains less than the line from the
    first to the last flash, it has moved away from them and counts as failed.
    """
    fit = fit_trail(scene, start)
    matched = shaped_flux(scene, fit.seen, fit.shape)
    short = fit.segment.length < least_length
    if short or flashes:
        line = unfitted(scene, start)
        estimate = shaped_flux(scene, line.seen, line.shape)
        if short or matched.value * estimate.error < _WORSE * estimate.value * matched.error:
            fit, matched = line, estimate
    segment = fit.segment
    trail = Flux(fit.flux, float(fit.errors[0]), fit.chi2) if fit.converged else matched
    # A negative lobe lowers the level of the fit.
    level = robust_level(fit.seen)
    light = lobes(scene, segment, level)
    evidence = weigh(scene, mask, segment, trail.value, level, light)
    masked_fraction, flags = _footprint_flags(scene, mask, segment, half_width)
    level_err = fit.level_err if fit.converged else 0.0
    return Detection(
        fit=fit,
        trail=trail,
        matched=matched,
        psf=fit_flux(scene, fit.seen, segment._replace(length=0.0)),
        aperture=aperture_flux(scene, segment, half_width, fit.level, level_err),
        sharpness=sharpness(scene, fit),
        negative_fraction=light.fraction,
        masked_fraction=masked_fraction,
        evidence=evidence,
        flags=flags | evidence.flags | _fit_flags(scene, fit),
    )


def _footprint_flags(
    scene: Scene, mask: NDArray[np.uint16], segment: Segment, margin: float
) -> tuple[float, DetectionFlag]:
    """Return the share of unusable pixels under the aperture, and the resulting flags."""
    ny, nx = scene.shape
    x1, y1, x2, y2 = segment.ends()
    area = stadium((ny, nx), segment, margin)
    planes, masked, unusable = _states(mask, scene.usable, area.y, area.x)
    flags = DetectionFlag(0)
    outside = min(x1, x2) < margin or min(y1, y2) < margin or max(x1, x2) > nx - 1 - margin
    if outside or max(y1, y2) > ny - 1 - margin or planes & MaskPlane.EDGE:
        flags |= DetectionFlag.EDGE
    if planes & MaskPlane.SAT:
        flags |= DetectionFlag.SATURATED
    if masked:
        flags |= DetectionFlag.MASKED
    border = min(x1, x2, y1, y2, nx - 1 - max(x1, x2), ny - 1 - max(y1, y2))
    leaves = border < scene.fwhm_px / 2 and segment.length > 2 * scene.fwhm_px
    if leaves or segment.length > _TOO_LONG * min(ny, nx):
        flags |= DetectionFlag.CROSSES_DETECTOR
    return unusable / area.y.size if area.y.size else 1.0, flags


@njit(cache=True, nogil=True)
def _states(
    mask: NDArray[np.uint16], usable: NDArray[np.bool_], y: NDArray[np.int32], x: NDArray[np.int32]
) -> tuple[int, bool, int]:
    """Return the mask planes of pixels, whether any is unusable without one of `_EXPLAINED`, and how many are."""
    planes, masked, unusable = 0, False, 0
    for i in range(y.shape[0]):
        here = mask[y[i], x[i]]
        planes |= int(here)
        if not usable[y[i], x[i]]:
            unusable += 1
            masked |= (here & _EXPLAINED) == 0
    return planes, masked, unusable


def _fit_flags(scene: Scene, fit: TrailFit) -> DetectionFlag:
    flags = DetectionFlag(0)
    if blob_pixels(scene.usable, fit.segment, 10 + 2.5 * scene.fwhm_px) >= _BLOB_PIXELS:
        flags |= DetectionFlag.NEAR_BRIGHT_STAR
    if not fit.converged:
        flags |= DetectionFlag.FIT_FAILED
    return flags


_KEPT = 0.7  # share of a satellite's length: a shorter fit has found only a piece of it
_WORSE = 0.9  # share of the S/N of the line from the first to the last flash: a fit with less has moved away from it
_SHARP = DetectionFlag.COSMIC_RAY | DetectionFlag.HOT_COLUMN
_LONG_ARTEFACTS = DetectionFlag.BLEED | DetectionFlag.GHOST | DetectionFlag.EDGE


def measure_candidates(
    scene: Scene,
    mask: NDArray[np.uint16],
    trails: Sequence[DetectedSegment],
    widths: Sequence[float],
    aperture: float,
    flashes: Sequence[bool],
) -> list[Detection]:
    """Return the measurements of all candidates, without the light of satellites unless a candidate outshines them.

    Parameters
    ----------
    scene, mask
        Image with its PSF and noise, and its mask plane, (ny, nx). Its usable pixels are changed during the call and
        restored at the end, since a copy would be as large as the image.
    trails
        First estimates, px, with their S/N.
    widths
        Distance from each trail within which its light spoils others, px: 0 if it is not a satellite.
    aperture
        Half width of the aperture, px.
    flashes
        Which satellites are flashes in line.

    Returns
    -------
    list of Detection
        Detections in the given order. Those within one FWHM of a satellite's light have the flag SATELLITE.
    """
    starts = [one.line for one in trails]
    scenes = scene.at_each([start[:2] for start in starts])
    found: dict[int, Detection] = {}
    satellites: list[tuple[Segment, float]] = []
    spoiling = np.flatnonzero(np.asarray(widths)).tolist()
    for i in spoiling:
        found[i] = _measured(scenes[i], mask, starts[i], aperture, _KEPT * starts[i].length, flashes[i])
        satellites.append((found[i].fit.segment, widths[i] + scene.fwhm_px))
    light = [stadium(scene.shape, segment, reach - scene.fwhm_px) for segment, reach in satellites]
    for hidden, those in _by_what_hides(trails, spoiling, scene.fwhm_px):
        with _left_out(scene.usable, [light[k] for k in hidden]):
            for i in those:
                one = _measured(scenes[i], mask, starts[i], aperture)
                across = any(comes_near(one.fit.segment, other, reach) for other, reach in satellites)
                found[i] = replace(one, flags=one.flags | DetectionFlag.SATELLITE) if across else one
    return [found[i] for i in range(len(starts))]


def _by_what_hides(
    trails: Sequence[DetectedSegment], spoiling: Sequence[int], fwhm_px: float
) -> list[tuple[tuple[int, ...], list[int]]]:
    """Return the other trails, grouped by the spoiling trails, numbered from 0, that hide them.

    A trail is hidden by the spoiling trails that it does not outshine; it outshines only trails that it lies on.
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for i in sorted(set(range(len(trails))) - set(spoiling)):
        one = trails[i]
        hidden = tuple(
            k
            for k, other in enumerate(trails[j] for j in spoiling)
            if not (outshines(one, other, fwhm_px) and comes_near(one.line, other.line, 2 * fwhm_px))
        )
        alike.setdefault(hidden, []).append(i)
    return list(alike.items())


@contextmanager
def _left_out(usable: NDArray[np.bool_], areas: Sequence[Footprint]) -> Iterator[None]:
    """Context in which the pixels of some areas are unusable."""
    before = [usable[area.y, area.x] for area in areas]
    for area in areas:
        usable[area.y, area.x] = False
    try:
        yield
    finally:
        for area, values in zip(areas, before, strict=True):
            usable[area.y, area.x] = values


def confirmed_class(found: Detection, trail_class: str) -> str:
    """Return the class of a candidate, or none if another cause explains a trail as long as a satellite's."""
    # The evidence for other causes does not apply to a mostly dark line.
    other = _SHARP if trail_class == "glint_trail" else _SHARP | _LONG_ARTEFACTS
    return "" if found.evidence.flags & other else trail_class
