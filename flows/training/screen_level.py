"""Where a screen lets windows pass, and what that costs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.completeness import binomial_interval
from schemas.errors import Misconfigured

WORST = 30
"""Hits with the lowest guesses that tell how the guesses of further hits would fall off."""
FOLDS = 3.0
"""How many times the guesses' fall-off the level lies below the lowest: exp(3) = 20 times fewer hits are expected
below than one in as many as it was calibrated on."""


@dataclass(frozen=True)
class Guessed:
    """Guesses of the windows of one exposure, and what they were of: (n,) float32 both."""

    guess: NDArray[np.float32]
    logits: NDArray[np.float32]


def safe_level(examples: list[Guessed], floor: float) -> float:
    """Give the level that no hit of these exposures, and hardly one of others, is guessed below.

    Parameters
    ----------
    examples
        Exposures that the screen was not fitted on, with `WORST` hits or more in all.
    floor
        Log odds of a hit.

    Raises
    ------
    Misconfigured
        There are fewer hits.

    Returns
    -------
    level
        Log odds, ``floor`` at most: the lowest guess of a hit, less three times the mean distance by which the lowest
        thirty lie below the highest of them (of an exponential tail, its scale).
    """
    hits = np.concatenate([one.guess[one.logits >= floor] for one in examples]).astype(np.float64)
    if len(hits) < WORST:
        raise Misconfigured(
            "few_hits",
            "the simulated exposures",
            f"hold {len(hits)} hits of this network, {WORST} are needed to set a level.",
            "train the network further, or give it a lower threshold.",
        )
    guess = np.sort(hits)[:WORST]
    return float(min(guess[0] - FOLDS * (guess[-1] - guess[:-1]).mean(), floor))


def screen_figures(examples: list[Guessed], presets: list[str], floor: float, level: float) -> dict[str, Any]:
    """Count hits, hits lost and windows that pass, per preset, with 95 % intervals.

    Parameters
    ----------
    examples
        Exposures that neither the screen nor its level has seen.
    presets
        Of each of them.
    floor, level
        Log odds of a hit, and from which guesses pass.
    """
    figures: dict[str, Any] = {}
    for preset in sorted(set(presets)):
        mine = [one for one, name in zip(examples, presets, strict=True) if name == preset]
        guess, logits = (np.concatenate([getattr(one, name) for one in mine]) for name in ("guess", "logits"))
        hit, passed = logits >= floor, guess >= level
        hits, lost = int(hit.sum()), int((hit & ~passed).sum())
        figures[preset] = {
            "exposures": len(mine),
            "windows": len(guess),
            "windows_passed": _share(int(passed.sum()), len(guess)),
            "hits": hits,
            "hits_lost": lost,
            "share_lost_interval": list(binomial_interval(lost, hits)),
            "lowest_guess_of_a_hit": round(float(guess[hit].min()), 4) if hits else None,
        }
    return figures


def _share(count: int, of: int) -> dict[str, Any]:
    low, high = binomial_interval(count, of)
    return {"count": count, "share": round(count / max(of, 1), 5), "interval": [round(low, 5), round(high, 5)]}
