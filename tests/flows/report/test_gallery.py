import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from flows.report.detection import detections
from flows.report.gallery import LEAST_SIDE, MOST_PICTURE, MOST_SIDE, cutout, cutout_box


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
    drawn = cutout(difference, np.zeros(info.shape, np.uint16), replace(one, x=x, y=y, side=side), info)
    picture = pixels(drawn.picture).sum(axis=2)
    factor = drawn.width // picture.shape[0]
    brightest = np.argwhere(picture >= picture.max() - 3).mean(axis=0)
    # The centroid of what is white: half of the star may lie beyond the border.
    assert np.hypot(*(brightest * factor + factor / 2 - (drawn.mark.y, drawn.mark.x))) < 4 + factor
    assert max(picture.shape) <= MOST_PICTURE


def test_what_lies_beyond_the_border_has_a_colour_of_its_own(kit, one):
    info = kit.info()
    difference, mask = kit.pixels(info.shape, 3)
    drawn = cutout(difference, mask, replace(one, x=0.0, y=0.0, side=10), info)
    picture = pixels(drawn.picture)
    assert len({tuple(colour) for colour in picture[22:, :18].reshape(-1, 3)}) == 1  # below and to the left
    assert len({tuple(colour) for colour in picture[:20, 27:].reshape(-1, 3)}) > 50  # the sky
    assert len({tuple(colour) for colour in picture[:20, 21:26].reshape(-1, 3)}) == 1  # the masked border


def test_size_follows_the_detection(kit, one):
    info = kit.info(shape=(900, 900))
    difference, mask = kit.pixels(info.shape, 3)
    sides = [cutout(difference, mask, replace(one, side=side), info).side for side in (5, 60, 200, 2000)]
    assert sides == [41, 85, 281, 481]
