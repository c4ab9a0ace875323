import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    cohen_kappa_score,
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
    cohen_kappa,
    macro_area,
    reliability_diagram,
    rounded,
)
from kernels.statistics.completeness import binomial_interval

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


def test_one_object_against_thousands_leaves_its_area_open():
    area = area_under_roc(np.array([0.5]), np.append(np.full(999, 0.4), 0.6))
    assert area.value == pytest.approx(0.999)
    assert (area.low, area.high) == (pytest.approx(0, abs=1e-9), pytest.approx(1))


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


def delong(positive, negative):
    """Area and its 95 % interval from all pairs, one by one; a variance of one value counts as 1/4."""
    wins = np.array([[(a > b) + 0.5 * (a == b) for b in negative] for a in positive])
    value = wins.mean()
    parts = [wins.mean(axis) for axis in (1, 0)]
    variance = sum(part.var(ddof=1) / len(part) if len(part) > 1 else 0.25 for part in parts)
    reach = norm.ppf(0.975) * np.sqrt(variance) / (value * (1 - value))
    return value, *expit([logit(value) - reach, logit(value) + reach])


@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        ([3.0, 1.0, 2.0, 2.0], [0.0, 2.0, 1.5]),
        ([1.0], [0.0, 2.0, 1.5]),
        ([3.0, 1.0, 0.5], [2.0]),
        ([1.0], [1.0]),
        ([0.0, 0.1, 5.0], [1.0, 2.0, 3.0, 3.0, 4.0]),
    ],
)
def test_area_and_interval_are_those_of_all_pairs(positive, negative):
    assert area_under_roc(np.array(positive), np.array(negative)) == pytest.approx(delong(positive, negative))


def test_a_reversed_separation_has_an_interval():
    area = area_under_roc(np.zeros(7), np.ones(5))
    assert (area.value, area.low) == (0, 0)
    assert area.high == pytest.approx(1 - 0.025**0.2)
    assert area_under_roc(np.array([1.0]), np.array([])) is None


def test_scores_of_two_classes_are_rounded_to_five_digits_and_a_half_is_class_1():
    probability = np.array([0.5, 0.49, 0.9, 0.8, 0.13, 0.61])
    truth = np.array([1, 0, 1, 0, 0, 1])
    found = binary_scores(probability, truth)
    assert found["n"] == 6
    assert found["confusion"] == [[2, 1], [0, 3]]
    assert found["accuracy"] == 0.83333
    assert found["accuracy_interval"] == [round(edge, 5) for edge in binomial_interval(5, 6)]
    assert found["auc"] == 0.77778
    assert found["macro_f1"] == round((2 * 2 / 5 + 2 * 3 / 7) / 2, 5)
    gaps = [abs(0.13 - 0), abs(0.49 - 0), abs(0.5 - 1), abs(0.61 - 1), abs(0.8 - 0), abs(0.9 - 1)]
    assert found["ece"] == round(sum(gaps) / 6, 5)


def test_scores_of_nothing_and_of_one_class():
    nothing = binary_scores(np.zeros(0), np.zeros(0, np.int64))
    assert nothing == {
        "n": 0, "accuracy": 0.0, "accuracy_interval": [0.0, 1.0], "auc": None, "macro_f1": None,
        "confusion": [[0, 0], [0, 0]], "ece": 0.0,
    }  # fmt: skip
    galaxies = binary_scores(np.array([0.2, 0.6, 0.1]), np.zeros(3, np.int64))
    assert galaxies["macro_f1"] == 0.8
    assert galaxies["accuracy"] == 0.66667
    one = binary_scores(np.array([0.2]), np.array([0]))
    assert (one["accuracy"], one["n"]) == (1.0, 1)


def test_report_of_classes_by_hand():
    rows = class_report([[5, 1], [2, 3]], ("galaxy", "star"))
    assert rows["galaxy"] == {"precision": 0.71429, "recall": 0.83333, "f1": 0.76923, "n": 6}
    assert rows["star"] == {"precision": 0.75, "recall": 0.6, "f1": 0.66667, "n": 5}
    assert rows["micro"] == {"precision": 0.72727, "recall": 0.72727, "f1": 0.72727, "n": 11}
    assert rows["macro"] == {"precision": 0.73214, "recall": 0.71666, "f1": 0.71795, "n": 11}
    assert rows["weighted"] == {
        "precision": round((6 * 0.71429 + 5 * 0.75) / 11, 5),
        "recall": round((6 * 0.83333 + 5 * 0.6) / 11, 5),
        "f1": round((6 * 0.76923 + 5 * 0.66667) / 11, 5),
        "n": 11,
    }
    absent = class_report([[4, 0], [3, 0]], ("galaxy", "star"))
    assert absent["star"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 3}
    assert class_report([[0, 1], [0, 4]], ("galaxy", "star"))["galaxy"]["precision"] == 0.0
    assert class_report([[0, 0], [1, 4]], ("galaxy", "star"))["galaxy"]["recall"] == 0.0


def test_interval_of_macro_f1_is_that_of_a_thousand_draws_always_alike():
    true, given_class = np.array([0] * 9 + [1] * 4 + [2] * 2), np.array([0] * 7 + [1, 2] + [1] * 3 + [0] + [2, 0])
    counts = np.bincount(true * 3 + given_class, minlength=9)
    values = []
    for draw in np.random.default_rng(0).multinomial(15, counts / 15, size=1000):
        table = draw.reshape(3, 3)
        kinds = [k for k in range(3) if table[k].sum()]
        values.append(np.mean([2 * table[k, k] / (table[k].sum() + table[:, k].sum()) for k in kinds]))
    scores = class_scores(true, given_class, 3)
    assert scores.macro_f1_interval == pytest.approx(np.quantile(values, (0.025, 0.975)))
    assert scores.accuracy_interval == pytest.approx(binomial_interval(11, 15))
    assert scores.n == 15
    figures = rounded(scores)
    assert figures["macro_f1_interval"] == [round(float(edge), 4) for edge in np.quantile(values, (0.025, 0.975))]
    assert figures["macro_f1"] == round(scores.macro_f1, 4)
    assert figures["accuracy"] == 0.7333


def test_calibration_error_of_several_classes_is_that_of_the_greatest_probability():
    probability = np.array([[0.5, 0.3, 0.2], [0.1, 0.15, 0.75], [0.2, 0.6, 0.2], [0.33, 0.33, 0.34]])
    expected = (abs(0.5 - 1) + abs(0.75 - 0) + abs(0.6 - 1) + abs(0.34 - 0)) / 4
    assert calibration_error(np.array([0, 1, 1, 0]), probability) == pytest.approx(expected)


def test_the_agreement_of_a_published_table():
    """Fleiss, Levin & Paik 2003, Statistical Methods for Rates and Proportions, table 18.1: 0.68, error 0.087."""
    kappa, error = cohen_kappa(np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]]))
    assert kappa == pytest.approx(0.68, abs=0.005)
    assert error == pytest.approx(0.087, abs=0.001)


@pytest.mark.parametrize("seed", range(4))
def test_agreement_is_as_scikit_learn_has_it(seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 5, 80)
    second = np.where(rng.random(80) < 0.6, first, rng.integers(0, 5, 80))
    table = np.zeros((5, 5), int)
    np.add.at(table, (first, second), 1)
    assert cohen_kappa(table)[0] == pytest.approx(cohen_kappa_score(first, second))
    assert cohen_kappa(table.T) == pytest.approx(cohen_kappa(table))


def test_the_error_of_an_agreement_is_the_scatter_of_samples():
    share = np.array([[0.4, 0.1, 0.0], [0.05, 0.2, 0.05], [0.02, 0.03, 0.15]])
    rng = np.random.default_rng(5)
    found = [cohen_kappa(rng.multinomial(400, share.ravel()).reshape(3, 3)) for _ in range(400)]
    kappas, errors = np.array(found).T
    assert errors.mean() == pytest.approx(kappas.std(), rel=0.12)


def test_where_nothing_can_be_said_of_an_agreement():
    for table in (np.zeros((3, 3), int), np.diag([7, 0, 0])):
        assert all(math.isnan(value) for value in cohen_kappa(table))
    assert cohen_kappa(np.diag([4, 4]))[0] == 1
    assert cohen_kappa(np.array([[0, 4], [4, 0]]))[0] == -1
