"""Motions against astropy's of stars and numpy's least squares; what counts as a motion against simulated chance."""

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.linking.proper_motion import FASTEST, ORIGIN, Motions, fit_motions, motion_sums
from kernels.sky.positions import sky_position, unit_vectors

YEAR = 365.25


def star(ra, dec, east, north, mjd, epoch=61000.0):
    """Where astropy has a star that moves by arcsec / yr since an epoch: ra, dec in deg."""
    there = SkyCoord(
        ra * units.deg, dec * units.deg, pm_ra_cosdec=east * units.arcsec / units.yr,
        pm_dec=north * units.arcsec / units.yr, distance=10 * units.pc, radial_velocity=0 * units.km / units.s,
        obstime=Time(epoch, format="mjd", scale="tcb"),
    )  # fmt: skip
    moved = there.apply_space_motion(new_obstime=Time(mjd, format="mjd", scale="tcb"))
    return moved.ra.deg, moved.dec.deg


def fitted(ra, dec, mjd, sigma=0.1):
    """The motion of one object."""
    weight = np.broadcast_to(np.asarray(sigma, float), len(mjd)) ** -2
    sums = motion_sums(unit_vectors(np.asarray(ra, float), np.asarray(dec, float)), weight, np.asarray(mjd, float))
    return fit_motions(sums.sum(axis=0)[None], np.array([len(mjd)]))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0, 360, exclude_max=True), st.floats(-89, 89), st.floats(-10, 10), st.floats(-10, 10),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_an_exact_star_has_its_motion_and_is_where_astropy_has_it(ra, dec, east, north, seed):
    mjd = 61000 + np.sort(np.random.default_rng(seed).uniform(0, 1500, 12))
    found = fitted(*star(ra, dec, east, north, mjd), mjd)
    # At its mean time the star moves in another direction than at the epoch, near a pole by much.
    at = float(found.epoch[0])
    before, after = (star(ra, dec, east, north, at + day) for day in (-50, 50))
    expected = (unit_vectors(*map(np.atleast_1d, after)) - unit_vectors(*map(np.atleast_1d, before))) / 100
    assert np.degrees(np.abs(found.rate - expected)).max() * 3600 * YEAR < 1e-4
    place, _ = found.at(62000.0, np.array([True]))
    there = unit_vectors(*map(np.atleast_1d, star(ra, dec, east, north, 62000.0)))
    assert np.degrees(np.linalg.norm(place - there)) * 3600 < 1e-3


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.99999, -45.0), (120.0, 85.0)])
def test_motions_and_errors_are_those_of_numpy_in_the_tangent_plane(ra, dec):
    rng = np.random.default_rng(4)
    mjd, sigma = 60900 + rng.uniform(0, 900, 30), rng.uniform(0.05, 0.3, 30)
    east, north = (speed * (mjd - 61300) / YEAR + rng.normal(0, sigma) for speed in (0.7, -1.9))
    found = fitted(ra + east / 3600 / np.cos(np.radians(dec + north / 3600)), dec + north / 3600, mjd, sigma)
    epoch = np.average(mjd, weights=sigma**-2)
    assert found.epoch[0] == pytest.approx(epoch, abs=1e-6)
    squares, freedom = 0.0, 2 * len(mjd) - 4
    for offset, ours in zip((east, north), found.on_sky()[:2], strict=True):
        (slope, middle), cov = np.polyfit((mjd - epoch) / YEAR, offset, 1, w=1 / sigma, cov="unscaled")
        assert ours[0] == pytest.approx(1e3 * slope, abs=0.1)
        assert found.on_sky()[2][0] == pytest.approx(1e3 * np.sqrt(cov[0, 0]), rel=1e-6)
        assert found.place_sigma[0] == pytest.approx(np.sqrt(cov[1, 1]), rel=1e-6)
        squares += np.sum(((offset - middle - slope * (mjd - epoch) / YEAR) / sigma) ** 2)
    assert found.excess[0] == pytest.approx(max(squares / freedom, 1), rel=1e-3)
    there, error = found.at(epoch + 2 * YEAR, np.array([True]))
    assert error[0] == pytest.approx(np.hypot(found.place_sigma[0], 2e-3 * found.on_sky()[2][0]))
    assert np.linalg.norm(there) == pytest.approx(1)


def test_errors_are_larger_where_detections_do_not_lie_on_a_line():
    mjd, east = 61000 + 100.0 * np.arange(5), np.array([0.0, 1.0, 0.0, 1.0, 0.0])
    found = fitted(10 + east / 3600, np.zeros(5), mjd)
    assert found.excess[0] == pytest.approx(1.2 / 0.01 / 6, rel=1e-3)  # squares about the mean of 0.4, without a slope


def test_two_detections_lie_on_a_line_however_well_they_are_known():
    rng = np.random.default_rng(2)
    for ra, dec in zip(rng.uniform(0, 360, 20), rng.uniform(-60, 60, 20), strict=True):
        found = fitted(ra + rng.uniform(0, 1e-3, 2), dec + rng.uniform(0, 1e-3, 2), [60100.0, 61100.0], 1e-4)
        assert found.excess.tolist() == [1.0]


def test_objects_are_each_at_their_own_place():
    mjd, one, other = 61000 + 100.0 * np.arange(4), np.radians(3 / 3600) / YEAR, np.radians(1 / 3600) / YEAR
    both = Motions(
        mjd[:2], np.eye(3)[:2], np.array([[0, one, 0], [0, 0, other]]), np.full(2, 0.1), np.full(2, 1e-3), np.ones(2)
    )
    places, errors = both.at(mjd[:2] + 2 * YEAR, np.array([True, False]))
    assert np.linalg.norm(places, axis=1) == pytest.approx([1.0, 1.0])
    assert 3600 * np.degrees(places[0, 1]) == pytest.approx(6.0, rel=1e-6)
    assert places[1].tolist() == [0.0, 1.0, 0.0]
    assert errors == pytest.approx([np.hypot(0.1, 2e-3 * YEAR), 0.1])


def test_sums_add_up_in_any_order():
    rng = np.random.default_rng(0)
    vectors, weight, mjd = unit_vectors(rng.uniform(0, 1e-3, 50), rng.uniform(0, 1e-3, 50)), rng.uniform(9, 99, 50), (
        60000 + rng.uniform(0, 1000, 50)
    )  # fmt: skip
    sums = motion_sums(vectors, weight, mjd)
    one, other = (fit_motions(part.sum(axis=0)[None], np.array([50])) for part in (sums, sums[rng.permutation(50)]))
    np.testing.assert_allclose(one.rate, other.rate, atol=1e-14)
    assert sums[0, 7] == pytest.approx(weight[0] * (mjd[0] - ORIGIN))


@pytest.mark.parametrize("days", [(0.0,), (0.0, 0.0, 0.0), (4000.0, 4000.0001)])
def test_at_one_time_there_is_no_motion(days):
    found = fitted(10 + np.arange(len(days)) / 3600, np.zeros(len(days)), 60000 + np.array(days))
    assert (found.rate == 0).all()
    assert np.isinf(found.rate_sigma).all()
    assert not found.moving(np.array([5]))[0]
    assert found.at(70000.0, np.array([False]))[1][0] == pytest.approx(0.1 / len(days) ** 0.5)


def moving(speed, nights=10, sigma=0.1, excess=1.0, rate_sigma=0.1):
    """Whether a motion of some arcsec / yr is one, whose error is 0.1 arcsec / yr."""
    one = Motions(
        np.array([61000.0]), np.array([[1.0, 0, 0]]), np.array([[0, np.radians(speed / 3600) / YEAR, 0]]),
        np.array([sigma]), np.array([rate_sigma / YEAR]), np.array([excess]),
    )  # fmt: skip
    return bool(one.moving(np.array([nights]))[0])


def test_a_motion_is_above_chance_of_three_nights_and_no_faster_than_stars():
    assert [moving(speed) for speed in (0.39, 0.41, FASTEST - 0.1, FASTEST + 0.1)] == [False, True, True, False]
    assert 1.4 < FASTEST / 10.39 < 1.5  # Barnard's star, the fastest that is known (Gaia DR3)
    assert [moving(0.6, nights) for nights in (2, 3)] == [False, True]
    assert [moving(0.6, excess=excess) for excess in (2.2, 2.3)] == [True, False]


def test_what_rests_hardly_ever_moves_by_chance():
    """Two axes: above 4 standard errors by exp(-8), 0.03 %."""
    rng = np.random.default_rng(7)
    mjd = 61000 + np.linspace(0, 300, 12)
    east, north = rng.normal(0, 0.1, (2, 20_000, 12)) / 3600
    sums = motion_sums(unit_vectors((10 + east).ravel(), north.ravel()), np.full(240_000, 100.0), np.tile(mjd, 20_000))
    found = fit_motions(sums.reshape(20_000, 12, 9).sum(axis=1), np.full(20_000, 12))
    assert found.moving(np.full(20_000, 12)).sum() <= 15
    pulls = np.stack(found.on_sky()[:2]) / found.on_sky()[2]
    assert np.std(pulls) == pytest.approx(1, abs=0.02)
    ra, _ = sky_position(found.place)
    assert np.std(3600 * (ra - 10)) == pytest.approx(0.1 / 12**0.5, rel=0.03)
