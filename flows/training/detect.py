"""Train the search: window network with hard-negative mining, then the verdict on its candidates."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flows.adapters.weights import write_model
from flows.training.examples import Example, Wanted, make_sets, map_in_processes
from flows.training.scan import candidates, hard_negatives, pixels
from flows.training.verdict_fit import Labelled, label_candidates
from flows.training.verdict_report import choose_verdict, report_verdict
from flows.training.window_fit import Epoch, FitPlan, fit_windows
from flows.training.window_report import draw_history, window_metrics
from flows.training.window_sample import cut_windows, empty_corners, streak_corners
from kernels.nets.basic_cnn import BasicCnn
from schemas.reliability import FEATURES

Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainPlan:
    """How the search is trained. Exposures of the four sets never share a field.

    Attributes
    ----------
    train, verdict, validation, test
        Exposures per preset: to learn windows from; to learn the verdict from; to choose thresholds on; to report on.
    per_streak
        Windows drawn at each streak, and as many empty ones in all.
    rounds, most
        Rounds of mining, and windows taken from one exposure in one round.
    first, later
        Fit of the first round and of each later one.
    floor
        Window probability above which a window is a hit.
    false_per_image
        False detections per image at which the threshold of the verdict is set, on the validation exposures.
    seed
        Of everything.
    """

    train: tuple[Wanted, ...] = (Wanted("ztf", 16, 60), Wanted("llnl", 8, 60), Wanted("ztf", 2, 0))
    verdict: tuple[Wanted, ...] = (Wanted("ztf", 24), Wanted("llnl", 16), Wanted("ztf", 2, 0))
    validation: tuple[Wanted, ...] = (Wanted("ztf", 10), Wanted("llnl", 5))
    test: tuple[Wanted, ...] = (Wanted("ztf", 10), Wanted("llnl", 5))
    per_streak: int = 24
    rounds: int = 2
    most: int = 4000
    first: FitPlan = field(default_factory=lambda: FitPlan(epochs=10))
    later: FitPlan = field(default_factory=lambda: FitPlan(epochs=8, rate=7e-4))
    floor: float = 0.5
    false_per_image: float = 0.3
    seed: int = 1


@dataclass(frozen=True)
class Windows:
    """Windows with their labels: (n, 1, 26, 26) float32, z-scored, and (n,) 1 for a streak."""

    windows: NDArray[np.float32]
    labels: NDArray[np.int64]


def train_detect(out: Path, work: Path, plan: TrainPlan, workers: int, say: Say) -> dict[str, Any]:
    """Train both models of the search.

    Parameters
    ----------
    out
        Gets ``detect.*`` and ``reliability.*`` (weights and cards) and pictures of the training.
    work
        Simulated exposures go here, and are used again if they are there.
    plan
        What to do.
    workers
        Processes.
    say
        Called with a line for every step.

    Returns
    -------
    dict
        The measured figures, as in the cards.
    """
    sets = {
        name: make_sets(work / name, getattr(plan, name), 1000 * plan.seed + 100 * n, workers, say)
        for n, name in enumerate(("train", "validation", "verdict", "test"))
    }
    net, history = _fit_rounds(out, sets["train"], sets["validation"], plan, workers, say)
    check = _sample(sets["test"], plan, 7)
    metrics = window_metrics(net, check.windows, check.labels)
    card = _detect_card(plan, metrics, sets)
    write_model(out, _arrays(net), card)
    draw_history(out / "training_windows.png", history, metrics)
    labelled = {name: _label(out, sets[name], workers, say) for name in ("verdict", "validation", "test")}
    learn, choose = ([*exact, *wrong] for exact, wrong in (labelled["verdict"], labelled["validation"]))
    arrays, chosen = choose_verdict(learn, choose, plan.false_per_image, plan.seed)
    presets = [part.preset for part in plan.test for _ in range(part.count)]
    figures = report_verdict(out, arrays, chosen, labelled["test"], presets)
    write_model(out, arrays, _verdict_card(plan, figures, chosen, sets))
    return {"windows": metrics, "detections": figures}


def _fit_rounds(
    out: Path, train: list[Example], validation: list[Example], plan: TrainPlan, workers: int, say: Say
) -> tuple[BasicCnn, list[tuple[Epoch, ...]]]:
    torch.manual_seed(plan.seed)
    net = BasicCnn()
    data, check = _sample(train, plan, 3), _sample(validation, plan, 5)
    taken: list[set[tuple[int, int]]] = [set() for _ in train]
    history = []
    for number in range(plan.rounds + 1):
        fit = plan.later if number else plan.first
        say(f"round {number}: fit on {len(data.labels)} windows, {int(data.labels.sum())} of them streaks")
        torch.set_num_threads(workers)
        history.append(fit_windows(net, data.windows, data.labels, (check.windows, check.labels), fit))
        write_model(out, _arrays(net), _detect_card(plan, {}, {}))
        say(f"round {number}: validation accuracy {history[-1][-1].validation_accuracy:.4f}")
        if number == plan.rounds:
            break
        mine = partial(hard_negatives, weights=out, threshold=plan.floor, most=plan.most)
        new = []
        for seen, (windows, corners) in zip(taken, map_in_processes(mine, train, workers), strict=True):
            fresh = [n for n, corner in enumerate(map(tuple, corners.tolist())) if corner not in seen]
            seen.update(tuple(corners[n].tolist()) for n in fresh)
            new.append(windows[fresh])
        hard = np.concatenate(new)
        say(f"round {number}: {sum(map(len, new))} new false windows in {len(train)} exposures")
        data = Windows(
            np.concatenate([data.windows, hard]), np.concatenate([data.labels, np.zeros(len(hard), np.int64)])
        )
    return net, history


def _sample(examples: list[Example], plan: TrainPlan, seed: int) -> Windows:
    """Windows at streaks, and as many away from everything."""
    real, empty = [], []
    for n, example in enumerate(examples):
        image, usable, background = pixels(example)
        key = [plan.seed, seed, n]
        draw = int(np.random.SeedSequence(key).generate_state(1)[0])
        corners = streak_corners(example.truth, image.shape, plan.per_streak, draw)
        real.append(cut_windows(image, usable, background, corners))
        empty.append(cut_windows(image, usable, background, empty_corners(example.truth, image.shape, 3000, draw + 1)))
    positive, negative = np.concatenate(real), np.concatenate(empty)
    negative = negative[np.random.default_rng(seed).permutation(len(negative))[: len(positive)]]
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    return Windows(np.concatenate([positive, negative]), labels)


def _label(out: Path, examples: list[Example], workers: int, say: Say) -> tuple[list[Labelled], list[Labelled]]:
    """Labelled candidates of each exposure: with its own PSF, and with another."""
    say(f"candidates of {len(examples)} exposures")
    found = list(map_in_processes(partial(candidates, weights=out), examples, workers))
    exact, wrong = (
        [label_candidates(*pair[n], example.truth) for example, pair in zip(examples, found, strict=True)]
        for n in (0, 1)
    )
    return exact, wrong


def _arrays(net: BasicCnn) -> dict[str, NDArray[Any]]:
    return {key: value.detach().numpy() for key, value in net.state_dict().items()}


def _data(plan: TrainPlan, sets: dict[str, list[Example]]) -> dict[str, Any]:
    text = json.dumps(asdict(plan), sort_keys=True)
    return {
        "data": "simulated exposures (nightstride simulate), no real data",
        "licence": "BSD-3-Clause",
        "split": "by exposure: no field appears in two sets",
        "exposures": {name: len(examples) for name, examples in sets.items()},
        "plan": asdict(plan),
        "digest": hashlib.sha256(text.encode()).hexdigest(),
        "command": "nightstride train detect",
    }


def _detect_card(plan: TrainPlan, metrics: dict[str, Any], sets: dict[str, list[Example]]) -> dict[str, Any]:
    return {
        "stage": "detect",
        "name": "basic_cnn",
        "version": "1",
        "input": {"bands": 1, "side": 26, "dtype": "float32", "normalisation": "z-score per window and band, ddof 0"},
        "classes": ("nothing", "asteroid"),
        "training": _data(plan, sets),
        "metrics": metrics,
        "threshold": plan.floor,
        "false_alarm_rate": "floor of the hits; the verdict on the merged candidates decides",
    }


def _verdict_card(
    plan: TrainPlan, figures: dict[str, Any], chosen: dict[str, Any], sets: dict[str, list[Example]]
) -> dict[str, Any]:
    return {
        "stage": "reliability",
        "name": "verdict",
        "version": "1",
        "input": {"features": list(FEATURES), "dtype": "float32", "normalisation": "mean and scale in the weights"},
        "classes": ("false", "real"),
        "training": _data(plan, sets) | {"hidden": chosen["hidden"]},
        "metrics": figures,
        "calibration": {"kind": "logistic output", "expected_calibration_error": figures["calibration_error"]},
        "threshold": chosen["threshold"],
        "false_alarm_rate": f"{plan.false_per_image} false detections per image on the validation exposures",
    }
