"""Training of all star-galaxy models, and their comparison."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from flows.inputs.cutout_files import read_ztf_cutouts
from flows.simulation.cutout_set import CutoutSet
from flows.simulation.cutout_survey import DEEP, NIGHT
from flows.storage.digest import file_digest
from flows.storage.folder import writable_folder
from flows.training.cutout_fit import CutoutFit
from flows.training.star_galaxy_inputs import CONFIGURATIONS, challenge, simulated
from flows.training.star_galaxy_own import OURS, OwnPlan, Say, Splits, fit_multi
from flows.training.star_galaxy_planes import RivalPlan, fit_models, fit_networks, store_planes
from flows.training.star_galaxy_report import (
    OF_NIGHTS,
    comparison_table,
    difference,
    draw_confusion,
    draw_histories,
    draw_performance,
    figures_of,
    require_planes,
)
from flows.training.star_galaxy_single import SinglePlan, train_single


@dataclass(frozen=True)
class StarGalaxyPlan:
    """Numbers of deep and night cutouts, and plans for the source's networks, ours, and the single-band one."""

    count: int = 34_000
    nights: int = 20_000
    rivals: RivalPlan = field(default_factory=RivalPlan)
    own: OwnPlan = field(default_factory=OwnPlan)
    single: SinglePlan = field(default_factory=SinglePlan)


def quick_star_galaxy_plan() -> StarGalaxyPlan:
    """Return a plan that runs every step on few data; its weights are poor."""
    short = CutoutFit(epochs=2, patience=2, rate=2e-3)
    trees = OwnPlan().trees
    return StarGalaxyPlan(
        1000,
        1000,
        RivalPlan(dict.fromkeys(RivalPlan().fits, short)),
        OwnPlan(replace(short, batch=32), trees=replace(trees, trees=20)),
        SinglePlan(1000, OwnPlan(short, trees=replace(trees, trees=20), copies=0), short, members=2, folds=3),
    )


def train_star_galaxy(
    out: Path,
    work: Path,
    real: Path | None,
    plan: StarGalaxyPlan,
    seed: int,
    workers: int,
    say: Say,
    galstar: Path | None = None,
) -> dict[str, Any]:
    """Train and compare; write models, figures, tables and pictures to a folder.

    Parameters
    ----------
    out
        Folder for ``multi_band``, ``single_band``, ``basic_cnn``, ``resnet`` and ``mlp`` (weights and card each), and
        for ``star_galaxy.json``, ``.md`` and pictures.
    work
        Folder for simulated cutouts and finished fits; those of this plan and seed are reused.
    real
        Folder of the real ZTF cutouts; None: the single-band model only learns from simulated ones.
    plan, seed
        Plan, and seed for everything.
    workers
        Number of processes.
    say
        Receives a message on each step.
    galstar
        The challenge's file, whose cutouts replace the deep simulated ones.

    Returns
    -------
    dict
        The figures, as in ``star_galaxy.json``.

    Raises
    ------
    Misconfigured
        ``work`` holds cutouts of another plan or seed, or ``out`` cannot be written.
    BadInput
        ``galstar`` or ``real`` cannot be read.
    """
    writable_folder(out)
    if real is not None:
        read_ztf_cutouts(real)  # used last, but errors should be reported before an hour of training
    deep, place, about = _deep(galstar, work, plan, seed, workers, say)
    require_planes(deep["train"].cutouts, 2 * len(DEEP.bands))
    fits = place / "fits"  # below the cutouts, so that fits are removed with the cutouts they belong to
    store_planes(fits, deep)
    rivals = fit_networks(fits, plan.rivals, seed, workers, say)
    torch.set_num_threads(workers)
    nights = simulated(CutoutSet(NIGHT, seed, plan.nights, work / "night"), workers, say)
    training = {
        "data": f"{about}; and {plan.nights} simulated ones like those of a night of large pixels, split by field",
        "licence": "that of the challenge" if galstar else "BSD-3-Clause",
        "seed": seed,
        "command": "nightstride train star-galaxy",
    }
    own = fit_multi(out, deep, nights, plan.own, training, seed, say)
    models = fit_models(out, deep, nights, plan.rivals, own.baselines, training, seed, say)
    said = {name: {planes: one.probability for planes, one in some.items()} for name, some in rivals.items()} | own.said
    figures: dict[str, Any] = {
        "cutouts": about,
        "simulated": figures_of(said, deep["test"]),
        "nights": figures_of(own.nights | models["nights"], nights["test"], OF_NIGHTS),
        "models_on_simulated": figures_of(models["simulated"], deep["test"]),
    }
    figures["ours_against_basic_cnn"] = {
        planes: difference(said[OURS][planes], said["basic_cnn"][planes], deep["test"].label)
        for planes in CONFIGURATIONS
    }
    histories = {name: some["all"].history for name, some in rivals.items()} | {OURS: own.history}
    figures["curves"] = {name: [list(vars(epoch).values()) for epoch in history] for name, history in histories.items()}
    draw_histories(out / "star_galaxy_curves.png", histories)
    of_all = {name: some["all"] for name, some in figures["simulated"].items()}
    draw_confusion(out / "star_galaxy_confusion.png", of_all)
    draw_performance(
        out / "star_galaxy_scores.png", {name: some["all"] for name, some in said.items()}, of_all, deep["test"].label
    )
    tables = [comparison_table(figures["simulated"]), comparison_table(figures["nights"])]
    (out / "star_galaxy.md").write_text("Test cutouts:\n\n{}\nOf nights:\n\n{}".format(*tables))
    figures["real"] = train_single(out, work / "ztf", real, plan.single, seed, workers, say)
    (out / "star_galaxy.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def _deep(
    galstar: Path | None, work: Path, plan: StarGalaxyPlan, seed: int, workers: int, say: Say
) -> tuple[Splits, Path, str]:
    """Return the splits of the deep cutouts, the folder for their fits, and their description."""
    if galstar is None:
        folder = work / "deep"
        command = f"nightstride simulate --preset star-galaxy --seed {seed}"
        about = f"{plan.count} simulated cutouts ({command}), split by field: 70 % train, 10 % validation, 20 % test"
        return simulated(CutoutSet(DEEP, seed, plan.count, folder), workers, say), folder, about
    sets = challenge(galstar, seed)
    digest = file_digest(galstar)
    count = sum(map(len, sets.values()))
    about = f"{count} cutouts of {galstar.name} (sha256 {digest}), split by row: 70 % train, 10 % validation, 20 % test"
    return sets, work / f"galstar-{digest[:16]}", about
