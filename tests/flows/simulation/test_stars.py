from dataclasses import replace

import numpy as np
import pytest

from flows.simulation.canvas import blank_canvas
from flows.simulation.conditions import conditions_of
from flows.simulation.presets import find_preset
from flows.simulation.stars import Mismatch, Stars, add_residuals, mismatch_of, stars_on

SMALL = find_preset("ztf", shape=(400, 500))
CONDITIONS = conditions_of(SMALL, 2, 1, 0)


def one(flux: float) -> Stars:
    return Stars(np.array([250.3]), np.array([200.6]), np.array([15.0]), np.array([flux]))


def mismatch(dx: float = 0.0, width: float = 0.0, flux: float = 0.0) -> Mismatch:
    return Mismatch(np.array([dx]), np.zeros(1), np.array([width]), np.array([flux]), np.zeros(1))


def residual(star: Stars, differs: Mismatch) -> tuple[np.ndarray, np.ndarray]:
    canvas = blank_canvas(SMALL.shape)
    add_residuals(canvas, star, differs, CONDITIONS)
    return canvas.signal, canvas.excess


def test_a_shifted_template_leaves_a_dipole_along_the_shift() -> None:
    signal, _ = residual(one(20_000.0), mismatch(dx=0.2))
    peak, trough = (np.unravel_index(pick(signal), signal.shape) for pick in (np.argmax, np.argmin))
    assert peak[1] < trough[1]  # the template lies further right, and is subtracted
    assert abs(peak[0] - trough[0]) <= 1
    assert signal.max() == pytest.approx(-signal.min(), rel=0.35)
    _, columns = np.indices(signal.shape)
    # First moment of f(x) - f(x - d) is -d times the flux.
    assert (signal * (columns - 250.3)).sum() == pytest.approx(-0.2 * 20_000, rel=0.2)


def test_a_wider_template_leaves_a_ring() -> None:
    signal, _ = residual(one(20_000.0), mismatch(width=0.05))
    assert signal[201, 250] > 0 > signal.min()
    assert signal.sum() == pytest.approx(0, abs=0.01 * 20_000)


def test_residual_grows_with_the_flux_and_so_does_the_noise() -> None:
    (faint, quiet), (bright, loud) = (residual(one(flux), mismatch(dx=0.1)) for flux in (5_000.0, 50_000.0))
    assert bright.max() == pytest.approx(10 * faint.max(), rel=0.01)
    # Photons at least: flux / gain in all.
    assert quiet.sum() > 5_000 / SMALL.gain
    assert loud.sum() > 10 * quiet.sum()


def test_stars_stay_where_they_are_on_the_sky() -> None:
    first, third = conditions_of(SMALL, 2, 0, 0), conditions_of(SMALL, 2, 2, 0)
    ours, theirs = stars_on(first, first), stars_on(third, first)
    assert np.array_equal(ours.magnitude, theirs.magnitude)
    ours_sky, theirs_sky = first.to_sky(ours.x, ours.y), third.to_sky(theirs.x, theirs.y)
    assert np.abs(np.array(ours_sky) - np.array(theirs_sky)).max() * 3600 < 0.01
    assert np.hypot(ours.x - theirs.x, ours.y - theirs.y).max() > 0.1  # the telescope does not point the same way


def test_counts_rise_with_magnitude_as_they_should() -> None:
    preset = find_preset("ztf")
    stars = stars_on(conditions_of(preset, 2, 0, 0), conditions_of(preset, 2, 0, 0))
    low, high = preset.star_magnitudes
    assert 4000 < len(stars.x) < 9600
    assert low <= stars.magnitude.min() < stars.magnitude.max() <= high
    assert np.mean(stars.magnitude < high - 4) == pytest.approx(0.1, abs=0.02)  # 10^(-0.25 * 4)


def test_some_are_chosen() -> None:
    stars = Stars(*(np.arange(4.0) + 10 * part for part in range(4)))
    chosen = stars.where(np.array([True, False, False, True]))
    assert np.array_equal(chosen.flux, [30, 33])
    assert np.array_equal(chosen.x, [0, 3])


def test_mismatch_is_smooth_over_the_field_with_a_scatter() -> None:
    preset = replace(SMALL)
    x = np.linspace(0, 499, 4000)
    stars = Stars(x, np.full(4000, 200.0), np.full(4000, 17.0), np.full(4000, 1000.0))
    differs = mismatch_of(stars, preset, np.random.default_rng(3))
    slope, offset = np.polyfit(x, differs.dx, 1)
    scatter = differs.dx - np.polyval((slope, offset), x)
    assert scatter.std() == pytest.approx(0.05, rel=0.1)
    assert abs(slope * 499) > 3 * 0.05 / np.sqrt(4000)
