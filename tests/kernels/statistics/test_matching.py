import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from kernels.statistics.matching import Targets, match_detections, segment_distance


def targets_of(*rows):
    kind, *numbers = zip(*rows, strict=True) if rows else ([], [], [], [], [], [])
    return Targets(np.array(kind, str), *(np.array(values, float) for values in numbers))


def detections_of(*rows):
    return tuple(np.array(values, float) for values in zip(*rows, strict=True)) if rows else (np.empty(0),) * 3


coordinate = st.floats(0, 40)
detection = st.tuples(coordinate, coordinate, st.sampled_from([0.1, 0.5, 0.5, 0.9]))
target = st.tuples(
    st.sampled_from(["streak", "streak", "streak", "point", "satellite"]),
    coordinate,
    coordinate,
    st.floats(0, 30),
    st.floats(0, 179),
    st.sampled_from([0.3, 0.5, 1.0]),
)
scene = st.tuples(st.lists(detection, max_size=12), st.lists(target, max_size=10))


def matched(detections, targets):
    return match_detections(*detections_of(*detections), targets_of(*targets))


def reach(length):
    return max(3.0, length / 2 + 2.0)


def plain(detections, targets):
    """Rule as written: best score first, nearest free streak within reach."""
    target, taken = [-1] * len(detections), set()
    for i in sorted(range(len(detections)), key=lambda i: -detections[i][2]):
        free = [
            (math.hypot(detections[i][0] - x, detections[i][1] - y), j)
            for j, (kind, x, y, length, _, visible) in enumerate(targets)
            if kind == "streak" and visible >= 0.5 and j not in taken
            if math.hypot(detections[i][0] - x, detections[i][1] - y) <= reach(length)
        ]
        if free:
            target[i] = min(free)[1]
            taken.add(target[i])
    return target


@settings(deadline=None)
@given(scene)
def test_agrees_with_the_rule_written_plainly(scene):
    assert matched(*scene).target.tolist() == plain(*scene)


@settings(deadline=None)
@given(scene)
def test_one_to_one_and_within_reach(scene):
    detections, targets = scene
    target = matched(detections, targets).target
    used = target[target >= 0]
    assert len(set(used.tolist())) == len(used)
    for i, j in enumerate(target):
        if j >= 0:
            kind, x, y, length, _, visible = targets[j]
            assert kind == "streak"
            assert visible >= 0.5
            assert math.hypot(detections[i][0] - x, detections[i][1] - y) <= reach(length)


@settings(deadline=None)
@given(scene)
def test_finds_at_least_half_of_what_any_assignment_could(scene):
    detections, targets = scene
    possible = np.array(
        [
            [
                k == "streak" and v >= 0.5 and math.hypot(dx - x, dy - y) <= reach(length)
                for k, x, y, length, _, v in targets
            ]
            for dx, dy, _ in detections
        ]
    ).reshape(len(detections), len(targets))
    most = possible[linear_sum_assignment(possible, maximize=True)].sum() if possible.size else 0
    assert 2 * (matched(detections, targets).target >= 0).sum() >= most


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-4, 4), st.floats(-4, 4), st.floats(0, 1)), max_size=20), st.integers(0, 6))
def test_is_the_best_assignment_where_streaks_are_far_apart(offsets, seed):
    rng = np.random.default_rng(seed)
    targets = [("streak", 100.0 * i, 0.0, float(rng.uniform(0, 4)), 0.0, 1.0) for i in range(5)]
    detections = [(100.0 * (i % 5) + dx, dy, score) for i, (dx, dy, score) in enumerate(offsets)]
    reachable = {
        i % 5
        for i, (dx, dy, _) in enumerate(offsets)
        if math.hypot(100.0 * (i % 5) + dx - 100.0 * (i % 5), dy) <= reach(targets[i % 5][3])
    }
    assert set(matched(detections, targets).target.tolist()) - {-1} == reachable


@settings(deadline=None)
@given(scene, st.floats(0, 1))
def test_raising_the_threshold_changes_no_verdict_on_the_rest(scene, threshold):
    detections, targets = scene
    everything = matched(detections, targets)
    kept = np.array([score >= threshold for *_, score in detections], bool)
    fewer = matched([d for d, keep in zip(detections, kept, strict=True) if keep], targets)
    np.testing.assert_array_equal(fewer.target, everything.target[kept])
    np.testing.assert_array_equal(fewer.false, everything.false[kept])


@pytest.mark.parametrize(("offset", "length", "found"), [(2.9, 0, 1), (3.1, 0, 0), (11.9, 20, 1), (12.1, 20, 0)])
def test_reach_of_a_streak(offset, length, found):
    verdict = matched([(50 + offset, 50, 1)], [("streak", 50, 50, length, 90, 1)])
    assert (verdict.target[0] == 0) == found
    assert verdict.false[0] != found


def test_second_detection_of_a_streak_is_false():
    verdict = matched([(50, 50, 0.2), (51, 50, 0.9)], [("streak", 50, 50, 0, 0, 1)])
    assert verdict.target.tolist() == [-1, 0]
    assert verdict.false.tolist() == [True, False]


@pytest.mark.parametrize(
    "there", [("point", 50, 50, 0, 0, 1), ("streak", 50, 50, 0, 0, 0.4), ("satellite", 50, 50, 80, 30, 1)]
)
def test_what_does_not_count_is_neither_found_nor_false(there):
    verdict = matched([(50, 51, 0.9), (51, 50, 0.5), (70, 20, 0.5)], [there])
    assert verdict.target.tolist() == [-1, -1, -1]
    assert verdict.false.tolist() == [False, False, True]


def test_streak_is_preferred_to_a_point_beneath_it():
    verdict = matched([(50, 50, 0.9)], [("point", 50, 50, 0, 0, 1), ("streak", 51, 50, 0, 0, 1)])
    assert verdict.target.tolist() == [1]


def test_satellite_takes_detections_along_all_of_its_line():
    along = [(100 + t * math.cos(math.radians(20)), 200 + t * math.sin(math.radians(20)), 0.5) for t in (-149, 0, 149)]
    assert not matched(along, [("satellite", 100, 200, 300, 20, 1)]).false.any()
    assert matched([(100, 210, 0.5)], [("satellite", 100, 200, 300, 20, 1)]).false.all()


@pytest.mark.parametrize(
    ("point", "distance"), [((5, 0), 0), ((10, 0), 0), ((13, 0), 3), ((13, 4), 5), ((0, 7), 7), ((-13, -4), 5)]
)
def test_distance_from_a_segment(point, distance):
    for angle in (0, 37, 90, 180):
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        x, y = 3 + point[0] * c - point[1] * s, 4 + point[0] * s + point[1] * c
        found = segment_distance(np.array([x]), np.array([y]), 3, 4, 20, angle)
        assert found[0] == pytest.approx(distance, abs=1e-9)


def test_nothing_to_match():
    assert matched([], []).target.shape == (0,)
    assert matched([], [("streak", 1, 1, 0, 0, 1)]).false.shape == (0,)
    assert matched([(1, 1, 1)], []).false.tolist() == [True]


@settings(deadline=None)
@given(scene)
def test_false_is_what_found_nothing_and_lies_on_nothing(scene):
    detections, targets = scene
    found = matched(detections, targets)
    for (x, y, _), target, false in zip(detections, found.target, found.false, strict=True):
        on = [
            segment_distance(np.array([x]), np.array([y]), x0, y0, length, angle)[0] <= 6
            if kind == "satellite"
            else math.hypot(x - x0, y - y0) <= reach(length) and (kind == "point" or visible < 0.5)
            for kind, x0, y0, length, angle, visible in targets
        ]
        assert false == (target < 0 and not any(on))


@pytest.mark.parametrize(
    ("there", "reach"),
    [
        (("streak", 50, 50, 0, 90, 0.5), 3.0),
        (("streak", 50, 50, 2, 90, 1), 3.0),
        (("streak", 50, 50, 20, 90, 1), 12.0),
        (("point", 50, 50, 0, 0, 1), 3.0),
        (("streak", 50, 50, 20, 0, 0.49), 12.0),
        (("satellite", 50, 50, 80, 90, 1), 6.0),
    ],
)
@pytest.mark.parametrize("side", [-1, 1])
def test_limits_belong_to_what_is_there(there, reach, side):
    assert not matched([(50 + side * reach, 50, 1)], [there]).false[0]
    assert matched([(50 + side * (reach + 1e-9), 50, 1)], [there]).false[0]


def test_half_of_a_streak_must_be_visible_to_be_found():
    for visible, target in ((0.5, 0), (0.49, -1)):
        assert matched([(50, 50, 1)], [("streak", 50, 50, 0, 0, visible)]).target[0] == target
