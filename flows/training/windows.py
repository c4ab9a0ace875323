"""Training of the network that scores windows."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from flows.pipeline.weights import write_model
from flows.runtime.parallel import map_in_processes
from flows.storage.zarr_tiles import TileStore
from flows.training.candidates import search_example
from flows.training.examples import Example, pixels
from flows.training.window_fit import Epoch, FitPlan, draw_history, fit_windows, window_metrics
from kernels.nets.basic_cnn import BasicCnn
from kernels.search.windows import fill_windows
from kernels.statistics.matching import LEAST_VISIBLE, segment_distance
from schemas.settings import DetectSettings

SIDE = 26
LEAST_SNR = 4.0
"""Minimum S/N of streaks for training: fainter ones are noise in a window."""
CLEARANCE_PX = 24.0
"""Minimum distance of an empty window's centre from the axis of a source: beyond the window's corner and a PSF."""


def streak_corners(truth: pa.Table, shape: tuple[int, int], per_streak: int, seed: int) -> NDArray[np.int64]:
    """Draw first pixels of windows that contain a good part of a streak.

    Parameters
    ----------
    truth
        `TRUTH` rows of the image; streaks below S/N 4 or less than half visible are left out.
    shape
        (ny, nx) of the image, px.
    per_streak
        Windows per streak.
    seed
        Random seed.

    Returns
    -------
    (n, 2) int64
        (y0, x0). Windows are centred on points uniform along the trail, with random offsets of up to 8 px in x and y.
    """
    rng = np.random.default_rng(seed)
    is_streak = np.array(truth["kind"].to_pylist(), dtype=np.str_) == "streak"
    x, y, length, angle, snr, visible = (
        truth[name].to_numpy() for name in ("x", "y", "length_px", "angle_deg", "snr", "visible")
    )
    chosen = np.flatnonzero(is_streak & (snr >= LEAST_SNR) & (visible >= LEAST_VISIBLE))
    index = np.repeat(chosen, per_streak)
    # A window must contain more than a trail's tip: stay 6 px inside the ends of a long one.
    along = rng.uniform(-0.5, 0.5, len(index)) * np.maximum(length[index] - 12, 0)
    direction = np.radians(angle[index])
    jitter = rng.uniform(-8, 8, (2, len(index)))
    centre_y = y[index] + along * np.sin(direction) + jitter[1]
    centre_x = x[index] + along * np.cos(direction) + jitter[0]
    corners = np.round(np.stack([centre_y, centre_x], 1) - (SIDE - 1) / 2).astype(np.int64)
    inside: NDArray[np.bool_] = np.all((corners >= 0) & (corners <= np.subtract(shape, SIDE)), axis=1)
    return corners[inside]


def empty_corners(truth: pa.Table, shape: tuple[int, int], count: int, seed: int) -> NDArray[np.int64]:
    """Draw first pixels of windows without sources.

    Parameters
    ----------
    truth, shape, seed
        As in `streak_corners`.
    count
        Number of windows drawn; those near a source are dropped.

    Returns
    -------
    (n, 2) int64
        (y0, x0).
    """
    rng = np.random.default_rng(seed)
    corners = np.stack([rng.integers(0, shape[0] - SIDE + 1, count), rng.integers(0, shape[1] - SIDE + 1, count)], 1)
    return corners[away(truth, corners)]


def away(truth: pa.Table, corners: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which windows have their centre at least 24 px from the axis of every source, (n, 2) -> (n,)."""
    y, x = (corners + (SIDE - 1) / 2).T
    clear = np.ones(len(corners), bool)
    for x0, y0, length, angle in zip(
        *(truth[name].to_numpy() for name in ("x", "y", "length_px", "angle_deg")), strict=True
    ):
        clear &= segment_distance(x, y, x0, y0, length, angle) > CLEARANCE_PX
    return clear


def cut_windows(
    image: NDArray[np.float32], usable: NDArray[np.bool_], background: float, corners: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Cut and z-score windows like the search, without those that cannot be scored, -> (n, 1, 26, 26)."""
    out = np.empty((len(corners), 1, SIDE, SIDE), np.float32)
    kept = np.zeros(len(corners), bool)
    for n, (y0, x0) in enumerate(corners):
        box = (slice(y0, y0 + SIDE), slice(x0, x0 + SIDE))
        pixels, good = np.ascontiguousarray(image[box])[None], np.ascontiguousarray(usable[box])
        kept[n] = fill_windows(pixels, good, background, (1, 1), 1, 0, out[n : n + 1])[1][0]
    return out[kept]


def hard_negatives(example: Example, weights: Path, most: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return windows that the network takes for asteroids but that have no source, at most ``most``, worst first.

    Returns
    -------
    windows : (n, 1, 26, 26) float32
    corners : (n, 2) int64
        First pixels of the windows.
    """
    store = TileStore.open(example.store)
    planes = {name: store.read_all(name) for name in ("difference", "mask")}
    hits = search_example(planes, store.info, str(weights)).rows
    corners = np.stack([hits["row"].to_numpy(), hits["column"].to_numpy()], 1).astype(np.int64)
    order = np.argsort(-hits["logit"].to_numpy(), kind="stable")
    corners = corners[order] * DetectSettings().stride
    corners = corners[away(example.truth, corners)][:most]
    return cut_windows(*pixels(example), corners), corners


Say = Callable[[str], None]


@dataclass(frozen=True)
class WindowPlan:
    """Settings for training the network.

    Attributes
    ----------
    per_streak
        Windows drawn per streak; in total as many empty ones are drawn.
    rounds, most
        Rounds of mining, and largest number of windows per exposure and round.
    first, later
        Fit of the first round, and of later ones.
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
class TrainingWindows:
    """Windows with labels: (n, 1, 26, 26) float32, z-scored, and (n,) with 1 for a streak."""

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

    Parameters as in `flows.training.cells.train_cells`, with exposures to learn from, to validate and to report on.

    Returns
    -------
    dict
        Figures on windows of the test exposures.
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
        data = TrainingWindows(
            np.concatenate([data.windows, hard]), np.concatenate([data.labels, np.zeros(len(hard), np.int64)])
        )
    return net, history


def _sample(examples: list[Example], plan: WindowPlan, seed: int, part: int) -> TrainingWindows:
    """Return windows at streaks, and as many away from all sources."""
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
    return TrainingWindows(np.concatenate([positive, negative]), labels)


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
