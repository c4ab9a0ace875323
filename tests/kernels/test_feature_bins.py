import numpy as np
import pytest

from kernels.feature_bins import FEATURES, Bins


@pytest.mark.parametrize("name", FEATURES)
def test_each_finite_value_is_counted_once(name):
    values = np.r_[np.random.default_rng(1).lognormal(0, 3, 1000), -5.0, 0.0, np.nan, np.inf]
    counts = FEATURES[name].histogram(values)
    assert len(counts) == FEATURES[name].count
    assert counts.sum() == 1002


def test_bins_are_those_of_numpy():
    values = np.random.default_rng(2).uniform(0, 1, 5000)
    np.testing.assert_array_equal(Bins(0, 1, 50).histogram(values), np.histogram(values, np.linspace(0, 1, 51))[0])
    values = np.exp(np.random.default_rng(3).uniform(np.log(3), np.log(300), 5000))
    np.testing.assert_array_equal(
        Bins(3, 300, 80, log=True).histogram(values),
        np.histogram(np.log(values), np.linspace(np.log(3), np.log(300), 81))[0],
    )


def test_what_lies_beyond_is_in_the_end_bins():
    assert Bins(0, 1, 4).histogram([-3, 0.1, 7, 8]).tolist() == [2, 0, 0, 2]
