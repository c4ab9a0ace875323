"""Candidates to learn from, scores of their judges, and the cards of these."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from flows.pipeline.weights import write_model
from flows.storage.zarr_tiles import TileStore
from flows.training.examples import Example, pixels, truth_targets
from flows.training.fits import false_level
from kernels.image.search_image import SearchImage
from kernels.search.candidate_search import CANDIDATE_GRID, find_candidates, line_cutouts, lines_of
from kernels.search.line_search import Peaks
from kernels.search.shape_features import shape_features
from kernels.statistics.completeness import binomial_interval
from kernels.statistics.matching import Matches, Targets, match_detections, segment_distance
from schemas.model_card import ModelCard
from schemas.settings import NOISE_ALONE

FLOOR = 4.4
"""Least S/N of a candidate: noise alone has about 400 such peaks per 3080 x 3072 px."""

_ON_PX, _BESIDE_PX, _SATELLITE_PX = 3.0, 8.0, 10.0
_NEARLY = 0.7  # of the brightest candidate on a trail: as good as that one


class FoundCandidates(NamedTuple):
    """Candidates of a plane with the maps that they come from."""

    plane: SearchImage
    snr: NDArray[np.float32]
    peaks: Peaks
    lines: NDArray[np.float64]


@dataclass(frozen=True)
class CandidateSet:
    """Candidates of one exposure.

    Attributes
    ----------
    x, y : (n,) float64
        Their middles, px.
    features : (n, len(FEATURES)) float32
        See `kernels.search.shape_features`.
    label : (n,) int64
        1 for the best on each streak, 0 on nothing, -1 for what teaches neither.
    targets, snr
        What is there, and its matched-filter S/N.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    features: NDArray[np.float32]
    label: NDArray[np.int64]
    targets: Targets
    snr: NDArray[np.float64]

    def matches(self, score: NDArray[np.floating]) -> Matches:
        """Return the reliability model on each candidate, best score first."""
        return match_detections(self.x, self.y, score.astype(np.float64), self.targets)


def candidate_set(example: Example) -> CandidateSet:
    """Return the candidates of an example."""
    plane, snr, peaks, lines = find_on(example)
    x, y = peaks.x + lines[:, 0], peaks.y + lines[:, 1]
    targets, true_snr = truth_targets(example.truth), example.truth["snr"].to_numpy().astype(np.float64)
    label = candidate_labels(x, y, lines[:, 4], targets, true_snr)
    return CandidateSet(x, y, shape_features(plane, snr, peaks, lines), label, targets, true_snr)


def candidate_cutouts(example: Example, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the cutouts of some of an example's candidates, by their places in its `CandidateSet`."""
    plane, snr, peaks, lines = find_on(example)
    return line_cutouts(plane, snr, peaks.take(chosen), lines[chosen])


def find_on(example: Example) -> FoundCandidates:
    """Find the candidates of an example."""
    image, usable, _ = pixels(example)
    plane = SearchImage.of(TileStore.open(example.store).info, image, usable)
    snr, peaks = find_candidates(plane, FLOOR)
    return FoundCandidates(plane, snr, peaks, lines_of(plane, snr, peaks))


def candidate_labels(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    score: NDArray[np.float64],
    targets: Targets,
    snr: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Label each candidate.

    Parameters
    ----------
    x, y, score : (n,)
        Middles, px, and S/N.
    targets, snr
        Sources in the image, and their S/N; those of negative S/N are holes.

    Returns
    -------
    (n,) int64
        1 for one candidate of each streak that a search is asked to find: within 3 px of its line and its tolerance,
        of those nearly as bright as the brightest the one nearest to its middle. -1 within 8 px of anything else that
        shines, or 10 of a satellite. 0 elsewhere.
    """
    label = np.zeros(len(x), np.int64)
    best = []
    for n in np.flatnonzero(snr >= 0):
        line = (targets.x[n], targets.y[n], targets.length[n], targets.angle[n])
        apart = segment_distance(x, y, *line)
        label[apart <= (_SATELLITE_PX if targets.kind[n] == "satellite" else _BESIDE_PX)] = -1
        middle = np.hypot(x - targets.x[n], y - targets.y[n])
        on = np.flatnonzero((apart <= _ON_PX) & (middle <= targets.tolerance[n]))
        if targets.counted[n] and len(on):
            on = on[score[on] >= _NEARLY * score[on].max()]
            best.append(on[middle[on].argmin()])
    label[best] = 1
    return label


_LEAST_SNR = 10.0  # of the matched filter's hits

HITS_FALSE = 50.0
"""False candidates per image at which the threshold of the hits is set: many, for the reliability model decides."""


def candidate_card(
    kind: str,
    inputs: Mapping[str, Any],
    about: Mapping[str, Any],
    figures: Mapping[str, Any],
    threshold: float,
) -> dict[str, Any]:
    """Make the card of a detector of candidates; ``about`` says how it was trained, ``threshold`` is a probability."""
    return {
        "stage": "detect",
        "name": kind,
        "version": "1",
        "input": {"grid": asdict(CANDIDATE_GRID), **inputs},
        "classes": ("nothing", "streak"),
        "training": dict(about),
        "metrics": dict(figures),
        "threshold": threshold,
        "false_alarm_rate": f"{HITS_FALSE:g} false candidates per image of the validation exposures",
    }


def write_matched_filter(out: Path) -> ModelCard:
    """Write the card and the parameters of the classical matched filter, which has nothing to learn.

    Its threshold is S/N 10: an image has 150 to 500 such peaks; at 7, stars and cosmic rays bring 1,000 to 2,000, more
    than the stages behind it can look at in the time of an exposure.
    """
    about = {"data": "none", "licence": "BSD-3-Clause", "command": "nightstride train detect --model matched_filter"}
    threshold = float(expit(0.5 * (_LEAST_SNR**2 - NOISE_ALONE**2)))
    card = candidate_card("matched_filter", {"kind": "matched_filter"}, about, {}, threshold) | {
        "false_alarm_rate": f"S/N {_LEAST_SNR:g}: 150 to 500 stars and cosmic rays per image",
    }
    return write_model(out, {"floor": np.array([FLOOR])}, card)


FALSE_PER_IMAGE = (0.5, 1.0)
_REPORT_LEAST_SNR = (7.0, 10.0)

Scores = Sequence[NDArray[np.floating]]


def threshold_at(sets: Sequence[CandidateSet], scores: Scores, false_per_image: float) -> float:
    """Return the least score above which there are at most ``false_per_image`` false candidates per exposure."""
    false = [score[one.matches(score).false] for one, score in zip(sets, scores, strict=True)]
    # No lower than any score: cards and reports hold no infinity.
    return max(false_level(false, false_per_image), float(min(score.min(initial=0.0) for score in scores)))


def found_above(
    sets: Sequence[CandidateSet], scores: Scores, threshold: float, least_snr: float
) -> tuple[int, int, float]:
    """Return streaks found and present at or above ``least_snr``, and false candidates per exposure, at a threshold."""
    found = present = false = 0
    for one, score in zip(sets, scores, strict=True):
        matches, asked = one.matches(score), one.targets.counted & (one.snr >= least_snr)
        passed = score >= threshold
        present += int(asked.sum())
        found += int(asked[matches.target[passed & (matches.target >= 0)]].sum())
        false += int((passed & matches.false).sum())
    return found, present, false / max(len(sets), 1)


def report_candidates(
    chosen: tuple[Sequence[CandidateSet], Scores], shown: tuple[Sequence[CandidateSet], Scores]
) -> dict[str, Any]:
    """Return completeness on ``shown`` at thresholds from ``chosen``.

    Returns
    -------
    dict
        Per number of false streaks allowed per image: threshold, false streaks per image shown, and found, present,
        completeness and its 95 % interval (Clopper & Pearson 1934, Biometrika 26, 404) for S/N from 7 and from 10.
    """
    figures: dict[str, Any] = {"exposures": len(shown[0])}
    for allowed in FALSE_PER_IMAGE:
        threshold = threshold_at(*chosen, allowed)
        row: dict[str, Any] = {"threshold": round(threshold, 4)}
        for least in _REPORT_LEAST_SNR:
            found, present, row["false_per_image"] = found_above(*shown, threshold, least)
            low, high = binomial_interval(found, present)
            row[f"snr_{least:g}"] = {
                "found": found,
                "present": present,
                "completeness": round(found / max(present, 1), 4),
                "interval": [round(low, 4), round(high, 4)],
            }
        figures[f"at_{allowed:g}_false"] = row
    return figures
