"""Training of anomaly models, from normal pictures only."""

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
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
from flows.pipeline.weights import read_weights, write_model
from flows.results.evaluation.anomaly import anomaly_figures, draw_scores, tell_absent, verdict_table
from flows.results.evaluation.picture_scores import LEARNT, read_small
from flows.runtime.parallel import map_in_processes
from flows.simulation.galaxy_pictures import LEVELS
from flows.storage.folder import writable_folder
from flows.training.shape_codes import OUTPUTS, CodesPlan, fit_shape_codes, simulated_galaxies
from flows.training.svdd_fit import (
    SvddPlan,
    check_plan,
    fit_autoencoder,
    fit_rivals,
    fit_sphere,
    reconstruction_error,
)
from kernels.pictures.anomaly_model import KINDS, AnomalyModel, code_scale, picture_codes
from kernels.pictures.augment import Augment
from kernels.pictures.compact_net import PictureNet
from kernels.pictures.svdd import SvddDecoder, SvddEncoder
from kernels.statistics.class_scores import area_under_roc
from schemas.errors import BadInput, Misconfigured
from schemas.model_card import ModelCard

Say = Callable[[str], None]
Arrays = dict[str, NDArray[Any]]

BEYOND = (0.5, 0.1, 0.025, 0.005)
"""Fractions of unseen normal pictures beyond the four limits that separate the verdicts."""

FEWEST = 20
"""Minimum number of normal pictures to learn from."""

SIMULATED = "simulated: "
"""Prefix of the level of detail in the labels of simulated galaxies."""

_SIMULATED_TEST = 400
_TEST_SEED = 1_000_003


@dataclass(frozen=True)
class AnomalyPlan:
    """Plan of a training.

    Attributes
    ----------
    kind
        ``codes``: distance to the nearest normal codes of a network trained on simulated galaxies; ``svdd``: Deep SVDD.
    crop, side
        Fraction of the shorter side that is used, and size in px to which ``codes`` scales it; Deep SVDD has a side of
        its own.
    codes, svdd
        Plans of the two kinds.
    shares
        Fractions of normal pictures to learn from, to set limits on, and to test on.
    simulated
        Number of simulated galaxies in the test, labelled by their level of detail.
    """

    kind: str = "codes"
    crop: float = 0.45
    side: int = 64
    codes: CodesPlan = field(default_factory=CodesPlan)
    svdd: SvddPlan = field(default_factory=SvddPlan)
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2)
    simulated: int = _SIMULATED_TEST

    @property
    def seen_side(self) -> int:
        """Return the side of the network's input, px."""
        return self.side if self.kind == "codes" else self.svdd.side


def anomaly_plan(kind: str, side: int, settings: Mapping[str, Any]) -> AnomalyPlan:
    """Return the plan of a kind, ``codes``, ``one-class`` or ``soft-boundary``; ``settings`` are those of Deep SVDD.

    Rate, epochs and milestone also apply to the autoencoder unless given separately.

    Raises
    ------
    Misconfigured
        There is no such kind.
    """
    if kind not in KINDS:
        raise Misconfigured("unknown_kind", "--kind", f"{kind!r} is not known.", f"give one of {', '.join(KINDS)}.")
    if kind == "codes":
        return AnomalyPlan()
    before = {f"pretrain_{name}": settings[name] for name in ("rate", "epochs", "milestone") if name in settings}
    return AnomalyPlan(kind="svdd", svdd=SvddPlan(**{"objective": kind, "side": side, **before, **settings}))


def read_plan(path: Path) -> tuple[AnomalyPlan, list[str], int]:
    """Return plan, labels of normal pictures, and seed from a ``config.json``.

    Raises
    ------
    BadInput
        It cannot be read, or is not a plan.
    """
    try:
        known = json.loads(path.read_text())
        svdd = dict(known["svdd"])
        svdd["augment"] = Augment(**svdd["augment"])
        plan = {name: known[name] for name in ("kind", "crop", "side", "simulated")}
        shares = tuple(known["shares"])
        found = AnomalyPlan(**plan, codes=CodesPlan(**known["codes"]), svdd=SvddPlan(**svdd), shares=shares)
        return found, [str(one) for one in known["normal"]], int(known["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"is not a plan of a training ({type(error).__name__}: {error})."
        raise BadInput(
            "unreadable_config", str(path), problem, "give the config.json of an earlier training."
        ) from error


class _Pictures(NamedTuple):
    pixels: torch.Tensor
    labels: list[str]
    digests: NDArray[np.int64]
    locations: list[str]
    unreadable: dict[str, str]

    def take(self, rows: NDArray[np.int64]) -> "_Pictures":
        labels, places = [self.labels[n] for n in rows], [self.locations[n] for n in rows]
        return _Pictures(self.pixels[torch.from_numpy(rows)], labels, self.digests[rows], places, {})


def train_anomaly(
    data: Sequence[Path],
    normal: Sequence[str],
    apply: Sequence[Path],
    out: Path,
    plan: AnomalyPlan,
    seed: int,
    workers: int,
    say: Say,
    begin_with: str | None = None,
) -> dict[str, Any]:
    """Learn what is normal, and write the model, figures, scores and a picture of the scores.

    Parameters
    ----------
    data
        CSV files of ``location, label``, or folders; empty: the real galaxies in ``NIGHTSTRIDE_DATA``, all of them
        normal.
    normal
        Labels of normal pictures; empty: all.
    apply
        Pictures to score only, given like ``data``.
    out
        Folder for ``anomaly.*``, ``results.json``, ``config.json``, ``test_scores.csv``, ``apply_scores.csv`` and
        ``scores.png``.
    plan, seed, workers
        Plan; seed for everything; number of processes that read and simulate.
    say
        Receives a line on each step.
    begin_with
        Model, shipped or in a folder, whose network is reused: unchanged by ``codes``, in place of the autoencoder's
        encoder by Deep SVDD.

    Returns
    -------
    dict
        Figures of `flows.results.evaluation.anomaly.anomaly_figures` on pictures not learnt from, and ``rivals``: the
        areas under the ROC of the simplest methods.

    Raises
    ------
    BadInput
        Fewer than 20 pictures are normal.
    Misconfigured
        There are no pictures, the plan is not possible, or ``out`` cannot be written.
    """
    check_plan(plan.svdd)
    files, origin = (list_pictures(*data, say=say), [one.name for one in data]) if data else _of_environment()
    tell_absent(normal, files, say)
    files = [file for file in files if file.label] if normal else files
    waiting = list_pictures(*apply, say=say)
    found = _read_all(files, plan, workers)
    is_normal = np.array([not normal or label in normal for label in found.labels])
    if is_normal.sum() < FEWEST:
        problem = f"{int(is_normal.sum())} readable pictures are labelled {list(normal)}, of {len(files)}."
        raise BadInput("too_few", "train anomaly", problem, f"give {FEWEST} normal pictures or more.")
    writable_folder(out)
    start = perf_counter()
    rows = np.flatnonzero(is_normal)
    parts = split_pictures([f"{one:016x}" for one in found.digests[rows]], [0] * len(rows), plan.shares, seed)
    learnt, limit, test = (found.take(rows[part]) for part in parts)
    arrays, error = _fitted(learnt.pixels, plan, seed, workers, say, begin_with)
    model = _model(plan, arrays, (0.0, 0.0, 0.0, 0.0))
    limits = [round(float(one), 6) for one in np.quantile(model.scores(limit.pixels), 1 - np.array(BEYOND))]
    model = _model(plan, arrays, limits)
    tested = _with_anomalies(test, found.take(np.flatnonzero(~is_normal)), plan, seed, workers)
    scores = model.scores(tested.pixels)
    verdicts = model.verdicts(scores)
    names = sorted(set(test.labels))
    figures = anomaly_figures(scores, verdicts, tested.labels, names)
    rivals = fit_rivals(learnt.pixels, seed) | ({"error of the autoencoder": error} if error else {})
    figures |= {
        "rivals": {name: _areas(score(tested.pixels), tested.labels, names) for name, score in rivals.items()},
        "limits": limits,
        "unreadable": found.unreadable,
        "minutes": round((perf_counter() - start) / 60, 1),
    }
    _write(out, plan, seed, normal, origin, arrays, limits, figures, (learnt, limit))
    _write_scores(out / "test_scores.csv", tested, scores, verdicts)
    if waiting:
        other = _read_all(waiting, plan, workers)
        given = model.scores(other.pixels)
        _write_scores(out / "apply_scores.csv", other, given, model.verdicts(given))
    shown = ["normal" if label in names else label for label in tested.labels]
    draw_scores(out, scores, shown, limits)
    return figures


def _of_environment() -> tuple[list[PictureFile], list[str]]:
    root = Path(os.environ.get("NIGHTSTRIDE_DATA", "")) / "04_galaxy_zoo"
    if "NIGHTSTRIDE_DATA" not in os.environ or not root.is_dir():
        remedy = "give --data FOLDER, or name the folder of the real data in NIGHTSTRIDE_DATA."
        raise Misconfigured("no_data", "train anomaly", "there are no pictures to learn from.", remedy)
    found = list_pictures(root / "smallGZ1/Imagenes", root / "gz2_spirals_vs_non/train")
    return [PictureFile(file.path, "real") for file in found], ["04_galaxy_zoo"]


def _read_all(files: Sequence[PictureFile], plan: AnomalyPlan, workers: int) -> _Pictures:
    read = list(map_in_processes(partial(read_small, plan.crop, plan.seen_side), [one.path for one in files], workers))
    good = [n for n, one in enumerate(read) if not isinstance(one, str)]
    if not good:
        raise BadInput("unreadable", "train anomaly", "none of the pictures can be read.", "give JPEG, PNG or FITS.")
    return _Pictures(
        torch.from_numpy(np.stack([read[n][0] for n in good])),
        [files[n].label for n in good],
        np.array([read[n][1] for n in good], np.int64),
        [str(files[n].path) for n in good],
        {str(files[n].path): one for n, one in enumerate(read) if isinstance(one, str)},
    )


def _fitted(
    normal: torch.Tensor, plan: AnomalyPlan, seed: int, workers: int, say: Say, begin_with: str | None
) -> tuple[Arrays, Callable[[torch.Tensor], NDArray[np.float64]] | None]:
    """Return the arrays of a model, and a function that scores by the autoencoder's error if there is one."""
    torch.manual_seed(seed)
    before = None if begin_with is None else read_weights("anomaly", begin_with)
    if plan.kind == "codes":
        if before is not None:
            net = _codes_net(AnomalyModel(*before))
        else:
            say(f"simulating {plan.codes.galaxies} galaxies")
            pictures, shapes = simulated_galaxies(plan.codes.galaxies, plan.crop, plan.side, seed, workers)
            net = fit_shape_codes(pictures, shapes, plan.codes, seed, say)
        codes = picture_codes(net, normal)
        middle, spread = code_scale(codes, OUTPUTS)
        reference = ((codes - middle) / spread).astype(np.float16)
        return _weights(net) | {"reference": reference, "middle": middle, "spread": spread}, None
    encoder, decoder = SvddEncoder(plan.svdd.side), SvddDecoder(plan.svdd.side)
    error = None
    if before is not None:
        encoder.load_state_dict(_encoder(AnomalyModel(*before), plan.svdd.side).state_dict())
    else:
        fit_autoencoder(encoder, decoder, normal, plan.svdd, seed, say)
        kept = SvddEncoder(plan.svdd.side)
        kept.load_state_dict(encoder.state_dict())

        def error(pictures: torch.Tensor) -> NDArray[np.float64]:
            return reconstruction_error(kept, decoder, pictures).double().numpy()

    centre, radius2 = fit_sphere(encoder, normal, plan.svdd, seed, say)
    return _weights(encoder) | {"centre": centre.numpy(), "radius2": np.array([radius2])}, error


def _encoder(model: AnomalyModel, side: int) -> SvddEncoder:
    if isinstance(model.net, SvddEncoder) and int(model.card.input["side"]) == side:
        return model.net
    problem = f"is not a model by Deep SVDD that sees {side} px."
    raise Misconfigured("other_network", "--load-model", problem, "name one that does, or give its --side.")


def _codes_net(model: AnomalyModel) -> PictureNet:
    if isinstance(model.net, PictureNet):
        return model.net
    problem = "is a model by Deep SVDD, whose network has other codes."
    raise Misconfigured("other_network", "--load-model", problem, "name one of the kind codes.")


def _weights(net: torch.nn.Module) -> Arrays:
    return {name: value.detach().numpy().copy() for name, value in net.state_dict().items()}


def _with_anomalies(test: _Pictures, other: _Pictures, plan: AnomalyPlan, seed: int, workers: int) -> _Pictures:
    """Return the pictures to test on: normal ones, those with other labels, and simulated galaxies."""
    parts = [test, other]
    if plan.simulated:
        pixels, shapes = simulated_galaxies(plan.simulated, plan.crop, plan.seen_side, seed + _TEST_SEED, workers)
        labels = [SIMULATED + LEVELS[one.level] for one in shapes]
        parts.append(_Pictures(pixels, labels, np.zeros(len(labels), np.int64), ["simulated"] * len(labels), {}))
    return _Pictures(
        torch.cat([one.pixels for one in parts]),
        [label for one in parts for label in one.labels],
        np.concatenate([one.digests for one in parts]),
        [where for one in parts for where in one.locations],
        {},
    )


def _areas(scores: NDArray[np.floating], labels: Sequence[str], normal: Sequence[str]) -> dict[str, Any]:
    """Return the areas under the ROC of all anomalous pictures, and of each label's, against normal ones."""
    kind = np.array(labels)
    usual = scores[np.isin(kind, normal)]
    areas = {"all": scores[~np.isin(kind, normal)]} | {
        label: scores[kind == label] for label in sorted(set(labels) - set(normal))
    }
    return {
        name: round(area.value, 5) for name, one in areas.items() if (area := area_under_roc(one, usual)) is not None
    }


def _model(plan: AnomalyPlan, arrays: Arrays, limits: Sequence[float]) -> AnomalyModel:
    return AnomalyModel(ModelCard.model_validate(_card(plan, 0, (), (), limits, {}, ())), arrays)


def _card(
    plan: AnomalyPlan, seed: int, normal: Sequence[str], origin: Sequence[str], limits: Sequence[float],
    figures: dict[str, Any], pictures: Sequence[int],
) -> dict[str, Any]:  # fmt: skip
    kind = plan.kind if plan.kind == "codes" else plan.svdd.objective
    shown = ("n", "auc", "auc_interval", "accuracy", "confusion", "verdicts", "per_label", "rivals")
    return {
        "stage": "anomaly",
        "name": "default",
        "version": datetime.now(UTC).strftime("%Y.%m.%d"),
        "sha256": "",
        "input": {"kind": kind, "crop": plan.crop, "side": plan.seen_side, "outputs": OUTPUTS},
        "classes": ("normal", "anomalous"),
        "training": {
            "data": list(origin),
            "normal": list(normal) or "all",
            "pictures": list(pictures),
            "split": "to learn from, to set limits by, and to test on, by the content of the file",
            "seed": seed,
            "plan": asdict(plan.codes if plan.kind == "codes" else plan.svdd),
            "command": f"nightstride train anomaly --seed {seed}",
            "minutes": figures.get("minutes", 0.0),
        },
        "metrics": {name: figures[name] for name in shown if name in figures},
        "calibration": {"limits": list(limits), "beyond": list(BEYOND)},
        "threshold": float(limits[1]),
        "false_alarm_rate": "of unseen normal pictures half, a tenth, 2.5 % and 0.5 % lie beyond the four limits",
    }


def _write(
    out: Path, plan: AnomalyPlan, seed: int, normal: Sequence[str], origin: Sequence[str], arrays: Arrays,
    limits: Sequence[float], figures: dict[str, Any], learnt: tuple[_Pictures, _Pictures],
) -> None:  # fmt: skip
    digests = np.sort(np.concatenate([one.digests for one in learnt]))
    counts = [len(one.labels) for one in learnt]
    card = _card(plan, seed, normal, origin, limits, figures, [*counts, figures["n"]])
    write_model(out, arrays | {LEARNT: digests}, card)
    (out / "results.json").write_text(json.dumps(figures, indent=2) + "\n")
    (out / "config.json").write_text(json.dumps(asdict(plan) | {"seed": seed, "normal": list(normal)}, indent=2) + "\n")


def _write_scores(
    path: Path, pictures: _Pictures, scores: NDArray[np.floating], verdicts: NDArray[np.floating]
) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["location", "label", "score", "verdict"])
        writer.writeheader()
        writer.writerows(verdict_table(pictures.locations, pictures.labels, scores, verdicts))
