"""Drawings of the verdicts on pictures: confusion matrix, worst mistakes, and the course of the training."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from flows.results.evaluation.pictures import FALSE, FOUND, new_figure, save

WORST = 24
"""Maximum number of mistakes shown."""


def draw_verdicts(
    folder: Path,
    figures: dict[str, Any],
    pictures: Sequence[NDArray[np.uint8]] | Mapping[int, NDArray[np.uint8]],
    said: Sequence[tuple[float, str]],
) -> list[Path]:
    """Write ``confusion.png`` and ``mistakes.png`` into a folder, which is created if necessary.

    Parameters
    ----------
    folder
        Destination.
    figures
        Figures of the verdicts, see `flows.results.evaluation.picture_scores.picture_figures`.
    pictures
        Judged pictures, (ny, nx, 3), by index; those of `worst_mistakes` are enough.
    said
        For each, the probability of its label's classes, and the caption.
    """
    folder.mkdir(parents=True, exist_ok=True)
    gallery = [(pictures[n], said[n][1]) for n in worst_mistakes(said)]
    return [_confusion(figures, folder / "confusion.png"), _gallery(gallery, folder / "mistakes.png")]


def worst_mistakes(said: Sequence[tuple[float, str]]) -> list[int]:
    """Return up to `WORST` pictures whose labels have probabilities below one half, the lowest first."""
    return [int(n) for n in np.argsort([right for right, _ in said]) if said[n][0] < 0.5][:WORST]


def draw_curves(
    folder: Path, probability: NDArray[np.floating], right: Sequence[frozenset[str]], classes: Sequence[str]
) -> Path:
    """Write ``roc.png`` into a folder: for each class its ROC, precision against recall, and calibration.

    Parameters
    ----------
    folder
        Destination.
    probability : (n, classes)
        Probability of each class.
    right
        Classes that the label of each picture stands for. A label that stands for several counts for none.
    classes
        Names, in the order of the columns.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    figure, (roc, precision, calibration) = new_figure(3)
    for column, name in enumerate(classes):
        usable = np.array([len(one) == 1 or name not in one for one in right])
        truth, given = np.array([name in one for one in right])[usable], probability[usable, column]
        if not 0 < truth.sum() < truth.size:
            continue
        false, true, _ = roc_curve(truth, given)
        roc.plot(false, true, label=f"{name} ({int(truth.sum())})")
        pure, complete, _ = precision_recall_curve(truth, given)
        precision.plot(complete, pure)
        bins = np.clip((given * _BINS).astype(int), 0, _BINS - 1)
        filled = [k for k in range(_BINS) if (bins == k).sum() >= _FEWEST]
        calibration.plot(
            [given[bins == k].mean() for k in filled], [truth[bins == k].mean() for k in filled], marker="o"
        )
    roc.plot([0, 1], [0, 1], color="black", linestyle=":", linewidth=1)
    calibration.plot([0, 1], [0, 1], color="black", linestyle=":", linewidth=1)
    roc.set(xlabel="false positive rate", ylabel="completeness")
    precision.set(xlabel="completeness", ylabel="purity")
    calibration.set(xlabel="probability", ylabel="share that is so")
    if roc.get_legend_handles_labels()[0]:
        roc.legend(frameon=False, fontsize=8)
    return save(figure, folder / "roc.png")


_BINS = 10
_FEWEST = 5


def draw_attribution(folder: Path, shown: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32], str]]) -> Path:
    """Write ``attribution.png`` into a folder: pictures, each with the evidence for its verdict in red.

    Parameters
    ----------
    folder
        Destination.
    shown
        For each, the picture seen by the network, (side, side, 3), how much hiding each pixel lowers the probability of
        the verdict, (side, side), and the caption.
    """
    pairs = []
    for picture, lost, words in shown:
        weight = np.clip(lost / max(float(lost.max()), 1e-6), 0, 1)[..., None]
        red = picture * (1 - weight) + np.array([255, 40, 40]) * weight
        pairs += [(picture, words), (red.round().astype(np.uint8), "what spoke for it")]
    return _gallery(pairs, folder / "attribution.png")


def draw_tiles(
    folder: Path,
    path: Path,
    picture: NDArray[np.uint8],
    corners: Sequence[tuple[int, int]],
    verdicts: Sequence[str],
    side: int,
) -> Path:
    """Write a picture into a folder with the verdict of each tile, as ``<name>_<number>_tiles.png``.

    Parameters
    ----------
    folder, path
        Destination, and file of the picture.
    picture
        (ny, nx, 3).
    corners, verdicts, side
        First row and column of each tile, its verdict, and its side, px.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figure, (panel,) = new_figure()
    panel.imshow(picture)
    panel.axis("off")
    names = sorted(set(verdicts))
    for (y, x), name in zip(corners, verdicts, strict=True):
        height, width = min(side, picture.shape[0] - y), min(side, picture.shape[1] - x)
        colour = f"C{names.index(name)}"
        panel.add_patch(Rectangle((x, y), width, height, facecolor=colour, alpha=0.3, edgecolor="white", linewidth=0.5))
    marks = [Rectangle((0, 0), 1, 1, facecolor=f"C{n}", alpha=0.6) for n in range(len(names))]
    figure.legend(marks, names, frameon=False, fontsize=8, loc="outside lower center", ncols=len(names))
    number = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    return save(figure, folder / f"{path.stem}_{number}_tiles.png")


def draw_fit(folder: Path, history: Sequence[Any]) -> Path:
    """Write ``curves.png`` into a folder: loss and accuracy of each `flows.training.picture_fit.PictureEpoch`."""
    figure, (left, right) = new_figure(2)
    passes = np.arange(1, len(history) + 1)
    left.plot(passes, [one.loss for one in history], color=FOUND, label="training")
    left.plot(passes, [one.validation_loss for one in history], color=FALSE, label="validation")
    left.set(xlabel="pass", ylabel="loss")
    left.legend(frameon=False)
    right.plot(passes, [one.validation_accuracy for one in history], color=FALSE)
    right.set(xlabel="pass", ylabel="accuracy (validation)", ylim=(0, 1))
    return save(figure, folder / "curves.png")


def _confusion(figures: dict[str, Any], path: Path) -> Path:
    """Write the confusion matrix: rows are labels, columns verdicts."""
    classes = figures["classes"]
    table = np.array(figures["confusion"])
    figure, (panel,) = new_figure()
    panel.imshow(table / np.maximum(table.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    panel.grid(visible=False)
    for (row, column), count in np.ndenumerate(table):
        dark = count > 0.5 * table[row].sum()
        panel.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
    panel.set_xticks(range(len(classes)), classes, rotation=20, ha="right")
    panel.set_yticks(range(len(classes)), classes)
    panel.set(xlabel="verdict", ylabel="label")
    return save(figure, path)


def _gallery(shown: Sequence[tuple[NDArray[np.uint8], str]], path: Path) -> Path:
    columns = 6
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(1.6 * columns, 1.85 * rows), layout="constrained", dpi=110)
    for number in range(rows * columns):
        panel = figure.add_subplot(rows, columns, number + 1)
        panel.axis("off")
        if number < len(shown):
            panel.imshow(shown[number][0])
            panel.set_title(shown[number][1], fontsize=6)
    return save(figure, path)
