import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from kernels.roc import area_under_roc

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
