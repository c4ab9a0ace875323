"""Training of models of what a picture shows: morphology, cluster membership, kind of scene."""

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from flows.inputs.picture_files import PictureFile, list_pictures, split_pictures
from flows.pipeline.weights import write_model
from flows.results.evaluation.picture_pages import draw_fit, draw_verdicts
from flows.results.evaluation.picture_scores import (
    LEARNT,
    Label,
    label_sets,
    picture_figures,
    read_small,
    verdict_labels,
)
from flows.runtime.parallel import map_in_processes
from flows.storage.folder import writable_folder
from flows.training.picture_fit import PictureEpoch, PictureExamples, PictureFit, fit_pictures, picture_loss
from flows.training.pretrained import ORIGIN_OF_WEIGHTS, fit_last, pretrained_net
from kernels.pictures.augment import Augment
from kernels.pictures.compact_net import PictureNet
from kernels.pictures.lite_net import LiteNet
from kernels.pictures.picture_model import mean_probability, symmetric_scores
from schemas.errors import BadInput, Misconfigured
from schemas.picture_classes import PICTURE_TASKS


@dataclass(frozen=True)
class PicturePlan:
    """Plan of a training.

    Attributes
    ----------
    crop, side
        Fraction of the shorter side of a picture that is used, and size in px to which it is scaled.
    symmetries
        Number of symmetries over which verdicts are averaged, see `symmetric_scores`.
    fit
        Fit of the network.
    repeats
        Number of trainings, each with a seed and split of its own.
    shares
        Fractions for training, validation and test.
    fields
        Galaxies in each of `CLUSTER_FIELDS`.
    stages
        Stages of a pretrained `LiteNet`, of which only the last layer is fitted; 0: a `PictureNet` trained from
        scratch.
    """

    crop: float = 1.0
    side: int = 64
    stages: int = 0
    symmetries: int = 8
    fit: PictureFit = field(default_factory=PictureFit)
    repeats: int = 3
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2)
    fields: int = 1000


PLANS = {
    "morphology": PicturePlan(crop=0.45, side=48, fit=PictureFit(epochs=140, patience=140)),
    "scene": PicturePlan(
        side=224, stages=6, symmetries=2, fit=PictureFit(augment=Augment(turn=15, zoom=1.4, shift=0.1))
    ),
    "cluster": PicturePlan(
        side=64, fit=PictureFit(epochs=30, patience=30, augment=Augment(zoom=1.03, shift=0.05, gain=0.05, tint=0.03))
    ),
}
"""Plans of the shipped models."""

CLUSTER_FIELDS = ((1.0, 1.0, 0.0179), (0.8, 1.5, 0.0140), (1.3, 0.8, 0.0230))
"""Seeing (arcsec), noise and redshift of the simulated clusters for training ``cluster``."""


class LabelledPictures(NamedTuple):
    """Pictures of a task, ready to learn from.

    Attributes
    ----------
    pictures : (n, 3, side, side) uint8
        Pictures as seen by the network.
    known
        Meaning of the label of each.
    digests : (n,) int64
        Digests of their files.
    files
        Paths of their files.
    notes
        What was left out, and why.
    """

    pictures: torch.Tensor
    known: list[Label]
    digests: NDArray[np.int64]
    files: list[str]
    notes: dict[str, Any]


def train_pictures(
    task: str,
    data: Sequence[Path],
    out: Path,
    work: Path,
    plan: PicturePlan,
    seed: int,
    workers: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train, compare with the simplest baseline, and write weights, card, figures and pictures.

    Parameters
    ----------
    task
        One of `PLANS`.
    data
        Folders or CSV files of labelled pictures; empty: those in ``NIGHTSTRIDE_DATA``, or for ``cluster`` simulated
        fields, which are written to ``work``.
    out, work
        Folder for results; folder for checkpoints, from which an interrupted training continues.
    plan, seed, workers
        Plan; seed of split, weights and order; number of processes that read pictures.
    say
        Receives a line on each step.

    Raises
    ------
    BadInput
        There are no pictures with labels of the task, none can be read, or there are too few.
    Misconfigured
        No data are given, all are of one class, or ``out`` cannot be written.
    """
    classes = PICTURE_TASKS[task].classes
    if not data and task == "cluster":
        data = cluster_fields(work, plan.fields, seed, workers)
    files, origin = (list_pictures(*data, say=say), [str(one) for one in data]) if data else _of_environment(task)
    found = _labelled(task, files, plan, workers)
    say(f"{len(found.known)} pictures with labels; {_left_out(found.notes)}")
    writable_folder(out)
    start = perf_counter()
    trainings = [
        _trained(found, classes, plan, seed + number, work / f"{task}-{seed + number}.pt", say)
        for number in range(plan.repeats)
    ]
    repeats = [{"seed": seed + number, **one.figures} for number, one in enumerate(trainings)]
    kept = _finished(found, classes, plan, seed, trainings[0], work / f"{task}-{seed}-kept.pt", say)
    accuracies = [one["accuracy"] for one in repeats]
    figures = {
        **kept.figures,
        "baseline": _baseline(found, classes, kept.parts, seed),
        "repeats": repeats,
        "accuracy_mean": round(float(np.mean(accuracies)), 4),
        "accuracy_spread": round(float(np.std(accuracies, ddof=1)), 4) if len(accuracies) > 1 else None,
        "minutes": round((perf_counter() - start) / 60, 1),
        "parameters": sum(value.numel() for value in kept.net.parameters()),
        "notes": found.notes,
    }
    write_model(out, _arrays(kept, found), _card(task, classes, plan, seed, origin, kept, figures), task)
    test = kept.parts[2]
    shown = [found.pictures[n].permute(1, 2, 0).numpy() for n in test]
    draw_verdicts(out, figures, shown, verdict_labels(kept.probability, [found.known[n] for n in test], classes))
    if len(kept.history) > 1:
        draw_fit(out, kept.history)
    return figures


def cluster_fields(folder: Path, count: int, seed: int, workers: int) -> list[Path]:
    """Simulate `CLUSTER_FIELDS` with ``count`` galaxies each in ``folder``; return the paths of their tables."""
    from flows.simulation.cluster_field import ClusterField, write_cluster_field

    fields = [
        ClusterField(1000 * seed + number, count, redshift, seeing, noise, folder=folder / f"field-{number}")
        for number, (seeing, noise, redshift) in enumerate(CLUSTER_FIELDS)
    ]
    return [write_cluster_field(field, workers) for field in fields]


class _Made(NamedTuple):
    net: PictureNet | LiteNet
    parts: tuple[NDArray[np.int64], ...]
    probability: NDArray[np.float32]
    temperature: float
    figures: dict[str, Any]
    history: Any


def _of_environment(task: str) -> tuple[Sequence[PictureFile], list[str]]:
    root = Path(os.environ.get("NIGHTSTRIDE_DATA", ""))
    if "NIGHTSTRIDE_DATA" not in os.environ or not root.is_dir():
        remedy = "give --data FOLDER, or name the folder of the real data in NIGHTSTRIDE_DATA."
        raise Misconfigured("no_data", "train", "there are no pictures to learn from.", remedy)
    if task == "scene":
        return list_pictures(root / "08_hubble_3class/photoli93"), ["08_hubble_3class"]
    zoo = root / "04_galaxy_zoo"
    return [*_galaxy_zoo(zoo / "smallGZ1"), *list_pictures(zoo / "gz2_spirals_vs_non/train")], ["04_galaxy_zoo"]


_GALAXY_ZOO = ("elliptical", "spiral", "spiral", "edge-on", "unknown", "merger")
"""Classes of Galaxy Zoo 1 by number (Lintott et al. 2008, MNRAS 389, 1179)."""


def _galaxy_zoo(folder: Path) -> list[PictureFile]:
    with (folder / "subset_labels.csv").open() as file:
        labels = {row["OBJID"]: _GALAXY_ZOO[int(row["CLASS"])] for row in csv.DictReader(file)}
    return [
        PictureFile(path, labels[path.stem]) for path in sorted((folder / "Imagenes").iterdir()) if path.stem in labels
    ]


def _labelled(task: str, files: Sequence[PictureFile], plan: PicturePlan, workers: int) -> LabelledPictures:
    labels, without = label_sets(task, files)
    wanted = [file for file in files if file.label in labels]
    if not wanted:
        problem = f"none of {len(files)} pictures has a label of {list(PICTURE_TASKS[task].classes)}."
        raise BadInput("no_labels", f"train {task}", problem, "name folders or labels by their class.")
    read = list(map_in_processes(partial(read_small, plan.crop, plan.side), [file.path for file in wanted], workers))
    good = [n for n, one in enumerate(read) if not isinstance(one, str)]
    bad = {str(wanted[n].path): one for n, one in enumerate(read) if isinstance(one, str)}
    if not good:
        raise BadInput("unreadable", f"train {task}", "none of the pictures can be read.", "give JPEG, PNG or FITS.")
    return LabelledPictures(
        torch.from_numpy(np.stack([read[n][0] for n in good])),
        [labels[wanted[n].label] for n in good],
        np.array([read[n][1] for n in good], np.int64),
        [str(wanted[n].path) for n in good],
        {"labels_without_class": without, "unreadable": bad},
    )


def _left_out(notes: Mapping[str, Any]) -> str:
    """Return the notes of `_labelled` in words."""
    without, bad = notes["labels_without_class"], notes["unreadable"]
    labels = f" ({', '.join(without)})" if without else ""
    return f"left out: {sum(without.values())} with labels of no class{labels}, {len(bad)} that cannot be read"


def _targets(known: Iterable[Label], classes: Sequence[str]) -> NDArray[np.float32]:
    return np.array([[float(name in label) for name in classes] for label in known], np.float32)


def _trained(
    found: LabelledPictures,
    classes: Sequence[str],
    plan: PicturePlan,
    seed: int,
    checkpoint: Path,
    say: Callable[[str], None],
) -> _Made:
    kinds = sorted({tuple(sorted(one)) for one in found.known})
    code = [kinds.index(tuple(sorted(one))) for one in found.known]
    parts = split_pictures([f"{one:016x}" for one in found.digests], code, plan.shares, seed)
    if not all(map(len, parts)):
        problem = f"{len(code)} pictures are too few to learn from, to stop by and to test on."
        raise BadInput("too_few", "training pictures", problem, "give 5 different pictures of each class or more.")
    every = PictureExamples(found.pictures, torch.from_numpy(_targets(found.known, classes)))
    train, validation, test = (every.take(part) for part in parts)
    net, history = _fitted(train, validation, classes, plan, seed, checkpoint, say)
    temperature = _temperature(symmetric_scores(net, validation.pictures, plan.symmetries), validation.targets)
    probability = mean_probability(symmetric_scores(net, test.pictures, plan.symmetries), temperature)
    figures = picture_figures(probability, [found.known[n] for n in parts[2]], classes)
    say(f"seed {seed}: accuracy {figures['accuracy']} of {figures['n']} held out")
    return _Made(net, parts, probability, temperature, figures, history)


def _finished(
    found: LabelledPictures, classes: Sequence[str], plan: PicturePlan, seed: int, first: _Made, checkpoint: Path,
    say: Callable[[str], None],
) -> _Made:  # fmt: skip
    """Fit once more to all but the test pictures of the first training, and keep that training's temperature."""
    every = PictureExamples(found.pictures, torch.from_numpy(_targets(found.known, classes)))
    learnt = every.take(np.sort(np.concatenate(first.parts[:2])))
    net, _ = _fitted(learnt, every.take(first.parts[1]), classes, plan, seed, checkpoint, say)
    test = found.pictures[torch.from_numpy(first.parts[2])]
    probability = mean_probability(symmetric_scores(net, test, plan.symmetries), first.temperature)
    figures = picture_figures(probability, [found.known[n] for n in first.parts[2]], classes)
    return first._replace(net=net, probability=probability, figures=figures)


def _fitted(
    train: PictureExamples, validation: PictureExamples, classes: Sequence[str], plan: PicturePlan, seed: int,
    checkpoint: Path, say: Callable[[str], None],
) -> tuple[PictureNet | LiteNet, tuple[PictureEpoch, ...]]:  # fmt: skip
    torch.manual_seed(seed)
    if plan.stages:
        lite = pretrained_net(len(classes), plan.stages)
        return lite, fit_last(lite, train, validation, plan.fit.augment, seed)
    net = PictureNet(classes=len(classes))
    history = fit_pictures(net, train, validation, plan.fit, seed, checkpoint, say)
    return net.cpu(), history


def _temperature(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """Return the divisor of scores that calibrates probabilities (Guo et al. 2017, ICML)."""
    choices = np.geomspace(0.3, 5.0, 60)
    losses = []
    for one in choices:
        log = torch.log(torch.softmax(scores.double() / float(one), 2).mean(0).clamp(min=1e-12))
        losses.append(float(picture_loss(log, targets).mean()))
    return round(float(choices[int(np.argmin(losses))]), 4)


def _baseline(
    found: LabelledPictures, classes: Sequence[str], parts: tuple[NDArray[np.int64], ...], seed: int
) -> dict[str, Any]:
    """Return the scores of a logistic regression on 8 x 8 px thumbnails, fitted to pictures with an unambiguous label.

    If all of these have the same label, it always predicts that.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    small = torch.nn.functional.adaptive_avg_pool2d(found.pictures.float() / 255, 8).flatten(1).numpy()
    rows = [n for n in parts[0] if len(found.known[n]) == 1]
    code = np.array([classes.index(next(iter(found.known[n]))) for n in rows], np.int64)
    probability = np.zeros((len(parts[2]), len(classes)))
    probability[:, code[:1]] = 1
    if len(np.unique(code)) > 1:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=2000, random_state=seed))
        model.fit(small[rows], code)
        probability[:, model[-1].classes_] = model.predict_proba(small[parts[2]])
    return {
        "name": "logistic regression on 8 x 8 px",
        **picture_figures(probability, [found.known[n] for n in parts[2]], classes),
    }


def _arrays(made: _Made, found: LabelledPictures) -> dict[str, NDArray[Any]]:
    weights = {name: value.numpy() for name, value in made.net.state_dict().items()}
    if isinstance(made.net, LiteNet):  # half the size
        weights = {name: one.astype(np.float16) if one.dtype == np.float32 else one for name, one in weights.items()}
    learnt = np.sort(found.digests[np.concatenate(made.parts[:2])])
    return {**weights, LEARNT: learnt}


def _card(
    task: str, classes: Sequence[str], plan: PicturePlan, seed: int, origin: Sequence[str], made: _Made,
    figures: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    shown = ("n", "accuracy", "accuracy_interval", "macro_f1", "classes", "per_class", "confusion", "ece")
    return {
        "stage": task,
        "name": "default",
        "version": datetime.now(UTC).strftime("%Y.%m.%d"),
        "input": {
            "kind": "pictures",
            "crop": plan.crop,
            "side": plan.side,
            "symmetries": plan.symmetries,
            "stages": plan.stages,
        },
        "classes": tuple(classes),
        **({"licence": "Apache-2.0"} if plan.stages else {}),
        "training": {
            "data": [Path(one).name for one in origin],
            "begins_with": ORIGIN_OF_WEIGHTS if plan.stages else "nothing",
            "pictures": [len(part) for part in made.parts],
            "split": "training, validation and test by the content of the file",
            "seed": seed,
            "epochs": len(made.history),
            "fit": asdict(plan.fit),
            "command": f"nightstride train {task} --seed {seed}",
            "minutes": figures["minutes"],
        },
        "metrics": {
            **{name: figures[name] for name in shown},
            "baseline": {name: figures["baseline"][name] for name in ("name", "accuracy", "macro_f1")},
            "repeats": [{name: one[name] for name in ("seed", "accuracy", "macro_f1")} for one in figures["repeats"]],
        },
        "calibration": {"temperature": made.temperature},
        "threshold": 0.0,
        "false_alarm_rate": "the most probable class is given",
    }
