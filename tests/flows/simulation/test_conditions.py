from itertools import product

import numpy as np
import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from flows.simulation.conditions import NoiseField, conditions_of, resampling_taps
from flows.simulation.presets import PRESETS, find_preset
from schemas.errors import Misconfigured
from tests.support.summary import summary

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


VISITS = [
    66814000, 66818708, 193424277, 217816785,
    66814000, 66817241, 193423928, 217816207,
    2018103000000, 2018103000005, 2022041800076, 2022121800040,
    66814000, 66823498, 193421877, 217756108,
]  # fmt: skip


def test_a_seed_stands_for_its_conditions() -> None:
    """For when and where it is, and for what the air is like: in every survey, and for visits of several fields."""
    found, visits = [], []
    for preset in (*map(find_preset, ("llnl", "ztf", "rubin")), find_preset("ztf", bands=("g", "i"))):
        for seed, visit, detector in ((1, 0, 0), (1, 5, 3), (7, 76, 0), (20, 400, 12)):
            one = conditions_of(preset, seed, visit, detector)
            visits.append(one.visit)
            found.append([one.field_id, *divmod(one.mjd_utc, 1), one.zero_point, one.psf.fwhm, one.noise.sigma])
            ra, dec = one.to_sky(0.0, 0.0)
            taps = summary([*one.noise.taps_y, *one.noise.taps_x])
            found.append([ra[0], dec[0], *one.noise.slope, taps[1], taps[2]])
    assert visits == VISITS
    np.testing.assert_allclose(
        found,
        [
            [505, 58422, 0.14, 26.049836, 1.92669355, 5.2061931],
            [143.911755, 18.9475208, 0.0797699213, 0.0430367404, 2.75327575, -0.16567249],
            [618, 58422, 0.187083, 26.064062, 2.30470745, 7.85616188],
            [151.85156, -0.33448961, -0.0523957804, -0.00873366166, 2.62459252, -0.452208602],
            [439, 59688, 0.242766, 26.038995, 2.61663849, 6.74601927],
            [115.696335, 51.0138055, -0.0116806985, -0.0234545279, 2.6099998, -0.17033201],
            [301, 59932, 0.167847, 26.028028, 2.35614275, 5.26838641],
            [357.49342, 18.8078068, -0.0507149579, -0.0394599096, 2.57246098, -0.0834136903],
            [285, 58422, 0.14, 26.076131, 2.46705798, 8.49920474],
            [352.960354, 13.0134915, 0.0183283371, -0.00584911073, 2.41176245, -0.199199524],
            [826, 58422, 0.172407, 26.089213, 2.20166719, 5.33427763],
            [12.4928141, -8.13236217, 0.0026347779, 0.0331547916, 2.66291956, -0.341607579],
            [777, 59688, 0.239282, 25.999541, 2.90410525, 7.32653626],
            [213.359251, 27.8201495, 0.0159543558, 0.0368980941, 2.72329623, -0.116826546],
            [693, 59932, 0.162072, 25.996961, 1.8571411, 9.70259355],
            [84.8118058, 12.5150995, 0.0322038523, 0.0225438891, 2.83769482, -0.223602134],
            [498, 58422, 0.14, 31.4, 4.65668022, 23.5539914],
            [342.822256, -4.36552608, -0.0111609601, -0.00339599937, 2.86638194, -0.488888738],
            [803, 58422, 0.185035, 31.4, 4.30057611, 20.8069936],
            [274.208064, 44.0717538, -0.0134723368, 0.0756698827, 2.52443706, -0.311450235],
            [470, 59688, 0.249074, 31.4, 3.37897714, 24.1194142],
            [100.479182, -4.05259515, 0.0106802659, -0.00679325957, 2.61431845, -0.17364301],
            [367, 59932, 0.171238, 31.4, 3.250636, 17.9438726],
            [254.439149, 30.3810721, -0.00173385627, -0.0519228287, 2.21710275, -0.0410638967],
            [285, 58422, 0.14, 26.076131, 2.46705798, 8.49920474],
            [352.960354, 13.0134915, 0.0183283371, -0.00584911073, 2.41176245, -0.199199524],
            [285, 58422, 0.234977, 26.089213, 2.72983316, 10.6297884],
            [352.957059, 13.8866386, 0.0026347779, 0.0331547916, 2.66291956, -0.341607579],
            [273, 59688, 0.218773, 25.999541, 3.36557162, 10.0829885],
            [54.4267487, 43.6653339, 0.0159543558, 0.0368980941, 2.72329623, -0.116826546],
            [490, 59931, 0.561076, 25.996961, 1.86182716, 7.05394928],
            [307.4207, 28.8385944, 0.0322038523, 0.0225438891, 2.83769482, -0.223602134],
        ],
        rtol=1e-8,
    )


def test_fields_take_turns_in_the_bands() -> None:
    plain, several = find_preset("rubin"), find_preset("ztf", bands=("i", "g"))
    assert [conditions_of(plain, 1, 3 * field + 1, 0).band for field in range(5)] == ["g", "r", "i", "z", "g"]
    assert [conditions_of(several, 1, visit, 0).band for visit in range(4)] == ["i", "g", "i", "g"]


def test_the_last_detector_is_there_and_none_is_negative() -> None:
    assert conditions_of(ZTF, 1, 0, 63).detector == 63
    for detector in (-1, 64):
        with pytest.raises(Misconfigured):
            conditions_of(ZTF, 1, 0, detector)


def test_noise_varies_linearly_over_the_image() -> None:
    """From the centre to the right and the upper edge by the slope; an image of one pixel has the first corner's."""
    noise = NoiseField(5.0, (0.2, -0.1), (101, 201), (1.0,), (1.0,))
    assert noise.sigma_at(100, 50) == pytest.approx(5)
    assert noise.sigma_at(200, 50) == pytest.approx(6)
    assert noise.sigma_at(0, 100) == pytest.approx(3.5)
    assert NoiseField(5.0, (0.2, -0.1), (1, 1), (1.0,), (1.0,)).sigma_at(0, 0) == pytest.approx(5 * (1 - 0.2 + 0.1))


def test_a_shifted_kernel_is_that_of_lanczos() -> None:
    """Three lobes of a sinc under a sinc; what one matches a PSF with on top."""
    place = np.arange(-2, 4) - 0.3
    lanczos = np.sin(np.pi * place) * np.sin(np.pi * place / 3) * 3 / (np.pi * place) ** 2
    expected = np.convolve(lanczos, [0.1, 0.8, 0.1])
    assert resampling_taps(0.3, 0.1) == pytest.approx(expected / np.linalg.norm(expected), abs=1e-12)
    none = resampling_taps(0.0, 0.25)
    assert none[np.abs(none) > 1e-12] == pytest.approx(np.array([1, 2, 1]) / np.sqrt(6))
