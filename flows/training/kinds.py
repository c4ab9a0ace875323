"""Fit of what tells kinds of light apart: trails, points and satellites."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.preprocessing import StandardScaler

from flows.training.candidates import Labelled
from kernels.measure.reliability_net import FURTHEST, KindShares, kind_shares
from kernels.statistics.completeness import binomial_interval
from schemas.dia_source import FEATURES, KINDS


def fit_kinds(learn: Sequence[Labelled]) -> KindShares:
    """Fit what tells the kinds of real candidates apart, all kinds as frequent as each other."""
    features, kind = _real(learn)
    scaler = StandardScaler().fit(features)
    standard = np.clip(scaler.transform(features), -FURTHEST, FURTHEST)
    weight, bias = np.zeros((len(KINDS), len(FEATURES))), np.zeros(len(KINDS))
    for n, there in enumerate(np.isin(range(len(KINDS)), kind)):
        if there and not (kind == n).all():
            line = LogisticRegression(max_iter=2000, class_weight="balanced").fit(standard, kind == n)
            weight[n], bias[n] = line.coef_[0], line.intercept_[0]
    return KindShares(scaler.mean_, scaler.scale_, weight, bias, np.zeros(len(KINDS)))


def with_prior(shares: KindShares, known: Sequence[Labelled]) -> KindShares:
    """Return the shares with the frequencies of the kinds among some candidates as their prior."""
    features, kind = _real(known)
    even = shares._replace(shift=np.zeros(len(KINDS)))
    return shares._replace(shift=_prior_shift(kind_shares(features, even), kind))


def _prior_shift(shares: NDArray[np.float64], kind: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what makes the mean share of each kind its frequency (Saerens et al. 2002, Neural Comput. 14, 21)."""
    frequency = (np.bincount(kind, minlength=len(KINDS)) + 1) / (len(kind) + len(KINDS))
    shift = np.zeros(len(KINDS))
    for _ in range(100):
        scaled = shares * np.exp(shift)
        shift += np.log(frequency / np.maximum((scaled / scaled.sum(1, keepdims=True)).mean(0), 1e-9))
    return shift - shift[0]


def kind_figures(scored: Sequence[Labelled], shares: KindShares, prior: Sequence[Labelled]) -> dict[str, Any]:
    """Return accuracy with interval, confusion matrix, calibration error, and the baseline, for the card.

    The baseline calls a trail what was fitted with half of the FWHM or more, a point all else.
    """
    features, kind = _real(scored)
    stated = kind_shares(features, shares)
    right, fitted = stated.argmax(1) == kind, np.expm1(features[:, FEATURES.index("log_length")])
    frequency = np.bincount(_real(prior)[1], minlength=len(KINDS)) / max(len(_real(prior)[1]), 1)
    top = stated.max(1)
    bins = np.digitize(top, np.linspace(0.3, 1.0, 8))
    gaps = [abs(top[bins == n].mean() - right[bins == n].mean()) * (bins == n).mean() for n in np.unique(bins)]
    return {
        "kinds": list(KINDS),
        "prior": [round(float(share), 4) for share in frequency],
        "candidates": len(kind),
        "accuracy": round(float(right.mean()), 4),
        "interval": [round(float(end), 4) for end in binomial_interval(int(right.sum()), len(kind))],
        "baseline_accuracy": round(float((np.where(fitted >= 0.5, 0, 1) == kind).mean()), 4),
        "confusion": confusion_matrix(kind, stated.argmax(1), labels=range(len(KINDS))).tolist(),
        "calibration_error": round(float(np.sum(gaps)), 4),
    }


def _real(examples: Sequence[Labelled]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    kinds = [one.kind for one in examples]
    features = [one.features[kind >= 0] for one, kind in zip(examples, kinds, strict=True)]
    return np.concatenate(features), np.concatenate([kind[kind >= 0] for kind in kinds])
