from dataclasses import replace

import numpy as np
import pytest

from flows.simulation.conditions import conditions_of
from flows.simulation.exposure import draw_layers, science_and_template, simulate_exposure
from flows.simulation.presets import find_preset
from flows.simulation.stars import stars_on
from schemas.pixels import UNUSABLE, MaskPlane
from schemas.truth import TRUTH

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
