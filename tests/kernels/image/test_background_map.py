import numpy as np
import pytest

from kernels.image.background_map import level_background, uneven_background

SHAPE = (512, 768)  # 2 x 3 cells
USABLE = np.ones(SHAPE, bool)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]


def noise(sigma=2.0):
    return np.random.default_rng(3).normal(0, sigma, SHAPE).astype(np.float32)


def test_a_slope_is_taken_out_up_to_the_border_and_the_noise_stays():
    image, even = noise() + np.float32(0.02) * Y + np.float32(0.01) * X, noise()
    level_background(image, uneven_background(image, USABLE))
    left = image - even
    assert np.ptp(left) < 0.5  # of a noise of 2; the slope was 18
    assert left.mean() == pytest.approx(0.01 * SHAPE[1] / 2 + 0.02 * SHAPE[0] / 2, abs=0.1)  # its median stays


def test_rows_of_an_image_are_levelled_as_in_the_whole():
    image = noise() + np.float32(0.02) * Y
    levels, part = uneven_background(image, USABLE), image[100:300].copy()
    level_background(image, levels)
    level_background(part, levels, 100)
    np.testing.assert_array_equal(part, image[100:300])


@pytest.mark.parametrize(("slope", "even"), [(0.0, True), (1.0, True), (1.9, False)])
def test_a_fifth_of_the_noise_is_even(slope, even):
    """Of two cells, the scatter is a quarter of what the image rises by."""
    image = noise() + np.float32(slope / SHAPE[0]) * Y
    assert (uneven_background(image, USABLE) is None) == even


def test_coarse_counts_are_no_steps_of_the_background():
    image = np.rint(noise(0.4) + np.float32(0.5))
    assert uneven_background(image, USABLE) is None


def test_a_cell_that_is_masked_has_the_level_of_its_neighbour_and_one_cell_is_even():
    image, usable = noise() + np.float32(0.02) * Y, USABLE.copy()
    usable[:, :256] = False
    values = uneven_background(image, usable).values
    np.testing.assert_array_equal(values[:, 0], values[:, 1])
    assert uneven_background(image[:256, :256], USABLE[:256, :256]) is None
    assert uneven_background(image, np.zeros(SHAPE, bool)) is None
