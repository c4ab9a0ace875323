import numpy as np
import pytest
import sep

from kernels.image.science_image import science_image
from schemas.pixels import MaskPlane
from tests.support.science import drawn


def sky(shape=(256, 320)):
    y, x = np.indices(shape)
    return 300 + 0.05 * x - 0.03 * y


def test_takes_an_uneven_sky_off_beneath_stars_and_knows_its_noise():
    stars = [(x, y, 4e3, 0, 1, 0) for x, y in np.random.default_rng(2).uniform(20, 230, (40, 2))]
    pixels = drawn(stars, (256, 320)) + sky().astype(np.float32)
    found = science_image(pixels, np.zeros(pixels.shape, np.uint16), 64)
    left = found.pixels - (pixels - sky())
    assert abs(np.median(left)) < 0.5
    assert np.abs(left).max() < 4
    assert np.median(found.noise) == pytest.approx(5, rel=0.05)


def test_what_has_no_value_is_bad_and_zero_and_leaves_the_input_alone():
    pixels = drawn([], (100, 100)) + 300
    pixels[10, 10] = np.nan
    mask = np.zeros(pixels.shape, np.uint16)
    mask[20, 20], mask[30, 30], mask[40, 40] = MaskPlane.BAD, MaskPlane.SAT, MaskPlane.NO_DATA
    before = pixels.copy()
    found = science_image(pixels, mask, 64)
    assert found.bad[10, 10]
    assert found.bad[20, 20]
    assert not found.bad[30, 30]  # bright, not without a value
    assert not found.bad[40, 40]  # of the difference image
    assert found.pixels[20, 20] == 0
    np.testing.assert_array_equal(pixels, before)


def test_no_value_or_no_noise_is_no_image():
    nothing = np.zeros((50, 50), np.uint16)
    assert science_image(np.full((50, 50), np.nan, np.float32), nothing, 64) is None
    assert science_image(np.full((50, 50), 7, np.float32), nothing, 64) is None


@pytest.mark.parametrize("mesh", [8, 32, 64, 500])
def test_sky_and_noise_are_those_of_sextractor(mesh):
    pixels = drawn([], (90, 140)) + sky((90, 140)).astype(np.float32)
    mask = np.zeros(pixels.shape, np.uint16)
    mask[10:20, 30:50] = MaskPlane.BAD
    theirs = sep.Background(pixels, mask=mask > 0, bw=min(mesh, 140), bh=min(mesh, 90), fw=3, fh=3)
    found = science_image(pixels, mask, mesh)
    np.testing.assert_array_equal(found.pixels, np.where(mask > 0, 0, pixels - theirs.back()))
    np.testing.assert_array_equal(found.noise, theirs.rms())
    assert found.noise.dtype == np.float32


def test_planes_that_spoil_the_science_image():
    for plane, bad in (("BAD", True), ("CR", True), ("EDGE", True), ("SAT", False), ("DETECTED", False)):
        mask = np.zeros((100, 100), np.uint16)
        mask[20, 30] = MaskPlane[plane]
        assert science_image(drawn([], (100, 100)), mask, 64).bad[20, 30] == bad


def test_an_image_without_scatter_has_a_noise_above_zero():
    pixels = np.full((100, 100), 7, np.float32)
    pixels[50, 50] = 8
    assert (science_image(pixels, np.zeros(pixels.shape, np.uint16), 64).noise > 0).all()
