"""Small images for the ways of searching."""

from functools import cache

import numpy as np

from flows.training.bench.exposure import bench_exposure
from flows.training.bench.ways import Pixels
from kernels.search.windows import fill_windows


@cache
def small_exposure():
    """Simulated, with a few sources on it."""
    return bench_exposure((300, 330), seed=3)


def small_pixels(shape=(96, 110), seed=5):
    """Noise on a pedestal, two stars, a masked block, a masked column and a flat corner."""
    rng = np.random.default_rng(seed)
    image = rng.normal(20, 5, (1, *shape)).astype(np.float32)
    image[0, 40:43, 50:53] += 300
    image[0, 70:72, 20:40] += 40
    image[0, :26, :33] = 7
    usable = np.ones(shape, bool)
    usable[60:90, 60:90] = False
    usable[:, 44] = False
    return Pixels(image, usable, 20.0)


def window_by_window(pixels, scorer):
    """Log odds by the windows of the pipeline itself."""
    count = pixels.grid[0] * pixels.grid[1]
    out = np.empty((count, 1, pixels.side, pixels.side), np.float32)
    _, scored = fill_windows(pixels.image, pixels.usable, pixels.background, pixels.grid, pixels.stride, 0, out)
    return np.where(scored, scorer(out), -np.inf)
