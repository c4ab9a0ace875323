import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d

from kernels.image.noise import filtered_noise
from kernels.image.search_image import Places, SearchImage
from kernels.nets.streak_net import CELL, StreakNet
from kernels.psf.gaussian_mixture import RADIUS, filter_taps, moffat_mixture
from kernels.search import dense_search as module
from kernels.search.dense_search import DenseSearch, dense_grid, dense_input
from kernels.trails.trail_model import trail_image
from schemas.pixels import SearchGrid
from tests.support.cards import model_card

SHAPE = (96, 120)


@pytest.fixture
def plane():
    rng = np.random.default_rng(5)
    pixels = rng.normal(7.0, 3.0, SHAPE).astype(np.float32)
    usable = rng.random(SHAPE) > 0.03
    pixels[~usable] = rng.choice([np.nan, np.inf, -1e30, 4.0], (~usable).sum())
    correlation = np.array([[0.02, 0.1, 0.02], [0.1, 1.0, 0.1], [0.02, 0.1, 0.02]])
    return SearchImage(pixels, usable, 7.0, 3.0, correlation, 2.2)


def by_scipy(plane):
    value = np.where(plane.usable, (plane.pixels.astype(np.float64) - plane.background) / plane.noise, 0)
    taps = filter_taps(plane.fwhm_px).astype(np.float64)
    smooth = correlate1d(correlate1d(value, taps, 0, mode="constant"), taps, 1, mode="constant")
    smooth /= filtered_noise(np.outer(taps, taps), 1.0, plane.correlation)

    def level(s):
        size = np.minimum(np.abs(s), 128)
        return np.sign(s) * size * (1 + size / 64) / (1 + size / 4)

    flat = np.outer((0.15, 1, 0.15), (0.15, 1, 0.15))
    wide = filter_taps(max(plane.fwhm_px, 1.6)).astype(np.float64)
    here = filtered_noise(np.outer(taps, taps), 1.0, plane.correlation) / np.square(taps).sum() ** 2
    learnt = filtered_noise(np.outer(wide, wide), 1.0, flat) / np.square(wide).sum() ** 2
    side = max(1.6**2 - plane.fwhm_px**2, 0) / (8 * np.log(2)) / 2  # half of what it adds to the variance
    blur = np.array([side, 1 - 2 * side, side])
    own = filtered_noise(np.outer(blur, blur), 1.0, plane.correlation)
    shown = correlate1d(correlate1d(value, blur, 0, mode="constant"), blur, 1, mode="constant")
    return np.stack([level(shown / min(here / learnt, own)), level(smooth), ~plane.usable])


def in_cells(planes):
    """(3, ny, nx) -> (rows, columns, 48), pixel by pixel."""
    ny, nx = planes.shape[1:]
    out = np.empty((ny // 4, nx // 4, 48))
    for plane in range(3):
        for dy in range(4):
            for dx in range(4):
                out[:, :, plane * 16 + dy * 4 + dx] = planes[plane, dy::4, dx::4]
    return out


@pytest.mark.parametrize("neighbour", [-0.2, -0.1, 0.0, 0.1, 0.14])
def test_a_source_of_some_signal_to_noise_looks_alike_wherever_noise_is_less_smooth_than_learnt(neighbour):
    flat = np.outer((0.15, 1.0, 0.15), (0.15, 1.0, 0.15))
    other = np.array([[0.0, neighbour, 0.0], [neighbour, 1.0, neighbour], [0.0, neighbour, 0.0]])
    taps = filter_taps(2.4)
    kernel, source = np.outer(taps, taps), trail_image((64, 64), 30.0, 33.0, 6.0, 0.5, moffat_mixture(2.4, 3.0))
    seen = []
    for correlation in (flat, other):
        pixels = 30 * source * filtered_noise(kernel, 1.0, correlation) / filtered_noise(kernel, 1.0, flat)
        plane = SearchImage(pixels.astype(np.float32), np.ones((64, 64), bool), 0.0, 1.0, correlation, 2.4)
        seen.append(dense_input(plane, 0, 0, 16, 16))
    np.testing.assert_allclose(seen[0], seen[1], rtol=2e-5, atol=1e-6)


def test_however_contrary_noise_is_said_to_be_pixels_are_made_three_times_as_bright_at_most():
    pixels = np.full((64, 64), 0.01, np.float32)
    impossible = np.array([[0.0, -0.4, 0.0], [-0.4, 1.0, -0.4], [0.0, -0.4, 0.0]])
    plane = SearchImage(pixels, np.ones((64, 64), bool), 0.0, 1.0, impossible, 3.0)
    assert dense_input(plane, 0, 0, 16, 16)[..., :16].max() == pytest.approx(0.03, rel=0.02)


def test_smoother_noise_changes_nothing_but_the_signal_to_noise():
    pixels = np.random.default_rng(2).normal(0, 1, (64, 64)).astype(np.float32)
    planes = [
        SearchImage(pixels, np.ones((64, 64), bool), 0.0, 1.0, np.outer((c, 1, c), (c, 1, c)), 2.4) for c in (0.15, 0.4)
    ]
    one, other = (dense_input(plane, 0, 0, 16, 16) for plane in planes)
    np.testing.assert_array_equal(one[..., :16], other[..., :16])
    assert np.abs(other[..., 16:32]).sum() < np.abs(one[..., 16:32]).sum()


def undersampled(snr):
    """Return a point of some S/N in white noise, seen through a PSF of 1.0 px."""
    psf, taps = moffat_mixture(1.0, 3.0), filter_taps(1.0)
    point = trail_image((64, 64), 30.0, 33.0, 0.0, 0.0, psf)
    kernel = np.outer(taps, taps)
    flux = snr * filtered_noise(kernel, 1.0, np.ones((1, 1))) / (point[25:42, 22:39] * kernel).sum()
    return SearchImage((flux * point).astype(np.float32), np.ones((64, 64), bool), 0.0, 1.0, np.ones((1, 1)), 1.0)


def test_a_point_of_an_undersampled_image_looks_like_one_of_the_sharpest_that_were_learnt():
    cells = dense_input(undersampled(20.0), 0, 0, 16, 16)
    flat, taps = np.outer((0.15, 1.0, 0.15), (0.15, 1.0, 0.15)), filter_taps(1.6)
    kernel, point = np.outer(taps, taps), trail_image((64, 64), 30.0, 33.0, 0.0, 0.0, moffat_mixture(1.6, 3.0))
    flux = 20 * filtered_noise(kernel, 1.0, flat) / (point[25:42, 22:39] * kernel).sum()
    learnt = SearchImage((flux * point).astype(np.float32), np.ones((64, 64), bool), 0.0, 1.0, flat, 1.6)
    expected = dense_input(learnt, 0, 0, 16, 16)
    assert cells[8, 7, :16].max() == pytest.approx(expected[8, 7, :16].max(), rel=0.1)
    # One pixel from the middle, where an image that is not smoothed has a third as much.
    assert cells[8, 7, 5] == pytest.approx(expected[8, 7, 5], rel=0.1)
    assert cells[8, 7, 16:32].max() == pytest.approx(20 * (1 + 20 / 64) / (1 + 20 / 4), rel=0.01)


def test_an_image_is_smoothed_where_it_is_undersampled_and_by_no_step(plane):
    value = dense_input(plane._replace(fwhm_px=1.6), 0, 0, 24, 30)
    np.testing.assert_allclose(dense_input(plane._replace(fwhm_px=1.5999), 0, 0, 24, 30), value, atol=2e-3)
    assert np.abs(dense_input(plane._replace(fwhm_px=1.2), 0, 0, 24, 30) - value)[..., :16].max() > 0.3


@pytest.mark.parametrize("fwhm", [2.2, 1.6, 1.1])
def test_against_scipy(plane, fwhm):
    plane = plane._replace(fwhm_px=fwhm)
    expected = in_cells(by_scipy(plane))
    np.testing.assert_allclose(dense_input(plane, 0, 0, 24, 30), expected, atol=2e-4)


def test_beyond_the_plane_nothing_counts(plane):
    around = dense_input(plane, -40, -20, 50, 45)
    assert (around[:10, :, 32:] == 1).all()
    assert (around[:10, :, :16] == 0).all()
    np.testing.assert_array_equal(around[10:34, 5:35], dense_input(plane, 0, 0, 24, 30))


def test_a_cell_does_not_depend_on_what_is_cut_with_it(plane):
    whole = dense_input(plane, 0, 0, 24, 30)
    part = plane._replace(pixels=plane.pixels[20:80, 8:], usable=plane.usable[20:80, 8:])
    found = dense_input(part, RADIUS, RADIUS, 10, 12)
    np.testing.assert_array_equal(found, whole[7:17, 4:16])


def test_second_plane_is_the_snr_of_a_point_source():
    psf = moffat_mixture(2.5, 100.0)
    point = trail_image((64, 64), 32.0, 32.0, 0.0, 0.0, psf)
    plane = SearchImage((50 * point).astype(np.float32), np.ones((64, 64), bool), 0.0, 1.0, np.ones((1, 1)), 2.5)
    cells = dense_input(plane, 0, 0, 16, 16)
    expected = 50 * np.sqrt(np.sum(point**2))
    size = expected * (1 + expected / 64) / (1 + expected / 4)
    assert cells[8, 8, 16] == pytest.approx(size, rel=0.02)


SHAPE_DENSE_SEARCH = (600, 700)
GRID = (SHAPE_DENSE_SEARCH[0] // CELL, SHAPE_DENSE_SEARCH[1] // CELL)
CARD = model_card()


def untrained(channels, dilations, precision="float32"):
    torch.manual_seed(2)
    net = StreakNet(channels, dilations).eval().to(getattr(torch, precision), memory_format=torch.channels_last)
    return DenseSearch(net, torch.device("cpu"), CARD)


@contextmanager
def torch_threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def search():
    return untrained(16, (1, 2))


@pytest.fixture(scope="module")
def plane_dense_search():
    rng = np.random.default_rng(6)
    pixels = rng.normal(0, 2, SHAPE_DENSE_SEARCH).astype(np.float32)
    usable = rng.random(SHAPE_DENSE_SEARCH) > 0.02
    usable[100:160, 200:300] = False
    return SearchImage(pixels, usable, 0.0, 2.0, np.ones((1, 1)), 2.0)


@pytest.fixture(scope="module")
def whole(search, plane_dense_search):
    return search.search(plane_dense_search, Places(0, 0, *GRID, CELL))[0].reshape(GRID)


def test_against_the_network_on_the_whole_image(search, plane_dense_search, whole):
    cells = torch.from_numpy(dense_input(plane_dense_search, 0, 0, *GRID)).permute(2, 0, 1)[None]
    halo = search.net.reach
    padded = dense_input(plane_dense_search, -halo * CELL, -halo * CELL, GRID[0] + 2 * halo, GRID[1] + 2 * halo)
    with torch.no_grad():
        expected = search.net(torch.from_numpy(padded).permute(2, 0, 1)[None])[0, halo:-halo, halo:-halo].numpy()
        inner = search.net(cells)[0, halo:-halo, halo:-halo].numpy()
    scored = np.isfinite(whole)
    np.testing.assert_allclose(whole[scored], expected[scored], atol=1e-5)
    np.testing.assert_allclose(expected[halo:-halo, halo:-halo], inner, atol=1e-5)


def test_cells_without_a_usable_pixel_are_not_scored(search, plane_dense_search, whole):
    logits, unscored = search.search(plane_dense_search, Places(0, 0, *GRID, CELL))
    hidden = ~plane_dense_search.usable.reshape(GRID[0], CELL, GRID[1], CELL).any((1, 3))
    assert hidden.any()
    assert unscored == hidden.sum()
    np.testing.assert_array_equal(np.isneginf(logits.reshape(GRID)), hidden)


def of_a_part(search, plane_dense_search, row, column, rows, columns):
    """Log odds of some cells, from a plane that holds no more than they need."""
    reach = search.grid.reach
    y0, x0 = max(0, row * CELL - reach), max(0, column * CELL - reach)
    box = np.s_[y0 : (row + rows) * CELL + reach, x0 : (column + columns) * CELL + reach]
    part = plane_dense_search._replace(pixels=plane_dense_search.pixels[box], usable=plane_dense_search.usable[box])
    found, _ = search.search(part, Places(row * CELL - y0, column * CELL - x0, rows, columns, CELL))
    return found.reshape(rows, columns)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_part_of_the_image_gives_the_same_bits(search, plane_dense_search, whole, data):
    row = data.draw(st.integers(0, GRID[0] - 1))
    column = data.draw(st.integers(0, GRID[1] - 1))
    rows = data.draw(st.integers(1, GRID[0] - row))
    columns = data.draw(st.integers(1, GRID[1] - column))
    with torch_threads(data.draw(st.integers(1, 3))):
        found = of_a_part(search, plane_dense_search, row, column, rows, columns)
    np.testing.assert_array_equal(found, whole[row : row + rows, column : column + columns])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@settings(max_examples=8, deadline=None)
@example(
    channels=24, half=[3], corner=(0, 1)
)  # padded convolutions of this one add up in two orders where registers hold 512 bits
@given(
    channels=st.sampled_from((8, 12, 24, 32)),
    half=st.lists(st.integers(1, 5), min_size=1, max_size=2),
    corner=st.tuples(st.integers(0, 60), st.integers(0, 60)),
)
def test_so_it_does_with_networks_of_any_reach(plane_dense_search, precision, channels, half, corner):
    search = untrained(channels, half + half, precision)
    with torch_threads(2):
        whole = search.search(plane_dense_search, Places(0, 0, *GRID, CELL))[0].reshape(GRID)
    with torch_threads(1):
        found = of_a_part(search, plane_dense_search, *corner, 50, 60)
    np.testing.assert_array_equal(found, whole[corner[0] : corner[0] + 50, corner[1] : corner[1] + 60])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("grid", [GRID, (20, 30)], ids=["many blocks", "one block"])
def test_the_number_of_threads_changes_no_bit_and_stays_as_it_is(search, plane_dense_search, whole, grid, threads):
    with torch_threads(threads):
        found, _ = search.search(plane_dense_search, Places(0, 0, *grid, CELL))
        assert torch.get_num_threads() == threads
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == threads
    np.testing.assert_array_equal(found.reshape(grid), whole[: grid[0], : grid[1]])


def test_bfloat16_moves_log_odds_by_little(search, plane_dense_search, whole):
    found, unscored = untrained(16, (1, 2), "bfloat16").search(plane_dense_search, Places(0, 0, *GRID, CELL))
    scored = np.isfinite(whole)
    assert unscored == (~scored).sum()
    np.testing.assert_array_equal(np.isfinite(found.reshape(GRID)), scored)
    np.testing.assert_allclose(found.reshape(GRID)[scored], whole[scored], atol=0.05)


def test_cells_must_lie_on_the_plane(search, plane_dense_search):
    with pytest.raises(ValueError, match="grid"):
        search.search(plane_dense_search, Places(4, 0, *GRID, CELL))


def test_grid_holds_all_that_a_cell_sees(search):
    assert search.grid == dense_grid(search.net.reach)
    assert search.grid.reach == (1 + 1 + 2) * CELL + 8


def test_its_grid_is_of_4_px_with_a_claim_of_8_px_to_each_side():
    assert dense_grid(5) == SearchGrid(4, 4, 5 * 4 + 8, 16)


@pytest.mark.parametrize(
    ("count", "most", "side"), [(1, 132, 40), (45, 132, 48), (257, 132, 132), (282, 132, 96), (257, 260, 260)]
)
def test_blocks_cover_all_cells_with_little_left_over(count, most, side):
    assert module._side(count, most) == side


def test_values_beyond_all_measure_count_as_0(plane):
    pixels, usable = np.full(SHAPE, 8.0, np.float32), np.ones(SHAPE, bool)
    pixels[40, 50] = 7.0  # the background
    good = plane._replace(pixels=pixels, usable=usable, noise=0.5)
    expected = dense_input(good, 0, 0, 24, 30)
    for value in (np.nan, np.inf, -np.inf, 0.75e30, -0.75e30, 3e38):
        pixels[40, 50] = value
        np.testing.assert_array_equal(dense_input(good, 0, 0, 24, 30), expected)
    pixels[40, 50] = 0.45e30
    assert dense_input(good, 0, 0, 24, 30)[10, 12, 2] == pytest.approx(128 * 3 / 33, rel=1e-5)


@pytest.mark.parametrize("corner", [(-9, -6), (3, 2), (-30, 5), (9, -40)])
def test_nothing_beyond_the_plane_or_the_bands_is_read(plane, corner, monkeypatch):
    """As plain Python, which checks bounds; two bands of cells."""
    part = plane._replace(pixels=plane.pixels[:13, :11].copy(), usable=plane.usable[:13, :11].copy())
    compiled = dense_input(part, *corner, 18, 3)
    for name in ("_fill", "_take", "_filter", "_hidden"):
        monkeypatch.setattr(module, name, getattr(module, name).py_func)
    np.testing.assert_allclose(dense_input(part, *corner, 18, 3), compiled, atol=1e-5)


@pytest.mark.parametrize("corner", [(0, 0), (5, 3), (-2, -1), (35, 41)])
def test_values_in_units_of_the_noise_fill_all_of_a_window_that_lies_on_the_plane(corner):
    rng = np.random.default_rng(3)
    pixels, usable = rng.normal(5, 2, (40, 50)).astype(np.float32), rng.random((40, 50)) > 0.1
    window = np.full((9, 12), -77.0, np.float32)
    module._take(pixels, usable, np.float32(5), np.float32(0.5), *corner, window)
    padded = np.pad(np.where(usable, (pixels - 5) / 2, 0), 20, constant_values=-77)
    y, x = corner[0] + 20, corner[1] + 20
    np.testing.assert_allclose(window, padded[y : y + 9, x : x + 12], rtol=1e-6)


def test_precision_is_that_of_the_weights():
    assert untrained(8, (1, 1)).precision == "float32"
    assert untrained(8, (1, 1), "bfloat16").precision == "bfloat16"


def test_work_is_shared_out_from_two_threads_on():
    corners, done = [(0, 0), (0, 1), (2, 0), (2, 1)], []
    with torch_threads(2):
        together = threading.Barrier(2, timeout=20)

        def meet(top, left):
            together.wait()
            done.append((top, left, torch.get_num_threads()))

        module._share_out(meet, corners, 2)
        assert torch.get_num_threads() == 2
    assert sorted(done) == [(*corner, 1) for corner in corners]
    own = []
    module._share_out(lambda *corner: own.append((corner, threading.get_ident())), corners, 1)
    assert own == [(corner, threading.get_ident()) for corner in corners]


def test_the_last_cells_of_a_plane_are_searched_and_no_further(search, plane_dense_search):
    small = plane_dense_search._replace(
        pixels=plane_dense_search.pixels[:43, :50].copy(), usable=plane_dense_search.usable[:43, :50].copy()
    )
    assert len(search.search(small, Places(3, 2, 10, 12, CELL))[0]) == 120
    for places in (Places(4, 2, 10, 12, CELL), Places(3, 3, 10, 12, CELL), Places(0, 0, 11, 12, CELL)):
        with pytest.raises(ValueError, match="does not fit"):
            search.search(small, places)
