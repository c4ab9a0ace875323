import numpy as np
import pytest

from schemas.cutouts import CENTRE, CUTOUTS, SIDE
from schemas.dataset import DatasetError


def test_is_four_dimensional_single_precision():
    CUTOUTS.check(np.zeros((3, 8, SIDE, SIDE), np.float32))
    for bad in (np.zeros((3, 8, SIDE, SIDE)), np.zeros((3, SIDE, SIDE), np.float32)):
        with pytest.raises(DatasetError, match="cutouts"):
            CUTOUTS.check(bad)


def test_an_even_side_has_its_centre_right_of_the_middle():
    assert (SIDE, CENTRE) == (26, SIDE // 2)
