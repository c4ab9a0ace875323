from dataclasses import replace

import numpy as np
import pytest

from flows.simulation.artefacts import add_background, add_ghosts, add_satellites
from flows.simulation.canvas import Canvas, blank_canvas, truth_table
from flows.simulation.conditions import Conditions, conditions_of
from flows.simulation.presets import find_preset

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
