import numpy as np
from scipy.special import expit

from flows.training.boosted_fit import TreeFit, fit_model, fit_trees, taken_from
from kernels.tree_ensemble import tree_logits


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


def test_drawn_false_ones_stand_for_all():
    features, label = sample()
    all_of_them, drawn = (
        tree_logits(features, fit_trees(features, label, TreeFit(trees=60, false_per_streak=n), 1)) for n in (None, 1)
    )
    assert ((drawn > 0) == label).mean() > 0.95
    assert abs(drawn.mean() - all_of_them.mean()) < 0.5


def test_the_same_seed_gives_the_same_trees():
    first, second = (fit_trees(*sample(), TreeFit(trees=10), 3) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
