from functools import partial

import numpy as np
import pytest

from flows.pipeline.models import load_model
from flows.training.star_galaxy_inputs import CONFIGURATIONS
from flows.training.star_galaxy_own import ON_CARD, OURS, card_of, fit_baselines, fit_multi, fit_own, limits, said_of
from kernels.objects.star_galaxy_model import locus
from kernels.statistics.class_scores import binary_scores
from schemas.model_card import ModelCard
from tests.support.star_galaxy import PLAN, cutouts, sample


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


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    out = tmp_path_factory.mktemp("multi")
    deep = {"train": cutouts(), "validation": cutouts(2, 6), "test": cutouts(2, 20)}
    nights = {"train": cutouts(2, 40), "validation": cutouts(1, 50), "test": cutouts(1, 60)}
    return out, deep, nights, fit_multi(out, deep, nights, PLAN, {"data": "small"}, 1, lambda line: None)


def test_every_way_says_of_every_test_cutout(fitted):
    _, deep, nights, own = fitted
    for said, test in ((own.said, deep["test"]), (own.nights, nights["test"])):
        assert set(said) == {OURS, "boosted moments", "locus cut"}
        assert set(said[OURS]) == set(said["boosted moments"]) == set(CONFIGURATIONS)
        for some in said.values():
            for probability in some.values():
                assert probability.shape == (len(test),)
                assert ((probability >= 0) & (probability <= 1)).all()
    right = (own.said[OURS]["all"] > 0.5) == (deep["test"].label == 1)
    assert right.mean() > 0.85


def test_what_is_written_says_what_was_measured(fitted):
    out, deep, nights, own = fitted
    model = load_model("star_galaxy", str(out / "multi_band"))
    assert model.share == PLAN.share > 0
    star = model(deep["test"].cutouts).probability[:, 0]
    np.testing.assert_allclose(star, own.said[OURS]["all"], atol=5e-3)  # the card rounds, pictures were float16
    scores = binary_scores(own.nights[OURS]["all"], nights["test"].label)
    assert model.card.metrics["of nights"]["all"] == {key: scores[key] for key in ON_CARD}
    assert model.card.training["data"] == "small"


def test_hidden_bands_cost_accuracy_but_not_sense(fitted):
    _, deep, _, own = fitted
    for name in CONFIGURATIONS:
        right = (own.said[OURS][name] > 0.5) == (deep["test"].label == 1)
        assert right.mean() > 0.7, name
