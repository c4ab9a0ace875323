from functools import partial

import numpy as np

from flows.training.star_galaxy_own import card_of, fit_baselines, fit_own, limits, said_of
from kernels.locus_cut import locus
from schemas.model_card import ModelCard
from tests.flows.training.star_galaxy_support import PLAN, cutouts, sample


def test_limits_are_passed_by_one_in_a_thousand_and_calibrated():
    train, check = sample(cutouts()), sample(cutouts(2, 6))
    fitted = fit_own(train, check, PLAN, 1, lambda line: None)
    known, slope, offset = limits(partial(said_of, fitted.nets), train, check, 1)
    raw = said_of(fitted.nets, check.inputs)
    assert (known.outlier(raw) > 1).mean() <= 0.02
    assert slope > 0
    assert abs(offset) < 3
    card = card_of("multi_band", "1", "with", 26, 1, known, slope, offset) | {"training": {}, "metrics": {}}
    assert ModelCard.model_validate(card | {"sha256": ""}).calibration["limit"] > 0


def test_baselines_learn():
    train, check = sample(cutouts()), sample(cutouts(2, 6))
    baselines = fit_baselines(train, PLAN, 1)
    features, has_psf = check.inputs[1].numpy(), check.inputs[3].numpy()
    cut = baselines.locus.log_odds(features, has_psf) > 0
    trees = baselines.trees.log_odds(features, check.inputs[2].numpy(), has_psf) > 0
    assert (cut == (check.label == 1)).mean() > 0.8
    assert (trees == (check.label == 1)).mean() > 0.8
    assert len(locus(features, has_psf)) == 2


def test_takes_rows():
    whole = sample(cutouts(1))
    part = whole.take(np.array([3, 1]))
    assert part.label.tolist() == whole.label[[3, 1]].tolist()
    assert len(part.inputs[0]) == 2


def test_joins_rows():
    one, other = sample(cutouts(1)), sample(cutouts(1, 4))
    both = one.joined(other)
    assert both.label.tolist() == [*one.label, *other.label]
    for joined, first, second in zip(both.inputs, one.inputs, other.inputs, strict=True):
        assert joined[: len(first)].equal(first)
        assert joined[len(first) :].equal(second)
