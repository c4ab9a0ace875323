from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernels.dense_input import dense_input
from kernels.dense_search import DenseSearch, dense_grid
from kernels.nets.streak_net import CELL, StreakNet
from kernels.plane import Places, Plane
from schemas.model_card import ModelCard

SHAPE = (600, 700)
GRID = (SHAPE[0] // CELL, SHAPE[1] // CELL)
CARD = ModelCard(
    stage="detect", name="test", version="1", sha256="", input={}, classes=("nothing", "trail"),
    training={}, metrics={}, threshold=0.5, false_alarm_rate="not set",
)  # fmt: skip


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
def plane():
    rng = np.random.default_rng(6)
    pixels = rng.normal(0, 2, SHAPE).astype(np.float32)
    usable = rng.random(SHAPE) > 0.02
    usable[100:160, 200:300] = False
    return Plane(pixels, usable, 0.0, 2.0, np.ones((1, 1)), 2.0)


@pytest.fixture(scope="module")
def whole(search, plane):
    return search.search(plane, Places(0, 0, *GRID, CELL))[0].reshape(GRID)


def test_against_the_network_on_the_whole_image(search, plane, whole):
    cells = torch.from_numpy(dense_input(plane, 0, 0, *GRID)).permute(2, 0, 1)[None]
    halo = search.net.reach
    padded = dense_input(plane, -halo * CELL, -halo * CELL, GRID[0] + 2 * halo, GRID[1] + 2 * halo)
    with torch.no_grad():
        expected = search.net(torch.from_numpy(padded).permute(2, 0, 1)[None])[0, halo:-halo, halo:-halo].numpy()
        inner = search.net(cells)[0, halo:-halo, halo:-halo].numpy()
    scored = np.isfinite(whole)
    np.testing.assert_allclose(whole[scored], expected[scored], atol=1e-5)
    np.testing.assert_allclose(expected[halo:-halo, halo:-halo], inner, atol=1e-5)


def test_cells_without_a_usable_pixel_are_not_scored(search, plane, whole):
    logits, unscored = search.search(plane, Places(0, 0, *GRID, CELL))
    hidden = ~plane.usable.reshape(GRID[0], CELL, GRID[1], CELL).any((1, 3))
    assert hidden.any()
    assert unscored == hidden.sum()
    np.testing.assert_array_equal(np.isneginf(logits.reshape(GRID)), hidden)


def of_a_part(search, plane, row, column, rows, columns):
    """Log odds of some cells, from a plane that holds no more than they need."""
    reach = search.grid.reach
    y0, x0 = max(0, row * CELL - reach), max(0, column * CELL - reach)
    box = np.s_[y0 : (row + rows) * CELL + reach, x0 : (column + columns) * CELL + reach]
    part = plane._replace(pixels=plane.pixels[box], usable=plane.usable[box])
    found, _ = search.search(part, Places(row * CELL - y0, column * CELL - x0, rows, columns, CELL))
    return found.reshape(rows, columns)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_part_of_the_image_gives_the_same_bits(search, plane, whole, data):
    row = data.draw(st.integers(0, GRID[0] - 1))
    column = data.draw(st.integers(0, GRID[1] - 1))
    rows = data.draw(st.integers(1, GRID[0] - row))
    columns = data.draw(st.integers(1, GRID[1] - column))
    with torch_threads(data.draw(st.integers(1, 3))):
        found = of_a_part(search, plane, row, column, rows, columns)
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
def test_so_it_does_with_networks_of_any_reach(plane, precision, channels, half, corner):
    search = untrained(channels, half + half, precision)
    with torch_threads(2):
        whole = search.search(plane, Places(0, 0, *GRID, CELL))[0].reshape(GRID)
    with torch_threads(1):
        found = of_a_part(search, plane, *corner, 50, 60)
    np.testing.assert_array_equal(found, whole[corner[0] : corner[0] + 50, corner[1] : corner[1] + 60])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("grid", [GRID, (20, 30)], ids=["many blocks", "one block"])
def test_the_number_of_threads_changes_no_bit_and_stays_as_it_is(search, plane, whole, grid, threads):
    with torch_threads(threads):
        found, _ = search.search(plane, Places(0, 0, *grid, CELL))
        assert torch.get_num_threads() == threads
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == threads
    np.testing.assert_array_equal(found.reshape(grid), whole[: grid[0], : grid[1]])


def test_bfloat16_moves_log_odds_by_little(search, plane, whole):
    found, unscored = untrained(16, (1, 2), "bfloat16").search(plane, Places(0, 0, *GRID, CELL))
    scored = np.isfinite(whole)
    assert unscored == (~scored).sum()
    np.testing.assert_array_equal(np.isfinite(found.reshape(GRID)), scored)
    np.testing.assert_allclose(found.reshape(GRID)[scored], whole[scored], atol=0.05)


def test_cells_must_lie_on_the_plane(search, plane):
    with pytest.raises(ValueError, match="grid"):
        search.search(plane, Places(4, 0, *GRID, CELL))


def test_grid_holds_all_that_a_cell_sees(search):
    assert search.grid == dense_grid(search.net.reach)
    assert search.grid.reach == (1 + 1 + 2) * CELL + 8
