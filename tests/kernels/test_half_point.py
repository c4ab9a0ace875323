import numpy as np
import pytest
from scipy.special import expit

from kernels.completeness import fit_completeness
from kernels.half_point import LEAST, half_point


def night(seed, n=400, half=9.0, slope=6.0, ceiling=0.97, low=4.0, high=25.0):
    """Sources log-uniform in brightness, found by a logistic that is 0.5 at ``half``."""
    rng = np.random.default_rng(seed)
    brightness = np.exp(rng.uniform(np.log(low), np.log(high), n))
    centre = np.log(half) + np.log(2 * ceiling - 1) / slope
    return brightness, rng.uniform(size=n) < ceiling * expit(slope * (np.log(brightness) - centre))


@pytest.mark.parametrize(("n", "slope"), [(60, 6.0), (400, 6.0), (400, 20.0)])
def test_the_interval_covers_what_it_promises(n, slope):
    points = [half_point(*night(seed, n, slope=slope)) for seed in range(100)]
    known = [point for point in points if point.value is not None]
    assert len(known) > 90
    covered = np.mean([point.low <= 9.0 <= point.high for point in known])
    assert covered >= 0.90  # 0.95 promised; 100 trials scatter by 0.02
    assert all(point.low < point.value < point.high for point in known)


def test_it_narrows_with_the_number():
    width = [np.log(point.high / point.low) for point in (half_point(*night(1, n)) for n in (80, 800, 8000))]
    assert width[0] > 2 * width[1] > 2 * width[2]


def test_it_agrees_with_the_fitted_curve():
    for seed in range(5):
        brightness, found = night(seed, 1000)
        point = half_point(brightness, found)
        assert point.low < fit_completeness(brightness, found).s50 < point.high
        assert point.value == pytest.approx(fit_completeness(brightness, found).s50, rel=0.03)


def test_units_of_brightness_do_not_matter():
    brightness, found = night(3)
    first, second = half_point(brightness, found), half_point(1e-3 * brightness, found)
    np.testing.assert_allclose(second[:3], 1e-3 * np.array(first[:3]), rtol=1e-9)


def test_says_nothing_of_what_was_not_tried():
    brightness, found = night(1, LEAST - 1)
    assert half_point(brightness, found)[3] == "fewer than 20 streaks"
    brightness, found = night(1)
    assert half_point(brightness, found & False)[3] == "none was recovered"
    assert half_point(brightness, found | True)[3] == "all were recovered"
    for half in (4.2, 24.0, 80.0):
        brightness, found = night(2, 60, half=half)
        point = half_point(brightness, found)
        assert (point.value, point.low, point.high) == (None, None, None)
        assert point.reason in ("its interval reaches beyond the streaks put in", "none was recovered")
