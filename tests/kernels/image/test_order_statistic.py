import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.image.order_statistic import median, quantile

numbers = st.one_of(
    st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=200),
    st.lists(
        st.floats(-1e30, 1e30, allow_subnormal=False).map(lambda x: x if abs(x) > 1e-30 else 0.0),
        min_size=1,
        max_size=200,
    ),
)


@settings(deadline=None)
@given(values=numbers)
def test_median_is_that_of_numpy(values):
    assert median(np.array(values)) == np.median(values)


@settings(deadline=None)
@given(values=numbers, share=st.floats(0, 1))
def test_quantile_is_that_of_numpy(values, share):
    expected = np.quantile(values, share)
    assert quantile(np.array(values), share) == pytest.approx(expected, rel=1e-12, abs=1e-12 * np.abs(values).max())


@pytest.mark.parametrize("n", [24, 25, 1000, 50_001])
@pytest.mark.parametrize("seed", [0, 1])
def test_many_values(n, seed):
    values = np.random.default_rng(seed).standard_cauchy(n)
    before = values.copy()
    assert median(values) == np.median(values)
    np.testing.assert_array_equal(values, before)


def test_equal_values():
    assert median(np.full(100, 7.5)) == 7.5


def test_none_of_nothing():
    assert math.isnan(median(np.empty(0)))
