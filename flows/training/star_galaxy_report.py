"""How good the ways to tell stars from galaxies are: figures and tables."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.adapters.cutout_files import CLASSES, LabelledCutouts
from kernels.class_scores import class_report, class_scores
from kernels.completeness import binned
from schemas.errors import Misconfigured

MAGNITUDES = (18.0, 19.0, 20.0, 21.0, 22.0, 22.5, 23.0, 23.5, 24.0, 24.5)
"""Bounds of the bins in i."""

OF_NIGHTS = (13.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0, 20.5)
"""The same of the cutouts of nights."""

Probabilities = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""Probability of a star of each test cutout, by way and configuration of bands."""


def figures_of(
    said: Probabilities, test: LabelledCutouts, magnitudes: tuple[float, ...] = MAGNITUDES
) -> dict[str, Any]:
    """Score every way in every configuration on the test cutouts.

    Returns
    -------
    dict
        Way -> configuration -> `kernels.class_scores.class_scores`, ``report`` (precision, recall, F1 per class and
        their means), ``by_magnitude``.
    """
    return {
        name: {planes: _figures(probability, test, magnitudes) for planes, probability in some.items()}
        for name, some in said.items()
    }


def by_magnitude(
    probability: NDArray[np.float64], test: LabelledCutouts, magnitudes: tuple[float, ...] = MAGNITUDES
) -> list[dict[str, Any]]:
    """Give accuracy with interval, and precision and recall of stars, in bins of magnitude."""
    right = (probability >= 0.5) == (test.label == 1)
    rows = []
    for bin_, (lo, hi) in zip(binned(test.magnitude, right, magnitudes), pairwise(magnitudes), strict=True):
        inside = (test.magnitude >= lo) & (test.magnitude < hi)
        said, star = probability[inside] >= 0.5, test.label[inside] == 1
        both = int((said & star).sum())
        rows.append(
            {
                "lo": lo,
                "hi": hi,
                "n": bin_.share.n,
                "accuracy": None if bin_.share.value is None else round(bin_.share.value, 4),
                "interval": [round(edge, 4) for edge in bin_.share.interval],
                "precision": round(both / said.sum(), 4) if said.any() else None,
                "recall": round(both / star.sum(), 4) if star.any() else None,
            }
        )
    return rows


def difference(one: NDArray[np.float64], other: NDArray[np.float64], label: NDArray[np.int64]) -> dict[str, Any]:
    """Compare two ways on the same objects: difference of their accuracies with its 95 % interval.

    Notes
    -----
    Of the objects on which they differ (McNemar 1947, Psychometrika 12, 153): standard error of the difference of
    paired proportions.
    """
    a = (one >= 0.5) == (label == 1)
    b = (other >= 0.5) == (label == 1)
    better, worse, n = int((a & ~b).sum()), int((b & ~a).sum()), len(label)
    gain = (better - worse) / n
    error = float(np.sqrt(max(better + worse - (better - worse) ** 2 / n, 1))) / n
    return {
        "only_first_right": better,
        "only_second_right": worse,
        "difference": round(gain, 5),
        "interval": [round(gain - 1.96 * error, 5), round(gain + 1.96 * error, 5)],
    }


def table_of(figures: Mapping[str, Any]) -> str:
    """Write the table of configurations in Markdown: accuracy with its interval, per cent."""
    planes = list(next(iter(figures.values())))
    lines = ["| | " + " | ".join(planes) + " |", "|---|" + "---|" * len(planes)]
    for name, some in figures.items():
        lines.append(f"| {name} | " + " | ".join(_cell(some.get(one)) for one in planes) + " |")
    return "\n".join(lines) + "\n"


def require_planes(cutouts: NDArray[np.float32], planes: int) -> None:
    """Raise `Misconfigured` unless training cutouts have so many planes."""
    if cutouts.ndim != 4 or cutouts.shape[1] != planes:
        raise Misconfigured(
            "band_count",
            "training cutouts",
            f"are {cutouts.shape}, but the networks take (n, {planes}, height, width).",
            "simulate them with --preset star-galaxy.",
        )


def _figures(probability: NDArray[np.float64], test: LabelledCutouts, magnitudes: tuple[float, ...]) -> dict[str, Any]:
    scores = class_scores(probability, test.label)
    report = class_report(scores["confusion"], CLASSES)
    return scores | {"report": report, "by_magnitude": by_magnitude(probability, test, magnitudes)}


def _cell(scores: Mapping[str, Any] | None) -> str:
    if scores is None:
        return ""
    low, high = scores["accuracy_interval"]
    return f"{100 * scores['accuracy']:.2f} ({100 * low:.2f}-{100 * high:.2f})"
