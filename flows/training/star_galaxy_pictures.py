"""Pictures of the training for stars and galaxies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flows.evaluation.pictures import new_figure, save
from flows.training.cutout_fit import Epoch
from kernels.class_scores import reliability_diagram

COLOURS = ("#1f5fa8", "#c8791a", "#a83232", "#4f8a3c", "#777777", "#8a5fa8")


def draw_curves(path: Path, histories: Mapping[str, Sequence[Epoch]]) -> Path:
    """Draw loss and accuracy per pass of each network with all bands; dotted: on the training cutouts."""
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


def draw_confusion(path: Path, figures: Mapping[str, Any], names: tuple[str, str]) -> Path:
    """Draw the confusion matrix of each way: counts, and shares of the rows."""
    figure = Figure(figsize=(2.5 * len(figures), 2.6), layout="constrained", dpi=130)
    for place, (name, scores) in enumerate(figures.items()):
        panel = figure.add_subplot(1, len(figures), place + 1)
        counts = np.array(scores["confusion"])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            colour = "w" if share > 0.5 else "k"
            panel.text(column, row, f"{counts[row, column]}\n{share:.2%}", ha="center", va="center", color=colour)
        panel.set(xticks=(0, 1), yticks=(0, 1), xticklabels=names, yticklabels=names, xlabel="said")
        panel.set_title(name, fontsize=9)
    figure.axes[0].set_ylabel("true")
    return save(figure, path)


def draw_scores(
    path: Path, said: Mapping[str, NDArray[np.float64]], figures: Mapping[str, Any], label: NDArray[np.int64]
) -> Path:
    """Draw ROC, accuracy, precision and recall against magnitude, and the reliability diagram."""
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
    path: Path, cutouts: NDArray[np.float32], label: NDArray[np.int64], odds: NDArray[np.float64], most: int = 24
) -> Path:
    """Draw real cutouts that are judged wrong, worst first: true class, probability of a star."""
    wrong = np.flatnonzero((odds > 0) != (label == 1))
    wrong = wrong[np.argsort(-np.abs(odds[wrong]))][:most]
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
