"""A satellite is one detection, and costs no other its own."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from schemas.dia_source import DetectionFlag, SearchCounts
from schemas.pixels import MaskPlane, SearchGrid
from schemas.settings import MeasureSettings, MergeSettings
from schemas.stage import Context
from stages.measure import STAGE as MEASURE
from stages.merge import STAGE as MERGE
from tests.support.satellite_images import Sky, blinking, exposure


class Verdict:
    """All are real, or none is."""

    def __init__(self, reliability):
        self.card = SimpleNamespace(version="t1", least_reliability=lambda science: 0.5)
        self._reliability = reliability

    def __call__(self, features, stamps):
        return np.full(len(features), self._reliability, np.float32)

    def classes(self, features, reliability):
        return np.full((len(features), 4), np.nan)


def detections(sky, reliability=1.0):
    info = exposure(sky.image.shape)
    planes = {"difference": sky.image, "mask": sky.mask}
    hits = sky.hits()
    numbers = {"hit": SearchCounts(len(hits), 0, SearchGrid())}
    streaks = MERGE({"hit": hits, **planes}, Context(info, None, MergeSettings(), numbers=numbers)).rows
    context = Context(info, None, MeasureSettings(), {"reliability": Verdict(reliability)})
    return MEASURE({"streak": streaks, **planes}, context).rows.to_pylist()


def turned(angle, other):
    return abs((angle - other + 90) % 180 - 90)


@pytest.mark.parametrize(("angle", "peak"), [(37.0, 2.0), (88.0, 20.0), (140.0, 300.0)])
def test_across_a_whole_frame_is_one_row(angle, peak):
    (row,) = detections(Sky((3080, 3072)).line(1500, 1400, 5000, angle, peak))
    assert row["trailClass"] == "satellite"
    assert row["trailLengthPx"] > 2900
    assert turned(row["trailAnglePx"], angle) < 0.1
    assert row["flags"] & DetectionFlag.SATELLITE


def test_what_is_rather_not_real_is_no_satellite_either():
    sky = Sky().line(350, 350, 1200, 25, 15).line(200, 550, 30, 80, 15)
    assert detections(sky, reliability=0.49) == []
    assert sorted(row["trailClass"] for row in detections(sky)) == ["", "satellite"]


@pytest.mark.parametrize("period", [60.0, 130.0, 400.0])
@pytest.mark.parametrize("floor", [0.0, 0.35])
def test_blinking_is_one_row(period, floor):
    (row,) = detections(Sky((1500, 1500)).line(750, 740, 1300, 31, 12, blinking(period, 0.45, floor)))
    assert row["trailClass"] in ("satellite", "glint_trail")
    assert row["trailLengthPx"] > 700
    assert turned(row["trailAnglePx"], 31) < 0.5


@pytest.mark.parametrize(("period", "length"), [(100.0, 8.0), (150.0, 20.0), (250.0, 12.0), (120.0, 3.0)])
def test_glints_are_one_row(period, length):
    (row,) = detections(Sky((1500, 1500)).line(750, 740, 1500, 63, 25, blinking(period, length / period)))
    assert row["trailClass"] == "glint_trail"
    assert row["trailLengthPx"] > 900
    assert turned(row["trailAnglePx"], 63) < 0.5


@pytest.mark.parametrize(
    ("length", "turn", "classes"), [(30, 0, ["glint_trail"]), (50, 0, ["", ""]), (30, 20, ["", ""])]
)
def test_two_glints_are_told_if_they_are_alike(length, turn, classes):
    found = detections(Sky().line(300, 300, 30, 63, 25).line(480, 653, length, 63 + turn, 25))
    assert [row["trailClass"] for row in found] == classes


def test_tumbling_is_one_row():
    def rhythm(along):
        return 0.55 + 0.45 * np.sin(2 * np.pi * along / 310) * np.sin(2 * np.pi * along / 97)

    (row,) = detections(Sky((1200, 1200)).line(600, 620, 2000, 122, 14, rhythm))
    assert row["trailClass"] == "satellite"


@pytest.mark.parametrize("apart", [12.0, 25.0])
def test_aeroplane_is_one_or_two_rows(apart):
    sky = Sky((1000, 1000)).line(500, 500, 1500, 20, 12, blinking(150, 0.4, 0.2))
    sky.line(500 - apart * 0.342, 500 + apart * 0.9397, 1500, 20, 8, blinking(150, 0.4, 0.2))
    found = detections(sky)
    assert 1 <= len(found) <= 2
    assert {row["trailClass"] for row in found} <= {"satellite", "glint_trail"}


def test_across_a_corner():
    (row,) = detections(Sky().line(40, 45, 400, 135, 15))
    assert row["trailClass"] == "satellite"
    assert 90 < row["trailLengthPx"] < 140


def test_two_that_cross_are_two():
    found = detections(Sky().line(350, 350, 1200, 20, 15).line(340, 360, 1200, 95, 10))
    assert [row["trailClass"] for row in found] == ["satellite", "satellite"]


@pytest.mark.parametrize("peak", [3.0, 30.0, 1000.0])
def test_an_asteroid_30_px_away_survives(peak):
    theta = math.radians(25)
    x, y = 350 - 36 * math.sin(theta), 350 + 36 * math.cos(theta)
    rows = detections(Sky().line(350, 350, 1200, 25, peak).line(x, y, 14, 60, 15))
    (asteroid,) = [row for row in rows if row["trailClass"] == ""]
    assert len(rows) == 2
    assert math.hypot(asteroid["x"] - x, asteroid["y"] - y) < 2
    assert asteroid["trailLengthPx"] == pytest.approx(14, abs=3)
    assert not asteroid["flags"] & DetectionFlag.SATELLITE


def test_an_asteroid_across_it_is_flagged():
    rows = detections(Sky().line(350, 350, 1200, 25, 15).line(350, 352, 80, 100, 15))
    (asteroid,) = [row for row in rows if row["trailClass"] == ""]
    assert asteroid["flags"] & DetectionFlag.SATELLITE
    assert asteroid["trailLengthPx"] == pytest.approx(80, abs=6)
    assert math.hypot(asteroid["x"] - 350, asteroid["y"] - 352) < 3


@pytest.mark.parametrize("length", [30.0, 60.0, 150.0, 220.0])
def test_a_fast_asteroid_is_no_satellite(length):
    (row,) = detections(Sky().line(350, 350, length, 25, 12))
    assert row["trailClass"] == ""
    assert row["trailLengthPx"] == pytest.approx(length, abs=4)


def test_a_hot_column_is_no_satellite():
    sky = Sky().line(350.0, 350, 800, 90, 15)
    sky.image = np.random.default_rng(2).normal(0, 10, sky.image.shape).astype(np.float32)
    sky.image[:, 350] += 60
    assert all(row["trailClass"] == "" for row in detections(sky))


def test_spikes_of_stars_in_a_row_are_no_glints():
    sky = Sky((700, 1500))
    y, x = np.mgrid[:700, :1500]
    for star in (200, 600, 1000, 1400):
        sky.mask[np.hypot(x - star, y - 350) <= 10] = MaskPlane.SAT
        sky.line(star + 22, 350, 30, 0, 15)
    sky.image[sky.mask > 0] = np.nan
    assert all(row["trailClass"] == "" for row in detections(sky))
