import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from kernels.orbits.matching import match_ephemerides, near_radius

AT = SkyCoord(210.0, 40.0, unit="deg")


def around(*offsets):
    """Right ascension and declination of places at position angles (deg) and distances (arcsec) from one place."""
    places = [AT.directional_offset_by(angle * u.deg, away * u.arcsec) for angle, away in offsets]
    return tuple(np.array([getattr(one, name).deg for one in places]) for name in ("ra", "dec"))


def known(*offsets, angle=0.0, uncertainty=0.0):
    count = len(offsets)
    return (*around(*offsets), np.full(count, angle), np.full(count, uncertainty))


def matched(*args, **options):
    return [(one.detection, one.known) for one in match_ephemerides(*args, **options)]


@given(motion=st.floats(0, 360), turn=st.floats(0, 360), away=st.floats(0.1, 9.9))
def test_offsets_are_along_the_motion_and_to_its_right(motion, turn, away):
    """A detection at a position angle ``turn`` more than that of the motion."""
    (found,) = match_ephemerides((*around((motion + turn, away)), np.zeros(1)), known((0, 0), angle=motion), 10.0)
    right = away * np.sin(np.radians(turn))
    assert (found.along, found.across) == pytest.approx((away * np.cos(np.radians(turn)), right), abs=1e-3)
    assert found.apart == pytest.approx(away / 10, abs=1e-4)


@pytest.mark.parametrize(
    ("place", "error", "uncertainty", "there"),
    [
        ((30, 4.99), 0.0, 0.0, True), ((30, 5.01), 0.0, 0.0, False), ((30, 5.01), np.nan, 0.0, False),
        ((30, 7.99), 1.0, 0.0, True), ((30, 8.01), 1.0, 0.0, False),  # three times its error more
        ((30, 24.99), 0.0, 20.0, True), ((30, 25.01), 0.0, 20.0, False),  # along the motion the object's own
        ((210, 24.99), 0.0, 20.0, True), ((120, 4.99), 0.0, 20.0, True), ((120, 5.01), 0.0, 20.0, False),
        ((30, 27.99), 1.0, 20.0, True), ((30, 28.01), 1.0, 20.0, False),
    ],
)  # fmt: skip
def test_how_far_a_detection_may_be_off(place, error, uncertainty, there):
    seen = (*around(place), np.array([error]))
    assert matched(seen, known((0, 0), angle=30.0, uncertainty=uncertainty), 5.0) == [(0, 0)] * there


def test_what_is_near_may_be_off_by_more():
    wide = near_radius(2.0, np.array([1.0, 0.1, 0.01, 0.001, np.nan]), 30.0)
    np.testing.assert_allclose(wide, [2.15, 3.5, 17, 32, 2])
    seen = (*around((0, 3.0), (90, 100), (90, 116.9)), np.zeros(3))
    assert matched(seen, known((0, 0), (90, 100), (90, 100)), near_radius(2.0, np.array([1.0, 1.0, 0.01]), 30.0)) == [
        (1, 1), (2, 2),
    ]  # fmt: skip


def test_the_closest_go_together_first_and_nothing_twice():
    """Detections at 0, 3 and 9, objects at 1 and 4 arcsec: 1 and 4 are as near to 3 as to each other, but 0 is not."""
    seen = (*around((90, 0), (90, 3.1), (90, 9)), np.zeros(3))
    assert matched(seen, known((90, 1.5), (90, 4)), 6.0) == [(0, 0), (1, 1)]
    assert matched(seen, known((90, 3.2)), 6.0) == [(1, 0)]
    assert matched(seen, known((90, 1.5), (90, 4)), 6.0, agree=lambda n, k: n == 2) == [(2, 1)]
    assert matched(seen, known((90, 1.5), (90, 3.2), (90, 8)), 6.0) == [(0, 0), (1, 1), (2, 2)]


def test_nothing_matches_nothing():
    nothing = tuple(np.zeros(0) for _ in range(4))
    assert match_ephemerides(nothing[:3], known((0, 0)), 5.0) == match_ephemerides(
        (*around((0, 0)), np.zeros(1)), nothing, 5.0
    )
    assert match_ephemerides(nothing[:3], nothing, 5.0) == []


def test_each_detection_has_the_radius_of_its_own_error_and_each_object_its_own_motion():
    seen = (*around((0, 7), (90, 7), (180, 30)), np.array([0.0, 1.0, 0.0]))
    objects = (*around((0, 0), (180, 12)), np.array([90.0, 180.0]), np.array([0.0, 15.0]))
    assert matched(seen, objects, 5.0) == [(1, 0), (2, 1)]
