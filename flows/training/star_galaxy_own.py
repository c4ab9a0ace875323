"""Our star-galaxy network for several bands, and the baselines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from flows.inputs.cutout_files import LabelledCutouts
from flows.pipeline.weights import write_model
from flows.simulation.cutout_survey import DEEP
from flows.training.cutout_fit import Change, CutoutEpoch, CutoutFit, Inputs, fit_cutouts
from flows.training.fits import TreeFit, calibrate, fit_trees
from flows.training.star_galaxy_inputs import CONFIGURATIONS, chosen_bands, hide_bands, views_of
from flows.training.star_galaxy_report import OF_NIGHTS, figures_of
from kernels.nets.cutout_nets import BandSetNet
from kernels.objects.cutout_features import FEATURES, BandViews
from kernels.objects.star_galaxy_model import (
    SETS,
    Known,
    MomentTrees,
    Raw,
    apply_nets,
    fit_locus,
    locate_signal,
    locus,
    moments_of,
    with_trees,
)
from kernels.objects.star_galaxy_weights import Baselines, arrays_of, new_net

_BATCH = 1000
_OUTSIDE = 1e-3  # fraction of the validation objects beyond the limits

Say = Callable[[str], None]


@dataclass(frozen=True)
class OwnPlan:
    """Settings for fitting our model.

    Attributes
    ----------
    fit, networks
        Fit of each network, and number of networks.
    trees, copies
        Fit of the trees on moments, and number of copies of the cutouts with hidden bands, in addition to full ones.
    share
        Weight of the trees' log odds relative to those of the networks.
    """

    fit: CutoutFit = field(default_factory=lambda: CutoutFit(epochs=30, patience=30, batch=128, rate=3e-3))
    networks: int = 1
    trees: TreeFit = field(default_factory=lambda: TreeFit(trees=300, rate=0.08, leaves=31, least=30))
    copies: int = 2
    share: float = 0.3


class CutoutSample(NamedTuple):
    """Inputs of the network, and labels: 1 for a star."""

    inputs: Inputs
    label: NDArray[np.int64]

    def take(self, rows: NDArray[Any]) -> "CutoutSample":
        """Return the chosen rows."""
        chosen = torch.from_numpy(rows)
        return CutoutSample(tuple(one[chosen] for one in self.inputs), self.label[rows])

    def joined(self, other: "CutoutSample") -> "CutoutSample":
        """Return these rows followed by those of another sample."""
        inputs = tuple(torch.cat(pair) for pair in zip(self.inputs, other.inputs, strict=True))
        return CutoutSample(inputs, np.concatenate([self.label, other.label]))


class FittedNet(NamedTuple):
    """Networks and their histories."""

    nets: tuple[BandSetNet, ...]
    histories: tuple[tuple[CutoutEpoch, ...], ...]


def fit_own(
    train: CutoutSample, validation: CutoutSample, plan: OwnPlan, seed: int, say: Say, change: Change = hide_bands
) -> FittedNet:
    """Fit networks that differ only in their seed."""
    nets, histories = [], []
    for n in range(plan.networks):
        torch.manual_seed(seed + n)
        net = new_net()
        _standardise(net, train)
        histories.append(fit_cutouts(net, train, validation, plan.fit, seed + n, change, say))
        nets.append(net)
    return FittedNet(tuple(nets), tuple(histories))


def fit_baselines(train: CutoutSample, plan: OwnPlan, seed: int) -> Baselines:
    """Fit the locus cut, which uses all bands, and the trees on moments, which also see hidden bands."""
    features, has_psf = train.inputs[1].numpy(), train.inputs[3].numpy()
    cut = fit_locus(*locus(features, has_psf), train.label == 1)
    generator = torch.Generator().manual_seed(seed)
    shown = [train.inputs, *(hide_bands(train.inputs, generator) for _ in range(plan.copies))]
    moments = np.concatenate([moments_of(features, seen.numpy(), psf.numpy()) for _, _, seen, psf in shown])
    trees = fit_trees(moments, np.tile(train.label, len(shown)), plan.trees, seed)
    return Baselines(cut, MomentTrees(trees))


def limits(
    judge: Callable[[Inputs], Raw], train: CutoutSample, validation: CutoutSample, seed: int, hide: Change = hide_bands
) -> tuple[Known, float, float]:
    """Find the region of the training objects, and calibrate on validation objects, both full and with hidden bands.

    Parameters
    ----------
    judge
        Function that applies the model.
    train, validation
        Training objects, and objects from other fields.
    seed, hide
        Seed, and function that hides bands.

    Returns
    -------
    Known, slope, offset
        See `kernels.objects.star_galaxy_model.StarGalaxyModel`.
    """
    generator = torch.Generator().manual_seed(seed)
    learnt = judge(hide(train.inputs, generator))
    centres, whitening = locate_signal(learnt.codes, train.label)
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
    """Apply networks, and the trees of baselines if given, to many objects in parts; ``share``: weight of the trees."""
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
    """Return the card of our model, without training and metrics."""
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
    """Return the card of any model of the stage; ``own`` are its specific input fields."""
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


def _standardise(net: BandSetNet, train: CutoutSample) -> None:
    _, features, usable, _ = train.inputs
    seen = features[usable]
    net.mean.copy_(seen.mean(0))
    net.scale.copy_(seen.std(0) + 1e-3)


Splits = dict[str, LabelledCutouts]

OURS = "band_set_net"
VERSION = "3"
ON_CARD = ("n", "accuracy", "accuracy_interval", "auc", "ece", "confusion")
"""Scores that go on a card."""


class Own(NamedTuple):
    """Probabilities from our network and the baselines on deep and night test cutouts, and the network's history."""

    said: dict[str, dict[str, NDArray[np.float64]]]
    nights: dict[str, dict[str, NDArray[np.float64]]]
    history: tuple[CutoutEpoch, ...]
    baselines: Baselines


def fit_multi(
    out: Path,
    sets: Splits,
    nights: Splits,
    plan: OwnPlan,
    training: dict[str, Any],
    seed: int,
    say: Say,
) -> Own:
    """Fit our network and the baselines to deep and night cutouts together; write the folder ``multi_band``.

    Parameters
    ----------
    out
        Folder for the model's folder.
    sets, nights
        Deep cutouts and night cutouts, by split.
    plan, seed, say
        Plan and seed of the fits; receives messages.
    training
        Description of the training for the card.
    """
    bands, side = len(DEEP.bands), DEEP.side
    samples, of_nights = (
        {split: CutoutSample(views_of(data, bands, side), data.label) for split, data in some.items()}
        for some in (sets, nights)
    )
    train, validation = (samples[split].joined(of_nights[split]) for split in ("train", "validation"))
    fitted = fit_own(train, validation, plan, seed, say)
    baselines = fit_baselines(train, plan, seed)
    known, slope, offset = limits(
        partial(said_of, fitted.nets, baselines=baselines, share=plan.share), train, validation, seed
    )
    net = _Multi(fitted.nets, known, slope, offset, baselines, plan.share)
    said, outside = _said_about(net, samples["test"])
    of_test_nights, _ = _said_about(net, of_nights["test"])
    metrics: dict[str, Any] = _metrics(figures_of(said, sets["test"]))
    night = _metrics(figures_of({OURS: of_test_nights[OURS]}, nights["test"], OF_NIGHTS))
    metrics |= {"of nights": night[OURS], "share_beyond_the_limits": outside}
    card = card_of("multi_band", VERSION, "with", side, len(fitted.nets), known, slope, offset, plan.share)
    card |= {"training": training | {"epochs": len(fitted.histories[0])}, "metrics": metrics}
    write_model(out / "multi_band", arrays_of(fitted.nets, known, baselines), card)
    return Own(said, of_test_nights, fitted.histories[0], baselines)


class _Multi(NamedTuple):
    nets: tuple[BandSetNet, ...]
    known: Known
    slope: float
    offset: float
    baselines: Baselines
    share: float


def _said_about(one: _Multi, test: CutoutSample) -> tuple[dict[str, dict[str, NDArray[np.float64]]], dict[str, float]]:
    """Return probabilities by method and configuration, and the fraction beyond the limits by configuration."""
    ours: dict[str, NDArray[np.float64]] = {}
    trees: dict[str, NDArray[np.float64]] = {}
    outside: dict[str, float] = {}
    for name, planes in CONFIGURATIONS.items():
        inputs = chosen_bands(test.inputs, planes)
        raw = said_of(one.nets, inputs, one.baselines, one.share)
        trees[name] = expit(one.baselines.trees.log_odds(*(field.numpy() for field in inputs[1:])))
        ours[name] = expit(one.slope * raw.log_odds.astype(np.float64) + one.offset)
        outside[name] = round(float((one.known.outlier(raw) > 1).mean()), 5)
    features, _, has_psf = (field.numpy() for field in test.inputs[1:])
    cut = {"all": expit(one.baselines.locus.log_odds(features, has_psf))}
    return {OURS: ours, "locus cut": cut, "boosted moments": trees}, outside


def on_card(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores that go on a card."""
    return {key: scores[key] for key in ON_CARD}


def _metrics(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {planes: on_card(one) for planes, one in some.items()} for name, some in figures.items()}
