import numpy as np
import pytest
from scipy.integrate import solve_ivp

from benchmarks.motion.linking import orbit_seen
from kernels.linking.nights import Window
from kernels.linking.orbits import choose_links, elements, fit_link, fit_orbit, propagate
from kernels.sky.observatories import AU_KM, heliocentric_km

GM = 0.01720209895**2
MJD = np.array([60200.3, 60200.34, 60202.3, 60202.33, 60205.3, 60205.34, 60209.31, 60209.35])
MAIN_BELT = np.array([2.5, 0.3, 0.2, -0.0012, 0.0098, 0.0021])
NEAR = np.array([1.15, 0.2, 0.15, -0.001, 0.0165, 0.004])


def window(*states, error=0.0, mjd=MJD):
    """Return detections of some bodies, one body after the other."""
    observer = heliocentric_km("I41", mjd, "utc")[0]
    seen = [orbit_seen(state, 60204.0, mjd, observer / AU_KM) for state in states]
    ra, dec = np.concatenate(seen, axis=1)
    rng = np.random.default_rng(3)
    count, empty = len(states) * len(mjd), np.zeros(0, int)
    places = np.tile(observer, (len(states), 1))
    made = Window(
        np.tile(mjd, len(states)), ra, dec, np.zeros(count, int), np.full(count, 0.15), places, np.zeros((0, 7)),
        empty, empty,
    )  # fmt: skip
    dec = dec + rng.normal(0, error / 3600, count)
    return made._replace(ra=ra + rng.normal(0, error / 3600, count) / np.cos(np.radians(dec)), dec=dec)


@pytest.mark.parametrize("state", [MAIN_BELT, NEAR])
def test_propagation_is_that_of_integration(state):
    days = np.array([-20.0, -3.0, 0.0, 0.01, 7.0, 30.0])

    def pull(_, y):
        return np.concatenate([y[3:], -GM * y[:3] / np.linalg.norm(y[:3]) ** 3])

    parts = [solve_ivp(pull, (0, end), state, rtol=1e-11, atol=1e-13, dense_output=True).sol for end in (-20, 30)]
    expected = [parts[int(day > 0)](day)[:3] for day in days]
    assert propagate(state, days) == pytest.approx(np.array(expected), abs=1e-8)


@pytest.mark.parametrize("state", [MAIN_BELT, NEAR])
def test_an_orbit_is_found_again(state):
    seen = window(state)
    orbit = fit_orbit(seen, np.arange(len(MJD)))
    assert np.abs(orbit.residuals).max() < 0.01
    assert elements(orbit.state) == pytest.approx(elements(state), rel=5e-3)


def test_elements_of_a_circle_in_the_plane_of_the_equator():
    state = np.array([2.0, 0, 0, 0, np.sqrt(GM / 2), 0])
    assert elements(state) == pytest.approx((2.0, 0.0, 23.439291), abs=1e-5)


def test_what_does_not_fit_is_taken_out():
    seen = window(MAIN_BELT, error=0.15)
    rows = np.arange(len(MJD))
    whole = fit_link(seen, rows)
    assert whole.members == tuple(rows)
    assert (whole.nights, whole.rms < 0.4) == (4, True)
    dec = seen.dec.copy()
    dec[3] += 5 / 3600
    assert fit_link(seen._replace(dec=dec), rows).members == (0, 1, 2, 4, 5, 6, 7)


def test_of_two_at_one_time_one_is_taken_out():
    seen = window(MAIN_BELT, MAIN_BELT, error=0.1)
    dec = seen.dec.copy()
    dec[8:] += 1.5 / 3600
    link = fit_link(seen._replace(dec=dec), np.array([*range(8), 10]))
    assert link.members == tuple(range(8))


@pytest.mark.parametrize(("times", "twins"), [(4, [9]), (6, [9]), (6, [0, 9, 12]), (6, [0, 5, 9, 12, 20])])
def test_of_many_only_those_are_taken_out_that_share_a_time(times, twins):
    mjd = np.add.outer([60200.3, 60202.3, 60205.3, 60209.3], 0.012 * np.arange(times)).ravel()
    seen = window(MAIN_BELT, MAIN_BELT, error=0.1, mjd=mjd)
    dec = seen.dec + np.repeat([0.0, 1.5 / 3600], len(mjd))
    rows = np.sort(np.concatenate([np.arange(len(mjd)), len(mjd) + np.array(twins)]))
    order = rows[np.argsort(seen.mjd[rows], kind="stable")]
    one_by_one = Window(*(part[order] for part in seen._replace(dec=dec)[:6]), *seen[6:])
    link = fit_link(one_by_one, np.arange(len(order)))
    assert order[list(link.members)].tolist() == list(range(len(mjd)))


def test_halves_of_two_bodies_are_no_link():
    other = MAIN_BELT + np.array([0, 0.01, 0.01, 0, 2e-4, -1e-4])
    seen = window(MAIN_BELT, other, error=0.15)
    order = np.argsort(seen.mjd, kind="stable")
    seen = seen._replace(ra=seen.ra[order], dec=seen.dec[order], mjd=seen.mjd[order], observer=seen.observer[order])
    own, theirs = np.arange(0, 16, 2), np.arange(1, 16, 2)
    assert fit_link(seen, np.array([0, 2, 4, 6, 9, 11, 13, 15])) is None
    links = choose_links(seen, [np.arange(16), own[:6], own, theirs, theirs[2:]])
    assert {one.members for one in links} == {tuple(own), tuple(theirs)}


def test_three_nights_of_two_detections_are_enough():
    link = fit_link(window(MAIN_BELT, mjd=MJD[:6]), np.arange(6))
    assert (link.members, link.nights) == ((0, 1, 2, 3, 4, 5), 3)
    assert fit_link(window(MAIN_BELT, mjd=MJD[:6]), np.arange(5)) is None


def test_two_nights_are_not_enough():
    seen = window(MAIN_BELT, mjd=np.array([60200.3, 60200.32, 60200.34, 60202.3, 60202.32, 60202.34]))
    assert fit_link(seen, np.arange(6)) is None
