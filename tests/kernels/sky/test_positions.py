import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time
from cdshealpix.nested import lonlat_to_healpix
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.simulation.asteroids import Asteroid
from kernels.sky.positions import (
    along_great_circle,
    directional_distance,
    merge_positions,
    object_ids,
    separation,
    sky_position,
    unit_vectors,
)

RNG = np.random.default_rng(4)
N = 200
RA, DEC, ANGLE = RNG.uniform(0, 360, N), np.degrees(np.arcsin(RNG.uniform(-1, 1, N))), RNG.uniform(0, 360, N)


@pytest.mark.parametrize("arc", [-40.0, -1e-6, 1e-4, 0.5, 170.0])
def test_ends_are_those_of_astropy(arc):
    start = SkyCoord(RA, DEC, unit="deg")
    end = start.directional_offset_by(ANGLE * u.deg, arc * u.deg)
    ra, dec, angle = along_great_circle(RA, DEC, ANGLE, np.full(N, arc))
    assert SkyCoord(ra, dec, unit="deg").separation(end).arcsec.max() < 1e-6
    back = end.position_angle(start).deg + (180 if arc > 0 else 0)
    tolerance = 1e-6 + 1e-12 / abs(np.radians(arc))  # degrees; what two close points tell of a direction
    assert np.abs((angle - back + 180) % 360 - 180).max() < max(tolerance, 2e-4 if abs(arc) < 1e-3 else 0)


def test_short_ways_are_the_proper_motion_of_astropy():
    # Nearby, so that a fast one is slower than light.
    rate = RNG.uniform(1, 400, N)  # arcsec / h
    per_year = rate * u.arcsec / u.hour
    start = SkyCoord(
        RA * u.deg,
        DEC * u.deg,
        pm_ra_cosdec=per_year * np.sin(np.radians(ANGLE)),
        pm_dec=per_year * np.cos(np.radians(ANGLE)),
        distance=np.full(N, 1e-7) * u.pc,
        obstime=Time(61000.0, format="mjd", scale="tai"),
    )
    there = start.apply_space_motion(dt=2 * u.hour)
    ra, dec, _ = along_great_circle(RA, DEC, ANGLE, 2 * rate / 3600)
    offsets = SkyCoord(ra, dec, unit="deg").spherical_offsets_to(SkyCoord(there.ra, there.dec))
    assert max(np.abs(part.arcsec).max() for part in offsets) < 0.01


def test_small_offsets_are_spherical_offsets():
    start, arc = SkyCoord(RA, DEC, unit="deg"), np.full(N, 30 / 3600)
    ra, dec, _ = along_great_circle(RA, DEC, ANGLE, arc)
    east, north = start.spherical_offsets_to(SkyCoord(ra, dec, unit="deg"))
    np.testing.assert_allclose(east.arcsec, 30 * np.sin(np.radians(ANGLE)), atol=1e-4)
    np.testing.assert_allclose(north.arcsec, 30 * np.cos(np.radians(ANGLE)), atol=1e-4)


def test_way_there_and_back_ends_where_it_began():
    ra, dec, angle = along_great_circle(RA, DEC, ANGLE, np.full(N, 73.0))
    ra, dec, angle = along_great_circle(ra, dec, angle, np.full(N, -73.0))
    assert SkyCoord(ra, dec, unit="deg").separation(SkyCoord(RA, DEC, unit="deg")).arcsec.max() < 1e-6
    np.testing.assert_allclose((angle - ANGLE + 180) % 360, 180, atol=1e-6)


def test_way_over_the_pole_goes_on_southwards():
    ra, dec, angle = along_great_circle(np.array([30.0]), np.array([89.0]), np.array([0.0]), np.array([2.0]))
    assert (ra[0], dec[0], angle[0]) == pytest.approx((210.0, 89.0, 180.0))


def test_simulated_asteroids_move_so():
    asteroid = Asteroid("a", 12.0, -34.0, 60000.0, 300.0, 77.0, 20.0)
    ra, dec, _ = along_great_circle(*(np.array([v]) for v in (12.0, -34.0, 77.0, 300.0 / 3600 * 24 * 0.3)))
    assert asteroid.at(60000.3) == pytest.approx((ra[0], dec[0]), abs=1e-9)


def test_separation_is_that_of_astropy():
    expected = SkyCoord(RA, DEC, unit="deg").separation(SkyCoord(80.0, -12.0, unit="deg")).deg
    np.testing.assert_allclose(separation(RA, DEC, 80.0, -12.0), expected, atol=1e-10)


RADIUS = 1.0


def placed(offsets, ra=200.0, dec=50.0):
    """Directions of offsets (n, 2) in arcsec to the east and north."""
    east, north = np.array(offsets, float).reshape(-1, 2).T / 3600
    return unit_vectors(ra + east / np.cos(np.radians(dec)), dec + north)


def merged(offsets, exposure, weight=None, **place):
    weight = np.ones(len(exposure)) if weight is None else np.array(weight, float)
    radius = np.full(len(exposure), RADIUS)
    return merge_positions(placed(offsets, **place), np.array(exposure), weight, radius).tolist()


def test_sources_of_several_exposures_at_one_place_are_one_object():
    assert merged([(0, 0), (0.3, 0), (0, 0.4), (50, 0)], [0, 1, 2, 1]) == [0, 0, 0, 1]


def test_two_of_one_exposure_are_two_and_the_nearer_one_is_taken():
    assert merged([(0, 0), (0.6, 0), (0.2, 0)], [0, 1, 1], [9, 1, 1]) == [0, 1, 0]


def test_the_strongest_begins_and_chains_do_not_grow():
    # 0.8 arcsec steps: only the neighbours of the strongest are within its radius
    assert merged([(0, 0), (0.8, 0), (1.6, 0), (2.4, 0)], [0, 1, 2, 3], [1, 9, 1, 1]) == [0, 0, 0, 1]


def test_holds_at_the_meridian_and_near_the_pole():
    assert merged([(-0.2, 0), (0.2, 0)], [0, 1], ra=0.0) == [0, 0]
    assert merged([(-0.2, 0), (0.2, 0)], [0, 1], dec=89.99) == [0, 0]


def test_nothing_gives_nothing():
    assert merge_positions(np.zeros((0, 3)), np.zeros(0, int), np.zeros(0), np.zeros(0)).tolist() == []


def test_of_two_radii_the_larger_one_counts():
    near = placed([(0, 0), (0.8, 0), (1.6, 0)])
    for radii, found in (((0.5, 0.5, 0.5), [0, 1, 2]), ((0.5, 0.9, 0.5), [0, 0, 1]), ((0.9, 0.5, 0.5), [0, 0, 1])):
        assert merge_positions(near, np.arange(3), np.array([2.0, 1, 1]), np.array(radii)).tolist() == found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.integers(0, 3)), min_size=1, max_size=25))
def test_no_object_is_wider_than_allowed_or_has_two_of_an_exposure(sources):
    offsets, exposure = [one[:2] for one in sources], np.array([one[2] for one in sources])
    weight = np.random.default_rng(len(sources)).permutation(len(sources)).astype(float)
    found = np.array(merged(offsets, exposure, weight))
    assert set(found) == set(range(found.max() + 1))
    for number in range(found.max() + 1):
        mine = np.flatnonzero(found == number)
        assert len(set(exposure[mine])) == len(mine)
        seed = mine[np.argmax(weight[mine])]
        distance = np.hypot(*(np.array(offsets)[mine] - np.array(offsets)[seed]).T)
        assert distance.max() <= RADIUS * 1.001


def test_positions_go_there_and_back():
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 50), rng.uniform(-90, 90, 50)
    back = SkyCoord(*sky_position(3.7 * unit_vectors(ra, dec)), unit="deg")
    assert back.separation(SkyCoord(ra, dec, unit="deg")).arcsec.max() < 1e-6


def test_what_is_hardly_short_of_a_whole_turn_is_at_its_beginning():
    assert sky_position(unit_vectors(np.array([360.0, -1e-15]), np.array([10.0, -60.0])))[0].tolist() == [0.0, 0.0]
    ra, _, angle = along_great_circle(np.zeros(2), np.array([10.0, -60.0]), np.array([360.0, -1e-15]), np.full(2, 5.0))
    assert np.abs([ra, angle]).max() < 1e-12


def test_ids_are_those_of_another_library():
    from astropy.coordinates import Latitude, Longitude

    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, 200), np.degrees(np.arcsin(rng.uniform(-1, 1, 200)))
    theirs = lonlat_to_healpix(Longitude(ra, "deg"), Latitude(dec, "deg"), 29)
    ours = object_ids(ra, dec)
    assert ours.dtype == np.int64
    np.testing.assert_array_equal(ours, theirs.astype(np.int64))
    assert ours.min() >= 0


def test_sources_within_the_radius_are_one_object_and_further_ones_are_not():
    assert merged([(0, 0), (0, 0.9999)], [0, 1]) == [0, 0]
    assert merged([(0, 0), (0, 1.0001)], [0, 1]) == [0, 1]


def test_of_equally_near_sources_the_first_of_the_list_is_taken():
    offsets = [(0, 0), (0.5, 0), (0.5, 0), (0.5, 0)]
    assert merged(offsets, [0, 1, 1, 1], [9, 1, 1, 1]) == [0, 0, 1, 2]
    assert merged(offsets[::-1], [1, 1, 1, 0], [1, 1, 1, 9]) == [0, 1, 2, 0]


def test_opposite_directions_are_180_degrees_apart():
    found = [separation(np.array([ra + 180]), np.array([-dec]), ra, dec)[0] for ra, dec in zip(RA, DEC, strict=True)]
    np.testing.assert_allclose(found, 180, atol=1e-5)


def in_radii(*values):
    return directional_distance(*(np.array([value], float) for value in values))[0]


@given(st.floats(0, 360), st.floats(0.5, 20))
def test_a_round_object_has_one_radius(direction, radius):
    assert in_radii(3.0, direction, radius, 1.0, 40.0) == pytest.approx(3.0 / radius)


def test_an_ellipse_is_longer_along_its_major_axis():
    assert in_radii(2.0, 30, 1.0, 4.0, 30) == pytest.approx(1.0)  # a = 2
    assert in_radii(0.5, 120, 1.0, 4.0, 30) == pytest.approx(1.0)  # b = 1/2
    assert in_radii(2.0, 30 + 180, 1.0, 4.0, 30) == pytest.approx(1.0)


@given(st.floats(0, 180), st.floats(1, 5))
def test_one_is_on_the_ellipse(angle, elongation):
    a, b = np.sqrt(elongation), 1 / np.sqrt(elongation)
    t = np.radians(50)
    along, across = a * np.cos(t), b * np.sin(t)
    assert in_radii(np.hypot(along, across), angle + np.degrees(np.arctan2(across, along)), 1.0, elongation, angle) == (
        pytest.approx(1.0)
    )
