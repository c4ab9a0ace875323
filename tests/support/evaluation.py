"""Evaluations of which little matters."""

import numpy as np

from flows.results.evaluation.evaluate import ROWS, Evaluation

AREA = 3080 * 3072 * 0.95


def rows_of(found, false, **rows):
    """Detections by what they are: all that is false is an artefact."""
    return dict.fromkeys(ROWS, 0) | {"streak": int(np.sum(found)), "artefact": false} | rows


def evaluation_of(snr, score, false=(), images=2, **known):
    """An evaluation of streaks by their S/N and score, and of false detections by theirs."""
    n = len(snr)
    usual = {name: np.zeros(n) for name in ("dx", "dy", "length_error", "angle_error")}
    usual |= {"length": np.full(n, 12.0), "oracle_snr": np.full(n, np.nan), "oracle_area_px": AREA, "uncounted": 0}
    usual |= {"false_snr": np.full(len(false), 6.0), "rows": rows_of(np.isfinite(score), len(false))}
    scored = {"snr": np.array(snr, float), "score": np.array(score, float), "false_score": np.array(false, float)}
    return Evaluation(images=images, **scored, **(usual | known))
