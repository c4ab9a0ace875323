"""Evaluation of models of anomalies on labelled pictures."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flows.inputs.picture_files import PictureFile, list_pictures
from flows.pipeline.weights import building, read_weights
from flows.results.evaluation.picture_scores import read_unseen
from flows.results.evaluation.pictures import new_figure, save
from flows.storage.folder import writable_folder
from kernels.pictures.anomaly_model import VERDICTS, AnomalyModel
from kernels.pictures.picture_model import shown_picture
from kernels.statistics.class_scores import area_under_roc, binary_scores
from schemas.errors import BadInput
from schemas.picture_classes import morphologies

_ANOMALOUS = 0.5
"""Minimum verdict of pictures that count as anomalous."""

_BINS = 60

_REAL = ("real", "normal", "galaxy", "galaxies")


def evaluate_anomaly(
    data: Sequence[Path],
    normal: Sequence[str],
    model: str = "default",
    *,
    unseen: bool = False,
    draw: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Score a model on pictures with labels that are normal or not.

    Parameters
    ----------
    data
        CSV files of ``location, label``, or folders with sub-folders named after their contents.
    normal
        Labels of normal pictures; all others are anomalous. Empty: those that `stands_for_real` recognises.
    model
        Shipped name, or folder.
    unseen
        Whether to leave out pictures that the model has learnt from.
    draw
        Folder for `draw_scores`.
    say
        Receives messages about files that are left out, and labels in ``normal`` without pictures.

    Returns
    -------
    dict
        As in `anomaly_figures`, with ``unreadable`` (file -> why), ``unlabelled``, ``copies`` (pictures that are the
        same as others) and ``trained_on``: the number of pictures that the model has learnt from, whose scores are not
        a test.

    Raises
    ------
    BadInput
        There is no readable picture with a label, or none with one of ``normal`` (``no_normal``).
    Misconfigured
        The model does not exist, or the folder for drawings cannot be written.
    """
    card, arrays = read_weights("anomaly", model)
    with building("anomaly", model):
        judge = AnomalyModel(card, arrays)
    files = list_pictures(*data, say=say)
    tell_absent(normal, files, say)
    if draw is not None:
        writable_folder(draw, "--pictures")
    labelled = [one for one in files if one.label]
    read = read_unseen(labelled, arrays, unseen=unseen, seen=partial(shown_picture, card), say=say)
    pictures, labels, unreadable, trained_on, copies, _ = read
    normal = list(normal) or sorted({label for label in labels if stands_for_real(label)})
    if not any(label in normal for label in labels):
        found = sorted({file.label for file in files if file.label})[:10]
        left = f"; {len(unreadable)} files cannot be read" if unreadable else ""
        problem = f"has no readable picture that is labelled {normal or 'real or normal'}; labels are {found}{left}."
        raise BadInput("no_normal", ", ".join(map(str, data)), problem, "name one of them by --normal.")
    scores = judge.scores(torch.from_numpy(np.stack(pictures)))
    figures = anomaly_figures(scores, judge.verdicts(scores), labels, normal)
    if draw is not None:
        draw_scores(draw, scores, labels, judge.card.calibration["limits"])
    return {
        **figures,
        "normal": normal,
        "model": f"anomaly/{judge.version}",
        "limits": judge.card.calibration["limits"],
        "unreadable": unreadable,
        "unlabelled": sum(not file.label for file in files),
        "copies": copies,
        "trained_on": trained_on,
    }


def tell_absent(normal: Sequence[str], files: Sequence[PictureFile], say: Callable[[str], None]) -> None:
    """Report the labels of ``--normal`` that no picture has: they may be misspelt."""
    labels = {file.label for file in files}
    if absent := sorted(set(normal) - labels):
        names = ", ".join(sorted(label for label in labels if label)[:10])
        say(f"No picture has the label {', '.join(absent)} of --normal; labels are {names}.")


def stands_for_real(label: str) -> bool:
    """Return whether a label names real galaxies: ``real``, ``normal``, ``galaxies``, or a morphology."""
    plain = label.strip().lower()
    return plain.split(" ")[0] in _REAL or morphologies(label) is not None


def anomaly_figures(
    scores: NDArray[np.floating], verdicts: NDArray[np.floating], labels: Sequence[str], normal: Sequence[str]
) -> dict[str, Any]:
    """Compare scores and verdicts with labels.

    Parameters
    ----------
    scores, verdicts : (n,)
        Larger for less normal pictures; verdict from `kernels.pictures.anomaly_model.VERDICTS`.
    labels
        Label of each picture.
    normal
        Labels of normal pictures.

    Returns
    -------
    dict
        ``n``, ``auc`` of anomalous against normal pictures with ``auc_interval`` (95 %; null if all are normal),
        ``accuracy``, ``accuracy_interval``, ``macro_f1`` and ``confusion`` (normal, anomalous) with verdicts of at
        least 0.5 counting as anomalous, ``verdicts`` (label -> verdict -> pictures), ``per_label`` (label -> n, normal,
        median score, and its own area against the normal ones).
    """
    kind = np.array(labels)
    is_normal = np.isin(kind, list(normal))
    area = area_under_roc(scores[~is_normal], scores[is_normal])
    said = binary_scores((verdicts >= _ANOMALOUS).astype(float), (~is_normal).astype(np.int64))
    per_label, counts = {}, {}
    for label in sorted(set(labels)):
        own = kind == label
        counted = Counter(round(float(one), 1) for one in verdicts[own])
        counts[label] = {str(one): counted.get(one, 0) for one in VERDICTS}
        against = None if label in normal else area_under_roc(scores[own], scores[is_normal])
        per_label[label] = {
            "n": int(own.sum()),
            "normal": label in normal,
            "median_score": round(float(np.median(scores[own])), 5),
            "auc": None if against is None else round(against.value, 5),
        }
    return {
        "n": len(labels),
        "auc": None if area is None else round(area.value, 5),
        "auc_interval": None if area is None else [round(area.low, 5), round(area.high, 5)],
        **{name: said[name] for name in ("accuracy", "accuracy_interval", "macro_f1", "confusion")},
        "classes": ["normal", "anomalous"],
        "verdicts": counts,
        "per_label": per_label,
    }


def draw_scores(folder: Path, scores: NDArray[np.floating], labels: Sequence[str], limits: Sequence[float]) -> Path:
    """Write ``scores.png`` into a folder: a histogram of the scores for each label, and the four limits."""
    folder.mkdir(parents=True, exist_ok=True)
    figure, (panel,) = new_figure()
    kind, shown = np.array(labels), np.clip(scores, None, np.quantile(scores, 0.99))
    low, high = float(shown.min()), max(float(shown.max()), float(limits[-1])) * 1.02
    edges = np.geomspace(low, high, _BINS) if low > 0 else np.linspace(low, high, _BINS)
    for label in sorted(set(labels)):
        own = shown[kind == label]
        share = np.full(len(own), 1 / max(len(own), 1))
        panel.hist(own, list(edges), weights=share, histtype="step", linewidth=1.4, label=f"{label} ({len(own)})")
    for limit in limits:
        panel.axvline(limit, color="black", linestyle=":", linewidth=1)
    panel.set(xlabel="score", ylabel="share of the pictures", xscale="log" if low > 0 else "linear")
    panel.legend(frameon=False, fontsize=8)
    return save(figure, folder / "scores.png")


def verdict_table(
    locations: Sequence[str], labels: Sequence[str], scores: NDArray[np.floating], verdicts: NDArray[np.floating]
) -> list[Mapping[str, Any]]:
    """Return a row for each picture: location, label, score, verdict."""
    return [
        {"location": where, "label": label, "score": round(float(score), 6), "verdict": round(float(verdict), 1)}
        for where, label, score, verdict in zip(locations, labels, scores, verdicts, strict=True)
    ]
