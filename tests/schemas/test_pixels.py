import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Misconfigured
from schemas.pixels import DIFFERENCE, MASK, SCIENCE, TEMPLATE, UNUSABLE, VARIANCE, MaskPlane, SearchGrid, Tile, Tiling


def test_bits_fit_the_stored_plane():
    assert sum(MaskPlane) <= np.iinfo(np.uint16).max


def test_information_is_not_a_fault():
    assert not UNUSABLE & (MaskPlane.DETECTED | MaskPlane.DETECTED_NEGATIVE | MaskPlane.STREAK)
    assert UNUSABLE & MaskPlane.NO_DATA


def test_planes_are_images_with_names_of_their_own():
    planes = (DIFFERENCE, MASK, VARIANCE, SCIENCE, TEMPLATE)
    assert len({plane.name for plane in planes}) == 5
    for plane in planes:
        plane.check(np.zeros((3, 4), plane.dtype))
        assert plane.dims == ("y", "x")


@given(
    shape=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    window=st.integers(1, 30),
    stride=st.integers(1, 30),
    steps=st.integers(1, 20),
)
def test_every_window_has_one_owner_that_reads_all_of_it(shape, window, stride, steps):
    if stride > window:
        with pytest.raises(Misconfigured, match="must be a multiple of stride"):
            Tiling(shape, steps * stride, window, stride)
        return
    tiling = Tiling(shape, steps * stride, window, stride)
    rows, columns = tiling.grid
    owners = np.zeros((rows, columns), int)
    for tile in tiling.tiles():
        owners[tile.row0 : tile.row0 + tile.rows, tile.column0 : tile.column0 + tile.columns] += 1
        assert (tile.y0, tile.x0) == (tile.row0 * stride, tile.column0 * stride)
        assert tile.y1 == (tile.row0 + tile.rows - 1) * stride + window <= shape[0]
        assert tile.x1 == (tile.column0 + tile.columns - 1) * stride + window <= shape[1]
        assert max(tile.rows, tile.columns) <= -(-9 * steps // 8)
    assert (owners == 1).all()


@given(count=st.integers(1, 2000), steps=st.integers(1, 300))
def test_tiles_are_nearly_equal_and_no_more_than_there_would_be_with_a_narrow_last_one(count, steps):
    found = [tile.columns for tile in Tiling((7, 7 * count), 7 * steps, 7, 7).tiles()]
    assert sum(found) == count
    assert max(found) - min(found) <= 1
    assert max(found) <= -(-9 * steps // 8)
    assert len(found) <= -(-count // steps)


def test_a_quadrant_and_a_detector_of_rubin_have_no_narrow_tiles():
    assert [(tile.rows, tile.columns) for tile in SearchGrid(4, 4).tiling((3080, 3072), 1008).tiles()][:3] == [
        (256, 256), (256, 256), (256, 256),
    ]  # fmt: skip
    assert len(SearchGrid(4, 4).tiling((4072, 4000), 1008).tiles()) == 16


@given(data=st.data(), shape=st.tuples(st.integers(8, 90), st.integers(8, 90)), steps=st.integers(1, 9))
def test_tiles_of_a_part_own_the_windows_with_pixels_in_it(data, shape, steps):
    (y0, x0), (tall, wide) = (tuple(data.draw(st.integers(low, 99)) for _ in range(2)) for low in (-9, 1))
    tiling, seen = Tiling(shape, 5 * steps, 8, 5, 3), list[tuple[int, int]]()
    for tile in tiling.tiles((y0, x0, y0 + tall, x0 + wide)):
        seen += [(tile.row0 + row, tile.column0 + column) for row in range(tile.rows) for column in range(tile.columns)]
    rows, columns = (
        [n for n in range(count) if 5 * n < first + size and 5 * n + 8 > first]
        for first, size, count in zip((y0, x0), (tall, wide), tiling.grid, strict=True)
    )
    assert sorted(seen) == [(row, column) for row in rows for column in columns]


def test_quadrant_has_the_published_number_of_windows():
    tiling = Tiling((3080, 3072))
    assert tiling.grid == (437, 436)
    assert sum(tile.rows * tile.columns for tile in tiling.tiles()) == 190_532


def test_refuses_a_tile_that_is_no_multiple_of_the_stride():
    with pytest.raises(Misconfigured, match=r"tile 1000 must be a multiple of stride 7.* To fix, choose"):
        Tiling((100, 100), 1000)


@given(
    shape=st.tuples(st.integers(4, 300), st.integers(4, 300)),
    steps=st.integers(1, 40),
    reach=st.integers(0, 60),
)
def test_every_place_lies_in_one_tile_that_holds_what_it_sees(shape, steps, reach):
    grid = SearchGrid(window=4, stride=4, reach=reach, claim=16)
    seen = []
    for tile in grid.tiling(shape, 4 * steps).tiles():
        for row in range(tile.row0, tile.row0 + tile.rows):
            for column in range(tile.column0, tile.column0 + tile.columns):
                seen.append((row, column))
                assert tile.y0 <= max(0, 4 * row - reach)
                assert min(shape[0], 4 * row + 4 + reach) <= tile.y1
                assert tile.x0 <= max(0, 4 * column - reach)
                assert min(shape[1], 4 * column + 4 + reach) <= tile.x1
    assert sorted(seen) == [(row, column) for row in range(shape[0] // 4) for column in range(shape[1] // 4)]


def test_of_windows_of_their_own():
    tiling = SearchGrid().tiling((3080, 3072), 1008)
    assert (tiling.window, tiling.stride, tiling.grid) == (26, 7, (437, 436))


def test_a_tile_holds_whole_steps():
    with pytest.raises(Misconfigured, match="multiple of stride"):
        SearchGrid(window=4, stride=4).tiling((100, 100), 62)


@given(shape=st.tuples(st.integers(26, 400), st.integers(26, 400)), stride=st.integers(1, 26), reach=st.integers(0, 60))
def test_the_whole_image_is_one_tile(shape, stride, reach):
    grid = SearchGrid(stride=stride, reach=reach)
    tile = grid.whole(shape)
    assert (tile.rows, tile.columns) == grid.tiling(shape, stride).grid
    assert (tile.y0, tile.x0, tile.row0, tile.column0) == (0, 0, 0, 0)


def test_an_image_without_places_has_no_tile():
    with pytest.raises(ValueError, match="not enough values"):
        SearchGrid().whole((25, 400))


def test_unusable_bits():
    assert UNUSABLE == 1 + 2 + 8 + 16 + 32


@pytest.mark.parametrize(
    ("tile", "window", "stride"), [(0, 26, 7), (7, 26, 0), (7, 26, -7), (7, 6, 7), (6, 26, 7), (15, 26, 7), (7, 0, 7)]
)
def test_sizes_that_do_not_fit_each_other_are_refused(tile, window, stride):
    with pytest.raises(Misconfigured, match="must be a multiple of stride"):
        Tiling((100, 100), tile, window, stride)


def test_the_least_sizes_fit_and_the_usual_ones_are_26_7_and_1008():
    assert Tiling((4, 5), 1, 1, 1).grid == (4, 5)
    assert Tiling((40, 47), 7, 7, 7).grid == (5, 6)
    usual = Tiling((3080, 3072))
    assert (usual.tile, usual.window, usual.stride, usual.reach) == (1008, 26, 7, 0)
    assert SearchGrid() == SearchGrid(26, 7, 0, 26)


@pytest.mark.parametrize(
    ("shape", "grid"),
    [((26, 26), (1, 1)), ((25, 400), (0, 0)), ((400, 25), (0, 0)), ((32, 33), (1, 2)), ((40, 39), (3, 2))],
)
def test_windows_lie_at_every_stride_within_the_image(shape, grid):
    assert Tiling(shape).grid == grid


def test_a_tile_reads_as_far_as_it_reaches_within_the_image():
    first, second, third, fourth = Tiling((60, 70), 35, 20, 5, reach=3).tiles()
    assert first == Tile(0, 0, 38, 43, 0, 0, 4, 5)
    assert second == Tile(0, 22, 38, 70, 0, 5, 4, 6)
    assert third == Tile(17, 0, 60, 43, 4, 0, 5, 5)
    assert fourth == Tile(17, 22, 60, 70, 4, 5, 5, 6)


def test_the_one_tile_of_an_image_is_a_whole_number_of_strides_long():
    assert SearchGrid(window=4, stride=4).whole((9, 13)) == Tile(0, 0, 8, 12, 0, 0, 2, 3)
    assert SearchGrid(window=4, stride=4).whole((4, 4)) == Tile(0, 0, 4, 4, 0, 0, 1, 1)
