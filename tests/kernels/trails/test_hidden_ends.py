import numpy as np
import pytest

from kernels.trails.geometry import Segment
from kernels.trails.hidden_ends import as_seen, hidden_covariance, hidden_ends

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
