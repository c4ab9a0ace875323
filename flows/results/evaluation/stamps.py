"""Evaluation of the shipped detector on real difference stamps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.inputs.ztf_packets import SIDE, ZtfPacket
from flows.pipeline.packet_search import (
    CENTRE,
    GAIN,
    WITHIN_PX,
    noise_correlation_of,
    packet_exposure,
    packet_planes,
    place_on_canvas,
    search_stamp,
)
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.statistics.class_scores import area_under_roc
from kernels.statistics.completeness import Share, poisson_interval
from kernels.statistics.matching import LEAST_VISIBLE, Targets, match_detections, segment_distance
from kernels.trails.geometry import DetectedSegment
from kernels.trails.injection import TrailStamp, add_light, trail_stamp, visible_stamp_share
from kernels.trails.matched_filter import template_snr
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureInfo
from schemas.settings import Settings

LOW_RB = 0.5
QUADRANT = 9_500_000
"""Number of usable pixels of a ZTF quadrant."""
LENGTHS, SNRS = (0.0, 40.0), (5.0, 30.0)
"""Ranges of length, px, and matched-filter S/N of the trails drawn into stamps."""
LENGTH_BINS = ((0, 1), (1, 10), (10, 40))
"""Length bins, px."""
_WHOLE = 0.95
_TRIES = 50


@dataclass(frozen=True)
class ScoredStamps:
    """Result of the search on one stamp.

    Attributes
    ----------
    stamp
        The stamp.
    reliability
        Reliability of the most reliable detection within 5 px of the alert; minus infinity if there is none.
    candidates
        Number of detections anywhere on it, of any reliability.
    """

    stamp: ZtfPacket
    reliability: float
    candidates: int


@dataclass(frozen=True)
class InjectedTrail:
    """Trail drawn into a stamp, and the result of its search.

    Attributes
    ----------
    trail
        The trail, px of the canvas, with its matched-filter S/N.
    visible
        Fraction of its light on usable pixels.
    reliability
        Reliability of the detection that found it; minus infinity if none did.
    elsewhere
        Reliability of the detections that are neither on it nor within 5 px of the alert.
    """

    trail: DetectedSegment
    visible: float
    reliability: float
    elsewhere: tuple[float, ...]


def score_stamps(stamps: Sequence[ZtfPacket], settings: Settings) -> tuple[ScoredStamps, ...]:
    """Search each stamp as `flows.pipeline.packet_search` does in a run on packets.

    Parameters
    ----------
    stamps
        Stamps of one survey.
    settings
        Settings of a run; every measured candidate is kept, of any reliability.

    Raises
    ------
    Misconfigured
        A model is missing.
    """
    return tuple(_score(stamp, packet_exposure(stamp), settings) for stamp in stamps)


def score_injected(stamps: Sequence[ZtfPacket], settings: Settings, seed: int = 1) -> tuple[InjectedTrail, ...]:
    """Draw a trail into each stamp, away from its alert, and search it as `score_stamps` does.

    Length is uniform in 0 to 40 px, S/N log-uniform in 5 to 30 for noise with the mean correlation of all stamps; the
    trail has the PSF used in the search of the stamp, and the Poisson noise of its light. A stamp without a position
    where half of a trail is on pixels is left out.

    Parameters
    ----------
    stamps, settings
        As in `score_stamps`.
    seed
        Seed of all trails.
    """
    correlation = noise_correlation_of(stamps)
    found = (
        _score_injected(stamp, packet_exposure(stamp), correlation, settings, np.random.default_rng([seed, n]))
        for n, stamp in enumerate(stamps)
    )
    return tuple(one for one in found if one is not None)


def _score(stamp: ZtfPacket, exposure: ExposureInfo, settings: Settings) -> ScoredStamps:
    x, y, reliability = _found(packet_planes(stamp, exposure), exposure, settings)
    near = _at_alert(x, y, stamp)
    return ScoredStamps(stamp, float(reliability[near].max()) if near.any() else -np.inf, len(x))


def _found(planes: dict[str, NDArray[Any]], exposure: ExposureInfo, settings: Settings) -> tuple[NDArray[Any], ...]:
    """Return x, y and reliability of the detections."""
    sources = search_stamp(planes, exposure, settings)[DIA_SOURCE.name].rows
    return tuple(sources[name].to_numpy() for name in ("x", "y", "reliability"))


def _at_alert(x: NDArray[np.float64], y: NDArray[np.float64], stamp: ZtfPacket) -> NDArray[np.bool_]:
    at_x, at_y = place_on_canvas(stamp)
    return np.hypot(x - at_x, y - at_y) <= WITHIN_PX


def _score_injected(
    stamp: ZtfPacket,
    exposure: ExposureInfo,
    correlation: NDArray[np.float64],
    settings: Settings,
    rng: np.random.Generator,
) -> InjectedTrail | None:
    planes = packet_planes(stamp, exposure)
    drawn = _draw_trail(rng, planes["mask"] == 0, stamp, exposure)
    if drawn is None:
        return None
    trail, unit, visible = drawn
    flux = trail.snr / template_snr(1.0, unit.pixels, exposure.noise, correlation)
    before = planes["difference"].copy()
    add_light(planes["difference"], unit, flux, GAIN, rng)
    if "science" in planes:
        planes["science"] += planes["difference"] - before
    x, y, reliability = _found(planes, exposure, settings)
    target = Targets(
        np.array(["streak"]), *(np.array([value]) for value in (trail.x, trail.y, trail.length, trail.angle, 1.0))
    )
    on = match_detections(x, y, reliability, target).target == 0
    beside = segment_distance(x, y, trail.x, trail.y, trail.length, trail.angle) > WITHIN_PX
    elsewhere = reliability[beside & ~on & ~_at_alert(x, y, stamp)]
    found = float(reliability[on].max()) if on.any() else -np.inf
    return InjectedTrail(trail, visible, found, tuple(elsewhere.tolist()))


def _draw_trail(
    rng: np.random.Generator, usable: NDArray[np.bool_], stamp: ZtfPacket, exposure: ExposureInfo
) -> tuple[DetectedSegment, TrailStamp, float] | None:
    """Draw a trail that is half on pixels and away from the alert, with its fraction on pixels; None if impossible."""
    psf = moffat_mixture(exposure.psf.fwhm_px, exposure.psf.beta)
    length, snr = float(rng.uniform(*LENGTHS)), float(np.exp(rng.uniform(*np.log(SNRS))))
    at_x, at_y = place_on_canvas(stamp)
    alert = np.array([at_x]), np.array([at_y])
    clear = WITHIN_PX + 3 * exposure.psf.fwhm_px
    for _ in range(_TRIES):
        x, y = (CENTRE + rng.uniform(-SIDE / 2, SIDE / 2, 2)).tolist()
        trail = DetectedSegment(x, y, length, float(rng.uniform(0, 180)), snr)
        if segment_distance(*alert, trail.x, trail.y, trail.length, trail.angle)[0] >= clear:
            unit = trail_stamp(trail, psf, exposure.psf.fwhm_px)
            if (visible := visible_stamp_share(usable, unit)) >= LEAST_VISIBLE:
                return trail, unit, visible
    return None


def summarise_stamps(scored: Sequence[ScoredStamps], default: float) -> dict[str, Any]:
    """Return the fraction of each group of stamps that passes, at the default reliability and others.

    Parameters
    ----------
    scored
        Stamps with their scores.
    default
        Minimum reliability of a published detection.

    Returns
    -------
    dict
        stamps, truncated; the area under the ROC curve of known asteroids against low rb, with its 95 % interval (None
        if either group is empty); at_default and thresholds: min_reliability and groups, each with n, found,
        completeness and its 95 % interval. Groups: known asteroids (brighter than the reference); low rb (< 0.5,
        brighter, no known asteroid); high rb (the same with rb >= 0.5: mostly variable stars and transients); fainter
        (than the reference: holes, never to be detected).
    """
    levels = np.array([0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
    return {
        "stamps": len(scored),
        "truncated": sum(each.stamp.truncated for each in scored),
        "low_rb": LOW_RB,
        "auc_known_asteroids_against_low_rb": _area(scored),
        "at_default": _at(scored, default),
        "thresholds": [_at(scored, float(level)) for level in levels],
    }


def summarise_injected(trails: Sequence[InjectedTrail], pixels: int, least: float) -> dict[str, Any]:
    """Return completeness for the trails drawn into stamps, and false detections beside them, at a minimum reliability.

    Parameters
    ----------
    trails
        Trails with their scores.
    pixels
        Number of pixels of all stamps.
    least
        Minimum reliability of a detection.

    Returns
    -------
    dict
        min_reliability; trails; by_snr, by_length and whole (by length, for trails at least 0.95 on pixels): lo, hi, n,
        found, completeness, interval; false: detections elsewhere; false_per_9_5_mpx with its interval (Garwood 1936):
        in the pixels of 2,393 stamps, as many as in a ZTF quadrant; stamps, being of alerts, have more sources than the
        sky.
    """
    found = np.array([one.reliability >= np.float32(least) for one in trails], bool)
    snr, length = (np.array([getattr(one.trail, name) for one in trails]) for name in ("snr", "length"))
    seen = snr >= 7
    whole = seen & (np.array([one.visible for one in trails]) >= _WHOLE)
    false = sum(bool(value >= np.float32(least)) for one in trails for value in one.elsewhere)
    scale = QUADRANT / max(pixels, 1)
    low, high = poisson_interval(false)
    return {
        "min_reliability": least,
        "trails": len(trails),
        "by_snr": [_bin(found, snr, *edges) for edges in ((5, 7), (7, 10), (10, 30), (7, 30))],
        "by_length": [_bin(found[seen], length[seen], *edges) for edges in LENGTH_BINS],
        "whole": [_bin(found[whole], length[whole], *edges) for edges in LENGTH_BINS],
        "false": false,
        "false_per_9_5_mpx": false * scale,
        "false_per_9_5_mpx_interval": [low * scale, high * scale],
    }


def _bin(found: NDArray[np.bool_], values: NDArray[np.float64], low: float, high: float) -> dict[str, Any]:
    inside = (values >= low) & (values < high)
    share = Share(int(found[inside].sum()), int(inside.sum()))
    told = {"n": share.n, "found": share.found, "completeness": share.value, "interval": list(share.interval)}
    return {"lo": low, "hi": high} | told


def group(stamp: ZtfPacket) -> str:
    """Return the group of a stamp."""
    if not stamp.positive:
        return "fainter"
    if stamp.known_asteroid:
        return "known_asteroids"
    return "low_rb" if stamp.rb < LOW_RB else "high_rb"


def _area(scored: Sequence[ScoredStamps]) -> dict[str, Any] | None:
    scores = (
        np.array([each.reliability for each in scored if group(each.stamp) == name])
        for name in ("known_asteroids", "low_rb")
    )
    area = area_under_roc(*scores)
    return None if area is None else {"value": area.value, "interval": [area.low, area.high]}


def _at(scored: Sequence[ScoredStamps], threshold: float) -> dict[str, Any]:
    groups = {}
    for name in ("known_asteroids", "low_rb", "high_rb", "fainter"):
        members = [each for each in scored if group(each.stamp) == name]
        passed = sum(each.reliability >= np.float32(threshold) for each in members)
        share = Share(int(passed), len(members))
        groups[name] = {
            "n": share.n,
            "found": share.found,
            "completeness": share.value,
            "interval": list(share.interval),
        }
    return {"min_reliability": threshold, "groups": groups}
