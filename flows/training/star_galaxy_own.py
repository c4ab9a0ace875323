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
from kernels.moment_trees import SETS, MomentTrees, moments_of
from kernels.nets.band_set_net import BandSetNet
from kernels.star_galaxy_model import Known, Raw, locate
from kernels.star_galaxy_net import apply_nets, with_trees

_BATCH = 1000
_OUTSIDE = 1e-3  # share of the validation objects beyond the limits

Say = Callable[[str], None]


@dataclass(frozen=True)
class OwnPlan:
    """How our model is fitted.

    Attributes
    ----------
    fit, networks
        Of each network, and their number.
    trees, copies
        Of the trees on moments; they see the cutouts as they are and so many times with bands hidden.
    share
        Weight of the log odds of the trees beside those of the networks.
    """

    fit: CutoutFit = field(default_factory=lambda: CutoutFit(epochs=30, patience=30, batch=128, rate=3e-3))
    networks: int = 1
    trees: TreeFit = field(default_factory=lambda: TreeFit(trees=300, rate=0.08, leaves=31, least=30))
    copies: int = 2
    share: float = 0.3


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
    """Fit the locus cut, which sees all bands, and the trees on moments, which see them hidden too."""
    features, has_psf = train.inputs[1].numpy(), train.inputs[3].numpy()
    cut = fit_locus(*locus(features, has_psf), train.label == 1)
    generator = torch.Generator().manual_seed(seed)
    shown = [train.inputs, *(hide_bands(train.inputs, generator) for _ in range(plan.copies))]
    moments = np.concatenate([moments_of(features, seen.numpy(), psf.numpy()) for _, _, seen, psf in shown])
    trees = fit_trees(moments, np.tile(train.label, len(shown)), plan.trees, seed)
    return Baselines(cut, MomentTrees(trees))


def limits(
    judge: Callable[[Inputs], Raw], train: Sample, validation: Sample, seed: int, hide: Change = hide_bands
) -> tuple[Known, float, float]:
    """Find where the training objects lie, and calibrate on the validation objects: all bands, and some hidden.

    Parameters
    ----------
    judge
        Applies the model.
    train, validation
        What it learnt from, and objects of other fields.
    seed, hide
        Hides bands.

    Returns
    -------
    Known, slope, offset
        See `kernels.star_galaxy_model.StarGalaxyModel`.
    """
    generator = torch.Generator().manual_seed(seed)
    learnt = judge(hide(train.inputs, generator))
    centres, whitening = locate(learnt.codes, train.label)
    parts = [judge(hide(validation.inputs, generator)), judge(validation.inputs)]
    checked = Raw(*(np.concatenate(one) for one in zip(*parts, strict=True)))
    known = Known(centres, whitening, 1.0, 0.0)
    known = replace(
        known,
        limit=float(np.quantile(known.distance(checked.codes), 1 - _OUTSIDE)),
        signal=float(np.quantile(checked.signal, _OUTSIDE)),
    )
    return known, *calibrate(checked.log_odds, np.tile(validation.label == 1, 2))


def said_of(nets: Sequence[BandSetNet], inputs: Inputs, baselines: Baselines | None = None, share: float = 0.0) -> Raw:
    """Apply networks, and the trees of baselines if their share is not 0, to many objects, a part at a time."""
    found = []
    for part in zip(*(torch.split(one, _BATCH) for one in inputs), strict=True):
        views = BandViews(part[0].float().numpy(), *(one.numpy() for one in part[1:]))
        raw = apply_nets(tuple(nets), views)
        found.append(with_trees(raw, views, baselines.trees, share) if baselines else raw)
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
    """Give what the card of our model holds besides training and metrics."""
    own = {
        "networks": networks,
        "share_of_trees": share,
        "bands": "any number, in any order",
        "normalisation": "background and noise of the border of each image; peak of each PSF",
    }
    return calibrated_card(name, version, {"psf": psf, "side": side} | own, known, slope, offset)


def calibrated_card(
    name: str, version: str, own: dict[str, Any], known: Known, slope: float, offset: float
) -> dict[str, Any]:
    """Give the same of any model of the stage; ``own`` is what its input has of its own."""
    return {
        "stage": "star_galaxy",
        "name": name,
        "version": version,
        "input": own | {"features": FEATURES, "moments": SETS, "dtype": "float32"},
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
