import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from flows.results.page.detection import (
    LEAST_SIDE,
    MOST_PICTURE,
    MOST_SIDE,
    cut_square,
    cutout_box,
    cutouts_of,
    detection_cutout,
    detections,
    place_mark,
)


def test_the_most_reliable_comes_first(kit):
    rows = kit.rows(kit.info(), 30, 7)
    found = detections(kit.table(rows))
    assert [one.rank for one in found] == list(range(1, 31))
    assert [one.reliability for one in found] == sorted((one.reliability for one in found), reverse=True)
    assert {one.id for one in found} == {row["diaSourceId"] for row in rows}


def test_ties_go_by_signal_to_noise_and_id(kit):
    rows = kit.rows(kit.info(), 3, 7)
    for row, snr in zip(rows, (5.0, 9.0, 9.0), strict=True):
        row |= {"reliability": 0.5, "snr": snr}
    first, second, third = detections(kit.table(rows[::-1]))
    assert (first.snr, second.snr, third.snr) == (9, 9, 5)
    assert first.id < second.id


def test_a_length_that_is_no_number_is_drawn_as_a_point(kit):
    (row,) = kit.rows(kit.info(), 1, 7)
    (one,) = detections(kit.table([row | {"trailLengthPx": float("nan"), "trailAnglePx": float("nan")}]))
    assert (one.length, one.angle) == (0, 0)


def test_summary_says_what_it_is(kit):
    (row,) = kit.rows(kit.info(), 1, 7)
    row |= {"reliability": 0.987, "snr": 8.25, "trailLengthPx": 14.0, "x": 10.0, "y": 300.26}
    (one,) = detections(kit.table([row]))
    assert one.summary == "Detection 1: reliability 0.99, S/N 8.2, length 14.0 px at (10.0, 300.3)"
    assert one.anchor == ""


def test_nothing_gives_nothing(kit):
    assert detections(kit.table([])) == ()


@pytest.mark.parametrize(("flags", "words"), [(0, ()), (1 | 128, ("at the edge", "no zero point"))])
def test_flags_are_words(kit, flags, words):
    (row,) = kit.rows(kit.info(), 1, 7)
    assert detections(kit.table([row | {"flags": flags}]))[0].flags == words


class Held:
    """Planes in memory, read as those of a tile store are."""

    def __init__(self, info, **planes):
        self.info, self.planes, self._held = info, tuple(planes), planes

    def read(self, plane, y0, x0, y1, x1):
        return self._held[plane][y0:y1, x0:x1]


def drawn_on(difference, mask, one, info):
    square = cut_square(Held(info, difference=difference, mask=mask), "difference", cutout_box(one))
    return detection_cutout(square, "difference", one, info)


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.split(",")[1]))).convert("RGB")).astype(int)


@pytest.fixture
def one(kit):
    (found,) = detections(kit.table(kit.rows(kit.info(), 1, 7)))
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 4000), st.floats(-20, 5000), st.floats(-20, 5000))
def test_box_is_odd_within_bounds_and_centred(one, side, x, y):
    y0, x0, width = cutout_box(replace(one, side=side, x=x, y=y))
    assert width % 2 == 1
    assert LEAST_SIDE <= width <= MOST_SIDE + 1
    assert width >= min(1.4 * side, MOST_SIDE)
    assert abs(x0 + width // 2 - x) <= 0.5
    assert abs(y0 + width // 2 - y) <= 0.5


@pytest.mark.parametrize(("x", "y"), [(100.3, 61.8), (3.0, 200.0), (377.0, 418.0), (0.0, 0.0)])
@pytest.mark.parametrize("side", [20, 90, 300])
def test_the_mark_lies_on_the_source(kit, one, x, y, side):
    info = kit.info()
    rng = np.random.default_rng(5)
    difference = rng.normal(kit.SKY, kit.NOISE, info.shape).astype(np.float32)
    rows, columns = np.indices(info.shape)
    difference += (4000 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)).astype(np.float32)
    drawn = drawn_on(difference, np.zeros(info.shape, np.uint16), replace(one, x=x, y=y, side=side), info)
    picture = pixels(drawn.picture).sum(axis=2)
    factor = drawn.width // picture.shape[0]
    brightest = np.argwhere(picture >= picture.max() - 3).mean(axis=0)
    # The centroid of what is white: half of the star may lie beyond the border.
    assert np.hypot(*(brightest * factor + factor / 2 - (drawn.mark.y, drawn.mark.x))) < 4 + factor
    assert max(picture.shape) <= MOST_PICTURE


def test_what_lies_beyond_the_border_has_a_colour_of_its_own(kit, one):
    info = kit.info()
    difference, mask = kit.pixels(info.shape, 3)
    drawn = drawn_on(difference, mask, replace(one, x=0.0, y=0.0, side=10), info)
    picture = pixels(drawn.picture)
    assert len({tuple(colour) for colour in picture[22:, :18].reshape(-1, 3)}) == 1  # below and to the left
    assert len({tuple(colour) for colour in picture[:20, 27:].reshape(-1, 3)}) > 50  # the sky
    assert len({tuple(colour) for colour in picture[:20, 21:26].reshape(-1, 3)}) == 1  # the masked border


def test_size_follows_the_detection(kit, one):
    info = kit.info(shape=(900, 900))
    difference, mask = kit.pixels(info.shape, 3)
    sides = [drawn_on(difference, mask, replace(one, side=side), info).side for side in (5, 60, 200, 2000)]
    assert sides == [41, 85, 281, 481]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(-10, 4000), st.floats(-10, 4000), st.floats(0, 180), st.integers(-50, 50), st.integers(-50, 50))
def test_pixels_upwards_become_a_drawing_downwards(kit, x, y, angle, x0, y0):
    (one,) = detections(kit.table(kit.rows(kit.info(), 1, 7)))
    mark = place_mark(replace(one, x=x, y=y, angle=angle), (x0, y0), 100, 5)
    # The first pixel is [0, 1) across, and the last stretch [99, 100) from the top.
    assert (mark.x, mark.y) == pytest.approx((x - x0 + 0.5, 100 - (y - y0) - 0.5))
    assert mark.angle == -angle
    assert mark.label[0] > mark.x
    assert mark.label[1] < mark.y


@pytest.mark.parametrize(
    ("side", "x", "y", "box"),
    [
        (5, 100.3, 61.8, (42, 80, 41)),
        (30, 100.3, 61.8, (41, 79, 43)),
        (60, 100.6, 61.4, (19, 59, 85)),
        (100, 200.0, 300.0, (230, 130, 141)),
        (9999, 300.0, 400.0, (160, 60, 481)),
    ],
)
def test_box_is_1_4_times_that_of_the_detection(one, side, x, y, box):
    assert cutout_box(replace(one, side=side, x=x, y=y)) == box


def test_bins_and_margin_of_a_cutout(kit, one):
    blank = np.zeros((900, 900), np.float32), np.zeros((900, 900), np.uint16)
    narrow, wide = kit.info(shape=(900, 900)), kit.info(shape=(900, 900), psf={"fwhm_px": 40.0})
    small, middle, large = (
        drawn_on(*blank, replace(one, side=side, x=450.0, y=450.0), narrow) for side in (5, 114, 9999)
    )
    assert [(cut.side, cut.width, cut.picture.width) for cut in (small, middle, large)] == [
        (41, 41, 41), (161, 162, 81), (481, 485, 97),
    ]  # fmt: skip
    assert [cut.mark.radius for cut in (small, middle)] == pytest.approx([41 / 12, 161 / 12])
    assert drawn_on(*blank, replace(one, side=5), wide).mark.radius == 60.0
    assert (small.mark.x, small.mark.y) == (20.5, 20.5)
    mark = small.mark
    assert mark.label == (20.5 + 0.8 * mark.radius, 20.5 - 0.8 * mark.radius)


def test_a_bin_half_of_which_lies_beyond_the_border_is_not_outside(kit, one):
    """The box of 161 px begins at -70 in x: 35 bins are outside; at -69 the half bin is inside."""
    info = kit.info(shape=(900, 900))
    difference = np.random.default_rng(2).normal(0, 12, (900, 900)).astype(np.float32)
    blank = np.zeros((900, 900), np.uint16)
    for x, outside in ((10.0, 35), (11.0, 34), (12.0, 34)):
        row = pixels(drawn_on(difference, blank, replace(one, side=114, x=x, y=450.0), info).picture)[40]
        assert [tuple(colour) == (120, 126, 138) for colour in row] == [True] * outside + [False] * (81 - outside)


def test_what_the_exposure_has_is_shown_and_named(kit, one):
    info = kit.info()
    difference, mask = kit.pixels(info.shape, 3)
    held = Held(info, difference=difference, mask=mask, science=difference + 900)
    made = cutouts_of(held, one, ("difference", "science", "template"), "03:12")
    assert [cutout.name for cutout in made] == ["difference 03:12", "science 03:12"]
    assert made[0].picture != made[1].picture
    assert made[0].mark == made[1].mark


def test_a_square_beyond_the_image_has_no_values_and_science_has_no_mask(kit):
    info = kit.info()
    difference, mask = kit.pixels(info.shape, 3)
    held = Held(info, difference=difference, mask=mask, science=np.ones(info.shape, np.float32))
    assert np.isnan(cut_square(held, "difference", (-100, 0, 41))).all()
    square = cut_square(held, "science", (-10, -5, 41))
    assert np.isnan(square[:10]).all()
    assert np.isnan(square[:, :5]).all()
    assert (square[10:, 5:] == 1).all()
    assert np.isnan(cut_square(held, "difference", (100, 0, 41))[:, :6]).all()  # the border is masked
