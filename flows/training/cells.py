"""Training of the network that scores cells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from flows.pipeline.weights import write_model
from flows.runtime.parallel import map_in_processes
from flows.training.candidates import cached_detector
from flows.training.cell_fit import CellFit, CropPlan, fit_cells
from flows.training.examples import Example, TrainingField, open_field
from flows.training.fits import false_level
from kernels.image.search_image import Places, SearchImage
from kernels.nets.streak_net import CELL, PLANES, StreakNet
from kernels.search.dense_search import DenseSearch, dense_grid
from kernels.search.detector import choose_device
from kernels.statistics.completeness import Share
from kernels.statistics.matching import Targets, match_detections, segment_distance

_CLEAR_PX = 10.0  # px: minimum distance of a hard position from every source
_SPREAD = 4.0  # log odds within this of the peak count for the position


@dataclass(frozen=True)
class Spots:
    """Connected cells above a floor: (n,) positions of the centre, px, and highest log odds."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    peak: NDArray[np.float64]


def spots_on(search: DenseSearch, field: TrainingField, floor: float) -> Spots:
    """Search an exposure and return the peaks.

    Parameters
    ----------
    search
        Search with the network.
    field
        Exposure.
    floor
        Least log odds of a cell.
    """
    ny, nx = field.pixels.shape
    plane = SearchImage.of(field.info, np.asarray(field.pixels), np.asarray(field.usable))
    logits, _ = search.search(plane, Places(0, 0, ny // CELL, nx // CELL, CELL))
    return spots(logits.reshape(ny // CELL, nx // CELL), floor)


def spots(logits: NDArray[np.float32], floor: float) -> Spots:
    """Join neighbouring cells of (rows, columns) log odds into spots, centred on their brightest cells."""
    label, count = ndimage.label(logits > floor, np.ones((3, 3)))
    row, column = np.nonzero(label)
    of, value = label[row, column] - 1, logits[row, column].astype(np.float64)
    peak = np.full(count, -np.inf)
    np.maximum.at(peak, of, value)
    weight = np.where(value > peak[of] - _SPREAD, 1 / (1 + np.exp(-value)), 0.0)
    total = np.bincount(of, weight, count)
    x, y = (np.bincount(of, weight * place, count) / total * CELL + (CELL - 1) / 2 for place in (column, row))
    return Spots(x, y, peak)


def hard_places(search: DenseSearch, field: TrainingField, floor: float) -> NDArray[np.float64]:
    """Return what looks like a trail but is not, (n, 3): x, y, px, and relative frequency in training."""
    found = spots_on(search, field, floor)
    free = np.ones(len(found.x), bool)
    targets = field.targets
    for n in np.flatnonzero(~field.dark):
        line = (targets.x[n], targets.y[n], targets.length[n], targets.angle[n])
        free &= segment_distance(found.x, found.y, *line) > _CLEAR_PX
    often = 1 / (1 + np.exp(-(found.peak[free] - 1.0))) + 0.03
    return np.column_stack([found.x[free], found.y[free], often])


def bright_places(field: TrainingField, snr: float) -> NDArray[np.float64]:
    """Return peaks of the smoothed image, as hard positions for an untrained network; see `hard_places`."""
    info = field.info
    values = np.where(field.usable, (field.pixels - info.background) / info.noise, 0).astype(np.float32)
    smooth = torch.from_numpy(ndimage.gaussian_filter(values, info.psf.fwhm_px / 2.355))
    smooth = smooth / (1.4826 * smooth.abs().median())
    highest = torch.nn.functional.max_pool2d(smooth[None, None], 5, 1, 2)[0, 0]
    y, x = ((smooth == highest) & (smooth > snr)).nonzero(as_tuple=True)
    return np.column_stack([x.numpy(), y.numpy(), np.ones(len(x))]).astype(np.float64)


@dataclass(frozen=True)
class RecoveryCurve:
    """Scored positions on one exposure, compared with the truth.

    Attributes
    ----------
    snr : (streaks,)
        Matched-filter S/N of the streaks to be found.
    score : (streaks,)
        Score of the position that found each; minus infinity if none did.
    false : (n,)
        Scores of positions that found nothing.
    """

    snr: NDArray[np.float64]
    score: NDArray[np.float64]
    false: NDArray[np.float64]

    @staticmethod
    def of(
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        score: NDArray[np.float64],
        targets: Targets,
        snr: NDArray[np.float64],
    ) -> "RecoveryCurve":
        """Match positions (px) and their scores with true sources."""
        matches = match_detections(x, y, score, targets)
        best = np.full(len(snr), -np.inf)
        hit = matches.target >= 0
        best[matches.target[hit]] = score[hit]
        asked = targets.counted
        return RecoveryCurve(snr[asked], best[asked], score[matches.false])


def level_at(found: Sequence[RecoveryCurve], false_per_image: float) -> float:
    """Return the lowest score with at most ``false_per_image`` false positions per image."""
    return false_level([one.false for one in found], false_per_image)


def share_found(found: Sequence[RecoveryCurve], level: float, least: float, below: float = np.inf) -> Share:
    """Return the fraction of streaks with ``least`` <= S/N < ``below`` that scored at least ``level``."""
    snr, score = (np.concatenate([getattr(one, name) for one in found]) for name in ("snr", "score"))
    asked = (snr >= least) & (snr < below)
    # Without false positions the level is minus infinity, as is the score of a streak that nothing found.
    passed = (score >= level) & (score > -np.inf)
    return Share(int((asked & passed).sum()), int(asked.sum()))


def recovery(found: Sequence[RecoveryCurve], rates: tuple[float, ...] = (0.5, 1.0, 10.0)) -> dict[str, Any]:
    """Return completeness for S/N >= 7 and >= 10 at given numbers of false positions per image."""
    return {
        f"at {rate:g} false": {
            f"c{least:g}": [share.found, share.n]
            for least in (7.0, 10.0)
            for share in [share_found(found, level_at(found, rate), least)]
        }
        for rate in rates
    }


Say = Callable[[str], None]


def _found(seen: Sequence[RecoveryCurve], rate: float = 1.0) -> str:
    """Return the counts of `recovery` at a number of false positions per image, in words."""
    shares = ((least, share_found(seen, level_at(seen, rate), least)) for least in (7.0, 10.0))
    told = (f"{share.found} of {share.n} trails of S/N {least:g} and more" for least, share in shares)
    return f"at {rate:g} false per image it finds {', '.join(told)}"


_BRIGHT = 4.5  # S/N of peaks used as hard positions in the first round
_MINED = -2.0  # minimum log odds of hard positions in later rounds


@dataclass(frozen=True)
class CellPlan:
    """Settings for training the network.

    Attributes
    ----------
    channels, dilations
        Architecture of the network.
    first, later
        Settings of the first fit, and of later fits with the false alarms of the previous one.
    rounds
        Number of later rounds.
    threshold
        Probability above which a cell is a hit; low, since the reliability model decides.
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
        Folder for weights and card.
    train, validation
        Exposures to learn from and to measure on; no field is in both.
    plan
        Settings.
    about
        Description of the training data for the card.
    seed
        Random seed.
    workers
        Number of processes of a search, and of threads of a fit.
    say
        Receives a line for every step.

    Returns
    -------
    dict
        Completeness on the validation exposures by the network's own scores, after each round.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(workers)
    device = choose_device("auto")
    net: Any = StreakNet(plan.channels, plan.dilations)
    torch.nn.init.constant_(net.last.bias, -4.0)  # few cells have a trail
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
        say(f"round {number}: loss {loss[-1]:.5f}; {_found(seen)}")
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
            "normalisation": "in units of the noise; see kernels.search.dense_search",
            "grid": vars(grid),
        },
        "classes": ("nothing", "trail"),
        "training": about,
        "metrics": {"validation": figures},
        "threshold": plan.threshold,
        "false_alarm_rate": "floor of the hits; the reliability model on the merged candidates decides",
    }
    arrays: dict[str, NDArray[Any]] = {key: value.detach().cpu().numpy() for key, value in net.state_dict().items()}
    write_model(out, arrays, card)


def _bright(example: Example) -> tuple[str, NDArray[np.float64]]:
    field = open_field(example)
    return field.name, bright_places(field, _BRIGHT)


def _hard(weights: Path, example: Example) -> tuple[str, NDArray[np.float64]]:
    field = open_field(example)
    return field.name, hard_places(_search(weights), field, _MINED)


def _recovered(weights: Path, example: Example) -> RecoveryCurve:
    field = open_field(example)
    spots = spots_on(_search(weights), field, _MINED)
    return RecoveryCurve.of(spots.x, spots.y, spots.peak, field.targets, field.snr)


def _search(weights: Path) -> DenseSearch:
    loaded = cached_detector(str(weights))
    assert isinstance(loaded, DenseSearch)
    return loaded
