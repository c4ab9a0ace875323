import numpy as np
import pytest

from kernels.linking.nights import Window, _with_probe, ecliptic, find_links, hypotheses, nights_of, three_nights
from kernels.sky.observatories import AU_KM


def test_hypotheses_are_paths_of_bound_orbits():
    """The distance that integration gives after two days is that of the hypothesis."""
    gm, day = 0.01720209895**2, 2.0
    for r, rate, change in hypotheses()[::97]:
        across = np.sqrt(gm * r * (1 - change)) / r
        state = np.array([r, 0.0, rate, across])
        step = 0.001
        for _ in range(round(day / step)):
            half = state[2:] - 0.5 * step * gm * state[:2] / np.hypot(*state[:2]) ** 3
            place = state[:2] + step * half
            state = np.concatenate([place, half - 0.5 * step * gm * place / np.hypot(*place) ** 3])
        expected = r + rate * day - 0.5 * change * gm / r**2 * day**2
        assert np.hypot(*state[:2]) == pytest.approx(expected, abs=2e-5)
        assert state[2] ** 2 + state[3] ** 2 < 2 * gm / np.hypot(*state[:2])


def test_hypotheses_cover_the_main_belt():
    r, rate, change = hypotheses().T
    for one in (2.1, 2.7, 3.3):
        near = np.abs(r - one) < 0.03
        assert {0.0, 0.4, -0.4} <= set(np.round(change[near & (rate == 0)], 1))
        assert np.ptp(rate[near]) >= 0.016


def test_nights_are_told_by_gaps():
    assert nights_of(np.array([])) == 0
    assert nights_of(np.array([60000.2, 60000.3, 60001.2, 60003.3, 60003.1])) == 3
    assert nights_of(np.array([0.0, 0.25, 0.5, 0.75])) == 1  # six hours are none
    assert nights_of(np.array([0.0, 0.26, 0.5])) == 2


def test_three_nights_are_found_among_many_and_not_among_two():
    sites = np.arange(0, 6, 0.1)  # all around the Earth: there is no gap
    some = [[0.0, 0.3, 1.2, 13.0, 13.3], [13.0, 12.0, 0.3, 0.0], [0.0, 0.5, 1.0]]
    for mjd in (sites, *map(np.array, some)):
        first, middle, last = mjd[three_nights(mjd)]
        assert (first, last) == (mjd.min(), mjd.max())
        assert min(middle - first, last - middle) >= 0.5
    for mjd in (np.array([]), np.array([1.0]), np.array([0.0, 0.3, 13.0, 13.3])):
        assert len(three_nights(mjd)) == 0


def test_the_sun_stays_in_the_ecliptic():
    north = np.array([[0.0, -np.sin(np.radians(23.439291)), np.cos(np.radians(23.439291))]])
    assert ecliptic(north) == pytest.approx(np.array([[0.0, 0.0, 1.0]]), abs=1e-7)


def earth(time):
    """Place, km, and velocity, km / d, of a body that goes round the Sun as the Earth does."""
    gauss = 0.01720209895
    angle = gauss * (np.asarray(time) - 61000)
    place = AU_KM * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    return place, gauss * np.stack([-place[:, 1], place[:, 0], 0 * angle], axis=1)


def three_pairs():
    """Window of a pair in each of three nights."""
    mjd, days = 61000 + np.array([0.1, 0.15, 5.1, 5.15, 9.1, 9.15]), np.arange(60995.0, 61016.0)
    return Window(
        mjd, np.zeros(6), np.zeros(6), np.arange(6), np.ones(6), earth(mjd)[0],
        np.column_stack([days, *earth(days)]), np.arange(6), np.array([0, 0, 1, 1, 2, 2]),
    )  # fmt: skip


def answer(monkeypatch, *candidates):
    """Have heliolinx find these candidates whatever it is asked."""
    library = pytest.importorskip("heliolinx")
    pairs = library.create_longpair(sum(map(len, candidates)))
    pairs["i1"] = np.repeat(np.arange(len(candidates)), [len(one) for one in candidates])
    pairs["i2"] = np.concatenate(candidates)
    monkeypatch.setattr(library, "heliolinc", lambda *asked: (None, pairs))
    return library


def test_candidates_are_those_of_heliolinx_without_the_mover_that_is_put_in(monkeypatch):
    answer(monkeypatch, [4, 0, 2, 2], [6, 8, 10], [5, 1, 3])
    assert [rows.tolist() for rows in find_links(three_pairs())] == [[0, 2, 4], [1, 3, 5]]
    answer(monkeypatch, [5, 1, 3], [0, 2, 6])
    assert [rows.tolist() for rows in find_links(three_pairs())] == [[1, 3, 5]]


def test_an_answer_without_the_mover_that_is_put_in_is_not_believed(monkeypatch):
    answer(monkeypatch, [4, 0, 2], [5, 1, 3])
    with pytest.raises(ValueError, match="mover that was put in"):
        find_links(three_pairs())


def test_tables_with_rows_of_another_size_cannot_be_read(monkeypatch):
    library = answer(monkeypatch, [0, 2, 6])
    monkeypatch.setattr(library, "create_longpair", lambda count: np.zeros(count, "i4, i4"))
    with pytest.raises(ValueError, match="cannot be read"):
        find_links(three_pairs())


def test_the_mover_that_is_put_in_goes_round_the_sun_by_its_law_against_the_planets():
    gauss, radius = 0.01720209895, 0.9 * 1.015**81  # au
    window = three_pairs()
    mjd = window.mjd
    found = _with_probe(window)
    assert found.mjd.tolist() == [*mjd, *mjd]
    assert (found.members.tolist(), found.group.tolist()) == (list(range(12)), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    ra, dec, observer = np.radians(found.ra[6:]), np.radians(found.dec[6:]), found.observer[6:] / AU_KM
    ray = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    along = (ray * observer).sum(1)
    place = observer + (np.sqrt(along**2 - (observer**2).sum(1) + radius**2) - along)[:, None] * ray  # |place| = radius
    middle = 61000 + (0.1 + 9.15) / 2
    opposite = gauss * (round(middle) - 61000)  # where the Earth is on the nearest day
    turned = np.arctan2(place[:, 1], place[:, 0]) - opposite
    np.testing.assert_allclose(turned, -gauss / radius**1.5 * (mjd - middle), atol=1e-7)
    np.testing.assert_allclose(place[:, 2], 0, atol=1e-7)
