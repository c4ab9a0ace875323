import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from benchmarks.measurement.pulls import galsim_trail
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


def closed_form(dx, dy, length, theta, sigma):
    """One Gaussian smeared along a line: its value, and the derivatives by x, y, length and angle."""
    u, v = dx * np.cos(theta) + dy * np.sin(theta), dy * np.cos(theta) - dx * np.sin(theta)
    ahead, behind = u + length / 2, u - length / 2
    bell, peak = (lambda s: np.exp(-(s**2) / (2 * sigma**2)) / np.sqrt(2 * np.pi) / sigma), 1 / (np.sqrt(2) * sigma)
    mean = (erf(ahead * peak) - erf(behind * peak)) / 2 / length
    along = (bell(ahead) - bell(behind)) / length * bell(v)
    across = -mean * v / sigma**2 * bell(v)
    longer = ((bell(ahead) + bell(behind)) / 2 - mean) / length * bell(v)
    by_x, by_y = -along * np.cos(theta) + across * np.sin(theta), -along * np.sin(theta) - across * np.cos(theta)
    return np.array([mean * bell(v), by_x, by_y, longer, along * v - across * u])


@pytest.mark.parametrize("sigma", [0.8, 2.5])
@pytest.mark.parametrize("length", [0.051, 0.2, 1.0, 6.0, 40.0, 300.0])
@pytest.mark.parametrize("theta", [0.4, -2.0])
def test_all_derivatives_are_those_of_the_closed_form(sigma, length, theta):
    rng = np.random.default_rng(int(length))
    u, v = rng.uniform(-length / 2 - 5 * sigma, length / 2 + 5 * sigma, 70), rng.uniform(-5 * sigma, 5 * sigma, 70)
    u[:32] = rng.uniform(-2, 2, 32)  # a block of them far from both ends of a long trail
    dx, dy = u * np.cos(theta) - v * np.sin(theta), u * np.sin(theta) + v * np.cos(theta)
    ours = trail_rows(dx, dy, length * sigma, theta, np.ones(1), np.array([sigma]))
    theirs = closed_form(dx, dy, length * sigma, theta, sigma)
    np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-10 * np.abs(theirs).max())


@pytest.mark.parametrize("sigma", [0.8, 2.5])
def test_short_trails_follow_the_series_to_the_fourth_order(sigma):
    """A mean over a short length is the value, and 1/24 of its second and 1/1920 of its fourth derivative."""
    length = 0.0499 * sigma
    u, v = (sigma * each.ravel() for each in np.meshgrid(np.linspace(-4, 4, 9), np.linspace(-3, 3, 7)))
    ours = trail_rows(u, v, length, 0.0, np.ones(1), np.array([sigma]))
    z, t, bell = u / sigma, length / sigma, np.exp(-(u**2 + v**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    h = [np.polynomial.hermite_e.hermeval(z, np.eye(6)[k]) for k in range(6)]
    mean = bell * (1 + t**2 / 24 * h[2] + t**4 / 1920 * h[4])
    np.testing.assert_allclose(ours[0], mean, rtol=2e-12)
    slope = bell * (h[1] + t**2 / 24 * h[3] + t**4 / 1920 * h[5]) / sigma
    np.testing.assert_allclose(ours[1], slope, rtol=2e-12, atol=1e-20)
    np.testing.assert_allclose(ours[2], mean * v / sigma**2, rtol=2e-12, atol=1e-20)
    by_length = bell * (t / 12 * h[2] + t**3 / 480 * h[4]) / sigma
    np.testing.assert_allclose(ours[3], by_length, rtol=1e-10, atol=1e-16)
    np.testing.assert_allclose(ours[4], -slope * v + mean * v / sigma**2 * u, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("length", [0.01, 3.0, 400.0])
def test_light_ends_6_5_sigma_from_the_line(length):
    sigma = np.array([2.0])
    for across, along, lit in (
        (12.8, 0.0, True),
        (13.1, 0.0, False),
        (0.0, length / 2 + 12.7, True),
        (0.0, length / 2 + 13.1, False),
    ):
        for sign in (-1, 1):
            for near in (False, True):  # with a pixel on the line in the same block
                dx, dy = np.array([sign * along] + [0.0] * near), np.array([sign * across] + [0.0] * near)
                assert (trail_rows(dx, dy, length, 0.0, np.ones(1), sigma)[0, 0] > 0) == lit


STRETCH = np.array([1.3, 0.2, 0.8])
"""A PSF whose widths are not the same in all directions: pixels are stretched by ((1.3, 0.2), (0.2, 0.8))."""


@pytest.mark.parametrize("length", [0.01, 0.6, 9.0])
@pytest.mark.parametrize("theta", [0.0, 0.7, 2.2])
def test_a_stretched_psf_is_a_mean_of_stretched_points_and_has_their_derivatives(length, theta):
    rng = np.random.default_rng(4)
    dx, dy = rng.uniform(-7, 7, (2, 40))

    def rows(x, y, long, turn):
        return trail_rows(dx - x, dy - y, long, turn, PSF.weights, PSF.sigmas, STRETCH)

    a, b, c = STRETCH
    t = (np.arange(4000) + 0.5) / 4000 - 0.5
    u, v = dx[:, None] - t * length * np.cos(theta), dy[:, None] - t * length * np.sin(theta)
    square = ((a * u + b * v) ** 2 + (b * u + c * v) ** 2)[..., None]
    points = PSF.weights / (2 * np.pi * PSF.sigmas**2) * np.exp(-0.5 * square / PSF.sigmas**2)
    at = np.array([0.0, 0.0, length, theta])
    found = rows(*at)
    np.testing.assert_allclose(found[0], (a * c - b * b) * points.sum(-1).mean(1), rtol=1e-5, atol=1e-9)
    for k, step in enumerate(1e-4 * np.eye(4)):
        slope = (rows(*(at + step))[0] - rows(*(at - step))[0]) / 2e-4
        np.testing.assert_allclose(found[k + 1], slope, atol=3e-7)
