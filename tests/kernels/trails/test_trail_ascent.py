import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.image.noise import filtered_noise
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import DetectedSegment
from kernels.trails.matched_filter import template_snr
from kernels.trails.trail_ascent import brightest_point, evenness, line_noise, refine_point, refine_trail
from kernels.trails.trail_bank import point_snr, trail_bank
from kernels.trails.trail_model import trail_image

PSF = moffat_mixture(2.3, 3.0)
WHITE = np.array([[1.0]])
NEAR = np.array([[0.1, 0.3, 0.1], [0.3, 1.0, 0.3], [0.1, 0.3, 0.1]])
SKEW = np.array([[0.0, 0.1, 0.3], [0.1, 1.0, 0.1], [0.3, 0.1, 0.0]])  # along one diagonal only
BANK = trail_bank(PSF, 2.3, 1.0, WHITE)


def apart(angle, other):
    return abs((angle - other + 90) % 180 - 90)


@pytest.mark.parametrize("correlation", [WHITE, NEAR, SKEW])
@pytest.mark.parametrize("length", [0.0, 2.0, 9.0, 30.0, 80.0])
@pytest.mark.parametrize("angle", [0.0, 37.0, 135.0])
def test_noise_along_a_line_is_that_of_the_trail(correlation, length, angle):
    bank = trail_bank(PSF, 2.3, 5.0, correlation)
    template = trail_image((131, 131), 65.0, 65.0, length, angle, PSF)
    expected = filtered_noise(template, 5.0, correlation) / bank.noise
    theta = math.radians(angle)
    ours = line_noise(bank.lags, length * math.cos(theta), length * math.sin(theta))
    assert ours == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("angle", [0.0, 45.0, 135.0, 110.0, 290.0])
@pytest.mark.parametrize("length", [3.0, 12.0, 40.0])
def test_noise_of_a_mean_is_the_mean_of_all_covariances(length, angle):
    """Noise whose correlation is long along one diagonal: as for a mean of many correlated values."""
    y, x = np.mgrid[-20:21, -20:21]

    def correlation(dx, dy):
        return np.exp(-np.square(dx - dy) / 60 - np.square(dx + dy) / 8)

    dx, dy = length * math.cos(math.radians(angle)), length * math.sin(math.radians(angle))
    t = (np.arange(400) + 0.5) / 400
    apart = t[:, None] - t
    expected = math.sqrt(np.mean(correlation(apart * dx, apart * dy)))
    assert line_noise(9.0 * correlation(x, y), dx, dy) == pytest.approx(3 * expected, rel=0.02)


@settings(deadline=None, max_examples=25)
@given(
    x=st.floats(58, 62),
    y=st.floats(58, 62),
    length=st.floats(8, 50),
    angle=st.floats(0, 180),
    off=st.tuples(*[st.floats(-1.5, 1.5)] * 2),
    turn=st.floats(-5, 5),
)
def test_climbs_to_the_trail_from_a_start_nearby(x, y, length, angle, off, turn):
    template = trail_image((120, 120), x, y, length, angle, PSF)
    snr = point_snr((5000 * template).astype(np.float32), BANK)
    found = refine_trail(snr, BANK.lags, DetectedSegment(x + off[0], y + off[1], 0.8 * length, angle + turn, 1.0))
    assert math.hypot(found.x - x, found.y - y) < 0.3
    assert found.length == pytest.approx(length, abs=0.8)
    assert apart(found.angle, angle) < 60 / length
    assert found.snr == pytest.approx(template_snr(5000, template, 1.0, WHITE), rel=0.03)


@settings(deadline=None, max_examples=25)
@given(x=st.floats(28, 32), y=st.floats(28, 32))
def test_point_stays_a_point_at_its_place(x, y):
    snr = point_snr((100 * trail_image((60, 60), x, y, 0.0, 0.0, PSF)).astype(np.float32), BANK)
    found = refine_point(snr, BANK.lags, DetectedSegment(round(x) + 1.0, round(y) - 1.0, 0.0, 0.0, 1.0))
    assert found.length == 0
    assert math.hypot(found.x - x, found.y - y) < 0.15


def test_faint_point_is_given_no_length():
    rng = np.random.default_rng(2)
    template = trail_image((60, 60), 30.0, 30.0, 0.0, 0.0, PSF)
    flux = 12 * filtered_noise(template, 1.0, WHITE) / np.sum(template**2)
    lengths = [
        refine_trail(
            point_snr((flux * template + rng.normal(size=template.shape)).astype(np.float32), BANK),
            BANK.lags,
            DetectedSegment(30.0, 30.0, 0.0, 0.0, 1.0),
        ).length
        for _ in range(40)
    ]
    assert np.mean(np.array(lengths) == 0) >= 0.8


def test_two_stars_are_not_even_and_the_brighter_is_told():
    stars = trail_image((100, 100), 30.0, 50.0, 0.0, 0.0, PSF) + 0.5 * trail_image(
        (100, 100), 70.0, 50.0, 0.0, 0.0, PSF
    )
    snr = point_snr((1000 * stars).astype(np.float32), BANK)
    line = DetectedSegment(50.0, 50.0, 44.0, 0.0, 1.0)
    assert evenness(snr, line) < 0.4
    assert brightest_point(snr, line)[:3] == (30.0, 50.0, 0.0)
    trail = point_snr((1000 * trail_image((100, 100), 50.0, 50.0, 40.0, 0.0, PSF)).astype(np.float32), BANK)
    assert evenness(trail, line) > 0.9
