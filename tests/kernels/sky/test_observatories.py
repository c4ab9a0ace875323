import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation, get_body_barycentric_posvel
from astropy.time import Time

from kernels.sky.observatories import (
    AU_KM,
    GEOCENTRE,
    OBSERVATORIES,
    geocentric_km,
    heliocentric_km,
    observer_at,
    place_on_earth,
)

MJD = np.array([51544.5, 58000.3, 60000.7])
# Geodetic longitude, latitude, deg, and height, m, as the observatories state them.
SITES = {"I41": (-116.8597, 33.3573, 1706), "W84": (-70.8065, -30.1692, 2207), "F51": (-156.2559, 20.7072, 3052)}


@pytest.mark.parametrize("code", SITES)
def test_observatories_are_where_astropy_puts_them(code):
    place = EarthLocation.from_geodetic(*SITES[code])
    expected = place.get_gcrs_posvel(Time(MJD, format="mjd", scale="utc"))[0].xyz.to_value(u.km).T
    assert geocentric_km(code, MJD, "utc") == pytest.approx(expected, abs=1.0)


def test_the_earth_is_where_astropy_puts_it():
    time = Time(MJD, format="mjd", scale="utc")
    earth, sun = (get_body_barycentric_posvel(body, time, ephemeris="builtin") for body in ("earth", "sun"))
    place, velocity = heliocentric_km(GEOCENTRE, MJD, "utc")
    assert place == pytest.approx((earth[0] - sun[0]).xyz.to_value(u.km).T, abs=1.0)
    assert velocity == pytest.approx((earth[1] - sun[1]).xyz.to_value(u.km / u.s).T, abs=1e-5)
    assert np.linalg.norm(place, axis=1) / AU_KM == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("code", ["I41", GEOCENTRE])
def test_the_scale_of_times_is_minded(code):
    tai = Time(MJD, format="mjd", scale="utc").tai.mjd
    same, other = heliocentric_km(code, tai, "tai")[0], heliocentric_km(code, tai, "utc")[0]
    assert same == pytest.approx(heliocentric_km(code, MJD, "utc")[0], abs=0.1)
    assert np.linalg.norm(other - same, axis=1).min() > 500  # 32 s and more at 30 km / s


def test_far_times_are_places_too():
    assert np.isfinite(heliocentric_km("X05", np.array([15020.0, 88069.0]), "utc")[0]).all()


def test_observatories_lie_on_the_earth():
    for code, (longitude, cos, sin) in OBSERVATORIES.items():
        assert 0 <= longitude < 360
        assert code == GEOCENTRE or 0.9966 < np.hypot(cos, sin) < 1.001


@pytest.mark.parametrize("code", SITES)
def test_a_place_on_the_earth_is_that_of_the_ellipsoid(code):
    longitude, latitude, height = SITES[code]
    lat, squared = np.radians(latitude), 0.00669437999014  # of WGS 84
    curve = 6378137.0 / np.sqrt(1 - squared * np.sin(lat) ** 2)
    expected = (curve + height) * np.cos(lat) / 6378137.0, (curve * (1 - squared) + height) * np.sin(lat) / 6378137.0
    found = place_on_earth(longitude, latitude, height)
    assert found[0] == longitude
    assert found[1:] == pytest.approx(expected, abs=2e-6)


def test_the_parallax_of_what_is_1_au_away_is_in_doubt_where_the_place_on_the_earth_is_not_known():
    radius = np.degrees(6378.137 / AU_KM) * 3600
    assert observer_at(60000.0, OBSERVATORIES[GEOCENTRE]).parallax == pytest.approx(radius, rel=1e-4)
    assert observer_at(60000.0, OBSERVATORIES["I41"]).parallax == 0
