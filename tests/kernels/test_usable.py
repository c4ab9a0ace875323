import numpy as np

from kernels.usable import usable_pixels
from schemas.mask import UNUSABLE, MaskPlane


def test_pixels_count_if_they_are_finite_and_not_masked():
    pixels = np.ones((3, 4), np.float32)
    pixels[0, :3] = np.nan, np.inf, -np.inf
    mask = np.zeros((3, 4), np.uint16)
    mask[1] = MaskPlane.BAD, MaskPlane.SAT, MaskPlane.DETECTED, MaskPlane.STREAK | MaskPlane.EDGE
    usable = usable_pixels(pixels, mask)
    np.testing.assert_array_equal(usable, [[0, 0, 0, 1], [0, 0, 1, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(usable, ((mask & np.uint16(UNUSABLE)) == 0) & np.isfinite(pixels))


def test_rows_need_not_lie_side_by_side_in_memory():
    pixels, mask = np.zeros((6, 8), np.float32)[:, ::2], np.ones((6, 8), np.uint16)[::2].repeat(2, 0)[:, :4]
    assert not usable_pixels(pixels, mask).any()
