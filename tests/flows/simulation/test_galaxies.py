from dataclasses import replace

import numpy as np
import pytest

from flows.simulation.conditions import conditions_of
from flows.simulation.galaxies import _stamp, draw_galaxies, galaxies_on, turn_of
from flows.simulation.presets import find_preset
from flows.simulation.star_colours import RUBIN_BANDS, galaxy_colours, star_colours
from tests.support.summary import summary

PRESET = replace(find_preset("ztf", 0, (300, 320), ("g", "r", "i")), galaxies=(2000.0, 2000.0))


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


RUBIN = replace(find_preset("rubin", 0, (200, 260), ("g", "y")), galaxies=(10_000.0, 20_000.0))


def test_a_seed_stands_for_its_galaxies() -> None:
    found, images = [], []
    for preset in (replace(PRESET, shape=(260, 200), galaxies=(3000.0, 8000.0)), RUBIN):
        here = conditions_of(preset, 5, 1, 3)
        one = galaxies_on(here, here.first)
        parts = (one.ra, one.dec, one.x, one.y, one.half_light, one.axis_ratio, one.angle, one.sersic)
        found += [summary(part) for part in (*parts, one.magnitudes["g"], one.magnitudes["y"])]
        images.append(summary(draw_galaxies(here, one)))
    np.testing.assert_allclose(
        found,
        [
            [25, 8553.10606, 0, 2926224.95, 111190.449],
            [25, 1098.95831, 0, 48308.3839, 14287.0169],
            [25, 2335.50235, 0, 332546.719, 30163.4605],
            [25, 3026.58771, 0, 481761.858, 37359.0054],
            [25, 58.1405093, 0, 156.472436, 765.381316],
            [25, 14.68036, 0, 9.45206706, 190.352311],
            [25, 2332.37482, 0, 285114.298, 32183.3099],
            [25, 55, 0, 175, 760],
            [25, 490.432019, 0, 9640.1289, 6393.05791],
            [25, 457.206123, 0, 8375.78749, 5944.82319],
            [31, 6393.8485, 0, 1318751.57, 102301.518],
            [31, 703.36556, 0, 15958.8103, 11253.6247],
            [31, 4542.35883, 0, 829279.581, 73638.8473],
            [31, 2738.14916, -7.31666639, 334513.087, 40109.915],
            [31, 29.4478409, 0, 34.8785144, 471.995979],
            [31, 16.5265102, 0, 9.79291584, 253.609886],
            [31, 3029.03944, 0, 381358.87, 44008.8708],
            [31, 52, 0, 136, 817],
            [31, 764.192748, 0, 18856.3765, 12221.4559],
            [31, 728.389971, 0, 17134.4431, 11645.1911],
        ],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        images,
        [
            [28395, 24131.3125, -0.010281692, 648948.851, 3140128.76, 2208589.14],
            [49063, 56937.8389, -0.00517005581, 1737809.04, 4385701.86, 7970225.62],
        ],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("x", "y", "there"),
    [
        (-31.9, 50.0, True), (-32.0, 50.0, False), (60.0, -31.9, True), (60.0, -32.0, False), (351.9, 50.0, True),
        (352.0, 50.0, False), (60.0, 331.9, True), (60.0, 332.0, False),
    ],
)  # fmt: skip
def test_a_galaxy_is_drawn_if_its_centre_is_less_than_32_px_from_the_image(x: float, y: float, there: bool) -> None:
    here = conditions(0)
    one = galaxies_on(here, here)
    values = {"x": x, "y": y, "half_light": 30.0, "axis_ratio": 0.9, "angle": 0.0, "sersic": 1.0}
    galaxy = replace(
        one, **{name: np.array([value]) for name, value in values.items()},
        magnitudes={band: np.array([10.0]) for band in one.magnitudes},
    )  # fmt: skip
    assert draw_galaxies(here, galaxy).any() == there


def test_position_angles_run_from_the_north_through_the_east_on_both_cameras() -> None:
    """By steps on the sky from the middle of the image."""
    for preset in (PRESET, RUBIN):
        here = conditions_of(preset, 5, 0, 1)
        ny, nx = preset.shape
        (ra,), (dec,) = here.to_sky((nx - 1) / 2, (ny - 1) / 2)
        turns = []
        for east, north in ((0.0, 1.0), (1.0, 0.0)):
            (x,), (y,) = here.to_pixels(ra + east * 0.003 / np.cos(np.radians(dec)), dec + north * 0.003)
            turns.append(np.degrees(np.arctan2(y - (ny - 1) / 2, x - (nx - 1) / 2)))
        angle, sense = turn_of(here)
        assert angle == pytest.approx(turns[0], abs=0.02)
        assert abs(sense) == 1
        assert (turns[1] - turns[0] - 90 * sense + 180) % 360 - 180 == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize(("half_light", "side"), [(0.2, 33), (4.0, None), (30.0, 257)])
def test_the_stamp_of_a_galaxy_is_33_to_257_px_wide(half_light: float, side: int | None) -> None:
    """In between, eight half-light radii and three widths of the PSF to each side."""
    here = conditions(0)
    shape = {"half_light": half_light, "axis_ratio": 0.64, "angle": 0.0, "sersic": 1.0}
    galaxy = replace(galaxies_on(here, here), **{name: np.array([value]) for name, value in shape.items()})
    radius = half_light / PRESET.pixel_scale * 0.8
    expected = side or 2 * int(np.ceil(8 * radius + 3 * here.psf.fwhm)) + 1
    assert _stamp(here, galaxy, 0, 100.0, 100.0, (0.0, 1.0)).shape == (expected, expected)
