"""Shares of stars, galaxies and quasars against counts that others published."""

import math

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from kernels.objects.sky_prior import (
    UNMEASURED,
    _galaxies_to,
    _quasars,
    _stars_to,
    in_r,
    sky_shares,
)


def at(longitude, latitude):
    place = SkyCoord(np.atleast_1d(longitude), np.atleast_1d(latitude), unit="deg", frame="galactic").icrs
    return place.ra.deg, place.dec.deg


@pytest.mark.parametrize(
    ("to", "counted", "within"),
    [
        # Strauss et al. 2002 (AJ 124, 1810): 92 galaxies per square degree in the main sample, to r = 17.77
        (lambda: _galaxies_to(17.77), 92, 1.2),
        # Croom et al. 2004 (MNRAS 349, 1397): 23,338 quasars of b_J 18.25 to 20.85 in 721.6 square deg, 85 %
        (lambda: float(np.trapezoid(_quasars(np.linspace(18.25, 20.85, 500)), dx=2.6 / 499)), 38, 1.3),
        # the same, to the faintest: Palanque-Delabrouille et al. 2013
        (lambda: float(np.trapezoid(_quasars(np.linspace(12, 22, 5001)), dx=10 / 5000)), 99, 1.001),
    ],
)
def test_counts_are_those_of_surveys(to, counted, within):
    assert counted / within < to() < counted * within


@pytest.mark.parametrize(("latitude", "fewest", "most"), [(90, 1.0, 1.0), (50, 1.2, 1.8), (30, 2.5, 5.0)])
def test_stars_are_more_towards_the_milky_way(latitude, fewest, most):
    place = np.deg2rad(90.0), np.deg2rad(float(latitude))
    pole = _stars_to(np.array(20.0), np.deg2rad(90.0), np.deg2rad(90.0))
    assert fewest <= _stars_to(np.array(20.0), *place) / pole <= most


def bahcall_and_soneira(v, longitude, latitude):
    """Stars per square degree to V: equation B1 of Bahcall & Soneira 1980 (ApJS 44, 73)."""
    mu = 0.03 if v <= 12 else 0.0075 * (v - 12) + 0.03 if v < 20 else 0.09
    gamma = 0.36 if v <= 12 else 0.04 * (12 - v) + 0.36 if v < 20 else 0.04
    sine, cosine = math.sin(math.radians(latitude)), math.cos(math.radians(latitude))
    towards = cosine * math.cos(math.radians(longitude))
    total = 0.0
    for c, alpha, beta, m, delta, (base, power) in (
        (925, -0.132, 0.035, 15.75, 3.0, (sine - mu * towards, 3 - 5 * gamma)),
        (1050, -0.18, 0.087, 17.5, 2.5, (1 - towards, 1.45 - 0.20 * towards)),
    ):
        total += c * 10 ** (beta * (v - m)) / (1 + 10 ** (alpha * (v - m))) ** delta / base**power
    return total


@pytest.mark.parametrize("v", [10.0, 12.0, 15.5, 20.0, 23.0])
@pytest.mark.parametrize("place", [(0.0, 30.0), (180.0, 30.0), (60.0, 50.0), (250.0, 85.0)])
def test_stars_are_those_of_the_formula_one_at_a_time(v, place):
    assert _stars_to(np.array(v), *np.deg2rad(place)) == pytest.approx(bahcall_and_soneira(v, *place))


@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(5, 30))
def test_shares_sum_to_one_anywhere(longitude, latitude, r):
    found = sky_shares(*at(longitude, latitude), np.array([r]))
    assert found.shape == (1, 3)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()


@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(10.0, 26.0))
def test_faint_sources_are_more_often_galaxies_and_those_near_the_milky_way_less(longitude, latitude, r):
    bright, faint = (sky_shares(*at(longitude, latitude), np.array([one]))[0, 1] for one in (r, r + 0.5))
    assert faint >= bright * (1 - 1e-9)
    low, high = (sky_shares(*at(90.0, one), np.array([r]))[0, 1] for one in (25.0, 85.0))
    assert high > low


def test_what_is_nearer_than_20_deg_counts_as_at_20():
    low = sky_shares(*at([100.0, 100.0], [20.0, -3.0]), np.full(2, 18.0))
    np.testing.assert_allclose(low[0], low[1], rtol=1e-6)


def test_the_first_band_there_is_stands_for_r():
    nothing = np.full(3, np.nan)
    bands = {"g": np.array([18.6, 18.6, np.nan]), "r": np.array([17.0, np.nan, np.nan]), "u": nothing}
    np.testing.assert_allclose(in_r(bands), [17.0, 18.0, np.nan])
    place = at(np.full(2, 90.0), np.full(2, 60.0))
    unmeasured, faint = sky_shares(*place, np.array([np.nan, UNMEASURED]))
    np.testing.assert_array_equal(unmeasured, faint)
