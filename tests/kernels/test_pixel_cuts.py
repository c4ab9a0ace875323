import numpy as np
import pytest

from kernels.dense_input import dense_input
from kernels.pixel_cuts import cut_pixels
from kernels.plane import Plane
from kernels.squash import squash


def test_cuts_are_the_pixels_of_the_image():
    rng = np.random.default_rng(0)
    image, usable = rng.normal(5, 2, (40, 48)).astype(np.float32), rng.uniform(size=(40, 48)) > 0.1
    plane = Plane(image, usable, 5.0, 2.0, np.ones((1, 1)), 2.5)
    cuts = cut_pixels(dense_input(plane, 0, 0, 10, 12), np.array([20.9, 8.0]), np.array([9.2, 31.0]), 16)
    value = np.where(usable, (image - 5) / 2, 0).astype(np.float32)
    squash(value)
    for cut, (x, y) in zip(cuts, [(20, 9), (8, 31)], strict=True):
        inside = slice(y - 8, y + 8), slice(x - 8, x + 8)
        np.testing.assert_allclose(cut[0], value[inside], atol=1e-6)
        np.testing.assert_array_equal(cut[2], ~usable[inside])


def test_refuses_squares_beyond_the_cells():
    with pytest.raises(ValueError, match="on 5 cells of 4 px"):
        cut_pixels(np.zeros((5, 5, 48), np.float32), np.array([3.0]), np.array([10.0]), 8)
    assert cut_pixels(np.zeros((5, 5, 48), np.float32), np.empty(0), np.empty(0), 8).shape == (0, 3, 8, 8)
