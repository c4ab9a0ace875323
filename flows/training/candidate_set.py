"""Candidates of an exposure with what they are."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flows.adapters.zarr_tiles import TileStore
from flows.training.candidates import targets_of
from flows.training.examples import Example
from flows.training.scan import pixels
from kernels.candidate_judges import lines_of
from kernels.candidate_search import find_candidates
from kernels.line_cutouts import line_cutouts
from kernels.line_peaks import Peaks
from kernels.matching import Matches, Targets, match_detections, segment_distance
from kernels.plane import Plane
from kernels.shape_features import shape_features

FLOOR = 4.4
"""Least S/N of a candidate: noise alone has about 400 such peaks per 3080 x 3072 px."""

_ON_PX, _BESIDE_PX, _SATELLITE_PX = 3.0, 8.0, 10.0
_NEARLY = 0.7  # of the brightest candidate on a trail: as good as that one


class Found(NamedTuple):
    """Candidates of a plane with the maps that they come from."""

    plane: Plane
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
        See `kernels.shape_features`.
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
        """Give the verdict on each candidate, best score first."""
        return match_detections(self.x, self.y, score.astype(np.float64), self.targets)


def candidate_set(example: Example) -> CandidateSet:
    """Give the candidates of an example."""
    plane, snr, peaks, lines = find_on(example)
    x, y = peaks.x + lines[:, 0], peaks.y + lines[:, 1]
    targets, true_snr = targets_of(example.truth), example.truth["snr"].to_numpy().astype(np.float64)
    label = candidate_labels(x, y, lines[:, 4], targets, true_snr)
    return CandidateSet(x, y, shape_features(plane, snr, peaks, lines), label, targets, true_snr)


def candidate_cutouts(example: Example, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
    """Give the cutouts of some of an example's candidates, by their places in its `CandidateSet`."""
    plane, snr, peaks, lines = find_on(example)
    return line_cutouts(plane, snr, peaks.take(chosen), lines[chosen])


def find_on(example: Example) -> Found:
    """Find the candidates of an example."""
    image, usable, _ = pixels(example)
    plane = Plane.of(TileStore.open(example.store).info, image, usable)
    snr, peaks = find_candidates(plane, FLOOR)
    return Found(plane, snr, peaks, lines_of(plane, snr, peaks))


def candidate_labels(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    score: NDArray[np.float64],
    targets: Targets,
    snr: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Say of each candidate what it is.

    Parameters
    ----------
    x, y, score : (n,)
        Middles, px, and S/N.
    targets, snr
        What is there; sources of negative S/N are holes in the image.

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
