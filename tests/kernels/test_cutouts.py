import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cutouts import cut

IMAGE = np.random.default_rng(1).normal(0, 1, (60, 70)).astype(np.float32)
BAD = np.random.default_rng(2).uniform(size=IMAGE.shape) < 0.05


@settings(max_examples=60, deadline=None)
@given(st.integers(-40, 100), st.integers(-40, 110), st.sampled_from([8, 9, 26]))
def test_is_a_padded_slice(y, x, side):
    out = np.zeros((3, 2, side, side), np.float32)
    cut(IMAGE, BAD, 2.0, np.array([y]), np.array([x]), np.array([1]), 1, out)
    padded = np.pad(np.where(BAD, np.nan, 2 * IMAGE), 200, constant_values=np.nan)
    top, left = y - side // 2 + 200, x - side // 2 + 200
    expected = padded[max(top, 0) : top + side, max(left, 0) : left + side]
    np.testing.assert_array_equal(out[1, 1], expected)
    assert not out[[0, 2]].any()
    assert not out[1, 0].any()


def test_the_named_pixel_lies_right_of_the_middle():
    out = np.zeros((1, 1, 26, 26), np.float32)
    cut(IMAGE, np.zeros_like(BAD), 1.0, np.array([30]), np.array([40]), np.array([0]), 0, out)
    assert out[0, 0, 13, 13] == IMAGE[30, 40]
