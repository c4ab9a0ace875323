import base64
import io

import numpy as np
import pytest
from PIL import Image

from flows.results.page.detection import ListPlace, detections
from flows.results.page.panel import LIMIT, LIMIT_ALL, MARKS, MARKS_ALL, SIDE, overview, panel
from flows.results.page.picture import jpeg, stretch
from flows.results.quality.measure import compass
from schemas.pixels import MaskPlane


def grey(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.split(",")[1]))).convert("RGB")).astype(int)


@pytest.mark.parametrize("shape", [(300, 250), (1700, 1003), (26, 2001)])
def test_marks_lie_on_their_sources(kit, shape):
    rng = np.random.default_rng(1)
    rows = kit.rows(kit.info(shape), 3, 2)
    difference = rng.normal(size=shape).astype(np.float32)
    y, x = np.indices(shape)
    for row, (ry, rx) in zip(rows, [(0.2, 0.3), (0.8, 0.4), (0.5, 0.9)], strict=True):
        row |= {"y": ry * shape[0], "x": rx * shape[1]}
        difference[np.hypot(y - row["y"], x - row["x"]) < 4] = 500
    drawn = overview(difference, np.zeros(shape, np.uint16), detections(kit.table(rows)), None)
    picture = grey(drawn.picture).sum(axis=2)
    assert max(picture.shape) <= SIDE
    assert (drawn.width, drawn.height) == (picture.shape[1] * drawn.factor, picture.shape[0] * drawn.factor)
    for mark in drawn.marks:
        # A marked source shines beside the median of the picture.
        assert picture[int(mark.y / drawn.factor), int(mark.x / drawn.factor)] > np.median(picture) + 200
    assert len(drawn.picture.uri) <= LIMIT


def test_masked_areas_are_blue(kit):
    difference, mask = kit.pixels((200, 200), 3)
    mask[:100] = MaskPlane.NO_DATA
    picture = grey(overview(difference, mask, (), None).picture)
    below, above = picture[110:190, 10:95], picture[10:90, 10:95]  # the first row is at the bottom
    assert (below[..., 2] - below[..., 0] > 30).mean() > 0.95
    assert (above[..., 2] - above[..., 0] > 30).mean() < 0.05


def test_a_flood_is_marked_in_part_and_says_so(kit):
    found = detections(kit.table(kit.rows(kit.info(), MARKS + 7, 2)))
    drawn = overview(*kit.pixels((100, 100), 3), found, None)
    assert len(drawn.marks) == MARKS
    assert "7 more are not marked" in drawn.caption


@pytest.mark.parametrize("value", [np.nan, 0.0, 7.0])
def test_an_image_without_spread_is_drawn(value):
    drawn = overview(np.full((40, 30), value, np.float32), np.zeros((40, 30), np.uint16), (), None)
    assert (drawn.width, drawn.height, drawn.factor) == (30, 40, 1)
    assert "full resolution" in drawn.caption


def test_arrows_point_up_and_left(kit):
    info = kit.info()
    drawn = overview(*kit.pixels(info.shape, 3), (), compass(info))
    (north, nx, ny), (east, ex, ey) = drawn.arrows
    assert (north, east) == ("N", "E")
    assert (nx, ny, ex, ey) == pytest.approx((0, -1, -1, 0), abs=1e-3)


def test_a_panel_names_its_file_and_marks_by_the_list_of_the_night(kit):
    info = kit.info()
    rows = kit.rows(info, 3, 4)
    ids = [row["diaSourceId"] for row in rows]
    places = {ids[0]: ListPlace(70, ""), ids[1]: ListPlace(2, "t5"), ids[2]: ListPlace(9, "d1")}
    drawn = panel(info, *kit.pixels(info.shape, 4), detections(kit.table(rows), places))
    assert [mark.detection.id for mark in drawn.overview.marks] == [ids[1], ids[2], ids[0]]
    assert [mark.detection.anchor for mark in drawn.overview.marks] == ["t5", "d1", ""]
    assert (drawn.title, drawn.subtitle) == ("Visit 101, detector 3", "r · 2026-11-03 07:12:49 UTC")
    assert drawn.source == "file:///data/101_3.fits.fz"
    assert drawn.overview.caption == "380 × 420 px, full resolution; 3 detections marked."
    untimed = kit.info(flags=("no_time",))
    alone = panel(untimed, *kit.pixels(info.shape, 4), detections(kit.table(rows[:1])))
    assert (alone.subtitle, alone.overview.caption[-21:]) == ("r · time not known", "; 1 detection marked.")


def test_many_panels_share_the_room(kit):
    info = kit.info()
    found = detections(kit.table(kit.rows(info, 400, 4)))
    pixels = kit.pixels((800, 800), 4)
    for of in (1, 8):
        drawn = overview(*pixels, found, None, of)
        assert len(drawn.marks) == min(MARKS, MARKS_ALL // of)
        assert len(drawn.picture.uri) <= min(LIMIT, LIMIT_ALL // of)


def test_overviews_are_binned_beyond_800_px_and_lettered_by_their_size():
    found = [overview(*flat(shape), (), None) for shape in ((800, 420), (801, 420))]
    assert [(one.factor, one.width, one.height) for one in found] == [(1, 420, 800), (2, 420, 802)]
    assert [one.lettering for one in found] == [19.0, 19.1]  # 1 / 42 of the longest side
    assert found[1].caption == "420 × 802 px, means over 2 × 2 px; nothing was detected."


def flat(shape):
    return np.zeros(shape, np.float32), np.zeros(shape, np.uint16)


def test_marks_of_an_overview_are_as_wide_as_the_picture_is_large(kit):
    drawn = overview(*flat((300, 150)), detections(kit.table(kit.rows(kit.info(), 2, 2))), None)
    assert [mark.radius for mark in drawn.marks] == [4.0, 4.0]  # 1 / 75 of the longest side


def test_an_overview_is_black_and_white_at_its_robust_limits():
    """Median 10, spread 1.4826 x 2: white is 12 of them above, black 3 below."""
    difference = np.tile(np.array([8, 12, 10, 8, 12], np.float32), (41, 8))
    difference[0, 0], difference[0, 20], difference[40, 0] = 10 + 12 * 2.9652, 10 + 10 * 2.9652, 10 - 3 * 2.9652
    drawn = overview(difference, np.zeros(difference.shape, np.uint16), (), None)
    expected = jpeg(stretch(difference, 10.0, 2.9652, high=12.0), LIMIT)
    assert drawn.picture == expected


@pytest.mark.parametrize("turn", [30.0, 200.0])
def test_arrows_are_those_of_the_compass_downwards(kit, turn):
    directions = compass(kit.info(wcs_header=kit.cards((420, 380), turn)))
    (_, nx, ny), (_, ex, ey) = overview(*flat((60, 60)), (), directions).arrows
    assert (nx, -ny, ex, -ey) == (*directions.north, *directions.east)
