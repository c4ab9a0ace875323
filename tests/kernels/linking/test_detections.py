import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.linking.detections import (
    SLOWEST,
    arc,
    chord,
    detections_at,
    detections_of,
    find_stationary,
    first_copies,
    name_of_half,
)


def at(ra, dec, mjd, sigma=0.2):
    ra, dec, mjd = (np.asarray(one, float) for one in (ra, dec, mjd))
    return detections_at(ra, dec, mjd, np.full(len(ra), sigma))


@given(st.floats(1e-3, 180 * 3600))
def test_arcs_and_chords_are_reverse(arcsec):
    assert arc(chord(arcsec)) == pytest.approx(arcsec, rel=1e-6)


@pytest.mark.parametrize(
    ("apart", "days", "sigma", "rests"),
    [
        (0.9, 0.02, 0.2, True),
        (1.1, 0.02, 0.2, False),  # arcsec
        (0.9, 0.009, 0.2, False),  # too soon to tell: 1 arcsec at the least rate takes 13 minutes
        (0.9, 300.0, 0.2, True),
        (2.0, 0.03, 0.5, True),  # within 3 standard deviations of the distance, 2.1 arcsec
        (2.2, 0.03, 0.5, False),
    ],
)
def test_what_is_seen_again_at_its_place_rests(apart, days, sigma, rests):
    found = find_stationary(at([10.0, 10.0 + apart / 3600], [0.0, 0.0], [60000.0, 60000.0 + days], sigma))
    assert found.tolist() == [rests, rests]


def test_what_has_had_the_time_to_move_by_an_arcsecond_rests():
    days = 1 / 3600 / SLOWEST
    assert find_stationary(at([10.0, 10.0], [0.0, 0.0], [0.0, days])).all()
    assert not find_stationary(at([10.0, 10.0], [0.0, 0.0], [0.0, np.nextafter(days, 0)])).any()


def test_the_slowest_mover_does_not_rest():
    days = np.arange(0, 0.2, 0.01)
    assert not find_stationary(at(10 + 1.2 * SLOWEST * days, 0 * days, 60000 + days)).any()


@pytest.mark.parametrize("sigma", [0.1, 15.0])
def test_copies_are_of_one_observatory_time_and_place(sigma):
    """Of 400 detections within 40 arcsec, against all pairs of them; however uncertain they are."""
    rng = np.random.default_rng(3)
    ra, dec = 30 + rng.uniform(0, 40, 400) / 3600, rng.uniform(0, 40, 400) / 3600
    mjd, codes = 60000 + rng.integers(0, 3, 400) / 100, rng.choice(["I41", "W84"], 400)
    preferred = rng.random(400) < 0.3
    first = first_copies(detections_at(ra, dec, mjd, np.full(400, sigma)), codes, preferred)
    apart = np.hypot(ra[:, None] - ra, dec[:, None] - dec) * 3600
    alike = (apart <= 1.0) & (mjd[:, None] == mjd) & (codes[:, None] == codes)
    expected = np.full(400, -1)
    for one in sorted(range(400), key=lambda n: (not preferred[n], n)):
        if expected[one] < 0:
            expected[alike[one] & (expected < 0)] = one
    assert (first == expected).all()
    assert 50 < len(np.unique(first)) < 390


def test_one_alone_does_not_rest_and_a_place_seen_often_does():
    assert not find_stationary(at([10.0], [5.0], [60000.0])).any()
    assert not find_stationary(at([], [], [])).any()
    rng = np.random.default_rng(1)
    often = at(30 + rng.normal(0, 0.1 / 3600, 500), rng.normal(0, 0.1 / 3600, 500), 60000 + np.arange(500) / 24)
    assert find_stationary(often).all()


@pytest.mark.parametrize(
    ("stated", "sigma"),
    [
        ({"posErr": 0.4}, 0.4),
        ({"raErr": 0.3 / 3600, "decErr": 0.4 / 3600}, 0.5 / np.sqrt(2)),
        ({"posErr": 0.4, "raErr": 1.0, "decErr": 1.0}, 0.4),
        ({"posErr": np.nan, "raErr": 1 / 3600, "decErr": 1 / 3600}, 1.0),
        ({"posErr": 0.0}, 0.2),
        ({"posErr": 0.0, "raErr": 0.3 / 3600, "decErr": 0.4 / 3600}, 0.5 / np.sqrt(2)),
        ({"raErr": 0.0, "decErr": 0.0}, 0.2),
        ({"raErr": np.nan, "decErr": 1.0}, 0.2),
        ({}, 0.2),
    ],
)
def test_errors_of_positions_are_those_stated(stated, sigma):
    place = {"ra": 10.0, "dec": 20.0, "midpointMjdTai": 60000.0}
    found = detections_of({name: np.array([value], np.float32) for name, value in (place | stated).items()})
    assert found.sigma == pytest.approx([sigma], rel=1e-6)
    assert found.vectors.shape == (1, 3)


def test_what_is_not_stated_is_not_known():
    place = {name: np.array([value]) for name, value in (("ra", 10.0), ("dec", 20.0), ("midpointMjdTai", 60000.0))}
    found = detections_of(place | {"exposureTime": np.array([0.0]), "trailLengthErr": np.array([0.5])})
    assert np.isnan([found.exposure_time[0], found.trail_length[0], found.angle_error[0], found.magnitude[0]]).all()
    assert found.length_error[0] == 0.5


@pytest.mark.parametrize(
    ("names", "half"),
    [
        (("7", "7", ""), "7"),
        (("", "7"), "7"),
        ((None, "7", None, "7"), "7"),
        (("", "", "7"), ""),
        (("7", "8"), ""),
        (("7", "8", "", "8"), "8"),
        ((), ""),
    ],
)
def test_a_name_is_that_of_half_of_the_detections_if_no_other_is(names, half):
    assert name_of_half(names) == half
    assert name_of_half(reversed(names)) == half
