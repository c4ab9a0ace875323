import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.pulls import galsim_trail
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.trail_model import BLOCK, trail_image, trail_rows

PSF = moffat_mixture(2.3, 3.0)


@pytest.mark.parametrize("length", [0.0, 0.3, 5.0, 24.0])
def test_pixels_are_those_of_galsim(length):
    ours = trail_image((61, 71), 35.2, 29.1, length, 30.0, PSF)
    theirs = galsim_trail((61, 71), 35.2, 29.1, length, 30.0, 2.3, 3.0)
    assert np.abs(ours - theirs).max() < 0.005 * theirs.max()
    assert ours.sum() == pytest.approx(theirs.sum(), abs=2e-3)


def test_angle_runs_from_x_towards_y():
    image = trail_image((41, 41), 20, 20, 20, 45, PSF)
    assert image[26, 26] > 100 * image[14, 26]


@settings(deadline=None, max_examples=60)  # the first example compiles
@given(
    dx=st.floats(-12, 12),
    dy=st.floats(-12, 12),
    length=st.one_of(st.floats(1e-3, 0.2), st.floats(0.2, 30)),
    theta=st.floats(-3, 3),
)
def test_derivatives_are_those_of_differences(dx, dy, length, theta):
    def value(x, y, long, turn):
        return trail_rows(np.array([dx - x]), np.array([dy - y]), long, turn, *PSF)[:, 0]

    at = np.array([0.0, 0.0, length, theta])
    for k in range(4):
        step = np.zeros(4)
        step[k] = 1e-4
        slope = (value(*(at + step))[0] - value(*(at - step))[0]) / 2e-4
        assert value(*at)[k + 1] == pytest.approx(slope, abs=2e-7)


def test_short_trail_joins_the_long_one_smoothly():
    switch = 0.05 * PSF.sigmas  # where the series takes over, for each component
    for length in switch:
        below, above = (trail_image((25, 25), 12.3, 11.8, length * f, 70, PSF) for f in (1 - 1e-9, 1 + 1e-9))
        np.testing.assert_allclose(below, above, atol=1e-11)


def test_point_source_has_no_direction():
    one, other = (trail_image((25, 25), 12, 12, 0, angle, PSF) for angle in (0, 73))
    np.testing.assert_allclose(one, other, atol=1e-9)


def brute(dx, dy, length, theta):
    """Sum of many points of light along the line."""
    t = (np.arange(4000) + 0.5) / 4000 - 0.5
    x, y = dx[:, None] - t * length * np.cos(theta), dy[:, None] - t * length * np.sin(theta)
    square = (x**2 + y**2)[..., None]
    return (PSF.weights / (2 * np.pi * PSF.sigmas**2) * np.exp(-0.5 * square / PSF.sigmas**2)).sum(-1).mean(1)


@pytest.mark.parametrize("length", [0.0, 0.01, 0.2, 7.0, 150.0])
@pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 3])
def test_value_is_the_mean_of_points_along_the_line(length, count):
    rng = np.random.default_rng(count)
    dx, dy = rng.uniform(-100, 100, count), rng.uniform(-12, 12, count)
    expected = brute(dx, dy, length, 0.1)
    np.testing.assert_allclose(trail_rows(dx, dy, length, 0.1, *PSF)[0], expected, rtol=1e-5, atol=1e-9)


def test_no_pixels_and_pixels_without_light():
    assert trail_rows(np.empty(0), np.empty(0), 5.0, 0.0, *PSF).shape == (5, 0)
    assert not trail_rows(np.full(40, 300.0), np.zeros(40), 5.0, 0.0, *PSF).any()
