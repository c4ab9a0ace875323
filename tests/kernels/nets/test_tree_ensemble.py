import numpy as np

from kernels.nets.tree_ensemble import TreeEnsemble, tree_ensemble, tree_logits


def test_adds_up_the_leaves_that_a_row_falls_into():
    trees = TreeEnsemble(
        root=np.array([0, 3], np.int32),
        feature=np.array([1, -1, -1, 0, -1, 2, -1, -1], np.int16),
        limit=np.array([0.5, 0, 0, 2.0, 0, -1.0, 0, 0]),
        left=np.array([1, 0, 0, 4, 0, 6, 0, 0], np.int32),
        right=np.array([2, 0, 0, 5, 0, 7, 0, 0], np.int32),
        value=np.array([0, 1.0, 10.0, 0, 100.0, 0, 1000.0, 10000.0]),
        base=np.array([0.25]),
    )
    rows = np.array([[0, 0.5, 0], [3, 0.6, -1], [2.0, 0.6, 5], [2.1, 0, 0]], np.float32)
    np.testing.assert_array_equal(tree_logits(rows, trees), [101.25, 1010.25, 110.25, 10001.25])
    again = tree_ensemble({name: np.asarray(value) for name, value in trees._asdict().items()})
    np.testing.assert_array_equal(tree_logits(rows, again), tree_logits(rows, trees))
    assert tree_logits(rows[:0], trees).shape == (0,)
