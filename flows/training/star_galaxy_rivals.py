"""The source's three networks, each in the source's six configurations of bands."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from flows.adapters.cutout_files import LabelledCutouts
from flows.adapters.star_galaxy_models import PLANE_NETS
from flows.training.cutout_fit import CutoutFit, Epoch, apply, fit_cutouts
from flows.training.examples import map_in_processes
from flows.training.star_galaxy_inputs import CONFIGURATIONS, standardised


@dataclass(frozen=True)
class RivalPlan:
    """Fit of each network, by its name."""

    fits: dict[str, CutoutFit] = field(
        default_factory=lambda: {
            "basic_cnn": CutoutFit(epochs=30, patience=8, rate=2e-3),
            "resnet": CutoutFit(epochs=20, patience=6, rate=4e-3),
            "mlp": CutoutFit(epochs=30, patience=8, rate=1e-3),
        }
    )


class Result(NamedTuple):
    """Probability of a star of each test object, and how the network came to be."""

    probability: NDArray[np.float64]
    history: tuple[Epoch, ...]


def store_planes(folder: Path, sets: dict[str, LabelledCutouts]) -> None:
    """Write each split z-scored per plane and cutout, where fits in other processes can map it."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, data in sets.items():
        np.save(folder / f"{split}.npy", standardised(data.cutouts).numpy())
        np.save(folder / f"{split}-label.npy", data.label)


def fit_rivals(
    folder: Path, plan: RivalPlan, seed: int, workers: int, say: Callable[[str], None]
) -> dict[str, dict[str, Result]]:
    """Fit every network in every configuration; give results by network and configuration.

    Parameters
    ----------
    folder
        What `store_planes` wrote. What is fitted there already, with the same plan, is used as it is.
    plan, seed
        Of the fits.
    workers
        Processes, each with one fit at a time.
    say
        Told of each fit.
    """
    cases = [(name, planes) for name in plan.fits for planes in CONFIGURATIONS]
    found: dict[str, dict[str, Result]] = {name: {} for name in plan.fits}
    done: Iterable[Result] = map_in_processes(partial(_fit, folder, plan, seed), cases, workers)
    for (name, planes), result in zip(cases, done, strict=True):
        found[name][planes] = result
        say(f"{name}, bands {planes}: {len(result.history)} passes, loss {result.history[-1].validation_loss:.4f}")
    return found


def _fit(folder: Path, plan: RivalPlan, seed: int, case: tuple[str, str]) -> Result:
    name, configuration = case
    fit = plan.fits[name]
    place = list(CONFIGURATIONS).index(configuration)
    kept = folder / f"{name}-{place}-{fit.epochs}-{fit.batch}-{fit.rate:g}-{seed}.npz"
    if kept.exists():
        with np.load(kept) as data:
            return Result(data["probability"], tuple(Epoch(*row) for row in data["history"].tolist()))
    planes = CONFIGURATIONS[configuration]
    pixels, label = {}, {}
    for split in ("train", "validation", "test"):
        mapped = np.load(folder / f"{split}.npy", mmap_mode="r")
        pixels[split] = (torch.from_numpy(np.ascontiguousarray(mapped[:, list(planes)])),)
        label[split] = np.load(folder / f"{split}-label.npy")
    torch.manual_seed(seed)
    net = PLANE_NETS[name](len(planes))
    history = fit_cutouts(
        net, (pixels["train"], label["train"]), (pixels["validation"], label["validation"]), fit, seed
    )
    probability = expit(apply(net, pixels["test"]).astype(np.float64))
    rows = np.array([[one.loss, one.accuracy, one.validation_loss, one.validation_accuracy] for one in history])
    np.savez(kept, probability=probability, history=rows)
    return Result(probability, history)
