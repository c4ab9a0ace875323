import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.flat_regions import flat_regions
from kernels.pixel_state import filled, pixel_state
from schemas.mask import UNUSABLE, MaskPlane


def image(seed, shape=(60, 70), strange=0.02):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(100, 7, shape).astype(np.float32)
    for value in (np.nan, np.inf, -np.inf, 3e38, 130.0):
        pixels[rng.random(shape) < strange] = value
    return pixels


def by_numpy(difference, mask, science, saturation):
    """Say the same, pass by pass."""
    finite = np.isfinite(difference)
    expected = mask.copy()
    expected[~finite] |= MaskPlane.NO_DATA.value
    expected[flat_regions(difference)] |= MaskPlane.NO_DATA.value
    if saturation is not None:
        for plane in (difference, science):
            expected[(plane.astype(float) >= saturation) & finite] |= MaskPlane.SAT.value
    return expected


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), saturation=st.sampled_from([None, 120.0, 130.0, 1e39]), border=st.integers(0, 20))
def test_is_what_separate_passes_say(seed, saturation, border):
    difference, science = image(seed), image(seed + 1)
    difference[:border] = 0
    mask = np.random.default_rng(seed).choice([0, 0, 0, 1, 64, 128], difference.shape).astype(np.uint16)
    given_mask = mask.copy()
    state = pixel_state(difference, mask, science, saturation)
    expected = by_numpy(difference, mask, science, saturation)
    assert state.mask.dtype == np.uint16
    np.testing.assert_array_equal(state.mask, expected)
    np.testing.assert_array_equal(state.usable, expected & UNUSABLE.value == 0)
    assert state.good == np.count_nonzero(state.usable)
    assert state.finite == np.isfinite(difference).sum()
    assert state.infinite == np.isinf(difference).sum()
    assert not state.constant
    np.testing.assert_array_equal(mask, given_mask)
    whole = filled(difference, state.mask, -3.25)
    np.testing.assert_array_equal(whole, np.where(expected & MaskPlane.NO_DATA, np.float32(-3.25), difference))


@pytest.mark.parametrize("value", [0.0, -57.5])
def test_constant_but_for_what_is_not_finite(value):
    difference = np.full((30, 30), value, np.float32)
    difference[:3] = np.nan
    difference[5] = np.inf
    state = pixel_state(difference, np.zeros((30, 30), np.uint16))
    assert (state.constant, state.finite, state.infinite) == (True, 26 * 30, 30)
    difference[20, 20] = np.nextafter(np.float32(value), np.float32(1))
    assert not pixel_state(difference, np.zeros((30, 30), np.uint16)).constant


def test_no_finite_pixel():
    state = pixel_state(np.full((30, 30), np.nan, np.float32), np.zeros((30, 30), np.uint16))
    assert (state.finite, state.infinite, state.good, state.constant) == (0, 0, 0, True)
