import math

import numpy as np
import pytest

from kernels.departure import departure


def test_scatter_of_one_more_gaussian_value_is_right():
    rng = np.random.default_rng(3)
    found = [departure(rng.normal(), 0.0, rng.normal(size=400)) for _ in range(400)]
    assert np.mean([one.sigma for one in found]) == pytest.approx(1.0, abs=0.01)
    assert np.std([one.score for one in found]) == pytest.approx(1.0, abs=0.1)


def test_outliers_hardly_matter():
    earlier = np.r_[np.random.default_rng(4).normal(20, 0.1, 30), [15.0, 16.0, 30.0]]
    found = departure(19.0, 0.0, earlier)
    assert found.median == pytest.approx(20, abs=0.06)
    assert found.score < -5


def test_error_adds_to_the_scatter_in_quadrature():
    assert departure(3.0, 0.5, [2.0] * 10).score == 2.0
    earlier = [1.0, 2.0, 3.0] * 10
    scatter = departure(2.0, 0.0, earlier).sigma
    assert departure(2.0, 0.5, earlier).sigma == pytest.approx(math.hypot(scatter, 0.5))


def test_sigma_is_no_less_than_its_floor():
    assert departure(27.0001, 0.0, [27.0] * 30, 0.01).score == pytest.approx(0.01)
    assert departure(27.0, 0.2, [27.0] * 30, 0.01).sigma == 0.2


def test_values_that_do_not_scatter():
    assert departure(2.0, 0.0, [2.0] * 10).score == 0
    assert departure(1.0, 0.0, [2.0] * 10).score == -math.inf
