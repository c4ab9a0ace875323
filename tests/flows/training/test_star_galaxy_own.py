from functools import partial

import numpy as np
import pytest
import torch

from flows.pipeline.models import load_model
from flows.training import star_galaxy_own as own_training
from flows.training.cutout_fit import CutoutFit
from flows.training.fits import TreeFit
from flows.training.star_galaxy_inputs import CONFIGURATIONS
from flows.training.star_galaxy_own import (
    ON_CARD,
    OURS,
    OwnPlan,
    card_of,
    fit_baselines,
    fit_multi,
    fit_own,
    limits,
    said_of,
)
from kernels.objects.star_galaxy_model import Known, Raw, locus
from kernels.statistics.class_scores import binary_scores
from schemas.model_card import ModelCard
from tests.support.star_galaxy import PLAN, cutouts, sample


def test_limits_are_passed_by_one_in_a_thousand_and_calibrated(fitted):
    train, check = sample(cutouts()), sample(cutouts(2, 6))
    nets = load_model("star_galaxy", str(fitted[0] / "multi_band")).nets
    known, slope, offset = limits(partial(said_of, nets), train, check, 1)
    raw = said_of(nets, check.inputs)
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


def test_the_plan_of_the_shipped_model():
    fit, trees = CutoutFit(epochs=30, patience=30, batch=128, rate=3e-3), TreeFit(300, 0.08, 31, 30)
    assert OwnPlan() == OwnPlan(fit, 1, trees, 2, 0.3)


def test_networks_differ_in_their_seed_and_start_from_the_spread_of_the_features(monkeypatch):
    seen, train = [], sample(cutouts(1))
    monkeypatch.setattr(own_training, "fit_cutouts", lambda *given: seen.append(given) or ())
    fitted = fit_own(train, train, OwnPlan(networks=2), 5, print)
    assert [given[4] for given in seen] == [5, 6]
    assert [len(one) for one in fitted] == [2, 2]
    _, features, usable, _ = train.inputs
    values = features[usable].numpy()
    for net in fitted.nets:
        np.testing.assert_allclose(net.mean.numpy(), values.mean(0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(net.scale.numpy(), values.std(0, ddof=1) + 1e-3, rtol=1e-3)
    assert not torch.equal(fitted.nets[0].last.weight, fitted.nets[1].last.weight)
    torch.manual_seed(6)
    assert torch.equal(fitted.nets[1].last.weight, own_training.new_net().last.weight)


def test_limits_are_passed_by_a_thousandth_of_whole_and_hidden_objects():
    rng = np.random.default_rng(3)
    count = 3000
    label = np.arange(count) % 2
    codes = rng.normal(size=(count, 4)).astype(np.float32) + 2 * label[:, None]
    rows = own_training.CutoutSample((torch.arange(count), torch.ones(count)), label)

    def judge(inputs):
        place, whole = inputs[0].numpy(), inputs[1].numpy()
        return Raw(
            (2.0 * label[place] - 1) * (1 + whole) + rng.normal(0, 2, count),
            codes[place] * (2 - whole[:, None]),
            10.0 + place + whole,
        )

    def hide(inputs, generator):
        return inputs[0], torch.zeros(count)

    known, slope, offset = limits(judge, rows, rows, 1, hide)
    distance = known.distance(np.concatenate([2 * codes, codes]))
    assert known.limit == pytest.approx(np.quantile(distance, 0.999), rel=1e-6)
    assert known.signal == pytest.approx(10 + 0.001 * (2 * count - 1) / 2, abs=0.6)
    assert (slope > 0, abs(offset) < 0.3) == (True, True)


def test_the_card_has_five_digits_and_the_bounds_of_the_verdict():
    known = Known(np.zeros((2, 1)), np.zeros((2, 1, 1)), 1.23456789, 2.3456789)
    card = card_of("multi_band", "3", "with", 26, 2, known, 0.123456789, -1.00000499, 0.3)
    assert card["calibration"] == {"slope": 0.12346, "offset": -1.0, "limit": 1.23457, "signal": 2.34568}
    assert (card["threshold"], card["input"]["networks"], card["input"]["share_of_trees"]) == (0.5, 2, 0.3)
    assert card_of("m", "3", "with", 26, 2, known, 1, 1)["input"]["share_of_trees"] == 0.0


def test_trees_see_the_cutouts_once_and_hidden_as_often_as_planned(monkeypatch):
    seen, train = [], sample(cutouts(1))
    monkeypatch.setattr(own_training, "fit_trees", lambda moments, label, plan, seed: seen.append((moments, label)))
    fit_baselines(train, OwnPlan(copies=2), 1)
    fit_baselines(train, OwnPlan(copies=0), 1)
    count = len(train.label)
    assert [len(moments) for moments, _ in seen] == [3 * count, count]
    np.testing.assert_array_equal(seen[0][0][:count], seen[1][0])
    np.testing.assert_array_equal(seen[0][1], np.tile(train.label, 3))


def test_what_is_shown_in_parts_is_judged_alike(fitted, monkeypatch):
    _, deep, _, own = fitted
    test = sample(deep["test"])
    net = load_model("star_galaxy", str(fitted[0] / "multi_band")).nets
    whole = said_of(net, test.inputs, own.baselines, 0.3)
    monkeypatch.setattr(own_training, "_BATCH", 30)
    for one, other in zip(said_of(net, test.inputs, own.baselines, 0.3), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    assert not np.allclose(said_of(net, test.inputs).log_odds, whole.log_odds, atol=1e-3)


def test_the_share_beyond_the_limits_is_on_the_card(fitted):
    out, deep, _, own = fitted
    model = load_model("star_galaxy", str(out / "multi_band"))
    shares = model.card.metrics["share_beyond_the_limits"]
    assert set(shares) == set(CONFIGURATIONS)
    assert shares["all"] == pytest.approx((model(deep["test"].cutouts).outlier > 1).mean(), abs=0.02)
    assert model.card.training["epochs"] == len(own.history) == 6
