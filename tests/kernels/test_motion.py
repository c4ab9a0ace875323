import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time

from flows.simulation.asteroids import Asteroid
from kernels.motion import along_great_circle, separation

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
