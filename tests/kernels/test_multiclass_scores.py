import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

from kernels.multiclass_scores import calibration_error, class_scores, macro_area, rounded

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(PAIRS)
def test_agrees_with_scikit_learn(pairs):
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
