import numpy as np
from astropy.coordinates import SkyCoord
from cdshealpix.nested import lonlat_to_healpix
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.position_merge import merge_positions, object_ids, sky_position, unit_vectors

RADIUS = 1.0


def placed(offsets, ra=200.0, dec=50.0):
    """Directions of offsets (n, 2) in arcsec to the east and north."""
    east, north = np.array(offsets, float).reshape(-1, 2).T / 3600
    return unit_vectors(ra + east / np.cos(np.radians(dec)), dec + north)


def merged(offsets, exposure, weight=None, **place):
    weight = np.ones(len(exposure)) if weight is None else np.array(weight, float)
    return merge_positions(placed(offsets, **place), np.array(exposure), weight, RADIUS).tolist()


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
    assert merge_positions(np.zeros((0, 3)), np.zeros(0, int), np.zeros(0), RADIUS).tolist() == []


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


def test_ids_are_those_of_another_library():
    from astropy.coordinates import Latitude, Longitude

    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, 200), np.degrees(np.arcsin(rng.uniform(-1, 1, 200)))
    theirs = lonlat_to_healpix(Longitude(ra, "deg"), Latitude(dec, "deg"), 29)
    ours = object_ids(ra, dec)
    assert ours.dtype == np.int64
    np.testing.assert_array_equal(ours, theirs.astype(np.int64))
    assert ours.min() >= 0
