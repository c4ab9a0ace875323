from dataclasses import replace

import galsim
import numpy as np
import pytest

from flows.simulation.cutout_field import (
    _draw_neighbour,
    _draw_source,
    _turned,
    bled,
    cutout_galaxy_colours,
    cutout_star_colours,
    draw_field,
    draw_galaxy,
    ellipticity,
    magnitudes,
    scale_length,
)
from flows.simulation.cutout_survey import DEEP, NIGHT, ZTF
from tests.support.summary import summary


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


def test_a_seed_stands_for_its_cutouts() -> None:
    found = []
    for survey in (DEEP, NIGHT, replace(ZTF, magnitude=(9.0, 14.0))):
        field = draw_field(survey, 8, 2, 14)
        rows = [[value for value in row.values() if not isinstance(value, str)] for row in field.rows]
        found += [summary(field.cutouts), [*summary(rows), 0, 0]]
    np.testing.assert_allclose(
        found,
        [
            [75712, 1748808.67, -27534.7565, 3.91979465e09, 8064830.08, 5681719.8, 24612903.5, 25175709.3],
            [250, 25332.979, -4.03932948, 35517969.2, 123683.988, 495998.847, 0, 0],
            [75712, 204013727, -13039456.7, 2.20752005e13, 2.05630221e09, 639461496, 2.79245186e09, 3.06299177e09],
            [256, 6967.05655, -3.54799563, 1285393.76, 60436.8857, 124335.013, 0, 0],
            [
                11200,
                2.50729512e09,
                -1503756.11,
                8.87122181e15,
                2.28999015e10,
                2.50879889e09,
                2.76552086e10,
                2.46222655e10,
            ],
            [154, 20375.2392, -5.31432763, 43905733.3, 178544.405, 321026.313, 0, 0],
        ],
        rtol=1e-6,
    )


def test_a_seed_stands_for_its_colours_sizes_and_shapes() -> None:
    rng = np.random.default_rng(8)
    draws = (
        cutout_star_colours, cutout_galaxy_colours, lambda rng: [scale_length(21.0, rng), scale_length(24.0, rng)],
        lambda rng: [ellipticity(rng)],
    )  # fmt: skip
    found = [summary([draw(rng) for _ in range(40)]) for draw in draws]
    np.testing.assert_allclose(
        found,
        [
            [120, 80.4058374, 0, 86.3155639, 1817.58747, 135.087976],
            [120, 58.537077, -0.0654200236, 42.2432602, 1112.74855, 96.1031744],
            [80, 40.121653, 0, 30.4561535, 865.138502, 52.6679035],
            [40, 12.5311717, 0, 4.99947629, 243.017399, 12.5311717],
        ],
        rtol=1e-6,
    )


def test_a_seed_stands_for_its_galaxies() -> None:
    """For what is said of them, and for their profiles, by the transform at three waves; GalSim's own to 1 %."""
    rng = np.random.default_rng(9)
    drawn = [draw_galaxy(22.0, rng) for _ in range(60)]
    said = [(one.radius, one.bulge, one.sersic, one.ellipticity, one.knots) for one in drawn]
    seen = [[abs(one.profile.kValue(*wave)) for wave in ((0.5, 0.0), (0.0, 1.0), (2.0, 2.0))] for one in drawn]
    np.testing.assert_allclose(
        [summary(said), summary(seen)],
        [
            [196, 117.592751, 0, 177.799573, 3696.77701, 263.064404],
            [180, 128.141804, 0, 107.227128, 3917.17302, 227.444113],
        ],
        rtol=1e-6,
    )


def test_a_flattened_galaxy_keeps_its_major_axis() -> None:
    """Half the light of a Sersic profile lies within its half-light radius, along the major axis if it is flat."""
    disc = galsim.Exponential(half_light_radius=1.0)
    flat = _turned(disc, galsim.Shear(g=0.5, beta=0 * galsim.radians), 0.5)
    # (a - b) / (a + b) of 1/2: b is a third of a, so the profile along x is that of the disc, three times as bright.
    for place in (0.0, 0.7, 2.0):
        assert flat.xValue(place, 0) == pytest.approx(3 * disc.xValue(place, 0), rel=1e-6)
        assert flat.xValue(0, place / 3) == pytest.approx(3 * disc.xValue(0, place), rel=1e-6)


def test_a_neighbour_lies_apart_and_is_not_much_brighter() -> None:
    rng, stars = np.random.default_rng(10), replace(DEEP, galaxies=0.0)
    source = _draw_source(stars, rng, 0.0, 0.0)._replace(magnitude=np.full(4, 21.0))
    drawn = [_draw_neighbour(stars, source, rng) for _ in range(400)]
    apart = np.array([np.hypot(one.x, one.y) for one in drawn])
    brightness = np.array([one.magnitude[2] for one in drawn])
    assert 6.5 < apart.min() < 7
    assert 12 < max(max(abs(one.x), abs(one.y)) for one in drawn) <= 13
    assert 20.5 < brightness.min() < 20.6
    assert brightness.max() > 24


def test_a_saturation_of_0_mag_is_none():
    one, other = (draw_field(replace(ZTF, saturation=limit), 1, 0, 1).cutouts for limit in (0.0, -99.0))
    np.testing.assert_array_equal(one, other)


def test_of_a_star_no_shape_is_said(field):
    kinds = {"star": [], "galaxy": []}
    for row in field.rows:
        kinds[row["label"]].append(
            [row[name] for name in ("halfLightRadius", "ellipticity", "knots", "bulge", "sersic")]
        )
    stars, galaxies = (np.array(rows) for rows in kinds.values())
    assert (stars[:, :3] == 0).all()
    assert np.isnan(stars[:, 3:]).all()
    assert (galaxies[:, 0] > 0).all()
    assert (np.isfinite(galaxies[:, 3]) != np.isfinite(galaxies[:, 4])).all()  # a bulge and disc, or one profile
