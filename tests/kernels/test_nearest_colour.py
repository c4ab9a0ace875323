import numpy as np
from sklearn.neighbors import NearestCentroid

from kernels.nearest_colour import class_means, nearest_colour


def test_gives_the_class_that_scikit_learn_gives():
    rng = np.random.default_rng(1)
    rows, code = rng.normal(0, 1, (200, 3)).astype(np.float32), rng.integers(0, 3, 200)
    rows += code[:, None]
    centroid = class_means(rows, code, 3)
    scores = nearest_colour(rows, centroid, np.ones(3, np.float32))
    np.testing.assert_array_equal(scores.argmax(1), NearestCentroid().fit(rows, code).predict(rows))
    np.testing.assert_allclose(scores.sum(1), 1)


def test_what_is_missing_does_not_count():
    rows = np.array([[np.nan, 0.9], [5.0, np.nan]], np.float32)
    centroid = np.array([[5.0, 0.0], [0.0, 1.0]], np.float32)
    assert nearest_colour(rows, centroid, np.ones(2, np.float32)).argmax(1).tolist() == [1, 0]
    means = class_means(np.array([[1, np.nan], [3, 4.0], [0, 0]], np.float32), np.array([0, 0, 1]), 2)
    np.testing.assert_array_equal(means, [[2, 4], [0, 0]])
