"""Train everything that tells stars from galaxies, and compare it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from flows.adapters.cutout_files import CLASSES, LabelledCutouts
from flows.adapters.star_galaxy_models import Baselines, arrays_of
from flows.adapters.weights import write_model
from flows.evaluation.star_galaxy import baselines_of
from flows.simulation.cutout_set import CutoutSet
from flows.simulation.cutout_survey import DEEP, NIGHT
from flows.training.cutout_fit import CutoutFit, Epoch
from flows.training.cutout_sets import simulated
from flows.training.star_galaxy_inputs import CONFIGURATIONS, chosen_bands, views_of
from flows.training.star_galaxy_own import OwnPlan, Sample, card_of, fit_baselines, fit_own, limits, said_of
from flows.training.star_galaxy_pictures import draw_confusion, draw_curves, draw_scores
from flows.training.star_galaxy_real import train_single
from flows.training.star_galaxy_report import OF_NIGHTS, difference, figures_of, require_planes, table_of
from flows.training.star_galaxy_rivals import RivalPlan, fit_rivals, store_planes
from flows.training.star_galaxy_single import SinglePlan
from kernels.nets.band_set_net import BandSetNet
from kernels.star_galaxy_net import Known

Say = Callable[[str], None]

OURS = "band_set_net"
VERSION = "2"
_ON_CARD = ("n", "accuracy", "accuracy_interval", "auc", "ece", "confusion")


@dataclass(frozen=True)
class StarGalaxyPlan:
    """What is trained: deep cutouts and those of nights, the source's networks, ours, and that of a single band."""

    count: int = 34_000
    nights: int = 20_000
    rivals: RivalPlan = field(default_factory=RivalPlan)
    own: OwnPlan = field(default_factory=OwnPlan)
    single: SinglePlan = field(default_factory=SinglePlan)


class Own(NamedTuple):
    """What our network and the baselines say of the test cutouts, deep and of nights, and how it came to be."""

    said: dict[str, dict[str, NDArray[np.float64]]]
    nights: dict[str, dict[str, NDArray[np.float64]]]
    history: tuple[Epoch, ...]


def quick_plan() -> StarGalaxyPlan:
    """Give a plan that runs every step on little; its weights are weak."""
    short = CutoutFit(epochs=2, patience=2, rate=2e-3)
    trees = OwnPlan().trees
    return StarGalaxyPlan(
        1000,
        1000,
        RivalPlan(dict.fromkeys(RivalPlan().fits, short)),
        OwnPlan(replace(short, batch=32), trees=replace(trees, trees=20)),
        SinglePlan(1000, OwnPlan(short, trees=replace(trees, trees=20)), short, members=2, folds=3),
    )


def train_star_galaxy(
    out: Path, work: Path, real: Path | None, plan: StarGalaxyPlan, seed: int, workers: int, say: Say
) -> dict[str, Any]:
    """Train and compare; write models, figures, tables and pictures to a folder.

    Parameters
    ----------
    out
        Gets folders ``multi_band`` and ``single_band`` (weights and card), ``star_galaxy.json``, ``.md`` and pictures.
    work
        Simulated cutouts and finished fits; what is there already, of this plan and seed, is used again.
    real
        Folder of the real ZTF cutouts; None: the model of a single band learns from simulated ones alone.
    plan, seed
        What to do.
    workers
        Processes.
    say
        Told of each step.

    Returns
    -------
    dict
        The figures, as in ``star_galaxy.json``.

    Raises
    ------
    Misconfigured
        ``work`` holds cutouts of another plan or seed.
    """
    out.mkdir(parents=True, exist_ok=True)
    sets = simulated(CutoutSet(DEEP, seed, plan.count, work / "deep"), workers, say)
    require_planes(sets["train"].cutouts, 2 * len(DEEP.bands))
    fits = work / "deep" / "fits"  # of these cutouts: who removes them removes what was fitted to them
    store_planes(fits, sets)
    rivals = fit_rivals(fits, plan.rivals, seed, workers, say)
    torch.set_num_threads(workers)
    nights = simulated(CutoutSet(NIGHT, seed, plan.nights, work / "night"), workers, say)
    own = _fit_multi(out, sets, nights, plan, seed, say)
    said = {name: {planes: one.probability for planes, one in some.items()} for name, some in rivals.items()} | own.said
    figures: dict[str, Any] = {
        "simulated": figures_of(said, sets["test"]),
        "nights": figures_of(own.nights, nights["test"], OF_NIGHTS),
    }
    figures["ours_against_basic_cnn"] = {
        planes: difference(said[OURS][planes], said["basic_cnn"][planes], sets["test"].label)
        for planes in CONFIGURATIONS
    }
    histories = {name: some["all"].history for name, some in rivals.items()} | {OURS: own.history}
    figures["curves"] = {name: [list(vars(epoch).values()) for epoch in history] for name, history in histories.items()}
    draw_curves(out / "star_galaxy_curves.png", histories)
    of_all = {name: some["all"] for name, some in figures["simulated"].items()}
    draw_confusion(out / "star_galaxy_confusion.png", of_all, CLASSES)
    draw_scores(
        out / "star_galaxy_scores.png", {name: some["all"] for name, some in said.items()}, of_all, sets["test"].label
    )
    (out / "star_galaxy.md").write_text(table_of(figures["simulated"]))
    figures["real"] = train_single(out, work / "ztf", real, plan.single, seed, workers, say)
    (out / "star_galaxy.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def _fit_multi(
    out: Path,
    sets: dict[str, LabelledCutouts],
    nights: dict[str, LabelledCutouts],
    plan: StarGalaxyPlan,
    seed: int,
    say: Say,
) -> Own:
    """Fit our network and the baselines to deep cutouts and to those of nights together."""
    bands, side = len(DEEP.bands), DEEP.side
    samples, of_nights = (
        {split: Sample(views_of(data, bands, side), data.label) for split, data in some.items()}
        for some in (sets, nights)
    )
    train, validation = (samples[split].joined(of_nights[split]) for split in ("train", "validation"))
    fitted = fit_own(train, validation, plan.own, seed, say)
    baselines = fit_baselines(train, plan.own, seed)
    known, slope, offset = limits(fitted.nets, train, validation, seed)
    net = _Multi(fitted.nets, known, slope, offset, baselines)
    said, outside = _said_about(net, samples["test"])
    of_test_nights, _ = _said_about(net, of_nights["test"])
    metrics = _on_card(figures_of(said, sets["test"]))
    night = _on_card(figures_of({OURS: of_test_nights[OURS]}, nights["test"], OF_NIGHTS))
    metrics |= {"of nights": night[OURS], "share_beyond_the_limits": outside}
    card = card_of("multi_band", VERSION, "with", side, len(fitted.nets), known, slope, offset)
    card |= {
        "training": {
            "data": f"{plan.count} simulated cutouts (nightstride simulate --preset star-galaxy --seed {seed}) and "
            f"{plan.nights} like those of a night of large pixels",
            "licence": "BSD-3-Clause",
            "split": "by field: 70 % train, 10 % validation, 20 % test",
            "seed": seed,
            "epochs": len(fitted.histories[0]),
            "command": "nightstride train star-galaxy",
        },
        "metrics": metrics,
    }
    write_model(out / "multi_band", arrays_of(fitted.nets, known, baselines), card)
    return Own(said, of_test_nights, fitted.histories[0])


class _Multi(NamedTuple):
    nets: tuple[BandSetNet, ...]
    known: Known
    slope: float
    offset: float
    baselines: Baselines


def _said_about(one: _Multi, test: Sample) -> tuple[dict[str, dict[str, NDArray[np.float64]]], dict[str, float]]:
    """Give probabilities by way and configuration, and the share beyond the limits by configuration."""
    ours: dict[str, NDArray[np.float64]] = {}
    outside: dict[str, float] = {}
    for name, planes in CONFIGURATIONS.items():
        raw = said_of(one.nets, chosen_bands(test.inputs, planes))
        ours[name] = expit(one.slope * raw.log_odds.astype(np.float64) + one.offset)
        outside[name] = round(float((one.known.outlier(raw) > 1).mean()), 5)
    odds = baselines_of(one.baselines, *(field.numpy() for field in test.inputs[1:]))
    others = zip(("locus cut", "boosted moments"), odds.values(), strict=True)
    return {OURS: ours} | {name: {"all": expit(value)} for name, value in others}, outside


def _on_card(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {planes: {key: one[key] for key in _ON_CARD} for planes, one in some.items()}
        for name, some in figures.items()
    }
