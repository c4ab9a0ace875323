"""Train the model of one band and no PSF: on simulated cutouts, then on real ones, split by frame."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from flows.adapters.star_galaxy_models import new_net
from flows.evaluation.star_galaxy import baselines_of
from flows.training.boosted_fit import TreeFit
from flows.training.cutout_fit import CutoutFit, fit_cutouts
from flows.training.star_galaxy_own import OwnPlan, Sample, Say, fit_baselines, said_of
from kernels.nets.band_set_net import BandSetNet

HELD_OUT = 6
"""Every sixth frame by name is never learnt from."""


@dataclass(frozen=True)
class SinglePlan:
    """How the model is trained.

    Attributes
    ----------
    count
        Simulated cutouts.
    own
        Fit to these; its trees are those of the baseline on real frames.
    tune
        Fit to real cutouts, from there on.
    members
        Networks, each with other frames to stop by.
    folds
        Of the cross-validation by frame.
    share
        Weight of the log odds of the trees beside those of the networks.
    """

    count: int = 10_000
    own: OwnPlan = field(
        default_factory=lambda: OwnPlan(
            CutoutFit(epochs=8, patience=8, batch=128, rate=3e-3),
            trees=TreeFit(trees=60, rate=0.06, leaves=8, least=15),
            copies=0,
        )
    )
    tune: CutoutFit = field(default_factory=lambda: CutoutFit(epochs=10, patience=10, batch=32, rate=8e-4, decay=1e-2))
    members: int = 3
    folds: int = 5
    share: float = 0.5


class CrossValidated(NamedTuple):
    """Log odds of a star for each cutout, by models that have not seen its frame."""

    ours: NDArray[np.float64]
    networks: NDArray[np.float64]
    baselines: dict[str, NDArray[np.float64]]
    simulated_only: NDArray[np.float64]


def cross_validate(
    start: BandSetNet, data: Sample, group: NDArray[np.int64], plan: SinglePlan, seed: int, say: Say
) -> CrossValidated:
    """Judge each frame by models tuned, or fitted, on other frames alone."""
    ours, alone = np.full((2, len(data.label)), np.nan)
    others: dict[str, NDArray[np.float64]] = {}
    for number, (learn, judge) in enumerate(by_group(group, plan.folds, seed)):
        rest, left = data.take(learn), data.take(judge)
        nets = tune(start, rest, group[learn], plan, seed)
        alone[judge] = said_of(nets, left.inputs).log_odds
        baselines = fit_baselines(rest, plan.own, seed)
        found = baselines_of(baselines, *(one.numpy() for one in left.inputs[1:]))
        for name, odds in found.items():
            others.setdefault(name, np.full(len(data.label), np.nan))[judge] = odds
        ours[judge] = (1 - plan.share) * alone[judge] + plan.share * found["boosted_moments"]
        right = ((ours[judge] > 0) == (left.label == 1)).mean()
        say(f"fold {number + 1} of {plan.folds}: {len(judge)} cutouts, accuracy {right:.3f}")
    return CrossValidated(ours, alone, others, said_of([start], data.inputs).log_odds.astype(np.float64))


def tune(
    start: BandSetNet, data: Sample, group: NDArray[np.int64], plan: SinglePlan, seed: int
) -> tuple[BandSetNet, ...]:
    """Tune copies of a network to real cutouts, each stopped by frames of its own that it does not learn from."""
    nets = []
    splits = by_group(group, max(plan.members, 2), seed + 1)
    for n, (learn, check) in zip(range(plan.members), splits, strict=False):
        torch.manual_seed(seed + n)
        net = new_net()
        net.load_state_dict(start.state_dict())
        part, held = data.take(learn), data.take(check)
        fit_cutouts(net, part, held, plan.tune, seed + n)
        nets.append(net)
    return tuple(nets)


def by_group(group: NDArray[np.int64], folds: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Split rows into folds that divide no group and hold about as many rows each; give the others and the fold's."""
    names, count = np.unique(group, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = np.zeros(folds)
    fold = np.zeros(len(names), int)
    for name in order[np.argsort(-count[order], kind="stable")]:
        fold[name] = int(sizes.argmin())
        sizes[fold[name]] += count[name]
    of_row = fold[np.searchsorted(names, group)]
    for number in range(folds):
        if sizes[number]:
            yield np.flatnonzero(of_row != number), np.flatnonzero(of_row == number)


def held_out(group: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which rows are of frames that the shipped model never learns from."""
    names = np.unique(group)
    return np.isin(group, names[HELD_OUT // 2 :: HELD_OUT])
