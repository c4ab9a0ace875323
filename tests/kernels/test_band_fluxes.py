import numpy as np
import pytest

from kernels.band_fluxes import FluxSum
from kernels.point_photometry import Fluxes


def fluxes(value, sky, error=None):
    value, sky = np.array(value, float), np.array(sky, float)
    return Fluxes(value, sky if error is None else np.array(error, float), sky, np.ones(len(value)))


def test_the_mean_is_weighted_by_the_noise_of_the_sky():
    total = FluxSum(3)
    total.add(np.array([0, 2]), fluxes([10, 5], [1, 1]), 1.0)
    total.add(np.array([0]), fluxes([16], [2]), 1.0)
    found = total.mean()
    assert found.value[0] == pytest.approx((10 + 16 / 4) / 1.25)
    assert found.error[0] == pytest.approx(1.25**-0.5)
    assert found.value[2] == 5
    assert np.isnan(found.value[1])
    assert found.exposures.tolist() == [2, 0, 1]


def test_units_are_taken_care_of_and_what_is_not_measured_left_out():
    total = FluxSum(2)
    total.add(np.array([0, 1]), fluxes([10, np.nan], [1, np.nan]), 3.0)
    found = total.mean()
    assert (found.value[0], found.error[0]) == pytest.approx((30, 3))
    assert found.exposures.tolist() == [1, 0]


def test_bright_and_faint_draws_of_one_flux_average_without_bias():
    rng = np.random.default_rng(1)
    total, flux = FluxSum(4000), 100.0
    for _ in range(4):
        value = rng.normal(flux, 10, 4000)
        total.add(np.arange(4000), fluxes(value, np.full(4000, 5.0), np.sqrt(25 + np.maximum(value, 0) * 0.75)), 1.0)
    found = total.mean()
    assert found.value.mean() == pytest.approx(flux, abs=0.3)
    assert ((found.value - flux) / found.error).std() == pytest.approx(1, abs=0.06)
