"""Training of a search: first its detector, then the reliability of the detector's candidates."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from flows.inputs.ztf_packets import SIDE
from flows.pipeline.weights import read_card, write_model
from flows.storage.folder import writable_folder
from flows.training.cell_fit import CellFit
from flows.training.cells import CellPlan, train_cells
from flows.training.challenge import CHALLENGE, challenge_examples, share_challenge
from flows.training.example_sets import make_sets
from flows.training.examples import Example, Wanted
from flows.training.labels import NightLabels
from flows.training.region_fit import RegionFit
from flows.training.regions import RegionPlan, train_region
from flows.training.reliability import (
    ReliabilityPlan,
    Sets,
    calibrate_reliability,
    require_reliability,
    train_reliability,
)
from flows.training.reliability_fit import ReliabilityFit
from flows.training.windows import WindowPlan, train_windows
from kernels.search.matched_filter_search import CANDIDATE_GRID
from kernels.subtraction.sfft import require_sfft
from schemas.model_card import ModelCard
from schemas.settings import NOISE_ALONE

Say = Callable[[str], None]

MOVING = (0.3, 120.0)
"""Lengths of trails, px: in 30 s at 1" per px main-belt asteroids move less than 1 px, near-Earth ones up to 100 px."""

CONTRARY = (-0.12, 0.0)
"""Side taps for noise with neighbour correlations of -0.17 or more, as in real difference images."""

Part = Literal["all", "reliability", "calibration"]
"""Parts to make: detector and reliability model; the latter only; or only its calibration and thresholds."""

DETECTORS = ("streak_net", "basic_cnn", "region_proposal", "matched_filter")
"""Detectors that `train_detect` can train; the reliability model can be trained for any detector."""


@dataclass(frozen=True)
class TrainPlan:
    """Settings for training a search. Exposures of the four sets never share a field.

    Attributes
    ----------
    train, verdict, validation, test
        Exposures per sky: for the detector and for the reliability model to learn from; to set calibration and
        threshold; to report on. The first two include crowded fields, since things that look like trails are rare.
    cells, windows, regions
        Settings for training each kind of detector.
    judge
        Settings for training the reliability model.
    seed
        Random seed.
    """

    train: tuple[Wanted, ...] = (
        Wanted("ztf", 16, 60),
        Wanted("llnl", 8, 60),
        Wanted("ztf", 32, 60, crowding=3),
        Wanted("llnl", 12, 60, crowding=3),
    )
    verdict: tuple[Wanted, ...] = (  # the name that it has on the cards
        Wanted("ztf", 24, 40),
        Wanted("llnl", 10, 40),
        Wanted("ztf", 40, 60, crowding=3),
        Wanted("llnl", 12, 60, crowding=3),
    )
    validation: tuple[Wanted, ...] = (Wanted("ztf", 40), Wanted("llnl", 16))
    test: tuple[Wanted, ...] = (Wanted("ztf", 20), Wanted("llnl", 10))
    cells: CellPlan = field(default_factory=CellPlan)
    windows: WindowPlan = field(default_factory=WindowPlan)
    regions: RegionPlan = field(default_factory=RegionPlan)
    judge: ReliabilityPlan = field(default_factory=ReliabilityPlan)
    seed: int = 1


def subtracted_plan(seed: int) -> TrainPlan:
    """Return a plan with half or more of each set subtracted, by ZOGY or by convolution, from three cameras.

    The sets of the reliability model also include exposures subtracted by SFFT; it learns from some with negatively
    correlated noise, too, both whole and in pieces like stamps.
    """
    return TrainPlan(
        train=(
            Wanted("ztf", 8, 60),
            Wanted("llnl", 4, 60),
            Wanted("ztf", 12, 60, crowding=3),
            Wanted("llnl", 4, 60, crowding=3),
            Wanted("ztf", 24, 60, subtract="mixed", lengths=MOVING),
            Wanted("ztf", 6, 60, crowding=2, subtract="mixed", lengths=MOVING),
            Wanted("decam", 4, 60, subtract="mixed", lengths=MOVING),
            Wanted("rubin", 3, 60, subtract="mixed", lengths=MOVING),
        ),
        verdict=(
            Wanted("ztf", 40, 40, subtract="mixed", lengths=MOVING),
            Wanted("ztf", 8, 40, crowding=2, subtract="mixed", lengths=MOVING),
            Wanted("decam", 6, 40, subtract="mixed", lengths=MOVING),
            Wanted("rubin", 4, 40, subtract="mixed", lengths=MOVING),
            Wanted("ztf", 12, 40),
            Wanted("llnl", 6, 40),
            Wanted("ztf", 16, 60, crowding=3),
            Wanted("llnl", 6, 60, crowding=3),
            Wanted("ztf", 24, 40, subtract="mixed", lengths=MOVING),
            Wanted("ztf", 40, 40, subtract="sfft", lengths=MOVING),
            Wanted("ztf", 16, 40, lengths=MOVING, smoothing=CONTRARY),
            Wanted("ztf", 24, 240, lengths=MOVING, smoothing=CONTRARY, islands=SIDE),
        ),
        validation=(
            Wanted("ztf", 20),
            Wanted("llnl", 10),
            Wanted("ztf", 40, subtract="mixed"),
            Wanted("decam", 6, subtract="mixed"),
            Wanted("rubin", 4, subtract="mixed"),
            Wanted("ztf", 20, subtract="sfft"),
        ),
        test=(
            Wanted("ztf", 10),
            Wanted("llnl", 6),
            Wanted("ztf", 12, subtract="zogy", lengths=MOVING),
            Wanted("ztf", 12, subtract="convolution", lengths=MOVING),
            Wanted("ztf", 12, subtract="sfft", lengths=MOVING),
        ),
        judge=ReliabilityPlan(enough=100_000, false_per_image=0.4),
        seed=seed,
    )


def quick_search_plan(seed: int) -> TrainPlan:
    """Return a plan that takes minutes, to check that everything runs."""
    few = (Wanted("ztf", 2), Wanted("llnl", 1))
    fit = CellFit(40)
    cells = CellPlan(first=fit, later=fit)
    judge = ReliabilityPlan(ReliabilityFit(networks=1, epochs=2))
    regions = RegionPlan(0.5, RegionFit(20), RegionFit(20), mined=1)
    return TrainPlan(few, few, few, few, cells, WindowPlan(rounds=1), regions, judge, seed)


def train_detect(
    out: Path,
    work: Path,
    model: str,
    plan: TrainPlan,
    workers: int,
    say: Say,
    part: Part = "all",
    challenge: Path | None = None,
    labels: NightLabels | None = None,
) -> dict[str, Any]:
    """Train a detector and its reliability model.

    Parameters
    ----------
    out
        Folder for ``detect.*`` and ``reliability.*`` (weights and cards) and pictures of the training.
    work
        Folder for simulated exposures, which are reused.
    model
        Name of a detector, or folder.
    plan
        Settings.
    workers
        Number of processes.
    say
        Receives a line for every step.
    part
        Parts to make; a detector not in `DETECTORS` is used unchanged.
    challenge
        Folder with stacks of the LLNL challenge and their truth, which replace exposures simulated like them.
    labels
        People's labels of published detections, from which the reliability model learns too.

    Returns
    -------
    dict
        The measured figures, as in the cards.

    Raises
    ------
    Misconfigured
        There is no such model, nothing to calibrate, too few exposures of the challenge, no package sfft for a plan
        that needs it, or ``out`` cannot be written; raised before anything is simulated.
    """
    if part == "all" and model not in DETECTORS:
        part = "reliability"
    if part == "calibration":
        require_reliability(model)
    elif part == "reliability":
        read_card("detect", model)
    writable_folder(out)
    if any(one.subtract == "sfft" for one in (*plan.validation, *plan.verdict, *plan.test)):
        require_sfft()
    order = ("train", "validation", "verdict", "test")
    used = {"all": order, "reliability": order[1:], "calibration": ("validation", "test")}[part]
    own: dict[str, list[Example]] = {name: [] for name in used}
    if challenge is not None:
        say(f"cutting the exposures of {challenge} into tiles")
        wanted = {name: getattr(plan, name) for name in used}
        shared, own = share_challenge(wanted, challenge_examples(challenge, work, workers), plan.seed)
        plan = replace(plan, **shared)  # type: ignore[arg-type]
    sets = {
        name: make_sets(
            work / name, _simulated(getattr(plan, name)), 1000 * plan.seed + 100 * order.index(name), workers, say
        )
        + own[name]
        for name in used
    }
    about = _about(plan, model, sets, part, challenge is not None)
    if labels is not None:
        about |= {"labels": labels.summary, "command": f"{about['command']} --labels FILE --night-out OUT"}
        about["data"] = f"{about['data'].removesuffix(', no real data')}, and labels that people gave"
    judged = Sets(sets.get("verdict", []), sets["validation"], _by_sky(sets["test"]), labels)
    if part == "calibration":
        return {"detections": calibrate_reliability(out, model, judged, plan.judge, about, workers, say)}
    common = (about, plan.seed, workers, say)
    figures = {"detector": _train_detector(out, model, sets, plan, *common)} if part == "all" else {}
    detector = str(out) if part == "all" else model
    return figures | {"detections": train_reliability(out, detector, judged, plan.judge, *common)}


def _train_detector(
    out: Path,
    model: str,
    sets: dict[str, list[Example]],
    plan: TrainPlan,
    about: dict[str, Any],
    seed: int,
    workers: int,
    say: Say,
) -> dict[str, Any]:
    train, validation, test = (sets[name] for name in ("train", "validation", "test"))
    common = (about, seed, workers, say)
    match model:
        case "streak_net":
            return train_cells(out, train, validation, plan.cells, *common)
        case "basic_cnn":
            return train_windows(out, train, validation, test, plan.windows, *common)
        case "region_proposal":
            return train_region(out, _by_sky(train), plan.regions, *common)
    return dict(write_matched_filter(out).metrics)


_FLOOR = 4.4  # minimum S/N of a candidate: noise alone has about 400 such peaks per 3080 x 3072 px
_LEAST_SNR = 10.0  # minimum S/N of a hit


def write_matched_filter(out: Path) -> ModelCard:
    """Write ``detect.*`` of the matched filter, which does not learn, to a folder and return the card.

    Its threshold is S/N 10, which 150 to 500 peaks of an image reach; at 7, stars and cosmic rays give 1,000 to 2,000,
    more than later stages can process in the time of an exposure.
    """
    card = {
        "stage": "detect",
        "name": "matched_filter",
        "version": "1",
        "input": {"grid": asdict(CANDIDATE_GRID), "kind": "matched_filter"},
        "classes": ("nothing", "streak"),
        "training": {
            "data": "none",
            "licence": "BSD-3-Clause",
            "command": "nightstride train detect --model matched_filter",
        },
        "metrics": {},
        "threshold": float(expit(0.5 * (_LEAST_SNR**2 - NOISE_ALONE**2))),
        "false_alarm_rate": f"S/N {_LEAST_SNR:g}: 150 to 500 stars and cosmic rays per image",
    }
    return write_model(out, {"floor": np.array([_FLOOR])}, card)


def _simulated(wanted: Sequence[Wanted]) -> list[Wanted]:
    return [part for part in wanted if part.preset != CHALLENGE]


def _by_sky(examples: Sequence[Example]) -> dict[str, list[Example]]:
    names = sorted({example.sky for example in examples})
    return {name: [example for example in examples if example.sky == name] for name in names}


def _about(
    plan: TrainPlan, model: str, sets: dict[str, list[Example]], part: Part, with_challenge: bool
) -> dict[str, Any]:
    simulated = "simulated exposures (nightstride simulate), "
    text = json.dumps(asdict(plan), sort_keys=True)
    return {
        "data": simulated + ("and the LLNL challenge's own" if with_challenge else "no real data"),
        "licence": "BSD-3-Clause",
        "split": "by exposure: no field appears in two sets",
        "exposures": {name: len(examples) for name, examples in sets.items()},
        "plan": asdict(plan),
        "digest": hashlib.sha256(text.encode()).hexdigest(),
        "command": f"nightstride train detect --model {model}"
        + {"all": "", "reliability": " --reliability-only", "calibration": " --calibrate"}[part]
        + (" --subtracted" if any(part.subtract != "none" for part in plan.train) else "")
        + (" --challenge FOLDER" if with_challenge else ""),
    }
