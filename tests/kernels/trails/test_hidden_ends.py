import numpy as np
import pytest

from kernels.trails.geometry import Segment
from kernels.trails.hidden_ends import _unusable, as_seen, hidden_covariance, hidden_ends

FWHM = 2.3
OPEN = np.ones((60, 80), bool)


def hidden_beyond(x):
    usable = OPEN.copy()
    usable[:, x:] = False
    return usable


def test_a_trail_among_usable_pixels_stays_as_it_is():
    trail = Segment(40.0, 30.0, 20.0, 17.0)
    assert as_seen(OPEN, FWHM, trail) == trail
    assert not hidden_covariance(OPEN, FWHM, trail, 1.0).any()


@pytest.mark.parametrize("angle", [0.0, 180.0 - 1e-9])
def test_it_is_cut_where_unusable_pixels_begin(angle):
    trail = Segment(40.0, 30.0, 20.0, angle)  # from x = 30 to 50
    part = as_seen(hidden_beyond(45), FWHM, trail)
    assert sorted(part.ends()[::2]) == pytest.approx([30, 44.5], abs=0.51)
    assert part.angle == angle
    assert as_seen(hidden_beyond(52), FWHM, trail) == trail


def test_where_it_ends_is_as_uncertain_as_the_pixels_that_hide_it_are_wide():
    usable = hidden_beyond(50)
    usable[:, 56:] = True
    trail = Segment(40.0, 30.0, 20.0, 0.0)
    left, right = hidden_ends(usable, FWHM, trail, 1.0)
    assert (left.first, left.last) == (0, 0)
    assert (right.first, right.last) == pytest.approx((-0.5, 6), abs=0.6)
    covariance = hidden_covariance(usable, FWHM, trail, 0.5)
    draws = np.random.default_rng(0).uniform(right.first, right.last, 100_000)
    changes = np.stack([0 * draws, draws / 2, 0 * draws, draws, 0 * draws])
    assert covariance == pytest.approx(changes @ changes.T / draws.size, rel=0.02, abs=1e-9)


def test_nothing_is_hidden_beyond_the_image():
    trail = Segment(70.0, 30.0, 19.0, 0.0)
    assert as_seen(OPEN, FWHM, trail) == trail
    assert not hidden_covariance(OPEN, FWHM, trail, 1.0).any()


def test_a_column_hides_no_end():
    usable = OPEN.copy()
    usable[:, 50] = False
    trail = Segment(40.0, 30.0, 20.0, 0.0)
    assert as_seen(usable, FWHM, trail) == trail
    assert not hidden_covariance(usable, FWHM, trail, 1.0).any()


def test_a_trail_of_which_most_is_hidden_is_cut_where_it_is_seen():
    part = as_seen(hidden_beyond(35), FWHM, Segment(40.0, 30.0, 20.0, 0.0))
    assert part.ends()[::2] == pytest.approx([30, 34.5], abs=0.51)


def test_a_trail_that_is_hidden_whole_stays_as_it_is():
    trail = Segment(70.0, 30.0, 8.0, 0.0)
    assert as_seen(hidden_beyond(40), FWHM, trail).length == pytest.approx(8.0)


def test_a_fwhm_that_is_seen_is_enough_of_a_trail():
    trail = Segment(40.0, 30.0, 20.0, 0.0)  # from x = 30 to 50
    for hidden, length in ((33, 2.0), (32, 20.0)):
        assert as_seen(hidden_beyond(hidden), 2.0, trail).length == length


@pytest.mark.parametrize(("columns", "wide"), [(2, True), (1, False)])
def test_unusable_pixels_a_fwhm_wide_hide_an_end(columns, wide):
    usable = OPEN.copy()
    usable[:, 50 : 50 + columns] = False
    _, right = hidden_ends(usable, 2.5, Segment(40.0, 30.0, 20.0, 0.0), 1.0)
    assert (right.first, right.last) == ((-1.0, 1.5) if wide else (0.0, 0.0))
    assert right.inside == wide


@pytest.mark.parametrize(("rows", "hidden"), [((29, 31), True), ((30, 32), True), ((31, 32), False), ((30, 31), False)])
def test_two_of_three_places_across_a_trail_must_be_unusable(rows, hidden):
    usable = OPEN.copy()
    usable[rows[0] : rows[1], 45:] = False  # the places are in rows 29, 30 and 31
    trail = Segment(40.0, 30.0, 20.0, 0.0)
    assert (as_seen(usable, FWHM, trail).length < 20) == hidden


@pytest.mark.parametrize(("close", "found"), [(1.0, False), (1.5, True), (0.0, False)])
def test_an_end_as_near_to_unusable_pixels_as_it_may_be_off_is_hidden(close, found):
    _, right = hidden_ends(hidden_beyond(52), FWHM, Segment(40.0, 30.0, 20.0, 0.0), close)
    assert (right.last > 0) == found
    assert not right.inside


def test_pixels_at_the_border_may_be_unusable_and_there_are_none_beyond():
    usable = np.zeros((3, 4), bool)
    usable[1, 1] = True
    for row in range(-1, 4):
        for column in range(-1, 5):
            inside = 0 <= row < 3 and 0 <= column < 4
            assert _unusable(usable, np.array([column, row])) == (inside and (row, column) != (1, 1))
