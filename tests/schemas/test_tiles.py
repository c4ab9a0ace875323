import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Misconfigured
from schemas.tiles import Tiling


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
        assert tile.y1 - tile.y0 <= steps * stride + window - stride
    assert (owners == 1).all()


def test_quadrant_has_the_published_number_of_windows():
    tiling = Tiling((3080, 3072))
    assert tiling.grid == (437, 436)
    assert sum(tile.rows * tile.columns for tile in tiling.tiles()) == 190_532


def test_refuses_a_tile_that_is_no_multiple_of_the_stride():
    with pytest.raises(Misconfigured, match=r"tile 1000 must be a multiple of stride 7.* To fix, choose"):
        Tiling((100, 100), 1000)
