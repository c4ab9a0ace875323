"""Fit our network for stars and galaxies, its calibration, its limits, and the baselines beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from flows.adapters.star_galaxy_models import Baselines, new_net
from flows.training.boosted_fit import TreeFit, fit_trees
from flows.training.cutout_fit import Change, CutoutFit, Epoch, Inputs, fit_cutouts
from flows.training.star_galaxy_inputs import hide_bands
from flows.training.verdict_fit import calibrate
from kernels.cutout_features import FEATURES, BandViews
from kernels.locus_cut import fit_locus, locus
from kernels.moment_trees import MomentTrees, moments_of
from kernels.nets.band_set_net import BandSetNet
from kernels.star_galaxy_net import Known, Raw, apply_nets, locate

_BATCH = 1000
_OUTSIDE = 1e-3  # share of the validation objects beyond the limits

Say = Callable[[str], None]


@dataclass(frozen=True)
class OwnPlan:
    """Fit of each network, their number, and the trees of the baseline."""

    fit: CutoutFit = field(default_factory=lambda: CutoutFit(epochs=12, patience=12, batch=128, rate=3e-3))
    networks: int = 1
    trees: TreeFit = field(default_factory=lambda: TreeFit(trees=150, rate=0.08, leaves=15, least=30))


class Sample(NamedTuple):
    """Inputs of the network and labels, 1 for a star."""

    inputs: Inputs
    label: NDArray[np.int64]

    def take(self, rows: NDArray[Any]) -> "Sample":
        """Give some of the rows."""
        chosen = torch.from_numpy(rows)
        return Sample(tuple(one[chosen] for one in self.inputs), self.label[rows])

    def joined(self, other: "Sample") -> "Sample":
        """Give these and those of another sample."""
        inputs = tuple(torch.cat(pair) for pair in zip(self.inputs, other.inputs, strict=True))
        return Sample(inputs, np.concatenate([self.label, other.label]))


class Fitted(NamedTuple):
    """Networks and their histories."""

    nets: tuple[BandSetNet, ...]
    histories: tuple[tuple[Epoch, ...], ...]


def fit_own(
    train: Sample, validation: Sample, plan: OwnPlan, seed: int, say: Say, change: Change = hide_bands
) -> Fitted:
    """Fit networks that differ in their seed alone."""
    nets, histories = [], []
    for n in range(plan.networks):
        torch.manual_seed(seed + n)
        net = new_net()
        _standardise(net, train)
        histories.append(fit_cutouts(net, train, validation, plan.fit, seed + n, change, say))
        nets.append(net)
    return Fitted(tuple(nets), tuple(histories))


def fit_baselines(train: Sample, plan: OwnPlan, seed: int) -> Baselines:
    """Fit the locus cut and the trees on moments; they see all bands."""
    features, has_psf = train.inputs[1].numpy(), train.inputs[3].numpy()
    cut = fit_locus(*locus(features, has_psf), train.label == 1)
    trees = fit_trees(moments_of(features, has_psf), train.label, plan.trees, seed)
    return Baselines(cut, MomentTrees(trees, features.shape[1]))


def limits(nets: Sequence[BandSetNet], train: Sample, validation: Sample, seed: int) -> tuple[Known, float, float]:
    """Find where the training objects lie, and calibrate on the validation objects: all bands, and some hidden.

    Returns
    -------
    Known, slope, offset
        See `kernels.star_galaxy_net.StarGalaxyNet`.
    """
    generator = torch.Generator().manual_seed(seed)
    learnt = said_of(nets, hide_bands(train.inputs, generator))
    centres, whitening = locate(learnt.codes, train.label)
    parts = [said_of(nets, hide_bands(validation.inputs, generator)), said_of(nets, validation.inputs)]
    checked = Raw(*(np.concatenate(one) for one in zip(*parts, strict=True)))
    known = Known(centres, whitening, 1.0, 0.0)
    known = replace(
        known,
        limit=float(np.quantile(known.distance(checked.codes), 1 - _OUTSIDE)),
        signal=float(np.quantile(checked.signal, _OUTSIDE)),
    )
    return known, *calibrate(checked.log_odds, np.tile(validation.label == 1, 2))


def said_of(nets: Sequence[BandSetNet], inputs: Inputs) -> Raw:
    """Apply networks to many objects, a part at a time."""
    found = []
    for part in zip(*(torch.split(one, _BATCH) for one in inputs), strict=True):
        views = BandViews(part[0].float().numpy(), *(one.numpy() for one in part[1:]))
        found.append(apply_nets(tuple(nets), views))
    return Raw(*(np.concatenate(one) for one in zip(*found, strict=True)))


def card_of(
    name: str,
    version: str,
    psf: str,
    side: int,
    networks: int,
    known: Known,
    slope: float,
    offset: float,
    share: float = 0.0,
) -> dict[str, Any]:
    """Give what the card of a model holds besides training and metrics."""
    return {
        "stage": "star_galaxy",
        "name": name,
        "version": version,
        "input": {
            "psf": psf,
            "side": side,
            "networks": networks,
            "share_of_trees": share,
            "features": FEATURES,
            "bands": "any number, in any order",
            "dtype": "float32",
            "normalisation": "background and noise of the border of each image; peak of each PSF",
        },
        "classes": ("star", "galaxy"),
        "calibration": {
            "slope": round(slope, 5),
            "offset": round(offset, 5),
            "limit": round(known.limit, 5),
            "signal": round(known.signal, 5),
        },
        "threshold": 0.5,
        "false_alarm_rate": "0.1 % of the validation objects lie beyond the limits of the outlier score",
    }


def _standardise(net: BandSetNet, train: Sample) -> None:
    _, features, usable, _ = train.inputs
    seen = features[usable]
    net.mean.copy_(seen.mean(0))
    net.scale.copy_(seen.std(0) + 1e-3)
