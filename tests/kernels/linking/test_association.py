"""Matches against an independent, slower way; statistics against numpy's and worked examples."""

import math

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kernels.linking.association import (
    Reach,
    cells_near,
    cells_of,
    flux_statistics,
    is_trail,
    match_places,
    pairs_beside,
    position_sigma,
    separations_from_earlier,
)
from kernels.sky.positions import along_great_circle, unit_vectors

REACH = Reach(3.0, 0.5, 1.5)


def at(offsets, ra=0.0, dec=80.0):
    """Directions so many arcsec north of a place at the 24 h line."""
    return unit_vectors(np.full(len(offsets), ra), dec + np.array(offsets, float) / 3600)


def sigmas(count, value=0.1):
    return np.full(count, value)


def paired(offsets, places, sigma=0.1, place_sigma=0.1, seen=None):
    errors = sigmas(len(offsets), sigma), sigmas(len(places), place_sigma)
    seen = np.ones(len(places), int) if seen is None else np.array(seen)
    found = match_places(at(offsets), errors[0], at(places), errors[1], seen, REACH)
    return list(zip(found.rows.tolist(), found.which.tolist(), strict=True))


def test_the_reach_follows_the_errors_between_its_limits():
    np.testing.assert_allclose(REACH.of(np.array([0.01, 0.3, 5.0])), [0.5, 0.9, 1.5])
    assert paired([0.4], [0.0], 0.01, 0.01) == [(0, 0)]
    assert paired([0.6], [0.0], 0.01, 0.01) == []
    assert paired([0.8], [0.0], 0.2, 0.2) == [(0, 0)]  # 3 x 0.28
    assert paired([1.6], [0.0], 9.0, 9.0) == []


def test_two_detections_never_have_one_object_and_the_nearer_has_it():
    assert paired([0.3, 0.1], [0.0]) == [(1, 0)]
    assert paired([0.2, -0.1], [0.0, 0.45]) == [(0, 1), (1, 0)]  # the second is nearer to the first object


def test_the_more_probable_object_has_a_detection():
    def chosen(first, second, sigma):
        found = match_places(at([0.0]), sigmas(1), at([first, -second]), np.array(sigma), np.ones(2), REACH)
        assert found.separation[0] == pytest.approx((first, second)[found.which[0]])
        return found.which[0]

    # exp(-d^2 / 2 s^2) / s^2: 0.3 at 0.45 arcsec where s is 0.14, 2.2 at 0.47 where it is 0.22
    assert chosen(0.45, 0.47, (0.1, 0.2)) == 1
    assert chosen(0.1, 0.1, (0.1, 0.2)) == 0
    assert chosen(0.1, 0.12, (0.1, 0.1)) == 0


def test_of_two_objects_at_a_place_the_one_that_is_often_seen_has_the_detection():
    assert paired([0.25], [0.0, 0.3], seen=[1, 1]) == [(0, 1)]
    assert paired([0.25], [0.0, 0.3], seen=[20, 1]) == [(0, 0)]  # 0.22 times as near, 10.5 times as often
    assert paired([0.3], [0.0, 0.3], 0.01, 0.05, seen=[1000, 1]) == [(0, 1)]  # six standard deviations from the other
    assert paired([0.25], [0.0, 0.3], seen=[0, 0]) == [(0, 1)]  # objects that have lost theirs
    assert paired([0.25, 0.02], [0.0, 0.3], seen=[20, 1]) == [(0, 1), (1, 0)]


def test_a_detection_at_the_place_of_an_object_is_not_apart_from_it_by_last_digits():
    """As where it is associated again with the object that it began, whose place is a weighted mean."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        place = unit_vectors(rng.uniform(0, 360, 1), rng.uniform(-90, 90, 1))
        mean = rng.uniform(1, 9) * place
        mean /= np.linalg.norm(mean)
        assert match_places(place, sigmas(1), mean, sigmas(1), np.ones(1), REACH).separation.tolist() == [0.0]
    apart = match_places(at([1e-5]), sigmas(1), at([0.0]), sigmas(1), np.ones(1), REACH).separation
    np.testing.assert_allclose(apart, 1e-5, rtol=1e-3)


def from_earlier(ra, dec, weight, mjd, night, group=None):
    """Of the detections of the last night; ra and dec in deg."""
    group = np.zeros(len(ra), np.int64) if group is None else group
    last = night == night.max(initial=0)
    return separations_from_earlier(group, unit_vectors(ra, dec), weight, mjd, night, last)


def test_separations_are_from_the_mean_of_earlier_detections_as_astropy_measures_it():
    rng = np.random.default_rng(7)
    group, night = rng.permutation(np.repeat(np.arange(5), 8)), rng.integers(0, 2, 40)
    ra, dec = 20.0 * group + rng.normal(0, 1e-4, 40), 70 + rng.normal(0, 3e-5, 40)
    weight, mjd = rng.uniform(1, 400, 40), 61000 + night + rng.permutation(40) / 100  # two nights: nothing moves
    found = from_earlier(ra, dec, weight, mjd, night, group)
    for n, apart in zip(np.flatnonzero(night == 1), found, strict=True):
        before = np.flatnonzero((group == group[n]) & (mjd < mjd[n]))
        mean = SkyCoord(*(np.average(one[before], weights=weight[before]) * units.deg for one in (ra, dec)))
        assert apart == pytest.approx(mean.separation(SkyCoord(ra[n], dec[n], unit="deg")).arcsec, rel=1e-4)
    assert len(found) > 15


@pytest.mark.parametrize("number", [2, 5, 9])
def test_separations_of_what_moves_are_from_where_a_line_through_earlier_detections_leads(number):
    """The last night has two detections; of two nights no motion is known."""
    rng, last = np.random.default_rng(8), 30.0 * number
    days = np.array([*np.arange(0, last, 30.0), last, last + 0.02])
    dec = (5.0 * days / 365.25 + rng.normal(0, 0.05, len(days))) / 3600
    found = from_earlier(np.full(len(days), 30.0), dec, np.full(len(days), 100.0), 61000 + days, days.astype(np.int64))
    for n, apart in zip((number, number + 1), found, strict=True):
        known = np.polyfit(days[:n], dec[:n], 1 if n > 2 else 0)
        assert apart == pytest.approx(3600 * abs(dec[n] - np.polyval(known, days[n])), abs=1e-5)


def test_separations_of_nothing_are_none_and_those_of_one_place_are_0():
    none = np.zeros(0)
    assert len(from_earlier(none, none, none, none, none.astype(np.int64), none.astype(np.int64))) == 0
    place, night = (np.full(9, 123.4), np.full(9, -56.7), np.full(9, 33.3)), np.repeat([0, 1, 2], 3)
    assert from_earlier(*place, 61000.0 + night, night).tolist() == [0.0] * 3
    assert from_earlier(*place, 61000.0 + night, np.zeros(9, np.int64)).tolist() == [0.0] * 9


def test_nothing_matches_nothing():
    assert paired([], []) == paired([0.0], []) == paired([], [0.0]) == []


def greedy(sky, sigma, places, place_sigma, seen):
    """Pairs in order of probability, by astropy's separations of all with all."""
    pairs = []
    for (n, m), apart in np.ndenumerate(sky[:, None].separation(places[None]).arcsec):
        spread = math.hypot(sigma[n], place_sigma[m])
        if apart <= min(max(3 * spread, 0.5), 1.5):
            pairs.append((stats.norm.pdf(apart / spread) / spread**2 * (seen[m] + 1), n, m))
    chosen = []
    for _, n, m in sorted(pairs, reverse=True):
        if all(n != one and m != other for one, other in chosen):
            chosen.append((n, m))
    return sorted(chosen)


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.9999, 45.0), (120.0, 89.9995), (10.0, -90.0)])
def test_a_crowd_is_matched_as_by_hand(ra, dec):
    rng = np.random.default_rng(3)
    coords = []
    for count in (20, 30):
        angle, apart = rng.uniform(0, 360, count), rng.uniform(0, 4, count) / 3600
        coords.append(along_great_circle(np.full(count, ra), np.full(count, dec), angle, apart)[:2])
    sigma, place_sigma = rng.uniform(0.05, 0.5, 20), rng.uniform(0.05, 0.5, 30)
    seen = rng.integers(0, 30, 30)
    found = match_places(unit_vectors(*coords[0]), sigma, unit_vectors(*coords[1]), place_sigma, seen, REACH)
    sky, places = (SkyCoord(*one, unit="deg") for one in coords)
    expected = greedy(sky, sigma, places, place_sigma, seen)
    assert len(expected) > 5
    assert list(zip(found.rows.tolist(), found.which.tolist(), strict=True)) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0, 360, exclude_max=True), st.floats(-90, 90), st.floats(0, 360), st.floats(0, 1),
)  # fmt: skip
def test_what_is_near_lies_in_the_cells_near(ra, dec, angle, share):
    there = along_great_circle(*(np.array([value]) for value in (ra, dec, angle, share * 1.5 / 3600)))
    assert np.isin(cells_of(there[0], there[1]), cells_near(np.array([ra]), np.array([dec]), 1.5)).all()


def test_places_at_the_corners_of_cells_see_all_cells_there():
    from astropy_healpix import HEALPix

    grid = HEALPix(nside=2**14, order="nested")
    cells = np.random.default_rng(0).integers(0, grid.npix, 300)
    lon, lat = (one.to_value(units.deg)[:, 0] for one in grid.boundaries_lonlat(cells, 1))
    rng = np.random.default_rng(1)
    for ra, dec in zip(lon, lat, strict=True):
        angle, apart = rng.uniform(0, 360, 200), rng.uniform(0, 1.5, 200) / 3600
        here = along_great_circle(np.full(200, ra), np.full(200, dec), angle, apart)[:2]
        shifted = along_great_circle(np.array([ra]), np.array([dec]), angle[:1], apart[:1])[:2]
        near = SkyCoord(*here, unit="deg").separation(SkyCoord(*shifted, unit="deg")).arcsec <= 1.5
        assert np.isin(cells_of(*here)[near], cells_near(*shifted, 1.5)).all()


def test_trails_are_long_and_not_by_chance():
    length, error = np.array([1.9, 2.0, 3.0, 5.0, 5.0, 5.0, np.nan]), np.array([0.1, 0.1, 1.0, 1.0, 2.0, np.nan, 1.0])
    assert is_trail(length, error, 2.0).tolist() == [False, False, True, True, False, True, False]


def test_errors_of_positions_are_in_arcsec_and_never_vanish():
    found = position_sigma(np.array([0.3, 0.0, np.nan]) / 3600, np.array([0.4, 0.0, 0.1]) / 3600)
    np.testing.assert_allclose(found, np.hypot([math.sqrt(0.125), 0, 0.2], 0.05))


def test_statistics_are_those_of_each_object_by_itself():
    rng = np.random.default_rng(5)
    group = rng.integers(0, 4, 60)
    flux, error = rng.normal(100, 20, 60), rng.uniform(5, 20, 60)
    flux[::9], error[4] = np.nan, 0.0
    found = flux_statistics(group, flux, error, 6)
    for one in range(4):
        own = (group == one) & np.isfinite(flux) & (error > 0)
        mean = np.average(flux[own], weights=error[own] ** -2)
        count = own.sum()
        assert found.used[one] == count
        assert found.mean[one] == pytest.approx(mean)
        assert found.mean_error[one] == pytest.approx((error[own] ** -2).sum() ** -0.5)
        assert found.sigma[one] == pytest.approx(np.std(flux[own], ddof=1))
        assert found.chi2[one] == pytest.approx((((flux[own] - mean) / error[own]) ** 2).sum())
        pull = math.sqrt(count / (count - 1)) * (flux[own] - mean) / error[own]
        assert found.stetson_j[one] == pytest.approx(
            np.mean([math.copysign(abs(p * p - 1) ** 0.5, p * p - 1) for p in pull])
        )
        assert (found.least[one], found.most[one]) == (flux[own].min(), flux[own].max())
    assert found.used[4:].tolist() == [0, 0]
    assert np.isnan(np.array(found[1:])[:, 4:]).all()


def test_one_flux_has_a_mean_and_no_scatter():
    found = flux_statistics(np.zeros(1, np.int64), np.array([7.0]), np.array([2.0]), 1)
    assert (found.mean[0], found.mean_error[0], found.chi2[0], found.least[0], found.most[0]) == (7, 2, 0, 7, 7)
    assert np.isnan([found.sigma[0], found.stetson_j[0]]).all()


def test_a_constant_source_has_a_negative_index_and_a_variable_one_a_large_one():
    rng = np.random.default_rng(8)
    phase = np.sin(np.arange(50))
    flux = np.concatenate([rng.normal(100, 5, 50), 100 + 60 * phase])
    found = flux_statistics(np.repeat([0, 1], 50), flux, np.full(100, 5.0), 2)
    assert abs(found.stetson_j[0]) < 0.5
    assert found.stetson_j[1] > 5


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.floats(0.1, 5.0))
def test_pairs_beside_each_other_are_those_that_astropy_finds(seed, count, arcsec):
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(359.9995, 360.0005, count) % 360, rng.uniform(-3e-4, 3e-4, count) + 60
    touched = rng.random(count) < 0.4
    apart = SkyCoord(ra[:, None], dec[:, None], unit="deg").separation(SkyCoord(ra[None], dec[None], unit="deg"))
    expected = {
        (i, j) for i in range(count) for j in range(i + 1, count)
        if apart[i, j].arcsec <= arcsec and (touched[i] or touched[j])
    }  # fmt: skip
    first, second = pairs_beside(unit_vectors(ra, dec), touched, arcsec)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == sorted(expected)


def test_two_places_alone_lie_beside_each_other():
    first, second = pairs_beside(at([0.0, 0.5]), np.array([False, True]), 1.0)
    assert (first.tolist(), second.tolist()) == ([0], [1])
    assert [len(one) for one in pairs_beside(at([0.0]), np.array([True]), 1.0)] == [0, 0]
    assert [len(one) for one in pairs_beside(at([0.0, 0.5]), np.zeros(2, bool), 1.0)] == [0, 0]
