"""Train the network that scores windows."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flows.adapters.weights import write_model
from flows.training.examples import Example, map_in_processes
from flows.training.scan import hard_negatives, pixels
from flows.training.window_fit import Epoch, FitPlan, fit_windows
from flows.training.window_report import draw_history, window_metrics
from flows.training.window_sample import cut_windows, empty_corners, streak_corners
from kernels.nets.basic_cnn import BasicCnn

Say = Callable[[str], None]


@dataclass(frozen=True)
class WindowPlan:
    """How the network is trained.

    Attributes
    ----------
    per_streak
        Windows drawn at each streak, and as many empty ones in all.
    rounds, most
        Rounds of mining, and windows taken from one exposure in one round.
    first, later
        Fit of the first round and of each later one.
    floor
        Window probability above which a window is a hit.
    """

    per_streak: int = 24
    rounds: int = 2
    most: int = 4000
    first: FitPlan = field(default_factory=lambda: FitPlan(epochs=10))
    later: FitPlan = field(default_factory=lambda: FitPlan(epochs=8, rate=7e-4))
    floor: float = 0.5


@dataclass(frozen=True)
class Windows:
    """Windows with their labels: (n, 1, 26, 26) float32, z-scored, and (n,) 1 for a streak."""

    windows: NDArray[np.float32]
    labels: NDArray[np.int64]


def train_windows(
    out: Path,
    train: list[Example],
    validation: list[Example],
    test: list[Example],
    plan: WindowPlan,
    about: dict[str, Any],
    seed: int,
    workers: int,
    say: Say,
) -> dict[str, Any]:
    """Train a `BasicCnn`, and write ``detect.*`` and a picture of the training to a folder.

    Parameters
    ----------
    out
        Gets weights, card and picture.
    train, validation, test
        Exposures to learn from, to watch, and to report on.
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
        What the network says of windows of the test exposures.
    """
    net, history = _fit_rounds(out, train, validation, plan, about, seed, workers, say)
    check = _sample(test, plan, seed, 7)
    metrics = window_metrics(net, check.windows, check.labels)
    write_model(out, _arrays(net), _card(plan, about, metrics))
    draw_history(out / "training_windows.png", history, metrics)
    return metrics


def _fit_rounds(
    out: Path,
    train: list[Example],
    validation: list[Example],
    plan: WindowPlan,
    about: dict[str, Any],
    seed: int,
    workers: int,
    say: Say,
) -> tuple[BasicCnn, list[tuple[Epoch, ...]]]:
    torch.manual_seed(seed)
    net = BasicCnn()
    data, check = _sample(train, plan, seed, 3), _sample(validation, plan, seed, 5)
    taken: list[set[tuple[int, int]]] = [set() for _ in train]
    history = []
    for number in range(plan.rounds + 1):
        fit = plan.later if number else plan.first
        say(f"round {number}: fit on {len(data.labels)} windows, {int(data.labels.sum())} of them streaks")
        torch.set_num_threads(workers)
        history.append(fit_windows(net, data.windows, data.labels, (check.windows, check.labels), fit))
        write_model(out, _arrays(net), _card(plan, about, {}))
        say(f"round {number}: validation accuracy {history[-1][-1].validation_accuracy:.4f}")
        if number == plan.rounds:
            break
        mine = partial(hard_negatives, weights=out, most=plan.most)
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


def _sample(examples: list[Example], plan: WindowPlan, seed: int, part: int) -> Windows:
    """Windows at streaks, and as many away from everything."""
    real, empty = [], []
    for n, example in enumerate(examples):
        image, usable, background = pixels(example)
        key = [seed, part, n]
        draw = int(np.random.SeedSequence(key).generate_state(1)[0])
        corners = streak_corners(example.truth, image.shape, plan.per_streak, draw)
        real.append(cut_windows(image, usable, background, corners))
        empty.append(cut_windows(image, usable, background, empty_corners(example.truth, image.shape, 3000, draw + 1)))
    positive, negative = np.concatenate(real), np.concatenate(empty)
    negative = negative[np.random.default_rng(part).permutation(len(negative))[: len(positive)]]
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    return Windows(np.concatenate([positive, negative]), labels)


def _arrays(net: BasicCnn) -> dict[str, NDArray[Any]]:
    return {key: value.detach().numpy() for key, value in net.state_dict().items()}


def _card(plan: WindowPlan, about: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        "stage": "detect",
        "name": "basic_cnn",
        "version": "1",
        "input": {
            "kind": "windows",
            "bands": 1,
            "side": 26,
            "dtype": "float32",
            "normalisation": "z-score per window and band, ddof 0",
        },
        "classes": ("nothing", "asteroid"),
        "training": about,
        "metrics": metrics,
        "threshold": plan.floor,
        "false_alarm_rate": "floor of the hits; the verdict on the merged candidates decides",
    }
