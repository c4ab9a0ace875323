"""Training of the screen in front of a network that scores windows."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from scipy.special import expit, logit

from flows.pipeline.weights import read_card, write_model
from flows.runtime.parallel import map_in_processes
from flows.storage.folder import writable_folder
from flows.training.example_sets import make_sets
from flows.training.examples import Example, Wanted
from flows.training.screen_fit import (
    Guessed,
    Rows,
    ScreenFit,
    exact_search,
    fit_screen,
    guessed,
    safe_level,
    screen_figures,
    telling_rows,
)
from kernels.search.fused_net import Dense
from kernels.search.fused_search import screen_arrays
from schemas.errors import Misconfigured

Say = Callable[[str], None]
Result = TypeVar("Result")
SEEDS = 500
"""Offset of seeds, so that exposures differ from those for training the search."""
SHARE = 0.05
"""Fraction used in the fit of windows far below the floor."""


@dataclass(frozen=True)
class ScreenPlan:
    """Settings for training a screen. Exposures of the three sets never share a field.

    Attributes
    ----------
    fit, calibrate, test
        Exposures to learn from; to set the level; to report on.
    how
        Settings of the fit.
    seed
        Random seed.
    """

    fit: tuple[Wanted, ...] = (Wanted("ztf", 16, 60), Wanted("llnl", 8, 60), Wanted("rubin", 4, 60))
    calibrate: tuple[Wanted, ...] = (Wanted("ztf", 12, 60), Wanted("llnl", 6, 60), Wanted("rubin", 3, 60))
    test: tuple[Wanted, ...] = (Wanted("ztf", 12, 60), Wanted("llnl", 6, 60), Wanted("rubin", 3, 60))
    how: ScreenFit = field(default_factory=ScreenFit)
    seed: int = 1


def train_screen(out: Path, work: Path, model: str, plan: ScreenPlan, workers: int, say: Say) -> dict[str, Any]:
    """Train the screen of a network, set its level, and measure it.

    Parameters
    ----------
    out
        Folder for ``screen.safetensors`` and ``screen.json``.
    work
        Folder for simulated exposures, which are reused.
    model
        Network behind the screen: shipped name, folder or URL.
    plan
        Settings.
    workers
        Number of processes.
    say
        Receives a line for every step.

    Returns
    -------
    dict
        The measured figures, as in the card.

    Raises
    ------
    Misconfigured
        There is no such network, it does not score windows, or ``out`` cannot be written; raised before anything is
        simulated.
    """
    card = read_card("detect", model)
    if (kind := card.input.get("kind")) != "windows":
        problem = f"{model!r} is a detector of kind {kind!r}: it has no windows that a screen could leave out."
        raise Misconfigured("screen_kind", "--model", problem, "name a network of windows, such as basic_cnn.")
    writable_folder(out)
    floor = float(logit(card.threshold))
    sets = {
        name: make_sets(work / name, getattr(plan, name), 1000 * plan.seed + SEEDS + 100 * n, workers, say)
        for n, name in enumerate(("fit", "calibrate", "test"))
    }
    seen = partial(telling_rows, model=model, low=floor + plan.how.low, share=SHARE)
    rows = Rows.join(list(_counted("windows", map_in_processes(seen, sets["fit"], workers), len(sets["fit"]), say)))
    torch.set_num_threads(1)  # so that weights do not depend on the number of cores
    layers = fit_screen(rows, exact_search(model).log_odds, floor, plan.how, say)
    level = safe_level(_guessed(model, layers, sets["calibrate"], workers, say), floor)
    presets = [part.preset for part in plan.test for _ in range(part.count)]
    figures = screen_figures(_guessed(model, layers, sets["test"], workers, say), presets, floor, level)
    write_model(out, screen_arrays(layers), _card(plan, card.sha256, card.threshold, level, figures))
    return figures


def _guessed(model: str, layers: tuple[Dense, ...], examples: list[Example], workers: int, say: Say) -> list[Guessed]:
    look = partial(guessed, model=model, layers=layers)
    return list(_counted("guesses", map_in_processes(look, examples, workers), len(examples), say))


def _counted(what: str, results: Iterator[Result], total: int, say: Say) -> Iterator[Result]:
    for n, result in enumerate(results, 1):
        say(f"{what}: {n} of {total} exposures")
        yield result


def _card(
    plan: ScreenPlan, detect_sha256: str, threshold: float, level: float, figures: dict[str, Any]
) -> dict[str, Any]:
    text = json.dumps(asdict(plan), sort_keys=True)
    return {
        "stage": "screen",
        "name": "screen",
        "version": "1",
        "input": {
            "features": "what the linear layers of the search's network get, float32",
            "detect_sha256": detect_sha256,
            "threshold": threshold,
        },
        "classes": ("below the threshold", "worth the whole network"),
        "training": {
            "data": "simulated exposures (nightstride simulate), no real data; windows made up from theirs",
            "licence": "BSD-3-Clause",
            "split": "by exposure: no field appears in two sets",
            "plan": asdict(plan),
            "digest": hashlib.sha256(text.encode()).hexdigest(),
            "command": "nightstride train screen",
        },
        "metrics": figures,
        "calibration": {"level_log_odds": level, "kind": "lowest guess of a hit, less three scales of its tail"},
        "threshold": float(expit(level)),
        "false_alarm_rate": "no hit of the calibration exposures is guessed below the threshold",
    }
