"""The source's networks, with its combinations of bands."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from flows.inputs.cutout_files import LabelledCutouts
from flows.pipeline.weights import write_model
from flows.runtime.parallel import map_in_processes
from flows.simulation.cutout_survey import DEEP
from flows.storage.writing import TRAIN_AGAIN, write_whole
from flows.training.cutout_fit import CutoutEpoch, CutoutFit, Inputs, apply, fit_cutouts
from flows.training.star_galaxy_inputs import CONFIGURATIONS, hide_bands, standardised
from flows.training.star_galaxy_own import CutoutSample, Say, Splits, calibrated_card, limits, on_card
from kernels.objects.cutout_features import band_views, make_planes
from kernels.objects.star_galaxy_model import SIGNAL, Known, Raw, best_signal, said_of_planes, z_scored
from kernels.objects.star_galaxy_weights import PLANE_NETS, Baselines, plane_arrays_of
from kernels.statistics.class_scores import binary_scores
from schemas.objects import SIDE


@dataclass(frozen=True)
class RivalPlan:
    """Fit of each network, by name."""

    fits: dict[str, CutoutFit] = field(
        default_factory=lambda: {
            "basic_cnn": CutoutFit(epochs=30, patience=8, rate=2e-3),
            "resnet": CutoutFit(epochs=20, patience=6, rate=4e-3),
            "mlp": CutoutFit(epochs=30, patience=8, rate=1e-3),
        }
    )


class PlaneResult(NamedTuple):
    """Probability of a star for each test object, and the network's history."""

    probability: NDArray[np.float64]
    history: tuple[CutoutEpoch, ...]


def store_planes(folder: Path, sets: dict[str, LabelledCutouts]) -> None:
    """Write each split, z-scored per plane and cutout, to files that fits in other processes can map."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, data in sets.items():
        np.save(folder / f"{split}.npy", standardised(data.cutouts).numpy())
        np.save(folder / f"{split}-label.npy", data.label)


def fit_networks(
    folder: Path, plan: RivalPlan, seed: int, workers: int, say: Callable[[str], None]
) -> dict[str, dict[str, PlaneResult]]:
    """Fit every network in every configuration; return results by network and configuration.

    Parameters
    ----------
    folder
        Folder from `store_planes`. Existing fits with the same plan are reused.
    plan, seed
        Plan and seed of the fits.
    workers
        Number of processes, each with one fit at a time.
    say
        Receives a message on each fit.
    """
    cases = [(name, planes) for name in plan.fits for planes in CONFIGURATIONS]
    found: dict[str, dict[str, PlaneResult]] = {name: {} for name in plan.fits}
    done: Iterable[PlaneResult] = map_in_processes(partial(_fit, folder, plan, seed), cases, workers)
    for (name, planes), result in zip(cases, done, strict=True):
        found[name][planes] = result
        say(f"{name}, bands {planes}: {len(result.history)} passes, loss {result.history[-1].validation_loss:.4f}")
    return found


def _fit(folder: Path, plan: RivalPlan, seed: int, case: tuple[str, str]) -> PlaneResult:
    name, configuration = case
    fit = plan.fits[name]
    place = list(CONFIGURATIONS).index(configuration)
    kept = folder / f"{name}-{place}-{fit.epochs}-{fit.batch}-{fit.rate:g}-{seed}.npz"
    if kept.exists():
        with np.load(kept) as data:
            return PlaneResult(data["probability"], tuple(CutoutEpoch(*row) for row in data["history"].tolist()))
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
    held = BytesIO()
    np.savez(held, probability=probability, history=rows)
    write_whole(kept, held.getvalue(), TRAIN_AGAIN)  # or not at all: the next training takes it for finished
    return PlaneResult(probability, history)


VERSION = "1"
_PART = 1000  # number of cutouts prepared or scored at a time


class FittedPlanes(NamedTuple):
    """Network with its novelty limits and its calibration."""

    net: Any
    known: Known
    slope: float
    offset: float

    def star(self, test: CutoutSample) -> NDArray[np.float64]:
        """Return the probability of a star."""
        return expit(self.slope * judged_planes(self.net, test.inputs).log_odds.astype(np.float64) + self.offset)


def fit_models(
    out: Path,
    deep: Splits,
    nights: Splits,
    plan: RivalPlan,
    baselines: Baselines,
    training: dict[str, Any],
    seed: int,
    say: Say,
) -> dict[str, dict[str, dict[str, NDArray[np.float64]]]]:
    """Fit the source's networks to deep and night cutouts, write them, and return their probabilities on the tests."""
    bands = len(DEEP.bands)
    samples, of_nights = ({split: plane_sample(data, bands) for split, data in some.items()} for some in (deep, nights))
    train, validation = (samples[split].joined(of_nights[split]) for split in ("train", "validation"))
    said: dict[str, dict[str, dict[str, NDArray[np.float64]]]] = {"simulated": {}, "nights": {}}
    for network, fit in plan.fits.items():
        fitted = fit_plane_net(network, train, validation, fit, seed, say)
        stars = {"simulated": fitted.star(samples["test"]), "nights": fitted.star(of_nights["test"])}
        scored = {
            name: binary_scores(star, test.label)
            for (name, star), test in zip(stars.items(), (deep["test"], nights["test"]), strict=True)
        }
        metrics = {name: on_card(scores) for name, scores in scored.items()}
        write_plane_model(out / network, network, fitted, bands, baselines, training, metrics)
        for name, star in stars.items():
            said[name][network] = {"all": star}
    return said


def plane_sample(data: LabelledCutouts, bands: int) -> CutoutSample:
    """Return z-scored planes (float16), which planes exist, and the S/N of each band (arcsinh)."""
    pixels, there, signal = [], [], []
    for first in range(0, len(data), _PART):
        planes = make_planes(data.cutouts[first : first + _PART], bands, SIDE)
        pixels.append(z_scored(planes).astype(np.float16))
        there.append(np.concatenate([planes.usable, planes.has_psf], 1))
        signal.append(band_views(planes).features[..., SIGNAL])
    inputs = tuple(torch.from_numpy(np.concatenate(one)) for one in (pixels, there, signal))
    return CutoutSample(inputs, data.label)


def fit_plane_net(
    network: str, train: CutoutSample, validation: CutoutSample, plan: CutoutFit, seed: int, say: Say
) -> FittedPlanes:
    """Fit one of `PLANE_NETS`, find its limits, and calibrate it."""
    torch.manual_seed(seed)
    net = PLANE_NETS[network](train.inputs[1].shape[1])
    say(f"{network} as a model of the stage")
    fit_cutouts(_Hidden(net), train, validation, plan, seed, hide_planes, say)
    # Rounded as stored, so that limits, calibration and scores are those of the shipped model.
    net.load_state_dict(
        {name: value.half().float() if value.is_floating_point() else value for name, value in net.state_dict().items()}
    )
    return FittedPlanes(net, *limits(lambda inputs: judged_planes(net, inputs), train, validation, seed, hide_planes))


def hide_planes(inputs: Inputs, generator: torch.Generator) -> Inputs:
    """Hide bands and PSFs like `hide_bands`; their planes are marked as missing."""
    pixels, there, signal = inputs
    bands = there.shape[1] // 2
    _, _, seen, psf = hide_bands((pixels, signal, there[:, :bands], there[:, bands:]), generator)
    return pixels, torch.cat([seen, psf], 1), signal


def judged_planes(net: Any, inputs: Inputs) -> Raw:
    """Apply a fitted network to many objects in parts."""
    found = []
    for pixels, there, signal in zip(*(torch.split(one, _PART) for one in inputs), strict=True):
        said = said_of_planes(net, pixels.float() * there[..., None, None])
        found.append(Raw(*said, best_signal(signal.numpy(), there[:, : signal.shape[1]].numpy())))
    return Raw(*(np.concatenate(one) for one in zip(*found, strict=True)))


def write_plane_model(
    folder: Path,
    network: str,
    fitted: FittedPlanes,
    bands: int,
    baselines: Baselines,
    training: dict[str, Any],
    metrics: dict[str, Any],
) -> None:
    """Write weights and card."""
    own = {
        "network": network,
        "planes": 2 * bands,
        "psf": "with",
        "side": SIDE,
        "bands": "those of the training cutouts, in their order; a missing one is all NaN",
        "normalisation": "z-score per plane",
    }
    card = calibrated_card(network, VERSION, own, fitted.known, fitted.slope, fitted.offset)
    card |= {"training": training, "metrics": metrics}
    write_model(folder, plane_arrays_of(fitted.net, fitted.known, baselines), card)


class _Hidden(nn.Module):
    """Network that sees 0 in missing planes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: torch.Tensor, there: torch.Tensor, _signal: torch.Tensor) -> Any:
        return self.net(pixels * there[..., None, None])
