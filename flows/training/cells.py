"""Train the network that scores cells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flows.adapters.weights import write_model
from flows.training.candidates import cached_detector
from flows.training.cell_crops import CropPlan
from flows.training.cell_fit import CellFit, fit_cells
from flows.training.cell_scan import bright_places, hard_places, spots_on
from flows.training.examples import Example, map_in_processes
from flows.training.field import open_field
from flows.training.recovery import Recovery, recovery
from kernels.dense_search import DenseSearch, dense_grid
from kernels.nets.streak_net import CELL, PLANES, StreakNet

Say = Callable[[str], None]

_BRIGHT = 4.5  # S/N of the peaks that the first round is shown
_MINED = -2.0  # log odds from which a place is a hard one


@dataclass(frozen=True)
class CellPlan:
    """How the network is trained.

    Attributes
    ----------
    channels, dilations
        Of the network.
    first, later
        Fit of the first round, and of each round with the false alarms of the one before.
    rounds
        Rounds of mining.
    threshold
        Probability above which a cell is a hit: low, for the verdict decides.
    """

    channels: int = 32
    dilations: tuple[int, ...] = (1, 1, 2, 4, 2, 1)
    first: CellFit = field(default_factory=lambda: CellFit(3000))
    later: CellFit = field(default_factory=lambda: CellFit(3000, rate=1.5e-3))
    rounds: int = 1
    threshold: float = 0.15


def train_cells(
    out: Path,
    train: Sequence[Example],
    validation: Sequence[Example],
    plan: CellPlan,
    about: dict[str, Any],
    seed: int,
    workers: int,
    say: Say,
) -> dict[str, Any]:
    """Train a `StreakNet`, and write ``detect.*`` to a folder.

    Parameters
    ----------
    out
        Gets weights and card.
    train, validation
        Exposures to learn from, and to measure on.
    plan
        What to do.
    about
        What the card says of the training data.
    seed
        Of everything.
    workers
        Processes of a search, threads of a fit.
    say
        Told of each step.

    Returns
    -------
    dict
        Completeness on the validation exposures by the network's own scores, after each round.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(workers)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net: Any = StreakNet(plan.channels, plan.dilations)
    torch.nn.init.constant_(net.last.bias, -4.0)  # few cells hold anything
    net = net.to(device, memory_format=torch.channels_last)
    hard = dict(map_in_processes(_bright, train, workers))
    figures: dict[str, Any] = {}
    for number in range(plan.rounds + 1):
        say(f"round {number}: {len(train)} exposures, {sum(map(len, hard.values()))} hard places")
        fit = plan.later if number else plan.first
        loss = fit_cells(net, train, CropPlan(hard, seed=seed + number), fit, device, say)
        _write(out, net, plan, about, figures)
        seen = list(map_in_processes(partial(_recovered, out), validation, workers))
        figures[f"round {number}"] = {"loss": [round(value, 5) for value in loss]} | recovery(seen)
        say(f"round {number}: {figures[f'round {number}']}")
        if number < plan.rounds:
            hard = dict(map_in_processes(partial(_hard, out), train, workers))
    _write(out, net, plan, about, figures)
    return figures


def _write(out: Path, net: StreakNet, plan: CellPlan, about: dict[str, Any], figures: dict[str, Any]) -> None:
    grid = dense_grid(net.reach)
    card = {
        "stage": "detect",
        "name": "streak_net",
        "version": "1",
        "input": {
            "kind": "cells",
            "channels": plan.channels,
            "dilations": list(plan.dilations),
            "planes": PLANES,
            "cell": CELL,
            "dtype": "float32",
            "normalisation": "in units of the noise; see kernels.dense_input",
            "grid": vars(grid),
        },
        "classes": ("nothing", "trail"),
        "training": about,
        "metrics": {"validation": figures},
        "threshold": plan.threshold,
        "false_alarm_rate": "floor of the hits; the verdict on the merged candidates decides",
    }
    arrays: dict[str, NDArray[Any]] = {key: value.detach().cpu().numpy() for key, value in net.state_dict().items()}
    write_model(out, arrays, card)


def _bright(example: Example) -> tuple[str, NDArray[np.float64]]:
    field = open_field(example)
    return field.name, bright_places(field, _BRIGHT)


def _hard(weights: Path, example: Example) -> tuple[str, NDArray[np.float64]]:
    field = open_field(example)
    return field.name, hard_places(_search(weights), field, _MINED)


def _recovered(weights: Path, example: Example) -> Recovery:
    field = open_field(example)
    spots = spots_on(_search(weights), field, _MINED)
    return Recovery.of(spots.x, spots.y, spots.peak, field.targets, field.snr)


def _search(weights: Path) -> DenseSearch:
    loaded = cached_detector(str(weights))
    assert isinstance(loaded, DenseSearch)
    return loaded
