from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.simulation.asteroids import (
    Asteroid,
    Trail,
    _inside,
    _moving,
    add_asteroids,
    add_variables,
    exposed_trail,
    trails_on,
    unit_snr,
)
from flows.simulation.canvas import blank_canvas, truth_table
from flows.simulation.conditions import conditions_of
from flows.simulation.presets import find_preset
from flows.simulation.stars import Stars, stars_on
from kernels.image.noise import filtered_noise
from tests.support.summary import layers, numbers

ZTF = find_preset("ztf")


@settings(deadline=None)
@given(st.floats(0, 359), st.floats(-70, 70), st.floats(1, 8000), st.floats(0, 359), st.floats(-1, 1))
def test_motion_is_along_a_great_circle(ra: float, dec: float, rate: float, angle: float, hours: float) -> None:
    asteroid = Asteroid("a", ra, dec, 58000.0, rate, angle, 18.0)
    mjd = 58000.0 + hours / 24
    expected = SkyCoord(ra * u.deg, dec * u.deg).directional_offset_by(
        angle * u.deg, rate * (mjd - 58000.0) * 24 * u.arcsec
    )
    found = SkyCoord(*asteroid.at(mjd), unit="deg")
    assert found.separation(expected).arcsec < 1e-5


@pytest.mark.parametrize("name", ["ztf", "llnl", "rubin"])
def test_every_image_has_as_many_trails_of_the_lengths_asked_for(name: str) -> None:
    preset = find_preset(name)
    low, high = preset.lengths
    for index in range(3):
        trails = trails_on(conditions_of(preset, 4, index, 1))
        lengths = np.array([trail.length for trail in trails])
        assert len(trails) == len({trail.asteroid.name for trail in trails}) == preset.streaks
        assert np.all((lengths > low * 0.995) & (lengths < high * 1.005))
        ny, nx = preset.shape
        assert all(-0.5 <= trail.x < nx and -0.5 <= trail.y < ny for trail in trails)
        if preset.whole_lengths:
            assert lengths == pytest.approx(np.rint(lengths), abs=0.01)


def test_signal_to_noise_is_log_uniform_over_the_range() -> None:
    snr = []
    for detector in range(5):
        conditions = conditions_of(ZTF, 5, 0, detector)
        for trail in trails_on(conditions):
            template = conditions.psf.trail(trail.x, trail.y, trail.length, trail.angle)
            snr.append(conditions.flux_of(trail.asteroid.magnitude) * unit_snr(conditions, template, trail.x, trail.y))
    assert min(snr) > 3 * 0.99
    assert max(snr) < 50 * 1.01
    assert np.median(np.log(snr)) == pytest.approx(np.log(np.sqrt(150)), abs=0.3)


def test_objects_move_linearly_from_visit_to_visit() -> None:
    visits = [conditions_of(ZTF, 6, index, 3) for index in range(3)]
    seen: dict[str, list[tuple[float, float, float, float]]] = {}
    for visit in visits:
        for trail in trails_on(visit):
            ra, dec = (float(part[0]) for part in visit.to_sky(trail.x, trail.y))
            seen.setdefault(trail.asteroid.name, []).append((visit.midpoint_mjd_utc, ra, dec, trail.length))
    thrice = [rows for rows in seen.values() if len(rows) == 3]
    assert len(thrice) >= 5
    for rows in thrice:
        mjd, ra, dec, length = np.array(rows).T
        sky = SkyCoord(ra, dec, unit="deg")
        hours = np.diff(mjd) * 24
        rates = sky[:-1].separation(sky[1:]).arcsec / hours
        # The trail on each image is as long as the motion between images says.
        assert rates[0] == pytest.approx(rates[1], rel=1e-3)
        assert length * ZTF.pixel_scale == pytest.approx(rates.mean() * ZTF.exposure_time / 3600, rel=5e-3)
        first = sky[0].directional_offset_by(sky[0].position_angle(sky[1]), rates[0] * hours.sum() * u.arcsec)
        assert first.separation(sky[2]).arcsec < 1.0


def test_nothing_appears_out_of_nowhere() -> None:
    preset = find_preset("ztf", shape=(300, 900))
    visits = [conditions_of(preset, 8, index, 3) for index in range(3)]
    names = [{trail.asteroid.name for trail in trails_on(visit)} for visit in visits]
    ny, nx = preset.shape
    for number in (1, 2):
        for trail in trails_on(visits[number]):
            for before in range(number):
                earlier = exposed_trail(trail.asteroid, visits[before])
                there = -0.5 <= earlier.x < nx - 0.5 and -0.5 <= earlier.y < ny - 0.5
                assert there == (trail.asteroid.name in names[before])


def test_no_streaks_no_asteroids() -> None:
    assert trails_on(conditions_of(replace(ZTF, streaks=0), 1, 2, 0)) == []


ALONE = replace(find_preset("ztf", shape=(400, 420)), streaks=1, snr=None, magnitudes=(13.0, 13.0))


@pytest.mark.parametrize("seed", range(8))
def test_truth_agrees_with_the_light_of_a_lone_trail(seed: int) -> None:
    conditions = conditions_of(ALONE, seed, 0, 0)
    canvas = blank_canvas(ALONE.shape)
    add_asteroids(canvas, conditions)
    (row,) = truth_table(canvas).to_pylist()
    if row["visible"] < 0.999:  # at the border: part of the light is lost
        assert canvas.signal.sum() < row["flux"]
        return
    light = canvas.signal.astype(float)
    y, x = np.indices(light.shape)
    total = light.sum()
    centre_x, centre_y = (light * x).sum() / total, (light * y).sum() / total
    assert (centre_x, centre_y) == pytest.approx((row["x"], row["y"]), abs=0.05)
    assert total == pytest.approx(row["flux"], rel=0.03)
    assert row["magnitude"] == pytest.approx(13.0)
    core = light * (light > 0.25 * light.max())  # the wings of a Moffat have no useful second moment
    u, v = x - centre_x, y - centre_y
    xx, yy, xy = ((core * part).sum() / core.sum() for part in (u * u, v * v, u * v))
    if row["length_px"] > 8:
        angle = np.rad2deg(np.arctan2(2 * xy, xx - yy)) / 2 % 180
        apart = abs(angle - row["angle_deg"]) % 180
        assert min(apart, 180 - apart) < 1.5
        largest = np.linalg.eigvalsh([[xx, xy], [xy, yy]])[-1]
        assert np.sqrt(12 * largest) == pytest.approx(row["length_px"], rel=0.15, abs=1.5)
    sky = conditions.to_sky(row["x"], row["y"])
    assert (row["ra"], row["dec"]) == pytest.approx((sky[0][0], sky[1][0]))
    assert row["box_xmin"] <= row["x"] <= row["box_xmax"]
    assert row["box_ymin"] <= row["y"] <= row["box_ymax"]


def test_snr_is_that_of_the_true_template_in_the_noise_as_it_is() -> None:
    """Monte Carlo: draw the noise many times, filter it with the template, compare."""
    preset = replace(find_preset("ztf", shape=(160, 160)), streaks=25, lengths=(1, 30))
    conditions = conditions_of(preset, 12, 0, 0)
    canvas = blank_canvas(preset.shape)
    add_asteroids(canvas, conditions)
    rows = [row for row in truth_table(canvas).to_pylist() if 50 < row["x"] < 110 and 50 < row["y"] < 110]
    assert rows
    rng, blank = np.random.default_rng(4), np.zeros(preset.shape, np.float32)
    noise = np.stack([conditions.noise.draw(blank, rng) for _ in range(700)])
    for row in rows:
        stamp = conditions.psf.trail(row["x"], row["y"], row["length_px"], row["angle_deg"])
        height, width = stamp.pixels.shape
        cut = noise[:, stamp.y0 : stamp.y0 + height, stamp.x0 : stamp.x0 + width]
        filtered = np.tensordot(cut, stamp.pixels, axes=2).std()
        assert row["snr"] == pytest.approx(row["flux"] * np.sum(stamp.pixels**2) / filtered, rel=0.1)
        white = row["flux"] * np.sqrt(np.sum(stamp.pixels**2)) / conditions.noise.sigma_at(row["x"], row["y"])
        assert row["snr"] < white
        assert filtered == pytest.approx(
            filtered_noise(stamp.pixels, conditions.noise.sigma_at(row["x"], row["y"]), conditions.noise.correlation),
            rel=0.1,
        )


def test_variables_are_stars_of_both_signs_and_keep_their_names() -> None:
    preset = find_preset("ztf")
    names = []
    for index in (0, 1):
        conditions = conditions_of(preset, 3, index, 2)
        stars = stars_on(conditions, conditions.first)
        canvas = blank_canvas(preset.shape)
        add_variables(canvas, conditions, stars)
        rows = truth_table(canvas).to_pylist()
        names.append({row["objectName"] for row in rows})
        flux = np.array([row["flux"] for row in rows])
        assert (flux > 0).any()
        assert (flux < 0).any()
        assert all((row["magnitude"] is None) == (row["flux"] < 0) for row in rows)
        assert all(row["kind"] == "point" and row["length_px"] == 0 for row in rows)
        for row in rows:
            assert np.hypot(stars.x - row["x"], stars.y - row["y"]).min() < 1e-6
    assert len(names[0] & names[1]) > 0.8 * len(names[0])


WIDE = replace(find_preset("ztf", shape=(120, 260)), variables=(1e9, 1e9))


@pytest.mark.parametrize(
    ("x", "y", "there"),
    [
        (0.0, 0.0, True), (-0.01, 60.0, False), (130.0, -0.01, False), (259.0, 119.0, True), (259.01, 60.0, False),
        (130.0, 119.01, False), (200.0, 60.0, True), (60.0, 200.0, False), (-1.0, -1.0, False), (300.0, 300.0, False),
    ],
)  # fmt: skip
def test_a_variable_is_drawn_if_its_centre_is_between_the_outermost_pixel_centres(x: float, y: float, there: bool):
    conditions, canvas = conditions_of(WIDE, 3, 0, 2), blank_canvas(WIDE.shape)
    add_variables(canvas, conditions, Stars(np.array([x]), np.array([y]), np.array([17.0]), np.array([1e3])))
    rows = truth_table(canvas).to_pylist()
    assert [(row["x"], row["y"]) for row in rows] == [(x, y)] * there
    assert canvas.signal.any() == there


def test_the_light_of_a_variable_is_its_flux_and_the_noise_that_of_its_photons() -> None:
    conditions, canvas = conditions_of(WIDE, 3, 0, 2), blank_canvas(WIDE.shape)
    add_variables(canvas, conditions, Stars(np.array([130.0]), np.array([60.0]), np.array([17.0]), np.array([1e3])))
    (row,) = truth_table(canvas).to_pylist()
    assert canvas.signal.sum() == pytest.approx(row["flux"], rel=0.03)
    np.testing.assert_allclose(canvas.excess, np.abs(canvas.signal) / WIDE.gain, rtol=1e-5)
    assert 4 <= abs(row["snr"]) <= 80
    stamp = conditions.psf.trail(130.0, 60.0, 0.0, 0.0)
    assert row["snr"] == pytest.approx(row["flux"] * unit_snr(conditions, stamp, 130.0, 60.0))


def test_three_of_five_variables_are_brighter_and_their_snr_is_log_uniform() -> None:
    conditions, canvas = conditions_of(WIDE, 3, 0, 2), blank_canvas(WIDE.shape)
    x, y = (part.ravel().astype(float) for part in np.meshgrid(np.arange(10, 250, 12), np.arange(10, 110, 12)))
    add_variables(canvas, conditions, Stars(x, y, np.full(len(x), 17.0), np.full(len(x), 1e3)))
    snr = np.array([row["snr"] for row, _ in canvas.truth])
    assert len(snr) == len(x) == 180
    assert np.mean(snr > 0) == pytest.approx(0.6, abs=0.1)
    assert 4 <= np.abs(snr).min() < 5
    assert 70 < np.abs(snr).max() <= 80
    for sign in (-1, 1):
        assert np.log(sign * snr[sign * snr > 0]).mean() == pytest.approx(np.log(np.sqrt(4 * 80)), abs=0.35)


@pytest.mark.parametrize("angle", [0.0, 50.0, 140.0, 185.0, 230.0, 320.0])
def test_an_object_moves_from_the_beginning_of_its_trail_to_the_end(angle: float) -> None:
    conditions = conditions_of(ZTF, 3, 0, 1)
    found = _moving(conditions, 0, 1000.0, 900.0, 40.0, angle)
    half = 20 * np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
    start, end = (
        SkyCoord(*conditions.to_sky(1000 + way * half[0], 900 + way * half[1]), unit="deg") for way in (-1, 1)
    )
    assert found.position_angle == pytest.approx(start.position_angle(end).deg, abs=1e-6)
    assert found.rate == pytest.approx(start.separation(end).arcsec / (ZTF.exposure_time / 3600), rel=1e-9)
    assert found.ra == pytest.approx(start.ra.deg, abs=1e-12)
    assert found.dec == pytest.approx(start.dec.deg, abs=1e-12)


def test_a_seed_stands_for_its_asteroids() -> None:
    """Of every preset, on the first and the last visit of a field."""
    found = []
    for name in ("ztf", "llnl", "rubin"):
        preset = find_preset(name, 3, (150, 220))
        for visit in (0, 2):
            canvas = blank_canvas(preset.shape)
            conditions = conditions_of(preset, 3, visit, 1)
            add_asteroids(canvas, conditions)
            found += [*layers(canvas)[:2], numbers(truth_table(canvas).to_pylist())]
    np.testing.assert_allclose(
        found,
        [
            [2724, 3228.34859, -0.000153257977, 77590.5427, 382277.308, 312144.576],
            [2724, 520.701428, 0, 2018.48459, 61657.6323, 50345.9008],
            [24, 5349.33935, 0, 5811714.02, 11991.8218, 24208.9377],
            [2671, 2343.75844, 0, 53671.2976, 169976.844, 141941.863],
            [2671, 378.025567, 0, 1396.23571, 27415.6208, 22893.8496],
            [24, 4084.85094, 0, 2228711.87, 8046.34965, 17905.4792],
            [1606, 16773.7143, 0, 5520676.02, 2157406.1, 3100580.04],
            [1606, 2705.43787, 0, 143618.011, 347968.737, 500093.569],
            [24, 19630.6002, -22.105581, 168950130, 30699.8078, 95956.7421],
            [2387, 35731.2758, -0.495996444, 27819202.7, 3098858.48, 2366738.31],
            [2387, 5763.18914, 0, 723704.572, 499815.895, 381731.996],
            [24, 37632.4182, -22.0864008, 669442795, 65238.5072, 186996.707],
            [4907, 11916.019, -0.00182009715, 609605.132, 1282679.27, 730066.263],
            [4907, 7009.4238, 0, 210936.019, 754517.198, 429450.73],
            [24, 13610.382, 0, 77630123.6, 20212.3648, 65208.5386],
            [4847, 24794.7331, 0, 2438852.48, 1025149.95, 3820152.71],
            [4847, 14585.1367, 0, 843893.548, 603029.365, 2247148.59],
            [24, 26527.3151, 0, 318067684, 41299.0299, 129045.928],
        ],
        rtol=1e-5,
    )


def test_a_seed_stands_for_its_variables() -> None:
    found = []
    for preset in (replace(find_preset("ztf", shape=(150, 220)), variables=(2000.0, 6000.0)), WIDE):
        conditions, canvas = conditions_of(preset, 3, 1, 2), blank_canvas(preset.shape)
        x, y = (part.ravel() for part in np.meshgrid(np.arange(-20.5, 240, 13), np.arange(-20.5, 170, 14)))
        add_variables(canvas, conditions, Stars(x, y, x, y))
        found += [*layers(canvas)[:2], numbers(truth_table(canvas).to_pylist())]
    np.testing.assert_allclose(
        found,
        [
            [4128, 1536.9245, -1076.99192, 68781.3394, 253997.746, 447657.147],
            [4128, 421.599437, 0, 1789.31699, 40967.3799, 72202.7682],
            [30, 4523.21316, -1260.94601, 2974219.65, 19542.8567, 21222.8034],
            [30792, 64811.9958, -56140.1721, 5520608.71, 7405158.8, 14952441.2],
            [30792, 19667.371, 0, 143702.289, 1204884.8, 2432362.74],
            [912, 146611.294, -58558.4219, 184008069, 15664400.7, 828612.516],
        ],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("x", "y", "there"),
    [
        (-0.5, 5.0, True), (-0.51, 5.0, False), (5.0, -0.5, True), (5.0, -0.51, False), (418.9, 5.0, True),
        (419.5, 5.0, False), (5.0, 399.4, True), (5.0, 399.5, False), (5.0, 410.0, False), (410.0, 5.0, True),
    ],
)  # fmt: skip
def test_a_trail_is_on_an_image_if_its_middle_is_on_a_pixel(x: float, y: float, there: bool) -> None:
    trail = Trail(Asteroid("a", 0.0, 0.0, 58000.0, 1.0, 0.0, 18.0), x, y, 9.0, 0.0)
    assert _inside(trail, conditions_of(ALONE, 1, 0, 0)) == there
