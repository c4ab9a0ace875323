import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels.image.search_image import FURTHEST, Places, SearchImage, squash
from tests.support.exposure import exposure_info


@pytest.fixture
def plane():
    return SearchImage(np.zeros((4, 5), np.float32), np.ones((4, 5), bool), 1.0, 2.0, np.ones((1, 1)), 2.2)


def test_a_part_keeps_what_is_known_of_the_whole(plane):
    part = plane._replace(pixels=plane.pixels[1:], usable=plane.usable[1:])
    assert part[2:] == plane[2:]
    assert part.pixels.base is plane.pixels


def test_a_plane_knows_what_its_exposure_does(plane):
    info = exposure_info(
        (40, 50), fwhm_px=2.7, background=-1.5, noise=3.5,
        noise_correlation=((0.1, 0.2, 0.1), (0.3, 1.0, 0.3), (0.1, 0.2, 0.1)),
    )  # fmt: skip
    part = SearchImage.of(info, plane.pixels, plane.usable)
    assert (part.pixels is plane.pixels, part.usable is plane.usable) == (True, True)
    assert (part.background, part.noise, part.fwhm_px) == (-1.5, 3.5, 2.7)
    np.testing.assert_array_equal(part.correlation, info.noise_correlation)


def test_neither_changes(plane):
    for value, name in ((plane, "noise"), (Places(0, 0, 2, 3, 4), "rows")):
        with pytest.raises(AttributeError):
            setattr(value, name, 1)


@settings(deadline=None)  # compiled at the first call
@given(arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e6, 1e6, width=32)))
def test_as_written(values):
    found = values.copy()
    squash(found)
    size = np.minimum(np.abs(values.astype(np.float64)), FURTHEST)
    np.testing.assert_allclose(found, np.sign(values) * size * (1 + size / 64) / (1 + size / 4), rtol=1e-6, atol=1e-12)


def test_keeps_order_and_shape():
    values = np.linspace(-130, 130, 1001, dtype=np.float32).reshape(7, 143)
    found = values.copy()
    squash(found)
    assert found.shape == values.shape
    inside = found.ravel()[np.abs(values.ravel()) < FURTHEST]
    assert (np.diff(inside) > 0).all()


def test_brightness_beyond_128_says_nothing_more():
    values = np.array([127.0, 128.0, 129.0, 1e9, -127.0, -200.0], np.float32)
    squash(values)
    most, before = 128 * 3 / 33, 127 * (1 + 127 / 64) / (1 + 127 / 4)
    np.testing.assert_allclose(values, [before, most, most, most, -before, -most], rtol=1e-6)
