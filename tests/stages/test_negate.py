import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.trails.geometry import DetectedSegment
from schemas.dataset import DatasetError
from schemas.dia_source import DIA_SOURCE
from schemas.negative import NEGATED, NEGATIVE
from schemas.objects import SOURCE
from schemas.pixels import MaskPlane, SearchGrid
from schemas.settings import NegateSettings
from schemas.stage import Context
from stages import count_negated
from stages.negate import STAGE, _may_have_faded, turn_over
from tests.support.exposure import exposure_info
from tests.support.filled import filled_rows

SHAPE, SKY = (2016, 1100), 3.0  # two tiles, one above the other
EXPOSURE = exposure_info(
    SHAPE, visit=7, detector=3, background=SKY, noise=5.0, gain=6.2, wcs_header="CTYPE1  = 'RA---TAN'"
)
COUNTS = ("nSatellites", "nNearDetection", "nAtSource", "nFalse")


def rows(table, *places):
    return filled_rows(table.schema, places)


class Copies:
    """Search that finds what it is told to, and keeps what it was asked."""

    grid = SearchGrid()

    def __init__(self, *found):
        self.asked, self.found = [], found

    def __call__(self, planes, exposure, within):
        self.asked.append((planes, exposure))
        return rows(DIA_SOURCE, *self.found)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(5)
    image = (SKY + rng.normal(0, 5.0, SHAPE)).astype(np.float32)
    mask = np.zeros(SHAPE, np.uint16)
    mask[:, 600:620] = MaskPlane.BAD
    image[mask > 0] = np.nan
    science = (image + rng.uniform(0, 500, SHAPE)).astype(np.float32)
    return {"difference": image, "mask": mask, "science": science, "dia_source": rows(DIA_SOURCE)}


def run(inputs, search, share=1.0):
    """Search the negated tiles, and count what is found there."""
    negated = STAGE(inputs, Context(EXPOSURE, None, NegateSettings(share=share), {}, search)).rows
    return count_negated.STAGE(inputs | {NEGATED.name: negated}, Context(EXPOSURE)).rows


def test_the_search_sees_tiles_turned_over_and_what_does_not_move_as_it_is(inputs):
    before, search = {name: inputs[name].copy() for name in ("difference", "mask", "science")}, Copies()
    run(inputs, search)
    (first, own), (last, _) = search.asked
    size = own.shape[0]
    for planes, here in ((first, np.s_[:size]), (last, np.s_[-last["mask"].shape[0] :])):
        np.testing.assert_allclose(planes["difference"] - SKY, SKY - before["difference"][here], atol=1e-4)
        still = planes["science"] - planes["difference"]
        np.testing.assert_allclose(still, (before["science"] - before["difference"])[here], atol=1e-3)
        np.testing.assert_array_equal(planes["mask"], before["mask"][here])
    assert own.wcs_header is None
    for name, pixels in before.items():
        np.testing.assert_array_equal(inputs[name], pixels)


@given(st.floats(-100, 100), st.integers(0, 2**31))
def test_turned_over_twice_is_as_before(background, seed):
    rng = np.random.default_rng(seed)
    planes = {name: rng.normal(background, 30, (5, 6)).astype(np.float32) for name in ("difference", "science")}
    before = {name: pixels.copy() for name, pixels in planes.items()}
    for _ in range(2):
        turn_over(planes, background)
    for name, pixels in before.items():
        np.testing.assert_allclose(planes[name], pixels, atol=2e-4)


def test_counts_tell_what_is_false_from_what_may_be_there(inputs):
    search = Copies(
        {"x": 100.0, "y": 100.0, "trailClass": "satellite"},
        {"x": 200.0, "y": 211.0},  # 11 px from a trail of 40 px: less than 6 FWHM
        {"x": 300.0, "y": 301.5},  # at a source
        {"x": 300.0, "y": 302.5},
        {"x": 900.0, "y": 900.0},
        {"x": 900.0, "y": 1030.0},  # beyond the first tile, in its margin
    )
    known = rows(DIA_SOURCE, {"x": 185.0, "y": 200.0, "trailLengthPx": 40.0, "trailAnglePx": 0.0})
    sources = rows(SOURCE, {"x": 300.0, "y": 300.0}, {"x": 50.0, "y": 60.0})
    table = run(inputs | {"dia_source": known, "source": sources}, search)
    first = table.to_pylist()[0]
    assert [first[name] for name in COUNTS] == [1, 1, 1, 2]
    assert first["nDetections"] == 5
    without = run({name: value for name, value in inputs.items() if name != "science"}, search).to_pylist()[0]
    assert [without[name] for name in COUNTS] == [1, 0, 0, 4]


@pytest.mark.parametrize(
    ("missing", "there", "may"),
    [(60, 60, True), (20, 60, True), (60, 5060, True), (60, 40, True), (60, 20, False), (60, 0, False)],
)
@pytest.mark.parametrize("length", [0.0, 12.0])
def test_what_the_template_shows_may_have_faded(missing, there, may, length):
    """Light of the peak of a source, in a sky of noise 4 and 5."""
    rng = np.random.default_rng(3)
    y, x = np.indices(SHAPE)
    profile = np.exp(-4 * np.log(2) * (np.maximum(abs(x - 400) - length / 2, 0) ** 2 + (y - 500) ** 2) / 2.0**2)
    change = rng.normal(0, 5.0, SHAPE) - missing * profile
    science = rng.normal(200, 4.0, SHAPE) + there * profile + change
    images = {"difference": (SKY + change).astype(np.float32), "science": science.astype(np.float32)}
    found = {"x": 400.0, "y": 500.0, "trailLengthPx": length, "trailAnglePx": 0.0}
    inputs = images | {"mask": np.zeros(SHAPE, np.uint16), "dia_source": rows(DIA_SOURCE)}
    first = run(inputs, Copies(found)).to_pylist()[0]
    assert [first[name] for name in COUNTS] == [0, 0, int(may), int(not may)]


def test_rows_are_tiles_with_their_usable_pixels(inputs):
    table = run(inputs, Copies())
    assert table["tile"].to_pylist() == [0, 1]
    assert sum(table["nPixels"].to_pylist()) == 2016 * 1080
    assert table["nDetections"].to_pylist() == [0, 0]
    assert set(table["visit"].to_pylist()) == {7}


def test_it_is_off_without_a_share(inputs):
    search = Copies()
    assert run(inputs, search, 0).equals(NEGATIVE.empty())
    assert search.asked == []


def test_says_what_it_needs(inputs):
    with pytest.raises(DatasetError, match="needs an exposure and a search"):
        STAGE(inputs, Context(EXPOSURE, None, NegateSettings()))
    with pytest.raises(DatasetError, match="needs an exposure"):
        count_negated.STAGE(inputs | {NEGATED.name: NEGATED.empty()}, Context())


@pytest.mark.parametrize("beyond", [0.0, 80.0])
def test_the_level_of_the_template_is_that_within_8_fwhm(beyond):
    """Half of the ring is brighter than the sky: what lies beyond it would tip the median."""
    fwhm, (x0, y0) = 4.0, (60.0, 60.0)
    y, x = np.indices((121, 121))
    apart = np.hypot(x - x0, y - y0) / fwhm
    template = np.where((apart > 7.0) & (apart <= 8.0), 80.0, 0.0) + np.where(apart <= 1.0, 50.0, 0.0)
    template += np.where((apart > 6.0) & (apart <= 7.0), 80.0, 0.0) + np.where((apart > 8) & (apart <= 9), beyond, 0)
    ring = template[(apart > 2.5) & (apart <= 8)]
    assert 0.4 < (ring > 0).mean() < 0.5
    missing = np.where(apart <= 1.0, -50.0, 0.0)
    planes = {"difference": missing.astype(np.float32), "science": (template + missing).astype(np.float32)}
    assert _may_have_faded(planes, DetectedSegment(x0, y0, 0.0, 0.0, 9.0), fwhm, 0.0)
