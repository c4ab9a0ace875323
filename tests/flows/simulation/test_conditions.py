from itertools import product

import numpy as np
import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from flows.simulation.conditions import NoiseField, conditions_of, resampling_taps
from flows.simulation.presets import PRESETS, find_preset
from schemas.errors import Misconfigured

ZTF = find_preset("ztf")


def test_visits_of_a_field_are_20_to_40_minutes_apart_and_share_what_they_should() -> None:
    for field in (0, 7, 30):
        visits = [conditions_of(ZTF, 3, 3 * field + number, 2) for number in range(3)]
        minutes = np.diff([visit.mjd_utc for visit in visits]) * 1440
        assert np.all((minutes > 19.9) & (minutes < 40.1))
        assert len({(visit.field, visit.field_id, visit.band) for visit in visits}) == 1
        assert len({visit.first.visit for visit in visits}) == 1
        centres = np.array([visit.to_sky(1500.0, 1500.0) for visit in visits]).reshape(3, 2)
        assert np.ptp(centres, axis=0).max() * 3600 < 30  # dithered, but by arcseconds


@pytest.mark.parametrize("name", PRESETS)
def test_visits_have_their_own_id_and_time(name: str) -> None:
    visits = [conditions_of(PRESETS[name], 1, index, 0) for index in range(150)]
    assert len({visit.visit for visit in visits}) == len({visit.mjd_utc for visit in visits}) == 150
    assert all(0 < visit.visit < 2**42 for visit in visits)


@pytest.mark.parametrize("name", PRESETS)
def test_conditions_stay_within_the_preset(name: str) -> None:
    preset = PRESETS[name]
    for seed, index, detector in product(range(4), range(4), range(3)):
        conditions = conditions_of(preset, seed, index, detector)
        assert preset.fwhm[0] <= conditions.psf.fwhm <= preset.fwhm[1]
        assert preset.noise[0] <= conditions.noise.sigma <= preset.noise[1]
        assert preset.beta[0] <= conditions.psf.beta <= preset.beta[1]


def test_the_night_at_palomar_is_one_night() -> None:
    # Local noon to noon, also for the last of many fields.
    for index in (0, 100, 359):
        conditions = conditions_of(ZTF, 9, index, 0)
        local = np.floor(conditions.mjd_utc - 116.86 / 360 - 0.5)
        assert local == np.floor(conditions_of(ZTF, 9, 0, 0).mjd_utc - 116.86 / 360 - 0.5)


def test_middle_of_the_exposure_is_in_tai() -> None:
    conditions = conditions_of(ZTF, 1, 0, 0)
    start = Time(conditions.mjd_utc, format="mjd", scale="utc")
    assert (Time(conditions.midpoint_mjd_tai, format="mjd", scale="tai") - start).sec == pytest.approx(15, abs=1e-4)


def test_flux_and_magnitude_are_inverse() -> None:
    conditions = conditions_of(ZTF, 1, 0, 0)
    assert conditions.flux_of(conditions.zero_point) == pytest.approx(1)
    assert conditions.magnitude_of(conditions.flux_of(18.2)) == pytest.approx(18.2)


def test_no_such_detector() -> None:
    with pytest.raises(Misconfigured, match="the ztf camera has 64"):
        conditions_of(ZTF, 1, 0, 64)


def field(shift: float = 0.4, smoothing: float = 0.1, slope: tuple[float, float] = (0, 0)) -> NoiseField:
    taps = tuple(resampling_taps(shift, smoothing))
    return NoiseField(5.0, slope, (500, 400), taps, tuple(resampling_taps(0.1, smoothing)))


@given(st.floats(0, 0.5), st.floats(0, 0.15))
def test_resampling_keeps_the_variance(shift: float, smoothing: float) -> None:
    assert np.sum(resampling_taps(shift, smoothing) ** 2) == pytest.approx(1)


def test_resampling_by_nothing_is_nothing() -> None:
    taps = resampling_taps(0.0, 0.0)
    assert np.max(np.abs(taps)) == pytest.approx(1)
    assert np.sum(np.abs(taps) > 1e-12) == 1


def test_noise_has_the_correlation_it_says() -> None:
    noise = field()
    image = noise.draw(np.zeros(noise.shape, np.float32), np.random.default_rng(1)).astype(float)
    # Wiener-Khinchin: the autocorrelation is the transform of the power; the noise wraps around.
    power = np.abs(np.fft.fft2(image)) ** 2
    measured = np.fft.fftshift(np.fft.ifft2(power).real) / image.size / 25
    middle_y, middle_x, reach = 250, 200, noise.correlation.shape[0] // 2
    cut = measured[middle_y - reach : middle_y + reach + 1, middle_x - reach : middle_x + reach + 1]
    assert cut == pytest.approx(noise.correlation, abs=0.015)
    assert noise.correlation[reach, reach] == pytest.approx(1)


def test_noise_is_larger_where_the_sky_is_and_under_sources() -> None:
    noise = field(slope=(0.2, -0.1))
    excess = np.zeros(noise.shape, np.float32)
    excess[200:300, 150:250] = 400
    image = noise.draw(excess, np.random.default_rng(2))
    assert image[:150, :100].std() == pytest.approx(noise.sigma_at(50, 75), rel=0.03)
    assert image[-150:, -100:].std() == pytest.approx(noise.sigma_at(350, 425), rel=0.03)
    assert image[210:290, 160:240].std() == pytest.approx(np.sqrt(425), rel=0.05)
    assert noise.sigma_map()[10, 20] == pytest.approx(noise.sigma_at(20, 10), rel=1e-6)
