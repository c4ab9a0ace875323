"""Motion and ephemerides of known objects, against an independent integration and published examples."""

import numpy as np
import pytest
from astropy.coordinates import get_body_barycentric
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.orbits.ephemeris import OrbitCatalogue, _is_known, _slack, observe
from kernels.orbits.motion import GAUSS, Orbits, _planets, perturbed, two_body
from kernels.sky.observatories import GEOCENTRE, OBSERVATORIES, observatory_of, observer_at
from kernels.sky.positions import separation, unit_vectors
from tests.support.orbits import PALOMAR, asteroids, comets, integrated, start

EPOCH = 61000.0


@pytest.mark.parametrize("days", [0.3, 180.0, -180.0])
@pytest.mark.parametrize("orbits", [asteroids(8, EPOCH), comets(EPOCH)], ids=["asteroids", "comets"])
def test_places_are_those_of_an_independent_integration(orbits, days):
    """All bodies about the barycentre, light time and the observatory by astropy: half an arcsec after half a year.

    Of comets any conic, through perihelion and away from it.
    """
    when = EPOCH + days
    seen = observe(orbits, observer_at(when, OBSERVATORIES["I41"]))
    ra, dec = integrated(orbits, [when], PALOMAR)
    off = np.linalg.norm(unit_vectors(seen.ra, seen.dec) - unit_vectors(ra[:, 0], dec[:, 0]), axis=1)
    assert np.degrees(off.max()) * 3600 < (0.05 if days == 0.3 else 0.5)


def test_brightness_of_comets_is_in_total():
    """M1 + 5 log delta + 2.5 K1 log r, of whatever phase; K1 is 4 where it is not known."""
    orbits = comets(EPOCH)
    seen = observe(orbits, observer_at(EPOCH, OBSERVATORIES[GEOCENTRE]))
    expected = orbits.magnitude + 5 * np.log10(seen.distance)
    expected += np.array([10, 8, 10, 10]) * np.log10(seen.sun_distance)
    np.testing.assert_allclose(seen.magnitude, expected)
    both = Orbits(*(np.concatenate(column) for column in zip(asteroids(5, EPOCH), orbits, strict=True)))
    together = observe(both, observer_at(EPOCH, OBSERVATORIES[GEOCENTRE])).magnitude
    np.testing.assert_allclose(together[5:], seen.magnitude, atol=1e-9)
    alone = observe(asteroids(5, EPOCH), observer_at(EPOCH, OBSERVATORIES[GEOCENTRE])).magnitude
    np.testing.assert_allclose(together[:5], alone, atol=1e-9)


def test_a_field_holds_its_comets():
    orbits, observer = comets(EPOCH - 100), observer_at(EPOCH, OBSERVATORIES["I41"])
    seen = observe(orbits, observer)
    for n, name in enumerate(orbits.designation):
        toward = unit_vectors(seen.ra[n : n + 1], seen.dec[n : n + 1])[0]
        known = OrbitCatalogue(orbits).in_field(observer, "I41", toward, 1.0)
        assert known.names == [name.decode()]
        assert known.seen.ra[0] == pytest.approx(seen.ra[n], abs=1e-7)


def test_of_several_orbits_of_an_object_the_surest_is_seen_and_of_equals_the_last():
    orbits, observer = asteroids(1, EPOCH), observer_at(EPOCH + 30, OBSERVATORIES["I41"])
    place = observe(orbits, observer)
    toward = unit_vectors(place.ra, place.dec)[0]
    for uncertainty, kept in (([3, 0, 2], 1), ([0, 4, 0], 2), ([0, 0, 3], 1)):
        several = orbits.take(np.zeros(3, int))._replace(uncertainty=np.array(uncertainty, float))
        several = several._replace(magnitude=np.array([12.0, 13.0, 14.0]))
        known = OrbitCatalogue(several).in_field(observer, "I41", toward, 1.0)
        assert known.names == ["2026 TA0"]
        assert known.seen.magnitude == pytest.approx(place.magnitude - orbits.magnitude + 12 + kept)
        assert len(known.uncertainty) == 1


def test_elements_of_ellipses_are_those_given():
    orbits = asteroids(50, EPOCH)
    assert ((orbits.anomaly >= 0) & (orbits.anomaly < 360)).all()
    np.testing.assert_allclose(orbits.nearest, orbits.axis * (1 - orbits.eccentricity))
    place = np.linalg.norm(two_body(orbits, orbits.passage)[0], axis=1)
    np.testing.assert_allclose(place, orbits.nearest)
    assert np.isinf(comets(EPOCH).axis[1])
    assert (comets(EPOCH).axis[2:] < 0).all()


def test_planets_matter():
    orbits = asteroids(50, EPOCH)
    apart = np.linalg.norm(perturbed(orbits, EPOCH + 180)[0] - two_body(orbits, EPOCH + 180)[0], axis=1)
    assert 1e-5 < np.median(apart) < apart.max() < 0.01


def test_the_earth_and_the_moon_are_where_astropy_has_them():
    """What comes near is bent by them: 1e-5 AU off would be tens of arcsec of what has passed at 0.01 AU."""
    mjd = np.array([58000.0, 61000.5, 63000.0])
    moments = Time(mjd, format="mjd", scale="tdb")
    sun, earth, moon = (get_body_barycentric(name, moments).xyz.to_value("AU").T for name in ("sun", "earth", "moon"))
    found = _planets(mjd)
    assert np.abs(found[:, 2] - (earth - sun)).max() < 1e-7
    assert np.abs(found[:, 8] - (moon - sun)).max() < 1e-6


def test_company_changes_no_orbit():
    """Objects that are integrated together share their steps; they must not share their errors."""
    orbits = asteroids(300, EPOCH, axis=(0.8, 40.0))._replace(eccentricity=np.linspace(0, 0.9, 300))
    orbits = orbits._replace(epoch=EPOCH - np.arange(300.0))
    alone = [perturbed(orbits.take(np.array([n])), EPOCH + 50)[0][0] for n in range(0, 300, 29)]
    np.testing.assert_allclose(perturbed(orbits, EPOCH + 50)[0][::29], alone, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 0.999), st.floats(0, 360), st.floats(-2000, 2000), st.floats(0.3, 100))
def test_two_bodies_keep_energy_and_momentum(eccentricity, anomaly, days, axis):
    base = asteroids(1, EPOCH)
    given = {name: np.array([value]) for name, value in (("axis", axis), ("anomaly", anomaly))}
    left = {name: value for name, value in base._asdict().items() if name not in ("nearest", "passage", "comet")}
    base = Orbits.elliptic(**given, **left | {"eccentricity": np.array([eccentricity])})
    for when in (EPOCH, EPOCH + days):
        place, speed = two_body(base, when)
        energy = (speed @ speed.T / 2 - GAUSS**2 / np.linalg.norm(place))[0, 0]
        momentum = np.linalg.norm(np.cross(place, speed))
        assert energy == pytest.approx(-(GAUSS**2) / (2 * axis), rel=1e-8)
        assert momentum == pytest.approx(GAUSS * np.sqrt(axis * (1 - eccentricity**2)), rel=1e-9)


def test_the_start_is_where_the_elements_say():
    orbits = asteroids(5, EPOCH)
    place, speed = two_body(orbits, EPOCH)
    expected = np.array([start(orbits, n) for n in range(5)])
    np.testing.assert_allclose(place, expected[:, 0], atol=1e-9)
    np.testing.assert_allclose(speed, expected[:, 1], atol=1e-11)


def test_rate_and_angle_are_those_of_the_places():
    orbits, step = asteroids(5, EPOCH), 0.01
    early, seen, late = (
        observe(orbits, observer_at(EPOCH + 20 + part * step, OBSERVATORIES["X05"])) for part in (-1, 0, 1)
    )
    north = (late.dec - early.dec) / (2 * step)
    east = (late.ra - early.ra) / (2 * step) * np.cos(np.radians(seen.dec))
    np.testing.assert_allclose(seen.rate * np.sin(np.radians(seen.angle)), east, atol=3e-4)
    np.testing.assert_allclose(seen.rate * np.cos(np.radians(seen.angle)), north, atol=3e-4)


def test_brightness_is_by_h_and_g():
    """Bowell et al. 1989 by hand: at 20 deg phi1 is 0.3276 and phi2 0.7985, 1.000 mag for G = 0.15."""
    orbits = asteroids(400, EPOCH)
    seen = observe(orbits, observer_at(EPOCH, OBSERVATORIES[GEOCENTRE]))
    dimmed = seen.magnitude - orbits.magnitude - 5 * np.log10(seen.distance * seen.sun_distance)
    order = np.argsort(seen.phase)
    assert np.all(np.diff(dimmed[order]) > -1e-9)
    assert np.interp(0.5, seen.phase[order], dimmed[order]) == pytest.approx(0.07, abs=0.03)
    assert np.interp(20.0, seen.phase[order], dimmed[order]) == pytest.approx(1.0, abs=0.01)
    unknown = observe(orbits._replace(magnitude=np.full(400, np.nan)), observer_at(EPOCH, OBSERVATORIES[GEOCENTRE]))
    assert np.isnan(unknown.magnitude).all()


def test_a_field_holds_whatever_is_in_it():
    """The choice by unperturbed orbits loses nothing: against all objects, each with the planets."""
    orbits = asteroids(3000, EPOCH - 200)
    orbits = orbits._replace(inclination=orbits.inclination / 10)
    observer = observer_at(EPOCH, OBSERVATORIES["I41"])
    everything = observe(orbits, observer)
    toward = unit_vectors(everything.ra[:1], everything.dec[:1])[0]
    off = separation(everything.ra, everything.dec, everything.ra[0], everything.dec[0])
    catalogue = OrbitCatalogue(orbits)
    catalogue.seen(observer_at(EPOCH - 0.4, OBSERVATORIES["I41"]), toward, 1.0)  # its day serves the exposure too
    index, seen = catalogue.seen(observer, toward, 5.0)
    assert set(np.flatnonzero(off < 5.0)) <= set(index) <= set(np.flatnonzero(off < 6.01))
    np.testing.assert_allclose(seen.ra, everything.ra[index], atol=1e-7)
    again, same = OrbitCatalogue(orbits).seen(observer, toward, 5.0)
    assert again.tolist() == index.tolist()
    assert all(np.array_equal(one, other) for one, other in zip(seen, same, strict=True)), "whatever came before"
    bright, _ = catalogue.seen(observer, toward, 5.0, faintest=16.0)
    assert set(bright) == {n for n in index if everything.magnitude[n] <= 16.0}


# Elements of the epoch 60743 that passes the Earth, as MPCORB rounds them; MJD TAI, place and V that another program
# has for Palomar: DOP853 about the Sun, planets and Moon of astropy, light time by iteration.
PASSING = [
    ((40.19247, 106.90965, 353.87949, 0.10534, 0.2803058, 1.1796010, 29.64), 60747.29676515,
     (171.172018, 4.27937), 18.6),
    ((0.94927, 352.76974, 172.60360, 6.97897, 0.3732326, 1.5908362, 26.58), 60747.30565015,
     (171.121404, 4.070195), 15.438),
    ((325.34769, 50.52566, 171.60053, 7.70068, 0.2315026, 1.2075888, 27.9), 60746.29264605,
     (171.115558, 4.134002), 15.073),
]  # fmt: skip


@pytest.mark.parametrize(("elements", "when", "place", "magnitude"), PASSING)
def test_a_field_holds_what_passes_the_earth(elements, when, place, magnitude):
    """Bent by more than the field within days, at 1 to 2.2 times the distance of the Moon, and brighter by the hour."""
    names = ("anomaly", "perihelion", "node", "inclination", "eccentricity", "axis", "magnitude")
    ra, dec = place
    orbits = Orbits.elliptic(
        designation=np.array([b"2025 AA"]), epoch=np.array([60743.0]), slope=np.array([0.15]), uncertainty=np.zeros(1),
        **{name: np.array([value]) for name, value in zip(names, elements, strict=True)},
    )  # fmt: skip
    catalogue, toward = OrbitCatalogue(orbits), unit_vectors(np.array([ra]), np.array([dec]))[0]
    catalogue.seen(observer_at(when - 0.45, OBSERVATORIES["I41"]), toward, 1.0)  # its day serves the exposure too
    _, seen = catalogue.seen(observer_at(when, OBSERVATORIES["I41"]), toward, 0.3, faintest=magnitude + 0.05)
    assert len(seen.ra) == 1
    assert 3600 * separation(seen.ra, seen.dec, ra, dec)[0] < 0.1
    assert seen.magnitude[0] == pytest.approx(magnitude, abs=0.01)
    assert not len(catalogue.seen(observer_at(when, OBSERVATORIES["I41"]), toward, 0.3, magnitude - 0.05)[0])
    assert not len(catalogue.seen(observer_at(when, OBSERVATORIES["I41"]), -toward, 0.3)[0])


def test_an_orbit_is_as_uncertain_as_its_parameter_says():
    """U = 5 is a runoff of 1692 arcsec in ten years at most, says the Minor Planet Center."""
    orbits = asteroids(10, EPOCH)._replace(uncertainty=np.arange(10.0))
    index, observer = np.arange(10), observer_at(EPOCH + 3652.5, OBSERVATORIES["I41"])
    seen = observe(orbits, observer)._replace(distance=np.ones(10), sun_distance=np.ones(10), rate=np.zeros(10))
    runoff = OrbitCatalogue(orbits).uncertainty(index, observer, seen)
    np.testing.assert_allclose(runoff[[1, 5, 8]] - 0.6, [4.4, 1692, 146502], rtol=0.02)
    now = OrbitCatalogue(orbits).uncertainty(index, observer._replace(mjd=EPOCH), seen._replace(rate=np.full(10, 24.0)))
    np.testing.assert_allclose(now, 1.0)  # 24 deg / day are 1 arcsec / s
    far = seen._replace(rate=np.full(10, 24.0), distance=np.full(10, 4.0))
    np.testing.assert_allclose(OrbitCatalogue(orbits).uncertainty(index, observer._replace(mjd=EPOCH), far), 1.0)


def test_wide_orbits_are_as_uncertain_as_their_last_digit():
    """Mean anomalies as MPCORB rounds them, to 1e-5 deg: a minute and more where a turn takes centuries."""
    rng = np.random.default_rng(4)
    count, axis, nearest = 300, np.exp(rng.uniform(np.log(3), np.log(100), 300)), rng.uniform(0.5, 1.5, 300)
    anomaly = np.degrees(GAUSS * rng.uniform(-90, 90, count) / axis**1.5) % 360
    shape = {
        "epoch": np.full(count, EPOCH), "eccentricity": 1 - nearest / axis, "designation": np.full(count, b"x"),
        "inclination": rng.uniform(0, 60, count), "node": rng.uniform(0, 360, count), "magnitude": np.zeros(count),
        "perihelion": rng.uniform(0, 360, count), "slope": np.full(count, 0.15), "uncertainty": np.zeros(count),
    }  # fmt: skip
    observer = observer_at(EPOCH, OBSERVATORIES["I41"])
    true, rounded = (Orbits.elliptic(axis, one, **shape) for one in (anomaly, np.round(anomaly, 5)))
    seen, predicted = observe(true, observer), observe(rounded, observer)
    off = separation(seen.ra, seen.dec, predicted.ra, predicted.dec) * 3600 * predicted.distance
    allowed = OrbitCatalogue(rounded).uncertainty(np.arange(count), observer, predicted) * predicted.distance
    assert (off <= 0.15 + allowed).all()
    wide = axis > 30
    assert (off[wide] > 0.3).mean() > 0.5
    assert np.median(off[wide] / allowed[wide]) > 0.2  # no more than it takes
    assert allowed[axis < 4].max() < 1.2  # a clock that is 1 s off, above all


def test_orbits_that_tell_nothing_any_more_are_left_out():
    """U of 9 is 2 arcmin after a day, of 5 after most of a year; and ten years are too long for any."""
    base = asteroids(1, EPOCH)
    for days, uncertainty, known in ((0.3, 9.0, True), (60.0, 9.0, False), (200.0, 5.0, True), (3700.0, 0.0, False)):
        orbits = base._replace(uncertainty=np.array([uncertainty]))
        observer = observer_at(EPOCH + days, OBSERVATORIES["I41"])
        seen = observe(orbits, observer)
        toward = unit_vectors(seen.ra, seen.dec)[0]
        assert (len(OrbitCatalogue(orbits).seen(observer, toward, 1.0)[0]) == 1) is known, (days, uncertainty)


def test_observatories_are_told_by_the_instrument():
    assert [observatory_of(name) for name in ("ZTF/MOSAIC", "LSSTCam", "DECam", "own")] == [
        "I41",
        "X05",
        "W84",
        GEOCENTRE,
    ]


def test_orbits_can_be_taken():
    assert isinstance(asteroids(4, EPOCH).take(np.array([2])), Orbits)


def test_an_object_that_is_exactly_as_faint_as_allowed_is_seen():
    orbits, observer = asteroids(1, EPOCH), observer_at(EPOCH + 1, OBSERVATORIES["I41"])
    seen = observe(orbits, observer)
    toward, magnitude = unit_vectors(seen.ra, seen.dec)[0], float(seen.magnitude[0])
    for faintest, count in ((magnitude, 1), (np.nextafter(magnitude, 0), 0)):
        assert len(OrbitCatalogue(orbits).seen(observer, toward, 1.0, faintest)[0]) == count


def test_a_catalogue_that_knew_another_day_finds_the_same():
    """What is worked out for one time serves half a day, either way, and no more."""
    orbits = asteroids(500, EPOCH)
    catalogue, days = OrbitCatalogue(orbits), (0.0, 40.0, 40.5, 41.25, 39.0)
    for day in days:
        observer = observer_at(EPOCH + day, OBSERVATORIES["I41"])
        place = observe(orbits.take(np.array([7])), observer)
        toward = unit_vectors(place.ra, place.dec)[0]
        index, _ = catalogue.seen(observer, toward, 8.0)
        assert 7 in index
        assert index.tolist() == OrbitCatalogue(orbits).seen(observer, toward, 8.0)[0].tolist()
    worked_out = [catalogue._of_day(observer._replace(mjd=EPOCH + day)).mjd - EPOCH for day in days]
    assert worked_out == [0.0, 40.0, 40.0, 41.25, 39.0]


def test_how_far_planets_may_move_what_they_do_not_meet():
    """2e-7 AU / d^2 since the epoch, as an angle; any angle for what is nearer than that, or than 0.05 AU."""
    margin = np.radians(0.3 + 120 / 3600)
    orbits = asteroids(5, EPOCH)
    for days in (-1000.0, 1000.0):
        away = 2e-7 * 1000 * 1000 * np.array([1.0, 0.9, 2.0, 0.3, np.inf])
        found = _slack(orbits, EPOCH + days, away, 0.0) - margin
        np.testing.assert_allclose(found, [np.pi, np.pi, np.pi / 6, np.pi, 0.0], atol=1e-12)
    close = np.array([0.05, 0.050001, 0.074, 0.076, 1.0])
    np.testing.assert_allclose(_slack(orbits, EPOCH, close, 0.0) - margin, [np.pi, 0, 0, 0, 0], atol=1e-12)
    moved = [np.pi, np.pi, np.pi, np.arcsin(0.025 / 0.076), np.arcsin(0.025)]
    np.testing.assert_allclose(_slack(orbits, EPOCH, close, 0.025) - margin, moved, rtol=1e-12)


def test_orbits_are_known_for_ten_years_and_while_their_runoff_is_at_most_2_arcmin():
    orbits = asteroids(3, EPOCH)
    away = np.full(3, 1 / 120)  # AU, from where a runoff of 1 arcsec is 2 arcmin: of U = 0 after ten years
    for sign in (-1, 1):
        assert _is_known(orbits, EPOCH + sign * 3653, 2 * away).all()
        assert not _is_known(orbits, EPOCH + sign * 3653.01, 2 * away).any()
        assert _is_known(orbits, EPOCH + sign * 3654, 2 * away, 1.0).all()
        assert _is_known(orbits, EPOCH + sign * 3652.5, away).all()
        assert not _is_known(orbits, EPOCH + sign * 3652.6, away).any()
