import numpy as np
import pytest

from kernels.dense_input import RADIUS, filter_taps
from kernels.line_bank import FRAMES, HALF, LENGTHS, STEPS, every_line, line_bank, line_pixels, middle_pixels
from kernels.matched_filter import filtered_noise

WHITE = np.array([[1.0]])
NEAR = np.array([[0.1, 0.3, 0.1], [0.3, 1.0, 0.3], [0.1, 0.3, 0.1]])


@pytest.mark.parametrize("correlation", [WHITE, NEAR])
@pytest.mark.parametrize(("frame", "rise", "length"), [(0, 0, 4), (0, 5, 48), (1, 3, 16), (2, 7, 24), (3, 1, 32)])
def test_noise_of_each_line_is_that_of_its_template(correlation, frame, rise, length):
    bank = line_bank(2.3, correlation)
    stamp = np.outer(bank.taps, bank.taps).astype(float)
    template = np.zeros((91, 91))
    for dx, dy in zip(*middle_pixels(frame, rise, length), strict=True):
        template[45 + dy - RADIUS : 46 + dy + RADIUS, 45 + dx - RADIUS : 46 + dx + RADIUS] += stamp
    expected = filtered_noise(stamp, 1.0, correlation) / filtered_noise(template, 1.0, correlation)
    assert bank.scale[frame, rise, list(LENGTHS).index(length)] == pytest.approx(expected, rel=1e-5)


def test_a_point_has_the_gain_of_its_filter():
    taps = filter_taps(2.3)
    assert line_bank(2.3, NEAR).gain == pytest.approx(1 / filtered_noise(np.outer(taps, taps), 1.0, NEAR))


@pytest.mark.parametrize("rise", range(STEPS + 1))
def test_pixels_follow_the_line(rise):
    along, across = line_pixels(48, rise)
    np.testing.assert_array_equal(along, np.arange(48))
    assert np.abs(across - along * rise / STEPS).max() <= 0.5


def test_directions_are_spread_over_the_half_circle():
    lines = every_line().reshape(len(FRAMES), STEPS + 1, len(LENGTHS), 4)
    angles = np.sort([lines[f, r, -1, 3] for f, (low, high) in enumerate(FRAMES) for r in range(low, high + 1)])
    gaps = np.diff(np.append(angles, angles[0] + 180))
    assert len(angles) == 32
    assert 3.5 < gaps.min() <= gaps.max() < 7.2


@pytest.mark.parametrize(("frame", "rise", "length"), [(0, 3, 48), (1, 8, 12), (2, 5, 32), (3, 7, 48)])
def test_a_line_is_where_its_pixels_are(frame, rise, length):
    dx, dy = middle_pixels(frame, rise, length)
    code = (frame * (STEPS + 1) + rise) * len(LENGTHS) + list(LENGTHS).index(length)
    x, y, extent, angle = every_line()[code]
    direction = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    places = np.stack([dx - x, dy - y], 1)
    across = places @ [-direction[1], direction[0]]
    along = places @ direction
    assert np.abs(across).max() < 0.8
    assert extent == pytest.approx(np.ptp(along) * length / (length - 1), rel=0.03)
    assert max(np.abs(dx).max(), np.abs(dy).max()) <= HALF
