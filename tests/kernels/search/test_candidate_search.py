import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.signal import correlate2d

from kernels.image.noise import filtered_noise
from kernels.image.search_image import Places, SearchImage, squash
from kernels.nets.candidate_nets import LINE_CHANNELS, CandidateCnn
from kernels.nets.tree_ensemble import TreeEnsemble, tree_logits
from kernels.psf.gaussian_mixture import GaussianMixture, moffat_mixture
from kernels.search.candidate_search import (
    CANDIDATE_GRID,
    CELL,
    LONG,
    NOISE_ALONE,
    WIDE,
    CandidateSearch,
    TreeJudge,
    TwoStageJudge,
    find_candidates,
    line_cutouts,
    line_score,
    lines_of,
    net_logits,
)
from kernels.search.line_search import FRAMES, LENGTHS, STEPS, Peaks, best_lines, line_bank, middle_pixels, point_map
from kernels.search.shape_features import FEATURES, shape_features
from kernels.trails.matched_filter import oracle_threshold, template_snr
from kernels.trails.trail_model import trail_image
from schemas.pixels import SearchGrid
from tests.support.cards import model_card

CARD = model_card()
SHAPE = (400, 424)
TREES = TreeEnsemble(
    np.array([0], np.int32),
    np.array([2, -1, -1], np.int16),
    np.array([6.0, 0, 0]),
    np.array([1, 0, 0], np.int32),
    np.array([2, 0, 0], np.int32),
    np.array([0, -1.0, 3.0]),
    np.zeros(1),
)


def plane(box=np.s_[:, :]):
    image = np.random.default_rng(1).normal(size=SHAPE)
    image += 100 * trail_image(SHAPE, 201.0, 190.0, 25.0, 40.0, moffat_mixture(2.3, 3.0))
    usable = np.ones(SHAPE, bool)
    usable[:8, :12] = False
    return SearchImage(image.astype(np.float32)[box], usable[box], 0.0, 1.0, np.array([[1.0]]), 2.3)


@pytest.mark.parametrize("judge", [line_score, TreeJudge(TREES)])
def test_the_cell_of_a_trail_has_the_highest_score(judge):
    search = CandidateSearch(judge, 4.5, CARD)
    logits, unscored = search.search(plane(), Places(0, 0, SHAPE[0] // CELL, SHAPE[1] // CELL, CELL))
    assert logits.dtype == np.float32
    assert unscored == 6
    cells = logits.reshape(SHAPE[0] // CELL, -1)
    row, column = np.unravel_index(cells.argmax(), cells.shape)
    assert abs(row * CELL + 1.5 - 190) <= CANDIDATE_GRID.claim / 2
    assert abs(column * CELL + 1.5 - 201) <= CANDIDATE_GRID.claim / 2
    assert np.isneginf(cells).mean() > 0.99


@pytest.mark.parametrize("judge", [line_score, TreeJudge(TREES)])
def test_same_bits_however_the_image_is_cut(judge):
    search, reach = CandidateSearch(judge, 3.8, CARD), CANDIDATE_GRID.reach
    whole = search.search(plane(), Places(0, 0, 100, 106, CELL))[0].reshape(100, 106)
    y0, x0, rows, columns = 160, 140, 20, 25
    top, left = y0 - reach, x0 - reach
    cut = plane(np.s_[top : y0 + rows * CELL + reach, left : x0 + columns * CELL + reach])
    part = search.search(cut, Places(reach, reach, rows, columns, CELL))[0].reshape(rows, columns)
    np.testing.assert_array_equal(part, whole[y0 // CELL :, x0 // CELL :][:rows, :columns])
    assert np.isfinite(part).sum() >= 2


def test_cells_off_the_plane_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        CandidateSearch(line_score, 4.5, CARD).search(plane(), Places(0, 0, 101, 106, CELL))


TREES_CANDIDATE_JUDGES = TreeEnsemble(
    np.array([0], np.int32),
    np.array([2, -1, -1], np.int16),
    np.array([4.5, 0, 0]),
    np.array([1, 0, 0], np.int32),
    np.array([2, 0, 0], np.int32),
    np.array([0, -8.0, 3.0]),
    np.zeros(1),
)
CPU = torch.device("cpu")


def network():
    torch.manual_seed(1)
    return CandidateCnn(len(FEATURES)).eval()


def candidates():
    image = np.random.default_rng(1).normal(size=(300, 300)).astype(np.float32)
    plane = SearchImage(image, np.ones(image.shape, bool), 0.0, 1.0, np.array([[1.0]]), 2.3)
    return plane, *find_candidates(plane, 3.8)


def test_trees_judge_the_shape():
    plane, snr, peaks = candidates()
    features = shape_features(plane, snr, peaks, lines_of(plane, snr, peaks))
    np.testing.assert_array_equal(
        TreeJudge(TREES_CANDIDATE_JUDGES)(plane, snr, peaks), tree_logits(features, TREES_CANDIDATE_JUDGES)
    )


def test_the_network_is_asked_where_the_trees_doubt():
    plane, snr, peaks = candidates()
    trees = TreeJudge(TREES_CANDIDATE_JUDGES)(plane, snr, peaks)
    asked = trees >= 0
    assert 0 < asked.sum() < len(asked)
    half = TwoStageJudge(TREES_CANDIDATE_JUDGES, 0.0, network(), 0.5, CPU)(plane, snr, peaks)
    alone = TwoStageJudge(TREES_CANDIDATE_JUDGES, 0.0, network(), 1.0, CPU)(plane, snr, peaks)
    np.testing.assert_array_equal(half[~asked], trees[~asked] - 10)
    np.testing.assert_allclose(half[asked], (alone[asked] + trees[asked]) / 2, rtol=1e-6)
    assert half[~asked].max() < half[asked].min()
    lines = lines_of(plane, snr, peaks)
    pictures, features = line_cutouts(plane, snr, peaks, lines), shape_features(plane, snr, peaks, lines)
    np.testing.assert_array_equal(alone[asked], net_logits(network(), pictures[asked], features[asked], CPU))


def test_scores_do_not_depend_on_what_else_is_asked():
    rng = np.random.default_rng(2)
    pictures = rng.normal(size=(150, LINE_CHANNELS, WIDE, LONG)).astype(np.float32)
    features = rng.normal(size=(150, len(FEATURES))).astype(np.float32)
    net = network()
    whole = net_logits(net, pictures, features, CPU)
    for part in (np.s_[3:4], np.s_[60:131], np.s_[149:150]):
        np.testing.assert_array_equal(net_logits(net, pictures[part], features[part], CPU), whole[part])


@pytest.mark.parametrize("angle", [0.0, 37.0, 90.0, 151.0])
def test_a_trail_lies_along_the_rows(angle):
    image = (300 * trail_image((180, 180), 90.0, 90.0, 40.0, angle, moffat_mixture(2.3, 3.0))).astype(np.float32)
    usable = np.ones(image.shape, bool)
    plane = SearchImage(image, usable, 0.0, 1.0, np.array([[1.0]]), 2.3)
    snr, peaks = find_candidates(plane, 4.5)
    lines = lines_of(plane, snr, peaks)
    best = int(peaks.snr.argmax())
    cutout = line_cutouts(plane, snr, peaks, lines)[best]
    assert cutout.shape == (LINE_CHANNELS, WIDE, LONG)
    light = np.maximum(cutout[0], 0)
    across = light.sum(1) @ np.arange(WIDE) / light.sum()
    assert across == pytest.approx((WIDE - 1) / 2, abs=0.7)
    assert light[8:16].sum() > 0.75 * light.sum()
    assert (cutout[2] == 0).all()


def test_beyond_the_plane_nothing_counts():
    image = (100 * trail_image((60, 60), 3.0, 30.0, 0.0, 0.0, moffat_mixture(2.3, 3.0))).astype(np.float32)
    plane = SearchImage(image, np.ones(image.shape, bool), 0.0, 1.0, np.array([[1.0]]), 2.3)
    snr, peaks = find_candidates(plane, 4.5)
    cutouts = line_cutouts(plane, snr, peaks, lines_of(plane, snr, peaks))
    assert cutouts[0, 2].max() == pytest.approx(1)
    assert 0.2 < cutouts[0, 2].mean() < 0.6


@pytest.mark.parametrize("angle", [0.0, 28.0, 90.0])
def test_the_border_of_a_plane_is_as_good_as_pixels_that_do_not_count(angle):
    """The same pictures to the last row and column, cut from a larger image that is masked all around."""
    rng, wide, (ny, nx) = np.random.default_rng(4), 60, (30, 44)
    pixels, snr = rng.normal(size=(2, ny, nx)).astype(np.float32)
    y, x = np.array([0, ny - 1, 14, 15, 7]), np.array([20, 21, 0, nx - 1, 9])
    lines = np.array([[0.3, 0.4, 20.0, angle, 9.0]] * len(y))

    def cut(margin):
        usable = np.pad(np.ones((ny, nx), bool), margin)
        plane = SearchImage(np.pad(pixels, margin), usable, 0.0, 1.0, np.array([[1.0]]), 2.3)
        zero = np.zeros(len(y), np.float32)
        peaks = Peaks(y + margin, x + margin, *[zero] * (len(Peaks._fields) - 2))
        return line_cutouts(plane, np.pad(snr, margin), peaks, lines)

    np.testing.assert_array_equal(cut(0), cut(wide))
    assert cut(0)[:, 2].max() == pytest.approx(1)


NEAR = np.array([[0.1, 0.3, 0.1], [0.3, 1.0, 0.3], [0.1, 0.3, 0.1]])
PSF = GaussianMixture(np.array([1.0]), np.array([np.sqrt((2.3 / np.sqrt(8 * np.log(2))) ** 2 + 1 / 12)]))


def plane_of(image):
    return SearchImage(image.astype(np.float32), np.ones(image.shape, bool), 0.0, 1.0, NEAR, 2.3)


@pytest.mark.parametrize(("length", "angle"), [(0, 0), (10, 30), (25, 110), (45, 68), (58, 140)])
def test_score_is_that_of_direct_correlation_with_the_templates_image(length, angle):
    template = trail_image((160, 160), 80.0, 80.0, length, angle, PSF)
    image = 60 / template_snr(1.0, template, 1.0, NEAR) * template
    image += np.random.default_rng(1).normal(0, 0.3, image.shape)
    plane = plane_of(image)
    snr, peaks = find_candidates(plane, 4.5)
    score = line_score(plane, snr, peaks)
    small = trail_image((101, 101), 50.0, 50.0, length, angle, PSF)
    direct = correlate2d(image, small, mode="same") / filtered_noise(small, 1.0, NEAR)
    reached = np.sqrt(2 * score.max() + NOISE_ALONE**2)
    assert 0.8 < reached / direct[74:87, 74:87].max() < 1.02


def test_score_is_even_at_the_highest_peak_of_noise_alone():
    assert pytest.approx(oracle_threshold(1.0, 3080 * 3072), abs=0.01) == NOISE_ALONE


def test_brighter_is_better():
    template = trail_image((160, 160), 80.0, 80.0, 12.0, 30.0, PSF)
    best = []
    for snr in (8, 20, 100):
        plane = plane_of(snr / template_snr(1.0, template, 1.0, NEAR) * template)
        best.append(line_score(plane, *find_candidates(plane, 4.5)).max())
    assert best[0] < best[1] < best[2]


def test_its_grid_is_of_4_px_with_a_claim_of_8_px_to_each_side():
    assert CandidateSearch(line_score, 4.5, CARD).grid == SearchGrid(4, 4, 80, 16)
    assert (LONG, WIDE, LINE_CHANNELS) == (64, 24, 3)


def test_each_cell_gets_its_best_candidate_and_no_other_cell_does():
    image = np.random.default_rng(3).normal(size=(90, 100)).astype(np.float32)
    image[30:34, 40:44] = np.nan
    plane = SearchImage(image, np.isfinite(image), 0.0, 1.0, NEAR, 2.3)
    _, peaks = find_candidates(plane, 0.5)

    def judge(plane, snr, peaks):
        return (peaks.snr - 3).astype(np.float32)

    for y, x, rows, columns in ((0, 0, 22, 25), (10, 16, 12, 15), (17, 3, 18, 24)):
        expected = np.full((rows, columns), -np.inf, np.float32)
        for one in range(len(peaks.y)):
            row, column = (peaks.y[one] - y) // 4, (peaks.x[one] - x) // 4
            if row in range(rows) and column in range(columns):
                expected[row, column] = max(expected[row, column], peaks.snr[one] - 3)
        found, unscored = CandidateSearch(judge, 0.5, CARD).search(plane, Places(y, x, rows, columns, CELL))
        np.testing.assert_array_equal(found.reshape(rows, columns), expected)
        assert unscored == (1 if (y, x) == (10, 16) else 0)
        # There are candidates in the outermost cells, and just outside.
        assert np.isfinite(expected[[0, -1]]).any(1).all()
        assert np.isfinite(expected[:, [0, -1]]).any(0).all()


def test_candidates_are_the_peaks_of_lines_of_points_clipped_at_6():
    pixels = 2 * np.ascontiguousarray(plane().pixels[100:260, 100:300])
    found = SearchImage(pixels, np.ones(pixels.shape, bool), 0.0, 1.0, np.array([[1.0]]), 2.3)
    bank = line_bank(2.3, found.correlation)
    snr, peaks = find_candidates(found, 4.5)
    np.testing.assert_array_equal(snr, point_map(found.pixels, found.usable, 0.0, 1.0, bank))
    assert snr.max() > 7
    value, code = best_lines(snr, bank, 6.0)
    np.testing.assert_array_equal(peaks.snr, value[peaks.y, peaks.x])
    np.testing.assert_array_equal(peaks.code, code[peaks.y, peaks.x])
    assert (peaks.snr >= 4.5).all()


def test_cutouts_are_those_of_scipy():
    rng, (ny, nx), margin = np.random.default_rng(6), (50, 60), 50
    pixels = rng.normal(20, 6, (ny, nx)).astype(np.float32)
    usable = rng.random((ny, nx)) > 0.05
    for n, value in enumerate((np.nan, np.inf, -np.inf, 6e30, 2.5e30, -2.5e30)):
        pixels[25 + n, 30] = value
    here = SearchImage(pixels, usable, 20.0, 2.0, np.array([[1.0]]), 2.3)
    snr = rng.normal(0, 4, (ny, nx)).astype(np.float32)
    y, x = np.array([28, 0, 49, 10]), np.array([30, 59, 0, 20])
    lines = np.array([[0.3, -0.6, 20, 33, 5], [0, 0, 0, 0, 5], [1.7, 2.2, 9, 121, 5], [-3.4, 0.5, 50, 178, 5]])
    known = usable & (np.abs((pixels - 20.0) / 2) < 1e30)
    value = np.where(known, (pixels.astype(float) - 20) / 2, 0)
    planes = [np.pad(value, margin), np.pad(snr, margin), np.pad(~known, margin, constant_values=True).astype(float)]
    v, u = np.mgrid[:24, :64]
    v, u = v - 11.5, u - 31.5
    zero = np.zeros(4, np.float32)
    for n, found in enumerate(line_cutouts(here, snr, Peaks(y, x, zero, zero), lines)):
        dx, dy, _, angle, _ = lines[n]
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        places = [margin + y[n] + dy + u * s + v * c, margin + x[n] + dx + u * c - v * s]
        expected = np.stack([map_coordinates(one, places, order=1) for one in planes]).astype(np.float32)
        squash(expected[:2])
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("bright", [True, False])
def test_score_is_that_of_the_best_sum_about_the_middle(bright):
    rng = np.random.default_rng(8)
    snr = (rng.normal(0.5, 3, (60, 70)) if bright else np.full((60, 70), -1)).astype(np.float32)
    y, x = np.array([30, 0, 59, 20, 59]), np.array([35, 0, 69, 69, 3])
    here = plane_of(np.zeros(snr.shape))
    zero = np.zeros(len(y), np.float32)
    bank = line_bank(2.3, NEAR)
    padded = np.pad(snr.astype(float), 60)
    expected = []
    for j, i in zip(y + 60, x + 60, strict=True):
        sums = [
            bank.scale[frame, rise, n] * sum(padded[j + dy, i + dx] for dx, dy in steps)
            for frame, (low, high) in enumerate(FRAMES)
            for rise in range(low, high + 1)
            for n, length in enumerate(LENGTHS.tolist())
            for steps in [list(zip(*middle_pixels(frame, rise, length), strict=True))]
        ]
        expected.append(max(sums))
    score = line_score(here, snr, Peaks(y, x, zero, zero))
    best = np.array(expected)
    assert ((best > 0) == bright).all()
    np.testing.assert_allclose(score, (np.sign(best) * best**2 - 5.77**2) / 2, rtol=1e-5)
    assert STEPS == 8


def test_the_trees_doubt_from_their_floor_on():
    plane, snr, peaks = candidates()
    peaks = peaks.take(np.arange(20))
    trees = TreeJudge(TREES_CANDIDATE_JUDGES)(plane, snr, peaks)
    at = TwoStageJudge(TREES_CANDIDATE_JUDGES, 3.0, network(), 0.25, CPU)(plane, snr, peaks)
    above = TwoStageJudge(TREES_CANDIDATE_JUDGES, 3.001, network(), 0.25, CPU)(plane, snr, peaks)
    alone = TwoStageJudge(TREES_CANDIDATE_JUDGES, 3.0, network(), 1.0, CPU)(plane, snr, peaks)
    asked = trees == 3
    assert asked.any()
    np.testing.assert_allclose(at[asked], 0.25 * alone[asked] + 0.75 * 3, rtol=1e-5)
    np.testing.assert_array_equal(above, trees - 10)
