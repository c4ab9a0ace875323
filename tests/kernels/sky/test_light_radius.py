import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.sky.light_radius import directional_distance


def distance(*values):
    return directional_distance(*(np.array([value], float) for value in values))[0]


@given(st.floats(0, 360), st.floats(0.5, 20))
def test_a_round_object_has_one_radius(direction, radius):
    assert distance(3.0, direction, radius, 1.0, 40.0) == pytest.approx(3.0 / radius)


def test_an_ellipse_is_longer_along_its_major_axis():
    assert distance(2.0, 30, 1.0, 4.0, 30) == pytest.approx(1.0)  # a = 2
    assert distance(0.5, 120, 1.0, 4.0, 30) == pytest.approx(1.0)  # b = 1/2
    assert distance(2.0, 30 + 180, 1.0, 4.0, 30) == pytest.approx(1.0)


@given(st.floats(0, 180), st.floats(1, 5))
def test_one_is_on_the_ellipse(angle, elongation):
    a, b = np.sqrt(elongation), 1 / np.sqrt(elongation)
    t = np.radians(50)
    along, across = a * np.cos(t), b * np.sin(t)
    assert distance(np.hypot(along, across), angle + np.degrees(np.arctan2(across, along)), 1.0, elongation, angle) == (
        pytest.approx(1.0)
    )
