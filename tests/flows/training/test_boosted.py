import numpy as np
import pytest
from scipy.special import expit

from flows.pipeline.models import load_model
from flows.training import boosted, fits
from flows.training.boosted import BOOSTED, Examples, fit_on, gather, train_boosted
from flows.training.candidate_set import CandidateSet, find_on, report_candidates, threshold_at
from flows.training.fits import SCAN, TreeFit, calibrate, fit_model, fit_trees, taken_from
from kernels.image.search_image import Places
from kernels.nets.tree_ensemble import tree_logits
from kernels.search.shape_features import FEATURES
from kernels.statistics.matching import Targets

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


def test_false_ones_are_drawn_per_streak_and_weigh_as_much_as_all(monkeypatch):
    given = []

    class Model:
        def __init__(self, **settings):
            given.append(settings)

        def fit(self, features, label, weight=None):
            given.append((features, label, weight))
            return self

    monkeypatch.setattr(fits, "HistGradientBoostingClassifier", Model)
    label = (np.arange(50) % 10 == 0).astype(np.int64)
    features = np.arange(100, dtype=np.float32).reshape(50, 2)
    plan = TreeFit(7, 0.3, 5, 11, 0.5, 3)
    fit_model(features, label, plan, 9)
    assert given[0] == {
        "max_iter": 7, "learning_rate": 0.3, "max_leaf_nodes": 5, "min_samples_leaf": 11, "l2_regularization": 0.5,
        "early_stopping": False, "random_state": 9,
    }  # fmt: skip
    shown, known, weight = given[1]
    assert (len(known), known.sum()) == (20, 5)
    assert (np.diff(shown[:, 0]) > 0).all()
    np.testing.assert_array_equal(known, label[(shown[:, 0] / 2).astype(int)])
    np.testing.assert_array_equal(weight, np.where(known == 1, 1, 45 / 15))
    fit_model(features, np.ones(50, np.int64), plan, 9)
    assert len(given[3][1]) == 50
    fit_model(features, label, TreeFit(), 9)
    assert len(given[5][1]) == 50


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
    assert TreeFit() == TreeFit(300, 0.06, 31, 40, 1.0, None)
    assert TreeFit(300, 0.06, 31, 40, 1.0, 40) == BOOSTED


def test_candidates_that_teach_nothing_are_left_out(examples, monkeypatch):
    seen = []
    monkeypatch.setattr(boosted, "fit_trees", lambda features, label, fit, seed: seen.append((features, label)))
    (own,) = gather(examples[:1], 1, lambda line: None)
    fit_on([own, own], FIT, 1, lambda line: None)
    ((features, label),) = seen
    kept = own.label >= 0
    assert (own.label == 0).any()
    np.testing.assert_array_equal(label, np.tile(own.label[kept], 2))
    np.testing.assert_array_equal(features, np.tile(own.features[kept], (2, 1)))


def candidates(seed):
    """Candidates on three streaks, and 120 on nothing."""
    rng = np.random.default_rng(seed)
    places = np.arange(123) * 40.0
    zero = np.zeros(3)
    targets = Targets(np.array(["streak"] * 3), places[:3], places[:3], zero, zero, np.ones(3))
    features = rng.normal(size=(123, len(FEATURES))).astype(np.float32)
    features[:3] += 1
    label = (np.arange(123) < 3).astype(np.int64)
    return CandidateSet(places, places, features, label, targets, np.full(3, 20.0))


def test_the_threshold_of_the_hits_is_that_of_fifty_false_ones(tmp_path, monkeypatch):
    sets = {part: [candidates(n)] for n, part in enumerate(("train", "validation", "test"))}
    monkeypatch.setattr(boosted, "gather", lambda examples, workers, say: sets[examples])
    fit = TreeFit(trees=5, least=2)
    figures = train_boosted(tmp_path, Examples(*sets), fit, {}, 1, 1, lambda line: None)
    trees = fit_on(sets["train"], fit, 1, lambda line: None)
    scores = {part: [tree_logits(one.features, trees) for one in some] for part, some in sets.items()}
    false = np.sort(scores["validation"][0][3:])[::-1]
    threshold = np.log(load_model("detect", str(tmp_path)).card.threshold)
    threshold -= np.log1p(-np.exp(threshold))
    assert threshold == pytest.approx(false[50], rel=1e-5)
    shown = sets["validation"], scores["validation"]
    assert threshold_at(*shown, 50.0) == pytest.approx(threshold, rel=1e-5)
    assert figures == report_candidates(shown, (sets["test"], scores["test"]))
