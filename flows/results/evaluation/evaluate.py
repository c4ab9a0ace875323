"""Comparison of detections with the truth: completeness, false detections, measurement errors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kernels.statistics.matching import Targets, match_detections, on_satellite

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """Sources in images, one entry per source and image.

    Attributes
    ----------
    kind
        streak, point or satellite.
    visit, detector
        Image with the source.
    x, y
        Centre, 0-based px.
    snr
        S/N of the true template in the correlated noise.
    length, angle
        Length and angle before convolution with the PSF, px; from +x towards +y, deg.
    visible
        Fraction of the template on usable pixels; 1 if not given.
    fwhm, beta
        Moffat PSF at its position, px; NaN if not given.
    """

    kind: NDArray[np.str_]
    visit: Ints
    detector: Ints
    x: Floats
    y: Floats
    snr: Floats
    length: Floats
    angle: Floats
    visible: Floats
    fwhm: Floats
    beta: Floats

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, rows: NDArray[np.bool_] | Ints) -> Self:
        """Return the given rows."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def on(self, visit: int, detector: int) -> Self:
        """Return the sources on one image."""
        return self.take((self.visit == visit) & (self.detector == detector))

    @property
    def images(self) -> frozenset[tuple[int, int]]:
        """Return the images with any source, as (visit, detector)."""
        return frozenset(zip(self.visit.tolist(), self.detector.tolist(), strict=True))

    @property
    def targets(self) -> Targets:
        """Return the targets that detections are matched to."""
        return Targets(self.kind, self.x, self.y, self.length, self.angle, self.visible)


Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Detections:
    """Detections of a search on one image.

    Attributes
    ----------
    x, y
        Centres, 0-based px.
    score
        Score of each; higher is more certain.
    snr, length, angle
        Measured values; NaN if the search gives none. Length px, angle deg from +x towards +y.
    classed : (n,) bool
        Whether it is classified as a satellite or aeroplane; None if the search does not classify.
    """

    x: Floats
    y: Floats
    score: Floats
    snr: Floats
    length: Floats
    angle: Floats
    classed: Bools | None = None

    @classmethod
    def of(cls, x: Floats, y: Floats, score: Floats) -> "Detections":
        """Return the detections of a search that gives only positions and scores."""
        unknown = np.full(len(x), np.nan)
        return cls(x, y, score, unknown, unknown, unknown)


@dataclass(frozen=True)
class Image:
    """Searched image.

    Attributes
    ----------
    detections, truth
        Reported detections, and the truth.
    oracle_snr
        Measurement by the filter that knows the truth, for each row of ``truth``; NaN if not known.
    oracle_area_px
        Usable area of the image; NaN if not known.
    """

    detections: Detections
    truth: Truth
    oracle_snr: Floats | None = None
    oracle_area_px: float = np.nan


@dataclass(frozen=True)
class Evaluation:
    """Streaks that count, and false detections, in a set of images.

    Attributes
    ----------
    images
        Number of images searched.
    snr, length
        True values for each streak that counts; length in px.
    score
        Score of the detection that found it; minus infinity if none did.
    dx, dy, length_error, angle_error
        Measured minus true, px and deg (-90 to 90); NaN if not found or not measured.
    oracle_snr, oracle_area_px
        See `Image`; the area is the mean over images.
    false_score, false_snr
        Values of each false detection.
    uncounted
        Number of detections on real sources that do not count.
    rows
        Number of detections by class: streak, other (points, mostly hidden streaks, repeated finds), satellite
        (classified as one), satellite_unclassed and artefact; the last two are the false ones.
    """

    images: int
    snr: Floats
    length: Floats
    score: Floats
    dx: Floats
    dy: Floats
    length_error: Floats
    angle_error: Floats
    oracle_snr: Floats
    oracle_area_px: float
    false_score: Floats
    false_snr: Floats
    uncounted: int
    rows: Mapping[str, int]

    @cached_property
    def found(self) -> Bools:
        """Return whether each streak was found."""
        return self.score > -np.inf

    @property
    def false_per_image(self) -> float:
        """Return the number of false detections per image."""
        return len(self.false_score) / self.images if self.images else 0.0

    @property
    def purity(self) -> float | None:
        """Return the fraction of streaks among the detections that count; None if there are none."""
        found = int(self.found.sum())
        return found / (found + len(self.false_score)) if found + len(self.false_score) else None


def evaluate(images: Iterable[Image]) -> Evaluation:
    """Match the detections of each image to its truth, and combine the results.

    Parameters
    ----------
    images
        All images searched, including those without detections or truth.
    """
    outcomes = [_outcome(image) for image in images]

    def gathered(name: str) -> Floats:
        return np.concatenate([np.asarray(outcome[name], float) for outcome in outcomes]) if outcomes else np.empty(0)

    columns = ("snr", "length", "score", "dx", "dy", "length_error", "angle_error", "oracle_snr")
    area = np.array([outcome["area"] for outcome in outcomes], float)
    return Evaluation(
        images=len(outcomes),
        oracle_area_px=float(np.mean(area)) if len(area) else np.nan,
        false_score=gathered("false_score"),
        false_snr=gathered("false_snr"),
        uncounted=int(gathered("uncounted").sum()),
        rows={name: int(gathered(name).sum()) for name in ROWS},
        **{name: gathered(name) for name in columns},
    )


ROWS = ("streak", "other", "satellite", "satellite_unclassed", "artefact")
"""Classes of detections."""


def _outcome(image: Image) -> dict[str, Any]:
    detections, truth = image.detections, image.truth
    targets = truth.targets
    matches = match_detections(detections.x, detections.y, detections.score, targets)
    finder = np.full(len(truth), -1)
    matched = np.flatnonzero(matches.target >= 0)
    finder[matches.target[matched]] = matched
    finder = finder[targets.counted]
    streaks = truth.take(targets.counted)
    oracle = np.full(len(truth), np.nan) if image.oracle_snr is None else image.oracle_snr
    unmatched = (matches.target < 0) & ~matches.false
    satellite = unmatched & on_satellite(detections.x, detections.y, targets)
    unclassed = satellite & ~detections.classed if detections.classed is not None else np.zeros_like(satellite)
    false = matches.false | unclassed
    return {
        "snr": streaks.snr,
        "length": streaks.length,
        "score": _of_finder(detections.score, finder, -np.inf),
        "dx": _of_finder(detections.x, finder) - streaks.x,
        "dy": _of_finder(detections.y, finder) - streaks.y,
        "length_error": _of_finder(detections.length, finder) - streaks.length,
        "angle_error": wrapped(_of_finder(detections.angle, finder) - streaks.angle),
        "oracle_snr": oracle[targets.counted],
        "area": image.oracle_area_px,
        "false_score": detections.score[false],
        "false_snr": detections.snr[false],
        "uncounted": [int((unmatched & ~unclassed).sum())],
        "streak": [int((matches.target >= 0).sum())],
        "other": [int((unmatched & ~satellite).sum())],
        "satellite": [int((satellite & ~unclassed).sum())],
        "satellite_unclassed": [int(unclassed.sum())],
        "artefact": [int(matches.false.sum())],
    }


def _of_finder(values: Floats, finder: NDArray[np.int64], missing: float = np.nan) -> Floats:
    found = np.full(len(finder), missing)
    found[finder >= 0] = values[finder[finder >= 0]]
    return found


def wrapped(angle: Floats) -> Floats:
    """Return the same direction modulo 180 in [-90, 90), deg."""
    return (angle + 90) % 180 - 90
