import numpy as np
import pytest

from kernels.linking.detections import detections_at
from kernels.linking.exposures import epochs_of
from kernels.linking.trails import (
    chance_of_direction,
    chance_of_trails,
    has_direction,
    look_alike,
    rarity_of_pairs,
    trails_of,
)

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


def with_trails(length, angle=0.0, **known):
    """Detections of one exposure, anywhere in a degree, with these trails."""
    rng, number = np.random.default_rng(2), len(length)
    angle = np.broadcast_to(np.asarray(angle, float), number)
    place = rng.uniform(0, 1, (2, number))
    known |= {"trail_length": np.asarray(length, float), "trail_angle": angle}
    return detections_at(*place, np.full(number, 60000.0), np.full(number, 0.2), **known)


def alike(length, angle=0.0, **known):
    return trails_of(with_trails(length, angle, **known), np.arange(len(length))).alike


def test_shares_are_of_trails_of_like_length_among_all_detections():
    assert alike([0.0, 40.0, 45.0, 20.0, 2.0], [0, 20, 110, 65, 0]) == pytest.approx([1, 0.4, 0.4, 0.2, 1])


def test_uncertain_lengths_are_like_more():
    assert alike([40.0, 60.0], [0, 90], length_error=np.full(2, 5.0)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("angle", [90.0, 179.0, -1.0, 180.0])
def test_parallel_trails_are_not_rare(angle):
    assert alike([20.0] * 10 + [0.0] * 90, [angle] * 10 + [0.0] * 90)[:10] == pytest.approx(np.full(10, 1.0))


def test_trails_of_all_directions_are_as_many_as_their_lengths_say():
    share = alike([20.0] * 36 + [0.0] * 400, np.append(np.arange(0, 180, 5), np.zeros(400)))
    assert share[:36] == pytest.approx(np.full(36, 36 / 436))


def test_pairs_are_as_rare_as_their_trails_but_never_more_than_lengths_alone():
    directed = np.array([True, True, False])
    assert rarity_of_pairs(directed, 0.1, np.array([0.05, 9.0, 0.05])) == pytest.approx([0.01, 1.0, 1.0])


def test_long_trails_are_only_compared_with_what_may_be_like_them():
    detections = with_trails([0.0, 2.9, 3.0, np.nan, 30.0, 5.4])
    trails = epochs_of(detections, np.arange(6))[0].trails
    assert trails.long.tolist() == [2, 3, 4, 5]
    assert trails.sure.tolist() == [False, False, False, False, True, False]
    assert trails_of(detections, np.array([0, 1])).tree is None
