import numpy as np
import pytest

from kernels.extinction import COEFFICIENTS, dereddened


def test_dust_takes_more_of_the_blue():
    values = list(COEFFICIENTS.values())
    assert values == sorted(values, reverse=True)


def test_takes_off_what_the_table_says_and_keeps_what_is_not_known():
    found = dereddened(np.array([20.0, 20.0]), "g", np.array([0.1, np.nan]))
    assert found[0] == pytest.approx(20 - 0.3237)
    assert np.isnan(found[1])
