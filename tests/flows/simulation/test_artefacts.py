from dataclasses import replace

import numpy as np
import pytest

from flows.simulation import artefacts
from flows.simulation.artefacts import Line, _near, add_background, add_ghosts, add_satellites, add_tumblers
from flows.simulation.canvas import Canvas, blank_canvas, truth_table
from flows.simulation.conditions import Conditions, conditions_of
from flows.simulation.presets import find_preset
from tests.support.summary import numbers, summary

PRESET = replace(find_preset("ztf", shape=(900, 1000)), satellites=1.5, ghosts=(1, 4))


def with_satellite(seed: int) -> tuple[Canvas, Conditions]:
    conditions = conditions_of(PRESET, seed, 0, 0)
    canvas = blank_canvas(PRESET.shape)
    add_satellites(canvas, conditions)
    return canvas, conditions


def test_light_lies_on_the_line_that_the_truth_tells_of() -> None:
    seen = 0
    for seed in range(12):
        canvas, conditions = with_satellite(seed)
        rows = truth_table(canvas).to_pylist()
        assert len(rows) <= 4
        if len(rows) != 1:
            continue
        seen += 1
        (row,) = rows
        y, x = np.nonzero(canvas.signal > 0.3 * canvas.signal.max())
        angle = np.deg2rad(row["angle_deg"])
        across = (y - row["y"]) * np.cos(angle) - (x - row["x"]) * np.sin(angle)
        along = (x - row["x"]) * np.cos(angle) + (y - row["y"]) * np.sin(angle)
        assert np.abs(across).max() < 3 * conditions.psf.fwhm
        assert np.abs(along).max() < row["length_px"] / 2 + 5
        assert row["flux"] == pytest.approx(canvas.signal.sum(dtype=float), rel=1e-3)
        assert row["kind"] == "satellite"
    assert seen >= 3


def test_most_cross_the_image_and_some_do_not() -> None:
    lengths = [row["length_px"] for seed in range(16) for row in truth_table(with_satellite(seed)[0]).to_pylist()]
    assert max(lengths) > 900
    assert any(length < 850 for length in lengths)


def test_ghosts_are_large_faint_and_smooth() -> None:
    conditions = conditions_of(PRESET, 1, 0, 0)
    drawn = 0
    for seed in range(6):
        conditions = conditions_of(replace(PRESET, ghosts=(40, 41)), seed, 0, 0)
        canvas = blank_canvas(PRESET.shape)
        add_ghosts(canvas, conditions)
        drawn += np.count_nonzero(np.abs(canvas.signal) > 0.2 * conditions.noise.sigma)
        assert np.abs(np.diff(canvas.signal, axis=0)).max() < 2.5 * conditions.noise.sigma
    assert drawn > 1000


def test_background_is_a_slow_wave_well_below_the_noise() -> None:
    conditions = conditions_of(PRESET, 1, 0, 0)
    canvas = blank_canvas(PRESET.shape)
    add_background(canvas, conditions)
    assert 0 < np.abs(canvas.signal).max() < conditions.noise.sigma
    assert np.abs(np.diff(canvas.signal, axis=1)).max() < 0.01 * conditions.noise.sigma


NARROW = replace(find_preset("ztf", shape=(150, 220)), satellites=1.5, ghosts=(6, 12))
TALL = replace(find_preset("rubin", shape=(230, 160)), satellites=1.5, ghosts=(6, 12))


def test_a_seed_stands_for_its_satellites() -> None:
    """Short and long, steep and flat, steady, blinking and glinting; two images have an aeroplane as well."""
    found = []
    many = replace(NARROW, satellites=9.0)
    seeds = {NARROW: (7, 17, 32), TALL: (10, 22, 35), many: (1,)}
    for preset, seed in ((preset, seed) for preset, some in seeds.items() for seed in some):
        canvas = blank_canvas(preset.shape)
        add_satellites(canvas, conditions_of(preset, seed, 0, 0))
        found += [summary(layer) for layer in (canvas.signal, canvas.excess, canvas.mask)]
        found.append(numbers(truth_table(canvas).to_pylist()))
    np.testing.assert_allclose(
        found,
        [
            [704, 6380.97446, 0, 743592.777, 580315.109, 548821.319],
            [704, 1029.18946, 0, 19344.2462, 93599.2141, 88519.5704],
            [0, 0, 0, 0, 0, 0],
            [8, 6791.97334, 0, 40745604.5, 6791.97334, 33465.2246],
            [16359, 86053.629, 0, 3208526.53, 6586095.88, 5766901.72],
            [16359, 13879.618, 0, 83468.4374, 1062273.56, 930145.467],
            [1033, 528896, 0, 270794752, 35281920, 31607808],
            [32, 88869.6636, -44.0740074, 3.14009444e09, 283279.973, 443625.487],
            [12347, 84222.0717, 0, 4506825.41, 3995389.23, 9661171.83],
            [12347, 13584.2055, 0, 117243.124, 644417.638, 1558253.57],
            [1536, 786432, 0, 402653184, 40396800, 87017472],
            [16, 86240.6653, 0, 3.5529824e09, 127589.496, 430513.884],
            [17626, 297475.79, 0, 54034783.2, 18105093.9, 20307477.7],
            [17626, 174985.754, 0, 18697155.7, 10650054.9, 11945574.8],
            [1725, 883200, 0, 452198400, 51000832, 59937280],
            [16, 299149.679, 0, 7.16404816e10, 331624.508, 1495304.15],
            [21962, 1676983.38, 0, 630182756, 133268930, 145106440],
            [21962, 986460.782, 0, 218056305, 78393486.1, 85356727.2],
            [3362, 1721344, 0, 881328128, 118661632, 146793472],
            [24, 1680005.89, 0, 1.46023463e12, 4374647.71, 8399708.58],
            [3487, 23451.0183, 0, 1791858.82, 3211457.53, 3630327.55],
            [3487, 13794.7163, 0, 620020.319, 1889092.61, 2135486.73],
            [0, 0, 0, 0, 0, 0],
            [8, 24046.1904, 0, 550017114, 24046.1904, 119527.838],
            [10760, 28299.724, 0, 424702.088, 2140962.1, 2488924.28],
            [10760, 4564.47176, 0, 11048.4421, 345316.478, 401439.412],
            [0, 0, 0, 0, 0, 0],
            [16, 29942.5554, 0, 426013356, 48396.719, 148127.98],
        ],
        rtol=1e-6,
    )


def test_a_seed_stands_for_its_ghosts() -> None:
    found = []
    for preset in (NARROW, TALL, replace(PRESET, ghosts=(3, 5))):
        for seed in (1, 2):
            canvas = blank_canvas(preset.shape)
            add_ghosts(canvas, conditions_of(preset, seed, 1, 2))
            found.append(summary(canvas.signal))
    np.testing.assert_allclose(
        found,
        [
            [14572, 12500.9005, -36884.6824, 521481.826, 4438983.5, 4331819.45],
            [11185, 15088.755, -14451.3779, 168864.779, 1697213.3, 3728165.37],
            [12474, 49707.672, -161933.055, 6151771.94, 37352311.9, 11464071.8],
            [16025, 38834.3506, -33324.3059, 771419.613, 8810455.32, 3940210.84],
            [192556, 0, -197481.004, 569349.482, 29587262.7, 130491657],
            [114023, 10799.8195, -172572.413, 666045.761, 122811240, 113842935],
        ],
        rtol=1e-6,
    )


def test_a_seed_stands_for_its_background() -> None:
    found = []
    for preset in (NARROW, TALL):
        canvas = blank_canvas(preset.shape)
        add_background(canvas, conditions_of(preset, 1, 1, 2))
        found.append(summary(canvas.signal))
    np.testing.assert_allclose(
        found,
        [
            [33000, 1830.50392, -16365.9031, 12337.1016, 1312838.84, 2116893.43],
            [36800, 0, -37854.9263, 47063.1938, 4363054.58, 3637533.12],
        ],
        rtol=1e-6,
    )


@pytest.mark.parametrize(("x", "y"), [(50.0, 20.0), (3.0, 2.0), (77.0, 38.0), (-12.0, 20.0), (50.0, -4.0)])
def test_pixels_near_a_line_are_those_nearer_to_its_ends_and_within_reach_across(x: float, y: float) -> None:
    for angle, shape in ((0.0, (40, 80)), (90.0, (80, 40))):
        middle = (x, y) if angle == 0 else (y, x)
        rows, columns, along, across = _near(shape, Line(*middle, 20.0, angle, 1.0, 1.0), 5.0)
        found = np.zeros(shape, bool)
        found[rows, columns] = True
        row, column = np.indices(shape)
        right, down = column - middle[0], row - middle[1]
        far, aside = (right, down) if angle == 0 else (down, right)
        assert np.array_equal(found, (np.abs(far) < 15) & (np.abs(aside) <= 5))
        assert along == pytest.approx(far[rows, columns], abs=1e-12)
        assert np.abs(across) == pytest.approx(np.abs(aside[rows, columns]), abs=1e-12)


def test_tumblers_flash_and_some_end_at_the_border() -> None:
    preset = replace(find_preset("ztf", shape=(400, 420), subtract="zogy"), satellites=3.0)
    lengths, ends = [], 0
    for seed in range(12):
        canvas = blank_canvas(preset.shape)
        add_tumblers(canvas, conditions_of(preset, seed, 0, 0))
        for row, footprint in canvas.truth:
            assert row["kind"] == "satellite"
            assert footprint.light.min() >= 0
            lengths.append(row["length_px"])
            ends += min(footprint.rows.min(), footprint.columns.min()) == 0
    assert len(lengths) > 8
    assert min(lengths) < 250 < max(lengths)
    assert ends > 3
    quiet = blank_canvas(preset.shape)
    add_tumblers(quiet, conditions_of(replace(preset, satellites=0.0), 1, 0, 0))
    assert not quiet.truth


def test_every_other_tumbler_has_its_middle_on_the_border_and_none_beyond(monkeypatch) -> None:
    lines = []
    monkeypatch.setattr(artefacts, "_add_line", lambda canvas, conditions, line, style, rng: lines.append(line))
    preset = replace(find_preset("ztf", shape=(400, 420), subtract="zogy"), satellites=3.0)
    for seed in range(60):
        add_tumblers(blank_canvas(preset.shape), conditions_of(preset, seed, 0, 0))
    assert all(0 <= one.x <= 420 and 0 <= one.y <= 400 for one in lines)
    sides = [(one.x == 0, one.x == 419, one.y == 0, one.y == 399) for one in lines]
    assert 0.35 < np.mean([any(one) for one in sides]) < 0.65
    assert np.all(np.sum(sides, axis=0) > 2)
