"""The source's networks as models of the stage: all planes, cutouts deep and of nights, bands hidden at random."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from flows.adapters.cutout_files import LabelledCutouts
from flows.adapters.star_galaxy_models import PLANE_NETS, Baselines, plane_arrays_of
from flows.adapters.weights import write_model
from flows.simulation.cutout_survey import DEEP
from flows.training.cutout_fit import CutoutFit, Inputs, fit_cutouts
from flows.training.star_galaxy_inputs import hide_bands
from flows.training.star_galaxy_multi import Splits, on_card
from flows.training.star_galaxy_own import Sample, Say, calibrated_card, limits
from flows.training.star_galaxy_rivals import RivalPlan
from kernels.class_scores import class_scores
from kernels.cutout_features import band_views
from kernels.cutout_planes import make_planes
from kernels.plane_net import said_of_planes, z_scored
from kernels.star_galaxy_model import SIGNAL, Known, Raw, best_signal
from schemas.cutouts import SIDE

VERSION = "1"
_PART = 1000  # cutouts prepared, or judged, at a time


class Fitted(NamedTuple):
    """A network, the limits of what it knows, and its calibration."""

    net: Any
    known: Known
    slope: float
    offset: float

    def star(self, test: Sample) -> NDArray[np.float64]:
        """Give the probability of a star."""
        return expit(self.slope * judged(self.net, test.inputs).log_odds.astype(np.float64) + self.offset)


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
    """Fit the source's networks to cutouts deep and of nights, write them, and give what they say of the tests."""
    bands = len(DEEP.bands)
    samples, of_nights = ({split: plane_sample(data, bands) for split, data in some.items()} for some in (deep, nights))
    train, validation = (samples[split].joined(of_nights[split]) for split in ("train", "validation"))
    said: dict[str, dict[str, dict[str, NDArray[np.float64]]]] = {"simulated": {}, "nights": {}}
    for network, fit in plan.fits.items():
        fitted = fit_plane_net(network, train, validation, fit, seed, say)
        stars = {"simulated": fitted.star(samples["test"]), "nights": fitted.star(of_nights["test"])}
        scored = {
            name: class_scores(star, test.label)
            for (name, star), test in zip(stars.items(), (deep["test"], nights["test"]), strict=True)
        }
        metrics = {name: on_card(scores) for name, scores in scored.items()}
        write_plane_model(out / network, network, fitted, bands, baselines, training, metrics)
        for name, star in stars.items():
            said[name][network] = {"all": star}
    return said


def plane_sample(data: LabelledCutouts, bands: int) -> Sample:
    """Give z-scored planes (float16), which of them are there, and the S/N of each band (arcsinh)."""
    pixels, there, signal = [], [], []
    for first in range(0, len(data), _PART):
        planes = make_planes(data.cutouts[first : first + _PART], bands, SIDE)
        pixels.append(z_scored(planes).astype(np.float16))
        there.append(np.concatenate([planes.usable, planes.has_psf], 1))
        signal.append(band_views(planes).features[..., SIGNAL])
    inputs = tuple(torch.from_numpy(np.concatenate(one)) for one in (pixels, there, signal))
    return Sample(inputs, data.label)


def fit_plane_net(network: str, train: Sample, validation: Sample, plan: CutoutFit, seed: int, say: Say) -> Fitted:
    """Fit one of `PLANE_NETS`, find its limits, and calibrate it."""
    torch.manual_seed(seed)
    net = PLANE_NETS[network](train.inputs[1].shape[1])
    say(f"{network} as a model of the stage")
    fit_cutouts(_Hidden(net), train, validation, plan, seed, hide_planes, say)
    # Rounded as they are stored: limits, calibration and scores are then those of what is shipped.
    net.load_state_dict(
        {name: value.half().float() if value.is_floating_point() else value for name, value in net.state_dict().items()}
    )
    return Fitted(net, *limits(lambda inputs: judged(net, inputs), train, validation, seed, hide_planes))


def hide_planes(inputs: Inputs, generator: torch.Generator) -> Inputs:
    """Hide bands and PSFs as `hide_bands` does; their planes are no longer there."""
    pixels, there, signal = inputs
    bands = there.shape[1] // 2
    _, _, seen, psf = hide_bands((pixels, signal, there[:, :bands], there[:, bands:]), generator)
    return pixels, torch.cat([seen, psf], 1), signal


def judged(net: Any, inputs: Inputs) -> Raw:
    """Apply a fitted network to many objects, a part at a time."""
    found = []
    for pixels, there, signal in zip(*(torch.split(one, _PART) for one in inputs), strict=True):
        said = said_of_planes(net, pixels.float() * there[..., None, None])
        found.append(Raw(*said, best_signal(signal.numpy(), there[:, : signal.shape[1]].numpy())))
    return Raw(*(np.concatenate(one) for one in zip(*found, strict=True)))


def write_plane_model(
    folder: Path,
    network: str,
    fitted: Fitted,
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
    """A network behind planes that are not there."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: torch.Tensor, there: torch.Tensor, _signal: torch.Tensor) -> Any:
        return self.net(pixels * there[..., None, None])
