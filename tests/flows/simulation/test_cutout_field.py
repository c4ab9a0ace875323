import numpy as np
import pytest

from flows.simulation.cutout_field import (
    bled,
    cutout_galaxy_colours,
    cutout_star_colours,
    draw_field,
    draw_galaxy,
    ellipticity,
    magnitudes,
    scale_length,
)
from flows.simulation.cutout_survey import DEEP, ZTF


@pytest.fixture(scope="module")
def field():
    return draw_field(DEEP, 5, 3, 60)


def test_holds_images_and_psfs(field):
    assert field.cutouts.shape == (60, 8, 26, 26)
    assert field.cutouts.dtype == np.float32
    assert np.isfinite(field.cutouts).all()
    assert len(field.rows) == 60
    sums = field.cutouts[:, 4:].sum((2, 3))
    assert ((sums > 0.9) & (sums < 1)).all()


def test_same_seed_same_pixels(field):
    again = draw_field(DEEP, 5, 3, 20)
    np.testing.assert_array_equal(again.cutouts, field.cutouts[:20])
    assert not np.array_equal(draw_field(DEEP, 5, 4, 2).cutouts, field.cutouts[:2])


def test_light_is_that_of_the_truth(field):
    for row, cutout in zip(field.rows, field.cutouts, strict=True):
        if row["label"] == "star" and not row["neighbour"] and row["iMag"] < 21:
            flux = 10 ** (0.4 * (31.4 - row["iMag"]))
            assert (cutout[2] * cutout[6]).sum() / (cutout[6] ** 2).sum() == pytest.approx(flux, rel=0.15)


def test_brightness_does_not_tell_the_classes(field):
    rows = [row for number in range(12) for row in draw_field(ZTF, 6, number, 60).rows]
    stars = [row["iMag"] for row in rows if row["label"] == "star"]
    galaxies = [row["iMag"] for row in rows if row["label"] == "galaxy"]
    assert abs(np.mean(stars) - np.mean(galaxies)) < 4 * 1.65 * np.sqrt(1 / len(stars) + 1 / len(galaxies))


def test_one_band_of_another_survey():
    assert draw_field(ZTF, 1, 0, 3).cutouts.shape == (3, 2, 20, 20)


def test_charge_bleeds_along_its_column_and_none_is_lost():
    light = np.zeros((20, 20))
    light[9:12, 10] = 50, 700, 60
    held = bled(light, 100.0, np.random.default_rng(1))
    assert np.flatnonzero(held.any(0)).tolist() == [10]
    assert held.sum() == pytest.approx(light.sum(), rel=0.05)
    assert ((held[:, 10] > 85) & (held[:, 10] < 115)).sum() == 8
    np.testing.assert_array_equal(bled(light, 1000.0, np.random.default_rng(1)), light)


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
    stars = np.array([cutout_star_colours(rng) for _ in range(500)])
    galaxies = np.array([cutout_galaxy_colours(rng) for _ in range(500)])
    assert stars[:, 0].min() < np.median(galaxies[:, 0]) < stars[:, 0].max()
