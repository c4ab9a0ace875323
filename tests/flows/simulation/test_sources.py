from dataclasses import replace

import numpy as np
import pytest

from flows.simulation.canvas import blank_canvas
from flows.simulation.conditions import conditions_of
from flows.simulation.presets import find_preset
from flows.simulation.sources import add_asteroids, add_variables
from flows.simulation.stars import stars_on
from flows.simulation.truth import truth_table
from kernels.matched_filter import filtered_noise

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
