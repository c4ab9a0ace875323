"""What scored positions find, at equal numbers of false ones per image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.training.level import false_level
from kernels.completeness import Share
from kernels.matching import Targets, match_detections


@dataclass(frozen=True)
class Recovery:
    """Scored positions on one exposure, against the truth.

    Attributes
    ----------
    snr : (streaks,)
        Matched-filter S/N of the streaks that are asked for.
    score : (streaks,)
        Of the position that found each; minus infinity if none did.
    false : (n,)
        Scores of the positions that found nothing.
    """

    snr: NDArray[np.float64]
    score: NDArray[np.float64]
    false: NDArray[np.float64]

    @staticmethod
    def of(
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        score: NDArray[np.float64],
        targets: Targets,
        snr: NDArray[np.float64],
    ) -> "Recovery":
        """Match positions (px) and their scores with what is there."""
        matches = match_detections(x, y, score, targets)
        best = np.full(len(snr), -np.inf)
        hit = matches.target >= 0
        best[matches.target[hit]] = score[hit]
        asked = targets.counted
        return Recovery(snr[asked], best[asked], score[matches.false])


def level_at(found: Sequence[Recovery], false_per_image: float) -> float:
    """Give the least score at which there are at most ``false_per_image`` false positions per image."""
    return false_level([one.false for one in found], false_per_image)


def share_found(found: Sequence[Recovery], level: float, least: float, below: float = np.inf) -> Share:
    """Give the share of the streaks with ``least`` <= S/N < ``below`` that scored at least ``level``."""
    snr, score = (np.concatenate([getattr(one, name) for one in found]) for name in ("snr", "score"))
    asked = (snr >= least) & (snr < below)
    # Where no false position is left, the level is minus infinity; so is the score of a streak that nothing found.
    passed = (score >= level) & (score > -np.inf)
    return Share(int((asked & passed).sum()), int(asked.sum()))


def recovery(found: Sequence[Recovery], rates: tuple[float, ...] = (0.5, 1.0, 10.0)) -> dict[str, Any]:
    """Give completeness for S/N >= 7 and >= 10 at some numbers of false positions per image."""
    return {
        f"at {rate:g} false": {
            f"c{least:g}": [share.found, share.n]
            for least in (7.0, 10.0)
            for share in [share_found(found, level_at(found, rate), least)]
        }
        for rate in rates
    }
