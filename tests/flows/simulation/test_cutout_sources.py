import numpy as np
import pytest

from flows.simulation.cutout_sources import (
    draw_galaxy,
    ellipticity,
    galaxy_colours,
    magnitudes,
    scale_length,
    star_colours,
)


def test_median_size_follows_the_published_relation():
    rng = np.random.default_rng(1)
    for i in (20.0, 23.0, 25.0):
        drawn = np.median([scale_length(i, rng) for _ in range(4000)])
        assert drawn == pytest.approx(np.exp(-1.145 - 0.269 * (i - 23)), rel=0.06)


def test_ellipticities_are_those_of_discs():
    rng = np.random.default_rng(2)
    drawn = np.array([ellipticity(rng) for _ in range(3000)])
    assert 0 <= drawn.min() < 0.02
    assert drawn.max() <= 0.804
    assert 0.2 < drawn.mean() < 0.35


def test_galaxies_have_unit_flux_and_keep_their_major_axis():
    rng = np.random.default_rng(3)
    for _ in range(30):
        galaxy = draw_galaxy(22.0, rng)
        assert galaxy.profile.flux == pytest.approx(1.0, rel=1e-6)
        assert 0 <= galaxy.ellipticity < 0.81
        assert np.isnan(galaxy.bulge) != np.isnan(galaxy.sersic)


def test_both_kinds_of_profile_and_knots_occur():
    rng = np.random.default_rng(4)
    drawn = [draw_galaxy(23.0, rng) for _ in range(60)]
    assert any(np.isnan(one.bulge) for one in drawn)
    assert any(one.bulge == 1 for one in drawn)
    assert any(one.knots > 0 for one in drawn)


def test_magnitudes_have_the_colours():
    g, r, i, z = magnitudes(22.0, np.array([0.5, 0.3, 0.1]))
    assert (g - r, r - i, i - z, i) == pytest.approx((0.5, 0.3, 0.1, 22.0))


def test_colours_of_stars_and_galaxies_overlap():
    rng = np.random.default_rng(5)
    stars = np.array([star_colours(rng) for _ in range(500)])
    galaxies = np.array([galaxy_colours(rng) for _ in range(500)])
    assert stars[:, 0].min() < np.median(galaxies[:, 0]) < stars[:, 0].max()
