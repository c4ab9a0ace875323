from dataclasses import replace

import numpy as np
import pytest

from flows.simulation.conditions import conditions_of
from flows.simulation.exposure import SimulatedExposure, draw_layers, science_and_template, simulate_exposure
from flows.simulation.presets import find_preset
from flows.simulation.psf import moffat
from flows.simulation.stars import Stars, stars_on
from schemas.pixels import UNUSABLE, MaskPlane
from schemas.truth import TRUTH
from tests.support.summary import layers, numbers, summary

ZTF, RUBIN = (find_preset(name, shape=(500, 600)) for name in ("ztf", "rubin"))


@pytest.mark.parametrize("preset", [ZTF, RUBIN])
def test_planes_fit_together(preset) -> None:
    exposure = simulate_exposure(preset, 5, 1, 2)
    assert exposure.difference.shape == exposure.mask.shape == exposure.variance.shape == (500, 600)
    assert (exposure.difference.dtype, exposure.mask.dtype) == (np.float32, np.uint16)
    blank = UNUSABLE if preset is ZTF else MaskPlane.NO_DATA
    assert np.array_equal(np.isnan(exposure.difference), (exposure.mask & np.uint16(blank)) != 0)
    assert 0 < np.isnan(exposure.difference).mean() < 0.6
    TRUTH.check(exposure.truth)


def test_same_seed_same_pixels_other_seed_others() -> None:
    one, same = (simulate_exposure(ZTF, 5, 1, 2) for _ in range(2))
    assert one.difference.tobytes() == same.difference.tobytes()
    assert one.truth.equals(same.truth)
    for other in ((6, 1, 2), (5, 2, 2), (5, 1, 3)):
        assert one.difference.tobytes() != simulate_exposure(ZTF, *other).difference.tobytes()


def test_robust_noise_is_that_of_the_conditions() -> None:
    exposure = simulate_exposure(replace(ZTF, smoothing=(0, 0)), 7, 0, 0)
    usable = exposure.difference[np.isfinite(exposure.difference)]
    sigma = 1.4826 * np.median(np.abs(usable - np.median(usable)))
    assert sigma == pytest.approx(exposure.conditions.noise.sigma, rel=0.1)


def test_variance_is_that_of_the_pixels() -> None:
    conditions = conditions_of(ZTF, 9, 0, 0)
    canvas = draw_layers(conditions, stars_on(conditions, conditions))
    exposure = simulate_exposure(ZTF, 9, 0, 0)
    pull = (exposure.difference - canvas.signal - canvas.sharp) / np.sqrt(exposure.variance)
    assert np.nanstd(pull) == pytest.approx(1, abs=0.03)
    assert exposure.variance.min() > 0


def test_streaks_can_be_left_out() -> None:
    exposure = simulate_exposure(replace(ZTF, streaks=0), 5, 0, 0)
    assert "streak" not in exposure.truth["kind"].to_pylist()


def test_content_of_a_whole_quadrant() -> None:
    exposure = simulate_exposure("ztf", 11, 0, 0)
    kinds = exposure.truth["kind"].to_pylist()
    assert kinds.count("streak") == 20
    assert 5 < kinds.count("point") < 90
    # 2,000 to 3,000 stars bright enough to leave something: above 2 sigma at 5 % of their peak.
    noise, psf = exposure.conditions.noise, exposure.conditions.psf
    peak = exposure.stars.flux * (psf.beta - 1) / (np.pi * psf.fwhm**2 / (4 * (2 ** (1 / psf.beta) - 1)))
    assert 500 < np.count_nonzero(0.05 * peak > 2 * noise.sigma) < 5000
    saturated = np.count_nonzero(exposure.stars.magnitude < 13.8)
    assert 50 < saturated < 400


EXPOSURE = simulate_exposure(find_preset("ztf", shape=(300, 400)), 2, 0, 0)


def test_science_less_template_is_the_difference_above_a_flat_sky() -> None:
    planes = science_and_template(EXPOSURE)
    rest = planes["science"] - planes["template"] - EXPOSURE.difference
    assert np.nanmin(rest) == pytest.approx(np.nanmax(rest), abs=0.05)
    assert np.array_equal(np.isnan(planes["template"]), np.isnan(EXPOSURE.difference))


def test_template_holds_the_stars() -> None:
    template = np.nan_to_num(science_and_template(EXPOSURE)["template"])
    stars = EXPOSURE.stars
    inside = (stars.x > 5) & (stars.x < 394) & (stars.y > 5) & (stars.y < 294) & (stars.magnitude > 14.5)
    brightest = np.flatnonzero(inside)[np.argsort(stars.magnitude[inside])[:10]]
    for index in brightest:
        row, column = round(stars.y[index]), round(stars.x[index])
        assert template[row - 1 : row + 2, column - 1 : column + 2].max() > 20 * EXPOSURE.conditions.noise.sigma


TINY = [
    replace(find_preset(*which), streaks=2, satellites=1.5)
    for which in (("ztf", None, (130, 100)), ("rubin", None, (100, 130)), ("ztf", None, (100, 130), ("r", "g")))
]


@pytest.fixture(scope="module")
def tiny() -> list[SimulatedExposure]:
    return [simulate_exposure(preset, 21, 1, 3) for preset in TINY]


def test_a_seed_stands_for_its_exposure(tiny: list[SimulatedExposure]) -> None:
    """For its pixels, mask, variance and truth, and for the science image and the template that go with it."""
    found = []
    for exposure in tiny:
        planes = science_and_template(exposure)
        found += [summary(plane) for plane in (exposure.difference, exposure.mask, exposure.variance)]
        found += [numbers(exposure.truth.to_pylist()), *(summary(planes[name]) for name in ("science", "template"))]
    np.testing.assert_allclose(
        found,
        [
            [11077, 134656.03, -31694.853, 23137111.3, 8053717.62, 8414162.59],
            [2522, 434320, 0, 182934272, 17672080, 21919072],
            [13000, 937180.859, 0, 68507975.1, 63187892.8, 47546452.1],
            [32, 117386.172, 0, 1.07290253e10, 451001.163, 584927.347],
            [11077, 2435743.4, 0, 559608892, 154227161, 123003459],
            [11077, 16174.9301, -7044.95619, 2026053.66, 1438194.09, 1245233.24],
            [10872, 260309.173, -51076.1626, 29749362.2, 13047132.6, 25337953.1],
            [3502, 892160, 0, 417697792, 33685968, 83599760],
            [13000, 4125237.4, 0, 1.32128407e09, 201995899, 265909249],
            [32, 212576.561, 0, 2.14607809e10, 704346.568, 1060090.27],
            [10872, 4975591.94, 0, 2.30293862e09, 244873411, 335694520],
            [10872, 15295.7878, -15111.4349, 133535.413, 1499646.52, 2019256.47],
            [11033, 158236.645, -29954.4557, 28924028, 6391047.77, 12486738.2],
            [2703, 538832, 0, 238561024, 13961648, 35548512],
            [13000, 941549.438, 0, 69145810, 48722427.5, 61973261.9],
            [32, 152027.298, 0, 1.80906283e10, 585684.44, 758063.787],
            [11033, 2446706.25, 0, 570318500, 119231676, 159323240],
            [11033, 11178.9939, -7177.19073, 403956.986, 948277.722, 1206298.33],
        ],
        rtol=1e-6,
    )


def test_a_seed_stands_for_the_layers_of_its_exposure() -> None:
    conditions = conditions_of(TINY[0], 22, 0, 1)
    np.testing.assert_allclose(
        layers(draw_layers(conditions, stars_on(conditions, conditions))),
        [
            [13000, 57264.6029, -36686.5396, 108688572, 8192464.97, 5102245.32],
            [7293, 1571969.56, 0, 4.32697718e11, 176415569, 116632538],
            [0, 0, 0, 0, 0, 0],
            [3233, 384850, 0, 152549540, 21875400, 12536618],
        ],
        rtol=1e-6,
    )


def test_the_noise_of_galaxies_that_were_subtracted_is_that_of_their_photons(
    tiny: list[SimulatedExposure],
) -> None:
    exposure = tiny[2]
    conditions, canvas = exposure.conditions, draw_layers(exposure.conditions, exposure.stars)
    assert exposure.galaxies is not None
    assert exposure.galaxies.max() > 0
    expected = conditions.noise.sigma_map() ** 2 + canvas.excess + exposure.galaxies / TINY[2].gain
    np.testing.assert_allclose(exposure.variance, expected, rtol=1e-5)


def test_a_star_saturates_above_the_limit_and_not_at_it() -> None:
    preset = replace(TINY[0], variables=(0.0, 0.0))
    conditions = conditions_of(preset, 22, 0, 1)
    for magnitude, masked in ((preset.saturated_magnitude, False), (preset.saturated_magnitude - 1e-9, True)):
        star = Stars(np.array([50.0]), np.array([65.0]), np.array([magnitude]), np.array([1e4]))
        canvas = draw_layers(conditions, star)
        assert bool(canvas.mask[65, 50] & np.uint16(MaskPlane.SAT)) == masked


@pytest.mark.parametrize(("flux", "reach"), [(3e3, 6), (1e5, 12), (5e6, 24), (1e8, 60), (2e9, 60)])
def test_a_star_on_the_template_reaches_as_far_as_the_noise_lets_it_be_seen(
    tiny: list[SimulatedExposure], flux: float, reach: int
) -> None:
    """6, 12, 24 or 60 half widths; only the longest may leave out more than a tenth of the noise."""
    none = np.zeros(0)
    exposure = replace(tiny[0], difference=np.zeros((130, 100), np.float32))
    conditions, psf = exposure.conditions, replace(exposure.conditions.psf, fwhm=2.0)
    exposure = replace(exposure, conditions=replace(conditions, psf=psf))
    empty = science_and_template(replace(exposure, stars=Stars(none, none, none, none)))["template"]
    star = Stars(*(np.array([value]) for value in (50.3, 65.6, 12.0, flux)))
    light = science_and_template(replace(exposure, stars=star))["template"].astype(float) - empty
    rows, columns = np.indices(light.shape)
    here = np.array(50.3), np.array(65.6)
    profile = moffat(columns - 50.3, rows - 65.6, psf.fwhm_at(*here), psf.beta, *psf.shear_at(*here))
    expected = np.minimum(flux * profile, conditions.preset.saturation)
    inside = (np.abs(columns - 50) <= reach) & (np.abs(rows - 66) <= reach)
    np.testing.assert_allclose(light[inside], expected[inside], rtol=1e-4, atol=0.01)
    assert not light[~inside].any()
    assert (expected[~inside] < 0.15 * conditions.noise.sigma).all() or reach == 60
