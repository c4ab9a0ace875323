"""How well boxes are found, on exposures that a network has not learnt from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.training.examples import Example
from flows.training.field import open_field
from flows.training.level import false_level
from flows.training.region_truth import true_boxes
from kernels.boxes import overlap
from kernels.completeness import Share
from kernels.matching import Targets, match_detections
from kernels.nets.streak_net import CELL
from kernels.plane import Places, Plane
from kernels.region_search import Found, RegionSearch

LEVELS = (0.5, 1.0)
"""False boxes per image at which completeness is given."""

_LEAST_SNR = (7.0, 10.0)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Boxes found on one exposure, and what they are.

    Attributes
    ----------
    score : (n,)
        Log odds.
    target : (n,)
        Index of the source it found, -1 if none.
    false : (n,)
        Found nothing that is there.
    shared, apart : (n,)
        Intersection over union with the source's box; distance of its middle from the source's, px. NaN where none.
    targets, snr
        What is there.
    """

    score: Floats
    target: NDArray[np.int64]
    false: NDArray[np.bool_]
    shared: Floats
    apart: Floats
    targets: Targets
    snr: Floats


def find_boxes(search: RegionSearch, example: Example) -> Found:
    """Search a whole exposure."""
    field = open_field(example)
    ny, nx = field.pixels.shape
    plane = Plane.of(field.info, np.asarray(field.pixels), np.asarray(field.usable))
    return search.boxes(plane, Places(0, 0, ny // CELL, nx // CELL, CELL))[0]


def judge_boxes(found: Found, example: Example) -> Judged:
    """Say what boxes found on an exposure are: middles are matched to sources, best score first."""
    field, score = open_field(example), found.logits.astype(np.float64)
    x, y = (found.boxes[:, :2] + found.boxes[:, 2:]).T / 2
    matches = match_detections(x, y, score, field.targets)
    hit, shared, apart = matches.target >= 0, np.full(len(x), np.nan), np.full(len(x), np.nan)
    of = matches.target[hit]
    true = true_boxes(example.truth)[of]
    shared[hit] = np.array([overlap(a[None], b[None])[0, 0] for a, b in zip(found.boxes[hit], true, strict=True)])
    apart[hit] = np.hypot(x[hit] - field.targets.x[of], y[hit] - field.targets.y[of])
    return Judged(score, matches.target, matches.false, shared, apart, field.targets, field.snr)


def region_figures(judged: Mapping[str, Sequence[Judged]]) -> dict[str, Any]:
    """Give completeness with intervals at some false boxes per image, and how well boxes fit, per preset."""
    return {name: _figures(group) for name, group in judged.items() if group}


def level_at(judged: Sequence[Judged], false_per_image: float) -> float:
    """Give the least log odds at which there are at most so many false boxes per image."""
    false = [one.score[one.false] for one in judged]
    # No lower than any false one: cards and reports hold no infinity.
    return max(false_level(false, false_per_image), float(min(part.min(initial=0.0) for part in false)))


def _figures(judged: Sequence[Judged]) -> dict[str, Any]:
    figures: dict[str, Any] = {"exposures": len(judged)}
    for false in LEVELS:
        level = level_at(judged, false)
        found = {f"snr_{least:g}": _completeness(judged, level, least) for least in _LEAST_SNR}
        figures[f"at_{false:g}_false_per_image"] = {"log_odds": round(level, 3), **found}
    return figures | {"boxes": _fit(judged, level_at(judged, LEVELS[-1]))}


def _completeness(judged: Sequence[Judged], level: float, least: float) -> dict[str, Any]:
    found = present = 0
    for one in judged:
        asked = one.targets.counted & (one.snr >= least)
        present += int(asked.sum())
        found += int(asked[one.target[(one.score >= level) & (one.target >= 0)]].sum())
    share = Share(found, present)
    bounds = [round(bound, 4) for bound in share.interval]
    return {"found": found, "present": present, "completeness": _rounded(share.value), "interval": bounds}


def _fit(judged: Sequence[Judged], level: float) -> dict[str, Any]:
    """Give how the boxes of the trails found fit the true ones, in quantiles."""
    shared, apart = (
        np.concatenate([getattr(one, name)[(one.score >= level) & (one.target >= 0)] for one in judged])
        for name in ("shared", "apart")
    )
    if not len(shared):
        return {"found": 0}
    quantiles = (0.1, 0.5, 0.9)
    return {
        "found": len(shared),
        "overlap": {f"p{100 * q:g}": _rounded(float(np.quantile(shared, q))) for q in quantiles},
        "overlap_above_0.5": _rounded(float((shared > 0.5).mean())),
        "centre_error_px": {f"p{100 * q:g}": _rounded(float(np.quantile(apart, q))) for q in quantiles},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
