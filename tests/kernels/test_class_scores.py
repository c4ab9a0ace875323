import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import classification_report, confusion_matrix, f1_score, roc_auc_score

from kernels.class_scores import calibration_error, class_report, class_scores, reliability_diagram


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(20, 200))
def test_agrees_with_scikit_learn(seed, n):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    truth[:2] = 0, 1
    probability = np.clip(0.5 * truth + rng.uniform(0, 0.7, n), 0, 1)
    said = (probability >= 0.5).astype(int)
    scores = class_scores(probability, truth)
    assert scores["confusion"] == confusion_matrix(truth, said).tolist()
    assert scores["auc"] == pytest.approx(roc_auc_score(truth, probability), abs=1e-5)
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, said, average="macro", zero_division=0), abs=1e-5)
    assert scores["accuracy_interval"][0] <= scores["accuracy"] <= scores["accuracy_interval"][1]
    ours = class_report(scores["confusion"], ("galaxy", "star"))
    theirs = classification_report(truth, said, target_names=["galaxy", "star"], output_dict=True, zero_division=0)
    for ours_name, theirs_name in (
        ("galaxy", "galaxy"),
        ("star", "star"),
        ("macro", "macro avg"),
        ("weighted", "weighted avg"),
    ):
        for ours_key, theirs_key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert ours[ours_name][ours_key] == pytest.approx(theirs[theirs_name][theirs_key], abs=2e-5)
    assert ours["micro"]["f1"] == pytest.approx(theirs["accuracy"], abs=1e-5)


def test_one_class_alone_has_no_area():
    scores = class_scores(np.array([0.9, 0.8, 0.2]), np.ones(3, np.int64))
    assert scores["auc"] is None
    assert scores["confusion"] == [[0, 0], [1, 2]]
    assert scores["macro_f1"] == pytest.approx(0.8)


def test_calibrated_probabilities_have_no_error():
    rng = np.random.default_rng(1)
    probability = rng.random(200_000)
    truth = (rng.random(200_000) < probability).astype(np.int64)
    assert calibration_error(probability, truth) < 0.01
    assert calibration_error(np.sqrt(probability), truth) > 0.1
    assert sum(reliability_diagram(probability, truth)[2]) == pytest.approx(1)


def test_diagram_against_sklearn():
    rng = np.random.default_rng(0)
    score = rng.random(5000)
    label = (rng.random(5000) < score**2).astype(np.int64)
    stated, seen, share = reliability_diagram(score, label)
    expected_seen, expected_stated = calibration_curve(label, score, n_bins=10)
    np.testing.assert_allclose(stated, expected_stated)
    np.testing.assert_allclose(seen, expected_seen)
    assert share.sum() == pytest.approx(1)


def test_bins_without_candidates_are_left_out_and_one_belongs_to_the_last():
    stated, seen, share = reliability_diagram(np.array([1.0, 0.95, 0.01]), np.array([1, 0, 0]))
    np.testing.assert_allclose(stated, [0.01, 0.975])
    np.testing.assert_allclose(seen, [0, 0.5])
    np.testing.assert_allclose(share, [1 / 3, 2 / 3])
