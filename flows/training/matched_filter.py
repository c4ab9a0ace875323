"""Card and parameters of the matched filter, which has nothing to learn."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.special import expit

from flows.pipeline.weights import write_model
from kernels.search.matched_filter_search import CANDIDATE_GRID
from schemas.model_card import ModelCard
from schemas.settings import NOISE_ALONE

FLOOR = 4.4
"""Least S/N of a candidate: noise alone has about 400 such peaks per 3080 x 3072 px."""

LEAST_SNR = 10.0
"""S/N of a hit: an image has 150 to 500 such peaks. At 7, stars and cosmic rays bring 1,000 to 2,000, more than the
stages behind it can look at in the time of an exposure."""


def write_matched_filter(out: Path) -> ModelCard:
    """Write ``detect.*`` of the matched filter into a folder and return the card."""
    card = {
        "stage": "detect",
        "name": "matched_filter",
        "version": "1",
        "input": {"grid": asdict(CANDIDATE_GRID), "kind": "matched_filter"},
        "classes": ("nothing", "streak"),
        "training": {
            "data": "none",
            "licence": "BSD-3-Clause",
            "command": "nightstride train detect --model matched_filter",
        },
        "metrics": {},
        "threshold": float(expit(0.5 * (LEAST_SNR**2 - NOISE_ALONE**2))),
        "false_alarm_rate": f"S/N {LEAST_SNR:g}: 150 to 500 stars and cosmic rays per image",
    }
    return write_model(out, {"floor": np.array([FLOOR])}, card)
