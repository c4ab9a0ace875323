import math

import numpy as np
import pyarrow as pa
import pytest

from kernels.image.tile_copy import cells, clearance
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import DetectedSegment, distance
from kernels.trails.trail_model import trail_image
from schemas.dataset import DatasetError
from schemas.dia_source import DIA_SOURCE
from schemas.injection import INJECTED
from schemas.pixels import MaskPlane, SearchGrid
from schemas.settings import InjectSettings
from schemas.stage import Context
from stages.inject import STAGE, _Injected, _number, _outcome
from tests.support.exposure import exposure_info

SHAPE, NOISE, SKY = (1400, 1100), 5.0, 2.0
EXPOSURE = exposure_info(
    SHAPE, visit=7, detector=3, fwhm_px=2.2, background=SKY, noise=NOISE, gain=6.2, zero_point=26.0
)
ALL = InjectSettings(share=1.0, streaks=10, snr=(6.0, 12.0), length=(2.0, 40.0))


def source(x, y, **known):
    filler = {field.name: "r" if pa.types.is_string(field.type) else 0 for field in DIA_SOURCE.schema}
    measured = {"x": x, "y": y, "trailCov": None, "reliability": 0.9, "snr": 8.0, "trailFlux": 1.0}
    return filler | measured | known


def sources(*rows):
    return pa.Table.from_pylist(list(rows), schema=DIA_SOURCE.schema)


class Copies:
    """Finds nothing, and keeps what it was asked to search."""

    grid = SearchGrid()

    def __init__(self, found=None):
        self.asked, self.within, self.found = [], [], found or (lambda planes, exposure: sources())

    def __call__(self, planes, exposure, within):
        self.asked.append((planes, exposure))
        self.within.append(within)
        return self.found(planes, exposure)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(5)
    image = (SKY + rng.normal(0, NOISE, SHAPE)).astype(np.float32)
    mask = np.zeros(SHAPE, np.uint16)
    mask[:, 600:620] = MaskPlane.BAD
    image[mask > 0] = np.nan
    return {"difference": image, "mask": mask}


def run(inputs, search=None, settings=ALL, **change):
    search = search or Copies()
    return STAGE(inputs, Context(EXPOSURE.model_copy(update=change), None, settings, {}, search)).rows, search


def added(inputs, search):
    """Light put into the copies, placed on the exposure, by their content alone."""
    image, total = inputs["difference"], np.zeros(SHAPE)
    for planes, _ in search.asked:
        copy = planes["difference"]
        place = _place(image, copy)
        total[place] += np.nan_to_num(copy - image[place])
    return total


def _place(image, copy):
    """Where a copy was cut out: most of its first row is as in the image."""
    for y in range(image.shape[0] - copy.shape[0] + 1):
        for x in range(image.shape[1] - copy.shape[1] + 1):
            if (image[y, x : x + 40] == copy[0, :40]).all():
                return np.s_[y : y + copy.shape[0], x : x + copy.shape[1]]
    raise AssertionError("the copy is not a piece of the image")


def test_what_is_said_to_be_put_in_is_what_is_put_in(inputs):
    table, search = run(inputs)
    assert len(search.asked) == 1  # an image of 1400 x 1100 px is one tile
    assert len(table) == round(10 * 1400 * 1100 / 1008**2)
    expected, psf = np.zeros(SHAPE), moffat_mixture(2.2, 3.0)
    for row in table.to_pylist():
        expected += row["pixelFlux"] * trail_image(SHAPE, row["x"], row["y"], row["length"], row["angle"], psf)
    expected[inputs["mask"] > 0] = 0
    left = added(inputs, search) - expected
    # What is left is the noise of the light itself, and the wings that no stamp holds.
    assert np.abs(left).max() < 6 * np.sqrt(expected.max() / 6.2) + 0.1
    assert abs(left.sum()) < 6 * np.sqrt(expected.sum() / 6.2) + 0.002 * expected.sum()


def test_pixels_of_the_exposure_stay_as_they_are(inputs):
    before = {name: inputs[name].copy() for name in ("difference", "mask")}
    run(inputs)
    for name, pixels in before.items():
        np.testing.assert_array_equal(inputs[name], pixels)


def test_light_falls_on_the_science_image_too_and_on_nothing_else(inputs):
    reference = np.random.default_rng(8).normal(300, 1, SHAPE).astype(np.float32)
    science = np.where(np.isfinite(inputs["difference"]), inputs["difference"] + reference, np.float32(np.nan))
    before = science.copy()
    with_science, search = run(inputs | {"science": science})
    assert with_science.equals(run(inputs)[0])
    np.testing.assert_array_equal(science, before)
    for planes, _ in search.asked:
        place = _place(inputs["difference"], planes["difference"])
        left = planes["science"] - planes["difference"] - reference[place]
        assert np.nanmax(np.abs(left)) < 1e-3
        assert np.nanmax(planes["science"] - science[place]) > 3 * NOISE


def test_streaks_keep_clear_of_each_other_and_tell_how_far(inputs):
    table, search = run(inputs, settings=InjectSettings(share=1.0, streaks=20))
    rows, apart = table.to_pylist(), clearance(search.grid, 2.2)
    assert table["clearance"].to_pylist() == pytest.approx([apart] * len(rows))
    lines = [DetectedSegment(row["x"], row["y"], row["length"], row["angle"], 0.0) for row in rows]
    for i, line in enumerate(lines):
        x, y = line.points(1.0).T
        assert all(distance(x, y, other).min() > apart - 1.0 for other in lines[:i])


def test_draws_depend_on_the_exposure_and_the_settings_alone(inputs):
    first, _ = run(inputs)
    assert run(inputs)[0].equals(first)
    for change in ({"night": "20260102"}, {"visit": 8}, {"detector": 4}):
        assert not run(inputs, **change)[0].select(["x"]).equals(first.select(["x"]))


def test_a_larger_share_holds_the_tiles_of_a_smaller_one():
    shape = (3024, 3024)
    exposure = EXPOSURE.model_copy(update={"shape": shape})
    given = {
        "difference": np.random.default_rng(1).normal(0, 1, shape).astype(np.float32),
        "mask": np.zeros(shape, np.uint16),
    }
    tables = {}
    for share in (0.0, 0.3, 0.7, 1.0):
        settings = InjectSettings(share=share, streaks=3)
        tables[share] = STAGE(given, Context(exposure, None, settings, {}, Copies())).rows.to_pylist()
    assert tables[0.0] == []
    tiles = {share: {row["tile"] for row in rows} for share, rows in tables.items()}
    assert tiles[0.3] < tiles[0.7] < tiles[1.0] == set(range(9))
    for share in (0.3, 0.7):
        places = {(row["x"], row["y"], row["snr"]) for row in tables[1.0] if row["tile"] in tiles[share]}
        assert {(row["x"], row["y"], row["snr"]) for row in tables[share]} == places


def test_copies_lie_on_the_grid_of_the_windows_and_hold_all_that_sees_a_streak():
    shape = (2100, 2100)
    y, x = np.indices(shape)
    given = {"difference": (y * 4096.0 + x).astype(np.float32), "mask": np.zeros(shape, np.uint16)}
    search = Copies()
    exposure = EXPOSURE.model_copy(update={"shape": shape, "gain": None})
    rows = STAGE(given, Context(exposure, None, InjectSettings(share=1.0), {}, search)).rows.to_pylist()
    assert len(search.asked) == 4
    for tile, (planes, own) in enumerate(search.asked):
        first = planes["difference"][0, 0]
        y0, x0 = divmod(round(float(first)), 4096)
        assert (y0 % 7, x0 % 7) == (0, 0)
        assert own.shape == planes["difference"].shape == planes["mask"].shape
        for row in (row for row in rows if row["tile"] == tile):
            ends = DetectedSegment(row["x"], row["y"], row["length"], row["angle"], 0.0).points(100.0)
            for place, low, high, size in zip(ends.T, (x0, y0), np.add((x0, y0), own.shape[::-1]), shape, strict=True):
                assert low == 0 or (place - low > 26).all()
                assert high == size or (high - place > 26).all()


def test_a_copy_knows_no_place_on_the_sky(inputs):
    _, search = run(inputs, wcs_header="CTYPE1  = 'RA---TAN'")
    assert [own.wcs_header for _, own in search.asked] == [None]


def test_a_streak_is_recovered_by_a_report_within_its_reach_and_told_what_was_measured(inputs):
    plain = run(inputs)[0].to_pylist()
    first, second = plain[:2]

    def found(planes, exposure):
        shape = {"trailLengthPx": first["length"] + 2, "trailAnglePx": (first["angle"] + 3) % 180}
        near = source(first["x"] + 1.5, first["y"] - 1.0, trailFlux=1.1 * first["flux"], **shape)
        far = source(second["x"] + max(3.0, second["length"] / 2 + 2) + 0.5, second["y"])
        return sources(near, far)

    table = run(inputs, Copies(found))[0]
    rows = table.to_pylist()
    assert [row["recovered"] for row in rows] == [True] + [False] * (len(rows) - 1)
    offsets = {"xOffset": 1.5, "yOffset": -1.0, "lengthOffset": 2.0, "angleOffset": 3.0, "fluxRatio": 1.1}
    assert {name: rows[0][name] for name in offsets} == pytest.approx(offsets, abs=1e-4)
    assert (rows[0]["reliability"], rows[0]["measuredSnr"]) == (pytest.approx(0.9), 8.0)
    for name in (*offsets, "reliability", "measuredSnr"):
        assert table[name].null_count == len(rows) - 1


def test_rows_are_sorted_and_say_what_they_are(inputs):
    table, _ = run(inputs)
    rows = table.to_pylist()
    assert [(row["y"], row["x"]) for row in rows] == sorted((row["y"], row["x"]) for row in rows)
    for row in rows:
        assert 6 <= row["snr"] <= 12
        assert 2 <= row["length"] <= 40
        assert row["magAB"] == pytest.approx(26.0 - 2.5 * np.log10(row["pixelFlux"]), abs=1e-4)
        assert row["flux"] == pytest.approx(10 ** ((31.4 - row["magAB"]) / 2.5), rel=1e-4)


def test_without_zero_point_fluxes_are_null(inputs):
    table, _ = run(inputs, zero_point=None)
    assert table["flux"].null_count == table["magAB"].null_count == len(table)
    assert table["pixelFlux"].null_count == 0
    in_njy = run(inputs, zero_point=None, pixel_unit="nJy")[0]
    assert in_njy["flux"].to_pylist() == in_njy["pixelFlux"].to_pylist()


def test_a_hidden_streak_is_told_by_its_visible_share(inputs):
    hidden = {**inputs, "mask": np.full(SHAPE, MaskPlane.BAD, np.uint16)}
    table, _ = run(hidden)
    assert set(table["visible"].to_pylist()) == {0.0}


def test_it_is_off_without_a_share(inputs):
    table, search = run(inputs, settings=InjectSettings(share=0))
    assert table.equals(INJECTED.empty())
    assert search.asked == []


def test_says_what_it_needs(inputs):
    with pytest.raises(DatasetError, match="needs an exposure and a search"):
        STAGE(inputs, Context(EXPOSURE, None, ALL))


def test_a_copy_reaches_as_far_as_its_windows_and_fits_see():
    shape = (2300, 2100)
    y, x = np.indices(shape)
    given = {
        "difference": (y * 4096.0 + x).astype(np.float32), "mask": np.zeros(shape, np.uint16)
    }  # fmt: skip
    for grid, settings in ((SearchGrid(), ALL), (SearchGrid(16, 4, 5, 14), InjectSettings(share=1.0, length=(1, 61)))):
        search = Copies()
        search.grid = grid
        exposure = EXPOSURE.model_copy(update={"shape": shape, "gain": None})
        STAGE(given, Context(exposure, None, settings, {}, search))
        margin = math.ceil(settings.length[1] / 2 + grid.window + 2 * grid.reach + 8 * 2.2)
        around = math.ceil(settings.length[1] / 2 + grid.window + grid.claim)
        asked = zip(search.asked, search.within, cells(shape, 1008), strict=True)
        for (planes, own), (top, left, bottom, right), (y0, x0, y1, x1) in asked:
            first = [max(0, edge - margin) // grid.stride * grid.stride for edge in (y0, x0)]
            assert divmod(round(float(planes["difference"][0, 0])), 4096) == tuple(first)
            last = min(shape[0], y1 + margin), min(shape[1], x1 + margin)
            assert own.shape == (last[0] - first[0], last[1] - first[1])
            assert (top, left) == tuple(max(0, edge - around - at) for edge, at in zip((y0, x0), first, strict=True))
            assert (bottom, right) == (y1 + around - first[0], x1 + around - first[1])


def test_streaks_are_drawn_in_proportion_to_the_area_and_apart_by_all_that_is_seen(inputs, monkeypatch):
    asked = []

    def draw(rng, number, box, length, snr, apart):
        asked.append((number, apart))
        return []

    monkeypatch.setattr("stages.inject.draw_trails", draw)
    search = Copies()
    search.grid = SearchGrid(16, 4, 5, 14)
    run(inputs, search)
    assert asked == [(round(10 * 1400 * 1100 / 1008**2), pytest.approx(16 + 2 * 5 + 14 + 8 * 2.2))]
    assert [_number(16, (0, 0, side, 1008)) for side in (1008, 504, 2016, 1)] == [16, 8, 32, 1]
    assert _number(3, (100, 300, 604, 1308)) == 2  # half of the area


@pytest.mark.parametrize(("measured", "angle", "offset"), [(179.0, 2.0, -3.0), (1.0, 178.0, 3.0), (95.0, 5.0, -90.0)])
def test_offsets_of_angles_are_the_shorter_way_round(measured, angle, offset):
    one = _Injected(DetectedSegment(10.0, 20.0, 5.0, angle, 8.0), 100.0, 1.0)
    report = {"reliability": 0.7, "snr": 9.0, "trailFlux": 120.0, "trailLengthPx": 4.0, "trailAnglePx": measured}
    x, y = np.array([3.0, 10.25]), np.array([4.0, 19.5])
    found = _outcome(one, 1, [{}, report], x, y, EXPOSURE)
    assert found["angleOffset"] == offset
    assert (found["xOffset"], found["yOffset"], found["lengthOffset"]) == (0.25, -0.5, -1.0)
    assert found["fluxRatio"] == pytest.approx(1.2 / 10 ** ((31.4 - 26) / 2.5))
    assert _outcome(one, 1, [{}, report], x, y, EXPOSURE.model_copy(update={"zero_point": None}))["fluxRatio"] is None
    assert _outcome(one, None, [report], x, y, EXPOSURE) == {"recovered": False}


def test_the_first_streak_may_be_recovered_by_the_first_report(inputs):
    first = run(inputs)[0].to_pylist()[0]
    rows = run(inputs, Copies(lambda planes, exposure: sources(source(first["x"], first["y"]))))[0].to_pylist()
    assert [row["recovered"] for row in rows] == [True] + [False] * (len(rows) - 1)


DRAWN = {
    "x": 7190.597339527823, "y": 12668.35209441548, "length": 191.3786289691925, "angle": 1060.6969788074493,
    "snr": 121.20391988754272, "visible": 14.996109664440155,
}  # fmt: skip


def test_draws_of_an_exposure_stay_as_they_were(inputs):
    """What is injected follows from night, visit, detector and settings: measured figures are those of these draws."""
    table = run(inputs)[0]
    found = {name: float(np.sum(table[name].to_numpy().astype(float))) for name in DRAWN}
    assert found == pytest.approx(DRAWN, rel=1e-6)
