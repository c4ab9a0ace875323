"""Train a search: its detector, then the verdict on the detector's candidates."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from flows.training.cell_fit import CellFit
from flows.training.cells import CellPlan, train_cells
from flows.training.examples import Example, Wanted, make_sets
from flows.training.verdict import Sets, VerdictPlan, train_verdict
from flows.training.verdict_fit import VerdictFit
from flows.training.windows import WindowPlan, train_windows

Say = Callable[[str], None]

LEARNED = ("streak_net", "basic_cnn")
"""Detectors that `train_detect` trains; the verdict is trained for any."""


@dataclass(frozen=True)
class TrainPlan:
    """How a search is trained. Exposures of the four sets never share a field.

    Attributes
    ----------
    train, verdict, validation, test
        Exposures per preset: for the detector to learn from; for the verdict to learn from; to choose calibration and
        threshold on; to report on. The first two also hold crowded fields, for what looks like a trail is rare.
    cells, windows
        How a detector of either kind is trained.
    judge
        How the verdict is.
    seed
        Of everything.
    """

    train: tuple[Wanted, ...] = (
        Wanted("ztf", 16, 60),
        Wanted("llnl", 8, 60),
        Wanted("ztf", 32, 60, crowding=3),
        Wanted("llnl", 12, 60, crowding=3),
    )
    verdict: tuple[Wanted, ...] = (
        Wanted("ztf", 24, 40),
        Wanted("llnl", 10, 40),
        Wanted("ztf", 40, 60, crowding=3),
        Wanted("llnl", 12, 60, crowding=3),
    )
    validation: tuple[Wanted, ...] = (Wanted("ztf", 20), Wanted("llnl", 8))
    test: tuple[Wanted, ...] = (Wanted("ztf", 10), Wanted("llnl", 5))
    cells: CellPlan = field(default_factory=CellPlan)
    windows: WindowPlan = field(default_factory=WindowPlan)
    judge: VerdictPlan = field(default_factory=VerdictPlan)
    seed: int = 1


def quick_plan(seed: int) -> TrainPlan:
    """Give a plan that is done in minutes, to see that everything runs."""
    few = (Wanted("ztf", 2), Wanted("llnl", 1))
    fit = CellFit(40)
    cells = CellPlan(first=fit, later=fit)
    judge = VerdictPlan(VerdictFit(networks=1, epochs=2))
    return TrainPlan(few, few, few, few, cells, WindowPlan(rounds=1), judge, seed)


def train_detect(
    out: Path, work: Path, model: str, plan: TrainPlan, workers: int, say: Say, verdict_only: bool = False
) -> dict[str, Any]:
    """Train a detector and its verdict.

    Parameters
    ----------
    out
        Gets ``detect.*`` and ``reliability.*`` (weights and cards) and pictures of the training.
    work
        Simulated exposures go here, and are used again if they are there.
    model
        Name of a detector, or folder.
    plan
        What to do.
    workers
        Processes.
    say
        Called with a line for every step.
    verdict_only
        Whether the detector is taken as it is; only `LEARNED` ones can be trained.

    Returns
    -------
    dict
        The measured figures, as in the cards.
    """
    if model not in LEARNED:
        verdict_only = True
    order = ("train", "validation", "verdict", "test")
    names = order[1:] if verdict_only else order
    sets = {
        name: make_sets(work / name, getattr(plan, name), 1000 * plan.seed + 100 * order.index(name), workers, say)
        for name in names
    }
    about = _about(plan, model, sets, verdict_only)
    figures: dict[str, Any] = {}
    common = (about, plan.seed, workers, say)
    if not verdict_only and model == "streak_net":
        figures["detector"] = train_cells(out, sets["train"], sets["validation"], plan.cells, *common)
    elif not verdict_only:
        figures["detector"] = train_windows(out, sets["train"], sets["validation"], sets["test"], plan.windows, *common)
    judged = Sets(sets["verdict"], sets["validation"], _by_preset(plan, sets["test"]))
    detector = model if verdict_only else str(out)
    return figures | {"detections": train_verdict(out, detector, judged, plan.judge, *common)}


def _by_preset(plan: TrainPlan, test: list[Example]) -> dict[str, list[Example]]:
    names = [part.preset for part in plan.test for _ in range(part.count)]
    pairs = sorted(zip(names, range(len(test)), strict=True))
    return {name: [test[n] for _, n in group] for name, group in groupby(pairs, key=lambda pair: pair[0])}


def _about(plan: TrainPlan, model: str, sets: dict[str, list[Example]], verdict_only: bool) -> dict[str, Any]:
    text = json.dumps(asdict(plan), sort_keys=True)
    return {
        "data": "simulated exposures (nightstride simulate), no real data",
        "licence": "BSD-3-Clause",
        "split": "by exposure: no field appears in two sets",
        "exposures": {name: len(examples) for name, examples in sets.items()},
        "plan": asdict(plan),
        "digest": hashlib.sha256(text.encode()).hexdigest(),
        "command": f"nightstride train detect --model {model}" + verdict_only * " --verdict-only",
    }
