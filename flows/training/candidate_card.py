"""Cards of the detectors that judge candidates."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from flows.adapters.weights import write_model
from flows.training.candidate_set import FLOOR
from kernels.candidate_search import CANDIDATE_GRID
from schemas.model_card import ModelCard
from schemas.settings import NOISE_ALONE

_LEAST_SNR = 10.0  # of the matched filter's hits

HITS_FALSE = 50.0
"""False candidates per image at which the threshold of the hits is set: many, for the verdict decides."""


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
