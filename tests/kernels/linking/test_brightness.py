import numpy as np
import pytest
from scipy.stats import norm

from kernels.linking.brightness import chance_of_magnitude, density_of_magnitudes, least_chance_of_magnitude
from kernels.linking.detections import detections_at, detections_of
from kernels.linking.tracklets import find_tracklets


def of_magnitudes(magnitude):
    zero = np.zeros(len(magnitude))
    return detections_at(zero, zero, zero, zero, magnitude=np.asarray(magnitude, float))


def test_unrelated_magnitudes_have_a_chance_as_often_as_it_says():
    rng = np.random.default_rng(1)
    magnitude = np.append(np.repeat([16.5, 18.0, 19.5], 4000), rng.uniform(15, 21, 12_000))
    i, member = np.arange(12_000), np.arange(12_000, 24_000)
    density = density_of_magnitudes(magnitude[member])
    chance = chance_of_magnitude(of_magnitudes(magnitude), i, i, member, density)
    for limit in (0.2, 0.3, 0.5, 0.9):
        assert 0.02 < (chance <= limit).mean() <= limit + 0.02


def test_those_of_one_object_are_seldom_by_chance_and_odd_ones_count_no_worse_than_unknown_ones():
    rng = np.random.default_rng(2)
    magnitude = np.append(18 + rng.normal(0, 0.1, 300), [18.0, 20.4, np.nan])
    detections, i, quarter = of_magnitudes(magnitude), np.arange(100), np.full(100, 0.25)
    of_two = chance_of_magnitude(detections, i, i + 100, i + 200, quarter)
    assert np.quantile(of_two, 0.9) < 0.3
    assert least_chance_of_magnitude(quarter[:1])[0] < of_two.min()
    alike, odd, unknown = 300, 301, 302

    def chance(i, j, member):
        return chance_of_magnitude(detections, *np.array([[i], [j], [member]]), quarter[:1])[0]

    assert chance(odd, odd, alike) == chance(unknown, unknown, alike) == chance(alike, alike, unknown) == 1
    peak = 0.7 * norm.pdf(0, 0, 0.2 * np.sqrt(2)) + 0.3 * norm.pdf(0, 0, 0.6 * np.sqrt(2))
    assert chance(alike, unknown, alike) == chance(unknown, alike, alike) == pytest.approx(0.25 / peak)
    peak = 0.7 * norm.pdf(0, 0, 0.2 * np.sqrt(1.5)) + 0.3 * norm.pdf(0, 0, 0.6 * np.sqrt(1.5))
    assert chance(alike, 0, alike) == pytest.approx(0.25 / peak, rel=0.2)


@pytest.mark.parametrize("number", [1, 30, 1000])
def test_density_is_that_of_magnitudes_and_never_too_small(number):
    even = np.linspace(16, 20, number)
    found = density_of_magnitudes(np.append(even, np.nan))
    assert np.isnan(found[-1])
    inside = (even > 16.6) & (even < 19.4)
    np.testing.assert_allclose(found[:-1][inside], 0.25, rtol=0.1 if number > 100 else 1)
    assert (found[:-1] > 0.24).all()  # as at the ends, too
    same = density_of_magnitudes(np.full(number, 20.0))
    assert chance_of_magnitude(of_magnitudes([20.0]), *np.zeros((3, 1), int), same[:1]) == [1.0]
    assert np.isnan(density_of_magnitudes(np.full(3, np.nan))).all()


def test_magnitudes_in_other_bands_are_compared_as_those_of_asteroids():
    columns = {name: np.zeros(4) for name in ("ra", "dec", "midpointMjdTai")} | {"magAB": np.full(4, 20.0)}
    found = detections_of(columns, ["g", "r", "zg", None]).magnitude
    assert found.tolist() == [19.45, 20, 20, 20]
    assert detections_of(columns).magnitude.tolist() == [20] * 4


def test_what_lies_off_the_way_is_not_linked_however_alike_its_magnitude():
    found = 0
    for seed in range(3, 7):
        rng = np.random.default_rng(seed)
        hours = np.array([0.0, 0.01, 1.2, 1.21, 5.0]).repeat(30)
        ra, dec, magnitude = 180 + rng.uniform(-3, 3, 150), rng.uniform(-3, 3, 150), rng.uniform(15, 21, 150)
        ra[::30], dec[::30], magnitude[::30] = 180 + 0.02 * hours[::30], 0.01 * hours[::30], 19.0
        ra[90] = 176.0  # of the mover in the fourth exposure
        detections = detections_at(ra, dec, 60000 + hours / 24, np.full(150, 0.2), magnitude=magnitude)
        tracklets = find_tracklets(detections, np.ones(150, bool))
        found += (0, 30, 60, 120) in {one.members for one in tracklets}
        assert all(one.motion.rms < 2 for one in tracklets)
    assert found == 4
