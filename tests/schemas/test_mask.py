import numpy as np

from schemas.mask import UNUSABLE, MaskPlane


def test_bits_are_distinct_and_fit_the_stored_plane():
    values = [plane.value for plane in MaskPlane]
    assert len(set(values)) == len(values)
    assert all(value & (value - 1) == 0 for value in values)
    assert sum(values) <= np.iinfo(np.uint16).max


def test_information_is_not_a_fault():
    assert not UNUSABLE & (MaskPlane.DETECTED | MaskPlane.DETECTED_NEGATIVE | MaskPlane.STREAK)
    assert UNUSABLE & MaskPlane.NO_DATA
