"""Fit the verdict on candidates."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from kernels.matching import Targets, match_detections, on_satellite


@dataclass(frozen=True)
class Labelled:
    """Candidates of one exposure, and which of them are real.

    Attributes
    ----------
    features : (n, len(FEATURES)) float32
    label : (n,)
        1 found a streak, 2 lies on a satellite (real, but not asked for), 0 false, -1 neither (a point source, a
        streak mostly hidden, a second find).
    target : (n,)
        Index of the streak in the truth table, -1 if none.
    targets
        What is there.
    snr : (sources,)
        Matched-filter S/N of what is there.
    """

    features: NDArray[np.float32]
    label: NDArray[np.int64]
    target: NDArray[np.int64]
    targets: Targets
    snr: NDArray[np.float64]


def label_candidates(table: pa.Table, features: NDArray[np.float32], truth: pa.Table) -> Labelled:
    """Label measured candidates by the truth of their exposure; the greater summed logit has first choice."""
    targets = targets_of(truth)
    x, y, score = (table[name].to_numpy().astype(np.float64) for name in ("x", "y", "logitSum"))
    matches = match_detections(x, y, score, targets)
    label = np.where(matches.target >= 0, 1, np.where(matches.false, 0, -1))
    label[(label < 0) & on_satellite(x, y, targets)] = 2
    return Labelled(features, label, matches.target, targets, truth["snr"].to_numpy())


def targets_of(truth: pa.Table) -> Targets:
    """Take what `match_detections` needs from a `TRUTH` table of one exposure."""
    columns = (truth[name].to_numpy().astype(np.float64) for name in ("x", "y", "length_px", "angle_deg", "visible"))
    return Targets(np.array(truth["kind"].to_pylist(), dtype=np.str_), *columns)


def fit_verdict(
    features: NDArray[np.float32], label: NDArray[np.int64], hidden: tuple[int, ...], seed: int, networks: int = 8
) -> dict[str, Any]:
    """Fit an ensemble of small networks, or logistic regression; give its arrays for `kernels.verdict_net`.

    Parameters
    ----------
    features : (n, features)
    label : (n,)
        0 or 1.
    hidden
        Sizes of the hidden layers; none is logistic regression.
    seed
        Of the start values and the order of the batches.
    networks
        Size of the ensemble: single networks differ by several per cent in what they find.
    """
    mean, scale = features.mean(0).astype(np.float64), features.std(0).astype(np.float64) + 1e-6
    x = (features - mean) / scale
    if hidden:
        members = [_fit_network(x, label, hidden, seed + n) for n in range(networks)]
    else:
        line = LogisticRegression(max_iter=2000).fit(x, label)
        members = [[(line.coef_.T, line.intercept_)]]
    arrays: dict[str, Any] = {"mean": mean, "scale": scale}
    for n, layer in enumerate(zip(*members, strict=True)):
        arrays[f"weight{n}"] = np.stack([weight for weight, _ in layer]).astype(np.float64)
        arrays[f"bias{n}"] = np.stack([bias for _, bias in layer]).astype(np.float64)
    return arrays


def _fit_network(
    x: NDArray[np.float64], label: NDArray[np.int64], hidden: tuple[int, ...], seed: int
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    net = MLPClassifier(hidden, alpha=1e-2, max_iter=300, random_state=seed, tol=1e-5)
    with warnings.catch_warnings():
        # A fixed number of passes is what is wanted; the validation exposures judge the result.
        warnings.simplefilter("ignore", ConvergenceWarning)
        net.fit(x, label)
    return list(zip(net.coefs_, net.intercepts_, strict=True))


def threshold_at(examples: list[Labelled], scores: list[NDArray[np.floating]], false_per_image: float) -> float:
    """Give the least score at which there are at most ``false_per_image`` false candidates per image."""
    false = np.sort(np.concatenate([score[one.label == 0] for one, score in zip(examples, scores, strict=True)]))[::-1]
    allowed = int(false_per_image * len(examples))
    return float(np.nextafter(false[allowed], np.inf)) if allowed < len(false) else 0.0


def completeness(
    examples: list[Labelled], scores: list[NDArray[np.floating]], threshold: float, least_snr: float
) -> tuple[int, int, float]:
    """Give streaks found and present at or above ``least_snr``, and false candidates per image, at a threshold."""
    found = present = false = 0
    for one, score in zip(examples, scores, strict=True):
        asked = one.targets.counted & (one.snr >= least_snr)
        passed = score >= threshold
        present += int(asked.sum())
        found += int(asked[one.target[passed & (one.label == 1)]].sum())
        false += int((passed & (one.label == 0)).sum())
    return found, present, false / max(len(examples), 1)
