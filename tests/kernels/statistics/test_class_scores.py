import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from kernels.statistics.class_scores import (
    area_under_roc,
    binary_calibration_error,
    binary_scores,
    calibration_error,
    class_report,
    class_scores,
    macro_area,
    reliability_diagram,
    rounded,
)

scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=20)


@given(scores, scores)
def test_area_is_that_of_scikit_learn(positive, negative):
    area = area_under_roc(np.array(positive), np.array(negative))
    label = np.repeat([1, 0], [len(positive), len(negative)])
    assert area.value == pytest.approx(roc_auc_score(label, positive + negative))
    assert 0 <= area.low <= area.value <= area.high <= 1


def test_interval_holds_the_true_area_as_often_as_it_says():
    rng = np.random.default_rng(8)
    true = 0.7602499389065233  # of two unit normals one apart: Phi(1 / sqrt(2))
    held = 0
    for _ in range(1000):
        area = area_under_roc(rng.normal(1, 1, 60), rng.normal(0, 1, 40))
        held += area.low <= true <= area.high
    assert 0.93 <= held / 1000 <= 0.97


def test_minus_infinity_is_the_least():
    area = area_under_roc(np.array([0.2, -np.inf]), np.array([-np.inf, 0.1]))
    assert area.value == pytest.approx((1 + 1 + 0.5 + 0) / 4)


def test_perfect_separation_has_an_interval():
    area = area_under_roc(np.ones(10), np.zeros(20))
    assert area.value == area.high == 1
    assert area.low == pytest.approx(0.025**0.1)


def test_nothing_to_compare():
    assert area_under_roc(np.array([]), np.array([1.0])) is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(20, 200))
def test_agrees_with_scikit_learn(seed, n):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    truth[:2] = 0, 1
    probability = np.clip(0.5 * truth + rng.uniform(0, 0.7, n), 0, 1)
    said = (probability >= 0.5).astype(int)
    scores = binary_scores(probability, truth)
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
    scores = binary_scores(np.array([0.9, 0.8, 0.2]), np.ones(3, np.int64))
    assert scores["auc"] is None
    assert scores["confusion"] == [[0, 0], [1, 2]]
    assert scores["macro_f1"] == pytest.approx(0.8)


def test_calibrated_probabilities_have_no_error():
    rng = np.random.default_rng(1)
    probability = rng.random(200_000)
    truth = (rng.random(200_000) < probability).astype(np.int64)
    assert binary_calibration_error(probability, truth) < 0.01
    assert binary_calibration_error(np.sqrt(probability), truth) > 0.1
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


PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(PAIRS)
def test_multiclass_scores_agrees_with_scikit_learn(pairs):
    true, given_class = np.array(pairs).T
    scores = class_scores(true, given_class, 4)
    there = np.unique(true)
    precision, recall, f1, _ = precision_recall_fscore_support(
        true, given_class, labels=there, average="macro", zero_division=0
    )
    np.testing.assert_allclose([scores.precision, scores.recall, scores.macro_f1], [precision, recall, f1])
    assert scores.accuracy == accuracy_score(true, given_class)
    np.testing.assert_array_equal(scores.confusion, confusion_matrix(true, given_class, labels=range(4)))
    assert scores.accuracy_interval[0] <= scores.accuracy <= scores.accuracy_interval[1]


def test_interval_of_macro_f1_holds_it_and_shrinks_with_the_rows():
    true = np.tile([0, 1, 2, 0], 50)
    given_class = np.where(np.arange(200) % 10 == 0, 1, true)
    few, many = (class_scores(np.tile(true, n), np.tile(given_class, n), 3) for n in (1, 16))
    for scores in (few, many):
        assert scores.macro_f1_interval[0] < scores.macro_f1 < scores.macro_f1_interval[1]
    widths = [one.macro_f1_interval[1] - one.macro_f1_interval[0] for one in (few, many)]
    assert 3 < widths[0] / widths[1] < 5


def test_area_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    true = rng.integers(0, 3, 300)
    probability = rng.dirichlet(np.ones(3), 300) + 0.3 * np.eye(3)[true]
    probability /= probability.sum(1, keepdims=True)
    expected = roc_auc_score(true, probability, multi_class="ovr", average="macro")
    np.testing.assert_allclose(macro_area(true, probability), expected)
    assert macro_area(np.zeros(3, int), probability[:3]) is None


def test_as_json():
    figures = rounded(class_scores(np.array([0, 1, 1]), np.array([0, 1, 0]), 2))
    assert figures["n"] == 3
    assert figures["accuracy"] == 0.6667
    assert figures["confusion"] == [[1, 0], [1, 1]]


def test_calibration_error():
    sure = np.array([[0.9, 0.1]] * 10)
    assert calibration_error(np.array([0] * 9 + [1]), sure) == pytest.approx(0)
    assert calibration_error(np.zeros(10, int), sure) == pytest.approx(0.1)
