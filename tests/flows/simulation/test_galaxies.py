from dataclasses import replace

import numpy as np
import pytest

from flows.simulation.conditions import conditions_of
from flows.simulation.galaxies import draw_galaxies, galaxies_on
from flows.simulation.presets import find_preset
from flows.simulation.star_colours import RUBIN_BANDS, galaxy_colours, star_colours

PRESET = replace(find_preset("ztf", 0, (300, 320), ("g", "r", "i", "z")), galaxies=(2000.0, 2000.0))


def conditions(visit):
    return conditions_of(PRESET, 5, visit, 0)


def test_the_same_galaxies_are_on_every_visit_in_every_band():
    first, second = conditions(0), conditions(1)
    assert (first.band, second.band, first.field) == ("g", "r", second.field)
    one, two = galaxies_on(first, first), galaxies_on(second, first)
    np.testing.assert_array_equal(one.ra, two.ra)
    np.testing.assert_array_equal(one.half_light, two.half_light)
    np.testing.assert_allclose(one.x, two.x, atol=15)  # the telescope points a little elsewhere
    assert not np.array_equal(one.x, two.x)


def test_light_is_where_the_galaxies_are_and_as_much_as_they_have():
    here = conditions(1)
    galaxies = galaxies_on(here, here)
    inside = (galaxies.x > 40) & (galaxies.x < 280) & (galaxies.y > 40) & (galaxies.y < 260)
    n = int(np.flatnonzero(inside)[0])
    names = ("ra", "dec", "x", "y", "half_light", "axis_ratio", "angle", "sersic")
    one = replace(
        galaxies,
        **{name: getattr(galaxies, name)[[n]] for name in names},
        magnitudes={band: values[[n]] for band, values in galaxies.magnitudes.items()},
    )
    image = draw_galaxies(here, one)
    y, x = np.indices(image.shape)
    assert (image * x).sum() / image.sum() == pytest.approx(one.x[0], abs=0.1)
    assert (image * y).sum() / image.sum() == pytest.approx(one.y[0], abs=0.1)
    assert image.sum() == pytest.approx(here.flux_of(float(one.magnitudes["r"][0])), rel=0.05)


def test_the_major_axis_points_where_it_says_on_the_sky():
    here = conditions(0)
    x, y = np.array([160.0]), np.array([150.0])
    ra, dec = here.to_sky(x, y)
    magnitudes = {band: np.array([16.0]) for band in "ugrizy"}
    shape = {"half_light": 6.0, "axis_ratio": 0.3, "angle": 35.0, "sersic": 1.0}
    galaxies = replace(
        galaxies_on(here, here), ra=ra, dec=dec, x=x, y=y, magnitudes=magnitudes,
        **{name: np.array([value]) for name, value in shape.items()},
    )  # fmt: skip
    image = draw_galaxies(here, galaxies)
    rows, columns = np.indices(image.shape)
    dy, dx = rows - 150, columns - 160
    theta = 0.5 * np.arctan2(2 * (image * dx * dy).sum(), (image * (dx**2 - dy**2)).sum())
    tip = here.to_sky(160 + 8 * np.cos(theta), 150 + 8 * np.sin(theta))
    east, north = (tip[0][0] - ra[0]) * np.cos(np.radians(dec[0])), tip[1][0] - dec[0]
    assert np.degrees(np.arctan2(east, north)) % 180 == pytest.approx(35, abs=3)


def test_stars_lie_along_the_locus():
    found = star_colours(20_000, np.random.default_rng(1))
    assert set(found) == set(RUBIN_BANDS)
    assert not found["r"].any()
    gr, ri = found["g"], -found["i"]
    blue = gr < 1.2
    slope, offset = np.polyfit(gr[blue], ri[blue], 1)
    assert (slope, offset) == pytest.approx((0.42, -0.06), abs=0.02)
    assert gr[ri > 0.8].mean() == pytest.approx(1.42, abs=0.02)  # M dwarfs differ in r - i, not in g - r


def test_early_galaxies_are_redder():
    early = np.arange(4000) % 2 == 0
    found = galaxy_colours(early, np.random.default_rng(1))
    for blue, red in (("u", "g"), ("g", "r"), ("r", "i"), ("i", "z")):
        colour = found[blue] - found[red]
        assert colour[early].mean() > colour[~early].mean() + 0.1
