import numpy as np
import pytest

from kernels.linking.detections import detections_at
from kernels.linking.trails import chance_of_direction, chance_of_trails, has_direction, look_alike

FIRST, SECOND = np.array([0]), np.array([1])


def trails(length, angle=0.0, ra=(0.0, 0.0), dec=(0.0, 0.5), **known):
    """Two detections with trails, the second half a degree north of the first."""
    known = {"trail_length": length, "trail_angle": angle, "length_error": np.nan, "angle_error": np.nan} | known
    columns = {name: np.broadcast_to(np.asarray(value, float), 2) for name, value in known.items()}
    return detections_at(np.array(ra), np.array(dec), np.array([60000.0, 60000.02]), np.full(2, 0.2), **columns)


@pytest.mark.parametrize(
    ("trail", "found"),
    [
        ({"length": 3.0}, True),
        ({"length": 2.99}, False),
        ({"length": np.nan}, False),
        ({"length": 30.0, "angle": np.nan}, False),
        ({"length": 10.0, "length_error": 2.0}, True),  # 5 standard deviations
        ({"length": 10.0, "length_error": 2.01}, False),
        ({"length": 30.0, "angle_error": 19.9}, True),
        ({"length": 30.0, "angle_error": 20.0}, False),  # anywhere within 60 deg
    ],
)
def test_long_trails_of_a_known_angle_have_a_direction(trail, found):
    assert has_direction(trails(**trail), np.array([0, 1])).tolist() == [found, found]


def test_directions_are_those_of_each():
    detections = trails([30.0, 1.0])
    assert has_direction(detections, np.array([1, 0, 0])).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("changed", "alike"),
    [
        ({}, True),
        ({"length": (1.0, 3.5)}, True),  # seeing may hide 2.5 arcsec
        ({"length": (1.0, 3.6)}, False),
        ({"length": (30.0, 42.0)}, True),  # a third apart
        ({"length": (30.0, 44.0)}, False),
        ({"length": (30.0, 44.0), "length_error": 4.0}, True),  # within 3 standard deviations of both
        ({"length": np.nan}, True),
        ({"magnitude": (20.0, 22.5)}, True),
        ({"magnitude": (22.6, 20.0)}, False),
        ({"magnitude": (22.6, np.nan)}, True),
        ({"angle": 5.0}, True),  # along the way to the north
        ({"angle": 5.1}, False),
        ({"angle": 175.0}, True),
        ({"angle": (90.0, 0.0)}, False),
        ({"angle": (0.0, 90.0)}, False),
        ({"angle": 90.0, "length": 2.0}, True),  # too short to have a direction
        ({"angle": 14.0, "angle_error": 5.0}, True),
        ({"angle": 90.0, "ra": (0.0, 0.5), "dec": (0.0, 0.0)}, True),
        ({"angle": 0.0, "ra": (0.0, 0.5), "dec": (0.0, 0.0)}, False),
    ],
)
def test_one_object_leaves_trails_along_its_way_and_alike(changed, alike):
    assert look_alike(trails(**({"length": 30.0} | changed)), FIRST, SECOND).tolist() == [alike]


def test_chance_is_that_of_the_directions_and_of_the_lengths():
    sharp, none = trails(30.0), trails(1.0)
    assert chance_of_direction(sharp, FIRST) == pytest.approx([5 / 90])
    assert chance_of_direction(trails(30.0, angle_error=6.0), FIRST) == pytest.approx([18 / 90])
    assert chance_of_direction(none, FIRST) == [1.0]
    assert chance_of_trails(sharp, FIRST, SECOND) == pytest.approx([0.5 * (5 / 90) ** 2])
    assert chance_of_trails(none, FIRST, SECOND) == [1.0]
    assert chance_of_trails(trails([30.0, 1.0]), FIRST, SECOND) == pytest.approx([5 / 90])
