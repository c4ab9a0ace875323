"""Cards of the detectors that judge candidates."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from flows.adapters.weights import write_model
from flows.training.candidate_set import FLOOR
from kernels.candidate_search import CANDIDATE_GRID
from kernels.line_score import NOISE_ALONE
from schemas.model_card import ModelCard


def candidate_card(
    kind: str,
    inputs: Mapping[str, Any],
    plan: Mapping[str, Any],
    exposures: Mapping[str, int],
    figures: Mapping[str, Any],
    threshold: float,
) -> dict[str, Any]:
    """Make the card of a detector of candidates; ``threshold`` is a probability."""
    text = json.dumps(plan, sort_keys=True)
    return {
        "stage": "detect",
        "name": kind,
        "version": "1",
        "input": {"grid": asdict(CANDIDATE_GRID), **inputs},
        "classes": ("nothing", "streak"),
        "training": {
            "data": "simulated exposures (nightstride simulate), no real data",
            "licence": "BSD-3-Clause",
            "split": "by exposure: no field appears in two sets",
            "exposures": dict(exposures),
            "plan": dict(plan),
            "digest": hashlib.sha256(text.encode()).hexdigest(),
            "command": f"nightstride train detector --kind {kind}",
        },
        "metrics": dict(figures),
        "threshold": threshold,
        "false_alarm_rate": "1 false streak per image on the validation exposures",
    }


def write_matched_filter(out: Path, name: str | None = None) -> ModelCard:
    """Write the card and the parameters of the classical matched filter, which has nothing to learn.

    Its threshold is S/N 5, which the highest peak of noise alone exceeds.
    """
    threshold = float(expit(0.5 * (5.0**2 - NOISE_ALONE**2)))
    card = candidate_card("matched_filter", {"kind": "matched_filter"}, {}, {}, {}, threshold) | {
        "training": {"data": "none", "licence": "BSD-3-Clause", "command": "nightstride train detector"},
        "false_alarm_rate": "S/N 5: tens of peaks per image of noise alone, thousands of stars and cosmic rays",
    }
    return write_model(out, {"floor": np.array([FLOOR])}, card, name)
