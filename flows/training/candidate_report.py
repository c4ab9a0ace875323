"""How much a judge of candidates finds at how many false streaks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.training.candidate_set import CandidateSet
from flows.training.level import false_level
from kernels.completeness import binomial_interval

FALSE_PER_IMAGE = (0.5, 1.0)
_LEAST_SNR = (7.0, 10.0)

Scores = Sequence[NDArray[np.floating]]


def threshold_at(sets: Sequence[CandidateSet], scores: Scores, false_per_image: float) -> float:
    """Give the least score above which there are at most ``false_per_image`` false candidates per exposure."""
    false = [score[one.matches(score).false] for one, score in zip(sets, scores, strict=True)]
    # No lower than any score: cards and reports hold no infinity.
    return max(false_level(false, false_per_image), float(min(score.min(initial=0.0) for score in scores)))


def found_above(
    sets: Sequence[CandidateSet], scores: Scores, threshold: float, least_snr: float
) -> tuple[int, int, float]:
    """Give streaks found and present at or above ``least_snr``, and false candidates per exposure, at a threshold."""
    found = present = false = 0
    for one, score in zip(sets, scores, strict=True):
        matches, asked = one.matches(score), one.targets.counted & (one.snr >= least_snr)
        passed = score >= threshold
        present += int(asked.sum())
        found += int(asked[matches.target[passed & (matches.target >= 0)]].sum())
        false += int((passed & matches.false).sum())
    return found, present, false / max(len(sets), 1)


def report(
    chosen: tuple[Sequence[CandidateSet], Scores], shown: tuple[Sequence[CandidateSet], Scores]
) -> dict[str, Any]:
    """Give completeness on ``shown`` at thresholds from ``chosen``.

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
        for least in _LEAST_SNR:
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
