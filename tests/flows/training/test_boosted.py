import numpy as np
from scipy.special import expit

from flows.pipeline.models import load_model
from flows.training.boosted import Examples, fit_on, gather, train_boosted
from flows.training.candidate_set import find_on
from flows.training.fits import TreeFit, fit_model, fit_trees, taken_from
from kernels.image.search_image import Places
from kernels.nets.tree_ensemble import tree_logits

FIT = TreeFit(trees=30, least=3)


def test_trains_and_writes_a_detector_that_says_what_was_reported(examples, tmp_path):
    said = []
    sets = Examples(examples[:1], examples[1:], examples[1:])
    figures = train_boosted(tmp_path, sets, FIT, {"command": "this test"}, 1, 1, said.append)
    detector = load_model("detect", str(tmp_path))
    assert detector.card.metrics == figures
    assert detector.card.training == {"command": "this test"}
    assert any("trees on" in line for line in said)
    plane = find_on(examples[1]).plane
    rows, columns = (extent // 4 for extent in plane.pixels.shape)
    logits, _ = detector.search(plane, Places(0, 0, rows, columns, 4))
    (own,) = gather(examples[:1], 1, said.append)
    odds = tree_logits(own.features, fit_on([own], FIT, 1, said.append))
    assert odds[own.label == 1].mean() > odds[own.label == 0].mean() + 2
    assert np.isfinite(logits).sum() > 3


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
