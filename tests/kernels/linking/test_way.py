import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from kernels.linking.detections import detections_at
from kernels.linking.way import fitting_neighbours, on_the_way, room, tolerances

SIGMA, HOURS, WAY = 0.2, 2.0, 3600.0  # arcsec; h; arcsec
START = SkyCoord(150 * u.deg, 20 * u.deg)
KNOWN = 3 * SIGMA * np.sqrt(1.5) + 0.3  # arcsec: halfway between two detections with the same errors


def seen(along, across=0.0, hours=None):
    """Detections near a great circle towards the north-east, arcsec along and across it, evenly in the time given."""
    along, across = np.broadcast_arrays(np.asarray(along, float), across)
    places = START.directional_offset_by(40 * u.deg, along * u.arcsec)
    heading = places.position_angle(START.directional_offset_by(40 * u.deg, 10 * u.deg))
    places = places.directional_offset_by(heading + 90 * u.deg, across * u.arcsec)
    hours = np.linspace(0, HOURS, len(along)) if hours is None else np.asarray(hours)
    return detections_at(places.ra.deg, places.dec.deg, 60000 + hours / 24, np.full(len(along), SIGMA))


def room_halfway(along, across, widely):
    """Room of a detection halfway in time between two that are 1 deg apart in two hours."""
    detections = seen([0, WAY / 2 + along, WAY], [0, across, 0])
    one = np.array([0])
    return float(room(detections, one, one + 2, np.array([WAY]), one + 1, widely)[0])


def ellipse(along, across):
    """Its area, deg2, of semi-axes in arcsec."""
    return np.pi * along * across / 3600**2


def test_room_on_the_way_is_one_deviation_wide():
    bend = WAY * HOURS / 4
    area = ellipse((KNOWN + 0.015 * bend) / 3, (KNOWN + 0.004 * bend) / 3)
    assert room_halfway(0, 0, False) == pytest.approx(area, rel=1e-6)
    assert room_halfway(0, 0, True) == pytest.approx(area, rel=1e-6)  # the wide way takes more


@pytest.mark.parametrize("off", [0.5, 1.5, 2.9])
def test_room_grows_with_the_likelihood_of_what_is_off(off):
    across = (KNOWN + 0.004 * WAY * HOURS / 4) / 3
    assert room_halfway(0, off * across, False) == pytest.approx(room_halfway(0, 0, False) * np.exp(off**2 / 2), 1e-3)


def test_what_fits_widely_only_has_room_where_that_is_asked_for():
    across = KNOWN + 0.004 * WAY * HOURS / 4
    wide = KNOWN + 3 * 0.004 * WAY * HOURS / 4
    assert room_halfway(0, 1.1 * across, False) == np.inf
    along = KNOWN + np.hypot(0.015, 3 * np.radians(1) / HOURS) * WAY * HOURS / 4
    often = 5 * ellipse(along / 3, wide / 3) * np.exp((3 * 1.1 * across / wide) ** 2 / 2)
    assert room_halfway(0, 1.1 * across, True) == pytest.approx(often, rel=1e-3)
    assert room_halfway(0, 1.05 * wide, True) == np.inf


def test_rooms_are_those_of_each_alone():
    detections = seen([0, 1800.0, 1802.0, 3600.0], [0, 0, 4.0, 0], [0, 1, 1, 2])
    i, j, member = np.array([0, 0]), np.array([3, 3]), np.array([1, 2])
    both = room(detections, i, j, np.full(2, WAY), member, False)
    alone = [room(detections, i[:1], j[:1], np.array([WAY]), member[n : n + 1], False)[0] for n in (0, 1)]
    assert both == pytest.approx(alone)


def test_steady_motion_is_on_the_way_at_any_time():
    detections, one = seen([0, WAY]), np.array([0])
    for part in (-0.5, 0.0, 0.25, 1.0, 1.5):
        place = on_the_way(detections, one, one + 1, np.array([WAY]), detections.mjd[:1] + part * HOURS / 24)
        truth = START.directional_offset_by(40 * u.deg, part * WAY * u.arcsec)
        assert place[0] == pytest.approx(truth.cartesian.xyz.value, abs=1e-9)


def test_what_turns_aside_is_allowed_less_unless_widely():
    along, across = tolerances(0.2, 3600.0, 2 / 24, 0.5)
    assert (along, across) == (pytest.approx(0.9 + 0.015 * 1800), pytest.approx(0.9 + 0.004 * 1800))
    assert tolerances(0.2, 3600.0, 2 / 24, 0.5, wide=True)[1] == pytest.approx(0.9 + 3 * 0.004 * 1800)
    assert tolerances(0.2, 3600.0, 2 / 24, 1.0) == (pytest.approx(0.9), pytest.approx(0.9))


@pytest.mark.parametrize("odd", [0, 2, 5])
def test_the_detection_that_fits_worst_is_taken_out(odd):
    across = np.zeros(6)
    across[odd] = 60.0
    along = np.linspace(0, 300.0, 6)
    assert fitting_neighbours(seen(along), np.arange(6)).all()
    assert np.flatnonzero(~fitting_neighbours(seen(along, across), np.arange(6))).tolist() == [odd]


def test_three_detections_are_left_however_they_lie():
    assert fitting_neighbours(seen([0, 30.0, 60.0], [0, 500.0, 0]), np.arange(3)).all()
    rng = np.random.default_rng(3)
    assert fitting_neighbours(seen(rng.uniform(0, 3000, 8), rng.uniform(-900, 900, 8)), np.arange(8)).sum() == 3
