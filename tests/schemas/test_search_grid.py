import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Misconfigured
from schemas.search_grid import SearchGrid


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
