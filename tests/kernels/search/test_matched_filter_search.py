import numpy as np
import pytest
from scipy.signal import correlate2d

from kernels.image.noise import filtered_noise
from kernels.image.search_image import Places, SearchImage
from kernels.psf.gaussian_mixture import GaussianMixture, moffat_mixture
from kernels.search import matched_filter_search as module
from kernels.search.line_search import FRAMES, LENGTHS, STEPS, Peaks, best_lines, line_bank, middle_pixels, point_map
from kernels.search.matched_filter_search import (
    CANDIDATE_GRID,
    CELL,
    NOISE_ALONE,
    MatchedFilterSearch,
    find_candidates,
    line_score,
)
from kernels.trails.matched_filter import oracle_threshold, template_snr
from kernels.trails.trail_model import trail_image
from schemas.pixels import SearchGrid
from tests.support.cards import model_card

CARD = model_card()
SHAPE = (400, 424)


def plane(box=np.s_[:, :]):
    image = np.random.default_rng(1).normal(size=SHAPE)
    image += 100 * trail_image(SHAPE, 201.0, 190.0, 25.0, 40.0, moffat_mixture(2.3, 3.0))
    usable = np.ones(SHAPE, bool)
    usable[:8, :12] = False
    return SearchImage(image.astype(np.float32)[box], usable[box], 0.0, 1.0, np.array([[1.0]]), 2.3)


def test_the_cell_of_a_trail_has_the_highest_score():
    search = MatchedFilterSearch(4.5, CARD)
    logits, unscored = search.search(plane(), Places(0, 0, SHAPE[0] // CELL, SHAPE[1] // CELL, CELL))
    assert logits.dtype == np.float32
    assert unscored == 6
    cells = logits.reshape(SHAPE[0] // CELL, -1)
    row, column = np.unravel_index(cells.argmax(), cells.shape)
    assert abs(row * CELL + 1.5 - 190) <= CANDIDATE_GRID.claim / 2
    assert abs(column * CELL + 1.5 - 201) <= CANDIDATE_GRID.claim / 2
    assert np.isneginf(cells).mean() > 0.99


def test_same_bits_however_the_image_is_cut():
    search, reach = MatchedFilterSearch(3.8, CARD), CANDIDATE_GRID.reach
    whole = search.search(plane(), Places(0, 0, 100, 106, CELL))[0].reshape(100, 106)
    y0, x0, rows, columns = 160, 140, 20, 25
    top, left = y0 - reach, x0 - reach
    cut = plane(np.s_[top : y0 + rows * CELL + reach, left : x0 + columns * CELL + reach])
    part = search.search(cut, Places(reach, reach, rows, columns, CELL))[0].reshape(rows, columns)
    np.testing.assert_array_equal(part, whole[y0 // CELL :, x0 // CELL :][:rows, :columns])
    assert np.isfinite(part).sum() >= 2


def test_cells_off_the_plane_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        MatchedFilterSearch(4.5, CARD).search(plane(), Places(0, 0, 101, 106, CELL))


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
    assert MatchedFilterSearch(4.5, CARD).grid == SearchGrid(4, 4, 80, 16)


def test_each_cell_gets_its_best_candidate_and_no_other_cell_does(monkeypatch):
    image = np.random.default_rng(3).normal(size=(90, 100)).astype(np.float32)
    image[30:34, 40:44] = np.nan
    plane = SearchImage(image, np.isfinite(image), 0.0, 1.0, NEAR, 2.3)
    _, peaks = find_candidates(plane, 0.5)

    def judge(plane, snr, peaks):
        return (peaks.snr - 3).astype(np.float32)

    monkeypatch.setattr(module, "line_score", judge)

    for y, x, rows, columns in ((0, 0, 22, 25), (10, 16, 12, 15), (17, 3, 18, 24)):
        expected = np.full((rows, columns), -np.inf, np.float32)
        for one in range(len(peaks.y)):
            row, column = (peaks.y[one] - y) // 4, (peaks.x[one] - x) // 4
            if row in range(rows) and column in range(columns):
                expected[row, column] = max(expected[row, column], peaks.snr[one] - 3)
        found, unscored = MatchedFilterSearch(0.5, CARD).search(plane, Places(y, x, rows, columns, CELL))
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
