import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.pulls import galsim_trail
from kernels.psf import moffat_mixture
from kernels.trail_model import trail_gradient, trail_image

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
        out = np.empty(5)
        trail_gradient(dx - x, dy - y, long, math.cos(turn), math.sin(turn), PSF.weights, PSF.sigmas, out)
        return out

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
