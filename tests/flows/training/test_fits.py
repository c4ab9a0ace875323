import numpy as np
import pytest
from scipy.special import expit

from flows.training.fits import SCAN, TreeFit, calibrate, fit_model, fit_trees, taken_from
from kernels.nets.tree_ensemble import tree_logits


def sample():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(3000, 8)).astype(np.float32)
    label = (features[:, 0] * features[:, 1] + 0.3 * features[:, 2] > 0.5).astype(np.int64)
    return features, label


def test_trees_say_what_scikit_learn_says():
    features, label = sample()
    model = fit_model(features, label, TreeFit(trees=60), 1)
    fresh = np.random.default_rng(2).normal(size=(5000, 8)).astype(np.float32)
    odds = tree_logits(fresh, taken_from(model))
    np.testing.assert_allclose(odds, model.decision_function(fresh), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(expit(odds), model.predict_proba(fresh)[:, 1], atol=1e-6)


def test_the_same_seed_gives_the_same_trees():
    first, second = (fit_trees(*sample(), TreeFit(trees=10), 3) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("real", [30, 7])
def test_a_calibration_has_the_greatest_likelihood_of_targets_off_0_and_1(real):
    rng = np.random.default_rng(2)
    odds, label = rng.normal(0, 2, 40), np.arange(40) < real
    odds[label] += 1
    slope, offset = calibrate(odds, label)
    target = np.where(label, (real + 1) / (real + 2), 1 / (40 - real + 2))
    left = expit(slope * odds + offset) - target
    # Where the likelihood is greatest, its slopes are 0.
    assert abs(left.mean()) < 1e-4
    assert abs((left * odds).mean()) < 1e-4


def test_constants_of_the_fits():
    assert SCAN == (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 3.0, 5.0, 10.0)
    assert TreeFit() == TreeFit(300, 0.06, 31, 40, 1.0)
