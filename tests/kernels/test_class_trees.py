import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from flows.training.class_fit import trees_of
from kernels.class_trees import ClassTrees, class_logits, class_trees


def test_adds_up_leaves_and_sends_missing_values_where_it_is_told():
    trees = ClassTrees(
        root=np.array([[0, 3]], np.int32),
        feature=np.array([0, -1, -1, 1, -1, -1], np.int16),
        limit=np.array([0.5, 0, 0, 2.0, 0, 0], np.float32),
        missing_left=np.array([1, 0, 0, 0, 0, 0], np.uint8),
        left=np.array([1, 0, 0, 4, 0, 0], np.int32),
        right=np.array([2, 0, 0, 5, 0, 0], np.int32),
        value=np.array([0, 1, 10, 0, 100, 1000], np.float32),
        base=np.array([0.25, 0.5]),
    )
    rows = np.array([[0.5, 2.0], [0.6, 2.1], [np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(class_logits(rows, trees), [[1.25, 100.5], [10.25, 1000.5], [1.25, 1000.5]])
    again = class_trees({name: np.asarray(value) for name, value in trees._asdict().items()})
    np.testing.assert_array_equal(class_logits(rows, again), class_logits(rows, trees))
    assert class_logits(rows[:0], trees).shape == (0, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (600, 4)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    code = np.where(np.isnan(rows[:, 0]), 2, (rows[:, 0] + np.nan_to_num(rows[:, 1]) > 0).astype(int))
    model = HistGradientBoostingClassifier(max_iter=20, random_state=seed).fit(rows, code)
    logits = class_logits(rows, trees_of(model))
    np.testing.assert_allclose(logits, model.decision_function(rows), atol=1e-5)
    np.testing.assert_array_equal(logits.argmax(1), model.predict(rows))
