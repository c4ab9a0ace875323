import numpy as np

from flows.bench.pixels import Pixels
from tests.flows.bench.bench_support import small_exposure


def test_the_grid_is_the_floor_grid():
    assert Pixels(np.zeros((1, 3080, 3072), np.float32), np.ones((3080, 3072), bool), 0.0).grid == (437, 436)


def test_pixels_of_an_exposure():
    exposure = small_exposure()
    pixels = exposure.pixels
    assert pixels.image.shape == (1, *exposure.info.shape)
    assert pixels.usable.dtype == bool
    assert 0 < 1 - pixels.usable.mean() < 0.5
    assert pixels.background == exposure.info.background
