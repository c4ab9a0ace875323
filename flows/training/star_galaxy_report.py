"""Report on star-galaxy separation: figures, tables, pictures."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flows.inputs.cutout_files import CLASSES, LabelledCutouts
from flows.results.evaluation.pictures import new_figure, save
from flows.training.cutout_fit import CutoutEpoch
from kernels.statistics.class_scores import binary_scores, class_report, reliability_diagram
from kernels.statistics.completeness import binned
from schemas.errors import Misconfigured

MAGNITUDES = (18.0, 19.0, 20.0, 21.0, 22.0, 22.5, 23.0, 23.5, 24.0, 24.5)
"""Edges of the magnitude bins in i."""

OF_NIGHTS = (13.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0, 20.5)
"""Edges of the magnitude bins for cutouts of nights."""

Probabilities = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""Probability of a star for each test cutout, by method and configuration of bands."""


def figures_of(
    said: Probabilities, test: LabelledCutouts, magnitudes: tuple[float, ...] = MAGNITUDES
) -> dict[str, Any]:
    """Score every method in every configuration on the test cutouts.

    Returns
    -------
    dict
        Method -> configuration -> `kernels.statistics.class_scores.binary_scores`, with ``report`` (precision, recall,
        F1 per class and their means) and ``by_magnitude``.
    """
    return {
        name: {planes: _figures(probability, test, magnitudes) for planes, probability in some.items()}
        for name, some in said.items()
    }


def by_magnitude(
    probability: NDArray[np.float64], test: LabelledCutouts, magnitudes: tuple[float, ...] = MAGNITUDES
) -> list[dict[str, Any]]:
    """Return accuracy with interval, and precision and recall of stars, in bins of magnitude."""
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
    """Return the difference in accuracy of two methods on the same objects, with its 95 % interval.

    Notes
    -----
    Based on the objects judged differently (McNemar 1947, Psychometrika 12, 153): standard error of the difference of
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


def comparison_table(figures: Mapping[str, Any]) -> str:
    """Return the accuracies of all configurations with intervals, per cent, as a Markdown table."""
    planes = list(next(iter(figures.values())))
    lines = ["| | " + " | ".join(planes) + " |", "|---|" + "---|" * len(planes)]
    for name, some in figures.items():
        lines.append(f"| {name} | " + " | ".join(_cell(some.get(one)) for one in planes) + " |")
    return "\n".join(lines) + "\n"


def require_planes(cutouts: NDArray[np.float32], planes: int) -> None:
    """Raise `Misconfigured` unless training cutouts have ``planes`` planes."""
    if cutouts.ndim != 4 or cutouts.shape[1] != planes:
        raise Misconfigured(
            "band_count",
            "training cutouts",
            f"are {cutouts.shape}, but the networks take (n, {planes}, height, width).",
            "simulate them with --preset star-galaxy.",
        )


def _figures(probability: NDArray[np.float64], test: LabelledCutouts, magnitudes: tuple[float, ...]) -> dict[str, Any]:
    scores = binary_scores(probability, test.label)
    report = class_report(scores["confusion"], CLASSES)
    return scores | {"report": report, "by_magnitude": by_magnitude(probability, test, magnitudes)}


def _cell(scores: Mapping[str, Any] | None) -> str:
    if scores is None:
        return ""
    low, high = scores["accuracy_interval"]
    return f"{100 * scores['accuracy']:.2f} ({100 * low:.2f}-{100 * high:.2f})"


COLOURS = ("#1f5fa8", "#c8791a", "#a83232", "#4f8a3c", "#777777", "#8a5fa8")


def draw_histories(path: Path, histories: Mapping[str, Sequence[CutoutEpoch]]) -> Path:
    """Draw loss and accuracy per pass for each network with all bands; dotted lines for the training cutouts."""
    figure, panels = new_figure(2)
    for panel, name in zip(panels, ("loss", "accuracy"), strict=True):
        for colour, (network, history) in zip(COLOURS, histories.items(), strict=False):
            passes = np.arange(1, len(history) + 1)
            panel.plot(passes, [getattr(one, name) for one in history], ":", color=colour)
            panel.plot(passes, [getattr(one, f"validation_{name}") for one in history], color=colour, label=network)
        panel.set(xlabel="pass", ylabel=name)
    panels[0].set_yscale("log")
    panels[1].set_ylim(0.9, 1.0)
    panels[1].legend(frameon=False, fontsize=8)
    return save(figure, path)


def draw_confusion(path: Path, figures: Mapping[str, Any]) -> Path:
    """Draw the confusion matrix of each method: counts, and fractions of rows."""
    figure = Figure(figsize=(2.5 * len(figures), 2.6), layout="constrained", dpi=130)
    for place, (name, scores) in enumerate(figures.items()):
        panel = figure.add_subplot(1, len(figures), place + 1)
        counts = np.array(scores["confusion"])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            colour = "w" if share > 0.5 else "k"
            panel.text(column, row, f"{counts[row, column]}\n{share:.2%}", ha="center", va="center", color=colour)
        panel.set(xticks=(0, 1), yticks=(0, 1), xticklabels=CLASSES, yticklabels=CLASSES, xlabel="said")
        panel.set_title(name, fontsize=9)
    figure.axes[0].set_ylabel("true")
    return save(figure, path)


def draw_performance(
    path: Path, said: Mapping[str, NDArray[np.float64]], figures: Mapping[str, Any], label: NDArray[np.int64]
) -> Path:
    """Draw ROC curves, accuracy, precision and recall against magnitude, and the reliability diagram."""
    figure, (roc, accuracy, stars, calibration) = new_figure(4)
    for colour, (name, probability) in zip(COLOURS, said.items(), strict=False):
        order = np.argsort(-probability, kind="stable")
        hit = np.cumsum(label[order] == 1) / (label == 1).sum()
        false = np.cumsum(label[order] == 0) / (label == 0).sum()
        roc.plot(np.maximum(false, 1e-4), hit, color=colour, label=name)
        bins = [row for row in figures[name]["by_magnitude"] if row["n"]]
        middle = [(row["lo"] + row["hi"]) / 2 for row in bins]
        accuracy.plot(middle, [row["accuracy"] for row in bins], "o-", ms=3, color=colour)
        stars.plot(middle, [row["precision"] for row in bins], "-", color=colour)
        stars.plot(middle, [row["recall"] for row in bins], "--", color=colour)
        stated, seen, _ = reliability_diagram(probability, label)
        calibration.plot(stated, seen, "o-", ms=3, color=colour, label=f"{name}: {figures[name]['ece']:.4f}")
    roc.set(xlabel="galaxies said to be stars", ylabel="stars found", xscale="log", xlim=(1e-4, 1), ylim=(0.8, 1.005))
    accuracy.set(xlabel="i (mag)", ylabel="accuracy", ylim=(0.75, 1.005))
    stars.set(xlabel="i (mag)", ylabel="stars: precision, recall (dashed)", ylim=(0.75, 1.005))
    calibration.plot([0, 1], [0, 1], color="0.7", lw=1)
    calibration.set(xlabel="probability of a star", ylabel="share that are stars", title="")
    roc.legend(frameon=False, fontsize=7)
    calibration.legend(frameon=False, fontsize=7, title="calibration error", title_fontsize=7)
    return save(figure, path)


def draw_mistakes(
    path: Path, cutouts: NDArray[np.float32], label: NDArray[np.int64], odds: NDArray[np.float64]
) -> Path:
    """Draw wrongly classified real cutouts, worst first, with true class and probability of a star."""
    wrong = np.flatnonzero((odds > 0) != (label == 1))
    wrong = wrong[np.argsort(-np.abs(odds[wrong]))][:24]
    columns = 8
    rows = max(-(-len(wrong) // columns), 1)
    figure = Figure(figsize=(1.35 * columns, 1.55 * rows), layout="constrained", dpi=110)
    for place, n in enumerate(wrong):
        panel = figure.add_subplot(rows, columns, place + 1)
        edge = np.concatenate([cutouts[n, 0, :2].ravel(), cutouts[n, 0, -2:].ravel()])
        level, noise = np.median(edge), np.std(edge)
        panel.imshow(np.arcsinh((cutouts[n, 0] - level) / max(noise, 1e-6)), origin="lower", cmap="gray")
        panel.set_title(f"{('galaxy', 'star')[label[n]]}, p {1 / (1 + np.exp(-odds[n])):.2f}", fontsize=7)
        panel.set_axis_off()
    return save(figure, path)
