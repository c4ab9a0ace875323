import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.image.cutouts import cut, cut_crop

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


@pytest.mark.parametrize("step", [1.0, 1.6])
def test_the_sky_of_counts_may_lie_between_two_of_them(step):
    counts = np.rint(np.random.default_rng(5).normal(100.4, 1.5, (150, 160))) * step
    crop = cut_crop(counts.astype(np.float32), np.ones(counts.shape, bool), 0.0, (0, 150, 0, 160))
    assert crop.data.mean() == pytest.approx(0, abs=0.05 * step)


def test_what_is_too_far_from_the_background_is_not_usable():
    image = IMAGE.copy()
    image[20, 30], image[20, 31], image[20, 32] = 3e38, 90 - 1e6, 90 + 0.9e6
    crop = cut_crop(image, np.ones(IMAGE.shape, bool), 90.0, (10, 30, 20, 45), 1e6)
    assert np.argwhere(~crop.usable).tolist() == [[10, 10], [10, 11]]
    assert (crop.data[10, 10:12] == 0).all()
    assert crop.data[10, 12] == pytest.approx(0.9e6, rel=1e-3)


def test_background_of_the_exposure_where_too_little_is_known():
    usable = np.zeros(IMAGE.shape, bool)
    usable[3, 3] = True
    crop = cut_crop(IMAGE, usable, 90.0, (0, 20, 0, 20))
    assert crop.data[3, 3] == pytest.approx(IMAGE[3, 3] - 90)


IMAGE_CUTOUTS = np.random.default_rng(1).normal(0, 1, (60, 70)).astype(np.float32)
BAD = np.random.default_rng(2).uniform(size=IMAGE_CUTOUTS.shape) < 0.05


@settings(max_examples=60, deadline=None)
@given(st.integers(-40, 100), st.integers(-40, 110), st.sampled_from([8, 9, 26]))
def test_is_a_padded_slice(y, x, side):
    out = np.zeros((3, 2, side, side), np.float32)
    cut(IMAGE_CUTOUTS, BAD, 2.0, np.array([y]), np.array([x]), np.array([1]), 1, out)
    padded = np.pad(np.where(BAD, np.nan, 2 * IMAGE_CUTOUTS), 200, constant_values=np.nan)
    top, left = y - side // 2 + 200, x - side // 2 + 200
    expected = padded[max(top, 0) : top + side, max(left, 0) : left + side]
    np.testing.assert_array_equal(out[1, 1], expected)
    assert not out[[0, 2]].any()
    assert not out[1, 0].any()


def test_the_named_pixel_lies_right_of_the_middle():
    out = np.zeros((1, 1, 26, 26), np.float32)
    cut(IMAGE_CUTOUTS, np.zeros_like(BAD), 1.0, np.array([30]), np.array([40]), np.array([0]), 0, out)
    assert out[0, 0, 13, 13] == IMAGE_CUTOUTS[30, 40]


@pytest.mark.parametrize(("known", "own"), [(100, True), (99, False)])
def test_a_quarter_of_the_box_is_enough_for_a_sky_of_its_own(known, own):
    usable = np.zeros(IMAGE.shape, bool)
    usable[:20, :20] = np.arange(400).reshape(20, 20) < known
    sky = np.median(IMAGE[:20, :20][usable[:20, :20]]) if own else 90.0
    crop = cut_crop(IMAGE, usable, 90.0, (0, 20, 0, 20))
    np.testing.assert_allclose(crop.data, np.where(usable[:20, :20], IMAGE[:20, :20] - sky, 0), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("box", [(-5, 15, -7, 13), (40, 60, 50, 70)])
def test_pixels_of_a_crop_keep_their_places(box):
    crop = cut_crop(IMAGE, np.ones(IMAGE.shape, bool), 0.0, box)
    y, x = np.nonzero(crop.usable)
    values = IMAGE[y + box[0], x + box[2]]
    assert (crop.y0, crop.x0) == (box[0], box[2])
    np.testing.assert_allclose(crop.data[y, x], values - np.median(values), rtol=1e-5, atol=1e-4)


def test_cutouts_of_several_planes_are_as_wide_as_high():
    out = np.zeros((1, 5, 8, 8), np.float32)
    cut(IMAGE_CUTOUTS, BAD, 1.0, np.array([30]), np.array([40]), np.array([0]), 4, out)
    np.testing.assert_array_equal(out[0, 4], np.where(BAD, np.nan, IMAGE_CUTOUTS)[26:34, 36:44])
