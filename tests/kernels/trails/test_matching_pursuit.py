import math

import numpy as np
import pytest

from kernels.image.noise import filtered_noise
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails import matching_pursuit
from kernels.trails.geometry import DetectedSegment, lies_on
from kernels.trails.matching_pursuit import (
    Optics,
    Windows,
    _bridged,
    _is_residue,
    _light,
    pursue_trails,
    trail_model,
)
from kernels.trails.trail_ascent import trail_snr
from kernels.trails.trail_bank import point_snr, trail_bank
from kernels.trails.trail_model import trail_image

WHITE = np.array([[1.0]])
SHAPE = (150, 150)


def optics(fwhm=2.3):
    psf = moffat_mixture(fwhm, 3.0)
    return Optics(psf, fwhm, trail_bank(psf, fwhm, 1.0, WHITE))


OPTICS = optics()


def scene(trails, seed, fwhm=2.3):
    """White noise of 1 with trails (x, y, length, angle, S/N) in it."""
    image = np.random.default_rng(seed).normal(size=SHAPE)
    for x, y, length, angle, snr in trails:
        template = trail_image(SHAPE, x, y, length, angle, moffat_mixture(fwhm, 3.0))
        image += snr * filtered_noise(template, 1.0, WHITE) / np.sum(template**2) * template
    return image.astype(np.float32)


def pursue(image, usable=None, found_with=OPTICS, min_snr=5.0, limit=20):
    allowed = np.zeros(SHAPE, bool)
    allowed[45:105, 45:105] = True
    usable = np.ones(SHAPE, bool) if usable is None else usable
    return pursue_trails(image, usable, Windows(allowed, allowed), found_with, min_snr, limit)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fwhm", [2.0, 2.5])
def test_parallel_trails_10_px_apart_are_two(seed, fwhm):
    angle, length = 17.0 + 43 * seed, (25.0, 40.0, 55.0, 20.0)[seed]
    theta = math.radians(angle)
    trails = [
        (75.0, 75.0, length, angle, 12.0),
        (75 - 10 * math.sin(theta), 75 + 10 * math.cos(theta), length, angle, 25.0),
    ]
    found = pursue(scene(trails, seed + 20, fwhm), found_with=optics(fwhm))
    assert len(found) == 2
    for x, y, *_ in trails:
        assert min(math.hypot(each.x - x, each.y - y) for each in found) < 3


@pytest.mark.parametrize("snr", [10.0, 100.0, 1000.0])
@pytest.mark.parametrize("length", [0.0, 12.0, 40.0])
@pytest.mark.parametrize("wrong", [0.85, 1.0, 1.15])
def test_what_subtraction_leaves_is_no_trail(snr, length, wrong):
    found = pursue(scene([(74.3, 76.1, length, 35.0, snr)], 5), found_with=optics(2.3 * wrong))
    assert len(found) == 1
    assert math.hypot(found[0].x - 74.3, found[0].y - 76.1) < 1.5


@pytest.mark.parametrize("seed", range(3))
def test_crossing_trails_are_two(seed):
    trails = [(75.0, 75.0, 45.0, 20.0 + 30 * seed, 30.0), (77.0, 72.0, 40.0, 95.0 + 30 * seed, 15.0)]
    assert len(pursue(scene(trails, seed + 20))) == 2


def test_point_sources_15_px_apart_are_two():
    found = pursue(scene([(70.0, 75.0, 0.0, 0.0, 12.0), (85.0, 75.0, 0.0, 0.0, 9.0)], 2))
    assert [each.length for each in found] == [0, 0]
    assert [round(each.x) for each in found] == [70, 85]


def test_only_what_is_positive_counts():
    negative = [(75.0, 75.0, 20.0, 30.0, -40.0), (60.0, 90.0, 0.0, 0.0, -15.0)]
    assert pursue(scene(negative, 3)) == []
    (lobe,) = pursue(scene([(75.0, 75.0, 0.0, 0.0, 60.0), (78.0, 76.0, 0.0, 0.0, -60.0)], 3))
    assert lobe.x < 75.5


def test_bright_star_outside_does_not_draw_trails_towards_it():
    found = pursue(scene([(75.0, 75.0, 20.0, 120.0, 15.0), (118.0, 75.0, 0.0, 0.0, 400.0)], 4))
    assert [round(each.length / 10) for each in found] == [2]


@pytest.mark.parametrize("angle", [0.0, 40.0, 90.0])
def test_bright_stars_outside_do_not_use_up_the_tries(angle):
    """As many hits as trails to try, and brighter light about all of them."""
    stars = [(75 + 36 * math.cos(turn), 75 + 36 * math.sin(turn), 0.0, 0.0, 300.0) for turn in (0.3, 1.9, 3.4, 5.1)]
    image = scene([(75.0, 75.0, 4.0, angle, 12.0), *stars], 11)
    allowed = np.zeros(SHAPE, bool)
    allowed[60:91, 60:91] = True
    found = pursue_trails(image, np.ones(SHAPE, bool), Windows(allowed, allowed), OPTICS, 5.0, 2)
    assert min(math.hypot(one.x - 75, one.y - 75) for one in found) < 1.5


@pytest.mark.parametrize("seed", range(6))
def test_a_trail_with_faint_light_in_line_is_no_longer_for_it(seed):
    """A line of 60 px has a higher S/N than the trail at its end, but most of its light is that trail's."""
    theta = math.radians(25.0)
    x, y = 75 + 30 * math.cos(theta), 75 + 30 * math.sin(theta)
    found = pursue(scene([(75.0, 75.0, 8.0, 25.0, 11.0), (x, y, 50.0, 25.0, 3.5)], seed))
    assert found[0].length < 20
    assert math.hypot(found[0].x - 75, found[0].y - 75) < 4


@pytest.mark.parametrize("seed", range(6))
def test_an_even_trail_is_found_whole(seed):
    (found,) = pursue(scene([(75.0, 75.0, 50.0, 30.0 * seed, 12.0)], seed + 40))
    assert found.length == pytest.approx(50, abs=14)


def test_trail_behind_a_mask_is_one():
    usable = np.ones(SHAPE, bool)
    usable[65:85, 70:82] = False
    (found,) = pursue(scene([(75.0, 75.0, 60.0, 10.0, 40.0)], 6), usable)
    assert found.length == pytest.approx(60, abs=6)


def test_nothing_usable_gives_nothing():
    assert pursue(scene([(75.0, 75.0, 0.0, 0.0, 50.0)], 7), np.zeros(SHAPE, bool)) == []


def test_tries_no_more_than_it_is_told():
    trails = [(60.0 + 15 * k, 75.0, 0.0, 0.0, 20.0) for k in range(3)]
    assert len(pursue(scene(trails, 8), limit=2)) == 2


@pytest.mark.parametrize("length", [0.0, 30.0])
def test_model_has_the_flux_of_the_source(length):
    template = trail_image(SHAPE, 70.2, 75.7, length, 50.0, OPTICS.psf)
    snr = 1000 * np.sum(template**2) / filtered_noise(template, 1.0, WHITE)
    model = trail_model(DetectedSegment(70.2, 75.7, length, 50.0, snr), SHAPE, OPTICS)
    assert np.abs(model - 1000 * template).max() < 0.05 * 1000 * template.max()


def test_same_means_on_it_or_where_it_ends():
    trail = DetectedSegment(0.0, 0.0, 40.0, 0.0, 30.0)
    assert lies_on(DetectedSegment(10.0, 1.0, 5.0, 20.0, 6.0), trail, 2.3)
    assert lies_on(DetectedSegment(23.0, 0.0, 0.0, 0.0, 6.0), trail, 2.3)
    assert not lies_on(DetectedSegment(0.0, 10.0, 40.0, 0.0, 6.0), trail, 2.3)
    assert not lies_on(DetectedSegment(40.0, 0.0, 0.0, 0.0, 6.0), trail, 2.3)


def bridged(first, second, alive=None):
    """Number of trails that two pieces are, for a PSF of 2 px, on pixels that count or not."""
    alive = np.ones(SHAPE, bool) if alive is None else alive
    pieces = [DetectedSegment(*one, 9.0) for one in (first, second)]
    found = [len(_bridged(order, alive, 2.0)) for order in (pieces, pieces[::-1])]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [
        ((50, 50, 6.0, 0), (56, 50, 0, 0), 1),  # of 3 FWHM, and 3 px apart
        ((50, 50, 5.99, 0), (56, 50, 0, 0), 2),
        ((50, 50, 20, 0), (74, 50, 20, 0), 1),  # 4 px apart: 2 FWHM
        ((50, 50, 20, 0), (74.1, 50, 20, 0), 2),
        ((50, 50, 20, 90), (50, 74, 10, 90), 2),
        ((50, 50, 20, 90), (50, 69, 10, 90), 1),
        ((50, 50, 20, 0), (65, 52.39, 6, 0), 1),  # 1.2 FWHM beside it
        ((50, 50, 20, 0), (65, 52.41, 6, 0), 2),
        ((50, 50, 20, 0), (65, 47.59, 6, 0), 2),
        ((141, 50, 18, 0), (200, 50, 18, 0), 1),  # what lies between is beyond the image
        ((50, 150, 20, 0), (80, 150, 20, 0), 1),
        ((150, 50, 20, 90), (150, 80, 20, 90), 1),
        ((50, 0, 20, 0), (80, 0, 20, 0), 2),  # or in its outermost pixels
        ((50, 149, 20, 0), (80, 149, 20, 0), 2),
        ((0, 50, 20, 90), (0, 80, 20, 90), 2),
        ((149, 50, 20, 90), (149, 80, 20, 90), 2),
    ],
)
def test_pieces_are_one_trail_if_less_than_two_fwhm_can_be_seen_between_them(first, second, count):
    assert bridged(first, second) == count


def test_what_lies_between_pieces_counts_where_it_can_be_seen():
    for seen, count in ((4, 1), (5, 2)):  # of 31 places along a gap of 30 px
        alive = np.zeros(SHAPE, bool)
        alive[50, 70 : 70 + seen] = True
        assert bridged((50, 50, 20, 0), (100, 50, 20, 0), alive) == count
        assert bridged((50, 50, 20, 90), (50, 100, 20, 90), alive.T.copy()) == count


@pytest.mark.parametrize(("snr", "count"), [(3.0, 1), (6.99, 1), (7.01, 2), (0.78, 1), (0.77, 2)])
def test_pieces_of_one_trail_differ_in_brightness_by_a_factor_of_three_at_most(snr, count):
    line, spot = DetectedSegment(50.0, 50.0, 16.0, 0.0, 7.0), DetectedSegment(56.0, 50.0, 0.0, 0.0, snr)
    for pieces in ([line, spot], [spot, line]):
        assert len(_bridged(pieces, np.ones(SHAPE, bool), 2.0)) == count


@pytest.mark.parametrize("snr", [30.0, 200.0])
def test_a_bright_star_on_a_faint_line_stays_a_point(snr):
    stars = [(60.0, 62.0, 0.0, 0.0, snr), (75.0, 71.0, 40.0, 31.0, 7.0)]
    for seed in range(4):
        found = pursue(scene(stars, seed))
        assert found[0].length < 2
        assert np.hypot(found[0].x - 60, found[0].y - 62) < 0.5


def residue(trail, earlier, min_snr=5.0):
    earlier = DetectedSegment(*earlier)
    light = _light(earlier, trail_model(earlier, SHAPE, OPTICS), OPTICS, min_snr)
    return _is_residue(DetectedSegment(*trail), [earlier], [light], OPTICS)


BRIGHT = (75.0, 75.0, 30.0, 0.0, 1000.0)


@pytest.mark.parametrize(
    ("snr", "x", "y", "is_residue"),
    [
        (19.9, 75.0, 84.0, True),  # less than 2 % within 4 FWHM, which are 9.2 px
        (20.0, 75.0, 84.0, False),
        (19.9, 75.0, 84.3, False),
        (19.9, 75.0, 66.0, True),
        (19.9, 99.0, 75.0, True),
        (900.0, 80.0, 75.0, True),  # on the trail itself
    ],
)
def test_peaks_near_a_bright_trail_are_its_residue(snr, x, y, is_residue):
    assert residue((x, y, 0.0, 0.0, snr), BRIGHT) == is_residue
    assert not _is_residue(DetectedSegment(x, y, 0.0, 0.0, snr), [], [], OPTICS)


@pytest.mark.parametrize(("y", "is_residue"), [(84.5, False), (83.5, True)])
def test_what_is_near_a_bright_trail_for_no_more_than_half_is_no_residue(y, is_residue):
    """Two points 1 px apart, of which one lies within 4 FWHM, or both."""
    assert residue((75.0, y, 1.0, 90.0, 19.9), BRIGHT) == is_residue


def test_across_a_bright_trail_a_tenth_of_its_light_is_its_residue():
    model = trail_model(DetectedSegment(*BRIGHT), SHAPE, OPTICS)
    there = trail_snr(point_snr(model, OPTICS.bank), OPTICS.bank.lags, 75.0, 45.0, 75.0, 105.0)
    assert there > 60
    for snr, min_snr, is_residue in (
        (0.0999 * there, 5.0, True),
        (0.1001 * there, 5.0, False),
        (0.0999 * there, 99.9, True),  # a tenth of it is above the least S/N
        (0.0999 * there, 100.0, False),
    ):
        assert residue((75.0, 75.0, 60.0, 90.0, snr), BRIGHT, min_snr) == is_residue


@pytest.mark.parametrize(
    ("length", "even", "is_line"),
    [(6.89, 0.1, True), (3 * 2.3, 0.59, False), (3 * 2.3, 0.6, True), (30.0, 0.0, False), (30.0, 0.9, True)],
)
def test_what_is_not_even_is_the_brightest_of_its_spots(monkeypatch, length, even, is_line):
    line, spot = DetectedSegment(50.0, 50.0, length, 20.0, 9.0), DetectedSegment(53.0, 51.0, 0.0, 20.0, 8.0)
    monkeypatch.setattr(matching_pursuit, "refine_trail", lambda snr, lags, start: line)
    monkeypatch.setattr(matching_pursuit, "evenness", lambda snr, trail: even)
    monkeypatch.setattr(matching_pursuit, "brightest_point", lambda snr, trail: spot)
    monkeypatch.setattr(matching_pursuit, "refine_point", lambda snr, lags, start: start._replace(snr=10.0))
    found = matching_pursuit._refined(np.zeros((9, 9), np.float32), line, OPTICS)
    assert found == (line if is_line else spot._replace(snr=10.0))


@pytest.mark.parametrize(("snr", "taken"), [(9.0, True), (8.9, False)])
def test_a_piece_that_has_four_fifths_of_the_signal_squared_is_the_trail(monkeypatch, snr, taken):
    line = DetectedSegment(50.0, 50.0, 30.0, 20.0, 10.0)
    piece = line._replace(length=12.0, snr=snr)
    monkeypatch.setattr(matching_pursuit, "refine_trail", lambda snr, lags, start: start)
    monkeypatch.setattr(matching_pursuit, "evenness", lambda snr, trail: 1.0)
    monkeypatch.setattr(matching_pursuit, "brightest_part", lambda snr, lags, trail: piece)
    found = matching_pursuit._refined(np.zeros((9, 9), np.float32), line, OPTICS)
    assert found == (piece if taken else line)


@pytest.mark.parametrize(
    ("x", "y", "length", "angle", "box"),
    [
        (70.0, 60.0, 0.0, 0.0, (53, 68, 63, 78)),  # the stamp reaches 7 px
        (70.2, 60.7, 0.0, 0.0, (53, 69, 63, 79)),
        (70.0, 60.0, 20.0, 0.0, (53, 68, 53, 88)),
        (70.0, 60.0, 21.0, 53.1301, (44, 77, 56, 85)),
        (4.0, 147.0, 20.0, 0.0, (140, 150, 0, 22)),
        (147.0, 4.0, 20.0, 90.0, (0, 22, 140, 150)),
    ],
)
def test_a_model_is_drawn_as_far_as_the_stamp_reaches(x, y, length, angle, box):
    model = trail_model(DetectedSegment(x, y, length, angle, 50.0), SHAPE, OPTICS)
    y0, y1, x0, x1 = box
    inside = np.zeros(SHAPE, bool)
    inside[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(model != 0, inside)
    template = np.where(inside, trail_image(SHAPE, x, y, length, angle, OPTICS.psf), 0)
    np.testing.assert_allclose(model / model.max(), template / template.max(), atol=1e-5)


def test_a_model_stands_for_its_signal_to_noise_and_one_outside_for_nothing():
    trail = DetectedSegment(70.2, 60.7, 25.0, 33.0, 50.0)
    model = trail_model(trail, SHAPE, OPTICS)
    (x1, y1), (x2, y2) = trail.points(25.0)[[0, -1]]
    assert trail_snr(point_snr(model, OPTICS.bank), OPTICS.bank.lags, x1, y1, x2, y2) == pytest.approx(50, rel=0.01)
    assert not trail_model(trail._replace(x=-40.0), SHAPE, OPTICS).any()
    assert not trail_model(trail._replace(y=190.0), SHAPE, OPTICS).any()


def test_a_trail_just_as_significant_as_asked_for_is_found():
    image = scene([(75.0, 75.0, 20.0, 30.0, 12.0)], 1)
    snr = matching_pursuit.best_trail(
        point_snr(image, OPTICS.bank), np.pad(np.ones((60, 60), bool), 45), OPTICS.bank
    ).snr
    assert len(pursue(image, min_snr=snr)) == 1
    assert pursue(image, min_snr=snr + 1e-6) == []
