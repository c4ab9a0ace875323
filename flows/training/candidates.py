"""Candidates of an exposure, from a detector and the following stages, with labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.pipeline.models import load_model
from flows.pipeline.search_pixels import search_pixels
from flows.storage.zarr_tiles import TileStore
from flows.training.examples import BRIGHT_ENOUGH, Example, truth_targets
from flows.training.fits import false_level
from kernels.measure.vetoes.evidence import REFUSING, refused_by
from kernels.search.detector import Detector
from kernels.statistics.matching import POSITION_TOLERANCE_PX, Targets, match_detections, on_satellite
from schemas.dia_source import FEATURES, HIT, STATIC, STREAK, UNKNOWN
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureInfo, PsfModel
from schemas.settings import MeasureSettings, Settings
from schemas.stage import Context, Result
from stages.measure import STAGE as MEASURE
from stages.measure import Described, describe

SLOW_FWHM = 0.5
"""Minimum length of a trail, in FWHM of the PSF; shorter ones count as points."""


@dataclass(frozen=True)
class Labelled:
    """Candidates of one exposure, and which of them are real.

    Attributes
    ----------
    features : (n, len(FEATURES)) float32
    stamps : (n, CHANNELS, SIDE, SIDE) float16
        As in `kernels.measure.reliability`.
    label : (n,)
        1 found a streak, 2 on a satellite and 3 on a point source (real, but not searched for), 0 false, -1 neither
        (a fading or too faint source, a mostly hidden streak, a second detection). 4: real according to people.
    target : (n,)
        Index of the streak in the truth table; -1: none.
    targets
        True sources.
    snr : (sources,)
        Their matched-filter S/N.
    found_snr : (n,)
        Measured S/N of the candidates.
    classed : (n,)
        Whether the search itself assigned a class (``trailClass``).
    """

    features: NDArray[np.float32]
    stamps: NDArray[np.float16]
    label: NDArray[np.int64]
    target: NDArray[np.int64]
    targets: Targets
    snr: NDArray[np.float64]
    found_snr: NDArray[np.float32]
    classed: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Return which candidates are known to be real or false, (n,)."""
        return self.label >= 0

    @property
    def kind(self) -> NDArray[np.int64]:
        """Return the index in `KINDS` of real candidates, (n,), else -1; slow movers count as points."""
        fwhm = np.exp(self.features[:, FEATURES.index("log_fwhm")])
        still = self.targets.length[self.target] < SLOW_FWHM * fwhm if len(self.targets.x) else np.ones(len(fwhm), bool)
        kind = np.select([self.label == 1, self.label == 2, self.label == 3], [np.where(still, 1, 0), 2, 1], -1)
        return kind.astype(np.int64)


def candidates(example: Example, detector: str, wrong_psf: bool) -> list[Labelled]:
    """Return the candidates of an example, measured with its PSF and, if ``wrong_psf``, also with a wrong one.

    A header does not always state the true PSF of an image. The model must be robust to this, so it learns from both;
    see `misjudged`.

    Parameters
    ----------
    example
        Exposure.
    detector
        Shipped name or folder.
    wrong_psf
        Whether to add the measurement with a wrong PSF.
    """
    planes, info = _planes(example)
    infos = (info, misjudged(info)) if wrong_psf else (info,)
    return [label_candidates(_described(planes, one, detector), example.truth) for one in infos]


def described_candidates(example: Example, detector: str) -> Described:
    """Return the measured candidates of an exposure, without labels."""
    return _described(*_planes(example), detector)


def _planes(example: Example) -> tuple[dict[str, Any], ExposureInfo]:
    store = TileStore.open(example.store)
    names = [one.name for one in (*MEASURE.needs, *MEASURE.optional) if one.name in store.planes]
    return {name: store.read_all(name) for name in names}, store.info


def _described(planes: Mapping[str, Any], info: ExposureInfo, detector: str) -> Described:
    streaks = _searched(planes, info, detector, STREAK.name).rows
    return describe({"streak": streaks, **planes}, Context(info, None, MeasureSettings()))


def unless_flooded(example: Example, detector: str, wrong_psf: bool) -> list[Labelled]:
    """Return the result of `candidates`, or nothing if a night would quarantine the exposure for too many."""
    try:
        return candidates(example, detector, wrong_psf)
    except BadInput as error:
        if error.code != "flood":
            raise
        return []


def require_candidates(found: Sequence[Labelled], detector: str, purpose: str, false: bool = False) -> None:
    """Raise unless some candidates are known to be real and, if ``false``, others to be false.

    Parameters
    ----------
    found
        Candidates of each exposure that was searched and not left out.
    detector
        Shipped name or folder.
    purpose
        Purpose of the exposures, as in "to learn from".
    false
        Whether false ones are needed too.

    Raises
    ------
    Misconfigured
        There are none (``no_candidates``).
    """
    labels = np.concatenate([np.zeros(0, np.int64), *(one.label for one in found)])
    if (labels > 0).any() and ((labels == 0).any() or not false):
        return
    where = f"detector {detector!r}"
    if not found:
        problem = f"finds too many candidates on all exposures {purpose}: a night would quarantine them."
        raise Misconfigured("no_candidates", where, problem, "train it, or raise the threshold on its card.")
    if not len(labels):
        problem = f"finds no candidates on the exposures {purpose}."
        raise Misconfigured("no_candidates", where, problem, "train it, or lower the threshold on its card.")
    lacking = "false" if (labels > 0).any() else "real"
    problem = f"finds {len(labels)} candidates on the exposures {purpose}: none is known to be {lacking}."
    remedy = "train it, lower the threshold on its card, or give more exposures."
    raise Misconfigured("no_candidates", where, problem, remedy)


def search_example(planes: dict[str, NDArray[np.generic]], info: ExposureInfo, detector: str) -> Result:
    """Return the hits of a whole exposure, searched as one tile."""
    return _searched(planes, info, detector, HIT.name)


def _searched(planes: Mapping[str, Any], info: ExposureInfo, detector: str, until: str) -> Result:
    # Validated rather than constructed, so that training does not depend on the environment.
    settings = Settings.model_validate({})
    models = {"detect": cached_detector(detector)}
    return search_pixels(planes, info, settings, until=until, models=models, whole=True)[until]


def misjudged(info: ExposureInfo) -> ExposureInfo:
    """Return the exposure with a PSF about 12 % wider or narrower (one standard deviation) and random wings."""
    rng = np.random.default_rng([info.visit, info.detector])
    fwhm = info.psf.fwhm_px * float(np.exp(rng.normal(0, 0.12)))
    return info.model_copy(update={"psf": PsfModel(fwhm_px=fwhm, beta=float(rng.choice([2.5, 3.0, 4.0, 100.0])))})


def publishable(one: Labelled, least_snr: float) -> Labelled:
    """Return candidates that a night publishes if reliable: with a measured S/N, and not refused."""
    evidence = one.features[:, [FEATURES.index(f"{cause}Evidence") for cause in REFUSING]].T
    kept = (one.found_snr >= least_snr) & ~refused_by(evidence, one.classed)
    names = ("features", "stamps", "label", "target", "found_snr", "classed")
    return replace(one, **{name: getattr(one, name)[kept] for name in names})


def without_science(one: Labelled, share: float = 1.0, seed: int = 0) -> Labelled:
    """Return the candidates with a random fraction of them as if there were no science image at their positions."""
    hidden = np.random.default_rng(seed).random(len(one.label)) < share
    features = one.features.copy()
    for name, value in zip(STATIC, UNKNOWN, strict=True):
        features[hidden, FEATURES.index(name)] = value
    stamps = one.stamps.copy()
    stamps[hidden, -1] = 0
    return replace(one, features=features, stamps=stamps)


def label_candidates(described: Described, truth: pa.Table) -> Labelled:
    """Label measured candidates by the truth of their exposure; larger summed log odds are matched first."""
    targets, table = truth_targets(truth), described.table
    x, y, score = (table[name].to_numpy().astype(np.float64) for name in ("x", "y", "logitSum"))
    matches = match_detections(x, y, score, targets)
    label = np.where(matches.target >= 0, 1, np.where(matches.false, 0, -1))
    label[(label < 0) & on_satellite(x, y, targets)] = 2
    stamps, snr = described.stamps.astype(np.float16), truth["snr"].to_numpy()
    for n in np.flatnonzero((targets.kind == "point") & (snr >= BRIGHT_ENOUGH)):
        label[(label < 0) & (np.hypot(x - targets.x[n], y - targets.y[n]) <= POSITION_TOLERANCE_PX)] = 3
    found_snr, classed = table["snr"].to_numpy(), pc.not_equal(table["trailClass"], "").to_numpy(zero_copy_only=False)
    return Labelled(described.features, stamps, label, matches.target, targets, snr, found_snr, classed)


def candidate_threshold(
    examples: Sequence[Labelled], scores: Sequence[NDArray[np.floating]], false_per_image: float
) -> float:
    """Return the lowest score with at most ``false_per_image`` false candidates per image."""
    return false_level([score[one.label == 0] for one, score in zip(examples, scores, strict=True)], false_per_image)


def candidate_completeness(
    examples: Sequence[Labelled], scores: Sequence[NDArray[np.floating]], threshold: float, least_snr: float
) -> tuple[int, int, float]:
    """Return the numbers of streaks found and present at or above ``least_snr``, and false candidates per image."""
    found = present = false = 0
    for one, score in zip(examples, scores, strict=True):
        asked = one.targets.counted & (one.snr >= least_snr)
        passed = score >= threshold
        present += int(asked.sum())
        found += int(asked[one.target[passed & (one.label == 1)]].sum())
        false += int((passed & (one.label == 0)).sum())
    return found, present, false / max(len(examples), 1)


def cached_detector(detector: str) -> Detector:
    """Load a detector, shipped or in a folder, once per process; again if its card has been rewritten."""
    return _loaded(detector, stamp_of(detector))


def stamp_of(detector: str) -> int:
    """Return the time of a folder's card, so that new weights are loaded; 0 for a shipped name."""
    card = Path(detector) / "detect.json"
    return card.stat().st_mtime_ns if card.exists() else 0


@cache
def _loaded(detector: str, stamp: int) -> Detector:
    import torch

    torch.set_num_threads(1)
    loaded: Detector = load_model("detect", detector)
    return loaded
