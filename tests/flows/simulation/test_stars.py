from dataclasses import replace

import numpy as np
import pytest

from flows.simulation.canvas import blank_canvas
from flows.simulation.conditions import conditions_of
from flows.simulation.presets import find_preset
from flows.simulation.stars import Mismatch, Stars, add_residuals, mismatch_of, stars_on
from tests.support.summary import summary

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


TALL = find_preset("rubin", shape=(170, 120))


def test_a_seed_stands_for_its_stars() -> None:
    found = []
    for preset in (find_preset("ztf", shape=(150, 220)), TALL, find_preset("ztf", 0, (150, 220), ("r", "i"))):
        stars = stars_on(conditions_of(preset, 3, 1, 2), conditions_of(preset, 3, 0, 2))
        found += [summary(part) for part in (stars.x, stars.y, stars.magnitude, stars.flux)]
    np.testing.assert_allclose(
        found,
        [
            [86, 10229.2166, -294.974701, 1840497.19, 439864.054],
            [86, 6397.9284, -717.370087, 861725.861, 339095.22],
            [86, 1577.9298, 0, 29121.0674, 68148.7563],
            [86, 472710.516, 0, 6.26146153e10, 31361220.7],
            [7, 447.441024, -30.5522577, 56748.2727, 1298.08814],
            [7, 732.941796, -26.1378856, 117053.638, 2957.91384],
            [7, 165.063047, 0, 3899.40059, 660.045858],
            [7, 14897.657, 0, 62264962.7, 56963.5176],
            [86, 10229.2166, -294.974701, 1840497.19, 439864.054],
            [86, 6397.9284, -717.370087, 861725.861, 339095.22],
            [86, 1518.87095, 0, 27043.7494, 65786.3935],
            [86, 887603.685, 0, 1.09436641e11, 53059210.8],
        ],
        rtol=1e-6,
    )


def test_a_seed_stands_for_its_mismatch_of_science_image_and_template() -> None:
    x, y = (part.ravel() for part in np.meshgrid(np.arange(0.0, 120, 30), np.arange(0.0, 170, 40)))
    differs = mismatch_of(Stars(x, y, x, y), TALL, np.random.default_rng(3))
    found = [summary(part) for part in (differs.dx, differs.dy, differs.width, differs.flux, differs.ringing)]
    np.testing.assert_allclose(
        found,
        [
            [20, 3.10497872, -0.0633407273, 0.613777535, 34.3116724],
            [20, 0.0805909248, -0.749719896, 0.0689345646, 7.73018975],
            [20, 0.310918716, -0.0202248925, 0.00777744693, 3.45319139],
            [20, 0.167023454, -0.202018506, 0.00861745847, 3.79085447],
            [20, 0.116990681, -0.0601072785, 0.00262676821, 1.97036439],
        ],
        rtol=1e-6,
    )


def test_stars_of_every_brightness_leave_the_residuals_of_their_mismatch() -> None:
    """Under PSFs of two surveys; some lie at the edges of the image, and the brightest have the largest stamps."""
    found = []
    x, y = np.array([60.2, 118.7, 0.4, 30.5, 90.1, 10.6, 100.4]), np.array([80.4, 3.2, 100.8, 169.0, 140.5, 20.1, 60.6])
    for preset, brightest in ((TALL, 1e6), (find_preset("ztf", shape=(170, 120)), 3e5)):
        conditions = conditions_of(preset, 1, 1, 2)
        for order in (slice(None), slice(None, None, -1)):
            stars = Stars(x, y, np.zeros(7), (brightest * 0.2 ** np.arange(7.0))[order])
            canvas = blank_canvas(preset.shape)
            add_residuals(canvas, stars, mismatch_of(stars, preset, np.random.default_rng(4)), conditions)
            found += [summary(canvas.signal), summary(canvas.excess)]
    np.testing.assert_allclose(
        found,
        [
            [3333, 3888.17691, -30795.6986, 18352314.1, 2289391.86, 2480535.98],
            [3333, 2796019.06, 0, 2.08710828e11, 218392276, 177257785],
            [3333, 38940.4825, -33465.5762, 51493717.8, 4043122.82, 6040980.53],
            [3333, 2792102.75, 0, 1.81541511e11, 165851402, 262815826],
            [1120, 4050.58628, -13240.5703, 13546270.6, 949043.754, 1386360.38],
            [1120, 824777.544, 0, 9.83892551e10, 64579010.5, 52297206],
            [1120, 14899.401, -13066.3922, 29521056.2, 1522812.96, 2151555.06],
            [1120, 846806.169, 0, 9.99053047e10, 50999473.3, 82511724.2],
        ],
        rtol=1e-6,
    )
