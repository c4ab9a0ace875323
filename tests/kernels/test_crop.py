import numpy as np
import pytest

from kernels.crop import cut_crop

IMAGE = np.random.default_rng(4).normal(100, 5, (50, 60)).astype(np.float32)


def test_inside_it_is_the_image_less_its_median():
    crop = cut_crop(IMAGE, np.ones(IMAGE.shape, bool), 0.0, (10, 30, 20, 45))
    piece = IMAGE[10:30, 20:45]
    np.testing.assert_allclose(crop.data, piece - np.median(piece), rtol=1e-6)
    assert crop.usable.all()
    assert (crop.x0, crop.y0) == (20, 10)


@pytest.mark.parametrize("box", [(-5, 15, -7, 13), (40, 60, 50, 70), (-30, -10, 0, 20), (80, 90, 80, 90)])
def test_beyond_the_image_is_zero_and_unusable(box):
    crop = cut_crop(IMAGE, np.ones(IMAGE.shape, bool), 100.0, box)
    y, x = np.mgrid[box[0] : box[1], box[2] : box[3]]
    inside = (y >= 0) & (x >= 0) & (y < 50) & (x < 60)
    np.testing.assert_array_equal(crop.usable, inside)
    assert (crop.data[~inside] == 0).all()


def test_unusable_pixels_are_zero_and_do_not_count_for_the_sky():
    image, usable = IMAGE.copy(), np.ones(IMAGE.shape, bool)
    usable[:, ::2] = False
    image[~usable] = np.nan
    crop = cut_crop(image, usable, 0.0, (0, 50, 0, 60))
    assert (crop.data[~usable] == 0).all()
    assert np.median(crop.data[usable]) == pytest.approx(0, abs=1e-4)


def test_background_of_the_exposure_where_too_little_is_known():
    usable = np.zeros(IMAGE.shape, bool)
    usable[3, 3] = True
    crop = cut_crop(IMAGE, usable, 90.0, (0, 20, 0, 20))
    assert crop.data[3, 3] == pytest.approx(IMAGE[3, 3] - 90)
