"""Scores of probabilities of two or more classes, and agreement of two judges."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from kernels.statistics.completeness import binomial_interval

_Z95 = 1.959963984540054


class Area(NamedTuple):
    """Area under the ROC curve, with its 95 % interval."""

    value: float
    low: float
    high: float


def area_under_roc(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> Area | None:
    """Return the chance that a positive scores above a negative, ties counting half.

    Parameters
    ----------
    positive, negative : (n,), (m,)
        Scores; minus infinity is the least.

    Returns
    -------
    Area or None
        None if either group is empty.

    Notes
    -----
    Area of Mann & Whitney; variance of DeLong, DeLong & Clarke-Pearson 1988 (Biometrics 44, 837), by ranks (Sun & Xu
    2014, IEEE Signal Process. Lett. 21, 1389). The interval is that of the logit of the area, which stays within 0 and
    1; for a perfect separation, that of Clopper & Pearson for the smaller group.
    """
    n, m = len(positive), len(negative)
    if not n or not m:
        return None
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))
    above = (ranks[:n] - scipy.stats.rankdata(positive)) / m  # share of the negatives that each positive exceeds
    below = 1 - (ranks[n:] - scipy.stats.rankdata(negative)) / n
    value = float(above.mean())
    if value in (0.0, 1.0):
        edge = 0.025 ** (1 / min(n, m))
        return Area(value, edge, 1.0) if value else Area(value, 0.0, 1 - edge)
    variance = float(np.var(above, ddof=1) / n if n > 1 else 0.25) + float(np.var(below, ddof=1) / m if m > 1 else 0.25)
    reach = _Z95 * math.sqrt(variance) / (value * (1 - value))
    middle = math.log(value / (1 - value))
    low, high = (float(scipy.special.expit(middle + sign * reach)) for sign in (-1, 1))
    return Area(value, low, high)


_BINS = 10


def binary_scores(probability: NDArray[np.floating], truth: NDArray[np.int64]) -> dict[str, Any]:
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
        "ece": round(binary_calibration_error(probability, truth), 5),
    }


def binary_calibration_error(probability: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Return the expected calibration error in ten bins of equal width (Naeini et al. 2015, AAAI, 2901)."""
    stated, seen, share = reliability_diagram(probability, truth)
    return float((share * np.abs(stated - seen)).sum())


def reliability_diagram(
    probability: NDArray[np.floating], truth: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean probability, share of class 1, and share of the objects, of each of ten bins that is not empty."""
    place = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    used = [place == n for n in range(_BINS) if (place == n).any()]
    parts = ([probability[b] for b in used], [truth[b] for b in used], used)
    stated, seen, share = (np.array([float(values.mean()) for values in part]) for part in parts)
    return stated, seen, share


def per_class(
    confusion: NDArray[np.integer] | Sequence[Sequence[int]], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return precision, recall, F1 and number of each class, 0 where not defined; rows: truth, columns: verdict."""
    table = np.asarray(confusion, float)
    rows = {}
    for kind, name in enumerate(names):
        said, there, hit = table[:, kind].sum(), table[kind].sum(), table[kind, kind]
        rows[name] = _row(hit / said if said else 0.0, hit / there if there else 0.0, there)
    return rows


def class_report(confusion: list[list[int]], names: tuple[str, str]) -> dict[str, dict[str, float]]:
    """Return the rows of `per_class`, and their micro, macro and weighted means."""
    table, rows = np.array(confusion, float), per_class(confusion, names)
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


_DRAWS = 1000


class ClassScores(NamedTuple):
    """Scores of n rows; intervals are of 95 %.

    Attributes
    ----------
    n
        Rows.
    accuracy, accuracy_interval
        Share of the rows in their class; interval of Clopper & Pearson.
    precision, recall, macro_f1
        Means over the classes that there are rows of, each class counting alike.
    macro_f1_interval
        By 1,000 bootstrap draws of the confusion matrix.
    confusion : (classes, classes) int64
        Rows: true class; columns: given class.
    """

    n: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    precision: float
    recall: float
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    confusion: NDArray[np.int64]


def class_scores(true: NDArray[np.integer], given: NDArray[np.integer], classes: int) -> ClassScores:
    """Score given classes, (n,), against the true ones, both from 0 to ``classes - 1``; n at least 1."""
    confusion = np.bincount(true.astype(np.int64) * classes + given, minlength=classes**2).reshape(classes, classes)
    n, right = int(confusion.sum()), int(np.trace(confusion))
    precision, recall, macro = (float(value) for value in _means(confusion[None])[:, 0])
    drawn = np.random.default_rng(0).multinomial(n, confusion.ravel() / n, size=_DRAWS)
    low, high = np.quantile(_means(drawn.reshape(-1, classes, classes))[2], (0.025, 0.975))
    interval = (float(low), float(high))
    return ClassScores(n, right / n, binomial_interval(right, n), precision, recall, macro, interval, confusion)


def macro_area(true: NDArray[np.integer], probability: NDArray[np.floating]) -> float | None:
    """Return the mean area under the ROC curve of each class against the rest; None if there is one class only.

    Parameters
    ----------
    true : (n,)
        Classes.
    probability : (n, classes)
        Scores, one column per class.
    """
    areas = [area_under_roc(probability[true == k, k], probability[true != k, k]) for k in range(probability.shape[1])]
    values = [area.value for area in areas if area is not None]
    return float(np.mean(values)) if values else None


def calibration_error(true: NDArray[np.integer], probability: NDArray[np.floating]) -> float:
    """Return the expected calibration error of the most probable class: see `binary_calibration_error`."""
    right = (probability.argmax(1) == true).astype(np.int64)
    return binary_calibration_error(probability.max(1), right)


def probability_scores(true: NDArray[np.integer], probability: NDArray[np.floating]) -> dict[str, Any]:
    """Return the scores of the likeliest classes and, as ``auc``, the `macro_area`, as they go into JSON."""
    area = macro_area(true, probability)
    scores = rounded(class_scores(true, probability.argmax(1), probability.shape[1]))
    return scores | {"auc": None if area is None else round(area, 5)}


def rounded(scores: ClassScores) -> dict[str, Any]:
    """Return scores as they go into JSON: to four digits."""
    figures: dict[str, Any] = {}
    for name, value in scores._asdict().items():
        if isinstance(value, np.ndarray):
            figures[name] = value.tolist()
        elif isinstance(value, tuple):
            figures[name] = [round(part, 4) for part in value]
        else:
            figures[name] = value if isinstance(value, int) else round(value, 4)
    return figures


def _means(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean precision, recall and F1 of confusion matrices, (draws, classes, classes) -> (3, draws)."""
    hits = np.einsum("dkk->dk", confusion).astype(float)
    true, given = confusion.sum(2), confusion.sum(1)
    there = true > 0
    precision = hits / np.maximum(given, 1)
    recall = hits / np.maximum(true, 1)
    f1 = 2 * hits / np.maximum(true + given, 1)
    return np.array([(value * there).sum(1) / there.sum(1) for value in (precision, recall, f1)])


def cohen_kappa(table: NDArray[np.integer]) -> tuple[float, float]:
    """Return Cohen's kappa and its standard error.

    Parameters
    ----------
    table : (k, k)
        How often the first judge said i where the second said j.

    Returns
    -------
    kappa, error : float
        1: they always agree, 0: as often as by chance. NaN where one of both always says the same: kappa is 0 then,
        however often they agree. The error is 0, which says nothing, where they always agree.

    Notes
    -----
    kappa = (p - c) / (1 - c), with p the share of the diagonal and c the sum of the products of the margins (Cohen
    1960, Educ. Psychol. Meas. 20, 37). The error is that of Fleiss, Cohen & Everitt (1969, Psychol. Bull. 72, 323,
    eq. 13), for large numbers.
    """
    counts = np.asarray(table, np.float64)
    total = counts.sum()
    if min(np.count_nonzero(counts.sum(axis)) for axis in (0, 1)) < 2:
        return float("nan"), float("nan")
    share = counts / total
    first, second, agreed = share.sum(1), share.sum(0), float(np.trace(share))
    chance = float(first @ second)
    kappa = (agreed - chance) / (1 - chance)
    rest = 1 - kappa
    on = float(np.sum(np.diag(share) * (1 - (first + second) * rest) ** 2))
    apart = share * np.add.outer(second, first) ** 2  # (share of the second saying i) + (of the first saying j)
    off = rest**2 * float(apart.sum() - np.trace(apart))
    variance = (on + off - (kappa - chance * rest) ** 2) / (total * (1 - chance) ** 2)
    return kappa, float(np.sqrt(max(variance, 0.0)))
