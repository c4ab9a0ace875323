import math

import numpy as np
import pytest

from kernels.trails.geometry import DetectedSegment
from kernels.trails.glint_trail import find_glint_trails

FWHM, SIDE = 2.3, 3072
AREA = SIDE**2


def flashes(count, period, length, angle=30.0, x=1500.0, y=1500.0, jitter=0.3, seed=0):
    rng = np.random.default_rng(seed)
    theta = math.radians(angle)
    return [
        DetectedSegment(
            x + (k - count / 2) * period * math.cos(theta) + rng.normal(0, jitter),
            y + (k - count / 2) * period * math.sin(theta) + rng.normal(0, jitter),
            length,
            (angle + (rng.normal(0, 1) if length > 5 else rng.uniform(0, 180))) % 180,
            30.0,
        )
        for k in range(count)
    ]


def crowd(count, seed, lengths=(0.0, 40.0)):
    rng = np.random.default_rng(seed)
    return [
        DetectedSegment(
            *rng.uniform(0, SIDE, 2).tolist(), float(rng.uniform(*lengths)), float(rng.uniform(0, 180)), 20.0
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 141.0])
@pytest.mark.parametrize(("period", "length"), [(60.0, 20.0), (100.0, 8.0), (400.0, 20.0), (270.0, 24.0)])
def test_flashes_with_a_direction(period, length, angle):
    members = flashes(6, period, length, angle)
    others = crowd(60, 4)
    (found,) = find_glint_trails(others + members, FWHM, AREA)
    assert set(range(60, 66)) <= set(found.members)
    assert found.segment.length == pytest.approx(5 * period + length, abs=6)
    assert abs((found.segment.angle - angle + 90) % 180 - 90) < 0.5


@pytest.mark.parametrize("period", [40.0, 150.0, 400.0])
def test_points_at_equal_steps(period):
    (found,) = find_glint_trails(crowd(40, 5, (0, 2)) + flashes(6, period, 0.0), FWHM, AREA)
    assert set(range(40, 46)) <= set(found.members)


def test_three_points_in_line_are_nothing():
    assert find_glint_trails(flashes(3, 150.0, 0.0, jitter=0.0) + crowd(60, 6, (0, 2)), FWHM, AREA) == []


def test_points_between_the_flashes_belong_to_them():
    members = flashes(5, 200.0, 20.0)
    between = DetectedSegment((members[1].x + members[2].x) / 2, (members[1].y + members[2].y) / 2, 0.0, 0.0, 9.0)
    (found,) = find_glint_trails([*members, between], FWHM, AREA)
    assert sorted(found.members) == [0, 1, 2, 3, 4, 5]


def test_a_dash_in_line_with_a_long_trail():
    long, dash = (
        DetectedSegment(1000, 1000, 900, 20, 200),
        DetectedSegment(1000 + 800 * 0.9397, 1000 + 800 * 0.342, 25, 20, 15),
    )
    (found,) = find_glint_trails([long, dash], FWHM, AREA)
    assert sorted(found.members) == [0, 1]


def test_one_trail_in_pieces_is_no_row_of_flashes():
    assert find_glint_trails(flashes(4, 42.0, 40.0), FWHM, AREA) == []


def test_parallel_trails_are_not_in_line():
    parallel = [DetectedSegment(300.0 + 3 * k, 300.0 + 60 * k, 25.0, 10.0, 20.0) for k in range(8)]
    assert find_glint_trails(parallel, FWHM, AREA) == []


def test_asteroids_of_one_family_move_alike_and_are_hardly_ever_in_line():
    found = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        trails = [one._replace(angle=float(20 + rng.normal(0, 8))) for one in crowd(12, seed, (8.0, 25.0))]
        found += len(find_glint_trails(trails, FWHM, AREA))
    assert found <= 1


def test_chance_makes_hardly_any():
    assert sum(len(find_glint_trails(crowd(90, seed), FWHM, AREA)) for seed in range(60)) <= 1


def test_nothing_gives_nothing():
    assert find_glint_trails([], FWHM, AREA) == []
    assert find_glint_trails(crowd(1, 0), FWHM, AREA) == []


def test_a_flood_is_bounded():
    assert len(find_glint_trails(crowd(3000, 1, (0, 2)), FWHM, AREA)) <= 2
