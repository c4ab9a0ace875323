import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.image.noise import filtered_noise
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails import trail_ascent
from kernels.trails.geometry import DetectedSegment
from kernels.trails.matched_filter import template_snr
from kernels.trails.trail_ascent import (
    brightest_point,
    evenness,
    line_noise,
    refine_point,
    refine_trail,
    trail_snr,
)
from kernels.trails.trail_bank import point_snr, trail_bank
from kernels.trails.trail_model import trail_image
from tests.support.science import keys

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


@pytest.mark.parametrize("angle", [0.0, 90.0])
def test_contrary_noise_cut_off_leaves_a_line_no_less_noise_than_the_bank(angle):
    """Lags -5..5 of noise that alternates from pixel to pixel: no process has these alone."""
    along = (-0.9) ** np.abs(np.arange(-5, 6))
    bank = trail_bank(moffat_mixture(1.3, 4.8), 1.3, 1.0, np.outer(along, along))
    theta = math.radians(angle)
    for length in (2.0, 4.0, 6.0, 10.0, 20.0):
        least = math.sqrt(0.1 / (length + 1))
        assert line_noise(bank.lags, length * math.cos(theta), length * math.sin(theta)) >= least * (1 - 1e-12)


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
    assert evenness(trail, line) > 0.8
    assert evenness(trail / trail.max(), line) > 0.9  # 0.4 of the mean are enough where that is noise


def between_pixels(image, y, x):
    """Keys' interpolation; 0 where one of the four rows or columns about a place is missing."""
    if not (1 <= y < image.shape[0] - 2 and 1 <= x < image.shape[1] - 2):
        return 0.0
    return keys(np.arange(image.shape[0]) - y) @ image.astype(float) @ keys(np.arange(image.shape[1]) - x)


def test_values_between_pixels_are_those_of_cubic_convolution():
    rng = np.random.default_rng(5)
    image = rng.normal(size=(8, 9)).astype(np.float32)
    places = [*rng.uniform(0.5, 7, (60, 2)), (1, 1), (0.999, 3.5), (3.5, 0.999), (5.999, 6.999), (6, 3), (3, 7), (4, 5)]
    for y, x in places:
        assert trail_ascent._interpolated(image, y, x) == pytest.approx(between_pixels(image, y, x), abs=1e-6)
    assert trail_ascent._interpolated(image, 4, 5) == image[4, 5]


def quadrature(lags, dx, dy):
    """Noise of a mean along a line by the trapezoidal rule, in steps of half a pixel or less, four at least."""
    length, reach = math.hypot(dx, dy), len(lags) // 2
    span = min(length, 1.5 * reach)
    tau = np.linspace(0, span, max(4, 2 * math.ceil(span)) + 1)
    values = [between_pixels(lags, reach + dy * t / length, reach + dx * t / length) for t in tau]
    return math.sqrt(max(2 / length * np.trapezoid((1 - tau / length) * values, tau), 1e-12))


LINES = [
    (0.0, 0.0, 0.3, 0.2),
    (0.0, 0.0, 3.0, 4.0),
    (1.0, -2.5, -3.2, 6.1),
    (0.0, 0.0, 17.0, -9.0),
    (3.0, 3.0, 3.0, 5.0),
]


@pytest.mark.parametrize("side", [9, 13])
def test_noise_of_a_line_is_the_integral_over_its_covariances(side):
    lags = np.random.default_rng(side).uniform(0.2, 1, (side, side))
    for x1, y1, x2, y2 in LINES:
        assert line_noise(lags, x2 - x1, y2 - y1) == pytest.approx(quadrature(lags, x2 - x1, y2 - y1), rel=1e-9)
    lags[side // 2, side // 2] = 2.25
    assert line_noise(lags, 0.0, 0.0) == line_noise(lags, 5e-7, -5e-7) == 1.5
    assert line_noise(-lags, 3.0, 4.0) == pytest.approx((0.1 / 6) ** 0.5, rel=1e-12)


def test_signal_to_noise_of_a_line_is_its_mean_over_its_noise():
    rng = np.random.default_rng(6)
    snr, lags = rng.normal(1, 1, (40, 41)).astype(np.float32), BANK.lags
    for line in LINES:
        x1, y1, x2, y2 = np.add(line, [12, 15, 12, 15])
        steps = max(1, math.ceil(math.hypot(x2 - x1, y2 - y1)))
        part = np.linspace(0, 1, steps + 1)
        values = [between_pixels(snr, y1 + t * (y2 - y1), x1 + t * (x2 - x1)) for t in part]
        expected = np.trapezoid(values, part) / quadrature(lags, x2 - x1, y2 - y1)
        assert trail_snr(snr, lags, x1, y1, x2, y2) == pytest.approx(expected, rel=1e-5)
    assert trail_snr(snr, lags, 12.0, 15.0, 12.0, 15.0) == pytest.approx(snr[15, 12] / math.sqrt(lags.max()), rel=1e-6)


def test_ends_are_moved_together_or_one_by_one_along_and_across():
    ends = np.array([1.0, 2.0, 4.0, 6.0])  # along (0.6, 0.8), across (-0.8, 0.6)
    along, across = np.array([0.6, 0.8]), np.array([-0.8, 0.6])
    for first, which in ((0, (1, 1)), (4, (1, 0)), (8, (0, 1))):
        for move, step in enumerate((along, -along, across, -across)):
            trial = np.empty(4)
            trail_ascent._displace(ends, trial, first + move, 0.5)
            np.testing.assert_allclose(trial, ends + 0.5 * np.concatenate([which[0] * step, which[1] * step]))
    point, trial = np.array([3.0, 3.0, 3.0, 3.0]), np.empty(4)
    for move, step in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
        trail_ascent._displace(point, trial, move, 0.25)
        np.testing.assert_allclose(trial, point + 0.25 * np.array([*step, *step]))


@pytest.mark.parametrize(("length", "last"), [(6.0, 0.0625), (12.8, 0.05), (24.0, 0.09375)])
def test_where_the_climb_ends_no_step_leads_higher(length, last):
    """Steps begin at an eighth of the length, 1 px at least, and are halved while they are longer than 0.05 px."""
    noise = np.random.default_rng(3).normal(0, 3, (70, 70))
    image = 300 * trail_image((70, 70), 35.3, 34.6, length, 30.0, PSF) + noise
    snr = point_snr(image.astype(np.float32), BANK)
    last = last if last > 0.05 else 2 * last
    for together in (False, True):
        if together:
            found = refine_point(snr, BANK.lags, DetectedSegment(36.0, 35.0, 0.0, 0.0, 1.0))
        else:
            found = refine_trail(snr, BANK.lags, DetectedSegment(36.0, 35.0, length, 35.0, 1.0))
            assert found.length > 0
        (x1, y1), (x2, y2) = found.points(max(found.length, 1.0))[[0, -1]]
        ends, trial = np.array([x1, y1, x2, y2]), np.empty(4)
        assert trail_snr(snr, BANK.lags, *ends) == pytest.approx(found.snr, rel=1e-6)
        step = 0.0625 if together else last
        for move in range(4 if together else 12):
            trail_ascent._displace(ends, trial, move, step)
            assert trail_snr(snr, BANK.lags, *trial) <= found.snr + 2e-6


@pytest.mark.parametrize(("gain", "is_point"), [(3.99, True), (4.01, False)])
def test_a_length_has_to_add_4_to_the_square_of_the_signal_to_noise(monkeypatch, gain, is_point):
    snr = point_snr((300 * trail_image((60, 60), 30.0, 30.0, 8.0, 30.0, PSF)).astype(np.float32), BANK)
    start = DetectedSegment(30.0, 30.0, 8.0, 30.0, 1.0)

    def point(snr, lags, found):
        return DetectedSegment(30.0, 30.0, 0.0, found.angle, math.sqrt(found.snr**2 - gain))

    monkeypatch.setattr(trail_ascent, "refine_point", point)
    assert (refine_trail(snr, BANK.lags, start).length == 0) == is_point


@pytest.mark.parametrize(("mean", "limit"), [(2, 0.8), (5, 2), (6, 3), (8, 5), (10, 7), (100, 70)])
def test_a_part_of_a_trail_is_bright_above_0_4_to_0_7_of_the_mean(mean, limit):
    snr, trail = np.zeros((20, 30), np.float32), DetectedSegment(14.0, 9.0, 8.0, 0.0, 1.0)
    for dark, share in ((0.999 * limit, 7), (1.001 * limit, 8)):
        snr[9, 10:18] = np.array([1, 1, dark / mean, 1.6, 1, 0.9, 0.2, 1.8]) * mean
        snr[9, 18] = 9 * mean - snr[9, 10:18].sum()
        assert evenness(snr, trail) == pytest.approx(share / 9)


def test_the_brightest_point_is_the_highest_value_along_a_trail():
    snr, trail = np.zeros((20, 30), np.float32), DetectedSegment(14.0, 9.0, 8.0, 0.0, 1.0)
    snr[9, 10:19] = [10, 10, 4, 16, 10, 8, 2, 18, 12]
    assert brightest_point(snr, trail) == DetectedSegment(17.0, 9.0, 0.0, 0.0, 18.0)
    assert brightest_point(snr.T.copy(), DetectedSegment(9.0, 14.0, 8.0, 90.0, 1.0))[:4] == pytest.approx(
        (9, 17, 0, 90)
    )


def test_the_climb_begins_at_the_ends_of_the_start(monkeypatch):
    begun = []

    def climb(snr, lags, ends, step):
        begun.append([*ends.tolist(), step])
        return 9.0 if step > 0 else 1.0

    monkeypatch.setattr(trail_ascent, "_climb", climb)
    for length, step in ((20.0, 2.5), (6.0, 1.0), (8.8, 1.1)):
        start = DetectedSegment(30.0, 40.0, length, math.degrees(math.atan2(0.8, 0.6)), 5.0)
        found = refine_trail(np.zeros((9, 9), np.float32), BANK.lags, start)
        half = length / 2
        assert begun[-2] == pytest.approx([30 - 0.6 * half, 40 - 0.8 * half, 30 + 0.6 * half, 40 + 0.8 * half, step])
        assert found == pytest.approx(start._replace(snr=9.0))
        assert begun[-1] == pytest.approx([30, 40, 30, 40, -1])


def test_a_trail_in_the_dark_does_not_grow_without_end():
    snr = np.full((96, 90), -9.0, np.float32)
    found = refine_trail(snr, BANK.lags, DetectedSegment(52.0, 54.0, 60.0, 75.0, 6.3))
    ends = found.points(1.0)
    assert found.snr <= 0
    assert np.abs(ends - 48).max() <= 144
