import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.linking.motion import PositionErrors, fit_motion, motion_errors, track_offsets
from kernels.sky.positions import unit_vectors


def moved(ra, dec, rate, angle, days):
    """Directions of what moves along a great circle, by astropy."""
    start = SkyCoord(ra * u.deg, dec * u.deg)
    places = start.directional_offset_by(angle * u.deg, rate * np.asarray(days) * u.deg)
    return unit_vectors(places.ra.deg, places.dec.deg)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 359.9), st.floats(-89, 89), st.floats(0.05, 60), st.floats(0, 359.9))
def test_steady_motion_is_found_wherever_it_is(ra, dec, rate, angle):
    days = np.array([-0.05, -0.01, 0.02, 0.04])
    found = fit_motion(moved(ra, dec, rate, angle, days), 60000 + days, np.full(4, 0.2))
    assert found.rate == pytest.approx(rate, rel=1e-4)
    assert found.rms < 1e-3
    (place,) = moved(ra, dec, rate, angle, [found.mjd - 60000])
    assert np.degrees(np.linalg.norm(place - unit_vectors(np.array([found.ra]), np.array([found.dec]))[0])) < 1e-6
    ahead = SkyCoord(found.ra * u.deg, found.dec * u.deg).directional_offset_by(found.angle * u.deg, 0.05 * u.deg)
    (truth,) = moved(ra, dec, rate, angle, [found.mjd - 60000 + 0.05 / rate])
    assert np.degrees(np.linalg.norm(truth - unit_vectors(ahead.ra.deg, ahead.dec.deg))) < 1e-3


def test_directions_are_less_than_a_whole_turn():
    days = np.array([0.0, 0.01, 0.02])
    starts = np.random.default_rng(3).uniform([0, -60], [360, 60], (300, 2))
    north = [unit_vectors(np.full(3, ra), dec + days) for ra, dec in starts]
    angles = np.array([fit_motion(places, 60000 + days, np.full(3, 0.1)).angle for places in north])
    assert (angles < 360).all()
    assert np.minimum(angles, 360 - angles).max() < 1e-9


def test_two_detections_are_a_motion():
    found = fit_motion(moved(10.0, 20.0, 0.5, 70.0, [0, 0.04]), np.array([60000.0, 60000.04]), np.full(2, 0.2))
    assert found.rate == pytest.approx(0.5, rel=1e-6)
    assert found.rms < 1e-4


def test_the_circle_goes_between_detections_that_lie_beside_it():
    """The middle of three lies 3 arcsec beside the ends: a line leaves 1, -2 and 1, or 3, 0 and 3 if it counts."""
    east = np.array([0.0, 0.01, 0.02])
    vectors, days = unit_vectors(50 + east, np.array([0.0, 3 / 3600, 0.0])), np.array([0.0, 0.01, 0.02])
    found = fit_motion(vectors, days, np.full(3, 0.2))
    assert track_offsets(found, vectors, days)[1] == pytest.approx([1.0, -2.0, 1.0], abs=1e-3)
    assert found.rms == pytest.approx(np.sqrt(2), abs=1e-3)
    assert fit_motion(vectors, days, np.array([0.2, 1e-3, 0.2])).rms == pytest.approx(np.sqrt(6), abs=1e-3)


def test_errors_are_those_of_the_detections():
    rng, days, sigma = np.random.default_rng(4), np.linspace(0, 0.1, 6), np.full(6, 0.3)
    chi2 = []
    for _ in range(400):
        vectors = moved(50.0, 30.0, 0.4, 120.0, days)
        east = np.cross([0, 0, 1], vectors)
        east /= np.linalg.norm(east, axis=1, keepdims=True)
        north = np.cross(vectors, east)
        off = np.radians(rng.normal(0, 0.3 / 3600, (6, 2)))
        moved_off = vectors + off[:, :1] * east + off[:, 1:] * north
        chi2.append(fit_motion(moved_off / np.linalg.norm(moved_off, axis=1, keepdims=True), days, sigma).chi2)
    assert np.mean(chi2) == pytest.approx(2 * 6 - 4, rel=0.08)


@pytest.mark.parametrize("number", [2, 3, 6])
@pytest.mark.parametrize("angle", [0.0, 35.0, 120.0, 250.0])
def test_rate_and_direction_are_off_by_as_much_as_their_errors_say(number, angle):
    """Positions are known worse along a trail than across it: 1.2 and 0.2 arcsec."""
    rng, days, axis = np.random.default_rng(number), np.linspace(0, 0.04, number), np.radians(angle)
    towards = np.array([np.sin(axis), np.cos(axis)])  # east, north
    across = np.array([towards[1], -towards[0]])
    covariance = 1.2**2 * np.outer(towards, towards) + 0.2**2 * np.outer(across, across)
    stated = PositionErrors(
        *(np.full(number, np.sqrt(covariance[n, n])) for n in (0, 1)), np.full(number, covariance[0, 1])
    )
    sigma, pulls = np.full(number, np.sqrt(np.trace(covariance) / 2)), []
    vectors = moved(50.0, 30.0, 4.0, angle, days)
    east = np.cross([0, 0, 1], vectors)
    east /= np.linalg.norm(east, axis=1, keepdims=True)
    north = np.cross(vectors, east)
    for _ in range(600):
        off = np.radians(rng.multivariate_normal([0, 0], covariance, number) / 3600)
        there = vectors + off[:, :1] * east + off[:, 1:] * north
        found = fit_motion(there / np.linalg.norm(there, axis=1, keepdims=True), days, sigma)
        rate, turned = motion_errors(found, days, sigma, stated)
        truth = fit_motion(vectors, days, sigma)
        pulls.append(((found.rate - truth.rate) / rate, ((found.angle - truth.angle + 180) % 360 - 180) / turned))
    # Three points that scatter by more than they should widen the error, so that it is too wide on average.
    assert np.std(pulls, axis=0) == pytest.approx([1, 1], abs=0.08 if number == 2 else 0.22)


def test_an_error_that_is_not_known_is_that_of_the_weights():
    days, sigma, nothing = np.linspace(0, 0.04, 3), np.full(3, 0.2), np.full(3, np.nan)
    motion = fit_motion(moved(50.0, 30.0, 4.0, 35.0, days), days, sigma)
    round_ones = PositionErrors(sigma, sigma, np.zeros(3))
    unknown = PositionErrors(nothing, sigma, np.zeros(3))
    assert motion_errors(motion, days, sigma, unknown) == pytest.approx(motion_errors(motion, days, sigma, round_ones))
    # A straight line through three points: the ends alone count.
    assert motion_errors(motion, days, sigma, unknown)[0] == pytest.approx(np.sqrt(2) * 0.2 / 3600 / 0.04)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0, 359.9),
    st.floats(-85, 85),
    st.floats(0.05, 60),
    st.floats(0, 359.9),
    st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
)
def test_offsets_are_measured_ahead_and_to_the_side(ra, dec, rate, angle, off):
    days = np.array([-0.02, 0.0, 0.02])
    motion = fit_motion(moved(ra, dec, rate, angle, days), 60000 + days, np.full(3, 0.2))
    place = SkyCoord(motion.ra * u.deg, motion.dec * u.deg)
    for way, turn in zip(off, (0.0, 90.0), strict=True):
        there = place.directional_offset_by((motion.angle + turn) * u.deg, way * u.arcsec)
        vectors = unit_vectors(np.array([there.ra.deg]), np.array([there.dec.deg]))
        along, across = track_offsets(motion, vectors, np.array([motion.mjd]))
        assert (along[0], across[0]) == pytest.approx((way, 0.0) if turn == 0 else (0.0, way), abs=1e-4)
