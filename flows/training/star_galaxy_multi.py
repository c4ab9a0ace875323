"""Our model of several bands: what it learns, what it is worth, and its card."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from flows.adapters.cutout_files import LabelledCutouts
from flows.adapters.star_galaxy_models import Baselines, arrays_of
from flows.adapters.weights import write_model
from flows.simulation.cutout_survey import DEEP
from flows.training.cutout_fit import Epoch
from flows.training.star_galaxy_inputs import CONFIGURATIONS, chosen_bands, views_of
from flows.training.star_galaxy_own import OwnPlan, Sample, Say, card_of, fit_baselines, fit_own, limits, said_of
from flows.training.star_galaxy_report import OF_NIGHTS, figures_of
from kernels.nets.band_set_net import BandSetNet
from kernels.star_galaxy_model import Known

Splits = dict[str, LabelledCutouts]

OURS = "band_set_net"
VERSION = "3"
ON_CARD = ("n", "accuracy", "accuracy_interval", "auc", "ece", "confusion")
"""Scores that go on a card."""


class Own(NamedTuple):
    """What our network and the baselines say of the test cutouts, deep and of nights, and how it came to be."""

    said: dict[str, dict[str, NDArray[np.float64]]]
    nights: dict[str, dict[str, NDArray[np.float64]]]
    history: tuple[Epoch, ...]
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
    """Fit our network and the baselines to deep cutouts and to those of nights together; write folder ``multi_band``.

    Parameters
    ----------
    out
        Gets the model.
    sets, nights
        Deep cutouts and those of nights, by split.
    plan, seed, say
        Of the fits.
    training
        What the card says of how the model came about.
    """
    bands, side = len(DEEP.bands), DEEP.side
    samples, of_nights = (
        {split: Sample(views_of(data, bands, side), data.label) for split, data in some.items()}
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


def _said_about(one: _Multi, test: Sample) -> tuple[dict[str, dict[str, NDArray[np.float64]]], dict[str, float]]:
    """Give probabilities by way and configuration, and the share beyond the limits by configuration."""
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
    """Give the scores that go on a card."""
    return {key: scores[key] for key in ON_CARD}


def _metrics(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {planes: on_card(one) for planes, one in some.items()} for name, some in figures.items()}
