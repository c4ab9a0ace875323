import numpy as np
import pytest

from kernels.plane import Places, Plane


@pytest.fixture
def plane():
    return Plane(np.zeros((4, 5), np.float32), np.ones((4, 5), bool), 1.0, 2.0, np.ones((1, 1)), 2.2)


def test_a_part_keeps_what_is_known_of_the_whole(plane):
    part = plane._replace(pixels=plane.pixels[1:], usable=plane.usable[1:])
    assert part[2:] == plane[2:]
    assert part.pixels.base is plane.pixels


def test_neither_changes(plane):
    for value, name in ((plane, "noise"), (Places(0, 0, 2, 3, 4), "rows")):
        with pytest.raises(AttributeError):
            setattr(value, name, 1)
