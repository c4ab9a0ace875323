import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from benchmarks.measurement.pulls import correlated_noise
from kernels.image.noise import Noise
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment, stadium
from kernels.trails.least_squares import (
    _damped_step,
    _equations,
    _inside,
    _pixels,
    _stride,
    fit_covariance,
    jacobian,
    minimise,
    vector,
)
from kernels.trails.trail_model import BLOCK, trail_image

PSF = moffat_mixture(2.3, 3.0)
SEGMENT = Segment(30.4, 28.7, 14.0, 25.0)
TRUTH = vector(900.0, SEGMENT, 3.0)


@pytest.fixture
def trail():
    footprint = stadium((60, 60), SEGMENT, 8.0)
    rng = np.random.default_rng(8)
    image = 3.0 + 900 * trail_image((60, 60), *SEGMENT, PSF) + rng.normal(0, 2, (60, 60))
    use = (rng.random(len(footprint.y)) > 0.1).astype(float)
    return footprint, image[footprint.y, footprint.x], use


def test_finds_the_same_minimum_as_scipy(trail):
    footprint, values, use = trail
    start = TRUTH + np.array([-200, 1.0, -0.8, 3.0, 0.1, -1.0])

    def residuals(p):
        shape, _ = jacobian(footprint, p, *PSF)
        return use * (values - p[0] * shape - p[5])

    theirs = least_squares(residuals, start, x_scale="jac", xtol=1e-12, ftol=1e-12)
    ours, squares, converged = minimise(values, use, footprint, start, *PSF, (60, 60), 5.0, 6, 1e-10)
    assert converged
    assert squares == pytest.approx(2 * theirs.cost, rel=1e-7)
    np.testing.assert_allclose(ours, theirs.x, atol=2e-3)


def test_derivatives_are_those_of_differences(trail):
    footprint = trail[0]
    _, derivatives = jacobian(footprint, TRUTH, *PSF)
    for k, step in enumerate(np.diag([1e-2, 1e-4, 1e-4, 1e-4, 1e-5, 1e-2])):
        up, down = (p[0] * jacobian(footprint, p, *PSF)[0] + p[5] for p in (TRUTH + step, TRUTH - step))
        np.testing.assert_allclose(derivatives[:, k], (up - down) / (2 * step[k]), atol=1e-4)


def test_held_level_stays(trail):
    footprint, values, use = trail
    start = vector(700.0, SEGMENT, 2.5)
    p, _, converged = minimise(values, use, footprint, start, *PSF, (60, 60), 5.0, 5, 1e-8)
    assert converged
    assert p[5] == 2.5
    assert p[0] == pytest.approx(900, rel=0.1)


def test_no_usable_pixel_gives_the_start_back(trail):
    footprint, values, _ = trail
    p, squares, _ = minimise(values, 0 * values, footprint, TRUTH, *PSF, (60, 60), 5.0, 6, 1e-8)
    np.testing.assert_array_equal(p, TRUTH)
    assert squares == 0


def test_ends_stay_inside_the_image_at_the_same_surface_brightness():
    footprint = stadium((40, 60), Segment(30, 20, 60, 0), 8.0)
    image = 12 * 80 * trail_image((40, 60), 30, 20, 80, 0, PSF)
    start = vector(400, Segment(28, 20.4, 40, 2), 0)
    p, _, converged = minimise(
        image[footprint.y, footprint.x], np.ones(len(footprint.y)), footprint, start, *PSF, (40, 60), 5.0, 6, 1e-8
    )
    assert converged
    assert p[1] - p[3] / 2 == pytest.approx(-0.5, abs=1e-3)
    assert p[1] + p[3] / 2 == pytest.approx(59.5, abs=1e-3)
    assert p[0] == pytest.approx(12 * 60, rel=0.01)


@pytest.mark.parametrize(("flux", "length"), [(60, 0.5), (300, 1.0), (300, 3.0)])
def test_a_fit_to_a_point_does_not_hang_on_the_last_digit(flux, length):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        place = Segment(30 + rng.uniform(-0.5, 0.5), 30 + rng.uniform(-0.5, 0.5), 0.0, 0.0)
        footprint = stadium((60, 60), place, 8.0)
        image = flux * trail_image((60, 60), *place, PSF) + rng.normal(0, 2, (60, 60))
        values, use = image[footprint.y, footprint.x], np.ones(len(footprint.y))
        start = vector(0.8 * flux, Segment(30.0, 30.0, length, 40.0), 0.0)
        (one, squares, _), (other, again, _) = (
            minimise(values, use, footprint, begin, *PSF, (60, 60), 5.0, 6, 1e-8)
            for begin in (start, start + np.array([0, 1e-9, -1e-9, 0, 0, 0]))
        )
        assert squares == pytest.approx(again, rel=1e-8)
        np.testing.assert_allclose(one[:4], other[:4], rtol=1e-4, atol=1e-4)


def setup(seed=3):
    rng = np.random.default_rng(seed)
    footprint = stadium((30, 30), Segment(14, 15, 8, 40), 6.0)
    n = len(footprint.y)
    return rng, footprint, rng.normal(size=(n, 3)), (rng.random(n) > 0.2).astype(float), np.zeros(n)


def test_in_white_noise_it_is_the_inverse_of_the_normal_matrix():
    _, footprint, design, use, dark = setup()
    ours = fit_covariance(design, use, dark, footprint, Noise(3.0, np.array([[1.0]])))
    np.testing.assert_allclose(ours, 9 * np.linalg.inv((design * use[:, None]).T @ design), rtol=1e-10)


def test_agrees_with_the_full_covariance_matrix_of_the_pixels():
    rng, footprint, design, use, _ = setup()
    _, correlation = correlated_noise(rng, (5, 5))
    model = rng.uniform(-5, 50, len(use))
    dy = footprint.y[:, None] - footprint.y
    dx = footprint.x[:, None] - footprint.x
    near = (np.abs(dy) <= 5) & (np.abs(dx) <= 5)
    pixels = 4 * np.where(near, correlation[np.clip(dy, -5, 5) + 5, np.clip(dx, -5, 5) + 5], 0)
    pixels += np.diag(np.maximum(model, 0) / 1.7)
    bread = np.linalg.inv((design * use[:, None]).T @ design)
    weighted = design * use[:, None]
    expected = bread @ weighted.T @ pixels @ weighted @ bread
    ours = fit_covariance(design, use, model, footprint, Noise(2.0, correlation, 1.7))
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_scale_of_a_parameter_does_not_matter():
    _, footprint, design, use, dark = setup()
    scale = np.array([1e-9, 1.0, 1e9])
    noise = Noise(2.0, np.array([[1.0]]))
    ours = fit_covariance(design * scale, use, dark, footprint, noise) * np.outer(scale, scale)
    np.testing.assert_allclose(ours, fit_covariance(design, use, dark, footprint, noise), rtol=1e-9)


@pytest.mark.parametrize("column", [np.zeros, np.ones])
def test_parameter_that_the_pixels_say_nothing_of_has_no_covariance(column):
    _, footprint, design, use, dark = setup()
    design[:, 1], design[:, 2] = column(len(use)), np.ones(len(use))
    assert np.isnan(fit_covariance(design, use, dark, footprint, Noise(2.0, np.array([[1.0]])))).all()


@settings(max_examples=60)
@given(
    st.floats(-0.4, 42.4),
    st.floats(-0.4, 29.4),
    st.floats(-90, 90).filter(lambda length: abs(length) > 0.1),
    st.floats(-7, 7),
)
def test_a_trail_is_cut_off_half_a_pixel_beyond_the_last(x, y, length, angle):
    start = np.array([100.0, x, y, length, angle, 3.0])
    cut = _inside(start, (30, 43))
    along = np.linspace(-abs(length) / 2, abs(length) / 2, 20_001)
    inside = (abs(x + along * np.cos(angle) - 21) <= 21.5) & (abs(y + along * np.sin(angle) - 14.5) <= 15)
    low, high = along[inside][[0, -1]]
    assert cut[3] == pytest.approx(high - low, abs=0.02)
    assert cut[1] == pytest.approx(x + (low + high) / 2 * np.cos(angle), abs=0.02)
    assert cut[2] == pytest.approx(y + (low + high) / 2 * np.sin(angle), abs=0.02)
    assert cut[0] / cut[3] == pytest.approx(100 / abs(length))
    assert (cut[4], cut[5]) == (angle, 3.0)
    assert start.tolist() == [100.0, x, y, length, angle, 3.0]


def test_a_trail_outside_of_the_image_is_left_as_it_is():
    for place in ((-9.0, 10.0), (60.0, 10.0), (10.0, -9.0), (10.0, 60.0)):
        start = np.array([100.0, *place, 4.0, 0.3, 3.0])
        np.testing.assert_array_equal(_inside(start, (30, 43)), start)


@pytest.mark.parametrize("free", [5, 6])
@pytest.mark.parametrize("damping", [0.0, 1e-2, 7.0])
def test_steps_solve_the_damped_equations(free, damping):
    rng = np.random.default_rng(free)
    design = rng.normal(size=(30, 6)) * [1e-3, 1, 1, 2, 1e3, 5]
    normal, slope = design.T @ design, rng.normal(size=6) * [1e-3, 1, 1, 2, 1e3, 5]
    part, expected = normal[:free, :free], np.zeros(6)
    expected[:free] = np.linalg.solve(part + damping * np.diag(np.diag(part)), slope[:free])
    step, solved = _damped_step(np.tril(normal), slope, damping, free)
    assert solved
    np.testing.assert_allclose(step, expected, rtol=1e-9)


def test_equations_without_a_solution_give_no_step():
    design = np.random.default_rng(2).normal(size=(4, 6))  # of four pixels
    step, solved = _damped_step(design.T @ design, np.ones(6), -1e-3, 6)
    assert not solved
    assert not step.any()


def test_a_stride_bounds_how_far_the_ends_are_carried():
    rng = np.random.default_rng(4)
    for p, q in rng.uniform([0, 0, 0, 1, -1, 0], [9, 9, 9, 30, 1, 1], (200, 2, 6)):
        ends = [np.array([[1], [-1]]) * one[3] / 2 * [np.cos(one[4]), np.sin(one[4])] + one[1:3] for one in (p, q)]
        assert np.hypot(*(ends[0] - ends[1]).T).max() <= _stride(p, q) + 1e-9
    for axis, carried in ((1, 2.0), (2, 2.0), (3, 1.0), (4, 10.0), (0, 0.0), (5, 0.0)):
        p = np.array([5.0, 1.0, 2.0, 10.0, 0.5, 3.0])
        for sign in (1, -1):
            assert _stride(p, p + sign * 2.0 * np.eye(6)[axis]) == pytest.approx(carried)


def test_equations_are_those_of_the_jacobian(trail):
    footprint, values, use = trail
    use = use * np.random.default_rng(5).uniform(0.5, 2, len(use))
    normal, slope = np.empty((6, 6)), np.empty(6)
    squares = _equations(_pixels(values, use, footprint), TRUTH, *PSF, normal, slope)
    shape, derivatives = jacobian(footprint, TRUTH, *PSF)
    left = values - TRUTH[0] * shape - TRUTH[5]
    assert squares == pytest.approx(use @ left**2, rel=1e-6)
    expected = (derivatives * use[:, None]).T @ derivatives
    scale = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        np.tril(normal / np.outer(scale, scale)), np.tril(expected / np.outer(scale, scale)), atol=1e-6
    )
    np.testing.assert_allclose(slope / scale, derivatives.T @ (use * left) / scale, atol=1e-5 * np.sqrt(squares))


def marquardt(values, use, footprint, start, shape, reach, free, tolerance):
    """The method in whole-matrix arithmetic: damping from 1e-2 on, an eighth of it after success, else six times."""

    def equations(p):
        unit, derivatives = jacobian(footprint, p, *PSF)
        left, part = values - p[0] * unit - p[5], derivatives[:, :free]
        return (part * use[:, None]).T @ part, part.T @ (use * left), use @ left**2

    p, damping = _inside(start, shape), 1e-2
    normal, slope, squares = equations(p)
    for _ in range(60):
        step = np.zeros(6)
        step[:free] = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), slope)
        step[3], step[4] = max(step[3], -0.75 * p[3]), np.clip(step[4], -0.5, 0.5)
        trial = _inside(p + step, shape)
        following = equations(trial) if _stride(p, trial) <= reach else (None, None, np.inf)
        if following[2] <= squares:
            done = squares - following[2] <= tolerance * squares
            p, damping = trial, max(damping / 8, 1e-9)
            normal, slope, squares = following
            if done:
                return p, squares, True
        else:
            damping *= 6
            if damping > 1e12:
                return p, squares, True
    return p, squares, False


STARTS = [
    ([-200, 1.0, -0.8, 3.0, 0.1, -1.0], 5.0, 6),
    ([-500, 3.0, -4.0, 9.0, 0.9, 4.0], 3.0, 6),
    ([300, -3.0, 2.0, 16.0, -1.3, 0.0], 5.0, 5),
    ([-600, 5.0, 3.0, -10.0, 1.5, 2.0], 1.5, 6),
    ([0.0, 0.0, 0.0, 30.0, 0.0, 0.0], 8.0, 6),
    ([-850, -6.0, 6.0, 8.0, 1.0, 0.0], 0.4, 5),
]


@pytest.mark.parametrize(("off", "reach", "free"), STARTS)
@pytest.mark.parametrize("tolerance", [0.5, 0.05, 1e-3, 1e-7])
def test_the_way_to_the_minimum_is_that_of_marquardt(trail, off, reach, free, tolerance):
    footprint, values, use = trail
    start = TRUTH + np.array(off)
    theirs = marquardt(values, use, footprint, start, (60, 60), reach, free, tolerance)
    p, squares, converged = minimise(values, use, footprint, start, *PSF, (60, 60), reach, free, tolerance)
    assert converged == theirs[2]
    assert squares == pytest.approx(theirs[1], rel=1e-6)
    np.testing.assert_allclose(p, theirs[0], rtol=1e-4, atol=1e-4)


def test_a_fit_that_comes_to_no_end_has_not_converged(trail):
    footprint, values, use = trail
    far = TRUTH + np.array([0.0, 12.0, 14.0, 0.0, 0.0, 0.0])
    *_, converged = minimise(values, use, footprint, far, *PSF, (60, 60), 0.01, 6, -1.0)
    assert not converged


def test_pixels_with_a_weight_come_in_blocks(trail):
    footprint, values, use = trail
    use = use * 0.5
    use[:40] = 0
    use[:5] = 0.5
    data = _pixels(values, use, footprint)
    kept = np.flatnonzero(use)
    assert len(kept) % BLOCK
    assert data.shape == (-(-len(kept) // BLOCK), 4, BLOCK)
    rows = data.transpose(1, 0, 2).reshape(4, -1)
    np.testing.assert_array_equal(rows[:, : len(kept)], [footprint.x[kept], footprint.y[kept], values[kept], use[kept]])
    assert (rows[2:, len(kept) :] == 0).all()
    # What fills up the last block lies where its first pixel does: light falls on it no sooner than on that.
    assert set(map(tuple, rows[:2, len(kept) :].T)) == {tuple(data[-1, :2, 0])}
    whole = np.zeros(len(use))
    whole[: 2 * BLOCK] = 1.0
    assert _pixels(values, whole, footprint).shape == (2, 4, BLOCK)
    assert _pixels(values, 0 * use, footprint).shape == (0, 4, BLOCK)


def test_blocks_without_light_tell_of_the_level():
    rng = np.random.default_rng(7)
    footprint = stadium((200, 200), Segment(100, 100, 150, 0), 60.0)
    kept = rng.random(len(footprint.y)) < 0.03
    values, use = rng.normal(3, 2, len(kept)), np.where(kept, rng.uniform(0.5, 2, len(kept)), 0.0)
    p = vector(900.0, Segment(100.4, 101.7, 9.0, 25.0), 2.0)
    normal, slope = np.empty((6, 6)), np.empty(6)
    squares = _equations(_pixels(values, use, footprint), p, *PSF, normal, slope)
    shape, derivatives = jacobian(footprint, p, *PSF)
    left = values - p[0] * shape - p[5]
    assert squares == pytest.approx(use @ left**2, rel=1e-6)
    assert normal[5, 5] == pytest.approx(use.sum())
    assert slope[5] == pytest.approx(use @ left)
    expected = (derivatives * use[:, None]).T @ derivatives
    np.testing.assert_allclose(np.tril(normal), np.tril(expected), rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("share", "known"), [(0.5e-12, False), (2e-12, True)])
def test_parameters_that_can_hardly_be_told_apart_have_no_covariance(share, known):
    """Less than 1e-12 of the squares in one direction: 1 - c of two columns of unit length whose product is c."""
    _, footprint, design, use, dark = setup()
    one, other = np.linalg.qr(design[:, :2] * use[:, None])[0].T
    pair = np.stack([one, one + 2 * np.sqrt(share) * other], 1)
    found = fit_covariance(pair, use, dark, footprint, Noise(2.0, np.array([[1.0]])))
    assert np.isfinite(found).all() == known
