import numpy as np

from schemas.pixels import DIFFERENCE, MASK, SCIENCE, TEMPLATE, VARIANCE


def test_planes_are_images_with_names_of_their_own():
    planes = (DIFFERENCE, MASK, VARIANCE, SCIENCE, TEMPLATE)
    assert len({plane.name for plane in planes}) == 5
    for plane in planes:
        plane.check(np.zeros((3, 4), plane.dtype))
        assert plane.dims == ("y", "x")
