import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from kernels.trails.candidates import assign_hits, group_hits, split_hits
from kernels.trails.geometry import DetectedSegment


def partition(labels, places):
    groups = {}
    for label, place in zip(labels, places, strict=True):
        groups.setdefault(int(label), set()).add(place)
    return {frozenset(group) for group in groups.values()}


grids = st.sets(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=40)


@given(grids)
def test_step_of_one_is_8_connectivity(places):
    places = sorted(places)
    grid = np.zeros((15, 15), int)
    for place in places:
        grid[place] = 1
    theirs, _ = ndimage.label(grid, np.ones((3, 3)))
    row, column = np.array(places, int).reshape(-1, 2).T
    ours = group_hits(row, column, 1)
    assert partition(ours, places) == partition([theirs[place] for place in places], places)


@settings(max_examples=50)
@given(grids, st.randoms(use_true_random=False), st.integers(1, 3))
def test_order_does_not_matter_and_labels_count_up(places, random, reach):
    places = sorted(places)
    shuffled = random.sample(places, len(places))
    row, column = np.array(places, int).reshape(-1, 2).T
    labels = group_hits(row, column, reach)
    row2, column2 = np.array(shuffled, int).reshape(-1, 2).T
    assert partition(labels, places) == partition(group_hits(row2, column2, reach), shuffled)
    firsts = [int(label) for i, label in enumerate(labels) if label not in labels[:i]]
    assert firsts == list(range(len(firsts)))


@pytest.mark.parametrize(("reach", "groups"), [(1, 2), (2, 1)])
def test_longer_step_bridges_a_gap(reach, groups):
    assert group_hits(np.array([5, 5]), np.array([3, 5]), reach).max() + 1 == groups


def test_cells_are_squares_of_the_grid():
    labels = split_hits(np.array([0, 3, 4, 0]), np.array([0, 3, 0, 4]), 4)
    np.testing.assert_array_equal(labels, [0, 0, 1, 2])


def test_window_goes_to_the_trail_near_its_centre():
    trails = [DetectedSegment(100.0, 100.0, 40.0, 0.0, 12.0), DetectedSegment(100.0, 110.0, 40.0, 0.0, 8.0)]
    x, y = np.full(4, 100.0), np.array([94.0, 100.0, 113.0, 160.0])
    np.testing.assert_array_equal(assign_hits(x, y, 26, trails), [0, 0, 1, -1])


def test_no_trail_owns_nothing():
    np.testing.assert_array_equal(assign_hits(np.zeros(3), np.zeros(3), 26, []), [-1, -1, -1])


def test_of_two_at_the_same_place_the_more_significant_wins():
    trails = [DetectedSegment(50.0, 50.0, 0.0, 0.0, 6.0), DetectedSegment(52.0, 50.0, 0.0, 0.0, 60.0)]
    np.testing.assert_array_equal(assign_hits(np.array([50.0]), np.array([50.0]), 26, trails), [1])


def test_a_trail_counts_as_much_in_a_window_as_lies_near_its_centre():
    """The whole within 0.3 of a window's side, nothing beyond 0.56, linearly between: as the root of a mean square."""
    window, far = 50, DetectedSegment(0.0, 0.0, 0.0, 0.0, 1.0)
    for apart, weight in (
        (14.9, 1.0),
        (15.1, 12.9 / 13),
        (20.0, 8 / 13),
        (27.0, 1 / 13),
        (27.9, 0.1 / 13),
        (28.1, 0.0),
    ):
        for x, y in ((apart, 0.0), (0.0, -apart), (-apart, apart)):
            for margin, wins in ((0.99, 0), (1.01, 1)):
                rival = DetectedSegment(0.0, 0.0, 0.0, 0.0, max(weight, 1e-9) * margin)
                trails = [far._replace(x=x, y=y), rival]
                (best,) = assign_hits(np.zeros(1), np.zeros(1), window, trails)
                assert best == wins or weight == 0
            alone = assign_hits(np.zeros(1), np.zeros(1), window, [far._replace(x=x, y=y)])
            assert alone.tolist() == [0 if weight else -1]
    line = DetectedSegment(0.0, 0.0, 80.0, 0.0, 1.0)  # 41 points, 2 px apart
    weights = np.clip((0.56 - np.abs(np.arange(-40, 41, 2)) / window) / 0.26, 0, 1)
    for margin, wins in ((0.99, 0), (1.01, 1)):
        rival = far._replace(snr=margin * np.sqrt(np.mean(weights**2)))
        assert assign_hits(np.zeros(1), np.zeros(1), window, [line, rival]).tolist() == [wins]
