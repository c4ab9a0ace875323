import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.signal import fftconvolve

from kernels.image.noise import filtered_noise
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.candidates import Candidate
from kernels.trails.geometry import DetectedSegment
from kernels.trails.long_trail import LongTrail
from kernels.trails.satellites import Classified
from kernels.trails.trail_bank import point_snr, trail_bank
from kernels.trails.trail_model import trail_image
from schemas.dataset import DatasetError
from schemas.dia_source import HIT, SearchCounts
from schemas.errors import BadInput
from schemas.pixels import MaskPlane, SearchGrid
from schemas.settings import MergeSettings
from schemas.stage import Context
from stages import merge as merge_stage
from stages.merge import STAGE, _crop, _extended, _is_wing, _pieces, _pixel_scale, _read_hits, _table, _windows
from tests.support.exposure import exposure_info
from tests.support.merging import SHAPE, STRIDE, hit_table, hits_over
from tests.support.science_night import exposure as science_night_exposure

SIGMA, SMOOTHING = 5.0, 0.6
KERNEL = gaussian_filter(np.pad([[1.0]], 10), SMOOTHING)
CORRELATION = (fftconvolve(KERNEL, KERNEL, mode="same") / np.sum(KERNEL**2))[7:14, 7:14]


def exposure(shape, fwhm=2.3, noise=SIGMA, background=0.0, correlation=CORRELATION):
    return exposure_info(
        shape, fwhm_px=fwhm, background=background, noise=noise, noise_correlation=correlation.tolist()
    )


def sky(shape=SHAPE, seed=0):
    """Correlated noise of deviation SIGMA."""
    white = np.random.default_rng(seed).normal(size=shape)
    return gaussian_filter(white, SMOOTHING) * (SIGMA / math.sqrt(np.sum(KERNEL**2)))


def scene(trails, seed=0, fwhm=2.3, shape=SHAPE):
    """Sky with trails (x, y, length, angle, S/N) in it."""
    image, psf = sky(shape, seed), moffat_mixture(fwhm, 3.0)
    for x, y, length, angle, snr in trails:
        side = int(length) + 41
        own = trail_image((side, side), side // 2, side // 2, length, angle, psf)
        flux = snr * filtered_noise(own, SIGMA, CORRELATION) / np.sum(own**2)
        image += flux * trail_image(image.shape, x, y, length, angle, psf)
    return image.astype(np.float32)


def merge(image, hits, info=None, mask=None, grid=SearchGrid(), **chosen):  # noqa: B008
    mask = np.zeros(image.shape, np.uint16) if mask is None else mask
    numbers = {"hit": SearchCounts(len(hits), 0, grid)}
    context = Context(exposure=info or exposure(image.shape), settings=MergeSettings(**chosen), numbers=numbers)
    return STAGE({"hit": hits, "difference": image, "mask": mask}, context).rows.to_pylist()


def turned(angle, other):
    return abs((angle - other + 90) % 180 - 90)


@pytest.mark.parametrize("angle", [0.0, 30.0, 77.0, 135.0])
def test_trail_of_40_px_is_one_with_all_its_hits(angle):
    trails = [(140.0, 130.0, 40.0, angle, 25.0)]
    hits = hits_over(trails, within=12.9)
    (found,) = merge(scene(trails), hits)
    assert found["nHits"] == len(hits) >= 35
    assert math.hypot(found["x"] - 140, found["y"] - 130) < 1
    assert found["length"] == pytest.approx(40, abs=3)
    assert turned(found["angle"], angle) < 2


@pytest.mark.parametrize("fwhm", [2.0, 2.5])
@pytest.mark.parametrize(("length", "angle"), [(20.0, 10.0), (40.0, 60.0), (60.0, 100.0), (30.0, 150.0)])
def test_parallel_trails_10_px_apart_stay_two(fwhm, length, angle):
    theta = math.radians(angle)
    other = (140 - 10 * math.sin(theta), 130 + 10 * math.cos(theta), length, angle, 20.0)
    trails = [(140.0, 130.0, length, angle, 12.0), other]
    found = merge(scene(trails, fwhm=fwhm), hits_over(trails), exposure(SHAPE, fwhm))
    assert len(found) == 2
    for x, y, *_ in trails:
        assert min(math.hypot(each["x"] - x, each["y"] - y) for each in found) < 4


@pytest.mark.parametrize("turn", [45.0, 90.0])
def test_crossing_trails_are_two(turn):
    trails = [(140.0, 130.0, 50.0, 20.0, 25.0), (143.0, 128.0, 45.0, 20 + turn, 18.0)]
    assert len(merge(scene(trails), hits_over(trails))) == 2


@pytest.mark.parametrize("value", [3e38, -3e38, 1e20])
def test_a_value_that_stands_for_none_hides_no_trail_beside_it(value):
    trails = [(140.0, 130.0, 40.0, 30.0, 25.0)]
    image = scene(trails)
    plain = merge(image, hits_over(trails))
    image[160, 150] = value
    (found,) = merge(image, hits_over(trails))
    assert [found[name] for name in ("x", "y", "length", "snr")] == pytest.approx(
        [plain[0][name] for name in ("x", "y", "length", "snr")], rel=1e-3
    )


def test_point_sources_15_px_apart_stay_two():
    trails = [(140.0, 130.0, 0.0, 0.0, 14.0), (151.0, 140.0, 0.0, 0.0, 10.0)]
    found = merge(scene(trails), hits_over(trails))
    assert [each["length"] for each in found] == [0, 0]


@pytest.mark.parametrize("length", [0.0, 30.0])
def test_negative_sources_give_nothing(length):
    trails = [(140.0, 130.0, length, 20.0, -50.0)]
    assert merge(scene(trails), hits_over(trails)) == []


def test_dipole_gives_its_positive_lobe():
    trails = [(140.0, 130.0, 0.0, 0.0, 60.0), (143.0, 130.0, 0.0, 0.0, -60.0)]
    (lobe,) = merge(scene(trails), hits_over(trails))
    assert 138 < lobe["x"] < 140.5


@pytest.mark.parametrize(("length", "angle"), [(180.0, 37.0), (230.0, 5.0), (900.0, 50.0)])
def test_long_trail_is_one(length, angle):
    trails = [(140.0, 130.0, length, angle, 80.0)]
    hits = hits_over(trails, within=12.9)
    (found,) = merge(scene(trails), hits)
    assert found["nHits"] == len(hits)
    assert turned(found["angle"], angle) < 1
    if length < 300:
        assert found["length"] == pytest.approx(length, abs=8)


def test_two_satellites_10_px_apart_are_two():
    trails = [(140.0, 130.0, 900.0, 50.0, 80.0), (146.0, 122.0, 900.0, 50.0, 60.0)]
    assert len(merge(scene(trails), hits_over(trails))) == 2


@pytest.mark.parametrize("apart", [14.0, 18.0])
def test_a_trail_beside_a_satellite_keeps_its_hits(apart):
    trails = [(140.0, 100.0, 600.0, 10.0, 120.0), (140.0, 100.0 + apart / math.cos(math.radians(10)), 12.0, 10.0, 14.0)]
    found = merge(scene(trails), hits_over(trails), grid=SearchGrid(window=26, stride=7, claim=16))
    assert sorted(each["trailClass"] for each in found) == ["", "satellite"]
    (beside,) = (each for each in found if not each["trailClass"])
    assert math.hypot(beside["x"] - 140, beside["y"] - trails[1][1]) < 2


def test_a_line_in_dashes_is_followed_once_and_becomes_one(monkeypatch):
    """What is lit over little more than half of its length is not a trail, from whichever dash it is followed."""
    seeds, follow = [], merge_stage.grow_trail
    monkeypatch.setattr(merge_stage, "grow_trail", lambda frame, seed: seeds.append(seed) or follow(frame, seed))
    dashes = [(40.0 + 64 * k, 60.0, 36.0, 0.0, 60.0) for k in range(21)]
    hits = hits_over(dashes, (120, 1400))
    found = merge(scene(dashes, shape=(120, 1400)), hits)
    assert len(seeds) <= 4
    (line,) = found
    assert (line["trailClass"], line["nHits"]) == ("satellite", len(hits))
    assert line["length"] == pytest.approx(20 * 64 + 36, abs=5)


def test_blinking_trail_is_one():
    theta = math.radians(20)
    trails = [
        (140 + k * 50 * math.cos(theta), 130 + k * 50 * math.sin(theta), 32.0, 20.0, 30.0)
        for k in (-1.5, -0.5, 0.5, 1.5)
    ]
    (found,) = merge(scene(trails), hits_over(trails))
    assert found["length"] == pytest.approx(182, abs=8)


@pytest.mark.parametrize("seed", range(5))
def test_faint_long_trail(seed):
    trails = [(140.0, 130.0, 60.0, 25.0 + 31 * seed, 10.0)]
    found = merge(scene(trails, seed), hits_over(trails))
    best = max(found, key=lambda each: each["logitSum"])
    assert best["length"] == pytest.approx(60, abs=15)
    assert turned(best["angle"], trails[0][3]) < 5


@pytest.mark.parametrize("seed", range(8))
def test_first_position_is_good_to_a_pixel_or_so(seed):
    trails = [(140.0 + 0.13 * seed, 130.0 - 0.11 * seed, 3.0 * seed, 23.0 * seed, 12.0)]
    found = merge(scene(trails, seed), hits_over(trails))
    best = max(found, key=lambda each: each["logitSum"])
    assert math.hypot(best["x"] - trails[0][0], best["y"] - trails[0][1]) <= 1.5


def test_trail_across_a_masked_star_is_one():
    trails = [(140.0, 130.0, 60.0, 15.0, 40.0)]
    image, mask = scene(trails), np.zeros(SHAPE, np.uint16)
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    mask[np.hypot(x - 145, y - 131) < 9] = MaskPlane.NO_DATA
    image[mask > 0] = np.nan
    (found,) = merge(image, hits_over(trails), mask=mask)
    assert found["length"] == pytest.approx(60, abs=8)


def test_hits_over_masked_pixels_give_nothing():
    trails = [(140.0, 130.0, 40.0, 15.0, 40.0)]
    mask = np.full(SHAPE, MaskPlane.SAT, np.uint16)
    assert merge(scene(trails), hits_over(trails), mask=mask) == []


def test_at_the_border_and_in_the_corner():
    trails = [(4.0, 130.0, 20.0, 90.0, 25.0), (276.0, 256.0, 0.0, 0.0, 25.0)]
    found = merge(scene(trails), hits_over(trails, within=14))
    assert [(round(each["x"]), round(each["y"])) for each in found] == [(4, 130), (276, 256)]


def test_no_hits_no_candidates():
    assert merge(scene([]), HIT.empty()) == []


MANY = [
    (60.0, 60.0, 0.0, 0.0, 15.0),
    (75.0, 60.0, 0.0, 0.0, 9.0),
    (200.0, 80.0, 30.0, 40.0, 20.0),
    (120.0, 190.0, 200.0, 5.0, 90.0),
    (60.0, 130.0, 12.0, 100.0, 12.0),
]
MANY_IMAGE = scene(MANY)
MANY_HITS = hits_over(MANY)


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 2**32 - 1))
def test_order_of_hits_does_not_matter(seed):
    shuffled = MANY_HITS.take(np.random.default_rng(seed).permutation(len(MANY_HITS)))
    found = merge(MANY_IMAGE, shuffled)
    assert found == merge(MANY_IMAGE, MANY_HITS)
    assert [(each["y"], each["x"]) for each in found] == sorted((each["y"], each["x"]) for each in found)


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 2**32 - 1))
def test_each_hit_counts_once(seed):
    kept = np.random.default_rng(seed).random(len(MANY_HITS)) < 0.6
    hits = MANY_HITS.filter(pa.array(kept))
    found = merge(MANY_IMAGE, hits)
    assert sum(each["nHits"] for each in found) == len(hits)
    assert sum(each["logitSum"] for each in found) == pytest.approx(float(np.sum(hits["logit"])), rel=1e-5)
    assert max(each["logitPeak"] for each in found) == pytest.approx(float(np.max(hits["logit"])))
    assert all(each["nHits"] > 0 for each in found)


def test_grid_is_that_of_the_search():
    trails = [(140.0, 130.0, 0.0, 0.0, 20.0)]
    hits = hit_table([124 // 4], [134 // 4], [3.0])
    (found,) = merge(scene(trails), hits, grid=SearchGrid(16, 4, 0, 16))
    assert (round(found["x"]), round(found["y"])) == (140, 130)
    assert merge(scene(trails), hits.slice(0, 0), grid=SearchGrid(16, 4, 0, 16)) == []


@pytest.mark.parametrize(
    ("stride", "columns", "groups"),
    [
        (2, [0, 7, 14], [[0, 7, 14]]),  # 14 px from hit to hit
        (2, [0, 8, 15], [[0], [8, 15]]),  # 16 px
        (5, [0, 3, 7], [[0, 3], [7]]),  # 15 px, the nearest number of steps; 20 px
        (32, [0, 1, 3], [[0, 1], [3]]),  # neighbours on the grid belong together, however coarse it is
    ],
)
def test_hits_are_of_one_group_up_to_14_px_or_as_neighbours(stride, columns, groups):
    hits = _read_hits(hit_table([5] * len(columns), columns, [3.0] * len(columns)), SearchGrid(26, stride, 0, 26))
    assert [group.column.tolist() for group, _ in _pieces(hits)] == groups
    assert [group.x.tolist() for group, _ in _pieces(hits)] == [[12.5 + stride * n for n in group] for group in groups]


def test_hits_without_a_grid_are_refused():
    image, hits = scene([]), hit_table([1], [1], [3.0])
    context = Context(exposure=exposure(image.shape), settings=MergeSettings())
    with pytest.raises(DatasetError, match="stage 'merge' needs the grid of the hits"):
        STAGE({"hit": hits, "difference": image, "mask": np.zeros(image.shape, np.uint16)}, context)


@pytest.mark.parametrize(("hits", "most"), [(MANY_HITS, 2), (pa.concat_tables([MANY_HITS] * 400), 4096)])
def test_flood_is_refused(hits, most):
    with pytest.raises(BadInput, match=r"exposure 1-0: at least .* To fix, look at the difference image") as caught:
        merge(MANY_IMAGE, hits, max_candidates=most)
    assert caught.value.code == "flood"


def test_refuses_pixels_that_are_not_the_exposure():
    with pytest.raises(DatasetError, match=r"exposure 1-0 is \(260, 281\), got pixels of \(260, 280\)"):
        merge(MANY_IMAGE, MANY_HITS, exposure((260, 281)))


@pytest.mark.skipif("NIGHTSTRIDE_DATA" not in os.environ, reason="NIGHTSTRIDE_DATA is not set: no real frame")
@pytest.mark.parametrize("fwhm", [3.0, 4.5])
def test_real_frame_has_one_long_streak(fwhm):
    image = fits.getdata(Path(os.environ["NIGHTSTRIDE_DATA"]) / "01_fits_streaks/astride_long.fits").astype(np.float32)
    level = float(np.median(image))
    noise = 1.4826 * float(np.median(np.abs(image - level)))
    white = np.array([[1.0]])
    bank = trail_bank(moffat_mixture(fwhm, 3.0), fwhm, noise, white)
    peak = maximum_filter(point_snr(image - np.float32(level), bank), 18)[13:-13:STRIDE, 13:-13:STRIDE]
    row, column = np.nonzero(peak > 6)
    hits = hit_table(row, column, np.log(peak[row, column]))
    found = merge(image, hits, exposure(image.shape, fwhm, noise, level, white))
    (streak,) = [each for each in found if each["length"] > 150]
    theta = math.radians(streak["angle"])
    half = 0.5 * streak["length"] * np.array([math.cos(theta), math.sin(theta)])
    centre = np.array([streak["x"], streak["y"]])
    left, right = sorted([centre - half, centre + half], key=lambda end: float(end[0]))
    assert math.dist(left, (22, 338)) < 5
    assert math.dist(right, (341, 310)) < 5
    assert turned(streak["angle"], math.degrees(math.atan2(310 - 338, 341 - 22))) < 2
    for each in found:
        across = (each["y"] - streak["y"]) * math.cos(theta) - (each["x"] - streak["x"]) * math.sin(theta)
        assert each is streak or abs(across) > 5 or not 22 < each["x"] < 341


def hits_at(rows, columns, grid=None):
    return _read_hits(hit_table(rows, columns, np.arange(len(rows))), grid or SearchGrid())


def test_hits_are_read_in_order_of_row_column_and_logit_with_the_centres_of_their_windows():
    hits = _read_hits(hit_table([3, 1, 3, 3], [4, 9, 2, 2], [1.0, 2.0, 5.0, 3.0]), SearchGrid(16, 5, 0, 14))
    assert hits.row.tolist() == [1, 3, 3, 3]
    assert hits.column.tolist() == [9, 2, 2, 4]
    assert hits.logit.tolist() == [2, 3, 5, 1]
    assert hits.x.tolist() == [9 * 5 + 7.5, 17.5, 17.5, 27.5]
    assert hits.y.tolist() == [12.5, 22.5, 22.5, 22.5]
    assert (hits.claim, hits.stride) == (14, 5)


@pytest.mark.parametrize("upright", [False, True])
def test_groups_of_112_px_are_cut_and_smaller_ones_are_not(upright):
    for steps, pieces in ((15, 1), (16, 2)):  # of 7 px
        line, none = np.arange(10, 11 + steps), np.full(steps + 1, 20)
        found = _pieces(hits_at(line, none) if upright else hits_at(none, line))
        assert len(found) == pieces
        assert sum(len(piece.row) for piece, _ in found) == steps + 1
        assert all(len(group.row) == steps + 1 for _, group in found)


@given(st.sets(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=150))
def test_pieces_hold_every_hit_once_and_stay_smaller_than_112_px(places):
    rows, columns = np.array(sorted(places)).T
    pieces = [piece for piece, _ in _pieces(hits_at(rows, columns))]
    held = [(row, column) for piece in pieces for row, column in zip(piece.row, piece.column, strict=True)]
    assert sorted(held) == sorted(places)
    for piece in pieces:
        assert max(np.ptp(piece.x), np.ptp(piece.y)) < 112


@pytest.mark.parametrize(
    ("snr", "x", "y", "wing"),
    [
        (4.9, 100.0, 110.0, True),
        (5.0, 100.0, 110.0, False),  # a twentieth as bright
        (4.9, 100.0, 116.0, True),  # 8 FWHM away
        (4.9, 100.0, 116.1, False),
        (4.9, 166.0, 100.0, True),  # 11 of 21 px within 8 FWHM of the end of the other
        (4.9, 168.0, 100.0, False),
        (4.9, 100.0, 84.0, True),
    ],
)
def test_wings_are_faint_beside_what_is_twenty_times_brighter_and_lie_near_it_for_the_most_part(snr, x, y, wing):
    brighter = DetectedSegment(100.0, 100.0, 100.0, 0.0, 100.0)
    assert _is_wing(DetectedSegment(x, y, 20.0, 0.0, snr), brighter, 2.0) == wing


@pytest.mark.parametrize(
    ("length", "grown", "coverage", "extended"),
    [
        (60.0, 54.0, 1.0, True),  # nine tenths of the first length
        (60.0, 53.9, 1.0, False),
        (60.0, 300.0, 0.0, False),  # a row of stars
        (59.9, 300.0, 1.0, False),
    ],
)
def test_trails_from_60_px_on_are_followed_where_that_gives_a_trail_as_long(
    length, grown, coverage, extended, monkeypatch
):
    trail = DetectedSegment(100.0, 100.0, length, 0.0, 20.0)
    followed = LongTrail(trail._replace(length=grown, x=90.0), 2.0, coverage)
    monkeypatch.setattr("stages.merge.grow_trail", lambda frame, seed: followed)
    assert _extended(SimpleNamespace(frame=None, spotted=()), trail) == (followed.segment if extended else trail)


@pytest.mark.parametrize(("length", "known"), [(60.0, True), (59.9, False)])
def test_the_scale_of_the_pixels_is_asked_for_where_a_trail_is_long(length, known):
    info = science_night_exposure(1, "r")
    candidates = [Candidate(DetectedSegment(9.0, 9.0, one, 0.0, 9.0), (1.0,)) for one in (5.0, length)]
    scale = _pixel_scale(candidates, info)
    assert (scale == pytest.approx(1.0, rel=1e-3)) if known else (scale is None)
    assert _pixel_scale(candidates, info.model_copy(update={"wcs_header": None})) is None
    assert _pixel_scale(candidates, info.model_copy(update={"wcs_header": "CTYPE1  = 'FREQ'"})) is None
    assert _pixel_scale([], info) is None


def test_as_many_candidates_as_allowed_are_no_flood():
    candidates = len(merge(MANY_IMAGE, MANY_HITS))
    assert len(merge(MANY_IMAGE, MANY_HITS, max_candidates=candidates)) == candidates


def test_pixels_and_mask_are_those_of_the_exposure():
    image, hits = scene([]), hit_table([1], [1], [3.0])
    with pytest.raises(DatasetError, match="a mask of"):
        merge(image, hits, mask=np.zeros((260, 281), np.uint16))
    with pytest.raises(DatasetError, match="a mask of"):
        merge(image, hits, exposure((260, 281)))
    context = Context(exposure=None, settings=MergeSettings())
    with pytest.raises(DatasetError, match="needs an exposure"):
        STAGE({"hit": hits, "difference": image, "mask": np.zeros(SHAPE, np.uint16)}, context)


def test_a_group_is_searched_in_its_windows_with_the_reach_of_the_templates_about_them():
    image = np.random.default_rng(1).normal(7, 1, (120, 140)).astype(np.float32)
    frame = SimpleNamespace(image=image, usable=np.ones(image.shape, bool), noise=1.0)
    scene_ = SimpleNamespace(frame=frame, background=0.0, optics=SimpleNamespace(bank=SimpleNamespace(reach=9)))
    rows, columns = [3, 4, 6], [5, 2, 2]
    hits = hits_at(rows, columns)
    crop = _crop(scene_, hits)
    allowed = _windows(crop, hits)
    assert (crop.y0, crop.x0) == (7 * 3 - 10, 7 * 2 - 10)
    assert crop.data.shape == (26 + 7 * 3 + 20, 26 + 7 * 3 + 20)
    expected = np.zeros((160, 160), bool)
    for row, column in zip(rows, columns, strict=True):
        expected[7 * row : 7 * row + 26, 7 * column : 7 * column + 26] = True
    here = expected[crop.y0 : crop.y0 + allowed.shape[0], crop.x0 : crop.x0 + allowed.shape[1]]
    np.testing.assert_array_equal(allowed, here)
    assert allowed.sum() == expected.sum()
    np.testing.assert_allclose(crop.data, image[11:78, 4:71] - np.median(image[11:78, 4:71]), atol=1e-5)


@given(st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), min_size=1, max_size=8))
def test_windows_of_hits_anywhere_are_seen_as_far_as_they_reach_into_a_crop(places):
    rows, columns = np.array(places).T
    crop = SimpleNamespace(data=np.zeros((40, 50)), x0=60, y0=70)
    whole = np.zeros((250, 250), bool)
    for row, column in places:
        whole[7 * row : 7 * row + 26, 7 * column : 7 * column + 26] = True
    np.testing.assert_array_equal(_windows(crop, hits_at(rows, columns)), whole[70:110, 60:110])


def test_more_than_30000_hits_are_a_flood():
    many = hit_table(np.arange(30_001) // 30, np.arange(30_001) % 30, np.zeros(30_001))
    with pytest.raises(BadInput, match=r"at least 30001 windows above the threshold, more than 30000"):
        merge(MANY_IMAGE, many)


def test_candidates_are_told_with_the_sums_of_their_hits():
    trails = [DetectedSegment(9.0, 20.0, 5.0, 30.0, 8.0), DetectedSegment(4.0, 20.0, 0.0, 0.0, 9.0)]
    logits = [(1e8, 0.25, -1e8), (3.0, 5.0)]
    found = [Classified(Candidate(*one), kind, width) for one, kind, width in zip(
        zip(trails, logits, strict=True), ("satellite", ""), (4.5, 0.0), strict=True
    )]  # fmt: skip
    first, second = _table(found).to_pylist()
    assert (first["x"], first["nHits"], first["logitSum"], first["logitPeak"]) == (4, 2, 8, 5)
    assert (second["x"], second["nHits"], second["logitSum"], second["logitPeak"]) == (9, 3, 0.25, 1e8)
    assert (second["trailClass"], second["halfWidth"]) == ("satellite", 4.5)
    assert (first["trailClass"], first["halfWidth"]) == ("", 0)
    assert (second["length"], second["angle"], second["snr"]) == (5, 30, 8)
