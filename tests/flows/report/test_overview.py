import base64
import io

import numpy as np
import pytest
from PIL import Image

from flows.report.detection import detections
from flows.report.overview import LIMIT, MARKS, SIDE, overview
from flows.report.sky import compass
from schemas.mask import MaskPlane


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
