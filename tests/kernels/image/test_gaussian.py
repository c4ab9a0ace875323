import numpy as np
import pytest
from numba import njit
from scipy.special import erf

from kernels.image.gaussian import FURTHEST, error_function, gaussian

X = np.linspace(0, FURTHEST, 4001)


def test_gaussian_is_the_exponential():
    np.testing.assert_allclose([gaussian(x) for x in X], np.exp(-np.square(X)), rtol=2e-13)


def test_error_function_is_that_of_scipy():
    np.testing.assert_allclose([error_function(x, gaussian(x)) for x in X], erf(X), rtol=0, atol=1e-13)


def test_nothing_is_left_at_the_furthest():
    assert gaussian(FURTHEST) < 1e-17
    assert error_function(FURTHEST, gaussian(FURTHEST)) == 1


@pytest.mark.parametrize("x", [0.0, 0.7, 3.0])
def test_they_can_be_called_from_compiled_code(x):
    @njit
    def both(x):
        return error_function(x, gaussian(x))

    assert both(x) == pytest.approx(erf(x), abs=1e-13)
