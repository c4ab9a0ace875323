import numpy as np
import pytest

from flows.simulation.exposure import simulate_exposure
from flows.simulation.planes import science_and_template
from flows.simulation.presets import find_preset

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
