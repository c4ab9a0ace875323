"""How good the probabilities of two classes are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.completeness import binomial_interval
from kernels.roc import area_under_roc

_BINS = 10


def class_scores(probability: NDArray[np.floating], truth: NDArray[np.int64]) -> dict[str, Any]:
    """Compare the probability of class 1 with the truth.

    Parameters
    ----------
    probability, truth : (n,)
        Of class 1; 0 or 1.

    Returns
    -------
    dict
        ``n``, ``accuracy`` at probability 0.5 with its 95 % interval (Clopper & Pearson), ``auc`` (None if one class is
        absent), ``macro_f1`` over the classes present, ``confusion`` ``[truth][said]`` for 0 and 1, ``ece``.
    """
    said = (probability >= 0.5).astype(np.int64)
    confusion = np.array([[int(((truth == a) & (said == b)).sum()) for b in (0, 1)] for a in (0, 1)])
    right = int(np.trace(confusion))
    area = area_under_roc(probability[truth == 1], probability[truth == 0])
    present = [kind for kind in (0, 1) if confusion[kind].sum()]
    f1 = [2 * confusion[k, k] / (confusion[k].sum() + confusion[:, k].sum()) for k in present]
    return {
        "n": len(truth),
        "accuracy": round(right / max(len(truth), 1), 5),
        "accuracy_interval": [round(edge, 5) for edge in binomial_interval(right, len(truth))],
        "auc": None if area is None else round(area.value, 5),
        "macro_f1": round(float(np.mean(f1)), 5) if f1 else None,
        "confusion": confusion.tolist(),
        "ece": round(calibration_error(probability, truth), 5),
    }


def calibration_error(probability: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Give the expected calibration error in ten bins of equal width (Naeini et al. 2015, AAAI, 2901)."""
    stated, seen, share = reliability_diagram(probability, truth)
    return float((share * np.abs(stated - seen)).sum())


def reliability_diagram(
    probability: NDArray[np.floating], truth: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give mean probability, share of class 1, and share of the objects, of each of ten bins that is not empty."""
    place = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    used = [place == n for n in range(_BINS) if (place == n).any()]
    parts = ([probability[b] for b in used], [truth[b] for b in used], used)
    stated, seen, share = (np.array([float(values.mean()) for values in part]) for part in parts)
    return stated, seen, share


def class_report(confusion: list[list[int]], names: tuple[str, str]) -> dict[str, dict[str, float]]:
    """Give precision, recall, F1 and number of each class, and their micro, macro and weighted means."""
    table = np.array(confusion, float)
    rows = {}
    for kind, name in enumerate(names):
        said, there, hit = table[:, kind].sum(), table[kind].sum(), table[kind, kind]
        rows[name] = _row(hit / said if said else 0.0, hit / there if there else 0.0, there)
    accuracy = float(np.trace(table) / table.sum())
    weights = {"macro": [0.5, 0.5], "weighted": list(table.sum(1) / table.sum())}
    means = {"micro": _row(accuracy, accuracy, table.sum())}
    for name, weight in weights.items():
        of = {
            key: sum(w * rows[one][key] for w, one in zip(weight, names, strict=True))
            for key in ("precision", "recall", "f1")
        }
        means[name] = {key: round(value, 5) for key, value in of.items()} | {"n": int(table.sum())}
    return rows | means


def _row(precision: float, recall: float, n: float) -> dict[str, float]:
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"precision": round(precision, 5), "recall": round(recall, 5), "f1": round(f1, 5), "n": int(n)}
