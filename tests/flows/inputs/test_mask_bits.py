import numpy as np
import pytest
from astropy.io import fits

from flows.inputs.mask_bits import ZTF_BITS, named_mask, plain_mask, rubin_mask, translated, ztf_mask
from schemas.pixels import UNUSABLE, MaskPlane


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32])
def test_ztf_bits_add_up(dtype):
    mask = np.array([[0, 1 << 8, (1 << 8) | (1 << 10), 1 << 1, 1 << 13]], dtype)
    expected = [0, MaskPlane.SAT, MaskPlane.SAT | MaskPlane.NO_DATA, MaskPlane.DETECTED, 0]
    np.testing.assert_array_equal(ztf_mask(mask, fits.Header()), [expected])


def test_the_bits_that_ztf_advises_to_avoid_are_unusable_or_suspect():
    """The explanatory supplement's mask for science, 6141, but for tracks, which are not the pixel's fault."""
    informative = MaskPlane.SUSPECT | MaskPlane.STREAK
    bad = sum(1 << bit for bit, plane in ZTF_BITS.items() if plane & (UNUSABLE | informative))
    assert bad == 6141 - (1 << 6)  # bit 6 is reserved


def test_rubin_planes_go_by_their_names_not_their_numbers():
    header = fits.Header({"MP_SAT": 7, "MP_BAD": 0})
    for name, bit in (("NO_DATA", 9), ("INEXACT_PSF", 3), ("DETECTED_NEGATIVE", 2)):
        header[f"HIERARCH MP_{name}"] = bit
    mask = np.array([[1 << 7, 1, 1 << 9, 1 << 3, 1 << 2]], np.int32)
    expected = [MaskPlane.SAT, MaskPlane.BAD, MaskPlane.NO_DATA, 0, MaskPlane.DETECTED_NEGATIVE]
    np.testing.assert_array_equal(rubin_mask(mask, header), [expected])


def test_other_masks_are_bad_where_not_zero():
    mask = np.array([[0, 1, -3, np.nan, 0.5]])
    np.testing.assert_array_equal(plain_mask(mask, fits.Header()), [[0, 1, 1, 1, 1]])


def test_two_bits_may_mean_the_same():
    ours = translated(np.array([[1, 2, 3]]), {0: MaskPlane.BAD, 1: MaskPlane.BAD})
    np.testing.assert_array_equal(ours, [[1, 1, 1]])
    assert ours.dtype == np.uint16


def test_a_mask_whose_planes_are_all_unknown_is_bad_where_not_zero():
    mask = np.array([[0, 1, 2, 4]])
    np.testing.assert_array_equal(named_mask(mask, fits.Header({"MP_HOT": 0, "MP_COLD": 1})), [[0, 1, 1, 1]])
    np.testing.assert_array_equal(named_mask(mask, fits.Header({"MP_HOT": 0, "MP_SAT": 1})), [[0, 0, 2, 0]])
