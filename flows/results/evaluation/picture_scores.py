"""Evaluation of picture models on labelled pictures."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flows.inputs.picture_files import PictureFile, list_pictures, read_picture, refuse_pipe
from flows.pipeline.weights import building, read_weights
from flows.storage.digest import file_digest
from flows.storage.folder import writable_folder
from kernels.statistics.class_scores import binary_calibration_error, class_scores, macro_area, per_class, rounded
from schemas.errors import BadInput, read_failure
from schemas.picture_classes import PICTURE_TASKS

if TYPE_CHECKING:
    from kernels.pictures.picture_model import PictureModel

LEARNT = "learnt"
"""Array beside the weights: `content_number` of the pictures that the model has learnt from, (n,) int64."""

EXPLAINED = 12
"""Number of worst mistakes for which the evidence is drawn."""

LONGEST = 512
"""Maximum size of pictures when read, px on the longer side."""

TOLD_EVERY = 1000
"""After so many pictures the progress is told."""

Label = frozenset[str]
"""Classes of the model that a label stands for."""


def evaluate_pictures(
    task: str,
    data: Sequence[Path],
    model: str = "default",
    *,
    unseen: bool = False,
    draw: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Score a model on labelled pictures.

    Parameters
    ----------
    task
        ``morphology`` or ``scene``.
    data
        Folders with sub-folders named after their contents, or CSV files of ``location, label``.
    model
        Shipped name, or folder.
    unseen
        Whether to leave out pictures that the model has learnt from.
    draw
        Folder for the drawings of `flows.results.evaluation.picture_pages`.
    say
        Receives messages about files that are left out, and the progress.

    Returns
    -------
    dict
        As in `picture_figures`, with ``unreadable`` (file -> why), ``unlabelled``, ``labels_without_class`` (label ->
        pictures), ``copies`` (pictures that are the same as others, which make intervals too narrow) and
        ``trained_on``: the number of pictures that the model has learnt from, whose figures are not a test.

    Raises
    ------
    BadInput
        No picture has a label of this task.
    Misconfigured
        The model does not exist, or the folder for drawings cannot be written.
    """
    import torch

    from kernels.pictures.picture_model import build_picture_model, shown_picture

    card, arrays = read_weights(task, model)
    with building(task, model):
        net = build_picture_model(card, arrays)
    files = list_pictures(*data, say=say)
    if draw is not None:
        writable_folder(draw, "--pictures")
    labels, without = label_sets(task, files)
    labelled = [file for file in files if file.label in labels]
    read = read_unseen(labelled, arrays, unseen=unseen, seen=partial(shown_picture, card), say=say)
    known = [labels[one] for one in read.labels]
    if not known:
        raise _no_labels(data, card.classes, without, read)
    probability = net.probability(torch.from_numpy(np.stack(read.pictures)))
    figures = picture_figures(probability, known, card.classes)
    if draw is not None:
        _draw(draw, net, figures, read.paths, probability, known)
    return {
        **figures,
        "model": net.version,
        "unreadable": read.unreadable,
        "unlabelled": sum(not file.label for file in files),
        "labels_without_class": without,
        "copies": read.copies,
        "trained_on": read.trained_on,
    }


def _no_labels(
    data: Sequence[Path], classes: Sequence[str], without: Mapping[str, int], read: "ReadPictures"
) -> BadInput:
    """Return the error for pictures none of which can be judged, with the reason."""
    why, remedy = ": none has a label", "name folders or labels by their class, or use nightstride classify"
    if read.unreadable:
        first = next(iter(read.unreadable.values())).partition(" To fix, ")[0].rstrip(".")
        why, remedy = f": {len(read.unreadable)} cannot be read, the first: {first}", "mend these files"
    elif read.trained_on:
        why = f" that the model has not learnt from: {read.trained_on} are left out"
        remedy = "give others, or leave out --unseen"
    elif without:
        why, remedy = f"; labels are {sorted(without)[:10]}", "name folders or labels by their class"
    problem = f"has no readable picture with a label of {', '.join(classes)}{why}."
    return BadInput("no_labels", ", ".join(map(str, data)), problem, f"{remedy}.")


class ReadPictures(NamedTuple):
    """Pictures, labels, unreadable files and why, numbers of those learnt from and of copies of others, and paths."""

    pictures: list[NDArray[np.uint8]]
    labels: list[str]
    unreadable: dict[str, str]
    trained_on: int
    copies: int
    paths: list[Path]


def read_unseen(
    files: Sequence[PictureFile],
    arrays: Mapping[str, NDArray[Any]],
    *,
    unseen: bool,
    seen: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda picture: picture,
    say: Callable[[str], None] = lambda line: None,
) -> ReadPictures:
    """Read pictures; with ``unseen``, without those that the model with these ``arrays`` has learnt from.

    ``seen`` returns what is kept of each picture: by default all of it, (ny, nx, 3), which takes much memory. ``say``
    receives the progress.
    """
    learnt = {int(one) for one in arrays.get(LEARNT, ())}
    pictures, labels, paths = list[NDArray[np.uint8]](), list[str](), list[Path]()
    unreadable, trained_on, met, copies = dict[str, str](), 0, set[int](), 0
    for count, file in enumerate(files, 1):
        try:
            number = content_number(file.path)
            known = number in learnt
            if not (known and unseen):
                pictures.append(seen(read_picture(file.path, LONGEST)))
                labels.append(file.label)
                paths.append(file.path)
                copies += number in met
                met.add(number)
            trained_on += known
        except BadInput as error:
            unreadable[str(file.path)] = str(error)
        if count % TOLD_EVERY == 0:
            say(f"{count} of {len(files)} pictures read")
    return ReadPictures(pictures, labels, unreadable, trained_on, copies, paths)


def _draw(
    folder: Path,
    net: "PictureModel",
    figures: dict[str, Any],
    paths: Sequence[Path],
    probability: NDArray[np.float32],
    known: Sequence[Label],
) -> None:
    from flows.results.evaluation.picture_pages import draw_attribution, draw_curves, draw_verdicts, worst_mistakes

    classes = net.card.classes
    asked = np.array([any(name in kind for kind in _kinds(known, classes)) for name in classes])
    probability = np.where(asked, probability, 0)
    probability = probability / np.maximum(probability.sum(1, keepdims=True), 1e-12)
    said = verdict_labels(probability, known, classes)
    mistakes = worst_mistakes(said)
    pictures = {n: read_picture(paths[n], LONGEST) for n in mistakes}
    draw_verdicts(folder, figures, pictures, said)
    draw_curves(folder, probability, known, classes)
    worst = mistakes[:EXPLAINED]
    shown = [(*net.attribution(pictures[n], classes[int(probability[n].argmax())]), said[n][1]) for n in worst]
    draw_attribution(folder, shown)


def verdict_labels(
    probability: NDArray[np.floating], known: Sequence[Label], classes: Sequence[str]
) -> list[tuple[float, str]]:
    """Return for each picture its label's probability, and label, verdict and the verdict's probability as text."""
    found = []
    for row, label in zip(probability, known, strict=True):
        right = sum(float(row[classes.index(name)]) for name in label)
        name = " or ".join(name for name in classes if name in label)
        found.append((right, f"{name}: {classes[int(row.argmax())]} {row.max():.2f}"))
    return found


def content_number(path: Path) -> int:
    """Return the first 63 bits of the SHA-256 of a file.

    Raises
    ------
    BadInput
        The file does not exist, cannot be read, or is a pipe or a device (``unreadable_picture``).
    """
    refuse_pipe(path)
    try:
        return int(file_digest(path)[:16], 16) >> 1
    except (OSError, ValueError) as error:
        problem = f"cannot be read: {read_failure(error)}."
        remedy = "put the file there, with the right to read it, or leave it out."
        raise BadInput("unreadable_picture", str(path), problem, remedy) from error


def read_small(crop: float, side: int, path: Path) -> tuple[NDArray[np.uint8], int] | str:
    """Return a picture as seen by networks (`kernels.pictures.picture_model.squared`) and its number; or its error."""
    from kernels.pictures.picture_model import squared

    try:
        return squared(read_picture(path, LONGEST), crop, side).numpy(), content_number(path)
    except BadInput as error:
        return str(error)


def label_sets(task: str, files: Sequence[PictureFile]) -> tuple[dict[str, Label], dict[str, int]]:
    """Return label -> classes that it stands for, and label -> number of pictures, for labels that stand for none."""
    rule = PICTURE_TASKS[task].rule
    counts: dict[str, int] = {}
    for file in files:
        if file.label:
            counts[file.label] = counts.get(file.label, 0) + 1
    found = {label: rule(label) for label in counts}
    known = {label: one for label, one in found.items() if one}
    return known, {label: counts[label] for label, one in found.items() if not one}


def picture_figures(
    probability: NDArray[np.floating], known: Sequence[Label], classes: Sequence[str]
) -> dict[str, Any]:
    """Compare probabilities with labels.

    Parameters
    ----------
    probability : (n, classes)
        Probability of each class.
    known
        Classes that the label of each picture stands for.
    classes
        Names, in the order of the columns.

    Returns
    -------
    dict
        ``n``, ``accuracy``, ``accuracy_interval`` (95 %), ``macro_f1``, ``auc`` (null if labels overlap), ``ece``,
        ``per_class`` (precision, recall, f1, n), ``confusion`` (label, verdict) in the order of ``classes``. A label
        that stands for several classes is a class of its own, with their total probability; if labels overlap, a
        verdict is right if the most probable class is one of the label's. Classes that no label stands for are
        excluded, unless all labels stand for the same: any verdict would be right.
    """
    kinds = sorted(_kinds(known, classes), key=lambda one: (len(one), sorted(classes.index(name) for name in one)))
    joined = np.stack([probability[:, [classes.index(name) for name in kind]].sum(1) for kind in kinds], 1)
    joined = joined / np.maximum(joined.sum(1, keepdims=True), 1e-12)
    true = np.array([kinds.index(one) for one in known])
    apart = sum(map(len, kinds)) == len(frozenset.union(*kinds))
    given = joined.argmax(1) if apart else _nearest_kind(probability, known, kinds, classes)
    scores = rounded(class_scores(true, given, len(kinds)))
    names = [" or ".join(name for name in classes if name in kind) for kind in kinds]
    area = macro_area(true, joined) if apart else None
    sure = joined.max(1) if apart else probability.max(1)
    return {
        **scores,
        "classes": names,
        "per_class": per_class(scores["confusion"], names),
        "auc": None if area is None else round(area, 5),
        "ece": round(binary_calibration_error(sure, (given == true).astype(np.int64)), 5),
    }


def _kinds(known: Sequence[Label], classes: Sequence[str]) -> set[Label]:
    """Return the labels between which verdicts decide; with a single one, the other classes, too."""
    kinds = set(known)
    if len(kinds) == 1:
        kinds |= {frozenset({name}) for name in classes if name not in known[0]}
    return kinds


def _nearest_kind(
    probability: NDArray[np.floating], known: Sequence[Label], kinds: Sequence[Label], classes: Sequence[str]
) -> NDArray[np.int64]:
    """Return the kind of label that includes the most probable class: the picture's own, if possible."""
    asked = [k for k, name in enumerate(classes) if any(name in kind for kind in kinds)]
    found = [classes[asked[k]] for k in probability[:, asked].argmax(1)]
    return np.array(
        [
            kinds.index(label if name in label else next(kind for kind in kinds if name in kind))
            for name, label in zip(found, known, strict=True)
        ]
    )
