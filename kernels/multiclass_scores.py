"""How good a classification into several classes is."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.class_scores import calibration_error as error_of_two_classes
from kernels.completeness import binomial_interval
from kernels.roc import area_under_roc

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
    """Give the mean area under the ROC curve of each class against the rest; None if there is one class only.

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
    """Give the expected calibration error of the most probable class: see `kernels.class_scores.calibration_error`."""
    right = (probability.argmax(1) == true).astype(np.int64)
    return error_of_two_classes(probability.max(1), right)


def rounded(scores: ClassScores, digits: int = 4) -> dict[str, Any]:
    """Give scores as they go into JSON."""
    figures: dict[str, Any] = {}
    for name, value in scores._asdict().items():
        if isinstance(value, np.ndarray):
            figures[name] = value.tolist()
        elif isinstance(value, tuple):
            figures[name] = [round(part, digits) for part in value]
        else:
            figures[name] = value if isinstance(value, int) else round(value, digits)
    return figures


def _means(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean precision, recall and F1 of confusion matrices, (draws, classes, classes) -> (3, draws)."""
    hits = np.einsum("dkk->dk", confusion).astype(float)
    true, given = confusion.sum(2), confusion.sum(1)
    there = true > 0
    precision = hits / np.maximum(given, 1)
    recall = hits / np.maximum(true, 1)
    f1 = 2 * hits / np.maximum(true + given, 1)
    return np.array([(value * there).sum(1) / there.sum(1) for value in (precision, recall, f1)])
